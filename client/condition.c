/* SPDX-License-Identifier: MIT */
/*
 * Conditions on cameras.  A name that fits no camera or several holds nothing.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/condition.h"
#include "client/describe.h"
#include "client/name.h"
#include "client/words.h"

/* What may stand behind each; NULL: anything. */
static const struct {
        const char *name, *kind;
        const char *const *words;
} subjects[] = {
        [CONDITION_STATE] = { "state", "state", words_states },
        [CONDITION_MODE] = { "mode", "mode", words_modes },
        [CONDITION_FIRMWARE] = { "firmware", "version", NULL },
        [CONDITION_DIAGNOSIS] = { "diagnosis", "diagnosis", words_diagnoses },
        [CONDITION_UPDATE] = { "update", "result of an update", words_updates },
};

static bool value_fits(enum condition_subject subject, const char *value)
{
        if (!subjects[subject].words)
                return *value != '\0';
        /* Nothing is wrong. */
        return (subject == CONDITION_DIAGNOSIS && *value == '\0') || words_have(subjects[subject].words, value);
}

/* What it may be instead: the subject that has such a word, else all words of this one. */
static char *instead(const struct client *client, enum condition_subject subject, const char *value, const char *also)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(subjects); i++)
                if (subjects[i].words && words_have(subjects[i].words, value)) {
                        (void)fprintf(f, "Say %s=%s.", subjects[i].name, value);
                        return fclose(f) == 0 ? text : (free(text), NULL);
                }
        (void)fprintf(f, "There are: %s%s", also, *also ? ", " : "");
        for (const char *const *word = subjects[subject].words; word && *word; word++)
                (void)fprintf(f, "%s%s", *word, word[1] ? ", " : ".");
        if (client->host)
                (void)fprintf(f, " If the daemon of %s knows more: ssh %s camrescue %s ...", client->host, client->host, client->verb);
        return fclose(f) == 0 ? text : (free(text), NULL);
}

enum exit_code condition_parse(const struct client *client, const char *text, const char *also, struct condition *ret)
{
        const char *equals = strchr(text, '=');
        _cleanup_free_ char *words = NULL;

        *ret = (struct condition){ .subject = CONDITION_STATE, .value = equals ? equals + 1 : text };
        if (equals) {
                size_t i = 0;

                while (i < ELEMENTSOF(subjects) && (strlen(subjects[i].name) != (size_t)(equals - text) ||
                                                    strncmp(subjects[i].name, text, (size_t)(equals - text)) != 0))
                        i++;
                if (i == ELEMENTSOF(subjects))
                        return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is nothing to wait for: see camrescue %s --help.", text, client->verb);
                ret->subject = (enum condition_subject)i;
        }
        if (value_fits(ret->subject, ret->value))
                return EXIT_DONE;
        if (!subjects[ret->subject].words)
                return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" names no %s.", text, subjects[ret->subject].kind);
        words = instead(client, ret->subject, ret->value, equals ? "" : also);
        return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is no %s. %s", ret->value, subjects[ret->subject].kind, words ? words : "");
}

static bool update_holds(const struct condition *condition, const struct update *update)
{
        if (!update)
                return false;
        if (strcmp(condition->value, "open") == 0)
                return update_is_open(update);
        if (strcmp(condition->value, "ended") == 0)
                return !update_is_open(update);
        return !update_is_open(update) && strcmp(update->result, condition->value) == 0;
}

bool condition_holds(const struct condition *condition, struct bus *bus, const struct camera *camera)
{
        switch (condition->subject) {
        case CONDITION_STATE:
                return strcmp(camera->state, condition->value) == 0;
        case CONDITION_MODE:
                return strcmp(camera->mode, condition->value) == 0;
        case CONDITION_FIRMWARE:
                return strcmp(camera->firmware, condition->value) == 0;
        case CONDITION_DIAGNOSIS:
                return strcmp(camera->diagnosis, condition->value) == 0;
        case CONDITION_UPDATE:
                return update_holds(condition, bus_camera_update(bus, camera));
        }
        return false;
}

bool condition_holds_for_names(const struct condition *condition, struct bus *bus, char *const *names, int n_names)
{
        const struct camera *camera;
        size_t asked = 0;

        for (int i = 0; i < n_names; i++)
                if (camera_match(bus, names[i], &camera) != NAME_FOUND || !condition_holds(condition, bus, camera))
                        return false;
        if (n_names > 0)
                return true;
        for (size_t i = 0; i < bus_camera_count(bus); i++) {
                camera = bus_nth_camera(bus, i);
                if (!camera->attached && !(condition->subject == CONDITION_MODE && strcmp(condition->value, "absent") == 0))
                        continue;
                asked++;
                if (!condition_holds(condition, bus, camera))
                        return false;
        }
        return asked > 0;
}

enum exit_code condition_check_name(const struct client *client, struct bus *bus, const char *name)
{
        const struct camera *camera;
        int match = camera_match(bus, name, &camera);

        if (match == NAME_FOUND)
                return EXIT_DONE;
        if (match == NAME_AMBIGUOUS && !name_is_port(name))
                return camera_named(client, bus, name, &camera);
        client_note(client, match == NAME_NONE ? "No camera \"%s\" yet; waiting for it."
                            : "Several cameras were at %s; waiting for one to be there.", name);
        return EXIT_DONE;
}

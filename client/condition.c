/* SPDX-License-Identifier: MIT */
/*
 * Conditions on cameras.  A name that fits no camera or several holds nothing.
 */

#include <errno.h>
#include <string.h>

#include "client/condition.h"
#include "client/describe.h"
#include "client/name.h"

int condition_parse(const char *text, struct condition *ret)
{
        static const struct { const char *name; enum condition_subject subject; } subjects[] = {
                { "state", CONDITION_STATE }, { "mode", CONDITION_MODE }, { "firmware", CONDITION_FIRMWARE },
                { "diagnosis", CONDITION_DIAGNOSIS }, { "update", CONDITION_UPDATE },
        };
        static const char *const ends[] = { "ended", "open", "done", "failed", "refused", "cancelled", "not-seen" };
        const char *equals = strchr(text, '=');

        *ret = (struct condition){ .subject = CONDITION_STATE, .value = equals ? equals + 1 : text };
        if (*ret->value == '\0' && (!equals || strncmp(text, "diagnosis=", 10) != 0))
                return -EINVAL;
        if (!equals)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(subjects); i++) {
                if (strlen(subjects[i].name) != (size_t)(equals - text) ||
                    strncmp(subjects[i].name, text, (size_t)(equals - text)) != 0)
                        continue;
                ret->subject = subjects[i].subject;
                if (ret->subject != CONDITION_UPDATE)
                        return 0;
                for (size_t j = 0; j < ELEMENTSOF(ends); j++)
                        if (strcmp(ends[j], ret->value) == 0)
                                return 0;
                return -EINVAL;
        }
        return -EINVAL;
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

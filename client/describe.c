/* SPDX-License-Identifier: MIT */
/*
 * Cameras and updates in words.  The daemon says what is wrong and what to do;
 * here it is only put together.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/describe.h"
#include "client/name.h"

bool update_is_open(const struct update *update)
{
        return update && strcmp(update->step, "ended") != 0 && (strcmp(update->result, "open") == 0 || *update->result == '\0');
}

enum exit_code update_exit_code(const struct update *update)
{
        if (strcmp(update->result, "done") == 0)
                return EXIT_DONE;
        if (strcmp(update->result, "refused") == 0)
                return EXIT_REFUSED;
        if (strcmp(update->result, "not-seen") == 0)
                return EXIT_NOT_SEEN;
        return EXIT_FAILED;
}

const char *camera_board(const struct camera *camera)
{
        static const char *const makers[] = { "OpenMV Cam ", "OpenMV " };
        const char *name = *camera->board_name ? camera->board_name : camera->board;

        for (size_t i = 0; i < ELEMENTSOF(makers); i++)
                if (strncmp(name, makers[i], strlen(makers[i])) == 0 && name[strlen(makers[i])])
                        return name + strlen(makers[i]);
        return name;
}

const char *camera_place(const struct camera *camera)
{
        if (camera->attached && *camera->port)
                return camera->port;
        if (*camera->unique_id)
                return camera->unique_id;
        return *camera->key ? camera->key : *camera->serial ? camera->serial : camera->path;
}

const char *camera_label(const struct camera *camera)
{
        return *camera->label ? camera->label : camera_place(camera);
}

/* asprintf() whose failure is NULL. */
static char *format(const char *pattern, ...) _printf_(1, 2);
static char *format(const char *pattern, ...)
{
        char *text = NULL;
        va_list ap;
        int n;

        va_start(ap, pattern);
        n = vasprintf(&text, pattern, ap);
        va_end(ap);
        return n < 0 ? NULL : text;
}

static unsigned percent(double fraction)
{
        if (!(fraction > 0))
                return 0;
        /* Not 100 before the end. */
        return fraction >= 1 ? 100 : (unsigned)(fraction * 100);
}

char *camera_doing(const struct camera *camera, const struct update *update, unsigned grain)
{
        if (camera->inhibited && (!update_is_open(update) || strcmp(update->step, "waiting") == 0))
                return strdup("held back");
        if (!update)
                return strdup("");
        if (!update_is_open(update)) {
                if (strcmp(update->result, "done") == 0)
                        return strdup("");
                if (strcmp(update->result, "not-seen") == 0)
                        return strdup("verified, not seen");
                return format("%s %s", *update->wish ? update->wish : "update", *update->result ? update->result : "ended");
        }
        if (strcmp(update->step, "waiting") == 0) {
                if (!camera->attached)
                        return strdup("waiting for its return");
                if (strcmp(camera->state, "calling") == 0)
                        return strdup("waiting for its serial port");
                return strdup(strcmp(camera->mode, "runtime") == 0 ? "waiting for replug" : "waiting");
        }
        if (strcmp(update->step, "writing") != 0 && strcmp(update->step, "verifying") != 0 &&
            strcmp(update->step, "comparing") != 0 && strcmp(update->step, "saving") != 0)
                return strdup(update->step);
        return format("%s%s%s %u%%", update->step, *update->image ? " " : "", update->image,
                      percent(update->progress) / grain * grain);
}

char *update_pace(const struct update *update, bool with_speed)
{
        char speed[RATE_TEXT_SIZE] = "", left[RATE_TEXT_SIZE] = "";

        if (!update_is_open(update))
                return strdup("");
        if (with_speed)
                (void)rate_speed_text(update->speed, speed);
        (void)rate_left_text(bus_update_left(update), left);
        return format("%s%s%s%s", speed, *speed && *left ? ", " : "", left, *left ? " left" : "");
}

void update_sum_add(struct update_sum *sum, const struct update *update)
{
        if (strcmp(update->step, "waiting") == 0)
                sum->waiting++;
        else
                sum->working++;
        sum->speed += update->speed;
        sum->left = MAX(sum->left, bus_update_left(update));
}

char *update_sum_text(const struct update_sum *sum, const char *begin)
{
        char speed[RATE_TEXT_SIZE], left[RATE_TEXT_SIZE] = "", waiting[40] = "";

        (void)rate_speed_text(sum->speed, speed);
        if (sum->working > 0)
                (void)rate_left_text(sum->left, left);
        if (sum->waiting > 0)
                (void)snprintf(waiting, sizeof(waiting), ", %zu waiting", sum->waiting);
        return format("%s%s%s%s%s%s%s", begin, waiting, *speed ? ", " : "", speed, *left ? ", " : "", left, *left ? " left" : "");
}

static bool ends_sentence(const char *text)
{
        return *text && strchr(".!?", text[strlen(text) - 1]) != NULL;
}

char *camera_advice(const struct camera *camera, const struct update *update)
{
        const char *what = camera->diagnosis_text, *todo = camera->advice;

        /* The store is the user's to fill: say it even to a daemon that only names the state. */
        if (!*todo && (strcmp(camera->diagnosis, "no-firmware") == 0 || strcmp(camera->state, "no-firmware") == 0))
                todo = "Import firmware: camrescue firmware import.";
        if (!*todo && !*what && update && !update_is_open(update) && strcmp(update->result, "done") != 0)
                what = update->message;
        if (!*todo && !*what && update_is_open(update) && strcmp(update->step, "waiting") == 0 && camera->attached &&
            strcmp(camera->mode, "runtime") == 0 && strcmp(camera->state, "calling") != 0)
                todo = "Unplug the camera and plug it in again: the update begins then.";
        if (!*what || !*todo || strstr(todo, what))
                return strdup(*todo ? todo : what);
        return format("%s%s %s", what, ends_sentence(what) ? "" : ".", todo);
}

enum style camera_style(const struct camera *camera, const struct update *update)
{
        if (update_is_open(update))
                return STYLE_BUSY;
        if (*camera->diagnosis)
                return strcmp(camera->mode, "unreadable") == 0 ? STYLE_BAD : STYLE_WARN;
        if (!camera->attached)
                return STYLE_DIM;
        return strcmp(camera->mode, "runtime") == 0 ? STYLE_GOOD : STYLE_PLAIN;
}

char *update_end(const struct update *update)
{
        const char *message = update->message, *stop = ends_sentence(message) ? "" : ".";

        if (strcmp(update->result, "done") == 0) {
                if (update->units_total == 0 && !*message)
                        return format("done%s%s: nothing had to be written.", *update->firmware ? ": " : "", update->firmware);
                return *message ? format("done: %s%s", message, stop)
                                : format("done%s%s.", *update->firmware ? ": " : "", update->firmware);
        }
        if (strcmp(update->result, "not-seen") == 0)
                return format("written and verified, but not seen to run again%s%s%s", *message ? ": " : "", message, stop);
        return format("%s%s%s%s", *update->result && strcmp(update->result, "open") != 0 ? update->result : "failed",
                      *message ? ": " : "", *message ? message : "", stop);
}

int camera_match(struct bus *bus, const char *name, const struct camera **ret)
{
        size_t n = bus_camera_count(bus), index = 0;
        _cleanup_free_ struct name_candidate *candidates = calloc(n + 1, sizeof(*candidates));
        enum name_match match;

        if (!candidates)
                return NAME_NONE;
        for (size_t i = 0; i < n; i++) {
                const struct camera *camera = bus_nth_camera(bus, i);

                candidates[i] = (struct name_candidate){ camera->port, camera->attached, camera->unique_id, camera->key, camera->serial,
                                                           camera->label };
        }
        match = name_find(name, candidates, n, &index);
        if (match == NAME_FOUND)
                *ret = bus_nth_camera(bus, index);
        return (int)match;
}

enum exit_code camera_named(const struct client *client, struct bus *bus, const char *name, const struct camera **ret)
{
        char list[512] = "";
        size_t used = 0;

        switch ((enum name_match)camera_match(bus, name, ret)) {
        case NAME_FOUND:
                return EXIT_DONE;
        case NAME_NONE:
                return client_fail(client, EXIT_NO_CAMERA, "No camera \"%s\": see camrescue status.", name);
        case NAME_AMBIGUOUS:
                break;
        }
        for (size_t i = 0; i < bus_camera_count(bus); i++) {
                const struct camera *camera = bus_nth_camera(bus, i);
                struct name_candidate candidate = { camera->port, camera->attached, camera->unique_id, camera->key, camera->serial,
                                                           camera->label };
                bool with_id = *camera->unique_id && strcmp(camera_label(camera), camera->unique_id) != 0;
                int n;

                if (name_rank(name, &candidate) == NAME_RANK_NONE)
                        continue;
                n = snprintf(list + used, sizeof(list) - used, "%s%s%s%s%s", used ? ", " : "", camera_label(camera),
                             with_id ? " (" : "", with_id ? camera->unique_id : "", with_id ? ")" : "");
                if (n < 0 || (size_t)n >= sizeof(list) - used)
                        break;
                used += (size_t)n;
        }
        return client_fail(client, EXIT_NO_CAMERA, "\"%s\" fits several cameras: %s.", name, list);
}

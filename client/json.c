/* SPDX-License-Identifier: MIT */
/*
 * Everything that --json prints.
 */

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/json.h"
#include "client/text.h"

json_t *json_text(const char *text)
{
        _cleanup_free_ char *valid = NULL;

        if (!text || !*text)
                return json_null();
        valid = text_valid(text);
        return valid ? json_string(valid) : NULL;
}

json_t *json_time(uint64_t usec)
{
        time_t seconds = (time_t)(usec / 1000000);
        char date[32], text[64];
        struct tm tm;

        if (usec == 0 || !gmtime_r(&seconds, &tm) || strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
                return json_null();
        (void)snprintf(text, sizeof(text), "%s.%06uZ", date, (unsigned)(usec % 1000000));
        return json_string(text);
}

static json_t *json_path(const char *path)
{
        return json_text(strcmp(path, "/") == 0 ? "" : path);
}

json_t *json_of_update(const struct update *update)
{
        if (!update)
                return json_null();
        return json_pack("{so so so so so so so so sI sI sf si so so so so so si si}",
                         "path", json_text(update->path), "id", json_text(update->id), "camera", json_path(update->camera),
                         "firmware", json_text(update->firmware), "reason", json_text(update->reason),
                         "wish", json_text(update->wish), "step", json_text(update->step), "image", json_text(update->image),
                         "bytes_done", (json_int_t)update->bytes_done, "bytes_total", (json_int_t)update->bytes_total,
                         "progress", update->progress >= 0 && update->progress <= 1 ? update->progress : 0.0,
                         "attempt", (int)update->attempt,
                         "started", json_time(update->started), "ended", json_time(update->ended),
                         "result", json_text(update->result), "error", json_text(update->error),
                         "message", json_text(update->message),
                         "units_written", (int)update->units_written, "units_total", (int)update->units_total);
}

static json_t *json_strings(char *const *strings)
{
        json_t *array = json_array();

        for (; strings && *strings; strings++)
                (void)json_array_append_new(array, json_text(*strings));
        return array;
}

json_t *json_of_camera(const struct camera *camera, const struct update *update)
{
        json_t *diagnosis = json_null();

        if (*camera->diagnosis || *camera->diagnosis_text)
                diagnosis = json_pack("{so so}", "code", json_text(camera->diagnosis), "text", json_text(camera->diagnosis_text));
        return json_pack("{so so so so sb so so so so so so so so so so so so so so}",
                         "path", json_text(camera->path), "port", json_text(camera->port),
                         "board", json_text(camera->board), "board_name", json_text(camera->board_name),
                         "attached", (int)camera->attached, "mode", json_text(camera->mode), "state", json_text(camera->state),
                         "unique_id", json_text(camera->unique_id), "key", json_text(camera->key),
                         "serial", json_text(camera->serial), "firmware", json_text(camera->firmware),
                         "bootloader", json_text(camera->bootloader), "diagnosis", diagnosis,
                         "advice", json_text(camera->advice), "device_node", json_text(camera->node),
                         "last_seen", json_time(camera->last_seen),
                         "automatic", camera->automatic < 0 ? json_null() : json_boolean(camera->automatic),
                         "saved", json_strings(camera->saved), "update", json_of_update(update));
}

json_t *json_of_error(enum exit_code code, const char *message)
{
        return json_pack("{s{ss so} si}", "error", "code", exit_code_name(code), "message", json_text(message), "exit", (int)code);
}

static enum exit_code print(json_t *json, size_t flags)
{
        int r;

        if (!json)
                return EXIT_FAILED;
        r = json_dumpf(json, stdout, flags);
        json_decref(json);
        if (r < 0 || fputc('\n', stdout) == EOF || fflush(stdout) == EOF)
                return EXIT_FAILED;
        return EXIT_DONE;
}

enum exit_code json_print(json_t *json)
{
        return print(json, JSON_INDENT(2));
}

enum exit_code json_print_line(json_t *json)
{
        return print(json, JSON_COMPACT);
}

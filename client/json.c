/* SPDX-License-Identifier: MIT */
/*
 * Everything that --json prints.
 */

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/json.h"
#include "client/text.h"

struct jansson jansson;

bool json_load(void)
{
        void *library;

        if (jansson.pack)
                return true;
        library = dlopen("libjansson.so.4", RTLD_NOW | RTLD_LOCAL);
        if (!library)
                return false;
        jansson = (struct jansson){
                .string = dlsym(library, "json_string"),
                .array = dlsym(library, "json_array"),
                .array_append_new = dlsym(library, "json_array_append_new"),
                .null = dlsym(library, "json_null"),
                .true_ = dlsym(library, "json_true"),
                .false_ = dlsym(library, "json_false"),
                .dumpf = dlsym(library, "json_dumpf"),
                .delete_ = dlsym(library, "json_delete"),
        };
        if (!jansson.string || !jansson.array || !jansson.array_append_new || !jansson.null || !jansson.true_ || !jansson.false_ ||
            !jansson.dumpf || !jansson.delete_)
                return false;
        jansson.pack = dlsym(library, "json_pack");
        return jansson.pack != NULL;
}

/* json_decref() is an inline function of jansson's header and calls this one. */
void json_delete(json_t *json)
{
        jansson.delete_(json);
}

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

/* 0 is unknown. */
static json_t *json_known(uint64_t value)
{
        return value > 0 ? json_pack("I", (json_int_t)MIN(value, (uint64_t)INT64_MAX)) : json_null();
}

json_t *json_of_update(const struct update *update)
{
        if (!update)
                return json_null();
        return json_pack("{so so so so so so so so sI sI sf so so si so so so so so si si}",
                         "path", json_text(update->path), "id", json_text(update->id), "camera", json_path(update->camera),
                         "firmware", json_text(update->firmware), "reason", json_text(update->reason),
                         "wish", json_text(update->wish), "step", json_text(update->step), "image", json_text(update->image),
                         "bytes_done", (json_int_t)update->bytes_done, "bytes_total", (json_int_t)update->bytes_total,
                         "progress", update->progress >= 0 && update->progress <= 1 ? update->progress : 0.0,
                         "rate", json_known(update->speed), "eta", json_known(bus_update_left(update)),
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
        return json_pack("{so so so so so sb so so so so so so so so so so so so so so sb}",
                         "path", json_text(camera->path), "port", json_text(camera->port), "label", json_text(camera->label),
                         "board", json_text(camera->board), "board_name", json_text(camera->board_name),
                         "attached", (int)camera->attached, "mode", json_text(camera->mode), "state", json_text(camera->state),
                         "unique_id", json_text(camera->unique_id), "key", json_text(camera->key),
                         "serial", json_text(camera->serial), "firmware", json_text(camera->firmware),
                         "bootloader", json_text(camera->bootloader), "diagnosis", diagnosis,
                         "advice", json_text(camera->advice), "device_node", json_text(camera->node),
                         "last_seen", json_time(camera->last_seen),
                         "automatic", camera->automatic < 0 ? json_null() : json_boolean(camera->automatic),
                         "saved", json_strings(camera->saved), "update", json_of_update(update),
                         "inhibited", (int)camera->inhibited);
}

json_t *json_of_error(enum exit_code code, const char *name, const char *message)
{
        return json_pack("{s{ss so} si}", "error", "code", name, "message", json_text(message), "exit", (int)code);
}

static enum exit_code print(json_t *json, size_t flags)
{
        int r;

        if (!json)
                return EXIT_FAILED;
        /* Progress to a millionth: without this, 0.45 would be printed as the seventeen digits that stand for it. */
        r = jansson.dumpf(json, stdout, flags | JSON_REAL_PRECISION(6));
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

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Everything that --json prints.  Members are snake_case, always there, null
 * when unknown; times are UTC in ISO 8601.  New members may be added.
 */

#include <jansson.h>

#include "client/bus.h"
#include "client/client.h"

/* jansson is loaded when --json is asked for and not before: nobody else waits for it or needs it installed.
 * The rest of the client calls it as if it were linked. */
struct jansson {
        __typeof__(json_pack) *pack;
        __typeof__(json_string) *string;
        __typeof__(json_array) *array;
        __typeof__(json_array_append_new) *array_append_new;
        __typeof__(json_null) *null;
        __typeof__(json_true) *true_;
        __typeof__(json_false) *false_;
        __typeof__(json_dumpf) *dumpf;
        __typeof__(json_delete) *delete_;
};
extern struct jansson jansson;

#define json_pack(...) jansson.pack(__VA_ARGS__)
#define json_string(value) jansson.string(value)
#define json_array() jansson.array()
#define json_array_append_new(array, value) jansson.array_append_new(array, value)
#define json_null() jansson.null()
#undef json_boolean
#define json_boolean(value) ((value) ? jansson.true_() : jansson.false_())

/* Idempotent.  false: it is not there. */
bool json_load(void);
#define _cleanup_json_ _cleanup_(json_decrefp)

/* "" is null. */
json_t *json_text(const char *text);
json_t *json_time(uint64_t usec);
json_t *json_of_update(const struct update *update);            /* NULL: null */
json_t *json_of_camera(const struct camera *camera, const struct update *update);
json_t *json_of_error(enum exit_code code, const char *name, const char *message);

/* One document, for people too; steals json.  EXIT_DONE, or EXIT_FAILED when it cannot be written. */
enum exit_code json_print(json_t *json);
/* One line of a stream, flushed. */
enum exit_code json_print_line(json_t *json);

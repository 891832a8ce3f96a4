/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Everything that --json prints.  Members are snake_case, always there, null
 * when unknown; times are UTC in ISO 8601.  New members may be added.
 */

#include <jansson.h>

#include "client/bus.h"
#include "client/client.h"

#define _cleanup_json_ _cleanup_(json_decrefp)

/* "" is null. */
json_t *json_text(const char *text);
json_t *json_time(uint64_t usec);
json_t *json_of_update(const struct update *update);            /* NULL: null */
json_t *json_of_camera(const struct camera *camera, const struct update *update);
json_t *json_of_error(enum exit_code code, const char *message);

/* One document, for people too; steals json.  EXIT_DONE, or EXIT_FAILED when it cannot be written. */
enum exit_code json_print(json_t *json);
/* One line of a stream, flushed. */
enum exit_code json_print_line(json_t *json);

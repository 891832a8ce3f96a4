/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Cameras and updates in words: what the tables, the live view and plain lines
 * say of them, and what the end of an update means for the exit code.
 */

#include "client/bus.h"
#include "client/client.h"

bool update_is_open(const struct update *update);
/* Of a result that is not "open"; anything unknown is a failure. */
enum exit_code update_exit_code(const struct update *update);

/* Returned strings are the caller's; NULL: no memory. */

/* "M7" for "OpenMV Cam M7", or what else is known of the board; "" unknown. */
const char *camera_board(const struct camera *camera);
/* "writing FIRMWARE 45%", "waiting for replug", "" when nothing is being done.  Percents are rounded down to grain. */
char *camera_doing(const struct camera *camera, const struct update *update, unsigned grain);
/* "105 KiB/s, 12 s left"; with_speed false: "12 s left".  "" unknown. */
char *update_pace(const struct update *update, bool with_speed);
/* Several together: how many, how fast, and how long, which is as long as the one that takes longest. */
struct update_sum {
        size_t working, waiting;
        uint64_t speed, left;
};
void update_sum_add(struct update_sum *sum, const struct update *update);
/* "3 updating, 1 waiting, 522 KiB/s, 7 s left"; begin: what stands first. */
char *update_sum_text(const struct update_sum *sum, const char *begin);
/* What is wrong and what a person should do, "" if nothing. */
char *camera_advice(const struct camera *camera, const struct update *update);
enum style camera_style(const struct camera *camera, const struct update *update);
/* The end of an update, as one sentence. */
char *update_end(const struct update *update);
/* Where it is: its port, or its id when absent. */
const char *camera_place(const struct camera *camera);
/* What a person calls it: its label, else the same. */
const char *camera_label(const struct camera *camera);

/* Finds the camera that a person named.  EXIT_DONE or EXIT_NO_CAMERA, reported. */
enum exit_code camera_named(const struct client *client, struct bus *bus, const char *name, const struct camera **ret);
/* The same without a word: enum name_match. */
int camera_match(struct bus *bus, const char *name, const struct camera **ret);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What update, recover and restore have in common: the daemon's answer per
 * camera, and following the updates that came of it to their ends.
 */

#include "client/bus.h"
#include "client/client.h"

/* One camera's line of the daemon's plan. */
struct plan_item {
        char *camera;                   /* object path */
        char *label;                    /* how it was called when the plan was made */
        char *update;                   /* object path, "/": none */
        char *action, *firmware, *text;
        /* follow() */
        bool waited_for;
        bool seen;                      /* the update was in our copy */
        bool ended;
        enum exit_code code;
};

struct plan {
        struct plan_item *items;
        size_t n;
        bool all;                       /* every camera was meant: skipping some is as asked */
};

void plan_clear(struct plan *plan);
int plan_add(struct plan *plan, struct bus *bus, const char *camera, const char *update, const char *action, const char *firmware,
             const char *text);
/* The table, or a "plan" line of JSON. */
enum exit_code plan_print(const struct client *client, struct bus *bus, const struct plan *plan, bool dry_run);
/* Is there anything that the daemon would do? */
bool plan_has_work(const struct plan *plan);

struct follow_options {
        bool wait, no_wait;             /* as said; neither: to the end on a terminal, else not for replugs */
        bool has_timeout;
        unsigned long long timeout;     /* microseconds */
};

enum { FOLLOW_OPTION_WAIT = OPTION_FIRST_OWN, FOLLOW_OPTION_NO_WAIT, FOLLOW_OPTION_TIMEOUT, FOLLOW_OPTION_NEXT };
#define FOLLOW_OPTIONS                                                          \
        { "wait", no_argument, NULL, FOLLOW_OPTION_WAIT },                      \
        { "no-wait", no_argument, NULL, FOLLOW_OPTION_NO_WAIT },                \
        { "timeout", required_argument, NULL, FOLLOW_OPTION_TIMEOUT }

/* Like client_common_option(), which it calls for the rest. */
int follow_option(struct client *client, int option, struct follow_options *options, enum exit_code *ret);

/* Waits as the options say, showing progress; prints each end.  The exit code over all of the plan. */
enum exit_code follow(struct client *client, struct bus *bus, struct plan *plan, const struct follow_options *options);

/* Camera.Recover and its like: sends the call, makes the plan of its one answer, prints and follows it. */
enum exit_code follow_camera_call(struct client *client, struct bus *bus, const struct camera *camera, sd_bus_message *call,
                                  const struct follow_options *options);

/* A whole verb that names one camera and has no options but how to wait. method: of Camera; its a{sv} is empty. */
enum exit_code follow_verb(struct client *client, int argc, char **argv, const char *method);

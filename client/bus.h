/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon as the client sees it: a connection, and copies of its objects
 * that signals keep up to date.  Nothing else of the client speaks D-Bus but
 * the verbs' own method calls.
 *
 * Signals are asked for before the objects are read, so nothing falls between;
 * a signal that is older than the copy sets what it sets once more, and the
 * last one wins, as in the daemon.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "client/client.h"
#include "client/rate.h"

#define BUS_NAME "org.camrescue1"
#define BUS_ROOT "/org/camrescue1"
#define BUS_MANAGER "org.camrescue1.Manager"
#define BUS_CAMERA "org.camrescue1.Camera"
#define BUS_UPDATE "org.camrescue1.Update"

/* Strings are never NULL. */
struct camera {
        char *path;
        char *unique_id, *key, *serial;
        char *board, *board_name;
        char *port;
        char *mode, *state;
        char *firmware, *bootloader;
        char *label;                    /* as people call it */
        char *diagnosis, *diagnosis_text, *advice;
        char *node;
        char *update;                   /* object path, "/": none */
        char **saved;                   /* NULL-terminated; may itself be NULL */
        uint64_t last_seen;
        int32_t automatic;
        bool attached, inhibited;
};

struct update {
        char *path;
        char *id, *camera, *firmware, *reason, *wish;
        char *step, *image, *result, *error, *message;
        uint64_t bytes_done, bytes_total, started, ended;
        double progress;
        uint32_t attempt, units_written, units_total;
        uint64_t speed;                 /* bytes per second; 0: not known */
        uint64_t left;                  /* microseconds, as it was told at left_at (monotonic); 0: not known */
        uint64_t left_at, left_before;
};

/* The daemon itself: asked for on its own, since the list of objects does not hold the one that lists. */
struct daemon {
        char *path, *version;
        uint32_t api_version;
        bool automatic_recovery;
};
struct daemon *daemon_free(struct daemon *daemon);
DEFINE_FREEP(daemon)

enum bus_change {
        BUS_CAMERA_CHANGED,             /* new, or a property */
        BUS_CAMERA_GONE,                /* given just before it is forgotten */
        BUS_UPDATE_CHANGED,
        BUS_UPDATE_GONE,
        BUS_DAEMON_GONE,                /* all objects are forgotten */
        BUS_RELOADED,                   /* all objects were read anew: after the daemon came back, or bus_reload(); old pointers are gone */
        BUS_LOST,                       /* the bus itself, or a daemon that gives no sense: the end */
};

struct bus;
typedef void (*bus_fn)(void *userdata, enum bus_change change, const struct camera *camera, const struct update *update);

/* Connects and reads every object.  EXIT_DONE, or the code, reported.  watch: also keeps them up to date. */
enum exit_code bus_open(const struct client *client, bool watch, struct bus **ret);
/* For a look in passing: no daemon is started, none is waited for, and not a word is said.  objects: reads them, too. */
enum exit_code bus_peek(const struct client *client, bool objects, struct bus **ret);
/* Connects only, for verbs that need no objects. */
enum exit_code bus_connect(const struct client *client, struct bus **ret);
/* Reads every object and keeps them up to date as soon as there is a daemon, which is not started for it: begins with BUS_RELOADED,
 * at once or some day. */
enum exit_code bus_attend(const struct client *client, struct bus **ret);
struct bus *bus_free(struct bus *bus);
DEFINE_FREEP(bus)

/* News from now on; only one observer. */
void bus_observe(struct bus *bus, bus_fn fn, void *userdata);
sd_event *bus_event(struct bus *bus);
/* From now on SIGINT, SIGTERM and SIGHUP come to this handler, and end the program no more. */
int bus_catch_stops(struct bus *bus, sd_event_signal_handler_t on_stop, void *userdata);

size_t bus_camera_count(const struct bus *bus);
/* Attached ones first, then by port. */
const struct camera *bus_nth_camera(struct bus *bus, size_t n);
const struct camera *bus_camera(const struct bus *bus, const char *path);
const struct update *bus_update(const struct bus *bus, const char *path);
/* The camera's open or last update; NULL: none. */
const struct update *bus_camera_update(const struct bus *bus, const struct camera *camera);
/* Seconds until it is done, as the daemon foretells it, counted down; 0: not known. */
uint64_t bus_update_left(const struct update *update);
/* Reported. */
enum exit_code bus_read_daemon(const struct client *client, struct bus *bus, struct daemon **ret);
/* Reads every object anew, in the background: ends in BUS_RELOADED, or in BUS_DAEMON_GONE. */
int bus_reload(struct bus *bus);

/* --- a{sv} into structs, by a table --- */

struct bus_property {
        const char *name;               /* NULL: the last; if of a string type, the member that holds the object's path */
        char type;                      /* D-Bus type; 'A' is "as" (char **) */
        size_t offset;
};

/* Strings "" or "/", all else 0. */
int bus_object_new(const char *path, const struct bus_property *properties, size_t size, void **ret);
void *bus_object_free(void *object, const struct bus_property *properties);
/* Reads a{sv}: unknown names and other types are passed over. */
int bus_properties_read(sd_bus_message *m, const struct bus_property *properties, void *object);

/* --- method calls --- */
int bus_new_call(struct bus *bus, const char *path, const char *interface, const char *method, sd_bus_message **ret);
/* Calls and waits.  EXIT_DONE and *ret_reply, or the code.  error: filled with the daemon's words, for the caller to report. */
enum exit_code bus_call(struct bus *bus, sd_bus_message *call, sd_bus_error *error, sd_bus_message **ret_reply);
/* The same, and the loop runs meanwhile: news come, and signals.  Once *stop is set the answer has two seconds more; else EXIT_INTERRUPTED. */
enum exit_code bus_call_until(struct bus *bus, sd_bus_message *call, const bool *stop, sd_bus_error *error, sd_bus_message **ret_reply);
/* Does not wait: fn is called with the answer, unless *ret_slot is given back before. */
int bus_call_async(struct bus *bus, sd_bus_message *call, sd_bus_message_handler_t fn, void *userdata, sd_bus_slot **ret_slot);
/* The same as bus_call(), reported. */
enum exit_code bus_call_or_fail(const struct client *client, struct bus *bus, sd_bus_message *call, sd_bus_message **ret_reply);
enum exit_code bus_report_error(const struct client *client, const sd_bus_error *error, int r);
/* What a D-Bus error means for the caller. */
enum exit_code bus_error_code(const char *name);
/* Who asks may not: another try with other arguments is of no use. */
bool bus_error_is_denied(const char *name);
/* Says that a reply makes no sense. */
enum exit_code bus_bad_reply(const struct client *client, const char *what);

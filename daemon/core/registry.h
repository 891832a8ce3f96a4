/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * All cameras and updates that are known: matches sightings to cameras, takes
 * people's wishes, tells observers what has changed.  Everything that lasts
 * goes to the journal.
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/camera.h"
#include "core/update.h"

struct registry;

struct registry_observer {
        void (*on_camera_added)(void *userdata, struct camera *camera);
        void (*on_camera_changed)(void *userdata, struct camera *camera);
        void (*on_camera_removed)(void *userdata, struct camera *camera);
        void (*on_update_added)(void *userdata, struct update *update);
        void (*on_update_changed)(void *userdata, struct update *update);
        void (*on_update_removed)(void *userdata, struct update *update);
        void (*on_inhibitors_changed)(void *userdata);
};

struct registry_settings {
        bool automatic;                 /* [recovery] automatic= */
        /* per camera: 0, 1, or -1 for "as above"; key, serial or port as in the configuration file.  May be NULL. */
        int (*camera_automatic)(void *userdata, const char *key, const char *serial, const char *port);
        /* Is the hub that port hangs on still there?  A camera that left with its hub tells nothing.  May be NULL. */
        bool (*hub_is_there)(void *userdata, const char *port);
        /* Writes the node of the serial port ("/dev/ttyACM0") that the device at port has; -ENOENT: none, or none yet.  NULL: running
         * cameras are not spoken to. */
        int (*serial_port)(void *userdata, const char *port, char *node, size_t size);
        void *userdata;
};

int registry_new(const struct session_context *context, const struct registry_settings *settings, struct registry **ret);
/* Closes every session (devices stay as they are) and forgets; the journal keeps. */
struct registry *registry_free(struct registry *registry);
/* Cameras and updates from the journal; before the first sighting. */
int registry_load(struct registry *registry);
/* Members may be NULL; observer must outlive its stay.  -ENOSPC: too many. */
int registry_observe(struct registry *registry, const struct registry_observer *observer, void *userdata);
void registry_unobserve(struct registry *registry, const struct registry_observer *observer);

/* --- from the device monitor --- */
void registry_seen(struct registry *registry, const struct sighting *sighting);
/* Whatever was at port has gone. */
void registry_gone(struct registry *registry, const char *port);
/* Something is connected at port and does not answer, and the kernel has given it up, times in a row, age microseconds ago; why: its words,
 * for the log.  It is shown until something enumerates there, its hub leaves, somebody forgets it, or nothing more was said of it for
 * UNREADABLE_STAYS: that it is unplugged, nobody tells. */
#define UNREADABLE_STAYS (600 * SEC)
#define UNREADABLE_MAX   32             /* at a time; of more nothing is said */
void registry_unreadable(struct registry *registry, const char *port, const char *why, unsigned times, uint64_t age);
/* A device, whatever it is, has been enumerated at port: what did not answer there does, or is not there any more. */
void registry_answers(struct registry *registry, const char *port);
/* What was at port is gone, and if it was a hub, so are those below it that did not answer, of which nobody else tells; "1": bus 1 itself.  (Of the
 * others registry_gone() is told one by one.) */
void registry_below_gone(struct registry *registry, const char *port);
/* The device at port has a serial port now, or one that may be opened now. */
void registry_serial_port(struct registry *registry, const char *port);

/* --- what people ask --- */
enum request_action { REQUEST_UPDATE, REQUEST_QUEUED, REQUEST_CURRENT, REQUEST_SKIP, REQUEST_REFUSE, _REQUEST_ACTION_MAX };
DECLARE_ENUM_NAMES(request_action);

/* Why something is refused before the verdict is asked, for programs. */
enum request_refusal {
        REFUSAL_BOARD,                  /* its board is not known, or not the one named */
        REFUSAL_NOT_HANDLED,            /* this board, or the mode that it is in */
        REFUSAL_NOT_PROVEN,             /* to be a certain camera; or it takes the user's word */
        REFUSAL_NO_FIRMWARE,            /* in the store, of what was asked for */
        REFUSAL_IMAGE,                  /* does not belong there */
        REFUSAL_USERS_WORK,             /* would be overwritten */
        REFUSAL_UPDATE_OPEN,
        REFUSAL_NOTHING_TO_DO,
        REFUSAL_BUSY,                   /* for some seconds */
        REFUSAL_LIMIT,                  /* more than is kept of such */
        REFUSAL_NOT_HELD,               /* in its bootloader: hold it first */
        REFUSAL_INHIBITED,              /* others asked for hands off */
        REFUSAL_ARGUMENT,               /* makes no sense */
        REFUSAL_NOT_SAVED,              /* the state directory cannot be written to */
        REFUSAL_FAILED,
        _REFUSAL_MAX
};

struct request {
        enum wish wish;                 /* WISH_UPDATE, WISH_RECOVER, WISH_RESTORE */
        const char *firmware;           /* version, "sha256:..." or NULL */
        const char *board;              /* recover: the user's word; or NULL */
        bool romfs, erase_filesystem, replace_unknown;
        bool stay;                      /* in its bootloader afterwards, held */
        bool all;                       /* one of many: unknown firmware is skipped rather than replaced */
        bool dry_run;
        uint64_t said_at;               /* registry_last_attachment() when it was said; 0: now */
};

struct request_result {
        enum request_action action;
        struct update *update;          /* NULL: none */
        enum request_refusal refusal;   /* of REQUEST_REFUSE */
        char version[80];               /* meant */
        char text[256];
};

/* Is camera what its key meant when that was the last attachment (0: now)?  What has no name but its port's is another one each time.  False: ret says
 * why not. */
bool registry_was_meant(const struct camera *camera, uint64_t said_at, struct request_result *ret);
void registry_request(struct registry *registry, struct camera *camera, const struct request *request,
                      struct request_result *ret);
/* -EALREADY: has ended. */
int registry_cancel(struct registry *registry, struct update *update);
/* The camera's last update, which came to no good end, once more: the same images, by the same word. */
void registry_retry(struct registry *registry, struct camera *camera, struct request_result *ret);
/* Forgets a camera that is not attached, or does not answer: what was known of it, and its history.  -EBUSY: it is attached; -EALREADY: an update is open
 * for it; -ENOTEMPTY: images were saved from it, and saved_too is false.  Else it is gone. */
int registry_forget(struct registry *registry, struct camera *camera, bool saved_too);
void registry_set_automatic(struct registry *registry, struct camera *camera, int automatic);
/* What people call it, and may call it by; "": nothing.  A name decides what is written where, so it names one camera and nothing else.
 * -EINVAL: longer than 63 bytes, begins or ends with a space, has a control character, or would be taken for an option or a port path;
 * -EEXIST: another camera's; -ENXIO: this one is not known by an identity, and would be forgotten with its name when it goes. */
int registry_set_label(struct registry *registry, struct camera *camera, const char *label);
/* The configuration was read anew: [recovery] automatic= is this, and what it says of single cameras may have changed. */
void registry_reconfigure(struct registry *registry, bool automatic);
/* Nobody is attached, awaited within seconds or worked on: all that is to be known stands in the journal. */
bool registry_is_idle(struct registry *registry);
/* Something came into the store: cameras that wait for it go on. */
void registry_firmware_added(struct registry *registry);
/* For good: nothing is opened any more, and every session is asked to stop at its next safe boundary; a bootloader whose firmware is
 * whole is told to leave, an incomplete one stays held (rule 15).  True when nothing is open any more. */
bool registry_stop(struct registry *registry);

/* --- looking --- */
struct camera *registry_first_camera(struct registry *registry);
struct camera *registry_next_camera(struct camera *camera);
struct update *registry_first_update(struct registry *registry);
struct update *registry_next_update(struct update *update);
struct camera *registry_camera_by_key(struct registry *registry, const char *key);
struct update *registry_update_by_id(struct registry *registry, const char *id);
const struct session_context *registry_context(const struct registry *registry);
bool registry_automatic(const struct registry *registry);
size_t registry_attached(const struct registry *registry);
/* Attachments are numbered, from 2 on: the last one's. */
uint64_t registry_last_attachment(const struct registry *registry);
size_t registry_working(const struct registry *registry);       /* sessions going on */

/* Cameras that are being written, and for less than that long (loop_now() microseconds); *ret_next, if there are some: when the first of them
 * will have been for so long. */
size_t registry_writing(const struct registry *registry, uint64_t less_than, uint64_t *ret_next);

/* --- for camera.c and hold.c --- */
/* Nothing was heard of it for long; it is freed. */
void registry_unreadable_over(struct registry *registry, struct camera *camera);
/* Is this a camera for which anything is done here?  False: ret says why not. */
bool registry_handles(const struct camera *camera, struct request_result *ret);
struct caller *registry_caller(const struct registry *registry);
void registry_camera_changed(struct registry *registry, struct camera *camera);
void registry_update_changed(struct registry *registry, struct update *update);
void registry_inhibitors_changed(struct registry *registry);
/* A new open update for camera; not yet stored, and not told: registry_announce_update() when it is known what it will write. */
int registry_new_update(struct registry *registry, struct camera *camera, enum wish wish, struct update **ret);
void registry_announce_update(struct registry *registry, struct update *update);
const struct registry_settings *registry_settings(const struct registry *registry);
/* A ROM device with a shared serial was restored on this port: the bootloader that comes next there is looked at. */
void registry_expect_bootloader(struct registry *registry, const char *port, const struct board *board);

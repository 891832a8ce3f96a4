/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The whole core on a desk: registry, journal and store in memory, simulated
 * cameras on the ports of a simulated host, in virtual time.  And the few verbs
 * in which the stories are told: a hand that plugs and unplugs, a person who
 * asks, a look at a flash.
 *
 * LAB_TRACE=1 shows the log of the core, LAB_TRACE=2 each request besides.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/registry.h"
#include "core/store.h"
#include "sim/model.h"
#include "sim/usb-inproc.h"

#define LAB_LINES 200
#define LAB_CAMERAS_MAX 64

struct lab_image {
        enum sim_board board;
        char partition[16];
        char version[32];
        uint8_t *data;
        size_t size;
        struct digest digest;
        struct lab_image *next;         /* in the lab: freed with it */
};

struct lab_camera {
        struct lab *lab;
        enum sim_board board;
        struct usb_inproc_camera *usb;
        struct sim_camera *sim;
        char key[CAMERA_KEY_MAX];
        uint8_t *remembered;            /* lab_remember() */
        size_t remembered_size;
};

struct lab {
        struct loop *loop;
        struct board_list boards;
        struct journal *journal;
        struct store *store;
        struct usb *usb;
        struct usb_inproc *host;
        struct registry_settings settings;
        struct registry *registry;
        bool hub_is_gone;
        uint64_t saved_quota;
        char directory[64];             /* of the states of one daemon after the other; "": everything is in memory */
        unsigned generation;            /* the daemon's that lives now, or died last */
        bool image_taken;               /* its successor's state stands there already */
        struct lab_camera cameras[LAB_CAMERAS_MAX];
        size_t n_cameras;
        struct lab_image *images;
        char *lines[LAB_LINES];
        size_t n_lines;
        int trace;
};

struct lab *lab_new(void);
/* Where saved images may take so many bytes. */
struct lab *lab_new_with_quota(uint64_t saved_quota);
struct lab *lab_free(struct lab *lab);
/* The daemon is stopped and started again: sessions are closed where they are, memory is what the journal has. */
void lab_restart(struct lab *lab);

/* --- a daemon whose state is on the disk --- */
/* from: what lab_keep() has kept; NULL: the first run. */
struct lab *lab_new_on_disk(const char *from);
/* Stops the daemon and puts what it leaves to directory, which is made; then it is started again. */
void lab_keep(struct lab *lab, const char *directory);
/* What stands on the disk this moment is all that the next one will know.  Once per life: lab_kill() does it, unless it was done. */
void lab_take_image(struct lab *lab);
/* SIGKILL.  The device keeps whatever state it is in, but for the requests that the kernel cancels when a process ends.  What the dying
 * daemon still writes goes nowhere. */
void lab_kill(struct lab *lab);
/* The next one.  It finds on the bus what is there now. */
void lab_start(struct lab *lab);
bool lab_is_dead(const struct lab *lab);
/* In memory where the machine has such a place; made, and its name put into path. */
void lab_scratch(char path[static 64]);
void lab_remove(const char *directory);
/* [recovery] automatic=; the daemon reads it when it starts. */
void lab_set_automatic(struct lab *lab, bool automatic);
/* Cameras that run have a serial port from now on.  (Without it they wait for a hand.)  Restarts the daemon. */
void lab_connect_serial(struct lab *lab);

/* --- images --- */
struct lab_image *lab_firmware(struct lab *lab, enum sim_board board, const char *partition, const char *version, unsigned seed,
                               size_t size);
/* A release's firmware with the board's usual size. */
struct lab_image *lab_release(struct lab *lab, enum sim_board board, const char *version);
struct lab_image *lab_mute_release(struct lab *lab, enum sim_board board, const char *version);
struct lab_image *lab_bootloader(struct lab *lab, enum sim_board board, enum sim_bootloader bootloader, const char *version);
struct lab_image *lab_bytes(struct lab *lab, enum sim_board board, const char *partition, const char *version, const void *data,
                            size_t size);
/* Into the store, as a stable release, and whoever waits for it goes on. */
void lab_import(struct lab *lab, const struct lab_image *image);

/* --- cameras and a hand --- */
/* One with erase_unit_scale below 1 shrinks its board, for all of the lab's cameras of that board. */
struct lab_camera *lab_camera_new(struct lab *lab, enum sim_board board, unsigned seed);
struct lab_camera *lab_camera_from(struct lab *lab, const struct sim_config *config);
/* As if it had always stood there. */
void lab_install(struct lab_camera *camera, const struct lab_image *image);
void lab_plug(struct lab_camera *camera, const char *port);
void lab_unplug(struct lab_camera *camera);
/* Unplugged for two seconds and plugged in again where it was. */
void lab_replug(struct lab_camera *camera);
void lab_jumper(struct lab_camera *camera, bool on);

/* --- time --- */
void lab_run(struct lab *lab, uint64_t us);
/* What the core knows this camera as; NULL: nothing. */
struct camera *lab_known(const struct lab_camera *camera);
/* Waits for it; fails the test with the last lines of the log. */
void lab_expect_state(struct lab_camera *camera, enum camera_state state, uint64_t deadline);
/* First waits until the update moves. */
void lab_wait_writing(struct lab_camera *camera, uint64_t bytes, uint64_t deadline);
/* Healthy: boots, and is running within a few seconds. */
void lab_plug_until_running(struct lab_camera *camera, const char *port);
/* In again, held, written, verified, running. */
void lab_expect_done(struct lab_camera *camera);

/* --- people --- */
enum request_action lab_request(struct lab_camera *camera, const struct request *request);
enum request_action lab_ask_update(struct lab_camera *camera, const char *version);
enum request_action lab_ask_recover(struct lab_camera *camera, const char *board, bool replace);

/* --- looking --- */
/* The camera's present update or its last; fails if none. */
struct update *lab_update(struct lab_camera *camera);
void lab_expect_update(struct lab_camera *camera, enum update_result result, const char *code);
void lab_expect_diagnosis(struct lab_camera *camera, enum diagnosis_code code);
/* The image stands in its partition, byte for byte. */
void lab_expect_flash(struct lab_camera *camera, const struct lab_image *image);
struct sim_counters lab_counters(struct lab_camera *camera);
void lab_reset_counters(struct lab_camera *camera);
/* Not one transfer, not one erase since the counters were reset. */
void lab_expect_untouched(struct lab_camera *camera);
/* Nothing was erased or programmed since then. */
void lab_expect_only_read(struct lab_camera *camera);
/* Takes all of the executable memory down, and later compares what lies outside of a partition (NULL: everything). */
void lab_remember(struct lab_camera *camera);
void lab_expect_unchanged_but(struct lab_camera *camera, const char *partition);
/* No erase or program operation outside of the partition. */
void lab_expect_wrote_only(struct lab_camera *camera, const char *partition);
/* Whether it stands there. */
bool lab_stands_there(const struct lab_camera *camera, const struct lab_image *image);
bool lab_logged(const struct lab *lab, const char *part);

void lab_fail(const struct lab *lab, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

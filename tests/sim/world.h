/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The simulated machine: cameras, the ports they are plugged into, and a hand.
 * What happens to a camera that is plugged in - who enumerates it, and how
 * programs come to see it - is a kernel's business (kernel.h): one that is played, or the machine's own.
 *
 * A world_camera is one physical camera with a name, in a drawer or at a port.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/loop.h"
#include "sim/kernel-log.h"
#include "sim/model.h"

struct kernel;
struct world;
struct world_camera;

/* Milliseconds; see camsim --help. May be changed at any time. A real kernel has only the last one. */
struct world_options {
        double debounce, enumerate;     /* kernel: line stable; resets and descriptors */
        double udev, udev_remove;       /* udevd: from the kernel's event to the one that programs hear; "remove" */
        double notice;                  /* from the loss of a device until the hub tells the kernel; transfers fail meanwhile */
        bool serial;                    /* a hub enumerates one port at a time */
        bool uevents;                   /* false: nobody hears anything */
        uint64_t order;                 /* of lots by which udevd's events of several interfaces are mixed; 0: none */
        double window;                  /* window_scale of cameras that are made from now on and say nothing else; no time */
};

/* kernel is the world's from now on, also if this fails. */
int world_new(struct loop *loop, struct kernel *kernel, void (*on_change)(void *userdata), void *userdata, struct world **ret);
/* Unplugs everything. */
struct world *world_free(struct world *world);
struct world_options *world_options(struct world *world);
/* Its kernel is the machine's own. */
bool world_is_real(const struct world *world);
/* NULL: no trace. The world's from now on. */
void world_trace_to(struct world *world, FILE *f);
void world_trace(struct world *world, const char *name, const char *line);
/* What its kernel says; NULL: it is the machine's own. */
struct sim_kernel_log *world_kernel_log(struct world *world);

int world_camera_new(struct world *world, const struct sim_config *config, struct world_camera **ret);
struct world_camera *world_camera_by_name(struct world *world, const char *name);
struct world_camera *world_camera_next(struct world *world, struct world_camera *after);
struct sim_camera *world_camera_model(struct world_camera *camera);
const struct sim_config *world_camera_config(const struct world_camera *camera);

/* port: "1-4.2"; NULL: where it was last, or the first free one.  A port that the kernel does not have stands for one that it has:
 * see kernel_ops.find_port().  -EBUSY: plugged in already; -EEXIST: something else is
 * there; -EINVAL: no such port. */
int world_plug(struct world_camera *camera, const char *port);
/* -ENODEV: not plugged in. */
int world_unplug(struct world_camera *camera);
/* Unplugs it (if it still is plugged in) and plugs it in again after gap microseconds (0: at once).  -ENODEV: it never was. */
int world_replug(struct world_camera *camera, const char *port, uint64_t gap);
/* Everything below this port path ("2": the whole bus) loses power, the hub too (if there is one); on: they are plugged in again. */
int world_hub_off(struct world *world, const char *port);
int world_hub_on(struct world *world, const char *port);

/* The real one; "" never plugged in. */
const char *world_camera_port(const struct world_camera *camera);
bool world_camera_is_plugged(const struct world_camera *camera);
/* Its "add" was sent, and not yet its "remove".  One that is back at a port before that is announced when it is anew. */
bool world_camera_is_announced(const struct world_camera *camera);
/* Programs do not see it, neither as it is nor as what it was until it left: as long as its loss is not dealt with they do. */
bool world_camera_is_forgotten(const struct world_camera *camera);
/* The kernel got no descriptor from it, and tries no more. */
bool world_camera_is_given_up(const struct world_camera *camera);
/* loop_now() just before its "add" was sent; 0: not (yet). */
uint64_t world_camera_announced_at(const struct world_camera *camera);
bool world_camera_is_configured(const struct world_camera *camera);
unsigned world_camera_device_number(const struct world_camera *camera); /* 0: none */
unsigned world_camera_bus_number(const struct world_camera *camera);
const char *world_camera_tty(const struct world_camera *camera);        /* "ttyACM0"; NULL: none */
bool world_camera_tty_is_open(const struct world_camera *camera);
unsigned world_camera_open_files(const struct world_camera *camera);    /* programs that have its node open */

/* --- faults of the host's side --- */
/* The next count attachments (-1: all) do not tell their descriptor.  tries 0: never, so the kernel gives up on the port, and shows
 * nothing; else not the first so many times that the kernel asks. */
void world_camera_fail_enumeration(struct world_camera *camera, int count, unsigned tries);
/* open(2) of its node fails with this negative errno; 0: no more. */
void world_camera_refuse_open(struct world_camera *camera, int error);
/* So many openings failed by that since it was said. */
unsigned world_camera_refused(const struct world_camera *camera);
/* Another program has the interface, as soon as it exists and until it is let go. */
int world_camera_hold(struct world_camera *camera, uint8_t interface, bool hold);
/* Every event of it is sent so many times: 0 lost, 1 normal, 2 doubled. */
void world_camera_repeat_events(struct world_camera *camera, unsigned times);
/* All listeners lose events (ENOBUFS).  Returns how many there were; -EOPNOTSUPP: this kernel cannot. */
int world_overflow(struct world *world);

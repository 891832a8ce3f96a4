/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What stands between a camera's USB line and the programs: a kernel.  There
 * are two of them.  The played one (kernel-played.h) enumerates by itself and
 * shows /dev, /sys and uevents of its own in private namespaces; the other
 * one (vhci.h) is the machine's own, to which the cameras are attached by USB/IP.
 *
 * The world (world.h) has the cameras, the ports and the hand that plugs; it
 * calls down by struct kernel_ops.  A kernel keeps what it knows of a camera in
 * world_camera.attached, and tells of changes by world_changed().
 */

#include "sim/world.h"

#define WORLD_INTERFACES_MAX 32
#define WORLD_PORT_SIZE 48

struct kernel;

/* What programs can see of a camera now. */
struct kernel_view {
        bool announced;                 /* its "add" is out, and its "remove" not; of the present attachment, if there is one */
        bool departing;                 /* an earlier attachment's "remove" is not out */
        uint64_t announced_at;          /* loop_now(); 0: not announced */
        bool configured;
        bool given_up;                  /* it got no descriptor, and asks no more */
        unsigned bus, device;           /* 0: none */
        const char *tty;                /* "ttyACM0", or NULL; valid until the next round */
        bool tty_open;                  /* a program has it */
};

struct kernel_ops {
        /* It is the machine's own: its times and events are not ours to choose. */
        bool real;
        /* Called once, when kernel->world is set. */
        int (*start)(struct kernel *kernel);
        /* All cameras were forgotten before. Returns NULL. */
        struct kernel *(*free)(struct kernel *kernel);

        /* The port that is meant by a path; the same one for the same path as long as this kernel lives.
         * -EINVAL: no such port; -EEXIST: a hub is there; -ENOSPC: no port is left. */
        int (*find_port)(struct kernel *kernel, const char *path, char port[static WORLD_PORT_SIZE]);
        /* A camera is going to be plugged in there, behind hubs that may have to be made. */
        int (*prepare_port)(struct kernel *kernel, const char *port);
        /* Hubs below this path lose power (their cameras were unplugged).  Returns how many. */
        unsigned (*hub_off)(struct kernel *kernel, const char *path);

        /* The camera pulled its line up at camera->port, let go of it (it has completed all urbs), or was pulled out by a hand. */
        void (*connected)(struct kernel *kernel, struct world_camera *camera);
        void (*disconnected)(struct kernel *kernel, struct world_camera *camera);
        void (*unplugged)(struct kernel *kernel, struct world_camera *camera);
        void (*complete)(struct kernel *kernel, struct world_camera *camera, struct sim_urb *urb, int status, size_t actual);
        /* The camera is going to be freed. */
        void (*forget)(struct kernel *kernel, struct world_camera *camera);

        void (*look)(struct kernel *kernel, const struct world_camera *camera, struct kernel_view *ret);
        unsigned (*open_files)(struct kernel *kernel, const struct world_camera *camera);
        /* camera->hold[interface] is about to become this. */
        int (*hold)(struct kernel *kernel, struct world_camera *camera, uint8_t interface, bool hold);
        /* NULL: cannot be done. */
        int (*overflow)(struct kernel *kernel);
};

/* First member of a kernel of either kind. */
struct kernel {
        const struct kernel_ops *ops;
        struct world *world;            /* world_new() sets it */
        struct sim_kernel_log *log;     /* its own; NULL: the machine's */
};

/* A camera, as kernels see it. */
struct world_camera {
        struct world *world;
        char *name;
        struct sim_config config;
        struct sim_camera *model;
        char asked[WORLD_PORT_SIZE];    /* the port that it was told; "" at first */
        char port[WORLD_PORT_SIZE];     /* and the one that this is: kernel_ops.find_port() */
        void *attached;                 /* the kernel's */
        int fail_enumeration;           /* so many attachments from now on; -1: all */
        unsigned fail_tries;            /* so many answers within an attachment; 0: all */
        int refuse_open;
        unsigned refused;               /* so many times since it was set */
        bool hold[WORLD_INTERFACES_MAX];
        unsigned event_times;

        bool plugged;                   /* world.c's from here on */
        bool hub_off;                   /* comes back with its hub */
        struct timer replug;
        LIST_HEAD(, world_timer) timers;
        TAILQ_ENTRY(world_camera) link; /* in world->cameras */
};

/* --- for kernels --- */
struct loop *world_loop(const struct world *world);
void world_changed(struct world *world);
bool world_is_traced(const struct world *world);
/* Plugged in there, or about to be. */
struct world_camera *world_camera_at(struct world *world, const char *port);
/* Is it this hub's, or a port below it?  "2" is everything on bus 2. */
bool world_is_below(const char *path, const char *hub);

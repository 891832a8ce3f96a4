/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Runs a test program inside a simulated machine of its own: the parent process
 * plays the machine (sim/world.h), the child is the test, and gives the parent
 * orders over a socket.  Where camsim is a command to put around any program, this is
 * for a test in C that wants to pull the plug between two lines of its own.
 */

#include "sim/model.h"

enum machine_verb {
        MACHINE_CAMERA,                 /* new, in a drawer: config, with a bootloader; firmware 5.0.0 (seed 1) when value is not 0 */
        MACHINE_FIRMWARE,               /* partition ("": FIRMWARE) becomes the first value bytes of the image version (seed) of
                                         * image_size bytes (0: as large as the board's usually is), the rest blank */
        MACHINE_COMPARE,                /* -EBADMSG: partition does not begin with that image */
        MACHINE_BOOTLOADER,             /* its bootloader is whole (value), or blank */
        MACHINE_COMPARE_BOOTLOADER,     /* -EBADMSG: it is not whole */
        MACHINE_FOREIGN,                /* new, in a drawer: config, with nothing in its flash */
        MACHINE_PLUG,                   /* answers when its "add" is out */
        MACHINE_PLUG_ALL,               /* that are in a drawer and whose names begin with name ("": all), spread evenly over value
                                         * microseconds; does not wait */
        MACHINE_REPLUG,                 /* unplugs it, if it is plugged in, and plugs it in again after value microseconds; does not wait */
        MACHINE_UNPLUG,
        MACHINE_UNPLUG_ALL,
        MACHINE_FAULT,
        MACHINE_CLEAR_FAULTS,
        MACHINE_REFUSE_OPEN,            /* value: negative errno */
        MACHINE_HOLD,                   /* another program has interface 0: value */
        MACHINE_COUNTERS,
        MACHINE_UNTIL,                  /* answers when until() holds for what it would answer, or after value milliseconds with -ETIMEDOUT */
        MACHINE_RESET_COUNTERS,
        MACHINE_READ,                   /* value bytes of FIRMWARE from offset */
        MACHINE_TIMES,                  /* see machine_answer.times; value: bytes */
        MACHINE_UNIT,                   /* see machine_answer.unit; value: an offset in FIRMWARE */
        MACHINE_JUMPER,                 /* value: on */
        MACHINE_SAVE,                   /* sim_camera_save() to path */
        MACHINE_LOAD,                   /* sim_camera_load() from path */
        MACHINE_OVERFLOW,               /* all listeners lose events (ENOBUFS) */
        MACHINE_STRIKE,                 /* sends signal to pid as soon as the camera has had value transfers since its counters were
                                         * reset; pid 0: does not strike any more */
        MACHINE_LEISURE,                /* the kernel and udev take their usual time from now on: value; 0, as at first: none */
};

struct machine_answer;

struct machine_order {
        enum machine_verb verb;
        char name[16];                  /* of the camera */
        char port[16];                  /* "": anywhere */
        struct sim_config config;
        struct sim_fault fault;
        int value;
        uint32_t offset;
        char version[16], partition[16];
        unsigned seed;
        uint32_t image_size;
        char path[192];
        int pid, signal;
        bool (*until)(const struct machine_answer *answer);     /* runs in the machine, which knows nothing that the test did since */
        uint64_t wanted;                /* for until(), in the answer */
};

struct machine_answer {
        int error;
        char port[48], node[32];
        struct sim_counters counters;
        unsigned open_files;
        uint64_t announced_at;          /* loop_now() just before its "add" was sent, comparable with counters; 0: not (yet) */
        bool is_plugged, is_announced;
        enum sim_mode mode;
        uint64_t wanted;                /* what the order said */
        bool has_struck;                /* of the last MACHINE_STRIKE, whatever camera is asked about */
        struct {
                uint64_t flash;         /* to erase and program value bytes of FIRMWARE: sim_camera_flash_time() */
                uint64_t transfer;      /* of value bytes: sim_camera_transfer_time() */
        } times;
        struct {
                uint32_t offset, size;  /* of the erase unit in which FIRMWARE has the byte at value; offset in FIRMWARE */
        } unit;
        uint8_t data[4096];
};

/* Enters the namespaces, forks, and in the child runs test(); returns its result in the parent.  77 where there are no namespaces. */
int machine_run(int (*test)(void));
/* In the child. */
struct machine_answer machine_ask(const struct machine_order *order);
/* Becomes readable when a camera changes its mode, is plugged in or out, or is announced or not any more, and after a strike.  Reading
 * is the test's; what has changed must be asked. */
int machine_news(void);

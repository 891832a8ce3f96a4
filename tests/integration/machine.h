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
        MACHINE_FIRMWARE,               /* FIRMWARE becomes the first value bytes of the image version (seed), the rest blank */
        MACHINE_PLUG,                   /* answers when its "add" is out */
        MACHINE_PLUG_ALL,               /* that are in a drawer and whose names begin with name ("": all), spread evenly over value
                                         * microseconds; does not wait */
        MACHINE_UNPLUG,
        MACHINE_UNPLUG_ALL,
        MACHINE_FAULT,
        MACHINE_CLEAR_FAULTS,
        MACHINE_REFUSE_OPEN,            /* value: negative errno */
        MACHINE_HOLD,                   /* another program has interface 0: value */
        MACHINE_COUNTERS,
        MACHINE_RESET_COUNTERS,
        MACHINE_READ,                   /* value bytes of FIRMWARE from offset */
        MACHINE_TIMES,                  /* see machine_answer.times; value: bytes */
        MACHINE_UNIT,                   /* see machine_answer.unit; value: an offset in FIRMWARE */
        MACHINE_LEISURE,                /* the kernel and udev take their usual time from now on: value; 0, as at first: none */
};

struct machine_order {
        enum machine_verb verb;
        char name[16];                  /* of the camera */
        char port[16];                  /* "": anywhere */
        struct sim_config config;
        struct sim_fault fault;
        int value;
        uint32_t offset;
        char version[16];
        unsigned seed;
};

struct machine_answer {
        int error;
        char port[48], node[32];
        struct sim_counters counters;
        unsigned open_files;
        uint64_t announced_at;          /* loop_now() just before its "add" was sent, comparable with counters; 0: not (yet) */
        bool is_plugged;
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

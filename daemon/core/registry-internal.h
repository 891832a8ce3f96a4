/* SPDX-License-Identifier: MIT */
#pragma once

/* The registry's own struct, for registry.c and request.c only. */

#include "core/inhibit.h"
#include "core/registry.h"

#define REGISTRY_OBSERVERS_MAX 4
#define REGISTRY_EXPECTED_MAX 16        /* more at one time: the oldest are forgotten, and show themselves as a silent boot */
#define SERIAL_BOOTLOADERS_MAX 32       /* that can be on their way at a time; the oldest is forgotten */

TAILQ_HEAD(camera_list, camera);
TAILQ_HEAD(update_list, update);
TAILQ_HEAD(inhibitor_list, inhibitor);

struct registry {
        struct session_context context;
        uint64_t hurry_until;           /* context's */
        struct registry_settings settings;
        struct {
                const struct registry_observer *observer;
                void *userdata;
        } observers[REGISTRY_OBSERVERS_MAX];
        size_t n_observers;
        struct camera_list cameras;
        struct update_list updates;
        struct caller *caller;
        struct inhibitor_list inhibitors;
        struct defer look;              /* whether what is inhibited is quiet by now */
        struct inhibitor *stopping;     /* registry_stop()'s */
        uint64_t next_update;
        uint64_t last_attachment;
        struct journal_watch watch;
        /* Cameras whose identity their ROM hides were restored here: their bootloaders are awaited. */
        struct expectation {
                char port[PORT_PATH_MAX];
                const struct board *board;      /* NULL: free */
                uint64_t since;
        } expected[REGISTRY_EXPECTED_MAX];
        /* Old serial bootloaders, which have no identity, that left: whoever runs on that port next is theirs. */
        struct {
                char port[PORT_PATH_MAX];       /* "": none */
                uint64_t left_at;
        } serial_bootloaders[SERIAL_BOOTLOADERS_MAX];
        size_t next_serial_bootloader;
};

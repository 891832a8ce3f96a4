/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Notifications on a person's desktop (org.freedesktop.Notifications on the
 * session bus).  Knows nothing of cameras.  Outlives the program that shows
 * them: what still stands is shown anew by the next one.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/cleanup.h"
#include "client/client.h"

struct desktop;

/* Embedded in its owner; a new text replaces the old one on the screen. */
struct note {
        struct desktop *desktop;
        char *summary, *body;
        const char *const *actions;     /* key, label, key, label, NULL; static.  NULL: none */
        bool stands;                    /* true until somebody has acted on it; false: news, which goes by itself */
        void (*on_action)(void *userdata, const char *key);
        void *userdata;

        uint32_t id;                    /* 0: not on the screen */
        bool wanted;                    /* to be on the screen; false when a person has closed it */
        bool changed;                   /* other than what is on the screen */
        sd_bus_slot *call;
        LIST_ENTRY(note) link;          /* in the desktop */
};

/* Takes the bus name (one instance).  EXIT_DONE, EXIT_REFUSED: another one has it; reported.  on_lost: the session has ended. */
enum exit_code desktop_new(const struct client *client, sd_event *event, const char *bus_name, void (*on_lost)(void *userdata),
                           void *userdata, struct desktop **ret);
struct desktop *desktop_free(struct desktop *desktop);
DEFINE_FREEP(desktop)
/* Are buttons shown?  false as long as it is not known. */
bool desktop_has_actions(const struct desktop *desktop);

void note_init(struct note *note, struct desktop *desktop, void (*on_action)(void *userdata, const char *key), void *userdata);
void note_deinit(struct note *note);
/* Plain text; copied.  -ENOMEM. */
int note_show(struct note *note, const char *summary, const char *body, const char *const *actions, bool stands);
/* Takes it from the screen. */
void note_close(struct note *note);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon on D-Bus.  A window: it reads getters of the core, calls its
 * verbs, and observes; it holds no state of its own but what is still to be
 * told.  What each member means stands in systemd/org.camrescue1.xml.
 */

#include <stdbool.h>

#include "base/loop.h"
#include "core/registry.h"

#define BUS_NAME        "org.camrescue1"
#define BUS_PATH        "/org/camrescue1"
#define BUS_API_VERSION 1

struct bus;

struct bus_events {
        /* The connection broke; the daemon is of no use then and should end. */
        void (*on_lost)(void *userdata);
        /* Somebody called a method or asked for a property. */
        void (*on_question)(void *userdata);
        /* Reads the configuration anew; the number of wrong lines. */
        unsigned (*on_reload)(void *userdata);
};

/* address NULL: the system bus. */
int bus_new(struct loop *loop, struct registry *registry, const char *address, const struct bus_events *events, void *userdata,
            struct bus **ret);
struct bus *bus_free(struct bus *bus);
/* Takes the name; the last step of start-up but the scan (a client that sees the name gets answers). */
int bus_take_name(struct bus *bus);
/* The configuration is another one: the manager's properties are told again. */
void bus_manager_changed(struct bus *bus);
/* Somebody waits for an answer that waits for the disk. */
bool bus_owes_answers(const struct bus *bus);
/* Gives the name back, to end because nobody needs us.  false: somebody holds an inhibitor or waits for an answer, be it from polkit; or asked something in
 * that moment, was answered, and the name is ours again. */
bool bus_leave_name(struct bus *bus);

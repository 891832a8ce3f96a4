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

/* address NULL: the system bus.  on_lost: the connection broke; the daemon is of no use then and should end. */
int bus_new(struct loop *loop, struct registry *registry, const char *address,
            void (*on_lost)(void *userdata), void *userdata, struct bus **ret);
struct bus *bus_free(struct bus *bus);
/* Takes the name; the last step of start-up but the scan (a client that sees the name gets answers). */
int bus_take_name(struct bus *bus);

/* SPDX-License-Identifier: MIT */
/*
 * Answers to what asks for updates.  Whoever has heard of an update counts on it, and the daemon may be killed the moment after: so it is
 * said when it is on the disk.  The work does not wait for that.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "edge/bus-internal.h"

#define ACCEPTINGS_MAX 256              /* calls whose updates are on their way to the disk */

struct accepting {
        struct bus *bus;
        sd_bus_message *message, *reply;
        bool has_update;
        LIST_ENTRY(accepting) link;     /* in bus->acceptings */
};

static struct journal *journal_of(const struct bus *bus)
{
        return registry_context(bus->registry)->journal;
}

int accepting_check_room(struct bus *bus, sd_bus_error *error)
{
        const struct accepting *accepting;
        unsigned n = 0;

        LIST_FOREACH(accepting, &bus->acceptings, link)
                n++;
        if (n >= ACCEPTINGS_MAX)
                return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too many answers wait for the disk: ask again.");
        return 0;
}

struct accepting *accepting_new(struct bus *bus, sd_bus_message *message)
{
        struct accepting *accepting = calloc(1, sizeof(*accepting));

        if (!accepting)
                return NULL;
        accepting->bus = bus;
        accepting->message = sd_bus_message_ref(message);
        LIST_INSERT_HEAD(&bus->acceptings, accepting, link);
        return accepting;
}

struct accepting *accepting_free(struct accepting *accepting)
{
        if (!accepting)
                return NULL;
        LIST_REMOVE(accepting, link);
        sd_bus_message_unref(accepting->message);
        sd_bus_message_unref(accepting->reply);
        free(accepting);
        return NULL;
}

void accepting_add(struct accepting *accepting, const struct request_result *result)
{
        if (result->update && (result->action == REQUEST_UPDATE || result->action == REQUEST_QUEUED))
                accepting->has_update = true;
}

static void on_durable(void *userdata, int error)
{
        struct accepting *accepting = userdata;

        if (error < 0)
                (void)sd_bus_reply_method_errorf(accepting->message, BUS_ERROR_NOT_SAVED,
                                                 "The state directory cannot be written to (%s): what cannot be remembered is not done.",
                                                 strerror(-error));
        else
                (void)sd_bus_send(NULL, accepting->reply, NULL);
        defer_call(&accepting->bus->prepare);
        accepting_free(accepting);
}

int accepting_send(struct accepting *accepting, sd_bus_message *reply)
{
        int r;

        accepting->reply = sd_bus_message_ref(reply);
        r = accepting->has_update ? journal_sync(journal_of(accepting->bus), on_durable, accepting) : -ENODATA;
        if (r < 0)
                on_durable(accepting, r == -ENODATA ? 0 : r);
        return 1;
}

int bus_reply_request(struct bus *bus, sd_bus_message *message, const struct request_result *result, sd_bus_error *error)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        struct accepting *accepting;
        char path[BUS_PATH_MAX];
        int r;

        if (result->action == REQUEST_REFUSE)
                return bus_refuse(error, result, "");
        accepting = accepting_new(bus, message);
        if (!accepting)
                return -ENOMEM;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "oss", result->update ? bus_update_path(result->update, path) : "/",
                                          request_action_to_string(result->action), result->text);
        if (r < 0) {
                accepting_free(accepting);
                return r;
        }
        accepting_add(accepting, result);
        return accepting_send(accepting, reply);
}

/* Of a daemon that stops in a hurry, or without its bus: else it has answered.  What they wait for is in the journal, or will be. */
void bus_forget_acceptings(struct bus *bus)
{
        struct accepting *accepting;

        while ((accepting = LIST_FIRST(&bus->acceptings))) {
                journal_sync_cancel(journal_of(bus), accepting);
                accepting_free(accepting);
        }
}

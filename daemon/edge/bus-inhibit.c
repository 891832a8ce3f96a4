/* SPDX-License-Identifier: MIT */
/*
 * Manager.Inhibit: an inhibitor on the bus.  The caller gets the write end of
 * a pipe, and the kernel tells us when its last copy is closed, be it by him or
 * by his death.  That he leaves the bus means nothing: a child of his may have it.
 *
 * He is answered when hands are off, so that he can claim the device at once.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/inhibit.h"
#include "edge/bus-internal.h"

#define QUIET_DEADLINE  (10 * SEC)      /* the longest erase unit's erase and program is shorter (timing.md section 5) */
#define PER_SENDER_MAX  64              /* a command that names half of a lab */
#define ALL_MAX         256

struct inhibition {
        struct bus *bus;
        struct inhibitor *inhibitor;
        sd_bus_message *message;        /* to be answered; NULL: was */
        char *sender;
        int read_end, write_end;        /* write_end: until the answer; then it is the caller's alone */
        struct io_watch watch;
        struct timer deadline;
        LIST_ENTRY(inhibition) link;
};

static struct inhibition *inhibition_free(struct inhibition *inhibition)
{
        if (!inhibition)
                return NULL;
        io_watch_deinit(&inhibition->watch);
        timer_deinit(&inhibition->deadline);
        LIST_REMOVE(inhibition, link);
        (void)inhibitor_lift(inhibition->inhibitor);
        sd_bus_message_unref(inhibition->message);
        (void)close(inhibition->read_end);
        if (inhibition->write_end >= 0)
                (void)close(inhibition->write_end);
        free(inhibition->sender);
        free(inhibition);
        return NULL;
}

/* Nothing is to be read but the end. */
static void on_readable(void *userdata, unsigned events)
{
        struct inhibition *inhibition = userdata;
        char ignored[256];

        (void)events;
        if (read(inhibition->read_end, ignored, sizeof(ignored)) == 0)
                (void)inhibition_free(inhibition);
}

static int answer(struct inhibition *inhibition)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(inhibition->message, &reply);
        if (r >= 0)
                r = sd_bus_message_append(reply, "h", inhibition->write_end);   /* a copy */
        if (r >= 0)
                r = sd_bus_send(NULL, reply, NULL);
        return r;
}

static void on_quiet(void *userdata)
{
        struct inhibition *inhibition = userdata;
        struct bus *bus = inhibition->bus;
        int r;

        timer_clear(&inhibition->deadline);
        r = answer(inhibition);
        inhibition->message = sd_bus_message_unref(inhibition->message);
        (void)close(take_fd(&inhibition->write_end));
        if (r >= 0)
                r = io_watch_set(&inhibition->watch, IO_READ);
        if (r < 0) {
                log_warning("cannot hand out an inhibitor: %s", strerror(-r));
                (void)inhibition_free(inhibition);
        }
        defer_call(&bus->prepare);
}

static void on_late(void *userdata)
{
        struct inhibition *inhibition = userdata;

        (void)sd_bus_reply_method_errorf(inhibition->message, BUS_ERROR_TIMEOUT,
                                         "A device did not come to a safe boundary within %u s: nothing is held back.",
                                         (unsigned)(QUIET_DEADLINE / SEC));
        defer_call(&inhibition->bus->prepare);
        (void)inhibition_free(inhibition);
}

/* It is shown, and logged: one line of text. */
static bool is_fine(const char *text, size_t max)
{
        if (strlen(text) >= max)
                return false;
        for (const char *c = text; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        return false;
        return true;
}

static int check_limits(struct bus *bus, const char *sender, sd_bus_error *error)
{
        const struct inhibition *inhibition;
        size_t all = 0, own = 0;

        LIST_FOREACH(inhibition, &bus->inhibitions, link) {
                all++;
                own += strcmp(inhibition->sender, sender) == 0;
        }
        if (own >= PER_SENDER_MAX)
                return sd_bus_error_setf(error, BUS_ERROR_LIMIT, "You hold %d inhibitors already.", PER_SENDER_MAX);
        if (all >= ALL_MAX)
                return sd_bus_error_setf(error, BUS_ERROR_LIMIT, "There are %d inhibitors already.", ALL_MAX);
        return 0;
}

static int inhibition_new(struct bus *bus, sd_bus_message *message, struct camera *camera, const char *who, const char *why)
{
        struct inhibition *inhibition = calloc(1, sizeof(*inhibition));
        int pipe[2], r;

        if (!inhibition)
                return -ENOMEM;
        inhibition->sender = strdup(sd_bus_message_get_sender(message) ?: "");
        r = inhibition->sender ? pipe2(pipe, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0 : -ENOMEM;
        if (r < 0) {
                free(inhibition->sender);
                free(inhibition);
                return r;
        }
        inhibition->bus = bus;
        inhibition->read_end = pipe[0];
        inhibition->write_end = pipe[1];
        inhibition->message = sd_bus_message_ref(message);
        io_watch_init(&inhibition->watch, bus->loop, inhibition->read_end, on_readable, inhibition);
        timer_init(&inhibition->deadline, bus->loop, on_late, inhibition);
        timer_set(&inhibition->deadline, QUIET_DEADLINE);
        LIST_INSERT_HEAD(&bus->inhibitions, inhibition, link);
        r = registry_inhibit(bus->registry, camera, who, why, INHIBIT_HOLD, on_quiet, inhibition, &inhibition->inhibitor);
        if (r < 0)
                (void)inhibition_free(inhibition);
        return r;
}

int bus_on_inhibit(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        const char *path, *who, *why, *sender = sd_bus_message_get_sender(message);
        struct camera *camera = NULL;
        int r;

        r = bus_check_access(message, ACCESS_INHIBIT, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(message, "oss", &path, &who, &why);
        if (r < 0)
                return r;
        if (strcmp(path, "/") != 0) {
                camera = bus_camera_of_path(bus, path);
                if (!camera)
                        return sd_bus_error_setf(error, BUS_ERROR_NO_SUCH, "No camera %s.", path);
        }
        if (!*who || !is_fine(who, INHIBITOR_WHO_MAX) || !is_fine(why, INHIBITOR_WHY_MAX))
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Who (1 to %d bytes) and why (up to %d) are text of one line.",
                                         INHIBITOR_WHO_MAX - 1, INHIBITOR_WHY_MAX - 1);
        r = check_limits(bus, sender ?: "", error);
        if (r < 0)
                return r;
        r = inhibition_new(bus, message, camera, who, why);
        return r < 0 ? r : 1;           /* answered later */
}

void bus_forget_inhibitions(struct bus *bus)
{
        struct inhibition *inhibition;

        while ((inhibition = LIST_FIRST(&bus->inhibitions)))
                (void)inhibition_free(inhibition);
}

/* --- property --- */

int bus_get_inhibited(sd_bus *connection, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                      void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        char camera[BUS_PATH_MAX];
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(oss)");
        for (struct inhibitor *i = registry_first_inhibitor(bus->registry); i && r >= 0; i = registry_next_inhibitor(i))
                r = sd_bus_message_append(reply, "(oss)", inhibitor_key(i)[0] ? bus_camera_key_path(inhibitor_key(i), camera) : "/",
                                          inhibitor_who(i), inhibitor_why(i));
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

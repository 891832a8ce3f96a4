/* SPDX-License-Identifier: MIT */
/*
 * mock-logind ADDRESS: as much of systemd-logind as a program that delays sleep
 * and shutdown sees of it.  It is commanded over the bus, by
 * org.camrescue.Test.Logind on its object:
 *
 *     Await(s what)              answered when a delay lock for it is held
 *     Prepare(s what) -> t       announces it; answered when no lock is held any more, with the microseconds that this took
 *     Over(s what)               announces its end
 *     AwaitBlock(s what)         answered when a lock that blocks it is held
 *     AwaitFree(s what)          answered when none is
 *     MayBegin(s what) -> b s    no lock blocks it; what the lock says
 *     Deny(b)                    locks that block are denied from now on, as without polkit's rule; answered with how many were asked for so far
 *
 * what: "sleep" or "shutdown".  A lock for both is denied, as polkit does to
 * whoever is not root.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#define PATH "/org/freedesktop/login1"
#define INTERFACE "org.freedesktop.login1.Manager"
#define LOCKS_MAX 8

struct kind {
        const char *what, *signal;
        sd_event_source *locks[LOCKS_MAX];      /* each owns the read end of a pipe */
        sd_event_source *block;                 /* likewise; one is enough for a program */
        char why[160];
        sd_bus_message *awaiting, *awaiting_block, *awaiting_free, *preparing;
        uint64_t announced_at;
};

static struct kind kinds[] = {
        { .what = "sleep", .signal = "PrepareForSleep" },
        { .what = "shutdown", .signal = "PrepareForShutdown" },
};
static sd_bus *bus;
static sd_event *event;
static int denies;
static unsigned n_blocks;

static uint64_t now(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static struct kind *kind_of(const char *what)
{
        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (strcmp(kinds[i].what, what) == 0)
                        return &kinds[i];
        return NULL;
}

static int n_locks(const struct kind *kind)
{
        int n = 0;

        for (size_t i = 0; i < LOCKS_MAX; i++)
                n += kind->locks[i] != NULL;
        return n;
}

static void look(struct kind *kind)
{
        if (kind->awaiting && n_locks(kind) > 0) {
                (void)sd_bus_reply_method_return(kind->awaiting, "");
                kind->awaiting = sd_bus_message_unref(kind->awaiting);
        }
        if (kind->awaiting_block && kind->block) {
                (void)sd_bus_reply_method_return(kind->awaiting_block, "");
                kind->awaiting_block = sd_bus_message_unref(kind->awaiting_block);
        }
        if (kind->awaiting_free && !kind->block) {
                (void)sd_bus_reply_method_return(kind->awaiting_free, "");
                kind->awaiting_free = sd_bus_message_unref(kind->awaiting_free);
        }
        if (kind->preparing && n_locks(kind) == 0) {
                (void)sd_bus_reply_method_return(kind->preparing, "t", now() - kind->announced_at);
                kind->preparing = sd_bus_message_unref(kind->preparing);
        }
}

static int on_closed(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct kind *kind = userdata;

        (void)fd;
        (void)events;
        for (size_t i = 0; i < LOCKS_MAX; i++)
                if (kind->locks[i] == source)
                        kind->locks[i] = NULL;
        if (kind->block == source)
                kind->block = NULL;
        (void)sd_event_source_disable_unref(source);
        look(kind);
        return 0;
}

static int hand_out(sd_bus_message *message, struct kind *kind, sd_event_source **lock)
{
        int ends[2], r;

        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        r = sd_event_add_io(event, lock, ends[0], EPOLLHUP, on_closed, kind);
        if (r >= 0)
                r = sd_event_source_set_io_fd_own(*lock, 1);
        if (r >= 0)
                r = sd_bus_reply_method_return(message, "h", ends[1]);
        (void)close(ends[1]);
        look(kind);
        return r;
}

static int on_inhibit(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        const char *what, *who, *why, *mode;
        struct kind *kind;
        int r;

        (void)userdata;
        r = sd_bus_message_read(message, "ssss", &what, &who, &why, &mode);
        if (r < 0)
                return r;
        if (strchr(what, ':'))
                return sd_bus_error_setf(error, SD_BUS_ERROR_ACCESS_DENIED, "Permission denied");
        kind = kind_of(what);
        if (kind && *who && *why && strcmp(mode, "block") == 0) {
                n_blocks++;
                if (denies)
                        return sd_bus_error_setf(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "Interactive authentication required.");
                if (kind->block)
                        return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "One program, two locks");
                (void)snprintf(kind->why, sizeof(kind->why), "%s: %s", who, why);
                return hand_out(message, kind, &kind->block);
        }
        if (!kind || !*who || !*why || strcmp(mode, "delay") != 0)
                return sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "Invalid what, who, why or mode");
        if (kind->preparing)
                return sd_bus_error_setf(error, "org.freedesktop.login1.OperationInProgress", "The operation is already running");
        for (size_t i = 0; i < LOCKS_MAX; i++) {
                if (!kind->locks[i])
                        return hand_out(message, kind, &kind->locks[i]);
        }
        return -EMFILE;
}

static int read_kind(sd_bus_message *message, struct kind **ret, sd_bus_error *error)
{
        const char *what;
        int r = sd_bus_message_read(message, "s", &what);

        if (r < 0)
                return r;
        *ret = kind_of(what);
        return *ret ? 0 : sd_bus_error_setf(error, SD_BUS_ERROR_INVALID_ARGS, "sleep or shutdown");
}

static int on_await(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct kind *kind;
        int r = read_kind(message, &kind, error);

        (void)userdata;
        if (r < 0)
                return r;
        sd_bus_message_unref(kind->awaiting);
        kind->awaiting = sd_bus_message_ref(message);
        look(kind);
        return 1;
}

static int await_block(sd_bus_message *message, sd_bus_error *error, bool held)
{
        sd_bus_message **awaiting;
        struct kind *kind;
        int r = read_kind(message, &kind, error);

        if (r < 0)
                return r;
        awaiting = held ? &kind->awaiting_block : &kind->awaiting_free;
        sd_bus_message_unref(*awaiting);
        *awaiting = sd_bus_message_ref(message);
        look(kind);
        return 1;
}

static int on_await_block(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)userdata;
        return await_block(message, error, true);
}

static int on_await_free(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)userdata;
        return await_block(message, error, false);
}

static int on_may_begin(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct kind *kind;
        int r = read_kind(message, &kind, error);

        (void)userdata;
        return r < 0 ? r : sd_bus_reply_method_return(message, "bs", kind->block == NULL, kind->block ? kind->why : "");
}

static int on_deny(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        int r = sd_bus_message_read(message, "b", &denies);

        (void)userdata;
        (void)error;
        return r < 0 ? r : sd_bus_reply_method_return(message, "u", n_blocks);
}

static int announce(struct kind *kind, int begins)
{
        return sd_bus_emit_signal(bus, PATH, INTERFACE, kind->signal, "b", begins);
}

static int on_prepare(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct kind *kind;
        int r = read_kind(message, &kind, error);

        (void)userdata;
        if (r < 0)
                return r;
        sd_bus_message_unref(kind->preparing);
        kind->preparing = sd_bus_message_ref(message);
        kind->announced_at = now();
        r = announce(kind, 1);
        look(kind);
        return r < 0 ? r : 1;
}

static int on_over(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct kind *kind;
        int r = read_kind(message, &kind, error);

        (void)userdata;
        if (r >= 0)
                r = announce(kind, 0);
        return r < 0 ? r : sd_bus_reply_method_return(message, "");
}

static const sd_bus_vtable manager[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Inhibit", "ssss", "h", on_inhibit, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL("PrepareForSleep", "b", 0),
        SD_BUS_SIGNAL("PrepareForShutdown", "b", 0),
        SD_BUS_VTABLE_END
};

static const sd_bus_vtable commands[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Await", "s", "", on_await, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Prepare", "s", "t", on_prepare, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Over", "s", "", on_over, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("AwaitBlock", "s", "", on_await_block, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("AwaitFree", "s", "", on_await_free, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("MayBegin", "s", "bs", on_may_begin, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Deny", "b", "u", on_deny, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END
};

int main(int argc, char **argv)
{
        int r;

        if (argc != 2)
                return 2;
        r = sd_event_default(&event);
        if (r >= 0)
                r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, argv[1]);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, PATH, INTERFACE, manager, NULL);
        if (r >= 0)
                r = sd_bus_add_object_vtable(bus, NULL, PATH, "org.camrescue.Test.Logind", commands, NULL);
        if (r >= 0)
                r = sd_bus_request_name(bus, "org.freedesktop.login1", 0);
        if (r >= 0)
                r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0) {
                (void)puts("ready");
                (void)fflush(stdout);
                r = sd_event_loop(event);
        }
        (void)fprintf(stderr, "mock-logind: %s\n", strerror(-r));
        return 1;
}

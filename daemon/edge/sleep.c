/* SPDX-License-Identifier: MIT */
/*
 * Sleep and shutdown: see sleep.h.  The locks are taken one by one: whoever is
 * not root is denied one for both.
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
#include "edge/sleep.h"

#define LOGIND_NAME      "org.freedesktop.login1"
#define LOGIND_PATH      "/org/freedesktop/login1"
#define LOGIND_INTERFACE "org.freedesktop.login1.Manager"

#define LET_GO_DEADLINE (4500 * MSEC)   /* logind goes on without us after 5 s (InhibitDelayMaxSec=) */
#define BLOCK_DEADLINE  (300 * SEC)     /* no firmware takes longer, even among fifty on one hub; an AE3's ROMFS may, and what hangs is to block nobody for ever */

/* One of the two: what is announced, and the lock that delays it. */
struct lock {
        struct sleep *sleep;
        const char *what;               /* for logind */
        const char *why;                /* for people */
        enum inhibit_mode mode;
        int fd;                         /* -1: not held */
        sd_bus_slot *signal, *call;
        struct inhibitor *inhibitor;    /* from the announcement to its end */
        struct timer deadline;
};

/* The lock that blocks one of the two while a camera is written. */
struct block {
        struct sleep *sleep;
        const char *what;
        int fd;                         /* -1: not held */
        bool asked;                     /* since writing began: granted, denied or not answered yet */
        sd_bus_slot *call;
};

struct sleep {
        struct bus *bus;
        sd_bus_slot *owner;
        struct lock locks[2];
        struct block blocks[2];
        struct timer block_deadline;    /* of the first camera that is written for too long */
        bool denied;                    /* was said */
};

static void let_go(struct lock *lock)
{
        timer_clear(&lock->deadline);
        if (lock->fd >= 0)
                (void)close(take_fd(&lock->fd));
}

static void on_quiet(void *userdata)
{
        let_go(userdata);
}

static void on_late(void *userdata)
{
        struct lock *lock = userdata;

        log_warning("a device did not come to a safe boundary in time, and %s: letting go all the same", lock->why);
        let_go(lock);
}

/* --- locks --- */

static int on_lock(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct lock *lock = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int fd, r;

        lock->call = sd_bus_slot_unref(lock->call);
        if (e) {
                /* In a container there is nobody, and nothing to delay. */
                log_debug("no lock that delays \"%s\": %s", lock->what, e->message ?: e->name);
                return 1;
        }
        r = sd_bus_message_read(reply, "h", &fd);
        if (r >= 0 && lock->fd < 0)
                lock->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        log_debug("lock that delays \"%s\": %s", lock->what, lock->fd >= 0 ? "held" : "none");
        if (lock->inhibitor && !timer_is_set(&lock->deadline))
                let_go(lock);           /* too late to be of use */
        return 1;
}

static void ask_logind(struct bus *bus, const char *what, const char *why, const char *mode, sd_bus_message_handler_t on_answer,
                       void *userdata, sd_bus_slot **slot)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r;

        *slot = sd_bus_slot_unref(*slot);
        r = sd_bus_message_new_method_call(bus->connection, &call, LOGIND_NAME, LOGIND_PATH, LOGIND_INTERFACE, "Inhibit");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(call, 0);     /* nobody is woken for our sake */
        if (r >= 0)
                r = sd_bus_message_append(call, "ssss", what, "camrescued", why, mode);
        if (r >= 0)
                r = sd_bus_call_async(bus->connection, slot, call, on_answer, userdata, 0);
        if (r < 0)
                log_debug("cannot ask logind for a lock: %s", strerror(-r));
        defer_call(&bus->prepare);
}

static void take_lock(struct lock *lock)
{
        ask_logind(lock->sleep->bus, lock->what, "A camera's flash must not be left in the middle of a block", "delay", on_lock, lock,
                   &lock->call);
}

/* --- while a camera is written --- */

static int on_block(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct block *block = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(reply);
        int fd;

        block->call = sd_bus_slot_unref(block->call);
        if (e) {
                if (!block->sleep->denied && !sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER)) {
                        log_notice("the host's sleep is not blocked while a camera is written, only delayed: %s", e->message ?: e->name);
                        block->sleep->denied = true;
                }
                return 1;
        }
        if (sd_bus_message_read(reply, "h", &fd) >= 0 && block->fd < 0)
                block->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        log_debug("lock that blocks \"%s\": %s", block->what, block->fd >= 0 ? "held" : "none");
        return 1;
}

/* Who was asked and has not answered yet is not listened to any more: the bus closes what he sends. */
static void unblock(struct block *block)
{
        block->call = sd_bus_slot_unref(block->call);
        block->asked = false;
        if (block->fd >= 0) {
                (void)close(take_fd(&block->fd));
                log_debug("lock that blocks \"%s\": let go", block->what);
        }
}

static void look_at_writing(void *userdata)
{
        struct sleep *sleep = userdata;
        uint64_t next;
        bool writing = registry_writing(sleep->bus->registry, BLOCK_DEADLINE, &next) > 0;

        if (writing)
                timer_set(&sleep->block_deadline, next - loop_now(sleep->bus->loop));
        else
                timer_clear(&sleep->block_deadline);
        for (size_t i = 0; i < ELEMENTSOF(sleep->blocks); i++) {
                struct block *block = &sleep->blocks[i];

                if (!writing)
                        unblock(block);
                else if (!block->asked) {
                        block->asked = true;
                        ask_logind(sleep->bus, block->what, "A camera's firmware is being written", "block", on_block, block, &block->call);
                }
        }
}

static void on_camera(void *userdata, struct camera *camera)
{
        look_at_writing(userdata);
}

static const struct registry_observer observer = { .on_camera_changed = on_camera };

/* --- what is announced --- */

static void announced(struct lock *lock)
{
        if (lock->inhibitor)
                return;
        timer_set(&lock->deadline, LET_GO_DEADLINE);
        if (registry_inhibit(lock->sleep->bus->registry, NULL, "the host", lock->why, lock->mode, on_quiet, lock, &lock->inhibitor) < 0)
                let_go(lock);
}

/* It was, or comes to nothing. */
static void over(struct lock *lock)
{
        timer_clear(&lock->deadline);
        lock->inhibitor = inhibitor_lift(lock->inhibitor);
}

static int on_announcement(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct lock *lock = userdata;
        int begins;

        if (sd_bus_message_read(message, "b", &begins) < 0)
                return 0;
        if (begins)
                announced(lock);
        else {
                over(lock);
                if (lock->fd < 0)
                        take_lock(lock);
        }
        return 0;
}

/* logind came, went, or was restarted: locks of the old one are worth nothing, and what it announced is not taken back any more. */
static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct sleep *sleep = userdata;
        const char *name, *before, *now;

        if (sd_bus_message_read(message, "sss", &name, &before, &now) < 0)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(sleep->locks); i++) {
                over(&sleep->locks[i]);
                let_go(&sleep->locks[i]);
                unblock(&sleep->blocks[i]);
                if (*now)
                        take_lock(&sleep->locks[i]);
        }
        if (*now)
                look_at_writing(sleep);
        return 0;
}

/* --- birth and death --- */

int sleep_new(struct bus *bus, struct sleep **ret)
{
        static const char *const signals[] = { "PrepareForSleep", "PrepareForShutdown" };
        struct sleep *sleep = calloc(1, sizeof(*sleep));
        int r;

        if (!sleep)
                return -ENOMEM;
        sleep->bus = bus;
        sleep->locks[0] = (struct lock){ .sleep = sleep, .what = "sleep", .why = "it is going to sleep", .mode = INHIBIT_HOLD, .fd = -1 };
        sleep->locks[1] = (struct lock){ .sleep = sleep, .what = "shutdown", .why = "it is shut down", .mode = INHIBIT_RELEASE, .fd = -1 };
        for (size_t i = 0; i < ELEMENTSOF(sleep->locks); i++)
                timer_init(&sleep->locks[i].deadline, bus->loop, on_late, &sleep->locks[i]);
        for (size_t i = 0; i < ELEMENTSOF(sleep->blocks); i++)
                sleep->blocks[i] = (struct block){ .sleep = sleep, .what = sleep->locks[i].what, .fd = -1 };
        timer_init(&sleep->block_deadline, bus->loop, look_at_writing, sleep);
        (void)registry_observe(bus->registry, &observer, sleep);

        /* Listen first, then ask. */
        r = sd_bus_add_match_async(bus->connection, &sleep->owner,
                                   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                   "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" LOGIND_NAME "'",
                                   on_owner, NULL, sleep);
        for (size_t i = 0; i < ELEMENTSOF(sleep->locks) && r >= 0; i++)
                r = sd_bus_match_signal_async(bus->connection, &sleep->locks[i].signal, LOGIND_NAME, LOGIND_PATH, LOGIND_INTERFACE,
                                              signals[i], on_announcement, NULL, &sleep->locks[i]);
        if (r < 0) {
                (void)sleep_free(sleep);
                return r;
        }
        for (size_t i = 0; i < ELEMENTSOF(sleep->locks); i++)
                take_lock(&sleep->locks[i]);
        *ret = sleep;
        return 0;
}

struct sleep *sleep_free(struct sleep *sleep)
{
        if (!sleep)
                return NULL;
        registry_unobserve(sleep->bus->registry, &observer);
        timer_deinit(&sleep->block_deadline);
        for (size_t i = 0; i < ELEMENTSOF(sleep->blocks); i++)
                unblock(&sleep->blocks[i]);
        sd_bus_slot_unref(sleep->owner);
        for (size_t i = 0; i < ELEMENTSOF(sleep->locks); i++) {
                struct lock *lock = &sleep->locks[i];

                sd_bus_slot_unref(lock->signal);
                sd_bus_slot_unref(lock->call);
                (void)inhibitor_lift(lock->inhibitor);
                let_go(lock);
                timer_deinit(&lock->deadline);
        }
        free(sleep);
        return NULL;
}

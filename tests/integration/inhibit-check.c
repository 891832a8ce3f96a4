/* SPDX-License-Identifier: MIT */
/*
 * inhibit-check ADDRESS: what the client does not do with Manager.Inhibit.  Its
 * limits; and that the descriptor is the life, and not the caller's connection.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#define SERVICE "org.camrescue1"
#define MANAGER "org.camrescue1.Manager"
#define PER_SENDER 64
#define ALL 256
#define DEADLINE_USEC (20 * UINT64_C(1000000))

static const char *address;

static void fail(const char *what, int error)
{
        (void)fprintf(stderr, "%s: %s\n", what, strerror(-error));
        exit(1);
}

static sd_bus *connect_bus(void)
{
        sd_bus *bus = NULL;
        int r = sd_bus_new(&bus);

        if (r >= 0)
                r = sd_bus_set_address(bus, address);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                fail("no bus", r);
        return bus;
}

/* The descriptor; or -1 and the name of the error. */
static int inhibit(sd_bus *bus, char *name, size_t size)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int fd = -1, r;

        r = sd_bus_call_method(bus, SERVICE, "/org/camrescue1", MANAGER, "Inhibit", &error, &reply, "oss", "/", "inhibit-check", "because");
        if (r < 0)
                (void)snprintf(name, size, "%s", error.name);
        else {
                r = sd_bus_message_read(reply, "h", &fd);
                if (r < 0)
                        fail("no descriptor", r);
                fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        }
        sd_bus_error_free(&error);
        sd_bus_message_unref(reply);
        return fd;
}

static int n_inhibited(sd_bus *bus)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int n = 0, r;

        r = sd_bus_get_property(bus, SERVICE, "/org/camrescue1", MANAGER, "Inhibited", &error, &reply, "a(oss)");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(oss)");
        if (r < 0)
                fail("no property", r);
        while (sd_bus_message_skip(reply, "(oss)") > 0)
                n++;
        sd_bus_message_unref(reply);
        return n;
}

static int on_changed(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        (void)message;
        (void)error;
        ++*(unsigned *)userdata;
        return 0;
}

/* Until so many are told of; it is PropertiesChanged that wakes us. */
static void wait_inhibited(sd_bus *bus, int wanted)
{
        struct timespec t;
        uint64_t end;
        int r;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        end = (uint64_t)t.tv_sec * 1000000 + DEADLINE_USEC;
        while (n_inhibited(bus) != wanted) {
                uint64_t now;

                (void)clock_gettime(CLOCK_MONOTONIC, &t);
                now = (uint64_t)t.tv_sec * 1000000;
                if (now >= end)
                        fail("not told in time", -ETIMEDOUT);
                while ((r = sd_bus_process(bus, NULL)) > 0)
                        ;
                if (r >= 0)
                        r = sd_bus_wait(bus, end - now);
                if (r <= 0)
                        fail("not told in time", r ?: -ETIMEDOUT);
        }
}

int main(int argc, char **argv)
{
        static sd_bus *holders[ALL / PER_SENDER];
        static int fds[ALL];
        char name[128] = "";
        unsigned n_told = 0;
        sd_bus *watcher, *guest;
        int fd, r;

        if (argc != 2)
                return 2;
        address = argv[1];
        watcher = connect_bus();
        r = sd_bus_match_signal(watcher, NULL, SERVICE, "/org/camrescue1", "org.freedesktop.DBus.Properties", "PropertiesChanged", on_changed,
                                &n_told);
        if (r < 0)
                fail("no match", r);

        /* He leaves the bus, and has the descriptor. */
        guest = connect_bus();
        fd = inhibit(guest, name, sizeof(name));
        if (fd < 0)
                fail(name, -EPROTO);
        sd_bus_flush_close_unref(guest);
        wait_inhibited(watcher, 1);
        guest = connect_bus();          /* the bus has forgotten him by now: it answers in order */
        if (n_inhibited(guest) != 1)
                fail("his leaving the bus lifted it", -EPROTO);
        /* A copy keeps it. */
        r = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        (void)close(fd);
        if (n_inhibited(guest) != 1)
                fail("closing one copy lifted it", -EPROTO);
        /* Writing to it means nothing. */
        if (write(r, "hello", 5) != 5 || n_inhibited(guest) != 1)
                fail("writing lifted it", -EPROTO);
        (void)close(r);
        wait_inhibited(watcher, 0);

        for (int i = 0; i < ALL; i++) {
                sd_bus **holder = &holders[i / PER_SENDER];

                if (!*holder)
                        *holder = connect_bus();
                fds[i] = inhibit(*holder, name, sizeof(name));
                if (fds[i] < 0)
                        fail(name, -EPROTO);
                if (i != PER_SENDER - 1)
                        continue;
                if (inhibit(*holder, name, sizeof(name)) >= 0 || strcmp(name, SERVICE ".Error.LimitExceeded") != 0)
                        fail("one more of one caller", -EPROTO);
        }
        if (inhibit(guest, name, sizeof(name)) >= 0 || strcmp(name, SERVICE ".Error.LimitExceeded") != 0)
                fail("one more of all", -EPROTO);
        for (int i = 0; i < ALL; i++)
                (void)close(fds[i]);
        wait_inhibited(watcher, 0);
        for (size_t i = 0; i < sizeof(holders) / sizeof(holders[0]); i++)
                sd_bus_flush_close_unref(holders[i]);
        sd_bus_flush_close_unref(guest);

        /* All the time nobody had to ask. */
        while (n_told == 0) {
                r = sd_bus_process(watcher, NULL);
                if (r == 0)
                        r = sd_bus_wait(watcher, DEADLINE_USEC);
                if (r <= 0)
                        fail("PropertiesChanged was never heard", r ?: -ETIMEDOUT);
        }
        sd_bus_flush_close_unref(watcher);
        return 0;
}

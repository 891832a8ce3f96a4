/* SPDX-License-Identifier: MIT */
/*
 * mirror ADDRESS: a client that believes what the daemon tells.  It reads all objects
 * once, and from then on keeps them by signals alone.  It says "ready", and then,
 * for each line on its input:
 *
 *     compare     are the objects as they are read anew?  "same", or "differs" behind a line for each difference; within 5 s
 *     counts      "signals N values N again N": PropertiesChanged, values in them, and values that it had already
 *
 * Unasked it says what comes and goes: "added PATH (FIRMWARE)((REASON))" of an update, "firmware-added ID", "firmware-removed ID".
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#define SERVICE "org.camrescue1"
#define ROOT    "/org/camrescue1"
#define DEADLINE_USEC (5 * UINT64_C(1000000))

struct entry {
        char *name;                     /* path, interface and property */
        char *value;
};

struct mirror {
        struct entry *entries;
        size_t n;
};

static sd_bus *bus;
static struct mirror kept;
static unsigned n_signals, n_values, n_again;

__attribute__((noreturn)) static void die(const char *what, int r)
{
        (void)fprintf(stderr, "mirror: %s: %s\n", what, strerror(-r));
        exit(1);
}

static int must(int r, const char *what)
{
        if (r < 0)
                die(what, r);
        return r;
}

static uint64_t monotonic(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void mirror_clear(struct mirror *m)
{
        for (size_t i = 0; i < m->n; i++) {
                free(m->entries[i].name);
                free(m->entries[i].value);
        }
        free(m->entries);
        *m = (struct mirror){ .n = 0 };
}

static struct entry *mirror_find(const struct mirror *m, const char *name)
{
        for (size_t i = 0; i < m->n; i++)
                if (strcmp(m->entries[i].name, name) == 0)
                        return &m->entries[i];
        return NULL;
}

/* True if it was so before. */
static bool mirror_set(struct mirror *m, const char *path, const char *interface, const char *property, char *value)
{
        char name[512];
        struct entry *entry;
        bool same;

        (void)snprintf(name, sizeof(name), "%s %s %s", path, interface, property);
        entry = mirror_find(m, name);
        if (!entry) {
                m->entries = reallocarray(m->entries, m->n + 1, sizeof(*m->entries));
                if (!m->entries)
                        die("memory", -ENOMEM);
                m->entries[m->n++] = (struct entry){ .name = strdup(name), .value = value };
                return false;
        }
        same = strcmp(entry->value, value) == 0;
        free(entry->value);
        entry->value = value;
        return same;
}

static void mirror_remove(struct mirror *m, const char *path, const char *interface)
{
        char begin[512];

        (void)snprintf(begin, sizeof(begin), "%s %s ", path, interface);
        for (size_t i = 0; i < m->n;)
                if (strncmp(m->entries[i].name, begin, strlen(begin)) == 0) {
                        free(m->entries[i].name);
                        free(m->entries[i].value);
                        m->entries[i] = m->entries[--m->n];
                } else
                        i++;
}

/* --- reading --- */

static void print_one(sd_bus_message *m, FILE *f)
{
        const char *contents, *string;
        uint64_t number = 0;
        char type;

        must(sd_bus_message_peek_type(m, &type, &contents), "value");
        switch (type) {
        case 'a':
        case 'r':
        case 'v':
        case 'e':
                must(sd_bus_message_enter_container(m, type, contents), "value");
                (void)fputc('(', f);
                while (must(sd_bus_message_at_end(m, false), "value") == 0)
                        print_one(m, f);
                (void)fputc(')', f);
                must(sd_bus_message_exit_container(m), "value");
                break;
        case 's':
        case 'o':
                must(sd_bus_message_read_basic(m, type, &string), "value");
                (void)fprintf(f, "\"%s\" ", string);
                break;
        default:
                must(sd_bus_message_read_basic(m, type, &number), "value");
                (void)fprintf(f, "%llx ", (unsigned long long)number);
        }
}

static void read_properties(sd_bus_message *m, struct mirror *to, const char *path, const char *interface, bool told)
{
        must(sd_bus_message_enter_container(m, 'a', "{sv}"), "properties");
        while (must(sd_bus_message_enter_container(m, 'e', "sv"), "properties") > 0) {
                const char *property;
                char *value = NULL;
                size_t size;
                FILE *f;
                bool same;

                must(sd_bus_message_read(m, "s", &property), "properties");
                f = open_memstream(&value, &size);
                if (!f)
                        die("memory", -errno);
                print_one(m, f);
                (void)fclose(f);
                same = mirror_set(to, path, interface, property, value);
                if (told) {
                        n_values++;
                        n_again += same;
                        if (same)
                                (void)fprintf(stderr, "again: %s %s %s\n", path, property, value);
                }
                must(sd_bus_message_exit_container(m), "properties");
        }
        must(sd_bus_message_exit_container(m), "properties");
}

static void read_interfaces(sd_bus_message *m, struct mirror *to, const char *path)
{
        must(sd_bus_message_enter_container(m, 'a', "{sa{sv}}"), "interfaces");
        while (must(sd_bus_message_enter_container(m, 'e', "sa{sv}"), "interfaces") > 0) {
                const char *interface;

                must(sd_bus_message_read(m, "s", &interface), "interfaces");
                if (strncmp(interface, SERVICE ".", strlen(SERVICE ".")) == 0)
                        read_properties(m, to, path, interface, false);
                else
                        must(sd_bus_message_skip(m, "a{sv}"), "interfaces");
                must(sd_bus_message_exit_container(m), "interfaces");
        }
        must(sd_bus_message_exit_container(m), "interfaces");
}

static void read_all(struct mirror *to)
{
        sd_bus_message *reply = NULL;
        const char *path;

        mirror_clear(to);
        must(sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL, &reply, ""), "objects");
        must(sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}"), "objects");
        while (must(sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}"), "objects") > 0) {
                must(sd_bus_message_read(reply, "o", &path), "objects");
                read_interfaces(reply, to, path);
                must(sd_bus_message_exit_container(reply), "objects");
        }
        sd_bus_message_unref(reply);
        reply = NULL;
        must(sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.Properties", "GetAll", NULL, &reply, "s", SERVICE ".Manager"), "manager");
        read_properties(reply, to, ROOT, SERVICE ".Manager", false);
        sd_bus_message_unref(reply);
}

/* --- signals --- */

static const char *value_of(const char *path, const char *property)
{
        char name[512];
        const struct entry *entry;

        (void)snprintf(name, sizeof(name), "%s " SERVICE ".Update %s", path, property);
        entry = mirror_find(&kept, name);
        return entry ? entry->value : "";
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *path = sd_bus_message_get_path(m), *interface;

        (void)userdata;
        (void)error;
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged") > 0 &&
            sd_bus_message_has_signature(m, "sa{sv}as") > 0) {
                must(sd_bus_message_read(m, "s", &interface), "news");
                n_signals++;
                read_properties(m, &kept, path, interface, true);
        } else if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded") > 0) {
                must(sd_bus_message_read(m, "o", &path), "news");
                read_interfaces(m, &kept, path);
                if (strncmp(path, ROOT "/update/", strlen(ROOT "/update/")) == 0)
                        (void)printf("added %s %s(%s)\n", path, value_of(path, "Firmware"), value_of(path, "Reason"));
        } else if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved") > 0) {
                must(sd_bus_message_read(m, "o", &path), "news");
                must(sd_bus_message_enter_container(m, 'a', "s"), "news");
                while (must(sd_bus_message_read(m, "s", &interface), "news") > 0)
                        mirror_remove(&kept, path, interface);
        } else if (sd_bus_message_is_signal(m, SERVICE ".Manager", "FirmwareAdded") > 0) {
                must(sd_bus_message_read(m, "s", &path), "news");
                (void)printf("firmware-added %s\n", path);
        } else if (sd_bus_message_is_signal(m, SERVICE ".Manager", "FirmwareRemoved") > 0) {
                must(sd_bus_message_read(m, "s", &path), "news");
                (void)printf("firmware-removed %s\n", path);
        }
        (void)fflush(stdout);
        return 0;
}

/* What has come, and comes until then. */
static void hear(uint64_t until)
{
        uint64_t now;
        int r;

        for (;;) {
                r = must(sd_bus_process(bus, NULL), "process");
                if (r > 0)
                        continue;
                now = monotonic();
                if (now >= until)
                        return;
                must(sd_bus_wait(bus, until - now), "wait");
        }
}

/* --- commands --- */

static unsigned differences(const struct mirror *a, const struct mirror *b, bool both, bool print)
{
        unsigned n = 0;

        for (size_t i = 0; i < a->n; i++) {
                const struct entry *other = mirror_find(b, a->entries[i].name);

                if (other && (!both || strcmp(other->value, a->entries[i].value) == 0))
                        continue;
                n++;
                if (print)
                        (void)printf("%s: told %s, is %s\n", a->entries[i].name, both || !other ? a->entries[i].value : "", other ? other->value : "-");
        }
        return n;
}

static void compare(void)
{
        struct mirror fresh = { .n = 0 };
        uint64_t end = monotonic() + DEADLINE_USEC;
        bool last = false;

        for (;;) {
                read_all(&fresh);
                hear(monotonic() + 200000);
                last = monotonic() >= end;
                if (differences(&kept, &fresh, true, last) + differences(&fresh, &kept, false, last) == 0) {
                        (void)printf("same\n");
                        break;
                }
                if (last) {
                        (void)printf("differs\n");
                        break;
                }
        }
        mirror_clear(&fresh);
}

int main(int argc, char **argv)
{
        char line[64];
        size_t n = 0;

        if (argc != 2)
                return 2;
        must(sd_bus_new(&bus), "bus");
        must(sd_bus_set_address(bus, argv[1]), "bus");
        must(sd_bus_set_bus_client(bus, 1), "bus");
        must(sd_bus_start(bus), "bus");
        must(sd_bus_match_signal(bus, NULL, SERVICE, NULL, NULL, NULL, on_signal, NULL), "match");
        read_all(&kept);
        (void)printf("ready\n");
        (void)fflush(stdout);
        for (;;) {
                struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = sd_bus_get_fd(bus), .events = POLLIN } };

                hear(0);
                if (poll(fds, 2, -1) < 0)
                        die("poll", -errno);
                if (!fds[0].revents)
                        continue;
                if (read(STDIN_FILENO, line + n, 1) != 1)
                        break;
                if (line[n] != '\n') {
                        n += n + 2 < sizeof(line);
                        continue;
                }
                line[n] = '\0';
                n = 0;
                if (strcmp(line, "compare") == 0)
                        compare();
                else if (strcmp(line, "counts") == 0)
                        (void)printf("signals %u values %u again %u\n", n_signals, n_values, n_again);
                (void)fflush(stdout);
        }
        mirror_clear(&kept);
        sd_bus_flush_close_unref(bus);
        return 0;
}

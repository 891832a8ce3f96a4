/* SPDX-License-Identifier: MIT */
/*
 * A client as bad as they come, for the daemon on the bus at ADDRESS.
 *
 *     hostile ADDRESS garbage CAMERA UPDATE    every method of every object with arguments of every type and of the right type with
 *                                              no sense; each call must be answered, and every answer but a few be an error
 *     hostile ADDRESS crowd CAMERA N           one call that names the same camera N times
 *     hostile ADDRESS flood N MEMBER           N calls whose answers are never read, then says "sent" and stays until its input ends.
 *                                              MEMBER: Get, GetManagedObjects, ListFirmware, mixed
 *     hostile ADDRESS vanish N CALL CAMERA     N connections, each of which asks and is gone before the answer.
 *                                              CALL: GetHistory, Inhibit, ReloadConfig, Update, HoldInBootloader, ReadFlash, Release
 *     hostile ADDRESS audience N N CAMERAS     N clients that read everything and hear every signal, and N that hear, and never read; says
 *                                              "listening", and "heard" when the last that each of those who read was told of so many
 *                                              cameras is that they run; goes on until its input ends
 *     hostile ADDRESS besiege N [CAMERA]       N connections, each with 8 questions that need a permission, with CAMERA as large as they may be; says
 *                                              "asked" and stays until its input ends
 *     hostile ADDRESS signatures CAMERA N      one call with N options, each of a long type and without a value; its error's name
 *     hostile ADDRESS accept CAMERA...         100 updates of each camera, none of which is answered as long as the disk does not write, until one
 *                                              is refused as too much at a time
 *     hostile ADDRESS surge N                  N connections, each of which always has 100 such questions open, whatever the answers are; says
 *                                              "asked" when each has had hundreds, and goes on until its input ends
 *     hostile ADDRESS outlive CAMERA           8 calls of CAMERA.Update, "asked", and when all are answered, one that is to be answered well
 *     hostile ADDRESS burden CAMERA N MIB      N questions that need a permission, each with a text of so many MiB, and a small one before
 *                                              each; the small ones need not be answered, the others must be, as too large
 *     hostile ADDRESS pile N MIB               N images of so many MiB for AddFirmware, which the daemon finds all at once; each must be stored,
 *                                              or refused as too much at a time, and of several some and some.  Prints how many were
 *                                              stored, and how many not
 *     hostile ADDRESS holes MIB                an image of so many MiB, but for its end nothing but holes; others must be answered while it is read,
 *                                              and the holes stay
 *     hostile ADDRESS hoard CAMERA PARTITION N  reads a partition N times and keeps what it was given mapped; once it must be too
 *                                              much; closes it all, and has one more.  Prints how many there were
 *     hostile ADDRESS read CAMERA PARTITION    says "known" when the daemon knows whose it is; with a line on its input reads 40 KiB: "asked" as soon as
 *                                              the bus has the call, and then "done", or the error's name
 *     hostile ADDRESS descriptors N            one call of ReloadConfig with N descriptors; its error's name
 *     hostile ADDRESS error PATH INTERFACE MEMBER [KEY TEXT]   one call with options, of which one may be there; its error's name, or "none"
 *     hostile ADDRESS ping SECONDS N           N calls one after the other; the slowest in ms on standard output, or what failed
 *
 * Exit status 0: the daemon behaved.
 */

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>

#define SERVICE "org.camrescue1"
#define ROOT    "/org/camrescue1"
#define TIMEOUT_USEC (20 * UINT64_C(1000000))
#define LONG_TEXT (1u << 20)

static const char *address;

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        (void)vfprintf(stderr, format, ap);
        va_end(ap);
        (void)fputc('\n', stderr);
        exit(1);
}

static void must(int r, const char *what)
{
        if (r < 0)
                die("%s: %s", what, strerror(-r));
}

static sd_bus *connect_bus(void)
{
        sd_bus *bus = NULL;

        must(sd_bus_new(&bus), "bus");
        must(sd_bus_set_address(bus, address), "bus");
        must(sd_bus_set_bus_client(bus, 1), "bus");
        must(sd_bus_negotiate_fds(bus, 1), "bus");
        must(sd_bus_start(bus), "bus");
        return bus;
}

static int must_process(sd_bus *bus)
{
        int r = sd_bus_process(bus, NULL);

        must(r, "process");
        return r;
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        return sd_event_exit(userdata, 0);
}

/* For connections that all are to be heard; until the input ends. */
static sd_event *new_loop(void)
{
        sd_event *event = NULL;

        must(sd_event_new(&event), "loop");
        must(sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_input, event), "loop");
        return event;
}

/* One that is cut off fails it all. */
static sd_bus *connect_to_loop(sd_event *event)
{
        sd_bus *bus = connect_bus();

        must(sd_bus_set_exit_on_disconnect(bus, 1), "loop");
        must(sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL), "loop");
        return bus;
}

static void say(const char *word)
{
        (void)printf("%s\n", word);
        (void)fflush(stdout);
}

static sd_bus_message *new_call(sd_bus *bus, const char *path, const char *interface, const char *member)
{
        sd_bus_message *call = NULL;

        must(sd_bus_message_new_method_call(bus, &call, SERVICE, path, interface, member), "message");
        return call;
}

/* The last of this connection: its error's name, or the word for none. */
static int print_answer(sd_bus *bus, sd_bus_message *call, const char *none)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = sd_bus_call(bus, call, TIMEOUT_USEC, &error, NULL);

        (void)printf("%s\n", r < 0 ? error.name ? error.name : strerror(-r) : none);
        sd_bus_error_free(&error);
        sd_bus_message_unref(call);
        sd_bus_flush_close_unref(bus);
        return 0;
}

/* --- garbage --- */

static unsigned n_calls, n_errors;

/* Sends it, and wants an answer, whatever it says. */
static void ask(sd_bus *bus, sd_bus_message *call)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        int r = sd_bus_call(bus, call, TIMEOUT_USEC, &error, &reply);

        n_calls++;
        n_errors += r < 0;
        if (r == -ETIMEDOUT || r == -ECONNRESET || r == -ENOTCONN || sd_bus_error_has_names(&error, SD_BUS_ERROR_NO_REPLY,
            SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_DISCONNECTED))
                die("%s.%s at %s: %s", sd_bus_message_get_interface(call), sd_bus_message_get_member(call),
                    sd_bus_message_get_path(call), error.message ? error.message : strerror(-r));
        sd_bus_error_free(&error);
        sd_bus_message_unref(reply);
        sd_bus_message_unref(call);
}

static char *long_text(void)
{
        static char text[LONG_TEXT];

        if (!text[0])
                memset(text, '%', sizeof(text) - 1);
        return text;
}

static const char *const texts[] = {
        "", "%n%n%s%s", "/", "../../../etc/passwd", "\n\r\t\x1b[2J", "sha256:", "sha256:zz", "'; DROP TABLE cameras; --", "\xc3\xa9\xe2\x82\xac",
        "sha256:0000000000000000000000000000000000000000000000000000000000000000", "M7", "-", " ", "FIRMWARE", NULL /* the long one */,
};
#define N_TEXTS (sizeof(texts) / sizeof(texts[0]))

static const char *text_of(unsigned i)
{
        return texts[i % N_TEXTS] ? texts[i % N_TEXTS] : long_text();
}

static const char *path_of(unsigned i)
{
        static const char *const paths[] = { "/", ROOT, ROOT "/camera", ROOT "/camera/_", ROOT "/camera/__", ROOT "/camera/_zz_5", ROOT "/update/u0" };

        return paths[i % (sizeof(paths) / sizeof(paths[0]))];
}

/* What no program reads as an image: some of it never ends, or is no file. */
static int descriptor_of(unsigned i)
{
        static const size_t sizes[] = { 0, 1, 4, 16, 4096, (64u << 20) + 1 };
        int fd, ends[2];

        switch (i % 10) {
        case 0:
                return open("/dev/zero", O_RDONLY | O_CLOEXEC);
        case 1:
                return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        case 2:
                if (pipe2(ends, O_CLOEXEC) < 0)
                        die("pipe");
                (void)close(ends[1]);
                return ends[0];
        case 3:
                return open("/", O_PATH | O_CLOEXEC);
        default:
                fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
                if (fd < 0 || ftruncate(fd, (off_t)sizes[i % 10 - 4]) < 0 ||
                    (sizes[i % 10 - 4] && pwrite(fd, "PK\3\4", 4, 0) < 0) ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0)
                        die("memfd");
                return fd;
        }
}

/* One complete type, filled by lot; returns what comes behind it in the signature. */
static const char *append_type(sd_bus_message *m, const char *type, unsigned lot, unsigned depth)
{
        static const char *const inner[] = { "s", "b", "u", "ao", "a{sv}", "(ss)", "v", "ay", "d", "x", "g" };
        const uint64_t numbers[] = { 0, 1, UINT64_MAX, INT64_MAX, (uint64_t)INT64_MIN, INT_MAX, (uint64_t)INT_MIN, 7 };
        uint64_t number = numbers[lot % 8];
        char part[64];
        size_t n;
        int fd, flag;

        switch (*type) {
        case 'y': case 'n': case 'q': case 'i': case 'u': case 'x': case 't': case 'd':
                must(sd_bus_message_append_basic(m, *type, &number), "number");
                return type + 1;
        case 'b':
                flag = lot & 1;
                must(sd_bus_message_append_basic(m, 'b', &flag), "boolean");
                return type + 1;
        case 's':
                must(sd_bus_message_append_basic(m, 's', text_of(lot)), "string");
                return type + 1;
        case 'o':
                must(sd_bus_message_append_basic(m, 'o', path_of(lot)), "path");
                return type + 1;
        case 'g':
                must(sd_bus_message_append_basic(m, 'g', lot & 1 ? "a{sv}" : ""), "signature");
                return type + 1;
        case 'h':
                fd = descriptor_of(lot);
                must(sd_bus_message_append_basic(m, 'h', &fd), "descriptor");
                (void)close(fd);
                return type + 1;
        case 'v':
                must(sd_bus_message_open_container(m, 'v', depth > 20 ? "s" : inner[lot % 11]), "variant");
                (void)append_type(m, depth > 20 ? "s" : inner[lot % 11], lot / 2 + depth, depth + 1);
                must(sd_bus_message_close_container(m), "variant");
                return type + 1;
        case 'a':
                for (n = 1; type[n] == 'a'; n++)
                        ;
                if (type[n] == '{' || type[n] == '(')
                        n = (size_t)(strchr(type + n, type[n] == '{' ? '}' : ')') - type);
                (void)snprintf(part, sizeof(part), "%.*s", (int)n, type + 1);
                must(sd_bus_message_open_container(m, 'a', part), "array");
                for (unsigned i = 0; i < lot % 4; i++)
                        (void)append_type(m, part, lot + i, depth + 1);
                must(sd_bus_message_close_container(m), "array");
                return type + n + 1;
        case '{': case '(':
                n = (size_t)(strchr(type, *type == '{' ? '}' : ')') - type);
                (void)snprintf(part, sizeof(part), "%.*s", (int)n - 1, type + 1);
                must(sd_bus_message_open_container(m, *type == '{' ? 'e' : 'r', part), "structure");
                for (const char *inside = part; *inside;)
                        inside = append_type(m, inside, lot + depth, depth + 1);
                must(sd_bus_message_close_container(m), "structure");
                return type + n + 1;
        default:
                die("type %c", *type);
        }
}

static void garbage_for(sd_bus *bus, const char *path, const char *interface, const char *member, const char *right)
{
        static const char *const wrong[] = { "", "y", "b", "n", "q", "i", "u", "x", "t", "d", "s", "o", "g", "h", "v", "ay", "as", "ao", "ah",
                                             "a{sv}", "a{ss}", "(ss)", "a(oss)", "aoa{sv}", "ssssssss", "av", "aas", "hhhh" };
        static const char *const keys[] = { "firmware", "romfs", "erase-filesystem", "replace-unknown", "dry-run", "board", "partition", "version",
                                            "file", "stable", "", "%n" };
        static const char *const values[] = { "s", "b", "u", "v", "ao", "a{sv}" };
        size_t n = strlen(right);

        for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
                sd_bus_message *call = new_call(bus, path, interface, member);

                for (const char *type = wrong[i]; *type;)
                        type = append_type(call, type, (unsigned)i, 0);
                /* What happens to be right might even be done, which is not meant here. */
                if (strcmp(wrong[i], right) == 0)
                        sd_bus_message_unref(call);
                else
                        ask(bus, call);
        }
        for (unsigned lot = 0; right[0] && lot < 40; lot++) {
                sd_bus_message *call = new_call(bus, path, interface, member);

                for (const char *type = right; *type;)
                        type = append_type(call, type, lot, 0);
                ask(bus, call);
        }
        /* Each option with each type, alone and twice. */
        for (size_t k = 0; n >= 5 && strcmp(right + n - 5, "a{sv}") == 0 && k < sizeof(keys) / sizeof(keys[0]); k++)
                for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++)
                        for (unsigned times = 1; times <= 2; times++) {
                                sd_bus_message *call = new_call(bus, path, interface, member);

                                for (const char *type = right; type < right + n - 5;)
                                        type = append_type(call, type, (unsigned)(k * 8), 0);
                                must(sd_bus_message_open_container(call, 'a', "{sv}"), "options");
                                for (unsigned i = 0; i < times; i++) {
                                        must(sd_bus_message_open_container(call, 'e', "sv"), "options");
                                        must(sd_bus_message_append(call, "s", keys[k]), "options");
                                        must(sd_bus_message_open_container(call, 'v', values[v]), "options");
                                        (void)append_type(call, values[v], (unsigned)(k + v), 0);
                                        must(sd_bus_message_close_container(call), "options");
                                        must(sd_bus_message_close_container(call), "options");
                                }
                                must(sd_bus_message_close_container(call), "options");
                                ask(bus, call);
                        }
}

/* Every method that the object says it has, as its introspection describes it. */
static void garbage_at(sd_bus *bus, const char *path)
{
        char interface[128] = "", method[128] = "", types[128] = "";
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *xml;
        unsigned n = 0;

        must(sd_bus_call_method(bus, SERVICE, path, "org.freedesktop.DBus.Introspectable", "Introspect", &error, &reply, ""), path);
        must(sd_bus_message_read(reply, "s", &xml), "introspection");
        for (const char *tag = xml; (tag = strchr(tag, '<')); tag++) {
                char type[64], direction[8];

                if (sscanf(tag, "<interface name=\"%127[^\"]", interface) == 1)
                        continue;
                if (sscanf(tag, "<method name=\"%127[^\"]", method) == 1) {
                        const char *end = strchr(tag, '>');

                        types[0] = '\0';
                        if (end[-1] != '/')
                                continue;
                } else if (method[0] && sscanf(tag, "<arg type=\"%63[^\"]\" name=\"%*[^\"]\" direction=\"%7[^\"]", type, direction) == 2) {
                        if (strcmp(direction, "in") == 0)
                                (void)snprintf(types + strlen(types), sizeof(types) - strlen(types), "%s", type);
                        continue;
                } else if (!method[0] || strncmp(tag, "</method>", 9) != 0)
                        continue;
                garbage_for(bus, path, interface, method, types);
                method[0] = '\0';
                n++;
        }
        if (n < 2)
                die("%s: %u methods only", path, n);
        sd_bus_message_unref(reply);
}

static int garbage(char **paths)
{
        sd_bus *bus = connect_bus();

        garbage_at(bus, ROOT);
        for (; *paths; paths++)
                garbage_at(bus, *paths);
        (void)printf("%u calls, %u errors\n", n_calls, n_errors);
        sd_bus_flush_close_unref(bus);
        return n_calls < 500 || n_errors < n_calls / 2;
}

/* --- crowd --- */

static int crowd(const char *camera, unsigned n)
{
        sd_bus *bus = connect_bus();
        sd_bus_message *call = new_call(bus, ROOT, SERVICE ".Manager", "Update");

        must(sd_bus_message_open_container(call, 'a', "o"), "list");
        for (unsigned i = 0; i < n; i++)
                must(sd_bus_message_append(call, "o", camera), "list");
        must(sd_bus_message_close_container(call), "list");
        must(sd_bus_message_append(call, "a{sv}", 1, "dry-run", "b", 1), "list");
        return print_answer(bus, call, "done");
}

/* --- flood --- */

/* The bus itself refuses more than 128 calls that wait for their answer: a flood that is one waits until these are answered, which
 * another connection hears, and goes on. */
#define FLOOD_AT_ONCE 100

static int flood(unsigned n, const char *member)
{
        sd_bus *bus = connect_bus(), *other = connect_bus();
        int r;
        char c;

        /* Its own name must be there, or it could not call; after that it reads nothing. */
        must(sd_bus_get_unique_name(bus, &(const char *){ NULL }), "name");
        for (unsigned i = 0; i < n; i++) {
                bool mixed = strcmp(member, "mixed") == 0;
                sd_bus_message *call;

                if (strcmp(member, "Get") == 0 || (mixed && i % 3 == 0)) {
                        call = new_call(bus, ROOT, "org.freedesktop.DBus.Properties", "Get");
                        must(sd_bus_message_append(call, "ss", SERVICE ".Manager", "Version"), "call");
                } else if (strcmp(member, "ListFirmware") == 0 || (mixed && i % 3 == 1))
                        call = new_call(bus, ROOT, SERVICE ".Manager", "ListFirmware");
                else
                        call = new_call(bus, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
                must(sd_bus_send(bus, call, &(uint64_t){ 0 }), "send");      /* an answer is wanted, it says */
                sd_bus_message_unref(call);
                must(sd_bus_flush(bus), "flush");
                if (i % FLOOD_AT_ONCE == FLOOD_AT_ONCE - 1) {
                        r = sd_bus_call_method(other, SERVICE, ROOT, "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, "");

                        if (r < 0)
                                die("after %u calls: %s", i + 1, strerror(-r));
                }
        }
        say("sent");
        r = read(STDIN_FILENO, &c, 1) < 0;
        sd_bus_flush_close_unref(other);
        sd_bus_close_unref(bus);
        return r;
}

/* --- vanish --- */

static int vanish(unsigned n, const char *what, const char *camera)
{
        for (unsigned i = 0; i < n; i++) {
                sd_bus *bus = connect_bus();
                bool of_manager = strcmp(what, "Inhibit") == 0 || strcmp(what, "ReloadConfig") == 0;
                sd_bus_message *call = new_call(bus, of_manager ? ROOT : camera, of_manager ? SERVICE ".Manager" : SERVICE ".Camera", what);

                if (strcmp(what, "GetHistory") == 0)
                        must(sd_bus_message_append(call, "u", 0), "call");
                else if (strcmp(what, "Inhibit") == 0)
                        must(sd_bus_message_append(call, "oss", camera, "nobody", "gone"), "call");
                else if (strcmp(what, "Update") == 0 || strcmp(what, "HoldInBootloader") == 0 || strcmp(what, "Release") == 0)
                        must(sd_bus_message_append(call, "a{sv}", 0), "call");
                else if (strcmp(what, "ReadFlash") == 0)
                        must(sd_bus_message_append(call, "a{sv}", 1, "partition", "s", "FIRMWARE"), "call");
                must(sd_bus_message_set_allow_interactive_authorization(call, 1), "call");
                must(sd_bus_send(bus, call, &(uint64_t){ 0 }), "send");      /* an answer is wanted, it says */
                sd_bus_message_unref(call);
                /* Every other one waits until the daemon has begun with it. */
                if (i % 2)
                        must(sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, ""), "ping");
                sd_bus_flush_close_unref(bus);
        }
        return 0;
}

/* --- permissions --- */

#define QUESTIONS 8                     /* as many as the daemon lets one connection ask */

static void send_question(sd_bus *bus, const char *path, const char *interface, const char *member, const char *types)
{
        sd_bus_message *call = new_call(bus, path, interface, member);

        if (types[0])
                must(sd_bus_message_append(call, types, 0), "call");
        must(sd_bus_message_set_allow_interactive_authorization(call, 1), "call");
        must(sd_bus_send(bus, call, &(uint64_t){ 0 }), "send");
        sd_bus_message_unref(call);
}

/* Nearly as large as one may be, and so that 61 of them fill the room for all: 4 MiB, in which each takes 4 KiB and 8 bytes besides its text. */
static void send_large_question(sd_bus *bus, const char *camera)
{
        sd_bus_message *call = new_call(bus, camera, SERVICE ".Camera", "SetLabel");
        static char text[(4u << 20) / 61 - 4096 - 8 + 1];

        memset(text, 'a', sizeof(text) - 1);
        must(sd_bus_message_append(call, "s", text), "call");
        must(sd_bus_message_set_allow_interactive_authorization(call, 1), "call");
        must(sd_bus_send(bus, call, &(uint64_t){ 0 }), "send");
        sd_bus_message_unref(call);
}

static int besiege(unsigned n, const char *camera)
{
        char c;

        for (unsigned i = 0; i < n; i++) {
                sd_bus *bus = connect_bus();

                for (unsigned k = 0; k < QUESTIONS; k++)
                        if (camera)
                                send_large_question(bus, camera);
                        else
                                send_question(bus, ROOT, SERVICE ".Manager", "ReloadConfig", "");
                must(sd_bus_flush(bus), "flush");
                /* The same bus answers this one: the daemon has the questions when it does. */
                must(sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, ""), "ping");
        }
        say("asked");
        return read(STDIN_FILENO, &c, 1) < 0;
}

#define SURGE_AT_ONCE 100

struct surging {
        sd_bus *bus;
        unsigned answered;
};

static unsigned n_surging;              /* who has not been answered hundreds of times yet */

static void surge_on(struct surging *s, sd_bus_message_handler_t on_answer)
{
        must(sd_bus_call_method_async(s->bus, NULL, SERVICE, ROOT, SERVICE ".Manager", "ReloadConfig", on_answer, s, ""), "send");
}

static int on_surge_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct surging *s = userdata;

        if (++s->answered == 3 * SURGE_AT_ONCE && --n_surging == 0)
                say("asked");
        surge_on(s, on_surge_answer);
        return 0;
}

static int surge(unsigned n)
{
        struct surging *all = calloc(n, sizeof(*all));
        sd_event *event = new_loop();
        int r;

        if (!all)
                die("memory");
        n_surging = n;
        for (unsigned i = 0; i < n; i++) {
                all[i].bus = connect_to_loop(event);
                for (unsigned k = 0; k < SURGE_AT_ONCE; k++)
                        surge_on(&all[i], on_surge_answer);
        }
        r = sd_event_loop(event);
        for (unsigned i = 0; i < n; i++)
                sd_bus_close_unref(all[i].bus);
        (void)sd_event_unref(event);
        free(all);
        return r;
}

static int outlive(const char *camera)
{
        sd_bus *bus = connect_bus();
        sd_bus_error error = SD_BUS_ERROR_NULL;
        unsigned answered = 0;
        int r;

        for (unsigned k = 0; k < QUESTIONS; k++)
                send_question(bus, camera, SERVICE ".Camera", "Update", "a{sv}");
        must(sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, ""), "ping");
        say("asked");
        while (answered < QUESTIONS) {
                sd_bus_message *message = NULL;

                r = sd_bus_process(bus, &message);
                must(r, "process");
                if (r > 0 && message && sd_bus_message_is_method_error(message, SD_BUS_ERROR_UNKNOWN_OBJECT) > 0)
                        answered++;
                else if (r > 0 && message && (sd_bus_message_is_method_error(message, NULL) > 0 || sd_bus_message_get_reply_cookie(message, &(uint64_t){ 0 }) >= 0))
                        die("another answer than that there is no such camera");
                else if (r == 0 && sd_bus_wait(bus, TIMEOUT_USEC) == 0)
                        die("%u of %u answers", answered, QUESTIONS);
                sd_bus_message_unref(message);
        }
        r = sd_bus_call_method(bus, SERVICE, ROOT, SERVICE ".Manager", "ReloadConfig", &error, NULL, "");
        if (r < 0)
                die("%s: %s", error.name, error.message);
        sd_bus_flush_close_unref(bus);
        return 0;
}

/* --- burden --- */

/* An answer of a pipelined call, counted if it is the one that is meant. */
static int on_too_much(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);

        (void)error;
        if (!e || strcmp(e->name, SD_BUS_ERROR_LIMITS_EXCEEDED) != 0)
                die("the answer is %s%s%s", e ? e->name : "a good one", e ? ": " : "", e ? e->message : "");
        ++*(unsigned *)userdata;
        return 0;
}

static void process_or_wait(sd_bus *bus, const char *what)
{
        int r = must_process(bus);

        if (r == 0) {
                r = sd_bus_wait(bus, TIMEOUT_USEC);
                must(r, "wait");
                if (r == 0)
                        die("%s", what);
        }
}

static void process_or_wait_for_all(sd_bus **bus, unsigned n)
{
        struct pollfd fds[8];
        int done = 0;

        for (unsigned i = 0; i < n; i++) {
                done += must_process(bus[i]);
                must(sd_bus_get_events(bus[i]), "events");
                fds[i] = (struct pollfd){ .fd = sd_bus_get_fd(bus[i]), .events = (short)sd_bus_get_events(bus[i]) };
        }
        if (done == 0 && poll(fds, n, (int)(TIMEOUT_USEC / 1000)) <= 0)
                die("no answer");
}

static int burden(const char *camera, unsigned n, size_t size)
{
        sd_bus *bus = connect_bus();
        char *text = malloc(size + 1);
        unsigned answered = 0;

        if (!text)
                die("memory");
        memset(text, 'a', size);
        text[size] = '\0';
        for (unsigned i = 0; i < n; i++) {
                sd_bus_message *call = new_call(bus, camera, SERVICE ".Camera", "SetLabel");

                must(sd_bus_message_append(call, "s", text), "call");
                must(sd_bus_message_set_allow_interactive_authorization(call, 1), "call");
                send_question(bus, ROOT, SERVICE ".Manager", "ReloadConfig", "");
                must(sd_bus_call_async(bus, NULL, call, on_too_much, &answered, TIMEOUT_USEC), "send");
                sd_bus_message_unref(call);
        }
        free(text);
        while (answered < n)
                process_or_wait(bus, "no answer");
        sd_bus_flush_close_unref(bus);
        return 0;
}

static int signatures(const char *camera, unsigned n)
{
        sd_bus *bus = connect_bus();
        sd_bus_message *call = new_call(bus, camera, SERVICE ".Camera", "Update");
        char type[254] = "a(", *inner = type + 1;

        memset(type + 2, 'y', sizeof(type) - 4);
        type[sizeof(type) - 2] = ')';
        must(sd_bus_message_open_container(call, 'a', "{sv}"), "options");
        for (unsigned i = 0; i < n; i++) {
                must(sd_bus_message_open_container(call, 'e', "sv"), "option");
                must(sd_bus_message_append(call, "s", ""), "option");
                must(sd_bus_message_open_container(call, 'v', type), "option");
                must(sd_bus_message_open_container(call, 'a', inner), "option");
                for (unsigned k = 0; k < 3; k++)
                        must(sd_bus_message_close_container(call), "option");
        }
        must(sd_bus_message_close_container(call), "options");
        return print_answer(bus, call, "done");
}

/* --- updates --- */

static int on_accepted(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return sd_bus_message_get_error(m) ? on_too_much(m, userdata, error) : 0;
}

static int accept_updates(char **cameras)
{
        sd_bus *bus[8] = {};
        unsigned n = 0, too_much = 0;

        for (; cameras[n] && n < 8; n++) {
                bus[n] = connect_bus();
                for (unsigned i = 0; i < 100; i++)
                        must(sd_bus_call_method_async(bus[n], NULL, SERVICE, cameras[n], SERVICE ".Camera", "Update", on_accepted, &too_much,
                                                      "a{sv}", 0), "send");
        }
        /* The last one's are those that are too many. */
        while (too_much == 0)
                process_or_wait_for_all(bus, n);
        for (unsigned i = 0; i < n; i++)
                sd_bus_close_unref(bus[i]);
        return 0;
}

/* --- images --- */

/* Of size bytes, with end at its end; fill 0: the rest was never written. */
static int image_of(size_t size, int fill, const void *end, size_t end_size)
{
        int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        char part[4096];

        if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
                die("memfd");
        memset(part, fill, sizeof(part));
        for (size_t at = 0; fill && at < size; at += sizeof(part))
                if (pwrite(fd, part, sizeof(part), (off_t)at) != (ssize_t)sizeof(part))
                        die("memfd");
        if (pwrite(fd, end, end_size, (off_t)(size - end_size)) != (ssize_t)end_size ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK) < 0)
                die("memfd");
        return fd;
}

static void send_image(sd_bus *bus, int fd, sd_bus_message_handler_t on_answer, void *userdata)
{
        sd_bus_message *call = new_call(bus, ROOT, SERVICE ".Manager", "AddFirmware");

        must(sd_bus_message_append(call, "ha{sv}", fd, 2, "board", "s", "OPENMV_AE3", "partition", "s", "ROMFS0"), "call");
        must(sd_bus_call_async(bus, NULL, call, on_answer, userdata, 3 * TIMEOUT_USEC), "send");
        sd_bus_message_unref(call);
}

/* Stops the daemon; what is sent until it goes on is there all at once then. */
static pid_t stop_daemon(sd_bus *bus)
{
        sd_bus_creds *creds = NULL;
        pid_t pid;

        must(sd_bus_get_name_creds(bus, SERVICE, SD_BUS_CREDS_PID, &creds), "credentials");
        must(sd_bus_creds_get_pid(creds, &pid), "process");
        (void)sd_bus_creds_unref(creds);
        if (kill(pid, SIGSTOP) < 0)
                die("stop");
        return pid;
}

/* The bus answers when it has passed on what came before. */
static void continue_daemon(sd_bus *bus, pid_t pid)
{
        int r = sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, "");

        if (kill(pid, SIGCONT) < 0)
                die("continue");
        must(r, "ping");
}

static unsigned n_stored, n_too_much;

static int on_stored(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        if (!sd_bus_message_get_error(m))
                return (int)++n_stored;
        return on_too_much(m, userdata, error);
}

static int pile(unsigned n, size_t size)
{
        int *images = calloc(n, sizeof(*images));
        sd_bus *bus = connect_bus();
        pid_t daemon;

        if (!images)
                die("memory");
        for (unsigned i = 0; i < n; i++)
                images[i] = image_of(size, (int)i + 1, "end", 3);
        daemon = stop_daemon(bus);
        for (unsigned i = 0; i < n; i++) {
                send_image(bus, images[i], on_stored, &n_too_much);
                (void)close(images[i]);
        }
        continue_daemon(bus, daemon);
        free(images);
        while (n_stored + n_too_much < n)
                process_or_wait(bus, "no answer");
        (void)printf("%u %u\n", n_stored, n_too_much);
        sd_bus_flush_close_unref(bus);
        return n_stored == 0 || (n > 1 && n_too_much == 0);
}

static bool judged;

static int on_judged(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);

        (void)userdata;
        (void)error;
        if (!e || strcmp(e->name, SERVICE ".Error.ImageRefused") != 0 || !strstr(e->message, "bad-crc"))
                die("the answer is %s", e ? e->message : "a good one");
        judged = true;
        return 0;
}

#define MEANWHILE 100                   /* answers while it is read; when it is read in the loop there are a few, on the way to and from its thread */
#define HOLES_ROUNDS 10                 /* until the daemon is not held up by anything else */

struct meanwhile {
        sd_bus *bus;
        unsigned n;
        bool over;
};

static void ask_meanwhile(struct meanwhile *meanwhile, sd_bus_message_handler_t on_answer)
{
        must(sd_bus_call_method_async(meanwhile->bus, NULL, SERVICE, ROOT, "org.freedesktop.DBus.Properties", "Get", on_answer, meanwhile, "ss",
                                      SERVICE ".Manager", "Version"), "send");
}

static int on_version(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct meanwhile *meanwhile = userdata;

        meanwhile->over = judged;
        if (!judged) {
                meanwhile->n++;
                ask_meanwhile(meanwhile, on_version);
        }
        return 0;
}

static int holes(size_t size)
{
        static const unsigned char suffix[16] = { 0, 0, 0, 0, 0, 0, 0, 1, 'U', 'F', 'D', 16, 1, 2, 3, 4 };
        int fd = image_of(size, 0, suffix, sizeof(suffix));
        struct meanwhile meanwhile = { .bus = connect_bus() };
        struct stat before, after;

        if (fstat(fd, &before) < 0)
                die("stat");
        for (unsigned i = 0; i < HOLES_ROUNDS && meanwhile.n < MEANWHILE; i++) {
                judged = meanwhile.over = false;
                meanwhile.n = 0;
                send_image(meanwhile.bus, fd, on_judged, NULL);
                ask_meanwhile(&meanwhile, on_version);
                while (!judged || !meanwhile.over)
                        process_or_wait(meanwhile.bus, "no answer");
        }
        if (meanwhile.n < MEANWHILE)
                die("others are answered only when the image is judged");
        if (fstat(fd, &after) < 0 || after.st_blocks != before.st_blocks)
                die("it had %lld blocks, and has %lld", (long long)before.st_blocks, (long long)after.st_blocks);
        (void)close(fd);
        sd_bus_flush_close_unref(meanwhile.bus);
        return 0;
}

/* --- what was read --- */

/* Where it is mapped.  NULL: too much at a time. */
static void *read_partition(sd_bus *bus, const char *camera, const char *partition, size_t *ret_size, int *ret_fd)
{
        sd_bus_message *call = new_call(bus, camera, SERVICE ".Camera", "ReadFlash"), *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        struct stat st;
        void *bytes;
        int fd, r;

        must(sd_bus_message_append(call, "a{sv}", 1, "partition", "s", partition), "call");
        r = sd_bus_call(bus, call, 3 * TIMEOUT_USEC, &error, &reply);
        sd_bus_message_unref(call);
        if (r < 0 && sd_bus_error_has_name(&error, SD_BUS_ERROR_LIMITS_EXCEEDED)) {
                sd_bus_error_free(&error);
                return NULL;
        }
        if (r < 0)
                die("%s: %s", error.name, error.message);
        must(sd_bus_message_read(reply, "h", &fd), "answer");
        if (fstat(fd, &st) < 0 || st.st_size == 0)
                die("nothing was read");
        bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        *ret_size = (size_t)st.st_size;
        *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (bytes == MAP_FAILED || *ret_fd < 0)
                die("what was read cannot be used");
        sd_bus_message_unref(reply);
        return bytes;
}

static int hoard(const char *camera, const char *partition, unsigned n)
{
        sd_bus *bus = connect_bus();
        void **kept = calloc(n, sizeof(void *));
        size_t size = 0;
        unsigned i;
        int fd = -1;

        if (!kept)
                die("memory");
        for (i = 0; i < n && (kept[i] = read_partition(bus, camera, partition, &size, &fd)); i++)
                (void)close(fd);
        if (i == 0 || i == n)
                die("%u of %u times it was read", i, n);
        (void)printf("%u\n", i);
        for (unsigned k = 0; k < i; k++)
                (void)munmap(kept[k], size);
        if (!read_partition(bus, camera, partition, &size, &fd))
                die("all is closed, and it is too much all the same");
        free(kept);
        sd_bus_flush_close_unref(bus);
        return 0;
}

static int on_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const sd_bus_error *e = sd_bus_message_get_error(m);

        (void)error;
        (void)printf("%s\n", e ? e->name : "done");
        *(bool *)userdata = true;
        return 0;
}

static int read_once(const char *camera, const char *partition)
{
        sd_bus *bus = connect_bus();
        sd_bus_message *call = new_call(bus, camera, SERVICE ".Camera", "ReadFlash");
        bool done = false;
        char c;

        must(sd_bus_call_method(bus, SERVICE, ROOT, SERVICE ".Manager", "ReloadConfig", NULL, NULL, ""), "permission");
        (void)printf("known\n");
        (void)fflush(stdout);
        if (read(STDIN_FILENO, &c, 1) != 1)
                die("no word to begin");
        must(sd_bus_message_append(call, "a{sv}", 2, "partition", "s", partition, "length", "t", UINT64_C(40960)), "call");
        must(sd_bus_call_async(bus, NULL, call, on_read, &done, 3 * TIMEOUT_USEC), "send");
        sd_bus_message_unref(call);
        /* What came before, it has sent on. */
        must(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetId", NULL, NULL, ""), "bus");
        (void)printf("asked\n");
        (void)fflush(stdout);
        while (!done)
                process_or_wait(bus, "no answer");
        sd_bus_flush_close_unref(bus);
        return 0;
}

/* --- audience --- */

#define AUDIENCE_CAMERAS_MAX 32

struct listener {
        sd_bus *bus;
        struct {
                char path[128];
                bool runs;              /* as it was told last */
        } cameras[AUDIENCE_CAMERAS_MAX];
        unsigned n_cameras, n_running;
        bool heard;
};

static unsigned n_listening, n_awaited;

/* What the signal says of a camera's state; NULL: nothing. */
static const char *told_state(sd_bus_message *m)
{
        const char *interface, *key, *state;

        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged") <= 0)
                return NULL;
        must(sd_bus_message_read(m, "s", &interface), "signal");
        if (strcmp(interface, SERVICE ".Camera") != 0)
                return NULL;
        must(sd_bus_message_enter_container(m, 'a', "{sv}"), "signal");
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                must(sd_bus_message_read(m, "s", &key), "signal");
                if (strcmp(key, "State") == 0) {
                        must(sd_bus_message_read(m, "v", "s", &state), "signal");
                        return state;
                }
                must(sd_bus_message_skip(m, "v"), "signal");
                must(sd_bus_message_exit_container(m), "signal");
        }
        return NULL;
}

static int on_news(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct listener *l = userdata;
        const char *path = sd_bus_message_get_path(m), *state = told_state(m);
        bool runs = state && strcmp(state, "running") == 0;
        unsigned i = 0;

        if (!state)
                return 0;
        while (i < l->n_cameras && strcmp(l->cameras[i].path, path) != 0)
                i++;
        if (i == AUDIENCE_CAMERAS_MAX)
                die("too many cameras");
        if (i == l->n_cameras)
                (void)snprintf(l->cameras[l->n_cameras++].path, sizeof(l->cameras[i].path), "%s", path);
        l->n_running += runs - l->cameras[i].runs;
        l->cameras[i].runs = runs;
        if (!l->heard && l->n_running == n_awaited) {
                l->heard = true;
                if (--n_listening == 0)
                        say("heard");
        }
        return 0;
}

static int on_nothing(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        return 0;
}

static int audience(unsigned n, unsigned n_deaf, unsigned n_cameras)
{
        struct listener *listeners = calloc(n + n_deaf, sizeof(*listeners));
        sd_event *event = new_loop();
        int r;

        if (!listeners)
                die("memory");
        n_listening = n;
        n_awaited = n_cameras;
        for (unsigned i = 0; i < n + n_deaf; i++) {
                sd_bus *bus = listeners[i].bus = i < n ? connect_to_loop(event) : connect_bus();

                must(sd_bus_match_signal(bus, NULL, SERVICE, NULL, NULL, NULL, i < n ? on_news : on_nothing, &listeners[i]), "match");
                must(sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL, NULL, ""), "objects");
        }
        say("listening");
        r = sd_event_loop(event);
        for (unsigned i = 0; i < n + n_deaf; i++)
                sd_bus_close_unref(listeners[i].bus);
        (void)sd_event_unref(event);
        free(listeners);
        return r;
}

/* --- descriptors --- */

static int descriptors(unsigned n)
{
        sd_bus *bus = connect_bus();
        sd_bus_message *call = new_call(bus, ROOT, SERVICE ".Manager", "ReloadConfig");

        for (unsigned i = 0; i < n; i++)
                must(sd_bus_message_append(call, "h", STDIN_FILENO), "call");
        return print_answer(bus, call, "none");
}

/* --- error --- */

static int print_error(const char *path, const char *interface, const char *member, const char *key, const char *text)
{
        sd_bus *bus = connect_bus();
        sd_bus_message *call = new_call(bus, path, interface, member);

        must(sd_bus_message_open_container(call, 'a', "{sv}"), "options");
        if (key)
                must(sd_bus_message_append(call, "{sv}", key, "s", text), "options");
        must(sd_bus_message_close_container(call), "options");
        return print_answer(bus, call, "none");
}

/* --- ping --- */

static double seconds(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int ping(double deadline, unsigned n)
{
        sd_bus *bus = connect_bus();
        double slowest = 0;

        must(sd_bus_get_unique_name(bus, &(const char *){ NULL }), "name");
        for (unsigned i = 0; i < n; i++) {
                sd_bus_message *call = new_call(bus, ROOT, "org.freedesktop.DBus.Properties", "Get");
                sd_bus_error error = SD_BUS_ERROR_NULL;
                double begin = seconds();
                int r;

                must(sd_bus_message_append(call, "ss", SERVICE ".Manager", "Version"), "call");
                r = sd_bus_call(bus, call, (uint64_t)(deadline * 1e6), &error, NULL);
                if (r < 0)
                        die("not answered after %.0f ms: %s", (seconds() - begin) * 1e3, error.message ? error.message : strerror(-r));
                if (seconds() - begin > slowest)
                        slowest = seconds() - begin;
                sd_bus_message_unref(call);
        }
        (void)printf("%.1f\n", slowest * 1e3);
        sd_bus_flush_close_unref(bus);
        return 0;
}

int main(int argc, char **argv)
{
        const char *verb = argc > 2 ? argv[2] : "";

        address = argv[1];
        if (strcmp(verb, "garbage") == 0 && argc > 3)
                return garbage(argv + 3);
        if (strcmp(verb, "crowd") == 0 && argc == 5)
                return crowd(argv[3], (unsigned)atoi(argv[4]));
        if (strcmp(verb, "flood") == 0 && argc == 5)
                return flood((unsigned)atoi(argv[3]), argv[4]);
        if (strcmp(verb, "vanish") == 0 && argc == 6)
                return vanish((unsigned)atoi(argv[3]), argv[4], argv[5]);
        if (strcmp(verb, "besiege") == 0 && (argc == 4 || argc == 5))
                return besiege((unsigned)atoi(argv[3]), argc == 5 ? argv[4] : NULL);
        if (strcmp(verb, "signatures") == 0 && argc == 5)
                return signatures(argv[3], (unsigned)atoi(argv[4]));
        if (strcmp(verb, "accept") == 0 && argc > 3)
                return accept_updates(argv + 3);
        if (strcmp(verb, "surge") == 0 && argc == 4)
                return surge((unsigned)atoi(argv[3]));
        if (strcmp(verb, "outlive") == 0 && argc == 4)
                return outlive(argv[3]);
        if (strcmp(verb, "burden") == 0 && argc == 6)
                return burden(argv[3], (unsigned)atoi(argv[4]), (size_t)atoi(argv[5]) << 20);
        if (strcmp(verb, "pile") == 0 && argc == 5)
                return pile((unsigned)atoi(argv[3]), (size_t)atoi(argv[4]) << 20);
        if (strcmp(verb, "holes") == 0 && argc == 4)
                return holes((size_t)atoi(argv[3]) << 20);
        if (strcmp(verb, "hoard") == 0 && argc == 6)
                return hoard(argv[3], argv[4], (unsigned)atoi(argv[5]));
        if (strcmp(verb, "read") == 0 && argc == 5)
                return read_once(argv[3], argv[4]);
        if (strcmp(verb, "audience") == 0 && argc == 6)
                return audience((unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
        if (strcmp(verb, "descriptors") == 0 && argc == 4)
                return descriptors((unsigned)atoi(argv[3]));
        if (strcmp(verb, "error") == 0 && (argc == 6 || argc == 8))
                return print_error(argv[3], argv[4], argv[5], argc == 8 ? argv[6] : NULL, argc == 8 ? argv[7] : NULL);
        if (strcmp(verb, "ping") == 0 && argc == 5)
                return ping(atof(argv[3]), (unsigned)atoi(argv[4]));
        (void)fprintf(stderr, "Usage: hostile ADDRESS garbage|crowd|flood|vanish|besiege|signatures|accept|surge|outlive|burden|pile|holes|hoard|read|audience|descriptors|error|ping ARGUMENT...\n");
        return 2;
}

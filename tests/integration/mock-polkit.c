/* SPDX-License-Identifier: MIT */
/*
 * polkit as far as a daemon sees it: owns org.freedesktop.PolicyKit1 on the bus
 * given as argument, answers CheckAuthorization as it was last told on standard
 * input (yes, no, challenge, error, silent), and prints what it was asked.  "release":
 * who was met with silence is told yes now.
 */

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#define HELD_MAX 1024

static char mode[16] = "no";
static struct held {
        sd_bus_message *message;
        char cancellation[64];
} held[HELD_MAX];
static unsigned n_held;

static void must(int r, const char *what)
{
        if (r >= 0)
                return;
        fprintf(stderr, "mock-polkit: %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

static int on_check(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *kind, *key, *name, *action, *cancellation;
        unsigned flags;

        (void)userdata;
        must(sd_bus_message_enter_container(m, 'r', "sa{sv}"), "subject");
        must(sd_bus_message_read(m, "sa{sv}", &kind, 1, &key, "s", &name), "subject");
        must(sd_bus_message_exit_container(m), "subject");
        must(sd_bus_message_read(m, "s", &action), "action");
        must(sd_bus_message_skip(m, "a{ss}"), "details");
        must(sd_bus_message_read(m, "us", &flags, &cancellation), "flags");
        printf("asked %s %s %s%s\n", kind, action, name[0] == ':' ? "unique-name" : name, flags & 1 ? " interactive" : "");
        fflush(stdout);
        if (strcmp(mode, "silent") == 0) {
                if (n_held < HELD_MAX) {
                        held[n_held].message = sd_bus_message_ref(m);
                        snprintf(held[n_held++].cancellation, sizeof(held[0].cancellation), "%s", cancellation);
                }
                return 1;
        }
        if (strcmp(mode, "error") == 0)
                return sd_bus_error_set(error, "org.freedesktop.PolicyKit1.Error.Failed", "the mock was told to fail");
        return sd_bus_reply_method_return(m, "(bba{ss})", strcmp(mode, "yes") == 0, strcmp(mode, "challenge") == 0, 0);
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *cancellation;

        (void)userdata;
        (void)error;
        must(sd_bus_message_read(m, "s", &cancellation), "cancellation");
        for (unsigned i = 0; i < n_held; i++)
                if (cancellation[0] && strcmp(held[i].cancellation, cancellation) == 0) {
                        must(sd_bus_reply_method_errorf(held[i].message, "org.freedesktop.PolicyKit1.Error.Cancelled", "cancelled"), "reply");
                        sd_bus_message_unref(held[i].message);
                        held[i] = held[--n_held];
                        break;
                }
        printf("cancelled %s\n", cancellation);
        fflush(stdout);
        return sd_bus_reply_method_return(m, "");
}

static void release(void)
{
        while (n_held > 0) {
                sd_bus_message *m = held[--n_held].message;

                must(sd_bus_reply_method_return(m, "(bba{ss})", 1, 0, 0), "reply");
                sd_bus_message_unref(m);
        }
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CheckAuthorization", "(sa{sv})sa{ss}us", "(bba{ss})", on_check, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CancelCheckAuthorization", "s", "", on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int on_command(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        char line[64];
        ssize_t n = read(fd, line, sizeof(line) - 1);

        (void)events;
        (void)userdata;
        if (n <= 0)
                return sd_event_exit(sd_event_source_get_event(source), 0);
        line[n] = '\0';
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, "release") == 0) {
                release();
                return 0;
        }
        snprintf(mode, sizeof(mode), "%.*s", (int)sizeof(mode) - 1, line);
        printf("mode %s\n", mode);
        fflush(stdout);
        return 0;
}

int main(int argc, char *argv[])
{
        sd_event *event = NULL;
        sd_bus *bus = NULL;

        if (argc != 2)
                return 2;
        must(sd_event_default(&event), "event loop");
        must(sd_bus_new(&bus), "bus");
        must(sd_bus_set_address(bus, argv[1]), "address");
        must(sd_bus_set_bus_client(bus, 1), "bus");
        must(sd_bus_start(bus), "bus");
        must(sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority",
                                      vtable, NULL), "object");
        must(sd_bus_request_name(bus, "org.freedesktop.PolicyKit1", 0), "name");
        must(sd_bus_attach_event(bus, event, 0), "event loop");
        must(sd_event_add_io(event, NULL, STDIN_FILENO, EPOLLIN, on_command, NULL), "standard input");
        puts("ready");
        fflush(stdout);
        must(sd_event_loop(event), "event loop");
        while (n_held > 0)
                sd_bus_message_unref(held[--n_held].message);
        sd_bus_flush_close_unref(bus);
        sd_event_unref(event);
        return 0;
}

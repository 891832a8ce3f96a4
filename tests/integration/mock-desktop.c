/* SPDX-License-Identifier: MIT */
/*
 * A desktop that shows nothing: serves org.freedesktop.Notifications on the
 * session bus and tells what it would show.  As mock-daemon: one command per
 * line, each answered by "ok"; calls are told in order with the answers.
 *
 *   "notify ID REPLACES|SUMMARY|BODY|ACTIONS|TIMEOUT"   and   "close ID"
 *
 *   action|ID|KEY        a button was pressed
 *   closed|ID|REASON     1 expired, 2 by the person
 *   capabilities|A,B     from now on
 *   fail | succeed       Notify
 *   release, own         the bus name; numbers begin anew
 *   nothing              is only answered
 *   quit
 */

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NAME "org.freedesktop.Notifications"
#define ROOT "/org/freedesktop/Notifications"

static struct mock {
        sd_bus *bus;
        sd_event *event;
        uint32_t last_id;
        char capabilities[256];
        bool failing;
        char input[4096];
        size_t n_input;
} mock;

static void must(int r, const char *what)
{
        if (r >= 0)
                return;
        fprintf(stderr, "mock-desktop: %s: %s\n", what, strerror(-r));
        exit(99);
}

static int on_notify(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *application, *icon, *summary, *body, *action;
        uint32_t replaces, id;
        int32_t timeout;

        must(sd_bus_message_read(m, "susss", &application, &replaces, &icon, &summary, &body), "Notify");
        id = replaces ? replaces : ++mock.last_id;
        printf("notify %u %u|%s|%s|", id, replaces, summary, body);
        must(sd_bus_message_enter_container(m, 'a', "s"), "actions");
        for (int i = 0; sd_bus_message_read(m, "s", &action) > 0; i++)
                printf("%s%s", i ? "," : "", action);
        must(sd_bus_message_exit_container(m), "actions");
        must(sd_bus_message_skip(m, "a{sv}"), "hints");
        must(sd_bus_message_read(m, "i", &timeout), "timeout");
        printf("|%d\n", timeout);
        fflush(stdout);
        if (mock.failing)
                return sd_bus_error_set(error, SD_BUS_ERROR_FAILED, "No screen");
        return sd_bus_reply_method_return(m, "u", id);
}

static int on_close(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        uint32_t id;

        must(sd_bus_message_read(m, "u", &id), "CloseNotification");
        printf("close %u\n", id);
        fflush(stdout);
        must(sd_bus_emit_signal(mock.bus, ROOT, NAME, "NotificationClosed", "uu", id, 3u), "NotificationClosed");
        return sd_bus_reply_method_return(m, NULL);
}

static int on_capabilities(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        char list[256], *rest = list, *item;

        snprintf(list, sizeof(list), "%s", mock.capabilities);
        must(sd_bus_message_new_method_return(m, &reply), "reply");
        must(sd_bus_message_open_container(reply, 'a', "s"), "reply");
        while ((item = strsep(&rest, ",")))
                if (*item)
                        must(sd_bus_message_append(reply, "s", item), "reply");
        must(sd_bus_message_close_container(reply), "reply");
        return sd_bus_send(NULL, reply, NULL);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Notify", "susssasa{sv}i", "u", on_notify, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("CloseNotification", "u", "", on_close, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("GetCapabilities", "", "as", on_capabilities, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL("ActionInvoked", "us", 0),
        SD_BUS_SIGNAL("NotificationClosed", "uu", 0),
        SD_BUS_VTABLE_END
};

static void command(char *line)
{
        char *fields[3] = { line, NULL, NULL };

        for (size_t i = 1; i < ELEMENTSOF(fields) && (fields[i] = strchr(fields[i - 1], '|')); i++)
                *fields[i]++ = '\0';
        if (strcmp(line, "action") == 0 && fields[2])
                must(sd_bus_emit_signal(mock.bus, ROOT, NAME, "ActionInvoked", "us", (uint32_t)atoi(fields[1]), fields[2]), line);
        else if (strcmp(line, "closed") == 0 && fields[2])
                must(sd_bus_emit_signal(mock.bus, ROOT, NAME, "NotificationClosed", "uu", (uint32_t)atoi(fields[1]),
                                        (uint32_t)atoi(fields[2])), line);
        else if (strcmp(line, "capabilities") == 0 && fields[1])
                snprintf(mock.capabilities, sizeof(mock.capabilities), "%s", fields[1]);
        else if (strcmp(line, "fail") == 0 || strcmp(line, "succeed") == 0)
                mock.failing = *line == 'f';
        else if (strcmp(line, "release") == 0)
                must(sd_bus_release_name(mock.bus, NAME), line);
        else if (strcmp(line, "own") == 0) {
                mock.last_id = 0;
                must(sd_bus_request_name(mock.bus, NAME, 0), line);
        } else if (strcmp(line, "quit") == 0)
                must(sd_event_exit(mock.event, 0), line);
        else if (strcmp(line, "nothing") != 0)
                must(-EINVAL, line);
        must(sd_bus_flush(mock.bus), "flush");
        puts("ok");
        fflush(stdout);
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        ssize_t n = read(fd, mock.input + mock.n_input, sizeof(mock.input) - mock.n_input);
        char *end;

        if (n <= 0)
                return sd_event_exit(mock.event, 0);
        mock.n_input += (size_t)n;
        while ((end = memchr(mock.input, '\n', mock.n_input))) {
                size_t used = (size_t)(end + 1 - mock.input);

                *end = '\0';
                command(mock.input);
                mock.n_input -= used;
                memmove(mock.input, mock.input + used, mock.n_input);
        }
        return 0;
}

int main(void)
{
        sd_bus_slot *slot;

        snprintf(mock.capabilities, sizeof(mock.capabilities), "body,body-markup,actions");
        must(sd_event_new(&mock.event), "event");
        must(sd_bus_open_user(&mock.bus), "session bus");
        must(sd_bus_add_object_vtable(mock.bus, &slot, ROOT, NAME, vtable, NULL), "vtable");
        must(sd_bus_request_name(mock.bus, NAME, 0), "name");
        must(sd_bus_attach_event(mock.bus, mock.event, 0), "attach");
        must(sd_event_add_io(mock.event, NULL, STDIN_FILENO, EPOLLIN, on_input, NULL), "input");
        puts("ok");
        fflush(stdout);
        must(sd_event_loop(mock.event), "loop");
        sd_bus_slot_unref(slot);
        sd_bus_flush_close_unref(mock.bus);
        sd_event_unref(mock.event);
        return 0;
}

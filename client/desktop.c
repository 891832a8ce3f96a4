/* SPDX-License-Identifier: MIT */
/*
 * Notifications on a person's desktop.  Each note has at most one call under
 * way; what changes meanwhile is sent when it has been answered, because only
 * then its number is known by which it can be replaced.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/desktop.h"
#include "client/text.h"

#define SERVER "org.freedesktop.Notifications"
#define SERVER_PATH "/org/freedesktop/Notifications"
#define NEVER 0                         /* expire_timeout */
#define AS_USUAL (-1)
#define CLOSED_BY_PERSON 2u

struct desktop {
        sd_bus *bus;
        sd_bus_slot *signals, *owner, *capabilities;
        bool has_actions, has_markup;
        bool closing;
        void (*on_lost)(void *userdata);
        void *userdata;
        LIST_HEAD(, note) notes;
};

static int send_note(struct note *note);

/* --- one note --- */

/* A server that knows markup would take "<" for its beginning. */
static char *escape(const char *text)
{
        char *escaped = NULL;
        size_t size;
        FILE *f = open_memstream(&escaped, &size);

        if (!f)
                return NULL;
        for (; *text; text++)
                switch (*text) {
                case '<':
                        (void)fputs("&lt;", f);
                        break;
                case '>':
                        (void)fputs("&gt;", f);
                        break;
                case '&':
                        (void)fputs("&amp;", f);
                        break;
                default:
                        (void)fputc(*text, f);
                }
        if (fclose(f) != 0) {
                free(escaped);
                return NULL;
        }
        return escaped;
}

static void close_id(struct desktop *desktop, uint32_t id)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;

        if (id == 0 || sd_bus_message_new_method_call(desktop->bus, &call, SERVER, SERVER_PATH, SERVER, "CloseNotification") < 0 ||
            sd_bus_message_append(call, "u", id) < 0)
                return;
        (void)sd_bus_message_set_auto_start(call, false);
        (void)sd_bus_message_set_expect_reply(call, false);
        (void)sd_bus_send(desktop->bus, call, NULL);
}

static void send_close(struct note *note)
{
        close_id(note->desktop, note->id);
        note->id = 0;
}

static int on_shown(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct desktop *desktop = userdata;
        sd_bus_slot *slot = sd_bus_get_current_slot(desktop->bus);
        struct note *note;
        uint32_t id;
        bool shown = !sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "u", &id) >= 0;

        LIST_FOREACH(note, &desktop->notes, link)
                if (note->call == slot)
                        break;
        /* Its owner has gone meanwhile. */
        if (!note) {
                if (shown)
                        close_id(desktop, id);
                return 0;
        }
        note->call = sd_bus_slot_unref(note->call);
        /* No server, or a broken one: shown when the next one comes. */
        if (!shown) {
                note->id = 0;
                note->changed = note->wanted;
                return 0;
        }
        note->id = id;
        if (!note->wanted)
                send_close(note);
        else if (note->changed)
                (void)send_note(note);
        return 0;
}

static int send_note(struct note *note)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        struct desktop *desktop = note->desktop;
        _cleanup_free_ char *escaped = NULL;
        int r;

        if (note->call)
                return 0;
        if (desktop->has_markup) {
                escaped = escape(note->body);
                if (!escaped)
                        return -ENOMEM;
        }
        r = sd_bus_message_new_method_call(desktop->bus, &call, SERVER, SERVER_PATH, SERVER, "Notify");
        if (r >= 0)
                r = sd_bus_message_append(call, "susss", "camrescue", note->id, "camera-web", note->summary,
                                          escaped ? escaped : note->body);
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "s");
        for (const char *const *action = note->actions; r >= 0 && action && *action && desktop->has_actions; action++)
                r = sd_bus_message_append(call, "s", *action);
        if (r >= 0)
                r = sd_bus_message_close_container(call);
        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}i", 2, "urgency", "y", 1, "category", "s", "device",
                                          note->stands ? NEVER : AS_USUAL);
        if (r >= 0)
                r = sd_bus_call_async(desktop->bus, &note->call, call, on_shown, desktop, 0);
        if (r >= 0)
                note->changed = false;
        return r;
}

void note_init(struct note *note, struct desktop *desktop, void (*on_action)(void *userdata, const char *key), void *userdata)
{
        *note = (struct note){ .desktop = desktop, .on_action = on_action, .userdata = userdata };
        LIST_INSERT_HEAD(&desktop->notes, note, link);
}

void note_deinit(struct note *note)
{
        if (!note->desktop)
                return;
        LIST_REMOVE(note, link);
        /* Its number is still to come, by which it is taken from the screen. */
        if (note->call)
                (void)sd_bus_slot_set_floating(note->call, true);
        sd_bus_slot_unref(note->call);
        free(note->summary);
        free(note->body);
        *note = (struct note){ .id = 0 };
}

int note_show(struct note *note, const char *summary, const char *body, const char *const *actions, bool stands)
{
        char *s = text_clean(summary, /* utf8= */ true), *b = text_clean(body, /* utf8= */ true);

        if (!s || !b) {
                free(s);
                free(b);
                return -ENOMEM;
        }
        free(note->summary);
        free(note->body);
        note->summary = s;
        note->body = b;
        note->actions = actions;
        note->stands = stands;
        note->wanted = true;
        note->changed = true;
        return send_note(note);
}

void note_close(struct note *note)
{
        note->wanted = false;
        if (!note->call)
                send_close(note);
}

/* --- the server --- */

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct desktop *desktop = userdata;
        const char *key = NULL;
        uint32_t id, reason = 0;
        struct note *note;

        if (sd_bus_message_is_signal(m, SERVER, "ActionInvoked")) {
                if (sd_bus_message_read(m, "us", &id, &key) < 0)
                        return 0;
        } else if (!sd_bus_message_is_signal(m, SERVER, "NotificationClosed") || sd_bus_message_read(m, "uu", &id, &reason) < 0) {
                return 0;
        }
        LIST_FOREACH(note, &desktop->notes, link)
                if (note->id == id && id != 0)
                        break;
        if (!note)
                return 0;
        if (key) {
                if (note->actions && note->on_action)
                        note->on_action(note->userdata, key);
                return 0;
        }
        note->id = 0;
        if (reason == CLOSED_BY_PERSON || !note->stands)
                note->wanted = false;
        return 0;
}

static int on_capabilities(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct desktop *desktop = userdata;
        bool had_actions = desktop->has_actions;
        const char *name;
        struct note *note;

        desktop->capabilities = sd_bus_slot_unref(desktop->capabilities);
        desktop->has_actions = desktop->has_markup = false;
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_enter_container(m, 'a', "s") < 0)
                return 0;
        while (sd_bus_message_read(m, "s", &name) > 0) {
                desktop->has_actions = desktop->has_actions || strcmp(name, "actions") == 0;
                desktop->has_markup = desktop->has_markup || strcmp(name, "body-markup") == 0;
        }
        /* What there was no server for, and what stands: after a restart of the server none is on the screen; at the beginning their
         * buttons may be missing. */
        LIST_FOREACH(note, &desktop->notes, link)
                if (note->wanted && (note->changed || (note->stands && note->id == 0 && !note->call) ||
                                     (note->actions && had_actions != desktop->has_actions))) {
                        note->changed = true;
                        (void)send_note(note);
                }
        return 0;
}

static int ask_capabilities(struct desktop *desktop)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r;

        r = sd_bus_message_new_method_call(desktop->bus, &call, SERVER, SERVER_PATH, SERVER, "GetCapabilities");
        if (r < 0)
                return r;
        desktop->capabilities = sd_bus_slot_unref(desktop->capabilities);
        return sd_bus_call_async(desktop->bus, &desktop->capabilities, call, on_capabilities, desktop, 0);
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct desktop *desktop = userdata;
        const char *name, *before, *after;
        struct note *note;

        if (sd_bus_message_read(m, "sss", &name, &before, &after) < 0)
                return 0;
        if (*before)
                LIST_FOREACH(note, &desktop->notes, link) {
                        note->id = 0;
                        note->wanted = note->wanted && (note->stands || note->changed);
                }
        if (*after)
                (void)ask_capabilities(desktop);
        return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct desktop *desktop = userdata;

        if (!desktop->closing)
                desktop->on_lost(desktop->userdata);
        return 0;
}

bool desktop_has_actions(const struct desktop *desktop)
{
        return desktop->has_actions;
}

static int subscribe(struct desktop *desktop, sd_event *event)
{
        int r;

        r = sd_bus_add_match_async(desktop->bus, &desktop->signals,
                                   "type='signal',sender='" SERVER "',path='" SERVER_PATH "',interface='" SERVER "'",
                                   on_signal, NULL, desktop);
        if (r >= 0)
                r = sd_bus_add_match_async(desktop->bus, &desktop->owner,
                                           "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                           "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" SERVER "'",
                                           on_owner, NULL, desktop);
        if (r >= 0)
                r = sd_bus_match_signal(desktop->bus, NULL, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
                                        "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, desktop);
        if (r >= 0)
                r = sd_bus_attach_event(desktop->bus, event, SD_EVENT_PRIORITY_NORMAL);
        return r;
}

enum exit_code desktop_new(const struct client *client, sd_event *event, const char *bus_name, void (*on_lost)(void *userdata),
                           void *userdata, struct desktop **ret)
{
        _cleanup_(desktop_freep) struct desktop *desktop = calloc(1, sizeof(*desktop));
        int r;

        if (!desktop)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        desktop->on_lost = on_lost;
        desktop->userdata = userdata;
        r = sd_bus_open_user(&desktop->bus);
        if (r >= 0)
                r = subscribe(desktop, event);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot connect to the session's bus: %s.", strerror(-r));
        r = sd_bus_request_name(desktop->bus, bus_name, 0);
        if (r == -EEXIST)
                return client_fail(client, EXIT_REFUSED, "It runs in this session already.");
        if (r >= 0)
                r = ask_capabilities(desktop);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot use the session's bus: %s.", strerror(-r));
        *ret = take_ptr(desktop);
        return EXIT_DONE;
}

struct desktop *desktop_free(struct desktop *desktop)
{
        struct note *note;

        if (!desktop)
                return NULL;
        desktop->closing = true;
        while ((note = LIST_FIRST(&desktop->notes)))
                note_deinit(note);
        sd_bus_slot_unref(desktop->signals);
        sd_bus_slot_unref(desktop->owner);
        sd_bus_slot_unref(desktop->capabilities);
        sd_bus_flush_close_unref(desktop->bus);
        free(desktop);
        return NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue notify: what happens to cameras, on a person's desktop.  One note
 * per camera, which the next one replaces: what an update came to, and what
 * needs a hand.  Where the daemon waits for the user's word there is a button;
 * it is asked once per attachment, and what is answered is the daemon's to judge.
 */

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/describe.h"
#include "client/desktop.h"
#include "client/json.h"

#define NOTIFY_NAME "org.camrescue1.Notify"

/* What is known of one camera here. */
struct told {
        struct notify *notify;
        char *camera;                   /* object path */
        char *board;                    /* which the question is about; NULL: none was asked */
        char *text;                     /* what was shown of it last in this attachment, or need not be shown */
        char *node;                     /* of this attachment */
        bool attached;
        bool advice;                    /* what is on the screen is what should be done */
        bool offered;                   /* ... with a button that does it */
        bool seen;                      /* in the daemon's list when it was read last */
        struct note note;
        sd_bus_slot *call;              /* Recover */
        LIST_ENTRY(told) link;          /* in notify */
};

/* An update whose end was told. */
struct ended {
        char *update;                   /* object path */
        LIST_ENTRY(ended) link;         /* in notify */
};

struct notify {
        struct client *client;
        struct bus *bus;
        struct desktop *desktop;
        bool read;                      /* the daemon's list was read once: what had ended before is no news */
        enum exit_code code;
        LIST_HEAD(, told) told;
        LIST_HEAD(, ended) ended;
};

/* Nobody would hear the buttons.  Before the loop ends: sd-bus closes its connection with it. */
static void finish(struct notify *notify, enum exit_code code)
{
        struct told *told;

        LIST_FOREACH(told, &notify->told, link)
                if (told->board || told->offered)
                        note_close(&told->note);
        notify->code = code;
        (void)sd_event_exit(bus_event(notify->bus), 0);
}

/* --- what was told --- */

static void told_free(struct told *told)
{
        LIST_REMOVE(told, link);
        note_close(&told->note);
        note_deinit(&told->note);
        sd_bus_slot_unref(told->call);
        free(told->camera);
        free(told->board);
        free(told->text);
        free(told->node);
        free(told);
}

static void on_action(void *userdata, const char *key);

static struct told *told_of(struct notify *notify, const char *path)
{
        struct told *told;

        LIST_FOREACH(told, &notify->told, link)
                if (strcmp(told->camera, path) == 0)
                        return told;
        told = calloc(1, sizeof(*told));
        if (!told)
                return NULL;
        told->notify = notify;
        told->camera = strdup(path);
        told->node = strdup("");
        note_init(&told->note, notify->desktop, on_action, told);
        LIST_INSERT_HEAD(&notify->told, told, link);
        if (!told->camera || !told->node) {
                told_free(told);
                return NULL;
        }
        return told;
}

static struct ended *ended_find(struct notify *notify, const char *update)
{
        struct ended *ended;

        LIST_FOREACH(ended, &notify->ended, link)
                if (strcmp(ended->update, update) == 0)
                        return ended;
        return NULL;
}

static void ended_free(struct ended *ended)
{
        if (!ended)
                return;
        LIST_REMOVE(ended, link);
        free(ended->update);
        free(ended);
}

/* false: it was known. */
static bool ended_add(struct notify *notify, const char *update)
{
        struct ended *ended;

        if (ended_find(notify, update))
                return false;
        ended = calloc(1, sizeof(*ended));
        if (!ended)
                return false;
        LIST_INSERT_HEAD(&notify->ended, ended, link);
        ended->update = strdup(update);
        if (ended->update)
                return true;
        ended_free(ended);
        return false;
}

static void set(char **member, const char *value)
{
        char *copy = value ? strdup(value) : NULL;

        if (value && !copy)
                return;
        free(*member);
        *member = copy;
}

/* --- words --- */

/* "bench 7 (OpenMV Cam M7)", "OpenMV Cam M7 at 1-2", "A device at 1-2" */
static char *name_of(const struct camera *camera)
{
        const char *board = *camera->board_name ? camera->board_name : *camera->board ? camera->board : "Camera";
        const char *what = strcmp(camera->mode, "unreadable") == 0 ? "A device" : board;        /* any device may fail so */
        char *name = NULL;
        int n;

        if (*camera->label)
                n = asprintf(&name, "%s (%s)", camera->label, board);
        else if (*camera->port)
                n = asprintf(&name, "%s at %s", what, camera->port);
        else
                n = asprintf(&name, "%s", board);
        return n < 0 ? NULL : name;
}

static void capitalise(char *text)
{
        if (text && islower((unsigned char)*text))
                *text = (char)toupper((unsigned char)*text);
}

static void show(struct told *told, const char *summary, const char *body, const char *const *actions, bool stands)
{
        struct notify *notify = told->notify;

        if (note_show(&told->note, summary, body, actions, stands) < 0)
                return;
        told->advice = stands;
        if (notify->client->json)
                (void)json_print_line(json_pack("{ss ss so so sb}", "event", "notification", "camera", told->camera,
                                                "summary", json_text(summary), "body", json_text(body), "question", actions ? 1 : 0));
}

/* --- the question --- */

static const char *const answers[] = { "yes", "Yes, recover it", "no", "No, leave it", NULL };

/* Which camera an unproven device may be: the one that was last seen on this port and is away, else the only kind that is missed.
 * A hint for the question and nothing else. */
static const struct camera *guess(struct bus *bus, const struct camera *device)
{
        const struct camera *missed = NULL;
        bool several = false;

        for (size_t i = 0; i < bus_camera_count(bus); i++) {
                const struct camera *camera = bus_nth_camera(bus, i);

                if (camera == device || camera->attached || !*camera->board || !*camera->unique_id)
                        continue;
                if (*device->port && strcmp(camera->port, device->port) == 0)
                        return camera;
                if (strcmp(camera->state, "waiting") != 0 && strcmp(camera->state, "silent") != 0)
                        continue;
                several = several || (missed && strcmp(missed->board, camera->board) != 0);
                missed = camera;
        }
        return several ? NULL : missed;
}

static bool awaits_word(const struct camera *camera)
{
        return camera->attached && (strcmp(camera->diagnosis, "unproven") == 0 || strcmp(camera->diagnosis, "board-unknown") == 0);
}

#define RECOVER "camrescue recover "

/* It is known which camera it is, and it is left as it is until somebody says so: the button is the command that the advice names.  One
 * that was looked at and let go (silent) is written to when it is plugged in again. */
static bool awaits_go(const struct camera *camera)
{
        if (awaits_word(camera) || !strstr(camera->advice, RECOVER) || strstr(camera->advice, " --board "))
                return false;
        return (camera->attached && strcmp(camera->state, "asking") == 0) || strcmp(camera->state, "silent") == 0;
}

/* What is overwritten may be somebody's own. */
static bool go_replaces(const struct camera *camera)
{
        return strcmp(camera->diagnosis, "unknown-firmware") == 0;
}

/* The word was taken.  Is it for a hand to go on? */
static void tell_what_it_takes(struct told *told)
{
        const struct camera *camera = bus_camera(told->notify->bus, told->camera);
        _cleanup_free_ char *name = NULL, *summary = NULL;

        if (!camera || camera->attached)
                return;
        name = name_of(camera);
        if (name && asprintf(&summary, "%s needs a hand", name) >= 0)
                show(told, summary, "Unplug it and plug it in again: it goes on by itself.", NULL, /* stands= */ true);
}

static int on_recover_reply(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct told *told = userdata;
        const sd_bus_error *failed = sd_bus_message_get_error(m);
        const char *update, *action, *text, *why = NULL;

        told->call = sd_bus_slot_unref(told->call);
        if (failed)
                why = failed->message ? failed->message : failed->name;
        else if (sd_bus_message_read(m, "oss", &update, &action, &text) < 0)
                why = "the daemon's answer makes no sense";
        else if (strcmp(action, "refuse") == 0 || strcmp(action, "skip") == 0)
                why = text;
        if (why)
                show(told, "It was not recovered", why, NULL, /* stands= */ false);
        else
                tell_what_it_takes(told);
        return 0;
}

static void recover(struct told *told, bool replace)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r;

        r = bus_new_call(told->notify->bus, told->camera, BUS_CAMERA, "Recover", &call);
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0 && told->board)
                r = sd_bus_message_append(call, "{sv}", "board", "s", told->board);
        if (r >= 0 && replace)
                r = sd_bus_message_append(call, "{sv}", "replace-unknown", "b", 1);
        if (r >= 0)
                r = sd_bus_message_close_container(call);
        if (r >= 0)
                r = bus_call_async(told->notify->bus, call, on_recover_reply, told, &told->call);
        if (r < 0)
                show(told, "It was not recovered", strerror(-r), NULL, /* stands= */ false);
}

static void on_action(void *userdata, const char *key)
{
        struct told *told = userdata;
        const struct camera *camera = bus_camera(told->notify->bus, told->camera);

        /* Only for the device that was asked about, as long as it is asked about. */
        if (told->call || !camera || (camera->attached && strcmp(camera->node, told->node) != 0))
                return;
        if (!(told->board && awaits_word(camera)) && !(told->offered && awaits_go(camera)))
                return;
        note_close(&told->note);
        if (strcmp(key, "yes") == 0)
                recover(told, /* replace= */ told->offered && go_replaces(camera));
        set(&told->board, NULL);
        told->offered = false;
}

static void ask(struct told *told, const struct camera *camera)
{
        const struct camera *other = guess(told->notify->bus, camera);
        _cleanup_free_ char *summary = NULL, *body = NULL, *name = other ? name_of(other) : NULL;
        const char *board;

        /* Somebody's keyboard: who misses no camera is not bothered. */
        if (!other || !name)
                return;
        if (told->text && strcmp(told->text, "?") == 0)
                return;
        board = *other->board_name ? other->board_name : other->board;
        if (asprintf(&summary, "Is this an %s?", board) < 0) {
                summary = NULL;
                return;
        }
        if (asprintf(&body, "A chip in ROM DFU mode is at port %s, and %s is missing. Any STM32 board looks like this: say yes only if you "
                     "know that it is this camera. It will be written to.%s%s%s%s", camera->port, name,
                     desktop_has_actions(told->notify->desktop) ? "" : " camrescue recover ",
                     desktop_has_actions(told->notify->desktop) ? "" : camera->port,
                     desktop_has_actions(told->notify->desktop) ? "" : " --board ",
                     desktop_has_actions(told->notify->desktop) ? "" : other->board) < 0) {
                body = NULL;
                return;
        }
        set(&told->text, "?");
        set(&told->board, other->board);
        show(told, summary, body, answers, /* stands= */ true);
}

/* --- ends and advice --- */

static void show_end(struct told *told, const struct camera *camera, const struct update *update)
{
        static const struct { const char *wish, *summary; } wishes[] = {
                { "unattended", "is back" }, { "recover", "is back" }, { "update", "was updated" }, { "restore", "was restored" },
        };
        _cleanup_free_ char *name = name_of(camera), *summary = NULL, *body = NULL, *end = update_end(update);
        bool done = strcmp(update->result, "done") == 0;
        /* Through the ROM: well ended, and no firmware was written. */
        bool bootloader = done && strcmp(update->error, "bootloader-restored") == 0;
        const char *what = "is done";
        int n;

        if (!name || !end || strcmp(update->result, "cancelled") == 0)
                return;
        for (size_t i = 0; i < ELEMENTSOF(wishes); i++)
                if (strcmp(wishes[i].wish, update->wish) == 0)
                        what = wishes[i].summary;
        if (bootloader)
                what = "has its bootloader back";
        else if (strcmp(update->result, "not-seen") == 0)
                what = "was not seen to run again";
        else if (!done)
                what = strcmp(update->result, "refused") == 0 ? "was not written" : "could not be written";
        if (asprintf(&summary, "%s %s", name, what) < 0) {
                summary = NULL;
                return;
        }
        if (bootloader)
                n = asprintf(&body, "%s", update->message);
        else if (done)
                n = asprintf(&body, "Firmware %s was verified, and it runs.", *update->firmware ? update->firmware : "on it");
        else
                n = asprintf(&body, "%s", end);
        if (n < 0) {
                body = NULL;
                return;
        }
        capitalise(body);
        show(told, summary, body, NULL, /* stands= */ false);
}

/* Is there something that only a person can do, and that nobody has told him yet? */
static bool needs_hand(const struct camera *camera)
{
        /* What passes by itself, what somebody has just asked for and was told, and what no hand here can change. */
        static const char *const others[] = {
                "waiting-for-replug", "awaited", "busy", "no-permission", "no-node", "not-handled", "old-bootloader", "unproven", "held",
        };

        if (!*camera->diagnosis || !*camera->advice)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                if (strcmp(others[i], camera->diagnosis) == 0)
                        return false;
        return true;
}

static void show_advice(struct told *told, const struct camera *camera, const struct update *update)
{
        static const char *const replaces[] = { "yes", "Yes, replace it", "no", "No, leave it", NULL };
        _cleanup_free_ char *name = name_of(camera), *summary = NULL, *advice = camera_advice(camera, update);
        const char *const *actions = NULL;

        if (!name || !advice || (told->text && strcmp(told->text, advice) == 0))
                return;
        if (asprintf(&summary, "%s needs a hand", name) < 0) {
                summary = NULL;
                return;
        }
        set(&told->text, advice);
        capitalise(advice);
        told->offered = awaits_go(camera);
        if (told->offered)
                actions = go_replaces(camera) ? replaces : answers;
        show(told, summary, advice, actions, /* stands= */ true);
}

static void look_at(struct notify *notify, const struct camera *camera)
{
        const struct update *update = bus_camera_update(notify->bus, camera);
        struct told *told = told_of(notify, camera->path);

        if (!told)
                return;
        told->seen = true;
        if (camera->attached && (!told->attached || strcmp(told->node, camera->node) != 0)) {
                /* Another attachment: what was answered does not hold for it, and what was closed may be said again. */
                set(&told->node, camera->node);
                set(&told->text, NULL);
                if (told->board || told->offered) {
                        set(&told->board, NULL);
                        told->offered = false;
                        note_close(&told->note);
                }
        }
        told->attached = camera->attached;
        if (told->offered && !awaits_go(camera)) {
                told->offered = false;
                note_close(&told->note);
        }
        if (update && !update_is_open(update) && ended_add(notify, update->path) && notify->read)
                show_end(told, camera, update);
        if (needs_hand(camera)) {
                /* Away since before we came: lying in a drawer, for all we know. */
                if (!notify->read && !camera->attached) {
                        _cleanup_free_ char *advice = camera_advice(camera, update);

                        set(&told->text, advice);
                } else if (!awaits_word(camera) || !guess(notify->bus, camera)) {
                        show_advice(told, camera, update);
                }
        }
        if (awaits_word(camera)) {
                ask(told, camera);
        } else if (told->board) {
                set(&told->board, NULL);
                note_close(&told->note);
        }
        /* On its way it is tried again and again, and the advice stands; running, it needs none. */
        if (told->advice && !*camera->diagnosis && (!camera->attached || strcmp(camera->state, "running") == 0)) {
                told->advice = false;
                set(&told->text, NULL);
                note_close(&told->note);
        }
}

/* --- news --- */

static void look_at_all(struct notify *notify)
{
        struct ended *ended, *next_ended;
        struct told *told, *next;

        LIST_FOREACH(told, &notify->told, link)
                told->seen = false;
        for (size_t i = 0; i < bus_camera_count(notify->bus); i++)
                look_at(notify, bus_nth_camera(notify->bus, i));
        for (told = LIST_FIRST(&notify->told); told; told = next) {
                next = LIST_NEXT(told, link);
                if (!told->seen)
                        told_free(told);
        }
        for (ended = LIST_FIRST(&notify->ended); ended; ended = next_ended) {
                next_ended = LIST_NEXT(ended, link);
                if (!bus_update(notify->bus, ended->update))
                        ended_free(ended);
        }
        notify->read = true;
}

/* A question is about one camera that is away: when it comes back, or another one is missed, it was the wrong one. */
static void look_at_questions(struct notify *notify)
{
        struct told *told;

        LIST_FOREACH(told, &notify->told, link) {
                const struct camera *camera = told->board ? bus_camera(notify->bus, told->camera) : NULL;
                const struct camera *other = camera ? guess(notify->bus, camera) : NULL;

                if (!camera || (other && strcmp(other->board, told->board) == 0))
                        continue;
                set(&told->board, NULL);
                set(&told->text, NULL);
                note_close(&told->note);
                look_at(notify, camera);
        }
}

static void forget(struct notify *notify, const struct camera *camera)
{
        struct told *told;

        LIST_FOREACH(told, &notify->told, link)
                if (strcmp(told->camera, camera->path) == 0) {
                        told_free(told);
                        return;
                }
}

static void on_news(void *userdata, enum bus_change change, const struct camera *camera, const struct update *update)
{
        struct notify *notify = userdata;

        switch (change) {
        case BUS_CAMERA_CHANGED:
                look_at(notify, camera);
                break;
        case BUS_UPDATE_CHANGED:
                camera = bus_camera(notify->bus, update->camera);
                if (camera)
                        look_at(notify, camera);
                break;
        case BUS_CAMERA_GONE:
                forget(notify, camera);
                break;
        case BUS_RELOADED:
                look_at_all(notify);
                break;
        case BUS_UPDATE_GONE:
                ended_free(ended_find(notify, update->path));
                break;
        case BUS_DAEMON_GONE:
                return;
        case BUS_LOST:
                finish(notify, EXIT_NO_DAEMON);
                break;
        }
        look_at_questions(notify);
}

static void on_session_lost(void *userdata)
{
        finish(userdata, EXIT_DONE);
}

/* Being told to end is how it ends. */
static int on_stop(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        finish(userdata, EXIT_DONE);
        return 0;
}

enum exit_code verb_notify(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(desktop_freep) struct desktop *desktop = NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        struct notify notify = { .client = client, .code = EXIT_DONE };
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        if (optind != argc)
                return client_fail(client, EXIT_WRONG_USAGE, "notify takes no argument.");
        code = bus_attend(client, &bus);
        if (code != EXIT_DONE)
                return code;
        notify.bus = bus;
        r = bus_catch_stops(bus, on_stop, &notify);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot handle signals: %s.", strerror(-r));
        code = desktop_new(client, bus_event(bus), NOTIFY_NAME, on_session_lost, &notify, &desktop);
        if (code != EXIT_DONE)
                return code;
        notify.desktop = desktop;
        bus_observe(bus, on_news, &notify);
        r = sd_event_loop(bus_event(bus));
        bus_observe(bus, NULL, NULL);
        while (!LIST_EMPTY(&notify.told))
                told_free(LIST_FIRST(&notify.told));
        while (!LIST_EMPTY(&notify.ended))
                ended_free(LIST_FIRST(&notify.ended));
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot go on: %s.", strerror(-r));
        if (notify.code == EXIT_NO_DAEMON)
                return client_fail(client, EXIT_NO_DAEMON, "The connection to the bus was lost, or the daemon makes no sense.");
        return notify.code;
}

/* SPDX-License-Identifier: MIT */
/*
 * The daemon's plan, and following its updates to their ends.  Invariant: the
 * code is EXIT_DONE only if every camera's update ended "done" or there was
 * nothing to do for it.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/describe.h"
#include "client/follow.h"
#include "client/json.h"
#include "client/table.h"
#include "client/view.h"

/* Without a terminal and without --wait: how long an update may wait for its camera between two steps. */
#define REPLUG_GRACE_USEC (30 * UINT64_C(1000000))
/* ... when it is said that a hand is needed: for a hand that is there already. */
#define HAND_GRACE_USEC (5 * UINT64_C(1000000))
/* ... and how long the whole may take. */
#define UNATTENDED_TIMEOUT_USEC (900 * UINT64_C(1000000))

void plan_clear(struct plan *plan)
{
        for (size_t i = 0; i < plan->n; i++) {
                struct plan_item *item = &plan->items[i];

                free(item->camera);
                free(item->label);
                free(item->update);
                free(item->action);
                free(item->firmware);
                free(item->text);
        }
        free(plan->items);
        *plan = (struct plan){ .all = plan->all };
}

int plan_add(struct plan *plan, struct bus *bus, const char *camera, const char *update, const char *action, const char *firmware,
             const char *text)
{
        struct plan_item *items = reallocarray(plan->items, plan->n + 1, sizeof(*items)), *item;
        const struct camera *known = bus_camera(bus, camera);

        if (!items)
                return -ENOMEM;
        plan->items = items;
        item = &items[plan->n++];
        *item = (struct plan_item){ .camera = strdup(camera), .label = strdup(known ? camera_label(known) : camera),
                                    .update = strdup(update), .action = strdup(action), .firmware = strdup(firmware),
                                    .text = strdup(text), .code = EXIT_FAILED };
        return item->camera && item->label && item->update && item->action && item->firmware && item->text ? 0 : -ENOMEM;
}

static bool is_action(const struct plan_item *item, const char *action)
{
        return strcmp(item->action, action) == 0;
}

static bool has_update(const struct plan_item *item)
{
        return (is_action(item, "update") || is_action(item, "queued")) && strcmp(item->update, "/") != 0;
}

bool plan_has_work(const struct plan *plan)
{
        for (size_t i = 0; i < plan->n; i++)
                if (is_action(&plan->items[i], "update") || is_action(&plan->items[i], "queued"))
                        return true;
        return false;
}

/* --- printing --- */

static json_t *item_json(struct bus *bus, const struct plan_item *item)
{
        const struct camera *camera = bus_camera(bus, item->camera);

        return json_pack("{ss so so so so so so}", "camera", item->camera, "port", json_text(camera ? camera->port : ""),
                         "unique_id", json_text(camera ? camera->unique_id : ""),
                         "update", json_text(strcmp(item->update, "/") == 0 ? "" : item->update),
                         "action", json_text(item->action), "firmware", json_text(item->firmware), "text", json_text(item->text));
}

static enum exit_code plan_print_json(struct bus *bus, const struct plan *plan, bool dry_run)
{
        json_t *array = json_array();

        for (size_t i = 0; i < plan->n; i++)
                (void)json_array_append_new(array, item_json(bus, &plan->items[i]));
        return json_print_line(json_pack("{ss sb so}", "event", "plan", "dry_run", (int)dry_run, "plan", array));
}

static int add_row(struct table *table, struct bus *bus, const struct plan_item *item)
{
        const struct camera *camera = bus_camera(bus, item->camera);
        enum style style = is_action(item, "refuse") ? STYLE_BAD : is_action(item, "skip") ? STYLE_WARN
                         : is_action(item, "current") ? STYLE_GOOD : STYLE_BUSY;
        const struct { enum style style; const char *text; } cells[] = {
                { STYLE_PLAIN, item->label }, { STYLE_PLAIN, camera ? camera_board(camera) : "" },
                { STYLE_PLAIN, camera && *camera->firmware ? camera->firmware : "unknown" }, { STYLE_PLAIN, item->firmware },
                { style, is_action(item, "queued") ? "waiting for replug" : item->action }, { STYLE_PLAIN, item->text },
        };
        int r = table_row(table);

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(cells); i++)
                r = table_cell(table, cells[i].style, cells[i].text);
        return r;
}

enum exit_code plan_print(const struct client *client, struct bus *bus, const struct plan *plan, bool dry_run)
{
        static const char *const headings[] = { "CAMERA", "BOARD", "RUNS", "MEANT", "ACTION", "WHY", NULL };
        _cleanup_(table_freep) struct table *table = NULL;
        int r = 0;

        if (plan->n == 0)
                return client_fail(client, EXIT_NO_CAMERA, "There is no camera to update: see camrescue status.");
        if (client->json)
                return plan_print_json(bus, plan, dry_run);
        table = table_new(headings);
        if (!table)
                r = -ENOMEM;
        for (size_t i = 0; r >= 0 && i < plan->n; i++)
                r = add_row(table, bus, &plan->items[i]);
        if (r >= 0)
                r = table_print(table, stdout, &client->out);
        if (r < 0 || fflush(stdout) != 0)
                return client_fail(client, EXIT_FAILED, "Cannot print the plan.");
        return EXIT_DONE;
}

/* --- following --- */

int follow_option(struct client *client, int option, struct follow_options *options, enum exit_code *ret)
{
        switch (option) {
        case FOLLOW_OPTION_WAIT:
                options->wait = true;
                break;
        case FOLLOW_OPTION_NO_WAIT:
                options->no_wait = true;
                break;
        case FOLLOW_OPTION_TIMEOUT:
                *ret = client_seconds(client, optarg, 0, WAIT_SECONDS_MAX, &options->timeout);
                if (*ret != EXIT_DONE)
                        return 1;
                options->has_timeout = true;
                break;
        default:
                return client_common_option(client, option, ret);
        }
        if (options->wait && options->no_wait) {
                *ret = client_fail(client, EXIT_WRONG_USAGE, "--wait and --no-wait exclude each other.");
                return 1;
        }
        return 0;
}

struct follower {
        struct client *client;
        struct bus *bus;
        struct plan *plan;
        bool to_the_end;                /* also while a replug is awaited */
        struct view view;
        sd_event_source *grace;
        uint64_t *waiting_since;        /* per item; 0: its camera is being worked on */
        char **printed;                 /* per item: its last plain line */
        char *remark;                   /* below many cameras: how far they are together */
        bool finished;
        enum exit_code stop;            /* why it was broken off; EXIT_DONE: it was not */
};

static struct plan_item *item_of(struct follower *f, const char *update)
{
        for (size_t i = 0; i < f->plan->n; i++)
                if (f->plan->items[i].waited_for && strcmp(f->plan->items[i].update, update) == 0)
                        return &f->plan->items[i];
        return NULL;
}

static void finish_if_ended(struct follower *f)
{
        if (f->finished)
                return;
        for (size_t i = 0; i < f->plan->n; i++)
                if (f->plan->items[i].waited_for && !f->plan->items[i].ended)
                        return;
        f->finished = true;
        (void)sd_event_exit(bus_event(f->bus), 0);
}

static void break_off(struct follower *f, enum exit_code code)
{
        if (f->finished)
                return;
        f->stop = code;
        f->finished = true;
        (void)sd_event_exit(bus_event(f->bus), 0);
}

/* Of many, one wants to know how many there are yet, and how long it will take. */
static void sum_up(struct follower *f)
{
        struct update_sum sum = { .working = 0 };
        size_t n = 0, ended = 0;
        char begin[64];

        for (size_t i = 0; i < f->plan->n; i++) {
                const struct plan_item *item = &f->plan->items[i];
                const struct update *update = item->waited_for && !item->ended ? bus_update(f->bus, item->update) : NULL;

                n += item->waited_for;
                ended += item->waited_for && item->ended;
                if (update)
                        update_sum_add(&sum, update);
        }
        if (n < 2)
                return;
        (void)snprintf(begin, sizeof(begin), "%zu of %zu ended", ended, n);
        free(f->remark);
        f->remark = update_sum_text(&sum, begin);
        f->view.remark = f->remark;
}

static bool is_plain(const struct follower *f)
{
        return !f->client->json && !f->view.live.begun;
}

static void say_end(struct follower *f, const struct plan_item *item, const struct update *update)
{
        _cleanup_free_ char *end = update ? update_end(update) : NULL, *clean = NULL;

        if (f->client->json) {
                (void)json_print_line(json_pack("{ss ss so ss si}", "event", "ended", "camera", item->camera,
                                                "update", json_of_update(update), "code", exit_code_name(item->code),
                                                "exit", (int)item->code));
                return;
        }
        clean = text_clean(end ? end : "failed: the daemon does not know this update any more.", f->client->out.utf8);
        if (clean)
                (void)printf("%s: %s\n", item->label, clean);
        (void)fflush(stdout);
}

static void item_ended(struct follower *f, struct plan_item *item, const struct update *update)
{
        if (item->ended)
                return;
        item->ended = true;
        item->code = update ? update_exit_code(update) : EXIT_FAILED;
        /* On a terminal the ends stand below the lines that moved. */
        if (!f->view.live.begun)
                say_end(f, item, update);
        finish_if_ended(f);
}

/* Looks whether it is still waiting for its camera, and when that has been long enough. */
static bool needs_a_hand(const struct follower *f, size_t i)
{
        const struct camera *camera = bus_camera(f->bus, f->plan->items[i].camera);

        return camera && (strcmp(camera->diagnosis, "waiting-for-replug") == 0 || (camera->attached && strcmp(camera->state, "jumper") == 0));
}

static uint64_t end_of_grace(const struct follower *f, size_t i)
{
        return f->waiting_since[i] + (needs_a_hand(f, i) ? HAND_GRACE_USEC : REPLUG_GRACE_USEC);
}

static void keep_grace(struct follower *f)
{
        uint64_t due = UINT64_MAX;

        if (f->to_the_end)
                return;
        for (size_t i = 0; i < f->plan->n; i++)
                if (f->waiting_since[i] && !f->plan->items[i].ended)
                        due = MIN(due, end_of_grace(f, i));
        if (due == UINT64_MAX) {
                (void)sd_event_source_set_enabled(f->grace, SD_EVENT_OFF);
                return;
        }
        (void)sd_event_source_set_time(f->grace, due);
        (void)sd_event_source_set_enabled(f->grace, SD_EVENT_ONESHOT);
}

static void say_progress(struct follower *f, struct plan_item *item, const struct update *update)
{
        const struct camera *camera = bus_camera(f->bus, item->camera);
        size_t i = (size_t)(item - f->plan->items);
        _cleanup_free_ char *pace = NULL;
        char *doing;

        if (f->client->json) {
                (void)json_print_line(json_pack("{ss ss so}", "event", "progress", "camera", item->camera, "update", json_of_update(update)));
                return;
        }
        if (!is_plain(f) || !camera)
                return;
        /* It runs, and nothing is known to be in the way yet: what becomes of it is told in this same moment. */
        if (strcmp(update->step, "waiting") == 0 && strcmp(camera->state, "running") == 0 && !*camera->diagnosis)
                return;
        doing = camera_doing(camera, update, 10);
        if (!doing || !*doing || (f->printed[i] && strcmp(f->printed[i], doing) == 0)) {
                free(doing);
                return;
        }
        free(f->printed[i]);
        f->printed[i] = doing;
        pace = update_pace(update, /* with_speed= */ true);
        (void)printf("%s: %s%s%s\n", item->label, doing, pace && *pace ? ", " : "", pace ? pace : "");
        (void)fflush(stdout);
}

static void look_at(struct follower *f, struct plan_item *item, const struct update *update)
{
        size_t i = (size_t)(item - f->plan->items);
        uint64_t now = 0;

        item->seen = true;
        if (!update_is_open(update)) {
                item_ended(f, item, update);
                return;
        }
        if (strcmp(update->step, "waiting") != 0) {
                f->waiting_since[i] = 0;
        } else if (f->waiting_since[i] == 0) {
                (void)sd_event_now(bus_event(f->bus), CLOCK_MONOTONIC, &now);
                f->waiting_since[i] = now;
        }
        keep_grace(f);
        say_progress(f, item, update);
}

static void on_news(void *userdata, enum bus_change change, const struct camera *camera, const struct update *update)
{
        struct follower *f = userdata;
        struct plan_item *item = update ? item_of(f, update->path) : NULL;

        switch (change) {
        case BUS_UPDATE_CHANGED:
                if (item && !item->ended)
                        look_at(f, item, update);
                break;
        case BUS_UPDATE_GONE:
                if (item)
                        item_ended(f, item, update_is_open(update) ? NULL : update);
                break;
        case BUS_RELOADED:
                for (size_t i = 0; i < f->plan->n; i++) {
                        struct plan_item *it = &f->plan->items[i];
                        const struct update *found = it->waited_for ? bus_update(f->bus, it->update) : NULL;

                        if (!it->waited_for || it->ended)
                                continue;
                        if (found)
                                look_at(f, it, found);
                        else
                                item_ended(f, it, NULL);
                }
                break;
        case BUS_DAEMON_GONE:
        case BUS_LOST:
                break_off(f, EXIT_NO_DAEMON);
                break;
        case BUS_CAMERA_CHANGED:
        case BUS_CAMERA_GONE:
                keep_grace(f);          /* whether a hand is needed */
                break;
        }
        sum_up(f);
        view_changed(&f->view);
}

static void note_advice(struct follower *f, const struct plan_item *item)
{
        const struct camera *camera = bus_camera(f->bus, item->camera);
        _cleanup_free_ char *advice = camera_advice(camera, bus_update(f->bus, item->update));

        client_note(f->client, "%s: %s (--wait waits for that too.)", item->label, advice ?: "waits for a replug.");
}

static int on_grace(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct follower *f = userdata;
        uint64_t now = usec;

        (void)sd_event_now(bus_event(f->bus), CLOCK_MONOTONIC, &now);
        for (size_t i = 0; i < f->plan->n; i++) {
                struct plan_item *item = &f->plan->items[i];

                if (item->ended || f->waiting_since[i] == 0 || now < end_of_grace(f, i))
                        continue;
                item->ended = true;
                item->code = EXIT_NOT_ENDED;
                if (needs_a_hand(f, i))
                        note_advice(f, item);
                else
                        client_note(f->client, "%s: waits for its camera; the update goes on when it comes (--wait waits for that too).", item->label);
        }
        keep_grace(f);
        finish_if_ended(f);
        return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        break_off(userdata, EXIT_NOT_ENDED);
        return 0;
}

static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        break_off(userdata, EXIT_INTERRUPTED);
        return 0;
}

static size_t list_some(struct follower *f, bool ended, const struct camera **cameras, size_t n, size_t max)
{
        for (size_t i = 0; i < f->plan->n && n < max; i++) {
                const struct plan_item *item = &f->plan->items[i];
                const struct camera *camera = item->waited_for && item->ended == ended ? bus_camera(f->bus, item->camera) : NULL;

                if (camera)
                        cameras[n++] = camera;
        }
        return n;
}

/* In the plan's order; those that have ended stand below, where they may be cut off. */
static size_t list_cameras(void *userdata, const struct camera **cameras, size_t max)
{
        struct follower *f = userdata;

        return list_some(f, /* ended= */ true, cameras, list_some(f, /* ended= */ false, cameras, 0, max), max);
}

static int follower_start(struct follower *f, const struct follow_options *options)
{
        sd_event *event = bus_event(f->bus);
        uint64_t now = 0, timeout = options->has_timeout ? options->timeout : UNATTENDED_TIMEOUT_USEC;
        int r;

        (void)sd_event_now(event, CLOCK_MONOTONIC, &now);
        r = bus_catch_stops(f->bus, on_interrupt, f);
        if (r < 0)
                return r;
        r = sd_event_add_time(event, &f->grace, CLOCK_MONOTONIC, 0, 1000, on_grace, f);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(f->grace, SD_EVENT_OFF);
        if (r < 0)
                return r;
        if (options->has_timeout || !f->to_the_end) {
                r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, now + timeout, 1000, on_timeout, f);
                if (r < 0)
                        return r;
        }
        if (!f->client->json && f->client->out.moves) {
                (void)putchar('\n');            /* below the plan */
                sum_up(f);
                return view_begin(&f->view, f->client, f->bus, list_cameras, f);
        }
        return 0;
}

/* What is known before waiting. */
static bool sort_items(struct follower *f, const struct follow_options *options)
{
        bool any = false, something = plan_has_work(f->plan);

        for (size_t i = 0; i < f->plan->n; i++) {
                struct plan_item *item = &f->plan->items[i];

                if (has_update(item)) {
                        item->code = EXIT_NOT_ENDED;
                        item->waited_for = !options->no_wait && (f->to_the_end || is_action(item, "update"));
                        any = any || item->waited_for;
                } else if (is_action(item, "current")) {
                        item->code = EXIT_DONE;
                        something = true;
                } else if (is_action(item, "skip") || is_action(item, "refuse")) {
                        item->code = EXIT_REFUSED;
                }
        }
        /* Skipping some of all is what was asked for; skipping all of them is not. */
        for (size_t i = 0; i < f->plan->n; i++)
                if (f->plan->all && something && is_action(&f->plan->items[i], "skip"))
                        f->plan->items[i].code = EXIT_DONE;
        return any;
}

static enum exit_code whole_code(const struct plan *plan)
{
        enum exit_code code = EXIT_DONE;

        for (size_t i = 0; i < plan->n; i++)
                code = exit_code_worse(code, plan->items[i].code);
        return code;
}

static enum exit_code say_stop(const struct follower *f)
{
        enum exit_code so_far = whole_code(f->plan);

        switch (f->stop) {
        case EXIT_NO_DAEMON:
                return client_fail(f->client, EXIT_NO_DAEMON, "The daemon camrescued went away while its work was awaited. "
                                   "Open updates are kept and go on when it is back: camrescue watch.");
        case EXIT_INTERRUPTED:
                if (f->client->json)
                        return client_fail(f->client, EXIT_INTERRUPTED, "Interrupted; the update goes on in the daemon.");
                client_note(f->client, "Interrupted. The update goes on in the daemon: camrescue watch shows it, "
                            "camrescue cancel CAMERA ends it.");
                return EXIT_INTERRUPTED;
        default:
                client_note(f->client, "Not ended in the time given; the update goes on in the daemon: camrescue watch shows it.");
                return exit_code_worse(so_far, EXIT_NOT_ENDED);
        }
}

static void follower_done(struct follower *f)
{
        bool live = f->view.live.begun;

        view_end(&f->view);
        sd_event_source_unref(f->grace);
        for (size_t i = 0; i < f->plan->n; i++) {
                const struct plan_item *item = &f->plan->items[i];

                if (live && item->waited_for && item->ended)
                        say_end(f, item, bus_update(f->bus, item->update));
                free(f->printed[i]);
        }
        free(f->printed);
        free(f->waiting_since);
        free(f->remark);
}

static enum exit_code await_ends(struct follower *f, const struct follow_options *options)
{
        int r;

        f->waiting_since = calloc(f->plan->n + 1, sizeof(*f->waiting_since));
        f->printed = calloc(f->plan->n + 1, sizeof(*f->printed));
        r = f->waiting_since && f->printed ? follower_start(f, options) : -ENOMEM;
        if (r < 0) {
                free(f->waiting_since);
                free(f->printed);
                free(f->remark);
                return client_fail(f->client, EXIT_FAILED, "Cannot wait: %s. The update goes on in the daemon.", strerror(-r));
        }
        bus_observe(f->bus, on_news, f);
        for (size_t i = 0; i < f->plan->n; i++) {
                struct plan_item *item = &f->plan->items[i];
                const struct update *update = item->waited_for ? bus_update(f->bus, item->update) : NULL;

                if (update)
                        look_at(f, item, update);
                else if (item->waited_for)
                        (void)bus_reload(f->bus);
        }
        sum_up(f);
        view_changed(&f->view);
        r = f->finished ? 0 : sd_event_loop(bus_event(f->bus));
        bus_observe(f->bus, NULL, NULL);
        follower_done(f);
        if (f->stop != EXIT_DONE)
                return say_stop(f);
        if (r < 0)
                return client_fail(f->client, EXIT_NO_DAEMON, "The bus was lost: %s. The update goes on in the daemon.", strerror(-r));
        return whole_code(f->plan);
}

enum exit_code follow(struct client *client, struct bus *bus, struct plan *plan, const struct follow_options *options)
{
        struct follower f = { .client = client, .bus = bus, .plan = plan };
        enum exit_code code;
        bool wait;

        f.to_the_end = options->wait || (!options->no_wait && client->out.is_terminal && !client->json);
        wait = sort_items(&f, options);
        code = wait ? await_ends(&f, options) : whole_code(plan);
        if (client->json && code != EXIT_NO_DAEMON && code != EXIT_INTERRUPTED)
                (void)json_print_line(json_pack("{ss ss si}", "event", "exit", "code", exit_code_name(code), "exit", (int)code));
        return code;
}

enum exit_code follow_camera_call(struct client *client, struct bus *bus, const struct camera *camera, sd_bus_message *call,
                                  const struct follow_options *options)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(plan_clear) struct plan plan = { .n = 0 };
        const char *update, *action, *text;
        enum exit_code code;

        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (sd_bus_message_read(reply, "oss", &update, &action, &text) < 0)
                return bus_bad_reply(client, "what it will do");
        if (plan_add(&plan, bus, camera->path, update, action, "", text) < 0)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        code = plan_print(client, bus, &plan, /* dry_run= */ false);
        return code == EXIT_DONE ? follow(client, bus, &plan, options) : code;
}

enum exit_code follow_verb(struct client *client, int argc, char **argv, const char *method)
{
        static const struct option options[] = { FOLLOW_OPTIONS, CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        struct follow_options follow = { .wait = false };
        const struct camera *camera = NULL;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (follow_option(client, option, &follow, &code) > 0)
                        return code;
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue %s --help.", client->verb);
        code = bus_open(client, /* watch= */ true, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, method, &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}", 0);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        return follow_camera_call(client, bus, camera, call, &follow);
}

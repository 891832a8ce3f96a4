/* SPDX-License-Identifier: MIT */
/*
 * camrescue watch: the cameras as they change, and waiting until something is
 * so.  Woken by the bus, signals and its one deadline; it outlives the daemon.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/condition.h"
#include "client/describe.h"
#include "client/json.h"
#include "client/name.h"
#include "client/view.h"

/* What was printed of a camera last, in plain lines. */
struct printed {
        char *path, *line;
};

struct watch {
        struct client *client;
        struct bus *bus;
        char **names;
        int n_names;
        bool has_until;
        struct condition until;
        struct view view;
        struct printed *printed;
        size_t n_printed;
        bool finished;
        enum exit_code code;
};

static void finish(struct watch *watch, enum exit_code code)
{
        if (watch->finished)
                return;
        watch->finished = true;
        watch->code = code;
        (void)sd_event_exit(bus_event(watch->bus), 0);
}

static void check(struct watch *watch)
{
        if (watch->has_until && condition_holds_for_names(&watch->until, watch->bus, watch->names, watch->n_names))
                finish(watch, EXIT_DONE);
}

/* --- which cameras --- */

static bool is_watched(const struct watch *watch, const struct camera *camera)
{
        const struct camera *named;

        if (watch->n_names == 0)
                return true;
        for (int i = 0; i < watch->n_names; i++)
                if (camera_match(watch->bus, watch->names[i], &named) == NAME_FOUND && named == camera)
                        return true;
        return false;
}

static size_t list_cameras(void *userdata, const struct camera **cameras, size_t max)
{
        struct watch *watch = userdata;
        size_t n = 0;

        for (size_t i = 0; i < bus_camera_count(watch->bus) && n < max; i++) {
                const struct camera *camera = bus_nth_camera(watch->bus, i);

                if (is_watched(watch, camera))
                        cameras[n++] = camera;
        }
        return n;
}

/* --- plain lines --- */

static void say(struct watch *watch, const char *text)
{
        _cleanup_free_ char *clean = text_clean(text, watch->client->out.utf8);
        time_t now = time(NULL);
        char clock[16] = "";
        struct tm tm;

        if (localtime_r(&now, &tm))
                (void)strftime(clock, sizeof(clock), "%H:%M:%S", &tm);
        if (clean && (printf("%s %s\n", clock, clean) < 0 || fflush(stdout) != 0))
                finish(watch, EXIT_FAILED);
}

static struct printed *printed_of(struct watch *watch, const char *path)
{
        struct printed *printed;

        for (size_t i = 0; i < watch->n_printed; i++)
                if (strcmp(watch->printed[i].path, path) == 0)
                        return &watch->printed[i];
        printed = reallocarray(watch->printed, watch->n_printed + 1, sizeof(*printed));
        if (!printed)
                return NULL;
        watch->printed = printed;
        printed[watch->n_printed] = (struct printed){ .path = strdup(path) };
        return printed[watch->n_printed].path ? &printed[watch->n_printed++] : NULL;
}

static void printed_forget(struct watch *watch, const char *path)
{
        for (size_t i = 0; i < watch->n_printed; i++)
                if (strcmp(watch->printed[i].path, path) == 0) {
                        free(watch->printed[i].path);
                        free(watch->printed[i].line);
                        watch->printed[i] = watch->printed[--watch->n_printed];
                        return;
                }
}

static void say_camera(struct watch *watch, const struct camera *camera)
{
        const struct update *update = bus_camera_update(watch->bus, camera);
        _cleanup_free_ char *doing = camera_doing(camera, update, 10), *advice = camera_advice(camera, update);
        struct printed *printed = printed_of(watch, camera->path);
        char *line = NULL;

        if (!doing || !advice || !printed ||
            asprintf(&line, "%s %s%s%s%s %s %s%s%s%s%s%s%s", camera_place(camera), *camera->label ? "[" : "", camera->label,
                     *camera->label ? "] " : "", *camera_board(camera) ? camera_board(camera) : "-",
                     camera->mode, camera->state, *camera->firmware ? " " : "", camera->firmware,
                     *doing ? ", " : "", doing, *advice ? ": " : "", advice) < 0)
                return;
        if (printed->line && strcmp(printed->line, line) == 0) {
                free(line);
                return;
        }
        free(printed->line);
        printed->line = line;
        say(watch, line);
}

/* --- news --- */

static void print_event(struct watch *watch, json_t *event)
{
        if (json_print_line(event) != EXIT_DONE)
                finish(watch, EXIT_FAILED);
}

static void show_camera(struct watch *watch, const struct camera *camera)
{
        if (!camera || !is_watched(watch, camera))
                return;
        if (watch->client->json)
                print_event(watch, json_pack("{ss so}", "event", "camera", "camera",
                                             json_of_camera(camera, bus_camera_update(watch->bus, camera))));
        else if (!watch->view.live.begun)
                say_camera(watch, camera);
}

static void show_gone(struct watch *watch, const struct camera *camera)
{
        char line[128];

        if (!is_watched(watch, camera))
                return;
        printed_forget(watch, camera->path);
        if (watch->client->json) {
                print_event(watch, json_pack("{ss ss so so}", "event", "removed", "path", camera->path, "port", json_text(camera->port),
                                             "unique_id", json_text(camera->unique_id)));
        } else if (!watch->view.live.begun) {
                (void)snprintf(line, sizeof(line), "%s is not known any more", camera_label(camera));
                say(watch, line);
        }
}

static void show_daemon(struct watch *watch, bool running)
{
        watch->view.remark = running ? NULL : "The daemon camrescued is gone; waiting for it to come back.";
        if (watch->client->json)
                print_event(watch, json_pack("{ss sb}", "event", "daemon", "running", (int)running));
        else if (!watch->view.live.begun)
                say(watch, running ? "The daemon camrescued is back." : watch->view.remark);
}

static void show_all(struct watch *watch)
{
        for (size_t i = 0; i < bus_camera_count(watch->bus); i++)
                show_camera(watch, bus_nth_camera(watch->bus, i));
}

/* Whose open or last update it is now. */
static const struct camera *camera_of(const struct watch *watch, const struct update *update)
{
        const struct camera *camera = bus_camera(watch->bus, update->camera);

        return camera && strcmp(camera->update, update->path) == 0 ? camera : NULL;
}

static void on_news(void *userdata, enum bus_change change, const struct camera *camera, const struct update *update)
{
        struct watch *watch = userdata;

        switch (change) {
        case BUS_CAMERA_CHANGED:
                show_camera(watch, camera);
                break;
        case BUS_UPDATE_CHANGED:
                show_camera(watch, camera_of(watch, update));
                break;
        case BUS_CAMERA_GONE:
                show_gone(watch, camera);
                break;
        case BUS_UPDATE_GONE:
                break;
        case BUS_DAEMON_GONE:
                show_daemon(watch, false);
                break;
        case BUS_RELOADED:
                if (watch->view.remark)
                        show_daemon(watch, true);
                show_all(watch);
                break;
        case BUS_LOST:
                finish(watch, EXIT_NO_DAEMON);
                break;
        }
        check(watch);
        view_changed(&watch->view);
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct watch *watch = userdata;

        finish(watch, watch->has_until ? EXIT_NOT_ENDED : EXIT_DONE);
        return 0;
}

static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        finish(userdata, EXIT_INTERRUPTED);
        return 0;
}

static int start(struct watch *watch, const unsigned long long *timeout)
{
        sd_event *event = bus_event(watch->bus);
        uint64_t now = 0;
        int r;

        r = bus_catch_stops(watch->bus, on_interrupt, watch);
        if (r < 0)
                return r;
        if (timeout) {
                (void)sd_event_now(event, CLOCK_MONOTONIC, &now);
                r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, now + *timeout, 1000, on_timeout, watch);
                if (r < 0)
                        return r;
        }
        bus_observe(watch->bus, on_news, watch);
        if (!watch->client->json && watch->client->out.moves)
                return view_begin(&watch->view, watch->client, watch->bus, list_cameras, watch);
        show_all(watch);
        return 0;
}

static enum exit_code run(struct watch *watch, const unsigned long long *timeout)
{
        int r = start(watch, timeout);

        if (r >= 0) {
                check(watch);
                r = watch->finished ? 0 : sd_event_loop(bus_event(watch->bus));
        }
        bus_observe(watch->bus, NULL, NULL);
        view_end(&watch->view);
        while (watch->n_printed > 0)
                printed_forget(watch, watch->printed[0].path);
        free(watch->printed);
        if (r < 0 && !watch->finished)
                return client_fail(watch->client, EXIT_NO_DAEMON, "The bus was lost: %s.", strerror(-r));
        if (watch->code == EXIT_NO_DAEMON)
                return client_fail(watch->client, EXIT_NO_DAEMON, "The connection to the bus was lost, or the daemon makes no sense.");
        if (watch->code == EXIT_NOT_ENDED)
                return client_fail(watch->client, EXIT_NOT_ENDED, "The condition did not hold in the time given.");
        return watch->code;
}

enum exit_code verb_watch(struct client *client, int argc, char **argv)
{
        enum { UNTIL = OPTION_FIRST_OWN, TIMEOUT };
        static const struct option options[] = {
                { "until", required_argument, NULL, UNTIL },
                { "timeout", required_argument, NULL, TIMEOUT },
                CLIENT_COMMON_OPTIONS
        };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        struct watch watch = { .client = client };
        unsigned long long timeout = 0;
        bool has_timeout = false;
        const char *until = NULL;
        const struct camera *camera;
        enum exit_code code;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
                switch (option) {
                case UNTIL:
                        until = optarg;
                        break;
                case TIMEOUT:
                        code = client_seconds(client, optarg, 0, WAIT_SECONDS_MAX, &timeout);
                        if (code != EXIT_DONE)
                                return code;
                        has_timeout = true;
                        break;
                default:
                        if (client_common_option(client, option, &code) > 0)
                                return code;
                }
        }
        if (until) {
                code = condition_parse(client, until, "", &watch.until);
                if (code != EXIT_DONE)
                        return code;
                watch.has_until = true;
        }
        code = bus_open(client, /* watch= */ true, &bus);
        if (code != EXIT_DONE)
                return code;
        watch.bus = bus;
        watch.names = argv + optind;
        watch.n_names = argc - optind;
        for (int i = 0; i < watch.n_names; i++) {
                code = watch.has_until ? condition_check_name(client, bus, watch.names[i])
                                       : camera_named(client, bus, watch.names[i], &camera);
                if (code != EXIT_DONE)
                        return code;
        }
        return run(&watch, has_timeout ? &timeout : NULL);
}

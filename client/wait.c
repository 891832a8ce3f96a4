/* SPDX-License-Identifier: MIT */
/*
 * camrescue wait: until something is so of each camera named.  For scripts: it
 * says nothing when it has come, and its exit status says how.  Woken by the
 * bus, signals and its one deadline; it outlives the daemon.
 */

#include <errno.h>
#include <getopt.h>
#include <string.h>

#include "client/condition.h"
#include "client/describe.h"
#include "client/json.h"
#include "client/name.h"

struct wait {
        struct client *client;
        struct bus *bus;
        char **names;
        int n_names;
        bool for_done, for_absent;      /* else the condition */
        struct condition condition;
        bool finished;
        enum exit_code code;
};

/* "runtime" for "mode=runtime", and what is no condition of one moment. */
static enum exit_code parse_for(struct wait *wait, const char *text)
{
        static const struct { const char *word, *condition; } words[] = {
                { "runtime", "mode=runtime" }, { "bootloader", "mode=bootloader" }, { "rom-dfu", "mode=rom-dfu" },
        };

        wait->for_done = strcmp(text, "done") == 0;
        wait->for_absent = strcmp(text, "absent") == 0;
        if (wait->for_done || wait->for_absent)
                return EXIT_DONE;
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (strcmp(words[i].word, text) == 0)
                        text = words[i].condition;
        return condition_parse(wait->client, text, "runtime, bootloader, rom-dfu, done", &wait->condition);
}

static void finish(struct wait *wait, enum exit_code code)
{
        if (wait->finished)
                return;
        wait->finished = true;
        wait->code = code;
        (void)sd_event_exit(bus_event(wait->bus), 0);
}

/* An update that has ended otherwise will not be done later: waiting ends with it, and its end is the answer. */
static bool all_ended(const struct wait *wait, enum exit_code *ret)
{
        *ret = EXIT_DONE;
        for (int i = 0; i < wait->n_names; i++) {
                const struct camera *camera;
                const struct update *update = NULL;

                if (camera_match(wait->bus, wait->names[i], &camera) == NAME_FOUND)
                        update = bus_camera_update(wait->bus, camera);
                if (!update || update_is_open(update))
                        return false;
                *ret = exit_code_worse(*ret, update_exit_code(update));
        }
        return true;
}

/* Also what nobody knows: a device without an identity is forgotten when it goes. */
static bool all_absent(const struct wait *wait)
{
        for (int i = 0; i < wait->n_names; i++) {
                const struct camera *camera;
                int match = camera_match(wait->bus, wait->names[i], &camera);

                if (match == NAME_FOUND ? camera->attached : match != NAME_NONE && !name_is_port(wait->names[i]))
                        return false;
        }
        return true;
}

static void check(struct wait *wait)
{
        enum exit_code code = EXIT_DONE;

        if (wait->for_done ? all_ended(wait, &code) : wait->for_absent ? all_absent(wait)
            : condition_holds_for_names(&wait->condition, wait->bus, wait->names, wait->n_names))
                finish(wait, code);
}

static void on_news(void *userdata, enum bus_change change, const struct camera *camera, const struct update *update)
{
        struct wait *wait = userdata;

        switch (change) {
        case BUS_CAMERA_CHANGED:
        case BUS_UPDATE_CHANGED:
        case BUS_UPDATE_GONE:
        case BUS_RELOADED:
                check(wait);
                break;
        case BUS_CAMERA_GONE:           /* given before it is forgotten: looked at when the loop comes round */
                (void)bus_reload(wait->bus);
                break;
        case BUS_DAEMON_GONE:
                client_note(wait->client, "The daemon camrescued is gone; waiting for it to come back.");
                break;
        case BUS_LOST:
                finish(wait, EXIT_NO_DAEMON);
                break;
        }
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        finish(userdata, EXIT_NOT_ENDED);
        return 0;
}

static int on_interrupt(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        finish(userdata, EXIT_INTERRUPTED);
        return 0;
}

static int start(struct wait *wait, const unsigned long long *timeout)
{
        sd_event *event = bus_event(wait->bus);
        uint64_t now = 0;
        int r;

        r = bus_catch_stops(wait->bus, on_interrupt, wait);
        if (r >= 0 && timeout) {
                (void)sd_event_now(event, CLOCK_MONOTONIC, &now);
                r = sd_event_add_time(event, NULL, CLOCK_MONOTONIC, now + *timeout, 1000, on_timeout, wait);
        }
        return r;
}

static enum exit_code print_json(const struct wait *wait)
{
        json_t *cameras = json_array();

        for (int i = 0; i < wait->n_names; i++) {
                const struct camera *camera;

                if (camera_match(wait->bus, wait->names[i], &camera) == NAME_FOUND)
                        (void)json_array_append_new(cameras, json_of_camera(camera, bus_camera_update(wait->bus, camera)));
        }
        return json_print_line(json_pack("{ss ss si so}", "event", "exit", "code", exit_code_name(wait->code), "exit", (int)wait->code,
                                         "cameras", cameras));
}

/* It was waited for in vain, and the daemon knows why. */
static void say_why(const struct wait *wait)
{
        for (int i = 0; !wait->client->json && i < wait->n_names; i++) {
                _cleanup_free_ char *advice = NULL;
                const struct camera *camera;

                if (camera_match(wait->bus, wait->names[i], &camera) != NAME_FOUND || !*camera->diagnosis)
                        continue;
                advice = camera_advice(camera, bus_camera_update(wait->bus, camera));
                if (advice)
                        (void)client_fail(wait->client, wait->code, "%s: %s: %s", camera_label(camera), camera->diagnosis, advice);
        }
}

static enum exit_code say_end(const struct wait *wait)
{
        switch (wait->code) {
        case EXIT_NO_DAEMON:
                return client_fail(wait->client, wait->code, "The connection to the bus was lost, or the daemon makes no sense.");
        case EXIT_NOT_ENDED:
                say_why(wait);
                return client_fail(wait->client, wait->code, "It did not come in the time given.");
        case EXIT_INTERRUPTED:
                return wait->client->json ? client_fail(wait->client, wait->code, "Interrupted.") : wait->code;
        default:
                break;
        }
        for (int i = 0; wait->for_done && !wait->client->json && i < wait->n_names; i++) {
                const struct camera *camera;
                const struct update *update = NULL;
                _cleanup_free_ char *end = NULL;

                if (camera_match(wait->bus, wait->names[i], &camera) == NAME_FOUND)
                        update = bus_camera_update(wait->bus, camera);
                if (!update || update_exit_code(update) == EXIT_DONE)
                        continue;
                end = update_end(update);
                (void)client_fail(wait->client, wait->code, "%s: %s", camera_label(camera), end ? end : "failed.");
        }
        if (wait->client->json)
                return exit_code_worse(wait->code, print_json(wait));
        return wait->code;
}

enum exit_code verb_wait(struct client *client, int argc, char **argv)
{
        enum { FOR = OPTION_FIRST_OWN, TIMEOUT };
        static const struct option options[] = {
                { "for", required_argument, NULL, FOR },
                { "timeout", required_argument, NULL, TIMEOUT },
                CLIENT_COMMON_OPTIONS
        };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        struct wait wait = { .client = client };
        unsigned long long timeout = 0;
        bool has_timeout = false;
        const char *what = NULL;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
                switch (option) {
                case FOR:
                        what = optarg;
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
        if (optind == argc || !what)
                return client_fail(client, EXIT_WRONG_USAGE, "Name cameras, and say --for what: see camrescue wait --help.");
        code = parse_for(&wait, what);
        if (code != EXIT_DONE)
                return code;
        code = bus_open(client, /* watch= */ true, &bus);
        if (code != EXIT_DONE)
                return code;
        wait.bus = bus;
        wait.names = argv + optind;
        wait.n_names = argc - optind;
        for (int i = 0; i < wait.n_names && !wait.for_absent; i++) {
                code = condition_check_name(client, bus, wait.names[i]);
                if (code != EXIT_DONE)
                        return code;
        }
        r = start(&wait, has_timeout ? &timeout : NULL);
        if (r >= 0) {
                bus_observe(bus, on_news, &wait);
                check(&wait);
                r = wait.finished ? 0 : sd_event_loop(bus_event(bus));
                bus_observe(bus, NULL, NULL);
        }
        if (r < 0 && !wait.finished)
                return client_fail(client, EXIT_NO_DAEMON, "Cannot wait: %s.", strerror(-r));
        return say_end(&wait);
}

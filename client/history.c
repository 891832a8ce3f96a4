/* SPDX-License-Identifier: MIT */
/*
 * camrescue history: what happened to a camera, newest last, as one reads a
 * story.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"
#include "client/table.h"

struct line {
        uint64_t wall;
        const char *event, *text;       /* of the reply */
};

/* *ret: the caller's, newest first, pointing into reply. */
static int read_lines(sd_bus_message *reply, struct line **ret, size_t *ret_n)
{
        struct line *lines = NULL, line;
        size_t n = 0;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "(tss)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(tss)", &line.wall, &line.event, &line.text)) > 0) {
                struct line *grown = reallocarray(lines, n + 1, sizeof(*grown));

                if (!grown) {
                        r = -ENOMEM;
                        break;
                }
                lines = grown;
                lines[n++] = line;
        }
        if (r < 0) {
                free(lines);
                return r;
        }
        *ret = lines;
        *ret_n = n;
        return 0;
}

static enum exit_code print_json(const struct camera *camera, const struct line *lines, size_t n)
{
        json_t *array = json_array();

        for (size_t i = n; i > 0; i--)
                (void)json_array_append_new(array, json_pack("{so so so}", "time", json_time(lines[i - 1].wall),
                                                             "event", json_text(lines[i - 1].event),
                                                             "text", json_text(lines[i - 1].text)));
        return json_print(json_pack("{so so}", "camera", json_text(camera->key), "history", array));
}

static enum exit_code print_table(const struct client *client, const struct line *lines, size_t n)
{
        static const char *const headings[] = { "WHEN", "WHAT", "", NULL };
        _cleanup_(table_freep) struct table *table = table_new(headings);
        int r = table ? 0 : -ENOMEM;

        for (size_t i = n; i > 0 && r >= 0; i--) {
                time_t seconds = (time_t)(lines[i - 1].wall / 1000000);
                char when[32] = "";
                struct tm tm;

                if (localtime_r(&seconds, &tm))
                        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
                r = table_row(table);
                if (r >= 0)
                        r = table_cell(table, STYLE_DIM, when);
                if (r >= 0)
                        r = table_cell(table, STYLE_PLAIN, lines[i - 1].event);
                if (r >= 0)
                        r = table_cell(table, STYLE_PLAIN, lines[i - 1].text);
        }
        if (r >= 0)
                r = table_print(table, stdout, &client->out);
        if (r < 0 || fflush(stdout) != 0)
                return client_fail(client, EXIT_FAILED, "Cannot print the table.");
        return EXIT_DONE;
}

enum exit_code verb_history(struct client *client, int argc, char **argv)
{
        enum { LINES = OPTION_FIRST_OWN };
        static const struct option options[] = { { "lines", required_argument, NULL, LINES }, CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        _cleanup_free_ struct line *lines = NULL;
        const struct camera *camera = NULL;
        unsigned long max = 0;
        enum exit_code code;
        int option, r;
        char *end;
        size_t n;

        while ((option = getopt_long(argc, argv, ":n:", options, NULL)) >= 0)
                if (option == LINES || option == 'n') {
                        max = strtoul(optarg, &end, 10);
                        if (*optarg < '0' || *optarg > '9' || *end || max == 0 || max > 1000000)
                                return client_fail(client, EXIT_WRONG_USAGE, "How many lines is \"%s\"?", optarg);
                } else if (client_common_option(client, option, &code) > 0)
                        return code;
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue history --help.");
        code = bus_open(client, /* watch= */ false, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, "GetHistory", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "u", (uint32_t)max);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (read_lines(reply, &lines, &n) < 0)
                return bus_bad_reply(client, "a history");
        if (client->json)
                return print_json(camera, lines, n);
        if (n == 0) {
                (void)printf("%s: nothing that is worth telling has happened yet.\n", camera_label(camera));
                return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
        }
        return print_table(client, lines, n);
}

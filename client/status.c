/* SPDX-License-Identifier: MIT */
/*
 * camrescue status: one look at every camera.  Reads, and changes nothing.
 */

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"
#include "client/table.h"

/* Ids take 24 columns, and a port names a camera as well. */
#define COLUMNS_FOR_SERIAL 130

static int add_row(struct table *table, const struct camera *camera, const struct update *update, bool with_serial)
{
        _cleanup_free_ char *doing = camera_doing(camera, update, 1), *advice = camera_advice(camera, update);
        enum style style = camera_style(camera, update);
        const char *id = *camera->unique_id ? camera->unique_id : *camera->serial ? camera->serial : camera->key;
        char port[48];
        const struct { enum style style; const char *text; } cells[] = {
                { STYLE_PLAIN, port }, { STYLE_BOLD, camera->label }, { STYLE_PLAIN, camera_board(camera) }, { STYLE_DIM, with_serial ? id : "" },
                { STYLE_PLAIN, camera->mode }, { style, camera->state }, { STYLE_PLAIN, camera->firmware },
                { update_is_open(update) ? STYLE_BUSY : STYLE_PLAIN, doing }, { STYLE_PLAIN, advice },
        };
        int r;

        if (!doing || !advice)
                return -ENOMEM;
        /* In brackets: where it was. */
        (void)snprintf(port, sizeof(port), camera->attached || !*camera->port ? "%s" : "(%s)", camera->port);
        r = table_row(table);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(cells); i++)
                r = table_cell(table, cells[i].style, cells[i].text);
        return r;
}

static enum exit_code print_table(const struct client *client, struct bus *bus, const struct camera **cameras, size_t n)
{
        static const char *const headings[] = { "PORT", "LABEL", "BOARD", "SERIAL", "MODE", "STATE", "FIRMWARE", "DOING", "ADVICE", NULL };
        _cleanup_(table_freep) struct table *table = table_new(headings);
        bool with_serial = client->out.columns == TEXT_UNLIMITED || client->out.columns >= COLUMNS_FOR_SERIAL;
        int r = table ? 0 : -ENOMEM;

        if (n == 0) {
                (void)puts("No camera is attached, and none is known. Plug one in.");
                return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
        }
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = add_row(table, cameras[i], bus_camera_update(bus, cameras[i]), with_serial);
        if (r >= 0)
                r = table_print(table, stdout, &client->out);
        if (r < 0 || fflush(stdout) != 0)
                return client_fail(client, EXIT_FAILED, "Cannot print the table.");
        return EXIT_DONE;
}

static enum exit_code print_json(const struct client *client, struct bus *bus, const struct camera **cameras, size_t n)
{
        _cleanup_(daemon_freep) struct daemon *daemon = NULL;
        enum exit_code code = bus_read_daemon(client, bus, &daemon);
        json_t *array;

        if (code != EXIT_DONE)
                return code;
        array = json_array();
        for (size_t i = 0; i < n; i++)
                (void)json_array_append_new(array, json_of_camera(cameras[i], bus_camera_update(bus, cameras[i])));
        return json_print(json_pack("{s{so si sb} so}", "daemon", "version", json_text(daemon->version),
                                    "api_version", (int)daemon->api_version, "automatic_recovery", (int)daemon->automatic_recovery,
                                    "cameras", array));
}

enum exit_code verb_status(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        _cleanup_free_ const struct camera **cameras = NULL;
        enum exit_code code;
        size_t n = 0, all;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        code = bus_open(client, /* watch= */ false, &bus);
        if (code != EXIT_DONE)
                return code;
        all = bus_camera_count(bus);
        cameras = calloc(all + (size_t)(argc - optind) + 1, sizeof(*cameras));
        if (!cameras)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        for (int i = optind; i < argc; i++) {
                code = camera_named(client, bus, argv[i], &cameras[n]);
                if (code != EXIT_DONE)
                        return code;
                n++;
        }
        if (optind == argc)
                for (; n < all; n++)
                        cameras[n] = bus_nth_camera(bus, n);
        return client->json ? print_json(client, bus, cameras, n) : print_table(client, bus, cameras, n);
}

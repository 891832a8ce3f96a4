/* SPDX-License-Identifier: MIT */
/*
 * camrescue firmware list.
 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <time.h>

#include "client/firmware.h"
#include "client/json.h"
#include "client/table.h"

/* "sha256:" and 64 digits are for programs; twelve digits name an image well enough for people. */
#define SHORT_ID 12

static int add_row(struct table *table, const struct firmware *image)
{
        const char *id = strncmp(image->id, "sha256:", 7) == 0 ? image->id + 7 : image->id;
        time_t seconds = (time_t)(image->added / 1000000);
        char shortened[SHORT_ID + 1], date[32] = "", size[32];
        struct tm tm;
        int r;

        (void)snprintf(shortened, sizeof(shortened), "%s", id);
        (void)snprintf(size, sizeof(size), "%u KiB", (image->size + 1023) / 1024);
        if (image->added && localtime_r(&seconds, &tm))
                (void)strftime(date, sizeof(date), "%Y-%m-%d", &tm);
        const struct { enum style style; const char *text; } cells[] = {
                { STYLE_DIM, shortened }, { STYLE_PLAIN, image->board }, { STYLE_PLAIN, image->partition },
                { STYLE_PLAIN, image->version }, { STYLE_PLAIN, image->stable ? "stable" : "development" },
                { STYLE_BOLD, image->pinned ? "pinned" : "" }, { STYLE_PLAIN, size }, { STYLE_PLAIN, date },
                { STYLE_PLAIN, image->file },
        };
        r = table_row(table);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(cells); i++)
                r = table_cell(table, cells[i].style, cells[i].text);
        return r;
}

static enum exit_code print_table(const struct client *client, const struct firmware_list *list)
{
        static const char *const headings[] = { "ID", "BOARD", "PARTITION", "VERSION", "KIND", "PIN", "SIZE", "ADDED", "FILE", NULL };
        _cleanup_(table_freep) struct table *table = table_new(headings);
        int r = table ? 0 : -ENOMEM;

        if (list->n == 0) {
                (void)puts("no-firmware: the store is empty, so no camera can be updated or recovered.");
                (void)puts("Import some: camrescue firmware import [FILE|DIRECTORY|ZIP...]");
                return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
        }
        for (size_t i = 0; r >= 0 && i < list->n; i++)
                r = add_row(table, list->items[i]);
        if (r >= 0)
                r = table_print(table, stdout, &client->out);
        if (r < 0 || fflush(stdout) != 0)
                return client_fail(client, EXIT_FAILED, "Cannot print the table.");
        return EXIT_DONE;
}

static enum exit_code print_json(const struct firmware_list *list)
{
        json_t *array = json_array();

        for (size_t i = 0; i < list->n; i++) {
                const struct firmware *image = list->items[i];

                (void)json_array_append_new(array, json_pack("{so so so so so sb sb sI so}",
                        "id", json_text(image->id), "board", json_text(image->board), "partition", json_text(image->partition),
                        "version", json_text(image->version), "file", json_text(image->file), "stable", (int)image->stable,
                        "pinned", (int)image->pinned, "size", (json_int_t)image->size, "added", json_time(image->added)));
        }
        return json_print(json_pack("{so so}", "state", json_text(list->n ? "ready" : "no-firmware"), "firmware", array));
}

enum exit_code verb_firmware_list(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(firmware_list_clear) struct firmware_list list = { .n = 0 };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        enum exit_code code;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        if (optind != argc)
                return client_fail(client, EXIT_WRONG_USAGE, "firmware list takes no argument.");
        code = bus_connect(client, &bus);
        if (code == EXIT_DONE)
                code = firmware_fetch(client, bus, &list);
        if (code != EXIT_DONE)
                return code;
        return client->json ? print_json(&list) : print_table(client, &list);
}

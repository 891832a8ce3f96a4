/* SPDX-License-Identifier: MIT */
/*
 * camrescue firmware: its verbs, and the store's list that they need.
 */

#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "client/firmware.h"
#include "client/text.h"

static const struct bus_property properties[] = {
        { "id", 's', offsetof(struct firmware, id) },
        { "board", 's', offsetof(struct firmware, board) },
        { "partition", 's', offsetof(struct firmware, partition) },
        { "version", 's', offsetof(struct firmware, version) },
        { "file", 's', offsetof(struct firmware, file) },
        { "stable", 'b', offsetof(struct firmware, stable) },
        { "pinned", 'b', offsetof(struct firmware, pinned) },
        { "size", 'u', offsetof(struct firmware, size) },
        { "added", 't', offsetof(struct firmware, added) },
        { NULL },
};

static int compare(const void *pa, const void *pb)
{
        const struct firmware *a = *(struct firmware *const *)pa, *b = *(struct firmware *const *)pb;
        int c = text_compare_natural(a->board, b->board);

        if (c == 0)
                c = -text_compare_natural(a->version, b->version);
        return c ? c : strcmp(a->partition, b->partition);
}

void firmware_list_clear(struct firmware_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                bus_object_free(list->items[i], properties);
        free(list->items);
        *list = (struct firmware_list){ .n = 0 };
}

static int read_list(sd_bus_message *m, struct firmware_list *list)
{
        int r;

        r = sd_bus_message_enter_container(m, 'a', "a{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(m, false)) == 0) {
                struct firmware **items = reallocarray(list->items, list->n + 1, sizeof(*items));
                void *object;

                if (!items)
                        return -ENOMEM;
                list->items = items;
                r = bus_object_new("", properties, sizeof(struct firmware), &object);
                if (r < 0)
                        return r;
                items[list->n++] = object;
                r = bus_properties_read(m, properties, object);
                if (r < 0)
                        return r;
        }
        return r;
}

enum exit_code firmware_fetch(const struct client *client, struct bus *bus, struct firmware_list *list)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        enum exit_code code;
        int r;

        r = bus_new_call(bus, BUS_ROOT, BUS_MANAGER, "ListFirmware", &call);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (read_list(reply, list) < 0) {
                firmware_list_clear(list);
                return bus_bad_reply(client, "the list of firmware");
        }
        if (list->n > 0)
                qsort(list->items, list->n, sizeof(struct firmware *), compare);
        return EXIT_DONE;
}

enum exit_code verb_firmware(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        enum exit_code code;
        int option;

        /* What stands before its verb. */
        while ((option = getopt_long(argc, argv, "+:", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        argc -= optind - 1;
        argv += optind - 1;
        optind = 0;
        if (argc > 1 && strcmp(argv[1], "import") == 0)
                return verb_firmware_import(client, argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "fetch") == 0)
                return verb_firmware_fetch(client, argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "list") == 0)
                return verb_firmware_list(client, argc - 1, argv + 1);
        if (argc > 1 && strcmp(argv[1], "remove") == 0)
                return verb_firmware_remove(client, argc - 1, argv + 1);
        return client_fail(client, EXIT_WRONG_USAGE, "Say firmware fetch, import, list or remove: see camrescue firmware --help.");
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue firmware remove: takes images out of the store, by id or by a
 * beginning of it that fits one only.
 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "client/firmware.h"
#include "client/json.h"

/* Fewer digits are more likely a slip of the hand. */
#define ID_MIN 4

static const char *digits(const char *id)
{
        return strncmp(id, "sha256:", 7) == 0 ? id + 7 : id;
}

static enum exit_code find(const struct client *client, const struct firmware_list *list, const char *name, const char **ret)
{
        const char *wanted = digits(name), *found = NULL;

        if (strlen(wanted) < ID_MIN)
                return client_fail_image(client, "\"%s\" is too short for an id: see camrescue firmware list.", name);
        for (size_t i = 0; i < list->n; i++) {
                const char *id = list->items[i]->id;

                if (strncasecmp(digits(id), wanted, strlen(wanted)) != 0)
                        continue;
                /* One image may stand in the list for several boards. */
                if (found && strcmp(found, id) != 0)
                        return client_fail_image(client, "\"%s\" fits several images: see camrescue firmware list.", name);
                found = id;
        }
        if (!found)
                return client_fail_image(client, "No image \"%s\" in the store: see camrescue firmware list.", name);
        *ret = found;
        return EXIT_DONE;
}

static enum exit_code remove_one(const struct client *client, struct bus *bus, const char *id)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        enum exit_code code;
        int r;

        r = bus_new_call(bus, BUS_ROOT, BUS_MANAGER, "RemoveFirmware", &call);
        if (r >= 0)
                r = sd_bus_message_append_basic(call, 's', id);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call(bus, call, &error, &reply);
        if (code == EXIT_NO_CAMERA)             /* somebody else has just removed it */
                return client_fail_image(client, "No image \"%s\" in the store any more.", id);
        if (code != EXIT_DONE)
                return bus_report_error(client, &error, 0);
        if (client->json)
                return json_print_line(json_pack("{ss ss}", "event", "removed", "id", id));
        (void)printf("removed %s\n", id);
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

enum exit_code verb_firmware_remove(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(firmware_list_clear) struct firmware_list list = { .n = 0 };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        enum exit_code code, whole = EXIT_DONE;
        const char *id = NULL;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        if (optind == argc)
                return client_fail(client, EXIT_WRONG_USAGE, "Name the image's id: see camrescue firmware list.");
        code = bus_connect(client, &bus);
        if (code == EXIT_DONE)
                code = firmware_fetch(client, bus, &list);
        if (code != EXIT_DONE)
                return code;
        for (int i = optind; i < argc; i++) {
                code = find(client, &list, argv[i], &id);
                if (code == EXIT_DONE)
                        code = remove_one(client, bus, id);
                if (code == EXIT_NO_DAEMON)
                        return code;
                whole = exit_code_worse(whole, code);
        }
        return whole;
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue cancel: ends a camera's open update.  The daemon stops at the next
 * safe place, which may be later than this answer.
 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"

enum exit_code verb_cancel(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const struct camera *camera = NULL;
        const struct update *update;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue cancel --help.");
        code = bus_open(client, /* watch= */ false, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        update = bus_camera_update(bus, camera);
        if (!update_is_open(update))
                return client_fail(client, EXIT_REFUSED, "There is no open update of %s.", camera_label(camera));
        r = bus_new_call(bus, update->path, BUS_UPDATE, "Cancel", &call);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (client->json)
                return json_print_line(json_pack("{ss ss}", "event", "cancelled", "update", update->path));
        (void)printf("%s: its update is being ended.\n", camera_label(camera));
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

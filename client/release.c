/* SPDX-License-Identifier: MIT */
/* camrescue release: a camera's bootloader that is held, or just stays, is let go. */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"

enum exit_code verb_release(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const struct camera *camera = NULL;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue release --help.");
        code = bus_open(client, /* watch= */ false, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, "Release", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}", 0);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        if (bus_call(bus, call, &error, &reply) != EXIT_DONE)
                return bus_report_error(client, &error, 0);
        if (client->json)
                return json_print_line(json_pack("{ss so}", "event", "released", "camera", json_text(camera->key)));
        (void)printf("%s: released.\n", camera_label(camera));
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

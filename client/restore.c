/* SPDX-License-Identifier: MIT */
/*
 * camrescue restore: asks for the image back that was saved before the camera
 * was last overwritten.
 */

#include <getopt.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/follow.h"

enum exit_code verb_restore(struct client *client, int argc, char **argv)
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
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue restore --help.");
        code = bus_open(client, /* watch= */ true, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, "Restore", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "a{sv}", 0);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        return follow_camera_call(client, bus, camera, call, &follow);
}

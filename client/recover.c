/* SPDX-License-Identifier: MIT */
/*
 * camrescue recover: carries the user's word that a device is a camera, and of
 * which board.  Whether that is enough is the daemon's verdict.
 */

#include <getopt.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/follow.h"

enum exit_code verb_recover(struct client *client, int argc, char **argv)
{
        enum { BOARD = FOLLOW_OPTION_NEXT, FIRMWARE, REPLACE_UNKNOWN };
        static const struct option options[] = {
                { "board", required_argument, NULL, BOARD },
                { "firmware", required_argument, NULL, FIRMWARE },
                { "replace-unknown", no_argument, NULL, REPLACE_UNKNOWN },
                FOLLOW_OPTIONS,
                CLIENT_COMMON_OPTIONS
        };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const char *board = NULL, *firmware = NULL;
        struct follow_options follow = { .wait = false };
        const struct camera *camera = NULL;
        bool replace_unknown = false;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
                switch (option) {
                case BOARD:
                        board = optarg;
                        break;
                case FIRMWARE:
                        firmware = optarg;
                        break;
                case REPLACE_UNKNOWN:
                        replace_unknown = true;
                        break;
                default:
                        if (follow_option(client, option, &follow, &code) > 0)
                                return code;
                }
        }
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: your word is for one device. See camrescue recover --help.");
        code = bus_open(client, /* watch= */ true, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, "Recover", &call);
        if (r >= 0)
                r = sd_bus_message_open_container(call, 'a', "{sv}");
        if (r >= 0 && board)
                r = sd_bus_message_append(call, "{sv}", "board", "s", board);
        if (r >= 0 && firmware)
                r = sd_bus_message_append(call, "{sv}", "firmware", "s", firmware);
        if (r >= 0 && replace_unknown)
                r = sd_bus_message_append(call, "{sv}", "replace-unknown", "b", 1);
        if (r >= 0)
                r = sd_bus_message_close_container(call);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        return follow_camera_call(client, bus, camera, call, &follow);
}

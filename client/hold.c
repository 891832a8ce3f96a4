/* SPDX-License-Identifier: MIT */
/*
 * camrescue hold: the camera's bootloader is caught when it is there, and left to
 * another program.
 */

#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"

/* The daemon's limits are 1 microsecond and a day (daemon/core/hold.h). */
#define HOLD_SECONDS_MIN 0.001
#define HOLD_SECONDS_MAX 86400

/* Microseconds; 0: the daemon's own. */
static int new_hold(struct bus *bus, const struct camera *camera, uint64_t timeout, sd_bus_message **ret)
{
        int r;

        r = bus_new_call(bus, camera->path, BUS_CAMERA, "HoldInBootloader", ret);
        if (r >= 0)
                r = sd_bus_message_open_container(*ret, 'a', "{sv}");
        if (r >= 0 && timeout > 0)
                r = sd_bus_message_append(*ret, "{sv}", "timeout", "t", timeout);
        return r < 0 ? r : sd_bus_message_close_container(*ret);
}

static void print_what_follows(const struct camera *camera)
{
        if (strcmp(camera->state, "held") == 0)         /* before it was asked */
                (void)printf("%s: its bootloader stays held.\n", camera_label(camera));
        else
                (void)printf("%s: its bootloader will be held. To wait for that: camrescue wait --for state=held %s\n",
                             camera_label(camera), camera_place(camera));
}

enum exit_code verb_hold(struct client *client, int argc, char **argv)
{
        enum { TIMEOUT = OPTION_FIRST_OWN };
        static const struct option options[] = { { "timeout", required_argument, NULL, TIMEOUT }, CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const struct camera *camera = NULL;
        unsigned long long timeout = 0;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (option == TIMEOUT) {
                        code = client_seconds(client, optarg, HOLD_SECONDS_MIN, HOLD_SECONDS_MAX, &timeout);
                        if (code != EXIT_DONE)
                                return code;
                } else if (client_common_option(client, option, &code) > 0)
                        return code;
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue hold --help.");
        code = bus_open(client, /* watch= */ false, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = new_hold(bus, camera, timeout, &call);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        if (bus_call(bus, call, &error, &reply) != EXIT_DONE)
                return bus_report_error(client, &error, 0);
        if (client->json)
                return json_print_line(json_pack("{ss so}", "event", "asked", "camera", json_text(camera->key)));
        print_what_follows(camera);
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

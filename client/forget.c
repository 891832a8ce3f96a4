/* SPDX-License-Identifier: MIT */
/*
 * camrescue forget: a camera that is not there any more is not shown and not
 * awaited any more.  What was saved from it is deleted only when that was said.
 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"

enum exit_code verb_forget(struct client *client, int argc, char **argv)
{
        enum { SAVED = OPTION_FIRST_OWN };
        static const struct option options[] = { { "saved", no_argument, NULL, SAVED }, CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const struct camera *camera = NULL;
        enum exit_code code;
        bool saved = false;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (option == SAVED)
                        saved = true;
                else if (client_common_option(client, option, &code) > 0)
                        return code;
        if (argc - optind != 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera: see camrescue forget --help.");
        code = bus_open(client, /* watch= */ false, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, "Forget", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "b", (int)saved);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call(bus, call, &error, &reply);
        if (code != EXIT_DONE && sd_bus_error_has_name(&error, BUS_NAME ".Error.HasSavedImages"))
                return client_fail(client, EXIT_REFUSED, "%s With --saved they are.", error.message);
        if (code != EXIT_DONE)
                return bus_report_error(client, &error, 0);
        if (client->json)
                return json_print_line(json_pack("{ss so}", "event", "forgotten", "camera", json_text(camera->key)));
        (void)printf("%s: forgotten.\n", camera_label(camera));
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

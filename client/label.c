/* SPDX-License-Identifier: MIT */
/*
 * camrescue label: gives a camera a name of its own.  Whether it is fit for one
 * is the daemon's to say.
 */

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/json.h"

enum exit_code verb_label(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_free_ char *valid = NULL, *line = NULL, *clean = NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const struct camera *camera = NULL;
        const char *label;
        enum exit_code code;
        int option, r;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        if (argc - optind != 2)
                return client_fail(client, EXIT_WRONG_USAGE, "Name one camera and its label (\"\" takes it away): see camrescue label --help.");
        label = argv[optind + 1];
        valid = text_valid(label);
        /* A name with a letter changed would be another one. */
        if (!valid || strcmp(valid, label) != 0)
                return client_fail(client, EXIT_WRONG_USAGE, "The label is not valid UTF-8.");
        code = bus_open(client, /* watch= */ false, &bus);
        if (code == EXIT_DONE)
                code = camera_named(client, bus, argv[optind], &camera);
        if (code != EXIT_DONE)
                return code;
        r = bus_new_call(bus, camera->path, BUS_CAMERA, "SetLabel", &call);
        if (r >= 0)
                r = sd_bus_message_append_basic(call, 's', label);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (client->json)
                return json_print_line(json_pack("{ss so so so}", "event", "labelled", "camera", json_text(camera->path),
                                                 "port", json_text(camera->port), "label", json_text(label)));
        r = *label ? asprintf(&line, "%s is called \"%s\" now.", camera_place(camera), label)
                   : asprintf(&line, "%s has no label now.", camera_place(camera));
        if (r < 0) {
                line = NULL;
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        }
        clean = text_clean(line, client->out.utf8);
        if (clean)
                (void)puts(clean);
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

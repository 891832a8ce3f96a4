/* SPDX-License-Identifier: MIT */
/*
 * Who may ask the daemon to change something: root, and whoever the daemon
 * runs as (a person who tries it out on a bus of his own).  Reading is for
 * everyone.
 */

#include <unistd.h>

#include "base/cleanup.h"
#include "edge/bus-internal.h"

int bus_check_access(sd_bus_message *message, sd_bus_error *error)
{
        sd_bus_creds *creds = NULL;
        uid_t uid;
        int r;

        r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_EUID, &creds);
        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, &uid);
        sd_bus_creds_unref(creds);
        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_DENIED, "Who you are could not be found out.");
        if (uid == 0 || uid == geteuid())
                return 0;
        return sd_bus_error_setf(error, BUS_ERROR_DENIED, "Only root may ask for this: try it with sudo.");
}

/* SPDX-License-Identifier: MIT */

/* The least that a client can do to show cameras: connect, ask for all objects, let go of the answer. */

#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>

int main(void)
{
        sd_bus_message *reply = NULL;
        sd_bus *bus = NULL;

        if (sd_bus_open_system(&bus) < 0 ||
            sd_bus_call_method(bus, "org.camrescue1", "/org/camrescue1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL,
                               &reply, "") < 0)
                return EXIT_FAILURE;
        (void)printf("%s\n", sd_bus_message_get_signature(reply, 1));
        (void)sd_bus_message_unref(reply);
        (void)sd_bus_flush_close_unref(bus);
        return EXIT_SUCCESS;
}

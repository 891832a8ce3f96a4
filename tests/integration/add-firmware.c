/* SPDX-License-Identifier: MIT */
/*
 * Gives its standard input to AddFirmware as it is, whatever it is: the client
 * would make a sealed memfd of it.
 */

#include <stdio.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus *bus = NULL;
        int r;

        if (argc != 2) {
                (void)fprintf(stderr, "Usage: add-firmware BUS-ADDRESS < IMAGE\n");
                return 2;
        }
        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, argv[1]);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r >= 0)
                r = sd_bus_call_method(bus, "org.camrescue1", "/org/camrescue1", "org.camrescue1.Manager", "AddFirmware", &error, NULL,
                                       "ha{sv}", STDIN_FILENO, 1, "board", "s", "M7");
        if (r < 0)
                (void)fprintf(stderr, "%s\n", error.message ? error.message : "failed");
        sd_bus_error_free(&error);
        sd_bus_flush_close_unref(bus);
        return r < 0;
}

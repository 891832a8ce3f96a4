/* SPDX-License-Identifier: MIT */
/*
 * claimer ADDRESS CAMERA: another program, for which a camera is held.  It says "ready", and
 * each time that it is told that CAMERA's State is "held" claims its first interface in
 * that moment, lets it go again, and says "claimed", or why it could not.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#define SERVICE "org.camrescue1"

static char node[128];

static int must(int r, const char *what)
{
        if (r >= 0)
                return r;
        (void)fprintf(stderr, "claimer: %s: %s\n", what, strerror(-r));
        exit(1);
}

static void claim(void)
{
        unsigned interface = 0;
        int fd = open(node, O_RDWR | O_CLOEXEC);

        if (fd < 0)
                (void)printf("%s cannot be opened: %s\n", node, strerror(errno));
        else if (ioctl(fd, USBDEVFS_CLAIMINTERFACE, &interface) < 0)
                (void)printf("%s cannot be claimed: %s\n", node, strerror(errno));
        else {
                (void)ioctl(fd, USBDEVFS_RELEASEINTERFACE, &interface);
                (void)printf("claimed\n");
        }
        if (fd >= 0)
                (void)close(fd);
        (void)fflush(stdout);
}

/* a{sv}: true if it says that the camera is held. */
static int read_properties(sd_bus_message *m)
{
        const char *name, *value;
        int held = 0;

        must(sd_bus_message_enter_container(m, 'a', "{sv}"), "properties");
        while (must(sd_bus_message_enter_container(m, 'e', "sv"), "properties") > 0) {
                must(sd_bus_message_read(m, "s", &name), "properties");
                if (strcmp(name, "State") == 0 || strcmp(name, "DeviceNode") == 0) {
                        must(sd_bus_message_read(m, "v", "s", &value), "properties");
                        if (name[0] == 'D')
                                (void)snprintf(node, sizeof(node), "%s", value);
                        else
                                held = strcmp(value, "held") == 0;
                } else
                        must(sd_bus_message_skip(m, "v"), "properties");
                must(sd_bus_message_exit_container(m), "properties");
        }
        must(sd_bus_message_exit_container(m), "properties");
        return held;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *interface;

        (void)userdata;
        (void)error;
        must(sd_bus_message_read(m, "s", &interface), "news");
        if (read_properties(m))
                claim();
        return 0;
}

int main(int argc, char **argv)
{
        sd_bus_message *reply = NULL;
        sd_bus *bus = NULL;

        if (argc != 3)
                return 2;
        must(sd_bus_new(&bus), "bus");
        must(sd_bus_set_address(bus, argv[1]), "bus");
        must(sd_bus_set_bus_client(bus, 1), "bus");
        must(sd_bus_start(bus), "bus");
        must(sd_bus_match_signal(bus, NULL, SERVICE, argv[2], "org.freedesktop.DBus.Properties", "PropertiesChanged", on_changed, NULL), "match");
        must(sd_bus_call_method(bus, SERVICE, argv[2], "org.freedesktop.DBus.Properties", "GetAll", NULL, &reply, "s", SERVICE ".Camera"), "camera");
        (void)read_properties(reply);
        sd_bus_message_unref(reply);
        (void)printf("ready\n");
        (void)fflush(stdout);
        for (;;)
                if (must(sd_bus_process(bus, NULL), "process") == 0)
                        must(sd_bus_wait(bus, UINT64_MAX), "wait");
}

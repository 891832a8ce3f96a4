/* SPDX-License-Identifier: MIT */

/*
 * The floor: the least that a daemon on these libraries can be.  It owns a bus
 * name, has one object with one property, listens to udev, lists what is
 * attached once, and sleeps.  No camera, no state, no thought for failure.
 *
 * The benches run it beside camrescued in the same job and hold camrescued to a
 * ratio: what a machine's load or a library's new version does to both is nobody's fault.
 */

#include <event2/event.h>
#include <libudev.h>
#include <libusb.h>
#include <stdbool.h>
#include <stdlib.h>
#include <systemd/sd-bus.h>

static void on_bus(evutil_socket_t fd, short events, void *userdata)
{
        while (sd_bus_process(userdata, NULL) > 0)
                ;
}

static void on_udev(evutil_socket_t fd, short events, void *userdata)
{
        struct udev_device *device;

        while ((device = udev_monitor_receive_device(userdata)))
                (void)udev_device_unref(device);
}

static const char *version = "0";

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", NULL, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

static void need(bool condition)
{
        if (!condition)
                exit(EXIT_FAILURE);
}

static void watch(struct event_base *base, int fd, event_callback_fn fn, void *userdata)
{
        struct event *event = event_new(base, fd, EV_READ | EV_PERSIST, fn, userdata);

        need(event && event_add(event, NULL) == 0);
}

int main(void)
{
        struct event_base *base = event_base_new();
        struct udev *udev = udev_new();
        struct udev_monitor *monitor;
        struct udev_enumerate *enumerate;
        struct udev_list_entry *entry;
        libusb_context *usb;
        sd_bus *bus;

        need(base && udev);
        need(libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY) == 0 && libusb_init(&usb) == 0);
        need(sd_bus_default_system(&bus) >= 0);
        need(sd_bus_add_object_vtable(bus, NULL, "/org/camrescue1", "org.camrescue1.Floor", vtable, &version) >= 0);
        need(sd_bus_request_name(bus, "org.camrescue1.Floor", 0) >= 0);

        monitor = udev_monitor_new_from_netlink(udev, "udev");
        need(monitor && udev_monitor_filter_add_match_subsystem_devtype(monitor, "usb", "usb_device") >= 0);
        need(udev_monitor_enable_receiving(monitor) >= 0);

        enumerate = udev_enumerate_new(udev);
        need(enumerate && udev_enumerate_add_match_subsystem(enumerate, "usb") >= 0);
        need(udev_enumerate_scan_devices(enumerate) >= 0);
        udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(enumerate))
                (void)udev_device_unref(udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry)));
        (void)udev_enumerate_unref(enumerate);

        watch(base, sd_bus_get_fd(bus), on_bus, bus);
        watch(base, udev_monitor_get_fd(monitor), on_udev, monitor);
        on_bus(-1, 0, bus);
        return event_base_dispatch(base) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

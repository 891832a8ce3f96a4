/* SPDX-License-Identifier: MIT */

/*
 * What it costs to look at a hundred cameras: the scan at the start against one
 * enumeration of the same tree by libudev (best of several, in this same run),
 * the processor time for each device of a burst, and the memory that stays.
 * Needs namespaces like test-device-monitor; prints TAP and the figures.
 */

#include "edge/device-monitor.h"

#include <errno.h>
#include <libudev.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "bench/row.h"
#include "sim/namespace.h"
#include "sim/sysfs.h"
#include "sim/uevent.h"

#define N_CAMERAS 100
#define N_ROUNDS 10

#define SCAN_RATIO_MAX 0.7              /* of libudev's enumeration */
#define EVENT_MICROSECONDS_MAX 100.0    /* processor time for each device of a burst */
#define BYTES_PER_CAMERA_MAX 512.0

static const uint8_t descriptors[] = {
        18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xc5, 0x37, 0x04, 0x92, 0x03, 0x01, 1, 2, 3, 1,
        9, 2, 36, 0, 1, 1, 0, 0x80, 250,
        9, 4, 0, 0, 0, 0xfe, 1, 2, 4, 9, 4, 0, 1, 0, 0xfe, 1, 2, 5, 9, 0x21, 7, 0xe8, 3, 0, 0x10, 1, 1,
};

static struct sysfs_device camera(unsigned i)
{
        struct sysfs_device device = {
                .bus = 1, .device = i + 1, .speed = 12, .configuration = 1,
                .descriptors = descriptors, .descriptors_size = sizeof(descriptors),
                .manufacturer = "OpenMV", .product = "OpenMV Camera (DFU Mode)",
        };

        (void)snprintf(device.name, sizeof(device.name), "1-%u", i);
        (void)snprintf(device.port, sizeof(device.port), "%u", i);
        (void)snprintf(device.devpath, sizeof(device.devpath), "/devices/bench/usb1/1-%u", i);
        (void)snprintf(device.serial, sizeof(device.serial), "%024X", i);
        return device;
}

static void plug_all(struct uevents *uevents)
{
        static const struct sysfs_interface interface = { .class = 0xfe, .subclass = 1, .protocol = 2 };

        for (unsigned i = 1; i <= N_CAMERAS; i++) {
                struct sysfs_device device = camera(i);

                if (sysfs_device_write(&device) < 0 || sysfs_device_write_database(&device) < 0 ||
                    sysfs_interface_write(&device, &interface) < 0)
                        abort();
                if (uevents && sysfs_device_event(uevents, &device, "add") < 0)
                        abort();
        }
}

static void unplug_all(struct uevents *uevents)
{
        static const struct sysfs_interface interface = { .class = 0xfe, .subclass = 1, .protocol = 2 };

        for (unsigned i = 1; i <= N_CAMERAS; i++) {
                struct sysfs_device device = camera(i);

                sysfs_device_delete(&device, &interface, 1, NULL);
                if (uevents && sysfs_device_event(uevents, &device, "remove") < 0)
                        abort();
        }
}

static double microseconds(clockid_t clock)
{
        struct timespec now;

        (void)clock_gettime(clock, &now);
        return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* What a program does that takes libudev's way to the same knowledge. */
static double enumerate_by_libudev(void)
{
        static const char *const attributes[] = { "serial", "product", "speed", "descriptors" };
        double begin = microseconds(CLOCK_PROCESS_CPUTIME_ID);
        struct udev *udev = udev_new();
        struct udev_enumerate *enumerate = udev_enumerate_new(udev);
        struct udev_list_entry *entry;

        (void)udev_enumerate_add_match_subsystem(enumerate, "usb");
        (void)udev_enumerate_scan_devices(enumerate);
        udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(enumerate)) {
                const char *path = udev_list_entry_get_name(entry);
                struct udev_device *device;

                if (strchr(path, ':'))
                        continue;
                device = udev_device_new_from_syspath(udev, path);
                for (size_t i = 0; i < ELEMENTSOF(attributes); i++)
                        (void)udev_device_get_sysattr_value(device, attributes[i]);
                (void)udev_device_unref(device);
        }
        (void)udev_enumerate_unref(enumerate);
        (void)udev_unref(udev);
        return microseconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
}

/* --- the listener --- */

struct listener {
        struct loop *loop;
        struct device_monitor *monitor;
        unsigned seen, gone;
        bool waiting;                   /* for all to be seen or gone */
};

static bool is_interesting(void *userdata, uint16_t vendor, uint16_t product)
{
        return vendor == 0x37c5;
}

static void on_seen(void *userdata, const struct sighting *sighting)
{
        struct listener *listener = userdata;

        if (++listener->seen == N_CAMERAS && listener->waiting)
                loop_exit(listener->loop, 0);
}

static void on_gone(void *userdata, const char *port)
{
        struct listener *listener = userdata;

        if (++listener->gone == N_CAMERAS && listener->waiting)
                loop_exit(listener->loop, 0);
}

static const struct device_monitor_callbacks callbacks = {
        .is_interesting = is_interesting, .on_seen = on_seen, .on_gone = on_gone,
};

static double scan_by_us(struct loop *loop)
{
        struct listener listener = { .loop = loop };
        double begin = microseconds(CLOCK_PROCESS_CPUTIME_ID);

        if (device_monitor_new(loop, &callbacks, &listener, &listener.monitor) < 0 ||
            device_monitor_start(listener.monitor) < 0 || listener.seen != N_CAMERAS)
                abort();
        begin = microseconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
        listener.monitor = device_monitor_free(listener.monitor);
        return begin;
}

/* Plays the burst before it is listened to, so that only the listening is counted. */
static double burst(struct listener *listener, struct uevents *uevents)
{
        double begin;

        listener->seen = listener->gone = 0;
        plug_all(uevents);
        begin = microseconds(CLOCK_PROCESS_CPUTIME_ID);
        if (loop_run(listener->loop) < 0)
                abort();
        begin = microseconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
        unplug_all(uevents);
        if (loop_run(listener->loop) < 0)
                abort();
        return begin / N_CAMERAS;
}

static bool gate(unsigned n, const char *what, double figure, double max, const char *unit)
{
        (void)printf("%s %u - %s: %.2f %s (at most %.2f)\n", figure <= max ? "ok" : "not ok", n, what, figure, unit, max);
        return figure <= max;
}

int main(void)
{
        double theirs = 1e9, ours = 1e9, event = 1e9, bytes;
        struct listener listener = { 0 };
        struct uevents *uevents;
        const char *step;
        int fuse_fd, r;
        bool ok = true;

        r = namespace_enter(NAMESPACE_USER_AUTO, &fuse_fd, &step);
        if (r < 0) {
                (void)printf("1..0 # SKIP %s: %s\n", step, strerror(-r));
                return 77;
        }
        (void)setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", /* overwrite= */ 1);
        if (uevents_new(&uevents) < 0 || loop_new(&listener.loop) < 0)
                return 99;

        plug_all(NULL);
        for (int i = 0; i < N_ROUNDS; i++) {
                theirs = MIN(theirs, enumerate_by_libudev());
                ours = MIN(ours, scan_by_us(listener.loop));
        }
        unplug_all(NULL);

        if (device_monitor_new(listener.loop, &callbacks, &listener, &listener.monitor) < 0 ||
            device_monitor_start(listener.monitor) < 0)
                return 99;
        listener.waiting = true;
        for (int i = 0; i < N_ROUNDS; i++)
                event = MIN(event, burst(&listener, uevents));
        bytes = (double)mallinfo2().uordblks;
        listener.seen = 0;
        plug_all(uevents);
        if (loop_run(listener.loop) < 0)
                return 99;
        bytes = ((double)mallinfo2().uordblks - bytes) / N_CAMERAS;

        (void)printf("1..3\n# scan of %u cameras: %.0f us, by libudev %.0f us\n", N_CAMERAS, ours, theirs);
        bench_row("scan", ours / theirs <= 1.2, "<= 1.2 x libudev", bench_text("%.1f ms", theirs / 1e3), "%.1f ms, %.2f x", ours / 1e3,
                  ours / theirs);
        ok &= gate(1, "scan against libudev's", ours / theirs, SCAN_RATIO_MAX, "times");
        ok &= gate(2, "processor time for a device of a burst", event, EVENT_MICROSECONDS_MAX, "us");
        ok &= gate(3, "memory kept for a camera", bytes, BYTES_PER_CAMERA_MAX, "bytes");

        listener.monitor = device_monitor_free(listener.monitor);
        listener.loop = loop_free(listener.loop);
        uevents = uevents_free(uevents);
        (void)close(fuse_fd);
        return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}

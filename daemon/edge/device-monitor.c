/* SPDX-License-Identifier: MIT */

/*
 * See device-monitor.h.  Of libudev only the socket is used: what an event does
 * not say is read from sysfs directly, a handful of files per camera instead of
 * a udev_device that would keep a copy of all of them.
 *
 * The socket's buffer is small for a daemon without privileges, so it is
 * emptied first and worked on later: events that matter wait in a queue of our
 * own, and each round takes a few from it.  If the kernel had to drop some
 * (ENOBUFS), a scan tells what was missed.
 *
 * An event is old news.  When "add" is worked on, the device may have left and
 * another one stand on its port; sighting_read() notices that by the device
 * number, and the event is dropped: the events of the other one are on their way.
 */

#include "edge/device-monitor.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "edge/device-table.h"
#include "edge/sighting-reader.h"

#define DEVICES_DIRECTORY "/sys/bus/usb/devices"

/* Without privileges the kernel gives what net.core.rmem_max allows, and says so by an error. */
#define RECEIVE_BUFFER_SIZE (16 * 1024 * 1024)

/* Messages taken from the socket in a row, and events worked on in a row, before other work has its turn. */
#define DRAIN_MAX 256
#define WORK_MAX 8

enum device_action {
        ACTION_ADD,
        ACTION_CHANGE,
        ACTION_REMOVE,
        ACTION_SERIAL_PORT,             /* of attachment.port; nothing else is known of it */
        ACTION_OTHER_ADD,               /* a device that does not concern us, at attachment.port */
        ACTION_OTHER_REMOVE,
};

struct device_event {
        enum device_action action;
        struct attachment attachment;
        uint64_t seen_at;
        STAILQ_ENTRY(device_event) link;        /* in monitor->events */
};

struct device_monitor {
        struct loop *loop;
        struct device_monitor_callbacks callbacks;
        void *userdata;

        struct udev *udev;
        struct udev_monitor *socket;
        struct io_watch watch;
        struct defer work;
        STAILQ_HEAD(, device_event) events;
        bool lost_events;               /* since the last scan; the queue ends before the gap */

        struct device_table *reported;
};

DEFINE_FREEP(device_monitor)

static void closedirp(DIR **directory)
{
        if (*directory)
                (void)closedir(*directory);
}

static void device_unrefp(struct udev_device **device)
{
        (void)udev_device_unref(*device);
}

/* --- reporting --- */

static void report_gone(void *userdata, const char *port)
{
        struct device_monitor *monitor = userdata;
        struct log_subject subject = { .port = port };

        log_about(LOG_DEBUG, &subject, "%s: left", port);
        monitor->callbacks.on_gone(monitor->userdata, port);
}

/* again: report it also if it is known. */
static void report_seen(struct device_monitor *monitor, int directory_fd, const struct attachment *attachment,
                        uint64_t seen_at, bool by_event, bool again)
{
        struct log_subject subject = { .port = attachment->port };
        struct sighting sighting;
        int news, r;

        if (device_table_has(monitor->reported, attachment)) {
                news = device_table_add(monitor->reported, attachment, by_event);
                if (news == DEVICE_KNOWN && !again)
                        return;
        }

        r = sighting_read(directory_fd, attachment, &sighting);
        if (r < 0) {
                log_about(LOG_DEBUG, &subject, "%s: device %u:%u is not there any more (%s)", attachment->port,
                          attachment->bus, attachment->number, strerror(-r));
                return;
        }
        if (r == SIGHTING_MALFORMED)
                log_about(LOG_WARNING, &subject, "%s: device %04x:%04x sent malformed descriptors", attachment->port,
                          sighting.vendor, sighting.product);
        sighting.seen_at = seen_at;

        news = device_table_add(monitor->reported, attachment, by_event);
        if (news < 0) {
                log_about(LOG_ERR, &subject, "%s: no memory for one more device, ignoring it", attachment->port);
                return;
        }
        if (news == DEVICE_REPLACED)
                report_gone(monitor, attachment->port);

        log_about(LOG_DEBUG, &subject, "%s: %04x:%04x \"%s\" at %s", attachment->port, sighting.vendor,
                  sighting.product, sighting.serial, sighting.node);
        monitor->callbacks.on_seen(monitor->userdata, &sighting);
}

static int open_device(const char *port)
{
        char path[sizeof(DEVICES_DIRECTORY) + 1 + NAME_MAX];
        int fd;

        (void)snprintf(path, sizeof(path), DEVICES_DIRECTORY "/%s", port);
        fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int device_monitor_serial_port(const char *port, char *node, size_t size)
{
        _cleanup_close_ int fd = open_device(port);

        return fd < 0 ? -ENODEV : serial_port_read(fd, port, node, size);
}

/* --- scans --- */

struct scanned {
        struct attachment *attachments;
        size_t n;
};

static void scanned_done(struct scanned *scanned)
{
        free(scanned->attachments);
}

static int scanned_add(struct scanned *scanned, const struct attachment *attachment)
{
        struct attachment *attachments;

        attachments = reallocarray(scanned->attachments, scanned->n + 1, sizeof(*attachments));
        if (!attachments)
                return -ENOMEM;
        attachments[scanned->n++] = *attachment;
        scanned->attachments = attachments;
        return 0;
}

static int scan(struct device_monitor *monitor, struct scanned *scanned)
{
        _cleanup_(closedirp) DIR *directory = NULL;
        struct attachment attachment;
        uint16_t vendor, product;
        int r;

        directory = opendir(DEVICES_DIRECTORY);
        if (!directory)
                return errno == ENOENT ? 0 : -errno;    /* a kernel without USB, or no controller yet */

        for (;;) {
                _cleanup_close_ int fd = -1;
                struct dirent *entry;

                errno = 0;
                entry = readdir(directory);
                if (!entry)
                        return -errno;
                if (!is_port_path(entry->d_name))
                        continue;

                fd = open_device(entry->d_name);
                if (fd < 0)
                        continue;
                r = attachment_read(fd, entry->d_name, &attachment, &vendor, &product);
                if (r < 0 || !monitor->callbacks.is_interesting(monitor->userdata, vendor, product))
                        continue;
                r = scanned_add(scanned, &attachment);
                if (r < 0)
                        return r;
        }
}

int device_monitor_rescan(struct device_monitor *monitor)
{
        _cleanup_(scanned_done) struct scanned scanned = { 0 };
        uint64_t now = loop_now(monitor->loop);
        int r;

        r = scan(monitor, &scanned);
        if (r < 0)
                return r;
        monitor->lost_events = false;

        /* The departed first: one of them may be standing on another port by now. */
        device_table_retain(monitor->reported, scanned.attachments, scanned.n, report_gone, monitor);

        for (size_t i = 0; i < scanned.n; i++) {
                const struct attachment *found = &scanned.attachments[i];
                _cleanup_close_ int fd = -1;

                if (device_table_has(monitor->reported, found))
                        continue;
                fd = open_device(found->port);
                if (fd >= 0)
                        report_seen(monitor, fd, found, now, /* by_event= */ false, /* again= */ false);
        }
        return 0;
}

/* --- events --- */

static void work_on_event(struct device_monitor *monitor, const struct device_event *event)
{
        _cleanup_close_ int fd = -1;

        switch (event->action) {
        case ACTION_REMOVE:
                if (device_table_remove(monitor->reported, &event->attachment))
                        report_gone(monitor, event->attachment.port);
                return;

        case ACTION_ADD:
        case ACTION_CHANGE:
                fd = open_device(event->attachment.port);
                if (fd >= 0)
                        report_seen(monitor, fd, &event->attachment, event->seen_at, /* by_event= */ true,
                                    /* again= */ event->action == ACTION_CHANGE);
                return;

        case ACTION_SERIAL_PORT:
                monitor->callbacks.on_serial_port(monitor->userdata, event->attachment.port);
                return;

        case ACTION_OTHER_ADD:
        case ACTION_OTHER_REMOVE:
                monitor->callbacks.on_other(monitor->userdata, event->attachment.port, event->action == ACTION_OTHER_ADD);
                return;
        }
}

static int action_parse(const char *action, enum device_action *ret)
{
        if (!action)
                return -EINVAL;
        if (strcmp(action, "add") == 0)
                *ret = ACTION_ADD;
        else if (strcmp(action, "remove") == 0)
                *ret = ACTION_REMOVE;
        else if (strcmp(action, "change") == 0)
                *ret = ACTION_CHANGE;
        else
                return -EINVAL;         /* "bind" and "unbind" say nothing of permissions or presence */
        return 0;
}

/* Not ours; but it stands where something did not answer, perhaps, or is a hub. */
static int other_parse(struct device_monitor *monitor, const char *port, struct device_event *event)
{
        if (!monitor->callbacks.on_other || event->action == ACTION_CHANGE)
                return -EINVAL;
        event->action = event->action == ACTION_ADD ? ACTION_OTHER_ADD : ACTION_OTHER_REMOVE;
        (void)snprintf(event->attachment.port, sizeof(event->attachment.port), "%s", port);
        return 0;
}

/* Takes from an event what it says itself; -EINVAL for what does not concern us. */
static int event_parse(struct device_monitor *monitor, struct udev_device *device, struct device_event *event)
{
        const char *port = udev_device_get_sysname(device);
        const char *node = udev_device_get_devnode(device);
        const char *ids = udev_device_get_property_value(device, "PRODUCT");
        const char *bus = udev_device_get_property_value(device, "BUSNUM");
        const char *number = udev_device_get_property_value(device, "DEVNUM");
        struct attachment *attachment = &event->attachment;
        uint16_t vendor, product, version;

        if (action_parse(udev_device_get_action(device), &event->action) < 0)
                return -EINVAL;
        if (!port || !is_port_path(port) || !bus || !number)
                return -EINVAL;
        /* A "remove" that says no ids is looked up in the table like any other. */
        if (ids) {
                if (product_parse(ids, &vendor, &product, &version) < 0)
                        return -EINVAL;
                if (!monitor->callbacks.is_interesting(monitor->userdata, vendor, product))
                        return other_parse(monitor, port, event);
        } else if (event->action != ACTION_REMOVE) {
                return -EINVAL;
        }

        (void)snprintf(attachment->port, sizeof(attachment->port), "%s", port);
        attachment->bus = (unsigned)strtoul(bus, NULL, 10);
        attachment->number = (unsigned)strtoul(number, NULL, 10);
        if (node && strlen(node) < sizeof(attachment->node))
                strcpy(attachment->node, node);
        else
                (void)snprintf(attachment->node, sizeof(attachment->node), "/dev/bus/usb/%03u/%03u",
                               attachment->bus % 1000, attachment->number % 1000);
        event->seen_at = loop_now(monitor->loop);
        return 0;
}

/* A serial port that has come, or may be opened now.  One that leaves does so with its device. */
static int serial_port_parse(struct device_monitor *monitor, struct udev_device *device, struct device_event *event)
{
        enum device_action action;

        if (!monitor->callbacks.on_serial_port || action_parse(udev_device_get_action(device), &action) < 0 ||
            action == ACTION_REMOVE)
                return -EINVAL;
        event->action = ACTION_SERIAL_PORT;
        return serial_port_owner(udev_device_get_devpath(device) ?: "", event->attachment.port);
}

static void receive(struct device_monitor *monitor, struct udev_device *device)
{
        const char *subsystem = udev_device_get_subsystem(device);
        struct device_event event = { 0 }, *queued;
        int r;

        if (subsystem && strcmp(subsystem, "tty") == 0)
                r = serial_port_parse(monitor, device, &event);
        else
                r = event_parse(monitor, device, &event);
        if (r < 0)
                return;

        queued = malloc(sizeof(*queued));
        if (!queued) {
                monitor->lost_events = true;
                return;
        }
        *queued = event;
        STAILQ_INSERT_TAIL(&monitor->events, queued, link);
}

static void drain(struct device_monitor *monitor)
{
        for (unsigned i = 0; i < DRAIN_MAX; i++) {
                _cleanup_(device_unrefp) struct udev_device *device = NULL;

                errno = 0;
                device = udev_monitor_receive_device(monitor->socket);
                if (device) {
                        receive(monitor, device);
                        continue;
                }
                if (errno == ENOBUFS) {
                        log_notice("The kernel had to drop device events; looking for what was missed.");
                        monitor->lost_events = true;
                        continue;       /* what it kept is still there */
                }
                if (errno == EINTR)
                        continue;
                return;                 /* EAGAIN; or a message of no use, and the next one wakes us again */
        }
}

static void on_work(void *userdata)
{
        struct device_monitor *monitor = userdata;
        struct device_event *event;
        int r;

        for (unsigned i = 0; i < WORK_MAX && (event = STAILQ_FIRST(&monitor->events)); i++) {
                STAILQ_REMOVE_HEAD(&monitor->events, link);
                work_on_event(monitor, event);
                free(event);
        }
        if (!STAILQ_EMPTY(&monitor->events)) {
                defer_call(&monitor->work);
                return;
        }

        /* Only now: what is queued is older than the gap. */
        if (monitor->lost_events) {
                r = device_monitor_rescan(monitor);
                if (r < 0)
                        log_error("Failed to look for USB devices: %s", strerror(-r));
        }
}

static void on_readable(void *userdata, unsigned events)
{
        struct device_monitor *monitor = userdata;

        drain(monitor);
        if (!STAILQ_EMPTY(&monitor->events) || monitor->lost_events)
                defer_call(&monitor->work);
}

/* --- life --- */

int device_monitor_new(struct loop *loop, const struct device_monitor_callbacks *callbacks, void *userdata,
                       struct device_monitor **ret)
{
        _cleanup_(device_monitor_freep) struct device_monitor *monitor = NULL;
        int r;

        monitor = calloc(1, sizeof(*monitor));
        if (!monitor)
                return -ENOMEM;
        monitor->loop = loop;
        monitor->callbacks = *callbacks;
        monitor->userdata = userdata;
        STAILQ_INIT(&monitor->events);
        defer_init(&monitor->work, loop, on_work, monitor);

        r = device_table_new(&monitor->reported);
        if (r < 0)
                return r;

        *ret = take_ptr(monitor);
        return 0;
}

struct device_monitor *device_monitor_free(struct device_monitor *monitor)
{
        struct device_event *event;

        if (!monitor)
                return NULL;

        defer_deinit(&monitor->work);
        while ((event = STAILQ_FIRST(&monitor->events))) {
                STAILQ_REMOVE_HEAD(&monitor->events, link);
                free(event);
        }
        if (monitor->watch.loop)
                io_watch_deinit(&monitor->watch);
        (void)udev_monitor_unref(monitor->socket);
        (void)udev_unref(monitor->udev);
        (void)device_table_free(monitor->reported);
        free(monitor);
        return NULL;
}

static int listen_to_udev(struct device_monitor *monitor)
{
        int r;

        monitor->udev = udev_new();
        if (!monitor->udev)
                return -ENOMEM;
        monitor->socket = udev_monitor_new_from_netlink(monitor->udev, "udev");
        if (!monitor->socket)
                return errno > 0 ? -errno : -ENOMEM;

        r = udev_monitor_filter_add_match_subsystem_devtype(monitor->socket, "usb", "usb_device");
        if (r < 0)
                return r;
        if (monitor->callbacks.on_serial_port) {
                r = udev_monitor_filter_add_match_subsystem_devtype(monitor->socket, "tty", NULL);
                if (r < 0)
                        return r;
        }
        r = udev_monitor_set_receive_buffer_size(monitor->socket, RECEIVE_BUFFER_SIZE);
        if (r < 0)
                log_debug("The event buffer is as large as the kernel allows, and no larger (%s).", strerror(-r));
        r = udev_monitor_enable_receiving(monitor->socket);
        if (r < 0)
                return r;

        io_watch_init(&monitor->watch, monitor->loop, udev_monitor_get_fd(monitor->socket), on_readable, monitor);
        return io_watch_set(&monitor->watch, IO_READ);
}

int device_monitor_start(struct device_monitor *monitor)
{
        int r;

        assert(!monitor->socket);

        r = listen_to_udev(monitor);
        if (r < 0)
                return r;
        return device_monitor_rescan(monitor);
}

/* SPDX-License-Identifier: MIT */

/*
 * See world.h.  Enumeration is a chain of timers and control transfers:
 *
 *     QUEUED -> DEBOUNCE -> RESET -> CONFIGURE -> STRINGS -> UDEV -> READY
 *
 * in which every step may be cut off by detach().  Files are written before the
 * event that tells of them, and deleted before "remove".  What was cut off is freed
 * in the next round, so nothing dies under its own callback.
 */

#include "sim/world.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/usb/ch9.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <termios.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/ep0.h"
#include "sim/runtime-tty.h"
#include "sim/sysfs.h"

#define HUB_DRIVER "hub"
#define HOLDER_DRIVER "usbfs"           /* another program is that, to everybody else */
#define ROOT_PORTS 15U
#define HUB_PORTS 16U                   /* more than any hub has, to spare tests a tree of them */
#define BUSES 63U
#define STRING_TIMEOUT (5 * SEC)
#define RESET_SIGNALLING 10.0           /* milliseconds; USB 2.0, 7.1.7.5 */
#define INTERFACES_MAX 8
#define ALTERNATES_MAX 8

enum attached_state {
        ATTACHED_QUEUED,                /* its hub is busy with another port */
        ATTACHED_DEBOUNCE,
        ATTACHED_RESET,                 /* and descriptors */
        ATTACHED_CONFIGURE,
        ATTACHED_STRINGS,
        ATTACHED_UDEV,
        ATTACHED_READY,
        ATTACHED_FAILED,                /* the kernel gave the port up */
        ATTACHED_LEAVING,               /* gone, and the kernel does not know yet */
        ATTACHED_DEAD,
};

struct attached {
        struct world *world;
        struct world_camera *camera;    /* NULL: a hub */
        enum attached_state state;
        unsigned bus;
        char parent[48];                /* path of its hub: "1-4", "usb1" */
        size_t n_ports;
        uint8_t ports[7];
        struct timer timer;
        struct ep0 ep0;
        struct control control;         /* the kernel's own requests */
        uint8_t data[256];
        struct usbfs_node *node;
        bool in_sysfs, announced, resetting;
        uint64_t announced_at;
        struct sysfs_device device;
        uint8_t *descriptors;
        size_t n_interfaces, next_string;
        struct sysfs_interface interfaces[INTERFACES_MAX];
        uint8_t string_index[INTERFACES_MAX];
        struct {
                bool known;             /* the kernel asks once */
                char text[sizeof((struct sysfs_interface){ 0 }.string)];
        } strings[INTERFACES_MAX][ALTERNATES_MAX];
        bool has_tty;
        struct sysfs_tty tty;
        int master, slave;
        struct io_watch tty_watch;
        struct runtime_tty runtime;
        LIST_ENTRY(attached) link;      /* in world->attached */
        TAILQ_ENTRY(attached) order;    /* in world->queue while QUEUED */
};

struct world_timer {
        struct timer timer;
        struct world_camera *camera;
        void (*fn)(void *arg);
        void *arg;
        LIST_ENTRY(world_timer) link;   /* in camera->timers */
};

struct world_camera {
        struct world *world;
        char *name;
        struct sim_config config;
        struct sim_camera *model;
        char port[48];
        bool plugged;
        bool hub_off;                   /* comes back with its hub */
        struct attached *attached;
        struct timer replug;
        int fail_enumeration;
        int refuse_open;
        bool hold[USBFS_INTERFACES_MAX];
        unsigned event_times;
        LIST_HEAD(, world_timer) timers;
        TAILQ_ENTRY(world_camera) link; /* in world->cameras */
};

struct world {
        struct loop *loop;
        struct fuse_usbfs *usbfs;
        struct uevents *uevents;
        struct world_options options;
        void (*on_change)(void *userdata);
        void *userdata;
        FILE *trace;
        uint64_t started;
        TAILQ_HEAD(, world_camera) cameras;
        LIST_HEAD(, attached) attached;
        TAILQ_HEAD(, attached) queue;
        LIST_HEAD(, attached) dead;
        struct defer reap, pump;
        unsigned last_device[BUSES + 1];
};

DEFINE_FREEP(world)

static void changed(struct world *world)
{
        if (world->on_change)
                world->on_change(world->userdata);
}

void world_trace(struct world *world, const char *name, const char *line)
{
        uint64_t now;

        if (!world->trace)
                return;
        now = loop_now(world->loop) - world->started;
        (void)fprintf(world->trace, "%8" PRIu64 ".%06" PRIu64 " %-10s %s\n", now / SEC, now % SEC, name, line);
}

static const char *attached_name(const struct attached *attached)
{
        return attached->camera ? attached->camera->name : attached->device.name;
}

static _printf_(2, 3) void trace(struct attached *attached, const char *format, ...)
{
        char line[256];
        va_list args;

        if (!attached->world->trace)
                return;
        va_start(args, format);
        (void)vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        world_trace(attached->world, attached_name(attached), line);
}

static uint64_t milliseconds(double value)
{
        return value <= 0 ? 0 : (uint64_t)(value * 1000);
}

/* --- port paths --- */

/* "3-1.4.2" -> bus 3, ports 1 4 2. */
static int parse_port(const char *path, unsigned *ret_bus, uint8_t ports[static 7], size_t *ret_n)
{
        const char *p;
        char *end;
        unsigned long value;
        size_t n = 0;

        value = strtoul(path, &end, 10);
        if (end == path || *end != '-' || value < 1 || value > BUSES)
                return -EINVAL;
        *ret_bus = (unsigned)value;
        do {
                p = end + 1;
                value = strtoul(p, &end, 10);
                if (end == p || value < 1 || value > (n == 0 ? ROOT_PORTS : HUB_PORTS) || n == 6)
                        return -EINVAL;
                ports[n++] = (uint8_t)value;
        } while (*end == '.');
        if (*end)
                return -EINVAL;
        *ret_n = n;
        return 0;
}

/* n = 0: the root hub. */
static void format_name(unsigned bus, const uint8_t *ports, size_t n, char *name, size_t size)
{
        size_t used;

        if (n == 0) {
                (void)snprintf(name, size, "usb%u", bus);
                return;
        }
        used = (size_t)snprintf(name, size, "%u-%u", bus, ports[0]);
        for (size_t i = 1; i < n; i++)
                used += (size_t)snprintf(name + used, size - used, ".%u", ports[i]);
}

static bool is_below(const char *path, const char *hub)
{
        size_t n = strlen(hub);

        return strncmp(path, hub, n) == 0 && (path[n] == 0 || path[n] == '.');
}

static struct attached *hub_by_name(struct world *world, const char *name)
{
        struct attached *attached;

        LIST_FOREACH(attached, &world->attached, link)
                if (!attached->camera && strcmp(attached->device.name, name) == 0)
                        return attached;
        return NULL;
}

/* A fault of the model may have pulled the cable. */
static bool is_plugged(const struct world_camera *camera)
{
        return camera->plugged && sim_camera_is_powered(camera->model);
}

static struct world_camera *camera_at(struct world *world, const char *port)
{
        struct world_camera *camera;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if ((is_plugged(camera) || timer_is_set(&camera->replug)) && strcmp(camera->port, port) == 0)
                        return camera;
        return NULL;
}

static unsigned next_device_number(struct world *world, unsigned bus)
{
        unsigned number = world->last_device[bus];

        for (unsigned tries = 0; tries < 127; tries++) {
                struct attached *attached;
                bool used = false;

                number = number >= 127 ? 1 : number + 1;
                LIST_FOREACH(attached, &world->attached, link)
                        used |= attached->bus == bus && attached->device.device == number;
                if (!used) {
                        world->last_device[bus] = number;
                        return number;
                }
        }
        return 0;
}

/* --- an attached device's life --- */

static void attached_free(struct attached *attached)
{
        timer_deinit(&attached->timer);
        ep0_deinit(&attached->ep0);
        runtime_tty_deinit(&attached->runtime);
        free(attached->descriptors);
        free(attached);
}

static void on_reap(void *userdata)
{
        struct world *world = userdata;
        struct attached *attached;

        while ((attached = LIST_FIRST(&world->dead))) {
                LIST_REMOVE(attached, link);
                attached_free(attached);
        }
}

static unsigned event_times(const struct attached *attached)
{
        if (!attached->world->options.uevents)
                return 0;
        return attached->camera ? attached->camera->event_times : 1;
}

static void announce(struct attached *attached)
{
        struct world *world = attached->world;

        attached->announced = true;
        attached->announced_at = loop_now(world->loop);
        trace(attached, "uevent: add %s, device %u", attached->device.name, attached->device.device);
        for (unsigned n = event_times(attached); n > 0; n--) {
                (void)sysfs_device_event(world->uevents, &attached->device, "add");
                for (size_t i = 0; i < attached->n_interfaces; i++) {
                        const struct sysfs_interface *entry = &attached->interfaces[i];

                        (void)sysfs_interface_event(world->uevents, &attached->device, entry, "add");
                        /* Its driver makes the tty while it is being bound. */
                        if (attached->has_tty && attached->tty.interface == entry->number)
                                (void)sysfs_tty_event(world->uevents, &attached->device, &attached->tty, "add");
                        if (entry->driver)
                                (void)sysfs_interface_event(world->uevents, &attached->device, entry, "bind");
                }
                (void)sysfs_device_event(world->uevents, &attached->device, "bind");
        }
        changed(world);
}

static void announce_removal(struct attached *attached)
{
        struct world *world = attached->world;

        attached->announced = false;
        trace(attached, "uevent: remove %s, device %u", attached->device.name, attached->device.device);
        for (unsigned n = event_times(attached); n > 0; n--) {
                for (size_t i = 0; i < attached->n_interfaces; i++) {
                        const struct sysfs_interface *entry = &attached->interfaces[i];

                        if (attached->has_tty && attached->tty.interface == entry->number)
                                (void)sysfs_tty_event(world->uevents, &attached->device, &attached->tty, "remove");
                        if (entry->driver)
                                (void)sysfs_interface_event(world->uevents, &attached->device, entry, "unbind");
                        (void)sysfs_interface_event(world->uevents, &attached->device, entry, "remove");
                }
                (void)sysfs_device_event(world->uevents, &attached->device, "unbind");
                (void)sysfs_device_event(world->uevents, &attached->device, "remove");
        }
}

/* --- serial port --- */

static void say_on_tty(void *userdata, const uint8_t *bytes, size_t size)
{
        struct attached *attached = userdata;

        (void)!write(attached->master, bytes, size);
}

static void on_tty(void *userdata, unsigned events)
{
        struct attached *attached = userdata;
        uint8_t bytes[512];
        ssize_t n = read(attached->master, bytes, sizeof(bytes));
        struct termios termios;

        if (n > 0)
                /* The master sees what a program set on the slave. */
                runtime_tty_receive(&attached->runtime,
                                    tcgetattr(attached->master, &termios) >= 0 && cfgetospeed(&termios) == B921600, bytes, (size_t)n);
        else if (n == 0 || errno != EAGAIN)
                (void)io_watch_set(&attached->tty_watch, 0);
}

static void tty_path(const struct attached *attached, char path[static 32])
{
        (void)snprintf(path, 32, "/dev/%s", attached->tty.name);
}

static void tty_close(struct attached *attached)
{
        char path[32];

        if (!attached->has_tty)
                return;
        tty_path(attached, path);
        io_watch_deinit(&attached->tty_watch);
        runtime_tty_deinit(&attached->runtime);
        /* Master first: who has the tty open hears a hangup. */
        (void)close(attached->master);
        (void)close(attached->slave);
        (void)umount2(path, MNT_DETACH);
        (void)unlink(path);
}

static unsigned free_tty_minor(struct world *world)
{
        for (unsigned minor = 0;; minor++) {
                struct attached *attached;
                bool used = false;

                LIST_FOREACH(attached, &world->attached, link)
                        used |= attached->has_tty && attached->tty.minor == minor;
                if (!used)
                        return minor;
        }
}

static int tty_open(struct attached *attached, uint8_t interface)
{
        _cleanup_close_ int master = -1, slave = -1, file = -1;
        char path[32], pts[64];
        struct termios termios;

        attached->tty.minor = free_tty_minor(attached->world);
        attached->tty.interface = interface;
        (void)snprintf(attached->tty.name, sizeof(attached->tty.name), "ttyACM%u", attached->tty.minor);
        tty_path(attached, path);

        /* The slave stays open here: else the master would read EIO while no program has it. */
        if (openpty(&master, &slave, pts, NULL, NULL) < 0)
                return -errno;
        if (tcgetattr(slave, &termios) == 0) {
                cfmakeraw(&termios);
                (void)tcsetattr(slave, TCSANOW, &termios);
        }
        if (fcntl(master, F_SETFL, O_NONBLOCK) < 0 || fcntl(master, F_SETFD, FD_CLOEXEC) < 0 ||
            fcntl(slave, F_SETFD, FD_CLOEXEC) < 0)
                return -errno;
        file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        if (file < 0)
                return -errno;
        if (mount(pts, path, NULL, MS_BIND, NULL) < 0) {
                (void)unlink(path);
                return -errno;
        }
        attached->master = take_fd(&master);
        attached->slave = take_fd(&slave);
        attached->has_tty = true;
        runtime_tty_init(&attached->runtime, attached->world->loop, attached->camera->model, &attached->camera->config,
                         say_on_tty, attached);
        io_watch_init(&attached->tty_watch, attached->world->loop, attached->master, on_tty, attached);
        (void)io_watch_set(&attached->tty_watch, IO_READ);
        return 0;
}

/* --- going --- */

static void remove_from_kernel(struct attached *attached)
{
        struct world *world = attached->world;

        if (attached->state == ATTACHED_QUEUED)
                TAILQ_REMOVE(&world->queue, attached, order);
        attached->state = ATTACHED_DEAD;
        timer_clear(&attached->timer);
        ep0_shutdown(&attached->ep0);
        attached->node = usbfs_node_remove(attached->node);
        if (attached->in_sysfs)
                sysfs_device_delete(&attached->device, attached->interfaces, attached->n_interfaces,
                                    attached->has_tty ? &attached->tty : NULL);
        tty_close(attached);
        if (attached->announced)
                announce_removal(attached);
        LIST_REMOVE(attached, link);
        LIST_INSERT_HEAD(&world->dead, attached, link);
        if (attached->camera && attached->camera->attached == attached)
                attached->camera->attached = NULL;
        defer_call(&world->reap);
        defer_call(&world->pump);
        changed(world);
}

static void on_noticed(struct attached *attached)
{
        remove_from_kernel(attached);
}

/* The device is off the bus. */
static void detach(struct attached *attached)
{
        struct world *world = attached->world;

        if (attached->state == ATTACHED_LEAVING)
                return;
        trace(attached, "disconnected");
        if (world->options.notice <= 0 || !attached->node) {
                remove_from_kernel(attached);
                return;
        }
        attached->state = ATTACHED_LEAVING;
        ep0_shutdown(&attached->ep0);
        timer_set(&attached->timer, milliseconds(world->options.notice));
}

/* --- coming --- */

static int on_open(void *userdata)
{
        struct attached *attached = userdata;

        return attached->camera ? attached->camera->refuse_open : 0;
}

static void finish_reset(struct attached *attached, int error)
{
        attached->resetting = false;
        usbfs_node_reset_done(attached->node, error);
}

static void on_reset_configured(struct control *control, int status, size_t actual)
{
        struct attached *attached = container_of(control, struct attached, control);

        if (attached->resetting)
                finish_reset(attached, status < 0 ? -ENODEV : 0);
}

static void on_reset(void *userdata)
{
        struct attached *attached = userdata;

        attached->resetting = true;
        if (!attached->camera) {
                finish_reset(attached, 0);
                return;
        }
        /* Reset signalling takes its time however fast the rest may be: a bootloader has left by its end. */
        timer_set(&attached->timer, milliseconds(MAX(attached->world->options.enumerate / 2, RESET_SIGNALLING)));
        /* May drop off the bus from inside. */
        sim_camera_bus_reset(attached->camera->model);
}

static void configure(struct attached *attached, control_fn done)
{
        attached->control.urb.data = attached->data;
        attached->control.timeout = STRING_TIMEOUT;
        attached->control.quiet = true;
        attached->control.done = done;
        control_setup(&attached->control, 0, USB_REQ_SET_CONFIGURATION, 1, 0, 0);
        ep0_submit(&attached->ep0, &attached->control);
}

/* The string in a reply of size bytes; what is not ASCII is not ours. */
static void take_string(const struct attached *attached, size_t size, char *text, size_t room)
{
        size_t length = MIN((size_t)attached->data[0], size), n = 0;

        for (size_t i = 2; i + 1 < length && n < room - 1; i += 2)
                text[n++] = attached->data[i + 1] ? '?' : (char)attached->data[i];
        text[n] = 0;
}

static void ask_string(struct attached *attached, uint8_t index, control_fn done)
{
        attached->control.done = done;
        control_setup(&attached->control, USB_DIR_IN, USB_REQ_GET_DESCRIPTOR, (uint16_t)(USB_DT_STRING << 8 | index), 0x0409, 255);
        ep0_submit(&attached->ep0, &attached->control);
}

static const uint8_t *find_alternate(const struct attached *attached, uint8_t interface, uint8_t alternate)
{
        const uint8_t *p = attached->descriptors, *end = p + attached->device.descriptors_size;

        for (; end - p >= 2 && p[0] >= 2 && p[0] <= end - p; p += p[0])
                if (p[1] == USB_DT_INTERFACE && p[0] >= USB_DT_INTERFACE_SIZE && p[2] == interface && p[3] == alternate)
                        return p;
        return NULL;
}

static size_t find_entry(const struct attached *attached, uint8_t interface)
{
        size_t i = 0;

        while (i < attached->n_interfaces && attached->interfaces[i].number != interface)
                i++;
        return i;
}

static void show_alternate(struct attached *attached, size_t i)
{
        struct sysfs_interface *entry = &attached->interfaces[i];

        memcpy(entry->string, attached->strings[i][entry->alternate].text, sizeof(entry->string));
        (void)sysfs_interface_write(&attached->device, entry);
}

static void on_alternate_string(struct control *control, int status, size_t actual)
{
        struct attached *attached = container_of(control, struct attached, control);
        size_t i = attached->next_string;
        uint8_t alternate = attached->interfaces[i].alternate;

        if (status >= 0 && actual >= 2 && attached->data[1] == USB_DT_STRING) {
                take_string(attached, actual, attached->strings[i][alternate].text, sizeof(attached->strings[i][alternate].text));
                attached->strings[i][alternate].known = true;
        }
        if (attached->state == ATTACHED_READY)
                show_alternate(attached, i);
        usbfs_node_alternate_done(attached->node);
}

/* The attributes of an interface are those of its present setting, whose name the kernel asks for when it is set first. */
static bool on_alternate_changed(void *userdata, uint8_t interface, uint8_t alternate)
{
        struct attached *attached = userdata;
        const uint8_t *descriptor = find_alternate(attached, interface, alternate);
        size_t i = find_entry(attached, interface);
        struct sysfs_interface *entry = &attached->interfaces[i];

        if (i == attached->n_interfaces || !descriptor || alternate >= ALTERNATES_MAX || attached->state != ATTACHED_READY)
                return false;
        entry->alternate = alternate;
        entry->endpoints = descriptor[4];
        entry->class = descriptor[5];
        entry->subclass = descriptor[6];
        entry->protocol = descriptor[7];
        if (descriptor[8] == 0 || attached->strings[i][alternate].known) {
                show_alternate(attached, i);
                return false;
        }
        attached->next_string = i;
        ask_string(attached, descriptor[8], on_alternate_string);
        return true;
}

static void on_driver_changed(void *userdata, uint8_t interface, const char *driver)
{
        struct attached *attached = userdata;
        struct world *world = attached->world;
        size_t i = find_entry(attached, interface);
        struct sysfs_interface *entry = &attached->interfaces[i];

        if (i == attached->n_interfaces || entry->driver == driver || (entry->driver && driver && strcmp(entry->driver, driver) == 0))
                return;
        for (unsigned n = event_times(attached); attached->announced && entry->driver && n > 0; n--)
                (void)sysfs_interface_event(world->uevents, &attached->device, entry, "unbind");
        entry->driver = driver;
        (void)sysfs_interface_write_driver(&attached->device, entry);
        for (unsigned n = event_times(attached); attached->announced && driver && n > 0; n--)
                (void)sysfs_interface_event(world->uevents, &attached->device, entry, "bind");
}

static void find_interfaces(struct attached *attached);
static void bind_drivers(struct attached *attached);

static void on_configuration_changed(void *userdata, uint8_t configuration)
{
        struct attached *attached = userdata;

        trace(attached, "configuration %u", configuration);
        if (configuration == attached->device.configuration)
                return;
        /* Without configuration there are no interfaces. */
        for (size_t i = 0; i < attached->n_interfaces; i++) {
                const struct sysfs_interface *entry = &attached->interfaces[i];

                for (unsigned n = event_times(attached); attached->announced && n > 0; n--)
                        (void)sysfs_interface_event(attached->world->uevents, &attached->device, entry, "remove");
                sysfs_interface_delete(&attached->device, entry);
        }
        attached->n_interfaces = 0;
        attached->device.configuration = configuration;
        (void)sysfs_device_write_configuration(&attached->device);
        if (configuration == 0)
                return;
        find_interfaces(attached);
        for (size_t i = 0; i < attached->n_interfaces; i++) {
                struct sysfs_interface *entry = &attached->interfaces[i];

                memcpy(entry->string, attached->strings[i][0].text, sizeof(entry->string));
                (void)sysfs_interface_write(&attached->device, entry);
                (void)sysfs_interface_write_database(&attached->device, entry);
                for (unsigned n = event_times(attached); attached->announced && n > 0; n--)
                        (void)sysfs_interface_event(attached->world->uevents, &attached->device, entry, "add");
        }
        bind_drivers(attached);
}

static void on_usbfs_trace(void *userdata, const char *line)
{
        struct attached *attached = userdata;

        trace(attached, "usbfs: %s", line);
        changed(attached->world);       /* somebody may wait for "opened=no" */
}

static const struct usbfs_ops usbfs_ops = {
        .open = on_open,
        .reset = on_reset,
        .alternate_changed = on_alternate_changed,
        .driver_changed = on_driver_changed,
        .configuration_changed = on_configuration_changed,
        .trace = on_usbfs_trace,
};

static const char *driver_of(const uint8_t *interface)
{
        switch (interface[5]) {
        case USB_CLASS_COMM:
        case USB_CLASS_CDC_DATA:
                return "cdc_acm";
        case USB_CLASS_MASS_STORAGE:
                return "usb-storage";
        case USB_CLASS_HUB:
                return HUB_DRIVER;
        default:
                return NULL;
        }
}

/* Alternate setting 0 of each interface. */
static void find_interfaces(struct attached *attached)
{
        const uint8_t *p = attached->descriptors, *end = p + attached->device.descriptors_size;

        for (; end - p >= 2 && p[0] >= 2 && p[0] <= end - p; p += p[0]) {
                struct sysfs_interface *entry = &attached->interfaces[attached->n_interfaces];

                if (p[1] != USB_DT_INTERFACE || p[0] < USB_DT_INTERFACE_SIZE || p[3] != 0 ||
                    attached->n_interfaces == INTERFACES_MAX)
                        continue;
                *entry = (struct sysfs_interface){ .number = p[2], .endpoints = p[4], .class = p[5], .subclass = p[6],
                                                   .protocol = p[7], .driver = driver_of(p) };
                attached->string_index[attached->n_interfaces++] = p[8];
        }
}

static void bind_drivers(struct attached *attached)
{
        struct world_camera *camera = attached->camera;

        for (size_t i = 0; i < attached->n_interfaces; i++) {
                struct sysfs_interface *entry = &attached->interfaces[i];

                if (entry->driver)
                        (void)usbfs_node_bind(attached->node, entry->number, entry->driver);
                else if (camera && entry->number < USBFS_INTERFACES_MAX && camera->hold[entry->number])
                        (void)usbfs_node_bind(attached->node, entry->number, HOLDER_DRIVER);
        }
}

/* Device number, node, sysfs: the device exists, and is not configured. */
static int appear(struct attached *attached)
{
        struct world *world = attached->world;
        struct usbfs_info info = { 0 };
        int r;

        attached->device.device = next_device_number(world, attached->bus);
        if (attached->device.device == 0)
                return -ENOSPC;
        info.bus = attached->bus;
        info.device = attached->device.device;
        info.speed = attached->device.speed;
        info.n_ports = attached->n_ports;
        memcpy(info.ports, attached->ports, sizeof(info.ports));
        info.descriptors = attached->descriptors;
        info.descriptors_size = attached->device.descriptors_size;
        info.configured = !attached->camera;    /* hubs have no further ado */
        r = usbfs_node_new(world->usbfs, &info, &attached->ep0, &usbfs_ops, attached, &attached->node);
        if (r < 0)
                return r;
        attached->in_sysfs = true;
        return sysfs_device_write(&attached->device);
}

static int read_descriptors(struct attached *attached)
{
        struct sim_descriptors descriptors;

        sim_camera_descriptors(attached->camera->model, &descriptors);
        attached->device.descriptors_size = sizeof(descriptors.device) + descriptors.config_size;
        attached->descriptors = malloc(attached->device.descriptors_size);
        if (!attached->descriptors)
                return -ENOMEM;
        memcpy(attached->descriptors, descriptors.device, sizeof(descriptors.device));
        memcpy(attached->descriptors + sizeof(descriptors.device), descriptors.config, descriptors.config_size);
        attached->device.descriptors = attached->descriptors;
        attached->device.speed = descriptors.speed;
        (void)snprintf(attached->device.manufacturer, sizeof(attached->device.manufacturer), "%s", descriptors.manufacturer);
        (void)snprintf(attached->device.product, sizeof(attached->device.product), "%s", descriptors.product);
        (void)snprintf(attached->device.serial, sizeof(attached->device.serial), "%s", descriptors.serial);
        return 0;
}

/* All is known: the rest is udevd's. */
static void to_udev(struct attached *attached)
{
        struct world *world = attached->world;

        attached->state = ATTACHED_UDEV;
        for (size_t i = 0; i < attached->n_interfaces; i++) {
                struct sysfs_interface *entry = &attached->interfaces[i];

                /* The control interface of a serial port has its tty. */
                if (entry->class == USB_CLASS_COMM && !attached->has_tty && attached->camera &&
                    tty_open(attached, entry->number) < 0)
                        trace(attached, "no pty for its serial port");
                (void)sysfs_interface_write(&attached->device, entry);
        }
        if (attached->has_tty)
                (void)sysfs_tty_write(&attached->device, &attached->tty);
        bind_drivers(attached);
        usbfs_node_configured(attached->node, attached->device.configuration != 0);
        defer_call(&world->pump);
        timer_set(&attached->timer, milliseconds(world->options.udev));
}

static void on_udev_done(struct attached *attached)
{
        attached->state = ATTACHED_READY;
        (void)sysfs_device_write_database(&attached->device);
        for (size_t i = 0; i < attached->n_interfaces; i++)
                (void)sysfs_interface_write_database(&attached->device, &attached->interfaces[i]);
        if (attached->has_tty)
                (void)sysfs_tty_write_database(&attached->device, &attached->tty);
        announce(attached);
}

static void next_string(struct attached *attached);

static void on_string(struct control *control, int status, size_t actual)
{
        struct attached *attached = container_of(control, struct attached, control);
        struct sysfs_interface *entry = &attached->interfaces[attached->next_string];

        if (attached->state != ATTACHED_STRINGS)
                return;
        if (status >= 0 && actual >= 2 && attached->data[1] == USB_DT_STRING) {
                take_string(attached, actual, entry->string, sizeof(entry->string));
                memcpy(attached->strings[attached->next_string][0].text, entry->string, sizeof(entry->string));
                attached->strings[attached->next_string][0].known = true;
        }
        attached->next_string++;
        next_string(attached);
}

static void next_string(struct attached *attached)
{
        while (attached->next_string < attached->n_interfaces && attached->string_index[attached->next_string] == 0)
                attached->next_string++;
        if (attached->next_string == attached->n_interfaces) {
                to_udev(attached);
                return;
        }
        ask_string(attached, attached->string_index[attached->next_string], on_string);
}

static void on_configured(struct control *control, int status, size_t actual)
{
        struct attached *attached = container_of(control, struct attached, control);

        if (attached->state != ATTACHED_CONFIGURE)
                return;
        attached->state = ATTACHED_STRINGS;
        if (status < 0) {
                /* The kernel keeps it, without any interface. */
                trace(attached, "can't set config #1, error %d", status);
                to_udev(attached);
                return;
        }
        trace(attached, "configured");
        attached->device.configuration = 1;
        (void)sysfs_device_write_configuration(&attached->device);
        find_interfaces(attached);
        changed(attached->world);
        next_string(attached);
}

static void on_reset_done(struct attached *attached)
{
        struct world_camera *camera = attached->camera;
        int r;

        if (camera->fail_enumeration != 0) {
                if (camera->fail_enumeration > 0)
                        camera->fail_enumeration--;
                r = -EPROTO;
        } else {
                r = read_descriptors(attached);
                if (r >= 0)
                        r = appear(attached);
        }
        if (r < 0) {
                trace(attached, "device descriptor read/64, error %d; unable to enumerate USB device", r);
                attached->state = ATTACHED_FAILED;
                defer_call(&attached->world->pump);
                changed(attached->world);
                return;
        }
        attached->state = ATTACHED_CONFIGURE;
        configure(attached, on_configured);
}

static void on_timer(void *userdata)
{
        struct attached *attached = userdata;

        switch (attached->state) {
        case ATTACHED_DEBOUNCE:
                attached->state = ATTACHED_RESET;
                timer_set(&attached->timer, milliseconds(attached->world->options.enumerate));
                break;
        case ATTACHED_RESET:
                on_reset_done(attached);
                break;
        case ATTACHED_UDEV:
                on_udev_done(attached);
                break;
        case ATTACHED_LEAVING:
                on_noticed(attached);
                break;
        case ATTACHED_READY:
                if (attached->resetting)
                        configure(attached, on_reset_configured);
                break;
        case ATTACHED_QUEUED:
        case ATTACHED_CONFIGURE:
        case ATTACHED_STRINGS:
        case ATTACHED_FAILED:
        case ATTACHED_DEAD:
                break;
        }
}

/* Is its hub busy with another port of it? */
static bool hub_is_busy(const struct attached *attached)
{
        const struct attached *other;

        if (!attached->world->options.serial)
                return false;
        LIST_FOREACH(other, &attached->world->attached, link)
                if (other != attached && strcmp(other->parent, attached->parent) == 0 &&
                    other->state >= ATTACHED_DEBOUNCE && other->state <= ATTACHED_STRINGS)
                        return true;
        return false;
}

static void on_pump(void *userdata)
{
        struct world *world = userdata;
        struct attached *attached, *next;

        for (attached = TAILQ_FIRST(&world->queue); attached; attached = next) {
                next = TAILQ_NEXT(attached, order);
                if (hub_is_busy(attached))
                        continue;
                TAILQ_REMOVE(&world->queue, attached, order);
                attached->state = ATTACHED_DEBOUNCE;
                timer_set(&attached->timer, milliseconds(world->options.debounce));
        }
}

static int attached_new(struct world *world, unsigned bus, const uint8_t *ports, size_t n_ports,
                        struct world_camera *camera, struct attached **ret)
{
        struct attached *attached = calloc(1, sizeof(*attached));
        size_t used;

        if (!attached)
                return -ENOMEM;
        attached->world = world;
        attached->camera = camera;
        attached->state = ATTACHED_UDEV;
        attached->bus = bus;
        attached->n_ports = n_ports;
        if (n_ports > 0)
                memcpy(attached->ports, ports, n_ports);
        attached->device.bus = bus;
        attached->master = attached->slave = -1;
        format_name(bus, ports, n_ports, attached->device.name, sizeof(attached->device.name));
        if (n_ports > 0)
                format_name(bus, ports, n_ports - 1, attached->parent, sizeof(attached->parent));
        used = (size_t)snprintf(attached->device.devpath, sizeof(attached->device.devpath), "/devices/platform/camsim");
        for (size_t i = 0; i <= n_ports; i++) {
                char name[48];

                format_name(bus, ports, i, name, sizeof(name));
                used += (size_t)snprintf(attached->device.devpath + used, sizeof(attached->device.devpath) - used, "/%s", name);
        }
        (void)snprintf(attached->device.port, sizeof(attached->device.port), "%s",
                       n_ports == 0 ? "0" : strchr(attached->device.name, '-') + 1);
        timer_init(&attached->timer, world->loop, on_timer, attached);
        ep0_init(&attached->ep0, world->loop, camera ? camera->model : NULL);
        LIST_INSERT_HEAD(&world->attached, attached, link);
        *ret = attached;
        return 0;
}

/* --- hubs: there at once, and they answer nothing --- */

static const uint8_t hub_descriptors[] = {
        18, USB_DT_DEVICE, 0x00, 0x02, USB_CLASS_HUB, 0, 1, 64, 0x6b, 0x1d, 0x02, 0x00, 0x00, 0x06, 0, 2, 1, 1,
        9, USB_DT_CONFIG, 25, 0, 1, 1, 0, 0xe0, 0,
        9, USB_DT_INTERFACE, 0, 0, 1, USB_CLASS_HUB, 0, 0, 0,
        7, USB_DT_ENDPOINT, 0x81, 3, 4, 0, 12,
};

static int hub_new(struct world *world, unsigned bus, const uint8_t *ports, size_t n_ports)
{
        struct attached *attached;
        int r;

        r = attached_new(world, bus, ports, n_ports, NULL, &attached);
        if (r < 0)
                return r;
        attached->descriptors = malloc(sizeof(hub_descriptors));
        if (!attached->descriptors)
                r = -ENOMEM;
        if (r >= 0) {
                memcpy(attached->descriptors, hub_descriptors, sizeof(hub_descriptors));
                if (n_ports > 0)                /* a hub, and not a root hub: another maker's */
                        memcpy(attached->descriptors + 8, (const uint8_t[]){ 0xe3, 0x05, 0x10, 0x06 }, 4);
                attached->device.descriptors = attached->descriptors;
                attached->device.descriptors_size = sizeof(hub_descriptors);
                attached->device.speed = 480;
                attached->device.children = n_ports == 0 ? ROOT_PORTS : HUB_PORTS;
                attached->device.configuration = 1;
                (void)snprintf(attached->device.product, sizeof(attached->device.product), n_ports == 0 ?
                               "camsim host controller" : "camsim hub");
                if (n_ports == 0)
                        (void)snprintf(attached->device.serial, sizeof(attached->device.serial), "camsim.%u", bus);
                r = appear(attached);
        }
        if (r < 0) {
                remove_from_kernel(attached);
                return r;
        }
        find_interfaces(attached);
        for (size_t i = 0; i < attached->n_interfaces; i++)
                (void)sysfs_interface_write(&attached->device, &attached->interfaces[i]);
        bind_drivers(attached);
        on_udev_done(attached);
        return 0;
}

static int make_hubs(struct world *world, unsigned bus, const uint8_t *ports, size_t n_ports)
{
        char name[48];
        int r;

        for (size_t n = 0; n < n_ports; n++) {
                format_name(bus, ports, n, name, sizeof(name));
                if (n > 0 && camera_at(world, name))
                        return -EEXIST;
                if (hub_by_name(world, name))
                        continue;
                r = hub_new(world, bus, ports, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- the model's host --- */

static uint64_t host_now(void *fe)
{
        struct world_camera *camera = fe;

        return loop_now(camera->world->loop);
}

static void on_host_timer(void *userdata)
{
        struct world_timer *timer = userdata;
        void (*fn)(void *arg) = timer->fn;
        struct world *world = timer->camera->world;
        void *arg = timer->arg;

        LIST_REMOVE(timer, link);
        timer_deinit(&timer->timer);
        free(timer);
        fn(arg);
        changed(world);
}

static void *host_timer(void *fe, uint64_t delay, void (*fn)(void *arg), void *arg)
{
        struct world_camera *camera = fe;
        struct world_timer *timer = calloc(1, sizeof(*timer));

        if (!timer)
                abort();                /* a simulation without memory is no simulation */
        timer->camera = camera;
        timer->fn = fn;
        timer->arg = arg;
        timer_init(&timer->timer, camera->world->loop, on_host_timer, timer);
        timer_set(&timer->timer, delay);
        LIST_INSERT_HEAD(&camera->timers, timer, link);
        return timer;
}

static void host_cancel_timer(void *fe, void *handle)
{
        struct world_timer *timer = handle;

        if (!timer)
                return;
        LIST_REMOVE(timer, link);
        timer_deinit(&timer->timer);
        free(timer);
}

static void host_connected(void *fe, struct sim_camera *model)
{
        struct world_camera *camera = fe;
        struct world *world = camera->world;
        uint8_t ports[7];
        size_t n_ports;
        unsigned bus;

        /* The old device's loss was not noticed yet: now it is. */
        if (camera->attached)
                remove_from_kernel(camera->attached);
        if (parse_port(camera->port, &bus, ports, &n_ports) < 0 ||
            attached_new(world, bus, ports, n_ports, camera, &camera->attached) < 0)
                return;
        trace(camera->attached, "connected at %s: %s", camera->port, sim_mode_name(sim_camera_mode(model)));
        camera->attached->state = ATTACHED_QUEUED;
        TAILQ_INSERT_TAIL(&world->queue, camera->attached, order);
        defer_call(&world->pump);
        changed(world);
}

static void host_disconnected(void *fe, struct sim_camera *model)
{
        struct world_camera *camera = fe;

        if (camera->attached)
                detach(camera->attached);
}

static void host_complete(void *fe, struct sim_urb *urb, int status, size_t actual)
{
        struct world_camera *camera = fe;

        /* As long as the kernel does not know of the loss, transfers just fail. */
        if (status == -ESHUTDOWN && camera->world->options.notice > 0)
                status = -EPROTO;
        ep0_on_complete(urb, status, actual);
        changed(camera->world);
}

static void host_trace(void *fe, struct sim_camera *model, const char *line)
{
        struct world_camera *camera = fe;

        world_trace(camera->world, camera->name, line);
}

static const struct sim_host host = {
        .now = host_now,
        .timer = host_timer,
        .cancel_timer = host_cancel_timer,
        .connected = host_connected,
        .disconnected = host_disconnected,
        .complete = host_complete,
        .trace = host_trace,
};

/* --- cameras --- */

static void on_replug(void *userdata)
{
        struct world_camera *camera = userdata;

        (void)world_plug(camera, camera->port);
}

static void camera_free(struct world_camera *camera)
{
        struct world_timer *timer;

        if (camera->model)
                (void)world_unplug(camera);
        if (camera->attached)
                remove_from_kernel(camera->attached);
        (void)sim_camera_free(camera->model);
        while ((timer = LIST_FIRST(&camera->timers)))
                host_cancel_timer(camera, timer);
        timer_deinit(&camera->replug);
        free(camera->name);
        free(camera);
}

int world_camera_new(struct world *world, const struct sim_config *config, struct world_camera **ret)
{
        struct world_camera *camera;
        int r;

        if (world_camera_by_name(world, config->name))
                return -EEXIST;
        camera = calloc(1, sizeof(*camera));
        if (!camera)
                return -ENOMEM;
        camera->world = world;
        camera->config = *config;
        camera->event_times = 1;
        LIST_INIT(&camera->timers);
        timer_init(&camera->replug, world->loop, on_replug, camera);
        camera->name = strdup(config->name);
        r = camera->name ? sim_camera_new(&host, camera, config, &camera->model) : -ENOMEM;
        if (r < 0) {
                camera_free(camera);
                return r;
        }
        camera->config.name = camera->name;
        TAILQ_INSERT_TAIL(&world->cameras, camera, link);
        *ret = camera;
        return 0;
}

struct world_camera *world_camera_by_name(struct world *world, const char *name)
{
        struct world_camera *camera;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if (strcmp(camera->name, name) == 0)
                        return camera;
        return NULL;
}

struct world_camera *world_camera_next(struct world *world, struct world_camera *after)
{
        return after ? TAILQ_NEXT(after, link) : TAILQ_FIRST(&world->cameras);
}

struct sim_camera *world_camera_model(struct world_camera *camera)
{
        return camera->model;
}

const struct sim_config *world_camera_config(const struct world_camera *camera)
{
        return &camera->config;
}

static int first_free_port(struct world *world, char *port, size_t size)
{
        for (unsigned bus = 1; bus <= BUSES; bus++)
                for (unsigned i = 1; i <= ROOT_PORTS; i++) {
                        struct world_camera *camera;
                        bool used;

                        (void)snprintf(port, size, "%u-%u", bus, i);
                        used = hub_by_name(world, port) != NULL;
                        TAILQ_FOREACH(camera, &world->cameras, link)
                                used |= strcmp(camera->port, port) == 0;
                        if (!used)
                                return 0;
                }
        return -ENOSPC;
}

int world_plug(struct world_camera *camera, const char *port)
{
        struct world *world = camera->world;
        struct world_camera *other;
        char path[48];
        uint8_t ports[7];
        size_t n_ports;
        unsigned bus;
        int r;

        if (is_plugged(camera))
                return -EBUSY;
        if (port || *camera->port) {
                (void)snprintf(path, sizeof(path), "%s", port ?: camera->port);
        } else {
                r = first_free_port(world, path, sizeof(path));
                if (r < 0)
                        return r;
        }
        r = parse_port(path, &bus, ports, &n_ports);
        if (r < 0)
                return r;
        other = camera_at(world, path);
        if ((other && other != camera) || hub_by_name(world, path))
                return -EEXIST;
        r = make_hubs(world, bus, ports, n_ports);
        if (r < 0)
                return r;

        timer_clear(&camera->replug);
        (void)snprintf(camera->port, sizeof(camera->port), "%s", path);
        camera->plugged = true;
        camera->hub_off = false;
        world_trace(world, camera->name, "plugged in");
        sim_camera_plug(camera->model);
        changed(world);
        return 0;
}

int world_unplug(struct world_camera *camera)
{
        if (timer_is_set(&camera->replug)) {
                timer_clear(&camera->replug);
                return 0;
        }
        if (!is_plugged(camera)) {
                camera->plugged = false;
                return -ENODEV;
        }
        camera->plugged = false;
        world_trace(camera->world, camera->name, "unplugged");
        sim_camera_unplug(camera->model);
        /* A port that the kernel has given up, or a loss not noticed yet. */
        if (camera->attached && camera->attached->state != ATTACHED_LEAVING)
                remove_from_kernel(camera->attached);
        changed(camera->world);
        return 0;
}

int world_replug(struct world_camera *camera, const char *port, uint64_t gap)
{
        struct world_camera *other;
        uint8_t ports[7];
        size_t n_ports;
        unsigned bus;
        int r;

        if (port) {
                r = parse_port(port, &bus, ports, &n_ports);
                if (r < 0)
                        return r;
                other = camera_at(camera->world, port);
                if ((other && other != camera) || hub_by_name(camera->world, port))
                        return -EEXIST;
        }
        r = world_unplug(camera);
        if (r < 0 && !*camera->port)
                return r;
        if (port)
                (void)snprintf(camera->port, sizeof(camera->port), "%s", port);
        timer_set(&camera->replug, gap);
        return 0;
}

int world_hub_off(struct world *world, const char *port)
{
        struct world_camera *camera;
        struct attached *attached, *next;
        bool any = false;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if (is_plugged(camera) && is_below(camera->port, port)) {
                        (void)world_unplug(camera);
                        camera->hub_off = true;
                        any = true;
                }
        /* Deepest first. */
        for (size_t n = 7; n > 0; n--)
                for (attached = LIST_FIRST(&world->attached); attached; attached = next) {
                        next = LIST_NEXT(attached, link);
                        if (attached->camera || attached->n_ports != n || !is_below(attached->device.name, port))
                                continue;
                        remove_from_kernel(attached);
                        any = true;
                }
        return any ? 0 : -ENODEV;
}

int world_hub_on(struct world *world, const char *port)
{
        struct world_camera *camera;
        int r;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if (camera->hub_off && is_below(camera->port, port)) {
                        r = world_plug(camera, camera->port);
                        if (r < 0)
                                return r;
                }
        return 0;
}

const char *world_camera_port(const struct world_camera *camera)
{
        return camera->port;
}

bool world_camera_is_plugged(const struct world_camera *camera)
{
        return is_plugged(camera);
}

bool world_camera_is_announced(const struct world_camera *camera)
{
        return camera->attached && camera->attached->announced;
}

uint64_t world_camera_announced_at(const struct world_camera *camera)
{
        return camera->attached && camera->attached->announced ? camera->attached->announced_at : 0;
}

bool world_camera_is_configured(const struct world_camera *camera)
{
        return camera->attached && camera->attached->device.configuration != 0;
}

unsigned world_camera_device_number(const struct world_camera *camera)
{
        return camera->attached ? camera->attached->device.device : 0;
}

unsigned world_camera_bus_number(const struct world_camera *camera)
{
        return camera->attached ? camera->attached->bus : 0;
}

const char *world_camera_tty(const struct world_camera *camera)
{
        return camera->attached && camera->attached->has_tty ? camera->attached->tty.name : NULL;
}

unsigned world_camera_open_files(const struct world_camera *camera)
{
        return camera->attached && camera->attached->node ? usbfs_node_open_files(camera->attached->node) : 0;
}

void world_camera_fail_enumeration(struct world_camera *camera, int count)
{
        camera->fail_enumeration = count;
}

void world_camera_refuse_open(struct world_camera *camera, int error)
{
        camera->refuse_open = error;
}

int world_camera_hold(struct world_camera *camera, uint8_t interface, bool hold)
{
        if (interface >= USBFS_INTERFACES_MAX)
                return -EINVAL;
        if (camera->attached && camera->attached->node) {
                int r = usbfs_node_bind(camera->attached->node, interface, hold ? HOLDER_DRIVER : NULL);

                if (r < 0)
                        return r;
        }
        camera->hold[interface] = hold;
        return 0;
}

void world_camera_repeat_events(struct world_camera *camera, unsigned times)
{
        camera->event_times = times;
}

int world_overflow(struct world *world)
{
        struct attached *hub = hub_by_name(world, "usb1");

        if (!hub) {
                int r = hub_new(world, 1, NULL, 0);

                if (r < 0)
                        return r;
                hub = hub_by_name(world, "usb1");
        }
        return sysfs_overflow(world->uevents, &hub->device);
}

/* --- the world --- */

struct world_options *world_options(struct world *world)
{
        return &world->options;
}

void world_trace_to(struct world *world, FILE *f)
{
        if (world->trace)
                (void)fclose(world->trace);
        world->trace = f;
        if (f)
                (void)setvbuf(f, NULL, _IOLBF, 0);
}

int world_new(struct loop *loop, int fuse_fd, void (*on_change)(void *userdata), void *userdata, struct world **ret)
{
        _cleanup_(world_freep) struct world *world = NULL;
        int r;

        world = calloc(1, sizeof(*world));
        if (!world)
                return -ENOMEM;
        world->loop = loop;
        world->on_change = on_change;
        world->userdata = userdata;
        world->started = loop_now(loop);
        world->options = (struct world_options){ .debounce = 100, .enumerate = 250, .udev = 10, .uevents = true };
        TAILQ_INIT(&world->cameras);
        TAILQ_INIT(&world->queue);
        LIST_INIT(&world->attached);
        LIST_INIT(&world->dead);
        defer_init(&world->reap, loop, on_reap, world);
        defer_init(&world->pump, loop, on_pump, world);
        r = uevents_new(&world->uevents);
        if (r < 0)
                return r;
        r = fuse_usbfs_new(loop, fuse_fd, &world->usbfs);
        if (r < 0)
                return r;
        /* A machine without any camera has a root hub. */
        r = hub_new(world, 1, NULL, 0);
        if (r < 0)
                return r;
        *ret = take_ptr(world);
        return 0;
}

struct world *world_free(struct world *world)
{
        struct world_camera *camera;
        struct attached *attached;

        if (!world)
                return NULL;
        world->on_change = NULL;
        while ((camera = TAILQ_FIRST(&world->cameras))) {
                TAILQ_REMOVE(&world->cameras, camera, link);
                camera_free(camera);
        }
        while ((attached = LIST_FIRST(&world->attached)))
                remove_from_kernel(attached);
        on_reap(world);
        defer_deinit(&world->reap);
        defer_deinit(&world->pump);
        world->usbfs = fuse_usbfs_free(world->usbfs);
        world->uevents = uevents_free(world->uevents);
        world_trace_to(world, NULL);
        free(world);
        return NULL;
}

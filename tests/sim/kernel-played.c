/* SPDX-License-Identifier: MIT */

/*
 * See kernel-played.h.  Enumeration is a chain of timers and control transfers:
 *
 *     QUEUED -> DEBOUNCE -> DEBOUNCED -> RESET -> CONFIGURE -> STRINGS -> UDEV -> READY
 *
 * in which every step may be cut off by detach().  Files are written before the
 * event that tells of them, and deleted before "remove".  What was cut off is freed
 * in the next round, so nothing dies under its own callback.
 *
 * "set serial=yes" is a hub as the kernel has it: one thread for all of its ports.  A loss waits, as an arrival does, until the
 * thread has done with the port that it is at; then losses come first.  And of a controller's devices, on whatever hubs, one at a time
 * is reset and asked for its descriptor (Linux 5.16 and later: address0_mutex), but that a program resets one.
 *
 * udevd tells of devices, each with its interfaces and its tty, when its time is over ("set udev=, udev-remove="), and holds back what is
 * of the same devpath as an earlier event, or above or below it.  So a "remove" may come when another device stands at the port and has
 * its node already, and that one's "add" comes behind it.  Parents come before their children and go after them; what is of several
 * interfaces comes in any order, as udevd has several workers: by lot ("set order=").
 *
 * A struct attached is what the kernel knows of a camera from the moment that its
 * line was pulled up until it drops off, with a device number of its own; and then what udevd has still to say of it.
 */

#include "sim/kernel-played.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/usb/ch9.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <termios.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/ep0.h"
#include "sim/fuse-usbfs.h"
#include "sim/kernel.h"
#include "sim/open-files.h"
#include "sim/runtime-tty.h"
#include "sim/sysfs.h"
#include "sim/uevent.h"

#define HUB_DRIVER "hub"
#define SERIAL_DRIVER "cdc_acm"
#define HOLDER_DRIVER "usbfs"           /* another program is that, to everybody else */
#define ROOT_PORTS 15U
#define HUB_PORTS 16U                   /* more than any hub has, to spare tests a tree of them */
#define BUSES 63U
#define STRING_TIMEOUT (5 * SEC)
#define ROUNDS 8U                       /* Linux 6.1: two ways of asking, each twice, before and after a power cycle of the port */
#define TRIES 3U                        /* in each round */
#define TURN_ROUNDS 2U                  /* until the others of its controller may have their turn */
#define RESET_SIGNALLING 10.0           /* milliseconds; USB 2.0, 7.1.7.5 */
#define INTERFACES_MAX 8
#define ALTERNATES_MAX 8

enum attached_state {
        ATTACHED_QUEUED,                /* its hub is busy with another port */
        ATTACHED_DEBOUNCE,
        ATTACHED_DEBOUNCED,             /* its controller is busy with another device, of any hub */
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
        struct played *played;
        struct world_camera *camera;    /* NULL: a hub */
        enum attached_state state;
        unsigned bus;
        char parent[48];                /* path of its hub: "1-4", "usb1" */
        size_t n_ports;
        uint8_t ports[7];
        struct timer timer;
        struct timer reset_timer;       /* of a program's reset: udevd may be at work meanwhile */
        struct ep0 ep0;
        struct control control;         /* the kernel's own requests */
        uint8_t data[256];
        struct usbfs_node *node;
        bool in_sysfs, announced, resetting;
        bool untold;                    /* in played->untold: udevd has something to tell of it, */
        bool due;                       /* and the time for it is over */
        bool overdue;                   /* LEAVING, and its hub is busy with another port */
        unsigned rounds;                /* of asking for its descriptor, in vain */
        unsigned fail_tries;            /* so many times more it does not tell it */
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
        int tty_inotify;                /* watch descriptor of its path */
        bool tty_open;                  /* a program has it */
        struct io_watch tty_watch;
        struct runtime_tty runtime;
        LIST_ENTRY(attached) link;      /* in played->attached */
        TAILQ_ENTRY(attached) order;    /* in played->queue while QUEUED, ->debounced while that, ->losses while overdue */
        TAILQ_ENTRY(attached) told_order;       /* in played->untold */
};
struct played {
        struct kernel kernel;
        struct loop *loop;
        struct fuse_usbfs *usbfs;
        struct uevents *uevents;
        LIST_HEAD(, attached) attached;
        TAILQ_HEAD(attached_queue, attached) queue, debounced, losses;
        struct attached_queue untold;   /* as the kernel told udevd: UDEV is coming, DEAD is gone */
        LIST_HEAD(, attached) dead;
        struct defer reap, pump;
        int inotify;
        struct io_watch inotify_watch;
        unsigned last_device[BUSES + 1];
};

static const struct world_options *options(const struct played *played)
{
        return world_options(played->kernel.world);
}

static void changed(struct played *played)
{
        world_changed(played->kernel.world);
}

static const char *attached_name(const struct attached *attached)
{
        return attached->camera ? attached->camera->name : attached->device.name;
}

static _printf_(2, 3) void trace(struct attached *attached, const char *format, ...)
{
        char line[256];
        va_list args;

        if (!world_is_traced(attached->played->kernel.world))
                return;
        va_start(args, format);
        (void)vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        world_trace(attached->played->kernel.world, attached_name(attached), line);
}

static uint64_t milliseconds(double value)
{
        return value <= 0 ? 0 : (uint64_t)(value * 1000);
}
/* --- what it says --- */

enum news { NEWS_NO_ANSWER, NEWS_GAVE_UP, NEWS_FOUND, NEWS_LOST };

/* As hub.c has it. */
static void say(const struct attached *attached, enum news news)
{
        struct sim_kernel_log *log = attached->played->kernel.log;
        const char *name = attached->device.name;
        const uint8_t *d = attached->descriptors;
        char port[64];

        switch (news) {
        case NEWS_NO_ANSWER:
                sim_kernel_says(log, "usb %s: device descriptor read/64, error -71", name);
                break;
        case NEWS_GAVE_UP:
                (void)snprintf(port, sizeof(port), "%s-port%u", attached->parent, attached->ports[attached->n_ports - 1]);
                sim_kernel_says(log, "usb %s: new full-speed USB device number 2 using camsim", name);
                say(attached, NEWS_NO_ANSWER);
                say(attached, NEWS_NO_ANSWER);
                sim_kernel_says(log, "usb %s: attempt power cycle", port);
                sim_kernel_says(log, "usb %s: new full-speed USB device number 3 using camsim", name);
                say(attached, NEWS_NO_ANSWER);
                sim_kernel_says(log, "usb %s: device not accepting address 3, error -71", name);
                sim_kernel_says(log, "usb %s: unable to enumerate USB device", port);
                break;
        case NEWS_FOUND:
                sim_kernel_says(log, "usb %s: new %s-speed USB device number %u using camsim", name,
                                attached->device.speed >= 480 ? "high" : "full", attached->device.device);
                sim_kernel_says(log, "usb %s: New USB device found, idVendor=%02x%02x, idProduct=%02x%02x, bcdDevice=%2x.%02x", name, d[9],
                                d[8], d[11], d[10], d[13], d[12]);
                break;
        case NEWS_LOST:
                sim_kernel_says(log, "usb %s: USB disconnect, device number %u", name, attached->device.device);
                break;
        }
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

static struct attached *hub_by_name(struct played *played, const char *name)
{
        struct attached *attached;

        LIST_FOREACH(attached, &played->attached, link)
                if (!attached->camera && strcmp(attached->device.name, name) == 0)
                        return attached;
        return NULL;
}

static unsigned next_device_number(struct played *played, unsigned bus)
{
        unsigned number = played->last_device[bus];

        for (unsigned tries = 0; tries < 127; tries++) {
                struct attached *attached;
                bool used = false;

                number = number >= 127 ? 1 : number + 1;
                LIST_FOREACH(attached, &played->attached, link)
                        used |= attached->bus == bus && attached->device.device == number;
                if (!used) {
                        played->last_device[bus] = number;
                        return number;
                }
        }
        return 0;
}
/* --- an attached device's life --- */

static void attached_free(struct attached *attached)
{
        timer_deinit(&attached->timer);
        timer_deinit(&attached->reset_timer);
        ep0_deinit(&attached->ep0);
        runtime_tty_deinit(&attached->runtime);
        free(attached->descriptors);
        free(attached);
}

static void on_reap(void *userdata)
{
        struct played *played = userdata;
        struct attached *attached;

        while ((attached = LIST_FIRST(&played->dead))) {
                LIST_REMOVE(attached, link);
                attached_free(attached);
        }
}

static unsigned event_times(const struct attached *attached)
{
        if (!options(attached->played)->uevents)
                return 0;
        return attached->camera ? attached->camera->event_times : 1;
}

/* --- udevd --- */

static void on_udev_done(struct attached *attached);

/* One of n; the first one, if there are no lots. */
static size_t draw(struct played *played, size_t n)
{
        uint64_t *lot = &world_options(played->kernel.world)->order;

        *lot ^= *lot << 13;
        *lot ^= *lot >> 7;
        *lot ^= *lot << 17;
        return (size_t)(*lot % n);
}

/* What there is to say of one, in this order. */
#define INTERFACE_EVENTS 3U

static void tell_of_interface(const struct attached *attached, const struct sysfs_interface *entry, bool comes, unsigned step)
{
        struct uevents *uevents = attached->played->uevents;
        bool driver = entry->driver && (!comes || strcmp(entry->driver, HOLDER_DRIVER) != 0);

        /* Its driver makes the tty while it is being bound. */
        if (step == (comes ? 1 : 0)) {
                if (attached->has_tty && attached->tty.interface == entry->number)
                        (void)sysfs_tty_event(uevents, &attached->device, &attached->tty, comes ? "add" : "remove");
        } else if (step == (comes ? 2 : 1)) {
                if (driver)
                        (void)sysfs_interface_event(uevents, &attached->device, entry, comes ? "bind" : "unbind");
        } else {
                (void)sysfs_interface_event(uevents, &attached->device, entry, comes ? "add" : "remove");
        }
}

static void tell_of_interfaces(const struct attached *attached, bool comes)
{
        unsigned steps[INTERFACES_MAX] = { 0 };

        for (size_t open = attached->n_interfaces; open > 0;) {
                size_t i = 0;

                for (size_t others = draw(attached->played, open); steps[i] == INTERFACE_EVENTS || others > 0; i++)
                        others -= steps[i] < INTERFACE_EVENTS;
                tell_of_interface(attached, &attached->interfaces[i], comes, steps[i]);
                open -= ++steps[i] == INTERFACE_EVENTS;
        }
}

static void announce(struct attached *attached)
{
        struct played *played = attached->played;

        attached->announced = true;
        attached->announced_at = loop_now(played->loop);
        trace(attached, "uevent: add %s, device %u", attached->device.name, attached->device.device);
        for (unsigned n = event_times(attached); n > 0; n--) {
                (void)sysfs_device_event(played->uevents, &attached->device, "add");
                tell_of_interfaces(attached, /* comes= */ true);
                (void)sysfs_device_event(played->uevents, &attached->device, "bind");
        }
        changed(played);
}

static void announce_removal(struct attached *attached)
{
        struct played *played = attached->played;

        attached->announced = false;
        trace(attached, "uevent: remove %s, device %u", attached->device.name, attached->device.device);
        for (unsigned n = event_times(attached); n > 0; n--) {
                tell_of_interfaces(attached, /* comes= */ false);
                (void)sysfs_device_event(played->uevents, &attached->device, "unbind");
                (void)sysfs_device_event(played->uevents, &attached->device, "remove");
        }
}

static void tell(struct attached *attached)
{
        struct played *played = attached->played;

        TAILQ_REMOVE(&played->untold, attached, told_order);
        attached->untold = false;
        if (attached->state != ATTACHED_DEAD) {
                on_udev_done(attached);
                return;
        }
        announce_removal(attached);
        LIST_INSERT_HEAD(&played->dead, attached, link);
        defer_call(&played->reap);
        changed(played);
}

/* Is it the same device, or one behind the other? */
static bool is_related(const char *devpath, const char *other)
{
        size_t length = MIN(strlen(devpath), strlen(other));

        return strncmp(devpath, other, length) == 0 && (devpath[length] == 0 || devpath[length] == '/') &&
               (other[length] == 0 || other[length] == '/');
}

static bool is_held_back(const struct attached *attached)
{
        const struct attached *other;

        for (other = TAILQ_FIRST(&attached->played->untold); other != attached; other = TAILQ_NEXT(other, told_order))
                if (is_related(other->device.devpath, attached->device.devpath))
                        return true;
        return false;
}

static void tell_due(struct played *played)
{
        struct attached *attached;

        do {
                TAILQ_FOREACH(attached, &played->untold, told_order)
                        if (attached->due && !is_held_back(attached))
                                break;
                if (attached)
                        tell(attached);
        } while (attached);
}

/* After so many milliseconds, if it may then. */
static void tell_later(struct attached *attached, double time)
{
        attached->untold = true;
        attached->due = time <= 0;
        TAILQ_INSERT_TAIL(&attached->played->untold, attached, told_order);
        if (attached->due)
                tell_due(attached->played);
        else
                timer_set(&attached->timer, milliseconds(time));
}

static void tell_never(struct attached *attached)
{
        if (!attached->untold)
                return;
        TAILQ_REMOVE(&attached->played->untold, attached, told_order);
        attached->untold = false;
        tell_due(attached->played);
}

/* --- serial port --- */

static void say_on_tty(void *userdata, const uint8_t *bytes, size_t size)
{
        struct attached *attached = userdata;

        (void)!write(attached->master, bytes, size);
}

/* The master sees what a program set on the slave.  DTR is up as long as one has it: the packet protocol wants that, the older one only the rate. */
static bool tty_is_up(void *userdata)
{
        const struct attached *attached = userdata;
        struct termios termios;
        unsigned version[3];

        sim_camera_runtime_version(attached->camera->model, version);
        return tcgetattr(attached->master, &termios) >= 0 && cfgetospeed(&termios) == B921600 && (attached->tty_open || version[0] < 5);
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
        (void)inotify_rm_watch(attached->played->inotify, attached->tty_inotify);
        /* Master first: who has the tty open hears a hangup. */
        (void)close(attached->master);
        (void)close(attached->slave);
        (void)umount2(path, MNT_DETACH);
        (void)unlink(path);
}

/* Who had it for himself alone has it no more: a pty remembers that as long as anybody has either of its ends, and we have both. */
static void on_tty_closed(struct attached *attached)
{
        attached->tty_open = false;
        (void)ioctl(attached->slave, TIOCNXCL);
        if (attached->state != ATTACHED_LEAVING && !tty_is_up(attached))
                runtime_tty_hang_up(&attached->runtime);
        changed(attached->played);
}

static void on_opening(void *userdata, int watch, uint32_t mask)
{
        struct played *played = userdata;
        struct attached *attached;
        char path[32];

        LIST_FOREACH(attached, &played->attached, link)
                if (attached->has_tty && attached->tty_inotify == watch)
                        break;
        if (!attached)
                return;
        if (mask & IN_OPEN)
                attached->tty_open = true;
        tty_path(attached, path);
        if (mask & IN_CLOSE && attached->tty_open && open_files(path) == 0)
                on_tty_closed(attached);
}

static void on_inotify(void *userdata, unsigned events)
{
        struct played *played = userdata;

        hear_openings(played->inotify, on_opening, played);
}

static void on_tty(void *userdata, unsigned events)
{
        struct attached *attached = userdata;
        uint8_t bytes[512];
        ssize_t n;

        /* Who writes has opened it before. */
        on_inotify(attached->played, IO_READ);
        n = read(attached->master, bytes, sizeof(bytes));
        if (n > 0 && attached->state == ATTACHED_LEAVING)
                return;                 /* nobody is there to hear it */
        if (n > 0) {
                runtime_tty_receive(&attached->runtime, bytes, (size_t)n);
                changed(attached->played);      /* somebody may wait for "serial_bytes>=N" */
        } else if (n == 0 || errno != EAGAIN)
                (void)io_watch_set(&attached->tty_watch, 0);
}

static unsigned free_tty_minor(struct played *played)
{
        for (unsigned minor = 0;; minor++) {
                struct attached *attached;
                bool used = false;

                LIST_FOREACH(attached, &played->attached, link)
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

        attached->tty.minor = free_tty_minor(attached->played);
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
        attached->tty_inotify = inotify_add_watch(attached->played->inotify, path, IN_OPEN | IN_CLOSE);
        attached->tty_open = false;
        attached->master = take_fd(&master);
        attached->slave = take_fd(&slave);
        attached->has_tty = true;
        runtime_tty_init(&attached->runtime, attached->played->loop, attached->camera->model, &attached->camera->config,
                         say_on_tty, tty_is_up, attached);
        io_watch_init(&attached->tty_watch, attached->played->loop, attached->master, on_tty, attached);
        (void)io_watch_set(&attached->tty_watch, IO_READ);
        return 0;
}

/* --- going --- */

static void remove_from_kernel(struct attached *attached)
{
        struct played *played = attached->played;

        if (attached->state == ATTACHED_QUEUED)
                TAILQ_REMOVE(&played->queue, attached, order);
        if (attached->state == ATTACHED_DEBOUNCED)
                TAILQ_REMOVE(&played->debounced, attached, order);
        if (attached->overdue)
                TAILQ_REMOVE(&played->losses, attached, order);
        attached->overdue = false;
        attached->state = ATTACHED_DEAD;
        timer_clear(&attached->timer);
        timer_clear(&attached->reset_timer);
        ep0_shutdown(&attached->ep0);
        attached->node = usbfs_node_remove(attached->node);
        if (attached->in_sysfs)
                say(attached, NEWS_LOST);
        if (attached->in_sysfs)
                sysfs_device_delete(&attached->device, attached->interfaces, attached->n_interfaces,
                                    attached->has_tty ? &attached->tty : NULL);
        tty_close(attached);
        LIST_REMOVE(attached, link);
        if (attached->camera && attached->camera->attached == attached)
                attached->camera->attached = NULL;
        tell_never(attached);
        if (attached->announced)
                tell_later(attached, options(played)->udev_remove);
        else {
                LIST_INSERT_HEAD(&played->dead, attached, link);
                defer_call(&played->reap);
        }
        defer_call(&played->pump);
        changed(played);
}

/* Is its hub busy with another port of it? */
static bool hub_is_busy(const struct attached *attached)
{
        const struct attached *other;

        if (!options(attached->played)->serial)
                return false;
        LIST_FOREACH(other, &attached->played->attached, link)
                if (other != attached && strcmp(other->parent, attached->parent) == 0 &&
                    other->state >= ATTACHED_DEBOUNCE && other->state <= ATTACHED_STRINGS)
                        return true;
        return false;
}

/* Is its controller busy with another device of it? */
static bool bus_is_busy(const struct attached *attached)
{
        const struct attached *other;

        if (!options(attached->played)->serial)
                return false;
        LIST_FOREACH(other, &attached->played->attached, link)
                if (other->bus == attached->bus && other->state == ATTACHED_RESET)
                        return true;
        return false;
}

/* The hub has told of the loss; on_pump() goes on when its thread is free. */
static void on_noticed(struct attached *attached)
{
        if (!hub_is_busy(attached)) {
                remove_from_kernel(attached);
                return;
        }
        if (attached->overdue)
                return;
        timer_clear(&attached->timer);
        attached->overdue = true;
        TAILQ_INSERT_TAIL(&attached->played->losses, attached, order);
}

/* The device is off the bus. */
static void detach(struct attached *attached)
{
        struct played *played = attached->played;

        if (attached->state == ATTACHED_LEAVING)
                return;
        trace(attached, "disconnected");
        if (!attached->node || (options(played)->notice <= 0 && !hub_is_busy(attached))) {
                remove_from_kernel(attached);
                return;
        }
        attached->state = ATTACHED_LEAVING;
        ep0_shutdown(&attached->ep0);
        runtime_tty_deinit(&attached->runtime);
        timer_set(&attached->timer, milliseconds(options(played)->notice));
        /* If its hub was busy, it was with this one. */
        defer_call(&played->pump);
}

/* --- coming --- */

static int on_open(void *userdata)
{
        struct attached *attached = userdata;
        struct world_camera *camera = attached->camera;

        if (!camera || camera->refuse_open == 0)
                return 0;
        camera->refused++;
        changed(attached->played);
        return camera->refuse_open;
}

static void bind_other_half(struct attached *attached, const char *driver);

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
        if (!attached->camera || attached->state == ATTACHED_LEAVING) {
                finish_reset(attached, attached->camera ? -ENODEV : 0);
                return;
        }
        /* cdc_acm cannot be told of a reset; who else has an interface of a camera can. */
        bind_other_half(attached, NULL);
        /* Reset signalling takes its time however fast the rest may be: a bootloader has left by its end. */
        timer_set(&attached->reset_timer, milliseconds(MAX(options(attached->played)->enumerate / 2, RESET_SIGNALLING)));
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

static void on_reset_timer(void *userdata)
{
        struct attached *attached = userdata;

        /* One that has left has its node taken away, and the program its answer, when the loss is noticed. */
        if (attached->state != ATTACHED_LEAVING)
                configure(attached, on_reset_configured);
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

static bool is_serial_driver(const char *driver)
{
        return driver && strcmp(driver, SERIAL_DRIVER) == 0;
}

static void tell_of_tty(const struct attached *attached, const char *action)
{
        for (unsigned n = event_times(attached); attached->announced && n > 0; n--)
                (void)sysfs_tty_event(attached->played->uevents, &attached->device, &attached->tty, action);
}

/* Its interfaces have their driver again. */
static void tty_comes(struct attached *attached, const struct sysfs_interface *control)
{
        if (attached->has_tty || !attached->camera)
                return;
        if (tty_open(attached, control->number) < 0) {
                trace(attached, "no pty for its serial port");
                return;
        }
        trace(attached, "%s comes", attached->tty.name);
        (void)sysfs_tty_write(&attached->device, &attached->tty);
        (void)sysfs_tty_write_database(&attached->device, &attached->tty);
        tell_of_tty(attached, "add");
        changed(attached->played);
}

static void tty_goes(struct attached *attached)
{
        if (!attached->has_tty)
                return;
        trace(attached, "%s goes", attached->tty.name);
        sysfs_tty_delete(&attached->device, &attached->tty);
        tty_close(attached);
        attached->has_tty = attached->tty_open = false;
        tell_of_tty(attached, "remove");
        changed(attached->played);
}

/* A serial port's driver has both its interfaces or none.  (No camera has two ports.) */
static void bind_other_half(struct attached *attached, const char *driver)
{
        for (size_t i = 0; i < attached->n_interfaces; i++) {
                const struct sysfs_interface *entry = &attached->interfaces[i];

                if (entry->class != USB_CLASS_COMM && entry->class != USB_CLASS_CDC_DATA)
                        continue;
                if (driver ? !entry->driver : is_serial_driver(entry->driver))
                        (void)usbfs_node_bind(attached->node, entry->number, driver);
        }
}

static void on_driver_changed(void *userdata, uint8_t interface, const char *driver)
{
        struct attached *attached = userdata;
        struct played *played = attached->played;
        size_t i = find_entry(attached, interface);
        struct sysfs_interface *entry = &attached->interfaces[i];
        const char *former;
        bool quiet;

        if (i == attached->n_interfaces)
                return;
        former = entry->driver;
        if (former == driver || (former && driver && strcmp(former, driver) == 0))
                return;
        /* usbfs says nothing when programs come and go. */
        quiet = !attached->announced || (driver && strcmp(driver, HOLDER_DRIVER) == 0) ||
                (former && strcmp(former, HOLDER_DRIVER) == 0);
        entry->driver = driver;
        (void)sysfs_interface_write_driver(&attached->device, entry);
        if (is_serial_driver(former)) {
                tty_goes(attached);
                bind_other_half(attached, NULL);
        }
        for (unsigned n = event_times(attached); !quiet && former && n > 0; n--)
                (void)sysfs_interface_event(played->uevents, &attached->device, entry, "unbind");
        if (is_serial_driver(driver) && entry->class == USB_CLASS_COMM) {
                bind_other_half(attached, driver);
                tty_comes(attached, entry);
        }
        for (unsigned n = event_times(attached); !quiet && driver && n > 0; n--)
                (void)sysfs_interface_event(played->uevents, &attached->device, entry, "bind");
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
                        (void)sysfs_interface_event(attached->played->uevents, &attached->device, entry, "remove");
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
                        (void)sysfs_interface_event(attached->played->uevents, &attached->device, entry, "add");
                if (entry->class == USB_CLASS_COMM)
                        tty_comes(attached, entry);
        }
        bind_drivers(attached);
}

static const char *driver_of(const uint8_t *interface);

static const char *on_find_driver(void *userdata, uint8_t interface)
{
        const struct attached *attached = userdata;
        const uint8_t *descriptor = find_alternate(attached, interface, 0);

        /* A serial port is found by its control interface, and taken with the other one if that is free. */
        if (!descriptor || descriptor[5] == USB_CLASS_CDC_DATA)
                return NULL;
        for (size_t i = 0; descriptor[5] == USB_CLASS_COMM && i < attached->n_interfaces; i++)
                if (attached->interfaces[i].class == USB_CLASS_CDC_DATA && attached->interfaces[i].driver)
                        return NULL;
        return driver_of(descriptor);
}

static void on_usbfs_trace(void *userdata, const char *line)
{
        struct attached *attached = userdata;

        trace(attached, "usbfs: %s", line);
        changed(attached->played);       /* somebody may wait for "opened=no" */
}

static const struct usbfs_ops usbfs_ops = {
        .open = on_open,
        .reset = on_reset,
        .find_driver = on_find_driver,
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
                return SERIAL_DRIVER;
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
                else if (camera && entry->number < WORLD_INTERFACES_MAX && camera->hold[entry->number])
                        (void)usbfs_node_bind(attached->node, entry->number, HOLDER_DRIVER);
        }
}

/* Device number, node, sysfs: the device exists, and is not configured. */
static int appear(struct attached *attached)
{
        struct played *played = attached->played;
        struct usbfs_info info = { 0 };
        int r;

        attached->device.device = next_device_number(played, attached->bus);
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
        r = usbfs_node_new(played->usbfs, &info, &attached->ep0, &usbfs_ops, attached, &attached->node);
        if (r < 0)
                return r;
        attached->in_sysfs = true;
        say(attached, NEWS_FOUND);
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
        struct played *played = attached->played;

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
        defer_call(&played->pump);
        tell_later(attached, options(played)->udev);
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
        changed(attached->played);
        next_string(attached);
}

static void reset_next(struct played *played)
{
        struct attached *attached, *next;

        for (attached = TAILQ_FIRST(&played->debounced); attached; attached = next) {
                next = TAILQ_NEXT(attached, order);
                if (bus_is_busy(attached))
                        continue;
                TAILQ_REMOVE(&played->debounced, attached, order);
                attached->state = ATTACHED_RESET;
                timer_set(&attached->timer, milliseconds(options(played)->enumerate));
        }
}

static void await_turn(struct attached *attached)
{
        struct played *played = attached->played;

        attached->state = ATTACHED_DEBOUNCED;
        TAILQ_INSERT_TAIL(&played->debounced, attached, order);
        reset_next(played);
}

static void on_reset_done(struct attached *attached)
{
        struct world_camera *camera = attached->camera;
        int r = -EPROTO;

        if (attached->rounds == 0 && camera->fail_enumeration != 0) {
                attached->fail_tries = camera->fail_tries > 0 ? camera->fail_tries : UINT_MAX;
                if (camera->fail_enumeration > 0)
                        camera->fail_enumeration--;
        }
        if (attached->fail_tries >= TRIES) {
                attached->fail_tries -= TRIES;
                trace(attached, "device descriptor read/64, error %d", r);
                say(attached, NEWS_NO_ANSWER);
                if (++attached->rounds < ROUNDS) {
                        if (attached->rounds % TURN_ROUNDS == 0)
                                await_turn(attached);
                        else
                                timer_set(&attached->timer, milliseconds(options(attached->played)->enumerate));
                        return;
                }
        } else {
                r = read_descriptors(attached);
                if (r >= 0)
                        r = appear(attached);
        }
        if (r < 0) {
                trace(attached, "unable to enumerate USB device, error %d", r);
                say(attached, NEWS_GAVE_UP);
                attached->state = ATTACHED_FAILED;
                defer_call(&attached->played->pump);
                changed(attached->played);
                return;
        }
        attached->state = ATTACHED_CONFIGURE;
        defer_call(&attached->played->pump);
        configure(attached, on_configured);
}

static void on_timer(void *userdata)
{
        struct attached *attached = userdata;

        switch (attached->state) {
        case ATTACHED_DEBOUNCE:
                await_turn(attached);
                break;
        case ATTACHED_RESET:
                on_reset_done(attached);
                break;
        case ATTACHED_UDEV:
        case ATTACHED_DEAD:
                attached->due = true;
                tell_due(attached->played);
                break;
        case ATTACHED_LEAVING:
                on_noticed(attached);
                break;
        case ATTACHED_READY:
        case ATTACHED_QUEUED:
        case ATTACHED_DEBOUNCED:
        case ATTACHED_CONFIGURE:
        case ATTACHED_STRINGS:
        case ATTACHED_FAILED:
                break;
        }
}

/* The device that was at the same port before, and whose loss the kernel has not dealt with. */
static struct attached *find_former(const struct attached *attached)
{
        struct attached *other;

        LIST_FOREACH(other, &attached->played->attached, link)
                if (other != attached && other->state == ATTACHED_LEAVING &&
                    strcmp(other->device.name, attached->device.name) == 0)
                        return other;
        return NULL;
}

static void on_pump(void *userdata)
{
        struct played *played = userdata;
        struct attached *attached, *next;

        for (attached = TAILQ_FIRST(&played->losses); attached; attached = next) {
                next = TAILQ_NEXT(attached, order);
                if (!hub_is_busy(attached))
                        remove_from_kernel(attached);
        }
        for (attached = TAILQ_FIRST(&played->queue); attached; attached = next) {
                next = TAILQ_NEXT(attached, order);
                if (hub_is_busy(attached) || find_former(attached))
                        continue;
                TAILQ_REMOVE(&played->queue, attached, order);
                attached->state = ATTACHED_DEBOUNCE;
                timer_set(&attached->timer, milliseconds(options(played)->debounce));
        }
        reset_next(played);
}

static int attached_new(struct played *played, unsigned bus, const uint8_t *ports, size_t n_ports,
                        struct world_camera *camera, struct attached **ret)
{
        struct attached *attached = calloc(1, sizeof(*attached));
        size_t used;

        if (!attached)
                return -ENOMEM;
        attached->played = played;
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
        timer_init(&attached->timer, played->loop, on_timer, attached);
        timer_init(&attached->reset_timer, played->loop, on_reset_timer, attached);
        ep0_init(&attached->ep0, played->loop, camera ? camera->model : NULL);
        LIST_INSERT_HEAD(&played->attached, attached, link);
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

static int hub_new(struct played *played, unsigned bus, const uint8_t *ports, size_t n_ports)
{
        struct attached *attached;
        int r;

        r = attached_new(played, bus, ports, n_ports, NULL, &attached);
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
        tell_later(attached, 0);
        return 0;
}

static int make_hubs(struct played *played, unsigned bus, const uint8_t *ports, size_t n_ports)
{
        char name[48];
        int r;

        for (size_t n = 0; n < n_ports; n++) {
                format_name(bus, ports, n, name, sizeof(name));
                if (n > 0 && world_camera_at(played->kernel.world, name))
                        return -EEXIST;
                if (hub_by_name(played, name))
                        continue;
                r = hub_new(played, bus, ports, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- what the world asks --- */

static struct played *played_of(struct kernel *kernel)
{
        return container_of(kernel, struct played, kernel);
}

static int played_find_port(struct kernel *kernel, const char *path, char port[static WORLD_PORT_SIZE])
{
        uint8_t ports[7];
        size_t n_ports;
        unsigned bus;
        int r;

        r = parse_port(path, &bus, ports, &n_ports);
        if (r < 0)
                return r;
        if (hub_by_name(played_of(kernel), path))
                return -EEXIST;
        (void)snprintf(port, WORLD_PORT_SIZE, "%s", path);
        return 0;
}

static int played_prepare_port(struct kernel *kernel, const char *port)
{
        uint8_t ports[7];
        size_t n_ports;
        unsigned bus;
        int r;

        r = parse_port(port, &bus, ports, &n_ports);
        return r < 0 ? r : make_hubs(played_of(kernel), bus, ports, n_ports);
}

static unsigned played_hub_off(struct kernel *kernel, const char *path)
{
        struct played *played = played_of(kernel);
        struct attached *attached, *next;
        unsigned count = 0;

        /* Deepest first; root hubs stay. */
        for (size_t n = 7; n > 0; n--)
                for (attached = LIST_FIRST(&played->attached); attached; attached = next) {
                        next = LIST_NEXT(attached, link);
                        if (attached->n_ports != n || !world_is_below(attached->device.name, path))
                                continue;
                        /* Whose loss was not noticed yet goes with its hub. */
                        count += !attached->camera;
                        remove_from_kernel(attached);
                }
        return count;
}

static void played_connected(struct kernel *kernel, struct world_camera *camera)
{
        struct played *played = played_of(kernel);
        struct attached *attached, *former;
        uint8_t ports[7];
        size_t n_ports;
        unsigned bus;

        /* The old device's loss was not noticed yet: now it is. */
        if (camera->attached)
                on_noticed(camera->attached);
        if (parse_port(camera->port, &bus, ports, &n_ports) < 0 ||
            attached_new(played, bus, ports, n_ports, camera, &attached) < 0)
                return;
        camera->attached = attached;
        trace(attached, "connected at %s: %s", camera->port, sim_mode_name(sim_camera_mode(camera->model)));
        attached->state = ATTACHED_QUEUED;
        TAILQ_INSERT_TAIL(&played->queue, attached, order);
        former = find_former(attached);
        if (former)
                on_noticed(former);
        defer_call(&played->pump);
        changed(played);
}

static void played_disconnected(struct kernel *kernel, struct world_camera *camera)
{
        if (camera->attached)
                detach(camera->attached);
}

static void played_unplugged(struct kernel *kernel, struct world_camera *camera)
{
        struct attached *attached = camera->attached;

        /* A port that the kernel has given up, or a loss not noticed yet. */
        if (attached && attached->state != ATTACHED_LEAVING)
                remove_from_kernel(attached);
}

static void played_complete(struct kernel *kernel, struct world_camera *camera, struct sim_urb *urb, int status, size_t actual)
{
        /* As long as the kernel does not know of the loss, transfers just fail. */
        if (status == -ESHUTDOWN &&
            (options(played_of(kernel))->notice > 0 || (camera->attached && hub_is_busy(camera->attached))))
                status = -EPROTO;
        ep0_on_complete(urb, status, actual);
}

/* All that the kernel knows of it: one that is there, and those whose loss it has not dealt with. */
static void played_forget(struct kernel *kernel, struct world_camera *camera)
{
        struct attached *attached, *next;

        for (attached = LIST_FIRST(&played_of(kernel)->attached); attached; attached = next) {
                next = LIST_NEXT(attached, link);
                if (attached->camera == camera)
                        remove_from_kernel(attached);
        }
        /* Nor can udevd say anything of it later. */
        for (attached = TAILQ_FIRST(&played_of(kernel)->untold); attached; attached = next) {
                next = TAILQ_NEXT(attached, told_order);
                if (attached->camera == camera)
                        tell(attached);
        }
}

static void played_look(struct kernel *kernel, const struct world_camera *camera, struct kernel_view *ret)
{
        const struct attached *attached = camera->attached, *other;

        LIST_FOREACH(other, &played_of(kernel)->attached, link)
                ret->departing |= other->camera == camera && other != attached && other->announced;
        TAILQ_FOREACH(other, &played_of(kernel)->untold, told_order)
                ret->departing |= other->camera == camera && other != attached && other->announced;
        if (!attached) {
                ret->announced = ret->departing;
                return;
        }
        ret->announced = attached->announced;
        ret->announced_at = attached->announced ? attached->announced_at : 0;
        ret->given_up = attached->state == ATTACHED_FAILED;
        ret->configured = attached->device.configuration != 0;
        ret->bus = attached->bus;
        ret->device = attached->device.device;
        ret->tty = attached->has_tty ? attached->tty.name : NULL;
        ret->tty_open = attached->has_tty && attached->tty_open;
}

static unsigned played_open_files(struct kernel *kernel, const struct world_camera *camera)
{
        const struct attached *attached = camera->attached;

        return attached && attached->node ? usbfs_node_open_files(attached->node) : 0;
}

static int played_hold(struct kernel *kernel, struct world_camera *camera, uint8_t interface, bool hold)
{
        struct attached *attached = camera->attached;

        return attached && attached->node ? usbfs_node_bind(attached->node, interface, hold ? HOLDER_DRIVER : NULL) : 0;
}

static int played_overflow(struct kernel *kernel)
{
        struct played *played = played_of(kernel);

        return sysfs_overflow(played->uevents, &hub_by_name(played, "usb1")->device);
}

static int played_start(struct kernel *kernel)
{
        /* A machine without any camera has a root hub. */
        return hub_new(played_of(kernel), 1, NULL, 0);
}

static struct kernel *played_free(struct kernel *kernel)
{
        struct played *played = played_of(kernel);
        struct attached *attached;

        while ((attached = LIST_FIRST(&played->attached)))
                remove_from_kernel(attached);
        while ((attached = TAILQ_FIRST(&played->untold)))
                tell(attached);
        on_reap(played);
        defer_deinit(&played->reap);
        defer_deinit(&played->pump);
        if (played->inotify >= 0) {
                io_watch_deinit(&played->inotify_watch);
                (void)close(played->inotify);
        }
        played->usbfs = fuse_usbfs_free(played->usbfs);
        played->uevents = uevents_free(played->uevents);
        kernel->log = sim_kernel_log_free(kernel->log);
        free(played);
        return NULL;
}

static const struct kernel_ops played_ops = {
        .start = played_start,
        .free = played_free,
        .find_port = played_find_port,
        .prepare_port = played_prepare_port,
        .hub_off = played_hub_off,
        .connected = played_connected,
        .disconnected = played_disconnected,
        .unplugged = played_unplugged,
        .complete = played_complete,
        .forget = played_forget,
        .look = played_look,
        .open_files = played_open_files,
        .hold = played_hold,
        .overflow = played_overflow,
};

int kernel_played_new(struct loop *loop, int fuse_fd, struct kernel **ret)
{
        struct played *played = calloc(1, sizeof(*played));
        int r;

        if (!played)
                return -ENOMEM;
        played->kernel.ops = &played_ops;
        played->loop = loop;
        TAILQ_INIT(&played->queue);
        TAILQ_INIT(&played->debounced);
        TAILQ_INIT(&played->losses);
        TAILQ_INIT(&played->untold);
        LIST_INIT(&played->attached);
        LIST_INIT(&played->dead);
        defer_init(&played->reap, loop, on_reap, played);
        defer_init(&played->pump, loop, on_pump, played);
        played->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        r = played->inotify < 0 ? -errno : 0;
        if (r >= 0) {
                io_watch_init(&played->inotify_watch, loop, played->inotify, on_inotify, played);
                r = io_watch_set(&played->inotify_watch, IO_READ);
        }
        if (r >= 0)
                r = fuse_usbfs_new(loop, fuse_fd, &played->usbfs);
        if (r >= 0)
                r = uevents_new(&played->uevents);
        if (r >= 0)
                r = sim_kernel_log_new(&played->kernel.log);
        if (r < 0) {
                (void)played_free(&played->kernel);
                return r;
        }
        *ret = &played->kernel;
        return 0;
}

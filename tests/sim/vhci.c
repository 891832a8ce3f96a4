/* SPDX-License-Identifier: MIT */

/*
 * See vhci.h.
 *
 *     ATTACHING -> ATTACHED -> LINGERING -> LETTING_GO -> DEAD
 *
 * A port is busy until the kernel has cleaned up behind its last device, so attaching is tried again and
 * again.  Nobody tells us of a bus reset: it is seen from the question that the kernel asks after it.
 * A device that is gone fails what is pending, and what still comes until the kernel itself has closed the connection, as the
 * host's controller would.  Of a connection that we end the kernel hears late, when many end at once: what is asked until then is answered
 * by nobody, and the hub's thread sits out its own five seconds.
 *
 * What programs see of a device is heard from the kernel's and udevd's
 * uevents; that a program has opened it, from inotify.
 */

#include "sim/vhci.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <linux/usb/ch9.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/child.h"
#include "sim/ep0.h"
#include "sim/kernel.h"
#include "sim/msc.h"
#include "sim/open-files.h"
#include "sim/runtime-tty.h"
#include "sim/usbip.h"

#define PLATFORM "/sys/devices/platform"
#define ATTACH PLATFORM "/vhci_hcd.0/attach"
#define DETACH PLATFORM "/vhci_hcd.0/detach"
#define CONTROLLERS_MAX 16U
#define PORTS 15U                       /* of a controller's high-speed hub; as many again are SuperSpeed's */
#define ATTACH_AGAIN (10 * MSEC)
#define DEPARTURE_PATIENCE (60 * SEC)     /* for the kernel to see that the last one has left */
#define LINGER (20 * MSEC)
#define LETTING_GO_PATIENCE (5 * SEC)
#define MAGIC_RATE 921600U              /* as runtime-tty.h has it */
#define SPEED_FULL 2
#define SPEED_HIGH 3
#define HOLD_PATIENCE 10000             /* ms */
#define LOCK_PATIENCE 2000              /* ms; the kernel waits for five seconds */
#define LET_GO_PATIENCE 1000            /* ms */
#define MSC_RESET 0xff                  /* of the mass storage class */

enum state {
        ATTACHING,
        ATTACHED,
        LINGERING,                      /* off the bus, and the connection still there */
        LETTING_GO,                     /* and the kernel is told to close it */
        DEAD,
};

enum role {
        ROLE_NONE,
        ROLE_SERIAL,                    /* bulk, of the communication device's data interface */
        ROLE_NOTIFY,                    /* its interrupt endpoint, which has nothing to say */
        ROLE_STORAGE,
};

struct device {
        struct vhci *vhci;
        struct world_camera *camera;    /* NULL: forgotten */
        enum state state;
        unsigned port;                  /* as the attach file counts */
        unsigned speed;
        int fd, kernel_fd;              /* our end; the kernel's, until it has it */
        uint64_t connected_at;
        struct timer timer;
        struct io_watch watch;
        struct usbip *usbip;
        struct ep0 ep0;
        TAILQ_HEAD(, request) waiting;  /* of IN endpoints, for data */

        bool configured;
        bool asked_to_configure;        /* whatever it said */
        bool fails;                     /* it does not tell its descriptor, */
        unsigned fail_tries;            /* so many times more; 0: for ever */
        enum role in_roles[16], out_roles[16];
        bool has_cdc;
        struct runtime_tty runtime;
        uint8_t serial[8192];           /* what it said, and nobody has fetched */
        size_t n_serial;
        struct msc msc;

        unsigned bus, number;           /* 0: the kernel did not show it yet */
        bool shown;                     /* programs have heard of it */
        uint64_t shown_at;
        char tty[16];
        int inotify;                    /* watch descriptor, or -1 */
        bool opened;                    /* by a program, once */
        int holders[WORLD_INTERFACES_MAX];      /* pidfd, or -1: its number may be another process's when it has ended */
        pid_t holder_pids[WORLD_INTERFACES_MAX];
        LIST_ENTRY(device) link;        /* in vhci->devices */
};

/* One urb that the device has. */
struct request {
        struct device *device;
        struct usbip_urb *urb;          /* NULL: taken back */
        struct control control;         /* endpoint 0 */
        TAILQ_ENTRY(request) link;      /* other endpoints: in device->waiting */
};

/* A port path that the kernel does not have, and what it stands for. */
struct stand_in {
        char path[WORLD_PORT_SIZE], port[WORLD_PORT_SIZE];
        LIST_ENTRY(stand_in) link;
};

/* A device that is gone, as long as programs do not know it. */
struct departed {
        char port[WORLD_PORT_SIZE];
        unsigned number;
        LIST_ENTRY(departed) link;
};

struct vhci {
        struct kernel kernel;
        struct loop *loop;
        unsigned buses[CONTROLLERS_MAX];
        size_t n_buses;
        int netlink, inotify;
        struct io_watch netlink_watch, inotify_watch;
        LIST_HEAD(, device) devices;
        LIST_HEAD(, device) dead;
        LIST_HEAD(, stand_in) stand_ins;
        LIST_HEAD(, departed) departed;
        struct defer reap;
};

static void changed(struct vhci *vhci)
{
        if (vhci->kernel.world)
                world_changed(vhci->kernel.world);
}

static _printf_(2, 3) void trace(const struct device *device, const char *format, ...)
{
        struct world *world = device->vhci->kernel.world;
        char line[256];
        va_list args;

        if (!device->camera || !world_is_traced(world))
                return;
        va_start(args, format);
        (void)vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        world_trace(world, device->camera->name, line);
}

/* --- the connection --- */

static void device_end(struct device *device);

static void flush(struct device *device)
{
        const uint8_t *bytes;
        size_t size;

        while (device->fd >= 0 && (size = usbip_output(device->usbip, &bytes)) > 0) {
                ssize_t n = send(device->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        (void)io_watch_set(&device->watch, IO_READ | IO_WRITE);
                        return;
                }
                usbip_sent(device->usbip, (size_t)n);
        }
        if (device->fd >= 0 && device->watch.interest != IO_READ)
                (void)io_watch_set(&device->watch, IO_READ);
}

static void complete(struct device *device, struct usbip_urb *urb, int status, size_t actual)
{
        /* A controller that gets no answer any more knows nothing of a shutdown. */
        if (status == -ESHUTDOWN || device->state != ATTACHED)
                status = -EPROTO;
        usbip_complete(device->usbip, urb, status, status == -EPROTO ? 0 : MIN(actual, urb->size));
}

static struct request *request_new(struct device *device, struct usbip_urb *urb)
{
        struct request *request = calloc(1, sizeof(*request));

        if (!request)
                abort();                /* a simulation without memory is no simulation */
        request->device = device;
        request->urb = urb;
        urb->owner = request;
        return request;
}

/* --- other endpoints --- */

/* Data of a waiting IN transfer; -EAGAIN: there are none. */
static int say(struct device *device, struct usbip_urb *urb)
{
        size_t n;

        switch (device->in_roles[urb->endpoint]) {
        case ROLE_SERIAL:
                n = MIN(urb->size, device->n_serial);
                if (n == 0)
                        return -EAGAIN;
                memcpy(urb->data, device->serial, n);
                memmove(device->serial, device->serial + n, device->n_serial - n);
                device->n_serial -= n;
                return (int)n;
        case ROLE_STORAGE:
                return msc_say(&device->msc, urb->data, urb->size);
        case ROLE_NOTIFY:
                return -EAGAIN;
        case ROLE_NONE:
                break;
        }
        return -EPIPE;
}

static void pump(struct device *device)
{
        struct request *request, *next;

        for (request = TAILQ_FIRST(&device->waiting); request; request = next) {
                struct usbip_urb *urb = request->urb;
                int n = say(device, urb);

                next = TAILQ_NEXT(request, link);
                if (n == -EAGAIN)
                        continue;
                TAILQ_REMOVE(&device->waiting, request, link);
                free(request);
                complete(device, urb, MIN(n, 0), (size_t)MAX(n, 0));
        }
        flush(device);
}

static void on_serial_says(void *userdata, const uint8_t *bytes, size_t size)
{
        struct device *device = userdata;

        /* What finds no room is lost, as on a camera whose host does not read. */
        size = MIN(size, sizeof(device->serial) - device->n_serial);
        memcpy(device->serial + device->n_serial, bytes, size);
        device->n_serial += size;
        pump(device);
}

/* The kernel raises it when a program opens the port, and takes it back when nobody has it any more. */
static bool has_dtr(const struct device *device)
{
        uint32_t rate;
        bool dtr;

        sim_camera_line(device->camera->model, &rate, &dtr);
        return dtr;
}

/* The packet protocol wants DTR, the older one only the rate. */
static bool speaks(void *userdata)
{
        const struct device *device = userdata;
        unsigned version[3];
        uint32_t rate;
        bool dtr;

        sim_camera_line(device->camera->model, &rate, &dtr);
        sim_camera_runtime_version(device->camera->model, version);
        return rate == MAGIC_RATE && (dtr || version[0] < 5);
}

static void submit_out(struct device *device, struct usbip_urb *urb)
{
        switch (device->out_roles[urb->endpoint]) {
        case ROLE_SERIAL:
                runtime_tty_receive(&device->runtime, urb->data, urb->size);
                changed(device->vhci);
                break;
        case ROLE_STORAGE:
                if (msc_receive(&device->msc, urb->data, urb->size))
                        break;
                complete(device, urb, -EPIPE, 0);
                pump(device);
                return;
        case ROLE_NOTIFY:
        case ROLE_NONE:
                complete(device, urb, -EPIPE, 0);
                return;
        }
        complete(device, urb, 0, urb->size);
        pump(device);
}

static void submit_in(struct device *device, struct usbip_urb *urb)
{
        struct request *request = request_new(device, urb);

        TAILQ_INSERT_TAIL(&device->waiting, request, link);
        pump(device);
}

static void fail_waiting(struct device *device)
{
        struct request *request;

        while ((request = TAILQ_FIRST(&device->waiting))) {
                struct usbip_urb *urb = request->urb;

                TAILQ_REMOVE(&device->waiting, request, link);
                free(request);
                complete(device, urb, -EPROTO, 0);
        }
}

static void find_endpoints(struct device *device, const struct sim_descriptors *descriptors)
{
        const uint8_t *p = descriptors->config, *end = p + descriptors->config_size;
        enum role role = ROLE_NONE;

        for (; end - p >= 2 && p[0] >= 2 && p[0] <= end - p; p += p[0])
                if (p[1] == USB_DT_INTERFACE && p[0] >= USB_DT_INTERFACE_SIZE)
                        role = p[5] == USB_CLASS_COMM ? ROLE_NOTIFY : p[5] == USB_CLASS_CDC_DATA ? ROLE_SERIAL :
                               p[5] == USB_CLASS_MASS_STORAGE ? ROLE_STORAGE : ROLE_NONE;
                else if (p[1] == USB_DT_ENDPOINT && p[0] >= USB_DT_ENDPOINT_SIZE)
                        (p[2] & USB_DIR_IN ? device->in_roles : device->out_roles)[p[2] & 0x0f] = role;
}

/* --- endpoint 0 --- */

static bool is_request(const struct usbip_urb *urb, uint8_t type, uint8_t request)
{
        return urb->setup[0] == type && urb->setup[1] == request;
}

static bool asks_descriptor(const struct usbip_urb *urb)
{
        return is_request(urb, USB_DIR_IN, USB_REQ_GET_DESCRIPTOR) && urb->setup[3] == USB_DT_DEVICE;
}

static void on_control_done(struct control *control, int status, size_t actual)
{
        struct request *request = container_of(control, struct request, control);
        struct device *device = request->device;
        struct usbip_urb *urb = request->urb;

        free(request);
        if (!urb)
                return;
        if (is_request(urb, 0, USB_REQ_SET_CONFIGURATION)) {
                device->asked_to_configure = true;
                if (status >= 0) {
                        device->configured = urb->setup[2] != 0;
                        trace(device, "configuration %u", urb->setup[2]);
                }
        }
        if (is_request(urb, USB_TYPE_CLASS | USB_RECIP_INTERFACE, MSC_RESET) && status >= 0)
                msc_init(&device->msc);
        /* Rate and DTR are set there: what nobody has fetched when the line falls is lost. */
        if (device->has_cdc && device->state == ATTACHED && !speaks(device)) {
                runtime_tty_hang_up(&device->runtime);
                device->n_serial = 0;
        }
        complete(device, urb, status, actual);
        flush(device);
        changed(device->vhci);
}

static void hear(struct vhci *vhci);
static void await_holders(const struct device *device);

/* The kernel has reset the port.  The device may drop off the bus from inside. */
static void on_reset(struct device *device)
{
        trace(device, "bus reset");
        device->configured = device->asked_to_configure = false;
        if (device->has_cdc) {
                runtime_tty_deinit(&device->runtime);
                runtime_tty_init(&device->runtime, device->vhci->loop, device->camera->model, &device->camera->config,
                                 on_serial_says, speaks, device);
                device->n_serial = 0;
        }
        msc_init(&device->msc);
        sim_camera_bus_reset(device->camera->model);
}

static void submit_control(struct device *device, struct usbip_urb *urb)
{
        struct request *request;

        if (asks_descriptor(urb)) {
                /* Only the kernel asks for 64 bytes, and only after a reset. */
                if (device->configured && urb->size == 64)
                        on_reset(device);
                if (device->fails || device->state != ATTACHED) {
                        if (device->fails && device->fail_tries > 0 && --device->fail_tries == 0)
                                device->fails = false;
                        trace(device, "asked for its descriptor: no answer");
                        complete(device, urb, -EPROTO, 0);
                        return;
                }
        }
        /* What the kernel and its drivers ask by themselves is not a program's. */
        if (!device->opened)
                hear(device->vhci);
        if (!device->opened && is_request(urb, 0, USB_REQ_SET_CONFIGURATION))
                await_holders(device);
        request = request_new(device, urb);
        memcpy(request->control.urb.setup, urb->setup, sizeof(urb->setup));
        request->control.urb.data = urb->data;
        request->control.quiet = !device->opened;
        request->control.done = on_control_done;
        ep0_submit(&device->ep0, &request->control);
}

static void on_submit(void *userdata, struct usbip_urb *urb)
{
        struct device *device = userdata;

        if (device->state != ATTACHED)
                complete(device, urb, -EPROTO, 0);
        else if (urb->endpoint == 0)
                submit_control(device, urb);
        else if (urb->in)
                submit_in(device, urb);
        else
                submit_out(device, urb);
}

static void on_unlink(void *userdata, struct usbip_urb *urb)
{
        struct device *device = userdata;
        struct request *request = urb->owner;

        request->urb = NULL;
        if (urb->endpoint == 0) {
                ep0_cancel(&request->control);
        } else {
                TAILQ_REMOVE(&device->waiting, request, link);
                free(request);
        }
}

static const struct usbip_ops usbip_ops = { .submit = on_submit, .unlink = on_unlink };

static void on_socket(void *userdata, unsigned events)
{
        struct device *device = userdata;
        static uint8_t bytes[65536];
        ssize_t n;
        int r;

        if (events & IO_WRITE)
                flush(device);
        if (!(events & IO_READ))
                return;
        n = recv(device->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                if (device->state == ATTACHED)
                        trace(device, "the kernel let go of it");
                device_end(device);
                return;
        }
        r = usbip_feed(device->usbip, bytes, (size_t)n);
        if (r < 0) {
                trace(device, "what the kernel says is not understood");
                device_end(device);
                return;
        }
        flush(device);
}

/* --- a device's life --- */

/* With wait the claim is gone when this returns (a process has closed its files when its end shows), or the kernel does not let go of it
 * in time: it may be awaiting an answer of ours. */
static void stop_holder(struct device *device, size_t interface, bool wait)
{
        struct pollfd pollfd = { .fd = device->holders[interface], .events = POLLIN };

        if (device->holders[interface] < 0)
                return;
        (void)syscall(SYS_pidfd_send_signal, device->holders[interface], SIGKILL, NULL, 0);
        if (wait)
                while (poll(&pollfd, 1, LET_GO_PATIENCE) < 0 && errno == EINTR)
                        ;
        (void)close(device->holders[interface]);
        device->holders[interface] = -1;
}

/* One that could not claim it has ended. */
static bool has_holder(const struct device *device, size_t interface)
{
        struct pollfd pollfd = { .fd = device->holders[interface], .events = POLLIN };

        return pollfd.fd >= 0 && poll(&pollfd, 1, 0) == 0;
}

static void device_free(struct device *device)
{
        LIST_REMOVE(device, link);
        timer_deinit(&device->timer);
        ep0_deinit(&device->ep0);
        runtime_tty_deinit(&device->runtime);
        device->usbip = usbip_free(device->usbip);
        free(device);
}

static void on_reap(void *userdata)
{
        struct vhci *vhci = userdata;
        struct device *device;

        while ((device = LIST_FIRST(&vhci->dead)))
                device_free(device);
}

/* The device is off the bus: nothing is answered any more. */
static void device_silence(struct device *device)
{
        if (device->number > 0 && device->camera && device->camera->attached == device) {
                struct departed *departed = calloc(1, sizeof(*departed));

                if (!departed)
                        abort();
                (void)snprintf(departed->port, sizeof(departed->port), "%s", device->camera->port);
                departed->number = device->number;
                LIST_INSERT_HEAD(&device->vhci->departed, departed, link);
        }
        if (device->camera && device->camera->attached == device)
                device->camera->attached = NULL;
        ep0_shutdown(&device->ep0);
        runtime_tty_deinit(&device->runtime);
        fail_waiting(device);
        for (size_t i = 0; i < ELEMENTSOF(device->holders); i++)
                stop_holder(device, i, /* wait= */ false);
        if (device->inotify >= 0)
                (void)inotify_rm_watch(device->vhci->inotify, device->inotify);
        device->inotify = -1;
}

/* And the connection goes with it. */
static void device_end(struct device *device)
{
        struct vhci *vhci = device->vhci;

        if (device->state == DEAD)
                return;
        device->state = DEAD;
        device_silence(device);
        flush(device);
        timer_clear(&device->timer);
        if (device->fd >= 0) {
                io_watch_deinit(&device->watch);
                (void)close(device->fd);
        }
        if (device->kernel_fd >= 0)
                (void)close(device->kernel_fd);
        device->fd = device->kernel_fd = -1;
        LIST_REMOVE(device, link);
        LIST_INSERT_HEAD(&vhci->dead, device, link);
        defer_call(&vhci->reap);
        changed(vhci);
}

/* A hub's port is not enabled any more when its device has left, so that the kernel cannot take the next one for it, however late it looks.
 * The port that is played here stays enabled: with another device in it before the kernel has looked, nothing would have happened for
 * the kernel, and neither would ever be heard of again. */
static bool last_one_is_known(const struct device *device)
{
        char path[32 + WORLD_PORT_SIZE];

        (void)snprintf(path, sizeof(path), "/sys/bus/usb/devices/%s", device->camera->port);
        return access(path, F_OK) == 0;
}

static void try_to_attach(struct device *device)
{
        _cleanup_close_ int fd = -1;
        char line[64];
        int length;

        if (last_one_is_known(device) && loop_now(device->vhci->loop) < device->connected_at + DEPARTURE_PATIENCE) {
                timer_set(&device->timer, ATTACH_AGAIN);
                return;
        }
        fd = open(ATTACH, O_WRONLY | O_CLOEXEC);
        length = snprintf(line, sizeof(line), "%u %d %u %u", device->port, device->kernel_fd, device->port + 1, device->speed);
        if (fd >= 0 && write(fd, line, (size_t)length) == length) {
                trace(device, "attached to %s", device->camera->port);
                (void)close(device->kernel_fd);
                device->kernel_fd = -1;
                device->state = ATTACHED;
                return;
        }
        /* Its last device is still being cleaned up. */
        if (errno == EBUSY && loop_now(device->vhci->loop) < device->connected_at + DEPARTURE_PATIENCE) {
                timer_set(&device->timer, ATTACH_AGAIN);
                return;
        }
        trace(device, "cannot be attached to %s: %s", device->camera->port, strerror(errno));
        device_end(device);
}

/* The kernel closes the connection, and is answered until it has. */
static void let_go(struct device *device)
{
        _cleanup_close_ int fd = open(DETACH, O_WRONLY | O_CLOEXEC);
        char line[16];
        int length = snprintf(line, sizeof(line), "%u", device->port);

        if (fd < 0 || write(fd, line, (size_t)length) != length) {
                device_end(device);
                return;
        }
        device->state = LETTING_GO;
        timer_set(&device->timer, LETTING_GO_PATIENCE);
}

static void on_timer(void *userdata)
{
        struct device *device = userdata;

        if (device->state == ATTACHING)
                try_to_attach(device);
        else if (device->state == LINGERING)
                let_go(device);
        else if (device->state == LETTING_GO)
                device_end(device);
}

/* --- what programs see --- */

static struct device *device_at(struct vhci *vhci, const char *port)
{
        struct device *device;

        LIST_FOREACH(device, &vhci->devices, link)
                if (device->state == ATTACHED && device->camera && strcmp(device->camera->port, port) == 0)
                        return device;
        return NULL;
}

static void node_path(const struct device *device, char path[static 40])
{
        (void)snprintf(path, 40, "/dev/bus/usb/%03u/%03u", device->bus, device->number);
}

/* It is announced before it is configured, and has no interface until then.  That the kernel has locked it in between, so that a claim waits
 * there until it is configured (await_holders()), nobody is told; an event of its interface would be too late to be the first. */
static int claim_when_there(int fd, unsigned interface)
{
        int r;

        for (unsigned tries = 0; tries < HOLD_PATIENCE; tries++) {
                r = ioctl(fd, USBDEVFS_CLAIMINTERFACE, &interface);
                if (r >= 0 || (errno != ENOENT && errno != EHOSTUNREACH))
                        return r;
                (void)poll(NULL, 0, 1);
        }
        return r;
}

/* In a process of its own: the device is locked as long as its own answers are awaited, and those are ours to give. */
static void hold_on(pid_t parent, const char *path, unsigned interface, int report)
{
        int fd;

        child_begin(parent, SIGKILL);
        (void)signal(SIGPIPE, SIG_IGN);         /* nobody may wait for its report */
        /* Cameras' connections and programs' nodes among them: whoever has those open keeps them alive. */
        if (report > 0)
                (void)close_range(0, (unsigned)report - 1, 0);
        (void)close_range((unsigned)report + 1, UINT_MAX, 0);
        fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 || claim_when_there(fd, interface) < 0) {
                (void)!write(report, "n", 1);
                _exit(1);
        }
        (void)!write(report, "y", 1);
        for (;;)
                (void)pause();
}

/* -EBUSY: a program has it, or it was not to be had in time.  Without wait nobody hears whether it was. */
static int start_holder(struct device *device, uint8_t interface, bool wait)
{
        struct pollfd pollfd = { .events = POLLIN };
        char path[40], said = 'n';
        int report[2], n, r = 0;
        pid_t pid, parent = getpid();

        if (device->number == 0 || has_holder(device, interface))
                return 0;
        stop_holder(device, interface, /* wait= */ false);
        node_path(device, path);
        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0)
                hold_on(parent, path, interface, report[1]);
        if (pid < 0)
                r = -errno;
        (void)close(report[1]);
        if (pid > 0) {
                device->holder_pids[interface] = pid;
                device->holders[interface] = (int)syscall(SYS_pidfd_open, pid, 0);
                if (device->holders[interface] < 0) {
                        r = -errno;
                        (void)kill(pid, SIGKILL);       /* it was not reaped yet: its number is its own */
                }
        }
        pollfd.fd = report[0];
        if (r >= 0 && wait) {
                do
                        n = poll(&pollfd, 1, HOLD_PATIENCE);
                while (n < 0 && errno == EINTR);
                if (n > 0)
                        (void)!read(report[0], &said, 1);
                r = said == 'y' ? 0 : -EBUSY;
        }
        (void)close(report[0]);
        if (r < 0)
                stop_holder(device, interface, /* wait= */ false);
        return r;
}

/* It sleeps in the kernel, which does not wake it for a signal: it waits for the lock of the device that it opens. */
static bool waits_for_lock(pid_t pid)
{
        _cleanup_close_ int fd = -1;
        char path[32], text[256];
        const char *end;
        ssize_t n = -1;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0)
                n = read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return false;
        text[n] = '\0';
        end = strrchr(text, ')');
        return end && strncmp(end, ") D", 3) == 0;
}

/* A device is announced before it is configured, and locked meanwhile.  Whoever has asked for it by then is the first to have it: the
 * programs that hold its interfaces are at the lock before it is configured, whatever else has the processor. */
static void await_holders(const struct device *device)
{
        for (size_t i = 0; i < ELEMENTSOF(device->holders); i++) {
                struct pollfd pollfd = { .fd = device->holders[i], .events = POLLIN };

                for (unsigned tries = 0; pollfd.fd >= 0 && tries < LOCK_PATIENCE && !waits_for_lock(device->holder_pids[i]); tries++)
                        if (poll(&pollfd, 1, 1) > 0)
                                break;
        }
}

/* A uevent's value; NULL: it has none of this name. */
static const char *property(const char *text, size_t size, const char *name)
{
        size_t length = strlen(name);

        for (size_t n; size > 0 && (n = strnlen(text, size)) < size; text += n + 1, size -= n + 1)
                if (strncmp(text, name, length) == 0 && text[length] == '=')
                        return text + length + 1;
        return NULL;
}

static unsigned number_of(const char *text)
{
        return text ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static struct departed *find_departed(struct vhci *vhci, const char *port, unsigned number)
{
        struct departed *departed;

        LIST_FOREACH(departed, &vhci->departed, link)
                if (strcmp(departed->port, port) == 0 && (number == 0 || departed->number == number))
                        return departed;
        return NULL;
}

static void on_device_event(struct vhci *vhci, bool from_udev, const char *action, const char *port, unsigned bus, unsigned number)
{
        bool udev_runs = access("/run/udev/control", F_OK) == 0;
        struct device *device = device_at(vhci, port);
        struct departed *departed = find_departed(vhci, port, number);
        char path[40];

        if (departed && strcmp(action, "remove") == 0 && from_udev == udev_runs) {
                LIST_REMOVE(departed, link);
                free(departed);
                changed(vhci);
        }
        if (!device)
                return;
        if (strcmp(action, "add") == 0 && !from_udev) {
                device->bus = bus;
                device->number = number;
                device->opened = false;
                node_path(device, path);
                device->inotify = inotify_add_watch(vhci->inotify, path, IN_OPEN | IN_CLOSE);
                trace(device, "the kernel: add %s, device %u", port, number);
                for (size_t i = 0; i < ELEMENTSOF(device->holders); i++)
                        if (device->camera->hold[i])
                                (void)start_holder(device, (uint8_t)i, /* wait= */ false);
        }
        if (device->number != number)
                return;
        if (strcmp(action, "add") == 0 && from_udev == udev_runs) {
                device->shown = true;
                device->shown_at = loop_now(vhci->loop);
                trace(device, "uevent: add %s, device %u", port, number);
                changed(vhci);
        } else if (strcmp(action, "remove") == 0 && !from_udev) {
                /* The kernel gave it up, while its line is up: a reset that failed. */
                device->shown = false;
                device->number = 0;
                device->tty[0] = 0;
                trace(device, "the kernel: remove %s, device %u", port, number);
                changed(vhci);
        }
}

static void on_tty_event(struct vhci *vhci, const char *action, const char *devpath, const char *name)
{
        /* ".../usb1/1-4/1-4:1.1/tty/ttyACM0" */
        const char *colon = strchr(devpath, ':'), *begin = colon;
        char port[WORLD_PORT_SIZE];
        struct device *device;

        if (!colon || !name)
                return;
        while (begin > devpath && begin[-1] != '/')
                begin--;
        (void)snprintf(port, sizeof(port), "%.*s", (int)(colon - begin), begin);
        device = device_at(vhci, port);
        name = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
        if (!device)
                return;
        if (strcmp(action, "add") == 0)
                (void)snprintf(device->tty, sizeof(device->tty), "%s", name);
        else if (strcmp(action, "remove") == 0 && strcmp(device->tty, name) == 0)
                device->tty[0] = 0;             /* cdc_acm is bound anew after a reset */
        else
                return;
        trace(device, "uevent: %s %s", action, name);
        changed(vhci);
}

static void on_uevent(struct vhci *vhci, const char *text, size_t size)
{
        bool from_udev = size > 40 && memcmp(text, "libudev", 8) == 0;
        const char *action, *devpath, *subsystem, *type;

        if (from_udev) {
                uint32_t offset, length;

                /* Of libudev's header: magic, its size, where the properties are. */
                memcpy(&offset, text + 16, sizeof(offset));
                memcpy(&length, text + 20, sizeof(length));
                if (offset > size || length > size - offset)
                        return;
                text += offset;
                size = length;
        }
        action = property(text, size, "ACTION");
        devpath = property(text, size, "DEVPATH");
        subsystem = property(text, size, "SUBSYSTEM");
        type = property(text, size, "DEVTYPE");
        if (!action || !devpath || !subsystem)
                return;
        if (strcmp(subsystem, "usb") == 0 && type && strcmp(type, "usb_device") == 0 && strrchr(devpath, '/'))
                on_device_event(vhci, from_udev, action, strrchr(devpath, '/') + 1, number_of(property(text, size, "BUSNUM")),
                                number_of(property(text, size, "DEVNUM")));
        else if (strcmp(subsystem, "tty") == 0 && from_udev == (access("/run/udev/control", F_OK) == 0))
                on_tty_event(vhci, action, devpath, property(text, size, "DEVNAME"));
}

static void hear_uevents(struct vhci *vhci)
{
        char text[8192 + 1];
        ssize_t n;

        while ((n = recv(vhci->netlink, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
                text[n] = 0;
                on_uevent(vhci, text, (size_t)n);
        }
}

static void on_opening(void *userdata, int watch, uint32_t mask)
{
        struct vhci *vhci = userdata;
        struct device *device;

        LIST_FOREACH(device, &vhci->devices, link)
                if (device->inotify == watch && mask & IN_OPEN && !device->opened) {
                        device->opened = true;
                        trace(device, "opened by a program");
                }
        changed(vhci);
}

static void hear(struct vhci *vhci)
{
        hear_uevents(vhci);
        hear_openings(vhci->inotify, on_opening, vhci);
}

static void on_netlink(void *userdata, unsigned events)
{
        hear_uevents(userdata);
}

static void on_inotify(void *userdata, unsigned events)
{
        struct vhci *vhci = userdata;

        hear_openings(vhci->inotify, on_opening, vhci);
}

/* --- what the world asks --- */

static struct vhci *vhci_of(struct kernel *kernel)
{
        return container_of(kernel, struct vhci, kernel);
}

static bool is_port_path(const char *path)
{
        const char *p = path + strspn(path, "0123456789");

        if (p == path || p - path > 3 || *p != '-')
                return false;
        do {
                size_t digits = strspn(++p, "0123456789");

                if (digits < 1 || digits > 2)
                        return false;
                p += digits;
        } while (*p == '.');
        return *p == 0 && strlen(path) < WORLD_PORT_SIZE;
}

static bool is_stood_for(struct vhci *vhci, const char *port)
{
        struct stand_in *stand_in;

        LIST_FOREACH(stand_in, &vhci->stand_ins, link)
                if (strcmp(stand_in->port, port) == 0)
                        return true;
        return false;
}

/* A camera has its place there, be it plugged in or not. */
static bool is_a_place(struct vhci *vhci, const char *port)
{
        for (struct world_camera *camera = NULL; (camera = world_camera_next(vhci->kernel.world, camera));)
                if (strcmp(camera->port, port) == 0)
                        return true;
        return false;
}

static int controller_of(const struct vhci *vhci, unsigned bus)
{
        for (size_t i = 0; i < vhci->n_buses; i++)
                if (vhci->buses[i] == bus)
                        return (int)i;
        return -1;
}

static int vhci_find_port(struct kernel *kernel, const char *path, char port[static WORLD_PORT_SIZE])
{
        struct vhci *vhci = vhci_of(kernel);
        struct stand_in *stand_in;
        unsigned bus, number;
        int controller;

        if (!is_port_path(path))
                return -EINVAL;
        LIST_FOREACH(stand_in, &vhci->stand_ins, link)
                if (strcmp(stand_in->path, path) == 0) {
                        memcpy(port, stand_in->port, WORLD_PORT_SIZE);
                        return 0;
                }
        (void)sscanf(path, "%u-%u", &bus, &number);
        controller = controller_of(vhci, bus);
        if (controller >= 0 && number >= 1 && number <= PORTS && !strchr(path, '.') && !is_stood_for(vhci, path)) {
                (void)snprintf(port, WORLD_PORT_SIZE, "%s", path);
                return 0;
        }

        if (controller < 0)
                controller = (int)((bus + vhci->n_buses - 1) % vhci->n_buses);
        for (size_t i = 0; i < vhci->n_buses; i++)
                for (number = PORTS; number >= 1; number--) {
                        (void)snprintf(port, WORLD_PORT_SIZE, "%u-%u", vhci->buses[((size_t)controller + i) % vhci->n_buses], number);
                        if (is_stood_for(vhci, port) || is_a_place(vhci, port))
                                continue;
                        stand_in = calloc(1, sizeof(*stand_in));
                        if (!stand_in)
                                return -ENOMEM;
                        (void)snprintf(stand_in->path, sizeof(stand_in->path), "%s", path);
                        memcpy(stand_in->port, port, WORLD_PORT_SIZE);
                        LIST_INSERT_HEAD(&vhci->stand_ins, stand_in, link);
                        return 0;
                }
        return -ENOSPC;
}

static int vhci_prepare_port(struct kernel *kernel, const char *port)
{
        return 0;
}

static unsigned vhci_hub_off(struct kernel *kernel, const char *path)
{
        return 0;
}

static void vhci_connected(struct kernel *kernel, struct world_camera *camera)
{
        struct vhci *vhci = vhci_of(kernel);
        struct device *device = calloc(1, sizeof(*device));
        struct sim_descriptors descriptors;
        unsigned bus, number;
        int pair[2];

        if (!device || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
            usbip_new(&usbip_ops, device, &device->usbip) < 0)
                abort();
        (void)sscanf(camera->port, "%u-%u", &bus, &number);
        sim_camera_descriptors(camera->model, &descriptors);
        device->vhci = vhci;
        device->camera = camera;
        device->state = ATTACHING;
        device->port = (unsigned)controller_of(vhci, bus) * 2 * PORTS + number - 1;
        device->speed = descriptors.speed == 480 ? SPEED_HIGH : SPEED_FULL;
        device->fd = pair[0];
        device->kernel_fd = pair[1];
        device->connected_at = loop_now(vhci->loop);
        device->inotify = -1;
        for (size_t i = 0; i < ELEMENTSOF(device->holders); i++)
                device->holders[i] = -1;
        device->has_cdc = descriptors.has_cdc;
        TAILQ_INIT(&device->waiting);
        find_endpoints(device, &descriptors);
        msc_init(&device->msc);
        timer_init(&device->timer, vhci->loop, on_timer, device);
        ep0_init(&device->ep0, vhci->loop, camera->model);
        if (device->has_cdc)
                runtime_tty_init(&device->runtime, vhci->loop, camera->model, &camera->config, on_serial_says, speaks, device);
        io_watch_init(&device->watch, vhci->loop, device->fd, on_socket, device);
        (void)io_watch_set(&device->watch, IO_READ);
        LIST_INSERT_HEAD(&vhci->devices, device, link);
        camera->attached = device;

        if (camera->fail_enumeration != 0) {
                device->fails = true;
                device->fail_tries = camera->fail_tries;
                if (camera->fail_enumeration > 0)
                        camera->fail_enumeration--;
        }
        trace(device, "connected at %s: %s", camera->port, sim_mode_name(sim_camera_mode(camera->model)));
        /* What was said of this port so far was said of another device. */
        hear(vhci);
        try_to_attach(device);
        changed(vhci);
}

static void vhci_disconnected(struct kernel *kernel, struct world_camera *camera)
{
        struct device *device = camera->attached;

        if (!device)
                return;
        trace(device, "disconnected");
        if (device->state == ATTACHING) {
                device_end(device);
                return;
        }
        device->state = LINGERING;
        device_silence(device);
        flush(device);
        timer_set(&device->timer, LINGER);
        changed(vhci_of(kernel));
}

static void vhci_unplugged(struct kernel *kernel, struct world_camera *camera)
{
}

static void vhci_complete(struct kernel *kernel, struct world_camera *camera, struct sim_urb *urb, int status, size_t actual)
{
        ep0_on_complete(urb, status, actual);
}

static void vhci_forget(struct kernel *kernel, struct world_camera *camera)
{
        struct vhci *vhci = vhci_of(kernel);
        struct device *device, *next;

        for (device = LIST_FIRST(&vhci->devices); device; device = next) {
                next = LIST_NEXT(device, link);
                if (device->camera != camera)
                        continue;
                device_end(device);
                device->camera = NULL;
        }
}

/* The serial port is told of by an event of its own. */
static bool is_complete(const struct device *device)
{
        if (!device->shown || !device->asked_to_configure)
                return false;
        return !device->has_cdc || !device->configured || device->tty[0] || access("/sys/bus/usb/drivers/cdc_acm", F_OK) < 0;
}

static void vhci_look(struct kernel *kernel, const struct world_camera *camera, struct kernel_view *ret)
{
        const struct device *device = camera->attached;

        ret->departing = find_departed(vhci_of(kernel), camera->port, 0) != NULL;
        if (!device) {
                ret->announced = ret->departing;
                return;
        }
        if (device->state != ATTACHED)
                return;
        ret->announced = is_complete(device);
        ret->announced_at = ret->announced ? device->shown_at : 0;
        ret->configured = device->configured;
        ret->bus = device->bus;
        ret->device = device->number;
        ret->tty = device->tty[0] ? device->tty : NULL;
        ret->tty_open = device->tty[0] && has_dtr(device);
}

static unsigned vhci_open_files(struct kernel *kernel, const struct world_camera *camera)
{
        const struct device *device = camera->attached;
        char path[40];

        if (!device || device->number == 0)
                return 0;
        node_path(device, path);
        return open_files(path);
}

static int vhci_hold(struct kernel *kernel, struct world_camera *camera, uint8_t interface, bool hold)
{
        struct device *device = camera->attached;

        if (!device)
                return 0;
        if (hold)
                return start_holder(device, interface, /* wait= */ is_complete(device));
        stop_holder(device, interface, /* wait= */ true);
        return 0;
}

static int vhci_start(struct kernel *kernel)
{
        return 0;
}

static struct kernel *vhci_free(struct kernel *kernel)
{
        struct vhci *vhci = vhci_of(kernel);
        struct stand_in *stand_in;
        struct departed *departed;
        struct device *device;

        while ((device = LIST_FIRST(&vhci->devices)))
                device_end(device);
        on_reap(vhci);
        while ((departed = LIST_FIRST(&vhci->departed))) {
                LIST_REMOVE(departed, link);
                free(departed);
        }
        while ((stand_in = LIST_FIRST(&vhci->stand_ins))) {
                LIST_REMOVE(stand_in, link);
                free(stand_in);
        }
        defer_deinit(&vhci->reap);
        io_watch_deinit(&vhci->netlink_watch);
        io_watch_deinit(&vhci->inotify_watch);
        if (vhci->netlink >= 0)
                (void)close(vhci->netlink);
        if (vhci->inotify >= 0)
                (void)close(vhci->inotify);
        free(vhci);
        return NULL;
}

static const struct kernel_ops vhci_ops = {
        .real = true,
        .start = vhci_start,
        .free = vhci_free,
        .find_port = vhci_find_port,
        .prepare_port = vhci_prepare_port,
        .hub_off = vhci_hub_off,
        .connected = vhci_connected,
        .disconnected = vhci_disconnected,
        .unplugged = vhci_unplugged,
        .complete = vhci_complete,
        .forget = vhci_forget,
        .look = vhci_look,
        .open_files = vhci_open_files,
        .hold = vhci_hold,
};

/* --- the whole --- */

static void load_modules(void)
{
        pid_t pid = fork();

        if (pid == 0) {
                (void)execlp("modprobe", "modprobe", "-q", "-a", "vhci-hcd", "cdc-acm", "usb-storage", (char *)NULL);
                _exit(127);
        }
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
}

/* The high-speed root hub of each controller. */
static int find_buses(struct vhci *vhci)
{
        for (; vhci->n_buses < CONTROLLERS_MAX; vhci->n_buses++) {
                unsigned lowest = 0;
                struct dirent *entry;
                char path[64];
                DIR *controller;

                (void)snprintf(path, sizeof(path), PLATFORM "/vhci_hcd.%zu", vhci->n_buses);
                controller = opendir(path);
                if (!controller)
                        break;
                /* The other one, of SuperSpeed, is registered after it. */
                while ((entry = readdir(controller))) {
                        unsigned bus = strncmp(entry->d_name, "usb", 3) == 0 ? number_of(entry->d_name + 3) : 0;

                        if (bus > 0 && (lowest == 0 || bus < lowest))
                                lowest = bus;
                }
                (void)closedir(controller);
                if (lowest == 0)
                        return -ENODEV;
                vhci->buses[vhci->n_buses] = lowest;
        }
        return vhci->n_buses > 0 ? 0 : -ENODEV;
}

int kernel_vhci_new(struct loop *loop, struct kernel **ret)
{
        /* Groups: 1, what the kernel says; 2, what udevd makes of it. */
        const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 | 2 };
        const int room = 8 << 20;
        struct vhci *vhci;
        int r;

        if (geteuid() != 0)
                return -EPERM;
        load_modules();
        vhci = calloc(1, sizeof(*vhci));
        if (!vhci)
                return -ENOMEM;
        vhci->kernel.ops = &vhci_ops;
        vhci->loop = loop;
        LIST_INIT(&vhci->devices);
        LIST_INIT(&vhci->dead);
        LIST_INIT(&vhci->stand_ins);
        LIST_INIT(&vhci->departed);
        defer_init(&vhci->reap, loop, on_reap, vhci);
        vhci->netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        vhci->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        r = vhci->netlink < 0 || vhci->inotify < 0 || bind(vhci->netlink, (const struct sockaddr *)&address, sizeof(address)) < 0 ?
            -errno : find_buses(vhci);
        if (r >= 0) {
                (void)setsockopt(vhci->netlink, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
                io_watch_init(&vhci->netlink_watch, loop, vhci->netlink, on_netlink, vhci);
                io_watch_init(&vhci->inotify_watch, loop, vhci->inotify, on_inotify, vhci);
                r = io_watch_set(&vhci->netlink_watch, IO_READ);
                if (r >= 0)
                        r = io_watch_set(&vhci->inotify_watch, IO_READ);
        }
        if (r < 0) {
                (void)vhci_free(&vhci->kernel);
                return r;
        }
        *ret = &vhci->kernel;
        return 0;
}

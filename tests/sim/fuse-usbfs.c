/* SPDX-License-Identifier: MIT */

/*
 * See fuse-usbfs.h.  FUSE lets through only "restricted" ioctls, of which it
 * copies what the direction bits in the number say; usbfs' numbers say it wrongly
 * (SUBMITURB reads and claims to write).  So arguments are read and written in the caller's
 * memory, whose address and pid come with the request.
 *
 * Invariants: a request is answered once; a node lives until it was removed and
 * its last file is released; a URB is in exactly one of its file's two lists.
 *
 * Differences from a kernel that a program can see: nodes are regular files;
 * close(2) does not wait for what release sends to the device (whoever comes
 * next does); bulk and interrupt URBs are accepted and never answered.
 */

#include "sim/fuse-usbfs.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/usb/ch9.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define REQUEST_SIZE (256 * 1024)
#define SET_REQUEST_TIMEOUT (5 * SEC)   /* the kernel's, for SET_INTERFACE and SET_CONFIGURATION */
#define CONTROL_DATA_MAX 4096           /* a page: usbfs' limit of the synchronous ioctl */
#define URB_DATA_MAX (16 * 1024 * 1024)

#define ID_BUS   (UINT64_C(1) << 32)    /* | bus number */
#define ID_NODES (UINT64_C(1) << 33)    /* + a number that never comes again */

/* A request that waits for the device lock, as it was read. */
struct stalled {
        TAILQ_ENTRY(stalled) link;
        size_t size;
        uint8_t bytes[];
};

struct usbfs_urb {
        struct control control;
        struct usbfs_file *file;
        uint64_t address;               /* of the struct in the program: its name */
        uint64_t buffer;                /* where IN data go */
        int type;
        bool in;
        bool submitted;                 /* in pending */
        int status;
        size_t actual;
        TAILQ_ENTRY(usbfs_urb) link;
};
TAILQ_HEAD(urb_list, usbfs_urb);

struct usbfs_file {
        struct usbfs_node *node;
        bool writable;
        bool closing;
        bool has_poll;
        uint64_t poll_handle;
        uint64_t reaper;                /* unique of a REAPURB that waits, 0: none */
        uint64_t reaper_argument;
        pid_t reaper_pid;
        struct urb_list pending, done;
        LIST_ENTRY(usbfs_file) link;    /* in node->files */
};

struct usbfs_node {
        struct fuse_usbfs *usbfs;
        uint64_t id;
        struct usbfs_info info;
        struct ep0 *ep0;                /* NULL once gone */
        const struct usbfs_ops *ops;
        void *userdata;
        bool gone;
        bool configured;
        bool locked;                    /* the device lock is held over something that takes time */
        bool starting;                  /* by the kernel, which configures it */
        uint64_t reset_unique;
        bool bound[USBFS_INTERFACES_MAX];       /* before the reset: what has no driver after it is looked for one */
        struct wait *alternate;         /* ended, but for what the owner still asks the device */
        struct usbfs_file *claimed_by[USBFS_INTERFACES_MAX];
        const char *driver[USBFS_INTERFACES_MAX];
        uint8_t alternates[USBFS_INTERFACES_MAX];
        LIST_HEAD(, usbfs_file) files;
        TAILQ_HEAD(, stalled) stalled;
        struct defer replay;
        LIST_ENTRY(usbfs_node) link;    /* in usbfs->nodes */
};

enum wait_kind { WAIT_CONTROL, WAIT_SET_INTERFACE, WAIT_RELEASE_INTERFACE, WAIT_SET_CONFIGURATION, WAIT_CLOSE };

/* Something the kernel does for a program and that takes time. */
struct wait {
        struct control control;
        enum wait_kind kind;
        struct usbfs_node *node;
        struct usbfs_file *file;
        uint64_t unique;                /* 0: nobody waits for an answer (WAIT_CLOSE) */
        pid_t pid;
        uint64_t buffer;                /* WAIT_CONTROL, IN */
        uint8_t interface, alternate, configuration;
        bool interrupted;
        LIST_ENTRY(wait) link;          /* in usbfs->waits */
        uint8_t data[];
};

struct fuse_usbfs {
        struct loop *loop;
        int fd;
        struct io_watch watch;
        uint64_t next_id;
        LIST_HEAD(, usbfs_node) nodes;
        LIST_HEAD(, wait) waits;
        uint8_t *buffer;
};

DEFINE_FREEP(fuse_usbfs)

/* --- talking to FUSE and to the program --- */

static void reply(struct fuse_usbfs *usbfs, uint64_t unique, int error, const void *data, size_t size)
{
        struct fuse_out_header header = { .len = (uint32_t)(sizeof(header) + (error < 0 ? 0 : size)), .error = error,
                                          .unique = unique };
        struct iovec parts[2] = { { &header, sizeof(header) }, { (void *)data, size } };

        /* ENOENT: the one who asked is gone. */
        (void)!writev(usbfs->fd, parts, error < 0 || size == 0 ? 1 : 2);
}

static void reply_ioctl(struct fuse_usbfs *usbfs, uint64_t unique, int result)
{
        struct fuse_ioctl_out out = { .result = result };

        if (result < 0)
                reply(usbfs, unique, result, NULL, 0);
        else
                reply(usbfs, unique, 0, &out, sizeof(out));
}

static void notify_poll(struct usbfs_file *file)
{
        struct {
                struct fuse_out_header header;
                struct fuse_notify_poll_wakeup_out wakeup;
        } message = {
                .header = { .len = sizeof(message), .error = FUSE_NOTIFY_POLL },
                .wakeup = { .kh = file->poll_handle },
        };

        if (file->has_poll)
                (void)!write(file->node->usbfs->fd, &message, sizeof(message));
}

static int peek(pid_t pid, uint64_t address, void *data, size_t size)
{
        struct iovec local = { data, size }, remote = { (void *)(uintptr_t)address, size };

        if (size == 0)
                return 0;
        return process_vm_readv(pid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

static int poke(pid_t pid, uint64_t address, const void *data, size_t size)
{
        struct iovec local = { (void *)data, size }, remote = { (void *)(uintptr_t)address, size };

        if (size == 0)
                return 0;
        return process_vm_writev(pid, &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -EFAULT;
}

static _printf_(2, 3) void trace(struct usbfs_node *node, const char *format, ...)
{
        char line[256];
        va_list args;

        if (!node->ops->trace || node->gone)
                return;
        va_start(args, format);
        (void)vsnprintf(line, sizeof(line), format, args);
        va_end(args);
        node->ops->trace(node->userdata, line);
}

/* --- descriptors --- */

/* The next descriptor of one type, in the configuration.  NULL: none. */
static const uint8_t *next_descriptor(const struct usbfs_node *node, const uint8_t *after)
{
        const uint8_t *end = node->info.descriptors + node->info.descriptors_size;
        const uint8_t *p = after ? after + after[0] : node->info.descriptors;

        if (end - p < 2 || p[0] < 2 || p[0] > end - p)
                return NULL;
        return p;
}

static bool has_alternate(const struct usbfs_node *node, unsigned interface, unsigned alternate)
{
        for (const uint8_t *p = NULL; (p = next_descriptor(node, p));)
                if (p[1] == USB_DT_INTERFACE && p[0] >= USB_DT_INTERFACE_SIZE && p[2] == interface && p[3] == alternate)
                        return true;
        return false;
}

static bool has_interface(const struct usbfs_node *node, unsigned interface)
{
        if (interface >= USBFS_INTERFACES_MAX || !node->configured)
                return false;
        for (const uint8_t *p = NULL; (p = next_descriptor(node, p));)
                if (p[1] == USB_DT_INTERFACE && p[0] >= USB_DT_INTERFACE_SIZE && p[2] == interface)
                        return true;
        return false;
}

static int interface_of_endpoint(const struct usbfs_node *node, unsigned endpoint)
{
        int interface = -ENOENT;

        if (endpoint & ~(USB_DIR_IN | 0xfU))
                return -EINVAL;
        for (const uint8_t *p = NULL; (p = next_descriptor(node, p));) {
                if (p[1] == USB_DT_INTERFACE && p[0] >= USB_DT_INTERFACE_SIZE)
                        interface = p[2];
                if (p[1] == USB_DT_ENDPOINT && p[0] >= 3 && p[2] == endpoint)
                        return interface;
        }
        return -ENOENT;
}

/* --- lives --- */

static void node_unref(struct usbfs_node *node)
{
        if (!node->gone || !LIST_EMPTY(&node->files) || !TAILQ_EMPTY(&node->stalled))
                return;
        defer_deinit(&node->replay);
        LIST_REMOVE(node, link);
        free(node);
}

static struct usbfs_node *node_by_id(struct fuse_usbfs *usbfs, uint64_t id)
{
        struct usbfs_node *node;

        LIST_FOREACH(node, &usbfs->nodes, link)
                if (node->id == id)
                        return node;
        return NULL;
}

static void lock(struct usbfs_node *node)
{
        node->locked = true;
}

static void unlock(struct usbfs_node *node)
{
        node->locked = false;
        if (!TAILQ_EMPTY(&node->stalled))
                defer_call(&node->replay);
}

static void urb_free(struct usbfs_urb *urb)
{
        free(urb->control.urb.data);
        free(urb);
}

/* --- URBs --- */

static int reap(struct usbfs_file *file, pid_t pid, uint64_t argument)
{
        struct usbfs_urb *urb = TAILQ_FIRST(&file->done);
        int32_t status, actual;
        int r = 0;

        if (!urb)
                return file->node->gone ? -ENODEV : -EAGAIN;
        TAILQ_REMOVE(&file->done, urb, link);

        status = urb->status;
        actual = (int32_t)urb->actual;
        if (urb->in)
                r = poke(pid, urb->buffer, urb->control.urb.data, urb->actual);
        if (r >= 0)
                r = poke(pid, urb->address + offsetof(struct usbdevfs_urb, status), &status, sizeof(status));
        if (r >= 0)
                r = poke(pid, urb->address + offsetof(struct usbdevfs_urb, actual_length), &actual, sizeof(actual));
        if (r >= 0)
                r = poke(pid, argument, &urb->address, sizeof(urb->address));
        urb_free(urb);
        return r;
}

/* Answers a REAPURB that waits, if there is something for it now. */
static void serve_reaper(struct usbfs_file *file)
{
        uint64_t unique = file->reaper;

        if (unique == 0 || (TAILQ_EMPTY(&file->done) && !file->node->gone))
                return;
        file->reaper = 0;
        reply_ioctl(file->node->usbfs, unique, reap(file, file->reaper_pid, file->reaper_argument));
}

static void urb_done(struct usbfs_urb *urb, int status, size_t actual)
{
        struct usbfs_file *file = urb->file;

        urb->status = status;
        urb->actual = actual;
        urb->submitted = false;
        TAILQ_REMOVE(&file->pending, urb, link);
        TAILQ_INSERT_TAIL(&file->done, urb, link);
        if (file->closing)
                return;
        notify_poll(file);
        serve_reaper(file);
}

static void on_urb_done(struct control *control, int status, size_t actual)
{
        urb_done(container_of(control, struct usbfs_urb, control), status, actual);
}

static void urb_cancel(struct usbfs_urb *urb, int status)
{
        if (control_is_pending(&urb->control))
                ep0_cancel(&urb->control);
        else
                urb_done(urb, status, 0);       /* a bulk or interrupt URB */
}

/* --- claims --- */

static void set_driver(struct usbfs_node *node, unsigned interface, struct usbfs_file *file, const char *driver)
{
        node->claimed_by[interface] = file;
        node->driver[interface] = driver;
        if (!node->gone && node->ops->driver_changed)
                node->ops->driver_changed(node->userdata, (uint8_t)interface, file ? "usbfs" : driver);
}

static int claim(struct usbfs_file *file, unsigned interface)
{
        struct usbfs_node *node = file->node;

        if (interface >= USBFS_INTERFACES_MAX)
                return -EINVAL;
        if (node->claimed_by[interface] == file)
                return 0;
        if (!has_interface(node, interface))
                return -ENOENT;
        if (node->claimed_by[interface] || node->driver[interface]) {
                trace(node, "claim of interface %u refused: %s has it", interface,
                      node->driver[interface] ?: "another program");
                return -EBUSY;
        }
        set_driver(node, interface, file, NULL);
        trace(node, "claim of interface %u", interface);
        return 0;
}

static int check_interface(struct usbfs_file *file, unsigned interface)
{
        if (!file->node->configured)
                return -EHOSTUNREACH;
        /* Who uses an interface that nobody claimed claims it. */
        return claim(file, interface);
}

static int check_recipient(struct usbfs_file *file, uint8_t type, uint16_t index)
{
        int interface;

        if ((type & USB_TYPE_MASK) == USB_TYPE_VENDOR)
                return 0;
        switch (type & USB_RECIP_MASK) {
        case USB_RECIP_ENDPOINT:
                if ((index & 0xff & ~USB_DIR_IN) == 0)
                        return 0;
                interface = interface_of_endpoint(file->node, index & 0xff);
                /* The kernel forgives a wrong direction bit. */
                if (interface < 0)
                        interface = interface_of_endpoint(file->node, (index & 0xff) ^ USB_DIR_IN);
                return interface < 0 ? interface : check_interface(file, (unsigned)interface);
        case USB_RECIP_INTERFACE:
                return check_interface(file, index & 0xff);
        default:
                return 0;
        }
}

/* --- what takes time --- */

static int wait_new(struct usbfs_file *file, enum wait_kind kind, uint64_t unique, pid_t pid, size_t size,
                    control_fn done, struct wait **ret)
{
        struct wait *wait = calloc(1, sizeof(*wait) + size);

        if (!wait)
                return -ENOMEM;
        wait->kind = kind;
        wait->node = file->node;
        wait->file = file;
        wait->unique = unique;
        wait->pid = pid;
        wait->control.urb.data = wait->data;
        wait->control.done = done;
        wait->control.timeout = SET_REQUEST_TIMEOUT;
        LIST_INSERT_HEAD(&file->node->usbfs->waits, wait, link);
        *ret = wait;
        return 0;
}

static void file_close(struct usbfs_file *file);

/* A reset or a configuration has put them back to 0, of which everything is known. */
static void forget_alternates(struct usbfs_node *node)
{
        for (unsigned i = 0; i < USBFS_INTERFACES_MAX; i++) {
                if (node->alternates[i] == 0)
                        continue;
                node->alternates[i] = 0;
                if (node->ops->alternate_changed && !node->gone)
                        (void)node->ops->alternate_changed(node->userdata, (uint8_t)i, 0);
        }
}

static void alternate_done(struct wait *wait, int result)
{
        struct usbfs_node *node = wait->node;

        if (wait->kind != WAIT_SET_INTERFACE) {
                /* Given up even if the device did not answer. */
                set_driver(node, wait->interface, NULL, NULL);
                result = 0;
        }
        unlock(node);
        if (wait->unique != 0)
                reply_ioctl(node->usbfs, wait->unique, result);
        if (wait->kind == WAIT_CLOSE)
                file_close(wait->file);
        free(wait);
}

void usbfs_node_alternate_done(struct usbfs_node *node)
{
        struct wait *wait = node->alternate;

        node->alternate = NULL;
        if (wait)
                alternate_done(wait, 0);
}

static void on_wait_done(struct control *control, int status, size_t actual)
{
        struct wait *wait = container_of(control, struct wait, control);
        struct usbfs_node *node = wait->node;
        int result = status;

        LIST_REMOVE(wait, link);
        switch (wait->kind) {
        case WAIT_CONTROL:
                if (wait->interrupted)
                        result = -EINTR;
                else if (status >= 0 && (control->urb.setup[0] & USB_DIR_IN) && actual > 0)
                        result = poke(wait->pid, wait->buffer, wait->data, actual);
                if (result >= 0)
                        result = (int)actual;
                break;
        case WAIT_SET_INTERFACE:
        case WAIT_RELEASE_INTERFACE:
        case WAIT_CLOSE:
                if (status >= 0) {
                        node->alternates[wait->interface] = wait->alternate;
                        if (node->ops->alternate_changed && !node->gone &&
                            node->ops->alternate_changed(node->userdata, wait->interface, wait->alternate)) {
                                node->alternate = wait;
                                return;
                        }
                }
                alternate_done(wait, result);
                return;
        case WAIT_SET_CONFIGURATION:
                if (status >= 0) {
                        node->configured = wait->configuration != 0;
                        forget_alternates(node);
                        if (node->ops->configuration_changed && !node->gone)
                                node->ops->configuration_changed(node->userdata, wait->configuration);
                }
                unlock(node);
                break;
        }
        if (wait->unique != 0)
                reply_ioctl(node->usbfs, wait->unique, result);
        free(wait);
}

static int set_interface(struct usbfs_file *file, enum wait_kind kind, uint64_t unique, uint8_t interface, uint8_t alternate)
{
        struct wait *wait;
        int r;

        r = wait_new(file, kind, unique, 0, 0, on_wait_done, &wait);
        if (r < 0)
                return r;
        wait->interface = interface;
        wait->alternate = alternate;
        control_setup(&wait->control, USB_RECIP_INTERFACE, USB_REQ_SET_INTERFACE, alternate, interface, 0);
        lock(file->node);
        ep0_submit(file->node->ep0, &wait->control);
        return 0;
}

/*
 * The last close.  For every claimed interface whose alternate setting is not 0 any
 * more the kernel sends SET_INTERFACE(0) and waits, one after the other; only then are
 * URBs that are still pending killed.
 */
static void file_close(struct usbfs_file *file)
{
        struct usbfs_node *node = file->node;
        struct usbfs_urb *urb;

        file->closing = true;
        for (unsigned i = 0; i < USBFS_INTERFACES_MAX; i++) {
                if (node->claimed_by[i] != file)
                        continue;
                if (!node->gone && node->alternates[i] != 0) {
                        trace(node, "closed: the kernel sends SET_INTERFACE(0)");
                        if (set_interface(file, WAIT_CLOSE, 0, (uint8_t)i, 0) >= 0)
                                return;
                }
                set_driver(node, i, NULL, NULL);
        }
        while ((urb = TAILQ_FIRST(&file->pending)))
                urb_cancel(urb, -ENOENT);
        while ((urb = TAILQ_FIRST(&file->done))) {
                TAILQ_REMOVE(&file->done, urb, link);
                urb_free(urb);
        }
        trace(node, "closed");
        LIST_REMOVE(file, link);
        free(file);
        node_unref(node);
}

/* --- ioctls ---
 * Each returns the result to answer with, or DEFERRED when the answer comes later. */

#define DEFERRED 1000000

struct call {
        struct usbfs_file *file;
        struct usbfs_node *node;
        uint64_t unique;
        pid_t pid;
        uint64_t argument;
};

static int ioctl_submit(const struct call *call)
{
        struct usbfs_file *file = call->file;
        struct usbfs_node *node = call->node;
        struct usbdevfs_urb user;
        struct usbfs_urb *urb;
        size_t size;
        int r, interface;

        r = peek(call->pid, call->argument, &user, sizeof(user));
        if (r < 0)
                return r;
        if (user.buffer_length < 0 || user.buffer_length >= URB_DATA_MAX || (user.buffer_length > 0 && !user.buffer))
                return -EINVAL;
        if (user.type != USBDEVFS_URB_TYPE_CONTROL && user.type != USBDEVFS_URB_TYPE_BULK &&
            user.type != USBDEVFS_URB_TYPE_INTERRUPT)
                return -EINVAL;

        urb = calloc(1, sizeof(*urb));
        if (!urb)
                return -ENOMEM;
        urb->file = file;
        urb->address = call->argument;
        urb->type = user.type;
        urb->control.done = on_urb_done;

        if (user.type != USBDEVFS_URB_TYPE_CONTROL) {
                interface = interface_of_endpoint(node, user.endpoint);
                r = interface < 0 ? interface : check_interface(file, (unsigned)interface);
                if (r < 0) {
                        urb_free(urb);
                        return r;
                }
                urb->submitted = true;
                TAILQ_INSERT_TAIL(&file->pending, urb, link);
                return 0;
        }

        if (user.buffer_length < 8)
                r = -EINVAL;
        else
                r = peek(call->pid, (uintptr_t)user.buffer, urb->control.urb.setup, 8);
        size = get_le16(urb->control.urb.setup + 6);
        if (r >= 0 && (size_t)user.buffer_length < size + 8)
                r = -EINVAL;
        if (r >= 0)
                r = check_recipient(file, urb->control.urb.setup[0], get_le16(urb->control.urb.setup + 4));
        if (r >= 0) {
                urb->control.urb.data = calloc(1, size + 1);
                if (!urb->control.urb.data)
                        r = -ENOMEM;
        }
        if (r >= 0) {
                urb->in = size > 0 && (urb->control.urb.setup[0] & USB_DIR_IN);
                urb->buffer = (uintptr_t)user.buffer + 8;
                if (!urb->in)
                        r = peek(call->pid, urb->buffer, urb->control.urb.data, size);
        }
        if (r < 0) {
                urb_free(urb);
                return r;
        }
        urb->submitted = true;
        TAILQ_INSERT_TAIL(&file->pending, urb, link);
        ep0_submit(node->ep0, &urb->control);
        return 0;
}

static int ioctl_discard(const struct call *call)
{
        struct usbfs_urb *urb;

        TAILQ_FOREACH(urb, &call->file->pending, link)
                if (urb->address == call->argument) {
                        urb_cancel(urb, -ENOENT);
                        return 0;
                }
        return -EINVAL;
}

static int ioctl_reap_wait(const struct call *call)
{
        struct usbfs_file *file = call->file;
        int r = reap(file, call->pid, call->argument);

        if (r != -EAGAIN)
                return r;
        if (file->reaper != 0)
                return -EBUSY;          /* two threads at once: not supported here */
        file->reaper = call->unique;
        file->reaper_argument = call->argument;
        file->reaper_pid = call->pid;
        return DEFERRED;
}

static int ioctl_control(const struct call *call)
{
        struct usbdevfs_ctrltransfer user;
        struct wait *wait;
        int r;

        r = peek(call->pid, call->argument, &user, sizeof(user));
        if (r < 0)
                return r;
        r = check_recipient(call->file, user.bRequestType, user.wIndex);
        if (r < 0)
                return r;
        if (user.wLength > CONTROL_DATA_MAX)
                return -EINVAL;

        r = wait_new(call->file, WAIT_CONTROL, call->unique, call->pid, user.wLength, on_wait_done, &wait);
        if (r < 0)
                return r;
        wait->buffer = (uintptr_t)user.data;
        wait->control.timeout = user.timeout * MSEC;
        control_setup(&wait->control, user.bRequestType, user.bRequest, user.wValue, user.wIndex, user.wLength);
        if (!(user.bRequestType & USB_DIR_IN))
                r = peek(call->pid, wait->buffer, wait->data, user.wLength);
        if (r < 0) {
                LIST_REMOVE(wait, link);
                free(wait);
                return r;
        }
        /* The device lock is not held meanwhile. */
        ep0_submit(call->node->ep0, &wait->control);
        return DEFERRED;
}

static int ioctl_claim(const struct call *call)
{
        uint32_t interface;
        int r = peek(call->pid, call->argument, &interface, sizeof(interface));

        return r < 0 ? r : claim(call->file, interface);
}

static int ioctl_release(const struct call *call)
{
        struct usbfs_node *node = call->node;
        uint32_t interface;
        int r;

        r = peek(call->pid, call->argument, &interface, sizeof(interface));
        if (r < 0)
                return r;
        if (interface >= USBFS_INTERFACES_MAX)
                return -EINVAL;
        if (!has_interface(node, interface))
                return -ENOENT;
        if (node->claimed_by[interface] != call->file)
                return -EINVAL;
        trace(node, "release of interface %u", interface);
        if (node->alternates[interface] == 0) {
                set_driver(node, interface, NULL, NULL);
                return 0;
        }
        trace(node, "released: the kernel sends SET_INTERFACE(0)");
        r = set_interface(call->file, WAIT_RELEASE_INTERFACE, call->unique, (uint8_t)interface, 0);
        return r < 0 ? r : DEFERRED;
}

static int ioctl_set_interface(const struct call *call)
{
        struct usbdevfs_setinterface user;
        int r;

        r = peek(call->pid, call->argument, &user, sizeof(user));
        if (r < 0)
                return r;
        r = check_interface(call->file, user.interface);
        if (r < 0)
                return r;
        if (!has_alternate(call->node, user.interface, user.altsetting))
                return -EINVAL;
        r = set_interface(call->file, WAIT_SET_INTERFACE, call->unique, (uint8_t)user.interface, (uint8_t)user.altsetting);
        return r < 0 ? r : DEFERRED;
}

static int ioctl_set_configuration(const struct call *call)
{
        struct usbfs_node *node = call->node;
        struct wait *wait;
        int32_t value;
        int r;

        r = peek(call->pid, call->argument, &value, sizeof(value));
        if (r < 0)
                return r;
        /* By anybody: the kernel's drivers count, too. */
        for (unsigned i = 0; i < USBFS_INTERFACES_MAX; i++)
                if (node->claimed_by[i] || node->driver[i])
                        return -EBUSY;
        if (value < 0)
                value = 0;
        if (value > 1)
                return -EINVAL;
        r = wait_new(call->file, WAIT_SET_CONFIGURATION, call->unique, call->pid, 0, on_wait_done, &wait);
        if (r < 0)
                return r;
        wait->configuration = (uint8_t)value;
        control_setup(&wait->control, 0, USB_REQ_SET_CONFIGURATION, (uint16_t)value, 0, 0);
        trace(node, "SETCONFIGURATION(%d)", value);
        lock(node);
        ep0_submit(node->ep0, &wait->control);
        return DEFERRED;
}

static int ioctl_reset(const struct call *call)
{
        struct usbfs_node *node = call->node;

        if (!node->ops->reset)
                return -EPERM;
        trace(node, "RESET");
        for (unsigned i = 0; i < USBFS_INTERFACES_MAX; i++)
                node->bound[i] = node->claimed_by[i] || node->driver[i];
        /* usbfs cannot be told of a reset beforehand, so the kernel unbinds it: all claims are lost. */
        for (unsigned i = 0; i < USBFS_INTERFACES_MAX; i++)
                if (node->claimed_by[i])
                        set_driver(node, i, NULL, NULL);
        forget_alternates(node);
        node->reset_unique = call->unique;
        lock(node);
        node->ops->reset(node->userdata);
        return DEFERRED;
}

static int ioctl_endpoint(const struct call *call)
{
        uint32_t endpoint;
        int r;

        r = peek(call->pid, call->argument, &endpoint, sizeof(endpoint));
        if (r < 0)
                return r;
        r = interface_of_endpoint(call->node, endpoint);
        if (r < 0)
                return r;
        return check_interface(call->file, (unsigned)r);
}

static int ioctl_get_driver(const struct call *call)
{
        struct usbdevfs_getdriver user = { 0 };
        const char *driver;
        int r;

        r = peek(call->pid, call->argument, &user.interface, sizeof(user.interface));
        if (r < 0)
                return r;
        if (!has_interface(call->node, user.interface))
                return -ENODATA;
        driver = call->node->claimed_by[user.interface] ? "usbfs" : call->node->driver[user.interface];
        if (!driver)
                return -ENODATA;
        (void)snprintf(user.driver, sizeof(user.driver), "%s", driver);
        return poke(call->pid, call->argument, &user, sizeof(user));
}

/* Whether there was one. */
static bool attach_driver(struct usbfs_node *node, unsigned interface)
{
        const char *driver = node->ops->find_driver ? node->ops->find_driver(node->userdata, (uint8_t)interface) : NULL;

        if (driver)
                set_driver(node, interface, NULL, driver);
        return driver;
}

static int ioctl_driver_call(const struct call *call)
{
        struct usbfs_node *node = call->node;
        struct usbdevfs_ioctl user;
        int r;

        r = peek(call->pid, call->argument, &user, sizeof(user));
        if (r < 0)
                return r;
        if (!node->configured)
                return -EHOSTUNREACH;
        if (user.ifno < 0 || !has_interface(node, (unsigned)user.ifno))
                return -EINVAL;
        switch ((unsigned)user.ioctl_code) {
        case USBDEVFS_DISCONNECT:
                if (!node->claimed_by[user.ifno] && !node->driver[user.ifno])
                        return -ENODATA;
                trace(node, "driver detached from interface %d", user.ifno);
                if (node->claimed_by[user.ifno] && node->alternates[user.ifno] != 0) {
                        r = set_interface(call->file, WAIT_RELEASE_INTERFACE, call->unique, (uint8_t)user.ifno, 0);
                        return r < 0 ? r : DEFERRED;
                }
                set_driver(node, (unsigned)user.ifno, NULL, NULL);
                return 0;
        case USBDEVFS_CONNECT:
                if (node->claimed_by[user.ifno] || node->driver[user.ifno])
                        return -EBUSY;
                return attach_driver(node, (unsigned)user.ifno);
        default:
                return node->driver[user.ifno] ? -ENOTTY : -ENODATA;
        }
}

static int ioctl_disconnect_claim(const struct call *call)
{
        struct usbfs_node *node = call->node;
        struct usbdevfs_disconnect_claim user;
        const char *driver;
        int r;

        r = peek(call->pid, call->argument, &user, sizeof(user));
        if (r < 0)
                return r;
        if (!has_interface(node, user.interface))
                return -EINVAL;
        user.driver[USBDEVFS_MAXDRIVERNAME] = 0;
        driver = node->claimed_by[user.interface] ? "usbfs" : node->driver[user.interface];
        if (driver) {
                bool same = strcmp(driver, user.driver) == 0;

                if ((user.flags & USBDEVFS_DISCONNECT_CLAIM_IF_DRIVER) && !same)
                        return -EBUSY;
                if ((user.flags & USBDEVFS_DISCONNECT_CLAIM_EXCEPT_DRIVER) && same)
                        return -EBUSY;
                trace(node, "driver detached from interface %u", user.interface);
                set_driver(node, user.interface, NULL, NULL);
        }
        return claim(call->file, user.interface);
}

static int ioctl_capabilities(const struct call *call)
{
        /* No MMAP: the file system cannot; libusb falls back to malloc. */
        uint32_t capabilities = USBDEVFS_CAP_ZERO_PACKET | USBDEVFS_CAP_BULK_CONTINUATION | USBDEVFS_CAP_NO_PACKET_SIZE_LIM |
                                USBDEVFS_CAP_REAP_AFTER_DISCONNECT | USBDEVFS_CAP_CONNINFO_EX;

        return poke(call->pid, call->argument, &capabilities, sizeof(capabilities));
}

static int kernel_speed(const struct usbfs_node *node)
{
        return node->info.speed >= 480 ? USB_SPEED_HIGH : node->info.speed >= 12 ? USB_SPEED_FULL : USB_SPEED_LOW;
}

static int ioctl_connect_info(const struct call *call)
{
        struct usbdevfs_connectinfo user = { .devnum = call->node->info.device,
                                             .slow = kernel_speed(call->node) == USB_SPEED_LOW };

        return poke(call->pid, call->argument, &user, sizeof(user));
}

static int ioctl_connect_info_ex(const struct call *call, size_t size)
{
        const struct usbfs_info *info = &call->node->info;
        struct usbdevfs_conninfo_ex user = { .size = sizeof(user), .busnum = info->bus, .devnum = info->device,
                                             .speed = (uint32_t)kernel_speed(call->node),
                                             .num_ports = (uint8_t)info->n_ports };

        memcpy(user.ports, info->ports, sizeof(user.ports));
        return poke(call->pid, call->argument, &user, MIN(size, sizeof(user)));
}

static int dispatch_ioctl(const struct call *call, uint32_t command)
{
        switch (command) {
        case USBDEVFS_REAPURB:
                return ioctl_reap_wait(call);
        case USBDEVFS_REAPURBNDELAY:
                return reap(call->file, call->pid, call->argument);
        }
        /* Everything but reaping ends with the device. */
        if (call->node->gone)
                return -ENODEV;
        if (!call->file->writable)
                return -EPERM;
        if (_IOC_TYPE(command) == 'U' && _IOC_NR(command) == 32 && _IOC_DIR(command) == _IOC_READ)
                return ioctl_connect_info_ex(call, _IOC_SIZE(command));

        switch (command) {
        case USBDEVFS_SUBMITURB:
                return ioctl_submit(call);
        case USBDEVFS_DISCARDURB:
                return ioctl_discard(call);
        case USBDEVFS_CONTROL:
                return ioctl_control(call);
        case USBDEVFS_CLAIMINTERFACE:
                return ioctl_claim(call);
        case USBDEVFS_RELEASEINTERFACE:
                return ioctl_release(call);
        case USBDEVFS_SETINTERFACE:
                return ioctl_set_interface(call);
        case USBDEVFS_SETCONFIGURATION:
                return ioctl_set_configuration(call);
        case USBDEVFS_RESET:
                return ioctl_reset(call);
        case USBDEVFS_CLEAR_HALT:
        case USBDEVFS_RESETEP:
                return ioctl_endpoint(call);
        case USBDEVFS_GETDRIVER:
                return ioctl_get_driver(call);
        case USBDEVFS_IOCTL:
                return ioctl_driver_call(call);
        case USBDEVFS_DISCONNECT_CLAIM:
                return ioctl_disconnect_claim(call);
        case USBDEVFS_GET_CAPABILITIES:
                return ioctl_capabilities(call);
        case USBDEVFS_CONNECTINFO:
                return ioctl_connect_info(call);
        case USBDEVFS_GET_SPEED:
                return kernel_speed(call->node);
        case USBDEVFS_DISCSIGNAL:
        case USBDEVFS_FORBID_SUSPEND:
        case USBDEVFS_ALLOW_SUSPEND:
        case USBDEVFS_WAIT_FOR_RESUME:
                return 0;
        default:
                trace(call->node, "unknown ioctl %#x", command);
                return -ENOTTY;
        }
}

/* --- FUSE operations --- */

static void fill_attr(struct fuse_attr *attr, uint64_t id)
{
        bool directory = id < ID_NODES;

        *attr = (struct fuse_attr){
                .ino = id,
                .mode = directory ? S_IFDIR | 0755 : S_IFREG | 0664,
                .nlink = directory ? 2 : 1,
                .blksize = 4096,
        };
}

static bool bus_exists(struct fuse_usbfs *usbfs, unsigned bus)
{
        struct usbfs_node *node;

        LIST_FOREACH(node, &usbfs->nodes, link)
                if (!node->gone && node->info.bus == bus)
                        return true;
        return false;
}

static bool id_exists(struct fuse_usbfs *usbfs, uint64_t id)
{
        if (id == FUSE_ROOT_ID)
                return true;
        if (id < ID_NODES)
                return bus_exists(usbfs, (unsigned)(id & 0xffff));
        return node_by_id(usbfs, id) != NULL;
}

/* Names are numbers of three digits. */
static unsigned parse_name(const char *name)
{
        unsigned value;
        int n = 0;

        if (sscanf(name, "%3u%n", &value, &n) != 1 || n != 3 || name[3] != 0)
                return 0;
        return value;
}

static void do_lookup(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const char *name)
{
        struct fuse_entry_out out = { .generation = 1 };
        unsigned number = parse_name(name);
        struct usbfs_node *node;

        if (header->nodeid == FUSE_ROOT_ID) {
                if (number != 0 && bus_exists(usbfs, number))
                        out.nodeid = ID_BUS | number;
        } else if (header->nodeid < ID_NODES) {
                LIST_FOREACH(node, &usbfs->nodes, link)
                        if (!node->gone && node->info.bus == (header->nodeid & 0xffff) && node->info.device == number)
                                out.nodeid = node->id;
        }
        if (out.nodeid == 0) {
                reply(usbfs, header->unique, -ENOENT, NULL, 0);
                return;
        }
        fill_attr(&out.attr, out.nodeid);
        reply(usbfs, header->unique, 0, &out, sizeof(out));
}

static void do_getattr(struct fuse_usbfs *usbfs, const struct fuse_in_header *header)
{
        struct fuse_attr_out out = { 0 };

        if (!id_exists(usbfs, header->nodeid)) {
                reply(usbfs, header->unique, -ENOENT, NULL, 0);
                return;
        }
        fill_attr(&out.attr, header->nodeid);
        reply(usbfs, header->unique, 0, &out, sizeof(out));
}

struct listing {
        uint8_t *bytes;
        size_t size, room;
        uint64_t index, offset;
};

static void listing_add(struct listing *listing, uint64_t id, const char *name, uint32_t type)
{
        size_t length = strlen(name), size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
        struct fuse_dirent *entry = (void *)(listing->bytes + listing->size);

        if (listing->index++ < listing->offset || listing->size + size > listing->room)
                return;
        memset(entry, 0, size);
        entry->ino = id;
        entry->off = listing->index;
        entry->namelen = (uint32_t)length;
        entry->type = type;
        memcpy(entry->name, name, length);
        listing->size += size;
}

static void do_readdir(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_read_in *in)
{
        _cleanup_free_ uint8_t *bytes = malloc(MAX(in->size, 1U));
        struct listing listing = { .bytes = bytes, .room = in->size, .offset = in->offset };
        struct usbfs_node *node;
        char name[16];

        if (!bytes) {
                reply(usbfs, header->unique, -ENOMEM, NULL, 0);
                return;
        }
        listing_add(&listing, header->nodeid, ".", S_IFDIR >> 12);
        listing_add(&listing, FUSE_ROOT_ID, "..", S_IFDIR >> 12);
        if (header->nodeid == FUSE_ROOT_ID) {
                for (unsigned bus = 1; bus < 256; bus++)
                        if (bus_exists(usbfs, bus)) {
                                (void)snprintf(name, sizeof(name), "%03u", bus);
                                listing_add(&listing, ID_BUS | bus, name, S_IFDIR >> 12);
                        }
        } else {
                LIST_FOREACH(node, &usbfs->nodes, link)
                        if (!node->gone && node->info.bus == (header->nodeid & 0xffff)) {
                                (void)snprintf(name, sizeof(name), "%03u", node->info.device);
                                listing_add(&listing, node->id, name, S_IFREG >> 12);
                        }
        }
        reply(usbfs, header->unique, 0, listing.bytes, listing.size);
}

static void do_open(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_open_in *in)
{
        struct usbfs_node *node = node_by_id(usbfs, header->nodeid);
        /* Seekable: libusb_wrap_sys_device() seeks to the descriptors' beginning. */
        struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO };
        struct usbfs_file *file;
        int r;

        if (!node || node->gone) {
                reply(usbfs, header->unique, -ENODEV, NULL, 0);
                return;
        }
        r = node->ops->open ? node->ops->open(node->userdata) : 0;
        if (r < 0) {
                trace(node, "open by process %u refused: %s", header->pid, strerror(-r));
                reply(usbfs, header->unique, r, NULL, 0);
                return;
        }
        file = calloc(1, sizeof(*file));
        if (!file) {
                reply(usbfs, header->unique, -ENOMEM, NULL, 0);
                return;
        }
        file->node = node;
        file->writable = (in->flags & O_ACCMODE) != O_RDONLY;
        TAILQ_INIT(&file->pending);
        TAILQ_INIT(&file->done);
        LIST_INSERT_HEAD(&node->files, file, link);
        trace(node, "opened by process %u", header->pid);
        out.fh = (uintptr_t)file;
        reply(usbfs, header->unique, 0, &out, sizeof(out));
}

static void do_read(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_read_in *in)
{
        struct usbfs_file *file = (void *)(uintptr_t)in->fh;
        struct usbfs_node *node = file->node;
        size_t offset = MIN(in->offset, node->info.descriptors_size);

        if (node->gone)
                reply(usbfs, header->unique, -ENODEV, NULL, 0);
        else
                reply(usbfs, header->unique, 0, node->info.descriptors + offset,
                      MIN(in->size, node->info.descriptors_size - offset));
}

static void do_ioctl(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_ioctl_in *in)
{
        struct usbfs_file *file = (void *)(uintptr_t)in->fh;
        struct call call = { file, file->node, header->unique, (pid_t)header->pid, in->arg };
        int r;

        r = dispatch_ioctl(&call, in->cmd);
        if (r != DEFERRED)
                reply_ioctl(usbfs, header->unique, r);
}

static void do_poll(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_poll_in *in)
{
        struct usbfs_file *file = (void *)(uintptr_t)in->fh;
        struct fuse_poll_out out = { 0 };

        if (in->flags & FUSE_POLL_SCHEDULE_NOTIFY) {
                file->has_poll = true;
                file->poll_handle = in->kh;
        }
        if (!TAILQ_EMPTY(&file->done))
                out.revents |= POLLOUT | POLLWRNORM;
        if (file->node->gone)
                out.revents |= POLLERR | POLLHUP;
        reply(usbfs, header->unique, 0, &out, sizeof(out));
}

static void do_release(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_release_in *in)
{
        file_close((void *)(uintptr_t)in->fh);
        reply(usbfs, header->unique, 0, NULL, 0);
}

/* A signal for somebody who waits in an ioctl.  What is not found is not interruptible, or answered already. */
static void do_interrupt(struct fuse_usbfs *usbfs, const struct fuse_interrupt_in *in)
{
        struct usbfs_node *node;
        struct usbfs_file *file;
        struct wait *wait;

        LIST_FOREACH(wait, &usbfs->waits, link)
                if (wait->unique == in->unique && wait->kind == WAIT_CONTROL) {
                        wait->interrupted = true;
                        ep0_cancel(&wait->control);
                        return;
                }
        LIST_FOREACH(node, &usbfs->nodes, link)
                LIST_FOREACH(file, &node->files, link)
                        if (file->reaper != 0 && file->reaper == in->unique) {
                                file->reaper = 0;
                                reply_ioctl(usbfs, in->unique, -EINTR);
                                return;
                        }
}

static void do_init(struct fuse_usbfs *usbfs, const struct fuse_in_header *header, const struct fuse_init_in *in)
{
        struct fuse_init_out out = {
                .major = FUSE_KERNEL_VERSION,
                .minor = 31,
                .max_readahead = in->max_readahead,
                .max_background = 1024,         /* releases run in the background: a hundred cameras close at once */
                .congestion_threshold = 1024,
                .max_write = 4096,
                .time_gran = 1,
        };

        reply(usbfs, header->unique, 0, &out, sizeof(out));
}

static void do_statfs(struct fuse_usbfs *usbfs, const struct fuse_in_header *header)
{
        struct fuse_statfs_out out = { .st = { .bsize = 4096, .namelen = 255, .frsize = 4096 } };

        reply(usbfs, header->unique, 0, &out, sizeof(out));
}

/* The node whose device lock a request takes. */
static struct usbfs_node *needs_lock(struct fuse_usbfs *usbfs, const struct fuse_in_header *header)
{
        switch (header->opcode) {
        case FUSE_OPEN:
        case FUSE_READ:
        case FUSE_IOCTL:
        case FUSE_RELEASE:
                return node_by_id(usbfs, header->nodeid);
        default:
                return NULL;
        }
}

static void stall(struct usbfs_node *node, const void *bytes, size_t size)
{
        const struct fuse_in_header *header = bytes;
        struct stalled *stalled = malloc(sizeof(*stalled) + size);

        if (!stalled) {
                reply(node->usbfs, header->unique, -ENOMEM, NULL, 0);
                return;
        }
        stalled->size = size;
        memcpy(stalled->bytes, bytes, size);
        TAILQ_INSERT_TAIL(&node->stalled, stalled, link);
}

static void handle(struct fuse_usbfs *usbfs, const uint8_t *bytes, size_t size)
{
        const struct fuse_in_header *header = (const void *)bytes;
        const void *in = bytes + sizeof(*header);

        switch (header->opcode) {
        case FUSE_INIT:
                do_init(usbfs, header, in);
                break;
        case FUSE_LOOKUP:
                do_lookup(usbfs, header, in);
                break;
        case FUSE_GETATTR:
                do_getattr(usbfs, header);
                break;
        case FUSE_OPENDIR: {
                struct fuse_open_out out = { 0 };

                reply(usbfs, header->unique, id_exists(usbfs, header->nodeid) ? 0 : -ENOENT, &out, sizeof(out));
                break;
        }
        case FUSE_READDIR:
                do_readdir(usbfs, header, in);
                break;
        case FUSE_RELEASEDIR:
                reply(usbfs, header->unique, 0, NULL, 0);
                break;
        case FUSE_OPEN:
                do_open(usbfs, header, in);
                break;
        case FUSE_READ:
                do_read(usbfs, header, in);
                break;
        case FUSE_IOCTL:
                do_ioctl(usbfs, header, in);
                break;
        case FUSE_POLL:
                do_poll(usbfs, header, in);
                break;
        case FUSE_RELEASE:
                do_release(usbfs, header, in);
                break;
        case FUSE_STATFS:
                do_statfs(usbfs, header);
                break;
        case FUSE_INTERRUPT:
                do_interrupt(usbfs, in);
                break;
        case FUSE_FORGET:
        case FUSE_BATCH_FORGET:
                break;                  /* take no answer */
        default:
                reply(usbfs, header->unique, -ENOSYS, NULL, 0);
                break;
        }
}

/* The lock was given up: whoever waited goes on, in order, until somebody takes it again. */
static void on_replay(void *userdata)
{
        struct usbfs_node *node = userdata;
        struct stalled *stalled;

        while (!node->locked && (stalled = TAILQ_FIRST(&node->stalled))) {
                bool last;

                /* The node must not go away under us: it does so only when nothing is stalled. */
                handle(node->usbfs, stalled->bytes, stalled->size);
                last = TAILQ_NEXT(stalled, link) == NULL;
                TAILQ_REMOVE(&node->stalled, stalled, link);
                free(stalled);
                if (last) {
                        node_unref(node);
                        return;
                }
        }
}

/*
 * A real usbfs answers a system call within a microsecond or two.  Here each one wakes this process, and on a virtual machine waking
 * an idle processor takes longer than all the rest.  System calls come in bursts (poll, reap, reap, submit): so whoever has just
 * asked something is waited for a moment without going to sleep.
 */
#define LINGER_NS 60000

static uint64_t now_ns(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void on_readable(void *userdata, unsigned events)
{
        struct fuse_usbfs *usbfs = userdata;
        uint64_t until = 0;

        /* A few at a time, so that timers and programs get their turn. */
        for (int i = 0; i < 64;) {
                ssize_t size = read(usbfs->fd, usbfs->buffer, REQUEST_SIZE);
                struct usbfs_node *node;

                if (size < 0 && errno == EAGAIN && until && now_ns() < until)
                        continue;
                i++;
                if (size < 0 && (errno == ENOENT || errno == EINTR))
                        continue;       /* the request was taken back */
                if (size < 0 && errno != EAGAIN)
                        (void)io_watch_set(&usbfs->watch, 0);   /* ENODEV: unmounted */
                if (size < (ssize_t)sizeof(struct fuse_in_header))
                        return;
                node = needs_lock(usbfs, (void *)usbfs->buffer);
                if (node && (node->locked || !TAILQ_EMPTY(&node->stalled)))
                        stall(node, usbfs->buffer, (size_t)size);
                else
                        handle(usbfs, usbfs->buffer, (size_t)size);
                until = now_ns() + LINGER_NS;
        }
}

/* --- the outside --- */

int fuse_usbfs_new(struct loop *loop, int fd, struct fuse_usbfs **ret)
{
        _cleanup_(fuse_usbfs_freep) struct fuse_usbfs *usbfs = NULL;
        int r;

        usbfs = calloc(1, sizeof(*usbfs));
        if (!usbfs)
                return -ENOMEM;
        usbfs->loop = loop;
        usbfs->fd = -1;
        usbfs->next_id = ID_NODES;
        LIST_INIT(&usbfs->nodes);
        LIST_INIT(&usbfs->waits);
        usbfs->buffer = malloc(REQUEST_SIZE);
        if (!usbfs->buffer)
                return -ENOMEM;
        io_watch_init(&usbfs->watch, loop, fd, on_readable, usbfs);
        r = io_watch_set(&usbfs->watch, IO_READ);
        if (r < 0)
                return r;
        usbfs->fd = fd;
        *ret = take_ptr(usbfs);
        return 0;
}

struct fuse_usbfs *fuse_usbfs_free(struct fuse_usbfs *usbfs)
{
        struct usbfs_node *node;

        if (!usbfs)
                return NULL;
        /* Programs may still hold files of devices that are gone. */
        while ((node = LIST_FIRST(&usbfs->nodes))) {
                struct usbfs_file *file;
                struct stalled *stalled;

                assert(node->gone);
                while ((stalled = TAILQ_FIRST(&node->stalled))) {
                        TAILQ_REMOVE(&node->stalled, stalled, link);
                        free(stalled);
                }
                if (LIST_EMPTY(&node->files)) {
                        node_unref(node);
                        continue;
                }
                while ((file = LIST_FIRST(&node->files))) {
                        bool last = LIST_NEXT(file, link) == NULL;

                        file_close(file);
                        if (last)
                                break;
                }
        }
        assert(LIST_EMPTY(&usbfs->waits));
        io_watch_deinit(&usbfs->watch);
        if (usbfs->fd >= 0)
                (void)close(usbfs->fd);
        free(usbfs->buffer);
        free(usbfs);
        return NULL;
}

int usbfs_node_new(struct fuse_usbfs *usbfs, const struct usbfs_info *info, struct ep0 *ep0,
                   const struct usbfs_ops *ops, void *userdata, struct usbfs_node **ret)
{
        struct usbfs_node *node = calloc(1, sizeof(*node));

        if (!node)
                return -ENOMEM;
        node->usbfs = usbfs;
        node->id = usbfs->next_id++;
        node->info = *info;
        node->configured = info->configured;
        node->starting = node->locked = !info->configured;
        node->ep0 = ep0;
        node->ops = ops;
        node->userdata = userdata;
        LIST_INIT(&node->files);
        TAILQ_INIT(&node->stalled);
        defer_init(&node->replay, usbfs->loop, on_replay, node);
        LIST_INSERT_HEAD(&usbfs->nodes, node, link);
        *ret = node;
        return 0;
}

struct usbfs_node *usbfs_node_remove(struct usbfs_node *node)
{
        struct usbfs_file *file;

        if (!node)
                return NULL;
        if (node->reset_unique != 0)
                usbfs_node_reset_done(node, -ENODEV);
        node->gone = true;
        assert(!node->alternate);               /* ended with ep0 */
        usbfs_node_configured(node, node->configured);
        node->ep0 = NULL;
        node->info.descriptors_size = 0;
        LIST_FOREACH(file, &node->files, link) {
                struct usbfs_urb *urb, *next;

                /* Control URBs have ended with ep0; these are the others. */
                for (urb = TAILQ_FIRST(&file->pending); urb; urb = next) {
                        next = TAILQ_NEXT(urb, link);
                        urb_done(urb, -ESHUTDOWN, 0);
                }
                notify_poll(file);
                serve_reaper(file);
        }
        node_unref(node);
        return NULL;
}

void usbfs_node_reset_done(struct usbfs_node *node, int error)
{
        uint64_t unique = node->reset_unique;

        if (unique == 0)
                return;
        node->reset_unique = 0;
        for (unsigned i = 0; error == 0 && i < USBFS_INTERFACES_MAX; i++)
                if (node->bound[i] && !node->claimed_by[i] && !node->driver[i])
                        (void)attach_driver(node, i);
        unlock(node);
        reply_ioctl(node->usbfs, unique, error);
}

void usbfs_node_configured(struct usbfs_node *node, bool configured)
{
        node->configured = configured;
        if (!node->starting)
                return;
        node->starting = false;
        unlock(node);
}

int usbfs_node_bind(struct usbfs_node *node, uint8_t interface, const char *driver)
{
        if (interface >= USBFS_INTERFACES_MAX)
                return -EINVAL;
        if (driver && node->claimed_by[interface])
                return -EBUSY;
        set_driver(node, interface, NULL, driver);
        return 0;
}

unsigned usbfs_node_open_files(const struct usbfs_node *node)
{
        const struct usbfs_file *file;
        unsigned n = 0;

        LIST_FOREACH(file, &node->files, link)
                n++;
        return n;
}

/* SPDX-License-Identifier: MIT */
/*
 * See usb-inproc.h.  Everything that a program hears - completions, openings,
 * events - comes from the loop, never from inside a call, as it is with the
 * real thing.
 *
 * An attachment is one stay of a device on the bus; open devices hold on to it
 * and find it gone when the device has left.
 */

#include "sim/usb-inproc.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/runtime-tty.h"

#define DEVICE_NUMBER_MAX 127
#define CONFIGURE_TIMEOUT (5 * SEC)     /* USB_CTRL_SET_TIMEOUT of the kernel */
#define WRAP_TIMEOUT (1 * SEC)          /* libusb's GET_CONFIGURATION when it wraps a device */
#define RESET_TIME (60 * MSEC)          /* port reset and new address */

/* --- the host's side --- */

struct attachment {
        unsigned references;
        struct usb_inproc_camera *camera;
        struct sighting sighting;
        bool announced, gone;
        uint32_t claimed_by_others, claimed_by_us;      /* one bit per interface */
        uint32_t bound;                 /* by kernel drivers: CDC, mass storage */
};

struct event_item {
        bool added;
        struct sighting sighting;
        struct attachment *attachment;  /* of an arrival: announced when told */
        uint64_t due;
        TAILQ_ENTRY(event_item) link;
};

struct usb_inproc_camera {
        struct usb_inproc *host;
        struct sim_camera *sim;
        char port[PORT_PATH_MAX];
        struct attachment *attachment;
        struct timer enumeration, configure_timeout;
        struct sim_urb configure;
        bool configuring;
        int open_error;
        unsigned open_errors;
        struct sim_config config;
        struct timer serial_timer;
        char serial_node[32];           /* "": none */
        struct runtime_tty runtime;
        int serial_error;
        const struct usb_inproc_serial_user *serial_user;       /* NULL: nobody has it open */
        void *serial_userdata;
        LIST_ENTRY(usb_inproc_camera) link;
};

struct usb_inproc {
        struct loop *loop;
        uint64_t enumeration_us, event_us, latency_us;
        size_t queue;
        usb_inproc_watch_fn watch;
        void *watch_userdata;
        struct sim_host sim_host;       /* trace is NULL unless wanted: lines cost more than requests */
        bool trace;
        usb_inproc_event_fn on_event;
        void *userdata;
        TAILQ_HEAD(event_items, event_item) events;
        struct timer event_timer;
        LIST_HEAD(, usb_inproc_camera) cameras;
        unsigned last_number[16];       /* per bus */
        usb_inproc_serial_fn on_serial;
        void *serial_userdata;
        unsigned last_serial;
        bool one_at_a_time;
        struct { char name[PORT_PATH_MAX]; uint64_t busy_until; } hubs[64];
        unsigned n_timers, n_users, n_openings;
};

static struct usb_inproc *the_host;

static void attachment_unref(struct attachment *attachment)
{
        if (--attachment->references == 0)
                free(attachment);
}

static struct attachment *attachment_ref(struct attachment *attachment)
{
        attachment->references++;
        return attachment;
}

/* - events, in order - */

static void event_free(struct event_item *event)
{
        if (event->attachment)
                attachment_unref(event->attachment);
        free(event);
}

static void arm_events(struct usb_inproc *host)
{
        struct event_item *event = TAILQ_FIRST(&host->events);
        uint64_t now = loop_now(host->loop);

        if (event)
                timer_set(&host->event_timer, event->due > now ? event->due - now : 0);
}

static void on_event_due(void *userdata)
{
        struct usb_inproc *host = userdata;
        struct event_item *event = TAILQ_FIRST(&host->events);

        TAILQ_REMOVE(&host->events, event, link);
        arm_events(host);
        event->sighting.seen_at = loop_now(host->loop);
        if (event->attachment) {
                event->attachment->announced = true;
                event->attachment->sighting.seen_at = event->sighting.seen_at;
        }
        if (host->trace)
                fprintf(stderr, "# %s %s %04x:%04x %s\n", event->added ? "add" : "remove", event->sighting.port,
                        event->sighting.vendor, event->sighting.product, event->sighting.serial);
        if (host->on_event)
                host->on_event(host->userdata, event->added, &event->sighting);
        event_free(event);
}

static void queue_event(struct usb_inproc *host, bool added, struct attachment *attachment, uint64_t delay)
{
        struct event_item *event = calloc(1, sizeof(*event)), *last = TAILQ_LAST(&host->events, event_items);

        assert(event);
        event->added = added;
        event->sighting = attachment->sighting;
        event->attachment = added ? attachment_ref(attachment) : NULL;
        event->due = loop_now(host->loop) + delay;
        if (last)
                event->due = MAX(event->due, last->due);
        TAILQ_INSERT_TAIL(&host->events, event, link);
        if (!last)
                arm_events(host);
}

/* - enumeration - */

/* Cut to what the sighting keeps. */
static void string_at(char *to, size_t size, const char *from)
{
        size_t n = strnlen(from, size - 1);

        memcpy(to, from, n);
        to[n] = '\0';
}

static void sight(struct usb_inproc_camera *camera, struct attachment *attachment)
{
        struct sighting *s = &attachment->sighting;
        struct sim_descriptors d;
        bool dfu = false;

        sim_camera_descriptors(camera->sim, &d);
        s->vendor = get_le16(d.device + 8);
        s->product = get_le16(d.device + 10);
        s->device = get_le16(d.device + 12);
        string_at(s->serial, sizeof(s->serial), d.serial);
        string_at(s->product_name, sizeof(s->product_name), d.product);
        s->speed = d.speed;
        s->n_interfaces = d.config[4];
        for (size_t i = 9; i + 2 <= d.config_size && d.config[i] >= 2 && i + d.config[i] <= d.config_size; i += d.config[i]) {
                const uint8_t *p = d.config + i;

                if (p[1] == 0x04) {
                        dfu = p[5] == 0xfe && p[6] == 0x01;
                        if (p[5] == 0x08)
                                s->has_mass_storage = true;
                        if (!dfu)
                                attachment->bound |= 1u << p[2];
                        else if (p[2] == 0 && s->n_alts < ELEMENTSOF(s->alt_names)) {
                                sim_camera_string(camera->sim, p[8], s->alt_names[s->n_alts], sizeof(s->alt_names[0]));
                                s->n_alts++;
                        }
                } else if (p[1] == 0x21 && dfu)
                        s->transfer_size = get_le16(p + 5);
        }
}

static bool number_is_free(struct usb_inproc *host, unsigned bus, unsigned number)
{
        struct usb_inproc_camera *camera;
        char node[32];

        snprintf(node, sizeof(node), "/dev/bus/usb/%03u/%03u", bus, number);
        LIST_FOREACH(camera, &host->cameras, link)
                if (camera->attachment && strcmp(camera->attachment->sighting.node, node) == 0)
                        return false;
        return true;
}

static void on_configured(struct usb_inproc_camera *camera, int status)
{
        timer_clear(&camera->configure_timeout);
        camera->configuring = false;
        /* A device that refuses its configuration is a device nevertheless; one that has left is none. */
        if (status != -ESHUTDOWN && camera->attachment && camera->attachment->sighting.n_interfaces == 0) {
                sight(camera, camera->attachment);
                queue_event(camera->host, /* added= */ true, camera->attachment, camera->host->event_us);
                if (sim_camera_mode(camera->sim) == SIM_RUNTIME)
                        timer_set(&camera->serial_timer, camera->host->event_us + USB_INPROC_SERIAL_DELAY);
        }
}

static void on_configure_timeout(void *userdata)
{
        struct usb_inproc_camera *camera = userdata;

        (void)sim_camera_cancel(camera->sim, &camera->configure);
}

static void configure(struct usb_inproc_camera *camera)
{
        if (camera->configuring)
                return;
        camera->configuring = true;
        camera->configure = (struct sim_urb){ .setup = { 0x00, 9, 1 } };
        sim_camera_quiet(camera->sim, true);
        sim_camera_submit(camera->sim, &camera->configure);
        sim_camera_quiet(camera->sim, false);
        timer_set(&camera->configure_timeout, CONFIGURE_TIMEOUT);
}

static void on_enumeration(void *userdata)
{
        struct usb_inproc_camera *camera = userdata;
        struct usb_inproc *host = camera->host;
        unsigned bus = (unsigned)strtoul(camera->port, NULL, 10) % ELEMENTSOF(host->last_number), *number = &host->last_number[bus];

        if (!camera->attachment) {
                camera->attachment = calloc(1, sizeof(*camera->attachment));
                assert(camera->attachment);
                camera->attachment->references = 1;
                camera->attachment->camera = camera;
                do
                        *number = *number % DEVICE_NUMBER_MAX + 1;
                while (*number == 1 || !number_is_free(host, bus, *number));    /* 1 is the root hub */
                snprintf(camera->attachment->sighting.node, sizeof(camera->attachment->sighting.node), "/dev/bus/usb/%03u/%03u", bus, *number);
                string_at(camera->attachment->sighting.port, sizeof(camera->attachment->sighting.port), camera->port);
        }
        configure(camera);
}

/* - the model's host - */

struct model_timer {
        struct usb_inproc *host;
        struct timer timer;
        void (*fn)(void *arg);
        void *arg;
};

static uint64_t host_now(void *fe)
{
        return loop_now(((struct usb_inproc_camera *)fe)->host->loop);
}

static void on_model_timer(void *userdata)
{
        struct model_timer *timer = userdata;
        void (*fn)(void *) = timer->fn;
        void *arg = timer->arg;

        timer_deinit(&timer->timer);
        timer->host->n_timers--;
        free(timer);
        fn(arg);
}

static void *host_timer(void *fe, uint64_t delay, void (*fn)(void *), void *arg)
{
        struct usb_inproc_camera *camera = fe;
        struct model_timer *timer = calloc(1, sizeof(*timer));

        assert(timer);
        timer->host = camera->host;
        timer->fn = fn;
        timer->arg = arg;
        timer_init(&timer->timer, camera->host->loop, on_model_timer, timer);
        timer_set(&timer->timer, delay);
        camera->host->n_timers++;
        return timer;
}

static void host_cancel_timer(void *fe, void *handle)
{
        struct model_timer *timer = handle;

        timer_deinit(&timer->timer);
        timer->host->n_timers--;
        free(timer);
}

/* - serial ports - */

static void say_on_serial(void *userdata, const uint8_t *bytes, size_t size)
{
        struct usb_inproc_camera *camera = userdata;

        if (camera->serial_user)
                camera->serial_user->said(camera->serial_userdata, bytes, size);
}

static bool serial_is_up(void *userdata)
{
        const struct usb_inproc_camera *camera = userdata;

        return camera->serial_user != NULL;
}

static void on_serial_timer(void *userdata)
{
        struct usb_inproc_camera *camera = userdata;
        struct usb_inproc *host = camera->host;

        snprintf(camera->serial_node, sizeof(camera->serial_node), "/dev/ttyACM%u", host->last_serial++);
        runtime_tty_init(&camera->runtime, host->loop, camera->sim, &camera->config, say_on_serial, serial_is_up, camera);
        if (host->on_serial)
                host->on_serial(host->serial_userdata, camera->port);
}

static void serial_gone(struct usb_inproc_camera *camera)
{
        const struct usb_inproc_serial_user *user = camera->serial_user;

        timer_clear(&camera->serial_timer);
        runtime_tty_deinit(&camera->runtime);
        camera->serial_node[0] = '\0';
        camera->serial_user = NULL;
        if (user)
                user->gone(camera->serial_userdata);
}

void usb_inproc_on_serial(struct usb_inproc *host, usb_inproc_serial_fn fn, void *userdata)
{
        host->on_serial = fn;
        host->serial_userdata = userdata;
}

int usb_inproc_serial_port(struct usb_inproc *host, const char *port, char *node, size_t size)
{
        const struct usb_inproc_camera *camera;

        LIST_FOREACH(camera, &host->cameras, link)
                if (camera->serial_node[0] && strcmp(camera->port, port) == 0 && camera->serial_error != -ENOENT) {
                        snprintf(node, size, "%s", camera->serial_node);
                        return 0;
                }
        return -ENOENT;
}

void usb_inproc_hold_serial(struct usb_inproc_camera *camera, int error)
{
        camera->serial_error = error;
}

bool usb_inproc_serial_is_open(const struct usb_inproc_camera *camera)
{
        return camera->serial_user != NULL;
}

int usb_inproc_serial_open(const char *node, const struct usb_inproc_serial_user *user, void *userdata,
                           struct usb_inproc_camera **ret)
{
        struct usb_inproc_camera *camera;

        LIST_FOREACH(camera, &the_host->cameras, link) {
                if (strcmp(camera->serial_node, node) != 0)
                        continue;
                if (camera->serial_error)
                        return camera->serial_error;
                if (camera->serial_user)
                        return -EBUSY;
                camera->serial_user = user;
                camera->serial_userdata = userdata;
                *ret = camera;
                return 0;
        }
        return -ENOENT;
}

void usb_inproc_serial_write(struct usb_inproc_camera *camera, const void *data, size_t size)
{
        runtime_tty_receive(&camera->runtime, data, size);
}

void usb_inproc_serial_close(struct usb_inproc_camera *camera)
{
        camera->serial_user = NULL;
        camera->serial_userdata = NULL;
        runtime_tty_hang_up(&camera->runtime);
}

/* - hubs - */

void usb_inproc_set_hubs(struct usb_inproc *host, bool one_at_a_time)
{
        host->one_at_a_time = one_at_a_time;
}

static uint64_t enumeration_time(struct usb_inproc_camera *camera)
{
        struct usb_inproc *host = camera->host;
        uint64_t now = loop_now(host->loop);
        char hub[PORT_PATH_MAX];
        char *end;

        if (!host->one_at_a_time)
                return host->enumeration_us;
        snprintf(hub, sizeof(hub), "%s", camera->port);
        end = strrchr(hub, '.') ?: strchr(hub, '-');
        if (end)
                *end = '\0';
        for (size_t i = 0; i < ELEMENTSOF(host->hubs); i++) {
                if (host->hubs[i].name[0] && strcmp(host->hubs[i].name, hub) != 0)
                        continue;
                snprintf(host->hubs[i].name, sizeof(host->hubs[i].name), "%s", hub);
                host->hubs[i].busy_until = MAX(host->hubs[i].busy_until, now) + host->enumeration_us;
                return host->hubs[i].busy_until - now;
        }
        return host->enumeration_us;
}

static void host_connected(void *fe, struct sim_camera *sim)
{
        struct usb_inproc_camera *camera = fe;

        timer_set(&camera->enumeration, enumeration_time(camera));
}

static void host_disconnected(void *fe, struct sim_camera *sim)
{
        struct usb_inproc_camera *camera = fe;
        struct attachment *attachment = camera->attachment;

        timer_clear(&camera->enumeration);
        serial_gone(camera);
        if (!attachment)
                return;
        camera->attachment = NULL;
        attachment->gone = true;
        if (attachment->sighting.n_interfaces > 0)
                queue_event(camera->host, /* added= */ false, attachment, 0);
        attachment_unref(attachment);
}

static void host_trace(void *fe, struct sim_camera *sim, const char *line)
{
        fprintf(stderr, "# %s\n", line);
}

static void request_complete(struct sim_urb *urb, int status, size_t actual);

static void host_complete(void *fe, struct sim_urb *urb, int status, size_t actual)
{
        struct usb_inproc_camera *camera = fe;

        if (urb == &camera->configure)
                on_configured(camera, status);
        else
                request_complete(urb, status, actual);
}

static const struct sim_host silent_host = {
        .now = host_now, .timer = host_timer, .cancel_timer = host_cancel_timer, .connected = host_connected,
        .disconnected = host_disconnected, .complete = host_complete,
};

/* - birth and death - */

int usb_inproc_new(struct loop *loop, struct usb_inproc **ret)
{
        struct usb_inproc *host = calloc(1, sizeof(*host));

        if (!host)
                return -ENOMEM;
        host->loop = loop;
        host->enumeration_us = USB_INPROC_ENUMERATION;
        host->event_us = USB_INPROC_EVENT_DELAY;
        host->queue = USB_QUEUE_MAX;
        host->sim_host = silent_host;
        usb_inproc_set_trace(host, getenv("BENCH_TRACE") != NULL);
        TAILQ_INIT(&host->events);
        LIST_INIT(&host->cameras);
        for (size_t i = 0; i < ELEMENTSOF(host->last_number); i++)
                host->last_number[i] = 1;
        timer_init(&host->event_timer, loop, on_event_due, host);
        the_host = host;
        *ret = host;
        return 0;
}

struct usb_inproc *usb_inproc_free(struct usb_inproc *host)
{
        struct usb_inproc_camera *camera;
        struct event_item *event;

        if (!host)
                return NULL;
        assert(host->n_users == 0);
        while ((camera = LIST_FIRST(&host->cameras))) {
                LIST_REMOVE(camera, link);
                sim_camera_free(camera->sim);
                timer_deinit(&camera->enumeration);
                timer_deinit(&camera->serial_timer);
                runtime_tty_deinit(&camera->runtime);
                timer_deinit(&camera->configure_timeout);
                free(camera);
        }
        while ((event = TAILQ_FIRST(&host->events))) {
                TAILQ_REMOVE(&host->events, event, link);
                event_free(event);
        }
        timer_deinit(&host->event_timer);
        assert(host->n_timers == 0);
        if (the_host == host)
                the_host = NULL;
        free(host);
        return NULL;
}

void usb_inproc_on_event(struct usb_inproc *host, usb_inproc_event_fn fn, void *userdata)
{
        host->on_event = fn;
        host->userdata = userdata;
}

void usb_inproc_set_delays(struct usb_inproc *host, uint64_t enumeration, uint64_t event)
{
        host->enumeration_us = enumeration;
        host->event_us = event;
}

void usb_inproc_set_queue(struct usb_inproc *host, size_t n)
{
        assert(n >= 1 && n <= USB_QUEUE_MAX);
        host->queue = n;
}

void usb_inproc_set_latency(struct usb_inproc *host, uint64_t latency)
{
        host->latency_us = latency;
}

void usb_inproc_watch(struct usb_inproc *host, usb_inproc_watch_fn fn, void *userdata)
{
        host->watch = fn;
        host->watch_userdata = userdata;
}

void usb_inproc_set_trace(struct usb_inproc *host, bool trace)
{
        host->trace = trace;
        host->sim_host.trace = trace ? host_trace : NULL;
}

size_t usb_inproc_enumerate(struct usb_inproc *host, struct sighting *sightings, size_t max)
{
        struct usb_inproc_camera *camera;
        size_t n = 0;

        LIST_FOREACH(camera, &host->cameras, link)
                if (n < max && usb_inproc_sighting(camera, &sightings[n]))
                        n++;
        return n;
}

int usb_inproc_camera_new(struct usb_inproc *host, const struct sim_config *config, struct usb_inproc_camera **ret)
{
        struct usb_inproc_camera *camera = calloc(1, sizeof(*camera));
        int r;

        if (!camera)
                return -ENOMEM;
        camera->host = host;
        r = sim_camera_new(&host->sim_host, camera, config, &camera->sim);
        if (r < 0) {
                free(camera);
                return r;
        }
        camera->config = *config;
        timer_init(&camera->enumeration, host->loop, on_enumeration, camera);
        timer_init(&camera->serial_timer, host->loop, on_serial_timer, camera);
        timer_init(&camera->configure_timeout, host->loop, on_configure_timeout, camera);
        LIST_INSERT_HEAD(&host->cameras, camera, link);
        *ret = camera;
        return 0;
}

struct sim_camera *usb_inproc_sim(struct usb_inproc_camera *camera)
{
        return camera->sim;
}

bool usb_inproc_sighting(const struct usb_inproc_camera *camera, struct sighting *ret)
{
        if (!camera->attachment || !camera->attachment->announced)
                return false;
        if (ret)
                *ret = camera->attachment->sighting;
        return true;
}

/* - a hand, other programs - */

void usb_inproc_port_plug(struct usb_inproc_camera *camera, const char *port)
{
        struct usb_inproc_camera *other;

        assert(!sim_camera_is_powered(camera->sim));
        LIST_FOREACH(other, &camera->host->cameras, link)
                assert(!sim_camera_is_powered(other->sim) || strcmp(other->port, port) != 0);
        string_at(camera->port, sizeof(camera->port), port);
        sim_camera_plug(camera->sim);
}

void usb_inproc_port_unplug(struct usb_inproc_camera *camera)
{
        sim_camera_unplug(camera->sim);
}

const char *usb_inproc_port_of(const struct usb_inproc_camera *camera)
{
        return camera->port;
}

void usb_inproc_port_reset(struct usb_inproc_camera *camera)
{
        if (!camera->attachment)
                return;
        sim_camera_bus_reset(camera->sim);
        if (camera->attachment)
                timer_set(&camera->enumeration, RESET_TIME);
}

int usb_inproc_claim(struct usb_inproc_camera *camera, uint8_t interface, bool claimed)
{
        struct attachment *attachment = camera->attachment;

        if (!attachment)
                return -ENODEV;
        if (claimed && (attachment->claimed_by_us & 1u << interface))
                return -EBUSY;
        if (claimed)
                attachment->claimed_by_others |= 1u << interface;
        else
                attachment->claimed_by_others &= ~(1u << interface);
        return 0;
}

bool usb_inproc_is_open(const struct usb_inproc_camera *camera)
{
        return camera->attachment && camera->attachment->claimed_by_us != 0;
}

void usb_inproc_fail_open(struct usb_inproc_camera *camera, int error, unsigned count)
{
        camera->open_error = error;
        camera->open_errors = count;
}

/* --- io/usb.h --- */

struct usb {
        struct usb_inproc *host;
        unsigned n_open;
        LIST_HEAD(, usb_device) devices;
        LIST_HEAD(, usb_opening) openings;
        void (*on_closed)(void *userdata);
        void *closed_userdata;
};

enum request_state {
        REQUEST_NONE,
        REQUEST_WAITING,                /* behind another one */
        REQUEST_WITH_DEVICE,
        REQUEST_ENDED,                  /* its owner has not been told yet */
};

enum end { END_BY_DEVICE, END_BY_CLOCK, END_BY_OWNER };

/* One control transfer of ours: a request of an open device, or the GET_CONFIGURATION of opening. */
struct request {
        struct sim_urb urb;
        enum request_state state;
        enum end end;
        int status;
        size_t actual;
        struct usb_device *device;      /* NULL: of an opening, whose "later" is called */
        struct defer *later;
        struct usb_setup setup;
        uint64_t timeout;               /* runs from when it is the first in the queue */
        uint64_t told_at;
        usb_done_fn on_done;
        void *userdata;
        uint8_t data[USB_MAX_TRANSFER];
};

struct usb_device {
        struct usb *usb;
        struct attachment *attachment;
        unsigned number;                /* among all openings */
        uint8_t interface;
        struct request requests[USB_QUEUE_MAX]; /* a ring: n of them from first on; at most one is with the device */
        size_t first, n;
        struct timer timeout;           /* of the first in the queue */
        struct defer next;              /* the device is given the next request */
        struct timer tell;              /* the owner hears of the end of the first */
        bool telling, freed;
        LIST_ENTRY(usb_device) link;
};

struct usb_opening {
        struct usb *usb;
        LIST_ENTRY(usb_opening) link;
        struct attachment *attachment;
        uint8_t interface;
        struct request request;
        struct timer deadline, wrap_timeout;
        struct defer later;
        bool abandoned;
        usb_open_fn on_open;
        void *userdata;
        char node[32];
};

static const char *const result_names[_USB_RESULT_MAX] = {
        [USB_OK] = "ok", [USB_STALL] = "stall", [USB_TIMEOUT] = "timeout", [USB_GONE] = "gone",
        [USB_OVERFLOW] = "overflow", [USB_IO] = "io-error", [USB_CANCELLED] = "cancelled",
};

const char *usb_result_to_string(enum usb_result result)
{
        return (int)result >= 0 && result < _USB_RESULT_MAX ? result_names[result] : NULL;
}

int usb_new(struct loop *loop, struct usb **ret)
{
        struct usb *usb;

        assert(the_host && the_host->loop == loop);
        usb = calloc(1, sizeof(*usb));
        if (!usb)
                return -ENOMEM;
        usb->host = the_host;
        usb->host->n_users++;
        *ret = usb;
        return 0;
}

struct usb *usb_free(struct usb *usb)
{
        if (!usb)
                return NULL;
        assert(usb->n_open == 0);
        usb->host->n_users--;
        free(usb);
        return NULL;
}

bool usb_is_idle(const struct usb *usb)
{
        return usb->n_open == 0;
}

bool usb_has_open(const struct usb *usb, const char *node)
{
        const struct usb_opening *opening;
        const struct usb_device *device;

        LIST_FOREACH(opening, &usb->openings, link)
                if (strcmp(opening->node, node) == 0)
                        return true;
        LIST_FOREACH(device, &usb->devices, link)
                if (strcmp(device->attachment->sighting.node, node) == 0)
                        return true;
        return false;
}

void usb_watch_closed(struct usb *usb, void (*fn)(void *userdata), void *userdata)
{
        usb->on_closed = fn;
        usb->closed_userdata = userdata;
}

static void one_less(struct usb *usb)
{
        usb->n_open--;
        if (usb->on_closed)
                usb->on_closed(usb->closed_userdata);
}

static struct request *nth(struct usb_device *device, size_t i)
{
        return &device->requests[(device->first + i) % USB_QUEUE_MAX];
}

static void arm_telling(struct usb_device *device)
{
        const struct request *request = nth(device, 0);
        uint64_t now = loop_now(device->usb->host->loop);

        if (device->n > 0 && request->state == REQUEST_ENDED)
                timer_set(&device->tell, request->told_at > now ? request->told_at - now : 0);
}

static void request_complete(struct sim_urb *urb, int status, size_t actual)
{
        struct request *request = urb->fe_private;
        struct usb_device *device = request->device;

        request->state = REQUEST_ENDED;
        request->status = status;
        request->actual = actual;
        if (!device) {
                defer_call(request->later);
                return;
        }
        request->told_at = loop_now(device->usb->host->loop) + device->usb->host->latency_us;
        /* Endpoint 0 goes on with what is queued, whatever became of this one and before anybody hears of it. */
        defer_call(&device->next);
        arm_telling(device);
}

static void request_fill(struct request *request, const struct usb_setup *setup, const uint8_t *data)
{
        request->urb = (struct sim_urb){ .data = request->data, .fe_private = request, .setup = { setup->request_type, setup->request } };
        put_le16(request->urb.setup + 2, setup->value);
        put_le16(request->urb.setup + 4, setup->index);
        put_le16(request->urb.setup + 6, setup->length);
        if (!(setup->request_type & 0x80) && data)
                memmove(request->data, data, setup->length);
        request->setup = *setup;
        request->state = REQUEST_WAITING;
        request->end = END_BY_DEVICE;
}

static void request_begin(struct request *request, struct attachment *attachment)
{
        if (attachment->gone) {
                request_complete(&request->urb, -ENODEV, 0);
                return;
        }
        request->state = REQUEST_WITH_DEVICE;
        sim_camera_submit(attachment->camera->sim, &request->urb);
}

/* It ends, but who waits is told later. */
static void request_cancel(struct request *request, struct attachment *attachment)
{
        if (request->state == REQUEST_WAITING)
                request_complete(&request->urb, -ENOENT, 0);
        else if (request->state == REQUEST_WITH_DEVICE)
                (void)sim_camera_cancel(attachment->camera->sim, &request->urb);
}

/* - requests of an open device - */

/* The last first: what stands behind does not go out because what stood before it was taken back. */
static void device_cancel(struct usb_device *device)
{
        for (size_t i = device->n; i > 0; i--)
                request_cancel(nth(device, i - 1), device->attachment);
}

static void device_close(struct usb_device *device)
{
        device_cancel(device);
        device->attachment->claimed_by_us &= ~(1u << device->interface);
        attachment_unref(device->attachment);
        timer_deinit(&device->timeout);
        timer_deinit(&device->tell);
        defer_deinit(&device->next);
        LIST_REMOVE(device, link);
        one_less(device->usb);
        free(device);
}

static enum usb_result result_of(const struct request *request)
{
        switch (request->status) {
        case 0:
                return USB_OK;
        case -EPIPE:
                return USB_STALL;
        case -ENOENT:
        case -ECONNRESET:
                return request->end == END_BY_CLOCK ? USB_TIMEOUT : USB_CANCELLED;
        case -ESHUTDOWN:
        case -ENODEV:
                return request->device->attachment->gone ? USB_GONE : USB_IO;
        case -EOVERFLOW:
                return USB_OVERFLOW;
        default:
                return USB_IO;
        }
}

static void watch(const struct usb_device *device, const struct request *request, bool told)
{
        const struct usb_inproc *host = device->usb->host;

        if (host->watch)
                host->watch(host->watch_userdata, device->attachment->camera, device->number, &request->setup, told, told ? result_of(request) : USB_OK,
                            told && request->setup.request_type & 0x80 ? request->data : NULL, told ? request->actual : 0);
}

static void on_next(void *userdata)
{
        struct usb_device *device = userdata;

        for (size_t i = 0; i < device->n; i++) {
                struct request *request = nth(device, i);

                if (request->state == REQUEST_WITH_DEVICE)
                        return;
                if (request->state == REQUEST_WAITING) {
                        request_begin(request, device->attachment);
                        return;
                }
        }
}

static void on_tell(void *userdata)
{
        struct usb_device *device = userdata;

        while (device->n > 0 && nth(device, 0)->state == REQUEST_ENDED &&
               nth(device, 0)->told_at <= loop_now(device->usb->host->loop)) {
                struct request *request = nth(device, 0);
                bool in = request->urb.setup[0] & 0x80;

                timer_clear(&device->timeout);
                request->state = REQUEST_NONE;
                device->first = (device->first + 1) % USB_QUEUE_MAX;
                device->n--;
                if (device->n > 0)
                        timer_set(&device->timeout, nth(device, 0)->timeout);

                watch(device, request, /* told= */ true);
                device->telling = true;
                request->on_done(request->userdata, result_of(request), in ? request->data : NULL, request->actual);
                device->telling = false;
                if (device->freed) {
                        device_close(device);
                        return;
                }
        }
        arm_telling(device);
}

static void on_timeout(void *userdata)
{
        struct usb_device *device = userdata;

        for (size_t i = 0; i < device->n; i++) {
                struct request *request = nth(device, i);

                if (request->end == END_BY_DEVICE)
                        request->end = i == 0 ? END_BY_CLOCK : END_BY_OWNER;
        }
        device_cancel(device);
}

int usb_submit(struct usb_device *device, const struct usb_setup *setup, const uint8_t *data,
               uint64_t timeout, usb_done_fn on_done, void *userdata)
{
        bool in = setup->request_type & 0x80;
        struct request *request;

        assert(!device->freed);
        if (device->n >= device->usb->host->queue)
                return -EBUSY;
        if (setup->length > USB_MAX_TRANSFER || timeout == 0 || (!in && setup->length > 0 && !data))
                return -EINVAL;
        request = nth(device, device->n++);
        request_fill(request, setup, data);
        request->device = device;
        request->on_done = on_done;
        request->userdata = userdata;
        request->timeout = timeout;
        if (device->n == 1)
                timer_set(&device->timeout, timeout);
        watch(device, request, /* told= */ false);
        on_next(device);
        return 0;
}

void usb_cancel(struct usb_device *device)
{
        for (size_t i = 0; i < device->n; i++)
                if (nth(device, i)->end == END_BY_DEVICE)
                        nth(device, i)->end = END_BY_OWNER;
        device_cancel(device);
}

struct usb_device *usb_device_free(struct usb_device *device)
{
        if (!device)
                return NULL;
        assert(!device->freed);
        device->freed = true;
        if (!device->telling)
                device_close(device);
        return NULL;
}

/* - openings - */

static void opening_end(struct usb_opening *opening, int error, struct usb_device *device)
{
        usb_open_fn on_open = opening->on_open;
        void *userdata = opening->userdata;
        bool abandoned = opening->abandoned;

        LIST_REMOVE(opening, link);
        if (error < 0)
                one_less(opening->usb);
        if (opening->attachment)
                attachment_unref(opening->attachment);
        timer_deinit(&opening->deadline);
        timer_deinit(&opening->wrap_timeout);
        defer_deinit(&opening->later);
        free(opening);
        if (!abandoned)
                on_open(userdata, error, device);
        else if (device)
                usb_device_free(device);
}

/* The node is open and wrapped: claim. */
static void opening_claim(struct usb_opening *opening)
{
        struct attachment *attachment = opening->attachment;
        uint32_t bit = 1u << opening->interface;
        struct usb_device *device;
        int error = 0;

        if (attachment->gone)
                error = -ENODEV;
        else if (opening->abandoned)
                error = -ECANCELED;
        else if (opening->interface >= attachment->sighting.n_interfaces)
                error = -ENXIO;
        else if ((attachment->claimed_by_others | attachment->claimed_by_us | attachment->bound) & bit)
                error = -EBUSY;
        if (error < 0) {
                opening_end(opening, error, NULL);
                return;
        }
        device = calloc(1, sizeof(*device));
        assert(device);
        device->usb = opening->usb;
        device->number = ++opening->usb->host->n_openings;
        device->attachment = attachment_ref(attachment);
        device->interface = opening->interface;
        LIST_INSERT_HEAD(&device->usb->devices, device, link);
        attachment->claimed_by_us |= bit;
        timer_init(&device->timeout, opening->usb->host->loop, on_timeout, device);
        timer_init(&device->tell, opening->usb->host->loop, on_tell, device);
        defer_init(&device->next, opening->usb->host->loop, on_next, device);
        opening_end(opening, 0, device);
}

static struct usb_inproc_camera *camera_at(struct usb_inproc *host, const char *node)
{
        struct usb_inproc_camera *camera;

        LIST_FOREACH(camera, &host->cameras, link)
                if (camera->attachment && strcmp(camera->attachment->sighting.node, node) == 0)
                        return camera;
        return NULL;
}

static void on_opening(void *userdata)
{
        struct usb_opening *opening = userdata;
        struct usb_inproc_camera *camera;

        if (opening->request.state == REQUEST_ENDED) {
                /* Whatever it said: libusb goes on without an answer. */
                opening_claim(opening);
                return;
        }
        camera = camera_at(opening->usb->host, opening->node);
        if (!camera) {
                opening_end(opening, -ENOENT, NULL);
                return;
        }
        if (camera->open_errors > 0) {
                camera->open_errors--;
                opening_end(opening, camera->open_error, NULL);
                return;
        }
        opening->attachment = attachment_ref(camera->attachment);
        timer_set(&opening->wrap_timeout, WRAP_TIMEOUT);
        request_fill(&opening->request, &(struct usb_setup){ .request_type = 0x80, .request = 8, .length = 1 }, NULL);
        request_begin(&opening->request, opening->attachment);
}

static void on_wrap_timeout(void *userdata)
{
        struct usb_opening *opening = userdata;

        request_cancel(&opening->request, opening->attachment);
}

static void on_deadline(void *userdata)
{
        struct usb_opening *opening = userdata;

        opening->abandoned = true;
        opening->on_open(opening->userdata, -ETIMEDOUT, NULL);
}

int usb_open(struct usb *usb, const char *node, uint8_t interface, uint64_t deadline,
             usb_open_fn on_open, void *userdata, struct usb_opening **ret)
{
        struct usb_opening *opening = calloc(1, sizeof(*opening));

        if (!opening)
                return -ENOMEM;
        opening->usb = usb;
        opening->interface = interface;
        opening->on_open = on_open;
        opening->userdata = userdata;
        opening->request.later = &opening->later;
        string_at(opening->node, sizeof(opening->node), node);
        timer_init(&opening->deadline, usb->host->loop, on_deadline, opening);
        timer_init(&opening->wrap_timeout, usb->host->loop, on_wrap_timeout, opening);
        defer_init(&opening->later, usb->host->loop, on_opening, opening);
        timer_set(&opening->deadline, deadline);
        defer_call(&opening->later);
        usb->n_open++;
        LIST_INSERT_HEAD(&usb->openings, opening, link);
        *ret = opening;
        return 0;
}

struct usb_opening *usb_opening_cancel(struct usb_opening *opening)
{
        if (!opening)
                return NULL;
        opening->abandoned = true;
        timer_clear(&opening->deadline);
        return NULL;
}

/* SPDX-License-Identifier: MIT */

/* See world.h. */

#include "sim/world.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sim/kernel.h"

#define FREE_BUSES 63U
#define FREE_PORTS 15U
#define LATE (10 * MSEC)                /* what is told */

struct world_timer {
        struct timer timer;
        struct world_camera *camera;
        uint64_t due;
        void (*fn)(void *arg);
        void *arg;
        LIST_ENTRY(world_timer) link;   /* in camera->timers */
};

struct world {
        struct loop *loop;
        struct kernel *kernel;
        struct world_options options;
        void (*on_change)(void *userdata);
        void *userdata;
        FILE *trace;
        uint64_t started;
        TAILQ_HEAD(, world_camera) cameras;
};

DEFINE_FREEP(world)

void world_changed(struct world *world)
{
        if (world->on_change)
                world->on_change(world->userdata);
}

struct loop *world_loop(const struct world *world)
{
        return world->loop;
}

bool world_is_real(const struct world *world)
{
        return world->kernel->ops->real;
}

bool world_is_traced(const struct world *world)
{
        return world->trace != NULL;
}

void world_trace(struct world *world, const char *name, const char *line)
{
        uint64_t now;

        if (!world->trace)
                return;
        now = loop_now(world->loop) - world->started;
        (void)fprintf(world->trace, "%8" PRIu64 ".%06" PRIu64 " %-10s %s\n", now / SEC, now % SEC, name, line);
}

bool world_is_below(const char *path, const char *hub)
{
        size_t n = strlen(hub);

        if (strncmp(path, hub, n) != 0)
                return false;
        return path[n] == 0 || path[n] == (strchr(hub, '-') ? '.' : '-');
}

/* A fault of the model may have pulled the cable. */
static bool is_plugged(const struct world_camera *camera)
{
        return camera->plugged && sim_camera_is_powered(camera->model);
}

struct world_camera *world_camera_at(struct world *world, const char *port)
{
        struct world_camera *camera;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if ((is_plugged(camera) || timer_is_set(&camera->replug)) && strcmp(camera->port, port) == 0)
                        return camera;
        return NULL;
}

/* --- the model's host --- */

static uint64_t host_now(void *fe)
{
        struct world_camera *camera = fe;

        return loop_now(camera->world->loop);
}

/* A camera has a processor of its own and is never late.  This one shares the machine's, and who measures it has to know. */
static void tell_lateness(struct world_timer *timer)
{
        struct world_camera *camera = timer->camera;
        uint64_t now = loop_now(camera->world->loop);
        char line[40];

        if (!camera->world->trace || now < timer->due + LATE)
                return;
        (void)snprintf(line, sizeof(line), "late by %" PRIu64 " ms", (now - timer->due) / MSEC);
        world_trace(camera->world, camera->name, line);
}

static void on_host_timer(void *userdata)
{
        struct world_timer *timer = userdata;
        void (*fn)(void *arg) = timer->fn;
        struct world *world = timer->camera->world;
        void *arg = timer->arg;

        tell_lateness(timer);
        LIST_REMOVE(timer, link);
        timer_deinit(&timer->timer);
        free(timer);
        fn(arg);
        world_changed(world);
}

static void *host_timer(void *fe, uint64_t delay, void (*fn)(void *arg), void *arg)
{
        struct world_camera *camera = fe;
        struct world_timer *timer = calloc(1, sizeof(*timer));

        if (!timer)
                abort();                /* a simulation without memory is no simulation */
        timer->camera = camera;
        timer->due = loop_now(camera->world->loop) + delay;
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
        struct kernel *kernel = camera->world->kernel;

        kernel->ops->connected(kernel, camera);
}

static void host_disconnected(void *fe, struct sim_camera *model)
{
        struct world_camera *camera = fe;
        struct kernel *kernel = camera->world->kernel;

        kernel->ops->disconnected(kernel, camera);
}

static void host_complete(void *fe, struct sim_urb *urb, int status, size_t actual)
{
        struct world_camera *camera = fe;
        struct kernel *kernel = camera->world->kernel;

        kernel->ops->complete(kernel, camera, urb, status, actual);
        world_changed(camera->world);
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

        (void)world_plug(camera, camera->asked);
}

static void camera_free(struct world_camera *camera)
{
        struct world_timer *timer;

        if (camera->model)
                (void)world_unplug(camera);
        camera->world->kernel->ops->forget(camera->world->kernel, camera);
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

static int first_free_port(struct world *world, char path[static WORLD_PORT_SIZE])
{
        char port[WORLD_PORT_SIZE];

        for (unsigned bus = 1; bus <= FREE_BUSES; bus++)
                for (unsigned i = 1; i <= FREE_PORTS; i++) {
                        struct world_camera *camera;
                        bool used = false;

                        (void)snprintf(path, WORLD_PORT_SIZE, "%u-%u", bus, i);
                        TAILQ_FOREACH(camera, &world->cameras, link)
                                used |= strcmp(camera->asked, path) == 0 || strcmp(camera->port, path) == 0;
                        if (!used && world->kernel->ops->find_port(world->kernel, path, port) >= 0)
                                return 0;
                }
        return -ENOSPC;
}

/* May camera be plugged in there? */
static int find_port(struct world_camera *camera, const char *path, char port[static WORLD_PORT_SIZE])
{
        struct kernel *kernel = camera->world->kernel;
        struct world_camera *other;
        int r;

        r = kernel->ops->find_port(kernel, path, port);
        if (r < 0)
                return r;
        other = world_camera_at(camera->world, port);
        return other && other != camera ? -EEXIST : 0;
}

int world_plug(struct world_camera *camera, const char *path)
{
        struct world *world = camera->world;
        char asked[WORLD_PORT_SIZE], port[WORLD_PORT_SIZE];
        int r;

        if (is_plugged(camera))
                return -EBUSY;
        if (path || *camera->asked) {
                (void)snprintf(asked, sizeof(asked), "%s", path ?: camera->asked);
        } else {
                r = first_free_port(world, asked);
                if (r < 0)
                        return r;
        }
        r = find_port(camera, asked, port);
        if (r >= 0)
                r = world->kernel->ops->prepare_port(world->kernel, port);
        if (r < 0)
                return r;

        timer_clear(&camera->replug);
        memcpy(camera->asked, asked, sizeof(asked));
        memcpy(camera->port, port, sizeof(port));
        camera->plugged = true;
        camera->hub_off = false;
        world_trace(world, camera->name, "plugged in");
        sim_camera_plug(camera->model);
        world_changed(world);
        return 0;
}

int world_unplug(struct world_camera *camera)
{
        struct kernel *kernel = camera->world->kernel;

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
        kernel->ops->unplugged(kernel, camera);
        world_changed(camera->world);
        return 0;
}

int world_replug(struct world_camera *camera, const char *path, uint64_t gap)
{
        char port[WORLD_PORT_SIZE];
        int r;

        if (path) {
                r = find_port(camera, path, port);
                if (r < 0)
                        return r;
        }
        r = world_unplug(camera);
        if (r < 0 && !*camera->port)
                return r;
        if (path) {
                (void)snprintf(camera->asked, sizeof(camera->asked), "%s", path);
                memcpy(camera->port, port, sizeof(port));
        }
        timer_set(&camera->replug, gap);
        return 0;
}

int world_hub_off(struct world *world, const char *path)
{
        struct world_camera *camera;
        bool any = false;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if (is_plugged(camera) && world_is_below(camera->asked, path)) {
                        (void)world_unplug(camera);
                        camera->hub_off = true;
                        any = true;
                }
        any |= world->kernel->ops->hub_off(world->kernel, path) > 0;
        return any ? 0 : -ENODEV;
}

int world_hub_on(struct world *world, const char *path)
{
        struct world_camera *camera;
        int r;

        TAILQ_FOREACH(camera, &world->cameras, link)
                if (camera->hub_off && world_is_below(camera->asked, path)) {
                        r = world_plug(camera, camera->asked);
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

static struct kernel_view look(const struct world_camera *camera)
{
        struct kernel_view view = { 0 };

        camera->world->kernel->ops->look(camera->world->kernel, camera, &view);
        return view;
}

bool world_camera_is_announced(const struct world_camera *camera)
{
        return look(camera).announced;
}

bool world_camera_is_forgotten(const struct world_camera *camera)
{
        const struct kernel_view view = look(camera);

        return !view.announced && !view.departing;
}

bool world_camera_is_given_up(const struct world_camera *camera)
{
        return look(camera).given_up;
}

uint64_t world_camera_announced_at(const struct world_camera *camera)
{
        return look(camera).announced_at;
}

bool world_camera_is_configured(const struct world_camera *camera)
{
        return look(camera).configured;
}

unsigned world_camera_device_number(const struct world_camera *camera)
{
        return look(camera).device;
}

unsigned world_camera_bus_number(const struct world_camera *camera)
{
        return look(camera).bus;
}

const char *world_camera_tty(const struct world_camera *camera)
{
        return look(camera).tty;
}

bool world_camera_tty_is_open(const struct world_camera *camera)
{
        return look(camera).tty_open;
}

unsigned world_camera_open_files(const struct world_camera *camera)
{
        return camera->world->kernel->ops->open_files(camera->world->kernel, camera);
}

void world_camera_fail_enumeration(struct world_camera *camera, int count, unsigned tries)
{
        camera->fail_enumeration = count;
        camera->fail_tries = tries;
}

unsigned world_camera_refused(const struct world_camera *camera)
{
        return camera->refused;
}

void world_camera_refuse_open(struct world_camera *camera, int error)
{
        camera->refuse_open = error;
        camera->refused = 0;
}

int world_camera_hold(struct world_camera *camera, uint8_t interface, bool hold)
{
        int r;

        if (interface >= WORLD_INTERFACES_MAX)
                return -EINVAL;
        r = camera->world->kernel->ops->hold(camera->world->kernel, camera, interface, hold);
        if (r < 0)
                return r;
        camera->hold[interface] = hold;
        return 0;
}

void world_camera_repeat_events(struct world_camera *camera, unsigned times)
{
        camera->event_times = times;
}

int world_overflow(struct world *world)
{
        return world->kernel->ops->overflow ? world->kernel->ops->overflow(world->kernel) : -EOPNOTSUPP;
}

/* --- the world --- */

struct world_options *world_options(struct world *world)
{
        return &world->options;
}

struct sim_kernel_log *world_kernel_log(struct world *world)
{
        return world->kernel->log;
}

void world_trace_to(struct world *world, FILE *f)
{
        if (world->trace)
                (void)fclose(world->trace);
        world->trace = f;
        if (f)
                (void)setvbuf(f, NULL, _IOLBF, 0);
}

int world_new(struct loop *loop, struct kernel *kernel, void (*on_change)(void *userdata), void *userdata, struct world **ret)
{
        _cleanup_(world_freep) struct world *world = NULL;
        int r;

        world = calloc(1, sizeof(*world));
        if (!world) {
                (void)kernel->ops->free(kernel);
                return -ENOMEM;
        }
        TAILQ_INIT(&world->cameras);
        world->loop = loop;
        world->kernel = kernel;
        world->on_change = on_change;
        world->userdata = userdata;
        world->started = loop_now(loop);
        world->options = (struct world_options){ .debounce = 100, .enumerate = 250, .udev = 10, .notice = 30, .uevents = true, .order = 1,
                                                    .window = 1 };
        kernel->world = world;
        r = kernel->ops->start(kernel);
        if (r < 0)
                return r;
        *ret = take_ptr(world);
        return 0;
}

struct world *world_free(struct world *world)
{
        struct world_camera *camera;

        if (!world)
                return NULL;
        world->on_change = NULL;
        while ((camera = TAILQ_FIRST(&world->cameras))) {
                TAILQ_REMOVE(&world->cameras, camera, link);
                camera_free(camera);
        }
        world->kernel = world->kernel->ops->free(world->kernel);
        world_trace_to(world, NULL);
        free(world);
        return NULL;
}

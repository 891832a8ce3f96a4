/* SPDX-License-Identifier: MIT */
/*
 * Start-up is a story: read what is known of boards, remember what was going
 * on, export it on the bus and take the name, then listen and look for devices,
 * and say ready.  The end is the same backwards: stop at safe boundaries, let
 * go of devices as they are, write down what is left to write.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/loop.h"
#include "config.h"
#include "core/board.h"
#include "core/journal.h"
#include "core/registry.h"
#include "core/store.h"
#include "daemon.h"
#include "edge/bus.h"
#include "edge/device-monitor.h"
#include "edge/kernel-log.h"
#include "edge/sleep.h"
#include "io/usb.h"

#define STOP_DEADLINE (8 * SEC)         /* the longest erase unit's erase and program, and some */
#define STOP_INTERVAL (20 * MSEC)       /* of looking whether everything has let go, while stopping only */

struct daemon {
        struct loop *loop;
        struct config config;
        struct board_list boards;
        struct journal *journal;
        struct store *store;
        struct usb *usb;
        struct registry *registry;
        struct bus *bus;
        struct sleep *sleep;
        struct device_monitor *monitor;
        struct kernel_log *kernel_log;  /* NULL: devices that do not answer are not seen */
        struct timer watchdog;
        struct timer stopping;
        struct timer idle;              /* [daemon] exit-on-idle= */
        struct defer status;            /* once for all that changed in a round */
        const char *configuration;
        uint64_t watchdog_interval;
        uint64_t stop_at;
        bool stop_asked, torn_down;
        int result;
        size_t told_attached, told_working;
};

/* --- systemd --- */

static void on_watchdog(void *userdata)
{
        struct daemon *daemon = userdata;

        (void)sd_notify(/* unset_environment= */ 0, "WATCHDOG=1");
        timer_set(&daemon->watchdog, daemon->watchdog_interval);
}

static void await_idleness(struct daemon *daemon)
{
        if (daemon->stop_asked || daemon->config.exit_on_idle == 0 || !daemon->registry || !registry_is_idle(daemon->registry))
                timer_clear(&daemon->idle);
        else
                timer_set(&daemon->idle, daemon->config.exit_on_idle);
}

static void tell_status(void *userdata)
{
        struct daemon *daemon = userdata;
        size_t attached = registry_attached(daemon->registry), working = registry_working(daemon->registry);

        await_idleness(daemon);
        if (attached == daemon->told_attached && working == daemon->told_working)
                return;
        daemon->told_attached = attached;
        daemon->told_working = working;
        (void)sd_notifyf(0, "STATUS=%zu attached, %zu being worked on", attached, working);
}

/* A camera that comes changes several times, and a hundred come at once: the manager is not told of each. */
static void on_camera(void *userdata, struct camera *camera)
{
        struct daemon *daemon = userdata;

        (void)camera;
        defer_call(&daemon->status);
}

static const struct registry_observer status_observer = {
        .on_camera_changed = on_camera,
        .on_camera_removed = on_camera,
};

/* --- the end --- */

static void tear_down(struct daemon *daemon)
{
        if (daemon->torn_down)
                return;
        daemon->torn_down = true;
        daemon->kernel_log = kernel_log_free(daemon->kernel_log);
        daemon->monitor = device_monitor_free(daemon->monitor);
        daemon->sleep = sleep_free(daemon->sleep);
        daemon->bus = bus_free(daemon->bus);
        if (daemon->registry)
                registry_unobserve(daemon->registry, &status_observer);
        defer_deinit(&daemon->status);
        daemon->registry = registry_free(daemon->registry);
}

/* First every session comes to a safe boundary, and who waits for the disk has his answer; then the helper threads that close devices and
 * write files end. */
static void on_stopping(void *userdata)
{
        struct daemon *daemon = userdata;
        bool late = loop_now(daemon->loop) >= daemon->stop_at;
        bool stopped = daemon->torn_down || late ? usb_is_idle(daemon->usb) : registry_stop(daemon->registry);

        if (!daemon->torn_down && (late || (stopped && !bus_owes_answers(daemon->bus)))) {
                if (!stopped)
                        log_warning("a device did not come to a safe boundary in time: letting go of it as it is");
                tear_down(daemon);
                daemon->stop_at = loop_now(daemon->loop) + STOP_DEADLINE;
                late = false;
        }
        if (daemon->torn_down && late) {
                /* A helper thread hangs in the kernel, and would for ever.  All that was to be written was, meanwhile. */
                log_error("a device or a disk does not let go: ending without it");
                _exit(EXIT_FAILURE);
        }
        if (daemon->torn_down && loop_pending_work(daemon->loop) == 0 && usb_is_idle(daemon->usb)) {
                loop_exit(daemon->loop, daemon->result);
                return;
        }
        timer_set(&daemon->stopping, STOP_INTERVAL);
}

static void stop(struct daemon *daemon, int result)
{
        if (daemon->stop_asked) {
                /* At once, but for threads that are closing devices: they know our memory. */
                if (!daemon->torn_down) {
                        log_warning("asked to stop again: letting go of devices as they are");
                        daemon->stop_at = 0;
                        timer_set(&daemon->stopping, 0);
                }
                return;
        }
        daemon->stop_asked = true;
        daemon->result = result;
        daemon->stop_at = loop_now(daemon->loop) + STOP_DEADLINE;
        log_info("stopping");
        (void)sd_notify(0, "STOPPING=1");
        timer_set(&daemon->stopping, 0);
}

/* Nobody is there, and nobody has asked anything for long: the bus or a camera starts us again. */
static void on_idle(void *userdata)
{
        struct daemon *daemon = userdata;

        if (!registry_is_idle(daemon->registry) || !bus_leave_name(daemon->bus)) {
                await_idleness(daemon);
                return;
        }
        log_info("nobody is there: ending until I am needed");
        stop(daemon, 0);
}

static void on_terminate(void *userdata)
{
        stop(userdata, 0);
}

static void on_bus_lost(void *userdata)
{
        stop(userdata, -ECONNRESET);
}

static void on_question(void *userdata)
{
        await_idleness(userdata);
}

/* --- configuration --- */

static unsigned reload(void *userdata)
{
        struct daemon *daemon = userdata;
        struct config config;
        unsigned wrong;

        wrong = config_load(&config, daemon->configuration);
        wrong += config_check_pins(&config, &daemon->boards);
        config_free(&daemon->config);
        daemon->config = config;
        store_set_quota(daemon->store, config.saved_quota);
        registry_reconfigure(daemon->registry, config.automatic);
        bus_manager_changed(daemon->bus);
        await_idleness(daemon);
        log_info("configuration read anew: %zu files, %u wrong lines, automatic recovery %s", config.n_files, wrong,
                 config.automatic ? "on" : "off");
        return wrong;
}

static void on_hangup(void *userdata)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, (uint64_t)now.tv_sec * SEC + (uint64_t)now.tv_nsec / 1000);
        (void)reload(userdata);
        (void)sd_notify(0, "READY=1");
}

static const struct bus_events bus_events = {
        .on_lost = on_bus_lost,
        .on_question = on_question,
        .on_reload = reload,
};

/* --- devices --- */

static bool is_interesting(void *userdata, uint16_t vendor, uint16_t product)
{
        struct daemon *daemon = userdata;
        const struct board *board;

        return board_classify(&daemon->boards, vendor, product, &board) != USB_ROLE_NONE;
}

static void on_seen(void *userdata, const struct sighting *sighting)
{
        struct daemon *daemon = userdata;

        registry_seen(daemon->registry, sighting);
}

static void on_gone(void *userdata, const char *port)
{
        struct daemon *daemon = userdata;

        registry_gone(daemon->registry, port);
}

static void on_serial_port(void *userdata, const char *port)
{
        struct daemon *daemon = userdata;

        registry_serial_port(daemon->registry, port);
}

static void on_other(void *userdata, const char *port, bool there)
{
        struct daemon *daemon = userdata;

        if (there)
                registry_answers(daemon->registry, port);
        else
                registry_below_gone(daemon->registry, port);
}

static int serial_port(void *userdata, const char *port, char *node, size_t size)
{
        (void)userdata;
        return device_monitor_serial_port(port, node, size);
}

static const struct device_monitor_callbacks monitor_callbacks = {
        .is_interesting = is_interesting,
        .on_seen = on_seen,
        .on_gone = on_gone,
        .on_serial_port = on_serial_port,
        .on_other = on_other,
};

/* "3-1.4" hangs on hub "3-1", "3-1" on root hub "usb3": that one's directory, and name in it.  false: no port. */
static bool hub_path(const char *port, const char *name, char *path, size_t size)
{
        char hub[PORT_PATH_MAX];
        bool root = !strchr(port, '.');
        char *end;

        snprintf(hub, sizeof(hub), "%s", port);
        end = strrchr(hub, root ? '-' : '.');
        if (!end)
                return false;
        *end = '\0';
        snprintf(path, size, "/sys/bus/usb/devices/%s%s/%s", root ? "usb" : "", hub, name);
        return true;
}

static bool hub_is_there(void *userdata, const char *port)
{
        char path[128];

        (void)userdata;
        return !hub_path(port, "", path, sizeof(path)) || access(path, F_OK) == 0;
}

/* --- the kernel's log --- */

/* No camera is one: a port of such a hub is the other half of a connector, where a device that is slower answers. */
static bool hub_is_super_speed(const char *port)
{
        _cleanup_close_ int fd = -1;
        char path[128], speed[16] = "";

        if (!hub_path(port, "speed", path, sizeof(path)))
                return false;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        return fd >= 0 && read(fd, speed, sizeof(speed) - 1) > 0 && strtoul(speed, NULL, 10) >= 5000;
}

static bool is_enumerated(const char *port)
{
        char path[128];

        snprintf(path, sizeof(path), "/sys/bus/usb/devices/%s", port);
        return access(path, F_OK) == 0;
}

static void on_gave_up(void *userdata, const char *port, const char *why, unsigned times, uint64_t age)
{
        struct daemon *daemon = userdata;

        /* What the log says may be older than what is there. */
        if (hub_is_there(daemon, port) && !hub_is_super_speed(port) && !is_enumerated(port))
                registry_unreadable(daemon->registry, port, why, times, age);
}

static void on_enumerated(void *userdata, const char *port)
{
        struct daemon *daemon = userdata;

        registry_answers(daemon->registry, port);
}

static void on_left(void *userdata, const char *port)
{
        struct daemon *daemon = userdata;

        registry_below_gone(daemon->registry, port);
}

static const struct kernel_log_callbacks kernel_log_callbacks = {
        .on_gave_up = on_gave_up,
        .on_enumerated = on_enumerated,
        .on_left = on_left,
};

/* Without it everything else goes on. */
static void read_kernel_log(struct daemon *daemon, const char *path)
{
        int r;

        if (!path)
                return;
        r = kernel_log_new(daemon->loop, path, UNREADABLE_STAYS, &kernel_log_callbacks, daemon, &daemon->kernel_log);
        if (r < 0)
                log_warning("cannot read the kernel's log %s: devices that do not answer are not seen (%s)",
                            strcmp(path, "-") == 0 ? "on standard input" : path,
                            r == -ENODEV ? "it is not /dev/kmsg" : strerror(-r));
}

static int automatic_of_camera(void *userdata, const char *key, const char *serial, const char *port)
{
        struct daemon *daemon = userdata;

        return config_camera_automatic(&daemon->config, key, serial, port);
}

static const char *pin_of_board(void *userdata, const char *board_id)
{
        struct daemon *daemon = userdata;

        return config_pin(&daemon->config, board_id);
}

/* --- birth and death --- */

static int start(struct daemon *daemon, const struct daemon_options *options)
{
        struct session_context context;
        struct registry_settings settings;
        int r;

        r = loop_new(&daemon->loop);
        if (r < 0) {
                log_error("cannot make an event loop: %s", strerror(-r));
                return r;
        }
        timer_init(&daemon->watchdog, daemon->loop, on_watchdog, daemon);
        timer_init(&daemon->stopping, daemon->loop, on_stopping, daemon);
        timer_init(&daemon->idle, daemon->loop, on_idle, daemon);
        defer_init(&daemon->status, daemon->loop, tell_status, daemon);

        daemon->configuration = options->configuration;
        (void)config_load(&daemon->config, options->configuration);    /* what was wrong was said; the defaults hold */
        r = board_list_load(&daemon->boards, options->boards_directory);
        if (r < 0) {
                log_error("no usable board file in %s: %s", options->boards_directory, strerror(-r));
                return r;
        }
        (void)config_check_pins(&daemon->config, &daemon->boards);
        r = journal_open(daemon->loop, options->state_directory, &daemon->journal);
        if (r < 0) {
                log_error("cannot use the state directory %s: %s", options->state_directory, strerror(-r));
                return r;
        }
        r = store_new(daemon->loop, daemon->journal, options->state_directory, daemon->config.saved_quota, &daemon->store);
        if (r < 0) {
                log_error("cannot use the firmware store in %s: %s", options->state_directory, strerror(-r));
                return r;
        }
        r = usb_new(daemon->loop, &daemon->usb);
        if (r < 0) {
                log_error("cannot use libusb: %s", strerror(-r));
                return r;
        }
        context = (struct session_context){
                .loop = daemon->loop, .usb = daemon->usb, .store = daemon->store, .journal = daemon->journal,
                .boards = &daemon->boards, .pin = pin_of_board, .pin_userdata = daemon,
        };
        settings = (struct registry_settings){
                .automatic = daemon->config.automatic, .camera_automatic = automatic_of_camera,
                .hub_is_there = hub_is_there, .serial_port = serial_port, .userdata = daemon,
        };
        r = registry_new(&context, &settings, &daemon->registry);
        if (r >= 0)
                r = registry_load(daemon->registry);
        if (r >= 0)
                r = registry_observe(daemon->registry, &status_observer, daemon);
        if (r < 0) {
                log_error("cannot load what is known of cameras: %s", strerror(-r));
                return r;
        }
        r = bus_new(daemon->loop, daemon->registry, options->bus_address, &bus_events, daemon, &daemon->bus);
        if (r < 0) {
                log_error("cannot connect to the bus: %s", strerror(-r));
                return r;
        }
        /* Before anybody knows that it is there, and tells it something. */
        r = loop_on_signal(daemon->loop, SIGTERM, on_terminate, daemon);
        if (r >= 0)
                r = loop_on_signal(daemon->loop, SIGINT, on_terminate, daemon);
        if (r >= 0)
                r = loop_on_signal(daemon->loop, SIGHUP, on_hangup, daemon);
        if (r < 0) {
                log_error("cannot wait for signals: %s", strerror(-r));
                return r;
        }
        r = bus_take_name(daemon->bus);
        if (r < 0) {
                log_error("cannot take the name %s: %s", BUS_NAME, r == -EEXIST ? "another camrescued runs" : strerror(-r));
                return r;
        }
        r = sleep_new(daemon->bus, &daemon->sleep);
        if (r < 0) {
                log_error("cannot ask for word of the host's sleep: %s", strerror(-r));
                return r;
        }
        r = device_monitor_new(daemon->loop, &monitor_callbacks, daemon, &daemon->monitor);
        if (r >= 0)
                r = device_monitor_start(daemon->monitor);
        if (r < 0) {
                log_error("cannot watch for devices: %s", strerror(-r));
                return r;
        }
        read_kernel_log(daemon, options->kernel_log);
        return 0;
}

int daemon_check_configuration(const struct daemon_options *options)
{
        _cleanup_free_ struct board_list *boards = calloc(1, sizeof(*boards));
        struct config config;
        unsigned wrong;
        int r;

        if (!boards)
                return -ENOMEM;
        r = board_list_load(boards, options->boards_directory);
        if (r < 0) {
                log_error("no usable board file in %s: %s", options->boards_directory, strerror(-r));
                return r;
        }
        wrong = config_load(&config, options->configuration);
        wrong += config_check_pins(&config, boards);
        if (options->configuration_named && access(options->configuration, F_OK) < 0) {
                log_error("%s: %s", options->configuration, strerror(errno));
                wrong++;
        }
        if (wrong == 0)
                log_info("%zu files, nothing wrong", config.n_files);
        config_free(&config);
        return (int)wrong;
}

int daemon_new(const struct daemon_options *options, struct daemon **ret)
{
        struct daemon *daemon = calloc(1, sizeof(*daemon));
        uint64_t watchdog;
        int r;

        if (!daemon)
                return -ENOMEM;
        daemon->told_attached = SIZE_MAX;
        config_init(&daemon->config);
        r = start(daemon, options);
        if (r < 0) {
                daemon_free(daemon);
                return r;
        }
        if (sd_watchdog_enabled(/* unset_environment= */ 0, &watchdog) > 0) {
                daemon->watchdog_interval = watchdog / 2;
                on_watchdog(daemon);
        }
        tell_status(daemon);
        (void)sd_notify(0, "READY=1");
        log_info("ready: %zu boards, %zu images in the store, automatic recovery %s", daemon->boards.n,
                 store_count(daemon->store), daemon->config.automatic ? "on" : "off");
        *ret = daemon;
        return 0;
}

struct daemon *daemon_free(struct daemon *daemon)
{
        if (!daemon)
                return NULL;
        tear_down(daemon);
        if (daemon->loop) {
                timer_deinit(&daemon->watchdog);
                timer_deinit(&daemon->stopping);
                timer_deinit(&daemon->idle);
        }
        daemon->usb = usb_free(daemon->usb);
        daemon->store = store_free(daemon->store);
        daemon->journal = journal_close(daemon->journal);
        daemon->loop = loop_free(daemon->loop);
        config_free(&daemon->config);
        free(daemon);
        return NULL;
}

int daemon_run(struct daemon *daemon)
{
        return loop_run(daemon->loop);
}

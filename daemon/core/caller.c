/* SPDX-License-Identifier: MIT */
/*
 * Calls: see caller.h.  A call waits for its turn, for its port, for the port to be free, talks, and then
 * waits, as long as its camera's state says so, for the bootloader.  It ends by
 * an event of its camera; camera.c then drops it.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/caller.h"
#include "core/inhibit.h"
#include "core/registry.h"
#include "io/tty.h"
#include "protocol/runtime.h"

#define TALKS_AT_A_TIME 16              /* ports open, or being opened, before the restart */
#define RESTARTS_AT_A_TIME 4            /* on as many hubs */
#define CALLS_MAX       3               /* for one wish, until a hand was at the camera: it may come up again without its bootloader seen */
#define TALKS_MAX       2               /* of one call: between them the port is closed, which puts its parser in step (section 1) */
#define HUB_QUIET       (10 * SEC)      /* nothing came or went on a hub for so long, nor stopped answering: it is not at work */
#define HUB_PATIENCE    (60 * SEC)      /* fifteen ports, each with seven tries, and no longer */
#define PORT_DEADLINE   (5 * SEC)       /* from the device to its serial port: udev's rules and modprobe are between them */
#define OPEN_DEADLINE   (6 * SEC)       /* the kernel gives a device five to answer when its line is set */
#define BUSY_RETRY_MIN  (250 * MSEC)
#define BUSY_RETRY_MAX  (2 * SEC)

#define camera_log(about, level, ...)                                                                   \
        log_about(level, (&(struct log_subject){                                                        \
                .camera = (about)->record.key, .port = (about)->sighting.port,                          \
                .update = update_is_open((about)->update) ? (about)->update->record.id : NULL }), __VA_ARGS__)

enum phase {
        PHASE_QUEUED,
        PHASE_AWAITING_PORT,
        PHASE_BUSY,                     /* tried again later */
        PHASE_OPENING,
        PHASE_TALKING,
        PHASE_READY,                    /* it is the camera meant; its hub is busy with another one */
        PHASE_SENT,                     /* told to restart */
};

struct call {
        struct caller *caller;
        struct camera *camera;
        enum phase phase;
        struct timer timer;
        char hub[PORT_PATH_MAX];
        unsigned tries;                 /* of opening what others hold */
        unsigned talks;
        bool late;                      /* its port has not appeared in time */
        uint64_t sent_at;               /* loop_now() when it was told to restart */
        struct tty_opening *opening;
        struct tty *tty;
        struct runtime runtime;
        TAILQ_ENTRY(call) link;         /* in the caller: first come, first served */
};

struct caller {
        struct registry *registry;
        struct loop *loop;
        struct defer work;
        TAILQ_HEAD(, call) calls;
};

/* --- whether --- */

/* Whatever else speaks against talking to a camera that runs belongs here. */
bool caller_may_call(const struct camera *camera)
{
        const struct registry_settings *settings = registry_settings(camera->registry);

        return settings->serial_port && !camera_is_inhibited(camera) && camera->attached && camera->mode == CAMERA_MODE_RUNTIME && !camera->provisional &&
               camera->board && camera->board->support == BOARD_DFU && !camera->old_bootloader;
}

static bool is_asked_for(const struct camera *camera)
{
        if (!update_is_open(camera->update))
                return camera->hold.wished;
        return wish_from_string(camera->update->record.wish) != WISH_UNATTENDED;
}

static void set_step(struct camera *camera, enum update_step step)
{
        if (!update_is_open(camera->update) || camera->update->step == step)
                return;
        camera->update->step = step;
        registry_update_changed(camera->registry, camera->update);
}

void caller_consider(struct camera *camera)
{
        if (!is_asked_for(camera) || !caller_may_call(camera))
                return;
        if (camera->call) {
                set_step(camera, UPDATE_RESTARTING);    /* another wish than that for which it was called */
                return;
        }
        /* It has come back after all, later than anybody waits: its hub was busy, or off. */
        if (camera->trouble == CALL_NOT_BACK && camera->calls < CALLS_MAX)
                camera->trouble = CALL_FINE;
        if (camera->state != CAMERA_RUNNING || camera->trouble != CALL_FINE)
                return;
        /* Nobody's script is interrupted for an update that could not be begun; who is called when it can be is seen then. */
        if (update_is_open(camera->update) && !journal_writable(registry_context(camera->registry)->journal)) {
                journal_await(registry_context(camera->registry)->journal);
                return;
        }
        if (camera->calls < CALLS_MAX) {
                camera_event(camera, EVENT_CALL);
                return;
        }
        camera->trouble = CALL_NOT_BACK;
        camera_log(camera, LOG_NOTICE, "restarted %u times, and its bootloader was not seen: %s waits for a replug", camera->calls,
                   camera_waiting(camera));
        registry_camera_changed(camera->registry, camera);
}

/* "3-1.4" and "3-1.2" hang on one hub, "3-1" and "3-2" on another. */
static void hub_of(const char *port, char hub[static PORT_PATH_MAX])
{
        char *end;

        snprintf(hub, PORT_PATH_MAX, "%s", port);
        end = strrchr(hub, '.');
        if (!end)
                end = strchr(hub, '-');
        if (end)
                *end = '\0';
}

static bool may_talk(const struct call *call)
{
        const struct call *other;
        unsigned n = 0;

        TAILQ_FOREACH(other, &call->caller->calls, link)
                n += other->phase >= PHASE_OPENING && other->phase < PHASE_SENT;
        return n < TALKS_AT_A_TIME;
}

/* Who is deaf or hangs has no part in this: its hub is free for the others. */
static bool may_restart(const struct call *call)
{
        const struct call *other;
        unsigned n = 0;

        TAILQ_FOREACH(other, &call->caller->calls, link)
                if (other->phase == PHASE_SENT) {
                        n++;
                        if (strcmp(other->hub, call->hub) == 0)
                                return false;
                }
        return n < RESTARTS_AT_A_TIME;
}

/* --- how it goes --- */

static void hang_up(struct call *call)
{
        timer_clear(&call->timer);
        call->opening = tty_opening_cancel(call->opening);
        call->tty = tty_free(call->tty);
}

/* Who waits for a slot may have one now. */
static void look_further(struct call *call)
{
        defer_call(&call->caller->work);
}

/* Ends the call: its camera is dropped by what follows from the event. */
static void give_up(struct call *call, enum call_trouble trouble, const char *message)
{
        struct camera *camera = call->camera;

        hang_up(call);
        camera->trouble = trouble;
        camera_log(call->camera, LOG_NOTICE, "%s: %s waits for a replug", message, camera_waiting(camera));
        camera_event(camera, EVENT_CALL_FAILED);
}

static void wait_for_others(struct call *call, enum call_trouble trouble, const char *message)
{
        uint64_t delay = BUSY_RETRY_MIN << MIN(call->tries, 3u);

        hang_up(call);
        call->phase = PHASE_BUSY;
        if (call->tries++ == 0 || call->camera->trouble != trouble) {
                camera_log(call->camera, LOG_NOTICE, "%s: waiting", message);
                call->camera->trouble = trouble;
                registry_camera_changed(call->caller->registry, call->camera);
        }
        set_step(call->camera, UPDATE_WAITING);
        timer_set(&call->timer, MIN(delay, BUSY_RETRY_MAX));
        look_further(call);
}

static void await_port(struct call *call)
{
        hang_up(call);
        if (call->late) {
                give_up(call, CALL_NO_PORT, "it runs, but its serial port is not to be found");
                return;
        }
        call->phase = PHASE_AWAITING_PORT;
        timer_set(&call->timer, PORT_DEADLINE);
        look_further(call);
}

static bool is_the_camera(const struct call *call)
{
        const struct camera *camera = call->camera;
        struct uid uid;

        /* What an Alif tells here, and what its bootloader shows, are not known to be one (identity.md section 1): it is known by its serial,
         * and its bootloader's decides. */
        if (camera->board->chip == CHIP_ALIF)
                return camera->has_uid;
        if (!call->runtime.has_id || uid_from_u(call->runtime.id, &uid) < 0)
                return false;
        if (camera->has_uid)
                return memcmp(&uid, &camera->uid, sizeof(uid)) == 0;
        return uid_has_runtime_serial(&uid, camera->sighting.serial);
}

static void on_identified(struct call *call)
{
        if (!is_the_camera(call)) {
                camera_log(call->camera, LOG_WARNING, "what runs there says that its unique id is %s, and it should be another: nothing was sent",
                         call->runtime.has_id ? call->runtime.id : "a secret");
                give_up(call, CALL_OTHER_CAMERA, "it is not proven to be the camera that is meant");
                return;
        }
        call->phase = PHASE_READY;
        look_further(call);
}

static void on_no_answer(struct call *call, enum runtime_outcome outcome)
{
        if (call->phase == PHASE_SENT && (!call->camera->attached || caller_is_patient(call->camera))) {
                hang_up(call);          /* it has left, and only its port did not say so */
                return;
        }
        if (call->phase == PHASE_SENT) {
                give_up(call, CALL_STAYED, "it was told to restart, and did not");
                return;
        }
        if (call->talks < TALKS_MAX) {
                hang_up(call);
                call->phase = PHASE_QUEUED;
                look_further(call);
                return;
        }
        give_up(call, CALL_NO_ANSWER, outcome == RUNTIME_NO_ANSWER ? "its firmware does not answer on its serial port"
                                                                   : "its firmware does not say who it is");
}

static void on_step(struct call *call, struct runtime_step step)
{
        if (step.size > 0)
                (void)tty_write(call->tty, step.data, step.size);       /* who does not take it does not answer */
        switch (step.kind) {
        case RUNTIME_LISTEN:
                if (step.wait > 0)
                        timer_set(&call->timer, step.wait);
                break;
        case RUNTIME_DONE:
                timer_clear(&call->timer);
                on_identified(call);
                break;
        case RUNTIME_FAILED:
                on_no_answer(call, step.outcome);
                break;
        }
}

static void restart(struct call *call)
{
        struct camera *camera = call->camera;
        const unsigned *version = call->runtime.version;

        camera_log(camera, LOG_NOTICE, "it runs %u.%u.%u: told to restart into its bootloader", version[0], version[1], version[2]);
        call->phase = PHASE_SENT;
        call->sent_at = loop_now(call->caller->loop);
        camera->calls++;
        camera_event(camera, EVENT_CALLED);
        runtime_begin_restart(&call->runtime);
        on_step(call, runtime_next(&call->runtime, NULL, 0));
}

static void on_input(void *userdata, const uint8_t *data, size_t size)
{
        struct call *call = userdata;

        if (data && call->phase == PHASE_READY)
                return;                 /* output of a script */
        if (data)
                on_step(call, runtime_next(&call->runtime, data, size));
        else if (call->phase == PHASE_SENT)
                hang_up(call);          /* on its way; the bus tells the rest */
        else if (call->talks < TALKS_MAX)
                await_port(call);
        else
                give_up(call, CALL_NO_ANSWER, "its serial port goes away when it is spoken to");
}

static void on_open(void *userdata, int error, struct tty *tty)
{
        struct call *call = userdata;
        char message[128];

        call->opening = NULL;
        switch (error) {
        case 0:
                break;
        case -EBUSY:
                wait_for_others(call, CALL_BUSY, "another program has its serial port open");
                return;
        case -EACCES:
        case -EPERM:
                wait_for_others(call, CALL_NO_PERMISSION, "no permission to open its serial port");
                return;
        case -ENOENT:
        case -ENODEV:
        case -ENXIO:
        case -EIO:
                await_port(call);
                return;
        default:
                snprintf(message, sizeof(message), "its serial port cannot be opened (%s)", strerror(-error));
                give_up(call, CALL_NO_ANSWER, message);
                return;
        }
        call->tty = tty;
        call->late = false;
        call->tries = 0;
        call->phase = PHASE_TALKING;
        call->talks++;
        if (call->camera->trouble != CALL_FINE) {
                call->camera->trouble = CALL_FINE;
                registry_camera_changed(call->caller->registry, call->camera);
        }
        set_step(call->camera, UPDATE_RESTARTING);
        tty_listen(tty, on_input, call);
        runtime_begin_identify(&call->runtime);
        on_step(call, runtime_next(&call->runtime, NULL, 0));
}

static void begin_talk(struct call *call)
{
        const struct registry_settings *settings = registry_settings(call->caller->registry);
        char node[64];
        int r;

        if (settings->serial_port(settings->userdata, call->camera->sighting.port, node, sizeof(node)) < 0) {
                await_port(call);
                return;
        }
        call->phase = PHASE_OPENING;
        r = tty_open(call->caller->loop, node, RUNTIME_BAUD, OPEN_DEADLINE, on_open, call, &call->opening);
        if (r < 0)
                on_open(call, r, NULL);
}

static void on_work(void *userdata)
{
        struct caller *caller = userdata;
        struct call *call, *next;

        for (call = TAILQ_FIRST(&caller->calls); call; call = next) {
                next = TAILQ_NEXT(call, link);
                if (call->phase != PHASE_QUEUED && call->phase != PHASE_READY)
                        continue;
                if (!is_asked_for(call->camera))
                        camera_event(call->camera, EVENT_FINISHED);
                else if (call->phase == PHASE_QUEUED && may_talk(call))
                        begin_talk(call);
                else if (call->phase == PHASE_READY && may_restart(call))
                        restart(call);
        }
}

static void on_timer(void *userdata)
{
        struct call *call = userdata;

        switch (call->phase) {
        case PHASE_AWAITING_PORT:
                call->late = true;      /* looked for once more; its news may have been lost */
                call->phase = PHASE_QUEUED;
                look_further(call);
                break;
        case PHASE_BUSY:
                call->phase = PHASE_QUEUED;
                look_further(call);
                break;
        case PHASE_TALKING:
        case PHASE_SENT:
                on_step(call, runtime_next(&call->runtime, NULL, 0));
                break;
        case PHASE_QUEUED:
        case PHASE_OPENING:
        case PHASE_READY:
                break;
        }
}

/* --- calls --- */

void caller_begin(struct caller *caller, struct camera *camera)
{
        struct call *call;

        if (camera->call)
                return;
        call = calloc(1, sizeof(*call));
        if (!call) {
                camera->trouble = CALL_NO_ANSWER;
                camera_event(camera, EVENT_CALL_FAILED);
                return;
        }
        call->caller = caller;
        call->camera = camera;
        set_step(camera, UPDATE_RESTARTING);
        hub_of(camera->sighting.port, call->hub);
        timer_init(&call->timer, caller->loop, on_timer, call);
        TAILQ_INSERT_TAIL(&caller->calls, call, link);
        camera->call = call;
        defer_call(&caller->work);
}

void caller_drop(struct camera *camera)
{
        struct call *call = camera->call;

        if (!call)
                return;
        camera->call = NULL;
        hang_up(call);
        look_further(call);
        TAILQ_REMOVE(&call->caller->calls, call, link);
        timer_deinit(&call->timer);
        free(call);
        registry_look_quiet(camera->registry);
}

void caller_port_appeared(struct caller *caller, const char *port)
{
        struct camera *camera;
        struct call *call;

        TAILQ_FOREACH(call, &caller->calls, link)
                if ((call->phase == PHASE_AWAITING_PORT || call->phase == PHASE_BUSY) &&
                    strcmp(call->camera->sighting.port, port) == 0) {
                        timer_clear(&call->timer);
                        call->phase = PHASE_QUEUED;
                        look_further(call);
                }
        /* Later than anybody waited for it. */
        for (camera = registry_first_camera(caller->registry); camera; camera = registry_next_camera(camera))
                if (camera->attached && camera->trouble == CALL_NO_PORT && strcmp(camera->sighting.port, port) == 0) {
                        camera->trouble = CALL_FINE;
                        caller_consider(camera);
                }
}

bool caller_hub_is_busy(const struct camera *camera, uint64_t since)
{
        uint64_t now = loop_now(registry_context(camera->registry)->loop);
        char own[PORT_PATH_MAX];
        struct camera *other;

        if (now - since >= HUB_PATIENCE)
                return false;
        hub_of(camera->sighting.port, own);
        for (other = registry_first_camera(camera->registry); other; other = registry_next_camera(other)) {
                uint64_t last = MAX(other->gone_at, other->said_gone_at);
                char hub[PORT_PATH_MAX];

                if (other->attached)
                        last = MAX(last, other->sighting.seen_at);
                hub_of(other->sighting.port, hub);
                if (other != camera && last > 0 && now - last < HUB_QUIET && strcmp(hub, own) == 0)
                        return true;
        }
        return false;
}

bool caller_is_patient(const struct camera *camera)
{
        const struct call *call = camera->call;

        return call && call->phase == PHASE_SENT && camera->attached && caller_hub_is_busy(camera, call->sent_at);
}

bool caller_bootloader_came(struct caller *caller, const struct camera *camera, const char *port)
{
        struct call *call;

        TAILQ_FOREACH(call, &caller->calls, link) {
                if (call->phase != PHASE_SENT || strcmp(call->camera->sighting.port, port) != 0)
                        continue;
                if (call->camera != camera) {
                        call->camera->trouble = CALL_OTHER_CAMERA;
                        camera_log(call->camera, LOG_WARNING, "what was told to restart is %s", camera->record.key);
                }
                return true;
        }
        return false;
}

int caller_new(struct registry *registry, struct caller **ret)
{
        struct caller *caller = calloc(1, sizeof(*caller));

        if (!caller)
                return -ENOMEM;
        caller->registry = registry;
        caller->loop = registry_context(registry)->loop;
        TAILQ_INIT(&caller->calls);
        defer_init(&caller->work, caller->loop, on_work, caller);
        *ret = caller;
        return 0;
}

struct caller *caller_free(struct caller *caller)
{
        struct call *call;

        if (!caller)
                return NULL;
        while ((call = TAILQ_FIRST(&caller->calls)))
                caller_drop(call->camera);
        defer_deinit(&caller->work);
        free(caller);
        return NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue-dfu-util: dfu-util's command line and output, and the daemon does it.
 *
 * A download is an update of the camera with just that image; an upload is a bootloader that is held, and read.  Which camera is
 * meant has to be clear before anything is asked: where several could be, it is the one that shows itself in its bootloader, as for dfu-util.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/bytes.h"
#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/dfu-device.h"
#include "client/dfu-foreign.h"
#include "client/dfu-install.h"
#include "client/dfu-options.h"
#include "client/image-name.h"
#include "client/upload.h"
#include "core/image.h"

#define SECONDS UINT64_C(1000000)
#define BAR 25
#define FILESYSTEM_ZEROS 4096
#define READ_PART ((size_t)512 << 10)
#define HOLD_TO_READ (300 * SECONDS)
#define HOLD_MAX (86400 * SECONDS)      /* the daemon's */
#define DIGEST_ID_SIZE (7 + DIGEST_HEX_SIZE)

struct job {
        struct client client;
        const char *program;            /* by which it was run */
        struct dfu_options options;
        struct board_list boards;
        struct bus *bus;
        uint8_t *bytes;                 /* of the file to be written */
        size_t size;
        bool interrupted, lost;
        bool reloaded;                  /* the daemon came back */
        bool news;
        bool said_other;                /* that another update is waited for */
        bool said_several;              /* that more than one could be meant */
        bool asking;                    /* a call that may have to be made again: that it is so is not reported */
        bool updating;                  /* ... for which another update is waited for */
        bool quiet;                     /* a call of which nothing is said: what goes before or comes after says what is wrong */
        bool holds;                     /* its bootloader is held, or to be held, because of us */
        unsigned shown;                 /* percents; to be told once */
        bool bar;
        int memfd;                      /* the same, sealed */
};

/* --- saying --- */

/* After what went to standard output before it. */
static _printf_(2, 0) void complain(const char *prefix, const char *format, va_list ap)
{
        (void)fflush(stdout);
        (void)fputs(prefix, stderr);
        (void)vfprintf(stderr, format, ap);
        (void)fputc('\n', stderr);
}

enum exit_code client_fail(const struct client *client, enum exit_code code, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        complain("camrescue-dfu-util: ", format, ap);
        va_end(ap);
        return code;
}

void client_note(const struct client *client, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        complain("", format, ap);
        va_end(ap);
}

const char *exit_code_name(enum exit_code code)
{
        return code == EXIT_DONE ? "done" : "failed";
}

static int fail(int code, const char *format, ...) _printf_(2, 3);
static int fail(int code, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        complain("camrescue-dfu-util: ", format, ap);
        va_end(ap);
        return code;
}

static int code_of(enum exit_code code)
{
        switch (code) {
        case EXIT_DONE:
                return EX_OK;
        case EXIT_REFUSED:
                return EX_NOPERM;
        case EXIT_NO_DAEMON:
                return EX_UNAVAILABLE;
        case EXIT_WRONG_USAGE:
                return EX_USAGE;
        default:
                return EX_IOERR;
        }
}

/* A line of dfu-util's: of what, 25 equals signs, percents, bytes. */
static void show_bar(struct job *job, const char *what, unsigned percent, unsigned long long bytes)
{
        char bar[BAR + 1];

        if (job->bar && percent <= job->shown)
                return;
        for (unsigned i = 0; i < BAR; i++)
                bar[i] = i < percent * BAR / 100 ? '=' : ' ';
        bar[BAR] = '\0';
        (void)printf("\r%s\t[%s] %3u%% %12llu bytes", what, bar, percent, bytes);
        (void)fflush(stdout);
        job->bar = true;
        job->shown = percent;
}

static void end_bar(struct job *job)
{
        if (job->bar)
                (void)putchar('\n');
        job->bar = false;
}

/* --- waiting --- */

static void on_news(void *userdata, enum bus_change change, const struct camera *camera, const struct update *update)
{
        struct job *job = userdata;

        job->news = true;
        if (change == BUS_LOST)
                job->lost = true;
        if (change == BUS_RELOADED)
                job->reloaded = true;
        if (change == BUS_DAEMON_GONE) {
                job->reloaded = false;
                client_note(&job->client, "The daemon camrescued is gone; waiting for it to come back.");
        }
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        struct job *job = userdata;

        job->interrupted = job->news = true;
        return 0;
}

static uint64_t now(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * SECONDS + (uint64_t)t.tv_nsec / 1000;
}

static uint64_t new_deadline(const struct job *job)
{
        return now() + job->options.timeout * SECONDS;
}

/* Until there is news.  EX_OK, or the end, reported. */
static int wait_for_news(struct job *job, uint64_t deadline)
{
        uint64_t t;

        for (job->news = false; !job->news && !job->interrupted && !job->lost;) {
                t = now();
                if (t >= deadline)
                        return fail(EX_IOERR, "It did not come, or did not go on, for %u seconds.", job->options.timeout);
                if (sd_event_run(bus_event(job->bus), deadline - t) < 0)
                        return fail(EX_UNAVAILABLE, "The connection to the bus was lost.");
        }
        if (job->interrupted)
                return fail(128 + SIGINT, "Interrupted.");
        if (job->lost)
                return fail(EX_UNAVAILABLE, "The connection to the bus was lost.");
        return EX_OK;
}

/* --- which camera --- */

/* The board that shows this id in its own bootloader; NULL: none, or the chip's ROM. */
static const struct board *board_of_id(const struct job *job)
{
        const struct board *board = NULL;

        if (!job->options.has_id ||
            board_classify(&job->boards, job->options.vendor, job->options.product, &board) != USB_ROLE_BOOTLOADER)
                return NULL;
        return board;
}

static bool wants_rom(const struct job *job)
{
        return job->options.has_id ? job->options.vendor == DFU_ROM_VENDOR && job->options.product == DFU_ROM_PRODUCT : job->options.dfuse;
}

/* It shows itself in the DFU mode that is asked for, as dfu-util would take it. */
static bool is_shown(const struct job *job, const struct dfu_device *device)
{
        return dfu_device_matches(device, &job->options) && (device->rom == wants_rom(job) || (!job->options.has_id && !job->options.dfuse));
}

/* Who runs, or is away, can be meant as well by someone who says that he waits: it may be about to show itself. */
static bool could_come(const struct job *job, const struct camera *camera)
{
        const struct board *board = board_of_id(job);

        return job->options.wait && !wants_rom(job) && board && strcmp(board->id, camera->board) == 0 && job->options.devnum < 0 &&
               dfu_camera_matches(camera, &job->options);
}

static bool runs(const struct camera *camera)
{
        return camera->attached && strcmp(camera->mode, "runtime") == 0;
}

static int too_many(void)
{
        return fail(EX_IOERR, "More than one camera could be meant: name its serial (-S, see -l), or disconnect all but one.");
}

/*
 * *ret NULL: there is none (yet).  EX_OK, or reported.
 *
 * Who shows itself is taken.  Who does not is restarted into its bootloader, or caught there, if it is named, or is the only one of its board
 * that is known: else the one that is meant may be the one that was reset a moment ago, and is still to be seen, or just not to be seen.
 */
static int find_camera(struct job *job, const struct camera **ret)
{
        const struct camera *other = NULL;
        unsigned n = 0, n_running = 0;

        *ret = NULL;
        for (size_t i = 0; i < bus_camera_count(job->bus); i++) {
                const struct camera *camera = bus_nth_camera(job->bus, i);
                struct dfu_device device;

                if (dfu_device_read(camera, &job->boards, &device)) {
                        if (!is_shown(job, &device))
                                continue;
                        if (*ret)
                                return too_many();
                        *ret = camera;
                } else if (could_come(job, camera) && (runs(camera) || job->options.serial || !job->options.path)) {
                        other = camera;
                        n_running += runs(camera);
                        n++;
                }
        }
        if (*ret || n == 0)
                return EX_OK;
        if (job->options.serial && n > 1)
                return too_many();
        if (n == 1 && (job->options.serial || runs(other)))
                *ret = other;
        else if (n_running > 0 && !job->said_several) {
                client_note(&job->client, "More than one camera could be meant: the first that shows itself in its bootloader is taken. "
                            "To have one restarted, name its serial (-S).");
                job->said_several = true;
        }
        return EX_OK;
}

static int await_camera(struct job *job, const struct camera **ret)
{
        uint64_t deadline = new_deadline(job);
        int code = find_camera(job, ret);

        if (code == EX_OK && !*ret && !job->options.wait)
                return fail(EX_IOERR, "No DFU capable USB device available");
        if (job->options.wait)
                (void)printf("Waiting for device, exit with ctrl-C\n");
        (void)fflush(stdout);
        while (code == EX_OK && !*ret) {
                code = wait_for_news(job, deadline);
                if (code == EX_OK)
                        code = find_camera(job, ret);
        }
        return code;
}

static void say_opened(const struct job *job, const struct camera *camera)
{
        struct dfu_device device;

        (void)printf("Opening DFU capable USB device...\n");
        if (dfu_device_read(camera, &job->boards, &device))
                (void)printf("Device ID %04x:%04x\n", device.vendor, device.product);
        else if (job->options.has_id)
                (void)printf("Device ID %04x:%04x\n", job->options.vendor, job->options.product);
        (void)printf("Left to camrescued, which knows it as %s\n", camera_label(camera));
}

/* --- calls --- */

/* The daemon was killed: before it answered, or before the wish was on its disk.  It is to be asked for once more. */
#define LOST (-1)
/* Another update of this camera is being carried out. */
#define OTHER_UPDATE (-2)

static int call(struct job *job, sd_bus_message *message, sd_bus_message **ret_reply)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        enum exit_code code = bus_call_until(job->bus, message, &job->interrupted, &error, ret_reply);

        if (code == EXIT_DONE)
                return EX_OK;
        if (job->quiet)
                return code_of(code);
        if (code == EXIT_INTERRUPTED)
                return fail(128 + SIGINT, "Interrupted, before the daemon had answered.");
        if (job->asking && code == EXIT_NO_DAEMON && (!error.name || strcmp(error.name, SD_BUS_ERROR_TIMEOUT) != 0))
                return LOST;
        if (job->updating && error.name && strcmp(error.name, BUS_NAME ".Error.UpdateOpen") == 0) {
                if (!job->said_other)
                        client_note(&job->client, "%s", error.message);
                job->said_other = true;
                return OTHER_UPDATE;
        }
        if (error.name && strcmp(error.name, BUS_NAME ".Error.ImageRefused") == 0 && job->memfd >= 0)
                return fail(EX_DATAERR, "%s: %s", job->options.file, error.message);
        return fail(code_of(code), "%s", error.message ? error.message : error.name ? error.name : "The daemon does not answer.");
}

/* A call with options, NULL at the end: key, type, value.  "s" NULL and "b" false are left out. */
static int call_camera(struct job *job, const char *path, const char *method, sd_bus_message **ret_reply, ...)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL;
        const char *key;
        va_list ap;
        int r;

        r = bus_new_call(job->bus, path, BUS_CAMERA, method, &message);
        if (r >= 0)
                r = sd_bus_message_open_container(message, 'a', "{sv}");
        va_start(ap, ret_reply);
        while (r >= 0 && (key = va_arg(ap, const char *))) {
                const char *type = va_arg(ap, const char *);

                if (type[0] == 's') {
                        const char *value = va_arg(ap, const char *);

                        r = value ? sd_bus_message_append(message, "{sv}", key, "s", value) : 0;
                } else if (type[0] == 't')
                        r = sd_bus_message_append(message, "{sv}", key, "t", va_arg(ap, uint64_t));
                else if (type[0] == 'h')
                        r = sd_bus_message_append(message, "{sv}", key, "h", va_arg(ap, int));
                else {
                        int value = va_arg(ap, int);

                        r = value ? sd_bus_message_append(message, "{sv}", key, "b", 1) : 0;
                }
        }
        va_end(ap);
        if (r >= 0)
                r = sd_bus_message_close_container(message);
        return r < 0 ? fail(EX_OSERR, "Cannot ask the daemon: %s.", strerror(-r)) : call(job, message, ret_reply);
}

/* options: of a method that takes some. */
static int call_plain(struct job *job, const char *path, const char *interface, const char *method, bool options)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL, *reply = NULL;
        int r = bus_new_call(job->bus, path, interface, method, &message);

        if (r >= 0 && options)
                r = sd_bus_message_append(message, "a{sv}", 0);

        return r < 0 ? fail(EX_OSERR, "Cannot ask the daemon: %s.", strerror(-r)) : call(job, message, &reply);
}

/* --- the image --- */

static int read_file(struct job *job)
{
        const char *path = job->options.file;
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return fail(EX_NOINPUT, "Could not open file %s for reading: %s", path, strerror(errno));
        if (!S_ISREG(st.st_mode) || st.st_size == 0 || st.st_size > (off_t)UPLOAD_MAX)
                return fail(EX_DATAERR, "%s: %s", path, !S_ISREG(st.st_mode) ? "not a regular file" : st.st_size ? "larger than 64 MiB" : "empty");
        job->bytes = malloc((size_t)st.st_size);
        if (!job->bytes)
                return fail(EX_OSERR, "Out of memory.");
        while (job->size < (size_t)st.st_size) {
                ssize_t n = read(fd, job->bytes + job->size, (size_t)st.st_size - job->size);

                if (n <= 0)
                        return fail(EX_NOINPUT, "Could not read %s: %s", path, n < 0 ? strerror(errno) : "it has changed");
                job->size += (size_t)n;
        }
        return EX_OK;
}

static int seal_image(struct job *job)
{
        job->memfd = upload_memory(job->bytes, job->size);
        return job->memfd < 0 ? fail(EX_OSERR, "%s: %s", job->options.file, upload_problem(job->memfd)) : EX_OK;
}

/* --- following an update --- */

static int end_of(struct job *job, const struct update *update)
{
        if (strcmp(update->result, "done") != 0 && strcmp(update->result, "not-seen") != 0) {
                end_bar(job);
                return fail(strcmp(update->result, "refused") == 0 ? EX_NOPERM : EX_IOERR, "%s", update->message);
        }
        show_bar(job, "Download", 100, job->size);
        end_bar(job);
        (void)printf("Download done.\n");
        if (strcmp(update->result, "not-seen") == 0)
                client_note(&job->client, "camrescue-dfu-util: Warning: %s", update->message);
        if (wants_rom(job))
                (void)printf("File downloaded successfully\n");
        (void)printf("%s\n", update->message);
        if (!wants_rom(job))
                (void)printf("Done!\n");
        return EX_OK;
}

static void say_advice(struct job *job, const struct update *update, char **said)
{
        const struct camera *camera = bus_camera(job->bus, update->camera);

        if (!camera || !*camera->advice || strcmp(update->step, "waiting") != 0 || (*said && strcmp(*said, camera->advice) == 0))
                return;
        /* What was advised before this was asked for is no news. */
        if (strcmp(camera->state, "unproven") == 0 || strcmp(camera->state, "asking") == 0)
                return;
        end_bar(job);
        client_note(&job->client, "%s", camera->advice);
        free(*said);
        *said = strdup(camera->advice);
}

/* Whoever stops waiting takes back what was not begun; what was begun is the daemon's to finish, since half of it runs nowhere. */
static void give_up(struct job *job, const char *path)
{
        uint64_t patience = now() + 2 * SECONDS;
        const struct update *update;

        /* It was announced before the answer that named it, and that may not have been looked at yet. */
        while (!(update = bus_update(job->bus, path)) && !job->lost && now() < patience)
                if (sd_event_run(bus_event(job->bus), SECONDS / 10) < 0)
                        break;
        if (!update)
                client_note(&job->client, "It could not be cancelled, because camrescued is not there; it may be done when that is back.");
        if (!update || !update_is_open(update))
                return;
        if (update->attempt > 0)
                client_note(&job->client, "It was begun: camrescued goes on with it when the camera is there.");
        else if (call_plain(job, path, BUS_UPDATE, "Cancel", /* options= */ false) == EX_OK)
                client_note(&job->client, "Nothing was written.");
}

static int follow_update(struct job *job, const char *path)
{
        uint64_t deadline = new_deadline(job);
        _cleanup_free_ char *said = NULL;
        double progress = -1;
        int code;

        for (;;) {
                const struct update *update = bus_update(job->bus, path);

                if (update && !update_is_open(update))
                        return end_of(job, update);
                if (!update && job->reloaded)
                        return LOST;
                if (update && update->progress > progress) {
                        progress = update->progress;
                        deadline = new_deadline(job);
                        if (strcmp(update->step, "writing") == 0 || strcmp(update->step, "verifying") == 0)
                                show_bar(job, "Download", (unsigned)(progress * 99), (unsigned long long)(progress * (double)job->size));
                } else if (update && update->progress < progress)
                        progress = update->progress;            /* a session of its own, after it was away */
                if (update)
                        say_advice(job, update, &said);
                code = wait_for_news(job, deadline);
                if (code != EX_OK) {
                        end_bar(job);
                        give_up(job, path);
                        return code;
                }
        }
}

/* What is asked of Update or Recover. */
struct wish {
        const char *method;
        const char *board;              /* Recover's; NULL: none */
        const char *partition;
        bool romfs, erase, stay;
};

static int ask_once(struct job *job, const char *path, const struct wish *wish, char **ret_update, char **ret_action, char **ret_text)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_free_ char *file = text_file_name(image_base(job->options.file));
        const char *update, *action, *text;
        int code;

        if (!file)
                return fail(EX_OSERR, "Out of memory.");
        job->asking = job->updating = true;
        job->reloaded = false;
        code = call_camera(job, path, wish->method, &reply, "image", "h", job->memfd, "partition", "s", wish->partition, "file", "s",
                           file, "board", "s", wish->board, "romfs", "b", wish->romfs, "erase-filesystem", "b", wish->erase, "stay", "b", wish->stay, NULL);
        job->asking = job->updating = false;
        if (code != EX_OK)
                return code;
        if (sd_bus_message_read(reply, "oss", &update, &action, &text) < 0)
                return fail(EX_PROTOCOL, "The daemon's answer makes no sense.");
        *ret_update = strdup(update);
        *ret_action = strdup(action);
        *ret_text = strdup(text);
        return *ret_update && *ret_action && *ret_text ? EX_OK : fail(EX_OSERR, "Out of memory.");
}

/* It is being carried out: one that waits, for a hand perhaps, gives way to a new wish. */
static bool is_at_work(const struct update *update)
{
        return update_is_open(update) && strcmp(update->step, "waiting") != 0;
}

/* Until this camera's update has ended, waits, or was never there.  Each time it is asked is one more question of polkit's, perhaps with a password. */
static int wait_for_other(struct job *job, const char *path, uint64_t deadline)
{
        const struct camera *camera;
        uint64_t t, until;
        int code;

        /* What is known here may be a moment older than the answer. */
        if (bus_reload(job->bus) < 0)
                return fail(EX_UNAVAILABLE, "The connection to the bus was lost.");
        job->reloaded = false;
        do {
                code = wait_for_news(job, deadline);
                camera = bus_camera(job->bus, path);
        } while (code == EX_OK && (!job->reloaded || (camera && is_at_work(bus_camera_update(job->bus, camera)))));
        /* One that waits may be about to go on: it is not asked for more than once a second. */
        until = camera && update_is_open(bus_camera_update(job->bus, camera)) ? now() + SECONDS : 0;
        while (code == EX_OK && !job->interrupted && !job->lost && (t = now()) < until)
                if (sd_event_run(bus_event(job->bus), until - t) < 0)
                        return fail(EX_UNAVAILABLE, "The connection to the bus was lost.");
        return code;
}

/* It answers again. */
static int wait_for_daemon(struct job *job, uint64_t deadline)
{
        int code = EX_OK;

        while (code == EX_OK && !job->reloaded)
                code = wait_for_news(job, deadline);
        return code;
}

/* An update that is being carried out, the daemon's own perhaps, is waited for; and a daemon that died before it answered. */
static int ask(struct job *job, const char *path, const struct wish *wish, char **ret_update, bool *ret_current)
{
        uint64_t deadline = new_deadline(job);

        for (;;) {
                _cleanup_free_ char *update = NULL, *action = NULL, *text = NULL;
                int code = ask_once(job, path, wish, &update, &action, &text);

                if (code == EX_OK) {
                        *ret_current = strcmp(action, "current") == 0;
                        if (!*ret_current && strcmp(action, "update") != 0 && strcmp(action, "queued") != 0)
                                return fail(EX_NOPERM, "%s", text);
                        *ret_update = take_ptr(update);
                        job->holds = job->holds && *ret_current;        /* an update ends a hold */
                        return EX_OK;
                }
                if (code == OTHER_UPDATE)
                        code = wait_for_other(job, path, deadline);
                else if (code == LOST)
                        code = wait_for_daemon(job, deadline);
                if (code != EX_OK)
                        return code;
        }
}

/* --- holding: state "held" --- */

static int call_hold(struct job *job, const char *path)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const struct camera *camera = bus_camera(job->bus, path);
        bool before = camera && strcmp(camera->state, "held") == 0;
        int code;

        job->reloaded = false;
        code = call_camera(job, path, "HoldInBootloader", &reply, "timeout", "t", MIN(job->options.timeout * SECONDS + HOLD_TO_READ, HOLD_MAX), NULL);
        job->holds = job->holds || (code == EX_OK && !before);
        return code;
}

/* A daemon that went has forgotten it: it is asked once more. */
static int hold(struct job *job, const char *path)
{
        uint64_t deadline = new_deadline(job);
        _cleanup_free_ char *said = NULL;
        int code;

        do {
                job->asking = true;
                code = call_hold(job, path);
                job->asking = false;
                if (code == LOST)
                        code = wait_for_daemon(job, deadline);
                while (code == EX_OK && !job->reloaded) {
                        const struct camera *camera = bus_camera(job->bus, path);

                        if (camera && strcmp(camera->state, "held") == 0)
                                return EX_OK;
                        if (camera && *camera->advice && (!said || strcmp(said, camera->advice) != 0)) {
                                client_note(&job->client, "%s", camera->advice);
                                free(said);
                                said = strdup(camera->advice);
                        }
                        code = wait_for_news(job, deadline);
                }
        } while (code == EX_OK);
        return code;
}

/* It would be gone in 1.5 s, and what is sent now may take a slow disk longer to keep. */
static void catch_bootloader(struct job *job, const char *path)
{
        job->quiet = true;
        (void)call_hold(job, path);
        job->quiet = false;
}

/* What came to nothing leaves no camera in its bootloader; whose firmware is incomplete stays there, by the daemon's rules. */
static void let_go(struct job *job, const char *path)
{
        if (!job->holds)
                return;
        job->quiet = true;
        (void)call_plain(job, path, BUS_CAMERA, "Release", /* options= */ true);
        job->holds = job->quiet = false;
}

/* --- download: into the bootloader's partitions --- */

static bool is_zero_block(const struct job *job)
{
        return job->size == FILESYSTEM_ZEROS && bytes_all(job->bytes, job->size, 0);
}

static int check_partition(const struct job *job, const struct board *board, const struct partition *partition)
{
        switch (partition->role) {
        case PARTITION_FIRMWARE:
        case PARTITION_ROMFS:
                return EX_OK;
        case PARTITION_FILESYSTEM:
                if (strcmp(partition->name, board->filesystem_erase) == 0 && is_zero_block(job))
                        return EX_OK;
                return fail(EX_NOPERM, "%s holds the user's work: it is only emptied, by a file of %d zeros%s.", partition->name, FILESYSTEM_ZEROS,
                            strcmp(partition->name, board->filesystem_erase) == 0 ? "" : ", and not of this board");
        case PARTITION_BOOTLOADER:
                return fail(EX_NOPERM, "%s is written through the chip's ROM only.", partition->name);
        default:
                return fail(EX_NOPERM, "%s is never written.", partition->name);
        }
}

static int no_partition(const struct job *job, const struct board *board)
{
        if (!job->options.alt)
                return fail(EX_USAGE, "Name the partition: -a NAME, see -l.");
        return fail(EX_IOERR, "The bootloader of an %s has no partition %s.", board->name, job->options.alt);
}

static int choose_partition(const struct job *job, const struct board *board, const struct layout *layout, const struct partition **ret)
{
        *ret = job->options.alt ? dfu_partition(layout, job->options.alt) : NULL;
        if (!*ret)
                return no_partition(job, board);
        return job->options.action == DFU_ACTION_DOWNLOAD ? check_partition(job, board, *ret) : EX_OK;
}

static int update_camera(struct job *job, const char *path, const struct partition *partition, char **ret_update, bool *ret_current)
{
        const struct wish wish = {
                .method = "Update", .partition = partition->name, .romfs = partition->role == PARTITION_ROMFS,
                .erase = partition->role == PARTITION_FILESYSTEM, .stay = !job->options.reset,
        };

        return ask(job, path, &wish, ret_update, ret_current);
}

/* By the name that was given, and by what that leads to: both may say something. */
static int check_folder(const struct job *job, const struct board *board)
{
        _cleanup_free_ char *path = realpath(job->options.file, NULL);
        const char *const names[] = { job->options.file, path };
        char folder[IMAGE_BOARD_SIZE];

        for (size_t i = 0; i < ELEMENTSOF(names) && names[i]; i++) {
                image_folder_board(names[i], folder);
                if (*folder && strcasecmp(folder, board->id) != 0)
                        return fail(EX_DATAERR, "%s lies in the folder of %s, and this is an %s.", job->options.file, folder, board->id);
        }
        return EX_OK;
}

static int write_partition(struct job *job, const struct camera *camera, const struct board *board, const struct partition *partition)
{
        _cleanup_free_ char *path = strdup(camera->path), *update = NULL;
        struct dfu_device device;
        bool current = false;
        int code;

        if (!path)
                return fail(EX_OSERR, "Out of memory.");
        if (dfu_device_read(camera, &job->boards, &device) && device.layout) {
                code = choose_partition(job, board, device.layout, &partition);
                if (code != EX_OK)
                        return code;
        }
        if (strcmp(camera->state, "passing") == 0)
                catch_bootloader(job, path);
        do {
                free(take_ptr(update));
                code = update_camera(job, path, partition, &update, &current);
                if (code == EX_OK && current) {
                        /* So the daemon remembers; what is asked for is that it stands there. */
                        code = hold(job, path);
                        free(take_ptr(update));
                        if (code == EX_OK)
                                code = update_camera(job, path, partition, &update, &current);
                        if (code == EX_OK && current)
                                code = fail(EX_IOERR, "The camera left its bootloader before it could be read.");
                }
                if (code == EX_OK)
                        code = follow_update(job, update);
        } while (code == LOST);
        if (code != EX_OK)
                let_go(job, path);
        return code;
}

static int download(struct job *job)
{
        const struct board *board = board_of_id(job);
        const struct partition *partition = NULL;
        const struct camera *camera;
        struct dfu_device device;
        int code = EX_OK;

        if (job->options.dfuse)
                return fail(EX_USAGE, "-s is for ROM DFU mode: an OpenMV bootloader has partitions, -a.");
        if (board) {
                code = choose_partition(job, board, &board->layouts[0], &partition);
                if (code == EX_OK)
                        code = check_folder(job, board);
        }
        if (code == EX_OK)
                code = await_camera(job, &camera);
        if (code != EX_OK)
                return code;
        if (!board && dfu_device_read(camera, &job->boards, &device)) {
                board = device.board;
                code = board ? check_folder(job, board) : EX_OK;
                if (code == EX_OK && board)
                        code = choose_partition(job, board, device.layout ?: &board->layouts[0], &partition);
                if (code != EX_OK)
                        return code;
        }
        if (!board)
                return fail(EX_IOERR, "It is not known which board that is.");
        say_opened(job, camera);
        return write_partition(job, camera, board, partition);
}

/* --- download in ROM DFU mode: the bootloader --- */

/* What this file would be as the board's bootloader.  False: it is none. */
static bool bootloader_digest(const struct job *job, const struct board *board, struct digest *ret)
{
        const struct partition *partition = NULL;
        const uint8_t *data;
        struct image image;
        size_t size;

        for (size_t i = 0; i < board->layouts[0].n_partitions; i++)
                if (board->layouts[0].partitions[i].role == PARTITION_BOOTLOADER)
                        partition = &board->layouts[0].partitions[i];
        if (!partition || image_parse(&image, job->bytes, job->size, job->options.file) != IMAGE_FINE ||
            image_for_partition(&image, board, partition, &data, &size) != IMAGE_FINE)
                return false;
        digest_of(data, size, ret);
        return true;
}

/* Bits of boards whose bootloader, as far as the daemon's store knows, this file is. */
static int boards_of_file(struct job *job, uint32_t *ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *message = NULL, *reply = NULL;
        int code, r;

        *ret = 0;
        r = bus_new_call(job->bus, BUS_ROOT, BUS_MANAGER, "ListFirmware", &message);
        code = r < 0 ? fail(EX_OSERR, "Cannot ask the daemon: %s.", strerror(-r)) : call(job, message, &reply);
        if (code != EX_OK)
                return code;
        r = sd_bus_message_enter_container(reply, 'a', "a{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'a', "{sv}")) > 0) {
                const char *id = "", *board = "", *partition = "", *key;

                while ((r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
                        const char **text = NULL;

                        r = sd_bus_message_read(reply, "s", &key);
                        if (r < 0)
                                break;
                        text = strcmp(key, "id") == 0 ? &id : strcmp(key, "board") == 0 ? &board : strcmp(key, "partition") == 0 ? &partition : NULL;
                        r = text ? sd_bus_message_read(reply, "v", "s", text) : sd_bus_message_skip(reply, "v");
                        if (r < 0 || (r = sd_bus_message_exit_container(reply)) < 0)
                                break;
                }
                for (size_t i = 0; r >= 0 && i < job->boards.n; i++) {
                        char known[DIGEST_ID_SIZE] = "sha256:";
                        struct digest digest;

                        if (strcmp(partition, "BOOTLOADER") != 0 || strcmp(job->boards.boards[i].id, board) != 0 ||
                            !bootloader_digest(job, &job->boards.boards[i], &digest))
                                continue;
                        digest_to_hex(&digest, known + 7);
                        if (strcmp(known, id) == 0)
                                *ret |= UINT32_C(1) << i;
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        return r < 0 ? fail(EX_PROTOCOL, "The daemon's list of firmware makes no sense.") : EX_OK;
}

/* Nobody has said it, and a chip in ROM DFU does not show it: the file has to, by what it is or by where it lies. */
static int board_of_file(struct job *job, const struct board **ret)
{
        _cleanup_free_ char *path = realpath(job->options.file, NULL);
        char folder[IMAGE_BOARD_SIZE] = "";
        const struct board *board;
        uint32_t known;
        int code;

        code = boards_of_file(job, &known);
        if (code != EX_OK)
                return code;
        image_folder_board(path ?: job->options.file, folder);
        board = *folder ? board_by_id(&job->boards, folder) : NULL;
        if (board && known != 0 && !(known >> (board - job->boards.boards) & 1))
                return fail(EX_DATAERR, "%s lies in the folder of %s, and is known as the bootloader of another board.", job->options.file, folder);
        if (!board && __builtin_popcount(known) == 1)
                board = &job->boards.boards[__builtin_ctz(known)];
        if (!board || !board->rom_restore)
                return fail(EX_NOPERM, "In ROM DFU mode every STM32 looks alike, and %s does not say for which board it is: take it from the folder of "
                            "its board (OPENMV3/bootloader.bin), or use camrescue recover --board.", job->options.file);
        *ret = board;
        return EX_OK;
}

static int check_rom_options(const struct job *job)
{
        const struct dfu_options *options = &job->options;
        const char *dot = strrchr(options->file, '.');

        if (options->alt && strcmp(options->alt, "0") != 0 && strncmp(options->alt, "@Internal Flash", 15) != 0)
                return fail(EX_NOPERM, "In ROM DFU mode only the flash (-a 0) is written, and of it the bootloader.");
        if (!options->has_address && !(dot && strcasecmp(dot, ".dfu") == 0))
                return fail(EX_USAGE, "Say where a plain file belongs: -s 0x08000000.");
        return EX_OK;
}

static int download_in_rom(struct job *job)
{
        _cleanup_free_ char *path = NULL, *update = NULL;
        const struct board *board = NULL;
        struct wish wish;
        const struct camera *camera;
        bool current;
        int code;

        code = check_rom_options(job);
        if (code == EX_OK)
                code = board_of_file(job, &board);
        if (code != EX_OK)
                return code;
        if (job->options.has_address && job->options.address != board->bootloader_address)
                return fail(EX_NOPERM, "In ROM DFU mode only the bootloader is written, at 0x%08x; the rest goes through that.",
                            board->bootloader_address);
        code = await_camera(job, &camera);
        if (code != EX_OK)
                return code;
        say_opened(job, camera);
        path = strdup(camera->path);
        wish = (struct wish){ .method = "Recover", .board = board->id, .partition = "BOOTLOADER" };
        code = path ? ask(job, path, &wish, &update, &current) : fail(EX_OSERR, "Out of memory.");
        if (code == EX_OK)
                code = follow_update(job, update);
        return code == LOST ? fail(EX_IOERR, "The daemon was restarted, and does not know of it any more: ask again.") : code;
}

/* --- upload --- */

static int save_part(const struct job *job, sd_bus_message *reply, size_t size, FILE *to)
{
        struct stat st;
        void *bytes;
        int fd, code = EX_OK;

        if (sd_bus_message_read(reply, "h", &fd) < 0 || fstat(fd, &st) < 0 || st.st_size != (off_t)size)
                return fail(EX_PROTOCOL, "The daemon's answer makes no sense.");
        bytes = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes == MAP_FAILED)
                return fail(EX_OSERR, "Cannot use what was read: %s.", strerror(errno));
        if (fwrite(bytes, 1, size, to) != size || fflush(to) != 0)
                code = fail(EX_IOERR, "Cannot write %s: %s.", job->options.file, strerror(errno));
        (void)munmap(bytes, size);
        return code;
}

/* Part by part, so that it can be seen, and stopped. */
static int save_flash(struct job *job, const char *path, const struct partition *partition, FILE *to)
{
        size_t size = partition->limit - partition->start;

        show_bar(job, "Upload", 0, 0);
        for (size_t offset = 0; offset < size;) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
                size_t n = MIN(size - offset, READ_PART);
                int code = call_camera(job, path, "ReadFlash", &reply, "partition", "s", partition->name, "offset", "t", (uint64_t)offset,
                                       "length", "t", (uint64_t)n, NULL);

                if (code == EX_OK)
                        code = save_part(job, reply, n, to);
                if (code == EX_OK && sd_event_run(bus_event(job->bus), 0) >= 0 && job->interrupted)
                        code = fail(128 + SIGINT, "Interrupted.");
                if (code != EX_OK)
                        return code;
                offset += n;
                show_bar(job, "Upload", (unsigned)(offset * 100 / size), offset);
        }
        end_bar(job);
        (void)printf("Upload done.\n");
        return EX_OK;
}

/* In one of its layouts: which one it has only its bootloader shows. */
static bool has_partition(const struct job *job, const struct board *board)
{
        for (size_t i = 0; job->options.alt && i < board->n_layouts; i++)
                if (dfu_partition(&board->layouts[i], job->options.alt))
                        return true;
        return false;
}

static int read_partition(struct job *job, FILE *to)
{
        const struct partition *partition;
        _cleanup_free_ char *path = NULL;
        const struct camera *camera;
        struct dfu_device device;
        const struct board *board;
        int code;

        code = await_camera(job, &camera);
        if (code != EX_OK)
                return code;
        board = *camera->board ? board_by_id(&job->boards, camera->board) : NULL;
        path = strdup(camera->path);
        if (!board || !path)
                return fail(EX_IOERR, "It is not known which board that is.");
        /* What makes no sense restarts no camera. */
        if (!has_partition(job, board))
                return no_partition(job, board);
        say_opened(job, camera);
        code = hold(job, path);
        camera = bus_camera(job->bus, path);
        if (code == EX_OK && (!camera || !dfu_device_read(camera, &job->boards, &device) || !device.layout))
                code = fail(EX_IOERR, "It has left its bootloader.");
        if (code == EX_OK)
                code = choose_partition(job, board, device.layout, &partition);
        if (code == EX_OK)
                code = save_flash(job, path, partition, to);
        if (code == EX_OK && job->options.reset)
                code = call_plain(job, path, BUS_CAMERA, "Release", /* options= */ true);
        else if (code != EX_OK)
                let_go(job, path);
        return code;
}

static int upload_flash(struct job *job)
{
        const char *path = job->options.file;
        FILE *to;
        int code;

        if (wants_rom(job))
                return fail(EX_NOPERM, "In ROM DFU mode nothing is read out.");
        if (!job->options.alt)
                return no_partition(job, NULL);
        to = fopen(path, "wxe");
        if (!to)
                return fail(EX_CANTCREAT, "Cannot open file %s for writing: %s", path, strerror(errno));
        code = read_partition(job, to);
        end_bar(job);
        if (fclose(to) != 0 && code == EX_OK)
                code = fail(EX_IOERR, "Cannot write %s: %s.", path, strerror(errno));
        if (code != EX_OK)
                (void)unlink(path);
        return code;
}

/* --- the rest --- */

static int detach(struct job *job)
{
        const struct camera *camera;
        int code = find_camera(job, &camera);

        if (code == EX_OK && (!camera || strcmp(camera->mode, "bootloader") != 0))
                code = fail(EX_IOERR, "No DFU capable USB device available");
        return code == EX_OK ? call_plain(job, camera->path, BUS_CAMERA, "Release", /* options= */ true) : code;
}

static int list(struct job *job)
{
        for (size_t i = 0; i < bus_camera_count(job->bus); i++) {
                struct dfu_device device;

                if (dfu_device_read(bus_nth_camera(job->bus, i), &job->boards, &device) && dfu_device_matches(&device, &job->options))
                        dfu_device_print(&device, stdout);
        }
        dfu_foreign_list(job->program, &job->options, &job->boards, stdout);
        return EX_OK;
}

static int act(struct job *job)
{
        switch (job->options.action) {
        case DFU_ACTION_LIST:
                return list(job);
        case DFU_ACTION_DETACH:
                return detach(job);
        case DFU_ACTION_DOWNLOAD:
                return wants_rom(job) ? download_in_rom(job) : download(job);
        case DFU_ACTION_UPLOAD:
                return upload_flash(job);
        default:
                return fail(EX_USAGE, "Nothing to do.");
        }
}

static int install(const struct dfu_options *options)
{
        char program[4096];
        ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
        int r;

        if (n < 0)
                return fail(EX_OSERR, "Cannot find this program: %s.", strerror(errno));
        program[n] = '\0';
        r = options->action == DFU_ACTION_INSTALL ? dfu_install(options->file, program, stdout) : dfu_uninstall(options->file, program, stdout);
        return r >= 0 ? EX_OK : r == -ENOENT ? EX_NOINPUT : r == -EINVAL ? EX_DATAERR : EX_IOERR;
}

static int become_theirs(const struct dfu_options *options, char **argv)
{
        int r = dfu_foreign_become(argv);

        if (r != -ENOENT)
                return fail(EX_OSERR, "The dfu-util beside this one does not run: %s.", strerror(-r));
        return fail(EX_USAGE, "%04x:%04x is no camera that camrescued works on, and there is no %s beside this program, which might know it.",
                    options->vendor, options->product, DFU_INSTALL_ASIDE);
}

/* Its first line is what programs look at. */
static void print_version(void)
{
        (void)printf("dfu-util 0.11\n\ncamrescue-dfu-util %s: dfu-util's command line, carried out by camrescued\n\n", PACKAGE_VERSION);
        (void)fflush(stdout);
}

int main(int argc, char **argv)
{
        const char *boards = getenv("CAMRESCUE_BOARDS");
        struct job job = { .memfd = -1, .program = argv[0], .client = { .verb = "dfu-util", .bus_address = getenv("CAMRESCUE_BUS_ADDRESS") } };
        char problem[256];
        int code;

        dfu_options_parse(argc, argv, &job.options, problem, sizeof(problem));
        if (problem[0])
                return fail(EX_USAGE, "%s. See camrescue-dfu-util --help.", problem);
        if (job.options.action == DFU_ACTION_HELP)
                return fputs(dfu_options_help, stdout) < 0 || fflush(stdout) != 0 ? EX_IOERR : EX_OK;
        if (job.options.action == DFU_ACTION_INSTALL || job.options.action == DFU_ACTION_UNINSTALL)
                return install(&job.options);
        if (job.options.action == DFU_ACTION_VERSION) {
                print_version();
                return EX_OK;
        }
        if (board_list_load(&job.boards, boards && *boards ? boards : BOARDS_DIRECTORY) < 0)
                return fail(EX_OSFILE, "What is known of boards cannot be read.");
        if (job.options.has_id && dfu_is_foreign(&job.boards, job.options.vendor, job.options.product))
                return become_theirs(&job.options, argv);
        print_version();
        if (job.client.bus_address && !*job.client.bus_address)
                job.client.bus_address = NULL;
        code = job.options.action == DFU_ACTION_DOWNLOAD ? read_file(&job) : EX_OK;
        if (code == EX_OK && job.options.action == DFU_ACTION_DOWNLOAD)
                code = seal_image(&job);
        if (code == EX_OK)
                code = code_of(bus_open(&job.client, /* watch= */ true, &job.bus));
        if (code == EX_OK && bus_catch_stops(job.bus, on_signal, &job) < 0)
                code = fail(EX_OSERR, "Cannot wait for signals.");
        if (code == EX_OK) {
                bus_observe(job.bus, on_news, &job);
                code = act(&job);
        }
        job.bus = bus_free(job.bus);
        free(job.bytes);
        if (job.memfd >= 0)
                (void)close(job.memfd);
        return fflush(stdout) != 0 && code == EX_OK ? EX_IOERR : code;
}

/* SPDX-License-Identifier: MIT */
/*
 * Camera.HoldInBootloader, Camera.ReadFlash and Camera.Release.  Whether a bootloader may be let go is found out by looking at its
 * flash: Release is answered when it has left, or stays.  What is read goes block by block into a memfd, which is the answer.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "edge/bus-internal.h"

struct releasing {
        struct bus *bus;
        struct camera *camera;
        sd_bus_message *message;
        LIST_ENTRY(releasing) link;     /* in bus->releasings */
};

static void releasing_free(struct releasing *releasing)
{
        LIST_REMOVE(releasing, link);
        sd_bus_message_unref(releasing->message);
        free(releasing);
}

/* The option "timeout", if it is there.  Whatever else is there is refused. */
static int read_options(sd_bus_message *message, uint64_t *timeout, sd_bus_error *error)
{
        unsigned seen = 0;
        const char *key;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &key);
                if (r < 0)
                        return r;
                if (strcmp(key, "timeout") != 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Unknown option \"%s\".", key);
                r = bus_option_once(&seen, 1, key, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_read(message, "v", "t", timeout);
                if (r < 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"timeout\" is not of type \"t\".");
                r = sd_bus_message_exit_container(message);
        }
        if (r < 0)
                return r;
        if (*timeout == 0 || *timeout > HOLD_MAX)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "A timeout is of 1 to %llu microseconds.", (unsigned long long)HOLD_MAX);
        return sd_bus_message_exit_container(message);
}

int bus_on_hold(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct camera *camera = userdata;
        struct request_result result;
        uint64_t timeout = HOLD_DEFAULT;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = read_options(message, &timeout, error);
        if (r < 0)
                return r;
        if (!camera_hold(camera, timeout, &result))
                return bus_refuse(error, &result, "Not held: ");
        return sd_bus_reply_method_return(message, "");
}

static void on_released(void *userdata, enum release_end end, const char *message)
{
        struct releasing *releasing = userdata;

        switch (end) {
        case RELEASE_DONE:
                (void)sd_bus_reply_method_return(releasing->message, "");
                break;
        case RELEASE_BUSY:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_BUSY, "It stays in its bootloader: %s.", message);
                break;
        case RELEASE_INCOMPLETE:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_INCOMPLETE, "It stays in its bootloader: %s.", message);
                break;
        case RELEASE_REFUSED:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_REFUSED, "%s", message);
                break;
        case RELEASE_UPDATE_OPEN:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_UPDATE_OPEN, "%s", message);
                break;
        case RELEASE_INHIBITED:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_INHIBITED, "%s", message);
                break;
        case RELEASE_FAILED:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_FAILED, "It could not be told to leave: %s.", message);
                break;
        }
        defer_call(&releasing->bus->prepare);
        releasing_free(releasing);
}

int bus_on_release(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        struct camera *camera = userdata;
        struct releasing *releasing;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_no_options(message, error);
        if (r < 0)
                return r;
        releasing = calloc(1, sizeof(*releasing));
        if (!releasing)
                return -ENOMEM;
        *releasing = (struct releasing){ .bus = bus, .camera = camera, .message = sd_bus_message_ref(message) };
        LIST_INSERT_HEAD(&bus->releasings, releasing, link);
        camera_release(camera, on_released, releasing);
        return 1;                       /* answered, now or later */
}

void bus_forget_releasings(struct bus *bus)
{
        struct releasing *releasing;

        while ((releasing = LIST_FIRST(&bus->releasings))) {
                camera_release_forget(releasing->camera);
                releasing_free(releasing);
        }
}

/* --- ReadFlash --- */

#define READ_MAX (32u << 20)
#define READINGS_MAX 64                 /* under way, and answers that are still open somewhere */
#define READ_BYTES_MAX (48u << 20)      /* of all these: a memfd is the daemon's memory, as long as anybody has it open */
#define HANDED_DELAY (100 * MSEC)
#define HANDED_DELAY_MAX (60 * SEC)

struct reading {
        struct bus *bus;
        struct camera *camera;
        sd_bus_message *message;
        sd_bus_slot *left;              /* whoever asked: when he leaves, it ends */
        sd_bus_slot *still_there;       /* had he before we listened for that? */
        bool beginning, ended;          /* it may end in the call that begins it */
        int fd;
        size_t size, done;              /* of it, at most; and what is there */
        LIST_ENTRY(reading) link;       /* in bus->readings */
};

/* What was read, and is open somewhere. */
struct handed {
        int fd;                         /* opened once more, to read, as the other one was */
        size_t size;
        LIST_ENTRY(handed) link;        /* in bus->handed */
};

static void handed_free(struct handed *handed)
{
        LIST_REMOVE(handed, link);
        (void)close(handed->fd);
        log_debug("of what was read, %zu bytes are open nowhere any more", handed->size);
        free(handed);
}

/* A lease is given to who is the only one that has a file open or mapped.  (It is given back by closing it.) */
static bool is_open_elsewhere(int fd)
{
        (void)fcntl(fd, F_SETSIG, SIGURG);      /* whoever opens it this moment: that is not to be the end of us */
        return fcntl(fd, F_SETLEASE, F_WRLCK) < 0 && errno == EAGAIN;
}

static void sweep_handed(struct bus *bus)
{
        struct handed *handed, *next;

        for (handed = LIST_FIRST(&bus->handed); handed; handed = next) {
                next = LIST_NEXT(handed, link);
                if (!is_open_elsewhere(handed->fd))
                        handed_free(handed);
        }
}

/* Nobody tells when it is closed.  Most do that at once. */
static void on_handed_timer(void *userdata)
{
        struct bus *bus = userdata;

        sweep_handed(bus);
        if (LIST_EMPTY(&bus->handed))
                return;
        bus->handed_delay = MIN(2 * bus->handed_delay, HANDED_DELAY_MAX);
        timer_set(&bus->handed_timer, bus->handed_delay);
}

static int open_again(int fd)
{
        char path[32];
        int again;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        again = open(path, O_RDONLY | O_CLOEXEC);
        return again < 0 ? -errno : again;
}

/* The memfd gives way to two that can only be read: one to hand out, one to know when that is closed. */
static int hand_out(struct reading *reading)
{
        const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
        _cleanup_close_ int fd = -1, own = -1;
        struct bus *bus = reading->bus;
        struct handed *handed;

        if (fcntl(reading->fd, F_ADD_SEALS, seals) < 0)
                return -errno;
        fd = open_again(reading->fd);
        if (fd < 0)
                return fd;
        own = open_again(reading->fd);
        if (own < 0)
                return own;
        handed = calloc(1, sizeof(*handed));
        if (!handed)
                return -ENOMEM;
        *handed = (struct handed){ .fd = take_fd(&own), .size = reading->done };
        LIST_INSERT_HEAD(&bus->handed, handed, link);
        log_debug("of what was read, %zu bytes are handed out", handed->size);
        closep(&reading->fd);
        reading->fd = take_fd(&fd);
        bus->handed_delay = HANDED_DELAY;
        if (!bus->handed_timer.loop)
                timer_init(&bus->handed_timer, bus->loop, on_handed_timer, bus);
        timer_set(&bus->handed_timer, bus->handed_delay);
        return 0;
}

static void reading_free(struct reading *reading)
{
        LIST_REMOVE(reading, link);
        sd_bus_slot_unref(reading->left);
        sd_bus_slot_unref(reading->still_there);
        sd_bus_message_unref(reading->message);
        closep(&reading->fd);
        free(reading);
}

static int on_data(void *userdata, const uint8_t *data, size_t size)
{
        struct reading *reading = userdata;

        if (size > reading->size - reading->done)
                return -EFBIG;
        reading->done += size;
        while (size > 0) {
                ssize_t n = write(reading->fd, data, size);

                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

static void answer_read(struct reading *reading, enum read_end end, const char *message)
{
        int r = end == READ_DONE ? hand_out(reading) : 0;

        if (r < 0) {
                end = READ_FAILED;
                message = strerror(-r);
        }
        switch (end) {
        case READ_DONE:
                (void)sd_bus_reply_method_return(reading->message, "h", reading->fd);
                break;
        case READ_REFUSED:
                (void)sd_bus_reply_method_errorf(reading->message, BUS_ERROR_REFUSED, "Not read: %s.", message);
                break;
        case READ_UPDATE_OPEN:
                (void)sd_bus_reply_method_errorf(reading->message, BUS_ERROR_UPDATE_OPEN, "Not read: %s.", message);
                break;
        case READ_INHIBITED:
                (void)sd_bus_reply_method_errorf(reading->message, BUS_ERROR_INHIBITED, "Not read: %s.", message);
                break;
        case READ_FAILED:
                (void)sd_bus_reply_method_errorf(reading->message, BUS_ERROR_FAILED, "It could not be read: %s.", message);
                break;
        }
}

static void on_read_end(void *userdata, enum read_end end, const char *message)
{
        struct reading *reading = userdata;

        answer_read(reading, end, message);
        defer_call(&reading->bus->prepare);
        reading->ended = true;
        if (!reading->beginning)
                reading_free(reading);
}

static const struct hold_reader reader = { .on_data = on_data, .on_end = on_read_end };

static int on_reader_gone(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct reading *reading = userdata;

        camera_read_cancel(reading->camera);
        reading_free(reading);
        return 0;
}

static int on_reader_still_there(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        return sd_bus_message_get_error(reply) ? on_reader_gone(reply, userdata, error) : 0;
}

static int read_read_options(sd_bus_message *message, struct session_read *ret, sd_bus_error *error)
{
        static const char *const keys[] = { "partition", "offset", "length" };
        uint64_t offset = 0, length = 0;
        const char *key, *partition = NULL;
        unsigned seen = 0;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &key);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                        if (strcmp(key, keys[i]) == 0 && (r = bus_option_once(&seen, 1u << i, key, error)) < 0)
                                return r;
                if (strcmp(key, "partition") == 0)
                        r = sd_bus_message_read(message, "v", "s", &partition);
                else if (strcmp(key, "offset") == 0)
                        r = sd_bus_message_read(message, "v", "t", &offset);
                else if (strcmp(key, "length") == 0)
                        r = sd_bus_message_read(message, "v", "t", &length);
                else
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Unknown option \"%s\".", key);
                if (r < 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"%s\" has the wrong type.", key);
                r = sd_bus_message_exit_container(message);
        }
        if (r < 0)
                return r;
        if (!partition || !*partition || strlen(partition) >= sizeof(ret->partition))
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Say which partition: option \"partition\".");
        if (offset > READ_MAX || length > READ_MAX)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "No partition is larger than %u bytes.", READ_MAX);
        *ret = (struct session_read){ .wanted = true, .offset = (uint32_t)offset, .size = (uint32_t)length };
        snprintf(ret->partition, sizeof(ret->partition), "%s", partition);
        return sd_bus_message_exit_container(message);
}

/* (sd_bus_track would wait for the bus, and the loop with it.) */
static int track_caller(struct reading *reading)
{
        const char *sender = sd_bus_message_get_sender(reading->message);
        int r;

        r = bus_await_leaving(reading->bus, sender, &reading->left, on_reader_gone, reading);
        return r < 0 ? r : bus_ask_user(reading->bus, sender, &reading->still_there, on_reader_still_there, reading);
}

/* Refused before anybody is asked for anything. */
static int begin_reading(struct reading *reading, const struct session_read *what, sd_bus_error *error)
{
        struct request_result result;
        bool begun;
        int r;

        reading->fd = memfd_create("camrescue-flash", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (reading->fd < 0)
                return -errno;
        reading->beginning = true;
        begun = camera_read(reading->camera, what, &reader, reading, &result);
        reading->beginning = false;
        if (!begun)
                return bus_refuse(error, &result, "Not read: ");
        if (reading->ended) {
                reading_free(reading);
                return 0;
        }
        r = track_caller(reading);
        if (r < 0)
                camera_read_cancel(reading->camera);
        return r;
}

/* To its end, as long as that can be. */
static size_t bytes_wanted(const struct camera *camera, const struct session_read *what)
{
        size_t most = what->size;

        for (size_t i = 0; what->size == 0 && camera->board && i < camera->board->n_layouts; i++) {
                const struct partition *partition = layout_partition(&camera->board->layouts[i], what->partition, NULL);

                if (partition && partition->limit - partition->start > what->offset)
                        most = MAX(most, (size_t)(partition->limit - partition->start - what->offset));
        }
        return most;
}

static int check_room(struct bus *bus, size_t size, sd_bus_error *error)
{
        const struct reading *reading;
        const struct handed *handed;
        uint64_t sum = size;
        unsigned n = 0;

        sweep_handed(bus);
        LIST_FOREACH(reading, &bus->readings, link) {
                sum += reading->size;
                n++;
        }
        LIST_FOREACH(handed, &bus->handed, link) {
                sum += handed->size;
                n++;
        }
        if (sum > READ_BYTES_MAX || n >= READINGS_MAX)
                return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too much is read at a time, or what was read is still open: "
                                         "close that, or read less, and ask again.");
        return 0;
}

int bus_on_read(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        struct camera *camera = userdata;
        struct session_read what;
        struct reading *reading;
        size_t size;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = read_read_options(message, &what, error);
        if (r < 0)
                return r;
        size = bytes_wanted(camera, &what);
        r = check_room(bus, size, error);
        if (r < 0)
                return r;
        reading = calloc(1, sizeof(*reading));
        if (!reading)
                return -ENOMEM;
        *reading = (struct reading){ .bus = bus, .camera = camera, .message = sd_bus_message_ref(message), .size = size, .fd = -1 };
        LIST_INSERT_HEAD(&bus->readings, reading, link);
        r = begin_reading(reading, &what, error);
        if (r < 0) {
                reading_free(reading);
                return r;
        }
        return 1;
}

void bus_forget_readings(struct bus *bus)
{
        struct reading *reading;
        struct handed *handed;

        while ((handed = LIST_FIRST(&bus->handed)))
                handed_free(handed);
        timer_deinit(&bus->handed_timer);
        while ((reading = LIST_FIRST(&bus->readings))) {
                camera_read_cancel(reading->camera);
                reading_free(reading);
        }
}

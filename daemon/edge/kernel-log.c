/* SPDX-License-Identifier: MIT */

/*
 * See kernel-log.h.  /dev/kmsg gives one record for each read(), from the oldest
 * that it still has to the newest, and then EAGAIN; EPIPE says that records were
 * overwritten before we came, and the next read goes on behind them.  Another file
 * is read as it comes: a line is a line.
 *
 * A log may be flooded (a firewall that logs packets), and none of that is for
 * us: some records at a time, and a pause after each reading, so that it costs at
 * most ten wakeups a second.  What is overwritten meanwhile is lost.
 */

#include "edge/kernel-log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "edge/sighting-reader.h"

#define FACILITY_SHIFT 3                /* of the priority; the kernel's own facility is 0, and nobody else may use it */
#define KMSG_MAJOR 1
#define KMSG_MINOR 11

#define RECORD_MAX 8192                 /* with all its lines; into a smaller buffer the kernel gives none */
#define READS_MAX 64                    /* in a row, before other work has its turn */
#define LOST_MAX 10000                  /* reads in a row that give nothing but an error: more than any kernel has records */
#define PAUSE (100 * MSEC)

/* --- one line --- */

/* Decimal digits up to a separator, which is taken too. */
static bool take_number(const char **p, const char *end, char separator, uint64_t *ret)
{
        uint64_t value = 0;
        const char *start = *p;

        for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
                if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
                    __builtin_add_overflow(value, (uint64_t)(**p - '0'), &value))
                        return false;
        if (*p == start || *p == end || **p != separator)
                return false;
        (*p)++;
        *ret = value;
        return true;
}

static bool begins(const char *text, size_t size, const char *with)
{
        size_t n = strlen(with);

        return size >= n && memcmp(text, with, n) == 0;
}

/* "1-4.2", and nothing else: is_port_path() takes what sysfs says, this takes what anything may have said. */
static bool is_port(const char *name)
{
        size_t bus = strspn(name, "0123456789"), n = strlen(name);

        return bus > 0 && name[bus] == '-' && n < PORT_PATH_MAX && name[n - 1] != '.' && name[bus + 1] != '.' && !strstr(name, "..") &&
               name[bus + 1] && strspn(name + bus + 1, "0123456789.") == n - bus - 1;
}

static int device_name(const char *name, size_t size, char port[static PORT_PATH_MAX])
{
        char copy[PORT_PATH_MAX];

        if (size == 0 || size >= sizeof(copy) || memchr(name, '\0', size))
                return -EINVAL;
        memcpy(copy, name, size);
        copy[size] = '\0';
        if (!is_port(copy))
                return -EINVAL;
        memcpy(port, copy, sizeof(copy));
        return 0;
}

/* "usb13" -> "13": the bus. */
static int root_hub_name(const char *name, size_t size, char port[static PORT_PATH_MAX])
{
        static const char prefix[] = "usb";
        size_t n = strlen(prefix);

        if (size <= n || size > n + 4 || !begins(name, size, prefix))
                return -EINVAL;
        for (size_t i = n; i < size; i++)
                if (name[i] < '0' || name[i] > '9')
                        return -EINVAL;
        memcpy(port, name + n, size - n);
        port[size - n] = '\0';
        return 0;
}

int kernel_port_name(const char *name, size_t size, char port[static PORT_PATH_MAX])
{
        static const char infix[] = "-port";
        char copy[PORT_PATH_MAX * 2], joined[PORT_PATH_MAX * 4 + 2];
        char *number;

        if (size == 0 || size >= sizeof(copy) || memchr(name, '\0', size))
                return -EINVAL;
        memcpy(copy, name, size);
        copy[size] = '\0';
        number = strstr(copy, infix);
        if (!number)
                return -EINVAL;
        *number = '\0';
        number += strlen(infix);
        if (!*number || strspn(number, "0123456789") != strlen(number))
                return -EINVAL;
        if (begins(copy, strlen(copy), "usb"))
                (void)snprintf(joined, sizeof(joined), "%s-%s", copy + 3, number);
        else if (is_port(copy))
                (void)snprintf(joined, sizeof(joined), "%s.%s", copy, number);
        else
                return -EINVAL;
        return device_name(joined, strlen(joined), port);
}

/* What is said of a port: "usb usb1-port1: ...". */
static enum kernel_word port_word(const char *text, size_t size)
{
        static const char *const troubles[] = {
                "attempt power cycle", "Cannot enable. Maybe the USB cable is bad?", "connect-debounce failed", "cannot reset",
        };

        if (begins(text, size, "unable to enumerate USB device"))
                return KERNEL_GAVE_UP;
        for (size_t i = 0; i < ELEMENTSOF(troubles); i++)
                if (begins(text, size, troubles[i]))
                        return KERNEL_HAS_TROUBLE;
        return KERNEL_SAYS_NOTHING;
}

/* And of a device there: "usb 1-1: ...".  "new full-speed USB device number 5" is only the beginning, and may come to nothing. */
static enum kernel_word device_word(const char *text, size_t size)
{
        static const char *const troubles[] = {
                "device descriptor read/", "device not accepting address", "Device not responding to setup address",
                "can't read configurations", "unable to read config index", "can't set config",
        };

        if (begins(text, size, "New USB device found"))
                return KERNEL_ENUMERATED;
        if (begins(text, size, "USB disconnect"))
                return KERNEL_LEFT;
        for (size_t i = 0; i < ELEMENTSOF(troubles); i++)
                if (begins(text, size, troubles[i]))
                        return KERNEL_HAS_TROUBLE;
        return KERNEL_SAYS_NOTHING;
}

static void copy_text(const char *text, size_t size, char *to, size_t room)
{
        size_t n = 0;

        for (; n < size && n < room - 1; n++)
                to[n] = text[n] >= ' ' && text[n] < 0x7f ? text[n] : '?';
        to[n] = '\0';
}

int kernel_record_parse(const char *line, size_t size, struct kernel_record *ret)
{
        static const char driver[] = "usb ";
        const char *p = line, *end = line + size, *name, *colon;
        struct kernel_record record = { 0 };
        uint64_t priority;

        if (!take_number(&p, end, ',', &priority) || !take_number(&p, end, ',', &record.sequence) ||
            !take_number(&p, end, ',', &record.time))
                return -EINVAL;
        p = memchr(p, ';', (size_t)(end - p));          /* behind the flags, and whatever else there will be */
        if (!p)
                return -EINVAL;
        if (priority >> FACILITY_SHIFT)
                return -ENOMSG;
        p++;

        if (!begins(p, (size_t)(end - p), driver))
                goto done;
        name = p + strlen(driver);
        colon = memchr(name, ':', (size_t)(end - name));
        if (!colon || end - colon < 2 || colon[1] != ' ')
                goto done;
        p = colon + 2;
        if (kernel_port_name(name, (size_t)(colon - name), record.port) >= 0)
                record.word = port_word(p, (size_t)(end - p));
        else if (device_name(name, (size_t)(colon - name), record.port) >= 0)
                record.word = device_word(p, (size_t)(end - p));
        else if (root_hub_name(name, (size_t)(colon - name), record.port) >= 0 && device_word(p, (size_t)(end - p)) == KERNEL_LEFT)
                record.word = KERNEL_LEFT;
        if (record.word == KERNEL_SAYS_NOTHING)
                record.port[0] = '\0';
        if (record.word == KERNEL_HAS_TROUBLE)
                copy_text(p, (size_t)(end - p), record.text, sizeof(record.text));
done:
        *ret = record;
        return 0;
}

/* --- all ports --- */

static struct kernel_port *find_port(struct kernel_ports *ports, const char *name)
{
        for (size_t i = 0; i < KERNEL_PORTS_MAX; i++)
                if (strcmp(ports->ports[i].port, name) == 0)
                        return &ports->ports[i];
        return NULL;
}

static struct kernel_port *make_port(struct kernel_ports *ports, const char *name)
{
        struct kernel_port *port = find_port(ports, name) ?: find_port(ports, "");

        if (!port) {
                port = &ports->ports[0];
                for (size_t i = 1; i < KERNEL_PORTS_MAX; i++)
                        if (ports->ports[i].time < port->time)
                                port = &ports->ports[i];
                *port = (struct kernel_port){ 0 };
        }
        (void)snprintf(port->port, sizeof(port->port), "%s", name);
        return port;
}

/* What hangs on it, however deep. */
static bool is_below(const char *port, const char *hub)
{
        size_t n = strlen(hub);

        return strncmp(port, hub, n) == 0 && (port[n] == '\0' || port[n] == '.' || port[n] == '-');
}

void kernel_ports_add(struct kernel_ports *ports, const struct kernel_record *record, uint64_t keep)
{
        struct kernel_port *port;

        switch (record->word) {
        case KERNEL_HAS_TROUBLE:
        case KERNEL_GAVE_UP:
                port = make_port(ports, record->port);
                if (record->time > port->time && record->time - port->time > keep) {
                        port->times = 0;
                        port->news = false;
                        port->why[0] = '\0';
                }
                port->time = record->time;
                if (record->word == KERNEL_GAVE_UP) {
                        port->times++;
                        port->news = true;
                } else if (strstr(record->text, "error"))       /* "attempt power cycle" is no reason */
                        memcpy(port->why, record->text, sizeof(port->why));
                break;
        case KERNEL_ENUMERATED:
                port = find_port(ports, record->port);
                if (port)
                        *port = (struct kernel_port){ 0 };
                break;
        case KERNEL_LEFT:
                for (size_t i = 0; i < KERNEL_PORTS_MAX; i++)
                        if (ports->ports[i].port[0] && is_below(ports->ports[i].port, record->port))
                                ports->ports[i] = (struct kernel_port){ 0 };
                break;
        case KERNEL_SAYS_NOTHING:
        case _KERNEL_WORD_MAX:
                break;
        }
}

const struct kernel_port *kernel_ports_take(struct kernel_ports *ports)
{
        for (size_t i = 0; i < KERNEL_PORTS_MAX; i++)
                if (ports->ports[i].news) {
                        ports->ports[i].news = false;
                        return &ports->ports[i];
                }
        return NULL;
}

/* --- the reader --- */

struct kernel_log {
        struct loop *loop;
        struct kernel_log_callbacks callbacks;
        void *userdata;
        uint64_t keep;
        int fd;
        bool is_ours;                   /* to be closed */
        struct io_watch watch;
        struct timer pause;
        struct defer again;
        struct kernel_ports ports;
        char buffer[2 * RECORD_MAX];
        size_t size;
        bool skipping;                  /* a line that is longer than any */
        unsigned lost;                  /* reads in a row that gave nothing */
};

DEFINE_FREEP(kernel_log)

uint64_t kernel_log_now(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        return (uint64_t)now.tv_sec * SEC + (uint64_t)now.tv_nsec / 1000;
}

/* The kernel's clock and ours agree to some milliseconds only: what is not there yet is of now. */
static uint64_t age_of(uint64_t time)
{
        uint64_t now = kernel_log_now();

        return now > time ? now - time : 0;
}

static void take_line(struct kernel_log *log, const char *line, size_t size)
{
        struct kernel_record record;

        if (kernel_record_parse(line, size, &record) < 0 || record.word == KERNEL_SAYS_NOTHING)
                return;
        kernel_ports_add(&log->ports, &record, log->keep);
        if (record.word == KERNEL_ENUMERATED)
                log->callbacks.on_enumerated(log->userdata, record.port);
        else if (record.word == KERNEL_LEFT)
                log->callbacks.on_left(log->userdata, record.port);
}

static void take_lines(struct kernel_log *log)
{
        char *start = log->buffer, *end = log->buffer + log->size, *newline;

        while ((newline = memchr(start, '\n', (size_t)(end - start)))) {
                if (!log->skipping)
                        take_line(log, start, (size_t)(newline - start));
                log->skipping = false;
                start = newline + 1;
        }
        log->size = (size_t)(end - start);
        memmove(log->buffer, start, log->size);
        if (log->size >= RECORD_MAX) {
                log->skipping = true;
                log->size = 0;
        }
}

static void tell(struct kernel_log *log)
{
        const struct kernel_port *port;

        while ((port = kernel_ports_take(&log->ports))) {
                uint64_t age = age_of(port->time);

                if (age < log->keep)
                        log->callbacks.on_gave_up(log->userdata, port->port, port->why, port->times, age);
        }
}

static void stop_reading(struct kernel_log *log)
{
        (void)io_watch_set(&log->watch, 0);
}

/* true: there is more. */
static bool read_some(struct kernel_log *log)
{
        for (unsigned i = 0; i < READS_MAX; i++) {
                ssize_t n = read(log->fd, log->buffer + log->size, sizeof(log->buffer) - log->size);

                if (n > 0) {
                        log->lost = 0;
                        log->size += (size_t)n;
                        take_lines(log);
                } else if (n < 0 && (errno == EINTR || errno == EPIPE || errno == EINVAL) && log->lost++ < LOST_MAX) {
                        continue;               /* overwritten, or too long for any buffer */
                } else if (n < 0 && errno == EAGAIN) {
                        timer_set(&log->pause, PAUSE);
                        return false;
                } else {
                        log_notice("The kernel's log has ended (%s): devices that do not answer are not seen from now on.",
                                   n == 0 ? "nobody writes to it" : strerror(errno));
                        return false;
                }
        }
        return true;
}

static void on_again(void *userdata)
{
        struct kernel_log *log = userdata;

        if (read_some(log))
                defer_call(&log->again);
        else
                tell(log);
}

static void on_readable(void *userdata, unsigned events)
{
        struct kernel_log *log = userdata;

        (void)events;
        stop_reading(log);
        on_again(log);
}

static void on_pause_over(void *userdata)
{
        struct kernel_log *log = userdata;

        (void)io_watch_set(&log->watch, IO_READ);
}

static int open_log(struct kernel_log *log, const char *path)
{
        struct stat st;
        int flags;

        if (strcmp(path, "-") != 0) {
                log->fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                log->is_ours = log->fd >= 0;
                return log->fd < 0 ? -errno : 0;
        }
        if (fstat(STDIN_FILENO, &st) < 0)
                return -errno;
        if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(KMSG_MAJOR, KMSG_MINOR))
                return -ENODEV;
        flags = fcntl(STDIN_FILENO, F_GETFL);
        if (flags < 0 || fcntl(STDIN_FILENO, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        log->fd = STDIN_FILENO;
        return 0;
}

int kernel_log_new(struct loop *loop, const char *path, uint64_t keep, const struct kernel_log_callbacks *callbacks, void *userdata,
                   struct kernel_log **ret)
{
        _cleanup_(kernel_log_freep) struct kernel_log *log = NULL;
        int r;

        log = calloc(1, sizeof(*log));
        if (!log)
                return -ENOMEM;
        log->loop = loop;
        log->callbacks = *callbacks;
        log->userdata = userdata;
        log->keep = keep;
        log->fd = -1;
        timer_init(&log->pause, loop, on_pause_over, log);
        defer_init(&log->again, loop, on_again, log);
        r = open_log(log, path);
        if (r < 0)
                return r;
        io_watch_init(&log->watch, loop, log->fd, on_readable, log);
        /* What stands there already is no event, and of a file that is none there will never be one. */
        defer_call(&log->again);
        *ret = take_ptr(log);
        return 0;
}

struct kernel_log *kernel_log_free(struct kernel_log *log)
{
        if (!log)
                return NULL;
        timer_deinit(&log->pause);
        defer_deinit(&log->again);
        if (log->watch.loop)
                io_watch_deinit(&log->watch);
        if (log->is_ours)
                (void)close(log->fd);
        free(log);
        return NULL;
}

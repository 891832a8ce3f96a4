/* SPDX-License-Identifier: MIT */
/* See kernel-log.h. */

#include "sim/kernel-log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define RECORDS 256U                    /* all of them fit into a FIFO */

struct sim_kernel_log {
        int fifo;                       /* -1: nobody reads */
        uint64_t sequence;
        struct record {
                uint64_t sequence, time;
                char text[160];
        } records[RECORDS];             /* the one with number n in n % RECORDS */
};

int sim_kernel_log_new(struct sim_kernel_log **ret)
{
        struct sim_kernel_log *log = calloc(1, sizeof(*log));

        if (!log)
                return -ENOMEM;
        log->fifo = -1;
        *ret = log;
        return 0;
}

struct sim_kernel_log *sim_kernel_log_free(struct sim_kernel_log *log)
{
        if (!log)
                return NULL;
        if (log->fifo >= 0)
                (void)close(log->fifo);
        free(log);
        return NULL;
}

/* Who does not read loses what comes then, as everywhere. */
static void put(const struct sim_kernel_log *log, const struct record *record)
{
        char line[256];
        int n;

        if (log->fifo < 0)
                return;
        n = snprintf(line, sizeof(line), "6,%" PRIu64 ",%" PRIu64 ",-;%s\n SUBSYSTEM=usb\n", record->sequence, record->time, record->text);
        (void)!write(log->fifo, line, (size_t)n);
}

int sim_kernel_log_to(struct sim_kernel_log *log, const char *path)
{
        int fd;

        if (mkfifo(path, 0600) < 0)
                return -errno;
        /* Both ends are held here: it never ends, and no writing waits. */
        fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (log->fifo >= 0)
                (void)close(log->fifo);
        log->fifo = fd;
        for (uint64_t n = log->sequence > RECORDS ? log->sequence - RECORDS : 0; n < log->sequence; n++)
                put(log, &log->records[n % RECORDS]);
        return 0;
}

void sim_kernel_says(struct sim_kernel_log *log, const char *format, ...)
{
        struct record *record = &log->records[log->sequence % RECORDS];
        struct timespec now;
        va_list ap;

        (void)clock_gettime(CLOCK_MONOTONIC_RAW, &now);
        record->sequence = log->sequence++;
        record->time = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
        va_start(ap, format);
        (void)vsnprintf(record->text, sizeof(record->text), format, ap);
        va_end(ap);
        put(log, record);
}

void sim_kernel_log_age(struct sim_kernel_log *log, unsigned seconds)
{
        uint64_t back = (uint64_t)seconds * 1000000;

        for (size_t i = 0; i < RECORDS; i++)
                log->records[i].time -= MIN(log->records[i].time, back);
}

/* SPDX-License-Identifier: MIT */

/*
 * See log.h.  A message is one line, whatever is in it: control characters
 * (a device chooses its own strings) are shown as '?'.  A line on stderr is
 * one write(2), so that lines of several threads do not mix.  errno is kept.
 * log_init() and log_set_sink() are called while there is one thread only.
 */

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* The fields of the caller are given, not those of this file. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "base/cleanup.h"

#define LINE_MAX_SIZE 2048

static struct {
        bool journal;
        int level;
        void (*sink)(int level, const struct log_subject *, const char *line, void *);
        void *userdata;
} logger = { .level = LOG_INFO };

/* systemd tells by device and inode which file it connected to the journal: stderr may have been redirected since. */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        uintmax_t device, inode;
        struct stat st;
        int end = 0;

        if (!stream || sscanf(stream, "%ju:%ju%n", &device, &inode, &end) != 2 || stream[end] != 0)
                return false;
        return fstat(STDERR_FILENO, &st) == 0 && st.st_dev == (dev_t)device && st.st_ino == (ino_t)inode;
}

void log_init(enum log_target target, int level)
{
        logger.journal = target == LOG_TARGET_JOURNAL || (target == LOG_TARGET_AUTO && stderr_is_journal());
        logger.level = level;
}

int log_level(void)
{
        return logger.level;
}

void log_set_sink(void (*sink)(int level, const struct log_subject *, const char *line, void *), void *userdata)
{
        logger.sink = sink;
        logger.userdata = userdata;
}

static void write_stderr(int level, const struct log_subject *subject, const char *message)
{
        static const char letters[] = "EEEEWNID";      /* LOG_EMERG ... LOG_DEBUG */
        const char *about = subject ? subject->port ? subject->port : subject->camera ? subject->camera : subject->update
                                    : NULL;
        char line[LINE_MAX_SIZE + 128];
        struct timespec now;
        struct tm tm;
        int n;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        (void)localtime_r(&now.tv_sec, &tm);
        n = snprintf(line, sizeof(line) - 1, "%02d:%02d:%02d.%03d %c %s%s%s", tm.tm_hour, tm.tm_min, tm.tm_sec,
                     (int)(now.tv_nsec / 1000000), letters[level & 7], about ? about : "", about ? ": " : "", message);
        n = MIN(n, (int)sizeof(line) - 2);
        line[n++] = '\n';
        /* Who does not take the line cannot be told so. */
        while (write(STDERR_FILENO, line, (size_t)n) < 0 && errno == EINTR)
                ;
}

struct fields {
        struct iovec iov[9];
        int n;
        char text[256 + LINE_MAX_SIZE];
        size_t used;
};

static void fields_add(struct fields *fields, const char *name, const char *value)
{
        size_t room = sizeof(fields->text) - fields->used;
        char *begin = fields->text + fields->used;
        int n;

        if (!value)
                return;
        n = snprintf(begin, room, "%s=%s", name, value);
        if (n < 0 || (size_t)n >= room)
                return;
        fields->iov[fields->n++] = (struct iovec){ .iov_base = begin, .iov_len = (size_t)n };
        fields->used += (size_t)n;
}

static int write_journal(int level, const struct log_subject *subject, const char *file, int line,
                         const char *function, const char *message)
{
        struct fields fields = {};
        char priority[2] = { (char)('0' + (level & 7)), 0 }, line_number[16];

        (void)snprintf(line_number, sizeof(line_number), "%d", line);
        /* What tells whose line it is comes before what could be too long to fit. */
        fields_add(&fields, "PRIORITY", priority);
        fields_add(&fields, "SYSLOG_IDENTIFIER", "camrescued");
        if (subject) {
                fields_add(&fields, "CAMRESCUE_CAMERA", subject->camera);
                fields_add(&fields, "CAMRESCUE_PORT", subject->port);
                fields_add(&fields, "CAMRESCUE_UPDATE", subject->update);
        }
        fields_add(&fields, "MESSAGE", message);
        fields_add(&fields, "CODE_LINE", line_number);
        fields_add(&fields, "CODE_FUNC", function);
        fields_add(&fields, "CODE_FILE", file);
        return sd_journal_sendv(fields.iov, fields.n);
}

void log_write(int level, const struct log_subject *subject, const char *file, int line, const char *function,
               const char *format, ...)
{
        int saved_errno = errno;
        char message[LINE_MAX_SIZE];
        va_list ap;
        int n;

        if (level > logger.level)
                return;

        /* A format may end in %m. */
        va_start(ap, format);
        n = vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        if (n < 0)
                strcpy(message, "(message that cannot be formatted)");
        else if ((size_t)n >= sizeof(message))
                strcpy(message + sizeof(message) - 4, "...");
        for (char *p = message; *p; p++)
                if ((unsigned char)*p < 0x20 || *p == 0x7f)
                        *p = '?';

        if (logger.sink)
                logger.sink(level, subject, message, logger.userdata);
        else if (!logger.journal || write_journal(level, subject, file, line, function, message) < 0)
                write_stderr(level, subject, message);
        errno = saved_errno;
}

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Logging.  To journald with structured fields when stderr is connected to it
 * (JOURNAL_STREAM) or when asked; else one readable line per message on
 * stderr.  Every line about a camera carries CAMRESCUE_CAMERA and
 * CAMRESCUE_PORT, every line about an update CAMRESCUE_UPDATE, so that one
 * camera's biography can be read alone.
 */

#include <stdarg.h>
#include <syslog.h>

enum log_target {
        LOG_TARGET_AUTO,
        LOG_TARGET_STDERR,
        LOG_TARGET_JOURNAL,
};

/* What a line is about; members may be NULL. */
struct log_subject {
        const char *camera;             /* unique id, or provisional key */
        const char *port;               /* "3-1.2" */
        const char *update;             /* update id */
};

/* level: LOG_ERR ... LOG_DEBUG; messages above it are dropped before formatting. */
void log_init(enum log_target target, int level);
int log_level(void);
/* Tests capture lines here instead; NULL restores. */
void log_set_sink(void (*sink)(int level, const struct log_subject *, const char *line, void *), void *userdata);

void log_write(int level, const struct log_subject *subject, const char *file, int line, const char *function,
               const char *format, ...) __attribute__((format(printf, 6, 7)));

#define log_about(level, subject, ...)                                                          \
        do {                                                                                    \
                if ((level) <= log_level())                                                     \
                        log_write((level), (subject), __FILE__, __LINE__, __func__, __VA_ARGS__); \
        } while (0)

#define log_error(...)   log_about(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_about(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...)  log_about(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...)    log_about(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...)   log_about(LOG_DEBUG, NULL, __VA_ARGS__)

/* SPDX-License-Identifier: MIT */
#pragma once

/* The daemon as a whole: everything is built here, in order of birth, and torn down in reverse. */

#include <stdbool.h>

#include "base/log.h"

struct daemon_options {
        const char *configuration;      /* file */
        bool configuration_named;       /* by whoever started us: else it may be missing */
        const char *state_directory;
        const char *boards_directory;
        const char *bus_address;        /* NULL: the system bus */
        const char *kernel_log;         /* /dev/kmsg, "-" for standard input; NULL: none */
        bool only_check;                /* the configuration, and end */
};

struct daemon;

/* Reads the configuration as the daemon would; the number of wrong lines, each named on standard error.  Negative errno: the boards
 * cannot be read. */
int daemon_check_configuration(const struct daemon_options *options);
int daemon_new(const struct daemon_options *options, struct daemon **ret);
struct daemon *daemon_free(struct daemon *daemon);
/* Until SIGTERM or SIGINT: 0; or a negative errno when it could not go on. */
int daemon_run(struct daemon *daemon);

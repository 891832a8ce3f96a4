/* SPDX-License-Identifier: MIT */
/* camrescued: parse, build, run, free. */

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "daemon.h"

DEFINE_FREEP(daemon)

static void help(void)
{
        puts("camrescued [OPTIONS...]\n"
             "\n"
             "Brings stuck OpenMV cameras back to life when they are plugged in.\n"
             "Runs in the foreground; SIGTERM or Ctrl-C ends it at a safe boundary.\n"
             "\n"
             "     --configuration FILE     default: " CONFIG_DIRECTORY "/camrescue.conf;\n"
             "                              drop-ins are read from FILE.d/*.conf\n"
             "     --check-config           only read it, and name what is wrong\n"
             "     --state-directory DIR    default: $STATE_DIRECTORY, or " STATE_DIRECTORY "\n"
             "     --boards-directory DIR   default: " BOARDS_DIRECTORY "\n"
             "     --bus-address ADDRESS    a D-Bus of your own; default: the system bus\n"
             "     --kernel-log FILE        see devices that do not answer: /dev/kmsg, or -\n"
             "                              when it was opened as standard input\n"
             "     --log TARGET             auto, stderr or journal\n"
             "  -d --debug                  say more\n"
             "  -h --help\n"
             "  -V --version");
}

static int parse(int argc, char *argv[], struct daemon_options *options, enum log_target *target, int *level)
{
        enum { CONFIGURATION = 256, CHECK, STATE, BOARDS, BUS, KERNEL_LOG, LOG };
        static const struct option long_options[] = {
                { "configuration",    required_argument, NULL, CONFIGURATION },
                { "check-config",     no_argument,       NULL, CHECK },
                { "state-directory",  required_argument, NULL, STATE },
                { "boards-directory", required_argument, NULL, BOARDS },
                { "bus-address",      required_argument, NULL, BUS },
                { "kernel-log",       required_argument, NULL, KERNEL_LOG },
                { "log",              required_argument, NULL, LOG },
                { "debug",            no_argument,       NULL, 'd' },
                { "help",             no_argument,       NULL, 'h' },
                { "version",          no_argument,       NULL, 'V' },
                {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "dhV", long_options, NULL)) >= 0)
                switch (c) {
                case CONFIGURATION:
                        options->configuration = optarg;
                        options->configuration_named = true;
                        break;
                case CHECK:
                        options->only_check = true;
                        break;
                case STATE:
                        options->state_directory = optarg;
                        break;
                case BOARDS:
                        options->boards_directory = optarg;
                        break;
                case BUS:
                        options->bus_address = optarg;
                        break;
                case KERNEL_LOG:
                        options->kernel_log = optarg;
                        break;
                case LOG:
                        if (strcmp(optarg, "stderr") == 0)
                                *target = LOG_TARGET_STDERR;
                        else if (strcmp(optarg, "journal") == 0)
                                *target = LOG_TARGET_JOURNAL;
                        else if (strcmp(optarg, "auto") != 0) {
                                fprintf(stderr, "camrescued: --log takes auto, stderr or journal, not \"%s\"\n", optarg);
                                return -1;
                        }
                        break;
                case 'd':
                        *level = LOG_DEBUG;
                        break;
                case 'h':
                        help();
                        return 1;
                case 'V':
                        puts("camrescued " PACKAGE_VERSION);
                        return 1;
                default:
                        fprintf(stderr, "Try 'camrescued --help'.\n");
                        return -1;
                }
        if (optind < argc) {
                fprintf(stderr, "camrescued: \"%s\" was not expected; try 'camrescued --help'.\n", argv[optind]);
                return -1;
        }
        return 0;
}

int main(int argc, char *argv[])
{
        const char *state = getenv("STATE_DIRECTORY");
        struct daemon_options options = {
                .configuration = CONFIG_DIRECTORY "/camrescue.conf",
                .state_directory = state && state[0] ? state : STATE_DIRECTORY,
                .boards_directory = BOARDS_DIRECTORY,
        };
        _cleanup_(daemon_freep) struct daemon *daemon = NULL;
        enum log_target target = LOG_TARGET_AUTO;
        int level = LOG_INFO, r;

        /* Helper threads come and go by the dozen when a rack is powered up: one heap serves them all, and gives back.  It grows by
         * little, so that what lives for one conversation (40 KB) finds no room in it and is mapped alone: between a hundred of those,
         * what stays would be strewn over megabytes, and hold a page each. */
        (void)mallopt(M_ARENA_MAX, 1);
        (void)mallopt(M_TRIM_THRESHOLD, 64 * 1024);
        (void)mallopt(M_MMAP_THRESHOLD, 32 * 1024);
        (void)mallopt(M_TOP_PAD, 4 * 1024);

        r = parse(argc, argv, &options, &target, &level);
        if (r != 0)
                return r > 0 ? EXIT_SUCCESS : 2;
        log_init(target, level);

        if (options.only_check)
                return daemon_check_configuration(&options) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
        r = daemon_new(&options, &daemon);
        if (r < 0)
                return EXIT_FAILURE;
        return daemon_run(daemon) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue inhibit: runs a command while the daemon keeps its hands off.  The
 * inhibitor is a descriptor of this process alone: it ends with it, however it
 * ends, and whatever the command leaves running does not hold it.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/text.h"

#define EXIT_CANNOT_RUN 126             /* as shells say it */
#define EXIT_NOT_FOUND  127
#define EXIT_SIGNALLED  128

struct hold {
        struct client *client;
        struct bus *bus;
        const char *who, *why;
        char **paths;                   /* of cameras; "/": all */
        struct pollfd *polls;           /* one each, and the signals */
        size_t n;
};

static enum exit_code take(const struct hold *hold, size_t i, int *ret_fd)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        enum exit_code code;
        int fd, r;

        r = bus_new_call(hold->bus, BUS_ROOT, BUS_MANAGER, "Inhibit", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "oss", hold->paths[i], hold->who, hold->why);
        if (r < 0)
                return client_fail(hold->client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(hold->client, hold->bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (sd_bus_message_read(reply, "h", &fd) < 0)
                return bus_bad_reply(hold->client, "an inhibitor");
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return client_fail(hold->client, EXIT_FAILED, "Cannot keep the inhibitor: %s.", strerror(errno));
        *ret_fd = fd;
        return EXIT_DONE;
}

/* The daemon has ended, or was restarted, and knows nothing of us any more. */
static void take_again(struct hold *hold, size_t i)
{
        (void)close(hold->polls[i].fd);
        hold->polls[i].fd = -1;
        if (take(hold, i, &hold->polls[i].fd) != EXIT_DONE)
                client_note(hold->client, "camrescue: The daemon has ended, and holds nothing back any more.");
}

/* told: where the parent hears why it could not be run; closed unsaid when it could. */
static _Noreturn void run_child(char **command, const sigset_t *mask, int told)
{
        int error;

        (void)sigprocmask(SIG_SETMASK, mask, NULL);
        (void)execvp(command[0], command);
        error = errno;
        _exit(write(told, &error, sizeof(error)) == (ssize_t)sizeof(error) ? EXIT_CANNOT_RUN : EXIT_FAILED);
}

/* 0: it runs, or has ended before that, by a signal. */
static int hear(int told)
{
        int error = 0;
        ssize_t n;

        do
                n = read(told, &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        return n == (ssize_t)sizeof(error) ? error : 0;
}

/* What a terminal sends goes to the command as well; what a process sends to us is passed on. */
static void pass_on(int fd, pid_t child)
{
        struct signalfd_siginfo info;

        while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
                if (info.ssi_signo != SIGCHLD && info.ssi_code <= 0)
                        (void)kill(child, (int)info.ssi_signo);
}

static enum exit_code wait_for(struct hold *hold, pid_t child)
{
        int status;

        for (;;) {
                pid_t pid = waitpid(child, &status, WNOHANG);

                if (pid == child && WIFEXITED(status))
                        return (enum exit_code)WEXITSTATUS(status);
                if (pid == child && WIFSIGNALED(status))
                        return (enum exit_code)(EXIT_SIGNALLED + WTERMSIG(status));
                if (pid < 0 && errno != EINTR)
                        return client_fail(hold->client, EXIT_FAILED, "Lost sight of the command: %s.", strerror(errno));
                if (poll(hold->polls, hold->n + 1, -1) < 0)
                        continue;
                for (size_t i = 0; i < hold->n; i++)
                        if (hold->polls[i].fd >= 0 && hold->polls[i].revents)
                                take_again(hold, i);
                pass_on(hold->polls[hold->n].fd, child);
        }
}

static enum exit_code run(struct hold *hold, char **command)
{
        sigset_t signals, mask;
        int told[2], error;
        pid_t child;

        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGCHLD);
        (void)sigaddset(&signals, SIGINT);
        (void)sigaddset(&signals, SIGQUIT);
        (void)sigaddset(&signals, SIGTERM);
        (void)sigaddset(&signals, SIGHUP);
        (void)sigprocmask(SIG_BLOCK, &signals, &mask);
        hold->polls[hold->n] = (struct pollfd){ .fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN };
        if (hold->polls[hold->n].fd < 0)
                return client_fail(hold->client, EXIT_FAILED, "Cannot wait for signals: %s.", strerror(errno));
        if (pipe2(told, O_CLOEXEC) < 0)
                return client_fail(hold->client, EXIT_FAILED, "Cannot run %s: %s.", command[0], strerror(errno));
        (void)fflush(NULL);
        child = fork();
        if (child == 0)
                run_child(command, &mask, told[1]);
        error = child < 0 ? errno : 0;
        (void)close(told[1]);
        if (child > 0)
                error = hear(told[0]);
        (void)close(told[0]);
        if (error == 0)
                return wait_for(hold, child);
        if (child > 0)
                (void)waitpid(child, NULL, 0);
        return client_fail(hold->client, child < 0 ? EXIT_FAILED : (enum exit_code)(error == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN),
                           "Cannot run %s: %s.", command[0], strerror(error));
}

static enum exit_code hold_and_run(struct hold *hold, char **names, size_t n_names, char **command)
{
        enum exit_code code = EXIT_DONE;

        for (size_t i = 0; i < n_names && code == EXIT_DONE; i++) {
                const struct camera *camera;

                code = camera_named(hold->client, hold->bus, names[i], &camera);
                if (code == EXIT_DONE)
                        hold->paths[i] = camera->path;
        }
        for (; hold->n < MAX(n_names, (size_t)1) && code == EXIT_DONE; hold->n++)
                code = take(hold, hold->n, &hold->polls[hold->n].fd);
        return code == EXIT_DONE ? run(hold, command) : code;
}

enum exit_code verb_inhibit(struct client *client, int argc, char **argv)
{
        enum { WHO = OPTION_FIRST_OWN, WHY };
        static const struct option options[] = {
                { "who", required_argument, NULL, WHO },
                { "why", required_argument, NULL, WHY },
                CLIENT_COMMON_OPTIONS
        };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        _cleanup_free_ char **paths = NULL;
        _cleanup_free_ struct pollfd *polls = NULL;
        _cleanup_free_ char *who = NULL;
        struct hold hold = { .client = client, .why = "running under \"camrescue inhibit\"" };
        enum exit_code code;
        char **command, name[40];
        int option, n = argc;

        /* What stands behind "--" is the command's. */
        for (int i = argc - 1; i > 0; i--)
                if (strcmp(argv[i], "--") == 0)
                        n = i;
        while ((option = getopt_long(n, argv, ":", options, NULL)) >= 0)
                switch (option) {
                case WHO:
                        hold.who = optarg;
                        break;
                case WHY:
                        hold.why = optarg;
                        break;
                default:
                        if (client_common_option(client, option, &code) > 0)
                                return code;
                }
        if (n >= argc - 1)
                return client_fail(client, EXIT_WRONG_USAGE, "Say the command behind \"--\": see camrescue inhibit --help.");
        command = argv + n + 1;
        if (!hold.who) {
                const char *slash = strrchr(command[0], '/');

                (void)snprintf(name, sizeof(name), "%s", slash ? slash + 1 : command[0]);
                /* What was cut off, or is no text, is not sent. */
                who = *name ? text_clean(name, true) : strdup("camrescue");
                if (!who)
                        return client_fail(client, EXIT_FAILED, "No memory.");
                hold.who = who;
        }
        code = client_needs_descriptors(client, "inhibit ...");
        if (code == EXIT_DONE)
                code = bus_open(client, /* watch= */ false, &bus);
        if (code != EXIT_DONE)
                return code;
        hold.bus = bus;
        paths = calloc((size_t)(n - optind) + 1, sizeof(char *));
        polls = calloc((size_t)(n - optind) + 2, sizeof(*polls));
        if (!paths || !polls)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        paths[0] = (char[]){ "/" };
        hold.paths = paths;
        hold.polls = polls;
        return hold_and_run(&hold, argv + optind, (size_t)(n - optind), command);
}

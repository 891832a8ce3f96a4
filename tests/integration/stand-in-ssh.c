/* SPDX-License-Identifier: MIT */
/*
 * Stands in for ssh in a test of --host: runs systemd-stdio-bridge on this
 * machine, on the bus of $STAND_IN_BUS, and carries bytes both ways through
 * pipes.  As with ssh, a descriptor does not come through.  Writes its arguments
 * to $STAND_IN_LOG.  The host "nowhere" does not exist, "bare" has no bridge.
 */

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

static void write_all(int fd, const char *data, size_t size)
{
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EAGAIN) {
                        struct pollfd p = { .fd = fd, .events = POLLOUT };

                        (void)poll(&p, 1, -1);
                        continue;
                }
                if (n <= 0)
                        exit(0);
                data += n;
                size -= (size_t)n;
        }
}

/* What lies in from goes to to.  false: from has come to its end. */
static bool carry(int from, int to)
{
        char buffer[4096];
        ssize_t n = read(from, buffer, sizeof(buffer));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return true;
        if (n <= 0)
                return false;
        write_all(to, buffer, (size_t)n);
        return true;
}

static void bridge(void)
{
        const char *bus = getenv("STAND_IN_BUS");
        char option[256];
        int down[2], up[2];

        if (!bus || pipe(down) < 0 || pipe(up) < 0)
                exit(99);
        (void)snprintf(option, sizeof(option), "--bus-path=%s", bus);
        if (fork() == 0) {
                (void)dup2(down[0], STDIN_FILENO);
                (void)dup2(up[1], STDOUT_FILENO);
                (void)close(down[0]);
                (void)close(down[1]);
                (void)close(up[0]);
                (void)close(up[1]);
                (void)execlp("systemd-stdio-bridge", "systemd-stdio-bridge", option, NULL);
                _exit(127);
        }
        (void)close(down[0]);
        (void)close(up[1]);
        for (;;) {
                struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = up[0], .events = POLLIN } };

                if (poll(p, 2, -1) < 0 && errno != EINTR)
                        exit(99);
                if ((p[0].revents && !carry(STDIN_FILENO, down[1])) || (p[1].revents && !carry(up[0], STDOUT_FILENO)))
                        exit(0);
        }
}

int main(int argc, char **argv)
{
        const char *log = getenv("STAND_IN_LOG"), *host, *at;
        FILE *f = log ? fopen(log, "ae") : NULL;
        int i = 1;

        for (int j = 1; f && j < argc; j++)
                (void)fprintf(f, "%s%s", argv[j], j + 1 < argc ? " " : "\n");
        if (f)
                (void)fclose(f);
        for (; i < argc && argv[i][0] == '-'; i++) {
                if (strcmp(argv[i], "--") == 0) {
                        i++;
                        break;
                }
                if (strcmp(argv[i], "-p") == 0)
                        i++;
        }
        if (argc - i != 2 || strcmp(argv[i + 1], "systemd-stdio-bridge") != 0)
                return 99;
        at = strrchr(argv[i], '@');
        host = at ? at + 1 : argv[i];
        if (strcmp(host, "nowhere") == 0) {
                (void)fputs("ssh: Could not resolve hostname nowhere\n", stderr);
                return 255;
        }
        if (strcmp(host, "bare") == 0) {
                (void)fprintf(stderr, "bash: line 1: %s: command not found\n", argv[i + 1]);
                return 127;
        }
        bridge();
}

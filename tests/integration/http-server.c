/* SPDX-License-Identifier: MIT */
/*
 * A web server with faults, for one test: serves the files of a directory on
 * 127.0.0.1, says its port on standard output, and ends with its standard input.
 * Beside a file FILE that is asked for, what is there instead:
 *
 *   FILE.redirect    302, to what stands in it
 *   FILE.status      an answer of that status
 *   FILE.short       says that it is longer than what comes
 *   FILE.endless     zeros without a length and without end
 *   FILE.stall       the head, and then nothing
 *
 * Each request is told as "get PATH".
 */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

static bool send_all(int fd, const void *data, size_t size)
{
        const char *bytes = data;

        while (size > 0) {
                ssize_t n = write(fd, bytes, size);

                if (n <= 0)
                        return false;
                bytes += n;
                size -= (size_t)n;
        }
        return true;
}

static ssize_t read_beside(const char *directory, const char *path, const char *suffix, char *text, size_t size)
{
        char name[1024];
        ssize_t n;
        int fd;

        (void)snprintf(name, sizeof(name), "%s%s%s", directory, path, suffix);
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -1;
        n = read(fd, text, size - 1);
        (void)close(fd);
        if (n < 0)
                return -1;
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
        return n;
}

static void head(int fd, const char *status, long long length, const char *location)
{
        char text[2048];
        size_t n = (size_t)snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nConnection: close\r\n", status);

        if (length >= 0)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "Content-Length: %lld\r\n", length);
        if (location)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "Location: %s\r\n", location);
        n += (size_t)snprintf(text + n, sizeof(text) - n, "\r\n");
        (void)send_all(fd, text, n);
}

static void send_file(int fd, int file)
{
        char buffer[65536];
        ssize_t n;

        while ((n = read(file, buffer, sizeof(buffer))) > 0)
                if (!send_all(fd, buffer, (size_t)n))
                        return;
}

static void answer(int fd, const char *directory, const char *path)
{
        static const char zeros[65536];
        char text[1024], name[1024];
        struct stat st = { .st_size = 0 };
        int file;

        if (read_beside(directory, path, ".redirect", text, sizeof(text)) >= 0) {
                head(fd, "302 Found", 0, text);
                return;
        }
        if (read_beside(directory, path, ".status", text, sizeof(text)) >= 0) {
                head(fd, text, 5, NULL);
                (void)send_all(fd, "sorry", 5);
                return;
        }
        if (read_beside(directory, path, ".endless", text, sizeof(text)) >= 0) {
                head(fd, "200 OK", -1, NULL);
                while (send_all(fd, zeros, sizeof(zeros)))
                        ;
                return;
        }
        if (read_beside(directory, path, ".stall", text, sizeof(text)) >= 0) {
                head(fd, "200 OK", 1000, NULL);
                struct pollfd p = { .fd = fd, .events = POLLIN };

                (void)poll(&p, 1, -1);          /* until the other side gives up */
                return;
        }
        (void)snprintf(name, sizeof(name), "%s%s", directory, path);
        file = strstr(path, "..") ? -1 : open(name, O_RDONLY | O_CLOEXEC);
        if (file < 0 || fstat(file, &st) < 0 || !S_ISREG(st.st_mode)) {
                head(fd, "404 Not Found", 0, NULL);
                return;
        }
        head(fd, "200 OK", st.st_size + (read_beside(directory, path, ".short", text, sizeof(text)) >= 0 ? 1000 : 0), NULL);
        send_file(fd, file);
        (void)close(file);
}

static void serve(int fd, const char *directory)
{
        char request[4096] = "", path[512];
        size_t n = 0;
        ssize_t got;

        while (n < sizeof(request) - 1 && !strstr(request, "\r\n\r\n") && (got = read(fd, request + n, sizeof(request) - 1 - n)) > 0) {
                n += (size_t)got;
                request[n] = '\0';
        }
        if (sscanf(request, "%*s %511s", path) != 1)
                return;
        (void)dprintf(STDOUT_FILENO, "get %s\n", path);
        answer(fd, directory, path);
        (void)shutdown(fd, SHUT_WR);
}

int main(int argc, char **argv)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t length = sizeof(address);
        int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (argc != 2 || listener < 0 || bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 8) < 0 ||
            getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
                (void)fprintf(stderr, "http-server: %s\n", strerror(errno));
                return 99;
        }
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGCHLD, SIG_IGN);
        (void)dprintf(STDOUT_FILENO, "port %u\n", ntohs(address.sin_port));
        for (;;) {
                struct pollfd p[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = listener, .events = POLLIN } };
                int fd;

                if (poll(p, 2, -1) < 0)
                        continue;
                if (p[0].revents)
                        return 0;
                fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd < 0)
                        continue;
                /* One that stalls keeps no other; it ends with its connection, and after a minute in any case. */
                if (fork() == 0) {
                        (void)alarm(60);
                        serve(fd, argv[1]);
                        _exit(0);
                }
                (void)close(fd);
        }
}

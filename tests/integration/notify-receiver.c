/* SPDX-License-Identifier: MIT */
/*
 * Listens on a NOTIFY_SOCKET, says "listening", and prints what a daemon tells its manager, one
 * assignment a line, until it is told to end.  Bash cannot listen on a datagram socket.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char *argv[])
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char message[4096];
        int fd;

        if (argc != 2 || strlen(argv[1]) >= sizeof(address.sun_path)) {
                (void)fprintf(stderr, "Usage: notify-receiver SOCKET\n");
                return 2;
        }
        strcpy(address.sun_path, argv[1]);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
                (void)fprintf(stderr, "notify-receiver: %s: %s\n", argv[1], strerror(errno));
                return 1;
        }
        if (puts("listening") < 0 || fflush(stdout) != 0)
                return 1;
        for (;;) {
                ssize_t n = recv(fd, message, sizeof(message) - 1, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return 1;
                message[n] = '\0';
                if (puts(message) < 0 || fflush(stdout) != 0)
                        return 1;
        }
}

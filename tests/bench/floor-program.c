/* SPDX-License-Identifier: MIT */

/* The least that a program on libsystemd can be; the client's --version is held against it. */

#include <stdio.h>
#include <systemd/sd-daemon.h>

int main(void)
{
        return printf("%d\n", sd_listen_fds(0)) < 0;
}

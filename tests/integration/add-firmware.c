/* SPDX-License-Identifier: MIT */
/*
 * Gives an image to AddFirmware, or to Camera.Update or Camera.Recover, in ways that
 * the client never would: an unsealed one, options that make no sense.  What is
 * refused is told by the error's name and sentence, on standard error.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

static const char usage[] =
        "Usage: add-firmware [--seals=LETTERS] [--size=BYTES] [--camera=PATH [--recover]] BUS-ADDRESS [KEY=TEXT]... < IMAGE\n"
        "Without --seals standard input is given as it is; else a copy in a memfd, with seals against w(rite), g(row), s(hrink), or n(one),\n"
        "cut or filled with zeros to --size.  --recover says \"asked\" as soon as the daemon has it.\n";

static int seals_of(const char *letters)
{
        int seals = 0;

        for (; *letters; letters++)
                seals |= *letters == 'w' ? F_SEAL_WRITE : *letters == 'g' ? F_SEAL_GROW : *letters == 's' ? F_SEAL_SHRINK : 0;
        return seals;
}

/* size below 0: as much as there is. */
static int copy_sealed(int seals, long size)
{
        int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        if (fd < 0 || sendfile(fd, STDIN_FILENO, NULL, 64u << 20) < 0 || (size >= 0 && ftruncate(fd, size) < 0) ||
            fcntl(fd, F_ADD_SEALS, seals) < 0) {
                perror("add-firmware");
                exit(2);
        }
        return fd;
}

static int append_options(sd_bus_message *message, const char *camera, int fd, char **options)
{
        int r = sd_bus_message_open_container(message, 'a', "{sv}");

        if (r >= 0 && camera)
                r = sd_bus_message_append(message, "{sv}", "image", "h", fd);
        for (; *options && r >= 0; options++) {
                char *value = strchr(*options, '=');

                if (!value)
                        return -EINVAL;
                *value++ = '\0';
                r = sd_bus_message_append(message, "{sv}", *options, "s", value);
        }
        return r < 0 ? r : sd_bus_message_close_container(message);
}

static bool answered;

static int on_answer(sd_bus_message *reply, void *userdata, sd_bus_error *unused)
{
        (void)unused;
        answered = true;
        return sd_bus_error_copy(userdata, sd_bus_message_get_error(reply));
}

/* One connection's messages come in their order: when the ping is answered, the call is there. */
static int call_and_say(sd_bus *bus, sd_bus_message *message, sd_bus_error *error)
{
        int r;

        r = sd_bus_call_async(bus, NULL, message, on_answer, error, 60 * UINT64_C(1000000));
        if (r >= 0)
                r = sd_bus_call_method(bus, "org.camrescue1", "/org/camrescue1", "org.freedesktop.DBus.Peer", "Ping", NULL, NULL, "");
        if (r < 0)
                return r;
        (void)puts("asked");
        (void)fflush(stdout);
        while (!answered && r >= 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        return sd_bus_error_is_set(error) ? -sd_bus_error_get_errno(error) : r;
}

static int call(sd_bus *bus, const char *camera, bool recover, int fd, char **options, sd_bus_error *error)
{
        sd_bus_message *message = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus, &message, "org.camrescue1", camera ? camera : "/org/camrescue1",
                                           camera ? "org.camrescue1.Camera" : "org.camrescue1.Manager",
                                           !camera ? "AddFirmware" : recover ? "Recover" : "Update");
        if (r >= 0 && !camera)
                r = sd_bus_message_append(message, "h", fd);
        if (r >= 0)
                r = append_options(message, camera, fd, options);
        if (r >= 0)
                r = recover ? call_and_say(bus, message, error) : sd_bus_call(bus, message, 0, error, NULL);
        sd_bus_message_unref(message);
        return r;
}

int main(int argc, char *argv[])
{
        static const struct option long_options[] = {
                { "seals", required_argument, NULL, 's' },
                { "size", required_argument, NULL, 'n' },
                { "camera", required_argument, NULL, 'c' },
                { "recover", no_argument, NULL, 'r' },
                {},
        };
        sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *camera = NULL, *letters = NULL;
        int option, fd = STDIN_FILENO, r;
        sd_bus *bus = NULL;
        bool recover = false;
        long size = -1;

        while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0)
                if (option == 's')
                        letters = optarg;
                else if (option == 'n')
                        size = strtol(optarg, NULL, 10);
                else if (option == 'c')
                        camera = optarg;
                else if (option == 'r')
                        recover = true;
                else
                        optind = argc;
        if (optind >= argc) {
                (void)fputs(usage, stderr);
                return 2;
        }
        if (letters)
                fd = copy_sealed(seals_of(letters), size);
        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, argv[optind]);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r >= 0)
                r = call(bus, camera, recover, fd, argv + optind + 1, &error);
        if (r < 0)
                (void)fprintf(stderr, "%s: %s\n", error.name ? error.name : strerror(-r), error.message ? error.message : "");
        sd_bus_error_free(&error);
        sd_bus_flush_close_unref(bus);
        return r < 0;
}

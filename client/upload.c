/* SPDX-License-Identifier: MIT */
/*
 * Giving an image to the daemon.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/image-name.h"
#include "client/text.h"
#include "client/upload.h"

static int new_memory(void)
{
        int fd = memfd_create("camrescue-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        return fd < 0 ? -errno : fd;
}

static int write_all(int fd, const char *data, size_t size)
{
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

static int seal(int fd)
{
        return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0 ? -errno : 0;
}

int upload_memory(const void *data, size_t size)
{
        _cleanup_close_ int fd = -1;
        int r;

        if (size == 0)
                return -ENODATA;
        if (size > UPLOAD_MAX)
                return -EFBIG;
        fd = new_memory();
        if (fd < 0)
                return fd;
        r = write_all(fd, data, size);
        if (r >= 0)
                r = seal(fd);
        return r < 0 ? r : take_fd(&fd);
}

int upload_file(const char *path)
{
        _cleanup_close_ int from = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), to = -1;
        char buffer[64 * 1024];
        struct stat st;
        size_t size = 0;
        int r;

        if (from < 0 || fstat(from, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
        if (st.st_size > (off_t)UPLOAD_MAX)
                return -EFBIG;
        to = new_memory();
        if (to < 0)
                return to;
        for (;;) {
                ssize_t n = read(from, buffer, sizeof(buffer));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t)n;
                if (size > UPLOAD_MAX)
                        return -EFBIG;
                r = write_all(to, buffer, (size_t)n);
                if (r < 0)
                        return r;
        }
        if (size == 0)
                return -ENODATA;
        r = seal(to);
        return r < 0 ? r : take_fd(&to);
}

const char *upload_problem(int error)
{
        switch (-error) {
        case EFBIG:
                return "larger than 64 MiB";
        case ENODATA:
                return "empty";
        case EINVAL:
                return "not a regular file";
        default:
                return strerror(-error);
        }
}

static int append_text(sd_bus_message *m, const char *key, const char *value)
{
        _cleanup_free_ char *valid = NULL;

        if (!value || !*value)
                return 0;
        valid = text_valid(value);
        return valid ? sd_bus_message_append(m, "{sv}", key, "s", valid) : -ENOMEM;
}

static int fill_call(sd_bus_message *m, int memfd, const struct upload *what)
{
        _cleanup_free_ char *file = what->file ? text_file_name(what->file) : NULL;
        int r;

        if (what->file && !file)
                return -ENOMEM;
        r = sd_bus_message_append_basic(m, 'h', &memfd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_text(m, "board", what->board);
        if (r >= 0)
                r = append_text(m, "partition", what->partition);
        if (r >= 0)
                r = append_text(m, "version", what->version);
        if (r >= 0)
                r = append_text(m, "file", file);
        if (r >= 0 && what->stable)
                r = sd_bus_message_append(m, "{sv}", "stable", "b", 1);
        return r >= 0 ? sd_bus_message_close_container(m) : r;
}

enum exit_code upload(struct bus *bus, int memfd, const struct upload *what, sd_bus_error *error, char **ret_id)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        enum exit_code code;
        const char *id;
        int r;

        r = bus_new_call(bus, BUS_ROOT, BUS_MANAGER, "AddFirmware", &call);
        if (r >= 0)
                r = fill_call(call, memfd, what);
        if (r < 0) {
                (void)sd_bus_error_set_errno(error, r);
                return EXIT_FAILED;
        }
        code = bus_call(bus, call, error, &reply);
        if (code != EXIT_DONE)
                return code;
        r = sd_bus_message_read_basic(reply, 's', &id);
        if (r < 0 || !(*ret_id = strdup(id))) {
                (void)sd_bus_error_set_const(error, SD_BUS_ERROR_FAILED, "The daemon's answer (the image's id) makes no sense");
                return EXIT_FAILED;
        }
        return EXIT_DONE;
}

enum exit_code upload_one(const struct client *client, struct bus *bus, const char *path, const char *board, char **ret_id)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const struct upload what = { .file = image_base(path), .board = board, .partition = image_partition(image_base(path)) };
        size_t n = strlen(path);
        _cleanup_close_ int memfd = -1;
        enum exit_code code;

        if (n > 4 && strcmp(path + n - 4, ".zip") == 0)
                return client_fail(client, EXIT_REFUSED, "%s is an archive: camrescue firmware import it, then name its version.", path);
        memfd = upload_file(path);
        if (memfd < 0)
                return client_fail(client, EXIT_FAILED, "Cannot read %s: %s.", path, upload_problem(memfd));
        code = upload(bus, memfd, &what, &error, ret_id);
        if (code == EXIT_DONE)
                return EXIT_DONE;
        if (code == EXIT_NO_DAEMON)
                return bus_report_error(client, &error, -EIO);
        return client_fail(client, code, "%s: %s", path, error.message ? error.message : error.name);
}

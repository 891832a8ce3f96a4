/* SPDX-License-Identifier: MIT */

/*
 * See sighting-reader.h.  Everything read here was said by a device, and a
 * device may say anything: descriptors go through the bounds-checked reader,
 * strings are cut to printable ASCII (a bus message with a serial that is not
 * UTF-8 would be refused as a whole, with every other camera in it).
 *
 * A directory that is held open belongs to one attachment for ever: once its
 * device has left, nothing in it can be opened.  So a sighting is of one piece
 * if the device number can still be read at its end.
 */

#include "edge/sighting-reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define DESCRIPTOR_CONFIGURATION 0x02
#define DESCRIPTOR_INTERFACE     0x04
#define DESCRIPTOR_DFU           0x21   /* within a DFU interface; elsewhere it is HID's */

#define CLASS_MASS_STORAGE 0x08
#define CLASS_APPLICATION  0xfe
#define SUBCLASS_DFU       0x01

/* As much of `descriptors` is looked at.  No camera has a tenth of it. */
#define DESCRIPTORS_MAX 4096

bool attachment_equal(const struct attachment *a, const struct attachment *b)
{
        return a->bus == b->bus && a->number == b->number && strcmp(a->port, b->port) == 0;
}

bool is_port_path(const char *name)
{
        return name[0] >= '0' && name[0] <= '9' && !strchr(name, ':') && strlen(name) < PORT_PATH_MAX;
}

int product_parse(const char *product, uint16_t *ret_vendor, uint16_t *ret_product, uint16_t *ret_device)
{
        unsigned long field[3];

        for (size_t i = 0; i < ELEMENTSOF(field); i++) {
                /* Counted first: strtoul() would take a sign, blanks and "0x". */
                size_t digits = strspn(product, "0123456789abcdefABCDEF");

                if (digits < 1 || digits > 4 || product[digits] != (i < 2 ? '/' : '\0'))
                        return -EINVAL;
                field[i] = strtoul(product, NULL, 16);
                product += digits + 1;
        }

        *ret_vendor = (uint16_t)field[0];
        *ret_product = (uint16_t)field[1];
        *ret_device = (uint16_t)field[2];
        return 0;
}

/* What follows the header of the first configuration. */
static bool read_configuration(struct reader *reader, struct sighting *sighting)
{
        bool in_dfu = false, first_is_dfu = false;
        size_t n_alts = 0;

        while (reader->left > 0) {
                uint8_t length = reader_u8(reader), type = reader_u8(reader);
                const uint8_t *body = length < 2 ? NULL : reader_take(reader, length - 2U);

                if (reader->failed || !body)
                        break;

                if (type == DESCRIPTOR_INTERFACE && length >= 9) {
                        /* number, alternate setting, endpoints, class, subclass */
                        in_dfu = body[3] == CLASS_APPLICATION && body[4] == SUBCLASS_DFU;
                        if (body[3] == CLASS_MASS_STORAGE)
                                sighting->has_mass_storage = true;
                        if (body[0] == 0 && in_dfu) {
                                first_is_dfu = true;
                                n_alts++;
                        }
                } else if (type == DESCRIPTOR_DFU && in_dfu && length >= 7) {
                        sighting->transfer_size = get_le16(body + 3);
                }
        }

        if (first_is_dfu)
                sighting->n_alts = MIN(n_alts, ELEMENTSOF(sighting->alt_names));
        return !reader->failed && reader->left == 0;
}

int sighting_from_descriptors(const void *descriptors, size_t size, struct sighting *sighting)
{
        struct reader reader = reader_new(descriptors, size), configuration;
        const uint8_t *device, *header, *body;
        size_t total, left;

        device = reader_take(&reader, 18);
        if (!device || device[0] != 18)
                return -EINVAL;

        sighting->vendor = get_le16(device + 8);
        sighting->product = get_le16(device + 10);
        sighting->device = get_le16(device + 12);
        sighting->n_interfaces = 0;
        sighting->has_mass_storage = false;
        sighting->n_alts = 0;
        sighting->transfer_size = 0;
        memset(sighting->alt_names, 0, sizeof(sighting->alt_names));

        header = reader_take(&reader, 9);
        if (!header || header[0] != 9 || header[1] != DESCRIPTOR_CONFIGURATION)
                return SIGHTING_MALFORMED;

        sighting->n_interfaces = header[4];
        total = get_le16(header + 2);
        if (total < 9)
                return SIGHTING_MALFORMED;

        left = MIN(total - 9, reader.left);
        body = reader_take(&reader, left);
        configuration = reader_new(body, left);
        if (!read_configuration(&configuration, sighting) || left < total - 9)
                return SIGHTING_MALFORMED;
        return 0;
}

/* --- sysfs --- */

/* Bytes read, at most size; -ENODEV when the file is not there (any more). */
static ssize_t read_file(int directory_fd, const char *name, void *buffer, size_t size)
{
        _cleanup_close_ int fd = -1;
        size_t n = 0;

        fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0)
                return errno == ENOENT ? -ENODEV : -errno;

        while (n < size) {
                ssize_t r = read(fd, (char *)buffer + n, size - n);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r < 0)
                        return -errno;
                if (r == 0)
                        break;
                n += (size_t)r;
        }
        return (ssize_t)n;
}

/* First line of a file, printable ASCII only; "" if there is none. */
static void read_line(int directory_fd, const char *name, char *line, size_t size)
{
        ssize_t n = read_file(directory_fd, name, line, size - 1);

        line[n < 0 ? 0 : n] = '\0';
        line[strcspn(line, "\n")] = '\0';
        for (char *c = line; *c; c++)
                if (*c < 0x20 || *c > 0x7e)
                        *c = '?';
}

/* Value of a line "KEY=value" of a file as the kernel writes it; lines end with '\n', the text with '\0'. */
static bool find_property(const char *text, const char *key, char *value, size_t size)
{
        size_t key_length = strlen(key), length;

        for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
                if (strncmp(line, key, key_length) != 0 || line[key_length] != '=')
                        continue;
                length = strcspn(line + key_length + 1, "\n");
                if (length >= size)
                        return false;
                memcpy(value, line + key_length + 1, length);
                value[length] = '\0';
                return true;
        }
        return false;
}

int attachment_read(int directory_fd, const char *port, struct attachment *ret,
                    uint16_t *ret_vendor, uint16_t *ret_product)
{
        char text[1024], name[27], product[24], bus[8], number[8];
        uint16_t device;
        ssize_t n;
        int r;

        n = read_file(directory_fd, "uevent", text, sizeof(text) - 1);
        if (n < 0)
                return (int)n;
        text[n] = '\0';

        if (!find_property(text, "DEVNAME", name, sizeof(name)) ||
            !find_property(text, "PRODUCT", product, sizeof(product)) ||
            !find_property(text, "BUSNUM", bus, sizeof(bus)) ||
            !find_property(text, "DEVNUM", number, sizeof(number)))
                return -EINVAL;
        r = product_parse(product, ret_vendor, ret_product, &device);
        if (r < 0)
                return r;

        (void)snprintf(ret->port, sizeof(ret->port), "%s", port);
        ret->bus = (unsigned)strtoul(bus, NULL, 10);
        ret->number = (unsigned)strtoul(number, NULL, 10);
        (void)snprintf(ret->node, sizeof(ret->node), "/dev/%s", name);
        return 0;
}

int sighting_read(int directory_fd, const struct attachment *attachment, struct sighting *ret)
{
        uint8_t descriptors[DESCRIPTORS_MAX];
        struct sighting sighting = { 0 };
        char number[16];
        ssize_t n;
        int r;

        (void)snprintf(sighting.port, sizeof(sighting.port), "%s", attachment->port);
        (void)snprintf(sighting.node, sizeof(sighting.node), "%s", attachment->node);

        n = read_file(directory_fd, "descriptors", descriptors, sizeof(descriptors));
        if (n < 0)
                return (int)n;
        r = sighting_from_descriptors(descriptors, (size_t)n, &sighting);
        if (r < 0)
                return r;

        /* A device need not have either, and the kernel shows no file then. */
        read_line(directory_fd, "serial", sighting.serial, sizeof(sighting.serial));
        read_line(directory_fd, "product", sighting.product_name, sizeof(sighting.product_name));
        read_line(directory_fd, "speed", number, sizeof(number));
        sighting.speed = (unsigned)strtoul(number, NULL, 10);   /* "1.5": 1 */

        n = read_file(directory_fd, "devnum", number, sizeof(number) - 1);
        if (n < 0)
                return -ENODEV;
        number[n] = '\0';
        if (strtoul(number, NULL, 10) != attachment->number)
                return -ENODEV;

        *ret = sighting;
        return r;
}

/* --- serial ports --- */

static void closedirp(DIR **directory)
{
        if (*directory)
                (void)closedir(*directory);
}

/* Of a descriptor that stays the caller's. */
static DIR *open_directory(int directory_fd, const char *name)
{
        int fd = openat(directory_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *directory;

        if (fd < 0)
                return NULL;
        directory = fdopendir(fd);
        if (!directory)
                (void)close(fd);
        return directory;
}

static int first_entry(DIR *directory, const char *prefix, char *name, size_t size)
{
        int r = -ENOENT;

        for (;;) {
                const struct dirent *entry = readdir(directory);

                if (!entry)
                        return r;
                if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || strlen(entry->d_name) >= size ||
                    (r == 0 && strcmp(entry->d_name, name) >= 0))
                        continue;
                strcpy(name, entry->d_name);
                r = 0;
        }
}

int serial_port_read(int directory_fd, const char *port, char *node, size_t size)
{
        _cleanup_(closedirp) DIR *device = NULL;
        char prefix[PORT_PATH_MAX + 1], lowest[64] = "", found[32] = "";

        device = open_directory(directory_fd, ".");
        if (!device)
                return -ENODEV;
        (void)snprintf(prefix, sizeof(prefix), "%s:", port);
        for (;;) {
                _cleanup_(closedirp) DIR *ttys = NULL;
                const struct dirent *entry = readdir(device);
                char path[NAME_MAX + sizeof("/tty")], name[32];

                if (!entry)
                        break;
                if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || strlen(entry->d_name) >= sizeof(lowest) ||
                    (found[0] && strcmp(entry->d_name, lowest) > 0))
                        continue;
                (void)snprintf(path, sizeof(path), "%s/tty", entry->d_name);
                ttys = open_directory(directory_fd, path);
                if (!ttys || first_entry(ttys, "tty", name, sizeof(name)) < 0)
                        continue;
                strcpy(lowest, entry->d_name);
                strcpy(found, name);
        }
        if (!found[0] || strlen(found) + sizeof("/dev/") > size)
                return -ENOENT;
        (void)snprintf(node, size, "/dev/%s", found);
        return 0;
}

int serial_port_owner(const char *path, char port[static PORT_PATH_MAX])
{
        const char *name = strrchr(path, '/'), *interface, *colon;
        size_t length;

        if (!name || name - path < 5 || strncmp(name - 4, "/tty/", 5) != 0)
                return -EINVAL;
        interface = memrchr(path, '/', (size_t)(name - 4 - path));
        if (!interface)
                return -EINVAL;
        interface++;
        colon = memchr(interface, ':', (size_t)(name - 4 - interface));
        length = colon ? (size_t)(colon - interface) : 0;
        if (length == 0 || length >= PORT_PATH_MAX)
                return -EINVAL;
        memcpy(port, interface, length);
        port[length] = '\0';
        /* A PNP device's name begins like a port, too: "00:01". */
        return is_port_path(port) && strchr(port, '-') ? 0 : -EINVAL;
}

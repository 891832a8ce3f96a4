/* SPDX-License-Identifier: MIT */

/*
 * From a device's descriptors and its sysfs directory to a sighting; also when
 * they lie, or when the device leaves meanwhile.
 */

#include "edge/sighting-reader.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"

/* --- descriptors, written as one reads them --- */

struct bytes {
        uint8_t data[1024];
        size_t size;
};

static void put(struct bytes *bytes, const void *data, size_t size)
{
        assert_true(bytes->size + size <= sizeof(bytes->data));
        memcpy(bytes->data + bytes->size, data, size);
        bytes->size += size;
}

static void put_device(struct bytes *bytes, uint16_t vendor, uint16_t product, uint16_t version)
{
        uint8_t device[18] = { 18, 1, 0, 2, 0, 0, 0, 64, [14] = 1, 2, 3, 1 };

        put_le16(device + 8, vendor);
        put_le16(device + 10, product);
        put_le16(device + 12, version);
        put(bytes, device, sizeof(device));
}

static void put_configuration(struct bytes *bytes, uint8_t n_interfaces)
{
        const uint8_t header[9] = { 9, 2, 0, 0, n_interfaces, 1, 0, 0x80, 250 };

        put(bytes, header, sizeof(header));
}

static void put_interface(struct bytes *bytes, uint8_t number, uint8_t alternate, uint8_t class, uint8_t subclass)
{
        const uint8_t interface[9] = { 9, 4, number, alternate, 0, class, subclass, 2, 4 };

        put(bytes, interface, sizeof(interface));
}

static void put_dfu(struct bytes *bytes, uint16_t transfer_size)
{
        uint8_t dfu[9] = { 9, 0x21, 7, 0xe8, 3, 0, 0, 1, 1 };

        put_le16(dfu + 5, transfer_size);
        put(bytes, dfu, sizeof(dfu));
}

static void finish(struct bytes *bytes)
{
        put_le16(bytes->data + 20, (uint16_t)(bytes->size - 18));
}

static struct bytes bootloader(unsigned n_alts)
{
        struct bytes bytes = { .size = 0 };

        put_device(&bytes, 0x37c5, 0x9204, 0x0103);
        put_configuration(&bytes, 1);
        for (unsigned i = 0; i < n_alts; i++)
                put_interface(&bytes, 0, (uint8_t)i, 0xfe, 1);
        put_dfu(&bytes, 4096);
        finish(&bytes);
        return bytes;
}

static void bootloader_is_read(void **state)
{
        struct bytes bytes = bootloader(4);
        struct sighting sighting = { 0 };

        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), 0);
        assert_int_equal(sighting.vendor, 0x37c5);
        assert_int_equal(sighting.product, 0x9204);
        assert_int_equal(sighting.device, 0x0103);
        assert_int_equal(sighting.n_interfaces, 1);
        assert_int_equal(sighting.n_alts, 4);
        assert_int_equal(sighting.transfer_size, 4096);
        assert_false(sighting.has_mass_storage);
        assert_string_equal(sighting.alt_names[0], "");
}

static void composite_runtime_is_read(void **state)
{
        struct bytes bytes = { .size = 0 };
        struct sighting sighting = { 0 };
        const uint8_t association[8] = { 8, 11, 0, 2, 2, 2, 0, 0 };
        const uint8_t endpoint[7] = { 7, 5, 0x81, 2, 64, 0, 0 };

        put_device(&bytes, 0x37c5, 0x1204, 0x0200);
        put_configuration(&bytes, 3);
        put_interface(&bytes, 0, 0, 8, 6);
        put(&bytes, endpoint, sizeof(endpoint));
        put(&bytes, association, sizeof(association));
        put_interface(&bytes, 1, 0, 2, 2);
        put_interface(&bytes, 2, 0, 10, 0);
        put(&bytes, endpoint, sizeof(endpoint));
        finish(&bytes);

        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), 0);
        assert_int_equal(sighting.n_interfaces, 3);
        assert_true(sighting.has_mass_storage);
        assert_int_equal(sighting.n_alts, 0);
        assert_int_equal(sighting.transfer_size, 0);
}

static void hid_descriptor_is_not_dfu(void **state)
{
        struct bytes bytes = { .size = 0 };
        struct sighting sighting = { 0 };

        put_device(&bytes, 0x37c5, 0x1204, 0x0200);
        put_configuration(&bytes, 1);
        put_interface(&bytes, 0, 0, 3, 0);
        put_dfu(&bytes, 4096);                  /* the same number as HID's descriptor */
        finish(&bytes);

        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), 0);
        assert_int_equal(sighting.transfer_size, 0);
        assert_int_equal(sighting.n_alts, 0);
}

static void dfu_on_another_interface_gives_no_alternates(void **state)
{
        struct bytes bytes = { .size = 0 };
        struct sighting sighting = { 0 };

        put_device(&bytes, 0x2341, 0x035b, 0x0200);
        put_configuration(&bytes, 2);
        put_interface(&bytes, 0, 0, 2, 2);
        put_interface(&bytes, 1, 0, 0xfe, 1);
        put_dfu(&bytes, 2048);
        finish(&bytes);

        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), 0);
        assert_int_equal(sighting.n_alts, 0);
        assert_int_equal(sighting.transfer_size, 2048);
}

static void more_alternates_than_room_are_cut(void **state)
{
        struct bytes bytes = bootloader(40);
        struct sighting sighting = { 0 };

        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), 0);
        assert_int_equal(sighting.n_alts, ELEMENTSOF(sighting.alt_names));
}

static void second_configuration_is_not_looked_at(void **state)
{
        struct bytes bytes = bootloader(2);
        struct sighting sighting = { 0 };

        put_configuration(&bytes, 1);
        put_interface(&bytes, 0, 0, 8, 6);
        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), 0);
        assert_int_equal(sighting.n_alts, 2);
        assert_false(sighting.has_mass_storage);
}

static void no_device_descriptor_is_refused(void **state)
{
        struct bytes bytes = bootloader(2);
        struct sighting sighting = { 0 };

        for (size_t size = 0; size < 18; size++)
                assert_int_equal(sighting_from_descriptors(bytes.data, size, &sighting), -EINVAL);
        bytes.data[0] = 17;
        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), -EINVAL);
}

static void every_cut_is_noticed(void **state)
{
        struct bytes bytes = bootloader(4);

        for (size_t size = 18; size < bytes.size; size++) {
                /* An allocation of its own, so that the sanitizer sees a read past the end. */
                _cleanup_free_ uint8_t *cut = malloc(size);
                struct sighting sighting = { 0 };

                assert_non_null(cut);
                memcpy(cut, bytes.data, size);
                assert_int_equal(sighting_from_descriptors(cut, size, &sighting), SIGHTING_MALFORMED);
                assert_int_equal(sighting.vendor, 0x37c5);
                assert_true(sighting.n_alts <= 4);
                assert_int_equal(sighting.n_alts, size < 27 ? 0 : (size - 27) / 9 > 4 ? 4 : (size - 27) / 9);
        }
}

static void lengths_that_lie_end_the_reading(void **state)
{
        static const uint8_t lies[] = { 0, 1, 200, 255 };

        for (size_t i = 0; i < ELEMENTSOF(lies); i++) {
                struct bytes bytes = bootloader(4);
                struct sighting sighting = { 0 };

                bytes.data[18 + 9 + 2 * 9] = lies[i];   /* of the third interface */
                assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), SIGHTING_MALFORMED);
                assert_int_equal(sighting.n_alts, 2);
        }
}

static void total_length_that_lies_is_noticed(void **state)
{
        struct bytes bytes = bootloader(4);
        struct sighting sighting = { 0 };

        put_le16(bytes.data + 20, 8);
        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), SIGHTING_MALFORMED);
        put_le16(bytes.data + 20, 0xffff);
        assert_int_equal(sighting_from_descriptors(bytes.data, bytes.size, &sighting), SIGHTING_MALFORMED);
        assert_int_equal(sighting.n_alts, 4);
}

/* --- names and numbers --- */

static void ports_are_told_from_interfaces_and_hubs(void **state)
{
        assert_true(is_port_path("1-1"));
        assert_true(is_port_path("10-1.4.2"));
        assert_false(is_port_path("usb1"));
        assert_false(is_port_path("1-1:1.0"));
        assert_false(is_port_path(".."));
        assert_false(is_port_path(""));
        assert_false(is_port_path("1-1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1"));
}

static void product_is_parsed_strictly(void **state)
{
        static const char *const wrong[] = { "", "37c5", "37c5/9204", "37c5/9204/", "37c5/9204/103/", "37c5//103", "/1/2",
                                             "37c5/19204/103", "-1/1/1", " 1/1/1", "0x1/1/1", "37c5/9204/103 ", "g/1/1" };
        uint16_t vendor = 1, product = 2, device = 3;

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                assert_int_equal(product_parse(wrong[i], &vendor, &product, &device), -EINVAL);
        assert_int_equal(vendor, 1);
        assert_int_equal(product_parse("37c5/9204/103", &vendor, &product, &device), 0);
        assert_int_equal(vendor, 0x37c5);
        assert_int_equal(product, 0x9204);
        assert_int_equal(device, 0x103);
        assert_int_equal(product_parse("483/df11/2200", &vendor, &product, &device), 0);
        assert_int_equal(vendor, 0x483);
}

/* --- a sysfs directory --- */

static const char *const all_files[] = { "uevent", "descriptors", "serial", "product", "speed", "devnum" };

struct directory {
        char path[64];
        int fd;
};

static void write_file(const struct directory *directory, const char *name, const void *data, size_t size)
{
        _cleanup_close_ int fd = openat(directory->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, data, size), size);
}

static void write_line(const struct directory *directory, const char *name, const char *line)
{
        write_file(directory, name, line, strlen(line));
}

static int directory_new(void **state)
{
        struct directory *directory = calloc(1, sizeof(*directory));
        struct bytes bytes = bootloader(4);

        assert_non_null(directory);
        strcpy(directory->path, "/tmp/sighting-reader-XXXXXX");
        assert_non_null(mkdtemp(directory->path));
        directory->fd = open(directory->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        assert_true(directory->fd >= 0);

        write_line(directory, "uevent", "MAJOR=189\nMINOR=3\nDEVNAME=bus/usb/001/004\nDEVTYPE=usb_device\nDRIVER=usb\n"
                   "PRODUCT=37c5/9204/103\nTYPE=0/0/0\nBUSNUM=001\nDEVNUM=004\n");
        write_file(directory, "descriptors", bytes.data, bytes.size);
        write_line(directory, "serial", "34303639330D5113001F002A\n");
        write_line(directory, "product", "OpenMV Camera (DFU Mode)\n");
        write_line(directory, "speed", "12\n");
        write_line(directory, "devnum", "4\n");
        *state = directory;
        return 0;
}

static int directory_free(void **state)
{
        struct directory *directory = *state;

        for (size_t i = 0; i < ELEMENTSOF(all_files); i++)
                (void)unlinkat(directory->fd, all_files[i], 0);
        (void)close(directory->fd);
        (void)rmdir(directory->path);
        free(directory);
        return 0;
}

static void attachment_is_read_from_one_file(void **state)
{
        struct directory *directory = *state;
        struct attachment attachment;
        uint16_t vendor, product;

        assert_int_equal(attachment_read(directory->fd, "1-1.2", &attachment, &vendor, &product), 0);
        assert_string_equal(attachment.port, "1-1.2");
        assert_string_equal(attachment.node, "/dev/bus/usb/001/004");
        assert_int_equal(attachment.bus, 1);
        assert_int_equal(attachment.number, 4);
        assert_int_equal(vendor, 0x37c5);
        assert_int_equal(product, 0x9204);
}

static void incomplete_uevent_is_refused(void **state)
{
        struct directory *directory = *state;
        struct attachment attachment;
        uint16_t vendor, product;

        write_line(directory, "uevent", "DEVTYPE=usb_interface\nPRODUCT=37c5/9204/103\n");
        assert_int_equal(attachment_read(directory->fd, "1-1.2", &attachment, &vendor, &product), -EINVAL);
        write_line(directory, "uevent", "");
        assert_int_equal(attachment_read(directory->fd, "1-1.2", &attachment, &vendor, &product), -EINVAL);
        assert_int_equal(unlinkat(directory->fd, "uevent", 0), 0);
        assert_int_equal(attachment_read(directory->fd, "1-1.2", &attachment, &vendor, &product), -ENODEV);
}

static const struct attachment fourth = { .port = "1-1.2", .node = "/dev/bus/usb/001/004", .bus = 1, .number = 4 };

static void sighting_is_read(void **state)
{
        struct directory *directory = *state;
        struct sighting sighting;

        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), 0);
        assert_string_equal(sighting.port, "1-1.2");
        assert_string_equal(sighting.node, "/dev/bus/usb/001/004");
        assert_string_equal(sighting.serial, "34303639330D5113001F002A");
        assert_string_equal(sighting.product_name, "OpenMV Camera (DFU Mode)");
        assert_int_equal(sighting.speed, 12);
        assert_int_equal(sighting.n_alts, 4);
}

static void device_without_strings_is_read(void **state)
{
        struct directory *directory = *state;
        struct sighting sighting;

        assert_int_equal(unlinkat(directory->fd, "serial", 0), 0);
        assert_int_equal(unlinkat(directory->fd, "product", 0), 0);
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), 0);
        assert_string_equal(sighting.serial, "");
        assert_string_equal(sighting.product_name, "");
}

static void strings_are_cut_and_cleaned(void **state)
{
        struct directory *directory = *state;
        struct sighting sighting;

        write_line(directory, "serial", "0123456789012345678901234567890123456789\n");
        write_line(directory, "product", "a\xff\x01\xc3(b\nsecond line");
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), 0);
        assert_string_equal(sighting.serial, "01234567890123456789012345678901");
        assert_string_equal(sighting.product_name, "a??" "?(b");
}

static void successor_is_not_taken_for_the_device(void **state)
{
        struct directory *directory = *state;
        struct sighting sighting = { .port = "untouched" };

        write_line(directory, "devnum", "5\n");
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), -ENODEV);
        assert_int_equal(unlinkat(directory->fd, "devnum", 0), 0);
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), -ENODEV);
        assert_int_equal(unlinkat(directory->fd, "descriptors", 0), 0);
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), -ENODEV);
        assert_string_equal(sighting.port, "untouched");
}

static void malformed_descriptors_are_seen_all_the_same(void **state)
{
        struct directory *directory = *state;
        struct bytes bytes = bootloader(4);
        struct sighting sighting;

        write_file(directory, "descriptors", bytes.data, 40);
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), SIGHTING_MALFORMED);
        assert_int_equal(sighting.vendor, 0x37c5);
        assert_string_equal(sighting.serial, "34303639330D5113001F002A");
        write_file(directory, "descriptors", bytes.data, 10);
        assert_int_equal(sighting_read(directory->fd, &fourth, &sighting), -EINVAL);
}

/* --- serial ports --- */

static const char *const serial_directories[] = {
        "1-1:1.0", "1-1:1.1", "1-1:1.1/tty", "1-1:1.1/tty/ttyACM7", "1-1:1.3", "1-1:1.3/tty", "1-1:1.3/tty/ttyACM2", "1-1.4",
        "1-1.4:1.0", "1-1.4:1.0/tty", "1-1.4:1.0/tty/ttyACM1",
};

static void serial_port_is_found(void **state)
{
        struct directory *directory = *state;
        char node[32] = "";

        assert_int_equal(serial_port_read(directory->fd, "1-1", node, sizeof(node)), -ENOENT);
        for (size_t i = 0; i < ELEMENTSOF(serial_directories); i++)
                assert_int_equal(mkdirat(directory->fd, serial_directories[i], 0700), 0);
        /* That of its lowest interface, and not of what hangs on it. */
        assert_int_equal(serial_port_read(directory->fd, "1-1", node, sizeof(node)), 0);
        assert_string_equal(node, "/dev/ttyACM7");
        assert_int_equal(serial_port_read(directory->fd, "1-2", node, sizeof(node)), -ENOENT);
        assert_int_equal(serial_port_read(directory->fd, "1-1", node, strlen("/dev/ttyACM7")), -ENOENT);
        assert_int_equal(serial_port_read(-1, "1-1", node, sizeof(node)), -ENODEV);
        /* Its driver is not bound yet. */
        assert_int_equal(unlinkat(directory->fd, "1-1:1.1/tty/ttyACM7", AT_REMOVEDIR), 0);
        assert_int_equal(serial_port_read(directory->fd, "1-1", node, sizeof(node)), 0);
        assert_string_equal(node, "/dev/ttyACM2");
        assert_int_equal(mkdirat(directory->fd, "1-1:1.1/tty/ttyACM7", 0700), 0);
        for (size_t i = ELEMENTSOF(serial_directories); i > 0; i--)
                assert_int_equal(unlinkat(directory->fd, serial_directories[i - 1], AT_REMOVEDIR), 0);
}

static void serial_port_has_an_owner(void **unused)
{
        static const struct {
                const char *path, *port;
        } cases[] = {
                { "/devices/pci0000:00/0000:00:14.0/usb3/3-1/3-1.4/3-1.4:1.1/tty/ttyACM0", "3-1.4" },
                { "/sys/devices/platform/vhci_hcd.0/usb1/1-1/1-1:1.0/tty/ttyACM12", "1-1" },
                { "/devices/pci0000:00/0000:00:14.0/usb3/3-1/3-1:1.0/ttyUSB0/tty/ttyUSB0", NULL },
                { "/devices/pnp0/00:01/tty/ttyS0", NULL },
                { "/devices/virtual/tty/tty1", NULL },
                { "/tty/ttyACM0", NULL }, { "tty/ttyACM0", NULL }, { "/x", NULL }, { "", NULL },
                { "/3-1:1.0/tty/ttyACM0", "3-1" },
                { "/usb3:1.0/tty/ttyACM0", NULL },
                { "/3-1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1:1.0/tty/ttyACM0", NULL },
        };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                char port[PORT_PATH_MAX] = "";

                assert_int_equal(serial_port_owner(cases[i].path, port), cases[i].port ? 0 : -EINVAL);
                if (cases[i].port)
                        assert_string_equal(port, cases[i].port);
        }
}

#define IN_DIRECTORY(name, fn) { name, fn, directory_new, directory_free, NULL }

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/descriptors/bootloader-is-read", bootloader_is_read },
                { "/descriptors/composite-runtime-is-read", composite_runtime_is_read },
                { "/descriptors/hid-descriptor-is-not-dfu", hid_descriptor_is_not_dfu },
                { "/descriptors/dfu-on-another-interface-gives-no-alternates", dfu_on_another_interface_gives_no_alternates },
                { "/descriptors/more-alternates-than-room-are-cut", more_alternates_than_room_are_cut },
                { "/descriptors/second-configuration-is-not-looked-at", second_configuration_is_not_looked_at },
                { "/descriptors/no-device-descriptor-is-refused", no_device_descriptor_is_refused },
                { "/descriptors/every-cut-is-noticed", every_cut_is_noticed },
                { "/descriptors/lengths-that-lie-end-the-reading", lengths_that_lie_end_the_reading },
                { "/descriptors/total-length-that-lies-is-noticed", total_length_that_lies_is_noticed },
                { "/names/ports-are-told-from-interfaces-and-hubs", ports_are_told_from_interfaces_and_hubs },
                { "/names/product-is-parsed-strictly", product_is_parsed_strictly },
                IN_DIRECTORY("/sysfs/attachment-is-read-from-one-file", attachment_is_read_from_one_file),
                IN_DIRECTORY("/sysfs/incomplete-uevent-is-refused", incomplete_uevent_is_refused),
                IN_DIRECTORY("/sysfs/sighting-is-read", sighting_is_read),
                IN_DIRECTORY("/sysfs/device-without-strings-is-read", device_without_strings_is_read),
                IN_DIRECTORY("/sysfs/strings-are-cut-and-cleaned", strings_are_cut_and_cleaned),
                IN_DIRECTORY("/sysfs/successor-is-not-taken-for-the-device", successor_is_not_taken_for_the_device),
                { "/names/serial-port-has-an-owner", serial_port_has_an_owner },
                IN_DIRECTORY("/sysfs/serial-port-is-found", serial_port_is_found),
                IN_DIRECTORY("/sysfs/malformed-descriptors-are-seen-all-the-same", malformed_descriptors_are_seen_all_the_same),
        };

        return cmocka_run_group_tests_name("sighting-reader", tests, NULL, NULL);
}

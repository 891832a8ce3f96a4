/* SPDX-License-Identifier: MIT */

/*
 * See sysfs.h.  A device's properties are built once, in one function for each
 * kind; the uevent file, udev's database and the message are three ways to print
 * parts of the same list, so they cannot disagree.
 */

#include "sim/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <linux/usb/ch9.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define USB_MAJOR 189U
#define TTY_MAJOR 166U

/* NUL-separated "KEY=value". */
struct properties {
        char text[4096];
        size_t size;
        size_t kernel_size;             /* of those that the kernel itself knows: the first ones */
};

static _printf_(2, 3) void add(struct properties *properties, const char *format, ...)
{
        va_list args;
        int n;

        va_start(args, format);
        n = vsnprintf(properties->text + properties->size, sizeof(properties->text) - properties->size, format, args);
        va_end(args);
        if (n >= 0 && (size_t)n < sizeof(properties->text) - properties->size)
                properties->size += (size_t)n + 1;
}

static uint64_t initialized_usec(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* --- files --- */

static int write_bytes(const char *path, const void *data, size_t size)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        if (fd < 0)
                return -errno;
        return write(fd, data, size) == (ssize_t)size ? 0 : -EIO;
}

static _printf_(3, 4) int attribute(const char *devpath, const char *name, const char *format, ...)
{
        char path[512], text[4096];
        va_list args;
        int n;

        (void)snprintf(path, sizeof(path), "/sys%s/%s", devpath, name);
        va_start(args, format);
        n = vsnprintf(text, sizeof(text), format, args);
        va_end(args);
        return write_bytes(path, text, MIN((size_t)n, sizeof(text) - 1));
}

static int make_parents(const char *path)
{
        _cleanup_free_ char *copy = strdup(path);

        if (!copy)
                return -ENOMEM;
        for (char *p = copy + 1; *p; p++)
                if (*p == '/') {
                        *p = 0;
                        if (mkdir(copy, 0755) < 0 && errno != EEXIST)
                                return -errno;
                        *p = '/';
                }
        return mkdir(copy, 0755) < 0 && errno != EEXIST ? -errno : 0;
}

static int link_to(const char *target, const char *path)
{
        (void)unlink(path);
        return symlink(target, path) < 0 ? -errno : 0;
}

static int make_device(const char *devpath, const char *subsystem)
{
        char path[512];
        int r;

        (void)snprintf(path, sizeof(path), "/sys%s", devpath);
        r = make_parents(path);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "/sys%s/subsystem", devpath);
        return link_to(subsystem, path);
}

static int link_device(const char *devpath, const char *path_format, ...)
{
        char path[256], target[512];
        va_list args;

        va_start(args, path_format);
        (void)vsnprintf(path, sizeof(path), path_format, args);
        va_end(args);
        (void)snprintf(target, sizeof(target), "/sys%s", devpath);
        return link_to(target, path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)remove(path);
        return 0;
}

static void remove_tree(const char *path)
{
        (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static _printf_(1, 2) void remove_file(const char *format, ...)
{
        char path[256];
        va_list args;

        va_start(args, format);
        (void)vsnprintf(path, sizeof(path), format, args);
        va_end(args);
        (void)unlink(path);
}

/* The kernel's own properties, one a line; the ones that say where the event comes from are not in the file. */
static int write_uevent_file(const char *devpath, const struct properties *properties)
{
        static const char *const not_in_file[] = { "DEVPATH=", "SUBSYSTEM=" };
        char text[4096];
        size_t size = 0;

        for (const char *p = properties->text; p < properties->text + properties->kernel_size; p += strlen(p) + 1) {
                bool skip = false;
                const char *value = p;

                for (size_t i = 0; i < ELEMENTSOF(not_in_file); i++)
                        skip |= strncmp(p, not_in_file[i], strlen(not_in_file[i])) == 0;
                if (skip)
                        continue;
                if (strncmp(p, "DEVNAME=/dev/", 13) == 0) {
                        size += (size_t)snprintf(text + size, sizeof(text) - size, "DEVNAME=");
                        value = p + 13;
                }
                size += (size_t)snprintf(text + size, sizeof(text) - size, "%s\n", value);
        }
        return attribute(devpath, "uevent", "%.*s", (int)size, text);
}

static int write_database(const char *name, const struct properties *properties)
{
        char path[128], text[4096];
        size_t size;

        size = (size_t)snprintf(text, sizeof(text), "I:%" PRIu64 "\n", initialized_usec());
        for (const char *p = properties->text + properties->kernel_size; p < properties->text + properties->size;
             p += strlen(p) + 1)
                size += (size_t)snprintf(text + size, sizeof(text) - size, "E:%s\n", p);
        size += (size_t)snprintf(text + size, sizeof(text) - size, "V:1\n");
        (void)snprintf(path, sizeof(path), "/run/udev/data/%s", name);
        return write_bytes(path, text, size);
}

static int send_event(struct uevents *uevents, const char *subsystem, const char *devtype,
                      const struct properties *properties, const char *action)
{
        struct properties message = { 0 };
        /* Not bound yet, or not any more. */
        bool driver = strcmp(action, "bind") == 0 || strcmp(action, "change") == 0;

        add(&message, "ACTION=%s", action);
        for (const char *p = properties->text; p < properties->text + properties->size; p += strlen(p) + 1)
                if (driver || strncmp(p, "DRIVER=", 7) != 0)
                        add(&message, "%s", p);
        add(&message, "USEC_INITIALIZED=%" PRIu64, initialized_usec());
        return uevents_send(uevents, subsystem, devtype, message.text, message.size);
}

/* --- USB devices --- */

static unsigned device_minor(const struct sysfs_device *device)
{
        return (device->bus - 1) * 128 + device->device - 1;
}

/* As udev makes strings fit for file names. */
static void safe(const char *string, char ret[static 64])
{
        size_t i;

        for (i = 0; string[i] && i < 63; i++)
                ret[i] = strchr("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#+-.:=@_", string[i]) ?
                         string[i] : '_';
        ret[i] = 0;
}

static void interface_list(const struct sysfs_device *device, char *text, size_t size)
{
        const uint8_t *p = device->descriptors, *end = p + device->descriptors_size;
        size_t used = 1;

        (void)snprintf(text, size, ":");
        for (; end - p >= 2 && p[0] >= 2 && p[0] <= end - p; p += p[0]) {
                char one[16];

                if (p[1] != USB_DT_INTERFACE || p[0] < USB_DT_INTERFACE_SIZE)
                        continue;
                (void)snprintf(one, sizeof(one), ":%02x%02x%02x:", p[5], p[6], p[7]);
                if (!strstr(text, one) && used + 8 < size)
                        used += (size_t)snprintf(text + used, size - used, "%s", one + 1);
        }
}

static void device_properties(const struct sysfs_device *device, struct properties *ret)
{
        const uint8_t *d = device->descriptors;
        char interfaces[128], manufacturer[64], product[64], serial[64];

        *ret = (struct properties){ 0 };
        add(ret, "DEVPATH=%s", device->devpath);
        add(ret, "SUBSYSTEM=usb");
        add(ret, "MAJOR=%u", USB_MAJOR);
        add(ret, "MINOR=%u", device_minor(device));
        add(ret, "DEVNAME=/dev/bus/usb/%03u/%03u", device->bus, device->device);
        add(ret, "DEVTYPE=usb_device");
        add(ret, "DRIVER=usb");
        add(ret, "PRODUCT=%x/%x/%x", get_le16(d + 8), get_le16(d + 10), get_le16(d + 12));
        add(ret, "TYPE=%u/%u/%u", d[4], d[5], d[6]);
        add(ret, "BUSNUM=%03u", device->bus);
        add(ret, "DEVNUM=%03u", device->device);
        ret->kernel_size = ret->size;

        interface_list(device, interfaces, sizeof(interfaces));
        safe(device->manufacturer, manufacturer);
        safe(device->product, product);
        safe(device->serial, serial);
        add(ret, "ID_BUS=usb");
        add(ret, "ID_VENDOR_ID=%04x", get_le16(d + 8));
        add(ret, "ID_MODEL_ID=%04x", get_le16(d + 10));
        add(ret, "ID_REVISION=%04x", get_le16(d + 12));
        add(ret, "ID_VENDOR=%s", manufacturer);
        add(ret, "ID_MODEL=%s", product);
        add(ret, "ID_SERIAL=%s_%s%s%s", manufacturer, product, *serial ? "_" : "", serial);
        if (*serial)
                add(ret, "ID_SERIAL_SHORT=%s", serial);
        add(ret, "ID_USB_INTERFACES=%s", interfaces);
        add(ret, "ID_PATH=platform-camsim-usb-0:%s", device->port);
}

int sysfs_device_write_configuration(const struct sysfs_device *device)
{
        const uint8_t *configuration = device->descriptors + USB_DT_DEVICE_SIZE;
        int r;

        /* There, and empty: libusb takes a line without a number for a fault. */
        if (device->configuration == 0) {
                static const char *const names[] = { "bConfigurationValue", "bNumInterfaces", "bmAttributes", "bMaxPower" };

                for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                        r = attribute(device->devpath, names[i], "%s", "");
                        if (r < 0)
                                return r;
                }
                return 0;
        }
        r = attribute(device->devpath, "bConfigurationValue", "%u\n", device->configuration);
        if (r < 0)
                return r;
        r = attribute(device->devpath, "bmAttributes", "%02x\n", configuration[7]);
        if (r < 0)
                return r;
        r = attribute(device->devpath, "bMaxPower", "%umA\n", configuration[8] * 2U);
        if (r < 0)
                return r;
        return attribute(device->devpath, "bNumInterfaces", "%2u\n", configuration[4]);
}

int sysfs_device_write(const struct sysfs_device *device)
{
        const uint8_t *d = device->descriptors;
        const char *path = device->devpath;
        struct properties properties;
        char file[512];
        int r;

        r = make_device(path, "/sys/bus/usb");
        if (r < 0)
                return r;
        device_properties(device, &properties);
        (void)snprintf(file, sizeof(file), "/sys%s/descriptors", path);
        if (attribute(path, "dev", "%u:%u\n", USB_MAJOR, device_minor(device)) < 0 ||
            attribute(path, "busnum", "%u\n", device->bus) < 0 ||
            attribute(path, "devnum", "%u\n", device->device) < 0 ||
            attribute(path, "devpath", "%s\n", device->port) < 0 ||
            attribute(path, "speed", "%u\n", device->speed) < 0 ||
            attribute(path, "maxchild", "%u\n", device->children) < 0 ||
            attribute(path, "version", "%2x.%02x\n", d[3], d[2]) < 0 ||
            attribute(path, "idVendor", "%04x\n", get_le16(d + 8)) < 0 ||
            attribute(path, "idProduct", "%04x\n", get_le16(d + 10)) < 0 ||
            attribute(path, "bcdDevice", "%04x\n", get_le16(d + 12)) < 0 ||
            attribute(path, "bDeviceClass", "%02x\n", d[4]) < 0 ||
            attribute(path, "bDeviceSubClass", "%02x\n", d[5]) < 0 ||
            attribute(path, "bDeviceProtocol", "%02x\n", d[6]) < 0 ||
            attribute(path, "bMaxPacketSize0", "%u\n", d[7]) < 0 ||
            attribute(path, "bNumConfigurations", "%u\n", d[17]) < 0 ||
            attribute(path, "authorized", "1\n") < 0 ||
            attribute(path, "removable", "unknown\n") < 0 ||
            attribute(path, "configuration", "%s", "") < 0 ||
            attribute(path, "quirks", "0x0\n") < 0 ||
            attribute(path, "avoid_reset_quirk", "0\n") < 0 ||
            attribute(path, "ltm_capable", "no\n") < 0 ||
            attribute(path, "rx_lanes", "1\n") < 0 ||
            attribute(path, "tx_lanes", "1\n") < 0 ||
            write_bytes(file, device->descriptors, device->descriptors_size) < 0)
                return -EIO;
        /* The kernel has no file for a string that a device has not. */
        if ((*device->manufacturer && attribute(path, "manufacturer", "%s\n", device->manufacturer) < 0) ||
            (*device->product && attribute(path, "product", "%s\n", device->product) < 0) ||
            (*device->serial && attribute(path, "serial", "%s\n", device->serial) < 0))
                return -EIO;
        r = sysfs_device_write_configuration(device);
        if (r < 0)
                return r;
        (void)snprintf(file, sizeof(file), "/sys%s/driver", path);
        r = link_to("/sys/bus/usb/drivers/usb", file);
        if (r < 0)
                return r;
        r = write_uevent_file(path, &properties);
        if (r < 0)
                return r;
        r = link_device(path, "/sys/dev/char/%u:%u", USB_MAJOR, device_minor(device));
        if (r < 0)
                return r;
        return link_device(path, "/sys/bus/usb/devices/%s", device->name);
}

int sysfs_device_write_database(const struct sysfs_device *device)
{
        struct properties properties;
        char name[32];

        device_properties(device, &properties);
        (void)snprintf(name, sizeof(name), "c%u:%u", USB_MAJOR, device_minor(device));
        return write_database(name, &properties);
}

int sysfs_device_event(struct uevents *uevents, const struct sysfs_device *device, const char *action)
{
        struct properties properties;

        device_properties(device, &properties);
        return send_event(uevents, "usb", "usb_device", &properties, action);
}

int sysfs_overflow(struct uevents *uevents, const struct sysfs_device *device)
{
        struct properties properties, message = { 0 };

        device_properties(device, &properties);
        add(&message, "ACTION=change");
        memcpy(message.text + message.size, properties.text, properties.size);
        message.size += properties.size;
        return uevents_overflow(uevents, message.text, message.size);
}

/* --- interfaces --- */

static void interface_path(const struct sysfs_device *device, uint8_t number, char *path, size_t size)
{
        (void)snprintf(path, size, "%s/%s:%u.%u", device->devpath, device->name,
                       device->configuration ? device->configuration : 1U, number);
}

static void interface_alias(const struct sysfs_device *device, const struct sysfs_interface *interface, char alias[static 64])
{
        const uint8_t *d = device->descriptors;

        (void)snprintf(alias, 64, "usb:v%04Xp%04Xd%04Xdc%02Xdsc%02Xdp%02Xic%02Xisc%02Xip%02Xin%02X", get_le16(d + 8),
                       get_le16(d + 10), get_le16(d + 12), d[4], d[5], d[6], interface->class, interface->subclass,
                       interface->protocol, interface->number);
}

static void interface_properties(const struct sysfs_device *device, const struct sysfs_interface *interface,
                                 struct properties *ret)
{
        const uint8_t *d = device->descriptors;
        char path[320], alias[64];

        interface_alias(device, interface, alias);
        interface_path(device, interface->number, path, sizeof(path));
        *ret = (struct properties){ 0 };
        add(ret, "DEVPATH=%s", path);
        add(ret, "SUBSYSTEM=usb");
        add(ret, "DEVTYPE=usb_interface");
        if (interface->driver)
                add(ret, "DRIVER=%s", interface->driver);
        add(ret, "PRODUCT=%x/%x/%x", get_le16(d + 8), get_le16(d + 10), get_le16(d + 12));
        add(ret, "TYPE=%u/%u/%u", d[4], d[5], d[6]);
        add(ret, "INTERFACE=%u/%u/%u", interface->class, interface->subclass, interface->protocol);
        add(ret, "MODALIAS=%s", alias);
        ret->kernel_size = ret->size;
        add(ret, "ID_PATH=platform-camsim-usb-0:%s:%u.%u", device->port, device->configuration, interface->number);
        add(ret, "ID_VENDOR_ID=%04x", get_le16(d + 8));
        add(ret, "ID_MODEL_ID=%04x", get_le16(d + 10));
}

int sysfs_interface_write_driver(const struct sysfs_device *device, const struct sysfs_interface *interface)
{
        struct properties properties;
        char path[320], file[512], target[128];
        int r;

        interface_path(device, interface->number, path, sizeof(path));
        interface_properties(device, interface, &properties);
        (void)snprintf(file, sizeof(file), "/sys%s/driver", path);
        (void)unlink(file);
        if (interface->driver) {
                (void)snprintf(target, sizeof(target), "/sys/bus/usb/drivers/%s", interface->driver);
                r = link_to(target, file);
                if (r < 0)
                        return r;
        }
        return write_uevent_file(path, &properties);
}

int sysfs_interface_write(const struct sysfs_device *device, const struct sysfs_interface *interface)
{
        char path[320], alias[64];
        int r;

        interface_path(device, interface->number, path, sizeof(path));
        r = make_device(path, "/sys/bus/usb");
        if (r < 0)
                return r;
        interface_alias(device, interface, alias);
        if (attribute(path, "modalias", "%s\n", alias) < 0 ||
            attribute(path, "authorized", "1\n") < 0 ||
            attribute(path, "supports_autosuspend", "1\n") < 0 ||
            attribute(path, "bInterfaceNumber", "%02x\n", interface->number) < 0 ||
            attribute(path, "bAlternateSetting", "%2u\n", interface->alternate) < 0 ||
            attribute(path, "bNumEndpoints", "%02x\n", interface->endpoints) < 0 ||
            attribute(path, "bInterfaceClass", "%02x\n", interface->class) < 0 ||
            attribute(path, "bInterfaceSubClass", "%02x\n", interface->subclass) < 0 ||
            attribute(path, "bInterfaceProtocol", "%02x\n", interface->protocol) < 0)
                return -EIO;
        if (*interface->string)
                r = attribute(path, "interface", "%s\n", interface->string);
        else
                remove_file("/sys%s/interface", path);
        if (r < 0)
                return r;
        r = sysfs_interface_write_driver(device, interface);
        if (r < 0)
                return r;
        return link_device(path, "/sys/bus/usb/devices/%s:%u.%u", device->name, device->configuration, interface->number);
}

int sysfs_interface_write_database(const struct sysfs_device *device, const struct sysfs_interface *interface)
{
        struct properties properties;
        char name[96];

        interface_properties(device, interface, &properties);
        (void)snprintf(name, sizeof(name), "+usb:%s:%u.%u", device->name, device->configuration, interface->number);
        return write_database(name, &properties);
}

int sysfs_interface_event(struct uevents *uevents, const struct sysfs_device *device,
                          const struct sysfs_interface *interface, const char *action)
{
        struct properties properties;

        interface_properties(device, interface, &properties);
        return send_event(uevents, "usb", "usb_interface", &properties, action);
}

/* --- ttys --- */

static void tty_path(const struct sysfs_device *device, const struct sysfs_tty *tty, char *path, size_t size)
{
        char parent[320];

        interface_path(device, tty->interface, parent, sizeof(parent));
        (void)snprintf(path, size, "%s/tty/%s", parent, tty->name);
}

static void tty_properties(const struct sysfs_device *device, const struct sysfs_tty *tty, struct properties *ret)
{
        const uint8_t *d = device->descriptors;
        char path[384], serial[64];

        tty_path(device, tty, path, sizeof(path));
        safe(device->serial, serial);
        *ret = (struct properties){ 0 };
        add(ret, "DEVPATH=%s", path);
        add(ret, "SUBSYSTEM=tty");
        add(ret, "MAJOR=%u", TTY_MAJOR);
        add(ret, "MINOR=%u", tty->minor);
        add(ret, "DEVNAME=/dev/%s", tty->name);
        ret->kernel_size = ret->size;
        add(ret, "ID_BUS=usb");
        add(ret, "ID_VENDOR_ID=%04x", get_le16(d + 8));
        add(ret, "ID_MODEL_ID=%04x", get_le16(d + 10));
        if (*serial)
                add(ret, "ID_SERIAL_SHORT=%s", serial);
        add(ret, "ID_USB_INTERFACE_NUM=%02x", tty->interface);
        add(ret, "ID_PATH=platform-camsim-usb-0:%s:%u.%u", device->port, device->configuration, tty->interface);
}

int sysfs_tty_write(const struct sysfs_device *device, const struct sysfs_tty *tty)
{
        struct properties properties;
        char path[384], parent[320], target[512], file[512];
        int r;

        tty_path(device, tty, path, sizeof(path));
        r = make_device(path, "/sys/class/tty");
        if (r < 0)
                return r;
        tty_properties(device, tty, &properties);
        r = attribute(path, "dev", "%u:%u\n", TTY_MAJOR, tty->minor);
        if (r < 0)
                return r;
        r = write_uevent_file(path, &properties);
        if (r < 0)
                return r;
        interface_path(device, tty->interface, parent, sizeof(parent));
        (void)snprintf(target, sizeof(target), "/sys%s", parent);
        (void)snprintf(file, sizeof(file), "/sys%s/device", path);
        r = link_to(target, file);
        if (r < 0)
                return r;
        r = link_device(path, "/sys/dev/char/%u:%u", TTY_MAJOR, tty->minor);
        if (r < 0)
                return r;
        return link_device(path, "/sys/class/tty/%s", tty->name);
}

int sysfs_tty_write_database(const struct sysfs_device *device, const struct sysfs_tty *tty)
{
        struct properties properties;
        char name[32];

        tty_properties(device, tty, &properties);
        (void)snprintf(name, sizeof(name), "c%u:%u", TTY_MAJOR, tty->minor);
        return write_database(name, &properties);
}

int sysfs_tty_event(struct uevents *uevents, const struct sysfs_device *device, const struct sysfs_tty *tty, const char *action)
{
        struct properties properties;

        tty_properties(device, tty, &properties);
        return send_event(uevents, "tty", NULL, &properties, action);
}

void sysfs_tty_delete(const struct sysfs_device *device, const struct sysfs_tty *tty)
{
        char parent[320], full[512];

        remove_file("/sys/class/tty/%s", tty->name);
        remove_file("/sys/dev/char/%u:%u", TTY_MAJOR, tty->minor);
        remove_file("/run/udev/data/c%u:%u", TTY_MAJOR, tty->minor);
        interface_path(device, tty->interface, parent, sizeof(parent));
        (void)snprintf(full, sizeof(full), "/sys%s/tty", parent);
        remove_tree(full);
}

void sysfs_interface_delete(const struct sysfs_device *device, const struct sysfs_interface *interface)
{
        char path[320], full[512];

        remove_file("/sys/bus/usb/devices/%s:%u.%u", device->name, device->configuration, interface->number);
        remove_file("/run/udev/data/+usb:%s:%u.%u", device->name, device->configuration, interface->number);
        interface_path(device, interface->number, path, sizeof(path));
        (void)snprintf(full, sizeof(full), "/sys%s", path);
        remove_tree(full);
}

void sysfs_device_delete(const struct sysfs_device *device, const struct sysfs_interface *interfaces, size_t n,
                         const struct sysfs_tty *tty)
{
        char path[512];

        if (tty)
                sysfs_tty_delete(device, tty);
        for (size_t i = 0; i < n; i++)
                sysfs_interface_delete(device, &interfaces[i]);
        remove_file("/sys/bus/usb/devices/%s", device->name);
        remove_file("/sys/dev/char/%u:%u", USB_MAJOR, device_minor(device));
        remove_file("/run/udev/data/c%u:%u", USB_MAJOR, device_minor(device));
        (void)snprintf(path, sizeof(path), "/sys%s", device->devpath);
        remove_tree(path);
}

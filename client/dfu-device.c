/* SPDX-License-Identifier: MIT */
/* Cameras as dfu-util shows devices: see dfu-device.h. */

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "client/dfu-device.h"

#define DEVICES "/sys/bus/usb/devices"

/* One attribute, without its line's end.  Bytes read, 0: it is not there. */
static size_t read_attribute(const char *port, const char *name, void *buffer, size_t size)
{
        char path[256];
        FILE *file;
        size_t n;

        if (strchr(port, '/') || (size_t)snprintf(path, sizeof(path), DEVICES "/%s%s", port, name) >= sizeof(path))
                return 0;
        file = fopen(path, "re");
        if (!file)
                return 0;
        n = fread(buffer, 1, size, file);
        (void)fclose(file);
        return n;
}

static unsigned read_number(const char *port, const char *name, int base)
{
        char text[16] = "";

        text[read_attribute(port, name, text, sizeof(text) - 1)] = '\0';
        return (unsigned)strtoul(text, NULL, base);
}

/* Alternate settings of interface 0 of the first configuration. */
static size_t count_alts(const char *port)
{
        uint8_t bytes[1024];
        size_t size = read_attribute(port, "/descriptors", bytes, sizeof(bytes)), n = 0;

        for (size_t i = 18; i + 9 <= size && bytes[i] >= 2; i += bytes[i]) {
                if (bytes[i + 1] == 0x02 && n > 0)
                        break;
                if (bytes[i + 1] == 0x04 && bytes[i] >= 9 && bytes[i + 2] == 0 && bytes[i + 5] == 0xfe && bytes[i + 6] == 0x01)
                        n++;
        }
        return n;
}

/* Layouts of one board differ in their number of partitions, or in nothing that is of interest here. */
static const struct layout *layout_of(const struct board *board, size_t n_alts)
{
        for (size_t i = 0; board && i < board->n_layouts; i++)
                if (board->layouts[i].n_partitions == n_alts)
                        return &board->layouts[i];
        return NULL;
}

bool dfu_device_read(const struct camera *camera, const struct board_list *boards, struct dfu_device *ret)
{
        const char *port = camera->port;
        char name[64];

        *ret = (struct dfu_device){ .camera = camera, .rom = strcmp(camera->mode, "rom-dfu") == 0 };
        if (!camera->attached || (!ret->rom && strcmp(camera->mode, "bootloader") != 0))
                return false;
        ret->board = *camera->board ? board_by_id(boards, camera->board) : NULL;
        ret->vendor = (uint16_t)read_number(port, "/idVendor", 16);
        ret->product = (uint16_t)read_number(port, "/idProduct", 16);
        ret->release = (uint16_t)read_number(port, "/bcdDevice", 16);
        ret->devnum = read_number(port, "/devnum", 10);
        ret->configuration = read_number(port, "/bConfigurationValue", 10);
        ret->n_alts = count_alts(port);
        if (ret->rom) {
                (void)snprintf(name, sizeof(name), ":%u.0/interface", ret->configuration);
                (void)read_attribute(port, name, ret->rom_name, sizeof(ret->rom_name) - 1);
                ret->rom_name[strcspn(ret->rom_name, "\n")] = '\0';
        } else
                ret->layout = layout_of(ret->board, ret->n_alts);
        return ret->vendor != 0;
}

static void print_alt(const struct dfu_device *device, FILE *to, size_t alt, const char *name)
{
        const char *serial = device->camera->serial;

        (void)fprintf(to, "Found DFU: [%04x:%04x] ver=%04x, devnum=%u, cfg=%u, intf=0, path=\"%s\", alt=%zu, name=\"%s\", serial=\"%s\"\n",
                      device->vendor, device->product, device->release, device->devnum, device->configuration, device->camera->port,
                      alt, *name ? name : "UNKNOWN", *serial ? serial : "UNKNOWN");
}

/* The last one first, as dfu-util does.  Of a chip in ROM DFU the kernel knows the name of setting 0 only, which is the one that is written. */
void dfu_device_print(const struct dfu_device *device, FILE *to)
{
        if (device->rom) {
                print_alt(device, to, 0, device->rom_name);
                return;
        }
        for (size_t alt = device->n_alts; alt-- > 0;)
                print_alt(device, to, alt, device->layout && alt < device->layout->n_partitions ? device->layout->partitions[alt].name : "");
}

bool dfu_camera_matches(const struct camera *camera, const struct dfu_options *options)
{
        if (options->path && strcmp(options->path, camera->port) != 0)
                return false;
        return !options->serial || strcasecmp(options->serial, camera->serial) == 0 || strcasecmp(options->serial, camera->unique_id) == 0;
}

bool dfu_device_matches(const struct dfu_device *device, const struct dfu_options *options)
{
        if (options->has_id && (options->vendor != device->vendor || options->product != device->product))
                return false;
        if (options->devnum >= 0 && (unsigned)options->devnum != device->devnum)
                return false;
        return dfu_camera_matches(device->camera, options);
}

bool dfu_is_foreign(const struct board_list *boards, uint16_t vendor, uint16_t product)
{
        enum usb_role role = board_classify(boards, vendor, product, NULL);

        return role != USB_ROLE_BOOTLOADER && role != USB_ROLE_ROM_DFU && (vendor != DFU_ROM_VENDOR || product != DFU_ROM_PRODUCT);
}

size_t dfu_find_foreign(const struct board_list *boards, struct dfu_id *ids, size_t max)
{
        DIR *directory = opendir(DEVICES);
        struct dirent *entry;
        size_t n = 0;

        while (directory && n < max && (entry = readdir(directory))) {
                struct dfu_id id = { 0, 0 };
                bool known = false;

                if (!isdigit((unsigned char)entry->d_name[0]) || strchr(entry->d_name, ':') || count_alts(entry->d_name) == 0)
                        continue;
                id.vendor = (uint16_t)read_number(entry->d_name, "/idVendor", 16);
                id.product = (uint16_t)read_number(entry->d_name, "/idProduct", 16);
                for (size_t i = 0; i < n; i++)
                        known = known || (ids[i].vendor == id.vendor && ids[i].product == id.product);
                if (!known && dfu_is_foreign(boards, id.vendor, id.product))
                        ids[n++] = id;
        }
        if (directory)
                (void)closedir(directory);
        return n;
}

const struct partition *dfu_partition(const struct layout *layout, const char *alt)
{
        char *end;
        unsigned long n;

        if (!isdigit((unsigned char)*alt))
                return layout_partition(layout, alt, NULL);
        n = strtoul(alt, &end, 10);
        return *end == '\0' && n < layout->n_partitions ? &layout->partitions[n] : NULL;
}

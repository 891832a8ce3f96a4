/* SPDX-License-Identifier: MIT */
/*
 * What names say of an image.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "client/image-name.h"

const char *image_partition(const char *file)
{
        static const struct { const char *file, *partition; } names[] = {
                { "firmware.bin", "FIRMWARE" },
                { "firmware.dfu", "FIRMWARE" },
                { "bootloader.bin", "BOOTLOADER" },
                { "bootloader.dfu", "BOOTLOADER" },
                { "firmware_M55_HP.bin", "HP" },
                { "firmware_M55_HE.bin", "HE" },
                { "romfs.img", "ROMFS0" },
                { "romfs0.img", "ROMFS0" },
                { "romfs1.img", "ROMFS1" },
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcasecmp(names[i].file, file) == 0)
                        return names[i].partition;
        return NULL;
}

bool image_is_board_folder(const char *name)
{
        size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

        return n < IMAGE_BOARD_SIZE && name[n] == '\0' &&
               (strncmp(name, "OPENMV", 6) == 0 || strncmp(name, "ARDUINO_", 8) == 0);
}

const char *image_base(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? slash + 1 : path;
}

void image_folder_board(const char *path, char board[static IMAGE_BOARD_SIZE])
{
        const char *end = strrchr(path, '/'), *begin = end;
        char folder[64];

        board[0] = '\0';
        if (!end)
                return;
        while (begin > path && begin[-1] != '/')
                begin--;
        if ((size_t)(end - begin) >= sizeof(folder))
                return;
        (void)snprintf(folder, sizeof(folder), "%.*s", (int)(end - begin), begin);
        if (image_is_board_folder(folder))
                (void)snprintf(board, IMAGE_BOARD_SIZE, "%.*s", IMAGE_BOARD_SIZE - 1, folder);
}

int image_version(const char *text, char version[static IMAGE_VERSION_SIZE])
{
        size_t n;

        if ((text[0] == 'v' || text[0] == 'V') && isdigit((unsigned char)text[1]))
                text++;
        n = strlen(text);
        if (n == 0 || n >= IMAGE_VERSION_SIZE ||
            strspn(text, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._+-:") != n)
                return -EINVAL;
        memcpy(version, text, n + 1);
        return 0;
}

bool image_version_is_stable(const char *version)
{
        return isdigit((unsigned char)version[0]) && strspn(version, "0123456789.") == strlen(version);
}

void image_archive_name(const char *path, char board[static IMAGE_BOARD_SIZE], char version[static IMAGE_VERSION_SIZE])
{
        static const char prefix[] = "firmware_", suffix[] = ".zip";
        const char *base = image_base(path);
        size_t n = strlen(base);
        char tag[64];

        board[0] = '\0';
        version[0] = '\0';
        if (n <= sizeof(prefix) - 1 + sizeof(suffix) - 1 || strncasecmp(base, prefix, sizeof(prefix) - 1) != 0 ||
            strcasecmp(base + n - (sizeof(suffix) - 1), suffix) != 0)
                return;
        n -= sizeof(prefix) - 1 + sizeof(suffix) - 1;
        if (n >= sizeof(tag))
                return;
        memcpy(tag, base + sizeof(prefix) - 1, n);
        tag[n] = '\0';
        if (image_is_board_folder(tag)) {
                (void)snprintf(board, IMAGE_BOARD_SIZE, "%.*s", IMAGE_BOARD_SIZE - 1, tag);
                (void)snprintf(version, IMAGE_VERSION_SIZE, "development");
        } else if (image_version(tag, version) < 0) {
                version[0] = '\0';
        }
}

int image_settings_version(const char *text, size_t size, char version[static IMAGE_VERSION_SIZE])
{
        static const char key[] = "\"firmware_version\"";
        const char *end = text + size, *p = memmem(text, size, key, sizeof(key) - 1), *begin;
        char value[IMAGE_VERSION_SIZE];

        if (!p)
                return -ENOENT;
        p += sizeof(key) - 1;
        while (p < end && isspace((unsigned char)*p))
                p++;
        if (p == end || *p++ != ':')
                return -ENOENT;
        while (p < end && isspace((unsigned char)*p))
                p++;
        if (p == end || *p++ != '"')
                return -ENOENT;
        begin = p;
        while (p < end && *p != '"')
                p++;
        if (p == end || (size_t)(p - begin) >= sizeof(value) || memchr(begin, '\0', (size_t)(p - begin)))
                return -ENOENT;
        memcpy(value, begin, (size_t)(p - begin));
        value[p - begin] = '\0';
        return image_version(value, version) < 0 ? -ENOENT : 0;
}

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the names of files, folders and archives say of an image: for which
 * board, for which partition, of which version.  Pure.  What they do not say
 * stays empty, and the daemon works it out from the image or refuses it.
 */

#include <stdbool.h>
#include <stddef.h>

#define IMAGE_BOARD_SIZE 40
#define IMAGE_VERSION_SIZE 32

/* "firmware.bin" -> "FIRMWARE"; of either case; NULL: not a name that says it. */
const char *image_partition(const char *file);
/* "OPENMV3", "OPENMV_AE3", "ARDUINO_GIGA": the folder of a board? */
bool image_is_board_folder(const char *name);
/* The part after the last '/'. */
const char *image_base(const char *path);
/* The last folder of "x/OPENMV3/firmware.bin" if it is a board's; else "". */
void image_folder_board(const char *path, char board[static IMAGE_BOARD_SIZE]);

/* "firmware_v4.8.1.zip" -> version "4.8.1"; "firmware_OPENMV3.zip" -> board, version "development" (the rolling release
 * has one such archive per board); anything else: both "". */
void image_archive_name(const char *path, char board[static IMAGE_BOARD_SIZE], char version[static IMAGE_VERSION_SIZE]);
/* "v4.8.1" -> "4.8.1".  -EINVAL: empty, too long, or with characters that no version has. */
int image_version(const char *text, char version[static IMAGE_VERSION_SIZE]);
/* The "firmware_version" of a settings.json, wherever in it and however sound the rest is.  -ENOENT. */
int image_settings_version(const char *text, size_t size, char version[static IMAGE_VERSION_SIZE]);
/* A release has numbers and dots only. */
bool image_version_is_stable(const char *version);

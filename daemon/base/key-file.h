/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Key files: "[section argument]" and "key = value" lines, "#" comments.  The
 * reader knows the shape of a line and nothing of its meaning; who reads decides
 * what a wrong line costs.  It never fails as a whole: a line that has no shape
 * is an item like any other, with its number and a reason, and the next call
 * goes on after it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_FILE_LINE_MAX 256           /* without its end; longer lines are wrong */

enum key_item {
        KEY_ITEM_END,
        KEY_ITEM_SECTION,               /* section and argument ("" if none) are set */
        KEY_ITEM_VALUE,                 /* key and value are set; the section stays as last read */
        KEY_ITEM_WRONG,                 /* fault says why */
};

struct key_file {
        const char *text;
        size_t left;
        unsigned line;                  /* number of the line last read, from 1 */
        char section[64], argument[64];
        char *key, *value;              /* into buffer, until the next call */
        const char *fault;
        bool is_heading;                /* the wrong line began a section: what follows belongs to none before it */
        char buffer[KEY_FILE_LINE_MAX + 1];
};

/* text need not end with NUL and is kept by the caller. */
void key_file_init(struct key_file *file, const char *text, size_t size);
enum key_item key_file_next(struct key_file *file);

/* Takes the next word (blanks separate) off *rest.  NULL: none left.  Writes a NUL behind it. */
char *key_file_word(char **rest);

/* Whole strings only, no sign, no blanks: -EINVAL, or -ERANGE when larger than max. */
int parse_number(const char *string, uint64_t max, uint64_t *ret);      /* decimal, or hexadecimal after 0x */
int parse_size(const char *string, uint64_t *ret);                      /* decimal with an optional K, M or G (powers of 1024) */
int parse_boolean(const char *string);                                  /* "yes" 1, "no" 0 */

/* Reads a whole file, with a NUL behind it.  -EFBIG when it is larger than max, and any errno of open and read. */
int read_whole_file(const char *path, size_t max, char **ret, size_t *ret_size);

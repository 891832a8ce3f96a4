/* SPDX-License-Identifier: MIT */

/*
 * The reader of key files.  It copies one line at a time into its own buffer,
 * so that words can be cut with NULs and the text itself stays untouched.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/key-file.h"

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r';
}

static char *strip(char *s)
{
        size_t n;

        while (is_blank(*s))
                s++;
        n = strlen(s);
        while (n > 0 && is_blank(s[n - 1]))
                s[--n] = '\0';
        return s;
}

/* Lower-case letters, digits, dash; a dot and upper case too, for keys that carry a board's name ("pin.OPENMV3"). */
static bool is_key(const char *s)
{
        if (!*s)
                return false;
        for (; *s; s++)
                if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
                      *s == '-' || *s == '.' || *s == '_'))
                        return false;
        return true;
}

void key_file_init(struct key_file *file, const char *text, size_t size)
{
        *file = (struct key_file){ .text = text, .left = size };
}

static enum key_item wrong(struct key_file *file, const char *fault)
{
        file->fault = fault;
        return KEY_ITEM_WRONG;
}

static enum key_item parse_section(struct key_file *file, char *s)
{
        size_t n = strlen(s);
        char *name, *argument;

        if (s[n - 1] != ']')
                return wrong(file, "a section without its closing bracket");
        s[n - 1] = '\0';
        name = strip(s + 1);
        for (argument = name; *argument && !is_blank(*argument); argument++)
                ;
        if (*argument)
                *argument++ = '\0';
        argument = strip(argument);
        if (!is_key(name) || strlen(name) >= sizeof(file->section) || strlen(argument) >= sizeof(file->argument))
                return wrong(file, "not a section's name");

        strcpy(file->section, name);
        strcpy(file->argument, argument);
        return KEY_ITEM_SECTION;
}

/* One line without its end. */
static enum key_item parse_line(struct key_file *file, const char *line, size_t size)
{
        char *s, *equals;

        file->is_heading = false;
        for (size_t i = 0; i < size && (line[i] == '[' || is_blank(line[i])); i++)
                file->is_heading |= line[i] == '[';
        if (size > KEY_FILE_LINE_MAX)
                return wrong(file, "a line longer than 256 characters");
        memcpy(file->buffer, line, size);
        file->buffer[size] = '\0';
        s = strip(file->buffer);
        for (size_t i = 0; i < size; i++)
                if (line[i] == '\t' || line[i] == '\r')
                        continue;
                else if (line[i] < ' ' || line[i] == 0x7f)
                        return wrong(file, "a character that is not plain text");

        if (*s == '[')
                return parse_section(file, s);
        equals = strchr(s, '=');
        if (!equals)
                return wrong(file, "neither a section nor \"key = value\"");
        *equals = '\0';
        file->key = strip(s);
        file->value = strip(equals + 1);
        if (!is_key(file->key))
                return wrong(file, "not a key");
        return KEY_ITEM_VALUE;
}

static bool is_empty_or_comment(const char *line, size_t size)
{
        while (size > 0 && is_blank(*line)) {
                line++;
                size--;
        }
        return size == 0 || *line == '#';
}

enum key_item key_file_next(struct key_file *file)
{
        file->key = file->value = NULL;
        file->fault = NULL;

        while (file->left > 0) {
                const char *line = file->text;
                const char *end = memchr(line, '\n', file->left);
                size_t size = end ? (size_t)(end - line) : file->left;
                size_t step = end ? size + 1 : size;

                file->text += step;
                file->left -= step;
                file->line++;
                if (!is_empty_or_comment(line, size))
                        return parse_line(file, line, size);
        }
        return KEY_ITEM_END;
}

char *key_file_word(char **rest)
{
        char *word, *s = *rest;

        while (is_blank(*s))
                s++;
        if (!*s) {
                *rest = s;
                return NULL;
        }
        word = s;
        while (*s && !is_blank(*s))
                s++;
        if (*s)
                *s++ = '\0';
        *rest = s;
        return word;
}

static int digit_of(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

int parse_number(const char *string, uint64_t max, uint64_t *ret)
{
        unsigned base = 10;
        uint64_t v = 0;

        if (string[0] == '0' && string[1] == 'x') {
                base = 16;
                string += 2;
        }
        if (!*string)
                return -EINVAL;
        for (; *string; string++) {
                int digit = digit_of(*string);

                if (digit < 0 || (unsigned)digit >= base)
                        return -EINVAL;
                if (v > (UINT64_MAX - (unsigned)digit) / base)
                        return -ERANGE;
                v = v * base + (unsigned)digit;
        }
        if (v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}

int parse_size(const char *string, uint64_t *ret)
{
        char digits[24];
        size_t n = strlen(string);
        unsigned shift = 0;
        uint64_t v;
        int r;

        if (n == 0 || n >= sizeof(digits))
                return -EINVAL;
        strcpy(digits, string);
        switch (digits[n - 1]) {
        case 'K':
                shift = 10;
                break;
        case 'M':
                shift = 20;
                break;
        case 'G':
                shift = 30;
                break;
        }
        if (shift)
                digits[n - 1] = '\0';
        if (strchr(digits, 'x'))
                return -EINVAL;
        r = parse_number(digits, UINT64_MAX >> shift, &v);
        if (r < 0)
                return r;
        *ret = v << shift;
        return 0;
}

int parse_boolean(const char *string)
{
        if (strcmp(string, "yes") == 0)
                return 1;
        if (strcmp(string, "no") == 0)
                return 0;
        return -EINVAL;
}

int read_whole_file(const char *path, size_t max, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -1;
        struct stat st;
        size_t size = 0;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if ((uint64_t)st.st_size > max)
                return -EFBIG;

        text = malloc((size_t)st.st_size + 1);
        if (!text)
                return -ENOMEM;
        /* The file may have shrunk since; one that grew is read as far as it was when we looked. */
        while (size < (size_t)st.st_size) {
                ssize_t n = read(fd, text + size, (size_t)st.st_size - size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                size += (size_t)n;
        }
        text[size] = '\0';
        *ret = take_ptr(text);
        *ret_size = size;
        return 0;
}

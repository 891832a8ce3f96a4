/* SPDX-License-Identifier: MIT */
/*
 * Text on a terminal.  UTF-8 is decoded here rather than by the C library, so
 * that a file written in the C locale keeps its text.  Invariant: what
 * text_clean() returns is valid, has no control character, and may be printed.
 */

#include <ctype.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "base/cleanup.h"
#include "client/text.h"

#define FILE_NAME_MAX 63                /* bytes that the daemon keeps */

void terminal_resize(struct terminal *terminal, int fd)
{
        struct winsize size;

        if (!terminal->is_terminal)
                return;
        if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
                terminal->columns = size.ws_col;
                terminal->rows = size.ws_row > 0 ? size.ws_row : 24;
        } else {
                terminal->columns = 80;
                terminal->rows = 24;
        }
}

void terminal_probe(struct terminal *terminal, int fd)
{
        const char *type = getenv("TERM"), *no_color = getenv("NO_COLOR");

        (void)setlocale(LC_CTYPE, "");
        *terminal = (struct terminal){ .is_terminal = isatty(fd) };
        /* A file keeps UTF-8 whatever the locale: it is read elsewhere. */
        terminal->utf8 = !terminal->is_terminal || strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
        terminal->moves = terminal->is_terminal && type && *type && strcmp(type, "dumb") != 0;
        terminal->colour = terminal->moves && (!no_color || !*no_color);
        terminal_resize(terminal, fd);
}

/* Length of the valid UTF-8 sequence at s, 0 if there is none. */
static size_t decode(const char *s, uint32_t *ret)
{
        const unsigned char *b = (const unsigned char *)s;
        uint32_t c, least;
        size_t n;

        if (b[0] < 0x80) {
                *ret = b[0];
                return 1;
        }
        if (b[0] >= 0xc2 && b[0] < 0xe0) {
                n = 2;
                c = b[0] & 0x1fu;
                least = 0x80;
        } else if (b[0] >= 0xe0 && b[0] < 0xf0) {
                n = 3;
                c = b[0] & 0x0fu;
                least = 0x800;
        } else if (b[0] >= 0xf0 && b[0] < 0xf5) {
                n = 4;
                c = b[0] & 0x07u;
                least = 0x10000;
        } else {
                return 0;
        }
        for (size_t i = 1; i < n; i++) {
                if ((b[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (b[i] & 0x3fu);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return 0;
        *ret = c;
        return n;
}

static bool is_control(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

/* Characters that reorder or hide their neighbours. */
static bool is_deceptive(uint32_t c)
{
        return (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

char *text_clean(const char *string, bool utf8)
{
        char *clean = malloc(strlen(string) + 1), *to = clean;

        if (!clean)
                return NULL;
        while (*string) {
                uint32_t c;
                size_t n = decode(string, &c);

                if (n == 0) {
                        *to++ = '?';
                        string++;
                        continue;
                }
                if (c == '\n' || c == '\t' || c == '\r') {
                        *to++ = ' ';
                } else if (is_control(c) || is_deceptive(c) || (c >= 0x80 && !utf8)) {
                        *to++ = '?';
                } else {
                        memcpy(to, string, n);
                        to += n;
                }
                string += n;
        }
        *to = '\0';
        return clean;
}

char *text_file_name(const char *name)
{
        char *clean = text_clean(name, /* utf8= */ true);
        size_t length, from;

        if (!clean)
                return NULL;
        length = strlen(clean);
        from = length > FILE_NAME_MAX ? length - FILE_NAME_MAX : 0;
        while (from > 0 && ((unsigned char)clean[from] & 0xc0) == 0x80)
                from++;
        memmove(clean, clean + from, length - from + 1);
        return clean;
}

char *text_valid(const char *string)
{
        char *valid = strdup(string);
        uint32_t c;

        if (!valid)
                return NULL;
        for (char *p = valid; *p;) {
                size_t n = decode(p, &c);

                if (n == 0)
                        *p = '?';
                p += n ? n : 1;
        }
        return valid;
}

static size_t character_width(uint32_t c)
{
        int w;

        if (c < 0x80)
                return 1;
        w = wcwidth((wchar_t)c);
        return w < 0 ? 1 : (size_t)w;
}

size_t text_width(const char *clean)
{
        size_t width = 0;
        uint32_t c;

        while (*clean) {
                size_t n = decode(clean, &c);

                width += n ? character_width(c) : 1;
                clean += n ? n : 1;
        }
        return width;
}

size_t text_prefix(const char *clean, size_t width)
{
        const char *p = clean;
        size_t used = 0;
        uint32_t c;

        while (*p) {
                size_t n = decode(p, &c), w = n ? character_width(c) : 1;

                if (used + w > width)
                        break;
                used += w;
                p += n ? n : 1;
        }
        return (size_t)(p - clean);
}

char *text_cut(const char *clean, size_t width, bool utf8)
{
        const char *mark = utf8 ? "\u2026" : "~";
        char *cut;
        size_t n;

        if (text_width(clean) <= width)
                return strdup(clean);
        if (width == 0)
                return strdup("");
        n = text_prefix(clean, width - 1);
        while (n > 0 && clean[n - 1] == ' ')
                n--;
        cut = malloc(n + strlen(mark) + 1);
        if (!cut)
                return NULL;
        memcpy(cut, clean, n);
        strcpy(cut + n, mark);
        return cut;
}

size_t text_line(const char *clean, size_t width, size_t *ret_next)
{
        size_t fits = text_prefix(clean, width), end = fits, next;

        if (fits == 0 && *clean) {
                /* Narrower than one character: go on all the same. */
                uint32_t c;
                size_t n = decode(clean, &c);

                *ret_next = n ? n : 1;
                return *ret_next;
        }
        if (clean[fits] && clean[fits] != ' ') {
                while (end > 0 && clean[end - 1] != ' ')
                        end--;
                if (end == 0)
                        end = fits;
        }
        next = end;
        while (clean[next] == ' ')
                next++;
        while (end > 0 && clean[end - 1] == ' ')
                end--;
        *ret_next = next;
        return end;
}

int text_compare_natural(const char *a, const char *b)
{
        while (*a && *b) {
                if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
                        size_t na, nb;
                        int c;

                        while (*a == '0')
                                a++;
                        while (*b == '0')
                                b++;
                        na = strspn(a, "0123456789");
                        nb = strspn(b, "0123456789");
                        if (na != nb)
                                return na < nb ? -1 : 1;
                        c = strncmp(a, b, na);
                        if (c != 0)
                                return c;
                        a += na;
                        b += nb;
                } else if (*a != *b) {
                        return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
                } else {
                        a++;
                        b++;
                }
        }
        return (*a != '\0') - (*b != '\0');
}

const char *style_on(const struct terminal *terminal, enum style style)
{
        static const char *const sequences[_STYLE_MAX] = {
                [STYLE_PLAIN] = "",
                [STYLE_BOLD] = "\033[1m",
                [STYLE_DIM] = "\033[2m",
                [STYLE_GOOD] = "\033[32m",
                [STYLE_BUSY] = "\033[36m",
                [STYLE_WARN] = "\033[33m",
                [STYLE_BAD] = "\033[31m",
        };

        return terminal->colour ? sequences[style] : "";
}

const char *style_off(const struct terminal *terminal, enum style style)
{
        return terminal->colour && style != STYLE_PLAIN ? "\033[0m" : "";
}

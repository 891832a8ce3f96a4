/* SPDX-License-Identifier: MIT */
/* The command line of dfu-util: see dfu-options.h. */

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/dfu-options.h"

const char dfu_options_help[] =
"Usage: camrescue-dfu-util [OPTIONS] -D FILE | -U FILE | -e | -l\n"
"Takes the command lines of dfu-util, and lets camrescued do it for OpenMV cameras.\n"
"\n"
"  -l --list               what is in DFU mode\n"
"  -D --download FILE      write FILE to the camera, and read it back\n"
"  -U --upload FILE        read the camera into FILE, which must not be there yet\n"
"  -e --detach             out of its bootloader\n"
"  -d --device [V:P],V:P   the id that it shows in DFU mode\n"
"  -S --serial [S,]SERIAL  its serial in DFU mode\n"
"  -p --path PORT          where it is plugged in\n"
"  -n --devnum NUMBER      its device number\n"
"  -a --alt NAME|NUMBER    which partition\n"
"  -s --dfuse-address ADDRESS[:leave]\n"
"                          in ROM DFU mode: where a plain file belongs\n"
"  -w --wait               wait for the camera\n"
"     --timeout SECONDS    how long, and for an update that does not go on: 900\n"
"  -R --reset              leave its bootloader afterwards\n"
"  -c 1 -i 0 -t -Z -E -v   are taken, and nothing follows from them\n"
"  -h --help   -V --version\n"
"     --install-into DIR   in place of the dfu-util of an IDE in DIR\n"
"     --uninstall-from DIR that one again\n"
"\n"
"Exit: 0 done and verified, 64 usage, 65 file, 66 no such file, 69 no daemon,\n"
"71, 72 this system, 73 cannot write the file, 74 failed or no such camera,\n"
"76 no sense in an answer, 77 refused, 130 interrupted.\n";

struct parser {
        struct dfu_options *options;
        char *problem;
        size_t size;
};

static void wrong(struct parser *parser, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void wrong(struct parser *parser, const char *format, ...)
{
        va_list ap;

        if (parser->problem[0])
                return;                 /* the first is enough */
        va_start(ap, format);
        vsnprintf(parser->problem, parser->size, format, ap);
        va_end(ap);
}

static void act(struct parser *parser, enum dfu_action action, const char *file)
{
        struct dfu_options *options = parser->options;

        if (options->action != DFU_ACTION_NONE && options->action != action)
                wrong(parser, "more than one thing to do");
        else if (file && !*file)
                wrong(parser, "no name of a file or directory");
        options->action = action;
        options->file = file;
}

static bool parse_number(const char *text, int base, unsigned long max, unsigned long *ret)
{
        char *end;

        if (*text < '0' || (*text > '9' && base == 10))
                return false;
        errno = 0;
        *ret = strtoul(text, &end, base);
        return errno == 0 && end != text && *end == '\0' && *ret <= max;
}

static bool parse_hex4(const char *text, size_t n, uint16_t *ret)
{
        char copy[5];

        if (n == 0 || n > 4 || strspn(text, "0123456789abcdefABCDEF") < n)
                return false;
        memcpy(copy, text, n);
        copy[n] = '\0';
        *ret = (uint16_t)strtoul(copy, NULL, 16);
        return true;
}

/* "37c5:1203,37c5:9203", ",37c5:9203", "37c5:9203": what counts is what it shows in DFU mode. */
static void parse_device(struct parser *parser, const char *text)
{
        struct dfu_options *options = parser->options;
        const char *comma = strchr(text, ','), *id = comma ? comma + 1 : text, *colon = strchr(id, ':');

        options->has_id = true;
        if (!colon || !parse_hex4(id, (size_t)(colon - id), &options->vendor) ||
            !parse_hex4(colon + 1, strlen(colon + 1), &options->product))
                /* The IDE's "-d ," would be any DFU device of the host. */
                wrong(parser, "\"%s\" names no DFU device as VENDOR:PRODUCT", text);
}

static void parse_dfuse(struct parser *parser, const char *text)
{
        struct dfu_options *options = parser->options;
        _cleanup_free_ char *copy = strdup(text);
        char *rest = copy, *word;
        unsigned long address;

        options->dfuse = true;
        if (!copy) {
                wrong(parser, "out of memory");
                return;
        }
        for (bool first = true; (word = strsep(&rest, ":")); first = false) {
                if (first && *word == '\0')
                        continue;
                if (first && parse_number(word, 0, UINT32_MAX, &address)) {
                        options->has_address = true;
                        options->address = (uint32_t)address;
                } else if (strcmp(word, "leave") == 0)
                        options->leave = true;
                else if (strcmp(word, "mass-erase") == 0 || strcmp(word, "unprotect") == 0 || strcmp(word, "force") == 0 ||
                         strcmp(word, "will-reset") == 0)
                        wrong(parser, "\"%s\" is never done here", word);
                else
                        wrong(parser, "-s %s: \"%s\" is not understood", text, word);
        }
}

static void parse_ignored_number(struct parser *parser, int option, const char *text)
{
        unsigned long number;

        if (!parse_number(text, 0, UINT32_MAX, &number))
                wrong(parser, "-%c %s: not a number", option, text);
        else if ((option == 'c' && number != 1) || (option == 'i' && number != 0))
                wrong(parser, "-%c %s: a camera has only configuration 1 and interface 0", option, text);
}

enum { INSTALL_INTO = 256, UNINSTALL_FROM, TIMEOUT };

static void take(struct parser *parser, int option, char *value, const char *given)
{
        struct dfu_options *options = parser->options;
        const char *comma;
        unsigned long number;

        switch (option) {
        case 'h': act(parser, DFU_ACTION_HELP, NULL); break;
        case 'V': act(parser, DFU_ACTION_VERSION, NULL); break;
        case 'l': act(parser, DFU_ACTION_LIST, NULL); break;
        case 'e': act(parser, DFU_ACTION_DETACH, NULL); break;
        case 'D': act(parser, DFU_ACTION_DOWNLOAD, value); break;
        case 'U': act(parser, DFU_ACTION_UPLOAD, value); break;
        case INSTALL_INTO: act(parser, DFU_ACTION_INSTALL, value); break;
        case UNINSTALL_FROM: act(parser, DFU_ACTION_UNINSTALL, value); break;
        case 'd': parse_device(parser, value); break;
        case 's': parse_dfuse(parser, value); break;
        case 'w': options->wait = true; break;
        case 'R': options->reset = true; break;
        case 'v': break;
        case 'S':
                comma = strchr(value, ',');
                options->serial = comma ? comma + 1 : value;
                if (!*options->serial)
                        wrong(parser, "-S %s: no serial for DFU mode", value);
                break;
        case 'p': options->path = value; break;
        case 'n':
                if (parse_number(value, 10, 255, &number))
                        options->devnum = (long)number;
                else
                        wrong(parser, "-n %s: not a device number", value);
                break;
        case 'a': options->alt = value; break;
        case TIMEOUT:
                if (parse_number(value, 10, 86400, &number) && number > 0)
                        options->timeout = (unsigned)number;
                else
                        wrong(parser, "--timeout %s: not 1 to 86400 seconds", value);
                break;
        case 'c':
        case 'i':
        case 't':
        case 'Z':
        case 'E':
                parse_ignored_number(parser, option, value);
                break;
        case ':': wrong(parser, "%s needs a value", given); break;
        default: wrong(parser, "unknown option %s", given); break;
        }
}

void dfu_options_parse(int argc, char **argv, struct dfu_options *ret, char *problem, size_t size)
{
        static const struct option options[] = {
                { "help", no_argument, NULL, 'h' },             { "version", no_argument, NULL, 'V' },
                { "verbose", no_argument, NULL, 'v' },          { "list", no_argument, NULL, 'l' },
                { "detach", no_argument, NULL, 'e' },           { "detach-delay", required_argument, NULL, 'E' },
                { "device", required_argument, NULL, 'd' },     { "devnum", required_argument, NULL, 'n' },
                { "path", required_argument, NULL, 'p' },       { "cfg", required_argument, NULL, 'c' },
                { "configuration", required_argument, NULL, 'c' },
                { "intf", required_argument, NULL, 'i' },       { "serial", required_argument, NULL, 'S' },
                { "alt", required_argument, NULL, 'a' },        { "transfer-size", required_argument, NULL, 't' },
                { "upload", required_argument, NULL, 'U' },     { "upload-size", required_argument, NULL, 'Z' },
                { "download", required_argument, NULL, 'D' },   { "reset", no_argument, NULL, 'R' },
                { "wait", no_argument, NULL, 'w' },             { "dfuse-address", required_argument, NULL, 's' },
                { "install-into", required_argument, NULL, INSTALL_INTO },
                { "uninstall-from", required_argument, NULL, UNINSTALL_FROM },
                { "timeout", required_argument, NULL, TIMEOUT },
                { NULL, 0, NULL, 0 }
        };
        struct parser parser = { .options = ret, .problem = problem, .size = size };
        int option;

        *ret = (struct dfu_options){ .devnum = -1, .timeout = DFU_TIMEOUT_DEFAULT };
        problem[0] = '\0';
        opterr = 0;
        optind = 0;                     /* begins anew */
        while ((option = getopt_long(argc, argv, ":hVvleE:d:n:p:c:i:S:a:t:U:Z:D:Rws:", options, NULL)) >= 0)
                take(&parser, option, optarg, argv[optind > 0 ? optind - 1 : 0]);
        if (optind < argc)
                wrong(&parser, "\"%s\" is too much", argv[optind]);
        else if (ret->action == DFU_ACTION_NONE)
                wrong(&parser, "nothing to do: -D, -U, -e or -l");
}

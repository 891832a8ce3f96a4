/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The command line of dfu-util 0.11, as far as camrescue-dfu-util has a use for it.  Pure: it is read, and whatever is unknown, contradictory or
 * dangerous is named.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DFU_TIMEOUT_DEFAULT 900         /* the IDE ends us after 300 s */

enum dfu_action {
        DFU_ACTION_NONE,
        DFU_ACTION_HELP,
        DFU_ACTION_VERSION,
        DFU_ACTION_LIST,
        DFU_ACTION_DOWNLOAD,            /* file -> camera */
        DFU_ACTION_UPLOAD,              /* camera -> file */
        DFU_ACTION_DETACH,              /* out of its bootloader */
        DFU_ACTION_INSTALL,             /* --install-into */
        DFU_ACTION_UNINSTALL,           /* --uninstall-from */
};

/* Strings point into argv. */
struct dfu_options {
        enum dfu_action action;
        const char *file;               /* of download and upload; the directory of install and uninstall */
        bool wait, reset;
        unsigned timeout;               /* seconds: for a camera, and for an update that does not go on */
        bool has_id;                    /* the id that it shows in DFU mode */
        uint16_t vendor, product;
        const char *serial;             /* NULL: any; what stands behind the comma, if there is one */
        const char *path;               /* NULL: any; "1-2.4" */
        long devnum;                    /* -1: any */
        const char *alt;                /* NULL: none named; a number or a name */
        bool has_address;               /* of -s */
        uint32_t address;
        bool leave;
        bool dfuse;                     /* -s was given, whatever it says */
};

/* What is wrong with the command line, in words; "": nothing.  argv is permuted as by getopt_long(). */
void dfu_options_parse(int argc, char **argv, struct dfu_options *ret, char *problem, size_t size);
/* For people. */
extern const char dfu_options_help[];

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The administrator's choices, from a key file (camrescue.conf) and the drop-ins
 * beside it (camrescue.conf.d/NAME.conf, in the order of their names), of which a
 * later one wins, setting by setting.  Every value has a default; a wrong line is
 * named with file and line, and ignored, and the rest holds.
 *
 *         [daemon]
 *         exit-on-idle=10min
 *         [recovery]
 *         automatic=yes
 *         saved-quota=64M
 *         [camera 34303639330D5113001F002A]       (key, serial or port)
 *         automatic=no
 *         [firmware]
 *         pin.OPENMV3=4.8.1
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"

#define CONFIG_SAVED_QUOTA_DEFAULT (UINT64_C(64) << 20)

struct config_camera {
        char name[40];                  /* key, serial (either case) or port */
        int automatic;                  /* -1: not said; 0 no; 1 yes */
        unsigned file;                  /* that said it last: index into config.files */
};

struct config_pin {
        char board[20];                 /* as written; its id after config_check_pins() */
        char version[32];
        unsigned file, line;
};

struct config {
        bool automatic;                 /* unattended writing at all */
        uint64_t saved_quota;           /* bytes for images that are saved before they are overwritten; 0: none can be saved */
        size_t n_cameras;
        struct config_camera *cameras;
        size_t n_pins;
        struct config_pin pins[BOARDS_MAX];
        uint64_t exit_on_idle;          /* microseconds without a camera or a question; 0: it stays */
        size_t n_files;                 /* that were read, in order */
        char **files;                   /* their names, for messages */
};

/* The defaults; what was in it is not freed. */
void config_init(struct config *config);
void config_free(struct config *config);
/* Begins with the defaults.  Returns the number of wrong lines; each was logged. */
unsigned config_parse(struct config *config, const char *text, size_t size, const char *file);
/* On top of what is there: one more file.  Likewise. */
unsigned config_add(struct config *config, const char *text, size_t size, const char *file);
/* path and its drop-ins, beginning with the defaults.  No file: the defaults, 0.  What cannot be read is logged, counts as one wrong line,
 * and the rest holds. */
unsigned config_load(struct config *config, const char *path);
/* Once the boards are known: pins of boards that are not, and second pins of one board, are logged with their line and dropped.
 * Returns their number. */
unsigned config_check_pins(struct config *config, const struct board_list *boards);

/* What the sections of this camera say of unattended writing: 0, 1, or -1 for "as [recovery] says".  Any of the strings may be NULL.
 * Where several sections name one camera (by key and by port, say), one "no" is enough. */
int config_camera_automatic(const struct config *config, const char *key, const char *serial, const char *port);
/* The version that the administrator wants on this board; NULL: no choice. */
const char *config_pin(const struct config *config, const char *board_id);

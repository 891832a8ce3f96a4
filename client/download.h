/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Getting something from the network, by the program curl: whoever does not
 * download needs no library for it.  Bounded in size and time; what did not come
 * whole is an error.
 */

#include <stddef.h>
#include <stdint.h>

#include "client/client.h"

struct download {
        const char *url;
        size_t max;                     /* bytes */
        unsigned seconds;               /* for the whole */
        bool follow;                    /* redirections, five at most; else only *redirect is filled */
        bool show_progress;             /* on stderr, redrawn in place */

        /* out */
        int fd;                         /* a memory file, at its beginning; the caller's */
        size_t size;
        unsigned status;                /* HTTP; 0: it did not come so far */
        char *redirect;                 /* where to, absolute; NULL: not */
        char *error;                    /* a sentence without its end; NULL: none */
};

/* 0, or -EIO and .error; -ENOENT: HTTP says that it is not there.  Free with download_clear() either way. */
int download_run(struct download *download);
void download_clear(struct download *download);

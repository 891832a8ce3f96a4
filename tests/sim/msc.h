/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The mass-storage interface of a running camera, as far as usb-storage must be
 * content with it: bulk-only transport, and behind it a removable disk that has
 * no medium.  What stands in a camera's file system is not to be read here.
 *
 * Knows no transfers: bytes of the OUT pipe go in, bytes of the IN pipe come out.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct msc {
        uint8_t command[31];
        size_t n_command;
        uint32_t out_left;              /* of the command's data, which are thrown away */
        uint32_t in_left;               /* to be given, zeros after reply is through */
        uint8_t reply[36];
        size_t n_reply, said;
        uint8_t status[13];
        size_t status_said;             /* sizeof(status): nothing is to be said */
        uint8_t sense_key, sense_code;
        bool stalled;                   /* both pipes, until msc_init() */
};

/* At first, and by a reset: of the bus, or the class's own. */
void msc_init(struct msc *msc);
/* False: the pipe is stalled: this was no command, or one before it was not. */
bool msc_receive(struct msc *msc, const uint8_t *bytes, size_t size);
/* Up to size bytes of one transfer; -EAGAIN: nothing is to be said now; -EPIPE: the pipe is stalled. */
int msc_say(struct msc *msc, uint8_t *bytes, size_t size);

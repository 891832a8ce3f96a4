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
};

void msc_init(struct msc *msc);
/* False: not a command; the pipe is to be stalled until a reset. */
bool msc_receive(struct msc *msc, const uint8_t *bytes, size_t size);
/* Up to size bytes of one transfer; -EAGAIN: nothing is to be said now. */
int msc_say(struct msc *msc, uint8_t *bytes, size_t size);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The host's side of the ST ROM bootloader: DfuSe (dfu.md part B).  Sans-I/O,
 * as protocol/dfu.h.  Addresses are absolute.  Also the parser of the
 * alternate settings' memory-map strings.
 */

#include "protocol/machine.h"

#define DFUSE_READ_UNPROVEN_MAX 4096    /* rule 3 of the verdict: at most 4 KiB from the default pointer */

struct dfuse {
        struct machine machine;
        uint16_t transfer_size;         /* wTransferSize: 2048 (F4, F7), 1024 (H7) */
        uint32_t pointer;               /* as set on the device; UINT32_MAX: unknown */
        bool h743;                      /* the wedge of quirk 3 may happen: erase at >= 0x08100000 */
};

void dfuse_init(struct dfuse *dfuse, uint16_t transfer_size, bool h743);

/* Take the device back: GETSTATUS; CLRSTATUS only in dfuERROR (quirks 1, 2); ABORT if not idle; must end in dfuIDLE. */
void dfuse_begin_take(struct dfuse *dfuse);
/* Read only with UPLOAD from the default pointer 0x08000000 (no DNLOAD at all is sent): for a device that is not proven ours.
 * size <= DFUSE_READ_UNPROVEN_MAX. */
void dfuse_begin_peek(struct dfuse *dfuse, uint32_t size);
/* Set Address Pointer, ABORT, UPLOADs of transfer_size from block 2; at the end ABORT to dfuIDLE. */
void dfuse_begin_read(struct dfuse *dfuse, uint32_t address, uint32_t size);
/* Erase the sector containing address (0x41), polling early; on H743 at >= 0x08100000 with the CLRSTATUS-pair escape. */
void dfuse_begin_erase(struct dfuse *dfuse, uint32_t address);
/* Program: Set Address Pointer once, blocks from 2; a short last block after a fresh Set Address as block 2. Sector must have been erased. */
void dfuse_begin_write(struct dfuse *dfuse, uint32_t address, const uint8_t *data, uint32_t size);
/* Set Address Pointer to address, DNLOAD(0), GETSTATUS: device gone or no answer is success (B.2, quirk 7). */
void dfuse_begin_leave(struct dfuse *dfuse, uint32_t address);

struct machine_step dfuse_next(struct dfuse *dfuse, const struct machine_reply *reply);

/* --- "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg" (B.1) --- */
struct dfuse_segment {
        uint32_t address;
        uint32_t sector_size;
        uint32_t sectors;
        bool readable, erasable, writable;
};
#define DFUSE_SEGMENTS_MAX 32
/* Lenient as B.1 asks; -EINVAL for what cannot be understood or overflows.  name: room for 64 bytes or NULL. */
int dfuse_parse_map(const char *string, char *name, struct dfuse_segment segments[static DFUSE_SEGMENTS_MAX], size_t *ret_n);

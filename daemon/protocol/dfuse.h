/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The host's side of the ST ROM bootloader: DfuSe (dfu.md part B).  Sans-I/O,
 * as protocol/dfu.h.  Addresses are absolute.  Also the parser of the
 * alternate settings' memory-map strings.
 */

#include "protocol/machine.h"

#define DFUSE_READ_UNPROVEN_MAX 4096    /* rule 3 of the verdict: at most 4 KiB from the default pointer */
#define DFUSE_DEFAULT_POINTER UINT32_C(0x08000000)
/* Nothing but the chip's main flash is ever addressed: no option bytes, no OTP, no RAM.  A request for anything else ends
 * in MACHINE_ADDRESS_REFUSED before a byte is sent. */
#define DFUSE_FLASH_START UINT32_C(0x08000000)
#define DFUSE_FLASH_LIMIT UINT32_C(0x08200000)

struct dfuse {
        struct machine machine;
        uint16_t transfer_size;         /* wTransferSize: 2048 (F4, F7), 1024 (H7) */
        uint32_t pointer;               /* as set on the device; UINT32_MAX: unknown */
        bool h743;                      /* the wedge of quirk 3 may happen: erase at >= 0x08100000 */
        /* private */
        uint8_t state;                  /* the device's, as far as known; _DFU_STATE_MAX: unknown */
        uint8_t command;                /* under way */
        uint16_t block;                 /* next wBlockNum */
        uint32_t poll_ms;               /* last bwPollTimeout of the present command */
        unsigned polls, clears, aborts;
        bool escaped;                   /* the way out of quirk 3 was taken in the present wait */
        enum machine_outcome refusal;   /* of a peek, while its traces are removed */
        bool erased;                    /* ... and the wait was for the erase of this operation */
};

/* -EINVAL for a transfer size that no such ROM has (not a power of two from 64 to 4096; it comes from a descriptor):
 * every operation then ends in MACHINE_BAD_REPLY without a request. */
int dfuse_init(struct dfuse *dfuse, uint16_t transfer_size, bool h743);

/* Take the device back: GETSTATE, and ABORT where a command of a dead host waits to be carried out by the next GETSTATUS;
 * GETSTATUS; CLRSTATUS only in dfuERROR (quirks 1, 2); ABORT if not idle; must end in dfuIDLE.  The final step's status
 * is the error that was cleared, if any.  Also the way to let go politely after an operation that failed. */
void dfuse_begin_take(struct dfuse *dfuse);
/* Read only with UPLOAD from the default pointer 0x08000000 (no DNLOAD at all is sent): for a device that is not proven ours.
 * size <= DFUSE_READ_UNPROVEN_MAX.  MACHINE_ADDRESS_REFUSED if this session has moved the pointer.  A refused UPLOAD leaves
 * dfuERROR behind; that is cleared before the end, for the owner's flasher. */
void dfuse_begin_peek(struct dfuse *dfuse, uint32_t size);
/* Set Address Pointer, ABORT, UPLOADs of transfer_size from block 2; at the end ABORT to dfuIDLE.  address must be a
 * multiple of transfer_size (every erase unit's start is): the last UPLOAD asks for a whole block and what is beyond size is cut off
 * (B.2: a short one is ambiguous).  Chunks arrive through machine.chunk; to stop early, do not call dfuse_next() again. */
void dfuse_begin_read(struct dfuse *dfuse, uint32_t address, uint32_t size);
/* Erase the sector containing address (0x41), polling early; on H743 at >= 0x08100000 with the CLRSTATUS-pair escape. */
void dfuse_begin_erase(struct dfuse *dfuse, uint32_t address);
/* Program: Set Address Pointer once, blocks from 2; a short last block after a fresh Set Address as block 2. Sector must have been erased.
 * data is kept by the caller until the end. */
void dfuse_begin_write(struct dfuse *dfuse, uint32_t address, const uint8_t *data, uint32_t size);
/* Set Address Pointer to address, DNLOAD(0), GETSTATUS: device gone or no answer is success (B.2, quirk 7). */
void dfuse_begin_leave(struct dfuse *dfuse, uint32_t address);

/* Every operation may begin in any state: a device whose state is not known is taken back first.
 * reply: NULL at the first call of an operation and after a wait, else the completion of the last request. */
struct machine_step dfuse_next(struct dfuse *dfuse, const struct machine_reply *reply);

/* --- "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg" (B.1) --- */
struct dfuse_segment {
        uint32_t address;
        uint32_t sector_size;
        uint32_t sectors;
        bool readable, erasable, writable;
};
#define DFUSE_SEGMENTS_MAX 32
#define DFUSE_NAME_SIZE 64
/* Lenient as B.1 asks; -EINVAL for what cannot be understood or overflows (segments is then undefined).
 * name: room for DFUSE_NAME_SIZE bytes, or NULL; without the spaces that pad it. */
int dfuse_parse_map(const char *string, char *name, struct dfuse_segment segments[static DFUSE_SEGMENTS_MAX], size_t *ret_n);

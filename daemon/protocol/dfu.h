/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The host's side of the OpenMV DFU bootloader: plain DFU 1.1, one alternate
 * setting per flash partition (dfu.md part A).  A sans-I/O value: it is fed
 * the completion of its last request and answers with the next step.  It knows
 * no libusb, no clock, no file; it allocates nothing.
 *
 * One machine runs one operation at a time, begun by a dfu_begin_*() and driven
 * by dfu_next() until it answers MACHINE_DONE or MACHINE_FAILED.
 * What dfuse.c has in common with it stands in protocol/machine.h.
 */

#include "protocol/machine.h"

#define DFU_BLOCK_SIZE 4096             /* wTransferSize on every board; block n is at n * 4096 of the partition, whatever its length (A.5) */
#define DFU_ALT_UNKNOWN 0xff
#define DFU_PIN_SIZE 64

struct dfu {
        struct machine machine;         /* op, phase, outcome, buffers: private to machine.c/dfu.c */
        uint8_t alt;                    /* set on the device; DFU_ALT_UNKNOWN until SET_INTERFACE was answered */
        bool clean;                     /* no block can be pending on the device: SET_INTERFACE or ABORT was answered in
                                         * this session, and every DNLOAD since was carried out (A.5) */
};

void dfu_init(struct dfu *dfu);

/* Pin: one UPLOAD of 64 bytes, block 0, whatever alternate setting is current.  The cheapest hold (A.3); changes
 * neither flash nor DFU state.  The first request of every session, sent as plain class request.  A device that does not
 * answer is asked again a few times: it is deaf while it carries out the last block of a host that died. */
void dfu_begin_pin(struct dfu *dfu);

/* Take the device back from whatever state it was left in and select a partition: SET_INTERFACE(alt) as a control
 * transfer (drops a stale pending block, never commits it), then GETSTATUS must say dfuIDLE/OK. */
void dfu_begin_select(struct dfu *dfu, uint8_t alt);

/* Read size bytes at offset of the selected partition.  One UPLOAD of at most 4096 bytes per step; each arrives through
 * machine.chunk (see protocol/machine.h), so a comparison can stop early by simply not calling dfu_next() again.
 * offset must be a multiple of 4096, and offset + size not beyond the partition: no UPLOAD crosses that sum (A.6: else
 * 4 zero bytes come; that answer ends in MACHINE_ADDRESS_REFUSED). */
void dfu_begin_read(struct dfu *dfu, uint32_t offset, uint32_t size);

/* Write size bytes at offset (multiple of 4096, and of an erase unit's start: the device erases only there, A.5) from
 * data, which the caller keeps until the end.  Per block exactly: DNLOAD, GETSTATUS (-> dfuDNBUSY), GETSTATUS
 * (-> dfuDNLOAD-IDLE; long deadline, the poll timeout is a lie).
 *
 * Reading, writing and manifesting need a selected partition.  After an operation that left a block pending they
 * drop it first with ABORT, which keeps the alternate setting. */
void dfu_begin_write(struct dfu *dfu, uint32_t offset, const uint8_t *data, uint32_t size);

/* DNLOAD(0), GETSTATUS (-> dfuMANIFEST), GETSTATUS (-> dfuIDLE). */
void dfu_begin_manifest(struct dfu *dfu);

/* DETACH.  Success means that the request was answered, or that the device fell off the bus over it; whether the
 * device leaves is seen on the bus.  Old bootloaders (bcdDevice 0x0200) leave when the window has run out, and never in
 * forced mode (A.7). */
void dfu_begin_detach(struct dfu *dfu);

/* dfuERROR: GETSTATUS (why; in the final step's status), CLRSTATUS, GETSTATUS must say dfuIDLE.  Where a block may be
 * pending the first GETSTATUS is left out: it would commit it. */
void dfu_begin_recover(struct dfu *dfu);

/* reply: NULL at the first call of an operation, else the completion of the last request.  Asserts that an operation
 * is under way. */
struct machine_step dfu_next(struct dfu *dfu, const struct machine_reply *reply);

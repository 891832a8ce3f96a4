/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the protocol machines have in common: the shape of a step, of a reply,
 * of an outcome.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/enum-name.h"
#include "io/usb.h"                     /* struct usb_setup, enum usb_result: plain values */

enum machine_step_kind {
        MACHINE_REQUEST,                /* submit setup (with data if OUT), then call next with its reply */
        MACHINE_WAIT,                   /* call next again (reply NULL) after wait microseconds */
        MACHINE_DONE,                   /* the operation succeeded */
        MACHINE_FAILED,                 /* outcome says how */
};

/* How an operation ended.  Names are stable: they are logged, stored and shown on D-Bus. */
enum machine_outcome {
        MACHINE_OK,
        MACHINE_GONE,                   /* device left the bus */
        MACHINE_TIMEOUT,                /* a request had no answer within its deadline */
        MACHINE_STALLED,                /* a request was refused in a state where it should be accepted */
        MACHINE_TRANSFER_ERROR,         /* USB error, overflow */
        MACHINE_BAD_REPLY,              /* short, impossible state, garbage */
        MACHINE_DEVICE_ERROR,           /* dfuERROR with a status: see status */
        MACHINE_WRITE_REFUSED,          /* errWRITE: read-only, flash failure */
        MACHINE_ADDRESS_REFUSED,        /* errADDRESS / errTARGET */
        MACHINE_PROTECTED,              /* ROM: errVENDOR, read protection */
        MACHINE_BUSY_FOREVER,           /* stayed in dfuDNBUSY past the deadline */
        MACHINE_CANCELLED,              /* the caller cancelled the request */
        _MACHINE_OUTCOME_MAX
};
DECLARE_ENUM_NAMES(machine_outcome);
/* For people, as the end of "because ..."; no full stop. */
const char *machine_outcome_text(enum machine_outcome outcome);

struct machine_step {
        enum machine_step_kind kind;
        struct usb_setup setup;
        const uint8_t *data;            /* OUT data stage */
        uint64_t timeout;               /* microseconds, for the request */
        uint64_t wait;                  /* microseconds, for MACHINE_WAIT */
        enum machine_outcome outcome;
        uint8_t status;                 /* bStatus with MACHINE_DEVICE_ERROR and its refinements; with the
                                         * MACHINE_DONE of a recovery, what it recovered from */
};

struct machine_reply {
        enum usb_result result;
        const uint8_t *data;            /* IN data */
        size_t actual;
        uint64_t elapsed;               /* microseconds that the request took; 0 if the caller does not measure.
                                         * Counts against the deadlines of polling, as waits do. */
};

/* A piece of read data.  It points into the reply's bytes: valid after the dfu_next() that consumed an UPLOAD (whatever
 * step that call answered with, MACHINE_DONE included) for as long as the reply's data is. */
struct machine_chunk {
        uint32_t offset;                /* from the beginning of the partition / absolute address (dfuse) */
        const uint8_t *data;
        size_t size;                    /* 0: this step brought none */
};

struct machine {
        unsigned op;                    /* private enum of the machine; 0: no operation */
        unsigned phase;                 /* private: which reply is awaited; 0: the operation has just begun */
        uint32_t offset, end;           /* of a read or a write */
        const uint8_t *data;            /* of a write: the byte that belongs at offset */
        uint32_t progress;              /* bytes read, or written and acknowledged, by this operation */
        uint16_t length;                /* wLength of the request whose reply is awaited */
        uint8_t status;                 /* what the final step will report */
        unsigned retries;               /* requests repeated because they were not answered as hoped */
        uint64_t waited;                /* time spent polling for the present command */
        struct machine_chunk chunk;
        uint8_t scratch[8];             /* data stage of a DfuSe command */
};

/* DFU states and status codes (DFU 1.1, 6.1.2). */
enum dfu_state {
        DFU_STATE_APP_IDLE, DFU_STATE_APP_DETACH, DFU_STATE_IDLE, DFU_STATE_DNLOAD_SYNC, DFU_STATE_DNBUSY,
        DFU_STATE_DNLOAD_IDLE, DFU_STATE_MANIFEST_SYNC, DFU_STATE_MANIFEST, DFU_STATE_MANIFEST_WAIT_RESET,
        DFU_STATE_UPLOAD_IDLE, DFU_STATE_ERROR, _DFU_STATE_MAX
};
DECLARE_ENUM_NAMES(dfu_state);

enum dfu_request { DFU_DETACH, DFU_DNLOAD, DFU_UPLOAD, DFU_GETSTATUS, DFU_CLRSTATUS, DFU_GETSTATE, DFU_ABORT };
enum {
        DFU_STATUS_OK = 0, DFU_STATUS_TARGET = 1, DFU_STATUS_FILE = 2, DFU_STATUS_WRITE = 3, DFU_STATUS_ERASE = 4,
        DFU_STATUS_CHECK_ERASED = 5, DFU_STATUS_PROG = 6, DFU_STATUS_VERIFY = 7, DFU_STATUS_ADDRESS = 8,
        DFU_STATUS_NOTDONE = 9, DFU_STATUS_FIRMWARE = 10, DFU_STATUS_VENDOR = 11, DFU_STATUS_USBR = 12,
        DFU_STATUS_POR = 13, DFU_STATUS_UNKNOWN = 14, DFU_STATUS_STALLEDPKT = 15
};
/* "errADDRESS"; "status 0x42" is left to the caller: NULL for unknown. */
const char *dfu_status_name(uint8_t status);

/* Deadlines (timing.md section 6). */
#define DFU_TIMEOUT_REQUEST     (UINT64_C(1000000))     /* a control transfer without flash work: 1 s */
#define DFU_TIMEOUT_FLASH       (UINT64_C(10000000))    /* GETSTATUS behind which a sector erase may hide: 10 s */

/* --- what the machines are made of; for dfu.c and dfuse.c only --- */

struct dfu_report {                     /* the answer to GETSTATUS */
        uint8_t status;
        uint8_t state;
        uint32_t poll;                  /* bwPollTimeout, milliseconds */
};

/* Exactly six bytes, a state and a status that exist, and an error status in dfuERROR only. */
bool dfu_report_parse(const struct machine_reply *reply, struct dfu_report *ret);

enum machine_outcome machine_outcome_of_result(enum usb_result result);
enum machine_outcome machine_outcome_of_status(uint8_t status);

void machine_begin(struct machine *machine, unsigned op);
/* phase: what the reply will be taken for. */
struct machine_step machine_out(struct machine *machine, unsigned phase, uint8_t request, uint16_t value,
                                const uint8_t *data, uint16_t length, uint64_t timeout);
struct machine_step machine_in(struct machine *machine, unsigned phase, uint8_t request, uint16_t value,
                               uint16_t length, uint64_t timeout);
struct machine_step machine_wait(struct machine *machine, unsigned phase, uint64_t wait);
struct machine_step machine_done(struct machine *machine);
struct machine_step machine_fail(struct machine *machine, enum machine_outcome outcome);

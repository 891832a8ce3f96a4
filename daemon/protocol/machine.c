/* SPDX-License-Identifier: MIT */

/*
 * What the protocol machines share: how a step is put together, and what the
 * bytes of GETSTATUS may be.  It knows no order of requests; that is the
 * business of dfu.c and dfuse.c.  Invariant: a machine has either one request
 * or wait outstanding, or no operation at all.
 */

#include "protocol/machine.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/cleanup.h"

static const char *const machine_outcome_names[_MACHINE_OUTCOME_MAX] = {
        [MACHINE_OK]              = "ok",
        [MACHINE_GONE]            = "gone",
        [MACHINE_TIMEOUT]         = "timeout",
        [MACHINE_STALLED]         = "stalled",
        [MACHINE_TRANSFER_ERROR]  = "transfer-error",
        [MACHINE_BAD_REPLY]       = "bad-reply",
        [MACHINE_DEVICE_ERROR]    = "device-error",
        [MACHINE_WRITE_REFUSED]   = "write-refused",
        [MACHINE_ADDRESS_REFUSED] = "address-refused",
        [MACHINE_PROTECTED]       = "protected",
        [MACHINE_BUSY_FOREVER]    = "busy-forever",
        [MACHINE_CANCELLED]       = "cancelled",
};
DEFINE_ENUM_NAMES(machine_outcome, _MACHINE_OUTCOME_MAX);

const char *machine_outcome_text(enum machine_outcome outcome)
{
        switch (outcome) {
        case MACHINE_OK:
                return "all went well";
        case MACHINE_GONE:
                return "it left the bus";
        case MACHINE_TIMEOUT:
                return "it did not answer a request in time";
        case MACHINE_STALLED:
                return "it refused a request that it should accept";
        case MACHINE_TRANSFER_ERROR:
                return "a transfer broke off on the bus";
        case MACHINE_BAD_REPLY:
                return "its answer makes no sense";
        case MACHINE_DEVICE_ERROR:
                return "it reported an error";
        case MACHINE_WRITE_REFUSED:
                return "its flash could not be written";
        case MACHINE_ADDRESS_REFUSED:
                return "it refused the address";
        case MACHINE_PROTECTED:
                return "its flash is protected against reading";
        case MACHINE_BUSY_FOREVER:
                return "it stayed busy for ever";
        case MACHINE_CANCELLED:
                return "the request was taken back";
        case _MACHINE_OUTCOME_MAX:
                break;
        }
        return "it failed";
}

static const char *const dfu_state_names[_DFU_STATE_MAX] = {
        [DFU_STATE_APP_IDLE]            = "appIDLE",
        [DFU_STATE_APP_DETACH]          = "appDETACH",
        [DFU_STATE_IDLE]                = "dfuIDLE",
        [DFU_STATE_DNLOAD_SYNC]         = "dfuDNLOAD-SYNC",
        [DFU_STATE_DNBUSY]              = "dfuDNBUSY",
        [DFU_STATE_DNLOAD_IDLE]         = "dfuDNLOAD-IDLE",
        [DFU_STATE_MANIFEST_SYNC]       = "dfuMANIFEST-SYNC",
        [DFU_STATE_MANIFEST]            = "dfuMANIFEST",
        [DFU_STATE_MANIFEST_WAIT_RESET] = "dfuMANIFEST-WAIT-RESET",
        [DFU_STATE_UPLOAD_IDLE]         = "dfuUPLOAD-IDLE",
        [DFU_STATE_ERROR]               = "dfuERROR",
};
DEFINE_ENUM_NAMES(dfu_state, _DFU_STATE_MAX);

static const char *const dfu_status_names[] = {
        [DFU_STATUS_OK]            = "OK",
        [DFU_STATUS_TARGET]        = "errTARGET",
        [DFU_STATUS_FILE]          = "errFILE",
        [DFU_STATUS_WRITE]         = "errWRITE",
        [DFU_STATUS_ERASE]         = "errERASE",
        [DFU_STATUS_CHECK_ERASED]  = "errCHECK_ERASED",
        [DFU_STATUS_PROG]          = "errPROG",
        [DFU_STATUS_VERIFY]        = "errVERIFY",
        [DFU_STATUS_ADDRESS]       = "errADDRESS",
        [DFU_STATUS_NOTDONE]       = "errNOTDONE",
        [DFU_STATUS_FIRMWARE]      = "errFIRMWARE",
        [DFU_STATUS_VENDOR]        = "errVENDOR",
        [DFU_STATUS_USBR]          = "errUSBR",
        [DFU_STATUS_POR]           = "errPOR",
        [DFU_STATUS_UNKNOWN]       = "errUNKNOWN",
        [DFU_STATUS_STALLEDPKT]    = "errSTALLEDPKT",
};

const char *dfu_status_name(uint8_t status)
{
        return status < ELEMENTSOF(dfu_status_names) ? dfu_status_names[status] : NULL;
}

bool dfu_report_parse(const struct machine_reply *reply, struct dfu_report *ret)
{
        const uint8_t *b = reply->data;

        if (!b || reply->actual != 6)
                return false;
        if (b[0] > DFU_STATUS_STALLEDPKT || b[4] >= _DFU_STATE_MAX)
                return false;
        /* A reply of noise often shows here: a status that is an error, in a state that is none. */
        if (b[0] != DFU_STATUS_OK && b[4] != DFU_STATE_ERROR)
                return false;
        *ret = (struct dfu_report){
                .status = b[0],
                .poll = (uint32_t)get_le16(b + 1) | (uint32_t)b[3] << 16,
                .state = b[4],
        };
        return true;
}

enum machine_outcome machine_outcome_of_result(enum usb_result result)
{
        switch (result) {
        case USB_OK:
                return MACHINE_OK;
        case USB_STALL:
                return MACHINE_STALLED;
        case USB_TIMEOUT:
                return MACHINE_TIMEOUT;
        case USB_GONE:
                return MACHINE_GONE;
        case USB_CANCELLED:
                return MACHINE_CANCELLED;
        case USB_OVERFLOW:
        case USB_IO:
        case _USB_RESULT_MAX:
                break;
        }
        return MACHINE_TRANSFER_ERROR;
}

enum machine_outcome machine_outcome_of_status(uint8_t status)
{
        switch (status) {
        case DFU_STATUS_WRITE:
        case DFU_STATUS_ERASE:
        case DFU_STATUS_CHECK_ERASED:
        case DFU_STATUS_PROG:
        case DFU_STATUS_VERIFY:
                return MACHINE_WRITE_REFUSED;
        case DFU_STATUS_ADDRESS:
        case DFU_STATUS_TARGET:
                return MACHINE_ADDRESS_REFUSED;
        case DFU_STATUS_VENDOR:
                return MACHINE_PROTECTED;
        default:
                return MACHINE_DEVICE_ERROR;
        }
}

void machine_begin(struct machine *machine, unsigned op)
{
        *machine = (struct machine){ .op = op };
}

struct machine_step machine_out(struct machine *machine, unsigned phase, uint8_t request, uint16_t value,
                                const uint8_t *data, uint16_t length, uint64_t timeout)
{
        machine->phase = phase;
        machine->length = length;
        return (struct machine_step){
                .kind = MACHINE_REQUEST,
                .setup = { .request_type = 0x21, .request = request, .value = value, .index = 0, .length = length },
                .data = length > 0 ? data : NULL,
                .timeout = timeout,
        };
}

struct machine_step machine_in(struct machine *machine, unsigned phase, uint8_t request, uint16_t value,
                               uint16_t length, uint64_t timeout)
{
        machine->phase = phase;
        machine->length = length;
        return (struct machine_step){
                .kind = MACHINE_REQUEST,
                .setup = { .request_type = 0xa1, .request = request, .value = value, .index = 0, .length = length },
                .timeout = timeout,
        };
}

struct machine_step machine_wait(struct machine *machine, unsigned phase, uint64_t wait)
{
        machine->phase = phase;
        machine->waited += wait;
        return (struct machine_step){ .kind = MACHINE_WAIT, .wait = wait };
}

struct machine_step machine_done(struct machine *machine)
{
        machine->op = 0;
        return (struct machine_step){ .kind = MACHINE_DONE, .outcome = MACHINE_OK, .status = machine->status };
}

struct machine_step machine_fail(struct machine *machine, enum machine_outcome outcome)
{
        assert(outcome != MACHINE_OK);
        machine->op = 0;
        return (struct machine_step){ .kind = MACHINE_FAILED, .outcome = outcome, .status = machine->status };
}

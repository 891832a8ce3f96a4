/* SPDX-License-Identifier: MIT */

/* See msc.h.  USB Mass Storage Class, Bulk-Only Transport 1.0; SPC-2. */

#include "sim/msc.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

enum { TEST_UNIT_READY = 0x00, REQUEST_SENSE = 0x03, INQUIRY = 0x12, PREVENT_REMOVAL = 0x1e };
enum { KEY_NOT_READY = 2, KEY_ILLEGAL_REQUEST = 5, CODE_INVALID_COMMAND = 0x20, CODE_NO_MEDIUM = 0x3a };

/* Offsets in the command wrapper. */
enum { CBW_TAG = 4, CBW_LENGTH = 8, CBW_FLAGS = 12, CBW_COMMAND = 15 };

void msc_init(struct msc *msc)
{
        *msc = (struct msc){ .status_said = sizeof(msc->status) };
}

static bool fails(struct msc *msc, uint8_t key, uint8_t code)
{
        msc->sense_key = key;
        msc->sense_code = code;
        return false;
}

static bool carry_out(struct msc *msc)
{
        static const char identity[] = "OpenMV  Camera          1.00";

        switch (msc->command[CBW_COMMAND]) {
        case INQUIRY:
                memcpy(msc->reply, (const uint8_t[]){ 0x00, 0x80, 0x02, 0x02, 31, 0, 0, 0 }, 8);
                memcpy(msc->reply + 8, identity, sizeof(identity) - 1);
                msc->n_reply = 36;
                return true;
        case REQUEST_SENSE:
                memset(msc->reply, 0, 18);
                msc->reply[0] = 0x70;
                msc->reply[2] = msc->sense_key;
                msc->reply[7] = 10;
                msc->reply[12] = msc->sense_code;
                msc->n_reply = 18;
                msc->sense_key = msc->sense_code = 0;
                return true;
        case PREVENT_REMOVAL:
                return true;
        case TEST_UNIT_READY:
        case 0x23:                      /* and what reads capacities, modes or blocks */
        case 0x25:
        case 0x1a:
        case 0x5a:
        case 0x28:
        case 0x2a:
                return fails(msc, KEY_NOT_READY, CODE_NO_MEDIUM);
        default:
                return fails(msc, KEY_ILLEGAL_REQUEST, CODE_INVALID_COMMAND);
        }
}

static bool begin(struct msc *msc)
{
        uint32_t length = get_le32(msc->command + CBW_LENGTH), residue;
        bool in = msc->command[CBW_FLAGS] & 0x80, well;

        if (memcmp(msc->command, "USBC", 4) != 0)
                return false;
        msc->n_reply = msc->said = 0;
        well = carry_out(msc);
        if (!in)
                msc->n_reply = 0;
        msc->n_reply = MIN(msc->n_reply, (size_t)length);
        /* What was promised and is not there is filled up. */
        residue = length - (uint32_t)msc->n_reply;
        msc->in_left = in ? length : 0;
        msc->out_left = in ? 0 : length;
        memcpy(msc->status, "USBS", 4);
        memcpy(msc->status + 4, msc->command + CBW_TAG, 4);
        put_le32(msc->status + 8, residue);
        msc->status[12] = well ? 0 : 1;
        msc->status_said = 0;
        return true;
}

bool msc_receive(struct msc *msc, const uint8_t *bytes, size_t size)
{
        if (msc->stalled)
                return false;
        while (size > 0) {
                size_t n;

                if (msc->out_left > 0) {
                        n = MIN(size, (size_t)msc->out_left);
                        msc->out_left -= (uint32_t)n;
                } else {
                        n = MIN(size, sizeof(msc->command) - msc->n_command);
                        memcpy(msc->command + msc->n_command, bytes, n);
                        msc->n_command += n;
                        if (msc->n_command == sizeof(msc->command)) {
                                msc->n_command = 0;
                                if (!begin(msc)) {
                                        msc->stalled = true;
                                        return false;
                                }
                        }
                }
                bytes += n;
                size -= n;
        }
        return true;
}

int msc_say(struct msc *msc, uint8_t *bytes, size_t size)
{
        size_t n;

        if (msc->stalled)
                return -EPIPE;
        if (msc->out_left > 0 || msc->status_said == sizeof(msc->status))
                return -EAGAIN;
        if (msc->in_left > 0) {
                size_t of_reply;

                n = MIN(size, (size_t)msc->in_left);
                of_reply = MIN(n, msc->n_reply - msc->said);
                memcpy(bytes, msc->reply + msc->said, of_reply);
                memset(bytes + of_reply, 0, n - of_reply);
                msc->said += of_reply;
                msc->in_left -= (uint32_t)n;
                return (int)n;
        }
        n = MIN(size, sizeof(msc->status) - msc->status_said);
        memcpy(bytes, msc->status + msc->status_said, n);
        msc->status_said += n;
        return (int)n;
}

/* SPDX-License-Identifier: MIT */
/* What follows a session that ended badly: see retry.h. */

#include "base/cleanup.h"
#include "base/loop.h"
#include "core/retry.h"

static const char *const failure_names[_FAILURE_MAX] = {
        [FAILURE_LINK] = "link",
        [FAILURE_DEVICE] = "device",
        [FAILURE_LEFT] = "left",
        [FAILURE_STATE_DIRECTORY] = "state-directory",
        [FAILURE_HERE] = "here",
};
DEFINE_ENUM_NAMES(failure, _FAILURE_MAX);

/* delay: after the first failure in a row; doubled after each further one, up to longest. */
static const struct {
        uint64_t delay, longest;
        bool mended_by_replug;          /* a device that hangs starts afresh then, and a bad cable is changed */
        bool for_ever;                  /* somebody else mends it, and it goes on by itself */
} policies[_FAILURE_MAX] = {
        [FAILURE_LINK]            = { 1 * SEC, 4 * SEC, true, false },
        [FAILURE_DEVICE]          = { 1 * SEC, 4 * SEC, false, false },
        [FAILURE_LEFT]            = { 1 * SEC, 4 * SEC, true, false },
        [FAILURE_STATE_DIRECTORY] = { 2 * SEC, 60 * SEC, false, true },
        [FAILURE_HERE]            = { 2 * SEC, 8 * SEC, false, false },
};

enum failure failure_of_outcome(enum machine_outcome outcome)
{
        switch (outcome) {
        case MACHINE_GONE:
                return FAILURE_LEFT;
        case MACHINE_TIMEOUT:
        case MACHINE_TRANSFER_ERROR:
        case MACHINE_BUSY_FOREVER:
        case MACHINE_CANCELLED:
                return FAILURE_LINK;
        case MACHINE_STALLED:
        case MACHINE_BAD_REPLY:
        case MACHINE_DEVICE_ERROR:
        case MACHINE_WRITE_REFUSED:
        case MACHINE_ADDRESS_REFUSED:
        case MACHINE_PROTECTED:
                return FAILURE_DEVICE;
        case MACHINE_OK:
        case _MACHINE_OUTCOME_MAX:
                break;
        }
        return FAILURE_HERE;
}

bool failure_counts(enum failure failure)
{
        return failure != FAILURE_STATE_DIRECTORY;
}

struct retry retry_after(enum failure failure, unsigned in_a_row, unsigned stuck)
{
        uint64_t delay = policies[failure].delay;

        if (stuck >= RETRY_STUCK_MAX && failure_counts(failure))
                return (struct retry){ .kind = RETRY_NEVER };
        if (in_a_row >= RETRY_ATTACHED_MAX && !policies[failure].for_ever)
                return (struct retry){ .kind = policies[failure].mended_by_replug ? RETRY_WHEN_BACK : RETRY_NEVER };
        for (unsigned i = 1; i < in_a_row && delay < policies[failure].longest; i++)
                delay *= 2;
        return (struct retry){ .kind = RETRY_AFTER, .delay = delay < policies[failure].longest ? delay : policies[failure].longest };
}

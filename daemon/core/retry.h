/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What follows a session that ended badly: another one, when, or none.  Pure:
 * the answer depends on what failed and how often, and on nothing else.
 *
 * A device that stays attached is tried again a few times, each later than the
 * one before; what a new plugging-in may mend waits for that.  Two counts end an
 * update with its reason: failures that no plugging-in mends, in a row; and
 * sessions in a row, over all attachments and restarts, that brought no erase
 * unit forward.  (Erases have a count of their own: row 10 of the verdict.)
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/enum-name.h"
#include "protocol/machine.h"

#define RETRY_ATTACHED_MAX 3            /* failures in a row while the device stays */
/* Sessions in a row that brought nothing forward.  More than the erases that row 10 allows: flash that wears is named as such. */
#define RETRY_STUCK_MAX 30

enum failure {
        FAILURE_LINK,                   /* requests are not answered, or break: cable, hub, port, or a device that hangs */
        FAILURE_DEVICE,                 /* it answers, and refuses or makes no sense */
        FAILURE_LEFT,                   /* it left the bus in the middle of its work: a hand, or power that fails when flash is erased */
        FAILURE_STATE_DIRECTORY,        /* what is wanted could not be written down, so nothing was begun */
        FAILURE_HERE,                   /* memory, a missing image: nothing that the device did */
        _FAILURE_MAX
};
DECLARE_ENUM_NAMES(failure);

enum retry_kind {
        RETRY_AFTER,                    /* while it stays attached, after delay */
        RETRY_WHEN_BACK,                /* when it is plugged in again */
        RETRY_NEVER,                    /* the update ends with its reason */
};

struct retry {
        enum retry_kind kind;
        uint64_t delay;                 /* microseconds; with RETRY_AFTER */
};

enum failure failure_of_outcome(enum machine_outcome outcome);
/* Does it count among the sessions that bring nothing forward? */
bool failure_counts(enum failure failure);
/* in_a_row: failures of this attachment since the last success, this one included.  stuck: sessions in a row that count and brought
 * nothing forward, this one included. */
struct retry retry_after(enum failure failure, unsigned in_a_row, unsigned stuck);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Where a camera is in its story: a pure, total table (state, event) -> (next
 * state, effect).  Mode is seen (identity.h), state is decided here, step is
 * planned (session.h).  No I/O, no clock, no allocation; camera.c is the one
 * door through which a state is stored and an effect carried out.
 */

#include <stdbool.h>

#include "base/enum-name.h"

enum camera_state {
        CAMERA_ABSENT,          /* not attached, nothing unfinished */
        CAMERA_SILENT,          /* not seen again after its bootloader left: look at its flash at the next plug-in */
        CAMERA_WAITING,         /* not attached, and something is unfinished: it is awaited */
        CAMERA_PASSING,         /* in its bootloader, and nobody of us touches it: a healthy camera boots on */
        CAMERA_BOOTING,         /* its bootloader left; the runtime has 10 s to show itself */
        CAMERA_STAYING,         /* in its bootloader for longer than that waits, and not through us */
        CAMERA_RUNNING,         /* its firmware runs */
        CAMERA_CALLING,         /* its firmware runs, and is being asked to restart into its bootloader */
        CAMERA_RESTARTING,      /* told to; its bootloader is awaited */
        CAMERA_OPENING,         /* being opened and pinned */
        CAMERA_BLOCKED,         /* somebody else holds it, or its node is not ours yet: tried again */
        CAMERA_EXAMINING,       /* pinned; its flash is being read */
        CAMERA_ASKING,          /* a person must decide; held as it is */
        CAMERA_UPDATING,        /* being written and verified */
        CAMERA_RELEASING,       /* told to leave its bootloader without a change */
        CAMERA_CONFIRMING,      /* written, verified, told to leave: its runtime is awaited */
        CAMERA_NO_FIRMWARE,     /* held; nothing in the store fits it */
        CAMERA_JUMPER,          /* in ROM DFU with a good bootloader: the jumper must go */
        CAMERA_UNPROVEN,        /* a chip in ROM DFU that is not proven a camera: not touched */
        CAMERA_LEFT_ALONE,      /* recognised, named, not handled */
        CAMERA_UNREADABLE,      /* something is connected and does not answer */
        CAMERA_FAILED,          /* what was tried ended badly; tried again, or a hand is needed */
        CAMERA_INHIBITED,       /* attached, and somebody asked us to keep our hands off (inhibit.h) */
        CAMERA_HELD,            /* in its bootloader, held for somebody's tool, and not touched any more (hold.h) */
        _CAMERA_STATE_MAX
};
DECLARE_ENUM_NAMES(camera_state);

enum camera_event {
        EVENT_SEEN_RUNTIME,
        EVENT_SEEN_BOOTLOADER,          /* and there is no reason to touch it */
        EVENT_SEEN_WANTED,              /* a bootloader with an open update, or after a silent boot */
        EVENT_SEEN_ROM,                 /* ROM DFU of a known camera, or one that may be a missing camera's, or with the user's word */
        EVENT_SEEN_ROM_UNPROVEN,
        EVENT_SEEN_OTHER,
        EVENT_SEEN_UNREADABLE,
        EVENT_GONE,                     /* left the bus */
        EVENT_GONE_EXCUSED,             /* left the bus, and the host slept, its hub went, or others worked on it: no sign of anything */
        EVENT_DEADLINE,                 /* the state's timer */
        EVENT_PINNED,
        EVENT_BUSY,                     /* claimed by another program, or no permission yet */
        EVENT_OPEN_FAILED,
        EVENT_WRITE,                    /* verdict: write */
        EVENT_RELEASE,                  /* verdict: nothing to write and nothing that keeps it from booting */
        EVENT_HOLD,                     /* verdict: incomplete, and not to be written now */
        EVENT_NO_FIRMWARE,
        EVENT_SOUND_BOOTLOADER,         /* ROM: nothing to restore */
        EVENT_ROM_DONE,                 /* ROM: bootloader restored and verified */
        EVENT_UPDATED,                  /* everything verified and the camera told to leave */
        EVENT_UPDATE_FAILED,
        EVENT_STOPPED,                  /* stopped at a safe boundary, because it was cancelled */
        EVENT_REQUESTED,                /* a person asked for something */
        EVENT_FIRMWARE_ADDED,
        EVENT_FINISHED,                 /* nothing is unfinished any more */
        EVENT_CALL,                     /* it runs, and a person's update waits for its bootloader */
        EVENT_CALLED,                   /* it was told to restart */
        EVENT_CALL_FAILED,              /* and will not: a hand is needed */
        EVENT_INHIBITED,                /* hands off: not opened, or stopped at a safe boundary; when that is lifted it is seen anew */
        EVENT_STAYS,                    /* verified, and it stays in its bootloader: EVENT_KEPT follows */
        EVENT_KEPT,                     /* it stays in its bootloader for others, and nothing of it is open any more */
        _CAMERA_EVENT_MAX
};
DECLARE_ENUM_NAMES(camera_event);

enum camera_effect {
        EFFECT_NONE,
        EFFECT_OPEN,                    /* begin a session with the device */
        EFFECT_CLOSE,                   /* end the session; the device stays as it is */
        EFFECT_AWAIT_RUNTIME,           /* arm the 10 s */
        EFFECT_AWAIT_LEAVING,           /* arm the deadline for leaving the bus */
        EFFECT_RETRY_LATER,             /* arm the retry timer */
        EFFECT_SUSPECT,                 /* remember: look at the flash next time */
        EFFECT_NOT_SEEN,                /* the update ends: verified, but not seen again */
        EFFECT_AWAIT_RETURN,            /* end the session; its bootloader was restored: arm the deadline for coming back */
        EFFECT_OVERDUE,                 /* it did not come back: a person is told what that may mean */
        EFFECT_ARRIVED,                 /* its runtime is here: whatever waited for that ends well */
        EFFECT_PASS,                    /* end the session; arm the deadline for leaving the bootloader by itself */
        EFFECT_CALL,                    /* ask it to restart when its turn comes */
        EFFECT_AWAIT_BOOTLOADER,        /* arm the 5 s */
        EFFECT_CALL_FAILED,             /* its update waits for a replug */
        _CAMERA_EFFECT_MAX
};
DECLARE_ENUM_NAMES(camera_effect);

struct transition {
        enum camera_state next;
        enum camera_effect effect;
};

struct transition camera_state_next(enum camera_state state, enum camera_event event);

/* Does a session with the device go on in this state? */
bool camera_state_has_session(enum camera_state state);

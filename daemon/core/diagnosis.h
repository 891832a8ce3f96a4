/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is wrong with a camera, and what a person should do: a pure function of
 * what is known of it now.  Codes are stable; sentences are for people.
 */

#include <stdbool.h>
#include <stddef.h>

#include "core/camera-state.h"
#include "core/identity.h"
#include "core/retry.h"
#include "core/verdict.h"

enum diagnosis_code {
        DIAGNOSIS_NONE,
        DIAGNOSIS_SILENT_BOOT,          /* bootloader left, no runtime followed */
        DIAGNOSIS_INTACT_SILENT,        /* looked: firmware whole, and still silent */
        DIAGNOSIS_UNKNOWN_FIRMWARE,     /* looked: not whole and known: a person must say */
        DIAGNOSIS_WAITING_FOR_REPLUG,   /* an update waits, the camera runs */
        DIAGNOSIS_AWAITED,              /* an update waits, the camera is away */
        DIAGNOSIS_NO_FIRMWARE,
        DIAGNOSIS_JUMPER,               /* bootloader good, ROM DFU: the jumper must go */
        DIAGNOSIS_RESTORED_JUMPER,      /* the same, just restored */
        DIAGNOSIS_RESTORED_NOT_BACK,    /* restored, unplugged, and nothing came */
        DIAGNOSIS_UNPROVEN,             /* some STM32 in ROM DFU */
        DIAGNOSIS_ASK_BOARD,            /* in ROM DFU, and the board is not known */
        DIAGNOSIS_UNKNOWN_BOOTLOADER,
        DIAGNOSIS_AUTOMATIC_OFF,
        DIAGNOSIS_BUSY,
        DIAGNOSIS_NO_PERMISSION,
        DIAGNOSIS_NO_NODE,              /* that could be opened */
        DIAGNOSIS_NOT_SEEN,             /* verified, not seen again */
        DIAGNOSIS_IGNORES_DETACH,
        DIAGNOSIS_FAILED,               /* detail says how */
        DIAGNOSIS_STATE_DIRECTORY,      /* what is wanted could not be written down */
        DIAGNOSIS_REFUSED,              /* the verdict, reason says which row */
        DIAGNOSIS_OLD_BOOTLOADER,       /* CDC bootloader: recognised, left alone */
        DIAGNOSIS_NOT_HANDLED,          /* recognised board in a mode that is not handled */
        DIAGNOSIS_UNREADABLE,
        DIAGNOSIS_STAYS_IN_BOOTLOADER,  /* and not through us */
        DIAGNOSIS_INHIBITED,            /* somebody asked for hands off */
        DIAGNOSIS_HELD,                 /* in its bootloader, for somebody's tool */
        _DIAGNOSIS_CODE_MAX
};
DECLARE_ENUM_NAMES(diagnosis_code);

/* What stands in the way of telling a running camera to restart into its bootloader. */
enum call_trouble {
        CALL_FINE,                      /* nothing, as far as is known */
        CALL_BUSY,                      /* another program has its serial port */
        CALL_NO_PERMISSION,
        CALL_NO_PORT,                   /* it has none, or none was made for it */
        CALL_NO_ANSWER,
        CALL_OTHER_CAMERA,              /* it says that it is another one: nothing was sent */
        CALL_STAYED,                    /* told to restart, and did not */
        CALL_NOT_BACK,                  /* restarted, and its bootloader was not seen */
        _CALL_TROUBLE_MAX
};

struct diagnosis_facts {
        enum camera_state state;
        enum camera_mode mode;
        const char *port, *board_name;          /* board_name NULL: unknown */
        const char *name;                       /* how the person would name the camera on the command line */
        bool board_ambiguous;
        bool looked;                            /* a session has read its flash since the last runtime */
        enum verdict_reason reason;             /* its verdict */
        enum content content;
        bool update_open, update_not_seen, restored;
        bool still_pulled;                      /* restored, and in ROM DFU again */
        bool peeked;                            /* of its bootloader only the beginning was looked at: it is not proven a camera (row 3) */
        bool overdue;                           /* restored, and away for longer than a hand takes */
        unsigned ran_between;                   /* how often it ran since it was first seen in ROM DFU */
        bool automatic;
        enum call_trouble trouble;              /* of a camera that runs */
        bool hold;                              /* somebody's tool waits for its bootloader */
        bool blocked;                           /* when it was opened last, in this attachment; it may be that it is tried again just now */
        bool permission, no_node;               /* ... by missing permission, or a missing node, not by another program */
        enum failure failure;                   /* the last one, and its sentence; detail "": none */
        const char *detail;
        bool update_failed;                     /* given up */
        bool silenced;                          /* by being read, in this attachment */
        const char *inhibited_by, *inhibited_why;       /* NULL: nobody asked for hands off */
        unsigned unanswered;                    /* unreadable: how often in a row */
        const char *may_be;                     /* unreadable: a camera that is missing and was last there; "" or NULL: none */
};

struct diagnosis {
        enum diagnosis_code code;
        char text[256];
        char advice[320];
};

struct diagnosis diagnosis_of(const struct diagnosis_facts *facts);

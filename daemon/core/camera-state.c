/* SPDX-License-Identifier: MIT */
/*
 * The state table.  First the rules that hold in one state, then those that
 * hold in any; a pair that neither names is answered with "stay, do nothing".
 * docs/architecture.md prints the whole table and a test compares the two.
 */

#include <stddef.h>

#include "base/cleanup.h"
#include "core/camera-state.h"

static const char *const camera_state_names[_CAMERA_STATE_MAX] = {
        [CAMERA_ABSENT] = "absent",
        [CAMERA_SILENT] = "silent",
        [CAMERA_WAITING] = "waiting",
        [CAMERA_PASSING] = "passing",
        [CAMERA_BOOTING] = "booting",
        [CAMERA_STAYING] = "staying",
        [CAMERA_RUNNING] = "running",
        [CAMERA_CALLING] = "calling",
        [CAMERA_RESTARTING] = "restarting",
        [CAMERA_OPENING] = "opening",
        [CAMERA_BLOCKED] = "blocked",
        [CAMERA_EXAMINING] = "examining",
        [CAMERA_ASKING] = "asking",
        [CAMERA_UPDATING] = "updating",
        [CAMERA_RELEASING] = "releasing",
        [CAMERA_CONFIRMING] = "confirming",
        [CAMERA_NO_FIRMWARE] = "no-firmware",
        [CAMERA_JUMPER] = "jumper",
        [CAMERA_UNPROVEN] = "unproven",
        [CAMERA_LEFT_ALONE] = "left-alone",
        [CAMERA_UNREADABLE] = "unreadable",
        [CAMERA_FAILED] = "failed",
        [CAMERA_INHIBITED] = "inhibited",
        [CAMERA_HELD] = "held",
};
DEFINE_ENUM_NAMES(camera_state, _CAMERA_STATE_MAX);

static const char *const camera_event_names[_CAMERA_EVENT_MAX] = {
        [EVENT_SEEN_RUNTIME] = "seen-runtime",
        [EVENT_SEEN_BOOTLOADER] = "seen-bootloader",
        [EVENT_SEEN_WANTED] = "seen-wanted",
        [EVENT_SEEN_ROM] = "seen-rom",
        [EVENT_SEEN_ROM_UNPROVEN] = "seen-rom-unproven",
        [EVENT_SEEN_OTHER] = "seen-other",
        [EVENT_SEEN_UNREADABLE] = "seen-unreadable",
        [EVENT_GONE] = "gone",
        [EVENT_GONE_EXCUSED] = "gone-excused",
        [EVENT_DEADLINE] = "deadline",
        [EVENT_PINNED] = "pinned",
        [EVENT_BUSY] = "busy",
        [EVENT_OPEN_FAILED] = "open-failed",
        [EVENT_WRITE] = "write",
        [EVENT_RELEASE] = "release",
        [EVENT_HOLD] = "hold",
        [EVENT_NO_FIRMWARE] = "no-firmware",
        [EVENT_SOUND_BOOTLOADER] = "sound-bootloader",
        [EVENT_ROM_DONE] = "rom-done",
        [EVENT_UPDATED] = "updated",
        [EVENT_UPDATE_FAILED] = "update-failed",
        [EVENT_STOPPED] = "stopped",
        [EVENT_REQUESTED] = "requested",
        [EVENT_FIRMWARE_ADDED] = "firmware-added",
        [EVENT_FINISHED] = "finished",
        [EVENT_CALL] = "call",
        [EVENT_CALLED] = "called",
        [EVENT_CALL_FAILED] = "call-failed",
        [EVENT_INHIBITED] = "inhibited",
        [EVENT_STAYS] = "stays",
        [EVENT_KEPT] = "kept",
};
DEFINE_ENUM_NAMES(camera_event, _CAMERA_EVENT_MAX);

static const char *const camera_effect_names[_CAMERA_EFFECT_MAX] = {
        [EFFECT_NONE] = "-",
        [EFFECT_OPEN] = "open",
        [EFFECT_CLOSE] = "close",
        [EFFECT_AWAIT_RUNTIME] = "await-runtime",
        [EFFECT_AWAIT_LEAVING] = "await-leaving",
        [EFFECT_RETRY_LATER] = "retry-later",
        [EFFECT_SUSPECT] = "suspect",
        [EFFECT_NOT_SEEN] = "not-seen",
        [EFFECT_AWAIT_RETURN] = "await-return",
        [EFFECT_OVERDUE] = "overdue",
        [EFFECT_ARRIVED] = "arrived",
        [EFFECT_PASS] = "pass",
        [EFFECT_CALL] = "call",
        [EFFECT_AWAIT_BOOTLOADER] = "await-bootloader",
        [EFFECT_CALL_FAILED] = "call-failed",
};
DEFINE_ENUM_NAMES(camera_effect, _CAMERA_EFFECT_MAX);

/* In this state. */
static const struct {
        enum camera_state state;
        enum camera_event event;
        struct transition to;
} rules[] = {
        /* A bootloader that goes is followed by a runtime, or by silence. */
        { CAMERA_PASSING,    EVENT_GONE,             { CAMERA_BOOTING,    EFFECT_AWAIT_RUNTIME } },
        { CAMERA_PASSING,    EVENT_DEADLINE,         { CAMERA_STAYING,    EFFECT_NONE } },
        { CAMERA_RELEASING,  EVENT_GONE,             { CAMERA_BOOTING,    EFFECT_AWAIT_RUNTIME } },
        { CAMERA_RELEASING,  EVENT_GONE_EXCUSED,     { CAMERA_ABSENT,     EFFECT_CLOSE } },
        { CAMERA_CONFIRMING, EVENT_GONE,             { CAMERA_CONFIRMING, EFFECT_AWAIT_RUNTIME } },
        { CAMERA_CONFIRMING, EVENT_GONE_EXCUSED,     { CAMERA_CONFIRMING, EFFECT_AWAIT_RUNTIME } },
        { CAMERA_BOOTING,    EVENT_GONE,             { CAMERA_BOOTING,    EFFECT_NONE } },
        { CAMERA_BOOTING,    EVENT_GONE_EXCUSED,     { CAMERA_ABSENT,     EFFECT_NONE } },
        { CAMERA_BOOTING,    EVENT_DEADLINE,         { CAMERA_SILENT,     EFFECT_SUSPECT } },
        { CAMERA_CONFIRMING, EVENT_DEADLINE,         { CAMERA_SILENT,     EFFECT_NOT_SEEN } },
        { CAMERA_RELEASING,  EVENT_DEADLINE,         { CAMERA_FAILED,     EFFECT_CLOSE } },
        { CAMERA_SILENT,     EVENT_GONE,             { CAMERA_SILENT,     EFFECT_NONE } },
        { CAMERA_SILENT,     EVENT_GONE_EXCUSED,     { CAMERA_ABSENT,     EFFECT_NONE } },
        { CAMERA_WAITING,    EVENT_GONE,             { CAMERA_WAITING,    EFFECT_NONE } },
        { CAMERA_WAITING,    EVENT_GONE_EXCUSED,     { CAMERA_WAITING,    EFFECT_NONE } },
        { CAMERA_WAITING,    EVENT_DEADLINE,         { CAMERA_WAITING,    EFFECT_OVERDUE } },

        /* What was under way and is cut off is awaited. */
        { CAMERA_OPENING,     EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_OPENING,     EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_BLOCKED,     EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_BLOCKED,     EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_EXAMINING,   EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_EXAMINING,   EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_UPDATING,    EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_UPDATING,    EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_NO_FIRMWARE, EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_NO_FIRMWARE, EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_JUMPER,      EVENT_GONE,            { CAMERA_WAITING,    EFFECT_AWAIT_RETURN } },
        { CAMERA_JUMPER,      EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_AWAIT_RETURN } },
        { CAMERA_ASKING,      EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_ASKING,      EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_FAILED,      EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_FAILED,      EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_INHIBITED,   EVENT_GONE,            { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_INHIBITED,   EVENT_GONE_EXCUSED,    { CAMERA_WAITING,    EFFECT_CLOSE } },

        /* A running camera is asked to restart into its bootloader. */
        { CAMERA_RUNNING,    EVENT_CALL,             { CAMERA_CALLING,    EFFECT_CALL } },
        { CAMERA_CALLING,    EVENT_CALLED,           { CAMERA_RESTARTING, EFFECT_AWAIT_BOOTLOADER } },
        { CAMERA_CALLING,    EVENT_CALL_FAILED,      { CAMERA_RUNNING,    EFFECT_CALL_FAILED } },
        { CAMERA_CALLING,    EVENT_FINISHED,         { CAMERA_RUNNING,    EFFECT_NONE } },
        { CAMERA_CALLING,    EVENT_GONE,             { CAMERA_WAITING,    EFFECT_CALL_FAILED } },
        { CAMERA_CALLING,    EVENT_GONE_EXCUSED,     { CAMERA_WAITING,    EFFECT_CALL_FAILED } },
        { CAMERA_RESTARTING, EVENT_GONE,             { CAMERA_RESTARTING, EFFECT_AWAIT_BOOTLOADER } },
        { CAMERA_RESTARTING, EVENT_GONE_EXCUSED,     { CAMERA_WAITING,    EFFECT_CALL_FAILED } },
        { CAMERA_RESTARTING, EVENT_CALL_FAILED,      { CAMERA_RUNNING,    EFFECT_CALL_FAILED } },
        { CAMERA_RESTARTING, EVENT_DEADLINE,         { CAMERA_WAITING,    EFFECT_CALL_FAILED } },

        /* A session. */
        { CAMERA_OPENING,   EVENT_PINNED,            { CAMERA_EXAMINING,  EFFECT_NONE } },
        { CAMERA_OPENING,   EVENT_BUSY,              { CAMERA_BLOCKED,    EFFECT_RETRY_LATER } },
        { CAMERA_OPENING,   EVENT_OPEN_FAILED,       { CAMERA_FAILED,     EFFECT_RETRY_LATER } },
        { CAMERA_OPENING,   EVENT_STOPPED,           { CAMERA_ASKING,     EFFECT_CLOSE } },
        { CAMERA_BLOCKED,   EVENT_DEADLINE,          { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_EXAMINING, EVENT_WRITE,             { CAMERA_UPDATING,   EFFECT_NONE } },
        { CAMERA_EXAMINING, EVENT_RELEASE,           { CAMERA_RELEASING,  EFFECT_AWAIT_LEAVING } },
        { CAMERA_EXAMINING, EVENT_HOLD,              { CAMERA_ASKING,     EFFECT_CLOSE } },
        { CAMERA_EXAMINING, EVENT_NO_FIRMWARE,       { CAMERA_NO_FIRMWARE, EFFECT_CLOSE } },
        { CAMERA_EXAMINING, EVENT_SOUND_BOOTLOADER,  { CAMERA_JUMPER,     EFFECT_CLOSE } },
        { CAMERA_EXAMINING, EVENT_UPDATED,           { CAMERA_CONFIRMING, EFFECT_AWAIT_LEAVING } },
        { CAMERA_EXAMINING, EVENT_UPDATE_FAILED,     { CAMERA_FAILED,     EFFECT_RETRY_LATER } },
        { CAMERA_EXAMINING, EVENT_STOPPED,           { CAMERA_ASKING,     EFFECT_CLOSE } },
        { CAMERA_UPDATING,  EVENT_ROM_DONE,          { CAMERA_JUMPER,     EFFECT_CLOSE } },
        { CAMERA_UPDATING,  EVENT_UPDATED,           { CAMERA_CONFIRMING, EFFECT_AWAIT_LEAVING } },
        { CAMERA_UPDATING,  EVENT_UPDATE_FAILED,     { CAMERA_FAILED,     EFFECT_RETRY_LATER } },
        { CAMERA_UPDATING,  EVENT_HOLD,              { CAMERA_ASKING,     EFFECT_CLOSE } },
        { CAMERA_UPDATING,  EVENT_STOPPED,           { CAMERA_ASKING,     EFFECT_CLOSE } },
        { CAMERA_FAILED,    EVENT_DEADLINE,          { CAMERA_OPENING,    EFFECT_OPEN } },

        /* Hands off. */
        { CAMERA_OPENING,   EVENT_INHIBITED,         { CAMERA_INHIBITED,  EFFECT_CLOSE } },
        { CAMERA_BLOCKED,   EVENT_INHIBITED,         { CAMERA_INHIBITED,  EFFECT_CLOSE } },
        { CAMERA_EXAMINING, EVENT_INHIBITED,         { CAMERA_INHIBITED,  EFFECT_CLOSE } },
        { CAMERA_UPDATING,  EVENT_INHIBITED,         { CAMERA_INHIBITED,  EFFECT_CLOSE } },
        { CAMERA_CALLING,   EVENT_INHIBITED,         { CAMERA_RUNNING,    EFFECT_NONE } },

        /* Held for somebody's tool, and then just there. */
        { CAMERA_OPENING,   EVENT_KEPT,              { CAMERA_HELD,       EFFECT_CLOSE } },
        { CAMERA_EXAMINING, EVENT_KEPT,              { CAMERA_HELD,       EFFECT_CLOSE } },
        { CAMERA_UPDATING,  EVENT_STAYS,             { CAMERA_EXAMINING,  EFFECT_NONE } },
        { CAMERA_HELD,      EVENT_FINISHED,          { CAMERA_STAYING,    EFFECT_NONE } },
        { CAMERA_HELD,      EVENT_REQUESTED,         { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_HELD,      EVENT_GONE,              { CAMERA_WAITING,    EFFECT_CLOSE } },
        { CAMERA_HELD,      EVENT_GONE_EXCUSED,      { CAMERA_WAITING,    EFFECT_CLOSE } },

        /* A person, or the store, changes what can be done. */
        { CAMERA_PASSING,     EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_STAYING,     EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_OPENING,     EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_EXAMINING,   EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_ASKING,      EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_NO_FIRMWARE, EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_JUMPER,      EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_UNPROVEN,    EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_FAILED,      EVENT_REQUESTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { CAMERA_ABSENT,      EVENT_REQUESTED,       { CAMERA_WAITING,    EFFECT_NONE } },
        { CAMERA_SILENT,      EVENT_REQUESTED,       { CAMERA_WAITING,    EFFECT_NONE } },
        { CAMERA_WAITING,     EVENT_FINISHED,        { CAMERA_ABSENT,     EFFECT_NONE } },
        { CAMERA_NO_FIRMWARE, EVENT_FIRMWARE_ADDED,  { CAMERA_OPENING,    EFFECT_OPEN } },
};

/* In any state that has no rule of its own for it. */
static const struct {
        enum camera_event event;
        struct transition to;
} defaults[] = {
        { EVENT_SEEN_RUNTIME,      { CAMERA_RUNNING,    EFFECT_ARRIVED } },
        { EVENT_SEEN_BOOTLOADER,   { CAMERA_PASSING,    EFFECT_PASS } },
        { EVENT_SEEN_WANTED,       { CAMERA_OPENING,    EFFECT_OPEN } },
        { EVENT_SEEN_ROM,          { CAMERA_OPENING,    EFFECT_OPEN } },
        { EVENT_SEEN_ROM_UNPROVEN, { CAMERA_UNPROVEN,   EFFECT_CLOSE } },
        { EVENT_SEEN_OTHER,        { CAMERA_LEFT_ALONE, EFFECT_CLOSE } },
        { EVENT_SEEN_UNREADABLE,   { CAMERA_UNREADABLE, EFFECT_CLOSE } },
        { EVENT_GONE,              { CAMERA_ABSENT,     EFFECT_CLOSE } },
        { EVENT_GONE_EXCUSED,      { CAMERA_ABSENT,     EFFECT_CLOSE } },
};

struct transition camera_state_next(enum camera_state state, enum camera_event event)
{
        for (size_t i = 0; i < ELEMENTSOF(rules); i++)
                if (rules[i].state == state && rules[i].event == event)
                        return rules[i].to;
        for (size_t i = 0; i < ELEMENTSOF(defaults); i++)
                if (defaults[i].event == event)
                        return defaults[i].to;
        return (struct transition){ state, EFFECT_NONE };
}

bool camera_state_has_session(enum camera_state state)
{
        switch (state) {
        case CAMERA_OPENING:
        case CAMERA_EXAMINING:
        case CAMERA_UPDATING:
        case CAMERA_RELEASING:
        case CAMERA_CONFIRMING:
                return true;
        case CAMERA_ABSENT:
        case CAMERA_SILENT:
        case CAMERA_WAITING:
        case CAMERA_PASSING:
        case CAMERA_BOOTING:
        case CAMERA_STAYING:
        case CAMERA_RUNNING:
        case CAMERA_CALLING:
        case CAMERA_RESTARTING:
        case CAMERA_BLOCKED:
        case CAMERA_ASKING:
        case CAMERA_NO_FIRMWARE:
        case CAMERA_JUMPER:
        case CAMERA_UNPROVEN:
        case CAMERA_LEFT_ALONE:
        case CAMERA_UNREADABLE:
        case CAMERA_FAILED:
        case CAMERA_INHIBITED:
        case CAMERA_HELD:
        case _CAMERA_STATE_MAX:
                return false;
        }
        return false;
}

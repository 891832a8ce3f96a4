/* SPDX-License-Identifier: MIT */
/* Diagnosis: see diagnosis.h. */

#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "core/diagnosis.h"

static const char *const diagnosis_code_names[_DIAGNOSIS_CODE_MAX] = {
        [DIAGNOSIS_NONE] = "",
        [DIAGNOSIS_SILENT_BOOT] = "silent-boot",
        [DIAGNOSIS_INTACT_SILENT] = "intact-but-silent",
        [DIAGNOSIS_UNKNOWN_FIRMWARE] = "unknown-firmware",
        [DIAGNOSIS_WAITING_FOR_REPLUG] = "waiting-for-replug",
        [DIAGNOSIS_AWAITED] = "awaited",
        [DIAGNOSIS_NO_FIRMWARE] = "no-firmware",
        [DIAGNOSIS_JUMPER] = "jumper",
        [DIAGNOSIS_RESTORED_JUMPER] = "restored-remove-jumper",
        [DIAGNOSIS_RESTORED_NOT_BACK] = "restored-not-back",
        [DIAGNOSIS_UNPROVEN] = "unproven",
        [DIAGNOSIS_ASK_BOARD] = "board-unknown",
        [DIAGNOSIS_UNKNOWN_BOOTLOADER] = "unknown-bootloader",
        [DIAGNOSIS_AUTOMATIC_OFF] = "automatic-off",
        [DIAGNOSIS_BUSY] = "busy",
        [DIAGNOSIS_NO_PERMISSION] = "no-permission",
        [DIAGNOSIS_NO_NODE] = "no-node",
        [DIAGNOSIS_NOT_SEEN] = "verified-not-seen",
        [DIAGNOSIS_IGNORES_DETACH] = "ignores-detach",
        [DIAGNOSIS_FAILED] = "failed",
        [DIAGNOSIS_STATE_DIRECTORY] = "state-directory",
        [DIAGNOSIS_REFUSED] = "refused",
        [DIAGNOSIS_OLD_BOOTLOADER] = "old-bootloader",
        [DIAGNOSIS_NOT_HANDLED] = "not-handled",
        [DIAGNOSIS_UNREADABLE] = "unreadable",
        [DIAGNOSIS_STAYS_IN_BOOTLOADER] = "stays-in-bootloader",
        [DIAGNOSIS_INHIBITED] = "inhibited",
        [DIAGNOSIS_HELD] = "held",
};
DEFINE_ENUM_NAMES(diagnosis_code, _DIAGNOSIS_CODE_MAX);

_printf_(3, 4)
static struct diagnosis say(enum diagnosis_code code, const char *text, const char *advice, ...)
{
        struct diagnosis d = { .code = code };
        va_list ap;

        snprintf(d.text, sizeof(d.text), "%s", text);
        va_start(ap, advice);
        vsnprintf(d.advice, sizeof(d.advice), advice, ap);
        va_end(ap);
        return d;
}

static struct diagnosis none(void)
{
        return (struct diagnosis){ .code = DIAGNOSIS_NONE };
}

/* In ROM DFU with a good bootloader. */
static struct diagnosis jumper(const struct diagnosis_facts *f)
{
        char text[128];

        if (f->peeked)
                return say(DIAGNOSIS_JUMPER, "its flash begins like a known bootloader, of which no more was looked at, and its BOOT pin is pulled",
                           "Remove the jumper (or look for a short), then unplug it and plug it in again. If it shows nothing then, its "
                           "bootloader is damaged further on: with the jumper, camrescue recover %s --board BOARD (M4, M7, H7, ...).", f->name);
        if (f->ran_between == 0)
                return say(DIAGNOSIS_JUMPER,
                           f->still_pulled ? "its bootloader was restored and is good, but it came back in ROM DFU mode: its BOOT pin is "
                                             "still pulled"
                                           : "the bootloader on the camera is good, but its BOOT pin is still pulled",
                           "Remove the jumper (or look for a short), then unplug it and plug it in again.");
        snprintf(text, sizeof(text), "the bootloader on the camera is good, but its BOOT pin is pulled again; it ran %s in between",
                 f->ran_between == 1 ? "once" : f->ran_between == 2 ? "twice" : "several times");
        return say(DIAGNOSIS_JUMPER, text,
                   "Remove the jumper; if there is none, look for a short at the BOOT pin that comes and goes. Then unplug it and plug "
                   "it in again.");
}

/* Looked at, and not written: what the verdict found. */
static struct diagnosis from_verdict(const struct diagnosis_facts *f)
{
        switch (f->reason) {
        case REASON_INTACT:
        case REASON_NOTHING_TO_DO:
                return say(DIAGNOSIS_INTACT_SILENT,
                           "its firmware is whole and known, and yet it does not come up",
                           "The firmware is intact: look for a script that turns USB off or sleeps, for weak power, or try "
                           "another cable and port.");
        case REASON_UNKNOWN_FIRMWARE:
                return say(DIAGNOSIS_UNKNOWN_FIRMWARE,
                           "it did not come up, and its firmware is none that is known here",
                           "If it is your own firmware, leave it. To replace it (it is saved first): "
                           "camrescue recover %s --replace-unknown", f->name);
        case REASON_AUTOMATIC_OFF:
                return say(DIAGNOSIS_AUTOMATIC_OFF,
                           "its firmware is incomplete, and automatic recovery is off",
                           "To recover it now: camrescue recover %s", f->name);
        case REASON_SOUND_BOOTLOADER:
                return jumper(f);
        case REASON_UNKNOWN_BOOTLOADER:
                return say(DIAGNOSIS_UNKNOWN_BOOTLOADER,
                           "the bootloader on it is none that is known here",
                           "To replace it (it is saved first): camrescue recover %s. If it works, just remove the jumper.",
                           f->name);
        case REASON_MIXED_SET:
                return say(DIAGNOSIS_REFUSED,
                           "a part of its firmware is damaged, and the others belong to another version",
                           "To write the whole set: camrescue recover %s", f->name);
        case REASON_BOARD_UNKNOWN:
        case REASON_NOT_PROVEN:
        case REASON_STALE_WORD:
                return say(DIAGNOSIS_ASK_BOARD,
                           "it may be a camera, but which one is not proven",
                           "If you know the board, say so: camrescue recover %s --board BOARD (M4, M7, H7, ...).", f->name);
        case REASON_WRITE:
        case REASON_CONTRADICTED:
        case REASON_NOT_READ:
        case REASON_UNREADABLE:
        case REASON_INHIBITED:
        case REASON_USERS_WORK:
        case REASON_FORBIDDEN_PARTITION:
        case REASON_OLDER:
        case REASON_NOT_SAVED:
        case REASON_IMAGE_REFUSED:
        case REASON_WORN:
        case _VERDICT_REASON_MAX:
                break;
        }
        /* The reason says what to do; asking again would be refused again. */
        return say(DIAGNOSIS_REFUSED, verdict_reason_text(f->reason), "Nothing was written.");
}

static struct diagnosis when_silent(const struct diagnosis_facts *f)
{
        if (f->update_not_seen)
                return say(DIAGNOSIS_NOT_SEEN,
                           "its firmware was written and verified, but the camera was not seen running since",
                           "Unplug it and plug it in again. If it stays silent, look for a script that turns USB off, or try "
                           "another cable.");
        if (f->looked)
                return from_verdict(f);
        return say(DIAGNOSIS_SILENT_BOOT, "its bootloader showed itself and left, and no running camera followed",
                   "Unplug it and plug it in again: camrescue will catch its bootloader and look.");
}

/* Any device may fail so: whether it is a camera nobody knows. */
static struct diagnosis unreadable(const struct diagnosis_facts *f)
{
        bool hinted = f->may_be && f->may_be[0];
        char text[256], times[32] = "";

        if (f->unanswered > 1)
                snprintf(times, sizeof(times), " (%u times in a row)", f->unanswered);
        snprintf(text, sizeof(text), "a device at %s does not answer%s; no software can reach it%s%s%s", f->port, times,
                 hinted ? ". This may be " : "", hinted ? f->may_be : "", hinted ? ", which was last seen here" : "");
        return say(DIAGNOSIS_UNREADABLE, text,
                   "Try another cable and port. If it is the same in ROM DFU mode, the camera's USB lines are damaged. "
                   "Is it unplugged? camrescue forget %s", f->port);
}

/* What follows "an update waits for it". */
static const char *why_a_hand_is_needed(enum call_trouble trouble)
{
        switch (trouble) {
        case CALL_FINE:
        case CALL_BUSY:
        case CALL_NO_PERMISSION:
        case _CALL_TROUBLE_MAX:
                break;
        case CALL_NO_PORT:
                return ", and its firmware has no serial port over which to ask for its bootloader";
        case CALL_NO_ANSWER:
                return ", and its firmware does not answer when asked for its bootloader";
        case CALL_OTHER_CAMERA:
                return ", but the firmware there says that it runs on another camera: it was not asked for anything";
        case CALL_STAYED:
                return ", and its firmware was told to restart into its bootloader and did not";
        case CALL_NOT_BACK:
                return "; it was restarted, and its bootloader was not seen";
        }
        return "";
}

_printf_(4, 5)
static struct diagnosis waits(const struct diagnosis_facts *f, enum diagnosis_code code, const char *why, const char *advice, ...)
{
        struct diagnosis d = { .code = code };
        va_list ap;

        snprintf(d.text, sizeof(d.text), "%s waits for it%s", f->update_open ? "an update" : "another program", why);
        va_start(ap, advice);
        vsnprintf(d.advice, sizeof(d.advice), advice, ap);
        va_end(ap);
        return d;
}

/* What goes on by itself, or at the next plug-in, does so when they let go. */
static bool is_held_back(const struct diagnosis_facts *f)
{
        return f->inhibited_by && (f->state == CAMERA_INHIBITED || f->state == CAMERA_WAITING || f->state == CAMERA_BLOCKED ||
                                   (f->state == CAMERA_RUNNING && (f->update_open || f->hold)));
}

static struct diagnosis held_back(const struct diagnosis_facts *f)
{
        struct diagnosis d = { .code = DIAGNOSIS_INHIBITED };

        snprintf(d.text, sizeof(d.text), "held back by %s: %s", f->inhibited_by, f->inhibited_why);
        snprintf(d.advice, sizeof(d.advice), "It goes on when %s lets go%s.", f->inhibited_by,
                 f->state == CAMERA_WAITING ? " and it is plugged in again" : "");
        return d;
}

static struct diagnosis when_blocked(const struct diagnosis_facts *f)
{
        if (f->permission)
                return say(DIAGNOSIS_NO_PERMISSION, "its device node is not accessible to camrescued (yet)",
                           "If this stays, the udev rules of camrescue are not installed.");
        if (f->no_node)
                return say(DIAGNOSIS_NO_NODE, "its device node is not there (yet)",
                           "If this stays, camrescued is shown another /dev/bus/usb than the host's: a container has to be given that.");
        return say(DIAGNOSIS_BUSY, "another program holds it", "camrescue waits until that program lets go.");
}

struct diagnosis diagnosis_of(const struct diagnosis_facts *f)
{
        if (is_held_back(f))
                return held_back(f);
        switch (f->state) {
        case CAMERA_ABSENT:
        case CAMERA_PASSING:
        case CAMERA_BOOTING:
        case CAMERA_EXAMINING:
        case CAMERA_UPDATING:
        case CAMERA_RELEASING:
        case CAMERA_CONFIRMING:
        case CAMERA_RESTARTING:
        case CAMERA_INHIBITED:          /* until it is opened again, in this same moment */
                return none();
        case CAMERA_OPENING:            /* once more: nothing has changed until that went well */
                return f->blocked ? when_blocked(f) : none();
        case CAMERA_STAYING:
                return say(DIAGNOSIS_STAYS_IN_BOOTLOADER,
                           "it stays in its bootloader: a program holds it there, or it was told to restart into it and nothing followed",
                           "Unplug it and plug it in again; or: camrescue release %s, camrescue update %s", f->name, f->name);
        case CAMERA_HELD:
                return say(DIAGNOSIS_HELD, "held in its bootloader for another program", "camrescue release %s lets it go.", f->name);
        case CAMERA_SILENT:
                return when_silent(f);
        case CAMERA_WAITING:
                if (f->restored && f->overdue)
                        return say(DIAGNOSIS_RESTORED_NOT_BACK,
                                   "its bootloader was restored and verified, and nothing was seen of it since it was unplugged",
                                   "Plug it in without the jumper. If it is plugged in, it does not start: try another cable and port. "
                                   "(With the jumper still on, it would show itself in ROM DFU mode.)");
                if (f->restored)
                        return say(DIAGNOSIS_RESTORED_JUMPER, "its bootloader was restored and verified; its firmware follows",
                                   "Plug it in without the jumper.");
                if (f->trouble == CALL_NOT_BACK)
                        return say(DIAGNOSIS_AWAITED, "it was told to restart into its bootloader, and has not been seen since",
                                   "Unplug it and plug it in again: it goes on by itself.");
                if (f->hold && !f->update_open)
                        return say(DIAGNOSIS_AWAITED, "its bootloader is wanted for another program, and it is not there",
                                   "Plug it in: it is held in its bootloader then. To take that back: camrescue release %s", f->name);
                return say(DIAGNOSIS_AWAITED, "something is unfinished, and it went away",
                           "Plug it in again: it goes on by itself.");
        case CAMERA_RUNNING:
                if (f->update_open)
                        return waits(f, DIAGNOSIS_WAITING_FOR_REPLUG, why_a_hand_is_needed(f->trouble),
                                     "Unplug it and plug it in again: the update begins in its bootloader.");
                if (f->hold)
                        return waits(f, DIAGNOSIS_WAITING_FOR_REPLUG, why_a_hand_is_needed(f->trouble),
                                     "Unplug it and plug it in again: it is held in its bootloader then. To take that back: "
                                     "camrescue release %s", f->name);
                return none();
        case CAMERA_CALLING:
                if (f->trouble == CALL_BUSY)
                        return waits(f, DIAGNOSIS_BUSY, ", and another program has its serial port open",
                                     "Close that program, and camrescue goes on; or unplug it and plug it in again.");
                if (f->trouble == CALL_NO_PERMISSION)
                        return waits(f, DIAGNOSIS_NO_PERMISSION, ", and its serial port is not accessible to camrescued (yet)",
                                     "Unplug it and plug it in again: %s in its bootloader. If this stays, the udev rules "
                                     "of camrescue are not installed, or the program setfacl is not.",
                                     f->update_open ? "the update begins" : "it is held then");
                return none();
        case CAMERA_BLOCKED:
                return when_blocked(f);
        case CAMERA_ASKING:
                if (f->looked)
                        return from_verdict(f);
                return say(DIAGNOSIS_REFUSED, "it was stopped in the middle", "To go on: camrescue recover %s", f->name);
        case CAMERA_NO_FIRMWARE:
                return say(DIAGNOSIS_NO_FIRMWARE, "its firmware is incomplete, and nothing in the firmware store fits it",
                           "Import some: camrescue firmware import FILE|DIR|ZIP. It goes on by itself then.");
        case CAMERA_JUMPER:
                if (f->restored && !f->still_pulled)
                        return say(DIAGNOSIS_RESTORED_JUMPER, "its bootloader was restored and verified",
                                   "Remove the jumper, then unplug it and plug it in again: its firmware follows.");
                return jumper(f);
        case CAMERA_UNPROVEN:
                if (f->restored)
                        return say(DIAGNOSIS_UNPROVEN,
                                   "an STM32 chip in ROM DFU mode, on the port where a bootloader was restored: if it is that camera, its "
                                   "BOOT pin is still pulled",
                                   "Remove the jumper (or look for a short), then unplug it and plug it in again. It is not touched.");
                return say(DIAGNOSIS_UNPROVEN, "an STM32 chip in ROM DFU mode: any board may look like this, so it is not touched",
                           "If it is your camera: camrescue recover %s --board BOARD (M4, M7, H7, ...).", f->name);
        case CAMERA_LEFT_ALONE:
                if (f->mode == CAMERA_MODE_VCP_BOOTLOADER)
                        return say(DIAGNOSIS_OLD_BOOTLOADER, "it is in the old serial bootloader, which is not handled yet",
                                   "Use OpenMV IDE for this camera.");
                return say(DIAGNOSIS_NOT_HANDLED, "recognised, but not handled in this mode", "Use its own tools.");
        case CAMERA_UNREADABLE:
                return unreadable(f);
        case CAMERA_FAILED:
                if (f->detail[0] && f->failure == FAILURE_STATE_DIRECTORY)
                        return say(DIAGNOSIS_STATE_DIRECTORY, f->detail,
                                   "Make room there, or make it writable: it goes on by itself within a minute.");
                if (f->detail[0] && f->update_failed)
                        return say(DIAGNOSIS_FAILED, f->detail, "Its update was given up: see camrescue history %s. With another cable, hub "
                                   "or port it may go well: camrescue retry %s", f->name, f->name);
                if (f->detail[0] && f->silenced)
                        return say(DIAGNOSIS_FAILED, f->detail, "Unplug it and plug it in again at once, within ten seconds: what was half-written, "
                                   "and cannot be read, is then written anew.");
                if (f->detail[0])
                        return say(DIAGNOSIS_FAILED, f->detail, "Unplug it and plug it in again, with another cable if it repeats; "
                                   "or: camrescue recover %s", f->name);
                return say(DIAGNOSIS_IGNORES_DETACH, "it does not leave its bootloader when told to",
                           "Unplug it and plug it in again.");
        case _CAMERA_STATE_MAX:
                break;
        }
        return none();
}

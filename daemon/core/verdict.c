/* SPDX-License-Identifier: MIT */

/*
 * The verdict.  One table of rows; each row looks at the whole evidence and
 * says write, ask or leave from its own point of view; the most careful answer
 * wins, among equals the first in the table.  So a row can only ever take away:
 * WRITE stands when no row objects.  Nothing here knows a device, a clock or a
 * journal.
 */

#include <string.h>

#include "base/cleanup.h"
#include "core/verdict.h"

static const char *const verdict_kind_names[_VERDICT_KIND_MAX] = {
        [VERDICT_WRITE] = "write",
        [VERDICT_ASK] = "ask",
        [VERDICT_LEAVE] = "leave",
};
DEFINE_ENUM_NAMES(verdict_kind, _VERDICT_KIND_MAX);

static const char *const wish_names[_WISH_MAX] = {
        [WISH_UNATTENDED] = "unattended",
        [WISH_RESUME] = "resume",
        [WISH_UPDATE] = "update",
        [WISH_RECOVER] = "recover",
        [WISH_RESTORE] = "restore",
};
DEFINE_ENUM_NAMES(wish, _WISH_MAX);

static const char *const proof_names[_PROOF_MAX] = {
        [PROOF_NONE] = "none",
        [PROOF_SERIAL] = "serial",
        [PROOF_FLASH] = "flash",
        [PROOF_BOARD_DIGEST] = "board-digest",
        [PROOF_USER] = "user",
};
DEFINE_ENUM_NAMES(proof, _PROOF_MAX);

static const char *const content_names[_CONTENT_MAX] = {
        [CONTENT_UNREAD] = "unread",
        [CONTENT_UNREADABLE] = "unreadable",
        [CONTENT_BLANK] = "blank",
        [CONTENT_IMPOSSIBLE] = "impossible",
        [CONTENT_INTERRUPTED] = "interrupted",
        [CONTENT_KNOWN] = "known",
        [CONTENT_WANTED] = "wanted",
        [CONTENT_UNKNOWN] = "unknown",
};
DEFINE_ENUM_NAMES(content, _CONTENT_MAX);

static const char *const verdict_reason_names[_VERDICT_REASON_MAX] = {
        [REASON_WRITE] = "write",
        [REASON_NOTHING_TO_DO] = "nothing-to-do",
        [REASON_NOT_PROVEN] = "not-proven",
        [REASON_CONTRADICTED] = "contradicted",
        [REASON_BOARD_UNKNOWN] = "board-unknown",
        [REASON_STALE_WORD] = "stale-word",
        [REASON_NOT_READ] = "not-read",
        [REASON_UNREADABLE] = "unreadable",
        [REASON_AUTOMATIC_OFF] = "automatic-off",
        [REASON_INHIBITED] = "inhibited",
        [REASON_UNKNOWN_FIRMWARE] = "unknown-firmware",
        [REASON_INTACT] = "intact",
        [REASON_SOUND_BOOTLOADER] = "sound-bootloader",
        [REASON_UNKNOWN_BOOTLOADER] = "unknown-bootloader",
        [REASON_USERS_WORK] = "users-work",
        [REASON_FORBIDDEN_PARTITION] = "forbidden-partition",
        [REASON_OLDER] = "older",
        [REASON_NOT_SAVED] = "not-saved",
        [REASON_IMAGE_REFUSED] = "image-refused",
        [REASON_WORN] = "worn",
        [REASON_MIXED_SET] = "mixed-set",
};
DEFINE_ENUM_NAMES(verdict_reason, _VERDICT_REASON_MAX);

static const char *const reason_texts[_VERDICT_REASON_MAX] = {
        [REASON_WRITE] = "The evidence allows it: what differs is written and read back.",
        [REASON_NOTHING_TO_DO] = "Everything that is wanted stands on the camera already; nothing is written.",
        [REASON_NOT_PROVEN] = "Nothing proves which device this is: every STM32 in ROM DFU looks the same, and the port is no proof. "
                              "If it is your camera, run \"camrescue recover\" for it now.",
        [REASON_CONTRADICTED] = "Something on this device speaks for another board or another camera; it is left alone. "
                                "Check which device is on this port.",
        [REASON_BOARD_UNKNOWN] = "Which board this is cannot be told from what it shows. Name it: \"camrescue recover --board\".",
        [REASON_STALE_WORD] = "The word that this is your camera was given before it was unplugged, and its serial is one that many chips share. "
                              "If it is the same camera, say so again: \"camrescue recover\".",
        [REASON_NOT_READ] = "Its flash has not been read, or was read with answers that do not agree; nothing is written unseen. "
                            "Unplug the camera and plug it in again.",
        [REASON_UNREADABLE] = "Its flash cannot be read: read protection, a damaged chip, or a bad cable. Try another cable and port.",
        [REASON_AUTOMATIC_OFF] = "Automatic recovery is switched off for this camera. Run \"camrescue recover\" to bring it back.",
        [REASON_INHIBITED] = "Another program asked us to keep our hands off. It goes on when that program ends or lets go.",
        [REASON_UNKNOWN_FIRMWARE] = "The firmware on the camera is none that is known, perhaps somebody's own. To replace it (it is saved first), "
                                    "run \"camrescue recover --replace-unknown\".",
        [REASON_INTACT] = "The firmware is intact and does not come up: look at the script on the camera (USB switched off, deep sleep), "
                          "its power, or the cable.",
        [REASON_SOUND_BOOTLOADER] = "The bootloader on the camera is good; its BOOT pin is still pulled. Remove the jumper, unplug the camera "
                                    "and plug it in again; if it comes back like this without a jumper, look for a short.",
        [REASON_UNKNOWN_BOOTLOADER] = "The bootloader on the camera is none that is known. If it should be replaced (it is saved first), "
                                      "run \"camrescue recover\".",
        [REASON_USERS_WORK] = "This partition holds the user's work. It is written only when asked for: \"--romfs\" or \"--erase-filesystem\".",
        [REASON_FORBIDDEN_PARTITION] = "This partition cannot be written here: it is read-only, absent on this camera, or never to be written.",
        [REASON_OLDER] = "The firmware at hand is older than what the camera last ran. Add a newer one to the store, or ask for this version.",
        [REASON_NOT_SAVED] = "An unknown image stands on the camera and could not be saved; it is not overwritten. Make room for saved images "
                             "(saved-quota in the configuration, space on the disk).",
        [REASON_IMAGE_REFUSED] = "The image does not belong on this board, or does not fit. Choose the right file.",
        [REASON_WORN] = "A part of the flash was erased 20 times for this update and still does not hold it; the flash is worn or damaged.",
        [REASON_MIXED_SET] = "Parts of the firmware are damaged and others belong to another version; to write the whole set, "
                             "run \"camrescue recover\".",
};

const char *verdict_reason_text(enum verdict_reason reason)
{
        if ((int)reason < 0 || (int)reason >= _VERDICT_REASON_MAX)
                return NULL;
        return reason_texts[reason];
}

/* --- words for the evidence --- */

struct answer {
        enum verdict_kind kind;
        enum verdict_reason reason;
        size_t target;
};

static struct answer go(void)
{
        return (struct answer){ .kind = VERDICT_WRITE, .reason = REASON_WRITE };
}

static struct answer ask_about(enum verdict_reason reason, size_t target)
{
        return (struct answer){ .kind = VERDICT_ASK, .reason = reason, .target = target };
}

static struct answer leave(enum verdict_reason reason, size_t target)
{
        return (struct answer){ .kind = VERDICT_LEAVE, .reason = reason, .target = target };
}

/* Targets beyond the array are the business of row 9. */
static size_t n_targets(const struct verdict_evidence *evidence)
{
        return MIN(evidence->n_targets, (size_t)VERDICT_TARGETS_MAX);
}

static bool has_differences(const struct verdict_target *target)
{
        for (size_t u = 0; u < target->n_units; u++)
                if (target->units[u].differs)
                        return true;
        return false;
}

/* This update has erased something here before: what is unknown now may be our own broken write (power lost within a unit). */
static bool was_begun(const struct verdict_target *target)
{
        for (size_t u = 0; u < target->n_units; u++)
                if (target->units[u].erases > 0)
                        return true;
        return false;
}

static bool is_whole(enum content content)
{
        return content == CONTENT_KNOWN || content == CONTENT_WANTED;
}

static bool is_unattended(const struct verdict_evidence *evidence)
{
        return evidence->wish == WISH_UNATTENDED;
}

/* Nobody asked, neither now nor when the update was begun: what has become whole or newer since is not overwritten. */
static bool nobody_asked(const struct verdict_evidence *evidence)
{
        return is_unattended(evidence) || (evidence->wish == WISH_RESUME && evidence->begun_unattended);
}

/* Row 5: a bootloader is restored, and the firmware behind it is not known to fit. */
static bool concerns_head(const struct verdict_evidence *evidence, size_t *ret_target)
{
        if (evidence->mode != CAMERA_MODE_ROM_DFU)
                return false;
        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (target->role == PARTITION_BOOTLOADER && !target->fits_bootloader && has_differences(target)) {
                        *ret_target = t;
                        return true;
                }
        }
        return false;
}

static bool must_erase_head(const struct verdict_evidence *evidence, size_t *ret_target)
{
        return concerns_head(evidence, ret_target) && evidence->firmware_head.content != CONTENT_BLANK;
}

/* --- the rows --- */

static struct answer row_contradicted(const struct verdict_evidence *evidence)
{
        return evidence->board_contradicted ? leave(REASON_CONTRADICTED, 0) : go();
}

static struct answer row_board_unknown(const struct verdict_evidence *evidence)
{
        return evidence->board_known ? go() : ask_about(REASON_BOARD_UNKNOWN, 0);
}

static bool is_proven(const struct verdict_evidence *evidence)
{
        switch (evidence->proof) {
        case PROOF_NONE:
                return false;
        case PROOF_SERIAL:
                /* A constant is derived from nothing. */
                return !evidence->serial_shared;
        case PROOF_FLASH:
        case PROOF_USER:
                return true;
        case PROOF_BOARD_DIGEST:
                /* It names the board, not the camera: enough to bring this device back, whoever it is, but not for
                 * an update or a saved image that is meant for one camera. */
                return evidence->wish == WISH_UNATTENDED || evidence->wish == WISH_RECOVER;
        case _PROOF_MAX:
                break;
        }
        return false;
}

static struct answer row_not_proven(const struct verdict_evidence *evidence)
{
        if ((int)evidence->wish < 0 || (int)evidence->wish >= _WISH_MAX)
                return leave(REASON_NOT_PROVEN, 0);
        return is_proven(evidence) ? go() : ask_about(REASON_NOT_PROVEN, 0);
}

static struct answer row_stale_word(const struct verdict_evidence *evidence)
{
        return evidence->proof == PROOF_USER && evidence->word_is_stale ? ask_about(REASON_STALE_WORD, 0) : go();
}

static bool is_unread(enum content content)
{
        return (int)content <= (int)CONTENT_UNREAD || (int)content >= (int)_CONTENT_MAX;
}

static struct answer row_not_read(const struct verdict_evidence *evidence)
{
        size_t head;

        if (evidence->mode != CAMERA_MODE_BOOTLOADER && evidence->mode != CAMERA_MODE_ROM_DFU)
                return leave(REASON_NOT_READ, 0);
        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (is_unread(target->content))
                        return leave(REASON_NOT_READ, t);
                /* "The wanted image, whole" and "this unit differs from it" cannot both be true. */
                if (target->content == CONTENT_WANTED && has_differences(target))
                        return leave(REASON_NOT_READ, t);
        }
        if (concerns_head(evidence, &head) && is_unread(evidence->firmware_head.content))
                return leave(REASON_NOT_READ, head);
        return go();
}

static struct answer row_unreadable(const struct verdict_evidence *evidence)
{
        size_t head;

        for (size_t t = 0; t < n_targets(evidence); t++)
                if (evidence->targets[t].content == CONTENT_UNREADABLE)
                        return leave(REASON_UNREADABLE, t);
        if (concerns_head(evidence, &head) && evidence->firmware_head.content == CONTENT_UNREADABLE)
                return leave(REASON_UNREADABLE, head);
        return go();
}

static struct answer row_automatic_off(const struct verdict_evidence *evidence)
{
        return is_unattended(evidence) && !evidence->automatic ? ask_about(REASON_AUTOMATIC_OFF, 0) : go();
}

/* May an image that nobody knows be replaced?  begun: by this update, which is open. */
static bool may_replace_unknown(const struct verdict_evidence *evidence, bool begun)
{
        switch (evidence->wish) {
        case WISH_UNATTENDED:
                return false;
        case WISH_RESUME:
                return begun || (evidence->word_replace && !evidence->begun_unattended);
        case WISH_UPDATE:
        case WISH_RECOVER:
                return evidence->word_replace;
        case WISH_RESTORE:
                /* His own image, back on his own camera; row 8 keeps what stands there. */
                return true;
        case _WISH_MAX:
                break;
        }
        return false;
}

static struct answer row_unknown_firmware(const struct verdict_evidence *evidence)
{
        size_t head;

        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (target->role != PARTITION_FIRMWARE || target->content != CONTENT_UNKNOWN)
                        continue;
                /* Unattended, what is unknown is asked about even where nothing of it would be touched. */
                if (!has_differences(target) && !is_unattended(evidence))
                        continue;
                if (!may_replace_unknown(evidence, was_begun(target)))
                        return ask_about(REASON_UNKNOWN_FIRMWARE, t);
        }
        if (must_erase_head(evidence, &head) && evidence->firmware_head.content == CONTENT_UNKNOWN &&
            !may_replace_unknown(evidence, evidence->firmware_head.erases > 0))
                return ask_about(REASON_UNKNOWN_FIRMWARE, head);
        return go();
}

static struct answer row_intact(const struct verdict_evidence *evidence)
{
        size_t n = 0, n_whole = 0, n_wanted = 0, whole = 0;

        if (!nobody_asked(evidence))
                return go();
        for (size_t t = 0; t < n_targets(evidence); t++) {
                if (evidence->targets[t].role != PARTITION_FIRMWARE)
                        continue;
                n++;
                n_wanted += evidence->targets[t].content == CONTENT_WANTED;
                if (is_whole(evidence->targets[t].content)) {
                        n_whole++;
                        whole = t;
                }
        }
        if (n == 0 || n_whole < n)
                return go();
        /* An update of ours that finds its own image whole is done: row 11 says so. */
        if (!is_unattended(evidence) && n_wanted == n)
                return go();
        return leave(evidence->silent ? REASON_INTACT : REASON_NOTHING_TO_DO, whole);
}

static struct answer row_mixed_set(const struct verdict_evidence *evidence)
{
        if (!nobody_asked(evidence))
                return go();
        for (size_t t = 0; t < n_targets(evidence); t++)
                if (evidence->targets[t].role == PARTITION_FIRMWARE && evidence->targets[t].content == CONTENT_KNOWN)
                        return ask_about(REASON_MIXED_SET, t);
        return go();
}

static struct answer row_sound_bootloader(const struct verdict_evidence *evidence)
{
        if (evidence->mode != CAMERA_MODE_ROM_DFU)
                return go();
        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (target->role != PARTITION_BOOTLOADER || !is_whole(target->content))
                        continue;
                /* Another known one (an older one, another board's) gives way to an explicit word. */
                if (target->content == CONTENT_KNOWN && !nobody_asked(evidence) && evidence->word_replace)
                        continue;
                return leave(REASON_SOUND_BOOTLOADER, t);
        }
        return go();
}

static struct answer row_unknown_bootloader(const struct verdict_evidence *evidence)
{
        if (evidence->mode != CAMERA_MODE_ROM_DFU)
                return go();
        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (target->role != PARTITION_BOOTLOADER || target->content != CONTENT_UNKNOWN)
                        continue;
                /* "Recover" in ROM mode is the user's word about the bootloader: there is nothing else to recover there. */
                if (evidence->wish == WISH_RECOVER ||
                    (evidence->wish == WISH_RESUME && may_replace_unknown(evidence, was_begun(target))))
                        continue;
                return ask_about(REASON_UNKNOWN_BOOTLOADER, t);
        }
        return go();
}

static struct answer row_forbidden_partition(const struct verdict_evidence *evidence)
{
        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (target->forbidden || target->role == PARTITION_FORBIDDEN || (int)target->role >= _PARTITION_ROLE_MAX)
                        return leave(REASON_FORBIDDEN_PARTITION, t);
                /* The resident bootloader cannot rewrite itself, and the ROM is used for nothing else (on H7 it cannot). */
                if ((target->role == PARTITION_BOOTLOADER) != (evidence->mode == CAMERA_MODE_ROM_DFU))
                        return leave(REASON_FORBIDDEN_PARTITION, t);
        }
        return go();
}

static struct answer row_users_work(const struct verdict_evidence *evidence)
{
        for (size_t t = 0; t < n_targets(evidence); t++) {
                enum partition_role role = evidence->targets[t].role;

                if (role != PARTITION_FILESYSTEM && role != PARTITION_ROMFS)
                        continue;
                if (nobody_asked(evidence))
                        return leave(REASON_USERS_WORK, t);
                if (!(role == PARTITION_FILESYSTEM ? evidence->word_filesystem : evidence->word_romfs))
                        return ask_about(REASON_USERS_WORK, t);
        }
        return go();
}

static struct answer row_older(const struct verdict_evidence *evidence)
{
        return nobody_asked(evidence) && evidence->older_than_ran ? ask_about(REASON_OLDER, 0) : go();
}

static struct answer row_not_saved(const struct verdict_evidence *evidence)
{
        size_t head;

        for (size_t t = 0; t < n_targets(evidence); t++)
                if (evidence->targets[t].needs_saving && has_differences(&evidence->targets[t]))
                        return leave(REASON_NOT_SAVED, t);
        if (must_erase_head(evidence, &head) && evidence->firmware_head.needs_saving)
                return leave(REASON_NOT_SAVED, head);
        return go();
}

static struct answer row_image_refused(const struct verdict_evidence *evidence)
{
        if (evidence->n_targets > VERDICT_TARGETS_MAX)
                return leave(REASON_IMAGE_REFUSED, 0);
        for (size_t t = 0; t < n_targets(evidence); t++)
                if (evidence->targets[t].image_refused || evidence->targets[t].n_units > VERDICT_UNITS_MAX)
                        return leave(REASON_IMAGE_REFUSED, t);
        return go();
}

static struct answer row_worn(const struct verdict_evidence *evidence)
{
        size_t head;

        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                for (size_t u = 0; u < target->n_units; u++)
                        if (target->units[u].differs && target->units[u].erases >= VERDICT_MAX_ERASES)
                                return leave(REASON_WORN, t);
        }
        if (must_erase_head(evidence, &head) && evidence->firmware_head.erases >= VERDICT_MAX_ERASES)
                return leave(REASON_WORN, head);
        return go();
}

static struct answer row_nothing_to_do(const struct verdict_evidence *evidence)
{
        for (size_t t = 0; t < n_targets(evidence); t++) {
                const struct verdict_target *target = &evidence->targets[t];

                if (has_differences(target))
                        return go();
                /* Nothing at hand to compare it with is not "whole": row 4 asks. */
                if (is_unattended(evidence) && target->role == PARTITION_FIRMWARE && target->content == CONTENT_UNKNOWN)
                        return go();
        }
        return leave(REASON_NOTHING_TO_DO, 0);
}

static struct answer row_inhibited(const struct verdict_evidence *evidence)
{
        return evidence->inhibited ? leave(REASON_INHIBITED, 0) : go();
}

/* In order of their rules' numbers; the first of a number is the weightiest. */
static const struct row {
        unsigned number;
        const char *name;
        struct answer (*ask)(const struct verdict_evidence *evidence);
} rows[] = {
        {  1, "contradicted",        row_contradicted },
        {  1, "board-unknown",       row_board_unknown },
        {  1, "not-proven",          row_not_proven },
        {  2, "stale-word",          row_stale_word },
        {  3, "not-read",            row_not_read },
        {  3, "unreadable",          row_unreadable },
        {  4, "automatic-off",       row_automatic_off },
        {  4, "unknown-firmware",    row_unknown_firmware },
        {  4, "intact",              row_intact },
        {  4, "mixed-set",           row_mixed_set },
        {  5, "sound-bootloader",    row_sound_bootloader },
        {  5, "unknown-bootloader",  row_unknown_bootloader },
        {  6, "forbidden-partition", row_forbidden_partition },
        {  6, "users-work",          row_users_work },
        {  7, "older",               row_older },
        {  8, "not-saved",           row_not_saved },
        {  9, "image-refused",       row_image_refused },
        { 10, "worn",                row_worn },
        { 11, "nothing-to-do",       row_nothing_to_do },
        { 14, "inhibited",           row_inhibited },
};

const char *verdict_row(size_t n, unsigned *ret_number)
{
        if (n >= ELEMENTSOF(rows))
                return NULL;
        *ret_number = rows[n].number;
        return rows[n].name;
}

static void mark_units(const struct verdict_evidence *evidence, struct verdict *verdict)
{
        for (size_t t = 0; t < evidence->n_targets; t++)
                for (size_t u = 0; u < evidence->targets[t].n_units; u++)
                        if (evidence->targets[t].units[u].differs)
                                verdict->write[t][u / 64] |= UINT64_C(1) << (u % 64);
}

struct verdict verdict_give(const struct verdict_evidence *evidence)
{
        struct answer answer = go();
        struct verdict verdict = {};
        size_t head;

        for (size_t i = 0; i < ELEMENTSOF(rows); i++) {
                struct answer other = rows[i].ask(evidence);

                if (other.kind > answer.kind)
                        answer = other;
        }

        verdict.kind = answer.kind;
        verdict.reason = answer.reason;
        verdict.target = answer.target;
        if (verdict.kind == VERDICT_WRITE) {
                mark_units(evidence, &verdict);
                verdict.erase_firmware_head = must_erase_head(evidence, &head);
        }
        return verdict;
}

enum proof proof_of_board_digest(uint32_t boards)
{
        return boards != 0 && (boards & (boards - 1)) == 0 ? PROOF_BOARD_DIGEST : PROOF_NONE;
}

bool verdict_writes_unit(const struct verdict *verdict, size_t target, size_t unit)
{
        if (verdict->kind != VERDICT_WRITE || target >= VERDICT_TARGETS_MAX || unit >= VERDICT_UNITS_MAX)
                return false;
        return verdict->write[target][unit / 64] >> (unit % 64) & 1;
}

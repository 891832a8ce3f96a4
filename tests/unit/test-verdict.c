/* SPDX-License-Identifier: MIT */

/*
 * The verdict: every row has a test named after it, and over a large product of
 * evidence the verdict is compared with the rules said once more, in another
 * way.  The last test but one fails when a row has no test.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/verdict.h"

/* --- a few verbs --- */

#define UNITS 4

/* Evidence and the units it points to. */
struct scene {
        struct verdict_evidence evidence;
        struct verdict_unit units[VERDICT_TARGETS_MAX][UNITS];
};

static struct verdict_target *add_target(struct scene *s, enum partition_role role, enum content content)
{
        size_t t = s->evidence.n_targets++;
        struct verdict_target *target = &s->evidence.targets[t];

        *target = (struct verdict_target){
                .role = role, .content = content, .fits_bootloader = true, .units = s->units[t], .n_units = UNITS,
        };
        for (size_t u = 0; u < UNITS; u++)
                s->units[t][u] = (struct verdict_unit){ .differs = content != CONTENT_WANTED };
        return target;
}

/* A camera that shows its bootloader, proven by its serial, automatic recovery on. */
static void in_bootloader(struct scene *s, enum wish wish, enum content firmware)
{
        *s = (struct scene){ .evidence = {
                .wish = wish, .mode = CAMERA_MODE_BOOTLOADER, .automatic = true, .board_known = true, .proof = PROOF_SERIAL,
                .silent = true,
        } };
        add_target(s, PARTITION_FIRMWARE, firmware);
}

/* The same in ROM DFU; the target is the bootloader. */
static void in_rom(struct scene *s, enum wish wish, enum content bootloader)
{
        in_bootloader(s, wish, CONTENT_BLANK);
        s->evidence.mode = CAMERA_MODE_ROM_DFU;
        s->evidence.n_targets = 0;
        add_target(s, PARTITION_BOOTLOADER, bootloader);
}

static void expect_at(const struct scene *s, enum verdict_kind kind, enum verdict_reason reason, const char *file, int line)
{
        struct verdict v = verdict_give(&s->evidence);

        if (v.kind != kind || v.reason != reason)
                fail_msg("%s:%d: %s (%s) instead of %s (%s)", file, line, verdict_kind_to_string(v.kind),
                         verdict_reason_to_string(v.reason), verdict_kind_to_string(kind), verdict_reason_to_string(reason));
        for (size_t t = 0; t < s->evidence.n_targets && t < VERDICT_TARGETS_MAX; t++)
                for (size_t u = 0; u < UNITS; u++)
                        assert_int_equal(verdict_writes_unit(&v, t, u), kind == VERDICT_WRITE && s->units[t][u].differs);
        if (kind != VERDICT_WRITE)
                assert_false(v.erase_firmware_head);
}

#define expect_write(s) expect_at(s, VERDICT_WRITE, REASON_WRITE, __FILE__, __LINE__)
#define expect_ask(s, reason) expect_at(s, VERDICT_ASK, reason, __FILE__, __LINE__)
#define expect_leave(s, reason) expect_at(s, VERDICT_LEAVE, reason, __FILE__, __LINE__)

/* --- row 1 --- */

static void contradicted(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_BLANK);
                expect_write(&s);
                s.evidence.board_contradicted = true;
                expect_leave(&s, REASON_CONTRADICTED);
                /* whatever else is wrong, this is what is said */
                s.evidence.board_known = false;
                s.evidence.inhibited = true;
                s.evidence.proof = PROOF_NONE;
                s.evidence.targets[0].image_refused = true;
                expect_leave(&s, REASON_CONTRADICTED);
        }
}

static void board_unknown(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_RECOVER, CONTENT_BLANK);
        s.evidence.proof = PROOF_USER;
        s.evidence.board_known = false;
        expect_ask(&s, REASON_BOARD_UNKNOWN);
}

static void not_proven(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_rom(&s, (enum wish)wish, CONTENT_BLANK);
                s.evidence.proof = PROOF_NONE;
                expect_ask(&s, REASON_NOT_PROVEN);
        }
}

static void constant_serial_is_no_proof(void **state)
{
        struct scene s;

        in_rom(&s, WISH_RESUME, CONTENT_INTERRUPTED);
        expect_write(&s);
        s.evidence.serial_shared = true;
        expect_ask(&s, REASON_NOT_PROVEN);
        s.evidence.proof = PROOF_FLASH;
        expect_write(&s);
}

static void plus_is_not_h7(void **state)
{
        struct scene s;

        /* the bootloader of an H7 Plus, read from a device on the port of an H7: three boards carry it */
        assert_int_equal(proof_of_board_digest(0x1c), PROOF_NONE);
        assert_int_equal(proof_of_board_digest(0), PROOF_NONE);
        assert_int_equal(proof_of_board_digest(0x10), PROOF_BOARD_DIGEST);
        assert_int_equal(proof_of_board_digest(0x80000000), PROOF_BOARD_DIGEST);

        in_rom(&s, WISH_UNATTENDED, CONTENT_BLANK);
        s.evidence.serial_shared = true;
        s.evidence.proof = proof_of_board_digest(0x1c);
        s.evidence.board_known = false;
        expect_ask(&s, REASON_BOARD_UNKNOWN);
        s.evidence.board_known = true;
        expect_ask(&s, REASON_NOT_PROVEN);
        /* and where one board only carries it, an H7 Plus that was meant to be an H7 is a contradiction */
        s.evidence.proof = proof_of_board_digest(0x10);
        expect_write(&s);
        s.evidence.board_contradicted = true;
        expect_leave(&s, REASON_CONTRADICTED);
}

static void digest_names_no_camera(void **state)
{
        static const struct {
                enum wish wish;
                bool enough;
        } cases[] = {
                { WISH_UNATTENDED, true }, { WISH_RECOVER, true },
                { WISH_RESUME, false }, { WISH_UPDATE, false }, { WISH_RESTORE, false },
        };
        struct scene s;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                in_rom(&s, cases[i].wish, CONTENT_BLANK);
                s.evidence.serial_shared = true;
                s.evidence.proof = PROOF_BOARD_DIGEST;
                if (cases[i].enough)
                        expect_write(&s);
                else
                        expect_ask(&s, REASON_NOT_PROVEN);
        }
}

/* --- row 2 --- */

static void stale_word(void **state)
{
        struct scene s;

        /* His word was for the H7 that was here; now a foreign H743 with the same constant serial is on the same port. */
        in_rom(&s, WISH_RECOVER, CONTENT_BLANK);
        s.evidence.proof = PROOF_USER;
        s.evidence.serial_shared = true;
        expect_write(&s);
        s.evidence.word_is_stale = true;
        expect_ask(&s, REASON_STALE_WORD);
        s.evidence.wish = WISH_RESUME;
        expect_ask(&s, REASON_STALE_WORD);
        /* a proof of its own needs no word */
        s.evidence.proof = PROOF_FLASH;
        expect_write(&s);
}

/* --- row 3 --- */

static void not_read(void **state)
{
        struct scene s;

        for (int mode = 0; mode < _CAMERA_MODE_MAX; mode++) {
                in_bootloader(&s, WISH_RESUME, CONTENT_INTERRUPTED);
                s.evidence.mode = (enum camera_mode)mode;
                if (mode != CAMERA_MODE_BOOTLOADER && mode != CAMERA_MODE_ROM_DFU)
                        expect_leave(&s, REASON_NOT_READ);
        }
        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_UNREAD);
                s.evidence.word_replace = true;
                expect_leave(&s, REASON_NOT_READ);
        }
}

static void readings_disagree(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_UPDATE, CONTENT_WANTED);
        s.units[0][1].differs = true;
        expect_leave(&s, REASON_NOT_READ);
}

static void head_not_read(void **state)
{
        struct scene s;

        in_rom(&s, WISH_RECOVER, CONTENT_BLANK);
        s.evidence.targets[0].fits_bootloader = false;
        expect_leave(&s, REASON_NOT_READ);
        s.evidence.firmware_head.content = CONTENT_UNREADABLE;
        expect_leave(&s, REASON_UNREADABLE);
}

static void unreadable(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_UNREADABLE);
                s.evidence.word_replace = true;
                expect_leave(&s, REASON_UNREADABLE);
        }
}

/* --- row 4 --- */

static void automatic_off(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_UNATTENDED, CONTENT_BLANK);
        s.evidence.automatic = false;
        expect_ask(&s, REASON_AUTOMATIC_OFF);
        /* what was begun is brought to its end, and a person's wish is not automatic */
        for (int wish = 0; wish < _WISH_MAX; wish++)
                if (wish != WISH_UNATTENDED) {
                        s.evidence.wish = (enum wish)wish;
                        expect_write(&s);
                }
}

static void evidence_for_writing(void **state)
{
        static const enum content enough[] = { CONTENT_BLANK, CONTENT_IMPOSSIBLE, CONTENT_INTERRUPTED };
        struct scene s;

        for (size_t i = 0; i < ELEMENTSOF(enough); i++) {
                in_bootloader(&s, WISH_UNATTENDED, enough[i]);
                expect_write(&s);
                in_rom(&s, WISH_UNATTENDED, enough[i]);
                expect_write(&s);
        }
}

static void only_what_differs(void **state)
{
        struct scene s;
        struct verdict v;

        in_bootloader(&s, WISH_RESUME, CONTENT_INTERRUPTED);
        s.units[0][0].differs = false;
        s.units[0][2].differs = false;
        expect_write(&s);
        v = verdict_give(&s.evidence);
        assert_int_equal(v.write[0][0], 0xa);
}

static void unknown_firmware(void **state)
{
        struct scene s;

        /* somebody's own build that shares its first units with a release: not an interrupted write, however silent */
        in_bootloader(&s, WISH_UNATTENDED, CONTENT_UNKNOWN);
        s.units[0][0].differs = s.units[0][1].differs = false;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
        s.evidence.silent = false;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
        /* no word of another day makes it a wish of today */
        s.evidence.word_replace = true;
        s.units[0][3].erases = 1;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
        /* not even where nothing of it would be touched */
        s.units[0][2].differs = s.units[0][3].differs = false;
        add_target(&s, PARTITION_FIRMWARE, CONTENT_BLANK);
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
}

static void unknown_firmware_and_a_person(void **state)
{
        static const enum wish wishes[] = { WISH_UPDATE, WISH_RECOVER };
        struct scene s;

        for (size_t i = 0; i < ELEMENTSOF(wishes); i++) {
                in_bootloader(&s, wishes[i], CONTENT_UNKNOWN);
                expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
                s.evidence.word_replace = true;
                expect_write(&s);
        }
        /* his own image back on his own camera */
        in_bootloader(&s, WISH_RESTORE, CONTENT_UNKNOWN);
        expect_write(&s);
}

static void resume(void **state)
{
        static const enum content contents[] = { CONTENT_BLANK, CONTENT_IMPOSSIBLE, CONTENT_INTERRUPTED, CONTENT_KNOWN };
        static const enum proof proofs[] = { PROOF_SERIAL, PROOF_FLASH, PROOF_USER };
        struct scene s;

        for (size_t i = 0; i < ELEMENTSOF(contents); i++)
                for (size_t k = 0; k < ELEMENTSOF(proofs); k++) {
                        in_bootloader(&s, WISH_RESUME, contents[i]);
                        s.evidence.proof = proofs[k];
                        expect_write(&s);
                }
        /* power was lost within an erase of ours: what stands there is nobody's image */
        in_bootloader(&s, WISH_RESUME, CONTENT_UNKNOWN);
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
        s.units[0][2].erases = 1;
        expect_write(&s);
        /* nothing erased yet, but the word was given with the update */
        s.units[0][2].erases = 0;
        s.evidence.word_replace = true;
        expect_write(&s);
        /* and it is saved before it is overwritten */
        s.evidence.targets[0].needs_saving = true;
        expect_leave(&s, REASON_NOT_SAVED);
}

static void resume_of_what_nobody_asked_for(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_RESUME, CONTENT_INTERRUPTED);
        s.evidence.begun_unattended = true;
        expect_write(&s);
        s.evidence.older_than_ran = true;
        expect_ask(&s, REASON_OLDER);

        /* in the meantime somebody installed another version, or a firmware of his own */
        in_bootloader(&s, WISH_RESUME, CONTENT_KNOWN);
        s.evidence.begun_unattended = true;
        expect_leave(&s, REASON_INTACT);
        in_bootloader(&s, WISH_RESUME, CONTENT_UNKNOWN);
        s.evidence.begun_unattended = true;
        s.evidence.word_replace = true;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);

        /* its own image, whole: done */
        in_bootloader(&s, WISH_RESUME, CONTENT_WANTED);
        s.evidence.begun_unattended = true;
        expect_leave(&s, REASON_NOTHING_TO_DO);
}

static void intact(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_UNATTENDED, CONTENT_KNOWN);
        expect_leave(&s, REASON_INTACT);
        in_bootloader(&s, WISH_UNATTENDED, CONTENT_WANTED);
        expect_leave(&s, REASON_INTACT);
        s.evidence.silent = false;
        expect_leave(&s, REASON_NOTHING_TO_DO);
        /* a person may replace a known version by another */
        in_bootloader(&s, WISH_UPDATE, CONTENT_KNOWN);
        expect_write(&s);
}

static void one_core_of_two(void **state)
{
        struct scene s;
        struct verdict v;

        /* AE3: HP is right, HE is blank: HE alone is written */
        in_bootloader(&s, WISH_UNATTENDED, CONTENT_WANTED);
        add_target(&s, PARTITION_FIRMWARE, CONTENT_BLANK);
        expect_write(&s);
        v = verdict_give(&s.evidence);
        assert_int_equal(v.write[0][0], 0);
        assert_int_equal(v.write[1][0], 0xf);
}

static void mixed_set(void **state)
{
        struct scene s;

        /* AE3: HP is whole but of another version, HE is damaged */
        in_bootloader(&s, WISH_UNATTENDED, CONTENT_KNOWN);
        add_target(&s, PARTITION_FIRMWARE, CONTENT_INTERRUPTED);
        expect_ask(&s, REASON_MIXED_SET);
        s.evidence.wish = WISH_RECOVER;
        expect_write(&s);
}

/* --- row 5 --- */

static void sound_bootloader(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_rom(&s, (enum wish)wish, CONTENT_WANTED);
                s.evidence.word_replace = true;
                expect_leave(&s, REASON_SOUND_BOOTLOADER);
                in_rom(&s, (enum wish)wish, CONTENT_KNOWN);
                expect_leave(&s, REASON_SOUND_BOOTLOADER);
        }
        /* another known one, an older one say, gives way to an explicit word, and to nothing else */
        in_rom(&s, WISH_RECOVER, CONTENT_KNOWN);
        s.evidence.word_replace = true;
        expect_write(&s);
        s.evidence.wish = WISH_UNATTENDED;
        expect_leave(&s, REASON_SOUND_BOOTLOADER);
        s.evidence.wish = WISH_RESUME;
        s.evidence.begun_unattended = true;
        expect_leave(&s, REASON_SOUND_BOOTLOADER);
}

static void unknown_bootloader(void **state)
{
        struct scene s;

        in_rom(&s, WISH_UNATTENDED, CONTENT_UNKNOWN);
        s.evidence.word_replace = true;
        s.units[0][0].erases = 1;
        expect_ask(&s, REASON_UNKNOWN_BOOTLOADER);
        in_rom(&s, WISH_RECOVER, CONTENT_UNKNOWN);
        expect_write(&s);
        s.evidence.targets[0].needs_saving = true;
        expect_leave(&s, REASON_NOT_SAVED);
        in_rom(&s, WISH_UPDATE, CONTENT_UNKNOWN);
        expect_ask(&s, REASON_UNKNOWN_BOOTLOADER);
        /* A word about the firmware is none about the bootloader. */
        s.evidence.word_replace = true;
        expect_ask(&s, REASON_UNKNOWN_BOOTLOADER);
        in_rom(&s, WISH_RESTORE, CONTENT_UNKNOWN);
        expect_ask(&s, REASON_UNKNOWN_BOOTLOADER);
        in_rom(&s, WISH_RESUME, CONTENT_UNKNOWN);
        expect_ask(&s, REASON_UNKNOWN_BOOTLOADER);
        s.units[0][0].erases = 1;
        expect_write(&s);
}

static bool erases_head(const struct scene *s)
{
        struct verdict v = verdict_give(&s->evidence);

        assert_int_equal(v.kind, VERDICT_WRITE);
        return v.erase_firmware_head;
}

static void head_of_firmware(void **state)
{
        static const enum content erased[] = { CONTENT_IMPOSSIBLE, CONTENT_INTERRUPTED, CONTENT_KNOWN };
        struct scene s;

        in_rom(&s, WISH_UNATTENDED, CONTENT_BLANK);
        assert_false(erases_head(&s));

        s.evidence.targets[0].fits_bootloader = false;
        for (size_t i = 0; i < ELEMENTSOF(erased); i++) {
                s.evidence.firmware_head.content = erased[i];
                assert_true(erases_head(&s));
        }
        /* there is nothing to erase */
        s.evidence.firmware_head.content = CONTENT_BLANK;
        s.evidence.firmware_head.erases = VERDICT_MAX_ERASES;
        assert_false(erases_head(&s));
        /* nothing is restored, so nothing need fit it */
        s.evidence.mode = CAMERA_MODE_BOOTLOADER;
        s.evidence.targets[0].role = PARTITION_FIRMWARE;
        s.evidence.firmware_head.content = CONTENT_KNOWN;
        assert_false(erases_head(&s));
}

static void head_of_unknown_firmware(void **state)
{
        struct scene s;

        in_rom(&s, WISH_UNATTENDED, CONTENT_BLANK);
        s.evidence.targets[0].fits_bootloader = false;
        s.evidence.firmware_head.content = CONTENT_UNKNOWN;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
        s.evidence.wish = WISH_RECOVER;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
        s.evidence.word_replace = true;
        assert_true(erases_head(&s));
        s.evidence.firmware_head.needs_saving = true;
        expect_leave(&s, REASON_NOT_SAVED);
        s.evidence.firmware_head.needs_saving = false;
        s.evidence.firmware_head.erases = VERDICT_MAX_ERASES - 1;
        assert_true(erases_head(&s));
        s.evidence.firmware_head.erases = VERDICT_MAX_ERASES;
        expect_leave(&s, REASON_WORN);
        /* with the bootloader sound there is no reason to touch it */
        s.evidence.targets[0].content = CONTENT_WANTED;
        for (size_t u = 0; u < UNITS; u++)
                s.units[0][u].differs = false;
        expect_leave(&s, REASON_SOUND_BOOTLOADER);
}

/* --- row 6 --- */

static void forbidden_partition(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_BLANK);
                s.evidence.word_romfs = s.evidence.word_filesystem = s.evidence.word_replace = true;
                s.evidence.targets[0].role = PARTITION_FORBIDDEN;
                expect_leave(&s, REASON_FORBIDDEN_PARTITION);
                s.evidence.targets[0].role = PARTITION_FIRMWARE;
                s.evidence.targets[0].forbidden = true;
                expect_leave(&s, REASON_FORBIDDEN_PARTITION);
                /* the resident bootloader through itself */
                s.evidence.targets[0].forbidden = false;
                s.evidence.targets[0].role = PARTITION_BOOTLOADER;
                expect_leave(&s, REASON_FORBIDDEN_PARTITION);
                /* anything else through the ROM */
                s.evidence.mode = CAMERA_MODE_ROM_DFU;
                s.evidence.targets[0].role = PARTITION_FIRMWARE;
                expect_leave(&s, REASON_FORBIDDEN_PARTITION);
        }
}

static void users_work(void **state)
{
        static const struct {
                enum partition_role role;
                bool romfs, filesystem, allowed;
        } cases[] = {
                { PARTITION_FILESYSTEM, false, false, false }, { PARTITION_FILESYSTEM, true, false, false },
                { PARTITION_FILESYSTEM, false, true, true },   { PARTITION_ROMFS, false, false, false },
                { PARTITION_ROMFS, false, true, false },       { PARTITION_ROMFS, true, false, true },
        };
        struct scene s;

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                in_bootloader(&s, WISH_UPDATE, CONTENT_KNOWN);
                add_target(&s, cases[i].role, CONTENT_UNKNOWN);
                s.evidence.word_romfs = cases[i].romfs;
                s.evidence.word_filesystem = cases[i].filesystem;
                if (cases[i].allowed)
                        expect_write(&s);
                else
                        expect_ask(&s, REASON_USERS_WORK);
                /* never unattended, whatever was said another day */
                s.evidence.wish = WISH_UNATTENDED;
                s.evidence.targets[0].content = CONTENT_BLANK;
                expect_leave(&s, REASON_USERS_WORK);
        }
}

/* --- rows 7 to 10 --- */

static void older(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_UNATTENDED, CONTENT_BLANK);
        s.evidence.older_than_ran = true;
        expect_ask(&s, REASON_OLDER);
        s.evidence.wish = WISH_UPDATE;
        expect_write(&s);
        s.evidence.wish = WISH_RESUME;
        expect_write(&s);
        s.evidence.wish = WISH_RESTORE;
        expect_write(&s);
}

static void not_saved(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                if (wish == WISH_UNATTENDED)
                        continue;
                in_bootloader(&s, (enum wish)wish, CONTENT_UNKNOWN);
                s.evidence.word_replace = true;
                expect_write(&s);
                s.evidence.targets[0].needs_saving = true;
                expect_leave(&s, REASON_NOT_SAVED);
        }
}

static void image_refused(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_BLANK);
                s.evidence.targets[0].image_refused = true;
                expect_leave(&s, REASON_IMAGE_REFUSED);
        }
}

static void too_much(void **state)
{
        static struct verdict_unit many[VERDICT_UNITS_MAX + 1];
        struct scene s;

        for (size_t i = 0; i < ELEMENTSOF(many); i++)
                many[i].differs = true;
        in_bootloader(&s, WISH_UPDATE, CONTENT_BLANK);
        s.evidence.targets[0].units = many;
        s.evidence.targets[0].n_units = VERDICT_UNITS_MAX;
        expect_write(&s);
        s.evidence.targets[0].n_units = VERDICT_UNITS_MAX + 1;
        assert_int_equal(verdict_give(&s.evidence).reason, REASON_IMAGE_REFUSED);

        in_bootloader(&s, WISH_UPDATE, CONTENT_BLANK);
        for (size_t t = 1; t < VERDICT_TARGETS_MAX; t++)
                add_target(&s, PARTITION_FIRMWARE, CONTENT_BLANK);
        expect_write(&s);
        s.evidence.n_targets++;
        assert_int_equal(verdict_give(&s.evidence).reason, REASON_IMAGE_REFUSED);
}

static void worn(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_INTERRUPTED);
                s.units[0][3].erases = 19;
                expect_write(&s);
                s.units[0][3].erases = 20;
                expect_leave(&s, REASON_WORN);
                assert_int_equal(verdict_give(&s.evidence).target, 0);
                /* a unit that is right already wears no more */
                s.units[0][3].differs = false;
                expect_write(&s);
        }
}

/* --- the rest --- */

static void nothing_to_do(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_UPDATE, CONTENT_WANTED);
        expect_leave(&s, REASON_NOTHING_TO_DO);
        in_bootloader(&s, WISH_RESUME, CONTENT_WANTED);
        expect_leave(&s, REASON_NOTHING_TO_DO);
        in_bootloader(&s, WISH_RECOVER, CONTENT_WANTED);
        expect_leave(&s, REASON_NOTHING_TO_DO);
        s.evidence.n_targets = 0;
        expect_leave(&s, REASON_NOTHING_TO_DO);
}

static void inhibited(void **state)
{
        struct scene s;

        for (int wish = 0; wish < _WISH_MAX; wish++) {
                in_bootloader(&s, (enum wish)wish, CONTENT_BLANK);
                s.evidence.inhibited = true;
                expect_leave(&s, REASON_INHIBITED);
        }
}

static void most_careful_wins(void **state)
{
        struct scene s;

        /* ask (row 1) and leave (row 10): leave, although its number is higher */
        in_bootloader(&s, WISH_RECOVER, CONTENT_BLANK);
        s.evidence.proof = PROOF_NONE;
        s.units[0][0].erases = 20;
        expect_leave(&s, REASON_WORN);
        /* two that leave: the lower number */
        s.evidence.targets[0].image_refused = true;
        expect_leave(&s, REASON_IMAGE_REFUSED);
        /* two that ask */
        in_bootloader(&s, WISH_UNATTENDED, CONTENT_UNKNOWN);
        s.evidence.older_than_ran = true;
        expect_ask(&s, REASON_UNKNOWN_FIRMWARE);
}

static void malformed(void **state)
{
        struct scene s;

        in_bootloader(&s, WISH_UPDATE, CONTENT_BLANK);
        s.evidence.wish = (enum wish)77;
        expect_leave(&s, REASON_NOT_PROVEN);
        in_bootloader(&s, WISH_UPDATE, (enum content)77);
        expect_leave(&s, REASON_NOT_READ);
        in_bootloader(&s, WISH_UPDATE, CONTENT_BLANK);
        s.evidence.proof = (enum proof)77;
        expect_ask(&s, REASON_NOT_PROVEN);
        in_bootloader(&s, WISH_UPDATE, CONTENT_BLANK);
        s.evidence.targets[0].role = (enum partition_role)77;
        expect_leave(&s, REASON_FORBIDDEN_PARTITION);
        /* all zeros: nothing is known, nothing is written */
        s = (struct scene){};
        assert_int_not_equal(verdict_give(&s.evidence).kind, VERDICT_WRITE);
        add_target(&s, PARTITION_FIRMWARE, CONTENT_BLANK);
        assert_int_not_equal(verdict_give(&s.evidence).kind, VERDICT_WRITE);
}

static void units_outside(void **state)
{
        struct scene s;
        struct verdict v;

        in_bootloader(&s, WISH_UPDATE, CONTENT_BLANK);
        v = verdict_give(&s.evidence);
        assert_true(verdict_writes_unit(&v, 0, 3));
        assert_false(verdict_writes_unit(&v, 0, 4));
        assert_false(verdict_writes_unit(&v, 1, 0));
        assert_false(verdict_writes_unit(&v, VERDICT_TARGETS_MAX, 0));
        assert_false(verdict_writes_unit(&v, 0, VERDICT_UNITS_MAX));
        v.kind = VERDICT_ASK;
        assert_false(verdict_writes_unit(&v, 0, 3));
}

/* --- the rules once more, as one condition --- */

static bool person_asked(const struct verdict_evidence *e)
{
        return e->wish == WISH_UPDATE || e->wish == WISH_RECOVER || e->wish == WISH_RESTORE ||
               (e->wish == WISH_RESUME && !e->begun_unattended);
}

static bool unknown_may_go(const struct verdict_evidence *e, bool erased_by_us)
{
        return (e->wish == WISH_RESTORE) ||
               (e->wish == WISH_RESUME && erased_by_us) ||
               (person_asked(e) && e->word_replace);
}

static bool target_is_safe(const struct verdict_evidence *e, const struct verdict_target *t)
{
        bool differs = false, erased = false, worn_out = false;

        for (size_t u = 0; u < t->n_units; u++) {
                differs |= t->units[u].differs;
                erased |= t->units[u].erases > 0;
                worn_out |= t->units[u].differs && t->units[u].erases >= 20;
        }
        if (t->forbidden || t->image_refused || worn_out || (t->needs_saving && differs))
                return false;
        if (t->content == CONTENT_UNREAD || t->content == CONTENT_UNREADABLE || (t->content == CONTENT_WANTED && differs))
                return false;

        switch (t->role) {
        case PARTITION_BOOTLOADER:
                if (e->mode != CAMERA_MODE_ROM_DFU || t->content == CONTENT_WANTED)
                        return false;
                if (t->content == CONTENT_KNOWN)
                        return person_asked(e) && e->word_replace;
                return t->content != CONTENT_UNKNOWN || e->wish == WISH_RECOVER ||
                       (e->wish == WISH_RESUME && unknown_may_go(e, erased));
        case PARTITION_FIRMWARE:
                if (e->mode != CAMERA_MODE_BOOTLOADER)
                        return false;
                if (t->content == CONTENT_KNOWN)
                        return person_asked(e);
                if (t->content == CONTENT_UNKNOWN)
                        return unknown_may_go(e, erased) || (!differs && e->wish != WISH_UNATTENDED);
                return true;
        case PARTITION_FILESYSTEM:
                return e->mode == CAMERA_MODE_BOOTLOADER && person_asked(e) && e->word_filesystem;
        case PARTITION_ROMFS:
                return e->mode == CAMERA_MODE_BOOTLOADER && person_asked(e) && e->word_romfs;
        case PARTITION_FORBIDDEN:
        case _PARTITION_ROLE_MAX:
                break;
        }
        return false;
}

static bool target_differs(const struct verdict_target *t)
{
        for (size_t u = 0; u < t->n_units; u++)
                if (t->units[u].differs)
                        return true;
        return false;
}

static bool head_goes(const struct verdict_evidence *e)
{
        for (size_t t = 0; t < e->n_targets; t++)
                if (e->mode == CAMERA_MODE_ROM_DFU && e->targets[t].role == PARTITION_BOOTLOADER &&
                    !e->targets[t].fits_bootloader && target_differs(&e->targets[t]))
                        return true;
        return false;
}

static bool head_is_safe(const struct verdict_evidence *e)
{
        const struct verdict_head *h = &e->firmware_head;

        if (!head_goes(e) || h->content == CONTENT_BLANK)
                return true;
        if (h->content == CONTENT_UNREAD || h->content == CONTENT_UNREADABLE || h->needs_saving || h->erases >= 20)
                return false;
        return h->content != CONTENT_UNKNOWN || unknown_may_go(e, h->erases > 0);
}

static bool writing_is_safe(const struct verdict_evidence *e)
{
        bool camera_proven = (e->proof == PROOF_SERIAL && !e->serial_shared) || e->proof == PROOF_FLASH ||
                             (e->proof == PROOF_USER && !e->word_is_stale);
        bool device_proven = e->proof == PROOF_BOARD_DIGEST && (e->wish == WISH_UNATTENDED || e->wish == WISH_RECOVER);
        bool something = false, firmware = false, all_wanted = true;

        if (e->board_contradicted || !e->board_known || e->inhibited || !(camera_proven || device_proven))
                return false;
        if (e->wish == WISH_UNATTENDED && !e->automatic)
                return false;
        if (!person_asked(e) && e->older_than_ran)
                return false;
        for (size_t t = 0; t < e->n_targets; t++) {
                if (!target_is_safe(e, &e->targets[t]))
                        return false;
                something |= target_differs(&e->targets[t]);
                if (e->targets[t].role == PARTITION_FIRMWARE) {
                        firmware = true;
                        all_wanted &= e->targets[t].content == CONTENT_WANTED;
                }
        }
        /* unattended, a firmware that is right is left alone whatever else differs */
        if (e->wish == WISH_UNATTENDED && firmware && all_wanted)
                return false;
        return something && head_is_safe(e);
}

static void describe(const struct verdict_evidence *e, char *text, size_t size)
{
        size_t n = (size_t)snprintf(text, size, "wish %s%s mode %s proof %s%s%s%s%s%s%s%s%s%s%s%s;", wish_to_string(e->wish),
                         e->begun_unattended ? " (unattended)" : "", camera_mode_to_string(e->mode), proof_to_string(e->proof),
                         e->automatic ? " automatic" : "", e->inhibited ? " inhibited" : "", e->board_known ? " board-known" : "",
                         e->board_contradicted ? " contradicted" : "", e->serial_shared ? " shared" : "",
                         e->word_is_stale ? " stale" : "", e->older_than_ran ? " older" : "", e->word_romfs ? " romfs" : "",
                         e->word_filesystem ? " filesystem" : "", e->word_replace ? " replace" : "", e->silent ? " silent" : "");

        for (size_t t = 0; t < e->n_targets && n < size; t++) {
                const struct verdict_target *target = &e->targets[t];

                n += (size_t)snprintf(text + n, size - n, " [%s %s%s%s%s%s", partition_role_to_string(target->role),
                                      content_to_string(target->content), target->forbidden ? " forbidden" : "",
                                      target->image_refused ? " refused" : "", target->needs_saving ? " needs-saving" : "",
                                      target->fits_bootloader ? " fits" : "");
                for (size_t u = 0; u < target->n_units && n < size; u++)
                        n += (size_t)snprintf(text + n, size - n, " %c%u", target->units[u].differs ? 'd' : '=',
                                              target->units[u].erases);
                if (n < size)
                        n += (size_t)snprintf(text + n, size - n, "]");
        }
}

static void compare(const struct verdict_evidence *e, uint64_t *writes)
{
        struct verdict v = verdict_give(e);
        bool safe = writing_is_safe(e);
        char text[1024];

        if ((v.kind == VERDICT_WRITE) != safe || (v.kind == VERDICT_WRITE) != (v.reason == REASON_WRITE)) {
                describe(e, text, sizeof(text));
                fail_msg("%s (%s), but safe: %d; %s", verdict_kind_to_string(v.kind), verdict_reason_to_string(v.reason), safe, text);
        }
        for (size_t t = 0; t < e->n_targets; t++)
                for (size_t u = 0; u < e->targets[t].n_units; u++) {
                        const struct verdict_unit *unit = &e->targets[t].units[u];

                        if (verdict_writes_unit(&v, t, u) != (safe && unit->differs) ||
                            (verdict_writes_unit(&v, t, u) && unit->erases >= 20)) {
                                describe(e, text, sizeof(text));
                                fail_msg("target %zu unit %zu: %s", t, u, text);
                        }
                }
        if (v.erase_firmware_head != (safe && head_goes(e) && e->firmware_head.content != CONTENT_BLANK)) {
                describe(e, text, sizeof(text));
                fail_msg("head: %s", text);
        }
        *writes += safe;
}

#define FLAGS 16

static bool *flag(struct verdict_evidence *e, unsigned n)
{
        bool *const flags[FLAGS] = {
                &e->automatic, &e->inhibited, &e->board_known, &e->board_contradicted, &e->serial_shared, &e->word_is_stale,
                &e->older_than_ran, &e->word_romfs, &e->word_filesystem, &e->word_replace, &e->silent, &e->begun_unattended,
                &e->targets[0].forbidden, &e->targets[0].image_refused, &e->targets[0].needs_saving, &e->targets[0].fits_bootloader,
        };

        return flags[n];
}

/* Two units: nothing differs; both; the second, begun; the first, worn; the second, while the equal first is worn. */
static const struct verdict_unit patterns[][2] = {
        { { false, 0 }, { false, 0 } },
        { { true, 0 }, { true, 0 } },
        { { false, 1 }, { true, 19 } },
        { { true, 20 }, { false, 3 } },
        { { false, 20 }, { true, 0 } },
};

/* Every combination of the enumerations, with the flags as they are where writing is likeliest, and with each one and each two of them turned over. */
static void product(void **state)
{
        static const enum camera_mode modes[] = { CAMERA_MODE_BOOTLOADER, CAMERA_MODE_ROM_DFU, CAMERA_MODE_RUNTIME };
        uint64_t cases = 0, writes = 0;

        for (int wish = 0; wish < _WISH_MAX; wish++)
        for (size_t mode = 0; mode < ELEMENTSOF(modes); mode++)
        for (int proof = 0; proof < _PROOF_MAX; proof++)
        for (int role = 0; role < _PARTITION_ROLE_MAX; role++)
        for (int content = 0; content < _CONTENT_MAX; content++)
        for (size_t pattern = 0; pattern < ELEMENTSOF(patterns); pattern++) {
                struct verdict_evidence base = {
                        .wish = (enum wish)wish, .mode = modes[mode], .proof = (enum proof)proof,
                        .automatic = true, .board_known = true, .word_romfs = true, .word_filesystem = true, .word_replace = true,
                        .n_targets = 1,
                        .targets[0] = {
                                .role = (enum partition_role)role, .content = (enum content)content, .fits_bootloader = true,
                                .units = patterns[pattern], .n_units = 2,
                        },
                        .firmware_head.content = CONTENT_KNOWN,
                };

                for (unsigned a = 0; a < FLAGS; a++)
                        for (unsigned b = a; b < FLAGS; b++) {
                                struct verdict_evidence e = base;

                                *flag(&e, a) = !*flag(&e, a);
                                if (a != b)
                                        *flag(&e, b) = !*flag(&e, b);
                                compare(&e, &writes);
                                cases++;
                        }
                compare(&base, &writes);
                cases++;
        }
        assert_true(cases > 2000000);
        assert_true(writes > 10000);
}

static uint64_t random_state = UINT64_C(0x2545f4914f6cdd1d);

static unsigned random_below(unsigned n)
{
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        return (unsigned)(random_state >> 33) % n;
}

/* Several targets, heads, and flags at will; each flag mostly as it is in practice, so that writing stays possible. */
static void random_evidence(void **state)
{
        static const unsigned erases[] = { 0, 0, 0, 0, 1, 19, 20 };
        static const bool usual[FLAGS] = { [0] = true, [2] = true, [7] = true, [8] = true, [9] = true, [15] = true };
        uint64_t writes = 0, heads = 0;

        for (unsigned round = 0; round < 1000000; round++) {
                struct verdict_unit units[3][3];
                struct verdict_evidence e = {
                        .wish = (enum wish)random_below(_WISH_MAX),
                        .mode = random_below(2) ? CAMERA_MODE_BOOTLOADER : CAMERA_MODE_ROM_DFU,
                        .proof = (enum proof)random_below(_PROOF_MAX),
                        .n_targets = random_below(4),
                        .firmware_head = {
                                .content = (enum content)random_below(_CONTENT_MAX),
                                .needs_saving = random_below(8) == 0,
                                .erases = erases[random_below(ELEMENTSOF(erases))],
                        },
                };

                for (size_t t = 0; t < e.n_targets; t++) {
                        e.targets[t] = (struct verdict_target){
                                .role = e.mode == CAMERA_MODE_ROM_DFU ? PARTITION_BOOTLOADER : PARTITION_FIRMWARE,
                                .content = (enum content)random_below(_CONTENT_MAX),
                                .forbidden = random_below(16) == 0,
                                .image_refused = random_below(16) == 0,
                                .needs_saving = random_below(16) == 0,
                                .fits_bootloader = random_below(2),
                                .units = units[t],
                                .n_units = random_below(4),
                        };
                        if (random_below(6) == 0)
                                e.targets[t].role = (enum partition_role)random_below(_PARTITION_ROLE_MAX);
                        for (size_t u = 0; u < 3; u++)
                                units[t][u] = (struct verdict_unit){
                                        .differs = e.targets[t].content != CONTENT_WANTED && random_below(2),
                                        .erases = erases[random_below(ELEMENTSOF(erases))],
                                };
                }
                for (unsigned f = 0; f < FLAGS - 4; f++)
                        *flag(&e, f) = random_below(8) == 0 ? !usual[f] : usual[f];
                compare(&e, &writes);
                heads += verdict_give(&e).erase_firmware_head;
        }
        assert_true(writes > 10000);
        assert_true(heads > 100);
}

static void names_and_texts(void **state)
{
        for (int i = 0; i < _VERDICT_KIND_MAX; i++)
                assert_int_equal(verdict_kind_from_string(verdict_kind_to_string((enum verdict_kind)i)), i);
        for (int i = 0; i < _WISH_MAX; i++)
                assert_int_equal(wish_from_string(wish_to_string((enum wish)i)), i);
        for (int i = 0; i < _PROOF_MAX; i++)
                assert_int_equal(proof_from_string(proof_to_string((enum proof)i)), i);
        for (int i = 0; i < _CONTENT_MAX; i++)
                assert_int_equal(content_from_string(content_to_string((enum content)i)), i);
        for (int i = 0; i < _VERDICT_REASON_MAX; i++) {
                assert_int_equal(verdict_reason_from_string(verdict_reason_to_string((enum verdict_reason)i)), i);
                assert_true(strlen(verdict_reason_text((enum verdict_reason)i)) > 20);
        }
        assert_null(verdict_reason_text(_VERDICT_REASON_MAX));
}

static void every_row_has_a_test(void **state);

static const struct CMUnitTest tests[] = {
        { "/verdict/1/contradicted", contradicted, NULL, NULL, NULL },
        { "/verdict/1/board-unknown", board_unknown, NULL, NULL, NULL },
        { "/verdict/1/not-proven", not_proven, NULL, NULL, NULL },
        { "/verdict/1/not-proven: a constant serial is no proof", constant_serial_is_no_proof, NULL, NULL, NULL },
        { "/verdict/1/not-proven: an H7 Plus for an H7, by a digest of several boards", plus_is_not_h7, NULL, NULL, NULL },
        { "/verdict/1/not-proven: a digest names a board, not a camera", digest_names_no_camera, NULL, NULL, NULL },
        { "/verdict/2/stale-word", stale_word, NULL, NULL, NULL },
        { "/verdict/3/not-read", not_read, NULL, NULL, NULL },
        { "/verdict/3/not-read: readings that disagree", readings_disagree, NULL, NULL, NULL },
        { "/verdict/3/not-read: the firmware's head", head_not_read, NULL, NULL, NULL },
        { "/verdict/3/unreadable", unreadable, NULL, NULL, NULL },
        { "/verdict/4/automatic-off", automatic_off, NULL, NULL, NULL },
        { "/verdict/4/write: blank, impossible and interrupted", evidence_for_writing, NULL, NULL, NULL },
        { "/verdict/4/write: only units that differ", only_what_differs, NULL, NULL, NULL },
        { "/verdict/4/unknown-firmware", unknown_firmware, NULL, NULL, NULL },
        { "/verdict/4/unknown-firmware: a person's word replaces it", unknown_firmware_and_a_person, NULL, NULL, NULL },
        { "/verdict/4/unknown-firmware: an open update on its own camera", resume, NULL, NULL, NULL },
        { "/verdict/4/intact", intact, NULL, NULL, NULL },
        { "/verdict/4/intact: an open update that nobody asked for", resume_of_what_nobody_asked_for, NULL, NULL, NULL },
        { "/verdict/4/intact: one core of two", one_core_of_two, NULL, NULL, NULL },
        { "/verdict/4/mixed-set", mixed_set, NULL, NULL, NULL },
        { "/verdict/5/sound-bootloader", sound_bootloader, NULL, NULL, NULL },
        { "/verdict/5/unknown-bootloader", unknown_bootloader, NULL, NULL, NULL },
        { "/verdict/5/write: the head of a firmware that does not fit", head_of_firmware, NULL, NULL, NULL },
        { "/verdict/5/write: the head of an unknown firmware", head_of_unknown_firmware, NULL, NULL, NULL },
        { "/verdict/6/forbidden-partition", forbidden_partition, NULL, NULL, NULL },
        { "/verdict/6/users-work", users_work, NULL, NULL, NULL },
        { "/verdict/7/older", older, NULL, NULL, NULL },
        { "/verdict/8/not-saved", not_saved, NULL, NULL, NULL },
        { "/verdict/9/image-refused", image_refused, NULL, NULL, NULL },
        { "/verdict/9/image-refused: more targets or units than there is room for", too_much, NULL, NULL, NULL },
        { "/verdict/10/worn", worn, NULL, NULL, NULL },
        { "/verdict/11/nothing-to-do", nothing_to_do, NULL, NULL, NULL },
        { "/verdict/14/inhibited", inhibited, NULL, NULL, NULL },
        { "the most careful answer wins, then the lowest number", most_careful_wins, NULL, NULL, NULL },
        { "malformed evidence allows nothing", malformed, NULL, NULL, NULL },
        { "no unit outside is written", units_outside, NULL, NULL, NULL },
        { "the rules as one condition, over a product of evidence", product, NULL, NULL, NULL },
        { "the rules as one condition, over random evidence", random_evidence, NULL, NULL, NULL },
        { "every reason has a name and a sentence", names_and_texts, NULL, NULL, NULL },
        { "every row has a test named after it", every_row_has_a_test, NULL, NULL, NULL },
};

static void every_row_has_a_test(void **state)
{
        const char *name;
        unsigned number, last = 0;
        size_t n;

        for (n = 0; (name = verdict_row(n, &number)); n++) {
                bool found = false;
                char path[64];

                snprintf(path, sizeof(path), "/verdict/%u/%s", number, name);
                for (size_t i = 0; i < ELEMENTSOF(tests); i++)
                        found |= strcmp(tests[i].name, path) == 0;
                if (!found)
                        fail_msg("no test %s", path);
                /* in order, or "the first in the table" is not "the lowest number" */
                assert_true(number >= last);
                last = number;
        }
        assert_true(n > 10);
}

int main(void)
{
        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Diagnosis: each state and each verdict has its code and a sentence that helps,
 * and the longest names are not cut off.
 */

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "core/diagnosis.h"
#include "core/inhibit.h"

/* The longest that there are: SERIAL_MAX, PORT_PATH_MAX and CAMERA_KEY_MAX allow no more. */
#define LONGEST_NAME "P:3-1.4.2.1.3.7.4.2.1.3.7.4.2.1"

static struct diagnosis_facts facts_in(enum camera_state state)
{
        return (struct diagnosis_facts){
                .state = state, .mode = CAMERA_MODE_BOOTLOADER, .port = "3-1.4", .board_name = "OpenMV Cam M7",
                .name = "34303639330D5113001F002A", .automatic = true, .detail = "",
        };
}

static void expect(const struct diagnosis_facts *facts, enum diagnosis_code code, const char *word_in_text,
                   const char *word_in_advice)
{
        struct diagnosis d = diagnosis_of(facts);

        if (d.code != code)
                fail_msg("%s: %s instead of %s", camera_state_to_string(facts->state), diagnosis_code_to_string(d.code),
                         diagnosis_code_to_string(code));
        if (word_in_text && !strstr(d.text, word_in_text))
                fail_msg("\"%s\" does not say \"%s\"", d.text, word_in_text);
        if (word_in_advice && !strstr(d.advice, word_in_advice))
                fail_msg("\"%s\" does not say \"%s\"", d.advice, word_in_advice);
}

static void quiet_states(void **unused)
{
        static const enum camera_state quiet[] = {
                CAMERA_ABSENT, CAMERA_PASSING, CAMERA_BOOTING, CAMERA_RUNNING, CAMERA_OPENING, CAMERA_EXAMINING,
                CAMERA_UPDATING, CAMERA_RELEASING, CAMERA_CONFIRMING, CAMERA_CALLING, CAMERA_RESTARTING,
        };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(quiet); i++) {
                struct diagnosis_facts facts = facts_in(quiet[i]);

                expect(&facts, DIAGNOSIS_NONE, NULL, NULL);
                assert_string_equal(diagnosis_of(&facts).text, "");
        }
}

static void silent(void **unused)
{
        struct diagnosis_facts facts = facts_in(CAMERA_SILENT);

        (void)unused;
        expect(&facts, DIAGNOSIS_SILENT_BOOT, "no running camera", "plug it in again");
        facts.looked = true;
        facts.reason = REASON_INTACT;
        expect(&facts, DIAGNOSIS_INTACT_SILENT, "does not come up", "script");
        facts.reason = REASON_UNKNOWN_FIRMWARE;
        expect(&facts, DIAGNOSIS_UNKNOWN_FIRMWARE, NULL, "camrescue recover 34303639330D5113001F002A --replace-unknown");
        facts.update_not_seen = true;
        expect(&facts, DIAGNOSIS_NOT_SEEN, "written and verified", "Unplug");
}

static void waiting(void **unused)
{
        struct diagnosis_facts facts = facts_in(CAMERA_WAITING);

        (void)unused;
        expect(&facts, DIAGNOSIS_AWAITED, NULL, "Plug it in again");
        facts.restored = true;
        expect(&facts, DIAGNOSIS_RESTORED_JUMPER, "restored", "without the jumper");
        facts.overdue = true;
        expect(&facts, DIAGNOSIS_RESTORED_NOT_BACK, "nothing was seen of it", "without the jumper");
        facts = facts_in(CAMERA_RUNNING);
        facts.update_open = true;
        expect(&facts, DIAGNOSIS_WAITING_FOR_REPLUG, "update", "plug it in again");
}

static void calls(void **unused)
{
        static const struct {
                enum call_trouble trouble;
                const char *text;
        } troubles[] = {
                { CALL_NO_PORT, "no serial port" }, { CALL_NO_ANSWER, "does not answer" }, { CALL_OTHER_CAMERA, "another camera" },
                { CALL_STAYED, "did not" }, { CALL_NOT_BACK, "was not seen" },
        };
        struct diagnosis_facts facts = facts_in(CAMERA_RUNNING);

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(troubles); i++) {
                facts.trouble = troubles[i].trouble;
                facts.update_open = true;
                expect(&facts, DIAGNOSIS_WAITING_FOR_REPLUG, troubles[i].text, "plug it in again");
                facts.update_open = false;              /* cancelled: nothing is wrong with a camera that runs */
                expect(&facts, DIAGNOSIS_NONE, NULL, NULL);
        }
        facts = facts_in(CAMERA_CALLING);
        facts.update_open = true;
        expect(&facts, DIAGNOSIS_NONE, NULL, NULL);
        facts.trouble = CALL_BUSY;
        expect(&facts, DIAGNOSIS_BUSY, "another program has its serial port", "Close that program");
        facts.trouble = CALL_NO_PERMISSION;
        expect(&facts, DIAGNOSIS_NO_PERMISSION, "not accessible", "udev rules");
        facts = facts_in(CAMERA_WAITING);
        facts.trouble = CALL_NOT_BACK;
        expect(&facts, DIAGNOSIS_AWAITED, "told to restart", "plug it in again");
        facts = facts_in(CAMERA_STAYING);
        expect(&facts, DIAGNOSIS_STAYS_IN_BOOTLOADER, "stays in its bootloader", "camrescue update 34303639330D5113001F002A");
}

/* What would go on by itself waits for them; what needs a hand says so all the same. */
/* For somebody's tool: held, or what it takes to come to that. */
static void held(void **unused)
{
        struct diagnosis_facts facts = facts_in(CAMERA_HELD);

        (void)unused;
        expect(&facts, DIAGNOSIS_HELD, "for another program", "camrescue release 34303639330D5113001F002A");
        facts = facts_in(CAMERA_RUNNING);
        facts.hold = true;
        expect(&facts, DIAGNOSIS_WAITING_FOR_REPLUG, "another program waits for it", "plug it in again: it is held");
        facts.trouble = CALL_NO_ANSWER;
        expect(&facts, DIAGNOSIS_WAITING_FOR_REPLUG, "another program waits for it, and its firmware does not answer", "release");
        facts.update_open = true;
        expect(&facts, DIAGNOSIS_WAITING_FOR_REPLUG, "an update waits for it", "the update begins");
        facts = facts_in(CAMERA_WAITING);
        facts.hold = true;
        expect(&facts, DIAGNOSIS_AWAITED, "for another program", "Plug it in");
        facts = facts_in(CAMERA_CALLING);
        facts.hold = true;
        facts.trouble = CALL_NO_PERMISSION;
        expect(&facts, DIAGNOSIS_NO_PERMISSION, "another program waits for it", "it is held then");
}

static void held_back(void **unused)
{
        static const enum camera_state held[] = { CAMERA_INHIBITED, CAMERA_WAITING, CAMERA_BLOCKED, CAMERA_RUNNING };
        char who[INHIBITOR_WHO_MAX], why[INHIBITOR_WHY_MAX];
        struct diagnosis_facts facts;
        struct diagnosis d;

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(held); i++) {
                facts = facts_in(held[i]);
                facts.update_open = true;
                facts.inhibited_by = "OpenMV IDE";
                facts.inhibited_why = "updating the firmware";
                expect(&facts, DIAGNOSIS_INHIBITED, "held back by OpenMV IDE: updating the firmware", "when OpenMV IDE lets go");
        }
        facts = facts_in(CAMERA_RUNNING);
        facts.inhibited_by = facts.inhibited_why = "x";
        expect(&facts, DIAGNOSIS_NONE, NULL, NULL);
        facts.state = CAMERA_NO_FIRMWARE;
        expect(&facts, DIAGNOSIS_NO_FIRMWARE, NULL, "camrescue firmware import");

        memset(who, 'w', sizeof(who) - 1);
        memset(why, 'y', sizeof(why) - 1);
        who[sizeof(who) - 1] = why[sizeof(why) - 1] = '\0';
        facts = facts_in(CAMERA_WAITING);
        facts.inhibited_by = who;
        facts.inhibited_why = why;
        d = diagnosis_of(&facts);
        assert_non_null(strstr(d.text, why));
        assert_int_equal(d.advice[strlen(d.advice) - 1], '.');
}

static void rom(void **unused)
{
        struct diagnosis_facts facts = facts_in(CAMERA_JUMPER);

        (void)unused;
        facts.mode = CAMERA_MODE_ROM_DFU;
        expect(&facts, DIAGNOSIS_JUMPER, "good", "Remove the jumper");
        facts.restored = true;
        expect(&facts, DIAGNOSIS_RESTORED_JUMPER, "restored and verified", "Remove the jumper");
        facts.still_pulled = true;
        expect(&facts, DIAGNOSIS_JUMPER, "came back in ROM DFU mode", "Remove the jumper");
        facts.ran_between = 1;
        expect(&facts, DIAGNOSIS_JUMPER, "it ran once in between", "short at the BOOT pin");
        facts.ran_between = 2;
        expect(&facts, DIAGNOSIS_JUMPER, "it ran twice in between", "Remove the jumper");
        facts.ran_between = 3;
        expect(&facts, DIAGNOSIS_JUMPER, "it ran several times in between", NULL);
        facts = facts_in(CAMERA_UNPROVEN);
        facts.mode = CAMERA_MODE_ROM_DFU;
        facts.board_name = NULL;
        facts.name = "3-1.4";
        expect(&facts, DIAGNOSIS_UNPROVEN, "not touched", "camrescue recover 3-1.4 --board");
        facts.restored = true;
        expect(&facts, DIAGNOSIS_UNPROVEN, "still pulled", "Remove the jumper");
        facts.state = CAMERA_ASKING;
        facts.looked = true;
        facts.reason = REASON_NOT_PROVEN;
        expect(&facts, DIAGNOSIS_ASK_BOARD, NULL, "--board");
        facts.reason = REASON_UNKNOWN_BOOTLOADER;
        expect(&facts, DIAGNOSIS_UNKNOWN_BOOTLOADER, NULL, "camrescue recover 3-1.4");
        facts.reason = REASON_SOUND_BOOTLOADER;
        expect(&facts, DIAGNOSIS_JUMPER, NULL, "jumper");
}

static void hands_needed(void **unused)
{
        struct diagnosis_facts facts = facts_in(CAMERA_BLOCKED);

        (void)unused;
        expect(&facts, DIAGNOSIS_BUSY, "another program", "waits");
        facts.permission = true;
        expect(&facts, DIAGNOSIS_NO_PERMISSION, "not accessible", "udev");
        /* Tried again, it is no less blocked until that went well. */
        facts.state = CAMERA_OPENING;
        expect(&facts, DIAGNOSIS_NONE, NULL, NULL);
        facts.blocked = true;
        expect(&facts, DIAGNOSIS_NO_PERMISSION, "not accessible", "udev");
        facts.permission = false;
        expect(&facts, DIAGNOSIS_BUSY, "another program", "waits");
        facts.no_node = true;
        expect(&facts, DIAGNOSIS_NO_NODE, "not there", "/dev/bus/usb");
        facts = facts_in(CAMERA_NO_FIRMWARE);
        expect(&facts, DIAGNOSIS_NO_FIRMWARE, NULL, "camrescue firmware import");
        facts = facts_in(CAMERA_UNREADABLE);
        expect(&facts, DIAGNOSIS_UNREADABLE, "a device at 3-1.4 does not answer; no software can reach it", "cable");
        expect(&facts, DIAGNOSIS_UNREADABLE, NULL, "If it is the same in ROM DFU mode, the camera's USB lines are damaged");
        expect(&facts, DIAGNOSIS_UNREADABLE, NULL, "camrescue forget 3-1.4");
        facts.unanswered = 3;
        expect(&facts, DIAGNOSIS_UNREADABLE, "(3 times in a row)", NULL);
        facts.may_be = "bench 7 (OpenMV Cam M7)";
        expect(&facts, DIAGNOSIS_UNREADABLE, "This may be bench 7 (OpenMV Cam M7), which was last seen here", NULL);
        facts = facts_in(CAMERA_LEFT_ALONE);
        facts.mode = CAMERA_MODE_VCP_BOOTLOADER;
        expect(&facts, DIAGNOSIS_OLD_BOOTLOADER, "serial bootloader", NULL);
        facts.mode = CAMERA_MODE_OTHER;
        expect(&facts, DIAGNOSIS_NOT_HANDLED, NULL, NULL);
        facts = facts_in(CAMERA_JUMPER);
        facts.peeked = true;
        expect(&facts, DIAGNOSIS_JUMPER, "no more was looked at", "camrescue recover");
        facts = facts_in(CAMERA_FAILED);
        expect(&facts, DIAGNOSIS_IGNORES_DETACH, "does not leave", "Unplug");
        facts.failure = FAILURE_DEVICE;
        facts.detail = "its flash could not be written (errWRITE)";
        expect(&facts, DIAGNOSIS_FAILED, "errWRITE", "Unplug");
        facts.update_failed = true;
        expect(&facts, DIAGNOSIS_FAILED, "errWRITE", "camrescue retry");
        facts.failure = FAILURE_STATE_DIRECTORY;
        expect(&facts, DIAGNOSIS_STATE_DIRECTORY, NULL, "Make room");
        facts = facts_in(CAMERA_ASKING);
        expect(&facts, DIAGNOSIS_REFUSED, "stopped", "camrescue recover");
        facts.looked = true;
        facts.reason = REASON_AUTOMATIC_OFF;
        facts.automatic = false;
        expect(&facts, DIAGNOSIS_AUTOMATIC_OFF, NULL, "camrescue recover");
}

/* Whatever the verdict says, a person gets a sentence and knows what to do. */
static void every_reason(void **unused)
{
        (void)unused;
        for (int r = 0; r < _VERDICT_REASON_MAX; r++) {
                struct diagnosis_facts facts = facts_in(CAMERA_ASKING);
                struct diagnosis d;

                facts.looked = true;
                facts.reason = (enum verdict_reason)r;
                d = diagnosis_of(&facts);
                assert_int_not_equal(d.code, DIAGNOSIS_NONE);
                assert_true(strlen(d.text) > 10);
                assert_true(strlen(d.advice) > 10);
        }
}

/* A sentence ends in a full stop or is a clause; one that was cut is as long as its room. */
static void nothing_is_cut(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int r = 0; r < _VERDICT_REASON_MAX; r++)
                        for (unsigned bits = 0; bits < 256; bits++) {
                                struct diagnosis_facts facts = facts_in((enum camera_state)s);
                                struct diagnosis d;

                                facts.name = LONGEST_NAME;
                                facts.port = LONGEST_NAME + 2;
                                facts.unanswered = UINT_MAX;
                                facts.may_be = bits & 1 ? "123456789 123456789 123456789 123456789 123456789 "
                                                          "123456789 123456789 123456789 123456789 12345" : "";
                                facts.reason = (enum verdict_reason)r;
                                facts.looked = bits & 1;
                                facts.update_open = bits & 2;
                                facts.update_not_seen = bits & 4;
                                facts.restored = bits & 8;
                                facts.permission = bits & 16;
                                facts.hold = bits & 128;
                                facts.mode = bits & 32 ? CAMERA_MODE_ROM_DFU : CAMERA_MODE_VCP_BOOTLOADER;
                                /* The longest of camera.detail. */
                                facts.detail = bits & 64 ? "what was written does not read back equal, even after writing it again: "
                                                           "the flash is worn out or not erased (dual-bank option bytes?)" : "";
                                d = diagnosis_of(&facts);
                                if (strlen(d.text) + 1 >= sizeof(d.text) || strlen(d.advice) + 1 >= sizeof(d.advice))
                                        fail_msg("cut: \"%s\" / \"%s\"", d.text, d.advice);
                                assert_int_equal(d.code == DIAGNOSIS_NONE, d.text[0] == '\0');
                                assert_int_equal(d.code == DIAGNOSIS_NONE, d.advice[0] == '\0');
                        }
}

static void names(void **unused)
{
        (void)unused;
        for (int i = 0; i < _DIAGNOSIS_CODE_MAX; i++) {
                assert_non_null(diagnosis_code_to_string((enum diagnosis_code)i));
                assert_int_equal(diagnosis_code_from_string(diagnosis_code_to_string((enum diagnosis_code)i)), i);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/diagnosis/nothing-to-say-while-it-goes-well", quiet_states, NULL, NULL, NULL },
                { "/diagnosis/silent", silent, NULL, NULL, NULL },
                { "/diagnosis/waiting", waiting, NULL, NULL, NULL },
                { "/diagnosis/calls", calls, NULL, NULL, NULL },
                { "/diagnosis/held", held, NULL, NULL, NULL },
                { "/diagnosis/held-back", held_back, NULL, NULL, NULL },
                { "/diagnosis/rom", rom, NULL, NULL, NULL },
                { "/diagnosis/hands-needed", hands_needed, NULL, NULL, NULL },
                { "/diagnosis/every-reason-has-a-sentence", every_reason, NULL, NULL, NULL },
                { "/diagnosis/nothing-is-cut", nothing_is_cut, NULL, NULL, NULL },
                { "/diagnosis/names", names, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

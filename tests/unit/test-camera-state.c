/* SPDX-License-Identifier: MIT */
/*
 * The state table: every (state, event) pair against a matrix written here by
 * hand, properties that must hold whatever the table says, and the table that
 * docs/architecture.md prints.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "core/camera-state.h"

/* One letter per state and effect, so that the whole matrix can be seen at once. */
static const char state_letters[_CAMERA_STATE_MAX + 1] = "ASWPBTRGDOKEQULCNJXZYFHM";
static const char effect_letters[_CAMERA_EFFECT_MAX + 1] = "-ocrltsnbvapgdf";

#define FIRST_COLUMN EVENT_GONE
#define N_COLUMNS (_CAMERA_EVENT_MAX - FIRST_COLUMN)

/* What comes after the sightings, which mean the same in every state; "..": stays, nothing happens. */
static const char *const matrix[_CAMERA_STATE_MAX] = {
        /*                       gone exc  dead pin  busy opf  wri  rel  hold nofw soun romd upd  upf  stop req  fwad fin  call cald calf inh  stay kept */
        [CAMERA_ABSENT]      = " Ac   Ac   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   W-   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_SILENT]      = " S-   A-   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   W-   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_WAITING]     = " W-   W-   Wv   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   A-   ..   ..   ..   ..   ..   ..",
        [CAMERA_PASSING]     = " Br   Ac   T-   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_BOOTING]     = " B-   A-   Ss   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_STAYING]     = " Ac   Ac   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_RUNNING]     = " Ac   Ac   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Gg   ..   ..   ..   ..   ..",
        [CAMERA_CALLING]     = " Wf   Wf   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   R-   ..   Dd   Rf   R-   ..   ..",
        [CAMERA_RESTARTING]  = " Dd   Wf   Wf   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Rf   ..   ..   ..",
        [CAMERA_OPENING]     = " Wc   Wc   ..   E-   Kt   Ft   ..   ..   ..   ..   ..   ..   ..   ..   Qc   Oo   ..   ..   ..   ..   ..   Hc   ..   Mc",
        [CAMERA_BLOCKED]     = " Wc   Wc   Oo   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Hc   ..   ..",
        [CAMERA_EXAMINING]   = " Wc   Wc   ..   ..   ..   ..   U-   Ll   Qc   Nc   Jc   ..   Cl   Ft   Qc   Oo   ..   ..   ..   ..   ..   Hc   ..   Mc",
        [CAMERA_ASKING]      = " Wc   Wc   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_UPDATING]    = " Wc   Wc   ..   ..   ..   ..   ..   ..   Qc   ..   ..   Jc   Cl   Ft   Qc   ..   ..   ..   ..   ..   ..   Hc   E-   ..",
        [CAMERA_RELEASING]   = " Br   Ac   Fc   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_CONFIRMING]  = " Cr   Cr   Sn   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_NO_FIRMWARE] = " Wc   Wc   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   Oo   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_JUMPER]      = " Wb   Wb   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_UNPROVEN]    = " Ac   Ac   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_LEFT_ALONE]  = " Ac   Ac   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_UNREADABLE]  = " Ac   Ac   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_FAILED]      = " Wc   Wc   Oo   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_INHIBITED]   = " Wc   Wc   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..",
        [CAMERA_HELD]        = " Wc   Wc   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   ..   Oo   ..   T-   ..   ..   ..   ..   ..   ..",
};

static bool is_attached(enum camera_state state)
{
        switch (state) {
        case CAMERA_ABSENT:
        case CAMERA_SILENT:
        case CAMERA_WAITING:
        case CAMERA_BOOTING:
                return false;
        case CAMERA_CONFIRMING:         /* first attached, then awaited */
        case CAMERA_RESTARTING:         /* likewise */
        case CAMERA_PASSING:
        case CAMERA_STAYING:
        case CAMERA_RUNNING:
        case CAMERA_CALLING:
        case CAMERA_OPENING:
        case CAMERA_BLOCKED:
        case CAMERA_EXAMINING:
        case CAMERA_ASKING:
        case CAMERA_UPDATING:
        case CAMERA_RELEASING:
        case CAMERA_NO_FIRMWARE:
        case CAMERA_JUMPER:
        case CAMERA_UNPROVEN:
        case CAMERA_LEFT_ALONE:
        case CAMERA_UNREADABLE:
        case CAMERA_FAILED:
        case CAMERA_INHIBITED:
        case CAMERA_HELD:
        case _CAMERA_STATE_MAX:
                return true;
        }
        return true;
}

static bool arms_timer(enum camera_effect effect)
{
        return effect == EFFECT_AWAIT_RUNTIME || effect == EFFECT_AWAIT_LEAVING || effect == EFFECT_RETRY_LATER ||
               effect == EFFECT_AWAIT_RETURN || effect == EFFECT_PASS || effect == EFFECT_AWAIT_BOOTLOADER;
}

static void check(enum camera_state state, enum camera_event event, enum camera_state next, enum camera_effect effect)
{
        struct transition t = camera_state_next(state, event);

        if (t.next != next || t.effect != effect)
                fail_msg("%s + %s: %s, %s; expected %s, %s", camera_state_to_string(state), camera_event_to_string(event),
                         camera_state_to_string(t.next), camera_effect_to_string(t.effect),
                         camera_state_to_string(next), camera_effect_to_string(effect));
}

static void every_pair(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++) {
                const char *p = matrix[s];

                assert_non_null(p);
                for (int column = 0; column < N_COLUMNS; column++) {
                        char cell[3] = {};
                        int n = 0;

                        assert_int_equal(sscanf(p, " %2s%n", cell, &n), 1);
                        p += n;
                        if (strcmp(cell, "..") == 0)
                                check((enum camera_state)s, (enum camera_event)(FIRST_COLUMN + column), (enum camera_state)s,
                                      EFFECT_NONE);
                        else {
                                const char *next = strchr(state_letters, cell[0]), *effect = strchr(effect_letters, cell[1]);

                                assert_non_null(next);
                                assert_non_null(effect);
                                check((enum camera_state)s, (enum camera_event)(FIRST_COLUMN + column),
                                      (enum camera_state)(next - state_letters), (enum camera_effect)(effect - effect_letters));
                        }
                }
                assert_string_equal(p + strspn(p, " "), "");
        }
}

static void sightings(void **unused)
{
        (void)unused;
        assert_int_equal(EVENT_GONE, 7);        /* the sightings are the events before it */
        for (int s = 0; s < _CAMERA_STATE_MAX; s++) {
                enum camera_state state = (enum camera_state)s;

                check(state, EVENT_SEEN_RUNTIME, CAMERA_RUNNING, EFFECT_ARRIVED);
                check(state, EVENT_SEEN_BOOTLOADER, CAMERA_PASSING, EFFECT_PASS);
                check(state, EVENT_SEEN_WANTED, CAMERA_OPENING, EFFECT_OPEN);
                check(state, EVENT_SEEN_ROM, CAMERA_OPENING, EFFECT_OPEN);
                check(state, EVENT_SEEN_ROM_UNPROVEN, CAMERA_UNPROVEN, EFFECT_CLOSE);
                check(state, EVENT_SEEN_OTHER, CAMERA_LEFT_ALONE, EFFECT_CLOSE);
                check(state, EVENT_SEEN_UNREADABLE, CAMERA_UNREADABLE, EFFECT_CLOSE);
        }
}

static void gone_is_gone(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = EVENT_GONE; e <= EVENT_GONE_EXCUSED; e++) {
                        struct transition t = camera_state_next((enum camera_state)s, (enum camera_event)e);

                        if (t.next != CAMERA_CONFIRMING && t.next != CAMERA_RESTARTING && is_attached(t.next))
                                fail_msg("%s + %s leaves it in %s", camera_state_to_string((enum camera_state)s),
                                         camera_event_to_string((enum camera_event)e), camera_state_to_string(t.next));
                        /* Something is awaited, with a deadline, or nothing is. */
                        if (t.next == CAMERA_CONFIRMING || (t.next == CAMERA_BOOTING && s != CAMERA_BOOTING))
                                assert_int_equal(t.effect, EFFECT_AWAIT_RUNTIME);
                }
}

/* A silent boot may only be concluded from a bootloader that left with nobody holding it. */
static void silence_is_not_invented(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = 0; e < _CAMERA_EVENT_MAX; e++) {
                        struct transition t = camera_state_next((enum camera_state)s, (enum camera_event)e);

                        if (t.next == CAMERA_SILENT && s != CAMERA_SILENT)
                                assert_true(e == EVENT_DEADLINE && (s == CAMERA_BOOTING || s == CAMERA_CONFIRMING));
                        if (t.next == CAMERA_BOOTING && s != CAMERA_BOOTING)
                                assert_true(e == EVENT_GONE && (s == CAMERA_PASSING || s == CAMERA_RELEASING));
                        if (e == EVENT_GONE_EXCUSED)
                                assert_false(t.next == CAMERA_SILENT || t.next == CAMERA_BOOTING);
                }
}

static void sessions_are_closed(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = 0; e < _CAMERA_EVENT_MAX; e++) {
                        enum camera_state state = (enum camera_state)s;
                        struct transition t = camera_state_next(state, (enum camera_event)e);

                        /* Who leaves the states of a session says what becomes of the session: closed, replaced by a new one, or
                         * ended by itself (then a retry, a suspicion). */
                        if (camera_state_has_session(state) && !camera_state_has_session(t.next) && t.effect == EFFECT_NONE)
                                fail_msg("%s + %s: the session stays open in %s", camera_state_to_string(state),
                                         camera_event_to_string((enum camera_event)e), camera_state_to_string(t.next));
                        /* One is begun by "open" and nothing else. */
                        if (!camera_state_has_session(state) && camera_state_has_session(t.next))
                                assert_int_equal(t.effect, EFFECT_OPEN);
                        if (t.effect == EFFECT_OPEN)
                                assert_int_equal(t.next, CAMERA_OPENING);
                }
}

static void every_timer_ends(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = 0; e < _CAMERA_EVENT_MAX; e++) {
                        struct transition t = camera_state_next((enum camera_state)s, (enum camera_event)e), after;

                        if (!arms_timer(t.effect))
                                continue;
                        after = camera_state_next(t.next, EVENT_DEADLINE);
                        if (after.next == t.next && after.effect == EFFECT_NONE)
                                fail_msg("%s waits for a deadline that does nothing", camera_state_to_string(t.next));
                        /* And whatever is not a waiting of its own does not pass the deadline on. */
                        assert_false(arms_timer(after.effect));
                }
}

/* Nobody is called but who runs, and who is being called has a way out of it whatever happens. */
static void calls(void **unused)
{
        (void)unused;
        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = 0; e < _CAMERA_EVENT_MAX; e++) {
                        struct transition t = camera_state_next((enum camera_state)s, (enum camera_event)e);

                        if (t.effect == EFFECT_CALL)
                                assert_true(s == CAMERA_RUNNING && e == EVENT_CALL && t.next == CAMERA_CALLING);
                        if (t.next == CAMERA_CALLING && s != CAMERA_CALLING)
                                assert_int_equal(t.effect, EFFECT_CALL);
                        if (t.next == CAMERA_RESTARTING && s != CAMERA_RESTARTING)
                                assert_true(s == CAMERA_CALLING && t.effect == EFFECT_AWAIT_BOOTLOADER);
                }
        assert_int_equal(camera_state_next(CAMERA_CALLING, EVENT_CALL_FAILED).next, CAMERA_RUNNING);
        assert_int_equal(camera_state_next(CAMERA_RESTARTING, EVENT_CALL_FAILED).next, CAMERA_RUNNING);
        assert_int_equal(camera_state_next(CAMERA_RESTARTING, EVENT_DEADLINE).next, CAMERA_WAITING);
        assert_int_equal(camera_state_next(CAMERA_RESTARTING, EVENT_SEEN_WANTED).next, CAMERA_OPENING);
}

static void nothing_is_a_trap(void **unused)
{
        (void)unused;
        /* From each state a camera comes back to "running" and to "absent" by what a person can do. */
        for (int s = 0; s < _CAMERA_STATE_MAX; s++) {
                enum camera_state state = (enum camera_state)s;

                assert_int_equal(camera_state_next(state, EVENT_SEEN_RUNTIME).next, CAMERA_RUNNING);
                state = camera_state_next(state, EVENT_SEEN_RUNTIME).next;
                assert_int_equal(camera_state_next(state, EVENT_GONE).next, CAMERA_ABSENT);
                /* A cancelled wish does not keep an absent camera waiting. */
                state = camera_state_next((enum camera_state)s, EVENT_GONE).next;
                if (state == CAMERA_WAITING)
                        assert_int_equal(camera_state_next(state, EVENT_FINISHED).next, CAMERA_ABSENT);
        }
}

static void names(void **unused)
{
        (void)unused;
        for (int i = 0; i < _CAMERA_STATE_MAX; i++) {
                assert_non_null(camera_state_to_string((enum camera_state)i));
                assert_int_equal(camera_state_from_string(camera_state_to_string((enum camera_state)i)), i);
        }
        for (int i = 0; i < _CAMERA_EVENT_MAX; i++) {
                assert_non_null(camera_event_to_string((enum camera_event)i));
                assert_int_equal(camera_event_from_string(camera_event_to_string((enum camera_event)i)), i);
        }
        for (int i = 0; i < _CAMERA_EFFECT_MAX; i++) {
                assert_non_null(camera_effect_to_string((enum camera_effect)i));
                assert_int_equal(camera_effect_from_string(camera_effect_to_string((enum camera_effect)i)), i);
        }
        assert_null(camera_state_to_string(_CAMERA_STATE_MAX));
        assert_int_equal(camera_event_from_string("no-such-event"), -EINVAL);
}

/* --- the document --- */

/* "| passing | gone | booting | await-runtime |"; "any" state: those without a row of their own. */
static bool parse_row(char *line, char cells[4][32])
{
        char *save = NULL, *cell = line;
        int n = 0;

        if (line[0] != '|')
                return false;
        for (cell = strtok_r(line, "|\n", &save); cell; cell = strtok_r(NULL, "|\n", &save)) {
                if (n == 4)
                        return false;
                if (sscanf(cell, " %31s", cells[n++]) != 1)
                        return false;
        }
        return n == 4;
}

static void document(void **unused)
{
        const char *source = getenv("CAMRESCUE_SRCDIR");
        struct transition said[_CAMERA_STATE_MAX][_CAMERA_EVENT_MAX];
        bool own[_CAMERA_STATE_MAX][_CAMERA_EVENT_MAX] = {};
        _cleanup_fclose_ FILE *file = NULL;
        char path[4096], line[512];
        bool inside = false;
        int rows = 0;

        (void)unused;
        snprintf(path, sizeof(path), "%s/docs/architecture.md", source ?: ".");
        file = fopen(path, "re");
        if (!file)
                fail_msg("cannot open %s", path);

        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = 0; e < _CAMERA_EVENT_MAX; e++)
                        said[s][e] = (struct transition){ (enum camera_state)s, EFFECT_NONE };

        while (fgets(line, sizeof(line), file)) {
                char cells[4][32];
                int state, event, next, effect;

                if (strncmp(line, "## ", 3) == 0)
                        inside = strcmp(line, "## States\n") == 0;
                if (!inside || !parse_row(line, cells) || strcmp(cells[0], "state") == 0 || cells[0][0] == '-')
                        continue;
                rows++;
                state = camera_state_from_string(cells[0]);
                event = camera_event_from_string(cells[1]);
                next = camera_state_from_string(cells[2]);
                effect = camera_effect_from_string(cells[3]);
                if ((state < 0 && strcmp(cells[0], "any") != 0) || event < 0 || next < 0 || effect < 0)
                        fail_msg("docs/architecture.md: no such row: %s | %s | %s | %s", cells[0], cells[1], cells[2], cells[3]);
                for (int s = 0; s < _CAMERA_STATE_MAX; s++) {
                        if (state >= 0 ? s != state : own[s][event])
                                continue;
                        if (state >= 0) {
                                if (own[s][event])
                                        fail_msg("docs/architecture.md: %s + %s stands there twice", cells[0], cells[1]);
                                own[s][event] = true;
                        }
                        said[s][event] = (struct transition){ (enum camera_state)next, (enum camera_effect)effect };
                }
        }
        assert_true(rows > 40);

        for (int s = 0; s < _CAMERA_STATE_MAX; s++)
                for (int e = 0; e < _CAMERA_EVENT_MAX; e++) {
                        struct transition t = camera_state_next((enum camera_state)s, (enum camera_event)e);

                        if (t.next != said[s][e].next || t.effect != said[s][e].effect)
                                fail_msg("docs/architecture.md, section States: %s + %s is %s, %s there, and %s, %s in the program",
                                         camera_state_to_string((enum camera_state)s), camera_event_to_string((enum camera_event)e),
                                         camera_state_to_string(said[s][e].next), camera_effect_to_string(said[s][e].effect),
                                         camera_state_to_string(t.next), camera_effect_to_string(t.effect));
                }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/camera-state/every-pair", every_pair, NULL, NULL, NULL },
                { "/camera-state/a-sighting-means-the-same-in-every-state", sightings, NULL, NULL, NULL },
                { "/camera-state/gone-is-gone", gone_is_gone, NULL, NULL, NULL },
                { "/camera-state/silence-is-not-invented", silence_is_not_invented, NULL, NULL, NULL },
                { "/camera-state/sessions-are-closed", sessions_are_closed, NULL, NULL, NULL },
                { "/camera-state/every-timer-ends", every_timer_ends, NULL, NULL, NULL },
                { "/camera-state/calls", calls, NULL, NULL, NULL },
                { "/camera-state/nothing-is-a-trap", nothing_is_a_trap, NULL, NULL, NULL },
                { "/camera-state/names", names, NULL, NULL, NULL },
                { "/camera-state/the-document-says-what-the-program-does", document, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

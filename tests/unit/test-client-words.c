/* SPDX-License-Identifier: MIT */
/*
 * The words that the client takes in conditions are those that the daemon says:
 * no one is missing, which nobody could wait for, and none is one too many,
 * which would be waited for in vain.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/words.h"
#include "core/camera-state.h"
#include "core/diagnosis.h"
#include "core/identity.h"
#include "core/update.h"

/* Of the daemon, by number; NULL behind the last. */
static const char *state_name(int i)
{
        return camera_state_to_string((enum camera_state)i);
}

static const char *mode_name(int i)
{
        return camera_mode_to_string((enum camera_mode)i);
}

static const char *diagnosis_name(int i)
{
        return diagnosis_code_to_string((enum diagnosis_code)i);
}

static const char *result_name(int i)
{
        return update_result_to_string((enum update_result)i);
}

static void assert_same(const char *const *words, size_t n_own, const char *(*name)(int i))
{
        size_t n_words = 0, n_names = 0;

        while (words[n_words])
                n_words++;
        for (int i = 0; name(i); i++) {
                if (*name(i) == '\0')           /* nothing is wrong: "diagnosis=" */
                        continue;
                n_names++;
                if (!words_have(words, name(i)))
                        fail_msg("the client does not know \"%s\"", name(i));
        }
        assert_int_equal(n_words, n_names + n_own);
}

static void words_are_those_of_the_daemon(void **state)
{
        assert_same(words_states, 0, state_name);
        assert_same(words_modes, 0, mode_name);
        assert_same(words_diagnoses, 0, diagnosis_name);
        assert_same(words_updates, 1, result_name);
        assert_true(words_have(words_updates, "ended"));
}

static void others_are_none(void **state)
{
        assert_false(words_have(words_states, "runing"));
        assert_false(words_have(words_states, "run"));
        assert_false(words_have(words_states, ""));
        assert_false(words_have(words_diagnoses, ""));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(words_are_those_of_the_daemon),
                cmocka_unit_test(others_are_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

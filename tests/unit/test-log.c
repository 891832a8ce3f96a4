/* SPDX-License-Identifier: MIT */

/*
 * Log: what a line looks like on stderr, which fields go to the journal, and
 * which of the two is chosen.  sd_journal_sendv() is wrapped by the linker, and
 * stderr is a socket that keeps the boundaries of each write(2).
 */

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cmocka.h>

#include "base/cleanup.h"

/* --- the journal, as the wrapped function sees it --- */

static char fields[16][4096];
static int n_fields, journal_result;

int __wrap_sd_journal_sendv(const struct iovec *iov, int n);
int __wrap_sd_journal_sendv(const struct iovec *iov, int n)
{
        assert_in_range(n, 1, (int)ELEMENTSOF(fields));
        for (n_fields = 0; n_fields < n; n_fields++) {
                assert_in_range(iov[n_fields].iov_len, 1, sizeof(fields[0]) - 1);
                memcpy(fields[n_fields], iov[n_fields].iov_base, iov[n_fields].iov_len);
                fields[n_fields][iov[n_fields].iov_len] = 0;
        }
        errno = EBADF;                  /* whoever calls log_error() must not see it */
        return journal_result;
}

static const char *field(const char *name)
{
        const char *value = NULL;

        for (int i = 0; i < n_fields; i++)
                if (strncmp(fields[i], name, strlen(name)) == 0 && fields[i][strlen(name)] == '=') {
                        assert_null(value);     /* each field once */
                        value = fields[i] + strlen(name) + 1;
                }
        return value;
}

/* --- stderr --- */

static int real_stderr = -1, lines_fd = -1;

static int stderr_capture(void **state)
{
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
                return -1;
        real_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        lines_fd = pair[0];
        (void)dup2(pair[1], STDERR_FILENO);
        (void)close(pair[1]);
        n_fields = 0;
        journal_result = 0;
        log_init(LOG_TARGET_STDERR, LOG_DEBUG);
        return 0;
}

static int stderr_restore(void **state)
{
        (void)dup2(real_stderr, STDERR_FILENO);
        (void)close(real_stderr);
        (void)close(lines_fd);
        (void)unsetenv("JOURNAL_STREAM");
        log_set_sink(NULL, NULL);
        return 0;
}

/* What one write(2) brought; NULL: none. */
static const char *next_line(void)
{
        static char line[8192];
        ssize_t n = recv(lines_fd, line, sizeof(line) - 1, 0);

        if (n < 0)
                return NULL;
        line[n] = 0;
        return line;
}

static void assert_line_matches(const char *pattern)
{
        const char *line = next_line();
        regex_t regex;

        assert_non_null(line);
        assert_int_equal(regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB), 0);
        if (regexec(&regex, line, 0, NULL, 0) != 0)
                fail_msg("\"%s\" does not match \"%s\"", line, pattern);
        regfree(&regex);
}

#define TIME "^[0-2][0-9]:[0-5][0-9]:[0-6][0-9]\\.[0-9]{3} "

static void a_line_tells_time_level_port(void **state)
{
        const struct log_subject subject = { .camera = "0123", .port = "3-1.2", .update = "u7" };

        log_about(LOG_WARNING, &subject, "%d of %s", 3, "them");
        assert_line_matches(TIME "W 3-1\\.2: 3 of them\n$");
        log_info("Ready.");
        assert_line_matches(TIME "I Ready\\.\n$");
        log_error("a");
        assert_line_matches(TIME "E a\n$");
        log_notice("b");
        assert_line_matches(TIME "N b\n$");
        log_debug("c");
        assert_line_matches(TIME "D c\n$");
        assert_null(next_line());
}

static void a_line_without_port_names_the_camera_or_the_update(void **state)
{
        const struct log_subject camera = { .camera = "0123", .update = "u7" }, update = { .update = "u7" }, nothing = {};

        log_about(LOG_INFO, &camera, "x");
        assert_line_matches("I 0123: x\n$");
        log_about(LOG_INFO, &update, "x");
        assert_line_matches("I u7: x\n$");
        log_about(LOG_INFO, &nothing, "x");
        assert_line_matches("I x\n$");
}

static int evaluated(int *count)
{
        return ++*count;
}

static void above_the_level_nothing_is_evaluated(void **state)
{
        int count = 0;

        log_init(LOG_TARGET_STDERR, LOG_NOTICE);
        assert_int_equal(log_level(), LOG_NOTICE);
        log_info("%d", evaluated(&count));
        assert_int_equal(count, 0);
        log_write(LOG_INFO, NULL, "f.c", 1, "f", "x");
        assert_null(next_line());
        log_notice("%d", evaluated(&count));
        assert_int_equal(count, 1);
        assert_line_matches("N 1\n$");
}

static void a_message_stays_one_line(void **state)
{
        log_info("serial \"%s\"", "A\nB\x1b[31m\x7f\tC\xc3\xa9");
        assert_line_matches("I serial \"A\\?B\\?\\[31m\\?\\?C\xc3\xa9\"\n$");
        assert_null(next_line());
}

static void a_long_message_is_cut_visibly(void **state)
{
        static char longer[5000];
        const char *line;

        memset(longer, 'x', sizeof(longer) - 1);
        log_info("%s", longer);
        line = next_line();
        assert_non_null(line);
        assert_true(strlen(line) > 2000 && strlen(line) < 2200);
        assert_string_equal(line + strlen(line) - 6, "xx...\n");
        assert_null(next_line());
}

static void errno_is_kept_and_can_be_printed(void **state)
{
        errno = ENOSPC;
        log_info("Cannot save: %m");
        assert_int_equal(errno, ENOSPC);
        assert_line_matches("I Cannot save: No space left on device\n$");

        log_init(LOG_TARGET_JOURNAL, LOG_INFO);
        log_info("Cannot save: %m");
        assert_int_equal(errno, ENOSPC);
        assert_string_equal(field("MESSAGE"), "Cannot save: No space left on device");
}

static void the_journal_gets_fields(void **state)
{
        const struct log_subject subject = { .camera = "0123", .port = "3-1.2", .update = "u7" };

        log_init(LOG_TARGET_JOURNAL, LOG_INFO);
        log_about(LOG_WARNING, &subject, "%s", "it is");
        assert_string_equal(field("MESSAGE"), "it is");
        assert_string_equal(field("PRIORITY"), "4");
        assert_string_equal(field("SYSLOG_IDENTIFIER"), "camrescued");
        assert_string_equal(field("CAMRESCUE_CAMERA"), "0123");
        assert_string_equal(field("CAMRESCUE_PORT"), "3-1.2");
        assert_string_equal(field("CAMRESCUE_UPDATE"), "u7");
        assert_string_equal(field("CODE_FUNC"), __func__);
        assert_int_equal(atoi(field("CODE_LINE")), __LINE__ - 8);
        /* Not where it was built. */
        assert_string_equal(field("CODE_FILE"), "tests/unit/test-log.c");

        log_info("Ready.");
        assert_string_equal(field("MESSAGE"), "Ready.");
        assert_string_equal(field("PRIORITY"), "6");
        assert_null(field("CAMRESCUE_CAMERA"));
        assert_null(field("CAMRESCUE_PORT"));
        assert_null(field("CAMRESCUE_UPDATE"));
        assert_null(next_line());
}

static void what_does_not_fit_the_journal_leaves_the_message(void **state)
{
        static char longer[5000];
        const struct log_subject subject = { .camera = "0123" };

        memset(longer, 'x', sizeof(longer) - 1);
        log_init(LOG_TARGET_JOURNAL, LOG_INFO);
        log_write(LOG_INFO, &subject, longer, 1, "f", "%s", longer);
        assert_string_equal(field("CAMRESCUE_CAMERA"), "0123");
        assert_non_null(field("MESSAGE"));
        assert_int_equal(strlen(field("MESSAGE")), 2047);
        assert_null(field("CODE_FILE"));
}

static void a_journal_that_refuses_is_replaced_by_stderr(void **state)
{
        log_init(LOG_TARGET_JOURNAL, LOG_INFO);
        journal_result = -EPIPE;
        log_info("Ready.");
        assert_line_matches(TIME "I Ready\\.\n$");
}

static void set_journal_stream(uintmax_t device_difference, const char *tail)
{
        char stream[64];
        struct stat st;

        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        (void)snprintf(stream, sizeof(stream), "%ju:%ju%s", (uintmax_t)st.st_dev + device_difference,
                       (uintmax_t)st.st_ino, tail);
        assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
}

static void auto_takes_the_journal_if_stderr_leads_there(void **state)
{
        set_journal_stream(0, "");
        log_init(LOG_TARGET_AUTO, LOG_INFO);
        log_info("Ready.");
        assert_string_equal(field("MESSAGE"), "Ready.");
        assert_null(next_line());
}

static void auto_takes_stderr_otherwise(void **state)
{
        static const char *const garbage[] = { "", "12", "12:", ":", "a:b" };

        log_init(LOG_TARGET_AUTO, LOG_INFO);
        log_info("Ready.");
        assert_line_matches("I Ready\\.\n$");
        /* Inherited from a parent whose stderr it was; or no such thing at all. */
        for (size_t i = 0; i < ELEMENTSOF(garbage) + 2; i++) {
                if (i < ELEMENTSOF(garbage))
                        assert_int_equal(setenv("JOURNAL_STREAM", garbage[i], 1), 0);
                else
                        set_journal_stream(i == ELEMENTSOF(garbage), i == ELEMENTSOF(garbage) ? "" : "x");
                log_init(LOG_TARGET_AUTO, LOG_INFO);
                log_info("Ready.");
                assert_line_matches("I Ready\\.\n$");
        }
        assert_int_equal(n_fields, 0);
}

static void sink(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        *(int *)userdata = level;
        assert_string_equal(subject->port, "3-1");
        assert_string_equal(line, "7 of 9");
}

static void a_sink_gets_the_bare_message(void **state)
{
        const struct log_subject subject = { .port = "3-1" };
        int level = -1;

        log_set_sink(sink, &level);
        log_about(LOG_NOTICE, &subject, "%d of %d", 7, 9);
        assert_int_equal(level, LOG_NOTICE);
        assert_null(next_line());
        log_set_sink(NULL, NULL);
        log_notice("on stderr again");
        assert_line_matches("N on stderr again\n$");
}

#define test(f) cmocka_unit_test_setup_teardown(f, stderr_capture, stderr_restore)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test(a_line_tells_time_level_port),
                test(a_line_without_port_names_the_camera_or_the_update),
                test(above_the_level_nothing_is_evaluated),
                test(a_message_stays_one_line),
                test(a_long_message_is_cut_visibly),
                test(errno_is_kept_and_can_be_printed),
                test(the_journal_gets_fields),
                test(what_does_not_fit_the_journal_leaves_the_message),
                test(a_journal_that_refuses_is_replaced_by_stderr),
                test(auto_takes_the_journal_if_stderr_leads_there),
                test(auto_takes_stderr_otherwise),
                test(a_sink_gets_the_bare_message),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

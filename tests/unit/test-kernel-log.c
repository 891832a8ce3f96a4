/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of ports: its lines, as Linux 6.1 writes them, what is so
 * of each port after them, and the reader, on a socket that gives a record for each
 * read as /dev/kmsg does.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "edge/kernel-log.h"

#define KEEP (600 * SEC)

static struct kernel_record parse(const char *line)
{
        struct kernel_record record;
        int r = kernel_record_parse(line, strlen(line), &record);

        if (r < 0)
                fail_msg("\"%s\": %s", line, strerror(-r));
        return record;
}

static void lines_of_linux_6_1(void **unused)
{
        static const struct { const char *text, *port; enum kernel_word word; } lines[] = {
                { "usb 1-1: device descriptor read/64, error -71", "1-1", KERNEL_HAS_TROUBLE },
                { "usb 3-1.4.2: device descriptor read/8, error -110", "3-1.4.2", KERNEL_HAS_TROUBLE },
                { "usb 1-1: device descriptor read/all, error -71", "1-1", KERNEL_HAS_TROUBLE },
                { "usb 1-1: device not accepting address 12, error -71", "1-1", KERNEL_HAS_TROUBLE },
                { "usb 1-1: Device not responding to setup address.", "1-1", KERNEL_HAS_TROUBLE },
                { "usb 1-1: can't read configurations, error -71", "1-1", KERNEL_HAS_TROUBLE },
                { "usb 1-1: unable to read config index 0 descriptor/start: -71", "1-1", KERNEL_HAS_TROUBLE },
                { "usb usb1-port1: attempt power cycle", "1-1", KERNEL_HAS_TROUBLE },
                { "usb usb1-port1: Cannot enable. Maybe the USB cable is bad?", "1-1", KERNEL_HAS_TROUBLE },
                { "usb 1-4-port2: unable to enumerate USB device", "1-4.2", KERNEL_GAVE_UP },
                { "usb usb13-port15: unable to enumerate USB device", "13-15", KERNEL_GAVE_UP },
                { "usb 1-4.1-port3: unable to enumerate USB device", "1-4.1.3", KERNEL_GAVE_UP },
                { "usb 1-1: New USB device found, idVendor=37c5, idProduct=9203, bcdDevice= 1.03", "1-1", KERNEL_ENUMERATED },
                { "usb 1-1: USB disconnect, device number 5", "1-1", KERNEL_LEFT },
                { "usb usb1: USB disconnect, device number 1", "1", KERNEL_LEFT },
                { "usb usb12345: USB disconnect, device number 1", "", KERNEL_SAYS_NOTHING },
                { "usb usb1x: USB disconnect, device number 1", "", KERNEL_SAYS_NOTHING },
                /* Said of every device, and of many that come to nothing. */
                { "usb 1-1: new full-speed USB device number 5 using xhci_hcd", "", KERNEL_SAYS_NOTHING },
                { "usb 1-1: Product: unable to enumerate USB device", "", KERNEL_SAYS_NOTHING },
                { "usb 1-1: SerialNumber: New USB device found", "", KERNEL_SAYS_NOTHING },
                { "usb usb1: New USB device found, idVendor=1d6b", "", KERNEL_SAYS_NOTHING },
                { "usb 1-1: reset full-speed USB device number 5 using xhci_hcd", "", KERNEL_SAYS_NOTHING },
                { "hub 1-0:1.0: USB hub found", "", KERNEL_SAYS_NOTHING },
                { "cdc_acm 1-1:1.0: ttyACM0: USB ACM device", "", KERNEL_SAYS_NOTHING },
                { "something usb usb1-port1: unable to enumerate USB device", "", KERNEL_SAYS_NOTHING },
                { "", "", KERNEL_SAYS_NOTHING },
        };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                struct kernel_record record;
                char line[256];

                (void)snprintf(line, sizeof(line), "3,1204,81723911,-;%s", lines[i].text);
                record = parse(line);
                if (record.word != lines[i].word || strcmp(record.port, lines[i].port) != 0)
                        fail_msg("\"%s\": %d at \"%s\"", lines[i].text, record.word, record.port);
                assert_true(record.sequence == 1204 && record.time == 81723911);
        }
        assert_string_equal(parse("3,1,2,-;usb 1-1: device descriptor read/64, error -71").text, "device descriptor read/64, error -71");
        /* More fields before the text will come, says the kernel's documentation. */
        assert_int_equal(parse("3,1,2,c,caller=T12;usb usb1-port1: unable to enumerate USB device").word, KERNEL_GAVE_UP);
}

static void not_the_kernels(void **unused)
{
        static const char *const lines[] = {
                /* Written into its log by a program: facility user, daemon. */
                "12,1,2,-;usb usb1-port1: unable to enumerate USB device",
                "30,1,2,-;usb usb1-port1: unable to enumerate USB device",
        }, *const none[] = {
                "", ";", " SUBSYSTEM=usb", " DEVICE=+usb:1-1", "3", "3,", "3,1", "3,1,", "3,1,2", "3,1,2,", "3,1,2,-", "3,1;x", "3,1,2;usb",
                "x,1,2,-;usb", "-3,1,2,-;usb", "3,99999999999999999999999,2,-;usb", "3,1,2-;usb", "\xff\xfe,1,2,-;usb",
        };
        struct kernel_record record;

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                assert_int_equal(kernel_record_parse(lines[i], strlen(lines[i]), &record), -ENOMSG);
        for (size_t i = 0; i < ELEMENTSOF(none); i++)
                if (kernel_record_parse(none[i], strlen(none[i]), &record) != -EINVAL)
                        fail_msg("\"%s\" was taken", none[i]);
}

static void every_prefix_of_a_line_is_survived(void **unused)
{
        static const char line[] = "3,1204,81723911,-;usb 1-4-port2: unable to enumerate USB device";

        (void)unused;
        for (size_t n = 0; n < sizeof(line) - 1; n++) {
                _cleanup_free_ char *copy = malloc(n ? n : 1);  /* of its own length, for valgrind */
                struct kernel_record record;

                memcpy(copy, line, n);
                if (kernel_record_parse(copy, n, &record) >= 0)
                        assert_int_equal(record.word, KERNEL_SAYS_NOTHING);
        }
}

static void names_of_ports(void **unused)
{
        static const struct { const char *name, *port; } names[] = {
                { "usb1-port1", "1-1" }, { "usb12-port10", "12-10" }, { "1-4-port2", "1-4.2" }, { "1-4.1.3-port2", "1-4.1.3.2" },
                { "usb1-port", NULL }, { "usb-port1", NULL }, { "usb1-port1x", NULL }, { "usb1-portx", NULL }, { "1-port1", NULL },
                { "-port1", NULL }, { "usb1", NULL }, { "1-1", NULL }, { "", NULL }, { "1-4.-port1", NULL }, { "1-.4-port1", NULL },
                { "1-4..1-port1", NULL }, { "../1-1-port1", NULL }, { "usb1-1-port1", NULL }, { "usb1-port1-port1", NULL },
                { "1-1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1-port1", NULL },
                { "usb11111111111111111111111111111111111111111111111111111111111111111111111-port1", NULL },
        };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                char port[PORT_PATH_MAX];
                int r = kernel_port_name(names[i].name, strlen(names[i].name), port);

                if (names[i].port ? r < 0 || strcmp(port, names[i].port) != 0 : r != -EINVAL)
                        fail_msg("\"%s\": %d %s", names[i].name, r, r < 0 ? "" : port);
        }
        /* A zero within is no end of it. */
        {
                char port[PORT_PATH_MAX];

                assert_int_equal(kernel_port_name("usb1\0port1", 10, port), -EINVAL);
        }
}

/* --- ports --- */

static void say_at(struct kernel_ports *ports, uint64_t time, const char *text)
{
        struct kernel_record record;
        char line[256];

        (void)snprintf(line, sizeof(line), "6,1,%" PRIu64 ",-;%s", time, text);
        record = parse(line);
        kernel_ports_add(ports, &record, KEEP);
}

static void say(struct kernel_ports *ports, const char *text)
{
        say_at(ports, 1000, text);
}

static void only_the_last_word_counts(void **unused)
{
        struct kernel_ports ports = { 0 };
        const struct kernel_port *port;

        (void)unused;
        say(&ports, "usb 1-1: device descriptor read/64, error -71");
        say(&ports, "usb 1-1: device descriptor read/64, error -32");
        say(&ports, "usb usb1-port1: attempt power cycle");
        assert_null(kernel_ports_take(&ports));
        say(&ports, "usb 1-1: New USB device found, idVendor=37c5, idProduct=9203, bcdDevice= 1.03");
        say(&ports, "usb usb1-port1: unable to enumerate USB device");
        port = kernel_ports_take(&ports);
        assert_non_null(port);
        assert_string_equal(port->why, "");             /* the errors before had ended well */
        assert_int_equal(port->times, 1);
        assert_null(kernel_ports_take(&ports));
}

static void it_is_counted_until_something_answers(void **unused)
{
        struct kernel_ports ports = { 0 };
        const struct kernel_port *port;

        (void)unused;
        for (unsigned times = 1; times <= 3; times++) {
                say(&ports, "usb 1-4.2: device not accepting address 7, error -71");
                say(&ports, "usb 1-4-port2: attempt power cycle");
                say(&ports, "usb 1-4-port2: unable to enumerate USB device");
                port = kernel_ports_take(&ports);
                assert_string_equal(port->port, "1-4.2");
                assert_string_equal(port->why, "device not accepting address 7, error -71");
                assert_int_equal(port->times, times);
        }
        say(&ports, "usb 1-4.2: New USB device found, idVendor=37c5");
        say(&ports, "usb 1-4-port2: unable to enumerate USB device");
        assert_int_equal(kernel_ports_take(&ports)->times, 1);
        /* What is long ago is another device. */
        say_at(&ports, 1001 + KEEP, "usb 1-4-port2: unable to enumerate USB device");
        assert_int_equal(kernel_ports_take(&ports)->times, 1);
        /* Not even if nobody was told of it yet. */
        say_at(&ports, 1001 + KEEP, "usb 1-4-port2: unable to enumerate USB device");
        say_at(&ports, 1002 + 2 * KEEP, "usb 1-4.2: device descriptor read/64, error -71");
        assert_null(kernel_ports_take(&ports));
}

static void cured_before_it_was_told_is_not_told(void **unused)
{
        struct kernel_ports ports = { 0 };

        (void)unused;
        say(&ports, "usb usb1-port1: unable to enumerate USB device");
        say(&ports, "usb usb1-port2: unable to enumerate USB device");
        say(&ports, "usb 1-4-port1: unable to enumerate USB device");
        say(&ports, "usb 1-4.3-port1: unable to enumerate USB device");
        say(&ports, "usb usb1-port42: unable to enumerate USB device");
        say(&ports, "usb 1-1: New USB device found, idVendor=37c5");
        say(&ports, "usb 1-4: USB disconnect, device number 3");        /* a hub */
        say(&ports, "usb usb2-port1: unable to enumerate USB device");
        say(&ports, "usb 2-1-port1: unable to enumerate USB device");
        say(&ports, "usb usb2: USB disconnect, device number 1");       /* a controller */
        assert_string_equal(kernel_ports_take(&ports)->port, "1-2");
        assert_string_equal(kernel_ports_take(&ports)->port, "1-42");
        assert_null(kernel_ports_take(&ports));
}

static void more_ports_than_there_is_room_for(void **unused)
{
        struct kernel_ports ports = { 0 };
        unsigned n = 0;

        (void)unused;
        for (unsigned i = 1; i <= KERNEL_PORTS_MAX + 10; i++) {
                char text[64];

                (void)snprintf(text, sizeof(text), "usb usb%u-port1: unable to enumerate USB device", i);
                say_at(&ports, i, text);
        }
        for (const struct kernel_port *port; (port = kernel_ports_take(&ports)); n++)
                assert_true(port->time > 10);           /* the oldest made room */
        assert_int_equal(n, KERNEL_PORTS_MAX);
}

/* --- the reader --- */

struct bench {
        struct loop *loop;
        struct kernel_log *log;
        struct timer deadline;
        char path[64];
        int fd;
        char told[512];
        const char *until;              /* the loop ends when this was told */
        uint64_t keep;                  /* how old a record may be that is told */
        bool timeout;
};

static void note(struct bench *b, const char *what)
{
        size_t n = strlen(b->told);

        (void)snprintf(b->told + n, sizeof(b->told) - n, "%s%s", n ? ", " : "", what);
        if (b->until && strstr(what, b->until))
                loop_exit(b->loop, 0);
}

static void on_gave_up(void *userdata, const char *port, const char *why, unsigned times, uint64_t age)
{
        char text[160];

        (void)snprintf(text, sizeof(text), "%s gave up %u%s%s%s", port, times, *why ? " (" : "", why, *why ? ")" : "");
        assert_true(age < KEEP);
        note(userdata, text);
}

static void on_enumerated(void *userdata, const char *port)
{
        char text[64];

        (void)snprintf(text, sizeof(text), "%s answers", port);
        note(userdata, text);
}

static void on_left(void *userdata, const char *port)
{
        char text[64];

        (void)snprintf(text, sizeof(text), "%s left", port);
        note(userdata, text);
}

static const struct kernel_log_callbacks callbacks = { on_gave_up, on_enumerated, on_left };

static void on_timeout(void *userdata)
{
        struct bench *b = userdata;

        b->timeout = true;
        loop_exit(b->loop, 0);
}

/* A FIFO with both ends in our hand. */
static struct bench *bench_new(void)
{
        struct bench *b = calloc(1, sizeof(*b));

        assert_non_null(b);
        (void)snprintf(b->path, sizeof(b->path), "/tmp/test-kernel-log-XXXXXX");
        assert_non_null(mkdtemp(b->path));
        (void)strcat(b->path, "/kmsg");
        assert_int_equal(mkfifo(b->path, 0600), 0);
        b->fd = open(b->path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        assert_true(b->fd >= 0);
        assert_int_equal(loop_new(&b->loop), 0);
        b->keep = KEEP;
        timer_init(&b->deadline, b->loop, on_timeout, b);
        return b;
}

static void bench_free(struct bench *b)
{
        char *slash;

        kernel_log_free(b->log);
        timer_deinit(&b->deadline);
        loop_free(b->loop);
        if (b->fd >= 0)
                (void)close(b->fd);
        (void)unlink(b->path);
        slash = strrchr(b->path, '/');
        *slash = '\0';
        (void)rmdir(b->path);
        free(b);
}

static void put(struct bench *b, uint64_t ago, const char *text)
{
        char line[512];
        int n = snprintf(line, sizeof(line), "6,1,%" PRIu64 ",-;%s\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n", kernel_log_now() - ago, text);

        assert_int_equal(write(b->fd, line, (size_t)n), n);
}

static void run_until(struct bench *b, const char *until)
{
        b->until = until;
        b->told[0] = '\0';
        timer_set(&b->deadline, 20 * SEC);
        (void)loop_run(b->loop);
        if (b->timeout)
                fail_msg("\"%s\" was not told, but \"%s\"", until, b->told);
}

static void begin(struct bench *b)
{
        assert_int_equal(kernel_log_new(b->loop, b->path, b->keep, &callbacks, b, &b->log), 0);
}

static void what_stands_there_is_told_as_it_is_now(void **unused)
{
        struct bench *b = bench_new();

        (void)unused;
        /* A machine that has just been started has no log of ten minutes ago. */
        if (kernel_log_now() / 2 < b->keep)
                b->keep = kernel_log_now() / 2;
        put(b, b->keep + b->keep / 6, "usb usb1-port7: unable to enumerate USB device");
        put(b, b->keep / 30, "usb 1-1: device descriptor read/64, error -71");
        put(b, b->keep / 30, "usb usb1-port1: unable to enumerate USB device");
        put(b, b->keep / 60, "usb 1-1: New USB device found, idVendor=37c5");
        put(b, b->keep / 120, "usb 1-2: device not accepting address 4, error -71");
        put(b, b->keep / 120, "usb usb1-port2: unable to enumerate USB device");
        begin(b);
        run_until(b, "1-2 gave up");
        assert_string_equal(b->told, "1-1 answers, 1-2 gave up 1 (device not accepting address 4, error -71)");
        put(b, 0, "usb usb1-port2: unable to enumerate USB device");
        run_until(b, "1-2 gave up");
        assert_string_equal(b->told, "1-2 gave up 2 (device not accepting address 4, error -71)");
        put(b, 0, "usb 1-4: USB disconnect, device number 9");
        run_until(b, "1-4 left");
        bench_free(b);
}

static void a_record_in_pieces(void **unused)
{
        static const char record[] = "3,1,%" PRIu64 ",-;usb 1-4-port2: unable to enumerate USB device\n KEY=value\n";
        struct bench *b = bench_new();
        char line[256];
        int n = snprintf(line, sizeof(line), record, kernel_log_now());

        (void)unused;
        begin(b);
        /* What stands before the half is told when all is read, and the half is, too. */
        put(b, 0, "usb usb1-port1: unable to enumerate USB device");
        assert_int_equal(write(b->fd, line, 30), 30);
        run_until(b, "gave up");
        assert_string_equal(b->told, "1-1 gave up 1");
        assert_int_equal(write(b->fd, line + 30, (size_t)n - 30), n - 30);
        run_until(b, "gave up");
        assert_string_equal(b->told, "1-4.2 gave up 1");
        bench_free(b);
}

static void garbage_and_floods_are_survived(void **unused)
{
        struct bench *b = bench_new();
        char garbage[4096];

        (void)unused;
        begin(b);
        srand(1);
        for (int round = 0; round < 15; round++) {
                for (size_t i = 0; i < sizeof(garbage); i++)
                        garbage[i] = round < 5 ? 'x' : (char)(rand() % 256);    /* the first: a line of 20 KiB */
                (void)!write(b->fd, garbage, sizeof(garbage));
        }
        assert_int_equal(write(b->fd, "\n", 1), 1);
        /* It is told when all was read. */
        put(b, 0, "usb usb1-port1: unable to enumerate USB device");
        /* The pipe is full by now, so what comes behind it is written when it was read. */
        for (int i = 0; i < 100; i++)
                (void)!write(b->fd, "6,1,2,-;audit: nothing\n", 23);
        run_until(b, "1-1 gave up");
        put(b, 0, "usb 1-4-port2: unable to enumerate USB device");
        run_until(b, "1-4.2 gave up");
        bench_free(b);
}

static void not_any_standard_input(void **unused)
{
        struct bench *b = bench_new();
        int saved = dup(STDIN_FILENO), pipe_fds[2];

        (void)unused;
        assert_true(saved >= 0);
        assert_int_equal(pipe(pipe_fds), 0);
        assert_true(dup2(pipe_fds[0], STDIN_FILENO) >= 0);
        assert_int_equal(kernel_log_new(b->loop, "-", KEEP, &callbacks, b, &b->log), -ENODEV);
        assert_int_equal(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK, 0);
        (void)close(STDIN_FILENO);
        assert_true(kernel_log_new(b->loop, "-", KEEP, &callbacks, b, &b->log) < 0);
        assert_true(dup2(saved, STDIN_FILENO) >= 0);
        (void)close(saved);
        (void)close(pipe_fds[0]);
        (void)close(pipe_fds[1]);
        assert_int_equal(kernel_log_new(b->loop, "/nowhere/kmsg", KEEP, &callbacks, b, &b->log), -ENOENT);
        bench_free(b);
}

static void a_file_is_read_once_and_ends(void **unused)
{
        struct bench *b = bench_new();

        (void)unused;
        (void)close(b->fd);
        (void)unlink(b->path);
        b->fd = open(b->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(b->fd >= 0);
        for (unsigned i = 0; i < 3000; i++)
                put(b, 2 * SEC, "audit: nothing that concerns anybody");
        put(b, 2 * SEC, "usb usb1-port2: unable to enumerate USB device");
        begin(b);
        run_until(b, "1-2 gave up");
        bench_free(b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/kernel-log/lines-of-linux-6.1", lines_of_linux_6_1, NULL, NULL, NULL },
                { "/kernel-log/not-the-kernels", not_the_kernels, NULL, NULL, NULL },
                { "/kernel-log/every-prefix-of-a-line-is-survived", every_prefix_of_a_line_is_survived, NULL, NULL, NULL },
                { "/kernel-log/names-of-ports", names_of_ports, NULL, NULL, NULL },
                { "/kernel-log/only-the-last-word-counts", only_the_last_word_counts, NULL, NULL, NULL },
                { "/kernel-log/it-is-counted-until-something-answers", it_is_counted_until_something_answers, NULL, NULL, NULL },
                { "/kernel-log/cured-before-it-was-told-is-not-told", cured_before_it_was_told_is_not_told, NULL, NULL, NULL },
                { "/kernel-log/more-ports-than-there-is-room-for", more_ports_than_there_is_room_for, NULL, NULL, NULL },
                { "/kernel-log/what-stands-there-is-told-as-it-is-now", what_stands_there_is_told_as_it_is_now, NULL, NULL, NULL },
                { "/kernel-log/a-record-in-pieces", a_record_in_pieces, NULL, NULL, NULL },
                { "/kernel-log/garbage-and-floods-are-survived", garbage_and_floods_are_survived, NULL, NULL, NULL },
                { "/kernel-log/not-any-standard-input", not_any_standard_input, NULL, NULL, NULL },
                { "/kernel-log/a-file-is-read-once-and-ends", a_file_is_read_once_and_ends, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests_name("kernel-log", tests, NULL, NULL);
}

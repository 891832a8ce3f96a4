/* SPDX-License-Identifier: MIT */

/*
 * The device monitor on a sysfs and a udev of its own, in private namespaces:
 * real netlink messages through the real libudev.  Needs namespaces and
 * /dev/fuse; skipped (77) where there are none.
 *
 * What the monitor reports is written down as a story: "+1-1(A)" for a sighting
 * on port 1-1 with serial A, "-1-1" for its end.
 */

#include "edge/device-monitor.h"

#include <errno.h>
#include <linux/netlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/namespace.h"
#include "sim/sysfs.h"
#include "sim/uevent.h"

#define DEADLINE (20 * SEC)
#define N_CAMERAS 100

static int fuse_fd = -1;                /* nobody serves it: the monitor does not look at /dev/bus/usb */
static struct uevents *uevents;

static uint8_t camera_descriptors[] = {
        18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xc5, 0x37, 0x04, 0x92, 0x03, 0x01, 1, 2, 3, 1,
        9, 2, 36, 0, 1, 1, 0, 0x80, 250,
        9, 4, 0, 0, 0, 0xfe, 1, 2, 4, 9, 4, 0, 1, 0, 0xfe, 1, 2, 5, 9, 0x21, 7, 0xe8, 3, 0, 0x10, 1, 1,
};
static uint8_t mouse_descriptors[sizeof(camera_descriptors)];

/* --- the world --- */

static struct sysfs_device device_on(unsigned port, unsigned number, const char *serial)
{
        struct sysfs_device device = {
                .bus = 1, .device = number, .speed = 12, .configuration = 1,
                .descriptors = camera_descriptors, .descriptors_size = sizeof(camera_descriptors),
                .manufacturer = "OpenMV", .product = "OpenMV Camera (DFU Mode)",
        };

        (void)snprintf(device.name, sizeof(device.name), "1-%u", port);
        (void)snprintf(device.port, sizeof(device.port), "%u", port);
        (void)snprintf(device.devpath, sizeof(device.devpath), "/devices/test/usb1/1-%u", port);
        (void)snprintf(device.serial, sizeof(device.serial), "%s", serial);
        return device;
}

static void appear_unheard(const struct sysfs_device *device)
{
        assert_int_equal(sysfs_device_write(device), 0);
        assert_int_equal(sysfs_device_write_database(device), 0);
}

static void say(const struct sysfs_device *device, const char *action)
{
        assert_int_equal(sysfs_device_event(uevents, device, action), 0);
}

static void appear(const struct sysfs_device *device)
{
        appear_unheard(device);
        say(device, "add");
}

static void vanish_unheard(const struct sysfs_device *device)
{
        sysfs_device_delete(device, NULL, 0, NULL);
}

static void vanish(const struct sysfs_device *device)
{
        vanish_unheard(device);
        say(device, "remove");
}

/* --- the stage --- */

struct stage {
        struct loop *loop;
        struct device_monitor *monitor;
        struct timer too_late;
        char story[8192];
        size_t asked;                   /* is_interesting() */
        const char *until;              /* ends the loop when the story has come so far */
        struct sighting last;
};

static void on_too_late(void *userdata)
{
        struct stage *stage = userdata;

        loop_exit(stage->loop, -ETIMEDOUT);
}

static void tell(struct stage *stage, const char *sign, const char *port, const char *serial)
{
        size_t used = strlen(stage->story);

        (void)snprintf(stage->story + used, sizeof(stage->story) - used, serial ? "%s%s(%s) " : "%s%s ", sign, port, serial);
        if (stage->until && strstr(stage->story, stage->until))
                loop_exit(stage->loop, 0);
}

static bool is_interesting(void *userdata, uint16_t vendor, uint16_t product)
{
        struct stage *stage = userdata;

        stage->asked++;
        return vendor == 0x37c5;
}

static void on_seen(void *userdata, const struct sighting *sighting)
{
        struct stage *stage = userdata;

        stage->last = *sighting;
        tell(stage, "+", sighting->port, sighting->serial);
}

static void on_gone(void *userdata, const char *port)
{
        tell(userdata, "-", port, NULL);
}

static void on_serial_port(void *userdata, const char *port)
{
        tell(userdata, "~", port, NULL);
}

static int stage_new(void **state)
{
        static const struct device_monitor_callbacks callbacks = {
                .is_interesting = is_interesting, .on_seen = on_seen, .on_gone = on_gone, .on_serial_port = on_serial_port,
        };
        struct stage *stage = calloc(1, sizeof(*stage));

        assert_non_null(stage);
        assert_int_equal(loop_new(&stage->loop), 0);
        assert_int_equal(device_monitor_new(stage->loop, &callbacks, stage, &stage->monitor), 0);
        timer_init(&stage->too_late, stage->loop, on_too_late, stage);
        timer_set(&stage->too_late, DEADLINE);
        *state = stage;
        return 0;
}

static int stage_free(void **state)
{
        struct stage *stage = *state;

        stage->monitor = device_monitor_free(stage->monitor);
        timer_deinit(&stage->too_late);
        stage->loop = loop_free(stage->loop);
        free(stage);
        /* The next test begins with an empty world. */
        return system("rm -rf /sys/bus/usb/devices/* /sys/devices/* /sys/dev/char/* /run/udev/data/*") == 0 ? 0 : -1;
}

static void start(struct stage *stage)
{
        assert_int_equal(device_monitor_start(stage->monitor), 0);
}

/* What is said last comes last: when this camera is seen, all before has been dealt with. */
static void catch_up(struct stage *stage)
{
        struct sysfs_device last = device_on(999, 127, "last");

        appear(&last);
        stage->until = "+1-999(last)";
        assert_int_equal(loop_run(stage->loop), 0);
        stage->until = "-1-999";
        vanish(&last);
        assert_int_equal(loop_run(stage->loop), 0);
        stage->until = NULL;
}

static void assert_story(struct stage *stage, const char *expected)
{
        char *end;

        catch_up(stage);
        end = strstr(stage->story, "+1-999");
        assert_non_null(end);
        *end = '\0';
        assert_string_equal(stage->story, expected);
        stage->story[0] = '\0';
}

/* --- */

static void attached_is_reported_at_start(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        appear_unheard(&camera);
        start(stage);
        assert_string_equal(stage->story, "+1-1(A) ");
        assert_string_equal(stage->last.node, "/dev/bus/usb/001/004");
        assert_int_equal(stage->last.vendor, 0x37c5);
        assert_int_equal(stage->last.product, 0x9204);
        assert_int_equal(stage->last.device, 0x0103);
        assert_int_equal(stage->last.speed, 12);
        assert_int_equal(stage->last.n_alts, 2);
        assert_int_equal(stage->last.transfer_size, 4096);
        assert_int_not_equal(stage->last.seen_at, 0);
        assert_string_equal(stage->last.product_name, "OpenMV Camera (DFU Mode)");
}

static void uninteresting_is_never_reported(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device mouse = device_on(1, 4, "M"), hub = device_on(2, 5, "H");

        mouse.descriptors = hub.descriptors = mouse_descriptors;
        (void)snprintf(hub.name, sizeof(hub.name), "usb1");
        appear_unheard(&mouse);
        appear_unheard(&hub);
        start(stage);
        assert_int_equal(stage->asked, 1);      /* not about the root hub */
        vanish(&mouse);
        appear(&mouse);
        say(&mouse, "change");
        assert_story(stage, "");
}

static void come_and_go_is_reported(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        start(stage);
        assert_string_equal(stage->story, "");
        appear(&camera);
        say(&camera, "bind");
        assert_story(stage, "+1-1(A) ");
        say(&camera, "unbind");
        vanish(&camera);
        assert_story(stage, "-1-1 ");
}

static void doubled_events_are_reported_once(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        start(stage);
        appear(&camera);
        say(&camera, "add");
        assert_story(stage, "+1-1(A) ");
        vanish(&camera);
        say(&camera, "remove");
        assert_story(stage, "-1-1 ");
}

static void change_is_reported_again(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        start(stage);
        appear(&camera);
        say(&camera, "change");
        assert_story(stage, "+1-1(A) +1-1(A) ");
}

static void found_before_udev_was_done_is_reported_again(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        appear_unheard(&camera);
        start(stage);
        say(&camera, "add");
        say(&camera, "add");
        assert_story(stage, "+1-1(A) +1-1(A) ");
}

/* Its driver makes it, and udev gives it its permissions, a moment after the device was announced. */
static void serial_port_is_reported_in_its_turn(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");
        const struct sysfs_interface interface = { .number = 0, .class = 2, .driver = "cdc_acm" };
        const struct sysfs_tty tty = { .name = "ttyACM3", .minor = 3, .interface = 0 };
        char node[32] = "";

        start(stage);
        appear(&camera);
        assert_int_equal(device_monitor_serial_port("1-1", node, sizeof(node)), -ENOENT);
        assert_int_equal(sysfs_interface_write(&camera, &interface), 0);
        assert_int_equal(sysfs_tty_write(&camera, &tty), 0);
        assert_int_equal(sysfs_tty_event(uevents, &camera, &tty, "add"), 0);
        assert_int_equal(sysfs_tty_event(uevents, &camera, &tty, "change"), 0);
        assert_int_equal(sysfs_tty_event(uevents, &camera, &tty, "remove"), 0);
        assert_story(stage, "+1-1(A) ~1-1 ~1-1 ");
        assert_int_equal(device_monitor_serial_port("1-1", node, sizeof(node)), 0);
        assert_string_equal(node, "/dev/ttyACM3");
        assert_int_equal(device_monitor_serial_port("1-2", node, sizeof(node)), -ENODEV);
        sysfs_device_delete(&camera, &interface, 1, &tty);
}

static void replug_at_once_is_two_devices(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device first = device_on(1, 4, "A"), second = device_on(1, 5, "B");

        start(stage);
        appear(&first);
        assert_story(stage, "+1-1(A) ");
        /* When "remove" is read, sysfs shows the second one already. */
        vanish(&first);
        appear(&second);
        assert_story(stage, "-1-1 +1-1(B) ");
}

static void old_add_is_not_taken_for_the_successor(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device first = device_on(1, 4, "A"), second = device_on(1, 5, "B");

        start(stage);
        appear(&first);
        vanish(&first);
        appear(&second);
        assert_story(stage, "+1-1(B) ");
}

static void add_without_a_device_is_dropped(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        start(stage);
        say(&camera, "add");
        assert_story(stage, "");
        say(&camera, "remove");
        assert_story(stage, "");
}

static void successor_tells_of_a_lost_departure(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device first = device_on(1, 4, "A"), second = device_on(1, 5, "B");

        start(stage);
        appear(&first);
        assert_story(stage, "+1-1(A) ");
        vanish_unheard(&first);
        appear(&second);
        assert_story(stage, "-1-1 +1-1(B) ");
        say(&first, "remove");          /* late */
        assert_story(stage, "");
}

static void rescan_reports_the_difference(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device leaves = device_on(1, 4, "A"), stays = device_on(2, 5, "B");
        struct sysfs_device comes = device_on(3, 6, "C"), first = device_on(4, 7, "D"), second = device_on(4, 8, "E");

        appear_unheard(&leaves);
        appear_unheard(&stays);
        appear_unheard(&first);
        start(stage);
        stage->story[0] = '\0';

        vanish_unheard(&leaves);
        appear_unheard(&comes);
        vanish_unheard(&first);
        appear_unheard(&second);
        assert_int_equal(device_monitor_rescan(stage->monitor), 0);
        assert_int_equal(strlen(stage->story), strlen("-1-1 -1-4 +1-3(C) +1-4(E) "));
        assert_non_null(strstr(stage->story, "-1-1 "));
        assert_non_null(strstr(stage->story, "-1-4 "));
        assert_non_null(strstr(stage->story, "+1-3(C) "));
        assert_true(strstr(stage->story, "+1-4(E) ") > strstr(stage->story, "-1-4 "));
}

/* The monitor's socket: ours that listens to udev. */
static int find_socket(void)
{
        for (int fd = 3; fd < 256; fd++) {
                struct sockaddr_nl address = { 0 };
                socklen_t size = sizeof(address);

                if (getsockname(fd, (struct sockaddr *)&address, &size) == 0 && address.nl_family == AF_NETLINK &&
                    address.nl_groups != 0)
                        return fd;
        }
        fail_msg("the monitor listens to nothing");
        return -1;
}

static void lost_events_lead_to_a_scan(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A"), other = device_on(2, 5, "B"), third = device_on(3, 6, "C");
        int fd, tiny = 1;

        start(stage);
        fd = find_socket();
        appear(&camera);
        assert_story(stage, "+1-1(A) ");

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny)), 0);
        appear(&other);
        for (int i = 0; i < 50; i++)
                say(&other, "change");
        vanish(&camera);
        appear(&third);

        /* What came through before the gap comes first, and all of it ends in the truth. */
        stage->until = "+1-3(C)";
        assert_int_equal(loop_run(stage->loop), 0);
        stage->until = NULL;
        assert_non_null(strstr(stage->story, "-1-1 "));
        assert_non_null(strstr(stage->story, "+1-2(B) "));
}

static void busy_listener_loses_nothing(void **state)
{
        struct stage *stage = *state;
        size_t length = 0;

        start(stage);
        /* A thousand messages wait before the first is read. */
        for (unsigned round = 0; round < 5; round++)
                for (unsigned i = 1; i <= N_CAMERAS; i++) {
                        struct sysfs_device camera = device_on(i, round + 1, "S");

                        appear(&camera);
                        if (round < 4)
                                vanish(&camera);
                }
        catch_up(stage);
        for (unsigned i = 1; i <= N_CAMERAS; i++) {
                char seen[32];

                (void)snprintf(seen, sizeof(seen), "+1-%u(S) ", i);
                assert_non_null(strstr(stage->story, seen));
                assert_null(strstr(strstr(stage->story, seen) + 1, seen));
                length += strlen(seen);
        }
        assert_int_equal(strlen(stage->story), length + strlen("+1-999(last) -1-999 "));
}

static void ended_monitor_forgets_what_waits(void **state)
{
        struct stage *stage = *state;
        struct sysfs_device camera = device_on(1, 4, "A");

        start(stage);
        appear(&camera);
        stage->monitor = device_monitor_free(stage->monitor);
        assert_string_equal(stage->story, "");
}

#define ON_STAGE(name, fn) { name, fn, stage_new, stage_free, NULL }

int main(void)
{
        const struct CMUnitTest tests[] = {
                ON_STAGE("/start/attached-is-reported", attached_is_reported_at_start),
                ON_STAGE("/start/found-before-udev-was-done-is-reported-again", found_before_udev_was_done_is_reported_again),
                ON_STAGE("/event/uninteresting-is-never-reported", uninteresting_is_never_reported),
                ON_STAGE("/event/come-and-go-is-reported", come_and_go_is_reported),
                ON_STAGE("/event/doubled-is-reported-once", doubled_events_are_reported_once),
                ON_STAGE("/event/change-is-reported-again", change_is_reported_again),
                ON_STAGE("/event/serial-port-is-reported", serial_port_is_reported_in_its_turn),
                ON_STAGE("/event/replug-at-once-is-two-devices", replug_at_once_is_two_devices),
                ON_STAGE("/event/old-add-is-not-taken-for-the-successor", old_add_is_not_taken_for_the_successor),
                ON_STAGE("/event/add-without-a-device-is-dropped", add_without_a_device_is_dropped),
                ON_STAGE("/event/successor-tells-of-a-lost-departure", successor_tells_of_a_lost_departure),
                ON_STAGE("/scan/reports-the-difference", rescan_reports_the_difference),
                ON_STAGE("/lost/overflow-leads-to-a-scan", lost_events_lead_to_a_scan),
                ON_STAGE("/lost/busy-listener-loses-nothing", busy_listener_loses_nothing),
                ON_STAGE("/end/forgets-what-waits", ended_monitor_forgets_what_waits),
        };
        const char *step;
        int r;

        r = namespace_enter(NAMESPACE_USER_AUTO, &fuse_fd, &step);
        if (r < 0) {
                (void)printf("1..0 # SKIP %s: %s\n", step, strerror(-r));
                return 77;
        }
        memcpy(mouse_descriptors, camera_descriptors, sizeof(mouse_descriptors));
        put_le16(mouse_descriptors + 8, 0x046d);
        (void)setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", /* overwrite= */ 1);
        if (uevents_new(&uevents) < 0)
                return 99;

        r = cmocka_run_group_tests_name("device-monitor", tests, NULL, NULL);
        uevents = uevents_free(uevents);
        (void)close(fuse_fd);
        return r;
}

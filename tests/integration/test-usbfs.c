/* SPDX-License-Identifier: MIT */

/*
 * The simulated kernel, from where a program stands: usbfs' ioctls without
 * libusb in between, and what sysfs and udev say meanwhile.  Each case is what
 * Linux 6.1 does.
 */

#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <linux/usb/ch9.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "integration/machine.h"

enum { FIRMWARE_ALT = 2, GETSTATUS = 3, NOWHERE = 32, DEADLINE_MS = 30000 };

static struct machine_answer tell(enum machine_verb verb, const char *name, int value)
{
        struct machine_order order = { .verb = verb, .value = value };

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        return machine_ask(&order);
}

/* In its bootloader for as long as a test takes; or, with firmware, soon in its runtime. */
static struct machine_answer plugged(const char *name, bool runtime)
{
        static unsigned seed;
        struct machine_order order = { .verb = MACHINE_CAMERA, .value = runtime };
        struct machine_answer answer;

        sim_config_default(&order.config, SIM_OPENMV4, ++seed);
        order.config.usb_speed = 0;
        order.config.window_scale = runtime ? 0.01 : 1000;
        order.config.boot_us = 1000;
        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        assert_int_equal(machine_ask(&order).error, 0);
        answer = tell(MACHINE_PLUG, name, 0);
        assert_int_equal(answer.error, 0);
        return answer;
}

static struct sim_counters counters(const char *name)
{
        return tell(MACHINE_COUNTERS, name, 0).counters;
}

/* When programs see it in that mode: its node is the one of the same answer. */
static struct machine_answer until_mode(const char *name, enum sim_mode mode)
{
        struct pollfd news = { .fd = machine_news(), .events = POLLIN };
        struct machine_answer answer = tell(MACHINE_COUNTERS, name, 0);
        char bytes[64];

        while (answer.mode != mode || !answer.is_announced) {
                assert_int_equal(poll(&news, 1, DEADLINE_MS), 1);
                assert_true(read(news.fd, bytes, sizeof(bytes)) > 0);
                answer = tell(MACHINE_COUNTERS, name, 0);
        }
        return answer;
}

static int open_node(const struct machine_answer *answer)
{
        int fd = open(answer->node, O_RDWR | O_CLOEXEC);

        assert_true(fd >= 0);
        return fd;
}

/* 0 or more, or -errno. */
static int call(int fd, unsigned long request, void *argument)
{
        int r = ioctl(fd, request, argument);

        return r < 0 ? -errno : r;
}

static int claim(int fd, unsigned interface)
{
        return call(fd, USBDEVFS_CLAIMINTERFACE, &interface);
}

static int release(int fd, unsigned interface)
{
        return call(fd, USBDEVFS_RELEASEINTERFACE, &interface);
}

static int set_interface(int fd, unsigned alternate)
{
        return call(fd, USBDEVFS_SETINTERFACE, &(struct usbdevfs_setinterface){ 0, alternate });
}

static int control(int fd, uint8_t type, uint8_t request, uint16_t value, uint16_t length, void *data)
{
        return call(fd, USBDEVFS_CONTROL, &(struct usbdevfs_ctrltransfer){ type, request, value, 0, length, 1000, data });
}

static int get_status(int fd)
{
        uint8_t reply[6];

        return control(fd, 0xa1, GETSTATUS, 0, sizeof(reply), reply);
}

/* "" where there is no such file, or nothing in it. */
static const char *attribute(const struct machine_answer *answer, const char *below, const char *name)
{
        static char text[256];
        _cleanup_fclose_ FILE *f = NULL;
        char path[256];

        (void)snprintf(path, sizeof(path), "/sys/bus/usb/devices/%s%s/%s", answer->port, below, name);
        text[0] = 0;
        f = fopen(path, "re");
        if (f && !fgets(text, sizeof(text), f))
                text[0] = 0;
        text[strcspn(text, "\n")] = 0;
        return text;
}

static const char *driver(const struct machine_answer *answer)
{
        static char target[256];
        char path[256];
        ssize_t n;

        (void)snprintf(path, sizeof(path), "/sys/bus/usb/devices/%s:1.0/driver", answer->port);
        n = readlink(path, target, sizeof(target) - 1);
        target[n < 0 ? 0 : n] = 0;
        return n < 0 ? "" : strrchr(target, '/') + 1;
}

/* --- claims --- */

static void use_without_claim_is_a_claim(void **state)
{
        struct machine_answer camera = plugged("auto", false);
        struct usbdevfs_getdriver name = { 0 };
        int first = open_node(&camera), second = open_node(&camera);

        assert_int_equal(call(first, USBDEVFS_GETDRIVER, &name), -ENODATA);
        assert_string_equal(driver(&camera), "");
        assert_int_equal(get_status(first), 6);
        assert_int_equal(claim(second, 0), -EBUSY);
        assert_int_equal(get_status(second), -EBUSY);
        /* Not its interface, but the device's: anybody may. */
        assert_int_equal(control(second, 0x80, USB_REQ_GET_CONFIGURATION, 0, 1, (uint8_t[1]){ 0 }), 1);
        assert_int_equal(call(second, USBDEVFS_GETDRIVER, &name), 0);
        assert_string_equal(name.driver, "usbfs");
        assert_string_equal(driver(&camera), "usbfs");
        assert_int_equal(release(first, 0), 0);
        assert_string_equal(driver(&camera), "");
        assert_int_equal(claim(second, 0), 0);
        assert_int_equal(claim(second, 0), 0);
        (void)close(first);
        (void)close(second);
}

static void errors_of_claims(void **state)
{
        struct machine_answer camera = plugged("errors", false);
        int fd = open_node(&camera), other = open_node(&camera);

        assert_int_equal(claim(fd, 1), -ENOENT);
        assert_int_equal(claim(fd, NOWHERE), -EINVAL);
        assert_int_equal(release(fd, 0), -EINVAL);
        assert_int_equal(release(fd, 1), -ENOENT);
        assert_int_equal(claim(fd, 0), 0);
        assert_int_equal(release(other, 0), -EINVAL);
        /* Nobody changes the configuration under a driver. */
        assert_int_equal(call(other, USBDEVFS_SETCONFIGURATION, &(int){ 1 }), -EBUSY);
        (void)close(fd);
        (void)close(other);
}

/* Only that an interface was still claimed when it went. */
static void claims_are_not_told(void **state)
{
        struct udev *udev = udev_new();
        struct udev_monitor *monitor = udev_monitor_new_from_netlink(udev, "udev");
        static const char *const expected[] = { "add -", "add -", "bind usb", "unbind -", "remove -", "unbind -", "remove -" };
        struct machine_answer camera;
        int fd;

        assert_int_equal(udev_monitor_filter_add_match_subsystem_devtype(monitor, "usb", NULL), 0);
        assert_int_equal(udev_monitor_enable_receiving(monitor), 0);
        camera = plugged("told", false);
        fd = open_node(&camera);
        assert_int_equal(claim(fd, 0), 0);
        assert_int_equal(release(fd, 0), 0);
        assert_int_equal(claim(fd, 0), 0);
        assert_int_equal(tell(MACHINE_UNPLUG, "told", 0).error, 0);
        for (size_t i = 0; i < ELEMENTSOF(expected);) {
                struct pollfd wait = { .fd = udev_monitor_get_fd(monitor), .events = POLLIN };
                struct udev_device *event;
                char text[64];

                assert_int_equal(poll(&wait, 1, 10000), 1);
                event = udev_monitor_receive_device(monitor);
                assert_non_null(event);
                if (strstr(udev_device_get_devpath(event), camera.port)) {
                        (void)snprintf(text, sizeof(text), "%s %s", udev_device_get_action(event),
                                       udev_device_get_property_value(event, "DRIVER") ?: "-");
                        assert_string_equal(text, expected[i++]);
                }
                (void)udev_device_unref(event);
        }
        (void)close(fd);
        (void)udev_monitor_unref(monitor);
        (void)udev_unref(udev);
}

/* --- alternate settings --- */

static void setting_shows_in_sysfs_and_is_undone(void **state)
{
        struct machine_answer camera = plugged("setting", false);
        int fd = open_node(&camera);

        assert_string_equal(attribute(&camera, ":1.0", "interface"), "BOOTLOADER");
        assert_int_equal(set_interface(fd, FIRMWARE_ALT), 0);
        assert_string_equal(attribute(&camera, ":1.0", "interface"), "FIRMWARE");
        assert_string_equal(attribute(&camera, ":1.0", "bAlternateSetting"), " 2");
        /* The kernel looks into its descriptors before it asks the device. */
        assert_int_equal(set_interface(fd, 9), -EINVAL);
        assert_int_equal(counters("setting").set_interface, 1);
        assert_int_equal(release(fd, 0), 0);
        assert_int_equal(counters("setting").set_interface, 2);
        assert_string_equal(attribute(&camera, ":1.0", "interface"), "BOOTLOADER");
        assert_int_equal(set_interface(fd, FIRMWARE_ALT), 0);
        (void)close(fd);
        fd = open_node(&camera);
        assert_int_equal(counters("setting").set_interface, 4);
        assert_string_equal(attribute(&camera, ":1.0", "bAlternateSetting"), " 0");
        (void)close(fd);
}

static void setting_behind_the_kernels_back_stays(void **state)
{
        struct machine_answer camera = plugged("back", false);
        int fd = open_node(&camera);
        uint8_t alternate = 0;

        assert_int_equal(control(fd, 0x01, USB_REQ_SET_INTERFACE, FIRMWARE_ALT, 0, NULL), 0);
        assert_int_equal(release(fd, 0), 0);
        (void)close(fd);
        fd = open_node(&camera);
        assert_int_equal(counters("back").set_interface, 1);
        assert_int_equal(control(fd, 0x81, USB_REQ_GET_INTERFACE, 0, 1, &alternate), 1);
        assert_int_equal(alternate, FIRMWARE_ALT);
        assert_string_equal(attribute(&camera, ":1.0", "bAlternateSetting"), " 0");
        (void)close(fd);
}

/* --- drivers of the kernel --- */

static void driver_goes_and_comes_back(void **state)
{
        struct machine_answer camera;
        struct usbdevfs_getdriver name = { .interface = 1 };
        struct usbdevfs_ioctl detach = { .ifno = 1, .ioctl_code = (int)USBDEVFS_DISCONNECT }, attach = { .ifno = 1, .ioctl_code = USBDEVFS_CONNECT };
        int fd;

        (void)plugged("serial", true);
        camera = until_mode("serial", SIM_RUNTIME);
        assert_string_equal(attribute(&camera, "", "idProduct"), "1204");
        fd = open_node(&camera);
        assert_int_equal(call(fd, USBDEVFS_GETDRIVER, &name), 0);
        assert_string_equal(name.driver, "cdc_acm");
        assert_int_equal(claim(fd, 1), -EBUSY);
        assert_int_equal(call(fd, USBDEVFS_SETCONFIGURATION, &(int){ 1 }), -EBUSY);
        assert_int_equal(call(fd, USBDEVFS_IOCTL, &attach), -EBUSY);
        assert_int_equal(call(fd, USBDEVFS_IOCTL, &detach), 0);
        assert_int_equal(call(fd, USBDEVFS_IOCTL, &detach), -ENODATA);
        assert_int_equal(claim(fd, 1), 0);
        assert_int_equal(release(fd, 1), 0);
        assert_int_equal(call(fd, USBDEVFS_IOCTL, &attach), 1);
        assert_int_equal(call(fd, USBDEVFS_GETDRIVER, &name), 0);
        assert_string_equal(name.driver, "cdc_acm");
        (void)close(fd);
}

/* --- no configuration, no device --- */

static void device_that_takes_no_configuration(void **state)
{
        struct machine_order order = { .verb = MACHINE_CAMERA };
        struct machine_answer camera;
        uint8_t bytes[18];
        int fd;

        sim_config_default(&order.config, SIM_OPENMV4, 1000);
        order.config.window_scale = 1000;
        (void)snprintf(order.name, sizeof(order.name), "stubborn");
        assert_int_equal(machine_ask(&order).error, 0);
        order.verb = MACHINE_FAULT;
        order.fault = (struct sim_fault){ .kind = SIM_FAULT_STALL, .request_type = 0x00, .request = USB_REQ_SET_CONFIGURATION, .count = 1 };
        assert_int_equal(machine_ask(&order).error, 0);
        camera = tell(MACHINE_PLUG, "stubborn", 0);
        assert_int_equal(camera.error, 0);
        assert_string_equal(attribute(&camera, "", "idVendor"), "37c5");
        assert_string_equal(attribute(&camera, "", "bConfigurationValue"), "");
        assert_string_equal(attribute(&camera, "", "bNumInterfaces"), "");
        fd = open_node(&camera);
        assert_int_equal(claim(fd, 0), -ENOENT);
        assert_int_equal(get_status(fd), -EHOSTUNREACH);
        assert_int_equal(control(fd, 0x80, USB_REQ_GET_DESCRIPTOR, 0x0100, 18, bytes), 18);
        (void)close(fd);
}

static void device_that_is_deconfigured(void **state)
{
        struct machine_order order = { .verb = MACHINE_CAMERA };
        struct machine_answer camera;
        int fd;

        /* In the ROM: that stays. */
        sim_config_default(&order.config, SIM_FOREIGN, 1001);
        (void)snprintf(order.name, sizeof(order.name), "foreign");
        assert_int_equal(machine_ask(&order).error, 0);
        camera = tell(MACHINE_PLUG, "foreign", 0);
        assert_int_equal(camera.error, 0);
        fd = open_node(&camera);
        assert_int_equal(set_interface(fd, 1), 0);
        assert_string_equal(attribute(&camera, ":1.0", "bAlternateSetting"), " 1");
        /* It answers a reset, claims and settings are gone. */
        assert_int_equal(call(fd, USBDEVFS_RESET, NULL), 0);
        assert_string_equal(attribute(&camera, ":1.0", "bAlternateSetting"), " 0");
        assert_string_equal(driver(&camera), "");
        assert_int_equal(release(fd, 0), -EINVAL);
        assert_int_equal(call(fd, USBDEVFS_SETCONFIGURATION, &(int){ 0 }), 0);
        assert_string_equal(attribute(&camera, "", "bConfigurationValue"), "");
        assert_string_equal(attribute(&camera, ":1.0", "bInterfaceNumber"), "");
        assert_int_equal(claim(fd, 0), -ENOENT);
        assert_int_equal(get_status(fd), -EHOSTUNREACH);
        assert_int_equal(call(fd, USBDEVFS_SETCONFIGURATION, &(int){ 1 }), 0);
        assert_string_equal(attribute(&camera, "", "bConfigurationValue"), "1");
        assert_string_equal(attribute(&camera, ":1.0", "bInterfaceNumber"), "00");
        assert_int_equal(strncmp(attribute(&camera, ":1.0", "interface"), "@Internal Flash", 15), 0);
        assert_int_equal(get_status(fd), 6);
        (void)close(fd);
}

static void departed_with_a_request_under_way(void **state)
{
        struct machine_answer camera = plugged("departed", false);
        struct machine_order order = { .verb = MACHINE_FAULT, .name = "departed" };
        uint8_t buffer[14] = { 0xa1, GETSTATUS, 0, 0, 0, 0, 6, 0 };
        struct usbdevfs_urb urb = { .type = USBDEVFS_URB_TYPE_CONTROL, .buffer = buffer, .buffer_length = sizeof(buffer) }, *reaped = NULL;
        int fd = open_node(&camera);
        struct pollfd wait = { .fd = fd, .events = POLLOUT };

        order.fault = (struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = -1, .request = GETSTATUS };
        assert_int_equal(machine_ask(&order).error, 0);
        assert_int_equal(claim(fd, 0), 0);
        assert_int_equal(call(fd, USBDEVFS_SUBMITURB, &urb), 0);
        assert_int_equal(call(fd, USBDEVFS_REAPURBNDELAY, &reaped), -EAGAIN);
        assert_int_equal(tell(MACHINE_UNPLUG, "departed", 0).error, 0);
        assert_int_equal(poll(&wait, 1, 10000), 1);
        assert_true(wait.revents & POLLERR && wait.revents & POLLHUP);
        assert_int_equal(call(fd, USBDEVFS_REAPURBNDELAY, &reaped), 0);
        assert_ptr_equal(reaped, &urb);
        assert_int_equal(urb.status, -ESHUTDOWN);
        assert_int_equal(call(fd, USBDEVFS_REAPURBNDELAY, &reaped), -ENODEV);
        assert_int_equal(claim(fd, 0), -ENODEV);
        assert_int_equal(open(camera.node, O_RDWR | O_CLOEXEC), -1);
        assert_int_equal(errno, ENOENT);
        (void)close(fd);
}

static void reset_takes_the_claims(void **state)
{
        struct machine_answer camera = plugged("reset", false);
        int fd = open_node(&camera);

        assert_int_equal(claim(fd, 0), 0);
        /* The bootloader leaves when the bus is reset: the kernel does not find it again. */
        assert_int_equal(call(fd, USBDEVFS_RESET, NULL), -ENODEV);
        assert_int_equal(claim(fd, 0), -ENODEV);
        (void)close(fd);
}

static int test(void)
{
        const struct CMUnitTest tests[] = {
                { "/claim/use-without-one-is-one", use_without_claim_is_a_claim, NULL, NULL, NULL },
                { "/claim/errors", errors_of_claims, NULL, NULL, NULL },
                { "/claim/is-not-told", claims_are_not_told, NULL, NULL, NULL },
                { "/setting/shows-in-sysfs-and-is-undone", setting_shows_in_sysfs_and_is_undone, NULL, NULL, NULL },
                { "/setting/behind-the-kernels-back-stays", setting_behind_the_kernels_back_stays, NULL, NULL, NULL },
                { "/driver/goes-and-comes-back", driver_goes_and_comes_back, NULL, NULL, NULL },
                { "/device/takes-no-configuration", device_that_takes_no_configuration, NULL, NULL, NULL },
                { "/device/is-deconfigured", device_that_is_deconfigured, NULL, NULL, NULL },
                { "/device/departed-with-a-request-under-way", departed_with_a_request_under_way, NULL, NULL, NULL },
                { "/device/reset-takes-the-claims", reset_takes_the_claims, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests_name("usbfs", tests, NULL, NULL);
}

int main(void)
{
        return machine_run(test);
}

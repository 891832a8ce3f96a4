/* SPDX-License-Identifier: MIT */
/*
 * Camera.HoldInBootloader and Camera.Release.  Whether a bootloader may be let go is found out by looking at its
 * flash: Release is answered when it has left, or stays.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "edge/bus-internal.h"

struct releasing {
        struct bus *bus;
        struct camera *camera;
        sd_bus_message *message;
        LIST_ENTRY(releasing) link;     /* in bus->releasings */
};

static void releasing_free(struct releasing *releasing)
{
        LIST_REMOVE(releasing, link);
        sd_bus_message_unref(releasing->message);
        free(releasing);
}

/* The option "timeout", if it is there.  Whatever else is there is refused. */
static int read_options(sd_bus_message *message, uint64_t *timeout, sd_bus_error *error)
{
        const char *key;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &key);
                if (r < 0)
                        return r;
                if (strcmp(key, "timeout") != 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Unknown option \"%s\".", key);
                r = sd_bus_message_read(message, "v", "t", timeout);
                if (r < 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"timeout\" is not of type \"t\".");
                r = sd_bus_message_exit_container(message);
        }
        if (r < 0)
                return r;
        if (*timeout == 0 || *timeout > HOLD_MAX)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "A timeout is of 1 to %llu microseconds.", (unsigned long long)HOLD_MAX);
        return sd_bus_message_exit_container(message);
}

int bus_on_hold(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct camera *camera = userdata;
        struct request_result result;
        uint64_t timeout = HOLD_DEFAULT;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = read_options(message, &timeout, error);
        if (r < 0)
                return r;
        if (!camera_hold(camera, timeout, &result))
                return sd_bus_error_setf(error, BUS_ERROR_REFUSED, "Not held: %s.", result.text);
        return sd_bus_reply_method_return(message, "");
}

static void on_released(void *userdata, enum release_end end, const char *message)
{
        struct releasing *releasing = userdata;

        switch (end) {
        case RELEASE_DONE:
                (void)sd_bus_reply_method_return(releasing->message, "");
                break;
        case RELEASE_BUSY:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_BUSY, "It stays in its bootloader: %s.", message);
                break;
        case RELEASE_INCOMPLETE:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_INCOMPLETE, "It stays in its bootloader: %s.", message);
                break;
        case RELEASE_REFUSED:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_REFUSED, "%s", message);
                break;
        case RELEASE_FAILED:
                (void)sd_bus_reply_method_errorf(releasing->message, BUS_ERROR_FAILED, "It could not be told to leave: %s.", message);
                break;
        }
        defer_call(&releasing->bus->prepare);
        releasing_free(releasing);
}

int bus_on_release(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        struct camera *camera = userdata;
        struct releasing *releasing;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        releasing = calloc(1, sizeof(*releasing));
        if (!releasing)
                return -ENOMEM;
        *releasing = (struct releasing){ .bus = bus, .camera = camera, .message = sd_bus_message_ref(message) };
        LIST_INSERT_HEAD(&bus->releasings, releasing, link);
        camera_release(camera, on_released, releasing);
        return 1;                       /* answered, now or later */
}

void bus_forget_releasings(struct bus *bus)
{
        struct releasing *releasing;

        while ((releasing = LIST_FIRST(&bus->releasings))) {
                camera_release_forget(releasing->camera);
                releasing_free(releasing);
        }
}

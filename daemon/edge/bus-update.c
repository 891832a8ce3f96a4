/* SPDX-License-Identifier: MIT */
/* org.camrescue1.Update: getters and verbs of one update. */

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "edge/bus-internal.h"

#define GETTER(name, type, expression)                                                                          \
        static int name(sd_bus *connection, const char *path, const char *interface, const char *property,      \
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)                             \
        {                                                                                                       \
                const struct update *update = userdata;                                                         \
                                                                                                                \
                return sd_bus_message_append(reply, type, (expression));                                        \
        }

GETTER(get_id, "s", update->record.id)
GETTER(get_firmware, "s", update->record.version)
GETTER(get_reason, "s", update->record.reason)
GETTER(get_wish, "s", update->record.wish)
GETTER(get_step, "s", update_step_to_string(update->step))
GETTER(get_image, "s", update->image)
GETTER(get_bytes_done, "t", update->bytes_done)
GETTER(get_bytes_total, "t", update->bytes_total)
GETTER(get_progress, "d", update->progress)
GETTER(get_attempt, "u", update->record.attempts)
GETTER(get_started, "t", update->record.started)
GETTER(get_ended, "t", update->record.ended)
GETTER(get_result, "s", update_result_to_string(update->result))
GETTER(get_error, "s", update->record.outcome)
GETTER(get_message, "s", update->record.message)
GETTER(get_rate, "t", update->rate)
GETTER(get_eta, "t", update->left)
GETTER(get_resume_count, "u", update->record.attempts > 1 ? update->record.attempts - 1 : 0)
GETTER(get_units_written, "u", update->units_written)
GETTER(get_units_total, "u", update->units_total)

static int get_camera(sd_bus *connection, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct update *update = userdata;
        char camera[BUS_PATH_MAX];

        return sd_bus_message_append(reply, "o", update->camera ? bus_camera_path(update->camera, camera) : "/");
}

static int on_cancel(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct update *update = userdata;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (!update->camera || registry_cancel(update->camera->registry, update) == -EALREADY)
                return sd_bus_error_setf(error, BUS_ERROR_NOTHING_TO_DO, "Update %s has ended.", update->record.id);
        return sd_bus_reply_method_return(message, "");
}

static int on_retry(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct update *update = userdata;
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_no_options(message, error);
        if (r < 0)
                return r;
        if (!update->camera || update->camera->update != update)
                return sd_bus_error_setf(error, BUS_ERROR_REFUSED, "Update %s is not the last one of its camera: retry that.",
                                         update->record.id);
        return bus_retry(message, update->camera, error);
}

#define P(name, type, getter) SD_BUS_PROPERTY(name, type, getter, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

const sd_bus_vtable bus_update_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", "", "", on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Retry", "a{sv}", SD_BUS_PARAM(options), "oss",
                                 SD_BUS_PARAM(update) SD_BUS_PARAM(action) SD_BUS_PARAM(text), on_retry, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Id", "s", get_id, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        P("Camera", "o", get_camera),
        P("Firmware", "s", get_firmware),
        P("Reason", "s", get_reason),
        P("Wish", "s", get_wish),
        P("Step", "s", get_step),
        P("Image", "s", get_image),
        P("BytesDone", "t", get_bytes_done),
        P("BytesTotal", "t", get_bytes_total),
        P("Progress", "d", get_progress),
        P("Rate", "t", get_rate),
        P("Eta", "t", get_eta),
        P("Attempt", "u", get_attempt),
        P("ResumeCount", "u", get_resume_count),
        P("Started", "t", get_started),
        P("Ended", "t", get_ended),
        P("Result", "s", get_result),
        P("Error", "s", get_error),
        P("Message", "s", get_message),
        P("UnitsWritten", "u", get_units_written),
        P("UnitsTotal", "u", get_units_total),
        SD_BUS_VTABLE_END,
};

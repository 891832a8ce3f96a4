/* SPDX-License-Identifier: MIT */
/* org.camrescue1.Camera: getters and verbs of one camera. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "edge/bus-internal.h"

#define TELLINGS_MAX 64                 /* histories being read at a time */

/* --- properties --- */

#define STRING_GETTER(name, expression)                                                                         \
        static int name(sd_bus *connection, const char *path, const char *interface, const char *property,      \
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)                             \
        {                                                                                                       \
                const struct camera *camera = userdata;                                                         \
                                                                                                                \
                return sd_bus_message_append(reply, "s", (expression));                                         \
        }

STRING_GETTER(get_unique_id, camera->has_uid ? camera->record.key : "")
STRING_GETTER(get_key, camera->record.key)
STRING_GETTER(get_serial, camera->sighting.serial)
STRING_GETTER(get_label, camera->record.label)
STRING_GETTER(get_board, camera->board ? camera->board->id : "")
STRING_GETTER(get_board_name, camera->board ? camera->board->name : "")
STRING_GETTER(get_port, camera->record.port)
STRING_GETTER(get_mode, camera_mode_to_string(camera->mode))
STRING_GETTER(get_state, camera_state_to_string(camera->state))
STRING_GETTER(get_firmware, camera->record.firmware_version)
STRING_GETTER(get_node, camera->attached ? camera->sighting.node : "")

static int get_bootloader(sd_bus *connection, const char *path, const char *interface, const char *property,
                          sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct camera *camera = userdata;
        uint16_t d = camera->record.bootloader_device;
        char version[32] = "";

        /* 0x0200 is older than 0x0102 (dfu.md A.1): "1.0.0 or older". */
        if (d == 0x0200)
                snprintf(version, sizeof(version), "1.0.0");
        else if (d)
                snprintf(version, sizeof(version), "%u.%u.%u", d >> 8 & 0xf, d >> 4 & 0xf, d & 0xf);
        return sd_bus_message_append(reply, "s", version);
}

static int get_diagnosis(sd_bus *connection, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct diagnosis d = camera_diagnosis(userdata);

        return sd_bus_message_append(reply, "s", strcmp(property, "Advice") == 0 ? d.advice :
                                     strcmp(property, "DiagnosisText") == 0 ? d.text : diagnosis_code_to_string(d.code));
}

static int get_attached(sd_bus *connection, const char *path, const char *interface, const char *property,
                        sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct camera *camera = userdata;

        return sd_bus_message_append(reply, "b", camera->attached);
}

static int get_inhibited(sd_bus *connection, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "b", camera_is_inhibited(userdata));
}

static int get_last_seen(sd_bus *connection, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct camera *camera = userdata;

        return sd_bus_message_append(reply, "t", camera->record.last_seen);
}

static int get_update(sd_bus *connection, const char *path, const char *interface, const char *property,
                      sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct camera *camera = userdata;
        char update[BUS_PATH_MAX];

        return sd_bus_message_append(reply, "o", camera->update ? bus_update_path(camera->update, update) : "/");
}

static int get_automatic(sd_bus *connection, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct camera *camera = userdata;

        return sd_bus_message_append(reply, "i", camera->record.automatic);
}

static int get_saved(sd_bus *connection, const char *path, const char *interface, const char *property,
                     sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct camera *camera = userdata;
        const struct saved_record *saved;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "s");
        for (size_t i = 0; r >= 0 && (saved = store_nth_saved(registry_context(camera->registry)->store, i)); i++)
                if (strcmp(saved->camera, camera->record.key) == 0)
                        r = sd_bus_message_append(reply, "s", saved->partition);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

/* --- verbs --- */

static int do_request(sd_bus_message *message, struct camera *camera, enum wish wish, unsigned allowed, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        struct request request = { .wish = wish };
        struct request_result result;
        struct bus_image image;
        int r;

        r = bus_check_access_of(message, wish == WISH_RECOVER ? ACCESS_RECOVER : ACCESS_UPDATE, &request.said_at, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_request(message, allowed, &request, &image, error);
        if (r < 0)
                return r;
        if (image.fd >= 0)
                return bus_request_with_image(message, camera, &request, &image, error);
        r = accepting_check_room(bus, error);
        if (r < 0)
                return r;
        registry_request(camera->registry, camera, &request, &result);
        return bus_reply_request(bus, message, &result, error);
}

static int on_update(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return do_request(message, userdata, WISH_UPDATE,
                          BUS_OPTION_FIRMWARE | BUS_OPTION_ROMFS | BUS_OPTION_ERASE | BUS_OPTION_REPLACE | BUS_OPTION_STAY |
                          BUS_OPTION_IMAGE, error);
}

static int on_recover(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return do_request(message, userdata, WISH_RECOVER, BUS_OPTION_FIRMWARE | BUS_OPTION_BOARD | BUS_OPTION_REPLACE | BUS_OPTION_IMAGE,
                          error);
}

static int on_restore(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return do_request(message, userdata, WISH_RESTORE, 0, error);
}

static int on_set_automatic(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct camera *camera = userdata;
        int automatic, r;

        r = bus_check_access(message, ACCESS_MANAGE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(message, "i", &automatic);
        if (r < 0)
                return r;
        if (automatic < -1 || automatic > 1)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "-1, 0 or 1 was expected.");
        registry_set_automatic(camera->registry, camera, automatic);
        return sd_bus_reply_method_return(message, "");
}

static int on_set_label(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct camera *camera = userdata;
        const char *label;
        int r;

        r = bus_check_access(message, ACCESS_MANAGE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(message, "s", &label);
        if (r < 0)
                return r;
        r = registry_set_label(camera->registry, camera, label);
        if (r == -EINVAL)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "\"%s\" is no label: at most 63 bytes, no port path, no dash or space at "
                                         "the beginning.", label);
        if (r == -EEXIST)
                return sd_bus_error_setf(error, BUS_ERROR_REFUSED, "Another camera is called \"%s\".", label);
        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_REFUSED, "This device is not known to be a certain camera: it would be forgotten "
                                         "with its label.");
        return sd_bus_reply_method_return(message, "");
}

int bus_retry(sd_bus_message *message, struct camera *camera, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        struct request_result result;
        int r = accepting_check_room(bus, error);

        if (r < 0)
                return r;
        registry_retry(camera->registry, camera, &result);
        return bus_reply_request(bus, message, &result, error);
}

static int on_retry(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        int r;

        r = bus_check_access(message, ACCESS_UPDATE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = bus_read_no_options(message, error);
        return r < 0 ? r : bus_retry(message, userdata, error);
}

static int on_forget(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct camera *camera = userdata;
        int saved, r;

        r = bus_check_access(message, ACCESS_MANAGE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(message, "b", &saved);
        if (r < 0)
                return r;
        switch (registry_forget(camera->registry, camera, saved)) {
        case 0:
                return sd_bus_reply_method_return(message, "");
        case -EBUSY:
                return sd_bus_error_setf(error, BUS_ERROR_REFUSED, "It is attached: unplug it first.");
        case -EALREADY:
                return sd_bus_error_setf(error, BUS_ERROR_UPDATE_OPEN, "Update %s is open for it: cancel that first.",
                                         camera->update->record.id);
        default:
                return sd_bus_error_setf(error, BUS_ERROR_HAS_SAVED, "Images were saved from it before it was overwritten, and would be deleted.");
        }
}

/* --- history: read on a helper thread --- */

struct telling {
        struct bus *bus;
        sd_bus_message *message;
        LIST_ENTRY(telling) link;       /* in bus->tellings */
};

static void telling_free(struct telling *telling)
{
        LIST_REMOVE(telling, link);
        sd_bus_message_unref(telling->message);
        free(telling);
}

void bus_forget_tellings(struct bus *bus)
{
        struct telling *telling;

        while ((telling = LIST_FIRST(&bus->tellings))) {
                journal_read_cancel(registry_context(bus->registry)->journal, telling);
                telling_free(telling);
        }
}

static void on_history(void *userdata, int fault, const struct history_line *lines, size_t n)
{
        struct telling *telling = userdata;
        sd_bus_message *reply = NULL;
        int r;

        if (fault < 0) {
                (void)sd_bus_reply_method_errorf(telling->message, BUS_ERROR_FAILED, "The state database cannot be read: %s.", strerror(-fault));
        } else {
                r = sd_bus_message_new_method_return(telling->message, &reply);
                if (r >= 0)
                        r = sd_bus_message_open_container(reply, 'a', "(tss)");
                for (size_t i = 0; i < n && r >= 0; i++)
                        r = sd_bus_message_append(reply, "(tss)", lines[i].wall, lines[i].event, lines[i].text);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
                if (r >= 0)
                        r = sd_bus_send(NULL, reply, NULL);
                if (r < 0)
                        (void)sd_bus_reply_method_errno(telling->message, r, NULL);
                sd_bus_message_unref(reply);
        }
        defer_call(&telling->bus->prepare);
        telling_free(telling);
}

static int on_get_history(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        const struct camera *camera = userdata;
        struct telling *telling;
        uint32_t max;
        size_t n = 0;
        int r;

        r = sd_bus_message_read(message, "u", &max);
        if (r < 0)
                return r;
        LIST_FOREACH(telling, &bus->tellings, link)
                n++;
        if (n >= TELLINGS_MAX)
                return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too many questions at a time: ask again.");
        telling = calloc(1, sizeof(*telling));
        if (!telling)
                return -ENOMEM;
        telling->bus = bus;
        r = journal_read_history(registry_context(bus->registry)->journal, camera->record.key, max ?: SIZE_MAX, on_history, telling);
        if (r < 0) {
                free(telling);
                return r;
        }
        telling->message = sd_bus_message_ref(message);
        LIST_INSERT_HEAD(&bus->tellings, telling, link);
        return 1;
}

#define P(name, type, getter) SD_BUS_PROPERTY(name, type, getter, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

const sd_bus_vtable bus_camera_vtable[] = {
        SD_BUS_VTABLE_START(0),
        P("UniqueId", "s", get_unique_id),
        P("Key", "s", get_key),
        P("Serial", "s", get_serial),
        P("Label", "s", get_label),
        P("Board", "s", get_board),
        P("BoardName", "s", get_board_name),
        P("Port", "s", get_port),
        P("Attached", "b", get_attached),
        P("Mode", "s", get_mode),
        P("State", "s", get_state),
        P("FirmwareVersion", "s", get_firmware),
        P("BootloaderVersion", "s", get_bootloader),
        P("Diagnosis", "s", get_diagnosis),
        P("DiagnosisText", "s", get_diagnosis),
        P("Advice", "s", get_diagnosis),
        P("DeviceNode", "s", get_node),
        P("LastSeen", "t", get_last_seen),
        P("Update", "o", get_update),
        P("Automatic", "i", get_automatic),
        P("Saved", "as", get_saved),
        P("Inhibited", "b", get_inhibited),
        SD_BUS_METHOD_WITH_NAMES("Update", "a{sv}", SD_BUS_PARAM(options), "oss",
                                 SD_BUS_PARAM(update) SD_BUS_PARAM(action) SD_BUS_PARAM(text), on_update,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Recover", "a{sv}", SD_BUS_PARAM(options), "oss",
                                 SD_BUS_PARAM(update) SD_BUS_PARAM(action) SD_BUS_PARAM(text), on_recover,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Restore", "a{sv}", SD_BUS_PARAM(options), "oss",
                                 SD_BUS_PARAM(update) SD_BUS_PARAM(action) SD_BUS_PARAM(text), on_restore,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Retry", "a{sv}", SD_BUS_PARAM(options), "oss",
                                 SD_BUS_PARAM(update) SD_BUS_PARAM(action) SD_BUS_PARAM(text), on_retry, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("HoldInBootloader", "a{sv}", SD_BUS_PARAM(options), "",, bus_on_hold, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("ReadFlash", "a{sv}", SD_BUS_PARAM(options), "h", SD_BUS_PARAM(fd), bus_on_read, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Release", "a{sv}", SD_BUS_PARAM(options), "",, bus_on_release, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Forget", "b", SD_BUS_PARAM(saved), "",, on_forget, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("GetHistory", "u", SD_BUS_PARAM(max), "a(tss)", SD_BUS_PARAM(history), on_get_history,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("SetAutomatic", "i", SD_BUS_PARAM(automatic), "",, on_set_automatic,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("SetLabel", "s", SD_BUS_PARAM(label), "",, on_set_label, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

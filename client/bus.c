/* SPDX-License-Identifier: MIT */
/*
 * The daemon as the client sees it.  Properties are put into structs by one
 * table per interface; what has another type than the interface says, or is
 * not in the table, is passed over and the member keeps its empty value: an
 * update whose result makes no sense is never taken for a done one.
 */

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/bus.h"
#include "client/text.h"

/* For answers from memory; SYSTEMD_BUS_TIMEOUT in the environment overrides it (systemd's ENVIRONMENT.md). */
#define READ_TIMEOUT_USEC (10 * UINT64_C(1000000))
#define PEEK_TIMEOUT_USEC (800 * UINT64_C(1000))
/* A person may be typing his password into polkit's dialogue. */
#define CALL_TIMEOUT_USEC (120 * UINT64_C(1000000))
/* For whoever was told to stop: what was asked for a moment ago can be taken back only when it is answered. */
#define STOP_TIMEOUT_USEC (2 * UINT64_C(1000000))

struct bus {
        sd_bus *bus;
        sd_event *event;
        sd_bus_slot *signals, *owner, *reading;
        char *daemon;                   /* its unique name; NULL: not there */
        struct camera **cameras;
        size_t n_cameras;
        bool sorted;
        struct update **updates;
        size_t n_updates;
        bool closing;
        bus_fn fn;
        void *userdata;
};

/* --- properties --- */

static const struct bus_property camera_properties[] = {
        { "UniqueId", 's', offsetof(struct camera, unique_id) },
        { "Key", 's', offsetof(struct camera, key) },
        { "Serial", 's', offsetof(struct camera, serial) },
        { "Board", 's', offsetof(struct camera, board) },
        { "BoardName", 's', offsetof(struct camera, board_name) },
        { "Port", 's', offsetof(struct camera, port) },
        { "Attached", 'b', offsetof(struct camera, attached) },
        { "Mode", 's', offsetof(struct camera, mode) },
        { "State", 's', offsetof(struct camera, state) },
        { "FirmwareVersion", 's', offsetof(struct camera, firmware) },
        { "BootloaderVersion", 's', offsetof(struct camera, bootloader) },
        { "Diagnosis", 's', offsetof(struct camera, diagnosis) },
        { "DiagnosisText", 's', offsetof(struct camera, diagnosis_text) },
        { "Advice", 's', offsetof(struct camera, advice) },
        { "DeviceNode", 's', offsetof(struct camera, node) },
        { "LastSeen", 't', offsetof(struct camera, last_seen) },
        { "Update", 'o', offsetof(struct camera, update) },
        { "Automatic", 'i', offsetof(struct camera, automatic) },
        { "Saved", 'A', offsetof(struct camera, saved) },
        { "Label", 's', offsetof(struct camera, label) },
        { "Inhibited", 'b', offsetof(struct camera, inhibited) },
        { NULL, 's', offsetof(struct camera, path) },
};

static const struct bus_property update_properties[] = {
        { "Id", 's', offsetof(struct update, id) },
        { "Camera", 'o', offsetof(struct update, camera) },
        { "Firmware", 's', offsetof(struct update, firmware) },
        { "Reason", 's', offsetof(struct update, reason) },
        { "Wish", 's', offsetof(struct update, wish) },
        { "Step", 's', offsetof(struct update, step) },
        { "Image", 's', offsetof(struct update, image) },
        { "BytesDone", 't', offsetof(struct update, bytes_done) },
        { "BytesTotal", 't', offsetof(struct update, bytes_total) },
        { "Progress", 'd', offsetof(struct update, progress) },
        { "Rate", 't', offsetof(struct update, speed) },
        { "Eta", 't', offsetof(struct update, left) },
        { "Attempt", 'u', offsetof(struct update, attempt) },
        { "Started", 't', offsetof(struct update, started) },
        { "Ended", 't', offsetof(struct update, ended) },
        { "Result", 's', offsetof(struct update, result) },
        { "Error", 's', offsetof(struct update, error) },
        { "Message", 's', offsetof(struct update, message) },
        { "UnitsWritten", 'u', offsetof(struct update, units_written) },
        { "UnitsTotal", 'u', offsetof(struct update, units_total) },
        { NULL, 's', offsetof(struct update, path) },
};

static bool is_string(char type)
{
        return type == 's' || type == 'o';
}

static void strv_free(char **strings)
{
        if (strings)
                for (char **s = strings; *s; s++)
                        free(*s);
        free(strings);
}

void *bus_object_free(void *object, const struct bus_property *properties)
{
        const struct bus_property *p = properties;

        if (!object)
                return NULL;
        for (;; p++) {
                void *member = (char *)object + p->offset;

                if (is_string(p->type))
                        free(*(char **)member);
                else if (p->type == 'A')
                        strv_free(*(char ***)member);
                if (!p->name)
                        break;
        }
        free(object);
        return NULL;
}

int bus_object_new(const char *path, const struct bus_property *properties, size_t size, void **ret)
{
        const struct bus_property *p = properties;
        void *object = calloc(1, size);

        if (!object)
                return -ENOMEM;
        for (;; p++) {
                char **member = (char **)(void *)((char *)object + p->offset);

                if (is_string(p->type)) {
                        *member = strdup(p->name ? p->type == 'o' ? "/" : "" : path);
                        if (!*member) {
                                bus_object_free(object, properties);
                                return -ENOMEM;
                        }
                }
                if (!p->name)
                        break;
        }
        *ret = object;
        return 0;
}

static const struct bus_property *property_find(const struct bus_property *properties, const char *name)
{
        for (; properties->name; properties++)
                if (strcmp(properties->name, name) == 0)
                        return properties;
        return NULL;
}

/* The message stands before the variant. */
static int property_read(sd_bus_message *m, const struct bus_property *property, void *object)
{
        const char *contents, *want;
        char type, signature[2] = { property ? property->type : '\0', '\0' };
        void *member;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r < 0)
                return r;
        want = property && property->type == 'A' ? "as" : signature;
        if (!property || type != SD_BUS_TYPE_VARIANT || strcmp(contents, want) != 0)
                return sd_bus_message_skip(m, "v");
        member = (char *)object + property->offset;
        r = sd_bus_message_enter_container(m, SD_BUS_TYPE_VARIANT, contents);
        if (r < 0)
                return r;
        if (is_string(property->type)) {
                const char *s;
                char *copy;

                r = sd_bus_message_read_basic(m, property->type, &s);
                if (r < 0)
                        return r;
                copy = strdup(s);
                if (!copy)
                        return -ENOMEM;
                free(*(char **)member);
                *(char **)member = copy;
        } else if (property->type == 'A') {
                char **strings = NULL;

                r = sd_bus_message_read_strv(m, &strings);
                if (r < 0)
                        return r;
                strv_free(*(char ***)member);
                *(char ***)member = strings;
        } else if (property->type == 'b') {
                int b;

                r = sd_bus_message_read_basic(m, 'b', &b);
                if (r < 0)
                        return r;
                *(bool *)member = b;
        } else {
                r = sd_bus_message_read_basic(m, property->type, member);
                if (r < 0)
                        return r;
        }
        return sd_bus_message_exit_container(m);
}

/* a{sv} */
int bus_properties_read(sd_bus_message *m, const struct bus_property *properties, void *object)
{
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read_basic(m, 's', &name);
                if (r < 0)
                        return r;
                r = property_read(m, property_find(properties, name), object);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

/* --- objects --- */

static void camera_free(struct camera *camera)
{
        bus_object_free(camera, camera_properties);
}

static void update_free(struct update *update)
{
        bus_object_free(update, update_properties);
}

static void forget_all(struct bus *bus)
{
        for (size_t i = 0; i < bus->n_cameras; i++)
                camera_free(bus->cameras[i]);
        for (size_t i = 0; i < bus->n_updates; i++)
                update_free(bus->updates[i]);
        bus->n_cameras = bus->n_updates = 0;
}

static struct camera *camera_find(const struct bus *bus, const char *path)
{
        for (size_t i = 0; i < bus->n_cameras; i++)
                if (strcmp(bus->cameras[i]->path, path) == 0)
                        return bus->cameras[i];
        return NULL;
}

static struct update *update_find(const struct bus *bus, const char *path)
{
        for (size_t i = 0; i < bus->n_updates; i++)
                if (strcmp(bus->updates[i]->path, path) == 0)
                        return bus->updates[i];
        return NULL;
}

static int camera_add(struct bus *bus, const char *path, struct camera **ret)
{
        struct camera **cameras, *camera = camera_find(bus, path);
        void *object;
        int r;

        if (camera) {
                *ret = camera;
                return 0;
        }
        cameras = reallocarray(bus->cameras, bus->n_cameras + 1, sizeof(*cameras));
        if (!cameras)
                return -ENOMEM;
        bus->cameras = cameras;
        r = bus_object_new(path, camera_properties, sizeof(struct camera), &object);
        if (r < 0)
                return r;
        camera = object;
        camera->automatic = -1;
        bus->sorted = false;
        *ret = cameras[bus->n_cameras++] = camera;
        return 0;
}

static int update_add(struct bus *bus, const char *path, struct update **ret)
{
        struct update **updates, *update = update_find(bus, path);
        void *object;
        int r;

        if (update) {
                *ret = update;
                return 0;
        }
        updates = reallocarray(bus->updates, bus->n_updates + 1, sizeof(*updates));
        if (!updates)
                return -ENOMEM;
        bus->updates = updates;
        r = bus_object_new(path, update_properties, sizeof(struct update), &object);
        if (r < 0)
                return r;
        *ret = updates[bus->n_updates++] = object;
        return 0;
}

static void camera_remove(struct bus *bus, const char *path)
{
        for (size_t i = 0; i < bus->n_cameras; i++)
                if (strcmp(bus->cameras[i]->path, path) == 0) {
                        camera_free(bus->cameras[i]);
                        bus->cameras[i] = bus->cameras[--bus->n_cameras];
                        bus->sorted = false;
                        return;
                }
}

static void update_remove(struct bus *bus, const char *path)
{
        for (size_t i = 0; i < bus->n_updates; i++)
                if (strcmp(bus->updates[i]->path, path) == 0) {
                        update_free(bus->updates[i]);
                        bus->updates[i] = bus->updates[--bus->n_updates];
                        return;
                }
}

static void tell(struct bus *bus, enum bus_change change, const struct camera *camera, const struct update *update)
{
        if (bus->fn)
                bus->fn(bus->userdata, change, camera, update);
}

static int compare_cameras(const void *pa, const void *pb)
{
        const struct camera *a = *(struct camera *const *)pa, *b = *(struct camera *const *)pb;
        int c;

        if (a->attached != b->attached)
                return a->attached ? -1 : 1;
        c = text_compare_natural(a->port, b->port);
        return c ? c : strcmp(a->path, b->path);
}

static uint64_t monotonic(void)
{
        struct timespec now = { .tv_sec = 0 };

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* It is a duration: it counts from when it was told. */
static void note_left(struct update *update)
{
        if (update->left == update->left_before)
                return;
        update->left_before = update->left;
        update->left_at = monotonic();
}

/* --- reading --- */

/* a{sa{sv}} of one object.  *ret_camera, *ret_update: which it was. */
static int interfaces_read(struct bus *bus, sd_bus_message *m, const char *path, struct camera **ret_camera, struct update **ret_update)
{
        int r;

        *ret_camera = NULL;
        *ret_update = NULL;
        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                const char *interface;

                r = sd_bus_message_read_basic(m, 's', &interface);
                if (r < 0)
                        return r;
                if (strcmp(interface, BUS_CAMERA) == 0) {
                        r = camera_add(bus, path, ret_camera);
                        if (r >= 0)
                                r = bus_properties_read(m, camera_properties, *ret_camera);
                } else if (strcmp(interface, BUS_UPDATE) == 0) {
                        r = update_add(bus, path, ret_update);
                        if (r >= 0)
                                r = bus_properties_read(m, update_properties, *ret_update);
                        if (r >= 0)
                                note_left(*ret_update);
                } else {
                        r = sd_bus_message_skip(m, "a{sv}");
                }
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        bus->sorted = false;
        return sd_bus_message_exit_container(m);
}

/* The reply of GetManagedObjects: a{oa{sa{sv}}}. */
static int objects_read(struct bus *bus, sd_bus_message *m)
{
        struct camera *camera;
        struct update *update;
        const char *path;
        int r;

        forget_all(bus);
        r = sd_bus_message_enter_container(m, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "oa{sa{sv}}")) > 0) {
                r = sd_bus_message_read_basic(m, 'o', &path);
                if (r < 0)
                        return r;
                r = interfaces_read(bus, m, path, &camera, &update);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        return sd_bus_message_exit_container(m);
}

static int remember_daemon(struct bus *bus, const char *unique_name)
{
        char *copy = unique_name && *unique_name ? strdup(unique_name) : NULL;

        if (unique_name && *unique_name && !copy)
                return -ENOMEM;
        free(bus->daemon);
        bus->daemon = copy;
        return 0;
}

static void lost(struct bus *bus)
{
        if (bus->closing)
                return;
        bus->closing = true;
        tell(bus, BUS_LOST, NULL, NULL);
}

static int on_objects(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;

        bus->reading = sd_bus_slot_unref(bus->reading);
        if (sd_bus_message_is_method_error(m, NULL)) {
                /* Gone again: NameOwnerChanged tells.  Else it is there and cannot answer. */
                if (bus_error_code(sd_bus_message_get_error(m)->name) != EXIT_NO_DAEMON)
                        lost(bus);
                return 0;
        }
        if (objects_read(bus, m) < 0 || (!bus->daemon && remember_daemon(bus, sd_bus_message_get_sender(m)) < 0)) {
                lost(bus);
                return 0;
        }
        tell(bus, BUS_RELOADED, NULL, NULL);
        return 0;
}

int bus_reload(struct bus *bus)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        int r;

        if (bus->reading)
                return 0;
        r = sd_bus_message_new_method_call(bus->bus, &call, BUS_NAME, BUS_ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        if (r < 0)
                return r;
        r = sd_bus_message_set_auto_start(call, false);
        if (r < 0)
                return r;
        return sd_bus_call_async(bus->bus, &bus->reading, call, on_objects, bus, 0);
}

/* --- signals --- */

static int on_interfaces_added(struct bus *bus, sd_bus_message *m)
{
        struct camera *camera;
        struct update *update;
        const char *path;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        r = interfaces_read(bus, m, path, &camera, &update);
        if (r < 0)
                return r;
        if (camera)
                tell(bus, BUS_CAMERA_CHANGED, camera, NULL);
        if (update)
                tell(bus, BUS_UPDATE_CHANGED, NULL, update);
        return 0;
}

static int on_interfaces_removed(struct bus *bus, sd_bus_message *m)
{
        const char *path, *interface;
        int r;

        r = sd_bus_message_read_basic(m, 'o', &path);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(m, 'a', "s");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read_basic(m, 's', &interface)) > 0) {
                if (strcmp(interface, BUS_CAMERA) == 0 && camera_find(bus, path)) {
                        tell(bus, BUS_CAMERA_GONE, camera_find(bus, path), NULL);
                        camera_remove(bus, path);
                } else if (strcmp(interface, BUS_UPDATE) == 0 && update_find(bus, path)) {
                        tell(bus, BUS_UPDATE_GONE, NULL, update_find(bus, path));
                        update_remove(bus, path);
                }
        }
        return r;
}

/* Properties whose values were not sent along: read everything again; no interface of ours has many. */
static int reload_if_invalidated(struct bus *bus, sd_bus_message *m)
{
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "s");
        if (r < 0)
                return r;
        r = sd_bus_message_read_basic(m, 's', &name);
        return r > 0 ? bus_reload(bus) : r;
}

static int on_properties_changed(struct bus *bus, sd_bus_message *m)
{
        const char *interface, *path = sd_bus_message_get_path(m);
        int r;

        r = sd_bus_message_read_basic(m, 's', &interface);
        if (r < 0)
                return r;
        if (strcmp(interface, BUS_CAMERA) == 0) {
                struct camera *camera = camera_find(bus, path);

                if (!camera)
                        return 0;
                r = bus_properties_read(m, camera_properties, camera);
                if (r < 0)
                        return r;
                bus->sorted = false;
                tell(bus, BUS_CAMERA_CHANGED, camera, NULL);
                return reload_if_invalidated(bus, m);
        }
        if (strcmp(interface, BUS_UPDATE) == 0) {
                struct update *update = update_find(bus, path);

                if (!update)
                        return 0;
                r = bus_properties_read(m, update_properties, update);
                if (r < 0)
                        return r;
                note_left(update);
                tell(bus, BUS_UPDATE_CHANGED, NULL, update);
                return reload_if_invalidated(bus, m);
        }
        return 0;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        int r = 0;

        /* Our match names the sender; this one also holds while two daemons change places. */
        if (!bus->daemon || strcmp(sd_bus_message_get_sender(m), bus->daemon) != 0)
                return 0;
        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged"))
                r = on_properties_changed(bus, m);
        else if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded"))
                r = on_interfaces_added(bus, m);
        else if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved"))
                r = on_interfaces_removed(bus, m);
        if (r < 0)
                lost(bus);
        return 0;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        const char *name, *before, *after;

        if (sd_bus_message_read(m, "sss", &name, &before, &after) < 0)
                return 0;
        if (bus->daemon && strcmp(bus->daemon, after) == 0)
                return 0;               /* told late of the daemon that answered already */
        if (bus->daemon) {
                bus->reading = sd_bus_slot_unref(bus->reading);
                forget_all(bus);
                (void)remember_daemon(bus, NULL);
                tell(bus, BUS_DAEMON_GONE, NULL, NULL);
        }
        if (*after && (remember_daemon(bus, after) < 0 || bus_reload(bus) < 0))
                lost(bus);
        return 0;
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        lost(userdata);
        return 0;
}

/* Only sent here: the bus handles them in order, so they stand when our next call is answered. */
static int subscribe(struct bus *bus)
{
        int r;

        r = sd_bus_add_match_async(bus->bus, &bus->signals,
                                   "type='signal',sender='" BUS_NAME "',path_namespace='" BUS_ROOT "'", on_signal, NULL, bus);
        if (r < 0)
                return r;
        r = sd_bus_add_match_async(bus->bus, &bus->owner,
                                   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                   "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME "'",
                                   on_owner, NULL, bus);
        if (r < 0)
                return r;
        r = sd_bus_match_signal(bus->bus, NULL, "org.freedesktop.DBus.Local", "/org/freedesktop/DBus/Local",
                                "org.freedesktop.DBus.Local", "Disconnected", on_disconnected, bus);
        if (r < 0)
                return r;
        r = sd_event_new(&bus->event);
        if (r < 0)
                return r;
        return sd_bus_attach_event(bus->bus, bus->event, SD_EVENT_PRIORITY_NORMAL);
}

/* --- connecting --- */

static bool is_one_of(const char *name, const char *const *names)
{
        for (; *names; names++)
                if (strcmp(*names, name) == 0)
                        return true;
        return false;
}

static bool is_connection_error(const char *name, int r)
{
        static const char *const names[] = {
                SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_IO_ERROR, "System.Error.ECONNRESET", "System.Error.ENOTCONN",
                "System.Error.EPIPE", "System.Error.ECONNREFUSED", NULL
        };

        return is_one_of(name, names) || (*name == '\0' && (r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -EIO));
}

static int open_connection(const char *address, const char *host, sd_bus **ret)
{
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        if (host)
                return sd_bus_open_system_remote(ret, host);
        if (!address)
                return sd_bus_open_system(ret);
        r = sd_bus_new(&bus);
        if (r < 0)
                return r;
        r = sd_bus_set_address(bus, address);
        if (r < 0)
                return r;
        r = sd_bus_set_bus_client(bus, true);
        if (r < 0)
                return r;
        r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = take_ptr(bus);
        return 0;
}

enum exit_code bus_connect(const struct client *client, struct bus **ret)
{
        _cleanup_(bus_freep) struct bus *bus = calloc(1, sizeof(*bus));
        int r;

        if (!bus)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        r = open_connection(client->bus_address, client->host, &bus->bus);
        /* It may end before we have said a word to it. */
        if (r < 0 && client->host && is_connection_error("", r))
                return bus_report_error(client, &SD_BUS_ERROR_NULL, r);
        if (r < 0 && client->host)
                return client_fail(client, EXIT_NO_DAEMON, "Cannot reach %s: %s.", client->host, strerror(-r));
        if (r < 0)
                return client_fail(client, EXIT_NO_DAEMON, "Cannot connect to the %s bus%s%s: %s.", client->bus_address ? "message" : "system",
                                   client->bus_address ? " at " : "", client->bus_address ? client->bus_address : "", strerror(-r));
        if (!getenv("SYSTEMD_BUS_TIMEOUT"))
                (void)sd_bus_set_method_call_timeout(bus->bus, READ_TIMEOUT_USEC);
        *ret = take_ptr(bus);
        return EXIT_DONE;
}

enum exit_code bus_peek(const struct client *client, bool objects, struct bus **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(bus_freep) struct bus *bus = calloc(1, sizeof(*bus));
        int r;

        if (!bus || open_connection(client->bus_address, client->host, &bus->bus) < 0)
                return EXIT_NO_DAEMON;
        /* Also for whoever only asks something else then: that would start it. */
        r = sd_bus_message_new_method_call(bus->bus, &call, BUS_NAME, BUS_ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(call, false);
        if (r >= 0)
                r = sd_bus_call(bus->bus, call, PEEK_TIMEOUT_USEC, NULL, &reply);
        if (r < 0 || (objects && objects_read(bus, reply) < 0))
                return EXIT_NO_DAEMON;
        *ret = take_ptr(bus);
        return EXIT_DONE;
}

enum exit_code bus_open(const struct client *client, bool watch, struct bus **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(bus_freep) struct bus *bus = NULL;
        enum exit_code code;
        int r;

        code = bus_connect(client, &bus);
        if (code != EXIT_DONE)
                return code;
        r = watch ? subscribe(bus) : 0;
        if (r >= 0)
                r = sd_bus_message_new_method_call(bus->bus, &call, BUS_NAME, BUS_ROOT, "org.freedesktop.DBus.ObjectManager",
                                                   "GetManagedObjects");
        if (r < 0)
                return client_fail(client, EXIT_NO_DAEMON, "Cannot use the bus: %s.", strerror(-r));
        r = sd_bus_call(bus->bus, call, 0, &error, &reply);
        if (r < 0)
                return bus_report_error(client, &error, r);
        if (remember_daemon(bus, sd_bus_message_get_sender(reply)) < 0 || objects_read(bus, reply) < 0)
                return bus_bad_reply(client, "the list of its objects");
        *ret = take_ptr(bus);
        return EXIT_DONE;
}

enum exit_code bus_attend(const struct client *client, struct bus **ret)
{
        _cleanup_(bus_freep) struct bus *bus = NULL;
        enum exit_code code = bus_connect(client, &bus);
        int r;

        if (code != EXIT_DONE)
                return code;
        r = subscribe(bus);
        if (r >= 0)
                r = bus_reload(bus);
        if (r < 0)
                return client_fail(client, EXIT_NO_DAEMON, "Cannot use the bus: %s.", strerror(-r));
        *ret = take_ptr(bus);
        return EXIT_DONE;
}

struct bus *bus_free(struct bus *bus)
{
        if (!bus)
                return NULL;
        bus->closing = true;
        sd_bus_slot_unref(bus->reading);
        sd_bus_slot_unref(bus->signals);
        sd_bus_slot_unref(bus->owner);
        sd_bus_close_unref(bus->bus);
        sd_event_unref(bus->event);
        forget_all(bus);
        free(bus->cameras);
        free(bus->updates);
        free(bus->daemon);
        free(bus);
        return NULL;
}

/* --- looking --- */

void bus_observe(struct bus *bus, bus_fn fn, void *userdata)
{
        bus->fn = fn;
        bus->userdata = userdata;
}

sd_event *bus_event(struct bus *bus)
{
        return bus->event;
}

int bus_catch_stops(struct bus *bus, sd_event_signal_handler_t on_stop, void *userdata)
{
        static const int stops[] = { SIGINT, SIGTERM, SIGHUP };
        sigset_t signals;
        int r = 0;

        (void)sigemptyset(&signals);
        for (size_t i = 0; i < ELEMENTSOF(stops); i++)
                (void)sigaddset(&signals, stops[i]);
        (void)sigprocmask(SIG_BLOCK, &signals, NULL);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(stops); i++)
                r = sd_event_add_signal(bus_event(bus), NULL, stops[i], on_stop, userdata);
        return r;
}

size_t bus_camera_count(const struct bus *bus)
{
        return bus->n_cameras;
}

const struct camera *bus_nth_camera(struct bus *bus, size_t n)
{
        if (!bus->sorted && bus->n_cameras > 0)
                qsort(bus->cameras, bus->n_cameras, sizeof(struct camera *), compare_cameras);
        bus->sorted = true;
        return n < bus->n_cameras ? bus->cameras[n] : NULL;
}

const struct camera *bus_camera(const struct bus *bus, const char *path)
{
        return camera_find(bus, path);
}

const struct update *bus_update(const struct bus *bus, const char *path)
{
        return update_find(bus, path);
}

const struct update *bus_camera_update(const struct bus *bus, const struct camera *camera)
{
        return update_find(bus, camera->update);
}

uint64_t bus_update_left(const struct update *update)
{
        uint64_t passed = monotonic() - update->left_at;

        if (update->left == 0)
                return 0;
        return update->left > passed ? rate_seconds(update->left - passed) : 1;
}

static const struct bus_property daemon_properties[] = {
        { "Version", 's', offsetof(struct daemon, version) },
        { "ApiVersion", 'u', offsetof(struct daemon, api_version) },
        { "AutomaticRecovery", 'b', offsetof(struct daemon, automatic_recovery) },
        { NULL, 's', offsetof(struct daemon, path) },
};

struct daemon *daemon_free(struct daemon *daemon)
{
        return bus_object_free(daemon, daemon_properties);
}

enum exit_code bus_read_daemon(const struct client *client, struct bus *bus, struct daemon **ret)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        enum exit_code code;
        void *object;
        int r;

        r = bus_new_call(bus, BUS_ROOT, "org.freedesktop.DBus.Properties", "GetAll", &call);
        if (r >= 0)
                r = sd_bus_message_append_basic(call, 's', BUS_MANAGER);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        if (bus_object_new(BUS_ROOT, daemon_properties, sizeof(struct daemon), &object) < 0)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        if (bus_properties_read(reply, daemon_properties, object) < 0) {
                bus_object_free(object, daemon_properties);
                return bus_bad_reply(client, "its own properties");
        }
        *ret = object;
        return EXIT_DONE;
}

/* --- method calls --- */

int bus_new_call(struct bus *bus, const char *path, const char *interface, const char *method, sd_bus_message **ret)
{
        sd_bus_message *call = NULL;
        int r;

        r = sd_bus_message_new_method_call(bus->bus, &call, BUS_NAME, path, interface, method);
        if (r < 0)
                return r;
        (void)sd_bus_message_set_allow_interactive_authorization(call, true);
        *ret = call;
        return 0;
}

bool bus_error_is_denied(const char *name)
{
        static const char *const denied[] = {
                BUS_NAME ".Error.AccessDenied", SD_BUS_ERROR_ACCESS_DENIED, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                SD_BUS_ERROR_AUTH_FAILED, NULL
        };

        return name && is_one_of(name, denied);
}

enum exit_code bus_error_code(const char *name)
{
        static const char *const no_daemon[] = {
                SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_NO_SERVER,
                SD_BUS_ERROR_TIMEOUT, SD_BUS_ERROR_DISCONNECTED, SD_BUS_ERROR_NO_NETWORK, SD_BUS_ERROR_IO_ERROR,
                "org.freedesktop.DBus.Error.TimedOut", "System.Error.ETIMEDOUT", "System.Error.ECONNRESET",
                "System.Error.ENOTCONN", "System.Error.ECONNREFUSED", "System.Error.EHOSTDOWN", "System.Error.EPIPE", NULL
        };
        static const char *const no_camera[] = {
                SD_BUS_ERROR_UNKNOWN_OBJECT, BUS_NAME ".Error.NoSuchObject", NULL
        };
        static const char *const refused[] = { SD_BUS_ERROR_INVALID_ARGS, SD_BUS_ERROR_LIMITS_EXCEEDED, NULL };

        if (is_one_of(name, no_daemon) || strncmp(name, "org.freedesktop.DBus.Error.Spawn.", 33) == 0 ||
            strncmp(name, "org.freedesktop.systemd1.", 25) == 0)
                return EXIT_NO_DAEMON;
        if (is_one_of(name, no_camera))
                return EXIT_NO_CAMERA;
        if (strcmp(name, BUS_NAME ".Error.Failed") == 0 || strcmp(name, BUS_NAME ".Error.Timeout") == 0)
                return EXIT_FAILED;
        if (bus_error_is_denied(name) || is_one_of(name, refused) || strncmp(name, BUS_NAME ".Error.", sizeof(BUS_NAME ".Error.") - 1) == 0)
                return EXIT_REFUSED;
        return EXIT_FAILED;
}

enum exit_code bus_report_error(const struct client *client, const sd_bus_error *error, int r)
{
        const char *name = error->name ? error->name : "", *message = error->message ? error->message : strerror(-r);
        enum exit_code code = *name ? bus_error_code(name) : EXIT_NO_DAEMON;
        const char *stop = *message && strchr(".!?", message[strlen(message) - 1]) ? "" : ".";

        if (strcmp(name, SD_BUS_ERROR_SERVICE_UNKNOWN) == 0 || strcmp(name, SD_BUS_ERROR_NAME_HAS_NO_OWNER) == 0)
                return client_fail(client, EXIT_NO_DAEMON, "The daemon camrescued does not run%s%s, and the bus cannot start it: "
                                   "systemctl %s%s%sstatus camrescued.service", client->host ? " on " : "", client->host ?: "",
                                   client->host ? "--host " : "", client->host ?: "", client->host ? " " : "");
        /* What ends is the ssh, and only it knows why: it has said so on standard error. */
        if (client->host && code == EXIT_NO_DAEMON && is_connection_error(name, r))
                return client_fail(client, EXIT_NO_DAEMON, "%s cannot be reached over ssh, or has no systemd-stdio-bridge. Try: "
                                   "ssh %s systemd-stdio-bridge", client->host, client->host);
        if (strcmp(name, SD_BUS_ERROR_NO_REPLY) == 0)
                return client_fail(client, EXIT_NO_DAEMON, "The daemon camrescued ended without an answer: "
                                   "journalctl -u camrescued.service");
        if (strcmp(name, SD_BUS_ERROR_TIMEOUT) == 0 || r == -ETIMEDOUT || strcmp(name, "System.Error.ETIMEDOUT") == 0)
                return client_fail(client, EXIT_NO_DAEMON, "The daemon camrescued does not answer: journalctl -u camrescued.service");
        if (code == EXIT_NO_DAEMON)
                return client_fail(client, code, "The daemon camrescued cannot be reached: %s%s", message, stop);
        if (bus_error_is_denied(name))
                return client_fail(client, code, "Not allowed: %s%s", message, stop);
        return client_fail(client, code, "%s%s", message, stop);
}

enum exit_code bus_call(struct bus *bus, sd_bus_message *call, sd_bus_error *error, sd_bus_message **ret_reply)
{
        int r;

        r = sd_bus_call(bus->bus, call, CALL_TIMEOUT_USEC, error, ret_reply);
        if (r >= 0)
                return EXIT_DONE;
        if (!error->name)
                (void)sd_bus_error_set_errno(error, r);
        return bus_error_code(error->name);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        sd_bus_message **answer = userdata;

        *answer = sd_bus_message_ref(m);
        return 0;
}

enum exit_code bus_call_until(struct bus *bus, sd_bus_message *call, const bool *stop, sd_bus_error *error, sd_bus_message **ret_reply)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *answer = NULL;
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        uint64_t until = monotonic() + CALL_TIMEOUT_USEC;
        bool stopping = false;
        int r;

        r = sd_bus_call_async(bus->bus, &slot, call, on_answer, &answer, UINT64_MAX);
        while (r >= 0 && !answer) {
                uint64_t t = monotonic();

                if (*stop && !stopping)
                        until = MIN(until, t + STOP_TIMEOUT_USEC);
                stopping = *stop;
                if (t >= until)
                        r = -ETIMEDOUT;
                else
                        r = sd_event_run(bus->event, until - t);
        }
        if (!answer && stopping)
                return EXIT_INTERRUPTED;
        if (answer && !sd_bus_message_is_method_error(answer, NULL)) {
                *ret_reply = take_ptr(answer);
                return EXIT_DONE;
        }
        if (answer)
                (void)sd_bus_error_copy(error, sd_bus_message_get_error(answer));
        if (!error->name)
                (void)sd_bus_error_set_errno(error, r < 0 ? r : -ENOMEM);
        return bus_error_code(error->name);
}

int bus_call_async(struct bus *bus, sd_bus_message *call, sd_bus_message_handler_t fn, void *userdata, sd_bus_slot **ret_slot)
{
        return sd_bus_call_async(bus->bus, ret_slot, call, fn, userdata, CALL_TIMEOUT_USEC);
}

enum exit_code bus_call_or_fail(const struct client *client, struct bus *bus, sd_bus_message *call, sd_bus_message **ret_reply)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

        if (bus_call(bus, call, &error, ret_reply) == EXIT_DONE)
                return EXIT_DONE;
        return bus_report_error(client, &error, -EIO);
}

enum exit_code bus_bad_reply(const struct client *client, const char *what)
{
        return client_fail(client, EXIT_FAILED, "The daemon's answer (%s) makes no sense: are client and daemon of one version?", what);
}

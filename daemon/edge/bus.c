/* SPDX-License-Identifier: MIT */
/* The connection, its place on the loop, the objects' paths, and what is told of them. */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "edge/bus-internal.h"

#define MESSAGES_MAX 32                 /* at a time: a program that floods us delays no camera */

/* --- paths --- */

static const char *encode(const char *prefix, const char *name, char path[static BUS_PATH_MAX])
{
        _cleanup_free_ char *encoded = NULL;

        path[0] = '\0';
        if (sd_bus_path_encode(prefix, name, &encoded) >= 0)
                snprintf(path, BUS_PATH_MAX, "%s", encoded);
        return path;
}

const char *bus_camera_key_path(const char *key, char path[static BUS_PATH_MAX])
{
        return encode(BUS_CAMERA_PREFIX, key, path);
}

const char *bus_camera_path(const struct camera *camera, char path[static BUS_PATH_MAX])
{
        return bus_camera_key_path(camera->record.key, path);
}

const char *bus_update_path(const struct update *update, char path[static BUS_PATH_MAX])
{
        return encode(BUS_UPDATE_PREFIX, update->record.id, path);
}

struct camera *bus_camera_of_path(struct bus *bus, const char *path)
{
        _cleanup_free_ char *key = NULL;

        if (sd_bus_path_decode(path, BUS_CAMERA_PREFIX, &key) <= 0 || !key)
                return NULL;
        return registry_camera_by_key(bus->registry, key);
}

int bus_find_camera(sd_bus *connection, const char *path, const char *interface, void *userdata, void **ret_found,
                    sd_bus_error *error)
{
        struct camera *camera = bus_camera_of_path(userdata, path);

        if (!camera)
                return 0;
        *ret_found = camera;
        return 1;
}

int bus_find_update(sd_bus *connection, const char *path, const char *interface, void *userdata, void **ret_found,
                    sd_bus_error *error)
{
        struct bus *bus = userdata;
        _cleanup_free_ char *id = NULL;
        struct update *update;

        if (sd_bus_path_decode(path, BUS_UPDATE_PREFIX, &id) <= 0 || !id)
                return 0;
        update = registry_update_by_id(bus->registry, id);
        if (!update)
                return 0;
        *ret_found = update;
        return 1;
}

static int add_node(char **nodes, size_t *n, const char *path)
{
        nodes[*n] = strdup(path);
        if (!nodes[*n])
                return -ENOMEM;
        (*n)++;
        return 0;
}

static int give_nodes(char **nodes, size_t n, int r, char ***ret_nodes)
{
        if (r < 0) {
                while (n > 0)
                        free(nodes[--n]);
                free(nodes);
                return r;
        }
        *ret_nodes = nodes;
        return 0;
}

/* prefix is where the question began, which may be above the cameras: each kind of object has an enumerator of its own. */
static int enumerate_cameras(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *error)
{
        struct bus *bus = userdata;
        char path[BUS_PATH_MAX], **nodes;
        size_t n = 0, max = 1;
        int r = 0;

        for (struct camera *c = registry_first_camera(bus->registry); c; c = registry_next_camera(c))
                max++;
        nodes = calloc(max, sizeof(char *));
        if (!nodes)
                return -ENOMEM;
        for (struct camera *c = registry_first_camera(bus->registry); c && r >= 0; c = registry_next_camera(c))
                r = add_node(nodes, &n, bus_camera_path(c, path));
        return give_nodes(nodes, n, r, ret_nodes);
}

static int enumerate_updates(sd_bus *connection, const char *prefix, void *userdata, char ***ret_nodes, sd_bus_error *error)
{
        struct bus *bus = userdata;
        char path[BUS_PATH_MAX], **nodes;
        size_t n = 0, max = 1;
        int r = 0;

        for (struct update *u = registry_first_update(bus->registry); u; u = registry_next_update(u))
                max++;
        nodes = calloc(max, sizeof(char *));
        if (!nodes)
                return -ENOMEM;
        for (struct update *u = registry_first_update(bus->registry); u && r >= 0; u = registry_next_update(u))
                r = add_node(nodes, &n, bus_update_path(u, path));
        return give_nodes(nodes, n, r, ret_nodes);
}

/* --- on the loop --- */

static void lost(struct bus *bus, int error)
{
        log_error("lost the connection to the bus: %s", strerror(-error));
        io_watch_deinit(&bus->watch);
        timer_clear(&bus->timeout);
        bus->events->on_lost(bus->userdata);
}

/* Foreign loops are asked fully: descriptor, events and timeout after each drain. */
static void on_prepare(void *userdata)
{
        struct bus *bus = userdata;
        uint64_t timeout, now;
        unsigned interest = 0, n = 0;
        int r, events;

        do
                r = sd_bus_process(bus->connection, NULL);
        while (r > 0 && ++n < MESSAGES_MAX);
        if (r < 0) {
                lost(bus, r);
                return;
        }
        if (r > 0)                      /* the rest in the next round: it may be in sd-bus already, and no event tells of that */
                defer_call(&bus->prepare);
        events = sd_bus_get_events(bus->connection);
        if (events < 0) {
                lost(bus, events);
                return;
        }
        if (events & POLLIN)
                interest |= IO_READ;
        if (events & POLLOUT)
                interest |= IO_WRITE;
        (void)io_watch_set(&bus->watch, interest);

        if (sd_bus_get_timeout(bus->connection, &timeout) < 0 || timeout == UINT64_MAX)
                timer_clear(&bus->timeout);
        else {
                now = loop_now(bus->loop);
                timer_set(&bus->timeout, timeout > now ? timeout - now : 0);
        }
}

static void on_io(void *userdata, unsigned events)
{
        on_prepare(userdata);
}

/* Who reads what has changed since it was told last knows more than who only listens. */
static void note_reading(struct bus *bus, sd_bus_message *message)
{
        const char *path = sd_bus_message_get_path(message), *interface, *property = NULL;
        bool all = sd_bus_message_is_method_call(message, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects") > 0;

        if (news_is_empty(&bus->news))
                return;
        if (!all) {
                if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "Get") > 0) {
                        if (sd_bus_message_read(message, "ss", &interface, &property) < 0)
                                property = NULL;
                        (void)sd_bus_message_rewind(message, true);
                } else if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus.Properties", "GetAll") <= 0)
                        return;
        }
        for (struct told *told = news_first(&bus->news); told; told = news_next(&bus->news, told))
                if (all || strcmp(told->path, path) == 0)
                        told_read(told, bus->connection, property);
}

/* Everything that comes, before it is dispatched. */
static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;

        bus_sweep_askings(bus, message);
        if (sd_bus_message_is_method_call(message, NULL, NULL) > 0) {
                note_reading(bus, message);
                bus->n_questions++;
                bus->events->on_question(bus->userdata);
        }
        return 0;
}

static void on_timeout(void *userdata)
{
        on_prepare(userdata);
}

/* --- news --- */

static void tell(void *userdata, struct told *told)
{
        struct bus *bus = userdata;
        char *names[TOLD_MAX + 1];
        uint32_t properties;

        defer_call(&bus->prepare);
        if (told_take(told, bus->connection, &properties) < 0 || properties == 0)
                return;                 /* without memory the next change tries again */
        told_names(told, properties, names);
        if (sd_bus_emit_properties_changed_strv(bus->connection, told->path, told->interface, names) < 0)
                told_again(told, properties);
}

/* Is asked for every block that is read or written: those that are at work stay in front. */
static struct told *told_of(struct bus *bus, const void *object)
{
        struct told *told;

        LIST_FOREACH(told, &bus->told, link)
                if (told->object == object)
                        break;
        if (told && told != LIST_FIRST(&bus->told)) {
                LIST_REMOVE(told, link);
                LIST_INSERT_HEAD(&bus->told, told, link);
        }
        return told;
}

/* From here on it is known what listeners know: it was announced, or who begins to listen reads it. */
static void begin_telling(struct bus *bus, const char *path, const char *interface, const sd_bus_vtable *vtable, void *object)
{
        struct told *told;

        if (told_new(bus->connection, path, interface, vtable, object, &told) >= 0)
                LIST_INSERT_HEAD(&bus->told, told, link);
}

static void begin_telling_camera(struct bus *bus, struct camera *camera)
{
        char path[BUS_PATH_MAX];

        begin_telling(bus, bus_camera_path(camera, path), BUS_CAMERA_INTERFACE, bus_camera_vtable, camera);
}

static void begin_telling_update(struct bus *bus, struct update *update)
{
        char path[BUS_PATH_MAX];

        begin_telling(bus, bus_update_path(update, path), BUS_UPDATE_INTERFACE, bus_update_vtable, update);
}

static void begin_telling_manager(struct bus *bus)
{
        begin_telling(bus, BUS_PATH, BUS_MANAGER_INTERFACE, bus_manager_vtable, bus);
}

static void end_telling(struct bus *bus, struct told *told)
{
        news_withdraw(&bus->news, told);
        LIST_REMOVE(told, link);
        (void)told_free(told);
}

/* False: for what is told of it there was no memory when it was announced, and may be now. */
static bool will_tell(struct bus *bus, const void *object)
{
        struct told *told = told_of(bus, object);

        if (told)
                news_add(&bus->news, told);
        return told;
}

static void announce(struct bus *bus, const char *path)
{
        (void)sd_bus_emit_object_added(bus->connection, path);
        defer_call(&bus->prepare);
}

static void take_back(struct bus *bus, const char *path, const void *object)
{
        struct told *told = told_of(bus, object);

        if (told)
                end_telling(bus, told);
        (void)sd_bus_emit_object_removed(bus->connection, path);
        defer_call(&bus->prepare);
}

static void on_camera_changed(void *userdata, struct camera *camera)
{
        if (!will_tell(userdata, camera))
                begin_telling_camera(userdata, camera);
}

static void on_camera_added(void *userdata, struct camera *camera)
{
        char path[BUS_PATH_MAX];

        announce(userdata, bus_camera_path(camera, path));
        begin_telling_camera(userdata, camera);
}

static void on_camera_removed(void *userdata, struct camera *camera)
{
        char path[BUS_PATH_MAX];

        take_back(userdata, bus_camera_path(camera, path), camera);
}

static void on_update_changed(void *userdata, struct update *update)
{
        if (!will_tell(userdata, update))
                begin_telling_update(userdata, update);
}

static void on_update_added(void *userdata, struct update *update)
{
        char path[BUS_PATH_MAX];

        announce(userdata, bus_update_path(update, path));
        begin_telling_update(userdata, update);
}

static void on_update_removed(void *userdata, struct update *update)
{
        char path[BUS_PATH_MAX];

        take_back(userdata, bus_update_path(update, path), update);
}

void bus_manager_changed(struct bus *bus)
{
        if (!will_tell(bus, bus))
                begin_telling_manager(bus);
}

static void on_inhibitors_changed(void *userdata)
{
        bus_manager_changed(userdata);
}

static const struct registry_observer observer = {
        .on_camera_added = on_camera_added,
        .on_camera_changed = on_camera_changed,
        .on_camera_removed = on_camera_removed,
        .on_update_added = on_update_added,
        .on_update_changed = on_update_changed,
        .on_update_removed = on_update_removed,
        .on_inhibitors_changed = on_inhibitors_changed,
};

/* --- options --- */

int bus_option_once(unsigned *seen, unsigned flag, const char *key, sd_bus_error *error)
{
        if (*seen & flag)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"%s\" is there twice.", key);
        *seen |= flag;
        return 0;
}

static int read_option(sd_bus_message *message, const char *key, unsigned allowed, unsigned *seen, struct request *request,
                       struct bus_image *image, sd_bus_error *error)
{
        static const struct {
                const char *key;
                unsigned flag;
                const char *type;
        } options[] = {
                { "firmware",         BUS_OPTION_FIRMWARE, "s" },
                { "romfs",            BUS_OPTION_ROMFS,    "b" },
                { "erase-filesystem", BUS_OPTION_ERASE,    "b" },
                { "replace-unknown",  BUS_OPTION_REPLACE,  "b" },
                { "dry-run",          BUS_OPTION_DRY_RUN,  "b" },
                { "board",            BUS_OPTION_BOARD,    "s" },
                { "stay",             BUS_OPTION_STAY,     "b" },
                { "image",            BUS_OPTION_IMAGE,    "h" },
                { "partition",        BUS_OPTION_IMAGE,    "s" },
                { "file",             BUS_OPTION_IMAGE,    "s" },
        };
        const char *string = NULL;
        int flag = 0, r;

        for (size_t i = 0; i < ELEMENTSOF(options); i++) {
                if (strcmp(options[i].key, key) != 0 || !(options[i].flag & allowed))
                        continue;
                r = bus_option_once(seen, 1u << i, key, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_read(message, "v", options[i].type,
                                        options[i].type[0] == 's' ? (void *)&string : (void *)&flag);
                if (r < 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"%s\" is not of type \"%s\".", key,
                                                 options[i].type);
                switch (options[i].flag) {
                case BUS_OPTION_FIRMWARE:
                        request->firmware = string;
                        break;
                case BUS_OPTION_ROMFS:
                        request->romfs = flag;
                        break;
                case BUS_OPTION_ERASE:
                        request->erase_filesystem = flag;
                        break;
                case BUS_OPTION_REPLACE:
                        request->replace_unknown = flag;
                        break;
                case BUS_OPTION_DRY_RUN:
                        request->dry_run = flag;
                        break;
                case BUS_OPTION_IMAGE:
                        if (key[0] == 'i')
                                image->fd = flag;
                        else if (key[0] == 'p')
                                image->partition = string;
                        else
                                image->file = string;
                        break;
                case BUS_OPTION_STAY:
                        request->stay = flag;
                        break;
                case BUS_OPTION_BOARD:
                        request->board = string;
                        break;
                }
                return 0;
        }
        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Unknown option \"%s\".", key);
}

int bus_read_request(sd_bus_message *message, unsigned allowed, struct request *request, struct bus_image *image, sd_bus_error *error)
{
        unsigned seen = 0;
        const char *key;
        int r;

        if (image)
                *image = (struct bus_image){ .fd = -1 };

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &key);
                if (r < 0)
                        return r;
                r = read_option(message, key, allowed, &seen, request, image, error);
                if (r < 0)
                        return r;
                r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (image && image->fd >= 0 && request->firmware)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Either \"image\" or \"firmware\".");
        if (image && image->fd < 0 && (image->partition || image->file))
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "\"partition\" and \"file\" are said of an \"image\".");
        return sd_bus_message_exit_container(message);
}

int bus_read_no_options(sd_bus_message *message, sd_bus_error *error)
{
        struct request request = {};

        return bus_read_request(message, /* allowed= */ 0, &request, /* image= */ NULL, error);
}

/* --- refusals --- */

int bus_refuse(sd_bus_error *error, const struct request_result *result, const char *before)
{
        static const char *const names[_REFUSAL_MAX] = {
                [REFUSAL_BOARD]         = BUS_ERROR_UNKNOWN_BOARD,
                [REFUSAL_NOT_HANDLED]   = BUS_ERROR_NOT_HANDLED,
                [REFUSAL_NOT_PROVEN]    = BUS_ERROR_NOT_PROVEN,
                [REFUSAL_NO_FIRMWARE]   = BUS_ERROR_NO_FIRMWARE,
                [REFUSAL_IMAGE]         = BUS_ERROR_IMAGE,
                [REFUSAL_USERS_WORK]    = BUS_ERROR_USERS_WORK,
                [REFUSAL_UPDATE_OPEN]   = BUS_ERROR_UPDATE_OPEN,
                [REFUSAL_NOTHING_TO_DO] = BUS_ERROR_NOTHING_TO_DO,
                [REFUSAL_BUSY]          = BUS_ERROR_BUSY,
                [REFUSAL_LIMIT]         = BUS_ERROR_LIMIT,
                [REFUSAL_NOT_HELD]      = BUS_ERROR_REFUSED,
                [REFUSAL_INHIBITED]     = BUS_ERROR_INHIBITED,
                [REFUSAL_ARGUMENT]      = BUS_ERROR_INVALID,
                [REFUSAL_NOT_SAVED]     = BUS_ERROR_NOT_SAVED,
                [REFUSAL_FAILED]        = BUS_ERROR_FAILED,
        };

        return sd_bus_error_setf(error, names[result->refusal], "%s%s.", before, result->text);
}

/* --- birth and death --- */

int bus_new(struct loop *loop, struct registry *registry, const char *address, const struct bus_events *events, void *userdata,
            struct bus **ret)
{
        struct bus *bus = calloc(1, sizeof(*bus));
        sd_bus *c;
        int r;

        if (!bus)
                return -ENOMEM;
        *bus = (struct bus){ .loop = loop, .registry = registry, .events = events, .userdata = userdata };

        if (address) {
                r = sd_bus_new(&bus->connection);
                if (r >= 0)
                        r = sd_bus_set_address(bus->connection, address);
                if (r >= 0)
                        r = sd_bus_set_bus_client(bus->connection, 1);
                if (r >= 0)
                        r = sd_bus_start(bus->connection);
        } else
                r = sd_bus_open_system(&bus->connection);
        if (r < 0)
                goto fail;
        c = bus->connection;
        r = sd_bus_add_object_manager(c, NULL, BUS_PATH);
        if (r >= 0)
                r = sd_bus_add_object_vtable(c, NULL, BUS_PATH, BUS_MANAGER_INTERFACE, bus_manager_vtable, bus);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(c, NULL, BUS_CAMERA_PREFIX, BUS_CAMERA_INTERFACE, bus_camera_vtable,
                                               bus_find_camera, bus);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(c, NULL, BUS_UPDATE_PREFIX, BUS_UPDATE_INTERFACE, bus_update_vtable,
                                               bus_find_update, bus);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(c, NULL, BUS_CAMERA_PREFIX, enumerate_cameras, bus);
        if (r >= 0)
                r = sd_bus_add_node_enumerator(c, NULL, BUS_UPDATE_PREFIX, enumerate_updates, bus);
        if (r >= 0)
                r = sd_bus_add_filter(c, NULL, on_message, bus);
        if (r < 0)
                goto fail;

        io_watch_init(&bus->watch, loop, sd_bus_get_fd(c), on_io, bus);
        timer_init(&bus->timeout, loop, on_timeout, bus);
        news_init(&bus->news, loop, tell, bus);
        defer_init(&bus->prepare, loop, on_prepare, bus);
        (void)registry_observe(registry, &observer, bus);
        begin_telling_manager(bus);
        for (struct camera *camera = registry_first_camera(registry); camera; camera = registry_next_camera(camera))
                begin_telling_camera(bus, camera);
        for (struct update *update = registry_first_update(registry); update; update = registry_next_update(update))
                begin_telling_update(bus, update);
        defer_call(&bus->prepare);
        *ret = bus;
        return 0;

fail:
        sd_bus_unref(bus->connection);
        free(bus);
        return r;
}

struct bus *bus_free(struct bus *bus)
{
        if (!bus)
                return NULL;
        registry_unobserve(bus->registry, &observer);
        bus_forget_inhibitions(bus);
        bus_forget_addings(bus);
        bus_forget_acceptings(bus);
        bus_forget_tellings(bus);
        bus_forget_releasings(bus);
        bus_forget_readings(bus);
        bus_forget_askings(bus);
        news_tell_all(&bus->news);      /* the last values are never lost, however many there are */
        (void)sd_bus_flush(bus->connection);
        defer_deinit(&bus->prepare);
        news_deinit(&bus->news);
        timer_deinit(&bus->timeout);
        io_watch_deinit(&bus->watch);
        sd_bus_close(bus->connection);
        sd_bus_unref(bus->connection);
        while (!LIST_EMPTY(&bus->told))
                end_telling(bus, LIST_FIRST(&bus->told));
        free(bus);
        return NULL;
}

bool bus_owes_answers(const struct bus *bus)
{
        return !LIST_EMPTY(&bus->acceptings) || !LIST_EMPTY(&bus->addings);
}

bool bus_leave_name(struct bus *bus)
{
        uint64_t before = bus->n_questions;
        unsigned n = 0;

        if (bus_owes_answers(bus) || !LIST_EMPTY(&bus->inhibitions) || !LIST_EMPTY(&bus->askings) || !LIST_EMPTY(&bus->releasings) ||
            !LIST_EMPTY(&bus->readings) || !LIST_EMPTY(&bus->tellings)) {
                log_debug("somebody on the bus needs us");
                return false;
        }
        /* What was sent to the name before the bus heard of this is here when the answer is. */
        if (sd_bus_release_name(bus->connection, BUS_NAME) < 0)
                return true;
        while (n++ < MESSAGES_MAX && sd_bus_process(bus->connection, NULL) > 0)
                ;
        if (bus->n_questions == before)
                return true;
        (void)bus_take_name(bus);
        return false;
}

int bus_take_name(struct bus *bus)
{
        int r = sd_bus_request_name(bus->connection, BUS_NAME, 0);

        defer_call(&bus->prepare);
        return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * A daemon without a mind: serves the interfaces of org.camrescue1.xml with
 * whatever it is told on standard input, so that the client can be shown every
 * answer there is, and those that there should never be.  It decides nothing.
 *
 * One command per line; fields are separated by '|' (texts hold spaces).  Each
 * is answered by "ok" on standard output when it has been done.  Each method
 * call is told as "called NAME ...", in order with the answers.
 *
 *   camera|NAME|Property=value|...    makes or changes /org/camrescue1/camera/NAME
 *   update|NAME|Property=value|...    makes or changes /org/camrescue1/update/NAME
 *   remove|camera/NAME
 *   plan|CAMERA|UPDATE|ACTION|FIRMWARE|TEXT   one more line of Manager.Update's answer (UPDATE "-": none)
 *   plan                              forget the plan
 *   answer|UPDATE|ACTION|TEXT         of Camera.Recover and Camera.Restore
 *   error|METHOD|NAME|MESSAGE         METHOD fails from now on; METHOD alone: no more
 *   refuse|BOARD|PARTITION|NAME|MESSAGE   AddFirmware fails for these
 *   hang|METHOD, die|METHOD, garbage|METHOD, types|METHOD (right shape, wrong types)
 *   keep|METHOD                       Camera.METHOD is answered by "now"
 *   tell|METHOD                       of a method that the bus library answers: that it was called is told
 *   release, own                      the bus name
 *   nothing                           is only answered, after all calls that came before
 *   quit
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define NAME "org.camrescue1"
#define ROOT "/org/camrescue1"
#define FIELDS_MAX 40
#define ENTRIES_MAX 256

struct declared {
        const char *name, *type;
};

static const struct declared camera_declared[] = {
        { "UniqueId", "s" }, { "Key", "s" }, { "Serial", "s" }, { "Board", "s" }, { "BoardName", "s" }, { "Port", "s" },
        { "Attached", "b" }, { "Mode", "s" }, { "State", "s" }, { "FirmwareVersion", "s" }, { "BootloaderVersion", "s" },
        { "Diagnosis", "s" }, { "DiagnosisText", "s" }, { "Advice", "s" }, { "DeviceNode", "s" }, { "LastSeen", "t" },
        { "Update", "o" }, { "Automatic", "i" }, { "Saved", "as" }, { "Label", "s" }, { NULL, NULL },
};

static const struct declared update_declared[] = {
        { "Id", "s" }, { "Camera", "o" }, { "Firmware", "s" }, { "Reason", "s" }, { "Wish", "s" }, { "Step", "s" }, { "Image", "s" },
        { "BytesDone", "t" }, { "BytesTotal", "t" }, { "Progress", "d" }, { "Rate", "t" }, { "Eta", "t" }, { "Attempt", "u" }, { "Started", "t" }, { "Ended", "t" },
        { "Result", "s" }, { "Error", "s" }, { "Message", "s" }, { "UnitsWritten", "u" }, { "UnitsTotal", "u" }, { NULL, NULL },
};

struct object {
        char *path;
        bool is_camera;
        char *values[ELEMENTSOF(camera_declared)];
        sd_bus_slot *slot;
};

enum trick { TRICK_ERROR, TRICK_HANG, TRICK_DIE, TRICK_GARBAGE, TRICK_TYPES, TRICK_KEEP, TRICK_TELL };

struct rule {
        enum trick trick;
        char method[64], name[128], message[256];
};

struct refusal {
        char board[32], partition[32], name[128], message[256];
};

struct image {
        char id[80], board[32], partition[32], version[64], file[128];
        bool stable;
        uint32_t size;
};

struct plan_line {
        char *fields[5];
};

static struct mock {
        sd_bus *bus;
        sd_event *event;
        struct object *objects[ENTRIES_MAX];
        size_t n_objects;
        struct rule rules[16];
        size_t n_rules;
        struct refusal refusals[16];
        size_t n_refusals;
        struct image images[ENTRIES_MAX];
        size_t n_images;
        struct plan_line plan[ENTRIES_MAX];
        size_t n_plan;
        char *answer[3];
        sd_bus_message *kept;
        char input[65536];
        size_t n_input;
} mock;

static void must(int r, const char *what)
{
        if (r >= 0)
                return;
        fprintf(stderr, "mock-daemon: %s: %s\n", what, strerror(-r));
        exit(99);
}

static void tell(const char *format, ...) _printf_(1, 2);
static void tell(const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        putchar('\n');
        fflush(stdout);
}

/* --- properties --- */

static const struct declared *declared_of(const struct object *object)
{
        return object->is_camera ? camera_declared : update_declared;
}

static int property_get(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                        void *userdata, sd_bus_error *error)
{
        const struct object *object = userdata;
        const struct declared *declared = declared_of(object);
        const char *value;
        size_t i = 0;
        char list[256], *rest = list, *item;
        int r;

        while (strcmp(declared[i].name, property) != 0)
                i++;
        value = object->values[i];
        switch (declared[i].type[0]) {
        case 's':
                return sd_bus_message_append(reply, "s", value ? value : "");
        case 'o':
                return sd_bus_message_append(reply, "o", value ? value : "/");
        case 'b':
                return sd_bus_message_append(reply, "b", value && strcmp(value, "yes") == 0);
        case 'i':
                return sd_bus_message_append(reply, "i", value ? atoi(value) : -1);
        case 'u':
                return sd_bus_message_append(reply, "u", value ? (unsigned)atoi(value) : 0);
        case 't':
                return sd_bus_message_append(reply, "t", value ? (uint64_t)strtoull(value, NULL, 10) : 0);
        case 'd':
                return sd_bus_message_append(reply, "d", value ? strtod(value, NULL) : 0.0);
        default:
                snprintf(list, sizeof(list), "%s", value ? value : "");
                r = sd_bus_message_open_container(reply, 'a', "s");
                while (r >= 0 && (item = strsep(&rest, ",")))
                        if (*item)
                                r = sd_bus_message_append(reply, "s", item);
                return r < 0 ? r : sd_bus_message_close_container(reply);
        }
}

/* --- methods --- */

static int on_camera_call(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        char options[512] = "";
        size_t used = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *key, *text = "";
                char type;
                const char *contents;
                int flag;

                must(sd_bus_message_read(m, "s", &key), "key");
                must(sd_bus_message_peek_type(m, &type, &contents), "type");
                if (strcmp(contents, "s") == 0) {
                        must(sd_bus_message_read(m, "v", "s", &text), "value");
                } else if (strcmp(contents, "h") == 0) {
                        must(sd_bus_message_read(m, "v", "h", &flag), "value");
                        text = "file";
                } else {
                        must(sd_bus_message_read(m, "v", "b", &flag), "value");
                        text = flag ? "yes" : "no";
                }
                used += (size_t)snprintf(options + used, sizeof(options) - used, " %s=%s", key, text);
                r = sd_bus_message_exit_container(m);
        }
        tell("called %s %s%s", sd_bus_message_get_member(m), strrchr(sd_bus_message_get_path(m), '/') + 1, options);
        if (!mock.answer[0])
                return sd_bus_error_set(error, NAME ".Error.Failed", "The mock has no answer");
        return sd_bus_reply_method_return(m, "oss", mock.answer[0], mock.answer[1], mock.answer[2]);
}

static int on_set_label(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *label;

        must(sd_bus_message_read(m, "s", &label), "label");
        tell("called SetLabel %s \"%s\"", strrchr(sd_bus_message_get_path(m), '/') + 1, label);
        return sd_bus_reply_method_return(m, NULL);
}

static int on_retry(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        tell("called Retry %s", strrchr(sd_bus_message_get_path(m), '/') + 1);
        if (!mock.answer[0])
                return sd_bus_error_set(error, NAME ".Error.Failed", "The mock has no answer");
        return sd_bus_reply_method_return(m, "oss", mock.answer[0], mock.answer[1], mock.answer[2]);
}

static int on_forget(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        int saved;

        must(sd_bus_message_read(m, "b", &saved), "saved");
        tell("called Forget %s saved=%s", strrchr(sd_bus_message_get_path(m), '/') + 1, saved ? "yes" : "no");
        return sd_bus_reply_method_return(m, NULL);
}

static int on_hold(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        uint64_t timeout = 0;
        const char *key = "";

        must(sd_bus_message_enter_container(m, 'a', "{sv}"), "options");
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                must(sd_bus_message_read(m, "s", &key), "key");
                must(sd_bus_message_read(m, "v", "t", &timeout), "timeout");
                must(sd_bus_message_exit_container(m), "option");
        }
        tell("called HoldInBootloader %s %s=%llu", strrchr(sd_bus_message_get_path(m), '/') + 1, key, (unsigned long long)timeout);
        return sd_bus_reply_method_return(m, NULL);
}

static int on_release(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        tell("called Release %s", strrchr(sd_bus_message_get_path(m), '/') + 1);
        return sd_bus_reply_method_return(m, NULL);
}

/* Three lines, the newest with bytes that no terminal should see. */
static int on_get_history(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        static const struct { uint64_t wall; const char *event, *text; } lines[] = {
                { 1704067260000000, "done", "3 of 6 erase units written\033[2J" },
                { 1704067230000000, "resumed", "update u1 writes 5.0.0 (newest stable in the store), attempt 2" },
                { 1704067200000000, "interrupted", "it left the bus while writing" },
        };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        unsigned max;

        must(sd_bus_message_read(m, "u", &max), "max");
        tell("called GetHistory %s %u", strrchr(sd_bus_message_get_path(m), '/') + 1, max);
        must(sd_bus_message_new_method_return(m, &reply), "reply");
        must(sd_bus_message_open_container(reply, 'a', "(tss)"), "reply");
        for (size_t i = 0; i < ELEMENTSOF(lines) && (max == 0 || i < max); i++)
                must(sd_bus_message_append(reply, "(tss)", lines[i].wall, lines[i].event, lines[i].text), "reply");
        must(sd_bus_message_close_container(reply), "reply");
        return sd_bus_send(NULL, reply, NULL);
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        tell("called Cancel %s", strrchr(sd_bus_message_get_path(m), '/') + 1);
        return sd_bus_reply_method_return(m, NULL);
}

static int on_update(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        char line[2048];
        size_t used = (size_t)snprintf(line, sizeof(line), "called Update");
        const char *path;
        int r;

        must(sd_bus_message_enter_container(m, 'a', "o"), "cameras");
        while (sd_bus_message_read(m, "o", &path) > 0)
                used += (size_t)snprintf(line + used, sizeof(line) - used, " %s", strrchr(path, '/') + 1);
        must(sd_bus_message_exit_container(m), "cameras");
        must(sd_bus_message_enter_container(m, 'a', "{sv}"), "options");
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                const char *key, *text = "yes", *contents;
                char type;
                int flag;

                must(sd_bus_message_read(m, "s", &key), "key");
                must(sd_bus_message_peek_type(m, &type, &contents), "type");
                if (strcmp(contents, "s") == 0) {
                        must(sd_bus_message_read(m, "v", "s", &text), "value");
                } else {
                        must(sd_bus_message_read(m, "v", "b", &flag), "value");
                        text = flag ? "yes" : "no";
                }
                used += (size_t)snprintf(line + used, sizeof(line) - used, " %s=%s", key, text);
                must(sd_bus_message_exit_container(m), "option");
        }
        tell("%s", line);
        must(sd_bus_message_new_method_return(m, &reply), "reply");
        r = sd_bus_message_open_container(reply, 'a', "(oosss)");
        for (size_t i = 0; r >= 0 && i < mock.n_plan; i++) {
                char *const *f = mock.plan[i].fields;

                r = sd_bus_message_append(reply, "(oosss)", f[0], strstr(line, "dry-run=yes") ? "/" : f[1], f[2], f[3], f[4]);
        }
        must(r < 0 ? r : sd_bus_message_close_container(reply), "plan");
        return sd_bus_send(NULL, reply, NULL);
}

static void copy(char *to, size_t size, const char *from)
{
        snprintf(to, size, "%s", from);
}

static int on_add_firmware(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const int sealed = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
        struct image image = { .id = "sha256:" };
        struct digest digest;
        struct stat st;
        void *data;
        int fd, seals;

        must(sd_bus_message_read(m, "h", &fd), "fd");
        must(sd_bus_message_enter_container(m, 'a', "{sv}"), "options");
        while (sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                const char *key, *text;
                int flag;

                must(sd_bus_message_read(m, "s", &key), "key");
                if (strcmp(key, "stable") == 0) {
                        must(sd_bus_message_read(m, "v", "b", &flag), "stable");
                        image.stable = flag;
                } else {
                        must(sd_bus_message_read(m, "v", "s", &text), "text");
                        if (strcmp(key, "board") == 0)
                                copy(image.board, sizeof(image.board), text);
                        else if (strcmp(key, "partition") == 0)
                                copy(image.partition, sizeof(image.partition), text);
                        else if (strcmp(key, "version") == 0)
                                copy(image.version, sizeof(image.version), text);
                        else if (strcmp(key, "file") == 0)
                                copy(image.file, sizeof(image.file), text);
                        else
                                return sd_bus_error_setf(error, NAME ".Error.InvalidArgument", "Unknown option %s", key);
                }
                must(sd_bus_message_exit_container(m), "option");
        }
        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || (seals & sealed) != sealed)
                return sd_bus_error_set(error, NAME ".Error.InvalidArgument", "The memory file is not sealed");
        must(fstat(fd, &st) < 0 ? -errno : 0, "fstat");
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        must(data == MAP_FAILED ? -errno : 0, "mmap");
        digest_of(data, (size_t)st.st_size, &digest);
        munmap(data, (size_t)st.st_size);
        digest_to_hex(&digest, image.id + 7);
        image.size = (uint32_t)st.st_size;
        tell("called AddFirmware board=%s partition=%s version=%s file=%s stable=%s size=%u", image.board, image.partition,
             image.version, image.file, image.stable ? "yes" : "no", image.size);
        for (size_t i = 0; i < mock.n_refusals; i++) {
                const struct refusal *refusal = &mock.refusals[i];

                if (strcmp(refusal->board, image.board) == 0 && (!*refusal->partition || strcmp(refusal->partition, image.partition) == 0))
                        return sd_bus_error_set(error, refusal->name, refusal->message);
        }
        if (mock.n_images < ENTRIES_MAX)
                mock.images[mock.n_images++] = image;
        return sd_bus_reply_method_return(m, "s", image.id);
}

static int on_list_firmware(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        must(sd_bus_message_new_method_return(m, &reply), "reply");
        r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < mock.n_images; i++) {
                const struct image *image = &mock.images[i];

                r = sd_bus_message_append(reply, "a{sv}", 9, "id", "s", image->id, "board", "s", image->board,
                                          "partition", "s", image->partition, "version", "s", image->version,
                                          "file", "s", image->file, "stable", "b", (int)image->stable, "pinned", "b", (int)(i == 0),
                                          "size", "u", image->size, "added", "t", UINT64_C(1700000000000000));
        }
        must(r < 0 ? r : sd_bus_message_close_container(reply), "list");
        return sd_bus_send(NULL, reply, NULL);
}

static int on_remove_firmware(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *id;
        bool found = false;

        must(sd_bus_message_read(m, "s", &id), "id");
        tell("called RemoveFirmware %s", id);
        for (size_t i = mock.n_images; i-- > 0;)
                if (strcmp(mock.images[i].id, id) == 0) {
                        mock.images[i] = mock.images[--mock.n_images];
                        found = true;
                }
        if (!found)
                return sd_bus_error_set(error, NAME ".Error.NoSuchObject", "No such image");
        return sd_bus_reply_method_return(m, NULL);
}

static int version_get(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                       void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "s", "0.1.0-mock");
}

static int api_get(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                   void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "u", 1u);
}

static int automatic_get(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                         void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "b", 1);
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE
#define PROPERTY(name, type) SD_BUS_PROPERTY(name, type, property_get, 0, CHANGES)
#define METHOD(name, in, out, fn) SD_BUS_METHOD(name, in, out, fn, SD_BUS_VTABLE_UNPRIVILEGED)

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        METHOD("Update", "aoa{sv}", "a(oosss)", on_update),
        METHOD("AddFirmware", "ha{sv}", "s", on_add_firmware),
        METHOD("ListFirmware", "", "aa{sv}", on_list_firmware),
        METHOD("RemoveFirmware", "s", "", on_remove_firmware),
        SD_BUS_PROPERTY("Version", "s", version_get, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("ApiVersion", "u", api_get, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("AutomaticRecovery", "b", automatic_get, 0, CHANGES),
        SD_BUS_VTABLE_END
};

static const sd_bus_vtable camera_vtable[] = {
        SD_BUS_VTABLE_START(0),
        METHOD("Update", "a{sv}", "oss", on_camera_call),
        METHOD("Recover", "a{sv}", "oss", on_camera_call),
        METHOD("Restore", "a{sv}", "oss", on_camera_call),
        METHOD("SetLabel", "s", "", on_set_label),
        METHOD("Retry", "a{sv}", "oss", on_retry),
        METHOD("Forget", "b", "", on_forget),
        METHOD("HoldInBootloader", "a{sv}", "", on_hold),
        METHOD("Release", "a{sv}", "", on_release),
        METHOD("GetHistory", "u", "a(tss)", on_get_history),
        PROPERTY("UniqueId", "s"), PROPERTY("Key", "s"), PROPERTY("Serial", "s"), PROPERTY("Board", "s"), PROPERTY("BoardName", "s"),
        PROPERTY("Port", "s"), PROPERTY("Attached", "b"), PROPERTY("Mode", "s"), PROPERTY("State", "s"),
        PROPERTY("FirmwareVersion", "s"), PROPERTY("BootloaderVersion", "s"), PROPERTY("Diagnosis", "s"),
        PROPERTY("DiagnosisText", "s"), PROPERTY("Advice", "s"), PROPERTY("DeviceNode", "s"), PROPERTY("LastSeen", "t"),
        PROPERTY("Update", "o"), PROPERTY("Automatic", "i"), PROPERTY("Saved", "as"), PROPERTY("Label", "s"),
        SD_BUS_VTABLE_END
};

static const sd_bus_vtable update_vtable[] = {
        SD_BUS_VTABLE_START(0),
        METHOD("Cancel", "", "", on_cancel),
        PROPERTY("Id", "s"), PROPERTY("Camera", "o"), PROPERTY("Firmware", "s"), PROPERTY("Reason", "s"), PROPERTY("Wish", "s"),
        PROPERTY("Step", "s"), PROPERTY("Image", "s"), PROPERTY("BytesDone", "t"), PROPERTY("BytesTotal", "t"),
        PROPERTY("Progress", "d"), PROPERTY("Rate", "t"), PROPERTY("Eta", "t"), PROPERTY("Attempt", "u"), PROPERTY("Started", "t"), PROPERTY("Ended", "t"),
        PROPERTY("Result", "s"), PROPERTY("Error", "s"), PROPERTY("Message", "s"), PROPERTY("UnitsWritten", "u"),
        PROPERTY("UnitsTotal", "u"),
        SD_BUS_VTABLE_END
};

/* --- misbehaviour: asked before the vtables --- */

static int reply_garbage(sd_bus_message *m, bool right_shape)
{
        if (right_shape)
                return sd_bus_reply_method_return(m, "a{oa{sa{sv}}}", 2,
                                ROOT "/camera/odd", 1, NAME ".Camera", 4, "Port", "u", 7u, "Attached", "s", "yes", "Mode", "as", 1, "x",
                                "Novelty", "(ss)", "a", "b",
                                ROOT "/update/1", 1, NAME ".Update", 2, "Result", "u", 0u, "Progress", "s", "full");
        return sd_bus_reply_method_return(m, "t", UINT64_C(0xbad));
}

static int on_any_message(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *member = sd_bus_message_get_member(m);

        if (!member || sd_bus_message_is_method_call(m, NULL, NULL) <= 0)
                return 0;
        for (size_t i = 0; i < mock.n_rules; i++) {
                const struct rule *rule = &mock.rules[i];

                if (strcmp(rule->method, member) != 0)
                        continue;
                tell("called %s", member);
                switch (rule->trick) {
                case TRICK_ERROR:
                        return sd_bus_reply_method_errorf(m, rule->name, "%s", rule->message);
                case TRICK_HANG:
                        return 1;
                case TRICK_DIE:
                        _exit(1);
                case TRICK_KEEP:
                        mock.kept = sd_bus_message_ref(m);
                        return 1;
                case TRICK_TELL:
                        return 0;
                case TRICK_GARBAGE:
                case TRICK_TYPES:
                        must(reply_garbage(m, rule->trick == TRICK_TYPES), "garbage");
                        return 1;
                }
        }
        return 0;
}

/* --- commands --- */

static struct object *object_find(const char *path)
{
        for (size_t i = 0; i < mock.n_objects; i++)
                if (strcmp(mock.objects[i]->path, path) == 0)
                        return mock.objects[i];
        return NULL;
}

static void command_object(bool is_camera, char **fields)
{
        const char *changed[FIELDS_MAX] = { NULL };
        size_t n_changed = 0;
        struct object *object;
        bool is_new;
        char path[256];

        snprintf(path, sizeof(path), ROOT "/%s/%s", is_camera ? "camera" : "update", fields[1]);
        object = object_find(path);
        is_new = !object;
        if (is_new) {
                object = calloc(1, sizeof(*object));
                object->path = strdup(path);
                object->is_camera = is_camera;
        }
        for (char **f = fields + 2; *f; f++) {
                const struct declared *declared = declared_of(object);
                char *value = strchr(*f, '=');
                size_t i = 0;

                must(value ? 0 : -EINVAL, *f);
                *value++ = '\0';
                while (declared[i].name && strcmp(declared[i].name, *f) != 0)
                        i++;
                must(declared[i].name ? 0 : -ENOENT, *f);
                free(object->values[i]);
                object->values[i] = strdup(value);
                changed[n_changed++] = declared[i].name;
        }
        if (is_new) {
                mock.objects[mock.n_objects++] = object;
                must(sd_bus_add_object_vtable(mock.bus, &object->slot, path, is_camera ? NAME ".Camera" : NAME ".Update",
                                              is_camera ? camera_vtable : update_vtable, object), "vtable");
                must(sd_bus_emit_object_added(mock.bus, path), "InterfacesAdded");
        } else {
                must(sd_bus_emit_properties_changed_strv(mock.bus, path, is_camera ? NAME ".Camera" : NAME ".Update",
                                                         (char **)(void *)changed), "PropertiesChanged");
        }
}

static void object_free(struct object *object)
{
        sd_bus_slot_unref(object->slot);
        for (size_t i = 0; i < ELEMENTSOF(object->values); i++)
                free(object->values[i]);
        free(object->path);
        free(object);
}

static void command_remove(const char *name)
{
        char path[256];

        snprintf(path, sizeof(path), ROOT "/%s", name);
        for (size_t i = 0; i < mock.n_objects; i++)
                if (strcmp(mock.objects[i]->path, path) == 0) {
                        struct object *object = mock.objects[i];

                        mock.objects[i] = mock.objects[--mock.n_objects];
                        must(sd_bus_emit_object_removed(mock.bus, path), "InterfacesRemoved");
                        object_free(object);
                        return;
                }
        must(-ENOENT, name);
}

static char *path_of(const char *kind, const char *name)
{
        char *path;

        if (strcmp(name, "-") == 0)
                return strdup("/");
        return asprintf(&path, ROOT "/%s/%s", kind, name) < 0 ? NULL : path;
}

static void forget_plan(void)
{
        for (; mock.n_plan > 0; mock.n_plan--)
                for (size_t i = 0; i < 5; i++)
                        free(mock.plan[mock.n_plan - 1].fields[i]);
}

static void command_plan(char **f, size_t n)
{
        struct plan_line *line = &mock.plan[mock.n_plan];

        if (n == 1) {
                forget_plan();
                return;
        }
        must(n == 6 ? 0 : -EINVAL, "plan");
        *line = (struct plan_line){ { path_of("camera", f[1]), path_of("update", f[2]), strdup(f[3]), strdup(f[4]), strdup(f[5]) } };
        mock.n_plan++;
}

static void command_answer(char **f, size_t n)
{
        must(n == 4 ? 0 : -EINVAL, "answer");
        for (size_t i = 0; i < 3; i++)
                free(mock.answer[i]);
        mock.answer[0] = path_of("update", f[1]);
        mock.answer[1] = strdup(f[2]);
        mock.answer[2] = strdup(f[3]);
}

static void command_trick(enum trick trick, char **f, size_t n)
{
        struct rule *rule;

        for (size_t i = mock.n_rules; i-- > 0;)
                if (strcmp(mock.rules[i].method, f[1]) == 0)
                        mock.rules[i] = mock.rules[--mock.n_rules];
        if (trick == TRICK_ERROR && n == 2)
                return;
        rule = &mock.rules[mock.n_rules++];
        *rule = (struct rule){ .trick = trick };
        copy(rule->method, sizeof(rule->method), f[1]);
        if (n > 3) {
                copy(rule->name, sizeof(rule->name), f[2]);
                copy(rule->message, sizeof(rule->message), f[3]);
        }
}

static void command_refuse(char **f, size_t n)
{
        struct refusal *refusal = &mock.refusals[mock.n_refusals++];

        must(n == 5 ? 0 : -EINVAL, "refuse");
        copy(refusal->board, sizeof(refusal->board), f[1]);
        copy(refusal->partition, sizeof(refusal->partition), f[2]);
        copy(refusal->name, sizeof(refusal->name), f[3]);
        copy(refusal->message, sizeof(refusal->message), f[4]);
}

static void command_now(void)
{
        must(mock.kept ? 0 : -ENOENT, "nothing is kept");
        must(on_camera_call(mock.kept, NULL, NULL), "now");
        mock.kept = sd_bus_message_unref(mock.kept);
}

static void command(char *line)
{
        char *f[FIELDS_MAX + 1] = { NULL };
        size_t n = 0;

        while (line && n < FIELDS_MAX)
                f[n++] = strsep(&line, "|");
        if (strcmp(f[0], "camera") == 0)
                command_object(true, f);
        else if (strcmp(f[0], "update") == 0)
                command_object(false, f);
        else if (strcmp(f[0], "remove") == 0)
                command_remove(f[1]);
        else if (strcmp(f[0], "plan") == 0)
                command_plan(f, n);
        else if (strcmp(f[0], "answer") == 0)
                command_answer(f, n);
        else if (strcmp(f[0], "error") == 0)
                command_trick(TRICK_ERROR, f, n);
        else if (strcmp(f[0], "hang") == 0)
                command_trick(TRICK_HANG, f, n);
        else if (strcmp(f[0], "die") == 0)
                command_trick(TRICK_DIE, f, n);
        else if (strcmp(f[0], "garbage") == 0)
                command_trick(TRICK_GARBAGE, f, n);
        else if (strcmp(f[0], "types") == 0)
                command_trick(TRICK_TYPES, f, n);
        else if (strcmp(f[0], "keep") == 0)
                command_trick(TRICK_KEEP, f, n);
        else if (strcmp(f[0], "now") == 0)
                command_now();
        else if (strcmp(f[0], "tell") == 0)
                command_trick(TRICK_TELL, f, n);
        else if (strcmp(f[0], "refuse") == 0)
                command_refuse(f, n);
        else if (strcmp(f[0], "release") == 0)
                must(sd_bus_release_name(mock.bus, NAME), "release");
        else if (strcmp(f[0], "own") == 0)
                must(sd_bus_request_name(mock.bus, NAME, 0), "own");
        else if (strcmp(f[0], "nothing") == 0)
                ;
        else if (strcmp(f[0], "quit") == 0)
                must(sd_event_exit(mock.event, 0), "quit");
        else
                must(-EINVAL, f[0]);
        must(sd_bus_flush(mock.bus), "flush");
        tell("ok");
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        ssize_t n = read(fd, mock.input + mock.n_input, sizeof(mock.input) - 1 - mock.n_input);
        char *end;

        if (n <= 0)
                return sd_event_exit(mock.event, 0);
        mock.n_input += (size_t)n;
        mock.input[mock.n_input] = '\0';
        while ((end = strchr(mock.input, '\n'))) {
                *end++ = '\0';
                command(mock.input);
                mock.n_input -= (size_t)(end - mock.input);
                memmove(mock.input, end, mock.n_input + 1);
        }
        return 0;
}

int main(void)
{
        must(sd_event_new(&mock.event), "event");
        must(sd_bus_open_system(&mock.bus), "bus");
        must(sd_bus_add_filter(mock.bus, NULL, on_any_message, NULL), "filter");
        must(sd_bus_add_object_manager(mock.bus, NULL, ROOT), "object manager");
        must(sd_bus_add_object_vtable(mock.bus, NULL, ROOT, NAME ".Manager", manager_vtable, NULL), "manager");
        must(sd_bus_request_name(mock.bus, NAME, 0), "name");
        must(sd_bus_attach_event(mock.bus, mock.event, SD_EVENT_PRIORITY_NORMAL), "attach");
        must(sd_event_add_io(mock.event, NULL, STDIN_FILENO, EPOLLIN, on_input, NULL), "input");
        tell("ok");
        must(sd_event_loop(mock.event), "loop");
        while (mock.n_objects > 0)
                object_free(mock.objects[--mock.n_objects]);
        forget_plan();
        for (size_t i = 0; i < 3; i++)
                free(mock.answer[i]);
        sd_bus_flush_close_unref(mock.bus);
        sd_event_unref(mock.event);
        return 0;
}

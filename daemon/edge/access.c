/* SPDX-License-Identifier: MIT */
/*
 * Who may ask the daemon to change something.  Root, and whoever the daemon runs
 * as (a person who tries it out on a bus of his own), always; of others polkit
 * says it.  Where there is no polkit, the members of a group may.  Reading is for
 * everyone.
 *
 * Nobody waits for an answer here: the message is put aside while the bus (that
 * knows whose it is), polkit (that may ask a person for a password) or the user
 * database (that may be a network away) is asked, and comes in again afterwards
 * as if it had just been sent.  Then its answer is found, and used once.  Not even
 * the bus is waited for: what others sent meanwhile, however large, would be read
 * into memory until it answers.
 *
 * A question is given up, and polkit told so, when the sender leaves the bus; and
 * it goes when its message came in again and nobody looked for it: the object of
 * the call is gone.  So what waits is bounded by who is there.
 */

#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "edge/bus-internal.h"

#define ASKINGS_MAX            96       /* at a time: a bus lets one connection wait for 128 answers, and logind is asked, too */
#define ASKINGS_OF_ONE_MAX     8        /* of them, of one sender */
#define ASKINGS_OF_USER_MAX    32       /* of them, of all that one user has on the bus */
#define POLKIT_TIMEOUT         (25 * SEC)
#define POLKIT_PERSON_TIMEOUT  (300 * SEC)      /* a person types a password */
#define GROUPS_MAX             1024
#define ENTRY_MAX              (1u << 20)       /* of the user database: a group has the names of all its members */
#define ARGUMENTS_MAX          (64u << 10)      /* bytes of one call: what is kept while somebody is asked is kept whole */
#define KEPT_MAX               (4u << 20)       /* bytes of all calls that are kept; and as many of those whose user is not known yet, which the bus soon tells */
#define KEPT_OF_EACH           4096             /* of them, besides its arguments */

#define TOO_MANY "Too many questions wait for permission: ask again later."

#define POLKIT_CALL "org.freedesktop.PolicyKit1", "/org/freedesktop/PolicyKit1/Authority", "org.freedesktop.PolicyKit1.Authority"

static const char *const access_names[_ACCESS_MAX] = {
        [ACCESS_UPDATE]  = BUS_NAME ".update",
        [ACCESS_RECOVER] = BUS_NAME ".recover",
        [ACCESS_MANAGE]  = BUS_NAME ".manage",
        [ACCESS_INHIBIT] = BUS_NAME ".inhibit",
};

/* One message whose sender's right is being found out. */
struct asking {
        struct bus *bus;                /* NULL: gone meanwhile; the helper thread's end frees it */
        sd_bus_message *message;
        size_t size;                    /* what it takes of KEPT_MAX */
        sd_bus_slot *slot;              /* of the call to the bus, then to polkit */
        bool known;                     /* who it is, and that he is no one who need not ask: it counts against his limits */
        bool polkit;                    /* it is polkit that is being asked */
        enum access access;
        sd_bus_slot *left;              /* the sender's leaving */
        uint64_t number;                /* by which polkit knows it */
        uint64_t said_at;               /* registry_last_attachment() when it came in first */
        uid_t uid;
        bool answered, allowed;
        bool came_in;                   /* once more, after the answer */
        bool working;                   /* a helper thread looks at the user database */
        bool is_member;                 /* what it found; the helper's until it is done */
        const char *error;              /* of a no; NULL: denied */
        char reason[160];
        LIST_ENTRY(asking) link;        /* in bus->askings */
};

static void asking_free(struct asking *asking)
{
        if (asking->bus)
                LIST_REMOVE(asking, link);
        asking->bus = NULL;
        asking->slot = sd_bus_slot_unref(asking->slot);
        asking->left = sd_bus_slot_unref(asking->left);
        asking->message = sd_bus_message_unref(asking->message);
        if (!asking->working)
                free(asking);
}

void bus_forget_askings(struct bus *bus)
{
        struct asking *asking;

        while ((asking = LIST_FIRST(&bus->askings)))
                asking_free(asking);
}

void bus_sweep_askings(struct bus *bus, const sd_bus_message *message)
{
        struct asking *asking, *next;

        for (asking = LIST_FIRST(&bus->askings); asking; asking = next) {
                next = LIST_NEXT(asking, link);
                if (asking->came_in)
                        asking_free(asking);
                else if (asking->answered && asking->message == message)
                        asking->came_in = true;
        }
}

/* The message comes in again. */
static void answer(struct asking *asking, bool allowed, const char *reason)
{
        struct bus *bus = asking->bus;

        asking->answered = true;
        asking->allowed = allowed;
        (void)snprintf(asking->reason, sizeof(asking->reason), "%s", reason);
        if (sd_bus_enqueue_for_read(bus->connection, asking->message) < 0) {
                (void)sd_bus_reply_method_errorf(asking->message, BUS_ERROR_FAILED, "Out of memory.");
                asking_free(asking);
        }
        defer_call(&bus->prepare);
}

/* --- the group, where there is no polkit --- */

/* The credentials that a bus tells lack a user's further groups in some sandboxes: they are looked up. */
static void look_up_groups(void *data)
{
        struct asking *asking = data;
        _cleanup_free_ gid_t *groups = calloc(GROUPS_MAX, sizeof(*groups));
        _cleanup_free_ char *buffer = malloc(ENTRY_MAX), *group_buffer = malloc(ENTRY_MAX);
        struct passwd entry, *found = NULL;
        struct group group, *admin = NULL;
        int n = GROUPS_MAX;

        if (!groups || !buffer || !group_buffer || getpwuid_r(asking->uid, &entry, buffer, ENTRY_MAX, &found) != 0 || !found ||
            getgrnam_r(BUS_ADMIN_GROUP, &group, group_buffer, ENTRY_MAX, &admin) != 0 || !admin ||
            getgrouplist(entry.pw_name, entry.pw_gid, groups, &n) < 0)
                return;
        for (int i = 0; i < n; i++)
                if (groups[i] == admin->gr_gid)
                        asking->is_member = true;
}

static void groups_are_known(void *data)
{
        struct asking *asking = data;

        asking->working = false;
        if (!asking->bus) {
                free(asking);
                return;
        }
        answer(asking, asking->is_member,
               "Only root and members of the group " BUS_ADMIN_GROUP " may ask for this (there is no polkit here): try it with sudo.");
}

static void ask_for_groups(struct asking *asking)
{
        asking->working = true;
        if (loop_work(asking->bus->loop, NULL, look_up_groups, groups_are_known, asking) < 0) {
                asking->working = false;
                answer(asking, false, "Who you are could not be found out.");
        }
}

/* --- polkit --- */

static bool means_no_polkit(const sd_bus_error *error)
{
        return sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) ||
               sd_bus_error_has_name(error, SD_BUS_ERROR_NAME_HAS_NO_OWNER) ||
               sd_bus_error_has_names(error, "org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.Spawn.ServiceNotFound",
                                      "org.freedesktop.systemd1.UnitMasked");
}

static int on_polkit(sd_bus_message *reply, void *userdata, sd_bus_error *ret_error)
{
        struct asking *asking = userdata;
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        int authorized = 0, challenge = 0, r;

        asking->slot = sd_bus_slot_unref(asking->slot);
        asking->polkit = false;
        if (error) {
                if (means_no_polkit(error))
                        ask_for_groups(asking);
                else {
                        log_warning("polkit does not say who may do what: %s", error->message ?: error->name);
                        answer(asking, false, "polkit does not answer: try it with sudo.");
                }
                return 0;
        }
        r = sd_bus_message_enter_container(reply, 'r', "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &authorized, &challenge);
        if (r < 0)
                answer(asking, false, "polkit's answer makes no sense: try it with sudo.");
        else
                answer(asking, authorized, challenge ? "A password would be needed, and there is nobody to ask for it: try it with sudo." :
                       "polkit does not allow it.");
        return 0;
}

static void cancellation_of(const struct asking *asking, char name[static 32])
{
        (void)snprintf(name, 32, "camrescued-%" PRIu64, asking->number);
}

/* The person who is being asked for a password need not type it. */
static int on_left(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct asking *asking = userdata;
        struct bus *bus = asking->bus;
        char name[32];

        if (asking->polkit) {
                cancellation_of(asking, name);
                (void)sd_bus_call_method_async(bus->connection, NULL, POLKIT_CALL, "CancelCheckAuthorization", NULL, NULL, "s", name);
                defer_call(&bus->prepare);
        }
        asking_free(asking);
        return 0;
}

int bus_await_leaving(struct bus *bus, const char *sender, sd_bus_slot **ret_slot, sd_bus_message_handler_t on_leaving, void *userdata)
{
        char match[256];

        (void)snprintf(match, sizeof(match), "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                       "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s',arg2=''", sender);
        return sd_bus_add_match_async(bus->connection, ret_slot, match, on_leaving, NULL, userdata);
}

static int ask_polkit(struct asking *asking)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL;
        bool interactive = sd_bus_message_get_allow_interactive_authorization(asking->message) > 0;
        char name[32];
        int r;

        cancellation_of(asking, name);
        r = sd_bus_message_new_method_call(asking->bus->connection, &call, POLKIT_CALL, "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(call, "(sa{sv})sa{ss}us", "system-bus-name", 1, "name", "s",
                                          sd_bus_message_get_sender(asking->message), access_names[asking->access], 0,
                                          interactive ? 1u : 0u, name);
        if (r >= 0)
                r = sd_bus_call_async(asking->bus->connection, &asking->slot, call, on_polkit, asking,
                                      interactive ? POLKIT_PERSON_TIMEOUT : POLKIT_TIMEOUT);
        asking->polkit = r >= 0;
        defer_call(&asking->bus->prepare);
        return r;
}

/* --- the question --- */

/* Takes the size of all that is left to be read from *left; -E2BIG as soon as that is not enough, however much more there is. */
static int measure(sd_bus_message *message, size_t *left)
{
        union {
                uint64_t number;
                const char *text;
        } value;
        const char *contents;
        char type;
        int r;

        while ((r = sd_bus_message_peek_type(message, &type, &contents)) > 0) {
                size_t size = sizeof(value);

                if (type == 'a' || type == 'v' || type == 'r' || type == 'e') {
                        if (type == 'v')        /* it brings its signature along */
                                size += strlen(contents);
                        r = sd_bus_message_enter_container(message, type, contents);
                        if (r >= 0)
                                r = measure(message, left);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(message);
                } else {
                        r = sd_bus_message_read_basic(message, type, &value);
                        if (r >= 0 && (type == 's' || type == 'o' || type == 'g'))
                                size += strlen(value.text);
                }
                if (r < 0)
                        return r;
                if (size > *left)
                        return -E2BIG;
                *left -= size;
        }
        return r;
}

/* (sd-bus does not say how large a message is.) */
static int check_size(sd_bus_message *message, size_t *ret_size, sd_bus_error *error)
{
        size_t left = ARGUMENTS_MAX;
        int r = measure(message, &left);

        if (r == -E2BIG)
                return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "The arguments of a call are of %u KiB at most.",
                                         ARGUMENTS_MAX >> 10);
        *ret_size = ARGUMENTS_MAX - left + KEPT_OF_EACH;
        return r < 0 ? r : sd_bus_message_rewind(message, 1);
}

static const struct bus_sender *sender_of(const struct bus *bus, const char *name)
{
        for (size_t i = 0; i < MIN(bus->n_senders, ELEMENTSOF(bus->senders)); i++)
                if (strcmp(bus->senders[i].name, name) == 0)
                        return &bus->senders[i];
        return NULL;
}

static void remember_sender(struct bus *bus, const char *name, uid_t uid)
{
        struct bus_sender *sender = &bus->senders[bus->n_senders % ELEMENTSOF(bus->senders)];

        if (strlen(name) >= sizeof(sender->name) || sender_of(bus, name))
                return;
        bus->n_senders++;
        (void)snprintf(sender->name, sizeof(sender->name), "%s", name);
        sender->uid = uid;
}

static struct asking *asking_of(struct bus *bus, sd_bus_message *message)
{
        struct asking *asking;

        LIST_FOREACH(asking, &bus->askings, link)
                if (asking->message == message)
                        return asking;
        return NULL;
}

static bool too_many(const struct bus *bus, const char *sender, uid_t uid)
{
        const struct asking *asking;
        unsigned n = 0, of_sender = 0, of_user = 0;

        LIST_FOREACH(asking, &bus->askings, link) {
                if (!asking->known)
                        continue;
                n++;
                of_sender += strcmp(sd_bus_message_get_sender(asking->message), sender) == 0;
                of_user += asking->uid == uid;
        }
        return n >= ASKINGS_MAX || of_sender >= ASKINGS_OF_ONE_MAX || of_user >= ASKINGS_OF_USER_MAX;
}

/* Whoever need not ask is among the unknown: those who wait for polkit do not stand in his way. */
static bool is_full(const struct bus *bus, bool known, size_t size)
{
        const struct asking *asking;

        LIST_FOREACH(asking, &bus->askings, link)
                if (asking->known == known)
                        size += asking->size;
        return size > KEPT_MAX;
}

static bool need_not_ask(uid_t uid)
{
        return uid == 0 || uid == geteuid();
}

/* Whoever is gone is not answered. */
static bool user_of(sd_bus_message *reply, uid_t *ret)
{
        return !sd_bus_message_get_error(reply) && sd_bus_message_read(reply, "u", ret) >= 0;
}

int bus_ask_user(struct bus *bus, const char *sender, sd_bus_slot **ret_slot, sd_bus_message_handler_t on_user, void *userdata)
{
        defer_call(&bus->prepare);
        return sd_bus_call_method_async(bus->connection, ret_slot, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                        "org.freedesktop.DBus", "GetConnectionUnixUser", on_user, userdata, "s", sender);
}

/* He is still there: the bus does one after the other, so his leaving will be told. */
static int on_still_there(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct asking *asking = userdata;
        uid_t uid;

        asking->slot = sd_bus_slot_unref(asking->slot);
        if (!user_of(reply, &uid))
                asking_free(asking);
        else if (ask_polkit(asking) < 0)
                answer(asking, false, "polkit could not be asked: try it with sudo.");
        return 0;
}

/* Known, and not too many. */
static int begin_asking(struct asking *asking, uid_t uid)
{
        const char *sender = sd_bus_message_get_sender(asking->message);
        int r;

        asking->uid = uid;
        asking->known = true;
        r = bus_await_leaving(asking->bus, sender, &asking->left, on_left, asking);
        return r < 0 ? r : bus_ask_user(asking->bus, sender, &asking->slot, on_still_there, asking);
}

static int on_user(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        struct asking *asking = userdata;
        const char *sender = sd_bus_message_get_sender(asking->message);
        uid_t uid;

        asking->slot = sd_bus_slot_unref(asking->slot);
        if (!user_of(reply, &uid)) {
                answer(asking, false, "Who you are could not be found out.");
                return 0;
        }
        remember_sender(asking->bus, sender, uid);
        if (need_not_ask(uid))
                answer(asking, true, "");
        else if (too_many(asking->bus, sender, uid) || is_full(asking->bus, /* known= */ true, asking->size)) {
                asking->error = SD_BUS_ERROR_LIMITS_EXCEEDED;
                answer(asking, false, TOO_MANY);
        } else if (begin_asking(asking, uid) < 0)
                answer(asking, false, "The bus could not be asked: try it with sudo.");
        return 0;
}

struct bus *bus_of_message(sd_bus_message *message)
{
        return sd_bus_slot_get_userdata(sd_bus_get_current_slot(sd_bus_message_get_bus(message)));
}

/* The object that is called may be another one by now. */
static int check_meant(struct bus *bus, const struct asking *asking, sd_bus_error *error)
{
        const struct camera *camera = bus_camera_of_path(bus, sd_bus_message_get_path(asking->message));
        struct request_result result;

        return !camera || registry_was_meant(camera, asking->said_at, &result) ? 1 : bus_refuse(error, &result, "");
}

int bus_check_access_of(sd_bus_message *message, enum access access, uint64_t *ret_said_at, sd_bus_error *error)
{
        struct bus *bus = bus_of_message(message);
        struct asking *asking = asking_of(bus, message);
        const char *name = sd_bus_message_get_sender(message);
        const struct bus_sender *sender;
        size_t size = 0;
        int r;

        if (asking) {
                *ret_said_at = asking->said_at;
                r = asking->allowed ? check_meant(bus, asking, error) :
                    sd_bus_error_setf(error, asking->error ?: BUS_ERROR_DENIED, "%s", asking->reason);
                asking_free(asking);
                return r;
        }
        *ret_said_at = registry_last_attachment(bus->registry);
        r = check_size(message, &size, error);
        if (r < 0)
                return r;
        if (!name)
                return sd_bus_error_setf(error, BUS_ERROR_DENIED, "Who you are could not be found out.");
        sender = sender_of(bus, name);
        if (sender && need_not_ask(sender->uid))
                return 1;
        if (is_full(bus, /* known= */ sender != NULL, size) || (sender && too_many(bus, name, sender->uid)))
                return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "%s", TOO_MANY);
        asking = calloc(1, sizeof(*asking));
        if (!asking)
                return -ENOMEM;
        *asking = (struct asking){ .bus = bus, .message = sd_bus_message_ref(message), .size = size, .access = access,
                                   .number = ++bus->n_asked, .said_at = *ret_said_at };
        LIST_INSERT_HEAD(&bus->askings, asking, link);
        r = sender ? begin_asking(asking, sender->uid) : bus_ask_user(bus, name, &asking->slot, on_user, asking);
        if (r < 0) {
                asking_free(asking);
                return r;
        }
        return 0;
}

int bus_check_access(sd_bus_message *message, enum access access, sd_bus_error *error)
{
        uint64_t said_at;

        return bus_check_access_of(message, access, &said_at, error);
}

/* SPDX-License-Identifier: MIT */
#pragma once

/* What bus.c, the other bus-*.c and sleep.c share. */

#include <sys/queue.h>
#include <sys/types.h>
#include <systemd/sd-bus.h>

#include "edge/bus.h"
#include "edge/news.h"

#define BUS_PATH_MAX      160
#define BUS_SENDERS_MAX   256
#define BUS_CAMERA_PREFIX BUS_PATH "/camera"
#define BUS_UPDATE_PREFIX BUS_PATH "/update"

#define BUS_MANAGER_INTERFACE BUS_NAME ".Manager"
#define BUS_CAMERA_INTERFACE  BUS_NAME ".Camera"
#define BUS_UPDATE_INTERFACE  BUS_NAME ".Update"

#define BUS_ERROR_INVALID  BUS_NAME ".Error.InvalidArgument"
#define BUS_ERROR_NO_SUCH  BUS_NAME ".Error.NoSuchObject"
#define BUS_ERROR_REFUSED  BUS_NAME ".Error.Refused"
#define BUS_ERROR_UNKNOWN_BOARD     BUS_NAME ".Error.UnknownBoard"
#define BUS_ERROR_UNKNOWN_PARTITION BUS_NAME ".Error.UnknownPartition"
#define BUS_ERROR_HAS_SAVED BUS_NAME ".Error.HasSavedImages"
#define BUS_ERROR_DENIED   BUS_NAME ".Error.AccessDenied"
#define BUS_ERROR_TIMEOUT  BUS_NAME ".Error.Timeout"
#define BUS_ERROR_LIMIT    BUS_NAME ".Error.LimitExceeded"
#define BUS_ERROR_BUSY     BUS_NAME ".Error.Busy"
#define BUS_ERROR_INCOMPLETE BUS_NAME ".Error.FirmwareIncomplete"
#define BUS_ERROR_INHIBITED BUS_NAME ".Error.Inhibited"
#define BUS_ERROR_NOT_HANDLED BUS_NAME ".Error.NotHandled"
#define BUS_ERROR_NOT_PROVEN BUS_NAME ".Error.NotProven"
#define BUS_ERROR_NO_FIRMWARE BUS_NAME ".Error.NoFirmware"
#define BUS_ERROR_IMAGE    BUS_NAME ".Error.ImageRefused"
#define BUS_ERROR_USERS_WORK BUS_NAME ".Error.UsersWork"
#define BUS_ERROR_UPDATE_OPEN BUS_NAME ".Error.UpdateOpen"
#define BUS_ERROR_NOTHING_TO_DO BUS_NAME ".Error.NothingToDo"
#define BUS_ERROR_FAILED   BUS_NAME ".Error.Failed"
#define BUS_ERROR_NOT_SAVED BUS_NAME ".Error.NotSaved"

struct accepting;                       /* an answer that waits for the disk; bus-accept.c's */
struct adding;                          /* AddFirmware whose answer is still to come; bus-manager.c's */
struct asking;                          /* for a sender's right; access.c's */
struct telling;                         /* GetHistory, likewise; bus-camera.c's */
struct inhibition;                      /* bus-inhibit.c's */
struct handed;                          /* an answer of ReadFlash; bus-hold.c's */
struct reading;                         /* ReadFlash, likewise */
struct releasing;                       /* Release whose answer is still to come; bus-hold.c's */

struct bus {
        struct loop *loop;
        struct registry *registry;
        sd_bus *connection;
        struct io_watch watch;
        struct timer timeout;
        struct defer prepare;
        struct news news;
        LIST_HEAD(, told) told;         /* of each object */
        LIST_HEAD(, accepting) acceptings;
        LIST_HEAD(, adding) addings;
        struct lane *images;            /* on which they are read and judged; NULL: nobody asked yet */
        LIST_HEAD(, telling) tellings;
        LIST_HEAD(, asking) askings;
        LIST_HEAD(, inhibition) inhibitions;
        LIST_HEAD(, releasing) releasings;
        LIST_HEAD(, reading) readings;
        LIST_HEAD(, handed) handed;     /* what was read, and is still open somewhere */
        struct timer handed_timer;      /* looks whether it is */
        uint64_t handed_delay;
        const struct bus_events *events;
        void *userdata;
        uint64_t n_questions, n_asked;
        struct bus_sender {             /* whose a connection is: it stays his, and no name is given twice.  The oldest goes first */
                char name[24];
                uid_t uid;
        } senders[BUS_SENDERS_MAX];
        size_t n_senders;
};

/* Nobody waits for these answers any more. */
void bus_forget_acceptings(struct bus *bus);
void bus_forget_addings(struct bus *bus);
void bus_forget_tellings(struct bus *bus);
void bus_forget_releasings(struct bus *bus);
void bus_forget_readings(struct bus *bus);
void bus_forget_askings(struct bus *bus);
/* To be told of every message before it is dispatched: an answered question whose message came in and was not taken is dropped. */
void bus_sweep_askings(struct bus *bus, const sd_bus_message *message);
/* All that were handed out are lifted. */
void bus_forget_inhibitions(struct bus *bus);

extern const sd_bus_vtable bus_manager_vtable[];
extern const sd_bus_vtable bus_camera_vtable[];
extern const sd_bus_vtable bus_update_vtable[];

const char *bus_camera_path(const struct camera *camera, char path[static BUS_PATH_MAX]);
const char *bus_camera_key_path(const char *key, char path[static BUS_PATH_MAX]);
const char *bus_update_path(const struct update *update, char path[static BUS_PATH_MAX]);
int bus_find_camera(sd_bus *connection, const char *path, const char *interface, void *userdata, void **ret_found, sd_bus_error *error);
int bus_find_update(sd_bus *connection, const char *path, const char *interface, void *userdata, void **ret_found, sd_bus_error *error);
struct camera *bus_camera_of_path(struct bus *bus, const char *path);

/* Options of a request (a{sv}); what is not in allowed (flags) is refused.  Strings point into the message. */
enum {
        BUS_OPTION_FIRMWARE = 1 << 0,
        BUS_OPTION_ROMFS    = 1 << 1,
        BUS_OPTION_ERASE    = 1 << 2,
        BUS_OPTION_REPLACE  = 1 << 3,
        BUS_OPTION_DRY_RUN  = 1 << 4,
        BUS_OPTION_BOARD    = 1 << 5,
        BUS_OPTION_STAY     = 1 << 6,
        BUS_OPTION_IMAGE    = 1 << 7,
};
/* Camera.Retry and Update.Retry, once the sender may. */
int bus_retry(sd_bus_message *message, struct camera *camera, sd_bus_error *error);
/* Sets the error that says what was refused, and why; before: what the sentence begins with. */
int bus_refuse(sd_bus_error *error, const struct request_result *result, const char *before);
/* In seen, a bit for each option that was there: the second of one name is refused. */
int bus_option_once(unsigned *seen, unsigned flag, const char *key, sd_bus_error *error);
/* An image that comes with the request; fd and strings are the message's. */
struct bus_image {
        int fd;                         /* -1: none */
        const char *partition, *file;   /* NULL: not said */
};
/* image: may be NULL where it is not allowed. */
int bus_read_request(sd_bus_message *message, unsigned allowed, struct request *request, struct bus_image *image, sd_bus_error *error);
/* Of a method that has none yet: whatever is there is refused. */
int bus_read_no_options(sd_bus_message *message, sd_bus_error *error);
/* Takes the image into the store, makes the request with it, and answers. */
int bus_request_with_image(sd_bus_message *message, struct camera *camera, const struct request *request, const struct bus_image *image,
                           sd_bus_error *error);
/* "oss": what became of a request, said when its update is on the disk; or the error, of what was refused. */
int bus_reply_request(struct bus *bus, sd_bus_message *message, const struct request_result *result, sd_bus_error *error);
/* The same of several: what became of each is added, and the answer sent when all their updates are on the disk.  If they
 * cannot be written there they are cancelled, and the answer is the error NotSaved.  accepting_send() takes accepting over, a reference to
 * reply of its own, and returns what a handler returns. */
/* Before anything is asked for: how many such answers may wait. */
int accepting_check_room(struct bus *bus, sd_bus_error *error);
struct accepting *accepting_new(struct bus *bus, sd_bus_message *message);
struct accepting *accepting_free(struct accepting *accepting);
void accepting_add(struct accepting *accepting, const struct request_result *result);
int accepting_send(struct accepting *accepting, sd_bus_message *reply);

/* What a sender wants to do; each is an action of polkit, "org.camrescue1.update" and so on. */
enum access { ACCESS_UPDATE, ACCESS_RECOVER, ACCESS_MANAGE, ACCESS_INHIBIT, _ACCESS_MAX };
#define BUS_ADMIN_GROUP "camrescue-admin"

/* May the sender do that?  To be asked before anything is read of the message.  1: yes.  0: it is being found out, and the message comes
 * again then: the handler returns 1 and does nothing else.  Negative: no, and error says why. */
int bus_check_access(sd_bus_message *message, enum access access, sd_bus_error *error);
/* The same, and when it was said (struct request): what its arguments name may have gone since, and another have come in its place.  (Of the object
 * that is called this is asked here.) */
int bus_check_access_of(sd_bus_message *message, enum access access, uint64_t *ret_said_at, sd_bus_error *error);
/* Tells when sender leaves the bus.  Whether he has not left before, bus_ask_user() asks the bus afterwards: whoever is gone has no user, and the
 * reply is an error. */
int bus_await_leaving(struct bus *bus, const char *sender, sd_bus_slot **ret_slot, sd_bus_message_handler_t on_leaving, void *userdata);
int bus_ask_user(struct bus *bus, const char *sender, sd_bus_slot **ret_slot, sd_bus_message_handler_t on_user, void *userdata);
/* Whose vtable it is; at the beginning of a handler: who tells something in it, or asks the bus, does not know any more. */
struct bus *bus_of_message(sd_bus_message *message);
/* Camera.HoldInBootloader, Camera.ReadFlash and Camera.Release. */
int bus_on_read(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_on_hold(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_on_release(sd_bus_message *message, void *userdata, sd_bus_error *error);
/* Manager.Inhibit and Manager.Inhibited. */
int bus_on_inhibit(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_get_inhibited(sd_bus *connection, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                      void *userdata, sd_bus_error *error);

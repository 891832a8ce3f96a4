/* SPDX-License-Identifier: MIT */
#pragma once

/* What bus.c, the other bus-*.c and sleep.c share. */

#include <sys/queue.h>
#include <systemd/sd-bus.h>

#include "edge/bus.h"

#define BUS_PATH_MAX      160
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
#define BUS_ERROR_FAILED   BUS_NAME ".Error.Failed"

struct adding;                          /* AddFirmware whose answer is still to come; bus-manager.c's */
struct asking;                          /* for a sender's right; access.c's */
struct telling;                         /* GetHistory, likewise; bus-camera.c's */
struct inhibition;                      /* bus-inhibit.c's */
struct releasing;                       /* Release whose answer is still to come; bus-hold.c's */

struct bus {
        struct loop *loop;
        struct registry *registry;
        sd_bus *connection;
        struct io_watch watch;
        struct timer timeout;
        struct timer flush;             /* tells what has changed, ten times a second at most */
        struct defer prepare;
        uint64_t last_flush;
        struct dirty *dirty;
        size_t n_dirty, max_dirty;
        LIST_HEAD(, adding) addings;
        LIST_HEAD(, telling) tellings;
        LIST_HEAD(, asking) askings;
        LIST_HEAD(, inhibition) inhibitions;
        LIST_HEAD(, releasing) releasings;
        size_t n_telling;               /* of them, the first: what is being told now, some at a time */
        const struct bus_events *events;
        void *userdata;
        uint64_t n_questions, n_asked;
};

/* Nobody waits for these answers any more. */
void bus_forget_addings(struct bus *bus);
void bus_forget_tellings(struct bus *bus);
void bus_forget_releasings(struct bus *bus);
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
};
/* Camera.Retry and Update.Retry, once the sender may. */
int bus_retry(sd_bus_message *message, struct camera *camera);
int bus_read_request(sd_bus_message *message, unsigned allowed, struct request *request, sd_bus_error *error);

/* What a sender wants to do; each is an action of polkit, "org.camrescue1.update" and so on. */
enum access { ACCESS_UPDATE, ACCESS_RECOVER, ACCESS_MANAGE, ACCESS_INHIBIT, _ACCESS_MAX };
#define BUS_ADMIN_GROUP "camrescue-admin"

/* May the sender do that?  To be asked before anything is read of the message.  1: yes.  0: it is being found out, and the message comes
 * again then: the handler returns 1 and does nothing else.  Negative: no, and error says why. */
int bus_check_access(sd_bus_message *message, enum access access, sd_bus_error *error);
/* From within a handler: whose vtable it is. */
struct bus *bus_of_message(sd_bus_message *message);
/* Camera.HoldInBootloader and Camera.Release. */
int bus_on_hold(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_on_release(sd_bus_message *message, void *userdata, sd_bus_error *error);
/* Manager.Inhibit and Manager.Inhibited. */
int bus_on_inhibit(sd_bus_message *message, void *userdata, sd_bus_error *error);
int bus_get_inhibited(sd_bus *connection, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                      void *userdata, sd_bus_error *error);

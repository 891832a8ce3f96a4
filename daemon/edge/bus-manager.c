/* SPDX-License-Identifier: MIT */
/* org.camrescue1.Manager: requests for many cameras at once, and the firmware store. */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/image.h"
#include "edge/bus-internal.h"

#define FIRMWARE_MAX (64u << 20)
#define IN_FLIGHT_MAX FIRMWARE_MAX      /* bytes of all images that are read, or on their way to the disk */
#define ADDINGS_MAX 64                  /* and how many */
#define WRAPPING_MAX (64u << 10)        /* what the file of an image has besides the image: prefix, suffix, padding */

static const struct session_context *context_of(const struct bus *bus)
{
        return registry_context(bus->registry);
}

/* --- Update, Recover --- */

static int append_plan(struct accepting *accepting, sd_bus_message *reply, struct camera *camera, const struct request *request)
{
        struct request_result result;
        char camera_path[BUS_PATH_MAX], update_path[BUS_PATH_MAX];

        registry_request(camera->registry, camera, request, &result);
        accepting_add(accepting, &result);
        return sd_bus_message_append(reply, "(oosss)", bus_camera_path(camera, camera_path),
                                     result.update ? bus_update_path(result.update, update_path) : "/",
                                     request_action_to_string(result.action), result.version, result.text);
}

static int append_all(struct bus *bus, struct accepting *accepting, sd_bus_message *reply, struct request *request)
{
        int r = 0;

        request->all = true;
        for (struct camera *c = registry_first_camera(bus->registry); c && r >= 0; c = registry_next_camera(c))
                if (c->board && c->board->support == BOARD_DFU && (c->attached || update_is_open(c->update)))
                        r = append_plan(accepting, reply, c, request);
        return r;
}

static int do_request(sd_bus_message *message, struct bus *bus, enum wish wish, unsigned allowed, sd_bus_error *error)
{
        struct request request = { .wish = wish };
        _cleanup_free_ struct camera **cameras = NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        struct accepting *accepting;
        size_t n = 0;
        const char *path;
        int r;

        r = bus_check_access_of(message, wish == WISH_RECOVER ? ACCESS_RECOVER : ACCESS_UPDATE, &request.said_at, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_enter_container(message, 'a', "o");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(message, "o", &path)) > 0) {
                struct camera *camera = bus_camera_of_path(bus, path), **grown;

                if (!camera)
                        return sd_bus_error_setf(error, BUS_ERROR_NO_SUCH, "No camera %s.", path);
                /* A list is no longer than there are cameras: one of a million would keep the loop from them. */
                for (size_t i = 0; i < n; i++)
                        if (cameras[i] == camera)
                                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Camera %s is named twice.", path);
                grown = reallocarray(cameras, n + 1, sizeof(struct camera *));
                if (!grown)
                        return -ENOMEM;
                cameras = grown;
                cameras[n++] = camera;
        }
        if (r < 0)
                return r;
        r = sd_bus_message_exit_container(message);
        if (r < 0)
                return r;
        r = bus_read_request(message, allowed, &request, /* image= */ NULL, error);
        if (r < 0)
                return r;
        if (n == 0 && wish == WISH_RECOVER)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "The word that these are cameras is given for each by name.");
        r = accepting_check_room(bus, error);
        if (r >= 0)
                r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(oosss)");
        if (r < 0)
                return r;
        accepting = accepting_new(bus, message);
        if (!accepting)
                return -ENOMEM;
        if (n == 0)
                r = append_all(bus, accepting, reply, &request);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = append_plan(accepting, reply, cameras[i], &request);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        if (r < 0) {
                accepting_free(accepting);
                return r;
        }
        return accepting_send(accepting, reply);
}

static int on_update(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return do_request(message, userdata, WISH_UPDATE, BUS_OPTION_FIRMWARE | BUS_OPTION_ROMFS | BUS_OPTION_ERASE | BUS_OPTION_REPLACE |
                          BUS_OPTION_DRY_RUN, error);
}

static int on_recover(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        return do_request(message, userdata, WISH_RECOVER, BUS_OPTION_FIRMWARE | BUS_OPTION_BOARD | BUS_OPTION_REPLACE | BUS_OPTION_DRY_RUN,
                          error);
}

/* --- AddFirmware --- */

/* One image: read and judged on a helper thread (64 MiB and their checksum take a while), then stored. */
struct adding {
        struct bus *bus;                /* NULL: gone meanwhile; the helper's end frees it */
        sd_bus_message *message;
        int fd;                         /* the message's */
        size_t file_size;
        const struct board_list *boards;
        const char *board_name;         /* NULL: not said.  The message's, or the list's */
        bool working;                   /* the helper's are, until it is done: record, bytes, size, board, error, result */
        uint8_t *bytes;                 /* as they go to the device, when it is judged */
        size_t size;
        const struct board *board;
        sd_bus_error error;             /* why not */
        int result;
        struct firmware_record record;
        bool requests;                  /* it came with this request, which is made as soon as it is stored */
        struct request request;         /* its strings are the message's */
        LIST_ENTRY(adding) link;        /* in the bus */
};

/* NULL: not said. */
struct firmware_texts {
        const char *partition, *version, *file;
};

#define OWN_PREFIX "own:"
#define OWN_MAX 8                       /* images that came with requests, and have no other name; the oldest goes first */

/* What is kept in the store is kept as it was said, or not at all. */
static int take_text(const char *key, const char *value, char *to, size_t size, sd_bus_error *error)
{
        if (strlen(value) >= size)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"%s\" is too long: %zu bytes at most.", key, size - 1);
        if (text_has_controls(value))
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"%s\" has control characters.", key);
        snprintf(to, size, "%s", value);
        return 0;
}

static bool is_own(const struct firmware_record *record)
{
        return strncmp(record->version, OWN_PREFIX, sizeof(OWN_PREFIX) - 1) == 0;
}

static int check_texts(const struct firmware_texts *texts, struct firmware_record *record, sd_bus_error *error)
{
        int r = 0;

        if (texts->partition)
                r = take_text("partition", texts->partition, record->partition, sizeof(record->partition), error);
        if (r >= 0 && texts->version)
                r = take_text("version", texts->version, record->version, sizeof(record->version), error);
        if (r >= 0 && texts->file)
                r = take_text("file", texts->file, record->file, sizeof(record->file), error);
        if (r >= 0 && is_own(record))
                r = sd_bus_error_setf(error, BUS_ERROR_INVALID, "A version does not begin with \"" OWN_PREFIX "\": so is called what came with an "
                                      "update, and is forgotten by and by.");
        return r;
}

static int read_firmware_options(sd_bus_message *message, struct firmware_record *record, const char **ret_board, sd_bus_error *error)
{
        static const char *const keys[] = { "stable", "board", "partition", "version", "file" };
        struct firmware_texts texts = {};
        unsigned seen = 0;
        const char *key;
        int flag, r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &key);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                        if (strcmp(key, keys[i]) == 0) {
                                r = bus_option_once(&seen, 1u << i, key, error);
                                if (r < 0)
                                        return r;
                        }
                if (strcmp(key, "stable") == 0) {
                        r = sd_bus_message_read(message, "v", "b", &flag);
                        record->stable = flag;
                } else if (strcmp(key, "board") == 0)
                        r = sd_bus_message_read(message, "v", "s", ret_board);
                else if (strcmp(key, "partition") == 0)
                        r = sd_bus_message_read(message, "v", "s", &texts.partition);
                else if (strcmp(key, "version") == 0)
                        r = sd_bus_message_read(message, "v", "s", &texts.version);
                else if (strcmp(key, "file") == 0)
                        r = sd_bus_message_read(message, "v", "s", &texts.file);
                else
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Unknown option \"%s\".", key);
                if (r < 0)
                        return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Option \"%s\" has the wrong type.", key);
                r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        return r < 0 ? r : check_texts(&texts, record, error);
}

/* The partition of the board whose file has this name; else the firmware's. */
static void guess_partition(const struct board *board, struct firmware_record *record)
{
        if (record->partition[0])
                return;
        for (size_t i = 0; i < board->n_files; i++)
                if (strcasecmp(board->files[i].file, record->file) == 0) {
                        snprintf(record->partition, sizeof(record->partition), "%s", board->files[i].partition);
                        return;
                }
        snprintf(record->partition, sizeof(record->partition), "FIRMWARE");
}

static int find_board(const struct board_list *boards, const struct image *image, const char *name, struct firmware_record *record,
                      const struct board **ret, sd_bus_error *error)
{
        uint32_t possible;

        if (name) {
                *ret = board_by_any_name(boards, name);
                if (!*ret)
                        return sd_bus_error_setf(error, BUS_ERROR_UNKNOWN_BOARD, "\"%s\" names no board, or several.", name);
                return 0;
        }
        possible = image_possible_boards(image, boards, record->partition[0] ? record->partition : "FIRMWARE");
        /* Any bytes could be firmware for a board whose images have no vector table: that is no sign of it. */
        for (size_t i = 0; i < boards->n; i++)
                if (image->format == IMAGE_RAW && !boards->boards[i].vector_table)
                        possible &= ~(UINT32_C(1) << i);
        if (__builtin_popcount(possible) != 1)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "%s: say which board it is for.",
                                         possible ? "It could be for several boards" : "It fits no board's firmware partition");
        *ret = &boards->boards[__builtin_ctz(possible)];
        return 0;
}

/* The bytes as they go to the device, judged against the layouts that have the partition: fine if one of them takes it. */
static enum image_fault find_bytes(const struct image *image, const struct board *board, const char *name,
                                   const uint8_t **ret_data, size_t *ret_size, bool *ret_found)
{
        enum image_fault fault = IMAGE_OUT_OF_RANGE;

        *ret_found = false;
        for (size_t i = 0; i < board->n_layouts; i++) {
                const struct partition *partition = layout_partition(&board->layouts[i], name, NULL);

                if (!partition)
                        continue;
                *ret_found = true;
                fault = image_for_partition(image, board, partition, ret_data, ret_size);
                if (fault == IMAGE_FINE)
                        break;
        }
        return fault;
}

static enum partition_role role_of(const struct board *board, const char *name)
{
        const struct partition *partition = layout_partition(&board->layouts[0], name, NULL);

        return partition ? partition->role : _PARTITION_ROLE_MAX;
}

/* Boards of one chip have vector tables that look alike, but no two boards share their firmware: bytes that are known as one's
 * are not another's.  A bootloader may be shared by boards of one chip, as long as nobody knows this board's (rule 1).  NULL: nobody
 * else's.  (File systems may be shared by all.) */
static const struct board *board_of_image(struct bus *bus, const struct board *meant, const struct firmware_record *record)
{
        const struct store *store = context_of(bus)->store;
        enum partition_role role = role_of(meant, record->partition);
        const struct board *other = NULL, *elsewhere = NULL;
        bool has_own = false;

        for (size_t i = 0; i < store_count(store); i++) {
                const struct firmware_record *known = store_nth(store, i);
                const struct board *board = board_by_id(context_of(bus)->boards, known->board);

                /* What somebody once tried stands in nobody's way. */
                if (!board || is_own(known) || role_of(board, known->partition) != role)
                        continue;
                has_own = has_own || board == meant;
                if (!digest_equal(&known->digest, &record->digest))
                        continue;
                if (board == meant)
                        return NULL;
                other = board;
                if (board->chip != meant->chip)
                        elsewhere = board;
        }
        switch (role) {
        case PARTITION_FIRMWARE:
                return other;
        case PARTITION_BOOTLOADER:
                return has_own ? other : elsewhere;
        case PARTITION_FILESYSTEM:
        case PARTITION_ROMFS:
        case PARTITION_FORBIDDEN:
        case _PARTITION_ROLE_MAX:
                break;
        }
        return NULL;
}

static const struct firmware_record *known_firmware(struct bus *bus, const struct firmware_record *record)
{
        const struct store *store = context_of(bus)->store;

        for (size_t i = 0; i < store_count(store); i++) {
                const struct firmware_record *known = store_nth(store, i);

                if (digest_equal(&known->digest, &record->digest) && strcmp(known->board, record->board) == 0 &&
                    strcmp(known->partition, record->partition) == 0)
                        return known;
        }
        return NULL;
}

/* For who shows what is in the store. */
static void tell_firmware(struct bus *bus, const char *signal, const char *id)
{
        (void)sd_bus_emit_signal(bus->connection, BUS_PATH, BUS_MANAGER_INTERFACE, signal, "s", id);
        defer_call(&bus->prepare);
}

/* What is taken out is taken out by its digest: for whatever board it is there. */
static bool has_a_name(const struct store *store, const struct digest *digest)
{
        for (size_t i = 0; i < store_count(store); i++)
                if (digest_equal(&store_nth(store, i)->digest, digest) && !is_own(store_nth(store, i)))
                        return true;
        return false;
}

/* Whoever may update a camera may not fill the store: what he brought along is kept as long as it is needed, and a little longer. */
static void forget_old_ones(struct bus *bus)
{
        struct store *store = context_of(bus)->store;

        for (;;) {
                const struct firmware_record *oldest = NULL;
                char id[7 + DIGEST_HEX_SIZE] = "sha256:";
                size_t n = 0;

                for (size_t i = 0; i < store_count(store); i++) {
                        const struct firmware_record *record = store_nth(store, i);

                        if (!is_own(record) || has_a_name(store, &record->digest))
                                continue;
                        n++;
                        if (!oldest || record->added < oldest->added)
                                oldest = record;
                }
                if (n <= OWN_MAX)
                        return;
                digest_to_hex(&oldest->digest, id + 7);
                if (store_remove_firmware(store, &oldest->digest) < 0)
                        return;
                tell_firmware(bus, "FirmwareRemoved", id);
        }
}

static void make_request(struct adding *adding, const char *id)
{
        struct camera *camera = bus_camera_of_path(adding->bus, sd_bus_message_get_path(adding->message));
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        struct request_result result;
        int r;

        if (!camera) {
                (void)sd_bus_reply_method_errorf(adding->message, SD_BUS_ERROR_UNKNOWN_OBJECT, "The camera is gone.");
                return;
        }
        adding->request.firmware = id;
        r = accepting_check_room(adding->bus, &error);
        if (r >= 0) {
                registry_request(camera->registry, camera, &adding->request, &result);
                r = bus_reply_request(adding->bus, adding->message, &result, &error);
        }
        if (r < 0)
                (void)sd_bus_reply_method_error(adding->message, &error);
        forget_old_ones(adding->bus);
}

static void adding_free(struct adding *adding)
{
        if (adding->bus)
                LIST_REMOVE(adding, link);
        adding->bus = NULL;
        adding->message = sd_bus_message_unref(adding->message);
        if (adding->working)
                return;
        sd_bus_error_free(&adding->error);
        free(adding->bytes);
        free(adding);
}

/* Said when it is true: a daemon that is killed after this has the image. */
static void on_durable(void *userdata, int error)
{
        struct adding *adding = userdata;
        char id[7 + DIGEST_HEX_SIZE] = "sha256:";

        digest_to_hex(&adding->record.digest, id + 7);
        if (error < 0)
                (void)sd_bus_reply_method_errorf(adding->message, BUS_ERROR_FAILED, "It could not be stored: %s.", strerror(-error));
        else {
                log_info("firmware store: %s %s %s (%u bytes)", adding->record.board, adding->record.partition,
                         adding->record.version, adding->record.size);
                tell_firmware(adding->bus, "FirmwareAdded", id);
                if (adding->requests)
                        make_request(adding, id);
                else
                        (void)sd_bus_reply_method_return(adding->message, "s", id);
                registry_firmware_added(adding->bus->registry);
        }
        defer_call(&adding->bus->prepare);
        adding_free(adding);
}

static void on_added(void *userdata, int error)
{
        struct adding *adding = userdata;

        if (error >= 0)
                error = journal_sync(context_of(adding->bus)->journal, on_durable, adding);
        if (error < 0)
                on_durable(adding, error);
}

/* Not mapped: memory for what was never written in it would be the daemon's, and stay as long as the sender keeps it. */
static int read_image(struct adding *adding)
{
        adding->bytes = malloc(adding->file_size);
        if (!adding->bytes)
                return -ENOMEM;
        for (size_t at = 0; at < adding->file_size;) {
                ssize_t n = pread(adding->fd, adding->bytes + at, adding->file_size - at, (off_t)at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return sd_bus_error_setf(&adding->error, BUS_ERROR_FAILED, "It could not be read: %s.", n < 0 ? strerror(errno) : "it ends");
                at += (size_t)n;
        }
        return 0;
}

/* On the helper thread: all that can be said of the image by itself. */
static int judge_image(struct adding *adding)
{
        sd_bus_error *error = &adding->error;
        const struct board *board = NULL;
        const uint8_t *data;
        enum image_fault fault;
        struct image image;
        bool found;
        int r;

        r = read_image(adding);
        if (r < 0)
                return r;
        fault = image_parse(&image, adding->bytes, adding->file_size, adding->record.file[0] ? adding->record.file : NULL);
        if (fault != IMAGE_FINE)
                return sd_bus_error_setf(error, BUS_ERROR_IMAGE, "%s: %s", image_fault_to_string(fault), image_fault_advice(fault));
        r = find_board(adding->boards, &image, adding->board_name, &adding->record, &board, error);
        if (r < 0 || !board)
                return r;
        if (board->support != BOARD_DFU)
                return sd_bus_error_setf(error, BUS_ERROR_UNKNOWN_BOARD, "%s is recognised, but not handled: its firmware is of no use here.",
                                         board->name);
        guess_partition(board, &adding->record);
        fault = find_bytes(&image, board, adding->record.partition, &data, &adding->size, &found);
        if (!found)
                return sd_bus_error_setf(error, BUS_ERROR_UNKNOWN_PARTITION, "%s has no partition %s.", board->name, adding->record.partition);
        if (fault != IMAGE_FINE)
                return sd_bus_error_setf(error, BUS_ERROR_IMAGE, "%s for the %s of %s: %s", image_fault_to_string(fault),
                                         adding->record.partition, board->name, image_fault_advice(fault));
        memmove(adding->bytes, data, adding->size);
        digest_of(adding->bytes, adding->size, &adding->record.digest);
        adding->record.size = (uint32_t)adding->size;
        snprintf(adding->record.board, sizeof(adding->record.board), "%s", board->id);
        adding->board = board;
        return 0;
}

static void image_run(void *data)
{
        struct adding *adding = data;

        adding->result = judge_image(adding);
}

/* And what is known of the others. */
static int store_image(struct adding *adding)
{
        struct bus *bus = adding->bus;
        const struct firmware_record *known;
        const struct board *other;
        int r;

        adding->record.added = loop_wall_clock(bus->loop);
        other = board_of_image(bus, adding->board, &adding->record);
        if (other)
                return sd_bus_error_setf(&adding->error, BUS_ERROR_IMAGE, "These bytes are known as the %s of %s, not of %s. "
                                         "If that is wrong, take it out first: camrescue firmware remove.", adding->record.partition,
                                         other->name, adding->board->name);
        known = adding->record.version[0] ? NULL : known_firmware(bus, &adding->record);
        if (known)
                adding->record = *known;        /* a file without a name of its own that is there: it keeps the name that it has */
        if (!adding->record.version[0]) {
                char hex[DIGEST_HEX_SIZE];

                digest_to_hex(&adding->record.digest, hex);
                snprintf(adding->record.version, sizeof(adding->record.version), "%s%.12s", adding->requests ? OWN_PREFIX : "custom:", hex);
                adding->record.stable = false;
        }
        r = store_take_firmware(context_of(bus)->store, &adding->record, take_ptr(adding->bytes), adding->size, on_added, adding);
        if (r < 0)
                return sd_bus_error_setf(&adding->error, BUS_ERROR_FAILED, "It could not be stored: %s.", strerror(-r));
        return 0;
}

static void image_judged(void *data)
{
        struct adding *adding = data;
        int r = adding->result;

        adding->working = false;
        if (!adding->bus) {
                adding_free(adding);
                return;
        }
        if (r >= 0)
                r = store_image(adding);
        if (r >= 0)
                return;                 /* it is on_added()'s now */
        if (sd_bus_error_is_set(&adding->error))
                (void)sd_bus_reply_method_error(adding->message, &adding->error);
        else
                (void)sd_bus_reply_method_errno(adding->message, r, NULL);
        defer_call(&adding->bus->prepare);
        adding_free(adding);
}

/* All of a board that may be in one file. */
static uint64_t board_bytes(const struct board *board)
{
        uint64_t most = 0;

        for (size_t i = 0; i < board->n_layouts; i++) {
                const struct layout *layout = &board->layouts[i];
                uint64_t sum = 0;

                for (size_t k = 0; k < layout->n_partitions; k++)
                        if (layout->partitions[k].role != PARTITION_FORBIDDEN)
                                sum += layout->partitions[k].limit - layout->partitions[k].start;
                most = MAX(most, sum);
        }
        return most + WRAPPING_MAX;
}

/* Before anything is read: is it larger than whatever it could be? */
static int check_image_size(const struct board_list *boards, const char *board_name, uint64_t size, sd_bus_error *error)
{
        const struct board *board = board_name ? board_by_any_name(boards, board_name) : NULL;
        uint64_t most = 0;

        if (size > FIRMWARE_MAX)
                return sd_bus_error_setf(error, BUS_ERROR_IMAGE, "The image is larger than 64 MiB.");
        if (board && board->support == BOARD_DFU)
                most = board_bytes(board);
        else
                for (size_t i = 0; i < boards->n; i++)
                        if (boards->boards[i].support == BOARD_DFU)
                                most = MAX(most, board_bytes(&boards->boards[i]));
        if (size > most)
                return sd_bus_error_setf(error, BUS_ERROR_IMAGE, "The image is larger than all that %s takes.", board ? board->name : "any board");
        return 0;
}

static int check_in_flight(struct bus *bus, uint64_t size, sd_bus_error *error)
{
        const struct adding *adding;
        unsigned n = 0;

        LIST_FOREACH(adding, &bus->addings, link) {
                size += adding->file_size;
                n++;
        }
        if (size > IN_FLIGHT_MAX || n >= ADDINGS_MAX)
                return sd_bus_error_setf(error, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too many images at a time: ask again.");
        return 0;
}

/* adding: its record says what is known, and its request if there is one.  Taken over if this succeeds; then the answer comes later. */
static int add_sealed(struct bus *bus, sd_bus_message *message, struct adding *adding, const char *board_name, int fd, sd_bus_error *error)
{
        const struct board_list *boards = context_of(bus)->boards;
        struct stat st;
        int seals, r;

        /* Sealed, so that it neither hangs nor changes nor shrinks under us. */
        seals = fcntl(fd, F_GET_SEALS);
        if (seals < 0 || (seals & (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK)) != (F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK))
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "Only a memfd sealed against write, grow and shrink is taken.");
        if (fstat(fd, &st) < 0 || st.st_size <= 0)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "The image is empty.");
        r = check_image_size(boards, board_name, (uint64_t)st.st_size, error);
        if (r >= 0)
                r = check_in_flight(bus, (uint64_t)st.st_size, error);
        if (r >= 0 && !bus->images)
                r = lane_new(bus->loop, &bus->images);
        if (r < 0)
                return r;
        adding->boards = boards;
        adding->board_name = board_name;
        adding->fd = fd;
        adding->file_size = (size_t)st.st_size;
        adding->working = true;
        r = loop_work(bus->loop, bus->images, image_run, image_judged, adding);
        if (r < 0)
                return r;
        adding->bus = bus;
        adding->message = sd_bus_message_ref(message);
        LIST_INSERT_HEAD(&bus->addings, adding, link);
        return 1;
}

int bus_request_with_image(sd_bus_message *message, struct camera *camera, const struct request *request, const struct bus_image *image,
                           sd_bus_error *error)
{
        const char *board = request->board ?: camera->board ? camera->board->id : NULL;
        _cleanup_free_ struct adding *adding = NULL;
        int r;

        if (!board)
                return sd_bus_error_setf(error, BUS_ERROR_UNKNOWN_BOARD, "It is not known which board it is, and so not whose image this is.");
        adding = calloc(1, sizeof(*adding));
        if (!adding)
                return -ENOMEM;
        adding->requests = true;
        adding->request = *request;
        r = check_texts(&(struct firmware_texts){ .partition = image->partition, .file = image->file }, &adding->record, error);
        if (r < 0)
                return r;
        r = add_sealed(bus_of_message(message), message, adding, board, image->fd, error);
        if (r >= 0)
                adding = NULL;
        return r;
}

/* The images that are judged are stored all the same. */
void bus_forget_addings(struct bus *bus)
{
        struct adding *adding;

        bus->images = lane_free(bus->images);   /* nobody reads in a message that is gone */
        while ((adding = LIST_FIRST(&bus->addings))) {
                store_cancel(context_of(bus)->store, adding);
                journal_sync_cancel(context_of(bus)->journal, adding);
                adding_free(adding);
        }
}

static int on_add_firmware(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        _cleanup_free_ struct adding *adding = NULL;
        const char *board = NULL;
        int fd, r;

        r = bus_check_access(message, ACCESS_MANAGE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(message, "h", &fd);
        if (r < 0)
                return r;
        adding = calloc(1, sizeof(*adding));
        if (!adding)
                return -ENOMEM;
        r = read_firmware_options(message, &adding->record, &board, error);
        if (r >= 0)
                r = add_sealed(userdata, message, adding, board, fd, error);
        if (r >= 0)
                adding = NULL;
        return r;
}

/* --- ListFirmware, RemoveFirmware --- */

static int append_firmware(sd_bus_message *reply, const struct firmware_record *f)
{
        char id[7 + DIGEST_HEX_SIZE] = "sha256:";

        digest_to_hex(&f->digest, id + 7);
        return sd_bus_message_append(reply, "a{sv}", 9,
                                     "id", "s", id,
                                     "board", "s", f->board,
                                     "partition", "s", f->partition,
                                     "version", "s", f->version,
                                     "file", "s", f->file,
                                     "stable", "b", (int)f->stable,
                                     "pinned", "b", (int)f->pinned,
                                     "size", "u", f->size,
                                     "added", "t", f->added);
}

static int on_list_firmware(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        struct store *store = context_of(bus)->store;
        int r;

        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; r >= 0 && i < store_count(store); i++)
                r = append_firmware(reply, store_nth(store, i));
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

static int on_remove_firmware(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        char taken[7 + DIGEST_HEX_SIZE] = "sha256:";
        struct digest digest;
        const char *id;
        int r;

        r = bus_check_access(message, ACCESS_MANAGE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_read(message, "s", &id);
        if (r < 0)
                return r;
        if (strncmp(id, "sha256:", 7) != 0 || hex_decode(id + 7, digest.bytes, DIGEST_SIZE) < 0)
                return sd_bus_error_setf(error, BUS_ERROR_INVALID, "\"%s\" is no id of an image.", id);
        r = store_remove_firmware(context_of(bus)->store, &digest);
        if (r == -ENOENT)
                return sd_bus_error_setf(error, BUS_ERROR_NO_SUCH, "No such image in the store.");
        if (r < 0)
                return sd_bus_error_setf(error, BUS_ERROR_FAILED, "It could not be removed: %s.", strerror(-r));
        digest_to_hex(&digest, taken + 7);      /* as ListFirmware and FirmwareAdded spell it, however the caller did */
        tell_firmware(bus, "FirmwareRemoved", taken);
        return sd_bus_reply_method_return(message, "");
}

/* --- properties --- */

static int get_version(sd_bus *connection, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "s", PACKAGE_VERSION);
}

static int get_api_version(sd_bus *connection, const char *path, const char *interface, const char *property,
                           sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        return sd_bus_message_append(reply, "u", BUS_API_VERSION);
}

static int get_automatic(sd_bus *connection, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
        const struct bus *bus = userdata;

        return sd_bus_message_append(reply, "b", registry_automatic(bus->registry));
}

static int on_reload_config(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        struct bus *bus = userdata;
        int r;

        r = bus_check_access(message, ACCESS_MANAGE, error);
        if (r <= 0)
                return r < 0 ? r : 1;
        return sd_bus_reply_method_return(message, "u", bus->events->on_reload(bus->userdata));
}

const sd_bus_vtable bus_manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_NAMES("Update", "aoa{sv}", SD_BUS_PARAM(cameras) SD_BUS_PARAM(options), "a(oosss)",
                                 SD_BUS_PARAM(plan), on_update, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Recover", "aoa{sv}", SD_BUS_PARAM(cameras) SD_BUS_PARAM(options), "a(oosss)",
                                 SD_BUS_PARAM(plan), on_recover, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("AddFirmware", "ha{sv}", SD_BUS_PARAM(fd) SD_BUS_PARAM(options), "s",
                                 SD_BUS_PARAM(id), on_add_firmware, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("ListFirmware", "",, "aa{sv}", SD_BUS_PARAM(firmware), on_list_firmware,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("RemoveFirmware", "s", SD_BUS_PARAM(id), "",, on_remove_firmware,
                                 SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("ReloadConfig", "",, "u", SD_BUS_PARAM(wrong), on_reload_config, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_NAMES("Inhibit", "oss", SD_BUS_PARAM(camera) SD_BUS_PARAM(who) SD_BUS_PARAM(why), "h",
                                 SD_BUS_PARAM(fd), bus_on_inhibit, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_NAMES("FirmwareAdded", "s", SD_BUS_PARAM(id), 0),
        SD_BUS_SIGNAL_WITH_NAMES("FirmwareRemoved", "s", SD_BUS_PARAM(id), 0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("ApiVersion", "u", get_api_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("AutomaticRecovery", "b", get_automatic, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Inhibited", "a(oss)", bus_get_inhibited, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

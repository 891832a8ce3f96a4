/* SPDX-License-Identifier: MIT */
/* The lab: see lab.h. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "unit/lab.h"
#include "unit/loop-virtual.h"

#define SAVED_QUOTA (UINT64_C(64) * 1024 * 1024)

/* --- what is said --- */

static void on_line(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        struct lab *lab = userdata;
        char **place = &lab->lines[lab->n_lines++ % LAB_LINES];

        (void)level;
        free(*place);
        if (asprintf(place, "%9.3f %s [%s] %s", (double)(loop_now(lab->loop) - LOOP_VIRTUAL_START) / SEC,
                     subject && subject->port ? subject->port : "-", subject && subject->camera ? subject->camera : "-", line) < 0)
                *place = NULL;
        if (lab->trace > 0 && *place)
                fprintf(stderr, "%s\n", *place);
}

void lab_fail(const struct lab *lab, const char *format, ...)
{
        char message[1024];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        if (lab->trace == 0)
                for (size_t i = lab->n_lines > LAB_LINES ? lab->n_lines - LAB_LINES : 0; i < lab->n_lines; i++)
                        fprintf(stderr, "# %s\n", lab->lines[i % LAB_LINES] ?: "");
        fail_msg("%s", message);
        abort();
}

bool lab_logged(const struct lab *lab, const char *part)
{
        for (size_t i = 0; i < LAB_LINES; i++)
                if (lab->lines[i] && strstr(lab->lines[i], part))
                        return true;
        return false;
}

/* --- birth and death --- */

static void on_usb_event(void *userdata, bool added, const struct sighting *sighting)
{
        struct lab *lab = userdata;

        /* As the device monitor: what is nobody's is not told. */
        if (board_classify(&lab->boards, sighting->vendor, sighting->product, NULL) == USB_ROLE_NONE)
                return;
        if (!lab->registry)
                return;
        if (added)
                registry_seen(lab->registry, sighting);
        else
                registry_gone(lab->registry, sighting->port);
}

static bool hub_is_there(void *userdata, const char *port)
{
        const struct lab *lab = userdata;

        (void)port;
        return !lab->hub_is_gone;
}

static void start_registry(struct lab *lab)
{
        const struct session_context context = {
                .loop = lab->loop, .usb = lab->usb, .store = lab->store, .journal = lab->journal, .boards = &lab->boards,
        };
        struct sighting sightings[LAB_CAMERAS_MAX];
        size_t n;

        assert_int_equal(registry_new(&context, &lab->settings, &lab->registry), 0);
        assert_int_equal(registry_load(lab->registry), 0);
        n = usb_inproc_enumerate(lab->host, sightings, ELEMENTSOF(sightings));
        for (size_t i = 0; i < MIN(n, ELEMENTSOF(sightings)); i++)
                on_usb_event(lab, /* added= */ true, &sightings[i]);
}

/* Read once: thousands of labs are made of them. */
static const struct board_list *all_boards(void)
{
        static struct board_list boards;

        if (boards.n == 0)
                assert_int_equal(board_list_load(&boards, getenv("CAMRESCUE_BOARDS") ?: "boards"), 0);
        return &boards;
}

static struct lab *lab_make(uint64_t saved_quota)
{
        const char *trace = getenv("LAB_TRACE");
        struct lab *lab = calloc(1, sizeof(*lab));

        assert_non_null(lab);
        lab->trace = trace ? atoi(trace) : 0;
        lab->saved_quota = saved_quota;
        log_init(LOG_TARGET_STDERR, LOG_DEBUG);
        lab->boards = *all_boards();
        assert_int_equal(loop_new(&lab->loop), 0);
        log_set_sink(on_line, lab);
        assert_int_equal(usb_inproc_new(lab->loop, &lab->host), 0);
        usb_inproc_on_event(lab->host, on_usb_event, lab);
        usb_inproc_set_trace(lab->host, lab->trace > 1);
        assert_int_equal(usb_new(lab->loop, &lab->usb), 0);
        lab->settings = (struct registry_settings){ .automatic = true, .hub_is_there = hub_is_there, .userdata = lab };
        return lab;
}

struct lab *lab_new_with_quota(uint64_t saved_quota)
{
        struct lab *lab = lab_make(saved_quota);

        assert_int_equal(journal_open(lab->loop, NULL, &lab->journal), 0);
        assert_int_equal(store_new(lab->loop, lab->journal, NULL, saved_quota, &lab->store), 0);
        start_registry(lab);
        return lab;
}

struct lab *lab_new(void)
{
        return lab_new_with_quota(SAVED_QUOTA);
}

static bool no_work(void *userdata)
{
        struct lab *lab = userdata;

        return loop_pending_work(lab->loop) == 0;
}

static void close_state(struct lab *lab)
{
        lab->registry = registry_free(lab->registry);
        (void)loop_run_until(lab->loop, no_work, lab, 60 * SEC);
        lab->store = store_free(lab->store);
        lab->journal = journal_close(lab->journal);
        (void)loop_run_until(lab->loop, no_work, lab, 60 * SEC);
}

struct lab *lab_free(struct lab *lab)
{
        struct lab_image *image;

        if (!lab)
                return NULL;
        close_state(lab);
        lab_run(lab, 10 * SEC);
        usb_free(lab->usb);
        usb_inproc_free(lab->host);
        loop_free(lab->loop);
        log_set_sink(NULL, NULL);
        while ((image = lab->images)) {
                lab->images = image->next;
                free(image->data);
                free(image);
        }
        for (size_t i = 0; i < lab->n_cameras; i++)
                free(lab->cameras[i].remembered);
        for (size_t i = 0; i < LAB_LINES; i++)
                free(lab->lines[i]);
        if (lab->directory[0])
                lab_remove(lab->directory);
        free(lab);
        return NULL;
}

static void on_durable(void *userdata, int error)
{
        *(int *)userdata = error;
}

static bool is_answered(void *userdata)
{
        return *(int *)userdata <= 0;
}

void lab_restart(struct lab *lab)
{
        int error = 1;

        assert_int_equal(journal_sync(lab->journal, on_durable, &error), 0);
        assert_true(loop_run_until(lab->loop, is_answered, &error, 10 * SEC));
        assert_int_equal(error, 0);
        lab->registry = registry_free(lab->registry);
        assert_true(loop_run_until(lab->loop, no_work, lab, 60 * SEC));
        start_registry(lab);
}

/* --- on the disk --- */

static void join(char path[static PATH_MAX], const char *directory, const char *name)
{
        assert_in_range(snprintf(path, PATH_MAX, "%s/%s", directory, name), 1, PATH_MAX - 1);
}

static void copy_file(const char *from, const char *to)
{
        _cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        char buffer[65536];
        ssize_t n;

        assert_true(in >= 0 && out >= 0);
        while ((n = read(in, buffer, sizeof(buffer))) > 0)
                assert_int_equal(write(out, buffer, (size_t)n), n);
        assert_int_equal(n, 0);
}

/* immutable: a second name is as good as a copy. */
static void copy_directory(const char *from, const char *to, bool immutable)
{
        DIR *directory = opendir(from);
        struct dirent *entry;

        assert_non_null(directory);
        assert_int_equal(mkdir(to, 0700), 0);
        while ((entry = readdir(directory))) {
                char source[PATH_MAX], target[PATH_MAX];

                if (entry->d_name[0] == '.' && (!entry->d_name[1] || (entry->d_name[1] == '.' && !entry->d_name[2])))
                        continue;
                join(source, from, entry->d_name);
                join(target, to, entry->d_name);
                if (entry->d_type == DT_DIR)
                        copy_directory(source, target, /* immutable= */ true);
                else if (!immutable || link(source, target) < 0)
                        copy_file(source, target);
        }
        closedir(directory);
}

void lab_remove(const char *path)
{
        DIR *directory = opendir(path);
        struct dirent *entry;

        assert_non_null(directory);
        while ((entry = readdir(directory))) {
                char name[PATH_MAX];

                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                join(name, path, entry->d_name);
                if (entry->d_type == DT_DIR)
                        lab_remove(name);
                else
                        assert_int_equal(unlink(name), 0);
        }
        closedir(directory);
        assert_int_equal(rmdir(path), 0);
}

void lab_scratch(char path[static 64])
{
        snprintf(path, 64, "/dev/shm/camrescue-lab-XXXXXX");
        if (mkdtemp(path))
                return;
        snprintf(path, 64, "/tmp/camrescue-lab-XXXXXX");
        assert_non_null(mkdtemp(path));
}

static void state_of(const struct lab *lab, unsigned generation, char path[static PATH_MAX])
{
        char name[16];

        snprintf(name, sizeof(name), "%u", generation);
        join(path, lab->directory, name);
}

static void open_state(struct lab *lab)
{
        char path[PATH_MAX];

        state_of(lab, lab->generation, path);
        assert_int_equal(journal_open(lab->loop, path, &lab->journal), 0);
        assert_int_equal(store_new(lab->loop, lab->journal, path, lab->saved_quota, &lab->store), 0);
}

struct lab *lab_new_on_disk(const char *from)
{
        struct lab *lab = lab_make(SAVED_QUOTA);
        char path[PATH_MAX];

        lab_scratch(lab->directory);
        state_of(lab, lab->generation, path);
        if (from)
                copy_directory(from, path, /* immutable= */ false);
        lab_start(lab);
        return lab;
}

void lab_keep(struct lab *lab, const char *directory)
{
        char path[PATH_MAX];

        close_state(lab);
        state_of(lab, lab->generation, path);
        copy_directory(path, directory, /* immutable= */ false);
        lab_start(lab);
}

void lab_take_image(struct lab *lab)
{
        char from[PATH_MAX], to[PATH_MAX];

        if (lab->image_taken)
                return;
        lab->image_taken = true;
        state_of(lab, lab->generation, from);
        state_of(lab, lab->generation + 1, to);
        copy_directory(from, to, /* immutable= */ false);
}

void lab_kill(struct lab *lab)
{
        char path[PATH_MAX];

        assert_true(lab->directory[0] && !lab_is_dead(lab));
        lab_take_image(lab);
        close_state(lab);
        state_of(lab, lab->generation++, path);
        lab_remove(path);
        lab->image_taken = false;
}

void lab_start(struct lab *lab)
{
        open_state(lab);
        start_registry(lab);
}

bool lab_is_dead(const struct lab *lab)
{
        return !lab->registry;
}

void lab_set_automatic(struct lab *lab, bool automatic)
{
        lab->settings.automatic = automatic;
        lab_restart(lab);
}

static int serial_port(void *userdata, const char *port, char *node, size_t size)
{
        const struct lab *lab = userdata;

        return usb_inproc_serial_port(lab->host, port, node, size);
}

static void on_serial(void *userdata, const char *port)
{
        struct lab *lab = userdata;

        if (lab->registry)
                registry_serial_port(lab->registry, port);
}

void lab_connect_serial(struct lab *lab)
{
        lab->settings.serial_port = serial_port;
        usb_inproc_on_serial(lab->host, on_serial, lab);
        lab_restart(lab);
}

/* --- images --- */

struct lab_image *lab_bytes(struct lab *lab, enum sim_board board, const char *partition, const char *version, const void *data,
                            size_t size)
{
        struct lab_image *image = calloc(1, sizeof(*image));

        assert_non_null(image);
        image->board = board;
        snprintf(image->partition, sizeof(image->partition), "%s", partition);
        snprintf(image->version, sizeof(image->version), "%s", version);
        image->data = malloc(size);
        assert_non_null(image->data);
        memcpy(image->data, data, size);
        image->size = size;
        digest_of(data, size, &image->digest);
        image->next = lab->images;
        lab->images = image;
        return image;
}

struct lab_image *lab_firmware(struct lab *lab, enum sim_board board, const char *partition, const char *version, unsigned seed,
                               size_t size)
{
        _cleanup_free_ uint8_t *data = NULL;

        assert_int_equal(sim_image_firmware(board, version, seed, size, &data), 0);
        return lab_bytes(lab, board, partition, version, data, size);
}

static const char *firmware_partition(enum sim_board board)
{
        return board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
}

struct lab_image *lab_release(struct lab *lab, enum sim_board board, const char *version)
{
        return lab_firmware(lab, board, firmware_partition(board), version, 1, sim_image_default_size(board));
}

struct lab_image *lab_mute_release(struct lab *lab, enum sim_board board, const char *version)
{
        size_t size = sim_image_default_size(board);
        _cleanup_free_ uint8_t *data = NULL;

        assert_int_equal(sim_image_firmware_mute(board, version, 1, size, &data), 0);
        return lab_bytes(lab, board, firmware_partition(board), version, data, size);
}

struct lab_image *lab_bootloader(struct lab *lab, enum sim_board board, enum sim_bootloader bootloader, const char *version)
{
        _cleanup_free_ uint8_t *data = NULL;
        size_t size;

        assert_int_equal(sim_image_bootloader(board, bootloader, /* padded= */ false, &data, &size), 0);
        return lab_bytes(lab, board, "BOOTLOADER", version, data, size);
}

void lab_import(struct lab *lab, const struct lab_image *image)
{
        struct firmware_record record = { .stable = true, .added = loop_wall_clock(lab->loop) };
        int error = 1;

        snprintf(record.board, sizeof(record.board), "%s", sim_board_name(image->board));
        snprintf(record.partition, sizeof(record.partition), "%s", image->partition);
        snprintf(record.version, sizeof(record.version), "%s", image->version);
        snprintf(record.file, sizeof(record.file), "firmware.bin");
        assert_int_equal(store_add_firmware(lab->store, &record, image->data, image->size, on_durable, &error), 0);
        assert_true(loop_run_until(lab->loop, is_answered, &error, 10 * SEC));
        assert_int_equal(error, 0);
        registry_firmware_added(lab->registry);
}

/* --- cameras and a hand --- */

static struct board *board_of(struct lab *lab, enum sim_board board)
{
        for (size_t i = 0; i < lab->boards.n; i++)
                if (strcmp(lab->boards.boards[i].id, sim_board_name(board)) == 0)
                        return &lab->boards.boards[i];
        lab_fail(lab, "no such board");
}

static void shrink_memory(struct memory *memory, const struct sim_camera *sim, bool external)
{
        uint32_t at = memory->segments[0].start, start, size;

        for (memory->n_segments = 0;; at += size) {
                struct erase_segment *last = memory->n_segments > 0 ? &memory->segments[memory->n_segments - 1] : NULL;

                sim_camera_erase_unit(sim, external, at, &start, &size);
                if (size == 0)
                        return;
                assert_int_equal(start, at);
                if (last && last->unit_size == size)
                        last->units++;
                else {
                        assert_true(memory->n_segments < BOARD_SEGMENTS_MAX);
                        memory->segments[memory->n_segments++] = (struct erase_segment){ at, size, 1 };
                }
        }
}

/* What is known of the board, as small as the toy is. */
static void shrink(struct lab *lab, enum sim_board which, const struct sim_camera *sim)
{
        struct board *board = board_of(lab, which);
        struct layout *layout = &board->layouts[0];
        const struct sim_partition *partitions;
        size_t n = sim_camera_partitions(sim, &partitions);
        bool done[ELEMENTSOF(board->memories)] = {};

        assert_int_equal(n, layout->n_partitions);
        for (size_t i = 0; i < n; i++) {
                struct partition *p = &layout->partitions[i];

                if (!done[p->memory])
                        shrink_memory(&board->memories[p->memory], sim, partitions[i].external);
                done[p->memory] = true;
                p->start = partitions[i].start;
                p->limit = partitions[i].limit;
                if (p->role == PARTITION_BOOTLOADER && board->rom_restore) {
                        board->bootloader_limit = p->limit;
                        board->bootloader_max_bytes = p->limit - p->start;
                }
        }
        board->n_layouts = 1;
        board->vector_table = false;    /* the image has the real one's */
}

struct lab_camera *lab_camera_from(struct lab *lab, const struct sim_config *config)
{
        struct lab_camera *camera = &lab->cameras[lab->n_cameras++];
        struct uid uid;

        assert_true(lab->n_cameras <= LAB_CAMERAS_MAX);
        *camera = (struct lab_camera){ .lab = lab, .board = config->board };
        assert_int_equal(usb_inproc_camera_new(lab->host, config, &camera->usb), 0);
        camera->sim = usb_inproc_sim(camera->usb);
        memcpy(uid.bytes, config->uid, UID_SIZE);
        uid_to_u(&uid, camera->key);
        for (size_t i = 0; i < UID_SIZE && config->board == SIM_OPENMV_AE3; i++)        /* as they stand there */
                snprintf(camera->key + 2 * i, 3, "%02X", uid.bytes[i]);
        if (config->board != SIM_FOREIGN)
                sim_camera_install_bootloader(camera->sim);
        if (config->erase_unit_scale < 1)
                shrink(lab, config->board, camera->sim);
        return camera;
}

struct lab_camera *lab_camera_new(struct lab *lab, enum sim_board board, unsigned seed)
{
        struct sim_config config;

        sim_config_default(&config, board, seed);
        return lab_camera_from(lab, &config);
}

void lab_install(struct lab_camera *camera, const struct lab_image *image)
{
        assert_int_equal(sim_camera_partition_poke(camera->sim, image->partition, 0, image->data, image->size), 0);
}

void lab_plug(struct lab_camera *camera, const char *port)
{
        usb_inproc_port_plug(camera->usb, port);
}

void lab_unplug(struct lab_camera *camera)
{
        usb_inproc_port_unplug(camera->usb);
        lab_run(camera->lab, 100 * MSEC);
}

void lab_replug(struct lab_camera *camera)
{
        char port[PORT_PATH_MAX];

        snprintf(port, sizeof(port), "%s", usb_inproc_port_of(camera->usb));
        lab_unplug(camera);
        lab_run(camera->lab, 2 * SEC);
        lab_plug(camera, port);
}

void lab_jumper(struct lab_camera *camera, bool on)
{
        sim_camera_set_jumper(camera->sim, on);
}

/* --- time --- */

void lab_run(struct lab *lab, uint64_t us)
{
        loop_advance(lab->loop, us);
}

struct camera *lab_known(const struct lab_camera *camera)
{
        struct registry *registry = camera->lab->registry;
        struct camera *known = registry_camera_by_key(registry, camera->key);
        const char *port = usb_inproc_port_of(camera->usb);
        struct sighting sighting;

        /* Who is not there is not who is on his port now. */
        if (!usb_inproc_sighting(camera->usb, &sighting) || (known && known->attached))
                return known;
        for (struct camera *c = registry_first_camera(registry); c; c = registry_next_camera(c))
                if (c->attached && strcmp(c->sighting.port, port) == 0)
                        return c;
        return known;
}

struct awaited {
        struct lab_camera *camera;
        enum camera_state state;
        uint64_t bytes;
};

static bool is_in_state(void *userdata)
{
        const struct awaited *awaited = userdata;
        const struct camera *camera = lab_known(awaited->camera);

        return camera && camera->state == awaited->state;
}

void lab_expect_state(struct lab_camera *camera, enum camera_state state, uint64_t deadline)
{
        struct awaited awaited = { .camera = camera, .state = state };
        const struct camera *known;

        if (loop_run_until(camera->lab->loop, is_in_state, &awaited, deadline))
                return;
        known = lab_known(camera);
        lab_fail(camera->lab, "%s (device: %s) is %s instead of %s", camera->key, sim_mode_name(sim_camera_mode(camera->sim)),
                 known ? camera_state_to_string(known->state) : "not known", camera_state_to_string(state));
}

static bool is_writing(void *userdata)
{
        const struct awaited *awaited = userdata;
        struct sim_counters counters;

        sim_camera_counters(awaited->camera->sim, &counters);
        return counters.download_bytes >= awaited->bytes && awaited->bytes > 0;
}

void lab_wait_writing(struct lab_camera *camera, uint64_t bytes, uint64_t deadline)
{
        struct awaited awaited = { .camera = camera };

        awaited.bytes = lab_counters(camera).download_bytes + MAX(bytes, UINT64_C(1));
        if (!loop_run_until(camera->lab->loop, is_writing, &awaited, deadline))
                lab_fail(camera->lab, "%s: not written", camera->key);
}

void lab_plug_until_running(struct lab_camera *camera, const char *port)
{
        lab_plug(camera, port);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
}

void lab_expect_done(struct lab_camera *camera)
{
        lab_expect_state(camera, CAMERA_RUNNING, 180 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
}

/* --- people --- */

enum request_action lab_request(struct lab_camera *camera, const struct request *request)
{
        struct camera *known = lab_known(camera);
        struct request_result result;

        if (!known)
                lab_fail(camera->lab, "%s is not known", camera->key);
        registry_request(camera->lab->registry, known, request, &result);
        assert_string_not_equal(result.text, "");
        log_info("request: %s: %s", request_action_to_string(result.action), result.text);
        return result.action;
}

enum request_action lab_ask_update(struct lab_camera *camera, const char *version)
{
        return lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = version });
}

enum request_action lab_ask_recover(struct lab_camera *camera, const char *board, bool replace)
{
        return lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .board = board, .replace_unknown = replace });
}

/* --- looking --- */

struct update *lab_update(struct lab_camera *camera)
{
        struct camera *known = lab_known(camera);

        if (!known || !known->update)
                lab_fail(camera->lab, "%s has no update", camera->key);
        return known->update;
}

void lab_expect_update(struct lab_camera *camera, enum update_result result, const char *code)
{
        const struct update *update = lab_update(camera);

        if (update->result != result || (code && strcmp(update->record.outcome, code) != 0))
                lab_fail(camera->lab, "update %s of %s: %s, \"%s\" (%s); expected %s, \"%s\"", update->record.id, camera->key,
                         update_result_to_string(update->result), update->record.outcome, update->record.message,
                         update_result_to_string(result), code ?: "*");
}

void lab_expect_diagnosis(struct lab_camera *camera, enum diagnosis_code code)
{
        const struct camera *known = lab_known(camera);
        struct diagnosis diagnosis;

        if (!known)
                lab_fail(camera->lab, "%s is not known", camera->key);
        diagnosis = camera_diagnosis(known);
        if (diagnosis.code != code)
                lab_fail(camera->lab, "%s: \"%s\" (%s; %s); expected \"%s\"", camera->key, diagnosis_code_to_string(diagnosis.code),
                         diagnosis.text, diagnosis.advice, diagnosis_code_to_string(code));
}

void lab_expect_flash(struct lab_camera *camera, const struct lab_image *image)
{
        _cleanup_free_ uint8_t *data = malloc(image->size);
        size_t n;

        assert_non_null(data);
        assert_int_equal(sim_camera_partition_read(camera->sim, image->partition, 0, data, image->size), 0);
        n = bytes_common_prefix(data, image->data, image->size);
        if (n < image->size)
                lab_fail(camera->lab, "%s of %s: 0x%02x instead of 0x%02x at 0x%zx", image->partition, camera->key, data[n],
                         image->data[n], n);
}

bool lab_stands_there(const struct lab_camera *camera, const struct lab_image *image)
{
        _cleanup_free_ uint8_t *data = malloc(image->size);

        assert_non_null(data);
        return sim_camera_partition_read(camera->sim, image->partition, 0, data, image->size) == 0 &&
               memcmp(data, image->data, image->size) == 0;
}

struct sim_counters lab_counters(struct lab_camera *camera)
{
        struct sim_counters counters;

        sim_camera_counters(camera->sim, &counters);
        return counters;
}

void lab_reset_counters(struct lab_camera *camera)
{
        sim_camera_reset_counters(camera->sim);
}

void lab_expect_untouched(struct lab_camera *camera)
{
        struct sim_counters counters = lab_counters(camera);

        if (counters.transfers > 0)
                lab_fail(camera->lab, "%s was touched: %u transfers", camera->key, (unsigned)counters.transfers);
        lab_expect_only_read(camera);
}

void lab_expect_only_read(struct lab_camera *camera)
{
        struct sim_counters counters = lab_counters(camera);

        /* A ROM is told by a download of five bytes from where it is to read. */
        if (counters.erases > 0 || counters.programmed_bytes > 0 || counters.download_bytes > 5 * counters.download ||
            (counters.download > 0 && sim_camera_mode(camera->sim) != SIM_ROM_DFU && !sim_camera_jumper(camera->sim)))
                lab_fail(camera->lab, "%s was written to: %u erases, %u bytes, %u downloads", camera->key,
                         (unsigned)counters.erases, (unsigned)counters.programmed_bytes, (unsigned)counters.download);
}

static void memory_of(const struct lab_camera *camera, bool *ret_external, uint32_t *ret_start, size_t *ret_size)
{
        *ret_external = camera->board == SIM_OPENMV_N6;
        switch (camera->board) {
        case SIM_OPENMV2:
                *ret_start = 0x08000000;
                *ret_size = 0x100000;
                return;
        case SIM_OPENMV3:
        case SIM_OPENMV4:
        case SIM_OPENMV4P:
        case SIM_OPENMVPT:
        case SIM_FOREIGN:
        case _SIM_BOARD_MAX:
                *ret_start = 0x08000000;
                *ret_size = camera->board == SIM_FOREIGN ? 0x100000 : 0x200000;
                return;
        case SIM_OPENMV_N6:
                *ret_start = 0;
                *ret_size = 0x800000;
                return;
        case SIM_OPENMV_AE3:
                *ret_start = 0x80000000;
                *ret_size = 0x580000;
                return;
        }
}

void lab_remember(struct lab_camera *camera)
{
        uint32_t start;
        bool external;

        free(camera->remembered);
        memory_of(camera, &external, &start, &camera->remembered_size);
        camera->remembered = malloc(camera->remembered_size);
        assert_non_null(camera->remembered);
        assert_int_equal(sim_camera_flash_read(camera->sim, external, start, camera->remembered, camera->remembered_size), 0);
}

/* The model's partition of that name; none: an empty one. */
static struct sim_partition partition_of(struct lab_camera *camera, const char *name)
{
        const struct sim_partition *partitions;
        size_t n = sim_camera_partitions(camera->sim, &partitions);

        for (size_t i = 0; name && i < n; i++)
                if (strcmp(partitions[i].name, name) == 0)
                        return partitions[i];
        return (struct sim_partition){};
}

void lab_expect_unchanged_but(struct lab_camera *camera, const char *partition)
{
        struct sim_partition p = partition_of(camera, partition);
        _cleanup_free_ uint8_t *now = malloc(camera->remembered_size ?: 1);
        uint32_t start;
        bool external;
        size_t size;

        assert_non_null(now);
        assert_non_null(camera->remembered);
        memory_of(camera, &external, &start, &size);
        assert_int_equal(sim_camera_flash_read(camera->sim, external, start, now, size), 0);
        for (size_t i = 0; i < size; i++)
                if (now[i] != camera->remembered[i] && !(start + i >= p.start && start + i < p.limit))
                        lab_fail(camera->lab, "%s: 0x%08zx changed, and it is outside of %s", camera->key, start + i,
                                 partition ?: "everything");
}

void lab_expect_wrote_only(struct lab_camera *camera, const char *partition)
{
        struct sim_partition p = partition_of(camera, partition);
        static struct sim_unit_count units[4096];
        size_t n = sim_camera_unit_counts(camera->sim, units, ELEMENTSOF(units));

        for (size_t i = 0; i < n; i++)
                if (units[i].external != p.external || units[i].address < p.start || units[i].address >= p.limit)
                        lab_fail(camera->lab, "%s: unit 0x%08x was written (%u erases, %u bytes), and it is outside of %s",
                                 camera->key, units[i].address, units[i].erases, units[i].programmed_bytes, partition);
}

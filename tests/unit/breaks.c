/* SPDX-License-Identifier: MIT */
/* See breaks.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "protocol/dfu.h"
#include "unit/breaks.h"
#include "unit/loop-virtual.h"

#define BLOCK 4096
#define SETTLED_DEADLINE (120 * SEC)

const struct row breaks_rows[BREAKS_ROWS] = {
        /* Toys: M7: units of 2 and 4 blocks, the first a part of what is saved before it is overwritten.  H7, N6: of 2.  AE3: MRAM, of 1. */
        { "M7, bootloader", SIM_OPENMV3, 1.0 / 16, false, 8 * BLOCK + 1000, 0, 3 * BLOCK + 100, 6 * BLOCK, 1, 0 },
        { "H7, bootloader", SIM_OPENMV4, 1.0 / 16, false, 5 * BLOCK + 1000, 0, BLOCK + 100, 5 * BLOCK + 1000, 1, 0 },
        { "N6, bootloader", SIM_OPENMV_N6, 1.0 / 8, false, 5 * BLOCK + 1000, 0, BLOCK + 100, 5 * BLOCK + 1000, 1, 0 },
        { "AE3, HP and HE", SIM_OPENMV_AE3, 1, false, 5 * BLOCK + 100, 2 * BLOCK + 100, 0, 0, 1, 0 },
        { "M7, ROM", SIM_OPENMV3, 1.0 / 16, true, 5 * BLOCK + 1000, 0, BLOCK + 100, 5 * BLOCK + 1000, 1, 1 },
        { "H7, ROM, by word", SIM_OPENMV4, 1.0 / 16, true, 3 * BLOCK + 1000, 0, BLOCK + 100, 3 * BLOCK + 1000, 1, 2 },
        { "M7, bootloader, real size", SIM_OPENMV3, 1, false, 34 * BLOCK + 100, 0, 5000, 34 * BLOCK + 100, 13, 0 },
        { "M7, ROM, real size", SIM_OPENMV3, 1, true, 34 * BLOCK + 100, 0, 5000, 34 * BLOCK + 100, 17, 1 },
};

static const char *firmware_partition(const struct row *row)
{
        return row->board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
}

/* Its ROM shows a serial that it shares with others: nothing is known of it before somebody gives his word. */
static bool needs_word(const struct row *row)
{
        return row->rom && row->board == SIM_OPENMV4;
}

/* --- stock --- */

static struct lab_camera *camera_of(struct lab *lab, const struct row *row)
{
        struct sim_config config;

        sim_config_default(&config, row->board, 7);
        config.erase_unit_scale = row->scale;
        return lab_camera_from(lab, &config);
}

static void blank(struct lab_camera *camera, const char *partition, uint32_t from, uint32_t to)
{
        _cleanup_free_ uint8_t *data = malloc(to - from + 1);

        assert_non_null(data);
        memset(data, 0xff, to - from);
        assert_int_equal(sim_camera_partition_poke(camera->sim, partition, from, data, to - from), 0);
}

static void install_old(const struct stock *stock, struct lab_camera *camera)
{
        lab_install(camera, stock->old);
        if (stock->old_he)
                lab_install(camera, stock->old_he);
}

static void learn_the_way(struct stock *stock);

void stock_init(struct stock *stock, const struct row *row)
{
        struct lab *lab = lab_new_on_disk(NULL);
        struct lab_camera *camera = camera_of(lab, row);
        char kept[80];

        *stock = (struct stock){ .row = row };
        stock->old = lab_firmware(lab, row->board, firmware_partition(row), BREAKS_OLD, 1, row->size);
        stock->new = lab_firmware(lab, row->board, firmware_partition(row), BREAKS_NEW, 2, row->size);
        lab_import(lab, stock->old);
        lab_import(lab, stock->new);
        if (row->he_size > 0) {
                stock->old_he = lab_firmware(lab, row->board, "HE", BREAKS_OLD, 3, row->he_size);
                stock->new_he = lab_firmware(lab, row->board, "HE", BREAKS_NEW, 4, row->he_size);
                lab_import(lab, stock->old_he);
                lab_import(lab, stock->new_he);
        }
        if (row->rom) {
                _cleanup_free_ uint8_t *data = NULL;
                size_t size;

                assert_int_equal(sim_camera_bootloader_image(camera->sim, SIM_BL_1_0_3, /* padded= */ false, &data, &size), 0);
                stock->bootloader = lab_bytes(lab, row->board, "BOOTLOADER", BREAKS_NEW, data, size);
                lab_import(lab, stock->bootloader);
        }
        if (!needs_word(row)) {
                install_old(stock, camera);
                lab_plug_until_running(camera, "3-1.2");
                lab_unplug(camera);
                lab_run(lab, 2 * SEC);
                assert_int_equal(lab_ask_update(camera, BREAKS_NEW), REQUEST_QUEUED);
        }
        lab_run(lab, 2 * SEC);
        lab_scratch(stock->directory);
        snprintf(kept, sizeof(kept), "%s/kept", stock->directory);
        lab_keep(lab, kept);
        lab->images = NULL;             /* they are ours now */
        lab_free(lab);
        learn_the_way(stock);
}

static void free_image(struct lab_image *image)
{
        if (image)
                free(image->data);
        free(image);
}

void stock_deinit(struct stock *stock)
{
        free_image(stock->old);
        free_image(stock->old_he);
        free_image(stock->new);
        free_image(stock->new_he);
        free_image(stock->bootloader);
        free(stock->flash_at);
        lab_remove(stock->directory);
}

bool breaks_all(void)
{
        const char *all = getenv("BREAKS_ALL");

        return all && *all && *all != '0';
}

unsigned stock_stride(const struct stock *stock)
{
        return breaks_all() ? 1 : stock->row->stride;
}

/* --- scene --- */

#define broken(scene, format, ...)                                                                                      \
        lab_fail((scene)->lab, "%s: %s: " format, (scene)->row->name, (scene)->what, ##__VA_ARGS__)

unsigned scene_draw(struct scene *scene, unsigned n)
{
        uint64_t z = ++scene->number * UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (unsigned)((z ^ (z >> 31)) >> 8) % n;
}

void scene_begin(struct scene *scene, const struct stock *stock, unsigned number, const char *format, ...)
{
        static const uint64_t latencies[] = { 0, 0, MSEC, 20 * MSEC };
        const struct row *row = stock->row;
        char kept[80];
        va_list ap;

        *scene = (struct scene){ .stock = stock, .row = row, .number = number * 1000, .port = "3-1.2" };
        va_start(ap, format);
        vsnprintf(scene->what, sizeof(scene->what), format, ap);
        va_end(ap);
        snprintf(kept, sizeof(kept), "%s/kept", stock->directory);
        scene->lab = lab_new_on_disk(kept);
        scene->camera = camera_of(scene->lab, row);
        install_old(stock, scene->camera);
        if (row->cut_end > 0)
                blank(scene->camera, stock->old->partition, row->cut, row->cut_end);
        if (row->rom) {
                blank(scene->camera, "BOOTLOADER", 0, (uint32_t)stock->bootloader->size);
                lab_jumper(scene->camera, true);
        }
        lab_reset_counters(scene->camera);
        watcher_init(&scene->watcher, scene->camera);
        usb_inproc_watch(scene->lab->host, watcher_watch, &scene->watcher);
        usb_inproc_set_latency(scene->lab->host, latencies[scene_draw(scene, ELEMENTSOF(latencies))]);
        log_info("--- %s: %s", row->name, scene->what);
}

void scene_plug(struct scene *scene)
{
        lab_plug(scene->camera, scene->port);
}

void scene_end(struct scene *scene)
{
        usb_inproc_watch(scene->lab->host, NULL, NULL);
        scene->lab = lab_free(scene->lab);
}

static bool is_open(const struct scene *scene)
{
        const struct camera *camera = lab_known(scene->camera);

        return camera && update_is_open(camera->update);
}

bool scene_is_running(const struct scene *scene)
{
        const struct camera *camera = lab_known(scene->camera);

        return camera && camera->state == CAMERA_RUNNING && sim_camera_mode(scene->camera->sim) == SIM_RUNTIME;
}

static bool is_over(const struct scene *scene)
{
        const struct camera *camera = lab_known(scene->camera);

        if (!camera || is_open(scene))
                return false;
        return scene_is_running(scene) || (!needs_word(scene->row) && camera->update);
}

static bool strikes(const struct scene *scene)
{
        if (scene->struck && *scene->struck)
                return true;
        if (!scene->suffering)
                return false;
        return scene->by_power ? !sim_camera_is_powered(scene->camera->sim) : lab_counters(scene->camera).transfers > scene->strikes_at;
}

static bool is_settled(void *userdata)
{
        const struct scene *scene = userdata;
        const struct camera *camera;

        if (strikes(scene) || is_over(scene))
                return true;
        if (sim_camera_is_powered(scene->camera->sim) && !usb_inproc_sighting(scene->camera->usb, NULL))
                return false;
        camera = lab_known(scene->camera);
        if (!camera)
                return !sim_camera_is_powered(scene->camera->sim);
        if (camera_state_has_session(camera->state) || camera->state == CAMERA_PASSING)
                return false;
        return camera->state == CAMERA_WAITING || !timer_is_set(&camera->deadline);
}

static void change_port(struct scene *scene)
{
        if (scene_draw(scene, 2))
                snprintf(scene->port, sizeof(scene->port), "3-1.%u", 2 + scene_draw(scene, 3));
}

static void replug(struct scene *scene)
{
        lab_unplug(scene->camera);
        lab_run(scene->lab, 2 * SEC);
        change_port(scene);
        scene_plug(scene);
}

void scene_lend_a_hand(struct scene *scene)
{
        const struct camera *camera = lab_known(scene->camera);
        struct diagnosis diagnosis = camera ? camera_diagnosis(camera) : (struct diagnosis){};
        bool seen = usb_inproc_sighting(scene->camera->usb, NULL);

        scene->n_hands++;
        log_info("a hand: %s", diagnosis_code_to_string(diagnosis.code));
        if (!sim_camera_is_powered(scene->camera->sim)) {
                scene_plug(scene);
                return;
        }
        if (diagnosis.code == DIAGNOSIS_UNKNOWN_BOOTLOADER || diagnosis.code == DIAGNOSIS_UNKNOWN_FIRMWARE ||
            (seen && diagnosis.code == DIAGNOSIS_UNPROVEN)) {
                (void)lab_ask_recover(scene->camera, camera->provisional ? sim_board_name(scene->row->board) : NULL,
                                      diagnosis.code != DIAGNOSIS_UNPROVEN);
                if (!seen)
                        replug(scene);
                return;
        }
        if (seen && (diagnosis.code == DIAGNOSIS_JUMPER || diagnosis.code == DIAGNOSIS_RESTORED_JUMPER)) {
                if (!lab_stands_there(scene->camera, scene->stock->bootloader))
                        broken(scene, "told to remove the jumper, and the bootloader is not whole");
                lab_jumper(scene->camera, false);
                /* Of one that cannot be told from others, only the port is known. */
                if (needs_word(scene->row)) {
                        lab_replug(scene->camera);
                        return;
                }
        }
        replug(scene);
}

/* What is not settled, and yet need not change any more. */
static bool may_stay(const struct scene *scene)
{
        return scene->for_ever || !usb_inproc_sighting(scene->camera->usb, NULL);
}

void scene_ask_again(struct scene *scene)
{
        lab_unplug(scene->camera);
        lab_run(scene->lab, 2 * SEC);
        if (!needs_word(scene->row))
                assert_int_equal(lab_ask_update(scene->camera, BREAKS_NEW), REQUEST_QUEUED);
        scene->n_asked_again++;
}

bool scene_play(struct scene *scene, unsigned n_hands)
{
        for (unsigned i = 0;; i++) {
                if (!loop_run_until(scene->lab->loop, is_settled, scene, SETTLED_DEADLINE) && !may_stay(scene))
                        broken(scene, "no end in sight: %s", camera_state_to_string(lab_known(scene->camera)->state));
                if (strikes(scene))
                        return false;
                if (is_over(scene))
                        return true;
                if (i == n_hands)
                        return false;
                scene_lend_a_hand(scene);
        }
}

/* --- accidents --- */

const char *const accident_names[_ACCIDENT_KIND_MAX] = {
        [ACCIDENT_UNPLUG] = "unplugged", [ACCIDENT_KILL] = "daemon killed", [ACCIDENT_BOTH] = "unplugged and killed",
};
const char *const moment_names[_MOMENT_MAX] = {
        [MOMENT_BEFORE] = "before", [MOMENT_DATA] = "after the data of", [MOMENT_STATUS] = "after",
        [MOMENT_FLASH] = "in the flash work of",
};

void scene_expect_remembered(struct scene *scene)
{
        static struct sim_unit_count units[4096];
        const struct sim_partition *partitions;
        struct update *update;
        size_t n, n_units;

        if (needs_word(scene->row))
                return;
        update = registry_update_by_id(scene->lab->registry, "u1");
        if (!update)
                broken(scene, "its update is lost");
        if (!update_is_open(update)) {
                if (update->record.outcome[0] == '\0')
                        broken(scene, "its update has ended without a name");
                return;
        }
        n = sim_camera_partitions(scene->camera->sim, &partitions);
        n_units = sim_camera_unit_counts(scene->camera->sim, units, ELEMENTSOF(units));
        for (size_t i = 0; i < n_units; i++)
                for (size_t p = 0; p < n; p++) {
                        unsigned number = 0;

                        if (units[i].external != partitions[p].external || units[i].address < partitions[p].start ||
                            units[i].address >= partitions[p].limit || units[i].erases == 0)
                                continue;
                        for (uint32_t at = partitions[p].start, start, size; at < units[i].address; at += size, number++)
                                sim_camera_erase_unit(scene->camera->sim, partitions[p].external, at, &start, &size);
                        if (update_wear(update, partitions[p].name, number) < units[i].erases)
                                broken(scene, "unit %u of %s was erased %u times, and %u are remembered", number, partitions[p].name,
                                       units[i].erases, update_wear(update, partitions[p].name, number));
                }
}

static void start_again(struct scene *scene)
{
        lab_start(scene->lab);
        scene_expect_remembered(scene);
}

static void into_the_transfer(struct scene *scene, enum accident_moment moment)
{
        uint64_t whole = sim_camera_transfer_time(scene->camera->sim, scene->watcher.last.length);

        switch (moment) {
        case MOMENT_BEFORE:
                break;
        case MOMENT_DATA:
                lab_run(scene->lab, whole / 2);
                break;
        case MOMENT_STATUS:
                lab_run(scene->lab, whole + 10);
                break;
        case MOMENT_FLASH:
                lab_run(scene->lab, whole + 20 * MSEC);
                break;
        case _MOMENT_MAX:
                break;
        }
}

static void recover(struct scene *scene, enum accident_kind kind)
{
        uint64_t away = scene_draw(scene, 2) ? 2 * SEC : 30 * SEC, dead = scene_draw(scene, 2) ? 300 * MSEC : 20 * SEC;
        bool told = scene_draw(scene, 2), daemon_first = scene_draw(scene, 2);

        switch (kind) {
        case ACCIDENT_UNPLUG:
                lab_run(scene->lab, away);
                change_port(scene);
                scene_plug(scene);
                break;
        case ACCIDENT_KILL:
                lab_kill(scene->lab);
                lab_run(scene->lab, dead);
                start_again(scene);
                break;
        case ACCIDENT_BOTH:
                if (told)
                        lab_run(scene->lab, 20 * MSEC);
                lab_kill(scene->lab);
                change_port(scene);
                if (daemon_first) {
                        lab_run(scene->lab, dead);
                        start_again(scene);
                        lab_run(scene->lab, away);
                        scene_plug(scene);
                } else {
                        lab_run(scene->lab, away);
                        scene_plug(scene);
                        lab_run(scene->lab, dead);
                        start_again(scene);
                }
                break;
        case _ACCIDENT_KIND_MAX:
                break;
        }
}

static void count_break(struct scene *scene, bool death)
{
        scene->n_breaks++;
        scene->n_deaths += death;
}

void scene_kill(struct scene *scene)
{
        count_break(scene, /* death= */ true);
        recover(scene, ACCIDENT_KILL);
}

bool scene_suffer(struct scene *scene, enum accident_kind kind, enum accident_moment moment, unsigned k)
{
        static const enum sim_fault_kind faults[_MOMENT_MAX] = {
                SIM_FAULT_UNPLUG_BEFORE, SIM_FAULT_UNPLUG_DATA, SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH,
        };

        scene->suffering = true;
        scene->by_power = kind != ACCIDENT_KILL;
        scene->strikes_at = lab_counters(scene->camera).transfers + k;
        if (scene->by_power)
                sim_camera_add_fault(scene->camera->sim, &(struct sim_fault){ .kind = faults[moment], .request_type = -1, .request = -1,
                                                                             .skip = k, .count = 1 });
        else if (moment == MOMENT_BEFORE)
                sim_camera_add_fault(scene->camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = -1, .request = -1,
                                                                             .skip = k, .count = 1 });
        else if (moment == MOMENT_STATUS)
                usb_inproc_set_latency(scene->lab->host, MSEC);
        if (scene->n_breaks == 0)
                scene_plug(scene);
        (void)scene_play(scene, scene->row->hands + 2);
        if (!strikes(scene)) {
                scene->suffering = false;
                sim_camera_clear_faults(scene->camera->sim);
                return false;
        }
        scene->suffering = false;
        count_break(scene, kind != ACCIDENT_UNPLUG);
        if (kind == ACCIDENT_KILL)
                into_the_transfer(scene, moment);
        sim_camera_clear_faults(scene->camera->sim);
        recover(scene, kind);
        return true;
}

/* --- what came of it --- */

static bool is_within(const struct sim_unit_count *unit, const struct sim_partition *p)
{
        return unit->external == p->external && unit->address >= p->start && unit->address < p->limit;
}

void scene_expect_sound_flash(struct scene *scene)
{
        static struct sim_unit_count units[4096];
        const struct row *row = scene->row;
        const struct sim_partition *partitions;
        size_t n, n_partitions;

        n_partitions = sim_camera_partitions(scene->camera->sim, &partitions);
        n = sim_camera_unit_counts(scene->camera->sim, units, ELEMENTSOF(units));
        for (size_t i = 0; i < n; i++) {
                unsigned most = 1 + scene->n_breaks + scene->tolerance + scene->tolerated_erases;
                bool meant = false;

                for (size_t p = 0; p < n_partitions; p++) {
                        bool firmware = strcmp(partitions[p].name, scene->stock->new->partition) == 0;

                        if (!is_within(&units[i], &partitions[p]))
                                continue;
                        meant = firmware || (row->he_size > 0 && strcmp(partitions[p].name, "HE") == 0) ||
                                (row->rom && strcmp(partitions[p].name, "BOOTLOADER") == 0);
                        /* Its head is erased with the bootloader before it. */
                        if (row->rom && firmware && units[i].address == partitions[p].start)
                                most++;
                }
                if (!meant)
                        broken(scene, "0x%08x was written to", units[i].address);
                if (units[i].erases > most)
                        broken(scene, "the unit at 0x%08x was erased %u times", units[i].address, units[i].erases);
        }
}

static bool has_right_bytes(const struct scene *scene)
{
        const struct stock *stock = scene->stock;

        return lab_stands_there(scene->camera, stock->new) && (!stock->new_he || lab_stands_there(scene->camera, stock->new_he)) &&
               (!stock->bootloader || lab_stands_there(scene->camera, stock->bootloader));
}

/* A window that nobody was there to use takes another plug-in.  A word is good for one attachment and one daemon's life; and what power
 * has torn meanwhile is nobody's, and asked about. */
static unsigned hands_allowed(const struct scene *scene)
{
        unsigned breaks = scene->n_breaks + scene->tolerance;

        return scene->row->hands + (unsigned)lab_counters(scene->camera).windows_missed + scene->tolerated_hands +
                (needs_word(scene->row) ? 2 * breaks : 0);
}

struct update *scene_update(struct scene *scene)
{
        struct camera *camera = lab_known(scene->camera);

        if (!camera || !camera->update)
                broken(scene, "it has no update");
        return camera->update;
}

/* It was whole already, and left when no daemon was there, or could say so.  Nobody had asked for its recovery: that has another name then. */
static bool runs_anyway(const struct scene *scene, const struct update *update)
{
        return needs_word(scene->row) && scene->n_deaths + scene->tolerance > 0 && update->record.outcome[0];
}

enum ending scene_carry_through(struct scene *scene)
{
        unsigned allowed;
        const struct update *update;
        char id[24];
        bool over = scene_play(scene, 12);

        allowed = hands_allowed(scene);
        if (!over || scene->n_hands > allowed)
                broken(scene, "%s after %u hands, where %u are to be enough", over ? "over" : "not over", scene->n_hands, allowed);
        scene_expect_sound_flash(scene);
        update = scene_update(scene);
        if (update->result != UPDATE_DONE && update->result != UPDATE_NOT_SEEN && !runs_anyway(scene, update))
                broken(scene, "%s, \"%s\" (%s)", update_result_to_string(update->result), update->record.outcome, update->record.message);
        if (!has_right_bytes(scene))
                broken(scene, "%s, and other bytes stand there", update->record.outcome);
        snprintf(id, sizeof(id), "u%u", 1 + scene->n_asked_again);
        if (!needs_word(scene->row) && strcmp(update->record.id, id) != 0)
                broken(scene, "%s has taken the place of what was asked for", update->record.id);
        if (usb_inproc_is_open(scene->camera->usb) || !usb_is_idle(scene->lab->usb))
                broken(scene, "the device is still open");
        if (update->result == UPDATE_NOT_SEEN) {
                if (scene->watcher.n_farewells == 0)
                        broken(scene, "verified, before it was told to leave");
                scene->n_hands = 0;
                scene_lend_a_hand(scene);
                lab_expect_state(scene->camera, CAMERA_RUNNING, 60 * SEC);
                if (!has_right_bytes(scene))
                        broken(scene, "it runs other bytes");
                return ENDING_NOT_SEEN;
        }
        if (!scene_is_running(scene))
                broken(scene, "done, and it does not run");
        return scene->n_hands > scene->row->hands ? ENDING_DONE_BY_HAND : ENDING_DONE;
}

void tally_print(const struct tally *tally, const struct row *row, const char *what, const char *after)
{
        unsigned n = 0;

        for (size_t i = 0; i < _ENDING_MAX; i++)
                n += tally->n[i];
        printf("# breaks: %s: %s: %u; done %u, done after another hand %u, verified and not seen %u%s\n", row->name, what, n,
               tally->n[ENDING_DONE], tally->n[ENDING_DONE_BY_HAND], tally->n[ENDING_NOT_SEEN], after);
        fflush(stdout);
}

/* --- the way, when nothing happens --- */

struct scout {
        struct scene scene;
        struct stock *stock;
        unsigned n;
        bool after_download;
};

static void on_request(void *userdata, struct usb_inproc_camera *camera, unsigned opening, const struct usb_setup *setup, bool told,
                       enum usb_result result, const uint8_t *data, size_t actual)
{
        struct scout *scout = userdata;
        uint64_t n = lab_counters(scout->scene.camera).transfers;

        watcher_watch(&scout->scene.watcher, camera, opening, setup, told, result, data, actual);
        if (told)
                return;
        /* Which transfer it will be; openings have one of their own that is not told here. */
        if (scout->after_download && watcher_is_request(setup, DFU_GETSTATUS) && n < scout->n)
                scout->stock->flash_at[n] = true;
        scout->after_download = watcher_is_request(setup, DFU_DNLOAD) && setup->length > 0;
}

static void learn_the_way(struct stock *stock)
{
        struct scout scout = { .stock = stock };

        /* Twice: how long it is, and where it works in flash. */
        for (int turn = 0; turn < 2; turn++) {
                scene_begin(&scout.scene, stock, 0, "nothing happens");
                usb_inproc_set_latency(scout.scene.lab->host, 0);
                if (turn > 0) {
                        stock->flash_at = calloc(scout.n, sizeof(bool));
                        assert_non_null(stock->flash_at);
                        usb_inproc_watch(scout.scene.lab->host, on_request, &scout);
                }
                scene_plug(&scout.scene);
                assert_int_equal(scene_carry_through(&scout.scene), ENDING_DONE);
                scout.n = stock->n_transfers = (unsigned)lab_counters(scout.scene.camera).transfers;
                scene_end(&scout.scene);
        }
}

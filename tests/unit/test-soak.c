/* SPDX-License-Identifier: MIT */
/*
 * Bad months in a lab, drawn by lot: thirty cameras of all boards and devices
 * that are none are plugged, unplugged, swapped, damaged, jumpered; requests
 * fail; people ask and change their minds; the daemon is killed.  After each
 * step it is asked whether a rule was broken, and at the end of each month,
 * when hands and luck are kind, every camera must run.
 *
 * SOAK_SEED=N repeats a run (the seed is printed), SOAK_UPDATES=N makes it longer.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "unit/lab.h"
#include "unit/loop-virtual.h"
#include "unit/watcher.h"

#define UPDATES        300              /* that end */
#define A_MONTH        300              /* of them are one */
#define N_CAMERAS      30
#define N_FOREIGN      2
#define N_PORTS        36
#define VERSIONS       2
#define STUCK          (1800 * SEC)     /* the longest that a camera may be worked on without being told from anew */

struct unit_wear {
        char partition[16];
        unsigned unit, erases;
};

struct patient {
        struct lab_camera *lab;
        enum sim_board board;
        struct lab_image *versions[VERSIONS], *second[VERSIONS], *mine;         /* second: AE3's other half */
        const char *partition;
        struct watcher watcher;
        bool foreign, plugged;
        size_t port;
        bool has_mine;                  /* whole, and nobody has asked for anything since */
        uint8_t *others;                /* what stands outside of firmware and bootloader */
        size_t others_size;
        enum camera_state state;
        uint64_t since;                 /* it is in that state */
};

struct soak {
        struct lab *lab;
        unsigned seed;
        uint64_t random;
        struct patient patients[N_CAMERAS + N_FOREIGN];
        unsigned n_done, n_ended, n_kills, n_unplugs, n_faults;
        const char *doing;
        size_t step;
};

/* --- chance --- */

static uint64_t draw(struct soak *soak)
{
        /* splitmix64 */
        uint64_t z = soak->random += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return z ^ (z >> 31);
}

static unsigned below(struct soak *soak, unsigned n)
{
        return (unsigned)(draw(soak) % n);
}

static bool chance(struct soak *soak, unsigned percent)
{
        return below(soak, 100) < percent;
}

#define broken(soak, format, ...)                                                                                       \
        lab_fail((soak)->lab, "seed %u, step %zu (%s): " format, (soak)->seed, (soak)->step, (soak)->doing, ##__VA_ARGS__)

/* --- the rules --- */

static struct patient *patient_of_key(struct soak *soak, const char *key)
{
        for (size_t i = 0; i < N_CAMERAS; i++)
                if (strcmp(soak->patients[i].lab->key, key) == 0)
                        return &soak->patients[i];
        return NULL;
}

static const struct lab_image *image_of_digest(struct soak *soak, const struct digest *digest)
{
        for (const struct lab_image *image = soak->lab->images; image; image = image->next)
                if (digest_equal(&image->digest, digest))
                        return image;
        return NULL;
}

static void on_update_changed(void *userdata, struct update *update)
{
        struct soak *soak = userdata;
        const struct patient *p = patient_of_key(soak, update->record.camera);

        for (size_t i = 0; i < update->n_parts; i++)
                for (size_t u = 0; u < update->parts[i].n; u++)
                        if (update->parts[i].units[u].erases > VERDICT_MAX_ERASES + 1)
                                broken(soak, "%s: %s unit %zu erased %u times", update->record.id, update->parts[i].partition, u,
                                       update->parts[i].units[u].erases);
        if (update_is_open(update))
                return;
        soak->n_ended++;
        if (update->result != UPDATE_DONE || strcmp(update->record.outcome, "done") != 0)
                return;
        soak->n_done++;
        if (!p)
                broken(soak, "%s of %s is done, and there is no such camera", update->record.id, update->record.camera);
        if (sim_camera_mode(p->lab->sim) != SIM_RUNTIME)
                broken(soak, "%s of %s is done, and the camera is %s", update->record.id, update->record.camera,
                       sim_mode_name(sim_camera_mode(p->lab->sim)));
        for (size_t i = 0; i < update->record.n_images; i++) {
                const struct lab_image *image = image_of_digest(soak, &update->record.images[i].digest);
                bool others = !image;

                /* What a camera had saved is nobody's image here. */
                if (others || strcmp(image->partition, "BOOTLOADER") == 0)
                        continue;
                if (image->board != p->board)
                        broken(soak, "%s of %s: another board's image", update->record.id, update->record.camera);
                if (!lab_stands_there(p->lab, image))
                        broken(soak, "%s of %s is done, and %s is not there", update->record.id, update->record.camera,
                               image->version);
        }
}

static const struct registry_observer observer = { .on_update_changed = on_update_changed };

static size_t read_others(const struct patient *p, uint8_t **ret)
{
        const struct sim_partition *partitions;
        static const char *const ours[] = { "FIRMWARE", "HP", "HE", "BOOTLOADER", "SPI_FLASH", "RECOVERY" };
        size_t n = sim_camera_partitions(p->lab->sim, &partitions), size = 0;
        uint8_t *data = NULL;

        for (size_t i = 0; i < n; i++) {
                size_t length = MIN(partitions[i].limit - partitions[i].start, 0x4000u);
                bool others = true;

                for (size_t j = 0; j < ELEMENTSOF(ours); j++)
                        others = others && strcmp(partitions[i].name, ours[j]) != 0;
                if (!others)
                        continue;
                data = realloc(data, size + length);
                assert_non_null(data);
                assert_int_equal(sim_camera_partition_read(p->lab->sim, partitions[i].name, 0, data + size, length), 0);
                size += length;
        }
        *ret = data;
        return size;
}

static bool is_passing_state(enum camera_state state)
{
        return camera_state_has_session(state) || state == CAMERA_BOOTING;
}

static void check_patient(struct soak *soak, struct patient *p)
{
        const struct camera *camera;

        if (p->foreign) {
                struct sim_counters c = lab_counters(p->lab);

                if (c.erases > 0 || c.programmed_bytes > 0 || c.download > 0)
                        broken(soak, "a device that is no camera was written to");
                return;
        }
        if (p->others_size > 0) {
                uint8_t *now;
                size_t size = read_others(p, &now);
                bool same = size == p->others_size && memcmp(now, p->others, size) == 0;

                free(now);
                if (!same)
                        broken(soak, "%s: the user's work was touched", p->lab->key);
        }
        if (p->has_mine && !lab_stands_there(p->lab, p->mine))
                broken(soak, "%s: its owner's firmware was touched", p->lab->key);
        camera = lab_known(p->lab);
        if (!camera || camera->state != p->state || !is_passing_state(camera->state)) {
                p->state = camera ? camera->state : CAMERA_ABSENT;
                p->since = loop_now(soak->lab->loop);
        } else if (loop_now(soak->lab->loop) - p->since > STUCK)
                broken(soak, "%s is %s for half an hour", p->lab->key, camera_state_to_string(camera->state));
}

static void check_all(struct soak *soak)
{
        for (size_t i = 0; i < ELEMENTSOF(soak->patients); i++)
                check_patient(soak, &soak->patients[i]);
}

/* --- the daemon's death --- */

/* What was wished is known to the next one, whatever it makes of it. */
static void kill_daemon(struct soak *soak)
{
        char open[N_CAMERAS + N_FOREIGN][24];
        struct lab *lab = soak->lab;
        size_t n = 0;

        for (struct update *u = registry_first_update(lab->registry); u && n < ELEMENTSOF(open); u = registry_next_update(u))
                if (update_is_open(u))
                        memcpy(open[n++], u->record.id, sizeof(open[0]));
        lab_kill(lab);
        if (chance(soak, 30))
                lab_run(lab, below(soak, 10) * SEC);
        lab_start(lab);
        for (size_t i = 0; i < n; i++) {
                struct update *u = registry_update_by_id(lab->registry, open[i]);

                if (!u)
                        broken(soak, "%s is lost", open[i]);
                if (!update_is_open(u) && !u->record.outcome[0])
                        broken(soak, "%s has ended without a name", open[i]);
                soak->n_ended += !update_is_open(u);
        }
        assert_int_equal(registry_observe(lab->registry, &observer, soak), 0);
        soak->n_kills++;
}

static void on_request(void *userdata, struct usb_inproc_camera *camera, unsigned opening, const struct usb_setup *setup, bool told,
                       enum usb_result result, const uint8_t *data, size_t actual)
{
        struct soak *soak = userdata;

        for (size_t i = 0; i < N_CAMERAS; i++)
                watcher_watch(&soak->patients[i].watcher, camera, opening, setup, told, result, data, actual);
}

/* --- hands --- */

static bool port_is_free(struct soak *soak, size_t port)
{
        for (size_t i = 0; i < ELEMENTSOF(soak->patients); i++)
                if (soak->patients[i].plugged && soak->patients[i].port == port)
                        return false;
        return true;
}

static void unplug(struct soak *soak, struct patient *p)
{
        lab_unplug(p->lab);
        p->plugged = false;
        soak->n_unplugs++;
}

static void plug(struct soak *soak, struct patient *p)
{
        char port[16];

        if (chance(soak, 30) || !port_is_free(soak, p->port))
                do
                        p->port = below(soak, N_PORTS);
                while (!port_is_free(soak, p->port));
        snprintf(port, sizeof(port), "3-1.%zu", p->port + 1);
        lab_plug(p->lab, port);
        p->plugged = true;
}

static void blank(struct patient *p, uint32_t from, uint32_t to)
{
        _cleanup_free_ uint8_t *data = malloc(to - from);

        assert_non_null(data);
        memset(data, 0xff, to - from);
        assert_int_equal(sim_camera_partition_poke(p->lab->sim, p->partition, from, data, to - from), 0);
}

/* A person's wish that is open replaces what stands there, whosever it is (and saves it). */
static bool is_asked_for(const struct patient *p)
{
        const struct camera *camera = lab_known(p->lab);

        return camera && update_is_open(camera->update) && strcmp(camera->update->record.wish, "unattended") != 0;
}

static bool has_rom(const struct patient *p)
{
        return !p->foreign && p->board != SIM_OPENMV_N6 && p->board != SIM_OPENMV_AE3;
}

/* Only of one that is unplugged. */
static void damage(struct soak *soak, struct patient *p)
{
        uint32_t size = (uint32_t)p->versions[0]->size;
        uint32_t at = below(soak, size);
        uint8_t garbage[64];

        p->has_mine = false;
        switch (below(soak, 6)) {
        case 0:
                blank(p, 0, size);
                break;
        case 1:
                blank(p, at, size);
                break;
        case 2:
                for (size_t i = 0; i < sizeof(garbage); i++)
                        garbage[i] = (uint8_t)draw(soak);
                assert_int_equal(sim_camera_partition_poke(p->lab->sim, p->partition, at, garbage, sizeof(garbage)), 0);
                break;
        case 3:
                lab_install(p->lab, p->versions[below(soak, VERSIONS)]);
                break;
        case 4:
                lab_install(p->lab, p->mine);
                p->has_mine = !is_asked_for(p);
                break;
        case 5:
                if (has_rom(p))
                        sim_camera_flash_blank(p->lab->sim, false, 0x08000000, 0x1000);
                break;
        }
}

static void add_fault(struct soak *soak, struct patient *p)
{
        static const int requests[] = { -1, 1, 2, 3 };
        struct sim_fault fault = {
                .kind = (enum sim_fault_kind)below(soak, _SIM_FAULT_KIND_MAX),
                .request_type = -1,
                .request = requests[below(soak, ELEMENTSOF(requests))],
                .skip = below(soak, 400),
                .count = 1 + below(soak, 3),
                .error_code = chance(soak, 50) ? -EPROTO : -EOVERFLOW,
                .length = below(soak, 3),
                .pattern = (uint8_t)draw(soak),
        };

        if (fault.kind == SIM_FAULT_STATE)
                fault.pattern %= 12;
        if (fault.kind == SIM_FAULT_STATE || fault.kind == SIM_FAULT_GARBAGE)
                p->watcher.lied_to = true;
        sim_camera_add_fault(p->lab->sim, &fault);
        soak->n_faults++;
}

static void ask(struct soak *soak, struct patient *p)
{
        struct request request = { .wish = WISH_UPDATE };
        struct camera *known = lab_known(p->lab);
        bool rom = sim_camera_mode(p->lab->sim) == SIM_ROM_DFU;

        if (!known)
                return;
        if (rom && known->provisional) {
                /* He knows his board. */
                request.wish = WISH_RECOVER;
                request.board = sim_board_name(p->board);
        } else if (chance(soak, 20))
                request.wish = WISH_RECOVER;
        else if (chance(soak, 10))
                request.wish = WISH_RESTORE;
        else if (chance(soak, 60))
                request.firmware = p->versions[below(soak, VERSIONS)]->version;
        request.replace_unknown = chance(soak, 30);
        request.dry_run = chance(soak, 5);
        if (!request.dry_run)
                p->has_mine = false;
        (void)lab_request(p->lab, &request);
}

static void cancel(struct patient *p)
{
        struct camera *known = lab_known(p->lab);

        if (known && known->update)
                (void)registry_cancel(p->lab->lab->registry, known->update);
}

static void one_step(struct soak *soak)
{
        struct patient *p = &soak->patients[below(soak, ELEMENTSOF(soak->patients))];
        unsigned what = below(soak, 100);

        if (what < 40) {
                if (!p->plugged) {
                        soak->doing = "plug";
                        plug(soak, p);
                } else {
                        soak->doing = "unplug";
                        unplug(soak, p);
                        if (chance(soak, 60))
                                plug(soak, p);
                }
        } else if (what < 44) {
                soak->doing = "jumper";
                if (has_rom(p))
                        lab_jumper(p->lab, chance(soak, 30));
        } else if (what < 52) {
                soak->doing = "damage";
                if (!p->foreign && !p->plugged)
                        damage(soak, p);
        } else if (what < 62) {
                soak->doing = "fault";
                add_fault(soak, p);
        } else if (what < 87) {
                soak->doing = "ask";
                if (!p->foreign)
                        ask(soak, p);
        } else if (what < 91) {
                soak->doing = "cancel";
                if (!p->foreign)
                        cancel(p);
        } else if (what < 94) {
                soak->doing = "claim";
                if (chance(soak, 50))
                        usb_inproc_fail_open(p->lab->usb, chance(soak, 50) ? -EACCES : -ENODEV, 1 + below(soak, 3));
                else
                        (void)usb_inproc_claim(p->lab->usb, 0, chance(soak, 30));
        } else if (what < 97) {
                soak->doing = "kill";
                kill_daemon(soak);
        } else if (what < 98) {
                soak->doing = "clock";
                loop_set_wall_clock(soak->lab->loop, LOOP_VIRTUAL_WALL_START + draw(soak) % (UINT64_C(10) * 365 * 86400 * SEC));
        } else {
                soak->doing = "sleep over it";
                lab_run(soak->lab, 120 * SEC);
        }
        switch (below(soak, 4)) {
        case 0:
                lab_run(soak->lab, below(soak, 2000) * MSEC);
                break;
        case 1:
                lab_run(soak->lab, below(soak, 20) * SEC);
                break;
        default:
                lab_run(soak->lab, below(soak, 6000) * MSEC);
        }
        check_all(soak);
}

/* --- the end: kind hands --- */

static bool is_well(struct patient *p)
{
        const struct camera *camera = lab_known(p->lab);

        return camera && camera->state == CAMERA_RUNNING && sim_camera_mode(p->lab->sim) == SIM_RUNTIME &&
               !update_is_open(camera->update);
}

static void be_kind_to(struct soak *soak, struct patient *p)
{
        bool jumper = false, said_to_be_good = false;

        sim_camera_clear_faults(p->lab->sim);
        usb_inproc_fail_open(p->lab->usb, 0, 0);
        for (int i = 0; i < 12; i++) {
                struct camera *camera;

                unplug(soak, p);
                lab_run(soak->lab, 2 * SEC);
                lab_jumper(p->lab, jumper);
                p->port = (size_t)(p - soak->patients);
                plug(soak, p);
                lab_run(soak->lab, 300 * SEC);
                check_all(soak);
                if (is_well(p))
                        return;
                camera = lab_known(p->lab);
                /* "If it shows nothing then, ...": that was tried. */
                if (camera && (camera->state == CAMERA_ASKING || camera->state == CAMERA_UNPROVEN ||
                               camera->state == CAMERA_FAILED || camera->state == CAMERA_SILENT ||
                               (camera->state == CAMERA_JUMPER && camera->provisional && said_to_be_good))) {
                        struct request request = {
                                .wish = WISH_RECOVER, .replace_unknown = true,
                                .board = camera->provisional ? sim_board_name(p->board) : NULL,
                        };

                        p->has_mine = false;
                        (void)lab_request(p->lab, &request);
                        lab_run(soak->lab, 300 * SEC);
                        if (is_well(p))
                                return;
                }
                said_to_be_good = said_to_be_good || (camera && camera->state == CAMERA_JUMPER);
                /* Shows nothing at all: its bootloader is gone, too. */
                jumper = !jumper && sim_camera_mode(p->lab->sim) == SIM_SILENT &&
                         !(camera && (camera->state == CAMERA_SILENT || camera->state == CAMERA_BOOTING));
        }
        {
                const struct camera *camera = lab_known(p->lab);
                struct diagnosis d = camera ? camera_diagnosis(camera) : (struct diagnosis){};

                broken(soak, "%s (%s, device %s) does not come back: %s; %s", p->lab->key, sim_board_name(p->board),
                       sim_mode_name(sim_camera_mode(p->lab->sim)), camera ? camera_state_to_string(camera->state) : "unknown",
                       d.text);
        }
}

static void be_kind(struct soak *soak)
{
        soak->doing = "be kind";
        for (size_t i = 0; i < ELEMENTSOF(soak->patients); i++)
                unplug(soak, &soak->patients[i]);
        lab_run(soak->lab, 30 * SEC);
        for (size_t i = 0; i < N_CAMERAS; i++)
                be_kind_to(soak, &soak->patients[i]);
        for (size_t i = 0; i < N_CAMERAS; i++) {
                struct patient *p = &soak->patients[i];
                bool whole = lab_stands_there(p->lab, p->mine);

                for (size_t v = 0; v < VERSIONS; v++)
                        whole = whole || lab_stands_there(p->lab, p->versions[v]);
                if (!whole)
                        broken(soak, "%s runs what nobody has made", p->lab->key);
        }
}

/* --- birth and death --- */

static struct patient *add_patient(struct soak *soak, size_t i, const struct sim_config *config)
{
        struct patient *p = &soak->patients[i];

        p->lab = lab_camera_from(soak->lab, config);
        p->board = config->board;
        p->partition = config->board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
        p->port = i;
        p->since = loop_now(soak->lab->loop);
        watcher_init(&p->watcher, p->lab);
        return p;
}

/* A release of a board: two versions of its firmware, and a bootloader where the ROM can bring one back. */
static void publish(struct soak *soak, struct patient *p)
{
        static const char *const names[VERSIONS] = { "4.8.1", "5.0.0" };
        struct lab *lab = soak->lab;

        for (unsigned v = 0; v < VERSIONS; v++) {
                /* Some units and a bit. */
                p->versions[v] = lab_firmware(lab, p->board, p->partition, names[v], v + 1, 50003 - 5000 * v);
                lab_import(lab, p->versions[v]);
                if (p->board != SIM_OPENMV_AE3)
                        continue;
                p->second[v] = lab_firmware(lab, p->board, "HE", names[v], v + 3, 20001);
                lab_import(lab, p->second[v]);
        }
        if (has_rom(p)) {
                _cleanup_free_ uint8_t *data = NULL;
                size_t size;

                assert_int_equal(sim_camera_bootloader_image(p->lab->sim, SIM_BL_1_0_3, /* padded= */ false, &data, &size), 0);
                lab_import(lab, lab_bytes(lab, p->board, "BOOTLOADER", "5.0.0", data, size));
        }
}

static void add_cameras(struct soak *soak)
{
        static const enum sim_board boards[] = {
                SIM_OPENMV3, SIM_OPENMV2, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMV_N6, SIM_OPENMV_AE3, SIM_OPENMVPT,
        };

        for (size_t i = 0; i < N_CAMERAS; i++) {
                enum sim_board board = boards[i % ELEMENTSOF(boards)];
                struct sim_config config;
                struct patient *p;

                sim_config_default(&config, board, (unsigned)i + 1);
                config.bootloader = i % 2 ? SIM_BL_1_0_3 : SIM_BL_1_0_0;
                /* Small erase units: what is asked of an update does not depend on their size, and the time that it takes does. */
                if (board != SIM_OPENMV_AE3)
                        config.erase_unit_scale = 1.0 / 16;
                p = add_patient(soak, i, &config);
                if (i < ELEMENTSOF(boards))
                        publish(soak, p);
                else {
                        memcpy(p->versions, soak->patients[i % ELEMENTSOF(boards)].versions, sizeof(p->versions));
                        memcpy(p->second, soak->patients[i % ELEMENTSOF(boards)].second, sizeof(p->second));
                }
                p->mine = lab_firmware(soak->lab, board, p->partition, "mine", 100 + (unsigned)i, p->versions[0]->size + 1000);
                lab_install(p->lab, p->versions[0]);
                if (p->second[0])
                        lab_install(p->lab, p->second[0]);
                assert_int_equal(sim_camera_partition_poke(p->lab->sim, board == SIM_OPENMV_AE3 ? "RWFS" : "FILESYSTEM", 100, "main.py", 7), 0);
                p->others_size = read_others(p, &p->others);
        }
        for (size_t i = 0; i < N_FOREIGN; i++) {
                struct sim_config config;

                sim_config_default(&config, SIM_FOREIGN, 50 + (unsigned)i);
                config.chip = i % 2 ? SIM_F427 : SIM_H743;
                add_patient(soak, N_CAMERAS + i, &config)->foreign = true;
        }
}

static unsigned a_month(unsigned seed, unsigned updates)
{
        struct soak soak = { .seed = seed, .random = seed, .doing = "set up" };

        soak.lab = lab_new_on_disk(NULL);
        assert_int_equal(registry_observe(soak.lab->registry, &observer, &soak), 0);
        add_cameras(&soak);
        usb_inproc_watch(soak.lab->host, on_request, &soak);
        lab_run(soak.lab, SEC);         /* what was imported is on the disk */
        for (soak.step = 0; soak.n_ended < updates; soak.step++)
                one_step(&soak);
        be_kind(&soak);
        printf("# soak: seed %u: %zu steps, unplugged %u, daemon killed %u, faults %u; updates ended %u, done %u\n", seed, soak.step,
               soak.n_unplugs, soak.n_kills, soak.n_faults, soak.n_ended, soak.n_done);
        fflush(stdout);
        usb_inproc_watch(soak.lab->host, NULL, NULL);
        registry_unobserve(soak.lab->registry, &observer);
        for (size_t i = 0; i < N_CAMERAS; i++)
                free(soak.patients[i].others);
        lab_free(soak.lab);
        return soak.n_ended;
}

static void bad_months(void **state)
{
        const char *seed = getenv("SOAK_SEED"), *updates = getenv("SOAK_UPDATES");
        unsigned first = seed ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL) % 1000000;
        unsigned n = updates ? (unsigned)strtoul(updates, NULL, 10) : UPDATES, ended = 0;

        (void)state;
        printf("# SOAK_SEED=%u SOAK_UPDATES=%u\n", first, n);
        for (unsigned i = 0; ended < n; i++)
                ended += a_month(first + i, MIN(n - ended, (unsigned)A_MONTH));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/soak/bad-months", bad_months, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/*
 * Each transfer of a whole recovery fails, or is answered wrongly, in each way
 * that there is, once and for ever.  Once: the camera runs in the end, with the
 * right bytes.  For ever: the update ends with a name, or waits with an advice;
 * and when the trouble is over, the camera runs.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "core/verdict.h"
#include "unit/breaks.h"
#include "unit/loop-virtual.h"

#define FOR_EVER_STRIDE 3               /* in check; it takes much longer than once does */
#define HANDS_FOR_EVER 5
#define HANDS_AFTERWARDS 3
#define NAMES_MAX 16

enum trouble_kind { TROUBLE_TRANSFER, TROUBLE_REPLY, _TROUBLE_KIND_MAX };
static const char *const kind_names[_TROUBLE_KIND_MAX] = { "a transfer fails", "a wrong reply" };

/* What may come of a trouble that stays, besides "done": the names by which an update may end.  Once, it ends in nothing but that; only a
 * bootloader that reads like none that is known is asked about (row 5). */
struct trouble {
        const char *name;
        enum trouble_kind kind;
        struct sim_fault fault;
        bool lies;                      /* about states */
        bool every_state;               /* pattern is drawn */
        unsigned hands;                 /* that it takes besides */
        const char *once;               /* by which an update may end when it is the flash that was read wrongly; NULL: by none */
        const char *for_ever[6];
};

static const struct trouble troubles[] = {
        { "timeout", TROUBLE_TRANSFER, { .kind = SIM_FAULT_NAK }, .for_ever = { "timeout" } },
        { "stall", TROUBLE_TRANSFER, { .kind = SIM_FAULT_STALL }, .for_ever = { "stalled", "bad-reply", "unreadable" } },
        { "overflow", TROUBLE_TRANSFER, { .kind = SIM_FAULT_ERROR, .error_code = EOVERFLOW }, .for_ever = { "bad-reply" } },
        { "i/o error", TROUBLE_TRANSFER, { .kind = SIM_FAULT_ERROR, .error_code = EPROTO }, .for_ever = { "bad-reply" } },
        { "no device", TROUBLE_TRANSFER, { .kind = SIM_FAULT_ERROR, .error_code = ENODEV }, .for_ever = { "bad-reply" } },
        { "torn", TROUBLE_TRANSFER, { .kind = SIM_FAULT_TORN, .error_code = EPROTO, .length = 2048 }, .for_ever = { "bad-reply" } },
        { "answer lost", TROUBLE_TRANSFER, { .kind = SIM_FAULT_TORN, .error_code = EPROTO, .length = SIZE_MAX }, .for_ever = { "bad-reply" } },
        { "babble", TROUBLE_TRANSFER, { .kind = SIM_FAULT_BABBLE, .pattern = 0x55 }, .for_ever = { "bad-reply" } },
        { "locks up", TROUBLE_TRANSFER, { .kind = SIM_FAULT_CRASH }, .hands = 1, .for_ever = { "timeout" } },
        { "empty", TROUBLE_REPLY, { .kind = SIM_FAULT_SHORT, .length = 0 }, .for_ever = { "bad-reply" } },
        { "short", TROUBLE_REPLY, { .kind = SIM_FAULT_SHORT, .length = 5 }, .for_ever = { "bad-reply" } },
        { "wrong state", TROUBLE_REPLY, { .kind = SIM_FAULT_STATE }, .lies = true, .every_state = true,
          .for_ever = { "bad-reply", "device-error", "busy-forever", "write-refused", "unreadable" } },
        { "ones", TROUBLE_REPLY, { .kind = SIM_FAULT_GARBAGE, .pattern = 0xff }, .lies = true, .once = "unknown-bootloader",
          .for_ever = { "bad-reply", "write-refused" } },
        { "zeros", TROUBLE_REPLY, { .kind = SIM_FAULT_GARBAGE, .pattern = 0x00 }, .lies = true, .once = "unknown-bootloader",
          .for_ever = { "bad-reply", "write-refused" } },
        { "dfuERROR", TROUBLE_REPLY, { .kind = SIM_FAULT_GARBAGE, .pattern = 0x0a }, .lies = true, .once = "unknown-bootloader",
          .for_ever = { "bad-reply", "device-error", "write-refused", "unreadable" } },
};

static bool is_one_of(const char *name, const char *const *names, size_t n)
{
        for (size_t i = 0; i < n && names[i]; i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return false;
}

#define broken(scene, format, ...)                                                                                      \
        lab_fail((scene)->lab, "%s: %s: " format, (scene)->row->name, (scene)->what, ##__VA_ARGS__)

static void begin(struct scene *scene, const struct stock *stock, const struct trouble *trouble, unsigned k, unsigned count, unsigned number)
{
        struct sim_fault fault = trouble->fault;

        scene_begin(scene, stock, number, "%s at transfer %u, %s", trouble->name, k, count ? "once" : "for ever");
        fault.request_type = fault.request = -1;
        fault.skip = k;
        fault.count = count;
        if (trouble->every_state)
                fault.pattern = (uint8_t)scene_draw(scene, 12);
        scene->watcher.lied_to = trouble->lies;
        sim_camera_add_fault(scene->camera->sim, &fault);
        scene_plug(scene);
}

static enum ending once(const struct stock *stock, const struct trouble *trouble, unsigned k, unsigned number)
{
        struct scene scene;
        enum ending ending;

        begin(&scene, stock, trouble, k, 1, number);
        scene.tolerance = 1;
        scene.tolerated_hands = trouble->hands;
        if (trouble->once && scene_play(&scene, stock->row->hands) && !scene_is_running(&scene) &&
            strcmp(scene_update(&scene)->record.outcome, trouble->once) == 0) {
                scene_ask_again(&scene);
                scene.tolerated_hands++;
        }
        ending = scene_carry_through(&scene);
        scene_end(&scene);
        return ending;
}

/* --- for ever --- */

struct ends {
        unsigned n, n_done, n_waiting;
        struct {
                char name[64];
                unsigned n;
        } named[NAMES_MAX];
};

static void count_named(struct ends *ends, const char *name)
{
        for (size_t i = 0; i < NAMES_MAX; i++) {
                if (ends->named[i].n > 0 && strcmp(ends->named[i].name, name) != 0)
                        continue;
                snprintf(ends->named[i].name, sizeof(ends->named[i].name), "%s", name);
                ends->named[i].n++;
                return;
        }
}

static void for_ever(const struct stock *stock, const struct trouble *trouble, unsigned k, unsigned number, struct ends *ends)
{
        struct scene scene;
        bool over;

        begin(&scene, stock, trouble, k, 0, number);
        scene.for_ever = true;
        scene.tolerated_erases = VERDICT_MAX_ERASES;
        over = scene_play(&scene, stock->row->hands + HANDS_FOR_EVER);
        scene_expect_sound_flash(&scene);
        ends->n++;
        if (over && scene_is_running(&scene)) {
                ends->n_done++;
        } else if (over) {
                const struct update *update = scene_update(&scene);

                count_named(ends, update->record.outcome);
                if (update->result == UPDATE_DONE)
                        broken(&scene, "done, and it does not run");
                if (update->result != UPDATE_NOT_SEEN && !is_one_of(update->record.outcome, trouble->for_ever, ELEMENTSOF(trouble->for_ever)))
                        broken(&scene, "%s, \"%s\" (%s)", update_result_to_string(update->result), update->record.outcome,
                               update->record.message);
        } else {
                const struct camera *camera = lab_known(scene.camera);
                struct diagnosis diagnosis = camera ? camera_diagnosis(camera) : (struct diagnosis){};

                ends->n_waiting++;
                if (camera && diagnosis.advice[0] == '\0')
                        broken(&scene, "it waits (%s), and nobody says for what", camera_state_to_string(camera->state));
        }

        /* It is mended, and somebody asks again for what was given up. */
        sim_camera_clear_faults(scene.camera->sim);
        scene.for_ever = scene.watcher.lied_to = false;
        scene.n_hands = 0;
        scene.tolerance = 1;
        scene.tolerated_hands = HANDS_AFTERWARDS;
        if (over && !scene_is_running(&scene))
                scene_ask_again(&scene);
        if (!over || !scene_is_running(&scene))
                scene_lend_a_hand(&scene);
        (void)scene_carry_through(&scene);
        scene_end(&scene);
}

static void row(void **state)
{
        static unsigned number;
        struct stock stock;
        unsigned stride;

        stock_init(&stock, *state);
        stride = stock_stride(&stock);
        for (unsigned kind = 0; kind < _TROUBLE_KIND_MAX; kind++) {
                struct tally tally = {};
                struct ends ends = {};
                char text[128];

                for (size_t i = 0; i < ELEMENTSOF(troubles); i++)
                        for (unsigned k = (unsigned)i % stride; troubles[i].kind == kind && k < stock.n_transfers; k += stride) {
                                tally.n[once(&stock, &troubles[i], k, ++number)]++;
                                if (breaks_all() || (k / stride + i) % FOR_EVER_STRIDE == 0)
                                        for_ever(&stock, &troubles[i], k, number, &ends);
                        }
                snprintf(text, sizeof(text), "%s, once", kind_names[kind]);
                tally_print(&tally, stock.row, text, "");
                printf("# breaks: %s: %s, for ever: %u; done %u, waiting with an advice %u", stock.row->name, kind_names[kind], ends.n,
                       ends.n_done, ends.n_waiting);
                for (size_t i = 0; i < NAMES_MAX && ends.named[i].n > 0; i++)
                        printf(", %s %u", ends.named[i].name, ends.named[i].n);
                printf("\n");
                fflush(stdout);
        }
        stock_deinit(&stock);
}

int main(int argc, char *argv[])
{
        struct CMUnitTest tests[BREAKS_ROWS];

        for (size_t i = 0; i < BREAKS_ROWS; i++)
                tests[i] = (struct CMUnitTest){ breaks_rows[i].name, row, NULL, NULL, (void *)&breaks_rows[i] };
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */

/*
 * From the uevent to the UPLOAD that holds the bootloader, over a thousand
 * plug-ins of cameras that have an update to come: fifty within a tenth of a
 * second, one of which never answers GET_CONFIGURATION and SET_INTERFACE, on a disk whose
 * every fsync takes 200 ms longer.
 *
 * The clock is the machine's: from just before the first event of the device is
 * sent to the submission of the UPLOAD.  Half of the rounds spread the fifty over
 * the tenth of a second, half plug all of them in at once.  In each round the
 * updates are asked for anew just before, so that their commits are under way when the events
 * come; and the cameras held first are being read while the others arrive.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "bench/bench.h"

#define N_CAMERAS 50
#define PLUG_INS 1000
#define SPREAD_US 100000
#define FSYNC_MS 200
#define WORST_MS 50.0
#define BEGINNING 0.3                   /* seconds */
#define WINDOW 1.5                      /* seconds; dfu.md A.3 */
#define BOOT_DEADLINE 30.0

#define STUBBORN 0                      /* the camera that does not answer */

struct cameras {
        unsigned n;
        char name[N_CAMERAS][16];
        char port[N_CAMERAS][48];
};

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void make_cameras(struct cameras *cameras)
{
        for (unsigned i = 0; i < cameras->n; i++) {
                (void)snprintf(cameras->name[i], sizeof(cameras->name[i]), "m7-%u", i);
                bench_camera(cameras->name[i], SIM_OPENMV3, /* seed= */ i + 1, /* firmware= */ true, NULL);
        }
}

/* Until the daemon has seen it of all of them. */
static void await(const struct cameras *cameras, const char *what)
{
        const char *arguments[N_CAMERAS + 6] = { "wait", "--for", what, "--timeout", "30" };
        int status;

        for (unsigned i = 0; i < cameras->n; i++)
                arguments[i + 5] = cameras->port[i];
        status = bench_client(arguments);
        if (status != 0)
                bench_die("camrescue wait --for %s: exit status %d", what, status);
}

/* Once through bootloader and firmware, as any camera that nobody holds. */
static void get_known(struct cameras *cameras)
{
        (void)bench_tell(MACHINE_PLUG_ALL, "", SPREAD_US);
        for (unsigned i = 0; i < cameras->n; i++) {
                if (!bench_until(cameras->name[i], BOOT_DEADLINE, bench_is_running))
                        bench_die("%s does not run", cameras->name[i]);
                (void)snprintf(cameras->port[i], sizeof(cameras->port[i]), "%s", bench_tell(MACHINE_COUNTERS, cameras->name[i], 0).port);
        }
        /* Its "running" is heard by the daemon too before it is pulled. */
        await(cameras, "running");
        (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
}

static void ask_for_updates(const struct cameras *cameras)
{
        const char *arguments[N_CAMERAS + 4] = { "update", "--no-wait" };
        int status;

        for (unsigned i = 0; i < cameras->n; i++)
                arguments[i + 2] = cameras->port[i];
        status = bench_client(arguments);
        if (status != 7)
                bench_die("camrescue update --no-wait: exit status %d", status);
}

/* Held, or lost.  (Of an UPLOAD to its last bootloader the counters tell until it is back.) */
static bool is_decided(const struct machine_answer *answer)
{
        return answer->counters.windows_missed > 0 || (answer->announced_at > 0 && answer->counters.first_upload_at_us > 0);
}

struct figures {
        double *milliseconds;
        unsigned n, missed;
};

static void play_round(const struct cameras *cameras, bool at_once, struct figures *figures)
{
        double deadline;

        ask_for_updates(cameras);
        for (unsigned i = 0; i < cameras->n; i++)
                (void)bench_tell(MACHINE_RESET_COUNTERS, cameras->name[i], 0);
        (void)bench_tell(MACHINE_PLUG_ALL, "", at_once ? 0 : SPREAD_US);

        /* Power-on, pull-up, the burst; then as long as any window may be open. */
        deadline = bench_seconds() + BEGINNING + WINDOW + 1;
        for (unsigned i = 0; i < cameras->n; i++) {
                struct machine_answer answer;
                double ms;

                if (i != STUBBORN)
                        (void)bench_until(cameras->name[i], deadline - bench_seconds(), is_decided);
                answer = bench_tell(MACHINE_COUNTERS, cameras->name[i], 0);
                ms = ((double)answer.counters.first_upload_at_us - (double)answer.announced_at) / 1e3;
                if (i == STUBBORN)
                        continue;
                if (answer.counters.first_upload_at_us == 0 || answer.counters.windows_missed > 0 || answer.announced_at == 0) {
                        figures->missed++;
                        figures->milliseconds[figures->n++] = WINDOW * 1e3;
                } else
                        figures->milliseconds[figures->n++] = ms;
        }
        (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
        await(cameras, "absent");
}

static void say(const char *what, double *milliseconds, unsigned n, unsigned missed)
{
        qsort(milliseconds, n, sizeof(*milliseconds), compare);
        bench_say("%-28s %8u %9.2f %9.2f %9.2f %7u", what, n, milliseconds[n / 2], milliseconds[n * 99 / 100], milliseconds[n - 1],
                  missed);
}

static int bench(bool smoke)
{
        struct machine_order order = { .verb = MACHINE_FAULT };
        struct cameras cameras = { .n = smoke ? 10 : N_CAMERAS };
        unsigned per_kind = smoke ? 2 * (cameras.n - 1) : PLUG_INS / 2;
        /* The last round may bring more than asked for. */
        _cleanup_free_ double *all = calloc(2 * (per_kind + N_CAMERAS), sizeof(double));
        struct figures figures[2] = { 0 };
        char preload[300], slow[32], path[256];
        bool disk;
        double worst;

        if (!all)
                bench_die("no memory");
        figures[0].milliseconds = all;
        figures[1].milliseconds = all + per_kind + N_CAMERAS;
        (void)bench_directory(&disk);
        (void)snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", bench_program("tests/bench/slow-fsync.so", path));
        (void)snprintf(slow, sizeof(slow), "SLOW_FSYNC_MS=%u", FSYNC_MS);
        bench_start_bus();
        (void)bench_start_daemon("state", (const char *const[]){ preload, slow, "ASAN_OPTIONS=verify_asan_link_order=0", NULL });
        bench_import(SIM_OPENMV3, "5.0.0", 1);
        bench_import(SIM_OPENMV3, "5.1.0", 2);

        make_cameras(&cameras);
        get_known(&cameras);
        (void)snprintf(order.name, sizeof(order.name), "%s", cameras.name[STUBBORN]);
        order.fault = (struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0x80, .request = 8 };
        (void)machine_ask(&order);
        order.fault = (struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0x01, .request = 11 };
        (void)machine_ask(&order);

        for (unsigned kind = 0; kind < 2; kind++)
                while (figures[kind].n < per_kind)
                        play_round(&cameras, kind == 1, &figures[kind]);

        bench_say("%u cameras, one of them never answers GET_CONFIGURATION and SET_INTERFACE; %u ms in each fsync, state %s",
                  cameras.n, FSYNC_MS, disk ? "on a disk" : "in memory: no disk here");
        bench_say("%-28s %8s %9s %9s %9s %7s", "uevent to UPLOAD (ms)", "plug-ins", "median", "99 %", "worst", "missed");
        say("spread over 100 ms", figures[0].milliseconds, figures[0].n, figures[0].missed);
        say("at once", figures[1].milliseconds, figures[1].n, figures[1].missed);
        memmove(all + figures[0].n, figures[1].milliseconds, figures[1].n * sizeof(double));
        say("all", all, figures[0].n + figures[1].n, figures[0].missed + figures[1].missed);
        worst = all[figures[0].n + figures[1].n - 1];
        (void)bench_gate("worst from the uevent to the UPLOAD", worst, WORST_MS, "ms");
        (void)bench_gate("windows missed", figures[0].missed + figures[1].missed, 0, "");
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ false, bench);
}

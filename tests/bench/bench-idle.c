/* SPDX-License-Identifier: MIT */

/*
 * What camrescued costs when nothing happens: wakeups in a minute with fifty
 * cameras attached, threads, and memory without cameras, with fifty and with a
 * hundred, beside the floor daemon on the same machine (floor-daemon.c).
 *
 * A wakeup is a context switch of any thread, voluntary or not, as /proc counts
 * them: none is what an idle process has.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "bench/bench.h"

#define N_STEPS 3
#define SETTLE_DEADLINE 60.0
#define QUIET 6                         /* seconds: longer than the journal keeps its database open */
#define BOOT_DEADLINE 60.0
#define WATCHDOG_US 20000000            /* camrescued answers in half of it */

/* Of the goals for memory (KiB). */
#define PRIVATE_0_MAX 768.0
#define RSS_0_MAX (7 * 1024.0)
#define PRIVATE_CAMERA_MAX 4.0
#define PRIVATE_100_MAX (1.2 * 1024)

static bool is_sanitized(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        return true;
#else
        return false;
#endif
}

static unsigned n_made;

static void attach(unsigned n)
{
        unsigned first = n_made;
        char name[16];

        for (; n_made < n; n_made++) {
                (void)snprintf(name, sizeof(name), "m7-%u", n_made);
                bench_camera(name, SIM_OPENMV3, /* seed= */ n_made + 1, /* firmware= */ true, NULL);
        }
        (void)bench_tell(MACHINE_PLUG_ALL, "", 100000);
        for (unsigned i = first; i < n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                if (!bench_until(name, BOOT_DEADLINE, bench_is_running))
                        bench_die("%s does not run", name);
        }
}

/* Until some seconds have gone by without a switch. */
static bool settle(pid_t pid)
{
        double deadline = bench_seconds() + SETTLE_DEADLINE;
        struct bench_proc before, after;
        unsigned quiet = 0;

        bench_proc(pid, &after);
        while (quiet < QUIET && bench_seconds() < deadline) {
                before = after;
                bench_sleep(1);
                bench_proc(pid, &after);
                quiet = after.switches == before.switches ? quiet + 1 : 0;
        }
        return quiet == QUIET;
}

static uint64_t switches_in(pid_t pid, pid_t other, double seconds, uint64_t *ret_other)
{
        struct bench_proc before[2], after[2];

        bench_proc(pid, &before[0]);
        bench_proc(other, &before[1]);
        bench_sleep(seconds);
        bench_proc(pid, &after[0]);
        bench_proc(other, &after[1]);
        *ret_other = after[1].switches - before[1].switches;
        return after[0].switches - before[0].switches;
}

static void say_step(unsigned n, const struct bench_proc *ours, const struct bench_proc *floor)
{
        bench_say("%7u %9u %9u %9u %11u %9u %9u", n, ours->threads, ours->private_dirty, ours->rss, floor->threads,
                  floor->private_dirty, floor->rss);
}

static int bench(bool smoke)
{
        const unsigned steps[N_STEPS] = { 0, smoke ? 5 : 50, smoke ? 10 : 100 };
        const double idle = smoke ? 3 : 60;
        struct bench_proc ours[N_STEPS], floor[N_STEPS];
        char watchdog[32];
        uint64_t switches, floor_switches, switches_0, switches_100 = 0, watched, ignored, floor_switches_0, floor_switches_100 = 0;
        pid_t daemon, floor_daemon;
        bool settled;
        unsigned expected, threads = 0;
        double per_camera, floor_per_camera;

        bench_start_bus();
        floor_daemon = bench_start_floor();
        daemon = bench_start_daemon("state", NULL);

        settled = settle(daemon);
        bench_proc(daemon, &ours[0]);
        bench_proc(floor_daemon, &floor[0]);
        switches_0 = switches_in(daemon, floor_daemon, idle, &floor_switches_0);
        attach(steps[1]);
        settled &= settle(daemon);
        bench_proc(daemon, &ours[1]);
        bench_proc(floor_daemon, &floor[1]);
        switches = switches_in(daemon, floor_daemon, idle, &floor_switches);
        attach(steps[2]);
        settled &= smoke || settle(daemon);
        bench_proc(daemon, &ours[2]);
        bench_proc(floor_daemon, &floor[2]);
        if (!smoke)
                switches_100 = switches_in(daemon, floor_daemon, idle, &floor_switches_100);

        /* The same as a service: systemd's watchdog is answered, and nothing else. */
        (void)bench_end(daemon);
        (void)snprintf(watchdog, sizeof(watchdog), "WATCHDOG_USEC=%u", smoke ? WATCHDOG_US / 10 : WATCHDOG_US);
        daemon = bench_start_daemon("state", (const char *const[]){ watchdog, NULL });
        bench_sleep(smoke ? QUIET : 2 * QUIET);
        watched = switches_in(daemon, floor_daemon, idle, &ignored);
        /* An answer at the very beginning and one at the very end. */
        expected = (unsigned)(idle * 2e6 / (smoke ? WATCHDOG_US / 10 : WATCHDOG_US)) + 1;

        per_camera = ((double)ours[2].private_dirty - ours[0].private_dirty) / steps[2];
        floor_per_camera = ((double)floor[2].private_dirty - floor[0].private_dirty) / steps[2];
        bench_say("%7s %9s %9s %9s %11s %9s %9s", "", "camrescued", "", "", "the floor", "", "");
        bench_say("%7s %9s %9s %9s %11s %9s %9s", "cameras", "threads", "private", "resident", "threads", "private", "resident");
        for (size_t i = 0; i < N_STEPS; i++) {
                say_step(steps[i], &ours[i], &floor[i]);
                if (i < N_STEPS - 1 || !smoke)          /* at rest */
                        threads = MAX(threads, ours[i].threads);
        }
        bench_say("private: Private_Dirty, KiB; each further camera: %.1f KiB, of the floor %.1f KiB", per_camera, floor_per_camera);
        bench_say("%u cameras, %.0f s: %llu wakeups, of the floor %llu; with systemd's watchdog (%.0f s) %llu", steps[1], idle,
                  (unsigned long long)switches, (unsigned long long)floor_switches, (smoke ? WATCHDOG_US / 10 : WATCHDOG_US) / 1e6,
                  (unsigned long long)watched);

        bench_row("wakeups-0", switches_0 == 0, "0", bench_text("%llu", (unsigned long long)floor_switches_0), "%llu",
                  (unsigned long long)switches_0);
        if (!smoke)
                bench_row("wakeups-100", switches_100 == 0, "0", bench_text("%llu", (unsigned long long)floor_switches_100), "%llu",
                          (unsigned long long)switches_100);
        bench_row("threads", threads == 1, "1", bench_text("%u", floor[0].threads), "%u", threads);
        bench_row("memory-0", ours[0].private_dirty <= PRIVATE_0_MAX, "<= 768 KiB", bench_text("%u KiB", floor[0].private_dirty), "%u KiB",
                  ours[0].private_dirty);
        bench_row("rss-0", ours[0].rss <= RSS_0_MAX, "<= 7 MiB", bench_text("%.1f MiB", floor[0].rss / 1024.0), "%.1f MiB",
                  ours[0].rss / 1024.0);
        bench_row("memory-camera", per_camera <= PRIVATE_CAMERA_MAX, "<= 4 KiB", bench_text("%.1f KiB", floor_per_camera), "%.1f KiB",
                  per_camera);
        bench_row("memory-100", ours[2].private_dirty <= PRIVATE_100_MAX, "<= 1.2 MiB", bench_text("%u KiB", floor[2].private_dirty),
                  "%u KiB", ours[2].private_dirty);
        (void)bench_check("comes to rest", settled);
        (void)bench_gate("wakeups without cameras", (double)switches_0, 0, "");
        if (!smoke)
                (void)bench_gate("wakeups with a hundred", (double)switches_100, 0, "");
        (void)bench_gate("wakeups while idle", (double)switches, 0, "");
        (void)bench_gate("wakeups while idle, with the watchdog's", (double)watched, expected, "");
        (void)bench_gate("threads while idle", threads, 1, "");
        if (is_sanitized())
                return bench_result();
        (void)bench_gate("resident without cameras", ours[0].rss, RSS_0_MAX, "KiB");
        (void)bench_gate("Private_Dirty without cameras", ours[0].private_dirty, PRIVATE_0_MAX, "KiB");
        /* Between a few cameras and none lies mostly what the heap rounds to. */
        if (!smoke) {
                (void)bench_gate("Private_Dirty for a further camera", per_camera, PRIVATE_CAMERA_MAX, "KiB");
                (void)bench_gate("Private_Dirty with a hundred cameras", ours[2].private_dirty, PRIVATE_100_MAX, "KiB");
        }
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ false, bench);
}

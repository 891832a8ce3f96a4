/* SPDX-License-Identifier: MIT */

/*
 * How long it takes to begin: the daemon until it owns its name, beside the floor
 * daemon, without cameras and with a hundred; and the client, beside the least
 * that a client can be.  Each in turn with its floor; medians.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/cleanup.h"
#include "bench/bench.h"

#define DAEMON "org.camrescue1"
#define FLOOR "org.camrescue1.Floor"
#define N_CAMERAS 100
#define ROUNDS_MAX 41
#define WAIT 60.0
#define DEADLINE 20.0
#define START_MAX 3.0                   /* times the floor */
#define CLIENT_MAX 1.5

static sd_bus *bus;
static unsigned rounds, n_ended_badly;

/* --- daemons --- */

static double owned_at;

static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        const char *name, *old, *new;

        if (sd_bus_message_read(message, "sss", &name, &old, &new) >= 0 && *new && strcmp(name, userdata) == 0)
                owned_at = bench_seconds();
        return 0;
}

/* However early it is told to. */
static void end(pid_t daemon)
{
        n_ended_badly += bench_end(daemon) != 0;
}

/* From the fork until the name has an owner.  Somebody has to end it. */
static double start_of(const char *name, const char *const *argv, pid_t *ret_pid)
{
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        double begin, deadline;

        if (sd_bus_match_signal(bus, &slot, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                                on_owner, (void *)name) < 0)
                bench_die("no match");
        owned_at = 0;
        begin = bench_seconds();
        deadline = begin + DEADLINE;
        *ret_pid = bench_spawn(argv, NULL, "start.log");
        while (owned_at == 0) {
                if (sd_bus_process(bus, NULL) == 0)
                        (void)sd_bus_wait(bus, 100000);
                if (bench_seconds() > deadline)
                        bench_die("%s does not come up", name);
        }
        return owned_at - begin;
}

static void start(double *ret, double *ret_floor)
{
        char daemon[256], floor[256], boards[256], state[256], configuration[256];
        const char *const floor_argv[] = { bench_program("tests/bench/floor-daemon", floor), NULL };
        const char *const argv[] = { bench_program("camrescued", daemon), "--log", "stderr", "--bus-address", bench_bus_address(),
                "--state-directory", bench_path("state", state), "--configuration", bench_path("camrescue.conf", configuration),
                "--boards-directory", bench_source("boards", boards), NULL };
        double ours[ROUNDS_MAX], theirs[ROUNDS_MAX];

        for (unsigned i = 0; i < rounds; i++) {
                pid_t pid;

                theirs[i] = start_of(FLOOR, floor_argv, &pid);
                (void)bench_end(pid);
                ours[i] = start_of(DAEMON, argv, &pid);
                end(pid);
        }
        *ret = bench_quantile(ours, rounds, 0.5) * 1e3;
        *ret_floor = bench_quantile(theirs, rounds, 0.5) * 1e3;
}

/* --- clients --- */

static double run_of(const char *const *argv)
{
        double begin = bench_seconds();
        int status = bench_wait(bench_spawn(argv, NULL, "run.log"));

        begin = bench_seconds() - begin;
        if (status != 0)
                bench_die("%s: exit status %d", argv[0], status);
        return begin;
}

static void clients(const char *argument, const char *floor, double *ret, double *ret_floor)
{
        char client[256], program[256];
        const char *const floor_argv[] = { bench_program(floor, program), NULL };
        const char *const argv[] = { bench_program("camrescue", client), argument, NULL };
        double ours[ROUNDS_MAX], theirs[ROUNDS_MAX];

        for (unsigned i = 0; i < rounds; i++) {
                theirs[i] = run_of(floor_argv);
                ours[i] = run_of(argv);
        }
        *ret = bench_quantile(ours, rounds, 0.5) * 1e3;
        *ret_floor = bench_quantile(theirs, rounds, 0.5) * 1e3;
}

static void attach(unsigned n)
{
        char name[16];

        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                bench_camera(name, SIM_OPENMV3, /* seed= */ i + 1, /* firmware= */ true, NULL);
        }
        (void)bench_tell(MACHINE_PLUG_ALL, "", 100000);
        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                if (!bench_until(name, WAIT, bench_is_running))
                        bench_die("%s does not run", name);
        }
}

static int bench(bool smoke)
{
        unsigned n = smoke ? 5 : N_CAMERAS;
        double none, none_floor, many, many_floor, version, version_floor, list, list_floor, list_many, list_many_floor;
        pid_t daemon;

        rounds = smoke ? 3 : ROUNDS_MAX;
        bench_start_bus();
        bus = bench_open_bus();
        /* Makes state directory and configuration, and the first start is not the usual one. */
        daemon = bench_start_daemon("state", NULL);
        clients("--version", "tests/bench/floor-program", &version, &version_floor);
        clients("status", "tests/bench/floor-client", &list, &list_floor);
        end(daemon);
        start(&none, &none_floor);

        daemon = bench_start_daemon("state", NULL);
        attach(n);
        clients("status", "tests/bench/floor-client", &list_many, &list_many_floor);
        end(daemon);
        start(&many, &many_floor);

        bench_say("until the name is owned: %.1f ms, the floor %.1f; with %u cameras %.1f, %.1f", none, none_floor, n, many, many_floor);
        bench_say("camrescue --version %.2f ms, a program on libsystemd %.2f", version, version_floor);
        bench_say("camrescue status %.2f ms, a client that only asks %.2f; with %u cameras %.2f, %.2f", list, list_floor, n, list_many,
                  list_many_floor);
        bench_row("start", none <= START_MAX * none_floor, "<= 3 x floor", bench_text("%.1f ms", none_floor), "%.1f ms, %.2f x", none,
                  none / none_floor);
        /* A scan that is waited for costs 0.5 ms a camera. */
        bench_row("start-many", many <= START_MAX * many_floor && (many - none) / n <= 0.05, "<= 3 x floor, no scan",
                  bench_text("%.1f ms", many_floor), "%.1f ms, %.2f x", many, many / many_floor);
        bench_row("version", version <= CLIENT_MAX * version_floor, "<= 1.5 x floor", bench_text("%.2f ms", version_floor),
                  "%.2f ms, %.2f x", version, version / version_floor);
        bench_row("list", list <= CLIENT_MAX * list_floor, "<= 1.5 x floor", bench_text("%.2f ms", list_floor), "%.2f ms, %.2f x", list,
                  list / list_floor);
        bench_row("list-many", list_many <= 6, "<= 6 ms", bench_text("%.2f ms", list_many_floor), "%.2f ms", list_many);
        (void)bench_gate("daemons that ended badly", n_ended_badly, 0, "");
        bus = sd_bus_flush_close_unref(bus);
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ false, bench);
}

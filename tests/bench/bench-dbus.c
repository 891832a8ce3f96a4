/* SPDX-License-Identifier: MIT */

/*
 * How fast camrescued answers on D-Bus.  At rest, beside the floor daemon, call by call in
 * turn; with a hundred cameras; and while fifty cameras are being written.
 *
 * Latency is what one client sees on the private bus, the bus daemon's part
 * included.  CPU is what the process itself has used.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/cleanup.h"
#include "bench/bench.h"

#define SERVICE "org.camrescue1"
#define FLOOR "org.camrescue1.Floor"
#define ROOT "/org/camrescue1"
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define CALLS_MAX 20000
#define WAIT 60.0
#define TIMEOUT_US 5000000
#define STATUS_RUNS 5
#define WRITING_MAX 50u

#define NEW_VERSION "5.1.0"
#define NEW_SEED 7u

static sd_bus *bus;
static double ours[CALLS_MAX], theirs[CALLS_MAX];

static double call(const char *service, const char *path, const char *interface, const char *member, const char *types, const char *a,
                   const char *b)
{
        sd_bus_message *request = NULL, *reply = NULL;
        sd_bus_error error = SD_BUS_ERROR_NULL;
        double begin;
        int r;

        r = sd_bus_message_new_method_call(bus, &request, service, path, interface, member);
        if (r >= 0 && *types)
                r = types[1] ? sd_bus_message_append(request, types, a, b) : sd_bus_message_append(request, types, a);
        if (r < 0)
                bench_die("no message");
        begin = bench_seconds();
        r = sd_bus_call(bus, request, TIMEOUT_US, &error, &reply);
        begin = bench_seconds() - begin;
        if (r < 0)
                bench_die("%s of %s: %s", member, path, error.message ?: strerror(-r));
        sd_bus_error_free(&error);
        (void)sd_bus_message_unref(request);
        (void)sd_bus_message_unref(reply);
        return begin;
}

static double get_version(const char *service, const char *interface)
{
        return call(service, ROOT, PROPERTIES, "Get", "ss", interface, "Version");
}

static double get_managed_objects(void)
{
        return call(SERVICE, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", "", NULL, NULL);
}

/* --- at rest --- */

static void at_rest(pid_t daemon, pid_t floor, bool smoke)
{
        size_t n = smoke ? 1000 : CALLS_MAX;
        double cpu, floor_cpu, p50, p99, floor_p50, floor_p99;
        struct bench_proc before, after;

        for (size_t i = 0; i < n / 10; i++) {
                (void)get_version(SERVICE, SERVICE ".Manager");
                (void)get_version(FLOOR, FLOOR);
        }
        bench_proc(daemon, &before);
        cpu = bench_cpu(daemon);
        floor_cpu = bench_cpu(floor);
        for (size_t i = 0; i < n; i++) {
                ours[i] = get_version(SERVICE, SERVICE ".Manager");
                theirs[i] = get_version(FLOOR, FLOOR);
        }
        cpu = (bench_cpu(daemon) - cpu) / (double)n * 1e6;
        floor_cpu = (bench_cpu(floor) - floor_cpu) / (double)n * 1e6;
        bench_proc(daemon, &after);
        p50 = bench_quantile(ours, n, 0.5) * 1e6;
        p99 = bench_quantile(ours, n, 0.99) * 1e6;
        floor_p50 = bench_quantile(theirs, n, 0.5) * 1e6;
        floor_p99 = bench_quantile(theirs, n, 0.99) * 1e6;

        bench_say("%zu property reads at rest: p50 %.0f us, p99 %.0f us, CPU %.1f us; of the floor %.0f, %.0f, %.1f", n, p50, p99, cpu,
                  floor_p50, floor_p99, floor_cpu);
        bench_row("read-p50", p50 <= 1.25 * floor_p50, "<= 1.25 x floor", bench_text("%.0f us", floor_p50), "%.0f us, %.2f x", p50,
                  p50 / floor_p50);
        bench_row("read-p99", p99 <= 2 * floor_p99, "<= 2 x floor", bench_text("%.0f us", floor_p99), "%.0f us, %.2f x", p99,
                  p99 / floor_p99);
        bench_row("read-cpu", cpu <= 15, "<= 15 us", bench_text("%.1f us", floor_cpu), "%.1f us", cpu);
        bench_row("drift-calls", after.private_dirty <= before.private_dirty + 32, "<= +32 KiB", "", "%+d KiB",
                  (int)after.private_dirty - (int)before.private_dirty);
        (void)bench_check("property reads leave no memory behind", after.private_dirty <= before.private_dirty + 32);
        (void)bench_check("no thread is begun for a read", after.threads == 1);
}

/* --- many cameras --- */

static void attach(unsigned first, unsigned n)
{
        char name[16];

        for (unsigned i = first; i < first + n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                bench_camera(name, SIM_OPENMV3, /* seed= */ i + 1, /* firmware= */ true, /* adjust= */ NULL);
        }
        (void)bench_tell(MACHINE_PLUG_ALL, "", 100000);
        for (unsigned i = first; i < first + n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                if (!bench_until(name, WAIT, bench_is_running))
                        bench_die("%s does not run", name);
        }
}

static bool is_written(const struct machine_answer *answer)
{
        return answer->counters.programmed_bytes > 0;
}

/* What the daemon itself says that it has. */
struct objects {
        char (*paths)[128];
        unsigned n;
};
static struct objects cameras, updates;

static void add_object(struct objects *objects, const char *path)
{
        objects->paths = reallocarray(objects->paths, objects->n + 1, sizeof(*objects->paths));
        if (!objects->paths)
                bench_die("no memory");
        (void)snprintf(objects->paths[objects->n++], sizeof(*objects->paths), "%s", path);
}

static void find_objects(void)
{
        sd_bus_message *reply = NULL;
        const char *path;

        if (sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL, &reply, "") < 0 ||
            sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}") < 0)
                bench_die("no objects");
        cameras.n = updates.n = 0;
        while (sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}") > 0) {
                if (sd_bus_message_read(reply, "o", &path) < 0 || sd_bus_message_skip(reply, "a{sa{sv}}") < 0)
                        bench_die("an answer that makes no sense");
                if (strstr(path, "/camera/"))
                        add_object(&cameras, path);
                else if (strstr(path, "/update/"))
                        add_object(&updates, path);
                (void)sd_bus_message_exit_container(reply);
        }
        (void)sd_bus_message_unref(reply);
}

/* Cameras and updates in turn, each by Get and by GetAll. */
static double call_object(size_t i)
{
        const struct objects *objects = i % 2 ? &updates : &cameras;
        const char *path = objects->paths[i / 4 % objects->n];
        const char *interface = i % 2 ? SERVICE ".Update" : SERVICE ".Camera";

        return i / 2 % 2 ? call(SERVICE, path, PROPERTIES, "GetAll", "s", interface, NULL)
                         : call(SERVICE, path, PROPERTIES, "Get", "ss", interface, i % 2 ? "BytesDone" : "State");
}

static void hundred(unsigned n)
{
        size_t runs = 200;
        double p50;

        for (size_t i = 0; i < runs; i++)
                ours[i] = get_managed_objects();
        p50 = bench_quantile(ours, runs, 0.5) * 1e3;
        bench_say("GetManagedObjects with %u cameras: p50 %.2f ms, p99 %.2f ms", n, p50, bench_quantile(ours, runs, 0.99) * 1e3);
        bench_row("managed", p50 <= 3, "<= 3 ms p50", "", "%.2f ms", p50);
}

/* How many are being written now, that is have begun and still lack something; ret_most: programmed in the one that is furthest. */
static unsigned writing(unsigned n, uint64_t *ret_most)
{
        unsigned found = 0;
        char name[16];

        *ret_most = 0;
        for (unsigned i = 0; i < n; i++) {
                struct machine_answer answer;

                (void)snprintf(name, sizeof(name), "m7-%u", i);
                answer = bench_tell(MACHINE_COUNTERS, name, 0);
                found += is_written(&answer) && answer.mode == SIM_BOOTLOADER &&
                         answer.counters.programmed_bytes < sim_image_default_size(SIM_OPENMV3);
                *ret_most = MAX(*ret_most, answer.counters.programmed_bytes);
        }
        return found;
}

static void while_writing(unsigned n, size_t calls, pid_t daemon)
{
        static double status[STATUS_RUNS];
        const char *arguments[WRITING_MAX + 6] = { "update", "--no-wait", "--replace-unknown", "--firmware", NEW_VERSION };
        static char port[WRITING_MAX][48];
        unsigned at_first, at_last;
        uint64_t most_at_first, most;
        double p50, p99, worst, begin, took, cpu;
        char name[16];
        int r;

        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                (void)snprintf(port[i], sizeof(port[i]), "%s", bench_tell(MACHINE_COUNTERS, name, 0).port);
                arguments[i + 5] = port[i];
                (void)bench_tell(MACHINE_RESET_COUNTERS, name, 0);
        }
        (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
        r = bench_client(arguments);
        if (r != 7)
                bench_die("camrescue update --no-wait: exit status %d", r);
        (void)bench_tell(MACHINE_PLUG_ALL, "", 100000);
        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(name, sizeof(name), "m7-%u", i);
                if (!bench_until(name, WAIT, is_written))
                        bench_die("%s is not written", name);
        }
        find_objects();
        if (cameras.n != n || updates.n != n)
                bench_die("%u objects of cameras and %u of updates", cameras.n, updates.n);
        at_first = writing(n, &most_at_first);
        cpu = bench_cpu(daemon);
        begin = bench_seconds();
        for (size_t i = 0; i < calls; i++)
                ours[i] = call_object(i);
        took = bench_seconds() - begin;
        cpu = bench_cpu(daemon) - cpu;
        for (unsigned i = 0; i < STATUS_RUNS; i++) {
                begin = bench_seconds();
                if (bench_client((const char *const[]){ "status", NULL }) != 0)
                        bench_die("camrescue status fails");
                status[i] = bench_seconds() - begin;
        }
        at_last = writing(n, &most);
        p50 = bench_quantile(ours, calls, 0.5) * 1e3;
        p99 = bench_quantile(ours, calls, 0.99) * 1e3;
        worst = ours[calls - 1] * 1e3;
        bench_say("%zu calls in %.1f s while %u cameras are written (%u at the end): p50 %.2f ms, p99 %.2f ms, worst %.2f ms; CPU of the daemon "
                  "%.0f %%", calls, took, at_first, at_last, p50, p99, worst, cpu / took * 100);
        bench_say("programmed in the one that is furthest: %llu bytes before, %llu after, of %zu", (unsigned long long)most_at_first,
                  (unsigned long long)most, sim_image_default_size(SIM_OPENMV3));
        bench_say("camrescue status meanwhile: median %.1f ms, worst %.1f ms", bench_quantile(status, STATUS_RUNS, 0.5) * 1e3,
                  bench_quantile(status, STATUS_RUNS, 1) * 1e3);
        (void)bench_check("all of them were being written all the time", at_first == n && at_last == n);
        bench_row("busy-p99", p99 <= 10, "<= 10 ms p99", "", "p50 %.2f, p99 %.2f ms", p50, p99);
        bench_row("busy-status", true, "(printed)", "", "%.1f ms", bench_quantile(status, STATUS_RUNS, 0.5) * 1e3);
        if (calls == 10000)
                (void)bench_gate("p99 of 10,000 calls while fifty cameras are written", p99, 10, "ms");
}

static int bench(bool smoke)
{
        const unsigned n_writing = smoke ? 5 : WRITING_MAX;
        const unsigned n_all = smoke ? 10 : 100;
        pid_t daemon, floor;

        bench_start_bus();
        floor = bench_start_floor();
        daemon = bench_start_daemon("state", NULL);
        bus = bench_open_bus();
        at_rest(daemon, floor, smoke);
        bench_import(SIM_OPENMV3, "5.0.0", 1);
        bench_import(SIM_OPENMV3, NEW_VERSION, NEW_SEED);
        attach(0, n_writing);
        while_writing(n_writing, smoke ? 500 : 10000, daemon);
        (void)bench_end(daemon);
        (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
        (void)bench_start_daemon("state-2", NULL);
        attach(n_writing, n_all - n_writing);
        find_objects();
        (void)bench_check("all cameras are there", cameras.n >= n_all);
        hundred(n_all);
        bus = sd_bus_flush_close_unref(bus);
        free(cameras.paths);
        free(updates.paths);
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ false, bench);
}

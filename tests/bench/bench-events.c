/* SPDX-License-Identifier: MIT */

/*
 * From udev's event to the signal on the bus: one at rest, a hundred at once; and
 * nothing lost when a thousand come while the daemon cannot listen, or when the kernel
 * drops them.  Then ten thousand times in and out, and no memory kept of it.
 *
 * The clock begins just before the machine sends the event, and ends when a client on the
 * private bus has read the signal.
 */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/cleanup.h"
#include "bench/bench.h"

#define SERVICE "org.camrescue1"
#define ROOT "/org/camrescue1"
#define N_CAMERAS 100u
#define GAP_US 250000                   /* longer than a signal of an object may be kept back */
#define SIGNALS_MAX 4096
#define DEADLINE 30.0
#define PLUGGED_PART "m7-0"             /* those whose names begin with it are in at the end */

static sd_bus *bus;
static bool smoke_run;
static unsigned n_cameras;

/* --- signals --- */

static struct {
        double at[SIGNALS_MAX];
        unsigned n, added;
} heard;

static int on_signal(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        if (heard.n < SIGNALS_MAX)
                heard.at[heard.n++] = bench_seconds();
        if (sd_bus_message_is_signal(message, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded") > 0)
                heard.added++;
        return 0;
}

static void listen(void)
{
        bus = bench_open_bus();
        if (sd_bus_match_signal(bus, NULL, SERVICE, NULL, NULL, NULL, on_signal, NULL) < 0)
                bench_die("no match");
}

static void hear_for(double seconds)
{
        double deadline = bench_seconds() + seconds;

        for (;;) {
                double left = deadline - bench_seconds();

                while (sd_bus_process(bus, NULL) > 0)
                        ;
                if (left <= 0)
                        return;
                (void)sd_bus_wait(bus, (uint64_t)(left * 1e6));
        }
}

static void name_of(unsigned i, char name[static 16])
{
        (void)snprintf(name, 16, "m7-%u%u", i % 2, i / 2);
}

/* --- one at rest --- */

static void one_at_rest(void)
{
        enum { ROUNDS = 100 };
        static double latency[ROUNDS];
        unsigned rounds = smoke_run ? 5 : ROUNDS, n = 0;
        struct machine_order order = { .verb = MACHINE_FOREIGN, .name = "foreign" };
        double p50, p99;

        sim_config_default(&order.config, SIM_FOREIGN, /* seed= */ 1000);
        if (machine_ask(&order).error < 0)
                bench_die("no foreign device");
        (void)bench_tell(MACHINE_PLUG, "foreign", 0);
        hear_for(0.5);
        for (unsigned i = 0; i < rounds; i++) {
                double begin = bench_seconds(), deadline = begin + DEADLINE, announced;
                unsigned j;

                heard.n = 0;
                (void)bench_tell(MACHINE_REPLUG, "foreign", GAP_US);
                hear_for(GAP_US / 1e6);
                do {
                        hear_for(0.05);
                        announced = (double)bench_tell(MACHINE_COUNTERS, "foreign", 0).announced_at / 1e6;
                        for (j = 0; j < heard.n && heard.at[j] < announced; j++)
                                ;
                } while ((announced < begin || j == heard.n) && bench_seconds() < deadline);
                if (announced >= begin && j < heard.n)
                        latency[n++] = heard.at[j] - announced;
        }
        p50 = bench_quantile(latency, n, 0.5) * 1e3;
        p99 = bench_quantile(latency, n, 0.99) * 1e3;
        bench_say("event to signal at rest, %u times: p50 %.2f ms, p99 %.2f ms", n, p50, p99);
        (void)bench_check("each arrival is told", n == rounds);
        bench_row("signal", p99 <= 1, "<= 1 ms p99", "", "p50 %.2f, p99 %.2f ms", p50, p99);
        (void)bench_tell(MACHINE_UNPLUG, "foreign", 0);
        hear_for(0.5);
}

/* --- a hundred at once --- */

static void burst(pid_t daemon)
{
        double cpu, deadline, last = 0, told;
        char name[16];

        for (unsigned i = 0; i < n_cameras; i++) {
                name_of(i, name);
                bench_camera(name, SIM_OPENMV3, /* seed= */ i + 1, /* firmware= */ true, NULL);
        }
        heard.added = 0;
        cpu = bench_cpu(daemon);
        deadline = bench_seconds() + DEADLINE;
        (void)bench_tell(MACHINE_PLUG_ALL, "m7-", 0);
        while (heard.added < n_cameras && bench_seconds() < deadline) {
                if (sd_bus_process(bus, NULL) == 0)
                        (void)sd_bus_wait(bus, 100000);
        }
        told = bench_seconds();
        cpu = (bench_cpu(daemon) - cpu) / n_cameras * 1e6;
        for (unsigned i = 0; i < n_cameras; i++) {
                name_of(i, name);
                last = MAX(last, (double)bench_tell(MACHINE_COUNTERS, name, 0).announced_at / 1e6);
        }
        bench_say("%u at once: all told %.1f ms after the last event, %.0f us CPU for each", n_cameras, (told - last) * 1e3, cpu);
        (void)bench_check("each of a burst is told", heard.added >= n_cameras);
        bench_row("burst-cpu", cpu <= 100, "<= 100 us each", "", "%.0f us", cpu);
        bench_row("burst-told", told - last <= 0.010, "<= 10 ms", "", "%.1f ms", (told - last) * 1e3);
}

/* --- nothing lost --- */

/* How many of the cameras the daemon holds to be attached; -1: one of them wrongly so. */
static int attached(void)
{
        sd_bus_message *reply = NULL;
        int n = 0, wrong = 0;
        const char *path;

        if (sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", NULL, &reply, "") < 0 ||
            sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}") < 0)
                bench_die("no cameras");
        while (sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}") > 0) {
                char *port = NULL, *serial = NULL;
                int is_attached = 0;

                if (sd_bus_message_read(reply, "o", &path) < 0 || sd_bus_message_skip(reply, "a{sa{sv}}") < 0)
                        bench_die("an answer that makes no sense");
                if (strstr(path, "/camera/")) {
                        if (sd_bus_get_property_trivial(bus, SERVICE, path, SERVICE ".Camera", "Attached", NULL, 'b', &is_attached) < 0 ||
                            sd_bus_get_property_string(bus, SERVICE, path, SERVICE ".Camera", "Port", NULL, &port) < 0)
                                bench_die("no property");
                        if (is_attached) {
                                bool found = false;
                                char name[16];

                                n++;
                                for (unsigned i = 0; i < n_cameras && !found; i++) {
                                        struct machine_answer answer;

                                        name_of(i, name);
                                        answer = bench_tell(MACHINE_COUNTERS, name, 0);
                                        found = answer.is_plugged && strcmp(answer.port, port) == 0;
                                }
                                wrong += !found;
                        }
                }
                free(port);
                free(serial);
                (void)sd_bus_message_exit_container(reply);
        }
        (void)sd_bus_message_unref(reply);
        return wrong ? -1 : n;
}

static bool becomes(unsigned wanted)
{
        double deadline = bench_seconds() + DEADLINE;

        while (attached() != (int)wanted) {
                if (bench_seconds() > deadline)
                        return false;
                hear_for(0.1);
        }
        return true;
}

/* What the kernel has dropped of the daemon's netlink socket. */
static unsigned dropped(pid_t daemon)
{
        _cleanup_fclose_ FILE *f = fopen("/proc/self/net/netlink", "re");
        unsigned total = 0, drops;
        char line[256];
        int pid;

        while (f && fgets(line, sizeof(line), f))
                if (sscanf(line, "%*s %*u %d %*s %*u %*u %*u %*u %u", &pid, &drops) == 2 && pid == (int)daemon)
                        total += drops;
        return total;
}

static bool is_announced(const struct machine_answer *answer)
{
        return answer->is_announced;
}

/* Plugs in those whose names begin with it, and waits until the events of all of them are out. */
static void plug_in(const char *part)
{
        (void)bench_tell(MACHINE_PLUG_ALL, part, 0);
        for (unsigned i = 0; i < n_cameras; i++) {
                char name[16];

                name_of(i, name);
                if (strncmp(name, part, strlen(part)) == 0 && !bench_until(name, 30, is_announced))
                        bench_die("%s does not come", name);
        }
}

static void lost(pid_t daemon)
{
        unsigned half = n_cameras / 2, rounds = 5, before = dropped(daemon), drops;
        bool right;

        (void)kill(daemon, SIGSTOP);
        for (unsigned i = 0; i < rounds; i++) {
                (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
                plug_in(i + 1 < rounds ? "m7-" : PLUGGED_PART);
        }
        (void)kill(daemon, SIGCONT);
        right = becomes(half);
        drops = dropped(daemon) - before;
        bench_say("%u and more events while stopped: %u lost, the end state is %s", rounds * n_cameras * 2 - half, drops, right ? "right" : "wrong");
        (void)bench_check("after a thousand events all is as it is", right);
        bench_row("lost", right && drops == 0, "0 lost of 1000", "", "%u lost", drops);

        (void)kill(daemon, SIGSTOP);
        (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
        before = dropped(daemon);
        (void)bench_tell(MACHINE_OVERFLOW, "", 0);
        plug_in("m7-1");
        drops = dropped(daemon) - before;
        (void)kill(daemon, SIGCONT);
        right = becomes(n_cameras - half);
        bench_say("events dropped by the kernel: %u, the end state is %s", drops, right ? "right" : "wrong");
        (void)bench_check("after ENOBUFS all is as it is", right && drops > 0);
        bench_row("enobufs", right && drops > 0, "right end state", "", right ? "right" : "wrong");
}

/* --- in and out --- */

static void settle(pid_t daemon)
{
        double deadline = bench_seconds() + 60;
        struct bench_proc before, after;
        unsigned quiet = 0;

        bench_proc(daemon, &after);
        while (quiet < 6 && bench_seconds() < deadline) {
                before = after;
                hear_for(1);
                bench_proc(daemon, &after);
                quiet = after.switches == before.switches ? quiet + 1 : 0;
        }
}

/* So many rounds of all of them.  Each round is worked on before the next, so that no event is lost. */
static void in_and_out(unsigned rounds)
{
        char name[16];

        for (unsigned round = 0; round < rounds; round++) {
                sd_bus_message *reply = NULL;

                (void)bench_tell(MACHINE_PLUG_ALL, "", 0);
                for (unsigned i = 0; i < n_cameras; i++) {
                        name_of(i, name);
                        if (!bench_until(name, DEADLINE, is_announced))
                                bench_die("%s does not come", name);
                }
                if (!bench_until("foreign", DEADLINE, is_announced))
                        bench_die("the foreign device does not come");
                (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
                if (sd_bus_call_method(bus, SERVICE, ROOT, "org.freedesktop.DBus.Peer", "Ping", NULL, &reply, "") < 0)
                        bench_die("camrescued does not answer");
                (void)sd_bus_message_unref(reply);
                while (sd_bus_process(bus, NULL) > 0)
                        ;
        }
}

static void drift(pid_t daemon)
{
        unsigned half = 5000 / n_cameras;
        struct bench_proc first, middle, last;
        int all, second;

        (void)bench_tell(MACHINE_UNPLUG_ALL, "", 0);
        in_and_out(2);                          /* all are known, and have been away */
        settle(daemon);
        bench_proc(daemon, &first);
        in_and_out(half);
        settle(daemon);
        bench_proc(daemon, &middle);
        in_and_out(half);
        settle(daemon);
        bench_proc(daemon, &last);
        all = (int)last.private_dirty - (int)first.private_dirty;
        second = (int)last.private_dirty - (int)middle.private_dirty;
        bench_say("%u times in and out: %+d KiB, of them %+d in the second half", 2 * half * n_cameras, all, second);
        /* How much the first half takes is for the table to judge, which knows a reason. */
        (void)bench_check("coming and going leaves no memory behind: the second half is flat", second <= 16);
        bench_row("drift-events", all <= 64 && second <= 16, "<= +64 KiB, then flat", "", "%+d, then %+d KiB", all - second, second);
}

static int bench(bool smoke)
{
        pid_t daemon;

        smoke_run = smoke;
        n_cameras = smoke ? 10 : N_CAMERAS;
        bench_start_bus();
        daemon = bench_start_daemon("state", NULL);
        listen();
        one_at_rest();
        burst(daemon);
        lost(daemon);
        if (!smoke)
                drift(daemon);
        bus = sd_bus_flush_close_unref(bus);
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ false, bench);
}

/* SPDX-License-Identifier: MIT */

/*
 * The reliability campaign with the real daemon: recoveries of four cameras at a
 * time, broken at points that are spread over all of their transfers, on several
 * private machines beside each other.
 *
 * A round gives every camera a new firmware and breaks that in one way: cables
 * pulled (before a request, after its data, before its status, in the middle of the
 * flash operation), the daemon killed, stopped for 5 s, told to end, the whole machine
 * rebooted, or two of these.  Then a hand plugs in again what is unplugged or silent, on
 * any port, and takes the jumper off when it is told to.  In the end every camera runs
 * the right bytes and its update is done, at the cost of no more than one erase unit for each interruption; the camera and the other
 * STM32 beside them have not been written to; and the daemon has as many threads and descriptors as before.
 *
 * $BREAKS: how many cases (a case is one camera in one broken round); $SEED: another
 * campaign; $WORKERS: machines; $KEEP: the directory stays; $TRACE: with every request in it.  Bytes, counters and power come from the simulated cameras; the daemon is only asked what a
 * client may ask it.
 */

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/loop.h"
#include "bench/bench.h"

#ifdef __SANITIZE_ADDRESS__
#define DEFAULT_CASES 60                /* three times as slow */
#else
#define DEFAULT_CASES 140
#endif
#define WORKERS_MAX 8
#define IMAGE_SIZE 300000u              /* two erase units of M7, three of H7, five of N6, 98 of AE3 */
#define FLASH_SPEED 100
#define ROUND_DEADLINE 60.0             /* seconds; a stop and three windows are 15 */
#define SETTLE_DEADLINE 10.0
#define STOP_BOUND 9.0                  /* of the daemon's end */
#define STOPPED 5.0                     /* SIGSTOP to SIGCONT */
#define SILENCE 0.3                     /* after which a hand takes a camera that shows nothing for dead */
#define IDLE_RUNTIME 0.5                /* a camera that runs, and its update waits: a replug is what it waits for */
#define REPLUGS_MAX 25
#define N_VICTIMS 4
#define UPDATES_MAX 2048

enum break_kind {
        BREAK_NONE,                     /* measures how many transfers there are */
        BREAK_UNPLUG_BEFORE,
        BREAK_UNPLUG_DATA,
        BREAK_UNPLUG_STATUS,
        BREAK_UNPLUG_FLASH,
        BREAK_KILL,
        BREAK_UNPLUG_KILL,
        BREAK_STOP,
        BREAK_UNPLUG_STOP,
        BREAK_END,                      /* SIGTERM, and started again */
        BREAK_REBOOT,                   /* in order */
        BREAK_POWER,                    /* without */
        _BREAK_MAX
};

static const char *const kind_names[] = {
        [BREAK_NONE] = "unbroken",
        [BREAK_UNPLUG_BEFORE] = "unplug-before",
        [BREAK_UNPLUG_DATA] = "unplug-data",
        [BREAK_UNPLUG_STATUS] = "unplug-status",
        [BREAK_UNPLUG_FLASH] = "unplug-flash",
        [BREAK_KILL] = "sigkill",
        [BREAK_UNPLUG_KILL] = "unplug+sigkill",
        [BREAK_STOP] = "sigstop",
        [BREAK_UNPLUG_STOP] = "unplug+sigstop",
        [BREAK_END] = "sigterm",
        [BREAK_REBOOT] = "reboot",
        [BREAK_POWER] = "power-cut",
};

/* Any other end than these is a failure: nothing is broken here that a replug or a new daemon would not mend. */
enum outcome {
        OUTCOME_DONE,                   /* broken, and in the end the right bytes run */
        OUTCOME_NOT_REACHED,            /* it had come to its end before its point was reached: no case */
        _OUTCOME_MAX,
};

/* --- what outlives a machine --- */

struct path_length {
        unsigned transfers, get_status;
};

struct round {
        unsigned number;
        enum break_kind kind;
        bool through_rom;               /* the first camera, M7 */
        bool is_resumed;                /* after a reboot */
        unsigned leader;                /* whose transfers the strike counts */
        bool was_open[N_VICTIMS];       /* at the break */
};

struct worker {
        unsigned number, seed, wanted;
        pid_t pid;
        char directory[128];
        /* its campaign */
        unsigned cases, epochs;
        struct round round;
        unsigned target[N_VICTIMS];     /* version that each is to have, or has */
        struct path_length lengths[N_VICTIMS][2];       /* [through the ROM] */
        unsigned counts[_BREAK_MAX][_OUTCOME_MAX];
        unsigned starts, orderly_ends, leak_checks, overflows, replugs;
        double slowest_round;
        bool is_ready, is_done;
};

static struct worker *worker;           /* of this process */

static const struct nature {
        const char *name;
        enum sim_board board;
        const char *ports[3];
} natures[N_VICTIMS] = {
        { "m7", SIM_OPENMV3, { "1-1", "2-1.1", "3-7" } },
        { "h7", SIM_OPENMV4, { "1-2", "2-1.2", "3-8" } },
        { "n6", SIM_OPENMV_N6, { "1-3", "2-2", "3-9.4" } },
        { "ae3", SIM_OPENMV_AE3, { "1-4", "2-3", "3-9.5" } },
};
static const char *const versions[2] = { "5.0.0", "5.0.1" };

/* --- randomness: the same seed, the same campaign --- */

static uint64_t random_state;

static uint32_t random_below(uint32_t n)
{
        random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(random_state >> 33) % n;
}

/* 0 <= x < 1, each next one where none has been yet. */
static double next_point(void)
{
        static unsigned n;
        double x = (worker->seed % 1000) / 1000.0 + (worker->round.number * N_VICTIMS + n++ % N_VICTIMS) * 0.6180339887498949;

        return x - (double)(uint64_t)x;
}

/* --- one camera --- */

struct victim {
        const struct nature *nature;
        char id[25];                    /* as the daemon calls it */
        char camera[96], state[32], update[96];
        enum { CABLE_IN, CABLE_OUT, CABLE_COMING } cable;
        uint64_t plugs;                 /* while it is coming: how often it had been plugged in */
        double plug_at, silent_since, runtime_since;
        unsigned replugs, interruptions;
        bool is_broken, is_done;
};

struct stage {
        sd_bus *bus;
        pid_t daemon;
        bool is_stopped;
        double stopped_until, round_began;
        bool is_struck;                 /* and that was seen to */
        struct victim victims[N_VICTIMS];
        struct {
                char path[96], result[16], error[40], message[200];
        } updates[UPDATES_MAX];
        size_t n_updates;
        unsigned baseline_fds;          /* of the present daemon with everything at rest; 0: not counted yet */
};

static struct stage stage;

static struct machine_answer ask(struct machine_order *order, const char *name)
{
        (void)snprintf(order->name, sizeof(order->name), "%s", name);
        return machine_ask(order);
}

static struct machine_answer look_at(const char *name)
{
        return ask(&(struct machine_order){ .verb = MACHINE_COUNTERS }, name);
}

static void must(int error, const char *what)
{
        if (error < 0)
                bench_die("%s: %s", what, strerror(-error));
}

/* --- failing --- */

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
        char log[256], line[512];
        _cleanup_fclose_ FILE *f = NULL;
        char tail[60][256];
        size_t n = 0;
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(line, sizeof(line), format, ap);
        va_end(ap);
        bench_say("machine %u, seed %u, round %u (%s%s): %s", worker->number, worker->seed, worker->round.number,
                  kind_names[worker->round.kind], worker->round.through_rom ? ", M7 through its ROM" : "", line);
        for (size_t i = 0; i < N_VICTIMS; i++) {
                const struct victim *victim = &stage.victims[i];
                struct machine_answer answer = look_at(victim->nature->name);

                bench_say("  %s: %s%s, cable %d, daemon says %s, update %s; %u interruptions, %u replugs", victim->nature->name,
                          sim_mode_name(answer.mode), answer.is_announced ? "" : " (not announced)", (int)victim->cable,
                          victim->state, victim->update, victim->interruptions, victim->replugs);
        }
        f = fopen(bench_path("camrescued.log", log), "re");
        while (f && fgets(line, sizeof(line), f))
                (void)snprintf(tail[n++ % ELEMENTSOF(tail)], sizeof(tail[0]), "%.250s", line);
        for (size_t i = n > ELEMENTSOF(tail) ? n - ELEMENTSOF(tail) : 0; i < n; i++) {
                tail[i % ELEMENTSOF(tail)][strcspn(tail[i % ELEMENTSOF(tail)], "\n")] = 0;
                bench_say("    %s", tail[i % ELEMENTSOF(tail)]);
        }
        bench_die("machine %u", worker->number);
}

/* --- what the daemon says --- */

static int updates_find(const char *path)
{
        for (size_t i = stage.n_updates; i-- > 0;)
                if (strcmp(stage.updates[i].path, path) == 0)
                        return (int)i;
        if (stage.n_updates == UPDATES_MAX)
                bench_die("more updates than there is room for");
        (void)snprintf(stage.updates[stage.n_updates].path, sizeof(stage.updates[0].path), "%s", path);
        return (int)stage.n_updates++;
}

static struct victim *victim_at(const char *camera)
{
        for (size_t i = 0; i < N_VICTIMS; i++)
                if (strcmp(stage.victims[i].camera, camera) == 0)
                        return &stage.victims[i];
        return NULL;
}

static void note(const char *path, const char *property, const char *value)
{
        struct victim *victim = victim_at(path);

        if (strcmp(property, "UniqueId") == 0)
                for (size_t i = 0; i < N_VICTIMS && !victim; i++)
                        if (strcmp(stage.victims[i].id, value) == 0) {
                                victim = &stage.victims[i];
                                (void)snprintf(victim->camera, sizeof(victim->camera), "%s", path);
                        }
        if (victim && strcmp(property, "State") == 0)
                (void)snprintf(victim->state, sizeof(victim->state), "%s", value);
        else if (victim && strcmp(property, "Update") == 0)
                (void)snprintf(victim->update, sizeof(victim->update), "%s", value);
        else if (strcmp(property, "Result") == 0)
                (void)snprintf(stage.updates[updates_find(path)].result, sizeof(stage.updates[0].result), "%s", value);
        else if (strcmp(property, "Error") == 0 && strncmp(path, "/org/camrescue1/update/", 23) == 0)
                (void)snprintf(stage.updates[updates_find(path)].error, sizeof(stage.updates[0].error), "%s", value);
        else if (strcmp(property, "Message") == 0)
                (void)snprintf(stage.updates[updates_find(path)].message, sizeof(stage.updates[0].message), "%s", value);
}

/* a{sv}; twice, because whose they are may stand behind what they say. */
static int read_properties(sd_bus_message *m, const char *path)
{
        const char *name, *contents, *text;
        char type;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = sd_bus_message_peek_type(m, &type, &contents);
                if (r < 0)
                        return r;
                if (strcmp(contents, "s") == 0 || strcmp(contents, "o") == 0) {
                        r = sd_bus_message_read(m, "v", contents, &text);
                        if (r >= 0)
                                note(path, name, text);
                } else {
                        r = sd_bus_message_skip(m, "v");
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* a{sa{sv}} */
static int read_interfaces(sd_bus_message *m, const char *path)
{
        const char *interface;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                r = sd_bus_message_read(m, "s", &interface);
                if (r >= 0)
                        r = read_properties(m, path);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
        const char *path, *interface;
        int r = 0;

        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Properties", "PropertiesChanged")) {
                r = sd_bus_message_read(m, "s", &interface);
                if (r >= 0)
                        r = read_properties(m, sd_bus_message_get_path(m));
        } else if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded")) {
                r = sd_bus_message_read(m, "o", &path);
                if (r >= 0)
                        r = read_interfaces(m, path);
        }
        must(r, "reading a signal");
        return 0;
}

static void process_bus(void)
{
        int r;

        while ((r = sd_bus_process(stage.bus, NULL)) > 0)
                ;
        must(r, "the bus");
}

/* Everything, from a daemon that has just said that it is ready. */
static void ask_everything(void)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *path;
        int r = 0;

        /* Whose properties these are is known only when all were read once; and what the daemon before this one had said last is
         * read before the first answer, and must not be believed after it. */
        for (unsigned pass = 0; pass < 2 && r >= 0; pass++) {
                r = sd_bus_call_method(stage.bus, "org.camrescue1", "/org/camrescue1", "org.freedesktop.DBus.ObjectManager",
                                       "GetManagedObjects", &error, &reply, "");
                if (r >= 0)
                        r = sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}");
                while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}")) > 0) {
                        r = sd_bus_message_read(reply, "o", &path);
                        if (r >= 0)
                                r = read_interfaces(reply, path);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(reply);
                }
                reply = sd_bus_message_unref(reply);
                if (pass == 0)
                        process_bus();
        }
        if (r < 0)
                give_up("the daemon does not say what there is: %s", error.message ?: strerror(-r));
}

static void connect_bus(void)
{
        must(sd_bus_open_system(&stage.bus), "connecting to the bus");
        must(sd_bus_add_match(stage.bus, NULL, "type='signal',path_namespace='/org/camrescue1'", on_signal, NULL), "adding a match");
}

static void start_daemon(void)
{
        stage.daemon = bench_start_daemon("state", NULL);
        stage.baseline_fds = 0;
        worker->starts++;
        ask_everything();
}

static const char *result_of(const struct victim *victim)
{
        if (strcmp(victim->update, "/") == 0 || !*victim->update)
                return "";
        return stage.updates[updates_find(victim->update)].result;
}

static bool is_open(const struct victim *victim)
{
        const char *result = result_of(victim);

        /* Of an update that was not heard of yet there is nothing to know. */
        return *victim->update && strcmp(victim->update, "/") != 0 && (!*result || strcmp(result, "open") == 0);
}

/* Until something happens, or it is time. */
static void wait_until(double when)
{
        struct pollfd fds[2] = { { .fd = sd_bus_get_fd(stage.bus), .events = POLLIN }, { .fd = machine_news(), .events = POLLIN } };
        double left = when - bench_seconds();
        char bytes[256];

        process_bus();
        if (left > 0)
                (void)poll(fds, ELEMENTSOF(fds), (int)(left * 1000) + 1);
        while (recv(machine_news(), bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
                ;
        process_bus();
}

/* --- images --- */

struct part {
        const char *partition;
        unsigned seed;
        uint32_t size;
};

/* AE3 has an image for each of its cores. */
static size_t parts_of(enum sim_board board, unsigned version, struct part parts[2])
{
        parts[0] = (struct part){ board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE", 10 + version, IMAGE_SIZE };
        parts[1] = (struct part){ "HE", 20 + version, IMAGE_SIZE / 4 };
        return board == SIM_OPENMV_AE3 ? 2 : 1;
}

static struct machine_order part_order(enum machine_verb verb, const struct part *part, unsigned version)
{
        struct machine_order order = { .verb = verb, .value = (int)part->size, .seed = part->seed, .image_size = part->size };

        (void)snprintf(order.partition, sizeof(order.partition), "%s", part->partition);
        (void)snprintf(order.version, sizeof(order.version), "%s", versions[version]);
        return order;
}

static void import(enum sim_board board, const char *partition, const char *version, const uint8_t *image, size_t size)
{
        char name[80], path[256];

        (void)snprintf(name, sizeof(name), "%s-%s-%s.bin", sim_board_name(board), partition, version);
        bench_write_file(name, image, size);
        if (bench_client((const char *const[]){ "firmware", "import", "--board", sim_board_name(board), "--partition", partition,
                                                "--version", version, "--stable", bench_path(name, path), NULL }) != 0)
                bench_die("%s: not imported", name);
}

static void fill_store(void)
{
        _cleanup_free_ uint8_t *bootloader = NULL;
        size_t size;

        for (size_t i = 0; i < N_VICTIMS; i++)
                for (unsigned version = 0; version < ELEMENTSOF(versions); version++) {
                        struct part parts[2];
                        size_t n = parts_of(natures[i].board, version, parts);

                        for (size_t j = 0; j < n; j++) {
                                _cleanup_free_ uint8_t *image = NULL;

                                must(sim_image_firmware(natures[i].board, versions[version], parts[j].seed, parts[j].size, &image),
                                     "an image");
                                import(natures[i].board, parts[j].partition, versions[version], image, parts[j].size);
                        }
                }
        must(sim_image_bootloader(SIM_OPENMV3, SIM_BL_1_0_3, /* padded= */ false, &bootloader, &size), "a bootloader");
        import(SIM_OPENMV3, "BOOTLOADER", versions[0], bootloader, size);
}

/* --- the machine --- */

static const char *saved_path(const char *name, char path[static 256])
{
        char file[64];

        (void)snprintf(file, sizeof(file), "%s.saved", name);
        return bench_path(file, path);
}

static void make_camera(const char *name, enum sim_board board, unsigned seed)
{
        struct machine_order order = { .verb = board == SIM_FOREIGN ? MACHINE_FOREIGN : MACHINE_CAMERA };
        char path[256];

        sim_config_default(&order.config, board, seed);
        if (board == SIM_FOREIGN)
                order.config.chip = SIM_F765;           /* the chip that M7 has */
        order.config.flash_speed = FLASH_SPEED;
        order.config.usb_speed = 0;
        order.config.boot_us = 10 * MSEC;
        order.config.window_scale = 2;                  /* whoever else wants the processor */
        must(ask(&order, name).error, "making a camera");
        if (worker->is_ready) {
                order = (struct machine_order){ .verb = MACHINE_LOAD };
                (void)snprintf(order.path, sizeof(order.path), "%s", saved_path(name, path));
                must(ask(&order, name).error, "loading a camera");
                return;
        }
        if (board != SIM_FOREIGN) {
                struct part parts[2];
                size_t n = parts_of(board, 0, parts);

                for (size_t i = 0; i < n; i++) {
                        order = part_order(MACHINE_FIRMWARE, &parts[i], 0);
                        must(ask(&order, name).error, "a camera's firmware");
                }
        }
}

static void set_up_cameras(void)
{
        for (size_t i = 0; i < N_VICTIMS; i++) {
                struct victim *victim = &stage.victims[i];
                struct sim_config config;

                victim->nature = &natures[i];
                sim_config_default(&config, natures[i].board, 10 + (unsigned)i);
                /* As its bootloader shows it (identity.md section 1). */
                for (size_t j = 0; j < sizeof(config.uid); j++)
                        (void)snprintf(victim->id + 2 * j, 3, "%02X",
                                       config.uid[natures[i].board == SIM_OPENMV_AE3 ? j : sizeof(config.uid) - 1 - j]);
                make_camera(natures[i].name, natures[i].board, 10 + (unsigned)i);
        }
        make_camera("beside", SIM_OPENMV3, 30);
        make_camera("drone", SIM_FOREIGN, 31);
}

static void plug(const char *name, const char *port, int gap)
{
        struct machine_order order = { .verb = MACHINE_REPLUG, .value = gap };

        if (port)
                (void)snprintf(order.port, sizeof(order.port), "%s", port);
        must(ask(&order, name).error, "plugging in");
}

static void plug_first(const char *name, const char *port)
{
        struct machine_order order = { .verb = MACHINE_PLUG };

        (void)snprintf(order.port, sizeof(order.port), "%s", port);
        must(ask(&order, name).error, "plugging in");
}

static void plug_everything(void)
{
        unsigned first = random_below(N_VICTIMS);

        plug_first("beside", "1-9");
        plug_first("drone", "1-10");
        for (size_t i = 0; i < N_VICTIMS; i++) {
                struct victim *victim = &stage.victims[(first + i) % N_VICTIMS];

                plug_first(victim->nature->name, victim->nature->ports[random_below(3)]);
        }
}

/* --- the hand --- */

/* It comes when it comes; and a fault may have pulled it again by the time that somebody looks. */
static void plug_in(struct victim *victim, const char *port, int gap)
{
        victim->plugs = look_at(victim->nature->name).counters.plugs;
        plug(victim->nature->name, port, gap);
        victim->cable = CABLE_COMING;
}

static void hand_replugs(struct victim *victim, int gap)
{
        if (++victim->replugs > REPLUGS_MAX)
                give_up("%s was plugged in again and again, and gets nowhere", victim->nature->name);
        worker->replugs++;
        plug_in(victim, random_below(2) ? victim->nature->ports[random_below(3)] : NULL, gap);
        victim->silent_since = victim->runtime_since = 0;
}

static void take_jumper_off(struct victim *victim)
{
        must(ask(&(struct machine_order){ .verb = MACHINE_JUMPER, .value = false }, victim->nature->name).error, "the jumper");
        hand_replugs(victim, 20 * (int)MSEC);
}

/* true: for the first time since it was reset, or at least so long ago. */
static bool is_since(double *since, bool holds, double seconds)
{
        if (!holds) {
                *since = 0;
                return false;
        }
        if (*since == 0)
                *since = bench_seconds();
        return bench_seconds() - *since >= seconds;
}

static void hand_cares_for(struct victim *victim)
{
        struct machine_answer answer = look_at(victim->nature->name);

        if (victim->cable == CABLE_COMING && answer.counters.plugs > victim->plugs)
                victim->cable = CABLE_IN;
        if (victim->cable == CABLE_IN && !answer.is_plugged) {
                /* A fault has pulled it. */
                victim->cable = CABLE_OUT;
                victim->is_broken = true;
                victim->interruptions++;
                victim->plug_at = bench_seconds() + 0.05 * random_below(5);
        }
        if (victim->cable == CABLE_OUT && bench_seconds() >= victim->plug_at)
                hand_replugs(victim, 0);
        if (victim->cable != CABLE_IN)
                return;
        if (is_since(&victim->silent_since, answer.mode == SIM_SILENT, SILENCE)) {
                hand_replugs(victim, 20 * (int)MSEC);
                return;
        }
        if (stage.is_stopped)
                return;
        if (answer.mode == SIM_ROM_DFU && strcmp(victim->state, "jumper") == 0)
                take_jumper_off(victim);
        else if (is_since(&victim->runtime_since, answer.mode == SIM_RUNTIME && answer.is_announced && is_open(victim) &&
                          strcmp(victim->state, "running") == 0, IDLE_RUNTIME))
                hand_replugs(victim, 20 * (int)MSEC);
        victim->is_done = !is_open(victim) && answer.mode == SIM_RUNTIME && answer.is_announced && strcmp(victim->state, "running") == 0;
}

/* --- the strikes --- */

static void check_bystanders(void)
{
        struct machine_answer beside = look_at("beside"), drone = look_at("drone");

        if (beside.counters.transfers > 0 || beside.counters.erases > 0 || beside.counters.programmed_bytes > 0)
                give_up("the camera beside them had %" PRIu64 " transfers", beside.counters.transfers);
        if (drone.counters.download > 0 || drone.counters.erases > 0 || drone.counters.programmed_bytes > 0)
                give_up("what is no camera was written to: %" PRIu64 " DNLOAD", drone.counters.download);
}

static void everything_was_interrupted(void)
{
        for (size_t i = 0; i < N_VICTIMS; i++) {
                struct victim *victim = &stage.victims[i];

                victim->interruptions++;
                if (is_open(victim))
                        victim->is_broken = worker->round.was_open[i] = true;
        }
}

static void save(const char *name)
{
        struct machine_order order = { .verb = MACHINE_SAVE };
        char path[256];

        (void)ask(&(struct machine_order){ .verb = MACHINE_UNPLUG }, name);
        (void)snprintf(order.path, sizeof(order.path), "%s", saved_path(name, path));
        must(ask(&order, name).error, "saving a camera");
}

static void end_daemon(void)
{
        double began = bench_seconds(), took;
        int status = bench_end(stage.daemon);

        stage.daemon = 0;
        took = bench_seconds() - began;
        if (status != 0)
                give_up("told to end, the daemon ended with status %d", status);
        if (took > STOP_BOUND)
                give_up("told to end, the daemon took %.1f s", took);
        worker->orderly_ends++;
}

static void reboot_machine(bool in_order)
{
        everything_was_interrupted();
        if (in_order) {
                end_daemon();
        } else {
                (void)kill(stage.daemon, SIGKILL);
                (void)bench_wait(stage.daemon);
                stage.daemon = 0;
        }
        for (size_t i = 0; i < N_VICTIMS; i++)
                save(stage.victims[i].nature->name);
        check_bystanders();
        save("beside");
        save("drone");
        worker->round.is_resumed = true;
}

/* Each for a time of its own, and not for longer than that. */
static void pull_everything(double longest)
{
        for (size_t i = 0; i < N_VICTIMS; i++) {
                struct victim *victim = &stage.victims[i];

                if (victim->cable != CABLE_IN)
                        continue;
                (void)ask(&(struct machine_order){ .verb = MACHINE_UNPLUG }, victim->nature->name);
                victim->cable = CABLE_OUT;
                victim->plug_at = bench_seconds() + longest * random_below(30) / 30;
        }
}

/* false: the machine is down. */
static bool after_the_strike(void)
{
        stage.is_struck = true;
        switch (worker->round.kind) {
        case BREAK_KILL:
        case BREAK_UNPLUG_KILL:
                (void)bench_wait(stage.daemon);
                everything_was_interrupted();
                /* Sometimes the cable goes while nobody looks. */
                if (random_below(3) == 0)
                        pull_everything(0.3);
                start_daemon();
                break;
        case BREAK_END: {
                double began = bench_seconds();
                int status = bench_wait(stage.daemon);

                if (status != 0 || bench_seconds() - began > STOP_BOUND)
                        give_up("told to end, the daemon took %.1f s, and its status is %d", bench_seconds() - began, status);
                worker->orderly_ends++;
                everything_was_interrupted();
                start_daemon();
                break;
        }
        case BREAK_STOP:
        case BREAK_UNPLUG_STOP:
                everything_was_interrupted();
                stage.is_stopped = true;
                stage.stopped_until = bench_seconds() + STOPPED;
                /* They are back before the daemon goes on, most of them. */
                if (worker->round.kind == BREAK_UNPLUG_STOP)
                        pull_everything(1.2 * STOPPED);
                /* Who does not listen for so long may lose what was said. */
                if (worker->round.kind == BREAK_UNPLUG_STOP || random_below(2) == 0) {
                        must(ask(&(struct machine_order){ .verb = MACHINE_OVERFLOW }, "").error, "an overflow");
                        worker->overflows++;
                }
                break;
        case BREAK_REBOOT:
        case BREAK_POWER:
                reboot_machine(worker->round.kind == BREAK_REBOOT);
                return false;
        case BREAK_NONE:
        case BREAK_UNPLUG_BEFORE:
        case BREAK_UNPLUG_DATA:
        case BREAK_UNPLUG_STATUS:
        case BREAK_UNPLUG_FLASH:
        case _BREAK_MAX:
                break;
        }
        return true;
}

/* --- a round --- */

static bool kind_unplugs(enum break_kind kind)
{
        return (kind >= BREAK_UNPLUG_BEFORE && kind <= BREAK_UNPLUG_FLASH) || kind == BREAK_UNPLUG_KILL;
}

static int kind_signal(enum break_kind kind)
{
        switch (kind) {
        case BREAK_KILL:
        case BREAK_UNPLUG_KILL:
        case BREAK_POWER:
                return SIGKILL;
        case BREAK_STOP:
        case BREAK_UNPLUG_STOP:
                return SIGSTOP;
        case BREAK_END:
                return SIGTERM;
        case BREAK_REBOOT:
                return 0;       /* asks; the strike only tells when */
        case BREAK_NONE:
        case BREAK_UNPLUG_BEFORE:
        case BREAK_UNPLUG_DATA:
        case BREAK_UNPLUG_STATUS:
        case BREAK_UNPLUG_FLASH:
        case _BREAK_MAX:
                break;
        }
        return -1;
}

/* By how much each is worth, and what it costs: a stop takes 5 s, a reboot a new machine. */
static enum break_kind choose_kind(unsigned round)
{
        static const enum break_kind order[] = {
                BREAK_UNPLUG_BEFORE, BREAK_KILL, BREAK_UNPLUG_DATA, BREAK_UNPLUG_KILL, BREAK_UNPLUG_STATUS, BREAK_END,
                BREAK_UNPLUG_FLASH, BREAK_KILL, BREAK_UNPLUG_FLASH, BREAK_REBOOT, BREAK_UNPLUG_BEFORE, BREAK_UNPLUG_KILL,
                BREAK_UNPLUG_STATUS, BREAK_STOP, BREAK_UNPLUG_DATA, BREAK_KILL, BREAK_UNPLUG_FLASH, BREAK_POWER,
                BREAK_UNPLUG_STATUS, BREAK_UNPLUG_STOP,
        };

        /* Two machines begin at different places, so that a short campaign has everything, too. */
        return order[(round + worker->number * 10) % ELEMENTSOF(order)];
}

static void break_by_fault(size_t i, enum break_kind kind)
{
        static const enum sim_fault_kind faults[] = {
                [BREAK_UNPLUG_BEFORE] = SIM_FAULT_UNPLUG_BEFORE, [BREAK_UNPLUG_DATA] = SIM_FAULT_UNPLUG_DATA,
                [BREAK_UNPLUG_STATUS] = SIM_FAULT_UNPLUG_STATUS, [BREAK_UNPLUG_FLASH] = SIM_FAULT_UNPLUG_FLASH,
        };
        const struct path_length *length = &worker->lengths[i][i == 0 && worker->round.through_rom];
        enum break_kind each = kind == BREAK_UNPLUG_KILL ? BREAK_UNPLUG_BEFORE + random_below(4) : kind;
        struct machine_order order = { .verb = MACHINE_FAULT };
        double point = next_point();

        order.fault = (struct sim_fault){ .kind = faults[each], .request_type = -1, .request = -1, .count = 1 };
        if (each == BREAK_UNPLUG_FLASH) {
                /* Every other GETSTATUS starts a flash operation, and power goes within its erase, or between two words; of the one
                 * that starts none nothing comes. */
                order.fault.request_type = 0xa1;
                order.fault.request = 3;
                order.fault.skip = (unsigned)(point * length->get_status);
                order.fault.count = 2;
                order.fault.length = random_below(2) ? 32 * random_below(128) : 0;
        } else {
                order.fault.skip = (unsigned)(point * length->transfers);
        }
        must(ask(&order, stage.victims[i].nature->name).error, "a fault");
}

static void prepare_strike(void)
{
        const struct path_length *length;
        int signo = kind_signal(worker->round.kind);
        struct machine_order order = { .verb = MACHINE_STRIKE, .pid = stage.daemon, .signal = MAX(signo, 0) };

        if (signo < 0)
                return;
        length = &worker->lengths[worker->round.leader][worker->round.leader == 0 && worker->round.through_rom];
        order.value = 1 + (int)(next_point() * length->transfers);
        must(ask(&order, stage.victims[worker->round.leader].nature->name).error, "a strike");
}

static void request_update(struct victim *victim, unsigned version)
{
        sd_bus_error error = SD_BUS_ERROR_NULL;
        sd_bus_message *reply = NULL;
        const char *update, *action, *text;
        int r;

        r = sd_bus_call_method(stage.bus, "org.camrescue1", victim->camera, "org.camrescue1.Camera", "Update", &error, &reply,
                               "a{sv}", 1, "firmware", "s", versions[version]);
        if (r >= 0)
                r = sd_bus_message_read(reply, "oss", &update, &action, &text);
        if (r < 0)
                give_up("%s: no update: %s", victim->nature->name, error.message ?: strerror(-r));
        if (strcmp(action, "queued") != 0 && strcmp(action, "update") != 0)
                give_up("%s: %s is answered by \"%s\" (%s)", victim->nature->name, versions[version], action, text);
        (void)snprintf(victim->update, sizeof(victim->update), "%s", update);
        (void)sd_bus_message_unref(reply);
}

static void prepare_round(void)
{
        struct round *round = &worker->round;
        unsigned number = round->number;

        *round = (struct round){ .number = number };
        random_state = worker->seed * UINT64_C(1000003) + number;
        (void)random_below(1);
        round->kind = number < 2 ? BREAK_NONE : choose_kind(number - 2);
        round->through_rom = number == 1 || (number > 1 && number % 3 == 0);
        round->leader = number % N_VICTIMS;
        /* What passes through the ROM is where most can go wrong. */
        if (round->through_rom && number % 2)
                round->leader = 0;
        stage.is_struck = false;
        for (size_t i = 0; i < N_VICTIMS; i++) {
                struct victim *victim = &stage.victims[i];

                victim->cable = CABLE_IN;
                victim->silent_since = victim->runtime_since = 0;
                victim->replugs = victim->interruptions = 0;
                victim->is_broken = victim->is_done = false;
                must(ask(&(struct machine_order){ .verb = MACHINE_RESET_COUNTERS }, victim->nature->name).error, "counters");
                worker->target[i] = !worker->target[i];
                request_update(victim, worker->target[i]);
                if (i == 0 && round->through_rom) {
                        /* Its bootloader goes bad, and somebody knows what to do. */
                        must(ask(&(struct machine_order){ .verb = MACHINE_UNPLUG }, victim->nature->name).error, "unplugging");
                        must(ask(&(struct machine_order){ .verb = MACHINE_BOOTLOADER, .value = false }, victim->nature->name).error,
                             "a blank bootloader");
                        must(ask(&(struct machine_order){ .verb = MACHINE_JUMPER, .value = true }, victim->nature->name).error,
                             "the jumper");
                }
                if (kind_unplugs(round->kind))
                        break_by_fault(i, round->kind);
        }
        prepare_strike();
        for (size_t i = 0; i < N_VICTIMS; i++)
                plug_in(&stage.victims[i], NULL, 20 * (int)MSEC);
}

/* On a machine that has just started, in the middle of a round. */
static void resume_round(void)
{
        for (size_t i = 0; i < N_VICTIMS; i++) {
                struct victim *victim = &stage.victims[i];

                victim->cable = CABLE_IN;
                victim->is_broken = worker->round.was_open[i];
                victim->interruptions = 1;
        }
        stage.is_struck = true;
}

static bool all_done(void)
{
        for (size_t i = 0; i < N_VICTIMS; i++)
                if (!stage.victims[i].is_done)
                        return false;
        return true;
}

/* false: the machine went down meanwhile. */
static bool play_round(void)
{
        double deadline;

        stage.round_began = bench_seconds();
        deadline = stage.round_began + ROUND_DEADLINE;
        for (;;) {
                double wake = bench_seconds() + 0.1;

                if (!stage.is_struck && look_at("beside").has_struck && !after_the_strike())
                        return false;
                if (stage.is_stopped && bench_seconds() >= stage.stopped_until) {
                        stage.is_stopped = false;
                        (void)kill(stage.daemon, SIGCONT);
                }
                for (size_t i = 0; i < N_VICTIMS; i++) {
                        hand_cares_for(&stage.victims[i]);
                        if (stage.victims[i].cable == CABLE_OUT)
                                wake = MIN(wake, stage.victims[i].plug_at);
                }
                if (!stage.is_stopped && all_done())
                        return true;
                if (bench_seconds() > deadline)
                        give_up("not at its end after %.0f s", ROUND_DEADLINE);
                if (stage.is_stopped)
                        wake = MIN(wake, stage.stopped_until);
                wait_until(wake);
        }
}

/* --- judging --- */

static unsigned count_entries(const char *what)
{
        char path[64];
        struct dirent *entry;
        unsigned n = 0;
        DIR *directory;

        (void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)stage.daemon, what);
        directory = opendir(path);
        if (!directory)
                give_up("the daemon is gone");
        while ((entry = readdir(directory)))
                n += *entry->d_name != '.';
        (void)closedir(directory);
        return n;
}

/* With everything at rest.  A helper thread, and what it holds, may be about to end. */
static void check_leaks(void)
{
        double deadline = bench_seconds() + SETTLE_DEADLINE;
        unsigned threads, fds;

        for (;;) {
                threads = count_entries("task");
                fds = count_entries("fd");
                if (threads == 1 && (stage.baseline_fds == 0 || fds <= stage.baseline_fds))
                        break;
                if (bench_seconds() > deadline)
                        give_up("the daemon has %u threads and %u descriptors, and had %u", threads, fds, stage.baseline_fds);
                wait_until(bench_seconds() + 0.02);
        }
        if (stage.baseline_fds > 0)
                worker->leak_checks++;
        else
                stage.baseline_fds = fds;
}

static void check_bytes(size_t i)
{
        const struct nature *nature = &natures[i];
        struct part parts[2];
        size_t n = parts_of(nature->board, worker->target[i], parts);

        for (size_t j = 0; j < n; j++) {
                struct machine_order order = part_order(MACHINE_COMPARE, &parts[j], worker->target[i]);

                if (ask(&order, nature->name).error < 0)
                        give_up("%s: said to be done, and %s is not %s", nature->name, parts[j].partition,
                                versions[worker->target[i]]);
        }
        if (ask(&(struct machine_order){ .verb = MACHINE_COMPARE_BOOTLOADER }, nature->name).error < 0)
                give_up("%s: said to be done, and its bootloader is not whole", nature->name);
}

/* What an interruption may cost is the erase unit that was under way.  (A reboot began the counting anew.) */
static void check_wear(size_t i)
{
        static const uint32_t units[N_VICTIMS] = { 256 * 1024, 128 * 1024, 64 * 1024, 4096 };
        const struct victim *victim = &stage.victims[i];
        struct machine_answer answer = look_at(victim->nature->name);
        struct part parts[2];
        size_t n = parts_of(victim->nature->board, 0, parts);
        uint64_t image = 0, programmed;

        for (size_t j = 0; j < n; j++)
                image += (parts[j].size + 31) / 32 * 32;
        if (i == 0 && worker->round.through_rom)
                image += 32 * 1024;
        programmed = answer.counters.programmed_bytes;
        if (programmed > image + (uint64_t)(victim->interruptions + victim->replugs) * units[i])
                give_up("%s: %" PRIu64 " bytes programmed of %" PRIu64 ", in %u interruptions", victim->nature->name, programmed,
                        image, victim->interruptions + victim->replugs);
}

static void judge(size_t i)
{
        const struct victim *victim = &stage.victims[i];
        const char *result = result_of(victim);
        bool is_case = victim->is_broken || worker->round.kind == BREAK_NONE;

        if (strcmp(result, "done") != 0)
                give_up("%s: its update ended as \"%s\" (%s: %s), and nothing was broken but cables and programs", victim->nature->name,
                        result, stage.updates[updates_find(victim->update)].error,
                        stage.updates[updates_find(victim->update)].message);
        check_bytes(i);
        check_wear(i);
        worker->counts[worker->round.kind][is_case ? OUTCOME_DONE : OUTCOME_NOT_REACHED]++;
        if (victim->is_broken)
                worker->cases++;
}

static void end_round(void)
{
        struct machine_answer answer;

        (void)ask(&(struct machine_order){ .verb = MACHINE_STRIKE }, stage.victims[0].nature->name);
        for (size_t i = 0; i < N_VICTIMS; i++) {
                (void)ask(&(struct machine_order){ .verb = MACHINE_CLEAR_FAULTS }, stage.victims[i].nature->name);
                judge(i);
                if (worker->round.number > 1)
                        continue;
                answer = look_at(stage.victims[i].nature->name);
                worker->lengths[i][worker->round.number] = (struct path_length){
                        .transfers = (unsigned)answer.counters.transfers, .get_status = (unsigned)answer.counters.get_status,
                };
        }
        check_bystanders();
        check_leaks();
        worker->slowest_round = MAX(worker->slowest_round, bench_seconds() - stage.round_began);
        worker->round.number++;
        worker->round.is_resumed = false;
}

/* --- one machine's life, from power on to power off --- */

static bool everything_runs(void)
{
        for (size_t i = 0; i < N_VICTIMS; i++)
                if (strcmp(stage.victims[i].state, "running") != 0)
                        return false;
        return true;
}

static void first_start(void)
{
        double deadline;

        start_daemon();
        fill_store();
        plug_everything();
        deadline = bench_seconds() + ROUND_DEADLINE;
        while (!everything_runs()) {
                if (bench_seconds() > deadline)
                        give_up("healthy cameras do not run");
                wait_until(bench_seconds() + 0.1);
        }
        worker->is_ready = true;
}

static int live(void)
{
        worker->epochs++;
        bench_start_bus();
        connect_bus();
        set_up_cameras();
        if (!worker->is_ready) {
                first_start();
        } else {
                bool cameras_first = worker->epochs % 2;

                if (cameras_first)
                        plug_everything();
                start_daemon();
                if (!cameras_first)
                        plug_everything();
        }
        for (;;) {
                if (worker->round.is_resumed)
                        resume_round();
                else if (worker->cases >= worker->wanted)
                        break;
                else
                        prepare_round();
                if (!play_round())
                        return 0;       /* the machine is down; another one goes on */
                end_round();
        }
        end_daemon();
        check_bystanders();
        worker->is_done = true;
        return 0;
}

/* --- all machines --- */

static int run_worker(void)
{
        char trace[160];

        (void)snprintf(trace, sizeof(trace), "%s/trace", worker->directory);
        if (getenv("TRACE"))
                (void)setenv("MACHINE_TRACE", trace, /* overwrite= */ 1);
        while (!worker->is_done) {
                int status;
                pid_t pid;

                (void)fflush(NULL);
                pid = fork();
                if (pid < 0)
                        return 99;
                if (pid == 0) {
                        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                        _exit(bench_on(worker->directory, live));
                }
                if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
                        return 99;
                if (WEXITSTATUS(status) != 0)
                        return WEXITSTATUS(status);
        }
        return 0;
}

static unsigned number_from(const char *variable, unsigned otherwise)
{
        const char *text = getenv(variable);

        return text && atoi(text) > 0 ? (unsigned)atoi(text) : otherwise;
}

static unsigned report(const struct worker *workers, unsigned n_workers, unsigned wanted)
{
        unsigned counts[_BREAK_MAX][_OUTCOME_MAX] = { 0 }, cases = 0, sums[7] = { 0 };
        double slowest = 0;

        for (unsigned i = 0; i < n_workers; i++) {
                const struct worker *w = &workers[i];

                for (size_t kind = 0; kind < _BREAK_MAX; kind++)
                        for (size_t outcome = 0; outcome < _OUTCOME_MAX; outcome++)
                                counts[kind][outcome] += w->counts[kind][outcome];
                cases += w->cases;
                sums[0] += w->starts;
                sums[1] += w->orderly_ends;
                sums[2] += w->epochs;
                sums[3] += w->round.number;
                sums[4] += w->leak_checks;
                sums[5] += w->overflows;
                sums[6] += w->replugs;
                slowest = MAX(slowest, w->slowest_round);
        }
        for (size_t kind = BREAK_UNPLUG_BEFORE; kind < _BREAK_MAX; kind++)
                bench_say("breaks: kind=%s done=%u not-reached=%u", kind_names[kind], counts[kind][OUTCOME_DONE],
                          counts[kind][OUTCOME_NOT_REACHED]);
        bench_say("breaks: total done=%u of=%u rounds=%u machines-booted=%u daemons-started=%u ended-in-order=%u leak-checks=%u overflows=%u "
                  "replugs=%u slowest-round=%.1fs", cases, wanted, sums[3], sums[2], sums[0], sums[1], sums[4], sums[5], sums[6], slowest);
        return cases;
}

int main(void)
{
        unsigned wanted = number_from("BREAKS", DEFAULT_CASES), seed = number_from("SEED", 20260101), n, failed = 0, skipped = 0, cases;
        char directory[64], text[96];
        struct worker *workers;

        n = MIN(number_from("WORKERS", 2), (unsigned)WORKERS_MAX);
        workers = mmap(NULL, sizeof(*workers) * n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        (void)snprintf(directory, sizeof(directory), "%.32s/camrescue-breaks-XXXXXX", getenv("TMPDIR") ?: "/tmp");
        if (workers == MAP_FAILED || !mkdtemp(directory))
                return 99;
        bench_say("breaks: seed=%u cases=%u machines=%u", seed, wanted, n);
        for (unsigned i = 0; i < n; i++) {
                pid_t pid;

                workers[i].number = i;
                workers[i].seed = seed + i;
                workers[i].wanted = (wanted + n - 1) / n;
                (void)snprintf(workers[i].directory, sizeof(workers[i].directory), "%s/%u", directory, i);
                if (mkdir(workers[i].directory, 0700) < 0)
                        return 99;
                (void)fflush(NULL);
                pid = fork();
                if (pid == 0) {
                        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                        worker = &workers[i];
                        _exit(run_worker());
                }
                workers[i].pid = pid;
        }
        for (unsigned i = 0; i < n; i++) {
                int status = 0;

                if (waitpid(workers[i].pid, &status, 0) < 0 || !WIFEXITED(status))
                        failed++;
                else if (WEXITSTATUS(status) == 77)
                        skipped++;
                else
                        failed += WEXITSTATUS(status) != 0;
        }
        if (getenv("KEEP")) {
                bench_say("kept: %s", directory);
        } else if (fork() == 0) {
                (void)execlp("rm", "rm", "-rf", directory, NULL);
                _exit(127);
        } else {
                (void)wait(NULL);
        }
        if (skipped == n)
                return 77;
        cases = report(workers, n, wanted);
        (void)snprintf(text, sizeof(text), "%u of %u cases end with the right bytes", cases, wanted);
        (void)bench_check(text, failed == 0 && cases >= wanted);
        return bench_result();
}

/* SPDX-License-Identifier: MIT */

/*
 * See bench.h.  All of it runs in the machine's child, so that the daemon is a
 * descendant of the machine as it must be.
 */

#include "bench/bench.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

extern char **environ;

#define CHILDREN_MAX 16
#define READY_DEADLINE 30
#define ENVIRONMENT_MAX 256
#define BOOT_DEADLINE 30.0
#define STATUS_SIZE 6

static char directory[128];
static char bus_address[160];
static unsigned n_cases;
static bool failed;
static bool is_smoke;
static int (*run_bench)(bool smoke);
static pid_t children[CHILDREN_MAX];

/* --- words --- */

static void clean_up(void)
{
        for (size_t i = CHILDREN_MAX; i-- > 0;)
                if (children[i] > 0)
                        (void)bench_end(children[i]);
}

void bench_die(const char *format, ...)
{
        va_list ap;

        (void)printf("Bail out! ");
        va_start(ap, format);
        (void)vprintf(format, ap);
        va_end(ap);
        (void)printf("\n");
        (void)fflush(stdout);
        clean_up();
        exit(99);
}

void bench_say(const char *format, ...)
{
        va_list ap;

        (void)printf("# ");
        va_start(ap, format);
        (void)vprintf(format, ap);
        va_end(ap);
        (void)printf("\n");
        (void)fflush(stdout);
}

bool bench_check(const char *what, bool holds)
{
        (void)printf("%s %u - %s\n", holds ? "ok" : "not ok", ++n_cases, what);
        (void)fflush(stdout);
        failed |= !holds;
        return holds;
}

bool bench_gate(const char *what, double figure, double max, const char *unit)
{
        char text[192];

        (void)snprintf(text, sizeof(text), "%s: %.4g%s%s, at most %.4g", what, figure, *unit ? " " : "", unit, max);
        return bench_check(text, figure <= max);
}

int bench_result(void)
{
        (void)printf("1..%u\n", n_cases);
        (void)fflush(stdout);
        clean_up();
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* --- places --- */

static const char *disk_candidate(size_t i)
{
        switch (i) {
        case 0:
                return getenv("TMPDIR");
        case 1:
                return "/var/tmp";
        case 2:
                return "/tmp";
        default:
                return NULL;
        }
}

static bool is_disk(const char *path)
{
        struct statfs fs;

        return statfs(path, &fs) == 0 && fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC;
}

static void make_directory(void)
{
        const char *parent = NULL;

        for (size_t i = 0; i < 3 && !parent; i++)
                if (disk_candidate(i) && access(disk_candidate(i), W_OK) == 0 && is_disk(disk_candidate(i)))
                        parent = disk_candidate(i);
        (void)snprintf(directory, sizeof(directory), "%.96s/camrescue-bench-XXXXXX", parent ?: getenv("TMPDIR") ?: "/tmp");
        if (!mkdtemp(directory)) {
                *directory = 0;
                bench_die("cannot make a directory: %s", strerror(errno));
        }
}

const char *bench_directory(bool *ret_disk)
{
        if (ret_disk)
                *ret_disk = is_disk(directory);
        return directory;
}

const char *bench_path(const char *name, char path[static 256])
{
        (void)snprintf(path, 256, "%s/%s", directory, name);
        return path;
}

const char *bench_source(const char *name, char path[static 256])
{
        (void)snprintf(path, 256, "%s/%s", getenv("CAMRESCUE_SRCDIR") ?: ".", name);
        return path;
}

const char *bench_program(const char *name, char path[static 256])
{
        (void)snprintf(path, 256, "%s/%s", getenv("CAMRESCUE_BUILDDIR") ?: ".", name);
        return path;
}

void bench_write_file(const char *name, const void *data, size_t size)
{
        _cleanup_fclose_ FILE *f = NULL;
        char path[256];

        f = fopen(bench_path(name, path), "we");
        if (!f || fwrite(data, 1, size, f) != size)
                bench_die("cannot write %s", path);
}

/* --- time --- */

double bench_seconds(void)
{
        struct timespec now;

        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void bench_sleep(double seconds)
{
        struct timespec left = { .tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9) };

        while (nanosleep(&left, &left) < 0)
                ;
}

/* --- processes --- */

static void in_child(const char *const *argv, const char *const *environment, const char *log)
{
        static char *variables[ENVIRONMENT_MAX];
        char path[256];
        size_t n = 0;
        int fd;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        fd = open(bench_path(log, path), O_WRONLY | O_CREAT | O_APPEND, 0666);
        if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
                _exit(126);
        (void)close(fd);
        /* What is given stands first and so wins. */
        for (; environment && environment[n]; n++)
                variables[n] = (char *)environment[n];
        for (char **v = environ; *v && n + 1 < ENVIRONMENT_MAX; v++)
                variables[n++] = *v;
        (void)execvpe(argv[0], (char *const *)argv, variables);
        _exit(127);
}

/* A program that was linked a moment ago is still dirty in the page cache, and its pages would count as the process's own. */
static void write_back(const char *program)
{
        int fd = strchr(program, '/') ? open(program, O_RDONLY | O_CLOEXEC) : -1;

        if (fd < 0)
                return;
        (void)fsync(fd);
        (void)close(fd);
}

pid_t bench_spawn(const char *const *argv, const char *const *environment, const char *log)
{
        pid_t pid;
        size_t i = 0;

        while (i < CHILDREN_MAX && children[i] > 0)
                i++;
        (void)fflush(NULL);
        write_back(argv[0]);
        pid = i < CHILDREN_MAX ? fork() : -1;
        if (pid < 0)
                bench_die("cannot start %s", argv[0]);
        if (pid == 0)
                in_child(argv, environment, log);
        children[i] = pid;
        return pid;
}

int bench_wait(pid_t pid)
{
        int status;

        for (size_t i = 0; i < CHILDREN_MAX; i++)
                if (children[i] == pid)
                        children[i] = 0;
        if (waitpid(pid, &status, 0) < 0)
                return -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int bench_end(pid_t pid)
{
        (void)kill(pid, SIGTERM);
        return bench_wait(pid);
}

/* What a program writes into fd when it is ready. */
static void await_word(int fd, const char *who)
{
        struct pollfd pollfd = { .fd = fd, .events = POLLIN };
        char word;

        if (poll(&pollfd, 1, READY_DEADLINE * 1000) != 1 || read(fd, &word, 1) != 1)
                bench_die("%s did not start", who);
}

void bench_start_bus(void)
{
        static const char config[] =
                "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"\n"
                " \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
                "<busconfig><type>session</type><listen>unix:path=%s/bus.socket</listen><auth>EXTERNAL</auth>\n"
                "<policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/>\n"
                "<allow eavesdrop=\"true\"/><allow own=\"*\"/></policy></busconfig>\n";
        char text[sizeof(config) + sizeof(directory)], path[256], option[300], address[32];
        int ready[2];

        /* Of a bus that was here before. */
        (void)unlink(bench_path("bus.socket", path));
        bench_write_file("bus.conf", text, (size_t)snprintf(text, sizeof(text), config, directory));
        (void)snprintf(option, sizeof(option), "--config-file=%s", bench_path("bus.conf", path));
        /* It writes its address as soon as it listens. */
        if (pipe(ready) < 0 || fcntl(ready[0], F_SETFD, FD_CLOEXEC) < 0)
                bench_die("no pipe");
        (void)snprintf(address, sizeof(address), "--print-address=%d", ready[1]);
        (void)bench_spawn((const char *const[]){ "dbus-daemon", option, "--nofork", "--nopidfile", address, NULL }, NULL, "bus.log");
        (void)close(ready[1]);
        await_word(ready[0], "dbus-daemon");
        (void)close(ready[0]);
        (void)snprintf(bus_address, sizeof(bus_address), "unix:path=%s/bus.socket", directory);
        (void)setenv("DBUS_SYSTEM_BUS_ADDRESS", bus_address, /* overwrite= */ 1);
}

const char *bench_bus_address(void)
{
        return bus_address;
}

struct sd_bus *bench_open_bus(void)
{
        sd_bus *bus;

        if (sd_bus_new(&bus) < 0 || sd_bus_set_address(bus, bus_address) < 0 || sd_bus_set_bus_client(bus, 1) < 0 ||
            sd_bus_start(bus) < 0)
                bench_die("no bus");
        return bus;
}

static int on_owner(sd_bus_message *message, void *userdata, sd_bus_error *error)
{
        const char *name, *old, *new;

        *(bool *)userdata = sd_bus_message_read(message, "sss", &name, &old, &new) >= 0 && *new;
        return 0;
}

/* By whoever was started a moment ago. */
static void await_name(const char *name)
{
        double deadline = bench_seconds() + READY_DEADLINE;
        sd_bus *bus = bench_open_bus();
        bool owned = false;
        char match[192];

        (void)snprintf(match, sizeof(match), "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='%s'", name);
        if (sd_bus_add_match(bus, NULL, match, on_owner, &owned) < 0)
                bench_die("no match");
        /* From now on it is told; it may have been before. */
        if (sd_bus_get_name_creds(bus, name, 0, NULL) >= 0)
                owned = true;
        while (!owned) {
                if (bench_seconds() > deadline)
                        bench_die("%s does not come up", name);
                if (sd_bus_process(bus, NULL) == 0)
                        (void)sd_bus_wait(bus, 1000000);
        }
        (void)sd_bus_flush_close_unref(bus);
}

pid_t bench_start_floor(void)
{
        char program[256];
        pid_t pid = bench_spawn((const char *const[]){ bench_program("tests/bench/floor-daemon", program), NULL }, NULL, "floor.log");

        await_name("org.camrescue1.Floor");
        return pid;
}

static void wait_for_ready(int fd, pid_t pid)
{
        struct timeval patience = { .tv_sec = READY_DEADLINE };
        char text[512];
        ssize_t n;

        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        while ((n = recv(fd, text, sizeof(text) - 1, 0)) > 0) {
                text[n] = 0;
                if (strstr(text, "READY=1"))
                        return;
        }
        bench_die("camrescued (%d) did not become ready; see its log", (int)pid);
}

/* What the unit sets for the daemon, so that it is measured as it is started. */
static const char *unit_environment(char line[static 256])
{
        static const char key[] = "Environment=";
        char path[256];
        _cleanup_fclose_ FILE *f = fopen(bench_source("systemd/camrescued.service.in", path), "re");

        while (f && fgets(line, 256, f))
                if (strncmp(line, key, strlen(key)) == 0) {
                        line[strcspn(line, "\n")] = '\0';
                        return line + strlen(key);
                }
        bench_die("the unit sets nothing");
}

pid_t bench_start_daemon(const char *state, const char *const *environment)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char program[256], boards[256], state_directory[256], configuration[256], socket_path[256], notify[300], unit[256];
        const char *variables[16] = { notify, unit_environment(unit) };
        _cleanup_close_ int fd = -1;
        pid_t pid;

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%.*s", (int)sizeof(address.sun_path) - 1,
                       bench_path("notify", socket_path));
        (void)unlink(address.sun_path);
        fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                bench_die("cannot listen for readiness: %s", strerror(errno));
        (void)snprintf(notify, sizeof(notify), "NOTIFY_SOCKET=%s", address.sun_path);
        for (size_t i = 0; environment && environment[i] && i + 3 < ELEMENTSOF(variables); i++)
                variables[i + 2] = environment[i];
        bench_write_file("camrescue.conf", "", 0);
        (void)mkdir(bench_path(state, state_directory), 0700);
        pid = bench_spawn((const char *const[]){
                bench_program("camrescued", program), "--log", "stderr", "--bus-address", bus_address,
                "--state-directory", state_directory, "--configuration", bench_path("camrescue.conf", configuration),
                "--boards-directory", bench_source("boards", boards), NULL }, variables, "camrescued.log");
        wait_for_ready(fd, pid);
        return pid;
}

int bench_client(const char *const *arguments)
{
        const char *argv[256];
        char program[256], log[256];
        size_t n = 0;

        argv[n++] = bench_program("camrescue", program);
        argv[n++] = "--bus-address";
        argv[n++] = bus_address;
        for (size_t i = 0; arguments[i] && n + 1 < ELEMENTSOF(argv); i++)
                argv[n++] = arguments[i];
        argv[n] = NULL;
        (void)unlink(bench_path("client.log", log));
        return bench_wait(bench_spawn(argv, NULL, "client.log"));
}

/* --- /proc --- */

static uint64_t value_of(const char *path, const char *key)
{
        _cleanup_fclose_ FILE *f = fopen(path, "re");
        uint64_t value = 0;
        char line[256];

        while (f && fgets(line, sizeof(line), f))
                if (strncmp(line, key, strlen(key)) == 0)
                        value += strtoull(line + strlen(key), NULL, 10);
        return value;
}

void bench_proc(pid_t pid, struct bench_proc *ret)
{
        struct dirent *entry;
        char path[300];
        DIR *tasks;

        *ret = (struct bench_proc){ 0 };
        (void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
        tasks = opendir(path);
        if (!tasks)
                bench_die("process %d is gone", (int)pid);
        while ((entry = readdir(tasks))) {
                if (*entry->d_name == '.')
                        continue;
                ret->threads++;
                (void)snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", (int)pid, entry->d_name);
                ret->switches += value_of(path, "voluntary_ctxt_switches:") + value_of(path, "nonvoluntary_ctxt_switches:");
        }
        (void)closedir(tasks);
        (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
        ret->private_dirty = (unsigned)value_of(path, "Private_Dirty:");
        ret->rss = (unsigned)value_of(path, "Rss:");
}

double bench_cpu(pid_t pid)
{
        struct timespec used;
        clockid_t clock;

        if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
                bench_die("process %d is gone", (int)pid);
        return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* --- figures --- */

static int compare(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

double bench_quantile(double *values, size_t n, double part)
{
        qsort(values, n, sizeof(*values), compare);
        return n > 0 ? values[(size_t)(part * (double)(n - 1))] : 0;
}

/* --- the machine --- */

struct machine_answer bench_tell(enum machine_verb verb, const char *name, int value)
{
        struct machine_order order = { .verb = verb, .value = value };
        struct machine_answer answer;

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        answer = machine_ask(&order);
        if (answer.error < 0)
                bench_die("the machine cannot (%d, %s): %s", verb, name, strerror(-answer.error));
        return answer;
}

void bench_camera(const char *name, enum sim_board board, unsigned seed, bool firmware, void (*adjust)(struct sim_config *config))
{
        struct machine_order order = { .verb = MACHINE_CAMERA, .value = firmware };

        sim_config_default(&order.config, board, seed);
        if (adjust)
                adjust(&order.config);
        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        if (machine_ask(&order).error < 0)
                bench_die("cannot make camera %s", name);
}

bool bench_until_wanted(const char *name, double seconds, bool (*condition)(const struct machine_answer *answer), uint64_t wanted)
{
        struct machine_order order = { .verb = MACHINE_UNTIL, .value = seconds > 0 ? (int)(seconds * 1e3) : 0, .until = condition,
                                       .wanted = wanted };
        struct machine_answer answer;

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        answer = machine_ask(&order);
        if (answer.error < 0 && answer.error != -ETIMEDOUT)
                bench_die("the machine cannot wait for %s: %s", name, strerror(-answer.error));
        return answer.error >= 0;
}

bool bench_until(const char *name, double seconds, bool (*condition)(const struct machine_answer *answer))
{
        return bench_until_wanted(name, seconds, condition, 0);
}

bool bench_is_running(const struct machine_answer *answer)
{
        return answer->counters.boots > 0 && answer->announced_at > 0;
}

void bench_import(enum sim_board board, const char *version, unsigned seed)
{
        _cleanup_free_ uint8_t *image = NULL;
        size_t size = sim_image_default_size(board);
        char name[64], path[256];
        int status;

        if (sim_image_firmware(board, version, seed, size, &image) < 0)
                bench_die("no image");
        (void)snprintf(name, sizeof(name), "%s-%s.bin", sim_board_name(board), version);
        bench_write_file(name, image, size);
        status = bench_client((const char *const[]){ "firmware", "import", "--board", sim_board_name(board), "--partition", "FIRMWARE",
                                                     "--version", version, "--stable", bench_path(name, path), NULL });
        if (status != 0)
                bench_die("camrescue firmware import: exit status %d", status);
}

static bool has_left(const struct machine_answer *answer)
{
        return answer->counters.windows_missed > 0 || bench_is_running(answer);
}

void bench_unplug(const char *name)
{
        (void)bench_tell(MACHINE_UNPLUG, name, 0);
        bench_sleep(0.2);
}

void bench_prepare(const char *name, const char *version, unsigned seed, size_t n)
{
        struct machine_order order = { .verb = MACHINE_FIRMWARE, .value = (int)n, .seed = seed };

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        (void)snprintf(order.version, sizeof(order.version), "%s", version);
        if (machine_ask(&order).error < 0)
                bench_die("%s cannot have that firmware", name);
        (void)bench_tell(MACHINE_RESET_COUNTERS, name, 0);
        (void)bench_tell(MACHINE_PLUG, name, 0);
        if (!bench_until(name, BOOT_DEADLINE, has_left))
                bench_die("%s stays in its bootloader", name);
        bench_sleep(0.5);
        bench_unplug(name);
}

/* --- floors --- */

static double transfer_seconds(const char *name, size_t size)
{
        return (double)bench_tell(MACHINE_TIMES, name, (int)size).times.transfer / 1e6;
}

static double flash_seconds(const char *name, size_t size)
{
        return size > 0 ? (double)bench_tell(MACHINE_TIMES, name, (int)size).times.flash / 1e6 : 0;
}

double bench_reading(const char *name, size_t size)
{
        double seconds = (double)(size / BENCH_BLOCK) * transfer_seconds(name, BENCH_BLOCK);

        return size % BENCH_BLOCK ? seconds + transfer_seconds(name, size % BENCH_BLOCK) : seconds;
}

double bench_writing(const char *name, size_t from, size_t to)
{
        size_t n_blocks = (to - from + BENCH_BLOCK - 1) / BENCH_BLOCK;

        return flash_seconds(name, to) - flash_seconds(name, from) + bench_reading(name, to - from) +
               (double)(2 * n_blocks) * transfer_seconds(name, STATUS_SIZE);
}

/* --- the trace --- */

enum { DETACH, DNLOAD, UPLOAD, GETSTATUS };

long bench_trace_end(void)
{
        char path[256];
        _cleanup_fclose_ FILE *f = fopen(bench_path("trace", path), "re");

        if (!f || fseek(f, 0, SEEK_END) < 0)
                bench_die("no trace");
        return ftell(f);
}

static void take_request(struct bench_conversation *c, double at, unsigned type, unsigned request, unsigned length)
{
        bool dfu = (type & 0x7f) == 0x21;

        if (c->begin == 0) {
                if (dfu)
                        c->begin = c->looked = at;
                return;
        }
        if (dfu && request == DNLOAD && length > 0) {
                if (c->blocks++ == 0)
                        c->first_block = at;
        } else if (dfu && request == GETSTATUS && c->blocks > 0 && c->verifies == 0 && c->statuses < 2 * c->blocks) {
                c->statuses++;
                c->written = at;
        } else if (dfu && request == UPLOAD && c->blocks > 0) {
                c->verifies++;
                c->verified = at;
        } else if (dfu && request == UPLOAD)
                c->looks++;
        if (c->blocks == 0 && !(dfu && request == DETACH))
                c->looked = at;
}

struct bench_conversation bench_listen(const char *name, long from)
{
        struct bench_conversation c = { 0 };
        char path[256], line[512];
        _cleanup_fclose_ FILE *f = fopen(bench_path("trace", path), "re");

        if (!f || fseek(f, from, SEEK_SET) < 0)
                bench_die("no trace");
        while (fgets(line, sizeof(line), f)) {
                unsigned type, request, length;
                char who[16];
                double at;

                if (sscanf(line, "%*f %15s %lf %*s bootloader: %2x %2x value %*x index %*x length %u", who, &at, &type, &request,
                           &length) == 5 && strcmp(who, name) == 0)
                        take_request(&c, at, type, request, length);
        }
        return c;
}

/* --- from the outside --- */

static int run(void)
{
        return run_bench(is_smoke);
}

int bench_main(int argc, char **argv, bool trace, int (*bench)(bool smoke))
{
        const char *const clean[] = { "rm", "-rf", directory, NULL };
        char trace_path[256];
        int r;

        run_bench = bench;
        is_smoke = argc > 1 && strcmp(argv[1], "--smoke") == 0;
        /* What it measures is smaller than what the table says. */
        if (is_smoke)
                (void)unsetenv("BENCH_ROWS");
        make_directory();
        if (trace)
                (void)setenv("MACHINE_TRACE", bench_path("trace", trace_path), /* overwrite= */ 1);
        r = machine_run(run);
        if (getenv("KEEP"))
                bench_say("kept: %s", directory);
        else
                (void)bench_wait(bench_spawn(clean, NULL, "clean.log"));
        return r;
}

int bench_on(const char *path, int (*part)(void))
{
        (void)snprintf(directory, sizeof(directory), "%s", path);
        return machine_run(part);
}

/* SPDX-License-Identifier: MIT */

/*
 * See machine.h.  The machine is the parent, because it reads and writes the
 * memory of whoever sends a URB, which the kernel allows towards descendants.
 */

#include "integration/machine.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "sim/kernel-played.h"
#include "sim/namespace.h"
#include "sim/world.h"

static int order_fd = -1, news_fd = -1; /* the child's ends */

struct machine {
        struct loop *loop;
        struct world *world;
        struct io_watch watch;
        int fd, news_fd;
        uint64_t told;                  /* what the child was told of last: fingerprint() */
        struct {
                char name[16];
                uint64_t transfers;
                pid_t pid;              /* 0: none */
                int signal;
                bool has_struck;
        } strike;
        const char *waits_for;          /* camera whose announcement is to be answered */
        bool is_waiting;                /* by MACHINE_UNTIL */
        struct timer patience;
        struct timer plug_timer;
        uint64_t plug_interval;
        char plug_names[16];
        struct world_options leisure;   /* the world's own */
        struct machine_order order;
};

static const struct sim_partition *partition_by_name(struct sim_camera *model, const char *name)
{
        const struct sim_partition *partitions;
        size_t n = sim_camera_partitions(model, &partitions);

        for (size_t i = 0; i < n; i++)
                if (strcmp(partitions[i].name, name) == 0)
                        return &partitions[i];
        return NULL;
}

static int find_unit(struct sim_camera *model, uint32_t offset, struct machine_answer *answer)
{
        const struct sim_partition *firmware = partition_by_name(model, "FIRMWARE");
        uint32_t start;

        if (!firmware || offset >= firmware->limit - firmware->start)
                return -ENOENT;
        sim_camera_erase_unit(model, firmware->external, firmware->start + offset, &start, &answer->unit.size);
        answer->unit.offset = start - firmware->start;
        return 0;
}

static struct machine_answer answer_of(struct machine *machine)
{
        struct world_camera *camera = world_camera_by_name(machine->world, machine->order.name);
        struct machine_answer answer = { .has_struck = machine->strike.has_struck, .wanted = machine->order.wanted };
        struct sim_camera *model;

        if (!camera)
                return answer;
        model = world_camera_model(camera);
        (void)snprintf(answer.port, sizeof(answer.port), "%s", world_camera_port(camera));
        (void)snprintf(answer.node, sizeof(answer.node), "/dev/bus/usb/%03u/%03u",
                       world_camera_bus_number(camera), world_camera_device_number(camera));
        sim_camera_counters(model, &answer.counters);
        answer.open_files = world_camera_open_files(camera);
        answer.announced_at = world_camera_announced_at(camera);
        answer.is_plugged = world_camera_is_plugged(camera);
        answer.is_announced = world_camera_is_announced(camera);
        answer.mode = sim_camera_mode(model);
        if (machine->order.verb == MACHINE_TIMES) {
                answer.times.flash = sim_camera_flash_time(model, "FIRMWARE", (size_t)machine->order.value);
                answer.times.transfer = sim_camera_transfer_time(model, (size_t)machine->order.value);
        }
        if (machine->order.verb == MACHINE_UNIT)
                answer.error = find_unit(model, (uint32_t)machine->order.value, &answer);
        if (machine->order.verb == MACHINE_READ)
                answer.error = sim_camera_partition_read(model, "FIRMWARE", machine->order.offset, answer.data,
                                                         (size_t)machine->order.value);
        return answer;
}

static void send_answer(struct machine *machine, const struct machine_answer *answer)
{
        if (send(machine->fd, answer, sizeof(*answer), MSG_NOSIGNAL) < 0)
                loop_exit(machine->loop, -errno);
}

static void reply(struct machine *machine, int error)
{
        struct machine_answer answer = answer_of(machine);

        if (error < 0)
                answer.error = error;
        send_answer(machine, &answer);
}

static void reply_if_so(struct machine *machine)
{
        struct machine_answer answer = answer_of(machine);

        if (!machine->order.until(&answer))
                return;
        machine->is_waiting = false;
        timer_clear(&machine->patience);
        send_answer(machine, &answer);
}

static void on_impatience(void *userdata)
{
        struct machine *machine = userdata;

        machine->is_waiting = false;
        reply(machine, -ETIMEDOUT);
}

static int make_camera(struct machine *machine)
{
        struct machine_order *order = &machine->order;
        struct world_camera *camera;
        _cleanup_free_ uint8_t *firmware = NULL;
        size_t size = sim_image_default_size(order->config.board);
        int r;

        order->config.name = order->name;
        r = world_camera_new(machine->world, &order->config, &camera);
        if (r < 0 || order->verb == MACHINE_FOREIGN)
                return r;
        sim_camera_install_bootloader(world_camera_model(camera));
        if (!order->value)
                return 0;
        r = sim_image_firmware(order->config.board, "5.0.0", /* seed= */ 1, size, &firmware);
        if (r < 0)
                return r;
        return sim_camera_partition_poke(world_camera_model(camera), "FIRMWARE", 0, firmware, size);
}

static const char *partition_of(const struct machine_order *order)
{
        return *order->partition ? order->partition : "FIRMWARE";
}

static int image_of(const struct machine_order *order, struct world_camera *camera, uint8_t **ret, size_t *ret_size)
{
        enum sim_board board = world_camera_config(camera)->board;

        *ret_size = order->image_size ?: sim_image_default_size(board);
        return sim_image_firmware(board, order->version, order->seed, *ret_size, ret);
}

static int make_firmware(struct machine *machine, struct world_camera *camera)
{
        const struct machine_order *order = &machine->order;
        struct sim_camera *model = world_camera_model(camera);
        const struct sim_partition *partition = partition_by_name(model, partition_of(order));
        _cleanup_free_ uint8_t *firmware = NULL;
        size_t size;
        int r;

        r = image_of(order, camera, &firmware, &size);
        if (r < 0)
                return r;
        if (partition)
                sim_camera_flash_blank(model, partition->external, partition->start, partition->limit - partition->start);
        return sim_camera_partition_poke(model, partition_of(order), 0, firmware, MIN((size_t)order->value, size));
}

static int compare(struct sim_camera *model, const char *partition, const uint8_t *wanted, size_t size)
{
        _cleanup_free_ uint8_t *have = malloc(size);
        int r;

        if (!have)
                return -ENOMEM;
        r = sim_camera_partition_read(model, partition, 0, have, size);
        if (r < 0)
                return r;
        return memcmp(have, wanted, size) == 0 ? 0 : -EBADMSG;
}

static int compare_firmware(struct machine *machine, struct world_camera *camera)
{
        _cleanup_free_ uint8_t *firmware = NULL;
        size_t size;
        int r;

        r = image_of(&machine->order, camera, &firmware, &size);
        return r < 0 ? r : compare(world_camera_model(camera), partition_of(&machine->order), firmware, size);
}

/* The bootloader is the first partition, whatever its name is. */
static int blank_bootloader(struct sim_camera *model)
{
        const struct sim_partition *partitions;

        if (sim_camera_partitions(model, &partitions) == 0)
                return -ENOENT;
        sim_camera_flash_blank(model, partitions[0].external, partitions[0].start, partitions[0].limit - partitions[0].start);
        return 0;
}

static int compare_bootloader(struct world_camera *camera)
{
        struct sim_camera *model = world_camera_model(camera);
        const struct sim_partition *partitions;
        _cleanup_free_ uint8_t *wanted = NULL;
        size_t size;
        int r;

        if (sim_camera_partitions(model, &partitions) == 0)
                return -ENOENT;
        r = sim_camera_bootloader_image(model, world_camera_config(camera)->bootloader, /* padded= */ false, &wanted, &size);
        return r < 0 ? r : compare(model, partitions[0].name, wanted, size);
}

static int keep(const struct machine_order *order, struct world_camera *camera)
{
        _cleanup_fclose_ FILE *f = fopen(order->path, order->verb == MACHINE_SAVE ? "we" : "re");

        if (!f)
                return -errno;
        return order->verb == MACHINE_SAVE ? sim_camera_save(world_camera_model(camera), f) :
               sim_camera_load(world_camera_model(camera), f);
}

static bool is_to_be_plugged(const struct machine *machine, struct world_camera *camera)
{
        const char *begin = machine->plug_names;

        return !world_camera_is_plugged(camera) && strncmp(world_camera_config(camera)->name, begin, strlen(begin)) == 0;
}

/* false: there is none left. */
static bool plug_one(struct machine *machine)
{
        struct world_camera *camera = NULL;

        while ((camera = world_camera_next(machine->world, camera)))
                if (is_to_be_plugged(machine, camera))
                        return world_plug(camera, NULL) >= 0;
        return false;
}

static void on_plug_timer(void *userdata)
{
        struct machine *machine = userdata;

        if (plug_one(machine))
                timer_set(&machine->plug_timer, machine->plug_interval);
}

static void plug_all(struct machine *machine)
{
        struct world_camera *camera = NULL;
        unsigned n = 0;

        (void)snprintf(machine->plug_names, sizeof(machine->plug_names), "%s", machine->order.name);
        while ((camera = world_camera_next(machine->world, camera)))
                n += is_to_be_plugged(machine, camera);
        machine->plug_interval = n > 1 ? (uint64_t)machine->order.value / (n - 1) : 0;
        if (machine->plug_interval > 0)
                on_plug_timer(machine);
        else
                while (plug_one(machine))
                        ;
}

static int unplug_all(struct machine *machine)
{
        struct world_camera *camera = NULL;
        int r = 0;

        timer_clear(&machine->plug_timer);
        while (r >= 0 && (camera = world_camera_next(machine->world, camera)))
                if (world_camera_is_plugged(camera))
                        r = world_unplug(camera);
        return r;
}

static void be_leisurely(struct machine *machine, bool leisure)
{
        struct world_options *options = world_options(machine->world);

        options->debounce = leisure ? machine->leisure.debounce : 0;
        options->enumerate = leisure ? machine->leisure.enumerate : 0;
        options->udev = leisure ? machine->leisure.udev : 0;
        options->notice = leisure ? machine->leisure.notice : 0;
}

static void tell(struct machine *machine)
{
        /* A test that has not read yet need not be told twice. */
        (void)send(machine->news_fd, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void strike_if_due(struct machine *machine)
{
        struct world_camera *camera = machine->strike.pid > 0 ? world_camera_by_name(machine->world, machine->strike.name) : NULL;
        struct sim_counters counters;

        if (!camera)
                return;
        sim_camera_counters(world_camera_model(camera), &counters);
        if (counters.transfers < machine->strike.transfers)
                return;
        (void)kill(machine->strike.pid, machine->strike.signal);
        machine->strike.pid = 0;
        machine->strike.has_struck = true;
        tell(machine);
}

static void prepare_strike(struct machine *machine)
{
        const struct machine_order *order = &machine->order;

        (void)snprintf(machine->strike.name, sizeof(machine->strike.name), "%s", order->name);
        machine->strike.transfers = (uint64_t)order->value;
        machine->strike.pid = order->pid;
        machine->strike.signal = order->signal;
        machine->strike.has_struck = false;
        strike_if_due(machine);
}

/* Differs when something differs that the child wants to hear of. */
static uint64_t fingerprint(struct machine *machine)
{
        struct world_camera *camera = NULL;
        uint64_t value = 1;

        while ((camera = world_camera_next(machine->world, camera)))
                value = value * 31 + (uint64_t)sim_camera_mode(world_camera_model(camera)) * 4 +
                        (uint64_t)world_camera_is_plugged(camera) * 2 + (uint64_t)world_camera_is_announced(camera);
        return value;
}

static bool needs_camera(enum machine_verb verb)
{
        return verb != MACHINE_CAMERA && verb != MACHINE_FOREIGN && verb != MACHINE_PLUG_ALL && verb != MACHINE_UNPLUG_ALL &&
               verb != MACHINE_LEISURE && verb != MACHINE_OVERFLOW;
}

static void obey(struct machine *machine)
{
        struct machine_order *order = &machine->order;
        struct world_camera *camera = world_camera_by_name(machine->world, order->name);
        int r = 0;

        if (!camera && needs_camera(order->verb)) {
                reply(machine, -ENOENT);
                return;
        }

        switch (order->verb) {
        case MACHINE_CAMERA:
        case MACHINE_FOREIGN:
                r = make_camera(machine);
                break;
        case MACHINE_PLUG:
                r = world_plug(camera, *order->port ? order->port : NULL);
                if (r >= 0) {
                        machine->waits_for = order->name;
                        return;
                }
                break;
        case MACHINE_FIRMWARE:
                r = make_firmware(machine, camera);
                break;
        case MACHINE_COMPARE:
                r = compare_firmware(machine, camera);
                break;
        case MACHINE_BOOTLOADER:
                r = blank_bootloader(world_camera_model(camera));
                if (r >= 0 && order->value)
                        sim_camera_install_bootloader(world_camera_model(camera));
                break;
        case MACHINE_COMPARE_BOOTLOADER:
                r = compare_bootloader(camera);
                break;
        case MACHINE_REPLUG:
                r = world_replug(camera, *order->port ? order->port : NULL, (uint64_t)order->value);
                break;
        case MACHINE_JUMPER:
                sim_camera_set_jumper(world_camera_model(camera), order->value);
                break;
        case MACHINE_SAVE:
        case MACHINE_LOAD:
                r = keep(order, camera);
                break;
        case MACHINE_OVERFLOW:
                r = world_overflow(machine->world);
                break;
        case MACHINE_STRIKE:
                prepare_strike(machine);
                break;
        case MACHINE_PLUG_ALL:
                plug_all(machine);
                break;
        case MACHINE_UNPLUG_ALL:
                r = unplug_all(machine);
                break;
        case MACHINE_LEISURE:
                be_leisurely(machine, order->value);
                break;
        case MACHINE_UNPLUG:
                r = world_unplug(camera);
                break;
        case MACHINE_FAULT:
                sim_camera_add_fault(world_camera_model(camera), &order->fault);
                break;
        case MACHINE_CLEAR_FAULTS:
                sim_camera_clear_faults(world_camera_model(camera));
                break;
        case MACHINE_REFUSE_OPEN:
                world_camera_refuse_open(camera, order->value);
                break;
        case MACHINE_HOLD:
                r = world_camera_hold(camera, 0, order->value);
                break;
        case MACHINE_UNTIL:
                machine->is_waiting = true;
                timer_set(&machine->patience, (uint64_t)order->value * MSEC);
                reply_if_so(machine);
                return;
        case MACHINE_RESET_COUNTERS:
                sim_camera_reset_counters(world_camera_model(camera));
                break;
        case MACHINE_COUNTERS:
        case MACHINE_TIMES:
        case MACHINE_UNIT:
        case MACHINE_READ:
                break;
        }
        reply(machine, r);
}

static void on_order(void *userdata, unsigned events)
{
        struct machine *machine = userdata;

        if (recv(machine->fd, &machine->order, sizeof(machine->order), 0) != sizeof(machine->order)) {
                loop_exit(machine->loop, 0);    /* the test has ended */
                return;
        }
        obey(machine);
}

static void on_change(void *userdata)
{
        struct machine *machine = userdata;
        struct world_camera *camera;
        uint64_t now;

        if (!machine->world)
                return;         /* not born yet */
        strike_if_due(machine);
        now = fingerprint(machine);
        if (now != machine->told) {
                machine->told = now;
                tell(machine);
        }
        if (machine->is_waiting)
                reply_if_so(machine);
        if (!machine->waits_for)
                return;
        camera = world_camera_by_name(machine->world, machine->waits_for);
        if (camera && world_camera_is_announced(camera)) {
                machine->waits_for = NULL;
                reply(machine, 0);
        }
}

static int play(int fuse_fd, int fd, int news)
{
        struct machine machine = { .fd = fd, .news_fd = news };
        struct kernel *kernel;
        int r;

        r = loop_new(&machine.loop);
        if (r < 0)
                return r;
        r = kernel_played_new(machine.loop, fuse_fd, &kernel);
        if (r < 0)
                return r;
        r = world_new(machine.loop, kernel, on_change, &machine, &machine.world);
        if (r < 0)
                return r;
        if (getenv("MACHINE_TRACE"))
                world_trace_to(machine.world, fopen(getenv("MACHINE_TRACE"), "we"));
        /* The kernel's leisure is not what is looked at here. */
        machine.leisure = *world_options(machine.world);
        be_leisurely(&machine, false);
        timer_init(&machine.plug_timer, machine.loop, on_plug_timer, &machine);
        timer_init(&machine.patience, machine.loop, on_impatience, &machine);

        io_watch_init(&machine.watch, machine.loop, fd, on_order, &machine);
        r = io_watch_set(&machine.watch, IO_READ);
        if (r >= 0)
                r = loop_run(machine.loop);

        io_watch_deinit(&machine.watch);
        timer_deinit(&machine.plug_timer);
        timer_deinit(&machine.patience);
        machine.world = world_free(machine.world);
        machine.loop = loop_free(machine.loop);
        return r;
}

int machine_run(int (*test)(void))
{
        int fuse_fd, sockets[2], news[2], status, r;
        const char *step;
        pid_t pid;

        r = namespace_enter(NAMESPACE_USER_AUTO, &fuse_fd, &step);
        if (r < 0) {
                (void)printf("1..0 # SKIP %s: %s\n", step, strerror(-r));
                return 77;
        }
        (void)setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", /* overwrite= */ 1);
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0 ||
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, news) < 0)
                return 99;

        pid = fork();
        if (pid < 0)
                return 99;
        if (pid == 0) {
                (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void)close(sockets[0]);
                (void)close(news[0]);
                (void)close(fuse_fd);
                order_fd = sockets[1];
                news_fd = news[1];
                exit(test());
        }

        (void)close(sockets[1]);
        (void)close(news[1]);
        r = play(fuse_fd, sockets[0], news[0]);
        if (r < 0) {
                (void)fprintf(stderr, "The machine broke down: %s\n", strerror(-r));
                (void)kill(pid, SIGKILL);
        }
        (void)close(sockets[0]);
        (void)close(news[0]);
        if (waitpid(pid, &status, 0) < 0 || r < 0 || !WIFEXITED(status))
                return 99;
        return WEXITSTATUS(status);
}

struct machine_answer machine_ask(const struct machine_order *order)
{
        struct machine_answer answer = { .error = -EPIPE };

        if (send(order_fd, order, sizeof(*order), MSG_NOSIGNAL) != sizeof(*order) ||
            recv(order_fd, &answer, sizeof(answer), 0) != sizeof(answer))
                abort();
        return answer;
}

int machine_news(void)
{
        return news_fd;
}

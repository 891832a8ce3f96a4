/* SPDX-License-Identifier: MIT */

/*
 * See scenario.h.  One function for each command, and one table of them, which is
 * also the help text.  A command writes what it has to say to call->text and
 * returns 0, a negative errno, or a fault sentence through fail(); wait and sleep answer
 * later.
 */

#include "sim/scenario.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define WORDS_MAX 64
#define WAIT_TIMEOUT 30000U             /* ms */
#define DEFAULT_VERSION "5.0.0"
#define DEFAULT_SEED 1U
#define PENDING 1

struct call {
        struct scenario *scenario;
        const char *directory;
        char **words;                   /* without the command's name */
        int n;
        FILE *text;
        char error[320];
        struct waiting *waiting;        /* set when the answer comes later */
};

struct waiting {
        struct scenario *scenario;
        struct world_camera *camera;    /* NULL: sleep */
        char *conditions[WORDS_MAX];
        int n;
        scenario_done_fn done;
        void *userdata;
        struct timer timer;
        TAILQ_ENTRY(waiting) link;      /* in scenario->waiting */
};

struct scenario {
        struct loop *loop;
        struct world *world;
        struct defer look;
        TAILQ_HEAD(, waiting) waiting;
};

/* --- words --- */

int scenario_split(char *line, char **words, int max)
{
        char *p = line, *out;
        int n = 0;

        for (;;) {
                while (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')
                        p++;
                if (*p == 0 || *p == '#')
                        return n;
                if (n == max)
                        return -E2BIG;
                words[n++] = out = p;
                while (*p && !strchr(" \t\n\r", *p)) {
                        char quote = *p == '\'' || *p == '"' ? *p : 0;

                        if (*p == '\\' && p[1]) {
                                *out++ = p[1];
                                p += 2;
                                continue;
                        }
                        if (!quote) {
                                *out++ = *p++;
                                continue;
                        }
                        for (p++; *p && *p != quote;) {
                                if (quote == '"' && *p == '\\' && p[1])
                                        p++;
                                *out++ = *p++;
                        }
                        if (*p == 0)
                                return -EINVAL;
                        p++;
                }
                /* The next word's beginning is not overwritten by this one's end. */
                if (*p)
                        p++;
                *out = 0;
        }
}

static _printf_(2, 3) int fail(struct call *call, const char *format, ...)
{
        va_list args;

        va_start(args, format);
        (void)vsnprintf(call->error, sizeof(call->error), format, args);
        va_end(args);
        return -EINVAL;
}

/* Takes "key=value" out of the words.  NULL: not there. */
static const char *take_option(struct call *call, const char *key)
{
        size_t length = strlen(key);

        for (int i = 0; i < call->n; i++)
                if (strncmp(call->words[i], key, length) == 0 && call->words[i][length] == '=') {
                        const char *value = call->words[i] + length + 1;

                        memmove(call->words + i, call->words + i + 1, (size_t)(call->n - i - 1) * sizeof(*call->words));
                        call->n--;
                        return value;
                }
        return NULL;
}

static const char *take_word(struct call *call)
{
        const char *word;

        if (call->n == 0)
                return NULL;
        word = call->words[0];
        call->words++;
        call->n--;
        return word;
}

static int no_more(struct call *call)
{
        return call->n == 0 ? 0 : fail(call, "%s: not understood", call->words[0]);
}

static int parse_number(const char *text, uint64_t *ret)
{
        char *end;

        errno = 0;
        *ret = strtoull(text, &end, 0);
        return end == text || *end || errno || *text == '-' ? -EINVAL : 0;
}

static int parse_double(const char *text, double *ret)
{
        char *end;

        *ret = strtod(text, &end);
        return end == text || *end || *ret < 0 ? -EINVAL : 0;
}

static int parse_bool(const char *text, bool *ret)
{
        static const char *const yes[] = { "yes", "on", "true", "1" }, *const no[] = { "no", "off", "false", "0" };

        for (size_t i = 0; i < ELEMENTSOF(yes); i++) {
                if (strcasecmp(text, yes[i]) == 0) {
                        *ret = true;
                        return 0;
                }
                if (strcasecmp(text, no[i]) == 0) {
                        *ret = false;
                        return 0;
                }
        }
        return -EINVAL;
}

static int take_number(struct call *call, const char *key, uint64_t *value)
{
        const char *text = take_option(call, key);

        if (!text)
                return 0;
        return parse_number(text, value) < 0 ? fail(call, "%s=%s: not a number", key, text) : 0;
}

/* For what only a kernel that is played does. */
static int only_played(struct call *call)
{
        return world_is_real(call->scenario->world) ? fail(call, "not on a real kernel") : 0;
}

static int take_camera(struct call *call, struct world_camera **ret)
{
        const char *name = take_word(call);

        if (!name)
                return fail(call, "which camera?");
        *ret = world_camera_by_name(call->scenario->world, name);
        return *ret ? 0 : fail(call, "no camera is called %s", name);
}

/* --- files --- */

static int open_file(struct call *call, const char *path, int flags)
{
        _cleanup_free_ char *absolute = NULL;
        int fd;

        if (path[0] != '/' && call->directory && asprintf(&absolute, "%s/%s", call->directory, path) < 0)
                return fail(call, "no memory");
        fd = open(absolute ?: path, flags | O_CLOEXEC, 0666);
        return fd < 0 ? fail(call, "%s: %s", path, strerror(errno)) : fd;
}

static int save_file(struct call *call, const char *path, const void *data, size_t size)
{
        _cleanup_close_ int fd = open_file(call, path, O_WRONLY | O_CREAT | O_TRUNC);

        if (fd < 0)
                return fd;
        for (size_t done = 0; done < size;) {
                ssize_t n = write(fd, (const uint8_t *)data + done, size - done);

                if (n < 0)
                        return fail(call, "%s: %s", path, strerror(errno));
                done += (size_t)n;
        }
        return 0;
}

static int load_file(struct call *call, const char *path, uint8_t **ret, size_t *ret_size)
{
        _cleanup_close_ int fd = open_file(call, path, O_RDONLY);
        _cleanup_free_ uint8_t *data = NULL;
        struct stat st;
        ssize_t n;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return fail(call, "%s: %s", path, strerror(errno));
        data = malloc((size_t)st.st_size + 1);
        if (!data)
                return fail(call, "no memory");
        n = read(fd, data, (size_t)st.st_size);
        if (n != st.st_size)
                return fail(call, "%s: cannot be read", path);
        *ret = take_ptr(data);
        *ret_size = (size_t)n;
        return 0;
}

static int make_directory(struct call *call, const char *path)
{
        _cleanup_free_ char *absolute = NULL;

        if (path[0] != '/' && call->directory && asprintf(&absolute, "%s/%s", call->directory, path) < 0)
                return fail(call, "no memory");
        if (mkdir(absolute ?: path, 0777) < 0 && errno != EEXIST)
                return fail(call, "%s: %s", path, strerror(errno));
        return 0;
}

/* --- images --- */

static const char *const bootloader_names[] = {
        [SIM_BL_1_0_0_OLD_LAYOUT] = "1.0.0-old-layout",
        [SIM_BL_1_0_0] = "1.0.0",
        [SIM_BL_1_0_2] = "1.0.2",
        [SIM_BL_1_0_3] = "1.0.3",
        [SIM_BL_VCP] = "vcp",
};

static int parse_bootloader(struct call *call, const char *text, enum sim_bootloader *ret)
{
        for (size_t i = 0; i < ELEMENTSOF(bootloader_names); i++)
                if (strcmp(text, bootloader_names[i]) == 0) {
                        *ret = (enum sim_bootloader)i;
                        return 0;
                }
        return fail(call, "bootloader %s? (1.0.3, 1.0.2, 1.0.0, 1.0.0-old-layout, vcp)", text);
}

/* What makes an image: all cameras, files and folders with the same values have the same bytes. */
struct image_options {
        const char *version;
        uint64_t seed, size;
};

static int take_image_options(struct call *call, enum sim_board board, struct image_options *ret)
{
        int r;

        *ret = (struct image_options){ .version = take_option(call, "version") ?: DEFAULT_VERSION, .seed = DEFAULT_SEED,
                                       .size = sim_image_default_size(board) };
        r = take_number(call, "seed", &ret->seed);
        return r < 0 ? r : take_number(call, "size", &ret->size);
}

static int make_firmware(struct call *call, enum sim_board board, bool mute, const struct image_options *options, uint8_t **ret)
{
        int r;

        r = mute ? sim_image_firmware_mute(board, options->version, (unsigned)options->seed, options->size, ret) :
                   sim_image_firmware(board, options->version, (unsigned)options->seed, options->size, ret);
        return r < 0 ? fail(call, "no such firmware for this board: %s", strerror(-r)) : 0;
}

static const struct sim_partition *partition(struct call *call, struct world_camera *camera, const char *name)
{
        const struct sim_partition *partitions;
        size_t n = sim_camera_partitions(world_camera_model(camera), &partitions);

        for (size_t i = 0; name && i < n; i++)
                if (strcasecmp(partitions[i].name, name) == 0)
                        return &partitions[i];
        (void)fail(call, "no partition %s; there are:", name ?: "given");
        for (size_t i = 0; i < n; i++) {
                size_t used = strlen(call->error);

                (void)snprintf(call->error + used, sizeof(call->error) - used, " %s", partitions[i].name);
        }
        return NULL;
}

static const char *firmware_partition(enum sim_board board)
{
        return board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
}

static void blank(struct world_camera *camera, const struct sim_partition *p)
{
        sim_camera_flash_blank(world_camera_model(camera), p->external, p->start, p->limit - p->start);
}

/* AE3: the other core's image goes with the first one's. */
static struct image_options second_image(const struct image_options *first)
{
        return (struct image_options){ .version = first->version, .seed = first->seed + 1, .size = first->size / 4 };
}

static int install_second(struct call *call, struct world_camera *camera, const struct image_options *first)
{
        const struct sim_partition *p = partition(call, camera, "HE");
        const struct image_options second = second_image(first);
        _cleanup_free_ uint8_t *image = NULL;
        int r;

        if (!p)
                return -EINVAL;
        r = make_firmware(call, world_camera_config(camera)->board, false, &second, &image);
        if (r < 0)
                return r;
        blank(camera, p);
        r = sim_camera_flash_poke(world_camera_model(camera), p->external, p->start, image, second.size);
        return r < 0 ? fail(call, "HE: %s", strerror(-r)) : 0;
}

static int install_firmware(struct call *call, struct world_camera *camera, bool mute, const struct image_options *options,
                            size_t keep, bool corrupt)
{
        enum sim_board board = world_camera_config(camera)->board;
        const struct sim_partition *p = partition(call, camera, firmware_partition(board));
        _cleanup_free_ uint8_t *image = NULL;
        size_t size;
        int r;

        if (!p)
                return -EINVAL;
        r = make_firmware(call, board, mute, options, &image);
        if (r < 0)
                return r;
        if (corrupt)
                for (size_t i = options->size / 2; i < options->size / 2 + 16; i++)
                        image[i] ^= 0x5a;
        size = MIN(options->size, keep);
        if (size > p->limit - p->start)
                return fail(call, "%zu bytes do not fit into %s", size, p->name);
        blank(camera, p);
        r = sim_camera_flash_poke(world_camera_model(camera), p->external, p->start, image, size);
        if (r < 0)
                return fail(call, "%s", strerror(-r));
        return board == SIM_OPENMV_AE3 ? install_second(call, camera, options) : 0;
}

static int install_bootloader(struct call *call, struct world_camera *camera, enum sim_bootloader which, bool corrupt)
{
        struct sim_camera *model = world_camera_model(camera);
        _cleanup_free_ uint8_t *image = NULL;
        const struct sim_partition *partitions;
        size_t size;
        int r;

        if (sim_camera_partitions(model, &partitions) == 0)
                return fail(call, "this one has no bootloader");
        r = sim_camera_bootloader_image(model, which, /* padded= */ false, &image, &size);
        if (r < 0)
                return fail(call, "no such bootloader for this board: %s", strerror(-r));
        if (corrupt)
                for (size_t i = size / 2; i < size / 2 + 16; i++)
                        image[i] ^= 0x5a;
        blank(camera, &partitions[0]);
        r = sim_camera_flash_poke(model, partitions[0].external, partitions[0].start, image, size);
        return r < 0 ? fail(call, "%s", strerror(-r)) : 0;
}

/* --- cameras --- */

static int set_config(struct call *call, struct sim_config *config, const char *key, const char *value)
{
        const struct { const char *key; bool *value; } flags[] = {
                { "f4_first_dfu_error", &config->f4_first_dfu_error },
                { "h743_rev_v", &config->h743_rev_v },
                { "f765_dual_bank", &config->f765_dual_bank },
                { "rom_strict_clrstatus", &config->rom_strict_clrstatus },
                { "rom_read_protected", &config->rom_read_protected },
                { "n6_serial_lower", &config->n6_serial_lower },
                { "vendor_37c5_runtime", &config->vendor_37c5_runtime },
                { "h7_ecc_fault", &config->h7_ecc_fault },
                { "mpu_fault_is_error", &config->mpu_fault_is_error },
                { "rom_constant_stride", &config->rom_constant_stride },
                { "rom_stall_keeps_state", &config->rom_stall_keeps_state },
                { "rom_erase_keeps_pointer", &config->rom_erase_keeps_pointer },
                { "rom_busy_stalls", &config->rom_busy_stalls },
                { "rom_leave_mute", &config->rom_leave_mute },
                { "rom_mass_erase_works", &config->rom_mass_erase_works },
                { "rom_constant_serial", &config->rom_constant_serial },
                { "f427_1mb_string", &config->f427_1mb_string },
                { "f4_rom_2100", &config->f4_rom_2100 },
                { "tinyusb_msc", &config->tinyusb_msc },
                { "runtime_deaf", &config->runtime_deaf },
                { "runtime_stays", &config->runtime_stays },
                { "runtime_other_uid", &config->runtime_other_uid },
        };
        const struct { const char *key; double *value; } numbers[] = {
                { "flash_speed", &config->flash_speed },
                { "usb_speed", &config->usb_speed },
                { "window_scale", &config->window_scale },
                { "erase_factor", &config->erase_factor },
                { "program_factor", &config->program_factor },
                { "erase_unit_scale", &config->erase_unit_scale },
        };
        static const char *const chips[] = {
                [SIM_CHIP_BY_BOARD] = "board", [SIM_F427] = "f427", [SIM_F765] = "f765", [SIM_H743] = "h743",
                [SIM_N657] = "n657", [SIM_ALIF] = "alif",
        };
        uint64_t number;

        for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                if (strcmp(key, flags[i].key) == 0)
                        return parse_bool(value, flags[i].value) < 0 ? fail(call, "%s=%s: yes or no", key, value) : 0;
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                if (strcmp(key, numbers[i].key) == 0)
                        return parse_double(value, numbers[i].value) < 0 ? fail(call, "%s=%s: not a number", key, value) : 0;
        if (strcmp(key, "speed") == 0) {
                double speed = 0;

                if (strcmp(value, "max") != 0 && (parse_double(value, &speed) < 0 || speed <= 0))
                        return fail(call, "speed=%s: a factor, or max", value);
                config->flash_speed = config->usb_speed = speed;
                return 0;
        }
        if (strcmp(key, "bootloader") == 0)
                return parse_bootloader(call, value, &config->bootloader);
        if (strcmp(key, "boot") == 0 || strcmp(key, "rom_write_poll_ms") == 0) {
                if (parse_number(value, &number) < 0)
                        return fail(call, "%s=%s: milliseconds", key, value);
                if (strcmp(key, "boot") == 0)
                        config->boot_us = number * MSEC;
                else
                        config->rom_write_poll_ms = (unsigned)number;
                return 0;
        }
        if (strcmp(key, "uid") == 0)
                return hex_decode(value, config->uid, sizeof(config->uid)) < 0 ?
                       fail(call, "uid=%s: 24 hexadecimal digits, in address order", value) : 0;
        if (strcmp(key, "id") == 0) {
                uint8_t id[12];

                if (strlen(value) != 24 || hex_decode(value, id, sizeof(id)) < 0)
                        return fail(call, "id=%s: 24 hexadecimal digits, as the bootloader's serial shows them", value);
                /* The last word first, and in each its highest byte. */
                for (size_t i = 0; i < sizeof(id); i++)
                        config->uid[i] = id[sizeof(id) - 1 - i];
                return 0;
        }
        if (strcmp(key, "chip") == 0) {
                for (size_t i = 0; i < ELEMENTSOF(chips); i++)
                        if (strcasecmp(value, chips[i]) == 0) {
                                config->chip = (enum sim_chip)i;
                                return 0;
                        }
                return fail(call, "chip=%s: f427, f765, h743, n657, alif", value);
        }
        return fail(call, "a camera has no %s", key);
}

static int command_camera(struct call *call)
{
        const char *name = take_word(call), *board_name = take_word(call), *seed_text = take_option(call, "seed");
        const char *empty_text = take_option(call, "empty");
        struct image_options image = { DEFAULT_VERSION, DEFAULT_SEED, 0 };
        struct world_camera *camera = NULL;
        struct sim_config config;
        uint64_t seed = 1;
        bool empty = false;
        int board, r;

        if (!name || !board_name)
                return fail(call, "camera NAME BOARD [key=value...]");
        board = strcasecmp(board_name, "foreign") == 0 ? (int)SIM_FOREIGN : sim_board_from_name(board_name);
        if (board < 0)
                return fail(call, "no board %s", board_name);
        while ((camera = world_camera_next(call->scenario->world, camera)))
                seed++;
        if (seed_text && parse_number(seed_text, &seed) < 0)
                return fail(call, "seed=%s: not a number", seed_text);
        if (empty_text && parse_bool(empty_text, &empty) < 0)
                return fail(call, "empty=%s: yes or no", empty_text);

        sim_config_default(&config, (enum sim_board)board, (unsigned)seed);
        config.name = name;
        config.window_scale = world_options(call->scenario->world)->window;
        for (int i = 0; i < call->n; i++) {
                char *equals = strchr(call->words[i], '=');

                if (!equals)
                        return fail(call, "%s: key=value", call->words[i]);
                *equals = 0;
                r = set_config(call, &config, call->words[i], equals + 1);
                if (r < 0)
                        return r;
        }
        r = world_camera_new(call->scenario->world, &config, &camera);
        if (r == -EEXIST)
                return fail(call, "there is a camera called %s already", name);
        if (r < 0)
                return fail(call, "no such camera: %s", strerror(-r));
        if (empty || board == (int)SIM_FOREIGN)
                return 0;
        /* As it leaves the factory. */
        sim_camera_install_bootloader(world_camera_model(camera));
        image.size = sim_image_default_size((enum sim_board)board);
        return config.erase_unit_scale < 1 ? 0 : install_firmware(call, camera, false, &image, SIZE_MAX, false);
}

static int command_plug(struct call *call)
{
        struct world_camera *camera;
        const char *port;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        port = take_word(call);
        r = no_more(call);
        if (r < 0)
                return r;
        r = world_plug(camera, port);
        switch (r) {
        case -EBUSY:
                return fail(call, "it is plugged in already, at %s", world_camera_port(camera));
        case -EEXIST:
                return fail(call, "something else is plugged in there");
        case -EINVAL:
                return fail(call, "no such port; they are called 1-2 or 3-1.4.2");
        default:
                return r;
        }
}

static int command_unplug(struct call *call)
{
        struct world_camera *camera;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        r = no_more(call);
        if (r < 0)
                return r;
        r = world_unplug(camera);
        return r == -ENODEV ? fail(call, "it is not plugged in") : r;
}

static int command_replug(struct call *call)
{
        struct world_camera *camera;
        uint64_t gap = 200;
        const char *port;
        int r;

        r = take_camera(call, &camera);
        if (r >= 0)
                r = take_number(call, "gap", &gap);
        if (r < 0)
                return r;
        port = take_word(call);
        r = no_more(call);
        if (r < 0)
                return r;
        r = world_replug(camera, port, gap * MSEC);
        switch (r) {
        case -ENODEV:
                return fail(call, "it is not plugged in");
        case -EEXIST:
                return fail(call, "something else is plugged in there");
        case -EINVAL:
                return fail(call, "no such port; they are called 1-2 or 3-1.4.2");
        default:
                return r;
        }
}

static int command_jumper(struct call *call)
{
        struct world_camera *camera;
        const char *text;
        bool on;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        text = take_word(call);
        if (!text || parse_bool(text, &on) < 0)
                return fail(call, "on or off?");
        sim_camera_set_jumper(world_camera_model(camera), on);
        return no_more(call);
}

static int command_firmware(struct call *call)
{
        struct world_camera *camera;
        struct image_options image;
        uint64_t percent = 50;
        const struct sim_partition *p;
        const char *kind;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        r = take_image_options(call, world_camera_config(camera)->board, &image);
        if (r >= 0)
                r = take_number(call, "half", &percent);
        if (r < 0)
                return r;
        if (percent > 100)
                return fail(call, "half=%" PRIu64 ": percent", percent);
        kind = take_word(call);
        if (!kind && percent != 50)
                kind = "half";
        r = no_more(call);
        if (r < 0)
                return r;
        if (!kind)
                return fail(call, "good, half, blank, corrupt or mute?");
        if (strcmp(kind, "good") == 0)
                return install_firmware(call, camera, false, &image, SIZE_MAX, false);
        if (strcmp(kind, "mute") == 0)
                return install_firmware(call, camera, true, &image, SIZE_MAX, false);
        if (strcmp(kind, "corrupt") == 0)
                return install_firmware(call, camera, false, &image, SIZE_MAX, true);
        if (strcmp(kind, "half") == 0)
                return install_firmware(call, camera, false, &image, (size_t)(image.size * percent / 100), false);
        if (strcmp(kind, "blank") == 0) {
                p = partition(call, camera, firmware_partition(world_camera_config(camera)->board));
                if (!p)
                        return -EINVAL;
                blank(camera, p);
                return 0;
        }
        return fail(call, "firmware %s? (good, half, blank, corrupt, mute)", kind);
}

static int command_bootloader(struct call *call)
{
        struct world_camera *camera;
        enum sim_bootloader which;
        const struct sim_partition *partitions;
        const char *kind, *version;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        which = world_camera_config(camera)->bootloader;
        version = take_option(call, "version");
        if (version) {
                r = parse_bootloader(call, version, &which);
                if (r < 0)
                        return r;
        }
        kind = take_word(call);
        r = no_more(call);
        if (r < 0)
                return r;
        if (kind && strcmp(kind, "good") == 0)
                return install_bootloader(call, camera, which, false);
        if (kind && strcmp(kind, "corrupt") == 0)
                return install_bootloader(call, camera, which, true);
        if (kind && strcmp(kind, "blank") == 0) {
                if (sim_camera_partitions(world_camera_model(camera), &partitions) == 0)
                        return fail(call, "this one has no bootloader");
                blank(camera, &partitions[0]);
                return 0;
        }
        return fail(call, "good, blank or corrupt?");
}

static int take_board(struct call *call, enum sim_board *ret)
{
        const char *name = take_word(call);
        int board = name ? sim_board_from_name(name) : -EINVAL;

        if (board < 0 || board == (int)SIM_FOREIGN)
                return fail(call, "no board %s", name ?: "given");
        *ret = (enum sim_board)board;
        return 0;
}

static int command_image(struct call *call)
{
        const char *kind = take_word(call), *path;
        _cleanup_free_ uint8_t *image = NULL;
        enum sim_bootloader which = SIM_BL_1_0_3;
        struct image_options options;
        enum sim_board board = SIM_OPENMV2;
        size_t size = 0;
        int r;

        if (!kind)
                return fail(call, "firmware, mute, bootloader or bootloader-padded?");
        r = take_board(call, &board);
        if (r < 0)
                return r;
        path = take_word(call);
        if (!path)
                return fail(call, "which file?");

        if (strcmp(kind, "firmware") == 0 || strcmp(kind, "mute") == 0) {
                r = take_image_options(call, board, &options);
                if (r >= 0)
                        r = make_firmware(call, board, strcmp(kind, "mute") == 0, &options, &image);
                size = options.size;
        } else if (strcmp(kind, "bootloader") == 0 || strcmp(kind, "bootloader-padded") == 0) {
                const char *version = take_option(call, "version");

                r = version ? parse_bootloader(call, version, &which) : 0;
                if (r >= 0) {
                        r = sim_image_bootloader(board, which, strcmp(kind, "bootloader-padded") == 0, &image, &size);
                        if (r < 0)
                                r = fail(call, "no such bootloader for this board: %s", strerror(-r));
                }
        } else {
                return fail(call, "image %s? (firmware, mute, bootloader, bootloader-padded)", kind);
        }
        if (r >= 0)
                r = no_more(call);
        return r < 0 ? r : save_file(call, path, image, size);
}

/* A file system image: bytes that differ from place to place are all that matters. */
static int save_romfs(struct call *call, const char *path, uint64_t seed)
{
        uint8_t data[16384];
        uint32_t state = (uint32_t)seed * 2654435761U + 1;

        for (size_t i = 0; i < sizeof(data); i++) {
                state = state * 1664525U + 1013904223U;
                data[i] = (uint8_t)(state >> 24);
        }
        return save_file(call, path, data, sizeof(data));
}

static int save_board_folder(struct call *call, const char *directory, enum sim_board board, const struct image_options *options)
{
        static const char list[] = "firmware_M55_HP.bin\nfirmware_M55_HE.bin\n";
        bool ae3 = board == SIM_OPENMV_AE3;
        struct image_options firmware = *options;
        _cleanup_free_ uint8_t *image = NULL, *second = NULL, *bootloader = NULL;
        char path[512];
        size_t size;
        int r;

        (void)snprintf(path, sizeof(path), "%s/%s", directory, sim_board_name(board));
        r = make_directory(call, path);
        if (r < 0)
                return r;
        if (firmware.size == 0)
                firmware.size = sim_image_default_size(board);
        r = make_firmware(call, board, false, &firmware, &image);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%s/%s", directory, sim_board_name(board), ae3 ? "firmware_M55_HP.bin" : "firmware.bin");
        r = save_file(call, path, image, firmware.size);
        if (r < 0)
                return r;
        r = sim_image_bootloader(board, SIM_BL_1_0_3, /* padded= */ true, &bootloader, &size);
        if (r < 0)
                return fail(call, "no bootloader: %s", strerror(-r));
        (void)snprintf(path, sizeof(path), "%s/%s/bootloader.bin", directory, sim_board_name(board));
        r = save_file(call, path, bootloader, size);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%s/romfs0.img", directory, sim_board_name(board));
        r = save_romfs(call, path, options->seed);
        if (r < 0 || !ae3)
                return r;

        firmware = second_image(&firmware);
        r = make_firmware(call, board, false, &firmware, &second);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%s/firmware_M55_HE.bin", directory, sim_board_name(board));
        r = save_file(call, path, second, firmware.size);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%s/firmware.lst", directory, sim_board_name(board));
        r = save_file(call, path, list, sizeof(list) - 1);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%s/romfs1.img", directory, sim_board_name(board));
        return save_romfs(call, path, options->seed + 1);
}

static int command_firmware_folder(struct call *call)
{
        const char *directory = take_word(call), *only;
        struct image_options options;
        char path[512], text[512];
        int r;

        if (!directory)
                return fail(call, "which directory?");
        r = take_image_options(call, SIM_OPENMV3, &options);
        if (r < 0)
                return r;
        options.size = 0;               /* each board's own */
        only = take_option(call, "board");
        r = no_more(call);
        if (r >= 0)
                r = make_directory(call, directory);
        for (int board = 0; r >= 0 && board < (int)SIM_FOREIGN; board++)
                if (!only || sim_board_from_name(only) == board)
                        r = save_board_folder(call, directory, (enum sim_board)board, &options);
        if (r < 0)
                return r;
        /* Last: a folder with it is whole. */
        (void)snprintf(path, sizeof(path), "%s/settings.json", directory);
        (void)snprintf(text, sizeof(text), "{\n    \"firmware_version\": \"%s\",\n    \"boards\": []\n}\n", options.version);
        return save_file(call, path, text, strlen(text));
}

/* --- flash --- */

static int take_partition(struct call *call, struct world_camera **camera, const struct sim_partition **ret)
{
        int r = take_camera(call, camera);

        if (r < 0)
                return r;
        *ret = partition(call, *camera, take_word(call));
        return *ret ? 0 : -EINVAL;
}

static int command_corrupt(struct call *call)
{
        const struct sim_partition *p;
        struct world_camera *camera;
        const char *offset_text, *length_text;
        _cleanup_free_ uint8_t *bytes = NULL;
        uint64_t offset, length;
        int r;

        r = take_partition(call, &camera, &p);
        if (r < 0)
                return r;
        offset_text = take_word(call);
        length_text = take_word(call);
        if (!offset_text || !length_text || parse_number(offset_text, &offset) < 0 || parse_number(length_text, &length) < 0)
                return fail(call, "corrupt NAME PARTITION OFFSET LENGTH");
        if (offset > p->limit - p->start || length > p->limit - p->start - offset)
                return fail(call, "%s has %" PRIu32 " bytes", p->name, p->limit - p->start);
        bytes = malloc(length + 1);
        if (!bytes)
                return fail(call, "no memory");
        r = sim_camera_flash_read(world_camera_model(camera), p->external, p->start + (uint32_t)offset, bytes, length);
        for (uint64_t i = 0; i < length; i++)
                bytes[i] ^= 0x5a;
        if (r >= 0)
                r = sim_camera_flash_poke(world_camera_model(camera), p->external, p->start + (uint32_t)offset, bytes, length);
        return r < 0 ? r : no_more(call);
}

static int command_dump(struct call *call)
{
        const struct sim_partition *p;
        struct world_camera *camera;
        _cleanup_free_ uint8_t *bytes = NULL;
        const char *path;
        uint64_t size;
        int r;

        r = take_partition(call, &camera, &p);
        if (r < 0)
                return r;
        size = p->limit - p->start;
        r = take_number(call, "size", &size);
        if (r < 0)
                return r;
        path = take_word(call);
        if (!path)
                return fail(call, "which file?");
        if (size > p->limit - p->start)
                return fail(call, "%s has %" PRIu32 " bytes", p->name, p->limit - p->start);
        bytes = malloc(size + 1);
        if (!bytes)
                return fail(call, "no memory");
        r = sim_camera_flash_read(world_camera_model(camera), p->external, p->start, bytes, size);
        if (r >= 0)
                r = no_more(call);
        return r < 0 ? r : save_file(call, path, bytes, size);
}

static int command_compare(struct call *call)
{
        const struct sim_partition *p;
        struct world_camera *camera;
        _cleanup_free_ uint8_t *bytes = NULL, *file = NULL;
        const char *path;
        size_t size = 0, same;
        int r;

        r = take_partition(call, &camera, &p);
        if (r < 0)
                return r;
        path = take_word(call);
        if (!path)
                return fail(call, "which file?");
        r = load_file(call, path, &file, &size);
        if (r < 0)
                return r;
        if (size > p->limit - p->start)
                return fail(call, "%s is larger than %s", path, p->name);
        bytes = malloc(size + 1);
        if (!bytes)
                return fail(call, "no memory");
        r = sim_camera_flash_read(world_camera_model(camera), p->external, p->start, bytes, size);
        if (r < 0)
                return r;
        same = bytes_common_prefix(bytes, file, size);
        if (same < size)
                return fail(call, "differs from byte %zu (0x%zx) on: flash has %02x, %s has %02x", same, same, bytes[same],
                            path, file[same]);
        return no_more(call);
}

static int keep_camera(struct call *call, bool save)
{
        struct world_camera *camera;
        _cleanup_fclose_ FILE *f = NULL;
        const char *path;
        int fd, r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        path = take_word(call);
        if (!path)
                return fail(call, "which file?");
        r = no_more(call);
        if (r < 0)
                return r;
        fd = open_file(call, path, save ? O_WRONLY | O_CREAT | O_TRUNC : O_RDONLY);
        if (fd < 0)
                return fd;
        f = fdopen(fd, save ? "w" : "r");
        if (!f) {
                (void)close(fd);
                return fail(call, "no memory");
        }
        r = save ? sim_camera_save(world_camera_model(camera), f) : sim_camera_load(world_camera_model(camera), f);
        switch (r) {
        case -EBUSY:
                return fail(call, "it has power");
        case -EINVAL:
                return fail(call, "%s: not saved from this camera", path);
        default:
                return r < 0 ? fail(call, "%s: %s", path, strerror(-r)) : 0;
        }
}

static int command_save(struct call *call)
{
        return keep_camera(call, /* save= */ true);
}

static int command_load(struct call *call)
{
        return keep_camera(call, /* save= */ false);
}

static int command_fail_flash(struct call *call)
{
        const struct sim_partition *p;
        struct world_camera *camera;
        const char *offset_text, *how;
        uint64_t offset, count = 1;
        int r;

        r = take_partition(call, &camera, &p);
        if (r >= 0)
                r = take_number(call, "count", &count);
        if (r < 0)
                return r;
        offset_text = take_word(call);
        if (!offset_text || parse_number(offset_text, &offset) < 0 || offset >= p->limit - p->start)
                return fail(call, "at which offset of %s?", p->name);
        how = take_word(call);
        if (how && strcmp(how, "silently") != 0)
                return fail(call, "%s: not understood", how);
        sim_camera_fail_flash(world_camera_model(camera), p->external, p->start + (uint32_t)offset, how != NULL, (unsigned)count);
        return no_more(call);
}

/* --- faults --- */

static const struct {
        const char *name;
        int type, request;
} requests[] = {
        { "any", -1, -1 },
        { "detach", 0x21, 0 }, { "download", 0x21, 1 }, { "upload", 0xa1, 2 }, { "getstatus", 0xa1, 3 },
        { "clrstatus", 0x21, 4 }, { "getstate", 0xa1, 5 }, { "abort", 0x21, 6 },
        { "set-interface", 0x01, 11 }, { "get-interface", 0x81, 10 },
        { "set-configuration", 0x00, 9 }, { "get-configuration", 0x80, 8 }, { "get-descriptor", 0x80, 6 },
};

static const char *const fault_names[] = {
        [SIM_FAULT_STALL] = "stall", [SIM_FAULT_ERROR] = "error", [SIM_FAULT_NAK] = "nak", [SIM_FAULT_SHORT] = "short",
        [SIM_FAULT_GARBAGE] = "garbage", [SIM_FAULT_UNPLUG_BEFORE] = "unplug-before",
        [SIM_FAULT_UNPLUG_DATA] = "unplug-data", [SIM_FAULT_UNPLUG_STATUS] = "unplug-status",
        [SIM_FAULT_UNPLUG_FLASH] = "unplug-flash", [SIM_FAULT_CRASH] = "crash",
        [SIM_FAULT_TORN] = "torn", [SIM_FAULT_BABBLE] = "babble", [SIM_FAULT_STATE] = "state",
};

static int command_fault(struct call *call)
{
        struct sim_fault fault = { .request_type = -1, .request = -1, .count = 1, .error_code = -EPROTO };
        uint64_t skip = 0, count = 1, length = 0, pattern = 0, error = EPROTO;
        const char *kind, *request;
        struct world_camera *camera;
        bool found = false;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        request = take_option(call, "request");
        if ((r = take_number(call, "skip", &skip)) < 0 || (r = take_number(call, "count", &count)) < 0 ||
            (r = take_number(call, "length", &length)) < 0 || (r = take_number(call, "pattern", &pattern)) < 0 ||
            (r = take_number(call, "error", &error)) < 0)
                return r;
        kind = take_word(call);
        r = no_more(call);
        if (r < 0)
                return r;
        if (kind && strcmp(kind, "clear") == 0) {
                sim_camera_clear_faults(world_camera_model(camera));
                return 0;
        }
        for (size_t i = 0; kind && i < ELEMENTSOF(fault_names); i++)
                if (strcmp(kind, fault_names[i]) == 0) {
                        fault.kind = (enum sim_fault_kind)i;
                        found = true;
                }
        if (!found)
                return fail(call, "fault %s? (stall, error, nak, short, garbage, unplug-before, unplug-data, unplug-status, "
                            "unplug-flash, crash, torn, babble, state, clear)", kind ?: "");
        if (request) {
                found = false;
                for (size_t i = 0; i < ELEMENTSOF(requests); i++)
                        if (strcmp(request, requests[i].name) == 0) {
                                fault.request_type = requests[i].type;
                                fault.request = requests[i].request;
                                found = true;
                        }
                if (!found)
                        return fail(call, "request=%s?", request);
        }
        fault.skip = (unsigned)skip;
        fault.count = (unsigned)count;
        fault.length = length;
        fault.pattern = (uint8_t)pattern;
        fault.error_code = -(int)error;
        sim_camera_add_fault(world_camera_model(camera), &fault);
        return 0;
}

static int hold(struct call *call, bool on)
{
        struct world_camera *camera;
        uint64_t interface = 0;
        const char *text;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        text = take_word(call);
        if (text && parse_number(text, &interface) < 0)
                return fail(call, "%s: not an interface", text);
        r = world_camera_hold(camera, (uint8_t)MIN(interface, UINT64_C(255)), on);
        if (r == -EBUSY)
                return fail(call, "a program has claimed it");
        return r < 0 ? r : no_more(call);
}

static int command_hold_interface(struct call *call)
{
        return hold(call, true);
}

static int command_release_interface(struct call *call)
{
        return hold(call, false);
}

static int command_deny_open(struct call *call)
{
        static const struct { const char *name; int error; } errors[] = {
                { "off", 0 }, { "EACCES", -EACCES }, { "EPERM", -EPERM }, { "ENOENT", -ENOENT }, { "ENODEV", -ENODEV }, { "EIO", -EIO },
        };
        struct world_camera *camera;
        const char *name;
        int r;

        r = only_played(call);
        if (r >= 0)
                r = take_camera(call, &camera);
        if (r < 0)
                return r;
        name = take_word(call) ?: "EACCES";
        for (size_t i = 0; i < ELEMENTSOF(errors); i++)
                if (strcmp(name, errors[i].name) == 0) {
                        world_camera_refuse_open(camera, errors[i].error);
                        return no_more(call);
                }
        return fail(call, "%s? (EACCES, EPERM, ENOENT, ENODEV, EIO, off)", name);
}

static int command_enumeration(struct call *call)
{
        struct world_camera *camera;
        uint64_t count = 0, tries = 0;
        const char *what;
        int r;

        r = take_camera(call, &camera);
        if (r >= 0)
                r = take_number(call, "count", &count);
        if (r >= 0)
                r = take_number(call, "tries", &tries);
        if (r < 0)
                return r;
        what = take_word(call);
        if (!what || (strcmp(what, "fails") != 0 && strcmp(what, "works") != 0))
                return fail(call, "fails or works?");
        world_camera_fail_enumeration(camera, strcmp(what, "works") == 0 ? 0 : count > 0 ? (int)count : -1, (unsigned)tries);
        return no_more(call);
}

static int command_events(struct call *call)
{
        struct world_camera *camera;
        const char *times_text;
        uint64_t times;
        int r;

        r = only_played(call);
        if (r >= 0)
                r = take_camera(call, &camera);
        if (r < 0)
                return r;
        times_text = take_word(call);
        if (!times_text || parse_number(times_text, &times) < 0 || times > 10)
                return fail(call, "how many times: 0 (lost), 1 (normal), 2 (doubled)?");
        world_camera_repeat_events(camera, (unsigned)times);
        return no_more(call);
}

static int command_kernel_log(struct call *call)
{
        struct sim_kernel_log *log = world_kernel_log(call->scenario->world);
        const char *word = take_word(call), *text;
        uint64_t seconds;
        int r;

        if (!word)
                return fail(call, "where to?");
        if (!log)
                return fail(call, "this machine has a kernel of its own");
        if (strcmp(word, "aged") == 0) {
                text = take_word(call);
                if (!text || parse_number(text, &seconds) < 0 || seconds > 1000000)
                        return fail(call, "by how many seconds?");
                sim_kernel_log_age(log, (unsigned)seconds);
        } else if (strcmp(word, "said") == 0) {
                char line[256] = "";

                while ((text = take_word(call)))
                        (void)snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", *line ? " " : "", text);
                sim_kernel_says(log, "%s", line);
        } else {
                r = sim_kernel_log_to(log, word);
                if (r < 0)
                        return fail(call, "%s", strerror(-r));
        }
        return no_more(call);
}

static int command_enobufs(struct call *call)
{
        int r = no_more(call);

        if (r >= 0)
                r = only_played(call);
        if (r < 0)
                return r;
        r = world_overflow(call->scenario->world);
        if (r < 0)
                return r;
        if (r == 0)
                return fail(call, "nobody listens");
        (void)fprintf(call->text, "%d listener%s\n", r, r == 1 ? "" : "s");
        return 0;
}

static int command_hub(struct call *call)
{
        const char *what = take_word(call), *port = take_word(call);
        int r;

        if (!what || !port || (strcmp(what, "off") != 0 && strcmp(what, "on") != 0))
                return fail(call, "hub off|on PORT");
        r = strcmp(what, "off") == 0 ? world_hub_off(call->scenario->world, port) : world_hub_on(call->scenario->world, port);
        if (r == -ENODEV)
                return fail(call, "nothing is plugged in there");
        return r < 0 ? r : no_more(call);
}

static int command_set(struct call *call)
{
        struct world_options *options = world_options(call->scenario->world);
        const struct { const char *key; double *value; } times[] = {
                { "debounce", &options->debounce }, { "enumerate", &options->enumerate }, { "udev", &options->udev },
                { "udev-remove", &options->udev_remove }, { "notice", &options->notice },
        };
        const char *window = take_option(call, "window");
        const struct { const char *key; bool *value; } flags[] = {
                { "serial", &options->serial }, { "uevents", &options->uevents },
        };
        int r;

        if (window && (parse_double(window, &options->window) < 0 || options->window <= 0))
                return fail(call, "window=%s: a factor", window);
        if (call->n == 0 && !window)
                (void)fprintf(call->text, "window=%g\n", options->window);
        if (world_is_real(call->scenario->world))
                return call->n > 0 ? only_played(call) : 0;
        if (call->n == 0 && !window) {
                for (size_t i = 0; i < ELEMENTSOF(times); i++)
                        (void)fprintf(call->text, "%s=%g\n", times[i].key, *times[i].value);
                for (size_t i = 0; i < ELEMENTSOF(flags); i++)
                        (void)fprintf(call->text, "%s=%s\n", flags[i].key, *flags[i].value ? "yes" : "no");
                (void)fprintf(call->text, "order=%" PRIu64 "\n", options->order);
        }
        r = take_number(call, "order", &options->order);
        if (r < 0)
                return r;
        for (const char *text; (text = take_word(call));) {
                bool found = false;

                for (size_t i = 0; i < ELEMENTSOF(times); i++) {
                        size_t length = strlen(times[i].key);

                        if (strncmp(text, times[i].key, length) == 0 && text[length] == '=') {
                                if (parse_double(text + length + 1, times[i].value) < 0)
                                        return fail(call, "%s: milliseconds", text);
                                found = true;
                        }
                }
                for (size_t i = 0; i < ELEMENTSOF(flags); i++) {
                        size_t length = strlen(flags[i].key);

                        if (strncmp(text, flags[i].key, length) == 0 && text[length] == '=') {
                                if (parse_bool(text + length + 1, flags[i].value) < 0)
                                        return fail(call, "%s: yes or no", text);
                                found = true;
                        }
                }
                if (!found)
                        return fail(call, "%s: not understood", text);
        }
        return 0;
}

static int command_reset(struct call *call)
{
        struct world_camera *camera;
        const char *forced;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        forced = take_word(call);
        if (forced && strcmp(forced, "forced") != 0)
                return fail(call, "%s: not understood", forced);
        if (!sim_camera_is_powered(world_camera_model(camera)))
                return fail(call, "it has no power");
        sim_camera_reset(world_camera_model(camera), forced != NULL);
        return no_more(call);
}

/* --- looking --- */

static int command_mode(struct call *call)
{
        struct world_camera *camera;
        int r = take_camera(call, &camera);

        if (r < 0)
                return r;
        (void)fprintf(call->text, "%s\n", sim_mode_name(sim_camera_mode(world_camera_model(camera))));
        return no_more(call);
}

static int command_port(struct call *call)
{
        struct world_camera *camera;
        int r = take_camera(call, &camera);

        if (r < 0)
                return r;
        if (!*world_camera_port(camera))
                return fail(call, "it was never plugged in");
        (void)fprintf(call->text, "%s\n", world_camera_port(camera));
        return no_more(call);
}

static int command_cameras(struct call *call)
{
        struct world_camera *camera = NULL;

        while ((camera = world_camera_next(call->scenario->world, camera))) {
                const struct sim_config *config = world_camera_config(camera);
                char uid[25], id[25];
                uint8_t reversed[12];

                for (size_t i = 0; i < sizeof(reversed); i++)
                        reversed[i] = config->uid[sizeof(reversed) - 1 - i];
                hex_encode(reversed, sizeof(reversed), uid);
                for (size_t i = 0; i < sizeof(id); i++)
                        id[i] = (char)toupper((unsigned char)uid[i]);
                (void)fprintf(call->text, "%s %s port=%s plugged=%s mode=%s id=%s", config->name, sim_board_name(config->board),
                              *world_camera_port(camera) ? world_camera_port(camera) : "none",
                              world_camera_is_plugged(camera) ? "yes" : "no",
                              sim_mode_name(sim_camera_mode(world_camera_model(camera))), id);
                if (world_camera_device_number(camera) > 0)
                        (void)fprintf(call->text, " node=/dev/bus/usb/%03u/%03u", world_camera_bus_number(camera),
                                      world_camera_device_number(camera));
                if (world_camera_tty(camera))
                        (void)fprintf(call->text, " tty=/dev/%s", world_camera_tty(camera));
                (void)fprintf(call->text, "\n");
        }
        return no_more(call);
}

static const struct {
        const char *name;
        size_t offset;
} counter_names[] = {
#define COUNTER(name) { #name, offsetof(struct sim_counters, name) }
        COUNTER(transfers), COUNTER(upload), COUNTER(download), COUNTER(get_status), COUNTER(clr_status), COUNTER(get_state),
        COUNTER(abort), COUNTER(detach), COUNTER(set_interface), COUNTER(get_configuration), COUNTER(other),
        COUNTER(upload_bytes), COUNTER(download_bytes), COUNTER(stalls), COUNTER(erases), COUNTER(programmed_bytes),
        COUNTER(plugs), COUNTER(boots), COUNTER(configured_at_us), COUNTER(first_transfer_at_us), COUNTER(first_upload_at_us),
        COUNTER(windows_missed), COUNTER(serial_bytes),
#undef COUNTER
};

static uint64_t counter(const struct sim_counters *counters, size_t i)
{
        uint64_t value;

        memcpy(&value, (const uint8_t *)counters + counter_names[i].offset, sizeof(value));
        return value;
}

static int command_counters(struct call *call)
{
        static struct sim_unit_count units[1024];
        struct world_camera *camera;
        struct sim_counters counters;
        size_t n;
        int r;

        r = take_camera(call, &camera);
        if (r < 0)
                return r;
        sim_camera_counters(world_camera_model(camera), &counters);
        (void)fprintf(call->text, "{");
        for (size_t i = 0; i < ELEMENTSOF(counter_names); i++)
                (void)fprintf(call->text, "%s\"%s\": %" PRIu64, i == 0 ? "" : ", ", counter_names[i].name, counter(&counters, i));
        (void)fprintf(call->text, ", \"open_files\": %u, \"units\": [", world_camera_open_files(camera));
        n = sim_camera_unit_counts(world_camera_model(camera), units, ELEMENTSOF(units));
        for (size_t i = 0; i < n; i++)
                (void)fprintf(call->text, "%s{\"address\": %" PRIu32 ", \"size\": %" PRIu32 ", \"external\": %s, \"erases\": %" PRIu32
                              ", \"programmed_bytes\": %" PRIu32 "}", i == 0 ? "" : ", ", units[i].address, units[i].size,
                              units[i].external ? "true" : "false", units[i].erases, units[i].programmed_bytes);
        (void)fprintf(call->text, "]}\n");
        return no_more(call);
}

static int command_reset_counters(struct call *call)
{
        struct world_camera *camera = NULL;

        if (call->n == 0) {
                while ((camera = world_camera_next(call->scenario->world, camera)))
                        sim_camera_reset_counters(world_camera_model(camera));
                return 0;
        }
        while (call->n > 0) {
                int r = take_camera(call, &camera);

                if (r < 0)
                        return r;
                sim_camera_reset_counters(world_camera_model(camera));
        }
        return 0;
}

static int command_trace(struct call *call)
{
        const char *what = take_word(call), *path;
        int fd;

        if (what && strcmp(what, "off") == 0) {
                world_trace_to(call->scenario->world, NULL);
                return no_more(call);
        }
        path = take_word(call);
        if (!what || strcmp(what, "on") != 0 || !path)
                return fail(call, "trace on FILE, or trace off");
        fd = open_file(call, path, O_WRONLY | O_CREAT | O_APPEND);
        if (fd < 0)
                return fd;
        world_trace_to(call->scenario->world, fdopen(fd, "a"));
        return no_more(call);
}

/* --- waiting --- */

/* 1: holds; 0: does not; -EINVAL: not understood. */
static int condition_holds(struct world_camera *camera, const char *condition)
{
        struct sim_camera *model = world_camera_model(camera);
        const char *value = strpbrk(condition, "=<>");
        struct sim_counters counters;
        uint64_t wanted, have;
        size_t length;
        bool flag;

        if (!value)
                return -EINVAL;
        length = (size_t)(value - condition);
        if (strncmp(condition, "mode=", 5) == 0) {
                enum sim_mode mode = sim_camera_mode(model);

                for (int i = 0; i < (int)_SIM_MODE_MAX; i++)
                        if (strcmp(value + 1, sim_mode_name((enum sim_mode)i)) == 0)
                                /* A mode that shows is there when programs have heard of it. */
                                return (int)mode == i && (i < (int)SIM_ROM_DFU || world_camera_is_announced(camera));
                return -EINVAL;
        }
        if (strncmp(condition, "announced=", 10) == 0)
                return parse_bool(value + 1, &flag) < 0 ? -EINVAL :
                       flag ? world_camera_is_announced(camera) : world_camera_is_forgotten(camera);
        if (strncmp(condition, "given-up=", 9) == 0)
                return parse_bool(value + 1, &flag) < 0 ? -EINVAL : world_camera_is_given_up(camera) == flag;
        if (strncmp(condition, "plugged=", 8) == 0)
                return parse_bool(value + 1, &flag) < 0 ? -EINVAL : world_camera_is_plugged(camera) == flag;
        if (strncmp(condition, "opened=", 7) == 0)
                return parse_bool(value + 1, &flag) < 0 ? -EINVAL : (world_camera_open_files(camera) > 0) == flag;
        if (strncmp(condition, "tty_opened=", 11) == 0)
                return parse_bool(value + 1, &flag) < 0 ? -EINVAL : world_camera_tty_is_open(camera) == flag;
        if (strncmp(condition, "denied>=", 8) == 0)
                return parse_number(condition + 8, &wanted) < 0 ? -EINVAL : world_camera_refused(camera) >= wanted;

        sim_camera_counters(model, &counters);
        for (size_t i = 0; i < ELEMENTSOF(counter_names); i++) {
                if (strlen(counter_names[i].name) != length || strncmp(condition, counter_names[i].name, length) != 0)
                        continue;
                have = counter(&counters, i);
                if (strncmp(value, ">=", 2) == 0)
                        return parse_number(value + 2, &wanted) < 0 ? -EINVAL : have >= wanted;
                if (*value == '=')
                        return parse_number(value + 1, &wanted) < 0 ? -EINVAL : have == wanted;
        }
        return -EINVAL;
}

static bool all_hold(const struct waiting *waiting)
{
        for (int i = 0; i < waiting->n; i++)
                if (condition_holds(waiting->camera, waiting->conditions[i]) != 1)
                        return false;
        return true;
}

static void waiting_free(struct waiting *waiting)
{
        TAILQ_REMOVE(&waiting->scenario->waiting, waiting, link);
        timer_deinit(&waiting->timer);
        for (int i = 0; i < waiting->n; i++)
                free(waiting->conditions[i]);
        free(waiting);
}

static void waiting_end(struct waiting *waiting, const char *error)
{
        scenario_done_fn done = waiting->done;
        void *userdata = waiting->userdata;

        waiting_free(waiting);
        done(userdata, "", error);
}

static void on_wait_timeout(void *userdata)
{
        struct waiting *waiting = userdata;
        char error[320];

        if (!waiting->camera) {
                waiting_end(waiting, NULL);
                return;
        }
        (void)snprintf(error, sizeof(error), "timeout; it is %s%s",
                       sim_mode_name(sim_camera_mode(world_camera_model(waiting->camera))),
                       world_camera_is_announced(waiting->camera) ? "" :
                       world_camera_is_forgotten(waiting->camera) ? ", and programs do not see it" : ", and programs see what it was");
        waiting_end(waiting, error);
}

static void on_look(void *userdata)
{
        struct scenario *scenario = userdata;
        struct waiting *waiting;

        /* An answer may bring the next command, and that another wait: begin again after each. */
again:
        TAILQ_FOREACH(waiting, &scenario->waiting, link)
                if (waiting->camera && all_hold(waiting)) {
                        waiting_end(waiting, NULL);
                        goto again;
                }
}

static int waiting_new(struct call *call, uint64_t timeout, struct waiting **ret)
{
        struct waiting *waiting = calloc(1, sizeof(*waiting));

        if (!waiting)
                return fail(call, "no memory");
        waiting->scenario = call->scenario;
        timer_init(&waiting->timer, call->scenario->loop, on_wait_timeout, waiting);
        timer_set(&waiting->timer, timeout);
        TAILQ_INSERT_TAIL(&call->scenario->waiting, waiting, link);
        call->waiting = waiting;
        *ret = waiting;
        return 0;
}

static int command_wait(struct call *call)
{
        uint64_t timeout = WAIT_TIMEOUT;
        struct world_camera *camera;
        struct waiting *waiting;
        int r;

        r = take_camera(call, &camera);
        if (r >= 0)
                r = take_number(call, "timeout", &timeout);
        if (r < 0)
                return r;
        if (call->n == 0)
                return fail(call, "for what?");
        for (int i = 0; i < call->n; i++) {
                if (condition_holds(camera, call->words[i]) < 0)
                        return fail(call, "%s: not understood", call->words[i]);
                /* That a port is given up the machine's own kernel tells in its log, and whom it refuses a node nobody. */
                if ((strncmp(call->words[i], "given-up=", 9) == 0 || strncmp(call->words[i], "denied>=", 8) == 0) &&
                    (r = only_played(call)) < 0)
                        return r;
        }

        r = waiting_new(call, timeout * MSEC, &waiting);
        if (r < 0)
                return r;
        waiting->camera = camera;
        for (int i = 0; i < call->n; i++) {
                waiting->conditions[i] = strdup(call->words[i]);
                if (!waiting->conditions[i]) {
                        call->waiting = NULL;
                        waiting_free(waiting);
                        return fail(call, "no memory");
                }
                waiting->n++;
        }
        scenario_on_change(call->scenario);
        return PENDING;
}

static int command_sleep(struct call *call)
{
        const char *text = take_word(call);
        struct waiting *waiting;
        uint64_t milliseconds;
        int r;

        if (!text || parse_number(text, &milliseconds) < 0)
                return fail(call, "how many milliseconds?");
        r = waiting_new(call, milliseconds * MSEC, &waiting);
        return r < 0 ? r : PENDING;
}

/* Behind a wait it comes in the same moment: what a shell would send might come when all is over. */
static int command_signal(struct call *call)
{
        static const struct { const char *name; int number; } signals[] = {
                { "TERM", SIGTERM }, { "KILL", SIGKILL }, { "STOP", SIGSTOP }, { "CONT", SIGCONT },
        };
        const char *pid_text = take_word(call), *name = take_word(call);
        uint64_t pid;

        if (!pid_text || !name || parse_number(pid_text, &pid) < 0 || pid < 2 || pid > INT_MAX)
                return fail(call, "signal PID TERM|KILL|STOP|CONT");
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                if (strcmp(signals[i].name, name) == 0)
                        return kill((pid_t)pid, signals[i].number) < 0 ? fail(call, "%s: %s", pid_text, strerror(errno)) : no_more(call);
        return fail(call, "%s: TERM, KILL, STOP or CONT", name);
}

static int command_help(struct call *call)
{
        scenario_help(call->text);
        return 0;
}

/* --- all commands --- */

static const struct command {
        const char *name;
        int (*run)(struct call *call);
        const char *help;
} commands[] = {
        { "camera", command_camera,
          "NAME BOARD [seed=N] [uid=HEX|id=HEX] [bootloader=1.0.3|1.0.2|1.0.0|1.0.0-old-layout|vcp] [speed=FACTOR|max]\n"
          "[boot=MS] [empty=yes] [any switch of struct sim_config=VALUE]\n"
          "A new camera, in the drawer, as from the factory: bootloader and firmware " DEFAULT_VERSION ".  BOARD: M4 M7 H7 ... or OPENMV3 ...,\n"
          "or foreign with chip=f427|f765|h743 (some other STM32 in ROM DFU).  speed=1 is as slow as hardware." },
        { "plug", command_plug, "NAME [PORT]\nPORT: 1-2, or 3-1.4.2 behind hubs (which come with it); else where it was, or a free one.\n"
          "A real kernel has no such hubs: a path that it does not have stands for a free port (see port)." },
        { "unplug", command_unplug, "NAME" },
        { "replug", command_replug, "NAME [PORT] [gap=MS]\nOut, and in again after 200 ms or gap." },
        { "hub", command_hub, "off|on PORT\nEverything below loses power, or has it again; a bus number is all its ports." },
        { "jumper", command_jumper, "NAME on|off\nBOOT0; looked at when the camera starts." },
        { "reset", command_reset, "NAME [forced]\nIts firmware restarts it; forced: into the bootloader for ever." },
        { "firmware", command_firmware,
          "NAME good|half|blank|corrupt|mute [half=PERCENT] [version=V] [seed=N] [size=N]\nWhat stands in its firmware partition. mute: runs, and never shows on USB." },
        { "bootloader", command_bootloader, "NAME good|blank|corrupt [version=1.0.3]" },
        { "image", command_image,
          "firmware|mute|bootloader|bootloader-padded BOARD FILE [version=V] [seed=N] [size=N]\n"
          "Writes an image to a file; equal values give equal bytes, here and in cameras." },
        { "firmware-folder", command_firmware_folder,
          "DIRECTORY [version=V] [seed=N] [board=BOARD]\nWrites a folder as the IDE has it: settings.json and a folder for each board." },
        { "corrupt", command_corrupt, "NAME PARTITION OFFSET LENGTH" },
        { "dump", command_dump, "NAME PARTITION FILE [size=N]" },
        { "compare", command_compare, "NAME PARTITION FILE\nAn error tells the first difference." },
        { "fault", command_fault,
          "NAME stall|error|nak|short|garbage|unplug-before|unplug-data|unplug-status|unplug-flash|crash|torn|\n"
          "babble|state|clear\n[request=any|upload|download|getstatus|clrstatus|getstate|abort|detach|set-interface|get-interface|\n"
          "set-configuration|get-configuration|get-descriptor] [skip=N] [count=N (0: for ever)] [length=N] [pattern=N] [error=N]" },
        { "save", command_save, "NAME FILE\nIts flash and its jumper, to be loaded on another machine: it outlives this one.  Without power only." },
        { "load", command_load, "NAME FILE\nSaved from the same camera: equal id (or seed) and board." },
        { "fail-flash", command_fail_flash, "NAME PARTITION OFFSET [silently] [count=N]\nThe erase unit there does not take the next operations." },
        { "hold-interface", command_hold_interface, "NAME [N]\nAnother program has it: claims get EBUSY." },
        { "release-interface", command_release_interface, "NAME [N]" },
        { "deny-open", command_deny_open, "NAME [EACCES|EPERM|ENOENT|ENODEV|EIO|off]\nopen(2) of its node fails." },
        { "enumeration", command_enumeration, "NAME fails|works [count=N] [tries=N]\nThe kernel gets no descriptor from it, the next N times that it is attached (else always);\n"
          "tries: only the first N times that it is asked then, so that a kernel which asks again gets one." },
        { "kernel-log", command_kernel_log, "FILE | said TEXT | aged SECONDS\n"
          "FILE: a FIFO that gives what the kernel says of ports, as /dev/kmsg does; what it has said, too.  One at a time.\n"
          "said: another record stands in it; aged: all that was said was said so much earlier." },
        { "events", command_events, "NAME N\nIts uevents come N times; 0: they are lost." },
        { "enobufs", command_enobufs, "\nEvery listener's buffer overflows." },
        { "set", command_set,
          "[window=FACTOR] [debounce=MS] [enumerate=MS] [udev=MS] [udev-remove=MS] [notice=MS] [serial=yes|no] [uevents=yes|no] [order=N]\n"
          "window: window_scale of cameras that are made from now on (1).  The kernel's and udevd's times (100, 250, 10); udev-remove: how late udevd says \"remove\", when another one may\n"
          "stand at the port (0); notice: how late a hub tells of a loss (30); serial: one port of a hub at a time, and one reset of a controller (no); uevents=no: nobody hears\n"
          "anything; order: what udevd says of several interfaces of a device is mixed, by lots that begin with N (1; 0: in the order in which they are).  Without words: shows them." },
        { "cameras", command_cameras, "\nOne line for each; port is the last one while it is not plugged in." },
        { "port", command_port, "NAME\nWhere it is, or was last, as the kernel calls it." },
        { "mode", command_mode, "NAME\noff, silent, rom-dfu, bootloader ... whatever it is." },
        { "counters", command_counters, "NAME\nWhat it was asked and what it erased and programmed, as JSON." },
        { "reset-counters", command_reset_counters, "[NAME...]" },
        { "wait", command_wait,
          "NAME mode=MODE|announced=yes|plugged=no|opened=no|tty_opened=no|given-up=yes|denied>=N|COUNTER>=N|COUNTER=N ... [timeout=MS]\nUntil all hold at once (30 s)." },
        { "sleep", command_sleep, "MS\nA hand takes its time." },
        { "signal", command_signal, "PID TERM|KILL|STOP|CONT\nTo a program, in the moment in which a wait before it ends." },
        { "trace", command_trace, "on FILE|off\nOne line for each request, flash operation, uevent and open." },
        { "help", command_help, "" },
};

void scenario_help(FILE *f)
{
        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                const char *p = commands[i].help;

                (void)fprintf(f, "  %s ", commands[i].name);
                for (; *p; p++) {
                        (void)fputc(*p, f);
                        if (*p == '\n')
                                (void)fputs("        ", f);
                }
                (void)fputc('\n', f);
        }
}

int scenario_new(struct loop *loop, struct world *world, struct scenario **ret)
{
        struct scenario *scenario = calloc(1, sizeof(*scenario));

        if (!scenario)
                return -ENOMEM;
        scenario->loop = loop;
        scenario->world = world;
        TAILQ_INIT(&scenario->waiting);
        defer_init(&scenario->look, loop, on_look, scenario);
        *ret = scenario;
        return 0;
}

struct scenario *scenario_free(struct scenario *scenario)
{
        struct waiting *waiting;

        if (!scenario)
                return NULL;
        while ((waiting = TAILQ_FIRST(&scenario->waiting)))
                waiting_free(waiting);
        defer_deinit(&scenario->look);
        free(scenario);
        return NULL;
}

void scenario_on_change(struct scenario *scenario)
{
        if (!TAILQ_EMPTY(&scenario->waiting))
                defer_call(&scenario->look);
}

void scenario_forget(struct scenario *scenario, void *userdata)
{
        struct waiting *waiting, *next;

        for (waiting = TAILQ_FIRST(&scenario->waiting); waiting; waiting = next) {
                next = TAILQ_NEXT(waiting, link);
                if (waiting->userdata == userdata)
                        waiting_free(waiting);
        }
}

static int run_words(struct call *call, char **words, int n)
{
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(words[0], commands[i].name) == 0) {
                        call->words = words + 1;
                        call->n = n - 1;
                        return commands[i].run(call);
                }
        return fail(call, "%s: no such command (help tells all)", words[0]);
}

void scenario_run(struct scenario *scenario, const char *line, const char *directory, scenario_done_fn done, void *userdata)
{
        struct call call = { .scenario = scenario, .directory = directory };
        _cleanup_free_ char *copy = strdup(line), *text = NULL;
        char *words[WORDS_MAX];
        size_t size = 0;
        int n, r;

        call.text = copy ? open_memstream(&text, &size) : NULL;
        if (!call.text) {
                done(userdata, "", "no memory");
                return;
        }
        n = scenario_split(copy, words, WORDS_MAX);
        if (n < 0)
                r = fail(&call, n == -E2BIG ? "too many words" : "a quote is open");
        else
                r = n == 0 ? 0 : run_words(&call, words, n);
        (void)fclose(call.text);

        if (r == PENDING) {
                call.waiting->done = done;
                call.waiting->userdata = userdata;
                return;
        }
        if (r < 0 && !*call.error)
                (void)snprintf(call.error, sizeof(call.error), "%s", strerror(-r));
        done(userdata, text, r < 0 ? call.error : NULL);
}

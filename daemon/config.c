/* SPDX-License-Identifier: MIT */

/*
 * The configuration.  A daemon that does not start because of a typing error
 * rescues nobody, so a wrong line costs itself only; but it is never guessed
 * what it may have meant.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/key-file.h"
#include "base/log.h"
#include "config.h"

#define CONFIG_FILE_MAX (1U << 20)

enum section { SECTION_NONE, SECTION_DAEMON, SECTION_RECOVERY, SECTION_CAMERA, SECTION_FIRMWARE };

/* Of one file: what stands twice in it is a mistake, what stood in another one before is overridden. */
struct config_reader {
        struct config *config;
        unsigned file, line;
        enum section section;           /* NONE: of a wrong section, whose keys are passed over */
        struct config_camera *camera;
        bool automatic_seen, saved_quota_seen, exit_on_idle_seen, camera_automatic_seen;
};

void config_init(struct config *config)
{
        *config = (struct config){ .automatic = true, .saved_quota = CONFIG_SAVED_QUOTA_DEFAULT };
}

void config_free(struct config *config)
{
        for (size_t i = 0; i < config->n_files; i++)
                free(config->files[i]);
        free(config->files);
        free(config->cameras);
        config->files = NULL;
        config->cameras = NULL;
        config->n_files = config->n_cameras = 0;
}

/* Whoever ends and is started by each question is not started any more for the next camera: StartLimitBurst= in camrescued.service. */
#define EXIT_ON_IDLE_MIN (5 * UINT64_C(1000000))

/* Each reading function returns what is wrong, or NULL. */

static const char *read_automatic(const char *value, int *ret)
{
        int b = parse_boolean(value);

        if (b < 0)
                return "neither \"yes\" nor \"no\"";
        *ret = b;
        return NULL;
}

/* "no", "90", "90s", "10min", "2h" */
static int parse_duration(const char *value, uint64_t *ret)
{
        static const struct { const char *suffix; uint64_t us; } units[] = {
                { "s", 1000000 }, { "sec", 1000000 }, { "min", 60 * UINT64_C(1000000) }, { "h", 3600 * UINT64_C(1000000) },
        };
        char digits[16];
        size_t n = strspn(value, "0123456789");
        uint64_t number, unit = 1000000;

        if (strcmp(value, "no") == 0) {
                *ret = 0;
                return 0;
        }
        if (n == 0 || n >= sizeof(digits))
                return -EINVAL;
        memcpy(digits, value, n);
        digits[n] = '\0';
        if (value[n]) {
                unit = 0;
                for (size_t i = 0; i < ELEMENTSOF(units); i++)
                        if (strcmp(value + n, units[i].suffix) == 0)
                                unit = units[i].us;
        }
        if (unit == 0 || parse_number(digits, 365 * 24 * 3600, &number) < 0)
                return -EINVAL;
        *ret = number * unit;
        return 0;
}

static const char *read_daemon(struct config_reader *reader, const char *key, const char *value)
{
        uint64_t time;

        if (strcmp(key, "exit-on-idle") != 0)
                return "an unknown key";
        if (reader->exit_on_idle_seen)
                return "given before";
        if (parse_duration(value, &time) < 0)
                return "neither \"no\" nor a time like 10min";
        if (time < EXIT_ON_IDLE_MIN && strcmp(value, "no") != 0)
                return "too short: 5s at least, or \"no\"";
        reader->config->exit_on_idle = time;
        reader->exit_on_idle_seen = true;
        return NULL;
}

static const char *read_recovery(struct config_reader *reader, const char *key, const char *value)
{
        const char *fault;
        int b;

        if (strcmp(key, "automatic") == 0) {
                if (reader->automatic_seen)
                        return "given before";
                fault = read_automatic(value, &b);
                if (fault)
                        return fault;
                reader->config->automatic = b;
                reader->automatic_seen = true;
                return NULL;
        }
        if (strcmp(key, "saved-quota") == 0) {
                if (reader->saved_quota_seen)
                        return "given before";
                if (parse_size(value, &reader->config->saved_quota) < 0)
                        return "not a size like 64M";
                reader->saved_quota_seen = true;
                return NULL;
        }
        return "an unknown key";
}

static const char *read_camera(struct config_reader *reader, const char *key, const char *value)
{
        if (strcmp(key, "automatic") != 0)
                return "an unknown key";
        if (reader->camera_automatic_seen)
                return "given before";
        reader->camera_automatic_seen = true;
        return read_automatic(value, &reader->camera->automatic);
}

static bool is_version(const char *value)
{
        for (const char *c = value; *c; c++)
                if (!((*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || strchr(".:+-_", *c)))
                        return false;
        return *value;
}

static struct config_pin *find_pin(struct config *config, const char *board)
{
        for (size_t i = 0; i < config->n_pins; i++)
                if (strcasecmp(config->pins[i].board, board) == 0)
                        return &config->pins[i];
        return NULL;
}

static const char *read_pin(struct config_reader *reader, const char *key, const char *value)
{
        struct config *config = reader->config;
        struct config_pin *pin;

        if (strncmp(key, "pin.", 4) != 0)
                return "an unknown key";
        if (!key[4] || strlen(key + 4) >= sizeof(pin->board))
                return "a pin without a board";
        if (!is_version(value) || strlen(value) >= sizeof(pin->version))
                return "not a version";
        pin = find_pin(config, key + 4);
        if (pin && pin->file == reader->file)
                return "given before";
        if (!pin) {
                if (config->n_pins == BOARDS_MAX)
                        return "more pins than there are boards";
                pin = &config->pins[config->n_pins++];
        }
        strcpy(pin->board, key + 4);
        strcpy(pin->version, value);
        pin->file = reader->file;
        pin->line = reader->line;
        return NULL;
}

/* The section of this file for a camera: of several files they become one. */
static const char *begin_camera(struct config_reader *reader, const char *name)
{
        struct config *config = reader->config;
        struct config_camera *cameras;

        if (!*name || strlen(name) >= sizeof(config->cameras[0].name))
                return "a camera section needs a key, a serial or a port";
        for (size_t i = 0; i < config->n_cameras; i++) {
                reader->camera = &config->cameras[i];
                if (strcasecmp(reader->camera->name, name) != 0)
                        continue;
                if (reader->camera->file == reader->file)
                        return "a second section for this camera";
                reader->camera->file = reader->file;
                return NULL;
        }
        cameras = reallocarray(config->cameras, config->n_cameras + 1, sizeof(*cameras));
        if (!cameras)
                return "no memory for another camera";
        config->cameras = cameras;
        reader->camera = &cameras[config->n_cameras++];
        *reader->camera = (struct config_camera){ .automatic = -1, .file = reader->file };
        strcpy(reader->camera->name, name);
        return NULL;
}

static const char *begin_section(struct config_reader *reader, const char *name, const char *argument)
{
        const char *fault;

        reader->section = SECTION_NONE;
        reader->camera_automatic_seen = false;
        if (strcmp(name, "camera") == 0) {
                fault = begin_camera(reader, argument);
                if (!fault)
                        reader->section = SECTION_CAMERA;
                return fault;
        }
        if (*argument)
                return "a section that takes no argument";
        if (strcmp(name, "daemon") == 0)
                reader->section = SECTION_DAEMON;
        else if (strcmp(name, "recovery") == 0)
                reader->section = SECTION_RECOVERY;
        else if (strcmp(name, "firmware") == 0)
                reader->section = SECTION_FIRMWARE;
        else
                return "an unknown section";
        return NULL;
}

static const char *read_value(struct config_reader *reader, const char *key, const char *value)
{
        switch (reader->section) {
        case SECTION_NONE:
                break;
        case SECTION_DAEMON:
                return read_daemon(reader, key, value);
        case SECTION_RECOVERY:
                return read_recovery(reader, key, value);
        case SECTION_CAMERA:
                return read_camera(reader, key, value);
        case SECTION_FIRMWARE:
                return read_pin(reader, key, value);
        }
        return NULL;
}

/* -ENOMEM */
static int remember_file(struct config *config, const char *file)
{
        char **files = reallocarray(config->files, config->n_files + 1, sizeof(*files));

        if (!files)
                return -ENOMEM;
        config->files = files;
        files[config->n_files] = strdup(file);
        if (!files[config->n_files])
                return -ENOMEM;
        config->n_files++;
        return 0;
}

unsigned config_add(struct config *config, const char *text, size_t size, const char *file)
{
        struct config_reader reader = { .config = config, .file = (unsigned)config->n_files };
        struct key_file keys;
        enum key_item item;
        bool in_section = false;
        unsigned wrong = 0;

        if (remember_file(config, file) < 0) {
                log_error("%s: no memory to read it; ignored", file);
                return 1;
        }
        key_file_init(&keys, text, size);
        while ((item = key_file_next(&keys)) != KEY_ITEM_END) {
                const char *fault = NULL;

                reader.line = keys.line;
                switch (item) {
                case KEY_ITEM_SECTION:
                        fault = begin_section(&reader, keys.section, keys.argument);
                        in_section = true;
                        break;
                case KEY_ITEM_VALUE:
                        fault = in_section ? read_value(&reader, keys.key, keys.value) : "a key before the first section";
                        break;
                case KEY_ITEM_WRONG:
                        fault = keys.fault;
                        /* A heading that cannot be read: what follows does not belong to the section before it. */
                        if (keys.is_heading) {
                                reader.section = SECTION_NONE;
                                in_section = true;
                        }
                        break;
                case KEY_ITEM_END:
                        break;
                }
                if (fault) {
                        log_warning("%s:%u: %s; %s", file, keys.line, fault,
                                    item == KEY_ITEM_VALUE || (item == KEY_ITEM_WRONG && !keys.is_heading)
                                            ? "this line is ignored" : "this section is ignored");
                        wrong++;
                }
        }
        return wrong;
}

unsigned config_parse(struct config *config, const char *text, size_t size, const char *file)
{
        config_init(config);
        return config_add(config, text, size, file);
}

static unsigned load_file(struct config *config, const char *path)
{
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = read_whole_file(path, CONFIG_FILE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                log_error("%s: cannot be read (%s); ignored", path, strerror(-r));
                return 1;
        }
        return config_add(config, text, size, path);
}

static int is_drop_in(const struct dirent *entry)
{
        size_t length = strlen(entry->d_name);

        return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".conf") == 0;
}

/* In the order of bytes, whatever the locale. */
static int compare_names(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

unsigned config_load(struct config *config, const char *path)
{
        _cleanup_free_ char *directory = NULL;
        struct dirent **entries = NULL;
        unsigned wrong;
        int n;

        config_init(config);
        wrong = load_file(config, path);
        if (asprintf(&directory, "%s.d", path) < 0) {
                directory = NULL;
                return wrong + 1;
        }
        n = scandir(directory, &entries, is_drop_in, compare_names);
        if (n < 0 && errno != ENOENT) {
                log_error("%s: cannot be read (%s); ignored", directory, strerror(errno));
                wrong++;
        }
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *file = NULL;

                if (asprintf(&file, "%s/%s", directory, entries[i]->d_name) < 0)
                        file = NULL;
                wrong += file ? load_file(config, file) : 1;
                free(entries[i]);
        }
        free(entries);
        return wrong;
}

unsigned config_check_pins(struct config *config, const struct board_list *boards)
{
        size_t n = config->n_pins;

        config->n_pins = 0;
        for (size_t i = 0; i < n; i++) {
                struct config_pin pin = config->pins[i];
                const struct board *board = board_by_any_name(boards, pin.board);

                if (!board || config_pin(config, board->id)) {
                        log_warning("%s:%u: %s; this line is ignored", config->files[pin.file], pin.line,
                                    board ? "a second pin for this board" : "a pin for a board that is not known");
                        continue;
                }
                strcpy(pin.board, board->id);
                config->pins[config->n_pins++] = pin;
        }
        return (unsigned)(n - config->n_pins);
}

static bool is_named(const struct config_camera *camera, const char *key, const char *serial, const char *port)
{
        return (key && strcasecmp(camera->name, key) == 0) || (serial && strcasecmp(camera->name, serial) == 0) ||
               (port && strcmp(camera->name, port) == 0);
}

int config_camera_automatic(const struct config *config, const char *key, const char *serial, const char *port)
{
        int automatic = -1;

        for (size_t i = 0; i < config->n_cameras; i++) {
                const struct config_camera *camera = &config->cameras[i];

                if (camera->automatic < 0 || !is_named(camera, key, serial, port))
                        continue;
                if (camera->automatic == 0)
                        return 0;
                automatic = 1;
        }
        return automatic;
}

const char *config_pin(const struct config *config, const char *board_id)
{
        for (size_t i = 0; i < config->n_pins; i++)
                if (strcasecmp(config->pins[i].board, board_id) == 0)
                        return config->pins[i].version;
        return NULL;
}

/* SPDX-License-Identifier: MIT */

/*
 * Boards: the reader of *.board files, and questions about what they say.
 * There is no fact about any board in this file; a board is either wholly
 * understood or left out, since half a memory map is worse than none.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/key-file.h"
#include "base/log.h"
#include "core/board.h"

static const char *const board_support_names[_BOARD_SUPPORT_MAX] = {
        [BOARD_DFU] = "dfu",
        [BOARD_RECOGNISED] = "recognised",
};
DEFINE_ENUM_NAMES(board_support, _BOARD_SUPPORT_MAX);

static const char *const partition_role_names[_PARTITION_ROLE_MAX] = {
        [PARTITION_BOOTLOADER] = "bootloader",
        [PARTITION_FIRMWARE] = "firmware",
        [PARTITION_FILESYSTEM] = "filesystem",
        [PARTITION_ROMFS] = "romfs",
        [PARTITION_FORBIDDEN] = "forbidden",
};
DEFINE_ENUM_NAMES(partition_role, _PARTITION_ROLE_MAX);

static const char *const chip_names[_CHIP_MAX] = {
        [CHIP_NONE] = "none",
        [CHIP_F4] = "f4",
        [CHIP_F7] = "f7",
        [CHIP_H7] = "h7",
        [CHIP_N6] = "n6",
        [CHIP_ALIF] = "alif",
};
DEFINE_ENUM_NAMES(chip, _CHIP_MAX);

static const char *const usb_role_names[_USB_ROLE_MAX] = {
        [USB_ROLE_NONE] = "none",
        [USB_ROLE_ROM_DFU] = "rom-dfu",
        [USB_ROLE_BOOTLOADER] = "bootloader",
        [USB_ROLE_RUNTIME] = "runtime",
        [USB_ROLE_LEGACY] = "legacy",
        [USB_ROLE_OTHER] = "other",
};
DEFINE_ENUM_NAMES(usb_role, _USB_ROLE_MAX);

/* --- reading: a board in the making --- */

struct board_reader {
        struct board *board;
        const char *fault;              /* why the present line is wrong */
        uint64_t seen;                  /* bit of each single-valued key that was read */
};

static int refuse(struct board_reader *reader, const char *fault)
{
        reader->fault = fault;
        return -EINVAL;
}

static int copy_text(struct board_reader *reader, const char *value, char *field, size_t size)
{
        if (!*value)
                return refuse(reader, "an empty value");
        if (strlen(value) >= size)
                return refuse(reader, "a value that is too long");
        strcpy(field, value);
        return 0;
}

static int read_flag(struct board_reader *reader, const char *value, bool *field)
{
        int b = parse_boolean(value);

        if (b < 0)
                return refuse(reader, "neither \"yes\" nor \"no\"");
        *field = b;
        return 0;
}

static int read_id(struct board_reader *reader, const char *value, char *field, size_t size)
{
        for (const char *c = value; *c; c++)
                if (!((*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_'))
                        return refuse(reader, "a name with other than A-Z, 0-9 and _");
        return copy_text(reader, value, field, size);
}

static int read_u32(struct board_reader *reader, const char *word, uint32_t *ret)
{
        uint64_t v;

        if (!word || parse_number(word, UINT32_MAX, &v) < 0)
                return refuse(reader, "a number that is missing, malformed or too large");
        *ret = (uint32_t)v;
        return 0;
}

/* start and limit, the latter exclusive and larger. */
static int read_range(struct board_reader *reader, char **rest, uint32_t *ret_start, uint32_t *ret_limit)
{
        uint32_t start, limit;
        int r;

        r = read_u32(reader, key_file_word(rest), &start);
        if (r < 0)
                return r;
        r = read_u32(reader, key_file_word(rest), &limit);
        if (r < 0)
                return r;
        if (limit <= start)
                return refuse(reader, "a range that ends before it begins");
        *ret_start = start;
        *ret_limit = limit;
        return 0;
}

static int read_end(struct board_reader *reader, char *rest)
{
        return key_file_word(&rest) ? refuse(reader, "more words than expected") : 0;
}

static bool hex4(const char *s, uint16_t *ret)
{
        unsigned v = 0;

        for (int i = 0; i < 4; i++) {
                static const char digits[] = "0123456789abcdef";
                const char *digit = s[i] ? strchr(digits, s[i]) : NULL;

                if (!digit)
                        return false;
                v = v << 4 | (unsigned)(digit - digits);
        }
        *ret = (uint16_t)v;
        return true;
}

/* "37c5:9203", or "2341:005b/00ff" where masks make sense. */
static int read_usb_id(struct board_reader *reader, const char *value, bool masked, struct usb_id *ids, size_t *n)
{
        struct usb_id id = { .product_mask = 0xffff };
        size_t size = strlen(value);

        if (size < 9 || !hex4(value, &id.vendor) || value[4] != ':' || !hex4(value + 5, &id.product))
                return refuse(reader, "not an id like 37c5:9203 (lower case)");
        if (size != 9 && (!masked || size != 14 || value[9] != '/' || !hex4(value + 10, &id.product_mask)))
                return refuse(reader, "not an id like 37c5:9203 (lower case)");
        if (id.product & ~id.product_mask)
                return refuse(reader, "an id with bits outside of its mask");
        if (*n == BOARD_IDS_MAX)
                return refuse(reader, "too many ids");
        ids[(*n)++] = id;
        return 0;
}

static int read_units(struct board_reader *reader, char *rest)
{
        struct memory *memory = &reader->board->memories[reader->board->n_memories - 1];
        struct erase_segment segment;
        int r;

        r = read_u32(reader, key_file_word(&rest), &segment.start);
        if (r >= 0)
                r = read_u32(reader, key_file_word(&rest), &segment.unit_size);
        if (r >= 0)
                r = read_u32(reader, key_file_word(&rest), &segment.units);
        if (r >= 0)
                r = read_end(reader, rest);
        if (r < 0)
                return r;
        if (segment.unit_size == 0 || segment.unit_size % 4096 != 0)
                return refuse(reader, "an erase unit that is not a multiple of the 4096-byte block");
        if (segment.units == 0 || segment.units > 65536 ||
            (uint64_t)segment.start + (uint64_t)segment.unit_size * segment.units > UINT32_MAX)
                return refuse(reader, "erase units beyond the address space");
        if (memory->n_segments > 0) {
                const struct erase_segment *last = &memory->segments[memory->n_segments - 1];

                if (segment.start != last->start + last->unit_size * last->units)
                        return refuse(reader, "erase units that do not begin where the former end");
        }
        if (memory->n_segments == BOARD_SEGMENTS_MAX)
                return refuse(reader, "too many lines of erase units");
        memory->segments[memory->n_segments++] = segment;
        return 0;
}

static uint32_t memory_start(const struct memory *memory)
{
        return memory->segments[0].start;
}

static uint32_t memory_limit(const struct memory *memory)
{
        const struct erase_segment *last = &memory->segments[memory->n_segments - 1];

        return last->start + last->unit_size * last->units;
}

/* Is address the start of an erase unit? */
static bool memory_is_unit_start(const struct memory *memory, uint32_t address)
{
        for (size_t i = 0; i < memory->n_segments; i++) {
                const struct erase_segment *segment = &memory->segments[i];

                if (address >= segment->start && (address - segment->start) / segment->unit_size < segment->units)
                        return (address - segment->start) % segment->unit_size == 0;
        }
        return false;
}

/* NAME role memory start limit [ro] */
static int read_partition(struct board_reader *reader, char *rest)
{
        struct board *board = reader->board;
        struct layout *layout = &board->layouts[board->n_layouts - 1];
        struct partition partition = {};
        const struct memory *memory;
        char *word;
        int r;

        if (layout->n_partitions == BOARD_PARTITIONS_MAX)
                return refuse(reader, "too many partitions");

        word = key_file_word(&rest);
        if (!word)
                return refuse(reader, "a partition without a name");
        r = read_id(reader, word, partition.name, sizeof(partition.name));
        if (r < 0)
                return r;
        for (size_t i = 0; i < layout->n_partitions; i++)
                if (strcmp(layout->partitions[i].name, partition.name) == 0)
                        return refuse(reader, "a second partition of that name");

        word = key_file_word(&rest);
        r = word ? partition_role_from_string(word) : -EINVAL;
        if (r < 0)
                return refuse(reader, "an unknown role");
        partition.role = (enum partition_role)r;

        word = key_file_word(&rest);
        for (partition.memory = 0; word && partition.memory < board->n_memories; partition.memory++)
                if (strcmp(board->memories[partition.memory].name, word) == 0)
                        break;
        if (!word || partition.memory == board->n_memories)
                return refuse(reader, "a memory that was not described before");
        memory = &board->memories[partition.memory];

        r = read_range(reader, &rest, &partition.start, &partition.limit);
        if (r < 0)
                return r;
        if (memory->n_segments == 0 || partition.start < memory_start(memory) || partition.limit > memory_limit(memory))
                return refuse(reader, "a partition that is not inside its memory");
        /* The device erases only when a block begins where a unit begins: from elsewhere the first unit would never be erased. */
        if (!memory_is_unit_start(memory, partition.start))
                return refuse(reader, "a partition that does not begin with an erase unit");

        word = key_file_word(&rest);
        if (word && strcmp(word, "ro") != 0)
                return refuse(reader, "only \"ro\" may follow a partition's range");
        partition.read_only = word;
        r = read_end(reader, rest);
        if (r < 0)
                return r;

        layout->partitions[layout->n_partitions++] = partition;
        return 0;
}

static int read_file(struct board_reader *reader, char *rest)
{
        struct board *board = reader->board;
        struct board_file file = {};
        const char *name = key_file_word(&rest);
        const char *partition = key_file_word(&rest);
        int r;

        if (!name || !partition)
                return refuse(reader, "not \"file name, partition\"");
        if (strchr(name, '/'))
                return refuse(reader, "a file name with a slash");
        r = copy_text(reader, name, file.file, sizeof(file.file));
        if (r >= 0)
                r = read_id(reader, partition, file.partition, sizeof(file.partition));
        if (r >= 0)
                r = read_end(reader, rest);
        if (r < 0)
                return r;
        if (board->n_files == BOARD_FILES_MAX)
                return refuse(reader, "too many files");
        board->files[board->n_files++] = file;
        return 0;
}

static int read_stack(struct board_reader *reader, char *rest)
{
        struct board *board = reader->board;
        int r;

        if (board->n_stack == sizeof(board->stack) / sizeof(board->stack[0]))
                return refuse(reader, "too many stack ranges");
        r = read_range(reader, &rest, &board->stack[board->n_stack].start, &board->stack[board->n_stack].limit);
        if (r >= 0)
                r = read_end(reader, rest);
        if (r < 0)
                return r;
        board->n_stack++;
        return 0;
}

static int read_bootloader(struct board_reader *reader, char *rest)
{
        struct board *board = reader->board;
        int r;

        r = read_range(reader, &rest, &board->bootloader_address, &board->bootloader_limit);
        if (r >= 0)
                r = read_end(reader, rest);
        if (r < 0)
                return r;
        board->bootloader_max_bytes = board->bootloader_limit - board->bootloader_address;
        board->rom_restore = true;
        return 0;
}

static int read_support(struct board_reader *reader, const char *value)
{
        int r = board_support_from_string(value);

        if (r < 0)
                return refuse(reader, "neither \"dfu\" nor \"recognised\"");
        reader->board->support = (enum board_support)r;
        return 0;
}

static int read_chip(struct board_reader *reader, const char *value)
{
        int r = chip_from_string(value);

        if (r < 0)
                return refuse(reader, "an unknown chip");
        reader->board->chip = (enum chip)r;
        return 0;
}

enum board_key {
        KEY_ID, KEY_NAME, KEY_SHORT_NAME, KEY_SUPPORT, KEY_CHIP, KEY_HIGH_SPEED, KEY_AMBIGUOUS_ROM, KEY_BLOCK0_FIRST,
        KEY_FILESYSTEM_ERASE,
        KEY_RUNTIME, KEY_BOOTLOADER, KEY_LEGACY, KEY_ROM, KEY_OTHER,
        KEY_UNITS, KEY_PARTITION, KEY_FILE,
        KEY_VECTOR_TABLE, KEY_STACK,
        KEY_ROM_BOOTLOADER,
};

/* The whole grammar. */
static const struct {
        const char *section, *name;
        enum board_key key;
        bool repeatable;
} board_keys[] = {
        { "board",   "id",               KEY_ID,               false },
        { "board",   "name",             KEY_NAME,             false },
        { "board",   "short-name",       KEY_SHORT_NAME,       false },
        { "board",   "support",          KEY_SUPPORT,          false },
        { "board",   "chip",             KEY_CHIP,             false },
        { "board",   "high-speed",       KEY_HIGH_SPEED,       false },
        { "board",   "ambiguous-rom",    KEY_AMBIGUOUS_ROM,    false },
        { "board",   "block0-first",     KEY_BLOCK0_FIRST,     false },
        { "board",   "filesystem-erase", KEY_FILESYSTEM_ERASE, false },
        { "usb",     "runtime",          KEY_RUNTIME,          true },
        { "usb",     "bootloader",       KEY_BOOTLOADER,       true },
        { "usb",     "legacy",           KEY_LEGACY,           true },
        { "usb",     "rom",              KEY_ROM,              true },
        { "usb",     "other",            KEY_OTHER,            true },
        { "memory",  "units",            KEY_UNITS,            true },
        { "layout",  "partition",        KEY_PARTITION,        true },
        { "files",   "file",             KEY_FILE,             true },
        { "vectors", "vector-table",     KEY_VECTOR_TABLE,     false },
        { "vectors", "stack",            KEY_STACK,            true },
        { "rom",     "bootloader",       KEY_ROM_BOOTLOADER,   false },
};

static int read_value(struct board_reader *reader, const char *section, const char *name, char *value)
{
        struct board *board = reader->board;
        size_t i;

        for (i = 0; i < ELEMENTSOF(board_keys); i++)
                if (strcmp(board_keys[i].section, section) == 0 && strcmp(board_keys[i].name, name) == 0)
                        break;
        if (i == ELEMENTSOF(board_keys))
                return refuse(reader, "a key that this section does not have");
        if (!board_keys[i].repeatable && reader->seen & UINT64_C(1) << board_keys[i].key)
                return refuse(reader, "a key that was given before");
        reader->seen |= UINT64_C(1) << board_keys[i].key;

        switch (board_keys[i].key) {
        case KEY_ID:
                return read_id(reader, value, board->id, sizeof(board->id));
        case KEY_NAME:
                return copy_text(reader, value, board->name, sizeof(board->name));
        case KEY_SHORT_NAME:
                return copy_text(reader, value, board->short_name, sizeof(board->short_name));
        case KEY_SUPPORT:
                return read_support(reader, value);
        case KEY_CHIP:
                return read_chip(reader, value);
        case KEY_HIGH_SPEED:
                return read_flag(reader, value, &board->high_speed);
        case KEY_AMBIGUOUS_ROM:
                return read_flag(reader, value, &board->ambiguous_rom);
        case KEY_BLOCK0_FIRST:
                return read_flag(reader, value, &board->block0_first);
        case KEY_FILESYSTEM_ERASE:
                return read_id(reader, value, board->filesystem_erase, sizeof(board->filesystem_erase));
        case KEY_RUNTIME:
                return read_usb_id(reader, value, /* masked= */ false, board->runtime, &board->n_runtime);
        case KEY_BOOTLOADER:
                return read_usb_id(reader, value, /* masked= */ false, board->bootloader, &board->n_bootloader);
        case KEY_LEGACY:
                return read_usb_id(reader, value, /* masked= */ false, board->legacy, &board->n_legacy);
        case KEY_ROM:
                return read_usb_id(reader, value, /* masked= */ false, board->rom, &board->n_rom);
        case KEY_OTHER:
                return read_usb_id(reader, value, /* masked= */ true, board->other, &board->n_other);
        case KEY_UNITS:
                return read_units(reader, value);
        case KEY_PARTITION:
                return read_partition(reader, value);
        case KEY_FILE:
                return read_file(reader, value);
        case KEY_VECTOR_TABLE:
                return read_flag(reader, value, &board->vector_table);
        case KEY_STACK:
                return read_stack(reader, value);
        case KEY_ROM_BOOTLOADER:
                return read_bootloader(reader, value);
        }
        return -EINVAL;
}

static int begin_section(struct board_reader *reader, const char *section, const char *argument)
{
        struct board *board = reader->board;
        bool known = false;

        for (size_t i = 0; i < ELEMENTSOF(board_keys); i++)
                known |= strcmp(board_keys[i].section, section) == 0;
        if (!known)
                return refuse(reader, "an unknown section");

        if (strcmp(section, "memory") == 0) {
                if (board->n_memories == ELEMENTSOF(board->memories))
                        return refuse(reader, "too many memories");
                for (size_t i = 0; i < board->n_memories; i++)
                        if (strcmp(board->memories[i].name, argument) == 0)
                                return refuse(reader, "a second memory of that name");
                return copy_text(reader, argument, board->memories[board->n_memories++].name,
                                 sizeof(board->memories[0].name));
        }
        if (*argument)
                return refuse(reader, "a section that takes no argument");
        if (strcmp(section, "layout") == 0) {
                if (board->n_layouts == BOARD_LAYOUTS_MAX)
                        return refuse(reader, "too many layouts");
                board->n_layouts++;
        }
        return 0;
}

/* What no single line can show. */
static const char *check_whole(const struct board *board, uint64_t seen)
{
        static const enum board_key needed[] = { KEY_ID, KEY_NAME, KEY_SHORT_NAME, KEY_SUPPORT, KEY_CHIP };
        const struct partition *partition;

        for (size_t i = 0; i < ELEMENTSOF(needed); i++)
                if (!(seen & UINT64_C(1) << needed[i]))
                        return "id, name, short-name, support and chip are all needed";
        if (board->n_runtime + board->n_bootloader + board->n_legacy + board->n_rom + board->n_other == 0)
                return "no USB id";
        if (board->support == BOARD_RECOGNISED) {
                if (board->n_layouts > 0 || board->n_files > 0 || board->n_bootloader > 0 || board->rom_restore)
                        return "a board that is only recognised has no bootloader, layout or files";
                return NULL;
        }

        if (board->n_bootloader == 0 || board->n_layouts == 0 || board->n_files == 0)
                return "a dfu board needs a bootloader id, a layout and files";
        for (size_t i = 0; i < board->n_layouts; i++)
                if (board->layouts[i].n_partitions == 0)
                        return "a layout without partitions";
        for (size_t i = 0; i < board->n_memories; i++)
                if (board->memories[i].n_segments == 0)
                        return "a memory without erase units";
        for (size_t i = 0; i < board->n_files; i++)
                if (!layout_partition(&board->layouts[0], board->files[i].partition, NULL))
                        return "a file for a partition that the newest layout does not have";
        if (*board->filesystem_erase) {
                partition = layout_partition(&board->layouts[0], board->filesystem_erase, NULL);
                if (!partition || partition->read_only)
                        return "filesystem-erase names no writable partition of the newest layout";
        }
        if (board->vector_table && board->n_stack == 0)
                return "a vector table needs stack ranges";
        if (board->rom_restore && board->n_rom == 0)
                return "a bootloader to restore needs a ROM id";
        return NULL;
}

int board_parse(struct board *board, const char *text, size_t size, const char *file)
{
        struct board_reader reader = { .board = board };
        struct key_file keys;
        enum key_item item;
        const char *fault;
        bool in_section = false;

        *board = (struct board){};
        key_file_init(&keys, text, size);
        while ((item = key_file_next(&keys)) != KEY_ITEM_END) {
                int r = -EINVAL;

                switch (item) {
                case KEY_ITEM_SECTION:
                        r = begin_section(&reader, keys.section, keys.argument);
                        in_section = true;
                        break;
                case KEY_ITEM_VALUE:
                        if (in_section)
                                r = read_value(&reader, keys.section, keys.key, keys.value);
                        else
                                r = refuse(&reader, "a key before the first section");
                        break;
                case KEY_ITEM_WRONG:
                        r = refuse(&reader, keys.fault);
                        break;
                case KEY_ITEM_END:
                        break;
                }
                if (r < 0) {
                        log_warning("%s:%u: %s; this board is left out", file, keys.line, reader.fault);
                        return -EINVAL;
                }
        }

        fault = check_whole(board, reader.seen);
        if (fault) {
                log_warning("%s:%u: %s; this board is left out", file, keys.line, fault);
                return -EINVAL;
        }
        return 0;
}

/* --- loading --- */

static bool ids_meet(const struct usb_id *a, size_t n_a, const struct usb_id *b, size_t n_b)
{
        for (size_t i = 0; i < n_a; i++)
                for (size_t k = 0; k < n_b; k++)
                        if (a[i].vendor == b[k].vendor && a[i].product == b[k].product)
                                return true;
        return false;
}

/* An id that means "this board" must mean one board only. */
static const char *check_against(const struct board_list *list, const struct board *board)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct board *other = &list->boards[i];

                if (strcmp(other->id, board->id) == 0)
                        return "its id is another board's";
                if (ids_meet(other->bootloader, other->n_bootloader, board->bootloader, board->n_bootloader) ||
                    ids_meet(other->bootloader, other->n_bootloader, board->runtime, board->n_runtime) ||
                    ids_meet(other->runtime, other->n_runtime, board->bootloader, board->n_bootloader) ||
                    ids_meet(other->runtime, other->n_runtime, board->runtime, board->n_runtime))
                        return "one of its runtime or bootloader ids is another board's";
        }
        return NULL;
}

static int is_board_file(const struct dirent *entry)
{
        const char *dot = strrchr(entry->d_name, '.');

        return entry->d_name[0] != '.' && dot && strcmp(dot, ".board") == 0;
}

static void load_one(struct board_list *list, const char *directory, const char *name)
{
        _cleanup_free_ char *path = NULL, *text = NULL;
        struct board *board = &list->boards[list->n];
        const char *fault;
        size_t size;
        int r;

        if (list->n == BOARDS_MAX) {
                log_warning("%s/%s: more than %d boards; this one is left out", directory, name, BOARDS_MAX);
                return;
        }
        if (asprintf(&path, "%s/%s", directory, name) < 0) {
                path = NULL;
                return;
        }
        r = read_whole_file(path, BOARD_FILE_MAX, &text, &size);
        if (r < 0) {
                log_warning("%s: cannot be read (%s); this board is left out", path, strerror(-r));
                return;
        }
        if (board_parse(board, text, size, path) < 0)
                return;

        fault = check_against(list, board);
        if (strncmp(name, board->id, strlen(board->id)) != 0 || strcmp(name + strlen(board->id), ".board") != 0)
                fault = "the file is not named after its board's id";
        if (fault) {
                log_warning("%s: %s; this board is left out", path, fault);
                return;
        }
        list->n++;
}

int board_list_load(struct board_list *list, const char *directory)
{
        struct dirent **entries = NULL;
        int n;

        memset(list, 0, sizeof(*list));
        n = scandir(directory, &entries, is_board_file, alphasort);
        if (n < 0)
                return -errno;
        for (int i = 0; i < n; i++) {
                load_one(list, directory, entries[i]->d_name);
                free(entries[i]);
        }
        free(entries);
        return list->n > 0 ? 0 : -ENODATA;
}

/* --- questions --- */

const struct board *board_by_id(const struct board_list *list, const char *id)
{
        for (size_t i = 0; i < list->n; i++)
                if (strcmp(list->boards[i].id, id) == 0)
                        return &list->boards[i];
        return NULL;
}

const struct board *board_by_any_name(const struct board_list *list, const char *name)
{
        const struct board *found = NULL;

        for (size_t i = 0; i < list->n; i++) {
                const struct board *board = &list->boards[i];

                if (strcasecmp(board->id, name) != 0 && strcasecmp(board->short_name, name) != 0 &&
                    strcasecmp(board->name, name) != 0)
                        continue;
                if (found)
                        return NULL;
                found = board;
        }
        return found;
}

static bool ids_have(const struct usb_id *ids, size_t n, uint16_t vendor, uint16_t product)
{
        for (size_t i = 0; i < n; i++)
                if (ids[i].vendor == vendor && ids[i].product == (product & ids[i].product_mask))
                        return true;
        return false;
}

static bool board_has_id(const struct board *board, enum usb_role role, uint16_t vendor, uint16_t product)
{
        switch (role) {
        case USB_ROLE_ROM_DFU:
                return ids_have(board->rom, board->n_rom, vendor, product);
        case USB_ROLE_BOOTLOADER:
                return ids_have(board->bootloader, board->n_bootloader, vendor, product);
        case USB_ROLE_RUNTIME:
                return ids_have(board->runtime, board->n_runtime, vendor, product);
        case USB_ROLE_LEGACY:
                return ids_have(board->legacy, board->n_legacy, vendor, product);
        case USB_ROLE_OTHER:
                return ids_have(board->other, board->n_other, vendor, product);
        case USB_ROLE_NONE:
        case _USB_ROLE_MAX:
                break;
        }
        return false;
}

enum usb_role board_classify(const struct board_list *list, uint16_t vendor, uint16_t product, const struct board **ret_board)
{
        /* The hot path first; masks last, so that an exact id of one mode is not taken for the family's. */
        static const enum usb_role order[] = {
                USB_ROLE_BOOTLOADER, USB_ROLE_RUNTIME, USB_ROLE_ROM_DFU, USB_ROLE_LEGACY, USB_ROLE_OTHER,
        };

        for (size_t i = 0; i < ELEMENTSOF(order); i++) {
                const struct board *found = NULL;
                unsigned n = 0;

                for (size_t k = 0; k < list->n; k++)
                        if (board_has_id(&list->boards[k], order[i], vendor, product)) {
                                found = &list->boards[k];
                                n++;
                        }
                if (n == 0)
                        continue;
                /* Chip and legacy ids name no board even if one board only is installed that has them. */
                if (ret_board)
                        *ret_board = n == 1 && order[i] != USB_ROLE_ROM_DFU && order[i] != USB_ROLE_LEGACY ? found : NULL;
                return order[i];
        }
        if (ret_board)
                *ret_board = NULL;
        return USB_ROLE_NONE;
}

const struct partition *layout_partition(const struct layout *layout, const char *name, uint8_t *ret_alt)
{
        for (size_t i = 0; i < layout->n_partitions; i++)
                if (strcmp(layout->partitions[i].name, name) == 0) {
                        if (ret_alt)
                                *ret_alt = (uint8_t)i;
                        return &layout->partitions[i];
                }
        return NULL;
}

static bool layout_has_names(const struct layout *layout, const char *const *names, size_t n_names)
{
        if (layout->n_partitions != n_names)
                return false;
        for (size_t i = 0; i < n_names; i++)
                if (strcmp(layout->partitions[i].name, names[i]) != 0)
                        return false;
        return true;
}

const struct layout *board_match_layout(const struct board *board, const char *const *names, size_t n_names)
{
        for (size_t i = 0; i < board->n_layouts; i++)
                if (layout_has_names(&board->layouts[i], names, n_names))
                        return &board->layouts[i];
        return NULL;
}

size_t partition_units(const struct board *board, const struct partition *partition, uint32_t size,
                       struct erase_unit *units, size_t max)
{
        const struct memory *memory = &board->memories[partition->memory];
        uint32_t end = partition->start + MIN(size, partition->limit - partition->start);
        size_t n = 0;

        for (size_t i = 0; i < memory->n_segments; i++) {
                const struct erase_segment *segment = &memory->segments[i];

                for (uint32_t u = 0; u < segment->units; u++) {
                        uint32_t start = segment->start + u * segment->unit_size;
                        uint32_t limit = start + segment->unit_size;

                        if (limit <= partition->start || start >= end)
                                continue;
                        start = MAX(start, partition->start);
                        limit = MIN(limit, partition->limit);
                        if (units && n < max)
                                units[n] = (struct erase_unit){ .offset = start - partition->start, .size = limit - start };
                        n++;
                }
        }
        return n;
}

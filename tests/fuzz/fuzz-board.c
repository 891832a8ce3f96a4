/* SPDX-License-Identifier: MIT */

/*
 * Board files, damaged.  Whatever is understood must hold what its users rely
 * on; the rest is refused.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/key-file.h"
#include "base/log.h"
#include "core/board.h"
#include "fuzz/fuzz.h"

static void silence(int level, const struct log_subject *subject, const char *line, void *userdata)
{
}

static int is_board_file(const struct dirent *entry)
{
        return strstr(entry->d_name, ".board") != NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct board_list list;
        struct board *board = &list.boards[0];
        const struct board *found;

        log_set_sink(silence, NULL);
        if (board_parse(board, (const char *)data, size, "fuzz") < 0)
                return 0;

        list.n = 1;
        CHECK(board->id[0] && board->name[0] && board->short_name[0]);
        CHECK(memchr(board->id, '\0', sizeof(board->id)) && memchr(board->name, '\0', sizeof(board->name)));
        CHECK(board_by_id(&list, board->id) == board);
        for (size_t i = 0; i < board->n_bootloader; i++)
                CHECK(board_classify(&list, board->bootloader[i].vendor, board->bootloader[i].product, &found) ==
                      USB_ROLE_BOOTLOADER);
        for (size_t l = 0; l < board->n_layouts; l++) {
                const struct layout *layout = &board->layouts[l];
                const char *names[BOARD_PARTITIONS_MAX];

                for (size_t p = 0; p < layout->n_partitions; p++) {
                        const struct partition *partition = &layout->partitions[p];
                        struct erase_unit units[4];
                        uint64_t end = 0;
                        size_t n;

                        names[p] = partition->name;
                        n = partition_units(board, partition, UINT32_MAX, units, ELEMENTSOF(units));
                        CHECK(n > 0);
                        for (size_t u = 0; u < n && u < ELEMENTSOF(units); u++) {
                                CHECK(units[u].offset == end && units[u].size > 0);
                                end += units[u].size;
                        }
                        CHECK(end <= partition->limit - partition->start);
                }
                CHECK(board_match_layout(board, names, layout->n_partitions));
        }
        return 0;
}

/* The installed files, one after the other. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t size)
{
        const char *directory = getenv("CAMRESCUE_BOARDS");
        _cleanup_free_ char *path = NULL, *text = NULL;
        static struct dirent **entries;
        static int n_entries = -1;
        size_t length;

        if (n_entries < 0)
                n_entries = scandir(directory ? directory : "boards", &entries, is_board_file, alphasort);
        if (n_entries < 0 || n >= (unsigned)n_entries ||
            asprintf(&path, "%s/%s", directory ? directory : "boards", entries[n]->d_name) < 0 ||
            read_whole_file(path, size, &text, &length) < 0)
                return 0;
        memcpy(data, text, length);
        return length;
}

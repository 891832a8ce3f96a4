/* SPDX-License-Identifier: MIT */

/*
 * Board files, damaged.  With libFuzzer (-DFUZZ_ENGINE) it is fed by the engine;
 * alone it damages the installed files itself, always in the same way, and
 * prints TAP.  Whatever is understood must hold what its users rely on.
 */

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/key-file.h"
#include "base/log.h"
#include "core/board.h"

static void silence(int level, const struct log_subject *subject, const char *line, void *userdata)
{
}

#define CHECK(condition)                                                        \
        do {                                                                    \
                if (!(condition)) {                                             \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                \
                }                                                               \
        } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

#ifndef FUZZ_ENGINE

static uint64_t state = UINT64_C(0x9e3779b97f4a7c15);

/* xorshift: the same damage on every machine */
static uint32_t random_below(uint32_t n)
{
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return (uint32_t)(state >> 32) % n;
}

static size_t damage(char *text, size_t size, size_t room)
{
        static const char *const pieces[] = { "0xffffffff", "\n[layout]\n", "= ", "\n", " 0", "firmware ", "[memory x]\n", "\xff" };

        for (uint32_t n = 1 + random_below(4); n > 0 && size > 1; n--) {
                uint32_t at = random_below((uint32_t)size);
                const char *piece = pieces[random_below(ELEMENTSOF(pieces))];
                size_t length = strlen(piece);

                switch (random_below(4)) {
                case 0:
                        text[at] = (char)random_below(256);
                        break;
                case 1:
                        memmove(text + at, text + at + 1, size - at - 1);
                        size--;
                        break;
                case 2:
                        if (size + length <= room) {
                                memmove(text + at + length, text + at, size - at);
                                memcpy(text + at, piece, length);
                                size += length;
                        }
                        break;
                case 3:
                        if (random_below(8) == 0)
                                size = at;
                        else
                                text[at] = (char)('0' + random_below(10));
                        break;
                }
        }
        return size;
}

int main(void)
{
        const char *directory = getenv("CAMRESCUE_BOARDS");
        struct dirent **entries;
        unsigned n_files = 0;
        int n;

        n = scandir(directory ? directory : "boards", &entries, NULL, alphasort);
        CHECK(n >= 0);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = NULL, *text = NULL;
                static char copy[16384];
                size_t size;

                if (strstr(entries[i]->d_name, ".board") &&
                    asprintf(&path, "%s/%s", directory ? directory : "boards", entries[i]->d_name) > 0 &&
                    read_whole_file(path, sizeof(copy) / 2, &text, &size) >= 0) {
                        n_files++;
                        for (unsigned round = 0; round < 4000; round++) {
                                _cleanup_free_ uint8_t *exact = NULL;
                                size_t damaged;

                                memcpy(copy, text, size);
                                damaged = damage(copy, size, sizeof(copy));
                                /* a copy of just that size, so that a sanitizer sees the first byte read too many */
                                exact = malloc(damaged + (damaged == 0));
                                CHECK(exact);
                                memcpy(exact, copy, damaged);
                                LLVMFuzzerTestOneInput(exact, damaged);
                        }
                }
                free(entries[i]);
        }
        free(entries);
        CHECK(n_files > 0);
        printf("1..1\nok 1 - damaged board files are refused or sound\n");
        return 0;
}

#endif

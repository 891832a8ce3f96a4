/* SPDX-License-Identifier: MIT */
/*
 * The survey against flash that is an array: what it says of each way in which
 * a partition can look, and how little it reads to say so.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "core/survey.h"

#define BLOCK 4096

static struct board_list boards;

/* --- a partition, its flash and one survey of it --- */

struct bench {
        const struct board *board;
        const struct partition *partition;
        uint8_t *flash;
        uint32_t size;
        struct survey survey;
        uint32_t block;                 /* bytes per answer of the device */
        uint32_t bytes_read, blocks_read;
        uint32_t unreadable_at;         /* this offset cannot be read; UINT32_MAX: all can */
};

static void bench_init(struct bench *b, const char *board, const char *partition)
{
        *b = (struct bench){ .board = board_by_id(&boards, board), .block = BLOCK, .unreadable_at = UINT32_MAX };
        assert_non_null(b->board);
        b->partition = layout_partition(&b->board->layouts[0], partition, NULL);
        assert_non_null(b->partition);
        b->size = b->partition->limit - b->partition->start;
        b->flash = malloc(b->size);
        assert_non_null(b->flash);
        memset(b->flash, 0xff, b->size);
}

static void bench_deinit(struct bench *b)
{
        survey_deinit(&b->survey);
        free(b->flash);
        *b = (struct bench){};
}

/* Noise behind a vector table that is sane on this board. */
static uint8_t *make_image(const struct bench *b, uint32_t size, uint32_t seed)
{
        uint8_t *image = malloc(size);
        uint32_t x = seed * 2654435761u + 1;

        assert_non_null(image);
        for (uint32_t i = 0; i < size; i++) {
                x = x * 1664525u + 1013904223u;
                image[i] = (uint8_t)(x >> 24);
        }
        put_le32(image, 0x20008000);
        put_le32(image + 4, b->partition->start + 0x401);
        return image;
}

static void begin(struct bench *b, const uint8_t *wanted, uint32_t wanted_size)
{
        survey_deinit(&b->survey);
        assert_int_equal(survey_init(&b->survey, b->board, b->partition, wanted, wanted_size), 0);
        b->bytes_read = b->blocks_read = 0;
}

static void go(struct bench *b)
{
        uint32_t offset, size;

        while (!b->survey.unreadable && survey_next(&b->survey, &offset, &size)) {
                uint32_t end = offset + size;

                assert_true(size > 0);
                assert_true(end <= b->size);
                assert_int_equal(offset % BLOCK, 0);
                for (bool more = true; more && offset < end;) {
                        uint32_t n = MIN(b->block, end - offset);

                        if (b->unreadable_at >= offset && b->unreadable_at < offset + n) {
                                survey_unreadable(&b->survey);
                                break;
                        }
                        b->bytes_read += n;
                        b->blocks_read++;
                        more = survey_feed(&b->survey, offset, b->flash + offset, n);
                        offset += n;
                }
        }
        survey_finish(&b->survey);
}

/* The wanted image is always among the candidates, as the caller promises. */
static enum content look(struct bench *b, const uint8_t *wanted, uint32_t wanted_size)
{
        begin(b, wanted, wanted_size);
        if (wanted)
                survey_add_candidate(&b->survey, wanted, wanted_size, 0);
        go(b);
        return survey_content(&b->survey);
}

static enum content look_for(struct bench *b, const uint8_t *candidate, uint32_t size)
{
        begin(b, NULL, 0);
        survey_add_candidate(&b->survey, candidate, size, 0);
        go(b);
        return survey_content(&b->survey);
}

static void assert_content(enum content is, enum content expected)
{
        assert_string_equal(content_to_string(is), content_to_string(expected));
}

/* --- what can stand there --- */

static void unread(void **unused)
{
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        begin(&b, NULL, 0);
        assert_content(survey_content(&b.survey), CONTENT_UNREAD);
        bench_deinit(&b);
}

static void blank(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 1333696, 1);
        assert_content(look(&b, image, 1333696), CONTENT_BLANK);
        /* 128 K and five times 256 K: each is known to differ after its first block. */
        assert_int_equal(survey_count_differing(&b.survey), 6);
        assert_int_equal(b.blocks_read, 6);
        assert_null(survey_found(&b.survey));
        /* Nothing wanted: one block tells it. */
        assert_content(look_for(&b, image, 1333696), CONTENT_BLANK);
        assert_int_equal(b.blocks_read, 1);
        bench_deinit(&b);
}

static void impossible(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 300000, 1);
        memcpy(b.flash, image, 300000);
        put_le32(b.flash, 0xdeadbeef);          /* the stack nowhere */
        assert_content(look(&b, image, 300000), CONTENT_IMPOSSIBLE);
        assert_true(b.survey.differs[0]);
        assert_false(b.survey.differs[1]);
        memcpy(b.flash, image, 8);
        put_le32(b.flash + 4, 0x40000001);      /* the reset vector nowhere */
        assert_content(look(&b, image, 300000), CONTENT_IMPOSSIBLE);
        memset(b.flash, 0, 8);
        assert_content(look(&b, image, 300000), CONTENT_IMPOSSIBLE);
        bench_deinit(&b);
}

static void known_and_wanted(void **unused)
{
        _cleanup_free_ uint8_t *old = NULL, *new = NULL;
        struct bench b;
        uint32_t old_size = 900001, new_size = 1333696;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        old = make_image(&b, old_size, 1);
        new = make_image(&b, new_size, 2);
        memcpy(b.flash, old, old_size);

        begin(&b, new, new_size);
        survey_add_candidate(&b.survey, old, old_size, 7);
        survey_add_candidate(&b.survey, new, new_size, 8);
        go(&b);
        assert_content(survey_content(&b.survey), CONTENT_KNOWN);
        assert_int_equal(survey_found(&b.survey)->tag, 7);
        assert_int_equal(survey_count_differing(&b.survey), 6);

        memcpy(b.flash, new, new_size);
        begin(&b, new, new_size);
        survey_add_candidate(&b.survey, old, old_size, 7);
        survey_add_candidate(&b.survey, new, new_size, 8);
        go(&b);
        assert_content(survey_content(&b.survey), CONTENT_WANTED);
        assert_int_equal(survey_found(&b.survey)->tag, 8);
        assert_int_equal(survey_count_differing(&b.survey), 0);
        bench_deinit(&b);
}

static void unknown(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL, *other = NULL;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 1333696, 1);
        other = make_image(&b, 1000000, 2);
        memcpy(b.flash, other, 1000000);
        assert_content(look(&b, image, 1333696), CONTENT_UNKNOWN);
        assert_null(survey_found(&b.survey));
        /* Different from the first block of each unit on: one block each is enough. */
        assert_int_equal(b.blocks_read, 6);
        /* An empty store knows nothing; but the beginning is looked at, and tells blank flash from something. */
        begin(&b, NULL, 0);
        go(&b);
        assert_content(survey_content(&b.survey), CONTENT_UNKNOWN);
        assert_int_equal(b.blocks_read, 1);
        memset(b.flash, 0xff, b.size);
        begin(&b, NULL, 0);
        go(&b);
        assert_content(survey_content(&b.survey), CONTENT_BLANK);
        assert_int_equal(b.blocks_read, 1);
        bench_deinit(&b);
}

static void unreadable(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 1333696, 1);
        memcpy(b.flash, image, 1333696);
        for (uint32_t at = 0; at < 1333696; at += 333333) {
                b.unreadable_at = at;
                assert_content(look(&b, image, 1333696), CONTENT_UNREADABLE);
                assert_true(survey_count_differing(&b.survey) > 0);
        }
        bench_deinit(&b);
}

static void too_large(void **unused)
{
        struct survey survey;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        assert_int_equal(survey_init(&survey, b.board, b.partition, b.flash, b.size + 1), -E2BIG);
        assert_int_equal(survey_init(&survey, b.board, b.partition, b.flash, b.size), 0);
        /* A candidate that does not fit cannot stand there. */
        survey_add_candidate(&survey, b.flash, b.size + 1, 0);
        survey_add_candidate(&survey, b.flash, 0, 0);
        assert_int_equal(survey.n_candidates, 0);
        for (unsigned i = 0; i < SURVEY_CANDIDATES_MAX + 1; i++)
                survey_add_candidate(&survey, b.flash, b.size, i);
        assert_int_equal(survey.n_candidates, SURVEY_CANDIDATES_MAX);
        survey_deinit(&survey);
        bench_deinit(&b);
}

/* --- interrupted writes --- */

/* As the bootloader leaves it: units before the cut written, the one that is cut erased and begun, later ones old. */
static void write_until(struct bench *b, const uint8_t *image, uint32_t cut)
{
        for (size_t u = 0; u < b->survey.n_units; u++) {
                const struct erase_unit *unit = &b->survey.units[u];

                if (unit->offset > cut)
                        break;
                memset(b->flash + unit->offset, 0xff, unit->size);
                memcpy(b->flash + unit->offset, image + unit->offset, MIN(unit->size, cut - unit->offset));
        }
}

static void interrupted(void **unused)
{
        static const uint32_t within[] = { 0, 16, 4096, 4100, 65536, 131072 - 4096, 131072 - 32, 131071 };
        _cleanup_free_ uint8_t *image = NULL, *old = NULL;
        uint32_t size = 1333696;
        unsigned cases = 0;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, size, 1);
        old = make_image(&b, b.size, 2);
        /* Just before a cut an image may hold 0xff itself. */
        memset(image + 131072 + 4096 - 64, 0xff, 64);
        for (size_t u = 0; u < 6; u++)
                for (size_t i = 0; i < ELEMENTSOF(within); i++) {
                        struct erase_unit unit;
                        uint32_t cut;

                        begin(&b, image, size);
                        unit = b.survey.units[u];
                        cut = unit.offset + within[i];
                        if (cut == 0 || cut >= size)
                                continue;
                        memcpy(b.flash, old, b.size);
                        write_until(&b, image, cut);
                        assert_content(look(&b, image, size), CONTENT_INTERRUPTED);
                        assert_int_equal(survey_found(&b.survey)->unit, u);
                        /* Unit 0 to k-1 are right; k and what follows are not. */
                        for (size_t v = 0; v < 6; v++)
                                assert_int_equal(b.survey.differs[v], v >= u);
                        /* And so it is seen when only looked at. */
                        assert_content(look_for(&b, image, size), CONTENT_INTERRUPTED);
                        cases++;
                }
        assert_true(cases > 40);
        /* k = 0, and not even the vector table was written: that is blank. */
        write_until(&b, image, 0);
        assert_content(look(&b, image, size), CONTENT_BLANK);
        bench_deinit(&b);
}

static void between_two_units(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL, *old = NULL;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 1333696, 1);
        old = make_image(&b, b.size, 2);
        memcpy(b.flash, old, b.size);
        memcpy(b.flash, image, 131072);         /* and the next unit is still the old one's */
        assert_content(look(&b, image, 1333696), CONTENT_UNKNOWN);
        assert_false(b.survey.differs[0]);
        for (size_t u = 1; u < 6; u++)
                assert_true(b.survey.differs[u]);
        bench_deinit(&b);
}

/* Power failed while a program unit was written: it is neither, and only one; told apart from a cut between two. */
static void torn(void **unused)
{
        static const uint32_t within[] = { 0, 32, 4064, 4096, 65536 + 2048, 131072 - 4096, 131072 - 64 };
        _cleanup_free_ uint8_t *image = NULL, *old = NULL;
        uint32_t size = 1333696;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, size, 1);
        old = make_image(&b, b.size, 2);
        for (size_t u = 0; u < 6; u++)
                for (size_t i = 0; i < ELEMENTSOF(within); i++) {
                        struct erase_unit unit;
                        uint32_t cut;

                        begin(&b, image, size);
                        unit = b.survey.units[u];
                        cut = unit.offset + within[i];
                        if (cut == 0 || cut >= size)
                                continue;
                        memcpy(b.flash, old, b.size);
                        write_until(&b, image, cut);
                        for (uint32_t k = 0; k < 4; k++)
                                b.flash[cut + k] = image[cut + k] ^ 0x5a;
                        assert_content(look(&b, image, size), CONTENT_UNKNOWN);
                        assert_null(survey_found(&b.survey));
                        assert_int_equal(b.survey.candidates[0].match, SURVEY_TORN);
                        assert_int_equal(b.survey.candidates[0].unit, u);
                        for (size_t v = 0; v < 6; v++)
                                assert_int_equal(b.survey.differs[v], v >= u);
                        /* Two of them are somebody's bytes, and so is one somewhere behind. */
                        b.flash[cut + 32] = 0x00;
                        assert_content(look(&b, image, size), CONTENT_UNKNOWN);
                        assert_int_equal(b.survey.candidates[0].match, SURVEY_DEAD);
                        b.flash[cut + 32] = 0xff;
                        b.flash[unit.offset + unit.size - 1] = 0x7f;
                        assert_content(look(&b, image, size), CONTENT_UNKNOWN);
                        assert_int_equal(b.survey.candidates[0].match, SURVEY_DEAD);
                }
        /* At a unit's very end there is nothing behind that could tell. */
        memset(b.flash, 0xff, b.size);
        memcpy(b.flash, image, 131072);
        b.flash[131072 - 1] ^= 0x5a;
        (void)look(&b, image, size);
        assert_int_equal(b.survey.candidates[0].match, SURVEY_DEAD);
        bench_deinit(&b);
}

/* What is not 0xff behind the cut, be it one byte at the unit's end, is not an interrupted write. */
static void not_interrupted(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        struct bench b;
        struct erase_unit unit;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 1333696, 1);
        begin(&b, image, 1333696);
        unit = b.survey.units[1];
        write_until(&b, image, unit.offset + 5000);
        b.flash[unit.offset + unit.size - 1] = 0xfe;
        assert_content(look(&b, image, 1333696), CONTENT_UNKNOWN);
        b.flash[unit.offset + unit.size - 1] = 0xff;
        assert_content(look(&b, image, 1333696), CONTENT_INTERRUPTED);
        b.flash[unit.offset + 5000] = 0x00;     /* somebody else's next byte */
        b.flash[unit.offset + 5001] = 0x12;
        assert_content(look(&b, image, 1333696), CONTENT_UNKNOWN);
        /* A byte that differs inside what was written. */
        write_until(&b, image, unit.offset + 5000);
        b.flash[unit.offset + 77] ^= 0x10;
        assert_content(look(&b, image, 1333696), CONTENT_UNKNOWN);
        bench_deinit(&b);
}

static void custom_firmware(void **unused)
{
        _cleanup_free_ uint8_t *release = NULL, *custom = NULL;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        release = make_image(&b, 1333696, 1);
        custom = make_image(&b, 1333696, 2);
        memcpy(custom, release, 131072 + 262144 + 100);         /* built from the same tree */
        memcpy(b.flash, custom, 1333696);
        assert_content(look(&b, release, 1333696), CONTENT_UNKNOWN);
        assert_content(look_for(&b, release, 1333696), CONTENT_UNKNOWN);
        /* Shorter than the release, and blank behind its end, but not where the release would have been cut. */
        memset(b.flash + 131072 + 262144 + 5000, 0xff, b.size - (131072 + 262144 + 5000));
        assert_content(look(&b, release, 1333696), CONTENT_UNKNOWN);
        /* Longer than the release in its last unit. */
        memset(b.flash, 0xff, b.size);
        memcpy(b.flash, release, 1333696);
        memcpy(b.flash + 1333696, "more", 4);
        assert_content(look_for(&b, release, 1333696), CONTENT_UNKNOWN);
        bench_deinit(&b);
}

static void common_prefixes(void **unused)
{
        _cleanup_free_ uint8_t *a = NULL, *c = NULL;
        uint32_t a_size = 500000, c_size = 700000, common = 131072 + 20000;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        a = make_image(&b, a_size, 1);
        c = make_image(&b, c_size, 2);
        memcpy(c, a, common);
        for (int first = 0; first < 2; first++) {
                const struct survey_candidate *found;

                for (int which = 0; which < 2; which++) {
                        memset(b.flash, 0xff, b.size);
                        memcpy(b.flash, which ? c : a, which ? c_size : a_size);
                        begin(&b, NULL, 0);
                        survey_add_candidate(&b.survey, first ? c : a, first ? c_size : a_size, (unsigned)first);
                        survey_add_candidate(&b.survey, first ? a : c, first ? a_size : c_size, (unsigned)!first);
                        go(&b);
                        assert_content(survey_content(&b.survey), CONTENT_KNOWN);
                        found = survey_found(&b.survey);
                        assert_int_equal(found->tag, which);
                }
                /* Cut where they are still the same: it is the beginning of both. */
                memset(b.flash, 0xff, b.size);
                memcpy(b.flash, a, common - 100);
                begin(&b, NULL, 0);
                survey_add_candidate(&b.survey, first ? c : a, first ? c_size : a_size, 0);
                survey_add_candidate(&b.survey, first ? a : c, first ? a_size : c_size, 1);
                go(&b);
                assert_content(survey_content(&b.survey), CONTENT_INTERRUPTED);
                /* Cut where only one of them goes on. */
                memcpy(b.flash, c, common + 4096);
                begin(&b, NULL, 0);
                survey_add_candidate(&b.survey, a, a_size, 0);
                survey_add_candidate(&b.survey, c, c_size, 1);
                go(&b);
                assert_content(survey_content(&b.survey), CONTENT_INTERRUPTED);
                assert_int_equal(survey_found(&b.survey)->tag, 1);
        }
        bench_deinit(&b);
}

/* --- the end of an image --- */

static void padding(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        static const uint32_t sizes[] = { 300001, 300004, 300031, 300032, 299008 /* 73 blocks */, 131072, 131071, 1703936 };
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                uint32_t size = sizes[i];

                free(image);
                image = make_image(&b, size, (uint32_t)i);
                for (uint32_t unit = 1; unit <= 32; unit = unit == 1 ? 4 : unit * 8) {
                        uint32_t padded = (size + unit - 1) / unit * unit;

                        memset(b.flash, 0xff, b.size);
                        memcpy(b.flash, image, size);
                        memset(b.flash + size, 0x00, MIN(padded, b.size) - size);
                        assert_content(look_for(&b, image, size), CONTENT_KNOWN);
                        assert_content(look(&b, image, size), CONTENT_WANTED);
                }
                if (size % 32 == 0 && size < b.size) {
                        /* A zero where no program unit needs one is somebody else's. */
                        b.flash[size] = 0x00;
                        assert_content(look_for(&b, image, size), size % 131072 ? CONTENT_UNKNOWN : CONTENT_KNOWN);
                }
        }
        /* More zeros than the largest program unit. */
        free(image);
        image = make_image(&b, 300001, 1);
        memset(b.flash, 0xff, b.size);
        memcpy(b.flash, image, 300001);
        memset(b.flash + 300001, 0x00, 40);
        assert_content(look_for(&b, image, 300001), CONTENT_UNKNOWN);
        /* Behind its last unit may stand anything: what an older, larger image left. */
        memset(b.flash, 0xff, b.size);
        memcpy(b.flash, image, 300001);
        memset(b.flash + 131072 + 262144, 0x5a, 1000);
        assert_content(look_for(&b, image, 300001), CONTENT_KNOWN);
        bench_deinit(&b);
}

/* --- how little is read --- */

static void reads_no_more_than_it_needs(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        struct bench b;
        struct erase_unit unit;

        (void)unused;
        bench_init(&b, "OPENMV3", "FIRMWARE");
        image = make_image(&b, 1333696, 1);

        /* All equal: the whole image, and the rest of its last unit, once. */
        memcpy(b.flash, image, 1333696);
        assert_content(look(&b, image, 1333696), CONTENT_WANTED);
        assert_int_equal(b.bytes_read, 131072 + 5 * 262144);

        /* One byte differs in unit 2: read up to there, then on with unit 3. */
        begin(&b, image, 1333696);
        unit = b.survey.units[2];
        b.flash[unit.offset + 10 * BLOCK + 5] ^= 0xff;
        assert_content(look(&b, image, 1333696), CONTENT_UNKNOWN);
        assert_int_equal(survey_count_differing(&b.survey), 1);
        assert_true(b.survey.differs[2]);
        assert_true(b.bytes_read <= 1333696 - (unit.size - 11 * BLOCK) + BLOCK);

        /* Not wanted, not known: one block. */
        memset(b.flash, 0x11, b.size);
        put_le32(b.flash, 0x20008000);
        put_le32(b.flash + 4, b.partition->start + 0x401);
        assert_content(look_for(&b, image, 1333696), CONTENT_UNKNOWN);
        assert_int_equal(b.blocks_read, 1);

        /* The same in the ROM's smaller pieces. */
        b.block = 1024;
        memcpy(b.flash, image, 1333696);
        memset(b.flash + 1333696, 0xff, b.size - 1333696);
        assert_content(look(&b, image, 1333696), CONTENT_WANTED);
        assert_int_equal(b.bytes_read, 131072 + 5 * 262144);
        bench_deinit(&b);
}

/* --- other geometries --- */

static void ae3(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL, *old = NULL;
        uint32_t size = 3000001;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV_AE3", "HP");
        image = make_image(&b, size, 1);
        old = make_image(&b, b.size, 2);
        begin(&b, image, size);
        assert_int_equal(b.survey.n_units, 768);
        assert_int_equal(b.survey.wanted_units, (size + 4095) / 4096);

        memcpy(b.flash, image, size);
        assert_content(look(&b, image, size), CONTENT_WANTED);
        assert_int_equal(survey_count_differing(&b.survey), 0);
        /* The window opens with block 0: a difference anywhere brings it along. */
        b.flash[700 * 4096] ^= 1;
        assert_content(look(&b, image, size), CONTENT_UNKNOWN);
        assert_int_equal(survey_count_differing(&b.survey), 2);
        assert_true(b.survey.differs[0]);
        assert_true(b.survey.differs[700]);

        /* MRAM is not erased: behind the image's end, in its last block too, an older one shows. */
        memcpy(b.flash, old, b.size);
        memcpy(b.flash, image, size);
        assert_content(look(&b, image, size), CONTENT_WANTED);
        assert_content(look_for(&b, image, size), CONTENT_KNOWN);
        bench_deinit(&b);
}

static void n6(void **unused)
{
        _cleanup_free_ uint8_t *image = NULL;
        uint32_t size = 3000001;
        struct bench b;

        (void)unused;
        bench_init(&b, "OPENMV_N6", "FIRMWARE");
        image = make_image(&b, size, 1);
        /* It has no vector table at its beginning: nothing is impossible, and blank is a whole block of 0xff. */
        memset(image, 0, 16);
        memcpy(b.flash, image, size);
        assert_content(look(&b, image, size), CONTENT_WANTED);
        begin(&b, image, size);
        assert_int_equal(b.survey.n_units, 56);
        write_until(&b, image, 65536 * 3 + 512);
        assert_content(look(&b, image, size), CONTENT_INTERRUPTED);
        memset(b.flash, 0xff, b.size);
        assert_content(look(&b, image, size), CONTENT_BLANK);
        assert_int_equal(b.blocks_read, (size + 65535) / 65536);
        memset(b.flash, 0xff, b.size);
        memset(image, 0xff, 16);
        memcpy(b.flash, image, size);
        assert_content(look(&b, image, size), CONTENT_WANTED);
        bench_deinit(&b);
}

static void bootloaders(void **unused)
{
        static const char *const ids[] = { "OPENMV2", "OPENMV3", "OPENMV4" };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                _cleanup_free_ uint8_t *image = NULL;
                struct bench b;

                bench_init(&b, ids[i], "BOOTLOADER");
                image = make_image(&b, 19401, 1);
                assert_content(look(&b, image, 19401), CONTENT_BLANK);
                memcpy(b.flash, image, 19401);
                assert_content(look_for(&b, image, 19401), CONTENT_KNOWN);
                assert_content(look(&b, image, 19401), CONTENT_WANTED);
                b.flash[100] ^= 1;
                assert_content(look(&b, image, 19401), CONTENT_UNKNOWN);
                memset(b.flash + 5000, 0xff, b.size - 5000);
                b.flash[100] ^= 1;
                assert_content(look(&b, image, 19401), CONTENT_INTERRUPTED);
                bench_deinit(&b);
        }
}

static int load(void **unused)
{
        const char *directory = getenv("CAMRESCUE_BOARDS");

        (void)unused;
        return board_list_load(&boards, directory ?: "boards");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/survey/unread", unread, NULL, NULL, NULL },
                { "/survey/blank-costs-one-block-per-unit", blank, NULL, NULL, NULL },
                { "/survey/impossible", impossible, NULL, NULL, NULL },
                { "/survey/known-and-wanted", known_and_wanted, NULL, NULL, NULL },
                { "/survey/unknown", unknown, NULL, NULL, NULL },
                { "/survey/unreadable", unreadable, NULL, NULL, NULL },
                { "/survey/too-large", too_large, NULL, NULL, NULL },
                { "/survey/interrupted-at-each-unit-and-within", interrupted, NULL, NULL, NULL },
                { "/survey/cut-between-two-units-is-unknown", between_two_units, NULL, NULL, NULL },
                { "/survey/a-torn-program-unit-at-the-cut", torn, NULL, NULL, NULL },
                { "/survey/what-follows-a-cut-is-erased-flash", not_interrupted, NULL, NULL, NULL },
                { "/survey/custom-firmware-is-unknown", custom_firmware, NULL, NULL, NULL },
                { "/survey/common-prefixes", common_prefixes, NULL, NULL, NULL },
                { "/survey/padding", padding, NULL, NULL, NULL },
                { "/survey/reads-no-more-than-it-needs", reads_no_more_than_it_needs, NULL, NULL, NULL },
                { "/survey/ae3", ae3, NULL, NULL, NULL },
                { "/survey/n6", n6, NULL, NULL, NULL },
                { "/survey/bootloaders", bootloaders, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, load, NULL);
}

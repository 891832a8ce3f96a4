/* SPDX-License-Identifier: MIT */

/*
 * The memory-map strings of ROM bootloaders, damaged.  They come from a device
 * that nobody has vouched for.
 */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "fuzz/fuzz.h"
#include "protocol/dfuse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct dfuse_segment segments[DFUSE_SEGMENTS_MAX];
        _cleanup_free_ char *string = malloc(size + 1);
        char name[DFUSE_NAME_SIZE];
        size_t n = 0;

        CHECK(string);
        memcpy(string, data, size);
        string[size] = '\0';
        if (dfuse_parse_map(string, name, segments, &n) < 0) {
                CHECK(n == 0);
                return 0;
        }
        CHECK(n > 0 && n <= DFUSE_SEGMENTS_MAX);
        CHECK(memchr(name, '\0', sizeof(name)));
        for (size_t i = 0; i < n; i++) {
                const struct dfuse_segment *s = &segments[i];

                CHECK(s->sectors > 0 && s->sector_size > 0);
                CHECK(s->address + (uint64_t)s->sectors * s->sector_size <= UINT64_C(1) << 32);
                CHECK(s->readable || s->erasable || s->writable);
        }
        return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t size)
{
        static const char *const maps[] = {
                "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg,04*016Kg,01*064Kg,07*128Kg",
                "@Internal Flash  /0x08000000/04*032Kg,01*128Kg,07*256Kg",
                "@Internal Flash   /0x08000000/16*128Kg",
                "@Option Bytes  /0x1FFFC000/01*016 e/0x1FFEC000/01*016 e",
                "@OTP Memory /0x1FF07800/01*528e",
                "@Device Feature/0xFFFF0000/01*004 e",
                "@ a /0Xfffffff0/ 1 * 16 B c , 0001*0 M a",
        };
        size_t length;

        if (n >= ELEMENTSOF(maps))
                return 0;
        length = strlen(maps[n]);
        memcpy(data, maps[n], length);
        return length;
}

/* SPDX-License-Identifier: MIT */

/*
 * USB descriptors, as any device may send them: whatever they are, what comes
 * out stays within its bounds.
 */

#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "edge/sighting-reader.h"

/* A DFU bootloader with four alternate settings; and mass storage beside a serial line. */
static const uint8_t bootloader[] = {
        18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xc5, 0x37, 0x04, 0x92, 0x03, 0x01, 1, 2, 3, 1,
        9, 2, 54, 0, 1, 1, 0, 0x80, 250,
        9, 4, 0, 0, 0, 0xfe, 1, 2, 4, 9, 4, 0, 1, 0, 0xfe, 1, 2, 5, 9, 4, 0, 2, 0, 0xfe, 1, 2, 6, 9, 4, 0, 3, 0, 0xfe, 1, 2, 7,
        9, 0x21, 7, 0xe8, 3, 0, 0x10, 1, 1,
};
static const uint8_t runtime[] = {
        18, 1, 0x00, 0x02, 0xef, 2, 1, 64, 0xc5, 0x37, 0x04, 0x12, 0x00, 0x02, 1, 2, 3, 1,
        9, 2, 59, 0, 3, 1, 0, 0x80, 250,
        9, 4, 0, 0, 1, 8, 6, 80, 0, 7, 5, 0x81, 2, 64, 0, 0,
        8, 11, 1, 2, 2, 2, 0, 0, 9, 4, 1, 0, 0, 2, 2, 0, 0, 5, 0x24, 0, 0x10, 1, 9, 4, 2, 0, 0, 10, 0, 0, 0,
};

size_t fuzz_seed(unsigned n, uint8_t *data, size_t size)
{
        const struct { const uint8_t *data; size_t size; } seeds[] = {
                { bootloader, sizeof(bootloader) },
                { runtime, sizeof(runtime) },
        };

        if (n >= ELEMENTSOF(seeds) || seeds[n].size > size)
                return 0;
        memcpy(data, seeds[n].data, seeds[n].size);
        return seeds[n].size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct sighting sighting = { 0 };
        int r;

        r = sighting_from_descriptors(data, size, &sighting);
        if ((r < 0) != (size < 18 || data[0] != 18))
                abort();
        if (sighting.n_alts > ELEMENTSOF(sighting.alt_names))
                abort();
        if (size < 27 && (sighting.n_interfaces > 0 || sighting.n_alts > 0 || sighting.transfer_size > 0))
                abort();
        return 0;
}

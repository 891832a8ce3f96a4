/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Bytes from outside are read through a bounds-checked reader: lengths before
 * contents, and one sticky failure instead of a check after every field.  Also
 * little-endian access, hexadecimal, CRC-32 and SHA-256.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reader {
        const uint8_t *data;
        size_t left;
        bool failed;                    /* sticky: a read went past the end; it returned zeros */
};

static inline struct reader reader_new(const void *data, size_t size)
{
        return (struct reader){ .data = data, .left = size };
}

/* NULL once failed. */
const uint8_t *reader_take(struct reader *reader, size_t size);
uint8_t reader_u8(struct reader *reader);
uint16_t reader_le16(struct reader *reader);
uint32_t reader_le32(struct reader *reader);

static inline uint16_t get_le16(const void *p)
{
        const uint8_t *b = p;

        return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t get_le32(const void *p)
{
        const uint8_t *b = p;

        return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline void put_le16(void *p, uint16_t v)
{
        uint8_t *b = p;

        b[0] = (uint8_t)v;
        b[1] = (uint8_t)(v >> 8);
}

static inline void put_le32(void *p, uint32_t v)
{
        put_le16(p, (uint16_t)v);
        put_le16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}

/* Is every byte equal to value?  (size 0: true) */
bool bytes_all(const void *data, size_t size, uint8_t value);
/* Number of equal bytes at the beginning. */
size_t bytes_common_prefix(const void *a, const void *b, size_t size);

/* What was cut off to fit: takes the beginning of a character away from the end, so that it stays UTF-8. */
void text_end_at_character(char *text);
/* Of UTF-8: is there a control character, of either row? */
bool text_has_controls(const char *text);

/* Lower case.  hex must have room for 2 * size + 1. */
void hex_encode(const void *data, size_t size, char *hex);
/* Exactly 2 * size digits of either case, or -EINVAL. */
int hex_decode(const char *hex, void *data, size_t size);

/* The CRC of the DFU suffix: zlib's crc32 without its final inversion
 * (dfu-file-formats.md section 1). */
uint32_t dfu_crc(const void *data, size_t size);

#define DIGEST_SIZE 32
#define DIGEST_HEX_SIZE (2 * DIGEST_SIZE + 1)

struct digest {
        uint8_t bytes[DIGEST_SIZE];
};

/* SHA-256. */
void digest_of(const void *data, size_t size, struct digest *ret);
bool digest_equal(const struct digest *a, const struct digest *b);
void digest_to_hex(const struct digest *digest, char hex[static DIGEST_HEX_SIZE]);

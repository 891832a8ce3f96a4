/* SPDX-License-Identifier: MIT */

/*
 * See bytes.h.  Checksums are zlib's and libgcrypt's; nothing here allocates
 * or keeps state but libgcrypt's one-time initialisation, so every function may
 * be called from any thread.
 */

#include "base/bytes.h"

#include <assert.h>
#include <errno.h>
#include <gcrypt.h>
#include <pthread.h>
#include <string.h>
#include <zlib.h>

const uint8_t *reader_take(struct reader *reader, size_t size)
{
        const uint8_t *data = reader->data;

        if (reader->failed || size > reader->left) {
                reader->failed = true;
                reader->left = 0;
                return NULL;
        }
        /* An empty reader may stand on NULL, to which not even 0 may be added; and NULL would say "failed". */
        if (size == 0)
                return data ? data : (const uint8_t *)"";
        reader->data += size;
        reader->left -= size;
        return data;
}

uint8_t reader_u8(struct reader *reader)
{
        const uint8_t *p = reader_take(reader, 1);

        return p ? *p : 0;
}

uint16_t reader_le16(struct reader *reader)
{
        const uint8_t *p = reader_take(reader, 2);

        return p ? get_le16(p) : 0;
}

uint32_t reader_le32(struct reader *reader)
{
        const uint8_t *p = reader_take(reader, 4);

        return p ? get_le32(p) : 0;
}

bool bytes_all(const void *data, size_t size, uint8_t value)
{
        const uint8_t *p = data;

        /* If the first byte is right and each byte equals its neighbour, all are: memcmp does that fast. */
        return size == 0 || (p[0] == value && memcmp(p, p + 1, size - 1) == 0);
}

void text_end_at_character(char *text)
{
        size_t n = strlen(text), tail = 0;
        unsigned char first;

        while (tail < n && tail < 4 && ((unsigned char)text[n - 1 - tail] & 0xc0) == 0x80)
                tail++;
        if (tail == n)
                return;
        first = (unsigned char)text[n - 1 - tail];
        if (first >= 0xc0 && tail < (first >= 0xf0 ? 3u : first >= 0xe0 ? 2u : 1u))
                text[n - 1 - tail] = '\0';
}

bool text_has_controls(const char *text)
{
        for (const unsigned char *p = (const unsigned char *)text; *p; p++)
                /* The second row of controls is C2 80 ... C2 9F. */
                if (*p < 0x20 || *p == 0x7f || (*p == 0xc2 && p[1] < 0xa0))
                        return true;
        return false;
}

size_t bytes_common_prefix(const void *a, const void *b, size_t size)
{
        const uint8_t *p = a, *q = b;
        size_t n = 0;

        for (; size - n >= sizeof(uint64_t); n += sizeof(uint64_t)) {
                uint64_t x, y;

                memcpy(&x, p + n, sizeof(x));
                memcpy(&y, q + n, sizeof(y));
                if (x != y)
                        break;
        }
        while (n < size && p[n] == q[n])
                n++;
        return n;
}

void hex_encode(const void *data, size_t size, char *hex)
{
        static const char digits[] = "0123456789abcdef";
        const uint8_t *p = data;

        for (size_t i = 0; i < size; i++) {
                *hex++ = digits[p[i] >> 4];
                *hex++ = digits[p[i] & 0xf];
        }
        *hex = 0;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -EINVAL;
}

int hex_decode(const char *hex, void *data, size_t size)
{
        uint8_t *p = data;
        size_t digits = 0;

        /* All of it is looked at before the first byte is stored. */
        while (digits < 2 * size && hex_digit(hex[digits]) >= 0)
                digits++;
        if (digits != 2 * size || hex[digits] != 0)
                return -EINVAL;

        for (size_t i = 0; i < size; i++)
                p[i] = (uint8_t)(hex_digit(hex[2 * i]) << 4 | hex_digit(hex[2 * i + 1]));
        return 0;
}

uint32_t dfu_crc(const void *data, size_t size)
{
        /* zlib begins anew, whatever its length, when given no buffer. */
        return ~(uint32_t)crc32_z(crc32_z(0, NULL, 0), size ? data : (const void *)"", size);
}

static void gcrypt_initialise(void)
{
        /* Checks that the library is the one compiled against, and sets it up; it must be its first call. */
        const char *version = gcry_check_version(GCRYPT_VERSION);

        assert(version);
        (void)version;
        /* Digests are no secrets: no locked memory pool. */
        (void)gcry_control(GCRYCTL_DISABLE_SECMEM, 0);
        (void)gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0);
}

void digest_of(const void *data, size_t size, struct digest *ret)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;

        (void)pthread_once(&once, gcrypt_initialise);
        gcry_md_hash_buffer(GCRY_MD_SHA256, ret->bytes, data, size);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
        return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

void digest_to_hex(const struct digest *digest, char hex[static DIGEST_HEX_SIZE])
{
        hex_encode(digest->bytes, DIGEST_SIZE, hex);
}

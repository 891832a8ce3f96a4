/* SPDX-License-Identifier: MIT */

/*
 * Identities: the serials of each mode, computed from the unique id, and the
 * place of a sighting among the cameras known.  Nothing here proves anything by
 * a port; a port gives at most a hint, and a hint is given to one camera only.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "core/identity.h"

static const char *const camera_mode_names[_CAMERA_MODE_MAX] = {
        [CAMERA_MODE_ABSENT] = "absent",
        [CAMERA_MODE_ROM_DFU] = "rom-dfu",
        [CAMERA_MODE_BOOTLOADER] = "bootloader",
        [CAMERA_MODE_VCP_BOOTLOADER] = "vcp-bootloader",
        [CAMERA_MODE_RUNTIME] = "runtime",
        [CAMERA_MODE_OTHER] = "other",
        [CAMERA_MODE_UNREADABLE] = "unreadable",
};
DEFINE_ENUM_NAMES(camera_mode, _CAMERA_MODE_MAX);

static const char *const identity_match_names[IDENTITY_COLLISION + 1] = {
        [IDENTITY_NEW] = "new",
        [IDENTITY_KNOWN] = "known",
        [IDENTITY_PORT_HINT] = "port-hint",
        [IDENTITY_UNPROVEN] = "unproven",
        [IDENTITY_COLLISION] = "collision",
};
DEFINE_ENUM_NAMES(identity_match, IDENTITY_COLLISION + 1);

/* The ROM of every H743 says this. */
#define SERIAL_H7_ROM "200364500000"

/* --- forms of the unique id --- */

static uint32_t uid_word(const struct uid *uid, unsigned n)
{
        const uint8_t *b = uid->bytes + 4 * n;

        return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

void uid_to_u(const struct uid *uid, char u[static 25])
{
        snprintf(u, 25, "%08X%08X%08X", uid_word(uid, 2), uid_word(uid, 1), uid_word(uid, 0));
}

void uid_to_r(const struct uid *uid, char r[static 13])
{
        snprintf(r, 13, "%08X%04X", uid_word(uid, 0) + uid_word(uid, 2), uid_word(uid, 1) >> 16);
}

void uid_to_m(const struct uid *uid, bool reduced, char m[static 17])
{
        const uint8_t *b = uid->bytes;
        unsigned mask = reduced ? 0xff : 0x1ff;

        /* The ST stack prints sums as they are, so that each may take three digits. */
        snprintf(m, 17, "%02X%02X%02X%02X%02X%02X", b[11], (b[10] + b[2]) & mask, b[9], (b[8] + b[0]) & mask, b[7], b[6]);
}

void uid_to_byte_order(const struct uid *uid, char hex[static 25])
{
        for (unsigned i = 0; i < UID_SIZE; i++)
                snprintf(hex + 2 * i, 3, "%02x", uid->bytes[i]);
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

int uid_from_byte_order(const char *hex, struct uid *ret)
{
        struct uid uid;
        bool zeros = true, ones = true;

        if (strlen(hex) != 2 * UID_SIZE)
                return -EINVAL;
        for (unsigned i = 0; i < UID_SIZE; i++) {
                int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

                if (high < 0 || low < 0)
                        return -EINVAL;
                uid.bytes[i] = (uint8_t)(high << 4 | low);
                zeros &= uid.bytes[i] == 0x00;
                ones &= uid.bytes[i] == 0xff;
        }
        if (zeros || ones)
                return -EINVAL;
        *ret = uid;
        return 0;
}

int uid_from_u(const char *u, struct uid *ret)
{
        struct uid reversed;
        int r;

        r = uid_from_byte_order(u, &reversed);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < UID_SIZE; i++)
                ret->bytes[i] = reversed.bytes[UID_SIZE - 1 - i];
        return 0;
}

bool serial_is_shared(const char *serial)
{
        static const char *const constants[] = {
                SERIAL_H7_ROM,
                "STM32FxSTM32",
                "000000000010", "000000000011", /* VCP bootloader */
                "0123456789ABCDEF",             /* DFU bootloader whose unique id could not be read */
        };
        bool repeated = true;

        for (size_t i = 0; i < ELEMENTSOF(constants); i++)
                if (strcasecmp(serial, constants[i]) == 0)
                        return true;
        for (const char *c = serial; *c; c++) {
                if (*c <= ' ' || *c > '~')
                        return true;
                repeated &= *c == *serial;
        }
        return repeated;
}

/* --- mode --- */

static bool is_vcp_bootloader(const struct sighting *sighting)
{
        if (strcmp(sighting->serial, "000000000010") == 0 || strcmp(sighting->serial, "000000000011") == 0)
                return true;
        /* Old runtimes have a mass storage interface; what has none is the bootloader.  No interfaces: not read (yet). */
        return sighting->n_interfaces > 0 && !sighting->has_mass_storage;
}

static bool board_has_runtime_id(const struct board *board, const struct sighting *sighting)
{
        for (size_t i = 0; i < board->n_runtime; i++)
                if (board->runtime[i].vendor == sighting->vendor && board->runtime[i].product == sighting->product)
                        return true;
        return false;
}

enum camera_mode identity_mode(const struct sighting *sighting, const struct board_list *boards, const struct board **ret_board)
{
        if (sighting->unreadable) {
                *ret_board = NULL;
                return CAMERA_MODE_UNREADABLE;
        }
        switch (board_classify(boards, sighting->vendor, sighting->product, ret_board)) {
        case USB_ROLE_ROM_DFU:
                return CAMERA_MODE_ROM_DFU;
        case USB_ROLE_BOOTLOADER:
                /* Early AE3: one id for both; only the bootloader has DFU alternate settings. */
                if (*ret_board && board_has_runtime_id(*ret_board, sighting) && sighting->n_alts == 0)
                        return CAMERA_MODE_RUNTIME;
                return CAMERA_MODE_BOOTLOADER;
        case USB_ROLE_RUNTIME:
                return CAMERA_MODE_RUNTIME;
        case USB_ROLE_LEGACY:
                return is_vcp_bootloader(sighting) ? CAMERA_MODE_VCP_BOOTLOADER : CAMERA_MODE_RUNTIME;
        case USB_ROLE_OTHER:
                return CAMERA_MODE_OTHER;
        case USB_ROLE_NONE:
        case _USB_ROLE_MAX:
                break;
        }
        return CAMERA_MODE_ABSENT;
}

/* --- matching: does this sighting's serial follow from what we know of that camera? --- */

/* On Alif the bootloader's serial is no STM32 id: nothing can be computed from it. */
static bool has_stm32_uid(const struct known_identity *known)
{
        return known->has_uid && !(known->board && known->board->chip == CHIP_ALIF);
}

bool uid_has_runtime_serial(const struct uid *uid, const char *serial)
{
        char form[25];

        uid_to_m(uid, /* reduced= */ false, form);
        if (strcasecmp(form, serial) == 0)
                return true;
        uid_to_m(uid, /* reduced= */ true, form);
        if (strcasecmp(form, serial) == 0)
                return true;
        uid_to_byte_order(uid, form);
        return strcasecmp(form, serial) == 0;
}

/* The serial seen in runtime before, kept in the record or in a provisional key. */
static bool was_seen_with(const struct known_identity *known, const char *serial)
{
        if (strcasecmp(known->runtime_serial, serial) == 0)
                return true;
        return strncmp(known->key, "M:", 2) == 0 && strcasecmp(known->key + 2, serial) == 0;
}

static bool fits_runtime(const struct known_identity *known, const struct sighting *sighting)
{
        if (was_seen_with(known, sighting->serial))
                return true;
        return has_stm32_uid(known) && uid_has_runtime_serial(&known->uid, sighting->serial);
}

static bool fits_rom(const struct known_identity *known, const struct sighting *sighting)
{
        char r[13];

        if (has_stm32_uid(known)) {
                uid_to_r(&known->uid, r);
                return strcasecmp(r, sighting->serial) == 0;
        }
        /* Unique id not learnt yet: runtime and ROM serial of one chip are equal unless a sum overflows.  48 equal bits
         * of two different chips are not expected; two known cameras that fit make a collision. */
        if (known->board && known->board->chip == CHIP_ALIF)
                return false;
        return was_seen_with(known, sighting->serial);
}

static bool fits_other(const struct known_identity *known, const struct sighting *sighting)
{
        return was_seen_with(known, sighting->serial);
}

/* A camera whose key is provisional shows now, by its runtime serial, to be the owner of this uid. */
static bool is_provisional_of(const struct known_identity *known, const struct uid *uid)
{
        char form[25];

        if (known->has_uid || (known->board && known->board->chip == CHIP_ALIF))
                return false;
        uid_to_m(uid, /* reduced= */ false, form);
        if (was_seen_with(known, form))
                return true;
        uid_to_m(uid, /* reduced= */ true, form);
        if (was_seen_with(known, form))
                return true;
        uid_to_byte_order(uid, form);
        return was_seen_with(known, form);
}

struct search {
        size_t n, index;
        bool present;                   /* the one found is attached elsewhere */
};

static struct search search_known(const struct sighting *sighting, const struct known_identity *known, size_t n_known,
                                  bool (*fits)(const struct known_identity *, const struct sighting *))
{
        struct search search = {};

        for (size_t i = 0; i < n_known; i++)
                if (fits(&known[i], sighting)) {
                        search.index = i;
                        search.present = known[i].present;
                        search.n++;
                }
        return search;
}

/* --- the port's hint --- */

/* May this camera be what shows that serial in that mode on its old port?  Only what is possible is hinted. */
static bool may_be(const struct known_identity *known, const struct sighting *sighting, enum camera_mode mode,
                   const struct board *board)
{
        const struct board *its = known->board;

        if (!its)
                return true;
        switch (mode) {
        case CAMERA_MODE_ROM_DFU:
                if (its->n_rom == 0)
                        return false;
                if (!*sighting->serial)
                        return true;
                if (its->chip == CHIP_H7)
                        return strcmp(sighting->serial, SERIAL_H7_ROM) == 0;
                if (serial_is_shared(sighting->serial))
                        return its->chip == CHIP_N6 && strcmp(sighting->serial, SERIAL_H7_ROM) != 0;
                /* A serial of its own that was not matched: another chip, if ours is known. */
                return its->chip == CHIP_N6 || !known->has_uid;
        case CAMERA_MODE_VCP_BOOTLOADER:
                return its->n_legacy > 0;
        case CAMERA_MODE_ABSENT:
        case CAMERA_MODE_BOOTLOADER:
        case CAMERA_MODE_RUNTIME:
        case CAMERA_MODE_OTHER:
        case CAMERA_MODE_UNREADABLE:
        case _CAMERA_MODE_MAX:
                break;
        }
        return !board || its == board;
}

/* Returns false when no camera, or more than one, could be meant. */
static bool find_hint(const struct sighting *sighting, enum camera_mode mode, const struct board *board, bool just_left_only,
                      const struct known_identity *known, size_t n_known, size_t *ret_index)
{
        size_t n = 0, n_left = 0, any = 0, left = 0;

        for (size_t i = 0; i < n_known; i++) {
                if (known[i].present || strcmp(known[i].port, sighting->port) != 0)
                        continue;
                if (!may_be(&known[i], sighting, mode, board))
                        continue;
                any = i;
                n++;
                if (known[i].left_for_identityless) {
                        left = i;
                        n_left++;
                }
        }
        if (n_left == 1) {
                *ret_index = left;
                return true;
        }
        if (n_left > 1 || n != 1 || just_left_only)
                return false;
        *ret_index = any;
        return true;
}

/* --- resolve, by mode --- */

struct question {
        const struct sighting *sighting;
        const struct known_identity *known;
        size_t n_known;
};

static void set_port_key(struct identity_result *result, const struct sighting *sighting)
{
        snprintf(result->key, sizeof(result->key), "P:%s", sighting->port);
}

static void resolve_without_identity(const struct question *q, struct identity_result *result)
{
        set_port_key(result, q->sighting);
        if (find_hint(q->sighting, result->mode, result->board, /* just_left_only= */ false, q->known, q->n_known,
                      &result->index))
                result->match = IDENTITY_PORT_HINT;
        else
                result->match = IDENTITY_UNPROVEN;
}

/* True if the serial decided. */
static bool resolve_by_serial(const struct question *q, struct identity_result *result,
                              bool (*fits)(const struct known_identity *, const struct sighting *))
{
        struct search search = search_known(q->sighting, q->known, q->n_known, fits);

        if (search.n == 0)
                return false;
        if (search.n > 1 || search.present) {
                result->match = IDENTITY_COLLISION;
                set_port_key(result, q->sighting);
        } else {
                result->match = IDENTITY_KNOWN;
                result->index = search.index;
        }
        return true;
}

/* The whole unique id is seen. */
static void resolve_by_uid(const struct question *q, struct identity_result *result, const struct uid *uid)
{
        size_t n = 0, n_provisional = 0, provisional = 0;
        bool present = false, alif = result->board && result->board->chip == CHIP_ALIF;

        result->learnt_uid = true;
        result->uid = *uid;
        uid_to_u(uid, result->key);

        for (size_t i = 0; i < q->n_known; i++) {
                const struct known_identity *known = &q->known[i];

                if (known->has_uid && memcmp(&known->uid, uid, sizeof(*uid)) == 0) {
                        result->index = i;
                        present = known->present;
                        n++;
                } else if (!alif && !known->present && is_provisional_of(known, uid)) {
                        provisional = i;
                        n_provisional++;
                }
        }
        if (n > 1 || present) {
                result->match = IDENTITY_COLLISION;
                set_port_key(result, q->sighting);
        } else if (n == 1) {
                result->match = IDENTITY_KNOWN;
        } else if (n_provisional == 1) {
                result->match = IDENTITY_KNOWN;
                result->index = provisional;
                result->upgrade = true;
        } else if (alif && find_hint(q->sighting, result->mode, result->board, /* just_left_only= */ true, q->known, q->n_known,
                                     &result->index) && !q->known[result->index].has_uid) {
                /* AE3: its runtime serial and this one have nothing in common; only the port links them. */
                result->match = IDENTITY_PORT_HINT;
        } else {
                /* Of two provisional cameras with one serial neither is taken: this one begins anew under its own id. */
                result->match = IDENTITY_NEW;
        }
}

static void resolve_runtime(const struct question *q, struct identity_result *result)
{
        const char *serial = q->sighting->serial;
        bool alif = result->board && result->board->chip == CHIP_ALIF;
        struct uid uid;

        if (serial_is_shared(serial)) {
                resolve_without_identity(q, result);
                return;
        }
        /* N6 before March 2026 shows the whole unique id. */
        if (result->board && result->board->chip == CHIP_N6 && uid_from_byte_order(serial, &uid) == 0) {
                resolve_by_uid(q, result, &uid);
                return;
        }
        if (resolve_by_serial(q, result, fits_runtime))
                return;

        snprintf(result->key, sizeof(result->key), "M:%s", serial);
        result->match = IDENTITY_NEW;
        if (alif && find_hint(q->sighting, result->mode, result->board, /* just_left_only= */ true, q->known, q->n_known,
                              &result->index) && !*q->known[result->index].runtime_serial)
                result->match = IDENTITY_PORT_HINT;
}

struct identity_result identity_resolve(const struct sighting *sighting, const struct board_list *boards,
                                        const struct known_identity *known, size_t n_known)
{
        struct question q = { .sighting = sighting, .known = known, .n_known = n_known };
        struct identity_result result = {};
        struct uid uid;

        result.mode = identity_mode(sighting, boards, &result.board);
        switch (result.mode) {
        case CAMERA_MODE_BOOTLOADER:
                if (!serial_is_shared(sighting->serial) && uid_from_u(sighting->serial, &uid) == 0)
                        resolve_by_uid(&q, &result, &uid);
                else
                        resolve_without_identity(&q, &result);
                break;
        case CAMERA_MODE_RUNTIME:
                resolve_runtime(&q, &result);
                break;
        case CAMERA_MODE_ROM_DFU:
                if (serial_is_shared(sighting->serial) || !resolve_by_serial(&q, &result, fits_rom))
                        resolve_without_identity(&q, &result);
                break;
        case CAMERA_MODE_OTHER:
                if (serial_is_shared(sighting->serial) || !resolve_by_serial(&q, &result, fits_other))
                        resolve_without_identity(&q, &result);
                break;
        case CAMERA_MODE_VCP_BOOTLOADER:
        case CAMERA_MODE_UNREADABLE:
                resolve_without_identity(&q, &result);
                break;
        case CAMERA_MODE_ABSENT:
        case _CAMERA_MODE_MAX:
                result.match = IDENTITY_UNPROVEN;
                set_port_key(&result, sighting);
                break;
        }
        return result;
}

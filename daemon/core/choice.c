/* SPDX-License-Identifier: MIT */

/*
 * Which firmware (row 7 of the verdict): versions, and the choice among what the
 * store holds.  Pure: it looks at the store's index and touches no file.  An image set is
 * one version, whole, and fits the partitions of the camera's own bootloader; or
 * it is no set.
 */

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/store.h"

static const char *const choice_reason_names[_CHOICE_REASON_MAX] = {
        [CHOICE_NONE] = "none",
        [CHOICE_OPEN_UPDATE] = "open-update",
        [CHOICE_NAMED] = "named",
        [CHOICE_PINNED] = "pinned",
        [CHOICE_LAST_RAN] = "last-ran",
        [CHOICE_NEWEST] = "newest",
};
DEFINE_ENUM_NAMES(choice_reason, _CHOICE_REASON_MAX);

/* --- versions --- */

struct version {
        uint32_t numbers[3];
        const char *prerelease;         /* "" for a release */
        size_t prerelease_length;
};

static bool number_parse(const char **at, uint32_t *ret)
{
        uint64_t n = 0;

        if (!isdigit((unsigned char)**at))
                return false;
        for (; isdigit((unsigned char)**at); (*at)++) {
                n = n * 10 + (uint64_t)(**at - '0');
                if (n > UINT32_MAX)
                        return false;
        }
        *ret = (uint32_t)n;
        return true;
}

static bool is_identifier(char c)
{
        return isalnum((unsigned char)c) || c == '-' || c == '.';
}

/* "5", "5.0", "v5.0.0", "5.0.0-dev.3", "5.0.0-rc1+g1a2b3c": what is not there is 0; the build (+...) has no rank. */
static bool version_parse(const char *text, struct version *ret)
{
        struct version version = { .prerelease = "" };
        const char *at = text;

        if (*at == 'v' || *at == 'V')
                at++;
        for (size_t i = 0; i < ELEMENTSOF(version.numbers); i++) {
                if (i > 0 && *at++ != '.')
                        return false;
                if (!number_parse(&at, &version.numbers[i]))
                        return false;
                if (*at != '.')
                        break;
        }
        if (*at == '-') {
                version.prerelease = ++at;
                while (is_identifier(*at))
                        at++;
                version.prerelease_length = (size_t)(at - version.prerelease);
                if (version.prerelease_length == 0)
                        return false;
        }
        if (*at == '+')
                for (at++; is_identifier(*at); at++)
                        ;
        if (*at != 0)
                return false;
        *ret = version;
        return true;
}

/* One dot-separated identifier; *left becomes what follows it. */
static size_t identifier_take(const char **left, size_t *left_length, const char **ret)
{
        const char *dot = memchr(*left, '.', *left_length);
        size_t length = dot ? (size_t)(dot - *left) : *left_length;

        *ret = *left;
        *left += dot ? length + 1 : length;
        *left_length -= dot ? length + 1 : length;
        return length;
}

static bool is_number(const char *text, size_t length)
{
        for (size_t i = 0; i < length; i++)
                if (!isdigit((unsigned char)text[i]))
                        return false;
        return length > 0;
}

static int identifier_compare(const char *a, size_t a_length, const char *b, size_t b_length)
{
        bool a_is_number = is_number(a, a_length), b_is_number = is_number(b, b_length);
        int r;

        if (a_is_number != b_is_number)
                return a_is_number ? -1 : 1;
        if (a_is_number) {
                for (; a_length > 1 && *a == '0'; a++)
                        a_length--;
                for (; b_length > 1 && *b == '0'; b++)
                        b_length--;
                if (a_length != b_length)
                        return a_length < b_length ? -1 : 1;
        }
        r = memcmp(a, b, MIN(a_length, b_length));
        return r != 0 ? r : a_length < b_length ? -1 : a_length > b_length;
}

static int prerelease_compare(const struct version *a, const struct version *b)
{
        const char *a_left = a->prerelease, *b_left = b->prerelease, *a_next, *b_next;
        size_t a_length = a->prerelease_length, b_length = b->prerelease_length;

        /* A release is newer than all that came before it. */
        if (a_length == 0 || b_length == 0)
                return a_length == b_length ? 0 : a_length == 0 ? 1 : -1;
        while (a_length > 0 && b_length > 0) {
                size_t an = identifier_take(&a_left, &a_length, &a_next);
                size_t bn = identifier_take(&b_left, &b_length, &b_next);
                int r = identifier_compare(a_next, an, b_next, bn);

                if (r != 0)
                        return r;
        }
        return a_length == b_length ? 0 : a_length == 0 ? -1 : 1;
}

int version_compare(const char *a, const char *b)
{
        struct version va, vb;
        bool a_parses = version_parse(a, &va), b_parses = version_parse(b, &vb);

        if (!a_parses || !b_parses)
                return a_parses ? 1 : b_parses ? -1 : strcmp(a, b);
        for (size_t i = 0; i < ELEMENTSOF(va.numbers); i++)
                if (va.numbers[i] != vb.numbers[i])
                        return va.numbers[i] < vb.numbers[i] ? -1 : 1;
        return prerelease_compare(&va, &vb);
}

/* Two versions without rank, not the same: nobody knows, and then it is. */
static bool is_older(const char *version, const char *than)
{
        struct version ignored;
        int r = version_compare(version, than);

        return r < 0 || (r > 0 && !version_parse(version, &ignored));
}

/* --- sets --- */

struct wish_list {
        const struct store *store;
        const struct board *board;
        const struct layout *layout;
        bool with_romfs;
        const struct firmware_record *named;    /* this very image must be in the set; NULL: any */
};

/* Is there a file for this partition in the board's releases? */
static bool has_image(const struct board *board, const struct partition *partition)
{
        for (size_t i = 0; i < board->n_files; i++)
                if (strcmp(board->files[i].partition, partition->name) == 0)
                        return true;
        return false;
}

static bool belongs(const struct wish_list *wish, const struct partition *partition)
{
        return has_image(wish->board, partition) &&
               (partition->role == PARTITION_FIRMWARE || (wish->with_romfs && partition->role == PARTITION_ROMFS));
}

static bool fits(const struct firmware_record *record, const struct partition *partition)
{
        return !partition->read_only && record->size > 0 && record->size <= partition->limit - partition->start;
}

/* Of several builds of one version: the pinned one, then the one added last.  *ret_large: one that is there but does not fit. */
static const struct firmware_record *image_find(const struct wish_list *wish, const struct partition *partition, const char *version,
                                                const struct firmware_record **ret_large)
{
        const struct firmware_record *best = NULL, *record;

        if (wish->named && strcmp(wish->named->partition, partition->name) == 0) {
                if (fits(wish->named, partition))
                        return wish->named;
                *ret_large = wish->named;
                return NULL;
        }
        for (size_t n = 0; (record = store_nth(wish->store, n)); n++) {
                if (strcmp(record->board, wish->board->id) != 0 || strcmp(record->partition, partition->name) != 0 ||
                    strcmp(record->version, version) != 0)
                        continue;
                if (!fits(record, partition))
                        *ret_large = record;
                else if (!best || record->pinned > best->pinned ||
                         (record->pinned == best->pinned && record->added >= best->added))
                        best = record;
        }
        return best;
}

/* Fills in images and version; why not, in text. */
static bool set_find(const struct wish_list *wish, const char *version, struct choice *choice)
{
        struct choice set = *choice;
        bool any_romfs = false;

        set.n_images = 0;
        (void)snprintf(set.version, sizeof(set.version), "%s", version);
        for (size_t i = 0; i < wish->layout->n_partitions && set.n_images < UPDATE_IMAGES_MAX; i++) {
                const struct partition *partition = &wish->layout->partitions[i];
                const struct firmware_record *large = NULL, *record;

                if (!belongs(wish, partition))
                        continue;
                record = image_find(wish, partition, version, &large);
                if (!record && large)
                        (void)snprintf(choice->text, sizeof(choice->text), "%s does not fit %s (%u of %u bytes)", version,
                                       partition->name, large->size, partition->limit - partition->start);
                else if (!record)
                        (void)snprintf(choice->text, sizeof(choice->text), "no %s image of %s in the store", partition->name,
                                       version);
                if (!record)
                        return false;
                any_romfs = any_romfs || partition->role == PARTITION_ROMFS;
                set.images[set.n_images++] = record;
        }
        /* The user asked for it; to leave it out silently would be a lie. */
        if (wish->with_romfs && !any_romfs) {
                (void)snprintf(choice->text, sizeof(choice->text), "its bootloader has no ROMFS partition");
                return false;
        }
        if (set.n_images == 0) {
                (void)snprintf(choice->text, sizeof(choice->text), "no firmware for %s in the store", wish->board->name);
                return false;
        }
        *choice = set;
        return true;
}

static void choose(struct choice *choice, enum choice_reason reason, const char *text)
{
        choice->reason = reason;
        (void)snprintf(choice->text, sizeof(choice->text), "%s", text);
}

/* "sha256:<64 hex digits>": one image, as AddFirmware named it. */
static const struct firmware_record *record_of_id(const struct store *store, const struct board *board, const char *id)
{
        static const char prefix[] = "sha256:";
        struct digest digest;

        if (strncmp(id, prefix, strlen(prefix)) != 0 || hex_decode(id + strlen(prefix), digest.bytes, DIGEST_SIZE) < 0)
                return NULL;
        return store_by_digest(store, &digest, board->id);
}

static bool choose_named(struct wish_list *wish, const char *named, struct choice *choice)
{
        const struct firmware_record *record = record_of_id(wish->store, wish->board, named);
        const struct partition *partition;

        if (!record)
                return set_find(wish, named, choice);

        partition = layout_partition(wish->layout, record->partition, NULL);
        if (!partition || !has_image(wish->board, partition) ||
            (partition->role != PARTITION_FIRMWARE && partition->role != PARTITION_ROMFS)) {
                (void)snprintf(choice->text, sizeof(choice->text), "an image of %s is not written like this", record->partition);
                return false;
        }
        if (partition->role == PARTITION_FIRMWARE) {
                wish->named = record;
                return set_find(wish, record->version, choice);
        }

        /* A ROMFS goes without firmware, but not without his word. */
        if (!wish->with_romfs || !fits(record, partition)) {
                if (wish->with_romfs)
                        (void)snprintf(choice->text, sizeof(choice->text), "%s does not fit %s (%u of %u bytes)", record->version,
                                       partition->name, record->size, partition->limit - partition->start);
                else
                        (void)snprintf(choice->text, sizeof(choice->text), "%s is the user's work: say --romfs", partition->name);
                return false;
        }
        choice->n_images = 1;
        choice->images[0] = record;
        (void)snprintf(choice->version, sizeof(choice->version), "%s", record->version);
        return true;
}

static const char *pinned_version(const struct wish_list *wish)
{
        const struct firmware_record *record;

        for (size_t n = 0; (record = store_nth(wish->store, n)); n++)
                if (record->pinned && strcmp(record->board, wish->board->id) == 0) {
                        const struct partition *partition = layout_partition(wish->layout, record->partition, NULL);

                        if (partition && partition->role == PARTITION_FIRMWARE)
                                return record->version;
                }
        return NULL;
}

static bool set_is_stable(const struct choice *choice)
{
        for (size_t i = 0; i < choice->n_images; i++)
                if (!choice->images[i]->stable)
                        return false;
        return true;
}

static bool choose_newest(const struct wish_list *wish, const char *oldest, struct choice *choice)
{
        const struct firmware_record *record;
        struct choice best = *choice, set;
        bool any = false;

        for (size_t n = 0; (record = store_nth(wish->store, n)); n++) {
                if (strcmp(record->board, wish->board->id) != 0 || !record->stable)
                        continue;
                if (any && version_compare(record->version, best.version) <= 0)
                        continue;
                if (oldest && is_older(record->version, oldest)) {
                        if (!any)
                                (void)snprintf(choice->text, sizeof(choice->text), "%s is older than %s, which it last ran",
                                               record->version, oldest);
                        continue;
                }
                set = *choice;
                if (!set_find(wish, record->version, &set) || !set_is_stable(&set)) {
                        /* The reason is kept for the case that nothing else is found. */
                        memcpy(choice->text, set.text, sizeof(choice->text));
                        continue;
                }
                best = set;
                any = true;
        }
        if (any)
                *choice = best;
        return any;
}

int store_choose(const struct store *store, const struct board *board, const struct layout *layout, const char *named,
                 const char *last_ran, bool unattended, bool with_romfs, struct choice *ret)
{
        struct wish_list wish = { .store = store, .board = board, .layout = layout, .with_romfs = with_romfs };
        struct choice choice = { .reason = CHOICE_NONE };
        const char *oldest = unattended && *last_ran ? last_ran : NULL, *pinned;

        (void)snprintf(choice.text, sizeof(choice.text), "no firmware for %s in the store", board->name);
        if (!wish.layout && board->n_layouts > 0)
                wish.layout = &board->layouts[0];
        if (!wish.layout)
                goto out;

        if (*named) {
                if (!choose_named(&wish, named, &choice))
                        goto out;
                if (oldest && is_older(choice.version, oldest)) {
                        (void)snprintf(choice.text, sizeof(choice.text), "%s is older than %s, which it last ran", choice.version,
                                       oldest);
                        goto out;
                }
                choose(&choice, CHOICE_NAMED, "the user's choice");
                goto out;
        }

        pinned = pinned_version(&wish);
        if (pinned && oldest && is_older(pinned, oldest))
                (void)snprintf(choice.text, sizeof(choice.text), "%s, pinned, is older than %s, which it last ran", pinned, oldest);
        else if (pinned && set_find(&wish, pinned, &choice)) {
                choose(&choice, CHOICE_PINNED, "the administrator's pin");
                goto out;
        }

        if (*last_ran && set_find(&wish, last_ran, &choice)) {
                choose(&choice, CHOICE_LAST_RAN, "version it last ran");
                goto out;
        }
        if (choose_newest(&wish, oldest, &choice))
                choose(&choice, CHOICE_NEWEST, "newest stable in the store");
out:
        if (choice.reason == CHOICE_NONE)
                choice.n_images = 0;
        *ret = choice;
        return choice.reason == CHOICE_NONE ? -ENOENT : 0;
}

const struct firmware_record *store_bootloader(const struct store *store, const struct board *board)
{
        const struct firmware_record *best = NULL, *record;

        for (size_t n = 0; (record = store_nth(store, n)); n++) {
                const struct partition *partition;

                if (strcmp(record->board, board->id) != 0 || !record->stable || record->size == 0 ||
                    (board->bootloader_max_bytes > 0 && record->size > board->bootloader_max_bytes))
                        continue;
                partition = board->n_layouts > 0 ? layout_partition(&board->layouts[0], record->partition, NULL) : NULL;
                if (!partition || partition->role != PARTITION_BOOTLOADER)
                        continue;
                if (!best || version_compare(record->version, best->version) > 0 ||
                    (version_compare(record->version, best->version) == 0 && record->added >= best->added))
                        best = record;
        }
        return best;
}

/* SPDX-License-Identifier: MIT */

/*
 * See store.h.
 *
 * A blob's name is the digest of its bytes, so it is written once, under another
 * name, and never changed: whoever finds it by its name finds it whole.  The
 * record follows the blob, never the other way round.
 *
 * Works on one blob (writing it, removing it) go through one lane, chosen by its
 * digest: a blob is never removed under somebody who just found it there.  The
 * index is the loop's alone.
 */

#include "core/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/log.h"

#define WRITE_LANES 4

enum shelf {
        SHELF_FIRMWARE,
        SHELF_SAVED,
        _SHELF_MAX
};
static const char *const shelf_names[_SHELF_MAX] = { [SHELF_FIRMWARE] = "firmware", [SHELF_SAVED] = "saved" };

/* A blob that somebody holds, or that is nowhere but in memory. */
struct live_blob {
        struct blob blob;
        struct store *store;
        enum shelf shelf;
        bool kept;                      /* in memory: one reference is the store's */
        LIST_ENTRY(live_blob) link;     /* in store->live */
};

/* A file whose bytes were checked, and how it looked then. */
struct checked {
        struct digest digest;
        ino_t inode;
        off_t size;
        struct timespec modified;
};

struct waiter {
        store_fetched_fn fn;
        void *userdata;
        TAILQ_ENTRY(waiter) link;       /* in fetch->waiters */
};

/* One blob being read and checked on a helper thread. */
struct fetch {
        struct store *store;
        struct digest digest;
        TAILQ_HEAD(, waiter) waiters;
        struct checked checked;
        int result;
        LIST_ENTRY(fetch) link;         /* in store->fetches */
};

/* One blob being hashed, then written. */
struct addition {
        struct store *store;
        enum shelf shelf;
        struct firmware_record firmware;
        struct saved_record saved;
        uint8_t *data;
        size_t size;
        struct digest digest;
        bool hashed;                    /* digest is known: it is in its lane */
        int result;
        store_added_fn fn;              /* NULL: cancelled */
        void *userdata;
        LIST_ENTRY(addition) link;      /* in store->additions */
};

struct removal {
        struct store *store;
        enum shelf shelf;
        struct digest digest;
};

struct store {
        struct loop *loop;
        struct journal *journal;
        struct journal_watch watch;
        char *directory;                /* NULL: in memory */
        uint64_t quota;
        struct lane *hash_lane, *lanes[WRITE_LANES];
        size_t n_firmware, n_saved, n_checked;
        struct firmware_record **firmware;
        struct saved_record **saved;    /* oldest first */
        struct checked *checked;
        LIST_HEAD(, live_blob) live;
        LIST_HEAD(, fetch) fetches;
        LIST_HEAD(, addition) additions;
        bool (*blob_in_use)(void *userdata, const struct digest *digest);
        void *blob_userdata;
        bool (*camera_in_use)(void *userdata, const char *camera);
        void (*on_evicted)(void *userdata, const char *camera);
        void *evicted_userdata;
        void *camera_userdata;
        bool closed;
        unsigned refs;                  /* the owner's, and one per work not yet done */
};

/* --- life --- */

static void store_unref(struct store *store)
{
        if (--store->refs > 0)
                return;
        for (size_t i = 0; i < store->n_firmware; i++)
                free(store->firmware[i]);
        for (size_t i = 0; i < store->n_saved; i++)
                free(store->saved[i]);
        free(store->firmware);
        free(store->saved);
        free(store->checked);
        free(store->directory);
        free(store);
}

static int store_work(struct store *store, struct lane *lane, work_fn run, work_fn done, void *data)
{
        int r = loop_work(store->loop, lane, run, done, data);

        if (r >= 0)
                store->refs++;
        return r;
}

static struct lane *lane_of(struct store *store, const struct digest *digest)
{
        return store->lanes[digest->bytes[0] % WRITE_LANES];
}

/* --- files: these run on any thread --- */

static int blob_path(const char *directory, enum shelf shelf, const struct digest *digest, const char *suffix,
                     char path[static PATH_MAX])
{
        char hex[DIGEST_HEX_SIZE];
        int n;

        digest_to_hex(digest, hex);
        n = snprintf(path, PATH_MAX, "%s/%s/%s.bin%s", directory, shelf_names[shelf], hex, suffix);
        return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int shelf_path(const char *directory, enum shelf shelf, const char *name, char path[static PATH_MAX])
{
        int n = snprintf(path, PATH_MAX, "%s/%s%s%s", directory, shelf_names[shelf], *name ? "/" : "", name);

        return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int shelf_sync(const char *directory, enum shelf shelf)
{
        _cleanup_close_ int fd = -1;
        char path[PATH_MAX];
        int r;

        r = shelf_path(directory, shelf, "", path);
        if (r < 0)
                return r;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* A bad sector is an error of pread(), but the end of the process in a mapping: so everything is read once before it is mapped. */
static int read_through(int fd, size_t size)
{
        uint8_t scratch[16384];

        for (size_t at = 0; at < size;) {
                ssize_t n = pread(fd, scratch, MIN(sizeof(scratch), size - at), (off_t)at);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EBADMSG;
                at += (size_t)n;
        }
        return 0;
}

static int write_all(int fd, const uint8_t *data, size_t size)
{
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                size -= (size_t)n;
        }
        return 0;
}

/* Reads a whole blob and compares it with its name. */
static int blob_check(int fd, const struct digest *digest, const struct stat *st)
{
        struct digest is;
        void *mapping;
        int r;

        if (!S_ISREG(st->st_mode) || st->st_size <= 0 || st->st_size > UINT32_MAX)
                return -EBADMSG;
        r = read_through(fd, (size_t)st->st_size);
        if (r < 0)
                return r;
        mapping = mmap(NULL, (size_t)st->st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (mapping == MAP_FAILED)
                return -errno;
        digest_of(mapping, (size_t)st->st_size, &is);
        (void)munmap(mapping, (size_t)st->st_size);
        return digest_equal(&is, digest) ? 0 : -EBADMSG;
}

/* Opens a blob, wherever it stands. */
static int blob_open(const char *directory, const struct digest *digest, enum shelf *ret_shelf, struct stat *st)
{
        char path[PATH_MAX];
        int fd, r;

        for (unsigned shelf = 0; shelf < _SHELF_MAX; shelf++) {
                r = blob_path(directory, shelf, digest, "", path);
                if (r < 0)
                        return r;
                fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
                if (fd < 0 && errno == ENOENT)
                        continue;
                if (fd < 0 || fstat(fd, st) < 0) {
                        r = -errno;
                        closep(&fd);
                        return r;
                }
                *ret_shelf = shelf;
                return fd;
        }
        return -ENOENT;
}

static struct checked checked_of(const struct digest *digest, const struct stat *st)
{
        return (struct checked){ .digest = *digest, .inode = st->st_ino, .size = st->st_size, .modified = st->st_mtim };
}

static bool checked_equal(const struct checked *a, const struct checked *b)
{
        return digest_equal(&a->digest, &b->digest) && a->inode == b->inode && a->size == b->size &&
               a->modified.tv_sec == b->modified.tv_sec && a->modified.tv_nsec == b->modified.tv_nsec;
}

static bool blob_is_there(const char *path, const struct digest *digest)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat st;

        return fd >= 0 && fstat(fd, &st) == 0 && blob_check(fd, digest, &st) == 0;
}

static int blob_write(const char *directory, enum shelf shelf, const struct digest *digest, const uint8_t *data, size_t size)
{
        char path[PATH_MAX], fresh[PATH_MAX];
        _cleanup_close_ int fd = -1;
        int r;

        r = blob_path(directory, shelf, digest, "", path);
        if (r < 0)
                return r;
        if (blob_is_there(path, digest))
                return shelf_sync(directory, shelf);

        r = shelf_path(directory, shelf, ".new-XXXXXX", fresh);
        if (r < 0)
                return r;
        fd = mkostemp(fresh, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write_all(fd, data, size);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && rename(fresh, path) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlink(fresh);
                return r;
        }
        return shelf_sync(directory, shelf);
}

/* --- blobs that are held --- */

static struct live_blob *live_find(const struct store *store, const struct digest *digest)
{
        struct live_blob *live;

        LIST_FOREACH(live, &store->live, link)
                if (digest_equal(&live->blob.digest, digest))
                        return live;
        return NULL;
}

static void live_free(struct live_blob *live)
{
        LIST_REMOVE(live, link);
        if (live->blob.mapping)
                (void)munmap(live->blob.mapping, live->blob.size);
        else
                free((void *)live->blob.data);
        free(live);
}

struct blob *blob_ref(struct blob *blob)
{
        blob->refs++;
        return blob;
}

struct blob *blob_unref(struct blob *blob)
{
        if (blob && --blob->refs == 0)
                live_free(container_of(blob, struct live_blob, blob));
        return NULL;
}

static const struct checked *checked_find(const struct store *store, const struct checked *like)
{
        for (size_t i = 0; i < store->n_checked; i++)
                if (checked_equal(&store->checked[i], like))
                        return &store->checked[i];
        return NULL;
}

/* One entry per digest: an older look of the file is forgotten. */
static int checked_remember(struct store *store, const struct checked *checked)
{
        struct checked *grown;

        for (size_t i = 0; i < store->n_checked; i++)
                if (digest_equal(&store->checked[i].digest, &checked->digest)) {
                        store->checked[i] = *checked;
                        return 0;
                }
        grown = reallocarray(store->checked, store->n_checked + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        store->checked = grown;
        store->checked[store->n_checked++] = *checked;
        return 0;
}

static int live_map(struct store *store, const struct digest *digest, int fd, size_t size, enum shelf shelf, struct blob **ret)
{
        struct live_blob *live;
        void *mapping;

        mapping = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
        if (mapping == MAP_FAILED)
                return -errno;
        live = calloc(1, sizeof(*live));
        if (!live) {
                (void)munmap(mapping, size);
                return -ENOMEM;
        }
        live->blob = (struct blob){ .refs = 1, .digest = *digest, .data = mapping, .size = size, .mapping = mapping };
        live->store = store;
        live->shelf = shelf;
        LIST_INSERT_HEAD(&store->live, live, link);
        *ret = &live->blob;
        return 0;
}

static void firmware_drop(struct store *store, size_t i)
{
        struct firmware_record *record = store->firmware[i];

        (void)journal_delete_firmware(store->journal, &record->digest, record->board, record->partition);
        free(record);
        store->n_firmware--;
        memmove(&store->firmware[i], &store->firmware[i + 1], (store->n_firmware - i) * sizeof(*store->firmware));
}

static void saved_drop(struct store *store, size_t i)
{
        struct saved_record *record = store->saved[i];

        store->n_saved--;
        memmove(&store->saved[i], &store->saved[i + 1], (store->n_saved - i) * sizeof(*store->saved));
        (void)journal_delete_saved(store->journal, record->camera, &record->digest);
        /* That names no partition: the same bytes in another one are still there. */
        for (size_t n = 0; n < store->n_saved; n++)
                if (digest_equal(&store->saved[n]->digest, &record->digest) &&
                    strcmp(store->saved[n]->camera, record->camera) == 0)
                        (void)journal_put_saved(store->journal, store->saved[n]);
        free(record);
}

/* It is chosen no more; the file is kept for a person to look at.  The same image on the other shelf may be sound: 0 if there is one. */
static int blob_condemn(struct store *store, const struct digest *digest)
{
        char path[PATH_MAX], aside[PATH_MAX], hex[DIGEST_HEX_SIZE];
        enum shelf shelf = _SHELF_MAX, twin = _SHELF_MAX;
        struct stat st;
        int fd;

        digest_to_hex(digest, hex);
        fd = blob_open(store->directory, digest, &shelf, &st);
        if (fd >= 0) {
                (void)close(fd);
                if (blob_path(store->directory, shelf, digest, "", path) >= 0 &&
                    blob_path(store->directory, shelf, digest, ".damaged", aside) >= 0)
                        (void)rename(path, aside);
                log_error("store: %s/%s.bin is damaged on the disk; it was set aside (.damaged) and is not used", shelf_names[shelf],
                          hex);
        }
        fd = blob_open(store->directory, digest, &twin, &st);
        if (fd >= 0)
                (void)close(fd);
        /* (It may not be able to be set aside.) */
        if (fd < 0 || twin == shelf)
                twin = _SHELF_MAX;
        for (size_t i = store->n_firmware; twin != SHELF_FIRMWARE && i-- > 0;)
                if (digest_equal(&store->firmware[i]->digest, digest))
                        firmware_drop(store, i);
        for (size_t i = store->n_saved; twin != SHELF_SAVED && i-- > 0;)
                if (digest_equal(&store->saved[i]->digest, digest))
                        saved_drop(store, i);
        return twin == _SHELF_MAX ? -ENOENT : 0;
}

int store_blob(struct store *store, const struct digest *digest, struct blob **ret)
{
        struct live_blob *live = live_find(store, digest);
        _cleanup_close_ int fd = -1;
        struct checked checked;
        enum shelf shelf;
        struct stat st;
        int r;

        if (live) {
                *ret = blob_ref(&live->blob);
                return 0;
        }
        if (!store->directory)
                return -ENOENT;

        fd = blob_open(store->directory, digest, &shelf, &st);
        if (fd < 0)
                return fd;
        checked = checked_of(digest, &st);
        if (!checked_find(store, &checked)) {
                r = blob_check(fd, digest, &st);
                if (r == -EBADMSG && blob_condemn(store, digest) >= 0)
                        return store_blob(store, digest, ret);
                if (r < 0)
                        return r;
                /* Without memory for that it is checked once more another time. */
                (void)checked_remember(store, &checked);
        }
        return live_map(store, digest, fd, (size_t)st.st_size, shelf, ret);
}

static void fetch_run(void *data)
{
        struct fetch *fetch = data;
        _cleanup_close_ int fd = -1;
        enum shelf shelf;
        struct stat st;

        fd = blob_open(fetch->store->directory, &fetch->digest, &shelf, &st);
        if (fd < 0) {
                fetch->result = fd;
                return;
        }
        fetch->result = blob_check(fd, &fetch->digest, &st);
        fetch->checked = checked_of(&fetch->digest, &st);
}

static void fetch_done(void *data)
{
        struct fetch *fetch = data;
        struct store *store = fetch->store;
        struct waiter *waiter;
        int r = fetch->result;

        if (!store->closed && r >= 0)
                r = checked_remember(store, &fetch->checked);
        if (!store->closed && r == -EBADMSG && blob_condemn(store, &fetch->digest) >= 0)
                r = 0;
        while ((waiter = TAILQ_FIRST(&fetch->waiters))) {
                struct blob *blob = NULL;
                int error = r;

                TAILQ_REMOVE(&fetch->waiters, waiter, link);
                if (!store->closed) {
                        /* It was read this moment, and stands in memory. */
                        if (error >= 0)
                                error = store_blob(store, &fetch->digest, &blob);
                        waiter->fn(waiter->userdata, error < 0 ? NULL : blob, MIN(error, 0));
                }
                free(waiter);
        }
        LIST_REMOVE(fetch, link);
        free(fetch);
        store_unref(store);
}

/* Held, or in memory: nothing is read, but the answer comes later all the same. */
static void fetch_nothing(void *data)
{
}

int store_fetch(struct store *store, const struct digest *digest, store_fetched_fn on_fetched, void *userdata)
{
        struct waiter *waiter;
        struct fetch *fetch;
        bool at_hand = live_find(store, digest) || !store->directory;
        int r;

        waiter = calloc(1, sizeof(*waiter));
        if (!waiter)
                return -ENOMEM;
        waiter->fn = on_fetched;
        waiter->userdata = userdata;

        LIST_FOREACH(fetch, &store->fetches, link)
                if (digest_equal(&fetch->digest, digest)) {
                        TAILQ_INSERT_TAIL(&fetch->waiters, waiter, link);
                        return 0;
                }

        fetch = calloc(1, sizeof(*fetch));
        if (!fetch) {
                free(waiter);
                return -ENOMEM;
        }
        fetch->store = store;
        fetch->digest = *digest;
        TAILQ_INIT(&fetch->waiters);
        TAILQ_INSERT_TAIL(&fetch->waiters, waiter, link);
        LIST_INSERT_HEAD(&store->fetches, fetch, link);
        r = store_work(store, NULL, at_hand ? fetch_nothing : fetch_run, fetch_done, fetch);
        if (r < 0) {
                LIST_REMOVE(fetch, link);
                free(waiter);
                free(fetch);
        }
        return r;
}

/* --- the index --- */

static bool is_firmware(const struct firmware_record *record, const struct digest *digest, const char *board, const char *partition)
{
        return digest_equal(&record->digest, digest) && (!board || strcmp(record->board, board) == 0) &&
               (!partition || strcmp(record->partition, partition) == 0);
}

/* A pin is one version of one board. */
static void unpin_others(struct store *store, const struct firmware_record *pinned)
{
        for (size_t i = 0; i < store->n_firmware; i++) {
                struct firmware_record *record = store->firmware[i];

                if (!record->pinned || record == pinned || strcmp(record->board, pinned->board) != 0 ||
                    strcmp(record->version, pinned->version) == 0)
                        continue;
                record->pinned = false;
                (void)journal_put_firmware(store->journal, record);
        }
}

static int firmware_index(struct store *store, const struct firmware_record *record, struct firmware_record **ret)
{
        struct firmware_record **grown, *copy;

        for (size_t i = 0; i < store->n_firmware; i++)
                if (is_firmware(store->firmware[i], &record->digest, record->board, record->partition) &&
                    strcmp(store->firmware[i]->version, record->version) == 0) {
                        *store->firmware[i] = *record;
                        *ret = store->firmware[i];
                        return 0;
                }
        grown = reallocarray(store->firmware, store->n_firmware + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        store->firmware = grown;
        copy = malloc(sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        *copy = *record;
        store->firmware[store->n_firmware++] = copy;
        *ret = copy;
        return 0;
}

static int saved_index(struct store *store, const struct saved_record *record)
{
        struct saved_record **grown, *copy = NULL;
        size_t at;

        for (size_t i = 0; i < store->n_saved && !copy; i++)
                if (digest_equal(&store->saved[i]->digest, &record->digest) &&
                    strcmp(store->saved[i]->camera, record->camera) == 0 &&
                    strcmp(store->saved[i]->partition, record->partition) == 0) {
                        /* Saved once more: it is the newest again. */
                        copy = store->saved[i];
                        store->n_saved--;
                        memmove(&store->saved[i], &store->saved[i + 1], (store->n_saved - i) * sizeof(*store->saved));
                }
        grown = reallocarray(store->saved, store->n_saved + 1, sizeof(*grown));
        if (!grown) {
                free(copy);
                return -ENOMEM;
        }
        store->saved = grown;
        if (!copy)
                copy = malloc(sizeof(*copy));
        if (!copy)
                return -ENOMEM;
        *copy = *record;
        for (at = store->n_saved; at > 0 && store->saved[at - 1]->saved > record->saved; at--)
                store->saved[at] = store->saved[at - 1];
        store->saved[at] = copy;
        store->n_saved++;
        return 0;
}

/* When what is saved now was saved: a clock that was set back does not make it older than what is there. */
static uint64_t saved_moment(const struct store *store)
{
        uint64_t wall = loop_wall_clock(store->loop);

        return store->n_saved > 0 ? MAX(wall, store->saved[store->n_saved - 1]->saved + 1) : wall;
}

static bool blob_is_named(const struct store *store, enum shelf shelf, const struct digest *digest)
{
        const struct addition *addition;

        if (shelf == SHELF_FIRMWARE) {
                for (size_t i = 0; i < store->n_firmware; i++)
                        if (digest_equal(&store->firmware[i]->digest, digest))
                                return true;
        } else {
                for (size_t i = 0; i < store->n_saved; i++)
                        if (digest_equal(&store->saved[i]->digest, digest))
                                return true;
        }
        LIST_FOREACH(addition, &store->additions, link)
                if (addition->shelf == shelf && addition->hashed && digest_equal(&addition->digest, digest))
                        return true;
        return store->blob_in_use && store->blob_in_use(store->blob_userdata, digest);
}

static void removal_run(void *data)
{
        struct removal *removal = data;
        char path[PATH_MAX];

        if (blob_path(removal->store->directory, removal->shelf, &removal->digest, "", path) >= 0 && unlink(path) < 0 &&
            errno != ENOENT)
                log_warning("store: cannot remove %s: %s, ignoring", path, strerror(errno));
}

static void removal_done(void *data)
{
        struct removal *removal = data;

        store_unref(removal->store);
        free(removal);
}

/* When its last record is gone.  What cannot be removed now is an orphan, and goes at the next start. */
static void blob_release(struct store *store, enum shelf shelf, const struct digest *digest)
{
        struct live_blob *live = live_find(store, digest);
        struct removal *removal;

        if (blob_is_named(store, shelf, digest))
                return;
        if (!store->directory) {
                if (live && live->kept && !blob_is_named(store, !shelf, digest)) {
                        live->kept = false;
                        (void)blob_unref(&live->blob);
                }
                return;
        }
        removal = calloc(1, sizeof(*removal));
        if (!removal)
                return;
        removal->store = store;
        removal->shelf = shelf;
        removal->digest = *digest;
        if (store_work(store, lane_of(store, digest), removal_run, removal_done, removal) < 0)
                free(removal);
}

int store_remove_firmware(struct store *store, const struct digest *digest)
{
        struct digest gone = *digest;   /* the caller's may stand in the record */
        bool any = false;

        for (size_t i = store->n_firmware; i-- > 0;)
                if (digest_equal(&store->firmware[i]->digest, &gone)) {
                        firmware_drop(store, i);
                        any = true;
                }
        if (!any)
                return -ENOENT;
        blob_release(store, SHELF_FIRMWARE, &gone);
        return 0;
}

/* --- the quota of saved images --- */

static bool saved_is_first_of_its_blob(const struct store *store, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (digest_equal(&store->saved[i]->digest, &store->saved[n]->digest))
                        return false;
        return true;
}

static uint64_t saved_bytes(const struct store *store)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < store->n_saved; i++)
                if (saved_is_first_of_its_blob(store, i))
                        sum += store->saved[i]->size;
        return sum;
}

/* What a camera in the middle of an update would go back to. */
static bool saved_is_protected(const struct store *store, const struct saved_record *record)
{
        unsigned of_partition = 0;

        for (size_t i = 0; i < store->n_saved; i++)
                of_partition += strcmp(store->saved[i]->camera, record->camera) == 0 &&
                                strcmp(store->saved[i]->partition, record->partition) == 0;
        return of_partition <= 1 && store->camera_in_use && store->camera_in_use(store->camera_userdata, record->camera);
}

/* Bytes that stay, however much room is needed; and those on their way. */
static uint64_t saved_bytes_promised(const struct store *store)
{
        const struct addition *addition;
        uint64_t sum = 0;

        for (size_t i = 0; i < store->n_saved; i++)
                if (saved_is_first_of_its_blob(store, i) && saved_is_protected(store, store->saved[i]))
                        sum += store->saved[i]->size;
        LIST_FOREACH(addition, &store->additions, link)
                if (addition->shelf == SHELF_SAVED)
                        sum += addition->size;
        return sum;
}

/* keep: digest of the image just saved, for which room is made. */
static void saved_evict(struct store *store, const struct digest *keep)
{
        for (size_t i = 0; i < store->n_saved && saved_bytes(store) > store->quota;) {
                struct digest digest = store->saved[i]->digest;
                char camera[sizeof(store->saved[i]->camera)];

                if (digest_equal(&digest, keep) || saved_is_protected(store, store->saved[i])) {
                        i++;
                        continue;
                }
                log_about(LOG_NOTICE, (&(struct log_subject){ .camera = store->saved[i]->camera }),
                          "The image saved from %s of %s gives way to newer ones.", store->saved[i]->partition,
                          store->saved[i]->camera);
                (void)snprintf(camera, sizeof(camera), "%s", store->saved[i]->camera);
                saved_drop(store, i);
                blob_release(store, SHELF_SAVED, &digest);
                if (store->on_evicted)
                        store->on_evicted(store->evicted_userdata, camera);
        }
}

void store_set_quota(struct store *store, uint64_t saved_quota)
{
        store->quota = saved_quota;
}

void store_forget_saved(struct store *store, const char *camera)
{
        for (size_t i = 0; i < store->n_saved;) {
                struct digest digest = store->saved[i]->digest;

                if (strcmp(store->saved[i]->camera, camera) != 0) {
                        i++;
                        continue;
                }
                saved_drop(store, i);
                blob_release(store, SHELF_SAVED, &digest);
        }
}

/* --- adding --- */

static void addition_free(struct addition *addition)
{
        LIST_REMOVE(addition, link);
        free(addition->data);
        free(addition);
}

/* In memory the copy itself becomes the blob. */
static int addition_keep(struct addition *addition)
{
        struct store *store = addition->store;
        struct live_blob *live = live_find(store, &addition->digest);

        if (!live) {
                live = calloc(1, sizeof(*live));
                if (!live)
                        return -ENOMEM;
                live->blob = (struct blob){ .digest = addition->digest, .data = addition->data, .size = addition->size };
                live->store = store;
                live->shelf = addition->shelf;
                addition->data = NULL;
                LIST_INSERT_HEAD(&store->live, live, link);
        }
        if (!live->kept) {
                live->kept = true;
                live->blob.refs++;
        }
        return 0;
}

static int addition_record(struct addition *addition)
{
        struct store *store = addition->store;
        struct firmware_record *record;
        int r;

        if (!store->directory) {
                r = addition_keep(addition);
                if (r < 0)
                        return r;
        }
        if (addition->shelf == SHELF_SAVED) {
                addition->saved.digest = addition->digest;
                addition->saved.size = (uint32_t)addition->size;
                addition->saved.saved = saved_moment(store);
                r = saved_index(store, &addition->saved);
                if (r >= 0)
                        r = journal_put_saved(store->journal, &addition->saved);
                return r;
        }

        addition->firmware.digest = addition->digest;
        addition->firmware.size = (uint32_t)addition->size;
        if (addition->firmware.added == 0)
                addition->firmware.added = loop_wall_clock(store->loop);
        r = firmware_index(store, &addition->firmware, &record);
        if (r < 0)
                return r;
        if (record->pinned)
                unpin_others(store, record);
        return journal_put_firmware(store->journal, record);
}

static void addition_end(struct addition *addition, int r)
{
        struct store *store = addition->store;
        struct digest digest = addition->digest;
        enum shelf shelf = addition->shelf;
        store_added_fn fn = addition->fn;
        void *userdata = addition->userdata;
        bool hashed = addition->hashed;

        if (r >= 0 && !store->closed)
                r = addition_record(addition);
        if (r < 0 && !store->closed)
                log_error("store: cannot keep an image of %zu bytes in %s: %s", addition->size, shelf_names[shelf], strerror(-r));
        addition_free(addition);
        if (!store->closed) {
                if (shelf == SHELF_SAVED && r >= 0)
                        saved_evict(store, &digest);
                /* A blob whose record could not be made. */
                if (r < 0 && hashed)
                        blob_release(store, shelf, &digest);
                if (fn)
                        fn(userdata, r);
        }
        store_unref(store);
}

static void addition_hash(void *data)
{
        struct addition *addition = data;

        digest_of(addition->data, addition->size, &addition->digest);
}

static void addition_write(void *data)
{
        struct addition *addition = data;

        if (addition->store->directory)
                addition->result = blob_write(addition->store->directory, addition->shelf, &addition->digest, addition->data,
                                              addition->size);
}

static void addition_written(void *data)
{
        struct addition *addition = data;

        addition_end(addition, addition->result);
}

static void addition_hashed(void *data)
{
        struct addition *addition = data;
        struct store *store = addition->store;
        int r = -ECANCELED;

        if (!store->closed) {
                addition->hashed = true;
                r = store_work(store, lane_of(store, &addition->digest), addition_write, addition_written, addition);
        }
        if (r < 0)
                addition_end(addition, r);
        else
                store_unref(store);
}

/* data: of malloc(), taken over, also when this fails. */
static int addition_start(struct store *store, enum shelf shelf, uint8_t *data, size_t size, store_added_fn on_added,
                          void *userdata, struct addition **ret)
{
        struct addition *addition;
        int r;

        if (!data)
                return -ENOMEM;
        if (size == 0 || size > UINT32_MAX) {
                free(data);
                return -EINVAL;
        }
        addition = calloc(1, sizeof(*addition));
        if (!addition) {
                free(data);
                return -ENOMEM;
        }
        LIST_INSERT_HEAD(&store->additions, addition, link);
        addition->store = store;
        addition->shelf = shelf;
        addition->data = data;
        addition->size = size;
        addition->fn = on_added;
        addition->userdata = userdata;
        r = store_work(store, store->hash_lane, addition_hash, addition_hashed, addition);
        if (r < 0) {
                addition_free(addition);
                return r;
        }
        *ret = addition;
        return 0;
}

int store_take_firmware(struct store *store, const struct firmware_record *record, uint8_t *data, size_t size,
                        store_added_fn on_added, void *userdata)
{
        struct addition *addition;
        int r;

        r = addition_start(store, SHELF_FIRMWARE, data, size, on_added, userdata, &addition);
        if (r < 0)
                return r;
        addition->firmware = *record;
        return 0;
}

static uint8_t *copy_of(const void *data, size_t size)
{
        uint8_t *copy = malloc(MAX(size, (size_t)1));

        if (copy && size > 0)
                memcpy(copy, data, size);
        return copy;
}

int store_add_firmware(struct store *store, const struct firmware_record *record, const void *data, size_t size,
                       store_added_fn on_added, void *userdata)
{
        return store_take_firmware(store, record, copy_of(data, size), size, on_added, userdata);
}

int store_save(struct store *store, const char *camera, const char *partition, const void *data, size_t size,
               store_added_fn on_added, void *userdata)
{
        struct addition *addition;
        int r;

        if (size > store->quota || saved_bytes_promised(store) + size > store->quota)
                return -EDQUOT;
        r = addition_start(store, SHELF_SAVED, copy_of(data, size), size, on_added, userdata, &addition);
        if (r < 0)
                return r;
        (void)snprintf(addition->saved.camera, sizeof(addition->saved.camera), "%s", camera);
        (void)snprintf(addition->saved.partition, sizeof(addition->saved.partition), "%s", partition);
        return 0;
}

void store_cancel(struct store *store, void *userdata)
{
        struct addition *addition;
        struct fetch *fetch;

        LIST_FOREACH(addition, &store->additions, link)
                if (addition->userdata == userdata)
                        addition->fn = NULL;
        LIST_FOREACH(fetch, &store->fetches, link) {
                struct waiter *waiter, *next;

                for (waiter = TAILQ_FIRST(&fetch->waiters); waiter; waiter = next) {
                        next = TAILQ_NEXT(waiter, link);
                        if (waiter->userdata != userdata)
                                continue;
                        TAILQ_REMOVE(&fetch->waiters, waiter, link);
                        free(waiter);
                }
        }
}

void store_rename_camera(struct store *store, const char *old_key, const char *new_key)
{
        struct addition *addition;

        for (size_t i = 0; i < store->n_saved; i++)
                if (strcmp(store->saved[i]->camera, old_key) == 0)
                        (void)snprintf(store->saved[i]->camera, sizeof(store->saved[i]->camera), "%s", new_key);
        LIST_FOREACH(addition, &store->additions, link)
                if (addition->shelf == SHELF_SAVED && strcmp(addition->saved.camera, old_key) == 0)
                        (void)snprintf(addition->saved.camera, sizeof(addition->saved.camera), "%s", new_key);
}

void store_set_blob_in_use(struct store *store, bool (*in_use)(void *userdata, const struct digest *digest), void *userdata)
{
        store->blob_in_use = in_use;
        store->blob_userdata = userdata;
}

void store_on_evicted(struct store *store, void (*on_evicted)(void *userdata, const char *camera), void *userdata)
{
        store->on_evicted = on_evicted;
        store->evicted_userdata = userdata;
}

void store_set_camera_in_use(struct store *store, bool (*in_use)(void *userdata, const char *camera), void *userdata)
{
        store->camera_in_use = in_use;
        store->camera_userdata = userdata;
}

/* --- looking --- */

size_t store_count(const struct store *store)
{
        return store->n_firmware;
}

const struct firmware_record *store_nth(const struct store *store, size_t n)
{
        return n < store->n_firmware ? store->firmware[n] : NULL;
}

const struct firmware_record *store_by_digest(const struct store *store, const struct digest *digest, const char *board)
{
        for (size_t i = 0; i < store->n_firmware; i++)
                if (is_firmware(store->firmware[i], digest, board, NULL))
                        return store->firmware[i];
        return NULL;
}

uint32_t store_boards_of_digest(const struct store *store, const struct board_list *list, const struct digest *digest)
{
        uint32_t boards = 0;

        for (size_t i = 0; i < list->n; i++)
                if (store_by_digest(store, digest, list->boards[i].id))
                        boards |= UINT32_C(1) << i;
        return boards;
}

const struct saved_record *store_saved(const struct store *store, const char *camera, const char *partition)
{
        for (size_t i = store->n_saved; i-- > 0;)
                if (strcmp(store->saved[i]->camera, camera) == 0 &&
                    (!partition || strcmp(store->saved[i]->partition, partition) == 0))
                        return store->saved[i];
        return NULL;
}

const struct saved_record *store_nth_saved(const struct store *store, size_t n)
{
        return n < store->n_saved ? store->saved[n] : NULL;
}

/* --- birth and death --- */

static int blob_look(const struct store *store, enum shelf shelf, const struct digest *digest, uint32_t size)
{
        char path[PATH_MAX];
        struct stat st;
        int r;

        r = blob_path(store->directory, shelf, digest, "", path);
        if (r < 0)
                return r;
        if (lstat(path, &st) < 0)
                return -errno;
        return S_ISREG(st.st_mode) && st.st_size == (off_t)size ? 0 : -EBADMSG;
}

/* Is it worth a place in the index?  Only what is certainly gone or wrong is forgotten: a disk may be back tomorrow. */
static bool blob_is_usable(const struct store *store, enum shelf shelf, const struct digest *digest, uint32_t size, int *ret_fault)
{
        int r = blob_look(store, shelf, digest, size);
        char hex[DIGEST_HEX_SIZE];

        *ret_fault = r;
        if (r >= 0)
                return true;
        digest_to_hex(digest, hex);
        log_warning("store: %s/%s.bin %s; it is dropped from the store", shelf_names[shelf], hex,
                    r == -ENOENT ? "is missing" : r == -EBADMSG ? "has the wrong size" : strerror(-r));
        return false;
}

static int on_firmware(void *userdata, const struct firmware_record *record)
{
        struct store *store = userdata;
        struct firmware_record *indexed;
        int fault;

        if (store->directory && !blob_is_usable(store, SHELF_FIRMWARE, &record->digest, record->size, &fault)) {
                if (fault == -ENOENT || fault == -EBADMSG)
                        (void)journal_delete_firmware(store->journal, &record->digest, record->board, record->partition);
                return 0;
        }
        return firmware_index(store, record, &indexed);
}

static int on_saved(void *userdata, const struct saved_record *record)
{
        struct store *store = userdata;
        int fault;

        if (store->directory && !blob_is_usable(store, SHELF_SAVED, &record->digest, record->size, &fault)) {
                if (fault == -ENOENT || fault == -EBADMSG)
                        (void)journal_delete_saved(store->journal, record->camera, &record->digest);
                return 0;
        }
        return saved_index(store, record);
}

struct sweep {
        struct store *store;
        struct digest *wanted;          /* images of open updates */
        size_t n_wanted;
        bool failed;                    /* something may lie there still */
};

static int on_update(void *userdata, const struct update_record *record)
{
        struct sweep *sweep = userdata;
        struct digest *grown;

        if (strcmp(record->state, "open") != 0)
                return 0;
        grown = reallocarray(sweep->wanted, sweep->n_wanted + record->n_images + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        sweep->wanted = grown;
        for (size_t i = 0; i < record->n_images; i++)
                sweep->wanted[sweep->n_wanted++] = record->images[i].digest;
        return 0;
}

static bool is_wanted(const struct sweep *sweep, enum shelf shelf, const struct digest *digest)
{
        for (size_t i = 0; i < sweep->n_wanted; i++)
                if (digest_equal(&sweep->wanted[i], digest))
                        return true;
        return blob_is_named(sweep->store, shelf, digest);
}

/* "<64 hex digits>.bin" */
static bool blob_name_parse(const char *name, struct digest *ret)
{
        char hex[DIGEST_HEX_SIZE];

        if (strlen(name) != DIGEST_HEX_SIZE - 1 + strlen(".bin") || strcmp(name + DIGEST_HEX_SIZE - 1, ".bin") != 0)
                return false;
        memcpy(hex, name, DIGEST_HEX_SIZE - 1);
        hex[DIGEST_HEX_SIZE - 1] = 0;
        return hex_decode(hex, ret->bytes, DIGEST_SIZE) >= 0;
}

static int shelf_sweep(struct sweep *sweep, enum shelf shelf)
{
        struct store *store = sweep->store;
        bool whole = journal_is_whole(store->journal);
        char path[PATH_MAX], aside[PATH_MAX];
        unsigned removed = 0, lost = 0;
        struct dirent *entry;
        struct digest digest;
        DIR *dir;
        int r;

        r = shelf_path(store->directory, shelf, "", path);
        if (r < 0)
                return r;
        if (mkdir(path, 0700) < 0 && errno != EEXIST) {
                log_error("store: cannot make %s: %s; no image can be added", path, strerror(errno));
                sweep->failed = true;
                return 0;
        }
        dir = opendir(path);
        if (!dir) {
                log_error("store: cannot look into %s: %s, ignoring", path, strerror(errno));
                sweep->failed = true;
                return 0;
        }
        while ((entry = readdir(dir))) {
                if (shelf_path(store->directory, shelf, entry->d_name, path) < 0)
                        continue;
                if (strncmp(entry->d_name, ".new-", 5) == 0) {
                        (void)unlink(path);
                        continue;
                }
                if (!blob_name_parse(entry->d_name, &digest) || is_wanted(sweep, shelf, &digest))
                        continue;
                if (journal_birth(store->journal) == JOURNAL_UNREAD)
                        continue;
                if (whole)
                        removed += unlink(path) == 0;
                else if (blob_path(store->directory, shelf, &digest, ".lost", aside) >= 0 && rename(path, aside) == 0)
                        lost++;
                else
                        sweep->failed = true;
        }
        (void)closedir(dir);
        if (removed > 0)
                log_info("store: removed %u images from %s that nothing refers to", removed, shelf_names[shelf]);
        if (lost > 0)
                log_warning("store: nothing is known any more of %u images in %s; they are kept as *.lost", lost, shelf_names[shelf]);
        return 0;
}

static void on_reset(void *userdata)
{
        struct store *store = userdata;

        for (size_t i = 0; i < store->n_firmware; i++)
                (void)journal_put_firmware(store->journal, store->firmware[i]);
        for (size_t i = 0; i < store->n_saved; i++)
                (void)journal_put_saved(store->journal, store->saved[i]);
}

struct store *store_free(struct store *store)
{
        struct live_blob *live, *next;

        if (!store)
                return NULL;
        journal_unwatch(&store->watch);
        store->closed = true;
        store->hash_lane = lane_free(store->hash_lane);
        for (size_t i = 0; i < WRITE_LANES; i++)
                store->lanes[i] = lane_free(store->lanes[i]);
        for (live = LIST_FIRST(&store->live); live; live = next) {
                next = LIST_NEXT(live, link);
                if (live->kept)
                        (void)blob_unref(&live->blob);
        }
        /* Whoever holds a blob lives shorter than the store. */
        assert(LIST_EMPTY(&store->live));
        store_unref(store);
        return NULL;
}
DEFINE_FREEP(store)

static int store_load(struct store *store)
{
        _cleanup_free_ struct digest *wanted = NULL;
        struct sweep sweep = { .store = store };
        int r;

        r = journal_each_firmware(store->journal, on_firmware, store);
        if (r >= 0)
                r = journal_each_saved(store->journal, on_saved, store);
        if (r < 0 || !store->directory)
                return r;
        r = journal_each_update(store->journal, on_update, &sweep);
        wanted = sweep.wanted;
        for (unsigned shelf = 0; shelf < _SHELF_MAX && r >= 0; shelf++)
                r = shelf_sweep(&sweep, shelf);
        if (r >= 0 && !sweep.failed && !journal_is_whole(store->journal) && journal_birth(store->journal) != JOURNAL_UNREAD)
                r = journal_put_whole(store->journal);
        return r;
}

int store_new(struct loop *loop, struct journal *journal, const char *directory, uint64_t saved_quota, struct store **ret)
{
        _cleanup_(store_freep) struct store *store = NULL;
        int r;

        store = calloc(1, sizeof(*store));
        if (!store)
                return -ENOMEM;
        store->refs = 1;
        store->loop = loop;
        store->journal = journal;
        store->quota = saved_quota;
        LIST_INIT(&store->live);
        LIST_INIT(&store->fetches);
        LIST_INIT(&store->additions);
        if (directory) {
                store->directory = strdup(directory);
                if (!store->directory)
                        return -ENOMEM;
        }
        r = lane_new(loop, &store->hash_lane);
        for (size_t i = 0; i < WRITE_LANES && r >= 0; i++)
                r = lane_new(loop, &store->lanes[i]);
        if (r < 0)
                return r;
        store->watch = (struct journal_watch){ .on_reset = on_reset, .userdata = store };
        journal_watch(journal, &store->watch);
        r = store_load(store);
        if (r < 0)
                return r;
        *ret = take_ptr(store);
        return 0;
}

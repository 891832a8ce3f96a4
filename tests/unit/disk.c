/* SPDX-License-Identifier: MIT */

/*
 * See disk.h.  While power may be cut each open file is a buffer in memory that
 * reaches the file below at xSync() (and at xClose(), which a process that
 * lives on would not notice); locks and shared memory are always those of the
 * file below.
 */

#include "disk.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

#define SECTOR 512

struct file {
        sqlite3_file base;
        sqlite3_file *below;
        uint8_t *data;                  /* NULL: writes go below at once */
        size_t size;
};

static struct {
        sqlite3_vfs vfs;
        sqlite3_vfs *below;
        unsigned operations, syncs;
        unsigned cut_at;                /* 0: never */
        bool torn;
        unsigned seed;
        bool full;
        void (*on_sync)(void *userdata);
        void *userdata;
} disk;

static struct file *file_of(sqlite3_file *file)
{
        return container_of(file, struct file, base);
}

static bool power_fails(void)
{
        return ++disk.operations == disk.cut_at && disk.cut_at > 0;
}

static void die(void)
{
        (void)kill(getpid(), SIGKILL);
        abort();
}

static int file_flush(struct file *file)
{
        int rc = SQLITE_OK;

        if (file->size > 0)
                rc = file->below->pMethods->xWrite(file->below, file->data, (int)file->size, 0);
        if (rc == SQLITE_OK)
                rc = file->below->pMethods->xTruncate(file->below, (sqlite3_int64)file->size);
        return rc;
}

/* Some sectors have arrived, others not, in no order. */
static void file_flush_torn(struct file *file)
{
        srand(disk.seed);
        for (size_t at = 0; at < file->size; at += SECTOR)
                if (rand() % 2)
                        (void)file->below->pMethods->xWrite(file->below, file->data + at, (int)MIN((size_t)SECTOR, file->size - at),
                                                            (sqlite3_int64)at);
}

static int on_close(sqlite3_file *base)
{
        struct file *file = file_of(base);

        if (file->data)
                (void)file_flush(file);
        free(file->data);
        return file->below->pMethods->xClose(file->below);
}

static int on_read(sqlite3_file *base, void *data, int amount, sqlite3_int64 offset)
{
        struct file *file = file_of(base);
        size_t there;

        if (!file->data)
                return file->below->pMethods->xRead(file->below, data, amount, offset);
        there = (size_t)offset < file->size ? MIN(file->size - (size_t)offset, (size_t)amount) : 0;
        memcpy(data, file->data + offset, there);
        memset((uint8_t *)data + there, 0, (size_t)amount - there);
        return there == (size_t)amount ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static void file_resize(struct file *file, size_t size)
{
        file->data = realloc(file->data, size + 1);
        assert(file->data);
        if (size > file->size)
                memset(file->data + file->size, 0, size - file->size);
        file->size = size;
}

static int on_write(sqlite3_file *base, const void *data, int amount, sqlite3_int64 offset)
{
        struct file *file = file_of(base);

        if (disk.full)
                return SQLITE_FULL;
        if (power_fails())
                die();
        if (!file->data)
                return file->below->pMethods->xWrite(file->below, data, amount, offset);
        if ((size_t)offset + (size_t)amount > file->size)
                file_resize(file, (size_t)offset + (size_t)amount);
        memcpy(file->data + offset, data, (size_t)amount);
        return SQLITE_OK;
}

static int on_truncate(sqlite3_file *base, sqlite3_int64 size)
{
        struct file *file = file_of(base);

        if (power_fails())
                die();
        if (!file->data)
                return file->below->pMethods->xTruncate(file->below, size);
        file_resize(file, (size_t)size);
        return SQLITE_OK;
}

static int on_sync(sqlite3_file *base, int flags)
{
        struct file *file = file_of(base);

        disk.syncs++;
        if (disk.on_sync)
                disk.on_sync(disk.userdata);
        if (power_fails()) {
                if (disk.torn && file->data)
                        file_flush_torn(file);
                die();
        }
        return file->data ? file_flush(file) : file->below->pMethods->xSync(file->below, flags);
}

static int on_file_size(sqlite3_file *base, sqlite3_int64 *size)
{
        struct file *file = file_of(base);

        if (!file->data)
                return file->below->pMethods->xFileSize(file->below, size);
        *size = (sqlite3_int64)file->size;
        return SQLITE_OK;
}

static int on_control(sqlite3_file *base, int op, void *argument)
{
        struct file *file = file_of(base);

        /* Would make the file below grow. */
        if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE)
                return SQLITE_NOTFOUND;
        return file->below->pMethods->xFileControl(file->below, op, argument);
}

static int on_lock(sqlite3_file *base, int level)
{
        return file_of(base)->below->pMethods->xLock(file_of(base)->below, level);
}

static int on_unlock(sqlite3_file *base, int level)
{
        return file_of(base)->below->pMethods->xUnlock(file_of(base)->below, level);
}

static int on_check_lock(sqlite3_file *base, int *result)
{
        return file_of(base)->below->pMethods->xCheckReservedLock(file_of(base)->below, result);
}

static int on_sector_size(sqlite3_file *base)
{
        return SECTOR;
}

static int on_characteristics(sqlite3_file *base)
{
        /* Nothing that a disk need not promise. */
        return 0;
}

static int on_shm_map(sqlite3_file *base, int page, int size, int extend, void volatile **result)
{
        return file_of(base)->below->pMethods->xShmMap(file_of(base)->below, page, size, extend, result);
}

static int on_shm_lock(sqlite3_file *base, int offset, int n, int flags)
{
        return file_of(base)->below->pMethods->xShmLock(file_of(base)->below, offset, n, flags);
}

static void on_shm_barrier(sqlite3_file *base)
{
        file_of(base)->below->pMethods->xShmBarrier(file_of(base)->below);
}

static int on_shm_unmap(sqlite3_file *base, int delete)
{
        return file_of(base)->below->pMethods->xShmUnmap(file_of(base)->below, delete);
}

static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = on_close,
        .xRead = on_read,
        .xWrite = on_write,
        .xTruncate = on_truncate,
        .xSync = on_sync,
        .xFileSize = on_file_size,
        .xLock = on_lock,
        .xUnlock = on_unlock,
        .xCheckReservedLock = on_check_lock,
        .xFileControl = on_control,
        .xSectorSize = on_sector_size,
        .xDeviceCharacteristics = on_characteristics,
        .xShmMap = on_shm_map,
        .xShmLock = on_shm_lock,
        .xShmBarrier = on_shm_barrier,
        .xShmUnmap = on_shm_unmap,
};

static int on_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *base, int flags, int *ret_flags)
{
        struct file *file = file_of(base);
        sqlite3_int64 size;
        int rc;

        *file = (struct file){ .below = (sqlite3_file *)(file + 1) };
        rc = disk.below->xOpen(disk.below, name, file->below, flags, ret_flags);
        if (rc != SQLITE_OK)
                return rc;
        if (disk.cut_at > 0) {
                rc = file->below->pMethods->xFileSize(file->below, &size);
                assert(rc == SQLITE_OK);
                file_resize(file, (size_t)size);
                if (size > 0)
                        rc = file->below->pMethods->xRead(file->below, file->data, (int)size, 0);
                assert(rc == SQLITE_OK);
        }
        file->base.pMethods = &methods;
        return SQLITE_OK;
}

static int on_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
        if (power_fails())
                die();
        return disk.below->xDelete(disk.below, name, sync);
}

void disk_install(void)
{
        int rc;

        if (disk.below)
                return;
        disk.below = sqlite3_vfs_find(NULL);
        assert(disk.below);
        disk.vfs = *disk.below;
        disk.vfs.iVersion = 2;
        disk.vfs.szOsFile = (int)sizeof(struct file) + disk.below->szOsFile;
        disk.vfs.zName = "disk";
        disk.vfs.pNext = NULL;
        disk.vfs.xOpen = on_open;
        disk.vfs.xDelete = on_delete;
        rc = sqlite3_vfs_register(&disk.vfs, /* makeDflt= */ 1);
        assert(rc == SQLITE_OK);
        (void)rc;
}

unsigned disk_operations(void)
{
        return disk.operations;
}

unsigned disk_syncs(void)
{
        return __atomic_load_n(&disk.syncs, __ATOMIC_SEQ_CST);
}

void disk_cut_power_at(unsigned operation, bool torn, unsigned seed)
{
        disk.cut_at = disk.operations + operation;
        disk.torn = torn;
        disk.seed = seed;
}

void disk_set_full(bool full)
{
        disk.full = full;
}

void disk_on_sync(void (*fn)(void *userdata), void *userdata)
{
        disk.on_sync = fn;
        disk.userdata = userdata;
}

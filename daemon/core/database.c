/* SPDX-License-Identifier: MIT */

/*
 * See database.h.
 *
 * A file is never used before it is known to be ours: its header is read as
 * plain bytes first, because SQLite, asked to open a stranger's database, may
 * replay its log into it.  A new one is made beside its place and renamed
 * there, so that under the final name stands a whole database or none.
 *
 * Memory is a budget here, not speed: a cache of 16 pages, no preallocated
 * pools, statements kept only for a burst of writes.
 */

#include "core/database.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"

#define STATEMENTS_MAX 48
#define BUSY_TIMEOUT_MS 2000

/* Offsets in the file's first page ("The Database Header" of SQLite's file format). */
#define HEADER_SIZE 100
#define HEADER_USER_VERSION 60
#define HEADER_APPLICATION_ID 68

static const char header_magic[16] = "SQLite format 3";

/* What belongs to a database file, in the order in which it is moved: a log without its database is recognised as
 * left over, a database without its log would be believed. */
static const char *const companions[] = { "", "-wal", "-shm", "-journal" };

struct prepared {
        const char *sql;                /* the caller's constant: compared by address */
        sqlite3_stmt *statement;
};

struct database {
        sqlite3 *sqlite;
        enum database_birth birth;
        char *scratch;                  /* directory of a copy, removed with it; else NULL */
        bool durable;                   /* as PRAGMA synchronous stands */
        size_t n_prepared;
        struct prepared prepared[STATEMENTS_MAX];
};

struct row {
        sqlite3_stmt *statement;
        bool failed;
};

enum stranger {
        FILE_OURS,
        FILE_ABSENT,                    /* or empty */
        FILE_DAMAGED,
        FILE_FOREIGN,
};

/* SQLite's result as an errno; what the operating system said is kept where that is all there is to say. */
static int sqlite_errno(sqlite3 *sqlite, int rc)
{
        int e = sqlite ? sqlite3_system_errno(sqlite) : 0;

        switch (rc & 0xff) {
        case SQLITE_OK:
        case SQLITE_ROW:
        case SQLITE_DONE:
                return 0;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EUCLEAN;
        case SQLITE_CONSTRAINT:
        case SQLITE_MISMATCH:
        case SQLITE_TOOBIG:
        case SQLITE_RANGE:
                return -EINVAL;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_CANTOPEN:
        case SQLITE_IOERR:
                return e > 0 ? -e : -EIO;
        default:
                return -EIO;
        }
}

static int fault(struct database *database, int rc)
{
        return sqlite_errno(database->sqlite, rc);
}

static void sqlite_configure(void)
{
        /* Each call's failure would only mean that somebody used SQLite before: then its own settings hold. */
        (void)sqlite3_config(SQLITE_CONFIG_MULTITHREAD);
        (void)sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
        (void)sqlite3_config(SQLITE_CONFIG_PAGECACHE, NULL, 0, 0);
        (void)sqlite3_initialize();
}

/* Our statements are constants that the tests have run: one that does not compile misses its table. */
static int execute(struct database *database, const char *sql)
{
        int rc = sqlite3_exec(database->sqlite, sql, NULL, NULL, NULL);

        return rc == SQLITE_ERROR ? -EUCLEAN : fault(database, rc);
}

static int execute_number(struct database *database, const char *pragma, uint32_t number)
{
        char sql[80];

        (void)snprintf(sql, sizeof(sql), "PRAGMA %s=%d", pragma, (int)number);
        return execute(database, sql);
}

static int directory_sync(const char *path)
{
        _cleanup_free_ char *directory = strdup(path);
        _cleanup_close_ int fd = -1;
        char *slash;

        if (!directory)
                return -ENOMEM;
        slash = strrchr(directory, '/');
        if (slash)
                *slash = 0;
        fd = open(slash ? (*directory ? directory : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

/* --- what stands under a name --- */

static int companion_name(const char *path, const char *suffix, const char *companion, char name[static PATH_MAX])
{
        int n = snprintf(name, PATH_MAX, "%s%s%s", path, suffix, companion);

        return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

static int move_aside(const char *path, const char *why)
{
        char stamp[32], suffix[64], from[PATH_MAX], to[PATH_MAX];
        time_t now = time(NULL);
        struct tm tm;
        int r;

        (void)gmtime_r(&now, &tm);
        (void)strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm);
        (void)snprintf(suffix, sizeof(suffix), ".%s-%s", why, stamp);
        for (unsigned i = 2;; i++) {
                r = companion_name(path, suffix, "", to);
                if (r < 0)
                        return r;
                if (access(to, F_OK) < 0)
                        break;
                (void)snprintf(suffix, sizeof(suffix), ".%s-%s.%u", why, stamp, i);
        }

        for (size_t i = 0; i < ELEMENTSOF(companions); i++) {
                r = companion_name(path, "", companions[i], from);
                if (r >= 0)
                        r = companion_name(path, suffix, companions[i], to);
                if (r < 0)
                        return r;
                if (rename(from, to) < 0 && errno != ENOENT)
                        return -errno;
        }
        (void)directory_sync(path);
        log_error("The state database %s is %s: it was set aside as %s%s, and an empty one is begun. "
                  "Cameras will be known again as they are seen.",
                  path, strcmp(why, "foreign") == 0 ? "not this program's, or a newer version's" : "damaged", path, suffix);
        return 0;
}

/* Looks at the file as bytes; nothing is opened by SQLite before this says FILE_OURS. */
static int file_recognise(const char *path, const struct database_schema *schema, enum stranger *ret)
{
        uint8_t header[HEADER_SIZE];
        char name[PATH_MAX];
        _cleanup_close_ int fd = -1;
        struct reader reader;
        ssize_t n;
        int r;

        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0 && errno != ENOENT)
                return -errno;
        n = fd < 0 ? 0 : pread(fd, header, sizeof(header), 0);
        if (n < 0)
                return -errno;
        if (n == 0) {
                /* A log without its database would be replayed into the next one. */
                r = companion_name(path, "", "-wal", name);
                if (r < 0)
                        return r;
                *ret = access(name, F_OK) == 0 ? FILE_DAMAGED : FILE_ABSENT;
                return 0;
        }

        reader = reader_new(header, (size_t)n);
        if (n < HEADER_SIZE || memcmp(header, header_magic, sizeof(header_magic)) != 0) {
                *ret = FILE_DAMAGED;
                return 0;
        }
        /* Big-endian, unlike everything else that this program reads. */
        (void)reader_take(&reader, HEADER_USER_VERSION);
        uint32_t version = __builtin_bswap32(reader_le32(&reader));

        (void)reader_take(&reader, HEADER_APPLICATION_ID - HEADER_USER_VERSION - 4);
        uint32_t application_id = __builtin_bswap32(reader_le32(&reader));

        *ret = application_id == schema->application_id && version > 0 && version <= schema->n_migrations ? FILE_OURS : FILE_FOREIGN;
        return 0;
}

/* --- statements --- */

static int prepare(struct database *database, const char *sql, sqlite3_stmt **ret)
{
        struct prepared *prepared;
        int rc;

        for (size_t i = 0; i < database->n_prepared; i++)
                if (database->prepared[i].sql == sql) {
                        *ret = database->prepared[i].statement;
                        return 0;
                }

        assert(database->n_prepared < STATEMENTS_MAX);
        prepared = &database->prepared[database->n_prepared];
        rc = sqlite3_prepare_v2(database->sqlite, sql, -1, &prepared->statement, NULL);
        if (rc != SQLITE_OK)
                return rc == SQLITE_ERROR ? -EUCLEAN : fault(database, rc);
        prepared->sql = sql;
        database->n_prepared++;
        *ret = prepared->statement;
        return 0;
}

static int bind(sqlite3_stmt *statement, const char *values, va_list arguments)
{
        int rc = SQLITE_OK;

        for (int i = 1; *values && rc == SQLITE_OK; i++, values++)
                switch (*values) {
                case 's':
                        rc = sqlite3_bind_text(statement, i, va_arg(arguments, const char *), -1, SQLITE_STATIC);
                        break;
                case 'i':
                        rc = sqlite3_bind_int64(statement, i, va_arg(arguments, int64_t));
                        break;
                case 'd':
                        rc = sqlite3_bind_blob(statement, i, va_arg(arguments, const struct digest *)->bytes, DIGEST_SIZE,
                                               SQLITE_STATIC);
                        break;
                default:
                        assert(false);
                }
        return rc;
}

/* Unpins the transaction, and lets go of the caller's strings. */
static void finish(sqlite3_stmt *statement)
{
        (void)sqlite3_reset(statement);
        (void)sqlite3_clear_bindings(statement);
}

int database_run(struct database *database, const char *sql, const char *values, ...)
{
        sqlite3_stmt *statement = NULL;
        va_list arguments;
        int rc, r;

        r = prepare(database, sql, &statement);
        if (r < 0)
                return r;
        va_start(arguments, values);
        rc = bind(statement, values, arguments);
        va_end(arguments);
        if (rc == SQLITE_OK)
                do
                        rc = sqlite3_step(statement);
                while (rc == SQLITE_ROW);
        r = fault(database, rc);
        finish(statement);
        return r;
}

void row_text(struct row *row, int column, char *text, size_t size)
{
        const char *value = (const char *)sqlite3_column_text(row->statement, column);

        if (!value || strlen(value) >= size) {
                row->failed = true;
                return;
        }
        strcpy(text, value);
}

const char *row_text_ref(struct row *row, int column)
{
        const char *value = (const char *)sqlite3_column_text(row->statement, column);

        if (!value)
                row->failed = true;
        return value ? value : "";
}

int64_t row_int(struct row *row, int column, int64_t min, int64_t max)
{
        int64_t value = sqlite3_column_int64(row->statement, column);

        if (sqlite3_column_type(row->statement, column) != SQLITE_INTEGER || value < min || value > max) {
                row->failed = true;
                return min;
        }
        return value;
}

void row_digest(struct row *row, int column, struct digest *digest)
{
        const void *value = sqlite3_column_blob(row->statement, column);

        if (!value || sqlite3_column_bytes(row->statement, column) != DIGEST_SIZE) {
                row->failed = true;
                return;
        }
        memcpy(digest->bytes, value, DIGEST_SIZE);
}

bool row_is_sound(const struct row *row)
{
        return !row->failed;
}

int database_query(struct database *database, const char *sql, int (*fn)(void *userdata, struct row *row), void *userdata,
                   const char *values, ...)
{
        sqlite3_stmt *statement = NULL;
        va_list arguments;
        int rc, r;

        r = prepare(database, sql, &statement);
        if (r < 0)
                return r;
        va_start(arguments, values);
        rc = bind(statement, values, arguments);
        va_end(arguments);
        while (rc == SQLITE_OK || rc == SQLITE_ROW) {
                struct row row = { .statement = statement };

                rc = sqlite3_step(statement);
                if (rc != SQLITE_ROW)
                        break;
                r = fn(userdata, &row);
                if (r < 0)
                        break;
        }
        if (r >= 0)
                r = fault(database, rc);
        finish(statement);
        return r;
}

void database_trim(struct database *database)
{
        while (database->n_prepared > 0)
                (void)sqlite3_finalize(database->prepared[--database->n_prepared].statement);
        (void)sqlite3_db_release_memory(database->sqlite);
}

/* --- transactions --- */

int database_begin(struct database *database, bool durable)
{
        int r;

        /* In WAL mode FULL is one fsync of the log per commit, NORMAL none but when the log begins anew. */
        if (durable != database->durable) {
                r = execute(database, durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
                if (r < 0)
                        return r;
                database->durable = durable;
        }
        return database_run(database, "BEGIN IMMEDIATE", "");
}

int database_commit(struct database *database)
{
        return database_run(database, "COMMIT", "");
}

void database_rollback(struct database *database)
{
        /* Some faults have rolled back already. */
        if (!sqlite3_get_autocommit(database->sqlite))
                (void)database_run(database, "ROLLBACK", "");
}

/* --- birth and death --- */

static void scratch_remove(char *scratch)
{
        char name[PATH_MAX];

        for (size_t i = 0; i < ELEMENTSOF(companions); i++)
                if (snprintf(name, sizeof(name), "%s/copy%s", scratch, companions[i]) < (int)sizeof(name))
                        (void)unlink(name);
        (void)rmdir(scratch);
        free(scratch);
}

struct database *database_close(struct database *database)
{
        int rc _unused_;

        if (!database)
                return NULL;
        if (database->sqlite) {
                database_trim(database);
                rc = sqlite3_close(database->sqlite);
                assert(rc == SQLITE_OK);
        }
        if (database->scratch)
                scratch_remove(database->scratch);
        free(database);
        return NULL;
}

/* As it is: what may be damaged is not made worse by writing its log home. */
static void database_abandon(struct database *database)
{
        (void)sqlite3_db_config(database->sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        (void)database_close(database);
}

int database_set_aside(struct database *database, const char *path)
{
        if (database)
                database_abandon(database);
        return move_aside(path, "damaged");
}

static int connect(const char *path, bool create, struct database **ret)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        _cleanup_(database_closep) struct database *database = NULL;
        int rc;

        (void)pthread_once(&once, sqlite_configure);

        database = calloc(1, sizeof(*database));
        if (!database)
                return -ENOMEM;
        rc = sqlite3_open_v2(path, &database->sqlite,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (create ? SQLITE_OPEN_CREATE : 0), NULL);
        if (rc != SQLITE_OK)
                return sqlite_errno(database->sqlite, rc);
        (void)sqlite3_extended_result_codes(database->sqlite, 1);
        (void)sqlite3_busy_timeout(database->sqlite, BUSY_TIMEOUT_MS);
        /* What somebody wrote into the file's schema is never run. */
        (void)sqlite3_db_config(database->sqlite, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void)sqlite3_db_config(database->sqlite, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        *ret = take_ptr(database);
        return 0;
}

static int on_number(void *userdata, struct row *row)
{
        *(int64_t *)userdata = row_int(row, 0, 0, INT64_MAX);
        return 0;
}

static int migrate(struct database *database, const struct database_schema *schema)
{
        int64_t version = 0, first;
        int r;

        r = database_query(database, "PRAGMA user_version", on_number, &version, "");
        if (r < 0)
                return r;
        /* The header said something else: then the log does not belong to it. */
        if ((uint64_t)version > schema->n_migrations)
                return -EUCLEAN;

        first = version;
        for (; (size_t)version < schema->n_migrations; version++) {
                r = database_begin(database, /* durable= */ true);
                if (r >= 0)
                        r = execute(database, schema->migrations[version]);
                if (r >= 0)
                        r = execute_number(database, "user_version", (uint32_t)version + 1);
                if (r >= 0)
                        r = database_commit(database);
                if (r < 0) {
                        database_rollback(database);
                        return r;
                }
        }
        /* The header that is looked at before the next opening must say so, too. */
        if (version != first)
                return execute(database, "PRAGMA wal_checkpoint(TRUNCATE)");
        return 0;
}

static int settle(struct database *database, bool alone)
{
        int r;

        /* Without shared memory beside the file: for a disk that has no room for even that. */
        if (alone) {
                r = execute(database, "PRAGMA locking_mode=EXCLUSIVE");
                if (r < 0)
                        return r;
        }
        r = execute(database, "PRAGMA cache_size=-64; PRAGMA temp_store=MEMORY; PRAGMA synchronous=FULL;"
                              "PRAGMA wal_autocheckpoint=256; PRAGMA journal_size_limit=1048576; PRAGMA secure_delete=OFF;");
        if (r < 0)
                return r;
        database->durable = true;
        /* Reads the schema: the first that a damaged file fails. */
        return execute(database, "SELECT count(*) FROM sqlite_schema");
}

static int on_verdict(void *userdata, struct row *row)
{
        *(bool *)userdata = strcmp(row_text_ref(row, 0), "ok") == 0;
        return 0;
}

static int check(struct database *database)
{
        bool sound = false;
        int r;

        r = database_query(database, "PRAGMA quick_check(1)", on_verdict, &sound, "");
        return r < 0 ? r : sound ? 0 : -EUCLEAN;
}

/* A whole new database under path, made beside it. */
static int file_begin(const char *path, const struct database_schema *schema)
{
        _cleanup_(database_closep) struct database *database = NULL;
        char fresh[PATH_MAX], name[PATH_MAX];
        int r;

        for (size_t i = 0; i < ELEMENTSOF(companions); i++) {
                r = companion_name(path, ".new", companions[i], name);
                if (r < 0)
                        return r;
                if (unlink(name) < 0 && errno != ENOENT)
                        return -errno;
        }
        r = companion_name(path, ".new", "", fresh);
        if (r < 0)
                return r;
        r = connect(fresh, /* create= */ true, &database);
        if (r >= 0)
                r = settle(database, /* alone= */ true);
        if (r >= 0)
                r = execute_number(database, "application_id", schema->application_id);
        if (r >= 0)
                r = migrate(database, schema);
        if (r >= 0 && schema->first)
                r = execute(database, schema->first);
        if (r >= 0)
                r = execute(database, "PRAGMA journal_mode=WAL");
        if (r < 0) {
                database = database_close(database);
                (void)unlink(fresh);
                return r;
        }
        database = database_close(database);
        if (rename(fresh, path) < 0)
                return -errno;
        return directory_sync(path);
}

static int file_open(const char *path, const struct database_schema *schema, bool alone, bool check_it, struct database **ret)
{
        struct database *database = NULL;
        int r;

        r = connect(path, /* create= */ false, &database);
        if (r < 0)
                return r;
        r = settle(database, alone);
        if (r >= 0 && check_it)
                r = check(database);
        if (r >= 0)
                r = migrate(database, schema);
        if (r < 0) {
                database_abandon(database);
                return r;
        }
        *ret = database;
        return 0;
}

static int memory_open(const struct database_schema *schema, struct database **ret)
{
        _cleanup_(database_closep) struct database *database = NULL;
        int r;

        r = connect(":memory:", /* create= */ true, &database);
        if (r >= 0)
                r = settle(database, /* alone= */ false);
        if (r >= 0)
                r = migrate(database, schema);
        if (r < 0)
                return r;
        database->birth = DATABASE_BEGUN;
        *ret = take_ptr(database);
        return 0;
}

int database_open(const char *path, const struct database_schema *schema, bool check_it, struct database **ret)
{
        enum database_birth birth = DATABASE_LOADED;
        struct database *database = NULL;
        enum stranger found;
        int r;

        if (!path)
                return memory_open(schema, ret);

        /* Each turn leaves the name better than it was: set aside, begun, open. */
        for (unsigned turn = 0; turn < 4; turn++) {
                r = file_recognise(path, schema, &found);
                if (r < 0)
                        return r;

                switch (found) {
                case FILE_DAMAGED:
                case FILE_FOREIGN:
                        r = move_aside(path, found == FILE_FOREIGN ? "foreign" : "damaged");
                        if (r < 0)
                                return r;
                        continue;
                case FILE_ABSENT:
                        r = file_begin(path, schema);
                        if (r < 0)
                                return r;
                        birth = DATABASE_BEGUN;
                        continue;
                case FILE_OURS:
                        break;
                }

                r = file_open(path, schema, /* alone= */ false, check_it, &database);
                if (r < 0 && r != -EUCLEAN && r != -EBUSY && r != -ENOMEM)
                        r = file_open(path, schema, /* alone= */ true, check_it, &database);
                if (r == -EUCLEAN) {
                        r = move_aside(path, "damaged");
                        if (r < 0)
                                return r;
                        continue;
                }
                if (r < 0)
                        return r;
                database->birth = birth;
                /* The check's program is large and runs once. */
                database_trim(database);
                *ret = database;
                return 0;
        }
        return -EIO;
}

static int file_copy(const char *from, const char *to)
{
        _cleanup_close_ int in = -1, out = -1;
        char buffer[16384];
        ssize_t n;

        in = open(from, O_RDONLY | O_CLOEXEC);
        if (in < 0)
                return errno == ENOENT ? 0 : -errno;
        out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (out < 0)
                return -errno;
        while ((n = read(in, buffer, sizeof(buffer))) > 0)
                if (write(out, buffer, (size_t)n) != n)
                        return -EIO;
        return n < 0 ? -errno : 0;
}

int database_open_copy(const char *path, const struct database_schema *schema, struct database **ret)
{
        const char *temporary = getenv("TMPDIR");
        char directory[PATH_MAX], from[PATH_MAX], to[PATH_MAX];
        struct database *database = NULL;
        enum stranger found;
        int r;

        r = file_recognise(path, schema, &found);
        if (r < 0)
                return r;
        if (found == FILE_ABSENT)
                return -ENOENT;
        if (found != FILE_OURS)
                return -EUCLEAN;

        if (snprintf(directory, sizeof(directory), "%s/camrescue-XXXXXX", temporary ? temporary : "/tmp") >= (int)sizeof(directory))
                return -ENAMETOOLONG;
        if (!mkdtemp(directory))
                return -errno;
        for (size_t i = 0; i < 2 && r >= 0; i++) {
                r = companion_name(path, "", companions[i], from);
                if (r >= 0 && snprintf(to, sizeof(to), "%s/copy%s", directory, companions[i]) >= (int)sizeof(to))
                        r = -ENAMETOOLONG;
                if (r >= 0)
                        r = file_copy(from, to);
        }
        if (r >= 0 && snprintf(to, sizeof(to), "%s/copy", directory) >= (int)sizeof(to))
                r = -ENAMETOOLONG;
        if (r >= 0)
                r = file_open(to, schema, /* alone= */ true, /* check_it= */ true, &database);
        if (r >= 0) {
                database->scratch = strdup(directory);
                if (database->scratch) {
                        *ret = database;
                        return 0;
                }
                (void)database_close(database);
                r = -ENOMEM;
        }

        char *gone = strdup(directory);

        if (gone)
                scratch_remove(gone);
        return r;
}

enum database_birth database_birth(const struct database *database)
{
        return database->birth;
}

bool database_is_copy(const struct database *database)
{
        return database->scratch != NULL;
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue firmware import: finds images in files, folders and archives, and
 * gives each to the daemon, which decides whether it is one.  A refused image
 * is named and the rest goes on.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/firmware.h"
#include "client/image-name.h"
#include "client/json.h"
#include "client/upload.h"
#include "client/zip.h"

#define SETTINGS "settings.json"
#define SETTINGS_MAX ((size_t)16 << 20)

struct import {
        struct client *client;
        struct bus *bus;
        const char *board, *partition, *version;        /* as said; NULL */
        int stable;                                     /* as said; -1: by the version */
        bool yes;
        json_t *images, *archive;
        unsigned added, refused, skipped;
        enum exit_code code;                            /* of the worst refusal */
        enum exit_code stop;                            /* no use to go on */
};

/* One image to be given. */
struct found {
        const char *path;               /* where it was found, for people */
        const char *board, *version;    /* "" unknown */
        bool in_set;                    /* found in a folder or archive, not named by the user */
};

/* --- one image --- */

/* "OPENMV3/firmware.bin" of what was found in a folder or archive; the whole of what was named. */
static const char *shown(const struct found *found)
{
        const char *end = found->path + strlen(found->path);

        if (!found->in_set)
                return found->path;
        for (int slashes = 0; end > found->path; end--)
                if (end[-1] == '/' && ++slashes == 2)
                        break;
        return end;
}

static void say(struct import *import, const struct found *found, const char *outcome, const char *board, const char *partition,
                const char *version, bool stable, const char *id, const char *why)
{
        _cleanup_free_ char *line = NULL, *clean = NULL;

        if (import->client->json) {
                (void)json_array_append_new(import->images, json_pack("{so ss so so so sb so so}", "file", json_text(found->path),
                                            "outcome", outcome, "board", json_text(board), "partition", json_text(partition),
                                            "version", json_text(version), "stable", (int)stable, "id", json_text(id),
                                            "reason", json_text(why)));
                return;
        }
        if (asprintf(&line, "%-8s %-14s %-10s %-12s %s%s%s", outcome, *board ? board : "-", *partition ? partition : "-",
                     *version ? version : "-", shown(found), *why ? ": " : "", why) < 0) {
                line = NULL;
                return;
        }
        clean = text_clean(line, import->client->out.utf8);
        if (clean)
                (void)puts(clean);
        (void)fflush(stdout);
}

/* Folders and archives hold more than the daemon can use: boards that it only recognises (Arduino, RT1062) or does not know,
 * bootloaders that cannot be written.  That is no failure of an import, unless the user named the very file. */
static bool is_of_no_use(const struct found *found, const sd_bus_error *error)
{
        return found->in_set && error->name && (strcmp(error->name, BUS_NAME ".Error.UnknownBoard") == 0 ||
                                                strcmp(error->name, BUS_NAME ".Error.UnknownPartition") == 0);
}

static void give(struct import *import, const struct found *found, int memfd)
{
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *partition = import->partition ? import->partition : image_partition(image_base(found->path));
        const char *board = import->board ? import->board : found->board, *why;
        char version[IMAGE_VERSION_SIZE] = "";
        struct upload what = { .file = image_base(found->path), .board = board, .partition = partition };
        _cleanup_free_ char *id = NULL;
        enum exit_code code;

        (void)image_version(import->version ? import->version : found->version, version);
        what.version = version;
        what.stable = import->stable >= 0 ? import->stable > 0 : image_version_is_stable(version);
        if (!partition)
                partition = "";
        if (memfd < 0) {
                import->refused++;
                import->code = EXIT_FAILED;
                say(import, found, "refused", board, partition, version, what.stable, "", upload_problem(memfd));
                return;
        }
        code = upload(import->bus, memfd, &what, &error, &id);
        why = error.message ? error.message : error.name ? error.name : "";
        if (code == EXIT_DONE) {
                import->added++;
                say(import, found, "added", board, partition, version, what.stable, id, "");
        } else if (code == EXIT_NO_DAEMON) {
                import->stop = bus_report_error(import->client, &error, -EIO);
        } else if (is_of_no_use(found, &error)) {
                import->skipped++;
                say(import, found, "skipped", board, partition, version, what.stable, "", why);
        } else {
                import->refused++;
                import->code = exit_code_worse(import->code, code);
                say(import, found, "refused", board, partition, version, what.stable, "", why);
                if (bus_error_is_denied(error.name))
                        import->stop = EXIT_REFUSED;
        }
}

static void give_file(struct import *import, const struct found *found)
{
        _cleanup_close_ int memfd = upload_file(found->path);

        give(import, found, memfd);
}

/* --- folders --- */

static char *join(const char *folder, const char *name)
{
        char *path = NULL;
        size_t n = strlen(folder);

        return asprintf(&path, "%s%s%s", folder, n > 0 && folder[n - 1] == '/' ? "" : "/", name) < 0 ? NULL : path;
}

static bool is_folder(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void read_settings(const char *folder, char version[static IMAGE_VERSION_SIZE])
{
        _cleanup_free_ char *path = join(folder, SETTINGS), *text = NULL;
        _cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;

        version[0] = '\0';
        text = f ? malloc(SETTINGS_MAX) : NULL;
        if (text)
                (void)image_settings_version(text, fread(text, 1, SETTINGS_MAX, f), version);
}

static bool has_suffix(const char *name, const char *suffix)
{
        size_t n = strlen(name), m = strlen(suffix);

        return n > m && strcasecmp(name + n - m, suffix) == 0;
}

/* "firmware.dfu" beside "firmware.bin" is the same image in another wrapping. */
static bool has_plain_twin(struct dirent **entries, int n, const char *name)
{
        if (!has_suffix(name, ".dfu"))
                return false;
        for (int i = 0; i < n; i++)
                if (has_suffix(entries[i]->d_name, ".bin") && strlen(entries[i]->d_name) == strlen(name) &&
                    strncasecmp(entries[i]->d_name, name, strlen(name) - 4) == 0)
                        return true;
        return false;
}

/* Images right in this folder.  Their number. */
static unsigned board_folder(struct import *import, const char *folder, const char *board, const char *version)
{
        struct dirent **entries = NULL;
        int n = scandir(folder, &entries, NULL, alphasort);
        unsigned images = 0;

        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = join(folder, entries[i]->d_name);
                const struct found found = { .path = path, .board = board, .version = version, .in_set = true };

                if (!path || !image_partition(entries[i]->d_name) || has_plain_twin(entries, n, entries[i]->d_name) ||
                    import->stop != EXIT_DONE)
                        continue;
                images++;
                give_file(import, &found);
        }
        for (int i = 0; i < n; i++)
                free(entries[i]);
        free(entries);
        return images;
}

/* A firmware folder: one folder per board, and settings.json beside them. */
static unsigned set_folder(struct import *import, const char *folder)
{
        char version[IMAGE_VERSION_SIZE];
        struct dirent **entries = NULL;
        int n = scandir(folder, &entries, NULL, alphasort);
        unsigned images = 0;

        read_settings(folder, version);
        for (int i = 0; i < n; i++) {
                _cleanup_free_ char *path = join(folder, entries[i]->d_name);

                if (path && image_is_board_folder(entries[i]->d_name) && is_folder(path))
                        images += board_folder(import, path, entries[i]->d_name, version);
                free(entries[i]);
        }
        free(entries);
        return images;
}

static void import_folder(struct import *import, const char *folder)
{
        _cleanup_free_ char *whole = realpath(folder, NULL), *inner = NULL, *parent = NULL;
        char version[IMAGE_VERSION_SIZE], *slash;
        unsigned images;

        if (!whole) {
                const struct found found = { .path = folder };

                import->refused++;
                import->code = EXIT_FAILED;
                say(import, &found, "refused", "", "", "", false, "", strerror(errno));
                return;
        }
        images = set_folder(import, whole);
        inner = join(whole, "firmware");
        if (images == 0 && inner && is_folder(inner))
                images = set_folder(import, inner);
        if (images == 0 && import->stop == EXIT_DONE) {
                parent = strdup(whole);
                slash = parent ? strrchr(parent, '/') : NULL;
                if (slash)
                        *slash = '\0';
                read_settings(parent && *parent ? parent : "/", version);
                images = board_folder(import, whole, image_is_board_folder(image_base(whole)) ? image_base(whole) : "", version);
        }
        if (images == 0 && import->stop == EXIT_DONE) {
                const struct found found = { .path = folder };

                import->refused++;
                import->code = EXIT_FAILED;
                say(import, &found, "refused", "", "", "", false, "",
                    "no firmware in this folder (wanted: OPENMV3/firmware.bin and the like)");
        }
}

/* --- archives --- */

struct archive {
        struct import *import;
        const char *path;               /* where it is opened */
        const char *name;               /* and what it is called */
        char board[IMAGE_BOARD_SIZE], version[IMAGE_VERSION_SIZE];
        unsigned images;
};

static bool wants_settings(void *userdata, const char *name)
{
        return strcmp(image_base(name), SETTINGS) == 0;
}

static int on_settings(void *userdata, const char *name, const void *data, size_t size)
{
        struct archive *archive = userdata;

        if (!*archive->version)
                (void)image_settings_version(data, size, archive->version);
        return 0;
}

static bool wants_image(void *userdata, const char *name)
{
        const struct archive *archive = userdata;
        char board[IMAGE_BOARD_SIZE];

        if (archive->import->stop != EXIT_DONE || !image_partition(image_base(name)))
                return false;
        image_folder_board(name, board);
        /* Flat archives are of one board; elsewhere, images outside of boards' folders are something else. */
        return *board || (!strchr(name, '/') && (*archive->board || archive->import->board));
}

static int on_image(void *userdata, const char *name, const void *data, size_t size)
{
        struct archive *archive = userdata;
        char board[IMAGE_BOARD_SIZE];
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int memfd = upload_memory(data, size);
        struct found found;

        image_folder_board(name, board);
        path = join(archive->name, name);
        if (!path)
                return -ENOMEM;
        archive->images++;
        found = (struct found){ .path = path, .board = *board ? board : archive->board, .version = archive->version, .in_set = true };
        give(archive->import, &found, memfd);
        return 0;
}

static void import_archive(struct import *import, const char *path, const char *name)
{
        struct archive archive = { .import = import, .path = path, .name = name };
        const struct found itself = { .path = name };
        int r = 0;

        image_archive_name(name, archive.board, archive.version);
        if (!*archive.version && !import->version)
                r = zip_each(path, SETTINGS_MAX, wants_settings, on_settings, &archive);
        if (r >= 0)
                r = zip_each(path, UPLOAD_MAX, wants_image, on_image, &archive);
        if (r < 0) {
                import->refused++;
                import->code = EXIT_FAILED;
                say(import, &itself, "refused", "", "", "", false, "", zip_problem(r));
        } else if (archive.images == 0 && import->stop == EXIT_DONE) {
                import->refused++;
                import->code = EXIT_FAILED;
                say(import, &itself, "refused", "", "", "", false, "",
                    "no firmware in this archive (wanted: OPENMV3/firmware.bin and the like, or --board for a flat one)");
        }
}

/* --- what was named --- */

static bool is_archive(const char *path)
{
        char magic[4] = "";
        _cleanup_close_ int fd = -1;

        if (has_suffix(path, ".zip"))
                return true;
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        return fd >= 0 && read(fd, magic, sizeof(magic)) == (ssize_t)sizeof(magic) && memcmp(magic, "PK\003\004", 4) == 0;
}

static void import_named(struct import *import, const char *path)
{
        _cleanup_free_ char *whole = NULL, *parent = NULL;
        char board[IMAGE_BOARD_SIZE], version[IMAGE_VERSION_SIZE] = "";
        const struct found found = { .path = path, .board = board, .version = version };
        char *slash;

        if (is_folder(path)) {
                import_folder(import, path);
                return;
        }
        if (is_archive(path)) {
                import_archive(import, path, path);
                return;
        }
        board[0] = '\0';
        whole = realpath(path, NULL);
        if (whole) {
                image_folder_board(whole, board);
                parent = strdup(whole);
        }
        /* x/OPENMV3/firmware.bin: x/settings.json tells the version */
        for (int i = 0; parent && i < 2; i++) {
                slash = strrchr(parent, '/');
                if (slash)
                        *slash = '\0';
        }
        if (parent && *board)
                read_settings(parent, version);
        give_file(import, &found);
}

/* --- nothing named: the IDE's folder --- */

struct ide {
        char path[PATH_MAX];
        char version[IMAGE_VERSION_SIZE];
};

/* Keeps the newest; of equals the first, which is the IDE's working copy. */
static void consider(struct ide *best, const char *path)
{
        char version[IMAGE_VERSION_SIZE];
        glob_t boards = { .gl_pathc = 0 };
        _cleanup_free_ char *pattern = join(path, "OPENMV*/firmware*.bin");
        bool any;

        if (!pattern || strlen(path) >= sizeof(best->path))
                return;
        any = glob(pattern, GLOB_NOSORT, NULL, &boards) == 0;
        globfree(&boards);
        if (!any)
                return;
        read_settings(path, version);
        if (*best->path && text_compare_natural(version, best->version) <= 0)
                return;
        (void)snprintf(best->path, sizeof(best->path), "%s", path);
        memcpy(best->version, version, sizeof(version));
}

static void consider_all(struct ide *best, const char *base, const char *pattern)
{
        _cleanup_free_ char *whole = base ? join(base, pattern) : strdup(pattern);
        glob_t paths = { .gl_pathc = 0 };

        if (whole && glob(whole, 0, NULL, &paths) == 0)
                for (size_t i = 0; i < paths.gl_pathc; i++)
                        consider(best, paths.gl_pathv[i]);
        globfree(&paths);
}

static void find_ide(struct ide *best)
{
        const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
        _cleanup_free_ char *fallback = home && *home ? join(home, ".config") : NULL;

        *best = (struct ide){ .path = "" };
        if (!config || *config != '/')
                config = fallback;
        if (config) {
                consider_all(best, config, "OpenMV/openmvide/firmware");
                consider_all(best, config, "OpenMV/qtcreator/firmware");
        }
        if (home && *home == '/') {
                consider_all(best, home, "openmvide*/share/qtcreator/firmware");
                consider_all(best, home, "openmv-ide*/share/qtcreator/firmware");
        }
        consider_all(best, NULL, "/opt/*/share/qtcreator/firmware");
}

static enum exit_code import_ide(struct import *import, const struct ide *ide)
{
        _cleanup_free_ char *question = NULL;
        enum exit_code code;

        if (!*ide->path)
                return client_fail(import->client, EXIT_FAILED, "No firmware folder of OpenMV IDE was found. Name a file, a folder, or a "
                                   "release archive; or get one: camrescue firmware fetch.");
        if (asprintf(&question, "Import firmware %s from %s?", *ide->version ? ide->version : "(version unknown)", ide->path) < 0) {
                question = NULL;
                return client_fail(import->client, EXIT_FAILED, "Out of memory.");
        }
        code = client_ask(import->client, import->yes, question);
        if (code == EXIT_DONE)
                import_folder(import, ide->path);
        return code;
}

static enum exit_code sum_up(const struct import *import, bool json)
{
        enum exit_code code = import->stop != EXIT_DONE ? import->stop : import->code;

        /* Everything there was is of no use. */
        if (code == EXIT_DONE && import->added == 0)
                code = EXIT_FAILED;
        if (json) {
                enum exit_code printed = json_print(json_pack("{so so si si si ss si}", "images", json_incref(import->images),
                                                              "archive", import->archive ? json_incref(import->archive) : json_null(),
                                                              "added", (int)import->added, "refused", (int)import->refused,
                                                              "skipped", (int)import->skipped, "code", exit_code_name(code),
                                                              "exit", (int)code));
                return exit_code_worse(code, printed);
        }
        (void)printf("%u image%s added", import->added, import->added == 1 ? "" : "s");
        if (import->skipped > 0)
                (void)printf(", %u skipped", import->skipped);
        if (import->refused > 0)
                (void)printf(", %u refused", import->refused);
        (void)puts(".");
        return fflush(stdout) == 0 ? code : EXIT_FAILED;
}

enum exit_code firmware_import_archive(struct client *client, struct bus *bus, const char *path, const char *name, const char *version,
                                       json_t *archive)
{
        _cleanup_json_ json_t *images = client->json ? json_array() : NULL, *stolen = archive;
        struct import import = { .client = client, .bus = bus, .version = version, .stable = -1, .images = images, .archive = stolen };

        import_archive(&import, path, name);
        return import.stop == EXIT_NO_DAEMON && client->json ? import.stop : sum_up(&import, client->json);
}

enum exit_code verb_firmware_import(struct client *client, int argc, char **argv)
{
        enum { BOARD = OPTION_FIRST_OWN, PARTITION, IMPORT_VERSION, STABLE, DEVELOPMENT, YES };
        static const struct option options[] = {
                { "board", required_argument, NULL, BOARD },
                { "partition", required_argument, NULL, PARTITION },
                { "version", required_argument, NULL, IMPORT_VERSION },
                { "stable", no_argument, NULL, STABLE },
                { "development", no_argument, NULL, DEVELOPMENT },
                { "yes", no_argument, NULL, YES },
                CLIENT_COMMON_OPTIONS
        };
        struct import import = { .client = client, .stable = -1 };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        _cleanup_json_ json_t *images = NULL;
        char version[IMAGE_VERSION_SIZE];
        enum exit_code code;
        struct ide ide;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
                switch (option) {
                case BOARD:
                        import.board = optarg;
                        break;
                case PARTITION:
                        import.partition = optarg;
                        break;
                case IMPORT_VERSION:
                        if (image_version(optarg, version) < 0)
                                return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is no version.", optarg);
                        import.version = version;
                        break;
                case STABLE:
                case DEVELOPMENT:
                        import.stable = option == STABLE;
                        break;
                case YES:
                        import.yes = true;
                        break;
                default:
                        if (client_common_option(client, option, &code) > 0)
                                return code;
                }
        }
        code = client_needs_descriptors(client, "firmware import");
        if (code == EXIT_DONE)
                code = bus_connect(client, &bus);
        if (code != EXIT_DONE)
                return code;
        import.bus = bus;
        import.images = images = client->json ? json_array() : NULL;
        if (optind == argc) {
                find_ide(&ide);
                code = import_ide(&import, &ide);
                if (code != EXIT_DONE)
                        return code;
        }
        for (int i = optind; i < argc && import.stop == EXIT_DONE; i++)
                import_named(&import, argv[i]);
        /* The bus went away in the middle: that was reported, and is the answer. */
        return import.stop == EXIT_NO_DAEMON && client->json ? import.stop : sum_up(&import, client->json);
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue firmware fetch: a release of OpenMV's firmware, from its public
 * releases or a mirror of them, imported as if it had been named.  Releases are
 * not signed: the digest of each archive is kept, and one that has changed since
 * is refused.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <gcrypt.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/download.h"
#include "client/firmware.h"
#include "client/image-name.h"
#include "client/json.h"

#define RELEASES "https://github.com/openmv/openmv"
#define ARCHIVE_MAX ((size_t)256 << 20)         /* releases have some 30 MiB */
#define PAGE_MAX ((size_t)4 << 20)
#define PAGE_SECONDS 60
#define ARCHIVE_SECONDS 900
#define ARCHIVE_SECONDS_MAX 86400
#define VERSIONS_MAX 12
#define DIGEST_TEXT (7 + 64 + 1)                /* "sha256:..." */

struct fetch {
        struct client *client;
        const char *base;               /* without a slash at its end */
        char version[IMAGE_VERSION_SIZE];
        char *url;
        unsigned seconds;
        bool accept_change;
};

/* --- which version --- */

/* ".../releases/tag/v4.8.1" -> "4.8.1" */
static int version_of_tag(const char *url, char version[static IMAGE_VERSION_SIZE])
{
        const char *tag = strstr(url, "/releases/tag/");
        char text[IMAGE_VERSION_SIZE];
        size_t n;

        if (!tag)
                return -EINVAL;
        tag += strlen("/releases/tag/");
        n = strcspn(tag, "\"/?#<> ");
        if (n == 0 || n >= sizeof(text))
                return -EINVAL;
        memcpy(text, tag, n);
        text[n] = '\0';
        if (image_version(text, version) < 0 || !image_version_is_stable(version))
                return -EINVAL;
        return 0;
}

static enum exit_code find_newest(struct fetch *fetch)
{
        _cleanup_(download_clear) struct download page = { .fd = -1, .max = PAGE_MAX, .seconds = PAGE_SECONDS };
        _cleanup_free_ char *url = NULL;

        if (asprintf(&url, "%s/releases/latest", fetch->base) < 0) {
                url = NULL;
                return client_fail(fetch->client, EXIT_FAILED, "Out of memory.");
        }
        page.url = url;
        if (download_run(&page) < 0)
                return client_fail(fetch->client, EXIT_FAILED, "Cannot find out the newest release at %s: %s.", url, page.error);
        if (!page.redirect || version_of_tag(page.redirect, fetch->version) < 0)
                return client_fail(fetch->client, EXIT_FAILED, "%s does not say which release is the newest: name a version.", url);
        return EXIT_DONE;
}

/* Those that the feed of releases names, newest first; "" when it cannot be had. */
static void list_versions(const struct fetch *fetch, char *list, size_t size)
{
        _cleanup_(download_clear) struct download page = { .fd = -1, .max = PAGE_MAX, .seconds = PAGE_SECONDS, .follow = true };
        _cleanup_free_ char *url = NULL, *text = NULL;
        char version[IMAGE_VERSION_SIZE], last[IMAGE_VERSION_SIZE] = "";
        size_t used = 0, n = 0;
        ssize_t got;

        list[0] = '\0';
        if (asprintf(&url, "%s/releases.atom", fetch->base) < 0) {
                url = NULL;
                return;
        }
        page.url = url;
        if (download_run(&page) < 0 || !(text = malloc(page.size + 1)))
                return;
        got = pread(page.fd, text, page.size, 0);
        if (got < 0)
                return;
        text[got] = '\0';
        for (const char *p = text; (p = strstr(p, "/releases/tag/")) && n < VERSIONS_MAX; p++) {
                int added;

                if (version_of_tag(p, version) < 0 || strcmp(version, last) == 0)
                        continue;
                added = snprintf(list + used, size - used, "%s%s", used ? ", " : "", version);
                if (added < 0 || (size_t)added >= size - used)
                        return;
                used += (size_t)added;
                n++;
                memcpy(last, version, sizeof(last));
        }
}

/* --- digests --- */

/* libgcrypt comes with libsystemd, and is loaded only here. */
static int digest_of_file(int fd, size_t size, char text[static DIGEST_TEXT])
{
        __typeof__(gcry_check_version) *check_version;
        __typeof__(gcry_md_hash_buffer) *hash_buffer;
        unsigned char digest[32];
        void *library, *data;
        int r = -ENOPKG;

        if (size == 0)
                return -ENODATA;
        library = dlopen("libgcrypt.so.20", RTLD_NOW | RTLD_LOCAL);
        if (!library)
                return -ENOPKG;
        check_version = dlsym(library, "gcry_check_version");
        hash_buffer = dlsym(library, "gcry_md_hash_buffer");
        if (check_version && hash_buffer && check_version(NULL)) {
                data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
                r = data == MAP_FAILED ? -errno : 0;
                if (r >= 0) {
                        hash_buffer(GCRY_MD_SHA256, digest, data, size);
                        (void)munmap(data, size);
                }
        }
        (void)dlclose(library);
        if (r < 0)
                return r;
        (void)snprintf(text, DIGEST_TEXT, "sha256:");
        for (size_t i = 0; i < sizeof(digest); i++)
                (void)snprintf(text + 7 + 2 * i, 3, "%02x", digest[i]);
        return 0;
}

/* Where digests are kept: one line each, "sha256:... URL". */
static char *digests_path(bool make)
{
        const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
        char *path = NULL;

        if (state && *state == '/') {
                if (asprintf(&path, "%s/camrescue/fetched", state) < 0)
                        return NULL;
        } else if (home && *home == '/') {
                if (asprintf(&path, "%s/.local/state/camrescue/fetched", home) < 0)
                        return NULL;
        }
        for (char *slash = path ? strchr(path + 1, '/') : NULL; make && slash; slash = strchr(slash + 1, '/')) {
                *slash = '\0';
                (void)mkdir(path, 0700);
                *slash = '/';
        }
        return path;
}

/* The last one kept of this address; "" none. */
static void known_digest(const char *url, char text[static DIGEST_TEXT])
{
        _cleanup_free_ char *path = digests_path(/* make= */ false), *line = NULL;
        _cleanup_fclose_ FILE *f = path ? fopen(path, "re") : NULL;
        size_t size = 0;

        text[0] = '\0';
        while (f && getline(&line, &size, f) > 0) {
                line[strcspn(line, "\n")] = '\0';
                if (strlen(line) > DIGEST_TEXT && line[DIGEST_TEXT - 1] == ' ' && strcmp(line + DIGEST_TEXT, url) == 0) {
                        line[DIGEST_TEXT - 1] = '\0';
                        memcpy(text, line, DIGEST_TEXT);
                }
        }
}

static void keep_digest(const struct client *client, const char *url, const char *digest)
{
        _cleanup_free_ char *path = digests_path(/* make= */ true);
        FILE *f = path ? fopen(path, "ae") : NULL;
        bool kept = f && fprintf(f, "%s %s\n", digest, url) > 0;

        if ((f && fclose(f) != 0) || !kept)
                client_note(client, "The digest cannot be kept%s%s: %s.", path ? " in " : "", path ? path : "",
                            path ? strerror(errno) : "there is no home directory");
}

/* --- the archive --- */

static enum exit_code get_archive(struct fetch *fetch, struct download *archive)
{
        char versions[512];
        int r;

        if (asprintf(&fetch->url, "%s/releases/download/v%s/firmware_v%s.zip", fetch->base, fetch->version, fetch->version) < 0) {
                fetch->url = NULL;
                return client_fail(fetch->client, EXIT_FAILED, "Out of memory.");
        }
        *archive = (struct download){ .url = fetch->url, .fd = -1, .max = ARCHIVE_MAX, .seconds = fetch->seconds, .follow = true,
                                      .show_progress = !fetch->client->json && fetch->client->out.moves && isatty(STDERR_FILENO) };
        r = download_run(archive);
        if (r >= 0)
                return EXIT_DONE;
        if (r != -ENOENT)
                return client_fail(fetch->client, EXIT_FAILED, "Cannot fetch %s: %s. Nothing was imported.", fetch->url, archive->error);
        list_versions(fetch, versions, sizeof(versions));
        return client_fail_image(fetch->client, "There is no release %s at %s. %s%s%s", fetch->version, fetch->base,
                                 *versions ? "There are " : "See ", *versions ? versions : fetch->base, *versions ? "." : "/releases");
}

static enum exit_code import(struct fetch *fetch, struct bus *bus, const struct download *archive)
{
        char digest[DIGEST_TEXT], known[DIGEST_TEXT], path[64], name[64];
        json_t *json = NULL;
        enum exit_code code;
        int r = digest_of_file(archive->fd, archive->size, digest);

        if (r < 0)
                return client_fail(fetch->client, EXIT_FAILED, "%s: %s.", fetch->url,
                                   r == -ENODATA ? "an empty answer" : r == -ENOPKG ? "libgcrypt.so.20 is not installed" : strerror(-r));
        known_digest(fetch->url, known);
        if (*known && strcmp(known, digest) != 0 && !fetch->accept_change)
                return client_fail(fetch->client, EXIT_REFUSED, "%s has changed: it was %s, and is %s now. A release does not change by "
                                   "itself. If you know why it did: --accept-change.", fetch->url, known, digest);
        if (fetch->client->json)
                json = json_pack("{so so sI so sb}", "url", json_text(fetch->url), "version", json_text(fetch->version),
                                 "size", (json_int_t)archive->size, "digest", json_text(digest), "known", strcmp(known, digest) == 0);
        else
                (void)printf("%s %.1f MiB\n%s%s\n", fetch->url, (double)archive->size / (1 << 20), digest,
                             strcmp(known, digest) == 0 ? " (as before)" : "");
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", archive->fd);
        (void)snprintf(name, sizeof(name), "firmware_v%s.zip", fetch->version);
        code = firmware_import_archive(fetch->client, bus, path, name, fetch->version, json);
        if (code == EXIT_DONE && strcmp(known, digest) != 0)
                keep_digest(fetch->client, fetch->url, digest);
        return code;
}

static enum exit_code run(struct fetch *fetch)
{
        _cleanup_(download_clear) struct download archive = { .fd = -1 };
        _cleanup_(firmware_list_clear) struct firmware_list list = { .n = 0 };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        enum exit_code code;

        /* Before so much is loaded: is there somebody to give it to? */
        code = bus_connect(fetch->client, &bus);
        if (code == EXIT_DONE)
                code = firmware_fetch(fetch->client, bus, &list);
        if (code == EXIT_DONE && !*fetch->version)
                code = find_newest(fetch);
        if (code == EXIT_DONE)
                code = get_archive(fetch, &archive);
        return code == EXIT_DONE ? import(fetch, bus, &archive) : code;
}

enum exit_code verb_firmware_fetch(struct client *client, int argc, char **argv)
{
        enum { FROM = OPTION_FIRST_OWN, TIMEOUT, ACCEPT_CHANGE };
        static const struct option options[] = {
                { "from", required_argument, NULL, FROM },
                { "timeout", required_argument, NULL, TIMEOUT },
                { "accept-change", no_argument, NULL, ACCEPT_CHANGE },
                CLIENT_COMMON_OPTIONS
        };
        const char *from = getenv("CAMRESCUE_FIRMWARE_URL");
        struct fetch fetch = { .client = client, .seconds = ARCHIVE_SECONDS };
        _cleanup_free_ char *base = NULL;
        unsigned long long timeout;
        enum exit_code code;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
                switch (option) {
                case FROM:
                        from = optarg;
                        break;
                case TIMEOUT:
                        code = client_seconds(client, optarg, 1, ARCHIVE_SECONDS_MAX, &timeout);
                        if (code != EXIT_DONE)
                                return code;
                        fetch.seconds = (unsigned)(timeout / 1000000);
                        break;
                case ACCEPT_CHANGE:
                        fetch.accept_change = true;
                        break;
                default:
                        if (client_common_option(client, option, &code) > 0)
                                return code;
                }
        }
        if (argc - optind > 1)
                return client_fail(client, EXIT_WRONG_USAGE, "One version at a time: see camrescue firmware --help.");
        if (optind < argc && (image_version(argv[optind], fetch.version) < 0 || !image_version_is_stable(fetch.version)))
                return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is no release like 4.8.1. (Development builds come as one archive per "
                                   "board: load that, and camrescue firmware import it.)", argv[optind]);
        code = client_needs_descriptors(client, "firmware fetch");
        if (code != EXIT_DONE)
                return code;
        base = strdup(from && *from ? from : RELEASES);
        if (!base)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        while (*base && base[strlen(base) - 1] == '/')
                base[strlen(base) - 1] = '\0';
        if (strncmp(base, "https://", 8) != 0 && strncmp(base, "http://", 7) != 0)
                return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is no address of releases: https://...", base);
        fetch.base = base;
        code = run(&fetch);
        free(fetch.url);
        return code;
}

/* SPDX-License-Identifier: MIT */
/*
 * In place of the IDE's dfu-util: see dfu-install.h.
 *
 * OpenMV IDE has <resources>/dfu-util/{linux32,linux64,arm,aarch64}/dfu-util and runs the one for its processor.
 */

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/dfu-install.h"

#define DEPTH_MAX 6
#define PLACES_MAX 32
#define PROGRAM_MAX (64 << 20)
#define OUR_NAME "camrescue-dfu-util"

enum place_kind {
        PLACE_THEIRS,                   /* a dfu-util, as the IDE brought it */
        PLACE_OURS,                     /* a link to us, and theirs is beside it */
        PLACE_OTHERS,                   /* the same, to one of us that stands, or stood, elsewhere */
};

struct place {
        char *directory;
        enum place_kind kind;
};

struct places {
        const char *program;
        struct place places[PLACES_MAX];
        size_t n;
};

static void places_clear(struct places *places)
{
        for (size_t i = 0; i < places->n; i++)
                free(places->places[i].directory);
        places->n = 0;
}

static bool is_platform(const char *name)
{
        static const char *const names[] = { "linux32", "linux64", "arm", "aarch64" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (strcmp(name, names[i]) == 0)
                        return true;
        return false;
}

/* A program of this kind of system that calls itself dfu-util. */
static bool looks_like_dfu_util(int directory, const char *name)
{
        _cleanup_close_ int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        _cleanup_free_ char *bytes = NULL;
        struct stat st;
        size_t size = 0;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111) || st.st_size < 64 || st.st_size > PROGRAM_MAX)
                return false;
        bytes = malloc((size_t)st.st_size);
        if (!bytes)
                return false;
        while (size < (size_t)st.st_size && (n = read(fd, bytes + size, (size_t)st.st_size - size)) > 0)
                size += (size_t)n;
        return size > SELFMAG && memcmp(bytes, ELFMAG, SELFMAG) == 0 && memmem(bytes, size, "dfu-util", 8) != NULL;
}

/* Whether it is there does not matter: it may have been removed, or built anew elsewhere. */
static bool is_link_to_us(int directory, const char *name, const char *program, enum place_kind *ret)
{
        char target[4096];
        ssize_t n = readlinkat(directory, name, target, sizeof(target) - 1);
        const char *base;

        if (n < 0)
                return false;
        target[n] = '\0';
        base = strrchr(target, '/');
        *ret = strcmp(target, program) == 0 ? PLACE_OURS : PLACE_OTHERS;
        return *ret == PLACE_OURS || strcmp(base ? base + 1 : target, OUR_NAME) == 0;
}

/* What stands in PLATFORM/dfu-util.  -ENOENT: nothing; -EINVAL: something else, reported. */
static int look_at(struct places *places, int fd, const char *path)
{
        struct stat st;
        struct place *place;
        enum place_kind kind;

        if (fstatat(fd, "dfu-util", &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -ENOENT;
        if (looks_like_dfu_util(fd, "dfu-util"))
                kind = PLACE_THEIRS;
        else if (!is_link_to_us(fd, "dfu-util", places->program, &kind) || !looks_like_dfu_util(fd, DFU_INSTALL_ASIDE)) {
                (void)fprintf(stderr, "camrescue-dfu-util: %s/dfu-util does not look like a dfu-util: nothing was changed.\n", path);
                return -EINVAL;
        }
        if (places->n == PLACES_MAX) {
                (void)fprintf(stderr, "camrescue-dfu-util: there are more than %d in this directory: name a smaller one.\n", PLACES_MAX);
                return -E2BIG;
        }
        place = &places->places[places->n];
        place->kind = kind;
        place->directory = strdup(path);
        if (!place->directory)
                return -ENOMEM;
        places->n++;
        return 0;
}

/* Of a folder "dfu-util" its platforms are looked at, in all others it is looked for.  Links are not followed. */
static int look_for(struct places *places, int parent, const char *name, const char *path, unsigned depth)
{
        const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
        bool inside = strcmp(base, "dfu-util") == 0;
        int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (depth > 0 ? O_NOFOLLOW : 0)), r = 0;
        struct dirent *entry;
        DIR *directory;

        if (fd < 0)
                return depth > 0 ? 0 : -errno;
        directory = fdopendir(fd);
        if (!directory) {
                (void)close(fd);
                return -ENOMEM;
        }
        if (is_platform(base) && (r = look_at(places, fd, path)) == -ENOENT)
                r = 0;
        while (r >= 0 && depth < DEPTH_MAX && (entry = readdir(directory))) {
                _cleanup_free_ char *below = NULL;

                if (entry->d_name[0] == '.' || (entry->d_type != DT_DIR && entry->d_type != DT_UNKNOWN) ||
                    (inside && !is_platform(entry->d_name)) || (!inside && is_platform(entry->d_name)))
                        continue;
                if (asprintf(&below, "%s/%s", path, entry->d_name) < 0)
                        r = -ENOMEM;
                else
                        r = look_for(places, fd, entry->d_name, below, depth + 1);
        }
        (void)closedir(directory);
        return r;
}

static int find_all(const char *directory, const char *program, struct places *places)
{
        _cleanup_free_ char *path = realpath(directory, NULL);
        int r;

        *places = (struct places){ .program = program };
        r = path ? look_for(places, AT_FDCWD, path, path, 0) : -errno;
        if (r >= 0 && places->n == 0)
                r = -ENOENT;
        if (r == -ENOENT)
                (void)fprintf(stderr, "camrescue-dfu-util: there is no dfu-util/PLATFORM/dfu-util in %s.\n", directory);
        else if (r < 0 && r != -EINVAL && r != -E2BIG)
                (void)fprintf(stderr, "camrescue-dfu-util: %s: %s.\n", directory, strerror(-r));
        if (r < 0)
                places_clear(places);
        return r;
}

/* Theirs gets a second name, if it has not got it, and the link takes the first one: at no time is there none. */
static int install_one(const char *directory, const char *program, bool theirs)
{
        static const char new_link[] = ".dfu-util.camrescue-new";
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r = 0;

        if (fd < 0)
                return -errno;
        (void)unlinkat(fd, new_link, 0);        /* of one that was interrupted */
        if (symlinkat(program, fd, new_link) < 0)
                return -errno;
        /* An older one beside it is of an IDE that has brought a new one since. */
        if (theirs && unlinkat(fd, DFU_INSTALL_ASIDE, 0) < 0 && errno != ENOENT)
                r = -errno;
        if (r >= 0 && theirs && linkat(fd, "dfu-util", fd, DFU_INSTALL_ASIDE, 0) < 0)
                r = -errno;
        if (r >= 0 && renameat(fd, new_link, fd, "dfu-util") < 0)
                r = -errno;
        if (r < 0)
                (void)unlinkat(fd, new_link, 0);
        return r;
}

static int uninstall_one(const char *directory)
{
        _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || renameat(fd, DFU_INSTALL_ASIDE, fd, "dfu-util") < 0)
                return -errno;
        return 0;
}

static int change_all(const char *directory, const char *program, FILE *to, bool install)
{
        struct places places;
        int r = find_all(directory, program, &places), n = 0;

        for (size_t i = 0; r >= 0 && i < places.n; i++) {
                const struct place *place = &places.places[i];
                bool already = place->kind == (install ? PLACE_OURS : PLACE_THEIRS);

                if (!already)
                        r = install ? install_one(place->directory, program, place->kind == PLACE_THEIRS) : uninstall_one(place->directory);
                if (r < 0)
                        (void)fprintf(stderr, "camrescue-dfu-util: %s/dfu-util: %s.\n", place->directory, strerror(-r));
                else if (install)
                        (void)fprintf(to, "%s/dfu-util %s %s; the IDE's own is %s beside it\n", place->directory,
                                      already ? "is already" : "is now", program, DFU_INSTALL_ASIDE);
                else
                        (void)fprintf(to, "%s/dfu-util %s the IDE's own\n", place->directory, already ? "is" : "is again");
                n++;
        }
        places_clear(&places);
        return r < 0 ? r : n;
}

int dfu_install(const char *directory, const char *program, FILE *to)
{
        return change_all(directory, program, to, /* install= */ true);
}

int dfu_uninstall(const char *directory, const char *program, FILE *to)
{
        return change_all(directory, program, to, /* install= */ false);
}

/* SPDX-License-Identifier: MIT */
/*
 * Reading zip archives.  The sizes in an archive are claims: memory is given
 * for what really comes out, up to the limit.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <unzip.h>

#include "base/cleanup.h"
#include "client/zip.h"

#define MEMBERS_MAX 10000

struct minizip {
        void *library;
        __typeof__(unzOpen64) *open;
        __typeof__(unzClose) *close;
        __typeof__(unzGoToFirstFile) *first;
        __typeof__(unzGoToNextFile) *next;
        __typeof__(unzGetCurrentFileInfo64) *info;
        __typeof__(unzOpenCurrentFile) *open_member;
        __typeof__(unzReadCurrentFile) *read_member;
        __typeof__(unzCloseCurrentFile) *close_member;
};

static int minizip_load(struct minizip *z)
{
        z->library = dlopen("libminizip.so.1", RTLD_NOW | RTLD_LOCAL);
        if (!z->library)
                return -ENOPKG;
        z->open = dlsym(z->library, "unzOpen64");
        z->close = dlsym(z->library, "unzClose");
        z->first = dlsym(z->library, "unzGoToFirstFile");
        z->next = dlsym(z->library, "unzGoToNextFile");
        z->info = dlsym(z->library, "unzGetCurrentFileInfo64");
        z->open_member = dlsym(z->library, "unzOpenCurrentFile");
        z->read_member = dlsym(z->library, "unzReadCurrentFile");
        z->close_member = dlsym(z->library, "unzCloseCurrentFile");
        if (z->open && z->close && z->first && z->next && z->info && z->open_member && z->read_member && z->close_member)
                return 0;
        (void)dlclose(z->library);
        return -ENOPKG;
}

static int read_member(const struct minizip *z, unzFile zip, size_t max, char **ret, size_t *ret_size)
{
        _cleanup_free_ char *data = NULL;
        size_t size = 0, room = 0;

        if (z->open_member(zip) != UNZ_OK)
                return -EBADMSG;
        for (;;) {
                int n;

                if (size == room) {
                        char *larger = realloc(data, room ? 2 * room : 256 * 1024);

                        if (!larger) {
                                (void)z->close_member(zip);
                                return -ENOMEM;
                        }
                        data = larger;
                        room = room ? 2 * room : 256 * 1024;
                }
                n = z->read_member(zip, data + size, (unsigned)(room - size));
                if (n < 0 || size + (size_t)n > max) {
                        (void)z->close_member(zip);
                        return n < 0 ? -EBADMSG : -EFBIG;
                }
                if (n == 0)
                        break;
                size += (size_t)n;
        }
        /* This one checks the CRC. */
        if (z->close_member(zip) != UNZ_OK)
                return -EBADMSG;
        *ret = take_ptr(data);
        *ret_size = size;
        return 0;
}

static int each_member(const struct minizip *z, unzFile zip, size_t max, zip_wanted_fn wanted, zip_member_fn fn, void *userdata)
{
        unsigned members = 0;
        int status, r;

        for (status = z->first(zip); status == UNZ_OK; status = z->next(zip)) {
                _cleanup_free_ char *data = NULL;
                char name[1024];
                size_t size;

                if (++members > MEMBERS_MAX || z->info(zip, NULL, name, sizeof(name) - 1, NULL, 0, NULL, 0) != UNZ_OK)
                        return -EBADMSG;
                name[sizeof(name) - 1] = '\0';
                if (!wanted(userdata, name))
                        continue;
                r = read_member(z, zip, max, &data, &size);
                if (r >= 0)
                        r = fn(userdata, name, data, size);
                if (r < 0)
                        return r;
        }
        return status == UNZ_END_OF_LIST_OF_FILE ? 0 : -EBADMSG;
}

int zip_each(const char *path, size_t max, zip_wanted_fn wanted, zip_member_fn fn, void *userdata)
{
        struct minizip z;
        unzFile zip;
        int r;

        if (access(path, R_OK) < 0)
                return -errno;
        r = minizip_load(&z);
        if (r < 0)
                return r;
        zip = z.open(path);
        r = zip ? each_member(&z, zip, max, wanted, fn, userdata) : -EBADMSG;
        if (zip)
                (void)z.close(zip);
        (void)dlclose(z.library);
        return r;
}

const char *zip_problem(int error)
{
        switch (-error) {
        case ENOPKG:
                return "the library that reads archives (minizip, libminizip.so.1) is not installed; "
                       "install it, or unpack the archive and import the folder";
        case EBADMSG:
                return "not a zip archive, or a damaged one";
        case EFBIG:
                return "an image in it is larger than 64 MiB";
        default:
                return strerror(-error);
        }
}

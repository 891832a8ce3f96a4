/* SPDX-License-Identifier: MIT */
/* DFU devices that are no cameras of the daemon's: see dfu-foreign.h. */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/dfu-device.h"
#include "client/dfu-foreign.h"
#include "client/dfu-install.h"

#define FOREIGN_MAX 16

/* NULL: this one has nobody's place, or is by mistake in its own. */
static char *find_theirs(const char *argv0)
{
        const char *slash = strrchr(argv0, '/');
        char *path;

        if (!slash || strcmp(slash + 1, DFU_INSTALL_ASIDE) == 0 ||
            asprintf(&path, "%.*s/%s", (int)(slash - argv0), argv0, DFU_INSTALL_ASIDE) < 0)
                return NULL;
        if (access(path, X_OK) == 0)
                return path;
        free(path);
        return NULL;
}

int dfu_foreign_become(char **argv)
{
        _cleanup_free_ char *theirs = find_theirs(argv[0]);

        if (!theirs)
                return -ENOENT;
        argv[0] = theirs;
        (void)execv(theirs, argv);
        return -errno;
}

/* Its id is named to it, so that it opens nothing else. */
static void list_one(char *theirs, const struct dfu_options *options, const struct dfu_id *id, FILE *to)
{
        char device[16], number[16];
        char *argv[10] = { theirs, (char *)"-l", (char *)"-d", device };
        _cleanup_free_ char *line = NULL;
        size_t n = 4, size = 0;
        FILE *from = NULL;
        int fds[2];
        pid_t pid;

        (void)snprintf(device, sizeof(device), ",%04x:%04x", id->vendor, id->product);
        (void)snprintf(number, sizeof(number), "%ld", options->devnum);
        if (options->serial) {
                argv[n++] = (char *)"-S";
                argv[n++] = (char *)options->serial;
        }
        if (options->path) {
                argv[n++] = (char *)"-p";
                argv[n++] = (char *)options->path;
        }
        if (options->devnum >= 0) {
                argv[n++] = (char *)"-n";
                argv[n++] = number;
        }
        argv[n] = NULL;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return;
        pid = fork();
        if (pid == 0) {
                if (dup2(fds[1], STDOUT_FILENO) >= 0)
                        (void)execv(theirs, argv);
                _exit(127);
        }
        (void)close(fds[1]);
        if (pid < 0 || !(from = fdopen(fds[0], "r")))
                (void)close(fds[0]);
        while (from && getline(&line, &size, from) >= 0)
                if (strncmp(line, "Found DFU: ", 11) == 0)
                        (void)fputs(line, to);
        if (from)
                (void)fclose(from);
        if (pid > 0)
                (void)waitpid(pid, NULL, 0);
}

void dfu_foreign_list(const char *argv0, const struct dfu_options *options, const struct board_list *boards, FILE *to)
{
        struct dfu_id ids[FOREIGN_MAX];
        size_t n = options->has_id ? 0 : dfu_find_foreign(boards, ids, ELEMENTSOF(ids));
        _cleanup_free_ char *theirs = n > 0 ? find_theirs(argv0) : NULL;

        (void)fflush(to);
        for (size_t i = 0; theirs && i < n; i++)
                list_one(theirs, options, &ids[i], to);
}

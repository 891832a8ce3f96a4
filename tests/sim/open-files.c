/* SPDX-License-Identifier: MIT */

/* See open-files.h. */

#include "sim/open-files.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned open_files_of(int process, const char *path, const struct stat *wanted)
{
        char name[32], target[64];
        struct stat status;
        struct dirent *file;
        unsigned count = 0;
        DIR *files;

        (void)snprintf(name, sizeof(name), "/proc/%d/fd", process);
        files = opendir(name);
        while (files && (file = readdir(files))) {
                ssize_t n = readlinkat(dirfd(files), file->d_name, target, sizeof(target) - 1);

                if (n <= 0)
                        continue;
                target[n] = '\0';
                /* (Not asked of any other: it may be a file of ours, and the answer be for us to give.) */
                count += strcmp(target, path) == 0 && fstatat(dirfd(files), file->d_name, &status, 0) == 0 && status.st_dev == wanted->st_dev &&
                         status.st_ino == wanted->st_ino;
        }
        if (files)
                (void)closedir(files);
        return count;
}

unsigned open_files(const char *path)
{
        DIR *processes = opendir("/proc");
        struct dirent *process;
        struct stat wanted;
        unsigned count = 0;

        if (stat(path, &wanted) < 0)
                wanted = (struct stat){};
        while (processes && (process = readdir(processes)))
                if (atoi(process->d_name) > 0 && atoi(process->d_name) != (int)getpid())
                        count += open_files_of(atoi(process->d_name), path, &wanted);
        if (processes)
                (void)closedir(processes);
        return count;
}

void hear_openings(int inotify, opening_fn on_opening, void *userdata)
{
        char bytes[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
        ssize_t n;

        while ((n = read(inotify, bytes, sizeof(bytes))) > 0)
                for (const char *p = bytes; p < bytes + n;) {
                        const struct inotify_event *event = (const struct inotify_event *)p;

                        on_opening(userdata, event->wd, event->mask);
                        p += sizeof(*event) + event->len;
                }
}

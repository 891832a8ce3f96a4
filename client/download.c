/* SPDX-License-Identifier: MIT */
/*
 * Getting something from the network.  curl writes into a memory file: nothing
 * is left behind however it ends.  The size is bounded by the kernel as well,
 * since a server need not say how long its answer is.
 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/download.h"

#define WORDS_MAX 4096
#define MARK "\ncamrescue-status "
#define CURL_WRITE_ERROR 23
#define CURL_TOO_LARGE 63

static int fail(struct download *download, const char *format, ...) _printf_(2, 3);
static int fail(struct download *download, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&download->error, format, ap) < 0)
                download->error = NULL;
        va_end(ap);
        return -EIO;
}

/* In the child.  A plain address is as safe as the person who gave it; a redirection must not lead away from TLS. */
static void run_curl(const struct download *download, int words)
{
        const struct rlimit limit = { download->max, download->max };
        bool plain = strncmp(download->url, "http://", 7) == 0;
        char seconds[16], max[32];
        const char *argv[40];
        size_t n = 0;

        (void)snprintf(seconds, sizeof(seconds), "%u", download->seconds);
        (void)snprintf(max, sizeof(max), "%zu", download->max);
        argv[n++] = "curl";
        argv[n++] = "-q";                       /* first: no configuration file says otherwise */
        argv[n++] = "--silent";
        argv[n++] = "--show-error";
        argv[n++] = "--fail";
        argv[n++] = "--proto";
        argv[n++] = plain ? "=http,https" : "=https";
        argv[n++] = "--connect-timeout";
        argv[n++] = "20";
        argv[n++] = "--max-time";
        argv[n++] = seconds;
        argv[n++] = "--speed-limit";            /* less than this for so long is a connection that is dead */
        argv[n++] = "1000";
        argv[n++] = "--speed-time";
        argv[n++] = "30";
        argv[n++] = "--max-filesize";
        argv[n++] = max;
        argv[n++] = "--user-agent";
        argv[n++] = "camrescue/" PACKAGE_VERSION;
        argv[n++] = "--write-out";
        argv[n++] = "%{stderr}" MARK "%{http_code} %{redirect_url}\n";
        if (download->follow) {
                argv[n++] = "--location";
                argv[n++] = "--max-redirs";
                argv[n++] = "5";
        }
        argv[n++] = "--";
        argv[n++] = download->url;
        argv[n] = NULL;
        if (dup2(download->fd, STDOUT_FILENO) < 0 || dup2(words, STDERR_FILENO) < 0 || setrlimit(RLIMIT_FSIZE, &limit) < 0)
                _exit(126);
        /* Then writing more is an error, and not the end of the program. */
        (void)signal(SIGXFSZ, SIG_IGN);
        (void)execvp("curl", (char *const *)argv);
        _exit(errno == ENOENT ? 127 : 126);
}

static void show_progress(const struct download *download, bool last)
{
        struct stat st;

        if (!download->show_progress || fstat(download->fd, &st) < 0)
                return;
        (void)fprintf(stderr, last ? "\r\033[K" : "\r%.1f MiB\033[K", (double)st.st_size / (1 << 20));
        (void)fflush(stderr);
}

/* All that curl says. */
static void read_words(const struct download *download, int fd, char words[static WORDS_MAX])
{
        size_t n = 0;

        for (;;) {
                struct pollfd p = { .fd = fd, .events = POLLIN };
                char rest[256];
                ssize_t got;

                if (poll(&p, 1, download->show_progress ? 250 : -1) == 0) {
                        show_progress(download, /* last= */ false);
                        continue;
                }
                got = n < WORDS_MAX - 1 ? read(fd, words + n, WORDS_MAX - 1 - n) : read(fd, rest, sizeof(rest));
                if (got < 0 && errno == EINTR)
                        continue;
                if (got <= 0)
                        break;
                if (n < WORDS_MAX - 1)
                        n += (size_t)got;
        }
        words[n] = '\0';
        show_progress(download, /* last= */ true);
}

/* "curl: (6) Could not resolve host: x" -> "Could not resolve host: x" */
static const char *reason(char *words)
{
        char *end = strpbrk(words, "\r\n"), *begin;

        if (end)
                *end = '\0';
        begin = strncmp(words, "curl: (", 7) == 0 ? strstr(words, ") ") : NULL;
        return begin ? begin + 2 : words;
}

static int judge(struct download *download, int status, char *words)
{
        char *mark = strstr(words, MARK), *end;
        struct stat st;

        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                return fail(download, "the program curl is not installed");
        if (mark) {
                *mark = '\0';
                mark += sizeof(MARK) - 1;
                download->status = (unsigned)strtoul(mark, &end, 10);
                end += *end == ' ';
                end[strcspn(end, "\r\n")] = '\0';
                if (*end && !(download->redirect = strdup(end)))
                        return fail(download, "out of memory");
        }
        if (!WIFEXITED(status))
                return fail(download, "curl was ended by signal %d", WTERMSIG(status));
        if (WEXITSTATUS(status) == CURL_TOO_LARGE ||
            (WEXITSTATUS(status) == CURL_WRITE_ERROR && fstat(download->fd, &st) == 0 && (size_t)st.st_size >= download->max))
                return fail(download, "it is larger than %zu MiB", download->max >> 20);
        if (download->status == 404 || download->status == 410) {
                (void)fail(download, "it is not there (HTTP %u)", download->status);
                return -ENOENT;
        }
        if (WEXITSTATUS(status) != 0) {
                const char *why = reason(words);

                return *why ? fail(download, "%s", why) : fail(download, "curl ended with status %d", WEXITSTATUS(status));
        }
        if (fstat(download->fd, &st) < 0)
                return fail(download, "%s", strerror(errno));
        download->size = (size_t)st.st_size;
        return 0;
}

int download_run(struct download *download)
{
        char words[WORDS_MAX];
        int pipe_fds[2], status;
        pid_t pid;

        download->fd = memfd_create("camrescue-download", MFD_CLOEXEC);
        if (download->fd < 0)
                return fail(download, "%s", strerror(errno));
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return fail(download, "%s", strerror(errno));
        pid = fork();
        if (pid == 0)
                run_curl(download, pipe_fds[1]);
        (void)close(pipe_fds[1]);
        if (pid < 0) {
                (void)close(pipe_fds[0]);
                return fail(download, "%s", strerror(errno));
        }
        read_words(download, pipe_fds[0], words);
        (void)close(pipe_fds[0]);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return fail(download, "%s", strerror(errno));
        return judge(download, status, words);
}

void download_clear(struct download *download)
{
        if (download->fd >= 0)
                (void)close(download->fd);
        download->fd = -1;
        free(download->redirect);
        free(download->error);
        download->redirect = download->error = NULL;
}

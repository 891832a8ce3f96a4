/* SPDX-License-Identifier: MIT */

/*
 * camsim: a machine with simulated cameras, for one command and its children.
 *
 * Sets up the namespaces, runs the command in them, and takes commands of its
 * own (scenario.h) from a file, from standard input, and over a socket from
 * "camsim ctl".  When the command ends, or on quit, everything that was started inside is
 * ended too, and nothing is left behind.
 *
 * Invariant: whoever touches /dev/bus/usb is served until the last child is gone; so the
 * loop runs while children die.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "sim/child.h"
#include "sim/kernel-played.h"
#include "sim/namespace.h"
#include "sim/scenario.h"
#include "sim/vhci.h"
#include "sim/world.h"

#define EXIT_SKIP 77
#define STOP_PATIENCE (3 * SEC)
#define LINE_SIZE 16384

struct camsim;

/* Somebody who gives commands: standard input, the script, a client. */
struct session {
        struct camsim *camsim;
        int in, out;
        FILE *script;                   /* instead of in */
        unsigned line_number;
        struct io_watch watch;
        struct defer next;
        char *directory;
        char buffer[LINE_SIZE];
        size_t used;
        bool busy;                      /* a command has not been answered yet */
        bool ended;                     /* no more input */
        bool plain_file;                /* is always readable, and epoll will not have it */
        bool prompt;
        LIST_ENTRY(session) link;       /* in camsim->sessions */
};

struct camsim {
        struct loop *loop;
        struct world *world;
        struct scenario *scenario;
        LIST_HEAD(, session) sessions;
        char *socket_directory, *socket_path;
        int listener;
        struct io_watch listener_watch;
        char **command;
        pid_t child;
        bool stopping;
        bool started;                   /* the command, or that there is none */
        int exit_code;
        struct timer kill_timer;
        uint64_t stop_time;
};

static void stop(struct camsim *camsim, int code);

static void usage(FILE *f)
{
        (void)fputs(
                "Usage: camsim [OPTION...] [-- COMMAND [ARGUMENT...]]\n"
                "       camsim ctl [COMMAND [ARGUMENT...]]\n"
                "\n"
                "Runs COMMAND (your shell, if it has a terminal) on a machine with simulated OpenMV cameras:\n"
                "/dev/bus/usb, /sys and udev's events are its own.  Inside, lsusb, dfu-util and camrescued see\n"
                "the cameras that you plug in with \"camsim ctl\", and nothing else.  Nothing is changed outside.\n"
                "Without COMMAND and terminal, commands are read from standard input until its end.\n"
                "\n"
                "  -s, --script FILE    run these commands first; COMMAND starts at the line \"run\", or after the last line\n"
                "  -i, --interactive    read commands from standard input, with a prompt, and run no shell\n"
                "  -t, --trace FILE     write down every request, flash operation and event\n"
                "      --socket PATH    where \"camsim ctl\" finds it ($CAMSIM_SOCKET inside)\n"
                "      --vhci           no namespaces: attach the cameras to this machine's own kernel, by USB/IP.  For root\n"
                "                       in a virtual machine; what programs see then is the kernel's and udevd's\n"
                "      --keep-user-ns   never use a user namespace (needs root)\n"
                "      --user-ns        use one even as root\n"
                "  -h, --help           this\n"
                "\n"
                "camsim ctl sends one command, prints what it says, and fails if it fails; without a command, it reads\n"
                "them from standard input.  Exit status 77: no namespaces, no FUSE, or no vhci_hcd here.\n"
                "\n"
                "An example:\n"
                "  $ camsim\n"
                "  $ camsim ctl camera tom M7            # a healthy camera\n"
                "  $ camsim ctl firmware tom half        # whose update was interrupted\n"
                "  $ camsim ctl plug tom                 # shows its bootloader for 1.5 s, and then nothing\n"
                "  $ camsim ctl wait tom mode=silent\n"
                "  $ camsim ctl replug tom && camsim ctl wait tom mode=bootloader && dfu-util -l\n"
                "\n"
                "Commands (each is answered by lines of text, and then ok or error: and why):\n", f);
        scenario_help(f);
        (void)fputs("  run \n        In a script: COMMAND starts now, and the rest of the script runs beside it.\n"
                    "  quit \n        Ends COMMAND and everything.\n", f);
}

/* --- children --- */

/* Every process whose parent we are: as a subreaper we inherit those whose parents died. */
static unsigned signal_children(int signo)
{
        struct dirent *entry;
        unsigned n = 0;
        DIR *proc;

        proc = opendir("/proc");
        if (!proc)
                return 0;
        while ((entry = readdir(proc))) {
                pid_t pid = (pid_t)atoi(entry->d_name);
                char path[64], text[512], *end;
                _cleanup_fclose_ FILE *f = NULL;
                int parent;

                if (pid <= 0)
                        continue;
                (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
                f = fopen(path, "re");
                if (!f || !fgets(text, sizeof(text), f))
                        continue;
                end = strrchr(text, ')');
                if (!end || sscanf(end + 1, " %*c %d", &parent) != 1 || parent != (int)getpid())
                        continue;
                (void)kill(pid, signo);
                n++;
        }
        (void)closedir(proc);
        return n;
}

static void reap(struct camsim *camsim)
{
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (pid == camsim->child) {
                        camsim->child = 0;
                        stop(camsim, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
                }
        if (camsim->stopping && pid < 0 && errno == ECHILD)
                loop_exit(camsim->loop, camsim->exit_code);
}

static void on_child(void *userdata)
{
        reap(userdata);
}

static void on_kill_timer(void *userdata)
{
        struct camsim *camsim = userdata;
        bool patient = loop_now(camsim->loop) < camsim->stop_time + STOP_PATIENCE;

        /* Whoever was stopped must run to die. */
        (void)signal_children(patient ? SIGTERM : SIGKILL);
        (void)signal_children(SIGCONT);
        timer_set(&camsim->kill_timer, 100 * MSEC);
        reap(camsim);
}

static void stop(struct camsim *camsim, int code)
{
        if (camsim->stopping)
                return;
        camsim->stopping = true;
        camsim->exit_code = code;
        camsim->stop_time = loop_now(camsim->loop);
        timer_set(&camsim->kill_timer, 0);
}

static void on_terminate(void *userdata)
{
        stop(userdata, 128 + SIGTERM);
}

static void start_command(struct camsim *camsim)
{
        pid_t pid, parent = getpid();

        if (camsim->started)
                return;
        camsim->started = true;
        if (!camsim->command)
                return;
        (void)fflush(NULL);
        pid = fork();
        if (pid < 0) {
                (void)fprintf(stderr, "camsim: fork: %s\n", strerror(errno));
                stop(camsim, 1);
                return;
        }
        if (pid == 0) {
                child_begin(parent, SIGTERM);
                (void)execvp(camsim->command[0], camsim->command);
                (void)fprintf(stderr, "camsim: %s: %s\n", camsim->command[0], strerror(errno));
                _exit(127);
        }
        camsim->child = pid;
}

/* --- sessions --- */

static void session_free(struct session *session)
{
        scenario_forget(session->camsim->scenario, session);
        defer_deinit(&session->next);
        io_watch_deinit(&session->watch);
        if (session->in > STDERR_FILENO)
                (void)close(session->in);
        if (session->script)
                (void)fclose(session->script);
        LIST_REMOVE(session, link);
        free(session->directory);
        free(session);
}

static void session_write(struct session *session, const char *text)
{
        size_t left = strlen(text);

        /* Answers are short, and clients wait for them: a socket that is full belongs to somebody who is gone. */
        while (left > 0) {
                ssize_t n = session->out == STDOUT_FILENO ? write(session->out, text, left) :
                            send(session->out, text, left, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return;
                text += n;
                left -= (size_t)n;
        }
}

static void session_end(struct session *session)
{
        struct camsim *camsim = session->camsim;
        bool was_script = session->script != NULL, was_stdin = session->in == STDIN_FILENO;

        session_free(session);
        if (was_script)
                start_command(camsim);
        /* Nobody is left who could say anything. */
        if ((was_stdin || was_script) && !camsim->command && LIST_EMPTY(&camsim->sessions))
                stop(camsim, 0);
}

static void on_answer(void *userdata, const char *text, const char *error)
{
        struct session *session = userdata;
        char line[512];

        session->busy = false;
        if (session->script) {
                session_write(session, text);
                if (error) {
                        (void)fprintf(stderr, "camsim: line %u of the script: %s\n", session->line_number, error);
                        stop(session->camsim, 1);
                }
        } else {
                session_write(session, text);
                if (error)
                        (void)snprintf(line, sizeof(line), "error: %s\n", error);
                session_write(session, error ? line : "ok\n");
        }
        /* Never from inside: commands that answer at once would pile up on the stack. */
        defer_call(&session->next);
}

static void session_run(struct session *session, const char *line)
{
        struct camsim *camsim = session->camsim;
        char copy[LINE_SIZE], *words[3];
        int n;

        (void)snprintf(copy, sizeof(copy), "%s", line);
        n = scenario_split(copy, words, ELEMENTSOF(words));
        session->busy = true;
        if (n == 0 && !session->script) {
                session->busy = false;
                defer_call(&session->next);
        } else if (n == 1 && strcmp(words[0], "quit") == 0) {
                on_answer(session, "", NULL);
                stop(camsim, 0);
        } else if (n == 1 && strcmp(words[0], "run") == 0) {
                start_command(camsim);
                on_answer(session, "", NULL);
        } else if (n == 2 && strcmp(words[0], "cd") == 0) {
                free(session->directory);
                session->directory = strdup(words[1]);
                on_answer(session, "", NULL);
        } else {
                scenario_run(camsim->scenario, line, session->directory, on_answer, session);
        }
}

static void read_input(struct session *session)
{
        ssize_t n = read(session->in, session->buffer + session->used, sizeof(session->buffer) - session->used - 1);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n > 0)
                session->used += (size_t)n;
        else
                session->ended = true;
}

/* The next line, if there is one and its turn has come. */
static void on_next(void *userdata)
{
        struct session *session = userdata;
        char line[LINE_SIZE], *newline;
        size_t length;

        if (session->busy || session->camsim->stopping)
                return;
        if (session->script) {
                if (!fgets(line, sizeof(line), session->script)) {
                        session_end(session);
                        return;
                }
                session->line_number++;
                session_run(session, line);
                return;
        }
        newline = memchr(session->buffer, '\n', session->used);
        if (!newline && session->plain_file && !session->ended) {
                read_input(session);
                newline = memchr(session->buffer, '\n', session->used);
                session->ended |= !newline;
        }
        if (!newline && session->ended && session->used > 0)
                newline = session->buffer + session->used++;
        if (!newline) {
                if (session->ended)
                        session_end(session);
                else if (session->prompt)
                        session_write(session, "camsim> ");
                return;
        }
        length = (size_t)(newline - session->buffer);
        memcpy(line, session->buffer, length);
        line[length] = 0;
        session->used -= length + 1;
        memmove(session->buffer, newline + 1, session->used);
        session_run(session, line);
}

static void on_input(void *userdata, unsigned events)
{
        struct session *session = userdata;

        read_input(session);
        if (session->ended) {
                (void)io_watch_set(&session->watch, 0);
                /* A client that is gone does not wait for its answer. */
                if (session->in != STDIN_FILENO && session->busy) {
                        session_free(session);
                        return;
                }
        }
        defer_call(&session->next);
}

static struct session *session_new(struct camsim *camsim, int in, int out)
{
        struct session *session = calloc(1, sizeof(*session));

        if (!session)
                return NULL;
        session->camsim = camsim;
        session->in = in;
        session->out = out;
        io_watch_init(&session->watch, camsim->loop, in, on_input, session);
        defer_init(&session->next, camsim->loop, on_next, session);
        session->directory = get_current_dir_name();
        LIST_INSERT_HEAD(&camsim->sessions, session, link);
        return session;
}

static int script_open(struct camsim *camsim, const char *path)
{
        FILE *f = fopen(path, "re");
        struct session *session;

        if (!f) {
                (void)fprintf(stderr, "camsim: %s: %s\n", path, strerror(errno));
                return -errno;
        }
        session = session_new(camsim, -1, STDOUT_FILENO);
        if (!session) {
                (void)fclose(f);
                return -ENOMEM;
        }
        session->script = f;
        defer_call(&session->next);
        return 0;
}

static int stdin_open(struct camsim *camsim, bool prompt)
{
        struct session *session = session_new(camsim, STDIN_FILENO, STDOUT_FILENO);
        struct stat st;
        int r;

        if (!session)
                return -ENOMEM;
        session->prompt = prompt;
        session->plain_file = fstat(STDIN_FILENO, &st) == 0 && S_ISREG(st.st_mode);
        r = session->plain_file ? 0 : io_watch_set(&session->watch, IO_READ);
        defer_call(&session->next);
        return r;
}

static void on_client(void *userdata, unsigned events)
{
        struct camsim *camsim = userdata;
        int fd = accept4(camsim->listener, NULL, NULL, SOCK_CLOEXEC);
        struct session *session;

        if (fd < 0)
                return;
        session = session_new(camsim, fd, fd);
        if (!session || io_watch_set(&session->watch, IO_READ) < 0)
                (void)close(fd);
}

static int socket_address(const char *path, struct sockaddr_un *ret)
{
        *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
        if (strlen(path) >= sizeof(ret->sun_path))
                return -ENAMETOOLONG;
        (void)snprintf(ret->sun_path, sizeof(ret->sun_path), "%s", path);
        return 0;
}

static int listen_on(struct camsim *camsim, const char *path)
{
        struct sockaddr_un address;
        int r;

        if (path) {
                _cleanup_free_ char *directory = get_current_dir_name();

                if (asprintf(&camsim->socket_path, "%s%s%s", path[0] == '/' ? "" : directory ?: "", path[0] == '/' ? "" : "/", path) < 0)
                        return -ENOMEM;
        } else {
                const char *temporary = getenv("TMPDIR");

                if (asprintf(&camsim->socket_directory, "%s/camsim-XXXXXX", temporary && *temporary ? temporary : "/tmp") < 0)
                        return -ENOMEM;
                if (!mkdtemp(camsim->socket_directory)) {
                        camsim->socket_directory[0] = 0;
                        return -errno;
                }
                if (asprintf(&camsim->socket_path, "%s/socket", camsim->socket_directory) < 0)
                        return -ENOMEM;
        }
        r = socket_address(camsim->socket_path, &address);
        if (r < 0)
                return r;
        camsim->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (camsim->listener < 0)
                return -errno;
        (void)unlink(camsim->socket_path);
        if (bind(camsim->listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(camsim->listener, 64) < 0)
                return -errno;
        (void)setenv("CAMSIM_SOCKET", camsim->socket_path, 1);
        io_watch_init(&camsim->listener_watch, camsim->loop, camsim->listener, on_client, camsim);
        return io_watch_set(&camsim->listener_watch, IO_READ);
}

static void on_change(void *userdata)
{
        struct camsim *camsim = userdata;

        if (camsim->scenario)
                scenario_on_change(camsim->scenario);
}

/* --- camsim ctl --- */

static int write_all(int fd, const char *text, size_t size)
{
        while (size > 0) {
                ssize_t n = send(fd, text, size, MSG_NOSIGNAL);

                if (n < 0)
                        return -errno;
                text += n;
                size -= (size_t)n;
        }
        return 0;
}

/* A word as scenario_split() reads it. */
static void print_word(FILE *f, const char *word)
{
        (void)fputc('"', f);
        for (; *word; word++) {
                if (*word == '"' || *word == '\\')
                        (void)fputc('\\', f);
                (void)fputc(*word, f);
        }
        (void)fputc('"', f);
}

/* Sends one line and prints the answer but its last line.  0, 1 (error), or a negative errno. */
static int exchange(int fd, FILE *answers, const char *line, size_t size)
{
        _cleanup_free_ char *answer = NULL;
        size_t room = 0;
        int r;

        r = write_all(fd, line, size);
        if (r < 0)
                return r;
        for (;;) {
                ssize_t n = getline(&answer, &room, answers);

                if (n < 0)
                        return -ECONNRESET;
                if (strcmp(answer, "ok\n") == 0)
                        return 0;
                if (strncmp(answer, "error: ", 7) == 0) {
                        (void)fflush(stdout);
                        (void)fputs(answer, stderr);
                        return 1;
                }
                (void)fputs(answer, stdout);
        }
}

static int ctl(int argc, char **argv)
{
        const char *path = getenv("CAMSIM_SOCKET");
        _cleanup_free_ char *line = NULL, *directory = get_current_dir_name();
        _cleanup_close_ int fd = -1;
        _cleanup_fclose_ FILE *answers = NULL, *text = NULL;
        struct sockaddr_un address;
        size_t size = 0;
        int r;

        if (argc > 0 && (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0)) {
                usage(stdout);
                return 0;
        }
        if (!path || socket_address(path, &address) < 0) {
                (void)fprintf(stderr, "camsim: no simulation here: $CAMSIM_SOCKET is not set\n");
                return 1;
        }
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                (void)fprintf(stderr, "camsim: %s: %s\n", path, strerror(errno));
                return 1;
        }
        answers = fdopen(dup(fd), "r");
        text = open_memstream(&line, &size);
        if (!answers || !text)
                return 1;
        /* File names are relative to where we are, not to where camsim is. */
        (void)fputs("cd ", text);
        print_word(text, directory ?: "/");
        (void)fputc('\n', text);
        (void)fflush(text);
        r = exchange(fd, answers, line, size);
        if (argc > 0 && r == 0) {
                rewind(text);
                for (int i = 0; i < argc; i++) {
                        (void)fputc(' ', text);
                        print_word(text, argv[i]);
                }
                (void)fputc('\n', text);
                (void)fflush(text);
                r = exchange(fd, answers, line, size);
        }
        if (argc == 0) {
                _cleanup_free_ char *input = NULL;
                size_t room = 0;
                ssize_t n;

                while (r == 0 && (n = getline(&input, &room, stdin)) > 0) {
                        char *words[1];
                        _cleanup_free_ char *copy = strdup(input);

                        /* An empty line has no answer. */
                        if (!copy || scenario_split(copy, words, 1) == 0)
                                continue;
                        r = exchange(fd, answers, input, (size_t)n);
                }
        }
        if (r < 0)
                (void)fprintf(stderr, "camsim: the simulation has ended\n");
        return r == 0 ? 0 : 1;
}

/* --- the whole --- */

struct arguments {
        enum namespace_user user;
        const char *script, *socket, *trace;
        bool interactive;
        bool vhci;
        char **command;
};

static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
        enum { OPTION_KEEP = 256, OPTION_NEW, OPTION_SOCKET, OPTION_VHCI };
        static const struct option options[] = {
                { "script", required_argument, NULL, 's' },
                { "trace", required_argument, NULL, 't' },
                { "interactive", no_argument, NULL, 'i' },
                { "keep-user-ns", no_argument, NULL, OPTION_KEEP },
                { "user-ns", no_argument, NULL, OPTION_NEW },
                { "socket", required_argument, NULL, OPTION_SOCKET },
                { "vhci", no_argument, NULL, OPTION_VHCI },
                { "help", no_argument, NULL, 'h' },
                { 0 },
        };
        static char *shell[2];
        int c;

        *ret = (struct arguments){ 0 };
        while ((c = getopt_long(argc, argv, "+s:t:ih", options, NULL)) >= 0)
                switch (c) {
                case 's':
                        ret->script = optarg;
                        break;
                case 't':
                        ret->trace = optarg;
                        break;
                case 'i':
                        ret->interactive = true;
                        break;
                case OPTION_KEEP:
                        ret->user = NAMESPACE_USER_KEEP;
                        break;
                case OPTION_NEW:
                        ret->user = NAMESPACE_USER_NEW;
                        break;
                case OPTION_SOCKET:
                        ret->socket = optarg;
                        break;
                case OPTION_VHCI:
                        ret->vhci = true;
                        break;
                case 'h':
                        usage(stdout);
                        exit(0);
                default:
                        return -EINVAL;
                }
        if (argv[optind]) {
                ret->command = argv + optind;
        } else if (!ret->interactive && isatty(STDIN_FILENO)) {
                shell[0] = getenv("SHELL") ?: (char *)"/bin/sh";
                ret->command = shell;
        }
        return 0;
}

static int run(struct camsim *camsim, const struct arguments *arguments, struct kernel *kernel)
{
        int r;

        r = world_new(camsim->loop, kernel, on_change, camsim, &camsim->world);
        if (r < 0)
                return r;
        r = scenario_new(camsim->loop, camsim->world, &camsim->scenario);
        if (r < 0)
                return r;
        if (arguments->trace) {
                FILE *f = fopen(arguments->trace, "we");

                if (!f)
                        return -errno;
                world_trace_to(camsim->world, f);
        }
        r = listen_on(camsim, arguments->socket);
        if (r < 0)
                return r;
        if (loop_on_signal(camsim->loop, SIGCHLD, on_child, camsim) < 0 ||
            loop_on_signal(camsim->loop, SIGTERM, on_terminate, camsim) < 0 ||
            loop_on_signal(camsim->loop, SIGHUP, on_terminate, camsim) < 0)
                return -ENOMEM;
        /* A shell's Ctrl-C is the shell's; without one it ends us. */
        if (arguments->command)
                (void)signal(SIGINT, SIG_IGN), (void)signal(SIGQUIT, SIG_IGN);
        else if (loop_on_signal(camsim->loop, SIGINT, on_terminate, camsim) < 0)
                return -ENOMEM;

        camsim->command = arguments->command;
        /* libudev would find that this /sys/bus is no sysfs, and see no device. */
        if (!world_is_real(camsim->world))
                (void)setenv("SYSTEMD_DEVICE_VERIFY_SYSFS", "0", 1);
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
        if (arguments->script) {
                r = script_open(camsim, arguments->script);
                if (r < 0)
                        return r;
        } else {
                start_command(camsim);
        }
        if (!arguments->command) {
                r = stdin_open(camsim, arguments->interactive && isatty(STDIN_FILENO));
                if (r < 0)
                        return r;
        }
        return loop_run(camsim->loop);
}

int main(int argc, char **argv)
{
        struct camsim camsim = { .listener = -1 };
        struct arguments arguments;
        struct session *session;
        const char *step = "attaching to vhci_hcd";
        struct kernel *kernel;
        int fuse_fd, r;

        if (argc > 1 && strcmp(argv[1], "ctl") == 0)
                return ctl(argc - 2, argv + 2);
        if (parse_arguments(argc, argv, &arguments) < 0)
                return 2;
        log_init(LOG_TARGET_STDERR, LOG_WARNING);

        r = arguments.vhci ? 0 : namespace_enter(arguments.user, &fuse_fd, &step);
        if (r >= 0 && loop_new(&camsim.loop) < 0)
                return 1;
        if (r >= 0 && arguments.vhci) {
                r = kernel_vhci_new(camsim.loop, &kernel);
        } else if (r >= 0) {
                step = "playing the kernel";
                r = kernel_played_new(camsim.loop, fuse_fd, &kernel);
        }
        if (r < 0) {
                (void)fprintf(stderr, "camsim: cannot simulate here: %s: %s\n", step, strerror(-r));
                camsim.loop = loop_free(camsim.loop);
                return EXIT_SKIP;
        }
        LIST_INIT(&camsim.sessions);
        timer_init(&camsim.kill_timer, camsim.loop, on_kill_timer, &camsim);
        r = run(&camsim, &arguments, kernel);
        if (r < 0) {
                (void)fprintf(stderr, "camsim: %s\n", strerror(-r));
                r = 1;
        }

        while ((session = LIST_FIRST(&camsim.sessions)))
                session_free(session);
        camsim.scenario = scenario_free(camsim.scenario);
        camsim.world = world_free(camsim.world);
        if (camsim.listener >= 0) {
                io_watch_deinit(&camsim.listener_watch);
                (void)close(camsim.listener);
                (void)unlink(camsim.socket_path);
        }
        if (camsim.socket_directory && *camsim.socket_directory)
                (void)rmdir(camsim.socket_directory);
        free(camsim.socket_path);
        free(camsim.socket_directory);
        timer_deinit(&camsim.kill_timer);
        camsim.loop = loop_free(camsim.loop);
        return r;
}

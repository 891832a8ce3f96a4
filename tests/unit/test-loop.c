/* SPDX-License-Identifier: MIT */

/*
 * The real loop.  Nothing here asks how late something came (the machine may be
 * busy), only that it came, in order, and not too early.
 * pthread_create() is wrapped by the linker so that it can fail.
 */

#include "base/loop.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"

#define DEADLINE (20 * SEC)

static int pthread_create_error;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg)
{
        return pthread_create_error ? pthread_create_error : __real_pthread_create(thread, attributes, fn, arg);
}

/* --- the stage: a loop, what happened on it as a string, and an end if nothing happens --- */

struct stage {
        struct loop *loop;
        struct timer too_late;
        char story[256];
};

static void on_too_late(void *userdata)
{
        struct stage *stage = userdata;

        loop_exit(stage->loop, -ETIMEDOUT);
}

static int stage_new(void **state)
{
        struct stage *stage = calloc(1, sizeof(*stage));

        if (!stage || loop_new(&stage->loop) < 0)
                return -1;
        timer_init(&stage->too_late, stage->loop, on_too_late, stage);
        timer_set(&stage->too_late, DEADLINE);
        *state = stage;
        return 0;
}

static int stage_free(void **state)
{
        struct stage *stage = *state;

        timer_deinit(&stage->too_late);
        loop_free(stage->loop);
        free(stage);
        return 0;
}

static void tell(struct stage *stage, const char *word)
{
        assert_true(strlen(stage->story) + strlen(word) + 2 < sizeof(stage->story));
        if (stage->story[0])
                strcat(stage->story, " ");
        strcat(stage->story, word);
}

/* Something that tells its name when it is called. */
struct actor {
        struct stage *stage;
        const char *name;
        bool last;                      /* ends the loop */
        struct timer timer;
        struct defer defer;
        struct io_watch watch;
        struct actor *other;            /* done something to, by some callbacks */
        uint64_t earliest;
};

static void on_actor(void *userdata)
{
        struct actor *actor = userdata;

        tell(actor->stage, actor->name);
        if (actor->earliest)
                assert_true(loop_now(actor->stage->loop) >= actor->earliest);
        if (actor->last)
                loop_exit(actor->stage->loop, 0);
}

static void assert_story(struct stage *stage, const char *story)
{
        assert_int_equal(loop_run(stage->loop), 0);
        assert_string_equal(stage->story, story);
}

/* --- timers --- */

static void timers_fire_in_order_of_deadline_and_not_early(void **state)
{
        struct stage *stage = *state;
        struct actor actors[] = {
                { stage, "c", true }, { stage, "a" }, { stage, "b" }, { stage, "never" },
        };
        static const uint64_t delays[] = { 30 * MSEC, 0, 2500, 40 * MSEC };

        for (size_t i = 0; i < ELEMENTSOF(actors); i++) {
                timer_init(&actors[i].timer, stage->loop, on_actor, &actors[i]);
                assert_false(timer_is_set(&actors[i].timer));
                actors[i].earliest = loop_now(stage->loop) + delays[i];
                timer_set(&actors[i].timer, delays[i]);
                assert_true(timer_is_set(&actors[i].timer));
        }
        timer_clear(&actors[3].timer);
        assert_false(timer_is_set(&actors[3].timer));
        assert_story(stage, "a b c");
        for (size_t i = 0; i < ELEMENTSOF(actors); i++) {
                assert_false(timer_is_set(&actors[i].timer));
                timer_deinit(&actors[i].timer);
        }
}

static void a_timer_set_again_counts_anew(void **state)
{
        struct stage *stage = *state;
        struct actor moved = { stage, "moved", true }, between = { stage, "between" };

        timer_init(&moved.timer, stage->loop, on_actor, &moved);
        timer_init(&between.timer, stage->loop, on_actor, &between);
        timer_set(&moved.timer, 0);
        timer_set(&between.timer, 5 * MSEC);
        timer_set(&moved.timer, 20 * MSEC);
        assert_story(stage, "between moved");
        timer_deinit(&moved.timer);
        timer_deinit(&between.timer);
}

static void on_end_of_timer(void *userdata)
{
        struct actor *actor = userdata;

        tell(actor->stage, actor->name);
        assert_false(timer_is_set(&actor->timer));
        timer_deinit(&actor->timer);
        /* Was due in the same round. */
        timer_clear(&actor->other->timer);
}

static void a_timer_may_deinit_itself_and_clear_another(void **state)
{
        struct stage *stage = *state;
        struct actor other = { stage, "never" }, first = { stage, "first", .other = &other }, end = { stage, "end", true };

        timer_init(&first.timer, stage->loop, on_end_of_timer, &first);
        timer_init(&other.timer, stage->loop, on_actor, &other);
        timer_init(&end.timer, stage->loop, on_actor, &end);
        timer_set(&first.timer, 0);
        timer_set(&other.timer, 1);
        timer_set(&end.timer, 2 * MSEC);
        /* So both are due when the loop looks for the first time. */
        uint64_t due = loop_now(stage->loop) + MSEC;
        while (loop_now(stage->loop) < due)
                ;
        assert_story(stage, "first end");
        timer_deinit(&other.timer);
        timer_deinit(&end.timer);
        timer_deinit(&end.timer);       /* once more does no harm */
}

static void on_again(void *userdata)
{
        struct actor *actor = userdata;

        tell(actor->stage, actor->name);
        if (strlen(actor->stage->story) < 9)
                timer_set(&actor->timer, 0);
        else
                loop_exit(actor->stage->loop, 0);
}

static void a_timer_without_delay_does_not_starve_the_rest(void **state)
{
        struct stage *stage = *state;
        struct actor again = { stage, "again" }, defer = { stage, "d" };

        timer_init(&again.timer, stage->loop, on_again, &again);
        defer_init(&defer.defer, stage->loop, on_actor, &defer);
        timer_set(&again.timer, 0);
        defer_call(&defer.defer);
        assert_story(stage, "d again again");
        timer_deinit(&again.timer);
        defer_deinit(&defer.defer);
}

static void a_delay_of_for_ever_is_one(void **state)
{
        struct stage *stage = *state;
        struct actor never = { stage, "never" }, end = { stage, "end", true };

        timer_init(&never.timer, stage->loop, on_actor, &never);
        timer_init(&end.timer, stage->loop, on_actor, &end);
        timer_set(&never.timer, UINT64_MAX);
        timer_set(&end.timer, MSEC);
        assert_true(timer_is_set(&never.timer));
        assert_story(stage, "end");
        timer_deinit(&never.timer);
        timer_deinit(&end.timer);
}

static void an_exit_before_the_run_counts_once(void **state)
{
        struct stage *stage = *state;
        struct actor end = { stage, "end", true };

        loop_exit(stage->loop, 42);
        assert_int_equal(loop_run(stage->loop), 42);
        timer_init(&end.timer, stage->loop, on_actor, &end);
        timer_set(&end.timer, 0);
        assert_story(stage, "end");
        timer_deinit(&end.timer);
}

static void both_clocks_go(void **state)
{
        struct stage *stage = *state;
        uint64_t monotonic = loop_now(stage->loop), wall = loop_wall_clock(stage->loop);

        assert_true(monotonic > 0);
        assert_true(wall > UINT64_C(1700000000) * SEC);
        while (loop_now(stage->loop) == monotonic)
                ;
        assert_true(loop_now(stage->loop) > monotonic);
}

/* --- file descriptors --- */

static void on_actor_io(void *userdata, unsigned events)
{
        struct actor *actor = userdata;
        char c;

        if (events & IO_READ) {
                tell(actor->stage, "read");
                if (read(actor->watch.fd, &c, 1) == 0) {
                        tell(actor->stage, "eof");
                        loop_exit(actor->stage->loop, 0);
                }
        }
        if (events & IO_WRITE) {
                tell(actor->stage, "write");
                assert_int_equal(io_watch_set(&actor->watch, IO_READ), 0);
                if (actor->other)
                        io_watch_deinit(&actor->other->watch);
                actor->other = NULL;
        }
}

static void a_watch_tells_what_it_was_asked_for(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "io" };
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        io_watch_init(&actor.watch, stage->loop, pair[0], on_actor_io, &actor);
        assert_int_equal(io_watch_set(&actor.watch, IO_WRITE), 0);
        assert_int_equal(write(pair[1], "xy", 2), 2);
        (void)close(pair[1]);
        assert_story(stage, "write read read read eof");
        io_watch_deinit(&actor.watch);
        io_watch_deinit(&actor.watch);
        (void)close(pair[0]);
}

static void on_hang_up(void *userdata, unsigned events)
{
        struct actor *actor = userdata;

        tell(actor->stage, events == IO_WRITE ? "write" : events == IO_READ ? "read" : "?");
        loop_exit(actor->stage->loop, 0);
}

static void a_hang_up_comes_as_whatever_was_asked_for(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "io" };
        int fds[2];

        /* The writing end of a pipe that nobody reads: POLLERR. */
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        (void)close(fds[0]);
        io_watch_init(&actor.watch, stage->loop, fds[1], on_hang_up, &actor);
        assert_int_equal(io_watch_set(&actor.watch, IO_READ), 0);
        assert_story(stage, "read");
        io_watch_deinit(&actor.watch);
        (void)close(fds[1]);

        /* The reading end of one that nobody writes: POLLHUP. */
        stage->story[0] = 0;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        (void)close(fds[1]);
        io_watch_init(&actor.watch, stage->loop, fds[0], on_hang_up, &actor);
        assert_int_equal(io_watch_set(&actor.watch, IO_WRITE), 0);
        assert_story(stage, "write");
        io_watch_deinit(&actor.watch);
        (void)close(fds[0]);
}

static void a_watch_without_interest_is_silent(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "never" }, end = { stage, "end", true };
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(write(fds[1], "x", 1), 1);
        io_watch_init(&actor.watch, stage->loop, fds[0], on_hang_up, &actor);
        assert_int_equal(io_watch_set(&actor.watch, IO_READ), 0);
        assert_int_equal(io_watch_set(&actor.watch, 0), 0);
        timer_init(&end.timer, stage->loop, on_actor, &end);
        timer_set(&end.timer, 5 * MSEC);
        assert_story(stage, "end");
        io_watch_deinit(&actor.watch);
        timer_deinit(&end.timer);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void a_callback_may_deinit_another_ready_watch(void **state)
{
        struct stage *stage = *state;
        struct actor actors[2] = { { stage, "a", .other = &actors[1] }, { stage, "b", .other = &actors[0] } };
        struct actor end = { stage, "end", true };
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        for (size_t i = 0; i < 2; i++) {
                io_watch_init(&actors[i].watch, stage->loop, pair[i], on_actor_io, &actors[i]);
                assert_int_equal(io_watch_set(&actors[i].watch, IO_WRITE), 0);
        }
        timer_init(&end.timer, stage->loop, on_actor, &end);
        timer_set(&end.timer, 5 * MSEC);
        /* Whichever came first silenced the other. */
        assert_story(stage, "write end");
        for (size_t i = 0; i < 2; i++) {
                io_watch_deinit(&actors[i].watch);
                (void)close(pair[i]);
        }
        timer_deinit(&end.timer);
}

static void log_nothing(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        ++*(unsigned *)userdata;
}

static void an_fd_that_cannot_be_watched_is_an_error(void **state)
{
        struct stage *stage = *state;
        struct io_watch watch;
        unsigned lines = 0;
        _cleanup_close_ int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        (void)close(fd);
        /* libevent says so too, and through our log. */
        log_set_sink(log_nothing, &lines);
        io_watch_init(&watch, stage->loop, fd, on_hang_up, NULL);
        assert_int_equal(io_watch_set(&watch, IO_READ), -EBADF);
        log_set_sink(NULL, NULL);
        assert_int_equal(lines, 1);
        assert_int_equal(watch.interest, 0);
        io_watch_deinit(&watch);
        fd = -1;
}

/* --- signals --- */

static void signals_are_delivered_on_the_loop(void **state)
{
        struct stage *stage = *state;
        struct actor usr1 = { stage, "usr1" }, term = { stage, "term", true };

        assert_int_equal(loop_on_signal(stage->loop, SIGUSR1, on_actor, &usr1), 0);
        assert_int_equal(loop_on_signal(stage->loop, SIGTERM, on_actor, &term), 0);
        assert_int_equal(raise(SIGUSR1), 0);
        assert_string_equal(stage->story, "");
        assert_int_equal(raise(SIGTERM), 0);
        assert_int_equal(loop_run(stage->loop), 0);
        /* The kernel keeps no order between two signals. */
        assert_true(strcmp(stage->story, "usr1 term") == 0 || strcmp(stage->story, "term usr1") == 0);
}

static void a_broken_pipe_is_an_errno(void **state)
{
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        (void)close(fds[0]);
        assert_int_equal(write(fds[1], "x", 1), -1);
        assert_int_equal(errno, EPIPE);
        (void)close(fds[1]);
}

/* --- deferred calls --- */

static void deferred_calls_keep_their_order_and_come_once(void **state)
{
        struct stage *stage = *state;
        struct actor actors[] = { { stage, "a" }, { stage, "b" }, { stage, "never" }, { stage, "c", true } };

        for (size_t i = 0; i < ELEMENTSOF(actors); i++) {
                defer_init(&actors[i].defer, stage->loop, on_actor, &actors[i]);
                defer_call(&actors[i].defer);
        }
        defer_call(&actors[0].defer);
        defer_deinit(&actors[2].defer);
        assert_string_equal(stage->story, "");
        assert_story(stage, "a b c");
        for (size_t i = 0; i < ELEMENTSOF(actors); i++)
                defer_deinit(&actors[i].defer);
}

static void on_defer_and_more(void *userdata)
{
        struct actor *actor = userdata;

        tell(actor->stage, actor->name);
        defer_call(&actor->defer);              /* next round */
        defer_deinit(&actor->other->defer);     /* was to come in this one */
        actor->defer.fn = on_actor;
        actor->last = true;
}

static void a_deferred_call_may_defer_itself_and_deinit_the_last(void **state)
{
        struct stage *stage = *state;
        struct actor last = { stage, "never" }, middle = { stage, "middle" }, first = { stage, "first", .other = &last };

        defer_init(&first.defer, stage->loop, on_defer_and_more, &first);
        defer_init(&middle.defer, stage->loop, on_actor, &middle);
        defer_init(&last.defer, stage->loop, on_actor, &last);
        defer_call(&first.defer);
        defer_call(&middle.defer);
        defer_call(&last.defer);
        assert_story(stage, "first middle first");
        defer_deinit(&first.defer);
        defer_deinit(&middle.defer);
}

/* --- helper threads --- */

static unsigned threads_now(void)
{
        DIR *dir = opendir("/proc/self/task");
        unsigned n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        (void)closedir(dir);
        return n - 2;
}

struct job {
        struct stage *stage;
        const char *name;
        bool last;
        pthread_t ran_on;
        bool signals_blocked;
        atomic_int *counter;
        int order;                      /* what the counter was */
        pthread_barrier_t *meeting;
        int wait_fd;
};

static void job_run(void *data)
{
        struct job *job = data;
        sigset_t blocked;

        job->ran_on = pthread_self();
        (void)pthread_sigmask(SIG_SETMASK, NULL, &blocked);
        job->signals_blocked = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGUSR1) == 1 &&
                sigismember(&blocked, SIGCHLD) == 1;
        if (job->meeting)
                (void)pthread_barrier_wait(job->meeting);
        if (job->wait_fd > 0) {
                char c;

                (void)!read(job->wait_fd, &c, 1);
        }
        if (job->counter)
                job->order = atomic_fetch_add(job->counter, 1);
}

static void job_done(void *data)
{
        struct job *job = data;

        tell(job->stage, job->name);
        if (job->last)
                loop_exit(job->stage->loop, 0);
}

static void a_work_runs_elsewhere_and_ends_on_the_loop(void **state)
{
        struct stage *stage = *state;
        struct job job = { stage, "done", true };

        assert_int_equal(loop_work(stage->loop, NULL, job_run, job_done, &job), 0);
        assert_int_equal(loop_pending_work(stage->loop), 1);
        assert_story(stage, "done");
        assert_int_equal(loop_pending_work(stage->loop), 0);
        assert_false(pthread_equal(job.ran_on, pthread_self()));
        assert_true(job.signals_blocked);
}

static void works_without_lane_run_at_the_same_time(void **state)
{
        struct stage *stage = *state;
        struct job jobs[4];
        pthread_barrier_t meeting;

        /* Each waits for all the others: one after the other they would never end. */
        assert_int_equal(pthread_barrier_init(&meeting, NULL, ELEMENTSOF(jobs)), 0);
        for (size_t i = 0; i < ELEMENTSOF(jobs); i++) {
                jobs[i] = (struct job){ stage, "x", .meeting = &meeting };
                assert_int_equal(loop_work(stage->loop, NULL, job_run, job_done, &jobs[i]), 0);
        }
        while (loop_pending_work(stage->loop) > 0) {
                struct job last = { stage, "y", true };

                assert_int_equal(loop_work(stage->loop, NULL, job_run, job_done, &last), 0);
                assert_int_equal(loop_run(stage->loop), 0);
        }
        (void)pthread_barrier_destroy(&meeting);
}

static void works_of_a_lane_keep_their_order(void **state)
{
        struct stage *stage = *state;
        atomic_int counter = 0;
        struct job jobs[50];
        struct lane *lane;

        assert_int_equal(lane_new(stage->loop, &lane), 0);
        for (int i = 0; i < (int)ELEMENTSOF(jobs); i++) {
                jobs[i] = (struct job){ stage, "x", i == ELEMENTSOF(jobs) - 1, .counter = &counter };
                assert_int_equal(loop_work(stage->loop, lane, job_run, job_done, &jobs[i]), 0);
        }
        assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(loop_pending_work(stage->loop), 0);
        for (int i = 0; i < (int)ELEMENTSOF(jobs); i++)
                assert_int_equal(jobs[i].order, i);
        assert_null(lane_free(lane));
}

static void a_lane_that_fell_idle_works_again(void **state)
{
        struct stage *stage = *state;
        struct lane *lane;

        assert_int_equal(lane_new(stage->loop, &lane), 0);
        for (int i = 0; i < 20; i++) {
                struct job job = { stage, "x", true };

                assert_int_equal(loop_work(stage->loop, lane, job_run, job_done, &job), 0);
                assert_int_equal(loop_run(stage->loop), 0);
        }
        lane_free(lane);
}

static void one_stuck_work_delays_no_other(void **state)
{
        struct stage *stage = *state;
        struct job stuck, other = { stage, "other", true };
        struct lane *lane;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        stuck = (struct job){ stage, "stuck", true, .wait_fd = fds[0] };
        assert_int_equal(lane_new(stage->loop, &lane), 0);
        assert_int_equal(loop_work(stage->loop, NULL, job_run, job_done, &stuck), 0);
        assert_int_equal(loop_work(stage->loop, lane, job_run, job_done, &other), 0);
        assert_story(stage, "other");
        assert_int_equal(write(fds[1], "x", 1), 1);
        assert_story(stage, "other stuck");
        lane_free(lane);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

static void a_freed_lane_has_run_everything_and_the_freed_loop_has_told_it(void **state)
{
        struct stage stage = {};
        atomic_int counter = 0;
        struct job jobs[10];
        struct lane *lane;

        assert_int_equal(loop_new(&stage.loop), 0);
        assert_int_equal(lane_new(stage.loop, &lane), 0);
        for (size_t i = 0; i < ELEMENTSOF(jobs); i++) {
                jobs[i] = (struct job){ &stage, "x", .counter = &counter };
                assert_int_equal(loop_work(stage.loop, lane, job_run, job_done, &jobs[i]), 0);
        }
        lane_free(lane);
        assert_int_equal(counter, ELEMENTSOF(jobs));
        assert_string_equal(stage.story, "");
        assert_int_equal(loop_pending_work(stage.loop), ELEMENTSOF(jobs));
        assert_null(loop_free(stage.loop));
        assert_string_equal(stage.story, "x x x x x x x x x x");
}

static void without_a_thread_the_caller_hears_it_and_done_is_not_called(void **state)
{
        struct stage *stage = *state;
        struct job job = { stage, "never" }, later = { stage, "later", true };
        struct lane *lane;

        assert_int_equal(lane_new(stage->loop, &lane), 0);
        pthread_create_error = EAGAIN;
        assert_int_equal(loop_work(stage->loop, NULL, job_run, job_done, &job), -EAGAIN);
        assert_int_equal(loop_work(stage->loop, lane, job_run, job_done, &job), -EAGAIN);
        pthread_create_error = 0;
        assert_int_equal(loop_pending_work(stage->loop), 0);
        /* The lane has not jammed. */
        assert_int_equal(loop_work(stage->loop, lane, job_run, job_done, &later), 0);
        assert_story(stage, "later");
        lane_free(lane);
}

static void when_the_work_is_done_the_thread_is_gone(void **state)
{
        struct stage *stage = *state;
        unsigned before = threads_now();
        struct job jobs[8];
        struct lane *lane;
        uint64_t deadline;

        assert_int_equal(lane_new(stage->loop, &lane), 0);
        for (size_t i = 0; i < ELEMENTSOF(jobs); i++) {
                jobs[i] = (struct job){ stage, "x", true };
                assert_int_equal(loop_work(stage->loop, i % 2 ? lane : NULL, job_run, job_done, &jobs[i]), 0);
        }
        while (loop_pending_work(stage->loop) > 0)
                assert_int_equal(loop_run(stage->loop), 0);
        /* The last one may still be on its way out. */
        deadline = loop_now(stage->loop) + DEADLINE;
        while (threads_now() > before) {
                assert_true(loop_now(stage->loop) < deadline);
                (void)sched_yield();
        }
        lane_free(lane);
}

static void an_idle_loop_sleeps(void **state)
{
        struct stage *stage = *state;
        struct actor idle = { stage, "never" }, end = { stage, "end", true };
        struct rusage before, after;
        struct lane *lane;
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        assert_int_equal(lane_new(stage->loop, &lane), 0);
        io_watch_init(&idle.watch, stage->loop, fds[0], on_hang_up, &idle);
        assert_int_equal(io_watch_set(&idle.watch, IO_READ), 0);
        timer_init(&end.timer, stage->loop, on_actor, &end);
        timer_set(&end.timer, 100 * MSEC);
        assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
        assert_story(stage, "end");
        assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
        /* Asleep once; a page fault or two may have waited. */
        assert_in_range(after.ru_nvcsw - before.ru_nvcsw, 0, 3);
        io_watch_deinit(&idle.watch);
        timer_deinit(&end.timer);
        lane_free(lane);
        (void)close(fds[0]);
        (void)close(fds[1]);
}

/* --- a leak speaks at the place of the mistake --- */

enum leak { LEAK_NOTHING, LEAK_TIMER, LEAK_WATCH, LEAK_LANE, LEAK_WORK };

static int ended_by(enum leak leak)
{
        struct job job = {};
        struct loop *loop;
        struct timer timer;
        struct io_watch watch;
        struct lane *lane;
        int status = 0, fds[2];
        pid_t pid;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -1;
        pid = fork();
        if (pid == 0) {
                const struct rlimit no_core = {};

                (void)setrlimit(RLIMIT_CORE, &no_core);
                (void)close(STDERR_FILENO);
                if (loop_new(&loop) < 0)
                        _exit(1);
                if (leak == LEAK_TIMER)
                        timer_init(&timer, loop, on_actor, NULL);
                if (leak == LEAK_WATCH)
                        io_watch_init(&watch, loop, 0, on_hang_up, NULL);
                if (leak == LEAK_LANE && lane_new(loop, &lane) < 0)
                        _exit(1);
                job.wait_fd = fds[0];
                if (leak == LEAK_WORK && loop_work(loop, NULL, job_run, job_done, &job) < 0)
                        _exit(1);
                loop_free(loop);
                _exit(0);
        }
        (void)waitpid(pid, &status, 0);
        (void)close(fds[0]);
        (void)close(fds[1]);
        return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void freeing_a_loop_that_is_in_use_aborts(void **state)
{
        assert_int_equal(ended_by(LEAK_NOTHING), 0);
        assert_int_equal(ended_by(LEAK_TIMER), SIGABRT);
        assert_int_equal(ended_by(LEAK_WATCH), SIGABRT);
        assert_int_equal(ended_by(LEAK_LANE), SIGABRT);
        assert_int_equal(ended_by(LEAK_WORK), SIGABRT);
        assert_null(loop_free(NULL));
}

#define test(f) cmocka_unit_test_setup_teardown(f, stage_new, stage_free)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test(timers_fire_in_order_of_deadline_and_not_early),
                test(a_timer_set_again_counts_anew),
                test(a_timer_may_deinit_itself_and_clear_another),
                test(a_timer_without_delay_does_not_starve_the_rest),
                test(a_delay_of_for_ever_is_one),
                test(an_exit_before_the_run_counts_once),
                test(both_clocks_go),
                test(a_watch_tells_what_it_was_asked_for),
                test(a_hang_up_comes_as_whatever_was_asked_for),
                test(a_watch_without_interest_is_silent),
                test(a_callback_may_deinit_another_ready_watch),
                test(an_fd_that_cannot_be_watched_is_an_error),
                test(signals_are_delivered_on_the_loop),
                test(a_broken_pipe_is_an_errno),
                test(deferred_calls_keep_their_order_and_come_once),
                test(a_deferred_call_may_defer_itself_and_deinit_the_last),
                test(a_work_runs_elsewhere_and_ends_on_the_loop),
                test(works_without_lane_run_at_the_same_time),
                test(works_of_a_lane_keep_their_order),
                test(a_lane_that_fell_idle_works_again),
                test(one_stuck_work_delays_no_other),
                cmocka_unit_test(a_freed_lane_has_run_everything_and_the_freed_loop_has_told_it),
                test(without_a_thread_the_caller_hears_it_and_done_is_not_called),
                test(when_the_work_is_done_the_thread_is_gone),
                test(an_idle_loop_sleeps),
                cmocka_unit_test(freeing_a_loop_that_is_in_use_aborts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

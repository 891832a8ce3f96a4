/* SPDX-License-Identifier: MIT */

/* The loop in virtual time: the same promises as the real one's, and those of loop-virtual.h. */

#include "unit/loop-virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/cleanup.h"

struct stage {
        struct loop *loop;
        char story[256];
};

struct actor {
        struct stage *stage;
        const char *name;
        struct timer timer;
        struct defer defer;
        struct io_watch watch;
        struct actor *other;
        uint64_t repeat;                /* timer: sets itself again */
        uint64_t called_at;
        unsigned calls;
};

static int stage_new(void **state)
{
        struct stage *stage = calloc(1, sizeof(*stage));

        if (!stage || loop_new(&stage->loop) < 0)
                return -1;
        *state = stage;
        return 0;
}

static int stage_free(void **state)
{
        struct stage *stage = *state;

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

static void on_actor(void *userdata)
{
        struct actor *actor = userdata;

        tell(actor->stage, actor->name);
        actor->called_at = loop_now(actor->stage->loop);
        actor->calls++;
        if (actor->repeat)
                timer_set(&actor->timer, actor->repeat);
}

static void on_exit_7(void *userdata)
{
        struct actor *actor = userdata;

        on_actor(userdata);
        loop_exit(actor->stage->loop, 7);
}

static void actor_timer(struct actor *actor, uint64_t delay)
{
        timer_init(&actor->timer, actor->stage->loop, on_actor, actor);
        timer_set(&actor->timer, delay);
}

static bool was_called(void *userdata)
{
        return ((struct actor *)userdata)->calls > 0;
}

static bool was_called_thrice(void *userdata)
{
        return ((struct actor *)userdata)->calls >= 3;
}

static void an_hour_takes_no_time(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "x" };
        struct timespec begin, end;

        (void)clock_gettime(CLOCK_MONOTONIC, &begin);
        actor_timer(&actor, 3600 * SEC);
        assert_true(loop_run_until(stage->loop, was_called, &actor, 7200 * SEC));
        (void)clock_gettime(CLOCK_MONOTONIC, &end);
        assert_int_equal(actor.called_at, LOOP_VIRTUAL_START + 3600 * SEC);
        assert_int_equal(loop_now(stage->loop), actor.called_at);
        assert_true(end.tv_sec - begin.tv_sec < 60);
        timer_deinit(&actor.timer);
}

static void the_deadline_is_kept_exactly(void **state)
{
        struct stage *stage = *state;
        struct actor on_time = { stage, "on-time" }, late = { stage, "late" };

        actor_timer(&on_time, 10 * SEC);
        actor_timer(&late, 10 * SEC + 1);
        assert_false(loop_run_until(stage->loop, was_called, &late, 10 * SEC));
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START + 10 * SEC);
        assert_string_equal(stage->story, "on-time");
        assert_true(loop_run_until(stage->loop, was_called, &late, 1));
        timer_deinit(&on_time.timer);
        timer_deinit(&late.timer);
}

static void with_nothing_to_do_time_goes_to_the_deadline(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "x" };

        assert_false(loop_run_until(stage->loop, was_called, &actor, 5 * SEC));
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START + 5 * SEC);
        loop_advance(stage->loop, 3);
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START + 5 * SEC + 3);
        assert_int_equal(loop_next_due(stage->loop), 0);
}

static void time_stops_where_the_predicate_comes_true(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "x", .repeat = SEC };

        actor_timer(&actor, SEC);
        assert_true(loop_run_until(stage->loop, was_called_thrice, &actor, 60 * SEC));
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START + 3 * SEC);
        assert_int_equal(actor.calls, 3);
        assert_int_equal(loop_next_due(stage->loop), LOOP_VIRTUAL_START + 4 * SEC);
        /* True already: nothing moves. */
        assert_true(loop_run_until(stage->loop, was_called_thrice, &actor, 60 * SEC));
        assert_int_equal(actor.calls, 3);
        timer_deinit(&actor.timer);
}

static void advancing_meets_each_timer_at_its_own_time(void **state)
{
        struct stage *stage = *state;
        struct actor seconds = { stage, "s", .repeat = SEC }, once = { stage, "o" };

        actor_timer(&seconds, SEC);
        actor_timer(&once, 2500 * MSEC);
        loop_advance(stage->loop, 4 * SEC);
        assert_string_equal(stage->story, "s s o s s");
        assert_int_equal(once.called_at, LOOP_VIRTUAL_START + 2500 * MSEC);
        assert_int_equal(seconds.called_at, LOOP_VIRTUAL_START + 4 * SEC);
        timer_deinit(&seconds.timer);
        timer_deinit(&once.timer);
}

static void timers_due_together_keep_the_order_of_setting(void **state)
{
        struct stage *stage = *state;
        struct actor a = { stage, "a" }, b = { stage, "b" }, c = { stage, "c" };

        actor_timer(&a, SEC);
        actor_timer(&b, SEC);
        actor_timer(&c, SEC);
        timer_set(&a.timer, SEC);       /* anew: now it is the last */
        loop_advance(stage->loop, SEC);
        assert_string_equal(stage->story, "b c a");
        timer_deinit(&a.timer);
        timer_deinit(&b.timer);
        timer_deinit(&c.timer);
}

static void on_clear_other(void *userdata)
{
        struct actor *actor = userdata;

        on_actor(actor);
        assert_true(timer_is_set(&actor->other->timer));
        timer_clear(&actor->other->timer);
        assert_false(timer_is_set(&actor->timer));
        timer_deinit(&actor->timer);
}

static void a_timer_may_deinit_itself_and_clear_one_due_at_the_same_time(void **state)
{
        struct stage *stage = *state;
        struct actor second = { stage, "never" }, first = { stage, "first", .other = &second };

        actor_timer(&first, SEC);
        first.timer.fn = on_clear_other;
        actor_timer(&second, SEC);
        loop_advance(stage->loop, 2 * SEC);
        assert_string_equal(stage->story, "first");
        timer_deinit(&second.timer);
        timer_deinit(&second.timer);
}

static void a_timer_without_delay_waits_for_the_next_round(void **state)
{
        struct stage *stage = *state;
        struct actor zero = { stage, "zero" }, defer = { stage, "defer" };

        actor_timer(&zero, 0);
        defer_init(&defer.defer, stage->loop, on_actor, &defer);
        defer_call(&defer.defer);
        assert_string_equal(stage->story, "");
        loop_advance(stage->loop, 0);
        assert_string_equal(stage->story, "defer zero");
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START);
        timer_deinit(&zero.timer);
        defer_deinit(&defer.defer);
}

static void on_defer_again(void *userdata)
{
        struct actor *actor = userdata;

        on_actor(actor);
        if (actor->calls == 1)
                defer_call(&actor->defer);
        if (actor->other)
                defer_deinit(&actor->other->defer);
        actor->other = NULL;
}

static void deferred_calls_keep_their_order_and_come_once(void **state)
{
        struct stage *stage = *state;
        struct actor gone = { stage, "never" }, a = { stage, "a", .other = &gone }, b = { stage, "b" };

        defer_init(&a.defer, stage->loop, on_defer_again, &a);
        defer_init(&b.defer, stage->loop, on_actor, &b);
        defer_init(&gone.defer, stage->loop, on_actor, &gone);
        defer_call(&a.defer);
        defer_call(&b.defer);
        defer_call(&gone.defer);
        defer_call(&a.defer);
        loop_advance(stage->loop, 0);
        assert_string_equal(stage->story, "a b a");
        defer_deinit(&a.defer);
        defer_deinit(&b.defer);
}

static void run_begins_and_done_ends(void *userdata)
{
        struct actor *actor = userdata;

        tell(actor->stage, "run");
}

static void a_work_runs_at_once_and_ends_in_the_next_round(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "done" };

        assert_int_equal(loop_work(stage->loop, NULL, run_begins_and_done_ends, on_actor, &actor), 0);
        assert_string_equal(stage->story, "run");
        assert_int_equal(loop_pending_work(stage->loop), 1);
        loop_advance(stage->loop, 0);
        assert_string_equal(stage->story, "run done");
        assert_int_equal(loop_pending_work(stage->loop), 0);
}

static void nothing(void *userdata)
{
}

static void slow_works_of_a_lane_queue_up(void **state)
{
        struct stage *stage = *state;
        struct actor a = { stage, "a" }, b = { stage, "b" }, free_one = { stage, "free" };
        struct lane *lane;

        assert_int_equal(lane_new(stage->loop, &lane), 0);
        loop_set_work_delay(stage->loop, SEC);
        assert_int_equal(loop_work(stage->loop, lane, nothing, on_actor, &a), 0);
        assert_int_equal(loop_work(stage->loop, lane, nothing, on_actor, &b), 0);
        assert_int_equal(loop_work(stage->loop, NULL, nothing, on_actor, &free_one), 0);
        loop_advance(stage->loop, 10 * SEC);
        assert_string_equal(stage->story, "a free b");
        assert_int_equal(a.called_at, LOOP_VIRTUAL_START + SEC);
        assert_int_equal(free_one.called_at, LOOP_VIRTUAL_START + SEC);
        assert_int_equal(b.called_at, LOOP_VIRTUAL_START + 2 * SEC);
        lane_free(lane);
}

static void a_work_that_gets_no_thread_is_not_run(void **state)
{
        struct stage *stage = *state;
        struct actor actor = { stage, "done" };

        loop_fail_work(stage->loop, -EAGAIN, 1);
        assert_int_equal(loop_work(stage->loop, NULL, run_begins_and_done_ends, on_actor, &actor), -EAGAIN);
        assert_int_equal(loop_pending_work(stage->loop), 0);
        assert_int_equal(loop_work(stage->loop, NULL, run_begins_and_done_ends, on_actor, &actor), 0);
        loop_advance(stage->loop, 0);
        assert_string_equal(stage->story, "run done");
}

static void a_freed_loop_has_told_the_end_of_every_work(void **state)
{
        struct stage stage = {};
        struct actor actor = { &stage, "done" };

        assert_int_equal(loop_new(&stage.loop), 0);
        loop_set_work_delay(stage.loop, SEC);
        assert_int_equal(loop_work(stage.loop, NULL, nothing, on_actor, &actor), 0);
        assert_null(loop_free(stage.loop));
        assert_string_equal(stage.story, "done");
}

static void on_readable(void *userdata, unsigned events)
{
        struct actor *actor = userdata;
        char c;

        assert_int_equal(events, IO_READ);
        tell(actor->stage, actor->name);
        actor->calls++;
        if (read(actor->watch.fd, &c, 1) <= 0)
                assert_int_equal(io_watch_set(&actor->watch, 0), 0);
        if (actor->other)
                io_watch_deinit(&actor->other->watch);
        actor->other = NULL;
}

static void pipes_are_read_before_time_moves(void **state)
{
        struct stage *stage = *state;
        struct actor timer = { stage, "timer" }, second = { stage, "never" }, first = { stage, "read", .other = &second };
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_int_equal(write(fds[1], "x", 1), 1);
        io_watch_init(&first.watch, stage->loop, fds[0], on_readable, &first);
        io_watch_init(&second.watch, stage->loop, fds[0], on_readable, &second);
        assert_int_equal(io_watch_set(&first.watch, IO_READ), 0);
        assert_int_equal(io_watch_set(&second.watch, IO_READ), 0);
        actor_timer(&timer, 1);
        assert_true(loop_run_until(stage->loop, was_called, &first, SEC));
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START);
        loop_advance(stage->loop, SEC);
        assert_string_equal(stage->story, "read timer");

        /* The end of the pipe is readable for ever: interest is taken back, and time goes on. */
        (void)close(fds[1]);
        loop_advance(stage->loop, SEC);
        assert_string_equal(stage->story, "read timer read");
        io_watch_deinit(&first.watch);
        timer_deinit(&timer.timer);
        (void)close(fds[0]);
}

static void signals_are_raised_by_the_test(void **state)
{
        struct stage *stage = *state;
        struct actor term = { stage, "term" }, hup = { stage, "hup" };

        assert_int_equal(loop_on_signal(stage->loop, SIGTERM, on_actor, &term), 0);
        assert_int_equal(loop_on_signal(stage->loop, SIGHUP, on_actor, &hup), 0);
        loop_raise(stage->loop, SIGTERM);
        loop_raise(stage->loop, SIGTERM);
        assert_string_equal(stage->story, "");
        loop_advance(stage->loop, 0);
        assert_string_equal(stage->story, "term");
}

static void run_returns_the_code_of_the_exit(void **state)
{
        struct stage *stage = *state;
        struct actor end = { stage, "end" }, after = { stage, "after" };

        actor_timer(&end, SEC);
        end.timer.fn = on_exit_7;
        actor_timer(&after, 2 * SEC);
        assert_int_equal(loop_run(stage->loop), 7);
        assert_string_equal(stage->story, "end");
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START + SEC);
        timer_deinit(&end.timer);
        timer_deinit(&after.timer);
}

static void run_with_nothing_left_does_not_hang(void **state)
{
        struct stage *stage = *state;
        struct actor only = { stage, "only" };

        actor_timer(&only, SEC);
        assert_int_equal(loop_run(stage->loop), -EDEADLK);
        assert_string_equal(stage->story, "only");
        timer_deinit(&only.timer);
}

static void the_wall_clock_jumps_alone(void **state)
{
        struct stage *stage = *state;

        assert_int_equal(loop_wall_clock(stage->loop), LOOP_VIRTUAL_WALL_START);
        loop_advance(stage->loop, SEC);
        assert_int_equal(loop_wall_clock(stage->loop), LOOP_VIRTUAL_WALL_START + SEC);
        loop_set_wall_clock(stage->loop, 5);
        assert_int_equal(loop_wall_clock(stage->loop), 5);
        assert_int_equal(loop_now(stage->loop), LOOP_VIRTUAL_START + SEC);
        loop_advance(stage->loop, SEC);
        assert_int_equal(loop_wall_clock(stage->loop), SEC + 5);
}

static void what_is_spent_is_gone_for_all(void **state)
{
        struct stage *stage = *state;
        uint64_t before = loop_now(stage->loop);

        loop_spend(stage->loop, 3 * SEC);
        assert_true(loop_now(stage->loop) == before + 3 * SEC);
        assert_true(loop_wall_clock(stage->loop) == LOOP_VIRTUAL_WALL_START + 3 * SEC);
}

#define test(f) cmocka_unit_test_setup_teardown(f, stage_new, stage_free)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test(an_hour_takes_no_time),
                test(the_deadline_is_kept_exactly),
                test(with_nothing_to_do_time_goes_to_the_deadline),
                test(time_stops_where_the_predicate_comes_true),
                test(advancing_meets_each_timer_at_its_own_time),
                test(timers_due_together_keep_the_order_of_setting),
                test(a_timer_may_deinit_itself_and_clear_one_due_at_the_same_time),
                test(a_timer_without_delay_waits_for_the_next_round),
                test(deferred_calls_keep_their_order_and_come_once),
                test(a_work_runs_at_once_and_ends_in_the_next_round),
                test(slow_works_of_a_lane_queue_up),
                test(a_work_that_gets_no_thread_is_not_run),
                cmocka_unit_test(a_freed_loop_has_told_the_end_of_every_work),
                test(pipes_are_read_before_time_moves),
                test(signals_are_raised_by_the_test),
                test(run_returns_the_code_of_the_exit),
                test(run_with_nothing_left_does_not_hang),
                test(the_wall_clock_jumps_alone),
                test(what_is_spent_is_gone_for_all),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

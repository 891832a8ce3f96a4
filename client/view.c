/* SPDX-License-Identifier: MIT */
/*
 * The live view on a terminal.  A line never reaches the last column: erasing
 * to its end there would take the last character with it on some terminals.
 */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/describe.h"
#include "client/text.h"
#include "client/view.h"

#define REDRAW_USEC UINT64_C(100000)
#define BAR_MIN 8u
#define BAR_MAX 30u
#define BAR_TEXT 24u                    /* what stands beside a bar: "verifying FIRMWARE 100%" */
#define BAR_LEFT 13u                    /* ... and ", 95 s left" */
#define BAR_SPEED 13u                   /* ... and ", 105 KiB/s" */
#define COLUMNS_FOR_MODE 100

struct widths {
        size_t place, label, board, mode, state;
};

/* An absent camera is shown by the port where it was, in brackets: ids are too long for a line. */
static const char *place(const struct camera *camera, char *buffer, size_t size)
{
        if (camera->attached || !*camera->port)
                return camera_place(camera);
        (void)snprintf(buffer, size, "(%s)", camera->port);
        return buffer;
}

/* clean text in a field; style outside the padding */
static void field(FILE *f, const struct terminal *terminal, enum style style, const char *text, size_t width)
{
        _cleanup_free_ char *clean = text_clean(*text ? text : "-", terminal->utf8);
        _cleanup_free_ char *cut = clean ? text_cut(clean, width, terminal->utf8) : NULL;

        if (!cut)
                return;
        (void)fprintf(f, "%s%s%s%*s", style_on(terminal, style), cut, style_off(terminal, style),
                      (int)(width - MIN(width, text_width(cut)) + 2), "");
}

/* Under the cameras: what a person should do, whole.  One line per camera has no room for it, and it is why one looks. */
static size_t add_notes(const struct terminal *terminal, const struct camera *camera, const struct update *update,
                        size_t indent, char **lines, size_t n, size_t max)
{
        _cleanup_free_ char *advice = camera_advice(camera, update), *clean = NULL;
        char port[48];
        const char *rest;
        bool first = true;

        if (!advice || !*advice || terminal->columns <= indent + 16)
                return n;
        clean = text_clean(advice, terminal->utf8);
        for (rest = clean; rest && *rest && n < max; first = false) {
                size_t next, length = text_line(rest, terminal->columns - 1 - indent, &next);

                if (asprintf(&lines[n], "%-*s%.*s", (int)indent, first ? place(camera, port, sizeof(port)) : "",
                             (int)length, rest) < 0) {
                        lines[n] = NULL;
                        return n;
                }
                n++;
                rest += next;
        }
        return n;
}

static bool has_room_for_speed(size_t room)
{
        return room >= BAR_MAX + BAR_TEXT + BAR_LEFT + BAR_SPEED;
}

static void tail(FILE *f, const struct terminal *terminal, const struct camera *camera, const struct update *update, size_t room)
{
        _cleanup_free_ char *doing = camera_doing(camera, update, 1);
        _cleanup_free_ char *text = NULL, *clean = NULL, *cut = NULL;
        bool moving = update_is_open(update) && strcmp(update->step, "waiting") != 0;

        if (!doing)
                return;
        if (moving && room >= BAR_MIN + BAR_TEXT) {
                bool with_left = room >= BAR_MIN + BAR_TEXT + BAR_LEFT;
                bool with_speed = has_room_for_speed(room);
                size_t beside = BAR_TEXT + (with_left ? BAR_LEFT : 0) + (with_speed ? BAR_SPEED : 0);
                unsigned width = (unsigned)MIN(room - beside, (size_t)BAR_MAX);
                _cleanup_free_ char *pace = update_pace(update, with_speed);
                char bar[3 * BAR_MAX + 3];

                progress_bar(bar, sizeof(bar), update->progress, width, terminal->utf8);
                (void)fprintf(f, "%s%s%s ", style_on(terminal, STYLE_BUSY), bar, style_off(terminal, STYLE_BUSY));
                room -= width + 1;
                if (asprintf(&text, "%s%s%s", doing, with_left && pace && *pace ? ", " : "", with_left && pace ? pace : "") < 0)
                        text = NULL;
        } else if (asprintf(&text, "%s%s%s%s%s", camera->firmware, *camera->firmware && (*doing || *camera->diagnosis) ? "  " : "",
                            doing, *doing && *camera->diagnosis ? ": " : "", camera->diagnosis) < 0) {
                text = NULL;
        }
        if (text)
                clean = text_clean(text, terminal->utf8);
        if (clean)
                cut = text_cut(clean, room, terminal->utf8);
        if (cut)
                (void)fputs(cut, f);
}

/* The columns before the tail. */
static size_t columns_used(const struct widths *widths)
{
        return widths->place + widths->board + widths->state + 6 + (widths->mode ? widths->mode + 2 : 0) + (widths->label ? widths->label + 2 : 0);
}

static char *camera_line(const struct terminal *terminal, const struct camera *camera, const struct update *update,
                         const struct widths *widths)
{
        size_t used = columns_used(widths), size;
        char *line = NULL, port[48];
        FILE *f = open_memstream(&line, &size);

        if (!f)
                return NULL;
        field(f, terminal, STYLE_PLAIN, place(camera, port, sizeof(port)), widths->place);
        if (widths->label)
                field(f, terminal, STYLE_PLAIN, camera->label, widths->label);
        field(f, terminal, STYLE_PLAIN, camera_board(camera), widths->board);
        if (widths->mode)
                field(f, terminal, STYLE_PLAIN, camera->mode, widths->mode);
        field(f, terminal, camera_style(camera, update), camera->state, widths->state);
        if (used + 1 < terminal->columns)
                tail(f, terminal, camera, update, terminal->columns - 1 - used);
        return fclose(f) == 0 ? line : (free(line), NULL);
}

static void widen(size_t *width, const char *text)
{
        *width = MAX(*width, text_width(text));
}

/* When there is no room for all of them: first who needs a hand, then who is worked on; else in the order they came. */
static void order_by_need(struct bus *bus, const struct camera **cameras, size_t n)
{
        _cleanup_free_ const struct camera **ordered = calloc(n + 1, sizeof(*ordered));
        size_t used = 0;

        if (!ordered)
                return;
        for (int need = 2; need >= 0; need--)
                for (size_t i = 0; i < n; i++) {
                        const struct update *update = bus_camera_update(bus, cameras[i]);
                        int its = *cameras[i]->diagnosis ? 2 : update_is_open(update) ? 1 : 0;

                        if (its == need)
                                ordered[used++] = cameras[i];
                }
        memcpy(cameras, ordered, n * sizeof(*cameras));
}

/* What is in the way of its room gives way: the rows of cameras to the notes below them, which get half of the screen at most.  Those who have notes
 * stand first.  Returns how many lines are left. */
static size_t make_room(char **lines, size_t n_cameras, size_t n, size_t room)
{
        size_t n_notes = MIN(n - n_cameras, room / 2), shown = room - n_notes - 1, hidden = n_cameras - shown;

        for (size_t i = shown; i < n_cameras; i++)
                free(lines[i]);
        if (asprintf(&lines[shown], "... and %zu more", hidden) < 0)
                lines[shown] = NULL;
        for (size_t i = n_cameras + n_notes; i < n; i++)
                free(lines[i]);
        memmove(lines + shown + 1, lines + n_cameras, n_notes * sizeof(*lines));
        return shown + 1 + n_notes;
}

/* How fast all are together; of one, where its own line has no room for that.  NULL: there is nothing to say. */
static char *sum_up(const struct view *view, const struct camera *const *cameras, size_t n, const struct widths *widths)
{
        struct update_sum sum = { .working = 0 };
        size_t used = columns_used(widths) + 1;
        char begin[40];

        for (size_t i = 0; i < n; i++) {
                const struct update *update = bus_camera_update(view->bus, cameras[i]);

                if (update_is_open(update))
                        update_sum_add(&sum, update);
        }
        if (sum.working == 0 || (sum.working == 1 && (sum.speed == 0 || (used < view->client->out.columns &&
                                                                        has_room_for_speed(view->client->out.columns - used)))))
                return NULL;
        (void)snprintf(begin, sizeof(begin), "%zu updating", sum.working);
        return update_sum_text(&sum, begin);
}

static void draw(struct view *view)
{
        const struct terminal *terminal = &view->client->out;
        size_t max = bus_camera_count(view->bus), max_lines = max + terminal->rows + 2, n, n_cameras, room, rows;
        _cleanup_free_ const struct camera **cameras = calloc(max + 1, sizeof(*cameras));
        _cleanup_free_ char **lines = calloc(max_lines + 1, sizeof(*lines));
        _cleanup_free_ char *sum = NULL;
        const char *remark = view->remark;
        bool has_notes;
        struct widths widths = { .place = 4, .board = 5, .state = 5 };
        char port[48];

        view->pending = false;
        (void)sd_event_now(bus_event(view->bus), CLOCK_MONOTONIC, &view->drawn_at);
        if (!cameras || !lines)
                return;
        n = view->list(view->userdata, cameras, max);
        for (size_t i = 0; i < n; i++) {
                widen(&widths.place, place(cameras[i], port, sizeof(port)));
                widen(&widths.label, cameras[i]->label);
                widen(&widths.board, camera_board(cameras[i]));
                widen(&widths.state, cameras[i]->state);
                if (terminal->columns >= COLUMNS_FOR_MODE)
                        widen(&widths.mode, cameras[i]->mode);
        }
        /* The words at the end are why one looks: the columns before take half at most. */
        room = (MAX(terminal->columns / 2, 24u) - 6) / (widths.label ? 4 : 3);
        widths.place = MIN(widths.place, room);
        widths.label = MIN(widths.label, room);
        widths.board = MIN(widths.board, room);
        widths.state = MIN(widths.state, room);
        if (!remark)
                remark = sum = sum_up(view, cameras, n, &widths);
        rows = terminal->rows - 1 - (remark ? 1 : 0);
        if (terminal->rows > 3 && n > rows)
                order_by_need(view->bus, cameras, n);
        for (size_t i = 0; i < n; i++) {
                lines[i] = camera_line(terminal, cameras[i], bus_camera_update(view->bus, cameras[i]), &widths);
                if (!lines[i])
                        lines[i] = strdup("");
        }
        n_cameras = n;
        for (size_t i = 0; i < n_cameras && n + 2 < max_lines; i++) {
                size_t before = n == n_cameras ? n + 1 : n, after;

                after = add_notes(terminal, cameras[i], bus_camera_update(view->bus, cameras[i]), widths.place + 2, lines, before,
                                  max_lines - 1);
                if (after == before)
                        continue;
                if (before != n)
                        lines[n] = strdup("");
                n = after;
        }
        has_notes = n > n_cameras;
        if (terminal->rows > 3 && n_cameras > rows)
                n = make_room(lines, n_cameras, n, rows);
        /* The remark is of all of them: when not everything fits, it is the last to give way. */
        if (remark && n + 1 > terminal->rows - 1 && terminal->rows > 3) {
                size_t shown = terminal->rows - 3, hidden = n - shown;

                while (n > shown)
                        free(lines[--n]);
                if (asprintf(&lines[n], "... and %zu more", hidden) < 0)
                        lines[n] = NULL;
                n++;
        }
        if (remark && has_notes && n + 2 < terminal->rows)
                lines[n++] = strdup("");
        if (remark)
                lines[n++] = text_cut(remark, terminal->columns - 1, terminal->utf8);
        for (size_t i = 0; i < n; i++)
                if (!lines[i])
                        lines[i] = strdup("");
        live_draw(&view->live, (const char *const *)lines, n);
        for (size_t i = 0; i < n; i++)
                free(lines[i]);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct view *view = userdata;

        if (view->pending)
                draw(view);
        return 0;
}

static int on_resize(sd_event_source *source, const struct signalfd_siginfo *info, void *userdata)
{
        struct view *view = userdata;

        terminal_resize(&view->client->out, STDOUT_FILENO);
        live_resized(&view->live);
        view_changed(view);
        return 0;
}

int view_begin(struct view *view, struct client *client, struct bus *bus, view_list_fn list, void *userdata)
{
        sigset_t signals;
        int r;

        *view = (struct view){ .client = client, .bus = bus, .list = list, .userdata = userdata, .remark = view->remark };
        (void)sigemptyset(&signals);
        (void)sigaddset(&signals, SIGWINCH);
        (void)sigprocmask(SIG_BLOCK, &signals, NULL);
        r = sd_event_add_signal(bus_event(bus), &view->resize, SIGWINCH, on_resize, view);
        if (r < 0)
                return r;
        r = sd_event_add_time(bus_event(bus), &view->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, view);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(view->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        live_begin(&view->live, stdout, &client->out);
        draw(view);
        return 0;
}

void view_changed(struct view *view)
{
        uint64_t now = 0;

        if (!view->live.begun || view->pending)
                return;
        view->pending = true;
        /* Never at once, even when nothing was drawn for long: changes come in groups, and one frame shows the whole group. */
        (void)sd_event_now(bus_event(view->bus), CLOCK_MONOTONIC, &now);
        (void)sd_event_source_set_time(view->timer, MAX(view->drawn_at + REDRAW_USEC, now + 5000));
        (void)sd_event_source_set_enabled(view->timer, SD_EVENT_ONESHOT);
}

void view_end(struct view *view)
{
        if (!view->live.begun)
                return;
        draw(view);
        live_end(&view->live);
        view->timer = sd_event_source_unref(view->timer);
        view->resize = sd_event_source_unref(view->resize);
}

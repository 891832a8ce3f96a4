/* SPDX-License-Identifier: MIT */
/*
 * Writing and reading back: erase unit by erase unit, and only what the verdict has marked.
 */

#include "core/session-internal.h"

/* --- verify --- */

static void verify_next(struct session *s);

static void verify_chunk(struct session *s, const struct machine_chunk *chunk)
{
        struct target *target = &s->targets[s->target];
        uint32_t offset = session_chunk_offset(s, target, chunk), n = (uint32_t)chunk->size;
        uint32_t i;

        if (!target->wanted) {          /* a head that had to be erased */
                if (!bytes_all(chunk->data, n, 0xff))
                        target->survey.differs[s->unit] = true;
                return;
        }
        if (offset >= target->wanted_size)
                return;
        n = MIN(n, target->wanted_size - offset);
        i = (uint32_t)bytes_common_prefix(chunk->data, target->wanted + offset, n);
        if (i < n) {
                session_log(s, LOG_WARNING, "%s at 0x%08x: read back 0x%02x, wrote 0x%02x", target->partition.name,
                            target->partition.start + offset + i, chunk->data[i], target->wanted[offset + i]);
                target->survey.differs[s->unit] = true;
                s->enough = true;
        }
}

static void verified_unit(struct session *s)
{
        const struct target *target = &s->targets[s->target];

        if (target->wanted && !target->survey.differs[s->unit]) {
                s->events->set_proven(s->userdata, target->partition.name, (unsigned)s->unit, true);
                s->events->on_progress(s->userdata);
        }
        s->unit++;
        verify_next(s);
}

static uint32_t unit_bytes(const struct target *target, size_t u)
{
        const struct erase_unit *unit = &target->survey.units[u];

        if (!target->wanted)
                return unit->size;
        return MIN(unit->size, target->wanted_size - unit->offset);
}

static void finish(struct session *s)
{
        char text[96];

        for (size_t t = 0; t < s->n_targets; t++)
                for (size_t u = 0; u < s->targets[t].survey.n_units; u++)
                        if (s->targets[t].begun && s->targets[t].begun[u] && s->targets[t].survey.differs[u]) {
                                session_decide_again(s);
                                return;
                        }
        snprintf(text, sizeof(text), "%u of %u erase units written, all read back equal", s->units_written,
                 s->units_total);
        if (session_in_rom(s)) {
                session_end(s, SESSION_END_ROM_DONE, MACHINE_OK, text);
                return;
        }
        s->step = SESSION_LEAVING;
        s->end_after_leaving = SESSION_END_UPDATED;
        snprintf(s->message, sizeof(s->message), "%s", text);
        s->on_chunk = NULL;
        dfu_begin_manifest(&s->dfu);
        session_run(s, session_on_manifested);
}

static void verify_selected(struct session *s)
{
        struct target *target = &s->targets[s->target];

        s->on_chunk = verify_chunk;
        session_begin_read(s, target, target->survey.units[s->unit].offset, unit_bytes(target, s->unit));
        session_run(s, verified_unit);
}

static void verify_next(struct session *s)
{
        if (session_stops_here(s))
                return;
        s->on_chunk = NULL;
        for (; s->target < s->n_targets; s->target++, s->unit = 0) {
                struct target *target = &s->targets[s->target];

                for (; s->unit < target->survey.n_units; s->unit++) {
                        if (!target->begun || !target->begun[s->unit] ||
                            !verdict_writes_unit(&s->decision.verdict, s->target, s->unit))
                                continue;
                        target->survey.differs[s->unit] = false;
                        if (!session_in_rom(s) && s->dfu.alt != target->alt) {
                                dfu_begin_select(&s->dfu, target->alt);
                                session_run(s, verify_selected);
                        } else
                                verify_selected(s);
                        return;
                }
        }
        finish(s);
}

/* --- write --- */

static void write_next(struct session *s);

static void written_unit(struct session *s)
{
        s->units_written++;
        s->unit++;
        write_next(s);
}

static void erased_unit(struct session *s)
{
        struct target *target = &s->targets[s->target];
        const struct erase_unit *unit = &target->survey.units[s->unit];

        if (!target->wanted) {
                written_unit(s);
                return;
        }
        dfuse_begin_write(&s->dfuse, target->partition.start + unit->offset, target->wanted + unit->offset,
                          unit_bytes(target, s->unit));
        session_run(s, written_unit);
}

static void write_selected(struct session *s)
{
        struct target *target = &s->targets[s->target];
        const struct erase_unit *unit = &target->survey.units[s->unit];

        target->begun[s->unit] = true;
        s->wrote = true;
        if (session_in_rom(s)) {
                dfuse_begin_erase(&s->dfuse, target->partition.start + unit->offset);
                session_run(s, erased_unit);
                return;
        }
        dfu_begin_write(&s->dfu, unit->offset, target->wanted + unit->offset, unit_bytes(target, s->unit));
        session_run(s, written_unit);
}

static void write_next(struct session *s)
{
        if (session_stops_here(s))
                return;
        for (; s->target < s->n_targets; s->target++, s->unit = 0) {
                struct target *target = &s->targets[s->target];

                for (; s->unit < target->survey.n_units; s->unit++) {
                        if (!verdict_writes_unit(&s->decision.verdict, s->target, s->unit))
                                continue;
                        if (!session_in_rom(s) && s->dfu.alt != target->alt) {
                                dfu_begin_select(&s->dfu, target->alt);
                                session_run(s, write_selected);
                        } else
                                write_selected(s);
                        return;
                }
        }
        s->step = SESSION_VERIFYING;
        s->target = s->unit = 0;
        s->bytes_done = 0;
        s->events->on_progress(s->userdata);
        verify_next(s);
}

static void begin_writing(struct session *s)
{
        s->step = SESSION_WRITING;
        s->target = s->unit = 0;
        s->bytes_done = 0;
        s->on_chunk = NULL;
        s->events->on_progress(s->userdata);
        write_next(s);
}

static void on_committed(void *userdata, int error)
{
        struct session *s = userdata;

        s->on_disk = false;
        if (session_stops_here(s))
                return;
        if (error < 0) {
                char text[128];

                (void)snprintf(text, sizeof(text), "nothing was written: the state directory cannot be written to (%s)",
                               strerror(-error));
                /* It is none the worse for it: a camera that is whole goes on to run. */
                session_correct_wear(s);
                if (s->wrote || session_in_rom(s) || session_firmware_is_incomplete(s))
                        session_end(s, SESSION_END_NOT_RECORDED, MACHINE_OK, text);
                else
                        session_leave(s, SESSION_END_NOT_RECORDED, text);
                return;
        }
        begin_writing(s);
}

/* The intent and the wear are on disk before the first irreversible transfer. */
void session_commit(struct session *s)
{
        int r;

        s->step = SESSION_COMMITTING;
        s->bytes_done = s->bytes_total = 0;
        for (size_t t = 0; t < s->n_targets; t++) {
                struct target *target = &s->targets[t];

                for (size_t u = 0; u < target->survey.n_units; u++) {
                        bool writes = verdict_writes_unit(&s->decision.verdict, t, u);

                        if (target->wanted && s->round == 0 && target->survey.units[u].offset < target->wanted_size)
                                s->events->set_proven(s->userdata, target->partition.name, (unsigned)u,
                                                      !writes && !target->survey.differs[u]);
                        if (!writes)
                                continue;
                        target->planned[u] = true;
                        target->begun[u] = false;
                        s->events->add_wear(s->userdata, target->partition.name, (unsigned)u, 1);
                        s->bytes_total += unit_bytes(target, u);
                }
        }
        s->events->on_progress(s->userdata);
        s->on_disk = true;
        r = journal_sync(s->context.journal, on_committed, s);
        if (r < 0)
                on_committed(s, r);
}

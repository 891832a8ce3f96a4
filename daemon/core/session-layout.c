/* SPDX-License-Identifier: MIT */
/*
 * What the device shows of itself: its partitions or memory map, and the peek at a ROM device that is not
 * proven ours.
 */

#include "core/session-internal.h"

/* --- reading for others --- */

static void read_out_chunk(struct session *s, const struct machine_chunk *chunk)
{
        if (s->events->on_read(s->userdata, chunk->data, chunk->size) < 0)
                s->stopping = true;
}

static void was_read_out(struct session *s)
{
        s->on_chunk = NULL;
        if (!session_stops_here(s))
                session_end(s, SESSION_END_KEPT, MACHINE_OK, "read, and still held");
}

static void read_out_selected(struct session *s)
{
        const struct session_read *read = &s->wish.read;

        if (session_stops_here(s))
                return;
        s->on_chunk = read_out_chunk;
        session_begin_read(s, &s->targets[0], read->offset, s->save_size);
        session_run(s, was_read_out);
}

/* No image is compared, nothing is decided: one partition is selected and read. */
static void read_out(struct session *s)
{
        const struct session_read *read = &s->wish.read;
        const struct partition *partition;
        uint32_t size;
        uint8_t alt;

        partition = layout_partition(s->layout, read->partition, &alt);
        if (!partition) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "its bootloader has no partition %s", read->partition);
                return;
        }
        size = partition->limit - partition->start;
        if (read->offset >= size || read->size > size - read->offset) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "%s has %u bytes only", partition->name, size);
                return;
        }
        s->save_size = read->size ?: size - read->offset;
        s->targets[0] = (struct target){ .partition = *partition, .alt = alt };
        s->n_targets = 1;
        s->step = SESSION_SAVING;
        s->bytes_total = s->save_size;
        dfu_begin_select(&s->dfu, alt);
        session_run(s, read_out_selected);
}

/* --- layout: the alternate settings' strings --- */

static void read_alt_name(struct session *s);

static void got_layout(struct session *s)
{
        const char *names[ELEMENTSOF(s->alt_names)];

        for (size_t i = 0; i < s->n_alts; i++)
                names[i] = s->alt_names[i];

        if (session_in_rom(s)) {
                struct dfuse_segment segments[DFUSE_SEGMENTS_MAX];
                const struct erase_segment *mine = &s->board->memories[0].segments[0];
                size_t n = 0;

                /* The map names the chip's flash: one that is not this board's speaks against it (row 1). */
                if (dfuse_parse_map(names[0], NULL, segments, &n) < 0 || n == 0) {
                        session_end_with(s, SESSION_END_FAILED, MACHINE_BAD_REPLY,
                                         "its memory map makes no sense (\"%s\"): nothing is written unseen", names[0]);
                        return;
                }
                if (segments[0].address != mine->start || segments[0].sector_size != mine->unit_size) {
                        session_log(s, LOG_WARNING, "its memory map \"%s\" is not an %s's", names[0], s->board->name);
                        s->wish.contradicted = true;
                        session_decide(s);      /* nothing more is asked of it */
                        return;
                }
                session_fetch_next(s);
                return;
        }
        s->layout = board_match_layout(s->board, names, s->n_alts);
        if (!s->layout) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_BAD_REPLY,
                                 "its bootloader shows partitions that no known %s has: left alone", s->board->name);
                return;
        }
        s->decision.layout = (uint8_t)(s->layout - s->board->layouts);
        if (s->wish.read.wanted)
                read_out(s);
        else
                session_fetch_next(s);
}

static void on_alt_name(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct session *s = userdata;
        char *name = s->alt_names[s->reading_alt];
        size_t n = 0;

        if (result == USB_GONE) {
                session_gone_away(s);
                return;
        }
        /* A stall says that there is no such string; anything else, nothing about it. */
        if (result != USB_OK && result != USB_STALL) {
                session_end_with(s, SESSION_END_FAILED, machine_outcome_of_result(result), "the name of its partition %zu cannot be read (%s)",
                                 s->reading_alt, usb_result_to_string(result));
                return;
        }
        if (result == USB_OK && actual >= 2 && data[1] == 0x03)
                for (size_t i = 2; i + 1 < MIN(actual, (size_t)data[0]) && n + 1 < sizeof(s->alt_names[0]); i += 2)
                        name[n++] = data[i + 1] == 0 && data[i] >= 0x20 && data[i] < 0x7f ? (char)data[i] : '?';
        name[n] = '\0';
        s->reading_alt++;
        read_alt_name(s);
}

static void submit_layout(struct session *s, const struct usb_setup *setup, usb_done_fn on_done)
{
        int r = usb_submit(s->device, setup, NULL, DFU_TIMEOUT_REQUEST, on_done, s);

        if (r < 0)
                session_end_with(s, SESSION_END_FAILED, MACHINE_TRANSFER_ERROR, "cannot send a request: %s", strerror(-r));
}

static void read_alt_name(struct session *s)
{
        if (session_stops_here(s))
                return;
        if (s->reading_alt == s->n_alts) {
                got_layout(s);
                return;
        }
        submit_layout(s, &(struct usb_setup){ .request_type = 0x80, .request = 0x06,
                                              .value = (uint16_t)(0x0300 | s->alt_string[s->reading_alt]),
                                              .index = 0x0409, .length = 255 }, on_alt_name);
}

static void on_config(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct session *s = userdata;
        struct reader reader;

        if (result == USB_GONE) {
                session_gone_away(s);
                return;
        }
        if (result != USB_OK) {
                session_end_with(s, SESSION_END_FAILED, machine_outcome_of_result(result), "its configuration descriptor cannot be read (%s)",
                                 usb_result_to_string(result));
                return;
        }
        reader = reader_new(data, actual);
        while (reader.left >= 2) {
                uint8_t length = reader.data[0];
                const uint8_t *d = length >= 2 ? reader_take(&reader, length) : NULL;

                if (!d)
                        break;
                if (d[1] == 0x04 && length >= 9 && d[2] == 0 && s->n_alts < ELEMENTSOF(s->alt_names)) {
                        if (d[3] != s->n_alts)
                                break;          /* not in order: a device that we do not know */
                        s->alt_string[s->n_alts++] = d[8];
                } else if (d[1] == 0x21 && length >= 7)
                        s->sighting.transfer_size = get_le16(d + 5);
        }
        if (s->n_alts == 0) {
                session_end(s, SESSION_END_FAILED, MACHINE_BAD_REPLY, "its configuration descriptor makes no sense");
                return;
        }
        read_alt_name(s);
}

void session_read_layout(struct session *s)
{
        s->step = SESSION_READING_LAYOUT;
        submit_layout(s, &(struct usb_setup){ .request_type = 0x80, .request = 0x06, .value = 0x0200,
                                              .length = CONFIG_MAX }, on_config);
}

/* --- peeking at a ROM device that is not proven ours (row 3) --- */

static void peek_chunk(struct session *s, const struct machine_chunk *chunk)
{
        uint32_t n = (uint32_t)MIN(chunk->size, (size_t)(s->save_size - s->bytes_done));

        memcpy(s->save_buffer + s->bytes_done, chunk->data, n);
        s->bytes_done += n;
}

static void peeked(struct session *s)
{
        bool sound = false;

        if (session_stops_here(s))
                return;
        s->on_chunk = NULL;
        for (size_t i = 0; i < store_count(s->context.store) && !sound; i++) {
                const struct firmware_record *record = store_nth(s->context.store, i);
                struct blob *blob;

                if (strcmp(record->board, s->board->id) != 0 || strcmp(record->partition, "BOOTLOADER") != 0 ||
                    store_blob(s->context.store, &record->digest, &blob) < 0)
                        continue;
                sound = s->bytes_done > 0 &&
                        memcmp(blob->data, s->save_buffer, MIN(blob->size, (size_t)s->bytes_done)) == 0;
                blob_unref(blob);
        }
        /* Nothing was asked of the verdict: 4 KiB of it prove nothing, and nothing is written. */
        s->decision.verdict.kind = VERDICT_ASK;
        s->decision.verdict.reason = sound ? REASON_SOUND_BOOTLOADER : REASON_NOT_PROVEN;
        (void)s->events->on_decided(s->userdata, &s->decision);
        session_end(s, sound ? SESSION_END_SOUND_BOOTLOADER : SESSION_END_HELD, MACHINE_OK,
                    sound ? "the beginning of its flash is a known bootloader"
                          : "it is not proven to be the missing camera");
}

void session_begin_peek(struct session *s)
{
        s->save_size = DFUSE_READ_UNPROVEN_MAX;
        s->save_buffer = malloc(s->save_size);
        if (!s->save_buffer) {
                session_end(s, SESSION_END_FAILED, MACHINE_OK, "out of memory");
                return;
        }
        s->bytes_done = 0;
        s->step = SESSION_COMPARING;
        s->on_chunk = peek_chunk;
        dfuse_begin_peek(&s->dfuse, s->save_size);
        session_run(s, peeked);
}

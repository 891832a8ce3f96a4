/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A session's own struct, for the session*.c files only.  Each holds some links of the chain: session.c opens, leaves and
 * ends, session-layout.c and session-survey.c look, session-decide.c asks the verdict, session-write.c writes.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "core/session.h"
#include "protocol/dfu.h"
#include "protocol/dfuse.h"

#define OPEN_DEADLINE     (5 * SEC)
#define LEAVE_WAIT        (2 * SEC)     /* after DETACH: bootloaders with bcdDevice 0x0200 leave when their window has run out (dfu.md A.7) */
#define WRITE_ROUNDS_MAX  3             /* of writing what did not read back equal */
#define SESSION_TARGETS_MAX 8
#define SESSION_DEADLINE  (3600 * SEC)  /* of the whole: the longest honest one (an AE3's ROMFS on worn flash) takes 45 minutes */
#define CONFIG_MAX        512
#define HURRY             (100 * MSEC)  /* after a bootloader came: opening and pinning take a few milliseconds each */
#define GIVE_WAY_MAX      (500 * MSEC)  /* in one session */
#define ALT_NAME_MAX      128           /* no string descriptor is longer; the memory map of an F42x has 83 characters */
#define FIRST_DFU_GENERATION "4.6.0"    /* first release that expects the DFU bootloader and its file system's place (dfu.md A.1) */

/* One partition that the session looks at, and what is wanted there. */
struct target {
        struct partition partition;
        uint8_t alt;
        struct blob *wanted_blob;
        const uint8_t *wanted;          /* NULL: only looked at */
        uint32_t wanted_size;
        struct blob *candidates[SURVEY_CANDIDATES_MAX];
        const struct firmware_record *records[SURVEY_CANDIDATES_MAX];   /* NULL: a saved image */
        size_t n_candidates;
        struct survey survey;
        bool head_only;                 /* ROM: looked at because its first unit may have to be erased */
        bool saved;
        bool not_ours;                  /* unknown, and not what our interrupted write would have left */
        enum image_fault fault;
        struct verdict_unit *units;     /* evidence */
        bool *planned, *begun;          /* per unit: counted as wear; erase really begun */
};

struct session {
        struct session_context context;
        const struct session_events *events;
        void *userdata;

        const struct board *board;
        const struct layout *layout;
        struct sighting sighting;
        enum camera_mode mode;
        struct session_wish wish;
        char name[PORT_PATH_MAX + CAMERA_KEY_MAX];
        struct log_subject subject;

        enum session_step step;
        struct usb_opening *opening;
        struct usb_device *device;
        struct dfu dfu;
        struct dfuse dfuse;
        struct timer timer;
        struct timer overall;
        struct machine_step current;    /* the machine's last step: what the timer waits for */
        void (*then)(struct session *s);
        void (*on_chunk)(struct session *s, const struct machine_chunk *chunk);
        bool enough;                    /* on_chunk has seen what it wanted of this read */
        bool stopping, release;         /* session_stop() */
        bool on_disk;                   /* no request is under way, only journal or store are waited for */
        bool surveyed;                  /* all targets were read */
        struct usb_setup ahead[USB_QUEUE_MAX - 1];      /* requests sent before the machine asked for them */
        size_t n_ahead;
        struct usb_setup asked;         /* what this operation's machine asked for last */
        bool giving_way;                /* the timer ends it; then goes on what current says */
        uint64_t gave_way;              /* so far */
        uint64_t own_hurry;             /* what context.hurry_until was when this one came: not to give way to itself */
        bool draining;                  /* they are taken back; then goes on what current says */
        bool waiting_for_machine;       /* the timer is the machine's MACHINE_WAIT */

        /* layout */
        uint8_t config[CONFIG_MAX];
        char alt_names[BOARD_PARTITIONS_MAX * 2][ALT_NAME_MAX];
        uint8_t alt_string[BOARD_PARTITIONS_MAX * 2];
        size_t n_alts, reading_alt;

        struct blob *fetched[SURVEY_CANDIDATES_MAX * 2];        /* held until the targets hold what they need */
        size_t n_fetched, fetch_image, fetch_firmware, fetch_saved;

        struct target targets[SESSION_TARGETS_MAX];
        size_t n_targets, target;
        size_t unit;
        bool asked_again;               /* it said that this target cannot be read, and was asked once more */
        struct session_decision decision;
        unsigned round;
        bool wrote, verified_all;
        bool head_added;                /* ROM: the firmware is looked at too, because its first unit may have to go */

        uint8_t *save_buffer;
        uint32_t save_size;

        uint64_t bytes_done, bytes_total;
        uint64_t op_bytes;              /* bytes_done before the present operation */
        uint32_t read_offset;           /* where the present reading began, in its partition */
        unsigned units_written, units_total;

        enum session_end end_after_leaving;
        bool told_to_leave;             /* DETACH was sent: that it goes is no accident */
        bool deconfigured;              /* its configuration was taken away, because it did not leave on DETACH */
        char message[256];
};

#define session_log(s, level, ...) log_about(level, &(s)->subject, __VA_ARGS__)

/* session.c */
void session_drop_fetched(struct session *s);
void session_correct_wear(struct session *s);
void session_end(struct session *s, enum session_end end, enum machine_outcome outcome, const char *message);
_printf_(4, 5)
void session_end_with(struct session *s, enum session_end end, enum machine_outcome outcome, const char *format, ...);
void session_gone_away(struct session *s);
void session_on_manifested(struct session *s);
void session_leave(struct session *s, enum session_end end, const char *message);
/* Everything reads back equal: it is told to leave, or stays. */
void session_updated(struct session *s, const char *message);
/* At a safe boundary: true if the session was asked to stop, and has ended or is leaving.  The caller does nothing more. */
bool session_stops_here(struct session *s);

/* session-machine.c */
bool session_in_rom(const struct session *s);
void session_take_machine_step(struct session *s, struct machine_step step);
void session_on_machine_step(struct session *s, struct machine_step step);
void session_run(struct session *s, void (*then)(struct session *s));
void session_begin_read(struct session *s, const struct target *target, uint32_t offset, uint32_t size);
uint32_t session_chunk_offset(const struct session *s, const struct target *target, const struct machine_chunk *chunk);

/* session-write.c */
void session_commit(struct session *s);

/* session-decide.c */
bool session_firmware_is_incomplete(const struct session *s);
bool session_would_boot(const struct session *s);
void session_decide(struct session *s);
void session_decide_again(struct session *s);

/* session-survey.c */
void session_survey_next_target(struct session *s);
void session_survey_again(struct session *s);
int session_add_target(struct session *s, const struct partition *partition, uint8_t alt, struct blob *wanted_blob,
                       const uint8_t *wanted, uint32_t wanted_size);
void session_fetch_next(struct session *s);

/* session-layout.c */
void session_read_layout(struct session *s);
void session_begin_peek(struct session *s);

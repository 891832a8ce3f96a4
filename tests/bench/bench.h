/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the benches of the whole program share: a directory, a private bus, the
 * real camrescued and camrescue on a simulated machine (integration/machine.h),
 * /proc, and gates.  Prints TAP, and the table between as comments.
 *
 * Whatever cannot be set up ends the bench: bench_die().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench/row.h"
#include "integration/machine.h"

/* Runs bench() on a machine of its own; smoke: told by --smoke.  trace: the machine writes down every request in the file
 * "trace" of the directory.  Returns what main() returns. */
int bench_main(int argc, char **argv, bool trace, int (*bench)(bool smoke));
/* For who brings up one machine after another on one directory, which stays: runs part() on a machine made for it, in this process,
 * which is of no other use afterwards.  Returns what part() returned, 77, or 99. */
int bench_on(const char *directory, int (*part)(void));
__attribute__((noreturn, format(printf, 1, 2))) void bench_die(const char *format, ...);
/* A line of the table. */
__attribute__((format(printf, 1, 2))) void bench_say(const char *format, ...);
/* One case: figure may be at most max. */
bool bench_gate(const char *what, double figure, double max, const char *unit);
/* One case that is no figure. */
bool bench_check(const char *what, bool holds);
/* 0: every gate was held. */
int bench_result(void);

/* On a disk, if there is one: $TMPDIR, /var/tmp, /tmp.  Goes when the bench ends.  ret_disk: is it one? */
const char *bench_directory(bool *ret_disk);
/* A file in it. */
const char *bench_path(const char *name, char path[static 256]);
void bench_write_file(const char *name, const void *data, size_t size);
/* Beside the sources, beside the programs. */
const char *bench_source(const char *name, char path[static 256]);
const char *bench_program(const char *name, char path[static 256]);

double bench_seconds(void);
void bench_sleep(double seconds);

/* --- processes --- */
/* environment: "NAME=value" in addition, ending with NULL.  Its output goes to the file log in the directory. */
pid_t bench_spawn(const char *const *argv, const char *const *environment, const char *log);
/* Ends it, and returns its exit status. */
int bench_end(pid_t pid);
/* Waits for it to end by itself. */
int bench_wait(pid_t pid);

void bench_start_bus(void);
const char *bench_bus_address(void);
/* A connection to it of one's own. */
struct sd_bus *bench_open_bus(void);
/* On a state directory of this name, ready when this returns. */
pid_t bench_start_daemon(const char *state, const char *const *environment);
/* The floor daemon (floor-daemon.c), which has its name when this returns. */
pid_t bench_start_floor(void);
/* camrescue; returns its exit status, output in the file client.log. */
int bench_client(const char *const *arguments);

struct bench_proc {
        unsigned threads;
        uint64_t switches;              /* of all threads, voluntary and not */
        unsigned private_dirty, rss;    /* KiB */
};
void bench_proc(pid_t pid, struct bench_proc *ret);
/* Processor time that it has used, seconds. */
double bench_cpu(pid_t pid);

/* --- figures --- */
/* Sorts; the value that this part (0 ... 1) of them does not exceed. */
double bench_quantile(double *values, size_t n, double part);

/* --- the machine --- */
struct machine_answer bench_tell(enum machine_verb verb, const char *name, int value);
/* A camera of this board as real as it gets; adjust() may change its nature. */
void bench_camera(const char *name, enum sim_board board, unsigned seed, bool firmware, void (*adjust)(struct sim_config *config));
/* Until condition holds for this camera; false after so many seconds.  It is asked in the machine, at each change (MACHINE_UNTIL). */
bool bench_until(const char *name, double seconds, bool (*condition)(const struct machine_answer *answer));
/* The same with a number that only the test knows: answer->wanted. */
bool bench_until_wanted(const char *name, double seconds, bool (*condition)(const struct machine_answer *answer), uint64_t wanted);
/* It runs its firmware since the counters were reset. */
bool bench_is_running(const struct machine_answer *answer);
/* The image version (seed) of this board as a file "firmware/BOARD/..." in the directory, and from there into the store. */
void bench_import(enum sim_board board, const char *version, unsigned seed);
/* Plugs it in once, so that the daemon knows it, with the first n bytes of this firmware in its flash; and out again. */
void bench_prepare(const char *name, const char *version, unsigned seed, size_t n);
/* And a moment passes. */
void bench_unplug(const char *name);

/* --- what nobody can be faster than, by the model's own tables; seconds --- */
#define BENCH_BLOCK 4096u
/* Reading so many bytes in blocks. */
double bench_reading(const char *name, size_t size);
/* Writing FIRMWARE's bytes [from, to), where from begins an erase unit: erasing, programming, and one DNLOAD and two GETSTATUS for
 * each block. */
double bench_writing(const char *name, size_t from, size_t to);

/* --- the trace --- */
/* One conversation with a bootloader; seconds, on the clock of machine_answer.counters. */
struct bench_conversation {
        double begin;                   /* end of the first DFU request */
        double looked;                  /* end of the last request before the first block */
        double first_block, written, verified;
        unsigned looks, blocks, statuses, verifies;
};
/* How long it is now. */
long bench_trace_end(void);
/* What was said to this camera's bootloader since the trace was so long. */
struct bench_conversation bench_listen(const char *name, long from);

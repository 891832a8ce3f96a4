/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A hand, a port and a host for one simulated camera, in virtual time: the
 * few verbs in which the tests of the model are written.  It enumerates as the
 * kernel does, if told to, and sends what it is told, synchronously.
 * BENCH_TRACE=1 in the environment: one line per request to stderr.
 */

#include "sim/model.h"

struct bench_timer;

struct bench {
        struct sim_camera *camera;
        uint64_t now;
        struct bench_timer *timers;
        bool connected, configured;
        bool enumerate;                 /* SET_CONFIGURATION(1) 350 ms after the device connected; default */
        unsigned n_connects, n_disconnects;
        uint64_t connected_at, disconnected_at;
        void *enumeration;
        unsigned completions;
};

/* A camera with its bootloader and a firmware that runs, unplugged. config: NULL for the board's default. */
struct bench *bench_new(enum sim_board board, const struct sim_config *config);
struct bench *bench_free(struct bench *bench);

/* Lets time pass. */
void bench_run(struct bench *bench, uint64_t us);
/* Until the camera is in mode and, if it shows on USB, configured; false after the deadline. */
bool bench_wait(struct bench *bench, enum sim_mode mode, uint64_t us);
/* Plugs it in and waits until it is configured in mode; fails the test if not. */
void bench_plug(struct bench *bench, enum sim_mode mode);
void bench_plug_with_jumper(struct bench *bench);

/* One control transfer; bytes moved, or the negative errno of its end; -ETIMEDOUT: cancelled after timeout. */
int bench_control(struct bench *bench, uint8_t type, uint8_t request, uint16_t value, uint16_t index,
                  void *data, uint16_t length, uint64_t timeout);

/* DFU requests on interface 0, with a timeout of 20 s. */
int bench_out(struct bench *bench, uint8_t request, uint16_t value, const void *data, size_t size);
int bench_in(struct bench *bench, uint8_t request, uint16_t value, void *data, size_t size);
struct bench_status {
        int result;                     /* of the transfer: 6 */
        uint8_t status, state;
        unsigned poll;
};
struct bench_status bench_status(struct bench *bench);
int bench_state(struct bench *bench);
int bench_select(struct bench *bench, uint8_t alt);
/* DNLOAD, GETSTATUS, GETSTATUS; returns the last status. */
struct bench_status bench_write(struct bench *bench, uint16_t block, const void *data, size_t size);
/* ROM: Set Address Pointer. */
struct bench_status bench_point(struct bench *bench, uint32_t address);
struct bench_status bench_erase(struct bench *bench, uint32_t address);

#define assert_status(s, expected_state, expected_status)                                       \
        do {                                                                                    \
                struct bench_status _s_ = (s);                                                  \
                assert_int_equal(_s_.result, 6);                                                \
                assert_int_equal(_s_.state, (expected_state));                                  \
                assert_int_equal(_s_.status, (expected_status));                                \
        } while (0)

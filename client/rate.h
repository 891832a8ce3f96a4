/* SPDX-License-Identifier: MIT */
#pragma once

/* Speed and time left, as the daemon tells them, for people. */

#include <stdint.h>

/* Seconds, in steps that are no more exact than the guess. */
uint64_t rate_seconds(uint64_t usec);

/* "105 KiB/s"; "12 s", "3 min".  "" for 0. */
#define RATE_TEXT_SIZE 24
const char *rate_speed_text(uint64_t speed, char text[static RATE_TEXT_SIZE]);
const char *rate_left_text(uint64_t seconds, char text[static RATE_TEXT_SIZE]);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The host's sleep and its shutdown, as logind announces them: two delay locks
 * hold them up until every session has come to a boundary, for 4.5 s at most.
 * From the announcement until the end of the sleep nothing is begun, and what
 * leaves the bus tells nothing (inhibit.h).
 *
 * While a camera is written, two more locks block them: a person's suspend is refused,
 * or asks him, until the camera is whole.  That is a matter of minutes: a camera that is
 * written for longer than 5 blocks nothing any more.  Where logind does not grant them
 * (polkit's rule is missing) the delay is all there is.
 *
 * Without logind nothing happens; it is found when it comes.
 */

#include "edge/bus.h"

struct sleep;

/* On the connection of bus, which must outlive it. */
int sleep_new(struct bus *bus, struct sleep **ret);
struct sleep *sleep_free(struct sleep *sleep);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a person waits for of a camera: "state=running", "mode=runtime",
 * "update=done".  watch --until and wait know the same conditions.
 */

#include "client/bus.h"
#include "client/client.h"

enum condition_subject { CONDITION_STATE, CONDITION_MODE, CONDITION_FIRMWARE, CONDITION_DIAGNOSIS, CONDITION_UPDATE };

struct condition {
        enum condition_subject subject;
        const char *value;              /* points into the text that was parsed */
};

/* "SUBJECT=VALUE", or a state alone.  EXIT_DONE, or EXIT_WRONG_USAGE, also for a word that no camera's property ever is (words.h): one
 * would wait for ever; reported.  also: what the verb takes besides a state. */
enum exit_code condition_parse(const struct client *client, const char *text, const char *also, struct condition *ret);
bool condition_holds(const struct condition *condition, struct bus *bus, const struct camera *camera);
/* Of each camera named; without a name, of all that are attached (at least one), or of all for mode=absent.  Names are looked up each
 * time: a camera may come later, move, or turn out to be one that was known by its id. */
bool condition_holds_for_names(const struct condition *condition, struct bus *bus, char *const *names, int n_names);
/* May one wait for a camera of this name?  For one that was never here, and for whichever comes to a port; it is said on stderr.
 * EXIT_DONE, or EXIT_NO_CAMERA: several are meant, reported. */
enum exit_code condition_check_name(const struct client *client, struct bus *bus, const char *name);

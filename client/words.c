/* SPDX-License-Identifier: MIT */
/* See words.h. */

#include <stddef.h>
#include <string.h>

#include "client/words.h"

const char *const words_states[] = {
        "absent", "silent", "waiting", "passing", "booting", "staying", "running", "calling", "restarting", "opening", "blocked",
        "examining", "asking", "updating", "releasing", "confirming", "no-firmware", "jumper", "unproven", "left-alone", "unreadable",
        "failed", "inhibited", "held", NULL
};

const char *const words_modes[] = { "absent", "rom-dfu", "bootloader", "vcp-bootloader", "runtime", "other", "unreadable", NULL };

const char *const words_diagnoses[] = {
        "silent-boot", "intact-but-silent", "unknown-firmware", "waiting-for-replug", "awaited", "no-firmware", "jumper",
        "restored-remove-jumper", "restored-not-back", "unproven", "board-unknown", "unknown-bootloader", "automatic-off", "busy",
        "no-permission", "no-node", "verified-not-seen", "ignores-detach", "failed", "state-directory", "refused", "old-bootloader",
        "not-handled", "unreadable", "stays-in-bootloader", "inhibited", "held", NULL
};

const char *const words_updates[] = { "ended", "open", "done", "failed", "refused", "cancelled", "not-seen", NULL };

bool words_have(const char *const *words, const char *word)
{
        for (; *words; words++)
                if (strcmp(*words, word) == 0)
                        return true;
        return false;
}

/* SPDX-License-Identifier: MIT */
/*
 * Which camera a person means.  A name decides what gets written where, so in
 * doubt it fits nothing.
 */

#include <string.h>
#include <strings.h>

#include "client/name.h"

bool name_is_port(const char *name)
{
        size_t n = strspn(name, "0123456789");

        if (n == 0 || name[n] != '-')
                return false;
        name += n + 1;
        for (;;) {
                n = strspn(name, "0123456789");
                if (n == 0)
                        return false;
                name += n;
                if (*name == '\0')
                        return true;
                if (*name++ != '.')
                        return false;
        }
}

static bool begins(const char *whole, const char *part)
{
        return strncasecmp(whole, part, strlen(part)) == 0;
}

enum name_rank name_rank(const char *name, const struct name_candidate *candidate)
{
        const char *label = candidate->label ? candidate->label : "";

        if (*name == '\0')
                return NAME_RANK_NONE;
        if (strcmp(candidate->port, name) == 0)
                return candidate->attached ? NAME_RANK_EXACT : NAME_RANK_WAS_AT_PORT;
        if (strcasecmp(candidate->unique_id, name) == 0 || strcasecmp(candidate->key, name) == 0 ||
            strcasecmp(candidate->serial, name) == 0)
                return NAME_RANK_EXACT;
        /* A label that looks like a port (no daemon of ours gives one) names nothing. */
        if (name_is_port(name))
                return NAME_RANK_NONE;
        if (strcasecmp(label, name) == 0)
                return NAME_RANK_EXACT;
        if (begins(candidate->port, name) || begins(candidate->unique_id, name) || begins(candidate->key, name) ||
            begins(candidate->serial, name) || begins(label, name))
                return NAME_RANK_PREFIX;
        return NAME_RANK_NONE;
}

enum name_match name_find(const char *name, const struct name_candidate *candidates, size_t n, size_t *ret_index)
{
        enum name_rank best = NAME_RANK_NONE;
        size_t index = 0, equals = 0;

        for (size_t i = 0; i < n; i++) {
                enum name_rank rank = name_rank(name, &candidates[i]);

                if (rank == NAME_RANK_NONE || rank < best)
                        continue;
                if (rank > best) {
                        best = rank;
                        equals = 0;
                        index = i;
                }
                equals++;
        }
        if (equals == 0)
                return NAME_NONE;
        if (equals > 1)
                return NAME_AMBIGUOUS;
        *ret_index = index;
        return NAME_FOUND;
}

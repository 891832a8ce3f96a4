/* SPDX-License-Identifier: MIT */
/*
 * camrescue retry: the last update of a camera, which was given up, refused or
 * cancelled, once more.
 */

#include "client/client.h"
#include "client/follow.h"

enum exit_code verb_retry(struct client *client, int argc, char **argv)
{
        return follow_verb(client, argc, argv, "Retry");
}

/* SPDX-License-Identifier: MIT */
/*
 * camrescue restore: asks for the image back that was saved before the camera
 * was last overwritten.
 */

#include "client/client.h"
#include "client/follow.h"

enum exit_code verb_restore(struct client *client, int argc, char **argv)
{
        return follow_verb(client, argc, argv, "Restore");
}

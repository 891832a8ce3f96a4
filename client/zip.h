/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reading zip archives with minizip, which is loaded when the first one is
 * opened and not before.  Nothing is unpacked to disk.
 */

#include <stdbool.h>
#include <stddef.h>

/* Is this member wanted?  Only wanted ones are read. */
typedef bool (*zip_wanted_fn)(void *userdata, const char *name);
/* A negative return ends zip_each() and is returned. */
typedef int (*zip_member_fn)(void *userdata, const char *name, const void *data, size_t size);

/* -ENOPKG: minizip is not installed; -EBADMSG: no zip, or a damaged one; -EFBIG: a wanted member is larger than max. */
int zip_each(const char *path, size_t max, zip_wanted_fn wanted, zip_member_fn fn, void *userdata);
const char *zip_problem(int error);

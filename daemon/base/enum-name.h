/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Names of enum values come from one table, to and from string.  For
 *         enum camera_mode { CAMERA_MODE_ABSENT, ..., _CAMERA_MODE_MAX };
 * the header says DECLARE_ENUM_NAMES(camera_mode) and the source
 *         static const char *const camera_mode_names[_CAMERA_MODE_MAX] = { [CAMERA_MODE_ABSENT] = "absent", ... };
 *         DEFINE_ENUM_NAMES(camera_mode, _CAMERA_MODE_MAX)
 * to_string() of a value outside the table is NULL; from_string() of an unknown name is -EINVAL.
 */

#include <errno.h>
#include <string.h>

#define DECLARE_ENUM_NAMES(name)                                                \
        const char *name##_to_string(enum name value);                          \
        int name##_from_string(const char *string)

#define DEFINE_ENUM_NAMES(name, max)                                            \
        const char *name##_to_string(enum name value)                           \
        {                                                                       \
                if ((int)value < 0 || (int)value >= (int)(max))                 \
                        return NULL;                                            \
                return name##_names[value];                                     \
        }                                                                       \
        int name##_from_string(const char *string)                              \
        {                                                                       \
                for (int i = 0; i < (int)(max); i++)                            \
                        if (name##_names[i] && strcmp(name##_names[i], string) == 0) \
                                return i;                                       \
                return -EINVAL;                                                 \
        }                                                                       \
        _Static_assert((int)(max) > 0, "empty enum")

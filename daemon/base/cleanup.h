/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Scope guards and ownership.  A constructor guards its object from the first
 * allocation and gives it away in its last line:
 *
 *         _cleanup_(update_freep) struct update *update = NULL;
 *         ...
 *         *ret = take_ptr(update);
 *         return 0;
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _unused_ __attribute__((unused))
#define _printf_(a, b) __attribute__((format(printf, a, b)))

/* DEFINE_FREEP(update): update_freep() from update_free(). */
#define DEFINE_FREEP(name)                                                      \
        static inline void name##_freep(struct name **p)                        \
        {                                                                       \
                if (*p)                                                         \
                        name##_free(*p);                                        \
        }

#define take_ptr(ptr)                                                           \
        ({                                                                      \
                __typeof__(ptr) *_p_ = &(ptr);                                  \
                __typeof__(ptr) _v_ = *_p_;                                     \
                *_p_ = NULL;                                                    \
                _v_;                                                            \
        })

static inline void freep(void *p)
{
        free(*(void **)p);
}

static inline int take_fd(int *fd)
{
        int v = *fd;

        *fd = -1;
        return v;
}

static inline void closep(int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
}

static inline void fclosep(FILE **f)
{
        if (*f)
                (void)fclose(*f);
}

#define _cleanup_free_   _cleanup_(freep)
#define _cleanup_close_  _cleanup_(closep)
#define _cleanup_fclose_ _cleanup_(fclosep)

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ({ __typeof__(a) _a_ = (a); __typeof__(b) _b_ = (b); _a_ < _b_ ? _a_ : _b_; })
#define MAX(a, b) ({ __typeof__(a) _a_ = (a); __typeof__(b) _b_ = (b); _a_ > _b_ ? _a_ : _b_; })
#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

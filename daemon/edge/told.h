/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What listeners were told last of one object, so that they are told what has changed
 * and no more.  Of a value its fingerprint is kept: 8 bytes a property.  When it is told: news.h.
 *
 * Who reads an object between two signals may see a value that is taken back before the
 * next one: such a property is told then, changed or not, or he would believe it for ever.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>

#define TOLD_MAX 32                     /* properties of one interface that change */

TAILQ_HEAD(told_queue, told);

struct told {
        void *object;                   /* as the getters of vtable take it */
        char *path;                     /* on the bus */
        const char *interface;
        const sd_bus_vtable *vtable;
        uint32_t read;                  /* of the properties below, a bit each: something else than what was told was read */
        LIST_ENTRY(told) link;          /* the owner's */
        struct told_queue *queue;       /* in which it waits to be told; NULL: it does not.  This and the next are those of news.c */
        TAILQ_ENTRY(told) waiting;
        uint64_t values[];              /* of the properties that change, in the order of the vtable */
};

/* As object is now.  interface, vtable and object must outlive it; path is copied.  Negative errno. */
int told_new(sd_bus *connection, const char *path, const char *interface, const sd_bus_vtable *vtable, void *object, struct told **ret);
/* NULL is fine; it must not wait to be told.  Returns NULL. */
struct told *told_free(struct told *told);

/* Which properties are to be told now, as bits: they are taken as told.  Negative errno: not known; nothing is taken as told. */
int told_take(struct told *told, sd_bus *connection, uint32_t *ret_properties);
/* They could not be told. */
void told_again(struct told *told, uint32_t properties);
/* Their names, ended by NULL, for sd_bus_emit_properties_changed_strv(). */
void told_names(const struct told *told, uint32_t properties, char *names[static TOLD_MAX + 1]);
/* Somebody reads the object as it is now: one property, or with NULL all. */
void told_read(struct told *told, sd_bus *connection, const char *property);

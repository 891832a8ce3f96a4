/* SPDX-License-Identifier: MIT */

/*
 * See device-table.h.  A plain array: a few hundred entries at most, looked
 * through once per event.
 */

#include "edge/device-table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

struct entry {
        struct attachment attachment;
        bool by_event;                  /* an event has spoken of it */
};

struct device_table {
        struct entry *entries;
        size_t n, allocated;
};

int device_table_new(struct device_table **ret)
{
        struct device_table *table = calloc(1, sizeof(*table));

        if (!table)
                return -ENOMEM;
        *ret = table;
        return 0;
}

struct device_table *device_table_free(struct device_table *table)
{
        if (!table)
                return NULL;
        free(table->entries);
        free(table);
        return NULL;
}

size_t device_table_size(const struct device_table *table)
{
        return table->n;
}

static struct entry *find_port(const struct device_table *table, const char *port)
{
        for (size_t i = 0; i < table->n; i++)
                if (strcmp(table->entries[i].attachment.port, port) == 0)
                        return &table->entries[i];
        return NULL;
}

int device_table_add(struct device_table *table, const struct attachment *attachment, bool by_event)
{
        struct entry *entry = find_port(table, attachment->port);

        if (entry) {
                bool same = attachment_equal(&entry->attachment, attachment);
                bool first_event = by_event && !entry->by_event;

                entry->by_event = by_event || (same && entry->by_event);
                entry->attachment = *attachment;
                return !same ? DEVICE_REPLACED : first_event ? DEVICE_AGAIN : DEVICE_KNOWN;
        }

        if (table->n == table->allocated) {
                size_t allocated = MAX(2 * table->allocated, (size_t)8);
                struct entry *entries = reallocarray(table->entries, allocated, sizeof(*entries));

                if (!entries)
                        return -ENOMEM;
                table->entries = entries;
                table->allocated = allocated;
        }
        table->entries[table->n++] = (struct entry){ .attachment = *attachment, .by_event = by_event };
        return DEVICE_NEW;
}

static void take_out(struct device_table *table, struct entry *entry)
{
        *entry = table->entries[--table->n];
        if (table->n == 0) {
                free(table->entries);
                table->entries = NULL;
                table->allocated = 0;
        }
}

bool device_table_remove(struct device_table *table, const struct attachment *attachment)
{
        struct entry *entry = find_port(table, attachment->port);

        if (!entry || !attachment_equal(&entry->attachment, attachment))
                return false;
        take_out(table, entry);
        return true;
}

bool device_table_has(const struct device_table *table, const struct attachment *attachment)
{
        const struct entry *entry = find_port(table, attachment->port);

        return entry && attachment_equal(&entry->attachment, attachment);
}

void device_table_retain(struct device_table *table, const struct attachment *present, size_t n_present,
                         void (*fn)(void *userdata, const char *port), void *userdata)
{
        for (size_t i = 0; i < table->n;) {
                struct attachment attachment = table->entries[i].attachment;
                bool found = false;

                for (size_t j = 0; j < n_present && !found; j++)
                        found = attachment_equal(&attachment, &present[j]);
                if (found) {
                        i++;
                        continue;
                }
                /* The last entry has moved here: look at this place again. */
                take_out(table, &table->entries[i]);
                fn(userdata, attachment.port);
        }
}

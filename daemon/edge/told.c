/* SPDX-License-Identifier: MIT */
/*
 * See told.h.  The values are those that the getters of the vtable give: they write into
 * a message that is read back here and never sent, so no property can be forgotten.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "edge/told.h"

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
        const uint8_t *bytes = data;

        for (size_t i = 0; i < size; i++)
                hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);     /* FNV-1a */
        return hash;
}

/* Of the next complete type. */
static int fingerprint(sd_bus_message *m, uint64_t *hash)
{
        const char *contents, *string;
        uint64_t number = 0;
        char type;
        int r = sd_bus_message_peek_type(m, &type, &contents);

        if (r < 0)
                return r;
        *hash = mix(*hash, &type, 1);
        switch (type) {
        case SD_BUS_TYPE_ARRAY:
        case SD_BUS_TYPE_STRUCT:
                r = sd_bus_message_enter_container(m, type, contents);
                while (r >= 0 && (r = sd_bus_message_at_end(m, false)) == 0)
                        r = fingerprint(m, hash);
                *hash = mix(*hash, ")", 1);
                return r < 0 ? r : sd_bus_message_exit_container(m);
        case SD_BUS_TYPE_STRING:
        case SD_BUS_TYPE_OBJECT_PATH:
                r = sd_bus_message_read_basic(m, type, &string);
                if (r >= 0)
                        *hash = mix(*hash, string, strlen(string) + 1);
                return r;
        default:
                r = sd_bus_message_read_basic(m, type, &number);
                if (r >= 0)
                        *hash = mix(*hash, &number, sizeof(number));
                return r;
        }
}

/* From entry on, the first property that changes. */
static const sd_bus_vtable *changing(const sd_bus_vtable *entry)
{
        for (; entry->type != _SD_BUS_VTABLE_END; entry++)
                if (entry->type == _SD_BUS_VTABLE_PROPERTY && (entry->flags & SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE))
                        return entry;
        return NULL;
}

static int look(const struct told *told, sd_bus *connection, uint64_t values[static TOLD_MAX])
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        size_t n = 0;
        int r = sd_bus_message_new_signal(connection, &m, "/", told->interface, "Values");

        for (const sd_bus_vtable *p = changing(told->vtable); p && r >= 0; p = changing(p + 1), n++)
                r = p->x.property.get(connection, "/", told->interface, p->x.property.member, m, told->object, NULL);
        if (r >= 0)
                r = sd_bus_message_seal(m, 1, 0);
        for (size_t i = 0; i < n && r >= 0; i++) {
                values[i] = UINT64_C(0xcbf29ce484222325);
                r = fingerprint(m, &values[i]);
        }
        return r < 0 ? r : 0;
}

int told_new(sd_bus *connection, const char *path, const char *interface, const sd_bus_vtable *vtable, void *object, struct told **ret)
{
        uint64_t values[TOLD_MAX];
        struct told *told;
        size_t n = 0;
        int r;

        for (const sd_bus_vtable *p = changing(vtable); p; p = changing(p + 1))
                n++;
        if (n > TOLD_MAX)
                return -E2BIG;
        told = calloc(1, sizeof(*told) + n * sizeof(told->values[0]));
        if (!told)
                return -ENOMEM;
        *told = (struct told){ .object = object, .path = strdup(path), .interface = interface, .vtable = vtable };
        r = told->path ? look(told, connection, values) : -ENOMEM;
        if (r < 0)
                return told_free(told), r;
        memcpy(told->values, values, n * sizeof(values[0]));
        *ret = told;
        return 0;
}

struct told *told_free(struct told *told)
{
        if (!told)
                return NULL;
        free(told->path);
        free(told);
        return NULL;
}

/* Those that are not as they were told. */
static uint32_t differing(const struct told *told, const uint64_t values[static TOLD_MAX])
{
        uint32_t properties = 0;
        size_t n = 0;

        for (const sd_bus_vtable *p = changing(told->vtable); p; p = changing(p + 1), n++)
                if (values[n] != told->values[n])
                        properties |= UINT32_C(1) << n;
        return properties;
}

int told_take(struct told *told, sd_bus *connection, uint32_t *ret_properties)
{
        uint64_t values[TOLD_MAX];
        int r = look(told, connection, values);

        if (r < 0)
                return r;
        *ret_properties = differing(told, values) | told->read;
        for (size_t i = 0; i < TOLD_MAX; i++)
                if (*ret_properties & UINT32_C(1) << i)
                        told->values[i] = values[i];
        told->read = 0;
        return 0;
}

void told_again(struct told *told, uint32_t properties)
{
        told->read |= properties;
}

void told_names(const struct told *told, uint32_t properties, char *names[static TOLD_MAX + 1])
{
        size_t n = 0;

        for (const sd_bus_vtable *p = changing(told->vtable); p; p = changing(p + 1), properties >>= 1)
                if (properties & 1)
                        names[n++] = (char *)p->x.property.member;
        names[n] = NULL;
}

void told_read(struct told *told, sd_bus *connection, const char *property)
{
        uint64_t values[TOLD_MAX];
        uint32_t properties;
        size_t n = 0;

        if (look(told, connection, values) < 0)
                return;
        properties = differing(told, values);
        for (const sd_bus_vtable *p = changing(told->vtable); p && property; p = changing(p + 1), n++)
                if (strcmp(p->x.property.member, property) != 0)
                        properties &= ~(UINT32_C(1) << n);
        told->read |= properties;
}

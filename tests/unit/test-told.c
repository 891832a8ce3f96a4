/* SPDX-License-Identifier: MIT */
/* What is told of an object's properties, and when again. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "edge/told.h"

struct thing {
        const char *name;
        uint32_t number;
        double part;
        const char *list[3];
};

static int get_name(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error)
{
        const struct thing *thing = userdata;

        return sd_bus_message_append(reply, "s", thing->name);
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                      sd_bus_error *error)
{
        const struct thing *thing = userdata;

        return sd_bus_message_append(reply, "u", thing->number);
}

static int get_part(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error)
{
        const struct thing *thing = userdata;

        return sd_bus_message_append(reply, "d", thing->part);
}

static int get_list(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata,
                    sd_bus_error *error)
{
        const struct thing *thing = userdata;
        int r = sd_bus_message_open_container(reply, 'a', "(ss)");

        for (size_t i = 0; r >= 0 && i < 3 && thing->list[i]; i++)
                r = sd_bus_message_append(reply, "(ss)", thing->list[i], "x");
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Kind", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Name", "s", get_name, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_METHOD("Do", "", "", NULL, 0),
        SD_BUS_PROPERTY("Number", "u", get_number, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Part", "d", get_part, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("List", "a(ss)", get_list, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END
};

struct fixture {
        sd_bus *bus;
        struct thing thing;
        struct told *told;
        int other;
};

static int set_up(void **state)
{
        static struct fixture f;
        int ends[2];

        f = (struct fixture){ .thing = { .name = "tom", .number = 7, .part = 0.5, .list = { "a" } } };
        /* Somebody must be at the other end, or no message can be made. */
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        assert_true(sd_bus_new(&f.bus) >= 0);
        assert_true(sd_bus_set_fd(f.bus, ends[0], ends[0]) >= 0);
        assert_true(sd_bus_start(f.bus) >= 0);
        f.other = ends[1];
        assert_int_equal(told_new(f.bus, "/tom", "org.example.Thing", vtable, &f.thing, &f.told), 0);
        *state = &f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        told_free(f->told);
        sd_bus_unref(f->bus);
        return close(f->other);
}

/* The names that are to be told, one behind the other. */
static const char *take(struct fixture *f)
{
        static char text[256];
        char *names[TOLD_MAX + 1];
        uint32_t properties;

        assert_int_equal(told_take(f->told, f->bus, &properties), 0);
        told_names(f->told, properties, names);
        text[0] = '\0';
        for (size_t i = 0; names[i]; i++) {
                strcat(text, names[i]);
                strcat(text, " ");
        }
        return text;
}

static void what_is_new_is_told_once(void **state)
{
        struct fixture *f = *state;

        assert_string_equal(take(f), "");
        f->thing.number = 8;
        assert_string_equal(take(f), "Number ");
        assert_string_equal(take(f), "");
        f->thing.name = "ann";
        f->thing.part = 0.25;
        assert_string_equal(take(f), "Name Part ");
        assert_string_equal(take(f), "");
}

static void lists_are_compared_whole(void **state)
{
        struct fixture *f = *state;

        f->thing.list[1] = "b";
        assert_string_equal(take(f), "List ");
        f->thing.list[0] = "b";
        f->thing.list[1] = "a";
        assert_string_equal(take(f), "List ");
        f->thing.list[0] = NULL;
        assert_string_equal(take(f), "List ");
        assert_string_equal(take(f), "");
}

static void what_came_back_is_not_told(void **state)
{
        struct fixture *f = *state;

        f->thing.number = 8;
        f->thing.number = 7;
        assert_string_equal(take(f), "");
}

static void but_to_who_read_it_meanwhile(void **state)
{
        struct fixture *f = *state;

        f->thing.number = 8;
        f->thing.name = "ann";
        told_read(f->told, f->bus, "Number");
        f->thing.number = 7;
        f->thing.name = "tom";
        assert_string_equal(take(f), "Number ");
        assert_string_equal(take(f), "");

        f->thing.number = 8;
        f->thing.name = "ann";
        told_read(f->told, f->bus, NULL);
        f->thing.number = 7;
        f->thing.name = "tom";
        assert_string_equal(take(f), "Name Number ");
        assert_string_equal(take(f), "");
}

static void who_read_what_is_told_needs_no_more(void **state)
{
        struct fixture *f = *state;

        told_read(f->told, f->bus, NULL);
        assert_string_equal(take(f), "");
        told_read(f->told, f->bus, "Nothing");
        assert_string_equal(take(f), "");
}

static void what_could_not_be_sent_is_told_again(void **state)
{
        struct fixture *f = *state;
        uint32_t properties;

        f->thing.number = 8;
        assert_int_equal(told_take(f->told, f->bus, &properties), 0);
        told_again(f->told, properties);
        assert_string_equal(take(f), "Number ");
        assert_string_equal(take(f), "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(what_is_new_is_told_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(lists_are_compared_whole, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_came_back_is_not_told, set_up, tear_down),
                cmocka_unit_test_setup_teardown(but_to_who_read_it_meanwhile, set_up, tear_down),
                cmocka_unit_test_setup_teardown(who_read_what_is_told_needs_no_more, set_up, tear_down),
                cmocka_unit_test_setup_teardown(what_could_not_be_sent_is_told_again, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

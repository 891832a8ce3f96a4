/* SPDX-License-Identifier: MIT */

/*
 * What has been reported, and the difference to what the kernel says now.
 */

#include "edge/device-table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

DEFINE_FREEP(device_table)

static struct attachment at(const char *port, unsigned bus, unsigned number)
{
        struct attachment attachment = { .bus = bus, .number = number };

        (void)snprintf(attachment.port, sizeof(attachment.port), "%s", port);
        return attachment;
}

static int add(struct device_table *table, struct attachment attachment, bool by_event)
{
        return device_table_add(table, &attachment, by_event);
}

static bool leave(struct device_table *table, struct attachment attachment)
{
        return device_table_remove(table, &attachment);
}

static bool has(struct device_table *table, struct attachment attachment)
{
        return device_table_has(table, &attachment);
}

static struct device_table *table_new(void)
{
        struct device_table *table;

        assert_int_equal(device_table_new(&table), 0);
        return table;
}

static void doubled_event_is_no_news(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();

        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_NEW);
        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_KNOWN);
        assert_true(leave(table, at("1-1", 1, 4)));
        assert_false(leave(table, at("1-1", 1, 4)));
}

static void first_event_after_a_scan_is_told_again(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();

        assert_int_equal(add(table, at("1-1", 1, 4), false), DEVICE_NEW);
        assert_int_equal(add(table, at("1-1", 1, 4), false), DEVICE_KNOWN);
        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_AGAIN);
        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_KNOWN);
        /* A later scan does not take that back. */
        assert_int_equal(add(table, at("1-1", 1, 4), false), DEVICE_KNOWN);
        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_KNOWN);
}

static void late_remove_does_not_hit_the_successor(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();

        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_NEW);
        assert_int_equal(add(table, at("1-1", 1, 5), true), DEVICE_REPLACED);
        assert_false(leave(table, at("1-1", 1, 4)));
        assert_true(has(table, at("1-1", 1, 5)));
        assert_int_equal(device_table_size(table), 1);
        assert_true(leave(table, at("1-1", 1, 5)));
}

static void successor_found_by_scan_waits_for_its_event(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();

        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_NEW);
        assert_int_equal(add(table, at("1-1", 1, 5), false), DEVICE_REPLACED);
        assert_int_equal(add(table, at("1-1", 1, 5), true), DEVICE_AGAIN);
}

static void same_number_on_another_bus_is_another_device(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();

        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_NEW);
        assert_int_equal(add(table, at("2-1", 2, 4), true), DEVICE_NEW);
        assert_false(has(table, at("1-1", 2, 4)));
        assert_true(leave(table, at("2-1", 2, 4)));
        assert_true(has(table, at("1-1", 1, 4)));
}

static void note_gone(void *userdata, const char *port)
{
        char *story = userdata;

        strcat(strcat(story, port), " ");
}

static void lost_events_show_as_difference(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();
        struct attachment present[] = { at("1-2", 1, 5), at("1-3", 1, 9), at("1-5", 1, 10) };
        char story[64] = "";

        assert_int_equal(add(table, at("1-1", 1, 4), true), DEVICE_NEW);        /* left */
        assert_int_equal(add(table, at("1-2", 1, 5), true), DEVICE_NEW);        /* stays */
        assert_int_equal(add(table, at("1-3", 1, 6), true), DEVICE_NEW);        /* came back as another */
        assert_int_equal(add(table, at("1-4", 1, 7), true), DEVICE_NEW);        /* left */

        device_table_retain(table, present, ELEMENTSOF(present), note_gone, story);
        assert_non_null(strstr(story, "1-1 "));
        assert_non_null(strstr(story, "1-3 "));
        assert_non_null(strstr(story, "1-4 "));
        assert_int_equal(strlen(story), 3 * strlen("1-1 "));
        assert_int_equal(device_table_size(table), 1);

        assert_int_equal(add(table, present[0], false), DEVICE_KNOWN);
        assert_int_equal(add(table, present[1], false), DEVICE_NEW);
        assert_int_equal(add(table, present[2], false), DEVICE_NEW);
}

static void retain_nothing_empties(void **state)
{
        _cleanup_(device_table_freep) struct device_table *table = table_new();
        char story[64] = "";

        device_table_retain(table, NULL, 0, note_gone, story);
        assert_string_equal(story, "");
        for (unsigned i = 1; i <= 5; i++) {
                char port[8];

                (void)snprintf(port, sizeof(port), "1-%u", i);
                assert_int_equal(add(table, at(port, 1, i), true), DEVICE_NEW);
        }
        device_table_retain(table, NULL, 0, note_gone, story);
        assert_int_equal(strlen(story), 5 * strlen("1-1 "));
        assert_int_equal(device_table_size(table), 0);
        assert_int_equal(add(table, at("1-1", 1, 9), true), DEVICE_NEW);
}

/* Any story of arrivals and departures, some told late, twice or never, ends in the truth after a scan. */
static void any_story_ends_in_the_truth_after_a_scan(void **state)
{
        for (unsigned seed = 1; seed <= 200; seed++) {
                _cleanup_(device_table_freep) struct device_table *table = table_new();
                struct attachment truth[6];
                unsigned number = 0, here = 0;
                char story[1024] = "";

                srand(seed);
                for (unsigned step = 0; step < 300; step++) {
                        unsigned slot = (unsigned)rand() % 6;
                        char port[8];

                        (void)snprintf(port, sizeof(port), "1-%u", slot + 1);
                        if (here & 1U << slot) {
                                if (rand() % 4)
                                        (void)leave(table, truth[slot]);
                                here &= ~(1U << slot);
                        } else {
                                truth[slot] = at(port, 1, ++number);
                                here |= 1U << slot;
                                for (int times = rand() % 3; times > 0; times--)
                                        assert_true(add(table, truth[slot], true) >= 0);
                        }
                }

                struct attachment present[6];
                size_t n = 0;

                for (unsigned slot = 0; slot < 6; slot++)
                        if (here & 1U << slot)
                                present[n++] = truth[slot];
                device_table_retain(table, present, n, note_gone, story);
                for (size_t i = 0; i < n; i++)
                        (void)add(table, present[i], false);
                assert_int_equal(device_table_size(table), n);
                for (size_t i = 0; i < n; i++)
                        assert_true(has(table, present[i]));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/device-table/doubled-event-is-no-news", doubled_event_is_no_news },
                { "/device-table/first-event-after-a-scan-is-told-again", first_event_after_a_scan_is_told_again },
                { "/device-table/late-remove-does-not-hit-the-successor", late_remove_does_not_hit_the_successor },
                { "/device-table/successor-found-by-scan-waits-for-its-event", successor_found_by_scan_waits_for_its_event },
                { "/device-table/same-number-on-another-bus-is-another-device", same_number_on_another_bus_is_another_device },
                { "/device-table/lost-events-show-as-difference", lost_events_show_as_difference },
                { "/device-table/retain-nothing-empties", retain_nothing_empties },
                { "/device-table/any-story-ends-in-the-truth-after-a-scan", any_story_ends_in_the_truth_after_a_scan },
        };

        return cmocka_run_group_tests_name("device-table", tests, NULL, NULL);
}

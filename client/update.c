/* SPDX-License-Identifier: MIT */
/*
 * camrescue update: one wish for one, several or all cameras.  The plan is the
 * daemon's; what is printed before anything begins is its answer to a dry run.
 */

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/follow.h"
#include "client/image-name.h"
#include "client/upload.h"

struct wishes {
        bool all, romfs, erase_filesystem, replace_unknown, dry_run;
        const char *firmware;
        struct follow_options follow;
};

static int append_flag(sd_bus_message *m, const char *name, bool value)
{
        return value ? sd_bus_message_append(m, "{sv}", name, "b", 1) : 0;
}

static int fill_call(sd_bus_message *m, const struct camera *const *cameras, size_t n, const struct wishes *wishes, bool dry_run)
{
        int r;

        r = sd_bus_message_open_container(m, 'a', "o");
        for (size_t i = 0; r >= 0 && i < n; i++)
                r = sd_bus_message_append_basic(m, 'o', cameras[i]->path);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && wishes->firmware)
                r = sd_bus_message_append(m, "{sv}", "firmware", "s", wishes->firmware);
        if (r >= 0)
                r = append_flag(m, "romfs", wishes->romfs);
        if (r >= 0)
                r = append_flag(m, "erase-filesystem", wishes->erase_filesystem);
        if (r >= 0)
                r = append_flag(m, "replace-unknown", wishes->replace_unknown);
        if (r >= 0)
                r = append_flag(m, "dry-run", dry_run);
        return r >= 0 ? sd_bus_message_close_container(m) : r;
}

static int read_plan(sd_bus_message *m, struct bus *bus, struct plan *plan)
{
        const char *camera, *update, *action, *firmware, *text;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(oosss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(oosss)", &camera, &update, &action, &firmware, &text)) > 0) {
                r = plan_add(plan, bus, camera, update, action, firmware, text);
                if (r < 0)
                        return r;
        }
        return r;
}

static enum exit_code ask_daemon(const struct client *client, struct bus *bus, const struct camera *const *cameras, size_t n,
                                 const struct wishes *wishes, bool dry_run, struct plan *plan)
{
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = NULL, *reply = NULL;
        enum exit_code code;
        int r;

        plan_clear(plan);
        r = bus_new_call(bus, BUS_ROOT, BUS_MANAGER, "Update", &call);
        if (r >= 0)
                r = fill_call(call, cameras, n, wishes, dry_run);
        if (r < 0)
                return client_fail(client, EXIT_FAILED, "Cannot ask the daemon: %s.", strerror(-r));
        code = bus_call_or_fail(client, bus, call, &reply);
        if (code != EXIT_DONE)
                return code;
        return read_plan(reply, bus, plan) < 0 ? bus_bad_reply(client, "its plan") : EXIT_DONE;
}

/* Plans are equal when they would print the same. */
static bool plan_same(const struct plan *a, const struct plan *b)
{
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (strcmp(a->items[i].camera, b->items[i].camera) != 0 || strcmp(a->items[i].action, b->items[i].action) != 0 ||
                    strcmp(a->items[i].firmware, b->items[i].firmware) != 0)
                        return false;
        return true;
}

/* A dry run's exit: what is refused is refused, all else is well. */
static enum exit_code dry_code(const struct plan *plan)
{
        enum exit_code code = EXIT_DONE;

        for (size_t i = 0; i < plan->n; i++)
                if (strcmp(plan->items[i].action, "refuse") == 0 || (!plan->all && strcmp(plan->items[i].action, "skip") == 0))
                        code = EXIT_REFUSED;
        return code;
}

static enum exit_code run(struct client *client, struct bus *bus, const struct camera *const *cameras, size_t n,
                          const struct wishes *wishes)
{
        _cleanup_(plan_clear) struct plan shown = { .all = wishes->all }, plan = { .all = wishes->all };
        enum exit_code code;

        if (wishes->all || wishes->dry_run) {
                code = ask_daemon(client, bus, cameras, n, wishes, /* dry_run= */ true, &shown);
                if (code == EXIT_DONE)
                        code = plan_print(client, bus, &shown, wishes->dry_run);
                if (code != EXIT_DONE)
                        return code;
                if (wishes->dry_run)
                        return dry_code(&shown);
                if (!plan_has_work(&shown))
                        return follow(client, bus, &shown, &wishes->follow);
        }
        code = ask_daemon(client, bus, cameras, n, wishes, /* dry_run= */ false, &plan);
        if (code != EXIT_DONE)
                return code;
        /* JSON: this one holds the update objects. */
        if (client->json || !wishes->all || !plan_same(&shown, &plan)) {
                code = plan_print(client, bus, &plan, /* dry_run= */ false);
                if (code != EXIT_DONE)
                        return code;
        }
        return follow(client, bus, &plan, &wishes->follow);
}

/* A version of the store is named without a folder; a file that is called like one needs "./". */
static bool is_file(const char *firmware)
{
        struct stat st;

        if (strchr(firmware, '/'))
                return true;
        if (strncmp(firmware, "sha256:", 7) == 0 || strncmp(firmware, "custom:", 7) == 0 ||
            (isdigit((unsigned char)firmware[0]) && strspn(firmware, "0123456789.") == strlen(firmware)))
                return false;
        return stat(firmware, &st) == 0 && S_ISREG(st.st_mode);
}

/* A file belongs to one board: that of the cameras, which must be the same. */
static enum exit_code upload_for_cameras(const struct client *client, struct bus *bus, const struct camera *const *cameras, size_t n,
                                  const char *file, char **ret_id)
{
        const char *board = "";
        char folder[IMAGE_BOARD_SIZE];

        for (size_t i = 0; i < (n ? n : bus_camera_count(bus)); i++) {
                const struct camera *camera = n ? cameras[i] : bus_nth_camera(bus, i);

                /* Nobody has said what it is: a file's bytes do not say it either, and need not go to the daemon. */
                if (n > 0 && *camera->board == '\0')
                        return client_fail(client, EXIT_REFUSED, "%s is not proven to be a camera. If it is yours: "
                                           "camrescue recover %s --board BOARD.", camera_label(camera), camera_label(camera));
                if (*camera->board == '\0')
                        continue;
                if (*board && strcmp(board, camera->board) != 0)
                        return client_fail(client, EXIT_REFUSED, "One file cannot fit boards %s and %s: name cameras of one board.",
                                           board, camera->board);
                board = camera->board;
        }
        /* x/OPENMV4/firmware.bin says whose it is; its bytes may not. */
        image_folder_board(file, folder);
        if (*board && *folder && strcasecmp(folder, board) != 0)
                return client_fail(client, EXIT_REFUSED, "%s lies in the folder of %s, and this is a %s. If it is meant all the same, "
                                   "copy it elsewhere.", file, folder, board);
        return upload_one(client, bus, file, board, ret_id);
}

/* The daemon refuses that as well, but knows no names. */
static enum exit_code check_once(const struct client *client, const struct camera *const *cameras, char *const *names, size_t last)
{
        for (size_t i = 0; i < last; i++) {
                if (cameras[i] != cameras[last])
                        continue;
                if (strcmp(names[i], names[last]) == 0)
                        return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is named twice.", names[last]);
                return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" and \"%s\" are the same camera.", names[i], names[last]);
        }
        return EXIT_DONE;
}

enum exit_code verb_update(struct client *client, int argc, char **argv)
{
        enum { ALL = FOLLOW_OPTION_NEXT, FIRMWARE, ROMFS, ERASE_FILESYSTEM, REPLACE_UNKNOWN, DRY_RUN };
        static const struct option options[] = {
                { "all", no_argument, NULL, ALL },
                { "firmware", required_argument, NULL, FIRMWARE },
                { "romfs", no_argument, NULL, ROMFS },
                { "erase-filesystem", no_argument, NULL, ERASE_FILESYSTEM },
                { "replace-unknown", no_argument, NULL, REPLACE_UNKNOWN },
                { "dry-run", no_argument, NULL, DRY_RUN },
                FOLLOW_OPTIONS,
                CLIENT_COMMON_OPTIONS
        };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        _cleanup_free_ const struct camera **cameras = NULL;
        _cleanup_free_ char *id = NULL;
        struct wishes wishes = { .all = false };
        enum exit_code code;
        bool from_file;
        size_t n;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0) {
                switch (option) {
                case ALL:
                        wishes.all = true;
                        break;
                case FIRMWARE:
                        wishes.firmware = optarg;
                        break;
                case ROMFS:
                        wishes.romfs = true;
                        break;
                case ERASE_FILESYSTEM:
                        wishes.erase_filesystem = true;
                        break;
                case REPLACE_UNKNOWN:
                        wishes.replace_unknown = true;
                        break;
                case DRY_RUN:
                        wishes.dry_run = true;
                        break;
                default:
                        if (follow_option(client, option, &wishes.follow, &code) > 0)
                                return code;
                }
        }
        n = (size_t)(argc - optind);
        if ((n == 0) == !wishes.all || (wishes.firmware && !*wishes.firmware))
                return client_fail(client, EXIT_WRONG_USAGE, "Name cameras, or say --all: see camrescue update --help.");
        from_file = wishes.firmware && is_file(wishes.firmware);
        if (from_file) {
                code = client_needs_descriptors(client, "firmware import; then name its version here: --firmware VERSION");
                if (code != EXIT_DONE)
                        return code;
        }
        code = bus_open(client, /* watch= */ true, &bus);
        if (code != EXIT_DONE)
                return code;
        cameras = calloc(n + 1, sizeof(*cameras));
        if (!cameras)
                return client_fail(client, EXIT_FAILED, "Out of memory.");
        for (size_t i = 0; i < n; i++) {
                code = camera_named(client, bus, argv[optind + (int)i], &cameras[i]);
                if (code == EXIT_DONE)
                        code = check_once(client, cameras, argv + optind, i);
                if (code != EXIT_DONE)
                        return code;
        }
        if (from_file) {
                code = upload_for_cameras(client, bus, cameras, n, wishes.firmware, &id);
                if (code != EXIT_DONE)
                        return code;
                wishes.firmware = id;
        }
        return run(client, bus, cameras, n, &wishes);
}

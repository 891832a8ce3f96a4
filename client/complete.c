/* SPDX-License-Identifier: MIT */
/*
 * camrescue complete: what the completions of shells ask.  One candidate per
 * line, with a tab and a remark where there is one.  Says nothing when there is
 * nothing to say, starts no daemon, and takes a second at most, whatever the bus
 * does: a person waits with his finger on the key.
 */

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/bus.h"
#include "client/client.h"
#include "client/describe.h"
#include "client/firmware.h"
#include "client/json.h"

static void candidate(bool json, const char *value, const char *remark)
{
        _cleanup_free_ char *clean = text_clean(value, /* utf8= */ true), *beside = text_clean(remark, /* utf8= */ true);

        /* What has to be changed to be printed names nothing. */
        if (!clean || !*clean || strcmp(clean, value) != 0)
                return;
        if (json) {
                (void)json_print_line(json_pack("{so so}", "value", json_text(clean), "remark", json_text(beside)));
                return;
        }
        (void)printf("%s%s%s\n", clean, beside && *beside ? "\t" : "", beside ? beside : "");
}

/* --- of the help texts --- */

/* The first sentence that is not about usage. */
static void remark_of(const char *help, char *remark, size_t size)
{
        while (*help && (strncmp(help, "Usage:", 6) == 0 || *help == ' ')) {
                help += strcspn(help, "\n");
                help += *help == '\n';
        }
        (void)snprintf(remark, size, "%.*s", (int)strcspn(help, ".:\n"), help);
}

static void complete_verbs(bool json)
{
        const char *name, *help;
        char remark[96];

        for (size_t i = 0; (name = client_nth_verb(i, &help)); i++) {
                if (strcmp(name, "complete") == 0)
                        continue;
                remark_of(help, remark, sizeof(remark));
                candidate(json, name, remark);
        }
        candidate(json, "help", "");
}

static void complete_options(bool json, const char *verb)
{
        static const char *const common[] = { "--json", "--host", "--bus-address", "--help" };
        const char *name, *help = "";

        for (size_t i = 0; (name = client_nth_verb(i, &help)) && strcmp(name, verb) != 0; i++)
                ;
        for (const char *p = name ? help : ""; (p = strstr(p, "--"));) {
                size_t n = 2 + strspn(p + 2, "abcdefghijklmnopqrstuvwxyz-");
                _cleanup_free_ char *option = strndup(p, n);
                bool known = !option || n == 2;

                for (size_t i = 0; !known && i < ELEMENTSOF(common); i++)
                        known = strcmp(common[i], option) == 0;
                /* Each once: where it stands first. */
                if (!known) {
                        const char *first = strstr(help, option);

                        while (first && first < p && (isalpha((unsigned char)first[n]) || first[n] == '-'))
                                first = strstr(first + 1, option);
                        known = first != p;
                }
                if (!known)
                        candidate(json, option, "");
                p += n;
        }
        for (size_t i = 0; i < ELEMENTSOF(common); i++)
                candidate(json, common[i], "");
}

/* --- of the daemon --- */

static void complete_cameras(bool json, struct bus *bus)
{
        for (size_t i = 0; i < bus_camera_count(bus); i++) {
                const struct camera *camera = bus_nth_camera(bus, i);
                char remark[128];

                (void)snprintf(remark, sizeof(remark), "%s%s%s, %s", *camera->label ? camera->label : "", *camera->label ? ", " : "",
                               *camera_board(camera) ? camera_board(camera) : "unknown board", camera->state);
                if (camera->attached)
                        candidate(json, camera->port, remark);
                candidate(json, camera->label, camera->attached ? camera->port : "away");
                candidate(json, camera->unique_id, remark);
        }
}

/* By which camrescue-dfu-util -S names them: what they show in DFU mode. */
static void complete_serials(bool json, struct bus *bus)
{
        for (size_t i = 0; i < bus_camera_count(bus); i++) {
                const struct camera *camera = bus_nth_camera(bus, i);
                bool in_dfu = strcmp(camera->mode, "bootloader") == 0 || strcmp(camera->mode, "rom-dfu") == 0;

                candidate(json, in_dfu ? camera->serial : camera->unique_id, camera->attached ? camera->port : "away");
        }
}

static bool is_new(struct firmware_list *list, size_t n, bool board)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(board ? list->items[i]->board : list->items[i]->version, board ? list->items[n]->board : list->items[n]->version) == 0)
                        return false;
        return true;
}

static void complete_firmware(bool json, struct firmware_list *list, const char *what)
{
        for (size_t i = 0; i < list->n; i++) {
                const struct firmware *image = list->items[i];
                char remark[160];

                if (strcmp(what, "versions") == 0 && is_new(list, i, /* board= */ false))
                        candidate(json, image->version, image->stable ? "stable" : "development");
                if (strcmp(what, "boards") == 0 && is_new(list, i, /* board= */ true))
                        candidate(json, image->board, "");
                if (strcmp(what, "images") == 0) {
                        (void)snprintf(remark, sizeof(remark), "%s %s %s", image->board, image->partition, image->version);
                        candidate(json, image->id, remark);
                }
        }
}

enum exit_code verb_complete(struct client *client, int argc, char **argv)
{
        static const struct option options[] = { CLIENT_COMMON_OPTIONS };
        _cleanup_(firmware_list_clear) struct firmware_list list = { .n = 0 };
        _cleanup_(bus_freep) struct bus *bus = NULL;
        const char *what;
        enum exit_code code;
        int option;

        while ((option = getopt_long(argc, argv, ":", options, NULL)) >= 0)
                if (client_common_option(client, option, &code) > 0)
                        return code;
        what = optind < argc ? argv[optind] : "";
        if (strcmp(what, "verbs") == 0) {
                complete_verbs(client->json);
        } else if (strcmp(what, "options") == 0) {
                complete_options(client->json, optind + 1 < argc ? argv[optind + 1] : "");
        } else if (strcmp(what, "firmware") == 0) {
                candidate(client->json, "fetch", "get a release from the network");
                candidate(client->json, "import", "add images");
                candidate(client->json, "list", "what is in the store");
                candidate(client->json, "remove", "take images out");
        } else if (strcmp(what, "cameras") == 0 || strcmp(what, "serials") == 0 || strcmp(what, "versions") == 0 || strcmp(what, "boards") == 0 || strcmp(what, "images") == 0) {
                (void)alarm(1);
                if (bus_peek(client, strcmp(what, "cameras") == 0 || strcmp(what, "serials") == 0, &bus) != EXIT_DONE)
                        return EXIT_NO_DAEMON;
                if (strcmp(what, "cameras") == 0)
                        complete_cameras(client->json, bus);
                else if (strcmp(what, "serials") == 0)
                        complete_serials(client->json, bus);
                else if (firmware_fetch(client, bus, &list) == EXIT_DONE)
                        complete_firmware(client->json, &list, what);
        } else {
                return client_fail(client, EXIT_WRONG_USAGE, "complete is for the completions of shells.");
        }
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

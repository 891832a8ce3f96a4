/* SPDX-License-Identifier: MIT */
/*
 * camrescue: the client of camrescued.  Finds the verb, gives it the options
 * before it, ends with its code.  It decides nothing about cameras: what may be
 * written, and when, is the daemon's.
 */

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"
#include "client/json.h"

static const char help[] =
"Usage: camrescue [--json] [--bus-address ADDRESS] VERB ...\n"
"Rescues OpenMV cameras through camrescued. CAMERA: port, serial, unique prefix\n"
"\n"
"  status [CAMERA...]       what each camera is, does and needs\n"
"  watch [CAMERA...]        the same, live; to an end with --until CONDITION\n"
"  update CAMERA...|--all   write firmware: [--firmware FILE|VERSION] [--romfs]\n"
"                           [--erase-filesystem] [--replace-unknown] [--dry-run]\n"
"  recover CAMERA           your word that it is a camera: [--board M7]\n"
"  restore CAMERA           write back what was saved before overwriting\n"
"  cancel | retry CAMERA    end its open update safely; try the last once more\n"
"  history | forget CAMERA  what happened to it; it is not there any more\n"
"  inhibit [CAMERA...] -- COMMAND      hands off while the command runs\n"
"  firmware import [FILE|DIR|ZIP...]   add images; nothing named: the IDE's\n"
"  firmware list | remove ID           what is in the store; take one out\n"
"\n"
"  --json   print JSON only, errors too     --help      this, or that of a VERB\n"
"  --wait, --no-wait, --timeout SECONDS     --version   of the client\n"
"  update, recover and restore show progress to the end; without a terminal\n"
"  they wait for replugs only with --wait.\n"
"\n"
"Exit: 0 done, 1 failed, 2 usage, 3 refused, 4 verified but not seen again,\n"
"5 no such camera, 6 daemon not there, 7 not ended yet, 130 interrupted (the\n"
"update goes on). More: man camrescue\n";

struct verb {
        const char *name;
        enum exit_code (*run)(struct client *client, int argc, char **argv);
        const char *help;
};

#define WAITING_HELP                                                                            \
        "  --wait             wait to the end, replugs too (default on a terminal)\n"            \
        "  --no-wait          return at once: exit status 7 while it goes on\n"                  \
        "  --timeout SECONDS  stop waiting after so long (exit status 7; the update goes on)\n"  \
        "  --json             print JSON lines: plan, progress, ended\n"

static const struct verb verbs[] = {
        { "status", verb_status,
          "Usage: camrescue status [--json] [CAMERA...]\n"
          "Shows each camera: port, board, mode, state, firmware, what it is doing, advice.\n" },
        { "watch", verb_watch,
          "Usage: camrescue watch [--json] [--until CONDITION] [--timeout SECONDS] [CAMERA...]\n"
          "Shows the cameras live; plain lines when the output is no terminal.\n\n"
          "  --until CONDITION  end when it holds for the cameras named (none: for all that are attached):\n"
          "                     state=S (or S alone), mode=M, firmware=V, diagnosis=D,\n"
          "                     update=ended|open|done|failed|refused|cancelled|not-seen\n"
          "  --timeout SECONDS  end after so long: exit status 7 with --until, else 0\n"
          "  --json             print JSON lines\n" },
        { "update", verb_update,
          "Usage: camrescue update [OPTIONS] CAMERA...\n"
          "       camrescue update [OPTIONS] --all\n"
          "Writes firmware. A camera that runs is queued until it is unplugged and plugged in again.\n\n"
          "  --all              every camera; the plan is printed first\n"
          "  --firmware FILE|VERSION|ID\n"
          "                     an image file, or one in the store (default: what the daemon chooses)\n"
          "  --romfs            also the ROM file system of that version\n"
          "  --erase-filesystem also empty the camera's file system\n"
          "  --replace-unknown  also over firmware that is not known (it is saved first)\n"
          "  --dry-run          only print the plan\n"
          WAITING_HELP },
        { "recover", verb_recover,
          "Usage: camrescue recover [OPTIONS] CAMERA\n"
          "Your word that this device is a camera and may be written to, while it stays attached.\n\n"
          "  --board BOARD      which it is: M4, M7, H7, OPENMV3 ...\n"
          "  --firmware VERSION|ID\n"
          "                     what to write (default: what the daemon chooses)\n"
          "  --replace-unknown  also over firmware that is not known (it is saved first)\n"
          WAITING_HELP },
        { "restore", verb_restore,
          "Usage: camrescue restore [OPTIONS] CAMERA\n"
          "Writes back the image that was saved before the camera was last overwritten.\n\n"
          WAITING_HELP },
        { "cancel", verb_cancel,
          "Usage: camrescue cancel CAMERA\n"
          "Ends the camera's open update at the next safe place.\n" },
        { "retry", verb_retry,
          "Usage: camrescue retry [OPTIONS] CAMERA\n"
          "Its last update once more, if that was given up, refused or cancelled.\n\n"
          WAITING_HELP },
        { "history", verb_history,
          "Usage: camrescue history [--json] [-n LINES] CAMERA\n"
          "What happened to a camera: updates, interruptions, silent boots.\n\n"
          "  -n, --lines LINES  only the newest so many\n" },
        { "forget", verb_forget,
          "Usage: camrescue forget [--saved] CAMERA\n"
          "Forgets a camera that is not attached, and its history.\n\n"
          "  --saved            also delete the images that were saved from it\n" },
        { "inhibit", verb_inhibit,
          "Usage: camrescue inhibit [--who NAME] [--why TEXT] [CAMERA...] -- COMMAND [ARGUMENT...]\n"
          "Runs the command, and camrescued keeps its hands off the cameras (none named: all) until it ends.\n\n"
          "  --who NAME         who works on them, for people (default: the command's name)\n"
          "  --why TEXT         and why\n\n"
          "Ends with the command's exit status: 128 + N if signal N killed it, 126 or 127 if it could not be run.\n" },
        { "firmware", verb_firmware,
          "Usage: camrescue firmware import [OPTIONS] [FILE|DIRECTORY|ZIP...]\n"
          "       camrescue firmware list [--json]\n"
          "       camrescue firmware remove ID...\n"
          "Images that the daemon may write.\n\n"
          "  --board BOARD --partition NAME --version VERSION\n"
          "                     what cannot be told from names and folders\n"
          "  --stable, --development\n"
          "                     is it a release (default: if the version has no suffix)\n"
          "  --yes              import the IDE's folder without asking\n" },
};

enum exit_code exit_code_worse(enum exit_code a, enum exit_code b)
{
        static const enum exit_code order[] = {
                EXIT_INTERRUPTED, EXIT_NO_DAEMON, EXIT_WRONG_USAGE, EXIT_FAILED, EXIT_REFUSED, EXIT_NO_CAMERA, EXIT_NOT_SEEN,
                EXIT_NOT_ENDED, EXIT_DONE
        };

        for (size_t i = 0; i < ELEMENTSOF(order); i++)
                if (a == order[i] || b == order[i])
                        return order[i];
        return EXIT_FAILED;
}

const char *exit_code_name(enum exit_code code)
{
        switch (code) {
        case EXIT_DONE:
                return "done";
        case EXIT_FAILED:
                return "failed";
        case EXIT_WRONG_USAGE:
                return "usage";
        case EXIT_REFUSED:
                return "refused";
        case EXIT_NOT_SEEN:
                return "not-seen";
        case EXIT_NO_CAMERA:
                return "no-camera";
        case EXIT_NO_DAEMON:
                return "no-daemon";
        case EXIT_NOT_ENDED:
                return "not-ended";
        case EXIT_INTERRUPTED:
                return "interrupted";
        }
        return "failed";
}

static char *sentence(const struct client *client, const char *format, va_list ap)
{
        _cleanup_free_ char *text = NULL;

        if (vasprintf(&text, format, ap) < 0) {
                text = NULL;
                return NULL;
        }
        return text_clean(text, client->out.utf8);
}

enum exit_code client_fail(const struct client *client, enum exit_code code, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        text = sentence(client, format, ap);
        va_end(ap);
        if (client->json)
                (void)json_print_line(json_of_error(code, text ? text : "Out of memory."));
        else
                (void)fprintf(stderr, "camrescue: %s\n", text ? text : "Out of memory.");
        return code;
}

void client_note(const struct client *client, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list ap;

        if (client->json)
                return;
        va_start(ap, format);
        text = sentence(client, format, ap);
        va_end(ap);
        (void)fflush(stdout);
        if (text)
                (void)fprintf(stderr, "%s\n", text);
}

enum exit_code client_ask(const struct client *client, bool yes, const char *question)
{
        char *line = NULL;
        size_t size = 0;
        bool agreed;

        if (yes)
                return EXIT_DONE;
        if (client->json || !isatty(STDIN_FILENO) || !client->out.is_terminal)
                return client_fail(client, EXIT_REFUSED, "%s There is nobody to ask: say --yes.", question);
        (void)printf("%s [y/N] ", question);
        (void)fflush(stdout);
        agreed = getline(&line, &size, stdin) > 0 && (line[0] == 'y' || line[0] == 'Y');
        free(line);
        return agreed ? EXIT_DONE : client_fail(client, EXIT_REFUSED, "Nothing was done.");
}

int parse_seconds(const char *text, unsigned long long *ret_usec)
{
        char *end;
        double seconds;

        errno = 0;
        seconds = strtod(text, &end);
        if (errno != 0 || end == text || *end != '\0' || !(seconds >= 0) || seconds > 1e9)
                return -EINVAL;
        *ret_usec = (unsigned long long)(seconds * 1e6);
        return 0;
}

static const struct verb *verb_find(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

/* Without the library there is no way to say it in JSON. */
static bool use_json(struct client *client)
{
        client->json = json_load();
        if (!client->json)
                (void)fputs("camrescue: The library that writes JSON (jansson, libjansson.so.4) is not installed.\n", stderr);
        return client->json;
}

int client_common_option(struct client *client, int option, enum exit_code *ret)
{
        const struct verb *verb;

        switch (option) {
        case OPTION_JSON:
                *ret = EXIT_FAILED;
                return use_json(client) ? 0 : 1;
        case OPTION_BUS_ADDRESS:
                client->bus_address = optarg;
                return 0;
        case OPTION_HELP:
                verb = verb_find(client->verb);
                if (verb)
                        (void)fputs(verb->help, stdout);
                *ret = fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
                return 1;
        case ':':
                *ret = client_fail(client, EXIT_WRONG_USAGE, "The option needs a value: see camrescue %s --help.", client->verb);
                return 1;
        default:
                *ret = client_fail(client, EXIT_WRONG_USAGE, "Unknown option: see camrescue %s --help.", client->verb);
                return 1;
        }
}

/* So that even a wrong option is reported in the form that was asked for. */
static bool wants_json(int argc, char **argv)
{
        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
                if (strcmp(argv[i], "--json") == 0)
                        return true;
        return false;
}

static enum exit_code print_help(void)
{
        (void)fputs(help, stdout);
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {
                { "version", no_argument, NULL, OPTION_FIRST_OWN },
                CLIENT_COMMON_OPTIONS
        };
        struct client client = { .verb = "", .bus_address = getenv("CAMRESCUE_BUS_ADDRESS") };
        const struct verb *verb;
        int option;

        if (argc == 2 && strcmp(argv[1], "--version") == 0) {
                (void)puts("camrescue " PACKAGE_VERSION);
                return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
        }
        if (client.bus_address && !*client.bus_address)
                client.bus_address = NULL;
        if (wants_json(argc, argv) && !use_json(&client))
                return EXIT_FAILED;
        terminal_probe(&client.out, STDOUT_FILENO);
        opterr = 0;
        while ((option = getopt_long(argc, argv, "+:h", options, NULL)) >= 0) {
                if (option == OPTION_HELP || option == 'h')
                        return (int)print_help();
                if (option == OPTION_JSON) {
                        if (!use_json(&client))
                                return EXIT_FAILED;
                } else if (option == OPTION_BUS_ADDRESS) {
                        client.bus_address = optarg;
                } else if (option == OPTION_FIRST_OWN) {
                        (void)puts("camrescue " PACKAGE_VERSION);
                        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
                } else {
                        return (int)client_fail(&client, EXIT_WRONG_USAGE, "Wrong option before the verb: see camrescue --help.");
                }
        }
        if (optind == argc)
                return (int)client_fail(&client, EXIT_WRONG_USAGE, "What shall be done? See camrescue --help.");
        if (strcmp(argv[optind], "help") == 0)
                return (int)print_help();
        verb = verb_find(argv[optind]);
        if (!verb)
                return (int)client_fail(&client, EXIT_WRONG_USAGE, "Unknown verb \"%s\": see camrescue --help.", argv[optind]);
        client.verb = verb->name;
        argc -= optind;
        argv += optind;
        optind = 0;                     /* getopt_long() begins anew */
        return (int)verb->run(&client, argc, argv);
}

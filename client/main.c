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

/* One screen: 24 rows of 80 columns, with the prompt.  Verbs of a kind share lines. */
static const char help[] =
"Usage: camrescue [--json] [--host [USER@]HOST] VERB ...\n"
"Rescues OpenMV cameras through camrescued. CAMERA: port, serial, label, prefix\n"
"\n"
"look      status [CAMERA...]         what each camera is, does and needs\n"
"          watch [CAMERA...]          the same, live; [--until CONDITION]\n"
"          wait CAMERA... --for WHAT  until it is so: runtime, done, absent ...\n"
"repair    update CAMERA...|--all     write firmware: [--firmware FILE|VERSION]\n"
"          recover CAMERA             your word that it is one: [--board M7]\n"
"          restore|cancel|retry CAMERA  what was saved; end, repeat an update\n"
"cameras   history|forget|hold|release CAMERA  its past; a bootloader for tools\n"
"          label CAMERA TEXT | notify   a name of its own; desktop notifications\n"
"          inhibit [CAMERA...] -- COMMAND     hands off while that runs\n"
"firmware  firmware fetch [VERSION]           get a release; none named: newest\n"
"          firmware import [FILE|DIR|ZIP...]  nothing named: the IDE's folder\n"
"          firmware list | remove ID          what is in the store; take one out\n"
"\n"
"  --json           print JSON only, errors too   --help     this, or of a VERB\n"
"  --host HOST      that machine's daemon, by ssh --version  of the client\n"
"\n"
"Exit: 0 done, 1 failed, 2 usage, 3 refused, 4 verified but not seen again,\n"
"5 no such camera, 6 daemon not there, 7 not ended yet, 130 interrupted (the\n"
"update goes on). More: camrescue VERB --help, man camrescue\n";

struct verb {
        const char *name;
        enum exit_code (*run)(struct client *client, int argc, char **argv);
        const char *help;
};

#define WAITING_HELP                                                                            \
        "  --wait             wait to the end, replugs too (default on a terminal)\n"            \
        "  --no-wait          return at once: exit status 7 while it goes on\n"                  \
        "  --timeout SECONDS  stop waiting after so long: exit status 7, it goes on\n"            \
        "  --json             print JSON lines: plan, progress, ended\n"

static const struct verb verbs[] = {
        { "status", verb_status,
          "Usage: camrescue status [--json] [CAMERA...]\n"
          "Shows each camera: port, board, mode, state, firmware, what it does, advice.\n" },
        { "watch", verb_watch,
          "Usage: camrescue watch [--until CONDITION] [--timeout SECONDS] [CAMERA...]\n"
          "Shows the cameras live; plain lines when the output is no terminal.\n\n"
          "  --until CONDITION  end when it holds for the cameras named (none: for all\n"
          "                     that are attached):\n"
          "                     state=S (or S alone), mode=M, firmware=V, diagnosis=D,\n"
          "                     update=ended|open|done|failed|refused|cancelled|not-seen\n"
          "  --timeout SECONDS  end after so long: exit status 7 with --until, else 0\n"
          "  --json             print JSON lines\n" },
        { "wait", verb_wait,
          "Usage: camrescue wait --for WHAT [--timeout SECONDS] CAMERA...\n"
          "Waits until something is so of each camera. It need not be known yet.\n\n"
          "  --for WHAT         runtime, bootloader, rom-dfu: it is in this mode\n"
          "                     absent: it is not attached\n"
          "                     done: its open or last update has ended\n"
          "                     or a condition of watch --until: state=S, firmware=V ...\n"
          "  --timeout SECONDS  wait no longer than this: exit status 7\n"
          "  --json             print the cameras in the end\n\n"
          "Exit: 0 it came (at once, or later), 7 not in time; with --for done also\n"
          "1 failed or cancelled, 3 refused, 4 not seen again.\n" },
        { "update", verb_update,
          "Usage: camrescue update [OPTIONS] CAMERA...\n"
          "       camrescue update [OPTIONS] --all\n"
          "Writes firmware. A camera that runs is restarted into its bootloader for it; if\n"
          "it does not listen, the update waits until it is plugged in again.\n\n"
          "  --all              every camera; the plan is printed first\n"
          "  --firmware FILE|VERSION|ID\n"
          "                     an image file, or one in the store (default: what the\n"
          "                     daemon chooses)\n"
          "  --romfs            also the ROM file system of that version\n"
          "  --erase-filesystem also empty the camera's file system\n"
          "  --replace-unknown  also over firmware that is not known (it is saved first)\n"
          "  --dry-run          only print the plan\n"
          WAITING_HELP },
        { "recover", verb_recover,
          "Usage: camrescue recover [OPTIONS] CAMERA\n"
          "Your word that this device is a camera and may be written to, while it stays\n"
          "attached.\n\n"
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
        { "label", verb_label,
          "Usage: camrescue label CAMERA TEXT\n"
          "Gives a camera a name of its own, by which it is shown and may be named.\n"
          "\"\" takes it away.\n" },
        { "notify", verb_notify,
          "Usage: camrescue notify\n"
          "Shows on the desktop what becomes of cameras and what needs a hand, until the\n"
          "session ends. The user service camrescue-notify.service runs it; one is enough.\n\n"
          "  --json             print a line for each notification\n" },
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
        { "hold", verb_hold,
          "Usage: camrescue hold [--timeout SECONDS] CAMERA\n"
          "Catches the camera's bootloader, now or when it is there next, and leaves it to\n"
          "another program: its state is \"held\" then. A camera that runs is restarted into\n"
          "it; if it does not listen, plug it in again. Not while an update is open.\n\n"
          "  --timeout SECONDS  let it go after so long (default: 3600; at most a day)\n" },
        { "release", verb_release,
          "Usage: camrescue release CAMERA\n"
          "Lets a camera go that is held, or just stays, in its bootloader: looks at its\n"
          "firmware, tells it to leave, and waits until it has. One whose firmware is seen\n"
          "to be incomplete stays.\n" },
        { "inhibit", verb_inhibit,
          "Usage: camrescue inhibit [--who NAME] [--why TEXT] [CAMERA...] --\n"
          "                         COMMAND [ARGUMENT...]\n"
          "Runs the command, and camrescued keeps its hands off the cameras (none named:\n"
          "all) until it ends.\n\n"
          "  --who NAME         who works on them (default: the command's name)\n"
          "  --why TEXT         and why\n\n"
          "Ends with the command's exit status: 128 + N if signal N killed it, 126 or 127\n"
          "if it could not be run.\n" },
        { "firmware", verb_firmware,
          "Usage: camrescue firmware fetch [OPTIONS] [VERSION]\n"
          "       camrescue firmware import [OPTIONS] [FILE|DIRECTORY|ZIP...]\n"
          "       camrescue firmware list [--json]\n"
          "       camrescue firmware remove ID...\n"
          "Images that the daemon may write.\n\n"
          "  --board BOARD --partition NAME --version VERSION\n"
          "                     what cannot be told from names and folders\n"
          "  --stable, --development\n"
          "                     is it a release (default: if the version has no suffix)\n"
          "  --yes              import the IDE's folder without asking\n\n"
          "fetch gets a release of OpenMV's by the program curl; no VERSION: the newest\n"
          "  --from URL         from a mirror of github.com/openmv/openmv\n"
          "  --timeout SECONDS  give up after so long (default: 900)\n"
          "  --accept-change    although its digest is another one than last time\n" },
        /* Not in the help: for the completions of shells. */
        { "complete", verb_complete,
          "Usage: camrescue complete verbs|options VERB|firmware|cameras|versions|boards|images\n"
          "Candidates for the completions of shells, one a line.\n" },
};

const char *client_nth_verb(size_t n, const char **ret_help)
{
        if (n >= ELEMENTSOF(verbs))
                return NULL;
        *ret_help = verbs[n].help;
        return verbs[n].name;
}

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

static enum exit_code fail(const struct client *client, enum exit_code code, const char *name, const char *format, va_list ap)
{
        _cleanup_free_ char *text = sentence(client, format, ap);

        if (client->json)
                (void)json_print_line(json_of_error(code, name, text ? text : "Out of memory."));
        else
                (void)fprintf(stderr, "camrescue: %s\n", text ? text : "Out of memory.");
        return code;
}

enum exit_code client_fail(const struct client *client, enum exit_code code, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        code = fail(client, code, exit_code_name(code), format, ap);
        va_end(ap);
        return code;
}

enum exit_code client_fail_image(const struct client *client, const char *format, ...)
{
        enum exit_code code;
        va_list ap;

        va_start(ap, format);
        code = fail(client, EXIT_NO_CAMERA, "no-image", format, ap);
        va_end(ap);
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

enum exit_code client_seconds(const struct client *client, const char *text, double least, double most, unsigned long long *ret_usec)
{
        char *end;
        double seconds;

        errno = 0;
        seconds = strtod(text, &end);
        if (errno != 0 || end == text || *end != '\0' || !(seconds >= least && seconds <= most))
                return client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is no number of seconds from %g to %.0f.", text, least, most);
        *ret_usec = (unsigned long long)(seconds * 1e6);
        return EXIT_DONE;
}

static const struct verb *verb_find(const char *name)
{
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                if (strcmp(verbs[i].name, name) == 0)
                        return &verbs[i];
        return NULL;
}

enum exit_code client_needs_descriptors(const struct client *client, const char *command)
{
        if (!client->host)
                return EXIT_DONE;
        return client_fail(client, EXIT_REFUSED, "Files do not pass over ssh to the daemon of %s. Do it there, with what is there: "
                           "ssh %s camrescue %s", client->host, client->host, command);
}

/* Without the library this is all that can be said in JSON. */
static bool use_json(struct client *client)
{
        client->json = json_load();
        if (!client->json)
                (void)puts("{\"error\":{\"code\":\"failed\",\"message\":\"The library that writes JSON (jansson, libjansson.so.4) is not "
                           "installed.\"},\"exit\":1}");
        return client->json;
}

/* Whose daemon.  A wrong one is reported. */
static bool set_bus(struct client *client, int option, const char *value)
{
        if (option == OPTION_BUS_ADDRESS) {
                client->bus_address = value;
                client->host = NULL;
                return true;
        }
        /* What begins with a dash would be an option to ssh. */
        if (*value == '\0' || *value == '-') {
                (void)client_fail(client, EXIT_WRONG_USAGE, "\"%s\" is no host.", value);
                return false;
        }
        client->host = value;
        client->bus_address = NULL;
        return true;
}

/* Even what is for people is JSON when that was asked for. */
static enum exit_code print_text(const struct client *client, const char *what, const char *text)
{
        if (client->json)
                return json_print_line(json_pack("{so}", what, json_text(text)));
        (void)fputs(text, stdout);
        return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

static enum exit_code print_version(const struct client *client)
{
        return print_text(client, "version", client->json ? PACKAGE_VERSION : "camrescue " PACKAGE_VERSION "\n");
}

int client_common_option(struct client *client, int option, enum exit_code *ret)
{
        const struct verb *verb;

        switch (option) {
        case OPTION_JSON:
                *ret = EXIT_FAILED;
                return use_json(client) ? 0 : 1;
        case OPTION_BUS_ADDRESS:
        case OPTION_HOST:
                if (set_bus(client, option, optarg))
                        return 0;
                *ret = EXIT_WRONG_USAGE;
                return 1;
        case OPTION_HELP:
                verb = verb_find(client->verb);
                *ret = print_text(client, "help", verb ? verb->help : "");
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

int main(int argc, char **argv)
{
        static const struct option options[] = {
                { "version", no_argument, NULL, OPTION_FIRST_OWN },
                CLIENT_COMMON_OPTIONS
        };
        struct client client = { .verb = "", .bus_address = getenv("CAMRESCUE_BUS_ADDRESS") };
        const struct verb *verb;
        int option;

        if (argc == 2 && strcmp(argv[1], "--version") == 0)
                return (int)print_version(&client);
        if (client.bus_address && !*client.bus_address)
                client.bus_address = NULL;
        if (wants_json(argc, argv) && !use_json(&client))
                return EXIT_FAILED;
        terminal_probe(&client.out, STDOUT_FILENO);
        opterr = 0;
        while ((option = getopt_long(argc, argv, "+:hH:", options, NULL)) >= 0) {
                if (option == OPTION_HELP || option == 'h')
                        return (int)print_text(&client, "help", help);
                if (option == OPTION_JSON) {
                        if (!use_json(&client))
                                return EXIT_FAILED;
                } else if (option == OPTION_BUS_ADDRESS || option == OPTION_HOST || option == 'H') {
                        if (!set_bus(&client, option == 'H' ? OPTION_HOST : option, optarg))
                                return EXIT_WRONG_USAGE;
                } else if (option == OPTION_FIRST_OWN) {
                        return (int)print_version(&client);
                } else {
                        return (int)client_fail(&client, EXIT_WRONG_USAGE, "Wrong option before the verb: see camrescue --help.");
                }
        }
        if (optind == argc)
                return (int)client_fail(&client, EXIT_WRONG_USAGE, "What shall be done? See camrescue --help.");
        if (strcmp(argv[optind], "help") == 0)
                return (int)print_text(&client, "help", help);
        verb = verb_find(argv[optind]);
        if (!verb)
                return (int)client_fail(&client, EXIT_WRONG_USAGE, "Unknown verb \"%s\": see camrescue --help.", argv[optind]);
        client.verb = verb->name;
        argc -= optind;
        argv += optind;
        optind = 0;                     /* getopt_long() begins anew */
        return (int)verb->run(&client, argc, argv);
}

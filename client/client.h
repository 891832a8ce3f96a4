/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What every verb of camrescue has in hand: the options before it, the
 * terminal, and the one way to say that something went wrong.
 *
 * Exit codes.  They are an interface (camrescue.1, "EXIT STATUS"): never 0 for
 * a failure, never another for a success.  When several cameras end
 * differently, the first of 1, 3, 4, 7 that occurred is the answer.
 */

#include <stdbool.h>
#include <stddef.h>

#include "base/cleanup.h"
#include "client/text.h"

enum exit_code {
        EXIT_DONE = 0,
        EXIT_FAILED = 1,
        EXIT_WRONG_USAGE = 2,
        EXIT_REFUSED = 3,               /* by the daemon's rules, by polkit, by the user at the prompt */
        EXIT_NOT_SEEN = 4,              /* written and verified, but the camera was not seen to run again */
        EXIT_NO_CAMERA = 5,             /* no such camera, or the name fits several; also firmware ids */
        EXIT_NO_DAEMON = 6,             /* not there, gone in the middle, or does not answer */
        EXIT_NOT_ENDED = 7,             /* accepted, goes on in the daemon: queued, --no-wait, --timeout ran out */
        EXIT_INTERRUPTED = 130,         /* Ctrl-C; the update goes on in the daemon */
};

/* The worse of two ends, in the order above. */
enum exit_code exit_code_worse(enum exit_code a, enum exit_code b);
/* "failed", "no-daemon": the "code" of an error in JSON. */
const char *exit_code_name(enum exit_code code);

struct client {
        const char *verb;
        const char *bus_address;        /* NULL: the system bus */
        const char *host;               /* whose system bus, over ssh: "[USER@]HOST"; NULL: this machine's */
        bool json;
        struct terminal out;            /* standard output */
};

/* Says why, once: a sentence on stderr, or {"error": ...} on stdout with --json.  Returns code, for "return client_fail(...)". */
enum exit_code client_fail(const struct client *client, enum exit_code code, const char *format, ...) _printf_(3, 4);
/* EXIT_NO_CAMERA, of an image or release: "no-image" in JSON. */
enum exit_code client_fail_image(const struct client *client, const char *format, ...) _printf_(2, 3);
/* A remark for a person, on stderr; nothing with --json. */
void client_note(const struct client *client, const char *format, ...) _printf_(2, 3);
/* Asks on the terminal.  yes: no need to ask.  EXIT_DONE: go on; EXIT_REFUSED: answered no, or there is nobody to ask (reported). */
enum exit_code client_ask(const struct client *client, bool yes, const char *question);

/* --- options: every verb takes these besides its own --- */

enum {
        OPTION_JSON = 0x100,
        OPTION_BUS_ADDRESS,
        OPTION_HOST,
        OPTION_HELP,
        OPTION_FIRST_OWN,               /* verbs count from here */
};

#define CLIENT_COMMON_OPTIONS                                           \
        { "json", no_argument, NULL, OPTION_JSON },                     \
        { "bus-address", required_argument, NULL, OPTION_BUS_ADDRESS }, \
        { "host", required_argument, NULL, OPTION_HOST },               \
        { "help", no_argument, NULL, OPTION_HELP },                     \
        { NULL, 0, NULL, 0 }

/* For what getopt_long() returned and the verb does not know.  0: taken, go on; 1: help was printed, end with *ret; also 1 on an error, reported. */
int client_common_option(struct client *client, int option, enum exit_code *ret);
/* "2.5" -> microseconds.  EXIT_DONE, or EXIT_WRONG_USAGE: no number of seconds in this range, reported. */
enum exit_code client_seconds(const struct client *client, const char *text, double least, double most, unsigned long long *ret_usec);
#define WAIT_SECONDS_MAX 1e9            /* for how long anybody waits: it fits a clock in microseconds */
/* Files are given to the daemon as descriptors, which do not pass over ssh.  EXIT_DONE without --host; else EXIT_REFUSED, reported:
 * the command that does it there. */
enum exit_code client_needs_descriptors(const struct client *client, const char *command);

/* The verbs in order, NULL at the end. */
const char *client_nth_verb(size_t n, const char **ret_help);

enum exit_code verb_complete(struct client *client, int argc, char **argv);
enum exit_code verb_status(struct client *client, int argc, char **argv);
enum exit_code verb_watch(struct client *client, int argc, char **argv);
enum exit_code verb_wait(struct client *client, int argc, char **argv);
enum exit_code verb_update(struct client *client, int argc, char **argv);
enum exit_code verb_recover(struct client *client, int argc, char **argv);
enum exit_code verb_restore(struct client *client, int argc, char **argv);
enum exit_code verb_retry(struct client *client, int argc, char **argv);
enum exit_code verb_forget(struct client *client, int argc, char **argv);
enum exit_code verb_hold(struct client *client, int argc, char **argv);
enum exit_code verb_release(struct client *client, int argc, char **argv);
enum exit_code verb_history(struct client *client, int argc, char **argv);
enum exit_code verb_cancel(struct client *client, int argc, char **argv);
enum exit_code verb_label(struct client *client, int argc, char **argv);
enum exit_code verb_notify(struct client *client, int argc, char **argv);
enum exit_code verb_inhibit(struct client *client, int argc, char **argv);
enum exit_code verb_firmware(struct client *client, int argc, char **argv);
enum exit_code verb_firmware_fetch(struct client *client, int argc, char **argv);
enum exit_code verb_firmware_import(struct client *client, int argc, char **argv);
enum exit_code verb_firmware_list(struct client *client, int argc, char **argv);
enum exit_code verb_firmware_remove(struct client *client, int argc, char **argv);

/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What udev does not tell: a device that is connected and does not answer.  The
 * kernel tries it several times, says so in its log (/dev/kmsg), and shows
 * nothing anywhere else.  Three parts: one record's line read (pure), what is so of
 * each port after many of them (pure), and the reader on the loop.
 *
 * A single error says nothing: the kernel tries again, and often succeeds.  Only
 * its last word, "unable to enumerate USB device", counts; and that only until
 * something enumerates at that port, or the port's hub leaves.  That a device
 * which never answered was unplugged the kernel says nowhere.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/identity.h"

/* --- one line --- */

enum kernel_word {
        KERNEL_SAYS_NOTHING,            /* of ports */
        KERNEL_HAS_TROUBLE,             /* one error of several tries, or not even that */
        KERNEL_GAVE_UP,
        KERNEL_ENUMERATED,
        KERNEL_LEFT,                    /* a device that had been enumerated; with everything below it, if it is a hub */
        _KERNEL_WORD_MAX
};

struct kernel_record {
        enum kernel_word word;
        char port[PORT_PATH_MAX];       /* "1-4.2"; LEFT, and it was a root hub: its bus, "1" */
        char text[80];                  /* HAS_TROUBLE: its words: "device descriptor read/64, error -71" */
        uint64_t sequence;
        uint64_t time;                  /* microseconds, on the clock of kernel_log_now() */
};

/* line: of size bytes, without its newline, as /dev/kmsg gives it: "3,1204,81723911,-;usb usb1-port1: unable to ..."  Any bytes.
 * -EINVAL: no record (one of the lines " KEY=value" that follow it, for instance); -ENOMSG: not from the kernel itself.  The words are those of
 * Linux 6.1. */
int kernel_record_parse(const char *line, size_t size, struct kernel_record *ret);

/* "usb1-port3" -> "1-3", "1-4-port2" -> "1-4.2"; -EINVAL. */
int kernel_port_name(const char *name, size_t size, char port[static PORT_PATH_MAX]);

/* --- all ports --- */

#define KERNEL_PORTS_MAX 64             /* with trouble at a time; of more the oldest is forgotten */

struct kernel_ports {
        struct kernel_port {
                char port[PORT_PATH_MAX];       /* "": free */
                char why[80];                   /* the last trouble before the last word; "": none was heard */
                unsigned times;                 /* it was given up in a row; 0: not (yet) */
                uint64_t time;                  /* of the last record about it */
                bool news;                      /* given up, and not taken since */
        } ports[KERNEL_PORTS_MAX];
};

/* keep: what was said longer ago than that, in microseconds, before something is said again is another story and not counted. */
void kernel_ports_add(struct kernel_ports *ports, const struct kernel_record *record, uint64_t keep);
/* Given up since the last taking and not back; NULL: no more. */
const struct kernel_port *kernel_ports_take(struct kernel_ports *ports);

/* --- the reader --- */

struct kernel_log;

struct kernel_log_callbacks {
        /* times: in a row, without anything enumerating between.  age: microseconds since.  Told when what is there to read has been
         * read: a port that was cured meanwhile is not told of. */
        void (*on_gave_up)(void *userdata, const char *port, const char *why, unsigned times, uint64_t age);
        void (*on_enumerated)(void *userdata, const char *port);
        /* What hung there is gone. */
        void (*on_left)(void *userdata, const char *port);
};

/* path "-": standard input, if that is /dev/kmsg, which systemd can open for a service that may not; -ENODEV if not, so that no terminal
 * or pipe is read by accident.  Else a file of the same form, usually /dev/kmsg itself.  Reads from its beginning; records older than keep
 * (microseconds) count for nothing. */
int kernel_log_new(struct loop *loop, const char *path, uint64_t keep, const struct kernel_log_callbacks *callbacks, void *userdata,
                   struct kernel_log **ret);
/* Not from inside a callback.  Standard input stays open. */
struct kernel_log *kernel_log_free(struct kernel_log *log);

/* Now, on the clock of the kernel's log: microseconds that run on as the processor's clock does, set by nobody, standing still in sleep. */
uint64_t kernel_log_now(void);

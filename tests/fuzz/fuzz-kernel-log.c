/* SPDX-License-Identifier: MIT */

/*
 * The kernel's log, damaged: whatever stands in a line, what is taken from it is a
 * port's name and nothing longer, and the table of ports holds.
 */

#include <string.h>

#include "base/cleanup.h"
#include "edge/kernel-log.h"
#include "fuzz/fuzz.h"

/* It goes into a path of sysfs and onto the bus. */
static void check_port(const char *port)
{
        CHECK(strlen(port) < PORT_PATH_MAX);
        CHECK(strspn(port, "0123456789-.") == strlen(port));
        CHECK(port[0] != '-' && port[0] != '.' && !strstr(port, "..") && strchr(port, '-') && strchr(port, '-') == strrchr(port, '-'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct kernel_ports ports = { 0 };
        const char *line = (const char *)data, *end = line + size;
        const struct kernel_port *port;

        while (line < end) {
                const char *newline = memchr(line, '\n', (size_t)(end - line));
                size_t n = (size_t)((newline ?: end) - line);
                struct kernel_record record;

                if (kernel_record_parse(line, n, &record) >= 0) {
                        CHECK(record.word < _KERNEL_WORD_MAX);
                        CHECK(memchr(record.text, '\0', sizeof(record.text)) && strlen(record.text) <= n);
                        CHECK((record.word == KERNEL_SAYS_NOTHING) == (record.port[0] == '\0'));
                        if (record.word == KERNEL_LEFT && !strchr(record.port, '-'))
                                CHECK(strspn(record.port, "0123456789") == strlen(record.port) && strlen(record.port) <= 4);
                        else if (record.word != KERNEL_SAYS_NOTHING)
                                check_port(record.port);
                        kernel_ports_add(&ports, &record, 600 * SEC);
                }
                line = newline ? newline + 1 : end;
        }
        while ((port = kernel_ports_take(&ports))) {
                check_port(port->port);
                CHECK(port->times > 0);
        }
        return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t size)
{
        static const char *const seeds[] = {
                "3,1204,81723911,-;usb 1-1: device descriptor read/64, error -71\n SUBSYSTEM=usb\n DEVICE=+usb:1-1\n"
                "6,1205,81723999,-;usb usb1-port1: attempt power cycle\n"
                "3,1206,81724000,-;usb usb1-port1: unable to enumerate USB device\n",
                "3,7,8,c,caller=T1;usb 1-4.1-port2: unable to enumerate USB device\n"
                "6,8,9,-;usb 1-4.1.2: New USB device found, idVendor=37c5, idProduct=9203, bcdDevice= 1.03\n"
                "6,9,10,-;usb 1-4: USB disconnect, device number 3\n12,10,11,-;a program's word\n",
        };

        if (n >= ELEMENTSOF(seeds) || strlen(seeds[n]) > size)
                return 0;
        memcpy(data, seeds[n], strlen(seeds[n]));
        return strlen(seeds[n]);
}

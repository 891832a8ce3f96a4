/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The in-process front end: simulated cameras on the ports of a host that
 * lives on a struct loop, virtual or real.  usb-inproc.c takes the place of
 * daemon/io/usb.c at link time and plays kernel and udev besides: enumeration,
 * device numbers, sightings of what came and went, claims of other programs.
 *
 * One host at a time: usb_new() belongs to the one made last.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/identity.h"
#include "io/usb.h"
#include "sim/model.h"

struct usb_inproc;
struct usb_inproc_camera;

/* Debounce, two resets, descriptors (timing.md section 3); after it SET_CONFIGURATION(1). */
#define USB_INPROC_ENUMERATION (350 * MSEC)
/* From SET_CONFIGURATION to the event as a program hears of it. */
#define USB_INPROC_EVENT_DELAY (1 * MSEC)

int usb_inproc_new(struct loop *loop, struct usb_inproc **ret);
/* Unplugs and frees all cameras.  Asserts that no usb_device is open any more. */
struct usb_inproc *usb_inproc_free(struct usb_inproc *host);

/* Never called from inside another function of this header. Events keep their order. */
typedef void (*usb_inproc_event_fn)(void *userdata, bool added, const struct sighting *sighting);
void usb_inproc_on_event(struct usb_inproc *host, usb_inproc_event_fn fn, void *userdata);
void usb_inproc_set_delays(struct usb_inproc *host, uint64_t enumeration, uint64_t event);
/* So many requests of one device in flight, USB_QUEUE_MAX unless told otherwise; one more is -EBUSY. */
void usb_inproc_set_queue(struct usb_inproc *host, size_t n);
/* From the end of a request until its owner hears of it; what is queued behind it goes out meanwhile. 0 unless told otherwise. */
void usb_inproc_set_latency(struct usb_inproc *host, uint64_t latency);
/* Hears of each request of every device as it is submitted, and as its owner is told of its end (told).  opening: which of all openings
 * it belongs to, counted from 1.  It may not call anything of io/usb.h. */
typedef void (*usb_inproc_watch_fn)(void *userdata, struct usb_inproc_camera *camera, unsigned opening, const struct usb_setup *setup,
                                    bool told, enum usb_result result, const uint8_t *data, size_t actual);
void usb_inproc_watch(struct usb_inproc *host, usb_inproc_watch_fn fn, void *userdata);
/* One line per request, event and flash operation to stderr. */
void usb_inproc_set_trace(struct usb_inproc *host, bool trace);
/* What is on the bus now and has been announced, as an enumeration at start-up would find it; returns how many. */
size_t usb_inproc_enumerate(struct usb_inproc *host, struct sighting *sightings, size_t max);

int usb_inproc_camera_new(struct usb_inproc *host, const struct sim_config *config, struct usb_inproc_camera **ret);
/* Flash, jumper, faults, counters.  Plug and unplug with the functions below. */
struct sim_camera *usb_inproc_sim(struct usb_inproc_camera *camera);
/* Is it announced now? Then what was said of it. */
bool usb_inproc_sighting(const struct usb_inproc_camera *camera, struct sighting *ret);

/* --- a hand; port: sysfs name, "3-1.2" --- */
void usb_inproc_port_plug(struct usb_inproc_camera *camera, const char *port);
void usb_inproc_port_unplug(struct usb_inproc_camera *camera);
/* Last plugged in there; "" if never. */
const char *usb_inproc_port_of(const struct usb_inproc_camera *camera);
/* What USBDEVFS_RESET or a hub does; a device that stays is configured again. */
void usb_inproc_port_reset(struct usb_inproc_camera *camera);

/* --- other programs --- */
/* Another program claims (or releases) an interface; gone with the attachment. -EBUSY if it is ours. */
int usb_inproc_claim(struct usb_inproc_camera *camera, uint8_t interface, bool claimed);
/* Does a usb_device of ours hold an interface of it? */
bool usb_inproc_is_open(const struct usb_inproc_camera *camera);
/* The next count openings of its node fail: -EACCES, -ENOENT ... */
void usb_inproc_fail_open(struct usb_inproc_camera *camera, int error, unsigned count);

/* --- hubs --- */
/* A hub enumerates one port at a time, as the kernel does; unless told so all do at once. */
void usb_inproc_set_hubs(struct usb_inproc *host, bool one_at_a_time);

/* --- serial ports: of firmware that runs --- */
/* From the device's event to its serial port's. */
#define USB_INPROC_SERIAL_DELAY (20 * MSEC)

typedef void (*usb_inproc_serial_fn)(void *userdata, const char *port);
void usb_inproc_on_serial(struct usb_inproc *host, usb_inproc_serial_fn fn, void *userdata);
/* The node of the serial port that the device at port has now; -ENOENT. */
int usb_inproc_serial_port(struct usb_inproc *host, const char *port, char *node, size_t size);
/* From now on opening it fails with this errno (-EBUSY: another program has it; -ENOENT: there is none), 0: it does not; and with
 * USB_INPROC_HANGS never ends. */
#define USB_INPROC_HANGS 1
void usb_inproc_hold_serial(struct usb_inproc_camera *camera, int error);
bool usb_inproc_serial_is_open(const struct usb_inproc_camera *camera);

/* - for tty-inproc.c - */
struct usb_inproc_serial_user {
        void (*said)(void *userdata, const uint8_t *bytes, size_t size);
        void (*gone)(void *userdata);
};
int usb_inproc_serial_open(const char *node, const struct usb_inproc_serial_user *user, void *userdata,
                           struct usb_inproc_camera **ret);
void usb_inproc_serial_write(struct usb_inproc_camera *camera, const void *data, size_t size);
void usb_inproc_serial_close(struct usb_inproc_camera *camera);

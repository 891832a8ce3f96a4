/* SPDX-License-Identifier: MIT */
/* See watcher.h. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "protocol/dfu.h"
#include "unit/watcher.h"

bool watcher_is_request(const struct usb_setup *setup, unsigned request)
{
        return (setup->request_type & 0x7f) == 0x21 && setup->request == request;
}

static bool is_set_interface(const struct usb_setup *setup)
{
        return setup->request_type == 0x01 && setup->request == 0x0b;
}

/* Who frees a device is not told of the end of what was in flight. */
static void begin_opening(struct watcher *w, unsigned opening)
{
        w->opening = opening;
        w->n_openings++;
        w->in_flight = 0;
        w->block_is_open = w->unfinished = w->block_is_ours = w->wrote = w->at_risk = false;
        w->alt = DFU_ALT_UNKNOWN;
}

static void on_download(struct watcher *w, const struct usb_setup *setup, bool rom)
{
        if (w->in_flight > 1 || (w->unfinished && !rom))
                lab_fail(w->lab, "a DNLOAD before it is known what became of the one before");
        w->block_is_open = w->unfinished = w->block_is_ours = true;
        if (setup->length == 0) {
                w->n_farewells++;
                return;
        }
        w->n_blocks++;
        w->n_farewells = 0;
        if (w->camera->board == SIM_OPENMV_AE3 && !w->wrote && setup->value != 0)
                lab_fail(w->lab, "block %u is the first one behind a window that block 0 opens", setup->value);
        w->wrote = true;
}

static void on_submitted(struct watcher *w, const struct usb_setup *setup)
{
        bool rom = sim_camera_mode(w->camera->sim) == SIM_ROM_DFU;

        w->in_flight++;
        w->n_submitted++;
        w->in_flight_max = MAX(w->in_flight_max, w->in_flight);
        w->last = *setup;
        if (watcher_is_request(setup, DFU_DNLOAD)) {
                on_download(w, setup, rom);
        } else if (watcher_is_request(setup, DFU_GETSTATUS)) {
                if (w->block_is_open && !rom && !w->lied_to)
                        lab_fail(w->lab, "a GETSTATUS that commits a block of which it is not known how it arrived");
                w->at_risk = sim_camera_is_pending(w->camera->sim) && (w->block_is_open || !w->block_is_ours) && !w->lied_to;
        } else if (watcher_is_request(setup, DFU_UPLOAD)) {
                if (w->unfinished && !rom)
                        lab_fail(w->lab, "an UPLOAD into a pending block");
                w->most_uploads = MAX(w->most_uploads, w->in_flight);
        } else {
                if (w->in_flight > 1)
                        lab_fail(w->lab, "something else than GETSTATUS and UPLOAD was sent ahead");
                if (watcher_is_request(setup, DFU_DETACH))
                        w->n_farewells++;
                if (is_set_interface(setup)) {
                        w->wrote = w->wrote && w->alt == setup->value;
                        w->alt = setup->value;
                }
                /* Dropped. */
                if (is_set_interface(setup) || watcher_is_request(setup, DFU_ABORT) || watcher_is_request(setup, DFU_CLRSTATUS))
                        w->block_is_open = w->unfinished = w->block_is_ours = false;
        }
}

static void on_told(struct watcher *w, const struct usb_setup *setup, enum usb_result result, const uint8_t *data, size_t actual)
{
        w->in_flight--;
        if (result == USB_CANCELLED)
                w->n_cancelled++;
        if (w->at_risk && watcher_is_request(setup, DFU_GETSTATUS)) {
                if (!sim_camera_is_pending(w->camera->sim))
                        lab_fail(w->lab, "what somebody else has left, or did not arrive whole, was carried out");
                w->at_risk = false;
        }
        if (watcher_is_request(setup, DFU_DNLOAD) && result == USB_OK && actual == setup->length)
                w->block_is_open = false;
        if (watcher_is_request(setup, DFU_GETSTATUS) && result == USB_OK && actual == 6 &&
            (data[4] == DFU_STATE_DNLOAD_IDLE || data[4] == DFU_STATE_IDLE || data[4] == DFU_STATE_ERROR))
                w->unfinished = false;
}

void watcher_init(struct watcher *watcher, struct lab_camera *camera)
{
        *watcher = (struct watcher){ .lab = camera->lab, .camera = camera };
}

void watcher_watch(void *watcher, struct usb_inproc_camera *camera, unsigned opening, const struct usb_setup *setup, bool told,
                   enum usb_result result, const uint8_t *data, size_t actual)
{
        struct watcher *w = watcher;

        if (camera != w->camera->usb)
                return;
        if (opening != w->opening)
                begin_opening(w, opening);
        if (told)
                on_told(w, setup, result, data, actual);
        else
                on_submitted(w, setup);
}

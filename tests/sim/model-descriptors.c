/* SPDX-License-Identifier: MIT */
/*
 * What all modes have in common on endpoint 0: building descriptors, serial
 * numbers from the unique id, standard requests.  Differences between the
 * stacks (TinyUSB in the OpenMV bootloader, ST's elsewhere) are decided by mode.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/model-internal.h"

enum {
        DESC_DEVICE = 1, DESC_CONFIG, DESC_STRING, DESC_QUALIFIER = 6,
        STD_GET_STATUS = 0, STD_CLEAR_FEATURE = 1, STD_SET_FEATURE = 3, STD_SET_ADDRESS = 5, STD_GET_DESCRIPTOR = 6,
        STD_GET_CONFIGURATION = 8, STD_SET_CONFIGURATION = 9,
        FEATURE_ENDPOINT_HALT = 0, FEATURE_REMOTE_WAKEUP = 1,
        STRING_INTERFACE = 4,           /* first alternate setting's string */
};

/* --- serial numbers (identity.md section 1) --- */

static uint32_t uid_word(const uint8_t uid[12], unsigned n)
{
        return get_le32(uid + 4 * n);
}

void sim_serial_u(const uint8_t uid[12], char *ret)
{
        sprintf(ret, "%08X%08X%08X", uid_word(uid, 2), uid_word(uid, 1), uid_word(uid, 0));
}

void sim_serial_r(const uint8_t uid[12], char *ret)
{
        sprintf(ret, "%08X%04X", uid_word(uid, 0) + uid_word(uid, 2), uid_word(uid, 1) >> 16);
}

void sim_serial_m(const uint8_t uid[12], bool reduced, char *ret)
{
        unsigned mask = reduced ? 0xff : 0xfff;

        sprintf(ret, "%02X%02X%02X%02X%02X%02X", uid[11], (uid[10] + uid[2]) & mask, uid[9], (uid[8] + uid[0]) & mask, uid[7], uid[6]);
}

/* --- building --- */

void sim_describe_device(struct sim_camera *camera, uint16_t usb, uint8_t class, uint8_t subclass, uint8_t protocol,
                         uint16_t vendor, uint16_t product, uint16_t device, bool serial)
{
        uint8_t *d = camera->descriptors.device;

        d[0] = 18;
        d[1] = DESC_DEVICE;
        put_le16(d + 2, usb);
        d[4] = class;
        d[5] = subclass;
        d[6] = protocol;
        d[7] = 64;
        put_le16(d + 8, vendor);
        put_le16(d + 10, product);
        put_le16(d + 12, device);
        d[14] = 1;
        d[15] = 2;
        d[16] = serial ? 3 : 0;
        d[17] = 1;
}

void sim_describe_bytes(struct sim_camera *camera, const uint8_t *bytes, size_t size)
{
        memcpy(camera->configuration_bytes, bytes, size);
        camera->descriptors.config = camera->configuration_bytes;
        camera->descriptors.config_size = size;
}

void sim_describe_dfu(struct sim_camera *camera, uint8_t attributes, uint8_t max_power, uint8_t dfu_attributes,
                      uint16_t detach_timeout, uint16_t transfer_size, uint16_t dfu_version)
{
        uint8_t bytes[256], *p = bytes;
        size_t n = camera->n_interface_strings, total = 9 + 9 * n + 9;

        memcpy(p, (uint8_t[]){ 9, DESC_CONFIG, (uint8_t)total, (uint8_t)(total >> 8), 1, 1, 0, attributes, max_power }, 9);
        p += 9;
        for (size_t i = 0; i < n; i++, p += 9)
                memcpy(p, (uint8_t[]){ 9, 4, 0, (uint8_t)i, 0, 0xfe, 1, 2, (uint8_t)(STRING_INTERFACE + i) }, 9);
        memcpy(p, (uint8_t[]){ 9, 0x21, dfu_attributes }, 3);
        put_le16(p + 3, detach_timeout);
        put_le16(p + 5, transfer_size);
        put_le16(p + 7, dfu_version);
        sim_describe_bytes(camera, bytes, total);
}

/* --- standard requests --- */

void sim_reply(struct sim_camera *camera, struct transfer *transfer, const void *data, size_t size)
{
        size = MIN(size, (size_t)transfer->length);
        size = MIN(size, sizeof(camera->reply));
        if (!(transfer->type & 0x80)) {
                transfer->stall = true;
                return;
        }
        if (size > 0)
                memcpy(camera->reply, data, size);
        transfer->reply_size = size;
}

static const char *string_of(const struct sim_camera *camera, uint8_t index)
{
        const struct sim_descriptors *d = &camera->descriptors;

        switch (index) {
        case 1:
                return d->manufacturer;
        case 2:
                return d->product;
        case 3:
                return d->device[16] ? d->serial : NULL;
        default:
                if (index >= STRING_INTERFACE && (size_t)(index - STRING_INTERFACE) < camera->n_interface_strings)
                        return camera->interface_strings[index - STRING_INTERFACE];
                return NULL;
        }
}

static void get_string(struct sim_camera *camera, struct transfer *transfer, uint8_t index)
{
        uint8_t bytes[256];
        const char *string;
        size_t n;

        if (index == 0) {
                sim_reply(camera, transfer, (uint8_t[]){ 4, DESC_STRING, 0x09, 0x04 }, 4);
                return;
        }
        string = string_of(camera, index);
        if (!string) {
                transfer->stall = true;
                return;
        }
        n = MIN(strlen(string), (size_t)126);
        bytes[0] = (uint8_t)(2 + 2 * n);
        bytes[1] = DESC_STRING;
        for (size_t i = 0; i < n; i++)
                put_le16(bytes + 2 + 2 * i, (uint8_t)string[i]);
        sim_reply(camera, transfer, bytes, 2 + 2 * n);
}

static void get_descriptor(struct sim_camera *camera, struct transfer *transfer)
{
        const struct sim_descriptors *d = &camera->descriptors;

        switch (transfer->value >> 8) {
        case DESC_DEVICE:
                sim_reply(camera, transfer, d->device, sizeof(d->device));
                return;
        case DESC_CONFIG:
                /* Every one of these stacks gives its only configuration for any index. */
                sim_reply(camera, transfer, d->config, d->config_size);
                return;
        case DESC_STRING:
                get_string(camera, transfer, (uint8_t)transfer->value);
                return;
        case DESC_QUALIFIER:
                if (d->speed == 480) {
                        uint8_t qualifier[10] = { 10, DESC_QUALIFIER };

                        memcpy(qualifier + 2, d->device + 2, 6);
                        qualifier[8] = 1;
                        sim_reply(camera, transfer, qualifier, sizeof(qualifier));
                        return;
                }
                break;
        }
        transfer->stall = true;
}

static void device_request(struct sim_camera *camera, struct transfer *transfer)
{
        uint8_t status[2] = { 0, 0 };

        switch (transfer->request) {
        case STD_GET_STATUS:
                if (camera->configuration && (camera->descriptors.config[7] & 0x40))
                        status[0] |= 1;
                if (camera->remote_wakeup)
                        status[0] |= 2;
                sim_reply(camera, transfer, status, 2);
                return;
        case STD_CLEAR_FEATURE:
        case STD_SET_FEATURE:
                if (transfer->value != FEATURE_REMOTE_WAKEUP)
                        break;
                camera->remote_wakeup = transfer->request == STD_SET_FEATURE;
                return;
        case STD_SET_ADDRESS:
                return;
        case STD_GET_DESCRIPTOR:
                get_descriptor(camera, transfer);
                return;
        case STD_GET_CONFIGURATION:
                sim_reply(camera, transfer, &camera->configuration, 1);
                return;
        case STD_SET_CONFIGURATION: {
                uint8_t value = (uint8_t)transfer->value;

                /* TinyUSB looks the configuration up by index and finds its only one for all of them. */
                if (value > 1 && camera->mode != SIM_BOOTLOADER)
                        break;
                if (value == camera->configuration)
                        return;
                camera->configuration = value;
                if (value && camera->counters.configured_at_us == 0)
                        camera->counters.configured_at_us = MAX(sim_now(camera), UINT64_C(1));
                camera->personality->configured(camera, value);
                return;
        }
        }
        transfer->stall = true;
}

bool sim_standard_request(struct sim_camera *camera, struct transfer *transfer)
{
        if (transfer->type & 0x60)
                return false;
        switch (transfer->type & 0x1f) {
        case 0:
                device_request(camera, transfer);
                return true;
        case 2:
                if (transfer->request == STD_GET_STATUS)
                        sim_reply(camera, transfer, (uint8_t[]){ 0, 0 }, 2);
                else if ((transfer->request != STD_CLEAR_FEATURE && transfer->request != STD_SET_FEATURE) ||
                         /* TinyUSB acknowledges features that it does not know. */
                         (transfer->value != FEATURE_ENDPOINT_HALT && camera->mode != SIM_BOOTLOADER))
                        transfer->stall = true;
                return true;
        }
        return false;
}

int sim_camera_string(const struct sim_camera *camera, uint8_t index, char *ret, size_t size)
{
        const char *string = index > 0 ? string_of(camera, index) : NULL;

        if (!string)
                return -ENOENT;
        snprintf(ret, size, "%s", string);
        return 0;
}

void sim_camera_descriptors(struct sim_camera *camera, struct sim_descriptors *ret)
{
        *ret = camera->descriptors;
}

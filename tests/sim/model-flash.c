/* SPDX-License-Identifier: MIT */
/*
 * Flash: erase units, programming as each technology does it, jobs that take
 * device time, and what a power cut leaves behind.
 *
 * A unit without data is blank.  A job changes nothing until it ends or power
 * fails; nobody can look meanwhile but the test.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "sim/model-internal.h"

#define TOY_UNIT_MIN 4096u      /* a DFU block: units stay multiples of it */

static uint32_t scaled_unit(uint32_t size, double scale)
{
        uint32_t n;

        if (scale >= 1 || size <= TOY_UNIT_MIN)
                return size;
        n = (uint32_t)(size * scale);
        n -= n % TOY_UNIT_MIN;
        return MAX(n, TOY_UNIT_MIN);
}

static int memory_init(struct memory *memory, const struct memory_data *data, double scale)
{
        uint32_t address = data->start;

        *memory = (struct memory){ .kind = data->kind, .real = data, .start = data->start };
        for (size_t i = 0; i < ELEMENTSOF(data->segments); i++)
                memory->n_units += data->segments[i].units;
        if (memory->kind == MEMORY_NONE || memory->n_units == 0) {
                memory->n_units = 0;
                memory->limit = memory->start;
                return 0;
        }
        memory->units = calloc(memory->n_units, sizeof(*memory->units));
        if (!memory->units)
                return -ENOMEM;
        for (size_t i = 0, n = 0; i < ELEMENTSOF(data->segments); i++)
                for (uint32_t j = 0; j < data->segments[i].units; j++, n++) {
                        struct unit *unit = &memory->units[n];

                        unit->start = address;
                        unit->size = scaled_unit(data->segments[i].unit_size, scale);
                        unit->erase_us = data->segments[i].erase_ms * UINT64_C(1000);
                        address += unit->size;
                }
        memory->limit = address;
        return 0;
}

int sim_flash_init(struct sim_camera *camera)
{
        const struct board_data *board = &sim_board_data[camera->config.board];
        int r;

        r = memory_init(&camera->memories[0], &sim_chip_data(camera->chip)->internal, camera->config.erase_unit_scale);
        if (r < 0)
                return r;
        return memory_init(&camera->memories[1], &board->external, camera->config.erase_unit_scale);
}

static void unit_blank(struct unit *unit)
{
        free(unit->data);
        free(unit->broken);
        unit->data = NULL;
        unit->broken = NULL;
}

void sim_flash_deinit(struct sim_camera *camera)
{
        struct flash_failure *failure;

        for (size_t m = 0; m < ELEMENTSOF(camera->memories); m++) {
                for (size_t i = 0; i < camera->memories[m].n_units; i++)
                        unit_blank(&camera->memories[m].units[i]);
                free(camera->memories[m].units);
                camera->memories[m].units = NULL;
                camera->memories[m].n_units = 0;
        }
        while ((failure = camera->flash_failures)) {
                camera->flash_failures = failure->next;
                free(failure);
        }
}

static size_t unit_index(const struct memory *memory, uint32_t address)
{
        size_t low = 0, high = memory->n_units;

        while (high - low > 1) {
                size_t middle = (low + high) / 2;

                if (memory->units[middle].start <= address)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

struct unit *sim_flash_unit(struct memory *memory, uint32_t address)
{
        if (address < memory->start || address >= memory->limit)
                return NULL;
        return &memory->units[unit_index(memory, address)];
}

uint32_t sim_flash_scale(const struct memory *memory, uint32_t address)
{
        uint32_t real = memory->real->start, offset;
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(memory->real->segments); i++) {
                const struct segment_data *segment = &memory->real->segments[i];
                uint32_t span = segment->unit_size * segment->units;

                if (segment->units > 0 && address - real < span) {
                        n += (address - real) / segment->unit_size;
                        offset = (address - real) % segment->unit_size;
                        return memory->units[n].start + MIN(offset, memory->units[n].size);
                }
                real += span;
                n += segment->units;
        }
        return memory->limit;
}

bool sim_flash_contains(const struct memory *memory, uint32_t address, size_t size)
{
        return memory->n_units > 0 && address >= memory->start && address <= memory->limit && size <= memory->limit - address;
}

static int unit_materialise(struct unit *unit)
{
        if (unit->data)
                return 0;
        unit->data = malloc(unit->size);
        if (!unit->data)
                return -ENOMEM;
        memset(unit->data, 0xff, unit->size);
        return 0;
}

/* What a flash word reads as when its ECC does not fit: the controller "corrects" a bit that was right. */
static void misread(uint8_t *byte, uint32_t address)
{
        uint32_t word = address / 32;

        if (address % 32 == sim_mix(word) % 32)
                *byte ^= (uint8_t)(1u << (sim_mix(word + 1) % 8));
}

bool sim_flash_fetch(const struct memory *memory, uint32_t address, uint8_t *data, size_t size)
{
        bool sound = true;

        assert(sim_flash_contains(memory, address, size));
        while (size > 0) {
                const struct unit *unit = &memory->units[unit_index(memory, address)];
                uint32_t offset = address - unit->start;
                size_t n = MIN(size, (size_t)(unit->size - offset));

                if (unit->data)
                        memcpy(data, unit->data + offset, n);
                else
                        memset(data, 0xff, n);
                for (size_t i = 0; unit->broken && i < n; i++)
                        if (unit->broken[(offset + i) / 32]) {
                                misread(&data[i], address + (uint32_t)i);
                                sound = false;
                        }
                address += (uint32_t)n;
                data += n;
                size -= n;
        }
        return sound;
}

static void mark_broken(struct unit *unit, uint32_t offset)
{
        if (!unit->broken)
                unit->broken = calloc(1, unit->size / 32);
        if (unit->broken)
                unit->broken[offset / 32] = 1;
}

/* Puts new bytes over what is there, as the technology does. */
static void program(struct sim_camera *camera, struct memory *memory, uint32_t address, const uint8_t *data, size_t size)
{
        while (size > 0) {
                struct unit *unit = &memory->units[unit_index(memory, address)];
                uint32_t offset = address - unit->start;
                size_t n = MIN(size, (size_t)(unit->size - offset));

                if (unit_materialise(unit) < 0)
                        return;
                switch (memory->kind) {
                case MEMORY_MRAM:
                        memcpy(unit->data + offset, data, n);
                        break;
                case MEMORY_WORD32:
                        for (size_t i = 0; i < n; i += 32) {
                                uint8_t *word = unit->data + offset + i;
                                bool blank = true;

                                for (size_t j = 0; j < 32; j++)
                                        blank = blank && word[j] == 0xff;
                                /* The same word again changes no bit of data or ECC. */
                                if (!blank && memcmp(word, data + i, 32) != 0)
                                        mark_broken(unit, offset + (uint32_t)i);
                                for (size_t j = 0; j < 32; j++)
                                        word[j] &= data[i + j];
                        }
                        break;
                case MEMORY_WORD4:
                case MEMORY_SPI:
                case MEMORY_OSPI:
                case MEMORY_NONE:
                        for (size_t i = 0; i < n; i++)
                                unit->data[offset + i] &= data[i];
                        break;
                }
                unit->programmed += (uint32_t)n;
                camera->counters.programmed_bytes += n;
                address += (uint32_t)n;
                data += n;
                size -= n;
        }
}

static void erase(struct sim_camera *camera, struct unit *unit)
{
        unit_blank(unit);
        unit->erases++;
        camera->counters.erases++;
}

/* A unit whose erase was cut off: cells in between, read as noise that is mostly ones. */
static void half_erase(struct sim_camera *camera, enum memory_kind kind, struct unit *unit)
{
        unit->erases++;
        camera->counters.erases++;
        if (unit_materialise(unit) < 0)
                return;
        for (uint32_t i = 0; i + 8 <= unit->size; i += 8) {
                uint64_t noise = sim_mix(camera->seed ^ unit->start ^ unit->erases) ^ i;

                noise = sim_mix(noise) | sim_mix(noise + 1);
                memcpy(unit->data + i, &noise, 8);
        }
        /* Noise may equal what stood there, but not everywhere. */
        unit->data[0] ^= 0x10;
        free(unit->broken);
        unit->broken = NULL;
        /* Nor does it fit its check bits. */
        for (uint32_t i = 0; kind == MEMORY_WORD32 && i < unit->size; i += 32)
                mark_broken(unit, i);
}

static unsigned program_unit(enum memory_kind kind)
{
        switch (kind) {
        case MEMORY_WORD4:
                return 4;
        case MEMORY_WORD32:
                return 32;
        case MEMORY_MRAM:
                return 16;
        case MEMORY_SPI:
        case MEMORY_OSPI:
        case MEMORY_NONE:
                break;
        }
        return 1;
}

/* The first bytes of data are in; the program unit after them is neither old nor new. */
static void half_program(struct sim_camera *camera, const struct flash_job *job, size_t bytes)
{
        unsigned word = job->memory->kind == MEMORY_SPI || job->memory->kind == MEMORY_OSPI ? 16 : program_unit(job->memory->kind);
        uint8_t torn[32];
        struct unit *unit;
        uint32_t address;

        bytes = MIN(bytes, job->size);
        bytes -= bytes % word;
        program(camera, job->memory, job->address, job->data, bytes);
        if (bytes + word > job->size)
                return;
        address = job->address + (uint32_t)bytes;
        unit = &job->memory->units[unit_index(job->memory, address)];
        if (unit_materialise(unit) < 0)
                return;
        for (unsigned i = 0; i < word; i++) {
                /* Every other bit that was to fall has not fallen yet. */
                uint8_t stuck = i % 2 ? 0x55 : 0xaa;

                torn[i] = job->data[bytes + i] | stuck;
        }
        if (job->memory->kind == MEMORY_MRAM) {
                memcpy(unit->data + (address - unit->start), job->data + bytes, word / 2);
                return;
        }
        for (unsigned i = 0; i < word; i++)
                unit->data[address - unit->start + i] &= torn[i];
        if (job->memory->kind == MEMORY_WORD32)
                mark_broken(unit, address - unit->start);
}

/* What the job has done when its first us microseconds (nominal) are over; bytes: or so many bytes programmed. */
static void apply_part(struct sim_camera *camera, const struct flash_job *job, uint64_t us, size_t bytes)
{
        uint64_t spent = 0;

        for (size_t i = 0; i < job->erase_count && !job->erase_silent; i++) {
                struct unit *unit = &job->memory->units[job->erase_first + i];
                uint64_t needs = job->erase_us / job->erase_count;

                if (bytes == 0 && us < spent + needs) {
                        half_erase(camera, job->memory->kind, unit);
                        sim_trace(camera, "power lost while erasing 0x%08x", unit->start);
                        return;
                }
                spent += needs;
                erase(camera, unit);
        }
        if (job->size == 0 || job->program_silent)
                return;
        if (bytes == 0 && job->program_us > 0)
                bytes = (size_t)((us - MIN(us, job->erase_us)) * job->size / job->program_us);
        half_program(camera, job, bytes);
        sim_trace(camera, "power lost after %zu of %zu bytes at 0x%08x", MIN(bytes, job->size), job->size, job->address);
}

static void job_apply(struct sim_camera *camera, enum flash_result *ret)
{
        struct flash_job *job = &camera->job;

        *ret = FLASH_OK;
        if (job->erase_fails) {
                /* The controller gave up on the unit; what it left is no data. */
                for (size_t i = 0; i < job->erase_count; i++)
                        half_erase(camera, job->memory->kind, &job->memory->units[job->erase_first + i]);
                *ret = FLASH_FAILED;
                return;
        }
        for (size_t i = 0; i < job->erase_count && !job->erase_silent; i++)
                erase(camera, &job->memory->units[job->erase_first + i]);
        if (job->size == 0)
                return;
        if (job->program_fails) {
                /* What was programmed before is there, and the word in which it failed is neither old nor new. */
                half_program(camera, job, job->size / 2);
                *ret = FLASH_FAILED;
                return;
        }
        if (!job->program_silent)
                program(camera, job->memory, job->address, job->data, job->size);
}

void sim_flash_finish(struct sim_camera *camera)
{
        struct flash_job *job = &camera->job;
        void (*done)(struct sim_camera *, enum flash_result) = job->done;
        enum flash_result result;

        if (!job->active)
                return;
        sim_timer_clear(&camera->job_timer);
        job_apply(camera, &result);
        job->active = false;
        if (job->erase_count > 0 || result != FLASH_OK)
                sim_trace(camera, "flash %s%s%s", job->erase_count ? "erased" : "", job->size ? " programmed" : "",
                          result == FLASH_OK ? "" : ": failed");
        if (done)
                done(camera, result);
}

static void on_job_end(struct sim_camera *camera)
{
        if (camera->job.tear) {
                /* The unplug below tears it. */
                sim_camera_unplug(camera);
                return;
        }
        sim_flash_finish(camera);
        sim_job_over(camera);
}

void sim_flash_power_lost(struct sim_camera *camera)
{
        struct flash_job *job = &camera->job;
        uint64_t us;

        if (!job->active)
                return;
        sim_timer_clear(&camera->job_timer);
        if (job->tear)
                apply_part(camera, job, job->tear_us, job->tear_bytes);
        else {
                us = (uint64_t)((double)(sim_now(camera) - job->started_at) * camera->config.flash_speed);
                apply_part(camera, job, MIN(us, job->erase_us + job->program_us), 0);
        }
        *job = (struct flash_job){ 0 };
}

/* One operation (an erase or a programming) of this unit: does a failure wait for it? */
static bool take_failure(struct sim_camera *camera, bool external, uint32_t unit_start, bool *ret_silently)
{
        struct flash_failure **p, *failure;

        for (p = &camera->flash_failures; (failure = *p); p = &failure->next) {
                if (failure->external != external || failure->unit_start != unit_start)
                        continue;
                *ret_silently = failure->silently;
                if (--failure->count == 0) {
                        *p = failure->next;
                        free(failure);
                }
                return true;
        }
        return false;
}

static void look_for_failures(struct sim_camera *camera, struct flash_job *job)
{
        bool external = job->memory == &camera->memories[1], silently;

        for (size_t i = 0; i < job->erase_count; i++)
                if (take_failure(camera, external, job->memory->units[job->erase_first + i].start, &silently)) {
                        if (silently)
                                job->erase_silent = true;
                        else
                                job->erase_fails = true;
                }
        if (job->size > 0 && !job->erase_fails &&
            take_failure(camera, external, job->memory->units[unit_index(job->memory, job->address)].start, &silently)) {
                if (silently)
                        job->program_silent = true;
                else
                        job->program_fails = true;
        }
}

static uint64_t program_time(const struct sim_camera *camera, const struct memory_data *data, size_t size, unsigned rom_ns)
{
        return (uint64_t)((double)(size + data->program_size - 1) / data->program_size * (rom_ns ?: data->program_ns) / 1000 *
                          camera->config.program_factor);
}

void sim_flash_begin(struct sim_camera *camera, const struct flash_request *request, void (*done)(struct sim_camera *, enum flash_result))
{
        struct flash_job *job = &camera->job;
        const struct memory_data *data = request->memory->real;
        const struct chip_data *chip = sim_chip_data(camera->chip);
        unsigned unit = program_unit(request->memory->kind);
        size_t tail = request->size % unit;
        uint64_t erase_us = 0, limit_us, total;
        bool tear = job->tear;
        size_t tear_bytes = job->tear_bytes;
        enum flash_result result;

        assert(!job->active);
        assert(request->size <= 4096);
        *job = (struct flash_job){
                .active = true, .background = request->background, .memory = request->memory,
                .erase_first = request->erase_first, .erase_count = request->erase_count,
                .address = request->address, .size = request->size, .started_at = sim_now(camera), .done = done,
        };
        if (request->size > 0)
                memcpy(job->data, request->data, request->size);
        if (tail > 0) {
                job->size += unit - tail;
                for (size_t i = request->size; i < job->size; i++)
                        job->data[i] = request->padding < 0 ? request->data[i] : (uint8_t)request->padding;
        }

        for (size_t i = 0; i < job->erase_count; i++) {
                uint64_t us = request->memory->units[job->erase_first + i].erase_us;

                if (request->rom && request->memory == &camera->memories[0])
                        us = us * chip->rom_erase_factor_permille / 1000;
                if (request->erase_permille)
                        us = us * request->erase_permille / 1000;
                erase_us += (uint64_t)((double)us * camera->config.erase_factor);
        }
        job->erase_us = erase_us;
        limit_us = data->erase_limit_ms * UINT64_C(1000);
        if (limit_us > 0 && erase_us > limit_us * MAX(job->erase_count, (size_t)1)) {
                job->erase_us = limit_us;
                job->erase_fails = true;
        }
        job->program_us = program_time(camera, data, job->size, request->rom ? chip->rom_program_ns : 0);
        look_for_failures(camera, job);
        if (job->erase_fails)
                job->program_us = 0;

        total = job->erase_us + job->program_us;
        if (tear) {
                job->tear = true;
                job->tear_bytes = tear_bytes;
                job->tear_us = total / 2;
                if (tear_bytes > 0)
                        job->tear_us = job->erase_us + (job->size ? job->program_us * MIN(tear_bytes, job->size) / job->size : 0);
                total = job->tear_us;
        }
        if (camera->config.flash_speed > 0)
                total = (uint64_t)((double)total / camera->config.flash_speed);
        else
                total = 0;
        if (total == 0 && !tear) {
                job_apply(camera, &result);
                job->active = false;
                if (done)
                        done(camera, result);
                return;
        }
        sim_timer_set(&camera->job_timer, total, on_job_end);
}

/* --- seen by a test --- */

static struct memory *memory_of(const struct sim_camera *camera, bool external)
{
        return (struct memory *)&camera->memories[external];
}

void sim_camera_erase_unit(const struct sim_camera *camera, bool external, uint32_t address, uint32_t *start, uint32_t *size)
{
        const struct unit *unit = sim_flash_unit(memory_of(camera, external), address);

        *start = unit ? unit->start : 0;
        *size = unit ? unit->size : 0;
}

int sim_camera_flash_read(const struct sim_camera *camera, bool external, uint32_t address, void *data, size_t size)
{
        const struct memory *memory = memory_of(camera, external);

        if (!sim_flash_contains(memory, address, size))
                return -EINVAL;
        (void)sim_flash_fetch(memory, address, data, size);
        return 0;
}

int sim_camera_flash_poke(struct sim_camera *camera, bool external, uint32_t address, const void *data, size_t size)
{
        struct memory *memory = memory_of(camera, external);
        const uint8_t *bytes = data;

        if (!sim_flash_contains(memory, address, size))
                return -EINVAL;
        while (size > 0) {
                struct unit *unit = &memory->units[unit_index(memory, address)];
                uint32_t offset = address - unit->start;
                size_t n = MIN(size, (size_t)(unit->size - offset));

                if (unit_materialise(unit) < 0)
                        return -ENOMEM;
                memcpy(unit->data + offset, bytes, n);
                if (unit->broken)
                        memset(unit->broken + offset / 32, 0, (offset + n - 1) / 32 - offset / 32 + 1);
                address += (uint32_t)n;
                bytes += n;
                size -= n;
        }
        return 0;
}

void sim_camera_flash_blank(struct sim_camera *camera, bool external, uint32_t address, size_t size)
{
        struct memory *memory = memory_of(camera, external);
        uint8_t blank[4096];

        memset(blank, 0xff, sizeof(blank));
        while (size > 0 && sim_flash_contains(memory, address, 1)) {
                struct unit *unit = &memory->units[unit_index(memory, address)];
                size_t n = MIN(size, (size_t)(unit->start + unit->size - address));

                if (address == unit->start && n == unit->size)
                        unit_blank(unit);
                else {
                        n = MIN(n, sizeof(blank));
                        (void)sim_camera_flash_poke(camera, external, address, blank, n);
                }
                address += (uint32_t)n;
                size -= n;
        }
}

static const struct sim_partition *partition_by_name(const struct sim_camera *camera, const char *name)
{
        const struct sim_partition *partitions;
        size_t n = sim_camera_partitions(camera, &partitions);

        for (size_t i = 0; i < n; i++)
                if (strcmp(partitions[i].name, name) == 0)
                        return &partitions[i];
        return NULL;
}

int sim_camera_partition_poke(struct sim_camera *camera, const char *partition, uint32_t offset, const void *data, size_t size)
{
        const struct sim_partition *p = partition_by_name(camera, partition);

        if (!p || offset > p->limit - p->start || size > p->limit - p->start - offset)
                return -EINVAL;
        return sim_camera_flash_poke(camera, p->external, p->start + offset, data, size);
}

int sim_camera_partition_read(const struct sim_camera *camera, const char *partition, uint32_t offset, void *data, size_t size)
{
        const struct sim_partition *p = partition_by_name(camera, partition);

        if (!p || offset > p->limit - p->start || size > p->limit - p->start - offset)
                return -EINVAL;
        return sim_camera_flash_read(camera, p->external, p->start + offset, data, size);
}

uint64_t sim_camera_flash_time(const struct sim_camera *camera, const char *partition, size_t size)
{
        const struct sim_partition *p = partition_by_name(camera, partition);
        uint64_t us = 0;

        if (!p || camera->config.flash_speed <= 0)
                return 0;
        for (size_t offset = 0; offset < size; offset += 4096) {
                const struct memory *memory = &camera->memories[p->external];
                const struct unit *unit = &memory->units[unit_index(memory, p->start + (uint32_t)offset)];
                size_t word = program_unit(memory->kind), n = MIN(size - offset, (size_t)4096);

                if (unit->start == p->start + offset && memory->kind != MEMORY_MRAM)
                        us += (uint64_t)((double)unit->erase_us * camera->config.erase_factor);
                us += program_time(camera, memory->real, (n + word - 1) / word * word, 0);
        }
        return (uint64_t)((double)us / camera->config.flash_speed);
}

void sim_camera_fail_flash(struct sim_camera *camera, bool external, uint32_t address, bool silently, unsigned count)
{
        const struct unit *unit = sim_flash_unit(memory_of(camera, external), address);
        struct flash_failure *failure, **tail = &camera->flash_failures;

        if (!unit || count == 0)
                return;
        failure = calloc(1, sizeof(*failure));
        if (!failure)
                return;
        *failure = (struct flash_failure){ .external = external, .silently = silently, .unit_start = unit->start, .count = count };
        while (*tail)
                tail = &(*tail)->next;
        *tail = failure;
}

size_t sim_camera_unit_counts(const struct sim_camera *camera, struct sim_unit_count *units, size_t max)
{
        size_t n = 0;

        for (size_t m = 0; m < ELEMENTSOF(camera->memories); m++)
                for (size_t i = 0; i < camera->memories[m].n_units; i++) {
                        const struct unit *unit = &camera->memories[m].units[i];

                        if (unit->erases == 0 && unit->programmed == 0)
                                continue;
                        if (n == max)
                                return n;
                        units[n++] = (struct sim_unit_count){
                                .address = unit->start, .size = unit->size, .external = m == 1,
                                .erases = unit->erases, .programmed_bytes = unit->programmed,
                        };
                }
        return n;
}

/* --- a camera in a file --- */

#define SAVED_MAGIC UINT32_C(0x314d4153)        /* "SAM1" */

/* What must agree: a file belongs to one camera. */
struct saved_header {
        uint32_t magic;
        uint8_t uid[12];
        uint32_t start[2], limit[2], n_units[2];
        uint8_t jumper;
};

struct saved_unit {
        uint8_t written, damaged;
};

static struct saved_header saved_header(const struct sim_camera *camera)
{
        struct saved_header header;

        /* Padding is written, too. */
        memset(&header, 0, sizeof(header));
        header.magic = SAVED_MAGIC;
        memcpy(header.uid, camera->config.uid, sizeof(header.uid));
        for (size_t m = 0; m < ELEMENTSOF(camera->memories); m++) {
                header.start[m] = camera->memories[m].start;
                header.limit[m] = camera->memories[m].limit;
                header.n_units[m] = (uint32_t)camera->memories[m].n_units;
        }
        return header;
}

int sim_camera_save(const struct sim_camera *camera, FILE *f)
{
        struct saved_header header = saved_header(camera);

        if (camera->powered)
                return -EBUSY;
        header.jumper = camera->jumper;
        (void)fwrite(&header, sizeof(header), 1, f);
        for (size_t m = 0; m < ELEMENTSOF(camera->memories); m++)
                for (size_t i = 0; i < camera->memories[m].n_units; i++) {
                        const struct unit *unit = &camera->memories[m].units[i];
                        const struct saved_unit saved = { .written = unit->data != NULL, .damaged = unit->broken != NULL };

                        (void)fwrite(&saved, sizeof(saved), 1, f);
                        if (unit->data)
                                (void)fwrite(unit->data, unit->size, 1, f);
                        if (unit->broken)
                                (void)fwrite(unit->broken, unit->size / 32, 1, f);
                }
        return fflush(f) != 0 || ferror(f) ? -EIO : 0;
}

static int unit_load(struct unit *unit, FILE *f)
{
        struct saved_unit saved;

        if (fread(&saved, sizeof(saved), 1, f) != 1)
                return -EINVAL;
        if (saved.written) {
                int r = unit_materialise(unit);

                if (r < 0)
                        return r;
                if (fread(unit->data, unit->size, 1, f) != 1)
                        return -EINVAL;
        }
        if (saved.damaged) {
                unit->broken = calloc(1, unit->size / 32);
                if (!unit->broken)
                        return -ENOMEM;
                if (fread(unit->broken, unit->size / 32, 1, f) != 1)
                        return -EINVAL;
        }
        return 0;
}

int sim_camera_load(struct sim_camera *camera, FILE *f)
{
        struct saved_header header, own = saved_header(camera);
        struct unit *loaded[2] = { NULL };
        size_t n_loaded[2] = { 0 };
        int r = 0;

        if (camera->powered)
                return -EBUSY;
        if (fread(&header, sizeof(header), 1, f) != 1)
                return -EINVAL;
        own.jumper = header.jumper;
        if (memcmp(&header, &own, sizeof(own)) != 0)
                return -EINVAL;
        for (size_t m = 0; r >= 0 && m < ELEMENTSOF(camera->memories); m++) {
                const struct memory *memory = &camera->memories[m];

                loaded[m] = calloc(MAX(memory->n_units, (size_t)1), sizeof(*loaded[m]));
                if (!loaded[m])
                        r = -ENOMEM;
                for (; r >= 0 && n_loaded[m] < memory->n_units; n_loaded[m]++) {
                        loaded[m][n_loaded[m]] = memory->units[n_loaded[m]];
                        loaded[m][n_loaded[m]].data = loaded[m][n_loaded[m]].broken = NULL;
                        r = unit_load(&loaded[m][n_loaded[m]], f);
                }
        }
        if (r >= 0 && fgetc(f) != EOF)
                r = -EINVAL;
        for (size_t m = 0; m < ELEMENTSOF(camera->memories); m++) {
                /* What was read takes the place of what is there; or goes again. */
                for (size_t i = 0; i < n_loaded[m]; i++) {
                        if (r >= 0) {
                                struct unit before = camera->memories[m].units[i];

                                camera->memories[m].units[i] = loaded[m][i];
                                loaded[m][i] = before;
                        }
                        unit_blank(&loaded[m][i]);
                }
                free(loaded[m]);
        }
        if (r >= 0)
                camera->jumper = header.jumper;
        return r;
}

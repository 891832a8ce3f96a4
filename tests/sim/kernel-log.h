/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the simulated kernel says, in the form and the words of /dev/kmsg of Linux
 * 6.1.  As the real one it keeps the last records, and gives them to who opens
 * it later; but what it gives them through is a FIFO, one reader at a time.
 */

struct sim_kernel_log;

int sim_kernel_log_new(struct sim_kernel_log **ret);
struct sim_kernel_log *sim_kernel_log_free(struct sim_kernel_log *log);

/* A FIFO at path, new: all that is kept, and from now on all that is said.  The one before ends. */
int sim_kernel_log_to(struct sim_kernel_log *log, const char *path);
/* A record of the kernel's. */
void sim_kernel_says(struct sim_kernel_log *log, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* What was said is as if said so many seconds earlier. */
void sim_kernel_log_age(struct sim_kernel_log *log, unsigned seconds);

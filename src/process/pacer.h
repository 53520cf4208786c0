/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_PACER_H
#define VGPU_PROCESS_PACER_H

/* The timer for completions that the device holds back (device_held_ns()). */

struct device;
struct loop;
struct pacer;

int pacer_create(struct device *dev, struct loop *loop, struct pacer **ret);
void pacer_destroy(struct pacer *pacer); /* NULL-safe */

/* The loop is about to block. */
void pacer_idle(struct pacer *pacer);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_GATE_H
#define VGPU_PROCESS_GATE_H

/*
 * Time slices, on the side of the device process: the device asks before it gives the driver work
 * (struct device_gate), and is held there until the vGPU's slice, by the pages of
 * protocol/slice_pages.h.
 *
 *   open      no pages, an open page, or a vgpud that is gone (it is silent for SLICE_SILENT_NS, or
 *             the keeper says so): nothing is asked
 *   away      it has no slice and wants none
 *   waiting   inside the device's question; the whole process waits, for all it does is the same
 *             vGPU's. Messages of the keeper wait as long: some slices of the others
 *   inside    a slice is its own. It is returned, with all work complete, at the first question
 *             after its end; by timer when it ends, or when nothing was asked for idle_ns and the
 *             driver is through
 *
 * What a guest waits here is waiting as protocol/stats.h says.
 */

#include "protocol/keeper.h"

struct device;
struct device_gate;
struct gate;
struct loop;

int gate_create(struct device *dev, struct loop *loop, struct gate **ret);
void gate_destroy(struct gate *gate); /* NULL-safe */

/* For the device. Lives as long as the gate. */
const struct device_gate *gate_for_device(struct gate *gate);

/*
 * One of the three descriptors of the keeper's GRANT, taken; with the last of them they count. What
 * is no such thing is refused with -EINVAL, and nothing is asked then.
 */
int gate_take(struct gate *gate, const struct keeper_grant *grant, int fd);

/* The loop is about to block. */
void gate_idle(struct gate *gate);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_CHILD_H
#define VGPU_CONTROL_CHILD_H

/*
 * What may wait (a driver that is asked something, a program that is tried) is done in a process of
 * its own, which ends with vgpud and hands back JSON. One that cannot even be killed, because it
 * waits inside the kernel, is left to itself; only so many are started that this does no harm.
 */

#include <jansson.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#define CHILD_OUTPUT_MAX (1u << 20)
#define CHILDREN_MAX     16u

/* Zeroes to begin with. */
struct children {
	unsigned running;
};

/* Runs in the child; may use whatever the parent had. */
typedef json_t *(*child_work)(const void *data);
/* `result` is the callee's; NULL: the work did not end in time, or came to nothing. */
typedef void (*child_done)(void *data, json_t *result);

/* `done` is called once, later. -EAGAIN: too many run already; -errno. */
int child_start(struct children *children, sd_event *event, child_work work, const void *work_data,
	uint32_t limit_ms, child_done done, void *done_data);

#endif

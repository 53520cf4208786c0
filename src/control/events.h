/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_EVENTS_H
#define VGPU_CONTROL_EVENTS_H

/*
 * What happened lately, for people and programs that ask later: the newest EVENTS_KEPT, numbered
 * from 1. Nothing is kept over a restart of vgpud.
 */

#include <stddef.h>
#include <stdint.h>

#define EVENTS_KEPT 256u
#define EVENTS_TEXT 320

struct event {
	uint64_t number;
	uint64_t time_ms; /* since 1970 */
	char vgpu[64];    /* "" : of the node */
	char text[EVENTS_TEXT];
};

struct events {
	struct event ring[EVENTS_KEPT];
	uint64_t last; /* number of the newest; 0: none yet */
	/* Called for each new one; may be NULL. */
	void (*added)(void *data);
	void *data;
};

void events_add(struct events *events, const char *vgpu, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The oldest kept event after `number`, or NULL. */
const struct event *events_next(const struct events *events, uint64_t number);

#endif

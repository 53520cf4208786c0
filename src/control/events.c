/* SPDX-License-Identifier: Apache-2.0 */
#include "control/events.h"

#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

void events_add(struct events *events, const char *vgpu, const char *format, ...)
{
	struct event *event = &events->ring[events->last % EVENTS_KEPT];
	struct timespec now;
	va_list args;

	clock_gettime(CLOCK_REALTIME, &now);
	event->number = ++events->last;
	event->time_ms = (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
	snprintf(event->vgpu, sizeof(event->vgpu), "%s", vgpu);
	va_start(args, format);
	vsnprintf(event->text, sizeof(event->text), format, args);
	va_end(args);
	log_info("%s%s%s", event->vgpu, *vgpu ? ": " : "", event->text);
	if (events->added)
		events->added(events->data);
}

const struct event *events_next(const struct events *events, uint64_t number)
{
	uint64_t oldest = events->last > EVENTS_KEPT ? events->last - EVENTS_KEPT + 1 : 1;

	if (number >= events->last)
		return NULL;
	if (number + 1 > oldest)
		oldest = number + 1;
	return &events->ring[(oldest - 1) % EVENTS_KEPT];
}

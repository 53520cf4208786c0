/* SPDX-License-Identifier: Apache-2.0 */
#include "base/crash_point.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

uint32_t crash_point_left[CRASH_POINT_COUNT];

static const char *const crash_point_names[] = {
#define X(name, text) #text,
	CRASH_POINTS(X)
#undef X
};

void crash_points_init(const char *setting)
{
	const char *colon = setting ? strchr(setting, ':') : NULL;

	for (size_t i = 0; i < CRASH_POINT_COUNT; i++) {
		const char *name = crash_point_names[i];
		bool meant = colon && (size_t)(colon - setting) == strlen(name) &&
			     !strncmp(setting, name, strlen(name));
		crash_point_left[i] = meant ? (uint32_t)strtoul(colon + 1, NULL, 10) : 0;
	}
}

void crash_points_spare(void)
{
	for (size_t i = 0; i < CRASH_POINT_COUNT; i++) {
		if (i != CRASH_POINT_MARKER)
			crash_point_left[i] = 0;
	}
}

/* No signal to oneself: in its namespace the process may be the first, which SIGKILL spares. */
void crash_point_die(void)
{
	_exit(CRASH_POINT_STATUS);
}

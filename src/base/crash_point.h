/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_CRASH_POINT_H
#define VGPU_BASE_CRASH_POINT_H

/*
 * Where tests have a device process killed: VGPU_CRASH_AT="POINT:N" in its environment ends it
 * there and then, as a kill would, when it passes that point for the N-th time. Its successors are
 * spared, but for the point "marker". The environment is the operator's and no
 * guest's; a guest can raise nothing here. One process-wide setting, read once at start.
 */

#include <stdint.h>

/* X(NAME, name): in the order in which a message passes them. */
#define CRASH_POINTS(X)                                                                            \
	X(RECEIVED, received)                                                                      \
	X(RECORDED, recorded)                                                                      \
	X(EXECUTED, executed)                                                                      \
	X(ANSWERED, answered)                                                                      \
	X(USED, used)                                                                              \
	X(IMAGE, image)                                                                            \
	X(ANCHORED, anchored)                                                                      \
	X(LOADED, loaded)                                                                          \
	X(MARKER, marker)

#define CRASH_POINT_STATUS 137 /* it exits with */

enum crash_point {
#define X(name, text) CRASH_POINT_##name,
	CRASH_POINTS(X)
#undef X
		CRASH_POINT_COUNT
};

/* Reads the setting; NULL or nonsense: none. */
void crash_points_init(const char *setting);

/* This process is a successor: only the point "marker" is left. */
void crash_points_spare(void);

extern uint32_t crash_point_left[CRASH_POINT_COUNT]; /* 0: never */

void crash_point_die(void) __attribute__((noreturn));

static inline void crash_point(enum crash_point point)
{
	if (__builtin_expect(crash_point_left[point] && !--crash_point_left[point], 0))
		crash_point_die();
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_SCHEDULER_RANDOM_H
#define VGPU_TESTS_SCHEDULER_RANDOM_H

#include <stdint.h>

/* xorshift64*: the same numbers on every node, so a failure can be repeated. */
static inline uint64_t random_next(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return *state * 0x2545f4914f6cdd1du;
}

/* least..most */
static inline uint64_t random_in(uint64_t *state, uint64_t least, uint64_t most)
{
	return least + (random_next(state) >> 11) % (most - least + 1);
}

#endif

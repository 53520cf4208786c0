/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/clock.h"

#include <poll.h>

static bool vtest_linger_begin(struct vtest_linger *linger)
{
	bool wanted = linger->wanted && !linger->skip;

	if (linger->wanted && linger->skip)
		linger->skip--;
	linger->wanted = false;
	return wanted;
}

int vtest_linger(struct vtest *v)
{
	struct vtest_linger *linger = &v->linger;
	struct pollfd client = {.fd = v->fd, .events = POLLIN};

	if (!vtest_linger_begin(linger))
		return 0;
	const uint64_t until = clock_ns() + VTEST_LINGER_NS;
	while (!poll(&client, 1, 0) && clock_ns() < until)
		;
	int r = client.revents ? vtest_input_receive(v) : 0;
	linger->misses = r ? 0 : MIN(linger->misses + 1, VTEST_LINGER_MISSES);
	linger->skip = (1u << linger->misses) - 1;
	return r;
}

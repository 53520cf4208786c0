/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/vtest/internal.h"

#include "base/loop.h"

static bool vtest_linger_over(void *loop)
{
	return loop_ready(loop);
}

void vtest_linger_init(struct vtest *v)
{
	for (unsigned kind = 0; kind < VTEST_LINGER_KINDS; kind++)
		v->linger.kinds[kind] = (struct attend){.busy_ns = VTEST_LINGER_NS,
			.last_ns = VTEST_LINGER_LAST_NS,
			.dear_ns = VTEST_LINGER_DEAR_NS,
			.away = VTEST_LINGER_AWAY};
}

int vtest_linger(struct vtest *v)
{
	struct attend *kind = &v->linger.kinds[v->linger.last];

	if (!v->linger.answers)
		return 0;
	v->linger.answers = false;
	return attend(kind, vtest_linger_over, v->loop) ? vtest_input_receive(v) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/vtest/internal.h"

#include "base/loop.h"

static bool vtest_linger_over(void *loop)
{
	return loop_ready(loop);
}

int vtest_linger(struct vtest *v)
{
	if (!v->answers)
		return 0;
	v->answers = false;
	return attend(&v->linger, vtest_linger_over, v->loop) ? vtest_input_receive(v) : 0;
}

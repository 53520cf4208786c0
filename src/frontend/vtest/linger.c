/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/vtest/internal.h"

#include <poll.h>

static bool vtest_linger_over(void *data)
{
	struct pollfd *client = data;
	return poll(client, 1, 0) != 0;
}

int vtest_linger(struct vtest *v)
{
	struct pollfd client = {.fd = v->fd, .events = POLLIN};

	if (!v->answers)
		return 0;
	v->answers = false;
	return attend(&v->linger, vtest_linger_over, &client) ? vtest_input_receive(v) : 0;
}

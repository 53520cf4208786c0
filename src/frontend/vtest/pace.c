/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The frame-rate limit: that a frame is done which came too soon is told later, and until then the
 * connection is not served. Others are. One that is frozen in that while, to be saved or moved,
 * tells it when it goes on.
 */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

static void vtest_pace_due(void *data, uint32_t events)
{
	struct vtest *v = data;
	uint64_t count;

	if (read(v->pace_fd, &count, sizeof(count)) < 0 || !v->held)
		return;
	v->held = false;
	vtest_event(v, 0);
}

static int vtest_pace_open(struct vtest *v)
{
	if (v->pace_source)
		return 0;
	v->pace_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (v->pace_fd < 0)
		return -errno;
	return loop_add_fd(v->loop, v->pace_fd, EPOLLIN, vtest_pace_due, v, &v->pace_source);
}

int vtest_pace_hold(struct vtest *v)
{
	uint64_t ns = v->hold_ns;
	const struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(ns / 1000000000u),
						.tv_nsec = (long)(ns % 1000000000u)}};
	int err = vtest_pace_open(v);

	v->hold_ns = 0;
	if (!err && timerfd_settime(v->pace_fd, 0, &spec, NULL) < 0)
		err = -errno;
	if (err < 0)
		return vtest_fail(v, err, "its frames cannot be timed");
	v->held = true;
	return 0;
}

void vtest_pace_finish(struct vtest *v)
{
	loop_remove(v->pace_source);
	v->pace_source = NULL;
	close_fd(&v->pace_fd);
}

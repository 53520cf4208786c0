/* SPDX-License-Identifier: Apache-2.0 */
#include "process/pacer.h"

#include "base/cleanup.h"
#include "base/loop.h"
#include "device/device.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct pacer {
	struct device *device;
	int fd;
	struct loop_source *source;
	bool running;
};

static void pacer_on_timer(void *data, uint32_t events)
{
	struct pacer *p = data;
	uint64_t count;

	if (read(p->fd, &count, sizeof(count)) < 0)
		return;
	p->running = false;
	device_let_go_due(p->device);
}

void pacer_idle(struct pacer *p)
{
	uint64_t ns = p->running ? 0 : device_held_ns(p->device);
	const struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(ns / 1000000000u),
						.tv_nsec = (long)(ns % 1000000000u)}};

	if (ns)
		p->running = timerfd_settime(p->fd, 0, &spec, NULL) == 0;
}

int pacer_create(struct device *dev, struct loop *loop, struct pacer **ret)
{
	struct pacer *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->device = dev;
	p->fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int err = p->fd < 0 ? -errno : 0;
	if (!err)
		err = loop_add_fd(loop, p->fd, EPOLLIN, pacer_on_timer, p, &p->source);
	if (err < 0) {
		pacer_destroy(p);
		return err;
	}
	*ret = p;
	return 0;
}

void pacer_destroy(struct pacer *p)
{
	if (!p)
		return;
	loop_remove(p->source);
	close_fd(&p->fd);
	free(p);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "process/trimmer.h"

#include "base/cleanup.h"
#include "base/loop.h"
#include "device/device.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct trimmer {
	struct device *dev;
	struct loop_source *source;
	int fd; /* timer */
	bool armed;
};

static void trimmer_event(void *data, uint32_t events)
{
	struct trimmer *t = data;
	uint64_t expired;

	if (read(t->fd, &expired, sizeof(expired)) != sizeof(expired))
		return;
	t->armed = false;
	device_trim(t->dev);
}

int trimmer_create(struct device *dev, struct loop *loop, struct trimmer **ret)
{
	struct trimmer *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	t->dev = dev;
	t->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	int err = t->fd < 0 ? -errno : 0;
	if (!err)
		err = loop_add_fd(loop, t->fd, EPOLLIN, trimmer_event, t, &t->source);
	if (err) {
		trimmer_destroy(t);
		return err;
	}
	*ret = t;
	return 0;
}

void trimmer_destroy(struct trimmer *t)
{
	if (!t)
		return;
	loop_remove(t->source);
	close_fd(&t->fd);
	free(t);
}

void trimmer_idle(struct trimmer *t)
{
	static const struct itimerspec once = {.it_value.tv_nsec = TRIMMER_DELAY_MS * 1000000L};

	if (t->armed || !device_trim_due(t->dev))
		return;
	t->armed = timerfd_settime(t->fd, 0, &once, NULL) == 0;
}

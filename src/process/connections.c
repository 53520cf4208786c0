/* SPDX-License-Identifier: Apache-2.0 */
#include "process/connections.h"

#include "frontend/vhost_user/vhost_user.h"
#include "frontend/vtest/vtest.h"
#include "process/channel.h"

#include "base/checked.h"
#include "base/log.h"

#include "protocol/keeper_table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONNECTIONS_MAX 256

struct connection {
	struct connections *all;
	struct connection *next;
	uint32_t id;
	struct vhost_user *vhost_user; /* one of the two */
	struct vtest *vtest;
	bool over;
	char reason[KEEPER_TEXT_MAX];
};

struct connections {
	struct device *device;
	struct loop *loop;
	int channel_fd;
	struct loop_source *source;
	struct vtest_budget vtest_budget;
	struct connection *list;
	unsigned count;
	bool have_over;
};

/* ---- what front ends call ---- */

static void connection_over(void *data, const char *reason)
{
	struct connection *c = data;

	if (c->over)
		return;
	c->over = true;
	c->all->have_over = true;
	snprintf(c->reason, sizeof(c->reason), "%s", reason);
}

static void connection_custody(void *data, const struct keeper_custody *custody, int fd)
{
	const struct connection *c = data;
	channel_send(c->all->channel_fd, KEEPER_DEVICE_CUSTODY, custody, fd);
}

static void connection_release(void *data, const struct keeper_custody *custody)
{
	const struct connection *c = data;
	channel_send(c->all->channel_fd, KEEPER_DEVICE_RELEASE, custody, -1);
}

static void connection_memory_done(void *data, uint32_t serial)
{
	const struct connection *c = data;
	const struct keeper_verdict verdict = {.serial = serial};
	channel_send(c->all->channel_fd, KEEPER_DEVICE_MEMORY_DONE, &verdict, -1);
}

static const struct vhost_user_ops connection_vhost_user_ops = {
	.custody = connection_custody,
	.release = connection_release,
	.memory_done = connection_memory_done,
	.closed = connection_over,
};

static const struct vtest_ops connection_vtest_ops = {.closed = connection_over};

/* ---- what the keeper sends ---- */

static void connections_tell_closed(const struct connections *all, uint32_t id, const char *reason)
{
	struct keeper_closed closed = {.id = id};

	snprintf(closed.reason, sizeof(closed.reason), "%s", reason);
	channel_send(all->channel_fd, KEEPER_DEVICE_CLOSED, &closed, -1);
}

static int connection_start(struct connection *c, const struct keeper_connection *message, int fd)
{
	struct connections *all = c->all;
	char name[64];

	snprintf(name, sizeof(name), "process %u", message->pid);
	if (message->kind == KEEPER_CONNECTION_VHOST_USER)
		return vhost_user_create(
			all->device, all->loop, fd, &connection_vhost_user_ops, c, &c->vhost_user);
	return vtest_create(all->device, all->loop, &all->vtest_budget, fd, name,
		&connection_vtest_ops, c, &c->vtest);
}

static void connections_add(
	struct connections *all, const struct keeper_connection *message, int fd)
{
	struct connection *c = all->count < CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		connections_tell_closed(all, message->id,
			"too many connections to this vGPU (close some of the programs that use "
			"it)");
		return;
	}
	c->all = all;
	c->id = message->id;
	int err = connection_start(c, message, fd);
	if (err < 0) {
		connections_tell_closed(all, message->id, strerror(-err));
		free(c);
		return;
	}
	c->next = all->list;
	all->list = c;
	all->count++;
}

static void connections_verdict(const struct connections *all, struct keeper_verdict *verdict)
{
	packet_text(verdict->reason, sizeof(verdict->reason));
	for (struct connection *c = all->list; c; c = c->next) {
		if (c->vhost_user && !c->over)
			vhost_user_memory_verdict(
				c->vhost_user, verdict->serial, verdict->ok != 0, verdict->reason);
	}
}

static void connections_disconnect(const struct connections *all, struct keeper_closed *closed)
{
	packet_text(closed->reason, sizeof(closed->reason));
	for (struct connection *c = all->list; c; c = c->next) {
		if (c->id == closed->id)
			connection_over(c, closed->reason);
	}
}

static void connections_dispatch(struct connections *all, struct packet *packet)
{
	switch (packet->type) {
	case KEEPER_DEVICE_CONNECTION:
		connections_add(all, (struct keeper_connection *)packet->payload, packet->fd);
		break;
	case KEEPER_DEVICE_VERDICT:
		connections_verdict(all, (struct keeper_verdict *)packet->payload);
		break;
	case KEEPER_DEVICE_DISCONNECT:
		connections_disconnect(all, (struct keeper_closed *)packet->payload);
		break;
	default: /* the table lets nothing pass but QUIT */
		loop_quit(all->loop, 0);
		break;
	}
}

static void connections_readable(void *data, uint32_t events)
{
	struct connections *all = data;
	struct packet packet;
	int r = packet_recv(all->channel_fd, &keeper_device_table, KEEPER_FROM_KEEPER, &packet);

	if (r == 1) {
		connections_dispatch(all, &packet);
		return;
	}
	if (r == -EAGAIN)
		return;
	if (r == -EMFILE && packet.type == KEEPER_DEVICE_CONNECTION) {
		connections_tell_closed(all, ((struct keeper_connection *)packet.payload)->id,
			"the vGPU has too many files open (close some of the programs that use "
			"it)");
		return;
	}
	if (r < 0)
		log_error("the keeper's channel failed: %s", strerror(-r));
	loop_quit(all->loop, r < 0 ? 1 : 0);
}

/* ---- lifetime ---- */

/* Half for what vtest connections keep beside their sockets: the rest is always free to accept. */
static uint32_t connections_vtest_fds(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 0;
	return (uint32_t)MIN(limit.rlim_max, (rlim_t)CONNECTIONS_MAX_FDS) / 2;
}

static void connection_destroy(struct connection *c)
{
	vhost_user_destroy(c->vhost_user);
	vtest_destroy(c->vtest);
	free(c);
}

void connections_reap(struct connections *all)
{
	if (!all->have_over)
		return;
	all->have_over = false;
	for (struct connection **at = &all->list; *at;) {
		struct connection *c = *at;
		if (!c->over) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		all->count--;
		connections_tell_closed(all, c->id, c->reason);
		connection_destroy(c);
	}
}

int connections_create(
	struct device *dev, struct loop *loop, int channel_fd, struct connections **ret)
{
	struct connections *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	*all = (struct connections){.device = dev,
		.loop = loop,
		.channel_fd = channel_fd,
		.vtest_budget.max_fds = connections_vtest_fds()};
	int err = loop_add_fd(loop, channel_fd, EPOLLIN, connections_readable, all, &all->source);
	if (err < 0) {
		free(all);
		return err;
	}
	*ret = all;
	return 0;
}

void connections_destroy(struct connections *all)
{
	if (!all)
		return;
	loop_remove(all->source);
	while (all->list) {
		struct connection *c = all->list;
		all->list = c->next;
		connection_destroy(c);
	}
	free(all);
}

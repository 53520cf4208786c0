/* SPDX-License-Identifier: Apache-2.0 */
#include "process/connections.h"

#include "frontend/vhost_user/vhost_user.h"
#include "frontend/vtest/vtest.h"
#include "process/channel.h"
#include "process/gate.h"
#include "process/quiet.h"
#include "process/succession.h"
#include "state/journal.h"
#include "state/section.h"

#include "base/checked.h"
#include "base/cleanup.h"
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
	const struct connection_kind *kind;
	struct keeper_connection info;
	struct vhost_user *vhost_user; /* one of the two */
	struct vtest *vtest;
	bool over;
	char reason[KEEPER_TEXT_MAX];
};

struct connections {
	struct device *device;
	struct loop *loop;
	int channel_fd;
	struct succession *succession;
	struct gate *gate;
	struct loop_source *source;
	struct vtest_budget vtest_budget;
	struct connection *list;
	unsigned count;
	bool have_over;
	connections_configure configure; /* NULL: CONFIGURE is not expected */
	void *configure_data;
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

static int connection_state_save(void *data, int fd, bool dry)
{
	const struct connection *c = data;
	struct succession *s = c->all->succession;
	return dry ? succession_saveable(s) : succession_write_file(s, fd);
}

static int connection_load_vm(void *data, struct state_reader *r)
{
	const struct connection *c = data;
	return vhost_user_load_device(c->vhost_user, r);
}

static int connection_state_load(void *data, int fd)
{
	const struct connection *c = data;
	return succession_read_file(c->all->succession, fd, connection_load_vm, data);
}

static const struct vhost_user_ops connection_vhost_user_ops = {
	.state_save = connection_state_save,
	.state_load = connection_state_load,
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

/* ---- the two kinds ---- */

/* What a connection can do, whichever front end serves it. */
struct connection_kind {
	int (*create)(struct connection *c, int fd, const char *name); /* takes fd */
	int (*keep)(struct connection *c, const struct frontend_keep *keep);
	void (*freeze)(struct connection *c, bool freeze);
	bool (*pending)(struct connection *c);
	void (*save)(struct connection *c, struct state_writer *w);
	int (*load)(struct connection *c, struct state_reader *r);
	int (*replay)(struct connection *c, const struct journal_record *record);
};

static int vm_create(struct connection *c, int fd, const char *name)
{
	struct connections *all = c->all;
	return vhost_user_create(
		all->device, all->loop, fd, &connection_vhost_user_ops, c, &c->vhost_user);
}

static int vm_keep(struct connection *c, const struct frontend_keep *keep)
{
	return vhost_user_keep(c->vhost_user, keep, c->id);
}

static void vm_freeze(struct connection *c, bool freeze)
{
	if (freeze)
		vhost_user_freeze(c->vhost_user);
	else
		vhost_user_thaw(c->vhost_user);
}

static bool vm_pending(struct connection *c)
{
	return vhost_user_pending(c->vhost_user);
}

static void vm_save(struct connection *c, struct state_writer *w)
{
	vhost_user_save(c->vhost_user, w);
}

static int vm_load(struct connection *c, struct state_reader *r)
{
	return vhost_user_load(c->vhost_user, r);
}

static int vm_replay(struct connection *c, const struct journal_record *record)
{
	return vhost_user_replay(c->vhost_user, record);
}

static int client_create(struct connection *c, int fd, const char *name)
{
	struct connections *all = c->all;
	return vtest_create(all->device, all->loop, &all->vtest_budget, fd, name,
		&connection_vtest_ops, c, &c->vtest);
}

static int client_keep(struct connection *c, const struct frontend_keep *keep)
{
	return vtest_keep(c->vtest, keep, c->id);
}

static void client_freeze(struct connection *c, bool freeze)
{
	if (freeze)
		vtest_freeze(c->vtest);
	else
		vtest_thaw(c->vtest);
}

static bool client_pending(struct connection *c)
{
	return vtest_pending(c->vtest);
}

static void client_save(struct connection *c, struct state_writer *w)
{
	vtest_save(c->vtest, w);
}

static int client_load(struct connection *c, struct state_reader *r)
{
	return vtest_load(c->vtest, r);
}

static int client_replay(struct connection *c, const struct journal_record *record)
{
	return vtest_replay(c->vtest, record);
}

static const struct connection_kind connection_kinds[] = {
	[KEEPER_CONNECTION_VHOST_USER] = {vm_create, vm_keep, vm_freeze, vm_pending, vm_save,
		vm_load, vm_replay},
	[KEEPER_CONNECTION_VTEST] = {client_create, client_keep, client_freeze, client_pending,
		client_save, client_load, client_replay},
};

/* ---- starting to serve ---- */

static void connection_destroy(struct connection *c)
{
	vhost_user_destroy(c->vhost_user);
	vtest_destroy(c->vtest);
	free(c);
}

/* Takes `fd`. The connection is in the list when this returns 0. */
static int connections_make(struct connections *all, const struct keeper_connection *info, int fd,
	struct connection **ret)
{
	cleanup_close int socket = fd;
	char name[64];

	if (info->kind >= ARRAY_SIZE(connection_kinds))
		return -EPROTO;
	struct connection *c = all->count < CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c)
		return -EUSERS;
	c->all = all;
	c->id = info->id;
	c->info = *info;
	c->kind = &connection_kinds[info->kind];
	snprintf(name, sizeof(name), "process %u", info->pid);
	int err = c->kind->create(c, TAKE_FD(socket), name);
	const struct frontend_keep *keep = succession_keep(all->succession);
	if (!err && keep)
		err = c->kind->keep(c, keep);
	if (err < 0) {
		connection_destroy(c);
		return err;
	}
	if (succession_frozen(all->succession))
		c->kind->freeze(c, true);
	c->next = all->list;
	all->list = c;
	all->count++;
	*ret = c;
	return 0;
}

void connections_add(struct connections *all, const struct keeper_connection *info, int fd)
{
	cleanup_close int socket = fd;
	struct connection *c;
	int err = succession_connected(all->succession, info);

	if (!err)
		err = connections_make(all, info, TAKE_FD(socket), &c);
	if (err == -EUSERS)
		connections_tell_closed(all, info->id,
			"too many connections to this vGPU (close some of the programs that use "
			"it)");
	else if (err < 0)
		connections_tell_closed(all, info->id, strerror(-err));
}

static struct connection *connections_find(const struct connections *all, uint32_t id)
{
	struct connection *c = all->list;

	while (c && c->id != id)
		c = c->next;
	return c;
}

/* ---- what the keeper says ---- */

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

static void connections_grant(
	const struct connections *all, const struct keeper_grant *grant, int fd)
{
	int err = all->gate ? gate_take(all->gate, grant, fd) : close(fd);

	if (err < 0)
		log_warning("the time slices of this vGPU are not kept: %s", strerror(-err));
}

static void connections_configured(struct connections *all, const struct standby_args *args)
{
	char text[KEEPER_TEXT_MAX];
	int err = all->configure ? all->configure(all->configure_data, args) : -EALREADY;

	if (!err)
		return;
	snprintf(text, sizeof(text), "the stand-by cannot be made this vGPU: %s", strerror(-err));
	log_error("%s", text);
	channel_send_text(all->channel_fd, KEEPER_DEVICE_FAILED, text);
	loop_quit(all->loop, 1);
}

static void connections_dispatch(struct connections *all, struct packet *packet)
{
	switch (packet->type) {
	case KEEPER_DEVICE_CONNECTION:
		connections_add(all, (const struct keeper_connection *)packet->payload, packet->fd);
		break;
	case KEEPER_DEVICE_VERDICT:
		connections_verdict(all, (struct keeper_verdict *)packet->payload);
		break;
	case KEEPER_DEVICE_DISCONNECT:
		connections_disconnect(all, (struct keeper_closed *)packet->payload);
		break;
	case KEEPER_DEVICE_GRANT:
		connections_grant(all, (const struct keeper_grant *)packet->payload, packet->fd);
		break;
	case KEEPER_DEVICE_CONFIGURE:
		connections_configured(all, (const struct standby_args *)packet->payload);
		break;
	case KEEPER_DEVICE_IDLE:
		succession_rest(all->succession);
		quiet_begin(all->loop, all->channel_fd);
		break;
	default: /* the table lets nothing else pass but QUIT */
		if (!succession_message(all->succession, packet))
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
		succession_closed(all->succession, c->id);
		connections_tell_closed(all, c->id, c->reason);
		connection_destroy(c);
	}
}

void connections_on_configure(struct connections *all, connections_configure configure, void *data)
{
	all->configure = configure;
	all->configure_data = data;
}

/* ---- for succession ---- */

void connections_freeze(struct connections *all, bool freeze)
{
	for (struct connection *c = all->list; c; c = c->next) {
		if (!c->over)
			c->kind->freeze(c, freeze);
	}
}

bool connections_pending(struct connections *all)
{
	bool pending = false;

	for (struct connection *c = all->list; c; c = c->next)
		pending = (!c->over && c->kind->pending(c)) || pending;
	return pending;
}

void connections_save(struct connections *all, struct state_writer *w)
{
	for (struct connection *c = all->list; c; c = c->next) {
		if (c->over)
			continue;
		state_begin(w, STATE_CONNECTION);
		state_put_u32(w, c->id);
		state_put_u32(w, c->info.kind);
		c->kind->save(c, w);
		state_end(w);
	}
}

int connections_resume(struct connections *all, const struct keeper_connection *info, int fd,
	struct state_reader *r)
{
	struct connection *c;
	int err = connections_make(all, info, fd, &c);

	if (!err && r && state_get_u32(r) != info->kind)
		err = -EBADMSG;
	return err < 0 ? err : c->kind->load(c, r);
}

void connections_replay(struct connections *all, const struct journal_record *record)
{
	struct connection *c = connections_find(all, record->source);

	if (c && !c->over && c->kind->replay(c, record) < 0)
		connection_over(c, "its last command could not be executed");
}

void connections_close(struct connections *all, uint32_t id)
{
	struct connection *c = connections_find(all, id);

	if (c)
		connection_over(c, "");
	connections_reap(all);
}

void connections_set_gate(struct connections *all, struct gate *gate)
{
	all->gate = gate;
}

int connections_create(struct device *dev, struct loop *loop, int channel_fd,
	struct succession *succession, struct connections **ret)
{
	struct connections *all = calloc(1, sizeof(*all));
	if (!all)
		return -ENOMEM;
	*all = (struct connections){.device = dev,
		.loop = loop,
		.channel_fd = channel_fd,
		.succession = succession,
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

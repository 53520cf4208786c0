/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const socket_names[] = {
	[KEEPER_CONNECTION_VHOST_USER] = "vhost-user.sock",
	[KEEPER_CONNECTION_VTEST] = "vtest.sock",
};

/* The label of a binding that began with a connection: who the kernel says the peer is. */
static void peer_label(const struct ucred *peer, char *ret, size_t size)
{
	char path[64], comm[32] = "?";

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)peer->pid);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, comm, sizeof(comm) - 1) : 0;
	if (n > 0)
		comm[n] = '\0';
	comm[strcspn(comm, "\n")] = '\0';
	packet_text(comm, sizeof(comm));
	snprintf(ret, size, "%s[%d] uid %u", comm, (int)peer->pid, peer->uid);
}

static bool peers_connected(const struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (k->connections[i].id)
			return true;
	}
	return false;
}

static void binding_ended(struct keeper *k)
{
	loop_remove(k->holder_source);
	k->holder_source = NULL;
	close_fd(&k->holder_pidfd);
	log_info("the binding has ended");
	shaders_binding_ended(k);
	if (++k->binding_number == 0)
		k->binding_number = 1;
	custody_drop_kinds(&k->custody, CUSTODY_STATE);
	custody_drop_connection(&k->custody, 0);
	/* The holder may outlive its connections, whose end found the binding still there. */
	if (!peers_connected(k) && !takeover_holds(k))
		device_renew(k);
	control_status(k);
}

/* The peer is gone for the binding; the device may still work off what it sent. */
static void connection_mark_gone(struct connection *c)
{
	struct keeper *k = c->keeper;

	if (c->gone)
		return;
	c->gone = true;
	loop_remove(c->source);
	c->source = NULL;
	if (c->info.kind == KEEPER_CONNECTION_VHOST_USER) {
		custody_release_guest(&k->custody);
		memory_guest_gone(k);
	}
	if (binding_connection_gone(&k->binding))
		binding_ended(k);
	else
		control_status(k);
}

static void connection_free(struct connection *c)
{
	connection_mark_gone(c);
	if (c->fd >= 0)
		shutdown(c->fd, SHUT_RDWR); /* the device's duplicate ends too */
	close_fd(&c->fd);
	custody_drop_connection(&c->keeper->custody, c->id);
	c->id = 0;
	if (!peers_connected(c->keeper))
		device_renew(c->keeper);
}

static void connection_disconnect(struct connection *c)
{
	struct keeper_closed closed = {.id = c->id};

	c->disconnect_at = 0;
	if (c->sent)
		device_send(c->keeper->current, KEEPER_DEVICE_DISCONNECT, &closed, -1);
	connection_free(c);
}

/* A sleeping process cannot be told, one that takes over has to know all that its predecessor did.
 */
static bool connection_put_off(const struct connection *c)
{
	return c->sent && takeover_holds(c->keeper);
}

static void connection_hung_up(struct connection *c)
{
	connection_mark_gone(c);
	if (!c->sent || c->info.kind == KEEPER_CONNECTION_VHOST_USER) {
		connection_disconnect(c);
		return;
	}
	c->disconnect_at = clock_ms() + KEEPER_DRAIN_MS;
	keeper_set_timer(c->keeper);
}

/* The kernel says the peer has closed: true whatever the device process says. */
static void connection_on_event(void *data, uint32_t events)
{
	struct connection *c = data;
	struct keeper *k = c->keeper;

	if (!(events & (EPOLLHUP | EPOLLERR))) { /* listened to while asleep */
		if (k->takeover.phase == PHASE_ASLEEP)
			sleep_wake(k);
		return;
	}
	if (!connection_put_off(c)) {
		connection_hung_up(c);
		return;
	}
	loop_remove(c->source);
	c->source = NULL;
	c->hung_up = true;
	if (k->takeover.phase == PHASE_ASLEEP)
		sleep_peer_gone(k);
}

static void connection_send(struct connection *c)
{
	struct keeper *k = c->keeper;

	if (device_renew(k))
		return; /* the next device process gets it */
	int r = 0;
	if (k->current->served != k->binding_number)
		r = shaders_give(k->current);
	if (r == -EAGAIN)
		return;
	k->current->served = k->binding_number;
	r = device_send(k->current, KEEPER_DEVICE_CONNECTION, &c->info, c->fd);
	c->sent = r == 0;
	if (r < 0 && r != -EAGAIN)
		connection_free(c);
}

static struct connection *connection_slot(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (!k->connections[i].id)
			return &k->connections[i];
	}
	return NULL;
}

static int refuse(char *why, size_t size, int code, const char *text)
{
	snprintf(why, size, "%s", text);
	return -code;
}

static int peers_admit(struct keeper *k, int fd, enum keeper_connection_kind kind,
	const struct keeper_bind *as, struct ucred *ret_peer, char *why, size_t size)
{
	char label[KEEPER_TEXT_MAX];
	socklen_t len = sizeof(*ret_peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, ret_peer, &len) < 0)
		return refuse(why, size, errno, "the peer is unknown");
	if (as) {
		ret_peer->pid = (pid_t)as->pid;
		ret_peer->uid = as->uid;
	}
	if (k->takeover.wake_failed) {
		snprintf(why, size,
			"it is hibernated and could not be woken (wake it by hand): %.140s",
			k->failure);
		return -EAGAIN;
	}
	if (k->state == KEEPER_STATE_FAILED) {
		snprintf(why, size,
			"it failed, and is started again %u times a minute at most: %.120s",
			KEEPER_RESTARTS, k->failure);
		return -EAGAIN;
	}
	if (as)
		snprintf(label, sizeof(label), "%s", as->label);
	else
		peer_label(ret_peer, label, sizeof(label));
	struct binding_peer peer = {
		.kind = kind, .pid = (uint32_t)ret_peer->pid, .uid = ret_peer->uid, .label = label};
	return binding_admit(&k->binding, &peer, why, size);
}

int peers_add(struct keeper *k, int fd, enum keeper_connection_kind kind,
	const struct keeper_bind *as, char *why, size_t size)
{
	struct ucred peer;
	cleanup_close int owned = fd;

	device_ensure(k);
	struct connection *c = connection_slot(k);
	if (!c)
		return refuse(why, size, EMFILE, "it has too many connections");
	int r = peers_admit(k, fd, kind, as, &peer, why, size);
	if (r < 0)
		return r;
	if (++k->next_id == 0)
		k->next_id = 1;
	*c = (struct connection){.keeper = k,
		.id = k->next_id,
		.fd = TAKE_FD(owned),
		.info = {.id = k->next_id,
			.kind = kind,
			.pid = (uint32_t)peer.pid,
			.uid = peer.uid}};
	/* No event is asked for: hang-up and error are always told. */
	r = loop_add_fd(k->loop, c->fd, 0, connection_on_event, c, &c->source);
	if (r < 0) {
		connection_free(c);
		return refuse(why, size, -r, "the connection cannot be watched");
	}
	if (k->takeover.phase == PHASE_ASLEEP)
		sleep_wake(k);
	else
		peers_send_waiting(k);
	k->active_at = clock_ms();
	keeper_set_timer(k); /* from now on it is watched */
	control_status(k);
	return 0;
}

static void peers_on_listener(struct keeper *k, enum keeper_connection_kind kind)
{
	char why[KEEPER_TEXT_MAX] = "";

	int fd = accept4(k->listeners[kind], NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (peers_add(k, fd, kind, NULL, why, sizeof(why)) < 0)
		control_event(k, "refused a connection on %s: %s", socket_names[kind], why);
}

static void peers_on_vhost_user(void *data, uint32_t events)
{
	peers_on_listener(data, KEEPER_CONNECTION_VHOST_USER);
}

static void peers_on_vtest(void *data, uint32_t events)
{
	peers_on_listener(data, KEEPER_CONNECTION_VTEST);
}

int peers_listen(struct keeper *k)
{
	static const loop_fd_fn accepts[] = {
		[KEEPER_CONNECTION_VHOST_USER] = peers_on_vhost_user,
		[KEEPER_CONNECTION_VTEST] = peers_on_vtest,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(accepts); i++) {
		int fd = keeper_listen(k, socket_names[i], SOCK_STREAM, 0660, k->config->group);
		if (fd < 0)
			return fd;
		k->listeners[i] = fd;
		int r = loop_add_fd(k->loop, fd, EPOLLIN, accepts[i], k, NULL);
		if (r < 0)
			return r;
	}
	return 0;
}

void peers_unlisten(struct keeper *k)
{
	for (unsigned i = 0; i < ARRAY_SIZE(socket_names); i++)
		unlinkat(k->dir_fd, socket_names[i], 0);
}

void peers_closed_by_device(struct device_process *d, uint32_t id)
{
	struct keeper *k = d->keeper;

	for (unsigned i = 0; id && i < KEEPER_MAX_CONNECTIONS; i++) {
		struct connection *c = &k->connections[i];
		if (c->id != id || !c->sent)
			continue;
		if (d->staging)
			c->closed = true; /* if it is this process that goes on */
		else
			connection_free(c);
	}
}

void peers_undo_closed(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++)
		k->connections[i].closed = false;
}

static void connection_go_on(struct connection *c)
{
	bool hung_up = c->hung_up, disconnect = c->disconnect;

	c->hung_up = false;
	c->disconnect = false;
	if (c->closed)
		connection_free(c);
	else if (disconnect)
		connection_disconnect(c);
	else if (hung_up)
		connection_hung_up(c);
}

void peers_go_on(struct keeper *k, bool taken_over)
{
	uint64_t now = clock_ms();

	if (!taken_over)
		peers_undo_closed(k);
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		struct connection *c = &k->connections[i];
		if (c->id && c->disconnect_at) /* the pause does not count */
			c->disconnect_at = now + KEEPER_DRAIN_MS;
		if (c->id)
			connection_go_on(c);
	}
	if (!peers_connected(k))
		device_renew(k); /* of a binding that ended meanwhile */
	keeper_set_timer(k);
}

void peers_send_waiting(struct keeper *k)
{
	if (k->state != KEEPER_STATE_READY || takeover_holds(k) || shaders_wait(k))
		return;
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (k->connections[i].id && !k->connections[i].sent)
			connection_send(&k->connections[i]);
	}
}

bool peers_sent(const struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		const struct connection *c = &k->connections[i];
		if (c->id && c->sent && !c->gone)
			return true;
	}
	return false;
}

bool peers_alive(const struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		const struct connection *c = &k->connections[i];
		if (c->id && !c->gone && !c->hung_up && !c->disconnect)
			return true;
	}
	return false;
}

bool peers_waiting(const struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (k->connections[i].id && !k->connections[i].sent)
			return true;
	}
	return false;
}

void peers_listen_to(struct keeper *k, bool on)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		const struct connection *c = &k->connections[i];
		if (c->id && c->source)
			loop_set_events(c->source, on ? EPOLLIN : 0);
	}
}

void peers_end_sent(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (k->connections[i].id && k->connections[i].sent)
			connection_free(&k->connections[i]);
	}
}

void peers_end_all(struct keeper *k)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (k->connections[i].id)
			connection_free(&k->connections[i]);
	}
}

static void peers_on_holder(void *data, uint32_t events)
{
	struct keeper *k = data;

	loop_remove(k->holder_source);
	k->holder_source = NULL;
	close_fd(&k->holder_pidfd);
	if (binding_holder_gone(&k->binding))
		binding_ended(k);
}

int peers_bind(struct keeper *k, const struct keeper_bind *bind, int pidfd, char *why, size_t size)
{
	cleanup_close int owned = pidfd;

	device_ensure(k);
	if (k->state == KEEPER_STATE_FAILED)
		return refuse(why, size, EAGAIN, k->failure);
	int r = binding_reserve(&k->binding, bind, why, size);
	if (r < 0)
		return r;
	r = loop_add_fd(k->loop, pidfd, EPOLLIN, peers_on_holder, k, &k->holder_source);
	if (r < 0) {
		binding_holder_gone(&k->binding);
		return refuse(why, size, -r, "the holder's process cannot be watched");
	}
	k->holder_pidfd = TAKE_FD(owned);
	control_status(k);
	return 0;
}

void peers_unbind(struct keeper *k)
{
	if (k->holder_pidfd >= 0)
		peers_on_holder(k, 0);
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		struct connection *c = &k->connections[i];
		if (!c->id || c->gone) /* else the device works off its last bytes */
			continue;
		if (connection_put_off(c))
			c->disconnect = true;
		else
			connection_disconnect(c);
	}
	if (k->takeover.phase == PHASE_ASLEEP)
		sleep_peer_gone(k);
}

void peers_check_time(struct keeper *k, uint64_t now)
{
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		struct connection *c = &k->connections[i];
		if (c->id && c->disconnect_at && now >= c->disconnect_at && !connection_put_off(c))
			connection_disconnect(c);
	}
}

uint64_t peers_next_time(const struct keeper *k)
{
	uint64_t next = UINT64_MAX;

	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		const struct connection *c = &k->connections[i];
		if (c->id && c->disconnect_at && !connection_put_off(c))
			next = MIN(next, c->disconnect_at);
	}
	return next;
}

unsigned peers_count(const struct keeper *k)
{
	return k->binding.live;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void control_close(struct keeper *k)
{
	bool was_there = k->control.fd >= 0;

	loop_remove(k->control.source);
	close_fd(&k->control.fd);
	k->control = (struct control){.fd = -1};
	if (!was_there)
		return;
	grant_orphaned(k);
	standby_channel_closed(k);
}

/* A vgpud that does not read is cut off; it connects again when it is back. */
void control_send(struct keeper *k, uint32_t type, const void *payload, int fd)
{
	if (k->control.fd < 0 || !k->control.hello)
		return;
	if (packet_send(k->control.fd, &keeper_control_table, type, payload, fd) < 0)
		control_close(k);
}

void control_status(struct keeper *k)
{
	const struct keeper_config *config = k->config;
	const struct process_times others = usage_others(k);
	struct keeper_status status = {
		.version = KEEPER_PROTOCOL_VERSION,
		.state = takeover_status(k),
		.keeper_pid = (uint32_t)getpid(),
		.device_pid = (uint32_t)k->current->pid,
		.device_start_time = k->current->start_time,
		.binding_kind = k->binding.kind,
		.binding_pid = k->binding.pid,
		.connections = peers_count(k),
		.starts = k->starts,
		.recoveries = k->takeover.recoveries,
		.moves = k->takeover.moves,
		.wakes = k->takeover.wakes,
		.idle_ns = watch_idle_ns(k),
		.last_pause_ns = k->takeover.last_pause_ns,
		.last_replay_ns = k->takeover.last_replay_ns,
		.others_cpu_ns = others.cpu_ns,
		.others_delay_ns = others.delay_ns,
		.held_ns = hold_total_ns(k),
	};

	snprintf(status.uuid, sizeof(status.uuid), "%s", config->uuid ?: "");
	snprintf(status.name, sizeof(status.name), "%s", config->name ?: "");
	memcpy(status.renderer, k->renderer, sizeof(status.renderer));
	memcpy(status.bound_to, k->binding.label, sizeof(status.bound_to));
	memcpy(status.failure, k->failure, sizeof(status.failure));
	memory_status(k, &status.memory);
	control_send(k, KEEPER_CONTROL_STATUS, &status, -1);
}

void control_event(struct keeper *k, const char *format, ...)
{
	struct keeper_text text;
	va_list args;

	va_start(args, format);
	vsnprintf(text.text, sizeof(text.text), format, args);
	va_end(args);
	if (!log_limit_pass(&k->notices))
		return;
	log_info("%s", text.text);
	control_send(k, KEEPER_CONTROL_EVENT, &text, -1);
}

static void control_result(struct keeper *k, int code, const char *text)
{
	struct keeper_result result = {.code = code};

	snprintf(result.text, sizeof(result.text), "%s", text);
	control_send(k, KEEPER_CONTROL_RESULT, &result, -1);
}

/* --- messages of vgpud; each takes p->fd or leaves it --- */

typedef void (*control_handler)(struct keeper *k, struct packet *p);

static void on_hello(struct keeper *k, struct packet *p)
{
	const struct keeper_hello *hello = (void *)p->payload;

	if (hello->version != KEEPER_PROTOCOL_VERSION) {
		log_limited(&k->notices, LOG_LEVEL_WARNING,
			"vgpud speaks version %u of the keeper protocol, this keeper %u",
			hello->version, KEEPER_PROTOCOL_VERSION);
		control_close(k);
		return;
	}
	k->control.hello = true;
	control_status(k);
}

static void on_bind(struct keeper *k, struct packet *p)
{
	char why[KEEPER_TEXT_MAX] = "";
	struct keeper_bind *bind = (void *)p->payload;

	packet_text(bind->label, sizeof(bind->label));
	if (bind->kind != KEEPER_BINDING_PROCESS) {
		control_result(k, -EINVAL, "only a process is bound by its pid");
		return;
	}
	int r = peers_bind(k, bind, TAKE_FD(p->fd), why, sizeof(why));
	control_result(k, r, why);
}

static void on_unbind(struct keeper *k, struct packet *p)
{
	peers_unbind(k);
	control_result(k, 0, "");
}

static void on_adopt(struct keeper *k, struct packet *p)
{
	char why[KEEPER_TEXT_MAX] = "";
	struct keeper_bind *bind = (void *)p->payload;

	packet_text(bind->label, sizeof(bind->label));
	int r = peers_add(k, TAKE_FD(p->fd), KEEPER_CONNECTION_VHOST_USER, bind, why, sizeof(why));
	control_result(k, r, why);
}

static void on_get_screen(struct keeper *k, struct packet *p)
{
	const struct keeper_screen *asked = (void *)p->payload;
	const struct custody_item *screen =
		custody_get(&k->custody, KEEPER_CUSTODY_SCREEN, asked->head);

	if (screen)
		control_send(k, KEEPER_CONTROL_SCREEN, asked, screen->fd);
	else
		control_result(k, -ENOENT, "that head shows nothing");
}

static void on_get_stats(struct keeper *k, struct packet *p)
{
	if (k->stats_fd >= 0)
		control_send(k, KEEPER_CONTROL_STATS, NULL, k->stats_fd);
	else
		control_result(k, -ENOENT, "there is no device process");
}

static void on_group(struct keeper *k, struct packet *p)
{
	struct keeper_group *group = (void *)p->payload;

	packet_text(group->procs, sizeof(group->procs));
	int r = group_join(k, group->procs);
	control_result(k, r, r < 0 ? strerror(-r) : "");
}

static void on_hold(struct keeper *k, struct packet *p)
{
	const struct keeper_hold *hold = (void *)p->payload;

	hold_ask(k, hold->ns);
}

static void on_grant(struct keeper *k, struct packet *p)
{
	if (grant_take(k, (void *)p->payload, p->fd) == 0)
		p->fd = -1;
}

static void on_memory(struct keeper *k, struct packet *p)
{
	memory_set(k, (void *)p->payload);
}

static void on_memory_grant(struct keeper *k, struct packet *p)
{
	memory_grant(k, (void *)p->payload);
}

static void on_assign(struct keeper *k, struct packet *p)
{
	struct standby_assign *assign = (void *)p->payload;

	int r = standby_assign(k, assign, TAKE_FD(p->fd));
	if (r == 0) {
		control_status(k);
		return;
	}
	log_error("this stand-by cannot be %s in %s: %s", assign->name, assign->run_dir,
		strerror(-r));
	k->stopping = true;
	device_quit(k);
}

static void on_stop(struct keeper *k, struct packet *p)
{
	k->stopping = true;
	device_quit(k);
}

static const control_handler handlers[KEEPER_CONTROL_MESSAGE_COUNT] = {
	[KEEPER_CONTROL_HELLO] = on_hello,
	[KEEPER_CONTROL_BIND] = on_bind,
	[KEEPER_CONTROL_UNBIND] = on_unbind,
	[KEEPER_CONTROL_ADOPT] = on_adopt,
	[KEEPER_CONTROL_GET_SCREEN] = on_get_screen,
	[KEEPER_CONTROL_GET_STATS] = on_get_stats,
	[KEEPER_CONTROL_GROUP] = on_group,
	[KEEPER_CONTROL_HOLD] = on_hold,
	[KEEPER_CONTROL_GRANT] = on_grant,
	[KEEPER_CONTROL_MEMORY] = on_memory,
	[KEEPER_CONTROL_MEMORY_GRANT] = on_memory_grant,
	[KEEPER_CONTROL_STOP] = on_stop,
	[KEEPER_CONTROL_MOVE] = job_request,
	[KEEPER_CONTROL_SNAPSHOT] = job_request,
	[KEEPER_CONTROL_RESTORE] = job_request,
	[KEEPER_CONTROL_HIBERNATE] = job_request,
	[KEEPER_CONTROL_WAKE] = job_request,
	[KEEPER_CONTROL_CHECK] = job_request,
	[KEEPER_CONTROL_ASSIGN] = on_assign,
};

static void control_on_message(void *data, uint32_t events)
{
	struct keeper *k = data;
	struct packet p;

	int r = packet_recv(k->control.fd, &keeper_control_table, KEEPER_FROM_CONTROL, &p);
	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		control_close(k);
		return;
	}
	if (handlers[p.type] && (p.type == KEEPER_CONTROL_HELLO || k->control.hello))
		handlers[p.type](k, &p);
	else
		control_close(k);
	close_fd(&p.fd);
}

int control_adopt_fd(struct keeper *k, int fd)
{
	control_close(k);
	k->control.fd = fd;
	int r = loop_add_fd(k->loop, fd, EPOLLIN, control_on_message, k, &k->control.source);
	if (r < 0)
		control_close(k);
	return r;
}

static void control_on_listener(void *data, uint32_t events)
{
	struct keeper *k = data;
	struct ucred peer;
	socklen_t len = sizeof(peer);

	cleanup_close int fd = accept4(k->listeners[2], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return;
	if (peer.uid != 0 && peer.uid != geteuid()) {
		log_limited(&k->notices, LOG_LEVEL_WARNING, "uid %u is refused control", peer.uid);
		return;
	}
	control_adopt_fd(k, TAKE_FD(fd)); /* the newest vgpud is the real one */
}

int control_listen(struct keeper *k)
{
	int fd = keeper_listen(k, "keeper.sock", SOCK_SEQPACKET, 0600, (gid_t)-1);
	if (fd < 0)
		return fd;
	k->listeners[2] = fd;
	return loop_add_fd(k->loop, fd, EPOLLIN, control_on_listener, k, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

static const struct vtest_command vtest_commands[VTEST_COMMAND_LIMIT] = {
#define X(id, name_, min_, max_, payload_, context_, fds_, since_, handler_)                       \
	[id] = {                                                                                   \
		.name = #name_,                                                                    \
		.min = min_,                                                                       \
		.max = max_,                                                                       \
		.payload = VTEST_PAYLOAD_##payload_,                                               \
		.context = context_,                                                               \
		.fds = fds_,                                                                       \
		.since = since_,                                                                   \
		.handler = vtest_on_##handler_,                                                    \
	},
	VTEST_COMMANDS(X)
#undef X
};

const struct vtest_command *vtest_command(uint32_t id)
{
	return id < VTEST_COMMAND_LIMIT && vtest_commands[id].name ? &vtest_commands[id] : NULL;
}

int vtest_fail(struct vtest *v, int err, const char *format, ...)
{
	va_list args;

	if (!v->reason[0]) {
		va_start(args, format);
		vsnprintf(v->reason, sizeof(v->reason), format, args);
		va_end(args);
	}
	return err;
}

int vtest_on_refuse(struct vtest *v, void *payload, size_t size)
{
	return vtest_fail(v, -EOPNOTSUPP, "this vGPU does not offer that command");
}

static int set_events(struct vtest *v, uint32_t epoll_events)
{
	if (v->epoll_events == epoll_events)
		return 0;
	v->epoll_events = epoll_events;
	if (!v->source)
		return 0;
	return loop_set_events(v->source, epoll_events);
}

/* Says which command failed and why, in words an operator can use. */
static int vtest_explain(struct vtest *v, const struct vtest_command *command, int err)
{
	static const struct {
		int err;
		const char *text;
	} texts[] = {
		{-ENOMEM, "over the vGPU's memory quota, or the host is out of memory"},
		{-ENOSPC, "too many objects"},
		{-EIO, "the rendering context is lost"},
		{-ENOENT, "unknown handle"},
		{-EEXIST, "handle already in use"},
		{-EINVAL, "invalid argument"},
	};
	char why[VTEST_REASON_MAX];

	snprintf(why, sizeof(why), "%s", v->reason[0] ? v->reason : strerror(-err));
	for (size_t i = 0; i < ARRAY_SIZE(texts) && !v->reason[0]; i++) {
		if (texts[i].err == err) {
			snprintf(why, sizeof(why), "%s", texts[i].text);
			break;
		}
	}
	snprintf(v->reason, sizeof(v->reason), "%s: %.200s", command->name, why);
	return err;
}

static int vtest_dispatch(struct vtest *v, uint32_t id, void *payload, size_t size)
{
	const struct vtest_command *command = vtest_command(id);
	int err;

	if ((v->state == VTEST_STATE_NEW) != (id == VTEST_CREATE_RENDERER))
		err = vtest_fail(v, -EPROTO, "%s",
			v->state == VTEST_STATE_NEW ? "sent before CREATE_RENDERER" : "sent twice");
	else if (command->since > v->version)
		err = vtest_fail(v, -EPROTO, "needs protocol %u, version %u was agreed on",
			command->since, v->version);
	else
		err = command->context ? vtest_need_context(v, 0) : 0;
	if (!err)
		err = command->handler(v, payload, size);
	return err < 0 ? vtest_explain(v, command, err) : 0;
}

int vtest_run(struct vtest *v, uint32_t id, void *message, size_t size)
{
	uint8_t *payload = (uint8_t *)message + VTEST_HEADER_SIZE;

	size -= VTEST_HEADER_SIZE;
	if ((uintptr_t)payload % 4 == 0)
		return vtest_dispatch(v, id, payload, size);
	/* A message of odd length came before: until the input is empty, copies are aligned. */
	if (vtest_buffers_charge(v, size) < 0)
		return vtest_fail(v, -ENOMEM, "no memory for messages");
	cleanup_free void *copy = malloc(MAX(size, 1));
	if (copy)
		memcpy(copy, payload, size);
	int err = copy ? vtest_dispatch(v, id, copy, size) : -ENOMEM;
	vtest_buffers_uncharge(v, size);
	return err;
}

/*
 * Before a submit runs: if the client's next message creates a resource, the client now waits for
 * the answer, which does not depend on the submit. Creation touches no context, so the order does
 * not matter to either; a submit that names a handle before it was created is the client's mistake
 * and harms nobody but itself. Only directly following messages are looked at, so no resource is
 * created before an UNREF that would have made room for it; when it fails, its turn decides.
 */
static int vtest_look_ahead(struct vtest *v, size_t submit_size)
{
	uint64_t at = v->in.consumed + submit_size;
	uint32_t id;
	uint8_t *message;
	size_t size;
	int whole = vtest_input_peek(v, submit_size, &id, &message, &size);

	if (whole == 0) {
		int err = vtest_input_receive(v);
		if (err < 0)
			return err;
		whole = vtest_input_peek(v, submit_size, &id, &message, &size);
	}
	if (whole < 0) {
		v->reason[0] = '\0'; /* its turn will report it */
		return 0;
	}
	if (!whole || id != VTEST_RESOURCE_CREATE2 || v->version < 2)
		return 0;
	int err = vtest_record(v, JOURNAL_VTEST_EARLY, v->in.consumed, at, message, size);
	if (err <= 0)
		return err;
	err = vtest_resource_create_early(v, message + VTEST_HEADER_SIZE);
	vtest_executed(v);
	if (err <= 0)
		return err;
	v->early_at = at;
	v->frame_ends = v->answered && v->answered->is_fence;
	return vtest_answer(v);
}

/* Records, executes and answers one message. 1, or 0 when there was no room for the record. */
static int vtest_handle(struct vtest *v, uint32_t id, uint8_t *message, size_t size)
{
	uint64_t end = v->in.consumed + size;
	int err;

	if (v->early_at && v->early_at == v->in.consumed) {
		err = vtest_record(v, JOURNAL_VTEST_SKIP, end, 0, NULL, 0);
		if (err <= 0)
			return err;
		v->early_at = 0;
		vtest_executed(v);
	} else {
		err = vtest_record(v, JOURNAL_VTEST, end, 0, message, size);
		if (err <= 0)
			return err;
		err = vtest_run(v, id, message, size);
		vtest_executed(v);
		if (!err)
			err = vtest_answer(v);
	}
	vtest_input_consume(v, size);
	return err < 0 ? err : 1;
}

/* Handles the first message if it is whole: 1 handled, or no room for it (`waiting`); 0 not whole.
 */
static int vtest_handle_one(struct vtest *v)
{
	uint32_t id;
	uint8_t *message;
	size_t size;
	int err = vtest_input_peek(v, 0, &id, &message, &size);

	if (err <= 0)
		return err;
	if (id == VTEST_SUBMIT_CMD && v->has_context && !v->early_at) {
		err = vtest_look_ahead(v, size);
		if (err < 0)
			return err;
		if (v->waiting)
			return 1;
		/* The buffer may have moved. */
		vtest_input_peek(v, 0, &id, &message, &size);
	}
	err = vtest_handle(v, id, message, size);
	return err < 0 ? err : 1;
}

/* What is left is taken up again by the next turn, which a writable socket brings about at once. */
static int vtest_leave(struct vtest *v)
{
	v->image_due = false;
	v->ready_ns = clock_ns();
	return set_events(v, EPOLLIN | EPOLLOUT);
}

/* Its work was ready since it was left, or since the loop heard of it. */
static void vtest_waited(struct vtest *v, uint64_t now)
{
	uint64_t since = v->ready_ns ?: loop_woken_ns(v->loop);

	v->ready_ns = 0;
	if (since && now > since)
		device_waited(v->dev, now - since);
}

/* Handles messages until none is whole, the turn's time is used up, or an image has to be made. */
static int vtest_turn(struct vtest *v)
{
	uint64_t now = clock_ns(), until = now + VTEST_TURN_NS;
	bool received = false;

	vtest_waited(v, now);
	for (;;) {
		int err = vtest_handle_one(v);
		if (err < 0)
			return err;
		if (v->waiting) {
			v->ready_ns = clock_ns();
			return set_events(v, v->out.first ? EPOLLOUT : 0);
		}
		if (v->hold_ns) {
			err = vtest_pace_hold(v);
			return err < 0 ? err : set_events(v, 0);
		}
		if (v->image_due)
			return vtest_leave(v);
		if (err > 0) {
			/* No more was there: leave the rest to epoll. */
			if (!vtest_input_left(&v->in) && received) {
				err = vtest_linger(v);
				if (err < 0)
					return err;
				if (!err)
					break;
			}
			if (clock_ns() < until)
				continue;
			return vtest_leave(v);
		}
		if (v->in.eof)
			return vtest_fail(v, -ECONNRESET, "%s",
				vtest_input_left(&v->in) ? "ended inside a message" : "");
		err = vtest_input_receive(v);
		if (err < 0)
			return err;
		if (!err && !v->in.eof)
			break;
		received = true;
	}
	return set_events(v, v->out.first ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

void vtest_end(struct vtest *v)
{
	v->state = VTEST_STATE_ENDED;
	loop_remove(v->source);
	v->source = NULL;
	v->ops->closed(v->data, v->reason);
}

void vtest_event(void *data, uint32_t epoll_events)
{
	struct vtest *v = data;
	int err;

	if (v->state == VTEST_STATE_ENDED || v->frozen)
		return;
	if (epoll_events & (EPOLLHUP | EPOLLERR))
		v->held = false; /* its peer is gone */
	if (v->held)
		return;
	err = vtest_output_flush(v);
	if (!err && v->waiting)
		err = set_events(v, v->out.first ? EPOLLOUT : 0);
	else if (!err)
		err = vtest_turn(v);
	if (err < 0)
		vtest_end(v);
}

int vtest_create(struct device *dev, struct loop *loop, struct vtest_budget *budget, int fd,
	const char *name, const struct vtest_ops *ops, void *data, struct vtest **ret)
{
	struct vtest *v = calloc(1, sizeof(*v));
	uint32_t seeds[2] = {0};
	int err;

	if (!v) {
		close(fd);
		return -ENOMEM;
	}
	*v = (struct vtest){
		.dev = dev,
		.loop = loop,
		.budget = budget,
		.fd = fd,
		.ops = ops,
		.data = data,
		.epoll_events = EPOLLIN,
		.out.last = &v->out.first,
		.next_handle = 1,
		.next_sync = 1,
		.next_shared = 1,
		.next_event = 1,
		.pool_max = VTEST_POOL_MAX_FDS,
		.pace_fd = -1,
	};
	vtest_linger_init(v);
	if (getrandom(seeds, sizeof(seeds), 0) != sizeof(seeds))
		seeds[0] = seeds[1] = (uint32_t)clock_ns();
	idmap_init(&v->resources, seeds[0]);
	idmap_init(&v->syncs, seeds[1]);
	err = fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
	if (!err)
		err = device_client_create(dev, name, &v->client);
	if (!err)
		err = loop_add_fd(loop, fd, EPOLLIN, vtest_event, v, &v->source);
	if (err) {
		vtest_destroy(v);
		return err;
	}
	*ret = v;
	return 0;
}

void vtest_destroy(struct vtest *v)
{
	if (!v)
		return;
	v->state = VTEST_STATE_ENDED;
	/* What is in custody stays there: a successor may be using it. */
	v->keep = NULL;
	loop_remove(v->source);
	vtest_pace_finish(v);
	/* First the device lets go of fences and backing, then their memory goes. */
	device_client_destroy(v->client);
	vtest_syncs_finish(v);
	vtest_resources_finish(v);
	vtest_shm_finish(v);
	vtest_output_finish(v);
	vtest_input_finish(v);
	close_fd(&v->fd);
	free(v);
}

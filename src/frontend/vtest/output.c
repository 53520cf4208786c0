/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Answers are queued while a message is executed and sent once it is marked executed, so that a
 * successor never does again what the client has seen the answer to. While the client keeps
 * reading, which it does because it waits for each, an answer is one send. What the socket does not
 * take stays queued within a bound; a client past it has stopped reading and is ended, so it can
 * block nobody.
 *
 * `produced` counts the bytes of all answers there ever were. A successor produces those since the
 * image again; as many as the kernel says were sent are dropped.
 */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "state/section.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define VTEST_OUTPUT_MAX_COUNT 1024u

struct vtest_message {
	struct vtest_message *next;
	struct vtest_pass pass; /* rides with the first byte; kind 0: none, or sent */
	bool owned;             /* pass.fd is ours; false: the handler's, until it is answered */
	bool drop;              /* nobody else needs it: out of custody once it is sent */
	size_t len, done;
	uint8_t bytes[];
};

static int vtest_message_own(struct vtest *v, struct vtest_message *message, int fd)
{
	struct vtest_output *out = &v->out;

	if (out->fds >= VTEST_QUEUED_FDS || v->budget->fds >= v->budget->max_fds)
		return vtest_fail(v, -ENOBUFS, "the client does not take its file descriptors");
	message->pass.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (message->pass.fd < 0)
		return -errno;
	message->owned = true;
	out->fds++;
	v->budget->fds++;
	return 0;
}

static int vtest_enqueue(
	struct vtest *v, const void *buf, size_t len, const struct vtest_pass *pass)
{
	struct vtest_output *out = &v->out;
	struct vtest_message *message;

	if (out->bytes > VTEST_OUTPUT_MAX || out->count >= VTEST_OUTPUT_MAX_COUNT)
		return vtest_fail(v, -ENOBUFS, "the client does not read its answers");
	if (vtest_buffers_charge(v, len) < 0)
		return vtest_fail(v, -ENOBUFS, "too much is unread on all connections together");
	message = malloc(sizeof(*message) + len);
	if (!message) {
		vtest_buffers_uncharge(v, len);
		return -ENOMEM;
	}
	*message = (struct vtest_message){.len = len, .pass = {.fd = -1}};
	if (pass)
		message->pass = *pass;
	memcpy(message->bytes, buf, len);
	*out->last = message;
	out->last = &message->next;
	out->bytes += len;
	out->count++;
	return 0;
}

int vtest_send(struct vtest *v, const void *buf, size_t len, const struct vtest_pass *pass)
{
	struct vtest_output *out = &v->out;
	uint64_t at = out->produced;

	if (!len)
		return 0;
	out->produced += len;
	if (at < out->sent_already) {
		size_t sent = (size_t)MIN(len, out->sent_already - at);
		/* The descriptor went with the first byte. */
		return sent == len
			       ? 0
			       : vtest_enqueue(v, (const uint8_t *)buf + sent, len - sent, NULL);
	}
	return vtest_enqueue(v, buf, len, pass);
}

bool vtest_send_owns(struct vtest *v, int fd)
{
	struct vtest_output *out = &v->out;

	for (struct vtest_message *message = out->first; message; message = message->next) {
		if (message->owned || message->pass.fd != fd || fd < 0)
			continue;
		message->owned = message->drop = true;
		out->fds++;
		v->budget->fds++;
		return true;
	}
	return false;
}

int vtest_reply(struct vtest *v, uint32_t len, uint32_t id, const uint32_t *dwords, size_t n)
{
	uint32_t message[8] = {len, id};

	if (n > 6)
		return -EINVAL;
	if (n)
		memcpy(message + 2, dwords, n * sizeof(*dwords));
	return vtest_send(v, message, (2 + n) * sizeof(*message), NULL);
}

static void vtest_message_close_fd(struct vtest *v, struct vtest_message *message)
{
	struct vtest_pass pass = message->pass;

	message->pass = (struct vtest_pass){.fd = -1};
	if (message->owned) {
		close_fd(&pass.fd);
		v->out.fds--;
		v->budget->fds--;
		message->owned = false;
	}
	if (message->drop)
		vtest_drop(v, pass.kind, pass.number);
	message->drop = false;
}

static void vtest_dequeue(struct vtest *v)
{
	struct vtest_output *out = &v->out;
	struct vtest_message *message = out->first;

	out->first = message->next;
	if (!out->first)
		out->last = &out->first;
	out->count--;
	out->bytes -= message->len - message->done;
	vtest_message_close_fd(v, message);
	vtest_buffers_uncharge(v, message->len);
	free(message);
}

/* 0: the socket is full. A peer that is gone is noticed when reading. */
static ssize_t vtest_send_some(struct vtest *v, const struct vtest_message *message)
{
	size_t len = message->len - message->done;
	ssize_t n = vtest_input_open(v);

	if (n < 0)
		return n;
	n = durable_send(
		&v->in.wire->durable, v->fd, message->bytes + message->done, len, message->pass.fd);
	if (n == -EAGAIN || n == -EWOULDBLOCK || n == -EINTR)
		return 0;
	if (n == -EPIPE || n == -ECONNRESET)
		return (ssize_t)len;
	return n;
}

int vtest_output_flush(struct vtest *v)
{
	struct vtest_output *out = &v->out;

	while (out->first) {
		struct vtest_message *message = out->first;
		ssize_t n = vtest_send_some(v, message);
		if (n <= 0)
			return (int)n;
		vtest_message_close_fd(v, message);
		message->done += (size_t)n;
		out->bytes -= (size_t)n;
		if (message->done == message->len)
			vtest_dequeue(v);
	}
	return 0;
}

int vtest_answer(struct vtest *v)
{
	/* That a frame is done which came too soon is told later. */
	int err = 0;

	if (v->out.first) {
		v->linger.answers = true;
		v->linger.last = v->linger.frame_over ? VTEST_LINGER_FRAME : VTEST_LINGER_REQUEST;
	}
	v->linger.frame_over = false;
	if (!v->frozen && !v->hold_ns)
		err = vtest_output_flush(v);

	for (struct vtest_message *message = v->out.first; message && !err; message = message->next)
		if (message->pass.fd >= 0 && !message->owned)
			err = vtest_message_own(v, message, message->pass.fd);
	if (v->answered)
		vtest_shm_sent(v, &v->answered->shm);
	v->answered = NULL;
	return err;
}

bool vtest_output_holds(struct vtest *v, uint32_t kind, uint64_t number)
{
	for (struct vtest_message *message = v->out.first; message; message = message->next) {
		if (message->pass.kind == kind && message->pass.number == number) {
			message->drop = true;
			return true;
		}
	}
	return false;
}

/* ---- saving and loading ---- */

void vtest_output_save(struct vtest *v, struct state_writer *w)
{
	state_put_u32(w, v->out.count);
	for (const struct vtest_message *m = v->out.first; m; m = m->next) {
		state_put_u32(w, (uint32_t)(m->len - m->done));
		state_put_u32(w, m->pass.kind);
		state_put_u64(w, m->pass.number);
		state_put_u32(w, m->drop);
		state_put(w, m->bytes + m->done, m->len - m->done);
	}
}

static int vtest_message_load(struct vtest *v, struct state_reader *r)
{
	struct vtest_output *out = &v->out;
	uint32_t len = state_get_u32(r);
	struct vtest_pass pass = {.fd = -1, .kind = state_get_u32(r)};
	pass.number = state_get_u64(r);
	bool drop = state_get_u32(r);
	const void *bytes = state_take(r, len);
	unsigned before = out->count;

	if (!bytes || !len ||
		(pass.kind && pass.kind != KEEPER_CUSTODY_SHARED &&
			pass.kind != KEEPER_CUSTODY_EVENT))
		return -EBADMSG;
	int err = vtest_send(v, bytes, len, &pass);
	if (err || !pass.kind)
		return err;
	struct vtest_message *message =
		out->count > before ? container_of(out->last, struct vtest_message, next) : NULL;
	if (message && message->pass.kind) {
		message->drop = drop;
		return ++out->pending > VTEST_QUEUED_FDS ? -EBADMSG : 0;
	}
	/* Sent since; the predecessor may not have come to this any more. */
	if (drop)
		vtest_drop(v, pass.kind, pass.number);
	return 0;
}

int vtest_output_load(struct vtest *v, struct state_reader *r)
{
	uint32_t count = state_get_u32(r);
	int err = count > VTEST_OUTPUT_MAX_COUNT ? -EBADMSG : 0;

	for (uint32_t i = 0; i < count && !err; i++)
		err = vtest_message_load(v, r);
	return err;
}

int vtest_output_give(struct vtest *v, uint32_t kind, uint64_t number, int fd)
{
	if (!v->out.pending)
		return 0;
	for (struct vtest_message *message = v->out.first; message; message = message->next) {
		if (message->pass.kind != kind || message->pass.number != number ||
			message->pass.fd >= 0)
			continue;
		v->out.pending--;
		return vtest_message_own(v, message, fd);
	}
	return 0;
}

int vtest_output_take(struct vtest *v)
{
	for (struct vtest_message *message = v->out.first; message; message = message->next) {
		if (!message->pass.kind || message->pass.fd >= 0)
			continue;
		cleanup_close int fd = vtest_take(v, message->pass.kind, message->pass.number);
		int err = fd < 0 ? fd : vtest_message_own(v, message, fd);
		if (err < 0)
			return err;
		v->out.pending--;
	}
	return 0;
}

void vtest_output_finish(struct vtest *v)
{
	while (v->out.first)
		vtest_dequeue(v);
}

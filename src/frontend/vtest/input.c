/* SPDX-License-Identifier: Apache-2.0 */

/*
 * One linear buffer: messages are handled where they were received, so a command stream is never
 * copied. It grows with what has really arrived, never by what a length field promises, and shrinks
 * again once a large message was handled.
 */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/fdpass.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Two of the largest command buffers Mesa sends fit. */
#define VTEST_INPUT_BASE (576u << 10)

int vtest_buffers_charge(struct vtest *v, uint64_t bytes)
{
	if (!range_inside(v->budget->buffers, bytes, VTEST_ALL_BUFFERS))
		return -ENOMEM;
	v->budget->buffers += bytes;
	return 0;
}

void vtest_buffers_uncharge(struct vtest *v, uint64_t bytes)
{
	v->budget->buffers -= bytes;
}

static size_t vtest_input_beyond_base(size_t capacity)
{
	return capacity > VTEST_INPUT_BASE ? capacity - VTEST_INPUT_BASE : 0;
}

static int vtest_input_resize(struct vtest *v, size_t capacity)
{
	struct vtest_input *in = &v->in;
	int err = vtest_buffers_charge(v, vtest_input_beyond_base(capacity));

	if (err < 0)
		return err;
	uint8_t *buf = malloc(capacity);
	if (!buf) {
		vtest_buffers_uncharge(v, vtest_input_beyond_base(capacity));
		return -ENOMEM;
	}
	vtest_buffers_uncharge(v, vtest_input_beyond_base(in->capacity));
	if (in->buf && in->end > in->start)
		memcpy(buf, in->buf + in->start, in->end - in->start);
	free(in->buf);
	*in = (struct vtest_input){
		.buf = buf,
		.capacity = capacity,
		.end = in->end - in->start,
		.eof = in->eof,
	};
	return 0;
}

/* Makes room behind `end`; `need`: bytes that should lie in the buffer at the end. */
static int vtest_input_reserve(struct vtest *v, size_t need)
{
	struct vtest_input *in = &v->in;
	size_t used = in->end - in->start;

	if (!in->buf)
		return vtest_input_resize(v, VTEST_INPUT_BASE);
	if (in->start && (in->end == in->capacity || in->start + need > in->capacity)) {
		memmove(in->buf, in->buf + in->start, used);
		in->start = 0;
		in->end = used;
	}
	if (in->end < in->capacity)
		return 0;
	return vtest_input_resize(v, 2 * in->capacity);
}

int vtest_input_receive(struct vtest *v, size_t need)
{
	struct vtest_input *in = &v->in;
	struct fdpass_fds fds;
	ssize_t n;
	int err = vtest_input_reserve(v, need);

	if (err)
		return vtest_fail(v, err, "no memory to receive into");
	n = fdpass_recv(v->fd, in->buf + in->end, in->capacity - in->end, MSG_DONTWAIT, &fds);
	if (n == -EAGAIN)
		return 0;
	if (n == -E2BIG || fds.count) {
		fdpass_close(&fds);
		return vtest_fail(v, -EPROTO, "sent file descriptors, which no command takes");
	}
	if (n <= 0) {
		/* A reset is how a peer that was killed ends; it is no fault of the protocol. */
		in->eof = true;
		return 0;
	}
	in->end += (size_t)n;
	return 1;
}

/* Bytes the payload has on the wire, as far as the bytes that are present tell. */
static int vtest_payload_size(struct vtest *v, const struct vtest_command *command, uint32_t len,
	const uint8_t *payload, size_t present, size_t *ret)
{
	struct vtest_transfer transfer;

	switch (command->payload) {
	case VTEST_PAYLOAD_DWORDS:
		*ret = (size_t)len * 4;
		return 0;
	case VTEST_PAYLOAD_BYTES:
		*ret = len;
		return 0;
	case VTEST_PAYLOAD_HEADER_ONLY:
		*ret = sizeof(struct vtest_transfer2);
		return 0;
	case VTEST_PAYLOAD_INLINE:
		break;
	}
	*ret = sizeof(transfer);
	if (present < sizeof(transfer))
		return 0;
	memcpy(&transfer, payload, sizeof(transfer));
	if (transfer.data_size > VTEST_INLINE_MAX ||
		len != sizeof(transfer) / 4 + (transfer.data_size + 3) / 4)
		return vtest_fail(
			v, -EPROTO, "%s: its length and its data size differ", command->name);
	*ret += transfer.data_size;
	return 0;
}

int vtest_input_peek(
	struct vtest *v, size_t at, uint32_t *ret_id, uint8_t **ret_payload, size_t *ret_size)
{
	const struct vtest_input *in = &v->in;
	size_t have = in->end - in->start;
	const struct vtest_command *command;
	uint32_t header[2];
	size_t size;
	int err;

	*ret_size = VTEST_HEADER_SIZE;
	if (have < at || have - at < VTEST_HEADER_SIZE)
		return 0;
	have -= at;
	memcpy(header, in->buf + in->start + at, sizeof(header));
	command = vtest_command(header[1]);
	if (!command)
		return vtest_fail(v, -EPROTO, "unknown command %u", header[1]);
	if (header[0] < command->min || header[0] > command->max)
		return vtest_fail(v, -EPROTO, "%s: length %u is not in %u..%u", command->name,
			header[0], command->min, command->max);
	if (command->since > VTEST_VERSION_MAX)
		return vtest_fail(v, -EPROTO, "%s: not offered, needs protocol %u", command->name,
			command->since);
	*ret_payload = in->buf + in->start + at + VTEST_HEADER_SIZE;
	err = vtest_payload_size(
		v, command, header[0], *ret_payload, have - VTEST_HEADER_SIZE, &size);
	if (err)
		return err;
	*ret_id = header[1];
	*ret_size = VTEST_HEADER_SIZE + size;
	return have >= *ret_size;
}

void vtest_input_consume(struct vtest *v, size_t bytes)
{
	struct vtest_input *in = &v->in;

	in->start += bytes;
	if (in->start == in->end)
		in->start = in->end = 0;
	if (in->capacity > VTEST_INPUT_BASE && in->end - in->start <= VTEST_INPUT_BASE / 2) {
		if (!vtest_input_resize(v, VTEST_INPUT_BASE))
			return;
	}
	if (in->start % 4) {
		memmove(in->buf, in->buf + in->start, in->end - in->start);
		in->end -= in->start;
		in->start = 0;
	}
}

void vtest_input_finish(struct vtest *v)
{
	free(v->in.buf);
	vtest_buffers_uncharge(v, vtest_input_beyond_base(v->in.capacity));
	v->in = (struct vtest_input){0};
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Received bytes lie in a ring that is mapped twice, back to back: every message is contiguous, is
 * handled where it was received, and nothing is ever moved. The ring grows with what has really
 * arrived, never by what a length field promises, and shrinks again once a large message was
 * handled; it grows by becoming another one.
 *
 * The ring and the counts of what was received and sent are one memfd, the *wire*. In custody it
 * outlives the process, which may be killed at any instruction. A successor must then know which
 * bytes of the stream are there and not yet consumed:
 *
 *   received  is written by the kernel (base/durable.h);
 *   consumed  is the position of the journal's last record, or the image's;
 *   where     byte s of the stream lies at (s - zero_at) % capacity. `zero_at` changes only while
 *             everything received is consumed, with one store: there are no bytes that either
 *             value could misplace. (It keeps the next message aligned and in warm memory.)
 *
 * Our own `consumed` never runs ahead of the journal's, so new bytes overwrite only bytes that no
 * successor asks for. Another wire is complete, with the same counts and the same unconsumed bytes,
 * before it goes into custody in the place of the old one; until that is done the old one is used,
 * and nothing is received or sent in between: whichever of the two a successor gets is right.
 *
 * A predecessor's wire is read once and copied into one of our own before the first byte is
 * received, because a predecessor that was taken over may still have it mapped.
 */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Two of the largest command buffers Mesa sends fit. */
#define VTEST_INPUT_BASE (576u << 10)
/* The largest message fits: VTEST_INLINE_MAX and its header. */
#define VTEST_INPUT_MAX    ((size_t)VTEST_INPUT_BASE << 7)
#define VTEST_WIRE_PAGE    4096u
#define VTEST_WIRE_MAGIC   0x52495756u /* "VWIR" */
#define VTEST_WIRE_VERSION 1u

_Static_assert(sizeof(struct vtest_wire) <= VTEST_WIRE_PAGE, "one page");
_Static_assert(VTEST_INPUT_MAX > VTEST_INLINE_MAX + 4096, "every message fits");

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

static size_t vtest_input_beyond_base(const struct vtest_input *in)
{
	return in->capacity > VTEST_INPUT_BASE ? in->capacity - VTEST_INPUT_BASE : 0;
}

static void vtest_input_unmap(struct vtest *v)
{
	struct vtest_input *in = &v->in;

	if (!in->wire)
		return;
	munmap(in->wire, VTEST_WIRE_PAGE + 2 * in->capacity);
	if (!in->foreign)
		vtest_buffers_uncharge(v, vtest_input_beyond_base(in));
	in->wire = NULL;
	in->capacity = 0;
	in->foreign = false;
}

/* The page, the ring, and the ring once more behind it. */
static int vtest_wire_map(int fd, size_t capacity, struct vtest_wire **ret)
{
	const int prot = PROT_READ | PROT_WRITE;
	size_t size = VTEST_WIRE_PAGE + 2 * capacity;
	uint8_t *at =
		mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return -errno;
	if (mmap(at, VTEST_WIRE_PAGE + capacity, prot, MAP_SHARED | MAP_FIXED, fd, 0) ==
			MAP_FAILED ||
		mmap(at + VTEST_WIRE_PAGE + capacity, capacity, prot, MAP_SHARED | MAP_FIXED, fd,
			VTEST_WIRE_PAGE) == MAP_FAILED) {
		int err = -errno;
		munmap(at, size);
		return err;
	}
	*ret = (struct vtest_wire *)at;
	return 0;
}

static int vtest_wire_make(size_t capacity, int *ret_fd, struct vtest_wire **ret)
{
	cleanup_close int fd = memfd_create("wire", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int err;

	if (fd < 0 || ftruncate(fd, (off_t)(VTEST_WIRE_PAGE + capacity)) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	err = vtest_wire_map(fd, capacity, ret);
	if (!err)
		*ret_fd = TAKE_FD(fd);
	return err;
}

/* Goes on in another wire. Everything that is not consumed comes along. */
static int vtest_input_resize(struct vtest *v, size_t capacity)
{
	struct vtest_input *in = &v->in;
	struct vtest_input made = {.capacity = capacity,
		.received = in->received,
		.consumed = in->consumed,
		.eof = in->eof};
	uint64_t sent = v->out.sent_already;
	cleanup_close int fd = -1;
	int err = vtest_buffers_charge(v, vtest_input_beyond_base(&made));

	if (err < 0)
		return err;
	err = vtest_wire_make(capacity, &fd, &made.wire);
	if (err < 0 || !made.wire)
		goto fail_charge;
	if (in->wire && !in->foreign)
		sent = durable_sent(&in->wire->durable);
	made.ring = (uint8_t *)made.wire + VTEST_WIRE_PAGE;
	made.wire->magic = VTEST_WIRE_MAGIC;
	made.wire->version = VTEST_WIRE_VERSION;
	made.wire->capacity = capacity;
	made.wire->zero_at = in->consumed;
	made.wire->durable.in.before[0] = in->received;
	made.wire->durable.out.before[0] = sent;
	if (vtest_input_left(in))
		memcpy(made.ring, in->ring + in->start, vtest_input_left(in));
	err = vtest_put(v, KEEPER_CUSTODY_WIRE, 0, VTEST_WIRE_PAGE + capacity, fd);
	if (err < 0)
		goto fail_map;
	vtest_input_unmap(v);
	*in = made;
	return 0;

fail_map:
	munmap(made.wire, VTEST_WIRE_PAGE + 2 * capacity);
fail_charge:
	vtest_buffers_uncharge(v, vtest_input_beyond_base(&made));
	return err;
}

int vtest_input_open(struct vtest *v)
{
	return v->in.wire ? 0 : vtest_input_resize(v, VTEST_INPUT_BASE);
}

/* Makes room for at least one more byte. */
static int vtest_input_reserve(struct vtest *v)
{
	struct vtest_input *in = &v->in;
	size_t left = vtest_input_left(in);

	if (!in->wire)
		return vtest_input_open(v);
	if (!left) {
		in->start = 0;
		__atomic_store_n(&in->wire->zero_at, in->consumed, __ATOMIC_RELEASE);
	}
	if (left < in->capacity)
		return 0;
	return in->capacity < VTEST_INPUT_MAX ? vtest_input_resize(v, 2 * in->capacity) : -EMSGSIZE;
}

int vtest_input_receive(struct vtest *v)
{
	struct vtest_input *in = &v->in;
	struct fdpass_fds fds;
	ssize_t n;
	int err = vtest_input_reserve(v);

	if (err || !in->capacity)
		return vtest_fail(v, err, "no memory to receive into");
	size_t left = vtest_input_left(in);
	n = durable_recv(&in->wire->durable, v->fd, in->ring + (in->start + left) % in->capacity,
		in->capacity - left, &fds);
	if (n == -EAGAIN || n == -EINTR)
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
	in->received += (uint64_t)n;
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

int vtest_message_parse(
	struct vtest *v, const uint8_t *bytes, size_t have, uint32_t *ret_id, size_t *ret_size)
{
	const struct vtest_command *command;
	uint32_t header[2];
	size_t size;
	int err;

	if (have < VTEST_HEADER_SIZE)
		return 0;
	memcpy(header, bytes, sizeof(header));
	command = vtest_command(header[1]);
	if (!command)
		return vtest_fail(v, -EPROTO, "unknown command %u", header[1]);
	if (header[0] < command->min || header[0] > command->max)
		return vtest_fail(v, -EPROTO, "%s: length %u is not in %u..%u", command->name,
			header[0], command->min, command->max);
	if (command->since > VTEST_VERSION_MAX)
		return vtest_fail(v, -EPROTO, "%s: not offered, needs protocol %u", command->name,
			command->since);
	err = vtest_payload_size(
		v, command, header[0], bytes + VTEST_HEADER_SIZE, have - VTEST_HEADER_SIZE, &size);
	if (err)
		return err;
	*ret_id = header[1];
	*ret_size = VTEST_HEADER_SIZE + size;
	return have >= *ret_size;
}

int vtest_input_peek(
	struct vtest *v, size_t at, uint32_t *ret_id, uint8_t **ret_message, size_t *ret_size)
{
	const struct vtest_input *in = &v->in;
	size_t left = vtest_input_left(in);

	if (left <= at)
		return 0;
	*ret_message = in->ring + (in->start + at) % in->capacity;
	return vtest_message_parse(v, *ret_message, left - at, ret_id, ret_size);
}

void vtest_input_consume(struct vtest *v, size_t bytes)
{
	struct vtest_input *in = &v->in;

	in->consumed += bytes;
	in->start = (in->start + bytes) % in->capacity;
	/* If that fails, the large one goes on being used. */
	if (in->capacity > VTEST_INPUT_BASE && vtest_input_left(in) <= VTEST_INPUT_BASE / 2)
		(void)vtest_input_resize(v, VTEST_INPUT_BASE);
}

int vtest_input_load(struct vtest *v, int fd, uint64_t *ret_sent)
{
	struct vtest_input *in = &v->in;
	cleanup_close int wire_fd = fd;
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;
	int err;

	/* Mapped memory that somebody can shorten ends whoever reads it. */
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0)
		return -EBADMSG;
	if (st.st_size < VTEST_WIRE_PAGE + VTEST_INPUT_BASE ||
		(uint64_t)st.st_size > VTEST_WIRE_PAGE + VTEST_INPUT_MAX || st.st_size % 4096)
		return -EBADMSG;
	in->capacity = (size_t)st.st_size - VTEST_WIRE_PAGE;
	err = vtest_wire_map(wire_fd, in->capacity, &in->wire);
	if (err < 0)
		return err;
	in->foreign = true;
	in->ring = (uint8_t *)in->wire + VTEST_WIRE_PAGE;
	const struct vtest_wire wire = *in->wire;
	if (wire.magic != VTEST_WIRE_MAGIC || wire.version != VTEST_WIRE_VERSION ||
		wire.capacity != in->capacity)
		return -EBADMSG;
	in->received = durable_received(&wire.durable);
	*ret_sent = durable_sent(&wire.durable);
	/* Kept until what is consumed is known; the subtraction may wrap, the ring does not. */
	in->start = (size_t)wire.zero_at;
	return 0;
}

int vtest_input_adopt(struct vtest *v)
{
	struct vtest_input *in = &v->in;
	uint64_t zero_at = in->start;
	size_t capacity = VTEST_INPUT_BASE;

	if (!in->wire)
		return vtest_input_open(v);
	if (!in->foreign)
		return 0;
	if (in->consumed > in->received || in->received - in->consumed > in->capacity ||
		(in->received != in->consumed && zero_at > in->consumed))
		return vtest_fail(v, -EBADMSG, "what was received and what was done differ");
	in->start = (size_t)((in->consumed - zero_at) % in->capacity);
	while (capacity < vtest_input_left(in))
		capacity *= 2;
	return vtest_input_resize(v, capacity);
}

void vtest_input_finish(struct vtest *v)
{
	vtest_input_unmap(v);
	v->in = (struct vtest_input){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "front.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fdpass.h"

#include "frontend/vhost_user/guard.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define SPIN_ROUNDS 12u

static int count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* ---- the keeper's side ---- */

static void on_custody(void *data, const struct keeper_custody *custody, int fd)
{
	struct front *f = data;
	assert_true(fd >= 0);
	f->custody[custody->kind]++;
}

static void on_release(void *data, const struct keeper_custody *custody)
{
	struct front *f = data;
	f->released[custody->kind]++;
}

static void on_memory_done(void *data, uint32_t serial)
{
	struct front *f = data;
	f->serial = serial;
	if (!f->silent_keeper)
		vhost_user_memory_verdict(f->vu, serial, !f->refuse_memory, "taken by another");
}

static void on_closed(void *data, const char *reason)
{
	struct front *f = data;
	assert_false(f->closed);
	f->closed = true;
	snprintf(f->reason, sizeof(f->reason), "%s", reason);
	vhost_user_destroy(TAKE_PTR(f->vu));
}

static const struct vhost_user_ops front_ops = {
	.custody = on_custody,
	.release = on_release,
	.memory_done = on_memory_done,
	.closed = on_closed,
};

static int on_state_save(void *data, int fd, bool dry)
{
	struct front *f = data;

	if (f->refuse_state)
		return -EBUSY;
	assert_int_equal(write(fd, f->state, f->state_size), f->state_size);
	return 0;
}

static int on_state_load(void *data, int fd)
{
	struct front *f = data;

	if (f->refuse_state)
		return -EBADMSG;
	f->state_size = (size_t)lseek(fd, 0, SEEK_END);
	f->state = realloc(f->state, f->state_size + 1);
	assert_int_equal(pread(fd, f->state, f->state_size, 0), f->state_size);
	return 0;
}

static const struct vhost_user_ops front_ops_with_state = {
	.custody = on_custody,
	.release = on_release,
	.memory_done = on_memory_done,
	.closed = on_closed,
	.state_save = on_state_save,
	.state_load = on_state_load,
};

void front_connect(struct front *f)
{
	const struct vhost_user_ops *ops = f->with_state ? &front_ops_with_state : &front_ops;
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close_fd(&f->socket);
	f->socket = pair[0];
	f->closed = false;
	assert_int_equal(vhost_user_create(&f->dev, f->loop, pair[1], ops, f, &f->vu), 0);
}

int front_setup(void **state)
{
	struct front *f = calloc(1, sizeof(*f));

	f->fds_before = count_fds();
	f->socket = -1;
	assert_int_equal(guard_install_sigbus_handler(), 0);
	fake_device_init(&f->dev);
	assert_int_equal(loop_create(&f->loop), 0);
	front_connect(f);
	front_make_guest(f);
	*state = f;
	return 0;
}

void front_make_guest(struct front *f)
{
	f->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->memory_fd, FRONT_MEMORY), 0);
	f->memory = mmap(NULL, FRONT_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, f->memory_fd, 0);
	assert_ptr_not_equal(f->memory, MAP_FAILED);
	for (unsigned i = 0; i < 2; i++) {
		f->kick[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		f->call[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		f->err[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	}
}

int front_teardown(void **state)
{
	struct front *f = *state;

	vhost_user_destroy(f->vu);
	assert_null(f->dev.display);
	assert_null(f->dev.gpu);
	loop_destroy(f->loop);
	munmap(f->memory, FRONT_MEMORY);
	close(f->memory_fd);
	close_fd(&f->socket);
	for (unsigned i = 0; i < 2; i++) {
		close(f->kick[i]);
		close(f->call[i]);
		close(f->err[i]);
	}
	free(f->state);
	int leaked = count_fds() - f->fds_before;
	free(f);
	assert_int_equal(leaked, 0);
	return 0;
}

/* ---- running ---- */

static bool front_round(void *data)
{
	struct front *f = data;
	if (f->rounds++ >= SPIN_ROUNDS)
		loop_quit(f->loop, 0);
	return true;
}

void front_spin(struct front *f)
{
	if (f->turn) {
		f->turn(f);
		return;
	}
	f->rounds = 0;
	loop_set_idle(f->loop, front_round, f);
	assert_int_equal(loop_run(f->loop), 0);
}

void front_wait(struct front *f, unsigned ms)
{
	uint64_t until = clock_ms() + ms;

	while (clock_ms() < until) {
		front_spin(f);
		usleep(500);
	}
}

void front_wait_change(struct front *f, const volatile uint16_t *value, uint16_t was)
{
	uint64_t until = clock_ms() + 10000;

	while (*value == was && clock_ms() < until) {
		front_spin(f);
		usleep(500);
	}
	front_spin(f);
	assert_int_not_equal(*value, was);
}

/* ---- messages ---- */

void front_send_raw(struct front *f, const void *bytes, size_t size, const int *fds, unsigned n_fds)
{
	assert_int_equal(fdpass_send(f->socket, bytes, size, fds, n_fds), size);
}

void front_send(struct front *f, uint32_t request, uint32_t flags, const void *payload,
	uint32_t size, const int *fds, unsigned n_fds)
{
	uint8_t buf[VHOST_USER_HEADER_SIZE + VHOST_USER_MAX_PAYLOAD];
	uint32_t header[3] = {request, flags | VHOST_USER_VERSION, size};

	memcpy(buf, header, sizeof(header));
	if (size)
		memcpy(buf + sizeof(header), payload, size);
	front_send_raw(f, buf, sizeof(header) + size, fds, n_fds);
}

bool front_receive(struct front *f, struct front_message *ret)
{
	uint8_t header[VHOST_USER_HEADER_SIZE];
	struct fdpass_fds fds;

	ssize_t n = fdpass_recv(f->socket, header, sizeof(header), MSG_DONTWAIT, &fds);
	if (n == -EAGAIN || n == 0)
		return false;
	assert_int_equal(n, sizeof(header));
	memcpy(&ret->request, header, 4);
	memcpy(&ret->flags, header + 4, 4);
	memcpy(&ret->size, header + 8, 4);
	assert_int_equal(ret->flags, VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY);
	assert_true(ret->size <= sizeof(ret->payload));
	ret->fd = fdpass_take(&fds);
	fdpass_close(&fds);
	if (ret->size)
		assert_int_equal(recv(f->socket, ret->payload, ret->size, MSG_DONTWAIT), ret->size);
	return true;
}

static uint64_t front_answer(struct front *f, uint32_t request)
{
	struct front_message m = {0};
	uint64_t value;

	front_spin(f);
	assert_true(front_receive(f, &m));
	assert_int_equal(m.request, request);
	assert_int_equal(m.size, 8);
	assert_int_equal(m.fd, -1);
	memcpy(&value, m.payload, 8);
	return value;
}

uint64_t front_get(struct front *f, uint32_t request)
{
	front_send(f, request, 0, NULL, 0, NULL, 0);
	return front_answer(f, request);
}

uint64_t front_ack(struct front *f, uint32_t request, const void *payload, uint32_t size, int fd)
{
	front_send(f, request, VHOST_USER_FLAG_NEED_REPLY, payload, size, &fd, fd >= 0 ? 1 : 0);
	return front_answer(f, request);
}

void front_expect_closed(struct front *f, const char *reason_part)
{
	front_spin(f);
	assert_true(f->closed);
	if (!strstr(f->reason, reason_part))
		fail_msg("closed with \"%s\", expected \"%s\"", f->reason, reason_part);
	if (!*reason_part)
		assert_string_equal(f->reason, "");
}

/* ---- a start as QEMU does it ---- */

void front_negotiate(struct front *f, uint64_t without)
{
	uint64_t features = front_get(f, VHOST_USER_GET_FEATURES);
	uint64_t protocol = front_get(f, VHOST_USER_GET_PROTOCOL_FEATURES);

	front_send(f, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol, 8, NULL, 0);
	assert_int_equal(front_get(f, VHOST_USER_GET_QUEUE_NUM), 2);
	assert_int_equal(front_ack(f, VHOST_USER_SET_OWNER, NULL, 0, -1), 0);
	features &= ~without;
	features |= 1ull << 40; /* RING_RESET, as QEMU 7.2 acknowledges it */
	assert_int_equal(front_ack(f, VHOST_USER_SET_FEATURES, &features, 8, -1), 0);
}

void front_set_memory(struct front *f)
{
	struct vhost_user_mem_table table = {
		.count = 1, .regions = {{FRONT_GPA, FRONT_MEMORY, FRONT_UVA, 0}}};

	assert_int_equal(front_ack(f, VHOST_USER_SET_MEM_TABLE, &table, 40, f->memory_fd), 0);
}

void front_start_ring(struct front *f, unsigned ring, uint16_t base)
{
	struct vhost_user_vring_state num = {ring, FRONT_NUM}, state = {ring, base}, on = {ring, 1};
	struct vhost_user_vring_addr addr = {
		.index = ring,
		.desc = FRONT_UVA + FRONT_DESC(ring),
		.avail = FRONT_UVA + FRONT_AVAIL(ring),
		.used = FRONT_UVA + FRONT_USED(ring),
	};
	uint64_t index = ring;

	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_NUM, &num, 8, -1), 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_BASE, &state, 8, -1), 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_ADDR, &addr, 40, -1), 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_ERR, &index, 8, f->err[ring]), 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_CALL, &index, 8, f->call[ring]), 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_KICK, &index, 8, f->kick[ring]), 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_ENABLE, &on, 8, -1), 0);
}

void front_start(struct front *f, uint64_t without)
{
	front_negotiate(f, without);
	front_set_memory(f);
	front_start_ring(f, 0, 0);
	front_start_ring(f, 1, 0);
	front_events(f->call[0]);
	front_events(f->call[1]);
}

uint16_t front_stop_ring(struct front *f, unsigned ring)
{
	struct vhost_user_vring_state state = {ring, 0};
	struct front_message m = {0};

	front_send(f, VHOST_USER_GET_VRING_BASE, 0, &state, 8, NULL, 0);
	front_spin(f);
	assert_true(front_receive(f, &m));
	assert_int_equal(m.request, VHOST_USER_GET_VRING_BASE);
	assert_int_equal(m.size, 8);
	memcpy(&state, m.payload, 8);
	assert_int_equal(state.index, ring);
	return (uint16_t)state.num;
}

/* ---- the guest's driver ---- */

static struct virtqueue_desc *front_desc(struct front *f, unsigned ring)
{
	return (struct virtqueue_desc *)(f->memory + FRONT_DESC(ring));
}

void front_set_desc(struct front *f, unsigned ring, unsigned i, uint32_t offset, uint32_t len,
	uint16_t flags, uint16_t next)
{
	front_desc(f, ring)[i] = (struct virtqueue_desc){FRONT_GPA + offset, len, flags, next};
}

uint16_t *front_avail_ring(struct front *f, unsigned ring)
{
	return (uint16_t *)(f->memory + FRONT_AVAIL(ring));
}

uint16_t *front_used_ring(struct front *f, unsigned ring)
{
	return (uint16_t *)(f->memory + FRONT_USED(ring));
}

void front_avail(struct front *f, unsigned ring, uint16_t head)
{
	uint16_t *avail = front_avail_ring(f, ring);
	avail[2 + avail[1] % FRONT_NUM] = head;
	avail[1]++;
}

void front_kick(struct front *f, unsigned ring)
{
	uint64_t one = 1;
	assert_int_equal(write(f->kick[ring], &one, sizeof(one)), sizeof(one));
	front_spin(f);
}

uint16_t front_used_idx(struct front *f, unsigned ring)
{
	return front_used_ring(f, ring)[1];
}

struct virtqueue_used front_used(struct front *f, unsigned ring, unsigned i)
{
	struct virtqueue_used used;
	memcpy(&used, front_used_ring(f, ring) + 2 + 4 * (i % FRONT_NUM), sizeof(used));
	return used;
}

uint64_t front_events(int fd)
{
	uint64_t count = 0;
	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

void front_request(struct front *f, unsigned ring, unsigned slot, uint32_t word)
{
	uint32_t at = FRONT_DATA + (ring * 16 + slot) * 256;

	memcpy(f->memory + at, &word, sizeof(word));
	front_set_desc(f, ring, 2 * slot, at, 24, VIRTQUEUE_DESC_NEXT, (uint16_t)(2 * slot + 1));
	front_set_desc(f, ring, 2 * slot + 1, at + 128, 24, VIRTQUEUE_DESC_WRITE, 0);
	front_avail(f, ring, (uint16_t)(2 * slot));
}

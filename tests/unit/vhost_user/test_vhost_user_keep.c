/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The process of a connection ends at every place there is, and another one takes over: the front
 * end, the guest and the viewer must see what they see in a run that nothing disturbed, and the
 * device must have been given the same requests once each. A life ends by a jump out of it, in a
 * process of its own for each run, so that whatever it leaves behind is gone.
 */

#include "life.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/log.h"

#include "protocol/vhost_user_gpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ROUNDS     9u
#define SPINS      14u
#define WAIT_SPINS 400u
#define NO_EVENT   (1ull << VIRTIO_BIT_RING_EVENT_IDX) /* every completion is told of */

struct plan {
	const char *name;
	uint32_t random;
	bool hold, inflight, ask_info;
	uint64_t limit;        /* of the journal */
	uint64_t die_after[2]; /* points passed, of each life; 0: never */
};

struct notes {
	uint64_t points, images, records, processes, regions;
	uint64_t history[2];
	bool finished;
	char why[256];
	size_t n;
	uint8_t bytes[1u << 16];
};

static struct {
	bool armed;
	uint64_t points, left;
	const struct plan *plan;
	unsigned deaths;
	jmp_buf death;
	struct notes *notes;
} fate;

void life_point(void)
{
	if (!fate.armed)
		return;
	fate.points++;
	if (fate.left && --fate.left == 0)
		longjmp(fate.death, 1);
}

void life_failed(int err)
{
	fail_msg("cannot take over: %s", strerror(-err));
}

static void turn(struct front *f)
{
	struct life *l = container_of(f, struct life, front);

	for (volatile unsigned i = 0; i < SPINS; i++) {
		if (setjmp(fate.death)) {
			l->process = NULL; /* what it had is abandoned */
			fate.deaths++;
			fate.left = fate.deaths < 2 && fate.plan ? fate.plan->die_after[fate.deaths]
								 : 0;
		}
		fate.armed = true;
		life_turn(f);
		fate.armed = false;
	}
}

/* ---- a viewer that reads strictly ---- */

struct viewer {
	int fd;
	size_t got;
	uint8_t in[12 + 20 + 65536];
	uint8_t picture[LIFE_SCREEN_W * LIFE_SCREEN_H * 4];
	uint32_t width, height;
	unsigned messages, infos;
};

static void viewer_answer(struct viewer *v, uint32_t request, uint32_t size)
{
	uint8_t buf[12 + 408] = {0};
	uint32_t header[3] = {request, VHOST_USER_GPU_FLAG_REPLY, size};
	uint32_t mode[5] = {0, 0, LIFE_SCREEN_W, LIFE_SCREEN_H, 1};

	memcpy(buf, header, 12);
	if (size == 408)
		memcpy(buf + 12 + 24, mode, sizeof(mode));
	assert_int_equal(send(v->fd, buf, 12 + size, MSG_NOSIGNAL), 12 + size);
}

static void viewer_update(struct viewer *v, const uint8_t *payload, uint32_t size)
{
	struct vhost_user_gpu_update u;

	memcpy(&u, payload, sizeof(u));
	assert_int_equal(size, sizeof(u) + u.width * u.height * 4);
	assert_true(v->width && u.x + u.width <= v->width && u.y + u.height <= v->height);
	for (uint32_t y = 0; y < u.height; y++)
		memcpy(v->picture + ((u.y + y) * v->width + u.x) * 4,
			payload + sizeof(u) + (size_t)y * u.width * 4, (size_t)u.width * 4);
}

static void viewer_handle(struct viewer *v, uint32_t request, uint32_t size)
{
	const uint8_t *payload = v->in + 12;
	uint32_t scanout[3];

	v->messages++;
	switch (request) {
	case VHOST_USER_GPU_GET_PROTOCOL_FEATURES:
		assert_int_equal(size, 0);
		viewer_answer(v, request, 8);
		break;
	case VHOST_USER_GPU_GET_DISPLAY_INFO:
		assert_int_equal(size, 0);
		v->infos++;
		viewer_answer(v, request, 408);
		break;
	case VHOST_USER_GPU_SET_PROTOCOL_FEATURES:
		assert_int_equal(size, 8);
		break;
	case VHOST_USER_GPU_SCANOUT:
		assert_int_equal(size, 12);
		memcpy(scanout, payload, 12);
		v->width = scanout[1];
		v->height = scanout[2];
		assert_true(v->width <= LIFE_SCREEN_W && v->height <= LIFE_SCREEN_H);
		break;
	case VHOST_USER_GPU_UPDATE:
		viewer_update(v, payload, size);
		break;
	default:
		fail_msg("request %u of %u bytes to the viewer", request, size);
	}
}

/* Reads a little each time, so that messages are often half sent. */
static void viewer_read(struct viewer *v, size_t budget)
{
	uint32_t header[3];

	while (budget) {
		size_t end = 12;
		if (v->got >= 12) {
			memcpy(header, v->in, 12);
			assert_int_equal(header[1], 0);
			assert_true(header[2] <= 20 + 65536);
			end += header[2];
		}
		if (v->got >= 12 && v->got == end) {
			viewer_handle(v, header[0], header[2]);
			v->got = 0;
			continue;
		}
		ssize_t n = recv(v->fd, v->in + v->got, MIN(end - v->got, budget), MSG_DONTWAIT);
		if (n < 0)
			return;
		assert_int_not_equal(n, 0);
		v->got += (size_t)n;
		budget -= (size_t)n;
	}
}

/* ---- the script ---- */

struct script {
	struct life life;
	struct viewer viewer;
	struct notes *notes;
	uint16_t used[2]; /* seen of each ring */
	uint32_t word;
};

static void note(struct script *s, const void *bytes, size_t size)
{
	assert_true(s->notes->n + size <= sizeof(s->notes->bytes));
	memcpy(s->notes->bytes + s->notes->n, bytes, size);
	s->notes->n += size;
}

static void note_number(struct script *s, uint64_t number)
{
	note(s, &number, sizeof(number));
}

static void spin(struct script *s)
{
	front_spin(&s->life.front);
	viewer_read(&s->viewer, 40000);
	if (s->life.front.closed)
		fail_msg("closed: %s", s->life.front.reason);
}

static void batch_add(struct script *s, unsigned ring, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		front_request(&s->life.front, ring, i, 1000 * ++s->word);
	uint64_t one = 1;
	assert_int_equal(write(s->life.front.kick[ring], &one, 8), 8);
}

static void batch_wait(struct script *s, unsigned ring, unsigned n)
{
	struct front *f = &s->life.front;
	uint16_t end = (uint16_t)(s->used[ring] + n);

	for (unsigned i = 0; i < WAIT_SPINS && front_used_idx(f, ring) != end; i++)
		spin(s);
	spin(s);
	assert_int_equal(front_used_idx(f, ring), end);
	for (; s->used[ring] != end; s->used[ring]++) {
		struct virtqueue_used used = front_used(f, ring, s->used[ring]);
		note(s, &used, sizeof(used));
		note(s, f->memory + FRONT_DATA + (ring * 16 + used.id / 2) * 256 + 128, 24);
	}
	assert_true(front_events(f->call[ring]) > 0);
	assert_int_equal(front_events(f->err[ring]), 0);
}

static void batch(struct script *s, unsigned ring, unsigned n)
{
	batch_add(s, ring, n);
	batch_wait(s, ring, n);
}

static void do_inflight(struct script *s)
{
	struct front *f = &s->life.front;
	struct vhost_user_inflight in = {.num_queues = 2, .queue_size = FRONT_NUM};
	struct front_message m = {.fd = -1};

	front_send(f, VHOST_USER_GET_INFLIGHT_FD, 0, &in, 24, NULL, 0);
	front_spin(f);
	assert_true(front_receive(f, &m));
	assert_int_equal(m.request, VHOST_USER_GET_INFLIGHT_FD);
	assert_true(m.fd >= 0);
	note(s, m.payload, 24);
	memcpy(&in, m.payload, sizeof(in));
	note_number(s, front_ack(f, VHOST_USER_SET_INFLIGHT_FD, &in, 24, m.fd));
	close(m.fd);
}

static void do_call(struct script *s)
{
	struct front *f = &s->life.front;
	uint64_t index = 0;

	close(f->call[0]);
	f->call[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	note_number(s, front_ack(f, VHOST_USER_SET_VRING_CALL, &index, 8, f->call[0]));
	index = 7;
	note_number(s, front_ack(f, VHOST_USER_SET_VRING_CALL, &index, 8, f->call[0]));
}

static void do_stop(struct script *s)
{
	struct front *f = &s->life.front;
	uint16_t base;

	batch_add(s, 0, 3); /* some may be taken, some not */
	front_kick(f, 0);
	base = front_stop_ring(f, 0);
	front_start_ring(f, 0, base);
	batch_wait(s, 0, 3);
}

static void do_reset(struct script *s)
{
	struct front *f = &s->life.front;

	note_number(s, front_stop_ring(f, 0));
	note_number(s, front_stop_ring(f, 1));
	note_number(s, front_ack(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1));
	memset(f->memory, 0, FRONT_DATA);
	s->used[0] = s->used[1] = 0;
	front_start_ring(f, 0, 0);
	front_start_ring(f, 1, 0);
}

/* As QEMU before 8.2: the driver begins anew, and nobody says so. */
static void do_silent_reset(struct script *s)
{
	struct front *f = &s->life.front;

	note_number(s, front_stop_ring(f, 0));
	note_number(s, front_stop_ring(f, 1));
	memset(f->memory, 0, FRONT_DATA);
	s->used[0] = s->used[1] = 0;
	front_start_ring(f, 0, 0);
	front_start_ring(f, 1, 0);
}

static void do_memory(struct script *s)
{
	struct front *f = &s->life.front;
	struct vhost_user_mem_reg reg = {
		.region = {0x40000000, 0x10000, FRONT_UVA + 0x40000000, 0}};
	cleanup_close int fd = memfd_create("more", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, 0x10000), 0);
	note_number(s, front_ack(f, VHOST_USER_ADD_MEM_REG, &reg, 40, fd));
	batch(s, 0, 2);
	note_number(s, front_ack(f, VHOST_USER_REM_MEM_REG, &reg, 40, -1));
	batch(s, 0, 1);
	struct vhost_user_mem_table table = {
		.count = 2, .regions = {{FRONT_GPA, FRONT_MEMORY, FRONT_UVA, 0}, reg.region}};
	int fds[2] = {f->memory_fd, fd};
	front_send(f, VHOST_USER_SET_MEM_TABLE, 0, &table, 72, fds, 2);
	batch(s, 1, 1);
}

static void do_config(struct script *s)
{
	struct front *f = &s->life.front;
	struct vhost_user_config config = {.size = 4, .data = {9, 8, 7, 6}};
	struct front_message m = {0};

	note_number(s, front_ack(f, VHOST_USER_SET_CONFIG, &config, 16, -1));
	front_send(f, VHOST_USER_GET_CONFIG, 0, &config, 16, NULL, 0);
	front_spin(f);
	assert_true(front_receive(f, &m));
	note(s, m.payload, m.size);
}

static void (*const deeds[ROUNDS])(struct script *) = {
	[1] = do_call,
	[2] = do_stop,
	[4] = do_reset,
	[5] = do_memory,
	[6] = do_config,
	[7] = do_silent_reset,
};

static void script_start(struct script *s)
{
	struct front *f = &s->life.front;
	int pair[2];

	front_negotiate(f, NO_EVENT);
	front_set_memory(f);
	if (fate.plan->inflight)
		do_inflight(s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s->viewer.fd = pair[0];
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &(int){20000}, sizeof(int)), 0);
	front_send(f, VHOST_USER_GPU_SET_SOCKET, 0, NULL, 0, &pair[1], 1);
	close(pair[1]);
	front_start_ring(f, 0, 0);
	front_start_ring(f, 1, 0);
}

static void script_run(struct script *s)
{
	struct front *f = &s->life.front;

	script_start(s);
	for (unsigned round = 0; round < ROUNDS; round++) {
		s->life.paint = round % 3 == 0;
		batch(s, 0, 1 + round % 5);
		batch(s, 1, 1 + round % 3);
		if (deeds[round])
			deeds[round](s);
		batch_add(s, 0, 4);
		batch_add(s, 1, 3);
		batch_wait(s, 0, 4);
		batch_wait(s, 1, 3);
	}
	for (unsigned i = 0; i < 60 || (s->viewer.got && i < WAIT_SPINS); i++)
		spin(s);
	assert_int_equal(s->viewer.got, 0);
	assert_memory_equal(s->viewer.picture, s->life.screen, sizeof(s->viewer.picture));
	note_number(s, front_get(f, VHOST_USER_GET_FEATURES));
}

static void run_here(const struct plan *plan, struct notes *notes)
{
	struct script *s = calloc(1, sizeof(*s));

	fate.plan = plan;
	fate.left = plan->die_after[0];
	fate.notes = s->notes = notes;
	life_init(&s->life);
	s->life.front.turn = turn;
	s->life.hold = plan->hold;
	s->life.ask_info = plan->ask_info;
	s->life.random = plan->random;
	if (plan->limit)
		s->life.limit = plan->limit;
	script_run(s);
	notes->points = fate.points;
	notes->images = s->life.images;
	notes->records = s->life.records;
	notes->processes = s->life.processes;
	notes->regions = life_count(&s->life, KEEPER_CUSTODY_REGION);
	memcpy(notes->history, s->life.process->dev.history, sizeof(notes->history));
	notes->finished = true;
}

static struct notes *notes_new(void)
{
	struct notes *n =
		mmap(NULL, sizeof(*n), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(n, MAP_FAILED);
	return n;
}

static void run(const struct plan *plan, struct notes *notes)
{
	int status;

	notes->n = 0;
	notes->finished = false;
	fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setenv("CMOCKA_TEST_ABORT", "1", 1); /* a failure ends this process */
		alarm(30);
		run_here(plan, notes);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void expect_same(
	const struct plan *plan, const struct notes *got, const struct notes *undisturbed)
{
	bool same = got->finished && got->n == undisturbed->n &&
		    memcmp(got->bytes, undisturbed->bytes, got->n) == 0 &&
		    memcmp(got->history, undisturbed->history, sizeof(got->history)) == 0;

	if (!same)
		fail_msg("%s, deaths after %llu and %llu: %s, %zu of %zu bytes of notes",
			plan->name, (unsigned long long)plan->die_after[0],
			(unsigned long long)plan->die_after[1],
			got->finished ? "other notes" : "not finished", got->n, undisturbed->n);
}

/* Every `step`-th place; VGPU_TEST_THOROUGH=1: every one. */
static void sweep(struct plan plan, unsigned step)
{
	if (getenv("VGPU_TEST_THOROUGH"))
		step = 1;
	struct notes *undisturbed = notes_new(), *got = notes_new();

	run(&plan, undisturbed);
	assert_true(undisturbed->finished);
	uint64_t records = 0, twice = 0;
	for (uint64_t at = 1 + plan.random % step; at <= undisturbed->points; at += step) {
		plan.die_after[0] = at;
		plan.die_after[1] = at / step % 2 ? 0 : 1 + at % 373; /* often while taking over */
		run(&plan, got);
		expect_same(&plan, got, undisturbed);
		assert_true(got->processes >= 2);
		assert_true(got->regions < 40);
		records += got->records;
		twice += got->processes > 2;
	}
	print_message("# %s: %llu points, %llu images undisturbed; %llu records replayed, %llu "
		      "died twice\n",
		plan.name, (unsigned long long)undisturbed->points,
		(unsigned long long)undisturbed->images, (unsigned long long)records,
		(unsigned long long)twice);
	munmap(undisturbed, sizeof(*undisturbed));
	munmap(got, sizeof(*got));
}

static void test_dies_anywhere(void **state)
{
	sweep((struct plan){.name = "prompt"}, 13);
}

static void test_dies_anywhere_with_requests_in_flight(void **state)
{
	sweep((struct plan){.name = "held", .hold = true}, 11);
}

static void test_dies_anywhere_with_a_region_of_the_front_end(void **state)
{
	sweep((struct plan){.name = "region", .hold = true, .inflight = true}, 17);
}

static void test_dies_anywhere_with_images_at_any_time(void **state)
{
	sweep((struct plan){.name = "images", .hold = true, .random = 77}, 29);
	sweep((struct plan){.name = "images 2", .random = 1234567, .inflight = true}, 31);
}

static void test_dies_anywhere_with_a_journal_that_is_full(void **state)
{
	sweep((struct plan){.name = "full", .hold = true, .limit = 65536}, 17);
}

static void test_dies_anywhere_asking_the_viewer(void **state)
{
	sweep((struct plan){.name = "ask", .ask_info = true}, 17);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dies_anywhere),
		cmocka_unit_test(test_dies_anywhere_with_requests_in_flight),
		cmocka_unit_test(test_dies_anywhere_with_a_region_of_the_front_end),
		cmocka_unit_test(test_dies_anywhere_with_images_at_any_time),
		cmocka_unit_test(test_dies_anywhere_with_a_journal_that_is_full),
		cmocka_unit_test(test_dies_anywhere_asking_the_viewer),
	};
	log_init("test", LOG_LEVEL_ERROR);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A random guest on one page of memory, whose device process ends at every boundary of every
 * step: before the record, after it, after executing, after executing was noted, and between the
 * bytes of a payload and its use. A successor loads the image, runs the journal, and goes on; in
 * the end the guest's memory and the state of the vGPU are those of a run without an accident.
 */
#include "state_fixture.h"

#include "device/private.h"
#include "state/journal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define QUOTA     (1u << 20)
#define STEPS     60
#define IMAGE_AT  20 /* step before which the image is made */
#define RESOURCES 6
#define SLOT      256u /* bytes of guest memory of each resource */

enum step_kind {
	STEP_CREATE,
	STEP_DESTROY,
	STEP_TO_HOST,
	STEP_FROM_HOST,
	STEP_DRAW,
	STEP_STREAM_TO_HOST,
	STEP_STREAM_BOTH,
	STEP_QUERY_BEGIN,
	STEP_QUERY_END,
	STEP_FENCE,
	STEP_KINDS
};

struct step {
	uint32_t kind, resource, value;
};

struct guest {
	uint8_t memory[(RESOURCES + 1) * SLOT];
	unsigned at; /* step that comes next */
	uint32_t seed;
	uint32_t exist; /* bit per resource: a stream that names another one is lost */
};

static const uint32_t query_handle = 30, query_buffer = RESOURCES + 1;

static uint32_t guest_random(struct guest *g)
{
	g->seed = g->seed * 1664525u + 1013904223u;
	return g->seed >> 8;
}

/* What the guest does next, and to its own memory before. */
static struct step guest_next(struct guest *g)
{
	struct step s = {guest_random(g) % STEP_KINDS, 1 + guest_random(g) % RESOURCES,
		guest_random(g) % 97};
	uint8_t *slot = g->memory + (s.resource - 1) * SLOT;

	if (!(g->exist & 1u << s.resource) && s.kind < STEP_QUERY_BEGIN)
		s.kind = STEP_CREATE;
	if (s.kind == STEP_CREATE)
		g->exist |= 1u << s.resource;
	if (s.kind == STEP_DESTROY)
		g->exist &= ~(1u << s.resource);
	if (s.kind == STEP_TO_HOST || s.kind == STEP_STREAM_TO_HOST)
		memset(slot, (int)s.value, 64);
	if (s.kind == STEP_QUERY_END)
		memset(g->memory + RESOURCES * SLOT, 0, 4); /* not ready */
	g->at++;
	return s;
}

/* After the step: what was sent is the guest's to change. */
static void guest_goes_on(struct guest *g, const struct step *s)
{
	if (s->kind == STEP_TO_HOST || s->kind == STEP_STREAM_TO_HOST)
		memset(g->memory + (s->resource - 1) * SLOT, 0xee, 64);
}

/* ---- executing ---- */

static void fence_done(struct device_fence *fence)
{
	fence->client = NULL;
}

static void execute_stream(struct device_client *c, const struct step *s)
{
	uint32_t dw[128];
	unsigned n = 0;

	switch (s->kind) {
	case STEP_DRAW:
		n += fake_put_surface(dw + n, 40 + s->value % 5, s->resource);
		n += fake_put_framebuffer(dw + n, 40 + s->value % 5);
		n += fake_put_clear(dw + n, s->value);
		if (s->value % 3 == 0)
			n += fake_put_destroy(dw + n, 40 + s->value % 5);
		break;
	case STEP_STREAM_TO_HOST:
		n += fake_put_clear(dw + n, 1);
		n += fake_put_transfer(dw + n, s->resource, 48, 8, false);
		n += fake_put_clear(dw + n, s->value);
		break;
	case STEP_STREAM_BOTH:
		/* the second reads what the first has written */
		n += fake_put_transfer(dw + n, s->resource, 32, 128, true);
		n += fake_put_clear(dw + n, s->value);
		n += fake_put_transfer(dw + n, s->resource, 32, 128, false);
		n += fake_put_transfer(dw + n, s->resource, 16, 192, true);
		break;
	case STEP_QUERY_BEGIN:
		n += fake_put_query_begin(dw + n, query_handle);
		break;
	case STEP_QUERY_END:
		n += fake_put_query_end(dw + n, query_handle);
		break;
	default:
		return;
	}
	device_submit(c, 1, dw, n);
}

/* `fence` must outlive the device. */
static void execute(struct device_client *c, uint8_t *memory, const struct step *s)
{
	static struct device_fence fence;
	struct iovec iov[2] = {{memory + (s->resource - 1) * SLOT, 100},
		{memory + (s->resource - 1) * SLOT + 100, SLOT - 100}};
	const struct renderer_resource_desc desc = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.bind = 1u << 4,
		.width = SLOT,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	const struct renderer_transfer t = {
		.resource_id = s->resource, .box = {.x = 4, .w = 56, .h = 1, .d = 1}, .offset = 8};

	switch (s->kind) {
	case STEP_CREATE:
		if (device_resource_create(c, s->resource, &desc) == 0) {
			device_resource_attach_backing(c, s->resource, iov, 2);
			device_context_attach(c, 1, s->resource);
		}
		break;
	case STEP_DESTROY:
		device_resource_destroy(c, s->resource);
		break;
	case STEP_TO_HOST:
		device_transfer(c, DEVICE_TO_HOST, &t);
		break;
	case STEP_FROM_HOST:
		device_transfer(c, DEVICE_FROM_HOST, &t);
		break;
	case STEP_FENCE:
		fence.done = fence_done;
		if (!fence.client)
			device_fence(c, 0, &fence);
		device_poll(c->device);
		break;
	default:
		execute_stream(c, s);
	}
}

/* ---- a process ---- */

enum boundary { NOWHERE, BEFORE_RECORD, AFTER_RECORD, AFTER_EXECUTING, AFTER_NOTE, BOUNDARIES };

struct process {
	struct vgpu v;
	struct device_client *client;
	struct journal *journal;
	int fd;
};

static void process_first(struct process *p, struct guest *g)
{
	const struct renderer_resource_desc result = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.bind = 1u << 17,
		.width = 16,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	struct iovec iov = {g->memory + RESOURCES * SLOT, 16};
	uint32_t dw[8];

	vgpu_start(&p->v, &fake_renderer, QUOTA);
	p->journal = NULL;
	p->fd = -1;
	assert_int_equal(device_client_create(p->v.dev, "guest", &p->client), 0);
	assert_int_equal(device_context_create(p->client, 1, 0, "g", 1), 0);
	assert_int_equal(device_resource_create(p->client, query_buffer, &result), 0);
	assert_int_equal(device_resource_attach_backing(p->client, query_buffer, &iov, 1), 0);
	assert_int_equal(device_context_attach(p->client, 1, query_buffer), 0);
	/* surfaces are made again under the same handles, so destroying them first is no matter */
	assert_int_equal(
		device_submit(p->client, 1, dw, fake_put_query(dw, query_handle, query_buffer)), 0);
}

static void process_stop(struct process *p)
{
	vgpu_stop(&p->v);
	journal_destroy(p->journal);
	if (p->fd >= 0)
		close(p->fd);
}

static void process_journal(struct process *p)
{
	assert_int_equal(journal_create(1u << 20, &p->fd, &p->journal), 0);
	device_set_journal(p->v.dev, p->journal);
}

/* False: the process ended there. */
static bool process_step(
	struct process *p, struct guest *g, const struct step *s, enum boundary end)
{
	const struct iovec part = {(void *)(uintptr_t)s, sizeof(*s)};

	if (end == BEFORE_RECORD)
		return false;
	assert_int_equal(journal_record(p->journal, JOURNAL_REQUEST, 1, 0, &part, 1), 0);
	if (end == AFTER_RECORD)
		return false;
	execute(p->client, g->memory, s);
	if (end == AFTER_EXECUTING)
		return false;
	journal_executed(p->journal);
	return end != AFTER_NOTE;
}

static void reattach(struct process *p, struct guest *g)
{
	for (uint32_t handle = 1; handle <= query_buffer; handle++) {
		struct iovec iov[2] = {{g->memory + (handle - 1) * SLOT, 100},
			{g->memory + (handle - 1) * SLOT + 100, SLOT - 100}};
		if (handle == query_buffer)
			iov[0].iov_len = 16;
		if (device_find_resource(p->client, handle))
			assert_int_equal(device_resource_reattach(p->client, handle, iov,
						 handle == query_buffer ? 1 : 2),
				0);
	}
}

/* The dead one's renderer is gone, its buffers with it; the guest's memory is as it was. */
static void process_succeed(
	struct process *next, struct process *dead, const struct image *image, struct guest *g)
{
	struct journal_record record;
	uint8_t before[sizeof(g->memory)];
	char why[256];

	memcpy(before, g->memory, sizeof(before));
	vgpu_stop(&dead->v);
	memcpy(g->memory, before, sizeof(before));
	journal_destroy(dead->journal);
	next->fd = dead->fd;
	assert_int_equal(journal_open(next->fd, 1u << 20, &next->journal), 0);
	vgpu_start(&next->v, &fake_renderer, QUOTA);
	assert_int_equal(image_load(next->v.dev, NULL, image, why), 0);
	next->client = device_client_claim(next->v.dev, 1);
	assert_non_null(next->client);
	reattach(next, g);
	assert_memory_equal(before, g->memory, sizeof(before));
	assert_int_equal(journal_begin_replay(next->journal, true), 0);
	device_set_journal(next->v.dev, next->journal);
	device_replay_begin(next->v.dev);
	while (journal_next(next->journal, &record) == 1) {
		struct step s;
		device_replay_record(next->v.dev, &record);
		journal_replaying(next->journal, &record);
		memcpy(&s, record.bytes, sizeof(s));
		memcpy(before, g->memory, sizeof(before));
		execute(next->client, g->memory, &s);
		/* The guest may look at any time, and has gone on. */
		if (record.executed)
			assert_memory_equal(before, g->memory, sizeof(before));
	}
	assert_int_equal(device_replay_end(next->v.dev), 0);
	journal_end_replay(next->journal);
	journal_executed(next->journal);
}

/* The whole life, with an accident at one boundary of one step; what is left in the end. */
static struct image live(uint32_t seed, unsigned accident, enum boundary end, struct guest *g)
{
	struct process p[2];
	struct process *now = &p[0];
	struct image image = {0};

	*g = (struct guest){.seed = seed};
	process_first(now, g);
	for (unsigned i = 0; i < STEPS; i++) {
		if (i == IMAGE_AT) {
			image = image_save(now->v.dev, false);
			process_journal(now);
		}
		struct step s = guest_next(g);
		enum boundary here = i == accident ? end : NOWHERE;
		if (i < IMAGE_AT) {
			execute(now->client, g->memory, &s);
		} else if (!process_step(now, g, &s, here)) {
			if (here == AFTER_NOTE) /* it may have been told */
				guest_goes_on(g, &s);
			process_succeed(&p[1], now, &image, g);
			now = &p[1];
			if (here == BEFORE_RECORD)
				process_step(now, g, &s, NOWHERE);
		}
		guest_goes_on(g, &s);
	}
	image_free(&image);
	image = image_save(now->v.dev, false);
	assert_int_equal(now->v.stats.contexts_lost_total, 0);
	uint8_t memory[sizeof(g->memory)];
	memcpy(memory, g->memory, sizeof(memory));
	process_stop(now);
	memcpy(g->memory, memory, sizeof(memory));
	return image;
}

static void test_ends_anywhere(void **state)
{
	fake_faults = (struct fake_faults){0};
	for (uint32_t seed = 1; seed <= 12; seed++) {
		struct guest calm, g;
		struct image expected = live(seed, UINT32_MAX, NOWHERE, &calm);
		for (unsigned step = IMAGE_AT; step < STEPS; step++) {
			for (enum boundary end = BEFORE_RECORD; end < BOUNDARIES; end++) {
				struct image got = live(seed, step, end, &g);
				if (!image_equal(&got, &expected))
					fail_msg("seed %u, step %u, boundary %d: another state",
						seed, step, end);
				if (memcmp(calm.memory, g.memory, sizeof(g.memory)) != 0)
					fail_msg("seed %u, step %u, boundary %d: another memory",
						seed, step, end);
				image_free(&got);
			}
		}
		image_free(&expected);
	}
}

static void test_a_record_that_crashes_costs_its_context(void **state)
{
	struct guest g = {.seed = 1};
	struct process p;
	const struct journal_record skipped = {.careful = true, .skip = true};
	const struct journal_record suspected = {.careful = true};
	struct step draw = {STEP_QUERY_BEGIN, 1, 1}, create = {STEP_CREATE, 1, 1};

	process_first(&p, &g);
	process_journal(&p);
	device_replay_begin(p.v.dev);
	device_replay_record(p.v.dev, &skipped);
	execute(p.client, g.memory, &create);
	assert_null(device_find_resource(p.client, 1));
	device_replay_record(p.v.dev, &suspected);
	execute(p.client, g.memory, &create);
	execute(p.client, g.memory, &draw);
	assert_non_null(device_find_resource(p.client, 1));
	assert_false(device_context_lost(p.client, 1));
	device_replay_record(p.v.dev, &skipped);
	execute(p.client, g.memory, &draw);
	assert_true(device_context_lost(p.client, 1));
	assert_int_equal(device_replay_end(p.v.dev), 0);
	process_stop(&p);
}

static void draw_recorded(struct process *p, struct guest *g)
{
	const struct step draw = {STEP_QUERY_BEGIN, 1, 1};
	const struct iovec part = {(void *)(uintptr_t)&draw, sizeof(draw)};

	assert_int_equal(journal_record(p->journal, JOURNAL_REQUEST, 1, 0, &part, 1), 0);
	execute(p->client, g->memory, &draw);
	journal_executed(p->journal);
}

/* Which records the driver may not have been through with, had the process crashed now. */
static unsigned suspects(const struct process *p)
{
	struct journal_record record;
	struct journal *j;
	unsigned bits = 0;

	assert_int_equal(journal_open(p->fd, 1u << 20, &j), 0);
	assert_int_equal(journal_begin_replay(j, true), 0);
	for (unsigned i = 0; journal_next(j, &record) == 1; i++)
		bits |= (unsigned)record.careful << i;
	/* As if it had not been asked. */
	journal_destroy(j);
	return bits;
}

static void fence_nothing(struct device_fence *fence)
{
}

static void test_what_the_driver_is_through_with(void **state)
{
	struct device_fence first = {.done = fence_nothing}, second = first;
	struct guest g = {.seed = 1};
	struct process p;

	process_first(&p, &g);
	process_journal(&p);
	draw_recorded(&p, &g);
	assert_int_equal(device_fence(p.client, 0, &first), 0);
	draw_recorded(&p, &g);
	assert_int_equal(device_fence(p.client, 0, &second), 0); /* not watched */
	draw_recorded(&p, &g);
	device_poll(p.v.dev);
	assert_int_equal(suspects(&p), 0x6);
	process_stop(&p);
	process_first(&p, &g);
	process_journal(&p);
	draw_recorded(&p, &g);
	assert_int_equal(device_fence(p.client, 0, &first), 0);
	draw_recorded(&p, &g);
	assert_int_equal(suspects(&p), 0x3); /* it is not complete */
	process_stop(&p);
	/* A fence of before belongs to no other journal. */
	process_first(&p, &g);
	process_journal(&p);
	draw_recorded(&p, &g);
	assert_int_equal(device_fence(p.client, 0, &first), 0);
	journal_destroy(p.journal);
	close(p.fd);
	process_journal(&p);
	draw_recorded(&p, &g);
	draw_recorded(&p, &g);
	device_poll(p.v.dev);
	assert_int_equal(suspects(&p), 0x3);
	process_stop(&p);
}

/* A payload that is not the one that belongs there is found out. */
static void test_a_journal_of_something_else(void **state)
{
	struct guest g = {.seed = 1};
	struct process p;
	struct journal_record record;
	struct step create = {STEP_CREATE, 1, 1}, to_host = {STEP_TO_HOST, 1, 1};
	const struct iovec part = {&to_host, sizeof(to_host)}, wrong = {g.memory, 3};

	process_first(&p, &g);
	process_journal(&p);
	execute(p.client, g.memory, &create);
	assert_int_equal(journal_record(p.journal, JOURNAL_REQUEST, 1, 0, &part, 1), 0);
	assert_non_null(journal_payload(p.journal, &wrong, 1, 0, 3));
	device_replay_begin(p.v.dev);
	assert_int_equal(journal_next(p.journal, &record), 1);
	device_replay_record(p.v.dev, &record);
	execute(p.client, g.memory, &to_host);
	assert_int_equal(device_replay_end(p.v.dev), -EIO);
	process_stop(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_record_that_crashes_costs_its_context),
		cmocka_unit_test(test_what_the_driver_is_through_with),
		cmocka_unit_test(test_a_journal_of_something_else),
		cmocka_unit_test(test_ends_anywhere),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "base/checked.h"
#include "device/private.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static int setup(void **state)
{
	static struct fixture fixture;
	*state = &fixture;
	return fixture_start(&fixture);
}

static int teardown(void **state)
{
	fixture_stop(*state);
	return 0;
}

static void test_handles(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(4, 4);

	assert_int_equal(device_resource_create(f->client, 0, &desc), -EINVAL);
	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_resource_create(f->client, 1, &desc), -EEXIST);
	assert_int_equal(device_resource_destroy(f->client, 2), -ENOENT);
	assert_int_equal(device_context_create(f->client, 0, 0, "", 0), -EINVAL);
	assert_int_equal(device_context_create(f->client, 1, 99, "", 0), -EINVAL);
	assert_int_equal(device_context_create(f->client, 1, 0, "a\nb", 3), 0);
	assert_int_equal(device_context_create(f->client, 1, 0, "x", 1), -EEXIST);
	assert_int_equal(device_context_attach(f->client, 1, 9), -ENOENT);
	assert_int_equal(device_context_attach(f->client, 9, 1), -ENOENT);
	assert_int_equal(device_context_attach(f->client, 1, 1), 0);
	assert_int_equal(device_context_attach(f->client, 1, 1), 0);
	assert_int_equal(device_context_detach(f->client, 1, 1), 0);
	assert_int_equal(device_context_detach(f->client, 1, 1), -ENOENT);
	assert_int_equal(device_context_destroy(f->client, 1), 0);
	assert_int_equal(device_resource_destroy(f->client, 1), 0);
	assert_int_equal(f->stats.resources, 0);
	assert_int_equal(f->stats.vram_used_bytes, 0);
}

static uint64_t so_much_memory(void *data)
{
	return *(uint64_t *)data;
}

/* A stand-by's: everything that follows from VRAM is the assigned vGPU's. */
static void test_configured_late(void **state)
{
	struct fixture *f = *state;
	const struct device_late_config late = {"late", 1ull << 30, 1, 64, 64, .max_fps = 20};
	uint64_t memory = 100u << 20, before;

	assert_int_equal(device_configure(f->dev, &late), -EBUSY);
	device_client_destroy(f->client);
	f->dev->config.memory = so_much_memory;
	f->dev->config.memory_data = &memory;
	quota_begin(f->dev);
	before = f->dev->memory.limit;
	assert_int_equal(device_configure(f->dev, &late), 0);
	assert_int_equal(f->stats.vram_limit_bytes, 1ull << 30);
	assert_int_equal(f->dev->memory.limit - before, (1ull << 30) - FIXTURE_QUOTA);
	const struct device_late_config bad = {"late", 1ull << 30, DISPLAY_MAX_HEADS + 1, 64, 64};
	assert_int_equal(device_configure(f->dev, &bad), -EINVAL);
	struct device_late_config fast = late;
	fast.max_fps = 1u << 20;
	assert_int_equal(device_configure(f->dev, &fast), -EINVAL);
	assert_int_equal(device_client_create(f->dev, "client", &f->client), 0);
	/* and the limit of its frames: the first is at once, some later one is not */
	uint64_t hold = 0;
	for (unsigned i = 0; i < 4; i++)
		hold = device_client_frame(f->client);
	assert_in_range(hold, 50000000u, 250000000u);
}

static void test_two_clients_use_the_same_handles(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(4, 4);
	struct device_client *other;

	assert_int_equal(device_client_create(f->dev, "other", &other), 0);
	for (uint32_t handle = 1; handle <= 8; handle++) {
		assert_int_equal(device_resource_create(f->client, handle, &desc), 0);
		assert_int_equal(device_resource_create(other, handle, &desc), 0);
	}
	assert_int_equal(device_context_create(f->client, 1, 0, "x", 1), 0);
	assert_int_equal(device_context_create(other, 1, 0, "x", 1), 0);
	assert_int_equal(f->stats.resources, 16);
	device_client_destroy(other);
	assert_int_equal(f->stats.resources, 8);
	assert_int_equal(f->stats.contexts, 1);
	assert_int_equal(device_resource_destroy(f->client, 8), 0);
}

static void test_quota(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc half = fixture_texture(256, 512),
				      rest = fixture_texture(256, 508),
				      tiny = fixture_texture(1, 1);

	assert_int_equal(device_resource_create(f->client, 1, &half), 0);
	assert_int_equal(device_resource_create(f->client, 2, &rest), 0);
	assert_int_equal(device_resource_create(f->client, 3, &tiny), -ENOMEM);
	assert_int_equal(f->stats.quota_refusals_total, 1);
	assert_int_equal(f->notices, 1);
	assert_int_equal(device_resource_destroy(f->client, 1), 0);
	assert_int_equal(device_resource_create(f->client, 3, &tiny), 0);
	assert_int_equal(f->stats.vram_peak_bytes, (1020u << 10) + 2 * FIXTURE_TEXTURE);
	/* the smallest resources cost something, so their number is bounded too */
	unsigned made = 0;
	for (uint32_t handle = 100; device_resource_create(f->client, handle, &tiny) == 0; handle++)
		made++;
	assert_true(made < 512);
}

static void test_transfers_stay_inside(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(4, 4);
	uint8_t memory[64], copy[64];
	struct iovec iov[] = {{memory, 30}, {memory + 30, 34}};
	struct renderer_transfer t = {.resource_id = 1, .box = {0, 0, 0, 4, 4, 1}};

	for (size_t i = 0; i < sizeof(memory); i++)
		memory[i] = (uint8_t)i;
	assert_int_equal(device_transfer(f->client, DEVICE_TO_HOST, &t), -ENOENT);
	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_transfer(f->client, DEVICE_TO_HOST, &t), -EINVAL);
	assert_int_equal(device_resource_attach_backing(f->client, 1, iov, 0), -EINVAL);
	assert_int_equal(device_resource_attach_backing(f->client, 1, iov, 2), 0);
	assert_int_equal(device_resource_attach_backing(f->client, 1, iov, 2), -EEXIST);
	assert_int_equal(device_transfer(f->client, DEVICE_TO_HOST, &t), 0);
	t.offset = 1;
	assert_int_equal(device_transfer(f->client, DEVICE_TO_HOST, &t), -EINVAL);
	t.offset = UINT64_MAX;
	assert_int_equal(device_transfer(f->client, DEVICE_FROM_HOST, &t), -EINVAL);
	t.offset = 0;
	t.box.w = 5;
	assert_int_equal(device_transfer(f->client, DEVICE_FROM_HOST, &t), -EINVAL);
	t.box.w = 4;
	t.ctx_id = 7;
	assert_int_equal(device_transfer(f->client, DEVICE_FROM_HOST, &t), -ENOENT);
	t.ctx_id = 0;
	memcpy(copy, memory, sizeof(copy));
	memset(memory, 0, sizeof(memory));
	assert_int_equal(device_transfer(f->client, DEVICE_FROM_HOST, &t), 0);
	assert_memory_equal(memory, copy, sizeof(copy));
	assert_int_equal(device_resource_detach_backing(f->client, 1), 0);
	assert_int_equal(device_resource_detach_backing(f->client, 1), -ENOENT);
}

static void test_bad_stream_loses_only_its_context(void **state)
{
	struct fixture *f = *state;
	uint32_t bad[] = {0xff}, nop[] = {0};

	assert_int_equal(device_submit(f->client, 1, nop, 1), -ENOENT);
	assert_int_equal(device_context_create(f->client, 1, 0, "bad", 3), 0);
	assert_int_equal(device_context_create(f->client, 2, 0, "good", 4), 0);
	assert_int_equal(device_submit(f->client, 1, nop, 1), 0);
	assert_int_equal(device_submit(f->client, 1, bad, 1), -EIO);
	assert_true(device_context_lost(f->client, 1));
	assert_int_equal(device_submit(f->client, 1, nop, 1), -EIO);
	assert_int_equal(device_submit(f->client, 2, nop, 1), 0);
	assert_int_equal(f->stats.contexts_lost_total, 1);
	assert_int_equal(f->stats.submits_total, 2);
	assert_int_equal(f->stats.commands_total, 2);
}

/* A guest's driver would wait for ever for a query's result that a lost context cannot give. */
static void test_lost_context_answers_queries(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.bind = 1u << 17,
		.width = 16,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	uint32_t memory[4] = {0}, bad[] = {0xff}, done[4] = {1, 8, 0, 0}, untouched[4] = {0};
	struct iovec iov = {memory, sizeof(memory)};
	const struct renderer_transfer t = {
		.ctx_id = 1, .resource_id = 1, .box = {.w = 16, .h = 1, .d = 1}};

	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_resource_attach_backing(f->client, 1, &iov, 1), 0);
	assert_int_equal(device_context_create(f->client, 1, 0, "bad", 3), 0);
	assert_int_equal(device_context_attach(f->client, 1, 1), 0);
	assert_int_equal(device_submit(f->client, 1, bad, 1), -EIO);
	assert_int_equal(device_transfer(f->client, DEVICE_TO_HOST, &t), -EIO);
	assert_memory_equal(memory, untouched, sizeof(memory));
	assert_int_equal(device_transfer(f->client, DEVICE_FROM_HOST, &t), -EIO);
	assert_memory_equal(memory, done, sizeof(memory));
}

struct counted_fence {
	struct device_fence fence;
	unsigned *clock, at;
};

static void fence_counted(struct device_fence *fence)
{
	struct counted_fence *c = container_of(fence, struct counted_fence, fence);
	c->at = ++*c->clock;
}

static void test_fences_complete_in_order(void **state)
{
	struct fixture *f = *state;
	uint32_t nop[] = {0};
	unsigned clock = 0;
	struct counted_fence fences[4];

	for (size_t i = 0; i < 4; i++)
		fences[i] = (struct counted_fence){{.done = fence_counted}, &clock, 0};
	assert_int_equal(device_context_create(f->client, 1, 0, "x", 1), 0);
	assert_int_equal(device_fence(f->client, 0, &fences[0].fence), 0);
	assert_int_equal(fences[0].at, 1); /* nothing to wait for */
	assert_int_equal(device_submit(f->client, 1, nop, 1), 0);
	assert_int_equal(device_fence(f->client, 1, &fences[1].fence), 0);
	assert_int_equal(device_fence(f->client, 0, &fences[2].fence), 0);
	assert_int_equal(device_fence(f->client, 9, &fences[3].fence), -ENOENT);
	assert_true(device_fences_pending(f->dev));
	assert_int_equal(clock, 1);
	device_poll(f->dev);
	assert_int_equal(fences[1].at, 2);
	assert_int_equal(fences[2].at, 3);
	assert_false(device_fences_pending(f->dev));
	assert_int_equal(device_submit(f->client, 1, nop, 1), 0);
	assert_int_equal(device_fence(f->client, 0, &fences[3].fence), 0);
	device_client_reset(f->client); /* runs what is pending */
	assert_int_equal(fences[3].at, 4);
	assert_int_equal(f->stats.fences_total, 4);
}

static void test_backing_lists_are_charged(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(16, 16);
	static struct iovec iov[DEVICE_MAX_BACKING];
	static uint8_t byte;

	for (size_t i = 0; i < ARRAY_SIZE(iov); i++)
		iov[i] = (struct iovec){&byte, 1};
	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_resource_create(f->client, 2, &desc), 0);
	assert_int_equal(device_resource_create(f->client, 3, &desc), 0);
	uint64_t before = f->stats.vram_used_bytes;
	assert_int_equal(device_resource_attach_backing(f->client, 1, iov, 30000), 0);
	assert_int_equal(f->stats.vram_used_bytes, before + 30000 * sizeof(*iov));
	assert_int_equal(device_resource_attach_backing(f->client, 2, iov, 30000), 0);
	assert_int_equal(device_resource_attach_backing(f->client, 3, iov, 30000), -ENOMEM);
	assert_int_equal(device_resource_detach_backing(f->client, 1), 0);
	assert_int_equal(device_resource_destroy(f->client, 2), 0);
	assert_true(f->stats.vram_used_bytes < before);
}

/* A client that goes takes its fences along; their work is then still to be waited for. */
static void test_finish_waits_although_the_fence_is_gone(void **state)
{
	struct fixture *f = *state;
	struct counted_fence fence = {{.done = fence_counted}, &(unsigned){0}, 0};
	struct device_client *other;
	uint32_t nop[] = {0};

	assert_int_equal(device_client_create(f->dev, "other", &other), 0);
	assert_int_equal(device_context_create(f->client, 1, 0, "x", 1), 0);
	assert_int_equal(device_submit(f->client, 1, nop, 1), 0);
	assert_int_equal(device_fence(other, 0, &fence.fence), 0);
	device_client_destroy(other);
	assert_int_equal(fence.at, 1);
	device_finish(f->client, 1);
	/* Had it returned early, the renderer would still have that fence to report. */
	fence.at = 0;
	assert_int_equal(device_fence(f->client, 1, &fence.fence), 0);
	assert_int_not_equal(fence.at, 0);
}

static void fill(struct fixture *f, uint32_t handle, uint32_t *pixels, uint32_t w, uint32_t h)
{
	struct iovec iov = {pixels, (size_t)w * h * 4};
	const struct renderer_transfer t = {
		.resource_id = handle, .box = {0, 0, 0, w, h, 1}, .iov = &iov, .n_iov = 1};
	assert_int_equal(device_transfer(f->client, DEVICE_TO_HOST, &t), 0);
}

static void test_only_what_changed_reaches_the_display(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(8, 8);
	struct display_rect all = {0, 0, 8, 8};
	uint32_t pixels[64] = {0};

	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_set_scanout(f->client, 0, 1, &all), 0);
	assert_int_equal(f->display.modes, 1);
	pixels[3 * 8 + 2] = 0x123456;
	fill(f, 1, pixels, 8, 8);
	assert_int_equal(device_flush(f->client, 1, &all), 0);
	unsigned first = f->display.updates;
	assert_true(first >= 1);
	assert_int_equal(device_flush(f->client, 1, &all), 0);
	assert_int_equal(f->display.updates, first); /* nothing new */
	pixels[5 * 8] = 0xabcdef;
	fill(f, 1, pixels, 8, 8);
	assert_int_equal(device_flush(f->client, 1, &all), 0);
	assert_int_equal(f->display.updates, first + 1);
	assert_int_equal(f->display.last.y, 5);
	assert_int_equal(f->display.last.h, 1);
	assert_int_equal(f->display.first_pixel, 0xffabcdefu);
	assert_int_equal(device_resource_destroy(f->client, 1), 0); /* the head goes dark */
	assert_int_equal(f->display.width, 0);
}

static void test_scanout_limits(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(300, 300);
	const struct {
		uint32_t head;
		struct display_rect rect;
		int result;
	} rows[] = {
		{0, {0, 0, 256, 256}, 0},
		{1, {44, 44, 256, 256}, 0},
		{2, {0, 0, 16, 16}, -EINVAL},
		{0, {0, 0, 257, 16}, -EINVAL},
		{0, {0, 0, 0, 16}, -EINVAL},
		{0, {UINT32_MAX, 0, 16, 16}, -EINVAL},
		{0, {200, 0, 101, 16}, -EINVAL},
	};
	f->dev->config.vram_bytes = 4u << 20;
	assert_int_equal(device_set_scanout(f->client, 0, 1, &rows[0].rect), -ENOENT);
	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(device_set_scanout(f->client, rows[i].head, 1, &rows[i].rect),
			rows[i].result);
	desc.format = VIRGL_FORMAT_R8_UNORM;
	assert_int_equal(device_resource_create(f->client, 2, &desc), 0);
	assert_int_equal(device_set_scanout(f->client, 0, 2, &rows[0].rect), -EINVAL);
}

static uint64_t memory_now(void *data)
{
	return *(uint64_t *)data;
}

/* And lets pass what is between two looks. */
static void hold(uint64_t *memory, uint64_t bytes)
{
	const struct timespec wait = {.tv_nsec = 11000000};

	*memory = bytes;
	nanosleep(&wait, NULL);
}

/* What nobody counts has an end, for the context that makes it. */
static void test_memory_that_nobody_counts(void **state)
{
	struct fixture *f = *state;
	uint64_t memory = 50u << 20;
	uint64_t most = memory + FIXTURE_QUOTA + DEVICE_DRIVER_FREE + DEVICE_SPARE;
	uint32_t nop[] = {0};

	f->dev->config.memory = memory_now;
	f->dev->config.memory_data = &memory;
	quota_begin(f->dev);
	assert_int_equal(device_context_create(f->client, 1, 0, "x", 1), 0);
	assert_int_equal(device_context_create(f->client, 2, 0, "y", 1), 0);
	hold(&memory, most - DEVICE_GROWN / 2);
	assert_int_equal(device_submit(f->client, 1, nop, 1), 0);
	hold(&memory, most + 1);
	assert_int_equal(device_submit(f->client, 2, nop, 1), 0); /* not its doing */
	hold(&memory, most + 1);
	assert_int_equal(device_submit(f->client, 1, nop, 1), 0); /* it was run, and is the last */
	assert_true(device_context_lost(f->client, 1));
	assert_false(device_context_lost(f->client, 2));
	assert_int_equal(f->stats.quota_refusals_total, 1);
	hold(&memory, most);
	assert_int_equal(device_submit(f->client, 2, nop, 1), 0);
	assert_false(device_context_lost(f->client, 2));
}

static void test_screens_take_up_vram(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(256, 300);
	const struct display_rect all = {0, 0, 256, 256}, part = {0, 0, 128, 128};

	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	uint64_t before = f->stats.vram_used_bytes;
	assert_int_equal(device_set_scanout(f->client, 0, 1, &part), 0);
	assert_int_equal(f->stats.vram_used_bytes, before + 12 * 128 * 128);
	/* What does not fit leaves the screen as it was. */
	assert_int_equal(device_set_scanout(f->client, 0, 1, &all), -ENOMEM);
	assert_int_equal(f->display.width, 128);
	assert_int_equal(f->stats.vram_used_bytes, before + 12 * 128 * 128);
	f->dev->config.vram_bytes = 2u << 20;
	assert_int_equal(device_set_scanout(f->client, 0, 1, &all), 0);
	assert_int_equal(f->stats.vram_used_bytes, before + 12 * 256 * 256);
	assert_int_equal(device_set_scanout(f->client, 0, 1, &part), 0);
	assert_int_equal(f->stats.vram_used_bytes, before + 12 * 128 * 128);
	assert_int_equal(device_set_scanout(f->client, 0, 0, NULL), 0);
	assert_int_equal(f->stats.vram_used_bytes, before);
}

static void test_cursor(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(64, 64),
				      small = fixture_texture(32, 32);
	struct display_cursor cursor = {.head = 0};

	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_resource_create(f->client, 2, &small), 0);
	assert_int_equal(device_cursor(f->client, 1, &cursor, true), 0);
	assert_int_equal(device_cursor(f->client, 2, &cursor, true), -EINVAL);
	assert_int_equal(device_cursor(f->client, 3, &cursor, true), -ENOENT);
	assert_int_equal(device_cursor(f->client, 0, &cursor, true), 0);
	cursor.head = 5;
	assert_int_equal(device_cursor(f->client, 1, &cursor, true), -EINVAL);
	assert_int_equal(f->display.cursors, 2);
}

static void test_edid(void **state)
{
	struct fixture *f = *state;
	const struct display_mode modes[] = {{true, 256, 200}, {true, 64, 64}, {false, 0, 0}};
	uint8_t edid[128], sum;

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		device_set_preferred_mode(f->dev, 0, &modes[i]);
		assert_int_equal(device_edid(f->dev, 0, edid, sizeof(edid)), 128);
		sum = 0;
		for (size_t k = 0; k < sizeof(edid); k++)
			sum = (uint8_t)(sum + edid[k]);
		assert_int_equal(sum, 0);
	}
	device_set_preferred_mode(f->dev, 0, &modes[0]);
	device_edid(f->dev, 0, edid, sizeof(edid));
	assert_int_equal(edid[54 + 2] | (edid[54 + 4] >> 4) << 8, 256);
	assert_int_equal(edid[54 + 5] | (edid[54 + 7] >> 4) << 8, 200);
	assert_int_equal(device_edid(f->dev, 9, edid, sizeof(edid)), 0);
}

static void test_uuid_is_stable_and_different(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(4, 4);
	uint8_t a[16], b[16], again[16];

	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_resource_create(f->client, 2, &desc), 0);
	assert_int_equal(device_resource_uuid(f->client, 1, a), 0);
	assert_int_equal(device_resource_uuid(f->client, 2, b), 0);
	assert_int_equal(device_resource_uuid(f->client, 1, again), 0);
	assert_memory_equal(a, again, 16);
	assert_memory_not_equal(a, b, 16);
	assert_int_equal(device_resource_uuid(f->client, 3, a), -ENOENT);
}

static void test_config_limits(void **state)
{
	struct fixture *f = *state;
	struct device *dev;
	struct device_config config = {.name = "x",
		.vram_bytes = 1,
		.heads = DISPLAY_MAX_HEADS + 1,
		.max_width = 640,
		.max_height = 480,
		.renderer_ops = renderer_find("null"),
		.stats = &f->stats};
	assert_int_equal(device_create(&config, &fixture_events, f, &dev), -EINVAL);
	config.heads = 0;
	assert_int_equal(device_create(&config, &fixture_events, f, &dev), -EINVAL);
	config.heads = 1;
	config.vram_bytes = 0;
	assert_int_equal(device_create(&config, &fixture_events, f, &dev), -EINVAL);
	assert_null(renderer_find("no such renderer"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_handles),
		TEST(test_configured_late),
		TEST(test_two_clients_use_the_same_handles),
		TEST(test_quota),
		TEST(test_transfers_stay_inside),
		TEST(test_bad_stream_loses_only_its_context),
		TEST(test_lost_context_answers_queries),
		TEST(test_fences_complete_in_order),
		TEST(test_backing_lists_are_charged),
		TEST(test_finish_waits_although_the_fence_is_gone),
		TEST(test_only_what_changed_reaches_the_display),
		TEST(test_scanout_limits),
		TEST(test_screens_take_up_vram),
		TEST(test_memory_that_nobody_counts),
		TEST(test_cursor),
		TEST(test_edid),
		TEST(test_uuid_is_stable_and_different),
		TEST(test_config_limits),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

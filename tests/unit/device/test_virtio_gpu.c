/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "base/checked.h"
#include "device/virtio_gpu.h"
#include "protocol/virtio_gpu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GUEST_BYTES 65536u

struct guest {
	struct fixture f;
	struct virtio_gpu *gpu;
	uint8_t *memory; /* guest-physical 0 .. GUEST_BYTES */
	unsigned completed;
	uint32_t written;
	bool ask_viewer;
};

static int guest_translate(void *data, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max)
{
	struct guest *g = data;
	if (!range_inside(gpa, len, GUEST_BYTES))
		return -EFAULT;
	iov[0] = (struct iovec){g->memory + gpa, len};
	return 1;
}

static void guest_complete(void *data, struct virtio_gpu_request *request, uint32_t written)
{
	struct guest *g = data;
	g->completed++;
	g->written = written;
}

static bool guest_query(void *data)
{
	const struct guest *g = data;
	return g->ask_viewer;
}

static const struct virtio_gpu_transport_ops guest_ops = {.translate = guest_translate,
	.complete = guest_complete,
	.query_display_info = guest_query};

static int setup(void **state)
{
	struct guest *g = calloc(1, sizeof(*g));
	*state = g;
	g->memory = calloc(1, GUEST_BYTES);
	int err = fixture_start(&g->f);
	return err ? err : virtio_gpu_create(g->f.dev, &guest_ops, g, &g->gpu);
}

static int teardown(void **state)
{
	struct guest *g = *state;
	virtio_gpu_destroy(g->gpu);
	fixture_stop(&g->f);
	free(g->memory);
	free(g);
	return 0;
}

/* One request with its bytes in two pieces; returns the response type, 0 while it is pending. */
static uint32_t ask_queue(struct guest *g, enum virtio_gpu_queue queue, const void *command,
	size_t size, void *response, size_t response_size)
{
	static struct virtio_gpu_request request;
	static struct iovec out[2], in[1];
	static uint8_t bytes[8192];
	struct virtio_gpu_ctrl_hdr hdr = {0};
	unsigned before = g->completed;

	memcpy(bytes, command, size);
	out[0] = (struct iovec){bytes, MIN(size, (size_t)5)};
	out[1] = (struct iovec){bytes + out[0].iov_len, size - out[0].iov_len};
	in[0] = (struct iovec){response, response_size};
	request = (struct virtio_gpu_request){.out = out, .n_out = 2, .in = in, .n_in = 1};
	virtio_gpu_request(g->gpu, queue, &request);
	if (g->completed == before)
		return 0;
	memcpy(&hdr, response, MIN(response_size, sizeof(hdr)));
	return hdr.type;
}

static uint32_t ask(struct guest *g, const void *command, size_t size)
{
	uint8_t response[4096] = {0};
	return ask_queue(g, VIRTIO_GPU_CONTROL_QUEUE, command, size, response, sizeof(response));
}

#define ASK(g, command) ask(g, &(command), sizeof(command))

static void test_every_row_refuses_a_short_request(void **state)
{
	static const struct {
		uint32_t type, size, queue;
	} rows[] = {
#define X(name, structure, queue, feature, handler)                                                \
	{VIRTIO_GPU_CMD_##name, sizeof(struct structure), VIRTIO_GPU_##queue##_QUEUE},
		VIRTIO_GPU_COMMANDS(X)
#undef X
	};
	struct guest *g = *state;
	uint8_t response[64];

	virtio_gpu_set_features(g->gpu, UINT64_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t command[256] = {0};
		memcpy(command, &rows[i].type, sizeof(rows[i].type));
		for (uint32_t size = 0; size < rows[i].size; size++) {
			uint32_t type = ask_queue(
				g, rows[i].queue, command, size, response, sizeof(response));
			assert_true(type >= VIRTIO_GPU_RESP_ERR_UNSPEC);
		}
		/* and the right size on the wrong queue */
		assert_true(ask_queue(g, !rows[i].queue, command, rows[i].size, response,
				    sizeof(response)) >= VIRTIO_GPU_RESP_ERR_UNSPEC);
	}
	assert_true(g->f.stats.requests_refused_total > 0);
}

static void test_unknown_and_unnegotiated(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_ctrl_hdr unknown = {.type = 0x0fff};
	struct virtio_gpu_cmd_get_edid edid = {.hdr.type = VIRTIO_GPU_CMD_GET_EDID};
	struct virtio_gpu_ctx_create ctx = {.hdr.type = VIRTIO_GPU_CMD_CTX_CREATE, .hdr.ctx_id = 1};

	assert_int_equal(ASK(g, unknown), VIRTIO_GPU_RESP_ERR_UNSPEC);
	assert_int_equal(ASK(g, edid), VIRTIO_GPU_RESP_ERR_UNSPEC);
	virtio_gpu_set_features(g->gpu, 1u << VIRTIO_GPU_F_EDID);
	assert_int_equal(ASK(g, edid), VIRTIO_GPU_RESP_OK_EDID);
	edid.scanout = 2;
	assert_int_equal(ASK(g, edid), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
	/* the null renderer has no 3D, whatever the driver says */
	virtio_gpu_set_features(g->gpu, UINT64_MAX);
	assert_int_equal(ASK(g, ctx), VIRTIO_GPU_RESP_ERR_UNSPEC);
}

static void test_display_info_waits_for_the_viewer(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_ctrl_hdr get = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
	struct virtio_gpu_resp_display_info info = {0};
	const struct display_mode mode = {true, 200, 100};

	assert_int_equal(ASK(g, get), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	g->ask_viewer = true;
	assert_int_equal(
		ask_queue(g, VIRTIO_GPU_CONTROL_QUEUE, &get, sizeof(get), &info, sizeof(info)), 0);
	unsigned completed = g->completed;
	device_set_preferred_mode(g->f.dev, 0, &mode);
	virtio_gpu_display_info_ready(g->gpu);
	assert_int_equal(g->completed, completed + 1);
	assert_int_equal(info.hdr.type, VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_int_equal(info.pmodes[0].r.width, 200);
	assert_int_equal(info.pmodes[1].enabled, 0);
}

static void create_2d(struct guest *g, uint32_t id, uint32_t w, uint32_t h, uint32_t expected)
{
	struct virtio_gpu_resource_create_2d create = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
		.resource_id = id,
		.format = VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM,
		.width = w,
		.height = h};
	assert_int_equal(ASK(g, create), expected);
}

struct attach_one {
	struct virtio_gpu_resource_attach_backing hdr;
	struct virtio_gpu_mem_entry entry;
};

static uint32_t attach(struct guest *g, uint32_t id, uint64_t at, uint32_t length, uint32_t claimed)
{
	struct attach_one command = {.hdr.hdr.type = VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING,
		.hdr.resource_id = id,
		.hdr.nr_entries = claimed,
		.entry.addr = at,
		.entry.length = length};
	return ASK(g, command);
}

static void test_backing(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_resource_detach_backing detach = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING, .resource_id = 1};

	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	create_2d(g, 1, 32, 32, VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(
		attach(g, 1, GUEST_BYTES - 1, 2, 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(attach(g, 1, UINT64_MAX, 4096, 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(attach(g, 1, 0, 4096, 0), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(attach(g, 1, 0, 4096, 2), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(attach(g, 1, 0, 4096, UINT32_MAX), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	/* The lists cost memory too, and give it back. */
	assert_int_equal(g->f.stats.vram_used_bytes, 4096 + FIXTURE_TEXTURE);
	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_true(g->f.stats.vram_used_bytes >= 4096 + FIXTURE_TEXTURE +
							  sizeof(struct virtio_gpu_mem_entry) +
							  sizeof(struct iovec));
	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	assert_int_equal(ASK(g, detach), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(g->f.stats.vram_used_bytes, 4096 + FIXTURE_TEXTURE);
	assert_int_equal(ASK(g, detach), VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_OK_NODATA);
}

static void test_a_picture_reaches_the_screen_and_memory_may_move(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_set_scanout scanout = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT, .r = {0, 0, 32, 32}, .resource_id = 1};
	struct virtio_gpu_transfer_to_host_2d transfer = {
		.hdr.type = VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,
		.r = {0, 0, 32, 32},
		.resource_id = 1};
	struct virtio_gpu_resource_flush flush = {
		.hdr.type = VIRTIO_GPU_CMD_RESOURCE_FLUSH, .r = {0, 0, 32, 32}, .resource_id = 1};

	create_2d(g, 1, 32, 32, VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(g, 1, 4096, 4096, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(ASK(g, scanout), VIRTIO_GPU_RESP_OK_NODATA);
	memset(g->memory + 4096, 0x11, 4096);
	assert_int_equal(ASK(g, transfer), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(ASK(g, flush), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(g->f.display.first_pixel, 0xff111111u);

	uint8_t *moved = calloc(1, GUEST_BYTES);
	memset(moved + 4096, 0x22, 4096);
	virtio_gpu_memory_change_begin(g->gpu);
	free(g->memory);
	g->memory = moved;
	virtio_gpu_memory_change_end(g->gpu);
	assert_int_equal(ASK(g, transfer), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(ASK(g, flush), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(g->f.display.first_pixel, 0xff222222u);

	transfer.offset = 4;
	assert_int_equal(ASK(g, transfer), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	flush.r.width = 33;
	assert_int_equal(ASK(g, flush), VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	scanout.scanout_id = 2;
	assert_int_equal(ASK(g, scanout), VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID);
}

/* A move with resource 0 hides the pointer, any other shows it where it was moved to. */
static void test_moving_the_pointer_hides_and_shows_it(void **state)
{
	struct guest *g = *state;
	uint8_t response[64];
	struct virtio_gpu_update_cursor move = {
		.hdr.type = VIRTIO_GPU_CMD_MOVE_CURSOR, .pos.x = 7, .resource_id = 1};

	for (uint32_t id = 0; id < 2; id++) {
		move.resource_id = id;
		assert_int_equal(ask_queue(g, VIRTIO_GPU_CURSOR_QUEUE, &move, sizeof(move),
					 response, sizeof(response)),
			VIRTIO_GPU_RESP_OK_NODATA);
		assert_int_equal(g->f.display.cursor.visible, id != 0);
		assert_int_equal(g->f.display.cursor.x, 7);
	}
}

static void test_quota_is_said(void **state)
{
	struct guest *g = *state;
	create_2d(g, 1, 512, 512, VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	create_2d(g, 2, 1, 1, VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY);
	create_2d(g, 1, 1, 1, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
	create_2d(g, 0, 1, 1, VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER);
}

static void test_fenced_answers_carry_the_fence(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_ctrl_hdr hdr = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO,
		.flags = VIRTIO_GPU_FLAG_FENCE,
		.fence_id = 0x1234567890,
		.ctx_id = 3};
	struct virtio_gpu_resp_display_info info = {0};

	ask_queue(g, VIRTIO_GPU_CONTROL_QUEUE, &hdr, sizeof(hdr), &info, sizeof(info));
	assert_int_equal(info.hdr.flags, VIRTIO_GPU_FLAG_FENCE);
	assert_int_equal(info.hdr.fence_id, 0x1234567890);
	assert_int_equal(info.hdr.ctx_id, 3);
}

static void test_short_response_buffers(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_ctrl_hdr get = {.type = VIRTIO_GPU_CMD_GET_DISPLAY_INFO};
	uint8_t response[64];

	for (size_t size = 0; size < sizeof(response); size++) {
		unsigned before = g->completed;
		memset(response, 0xee, sizeof(response));
		ask_queue(g, VIRTIO_GPU_CONTROL_QUEUE, &get, sizeof(get), response, size);
		assert_int_equal(g->completed, before + 1);
		assert_int_equal(g->written, size);
		if (size < sizeof(response))
			assert_int_equal(response[size], 0xee);
	}
}

static void test_config_space(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_config config;
	uint32_t clear = 1;

	assert_int_equal(virtio_gpu_config_read(g->gpu, 0, &config, sizeof(config)), 0);
	assert_int_equal(config.num_scanouts, 2);
	assert_int_equal(config.num_capsets, 0);
	assert_int_equal(virtio_gpu_config_read(g->gpu, 1, &config, sizeof(config)), -EINVAL);
	assert_int_equal(virtio_gpu_config_read(g->gpu, UINT32_MAX, &config, 2), -EINVAL);
	assert_int_equal(virtio_gpu_config_write(g->gpu, 4, &clear, sizeof(clear)), 0);
	assert_int_equal(virtio_gpu_config_write(g->gpu, 0, &clear, sizeof(clear)), -EINVAL);
	assert_int_equal(virtio_gpu_config_write(g->gpu, 4, &clear, 2), -EINVAL);
}

static void test_reset_leaves_nothing(void **state)
{
	struct guest *g = *state;
	struct virtio_gpu_set_scanout scanout = {
		.hdr.type = VIRTIO_GPU_CMD_SET_SCANOUT, .r = {0, 0, 32, 32}, .resource_id = 1};

	create_2d(g, 1, 32, 32, VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(ASK(g, scanout), VIRTIO_GPU_RESP_OK_NODATA);
	virtio_gpu_reset(g->gpu);
	assert_int_equal(g->f.stats.resources, 0);
	assert_int_equal(g->f.stats.vram_used_bytes, 0);
	assert_int_equal(g->f.display.width, 0);
	create_2d(g, 1, 32, 32, VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(attach(g, 1, 0, 4096, 1), VIRTIO_GPU_RESP_OK_NODATA);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_row_refuses_a_short_request),
		TEST(test_unknown_and_unnegotiated),
		TEST(test_display_info_waits_for_the_viewer),
		TEST(test_backing),
		TEST(test_a_picture_reaches_the_screen_and_memory_may_move),
		TEST(test_moving_the_pointer_hides_and_shows_it),
		TEST(test_quota_is_said),
		TEST(test_fenced_answers_carry_the_fence),
		TEST(test_short_response_buffers),
		TEST(test_config_space),
		TEST(test_reset_leaves_nothing),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

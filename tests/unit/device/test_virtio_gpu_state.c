/* SPDX-License-Identifier: Apache-2.0 */
/* The command interpreter's part of a state, and requests that are run again. */
#include "state_fixture.h"

#include "base/checked.h"
#include "device/private.h"
#include "device/virtio_gpu.h"
#include "protocol/virtio_gpu.h"
#include "state/journal.h"
#include "state/section.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define QUOTA       (1u << 20)
#define GUEST_BYTES 65536u
#define FEATURES    (1ull << VIRTIO_GPU_F_VIRGL | 1ull << VIRTIO_GPU_F_EDID)

struct vm {
	struct vgpu v;
	struct virtio_gpu *gpu;
	uint8_t *memory; /* guest-physical 0 .. GUEST_BYTES; outlives all */
	unsigned completed;
	uint32_t written;
	bool asked;
};

static int vm_translate(void *data, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max)
{
	const struct vm *vm = data;
	if (!range_inside(gpa, len, GUEST_BYTES))
		return -EFAULT;
	iov[0] = (struct iovec){vm->memory + gpa, len};
	return 1;
}

static void vm_complete(void *data, struct virtio_gpu_request *request, uint32_t written)
{
	struct vm *vm = data;
	vm->completed++;
	vm->written = written;
}

static bool vm_query_display_info(void *data)
{
	((struct vm *)data)->asked = true;
	return true;
}

static const struct virtio_gpu_transport_ops vm_ops = {.translate = vm_translate,
	.complete = vm_complete,
	.query_display_info = vm_query_display_info};

static void vm_start(struct vm *vm, uint8_t *memory)
{
	*vm = (struct vm){.memory = memory};
	vgpu_start(&vm->v, &fake_renderer, QUOTA);
}

static void vm_stop(struct vm *vm)
{
	virtio_gpu_destroy(vm->gpu);
	vgpu_stop(&vm->v);
}

/* The response's type, or 0 when there is no room for one. */
static uint32_t vm_send(struct vm *vm, const void *out, size_t n, bool answer)
{
	struct iovec out_iov = {(void *)(uintptr_t)out, n};
	struct virtio_gpu_resp_edid resp = {.hdr.type = 0};
	struct iovec in_iov = {&resp, sizeof(resp)};
	struct virtio_gpu_request request = {
		.out = &out_iov, .n_out = 1, .in = &in_iov, .n_in = answer};
	unsigned before = vm->completed;

	virtio_gpu_request(vm->gpu, VIRTIO_GPU_CONTROL_QUEUE, &request);
	assert_int_equal(vm->completed, before + 1);
	return le32toh(resp.hdr.type);
}

/* A buffer that is the guest's, in two pieces, and a picture. */
static void vm_prepare(struct vm *vm)
{
	const struct virtio_gpu_resource_create_3d create = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_RESOURCE_CREATE_3D),
		.resource_id = htole32(7),
		.format = htole32(VIRGL_FORMAT_R8_UNORM),
		.bind = htole32(1u << 17),
		.width = htole32(16),
		.height = htole32(1),
		.depth = htole32(1),
		.array_size = htole32(1)};
	const struct virtio_gpu_resource_create_2d picture = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_RESOURCE_CREATE_2D),
		.resource_id = htole32(3),
		.format = htole32(VIRGL_FORMAT_B8G8R8X8_UNORM),
		.width = htole32(8),
		.height = htole32(8)};
	struct {
		struct virtio_gpu_resource_attach_backing c;
		struct virtio_gpu_mem_entry entries[2];
	} attach = {.c = {.hdr.type = htole32(VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING),
			    .resource_id = htole32(7),
			    .nr_entries = htole32(2)},
		.entries = {{htole64(100), htole32(10), 0}, {htole64(5000), htole32(6), 0}}};

	assert_int_equal(virtio_gpu_create(vm->v.dev, &vm_ops, vm, &vm->gpu), 0);
	virtio_gpu_set_features(vm->gpu, FEATURES);
	assert_int_equal(vm_send(vm, &create, sizeof(create), true), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(vm_send(vm, &picture, sizeof(picture), true), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(vm_send(vm, &attach, sizeof(attach), true), VIRTIO_GPU_RESP_OK_NODATA);
	attach.c.resource_id = htole32(3);
	attach.entries[0] = (struct virtio_gpu_mem_entry){htole64(8192), htole32(200), 0};
	attach.entries[1] = (struct virtio_gpu_mem_entry){htole64(8392), htole32(56), 0};
	assert_int_equal(vm_send(vm, &attach, sizeof(attach), true), VIRTIO_GPU_RESP_OK_NODATA);
}

static int save_connection(struct vm *vm, size_t cut)
{
	int fd = memfd_create("connection", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct state_writer *w;

	assert_int_equal(state_writer_create(STATE_IMAGE, fd, &w), 0);
	state_begin(w, STATE_CONNECTION);
	if (cut)
		state_put(w, "\1\0\0\0\0", cut);
	else
		virtio_gpu_save(vm->gpu, w);
	state_end(w);
	assert_int_equal(state_finish(w), 0);
	state_writer_destroy(w);
	return fd;
}

static int load_connection(struct vm *vm, int fd)
{
	struct state_reader *r;
	struct state_section section;

	assert_int_equal(state_reader_create(fd, &r), 0);
	assert_int_equal(state_next(r, &section), 1);
	assert_int_equal(virtio_gpu_create(vm->v.dev, &vm_ops, vm, &vm->gpu), 0);
	int err = virtio_gpu_load(vm->gpu, r);
	state_reader_destroy(r);
	close(fd);
	return err;
}

static void vm_succeed(struct vm *next, struct vm *vm, uint8_t *memory)
{
	uint8_t *before = malloc(GUEST_BYTES);
	struct image image = image_save(vm->v.dev, false);
	int fd = save_connection(vm, 0);
	char why[256];

	vm_stop(vm);
	for (size_t i = 0; i < GUEST_BYTES; i++)
		before[i] = memory[i] = (uint8_t)(i * 7);
	vm_start(next, memory);
	assert_int_equal(image_load(next->v.dev, NULL, &image, why), 0);
	assert_int_equal(load_connection(next, fd), 0);
	assert_memory_equal(before, memory, GUEST_BYTES);
	assert_int_equal(next->v.stats.clients, 1);
	image_free(&image);
	free(before);
}

static void test_a_guest_goes_on(void **state)
{
	uint8_t *memory = calloc(1, GUEST_BYTES);
	const struct virtio_gpu_transfer_to_host_2d transfer = {
		.hdr.type = htole32(VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D),
		.r = {0, 0, htole32(8), htole32(8)},
		.resource_id = htole32(3)};
	const struct virtio_gpu_cmd_get_edid edid = {.hdr.type = htole32(VIRTIO_GPU_CMD_GET_EDID)};
	struct vm first, second, third;

	vm_start(&first, memory);
	vm_prepare(&first);
	uint64_t used = first.v.dev->vram_used;
	vm_succeed(&second, &first, memory);
	/* Backings and features are there, and cost what they did. */
	assert_int_equal(second.v.dev->vram_used, used);
	assert_int_equal(
		vm_send(&second, &transfer, sizeof(transfer), true), VIRTIO_GPU_RESP_OK_NODATA);
	assert_int_equal(vm_send(&second, &edid, sizeof(edid), true), VIRTIO_GPU_RESP_OK_EDID);
	vm_succeed(&third, &second, memory);
	assert_int_equal(third.v.dev->vram_used, used);
	vm_stop(&third);
	free(memory);
}

static void test_requests_run_again(void **state)
{
	uint8_t *memory = calloc(1, GUEST_BYTES);
	const struct virtio_gpu_ctrl_hdr info = {.type = htole32(VIRTIO_GPU_CMD_GET_DISPLAY_INFO)};
	const struct virtio_gpu_cmd_get_edid edid = {.hdr.type = htole32(VIRTIO_GPU_CMD_GET_EDID)};
	struct vm vm;

	vm_start(&vm, memory);
	vm_prepare(&vm);
	device_replay_begin(vm.v.dev);
	device_replay_record(vm.v.dev, &(struct journal_record){.executed = true});
	assert_int_equal(vm_send(&vm, &edid, sizeof(edid), false), 0);
	assert_int_equal(vm.written, 0);
	/* The viewer of before is gone: what it said is known. */
	assert_int_equal(vm_send(&vm, &info, sizeof(info), true), VIRTIO_GPU_RESP_OK_DISPLAY_INFO);
	assert_false(vm.asked);
	assert_int_equal(device_replay_end(vm.v.dev), 0);
	vm_stop(&vm);
	free(memory);
}

static void test_hostile_connections(void **state)
{
	uint8_t *memory = calloc(1, GUEST_BYTES);
	struct vm vm;

	for (size_t cut = 1; cut < 5; cut++) {
		vm_start(&vm, memory);
		assert_int_equal(load_connection(&vm, save_connection(&vm, cut)), -EBADMSG);
		vm_stop(&vm);
	}
	/* Its client is none of the device's. */
	struct vm other;
	vm_start(&vm, memory);
	vm_prepare(&vm);
	int fd = save_connection(&vm, 0);
	vm_start(&other, memory);
	assert_int_equal(load_connection(&other, fd), -ENOENT);
	vm_stop(&other);
	vm_stop(&vm);
	free(memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_guest_goes_on),
		cmocka_unit_test(test_requests_run_again),
		cmocka_unit_test(test_hostile_connections),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

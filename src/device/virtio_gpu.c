/* SPDX-License-Identifier: Apache-2.0 */
#include "device/virtio_gpu.h"

#include "base/checked.h"
#include "base/idmap.h"
#include "base/iov.h"
#include "base/log.h"
#include "device/private.h"
#include "device/virtio_gpu_private.h"
#include "renderer/format.h"

#include "protocol/virtio_gpu.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GPU_MAX_SUBMIT  (16u << 20) /* bytes; Mesa flushes at 64 KiB dwords */
#define GPU_MAX_CAPSET  8192u
#define GPU_RES_BIND_RT (1u << 1)

union gpu_command {
	struct virtio_gpu_ctrl_hdr hdr;
#define X(name, structure, queue, feature, handler) struct structure handler;
	VIRTIO_GPU_COMMANDS(X)
#undef X
};

/* Every structure starts with a header except the cursor's and the header itself, which are one. */
struct gpu_call {
	struct virtio_gpu_request *request;
	union gpu_command cmd;
	uint64_t trailing_at, trailing; /* bytes after the structure */
	uint8_t *reply;                 /* after the response header; NULL: none */
	uint32_t reply_size;
	union {
		struct virtio_gpu_resp_display_info display_info;
		struct virtio_gpu_resp_edid edid;
		struct virtio_gpu_resp_capset_info capset_info;
		struct virtio_gpu_resp_resource_uuid uuid;
		uint8_t capset[GPU_MAX_CAPSET];
	} resp;
	bool deferred; /* answered later, by whoever it waits for */
};

typedef uint32_t (*gpu_handler)(struct virtio_gpu *gpu, struct gpu_call *call);

#define X(name, structure, queue, feature, handler)                                                \
	static uint32_t gpu_##handler(struct virtio_gpu *gpu, struct gpu_call *call);
VIRTIO_GPU_COMMANDS(X)
#undef X

#define GPU_FEATURE_NONE          0ull
#define GPU_FEATURE_VIRGL         (1ull << VIRTIO_GPU_F_VIRGL)
#define GPU_FEATURE_EDID          (1ull << VIRTIO_GPU_F_EDID)
#define GPU_FEATURE_RESOURCE_UUID (1ull << VIRTIO_GPU_F_RESOURCE_UUID)
#define GPU_FEATURE_CONTEXT_INIT  (1ull << VIRTIO_GPU_F_CONTEXT_INIT)

static const struct gpu_row {
	uint32_t type;
	uint32_t size;
	enum virtio_gpu_queue queue;
	uint64_t feature;
	gpu_handler handler;
	const char *name;
} gpu_rows[] = {
#define X(name, structure, queue, feature, handler)                                                \
	{VIRTIO_GPU_CMD_##name, sizeof(struct structure), VIRTIO_GPU_##queue##_QUEUE,              \
		GPU_FEATURE_##feature, gpu_##handler, #name},
	VIRTIO_GPU_COMMANDS(X)
#undef X
};

static const struct gpu_row *gpu_find_row(uint32_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(gpu_rows); i++) {
		if (gpu_rows[i].type == type)
			return &gpu_rows[i];
	}
	return NULL;
}

/* -errno of the device to the response the driver sees; `missing` names what -ENOENT was about. */
static uint32_t gpu_response(int err, uint32_t missing)
{
	switch (err) {
	case 0:
		return VIRTIO_GPU_RESP_OK_NODATA;
	case -ENOENT:
		return missing;
	case -ENOMEM:
	case -ENOSPC:
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	case -EINVAL:
	case -EEXIST:
	case -EFAULT:
	case -E2BIG:
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	default:
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
}

/* ---- display ---- */

static uint32_t gpu_fill_display_info(struct virtio_gpu *gpu, struct gpu_call *call)
{
	struct virtio_gpu_resp_display_info *info = &call->resp.display_info;

	for (uint32_t i = 0; i < device_heads(gpu->dev); i++) {
		struct display_mode mode = device_preferred_mode(gpu->dev, i);
		info->pmodes[i].enabled = htole32(mode.enabled);
		info->pmodes[i].r.width = htole32(mode.width);
		info->pmodes[i].r.height = htole32(mode.height);
	}
	call->reply = (uint8_t *)info + sizeof(info->hdr);
	call->reply_size = sizeof(*info) - sizeof(info->hdr);
	return VIRTIO_GPU_RESP_OK_DISPLAY_INFO;
}

static uint32_t gpu_get_display_info(struct virtio_gpu *gpu, struct gpu_call *call)
{
	/* What a predecessor's viewer said to it is in the preferred mode. */
	if (!gpu->ops->query_display_info || device_replaying(gpu->dev) ||
		!gpu->ops->query_display_info(gpu->data))
		return gpu_fill_display_info(gpu, call);
	call->deferred = true;
	call->request->next = gpu->info_waiting;
	gpu->info_waiting = call->request;
	return 0;
}

static uint32_t gpu_get_edid(struct virtio_gpu *gpu, struct gpu_call *call)
{
	struct virtio_gpu_resp_edid *edid = &call->resp.edid;
	uint32_t head = le32toh(call->cmd.get_edid.scanout);
	size_t size = device_edid(gpu->dev, head, edid->edid, sizeof(edid->edid));

	if (!size)
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	edid->size = htole32((uint32_t)size);
	call->reply = (uint8_t *)edid + sizeof(edid->hdr);
	call->reply_size = sizeof(*edid) - sizeof(edid->hdr);
	return VIRTIO_GPU_RESP_OK_EDID;
}

static struct display_rect gpu_rect(const struct virtio_gpu_rect *r)
{
	return (struct display_rect){
		le32toh(r->x), le32toh(r->y), le32toh(r->width), le32toh(r->height)};
}

static uint32_t gpu_set_scanout(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_set_scanout *c = &call->cmd.set_scanout;
	struct display_rect rect = gpu_rect(&c->r);
	uint32_t head = le32toh(c->scanout_id);

	if (head >= device_heads(gpu->dev))
		return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
	return gpu_response(device_set_scanout(gpu->client, head, le32toh(c->resource_id), &rect),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_resource_flush(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_resource_flush *c = &call->cmd.resource_flush;
	struct display_rect rect = gpu_rect(&c->r);

	return gpu_response(device_flush(gpu->client, le32toh(c->resource_id), &rect),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_cursor(
	struct virtio_gpu *gpu, const struct virtio_gpu_update_cursor *c, bool image)
{
	uint32_t handle = le32toh(c->resource_id);
	const struct display_cursor cursor = {
		.head = le32toh(c->pos.scanout_id),
		.x = le32toh(c->pos.x),
		.y = le32toh(c->pos.y),
		.hot_x = le32toh(c->hot_x),
		.hot_y = le32toh(c->hot_y),
		.visible = handle != 0,
	};
	return gpu_response(device_cursor(gpu->client, handle, &cursor, image),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_update_cursor(struct virtio_gpu *gpu, struct gpu_call *call)
{
	return gpu_cursor(gpu, &call->cmd.update_cursor, true);
}

static uint32_t gpu_move_cursor(struct virtio_gpu *gpu, struct gpu_call *call)
{
	return gpu_cursor(gpu, &call->cmd.move_cursor, false);
}

/* ---- resources ---- */

static uint32_t gpu_resource_create_2d(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_resource_create_2d *c = &call->cmd.resource_create_2d;
	const struct renderer_resource_desc desc = {
		.target = PIPE_TEXTURE_2D,
		.format = le32toh(c->format),
		.bind = GPU_RES_BIND_RT,
		.width = le32toh(c->width),
		.height = le32toh(c->height),
		.depth = 1,
		.array_size = 1,
		.flags = VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP,
	};
	if (!format_is_screen(desc.format))
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	return gpu_response(device_resource_create(gpu->client, le32toh(c->resource_id), &desc),
		VIRTIO_GPU_RESP_ERR_UNSPEC);
}

static uint32_t gpu_resource_create_3d(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_resource_create_3d *c = &call->cmd.resource_create_3d;
	const struct renderer_resource_desc desc = {
		.target = le32toh(c->target),
		.format = le32toh(c->format),
		.bind = le32toh(c->bind),
		.width = le32toh(c->width),
		.height = le32toh(c->height),
		.depth = le32toh(c->depth),
		.array_size = le32toh(c->array_size),
		.last_level = le32toh(c->last_level),
		.nr_samples = le32toh(c->nr_samples),
		.flags = le32toh(c->flags),
	};
	return gpu_response(device_resource_create(gpu->client, le32toh(c->resource_id), &desc),
		VIRTIO_GPU_RESP_ERR_UNSPEC);
}

struct gpu_backing *gpu_new_backing(struct virtio_gpu *gpu, uint32_t handle, uint32_t n)
{
	uint64_t cost = sizeof(struct gpu_backing) + n * sizeof(struct virtio_gpu_mem_entry);

	if (device_charge(gpu->dev, cost) < 0)
		return NULL;
	struct gpu_backing *backing = malloc(cost);
	if (!backing) {
		device_uncharge(gpu->dev, cost);
		return NULL;
	}
	backing->handle = handle;
	backing->n = n;
	backing->cost = cost;
	return backing;
}

void gpu_free_backing(struct virtio_gpu *gpu, struct gpu_backing *backing)
{
	if (backing)
		device_uncharge(gpu->dev, backing->cost);
	free(backing);
}

static void gpu_forget_backing(struct virtio_gpu *gpu, uint32_t handle)
{
	gpu_free_backing(gpu, idmap_remove(&gpu->backings, handle));
}

static uint32_t gpu_resource_unref(struct virtio_gpu *gpu, struct gpu_call *call)
{
	uint32_t handle = le32toh(call->cmd.resource_unref.resource_id);

	gpu_forget_backing(gpu, handle);
	return gpu_response(device_resource_destroy(gpu->client, handle),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_assign_uuid(struct virtio_gpu *gpu, struct gpu_call *call)
{
	struct virtio_gpu_resp_resource_uuid *uuid = &call->resp.uuid;
	uint32_t handle = le32toh(call->cmd.assign_uuid.resource_id);
	int err = device_resource_uuid(gpu->client, handle, uuid->uuid);

	if (err < 0)
		return gpu_response(err, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
	call->reply = uuid->uuid;
	call->reply_size = sizeof(uuid->uuid);
	return VIRTIO_GPU_RESP_OK_RESOURCE_UUID;
}

/* Appends a range; adjoining ranges become one, which saves the renderer copies. */
static int gpu_append(struct iovec *iov, unsigned *n, const struct iovec *part)
{
	struct iovec *last = *n ? &iov[*n - 1] : NULL;

	if (last && (char *)last->iov_base + last->iov_len == part->iov_base) {
		last->iov_len += part->iov_len;
		return 0;
	}
	if (*n == DEVICE_MAX_BACKING)
		return -E2BIG;
	iov[(*n)++] = *part;
	return 0;
}

int gpu_attach(struct virtio_gpu *gpu, const struct gpu_backing *backing, gpu_attach_fn attach)
{
	struct iovec part[16];
	unsigned n = 0;
	int err = 0;
	struct iovec *iov = calloc(DEVICE_MAX_BACKING, sizeof(*iov));

	if (!iov)
		return -ENOMEM;
	for (uint32_t i = 0; i < backing->n && !err; i++) {
		int parts = gpu->ops->translate(gpu->data, le64toh(backing->entries[i].addr),
			le32toh(backing->entries[i].length), part, ARRAY_SIZE(part));
		err = MIN(parts, 0);
		for (int k = 0; k < parts && !err; k++)
			err = gpu_append(iov, &n, &part[k]);
	}
	if (!err)
		err = attach(gpu->client, backing->handle, iov, n);
	free(iov);
	return err;
}

static uint32_t gpu_attach_backing(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_resource_attach_backing *c = &call->cmd.attach_backing;
	uint32_t n = le32toh(c->nr_entries);
	size_t bytes = (size_t)n * sizeof(struct virtio_gpu_mem_entry);

	if (!n || n > DEVICE_MAX_BACKING || bytes > call->trailing)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	struct gpu_backing *backing = gpu_new_backing(gpu, le32toh(c->resource_id), n);
	if (!backing)
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	iov_read(call->request->out, call->request->n_out, call->trailing_at, backing->entries,
		bytes);
	int err = idmap_get(&gpu->backings, backing->handle)
			  ? -EEXIST
			  : gpu_attach(gpu, backing, device_resource_attach_backing);
	if (!err)
		err = idmap_add(&gpu->backings, backing->handle, backing);
	if (err < 0)
		gpu_free_backing(gpu, backing);
	return gpu_response(err, VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_detach_backing(struct virtio_gpu *gpu, struct gpu_call *call)
{
	uint32_t handle = le32toh(call->cmd.detach_backing.resource_id);

	gpu_forget_backing(gpu, handle);
	return gpu_response(device_resource_detach_backing(gpu->client, handle),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_transfer_to_host_2d(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_transfer_to_host_2d *c = &call->cmd.transfer_to_host_2d;
	struct display_rect rect = gpu_rect(&c->r);
	const struct renderer_transfer t = {
		.resource_id = le32toh(c->resource_id),
		.box = {rect.x, rect.y, 0, rect.w, rect.h, 1},
		.offset = le64toh(c->offset),
	};
	return gpu_response(device_transfer(gpu->client, DEVICE_TO_HOST, &t),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_transfer_3d(
	struct virtio_gpu *gpu, struct gpu_call *call, enum device_transfer_direction direction)
{
	const struct virtio_gpu_transfer_host_3d *c = &call->cmd.transfer_to_host_3d;
	const struct renderer_transfer t = {
		.ctx_id = le32toh(c->hdr.ctx_id),
		.resource_id = le32toh(c->resource_id),
		.level = le32toh(c->level),
		.stride = le32toh(c->stride),
		.layer_stride = le32toh(c->layer_stride),
		.box = {le32toh(c->box.x), le32toh(c->box.y), le32toh(c->box.z), le32toh(c->box.w),
			le32toh(c->box.h), le32toh(c->box.d)},
		.offset = le64toh(c->offset),
	};
	return gpu_response(device_transfer(gpu->client, direction, &t),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_transfer_to_host_3d(struct virtio_gpu *gpu, struct gpu_call *call)
{
	return gpu_transfer_3d(gpu, call, DEVICE_TO_HOST);
}

static uint32_t gpu_transfer_from_host_3d(struct virtio_gpu *gpu, struct gpu_call *call)
{
	return gpu_transfer_3d(gpu, call, DEVICE_FROM_HOST);
}

/* ---- contexts ---- */

static uint32_t gpu_get_capset_info(struct virtio_gpu *gpu, struct gpu_call *call)
{
	struct virtio_gpu_resp_capset_info *info = &call->resp.capset_info;
	struct renderer_capset capset;

	if (device_capset_info(gpu->dev, le32toh(call->cmd.get_capset_info.capset_index), &capset) <
		0)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	info->capset_id = htole32(capset.id);
	info->capset_max_version = htole32(capset.max_version);
	info->capset_max_size = htole32(capset.max_size);
	call->reply = (uint8_t *)info + sizeof(info->hdr);
	call->reply_size = sizeof(*info) - sizeof(info->hdr);
	return VIRTIO_GPU_RESP_OK_CAPSET_INFO;
}

static uint32_t gpu_get_capset(struct virtio_gpu *gpu, struct gpu_call *call)
{
	uint32_t id = le32toh(call->cmd.get_capset.capset_id);
	uint32_t version = le32toh(call->cmd.get_capset.capset_version);
	struct renderer_capset capset;

	for (unsigned i = 0; device_capset_info(gpu->dev, i, &capset) == 0; i++) {
		if (capset.id != id)
			continue;
		uint32_t size = MIN(capset.max_size, GPU_MAX_CAPSET);
		if (device_capset_get(gpu->dev, id, version, call->resp.capset, size) < 0)
			break;
		call->reply = call->resp.capset;
		call->reply_size = size;
		return VIRTIO_GPU_RESP_OK_CAPSET;
	}
	return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
}

static uint32_t gpu_ctx_create(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_ctx_create *c = &call->cmd.ctx_create;
	uint32_t capset = 0;

	if (gpu->accepted & GPU_FEATURE_CONTEXT_INIT)
		capset = le32toh(c->context_init) & VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK;
	size_t len = MIN(le32toh(c->nlen), sizeof(c->debug_name));
	return gpu_response(device_context_create(gpu->client, le32toh(c->hdr.ctx_id), capset,
				    c->debug_name, len),
		VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

static uint32_t gpu_ctx_destroy(struct virtio_gpu *gpu, struct gpu_call *call)
{
	return gpu_response(
		device_context_destroy(gpu->client, le32toh(call->cmd.ctx_destroy.hdr.ctx_id)),
		VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

static uint32_t gpu_ctx_attach_resource(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_ctx_resource *c = &call->cmd.ctx_attach_resource;

	return gpu_response(
		device_context_attach(gpu->client, le32toh(c->hdr.ctx_id), le32toh(c->resource_id)),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static uint32_t gpu_ctx_detach_resource(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_ctx_resource *c = &call->cmd.ctx_detach_resource;

	return gpu_response(
		device_context_detach(gpu->client, le32toh(c->hdr.ctx_id), le32toh(c->resource_id)),
		VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID);
}

static int gpu_reserve_submit(struct virtio_gpu *gpu, size_t bytes)
{
	if (bytes <= gpu->submit_size)
		return 0;
	uint32_t *grown = realloc(gpu->submit, bytes);
	if (!grown)
		return -ENOMEM;
	gpu->submit = grown;
	gpu->submit_size = bytes;
	return 0;
}

static uint32_t gpu_submit_3d(struct virtio_gpu *gpu, struct gpu_call *call)
{
	const struct virtio_gpu_cmd_submit *c = &call->cmd.submit_3d;
	uint32_t size = le32toh(c->size);

	if (size % sizeof(uint32_t) || size > GPU_MAX_SUBMIT || size > call->trailing)
		return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
	if (gpu_reserve_submit(gpu, size) < 0)
		return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
	iov_read(call->request->out, call->request->n_out, call->trailing_at, gpu->submit, size);
	return gpu_response(device_submit(gpu->client, le32toh(c->hdr.ctx_id), gpu->submit,
				    size / sizeof(uint32_t)),
		VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID);
}

/* ---- requests ---- */

static void gpu_complete(struct virtio_gpu *gpu, struct virtio_gpu_request *request)
{
	gpu->ops->complete(gpu->data, request, request->response_len);
}

static void gpu_fence_done(struct device_fence *fence)
{
	struct virtio_gpu_request *request = container_of(fence, struct virtio_gpu_request, fence);
	gpu_complete(request->gpu, request);
}

static void gpu_write_response(
	struct virtio_gpu_request *request, uint32_t type, const uint8_t *reply, uint32_t size)
{
	struct virtio_gpu_ctrl_hdr hdr = {.type = htole32(type)};

	if (request->flags & VIRTIO_GPU_FLAG_FENCE) {
		hdr.flags = htole32(
			request->flags & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX));
		hdr.fence_id = htole64(request->fence_id);
		hdr.ctx_id = htole32(request->ctx_id);
		hdr.ring_idx = (uint8_t)request->ring_idx;
	}
	size_t n = iov_write(request->in, request->n_in, 0, &hdr, sizeof(hdr));
	if (reply && n == sizeof(hdr))
		n += iov_write(request->in, request->n_in, sizeof(hdr), reply, size);
	request->response_len = (uint32_t)n;
}

static void gpu_answer(struct virtio_gpu *gpu, struct gpu_call *call, uint32_t type)
{
	struct virtio_gpu_request *request = call->request;

	if (type >= VIRTIO_GPU_RESP_ERR_UNSPEC)
		vgpu_stats_add(&gpu->dev->config.stats->requests_refused_total, 1);
	gpu_write_response(request, type, call->reply, call->reply_size);
	if (!(request->flags & VIRTIO_GPU_FLAG_FENCE)) {
		gpu_complete(gpu, request);
		return;
	}
	request->fence.done = gpu_fence_done;
	if (device_fence(gpu->client, 0, &request->fence) < 0) {
		device_finish(gpu->client, 0);
		gpu_complete(gpu, request);
	}
}

static uint32_t gpu_execute(
	struct virtio_gpu *gpu, enum virtio_gpu_queue queue, struct gpu_call *call)
{
	struct virtio_gpu_request *request = call->request;
	uint64_t size = iov_size(request->out, request->n_out);

	if (iov_read(request->out, request->n_out, 0, &call->cmd.hdr, sizeof(call->cmd.hdr)) !=
		sizeof(call->cmd.hdr))
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	request->flags = le32toh(call->cmd.hdr.flags);
	request->fence_id = le64toh(call->cmd.hdr.fence_id);
	request->ctx_id = le32toh(call->cmd.hdr.ctx_id);
	request->ring_idx = call->cmd.hdr.ring_idx;
	const struct gpu_row *row = gpu_find_row(le32toh(call->cmd.hdr.type));
	if (!row || row->queue != queue || size < row->size ||
		(row->feature & gpu->accepted) != row->feature) {
		log_limited(&gpu->dev->log, LOG_LEVEL_WARNING,
			"%s: refused request %#x (%s, %llu bytes)", gpu->dev->name,
			le32toh(call->cmd.hdr.type), row ? row->name : "unknown",
			(unsigned long long)size);
		return VIRTIO_GPU_RESP_ERR_UNSPEC;
	}
	/* The header was read once; only what follows it is read now. */
	iov_read(request->out, request->n_out, sizeof(call->cmd.hdr),
		(uint8_t *)&call->cmd + sizeof(call->cmd.hdr), row->size - sizeof(call->cmd.hdr));
	call->trailing_at = row->size;
	call->trailing = size - row->size;
	return row->handler(gpu, call);
}

void virtio_gpu_request(
	struct virtio_gpu *gpu, enum virtio_gpu_queue queue, struct virtio_gpu_request *request)
{
	struct gpu_call call;

	call.request = request;
	call.reply = NULL;
	call.reply_size = 0;
	call.deferred = false;
	memset(&call.cmd, 0, sizeof(call.cmd));
	memset(&call.resp, 0, sizeof(call.resp));
	request->gpu = gpu;
	request->next = NULL;
	request->flags = 0;
	request->response_len = 0;
	uint32_t type = gpu_execute(gpu, queue, &call);
	if (!call.deferred)
		gpu_answer(gpu, &call, type);
}

void virtio_gpu_display_info_ready(struct virtio_gpu *gpu)
{
	while (gpu->info_waiting) {
		struct gpu_call call = {.request = gpu->info_waiting};
		gpu->info_waiting = call.request->next;
		gpu_answer(gpu, &call, gpu_fill_display_info(gpu, &call));
	}
}

/* ---- lifetime ---- */

int virtio_gpu_create(struct device *dev, const struct virtio_gpu_transport_ops *ops, void *data,
	struct virtio_gpu **ret)
{
	struct renderer_capset capset;
	struct virtio_gpu *gpu = calloc(1, sizeof(*gpu));

	if (!gpu)
		return -ENOMEM;
	int err = device_client_create(dev, "the virtual machine", &gpu->client);
	if (err < 0) {
		free(gpu);
		return err;
	}
	gpu->dev = dev;
	gpu->ops = ops;
	gpu->data = data;
	idmap_init(&gpu->backings, dev->resource_ids.seed);
	while (device_capset_info(dev, gpu->num_capsets, &capset) == 0)
		gpu->num_capsets++;
	gpu->offered = GPU_FEATURE_EDID | GPU_FEATURE_RESOURCE_UUID;
	if (gpu->num_capsets)
		gpu->offered |= GPU_FEATURE_VIRGL | GPU_FEATURE_CONTEXT_INIT;
	*ret = gpu;
	return 0;
}

void virtio_gpu_reset(struct virtio_gpu *gpu)
{
	static const struct display_rect none;
	struct gpu_backing *backing;
	uint32_t cursor = 0;

	virtio_gpu_display_info_ready(gpu);
	for (uint32_t head = 0; head < device_heads(gpu->dev); head++)
		device_set_scanout(gpu->client, head, 0, &none);
	device_client_reset(gpu->client);
	while ((backing = idmap_next(&gpu->backings, &cursor, NULL))) {
		gpu_forget_backing(gpu, backing->handle);
		cursor = 0;
	}
}

void virtio_gpu_destroy(struct virtio_gpu *gpu)
{
	if (!gpu)
		return;
	virtio_gpu_reset(gpu);
	device_client_destroy(gpu->client);
	idmap_finish(&gpu->backings);
	free(gpu->submit);
	free(gpu);
}

uint64_t virtio_gpu_features(const struct virtio_gpu *gpu)
{
	return gpu->offered;
}

void virtio_gpu_set_features(struct virtio_gpu *gpu, uint64_t features)
{
	gpu->accepted = features & gpu->offered;
}

int virtio_gpu_config_read(const struct virtio_gpu *gpu, uint32_t offset, void *buf, uint32_t len)
{
	const struct virtio_gpu_config config = {
		.num_scanouts = htole32(device_heads(gpu->dev)),
		.num_capsets = htole32(gpu->num_capsets),
	};
	if (!range_inside(offset, len, sizeof(config)))
		return -EINVAL;
	memcpy(buf, (const char *)&config + offset, len);
	return 0;
}

int virtio_gpu_config_write(struct virtio_gpu *gpu, uint32_t offset, const void *buf, uint32_t len)
{
	/* Events are QEMU's own matter (its display reports them): none is ever set here. */
	return offset == offsetof(struct virtio_gpu_config, events_clear) && len == sizeof(uint32_t)
		       ? 0
		       : -EINVAL;
}

void virtio_gpu_memory_change_begin(struct virtio_gpu *gpu)
{
	device_finish(gpu->client, 0);
	device_client_detach_all_backing(gpu->client);
}

void virtio_gpu_memory_change_end(struct virtio_gpu *gpu)
{
	const struct gpu_backing *backing;
	uint32_t cursor = 0;

	while ((backing = idmap_next(&gpu->backings, &cursor, NULL))) {
		int err = gpu_attach(gpu, backing, device_resource_reattach);
		if (err < 0)
			log_limited(&gpu->dev->log, LOG_LEVEL_WARNING,
				"%s: resource %u lost its guest memory: %s", gpu->dev->name,
				backing->handle, strerror(-err));
	}
}

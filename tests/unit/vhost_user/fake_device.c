/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_device.h"

#include "base/checked.h"
#include "base/iov.h"
#include "state/section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct virtio_gpu {
	struct device *dev;
	const struct virtio_gpu_transport_ops *ops;
	void *data;
	struct virtio_gpu_request *held; /* oldest first */
};

void fake_device_init(struct device *dev)
{
	*dev = (struct device){.heads = 1, .config_size = 16};
	for (unsigned i = 0; i < sizeof(dev->config); i++)
		dev->config[i] = (uint8_t)(i + 1);
}

void device_waited(struct device *dev, uint64_t ns)
{
	dev->waited_ns += ns;
}

int virtio_gpu_create(struct device *dev, const struct virtio_gpu_transport_ops *ops, void *data,
	struct virtio_gpu **ret)
{
	struct virtio_gpu *gpu = calloc(1, sizeof(*gpu));
	if (!gpu)
		return -ENOMEM;
	gpu->dev = dev;
	gpu->ops = ops;
	gpu->data = data;
	dev->gpu = gpu;
	*ret = gpu;
	return 0;
}

static void fake_answer(struct virtio_gpu *gpu, struct virtio_gpu_request *r)
{
	uint8_t buf[256];
	size_t n = iov_read(r->out, r->n_out, 0, buf, sizeof(buf));

	for (size_t i = 0; i < n; i++)
		buf[i]++;
	if (gpu->dev->remember && n >= 16)
		memcpy(buf + 8, &r->fence_id, 8);
	n = iov_write(r->in, r->n_in, 0, buf, n);
	gpu->ops->complete(gpu->data, r, (uint32_t)n);
}

unsigned fake_release(struct device *dev, unsigned n)
{
	unsigned done = 0;

	while (dev->gpu && dev->gpu->held && done < n) {
		struct virtio_gpu_request *r = dev->gpu->held;
		dev->gpu->held = r->next;
		fake_answer(dev->gpu, r);
		done++;
	}
	return done;
}

void virtio_gpu_destroy(struct virtio_gpu *gpu)
{
	if (!gpu)
		return;
	fake_release(gpu->dev, UINT32_MAX);
	gpu->dev->gpu = NULL;
	free(gpu);
}

uint64_t virtio_gpu_features(const struct virtio_gpu *gpu)
{
	return 0x7; /* VIRGL, EDID, RESOURCE_UUID */
}

void virtio_gpu_set_features(struct virtio_gpu *gpu, uint64_t features)
{
	gpu->dev->driver_features = features;
}

int virtio_gpu_config_read(const struct virtio_gpu *gpu, uint32_t offset, void *buf, uint32_t len)
{
	if (!range_inside(offset, len, gpu->dev->config_size))
		return -EINVAL;
	memcpy(buf, gpu->dev->config + offset, len);
	return 0;
}

int virtio_gpu_config_write(struct virtio_gpu *gpu, uint32_t offset, const void *buf, uint32_t len)
{
	if (!range_inside(offset, len, gpu->dev->config_size))
		return -EINVAL;
	memcpy(gpu->dev->config + offset, buf, len);
	return 0;
}

void virtio_gpu_request(
	struct virtio_gpu *gpu, enum virtio_gpu_queue queue, struct virtio_gpu_request *r)
{
	struct device *dev = gpu->dev;
	uint32_t word = 0;

	dev->requests++;
	dev->cursor_requests += queue == VIRTIO_GPU_CURSOR_QUEUE;
	iov_read(r->out, r->n_out, 0, &word, sizeof(word));
	if (dev->n_order < FAKE_ORDER_MAX)
		dev->order[dev->n_order++] = word;
	dev->last_out_bytes = iov_size(r->out, r->n_out);
	dev->last_in_bytes = iov_size(r->in, r->n_in);
	dev->history[queue] = (dev->history[queue] ^ word) * 0x9e3779b97f4a7c15ull + queue;
	r->fence_id = dev->history[queue];
	struct iovec iov[4];
	uint64_t range[2] = {0}; /* a backing: address and length at bytes 8 and 16 */
	iov_read(r->out, r->n_out, 8, range, sizeof(range));
	dev->translated = gpu->ops->translate(gpu->data, range[0], range[1], iov, ARRAY_SIZE(iov));
	bool ask = dev->ask_info && gpu->ops->query_display_info(gpu->data);
	if (!dev->hold && !ask) {
		fake_answer(gpu, r);
		return;
	}
	struct virtio_gpu_request **at = &gpu->held;
	while (*at)
		at = &(*at)->next;
	r->next = NULL;
	*at = r;
}

void virtio_gpu_display_info_ready(struct virtio_gpu *gpu)
{
	gpu->dev->info_ready++;
	fake_release(gpu->dev, UINT32_MAX);
}

void virtio_gpu_reset(struct virtio_gpu *gpu)
{
	gpu->dev->resets++;
	for (unsigned i = 0; i < 2; i++)
		gpu->dev->history[i] = gpu->dev->history[i] * 31 + 7;
	fake_release(gpu->dev, UINT32_MAX);
}

void virtio_gpu_memory_change_begin(struct virtio_gpu *gpu)
{
	gpu->dev->changes_begun++;
}

void virtio_gpu_memory_change_end(struct virtio_gpu *gpu)
{
	gpu->dev->changes_ended++;
}

void device_poll(struct device *dev)
{
	dev->polls++;
	if (dev->release_on_poll)
		fake_release(dev, UINT32_MAX);
}

int device_add_display(struct device *dev, const struct display_ops *ops, void *data)
{
	if (dev->display)
		return -ENOSPC;
	dev->display = ops;
	dev->display_data = data;
	if (dev->screen) {
		const struct display_rect all = {0, 0, dev->screen_width, dev->screen_height};
		ops->mode(data, 0, all.w, all.h);
		ops->update(data, 0, &all, dev->screen, all.w * 4);
	}
	return 0;
}

void device_remove_display(struct device *dev, void *data)
{
	if (dev->display_data == data)
		dev->display = NULL;
}

uint32_t device_heads(const struct device *dev)
{
	return dev->heads;
}

void device_set_preferred_mode(struct device *dev, uint32_t head, const struct display_mode *mode)
{
	dev->preferred[head] = *mode;
}

struct display_mode device_preferred_mode(const struct device *dev, uint32_t head)
{
	return dev->preferred[head];
}

void virtio_gpu_save(struct virtio_gpu *gpu, struct state_writer *w)
{
	state_put(w, gpu->dev->history, sizeof(gpu->dev->history));
	state_put_u64(w, gpu->dev->driver_features);
	state_put(w, gpu->dev->config, sizeof(gpu->dev->config));
}

int virtio_gpu_load(struct virtio_gpu *gpu, struct state_reader *r)
{
	state_get(r, gpu->dev->history, sizeof(gpu->dev->history));
	gpu->dev->driver_features = state_get_u64(r);
	state_get(r, gpu->dev->config, sizeof(gpu->dev->config));
	return state_bad(r) ? -EBADMSG : 0;
}

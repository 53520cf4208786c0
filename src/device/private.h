/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_PRIVATE_H
#define VGPU_DEVICE_PRIVATE_H

/* What the files of this folder share. Nobody else includes it. */

#include "device/device.h"

#include "base/idmap.h"
#include "base/log.h"
#include "stream/stream.h"

#include "protocol/stats.h"

/* Budgets of one device, over all of its clients. Linux guests were seen to use a tenth of these.
 */
#define DEVICE_MAX_RESOURCES    65536u
#define DEVICE_MAX_CONTEXTS     512u
#define DEVICE_MAX_BACKING      32768u /* scatter entries of one resource */
#define DEVICE_MAX_DISPLAYS     2
#define DEVICE_MAX_SUB_CONTEXTS 512u           /* a GL context of the host each */
#define DEVICE_MAX_OBJECT_BYTES (256ull << 20) /* over all contexts */
#define DEVICE_RESOURCE_COST    1024u          /* bytes of quota that any resource costs at least */
#define DEVICE_NAME_MAX         64

struct resource {
	struct device_client *client;
	uint32_t handle;               /* the client's */
	struct stream_resource stream; /* .id: the renderer's */
	bool gone;                     /* destroyed, but streams still refer to it */
	struct renderer_resource_desc desc;
	uint64_t cost; /* charged to the quota, bytes */
	struct iovec *iov;
	unsigned n_iov;
	uint64_t backing_bytes;
	uint64_t backing_cost; /* of the list itself, charged to the quota, bytes */
	bool has_uuid;
	uint8_t uuid[16];
	uint32_t scanouts; /* bit per head that shows it */
};

struct context {
	struct device_client *client;
	uint32_t handle;
	uint32_t id;
	bool lost;
	struct stream *stream;
	struct idmap attached;          /* by the client's handle: struct resource */
	struct stream_counters counted; /* already in the stats page */
	char name[DEVICE_NAME_MAX];
};

struct screen {
	struct resource *resource; /* NULL: off */
	struct display_rect rect;  /* of the resource */
	uint8_t *pixels;           /* rect.w * rect.h, B8G8R8X8: what displays were last given */
	uint8_t *fresh;            /* the same size, for the next reading */
	bool dmabuf;               /* the viewer took a dma-buf */
	struct display_mode preferred;
};

struct device_client {
	struct device *device;
	struct device_client *next;
	char name[DEVICE_NAME_MAX];
	struct idmap resources; /* by handle */
	struct idmap contexts;  /* by handle */
};

struct device {
	struct device_config config;
	struct device_events events;
	void *events_data;
	char name[DEVICE_NAME_MAX];
	struct renderer *renderer;
	const struct renderer_ops *ops;
	struct device_client *clients;
	struct idmap resource_ids; /* renderer ids in use */
	struct idmap context_ids;
	uint32_t next_resource_id, next_context_id;
	uint64_t vram_used;
	struct stream_budget stream_budget;

	uint64_t fence_last;                       /* highest renderer fence asked for */
	uint64_t fence_done;                       /* highest reported complete */
	bool unfenced;                             /* work was submitted since fence_last */
	struct device_fence *fences, **fences_end; /* waiting, in order */

	struct {
		const struct display_ops *ops;
		void *data;
	} displays[DEVICE_MAX_DISPLAYS];
	struct screen screens[DISPLAY_MAX_HEADS];
	struct log_limit log;
	struct log_limit notices;
};

/* Tells the operator, within a budget. */
void device_notice(struct device *dev, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

struct resource *device_find_resource(struct device_client *client, uint32_t handle);
struct context *device_find_context(struct device_client *client, uint32_t handle);

/* A free renderer id: `wanted` if nobody has it, else the next unused one. */
uint32_t device_pick_id(const struct idmap *used, uint32_t wanted, uint32_t *next);

/* Memory accounting: -ENOMEM when the quota has no room. */
int device_charge(struct device *dev, uint64_t bytes);
void device_uncharge(struct device *dev, uint64_t bytes);

void resource_free(struct resource *res);
void context_free(struct context *ctx);
void context_lose(struct context *ctx, const char *why);

/* The resource ends: heads that show it go dark. */
void screens_forget(struct device *dev, struct resource *res);

/* Runs the callbacks of every waiting fence of the client, complete or not. */
void fences_flush_client(struct device_client *client);
void fences_complete(struct device *dev, uint64_t done);

#endif

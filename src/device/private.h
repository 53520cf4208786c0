/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_PRIVATE_H
#define VGPU_DEVICE_PRIVATE_H

/* What the files of this folder share. Nobody else includes it. */

#include "device/saving.h"

#include "base/idmap.h"
#include "base/log.h"
#include "scheduler/frames.h"
#include "stream/save.h"
#include "stream/stream.h"

#include "protocol/stats.h"

/* Budgets of one device, over all of its clients. Linux guests were seen to use a tenth of these.
 */
#define DEVICE_MAX_RESOURCES    65536u
#define DEVICE_MAX_CONTEXTS     512u
#define DEVICE_MAX_CLIENTS      4096u /* in a state that is loaded */
#define DEVICE_MAX_CAPSETS      4u
#define DEVICE_MAX_CAPSET_BYTES 65536u
#define DEVICE_MAX_BACKING      32768u /* scatter entries of one resource */
#define DEVICE_MAX_DISPLAYS     2
#define DEVICE_MAX_SUB_CONTEXTS 512u           /* a GL context of the host each */
#define DEVICE_MAX_OBJECT_BYTES (256ull << 20) /* over all contexts */
#define DEVICE_RESOURCE_COST    1024u          /* bytes that any resource counts in a saved state */
/* Measured on llvmpipe: a program that was drawn with. What a context costs, the renderer says. */
#define DEVICE_PROGRAM_COST (512ull << 10)
#define DEVICE_DRIVER_FREE  (64ull << 20) /* of these that no quota is charged for */
/* That nobody counts: messages in flight (256 MiB), what the driver keeps unseen. */
#define DEVICE_SPARE      (384ull << 20)
#define DEVICE_GROWN      (32ull << 20) /* who made it keep less is not who is at fault */
#define DEVICE_LOOK_NS    (10ull * 1000 * 1000)
#define DEVICE_TRIM_BYTES (4ull << 20) /* so much is given back at once */
#define DEVICE_NAME_MAX   64

struct resource {
	struct device_client *client;
	uint32_t handle;               /* the client's; 0: it destroyed it, streams refer to it */
	struct stream_resource stream; /* .id: the renderer's */
	uint64_t serial;               /* never used again, by no process */
	struct renderer_resource_desc desc;
	uint64_t cost; /* charged to the quota, bytes */
	struct iovec *iov;
	unsigned n_iov;
	uint64_t backing_bytes;
	uint64_t backing_cost; /* of the list itself, charged to the quota, bytes */
	struct iovec *real;    /* while `iov` points to scratch memory: the backing; else NULL */
	uint8_t *scratch;
	size_t scratch_size;
	struct resource *next_condemned;
	bool condemned;  /* on the device's list */
	uint64_t copied; /* epoch at which its contents were last copied ahead; 0: never */
	uint32_t parts;  /* of its contents that came, while loading */
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
	bool stopped;                   /* before a transfer; what precedes it was run */
	bool reads_back;                /* commands that were checked but not run write backings */
	uint64_t grown;                 /* the process's memory while it ran commands, bytes */
	struct idmap *borrowed; /* while loading: resources by the renderer's id, attached so far */
	char name[DEVICE_NAME_MAX];
};

struct screen {
	struct resource *resource; /* NULL: off */
	struct display_rect rect;  /* of the resource */
	uint8_t *pixels;           /* rect.w * rect.h, B8G8R8X8: what displays were last given */
	uint8_t *fresh;            /* the same size, for the next reading */
	uint64_t cost;             /* charged to the quota for them, bytes */
	bool dmabuf;               /* the viewer took a dma-buf */
	struct display_mode preferred;
	struct display_cursor cursor;
	uint32_t *cursor_image; /* DISPLAY_CURSOR_SIZE squared; NULL: there was none */
	uint64_t frame_ns;      /* when it last showed a frame; 0: none yet */
	struct frames pace;
};

struct device_client {
	struct device *device;
	struct device_client *next;
	uint32_t id;
	bool unclaimed; /* loaded, and nobody asked for it yet */
	char name[DEVICE_NAME_MAX];
	uint64_t frame_ns;      /* when it last finished a frame; 0: none yet */
	struct idmap resources; /* by handle */
	struct idmap contexts;  /* by handle */
};

/* What guests were promised, when that was by a predecessor. */
struct promised_capset {
	struct renderer_capset info;
	uint8_t *bytes;
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
	uint32_t next_resource_id, next_context_id, next_client_id;
	uint64_t next_serial;
	struct resource *condemned; /* nobody refers to them, but commands may not have run yet */
	uint64_t vram_used;         /* quota.c */
	uint64_t streams_charged;   /* of that: stream_budget_total() when it was last settled */
	uint64_t programs;          /* counted in there */
	uint64_t freed;             /* since memory was last given back to the node, bytes */
	bool lenient;
	struct {
		uint64_t limit, last; /* bytes; limit 0: there is none */
		uint64_t looked;      /* when `last` was so */
	} memory;
	struct stream_budget stream_budget;
	struct promised_capset promised[DEVICE_MAX_CAPSETS];
	uint32_t n_promised;

	const struct device_gate *gate; /* NULL: open */
	struct journal *journal;
	bool journal_full; /* a payload found no room: the later ones stay out, too */
	uint64_t
		pending_since; /* what the driver is at since then; 0: nothing that is waited for */
	struct {
		bool on;
		bool executed, careful, skip; /* the record at hand */
		bool failed; /* payloads that do not fit, or a driver that gave up */
	} replay;
	struct {
		uint64_t epoch;   /* when the round began; 0: none is under way */
		uint64_t done;    /* serial up to which it got */
		uint64_t end;     /* serials from here on are the next round's */
		uint64_t part_of; /* serial of which it copied only */
		uint32_t parts;   /* so many parts */
	} precopy;

	uint64_t fence_last; /* highest renderer fence asked for */
	uint64_t fence_done; /* highest reported complete */
	bool unfenced;       /* work was submitted since fence_last */
	struct {
		uint64_t fence; /* when it is complete, so is the journal up to … */
		uint64_t mark;
	} finishing;                               /* fence 0: there is none */
	uint64_t working_since;                    /* measured by fences; 0: the driver is idle */
	struct device_fence *fences, **fences_end; /* waiting, in order */
	uint64_t held_until;       /* none of them is run before; 0: nothing is held back */
	struct frames client_pace; /* of all clients that flush no screen */

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

/* Memory accounting (quota.c is the theory): -ENOMEM when the quota has no room. */
int device_charge(struct device *dev, uint64_t bytes);
/* The same, and tells the operator what of whose found no room. */
int device_charge_for(struct device_client *client, const char *what, uint64_t bytes);
void quota_init(struct device *dev);
/* While a state is loaded, up to device_drop_unclaimed(). */
void quota_lenient(struct device *dev, bool lenient);
/* After whatever may have changed what streams and programs take. False: that is over quota. */
bool quota_settle(struct device *dev);
/* The device is made: what the process holds now is not its guests'. */
void quota_begin(struct device *dev);
/* After commands ran: false when the process holds more than any guest may make it hold, and this
 * context (`grown`: its sum so far) has a part in that. */
bool quota_looks_right(struct device *dev, uint64_t *grown);
uint64_t quota_room_for_programs(const struct device *dev);
int quota_add_context(struct device *dev); /* -ENOMEM */
void quota_remove_context(struct device *dev);

/* How a resource comes into being, for a client (id 0: any) and when loading. */
struct resource_wish {
	struct device_client *client;
	uint32_t handle, id; /* handle 0: its owner destroyed it */
	bool free_of_charge;
	const struct renderer_resource_desc *desc;
};
int resource_make(const struct resource_wish *wish, struct resource **ret);
/* Its owner is done with it; it stays as long as streams refer to it. */
void resource_free(struct resource *res);
void resource_release(struct resource *res);
/* Streams refer to it no more; commands that were checked and not run yet may use it. */
void resource_condemn(struct resource *res);
/* Everything that was checked has run. */
void resources_bury(struct device *dev);
uint64_t resource_cost(const struct renderer_resource_desc *desc); /* 0: impossible */
/* What it counts in a saved state, by whatever version that was saved. */
uint64_t resource_saved_cost(const struct renderer_resource_desc *desc);
/* A part of its contents is larger than a section of a state can be. */
bool resource_is_too_large_to_save(const struct renderer_resource_desc *desc);
/* Bytes are nowhere but in its backing: what the library keeps of it is never used while it has
 * one. */
bool resource_is_guests(const struct resource *res);

/* What the library puts into the buffer of a query whose result is asked for. */
struct virgl_query_result {
	uint32_t state, size; /* VIRGL_QUERY_RESULT_* */
	uint64_t result;
};
enum { VIRGL_QUERY_RESULT_DONE = 1 };
bool resource_is_query_result(const struct resource *res);
static inline const struct iovec *resource_backing(const struct resource *res)
{
	return res->real ? res->real : res->iov;
}
/* Lets the renderer see private memory in place of the backing, or the backing again. The list it
 * holds stays where it is and only points elsewhere, so nothing is copied in or out. */
int resource_divert(struct resource *res);
void resource_undivert(struct resource *res);

/* Renderer id 0: any. */
int context_make(struct device_client *client, uint32_t handle, uint32_t id, const char *name,
	size_t name_len, struct context **ret);
void context_free(struct context *ctx);
void context_lose(struct context *ctx, const char *why);
/* Checks and runs commands: -EIO when the context is lost by that. */
int context_run(struct context *ctx, uint32_t *dwords, size_t n);
/* For commands that came out of a stream. */
int context_emit(void *data, uint32_t *dwords, size_t n);

/* Decides what becomes of a transfer inside a stream (struct stream_resource_ops). */
int context_transfer(void *data, const struct stream_transfer *t);

/* Before anything that makes the driver work: waits until it may. */
static inline void device_enter(const struct device *dev)
{
	if (dev->gate)
		dev->gate->enter(dev->gate->data);
}

/* Around whatever can hang: tells the keeper since when. */
void device_busy(struct device *dev);
void device_idle(struct device *dev);
/* Of a buffer in scratch memory: a result that comes now can be told from what was there. */
void replay_expect_result(struct resource *res);

struct device_client *client_new(struct device *dev, uint32_t id, const char *name);

/* -EINVAL when a head cannot show that. */
int screen_show(
	struct device *dev, uint32_t head, struct resource *res, const struct display_rect *rect);
/* Reads the whole head anew. */
int screen_refresh(struct device *dev, uint32_t head);
int screen_set_cursor(
	struct device *dev, const struct display_cursor *cursor, const uint32_t *image);
/* The resource ends: heads that show it go dark. */
void screens_forget(struct device *dev, struct resource *res);

/* A fence behind all work so far: fence_last. */
int fence_point(struct device *dev);

/* account.c: one frame of a client or of a screen, whose last was then. */
void account_frame(struct device *dev, uint64_t *last_ns);
/* Work was submitted, or the renderer was polled: is a fence needed to measure by? */
void account_work(struct device *dev);
void account_fenced(struct device *dev);     /* fence_last has risen */
void account_fence_done(struct device *dev); /* fence_done has */

/* pace.c: the frame-rate limit. -EINVAL. */
int pace_init(struct device *dev, uint32_t max_fps);
void pace_screen(struct device *dev, struct screen *screen); /* it shows a frame */
bool pace_holds(struct device *dev);                         /* are completions held back now? */
void pace_let_go(struct device *dev);

/* Runs the callbacks of every waiting fence of the client, complete or not. */
void fences_flush_client(struct device_client *client);
void fences_complete(struct device *dev, uint64_t done);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_LOAD_PRIVATE_H
#define VGPU_DEVICE_LOAD_PRIVATE_H

/*
 * Loading. Nothing in a state is believed: what it makes is made by the ways in which a guest makes
 * it, under the same limits and the same quota, and is complete or refused as a whole.
 *
 *   load.c          order of sections, beginning and end
 *   load_device.c   SOURCE, DEVICE, CLIENT
 *   load_resource.c RESOURCE, CONTENT, and what was copied ahead
 *   load_context.c  CONTEXT, the streams, queries, transform feedback
 *
 * What was copied ahead belongs to a client of its own, `ahead`, until the RESOURCE sections of the
 * state proper say whose it is. It is not charged to the quota until then (it may be dead by now),
 * but limited to twice of it.
 */

#include "device/state.h"

struct saved_resource {
	uint32_t client, handle, id, flags;
	uint64_t serial;
	struct renderer_resource_desc desc;
	uint8_t uuid[16];
};

struct saved_query {
	uint32_t sub_context, handle, type;
	struct renderer_query query;
};

struct loading_context {
	struct context *ctx;
	struct idmap borrowed;
	uint32_t seen; /* bit per enum state_section_type */
	uint32_t n_queries;
	struct saved_query *queries; /* sorted */
};

struct saved_head {
	uint32_t resource;
	struct display_rect rect;
	struct display_mode preferred;
	struct display_cursor cursor;
	uint32_t *image;
};

struct device_loader {
	struct device *dev;
	struct device_client *ahead;
	uint64_t ahead_bytes;
	enum state_section_type last; /* of the state proper; 0: it has not begun */
	bool settled;                 /* the list of resources is complete */
	struct saved_resource *resources;
	uint32_t n_resources, room;
	struct loading_context *contexts;
	uint32_t n_contexts;
	uint32_t n_clients;
	uint64_t cost;
	uint64_t next_serial;
	uint32_t next_resource_id, next_context_id, next_client_id;
	struct saved_head heads[DISPLAY_MAX_HEADS];
	uint8_t *zeros;
	size_t zeros_size;
	int error; /* the first; why[] says which */
	char why[256];
};

/* Notes the first error and returns `error`. */
int load_refuse(struct device_loader *l, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

typedef int (*load_section_fn)(struct device_loader *l, struct state_reader *r);
int load_source(struct device_loader *l, struct state_reader *r);
int load_formats(struct device_loader *l, struct state_reader *r);
int load_device(struct device_loader *l, struct state_reader *r);
int load_client(struct device_loader *l, struct state_reader *r);
int load_resource(struct device_loader *l, struct state_reader *r);
int load_content(struct device_loader *l, struct state_reader *r);
int load_context(struct device_loader *l, struct state_reader *r);
int load_objects(struct device_loader *l, struct state_reader *r);
int load_queries(struct device_loader *l, struct state_reader *r);
int load_bindings(struct device_loader *l, struct state_reader *r);
int load_streamout(struct device_loader *l, struct state_reader *r);

struct device_client *load_find_client(struct device_loader *l, uint32_t id);
/* All RESOURCE sections are there. */
int load_settle(struct device_loader *l);
/* The same for what came after it, with nothing missing. */
int load_finish_contexts(struct device_loader *l);
int load_finish_resources(struct device_loader *l);
int load_finish_heads(struct device_loader *l);

#endif

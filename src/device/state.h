/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_STATE_H
#define VGPU_DEVICE_STATE_H

/*
 * The payloads of the device's sections (protocol/state.h); numbers are little-endian u32 unless
 * they say otherwise, texts are u32 length and bytes.
 *
 *   SOURCE    text renderer, text program version, n capsets {id, version, size, bytes}
 *   FORMATS   struct formats_file, as far as this process has tried formats
 *   DEVICE    u64 vram bytes, heads, max width, max height, next ids of resources, contexts and
 *             clients, u64 next serial, u64 bytes that resources cost,
 *             per head {resource (0: off), x, y, w, h, preferred {enabled, width, height},
 *             cursor {x, y, hot x, hot y, visible, has image, image}}
 *   CLIENT    id, text name
 *   RESOURCE  client, handle (0: destroyed, but in use), id, u64 serial, the ten fields of struct
 *             renderer_resource_desc, flags (1 it has an uuid, 2 it had a backing), uuid
 *   CONTENT   id, part, enum state_encoding, u64 serial, u64 size, bytes
 *   CONTEXT   client, handle, id, flags (1 lost), text name, n attached {handle, id}
 *   OBJECTS, BINDINGS   context id, virgl stream with the renderer's ids
 *   QUERIES   context id, n {sub-context, handle, type, state, u64 value}
 *   STREAMOUT context id, n {index, begun, 4 u64 bytes, 4 u64 vertices}
 *   LOSSY     text
 *
 * A resource's parts come in order. Copied ahead: RESOURCE and CONTENT only, before SOURCE; the
 * RESOURCE sections after it say what of that is still true, and under which serial.
 */

#include "base/checked.h"
#include "device/private.h"
#include "renderer/format.h"
#include "state/section.h"

enum state_encoding {
	STATE_RAW,
	STATE_ZERO,    /* all bytes are 0; none follow */
	STATE_NOT_HERE /* in the client's memory, or nowhere; none follow */
};

enum { STATE_RESOURCE_UUID = 1, STATE_RESOURCE_BACKING = 2, STATE_CONTEXT_LOST = 1 };

enum { STATE_MAX_PROBLEMS = 32 };

typedef void (*state_problem_fn)(void *data, bool refused, const char *text);
/*
 * What cannot be saved exactly now. The driver has finished. `clocks`: also which queries measure
 * time, whose state is saved but who will have measured the pause.
 */
void state_problems(struct device *dev, bool clocks, state_problem_fn found, void *data);

/* All of the device's resources (contexts), by rising serial (id); *ret_n of them, to be freed;
 * NULL and -ENOMEM. */
int state_resources(struct device *dev, struct resource ***ret, size_t *ret_n);
int state_contexts(struct device *dev, struct context ***ret, size_t *ret_n);

void state_put_resource(struct state_writer *w, const struct resource *res);
/* `ret_lost`: it could be read by no means; not set otherwise. */
void state_put_content(struct device *dev, struct state_writer *w, const struct resource *res,
	uint32_t part, bool *ret_lost);
/* After reading or writing contents. */
void state_contents_done(struct device *dev);
/* It was not written to since it was copied ahead. */
static inline bool state_is_copied(const struct resource *res)
{
	return res->copied && res->stream.written < res->copied;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_DEVICE_FAKE_RENDERER_H
#define VGPU_TESTS_DEVICE_FAKE_RENDERER_H

/*
 * A renderer whose pictures are single values: a draw adds to the bytes of what it draws into, so
 * every write that is lost, doubled or done in another order shows in the contents. It knows
 * surfaces, framebuffers, clears, transfers and queries; results of queries go into their buffers
 * when the device asks whether work is complete. Buffers of bind CUSTOM behave as in the library:
 * attaching overwrites the backing, detaching reads it.
 */

#include "renderer/interface.h"

extern const struct renderer_ops fake_renderer;

/* What the next ones do; zero at first. */
struct fake_faults {
	int content_read, content_write, submit_after; /* -errno; submits until one fails */
	int capset_covers;
	bool lossy;
	const char *formats; /* what was found out about them; NULL: nothing */
};
extern struct fake_faults fake_faults;
/* What was last told about formats. */
extern char fake_told_formats[32];

/* Commands, as the tests send them; return the dwords written. */
unsigned fake_put_surface(uint32_t *dw, uint32_t handle, uint32_t resource);
unsigned fake_put_destroy(uint32_t *dw, uint32_t handle);
unsigned fake_put_framebuffer(uint32_t *dw, uint32_t surface);
unsigned fake_put_clear(uint32_t *dw, uint32_t value);
unsigned fake_put_query(uint32_t *dw, uint32_t handle, uint32_t buffer);
unsigned fake_put_query_begin(uint32_t *dw, uint32_t handle);
/* Ends it and asks for its result. */
unsigned fake_put_query_end(uint32_t *dw, uint32_t handle);
unsigned fake_put_transfer(
	uint32_t *dw, uint32_t resource, uint32_t bytes, uint32_t offset, bool from_host);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_TRIMMER_H
#define VGPU_PROCESS_TRIMMER_H

/*
 * What guests deleted goes back to the node: the allocator would keep it for later. Not each piece
 * at once, or a guest that makes and deletes a texture a frame would have the kernel find and clear
 * new pages for every one: what is deleted within TRIMMER_DELAY_MS goes together, and less than
 * device_trim_due() asks for stays.
 */

struct device;
struct loop;
struct trimmer;

#define TRIMMER_DELAY_MS 250

int trimmer_create(struct device *dev, struct loop *loop, struct trimmer **ret);
void trimmer_destroy(struct trimmer *t); /* NULL-safe */
/* From the loop's idle hook. */
void trimmer_idle(struct trimmer *t);

#endif

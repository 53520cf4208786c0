/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_CUSTODY_H
#define VGPU_PROTOCOL_CUSTODY_H

/*
 * What a keeper holds for the device processes of a vGPU, so that it outlives each of them: the
 * places that CUSTODY, RELEASE and GIVE (protocol/keeper.h) name, and the page that says which of
 * them count. The device process is not trusted: any place that does not exist ends its channel.
 */

#include <stdint.h>

#define KEEPER_MAX_MEMORY 32 /* guest-memory regions in custody */
#define KEEPER_MAX_RINGS  2
#define KEEPER_MAX_HEADS  16 /* screens in custody */

enum keeper_custody_kind {
	KEEPER_CUSTODY_MEMORY, /* index: region slot; a: gpa, b: size, c: offset in the file */
	KEEPER_CUSTODY_KICK,   /* index: ring */
	KEEPER_CUSTODY_CALL,
	KEEPER_CUSTODY_ERR,
	KEEPER_CUSTODY_INFLIGHT, /* a: size, b: offset */
	KEEPER_CUSTODY_GPU_SOCKET,
	KEEPER_CUSTODY_SCREEN, /* index: head; a: width, b: height */
	/* The following are there many times. They end with their connection, or by RELEASE. */
	KEEPER_CUSTODY_WIRE, /* index: connection; its durable page and buffers (base/durable.h) */
	KEEPER_CUSTODY_SHARED, /* index: connection, a: number; b: size; memory shared with a client
				*/
	KEEPER_CUSTODY_EVENT,  /* index: connection, a: number; an eventfd a client waits for */
	KEEPER_CUSTODY_REGION, /* index: connection, a: number; the device process' own shared
				  memory, or a descriptor of a message that may be replayed */
	/* These belong to the binding. */
	KEEPER_CUSTODY_ANCHOR,  /* which image and journal count: see keeper_anchor */
	KEEPER_CUSTODY_IMAGE,   /* index: slot, 0..KEEPER_IMAGES-1; a: size */
	KEEPER_CUSTODY_JOURNAL, /* index: slot */
	KEEPER_CUSTODY_PRECOPY, /* index: round */
	KEEPER_CUSTODY_SHADERS, /* index: file; what the driver compiled, for the next process */
	KEEPER_CUSTODY_KIND_COUNT
};

#define KEEPER_IMAGES      2u
#define KEEPER_MAX_CUSTODY 65536u /* of the kinds that are there many times, together */
#define KEEPER_MAX_PRECOPY 8u     /* rounds */
#define KEEPER_MAX_SHADERS 3u     /* files */

/*
 * One page, made by the device process, put into custody before its first connection is served. It
 * is written by the device process alone. Images and journals are written into the slots that do
 * not count; then one store of `current` makes both count.
 */
struct keeper_anchor {
	uint32_t magic, version;
	uint64_t current; /* bits 0-7 journal slot, 8-15 image slot or 0xff: none, 16-: a count */
	uint64_t
		busy_since; /* CLOCK_MONOTONIC ns; 0: idle. Who watches ends a process that hangs */
};

#define KEEPER_ANCHOR_MAGIC   0x4e415056u /* "VPAN" */
#define KEEPER_ANCHOR_VERSION 1u
#define KEEPER_ANCHOR_SIZE    4096u
#define KEEPER_NO_IMAGE       0xffu
#define KEEPER_NO_JOURNAL     0xffu /* nothing happened yet */
#define KEEPER_NOT_KEPT       0xfeu /* in place of a journal: it was given up, see NOTICE */

struct keeper_custody {
	uint32_t kind;
	uint32_t index;
	uint64_t a, b, c;
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_SHADERS_H
#define VGPU_KEEPER_SHADERS_H

/*
 * Compiled shaders of one tenant, from one binding to the next and from one of its vGPUs to another
 * (docs/decisions/0013-tenants.md).
 *
 *   binding begins ─ SHADERS: the archive, to read ─▶ device process ─▶ its own private files
 *   every KEEPER_SHADERS_MS, but once only while its guest rests (at once in its first rest), and
 *   when the binding ends: the private files, which are in custody ─▶ a child of the keeper, that
 *   checks and adds what is new to the archive, and ends
 *
 * Device processes never share a file that one of them can write. Which archive a binding has is
 * decided here, from the folder that vgpud gave this keeper and from whom the kernel says the peer
 * is; a device process has no say in it but for the driver it named before it was READY, when no
 * guest had spoken to it.
 *
 * What a process left that crashed or hung is not taken: it may be what crashed it.
 */

#include "shaders/shaders.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_SHADERS_MS    30000u        /* between two looks at what a long binding compiled */
#define KEEPER_SHADERS_BYTES (64ull << 20) /* of a tenant, where nobody says */
#define KEEPER_MERGE_MS      5000u         /* a child that takes longer is killed */

struct keeper;
struct device_process;
struct loop_source;

struct keeper_shaders {
	bool given;    /* the present binding has an archive: */
	char name[64]; /* this one */
	uint32_t driver;
	uint64_t looked_at;   /* ms; 0: not yet */
	uint64_t look_at;     /* ms; 0: not due */
	uint64_t index_bytes; /* of what was merged last */
	/* A child at work, and one merge that waits for it. */
	int pidfd; /* -1: none */
	struct loop_source *source;
	uint64_t kill_at; /* ms */
	char busy[64];    /* the archive it writes */
	char next[64];    /* "": none waits */
	uint32_t next_driver;
	int next_fds[SHADERS_DRIVER_FILES];
};

void shaders_init(struct keeper_shaders *s);
void shaders_finish(struct keeper *k); /* a merge under way ends with the keeper */

/*
 * The first connection of a binding is about to be sent to that process: sends the archive before
 * it. 0 or what device_send() said.
 */
int shaders_give(struct device_process *d);
/* Is the archive that the present binding shall have being written just now? It is not for long. */
bool shaders_wait(const struct keeper *k);
/* Takes what the present binding's process has compiled so far, if there is anything new. */
void shaders_collect(struct keeper *k);
/* Its guest does nothing, and does something again. */
void shaders_rest(struct keeper *k);
void shaders_awake(struct keeper *k);
void shaders_binding_ended(struct keeper *k); /* custody is still there */

void shaders_check_time(struct keeper *k, uint64_t now);
uint64_t shaders_next_time(const struct keeper *k); /* UINT64_MAX: none */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_KEEPER_SHARE_H
#define VGPU_PROTOCOL_KEEPER_SHARE_H

/*
 * What a keeper is told about its vGPU's part of the GPU's time (protocol/keeper.h has the
 * messages): the group its device processes are in, holds, and time slices.
 */

#include <stdint.h>

/* A control group, by the file that takes the pids of who is in it. */
struct keeper_group {
	char procs[512];
};

#define KEEPER_HOLD_MAX_NS 50000000ull

/*
 * The device process is stopped by force from now on for `ns`, instead of what is left of an
 * earlier hold; 0: it goes on now. More than KEEPER_HOLD_MAX_NS counts as that. The keeper
 * continues it by its own clock, so nothing stays stopped when vgpud is gone. There is no answer,
 * since this is said every few ms: a process that starts, saves, loads, takes over or ends is not
 * held, and a hold ends when that begins. STATUS tells the sum, held_ns, at most once a second
 * while there are holds.
 */
struct keeper_hold {
	uint64_t ns;
};

/*
 * What a device process needs to wait for its time slices (protocol/slice_pages.h), in three
 * messages in this order. vgpud makes them; the keeper gives them to each device process when that
 * begins to serve. One that takes over is not gated until then: its guest waits for it.
 */
enum keeper_grant_part {
	KEEPER_GRANT_PAGE,  /* memfd, struct slice_page; sealed against writing */
	KEEPER_GRANT_CLAIM, /* memfd, struct slice_claim */
	KEEPER_GRANT_WAKE,  /* eventfd; with it they count */
	KEEPER_GRANT_PARTS
};

struct keeper_grant {
	uint32_t part;
	uint32_t pad;
};

#endif

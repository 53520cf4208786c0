/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_KEEP_H
#define VGPU_FRONTEND_KEEP_H

/*
 * What a front end needs so that its connection outlives the process: somewhere to put descriptors
 * (the keeper, through the process), somewhere to find a predecessor's, and the journal. Given at
 * creation; NULL: the connection ends with the process, as in unit tests.
 */

#include "protocol/keeper.h"
#include "state/journal.h"

#include <stdint.h>

struct frontend_keep {
	void *data;
	/* The keeper gets a duplicate of `fd`. It is safe there when this returns 0. */
	int (*put)(void *data, const struct keeper_custody *what, int fd);
	void (*drop)(void *data, const struct keeper_custody *what);
	/*
	 * A predecessor's descriptor of that kind, index and key (what->a where the kind has one),
	 * now the caller's, and *what filled in with what it was put with; -ENOENT. It stays in
	 * custody and can be taken again, while a predecessor's state is loaded and replayed.
	 */
	int (*take)(void *data, struct keeper_custody *what);
	/* The journal of the moment (it changes with each image); may return NULL. */
	struct journal *(*journal)(void *data);
	/* There is no room in the journal: an image is made as soon as this message is done. */
	void (*image_due)(void *data);
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_IDMAP_H
#define VGPU_BASE_IDMAP_H

/*
 * Map from a guest-chosen 32-bit id to a pointer: open addressing, grows and shrinks, and its hash
 * is seeded so that a guest cannot choose ids that collide. The caller limits the count.
 */

#include <stddef.h>
#include <stdint.h>

struct idmap_slot {
	uint32_t id;
	void *value; /* NULL: free */
};

struct idmap {
	struct idmap_slot *slots;
	uint32_t capacity; /* 0 or a power of two */
	uint32_t count;
	uint32_t seed;
};

void idmap_init(struct idmap *map, uint32_t seed);
void idmap_finish(struct idmap *map); /* frees the table, not the values */

void *idmap_get(const struct idmap *map, uint32_t id); /* NULL: not there */

/* Adds; -EEXIST if the id is taken, -ENOMEM. `value` must not be NULL. */
int idmap_add(struct idmap *map, uint32_t id, void *value);

/* Takes the id out and returns its value, or NULL. */
void *idmap_remove(struct idmap *map, uint32_t id);

/*
 * Iterates: start with *cursor = 0; returns NULL at the end. Nothing may be added while iterating;
 * removing may move later entries, so to empty a map remove the first one until there is none.
 */
void *idmap_next(const struct idmap *map, uint32_t *cursor, uint32_t *ret_id);

#endif

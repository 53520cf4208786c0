/* SPDX-License-Identifier: Apache-2.0 */
#include "base/idmap.h"

#include <errno.h>
#include <stdlib.h>

#define IDMAP_FIRST 16u
#define IDMAP_KEPT  1024u /* a table of so many slots does not shrink */

void idmap_init(struct idmap *map, uint32_t seed)
{
	*map = (struct idmap){.seed = seed};
}

void idmap_finish(struct idmap *map)
{
	free(map->slots);
	*map = (struct idmap){0};
}

static uint32_t idmap_home(const struct idmap *map, uint32_t id)
{
	uint32_t h = (id ^ map->seed) * 0x9e3779b1u;
	h ^= h >> 15;
	h *= 0x85ebca77u;
	h ^= h >> 13;
	return h & (map->capacity - 1);
}

static struct idmap_slot *idmap_find(const struct idmap *map, uint32_t id)
{
	uint32_t i = idmap_home(map, id);
	while (map->slots[i].value && map->slots[i].id != id)
		i = (i + 1) & (map->capacity - 1);
	return &map->slots[i];
}

void *idmap_get(const struct idmap *map, uint32_t id)
{
	return map->capacity ? idmap_find(map, id)->value : NULL;
}

static int idmap_resize(struct idmap *map, uint32_t capacity)
{
	struct idmap_slot *old = map->slots;
	uint32_t old_capacity = map->capacity;
	struct idmap_slot *slots = calloc(capacity, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	map->slots = slots;
	map->capacity = capacity;
	for (uint32_t i = 0; i < old_capacity; i++) {
		if (old[i].value)
			*idmap_find(map, old[i].id) = old[i];
	}
	free(old);
	return 0;
}

static int idmap_grow(struct idmap *map)
{
	uint32_t capacity = map->capacity ? map->capacity * 2 : IDMAP_FIRST;

	return capacity < map->capacity ? -ENOMEM : idmap_resize(map, capacity);
}

int idmap_add(struct idmap *map, uint32_t id, void *value)
{
	if (map->count + 1 > map->capacity / 4 * 3) {
		int r = idmap_grow(map);
		if (r < 0)
			return r;
	}
	struct idmap_slot *slot = idmap_find(map, id);
	if (slot->value)
		return -EEXIST;
	*slot = (struct idmap_slot){.id = id, .value = value};
	map->count++;
	return 0;
}

void *idmap_remove(struct idmap *map, uint32_t id)
{
	if (!map->capacity)
		return NULL;
	struct idmap_slot *slot = idmap_find(map, id);
	void *value = slot->value;
	if (!value)
		return NULL;
	map->count--;

	/* Close the gap: move back every later entry of this run that may live earlier. */
	uint32_t gap = (uint32_t)(slot - map->slots);
	uint32_t mask = map->capacity - 1;
	for (uint32_t i = (gap + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
		uint32_t home = idmap_home(map, map->slots[i].id);
		if (((i - home) & mask) >= ((i - gap) & mask)) {
			map->slots[gap] = map->slots[i];
			gap = i;
		}
	}
	map->slots[gap] = (struct idmap_slot){0};
	/* Without memory it stays as it is. */
	if (map->capacity > IDMAP_KEPT && map->count < map->capacity / 8)
		(void)idmap_resize(map, map->capacity / 2);
	return value;
}

void *idmap_next(const struct idmap *map, uint32_t *cursor, uint32_t *ret_id)
{
	while (*cursor < map->capacity) {
		const struct idmap_slot *slot = &map->slots[(*cursor)++];
		if (slot->value) {
			if (ret_id)
				*ret_id = slot->id;
			return slot->value;
		}
	}
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "handlers.h"

#include <errno.h>

/* Before mappings go away: backings are let go of, and nothing in flight points there. */
static bool memory_change_begin(struct vhost_user *vu)
{
	if (!handler_drained(vu, NULL))
		return false;
	virtio_gpu_memory_change_begin(vu->gpu);
	return true;
}

static void memory_change_end(struct vhost_user *vu)
{
	virtio_gpu_memory_change_end(vu->gpu);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		ring_remap(&vu->rings[i]);
	handler_undrain(vu);
}

/* The keeper has a say before any ring is served from the new table. */
static void memory_submit(struct vhost_user *vu)
{
	vu->memory_serial++;
	vu->memory_approved = false;
	vu->memory_asked = true;
	if (!vu->loading) /* else once, when all is there: vhost_user_thaw() */
		vu->ops->memory_done(vu->ops_data, vu->memory_serial);
}

static int memory_add(struct vhost_user *vu, const struct vhost_user_region *at, int fd)
{
	unsigned slot;
	int err = guest_memory_add(&vu->memory, at, fd, &slot, &vu->why);

	if (err)
		return err;
	session_custody(vu, KEEPER_CUSTODY_MEMORY, slot,
		(const uint64_t[3]){at->gpa, at->size, at->offset}, fd);
	return 0;
}

static void memory_remove(struct vhost_user *vu, unsigned slot)
{
	guest_memory_remove(&vu->memory, slot);
	session_release(vu, KEEPER_CUSTODY_MEMORY, slot);
}

/* Regions that stay keep their mapping, so that addresses into them stay good. */
static int memory_replace(struct vhost_user *vu, const struct vhost_user_mem_table *table,
	const struct fdpass_fds *fds)
{
	bool keep[KEEPER_MAX_MEMORY] = {false}, have[VHOST_USER_MAX_REGIONS] = {false};

	for (unsigned i = 0; i < table->count; i++) {
		int slot = guest_memory_find(&vu->memory, &table->regions[i], fds->fd[i]);
		if (slot >= 0 && !keep[slot])
			keep[slot] = have[i] = true;
	}
	for (unsigned slot = 0; slot < KEEPER_MAX_MEMORY; slot++) {
		if (!keep[slot] && vu->memory.slot[slot].at.size)
			memory_remove(vu, slot);
	}
	for (unsigned i = 0; i < table->count; i++) {
		int err = have[i] ? 0 : memory_add(vu, &table->regions[i], fds->fd[i]);
		if (err)
			return err;
	}
	return 0;
}

int handle_SET_MEM_TABLE(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_mem_table *table = &m->payload.table;

	if (table->count > VHOST_USER_MAX_REGIONS ||
		m->size < 8 + table->count * sizeof(table->regions[0]) ||
		m->fds.count != table->count)
		return handler_refuse(vu, -EINVAL, "memory table does not match its regions");
	if (!memory_change_begin(vu))
		return SESSION_AGAIN;
	int err = memory_replace(vu, table, &m->fds);
	memory_change_end(vu);
	/* After a failure too: the old table is gone, and what is left must not be served. */
	vu->memory_approved = vu->memory_asked = false;
	if (!err)
		memory_submit(vu);
	return err;
}

int handle_GET_MAX_MEM_SLOTS(struct vhost_user *vu, struct vu_message *m)
{
	handler_reply(m, KEEPER_MAX_MEMORY);
	return 0;
}

int handle_ADD_MEM_REG(struct vhost_user *vu, struct vu_message *m)
{
	if (m->fds.count != 1)
		return handler_refuse(vu, -EINVAL, "no file in ADD_MEM_REG");
	/* Nothing moves, so requests in flight and backings are not touched. */
	int err = memory_add(vu, &m->payload.reg.region, m->fds.fd[0]);
	if (!err)
		memory_submit(vu);
	return err;
}

int handle_REM_MEM_REG(struct vhost_user *vu, struct vu_message *m)
{
	int slot = guest_memory_find(&vu->memory, &m->payload.reg.region, -1);

	if (slot < 0)
		return handler_refuse(vu, slot, "no such memory region");
	if (!memory_change_begin(vu))
		return SESSION_AGAIN;
	memory_remove(vu, (unsigned)slot);
	memory_change_end(vu);
	memory_submit(vu);
	return 0;
}

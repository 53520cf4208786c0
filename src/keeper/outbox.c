/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* The next item this entry is about; NULL: that was all. */
static const struct custody_item *outbox_next_item(
	const struct keeper *k, struct outbox_entry *entry)
{
	const struct custody_item *item;

	for (; (item = custody_at(&k->custody, &entry->cursor)); entry->cursor++) {
		uint32_t kind = item->what.kind, index = item->what.index;
		bool wanted = 1u << kind & entry->kinds;
		if (kind == KEEPER_CUSTODY_IMAGE)
			wanted = wanted && 1u << index & entry->images;
		if (kind == KEEPER_CUSTODY_PRECOPY)
			wanted = wanted && index >= entry->rounds;
		if (wanted)
			return item;
	}
	return NULL;
}

static const struct connection *outbox_next_connection(
	const struct keeper *k, struct outbox_entry *entry)
{
	for (; entry->cursor < KEEPER_MAX_CONNECTIONS; entry->cursor++) {
		const struct connection *c = &k->connections[entry->cursor];
		if (c->id && c->sent)
			return c;
	}
	return NULL;
}

/* 1: the entry is done with; 0: one message of it was sent; -EAGAIN; another -errno. */
static int outbox_send_one(struct device_process *d, struct outbox_entry *entry)
{
	const struct custody_item *item;
	const struct connection *c;
	int r = 1;

	switch (entry->kind) {
	case OUTBOX_MESSAGE:
		r = device_send(d, entry->type, entry->payload, entry->fd);
		return r < 0 ? r : 1;
	case OUTBOX_GIVE:
		item = outbox_next_item(d->keeper, entry);
		if (item)
			r = device_send(d, KEEPER_DEVICE_GIVE, &item->what, item->fd);
		break;
	case OUTBOX_RESUME:
		c = outbox_next_connection(d->keeper, entry);
		if (c)
			r = device_send(d, KEEPER_DEVICE_RESUME, &c->info, c->fd);
		break;
	}
	if (r == 0)
		entry->cursor++;
	return r;
}

void outbox_flush(struct device_process *d)
{
	struct outbox *out = &d->outbox;

	while (out->count) {
		struct outbox_entry *entry = &out->entries[out->first];
		int r = outbox_send_one(d, entry);
		if (r < 0)
			return; /* the channel tells when it has room, or the process is dead */
		if (r == 0)
			continue;
		close_fd(&entry->fd);
		out->first = (out->first + 1) % OUTBOX_ENTRIES;
		out->count--;
	}
}

static void outbox_append(struct device_process *d, const struct outbox_entry *entry)
{
	struct outbox *out = &d->outbox;

	if (out->count == OUTBOX_ENTRIES) {
		int fd = entry->fd;
		close_fd(&fd);
		device_kill(d, "it takes no messages");
		return;
	}
	out->entries[(out->first + out->count++) % OUTBOX_ENTRIES] = *entry;
	if (out->count == 1)
		outbox_flush(d);
}

void outbox_message(
	struct device_process *d, uint32_t type, const void *payload, uint32_t size, int fd)
{
	struct outbox_entry entry = {.kind = OUTBOX_MESSAGE, .type = type, .fd = -1};

	if (size)
		memcpy(entry.payload, payload, size);
	if (fd >= 0) {
		entry.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (entry.fd < 0) {
			device_kill(d, "its keeper has no descriptor left");
			return;
		}
	}
	outbox_append(d, &entry);
}

void outbox_give(struct device_process *d, uint32_t kinds, uint32_t images, uint32_t rounds)
{
	const struct outbox_entry entry = {
		.kind = OUTBOX_GIVE, .fd = -1, .kinds = kinds, .images = images, .rounds = rounds};

	outbox_append(d, &entry);
}

void outbox_resume(struct device_process *d)
{
	const struct outbox_entry entry = {.kind = OUTBOX_RESUME, .fd = -1};

	outbox_append(d, &entry);
}

void outbox_clear(struct device_process *d)
{
	while (d->outbox.count) {
		close_fd(&d->outbox.entries[d->outbox.first].fd);
		d->outbox.first = (d->outbox.first + 1) % OUTBOX_ENTRIES;
		d->outbox.count--;
	}
}

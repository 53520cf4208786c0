/* SPDX-License-Identifier: Apache-2.0 */
#include "control/ledger.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 16u
#define MIB        (1ull << 20)

const char *const ledger_kind_names[LEDGER_KIND_COUNT] = {
	[LEDGER_VM] = "vm",
	[LEDGER_VGPU] = "vgpu",
	[LEDGER_PASSTHROUGH] = "passthrough",
	[LEDGER_MEDIATED] = "mediated",
};

void ledger_init(struct ledger *ledger, const struct ledger_node *node)
{
	*ledger = (struct ledger){.node = *node};
}

void ledger_finish(struct ledger *ledger)
{
	free(ledger->list);
	*ledger = (struct ledger){0};
}

static struct ledger_entry *ledger_at(const struct ledger *ledger, const char *name)
{
	for (size_t i = 0; i < ledger->n; i++) {
		if (!strcmp(ledger->list[i].name, name))
			return &ledger->list[i];
	}
	return NULL;
}

const struct ledger_entry *ledger_find(const struct ledger *ledger, const char *name)
{
	return ledger_at(ledger, name);
}

void ledger_drop(struct ledger *ledger, const char *name)
{
	struct ledger_entry *entry = ledger_at(ledger, name);

	if (!entry)
		return;
	ledger->known -= entry->bytes;
	ledger->reserved -= entry->reserves ? entry->bytes : 0;
	ledger->missing -= entry->missing;
	*entry = ledger->list[--ledger->n];
}

static int ledger_grow(struct ledger *ledger)
{
	size_t room = ledger->room ? 2 * ledger->room : FIRST_ROOM;
	void *grown = reallocarray(ledger->list, room, sizeof(*ledger->list));

	if (!grown)
		return -ENOMEM;
	ledger->list = grown;
	ledger->room = room;
	return 0;
}

int ledger_put(struct ledger *ledger, const struct ledger_entry *entry)
{
	const struct ledger_entry copy = *entry; /* it may be one of the list */
	uint64_t known, reserved, missing;

	if (!copy.name[0] || copy.kind >= LEDGER_KIND_COUNT || copy.missing > copy.bytes ||
		(copy.missing && !copy.reserves))
		return -EINVAL;
	/* Nothing is changed unless all of it can be. */
	const struct ledger_entry *old = ledger_at(ledger, copy.name);
	if (!checked_add(ledger->known - (old ? old->bytes : 0), copy.bytes, &known) ||
		!checked_add(ledger->reserved - (old && old->reserves ? old->bytes : 0),
			copy.reserves ? copy.bytes : 0, &reserved) ||
		!checked_add(ledger->missing - (old ? old->missing : 0), copy.missing, &missing))
		return -EOVERFLOW;
	if (!old && ledger->n == LEDGER_ENTRIES_MAX)
		return -ENOSPC;
	if (!old && ledger->n == ledger->room) {
		int r = ledger_grow(ledger);
		if (r < 0)
			return r;
	}
	ledger_drop(ledger, copy.name);
	ledger->list[ledger->n++] = copy;
	ledger->known = known;
	ledger->reserved = reserved;
	ledger->missing = missing;
	return 0;
}

uint64_t ledger_overcommitted(const struct ledger *ledger)
{
	return ledger->known > ledger->node.physical ? ledger->known - ledger->node.physical : 0;
}

/* a + b + c, whatever that comes to. */
static bool more_than(uint64_t limit, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t sum;

	return !checked_add(a, b, &sum) || !checked_add(sum, c, &sum) || sum > limit;
}

static unsigned long long mib(uint64_t bytes)
{
	return bytes / MIB;
}

int ledger_fits(const struct ledger *ledger, const char *name, uint64_t bytes, uint64_t missing,
	const char *what, struct error *err)
{
	const struct ledger_entry *own = ledger_at(ledger, name);
	const struct ledger_node *node = &ledger->node;
	uint64_t reserved = ledger->reserved - (own && own->reserves ? own->bytes : 0);
	uint64_t promised = ledger->missing - (own ? own->missing : 0);

	if (more_than(node->physical, reserved, bytes, node->keep_free))
		return error_set(err, ENOMEM,
			"%s: its %llu MiB, %llu MiB reserved by others and %llu MiB to stay free "
			"are more than the node's %llu MiB (end a VM, or give it less memory)",
			what, mib(bytes), mib(reserved), mib(node->keep_free), mib(node->physical));
	if (more_than(node->available, promised, missing, node->keep_free))
		return error_set(err, ENOMEM,
			"%s: %llu MiB of its %llu are not resident yet, %llu MiB are promised to "
			"others and %llu MiB shall stay free, and the node has %llu MiB available "
			"(end something, or give it less memory)",
			what, mib(missing), mib(bytes), mib(promised), mib(node->keep_free),
			mib(node->available));
	return 0;
}

int ledger_reserve(struct ledger *ledger, enum ledger_kind kind, const char *name, uint64_t bytes,
	const char *what, struct error *err)
{
	struct ledger_entry entry = {
		.kind = kind, .reserves = true, .bytes = bytes, .missing = bytes};

	int r = ledger_fits(ledger, name, bytes, bytes, what, err);
	if (r < 0)
		return r;
	snprintf(entry.name, sizeof(entry.name), "%s", name);
	r = ledger_put(ledger, &entry);
	if (r < 0)
		error_set(err, -r, "%s: it cannot be noted: %s (end a VM)", what, strerror(-r));
	return r;
}

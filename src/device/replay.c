/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Running a journal again. The front ends give the same calls as their predecessor did; here is
 * what is different meanwhile.
 *
 * Bytes that came out of a client's memory come out of the journal (transfer.c). Buffers that are
 * the guest's are scratch memory as far as the renderer can see, because results of queries go into
 * them that the guest has seen long ago, in buffers that it uses for something else by now. What
 * came into such a scratch buffer and is not in the guest's may never have been delivered; it is
 * delivered at the end. Doing so again is harmless, because guests look only when they are told
 * that the work is complete, and they ask anew for each result.
 */
#include "device/private.h"

#include "base/iov.h"
#include "state/journal.h"

#include <errno.h>
#include <string.h>

void device_set_journal(struct device *dev, struct journal *journal)
{
	dev->journal = journal;
	dev->journal_full = false;
	dev->finishing.fence = 0;
}

bool device_replaying(const struct device *dev)
{
	return dev->replay.on;
}

bool device_journal_incomplete(const struct device *dev)
{
	return dev->journal && dev->journal_full;
}

/* A result that comes from here on can be told from what was there. */
void replay_expect_result(struct resource *res)
{
	if (resource_is_query_result(res) && res->scratch_size >= sizeof(uint32_t))
		memset(res->scratch, 0, sizeof(uint32_t));
}

void device_replay_begin(struct device *dev)
{
	uint32_t cursor = 0;
	struct resource *res;

	dev->replay.on = true;
	quota_lenient(dev, dev->lenient); /* what was refused then is refused again */
	dev->replay.executed = dev->replay.careful = dev->replay.skip = dev->replay.failed = false;
	while ((res = idmap_next(&dev->resource_ids, &cursor, NULL))) {
		if (!res->iov || res->real || !resource_is_guests(res))
			continue;
		if (resource_divert(res) < 0)
			dev->replay.failed = true;
		else
			replay_expect_result(res);
	}
}

void device_replay_record(struct device *dev, const struct journal_record *record)
{
	if (dev->replay.careful || record->careful)
		device_finish_all(dev);
	dev->replay.executed = record->executed;
	dev->replay.careful = record->careful;
	dev->replay.skip = record->skip;
}

static void replay_deliver(struct resource *res)
{
	struct virgl_query_result result;
	uint32_t state = 0;

	if (!resource_is_query_result(res) || res->scratch_size < sizeof(result))
		return;
	memcpy(&result, res->scratch, sizeof(result));
	iov_read(res->real, res->n_iov, 0, &state, sizeof(state));
	if (result.state == VIRGL_QUERY_RESULT_DONE && state != VIRGL_QUERY_RESULT_DONE)
		iov_write(res->real, res->n_iov, 0, &result, sizeof(result));
}

int device_replay_end(struct device *dev)
{
	uint32_t cursor = 0;
	struct resource *res;

	device_finish_all(dev);
	while ((res = idmap_next(&dev->resource_ids, &cursor, NULL))) {
		if (!res->real)
			continue;
		replay_deliver(res);
		resource_undivert(res);
	}
	dev->replay.on = dev->replay.careful = dev->replay.executed = dev->replay.skip = false;
	return dev->replay.failed ? -EIO : 0;
}

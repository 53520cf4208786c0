/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory_smaps.h"

#include "base/checked.h"
#include "base/parse.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define LINE_MAX_BYTES 512

/* Lines "NAME:   NUMBER kB" that count, and what they are added to. */
static const struct {
	const char *name;
	size_t at;
} sums[] = {
	{"Rss:", offsetof(struct memory_range, resident)},
	{"Shared_Hugetlb:", offsetof(struct memory_range, resident)},
	{"Private_Hugetlb:", offsetof(struct memory_range, resident)},
	{"Swap:", offsetof(struct memory_range, swapped)},
	{"Pss:", offsetof(struct memory_range, pss)},
	{"Locked:", offsetof(struct memory_range, locked_pss)},
};

/* "START-END PERMISSIONS ...": the beginning of a mapping. */
static bool mapping_begins(const char *line, uint64_t *ret_start, uint64_t *ret_end)
{
	const char *at = line;

	if (!parse_next(&at, 16, UINT64_MAX, ret_start) || *at != '-')
		return false;
	at++;
	return parse_next(&at, 16, UINT64_MAX, ret_end) && *at == ' ' && *ret_start <= *ret_end;
}

static struct memory_range *range_of(
	struct memory_range *ranges, unsigned n, uint64_t start, uint64_t end)
{
	for (unsigned i = 0; i < n; i++) {
		if (start >= ranges[i].start && end <= ranges[i].end)
			return &ranges[i];
	}
	return NULL;
}

static int range_line(struct memory_range *range, const char *line)
{
	uint64_t kib, *sum;

	if (!strncmp(line, "VmFlags:", 8)) {
		range->unlocked |= !strstr(line, " lo ") && !strstr(line, " lo\n");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(sums); i++) {
		size_t len = strlen(sums[i].name);
		if (strncmp(line, sums[i].name, len) != 0)
			continue;
		const char *at = line + len;
		sum = (uint64_t *)(void *)((char *)range + sums[i].at);
		if (!parse_next(&at, 10, UINT64_MAX >> 10, &kib) ||
			!checked_add(*sum, kib << 10, sum))
			return -EBADMSG;
	}
	return 0;
}

int memory_smaps_read(FILE *smaps, struct memory_range *ranges, unsigned n)
{
	char line[LINE_MAX_BYTES];
	struct memory_range *range = NULL;
	uint64_t start, end;
	bool any = false, goes_on = false;
	int r = 0;

	while (r == 0 && fgets(line, sizeof(line), smaps)) {
		/* A path may be longer, and its rest, which a VM's owner chose, look like any line.
		 */
		bool rest = goes_on;
		goes_on = !strchr(line, '\n');
		if (rest)
			continue;
		if (mapping_begins(line, &start, &end)) {
			any = true;
			range = range_of(ranges, n, start, end);
			if (range)
				range->mapped += end - start;
		} else if (range) {
			r = range_line(range, line);
		}
	}
	if (ferror(smaps))
		return -EIO;
	return any ? r : -EBADMSG;
}

bool memory_range_locked(const struct memory_range *range)
{
	uint64_t size = range->end - range->start;
	bool there = range->mapped == size && range->resident == size && !range->swapped;

	return there && (range->huge || (!range->unlocked && range->locked_pss == range->pss &&
						range->locked_pss));
}

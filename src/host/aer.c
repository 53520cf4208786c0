/* SPDX-License-Identifier: Apache-2.0 */
#include "host/aer.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FILE_BYTES 4096 /* one page: the kernel writes no more */
#define TOTAL      "TOTAL_"

static const struct {
	const char *file, *words;
	const char *kind; /* the file is one number, of this; NULL: it has names */
} severities[AER_SEVERITY_COUNT] = {
	[AER_FATAL] = {"aer_dev_fatal", "fatal", NULL},
	[AER_NONFATAL] = {"aer_dev_nonfatal", "non-fatal", NULL},
	[AER_CORRECTABLE] = {"aer_dev_correctable", "corrected", NULL},
	[AER_LINK] = {"../aer_rootport_total_err_fatal", "fatal", "on its link"},
};

/* --- counters --- */

static void add_kind(struct aer_counters *c, enum aer_severity severity, const char *name,
	size_t len, uint64_t count)
{
	if (!len || len >= AER_NAME_MAX || c->of[severity].n == AER_KINDS_MAX)
		return;
	struct aer_kind *kind = &c->of[severity].kinds[c->of[severity].n++];
	*kind = (struct aer_kind){.count = count};
	memcpy(kind->name, name, len);
	if (!checked_add(c->of[severity].total, count, &c->of[severity].total))
		c->of[severity].total = UINT64_MAX;
}

static void parse_line(const char *line, enum aer_severity severity, struct aer_counters *ret)
{
	const char *fixed = severities[severity].kind;
	size_t len = fixed ? 0 : strcspn(line, " \t\n");
	const char *at = line + len;
	uint64_t count;

	if (!strncmp(line, TOTAL, strlen(TOTAL)) || !parse_next(&at, 10, UINT64_MAX, &count) ||
		(*at && *at != '\n'))
		return;
	add_kind(ret, severity, fixed ? fixed : line, fixed ? strlen(fixed) : len, count);
}

void aer_parse(const char *text, enum aer_severity severity, struct aer_counters *ret)
{
	while (*text) {
		parse_line(text, severity, ret);
		text += strcspn(text, "\n");
		text += *text == '\n';
	}
	ret->present = true;
}

void aer_read(const struct host_roots *roots, const char *address, struct aer_counters *ret)
{
	char text[FILE_BYTES + 1];

	*ret = (struct aer_counters){0};
	cleanup_close int dir = pci_open(roots, address);
	for (unsigned i = 0; dir >= 0 && i < AER_SEVERITY_COUNT; i++) {
		if (sysfs_read(dir, severities[i].file, text, sizeof(text)) == 0)
			aer_parse(text, (enum aer_severity)i, ret);
	}
}

/* --- what came --- */

static uint64_t count_of(const struct aer_counters *c, unsigned severity, const char *name)
{
	for (size_t i = 0; i < c->of[severity].n; i++) {
		if (!strcmp(c->of[severity].kinds[i].name, name))
			return c->of[severity].kinds[i].count;
	}
	return 0;
}

static uint64_t came(uint64_t before, uint64_t after)
{
	return after >= before ? after - before : after;
}

static void add(char *text, size_t size, const char *more)
{
	size_t len = strlen(text);

	snprintf(text + len, size - len, "%s", more);
}

/* "1 fatal error (MalfTLP)" behind what is in `ret`. */
static void say(const struct aer_counters *before, const struct aer_counters *after,
	unsigned severity, char *ret, size_t size)
{
	uint64_t total = 0, n;
	char names[AER_TEXT_MAX] = "", text[AER_TEXT_MAX + 64];

	for (size_t i = 0; i < after->of[severity].n; i++) {
		const struct aer_kind *kind = &after->of[severity].kinds[i];
		n = came(count_of(before, severity, kind->name), kind->count);
		if (!n)
			continue;
		add(names, sizeof(names), total ? ", " : "");
		add(names, sizeof(names), kind->name);
		if (!checked_add(total, n, &total))
			total = UINT64_MAX;
	}
	if (!total)
		return;
	snprintf(text, sizeof(text), "%s%" PRIu64 " %s error%s (%s)", *ret ? ", " : "", total,
		severities[severity].words, total == 1 ? "" : "s", names);
	add(ret, size, text);
}

bool aer_difference(
	const struct aer_counters *before, const struct aer_counters *after, char *ret, size_t size)
{
	ret[0] = '\0';
	for (unsigned i = 0; i < AER_SEVERITY_COUNT; i++)
		say(before, after, i, ret, size);
	return ret[0] != '\0';
}

/* --- uevents --- */

/* What pci_uevent_ers() of the kernel writes. */
static const struct {
	const char *event, *text, *remedy;
} stages[AER_STAGE_COUNT] = {
	[AER_BEGINS] = {"BEGIN_RECOVERY", "recovery begins", NULL},
	[AER_RECOVERED] = {"SUCCESSFUL_RECOVERY", "recovered", NULL},
	[AER_LOST] = {"FAILED_RECOVERY", "recovery failed", "end what uses it, then reset it"},
};

enum aer_stage aer_stage_of(const char *(*property)(void *data, const char *name), void *data)
{
	const char *event = property(data, "ERROR_EVENT");

	for (unsigned i = 0; event && i < AER_STAGE_COUNT; i++) {
		if (stages[i].event && !strcmp(stages[i].event, event))
			return (enum aer_stage)i;
	}
	return AER_NO_STAGE;
}

const char *aer_stage_text(enum aer_stage stage)
{
	return stage < AER_STAGE_COUNT && stages[stage].text ? stages[stage].text : "no error";
}

const char *aer_stage_remedy(enum aer_stage stage)
{
	return stage < AER_STAGE_COUNT ? stages[stage].remedy : NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory.h"

#include "base/checked.h"
#include "base/clock.h"
#include "keeper/keeper.h"
#include "keeper/memory_file.h"
#include "keeper/memory_holder.h"
#include "keeper/memory_process.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LATE_MS 3000u /* longer than the holder was given: it does not come back */
#define MIB     (1ull << 20)

/* All files of guest memory in custody, each once. */
struct memory_files {
	struct memory_file list[KEEPER_MAX_MEMORY];
	unsigned n;
	uint64_t bytes, missing;
};

enum memory_event {
	MEMORY_EVENT_CHANGED, /* other files, or another mode */
	MEMORY_EVENT_GRANTED,
	MEMORY_EVENT_VERIFIED,
	MEMORY_EVENT_HOLE,
	MEMORY_EVENT_FAILED, /* denied, late, or the holder cannot */
	MEMORY_EVENT_DIED,   /* the holder, of itself or killed */
	MEMORY_EVENT_COUNT
};

typedef void (*memory_fn)(struct keeper *k, const void *payload);
static void memory_event(struct keeper *k, enum memory_event event, const void *payload);

void memory_init(struct memory *m)
{
	*m = (struct memory){
		.timeout_ms = MEMORY_TIMEOUT_MS, .notices = {.burst = 1, .interval_ms = 10000}};
}

/* --- the files --- */

static bool same_file(const struct memory_file *x, const struct memory_file *y)
{
	return x->dev == y->dev && x->ino == y->ino && x->size == y->size;
}

static bool file_among(const struct memory_file *file, const struct memory_file *list, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (same_file(file, &list[i]))
			return true;
	}
	return false;
}

/* Of huge pages there is another stock than the node's memory, so none is missing there. */
static uint64_t file_missing(int fd, const struct memory_look *look)
{
	if (memory_file_kind(fd) == MEMORY_FILE_HUGE || look->size <= look->there)
		return 0;
	return look->size - look->there;
}

/* 0 or -errno: more than can be added up, or it cannot be looked at. */
static int files_collect(const struct keeper *k, struct memory_files *ret)
{
	*ret = (struct memory_files){0};
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		const struct custody_item *item =
			custody_get(&k->custody, KEEPER_CUSTODY_MEMORY, i);
		struct memory_look look;
		if (!item)
			continue;
		int r = memory_file_look(item->fd, &look);
		if (r < 0)
			return r;
		const struct memory_file file = {
			.dev = look.dev, .ino = look.ino, .size = look.size, .fd = item->fd};
		if (file_among(&file, ret->list, ret->n))
			continue;
		if (!checked_add(ret->bytes, file.size, &ret->bytes) || ret->bytes > INT64_MAX)
			return -EOVERFLOW;
		ret->missing += file_missing(item->fd, &look);
		ret->list[ret->n++] = file;
	}
	return 0;
}

/* --- what comes of it --- */

static void memory_enter(struct keeper *k, enum keeper_memory_state state, uint64_t ms)
{
	struct memory *m = &k->memory;

	/* A device process that says the same again makes no noise. */
	bool news = m->state != state || m->told != m->bytes || state == KEEPER_MEMORY_ASKING;

	m->state = state;
	m->deadline = ms ? clock_ms() + ms : 0;
	keeper_set_timer(k);
	if (!news)
		return;
	m->told = m->bytes;
	control_status(k);
}

static void memory_let_go(struct memory *m)
{
	memory_process_end(m->process);
	m->process = NULL;
	m->n_held = 0;
	m->again = false;
}

/* All that wait; true: one did. */
static bool memory_answer(struct keeper *k, bool ok, const char *reason)
{
	bool any = false;

	for (unsigned i = 0; i < KEEPER_PROCESSES; i++) {
		struct device_process *d = &k->processes[i];
		struct keeper_verdict verdict = {.serial = d->memory_serial, .ok = ok};
		if (!d->memory_waits)
			continue;
		d->memory_waits = false;
		any = true;
		snprintf(verdict.reason, sizeof(verdict.reason), "%s", reason);
		device_verdict(d, &verdict);
	}
	return any;
}

static void memory_failed(struct keeper *k, const void *payload)
{
	const char *why = payload;
	struct memory *m = &k->memory;

	snprintf(m->refusal, sizeof(m->refusal),
		"over-commit is on, so all of its memory must be reserved: %.195s", why);
	memory_let_go(m);
	memory_enter(k, KEEPER_MEMORY_REFUSED, 0);
	if (memory_answer(k, false, m->refusal)) {
		control_event(k, "refused: %s", m->refusal);
	} else if (m->mode == KEEPER_MEMORY_MUST) {
		control_event(k, "stopped serving its VM: %s", m->refusal);
		peers_unbind(k);
	}
}

static void memory_fail(struct keeper *k, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void memory_fail(struct keeper *k, const char *format, ...)
{
	char why[KEEPER_MEMORY_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(why, sizeof(why), format, args);
	va_end(args);
	memory_event(k, MEMORY_EVENT_FAILED, why);
}

/* Drops what is not wanted any more; true: all that is wanted is held. */
static bool memory_keep(struct memory *m, const struct memory_files *files)
{
	unsigned n = 0, wanted = 0;

	for (unsigned i = 0; i < m->n_held; i++) {
		const struct memory_file *file = &m->held[i];
		const struct memory_hold drop = {file->dev, file->ino, file->size};
		if (file_among(file, files->list, files->n))
			m->held[n++] = *file;
		else
			(void)memory_process_send(m->process, MEMORY_DROP, &drop, -1);
	}
	m->n_held = n;
	for (unsigned i = 0; i < files->n; i++)
		wanted += file_among(&files->list[i], m->held, m->n_held);
	return wanted == files->n;
}

/* Whatever was before: what shall be with the files that are in custody now? */
static void memory_begin(struct keeper *k, const void *payload)
{
	struct memory *m = &k->memory;
	struct memory_files files;
	bool locked = m->state == KEEPER_MEMORY_LOCKED;
	int r = files_collect(k, &files);

	m->bytes = files.bytes;
	m->missing = files.missing;
	m->again = false;
	if (m->mode == KEEPER_MEMORY_OPEN || (r == 0 && !files.n)) {
		memory_let_go(m);
		memory_enter(k, files.n ? KEEPER_MEMORY_FREE : KEEPER_MEMORY_NONE, 0);
		memory_answer(k, true, "");
		return;
	}
	m->serial++;
	if (r < 0) {
		m->state = KEEPER_MEMORY_ASKING;
		memory_fail(k, "it cannot be looked at: %s", strerror(-r));
		return;
	}
	if (memory_keep(m, &files) && locked) {
		memory_enter(k, KEEPER_MEMORY_LOCKED, 0);
		memory_answer(k, true, "");
		return;
	}
	memory_enter(k, KEEPER_MEMORY_ASKING, m->timeout_ms);
}

/* The holder is at it: what it makes of the old files is not the end. */
static void memory_begin_later(struct keeper *k, const void *payload)
{
	if (k->memory.mode == KEEPER_MEMORY_OPEN)
		memory_begin(k, payload);
	else
		k->memory.again = true;
}

/* --- the holder --- */

static void on_report(struct keeper *k, uint32_t type, const struct memory_report *report)
{
	const struct memory *m = &k->memory;

	if (type == MEMORY_VERIFIED && report->serial != m->serial)
		return;
	if (report->code && type == MEMORY_HOLE)
		memory_fail(k, "%llu MiB were taken away and cannot be put back: %.130s",
			(unsigned long long)(report->bytes / MIB), report->text);
	else if (report->code)
		memory_fail(k, "%s", report->text);
	else
		memory_event(
			k, type == MEMORY_HOLE ? MEMORY_EVENT_HOLE : MEMORY_EVENT_VERIFIED, report);
}

static void on_died(struct keeper *k, const char *how)
{
	k->memory.process = NULL;
	k->memory.n_held = 0;
	memory_event(k, MEMORY_EVENT_DIED, how);
}

static const struct memory_process_ops process_ops = {.report = on_report, .died = on_died};

static int memory_hold_missing(struct memory *m, const struct memory_files *files)
{
	for (unsigned i = 0; i < files->n; i++) {
		const struct memory_file *file = &files->list[i];
		const struct memory_hold hold = {file->dev, file->ino, file->size};
		if (file_among(file, m->held, m->n_held))
			continue;
		int r = memory_process_send(m->process, MEMORY_HOLD, &hold, file->fd);
		if (r < 0)
			return r;
		m->held[m->n_held++] = *file;
	}
	return 0;
}

static void memory_lock(struct keeper *k, const void *payload)
{
	struct memory *m = &k->memory;
	uint64_t now = clock_ms();
	struct memory_files files;
	struct memory_verify verify = {.serial = m->serial,
		.timeout_ms = (uint32_t)(m->deadline > now ? m->deadline - now : 1),
		.keep_free = m->keep_free};

	int r = files_collect(k, &files);
	/* Granted is what was asked for, and the device process may have put others there since. */
	if (r == 0 && files.bytes != m->bytes) {
		memory_begin(k, NULL);
		return;
	}
	if (r == 0)
		(void)memory_keep(m, &files);
	if (r == 0 && !m->process)
		r = memory_process_start(k, &process_ops, &m->process);
	if (r == 0)
		r = memory_hold_missing(m, &files);
	if (r == 0)
		r = memory_process_send(m->process, MEMORY_VERIFY, &verify, -1);
	if (r < 0) {
		memory_fail(k, "the process that locks it cannot be told: %s", strerror(-r));
		return;
	}
	memory_enter(k, KEEPER_MEMORY_LOCKING, verify.timeout_ms + LATE_MS);
}

static void memory_verified(struct keeper *k, const void *payload)
{
	struct memory *m = &k->memory;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	m->verified_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	m->refusal[0] = '\0';
	m->missing = 0;
	bool again = m->again;
	memory_enter(k, KEEPER_MEMORY_LOCKED, 0);
	if (again)
		memory_begin(k, NULL);
	else
		memory_answer(k, true, "");
}

static void memory_hole(struct keeper *k, const void *payload)
{
	const struct memory_report *report = payload;
	struct memory *m = &k->memory;

	m->holes++;
	m->repaired += report->bytes;
	m->unsaid += report->bytes;
	if (log_limit_pass(&m->notices)) {
		control_event(k,
			"%llu KiB of its VM's reserved memory were taken away (balloon, free page "
			"reporting or a hole punched) and are resident again",
			(unsigned long long)(m->unsaid >> 10));
		m->unsaid = 0;
	}
	control_status(k);
}

static void memory_holder_died(struct keeper *k, const void *payload)
{
	memory_fail(k, "the process that locks it %s", (const char *)payload);
}

/* It is locked anew, and the VM goes on meanwhile. */
static void memory_lock_lost(struct keeper *k, const void *payload)
{
	control_event(k, "the process that holds its memory %s; it is locked again",
		(const char *)payload);
	k->memory.state = KEEPER_MEMORY_FREE;
	memory_begin(k, NULL);
}

/* What happens in which state; an event without an entry changes nothing. */
static const memory_fn rows[KEEPER_MEMORY_STATE_COUNT][MEMORY_EVENT_COUNT] = {
	[KEEPER_MEMORY_NONE] = {[MEMORY_EVENT_CHANGED] = memory_begin},
	[KEEPER_MEMORY_FREE] = {[MEMORY_EVENT_CHANGED] = memory_begin},
	[KEEPER_MEMORY_ASKING] = {[MEMORY_EVENT_CHANGED] = memory_begin,
		[MEMORY_EVENT_GRANTED] = memory_lock,
		[MEMORY_EVENT_FAILED] = memory_failed,
		[MEMORY_EVENT_DIED] = NULL /* another is started when it is granted */},
	[KEEPER_MEMORY_LOCKING] = {[MEMORY_EVENT_CHANGED] = memory_begin_later,
		[MEMORY_EVENT_VERIFIED] = memory_verified,
		[MEMORY_EVENT_FAILED] = memory_failed,
		[MEMORY_EVENT_DIED] = memory_holder_died},
	[KEEPER_MEMORY_LOCKED] = {[MEMORY_EVENT_CHANGED] = memory_begin,
		[MEMORY_EVENT_HOLE] = memory_hole,
		[MEMORY_EVENT_FAILED] = memory_failed,
		[MEMORY_EVENT_DIED] = memory_lock_lost},
	[KEEPER_MEMORY_REFUSED] = {[MEMORY_EVENT_CHANGED] = memory_begin},
};

static void memory_event(struct keeper *k, enum memory_event event, const void *payload)
{
	memory_fn fn = rows[k->memory.state][event];

	if (fn)
		fn(k, payload);
}

/* --- from outside --- */

void memory_set(struct keeper *k, const struct keeper_memory *set)
{
	struct memory *m = &k->memory;
	uint32_t was = m->mode;

	if (set->mode >= KEEPER_MEMORY_MODE_COUNT)
		return;
	m->mode = set->mode;
	m->timeout_ms = set->timeout_ms ?: MEMORY_TIMEOUT_MS;
	/* Between TRY and MUST nothing changes but for a VM that was refused and goes on. */
	bool open = was == KEEPER_MEMORY_OPEN || m->mode == KEEPER_MEMORY_OPEN;
	if (was != m->mode && (open || m->state == KEEPER_MEMORY_REFUSED))
		memory_event(k, MEMORY_EVENT_CHANGED, NULL);
	control_status(k);
}

void memory_grant(struct keeper *k, struct keeper_memory_grant *grant)
{
	struct memory *m = &k->memory;

	if (m->state != KEEPER_MEMORY_ASKING || grant->serial != m->serial)
		return;
	packet_text(grant->reason, sizeof(grant->reason));
	m->keep_free = grant->keep_free;
	if (grant->ok)
		memory_event(k, MEMORY_EVENT_GRANTED, NULL);
	else
		memory_fail(k, "%s", grant->reason);
}

void memory_changed(struct device_process *d, uint32_t serial)
{
	d->memory_serial = serial;
	d->memory_waits = true;
	memory_event(d->keeper, MEMORY_EVENT_CHANGED, NULL);
}

void memory_guest_gone(struct keeper *k)
{
	struct memory *m = &k->memory;

	memory_let_go(m);
	m->bytes = m->missing = m->verified_ms = m->unsaid = 0;
	m->state = KEEPER_MEMORY_NONE;
	m->deadline = 0;
	for (unsigned i = 0; i < KEEPER_PROCESSES; i++)
		k->processes[i].memory_waits = k->processes[i].claim_waits = false;
}

void memory_status(const struct keeper *k, struct keeper_memory_status *ret)
{
	const struct memory *m = &k->memory;

	*ret = (struct keeper_memory_status){.mode = m->mode,
		.state = m->state,
		.serial = m->serial,
		.bytes = m->bytes,
		.missing = m->missing,
		.locked = m->state == KEEPER_MEMORY_LOCKED ? m->bytes : 0,
		.verified_ms = m->verified_ms,
		.holes = m->holes,
		.repaired = m->repaired};
	memcpy(ret->refusal, m->refusal, sizeof(ret->refusal));
}

void memory_check_time(struct keeper *k, uint64_t now)
{
	struct memory *m = &k->memory;

	if (!m->deadline || now < m->deadline)
		return;
	m->deadline = 0;
	if (m->state == KEEPER_MEMORY_ASKING)
		memory_fail(k, "vgpud did not say in %u s whether it fits (see whether it runs)",
			m->timeout_ms / 1000);
	else
		memory_fail(k,
			"it was not resident and locked in %u s, and the process at it does "
			"not answer",
			m->timeout_ms / 1000);
}

uint64_t memory_next_time(const struct keeper *k)
{
	return k->memory.deadline ?: UINT64_MAX;
}

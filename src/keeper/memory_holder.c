/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory_holder.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "keeper/memory_held.h"
#include "keeper/memory_smaps.h"
#include "keeper/memory_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHANNEL_FD 3

static void holder_hold(struct holder *h, const struct memory_hold *hold, int fd)
{
	unsigned i = 0;

	while (i < KEEPER_MAX_MEMORY && h->held[i].fd >= 0)
		i++;
	if (i == KEEPER_MAX_MEMORY || !hold->size) {
		close(fd);
		holder_fail(h, -ENOSPC, "it has more files of memory than there is room for");
		return;
	}
	struct held *held = &h->held[i];
	*held = (struct held){.fd = fd, .dev = hold->dev, .ino = hold->ino, .size = hold->size};
	if (held_map(h, held) < 0)
		held_drop(held);
}

static void holder_drop(struct holder *h, const struct memory_hold *hold)
{
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		struct held *held = &h->held[i];
		if (held->fd >= 0 && held->dev == hold->dev && held->ino == hold->ino)
			held_drop(held);
	}
}

/* --- looking --- */

static uint64_t own_pages(void)
{
	uint64_t total, resident, shared = 0;
	char line[128];

	cleanup_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	line[MAX(n, 0)] = '\0';
	const char *at = line;
	if (!parse_next(&at, 10, UINT64_MAX, &total) ||
		!parse_next(&at, 10, UINT64_MAX, &resident) ||
		!parse_next(&at, 10, UINT64_MAX, &shared))
		return 0;
	return shared;
}

/* Of all that is held: how much is not there, and with it unlocked; -errno. */
static int holder_walk(struct holder *h, uint64_t *ret_missing)
{
	struct memory_range ranges[KEEPER_MAX_MEMORY];
	struct held *of[KEEPER_MAX_MEMORY];
	uint64_t begin = clock_ms(), missing = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		struct held *held = &h->held[i];
		uint64_t start = (uint64_t)(uintptr_t)held->map;
		if (held->fd < 0)
			continue;
		of[n] = held;
		ranges[n++] = (struct memory_range){
			.start = start, .end = start + held->size, .huge = held->huge};
	}
	cleanup_fclose FILE *f = fopen("/proc/self/smaps", "re");
	int r = f ? memory_smaps_read(f, ranges, n) : -errno;
	if (r < 0)
		return r;
	for (unsigned i = 0; i < n; i++) {
		uint64_t size = of[i]->size;
		of[i]->populated = memory_range_locked(&ranges[i]);
		if (!of[i]->populated)
			missing += size - MIN(ranges[i].resident, size - 1);
	}
	uint64_t now = clock_ms();
	h->walk_at = now + MAX(MEMORY_WALK_MS, (now - begin) * MEMORY_WALK_SHARE);
	h->pages = own_pages();
	*ret_missing = missing;
	return 0;
}

/* The count in statm may be off by what each core has not yet added to it. */
static uint64_t count_slack(void)
{
	uint64_t cores = (uint64_t)MAX(sysconf(_SC_NPROCESSORS_CONF), 1L);

	return MAX(32u, 2 * cores) * cores;
}

/* Without a walk: bytes that are missing, 0: none that shows. */
static uint64_t holder_glance(struct holder *h, bool *ret_changed)
{
	uint64_t missing = 0, pages = own_pages();
	struct stat file;

	*ret_changed = false;
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		struct held *held = &h->held[i];
		if (held->fd < 0)
			continue;
		if (fstat(held->fd, &file) < 0 || (uint64_t)file.st_size != held->size) {
			*ret_changed = true;
			continue;
		}
		uint64_t there = (uint64_t)file.st_blocks * 512;
		if (there < held->size) {
			missing += held->size - there;
			held->populated = false;
		}
	}
	if (!missing && pages + count_slack() < h->pages && holder_walk(h, &missing) < 0)
		missing = 0;
	return missing;
}

/* --- verifying --- */

static int holder_verify(struct holder *h, uint64_t end_ms)
{
	uint64_t missing = 0;

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY && !h->code; i++) {
		struct held *held = &h->held[i];
		if (held->fd >= 0 && !held->populated)
			held_populate(h, held, end_ms);
	}
	if (h->code)
		return h->code;
	int r = holder_walk(h, &missing);
	if (r < 0)
		return holder_fail(h, r, "its memory cannot be verified: %s", strerror(-r));
	if (missing)
		return holder_fail(h, -EAGAIN,
			"%llu MiB of it do not stay resident and locked: something takes pages "
			"away (turn its balloon off)",
			holder_mib(missing));
	return 0;
}

/* Again and again until it holds or time is over: a balloon may be at work meanwhile. */
static int holder_settle(struct holder *h, uint64_t end_ms)
{
	int r = holder_verify(h, end_ms);

	while (r == -EAGAIN && clock_ms() < end_ms) {
		h->code = 0;
		r = holder_verify(h, end_ms);
	}
	return r;
}

static void holder_send(struct holder *h, uint32_t type, uint32_t serial, uint64_t bytes)
{
	struct memory_report report = {.serial = serial, .code = h->code, .bytes = bytes};

	memcpy(report.text, h->text, sizeof(report.text));
	h->code = 0;
	h->text[0] = '\0';
	if (packet_send(h->channel, &memory_table, type, &report, -1) < 0)
		_exit(1);
}

static void holder_answer(struct holder *h, const struct memory_verify *verify)
{
	h->keep_free = verify->keep_free;
	h->timeout_ms = verify->timeout_ms;
	int r = h->code ? h->code : holder_settle(h, clock_ms() + verify->timeout_ms);
	h->look_at = r == 0 ? clock_ms() + MEMORY_LOOK_MS : 0;
	holder_send(h, MEMORY_VERIFIED, verify->serial, holder_bytes(h));
}

static void holder_look(struct holder *h)
{
	uint64_t begin = clock_ms(), missing = 0;
	bool changed = false;

	if (begin >= h->walk_at)
		(void)holder_walk(h, &missing);
	else
		missing = holder_glance(h, &changed);
	if (changed)
		holder_fail(h, -ESTALE, "a file of its memory changed its size");
	else if (missing)
		holder_settle(h, begin + h->timeout_ms);
	if (changed || missing)
		holder_send(h, MEMORY_HOLE, 0, missing);
	uint64_t now = clock_ms();
	h->look_at = now + MAX(MEMORY_LOOK_MS, (now - begin) * MEMORY_REPAIR_SHARE);
}

/* --- its life --- */

static void holder_begin(struct holder *h, int channel)
{
	struct rlimit limit;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_NAME, "vgpu-memory");
	if (dup2(channel, CHANNEL_FD) < 0)
		_exit(1);
	/* Above all not the lock that says that the keeper lives. */
	close_range(CHANNEL_FD + 1, ~0u, 0);
	h->channel = CHANNEL_FD;
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_MEMLOCK, &limit);
	}
	limit = (struct rlimit){0};
	(void)setrlimit(RLIMIT_CORE, &limit);
	/* All that it maps is a guest's: its end would free nothing. Only root may say so. */
	cleanup_close int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0)
		(void)!write(score, "-1000", 5);
}

static void holder_handle(struct holder *h, struct packet *p)
{
	if (p->type == MEMORY_HOLD)
		holder_hold(h, (void *)p->payload, TAKE_FD(p->fd));
	else if (p->type == MEMORY_DROP)
		holder_drop(h, (void *)p->payload);
	else
		holder_answer(h, (void *)p->payload);
}

void memory_holder_main(int channel)
{
	struct holder h = {0};
	struct packet p;

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		h.held[i].fd = -1;
	holder_begin(&h, channel);
	for (;;) {
		struct pollfd pfd = {.fd = h.channel, .events = POLLIN};
		uint64_t now = clock_ms();
		int wait = !h.look_at ? -1 : h.look_at > now ? (int)(h.look_at - now) : 0;
		int n = poll(&pfd, 1, wait);
		if (n < 0 && errno != EINTR)
			_exit(1);
		if (n == 0)
			holder_look(&h);
		if (n <= 0)
			continue;
		int r = packet_recv(h.channel, &memory_table, MEMORY_FROM_KEEPER, &p);
		if (r == 1)
			holder_handle(&h, &p);
		else if (r != -EAGAIN)
			_exit(r == 0 ? 0 : 1);
	}
}

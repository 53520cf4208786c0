/* SPDX-License-Identifier: Apache-2.0 */
#include "process/gate.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/loop.h"
#include "device/device.h"
#include "protocol/slice_pages.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

struct gate {
	struct device *device;
	struct loop *loop;
	struct device_gate asked;
	const struct slice_page *page; /* NULL: open */
	struct slice_claim *claim;
	int wake_fd;
	int parts[KEEPER_GRANT_PARTS]; /* of a grant that is not complete yet; -1: missing */
	uint64_t inside;               /* the slice that is its own, by its end; 0: none */
	uint64_t returned;             /* the last that was */
	bool busy;                     /* work was given since the loop came round */
	uint64_t idle_since;
	bool gone;           /* vgpud is, and was last heard of … */
	uint64_t gone_alive; /* then */
	int timer_fd;
	struct loop_source *timer;
	uint64_t timer_at; /* 0: not running */
};

/* ---- what the pages say ---- */

/* False: the slice is another one now, or none. vgpud takes back what nobody said it is inside. */
static bool gate_go_inside(struct gate *g, uint64_t until)
{
	if (g->inside == until)
		return true;
	SLICE_STORE(&g->claim->inside, until);
	if (SLICE_LOAD(&g->page->until_ns) != until)
		return false;
	g->inside = until;
	return true;
}

/* May work be given now? */
static bool gate_may(struct gate *g, uint64_t now)
{
	uint64_t until;

	do {
		until = SLICE_LOAD(&g->page->until_ns);
		if (until == SLICE_OPEN) {
			g->inside = 0;
			return true;
		}
		if (now >= until || until == g->returned)
			return g->gone && SLICE_LOAD(&g->page->alive_ns) == g->gone_alive;
	} while (!gate_go_inside(g, until));
	return true;
}

static void gate_tell(struct gate *g, bool wants)
{
	SLICE_STORE(&g->claim->wants, wants);
	/* It may be given for longer just now. Who wants uses that; else it is returned, too. */
	do {
		g->returned = SLICE_LOAD(&g->page->until_ns);
		SLICE_STORE(&g->claim->returned, g->returned);
	} while (SLICE_LOAD(&g->page->until_ns) != g->returned && !wants);
	(void)!eventfd_write(g->wake_fd, 1); /* a counter that is full is readable, too */
}

/* All work complete, the slice is the others'. */
static void gate_return(struct gate *g, bool wants)
{
	if (g->inside)
		device_drain(g->device);
	g->inside = 0;
	gate_tell(g, wants);
}

/* ---- waiting ---- */

static void gate_sleep(const struct gate *g, uint32_t word, uint64_t ns)
{
	const struct timespec timeout = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	syscall(SYS_futex, &g->page->word, FUTEX_WAIT, word, &timeout, NULL, 0);
}

/* The keeper says that this was vgpud's last sign of life. */
static bool gate_orphaned(const struct gate *g, uint64_t alive)
{
	return alive && SLICE_LOAD(&g->claim->orphaned_at) == alive;
}

static void gate_wait(struct gate *g, uint64_t began)
{
	for (;;) {
		uint32_t word = SLICE_LOAD(&g->page->word);
		uint64_t alive = SLICE_LOAD(&g->page->alive_ns), now = clock_ns();
		if (gate_may(g, now))
			return;
		uint64_t until = MAX(alive, began) + SLICE_SILENT_NS;
		if (now >= until || gate_orphaned(g, alive)) {
			g->gone = true;
			g->gone_alive = alive;
			return;
		}
		gate_sleep(g, word, MIN(until - now, SLICE_LOOK_NS));
	}
}

static void gate_enter(void *data)
{
	struct gate *g = data;
	uint64_t now;

	if (!g->page || SLICE_LOAD(&g->page->until_ns) == SLICE_OPEN)
		return;
	g->busy = true;
	now = clock_ns();
	if (gate_may(g, now))
		return;
	gate_return(g, true);
	gate_wait(g, now);
	SLICE_STORE(&g->claim->wants, 0); /* it has what it wants, or does without */
	device_waited(g->device, clock_ns() - now);
}

/* ---- a slice that is not needed to its end ---- */

static void gate_set_timer(struct gate *g, uint64_t at)
{
	struct itimerspec spec = {.it_value = {.tv_sec = (time_t)(at / 1000000000u),
					  .tv_nsec = (long)(at % 1000000000u)}};

	if (timerfd_settime(g->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL) == 0)
		g->timer_at = at;
}

static uint64_t gate_due(const struct gate *g)
{
	return MIN(g->inside, g->idle_since + g->page->idle_ns);
}

static void gate_on_timer(void *data, uint32_t events)
{
	struct gate *g = data;
	uint64_t count, now = clock_ns();

	if (read(g->timer_fd, &count, sizeof(count)) < 0)
		return;
	g->timer_at = 0;
	if (!g->page || !g->inside)
		return;
	if (SLICE_LOAD(&g->page->until_ns) == SLICE_OPEN)
		g->inside = 0;
	else if (now < gate_due(g))
		gate_set_timer(g, gate_due(g));
	else if (now < SLICE_LOAD(&g->page->until_ns) && !device_settled(g->device))
		g->idle_since = now; /* the driver is not idle; gate_idle() sets the timer */
	else
		gate_return(g, false);
}

void gate_idle(struct gate *g)
{
	if (!g->page || !g->inside)
		return;
	if (g->busy)
		g->idle_since = clock_ns();
	g->busy = false;
	if (!g->timer_at)
		gate_set_timer(g, gate_due(g));
}

/* ---- pages ---- */

static void *gate_map(int fd, int protection)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size != SLICE_PAGE_SIZE)
		return NULL;
	void *map = mmap(NULL, SLICE_PAGE_SIZE, protection, MAP_SHARED, fd, 0);
	return map == MAP_FAILED ? NULL : map;
}

static void gate_unmap(struct gate *g)
{
	if (g->page)
		munmap((void *)(uintptr_t)g->page, SLICE_PAGE_SIZE);
	if (g->claim)
		munmap(g->claim, SLICE_PAGE_SIZE);
	g->page = NULL;
	g->claim = NULL;
	g->inside = 0;
	g->gone = false;
	close_fd(&g->wake_fd);
}

static int gate_begin(struct gate *g)
{
	if (g->inside)
		gate_return(g, false);
	gate_unmap(g);
	const struct slice_page *page = gate_map(g->parts[KEEPER_GRANT_PAGE], PROT_READ);
	g->claim = gate_map(g->parts[KEEPER_GRANT_CLAIM], PROT_READ | PROT_WRITE);
	g->page = page;
	if (!page || !g->claim || page->magic != SLICE_MAGIC || page->version != SLICE_VERSION) {
		gate_unmap(g);
		return -EINVAL;
	}
	g->wake_fd = TAKE_FD(g->parts[KEEPER_GRANT_WAKE]);
	/* A predecessor may have left the claim as it was. */
	gate_tell(g, false);
	return 0;
}

int gate_take(struct gate *g, const struct keeper_grant *grant, int fd)
{
	int err = 0;

	if (grant->part >= KEEPER_GRANT_PARTS) {
		close(fd);
		return -EINVAL;
	}
	close_fd(&g->parts[grant->part]);
	g->parts[grant->part] = fd;
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++) {
		if (g->parts[i] < 0)
			return 0;
	}
	err = gate_begin(g);
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++)
		close_fd(&g->parts[i]);
	return err;
}

/* ---- lifetime ---- */

const struct device_gate *gate_for_device(struct gate *g)
{
	return &g->asked;
}

int gate_create(struct device *dev, struct loop *loop, struct gate **ret)
{
	struct gate *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	*g = (struct gate){.device = dev,
		.loop = loop,
		.asked = {.data = g, .enter = gate_enter},
		.wake_fd = -1,
		.parts = {-1, -1, -1}};
	g->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	int err = g->timer_fd < 0 ? -errno : 0;
	if (!err)
		err = loop_add_fd(loop, g->timer_fd, EPOLLIN, gate_on_timer, g, &g->timer);
	if (err < 0) {
		gate_destroy(g);
		return err;
	}
	*ret = g;
	return 0;
}

void gate_destroy(struct gate *g)
{
	if (!g)
		return;
	loop_remove(g->timer);
	close_fd(&g->timer_fd);
	gate_unmap(g);
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++)
		close_fd(&g->parts[i]);
	free(g);
}

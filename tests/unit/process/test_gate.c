/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for time slices, by the pages that vgpud would write. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/loop.h"
#include "device/device.h"
#include "process/gate.h"
#include "protocol/slice_pages.h"
#include "protocol/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define MS 1000000ull

struct bench {
	struct vgpu_stats stats;
	struct device *device;
	struct loop *loop;
	struct gate *gate;
	const struct device_gate *asked;
	int fds[KEEPER_GRANT_PARTS];
	struct slice_page *page;
	struct slice_claim *claim;
};

static int page_fd(void **ret)
{
	int fd = memfd_create("slice", MFD_CLOEXEC);

	assert_true(fd >= 0 && ftruncate(fd, SLICE_PAGE_SIZE) == 0);
	*ret = mmap(NULL, SLICE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(*ret != MAP_FAILED);
	return fd;
}

static void bench_pages(struct bench *b)
{
	b->fds[KEEPER_GRANT_PAGE] = page_fd((void **)&b->page);
	b->fds[KEEPER_GRANT_CLAIM] = page_fd((void **)&b->claim);
	b->fds[KEEPER_GRANT_WAKE] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	b->page->magic = SLICE_MAGIC;
	b->page->version = SLICE_VERSION;
	b->page->idle_ns = 2 * MS;
	b->page->until_ns = 1;
	b->page->alive_ns = clock_ns();
}

static int bench_give(struct bench *b)
{
	int err = 0;

	for (uint32_t i = 0; i < KEEPER_GRANT_PARTS && !err; i++) {
		const struct keeper_grant grant = {.part = i};
		err = gate_take(b->gate, &grant, fcntl(b->fds[i], F_DUPFD_CLOEXEC, 3));
	}
	return err;
}

static int setup(void **state)
{
	static struct bench b;
	const struct device_config config = {.name = "test",
		.vram_bytes = 1 << 20,
		.heads = 1,
		.max_width = 640,
		.max_height = 480,
		.renderer_ops = renderer_find("null"),
		.stats = &b.stats};
	static const struct device_events events;

	b = (struct bench){.fds = {-1, -1, -1}};
	assert_int_equal(device_create(&config, &events, NULL, &b.device), 0);
	assert_int_equal(loop_create(&b.loop), 0);
	assert_int_equal(gate_create(b.device, b.loop, &b.gate), 0);
	b.asked = gate_for_device(b.gate);
	bench_pages(&b);
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	gate_destroy(b->gate);
	device_destroy(b->device);
	loop_destroy(b->loop);
	munmap(b->page, SLICE_PAGE_SIZE);
	munmap(b->claim, SLICE_PAGE_SIZE);
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++)
		close_fd(&b->fds[i]);
	return 0;
}

/* ns that the question took. */
static uint64_t ask(struct bench *b)
{
	uint64_t began = clock_ns();

	b->asked->enter(b->asked->data);
	return clock_ns() - began;
}

static void grant(struct bench *b, uint64_t until)
{
	SLICE_STORE(&b->page->alive_ns, clock_ns());
	SLICE_STORE(&b->page->until_ns, until);
	__atomic_fetch_add(&b->page->word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &b->page->word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool woken(struct bench *b)
{
	eventfd_t count;

	return eventfd_read(b->fds[KEEPER_GRANT_WAKE], &count) == 0;
}

/* It does not wait: whoever does says so first. */
static void assert_open(struct bench *b)
{
	woken(b);
	ask(b);
	assert_false(woken(b));
}

static void test_open(void **state)
{
	struct bench *b = *state;

	assert_open(b); /* no pages */
	b->page->until_ns = SLICE_OPEN;
	assert_int_equal(bench_give(b), 0);
	assert_true(woken(b)); /* the claim is what this process says */
	assert_open(b);
	assert_false(woken(b));
	assert_int_equal(b->claim->wants, 0);
}

static void test_inside(void **state)
{
	struct bench *b = *state;
	uint64_t until = clock_ns() + 1000 * MS;

	assert_int_equal(bench_give(b), 0);
	woken(b);
	grant(b, until);
	for (unsigned i = 0; i < 1000; i++)
		assert_open(b);
	assert_int_equal(b->claim->inside, until);
	assert_int_equal(b->claim->wants, 0);
	assert_false(woken(b));
}

/* vgpud, in a thread: grants once somebody wants. */
static void *grants_later(void *data)
{
	struct bench *b = data;

	while (!SLICE_LOAD(&b->claim->wants))
		usleep(100);
	for (unsigned i = 0; i < 20; i++) {
		SLICE_STORE(&b->page->alive_ns, clock_ns());
		usleep(5000);
	}
	grant(b, clock_ns() + 500 * MS);
	return NULL;
}

static void test_waits(void **state)
{
	struct bench *b = *state;
	pthread_t thread;

	assert_int_equal(bench_give(b), 0);
	assert_int_equal(pthread_create(&thread, NULL, grants_later, b), 0);
	uint64_t took = ask(b);
	pthread_join(thread, NULL);
	/* Longer than a vgpud that is gone is waited for: this one lives. */
	assert_in_range(took, 90 * MS, 2000 * MS);
	assert_true(woken(b));
	assert_int_equal(b->claim->wants, 0);
	assert_int_equal(b->claim->inside, b->page->until_ns);
	assert_int_equal(b->claim->returned, 1);
	assert_true(b->stats.wait_time_ns_total >= 90 * MS);
}

static void test_vgpud_is_gone(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_give(b), 0);
	assert_in_range(ask(b), SLICE_SILENT_NS / 2, SLICE_SILENT_NS + 1000 * MS);
	/* From now on nothing is asked. */
	for (unsigned i = 0; i < 100; i++)
		assert_open(b);
	/* It is back: what it says counts. */
	SLICE_STORE(&b->page->alive_ns, clock_ns());
	assert_in_range(ask(b), SLICE_SILENT_NS / 2, SLICE_SILENT_NS + 1000 * MS);
}

/* The keeper, in a thread: its channel to vgpud ends while the process waits. */
static void *orphans_later(void *data)
{
	struct bench *b = data;

	while (!SLICE_LOAD(&b->claim->wants))
		usleep(100);
	SLICE_STORE(&b->claim->orphaned_at, SLICE_LOAD(&b->page->alive_ns));
	syscall(SYS_futex, &b->page->word, FUTEX_WAKE, 1, NULL, NULL, 0);
	return NULL;
}

/* The shortest of some times: on a busy machine any one of them may be long. */
static void assert_let_in_at_once(struct bench *b, bool later)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 20; i++) {
		pthread_t thread;
		b->claim->orphaned_at = 0;
		SLICE_STORE(&b->page->alive_ns, clock_ns());
		if (later)
			assert_int_equal(pthread_create(&thread, NULL, orphans_later, b), 0);
		else
			b->claim->orphaned_at = b->page->alive_ns;
		least = MIN(least, ask(b));
		if (later)
			pthread_join(thread, NULL);
		assert_open(b);
	}
	assert_true(least < SLICE_SILENT_NS / 2);
}

static void test_the_keeper_says_that_vgpud_is_gone(void **state)
{
	struct bench *b = *state;

	assert_int_equal(bench_give(b), 0);
	assert_let_in_at_once(b, false);
	assert_let_in_at_once(b, true);
	/* A successor finds that in the same claim. */
	assert_int_equal(bench_give(b), 0);
	uint64_t before = b->stats.wait_time_ns_total;
	ask(b);
	assert_true(b->stats.wait_time_ns_total - before < SLICE_SILENT_NS);
	/* It moved on: what the keeper said is about one that was. */
	SLICE_STORE(&b->page->alive_ns, clock_ns());
	assert_in_range(ask(b), SLICE_SILENT_NS / 2, SLICE_SILENT_NS + 1000 * MS);
	/* Before its first sign of life nothing can be said about it. */
	SLICE_STORE(&b->page->alive_ns, 0);
	b->claim->orphaned_at = 0;
	assert_in_range(ask(b), SLICE_SILENT_NS / 2, SLICE_SILENT_NS + 1000 * MS);
}

static void test_the_end_of_a_slice(void **state)
{
	struct bench *b = *state;
	uint64_t until = clock_ns() + 5 * MS;
	pthread_t thread;

	assert_int_equal(bench_give(b), 0);
	grant(b, until);
	ask(b);
	usleep(6000);
	woken(b);
	assert_int_equal(pthread_create(&thread, NULL, grants_later, b), 0);
	ask(b);
	pthread_join(thread, NULL);
	assert_int_equal(b->claim->returned, until);
	assert_true(b->claim->inside > until);
}

static void quit(void *data)
{
	loop_quit(data, 0);
}

static void turn(struct bench *b, uint64_t ms)
{
	gate_idle(b->gate);
	loop_set_timer(b->loop, ms, quit, b->loop);
	assert_int_equal(loop_run(b->loop), 0);
}

static bool idle_hook(void *data)
{
	struct bench *b = data;

	gate_idle(b->gate);
	return false;
}

static void test_idle_returns_it(void **state)
{
	struct bench *b = *state;
	uint64_t until = clock_ns() + 3600 * 1000 * MS;

	loop_set_idle(b->loop, idle_hook, b);
	assert_int_equal(bench_give(b), 0);
	grant(b, until);
	ask(b);
	woken(b);
	turn(b, 50);
	assert_int_equal(b->claim->returned, until);
	assert_int_equal(b->claim->wants, 0);
	assert_true(woken(b));
	/* What it returned it does not use, though it would last for another hour. */
	assert_in_range(ask(b), SLICE_SILENT_NS / 2, SLICE_SILENT_NS + 1000 * MS);
	/* One that ends while nothing is asked is returned, too. */
	until = clock_ns() + 10 * MS;
	b->page->idle_ns = 1000 * MS;
	grant(b, until);
	ask(b);
	turn(b, 100);
	assert_int_equal(b->claim->returned, until);
}

static void test_pages_that_are_none(void **state)
{
	struct bench *b = *state;
	const struct keeper_grant bad = {.part = KEEPER_GRANT_PARTS};

	assert_int_equal(gate_take(b->gate, &bad, eventfd(0, EFD_CLOEXEC)), -EINVAL);
	b->page->version++;
	assert_int_equal(bench_give(b), -EINVAL);
	assert_open(b);
	b->page->version--;
	assert_int_equal(ftruncate(b->fds[KEEPER_GRANT_CLAIM], 100), 0);
	assert_int_equal(bench_give(b), -EINVAL);
	assert_open(b);
	/* New ones are as good as if there had been none. */
	assert_int_equal(ftruncate(b->fds[KEEPER_GRANT_CLAIM], SLICE_PAGE_SIZE), 0);
	b->claim->wants = 1;
	assert_int_equal(bench_give(b), 0);
	assert_int_equal(b->claim->wants, 0);
	grant(b, SLICE_OPEN);
	assert_open(b);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_open),
		TEST(test_inside),
		TEST(test_waits),
		TEST(test_vgpud_is_gone),
		TEST(test_the_keeper_says_that_vgpud_is_gone),
		TEST(test_the_end_of_a_slice),
		TEST(test_idle_returns_it),
		TEST(test_pages_that_are_none),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

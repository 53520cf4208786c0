/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread of time slices beside threads that do as device processes do, while the main thread
 * changes everything it can: nobody waits for ever, and shares come out by weight. Meant for the
 * thread sanitizer as well.
 */
#include "base/checked.h"
#include "base/clock.h"
#include "control/slice_thread.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS      1000000ull
#define GUESTS  4
#define WORK_NS (MS / 2)

static const struct sched_gpu equal = {.policy = SCHED_EQUAL_SHARE};
static const struct sched_gpu fixed = {.policy = SCHED_FIXED_SHARE};

struct guest {
	struct slice_pages pages;
	pthread_t thread;
	bool quit;       /* atomic */
	uint64_t pieces; /* atomic: of work that it did in slices */
};

struct bench {
	struct slice_thread *thread;
	struct guest guests[GUESTS];
	int link[2];
};

static bool guest_may(struct guest *g)
{
	for (;;) {
		uint64_t until = SLICE_LOAD(&g->pages.page->until_ns);
		if (until == SLICE_OPEN)
			return true;
		if (clock_ns() >= until || until == SLICE_LOAD(&g->pages.claim->returned))
			return false;
		SLICE_STORE(&g->pages.claim->inside, until);
		if (SLICE_LOAD(&g->pages.page->until_ns) == until)
			return true;
	}
}

static void guest_return(struct guest *g, bool wants)
{
	struct slice_claim *claim = g->pages.claim;

	SLICE_STORE(&claim->wants, wants);
	SLICE_STORE(&claim->returned, SLICE_LOAD(&g->pages.page->until_ns));
	(void)!eventfd_write(g->pages.wake_fd, 1);
}

static void guest_waits(struct guest *g)
{
	const struct timespec timeout = {.tv_nsec = 5 * MS};

	guest_return(g, true);
	for (;;) {
		uint32_t word = SLICE_LOAD(&g->pages.page->word);
		if (guest_may(g) || __atomic_load_n(&g->quit, __ATOMIC_SEQ_CST))
			break;
		syscall(SYS_futex, &g->pages.page->word, FUTEX_WAIT, word, &timeout, NULL, 0);
	}
	SLICE_STORE(&g->pages.claim->wants, 0);
}

static void *guest_run(void *data)
{
	const struct timespec work = {.tv_nsec = WORK_NS};
	struct guest *g = data;

	while (!__atomic_load_n(&g->quit, __ATOMIC_SEQ_CST)) {
		if (!guest_may(g))
			guest_waits(g);
		nanosleep(&work, NULL); /* what a GPU does costs no CPU time */
		__atomic_fetch_add(&g->pieces, 1, __ATOMIC_SEQ_CST);
	}
	guest_return(g, false);
	return NULL;
}

static uint64_t guest_pieces(struct guest *g)
{
	return __atomic_load_n(&g->pieces, __ATOMIC_SEQ_CST);
}

static int setup(void **state)
{
	static struct bench b;

	b = (struct bench){.link = {-1, -1}};
	assert_int_equal(slice_thread_create(&equal, &b.thread), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, b.link), 0);
	for (uint32_t i = 0; i < GUESTS; i++) {
		const struct sched_vgpu params = {i ? 100 : 300, SCHED_WHOLE / GUESTS};
		struct guest *g = &b.guests[i];
		assert_int_equal(slice_pages_create(&g->pages), 0);
		assert_int_equal(slice_thread_add(b.thread, i + 1, &params, &g->pages), 0);
		assert_int_equal(pthread_create(&g->thread, NULL, guest_run, g), 0);
	}
	*state = &b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	for (unsigned i = 0; i < GUESTS; i++)
		__atomic_store_n(&b->guests[i].quit, true, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < GUESTS; i++)
		pthread_join(b->guests[i].thread, NULL);
	slice_thread_destroy(b->thread);
	for (unsigned i = 0; i < GUESTS; i++)
		slice_pages_finish(&b->guests[i].pages);
	close(b->link[0]);
	close(b->link[1]);
	return 0;
}

static void pass(uint64_t ms)
{
	const struct timespec time = {
		.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * MS)};

	nanosleep(&time, NULL);
}

static void test_shares(void **state)
{
	struct bench *b = *state;
	uint64_t sum = 0, first = guest_pieces(&b->guests[0]);

	pass(2000);
	for (unsigned i = 1; i < GUESTS; i++)
		sum += guest_pieces(&b->guests[i]);
	first = guest_pieces(&b->guests[0]) - first;
	/* Half of all; the bounds are wide, for there are sanitizers and busy nodes. */
	assert_in_range(first * 100 / (first + sum), 30, 70);
}

/* All that vgpud may ask for, in no particular order. */
static void change(struct bench *b, unsigned i, uint64_t r)
{
	const struct sched_vgpu params = {(uint32_t)(r % 400) + 1, SCHED_WHOLE / GUESTS};
	struct slice_thread *t = b->thread;
	char text[256];

	switch (r % 8) {
	case 0:
		assert_int_equal(slice_thread_set_policy(t, r & 8 ? &equal : &fixed), 0);
		break;
	case 1:
		slice_thread_remove(t, i + 1);
		break;
	case 2:
		assert_int_equal(slice_thread_set_link(t, i + 1, r & 8 ? b->link[0] : -1), 0);
		break;
	case 3:
		slice_thread_set_process(t, i + 1, getpid(), r & 8);
		break;
	case 4:
		slice_thread_set_process(t, i + 1, 0, true);
		break;
	default:
		while (read(b->link[1], text, sizeof(text)) > 0)
			;
	}
	assert_int_equal(slice_thread_add(t, i + 1, &params, &b->guests[i].pages), 0);
}

static void test_changes(void **state)
{
	struct bench *b = *state;
	uint64_t random = 4711, before[GUESTS];

	for (unsigned n = 0; n < 400; n++) {
		random = random * 6364136223846793005u + 1442695040888963407u;
		change(b, n % GUESTS, random >> 33);
		pass(random >> 60);
	}
	assert_int_equal(slice_thread_set_policy(b->thread, &equal), 0);
	for (uint32_t i = 0; i < GUESTS; i++) {
		const struct sched_vgpu params = {100, SCHED_WHOLE / GUESTS};
		assert_int_equal(
			slice_thread_add(b->thread, i + 1, &params, &b->guests[i].pages), 0);
		slice_thread_set_process(b->thread, i + 1, getpid(), false);
		before[i] = guest_pieces(&b->guests[i]);
	}
	pass(1000);
	for (unsigned i = 0; i < GUESTS; i++)
		assert_true(guest_pieces(&b->guests[i]) > before[i] + 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Time slices in the keeper's hands: device processes get them, and learn that vgpud is gone. */
#include "bench.h"

#include "base/clock.h"
#include "protocol/slice_pages.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_MS 10000u
#define ALIVE    4711u

struct slices {
	int fds[KEEPER_GRANT_PARTS];
	struct slice_page *page;
	struct slice_claim *claim;
};

static int slices_file(void **ret)
{
	int fd = memfd_create("slices", MFD_CLOEXEC);

	assert_true(fd >= 0 && ftruncate(fd, SLICE_PAGE_SIZE) == 0);
	*ret = mmap(NULL, SLICE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(*ret != MAP_FAILED);
	return fd;
}

static void slices_make(struct slices *s)
{
	s->fds[KEEPER_GRANT_PAGE] = slices_file((void **)&s->page);
	s->fds[KEEPER_GRANT_CLAIM] = slices_file((void **)&s->claim);
	s->fds[KEEPER_GRANT_WAKE] = eventfd(0, EFD_CLOEXEC);
	s->page->alive_ns = ALIVE;
}

static void slices_end(struct slices *s)
{
	munmap(s->page, SLICE_PAGE_SIZE);
	munmap(s->claim, SLICE_PAGE_SIZE);
	for (unsigned i = 0; i < KEEPER_GRANT_PARTS; i++)
		close(s->fds[i]);
}

static void give(struct bench *b, struct fake *f, const struct slices *s, uint32_t parts)
{
	for (uint32_t i = 0; i < parts; i++) {
		const struct keeper_grant grant = {.part = i};
		bench_send(b, KEEPER_CONTROL_GRANT, &grant, s->fds[i]);
	}
	for (uint32_t i = 0; parts == KEEPER_GRANT_PARTS && i < parts; i++)
		fake_expect_only(f, KEEPER_DEVICE_GRANT);
}

static void begin(struct bench *b, struct fake *f, struct slices *s)
{
	bench_start(b, NULL);
	fake_accept_ready(b, f);
	bench_until_state(b, KEEPER_STATE_READY);
	slices_make(s);
}

static void vgpud_dies(struct bench *b)
{
	close(b->control);
	b->control = -1;
}

static uint64_t until_it_is_said(const struct slices *s)
{
	uint64_t at = 0;

	for (unsigned i = 0; i < LIMIT_MS && !at; i++) {
		at = SLICE_LOAD(&s->claim->orphaned_at);
		usleep(1000);
	}
	return at;
}

/* A device process that waits for its slice: ms until it was woken. */
static void *waits(void *data)
{
	const struct slices *s = data;
	const struct timespec limit = {.tv_sec = LIMIT_MS / 1000};
	uint64_t began = clock_ns();

	SLICE_STORE(&s->claim->wants, 1);
	syscall(SYS_futex, &s->page->word, FUTEX_WAIT, 0, &limit, NULL, 0);
	return (void *)(uintptr_t)((clock_ns() - began) / 1000000);
}

static void test_vgpud_is_gone(void **state)
{
	struct bench b;
	struct fake f;
	struct slices s;
	pthread_t thread;
	void *took;

	begin(&b, &f, &s);
	s.claim->orphaned_at = 1; /* of another time */
	give(&b, &f, &s, KEEPER_GRANT_PARTS);
	assert_int_equal(SLICE_LOAD(&s.claim->orphaned_at), 0);
	assert_int_equal(pthread_create(&thread, NULL, waits, &s), 0);
	while (!SLICE_LOAD(&s.claim->wants))
		usleep(1000);
	usleep(100000); /* it sleeps by then */
	vgpud_dies(&b);
	assert_int_equal(until_it_is_said(&s), ALIVE);
	pthread_join(thread, &took);
	assert_true((uintptr_t)took < LIMIT_MS / 2);
	slices_end(&s);
	bench_stop(&b);
}

/* Files that are not what they ought to be harm nobody. */
static void test_hostile_files(void **state)
{
	struct bench b;
	struct fake f;
	struct slices s;

	begin(&b, &f, &s);
	give(&b, &f, &s, KEEPER_GRANT_PARTS);
	assert_int_equal(ftruncate(s.fds[KEEPER_GRANT_PAGE], 0), 0);
	assert_int_equal(ftruncate(s.fds[KEEPER_GRANT_CLAIM], 0), 0);
	vgpud_dies(&b);
	usleep(100000);
	assert_int_equal(kill(b.keeper, 0), 0);
	slices_end(&s);
	bench_stop(&b);
}

static void test_without_slices(void **state)
{
	struct bench b;
	struct fake f;
	struct slices s;

	begin(&b, &f, &s);
	give(&b, &f, &s, KEEPER_GRANT_WAKE); /* not all of it */
	vgpud_dies(&b);
	usleep(100000);
	assert_int_equal(SLICE_LOAD(&s.claim->orphaned_at), 0);
	assert_int_equal(kill(b.keeper, 0), 0);
	slices_end(&s);
	bench_stop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vgpud_is_gone),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_without_slices),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

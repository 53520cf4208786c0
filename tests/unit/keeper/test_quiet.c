/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that does nothing: its process is told, and looked at no more until it wakes. */
#include "bench.h"

#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

struct quiet_bench {
	struct bench b;
	struct fake f;
	int client, anchor;
};

static void quiet_start(struct quiet_bench *q)
{
	char *options[] = {"--hang-ms", "1000", NULL};
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_ANCHOR};
	uint32_t id;

	bench_start(&q->b, options);
	fake_accept_ready(&q->b, &q->f);
	q->client = bench_connect(&q->b, &q->f, &id);
	q->anchor = memfd_create("anchor", MFD_CLOEXEC);
	fake_send(&q->f, KEEPER_DEVICE_CUSTODY, &what, q->anchor);
}

static void quiet_stop(struct quiet_bench *q)
{
	close(q->client);
	close(q->anchor);
	bench_stop(&q->b);
}

static void busy_for_ever(struct quiet_bench *q)
{
	const struct keeper_anchor anchor = {.magic = KEEPER_ANCHOR_MAGIC,
		.version = KEEPER_ANCHOR_VERSION,
		.current = 0xff00,
		.busy_since = clock_ns()};

	assert_int_equal(pwrite(q->anchor, &anchor, sizeof(anchor), 0), sizeof(anchor));
}

/* It is ended and another one goes on in its place. */
static void expect_hung(struct quiet_bench *q)
{
	static struct given given;

	fake_expect_end(&q->f);
	fake_accept_ready(&q->b, &q->f);
	fake_take(&q->f, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(&q->f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&q->b, "it hung");
}

/* Times that the keeper was scheduled. */
static unsigned long switches(pid_t pid)
{
	char path[64], line[128];
	unsigned long count, sum = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, "ctxt_switches:");
		if (at && sscanf(at, "ctxt_switches: %lu", &count) == 1)
			sum += count;
	}
	fclose(f);
	return sum;
}

static void test_who_rests_is_not_looked_at(void **state)
{
	struct quiet_bench q;

	quiet_start(&q);
	fake_expect_only(&q.f, KEEPER_DEVICE_IDLE);
	fake_send(&q.f, KEEPER_DEVICE_RESTING, NULL, -1);
	usleep(4500000); /* by then vgpud was told that it idles */
	unsigned long before = switches(q.b.keeper);
	usleep(2500000);
	assert_int_equal(switches(q.b.keeper), before);
	fake_send(&q.f, KEEPER_DEVICE_AWAKE, NULL, -1);
	fake_expect_only(&q.f, KEEPER_DEVICE_IDLE); /* it did nothing again */
	quiet_stop(&q);
}

static void test_one_that_wakes_and_hangs_is_killed(void **state)
{
	struct quiet_bench q;

	quiet_start(&q);
	fake_expect_only(&q.f, KEEPER_DEVICE_IDLE);
	fake_send(&q.f, KEEPER_DEVICE_RESTING, NULL, -1);
	fake_send(&q.f, KEEPER_DEVICE_AWAKE, NULL, -1);
	busy_for_ever(&q);
	expect_hung(&q);
	quiet_stop(&q);
}

/* What hung it came just before IDLE, which it has not read. */
static void test_one_that_hangs_before_it_rests_is_killed(void **state)
{
	struct quiet_bench q;

	quiet_start(&q);
	fake_expect_only(&q.f, KEEPER_DEVICE_IDLE);
	busy_for_ever(&q);
	expect_hung(&q);
	quiet_stop(&q);
}

/* Said unasked it means nothing. */
static void test_resting_unasked(void **state)
{
	struct quiet_bench q;

	quiet_start(&q);
	fake_send(&q.f, KEEPER_DEVICE_RESTING, NULL, -1);
	fake_send(&q.f, KEEPER_DEVICE_AWAKE, NULL, -1);
	fake_send(&q.f, KEEPER_DEVICE_RESTING, NULL, -1);
	busy_for_ever(&q);
	expect_hung(&q);
	quiet_stop(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_rests_is_not_looked_at),
		cmocka_unit_test(test_one_that_wakes_and_hangs_is_killed),
		cmocka_unit_test(test_one_that_hangs_before_it_rests_is_killed),
		cmocka_unit_test(test_resting_unasked),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Work in a process of its own: what it says, when it says nothing, and that it leaves nothing. */
#include "base/checked.h"
#include "base/clock.h"
#include "control/child.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_MS 300u

static sd_event *event;
static struct children children;

struct answer {
	unsigned calls;
	json_t *json;
};

static void on_done(void *data, json_t *json)
{
	struct answer *answer = data;

	answer->calls++;
	answer->json = json;
}

static unsigned open_files(void)
{
	unsigned n = 0;

	DIR *dir = opendir("/proc/self/fd");
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

/* Until nothing runs any more. */
static void run_out(void)
{
	uint64_t end = clock_ms() + 10000;

	while (children.running && clock_ms() < end)
		assert_true(sd_event_run(event, 100000) >= 0);
	assert_int_equal(children.running, 0);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* nobody is left to wait for */
}

static json_t *say(const void *data)
{
	return json_pack("{s:s}", "said", data);
}

static json_t *say_much(const void *data)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < *(const unsigned *)data; i++)
		json_array_append_new(list, json_string("0123456789abcdef0123456789abcdef"));
	return list;
}

static json_t *say_nothing(const void *data)
{
	return NULL;
}

static json_t *die(const void *data)
{
	abort();
}

static json_t *wait_for_ever(const void *data)
{
	while (pause() < 0) /* which is all it does */
		;
	return NULL;
}

static void check(child_work work, const void *data, bool expected)
{
	struct answer answer = {0};

	assert_int_equal(child_start(&children, event, work, data, LIMIT_MS, on_done, &answer), 0);
	assert_int_equal(children.running, 1);
	run_out();
	assert_int_equal(answer.calls, 1);
	assert_int_equal(answer.json != NULL, expected);
	json_decref(answer.json);
}

static void test_answers(void **state)
{
	const unsigned some = 10000, too_many = 100000;

	check(say, "hello", true); /* the loop has what it needs from now on */
	unsigned before = open_files();
	check(say_much, &some, true); /* more than a pipe holds */
	check(say_much, &too_many, false);
	check(say_nothing, NULL, false);
	check(die, NULL, false);
	uint64_t begin = clock_ms();
	check(wait_for_ever, NULL, false);
	assert_in_range(clock_ms() - begin, LIMIT_MS - 10, 5000);
	assert_int_equal(open_files(), before);
}

static void test_only_so_many(void **state)
{
	struct answer answers[CHILDREN_MAX] = {0}, one_more = {0};

	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		assert_int_equal(child_start(&children, event, wait_for_ever, NULL, LIMIT_MS,
					 on_done, &answers[i]),
			0);
	assert_int_equal(
		child_start(&children, event, say, "x", LIMIT_MS, on_done, &one_more), -EAGAIN);
	run_out();
	for (unsigned i = 0; i < CHILDREN_MAX; i++)
		assert_int_equal(answers[i].calls, 1);
	assert_int_equal(one_more.calls, 0);
	check(say, "again", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_only_so_many),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	assert_true(sd_event_new(&event) >= 0);
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	sd_event_unref(event);
	return r;
}

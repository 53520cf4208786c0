/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

/* What was called, in order. */
struct trace {
	struct loop *loop;
	char calls[16];
	int fd[2];
	bool ask; /* the first of a batch asks to be told of what comes next */
};

static void note(struct trace *t, char call)
{
	size_t n = strlen(t->calls);

	assert_true(n + 1 < sizeof(t->calls));
	t->calls[n] = call;
	t->calls[n + 1] = '\0';
}

static void on_woken(void *data)
{
	note(data, 'w');
}

static void on_event(void *data, uint32_t events)
{
	struct trace *t = data;
	eventfd_t count;

	for (size_t i = 0; i < ARRAY_SIZE(t->fd); i++)
		eventfd_read(t->fd[i], &count);
	note(t, 'e');
	if (t->ask)
		loop_set_woken(t->loop, on_woken, t);
	t->ask = false;
}

static void on_timer(void *data)
{
	struct trace *t = data;

	note(t, 't');
	loop_quit(t->loop, 7);
}

static void trace_start(struct trace *t)
{
	*t = (struct trace){.calls = ""};
	assert_int_equal(loop_create(&t->loop), 0);
	for (size_t i = 0; i < ARRAY_SIZE(t->fd); i++) {
		t->fd[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_int_equal(loop_add_fd(t->loop, t->fd[i], EPOLLIN, on_event, t, NULL), 0);
	}
}

static void trace_end(struct trace *t)
{
	loop_destroy(t->loop);
	close(t->fd[0]);
	close(t->fd[1]);
}

static void expect_calls(struct trace *t, const char *calls)
{
	assert_int_equal(loop_run(t->loop), 7);
	assert_string_equal(t->calls, calls);
	trace_end(t);
}

static void test_who_asked_is_told_before_anything_else(void **state)
{
	struct trace t;

	trace_start(&t);
	loop_set_woken(t.loop, on_woken, &t);
	loop_set_timer(t.loop, 0, on_timer, &t);
	expect_calls(&t, "weet");
}

static void test_also_of_what_came_with_its_own_event(void **state)
{
	struct trace t;

	trace_start(&t);
	t.ask = true;
	loop_set_timer(t.loop, 0, on_timer, &t);
	expect_calls(&t, "ewet");
}

static void test_also_of_the_timer(void **state)
{
	struct trace t;
	eventfd_t count;

	trace_start(&t);
	eventfd_read(t.fd[0], &count);
	t.ask = true;
	loop_set_timer(t.loop, 0, on_timer, &t);
	expect_calls(&t, "ewt");
}

static bool again(void *data)
{
	struct trace *t = data;

	if (t->calls[0])
		loop_quit(t->loop, 7);
	return true;
}

static void test_but_not_of_the_event_that_asked(void **state)
{
	struct trace t;
	eventfd_t count;

	trace_start(&t);
	eventfd_read(t.fd[0], &count);
	t.ask = true;
	loop_set_idle(t.loop, again, &t);
	expect_calls(&t, "e");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_asked_is_told_before_anything_else),
		cmocka_unit_test(test_also_of_what_came_with_its_own_event),
		cmocka_unit_test(test_also_of_the_timer),
		cmocka_unit_test(test_but_not_of_the_event_that_asked),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a device process found out is stored for those after it, as long as it can be believed. */
#include "bench.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char dir[40], here[64], there[64];
	char *options[5]; /* of a keeper whose device processes get --formats HERE */
};

static void place_make(struct place *p)
{
	*p = (struct place){.dir = "/tmp/vgpu-formats-XXXXXX"};
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->here, sizeof(p->here), "%s/here", p->dir);
	snprintf(p->there, sizeof(p->there), "%s/there", p->dir);
	p->options[0] = "--";
	p->options[1] = "first";
	p->options[2] = "--formats";
	p->options[3] = p->here;
}

static void place_end(const struct place *p)
{
	unlink(p->here);
	unlink(p->there);
	assert_int_equal(rmdir(p->dir), 0); /* nothing else was left there */
}

static struct keeper_formats telling(const char *what)
{
	struct keeper_formats told = {.size = (uint32_t)strlen(what)};

	memcpy(told.bytes, what, told.size);
	return told;
}

static void expect_file(const char *path, const char *what)
{
	char text[128] = "";
	struct stat file;

	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (!what) {
		assert_int_equal(fd, -1);
		return;
	}
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &file), 0);
	assert_int_equal(file.st_mode & 0777, 0600);
	assert_int_equal(read(fd, text, sizeof(text) - 1), strlen(what));
	assert_string_equal(text, what);
	close(fd);
}

static void say_ready(struct fake *f)
{
	struct keeper_ready ready = {.version = KEEPER_PROTOCOL_VERSION, .renderer = "fake"};
	fake_send(f, KEEPER_DEVICE_READY, &ready, -1);
}

static void test_it_is_stored_before_ready(void **state)
{
	struct place p;
	struct bench b;
	struct fake f;
	struct keeper_formats told = telling("what was found");

	place_make(&p);
	bench_start(&b, p.options);
	fake_accept(&b, &f);
	fake_send(&f, KEEPER_DEVICE_FORMATS, &told, -1);
	say_ready(&f);
	bench_until_state(&b, KEEPER_STATE_READY);
	expect_file(p.here, "what was found");
	fake_kill(&f);
	bench_stop(&b);
	place_end(&p);
}

/* By then a guest may speak through it. */
static void test_it_is_not_believed_afterwards(void **state)
{
	struct place p;
	struct bench b;
	struct fake f;
	struct keeper_formats told = telling("a lie");

	place_make(&p);
	bench_start(&b, p.options);
	fake_accept_ready(&b, &f);
	bench_until_state(&b, KEEPER_STATE_READY);
	fake_send(&f, KEEPER_DEVICE_FORMATS, &told, -1);
	fake_expect_end(&f);
	bench_until_state(&b, KEEPER_STATE_FAILED);
	assert_non_null(strstr(b.status.failure, "FORMATS came after READY"));
	expect_file(p.here, NULL);
	bench_stop(&b);
	place_end(&p);
}

static void test_more_than_was_asked(void **state)
{
	struct keeper_formats told[2] = {telling("what was found"), telling("much")};
	struct place p;

	place_make(&p);
	told[1].size = FORMATS_FILE_MAX + 1;
	for (unsigned i = 0; i < ARRAY_SIZE(told); i++) {
		struct bench b;
		struct fake f;
		bench_start(&b, i ? p.options : NULL); /* without --formats there is no file */
		fake_accept(&b, &f);
		fake_send(&f, KEEPER_DEVICE_FORMATS, &told[i], -1);
		fake_expect_end(&f);
		bench_until_state(&b, KEEPER_STATE_FAILED);
		assert_non_null(strstr(b.status.failure, "more than was asked"));
		bench_stop(&b);
	}
	expect_file(p.here, NULL);
	place_end(&p);
}

/* The folder is not there; the process serves all the same. */
static void test_a_full_disk_is_no_matter(void **state)
{
	struct place p;
	struct bench b;
	struct fake f;
	struct keeper_formats told = telling("what was found");

	place_make(&p);
	p.options[3] = "/nonexistent/folder/here";
	bench_start(&b, p.options);
	fake_accept(&b, &f);
	fake_send(&f, KEEPER_DEVICE_FORMATS, &told, -1);
	say_ready(&f);
	bench_until_state(&b, KEEPER_STATE_READY);
	fake_kill(&f);
	bench_stop(&b);
	place_end(&p);
}

/* It goes to another GPU: that is the one it speaks of. */
static void test_the_next_one_speaks_of_its_own(void **state)
{
	struct place p;
	struct bench b;
	struct fake f, next, after;
	struct keeper_formats told = telling("of another GPU"), late = telling("a lie");
	struct keeper_move move = {.n_args = 3};

	place_make(&p);
	bench_start(&b, p.options);
	fake_accept_ready(&b, &f);
	bench_until_state(&b, KEEPER_STATE_READY);
	int n = snprintf(move.args, sizeof(move.args), "second%c--formats%c%s", 0, 0, p.there);
	assert_true(n > 0 && (size_t)n < sizeof(move.args));
	bench_send(&b, KEEPER_CONTROL_MOVE, &move, -1);
	fake_accept(&b, &next);
	fake_send(&next, KEEPER_DEVICE_FORMATS, &told, -1);
	say_ready(&next);
	bench_until_done(&b, 0, "");
	expect_file(p.here, NULL);
	expect_file(p.there, "of another GPU");
	/* So do those that follow it. */
	fake_send(&next, KEEPER_DEVICE_FORMATS, &late, -1);
	fake_expect_end(&next);
	bench_until_state(&b, KEEPER_STATE_FAILED);
	expect_file(p.there, "of another GPU");
	int client = bench_client(&b, "vtest.sock");
	fake_accept(&b, &after);
	told = telling("found again");
	fake_send(&after, KEEPER_DEVICE_FORMATS, &told, -1);
	say_ready(&after);
	bench_until_state(&b, KEEPER_STATE_BOUND);
	expect_file(p.here, NULL);
	expect_file(p.there, "found again");
	close(client);
	fake_kill(&after);
	bench_stop(&b);
	place_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_stored_before_ready),
		cmocka_unit_test(test_it_is_not_believed_afterwards),
		cmocka_unit_test(test_more_than_was_asked),
		cmocka_unit_test(test_a_full_disk_is_no_matter),
		cmocka_unit_test(test_the_next_one_speaks_of_its_own),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

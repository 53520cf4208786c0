/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled shaders of a tenant: who is given them, whose are taken, and whose are not. */
#include "bench.h"
#include "files.h"

#include "base/clock.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define DRIVER   0xd01u
#define LIMIT_MS 10000u

struct place {
	char dir[48];
	char *options[4];
	struct bench b;
	struct fake f;
	struct files files; /* of the process there is now */
	int client;
	uint32_t id; /* of its connection; 0: of a VM */
};

static void place_make(struct place *p, char *extra)
{
	static char shaders[] = "--shaders";

	*p = (struct place){.dir = "/tmp/vgpu-shaders-XXXXXX", .options = {shaders, NULL, extra}};
	assert_non_null(mkdtemp(p->dir));
	p->options[1] = p->dir;
	files_make(&p->files);
	bench_start(&p->b, p->options);
}

static void place_end(struct place *p)
{
	char command[64];

	files_close(&p->files);
	bench_stop(&p->b);
	snprintf(command, sizeof(command), "rm -r %s", p->dir);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): a path that mkdtemp() made */
}

static void ready(struct place *p, uint32_t driver)
{
	struct keeper_ready said = {
		.version = KEEPER_PROTOCOL_VERSION, .driver = driver, .renderer = "fake"};

	fake_accept(&p->b, &p->f);
	fake_send(&p->f, KEEPER_DEVICE_READY, &said, -1);
	bench_until_state(&p->b, KEEPER_STATE_READY);
	files_close(&p->files);
	files_make(&p->files);
}

static void put_files(struct place *p)
{
	for (uint32_t i = 0; i < SHADERS_DRIVER_FILES; i++) {
		const struct keeper_custody what = {.kind = KEEPER_CUSTODY_SHADERS, .index = i};
		fake_send(&p->f, KEEPER_DEVICE_CUSTODY, &what, p->files.fd[i]);
	}
}

static void expect_connection(struct place *p)
{
	struct packet packet;

	fake_expect(&p->f, KEEPER_DEVICE_CONNECTION, &packet);
	const struct keeper_connection *c = (void *)packet.payload;
	p->id = c->kind == KEEPER_CONNECTION_VTEST ? c->id : 0;
	close(packet.fd);
}

/* A client, and what its process is given first; the number of shaders, -1: none are given. */
static int connect_client(struct place *p, const char *socket)
{
	struct shaders_list list;
	struct packet packet;
	int n = -1;

	p->client = bench_client(&p->b, socket);
	fake_expect(&p->f, KEEPER_DEVICE_SHADERS, &packet);
	assert_int_equal(fcntl(packet.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	if (archive_read(packet.fd, DRIVER, &list) == 0) {
		n = (int)list.n;
		shaders_list_finish(&list);
	}
	close(packet.fd);
	expect_connection(p);
	return n;
}

static void connect_without(struct place *p, const char *socket)
{
	p->client = bench_client(&p->b, socket);
	expect_connection(p);
}

/* Its process is ended, and there is a new one. */
static void disconnect(struct place *p)
{
	const struct keeper_closed closed = {.id = p->id};

	if (p->id) /* all that the client sent is done with */
		fake_send(&p->f, KEEPER_DEVICE_CLOSED, &closed, -1);
	close(p->client);
	fake_expect_end(&p->f);
}

static int archived(const struct place *p, const char *name)
{
	struct shaders_list list;
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", p->dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || archive_read(fd, DRIVER, &list) < 0) {
		close(fd);
		return -1;
	}
	int n = (int)list.n;
	shaders_list_finish(&list);
	close(fd);
	return n;
}

static void until_archived(const struct place *p, const char *name, int n)
{
	uint64_t end = clock_ms() + LIMIT_MS;

	while (archived(p, name) != n) {
		assert_true(clock_ms() < end);
		usleep(5000);
	}
}

/* ---- tests ---- */

static void test_the_next_binding_has_them(void **state)
{
	struct place p;

	place_make(&p, NULL);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	files_add(&p.files, 2, 100);
	disconnect(&p);
	ready(&p, DRIVER);
	assert_int_equal(connect_client(&p, "vtest.sock"), 2);
	put_files(&p);
	files_add(&p.files, 2, 100);
	files_add(&p.files, 3, 100);
	disconnect(&p);
	until_archived(&p, "00000d01", 3);
	/* A VM of that tenant as well. */
	ready(&p, DRIVER);
	assert_int_equal(connect_client(&p, "vhost-user.sock"), 3);
	fake_kill(&p.f);
	place_end(&p);
}

/* Whoever comes at once waits until they are there. */
static void test_they_are_waited_for(void **state)
{
	struct place p;
	char path[96];

	place_make(&p, NULL);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	snprintf(path, sizeof(path), "%s/.lock", p.dir);
	int lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	disconnect(&p);
	ready(&p, DRIVER);
	int early = bench_client(&p.b, "vtest.sock");
	fake_expect_nothing(&p.f, 200);
	close(lock);
	assert_int_equal(connect_client(&p, "vtest.sock"), 1);
	close(early);
	fake_kill(&p.f);
	place_end(&p);
}

static void test_a_long_binding(void **state)
{
	static char often[] = "--shaders-ms=50";
	struct place p;

	place_make(&p, often);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	until_archived(&p, "00000d01", 1);
	files_add(&p.files, 2, 100);
	until_archived(&p, "00000d01", 2);
	assert_true(client_open(p.client));
	fake_kill(&p.f);
	place_end(&p);
}

/* Returns when it said so, ms. */
static uint64_t rests(struct place *p, int early)
{
	fake_expect_only(&p->f, KEEPER_DEVICE_IDLE);
	assert_int_equal(archived(p, "00000d01"), early);
	uint64_t now = clock_ms();
	fake_send(&p->f, KEEPER_DEVICE_RESTING, NULL, -1);
	return now;
}

/* Who does nothing compiles nothing: nobody looks, but once. */
static void test_a_long_rest(void **state)
{
	static char seldom[] = "--shaders-ms=6000";
	struct place p;

	place_make(&p, seldom);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	uint64_t before = rests(&p, -1);
	until_archived(&p, "00000d01", 1);
	/* To say it again, or to rest again soon, is no reason to look again. */
	files_add(&p.files, 2, 100);
	fake_send(&p.f, KEEPER_DEVICE_RESTING, NULL, -1);
	fake_send(&p.f, KEEPER_DEVICE_AWAKE, NULL, -1);
	rests(&p, 1);
	until_archived(&p, "00000d01", 2);
	assert_in_range(clock_ms() - before, 6000, 30000);
	/* That was the one look of this rest. */
	files_add(&p.files, 3, 100);
	usleep(6500000);
	assert_int_equal(archived(&p, "00000d01"), 2);
	fake_send(&p.f, KEEPER_DEVICE_AWAKE, NULL, -1);
	until_archived(&p, "00000d01", 3);
	fake_kill(&p.f);
	place_end(&p);
}

/* Without a tenant: its users are told apart, and of a VM nobody knows whose it is. */
static void test_each_user_is_a_tenant(void **state)
{
	static char by_user[] = "--shaders-by-user";
	struct place p;
	char mine[64];

	place_make(&p, by_user);
	snprintf(mine, sizeof(mine), "user%u-00000d01", getuid());
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	disconnect(&p);
	until_archived(&p, mine, 1);
	ready(&p, DRIVER);
	connect_without(&p, "vhost-user.sock");
	put_files(&p);
	files_add(&p.files, 2, 100);
	disconnect(&p);
	ready(&p, DRIVER);
	assert_int_equal(connect_client(&p, "vtest.sock"), 1);
	disconnect(&p);
	assert_int_equal(archived(&p, mine), 1);
	assert_int_equal(archived(&p, "00000d01"), -1);
	place_end(&p);
}

static void test_a_driver_that_has_none(void **state)
{
	struct place p;

	place_make(&p, NULL);
	ready(&p, 0);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	disconnect(&p);
	/* Another driver's are not this one's. */
	ready(&p, DRIVER + 1);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	disconnect(&p);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	fake_kill(&p.f);
	assert_int_equal(archived(&p, "00000000"), -1);
	place_end(&p);
}

/* It may be what crashed it. */
static void test_what_crashed_is_not_taken(void **state)
{
	struct place p;

	place_make(&p, NULL);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	files_add(&p.files, 1, 100);
	put_files(&p);
	fake_crash(&p.f);
	bench_until_state(&p.b, KEEPER_STATE_FAILED);
	close(p.client);
	usleep(200000);
	assert_int_equal(archived(&p, "00000d01"), -1);
	place_end(&p);
}

/* The keeper serves on whatever is put into custody. */
static void test_hostile_files(void **state)
{
	struct place p;
	int pipes[2];

	place_make(&p, NULL);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	close(p.files.fd[SHADERS_DATA]);
	p.files.fd[SHADERS_DATA] = pipes[0];
	put_files(&p);
	usleep(200000);
	disconnect(&p);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	assert_int_equal(ftruncate(p.files.fd[SHADERS_INDEX], 4 << 20), 0); /* all of it zero */
	disconnect(&p);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	disconnect(&p);
	until_archived(&p, "00000d01", 1);
	ready(&p, DRIVER);
	fake_kill(&p.f);
	close(pipes[1]);
	place_end(&p);
}

/* Its tenant was deleted, or vgpud was told to keep nothing: nothing comes back. */
static void test_without_the_folder(void **state)
{
	struct place p;

	place_make(&p, NULL);
	ready(&p, DRIVER);
	assert_int_equal(rmdir(p.dir), 0);
	connect_without(&p, "vtest.sock");
	put_files(&p);
	files_add(&p.files, 1, 100);
	disconnect(&p);
	ready(&p, DRIVER);
	connect_without(&p, "vtest.sock");
	assert_int_equal(access(p.dir, F_OK), -1);
	assert_int_equal(mkdir(p.dir, 0700), 0);
	fake_kill(&p.f);
	place_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_next_binding_has_them),
		cmocka_unit_test(test_they_are_waited_for),
		cmocka_unit_test(test_a_long_binding),
		cmocka_unit_test(test_a_long_rest),
		cmocka_unit_test(test_each_user_is_a_tenant),
		cmocka_unit_test(test_a_driver_that_has_none),
		cmocka_unit_test(test_what_crashed_is_not_taken),
		cmocka_unit_test(test_hostile_files),
		cmocka_unit_test(test_without_the_folder),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

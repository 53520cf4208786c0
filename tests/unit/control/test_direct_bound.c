/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a VFIO file open, looked for among real processes. */
#include "control/direct_private.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_S 30

/* What comes of it, instead of control/direct.c. */
void __wrap_direct_event(
	struct vgpu *v, enum direct_event event, const struct direct_result *result);

static unsigned opened;

void __wrap_direct_event(
	struct vgpu *v, enum direct_event event, const struct direct_result *result)
{
	opened += event == DIRECT_OPENED;
}

static char folder[] = "/tmp/vgpu-bound-XXXXXX";
static char dev[64], file[96];
static struct vgpud d;
static struct vgpu v = {.d = &d, .def = {.name = "a", .uuid = "u"}};

static int make(void **state)
{
	static const struct direct_files files = {{"vfio/7"}, 1};

	assert_non_null(mkdtemp(folder));
	snprintf(dev, sizeof(dev), "%s/vfio", folder);
	assert_int_equal(mkdir(dev, 0700), 0);
	snprintf(file, sizeof(file), "%s/7", dev);
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	d.roots = host_roots_real;
	d.roots.dev = folder;
	d.vgpus = &v;
	assert_true(sd_event_new(&d.event) >= 0);
	v.direct = direct_new();
	assert_non_null(v.direct);
	direct_take_files(&v, &files);
	return 0;
}

static int unmake(void **state)
{
	direct_free(&v);
	sd_event_unref(d.event);
	unlink(file);
	rmdir(dev);
	return rmdir(folder);
}

/* Looks for it, and goes on when that is done: not while it is. */
static unsigned seen_by_a_late_vgpud(void)
{
	siginfo_t ended;

	opened = 0;
	direct_scan(&v);
	assert_true(v.direct->scanning);
	assert_int_equal(waitid(P_ALL, 0, &ended, WEXITED | WNOWAIT), 0);
	while (d.children.running)
		assert_true(sd_event_run(d.event, 100000) >= 0);
	assert_false(v.direct->scanning);
	return opened;
}

/* sd-event has what it was told to watch in hand until its loop goes on. */
static void test_a_watch_is_no_vm(void **state)
{
	direct_watch(&v);
	assert_int_equal(seen_by_a_late_vgpud(), 0);
	assert_int_equal(v.direct->seen_pid, 0);
	direct_unwatch(&v);
}

/* It has the file open until `ret_end` is closed; started by one that ended, so nobody's child. */
static pid_t start_vm(int *ret_end)
{
	int said[2], ends[2];
	pid_t pid = -1;

	assert_int_equal(pipe2(said, O_CLOEXEC), 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t first = fork();
	if (first == 0) {
		if (fork() != 0)
			_exit(0);
		close(ends[1]);
		pid = open(file, O_RDWR | O_CLOEXEC) < 0 ? -1 : getpid();
		(void)!write(said[1], &pid, sizeof(pid));
		(void)!read(ends[0], &pid, 1);
		_exit(0);
	}
	assert_int_equal(waitpid(first, NULL, 0), first);
	close(said[1]);
	close(ends[0]);
	assert_int_equal(read(said[0], &pid, sizeof(pid)), sizeof(pid));
	close(said[0]);
	*ret_end = ends[1];
	return pid;
}

static void test_a_vm_is_one(void **state)
{
	int end;

	direct_watch(&v);
	pid_t vm = start_vm(&end);
	assert_true(vm > 0);
	assert_true(seen_by_a_late_vgpud() > 0);
	assert_int_equal(v.direct->seen_pid, vm);
	close(end);
	direct_unwatch(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_watch_is_no_vm),
		cmocka_unit_test(test_a_vm_is_one),
	};
	alarm(LIMIT_S);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make, unmake);
}

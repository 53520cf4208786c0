/* SPDX-License-Identifier: Apache-2.0 */
/* Which of a process' descriptors have a file open, in the kernel's own /proc. */
#include "host/holder.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FOR_IOCTLS 3 /* open(2): neither to be read nor written, and yet open */

ssize_t __real_readlinkat(int dir, const char *name, char *ret, size_t size);
ssize_t __wrap_readlinkat(int dir, const char *name, char *ret, size_t size);

static int closed_late = -1; /* by its process, when it was just found */
static char folder[] = "/tmp/vgpu-holder-XXXXXX";
static char vfio[64], file[96];

ssize_t __wrap_readlinkat(int dir, const char *name, char *ret, size_t size)
{
	ssize_t n = __real_readlinkat(dir, name, ret, size);

	if (n == (ssize_t)strlen(file) && !strncmp(ret, file, strlen(file)) && closed_late >= 0) {
		close(closed_late);
		closed_late = -1;
	}
	return n;
}

static int make(void **state)
{
	assert_non_null(mkdtemp(folder));
	snprintf(vfio, sizeof(vfio), "%s/vfio", folder);
	assert_int_equal(mkdir(vfio, 0700), 0);
	snprintf(file, sizeof(file), "%s/7", vfio);
	int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	return 0;
}

static int unmake(void **state)
{
	unlink(file);
	rmdir(vfio);
	return rmdir(folder);
}

static int open_as(int flags)
{
	int fd = open(file, flags | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static bool we_have_it(void)
{
	const char *const files[] = {"vfio/7"};
	struct host_roots roots = host_roots_real;
	struct holders holders;

	roots.dev = folder;
	holders_find(&roots, files, 1, &holders);
	assert_true(holders.total <= 1);
	assert_true(!holders.total || holders.list[0].pid == (uint32_t)getpid());
	return holders.total;
}

static void test_whoever_can_use_it_has_it(void **state)
{
	static const int ways[] = {O_RDONLY, O_WRONLY, O_RDWR, FOR_IOCTLS};

	for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		int fd = open_as(ways[i]);
		assert_true(we_have_it());
		close(fd);
		assert_false(we_have_it());
	}
}

static void test_whoever_names_it_has_it_not(void **state)
{
	int name = open_as(O_PATH);

	assert_false(we_have_it());
	int fd = open_as(O_RDWR); /* behind the other */
	assert_true(we_have_it());
	close(fd);
	close(name);
}

static void test_closed_while_it_is_looked_at(void **state)
{
	closed_late = open_as(O_RDWR);
	assert_false(we_have_it());
	assert_int_equal(closed_late, -1);
	closed_late = open_as(O_PATH);
	assert_false(we_have_it());
	assert_int_equal(closed_late, -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whoever_can_use_it_has_it),
		cmocka_unit_test(test_whoever_names_it_has_it_not),
		cmocka_unit_test(test_closed_while_it_is_looked_at),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, make, unmake);
}

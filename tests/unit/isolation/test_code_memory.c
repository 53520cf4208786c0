/* SPDX-License-Identifier: Apache-2.0 */

/*
 * This program is the library that generates code: it asks, writes and runs. What must end a
 * process is tried in a child.
 */

#include "isolation/code_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define RWX  (PROT_READ | PROT_WRITE | PROT_EXEC)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define SIZE (10u << 20)

static uint8_t *volatile memory; /* what code_memory gave */
static struct sigaction handler;
static uint8_t *volatile nowhere = (uint8_t *)16;

/* mov eax, value; ret: byte by byte, as a generator writes. */
static void generate(uint8_t *at, uint32_t value)
{
	volatile uint8_t *code = at;

	*code++ = 0xb8;
	for (int i = 0; i < 4; i++)
		*code++ = (uint8_t)(value >> 8 * i);
	*code = 0xc3;
}

static uint32_t run(const uint8_t *at)
{
	uint32_t (*fn)(void);

	memcpy(&fn, &at, sizeof(fn));
	return fn();
}

/* Protection of the mapping as the kernel tells it: "rw-p". */
static void protection_of(const void *address, char ret[5])
{
	FILE *maps = fopen("/proc/self/maps", "re");
	uintptr_t from, to;
	char line[512];

	assert_non_null(maps);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %4s", &from, &to, ret) == 3 &&
			(uintptr_t)address >= from && (uintptr_t)address < to)
			break;
	}
	fclose(maps);
}

static void expect_protection(const char *wanted)
{
	char now[5];

	protection_of(memory, now);
	assert_string_equal(now, wanted);
}

static int setup(void **state)
{
	/* Nobody offers yet: the kernel decides. */
	void *before = mmap(NULL, SIZE, RWX, ANON, -1, 0);
	char now[5];

	if (before == MAP_FAILED)
		return -1;
	protection_of(before, now);
	munmap(before, SIZE);
	if (strcmp(now, "rwxp") != 0 || code_memory_offer() < 0)
		return -1;
	sigaction(SIGSEGV, NULL, &handler);
	memory = mmap(NULL, SIZE, RWX, ANON, -1, 0);
	return memory == MAP_FAILED ? -1 : 0;
}

/* cmocka puts its own in front of it for each test. */
static void use_handler(void)
{
	sigaction(SIGSEGV, &handler, NULL);
}

static void test_is_never_both(void **state)
{
	use_handler();
	expect_protection("rw-p");
	generate(memory, 42);
	assert_int_equal(run(memory), 42);
	expect_protection("r-xp");
	generate(memory + SIZE - 64, 43);
	expect_protection("rw-p");
	generate(memory, 44);
	assert_int_equal(run(memory + SIZE - 64), 43);
	assert_int_equal(run(memory), 44);
	expect_protection("r-xp");
}

static void test_a_second_request_fails(void **state)
{
	errno = 0;
	assert_ptr_equal(mmap(NULL, SIZE, RWX, ANON, -1, 0), MAP_FAILED);
	assert_int_equal(errno, ENOMEM);
}

static void test_other_requests_are_the_kernels(void **state)
{
	void *plain = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, ANON, -1, 0);

	assert_ptr_not_equal(plain, MAP_FAILED);
	memset(plain, 1, SIZE);
	munmap(plain, SIZE);
	errno = 0;
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0), MAP_FAILED);
	assert_int_equal(errno, EBADF);
}

static int end_of(void (*fn)(void))
{
	const struct rlimit none = {0, 0};
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &none);
		alarm(10);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status);
}

/* The C library is not who generates. */
static void write_by_others(void)
{
	(void)run(memory);
	explicit_bzero(memory, 65536);
}

static void write_by_generator(void)
{
	(void)run(memory);
	generate(memory + 65536, 1);
}

static void write_nowhere(void)
{
	generate(nowhere, 1);
}

static void run_nowhere(void)
{
	(void)run(nowhere);
}

static void run_data(void)
{
	static uint8_t code[64];

	generate(code, 1);
	(void)run(code);
}

static void test_other_faults_end_the_process(void **state)
{
	use_handler();
	generate(memory, 42);
	assert_int_equal(end_of(write_by_generator), 0);
	assert_int_equal(end_of(write_by_others), SIGSEGV);
	assert_int_equal(end_of(write_nowhere), SIGSEGV);
	assert_int_equal(end_of(run_nowhere), SIGSEGV);
	assert_int_equal(end_of(run_data), SIGSEGV);
}

static void sent(void)
{
	kill(getpid(), SIGSEGV);
	generate(memory, 7);
	_exit(run(memory) == 7 ? 5 : 6);
}

static void test_a_signal_that_is_sent_is_no_fault(void **state)
{
	use_handler();
	assert_int_equal(end_of(sent), -5);
}

#if !defined(__x86_64__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OFFERED 0
#else
#define OFFERED 1
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_is_never_both),
		cmocka_unit_test(test_a_second_request_fails),
		cmocka_unit_test(test_other_requests_are_the_kernels),
		cmocka_unit_test(test_other_faults_end_the_process),
		cmocka_unit_test(test_a_signal_that_is_sent_is_no_fault),
	};

	if (!OFFERED) {
		printf("1..1\nok 1 # SKIP no such memory on this processor, or under a "
		       "sanitizer\n");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rule 4 at the keeper: on the real pages of memory that a device process hands over for its VM,
 * with this test as vgpud.
 */
#include "bench.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/process_times.h"
#include "keeper/memory_claim.h"
#include "keeper/memory_holder.h"
#include "keeper/memory_smaps.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB      (1ull << 20)
#define LIMIT_MS 20000u

#ifndef CAP_IPC_LOCK
#define CAP_IPC_LOCK 14
#endif

struct vm {
	struct bench b;
	struct fake f;
	int client;
	uint32_t id, serial;
};

static void set_mode(struct vm *vm, uint32_t mode, uint32_t timeout_ms)
{
	const struct keeper_memory set = {.mode = mode, .timeout_ms = timeout_ms};

	bench_send(&vm->b, KEEPER_CONTROL_MEMORY, &set, -1);
	do
		bench_next_status(&vm->b);
	while (vm->b.status.memory.mode != mode);
}

static void grant(struct vm *vm, const char *no)
{
	struct keeper_memory_grant g = {.serial = vm->b.status.memory.serial, .ok = !no};

	snprintf(g.reason, sizeof(g.reason), "%s", no ? no : "");
	bench_send(&vm->b, KEEPER_CONTROL_MEMORY_GRANT, &g, -1);
}

static void vm_start(struct vm *vm)
{
	struct packet p;

	*vm = (struct vm){0};
	bench_start(&vm->b, NULL);
	fake_accept_ready(&vm->b, &vm->f);
	vm->client = bench_client(&vm->b, "vhost-user.sock");
	fake_expect(&vm->f, KEEPER_DEVICE_CONNECTION, &p);
	vm->id = ((struct keeper_connection *)p.payload)->id;
	close(p.fd);
}

static void vm_stop(struct vm *vm)
{
	close(vm->client);
	close(vm->f.channel);
	close(vm->f.stats);
	bench_stop(&vm->b);
}

static int guest_memory(uint64_t size)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static uint64_t there(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void give(struct vm *vm, uint32_t slot, int fd, uint64_t size)
{
	const struct keeper_custody what = {
		.kind = KEEPER_CUSTODY_MEMORY, .index = slot, .a = slot * 1024 * MIB, .b = size};

	fake_send(&vm->f, KEEPER_DEVICE_CUSTODY, &what, fd);
}

static void ask(struct vm *vm)
{
	const struct keeper_verdict asked = {.serial = ++vm->serial};

	fake_send(&vm->f, KEEPER_DEVICE_MEMORY_DONE, &asked, -1);
}

/* The reason; "" : it is good. */
static const char *verdict(struct vm *vm)
{
	static struct keeper_verdict v;
	struct packet p;

	fake_expect(&vm->f, KEEPER_DEVICE_VERDICT, &p);
	memcpy(&v, p.payload, sizeof(v));
	assert_int_equal(v.serial, vm->serial);
	assert_int_equal(v.ok, !v.reason[0]);
	return v.reason;
}

static void expect_words(const char *text, const char *words)
{
	if (!text || !strstr(text, words))
		fail_msg("\"%s\" does not say \"%s\"", text ? text : "", words);
}

/* The process that holds the memory; 0: there is none. */
static pid_t holder_of(const struct vm *vm)
{
	pid_t children[8];
	size_t n = process_children(vm->b.keeper, children, ARRAY_SIZE(children));

	for (size_t i = 0; i < n; i++) {
		char path[48], name[32] = "";
		snprintf(path, sizeof(path), "/proc/%d/comm", (int)children[i]);
		FILE *f = fopen(path, "re");
		if (f && !fgets(name, sizeof(name), f))
			name[0] = '\0';
		if (f)
			fclose(f);
		if (!strcmp(name, "vgpu-memory\n"))
			return children[i];
	}
	return 0;
}

static void until_no_holder(const struct vm *vm)
{
	for (unsigned i = 0; holder_of(vm); i++) {
		if (i == LIMIT_MS)
			fail_msg("the memory is still held");
		usleep(1000);
	}
}

/* Asks the kernel, not the keeper: is all of that memfd locked by the holder? */
static bool is_locked(const struct vm *vm, uint64_t size)
{
	char path[48], line[512];
	struct memory_range range = {0};

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)holder_of(vm));
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long start, end;
		if (strstr(line, "/memfd:guest") && sscanf(line, "%llx-%llx", &start, &end) == 2)
			range = (struct memory_range){.start = start, .end = end};
	}
	fclose(f);
	if (range.end - range.start != size)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)holder_of(vm));
	f = fopen(path, "re");
	assert_non_null(f);
	assert_int_equal(memory_smaps_read(f, &range, 1), 0);
	fclose(f);
	return memory_range_locked(&range);
}

/* --- tests --- */

static void test_open_costs_nothing(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	assert_string_equal(verdict(&vm), "");
	bench_until_memory(&vm.b, KEEPER_MEMORY_FREE);
	assert_int_equal(vm.b.status.memory.bytes, 8 * MIB);
	assert_int_equal(vm.b.status.memory.locked, 0);
	assert_int_equal(holder_of(&vm), 0);
	assert_int_equal(there(fd), 0);
	close(fd);
	vm_stop(&vm);
}

static void lock_all(struct vm *vm, int fd, uint64_t size)
{
	vm_start(vm);
	set_mode(vm, KEEPER_MEMORY_MUST, 0);
	give(vm, 0, fd, size);
	ask(vm);
	bench_until_memory(&vm->b, KEEPER_MEMORY_ASKING);
	grant(vm, NULL);
	bench_until_memory(&vm->b, KEEPER_MEMORY_LOCKED);
	assert_string_equal(verdict(vm), "");
}

static void test_all_of_it_is_locked(void **state)
{
	struct vm vm;
	int fd = guest_memory(32 * MIB);

	assert_int_equal(pwrite(fd, "x", 1, 4 * MIB), 1); /* the guest has run already */
	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	give(&vm, 0, fd, MIB); /* two parts of one file, and not even all of it */
	give(&vm, 1, fd, 4 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	assert_int_equal(vm.b.status.memory.bytes, 32 * MIB);
	assert_int_equal(vm.b.status.memory.missing, 32 * MIB - 4096);
	fake_expect_nothing(&vm.f, 100); /* no verdict before it is true */
	grant(&vm, NULL);
	bench_until_memory(&vm.b, KEEPER_MEMORY_LOCKED);
	assert_int_equal(vm.b.status.memory.locked, 32 * MIB);
	assert_true(vm.b.status.memory.verified_ms > 0);
	assert_string_equal(verdict(&vm), "");
	assert_int_equal(there(fd), 32 * MIB);
	assert_true(is_locked(&vm, 32 * MIB));
	char byte;
	assert_int_equal(pread(fd, &byte, 1, 4 * MIB), 1);
	assert_int_equal(byte, 'x');
	/* The same table once more: nothing to ask, the answer comes at once. */
	ask(&vm);
	assert_string_equal(verdict(&vm), "");
	/* It ends with its VM. */
	close(vm.client);
	until_no_holder(&vm);
	vm.client = -1;
	close(fd);
	vm_stop(&vm);
}

static void test_denied(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, "the node has 3 MiB left (end something)");
	bench_until_memory(&vm.b, KEEPER_MEMORY_REFUSED);
	const char *why = verdict(&vm);
	expect_words(why, "over-commit is on");
	expect_words(why, "3 MiB left");
	bench_until_event(&vm.b, "refused: over-commit");
	assert_int_equal(there(fd), 0);
	assert_int_equal(holder_of(&vm), 0);
	close(fd);
	vm_stop(&vm);
}

static void test_nobody_grants(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 300);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	expect_words(verdict(&vm), "vgpud did not say");
	close(fd);
	vm_stop(&vm);
}

/* 2 GiB are not made in 100 ms; a loaded machine is only later. */
static void test_too_slow(void **state)
{
	struct vm vm;
	int fd = guest_memory(2048 * MIB);

	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 100);
	give(&vm, 0, fd, 2048 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, NULL);
	const char *why = verdict(&vm);
	if (!strstr(why, "vgpud did not say")) /* the grant itself was late */
		expect_words(why, "of its 2048 MiB were resident");
	assert_true(there(fd) < 2048 * MIB);
	until_no_holder(&vm);
	close(fd);
	vm_stop(&vm);
}

static void test_not_enough_memory(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	struct keeper_memory_grant g = {
		.serial = vm.b.status.memory.serial, .ok = 1, .keep_free = 1ull << 50};
	bench_send(&vm.b, KEEPER_CONTROL_MEMORY_GRANT, &g, -1);
	expect_words(verdict(&vm), "the node ran out of memory");
	close(fd);
	vm_stop(&vm);
}

static void test_hole_is_found_and_repaired(void **state)
{
	struct vm vm;
	int fd = guest_memory(16 * MIB);

	lock_all(&vm, fd, 16 * MIB);
	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4 * MIB, 4096), 0);
	assert_int_equal(there(fd), 16 * MIB - 4096);
	uint64_t since = clock_ms();
	bench_until_event(&vm.b, "4 KiB of its VM's reserved memory were taken away");
	assert_true(clock_ms() - since < 10000);
	while (!vm.b.status.memory.holes)
		bench_until_memory(&vm.b, KEEPER_MEMORY_LOCKED);
	assert_int_equal(vm.b.status.memory.holes, 1);
	assert_int_equal(vm.b.status.memory.repaired, 4096);
	assert_int_equal(there(fd), 16 * MIB);
	assert_true(is_locked(&vm, 16 * MIB));
	/* The guest is served all the while. */
	assert_true(client_open(vm.client));
	close(fd);
	vm_stop(&vm);
}

/* Taken away and put back by somebody else: there, but neither ours nor locked. */
static void test_pages_that_are_not_ours(void **state)
{
	struct vm vm;
	int fd = guest_memory(64 * MIB);
	static char zeroes[1 << 20];

	lock_all(&vm, fd, 64 * MIB);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 60 * MIB), 0);
	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(pwrite(fd, zeroes, sizeof(zeroes), i * MIB), sizeof(zeroes));
	assert_int_equal(there(fd), 64 * MIB);
	assert_false(is_locked(&vm, 64 * MIB));
	bench_until_event(&vm.b, "KiB of its VM's reserved memory were taken away");
	assert_true(is_locked(&vm, 64 * MIB));
	close(fd);
	vm_stop(&vm);
}

static void test_cut_short(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	lock_all(&vm, fd, 8 * MIB);
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	bench_until_event(&vm.b, "stopped serving its VM");
	expect_words(vm.b.event, "changed its size");
	client_expect_end(vm.client);
	vm.client = -1;
	until_no_holder(&vm);
	close(fd);
	vm_stop(&vm);
}

static void test_more_memory_comes(void **state)
{
	struct vm vm;
	int first = guest_memory(8 * MIB), second = guest_memory(4 * MIB);

	lock_all(&vm, first, 8 * MIB);
	give(&vm, 1, second, 4 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	assert_int_equal(vm.b.status.memory.bytes, 12 * MIB);
	assert_int_equal(vm.b.status.memory.missing, 4 * MIB);
	fake_expect_nothing(&vm.f, 50);
	grant(&vm, NULL);
	bench_until_memory(&vm.b, KEEPER_MEMORY_LOCKED);
	assert_string_equal(verdict(&vm), "");
	assert_int_equal(there(second), 4 * MIB);
	/* And goes: what is left is held, and nobody is asked. */
	const struct keeper_custody gone = {.kind = KEEPER_CUSTODY_MEMORY, .index = 1};
	fake_send(&vm.f, KEEPER_DEVICE_RELEASE, &gone, -1);
	ask(&vm);
	assert_string_equal(verdict(&vm), "");
	assert_true(is_locked(&vm, 8 * MIB));
	close(first);
	close(second);
	vm_stop(&vm);
}

/* Between a question and its answer the device process puts other files there. */
static void test_other_memory_than_was_asked_for(void **state)
{
	struct vm vm;
	int fds[KEEPER_MAX_MEMORY], others[KEEPER_MAX_MEMORY];

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		fds[i] = guest_memory(MIB);
		others[i] = guest_memory(MIB);
	}
	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		give(&vm, i, fds[i], MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, NULL);
	assert_string_equal(verdict(&vm), "");
	give(&vm, 0, others[0], MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	/* As much: what is held otherwise makes room. */
	for (unsigned i = 1; i < KEEPER_MAX_MEMORY; i++)
		give(&vm, i, others[i], MIB);
	grant(&vm, NULL);
	assert_string_equal(verdict(&vm), "");
	assert_int_equal(there(others[KEEPER_MAX_MEMORY - 1]), MIB);
	give(&vm, 0, fds[0], MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	/* More: that was not granted, and is asked for. */
	int large = guest_memory(16 * MIB);
	give(&vm, 0, large, 16 * MIB);
	grant(&vm, NULL);
	while (vm.b.status.memory.bytes != (KEEPER_MAX_MEMORY + 15) * MIB)
		bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	assert_int_equal(there(large), 0);
	grant(&vm, NULL);
	assert_string_equal(verdict(&vm), "");
	assert_int_equal(there(large), 16 * MIB);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++) {
		close(fds[i]);
		close(others[i]);
	}
	close(large);
	vm_stop(&vm);
}

/* A successor asks for what its predecessor was granted: nothing is locked anew. */
static void test_outlives_the_device_process(void **state)
{
	const struct keeper_custody anchor = {.kind = KEEPER_CUSTODY_ANCHOR};
	static struct given given;
	struct keeper_saved loaded = {0};
	struct vm vm;
	int fd = guest_memory(8 * MIB), page = bench_file(1);

	lock_all(&vm, fd, 8 * MIB);
	pid_t holder = holder_of(&vm);
	fake_send(&vm.f, KEEPER_DEVICE_CUSTODY, &anchor, page);
	fake_send(&vm.f, KEEPER_DEVICE_NOTICE, &(struct keeper_text){"in custody"}, -1);
	bench_until_event(&vm.b, "in custody");
	fake_kill(&vm.f);
	fake_accept_ready(&vm.b, &vm.f);
	fake_take(&vm.f, &given, KEEPER_DEVICE_LOAD, false);
	fake_send(&vm.f, KEEPER_DEVICE_LOADED, &loaded, -1);
	ask(&vm);
	assert_string_equal(verdict(&vm), "");
	assert_int_equal(holder_of(&vm), holder);
	assert_true(is_locked(&vm, 8 * MIB));
	close(page);
	close(fd);
	vm_stop(&vm);
}

static void test_holder_is_killed(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	lock_all(&vm, fd, 8 * MIB);
	kill(holder_of(&vm), SIGKILL);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, NULL);
	bench_until_memory(&vm.b, KEEPER_MEMORY_LOCKED);
	assert_true(is_locked(&vm, 8 * MIB));
	assert_true(client_open(vm.client));
	close(fd);
	vm_stop(&vm);
}

/* The switch is turned on under a VM: tried first, then demanded. */
static void test_turned_on_under_a_vm(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	assert_string_equal(verdict(&vm), "");
	set_mode(&vm, KEEPER_MEMORY_TRY, 0);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, "it does not fit");
	bench_until_memory(&vm.b, KEEPER_MEMORY_REFUSED);
	assert_true(client_open(vm.client));
	set_mode(&vm, KEEPER_MEMORY_OPEN, 0);
	bench_until_memory(&vm.b, KEEPER_MEMORY_FREE);
	set_mode(&vm, KEEPER_MEMORY_TRY, 0);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, NULL);
	bench_until_memory(&vm.b, KEEPER_MEMORY_LOCKED);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	assert_true(is_locked(&vm, 8 * MIB));
	set_mode(&vm, KEEPER_MEMORY_OPEN, 0);
	bench_until_memory(&vm.b, KEEPER_MEMORY_FREE);
	until_no_holder(&vm);
	/* No try first: the VM is ended with the reason. */
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, "it does not fit");
	bench_until_event(&vm.b, "stopped serving its VM");
	client_expect_end(vm.client);
	vm.client = -1;
	close(fd);
	vm_stop(&vm);
}

static void test_file_on_a_disk(void **state)
{
	char path[] = "guest-memory-XXXXXX";
	struct statfs fs;
	struct vm vm;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, 8 * MIB), 0);
	assert_int_equal(fstatfs(fd, &fs), 0);
	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, NULL);
	const char *why = verdict(&vm);
	if (fs.f_type != TMPFS_MAGIC)
		expect_words(why, "a file on a disk");
	close(fd);
	vm_stop(&vm);
}

/* Its last page cannot be counted, so it is told at once, and why. */
static void test_not_whole_pages(void **state)
{
	struct vm vm;
	int fd = guest_memory(8 * MIB + 512);

	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	uint64_t since = clock_ms();
	grant(&vm, NULL);
	expect_words(verdict(&vm), "has 8389120 bytes, and only whole pages of");
	assert_true(clock_ms() - since < MEMORY_TIMEOUT_MS / 4);
	assert_int_equal(there(fd), 0);
	close(fd);
	vm_stop(&vm);
}

/* How many there are, waiting for the first; *ret: the last of them. */
static unsigned verdicts_now(struct vm *vm, unsigned wait_ms, struct keeper_verdict *ret)
{
	struct pollfd waits = {.fd = vm->f.channel, .events = POLLIN};
	struct packet p;
	unsigned n = 0;

	for (; poll(&waits, 1, n ? 0 : (int)wait_ms) > 0; n++) {
		uint32_t before = ret->serial;
		fake_expect(&vm->f, KEEPER_DEVICE_VERDICT, &p);
		memcpy(ret, p.payload, sizeof(*ret));
		assert_true(ret->ok && ret->serial > before);
	}
	return n;
}

/* A device process that says the same over and over is looked after now and then. */
static void test_said_over_and_over(void **state)
{
	const unsigned times = 40 * MEMORY_CLAIM_BURST;
	struct keeper_verdict v = {0};
	struct vm vm;
	unsigned verdicts = 0;
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	give(&vm, 0, fd, 8 * MIB);
	uint64_t since = clock_ms();
	for (unsigned i = 0; i < times; i++) {
		ask(&vm);
		verdicts += verdicts_now(&vm, 0, &v);
	}
	while (v.serial != times) {
		unsigned n = verdicts_now(&vm, LIMIT_MS, &v);
		assert_true(n > 0);
		verdicts += n;
	}
	uint64_t took = clock_ms() - since;
	assert_true(verdicts <= MEMORY_CLAIM_BURST + took / MEMORY_CLAIM_MS + 1);
	assert_true(client_open(vm.client));
	close(fd);
	vm_stop(&vm);
}

/* The one that serves says it without end, and its successor waits for a verdict of its own. */
static void test_a_successor_has_its_turn(void **state)
{
	const struct keeper_verdict asked = {.serial = 1};
	struct keeper_verdict v = {0};
	struct vm vm;
	struct fake next;
	struct pollfd waits = {.events = POLLIN};
	int fd = guest_memory(8 * MIB);

	vm_start(&vm);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	assert_int_equal(verdicts_now(&vm, LIMIT_MS, &v), 1);
	bench_send(&vm.b, KEEPER_CONTROL_MOVE, &(struct keeper_move){0}, -1);
	fake_accept_ready(&vm.b, &next);
	fake_expect_only(&vm.f, KEEPER_DEVICE_PRECOPY);
	while (vm.serial < 2 * MEMORY_CLAIM_BURST)
		ask(&vm);
	while (v.serial != vm.serial)
		assert_true(verdicts_now(&vm, LIMIT_MS, &v) > 0);
	ask(&vm);
	fake_send(&next, KEEPER_DEVICE_MEMORY_DONE, &asked, -1);
	waits.fd = next.channel;
	for (unsigned i = 0; poll(&waits, 1, 0) == 0; i++) {
		if (i == 20)
			fail_msg("no verdict for the successor");
		assert_true(verdicts_now(&vm, LIMIT_MS, &v) > 0);
		ask(&vm);
	}
	fake_expect_only(&next, KEEPER_DEVICE_VERDICT);
	close(next.channel);
	close(next.stats);
	close(fd);
	vm_stop(&vm);
}

/* The last one: what it gives up does not come back. */
static void test_limit(void **state)
{
	struct rlimit limit = {65536, 65536};
	struct vm vm;
	int fd = guest_memory(8 * MIB);

	assert_int_equal(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	if (geteuid() == 0)
		assert_int_equal(prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0), 0);
	vm_start(&vm);
	set_mode(&vm, KEEPER_MEMORY_MUST, 0);
	give(&vm, 0, fd, 8 * MIB);
	ask(&vm);
	bench_until_memory(&vm.b, KEEPER_MEMORY_ASKING);
	grant(&vm, NULL);
	const char *why = verdict(&vm);
	expect_words(why, "8 MiB are to be locked and vgpud may lock 64 KiB");
	expect_words(why, "LimitMEMLOCK");
	assert_int_equal(there(fd), 0);
	close(fd);
	vm_stop(&vm);
}

/* --- what the kernel shows --- */

static int read_smaps(const char *text, struct memory_range *range)
{
	FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");

	assert_non_null(f);
	int r = memory_smaps_read(f, range, 1);
	fclose(f);
	return r;
}

#define MAPPING(range, rss, pss, swap, locked, flags)                                              \
	range " rw-s 00000000 00:01 7 /memfd:guest (deleted)\nSize: 8 kB\nRss:  " rss              \
	      " kB\nPss:  " pss " kB\nPss_Dirty: 1 kB\nSwap: " swap " kB\nSwapPss: 9 kB\n"         \
	      "Locked: " locked " kB\nTHPeligible: 0\nVmFlags: rd wr sh" flags "\n"

/* Half of it is there, and the other half in the name of its file. */
static void test_smaps_with_a_long_path(void **state)
{
	static const char mapping[] = "1000-3000 rw-s 00000000 00:01 7 /dev/shm/",
			  rest[] = "Rss: 4 kB\nRss: 4 kB\nPss: 2 kB\nLocked: 2 kB\nVmFlags: lo \n";
	struct memory_range range = {.start = 0x1000, .end = 0x3000};
	char text[511 + sizeof(rest)]; /* what is read at once, and the rest */

	memset(text, 'x', 511);
	memcpy(text, mapping, sizeof(mapping) - 1);
	memcpy(text + 511, rest, sizeof(rest));
	assert_int_equal(read_smaps(text, &range), 0);
	assert_int_equal(range.resident, 4096);
	assert_false(memory_range_locked(&range));
}

static void test_smaps(void **state)
{
	static const struct {
		const char *text;
		bool locked;
	} cases[] = {
		{MAPPING("1000-3000", "8", "2", "0", "2", " lo lf sd"), true},
		{MAPPING("1000-3000", "8", "2", "0", "2", " lo"), true},
		{MAPPING("1000-3000", "8", "2", "0", "2", " lf sd"), false}, /* no lock */
		{MAPPING("1000-3000", "4", "2", "0", "2", " lo"), false},    /* a hole */
		{MAPPING("1000-3000", "8", "2", "4", "2", " lo"), false},    /* swapped */
		{MAPPING("1000-3000", "8", "2", "0", "1", " lo"), false},
		{MAPPING("1000-2000", "8", "2", "0", "2", " lo"), false}, /* unmapped */
		{MAPPING("1000-2000", "4", "1", "0", "1", " lo")
				MAPPING("2000-3000", "4", "1", "0", "1", " lo"),
			true},
		{MAPPING("1000-2000", "4", "1", "0", "1", " lo")
				MAPPING("2000-3000", "4", "1", "0", "0", ""),
			false},
		{MAPPING("5000-7000", "8", "2", "0", "2", " lo"), false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct memory_range range = {.start = 0x1000, .end = 0x3000};
		assert_int_equal(read_smaps(cases[i].text, &range), 0);
		if (memory_range_locked(&range) != cases[i].locked)
			fail_msg("case %zu", i);
	}
	struct memory_range huge = {.start = 0x1000, .end = 0x3000, .huge = true};
	assert_int_equal(read_smaps("1000-3000 rw-s 0 0:1 7 /x\nRss: 0 kB\nShared_Hugetlb: 4 kB\n"
				    "Private_Hugetlb: 4 kB\nVmFlags: rd ht\n",
				 &huge),
		0);
	assert_true(memory_range_locked(&huge));
	assert_int_equal(read_smaps("nothing\n", &huge), -EBADMSG);
	huge = (struct memory_range){.start = 0x1000, .end = 0x3000};
	assert_int_equal(read_smaps("1000-3000 r\nRss: many kB\n", &huge), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smaps),
		cmocka_unit_test(test_smaps_with_a_long_path),
		cmocka_unit_test(test_open_costs_nothing),
		cmocka_unit_test(test_all_of_it_is_locked),
		cmocka_unit_test(test_denied),
		cmocka_unit_test(test_nobody_grants),
		cmocka_unit_test(test_too_slow),
		cmocka_unit_test(test_not_enough_memory),
		cmocka_unit_test(test_hole_is_found_and_repaired),
		cmocka_unit_test(test_pages_that_are_not_ours),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_more_memory_comes),
		cmocka_unit_test(test_other_memory_than_was_asked_for),
		cmocka_unit_test(test_outlives_the_device_process),
		cmocka_unit_test(test_holder_is_killed),
		cmocka_unit_test(test_turned_on_under_a_vm),
		cmocka_unit_test(test_file_on_a_disk),
		cmocka_unit_test(test_not_whole_pages),
		cmocka_unit_test(test_said_over_and_over),
		cmocka_unit_test(test_a_successor_has_its_turn),
		cmocka_unit_test(test_limit),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("keeper_memory", tests, NULL, NULL);
}

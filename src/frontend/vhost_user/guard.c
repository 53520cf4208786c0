/* SPDX-License-Identifier: Apache-2.0 */
#include "guard.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

struct guard {
	uintptr_t start; /* 0: free; written last when taken, first when freed */
	size_t len;
	bool broken;
};

static struct guard guard_table[GUARD_MAX];

/* Async-signal-safe: atomics and one system call; any thread may run it. */
static bool guard_cover(uintptr_t address)
{
	for (size_t i = 0; i < GUARD_MAX; i++) {
		struct guard *guard = &guard_table[i];
		uintptr_t start = __atomic_load_n(&guard->start, __ATOMIC_ACQUIRE);
		if (!start || address < start || address - start >= guard->len)
			continue;
		void *map = mmap((void *)start, guard->len, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
		if (map == MAP_FAILED)
			return false;
		__atomic_store_n(&guard->broken, true, __ATOMIC_RELEASE);
		return true;
	}
	return false;
}

static void guard_on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	int saved_errno = errno;

	/* The default action cannot be restored once system calls are filtered. */
	if (!guard_cover((uintptr_t)info->si_addr))
		abort();
	errno = saved_errno;
}

int guard_install_sigbus_handler(void)
{
	struct sigaction action = {.sa_sigaction = guard_on_sigbus, .sa_flags = SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

int guard_add(void *start, size_t len, struct guard **ret)
{
	for (size_t i = 0; i < GUARD_MAX; i++) {
		struct guard *guard = &guard_table[i];
		if (guard->start)
			continue;
		guard->len = len;
		guard->broken = false;
		__atomic_store_n(&guard->start, (uintptr_t)start, __ATOMIC_RELEASE);
		*ret = guard;
		return 0;
	}
	return -ENOSPC;
}

void guard_remove(struct guard *guard)
{
	if (guard)
		__atomic_store_n(&guard->start, 0, __ATOMIC_RELEASE);
}

bool guard_broken(const struct guard *guard)
{
	return guard && __atomic_load_n(&guard->broken, __ATOMIC_ACQUIRE);
}

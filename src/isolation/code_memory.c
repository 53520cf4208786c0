/* SPDX-License-Identifier: Apache-2.0 */
#include "isolation/code_memory.h"

#include "isolation/syscalls.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__) && !SANITIZER_BUILD

#define PROT_RW            (PROT_READ | PROT_WRITE)
#define PROT_RX            (PROT_READ | PROT_EXEC)
#define PROT_RWX           (PROT_READ | PROT_WRITE | PROT_EXEC)
#define CODE_MEMORY_LEAST  (1ull << 20) /* bytes; others ask for less, and do as well without */
#define CODE_MEMORY_MOST   (64ull << 20)
#define FAULT_BY_WRITE     2u /* bits of the processor's error code */
#define FAULT_BY_EXECUTION 16u

struct code_range {
	uintptr_t from, to;
};

/* What a signal handler needs: written once, before `taken` memory is given out. */
static struct code_memory {
	bool offered, taken;
	struct code_range memory; /* to == 0: none yet; stored last */
	struct code_range writer; /* code of the library that asked */
} code_memory;

static bool range_has(const struct code_range *range, uintptr_t address)
{
	return address >= range->from && address < __atomic_load_n(&range->to, __ATOMIC_ACQUIRE);
}

/* ---- faults; async-signal-safe, on any thread ---- */

/* False: it is none of ours. */
static bool code_memory_turn(uintptr_t address, uintptr_t instruction, uint64_t fault)
{
	const struct code_range *memory = &code_memory.memory;
	int protection;

	if (!range_has(memory, address))
		return false;
	if (fault & FAULT_BY_EXECUTION)
		protection = PROT_RX;
	else if (fault & FAULT_BY_WRITE && range_has(&code_memory.writer, instruction))
		protection = PROT_RW;
	else
		return false;
	return mprotect((void *)memory->from, memory->to - memory->from, protection) == 0;
}

static void code_memory_on_fault(int signal_number, siginfo_t *info, void *context)
{
	ucontext_t *at = context;
	const greg_t *registers = at->uc_mcontext.gregs;
	int saved_errno = errno;

	if (info->si_code <= 0) /* sent by somebody: process 1 does not hear that */
		return;
	/* Again and blocked, it ends the process; no call could restore the default by then. */
	if (!code_memory_turn((uintptr_t)info->si_addr, (uintptr_t)registers[REG_RIP],
		    (uint64_t)registers[REG_ERR]))
		sigaddset(&at->uc_sigmask, SIGSEGV);
	errno = saved_errno;
}

/* ---- the request ---- */

struct code_search {
	uintptr_t address;
	struct code_range found;
};

static int code_memory_look_in(struct dl_phdr_info *object, size_t size, void *data)
{
	struct code_search *search = data;

	for (ElfW(Half) i = 0; i < object->dlpi_phnum; i++) {
		const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
		uintptr_t from = object->dlpi_addr + segment->p_vaddr;
		if (segment->p_type != PT_LOAD || !(segment->p_flags & PF_X) ||
			search->address - from >= segment->p_memsz)
			continue;
		search->found = (struct code_range){from, from + segment->p_memsz};
		return 1;
	}
	return 0;
}

static bool code_memory_is_asked(const void *address, size_t size, int protection, int flags)
{
	return !address && protection == PROT_RWX && flags == (MAP_PRIVATE | MAP_ANONYMOUS) &&
	       size >= CODE_MEMORY_LEAST && size <= CODE_MEMORY_MOST &&
	       __atomic_load_n(&code_memory.offered, __ATOMIC_ACQUIRE);
}

static void *code_memory_give(size_t size, uintptr_t caller)
{
	struct code_search search = {.address = caller};

	if (__atomic_exchange_n(&code_memory.taken, true, __ATOMIC_ACQ_REL) ||
		!dl_iterate_phdr(code_memory_look_in, &search)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	long p = syscall(SYS_mmap, NULL, size, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
	if (p == -1)
		return MAP_FAILED;
	code_memory.writer = search.found;
	code_memory.memory.from = (uintptr_t)p;
	__atomic_store_n(&code_memory.memory.to, (uintptr_t)p + size, __ATOMIC_RELEASE);
	return (void *)p;
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
	if (code_memory_is_asked(address, size, protection, flags))
		return code_memory_give(size, (uintptr_t)__builtin_return_address(0));
	/* -1 is MAP_FAILED, and errno is set. */
	return (void *)syscall(SYS_mmap, address, size, protection, flags, fd, offset);
}

int code_memory_offer(void)
{
	struct sigaction action = {.sa_sigaction = code_memory_on_fault, .sa_flags = SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGSEGV, &action, NULL) < 0)
		return -errno;
	__atomic_store_n(&code_memory.offered, true, __ATOMIC_RELEASE);
	return 0;
}

#else

int code_memory_offer(void)
{
	return 0;
}

#endif

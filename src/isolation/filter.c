/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stage 4, and the two smaller filters: the early one, which only forbids memory that is writable
 * and executable and is in force while the driver initialises, and the monitor's. A filter can
 * never be taken off; several of them add up, the strictest answer counts.
 */

#include "isolation/internal.h"
#include "isolation/syscalls.h"

#include "base/checked.h"

#include <errno.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <unistd.h>

#define PROT_WX (PROT_WRITE | PROT_EXEC)

#define EXIT_TRACED 159 /* 128 + SIGSYS */

/* linux/personality.h has it under this name, and clashes with sys/personality.h. */
#define PERSONALITY_READ_IMPLIES_EXEC 0x0400000u

static int load(scmp_filter_ctx ctx, bool all_threads)
{
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0 && all_threads)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A search tree: the list is long, and the calls in the middle of it are frequent. */
	if (r == 0 && all_threads)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return r ? r : seccomp_load(ctx);
}

int isolation_filter_early(void)
{
	static const struct {
		int number;
		unsigned answer, arg;
		uint64_t mask;
	} forbidden[] = {
		{SCMP_SYS(mmap), ENOMEM, 2, PROT_WX},
		{SCMP_SYS(mprotect), EACCES, 2, PROT_WX},
		{SCMP_SYS(pkey_mprotect), EACCES, 2, PROT_WX},
		{SCMP_SYS(shmat), EACCES, 2, SHM_EXEC},
		{SCMP_SYS(personality), EPERM, 0, PERSONALITY_READ_IMPLIES_EXEC},
	};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(forbidden); i++) {
		struct scmp_arg_cmp all_set = SCMP_CMP(
			forbidden[i].arg, SCMP_CMP_MASKED_EQ, forbidden[i].mask, forbidden[i].mask);
		r = seccomp_rule_add_array(
			ctx, SCMP_ACT_ERRNO(forbidden[i].answer), forbidden[i].number, 1, &all_set);
	}
	if (r == 0)
		r = load(ctx, false);
	seccomp_release(ctx);
	return r;
}

int isolation_filter_monitor(void)
{
	static const int allowed[] = {
		/* waiting, and one answer to the device */
		SCMP_SYS(wait4),
		SCMP_SYS(sendto),
		SCMP_SYS(restart_syscall),
		SCMP_SYS(rt_sigreturn),
		/* ending, by exit status or by signal */
		SCMP_SYS(rt_sigaction),
		SCMP_SYS(rt_sigprocmask),
		SCMP_SYS(getpid),
		SCMP_SYS(gettid),
		SCMP_SYS(exit_group),
#if SANITIZER_BUILD
		SCMP_SYS(sigaltstack),
#endif
	};
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(allowed); i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[i], 0);
	if (r == 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
			SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (r == 0)
		r = load(ctx, false);
	seccomp_release(ctx);
	return r;
}

static int add_row(scmp_filter_ctx ctx, const struct syscall_row *row)
{
	uint32_t action = row->answer_errno ? SCMP_ACT_ERRNO(row->answer_errno) : SCMP_ACT_ALLOW;
	struct scmp_arg_cmp compare = {.arg = row->arg};

	switch (row->condition) {
	case SYSCALL_ANY:
		return seccomp_rule_add(ctx, action, row->number, 0);
	case SYSCALL_ARG_IS:
		compare.op = SCMP_CMP_MASKED_EQ;
		compare.datum_a = row->mask;
		compare.datum_b = row->value;
		break;
	case SYSCALL_ARG_AT_MOST:
		compare.op = SCMP_CMP_LE;
		compare.datum_a = row->value;
		break;
	case SYSCALL_ARG0_SELF:
		compare.arg = 0;
		compare.op = SCMP_CMP_EQ;
		compare.datum_a = (scmp_datum_t)getpid();
		break;
	}
	return seccomp_rule_add_array(ctx, action, row->number, 1, &compare);
}

static void on_forbidden_call(int signal_number, siginfo_t *info, void *context)
{
	char line[96];
	int n = snprintf(
		line, sizeof(line), "vgpu-device: forbidden system call %d\n", info->si_syscall);

	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(EXIT_TRACED);
	_exit(EXIT_TRACED);
}

static int start_tracing(void)
{
	struct sigaction action = {.sa_sigaction = on_forbidden_call, .sa_flags = SA_SIGINFO};

	sigemptyset(&action.sa_mask);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

/*
 * CPUAffinity=, taskset and isolcpus= are masks, which their owner may widen; a cpuset holds.
 * Tried, because nothing tells them apart.
 */
static bool confined_by_mask_only(void)
{
	cpu_set_t now, all, wider;

	if (sched_getaffinity(0, sizeof(now), &now) < 0)
		return true;
	memset(&all, 0xff, sizeof(all));
	if (sched_setaffinity(0, sizeof(all), &all) < 0 ||
		sched_getaffinity(0, sizeof(wider), &wider) < 0)
		return true;
	if (CPU_EQUAL(&now, &wider))
		return false;
	sched_setaffinity(0, sizeof(now), &now);
	return true;
}

int isolation_filter_device(const struct isolation *iso)
{
	int r = iso->trace ? start_tracing() : 0;
	if (r < 0)
		return r;
	scmp_filter_ctx ctx = seccomp_init(iso->trace ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS);
	if (!ctx)
		return -ENOMEM;
	const bool own_threads =
		iso->software && iso->layer[ISOLATION_LAYER_PID] == 0 && !confined_by_mask_only();
	const bool wanted[] = {
		[SYSCALL_ALWAYS] = true,
		[SYSCALL_RENDER_NODE] = !iso->software,
		[SYSCALL_THREADS] = iso->threads_later,
		[SYSCALL_NO_THREADS] = !iso->threads_later,
		[SYSCALL_OWN_THREADS] = own_threads,
		[SYSCALL_NOT_OWN_THREADS] = !own_threads,
	};
	for (size_t i = 0; r == 0 && i < syscall_row_count; i++) {
		if (wanted[syscall_rows[i].when])
			r = add_row(ctx, &syscall_rows[i]);
	}
	if (r == 0)
		r = load(ctx, true);
	seccomp_release(ctx);
	return r;
}

/* A limit is set only where it is lower than what the process has. */
static int lower_limit(int resource, rlim_t value)
{
	struct rlimit now;

	if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return -errno;
	value = MIN(value, now.rlim_max);
	struct rlimit lower = {value, value};
	return setrlimit((__rlimit_resource_t)resource, &lower) < 0 ? -errno : 0;
}

static int set_limits(const struct isolation *iso)
{
	/* RLIMIT_FSIZE is left alone: it would limit memfds, which are as large as screens. */
	const struct {
		int resource;
		rlim_t value;
		const char *reason;
	} limits[] = {
		{RLIMIT_CORE, 0, "a core file would hold the guest's pictures"},
		{RLIMIT_NOFILE, iso->max_fds, "a peer sends descriptors"},
		{RLIMIT_NPROC, iso->threads_later ? 512 : 0, "no further process or thread"},
		{RLIMIT_MSGQUEUE, 0, "kernel memory nobody needs"},
		{RLIMIT_MEMLOCK, 0, "memory nobody could reclaim"},
		{RLIMIT_RTPRIO, 0, "the vGPUs share the processors"},
		{RLIMIT_SIGPENDING, 64, "kernel memory nobody needs"},
		{RLIMIT_AS, iso->max_address_space ? iso->max_address_space : RLIM_INFINITY,
			"a bound on memory where no cgroup sets one"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		int r = lower_limit(limits[i].resource, limits[i].value);
		if (r < 0)
			return r;
	}
	return 0;
}

int isolation_filter(struct isolation *iso)
{
	if (iso->mode == ISOLATION_OFF)
		return 0;
	int r = isolation_note(iso, ISOLATION_LAYER_LIMITS, set_limits(iso));
	if (r < 0)
		return r;
	return isolation_note(iso, ISOLATION_LAYER_SYSTEM_CALLS, isolation_filter_device(iso));
}

/* SPDX-License-Identifier: Apache-2.0 */

/* The list itself; its header says how to read it. */

#include "isolation/syscalls.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#define CALL(name)          .number = SCMP_SYS(name)
#define IS(n, m, v)         .condition = SYSCALL_ARG_IS, .arg = (n), .mask = (m), .value = (v)
#define EQUALS(n, v)        IS(n, 0xffffffffu, v)
#define ONLY_BITS(n, bits)  IS(n, ~(uint64_t)(bits), 0)
#define AT_MOST(n, v)       .condition = SYSCALL_ARG_AT_MOST, .arg = (n), .value = (v)
#define ANSWER(e)           .answer_errno = (e)
#define WHEN(w)             .when = SYSCALL_##w
#define BECAUSE(text)       .reason = (text)
#define PROT_RW             (PROT_READ | PROT_WRITE)
#define IOCTL_GROUP(c)      ((uint64_t)(c) << 8)
#define IOCTL_GROUP_MASK    0xff00u
#define NO_FILES            "the root is empty: answered as it would be, without a look"
#define MFD_NOEXEC_SEAL_BIT 8u /* not in Debian 12's headers */
#define PTHREAD_FLAGS                                                                              \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |        \
		CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* clang-format off */
const struct syscall_row syscall_rows[] = {
	/* ---- bytes and descriptors that were received ---- */
	{CALL(read), BECAUSE("sockets, eventfds")},
	{CALL(readv), BECAUSE("sockets")},
	{CALL(write), BECAUSE("sockets, eventfds, log lines")},
	{CALL(writev), BECAUSE("sockets")},
	{CALL(pread64), BECAUSE("reading a memfd without mapping it")},
	{CALL(pwrite64), BECAUSE("filling a memfd without mapping it")},
	{CALL(recvmsg), BECAUSE("messages with descriptors")},
	{CALL(recvmmsg), BECAUSE("receiving so that a killed process' successor knows how much")},
	{CALL(sendmmsg), BECAUSE("sending so that a killed process' successor knows how much")},
	{CALL(recvfrom), BECAUSE("recv() on a connected socket")},
	{CALL(sendmsg), BECAUSE("messages with descriptors")},
	{CALL(sendto), EQUALS(4, 0), BECAUSE("send() on a connected socket; no address")},
	{CALL(shutdown), BECAUSE("ending a connection")},
	{CALL(close), BECAUSE("descriptors")},
	{CALL(fstat), BECAUSE("size and identity of received memory")},
	{CALL(newfstatat), IS(3, AT_EMPTY_PATH, AT_EMPTY_PATH), BECAUSE("fstat() in glibc before 2.39")},
	{CALL(lseek), BECAUSE("size of a received descriptor; stdio")},
	{CALL(fcntl), EQUALS(1, F_GETFL), BECAUSE("checking received descriptors")},
	{CALL(fcntl), EQUALS(1, F_SETFL), BECAUSE("O_NONBLOCK on received sockets")},
	{CALL(fcntl), EQUALS(1, F_GETFD), BECAUSE("checking descriptors")},
	{CALL(fcntl), EQUALS(1, F_SETFD), BECAUSE("close-on-exec")},
	{CALL(fcntl), EQUALS(1, F_DUPFD_CLOEXEC), BECAUSE("a second holder of a descriptor")},
	{CALL(fcntl), EQUALS(1, F_ADD_SEALS), BECAUSE("sealing memfds that are handed out")},
	{CALL(fcntl), EQUALS(1, F_GET_SEALS), BECAUSE("checking received memfds")},
	/* ---- waiting ---- */
	{CALL(epoll_wait), BECAUSE("the event loop")},
	{CALL(epoll_pwait), BECAUSE("epoll_wait() where the kernel has only this")},
	{CALL(epoll_ctl), BECAUSE("the event loop")},
	{CALL(poll), BECAUSE("waiting for one descriptor")},
	{CALL(ppoll), BECAUSE("poll() where the kernel has only this")},
	{CALL(eventfd2), BECAUSE("waking the event loop")},
	{CALL(timerfd_create), EQUALS(0, CLOCK_MONOTONIC), BECAUSE("time-outs of a connection")},
	{CALL(timerfd_settime), BECAUSE("time-outs of a connection")},
	{CALL(futex), BECAUSE("locks, rasteriser threads")},
	{CALL(clock_gettime), BECAUSE("time, where the vDSO cannot tell it")},
	{CALL(gettimeofday), BECAUSE("time, where the vDSO cannot tell it")},
	{CALL(clock_nanosleep), BECAUSE("driver back-off")},
	{CALL(nanosleep), BECAUSE("driver back-off")},
	{CALL(sched_yield), BECAUSE("waiting awake, and driver spin locks")},
	{CALL(sched_getaffinity), WHEN(OWN_THREADS), BECAUSE("the CPUs there are for rasterisers")},
	{CALL(sched_setaffinity), WHEN(OWN_THREADS), BECAUSE("a CPU for each rasteriser")},
	{CALL(restart_syscall), BECAUSE("the kernel, after a stop")},
	/* ---- memory ---- */
	{CALL(brk), BECAUSE("malloc")},
	{CALL(mmap), ONLY_BITS(2, PROT_RW), BECAUSE("malloc, guest memory, memfds")},
	{CALL(mmap), IS(2, PROT_EXEC, PROT_EXEC), ANSWER(ENOMEM),
		BECAUSE("Mesa asks once for such memory and goes on without it")},
	{CALL(munmap), BECAUSE("malloc, guest memory, memfds")},
	{CALL(mremap), AT_MOST(3, MREMAP_MAYMOVE), BECAUSE("realloc")},
	{CALL(mprotect), ONLY_BITS(2, PROT_RW), BECAUSE("malloc, LLVM")},
	{CALL(mprotect), EQUALS(2, PROT_READ | PROT_EXEC), BECAUSE("LLVM has written a shader")},
	{CALL(madvise), EQUALS(2, MADV_DONTNEED), BECAUSE("malloc_trim, thread stacks")},
	{CALL(madvise), EQUALS(2, MADV_FREE), BECAUSE("allocators giving memory back")},
	{CALL(madvise), EQUALS(2, MADV_DONTDUMP), BECAUSE("guest memory stays out of core dumps")},
	{CALL(madvise), EQUALS(2, MADV_POPULATE_WRITE), BECAUSE("pages of the journal, many at once")},
	{CALL(memfd_create), ONLY_BITS(1, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL_BIT),
		BECAUSE("screens, vtest resources")},
	{CALL(ftruncate), BECAUSE("size of a memfd")},
	{CALL(fallocate), BECAUSE("memfd pages that are there for certain")},
	{CALL(flock), BECAUSE("Mesa and we write to the files of compiled shaders")},
	/* ---- this process ---- */
	{CALL(getpid), BECAUSE("libglvnd, often")},
	{CALL(gettid), BECAUSE("locks, raise()")},
	{CALL(getrandom), BECAUSE("hash seeds, malloc")},
	{CALL(sysinfo), BECAUSE("Mesa: memory size")},
	{CALL(prctl), EQUALS(0, PR_SET_NAME), BECAUSE("Mesa names threads")},
	{CALL(rt_sigprocmask), BECAUSE("abort(), thread ends")},
	{CALL(rt_sigreturn), BECAUSE("return from a signal handler")},
	{CALL(tgkill), .condition = SYSCALL_ARG0_SELF, BECAUSE("abort()")},
	{CALL(setpriority), EQUALS(0, PRIO_PROCESS),
		BECAUSE("Mesa's thread that keeps shaders lowers its own, when it first runs")},
	{CALL(set_robust_list), BECAUSE("a thread made before lock-down may run only after it")},
	{CALL(rseq), BECAUSE("a thread made before lock-down may run only after it")},
	{CALL(exit), BECAUSE("a thread ends")},
	{CALL(exit_group), BECAUSE("the process ends")},
	/* ---- tried by libraries, refused without harm ---- */
	{CALL(open), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(openat), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(access), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(faccessat), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(faccessat2), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(stat), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(lstat), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(newfstatat), IS(3, AT_EMPTY_PATH, 0), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(statx), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(readlink), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(readlinkat), ANSWER(ENOENT), BECAUSE(NO_FILES)},
	{CALL(clone3), ANSWER(ENOSYS), BECAUSE("glibc then uses clone, which can be checked")},
	{CALL(sched_getaffinity), WHEN(NOT_OWN_THREADS), ANSWER(ENOSYS),
		BECAUSE("Mesa counts processors")},
	{CALL(sched_setaffinity), WHEN(NOT_OWN_THREADS), ANSWER(ENOSYS), BECAUSE("Mesa pins threads")},
	{CALL(sched_setscheduler), ANSWER(EPERM), BECAUSE("Mesa lowers priorities")},
	/* ---- a real GPU ---- */
	{CALL(ioctl), WHEN(RENDER_NODE), IS(1, IOCTL_GROUP_MASK, IOCTL_GROUP('d')),
		BECAUSE("DRM render node")},
	{CALL(ioctl), WHEN(RENDER_NODE), IS(1, IOCTL_GROUP_MASK, IOCTL_GROUP('b')),
		BECAUSE("dma-buf synchronisation")},
	{CALL(ioctl), WHEN(RENDER_NODE), IS(1, IOCTL_GROUP_MASK, IOCTL_GROUP('>')),
		BECAUSE("sync files")},
	{CALL(madvise), WHEN(RENDER_NODE), EQUALS(2, MADV_DONTFORK),
		BECAUSE("buffer objects in the driver's address space")},
	/* ---- drivers that start threads for each context ---- */
	{CALL(clone), WHEN(THREADS), EQUALS(0, PTHREAD_FLAGS), BECAUSE("pthread_create only")},
	{CALL(clone), WHEN(NO_THREADS), EQUALS(0, PTHREAD_FLAGS), ANSWER(EAGAIN),
		BECAUSE("Mesa would like more threads to keep shaders with when many come")},
#if SANITIZER_BUILD
	{CALL(sigaltstack), BECAUSE("sanitizers, at a thread's end")},
	{CALL(getrlimit), BECAUSE("sanitizers")},
	{CALL(prlimit64), EQUALS(2, 0), BECAUSE("sanitizers read limits")},
	{CALL(rt_sigaction), BECAUSE("sanitizers report and abort")},
	{CALL(getppid), BECAUSE("sanitizer reports")},
	{CALL(madvise), BECAUSE("sanitizers' own memory")},
#endif
};
/* clang-format on */

const size_t syscall_row_count = ARRAY_SIZE(syscall_rows);

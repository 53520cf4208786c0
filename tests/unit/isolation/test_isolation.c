/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Every test forks a child that goes through the stages with threads running, then tries one thing.
 * What the child's end looks like to its parent is the result: the monitor passes it on. Each
 * forbidden thing is tried twice, the first time without lock-down, where it must work: otherwise
 * the test would pass for the wrong reason.
 */

#include "isolation/isolation.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS       3
#define USER          65534
#define PATIENCE_MS   10000
#define CANNOT_TRY    77 /* a child's exit status: this machine does not let the test be made */
#define WORKED        0
#define REFUSED       1
#define SCRATCH_BYTES (1u << 20)
#define STAGE_FAILED  2
#define RWX           (PROT_READ | PROT_WRITE | PROT_EXEC)
#define KILLED_BY(s)  (0x100 | (s))
#define PAGE          4096

static const struct isolation_config standard = {
	.mode = ISOLATION_STRICT,
	.software = true,
	.node_group = ISOLATION_NO_GROUP,
};

/* A thread that was there before the filters and tries the forbidden thing on request. */
struct tried {
	int (*fn)(void);
	int result;
	int go[2], done[2];
};

static void *run_in_thread(void *data)
{
	struct tried *tried = data;
	char byte;

	(void)!write(tried->done[1], "s", 1);
	while (read(tried->go[0], &byte, 1) < 0)
		;
	tried->result = tried->fn ? tried->fn() : WORKED;
	(void)!write(tried->done[1], "d", 1);
	for (;;)
		(void)!read(tried->go[0], &byte, 1);
	return NULL;
}

static int lock_down(const struct isolation_config *config, struct tried *threads)
{
	struct isolation *iso;

	int r = isolation_begin(config, &iso);
	if (r == 0)
		r = isolation_namespaces(iso);
	for (int i = 0; r == 0 && i < THREADS; i++) {
		pthread_t thread;
		if (pipe2(threads[i].go, O_CLOEXEC) < 0 || pipe2(threads[i].done, O_CLOEXEC) < 0)
			return -errno;
		r = -pthread_create(&thread, NULL, run_in_thread, &threads[i]);
		/* Sanitizers do things at a thread's start that the filter forbids. */
		char byte;
		if (r == 0 && read(threads[i].done[0], &byte, 1) != 1)
			r = -EPIPE;
	}
	if (r == 0)
		r = isolation_filesystem(iso);
	if (r == 0)
		r = isolation_filter(iso);
	return r;
}

static void become_user(void)
{
	if (geteuid() == 0 && (setgid(USER) < 0 || setuid(USER) < 0))
		_exit(CANNOT_TRY);
}

/* True when this machine lets the process make namespaces at all. */
static bool namespaces_work(bool as_user)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (as_user)
			become_user();
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0);
	}
	return waitpid(pid, &status, 0) == pid && status == 0;
}

/* How the child ended: its exit status, or KILLED_BY(signal). A child that hangs is killed. */
static int wait_child(pid_t pid)
{
	const struct timespec step = {.tv_nsec = 1000000};

	for (int i = 0; i < PATIENCE_MS; i++) {
		int status;
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFSIGNALED(status) ? KILLED_BY(WTERMSIG(status))
						   : WEXITSTATUS(status);
		nanosleep(&step, NULL);
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return -1;
}

enum where { FREE, MAIN_THREAD, OTHER_THREAD, MAIN_THREAD_AS_USER };

static int try_in_child(int (*fn)(void), enum where where)
{
	pid_t pid = fork();

	if (pid == 0) {
		static struct tried threads[THREADS];
		signal(SIGSEGV, SIG_DFL); /* the test library has a handler */
		threads[0].fn = fn;
		if (where == FREE)
			_exit(fn());
		if (where == MAIN_THREAD_AS_USER)
			become_user();
		int r = lock_down(&standard, threads);
		if (r < 0)
			_exit(STAGE_FAILED);
		if (where != OTHER_THREAD)
			_exit(fn());
		char byte;
		if (write(threads[0].go[1], "g", 1) != 1 || read(threads[0].done[0], &byte, 1) != 1)
			_exit(STAGE_FAILED);
		_exit(threads[0].result);
	}
	return wait_child(pid);
}

/* ---- what must not work ---- */

static int open_file(void)
{
	int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
	return fd < 0 ? REFUSED : WORKED;
}

static int make_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 ? REFUSED : WORKED;
}

static int execute(void)
{
	char *const argv[] = {(char *)"true", NULL};
	execv("/bin/true", argv);
	return REFUSED;
}

static int trace(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0 ? REFUSED : WORKED;
}

static int mount_something(void)
{
	/* Needs no privilege to be tried, and fails with EFAULT or EPERM outside. */
	return syscall(SYS_mount, NULL, NULL, NULL, 0, NULL) < 0 && errno == EPERM ? REFUSED
										   : WORKED;
}

static int signal_another(void)
{
	/* Process 1 is itself after lock-down and another before; signal 0 only asks. */
	return kill(1, 0) < 0 && errno != EPERM ? REFUSED : WORKED;
}

static int map_rwx(void)
{
	void *p = mmap(NULL, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p != MAP_FAILED ? WORKED : errno == ENOMEM ? REFUSED : STAGE_FAILED;
}

static int protect_rwx(void)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return mprotect(p, PAGE, RWX) < 0 ? REFUSED : WORKED;
}

static int fork_process(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return pid < 0 ? REFUSED : WORKED;
}

static int use_ioctl(void)
{
	int n, fd = eventfd(0, EFD_CLOEXEC);
	return syscall(SYS_ioctl, fd, 0x541bUL /* FIONREAD */, &n) < 0 && errno != ENOTTY ? REFUSED
											  : WORKED;
}

static int unshare_again(void)
{
	return unshare(CLONE_NEWUSER) < 0 ? REFUSED : WORKED;
}

static int use_bpf(void)
{
	return syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == ENOSYS ? REFUSED : WORKED;
}

static int change_limit(void)
{
	const struct {
		uint64_t soft, hard;
	} lower = {10, 10};
	return syscall(SYS_prlimit64, 0, 7 /* RLIMIT_NOFILE */, &lower, NULL) < 0 ? REFUSED
										  : WORKED;
}

static int foreign_abi(void)
{
#if defined(__x86_64__)
	long ret;
	/* getpid by the 32-bit entry: a filter that looks at numbers only would let it through. */
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
	return ret > 0 ? WORKED : ret == -ENOSYS ? CANNOT_TRY : REFUSED;
#else
	return CANNOT_TRY;
#endif
}

static const struct {
	const char *name;
	int (*fn)(void);
	int expect;
} forbidden[] = {
	{"open a file", open_file, REFUSED},
	{"make a socket", make_socket, KILLED_BY(SIGSYS)},
	{"execute a program", execute, KILLED_BY(SIGSYS)},
	{"ptrace", trace, KILLED_BY(SIGSYS)},
	{"mount", mount_something, KILLED_BY(SIGSYS)},
	{"signal another process", signal_another, KILLED_BY(SIGSYS)},
	{"map writable and executable memory", map_rwx, REFUSED},
	{"make memory writable and executable", protect_rwx, REFUSED},
	{"fork", fork_process, KILLED_BY(SIGSYS)},
	{"ioctl", use_ioctl, KILLED_BY(SIGSYS)},
	{"another user namespace", unshare_again, KILLED_BY(SIGSYS)},
	{"bpf", use_bpf, KILLED_BY(SIGSYS)},
	{"resource limits", change_limit, KILLED_BY(SIGSYS)},
	{"the 32-bit system-call entry", foreign_abi, KILLED_BY(SIGSYS)},
};

static void need_namespaces(void)
{
	if (!namespaces_work(geteuid() != 0)) {
		print_message("this machine refuses user namespaces\n");
		skip();
	}
}

static void test_forbidden_things(void **state)
{
	need_namespaces();
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
		int without = try_in_child(forbidden[i].fn, FREE);
		if (without == CANNOT_TRY) {
			print_message("%s: cannot be tried here\n", forbidden[i].name);
			continue;
		}
		if (without != WORKED)
			fail_msg("%s: does not even work without lock-down (%#x)",
				forbidden[i].name, without);
		for (enum where where = MAIN_THREAD; where <= MAIN_THREAD_AS_USER; where++) {
			if (where == MAIN_THREAD_AS_USER && !namespaces_work(true))
				continue;
			/* mprotect: refused by the early filter, killed by the late one. */
			int got = try_in_child(forbidden[i].fn, where);
			bool ok = got == forbidden[i].expect ||
				  (forbidden[i].fn == protect_rwx && got == KILLED_BY(SIGSYS));
			if (!ok)
				fail_msg("%s: got %#x instead of %#x (where %d)", forbidden[i].name,
					got, forbidden[i].expect, (int)where);
		}
	}
}

/* ---- what must go on working ---- */

#define NEED(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			char line_[128];                                                           \
			int n_ = snprintf(line_, sizeof(line_), "# failed: %s\n", #condition);     \
			(void)!write(STDERR_FILENO, line_, (size_t)n_);                            \
			return REFUSED;                                                            \
		}                                                                                  \
	} while (0)

/* Descriptors that the child inherited; chosen high so that the stages must keep them in order. */
enum { SOCKET_FD = 40, PEER_FD = 41, EPOLL_FD = 60, STRAY_FD = 50 };

static int send_fd(int socket, int fd)
{
	char byte = 'f', control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	return (int)sendmsg(socket, &msg, MSG_NOSIGNAL);
}

static int receive_fd(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	int fd;

	if (recvmsg(socket, &msg, MSG_CMSG_CLOEXEC) != 1 || !CMSG_FIRSTHDR(&msg))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return fd;
}

static int shared_memory(void)
{
	int memfd = memfd_create("screen", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	NEED(memfd >= 0);
	NEED(ftruncate(memfd, 16L * 1024 * 1024) == 0);
	NEED(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	NEED(send_fd(SOCKET_FD, memfd) == 1);
	int received = receive_fd(PEER_FD);
	NEED(received >= 0);
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, received, 0);
	NEED(p != MAP_FAILED);
	p[0] = 'x';
	char byte = 0;
	NEED(pread(memfd, &byte, 1, 0) == 1 && byte == 'x');
	NEED(munmap(p, PAGE) == 0);
	NEED(fcntl(received, F_SETFL, fcntl(received, F_GETFL)) == 0);
	NEED(lseek(received, 0, SEEK_END) == 16L * 1024 * 1024);
	return close(received) || close(memfd) ? REFUSED : WORKED;
}

static int event_loop(void)
{
	int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t one = 1;
	struct epoll_event armed = {.events = EPOLLIN, .data.fd = event}, got;
	struct pollfd pollfd = {.fd = event, .events = POLLIN};

	NEED(event >= 0);
	NEED(epoll_ctl(EPOLL_FD, EPOLL_CTL_ADD, event, &armed) == 0);
	NEED(epoll_wait(EPOLL_FD, &got, 1, 0) == 0);
	NEED(write(event, &one, sizeof(one)) == sizeof(one));
	NEED(epoll_wait(EPOLL_FD, &got, 1, 1000) == 1 && got.data.fd == event);
	NEED(poll(&pollfd, 1, 1000) == 1);
	NEED(read(event, &one, sizeof(one)) == sizeof(one));
	NEED(send(SOCKET_FD, "hello", 5, MSG_NOSIGNAL) == 5);
	char text[8];
	NEED(recv(PEER_FD, text, sizeof(text), MSG_DONTWAIT) == 5);
	return WORKED;
}

static int memory_and_time(void)
{
	struct timespec nap = {.tv_nsec = 1000};
	void *big = malloc(64L * 1024 * 1024), *bigger;

	NEED(big);
	bigger = realloc(big, 96L * 1024 * 1024);
	free(bigger ? bigger : big);
	NEED(bigger);
	NEED(nanosleep(&nap, NULL) == 0);
	NEED(prctl(PR_SET_NAME, "device") == 0);
	NEED(getpid() == 1);
	char *code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(code != MAP_FAILED);
#if defined(__x86_64__)
	code[0] = (char)0xc3; /* ret: what a shader compiler does */
	NEED(mprotect(code, PAGE, PROT_READ | PROT_EXEC) == 0);
	((void (*)(void))(void *)code)();
#endif
	return WORKED;
}

/* As Mesa's thread for compiled shaders does when it first runs, which may be now. */
static int lower_priority(void)
{
	const struct sched_param none = {0};
	pid_t self = (pid_t)syscall(SYS_gettid);

	if (setpriority(PRIO_PROCESS, (id_t)self, 19) < 0)
		return REFUSED;
	return sched_setscheduler(self, SCHED_BATCH, &none) < 0 && errno == EPERM ? WORKED
										  : REFUSED;
}

/* As the renderer does with the driver's drawing threads: any id is one of this process. */
static int choose_a_cpu(void)
{
	cpu_set_t cpus, one;
	int first = 0;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return errno == ENOSYS ? REFUSED : STAGE_FAILED;
	while (!CPU_ISSET((size_t)first, &cpus))
		first++;
	CPU_ZERO(&one);
	CPU_SET((size_t)first, &one);
	pid_t self = (pid_t)syscall(SYS_gettid);
	if (sched_setaffinity(self, sizeof(one), &one) < 0)
		return errno == ENOSYS ? REFUSED : STAGE_FAILED;
	return sched_setaffinity(self, sizeof(cpus), &cpus) == 0 ? WORKED : STAGE_FAILED;
}

static int (*const allowed[])(void) = {
	shared_memory, event_loop, memory_and_time, lower_priority, choose_a_cpu};

static void test_allowed_things(void **state)
{
	need_namespaces();
	for (size_t i = 0; i < ARRAY_SIZE(allowed); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			static struct tried threads[THREADS];
			const int keep[] = {EPOLL_FD, PEER_FD, SOCKET_FD, EPOLL_FD};
			struct isolation_config config = standard;
			int pair[2];
			config.keep_fds = keep;
			config.n_keep_fds = ARRAY_SIZE(keep);
			if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
				dup2(pair[0], SOCKET_FD) < 0 || dup2(pair[1], PEER_FD) < 0 ||
				dup2(epoll_create1(EPOLL_CLOEXEC), EPOLL_FD) < 0)
				_exit(STAGE_FAILED);
			if (lock_down(&config, threads) < 0)
				_exit(STAGE_FAILED);
			_exit(allowed[i]());
		}
		assert_int_equal(wait_child(pid), WORKED);
	}
}

static bool variable_is(const char *name, const char *value)
{
	const char *now = getenv(name);
	return now && strcmp(now, value) == 0;
}

static void test_strays_are_closed_and_the_environment_is_fixed(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		const int keep[] = {SOCKET_FD};
		const char *const more[] = {"LP_NUM_THREADS=2", NULL};
		struct isolation_config config = standard;
		struct isolation *iso;
		config.keep_fds = keep;
		config.n_keep_fds = 1;
		config.environment = more;
		dup2(STDERR_FILENO, SOCKET_FD);
		dup2(STDERR_FILENO, STRAY_FD);
		close(STDIN_FILENO);
		setenv("LD_PRELOAD", "evil", 1);
		if (isolation_begin(&config, &iso) < 0)
			_exit(STAGE_FAILED);
		bool ok = fcntl(SOCKET_FD, F_GETFD) >= 0 && fcntl(STRAY_FD, F_GETFD) < 0 &&
			  fcntl(STDIN_FILENO, F_GETFD) >= 0 && !getenv("LD_PRELOAD") &&
			  variable_is("LP_NUM_THREADS", "2") &&
			  variable_is("MESA_SHADER_CACHE_DISABLE", "true") &&
			  prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
			  prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0;
		isolation_destroy(iso);
		_exit(ok ? WORKED : REFUSED);
	}
	assert_int_equal(wait_child(pid), WORKED);
}

static void test_wrong_arguments(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		const int gone[] = {STRAY_FD};
		const char *const bad[] = {"NOT_A_PAIR", NULL};
		struct isolation_config config = standard;
		struct isolation *iso = NULL;
		config.n_keep_fds = ISOLATION_MAX_KEPT_FDS + 1;
		if (isolation_begin(&config, &iso) != -EINVAL)
			_exit(REFUSED);
		config.keep_fds = gone;
		config.n_keep_fds = 1;
		if (isolation_begin(&config, &iso) != -EBADF)
			_exit(REFUSED);
		config.n_keep_fds = 0;
		config.environment = bad;
		_exit(isolation_begin(&config, &iso) != -EINVAL || iso ? REFUSED : WORKED);
	}
	assert_int_equal(wait_child(pid), WORKED);
}

/* ---- every thread, seen from outside ---- */

/* Finds the device: the monitor's only child. */
static pid_t child_of(pid_t monitor)
{
	char path[64], text[32] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)monitor, (int)monitor);
	FILE *f = fopen(path, "re");
	if (!f)
		return -1;
	char *line = fgets(text, sizeof(text), f);
	fclose(f);
	return line ? (pid_t)strtol(line, NULL, 10) : -1;
}

static unsigned check_task(pid_t pid, const char *tid)
{
	static const char *const zero[] = {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"};
	char path[320], line[256];
	unsigned found = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, tid);
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		for (size_t i = 0; i < ARRAY_SIZE(zero); i++) {
			if (strncmp(line, zero[i], strlen(zero[i])) == 0) {
				assert_int_equal(strtoull(line + strlen(zero[i]), NULL, 16), 0);
				found++;
			}
		}
		if (strncmp(line, "Uid:", 4) == 0) {
			assert_int_not_equal(strtoul(line + 4, NULL, 10), 0);
			found++;
		}
		if (strncmp(line, "Seccomp:", 8) == 0) {
			assert_int_equal(strtoul(line + 8, NULL, 10), 2);
			found++;
		}
		if (strncmp(line, "NoNewPrivs:", 11) == 0) {
			assert_int_equal(strtoul(line + 11, NULL, 10), 1);
			found++;
		}
	}
	fclose(f);
	return found;
}

static void check_all_tasks(pid_t pid, unsigned expected_tasks)
{
	char path[64];
	unsigned tasks = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	for (int tid = 1; tid < 4194304 && tasks < expected_tasks; tid++) {
		char entry[96], name[16];
		snprintf(name, sizeof(name), "%d", pid + tid - 1);
		snprintf(entry, sizeof(entry), "%s/%s", path, name);
		if (access(entry, F_OK) == 0) {
			assert_int_equal(check_task(pid, name), 8);
			tasks++;
		}
	}
	assert_int_equal(tasks, expected_tasks);
}

static pid_t start_locked_down(int *ret_pipe)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		static struct tried threads[THREADS];
		struct isolation_config config = standard;
		config.keep_fds = &ready[1];
		config.n_keep_fds = 1;
		int r = lock_down(&config, threads);
		if (r == 0 && write(ready[1], "r", 1) == 1)
			(void)!read(threads[0].done[0], &byte, 1);
		_exit(STAGE_FAILED);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	*ret_pipe = ready[0];
	return pid;
}

static void test_no_thread_has_a_capability(void **state)
{
	int pipe_fd;

	need_namespaces();
	if (geteuid() != 0) {
		print_message("/proc shows another, undumpable process to root only\n");
		skip();
	}
	pid_t monitor = start_locked_down(&pipe_fd);
	pid_t device = child_of(monitor);
	assert_true(device > 0);
	check_all_tasks(device, 1 + THREADS);
	check_all_tasks(monitor, 1);
	char path[64], root[256];
	snprintf(path, sizeof(path), "/proc/%d/root/etc", (int)device);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)device);
	ssize_t n = readlink(path, root, sizeof(root) - 1);
	assert_true(n > 0);
	root[n] = '\0';
	char own[256] = "";
	assert_true(readlink("/proc/self/ns/net", own, sizeof(own) - 1) > 0);
	assert_string_not_equal(root, own);
	kill(monitor, SIGKILL);
	assert_int_equal(wait_child(monitor), KILLED_BY(SIGKILL));
	close(pipe_fd);
}

/* ---- the monitor ---- */

static void test_killing_the_monitor_ends_the_device(void **state)
{
	static const int signals[] = {SIGKILL, SIGTERM};

	need_namespaces();
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		int pipe_fd;
		char byte;
		pid_t monitor = start_locked_down(&pipe_fd);
		kill(monitor, signals[i]);
		assert_int_equal(wait_child(monitor), KILLED_BY(signals[i]));
		/* The device alone holds the other end: end of file says that it is gone. */
		struct pollfd end = {.fd = pipe_fd};
		assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
		assert_int_equal(read(pipe_fd, &byte, 1), 0);
		close(pipe_fd);
	}
}

static int exit_with_7(void)
{
	return 7;
}

static int do_abort(void)
{
	abort();
}

static int fault(void)
{
	*(volatile int *)mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) = 1;
	return WORKED;
}

static void test_the_monitor_ends_as_the_device_ends(void **state)
{
	need_namespaces();
	assert_int_equal(try_in_child(exit_with_7, MAIN_THREAD), 7);
	assert_int_equal(try_in_child(do_abort, MAIN_THREAD), KILLED_BY(SIGABRT));
	assert_int_equal(try_in_child(fault, MAIN_THREAD), KILLED_BY(SIGSEGV));
	assert_int_equal(try_in_child(fault, OTHER_THREAD), KILLED_BY(SIGSEGV));
}

static _Noreturn void hang(void)
{
	for (;;)
		pause();
}

static void test_the_device_dies_with_the_starter(void **state)
{
	int ready[2];
	char byte;

	need_namespaces();
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid_t starter = fork();
	if (starter == 0) {
		int pipe_fd;
		dup2(ready[1], STDIN_FILENO); /* kept by the stages, and so by monitor and device */
		close(ready[1]);
		start_locked_down(&pipe_fd);
		(void)!write(STDIN_FILENO, "r", 1);
		hang();
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(starter, SIGKILL);
	waitpid(starter, NULL, 0);
	struct pollfd end = {.fd = ready[0]};
	assert_int_equal(poll(&end, 1, PATIENCE_MS), 1);
	assert_int_equal(read(ready[0], &byte, 1), 0);
	close(ready[0]);
}

/* ---- machines that refuse ---- */

static void refuse_unshare(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
	if (!ctx || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0) < 0 ||
		seccomp_load(ctx) < 0)
		_exit(STAGE_FAILED);
	seccomp_release(ctx);
}

static void test_refused_namespaces_are_named(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct isolation *iso;
		char text[1024];
		refuse_unshare();
		if (isolation_begin(&standard, &iso) < 0 || isolation_namespaces(iso) != -EPERM)
			_exit(STAGE_FAILED);
		unsigned missing = isolation_missing(iso, text, sizeof(text));
		bool ok = missing == 7 && strstr(text, "user namespace: Operation not permitted") &&
			  strstr(text, "; pid namespace: ") &&
			  isolation_layer(iso, ISOLATION_LAYER_SYSTEM_CALLS) == ISOLATION_PENDING;
		char cut[16];
		ok = ok && isolation_missing(iso, cut, sizeof(cut)) == 7 && strlen(cut) < 16;
		isolation_destroy(iso);
		_exit(ok ? WORKED : REFUSED);
	}
	assert_int_equal(wait_child(pid), WORKED);
}

static int best_effort(bool as_user, int (*fn)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		struct isolation_config config = standard;
		struct isolation *iso;
		char text[1024];
		config.mode = ISOLATION_BEST_EFFORT;
		if (as_user)
			become_user();
		refuse_unshare();
		if (isolation_begin(&config, &iso) < 0 || isolation_namespaces(iso) < 0 ||
			isolation_filesystem(iso) < 0 || isolation_filter(iso) < 0)
			_exit(STAGE_FAILED);
		bool ok = isolation_missing(iso, text, sizeof(text)) == 8 &&
			  strstr(text, "empty root directory") &&
			  isolation_layer(iso, ISOLATION_LAYER_CAPABILITIES) == 0 &&
			  isolation_layer(iso, ISOLATION_LAYER_UNPRIVILEGED) == 0 &&
			  isolation_layer(iso, ISOLATION_LAYER_SYSTEM_CALLS) == 0;
		if (!ok)
			_exit(STAGE_FAILED);
		_exit(fn());
	}
	return wait_child(pid);
}

static void test_best_effort_goes_on_and_still_filters(void **state)
{
	assert_int_equal(best_effort(false, make_socket), KILLED_BY(SIGSYS));
	assert_int_equal(best_effort(true, make_socket), KILLED_BY(SIGSYS));
	/* Without a pid namespace any id may be another process'. */
	assert_int_equal(best_effort(true, choose_a_cpu), REFUSED);
}

static void *note_that_it_ran(void *data)
{
	*(int *)data = 1;
	return NULL;
}

static int start_thread(void)
{
	pthread_t thread;
	int ran = 0;

	if (pthread_create(&thread, NULL, note_that_it_ran, &ran) != 0)
		return REFUSED;
	pthread_join(thread, NULL);
	return ran ? WORKED : REFUSED;
}

static int with_options(bool threads_later, bool software, int (*fn)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		static struct tried threads[THREADS];
		struct isolation_config config = standard;
		config.threads_later = threads_later;
		config.software = software;
		if (lock_down(&config, threads) < 0)
			_exit(STAGE_FAILED);
		_exit(fn());
	}
	return wait_child(pid);
}

static int use_drm_ioctl(void)
{
	/* DRM_IOCTL_VERSION on what is no DRM device: the kernel's answer, not the filter's. */
	return ioctl(STDERR_FILENO, 0xc0406400UL, NULL) < 0 && errno == ENOTTY ? WORKED : REFUSED;
}

/* Who has only a mask that keeps it from other CPUs could take that off. */
static void test_a_mask_holds(void **state)
{
	cpu_set_t before, one;

	need_namespaces();
	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	if (CPU_COUNT(&before) < 2)
		skip();
	CPU_ZERO(&one);
	for (size_t cpu = 0; CPU_COUNT(&one) == 0; cpu++)
		if (CPU_ISSET(cpu, &before))
			CPU_SET(cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
	int result = with_options(false, true, choose_a_cpu);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
	assert_int_equal(result, REFUSED);
	assert_int_equal(with_options(false, true, choose_a_cpu), WORKED);
}

static void test_threads_and_gpu_calls_are_options(void **state)
{
	need_namespaces();
	assert_int_equal(with_options(true, true, start_thread), WORKED);
	/* Mesa would like more threads when many shaders come at once: it is told so, not killed.
	 */
	assert_int_equal(with_options(false, true, start_thread), REFUSED);
	assert_int_equal(with_options(true, true, fork_process), KILLED_BY(SIGSYS));
	assert_int_equal(with_options(false, false, use_drm_ioctl), WORKED);
	assert_int_equal(with_options(false, true, use_drm_ioctl), KILLED_BY(SIGSYS));
	assert_int_equal(with_options(false, false, use_ioctl), KILLED_BY(SIGSYS));
	assert_int_equal(with_options(false, false, choose_a_cpu), REFUSED);
}

static void test_off_means_off(void **state)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct isolation_config config = standard;
		struct isolation *iso;
		config.mode = ISOLATION_OFF;
		bool ok = isolation_begin(&config, &iso) == 0 && isolation_namespaces(iso) == 0 &&
			  isolation_filesystem(iso) == 0 && isolation_filter(iso) == 0 &&
			  make_socket() == WORKED;
		_exit(ok ? WORKED : REFUSED);
	}
	assert_int_equal(wait_child(pid), WORKED);
}

/* Filled through a descriptor that was opened before, as the driver does. */
static int fill_scratch(void)
{
	static char block[65536];
	struct isolation_config config = standard;
	struct isolation *iso;
	size_t filled = 0;
	ssize_t n;

	config.scratch_bytes = SCRATCH_BYTES;
	if (isolation_begin(&config, &iso) < 0 || isolation_namespaces(iso) < 0)
		return STAGE_FAILED;
	int scratch = isolation_take_scratch(iso);
	int fd = openat(scratch, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (scratch < 0 || fd < 0 || isolation_take_scratch(iso) >= 0)
		return STAGE_FAILED;
	if (isolation_filesystem(iso) < 0 || isolation_filter(iso) < 0)
		return STAGE_FAILED;
	if (flock(fd, LOCK_EX) < 0)
		return REFUSED;
	while ((n = write(fd, block, sizeof(block))) > 0)
		filled += (size_t)n;
	if (n == 0 || errno != ENOSPC || filled > SCRATCH_BYTES)
		return REFUSED;
	return pread(fd, block, sizeof(block), 0) == sizeof(block) ? WORKED : REFUSED;
}

static void test_scratch_is_bounded(void **state)
{
	need_namespaces();
	for (int as_user = 0; as_user < 2; as_user++) {
		pid_t pid = fork();
		if (pid == 0) {
			if (as_user)
				become_user();
			_exit(fill_scratch());
		}
		assert_int_equal(wait_child(pid), WORKED);
	}
}

static void test_trace_names_the_call(void **state)
{
	int out[2];
	char line[256], expected[64];

	need_namespaces();
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		static struct tried threads[THREADS];
		struct isolation_config config = standard;
		config.trace = true;
		dup2(out[1], STDERR_FILENO);
		if (lock_down(&config, threads) < 0)
			_exit(STAGE_FAILED);
		_exit(make_socket());
	}
	close(out[1]);
	assert_int_equal(wait_child(pid), 128 + SIGSYS);
	ssize_t n = read(out[0], line, sizeof(line) - 1);
	assert_true(n > 0);
	line[n] = '\0';
	snprintf(expected, sizeof(expected), "forbidden system call %d\n", (int)SYS_socket);
	assert_non_null(strstr(line, expected));
	close(out[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strays_are_closed_and_the_environment_is_fixed),
		cmocka_unit_test(test_wrong_arguments),
		cmocka_unit_test(test_forbidden_things),
		cmocka_unit_test(test_allowed_things),
		cmocka_unit_test(test_no_thread_has_a_capability),
		cmocka_unit_test(test_killing_the_monitor_ends_the_device),
		cmocka_unit_test(test_the_monitor_ends_as_the_device_ends),
		cmocka_unit_test(test_the_device_dies_with_the_starter),
		cmocka_unit_test(test_refused_namespaces_are_named),
		cmocka_unit_test(test_best_effort_goes_on_and_still_filters),
		cmocka_unit_test(test_a_mask_holds),
		cmocka_unit_test(test_threads_and_gpu_calls_are_options),
		cmocka_unit_test(test_off_means_off),
		cmocka_unit_test(test_scratch_is_bounded),
		cmocka_unit_test(test_trace_names_the_call),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

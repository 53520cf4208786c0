/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD_FDS     3  /* the driver's files, in the child, from here on */
#define CHILD_FD_FREE 10 /* parked while they are arranged */
#define CHILD_CPU_S   5u /* and then the kernel ends it */

void shaders_init(struct keeper_shaders *s)
{
	*s = (struct keeper_shaders){.pidfd = -1};
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		s->next_fds[i] = -1;
}

static void forget_next(struct keeper_shaders *s)
{
	s->next[0] = '\0';
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close_fd(&s->next_fds[i]);
}

void shaders_finish(struct keeper *k)
{
	struct keeper_shaders *s = &k->shaders;

	if (s->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	loop_remove(s->source);
	s->source = NULL;
	close_fd(&s->pidfd);
	forget_next(s);
}

/*
 * The archive of the present binding. Without a tenant of its own a vGPU is shared by whoever may
 * use it, so each user is one. Whose a VM is its monitor's user does not say, so there is none.
 */
static bool archive_name(const struct keeper *k, char *ret, size_t size)
{
	const struct keeper_config *config = k->config;
	uint32_t driver = k->current->driver;
	int n;

	if (!config->shaders_dir || !driver || k->binding.kind == KEEPER_BINDING_NONE)
		return false;
	if (!config->shaders_by_user)
		n = snprintf(ret, size, "%08x", driver);
	else if (k->binding.kind == KEEPER_BINDING_PROCESS)
		n = snprintf(ret, size, "user%u-%08x", k->binding.uid, driver);
	else
		return false;
	return n > 0 && (size_t)n < size;
}

static int open_folder(const struct keeper *k)
{
	int fd = open(k->config->shaders_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int shaders_give(struct device_process *d)
{
	struct keeper *k = d->keeper;
	struct keeper_shaders *s = &k->shaders;

	if (!archive_name(k, s->name, sizeof(s->name)))
		return 0;
	cleanup_close int folder = open_folder(k);
	cleanup_close int fd = folder < 0 ? -1
					  : openat(folder, s->name,
						    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int r = fd < 0 ? 0 : device_send(d, KEEPER_DEVICE_SHADERS, NULL, fd);
	if (r < 0)
		return r;
	s->given = folder >= 0;
	s->driver = d->driver;
	s->index_bytes = 0;
	s->looked_at = 0;
	s->look_at = s->given ? clock_ms() + k->config->shaders_ms : 0;
	return 0;
}

bool shaders_wait(const struct keeper *k)
{
	char name[sizeof(k->shaders.name)];

	return k->shaders.pidfd >= 0 && k->current->served != k->binding_number &&
	       archive_name(k, name, sizeof(name)) &&
	       (!strcmp(name, k->shaders.busy) || !strcmp(name, k->shaders.next));
}

/* --- the child that merges --- */

static void child_limit(void)
{
	const struct rlimit cpu = {CHILD_CPU_S, CHILD_CPU_S};
	const struct rlimit file = {2 * SHADERS_FILE_MAX, 2 * SHADERS_FILE_MAX};
	const struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CPU, &cpu);
	setrlimit(RLIMIT_FSIZE, &file);
	setrlimit(RLIMIT_NPROC, &none);
	setrlimit(RLIMIT_CORE, &none);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Between fork and its end. What it reads is hostile: it holds nothing but what it needs. */
static void __attribute__((noreturn)) child_merge(
	const struct keeper *k, const char *name, uint32_t driver, const int *fds, pid_t keeper_pid)
{
	int own[SHADERS_DRIVER_FILES];

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != keeper_pid)
		_exit(1);
	int folder = open_folder(k);
	if (folder >= 0)
		folder = fcntl(folder, F_DUPFD, CHILD_FD_FREE);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		own[i] = fcntl(fds[i], F_DUPFD, CHILD_FD_FREE);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		if (own[i] < 0 || dup2(own[i], CHILD_FDS + (int)i) < 0)
			_exit(1);
		own[i] = CHILD_FDS + (int)i;
	}
	if (folder < 0 || dup2(folder, CHILD_FDS + (int)SHADERS_DRIVER_FILES) < 0)
		_exit(1);
	close_range(CHILD_FDS + SHADERS_DRIVER_FILES + 1, ~0u, 0);
	child_limit();
	int r = store_merge(
		CHILD_FDS + (int)SHADERS_DRIVER_FILES, name, driver, own, k->config->shaders_bytes);
	if (r < 0)
		log_warning("compiled shaders are not kept for the next binding: %s", strerror(-r));
	else if (r > 0)
		log_info("%d compiled shaders are kept for the tenant's next binding", r);
	_exit(r < 0);
}

static void merge_start(struct keeper *k, const char *name, uint32_t driver, const int *fds);

static void merge_ended(void *data, uint32_t events)
{
	struct keeper *k = data;
	struct keeper_shaders *s = &k->shaders;
	siginfo_t info = {0};
	char name[sizeof(s->next)];
	int fds[SHADERS_DRIVER_FILES];

	if (waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		return;
	if (info.si_code != CLD_EXITED)
		log_warning("compiled shaders are not kept for the next binding: who checks them "
			    "was ended by signal %d",
			info.si_status);
	loop_remove(s->source);
	s->source = NULL;
	close_fd(&s->pidfd);
	s->kill_at = 0;
	log_look(); /* the child wrote there too */
	if (s->next[0]) {
		memcpy(name, s->next, sizeof(name));
		for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
			fds[i] = TAKE_FD(s->next_fds[i]);
		s->next[0] = '\0';
		merge_start(k, name, s->next_driver, fds);
		for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
			close_fd(&fds[i]);
	}
	peers_send_waiting(k);
}

static void merge_start(struct keeper *k, const char *name, uint32_t driver, const int *fds)
{
	struct keeper_shaders *s = &k->shaders;

	pid_t keeper_pid = getpid();
	pid_t pid = fork();
	if (pid == 0)
		child_merge(k, name, driver, fds, keeper_pid);
	if (pid > 0)
		s->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pid > 0 && (s->pidfd < 0 || loop_add_fd(k->loop, s->pidfd, EPOLLIN, merge_ended, k,
						&s->source) < 0)) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		close_fd(&s->pidfd);
	}
	if (s->pidfd < 0) {
		log_warning("compiled shaders are not kept for the next binding: no process can "
			    "be started");
		return;
	}
	snprintf(s->busy, sizeof(s->busy), "%s", name);
	s->kill_at = clock_ms() + KEEPER_MERGE_MS;
	keeper_set_timer(k);
}

/* What is in custody is gone when its turn comes. */
static void merge_later(struct keeper_shaders *s, const int *fds)
{
	forget_next(s);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		s->next_fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (s->next_fds[i] < 0) {
			forget_next(s);
			return;
		}
	}
	memcpy(s->next, s->name, sizeof(s->next));
	s->next_driver = s->driver;
}

void shaders_collect(struct keeper *k)
{
	struct keeper_shaders *s = &k->shaders;
	int fds[SHADERS_DRIVER_FILES];
	struct stat index;

	/* Not before it has taken over from another one, and not when that is another driver. */
	if (!s->given || !k->current->pid || k->current->driver != s->driver)
		return;
	for (uint32_t i = 0; i < SHADERS_DRIVER_FILES; i++) {
		const struct custody_item *item =
			custody_get(&k->custody, KEEPER_CUSTODY_SHADERS, i);
		if (!item)
			return;
		fds[i] = item->fd;
	}
	if (fstat(fds[SHADERS_INDEX], &index) < 0 || (uint64_t)index.st_size == s->index_bytes)
		return;
	s->index_bytes = (uint64_t)index.st_size;
	if (s->pidfd >= 0)
		merge_later(s, fds);
	else
		merge_start(k, s->name, s->driver, fds);
}

void shaders_binding_ended(struct keeper *k)
{
	shaders_collect(k);
	k->shaders.given = false;
	k->shaders.look_at = 0;
}

/*
 * Who does nothing compiles nothing, so nobody looks while it rests, but for once: at once, or when
 * the time has come. To rest often brings no more looks than not to rest.
 */
static void shaders_look(struct keeper *k, uint64_t now)
{
	struct keeper_shaders *s = &k->shaders;

	s->looked_at = now;
	s->look_at = k->quiet ? 0 : now + k->config->shaders_ms;
	shaders_collect(k);
}

void shaders_rest(struct keeper *k)
{
	struct keeper_shaders *s = &k->shaders;

	if (s->look_at && !s->looked_at)
		shaders_look(k, clock_ms());
}

void shaders_awake(struct keeper *k)
{
	struct keeper_shaders *s = &k->shaders;

	if (s->given && !s->look_at)
		s->look_at = s->looked_at + k->config->shaders_ms;
}

void shaders_check_time(struct keeper *k, uint64_t now)
{
	struct keeper_shaders *s = &k->shaders;

	if (s->kill_at && now >= s->kill_at) {
		s->kill_at = 0;
		syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
	}
	if (s->look_at && now >= s->look_at)
		shaders_look(k, now);
}

uint64_t shaders_next_time(const struct keeper *k)
{
	const struct keeper_shaders *s = &k->shaders;

	return MIN(s->kill_at ?: UINT64_MAX, s->look_at ?: UINT64_MAX);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "control/slice_thread.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/process_times.h"
#include "control/arbiter.h"
#include "control/slice_usage.h"
#include "protocol/keeper_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define MUTE_NS       500000u
#define PROCESS_PARTS 4 /* a device process is a monitor and the one that does the work */
#define TIMER_SLACK   1000ul
#define TURN_NS       100000u /* it needs the CPU for less than that, and at once */

/* One vGPU, beside what the arbiter knows. */
struct slice_vgpu {
	uint32_t id; /* 0: free */
	int wake_fd; /* not owned */
	int link_fd; /* or -1 */
	clockid_t clocks[PROCESS_PARTS];
	unsigned n_clocks; /* 0: it draws with a GPU, and its driver tells, or nobody does */
	uint64_t deaf_until;
	uint64_t turns; /* begun and over, when it last woke us */
};

struct slice_thread {
	pthread_t thread;
	pthread_mutex_t lock;
	int kick_fd;
	bool quit;
	struct sched_gpu gpu;
	struct arbiter arbiter;
	struct slice_usage *usage; /* NULL: nobody draws with a GPU whose driver tells */
	struct slice_vgpu vgpus[SCHED_VGPUS_MAX];
};

/* --- what the arbiter asks for --- */

static struct slice_vgpu *thread_find(struct slice_thread *t, uint32_t id)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (t->vgpus[i].id == id)
			return &t->vgpus[i];
	}
	return NULL;
}

static void thread_wake(void *data, struct slice_page *page)
{
	syscall(SYS_futex, &page->word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void thread_hold(void *data, uint32_t id, uint64_t ns)
{
	const struct slice_vgpu *v = thread_find(data, id);
	const struct keeper_hold hold = {.ns = ns};

	/* One whose keeper is away or takes nothing is charged all the same. */
	if (v && v->link_fd >= 0)
		(void)!packet_send(
			v->link_fd, &keeper_control_table, KEEPER_CONTROL_HOLD, &hold, -1);
}

static bool thread_used(void *data, uint32_t id, uint64_t *ret_ns)
{
	const struct slice_vgpu *v = thread_find(data, id);
	struct timespec cpu;
	uint64_t sum = 0;

	if (!v || !v->n_clocks)
		return false;
	for (unsigned i = 0; i < v->n_clocks; i++) {
		if (clock_gettime(v->clocks[i], &cpu) < 0)
			return false;
		sum += (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
	}
	*ret_ns = sum;
	return true;
}

static void thread_sample(void *data)
{
	const struct slice_thread *t = data;

	slice_usage_ask(t->usage);
}

/* In the thread that asks drivers. */
static void thread_sampled(void *data, uint32_t id, uint64_t used_ns)
{
	struct slice_thread *t = data;

	pthread_mutex_lock(&t->lock);
	arbiter_sampled(&t->arbiter, id, used_ns, clock_ns());
	pthread_mutex_unlock(&t->lock);
}

static const struct arbiter_ops thread_ops = {
	.wake = thread_wake, .hold = thread_hold, .used = thread_used, .sample = thread_sample};

/* --- the thread --- */

/* Whom to listen to; its timeout when somebody is not listened to for a while. */
static unsigned thread_listen(
	struct slice_thread *t, struct pollfd *fds, uint64_t now, uint64_t *next)
{
	unsigned n = 0;

	fds[n++] = (struct pollfd){.fd = t->kick_fd, .events = POLLIN};
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct slice_vgpu *v = &t->vgpus[i];
		if (!v->id)
			continue;
		if (now < v->deaf_until)
			*next = MIN(*next, v->deaf_until);
		else
			fds[n++] = (struct pollfd){.fd = v->wake_fd, .events = POLLIN};
	}
	return n;
}

static uint64_t thread_turns(const struct slice_thread *t, const struct slice_vgpu *v)
{
	const struct arbiter_vgpu *a = arbiter_find(&t->arbiter, v->id);

	return a ? 2 * a->slices + (t->arbiter.has != a) : 0;
}

/* Those who woke us and got nothing out of it. */
static void thread_mute(struct slice_thread *t, const bool *woke, uint64_t now)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct slice_vgpu *v = &t->vgpus[i];
		uint64_t turns = v->id ? thread_turns(t, v) : 0;
		if (woke[i] && v->id && turns == v->turns)
			v->deaf_until = now + MUTE_NS;
		v->turns = turns;
	}
}

/* A device process shares the open file, and may make it one that blocks: this never waits. */
static void thread_drain(int fd)
{
	uint64_t count;
	const struct iovec to = {&count, sizeof(count)};

	(void)!preadv2(fd, &to, 1, -1, RWF_NOWAIT);
}

/* Meanwhile one may be gone, and its number another file's: what is not ours is not read. */
static void thread_hear(const struct slice_thread *t, const struct pollfd *fds, unsigned n,
	bool woke[SCHED_VGPUS_MAX])
{
	for (unsigned i = 0; i < n; i++) {
		bool ours = fds[i].fd == t->kick_fd;
		if (!(fds[i].revents & POLLIN))
			continue;
		for (unsigned j = 0; j < SCHED_VGPUS_MAX; j++) {
			if (t->vgpus[j].id && t->vgpus[j].wake_fd == fds[i].fd)
				ours = woke[j] = true;
		}
		if (ours)
			thread_drain(fds[i].fd);
	}
}

/* As struct sched_attr of sched_setattr(2), which not all headers have. */
struct turn_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/*
 * It competes for a CPU with the processes whose turns it arranges, and whoever is next waits for
 * it. Where real-time priority is not ours, new kernels at least give those the CPU sooner that say
 * that they need it for a short time. Without either, slices end a little late.
 */
static void thread_hurry(void)
{
	const struct sched_param first = {.sched_priority = 1};
	const struct turn_attr attr = {.size = sizeof(attr), .runtime = TURN_NS};

	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &first) < 0)
		syscall(SYS_sched_setattr, 0, &attr, 0);
}

static void *thread_run(void *data)
{
	struct slice_thread *t = data;
	struct pollfd fds[SCHED_VGPUS_MAX + 1];
	bool woke[SCHED_VGPUS_MAX] = {0};

	prctl(PR_SET_NAME, "vgpud-slices");
	prctl(PR_SET_TIMERSLACK, TIMER_SLACK);
	thread_hurry();
	pthread_mutex_lock(&t->lock);
	while (!t->quit) {
		uint64_t now = clock_ns(), next = arbiter_step(&t->arbiter, now);
		thread_mute(t, woke, now);
		unsigned n = thread_listen(t, fds, now, &next);
		pthread_mutex_unlock(&t->lock);
		now = clock_ns();
		uint64_t wait = next > now ? next - now : 0;
		const struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000u),
			.tv_nsec = (long)(wait % 1000000000u)};
		int r = ppoll(fds, n, next == UINT64_MAX ? NULL : &timeout, NULL);
		pthread_mutex_lock(&t->lock);
		memset(woke, 0, sizeof(woke));
		if (r > 0)
			thread_hear(t, fds, n, woke);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

/* --- for the main thread --- */

static void thread_unlock(struct slice_thread *t)
{
	pthread_mutex_unlock(&t->lock);
	(void)!eventfd_write(t->kick_fd, 1);
}

static int thread_start(struct slice_thread *t)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* they are the main thread's */
	int err = pthread_create(&t->thread, NULL, thread_run, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

int slice_thread_create(const struct sched_gpu *gpu, struct slice_thread **ret)
{
	struct slice_thread *t = calloc(1, sizeof(*t));

	if (!t)
		return -ENOMEM;
	int err = arbiter_init(&t->arbiter, gpu, &thread_ops, t);
	t->gpu = *gpu;
	t->kick_fd = err < 0 ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (err == 0 && t->kick_fd < 0)
		err = -errno;
	if (err == 0)
		err = -pthread_mutex_init(&t->lock, NULL);
	if (err == 0)
		err = thread_start(t);
	if (err < 0) {
		close_fd(&t->kick_fd);
		free(t);
		return err;
	}
	*ret = t;
	return 0;
}

void slice_thread_settle(struct slice_thread *t, bool all_there)
{
	pthread_mutex_lock(&t->lock);
	arbiter_settle(
		&t->arbiter, all_there ? clock_ns() + ARBITER_SETTLE_NS : ARBITER_SETTLE_LATER);
	thread_unlock(t);
}

void slice_thread_destroy(struct slice_thread *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	t->quit = true;
	thread_unlock(t);
	pthread_join(t->thread, NULL);
	slice_usage_destroy(t->usage);
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (!t->vgpus[i].id)
			continue;
		arbiter_remove(&t->arbiter, t->vgpus[i].id);
		close_fd(&t->vgpus[i].link_fd);
	}
	pthread_mutex_destroy(&t->lock);
	close_fd(&t->kick_fd);
	free(t);
}

int slice_thread_set_policy(struct slice_thread *t, const struct sched_gpu *gpu)
{
	if (gpu->policy == t->gpu.policy && gpu->slice_ms == t->gpu.slice_ms)
		return 0;
	pthread_mutex_lock(&t->lock);
	int err = arbiter_set_policy(&t->arbiter, gpu);
	if (err == 0)
		t->gpu = *gpu;
	thread_unlock(t);
	return err;
}

int slice_thread_add(struct slice_thread *t, uint32_t id, const struct sched_vgpu *params,
	const struct slice_pages *pages)
{
	struct slice_vgpu *v = thread_find(t, id);
	int err;

	pthread_mutex_lock(&t->lock);
	if (v) {
		err = arbiter_set_params(&t->arbiter, id, params);
	} else {
		v = thread_find(t, 0);
		err = v ? arbiter_add(&t->arbiter, id, params, pages->page, pages->claim) : -ENOSPC;
		if (err == 0)
			*v = (struct slice_vgpu){
				.id = id, .wake_fd = pages->wake_fd, .link_fd = -1};
	}
	thread_unlock(t);
	return err;
}

/* Whose driver is asked from now on; taken. */
static void thread_set_usage(struct slice_thread *t, uint32_t id, const struct drm_usage *usage)
{
	struct slice_usage *fresh = NULL;
	struct drm_usage none = *usage;

	if (!t->usage && usage->n && slice_usage_create(thread_sampled, t, &fresh) == 0) {
		pthread_mutex_lock(&t->lock);
		t->usage = fresh;
		pthread_mutex_unlock(&t->lock);
	}
	if (!t->usage)
		drm_usage_close(&none);
	else if (slice_usage_set(t->usage, id, usage) < 0)
		log_warning("what a device process uses of its GPU is not found out: too many");
}

void slice_thread_remove(struct slice_thread *t, uint32_t id)
{
	struct slice_vgpu *v = id ? thread_find(t, id) : NULL;

	if (!v)
		return;
	thread_set_usage(t, id, &(struct drm_usage){0});
	pthread_mutex_lock(&t->lock);
	arbiter_remove(&t->arbiter, id);
	close_fd(&v->link_fd);
	*v = (struct slice_vgpu){0};
	thread_unlock(t);
}

int slice_thread_set_link(struct slice_thread *t, uint32_t id, int fd)
{
	struct slice_vgpu *v = id ? thread_find(t, id) : NULL;
	int own = fd < 0 || !v ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (!v || (fd >= 0 && own < 0))
		return v ? -errno : -ENOENT;
	pthread_mutex_lock(&t->lock);
	close_fd(&v->link_fd);
	v->link_fd = own;
	thread_unlock(t);
	return 0;
}

/* The process and its children: the one that the keeper started is a monitor. */
static unsigned process_clocks(const pid_t *pids, unsigned n_pids, clockid_t *ret)
{
	unsigned n = 0;

	for (unsigned i = 0; i < n_pids; i++)
		n += clock_getcpuclockid(pids[i], &ret[n]) == 0;
	return n;
}

void slice_thread_set_process(struct slice_thread *t, uint32_t id, pid_t pid, bool software)
{
	struct slice_vgpu *v = id ? thread_find(t, id) : NULL;
	pid_t pids[PROCESS_PARTS] = {pid};
	clockid_t clocks[PROCESS_PARTS];
	struct drm_usage usage = {0};
	unsigned n = 0, n_pids = 0;

	if (!v)
		return;
	if (pid)
		n_pids = 1 + process_children(pid, pids + 1, PROCESS_PARTS - 1);
	if (software)
		n = process_clocks(pids, n_pids, clocks);
	for (unsigned i = n_pids; !software && i > 0 && !usage.n; i--)
		drm_usage_open("/proc", pids[i - 1], &usage);
	thread_set_usage(t, id, &usage);
	pthread_mutex_lock(&t->lock);
	memcpy(v->clocks, clocks, n * sizeof(*clocks));
	v->n_clocks = n;
	arbiter_renew(&t->arbiter, id, pid != 0, clock_ns());
	thread_unlock(t);
}

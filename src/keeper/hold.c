/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a device process is stopped is vgpud's decision; that it goes on again is the keeper's
 * business alone. Its timer is set before anything is stopped, and a process dies with its keeper,
 * so nobody stays stopped for longer than KEEPER_HOLD_MAX_NS because somebody else is gone.
 *
 * Stopped are the process and its children: the same as those whose time is counted
 * (base/process_times.h). A child is known by a pidfd that was opened while it was a child, so no
 * other process that got its pid is ever stopped.
 *
 * The time in which it was held is nothing it can be blamed for: it counts neither as hanging nor
 * as not reading its channel.
 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define HOLD_TELL_NS 1000000000ull /* at most so often vgpud is told of the total */

void hold_init(struct hold *hold)
{
	*hold = (struct hold){.timer_fd = -1};
	for (unsigned i = 0; i < HOLD_CHILDREN; i++)
		hold->children[i].pidfd = -1;
}

/* --- whom --- */

static bool hold_possible(const struct keeper *k)
{
	const struct device_process *d = k->current;

	return d->pid && k->state == KEEPER_STATE_READY && k->takeover.phase == PHASE_SERVING &&
	       !k->stopping && !d->replaced && !d->quitting && !d->kill_reason;
}

static void hold_drop_child(struct hold *hold, unsigned i)
{
	close_fd(&hold->children[i].pidfd);
	hold->children[i].pid = 0;
}

static void hold_drop_children(struct hold *hold)
{
	for (unsigned i = 0; i < HOLD_CHILDREN; i++) {
		if (hold->children[i].pid)
			hold_drop_child(hold, i);
	}
	hold->parent = NULL;
}

static bool is_among(pid_t pid, const pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (pids[i] == pid)
			return true;
	}
	return false;
}

static void hold_drop_others(struct hold *hold, const pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < HOLD_CHILDREN; i++) {
		if (hold->children[i].pid && !is_among(hold->children[i].pid, pids, n))
			hold_drop_child(hold, i);
	}
}

static bool hold_add_child(struct hold *hold, pid_t pid)
{
	int free_slot = -1;

	for (unsigned i = 0; i < HOLD_CHILDREN; i++) {
		if (hold->children[i].pid == pid)
			return false;
		if (!hold->children[i].pid)
			free_slot = (int)i;
	}
	int fd = free_slot < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return false;
	hold->children[free_slot].pid = pid;
	hold->children[free_slot].pidfd = fd;
	return true;
}

static void hold_find_children(struct keeper *k)
{
	struct hold *hold = &k->hold;
	pid_t pids[HOLD_CHILDREN];
	bool added = false;

	if (hold->parent != k->current)
		hold_drop_children(hold);
	hold->parent = k->current;
	unsigned n = process_children(k->current->pid, pids, HOLD_CHILDREN);
	hold_drop_others(hold, pids, n);
	for (unsigned i = 0; i < n; i++)
		added |= hold_add_child(hold, pids[i]);
	if (!added)
		return;
	/* One that ended before its pidfd was opened was perhaps another one by then. */
	n = process_children(k->current->pid, pids, HOLD_CHILDREN);
	hold_drop_others(hold, pids, n);
}

static void hold_signal(const struct keeper *k, const struct device_process *d, int signal_number)
{
	syscall(SYS_pidfd_send_signal, d->pidfd, signal_number, NULL, 0);
	for (unsigned i = 0; i < HOLD_CHILDREN; i++) {
		if (k->hold.children[i].pid)
			syscall(SYS_pidfd_send_signal, k->hold.children[i].pidfd, signal_number,
				NULL, 0);
	}
}

/* --- for how long --- */

static void hold_on_timer(void *data, uint32_t events)
{
	struct keeper *k = data;
	uint64_t expirations;

	if (read(k->hold.timer_fd, &expirations, sizeof(expirations)) < 0)
		return; /* it was set anew meanwhile */
	hold_end(k);
}

static int hold_open_timer(struct keeper *k)
{
	struct hold *hold = &k->hold;

	if (hold->timer)
		return 0;
	cleanup_close int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	int r = loop_add_fd(k->loop, fd, EPOLLIN, hold_on_timer, k, &hold->timer);
	if (r < 0)
		return r;
	hold->timer_fd = TAKE_FD(fd);
	return 0;
}

static int hold_set_timer(struct keeper *k, uint64_t at_ns)
{
	struct itimerspec at = {.it_value = {.tv_sec = (time_t)(at_ns / 1000000000u),
					.tv_nsec = (long)(at_ns % 1000000000u)}};

	int r = hold_open_timer(k);
	if (r < 0)
		return r;
	return timerfd_settime(k->hold.timer_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0 ? -errno : 0;
}

void hold_ask(struct keeper *k, uint64_t ns)
{
	struct hold *hold = &k->hold;
	uint64_t now = clock_ns();

	if (!ns || !hold_possible(k)) {
		hold_end(k);
		return;
	}
	hold->until_ns = now + MIN(ns, KEEPER_HOLD_MAX_NS);
	int r = hold_set_timer(k, hold->until_ns);
	if (r < 0) {
		log_limited(&k->notices, LOG_LEVEL_WARNING,
			"the device process cannot be held: no timer would end that: %s",
			strerror(-r));
		hold_end(k);
		return;
	}
	if (!hold->device)
		hold->since_ns = now;
	hold->device = k->current;
	hold_find_children(k);
	hold_signal(k, hold->device, SIGSTOP);
}

/* It is held no more, or is no more. */
static void hold_over(struct keeper *k)
{
	struct hold *hold = &k->hold;
	struct device_process *d = TAKE_PTR(hold->device);
	uint64_t now = clock_ns(), held = now - hold->since_ns;

	hold->total_ns += held;
	hold_set_timer(k, 0);
	if (d->stuck_since)
		d->stuck_since = MIN(d->stuck_since + held / 1000000, now / 1000000);
}

void hold_end(struct keeper *k)
{
	struct hold *hold = &k->hold;
	uint64_t now = clock_ns();

	if (!hold->device)
		return;
	hold_signal(k, hold->device, SIGCONT);
	hold_over(k);
	if (now - hold->told_ns < HOLD_TELL_NS)
		return;
	hold->told_ns = now;
	control_status(k);
}

void hold_forget(struct device_process *d)
{
	struct keeper *k = d->keeper;

	if (d == k->hold.device)
		hold_over(k);
	if (d == k->hold.parent)
		hold_drop_children(&k->hold);
}

/* --- accounts --- */

uint64_t hold_total_ns(const struct keeper *k)
{
	const struct hold *hold = &k->hold;

	return hold->total_ns + (hold->device ? clock_ns() - hold->since_ns : 0);
}

uint64_t hold_since_ns(struct keeper *k, uint64_t since)
{
	struct hold *hold = &k->hold;
	uint64_t total = hold_total_ns(k);

	if (since != hold->busy_since) {
		hold->busy_since = since;
		hold->busy_total_ns = hold->last_total_ns;
	}
	hold->last_total_ns = total;
	return total - hold->busy_total_ns;
}

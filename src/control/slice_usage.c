/* SPDX-License-Identifier: Apache-2.0 */
/* The lock is never held while a driver is asked, but while its answer is told, so none is late. */
#include "control/slice_usage.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "scheduler/policy.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#define HANGS_S 1

struct usage_slot {
	uint32_t id; /* 0: free */
	struct drm_usage usage;
};

struct slice_usage {
	pthread_t thread;
	pthread_mutex_t lock;
	int kick_fd;
	bool quit;
	slice_usage_told *told;
	void *data;
	struct usage_slot slots[SCHED_VGPUS_MAX];
	struct usage_slot *asked; /* its driver is being asked; NULL: nobody's … */
	bool outdated;            /* … and it is another one's meanwhile: */
	struct drm_usage left;    /* closed when that is over */
};

/* With the lock, which is given up meanwhile. */
static void usage_ask_one(struct slice_usage *u, struct usage_slot *slot)
{
	const struct usage_slot asked = *slot;
	uint64_t ns;

	u->asked = slot;
	u->outdated = false;
	pthread_mutex_unlock(&u->lock);
	bool known = drm_usage_read(&asked.usage, &ns);
	pthread_mutex_lock(&u->lock);
	u->asked = NULL;
	drm_usage_close(&u->left);
	if (known && !u->outdated)
		u->told(u->data, asked.id, ns);
}

static void *usage_run(void *data)
{
	struct slice_usage *u = data;
	eventfd_t count;

	prctl(PR_SET_NAME, "vgpud-usage");
	pthread_mutex_lock(&u->lock);
	while (!u->quit) {
		pthread_mutex_unlock(&u->lock);
		eventfd_read(u->kick_fd, &count);
		pthread_mutex_lock(&u->lock);
		for (unsigned i = 0; i < SCHED_VGPUS_MAX && !u->quit; i++) {
			if (u->slots[i].id)
				usage_ask_one(u, &u->slots[i]);
		}
	}
	pthread_mutex_unlock(&u->lock);
	return NULL;
}

static int usage_start(struct slice_usage *u)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* they are the main thread's */
	int err = pthread_create(&u->thread, NULL, usage_run, u);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

int slice_usage_create(slice_usage_told *told, void *data, struct slice_usage **ret)
{
	struct slice_usage *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	*u = (struct slice_usage){.told = told, .data = data};
	u->kick_fd = eventfd(0, EFD_CLOEXEC);
	int err = u->kick_fd < 0 ? -errno : -pthread_mutex_init(&u->lock, NULL);
	if (err == 0)
		err = usage_start(u);
	if (err < 0) {
		close_fd(&u->kick_fd);
		free(u);
		return err;
	}
	*ret = u;
	return 0;
}

static void slot_clear(struct slice_usage *u, struct usage_slot *slot)
{
	if (slot == u->asked && !u->outdated) {
		u->outdated = true;
		u->left = slot->usage;
	} else {
		drm_usage_close(&slot->usage);
	}
	*slot = (struct usage_slot){0};
}

int slice_usage_set(struct slice_usage *u, uint32_t id, const struct drm_usage *usage)
{
	struct drm_usage none = *usage;
	int err = usage->n ? -ENOSPC : 0;

	pthread_mutex_lock(&u->lock);
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (u->slots[i].id == id)
			slot_clear(u, &u->slots[i]);
	}
	for (unsigned i = 0; i < SCHED_VGPUS_MAX && err; i++) {
		if (u->slots[i].id)
			continue;
		u->slots[i] = (struct usage_slot){.id = id, .usage = *usage};
		err = 0;
	}
	pthread_mutex_unlock(&u->lock);
	if (err)
		drm_usage_close(&none);
	return err;
}

void slice_usage_ask(struct slice_usage *u)
{
	if (u)
		(void)!eventfd_write(u->kick_fd, 1);
}

void slice_usage_destroy(struct slice_usage *u)
{
	struct timespec until;

	if (!u)
		return;
	pthread_mutex_lock(&u->lock);
	u->quit = true;
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++)
		slot_clear(u, &u->slots[i]);
	pthread_mutex_unlock(&u->lock);
	slice_usage_ask(u);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += HANGS_S;
	if (pthread_timedjoin_np(u->thread, NULL, &until) != 0) {
		log_warning("the driver of a GPU does not say what processes use of it: it hangs");
		pthread_detach(u->thread);
		return;
	}
	pthread_mutex_destroy(&u->lock);
	close_fd(&u->kick_fd);
	free(u);
}

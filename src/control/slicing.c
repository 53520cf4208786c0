/* SPDX-License-Identifier: Apache-2.0 */
#include "control/slicing.h"

#include "base/checked.h"
#include "control/vgpud.h"

#include <errno.h>
#include <string.h>

static int slicing_thread(struct vgpud *d, const struct gpu *gpu, struct slice_thread **ret)
{
	struct slice_thread **at = &d->slicers[gpu - d->gpus];
	bool fresh = !*at;
	int r = 0;

	if (*at)
		r = slice_thread_set_policy(*at, &gpu->sched);
	else if (gpu->sched.policy != SCHED_BEST_EFFORT)
		r = slice_thread_create(&gpu->sched, at);
	if (fresh && *at)
		slice_thread_settle(*at, false);
	*ret = *at;
	return r;
}

/* Its keeper has the pages, and the thread what it needs of it. */
static int slicing_tell(struct vgpu *v)
{
	const struct slice_pages *pages = &v->slices.pages;
	const int fds[KEEPER_GRANT_PARTS] = {
		[KEEPER_GRANT_PAGE] = pages->page_fd,
		[KEEPER_GRANT_CLAIM] = pages->claim_fd,
		[KEEPER_GRANT_WAKE] = pages->wake_fd,
	};
	int r = 0;

	if (v->slices.told || !v->link || !v->have_status)
		return 0;
	for (uint32_t i = 0; r == 0 && i < KEEPER_GRANT_PARTS; i++) {
		const struct keeper_grant grant = {.part = i};
		r = link_request(v->link, KEEPER_CONTROL_GRANT, &grant, fds[i], NULL, NULL);
	}
	if (r == 0)
		r = slice_thread_set_link(v->slices.thread, v->slices.id, link_fd(v->link));
	v->slices.told = r == 0;
	return r;
}

static void slicing_count(struct vgpu *v)
{
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);
	uint32_t pid = v->have_status ? v->status.device_pid : 0;
	bool serves = v->have_status && (v->status.state == KEEPER_STATE_READY ||
						v->status.state == KEEPER_STATE_BOUND);

	/* One that is starting has not started all of its parts yet; asleep or failed, there is
	 * none. */
	if (v->slices.pid == pid || !gpu || (pid && !serves))
		return;
	v->slices.pid = pid;
	slice_thread_set_process(v->slices.thread, v->slices.id, (pid_t)pid, !gpu->render_node[0]);
}

static int slicing_join(struct vgpu *v, const struct gpu *gpu, struct slice_thread *thread)
{
	const struct sched_vgpu params = vgpu_share_params(v, gpu);
	int r = 0;

	if (v->slices.thread != thread)
		slicing_leave(v);
	if (!v->slices.pages.page)
		r = slice_pages_create(&v->slices.pages);
	if (!v->slices.id)
		v->slices.id = ++v->d->share.last_id;
	if (r == 0)
		r = slice_thread_add(thread, v->slices.id, &params, &v->slices.pages);
	if (r < 0)
		return r;
	v->slices.thread = thread;
	r = slicing_tell(v);
	slicing_count(v);
	return r;
}

int slicing_apply(struct vgpud *d, const struct gpu *gpu)
{
	struct slice_thread *thread;
	bool fresh = !d->slicers[gpu - d->gpus];
	int r = slicing_thread(d, gpu, &thread);

	for (struct vgpu *v = d->vgpus; v && thread && r == 0; v = v->next) {
		if (!strcmp(v->def.gpu, gpu->name))
			r = slicing_join(v, gpu, thread);
	}
	if (fresh && thread)
		slice_thread_settle(thread, true);
	return r;
}

void slicing_leave(struct vgpu *v)
{
	if (v->slices.thread)
		slice_thread_remove(v->slices.thread, v->slices.id);
	v->slices.thread = NULL;
	v->slices.told = false;
	v->slices.pid = 0;
	slice_pages_finish(&v->slices.pages);
}

void slicing_status(struct vgpu *v)
{
	if (!v->slices.thread)
		return;
	int r = slicing_tell(v);
	if (r < 0)
		events_add(&v->d->events, v->def.name, "its share of %s cannot be enforced: %s",
			v->def.gpu, strerror(-r));
	slicing_count(v);
}

void slicing_lost(struct vgpu *v)
{
	if (!v->slices.thread)
		return;
	slice_thread_set_link(v->slices.thread, v->slices.id, -1);
	v->slices.told = false;
}

void slicing_close(struct vgpud *d)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next)
		slicing_leave(v);
	for (size_t i = 0; i < d->n_gpus; i++) {
		slice_thread_destroy(d->slicers[i]);
		d->slicers[i] = NULL;
	}
}

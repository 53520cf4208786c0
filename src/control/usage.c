/* SPDX-License-Identifier: Apache-2.0 */
#include "control/vgpud.h"

#include "base/process_times.h"

/* A device process that was given a render node; any other draws with the CPU. */
static bool vgpu_has_fences(const struct vgpu *v)
{
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);

	return gpu && gpu->render_node[0] && v->def.method == METHOD_FORWARD;
}

/* False: it is just ending, and its keeper will say so. */
static bool vgpu_times(const struct vgpu *v, struct metrics_times *ret)
{
	const struct keeper_status *s = &v->status;
	struct process_times now = {0};

	if (!v->have_status || (s->device_pid && process_times((pid_t)s->device_pid,
							 s->device_start_time, &now) < 0))
		return false;
	*ret = (struct metrics_times){.cpu_ns = s->others_cpu_ns + now.cpu_ns,
		.delay_ns = s->others_delay_ns + now.delay_ns,
		.held_ns = s->held_ns};
	return true;
}

const struct metrics_values *vgpu_usage(struct vgpu *v)
{
	struct metrics_values *shown = &v->account.shown;
	struct metrics_times times;
	struct vgpu_stats page;
	bool have_times = vgpu_times(v, &times), have_page = vgpu_stats(v, &page);

	if (have_times && v->account_keeper != v->status.keeper_pid) {
		v->account_keeper = v->status.keeper_pid;
		metrics_times_anew(&v->account);
	}
	metrics_account(&v->account, have_page ? &page : NULL, have_times ? &times : NULL,
		vgpu_has_fences(v));
	if (!shown->vram_limit_bytes)
		shown->vram_limit_bytes = v->def.type.vram_mib << 20;
	return shown;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "control/render.h"

#include "control/direct.h"
#include "control/gpu_rules.h"
#include "control/memory.h"
#include "control/standby.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "metrics/prometheus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* jansson takes UTF-8 only; what a device process says may be anything. */
static json_t *text(const char *s)
{
	json_t *json = json_string(s);

	if (json)
		return json;
	char plain[KEEPER_TEXT_MAX];
	size_t n = 0;
	for (; *s && n + 1 < sizeof(plain); s++)
		plain[n++] = *s & 0x80 ? '?' : *s;
	return json_stringn(plain, n);
}

static json_t *text_or_null(const char *s)
{
	return *s ? text(s) : json_null();
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)n);
}

static json_t *number_or_null(uint64_t n)
{
	return n ? number(n) : json_null();
}

/* Three digits are what the clocks behind it can tell. */
static json_t *milliseconds(uint64_t ns)
{
	uint64_t us = ns / 1000;

	return json_real((double)us / 1000.0);
}

json_t *render_gpu(const struct vgpud *d, const struct gpu *gpu)
{
	struct gpu_use use = vgpud_gpu_use(d, gpu->name, NULL);
	const char *method = gpu_method(d, gpu), *type = gpu_type(d, gpu);
	uint64_t left = gpu->vram_mib > use.vram_mib ? gpu->vram_mib - use.vram_mib : 0;

	bool sliced = gpu->sched.policy != SCHED_BEST_EFFORT;
	struct standby_counts standby = standbys_count(d->standbys, gpu);

	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:i, s:s, s:o, s:s?, "
			 "s:b, s:i, s:i, s:o, s:o, s:s, s:o}",
		"name", gpu->name, "kind", gpu->kind, "driver", text_or_null(gpu->driver),
		"pci_address", text_or_null(gpu->pci_address), "render_node",
		text_or_null(gpu->render_node), "state", gpu_state_names[gpu_state(d, gpu)],
		"method", text_or_null(method ?: ""), "type", text_or_null(type ?: ""), "vram_mib",
		number(gpu->vram_mib), "vram_free_mib", number(left), "vgpus", (int)use.vgpus,
		"policy", sched_policy_names[gpu->sched.policy], "slice_ms",
		sliced ? number(sched_slice_ns(&gpu->sched, use.vgpus) / SCHED_MS) : json_null(),
		"enforced_by", gpu->enforcer, "mixed", gpu->mixed, "standby", (int)gpu->standby,
		"standby_ready", (int)standby.ready, "standby_used", number(standby.used),
		"standby_missing", number(standby.missing), "mode", gpu_mode_name(gpu), "left_by",
		text_or_null(gpu->left_by));
}

json_t *render_type(const struct vgpud *d, const struct type *type)
{
	const struct gpu *gpu = vgpud_find_gpu(d, type->gpu);
	struct gpu_use use = vgpud_gpu_use(d, type->gpu, type->name);

	uint32_t idle_s = type->hibernate_idle_s == TYPES_IDLE_NODE ? d->config.hibernate_idle_s
								    : type->hibernate_idle_s;

	double share = type->share_percent ?: 100.0 / MAX(type->max_instances, 1u);

	return json_pack("{s:s, s:s, s:o, s:i, s:i, s:i, s:i, s:i, s:o, s:i, s:f, s:i}", "name",
		type->name, "gpu", type->gpu, "vram_mib", number(type->vram_mib), "max_instances",
		(int)type->max_instances, "available_instances",
		gpu ? (int)types_available(gpu, type, &use) : 0, "max_width", (int)type->max_width,
		"max_height", (int)type->max_height, "heads", (int)type->heads, "hibernate_idle_s",
		number(idle_s), "weight", (int)type->weight, "share_percent", share, "max_fps",
		(int)type->max_fps);
}

static uint64_t vram_used_mib(const struct vgpu *v)
{
	struct vgpu_stats stats;

	if (!vgpu_stats(v, &stats))
		return 0;
	uint64_t mib = (stats.vram_used_bytes >> 20) + ((stats.vram_used_bytes & 0xfffff) != 0);
	return mib;
}

json_t *render_vgpu(const struct vgpu *v)
{
	static const struct keeper_status none;
	const struct keeper_status *s = v->have_status ? &v->status : &none;
	const struct definition *def = &v->def;
	char socket[VGPUD_PATH_MAX + 32];
	json_t *json = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "name", def->name, "uuid",
		def->uuid, "gpu", def->gpu, "type", def->type.name, "method",
		method_names[def->method], "state", vgpu_state(v));

	json_object_set_new(json, "tenant", text_or_null(def->tenant));
	json_object_set_new(json, "pid", number_or_null(s->device_pid));
	json_object_set_new(json, "keeper_pid", number_or_null(s->keeper_pid));
	json_object_set_new(json, "renderer", text_or_null(s->renderer));
	json_object_set_new(json, "vram_used_mib", number(vram_used_mib(v)));
	json_object_set_new(json, "vram_mib", number(def->type.vram_mib));
	json_object_set_new(json, "bound_to", text_or_null(s->bound_to));
	json_object_set_new(json, "connections", number(s->connections));
	json_object_set_new(json, "starts", number(s->starts));
	json_object_set_new(json, "failure", text_or_null(vgpu_failure(v)));
	json_object_set_new(json, "recoveries", number(s->recoveries));
	json_object_set_new(json, "moves", number(s->moves));
	json_object_set_new(json, "wakes", number(s->wakes));
	json_object_set_new(json, "last_pause_ms", milliseconds(s->last_pause_ns));
	json_object_set_new(json, "last_replay_ms", milliseconds(s->last_replay_ns));
	struct keeper_progress progress;
	const char *operation = vgpu_operation(v, &progress);
	json_object_set_new(json, "operation", text_or_null(operation ? operation : ""));
	memory_show_vgpu(v, json);
	json_object_set_new(json, "max_width", number(def->type.max_width));
	json_object_set_new(json, "max_height", number(def->type.max_height));
	json_object_set_new(json, "heads", number(def->type.heads));
	snprintf(socket, sizeof(socket), "%s/vhost-user.sock", v->dir);
	json_object_set_new(json, "vhost_user_socket", text(socket));
	snprintf(socket, sizeof(socket), "%s/vtest.sock", v->dir);
	json_object_set_new(json, "vtest_socket", text(socket));
	json_object_set_new(json, "device", json_null());
	json_object_set_new(json, "bound_pid", number_or_null(s->binding_pid));
	json_object_set_new(json, "bound_domain", json_null());
	json_object_set_new(json, "owner_uid", json_null());
	json_object_set_new(json, "owner_gid", json_null());
	json_object_set_new(json, "scrub", json_null());
	if (v->direct)
		direct_render(v, json);
	return json;
}

json_t *render_result(const struct vgpu *v, const struct vgpu_outcome *outcome)
{
	const struct keeper_done *done = &outcome->done;
	json_t *lossy = json_array();

	for (unsigned i = 0; i < outcome->n_reasons; i++) {
		if (outcome->reasons[i].verdict == KEEPER_CHECK_LOSSY)
			json_array_append_new(lossy, text(outcome->reasons[i].text));
	}
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", v->def.name, "gpu",
		v->def.gpu, "state_bytes", number(done->bytes), "pause_ms",
		milliseconds(done->pause_ns), "total_ms", milliseconds(done->total_ns),
		"held_bytes", number(done->left_bytes), "lossy", lossy);
}

json_t *render_state_check(const struct vgpu *v, const struct vgpu_outcome *outcome)
{
	static const char *const names[] = {[KEEPER_CHECK_FINE] = "fine",
		[KEEPER_CHECK_LOSSY] = "lossy",
		[KEEPER_CHECK_REFUSED] = "refused"};
	json_t *reasons = json_array();
	uint32_t worst = KEEPER_CHECK_FINE;

	for (unsigned i = 0; i < outcome->n_reasons; i++) {
		const struct keeper_checked *reason = &outcome->reasons[i];
		uint32_t verdict = MIN(reason->verdict, (uint32_t)KEEPER_CHECK_REFUSED);
		worst = MAX(worst, verdict);
		json_array_append_new(reasons, json_pack("{s:s, s:o}", "verdict", names[verdict],
						       "text", text(reason->text)));
	}
	return json_pack("{s:s, s:s, s:o}", "name", v->def.name, "verdict", names[worst], "reasons",
		reasons);
}

static json_t *render_frame_times(const struct metrics_values *values)
{
	static const double bounds_ms[] = {
#define BOUND(X, us, le) us / 1000.0,
		VGPU_FRAME_TIMES(BOUND, )
#undef BOUND
	};
	json_t *list = json_array();

	for (unsigned i = 0; i < ARRAY_SIZE(values->frames); i++)
		json_array_append_new(list,
			json_pack("{s:o, s:o}", "up_to_ms",
				i < ARRAY_SIZE(bounds_ms) ? json_real(bounds_ms[i]) : json_null(),
				"frames", number(values->frames[i])));
	return list;
}

json_t *render_stats(struct vgpu *v)
{
	const struct metrics_values *values = vgpu_usage(v);
	json_t *json = json_pack(
		"{s:s, s:s, s:s}", "name", v->def.name, "gpu", v->def.gpu, "state", vgpu_state(v));

#define X(field, kind, help) json_object_set_new(json, #field, number(values->field));
	METRICS_TABLE(X)
#undef X
	json_object_set_new(json, "frame_time_ns_total", number(values->frame_time_ns_total));
	json_object_set_new(json, "frame_times", render_frame_times(values));
	return json;
}

json_t *render_event(const struct event *event)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "number", number(event->number), "time_ms",
		number(event->time_ms), "vgpu", text_or_null(event->vgpu), "text",
		text(event->text));
}

json_t *render_qemu_args(const struct vgpu *v, bool vga, const char *memory)
{
	char chardev[VGPUD_PATH_MAX + 128], device[160], object[128];

	/* Nothing here holds a comma, which QEMU would want doubled: names cannot, and a run
	 * directory that does is refused when vgpud starts. */
	snprintf(chardev, sizeof(chardev), "socket,id=vgpu-%s,path=%s/vhost-user.sock", v->def.name,
		v->dir);
	snprintf(device, sizeof(device), "%s,chardev=vgpu-%s,max_outputs=%u",
		vga ? "vhost-user-vga" : "vhost-user-gpu-pci", v->def.name, v->def.type.heads);
	json_t *args =
		json_pack("[s,s,s,s,s,s]", "-vga", "none", "-chardev", chardev, "-device", device);
	if (memory) {
		snprintf(object, sizeof(object),
			"memory-backend-memfd,id=vgpu-memory,size=%.32s,share=on%s", memory,
			memory_is_overcommitted(v->d) ? ",prealloc=on" : "");
		json_array_append_new(args, json_string("-object"));
		json_array_append_new(args, json_string(object));
		json_array_append_new(args, json_string("-machine"));
		json_array_append_new(args, json_string("memory-backend=vgpu-memory"));
	}
	return json_pack("{s:o, s:o}", "args", args, "note",
		memory ? json_null()
		       : json_string("the guest's memory must be shared: give --memory SIZE, or "
				     "add -object memory-backend-memfd,id=mem,size=SIZE,share=on "
				     "-machine memory-backend=mem with the SIZE of -m"));
}

json_t *render_bind(const struct vgpu *v)
{
	char socket[VGPUD_PATH_MAX + 32];

	snprintf(socket, sizeof(socket), "%s/vtest.sock", v->dir);
	/* Mesa before 24 knows no VTEST_SOCKET_NAME: there the socket must be at /tmp/.virgl_test.
	 */
	return json_pack("{s:s, s:{s:s, s:s, s:s}}", "socket", socket, "environment",
		"LIBGL_ALWAYS_SOFTWARE", "1", "GALLIUM_DRIVER", "virpipe", "VTEST_SOCKET_NAME",
		socket);
}

/* --- metrics --- */

char *render_metrics(const struct vgpud *d, size_t *ret_size)
{
	char *ret = NULL;
	size_t n = 0, i = 0;

	for (const struct vgpu *v = d->vgpus; v; v = v->next)
		n++;
	cleanup_free struct metrics_vgpu *vgpus = calloc(MAX(n, 1), sizeof(*vgpus));
	FILE *out = vgpus ? open_memstream(&ret, ret_size) : NULL;
	if (!out)
		return NULL;
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		static const struct keeper_status none;
		const struct keeper_status *s = v->have_status ? &v->status : &none;
		vgpus[i++] = (struct metrics_vgpu){.name = v->def.name,
			.gpu = v->def.gpu,
			.type = v->def.type.name,
			.method = method_names[v->def.method],
			.state = vgpu_state(v),
			.values = vgpu_usage(v),
			.device_starts_total = s->starts,
			.recoveries_total = s->recoveries,
			.moves_total = s->moves,
			.wakes_total = s->wakes};
	}
	metrics_print(out, vgpus, n);
	if (fclose(out) != 0) {
		free(ret);
		return NULL;
	}
	return ret;
}

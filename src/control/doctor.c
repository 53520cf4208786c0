/* SPDX-License-Identifier: Apache-2.0 */
#include "control/doctor.h"

#include "control/child.h"
#include "control/gpus.h"
#include "host/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct doctor {
	struct vgpud *d;
	doctor_done done;
	void *data;
};

static json_t *check_json(
	const char *check, const char *status, const char *detail, const char *advice)
{
	return json_pack("{s:s, s:s, s:s, s:s?}", "check", check, "status", status, "detail",
		detail, "advice", advice);
}

static void share_checks(const struct vgpud *d, json_t *list)
{
	static const char advice[] =
		"give vgpud a control group of its own with the cpu controller "
		"(systemd: Delegate=cpu)";
	char detail[480];
	bool chosen = !strcmp(d->config.shares, "accounts");

	if (d->share.by == SHARE_BY_GROUPS)
		snprintf(detail, sizeof(detail),
			"equal-share and fixed-share by control groups, "
			"version %u",
			d->share.cgroup.version);
	else if (d->share.by == SHARE_BY_ACCOUNTS)
		snprintf(detail, sizeof(detail),
			"equal-share and fixed-share by accounts: whole device processes are "
			"stopped, so CPUs may idle and frames are less even, and vgpud needs a few "
			"%% of a CPU; %s",
			chosen ? "as configured" : d->share.why);
	else
		snprintf(detail, sizeof(detail), "GPUs can be shared as best-effort only: %s",
			d->share.why);
	bool good = d->share.by == SHARE_BY_GROUPS || (d->share.by == SHARE_BY_ACCOUNTS && chosen);
	json_array_append_new(
		list, check_json("cpu-shares", good ? "ok" : "warn", detail, good ? NULL : advice));
	for (size_t i = 0; i < d->n_gpus; i++) {
		const struct gpu *gpu = &d->gpus[i];
		if (gpu->sched.policy == SCHED_BEST_EFFORT || gpu->enforcer ||
			!vgpud_gpu_use(d, gpu->name, NULL).vgpus)
			continue;
		snprintf(detail, sizeof(detail), "%s: %s is not enforced", gpu->name,
			sched_policy_names[gpu->sched.policy]);
		json_array_append_new(list, check_json("policy", "fail", detail, advice));
	}
}

static void hotplug_check(const struct vgpud *d, json_t *list)
{
	static const char advice[] = "run vgpud outside of containers and user namespaces, or set "
				     "rescan_s in [node]";
	char detail[320];

	bool follows = gpus_hotplug(d, detail, sizeof(detail));
	json_array_append_new(list,
		check_json("hotplug", follows ? "ok" : "warn", detail, follows ? NULL : advice));
}

static void node_checks(const struct vgpud *d, json_t *list)
{
	char detail[160];

	snprintf(detail, sizeof(detail), "answers, %zu GPUs", d->n_gpus);
	json_array_append_new(list, check_json("vgpud", "ok", detail, NULL));
	share_checks(d, list);
	hotplug_check(d, list);
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		if (strcmp(vgpu_state(v), "failed") != 0)
			continue;
		json_array_append_new(list,
			check_json("vgpu", "warn", vgpu_failure(v),
				v->gpu_fault[0] ? "bring its GPU back, or move it: vgpuctl move"
						: "its next use starts a new device process; see "
						  "its keeper.log"));
	}
}

static void doctor_finish(void *data, json_t *list)
{
	struct doctor *doctor = data;

	if (!json_is_array(list)) {
		json_decref(list);
		list = json_array();
		json_array_append_new(
			list, check_json("doctor", "fail", "the checks did not end in time",
				      "run `vgpuctl doctor` where it can be watched"));
	}
	node_checks(doctor->d, list);
	doctor->done(doctor->data, list);
	free(doctor);
}

static json_t *doctor_work(const void *data)
{
	const struct vgpud *d = data;

	return host_doctor(d->device_path, &d->roots);
}

int doctor_start(struct vgpud *d, doctor_done done, void *data, struct error *err)
{
	struct doctor *doctor = calloc(1, sizeof(*doctor));
	int r = -ENOMEM;

	if (doctor) {
		*doctor = (struct doctor){.d = d, .done = done, .data = data};
		r = child_start(
			&d->children, d->event, doctor_work, d, DOCTOR_MS, doctor_finish, doctor);
	}
	if (r < 0) {
		free(doctor);
		return error_set(err, -r, "doctor: the checks cannot be started: %s (try again)",
			strerror(-r));
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "control/doctor.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "host/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DOCTOR_OUTPUT_MAX 65536u

struct doctor {
	struct vgpud *d;
	sd_event_source *io, *timer;
	int fd;
	pid_t pid;
	char output[DOCTOR_OUTPUT_MAX];
	size_t len;
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

static void node_checks(const struct vgpud *d, json_t *list)
{
	char detail[160];

	snprintf(detail, sizeof(detail), "answers, %zu GPUs", d->n_gpus);
	json_array_append_new(list, check_json("vgpud", "ok", detail, NULL));
	share_checks(d, list);
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		if (strcmp(vgpu_state(v), "failed") != 0)
			continue;
		json_array_append_new(list,
			check_json("vgpu", "warn", vgpu_failure(v),
				"its next use starts a new device process; see its keeper.log"));
	}
}

static void doctor_finish(struct doctor *doctor)
{
	json_t *list = json_loadb(doctor->output, doctor->len, 0, NULL);

	if (!json_is_array(list)) {
		json_decref(list);
		list = json_array();
		json_array_append_new(
			list, check_json("doctor", "fail", "the checks did not end in time",
				      "run `vgpuctl doctor` where it can be watched"));
	}
	node_checks(doctor->d, list);
	kill(doctor->pid, SIGKILL); /* not waited for yet, so still its pid */
	waitpid(doctor->pid, NULL, 0);
	sd_event_source_disable_unref(doctor->io);
	sd_event_source_disable_unref(doctor->timer);
	close_fd(&doctor->fd);
	doctor->done(doctor->data, list);
	free(doctor);
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct doctor *doctor = data;

	ssize_t n = read(fd, doctor->output + doctor->len, sizeof(doctor->output) - doctor->len);
	if (n > 0)
		doctor->len += (size_t)n;
	else if (n == 0 || errno != EAGAIN)
		doctor_finish(doctor);
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	doctor_finish(data);
	return 0;
}

static void doctor_child(const struct vgpud *d, int fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	json_t *list = host_doctor(d->device_path);
	char *text = json_dumps(list, JSON_COMPACT);
	size_t len = text ? strlen(text) : 0;
	_exit(text && write(fd, text, len) == (ssize_t)len ? 0 : 1);
}

int doctor_start(struct vgpud *d, doctor_done done, void *data, struct error *err)
{
	struct doctor *doctor = calloc(1, sizeof(*doctor));
	int pipes[2] = {-1, -1};

	if (!doctor || pipe2(pipes, O_CLOEXEC) < 0) {
		free(doctor);
		return error_set(err, ENOMEM, "doctor: no pipe or memory (free some)");
	}
	*doctor = (struct doctor){.d = d, .fd = pipes[0], .done = done, .data = data};
	doctor->pid = fork();
	if (doctor->pid == 0)
		doctor_child(d, pipes[1]);
	close(pipes[1]);
	int r = doctor->pid < 0 ? -errno
				: sd_event_add_io(d->event, &doctor->io, doctor->fd, EPOLLIN,
					  on_output, doctor);
	if (r >= 0)
		r = sd_event_add_time_relative(d->event, &doctor->timer, CLOCK_MONOTONIC,
			DOCTOR_MS * 1000ull, 0, on_timeout, doctor);
	if (r < 0) {
		if (doctor->pid > 0) {
			kill(doctor->pid, SIGKILL);
			waitpid(doctor->pid, NULL, 0);
		}
		sd_event_source_disable_unref(doctor->io);
		close_fd(&doctor->fd);
		free(doctor);
		return error_set(err, -r, "doctor: the checks cannot be started: %s (try again)",
			strerror(-r));
	}
	return 0;
}

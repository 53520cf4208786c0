/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the keeper of a vGPU: each waits until it is there, and is answered once. */
#include "control/vgpu_private.h"

#include "base/cleanup.h"
#include "control/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int vgpu_ensure(struct vgpu *v, const char *what, vgpu_done done, void *data, struct error *err)
{
	if (v->direct)
		return direct_refuse(v, what, err);
	if (v->def.phase != PHASE_DEFINED)
		return error_set(err, EBUSY, "%s: %s is %s (wait for that)", what, v->def.name,
			vgpu_state(v));
	if (v->link && v->have_status && v->status.state != KEEPER_STATE_STARTING) {
		done(data, NULL); /* a failed device process is restarted by the request itself */
		return 0;
	}
	int r = vgpu_wait(v, what, done, data, err);
	if (r == 0 && !v->link && !v->timer)
		vgpu_start(v);
	return r;
}

struct asking {
	struct vgpud *d;
	char name[VGPU_NAME_LONGEST + 1];
	char what[96];
	enum keeper_control_message type;
	bool until_ready; /* the answer is given when the device process serves */
	struct keeper_bind bind;
	struct keeper_screen screen;
	int fd;
	vgpu_fd_done done;
	void *data;
};

static void asking_end(struct asking *a, const struct error *err, int *fd)
{
	int none = -1;

	a->done(a->data, err, fd ? fd : &none);
	close_fd(&a->fd);
	free(a);
}

static void asking_end_code(struct asking *a, int code, const char *text)
{
	struct error err;

	if (code == -EBUSY || code == -EPERM)
		error_set(&err, -code, "%s: %s (end that first, or create another vGPU)", a->what,
			text);
	else
		error_set(&err, -code, "%s: %s (see `vgpuctl show %s`)", a->what, text, a->name);
	asking_end(a, &err, NULL);
}

static void on_asked_and_ready(void *data, const struct error *err)
{
	asking_end(data, err, NULL);
}

static void on_keeper_answer(void *data, int code, const char *text, int *fd)
{
	struct asking *a = data;
	struct vgpu *v = vgpud_find_vgpu(a->d, a->name);
	struct error err;

	if (code == -ENOENT && a->type == KEEPER_CONTROL_GET_SCREEN && v &&
		v->status.state == KEEPER_STATE_HIBERNATED) {
		error_set(&err, ENOENT,
			"%s: it hibernates and shows nothing (wake it: vgpuctl wake %s)", a->name,
			a->name);
		asking_end(a, &err, NULL);
		return;
	}
	if (code < 0) {
		asking_end_code(a, code, text);
		return;
	}
	if (a->until_ready && v && !vgpu_serves(v)) {
		if (vgpu_wait(v, a->what, on_asked_and_ready, a, &err) < 0)
			asking_end(a, &err, NULL);
		return;
	}
	asking_end(a, NULL, fd);
}

static void on_keeper_there(void *data, const struct error *err)
{
	struct asking *a = data;
	struct vgpu *v = vgpud_find_vgpu(a->d, a->name);
	const void *payload = a->type == KEEPER_CONTROL_GET_SCREEN ? (void *)&a->screen : &a->bind;

	/* A failed device process is restarted by the request; a keeper that is missing is not. */
	if (!v || !v->link) {
		struct error gone;
		error_set(&gone, EIO, "%s: its keeper is gone (see `vgpuctl show %s`)", a->what,
			a->name);
		asking_end(a, err ? err : &gone, NULL);
		return;
	}
	int r = link_request(v->link, a->type, payload, a->fd, on_keeper_answer, a);
	if (r < 0)
		asking_end_code(a, r, strerror(-r));
}

static int ask(struct vgpu *v, const struct asking *request, int fd, struct error *err)
{
	struct asking *a = malloc(sizeof(*a));

	if (!a)
		return error_set(err, ENOMEM, "%s: out of memory (free some)", request->what);
	*a = *request;
	a->d = v->d;
	a->fd = -1;
	snprintf(a->name, sizeof(a->name), "%s", v->def.name);
	if (fd >= 0) {
		a->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (a->fd < 0) {
			free(a);
			return error_set(err, errno, "%s: %s (see vgpud's limits)", request->what,
				strerror(errno));
		}
	}
	int r = vgpu_ensure(v, a->what, on_keeper_there, a, err);
	if (r < 0) {
		close_fd(&a->fd);
		free(a);
	}
	return r;
}

int vgpu_bind(struct vgpu *v, const struct keeper_bind *bind, int pidfd, vgpu_fd_done done,
	void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_BIND,
		.until_ready = true,
		.bind = *bind,
		.done = done,
		.data = data};
	snprintf(a.what, sizeof(a.what), "bind %s", v->def.name);
	return ask(v, &a, pidfd, err);
}

int vgpu_unbind(struct vgpu *v, vgpu_fd_done done, void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_UNBIND, .done = done, .data = data};
	snprintf(a.what, sizeof(a.what), "unbind %s", v->def.name);
	return ask(v, &a, -1, err);
}

int vgpu_adopt(struct vgpu *v, const struct keeper_bind *bind, int fd, vgpu_fd_done done,
	void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_ADOPT, .bind = *bind, .done = done, .data = data};
	snprintf(a.what, sizeof(a.what), "serve %s", v->def.name);
	return ask(v, &a, fd, err);
}

int vgpu_screen(struct vgpu *v, uint32_t head, vgpu_fd_done done, void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_GET_SCREEN,
		.screen = {.head = head},
		.done = done,
		.data = data};
	snprintf(a.what, sizeof(a.what), "screenshot %s", v->def.name);
	return ask(v, &a, -1, err);
}

bool vgpu_stats(const struct vgpu *v, struct vgpu_stats *ret)
{
	if (v->stats_fd < 0 || pread(v->stats_fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
		return false;
	return ret->magic == VGPU_STATS_MAGIC && ret->version == VGPU_STATS_VERSION;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Requests about one vGPU, but for its creation (api_create.c) and its state (api_state.c). */
#include "control/api_internal.h"

#include "base/cleanup.h"
#include "control/direct.h"
#include "control/render.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void api_vgpu_list(struct api *api, struct http_request *request, const char *name)
{
	json_t *list = json_array();

	for (const struct vgpu *v = api->d->vgpus; v; v = v->next)
		json_array_append_new(list, render_vgpu(v));
	http_reply_json(request, 200, list);
}

void api_vgpu_show(struct api *api, struct http_request *request, const char *name)
{
	const struct vgpu *v = api_find_vgpu(api, request, name);

	if (v)
		http_reply_json(request, 200, render_vgpu(v));
}

void api_vgpu_stats(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);

	if (v)
		http_reply_json(request, 200, render_stats(v));
}

/* --- delete --- */

static void on_vgpu_deleted(void *data, const struct error *err)
{
	api_call_end(data, err, 200, err ? NULL : json_object());
}

void api_vgpu_delete(struct api *api, struct http_request *request, const char *name)
{
	const char *asked = http_query(request, "force");
	bool force = asked && !strcmp(asked, "1");
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call)
		api_call_started(call, vgpu_delete(v, force, on_vgpu_deleted, call, &err), &err);
}

/* --- screenshot --- */

static void on_screen(void *data, const struct error *err, int *fd)
{
	struct api_call *call = data;
	struct error why;
	void *png;
	size_t size;

	if (!err) {
		const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);
		const struct type *type = v ? &v->def.type : NULL;
		int r = type ? render_png(*fd, type->max_width, type->max_height, &png, &size)
			     : -ENODATA;
		if (r < 0)
			error_set(&why, -r, "screenshot %s: %s (try again when it draws)",
				call->name,
				r == -ENODATA ? "that head shows nothing"
					      : "its screen cannot be read");
		err = r < 0 ? &why : NULL;
	}
	if (err) {
		api_call_end(call, err, 0, NULL);
		return;
	}
	http_reply_bytes(call->request, "image/png", png, size);
	api_call_free(call);
}

void api_vgpu_screenshot(struct api *api, struct http_request *request, const char *name)
{
	const char *head = http_query(request, "head");
	struct vgpu *v = api_find_vgpu(api, request, name);
	char *end = NULL;
	struct error err;

	if (!v)
		return;
	if (v->direct) {
		direct_refuse(v, "screenshot", &err);
		http_reply_error(request, &err);
		return;
	}
	unsigned long number = head && isdigit((unsigned char)*head) ? strtoul(head, &end, 10) : 0;
	if ((head && (!end || *end)) || number >= v->def.type.heads) {
		error_set(&err, EINVAL, "screenshot %s: it has no such head (it has %u, from 0)",
			name, v->def.type.heads);
		http_reply_error(request, &err);
		return;
	}
	struct api_call *call = api_call_new(api, request, name);
	if (call)
		api_call_started(
			call, vgpu_screen(v, (uint32_t)number, on_screen, call, &err), &err);
}

static bool is_size(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	return digits && digits < 16 &&
	       (!text[digits] || (strchr("kKmMgGtT", text[digits]) && !text[digits + 1]));
}

void api_vgpu_qemu_args(struct api *api, struct http_request *request, const char *name)
{
	const char *vga = http_query(request, "vga"), *memory = http_query(request, "memory");
	const struct vgpu *v = api_find_vgpu(api, request, name);

	if (!v)
		return;
	struct error err;
	json_t *json = NULL;
	if (memory && !is_size(memory))
		error_set(&err, EINVAL,
			"qemu-args: that is no size of memory (give digits with K, M, G or T)");
	else if (v->direct)
		json = direct_qemu_args(v, &err);
	else
		json = render_qemu_args(v, vga && !strcmp(vga, "1"), memory);
	if (json)
		http_reply_json(request, 200, json);
	else
		http_reply_error(request, &err);
}

/* --- bind --- */

static void on_bound(void *data, const struct error *err, int *fd)
{
	struct api_call *call = data;
	const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);

	api_call_end(call, err, 200, err ? NULL : v ? render_bind(v) : json_object());
}

/* A pidfd of `pid` if that is a process of the peer (or the peer is root); -errno. */
static int peer_pidfd(const struct ucred *peer, pid_t pid, char *ret_comm, size_t size)
{
	char path[64];
	struct stat owner;

	cleanup_close int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	cleanup_fclose FILE *f = fopen(path, "re");
	if (!f || fstat(fileno(f), &owner) < 0 || !fgets(ret_comm, (int)size, f))
		return -ESRCH;
	ret_comm[strcspn(ret_comm, "\n")] = '\0';
	/* The process was alive after its owner was read, so both are of one process. */
	if (syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0) < 0 && errno != EPERM)
		return -ESRCH;
	if (peer->uid != 0 && owner.st_uid != peer->uid)
		return -EPERM;
	return TAKE_FD(fd);
}

static void bind_process(
	struct api *api, struct http_request *request, struct vgpu *v, pid_t pid, const char *label)
{
	const struct ucred *peer = http_peer(request);
	struct keeper_bind bind = {
		.kind = KEEPER_BINDING_PROCESS, .pid = (uint32_t)pid, .uid = peer->uid};
	char comm[32] = "?";
	struct error err;

	cleanup_close int pidfd = peer_pidfd(peer, pid, comm, sizeof(comm));
	if (pidfd < 0) {
		error_set(&err, EPERM, "bind %s: process %d is not one of yours (bind your own)",
			v->def.name, (int)pid);
		http_reply_error(request, &err);
		return;
	}
	snprintf(bind.label, sizeof(bind.label), "%.120s[%d] uid %u", label ? label : comm,
		(int)pid, peer->uid);
	struct api_call *call = api_call_new(api, request, v->def.name);
	if (call)
		api_call_started(call, vgpu_bind(v, &bind, pidfd, on_bound, call, &err), &err);
}

void api_vgpu_bind(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct error err;
	json_error_t where;
	int pid = 0;
	const char *label = NULL;

	if (!v)
		return;
	json_t *body = http_json(request, &err);
	if (!body) {
		http_reply_error(request, &err);
	} else if (json_unpack_ex(body, &where, JSON_STRICT, "{s?i, s?s}", "pid", &pid, "label",
			   &label) < 0) {
		error_set(&err, EINVAL, "bind %s: %s (see docs/api.md)", name, where.text);
		http_reply_error(request, &err);
	} else {
		bind_process(api, request, v, pid > 0 ? pid : http_peer(request)->pid, label);
	}
}

static void on_unbound(void *data, const struct error *err, int *fd)
{
	api_call_end(data, err, 200, err ? NULL : json_object());
}

void api_vgpu_unbind(struct api *api, struct http_request *request, const char *name)
{
	const struct ucred *peer = http_peer(request);
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct error err;

	if (!v)
		return;
	if (!vgpu_bound(v)) {
		http_reply_json(request, 200, json_object());
		return;
	}
	if (!v->direct && peer->uid != 0 && v->status.binding_pid != (uint32_t)peer->pid) {
		error_set(&err, EPERM, "unbind %s: it is held by %s (end that)", name,
			vgpu_holder(v));
		http_reply_error(request, &err);
		return;
	}
	struct api_call *call = api_call_new(api, request, name);
	if (call)
		api_call_started(call, vgpu_unbind(v, on_unbound, call, &err), &err);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api.h"

#include "control/api_internal.h"
#include "control/direct.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "control/advise_show.h"
#include "control/doctor.h"
#include "control/memory.h"
#include "control/render.h"
#include "host/report.h"
#include "metrics/prometheus.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define API_EVENT_WAIT_MS 30000u
typedef void (*api_handler)(struct api *api, struct http_request *request, const char *name);

static void refuse(struct http_request *request, int code, const char *what, const char *why)
{
	struct error err;

	error_set(&err, code, "%s: %s", what, why);
	http_reply_error(request, &err);
}

struct vgpu *api_find_vgpu(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = vgpud_find_vgpu(api->d, name);
	struct error err;

	if (!v) {
		error_set(&err, ENOENT, "%.64s: there is no vGPU of that name (see `vgpuctl list`)",
			name);
		http_reply_error(request, &err);
	}
	return v;
}

struct api_call *api_call_new(struct api *api, struct http_request *request, const char *name)
{
	struct api_call *call = malloc(sizeof(*call));

	if (!call) {
		refuse(request, ENOMEM, "request", "out of memory (free some)");
		return NULL;
	}
	*call = (struct api_call){.api = api, .request = request, .fd = -1};
	snprintf(call->name, sizeof(call->name), "%.63s", name);
	return call;
}

/* --- lists --- */

static void api_gpu_list(struct api *api, struct http_request *request, const char *name)
{
	json_t *list = json_array();

	for (size_t i = 0; i < api->d->n_gpus; i++) {
		if (!api->d->gpus[i].gone)
			json_array_append_new(list, render_gpu(api->d, &api->d->gpus[i]));
	}
	http_reply_json(request, 200, list);
}

static void api_type_list(struct api *api, struct http_request *request, const char *name)
{
	const char *gpu = http_query(request, "gpu");
	json_t *list;

	if (gpu && !api_find_gpu(api, request, gpu))
		return;
	list = json_array();
	for (size_t i = 0; i < api->d->n_types; i++) {
		const struct type *type = &api->d->types[i];
		if (!gpu || !strcmp(type->gpu, gpu))
			json_array_append_new(list, render_type(api->d, type));
	}
	http_reply_json(request, 200, list);
}

static void api_vgpu_list(struct api *api, struct http_request *request, const char *name)
{
	json_t *list = json_array();

	for (const struct vgpu *v = api->d->vgpus; v; v = v->next)
		json_array_append_new(list, render_vgpu(v));
	http_reply_json(request, 200, list);
}

static void api_vgpu_show(struct api *api, struct http_request *request, const char *name)
{
	const struct vgpu *v = api_find_vgpu(api, request, name);

	if (v)
		http_reply_json(request, 200, render_vgpu(v));
}

static void api_vgpu_stats(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);

	if (v)
		http_reply_json(request, 200, render_stats(v));
}

static void api_stats(struct api *api, struct http_request *request, const char *name)
{
	json_t *list = json_array();

	for (struct vgpu *v = api->d->vgpus; v; v = v->next)
		json_array_append_new(list, render_stats(v));
	http_reply_json(request, 200, list);
}

static void api_metrics(struct api *api, struct http_request *request, const char *name)
{
	size_t size;
	char *text = render_metrics(api->d, &size);

	if (text)
		http_reply_bytes(request, METRICS_CONTENT_TYPE, text, size);
	else
		refuse(request, ENOMEM, "metrics", "out of memory (free some)");
}

/* --- create, delete --- */

static void on_vgpu_created(void *data, const struct error *err)
{
	struct api_call *call = data;
	const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);

	if (err)
		http_reply_error(call->request, err);
	else
		http_reply_json(call->request, 201, v ? render_vgpu(v) : json_object());
	free(call);
}

static void api_vgpu_create(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu_request create = {0};
	struct error err = {0};
	json_error_t where;
	json_t *body = http_json(request, &err);

	if (!body) {
		http_reply_error(request, &err);
		return;
	}
	if (json_unpack_ex(body, &where, JSON_STRICT, "{s:s, s:s, s?s, s?s, s?s, s?s}", "name",
		    &create.name, "gpu", &create.gpu, "type", &create.type, "method",
		    &create.method, "tenant", &create.tenant, "owner", &create.owner) < 0) {
		error_set(&err, EINVAL, "create: %s (see docs/api.md)", where.text);
		http_reply_error(request, &err);
		return;
	}
	create.asker_uid = http_peer(request)->uid;
	create.asker_gid = http_peer(request)->gid;
	struct api_call *call = api_call_new(api, request, create.name);
	if (call && vgpu_create(api->d, &create, on_vgpu_created, call, &err) < 0) {
		http_reply_error(request, &err);
		free(call);
	}
}

static void on_vgpu_deleted(void *data, const struct error *err)
{
	struct api_call *call = data;

	if (err)
		http_reply_error(call->request, err);
	else
		http_reply_json(call->request, 200, json_object());
	free(call);
}

static void api_vgpu_delete(struct api *api, struct http_request *request, const char *name)
{
	const char *force = http_query(request, "force");
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call && vgpu_delete(v, force && !strcmp(force, "1"), on_vgpu_deleted, call, &err) < 0) {
		http_reply_error(request, &err);
		free(call);
	}
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
	if (err)
		http_reply_error(call->request, err);
	else
		http_reply_bytes(call->request, "image/png", png, size);
	free(call);
}

static void api_vgpu_screenshot(struct api *api, struct http_request *request, const char *name)
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
	if (call && vgpu_screen(v, (uint32_t)number, on_screen, call, &err) < 0) {
		http_reply_error(request, &err);
		free(call);
	}
}

static bool is_size(const char *text)
{
	size_t digits = strspn(text, "0123456789");
	return digits && digits < 16 &&
	       (!text[digits] || (strchr("kKmMgGtT", text[digits]) && !text[digits + 1]));
}

static void api_vgpu_qemu_args(struct api *api, struct http_request *request, const char *name)
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

	if (err)
		http_reply_error(call->request, err);
	else
		http_reply_json(call->request, 200, v ? render_bind(v) : json_object());
	free(call);
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
	if (call && vgpu_bind(v, &bind, pidfd, on_bound, call, &err) < 0) {
		http_reply_error(request, &err);
		free(call);
	}
}

static void api_vgpu_bind(struct api *api, struct http_request *request, const char *name)
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
	struct api_call *call = data;

	if (err)
		http_reply_error(call->request, err);
	else
		http_reply_json(call->request, 200, json_object());
	free(call);
}

static void api_vgpu_unbind(struct api *api, struct http_request *request, const char *name)
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
	if (call && vgpu_unbind(v, on_unbound, call, &err) < 0) {
		http_reply_error(request, &err);
		free(call);
	}
}

/* --- events --- */

static void reply_events(struct api *api, struct http_request *request, uint64_t after)
{
	json_t *list = json_array();
	const struct event *event;

	while ((event = events_next(&api->d->events, after))) {
		json_array_append_new(list, render_event(event));
		after = event->number;
	}
	http_reply_json(request, 200, list);
}

static void wake_waiters(void *data)
{
	struct api *api = data;
	struct api_waiter waiters[API_WAITERS];
	unsigned n = api->n_waiters;

	memcpy(waiters, api->waiters, sizeof(waiters));
	api->n_waiters = 0;
	for (unsigned i = 0; i < n; i++)
		reply_events(api, waiters[i].request, waiters[i].after);
}

static int on_wait_over(sd_event_source *source, uint64_t usec, void *data)
{
	wake_waiters(data);
	return 0;
}

static void api_events(struct api *api, struct http_request *request, const char *name)
{
	const char *after_text = http_query(request, "after");
	const char *wait = http_query(request, "wait");
	uint64_t after = 0;

	if (after_text && !parse_number(after_text, 10, UINT64_MAX, &after)) {
		refuse(request, EINVAL, "events",
			"`after` is no number (give the number of the last event you know)");
		return;
	}
	if (events_next(&api->d->events, after) || !wait || strcmp(wait, "1") != 0 ||
		api->n_waiters == API_WAITERS) {
		reply_events(api, request, after);
		return;
	}
	api->waiters[api->n_waiters++] = (struct api_waiter){request, after};
	if (api->n_waiters == 1) {
		sd_event_source_set_time_relative(api->timer, API_EVENT_WAIT_MS * 1000ull);
		sd_event_source_set_enabled(api->timer, SD_EVENT_ONESHOT);
	}
}

/* --- doctor --- */

static void on_doctor(void *data, json_t *checks)
{
	http_reply_json(data, 200, checks);
}

static void api_doctor(struct api *api, struct http_request *request, const char *name)
{
	struct error err;

	if (doctor_start(api->d, on_doctor, request, &err) < 0)
		http_reply_error(request, &err);
}

/* --- dispatch --- */

struct route {
	const char *method, *path;
	api_handler handler;
	const char *summary, *request, *answer;
};

#define X(m, p, h, s, r, a) {m, p, h, s, r, a},
static const struct route routes[] = {API_ROUTES(X)};
#undef X

/* Does `path` fit the pattern? Copies what stands at NAME; NAME never holds a slash. */
static bool route_fits(const char *pattern, const char *path, char *ret_name, size_t size)
{
	const char *mark = strstr(pattern, "NAME");

	ret_name[0] = '\0';
	if (!mark)
		return !strcmp(pattern, path);
	size_t before = (size_t)(mark - pattern);
	if (strncmp(pattern, path, before) != 0)
		return false;
	path += before;
	size_t len = strcspn(path, "/");
	if (!len || len >= size || strcmp(path + len, mark + 4) != 0)
		return false;
	memcpy(ret_name, path, len);
	ret_name[len] = '\0';
	return true;
}

void api_handle(void *data, struct http_request *request)
{
	char name[128];
	bool path_known = false;
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!route_fits(routes[i].path, http_path(request), name, sizeof(name)))
			continue;
		path_known = true;
		if (!strcmp(routes[i].method, http_method(request))) {
			routes[i].handler(data, request, name);
			return;
		}
	}
	if (path_known) {
		error_set(&err, EINVAL, "request: that path has no method %.16s (see docs/api.md)",
			http_method(request));
		http_reply_error_status(request, 405, &err);
	} else {
		error_set(&err, ENOENT, "request: there is nothing at %.128s (see docs/api.md)",
			http_path(request));
		http_reply_error(request, &err);
	}
}

void api_handle_metrics(void *data, struct http_request *request)
{
	if (!strcmp(http_path(request), "/metrics") && !strcmp(http_method(request), "GET"))
		api_metrics(data, request, "");
	else
		refuse(request, ENOENT, "request", "here is nothing but GET /metrics");
}

int api_create(struct vgpud *d, struct api **ret)
{
	struct api *api = calloc(1, sizeof(*api));

	if (!api)
		return -ENOMEM;
	api->d = d;
	int r = sd_event_add_time(
		d->event, &api->timer, CLOCK_MONOTONIC, UINT64_MAX, 100000, on_wait_over, api);
	if (r < 0) {
		free(api);
		return r;
	}
	sd_event_source_set_enabled(api->timer, SD_EVENT_OFF);
	d->events.added = wake_waiters;
	d->events.data = api;
	*ret = api;
	return 0;
}

void api_destroy(struct api *api)
{
	if (!api)
		return;
	api->d->events.added = NULL;
	sd_event_source_disable_unref(api->timer);
	free(api);
}

/* --- docs/api.md --- */

struct field {
	const char *name, *type, *meaning;
};

static void print_fields(FILE *out, const char *title, const struct field *fields, size_t n)
{
	fprintf(out, "\n### %s\n\n| field | type | meaning |\n|---|---|---|\n", title);
	for (size_t i = 0; i < n; i++)
		fprintf(out, "| `%s` | %s | %s |\n", fields[i].name, fields[i].type,
			fields[i].meaning);
}

#define F(name, type, meaning) {#name, type, meaning},
#define S(name, kind, help)    {#name, "number", help},

static void api_print_metrics(FILE *out)
{
	fprintf(out,
		"\n## Metrics\n\n"
		"`GET /metrics` answers on this socket, and alone on the address that the "
		"configuration names\n(`[metrics] listen`, loopback only), to anybody on this "
		"node. Each field of stats is there as\n`vgpud_FIELD{vgpu=\"NAME\"}`, times in "
		"seconds: `gpu_time_ns_total` is `vgpud_gpu_time_seconds_total`.\n"
		"`frame_times` is the histogram `vgpud_frame_time_seconds`, its `le`");
	fprintf(out, " in seconds:");
#define BOUND(X, us, le) " " le
	fprintf(out, "%s +Inf.\n", VGPU_FRAME_TIMES(BOUND, ));
#undef BOUND
	fprintf(out, "`vgpud_vgpu_info` is 1, with the labels vgpu, gpu, type, method and state. "
		     "Beside them:\n\n| metric | meaning |\n|---|---|\n");
#define X(name, kind, help) fprintf(out, "| `vgpud_" #name "` | " help " |\n");
	METRICS_EVENTS_TABLE(X)
#undef X
}

void api_print(FILE *out)
{
	static const struct field gpu[] = {RENDER_GPU_FIELDS(F)}, type[] = {RENDER_TYPE_FIELDS(F)},
				  vgpu[] = {RENDER_VGPU_FIELDS(F) MEMORY_VGPU_FIELDS(F)},
				  node[] = {MEMORY_NODE_FIELDS(F)}, vm[] = {MEMORY_VM_FIELDS(F)},
				  ksm[] = {MEMORY_KSM_FIELDS(F)},
				  event[] = {RENDER_EVENT_FIELDS(F)},
				  check[] = {RENDER_CHECK_FIELDS(F)},
				  report[] = {REPORT_GPU_FIELDS(F)},
				  method[] = {REPORT_METHOD_FIELDS(F)},
				  pci[] = {REPORT_PCI_FIELDS(F)},
				  iommu[] = {REPORT_IOMMU_FIELDS(F)},
				  sriov[] = {REPORT_SRIOV_FIELDS(F)},
				  mdev[] = {REPORT_MDEV_FIELDS(F)},
				  vendor[] = {REPORT_VENDOR_FIELDS(F)},
				  stats[] = {METRICS_TABLE(S) RENDER_STATS_FIELDS(F)},
				  sample[] = {RENDER_SAMPLE_FIELDS(F)},
				  advice[] = {ADVICE_FIELDS(F)},
				  answer[] = {ADVICE_ANSWER_FIELDS(F)},
				  result[] = {RENDER_RESULT_FIELDS(F)};

	fprintf(out,
		"# vgpud's HTTP API\n\n"
		"On the Unix socket `RUN_DIR/vgpud.sock`. Served are root, vgpud's own user and "
		"members of its\ngroup, known by the kernel's peer credentials. Bodies are JSON "
		"objects of at most 64 KiB where nothing else is said.\nFields are added, never "
		"renamed. An error answers "
		"`{\"error\": {\"code\": \"EBUSY\", \"message\":\n\"WHAT: WHY (WHAT TO DO)\"}}` "
		"with status 400 (malformed), 403 (not allowed), 404 (not there),\n405 (method), "
		"409 (a rule or the present state forbids it), 413 (body too large), 507 (disk or "
		"GPU full),\n500 or 503.\n\nThis file is made by `vgpud --print-api`.\n\n"
		"| request | what | takes | answers |\n|---|---|---|---|\n");
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++)
		fprintf(out, "| `%s %s` | %s | %s | %s |\n", routes[i].method, routes[i].path,
			routes[i].summary, routes[i].request, routes[i].answer);
	fprintf(out, "\n## Objects\n");
	print_fields(out, "GPU", gpu, ARRAY_SIZE(gpu));
	print_fields(out, "shown GPU (beside those of GPU)", report, ARRAY_SIZE(report));
	print_fields(out, "method", method, ARRAY_SIZE(method));
	print_fields(out, "pci", pci, ARRAY_SIZE(pci));
	print_fields(out, "iommu", iommu, ARRAY_SIZE(iommu));
	print_fields(out, "sriov", sriov, ARRAY_SIZE(sriov));
	print_fields(out, "mdev", mdev, ARRAY_SIZE(mdev));
	print_fields(out, "vendor", vendor, ARRAY_SIZE(vendor));
	print_fields(out, "type", type, ARRAY_SIZE(type));
	print_fields(out, "vGPU", vgpu, ARRAY_SIZE(vgpu));
	print_fields(out, "node", node, ARRAY_SIZE(node));
	print_fields(out, "VM", vm, ARRAY_SIZE(vm));
	print_fields(out, "KSM", ksm, ARRAY_SIZE(ksm));
	print_fields(out, "event", event, ARRAY_SIZE(event));
	print_fields(out, "check", check, ARRAY_SIZE(check));
	print_fields(out, "advice", advice, ARRAY_SIZE(advice));
	print_fields(out, "answer", answer, ARRAY_SIZE(answer));
	print_fields(out, "result (beside `name`)", result, ARRAY_SIZE(result));
	print_fields(out, "stats (beside `name`, `gpu` and `state`)", stats, ARRAY_SIZE(stats));
	print_fields(out, "sample", sample, ARRAY_SIZE(sample));
	api_print_metrics(out);
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "control/handover.h"

#include "base/cleanup.h"
#include "control/gpu_rules.h"
#include "host/domain_alias.h"
#include "protocol/handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct handover {
	struct vgpud *d;
	sd_event_source *io;
	int fd;
	unsigned helpers;
};

struct helper {
	struct handover *handover;
	sd_event_source *io, *timer;
	int fd;
	int offered; /* the vhost-user connection */
	struct ucred peer;
	char domain[KEEPER_TEXT_MAX - 32];
	char name[VGPU_NAME_LONGEST + 1];
};

static void helper_free(struct helper *h)
{
	h->handover->helpers--;
	sd_event_source_disable_unref(h->io);
	sd_event_source_disable_unref(h->timer);
	close_fd(&h->fd);
	close_fd(&h->offered);
	free(h);
}

static void helper_answer(struct helper *h, const struct error *err)
{
	struct handover_answer answer = {.code = err ? -err->code : 0};

	if (err) {
		snprintf(answer.text, sizeof(answer.text), "%s", err->text);
		events_add(
			&h->handover->d->events, h->name, "libvirt is refused: %.200s", err->text);
	}
	packet_send(h->fd, &handover_table, HANDOVER_ANSWER, &answer, -1);
	helper_free(h);
}

static void on_adopted(void *data, const struct error *err, int *fd)
{
	helper_answer(data, err);
}

static void helper_adopt(struct helper *h)
{
	struct vgpu *v = vgpud_find_vgpu(h->handover->d, h->name);
	struct keeper_bind bind = {
		.kind = KEEPER_BINDING_VM, .pid = (uint32_t)h->peer.pid, .uid = h->peer.uid};
	struct error err;
	char what[96];

	snprintf(bind.label, sizeof(bind.label), HANDOVER_LABEL "%s", h->domain);
	const struct vgpu *has = v ? vgpud_vm_has(h->handover->d, 0, h->domain, v) : NULL;
	snprintf(what, sizeof(what), "serve %s", h->name);
	int r = rules_vm_admit(h->name, has ? has->def.name : NULL, what, &err);
	if (!v)
		r = error_set(
			&err, ENOENT, "%s: its vGPU is gone (start the domain again)", h->name);
	if (r == 0)
		r = vgpu_adopt(v, &bind, h->offered, on_adopted, h, &err);
	if (r < 0)
		helper_answer(h, &err);
}

static void on_created(void *data, const struct error *err)
{
	if (err)
		helper_answer(data, err);
	else
		helper_adopt(data);
}

/* Who asks for a vhost-user device is never to get a GPU or a slice, whatever its GPU is kept for.
 */
static const char *helper_method(const struct vgpud *d, const char *name)
{
	const struct gpu *gpu = vgpud_find_gpu(d, name);

	return method_names[gpu && gpu->kept && gpu->mode == METHOD_EMULATE ? METHOD_EMULATE
									    : METHOD_FORWARD];
}

static void helper_create(struct helper *h)
{
	struct vgpud *d = h->handover->d;
	const struct config *config = &d->config;
	struct vgpu_request request = {.name = h->name,
		.gpu = config->libvirt_gpu[0] ? config->libvirt_gpu
					      : (d->n_gpus ? d->gpus[0].name : "soft0"),
		.type = config->libvirt_type[0] ? config->libvirt_type : NULL};
	struct error err;

	request.method = helper_method(d, request.gpu);
	if (!config->libvirt_create)
		error_set(&err, ENOENT,
			"%s: there is no vGPU for this domain (create one of that name, or set "
			"create=yes in [libvirt])",
			h->name);
	else if (vgpu_create(d, &request, on_created, h, &err) == 0)
		return;
	helper_answer(h, &err);
}

static bool name_from_offer(const struct handover_offer *offer, char *ret)
{
	if (!offer->vgpu[0])
		return domain_alias_by_domain(offer->domain, ret);
	snprintf(ret, VGPU_NAME_LONGEST + 1, "%s", offer->vgpu);
	return name_valid(ret);
}

static int on_offer(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct helper *h = data;
	struct packet p;
	struct error err;

	int r = packet_recv(h->fd, &handover_table, HANDOVER_FROM_HELPER, &p);
	if (r == -EAGAIN)
		return 0;
	if (r <= 0) {
		helper_free(h);
		return 0;
	}
	struct handover_offer *offer = (void *)p.payload;
	h->io = sd_event_source_disable_unref(h->io);
	h->timer = sd_event_source_disable_unref(h->timer);
	h->offered = p.fd;
	packet_text(offer->domain, sizeof(offer->domain));
	packet_text(offer->vgpu, sizeof(offer->vgpu));
	snprintf(h->domain, sizeof(h->domain), "%.200s", offer->domain);
	if (offer->version != HANDOVER_VERSION) {
		error_set(&err, EPROTO,
			"helper: it is of another version (install both of one build)");
		helper_answer(h, &err);
	} else if (!name_from_offer(offer, h->name)) {
		error_set(&err, EINVAL, "helper: the domain or its vGPU has no name (give it one)");
		helper_answer(h, &err);
	} else if (vgpud_find_vgpu(h->handover->d, h->name)) {
		helper_adopt(h);
	} else if (offer->vgpu[0]) {
		/* It was chosen, so no other will do. */
		error_set(&err, ENOENT,
			"%s: the domain asks for this vGPU, which is not there (create it, or "
			"`vgpuctl libvirt detach` it)",
			h->name);
		helper_answer(h, &err);
	} else {
		helper_create(h);
	}
	return 0;
}

static int on_silence(sd_event_source *source, uint64_t usec, void *data)
{
	helper_free(data);
	return 0;
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t events, void *data)
{
	struct handover *handover = data;
	socklen_t len = sizeof(struct ucred);

	cleanup_close int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 || handover->helpers >= HANDOVER_HELPERS)
		return 0;
	struct helper *h = calloc(1, sizeof(*h));
	if (!h)
		return 0;
	*h = (struct helper){.handover = handover, .fd = TAKE_FD(fd), .offered = -1};
	handover->helpers++;
	sd_event *event = handover->d->event;
	if (getsockopt(h->fd, SOL_SOCKET, SO_PEERCRED, &h->peer, &len) < 0 ||
		sd_event_add_io(event, &h->io, h->fd, EPOLLIN, on_offer, h) < 0 ||
		sd_event_add_time_relative(event, &h->timer, CLOCK_MONOTONIC, HANDOVER_MS * 1000ull,
			0, on_silence, h) < 0)
		helper_free(h);
	return 0;
}

int handover_create(struct vgpud *d, int listen_fd, struct handover **ret)
{
	struct handover *handover = calloc(1, sizeof(*handover));
	int r = handover ? 0 : -ENOMEM;

	if (handover) {
		*handover = (struct handover){.d = d, .fd = listen_fd};
		r = sd_event_add_io(
			d->event, &handover->io, listen_fd, EPOLLIN, on_connection, handover);
	}
	if (r < 0) {
		close(listen_fd);
		free(handover);
		return r;
	}
	*ret = handover;
	return 0;
}

void handover_destroy(struct handover *handover)
{
	if (!handover)
		return;
	sd_event_source_disable_unref(handover->io);
	close_fd(&handover->fd);
	free(handover);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * vgpu-device: one vGPU's data plane in a process of its own.
 *
 *   vgpu-keeper ──channel──▶ connections ─▶ vhost-user ─┐
 *        ▲                               └─▶ vtest ─────┴─▶ device ─▶ stream, renderer
 *        └── custody, screens, stats, notices ◀────────────────┘
 *
 * It opens everything it needs, initialises the host's driver, locks itself down, says READY, and
 * only then takes the first connection from the keeper, whose bytes are a guest's. It exits 0 when
 * the keeper says so or goes away, and 1 with a FAILED message when it cannot serve.
 */

#include "process/channel.h"
#include "process/configure.h"
#include "process/connections.h"
#include "process/formats.h"
#include "process/gate.h"
#include "process/options.h"
#include "process/pacer.h"
#include "process/render_node.h"
#include "process/resident.h"
#include "process/screens.h"
#include "process/shader_cache.h"
#include "process/succession.h"
#include "process/trimmer.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/crash_point.h"
#include "base/log.h"
#include "base/loop.h"
#include "device/device.h"
#include "frontend/vhost_user/guard.h"
#include "isolation/isolation.h"

#include "protocol/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct process {
	struct options options;
	struct formats formats;
	struct isolation *isolation;
	struct loop *loop;
	struct vgpu_stats *stats;
	int stats_fd;
	struct device *device;
	struct screens *screens;
	struct succession *succession;
	struct trimmer *trimmer;
	struct resident resident;
	struct shader_cache *shaders; /* NULL: they are not kept */
	struct connections *connections;
	struct gate *gate;
	struct pacer *pacer;
	struct configure configure;
	char render_node[RENDER_NODE_MAX]; /* its path; "": software */
	const char *drop_section;          /* for tests: passed over when loading; NULL: none */
};

static int process_fail(const struct process *p, int err, const char *what, const char *advice)
{
	char text[KEEPER_TEXT_MAX];

	snprintf(text, sizeof(text), "%s: %s (%s)", what, strerror(-err), advice);
	log_error("%s", text);
	if (p->options.keeper_fd >= 0)
		channel_send_text(p->options.keeper_fd, KEEPER_DEVICE_FAILED, text);
	return 1;
}

static int process_fail_lockdown(const struct process *p, int err, const char *what)
{
	char missing[160] = "";

	if (p->isolation)
		isolation_missing(p->isolation, missing, sizeof(missing));
	return process_fail(p, err, what,
		missing[0] ? missing : "vgpuctl doctor says what this node does not allow");
}

/* ---- lock-down: protections go up in four stages around the renderer's start ---- */

/* -EINVAL: no such mode. */
static int process_lockdown_mode(const char *name, enum isolation_mode *ret)
{
	static const char *const names[] = {[ISOLATION_STRICT] = "strict",
		[ISOLATION_BEST_EFFORT] = "best-effort",
		[ISOLATION_OFF] = "off"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			*ret = (enum isolation_mode)i;
			return 0;
		}
	}
	return -EINVAL;
}

/* While sysfs can still be read. */
static int process_find_node(struct process *p)
{
	return p->options.render_node ? render_node_find(p->options.render_node, p->render_node)
				      : 0;
}

static int process_fail_node(const struct process *p, int err)
{
	char what[160];

	snprintf(what, sizeof(what), "%.64s: %s", p->options.render_node,
		err == -ENODEV   ? "the GPU is not on this node"
		: err == -ENOENT ? "its driver gives it no render node"
				 : "that names no render node");
	return process_fail(p, err, what, "see vgpuctl gpu list");
}

static int process_begin(struct process *p)
{
	enum isolation_mode mode;
	const struct options *o = &p->options;
	const int keep[] = {o->keeper_fd, o->stats_fd};
	struct stat node;

	if (process_lockdown_mode(o->lockdown, &mode) < 0)
		return -EINVAL;
	const struct isolation_config config = {
		.mode = mode,
		.keep_fds = keep,
		.n_keep_fds = o->probe ? 0 : ARRAY_SIZE(keep),
		.software = !p->render_node[0],
		.threads_later = p->render_node[0],
		.max_fds = CONNECTIONS_MAX_FDS,
		.scratch_bytes = o->probe ? 0 : SHADER_CACHE_BYTES,
		.node_group = p->render_node[0] && stat(p->render_node, &node) == 0
				      ? node.st_gid
				      : ISOLATION_NO_GROUP,
	};
	return isolation_begin(&config, &p->isolation);
}

static int process_lock(struct process *p)
{
	char missing[KEEPER_TEXT_MAX] = "", text[KEEPER_TEXT_MAX + 32];
	int err = isolation_filesystem(p->isolation);

	if (!err)
		err = isolation_filter(p->isolation);
	/* Best effort may leave something out, but never without saying so. */
	if (!err && isolation_missing(p->isolation, missing, sizeof(missing)) && missing[0]) {
		snprintf(text, sizeof(text), "lock-down is incomplete: %s", missing);
		log_warning("%s", text);
		channel_send_text(p->options.keeper_fd, KEEPER_DEVICE_NOTICE, text);
	}
	return err;
}

/* ---- the device ---- */

static int process_open_stats(struct process *p)
{
	struct stat st;

	p->stats_fd = p->options.stats_fd;
	if (p->stats_fd >= 0)
		return fstat(p->stats_fd, &st) < 0 || st.st_size != VGPU_STATS_SIZE ? -EINVAL : 0;
	p->stats_fd = memfd_create("vgpu-stats", MFD_CLOEXEC); /* a probe's: nobody reads it */
	return p->stats_fd < 0 || ftruncate(p->stats_fd, VGPU_STATS_SIZE) < 0 ? -errno : 0;
}

static int process_map_stats(struct process *p)
{
	int err = process_open_stats(p);
	if (err < 0)
		return err;
	p->stats = mmap(NULL, VGPU_STATS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->stats_fd, 0);
	return p->stats == MAP_FAILED ? -errno : 0;
}

static void process_notice(void *data, const char *text)
{
	const struct process *p = data;
	if (p->options.keeper_fd >= 0)
		channel_send_text(p->options.keeper_fd, KEEPER_DEVICE_NOTICE, text);
}

/* The keeper starts another process in this one's place. */
static void process_device_failed(void *data)
{
	const struct process *p = data;
	if (p->loop)
		loop_quit(p->loop, 1);
}

static const struct device_events process_device_events = {
	.notice = process_notice, .failed = process_device_failed};

/*
 * The driver opens its last files when the first context is made: have that behind us. Where only
 * exact formats are offered, they are found out now and not while a guest waits.
 */
static int process_warm_up(struct device *dev)
{
	struct device_client *client;
	struct renderer_capset capset;
	int err = device_client_create(dev, "start", &client);

	if (err < 0)
		return err;
	if (device_capset_info(dev, 0, &capset) == 0)
		err = device_context_create(client, 1, 0, "start", sizeof("start") - 1);
	uint8_t first;
	for (unsigned i = 0; !err && device_capset_info(dev, i, &capset) == 0; i++)
		err = device_capset_get(dev, capset.id, capset.max_version, &first, sizeof(first));
	device_client_destroy(client);
	return err;
}

static int process_create_device(struct process *p)
{
	const struct options *o = &p->options;
	const struct device_config config = {
		.name = o->name,
		.vram_bytes = (uint64_t)o->vram_mib << 20,
		.heads = o->heads,
		.max_width = o->max_width,
		.max_height = o->max_height,
		.max_fps = o->max_fps,
		.renderer_ops = renderer_find(o->renderer),
		.render_node = p->render_node[0] ? p->render_node : NULL,
		.dmabuf_scanout = o->dmabuf,
		.plain_shaders = o->plain_shaders,
		.exact_only = o->exact_only,
		.stats = p->stats,
		.memory = p->resident.fd < 0 ? NULL : resident_bytes,
		.memory_data = &p->resident,
	};
	if (!config.renderer_ops)
		return -ENOENT;
	int err = device_create(&config, &process_device_events, p, &p->device);
	if (err < 0)
		return err;
	formats_use(&p->formats, p->device);
	if (o->exact_only && !p->formats.known)
		process_notice(p, "which formats can be saved exactly here is being tried, once "
				  "for this driver; that takes a few seconds");
	return process_warm_up(p->device);
}

static void process_poll_fences(void *data, uint32_t events)
{
	struct process *p = data;
	device_poll(p->device);
}

static bool process_idle(void *data)
{
	struct process *p = data;

	connections_reap(p->connections);
	if (device_poll_fd(p->device) < 0 && device_fences_pending(p->device))
		device_poll(p->device);
	trimmer_idle(p->trimmer);
	bool more = succession_idle(p->succession);
	pacer_idle(p->pacer);
	gate_idle(p->gate);
	return more;
}

/* The keeper believes what is said before READY. */
static int process_ready(const struct process *p)
{
	struct keeper_ready ready = {
		.version = KEEPER_PROTOCOL_VERSION, .driver = shader_cache_driver(p->shaders)};

	snprintf(ready.renderer, sizeof(ready.renderer), "%s",
		device_renderer_description(p->device));
	if (p->options.exact_only)
		formats_tell(&p->formats, p->device, p->options.keeper_fd);
	return channel_send(p->options.keeper_fd, KEEPER_DEVICE_READY, &ready, -1);
}

static int process_configure(void *data, const struct standby_args *args)
{
	struct process *p = data;

	return configure_late(&p->configure, args);
}

static int process_prepare(struct process *p)
{
	int err = loop_create(&p->loop);
	if (!err)
		err = guard_install_sigbus_handler(); /* no handler can be set once locked down */
	if (!err)
		err = screens_create(p->options.keeper_fd, &p->screens);
	if (!err)
		err = device_add_display(p->device, &screens_display_ops, p->screens);
	if (!err)
		err = trimmer_create(p->device, p->loop, &p->trimmer);
	const struct succession_config succession = {.device = p->device,
		.loop = p->loop,
		.stats = p->stats,
		.channel_fd = p->options.keeper_fd,
		.enabled = !p->options.no_journal,
		.shaders = p->shaders,
		.drop_section = p->drop_section};
	if (!err)
		err = succession_create(&succession, &p->succession);
	if (!err)
		err = connections_create(
			p->device, p->loop, p->options.keeper_fd, p->succession, &p->connections);
	if (!err) {
		succession_set_connections(p->succession, p->connections);
		err = pacer_create(p->device, p->loop, &p->pacer);
	}
	if (!err)
		err = gate_create(p->device, p->loop, &p->gate);
	if (!err) {
		device_set_gate(p->device, gate_for_device(p->gate));
		connections_set_gate(p->connections, p->gate);
	}
	p->configure = (struct configure){.options = &p->options, .device = p->device};
	if (!err)
		connections_on_configure(p->connections, process_configure, p);
	if (!err && device_poll_fd(p->device) >= 0)
		err = loop_add_fd(
			p->loop, device_poll_fd(p->device), EPOLLIN, process_poll_fences, p, NULL);
	return err;
}

static void process_shaders_not_kept(int err)
{
	log_info("compiled shaders are not kept for the next process: %s", strerror(-err));
}

static void process_keep_shaders(struct process *p)
{
	int scratch = isolation_take_scratch(p->isolation);
	int err = scratch < 0 ? scratch : shader_cache_begin(scratch, &p->shaders);

	if (err < 0)
		process_shaders_not_kept(err);
}

/* The driver has started, with the files it keeps them in. */
static void process_shaders_started(struct process *p)
{
	int err = p->shaders ? shader_cache_open(p->shaders) : 0;

	if (err < 0)
		process_shaders_not_kept(err);
}

static int process_serve(struct process *p)
{
	int err = process_map_stats(p);
	if (err < 0)
		return process_fail(p, err, "no shared memory for counters", "is memory short?");
	process_keep_shaders(p);
	err = resident_open(&p->resident);
	if (err < 0)
		log_warning("what the driver keeps cannot be limited: /proc/self/statm: %s",
			strerror(-err));
	err = process_create_device(p);
	if (err < 0)
		return process_fail(p, err, "the renderer did not start",
			"run vgpuctl doctor: it says what the host's driver lacks");
	process_shaders_started(p);
	err = process_prepare(p);
	if (err < 0)
		return process_fail(p, err, "no event loop", "is the limit of open files too low?");
	err = process_lock(p);
	if (err < 0)
		return process_fail_lockdown(p, err, "the process could not be locked down");
	err = process_ready(p);
	if (err < 0)
		return process_fail(p, err, "the keeper does not answer", "restart the vGPU");
	loop_set_idle(p->loop, process_idle, p);
	return loop_run(p->loop) ? 1 : 0;
}

static int process_probe(struct process *p)
{
	p->options.vram_mib = 64;
	int err = process_map_stats(p);
	if (!err)
		err = process_create_device(p);
	printf("{\"works\": %s, \"renderer\": \"%s\", \"error\": \"%s\"}\n", err ? "false" : "true",
		err ? "" : device_renderer_description(p->device), err ? strerror(-err) : "");
	return err ? 1 : 0;
}

static void process_finish(struct process *p)
{
	if (p->device)
		device_set_gate(p->device, NULL);
	connections_destroy(p->connections);
	gate_destroy(p->gate);
	pacer_destroy(p->pacer);
	succession_destroy(p->succession);
	trimmer_destroy(p->trimmer);
	resident_close(&p->resident);
	shader_cache_destroy(p->shaders);
	if (p->device && p->screens)
		device_remove_display(p->device, p->screens);
	device_destroy(p->device);
	screens_destroy(p->screens);
	loop_destroy(p->loop);
	isolation_destroy(p->isolation);
}

int main(int argc, char **argv)
{
	struct process p = {.stats_fd = -1, .resident.fd = -1};
	int status = options_parse(&p.options, argc, argv);

	if (status)
		return status > 0 ? 0 : 2;
	log_init("vgpu-device", p.options.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
	/* Isolation clears the environment. */
	p.drop_section = getenv("VGPU_DROP_SECTION");
	crash_points_init(getenv("VGPU_CRASH_AT"));
	formats_read(&p.formats, p.options.formats);
	int err = process_find_node(&p);
	if (err < 0)
		return process_fail_node(&p, err);
	err = process_begin(&p);
	if (!err && !p.options.probe)
		err = isolation_namespaces(p.isolation);
	if (err < 0)
		return process_fail_lockdown(&p, err, "the process could not be isolated");
	status = p.options.probe ? process_probe(&p) : process_serve(&p);
	process_finish(&p);
	return status;
}

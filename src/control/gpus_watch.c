/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When the GPUs are read anew. The kernel's words come in bursts: a driver that is bound says it of
 * the function, its DRM device and each connector. They are waited out, but not for ever.
 */
#include "control/gpus.h"

#include "base/checked.h"
#include "base/clock.h"
#include "host/hotplug.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gpus_watch {
	struct hotplug *hotplug; /* NULL: there are no uevents here */
	char why[200];           /* there are none */
	sd_event_source *io;
	sd_event_source *settle; /* NULL: nothing was said */
	uint64_t first_ms;       /* of what was said */
	sd_event_source *again;  /* NULL: not read by the clock */
	uint32_t rescan_s;       /* 0: never */
};

static int on_settled(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpud *d = data;

	d->watch->settle = sd_event_source_disable_unref(d->watch->settle);
	gpus_rescan(d);
	gpus_errors_begin(d);
	return 0;
}

static int on_uevent(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct vgpud *d = data;
	struct gpus_watch *watch = d->watch;
	uint64_t now = clock_ms();

	if (!hotplug_read(watch->hotplug, gpus_error, d))
		return 0;
	if (!watch->settle)
		watch->first_ms = now;
	uint64_t at = MIN(now + GPUS_SETTLE_MS, watch->first_ms + GPUS_PATIENCE_MS);
	watch->settle = sd_event_source_disable_unref(watch->settle);
	int r = sd_event_add_time(
		d->event, &watch->settle, CLOCK_MONOTONIC, at * 1000, 1000, on_settled, d);
	if (r < 0)
		gpus_rescan(d);
	return 0;
}

static int on_again(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpud *d = data;

	gpus_rescan(d);
	sd_event_source_set_time_relative(source, d->watch->rescan_s * 1000000ull);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static void follow_uevents(struct vgpud *d, struct gpus_watch *watch)
{
	int r = hotplug_open(&watch->hotplug, watch->why, sizeof(watch->why));

	if (r == 0)
		r = sd_event_add_io(
			d->event, &watch->io, hotplug_fd(watch->hotplug), EPOLLIN, on_uevent, d);
	if (r < 0 && watch->hotplug) {
		snprintf(watch->why, sizeof(watch->why), "uevents cannot be waited for: %s",
			strerror(-r));
		hotplug_close(watch->hotplug);
		watch->hotplug = NULL;
	}
}

void gpus_watch(struct vgpud *d)
{
	struct gpus_watch *watch = calloc(1, sizeof(*watch));

	if (!watch) {
		log_warning("GPUs that come and go are not noticed: out of memory");
		return;
	}
	d->watch = watch;
	gpus_errors_begin(d);
	follow_uevents(d, watch);
	watch->rescan_s = d->config.rescan_s;
	if (watch->rescan_s == CONFIG_RESCAN_AUTO)
		watch->rescan_s = watch->hotplug ? 0 : GPUS_RESCAN_S;
	if (watch->rescan_s && sd_event_add_time_relative(d->event, &watch->again, CLOCK_MONOTONIC,
				       watch->rescan_s * 1000000ull, 0, on_again, d) < 0)
		watch->rescan_s = 0;
	if (!watch->hotplug)
		log_info("%s; GPUs are looked for %s", watch->why,
			watch->rescan_s ? "now and then" : "when vgpud starts, and not again");
}

void gpus_close(struct vgpud *d)
{
	struct gpus_watch *watch = d->watch;

	if (watch) {
		sd_event_source_disable_unref(watch->io);
		sd_event_source_disable_unref(watch->settle);
		sd_event_source_disable_unref(watch->again);
		hotplug_close(watch->hotplug);
		free(watch);
	}
	d->watch = NULL;
	gpus_errors_close(d);
	free(d->root_paths);
	d->root_paths = NULL;
	d->roots = host_roots_real;
}

bool gpus_hotplug(const struct vgpud *d, char *ret, size_t size)
{
	const struct gpus_watch *watch = d->watch;

	if (watch && watch->hotplug) {
		snprintf(ret, size, "GPUs that come and go are noticed at once (uevents of %s)",
			hotplug_source(watch->hotplug));
		return true;
	}
	const char *why = watch ? watch->why : "out of memory";
	if (watch && watch->rescan_s)
		snprintf(ret, size, "GPUs that come and go are noticed after up to %u s: %s",
			watch->rescan_s, why);
	else
		snprintf(ret, size, "GPUs that come and go are not noticed: %s", why);
	return false;
}

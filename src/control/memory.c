/* SPDX-License-Identifier: Apache-2.0 */
#include "control/memory.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "control/memory_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_KEY "overcommit"
#define LOOK_S    30u
#define LATE_S    5u /* longer than a keeper waits itself */

const char *const memory_switch_names[MEMORY_SWITCH_COUNT] = {
	[MEMORY_OFF] = "off",
	[MEMORY_LOCKING] = "locking",
	[MEMORY_STARTING] = "starting",
	[MEMORY_ON] = "on",
	[MEMORY_STOPPING] = "stopping",
};

bool memory_is_overcommitted(const struct vgpud *d)
{
	return d->memory && d->memory->state != MEMORY_OFF;
}

/* --- the store --- */

static void read_boot(const struct vgpud *d, char ret[MEMORY_BOOT_MAX])
{
	ret[0] = '\0';
	cleanup_close int dir = sysfs_open(AT_FDCWD, d->roots.proc);
	if (dir >= 0)
		(void)sysfs_read(dir, "sys/kernel/random/boot_id", ret, MEMORY_BOOT_MAX);
}

static int memory_note(const struct node_memory *m, enum memory_switch state, struct error *err)
{
	char value[128];

	snprintf(value, sizeof(value), "%s before=%u switched=%u boot=%s",
		memory_switch_names[state], m->before, m->switched, m->boot);
	return store_set_node(m->d->store, STORE_KEY, value, "overcommit", err);
}

/* What was noted; MEMORY_OFF where nothing was, or nothing that a vgpud wrote. */
static enum memory_switch memory_noted(struct node_memory *m, const char *value)
{
	size_t len = strcspn(value, " ");
	const char *before = strstr(value, " before="), *switched = strstr(value, " switched=");
	const char *boot = strstr(value, " boot=");
	uint64_t number;

	m->before = 0;
	if (before) {
		before += strlen(" before=");
		m->before = parse_next(&before, 10, KSM_UNMERGED, &number) ? (unsigned)number : 0;
	}
	m->switched = switched && switched[strlen(" switched=")] == '1';
	snprintf(m->boot, sizeof(m->boot), "%s", boot ? boot + strlen(" boot=") : "");
	for (size_t i = 0; i < MEMORY_SWITCH_COUNT; i++) {
		if (strlen(memory_switch_names[i]) == len &&
			!strncmp(value, memory_switch_names[i], len))
			return (enum memory_switch)i;
	}
	return MEMORY_OFF;
}

/* --- where it stands --- */

static int on_timer(sd_event_source *source, uint64_t usec, void *data);

static void memory_set_timer(struct node_memory *m, uint64_t seconds)
{
	m->timer = sd_event_source_disable_unref(m->timer);
	int r = seconds ? sd_event_add_time_relative(m->d->event, &m->timer, CLOCK_MONOTONIC,
				  seconds * 1000000, 100000, on_timer, m)
			: 0;
	if (r < 0)
		log_error("memory: no timer: %s", strerror(-r));
}

/* And all keepers are told what goes with it. */
static void memory_enter(struct node_memory *m, enum memory_switch state)
{
	m->state = state;
	memory_set_timer(m, state == MEMORY_LOCKING ? m->d->config.lock_timeout_s + LATE_S
			    : state == MEMORY_ON    ? LOOK_S
						    : 0);
	for (struct vgpu *v = m->d->vgpus; v; v = v->next)
		memory_tell(v);
}

/* `err` NULL: it worked. */
static void memory_end(struct node_memory *m, const struct error *err)
{
	vgpu_done done = m->done;

	m->done = NULL;
	if (err && !done)
		events_add(&m->d->events, "", "%s", err->text);
	if (done)
		done(m->done_data, err);
}

static void memory_failed(struct node_memory *m, enum memory_switch back, const struct error *err)
{
	struct error store_err;

	if (memory_note(m, back, &store_err) < 0)
		log_warning("%s", store_err.text);
	memory_enter(m, back);
	memory_end(m, err);
}

static void memory_arrived(struct node_memory *m, enum memory_switch at)
{
	struct error err;

	if (memory_note(m, at, &err) < 0)
		events_add(&m->d->events, "", "%s", err.text); /* it is tried again at next start */
	m->by_hand = false;
	memory_enter(m, at);
	events_add(&m->d->events, "", "memory over-commit is %s", memory_switch_names[at]);
	memory_end(m, NULL);
}

/* --- KSM, in a process of its own --- */

struct switching {
	struct host_roots roots;
	struct vfio_kernel kernel;
	enum ksm_run run;
	uint64_t available, keep_free;
};

static json_t *switch_work(const void *data)
{
	const struct switching *s = data;
	struct error err = {0};
	struct ksm after;

	int r = ksm_switch(&s->roots, &s->kernel, s->run, s->available, s->keep_free, "overcommit",
		&after, &err);
	return json_pack("{s:i, s:s}", "code", -r, "text", r < 0 ? err.text : "");
}

static void on_switched(void *data, json_t *result)
{
	struct node_memory *m = data;
	enum memory_switch back = m->state == MEMORY_STARTING ? MEMORY_OFF : MEMORY_ON;
	const char *text = "overcommit: the kernel does not answer (see dmesg, and try again)";
	struct error err;
	int code = ETIMEDOUT;

	if (result)
		json_unpack(result, "{s:i, s:s}", "code", &code, "text", &text);
	error_set(&err, code, "%s", text);
	json_decref(result);
	if (code)
		memory_failed(m, back, &err);
	else
		memory_arrived(m, m->state == MEMORY_STARTING ? MEMORY_ON : MEMORY_OFF);
}

static void memory_switch_ksm(struct node_memory *m, enum ksm_run run)
{
	struct vgpud *d = m->d;
	struct ledger ledger;
	struct error err;

	(void)memory_ledger(d, &ledger);
	const struct switching work = {.roots = d->roots,
		.kernel = d->kernel,
		.run = run,
		.available = ledger.node.available,
		.keep_free = ledger.node.keep_free};
	ledger_finish(&ledger);
	unsigned limit_ms = run == KSM_UNMERGED ? KSM_UNMERGE_MS : KSM_SWITCH_MS;
	int r = child_start(
		&d->children, d->event, switch_work, &work, limit_ms + 2000, on_switched, m);
	if (r == 0)
		return;
	error_set(&err, -r, "overcommit: KSM cannot be switched: %s (try again)", strerror(-r));
	memory_failed(m, m->state == MEMORY_STARTING ? MEMORY_OFF : MEMORY_ON, &err);
}

/* --- on --- */

static void memory_start(struct node_memory *m)
{
	struct ksm ksm;
	struct error err;

	ksm_read(&m->d->roots, &ksm);
	m->before = ksm.code == 0 ? (unsigned)MIN(ksm.run, (uint64_t)KSM_UNMERGED) : 0;
	m->switched = !(ksm.code == 0 && ksm.run == KSM_RUNNING);
	if (memory_note(m, MEMORY_STARTING, &err) < 0) {
		memory_failed(m, MEMORY_OFF, &err);
		return;
	}
	memory_enter(m, MEMORY_STARTING);
	if (m->switched)
		memory_switch_ksm(m, KSM_RUNNING);
	else
		memory_arrived(m, MEMORY_ON);
}

/* "x (vGPU a: why); y ..." of those that are not locked; how many still may be. */
static unsigned memory_unlocked(
	const struct node_memory *m, bool late, char *ret, size_t size, unsigned *ret_refused)
{
	unsigned waiting = 0;
	size_t len = 0;

	ret[0] = '\0';
	*ret_refused = 0;
	for (const struct vgpu *v = m->d->vgpus; v; v = v->next) {
		const struct keeper_memory_status *s = &v->status.memory;
		bool refused = s->mode != KEEPER_MEMORY_OPEN && s->state == KEEPER_MEMORY_REFUSED;
		if (!memory_has_vm(v) || s->state == KEEPER_MEMORY_LOCKED)
			continue;
		waiting += !refused;
		*ret_refused += refused;
		if (!refused && !late)
			continue;
		int n = snprintf(ret + len, size - len, "%s%.60s (vGPU %s): %.200s",
			len ? "; " : "", memory_vm_name(v), v->def.name,
			refused ? s->refusal : "it is not locked in time");
		len += n > 0 ? MIN((size_t)n, size - len - 1) : 0;
	}
	return waiting;
}

/* LOCKING: is there anything left to wait for? */
static void memory_look(struct node_memory *m, bool late)
{
	char names[360];
	struct error err;
	unsigned refused, waiting = memory_unlocked(m, late, names, sizeof(names), &refused);

	if (m->state != MEMORY_LOCKING || (waiting && !refused && !late))
		return;
	if (!waiting && !refused) {
		memory_start(m);
		return;
	}
	error_set(&err, ENOMEM,
		"overcommit on: the memory of a VM that holds a vGPU cannot be locked: %s (end "
		"that VM, or free memory)",
		names);
	memory_failed(m, MEMORY_OFF, &err);
}

static int memory_turn_on(struct node_memory *m, struct error *err)
{
	struct ksm ksm;

	ksm_read(&m->d->roots, &ksm);
	if (ksm.code == -ENOENT)
		return error_set(err, ENOENT,
			"overcommit on: this kernel has no KSM (use one built with CONFIG_KSM)");
	int r = memory_note(m, MEMORY_LOCKING, err);
	if (r < 0)
		return r;
	memory_enter(m, MEMORY_LOCKING);
	memory_look(m, false);
	return 0;
}

/* --- off --- */

static int memory_turn_off(struct node_memory *m, struct error *err)
{
	struct ksm ksm;

	int r = memory_note(m, MEMORY_STOPPING, err);
	if (r < 0)
		return r;
	memory_enter(m, MEMORY_STOPPING);
	ksm_read(&m->d->roots, &ksm);
	bool runs = ksm.code == 0 && ksm.run == KSM_RUNNING;
	if (m->switched && runs)
		memory_switch_ksm(m, KSM_UNMERGED);
	else
		memory_arrived(m, MEMORY_OFF); /* not ours, or somebody's doing since */
	return 0;
}

/* --- asked, and looked after --- */

static bool memory_ksm_runs(const struct node_memory *m)
{
	struct ksm ksm;

	ksm_read(&m->d->roots, &ksm);
	return ksm.code == 0 && ksm.run == KSM_RUNNING;
}

int memory_overcommit(struct vgpud *d, bool on, vgpu_done done, void *data, struct error *err)
{
	struct node_memory *m = d->memory;

	if (m->state != MEMORY_OFF && m->state != MEMORY_ON)
		return error_set(err, EBUSY, "overcommit %s: it is being turned (wait for that)",
			on ? "on" : "off");
	/* What somebody stopped by hand is started again by who says "on" again. */
	if (on == (m->state == MEMORY_ON) && (!on || memory_ksm_runs(m))) {
		done(data, NULL);
		return 0;
	}
	read_boot(d, m->boot);
	m->done = done;
	m->done_data = data;
	int r = on ? memory_turn_on(m, err) : memory_turn_off(m, err);
	if (r < 0)
		m->done = NULL;
	return r;
}

static void memory_watch(struct node_memory *m)
{
	bool by_hand = !memory_ksm_runs(m);

	if (by_hand && !m->by_hand)
		events_add(&m->d->events, "",
			"memory over-commit is on and KSM was stopped by hand; it is left so "
			"(vgpuctl node overcommit on starts it again, off ends the switch too)");
	m->by_hand = by_hand;
	memory_set_timer(m, LOOK_S);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct node_memory *m = data;

	if (m->state == MEMORY_LOCKING)
		memory_look(m, true);
	else if (m->state == MEMORY_ON)
		memory_watch(m);
	return 0;
}

void memory_vgpu_status(struct vgpu *v)
{
	struct node_memory *m = v->d->memory;

	memory_tell(v);
	if (m && m->state == MEMORY_LOCKING)
		memory_look(m, false);
}

void memory_vgpu_lost(struct vgpu *v)
{
	v->memory_answered = 0;
}

/* --- start and end --- */

/* As it was noted, or what was left unfinished, or is to be done again after a start of the node.
 */
static void memory_resume(struct node_memory *m, enum memory_switch noted)
{
	char boot[MEMORY_BOOT_MAX];
	struct error err = {0};
	int r = 0;

	read_boot(m->d, boot);
	bool same = !strcmp(boot, m->boot);
	if (noted == MEMORY_OFF) {
		if (memory_ksm_runs(m))
			events_add(&m->d->events, "",
				"KSM runs, and vgpud did not start it: memory over-commit is off, "
				"so the memory of vGPU VMs is not locked (vgpuctl node overcommit "
				"on)");
	} else if (noted == MEMORY_ON && same) {
		memory_enter(m, MEMORY_ON);
		memory_watch(m);
	} else if (noted == MEMORY_STOPPING && same) {
		r = memory_turn_off(m, &err);
	} else {
		memcpy(m->boot, boot, sizeof(m->boot));
		r = noted == MEMORY_STOPPING ? memory_note(m, MEMORY_OFF, &err)
					     : memory_turn_on(m, &err);
	}
	if (r < 0)
		events_add(&m->d->events, "", "%s", err.text);
}

int memory_open(struct vgpud *d, struct error *err)
{
	struct node_memory *m = calloc(1, sizeof(*m));
	char value[128];

	if (!m)
		return error_set(err, ENOMEM, "vgpud: out of memory (free some)");
	m->d = d;
	d->memory = m;
	int r = store_get_node(d->store, STORE_KEY, value, sizeof(value), err);
	if (r < 0)
		return r;
	memory_vms_read(m);
	memory_resume(m, memory_noted(m, value));
	return 0;
}

void memory_close(struct vgpud *d)
{
	struct node_memory *m = d->memory;

	if (!m)
		return;
	d->memory = NULL;
	sd_event_source_disable_unref(m->timer);
	memory_vms_finish(m);
	free(m);
}

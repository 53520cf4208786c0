/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One cell for each state and event: refused, with its reason; or allowed, if its guard finds no
 * reason against it, and leading to a phase. What is said of a reason is in rules_refuse.c.
 */
#include "control/rules_private.h"

#include <string.h>

const char *const rules_event_names[RULES_EVENT_COUNT] = {
	[RULES_ADD_SHARE] = "a new vGPU",
	[RULES_ADD_MEDIATE] = "a new slice",
	[RULES_ADD_PASSTHROUGH] = "passthrough",
	[RULES_MOVE_IN] = "a vGPU that moves there",
	[RULES_REMOVE] = "the end of a vGPU",
	[RULES_MODE] = "another mode",
	[RULES_BIND] = "a VM",
	[RULES_LEAVE] = "the end of a VM",
	[RULES_TAKE] = "being taken",
	[RULES_TAKEN] = "having been taken",
	[RULES_NOT_TAKEN] = "not having been taken",
	[RULES_STUCK] = "being stuck",
	[RULES_SCRUB] = "being zeroed",
	[RULES_SCRUBBED] = "having been zeroed",
	[RULES_SCRUB_PARTIAL] = "having been zeroed in part",
	[RULES_SCRUB_FAILED] = "not having been zeroed",
	[RULES_GIVE_BACK] = "going back",
	[RULES_GIVEN_BACK] = "being back",
	[RULES_OVERRIDE] = "an override",
	[RULES_VANISHED] = "vanishing",
	[RULES_RETURNED] = "coming back",
};

static bool is_share(enum method method)
{
	return method == METHOD_EMULATE || method == METHOD_FORWARD;
}

enum rules_event rules_event_of_method(enum method method)
{
	if (method == METHOD_PASSTHROUGH)
		return RULES_ADD_PASSTHROUGH;
	return method == METHOD_MEDIATE ? RULES_ADD_MEDIATE : RULES_ADD_SHARE;
}

static const struct rules_vgpu *find_vgpu(const struct rules_gpu *gpu, const char *name)
{
	for (size_t i = 0; name && i < gpu->n_vgpus; i++) {
		if (!strcmp(gpu->vgpus[i].name, name))
			return &gpu->vgpus[i];
	}
	return NULL;
}

static const struct rules_vgpu *find_held(const struct rules_gpu *gpu)
{
	for (size_t i = 0; i < gpu->n_vgpus; i++) {
		if (gpu->vgpus[i].vm)
			return &gpu->vgpus[i];
	}
	return NULL;
}

static const struct rules_vgpu *find_other_method(const struct rules_gpu *gpu, enum method method)
{
	for (size_t i = 0; i < gpu->n_vgpus; i++) {
		if (gpu->vgpus[i].method != method)
			return &gpu->vgpus[i];
	}
	return NULL;
}

size_t rules_other_types(const struct rules_gpu *gpu, const char *type)
{
	size_t n = 0;

	for (size_t i = 0; i < gpu->n_vgpus; i++)
		n += strcmp(gpu->vgpus[i].type, type) != 0;
	return n;
}

enum gpu_state rules_state(const struct rules_gpu *gpu)
{
	if (gpu->gone)
		return GPU_GONE;
	if (gpu->phase != GPU_FREE)
		return gpu->phase;
	if (!gpu->n_vgpus)
		return gpu->left_by[0] ? GPU_UNSCRUBBED : GPU_FREE;
	for (size_t i = 0; i < gpu->n_vgpus; i++) {
		if (gpu->vgpus[i].method == METHOD_PASSTHROUGH)
			return GPU_PASSTHROUGH;
	}
	for (size_t i = 0; i < gpu->n_vgpus; i++) {
		if (gpu->vgpus[i].method == METHOD_MEDIATE)
			return GPU_MEDIATED;
	}
	return gpu->mixed ? GPU_MIXED : GPU_SHARED;
}

/* --- guards: what may be against an event that a state allows --- */

/* Is it kept for something else than this method? */
static enum reason kept_for_other(const struct question *q, enum method method)
{
	const struct rules_gpu *gpu = q->gpu;

	if (!gpu->kept || gpu->mode == method)
		return FINE;
	if (gpu->mode == METHOD_PASSTHROUGH)
		return KEPT_PASSTHROUGH;
	return method == METHOD_PASSTHROUGH ? KEPT_VGPUS : KEPT_METHOD;
}

/* Rule 2, for a vGPU that would come. */
static enum reason may_add(struct question *q)
{
	const struct rules_gpu *gpu = q->gpu;
	const struct rules_subject *subject = q->subject;
	enum reason kept = kept_for_other(q, subject->method);

	if (kept != FINE || gpu->mixed)
		return kept;
	for (size_t i = 0; i < gpu->n_vgpus; i++) {
		q->other = &gpu->vgpus[i];
		if (strcmp(q->other->type, subject->type) != 0)
			return OTHER_TYPE;
	}
	q->other = find_other_method(gpu, subject->method);
	return q->other ? OTHER_METHOD : FINE;
}

static enum reason may_move_in(struct question *q)
{
	return is_share(q->subject->method) ? may_add(q) : FIXED;
}

/* Rule 5, for the one whose GPU it would be. */
static enum reason may_pass(struct question *q)
{
	const char *left_by = q->gpu->left_by;
	enum reason kept = kept_for_other(q, METHOD_PASSTHROUGH);

	if (kept != FINE)
		return kept;
	return left_by[0] && strcmp(left_by, q->subject->owner) != 0 ? LEFTOVERS : FINE;
}

static enum reason may_remove(struct question *q)
{
	q->other = find_vgpu(q->gpu, q->subject->vgpu);
	if (!q->other)
		return STRAY;
	if (!q->other->vm)
		return FINE;
	if (!is_share(q->other->method))
		return HELD_IN_USE;
	return q->subject->force ? FINE : HELD_ENDABLE;
}

static enum reason may_set_mode(struct question *q)
{
	enum method method = q->subject->method;

	if (method == METHOD_COUNT)
		return FINE;
	q->other = find_other_method(q->gpu, method);
	if (!q->other)
		return q->gpu->left_by[0] && method != METHOD_PASSTHROUGH ? LEFTOVERS_MODE : FINE;
	if (method == METHOD_PASSTHROUGH)
		return CARRIES;
	return q->other->method == METHOD_PASSTHROUGH ? PASSED : OTHER_METHOD;
}

static enum reason may_bind(struct question *q)
{
	q->other = find_vgpu(q->gpu, q->subject->vgpu);
	if (!q->other)
		return STRAY;
	if (q->other->vm)
		return HELD;
	return q->subject->holds ? VM_HAS_ANOTHER : FINE;
}

static enum reason not_held(struct question *q)
{
	q->other = find_held(q->gpu);
	return q->other ? HELD_IN_USE : FINE;
}

/* Rule 5: what is in it stays with its owner. */
static enum reason may_give_back(struct question *q)
{
	enum reason held = not_held(q);

	if (held != FINE)
		return held;
	return q->gpu->left_by[0] ? LEFTOVERS_MODE : FINE;
}

/* --- the table --- */

/* Phases beside those of enum gpu_state. */
#define SETTLED GPU_FREE        /* none: what the vGPUs make of it */
#define STAYS   GPU_STATE_COUNT /* the same as before */

struct cell {
	enum reason refused; /* FINE: allowed, if */
	enum reason (*guard)(struct question *q);
	enum gpu_state phase, empty; /* where that leads; and if it carries no vGPU */
};

/* clang-format off */
#define NO(reason)          {.refused = (reason)}
#define GO(to)              {.phase = (to), .empty = (to)}
#define IF(check, to)       {.guard = (check), .phase = (to), .empty = (to)}
#define EITHER(to, alone)   {.phase = (to), .empty = (alone)}
#define ROW(add_share, add_mediate, add_pass, move_in, remove_, mode_, bind_, leave,               \
	take, taken, not_taken, stuck, scrub, scrubbed, partial, failed,                           \
	give_back, given_back, override_, vanished, returned) {                                    \
	[RULES_ADD_SHARE] = add_share, [RULES_ADD_MEDIATE] = add_mediate,                          \
	[RULES_ADD_PASSTHROUGH] = add_pass, [RULES_MOVE_IN] = move_in,                             \
	[RULES_REMOVE] = remove_, [RULES_MODE] = mode_, [RULES_BIND] = bind_,                      \
	[RULES_LEAVE] = leave, [RULES_TAKE] = take, [RULES_TAKEN] = taken,                         \
	[RULES_NOT_TAKEN] = not_taken, [RULES_STUCK] = stuck, [RULES_SCRUB] = scrub,               \
	[RULES_SCRUBBED] = scrubbed, [RULES_SCRUB_PARTIAL] = partial,                              \
	[RULES_SCRUB_FAILED] = failed, [RULES_GIVE_BACK] = give_back,                              \
	[RULES_GIVEN_BACK] = given_back, [RULES_OVERRIDE] = override_,                             \
	[RULES_VANISHED] = vanished, [RULES_RETURNED] = returned}

/* ROW does not compile with a cell too few. Each line: what comes, what holds it, the way to
 * vfio-pci, the scrub, the way back, the rest. */
static const struct cell table[GPU_STATE_COUNT][RULES_EVENT_COUNT] = {
	/* rule 2: the first vGPU decides, unless the GPU is kept for a method */
	[GPU_FREE] = ROW(
		IF(may_add, SETTLED), IF(may_add, SETTLED), IF(may_pass, SETTLED), IF(may_move_in, SETTLED),
		NO(STRAY), GO(STAYS), NO(STRAY), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), GO(STAYS), NO(STRAY)),
	/* rule 2: one type and method; rule 3: no passthrough while it carries any */
	[GPU_SHARED] = ROW(
		IF(may_add, SETTLED), NO(SLICES), NO(CARRIES), IF(may_move_in, SETTLED),
		IF(may_remove, SETTLED), IF(may_set_mode, STAYS), IF(may_bind, SETTLED), GO(SETTLED),
		NO(CARRIES), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(CARRIES), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), GO(STAYS), NO(STRAY)),
	/* rule 2 as configured: any type; rule 3 all the same */
	[GPU_MIXED] = ROW(
		IF(may_add, SETTLED), NO(SLICES), NO(CARRIES), IF(may_move_in, SETTLED),
		IF(may_remove, SETTLED), IF(may_set_mode, STAYS), IF(may_bind, SETTLED), GO(SETTLED),
		NO(CARRIES), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(CARRIES), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), GO(STAYS), NO(STRAY)),
	/* rule 2: slices of one type; its driver zeroes what a slice leaves */
	[GPU_MEDIATED] = ROW(
		NO(SLICES), IF(may_add, SETTLED), NO(CARRIES), NO(SLICES),
		IF(may_remove, SETTLED), IF(may_set_mode, STAYS), IF(may_bind, SETTLED), GO(SETTLED),
		NO(CARRIES), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(CARRIES), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), GO(STAYS), NO(STRAY)),
	/* rule 3: nothing beside; rule 1: one VM; rule 5: it goes back zeroed */
	[GPU_PASSTHROUGH] = ROW(
		NO(PASSED), NO(PASSED), NO(PASSED), NO(PASSED),
		IF(may_remove, SETTLED), IF(may_set_mode, STAYS), IF(may_bind, SETTLED), GO(SETTLED),
		IF(not_held, GPU_TAKING), NO(STRAY), NO(STRAY), GO(GPU_FAULTED),
		IF(not_held, GPU_SCRUBBING), NO(STRAY), NO(STRAY), NO(STRAY),
		IF(may_give_back, GPU_GIVING_BACK), NO(STRAY), IF(not_held, SETTLED), GO(STAYS), NO(STRAY)),
	/* rule 3 holds from the first write on */
	[GPU_TAKING] = ROW(
		NO(BUSY), NO(BUSY), NO(BUSY), NO(BUSY),
		NO(BUSY), IF(may_set_mode, STAYS), NO(BUSY), NO(STRAY),
		NO(BUSY), GO(SETTLED), GO(SETTLED), GO(GPU_FAULTED),
		NO(BUSY), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(BUSY), NO(STRAY), NO(BUSY), GO(STAYS), NO(STRAY)),
	/* rule 5: nobody has it before that is done; what could not be done is remembered. Who is
	 * to be deleted waits for it. */
	[GPU_SCRUBBING] = ROW(
		NO(BUSY), NO(BUSY), NO(BUSY), NO(BUSY),
		IF(may_remove, STAYS), IF(may_set_mode, STAYS), NO(BUSY), NO(STRAY),
		NO(BUSY), NO(STRAY), NO(STRAY), GO(GPU_FAULTED),
		NO(BUSY), EITHER(SETTLED, GPU_GIVING_BACK), GO(SETTLED), GO(SETTLED),
		NO(BUSY), NO(STRAY), NO(BUSY), GO(STAYS), NO(STRAY)),
	/* rule 3 holds to the last write */
	[GPU_GIVING_BACK] = ROW(
		NO(BUSY), NO(BUSY), NO(BUSY), NO(BUSY),
		NO(BUSY), IF(may_set_mode, STAYS), NO(BUSY), NO(STRAY),
		NO(BUSY), NO(STRAY), NO(STRAY), GO(GPU_FAULTED),
		NO(BUSY), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(BUSY), GO(SETTLED), NO(BUSY), GO(STAYS), NO(STRAY)),
	/* rule 5: for its owner alone, until it is zeroed or somebody takes the risk */
	[GPU_UNSCRUBBED] = ROW(
		NO(LEFTOVERS), NO(LEFTOVERS), IF(may_pass, SETTLED), NO(LEFTOVERS),
		NO(STRAY), IF(may_set_mode, STAYS), NO(LEFTOVERS), NO(STRAY),
		NO(STRAY), NO(STRAY), NO(STRAY), NO(STRAY),
		GO(GPU_SCRUBBING), NO(STRAY), NO(STRAY), NO(STRAY),
		NO(LEFTOVERS_MODE), NO(STRAY), GO(GPU_GIVING_BACK), GO(STAYS), NO(STRAY)),
	/* whatever failed may be tried again; nothing new comes before that has worked */
	[GPU_FAULTED] = ROW(
		NO(FAULT), NO(FAULT), NO(FAULT), NO(FAULT),
		IF(may_remove, STAYS), IF(may_set_mode, STAYS), NO(FAULT), GO(STAYS),
		IF(not_held, GPU_TAKING), NO(STRAY), NO(STRAY), GO(STAYS),
		IF(not_held, GPU_SCRUBBING), NO(STRAY), NO(STRAY), NO(STRAY),
		IF(may_give_back, GPU_GIVING_BACK), NO(STRAY), GO(STAYS), GO(STAYS), GO(SETTLED)),
	/* its vGPUs stay defined; what was under way ends */
	[GPU_GONE] = ROW(
		NO(NOT_THERE), NO(NOT_THERE), NO(NOT_THERE), NO(NOT_THERE),
		IF(may_remove, STAYS), IF(may_set_mode, STAYS), NO(NOT_THERE), GO(STAYS),
		NO(NOT_THERE), GO(SETTLED), GO(SETTLED), GO(SETTLED),
		NO(NOT_THERE), GO(SETTLED), GO(SETTLED), GO(SETTLED),
		NO(NOT_THERE), GO(SETTLED), GO(STAYS), NO(STRAY), GO(STAYS)),
};
/* clang-format on */

/* --- the answer --- */

int rules_check(const struct rules_gpu *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *what, enum gpu_state *ret_phase,
	struct error *err)
{
	const struct cell *cell = &table[rules_state(gpu)][event];
	struct question q = {.gpu = gpu, .event = event, .subject = subject};
	enum reason reason = cell->refused;

	if (reason == FINE && cell->guard)
		reason = cell->guard(&q);
	if (reason != FINE)
		return rules_refuse(&q, reason, what, err);
	enum gpu_state phase = gpu->n_vgpus ? cell->phase : cell->empty;
	*ret_phase = phase == STAYS ? gpu->phase : phase;
	return 0;
}

int rules_vm_admit(const char *vgpu, const char *holds, const char *what, struct error *err)
{
	const struct rules_gpu none = {.name = "", .left_by = "", .trouble = ""};
	const struct rules_subject subject = {.vgpu = vgpu, .holds = holds};
	const struct question q = {.gpu = &none, .event = RULES_BIND, .subject = &subject};

	return holds ? rules_refuse(&q, VM_HAS_ANOTHER, what, err) : 0;
}

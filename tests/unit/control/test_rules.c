/* SPDX-License-Identifier: Apache-2.0 */
/* The table of rules: every cell, what its refusals say, and what no walk through it may reach. */
#include "base/checked.h"
#include "control/rules.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WHAT "try it"

/* --- every cell --- */

/* A GPU in each state, named and held so that a refusal can be seen to name it. */
static struct rules_gpu in_state(enum gpu_state state, const struct rules_vgpu *vgpu)
{
	struct rules_gpu gpu = {
		.name = "gpu-x", .left_by = "", .trouble = "", .vgpus = vgpu, .n_vgpus = 1};

	switch (state) {
	case GPU_FREE:
		gpu.n_vgpus = 0;
		break;
	case GPU_UNSCRUBBED:
		gpu.n_vgpus = 0;
		gpu.left_by = "red";
		break;
	case GPU_MIXED:
		gpu.mixed = true;
		break;
	case GPU_GONE:
		gpu.gone = true;
		break;
	case GPU_SHARED:
	case GPU_MEDIATED:
	case GPU_PASSTHROUGH:
		break;
	default:
		gpu.phase = state;
		gpu.trouble = state == GPU_FAULTED ? "the bus is gone" : "";
	}
	return gpu;
}

static enum method method_in(enum gpu_state state)
{
	if (state == GPU_SHARED || state == GPU_MIXED)
		return METHOD_FORWARD;
	return state == GPU_MEDIATED ? METHOD_MEDIATE : METHOD_PASSTHROUGH;
}

/* Names what holds it: a vGPU, a VM, an owner, a mode, or what is broken. */
static bool names_holder(const struct rules_gpu *gpu, const struct rules_subject *subject,
	enum rules_event event, const char *text)
{
	const struct rules_vgpu *vgpu = gpu->n_vgpus ? &gpu->vgpus[0] : NULL;
	const char *at = strstr(text, "rule ");
	char rule = at ? at[5] : '0';

	if (strstr(text, "does not come then")) /* whoever takes GPUs is out of step */
		return strstr(text, gpu->name) && strstr(text, rules_event_names[event]);
	if (rule == '1')
		return (vgpu && vgpu->vm && strstr(text, vgpu->vm)) ||
		       (subject->holds && strstr(text, subject->holds));
	if (rule == '5')
		return gpu->left_by[0] && strstr(text, gpu->left_by);
	if (rule == '2' || rule == '3')
		return (vgpu && strstr(text, vgpu->name)) ||
		       (gpu->kept && strstr(text, method_names[gpu->mode]));
	return strstr(text, gpu->name) || (vgpu && strstr(text, vgpu->name)) ||
	       (vgpu && vgpu->vm && strstr(text, vgpu->vm));
}

static void check_refusal(const struct rules_gpu *gpu, const struct rules_subject *subject,
	enum rules_event event, const struct error *err)
{
	const char *way = strrchr(err->text, '(');
	size_t len = strlen(err->text);

	if (!strncmp(err->text, WHAT ": ", sizeof(WHAT ": ") - 1) && err->code > 0 && way &&
		way[-1] == ' ' && err->text[len - 1] == ')' &&
		len - (size_t)(way - err->text) > 8 && !strpbrk(err->text, "{}") &&
		names_holder(gpu, subject, event, err->text))
		return;
	fail_msg("%s, %s: %s", gpu_state_names[rules_state(gpu)], rules_event_names[event],
		err->text);
}

/* One question; counted if it was refused, and then checked. */
static unsigned ask(
	const struct rules_gpu *gpu, enum rules_event event, const struct rules_subject *subject)
{
	enum gpu_state phase = GPU_STATE_COUNT;
	struct error err = {0};
	int r = rules_check(gpu, event, subject, WHAT, &phase, &err);

	if (r == 0) {
		assert_true(phase == GPU_FREE || phase == GPU_TAKING || phase == GPU_SCRUBBING ||
			    phase == GPU_GIVING_BACK || phase == GPU_FAULTED);
		return 0;
	}
	assert_int_equal(r, -err.code);
	check_refusal(gpu, subject, event, &err);
	return 1;
}

/* All there is to say about one cell: kept or not, held or not, its own or another's. */
static void ask_all(
	enum gpu_state state, enum rules_event event, unsigned *refused, unsigned *asked)
{
	for (unsigned bits = 0; bits < 256; bits++) {
		const struct rules_vgpu vgpu = {.name = "alpha",
			.method = method_in(state),
			.type = "t-1",
			.vm = bits & 1 ? "QEMU[7]" : NULL};
		struct rules_gpu gpu = in_state(state, &vgpu);
		const struct rules_subject subject = {.vgpu = bits & 2 ? "alpha" : "beta",
			.method = (enum method)(bits >> 2 & 3),
			.type = bits & 16 ? "t-1" : "t-2",
			.owner = bits & 16 ? "red" : "blue",
			.holds = bits & 32 ? "gamma" : NULL,
			.force = bits & 32,
			.trouble = "no answer"};
		gpu.kept = bits & 64;
		gpu.mode = bits & 128 ? METHOD_PASSTHROUGH : METHOD_FORWARD;
		assert_int_equal(rules_state(&gpu), state);
		*refused += ask(&gpu, event, &subject);
		++*asked;
	}
}

/*
 * What each state makes of each event, in their order: '.' allowed, 'x' refused, '?' by what is
 * there. What comes, what holds it, the way to vfio-pci, the scrub, the way back, the inventory.
 */
static const char *const verdicts[GPU_STATE_COUNT] = {
	[GPU_FREE] = "???? x.xx xxxx xxxx xxx .x",
	[GPU_SHARED] = "?xx? ???. xxxx xxxx xxx .x",
	[GPU_MIXED] = "?xx? ???. xxxx xxxx xxx .x",
	[GPU_MEDIATED] = "x?xx ???. xxxx xxxx xxx .x",
	[GPU_PASSTHROUGH] = "xxxx ???. ?xx. ?xxx ?x? .x",
	[GPU_TAKING] = "xxxx x?xx x... xxxx xxx .x",
	[GPU_SCRUBBING] = "xxxx ??xx xxx. x... xxx .x",
	[GPU_GIVING_BACK] = "xxxx x?xx xxx. xxxx x.x .x",
	[GPU_UNSCRUBBED] = "xx?x x?xx xxxx .xxx xx. .x",
	[GPU_FAULTED] = "xxxx ??x. ?xx. ?xxx ?x. ..",
	[GPU_GONE] = "xxxx ??x. x... x... x.. x.",
};

static void test_every_cell(void **state)
{
	for (enum gpu_state s = 0; s < GPU_STATE_COUNT; s++) {
		const char *wanted = verdicts[s];
		for (enum rules_event e = 0; e < RULES_EVENT_COUNT; e++) {
			unsigned refused = 0, asked = 0;
			ask_all(s, e, &refused, &asked);
			char got = !refused ? '.' : refused == asked ? 'x' : '?';
			wanted += strspn(wanted, " ");
			if (got != *wanted++)
				fail_msg("%u, %s, is %s: %c", s, gpu_state_names[s],
					rules_event_names[e], got);
		}
		assert_string_equal(wanted, "");
	}
}

/* --- sentences --- */

static const struct rules_vgpu two[] = {
	{.name = "a", .method = METHOD_FORWARD, .type = "t-256", .vm = "QEMU[12]"},
	{.name = "b", .method = METHOD_FORWARD, .type = "t-256"},
};
static const struct rules_vgpu whole = {
	.name = "p", .method = METHOD_PASSTHROUGH, .type = "gpu-x", .vm = "domain win"};

static void refused(const struct rules_gpu *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *text)
{
	enum gpu_state phase;
	struct error err = {0};

	assert_true(rules_check(gpu, event, subject, "x", &phase, &err) < 0);
	assert_string_equal(err.text, text);
}

static void test_sentences(void **state)
{
	struct rules_gpu shared = {
		.name = "gpu-x", .left_by = "", .trouble = "", .vgpus = two, .n_vgpus = 2};
	struct rules_gpu passed = shared, freed = shared;
	struct rules_subject s = {
		.vgpu = "n", .method = METHOD_FORWARD, .type = "t-64", .owner = ""};

	passed.vgpus = &whole;
	passed.n_vgpus = 1;
	freed.n_vgpus = 0;
	refused(&shared, RULES_ADD_SHARE, &s,
		"x: by rule 2 all vGPUs of gpu-x are of one type, and it carries a, b of type "
		"t-256 "
		"(choose that type or another GPU, delete them, or set mixed = yes for it)");
	refused(&shared, RULES_ADD_PASSTHROUGH, &s,
		"x: by rule 3 a GPU with vGPUs cannot go to passthrough, and gpu-x carries a, b of "
		"method forward (move them to another GPU, or delete them)");
	refused(&passed, RULES_ADD_SHARE, &s,
		"x: by rule 3 a GPU in passthrough carries no other vGPU, and gpu-x is in "
		"passthrough for p (choose another GPU, or delete that)");
	freed.kept = true;
	freed.mode = METHOD_PASSTHROUGH;
	refused(&freed, RULES_ADD_SHARE, &s,
		"x: by rule 3 a GPU in passthrough carries no vGPUs, and gpu-x is kept for "
		"passthrough (choose another GPU, or `vgpuctl gpu mode gpu-x any`)");
	freed.mode = METHOD_FORWARD;
	s.method = METHOD_PASSTHROUGH;
	refused(&freed, RULES_ADD_PASSTHROUGH, &s,
		"x: by rule 3 a GPU with vGPUs cannot go to passthrough, and gpu-x is kept for "
		"vGPUs of method forward (choose another GPU, or `vgpuctl gpu mode gpu-x any`)");
	refused(&shared, RULES_MODE, &s,
		"x: by rule 3 a GPU with vGPUs cannot go to passthrough, and gpu-x carries a, b of "
		"method forward (move them to another GPU, or delete them)");
	s = (struct rules_subject){.vgpu = "a"};
	refused(&shared, RULES_BIND, &s,
		"x: by rule 1 a vGPU has at most one VM, and a is held by QEMU[12] (end that "
		"first, "
		"or create another vGPU)");
	s = (struct rules_subject){.vgpu = "b", .holds = "a"};
	refused(&shared, RULES_BIND, &s,
		"x: by rule 1 a VM has at most one vGPU, and this one holds a (take that from it "
		"first, or keep that)");
	s = (struct rules_subject){.vgpu = "p", .force = true};
	refused(&passed, RULES_REMOVE, &s,
		"x: p is held by domain win, which has the device itself (shut that VM down "
		"first)");
	freed.kept = false;
	freed.left_by = "red";
	s = (struct rules_subject){.method = METHOD_PASSTHROUGH, .owner = "blue"};
	struct error err;
	enum gpu_state phase;
	assert_int_equal(rules_check(&freed, RULES_ADD_PASSTHROUGH, &s, "x", &phase, &err), -EBUSY);
	assert_non_null(strstr(err.text, "rule 5"));
	s.owner = "red";
	assert_int_equal(rules_check(&freed, RULES_ADD_PASSTHROUGH, &s, "x", &phase, &err), 0);
}

static void test_rule_1_for_a_vm(void **state)
{
	struct error err = {0};

	assert_int_equal(rules_vm_admit("b", NULL, "serve b", &err), 0);
	assert_int_equal(rules_vm_admit("b", "a", "serve b", &err), -EBUSY);
	assert_string_equal(err.text,
		"serve b: by rule 1 a VM has at most one vGPU, and this one holds a (take that "
		"from it first, or keep that)");
}

/* However many and long the names are, the way out is whole. */
static void test_long_names(void **state)
{
	static char names[90][VGPU_NAME_LONGEST + 1], type[TYPES_NAME_MAX];
	struct rules_vgpu vgpus[ARRAY_SIZE(names)];
	struct rules_gpu gpu = {.name = type,
		.left_by = "",
		.trouble = "",
		.vgpus = vgpus,
		.n_vgpus = ARRAY_SIZE(vgpus)};
	const struct rules_subject subject = {.method = METHOD_FORWARD, .type = "other"};
	enum gpu_state phase;
	struct error err;

	memset(type, 'g', sizeof(type) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		memset(names[i], 'n', VGPU_NAME_LONGEST);
		vgpus[i] = (struct rules_vgpu){names[i], METHOD_FORWARD, type, NULL};
	}
	assert_int_equal(rules_check(&gpu, RULES_ADD_SHARE, &subject, WHAT, &phase, &err), -EBUSY);
	assert_non_null(strstr(err.text, ", or set mixed = yes for it)"));
	gpu.vgpus = (struct rules_vgpu[]){{"a", METHOD_FORWARD, "t", NULL},
		{"b", METHOD_FORWARD, "t", NULL}, {"c", METHOD_FORWARD, "t", NULL},
		{"d", METHOD_FORWARD, "t", NULL}, {"e", METHOD_FORWARD, "t", NULL}};
	gpu.n_vgpus = 5;
	assert_int_equal(rules_check(&gpu, RULES_ADD_SHARE, &subject, WHAT, &phase, &err), -EBUSY);
	assert_non_null(strstr(err.text, "carries a, b, c and 2 more of type"));
}

/* --- a walk --- */

#define WALK_STEPS 20000
#define WALK_SEEDS 12
#define WALK_VGPUS 6
#define WALK_VMS   4

/* A GPU as it would be, beside what the rules are told of it. */
struct walk {
	uint64_t random;
	struct rules_gpu gpu;
	struct rules_vgpu vgpus[WALK_VGPUS];
	const char *owners[WALK_VGPUS];
	const char *data_of; /* whose data is really in its memory; NULL: nobody's */
	bool risked;         /* somebody overrode */
	bool on_vfio, deleting;
	bool seen[GPU_STATE_COUNT];
	unsigned done[RULES_EVENT_COUNT];
};

static const char *const walk_names[WALK_VGPUS] = {"a", "b", "c", "d", "e", "f"};
static const char *const walk_vms[WALK_VMS] = {"vm0", "vm1", "vm2", "vm3"};
static const char *const walk_owners[] = {"red", "blue", "x 1"};
static const char *const walk_types[] = {"t-64", "t-128"};

static unsigned pick(struct walk *w, unsigned n)
{
	w->random = w->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(w->random >> 33) % n;
}

static size_t walk_find(const struct walk *w, const char *name)
{
	size_t i = 0;

	while (i < w->gpu.n_vgpus && strcmp(w->vgpus[i].name, name) != 0)
		i++;
	return i;
}

static void walk_add(struct walk *w, const struct rules_subject *s)
{
	w->owners[w->gpu.n_vgpus] = s->owner;
	w->vgpus[w->gpu.n_vgpus++] =
		(struct rules_vgpu){.name = s->vgpu, .method = s->method, .type = s->type};
}

static void walk_drop(struct walk *w, size_t i)
{
	w->gpu.n_vgpus--;
	memmove(&w->vgpus[i], &w->vgpus[i + 1], (w->gpu.n_vgpus - i) * sizeof(w->vgpus[0]));
	memmove(&w->owners[i], &w->owners[i + 1], (w->gpu.n_vgpus - i) * sizeof(w->owners[0]));
	w->deleting = false;
}

/* What has happened to it; the rules allowed it. */
static void walk_apply(struct walk *w, enum rules_event event, const struct rules_subject *s,
	const char *vm, enum gpu_state phase)
{
	size_t i = s->vgpu ? walk_find(w, s->vgpu) : 0;

	w->gpu.phase = phase;
	switch (event) {
	case RULES_ADD_SHARE:
	case RULES_ADD_MEDIATE:
	case RULES_ADD_PASSTHROUGH:
	case RULES_MOVE_IN:
		walk_add(w, s);
		break;
	case RULES_REMOVE:
		if (w->vgpus[i].method == METHOD_PASSTHROUGH && w->on_vfio && !w->gpu.gone)
			w->deleting = true; /* it goes when its GPU was given back */
		else
			walk_drop(w, i);
		break;
	case RULES_MODE:
		w->gpu.kept = s->method < METHOD_COUNT;
		w->gpu.mode = w->gpu.kept ? s->method : METHOD_EMULATE;
		break;
	case RULES_BIND:
		w->vgpus[i].vm = vm;
		if (w->vgpus[i].method == METHOD_PASSTHROUGH) {
			assert_true(w->on_vfio);
			/* rule 5: nobody finds what another left */
			assert_true(!w->data_of || w->risked || !strcmp(w->data_of, w->owners[i]));
			w->data_of = w->gpu.left_by = w->owners[i];
		}
		break;
	case RULES_LEAVE:
		w->vgpus[i].vm = NULL;
		break;
	case RULES_TAKEN:
		w->on_vfio = true;
		if (w->gpu.n_vgpus)
			w->gpu.left_by = w->owners[0];
		break;
	case RULES_SCRUBBED:
		w->data_of = NULL;
		w->gpu.left_by = "";
		break;
	case RULES_SCRUB_PARTIAL:
	case RULES_SCRUB_FAILED:
		if (w->deleting)
			walk_drop(w, 0);
		break;
	case RULES_OVERRIDE:
		w->gpu.left_by = "";
		w->risked = w->data_of;
		break;
	case RULES_GIVEN_BACK:
		/* rule 5: a native driver's clients find nothing either */
		assert_true(!w->data_of || w->risked || w->gpu.gone);
		w->on_vfio = w->gpu.gone && w->on_vfio;
		if (w->deleting)
			walk_drop(w, 0);
		break;
	case RULES_NOT_TAKEN:
		w->on_vfio = w->gpu.left_by[0]; /* a second attempt at one that it has */
		break;
	case RULES_VANISHED:
		w->gpu.gone = true;
		for (size_t k = 0; k < w->gpu.n_vgpus; k++)
			w->vgpus[k].vm = NULL;
		break;
	case RULES_RETURNED:
		w->gpu.gone = false;
		break;
	default:
		break;
	}
	if (!w->data_of)
		w->risked = false;
}

static void walk_check(struct walk *w)
{
	const struct rules_gpu *gpu = &w->gpu;
	unsigned per_vm[WALK_VMS] = {0};

	w->seen[rules_state(gpu)] = true;
	for (size_t i = 0; i < gpu->n_vgpus; i++) {
		const struct rules_vgpu *v = &gpu->vgpus[i], *first = &gpu->vgpus[0];
		if (!gpu->mixed)
			assert_string_equal(v->type, first->type); /* rule 2 */
		if (!gpu->mixed || v->method > METHOD_FORWARD)
			assert_int_equal(v->method, first->method);
		if (v->method == METHOD_PASSTHROUGH)
			assert_int_equal(gpu->n_vgpus, 1); /* rule 3 */
		if (gpu->kept)
			assert_int_equal(v->method, gpu->mode);
		for (unsigned k = 0; k < WALK_VMS; k++)
			per_vm[k] += v->vm == walk_vms[k];
	}
	for (unsigned k = 0; k < WALK_VMS; k++)
		assert_true(per_vm[k] <= 1); /* rule 1 */
	/* whatever is done to the device is done to nobody's share of it, and under no VM */
	if (gpu->phase != GPU_FREE && gpu->n_vgpus)
		assert_int_equal(gpu->vgpus[0].method, METHOD_PASSTHROUGH);
	for (size_t i = 0; gpu->phase != GPU_FREE && gpu->phase != GPU_FAULTED && i < gpu->n_vgpus;
		i++)
		assert_null(gpu->vgpus[i].vm);
	/* what is left is known */
	if (w->data_of && !w->risked)
		assert_string_equal(gpu->left_by, w->data_of);
}

static const char *walk_vgpu_of(const struct walk *w, const char *vm)
{
	for (size_t i = 0; i < w->gpu.n_vgpus; i++) {
		if (w->vgpus[i].vm == vm)
			return w->vgpus[i].name;
	}
	return NULL;
}

static void walk_step(struct walk *w)
{
	enum rules_event event = (enum rules_event)pick(w, RULES_EVENT_COUNT);
	const char *vm = walk_vms[pick(w, WALK_VMS)];
	struct rules_subject s = {.vgpu = walk_names[pick(w, WALK_VGPUS)],
		.method = (enum method)pick(w, METHOD_COUNT + (event == RULES_MODE)),
		.type = walk_types[pick(w, ARRAY_SIZE(walk_types))],
		.owner = walk_owners[pick(w, ARRAY_SIZE(walk_owners))],
		.force = pick(w, 2),
		.trouble = "no answer"};
	bool adds = event <= RULES_MOVE_IN;
	enum gpu_state phase;
	struct error err;

	if (adds && walk_find(w, s.vgpu) < w->gpu.n_vgpus)
		return; /* no two of one name */
	if (event <= RULES_ADD_PASSTHROUGH && event != rules_event_of_method(s.method))
		return;
	if (event == RULES_BIND)
		s.holds = walk_vgpu_of(w, vm);
	size_t i = walk_find(w, s.vgpu);
	if (event == RULES_LEAVE && (i == w->gpu.n_vgpus || !w->vgpus[i].vm))
		return;
	if ((event == RULES_VANISHED || event == RULES_MODE || event == RULES_OVERRIDE) &&
		pick(w, 4))
		return; /* not so often that nothing else happens */
	/* Whoever takes GPUs binds, zeroes and gives back what vfio-pci has, and nothing else. */
	bool passed = i < w->gpu.n_vgpus && w->vgpus[i].method == METHOD_PASSTHROUGH;
	if (((event == RULES_BIND && passed) || event == RULES_SCRUB || event == RULES_GIVE_BACK) &&
		!w->on_vfio)
		return;
	if (rules_check(&w->gpu, event, &s, WHAT, &phase, &err) < 0)
		return;
	walk_apply(w, event, &s, vm, phase);
	w->done[event]++;
	walk_check(w);
}

static void test_walk(void **state)
{
	bool seen[GPU_STATE_COUNT] = {0};
	unsigned done[RULES_EVENT_COUNT] = {0};

	for (unsigned seed = 0; seed < WALK_SEEDS; seed++) {
		struct walk w = {.random = seed,
			.gpu = {.name = "gpu-x",
				.left_by = "",
				.trouble = "",
				.mixed = seed % 3 == 2}};
		w.gpu.vgpus = w.vgpus;
		for (unsigned i = 0; i < WALK_STEPS; i++)
			walk_step(&w);
		for (unsigned i = 0; i < GPU_STATE_COUNT; i++)
			seen[i] |= w.seen[i];
		for (unsigned i = 0; i < RULES_EVENT_COUNT; i++)
			done[i] += w.done[i];
	}
	for (unsigned i = 0; i < GPU_STATE_COUNT; i++) {
		if (!seen[i])
			fail_msg("no walk came to the state %s (%u)", gpu_state_names[i], i);
	}
	for (unsigned i = 0; i < RULES_EVENT_COUNT; i++) {
		if (!done[i])
			fail_msg("no walk saw %s", rules_event_names[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_sentences),
		cmocka_unit_test(test_rule_1_for_a_vm),
		cmocka_unit_test(test_long_names),
		cmocka_unit_test(test_walk),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

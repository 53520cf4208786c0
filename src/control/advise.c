/* SPDX-License-Identifier: Apache-2.0 */
#include "control/advise.h"

#include "base/checked.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define BIT(n)       (1u << (n))
#define COMMANDS_MAX 8u /* vGPUs that are written out; then it is said that there are more */

#define NAME(name, word) [ADVISE_##name] = word,
const char *const advise_need_names[ADVISE_NEED_COUNT] = {ADVISE_NEEDS(NAME)};
#undef NAME

const char *const advise_criterion_names[CRITERION_COUNT] = {
	[CRITERION_PERFORMANCE] = "performance",
	[CRITERION_FIDELITY] = "fidelity",
	[CRITERION_MULTIPLEXING] = "multiplexing",
	[CRITERION_INTERPOSITION] = "interposition",
	[CRITERION_ISOLATION] = "isolation",
};

enum advise_need advise_need_from_name(const char *name)
{
	enum advise_need need = 0;

	while (need < ADVISE_NEED_COUNT && strcmp(advise_need_names[need], name) != 0)
		need++;
	return need;
}

/* --- the tables --- */

/* What methods are judged as: forward is two, by what it draws on. */
enum sort { SORT_EMULATE, SORT_FORWARD_SOFT, SORT_FORWARD_GPU, SORT_MEDIATE, SORT_PASSTHROUGH };

static const struct property {
	unsigned score; /* at most ADVISE_SCORE_MAX */
	const char *text;
} properties[][CRITERION_COUNT] = {
	[SORT_EMULATE] = {{1, "the node's CPU draws"},
		{2, "OpenGL, but only what can be saved to the last bit; no Vulkan"},
		{4, "as many as memory and CPU carry"},
		{5, "the whole state is known: always moved, saved and restored exactly"},
		{4, "a locked-down process each, and no hardware in common"}},
	[SORT_FORWARD_SOFT] = {{1, "the node's CPU draws"},
		{3, "all the OpenGL that the host's driver has and virtio-gpu passes on; no "
		    "Vulkan"},
		{4, "as many as memory and CPU carry"},
		{4, "moved, saved and hibernated under the guest; what would be lost is said "
		    "before"},
		{4, "a locked-down process each, and no hardware in common"}},
	[SORT_FORWARD_GPU] = {{4, "the GPU draws; each command is checked before"},
		{3, "all the OpenGL that the host's driver has and virtio-gpu passes on; no "
		    "Vulkan"},
		{5, "as many as its memory carries, each with its share of time"},
		{3, "moved, saved and hibernated under the guest, but for what the driver keeps"},
		{3, "a locked-down process each, on one driver"}},
	[SORT_MEDIATE] = {{4, "the guest's own driver on a slice of the hardware"},
		{5, "the vendor's driver in the guest: all that it offers"},
		{3, "as many as the hardware has slices"},
		{0, "its state is in the hardware: neither moved nor saved"},
		{4, "the hardware and the IOMMU separate the slices"}},
	[SORT_PASSTHROUGH] = {{5, "the guest's own driver has the whole GPU"},
		{5, "the vendor's driver in the guest: all that it offers"},
		{1, "one VM for each GPU"},
		{0, "its state is in the hardware: neither moved nor saved"},
		{5, "nothing is shared; it is reset and emptied between two VMs"}},
};

/* How much a need asks of each criterion; the last row: of no need in particular. */
static const unsigned weights[ADVISE_NEED_COUNT + 1][CRITERION_COUNT] = {
	/*                      perf. fid. mult. inter. isol. */
	[ADVISE_PERFORMANCE] = {6, 3, 1, 0, 0},
	[ADVISE_DENSITY] = {1, 1, 6, 1, 0},
	[ADVISE_ISOLATION] = {1, 1, 0, 1, 6},
	[ADVISE_MIGRATION] = {1, 1, 1, 6, 0},
	[ADVISE_NO_HARDWARE] = {2, 2, 2, 2, 1},
	[ADVISE_NEED_COUNT] = {2, 2, 2, 2, 1},
};

static enum sort sort_of(enum method method, bool soft)
{
	static const enum sort sorts[METHOD_COUNT] = {[METHOD_EMULATE] = SORT_EMULATE,
		[METHOD_FORWARD] = SORT_FORWARD_GPU,
		[METHOD_MEDIATE] = SORT_MEDIATE,
		[METHOD_PASSTHROUGH] = SORT_PASSTHROUGH};

	return method == METHOD_FORWARD && soft ? SORT_FORWARD_SOFT : sorts[method];
}

static bool asks(const struct advise_question *q, enum advise_need need)
{
	return q->needs & BIT(need);
}

/* --- what speaks against an answer --- */

struct looking {
	const struct advise_question *q;
	const struct advise_gpu *gpu;
	const struct advise_way *way;
	enum method method;
	uint32_t fits; /* on all GPUs */
};

static bool by_vfio(enum method method)
{
	return method == METHOD_MEDIATE || method == METHOD_PASSTHROUGH;
}

static bool is_impossible(const struct looking *l)
{
	return !l->way->possible;
}

static bool not_offered(const struct looking *l)
{
	return l->way->possible && !l->way->offered;
}

static bool needs_hardware(const struct looking *l)
{
	return asks(l->q, ADVISE_NO_HARDWARE) && (!l->gpu->soft || by_vfio(l->method));
}

static bool no_windows_driver(const struct looking *l)
{
	return l->q->windows && !by_vfio(l->method);
}

static bool cannot_move(const struct looking *l)
{
	return asks(l->q, ADVISE_MIGRATION) && by_vfio(l->method);
}

static bool too_few(const struct looking *l)
{
	return l->way->possible && l->fits < l->q->vms;
}

static const struct objection {
	const char *condition; /* NULL: that of the node's own finding, with its words */
	bool (*holds)(const struct looking *l);
	const char *text, *remedy;
} objections[] = {
	{NULL, is_impossible, NULL, NULL},
	{"not-offered", not_offered, "the node could, but this vgpud does not do it yet",
		"choose another method"},
	{"needs-hardware", needs_hardware, "it takes a GPU, and none is to be used",
		"choose forward or emulate on a soft GPU"},
	{"no-guest-driver", no_windows_driver,
		"Windows has no driver that draws in 3D on it: there is a screen, and nothing is "
		"accelerated",
		"passthrough or mediate, with the vendor's driver in the guest"},
	{"not-movable", cannot_move, "its state is in the hardware: neither moved nor saved",
		"choose emulate, or forward"},
	{"too-few", too_few, NULL,
		"choose a smaller type (`vgpuctl type list`), delete vGPUs, or add GPUs"},
};

static void object(struct advise_answer *answer, const char *condition, const char *remedy,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

static void object(struct advise_answer *answer, const char *condition, const char *remedy,
	const char *format, ...)
{
	va_list args;

	if (answer->n_against == ADVISE_AGAINST_MAX)
		return;
	struct advise_against *against = &answer->against[answer->n_against++];
	against->condition = condition;
	va_start(args, format);
	vsnprintf(against->text, sizeof(against->text), format, args);
	va_end(args);
	snprintf(against->remedy, sizeof(against->remedy), "%s", remedy);
}

static void find_objections(const struct looking *l, struct advise_answer *answer)
{
	for (size_t i = 0; i < ARRAY_SIZE(objections); i++) {
		const struct objection *o = &objections[i];
		if (!o->holds(l))
			continue;
		if (!o->condition)
			object(answer, l->way->condition, l->way->remedy, "%s", l->way->why);
		else if (o->text)
			object(answer, o->condition, o->remedy, "%s", o->text);
		else
			object(answer, o->condition, o->remedy,
				"of %u VMs, %u can have one now, by types and memory", l->q->vms,
				l->fits);
	}
}

/* --- scores --- */

static unsigned score_of(const struct advise_question *q, const struct property *row)
{
	unsigned sum = 0, most = 0;

	for (unsigned need = 0; need <= ADVISE_NEED_COUNT; need++) {
		if (need < ADVISE_NEED_COUNT ? !asks(q, need) : q->needs != 0)
			continue;
		for (unsigned c = 0; c < CRITERION_COUNT; c++) {
			sum += weights[need][c] * row[c].score;
			most += weights[need][c] * ADVISE_SCORE_MAX;
		}
	}
	return most ? sum * 100 / most : 0;
}

static void describe(const struct looking *l, struct advise_answer *answer)
{
	const struct property *row = properties[sort_of(l->method, l->gpu->soft)];
	const struct advise_way *way = l->way;
	char size[48] = "";

	for (unsigned c = 0; c < CRITERION_COUNT; c++) {
		answer->criteria[c].score = row[c].score;
		snprintf(answer->criteria[c].text, sizeof(answer->criteria[c].text), "%s",
			row[c].text);
	}
	if (way->vram_mib)
		snprintf(size, sizeof(size), " with %llu MiB each",
			(unsigned long long)way->vram_mib);
	if (way->possible && way->type[0])
		snprintf(answer->criteria[CRITERION_MULTIPLEXING].text, ADVISE_TEXT_MAX,
			"%s: %u of type %s%s now", row[CRITERION_MULTIPLEXING].text, way->fits,
			way->type, size);
	answer->score = score_of(l->q, row);
}

/* --- answers --- */

/* Of two answers by one method: is `a` on a better GPU? */
static bool better_gpu(
	const struct advise_answer *a, const struct advise_answer *b, const struct advise_gpu *gpus)
{
	const struct advise_way *x = &gpus[a->gpu].ways[a->method],
				*y = &gpus[b->gpu].ways[b->method];

	if (a->suitable != b->suitable)
		return a->suitable;
	if (x->possible != y->possible)
		return x->possible;
	if (a->n_against != b->n_against)
		return a->n_against < b->n_against;
	/* What hardware lacks can be mended; what software lacks cannot. */
	if (!x->possible && gpus[a->gpu].soft != gpus[b->gpu].soft)
		return by_vfio(a->method) ? !gpus[a->gpu].soft : gpus[a->gpu].soft;
	if (!x->possible && x->forbidding != y->forbidding)
		return x->forbidding < y->forbidding;
	return a->score != b->score ? a->score > b->score : x->fits > y->fits;
}

static void answer_on(const struct advise_question *q, const struct advise_gpu *gpus, size_t gpu,
	enum method method, uint32_t fits, struct advise_answer *ret)
{
	const struct looking l = {.q = q,
		.gpu = &gpus[gpu],
		.way = &gpus[gpu].ways[method],
		.method = method,
		.fits = fits};

	*ret = (struct advise_answer){.method = method, .gpu = gpu, .fits = fits};
	find_objections(&l, ret);
	describe(&l, ret);
	ret->suitable = !ret->n_against;
}

/* Would it do but for how many fit? */
static bool would_do(const struct advise_question *q, const struct advise_gpu *gpus, size_t gpu,
	enum method method)
{
	struct advise_answer answer;

	answer_on(q, gpus, gpu, method, ADVISE_VMS_MAX, &answer);
	return answer.suitable;
}

static void answer_by(const struct advise_question *q, const struct advise_gpu *gpus, size_t n,
	enum method method, struct advise_answer *ret)
{
	uint64_t fits = 0, possible = 0;
	struct advise_answer answer;
	bool could[ADVISE_GPUS_MAX] = {0};

	for (size_t i = 0; i < n; i++) {
		const struct advise_way *way = &gpus[i].ways[method];
		could[i] = would_do(q, gpus, i, method);
		fits += could[i] ? way->fits : 0;
		possible += way->possible ? way->fits : 0;
	}
	fits = MIN(fits ? fits : possible, (uint64_t)ADVISE_VMS_MAX);
	if (!by_vfio(method))
		fits = MIN(fits, (uint64_t)q->processes);
	for (size_t i = 0; i < n; i++) {
		answer_on(q, gpus, i, method, (uint32_t)fits, &answer);
		if (i == 0 || better_gpu(&answer, ret, gpus))
			*ret = answer;
	}
	memcpy(ret->gpus, could, sizeof(could));
}

static bool better_answer(
	const struct advise_answer *a, const struct advise_answer *b, const struct advise_gpu *gpus)
{
	bool a_possible = gpus[a->gpu].ways[a->method].possible,
	     b_possible = gpus[b->gpu].ways[b->method].possible;

	if (a->suitable != b->suitable)
		return a->suitable;
	if (a_possible != b_possible)
		return a_possible;
	return a->score > b->score;
}

void advise(const struct advise_question *question, const struct advise_gpu *gpus, size_t n,
	struct advice *ret)
{
	struct advise_answer answer = {0};

	n = MIN(n, (size_t)ADVISE_GPUS_MAX);
	for (unsigned m = 0; m < METHOD_COUNT; m++) {
		unsigned at = m;
		answer_by(question, gpus, n, m, &answer);
		while (at && better_answer(&answer, &ret->answers[at - 1], gpus)) {
			ret->answers[at] = ret->answers[at - 1];
			at--;
		}
		ret->answers[at] = answer;
	}
}

/* --- commands --- */

struct saying {
	void (*say)(void *data, const char *line);
	void *data;
};

static void line(const struct saying *saying, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void line(const struct saying *saying, const char *format, ...)
{
	char text[ADVISE_TEXT_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	saying->say(saying->data, text);
}

/* As many vGPUs on one GPU as fit and are still to be made; returns how many those are. */
static uint32_t commands_on(const struct saying *saying, const struct advise_question *q,
	const struct advise_gpu *gpu, enum method method, uint32_t made)
{
	const struct advise_way *way = &gpu->ways[method];
	uint32_t n = MIN(way->fits, q->vms - made);
	const char *with = way->type[0] && method != METHOD_PASSTHROUGH ? " --type " : "";

	if (!n)
		return 0;
	line(saying, "vgpuctl gpu mode %s %s", gpu->name, method_names[method]);
	if (asks(q, ADVISE_ISOLATION) && !by_vfio(method))
		line(saying, "vgpuctl gpu policy %s fixed-share", gpu->name);
	for (uint32_t i = made + 1; i <= made + n && i <= COMMANDS_MAX; i++) {
		line(saying, "vgpuctl create vgpu%u --gpu %s%s%s --method %s", i, gpu->name, with,
			*with ? way->type : "", method_names[method]);
		line(saying, "vgpuctl libvirt attach DOMAIN%u vgpu%u", i, i);
	}
	return n;
}

void advise_commands(const struct advise_question *question, const struct advise_gpu *gpus,
	size_t n, const struct advise_answer *answer, void (*say)(void *data, const char *line),
	void *data)
{
	const struct saying saying = {say, data};
	const struct advise_way *way = &gpus[answer->gpu].ways[answer->method];
	uint32_t made = 0;

	if (!way->possible || !way->offered)
		return;
	made = commands_on(&saying, question, &gpus[answer->gpu], answer->method, 0);
	for (size_t i = 0; i < n && made < question->vms; i++) {
		if (i != answer->gpu && answer->gpus[i])
			made += commands_on(&saying, question, &gpus[i], answer->method, made);
	}
	if (made > COMMANDS_MAX)
		line(&saying, "# and so on, up to vgpu%u", made);
}

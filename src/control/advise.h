/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_ADVISE_H
#define VGPU_CONTROL_ADVISE_H

/*
 * Which of the four methods suits a need on this node. Pure: facts about its GPUs in, four answers
 * out, the best first.
 *
 * A method is judged by the four criteria of the field (performance, fidelity, multiplexing,
 * interposition) and by isolation: one table says what each method is worth by each, from 0 to 5,
 * and why; another how much each need asks of each criterion. The score of an answer is the mean
 * of the former weighted by the latter, in per cent. What speaks against an answer (the node
 * cannot, it does not fit, the guest has no driver for it) makes it unsuitable, whatever it scores:
 * those come last, each with the way out.
 */

#include "control/types.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADVISE_GPUS_MAX    80
#define ADVISE_TEXT_MAX    320
#define ADVISE_AGAINST_MAX 6
#define ADVISE_SCORE_MAX   5u /* of one criterion */
#define ADVISE_VMS_MAX     1024u

/* X(name, word) */
#define ADVISE_NEEDS(X)                                                                            \
	X(PERFORMANCE, "performance")                                                              \
	X(DENSITY, "density")                                                                      \
	X(ISOLATION, "isolation")                                                                  \
	X(MIGRATION, "migration")                                                                  \
	X(NO_HARDWARE, "no-hardware")

#define ADVISE_ENUM(name, word) ADVISE_##name,
enum advise_need { ADVISE_NEEDS(ADVISE_ENUM) ADVISE_NEED_COUNT };
#undef ADVISE_ENUM

enum advise_criterion {
	CRITERION_PERFORMANCE,
	CRITERION_FIDELITY,
	CRITERION_MULTIPLEXING,
	CRITERION_INTERPOSITION,
	CRITERION_ISOLATION,
	CRITERION_COUNT
};

extern const char *const advise_need_names[ADVISE_NEED_COUNT];
extern const char *const advise_criterion_names[CRITERION_COUNT];
/* ADVISE_NEED_COUNT: there is no such need. */
enum advise_need advise_need_from_name(const char *name);

struct advise_question {
	unsigned needs; /* a bit for each; 0: none in particular */
	uint32_t vms;   /* 1..ADVISE_VMS_MAX */
	bool windows;   /* else Linux */
	/* For how many more device processes (emulate, forward) the node has memory. */
	uint32_t processes;
};

/* What the node says of one GPU by one method. */
struct advise_way {
	bool possible;      /* host_method_judge() */
	bool offered;       /* by this vgpud */
	char condition[40]; /* of what forbids it; "" : nothing does */
	char why[ADVISE_TEXT_MAX], remedy[ADVISE_TEXT_MAX];
	unsigned forbidding;       /* how many findings forbid it: fewer are nearer to possible */
	uint32_t fits;             /* so many more vGPUs fit now */
	char type[TYPES_NAME_MAX]; /* of this type; "": the method has none */
	uint64_t vram_mib;         /* each; 0: not told */
};

struct advise_gpu {
	char name[TYPES_NAME_MAX];
	bool soft;
	struct advise_way ways[METHOD_COUNT];
};

/* Why an answer is not suitable. */
struct advise_against {
	const char *condition; /* stable, for programs */
	char text[ADVISE_TEXT_MAX], remedy[ADVISE_TEXT_MAX];
};

struct advise_answer {
	enum method method;
	size_t gpu; /* the best for it, index into the GPUs given */
	bool suitable;
	unsigned score; /* 0..100 */
	uint32_t fits;  /* vGPUs, on all GPUs that can do it */
	struct {
		unsigned score; /* 0..ADVISE_SCORE_MAX */
		char text[ADVISE_TEXT_MAX];
	} criteria[CRITERION_COUNT];
	struct advise_against against[ADVISE_AGAINST_MAX];
	size_t n_against;
	bool gpus[ADVISE_GPUS_MAX]; /* those that could do it as well as `gpu` is told to */
};

struct advice {
	struct advise_answer answers[METHOD_COUNT]; /* the best first */
};

/* `n` GPUs, 1 to ADVISE_GPUS_MAX. */
void advise(const struct advise_question *question, const struct advise_gpu *gpus, size_t n,
	struct advice *ret);

/*
 * The commands that would do it: calls `say` with each line, in order. `answer` is one of an advice
 * on these GPUs. None for one that is not possible.
 */
void advise_commands(const struct advise_question *question, const struct advise_gpu *gpus,
	size_t n, const struct advise_answer *answer, void (*say)(void *data, const char *line),
	void *data);

#endif

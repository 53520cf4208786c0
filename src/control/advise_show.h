/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_ADVISE_SHOW_H
#define VGPU_CONTROL_ADVISE_SHOW_H

/* Advice as JSON, and what it is made from. Names are a contract: added, never renamed. */

#include "control/advise.h"
#include "control/vgpud.h"

#include <jansson.h>

/* X(name, type, meaning) */
#define ADVICE_FIELDS(X)                                                                           \
	X(needs, "array of strings", "that were asked for")                                        \
	X(vms, "number", "that were asked for")                                                    \
	X(guest, "string", "linux or windows")                                                     \
	X(answers, "array of answer", "one for each method, the best first")

#define ADVICE_ANSWER_FIELDS(X)                                                                    \
	X(rank, "number", "from 1")                                                                \
	X(method, "string", "")                                                                    \
	X(gpu, "string", "the best one for it, or the one nearest to being possible")              \
	X(suitable, "boolean", "nothing speaks against it")                                        \
	X(possible, "boolean", "this GPU on this node could be used so")                           \
	X(offered, "boolean", "this vgpud can do it")                                              \
	X(score, "number", "0 to 100: the criteria as the needs weigh them")                       \
	X(fits, "number", "so many more vGPUs, on all GPUs that can do it")                        \
	X(type, "string or null", "the largest of which that many fit")                            \
	X(vram_mib, "number or null", "of that type")                                              \
	X(criteria, "array of {criterion, score, text}",                                           \
		"performance, fidelity, multiplexing, interposition, isolation; score: 0 to 5")    \
	X(against, "array of {condition, text, remedy}", "why it is not suitable")                 \
	X(others, "array of strings", "other GPUs that could do it")                               \
	X(commands, "array of strings", "that would do it; empty where it is not possible")

/* Of one GPU from what is shown of it (an object of REPORT_GPU_FIELDS) and its types. */
void advise_gpu_read(const struct vgpud *d, const struct gpu *gpu, const json_t *shown,
	uint32_t vms, struct advise_gpu *ret);

json_t *advise_render(const struct advise_question *question, const struct advise_gpu *gpus,
	size_t n, const struct advice *advice);

#endif

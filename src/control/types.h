/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_TYPES_H
#define VGPU_CONTROL_TYPES_H

/*
 * GPUs, the types they offer, and the rules about what may share a GPU. Pure: all inputs are given.
 *
 * Each GPU offers a ladder of types, one for each power of two of VRAM from TYPES_LEAST_MIB to what
 * it has, named GPU-MIB ("soft0-256"): the same name means the same on every node. A config file
 * may add types and replace these.
 */

#include "base/error.h"
#include "scheduler/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TYPES_LEAST_MIB   64u
#define TYPES_DEFAULT_MIB 256u
#define TYPES_INSTANCES   64u /* most vGPUs of one GPU, however much VRAM it has */
#define TYPES_NAME_MAX    64
#define TYPES_MAX         1024
#define TYPES_MAX_HEADS   16u
#define TYPES_MIN_SIDE    64u /* of a screen: vgpu-device takes none that is smaller */
#define TYPES_MAX_SIDE    16384u
#define TYPES_IDLE_NODE   UINT32_MAX /* hibernate_idle_s: what the node says */

enum method { METHOD_EMULATE, METHOD_FORWARD, METHOD_MEDIATE, METHOD_PASSTHROUGH, METHOD_COUNT };

/* Those that this vgpud can do, a bit for each. */
#define METHODS_OFFERED ((1u << METHOD_COUNT) - 1)

extern const char *const method_names[METHOD_COUNT];
/* METHOD_COUNT when there is no such method. */
enum method method_from_name(const char *name);

/* control/rules.h has the table of them. */
enum gpu_state {
	GPU_FREE,        /* it carries nothing */
	GPU_SHARED,      /* vGPUs of one type, of method emulate or forward */
	GPU_MIXED,       /* vGPUs of any type, as configured */
	GPU_MEDIATED,    /* slices of its own, of one type */
	GPU_PASSTHROUGH, /* one vGPU, which is the whole of it */
	GPU_TAKING,      /* on its way from its driver to vfio-pci */
	GPU_SCRUBBING,   /* its memory is being zeroed */
	GPU_GIVING_BACK, /* on its way back to its driver */
	GPU_UNSCRUBBED,  /* its vGPU is gone, and not all that it left could be zeroed */
	GPU_FAULTED,     /* a step failed, and no driver has it as it should */
	GPU_GONE,        /* it is not on this node */
	GPU_STATE_COUNT
};

/* As the API says them: a mixed GPU is shared, and `mixed` says the rest. */
extern const char *const gpu_state_names[GPU_STATE_COUNT];

#define GPU_OWNER_MAX 104 /* a tenant; or a vGPU without one, by name and UUID */

struct gpu {
	char name[TYPES_NAME_MAX];
	const char *kind;
	char driver[32];
	char pci_address[16];
	char render_node[128];
	uint64_t vram_mib;
	bool vram_told; /* by its driver or the configuration; else its window shows so much */
	bool slices;    /* its time is shared in slices, as a render node's; else its CPU time is */
	bool gone;      /* it was on this node, and is not now; nothing finds it */
	bool mixed;     /* vGPUs of several types may share it (rule 2) */
	bool kept;      /* for one method: */
	enum method mode;
	enum gpu_state phase;        /* what is being done with it (rules.h); GPU_FREE: nothing */
	char left_by[GPU_OWNER_MAX]; /* whose data may be in its memory; "": it was zeroed */
	char trouble[160];           /* GPU_FAULTED: why */
	uint32_t standby;            /* so many are kept for it; 0: none */
	struct sched_gpu sched;
	const char *enforcer; /* of its policy; NULL: there is none */
};

/* What a vGPU of a type is. */
enum type_kind {
	TYPE_SHARE, /* of what a device process draws with */
	TYPE_WHOLE, /* all of a PCI GPU, for one VM: passthrough */
	TYPE_SLICE  /* that the hardware or its driver makes: mediate */
};

struct type {
	char name[TYPES_NAME_MAX];
	char gpu[TYPES_NAME_MAX];
	enum type_kind kind;
	char slice[TYPES_NAME_MAX]; /* TYPE_SLICE: what the kernel calls it */
	uint64_t vram_mib;
	uint32_t max_instances;
	uint32_t available; /* TYPE_SLICE: that its driver could make when it was asked last */
	uint32_t max_width, max_height; /* pixels */
	uint32_t heads;
	uint32_t hibernate_idle_s; /* 0: never; TYPES_IDLE_NODE */
	uint32_t weight;           /* 1..SCHED_WEIGHT_MAX */
	uint32_t share_percent;    /* in fixed-share; 0: one part in max_instances */
	uint32_t max_fps;          /* frames a second; 0: no limit */
};

/* What is on a GPU now. */
struct gpu_use {
	uint32_t vgpus;
	uint64_t vram_mib;
	const char *type; /* of one of them; NULL: none */
	uint32_t of_type; /* how many are of the type asked about */
};

bool gpu_is_soft(const struct gpu *gpu);
/* Can a device process draw on it? -ENOTSUP and why not. `what` begins the refusal. */
int gpu_draws(const struct gpu *gpu, const char *what, struct error *err);

/* Fills `types` with the ladder of one GPU; returns how many, at most `max`. */
size_t types_ladder(const struct gpu *gpu, struct type *types, size_t max);

/* The one type of a PCI GPU as a whole, "GPU-passthrough"; false: it has none. */
bool types_whole(const struct gpu *gpu, struct type *ret);
/* The method that a type is for; METHOD_COUNT: those for which there is a device process. */
enum method type_method(const struct type *type);

/* The type a vGPU gets when nobody chose one; NULL when there is none. */
const struct type *types_default(const struct type *types, size_t n, const char *gpu);

/* The type of its slices, if it has one kind of them only; else NULL. */
const struct type *types_only_slice(const struct type *types, size_t n, const char *gpu);

/* The GPU's type that is like this one of another GPU; NULL when there is none. */
const struct type *types_like(
	const struct type *types, size_t n, const char *gpu, const struct type *like);

/* How many more vGPUs of this type fit now. */
uint32_t types_available(const struct gpu *gpu, const struct type *type, const struct gpu_use *use);

/*
 * Of a vGPU that would come; `what` begins the refusal. 0 or -errno. Rules 1 to 3 are not asked
 * here: control/rules.h.
 */
/* Is there a way at all in which such a GPU could do that method? */
int types_method(const struct gpu *gpu, enum method method, const char *what, struct error *err);
/* Does this vgpud do it, with that GPU as it is now? */
int types_offered(const struct gpu *gpu, enum method method, const char *what, struct error *err);
/* Is that type one for that method? */
int types_fit(const struct gpu *gpu, const struct type *type, enum method method, const char *what,
	struct error *err);
/* Is there room for one more? */
int types_room(const struct gpu *gpu, const struct type *type, const struct gpu_use *use,
	const char *what, struct error *err);

/* Names of vGPUs: a letter or digit, then letters, digits, '_', '.', '-'; at most 63. */
#define VGPU_NAME_LONGEST 63
bool name_valid(const char *name);

#endif

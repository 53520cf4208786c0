/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_SCRUB_H
#define VGPU_HOST_SCRUB_H

/*
 * The memory of a GPU is emptied between two tenants, through the window that its BAR is, and every
 * byte is read back. The theory is in scrub.c. Runs for as long as the memory takes: seconds, or
 * many minutes of a large GPU; in a process that may wait. Needs root.
 *
 * A function that somebody has open, or that a driver of the host has, is refused untouched.
 */

#include "base/error.h"
#include "host/holder.h"
#include "host/vfio.h"

#define SCRUB_CHUNK_BYTES  (1ull << 20) /* between two words about its progress, at most */
#define SCRUB_MEMORY_MIN   (1ull << 20) /* a smaller BAR holds registers, whatever it says */
#define SCRUB_BYTES_PER_MS 8192u        /* the slowest that is waited for, of each pass */

enum scrub_verdict {
	SCRUB_FAILED,  /* not all of the window was seen to be zero: `code` and `step` say why */
	SCRUB_PARTIAL, /* the window is; there is, or may be, memory beyond it */
	SCRUB_CLEAN,   /* all of its memory was seen to be zero, or it has none of its own */
	SCRUB_VERDICT_COUNT
};

enum scrub_step {
	SCRUB_LOOK,   /* who has it, and where its memory is */
	SCRUB_WAKE,   /* power, and decoding of its addresses */
	SCRUB_MAP,    /* the window into this process */
	SCRUB_PROBE,  /* is there memory behind each page of it, and behind each its own? */
	SCRUB_ZERO,   /* write */
	SCRUB_VERIFY, /* read */
	SCRUB_AFTER,  /* did it stay ours, and does it still answer? */
	SCRUB_DONE,
	SCRUB_STEP_COUNT
};

/* "failed", "partial", "clean"; "look", "wake", ... */
extern const char *const scrub_verdict_names[SCRUB_VERDICT_COUNT];
extern const char *const scrub_step_names[SCRUB_STEP_COUNT];

struct scrub_request {
	const char *address;
	/*
	 * Memory that the function has, from its driver or its data sheet; never from the window
	 * itself, which proves nothing about what is beyond it. 0: not known.
	 */
	uint64_t vram_bytes;
	unsigned limit_ms; /* 0: scrub_limit_ms() */
	/* Some times a second and at the end of a step; NULL: nobody asks. `total` bytes. */
	void (*progress)(void *data, enum scrub_step step, uint64_t done, uint64_t total);
	void *data;
};

struct scrub_result {
	char address[PCI_ADDRESS_MAX];
	enum scrub_verdict verdict;
	enum scrub_step step;        /* at which it ended */
	int code;                    /* 0, or -errno of that step */
	char driver[PCI_DRIVER_MAX]; /* that it has */
	int bar;                     /* the window; -1: it has none */
	uint64_t window_bytes;       /* of that BAR */
	uint64_t scrubbed_bytes;     /* written, and read back as zero */
	uint64_t bad_bytes;          /* read back as something else */
	uint64_t bad_at;             /* offset of the first that is bad, or that is no memory */
	uint64_t unreached_bytes;    /* memory that is known to be beyond the window */
	bool beyond_unknown;         /* there may be memory that nothing tells of */
	const char *beyond;          /* why; static text. NULL: !beyond_unknown */
	unsigned took_ms;
	struct holders holders; /* code -EBUSY: who has it open; none: its driver is the reason */
};

/* How long `bytes` may take. */
unsigned scrub_limit_ms(uint64_t bytes);

/*
 * 0: the verdict is SCRUB_CLEAN or SCRUB_PARTIAL. Else it is SCRUB_FAILED and the code is -EBUSY:
 * see above, or somebody opened it meanwhile; -ENODEV: it is not there, or not any more; -EPERM,
 * -EACCES: the kernel forbids it; -EIO: it does not answer; -EUCLEAN: bytes did not become zero;
 * -ENXIO: what is behind the window is no memory; -EBADMSG: the window's file is not the window;
 * -ETIMEDOUT; -errno.
 */
int scrub_vram(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const struct scrub_request *request, struct scrub_result *ret);

/*
 * Says it in one line: what is not clean, why, what to do. 0 and nothing of SCRUB_CLEAN; of
 * SCRUB_PARTIAL -EUCLEAN, for whoever wants to give the GPU to another tenant; else result->code.
 */
int scrub_explain(const struct scrub_result *result, const char *what, struct error *err);

/*
 * Which BAR is the window onto the function's memory, and what is to be known about it; -1: none.
 * `*ret_beyond` is NULL when the window, or no window, is all there can be.
 */
int scrub_window(const struct pci_device *device, const char **ret_beyond);

#endif

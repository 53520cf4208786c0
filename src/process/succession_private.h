/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_SUCCESSION_PRIVATE_H
#define VGPU_PROCESS_SUCCESSION_PRIVATE_H

/* Shared by succession.c (what is kept), leaving.c and taking_over.c. */

#include "process/succession.h"

#include "base/log.h"
#include "base/loop.h"
#include "device/saving.h"
#include "process/channel.h"
#include "process/connections.h"
#include "process/shader_cache.h"
#include "process/stash.h"
#include "state/journal.h"
#include "state/section.h"

#define JOURNAL_SOFT_BYTES (96ull << 20)  /* an image is due */
#define JOURNAL_HARD_BYTES (512ull << 20) /* nothing fits any more */
#define SPARE_LEAST_BYTES  (4ull << 20)   /* a smaller journal is made anew as fast */
#define SPARE_MOST_BYTES   (128ull << 20) /* a larger one is not kept */
#define IMAGE_SMALL_BYTES  (4ull << 20)   /* no image before so much, while there was little work */
#define REST_LEAST_BYTES   (4ull << 20)   /* less is left as it is while the guest does nothing */
#define IMAGE_ACTIVE_MS    1000u          /* no image before so much activity … */
#define TAKING_OVER_WEIGHT 4u             /* time of taking over counts so many times as activity */
#define IMAGE_COST_FACTOR  40u            /* … and so many times what the last one took */
#define IMAGE_TRIES        3u             /* that may fail in a row while nothing fits any more */
#define IMAGE_LOSSY_FACTOR 10u      /* so many times that, and one that is not exact will do */
#define PRECOPY_SLICE_NS   3000000u /* of one turn of the loop */
#define STOP_TRIES         10u      /* to find a guest at rest */
#define STOP_TRY_MS        20u

struct succession {
	struct device *device;
	struct loop *loop;
	struct connections *connections;
	struct vgpu_stats *stats;
	int channel_fd;
	bool enabled;
	struct shader_cache *shaders;
	bool shaders_put;
	const char *drop_section;
	struct frontend_keep keep;

	/* what is kept */
	struct keeper_anchor *anchor; /* NULL: nothing yet */
	struct journal *journal;
	/*
	 * The one before, empty, for the next: in the slot that does not count, in custody. Where
	 * much is uploaded, finding and clearing its memory anew costs more than filling it.
	 */
	struct journal *spare;             /* NULL: none */
	uint32_t image_slot, journal_slot; /* those that count; image: KEEPER_NO_IMAGE */
	uint32_t base_rounds;              /* of precopied contents that belong to it */
	uint64_t count;                    /* of changes of the anchor */
	bool image_due;                    /* somebody found no room */
	uint64_t images;                   /* made so far */
	unsigned failed;                   /* that were needed, in a row */
	bool given_up;                     /* nothing is kept any more, see succession_give_up() */
	bool lossy_said;                   /* of the image that counts */
	int plain_fd;                      /* that image, if it may be compressed; -1 */
	unsigned rest_tries;               /* to compress it that were interrupted */
	uint64_t rest_refused; /* bytes of the journal when an image for a rest failed; 0: none did
				*/
	uint64_t active_ms, last_ms, last_bytes, image_cost_ms, next_try_ms;
	uint64_t worked_from; /* succession_worked_ns() when the journal began */
	uint64_t owed_ms;     /* of activity that is no work of this process */

	/* precopying */
	struct state_writer *round; /* NULL: not */
	int round_fd;
	uint32_t rounds;       /* copied ahead so far */
	uint64_t frozen_since; /* ns; 0: serving */

	/* a hibernation that waits for a moment at which nothing is owed to the guest */
	int stop_fd; /* the file; -1: none */
	bool stop_exact;
	unsigned stop_tries;

	/* taking over */
	struct stash stash;
	struct device_loader *loader;
	uint32_t rounds_given, rounds_loaded;
	struct keeper_connection *resumed; /* given and not yet made again */
	size_t n_resumed;
	int given; /* 0, or why something that was given is not there */
	struct log_limit log;
};

/* ---- succession.c ---- */
int succession_put(struct succession *s, uint32_t kind, uint32_t index, uint64_t a, int fd);
void succession_drop(struct succession *s, uint32_t kind, uint32_t index);
int succession_new_memory(const char *name);
int succession_map_anchor(struct succession *s, int fd);
/* Compiled shaders, once: not before those of a predecessor were given, whom they replace. */
void succession_put_shaders(struct succession *s);
/* Makes one unless there is one. */
int succession_anchor(struct succession *s);
/* Anchor and first journal, unless they are there. */
int succession_begin(struct succession *s);
/* A new journal, or the spare one, in the slot that does not count. */
int succession_new_journal(struct succession *s, struct journal **ret);
/* Makes journal and image count: one store. Lets go of those that did before. */
void succession_switch(
	struct succession *s, struct journal *journal, uint32_t image_slot, uint32_t rounds);
/* Before a successor puts a journal into that slot, and when its memory is better given back. */
void succession_forget_spare(struct succession *s);
/* Activity, ms, after which an image is due. */
uint64_t succession_enough(const struct succession *s);
/* Writes the anchor again as this process knows it. */
void succession_write_anchor(struct succession *s);
/*
 * The journal is full and no image can be made: better to serve on than to wait for one for ever.
 * Who recovers from here on finds that nothing was kept; a move or a snapshot can still succeed.
 */
void succession_give_up(struct succession *s, const char *why);
void succession_freeze(struct succession *s);
void succession_thaw(struct succession *s);

/* Where the next image goes. */
uint32_t succession_free_image_slot(const struct succession *s);

/* ---- leaving.c ---- */
int leaving_image(struct succession *s); /* 0, or why there is none: -errno */
/* The first, in a process that has no journal yet. */
int leaving_first_image(struct succession *s);
/* The same for a state that is in a file already, from which it was just loaded. */
int leaving_file_is_image(struct succession *s, int fd);
void leaving_precopy(struct succession *s);
bool leaving_precopy_slice(struct succession *s); /* true: more to do */
void leaving_save(struct succession *s);
/* Takes `fd`. */
void leaving_save_file(struct succession *s, const struct keeper_save *save, int fd);
void leaving_thaw(struct succession *s);
void leaving_check(struct succession *s);
void leaving_forget_rounds(struct succession *s);

/* ---- taking_over.c ---- */
void taking_over_give(struct succession *s, const struct keeper_custody *what, int fd);
/* What earlier processes of the tenant compiled. Takes `fd`. */
void taking_over_archive(struct succession *s, int fd);
void taking_over_resume(struct succession *s, const struct keeper_connection *info, int fd);
void taking_over_rounds(struct succession *s);
void taking_over_load(struct succession *s, const struct keeper_load *load, int file_fd);

#endif

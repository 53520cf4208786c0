/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_DIRECT_ACTIONS_H
#define VGPU_CONTROL_DIRECT_ACTIONS_H

/*
 * What is done with a vGPU whose VM owns hardware, in a state, when something happens: each gives
 * the state that follows. direct.c has the table of which is done when, and the theory.
 */

#include "control/direct_private.h"

/* What an action answers when it has freed the vGPU. */
#define DIRECT_ENDED DIRECT_STATE_COUNT

typedef enum direct_state direct_action(struct vgpu *v, const struct direct_result *result);

/* direct_begin.c: it is made, or found after a start */
direct_action direct_never_was, direct_planned, direct_is_ready, direct_undo_creation,
	direct_applied, direct_created, direct_not_given, direct_has_failed, direct_other_boot,
	direct_replanned, direct_check;

/* direct_end.c: a VM has it, its memory is emptied, it goes */
direct_action direct_is_bound, direct_scrub, direct_left, direct_retire, direct_looked,
	direct_undo_again, direct_scrubbed, direct_not_clean, direct_empty_and_undo, direct_stays,
	direct_ended, direct_stuck;

/* --- what they share: direct.c --- */
/* Tells whoever asked what a job came to. */
void direct_tell_result(struct vgpu *v, const struct direct_result *result);
void direct_set_failure(struct vgpu *v, const char *why);
/* What the store misses, the next start finds a step behind. */
void direct_set_phase(struct vgpu *v, enum phase phase);
/* Leaves no trace of it; tells `err`. */
enum direct_state direct_end_with(struct vgpu *v, const struct error *err);

#endif

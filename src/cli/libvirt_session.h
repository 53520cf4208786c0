/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_LIBVIRT_SESSION_H
#define VGPU_CLI_LIBVIRT_SESSION_H

/*
 * One call of a verb of `vgpuctl libvirt`: which domain, what libvirt keeps of it, what vgpud has,
 * and what there is to say about both.
 */

#include "cli/libvirt.h"

struct session {
	struct cli *cli;
	struct virsh virsh;
	const char *domain, *name; /* name NULL: not told */
	char what[200];
	char *xml;
	struct virsh_state state;
	struct libvirt_vgpus vgpus;
	struct domain_findings findings;
};

/* Of `libvirt VERB DOMAIN [NAME]`; `connect` may be NULL. It is finished in any case. */
void session_begin(struct session *s, struct cli *cli, const char *connect,
	const struct cli_words *words, const char *verb);
/* The definition, and what libvirt makes of the domain now. */
int session_read(struct session *s, bool secrets, struct error *err);
void session_finish(struct session *s);

/* Finds what is worth knowing of the vGPU: the back end, who holds it, how the domain stands. */
void session_note(struct session *s, const struct domain_vgpu *vgpu);

struct session_other {
	char name[DOMAIN_LABEL_MAX]; /* "": there is none */
	bool more;                   /* there are more domains than are looked at */
};
/* Rule 1: the other domain that has this vGPU. */
int session_other_domain(struct session *s, const struct domain_vgpu *vgpu,
	struct session_other *ret, struct error *err);

/* How many findings say that something is missing. */
unsigned session_missing(const struct domain_findings *findings);
void session_print_findings(const struct domain_findings *findings, bool marks);
/* The domain, the vGPU, the findings, and `more` (taken). */
void session_print_json(const struct session *s, json_t *more);
/* What was changed, and what is worth knowing; the exit status. */
int session_report(const struct session *s, const struct domain_edit *edit, const char *done);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_VIRSH_H
#define VGPU_CLI_VIRSH_H

/*
 * libvirt, asked through its own program virsh: without a shell, with a limit of time and of what
 * is read, and with libvirt's own words on one line when it refuses. libvirt is no dependency of
 * vgpuctl: where virsh is not installed, that is what is said.
 */

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>

#define VIRSH_LIMIT_MS   15000
#define VIRSH_OUTPUT_MAX (4u << 20)

struct virsh {
	const char *connect; /* libvirt's URI; NULL: virsh's default */
	const char *what;    /* begins every refusal */
};

/* Runs virsh with these words, the last one NULL. `ret` is what it printed, malloc'd. */
int virsh_run(const struct virsh *virsh, const char *const *words, char **ret, struct error *err);

/* What libvirt keeps of a domain. `secrets`: with passwords, without which it must not be defined
 * again. */
int virsh_definition(
	const struct virsh *virsh, const char *domain, bool secrets, char **ret, struct error *err);
/* Makes that definition the one that libvirt keeps. */
int virsh_define(const struct virsh *virsh, const char *xml, struct error *err);

struct virsh_state {
	bool running;    /* or paused: not shut off */
	bool persistent; /* libvirt keeps a definition of it */
	bool saved;      /* it has an image of managedsave */
};
int virsh_domain_state(
	const struct virsh *virsh, const char *domain, struct virsh_state *ret, struct error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DOMAIN_EDIT_H
#define VGPU_HOST_DOMAIN_EDIT_H

/*
 * A libvirt domain's definition and a vGPU: what has to be in the one for the other, and is it?
 * Pure: text in, text or findings out. Nothing here speaks to libvirt or to vgpud.
 *
 * Attaching puts a device with the alias of the vGPU (domain_alias.h) into the definition, and
 * what it needs beside: memory that another process can map, for a vhost-user device; locked
 * memory where rule 4 asks for it. What it changed it notes in the definition's own metadata,
 *
 *	<vgpud:vgpu xmlns:vgpud="urn:vgpud:domain:1" name="desk" source="none" access="none">
 *	  <vgpud:replaced><video>…</video></vgpud:replaced>
 *	</vgpud:vgpu>
 *
 * because libvirt keeps that and nothing else of ours (comments go). An attribute says what was
 * there before, "none" for nothing; so detaching gives back what was there, and leaves what others
 * changed since. Attaching twice is attaching once.
 */

#include "base/error.h"
#include "host/domain_alias.h"

#include <stdbool.h>
#include <stddef.h>

#define DOMAIN_FUNCTIONS_MAX 16
#define DOMAIN_ADDRESS_MAX   40 /* "0000:03:00.0", or a UUID */
#define DOMAIN_FINDINGS_MAX  24
#define DOMAIN_TEXT_MAX      256
#define DOMAIN_LABEL_MAX     256
#define DOMAIN_SEEN_MAX      8

/* How a vGPU is a device of a machine. */
enum domain_device {
	DOMAIN_VIDEO, /* emulate, forward: a video device served over vhost-user */
	DOMAIN_PCI,   /* passthrough, a virtual function: PCI functions by VFIO */
	DOMAIN_MDEV,  /* a mediated device by VFIO */
};

struct domain_vgpu {
	char name[DOMAIN_ALIAS_NAME_MAX];
	enum domain_device device;
	unsigned heads; /* of DOMAIN_VIDEO; at least 1 */
	bool locked;    /* rule 4: its memory must be locked */
	char address[DOMAIN_FUNCTIONS_MAX][DOMAIN_ADDRESS_MAX]; /* PCI functions, or one UUID */
	unsigned n_addresses;
};

/* A finding of domain_check(), or a note about what was done. */
struct domain_finding {
	bool missing; /* else it is worth knowing */
	char text[DOMAIN_TEXT_MAX];
	char remedy[DOMAIN_TEXT_MAX]; /* "": nothing to do */
};

struct domain_findings {
	struct domain_finding list[DOMAIN_FINDINGS_MAX];
	size_t count; /* what is more is left out */
};

struct domain_edit {
	char *xml; /* malloc'd; what it shall be, also when that is what it was */
	bool changed;
	struct domain_findings said; /* what was changed, in words */
};
void domain_edit_finish(struct domain_edit *edit);

/* What of vGPUs a definition has, as far as it can tell by itself. */
struct domain_seen {
	char domain[DOMAIN_LABEL_MAX];
	char names[DOMAIN_SEEN_MAX][DOMAIN_ALIAS_NAME_MAX]; /* by alias, each once */
	size_t n_names;
	bool unnamed; /* a vhost-user video device without an alias of ours: it gets the vGPU that
			 is named like the domain */
};

/* `what` begins every refusal. All return 0 or -errno. */
int domain_look(
	const char *xml, size_t size, const char *what, struct domain_seen *ret, struct error *err);

/*
 * Is one of its devices that vGPU's, by alias, by address, or because the domain is named like it?
 * False too for what is no definition.
 */
bool domain_has_device(const char *xml, size_t size, const struct domain_vgpu *vgpu);

/*
 * `others`: the node's other vGPUs, for rule 1. `keep_video`: the vGPU is a second screen beside
 * what video devices there are, which are else replaced. -EBUSY: rule 1; -ENOTSUP: the domain
 * cannot have it.
 */
int domain_attach(const char *xml, size_t size, const struct domain_vgpu *vgpu,
	const struct domain_vgpu *others, size_t n_others, bool keep_video, const char *what,
	struct domain_edit *ret, struct error *err);

/* -ENOENT: it is not attached. */
int domain_detach(const char *xml, size_t size, const char *name, const char *what,
	struct domain_edit *ret, struct error *err);

/* What that vGPU lacks in the definition. */
int domain_check(const char *xml, size_t size, const struct domain_vgpu *vgpu, const char *what,
	struct domain_findings *ret, struct error *err);

/* Adds one; `remedy` NULL: none. */
void domain_find(struct domain_findings *findings, bool missing, const char *remedy,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif

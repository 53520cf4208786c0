/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_LIBVIRT_H
#define VGPU_CLI_LIBVIRT_H

/* What the verbs of `vgpuctl libvirt` share. */

#include "cli/cli.h"
#include "cli/virsh.h"
#include "host/domain_edit.h"

#define LIBVIRT_VGPUS_MAX   1024
#define LIBVIRT_DOMAINS_MAX 1024u

/* libvirt_vgpus.c: the node's vGPUs as devices of machines. */
struct libvirt_vgpus {
	struct domain_vgpu *list; /* malloc'd */
	size_t count;
	json_t *json; /* the array of vGPUs that vgpud answered */
};
int libvirt_vgpus_get(
	struct cli *cli, const char *what, struct libvirt_vgpus *ret, struct error *err);
void libvirt_vgpus_finish(struct libvirt_vgpus *vgpus);
const struct domain_vgpu *libvirt_vgpus_find(const struct libvirt_vgpus *vgpus, const char *name);
/* What vgpud says of it; NULL: nothing. */
const json_t *libvirt_vgpus_json(const struct libvirt_vgpus *vgpus, const char *name);
/* Of one vGPU's JSON. False: it is no vGPU's, or its device cannot be understood. */
bool libvirt_vgpu_from_json(const json_t *json, struct domain_vgpu *ret);

/*
 * libvirt_backend.c: which program libvirt would start for a vhost-user GPU, by the descriptions
 * in its folders below `root` (""); a finding when that is not ours.
 */
void libvirt_backend_check(const char *root, bool session, struct domain_findings *findings);

#endif

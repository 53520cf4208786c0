/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DOMAIN_ALIAS_H
#define VGPU_HOST_DOMAIN_ALIAS_H

/*
 * How a device in a libvirt domain's definition says that it is a vGPU's: by its alias,
 * "ua-vgpu-NAME". It is how `vgpuctl libvirt` finds what it wrote, and how the helper that libvirt
 * starts learns which vGPU is meant (libvirt puts the alias into the name of its pid file).
 *
 *	alias = "ua-vgpu-" [ "_" INDEX "_" ] ( NAME | "-" ESCAPED )
 *
 * Aliases are unique in a domain, so the second and further functions of a GPU have an index, from
 * 1. libvirt takes letters, digits, '_' and '-' only: a name with a '.' is escaped, '_' as "__" and
 * '.' as "_d". Names begin with a letter or digit, so each alias has one meaning.
 */

#include <stdbool.h>
#include <stddef.h>

#define DOMAIN_ALIAS_BEGIN     "ua-vgpu-"
#define DOMAIN_ALIAS_MAX       160 /* with its end, for a name of DOMAIN_ALIAS_NAME_MAX */
#define DOMAIN_ALIAS_NAME_MAX  64  /* with its end */
#define DOMAIN_ALIAS_INDEX_MAX 99u

/* False: no such alias can be made (the name is empty, too long, or has other characters). */
bool domain_alias_make(const char *name, unsigned index, char ret[static DOMAIN_ALIAS_MAX]);
/* False: it is no vGPU's; then nothing is written. */
bool domain_alias_read(
	const char *alias, char ret_name[static DOMAIN_ALIAS_NAME_MAX], unsigned *ret_index);

#endif

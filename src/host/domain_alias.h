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

/*
 * The vGPU of a domain whose device has no alias of ours is named like the domain; what a name of a
 * vGPU cannot hold is '-' there. False: the domain has no name.
 */
bool domain_alias_by_domain(const char *domain, char ret_name[static DOMAIN_ALIAS_NAME_MAX]);

/*
 * Of "NAME-ALIAS", `size` bytes, as libvirt writes it: the vGPU, and in *ret_domain how long NAME
 * is. The last alias of ours counts, because no vGPU's name has one inside. False: there is none.
 */
bool domain_alias_in_file(const char *text, size_t size,
	char ret_name[static DOMAIN_ALIAS_NAME_MAX], size_t *ret_domain);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DOMAIN_PRIVATE_H
#define VGPU_HOST_DOMAIN_PRIVATE_H

/* What the files about domains' definitions share. */

#include "host/domain_edit.h"
#include "host/domain_tree.h"

#define RECORD_NS   "urn:vgpud:domain:1"
#define RECORD_NONE "none" /* nothing was there */

/* --- domain_devices.c --- */

/* The vGPU whose device that is, by its alias; false: no vGPU's. */
bool device_owner(const xmlNode *device, char ret_name[static DOMAIN_ALIAS_NAME_MAX]);
bool device_is_of(const xmlNode *device, const char *name);
/* The first device of <devices> after `after` (NULL: of all) that is this vGPU's; NULL. */
xmlNode *device_next(const xmlNode *devices, const xmlNode *after, const char *name);
/* A video device that libvirt has served by a program of its own. */
bool video_is_vhost_user(const xmlNode *video);
/* The PCI function or UUID that a hostdev gives away; false: it is none of these. */
bool hostdev_address(const xmlNode *hostdev, char ret[static DOMAIN_ADDRESS_MAX]);
/* Are these devices, and no others with its alias, there and as they shall be? */
bool devices_as_wanted(const xmlNode *devices, const struct domain_vgpu *vgpu);
/* A hostdev with an address of this vGPU and without its alias; NULL. */
xmlNode *device_stray(const xmlNode *devices, const struct domain_vgpu *vgpu);
void devices_remove(xmlNode *devices, const char *name);
/* Adds its devices; a video device stands before `before` (NULL: at the end). */
void devices_add(
	struct domain_tree *tree, xmlNode *devices, const struct domain_vgpu *vgpu, bool primary);

/* --- domain_memory.c: one table of what memory has to be --- */

/* What lacks, as findings. */
void memory_check(
	const xmlNode *root, const struct domain_vgpu *vgpu, struct domain_findings *findings);
/* Mends it, with a note of what was before in `record`. True: something was changed. */
bool memory_mend(struct domain_tree *tree, const struct domain_vgpu *vgpu, xmlNode *record,
	struct domain_findings *said);
/* Gives back what `record` notes, where nobody else needs it. */
void memory_restore(struct domain_tree *tree, xmlNode *record, struct domain_findings *said);

/* --- domain_record.c: the note in the metadata --- */

xmlNode *record_find(const xmlNode *root);
xmlNode *record_want(struct domain_tree *tree);
/* Moves a video device into the record. */
void record_keep(struct domain_tree *tree, xmlNode *record, xmlNode *device);
/* Puts what was kept back into <devices>; how many. */
unsigned record_give_back(struct domain_tree *tree, xmlNode *record, xmlNode *devices);
void record_forget_kept(xmlNode *record);
void record_remove(xmlNode *record);

#endif

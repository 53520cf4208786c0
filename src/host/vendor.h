/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_VENDOR_H
#define VGPU_HOST_VENDOR_H

/*
 * Interfaces of vendors that are not mdev, from their documents; neither has been seen on hardware
 * by this project.
 *
 * NVIDIA on kernels from 6.8: each VF has nvidia/creatable_vgpu_types, lines "1414 : NAME", and
 * nvidia/current_vgpu_type, a number to write there; 0: none.
 *
 * Intel xe from 6.19: the PF has sriov_admin/{pf,vf1,...}/profile with exec_quantum_ms,
 * preempt_timeout_us, sched_priority ("low [normal] high") and, with memory of its own, vram_quota;
 * vfN/device is a link when that VF is enabled.
 */

#include "host/sriov.h"

#define VENDOR_TYPES_MAX    128
#define VENDOR_PROFILES_MAX 65 /* the PF and as many VFs as SRIOV_VFS_MAX */
#define VENDOR_NAME_MAX     64
#define VENDOR_TEXT_MAX     16384 /* of creatable_vgpu_types; sysfs shows a page, 64 KiB at most */

enum vendor_interface { VENDOR_NONE, VENDOR_NVIDIA, VENDOR_XE, VENDOR_COUNT };

extern const char *const vendor_names[VENDOR_COUNT]; /* "" for none */

struct vendor_type {
	uint32_t id;
	char name[VENDOR_NAME_MAX];
	uint64_t on;  /* bit i: it can be made on sriov->vfs[i] now */
	uint32_t vfs; /* how many those are; its present holders do not count */
};

struct vendor_profile {
	char function[8];                                               /* "pf", "vf1", ... */
	char address[PCI_ADDRESS_MAX];                                  /* "" : not enabled */
	uint64_t exec_quantum_ms, preempt_timeout_us, vram_quota_bytes; /* 0: not set */
	char priority[16]; /* the chosen word; "" : not told */
	bool timed;        /* its time can be limited: the first two are there */
};

struct vendor {
	enum vendor_interface interface;
	struct vendor_type types[VENDOR_TYPES_MAX]; /* NVIDIA: of all VFs together, by id */
	size_t n_types;
	uint32_t current[SRIOV_VFS_MAX]; /* NVIDIA: type on sriov->vfs[i]; 0: none */
	size_t in_use;                   /* VFs that have one */
	struct vendor_profile profiles[VENDOR_PROFILES_MAX]; /* xe */
	size_t n_profiles;
	bool more; /* types or profiles are left out */
};

/* `dir`: the folder of the PF; `sriov`: what it shows. */
void vendor_read(const struct host_roots *roots, int dir, const struct sriov *sriov,
	struct vendor *ret, struct sysfs_troubles *troubles);

/* Adds the types of creatable_vgpu_types of sriov->vfs[vf]; lines that are no type (its title) are
 * passed over. */
void vendor_parse_nvidia(const char *text, size_t vf, struct vendor *vendor);
/* The word in brackets, or the only word; "" when there is neither. */
void vendor_parse_choice(const char *text, char *ret, size_t size);

#endif

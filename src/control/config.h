/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_CONFIG_H
#define VGPU_CONTROL_CONFIG_H

/*
 * vgpud's configuration: an INI file (see vgpud(8)) over built-in defaults. An unknown section or
 * key, or a value out of range, is an error that names the file and the line.
 */

#include "base/error.h"
#include "control/types.h"

#include <stdbool.h>

#define CONFIG_PATH_MAX     256
#define CONFIG_RESCAN_AUTO  UINT32_MAX /* where the kernel cannot say so */
#define CONFIG_STANDBY_NODE UINT32_MAX
#define CONFIG_MAX          64 /* [gpu] sections; [type] sections */

struct config_gpu {
	char name[TYPES_NAME_MAX];
	bool mixed;
	uint64_t vram_mib; /* 0: what the GPU has */
	char sharing[8];   /* cpu or slices; "" : as its kind needs it */
	uint32_t standby;  /* CONFIG_STANDBY_NODE: the node's */
	uint32_t vfs;      /* virtual functions to enable; 0: all it has */
};

struct config {
	char group[64]; /* who may use the API and the vGPUs' sockets, beside root and our own user
			 */
	char keeper[CONFIG_PATH_MAX]; /* programs; "" : beside vgpud, else in libexec */
	char device[CONFIG_PATH_MAX];
	char renderer[16];
	uint64_t soft_gpus;
	uint64_t shader_cache_mib; /* of each tenant; 0: none is kept */
	uint64_t soft_vram_mib;    /* of each soft GPU; 0: from the node's memory */
	char lockdown[16];         /* strict, best-effort or off: see vgpu-device(8) */
	bool dmabuf;
	char shares[12]; /* auto, groups or accounts: what enforces those of soft GPUs */
	char host_root[CONFIG_PATH_MAX]; /* where sys, proc, dev are for the inventory; "" : / */
	uint32_t rescan_s;         /* GPUs are read so often; 0: only when the kernel says so */
	uint64_t min_free_mib;     /* of memory: with less, no vGPU is created */
	uint32_t lock_timeout_s;   /* for a VM's memory, while the node's is over-committed */
	uint32_t standby;          /* stand-bys that are kept for each GPU */
	uint32_t hibernate_idle_s; /* a vGPU idle for longer is hibernated; 0: never */
	bool libvirt_create;       /* a vGPU for a libvirt domain that has none */
	char libvirt_gpu[TYPES_NAME_MAX];
	char libvirt_type[TYPES_NAME_MAX];
	char metrics_listen[64]; /* loopback address for /metrics alone; "" : none */
	struct config_gpu gpus[CONFIG_MAX];
	size_t n_gpus;
	struct type types[CONFIG_MAX];
	size_t n_types;
};

void config_init(struct config *config);
/* Reads `path` over what is there. 0 or -errno with the file, the line and what is wrong. */
int config_read(struct config *config, const char *path, struct error *err);
const struct config_gpu *config_find_gpu(const struct config *config, const char *name);

#endif

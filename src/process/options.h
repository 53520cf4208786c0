/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_OPTIONS_H
#define VGPU_PROCESS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* The command line of vgpu-device; docs/man/vgpu-device.8 describes each. */
struct options {
	int keeper_fd; /* -1: none given */
	int stats_fd;  /* page of counters; -1: none given */
	const char *name;
	const char *renderer;
	const char *render_node; /* as render_node_find() takes it; NULL: software */
	uint32_t vram_mib;
	uint32_t heads;
	uint32_t max_width, max_height;
	uint32_t max_fps; /* 0: no limit */
	bool dmabuf;
	const char *lockdown; /* strict, best-effort or off */
	bool plain_shaders;
	bool exact_only;     /* method emulate */
	const char *formats; /* NULL: none */
	bool no_journal;
	bool standby; /* whose vGPU it is comes later: CONFIGURE in protocol/keeper.h */
	bool probe;
	bool verbose;
};

/* Returns 0; 1 when help or version was printed; -EINVAL after one line on standard error. */
int options_parse(struct options *options, int argc, char **argv);
/*
 * The command line of what a stand-by that was started with `now` is to be. 0; -EINVAL when it is
 * wrong, or says something else where only STANDBY_LATE_OPTIONS may differ.
 */
int options_parse_late(const struct options *now, int argc, char **argv, struct options *ret);

#endif

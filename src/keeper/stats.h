/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_STATS_H
#define VGPU_KEEPER_STATS_H

/*
 * Pages of counters (protocol/stats.h). Each device process gets a page that only it, its keeper
 * and vgpud have ever held: what one tenant's process may have kept is never the next one's page.
 */

/*
 * A new sealed page; its counters are copied from `last` (-1: none, they start at 0), which may
 * hold anything, its gauges are 0. Returns the descriptor, close-on-exec, or -errno.
 */
int stats_page_create(int last);
/* The counters of one page to another, whose process does not count yet. */
void stats_page_copy(int from, int to);

#endif

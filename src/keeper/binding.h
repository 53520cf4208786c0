/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_BINDING_H
#define VGPU_KEEPER_BINDING_H

/*
 * Who holds a vGPU: nobody, one VM, or one process with all its connections. Pure policy.
 *
 * A binding begins with the first connection, or when vgpud asks for one, and ends when it has no
 * living connection left and the process it was made for (if any) has ended.
 */

#include "protocol/keeper.h"

#include <stdbool.h>
#include <stddef.h>

struct binding {
	enum keeper_binding_kind kind;
	uint32_t pid, uid;
	unsigned live;    /* connections whose peer is still there */
	bool holder_runs; /* a process given by vgpud is still running */
	char label[KEEPER_TEXT_MAX];
};

/* The peer of a new connection. */
struct binding_peer {
	enum keeper_connection_kind kind;
	uint32_t pid, uid;
	const char *label; /* taken when the connection starts the binding */
};

/*
 * May the peer connect? Returns 0 and counts it, starting a binding when there is none; or
 * -EBUSY / -EPERM with the reason in `ret_why`.
 */
int binding_admit(
	struct binding *binding, const struct binding_peer *peer, char *ret_why, size_t size);

/* Begins a binding for a process that has no connection yet. -EBUSY when there is one already. */
int binding_reserve(
	struct binding *binding, const struct keeper_bind *bind, char *ret_why, size_t size);

/* One connection's peer is gone; holder: the reserving process ended. True when that was the end
 * of the binding, which is then empty. */
bool binding_connection_gone(struct binding *binding);
bool binding_holder_gone(struct binding *binding);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/binding.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum verdict { START, JOIN_SAME_UID, REFUSE };

/* Rule 1 of the design: a vGPU has at most one VM, and what holds it holds it alone. */
static const enum verdict verdicts[3][2] = {
	[KEEPER_BINDING_NONE] =
		{[KEEPER_CONNECTION_VHOST_USER] = START, [KEEPER_CONNECTION_VTEST] = START},
	[KEEPER_BINDING_VM] =
		{[KEEPER_CONNECTION_VHOST_USER] = REFUSE, [KEEPER_CONNECTION_VTEST] = REFUSE},
	[KEEPER_BINDING_PROCESS] = {[KEEPER_CONNECTION_VHOST_USER] = REFUSE,
		[KEEPER_CONNECTION_VTEST] = JOIN_SAME_UID},
};

static int refuse_held(const struct binding *binding, char *why, size_t size)
{
	snprintf(why, size, "it is held by %.200s", binding->label);
	return -EBUSY;
}

int binding_admit(
	struct binding *binding, const struct binding_peer *peer, char *ret_why, size_t size)
{
	enum verdict verdict = verdicts[binding->kind][peer->kind];

	if (verdict == REFUSE)
		return refuse_held(binding, ret_why, size);
	if (verdict == JOIN_SAME_UID && peer->uid != binding->uid) {
		snprintf(ret_why, size, "it is held by %.160s, and uid %u is not its user",
			binding->label, peer->uid);
		return -EPERM;
	}
	if (verdict == START) {
		*binding = (struct binding){
			.kind = peer->kind == KEEPER_CONNECTION_VHOST_USER ? KEEPER_BINDING_VM
									   : KEEPER_BINDING_PROCESS,
			.pid = peer->pid,
			.uid = peer->uid,
		};
		snprintf(binding->label, sizeof(binding->label), "%s", peer->label);
	}
	binding->live++;
	return 0;
}

int binding_reserve(
	struct binding *binding, const struct keeper_bind *bind, char *ret_why, size_t size)
{
	if (binding->kind != KEEPER_BINDING_NONE)
		return refuse_held(binding, ret_why, size);
	*binding = (struct binding){
		.kind = bind->kind, .pid = bind->pid, .uid = bind->uid, .holder_runs = true};
	memcpy(binding->label, bind->label, sizeof(binding->label));
	binding->label[sizeof(binding->label) - 1] = '\0';
	return 0;
}

static bool binding_end_if_over(struct binding *binding)
{
	if (binding->kind == KEEPER_BINDING_NONE || binding->live || binding->holder_runs)
		return false;
	*binding = (struct binding){0};
	return true;
}

bool binding_connection_gone(struct binding *binding)
{
	if (binding->live)
		binding->live--;
	return binding_end_if_over(binding);
}

bool binding_holder_gone(struct binding *binding)
{
	binding->holder_runs = false;
	return binding_end_if_over(binding);
}

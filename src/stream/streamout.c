/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream output. The library makes one transform feedback object for each list of targets that is
 * ever set and finds it again by the same list; the object knows how far it captured. It ends with
 * the first of its targets. So all lists are kept, in the order in which they were first set.
 */
#include "stream/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Per sub-context; Mesa makes a list per transform feedback object of the guest's program. */
#define LISTS_MAX 1024u

/* What a list takes: ours, the library's object and the driver's. */
#define LIST_BYTES (sizeof(struct streamout_list) + 1280u)

void mark_streamout(struct stream *stream, const struct stream_sub_context *sub)
{
	const struct streamout_list *list = sub->streamout;

	for (uint32_t i = 0; list && i < list->n; i++) {
		if (list->target[i])
			mark_written(stream, list->target[i]->res);
	}
}

static bool same_list(
	const struct streamout_list *list, struct stream_object *const *target, uint32_t n)
{
	return list->n == n &&
	       memcmp(list->target, target, n * sizeof(struct stream_object *)) == 0;
}

static struct streamout_list *find_list(
	const struct stream_sub_context *sub, struct stream_object *const *target, uint32_t n)
{
	struct streamout_list *list = sub->streamouts;

	if (sub->streamout && same_list(sub->streamout, target, n))
		return sub->streamout;
	while (list && !same_list(list, target, n))
		list = list->next;
	return list;
}

static int add_list(struct stream *stream, struct command *command,
	struct stream_object *const *target, uint32_t n, struct streamout_list **ret)
{
	struct stream_sub_context *sub = stream->current;
	struct streamout_list *list;

	if (sub->streamouts_n >= LISTS_MAX)
		return refuse(command, -ENOSPC, "too many lists of stream-output targets", n);
	int r = charge_host(stream, LIST_BYTES);
	if (r < 0)
		return refuse(command, r, "no room to keep stream-output targets", n);
	list = calloc(1, sizeof(*list));
	if (!list) {
		uncharge_host(stream, LIST_BYTES);
		return refuse(command, -ENOMEM, "no memory for stream-output targets", n);
	}
	list->n = n;
	for (uint32_t i = 0; i < n; i++)
		bind_object(stream, &list->target[i], target[i]);
	*sub->streamouts_end = list;
	sub->streamouts_end = &list->next;
	sub->streamouts_n++;
	*ret = list;
	return 0;
}

/* {append mask, targets ...} */
int apply_streamout(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	struct stream_object *target[16];
	struct streamout_list *list = NULL;
	uint32_t n = command->len - 1;

	if (sub->drew & DREW_OTHERS)
		mark_others(stream, sub);
	for (uint32_t i = 0; i < n; i++)
		target[i] = find_object(stream, command->dw[2 + i], VIRGL_OBJECT_STREAMOUT_TARGET);
	if (n)
		list = find_list(sub, target, n);
	if (n && !list) {
		int r = add_list(stream, command, target, n, &list);
		if (r < 0)
			return r;
	}
	if (list)
		list->append = command->dw[1];
	sub->streamout = list;
	return 0;
}

static bool has_target(const struct streamout_list *list, const struct stream_object *target)
{
	for (uint32_t i = 0; i < list->n; i++) {
		if (list->target[i] == target)
			return true;
	}
	return false;
}

void drop_streamouts(
	struct stream *stream, struct stream_sub_context *sub, const struct stream_object *target)
{
	struct streamout_list **link = &sub->streamouts, *list;

	while ((list = *link)) {
		if (target && !has_target(list, target)) {
			link = &list->next;
			continue;
		}
		if (sub->streamout == list) {
			mark_drawn(stream, sub);
			sub->streamout = NULL;
		}
		*link = list->next;
		for (uint32_t i = 0; i < list->n; i++)
			bind_object(stream, &list->target[i], NULL);
		free(list);
		uncharge_host(stream, LIST_BYTES);
		sub->streamouts_n--;
	}
	sub->streamouts_end = link;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queries: which are active, and what the renderer calls them. The renderer tells the ids of the
 * queries it made in the order of the stream, also of those that are gone meanwhile, so each query
 * is numbered, and those without an id wait in a list.
 */
#include "stream/internal.h"
#include "stream/save.h"

#include <errno.h>

void query_made(struct stream *stream, struct stream_object *query)
{
	query->made = stream->queries_made++;
	query->unnamed = true;
	query->prev = stream->unnamed_last;
	if (query->prev)
		query->prev->next = query;
	else
		stream->unnamed = query;
	stream->unnamed_last = query;
}

/* Takes it out of the list. */
void query_gone(struct stream *stream, struct stream_object *query)
{
	if (query->prev)
		query->prev->next = query->next;
	else
		stream->unnamed = query->next;
	if (query->next)
		query->next->prev = query->prev;
	else
		stream->unnamed_last = query->prev;
	query->prev = NULL;
	query->next = NULL;
	query->unnamed = false;
}

unsigned stream_queries_unnamed(const struct stream *stream)
{
	uint64_t n = stream->queries_made - stream->queries_named;
	return n < UINT32_MAX ? (unsigned)n : UINT32_MAX;
}

int stream_name_queries(struct stream *stream, const uint32_t *host_ids, unsigned n)
{
	if (n > stream->queries_made - stream->queries_named)
		return -EINVAL;
	for (unsigned i = 0; i < n; i++, stream->queries_named++) {
		struct stream_object *query = stream->unnamed;
		if (!query || query->made != stream->queries_named)
			continue; /* gone already */
		query_gone(stream, query);
		query->host_id = host_ids[i];
	}
	return 0;
}

/* The library begins nothing for a timestamp. */
int apply_begin_query(struct stream *stream, struct command *command)
{
	struct stream_object *query = find_object(stream, command->dw[1], VIRGL_OBJECT_QUERY);

	query->active = (query->dwords[2] & 0xffff) != VIRGL_QUERY_TIMESTAMP;
	return 0;
}

int apply_end_query(struct stream *stream, struct command *command)
{
	find_object(stream, command->dw[1], VIRGL_OBJECT_QUERY)->active = false;
	return 0;
}

/* The result goes into the query's own buffer, some time later. */
int apply_query_result(struct stream *stream, struct command *command)
{
	const struct stream_object *query = find_object(stream, command->dw[1], VIRGL_OBJECT_QUERY);

	if (query)
		mark_written(stream, query->res);
	return 0;
}

int apply_query_result_qbo(struct stream *stream, struct command *command)
{
	if (command->res[0])
		mark_written(stream, command->res[0]);
	return 0;
}

/* {query, condition, mode}: of an unknown query the library takes no notice. */
int apply_render_condition(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	uint32_t handle = command->dw[1];
	struct stream_object *query = find_object(stream, handle, VIRGL_OBJECT_QUERY);

	if (handle && !query)
		return 0;
	bind_object(stream, &sub->render_condition.query, query);
	sub->render_condition.condition = command->dw[2] & 1;
	sub->render_condition.mode = command->dw[3];
	return 0;
}

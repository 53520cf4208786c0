/* SPDX-License-Identifier: Apache-2.0 */
#include "device/load_private.h"

#include "protocol/virgl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int load_refuse(struct device_loader *l, int error, const char *format, ...)
{
	va_list args;

	if (l->error)
		return l->error;
	l->error = error;
	va_start(args, format);
	vsnprintf(l->why, sizeof(l->why), format, args);
	va_end(args);
	return error;
}

/* In the order in which they come. */
static const struct load_row {
	enum state_section_type type;
	load_section_fn load;
	bool ahead; /* may be copied ahead */
	bool once;
} load_rows[] = {
	{STATE_SOURCE, load_source, .once = true},
	{STATE_FORMATS, load_formats, .once = true},
	{STATE_DEVICE, load_device, .once = true},
	{STATE_CLIENT, load_client},
	{STATE_RESOURCE, load_resource, .ahead = true},
	{STATE_CONTENT, load_content, .ahead = true},
	{STATE_CONTEXT, load_context},
	{STATE_OBJECTS, load_objects},
	{STATE_QUERIES, load_queries},
	{STATE_BINDINGS, load_bindings},
	{STATE_STREAMOUT, load_streamout},
};

static const struct load_row *load_find_row(enum state_section_type type)
{
	for (size_t i = 0; i < ARRAY_SIZE(load_rows); i++) {
		if (load_rows[i].type == type)
			return &load_rows[i];
	}
	return NULL;
}

/* Clients that own nothing may be there; the state's clients come with ids of their own. */
static void load_hide_bystanders(struct device *dev)
{
	for (struct device_client *client = dev->clients; client; client = client->next)
		client->id = 0;
}

static void load_show_bystanders(struct device *dev)
{
	for (struct device_client *client = dev->clients; client; client = client->next) {
		if (!client->id)
			client->id = dev->next_client_id++;
	}
}

/* They are what the loaded guests see; an earlier load's count no more. */
static void load_forget_promises(struct device *dev)
{
	for (uint32_t i = 0; i < dev->n_promised; i++)
		free(dev->promised[i].bytes);
	dev->n_promised = 0;
}

int device_load_begin(struct device *dev, struct device_loader **ret)
{
	if (dev->resource_ids.count || dev->context_ids.count)
		return -EBUSY;
	if (!dev->ops->content_write)
		return -ENOTSUP;
	struct device_loader *l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->dev = dev;
	load_hide_bystanders(dev);
	l->ahead = client_new(dev, 0, "copied ahead");
	if (!l->ahead) {
		load_show_bystanders(dev);
		free(l);
		return -ENOMEM;
	}
	load_forget_promises(dev);
	quota_lenient(dev, true);
	*ret = l;
	return 0;
}

static int load_order(struct device_loader *l, const struct load_row *row)
{
	const struct load_row *last = l->last ? load_find_row(l->last) : NULL;

	if (!last && row->ahead)
		return 0;
	if (!last && row->type != STATE_SOURCE)
		return load_refuse(
			l, -EBADMSG, "%s comes before SOURCE", state_section_name(row->type));
	if (last && (row < last || (row == last && row->once)))
		return load_refuse(l, -EBADMSG, "%s comes after %s", state_section_name(row->type),
			state_section_name(last->type));
	l->last = row->type;
	return 0;
}

int device_load_section(
	struct device_loader *l, const struct state_section *section, struct state_reader *reader)
{
	const struct load_row *row = load_find_row(section->type);

	if (l->error)
		return l->error;
	if (section->type == STATE_LOSSY)
		return 0;
	if (!row)
		return load_refuse(l, -EINVAL, "%s is no section of the device",
			state_section_name(section->type));
	int err = load_order(l, row);
	if (!err && l->last && row > load_find_row(STATE_RESOURCE) && !l->settled)
		err = load_settle(l);
	device_busy(l->dev); /* since this section, however long all of them take */
	if (!err)
		err = row->load(l, reader);
	device_idle(l->dev);
	if (!err && state_bad(reader))
		err = -EBADMSG;
	if (err < 0)
		load_refuse(l, err, "%s: %s", state_section_name(section->type),
			state_bad(reader) ? "it is cut off" : strerror(-err));
	return l->error;
}

/* ---- the end ---- */

/*
 * A context in error says so only when it is made current. A context that nobody else knows takes
 * that from all of them.
 */
static int load_probe(struct device_loader *l)
{
	struct device *dev = l->dev;
	uint32_t next = dev->next_context_id;
	uint32_t id = device_pick_id(&dev->context_ids, 0, &next);

	if (dev->ops->context_create(dev->renderer, id, "probe") < 0)
		return load_refuse(l, -EIO, "the host's driver makes no more contexts");
	dev->ops->context_destroy(dev->renderer, id);
	for (uint32_t i = 0; i < l->n_contexts; i++) {
		struct context *ctx = l->contexts[i].ctx;
		uint32_t nop[1] = {VIRGL_HEADER(VIRGL_NOP, 0, 0)};
		if (!ctx->lost && dev->ops->submit(dev->renderer, ctx->id, nop, 1, false) < 0)
			return load_refuse(l, -EIO,
				"the host's driver reported an error in context \"%s\"", ctx->name);
	}
	dev->unfenced = true;
	device_finish_all(dev);
	return dev->replay.failed ? load_refuse(l, -EIO, "the host's driver failed") : 0;
}

static int load_finish(struct device_loader *l)
{
	struct device *dev = l->dev;

	if (l->error)
		return l->error;
	if (l->last < STATE_DEVICE)
		return load_refuse(l, -EBADMSG, "%s is missing", l->last ? "DEVICE" : "SOURCE");
	int err = l->settled ? 0 : load_settle(l);
	if (!err)
		err = load_finish_contexts(l);
	if (!err)
		err = load_finish_resources(l);
	if (!err)
		err = load_probe(l);
	if (err)
		return err;
	dev->next_resource_id = MAX(l->next_resource_id, 1u);
	dev->next_context_id = MAX(l->next_context_id, 1u);
	dev->next_client_id = MAX(l->next_client_id, 1u);
	dev->next_serial = l->next_serial;
	return load_finish_heads(l);
}

/* Whatever was made ends again. */
static void load_undo(struct device *dev)
{
	uint32_t cursor = 0;
	struct context *ctx;
	struct resource *res;

	while ((ctx = idmap_next(&dev->context_ids, &cursor, NULL))) {
		context_free(ctx);
		cursor = 0;
	}
	cursor = 0;
	while ((res = idmap_next(&dev->resource_ids, &cursor, NULL))) {
		if (res->handle)
			continue;
		resource_release(res);
		cursor = 0;
	}
	device_drop_unclaimed(dev);
	load_forget_promises(dev);
}

static void load_free(struct device_loader *l)
{
	for (uint32_t i = 0; i < l->n_contexts; i++) {
		idmap_finish(&l->contexts[i].borrowed);
		free(l->contexts[i].queries);
	}
	for (uint32_t i = 0; i < DISPLAY_MAX_HEADS; i++)
		free(l->heads[i].image);
	free(l->contexts);
	free(l->resources);
	free(l->zeros);
	free(l);
}

static void load_over(struct device_loader *l, bool undo)
{
	struct device *dev = l->dev;

	if (undo)
		load_undo(dev);
	device_client_destroy(l->ahead);
	load_show_bystanders(dev);
	dev->replay.failed = false;
	load_free(l);
}

const char *device_load_why(const struct device_loader *l)
{
	return l->why;
}

void device_load_abort(struct device_loader *l)
{
	if (l)
		load_over(l, true);
}

int device_load_end(struct device_loader *l, char *why, size_t size)
{
	int err = load_finish(l);

	state_contents_done(l->dev);
	if (!err)
		snprintf(why, size, "%s", "");
	else
		snprintf(why, size, "%s", l->why[0] ? l->why : strerror(-err));
	load_over(l, err != 0);
	return err;
}

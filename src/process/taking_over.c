/* SPDX-License-Identifier: Apache-2.0 */
/* Going on where a predecessor stopped: image, connections, journal. */
#include "process/succession_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash_point.h"
#include "protocol/stats.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What came of LOAD: the first thing that went wrong, for people. */
struct taking_over {
	struct succession *s;
	struct keeper_saved result;
	bool loaded; /* the device is: connections may follow */
	/* Who gets the section of a VM's connection, when its connection is a new one. */
	int (*load)(void *data, struct state_reader *r);
	void *load_data;
	bool vm_loaded;
};

static int __attribute__((format(printf, 3, 4)))
take_fail(struct taking_over *t, int err, const char *format, ...)
{
	va_list args;

	if (!t->result.code) {
		t->result.code = err;
		va_start(args, format);
		vsnprintf(t->result.text, sizeof(t->result.text), format, args);
		va_end(args);
	}
	return err;
}

/* ---- what the keeper gives ---- */

/* Without them the same pictures come, later. */
static void taking_over_shaders(struct succession *s, uint32_t file, int fd)
{
	int n = shader_cache_give(s->shaders, file, fd);

	if (n < 0)
		log_limited(&s->log, LOG_LEVEL_INFO, "compiled shaders were not taken over: %s",
			strerror(-n));
}

void taking_over_archive(struct succession *s, int fd)
{
	int n = shader_cache_give_archive(s->shaders, fd);

	if (n < 0)
		log_limited(&s->log, LOG_LEVEL_INFO,
			"what the tenant's processes compiled was not taken over: %s",
			strerror(-n));
	else
		log_debug("compiled shaders of the tenant taken over: %d", n);
}

void taking_over_give(struct succession *s, const struct keeper_custody *what, int fd)
{
	if (what->kind == KEEPER_CUSTODY_SHADERS) {
		taking_over_shaders(s, what->index, fd);
		return;
	}
	if (what->kind == KEEPER_CUSTODY_PRECOPY)
		s->rounds_given = MAX(s->rounds_given, what->index + 1);
	int err = stash_put(&s->stash, what, fd);
	if (err < 0)
		s->given = err;
}

/* Under a kind of its own, which no custody has: the connections' sockets. */
static struct keeper_custody taking_over_socket(uint32_t id)
{
	return (struct keeper_custody){.kind = KEEPER_CUSTODY_KIND_COUNT, .index = id};
}

void taking_over_resume(struct succession *s, const struct keeper_connection *info, int fd)
{
	const struct keeper_custody socket = taking_over_socket(info->id);
	struct keeper_connection *grown = realloc(s->resumed, (s->n_resumed + 1) * sizeof(*grown));

	if (!grown) {
		close(fd);
		s->given = -ENOMEM;
		return;
	}
	s->resumed = grown;
	s->resumed[s->n_resumed++] = *info;
	taking_over_give(s, &socket, fd);
}

static const struct keeper_connection *taking_over_find(const struct succession *s, uint32_t id)
{
	for (size_t i = 0; i < s->n_resumed; i++) {
		if (s->resumed[i].id == id)
			return &s->resumed[i];
	}
	return NULL;
}

/* ---- sections ---- */

/* A connection that the keeper no longer has ended meanwhile; its section is skipped. */
static int take_connection(struct taking_over *t, struct state_reader *r, uint32_t id)
{
	struct succession *s = t->s;
	const struct keeper_connection *info = taking_over_find(s, id);
	struct keeper_custody socket = taking_over_socket(id);

	if (!info)
		return 0;
	int fd = stash_take(&s->stash, &socket);
	if (fd < 0)
		return 0;
	int err = connections_resume(s->connections, info, fd, r);
	return err < 0 ? take_fail(t, err, "connection %u cannot be taken over: %s", id,
				 strerror(-err))
		       : 0;
}

static int take_vm(struct taking_over *t, struct state_reader *r)
{
	if (state_get_u32(r) != KEEPER_CONNECTION_VHOST_USER)
		return 0;
	int err = t->load(t->load_data, r);
	t->vm_loaded = true;
	return err < 0 ? take_fail(t, err, "the VM's part of it does not fit: %s", strerror(-err))
		       : 0;
}

static int take_device_end(struct taking_over *t)
{
	struct device_loader *loader = TAKE_PTR(t->s->loader);
	char why[KEEPER_TEXT_MAX - 32] = "";

	if (t->loaded || !loader)
		return 0;
	t->loaded = true;
	int err = device_load_end(loader, why, sizeof(why));
	return err < 0 ? take_fail(t, err, "%s", why[0] ? why : strerror(-err)) : 0;
}

/* What was lost when it was written stays lost: the first is told. */
static int take_lossy(struct taking_over *t, struct state_reader *r)
{
	if (!t->result.lossy && !t->result.code)
		state_get_text(r, t->result.text, sizeof(t->result.text));
	t->result.lossy = true;
	return 0;
}

static bool take_is_dropped(const struct succession *s, const struct state_section *section)
{
	return s->drop_section && !strcmp(s->drop_section, state_section_name(section->type));
}

static int take_section(
	struct taking_over *t, const struct state_section *section, struct state_reader *r)
{
	if (take_is_dropped(t->s, section))
		return 0;
	if (section->type == STATE_CONNECTION) {
		int err = take_device_end(t);
		uint32_t id = state_get_u32(r);
		if (err < 0)
			return err;
		return t->load ? take_vm(t, r) : take_connection(t, r, id);
	}
	if (section->type == STATE_LOSSY)
		return take_lossy(t, r);
	if (t->loaded)
		return 0;
	int err = device_load_section(t->s->loader, section, r);
	return err < 0 ? take_fail(t, err, "%s", device_load_why(t->s->loader)) : 0;
}

static int take_sections(struct taking_over *t, int fd)
{
	struct state_section section;
	struct state_reader *r;
	int err = state_reader_create(fd, &r);

	if (err < 0)
		return take_fail(t, err, "it is no saved state: %s", strerror(-err));
	while ((err = state_next(r, &section)) == 1) {
		err = take_section(t, &section, r);
		if (err < 0)
			break;
	}
	if (err < 0)
		take_fail(t, err, "%s", state_reader_why(r));
	state_reader_destroy(r);
	return err;
}

static int take_begin(struct taking_over *t)
{
	struct succession *s = t->s;
	int err = s->loader ? 0 : device_load_begin(s->device, &s->loader);

	return err < 0 ? take_fail(t, err, "this process serves somebody else already") : 0;
}

static int take_slot(struct taking_over *t, uint32_t kind, uint32_t index)
{
	struct keeper_custody what = {.kind = kind, .index = index};
	cleanup_close int fd = stash_dup(&t->s->stash, &what);

	if (fd < 0)
		return take_fail(t, fd, "a part of the state is missing (%u, %u)", kind, index);
	/* Where a file stands is shared with who read it before; it has no effect on an image. */
	if (lseek(fd, 0, SEEK_SET) < 0)
		return take_fail(
			t, -errno, "a part of the state cannot be read (%u, %u)", kind, index);
	return take_sections(t, fd);
}

static int take_rounds(struct taking_over *t, uint32_t rounds)
{
	struct succession *s = t->s;
	int err = take_begin(t);

	while (!err && s->rounds_loaded < rounds)
		err = take_slot(t, KEEPER_CUSTODY_PRECOPY, s->rounds_loaded++);
	return err;
}

void taking_over_rounds(struct succession *s)
{
	struct taking_over t = {.s = s};

	take_rounds(&t, s->rounds_given);
	channel_send(s->channel_fd, KEEPER_DEVICE_LOADED, &t.result, -1);
}

/* ---- the journal ---- */

static int take_record(struct taking_over *t, const struct journal_record *record)
{
	struct succession *s = t->s;

	switch (record->kind) {
	case JOURNAL_CONNECT:
		return take_connection(t, NULL, record->source);
	case JOURNAL_CLOSE:
		connections_close(s->connections, record->source);
		return 0;
	default:
		connections_replay(s->connections, record);
		return 0;
	}
}

/* What is run again was counted the first time. */
static void take_counters_back(struct vgpu_stats *stats, const struct vgpu_stats *before)
{
	enum kind { COUNTER, GAUGE };
#define X(name, kind, help)                                                                        \
	if (kind == COUNTER)                                                                       \
		vgpu_stats_set(&stats->name, before->name);
	VGPU_STATS_TABLE(X)
#undef X
}

static int take_journal(struct taking_over *t, struct journal *journal, bool blame)
{
	struct succession *s = t->s;
	const struct vgpu_stats before = *s->stats;
	uint64_t begin = clock_ns();
	struct journal_record record;
	int err = journal_begin_replay(journal, blame);

	if (err < 0)
		return take_fail(t, err, "the journal is damaged");
	device_set_journal(s->device, journal);
	device_replay_begin(s->device);
	while ((err = journal_next(journal, &record)) == 1) {
		device_replay_record(s->device, &record);
		journal_replaying(journal, &record);
		err = take_record(t, &record);
		if (err < 0)
			break;
	}
	int end = device_replay_end(s->device);
	take_counters_back(s->stats, &before);
	t->result.replay_ns = clock_ns() - begin;
	if (err < 0)
		return take_fail(t, err, "the journal cannot be run again: %s", strerror(-err));
	if (end < 0)
		return take_fail(t, end, "the driver failed while the journal was run again");
	journal_end_replay(journal);
	return 0;
}

/* Whether it is compressed already shows when its guest rests. */
static void take_image_to_rest(struct succession *s, uint32_t slot)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_IMAGE, .index = slot};
	int fd = stash_dup(&s->stash, &what);

	s->plain_fd = fd < 0 ? -1 : fd;
}

static int take_recover(struct taking_over *t, bool blame)
{
	struct succession *s = t->s;
	uint64_t current = __atomic_load_n(&s->anchor->current, __ATOMIC_ACQUIRE);
	struct keeper_custody journal_slot = {
		.kind = KEEPER_CUSTODY_JOURNAL, .index = current & 0xff};
	uint32_t image = current >> 8 & 0xff, rounds = current >> 16 & 0xff;
	int err = 0;

	s->count = current >> 24;
	if (journal_slot.index == KEEPER_NOT_KEPT)
		return take_fail(t, -ENODATA,
			"it was no longer kept: its journal was full and no image could be made");
	/* Killed before anything was read from a connection: all of them begin now. */
	if (journal_slot.index == KEEPER_NO_JOURNAL)
		return 0;
	if (image != KEEPER_NO_IMAGE) {
		err = take_rounds(t, rounds);
		if (!err)
			err = take_slot(t, KEEPER_CUSTODY_IMAGE, image);
		if (!err)
			err = take_device_end(t);
	}
	if (err < 0)
		return err;
	cleanup_close int fd = stash_dup(&s->stash, &journal_slot);
	struct journal *journal;
	err = fd < 0 ? fd : journal_open(fd, JOURNAL_HARD_BYTES, &journal);
	if (err < 0)
		return take_fail(t, err, "there is no journal");
	journal_watch(journal, &s->anchor->busy_since);
	s->journal = journal;
	s->journal_slot = journal_slot.index;
	s->image_slot = image;
	s->base_rounds = rounds;
	if (image != KEEPER_NO_IMAGE)
		take_image_to_rest(s, image);
	/* Of a move that the predecessor did not live to see: they are older than what is to come.
	 */
	for (uint32_t i = rounds; i < s->rounds_given; i++)
		succession_drop(s, KEEPER_CUSTODY_PRECOPY, i);
	/* Their connections ended since that image. */
	device_drop_unclaimed(s->device);
	return take_journal(t, journal, blame);
}

/* ---- an image that is complete ---- */

/* From here on this process' journal and that image count, the predecessor's no more. */
static int take_base(struct taking_over *t, uint32_t slot)
{
	struct succession *s = t->s;
	struct journal *journal;

	if (!s->anchor)
		return take_fail(t, -ENOENT, "nothing was kept");
	s->journal_slot = (uint32_t)(s->anchor->current & 1);
	s->count = s->anchor->current >> 24;
	int err = succession_new_journal(s, &journal);
	if (err < 0)
		return take_fail(t, err, "no memory for a journal");
	succession_switch(s, journal, slot, s->rounds_given);
	take_image_to_rest(s, slot);
	return 0;
}

/*
 * A file that somebody else has is no image to rely on: one is made before anybody is served. One's
 * own is as good as an image, and read by the same reader.
 */
static int take_first_image(struct taking_over *t, int own_file)
{
	struct succession *s = t->s;
	int err = succession_anchor(s);

	if (!err)
		err = own_file >= 0 ? leaving_file_is_image(s, own_file) : leaving_first_image(s);
	return err < 0 ? take_fail(t, err, "no memory for an image") : 0;
}

static int take_complete(struct taking_over *t, const struct keeper_load *load, int file_fd)
{
	struct succession *s = t->s;
	uint32_t slot = load->images & 1 ? 0 : 1;
	int err = take_rounds(t, file_fd < 0 ? s->rounds_given : 0);

	if (!err)
		err = file_fd < 0 ? take_slot(t, KEEPER_CUSTODY_IMAGE, slot)
				  : take_sections(t, file_fd);
	if (!err)
		err = take_device_end(t);
	/* Those of a file that is restored wait for the program that was restored with it. */
	if (!err && (file_fd < 0 || s->n_resumed))
		device_drop_unclaimed(s->device);
	if (err < 0 || !s->enabled)
		return err;
	return file_fd < 0 ? take_base(t, slot) : take_first_image(t, load->own ? file_fd : -1);
}

/* ---- LOAD ---- */

static int take_anchor(struct taking_over *t, bool needed)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_ANCHOR};
	cleanup_close int fd = stash_dup(&t->s->stash, &what);
	int err = fd < 0 ? fd : succession_map_anchor(t->s, fd);

	return err < 0 && needed ? take_fail(t, err, "nothing was kept") : 0;
}

/* Those that came while nobody could record it. */
static void take_new_connections(struct succession *s)
{
	for (size_t i = 0; i < s->n_resumed; i++) {
		struct keeper_custody socket = taking_over_socket(s->resumed[i].id);
		int fd = stash_take(&s->stash, &socket);
		if (fd >= 0)
			connections_add(s->connections, &s->resumed[i], fd);
	}
}

static void take_forget(struct succession *s)
{
	stash_finish(&s->stash);
	free(TAKE_PTR(s->resumed));
	s->n_resumed = 0;
	s->rounds_given = s->rounds_loaded = 0;
}

void taking_over_load(struct succession *s, const struct keeper_load *load, int file_fd)
{
	cleanup_close int file = file_fd;
	uint64_t start = clock_ns();
	struct taking_over t = {.s = s};

	crash_points_spare();
	succession_freeze(s);
	int err = s->given;
	if (err < 0)
		take_fail(&t, err, "what was given cannot be kept: %s", strerror(-err));
	else
		err = take_anchor(&t, load->recover != 0);
	if (!err)
		err = load->recover ? take_recover(&t, load->blame != 0)
				    : take_complete(&t, load, file);
	if (!err)
		take_new_connections(s);
	if (!err && s->enabled)
		succession_put_shaders(s);
	take_forget(s);
	t.result.code = err;
	t.result.stopped_ns = clock_ns() - start;
	/* What it took will be needed again, unless an image is made soon. */
	s->owed_ms = TAKING_OVER_WEIGHT * (t.result.stopped_ns / 1000000);
	s->active_ms += s->owed_ms;
	crash_point(CRASH_POINT_LOADED);
	if (err < 0)
		log_error("the predecessor's state cannot be taken over: %s", t.result.text);
	channel_send(s->channel_fd, KEEPER_DEVICE_LOADED, &t.result, -1);
	/* After a failure the keeper ends this process: nobody may see what is half there. */
	if (!err)
		succession_thaw(s);
}

/* A file that is damaged at its end must not have changed anything by then. */
static int take_check_file(struct taking_over *t, int fd)
{
	off_t start = lseek(fd, 0, SEEK_CUR);
	struct state_section section;
	struct state_reader *r;
	int err = start < 0 ? -errno : state_reader_create(fd, &r);

	if (err < 0 || start < 0)
		return take_fail(t, err, "it is no saved state: %s", strerror(-err));
	while ((err = state_next(r, &section)) == 1)
		;
	if (err < 0)
		take_fail(t, err, "%s", state_reader_why(r));
	state_reader_destroy(r);
	if (!err && lseek(fd, start, SEEK_SET) < 0)
		err = take_fail(t, -errno, "it cannot be read twice");
	return err;
}

/* The journal does not have what was loaded: before anything else is done an image has. */
static int take_image_now(struct taking_over *t)
{
	struct succession *s = t->s;

	succession_freeze(s);
	int err = take_first_image(t, -1);
	succession_thaw(s);
	return err;
}

int succession_read_file(
	struct succession *s, int fd, int (*load)(void *data, struct state_reader *r), void *data)
{
	struct taking_over t = {.s = s, .load = load, .load_data = data};

	if (succession_frozen(s)) /* an image of it as it was is made already */
		return -EBUSY;
	int err = take_check_file(&t, fd);
	if (!err)
		err = take_begin(&t);
	if (!err)
		err = take_sections(&t, fd);
	if (!err)
		err = take_device_end(&t);
	if (!err && !t.vm_loaded)
		err = take_fail(&t, -EBADMSG, "it is not the state of a VM");
	device_load_abort(TAKE_PTR(s->loader));
	device_drop_unclaimed(s->device);
	s->image_due = true; /* the journal has nothing of it */
	if (!err && s->journal)
		err = take_image_now(&t);
	if (err < 0)
		log_error("the state cannot be loaded: %s", t.result.text);
	return err;
}

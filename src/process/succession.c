/* SPDX-License-Identifier: Apache-2.0 */
#include "process/succession_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash_point.h"
#include "protocol/stats.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- custody ---- */

static int succession_send_custody(struct succession *s, const struct keeper_custody *what, int fd)
{
	return channel_send(s->channel_fd, KEEPER_DEVICE_CUSTODY, what, fd);
}

int succession_put(struct succession *s, uint32_t kind, uint32_t index, uint64_t a, int fd)
{
	const struct keeper_custody what = {.kind = kind, .index = index, .a = a};
	return succession_send_custody(s, &what, fd);
}

void succession_drop(struct succession *s, uint32_t kind, uint32_t index)
{
	const struct keeper_custody what = {.kind = kind, .index = index};
	channel_send(s->channel_fd, KEEPER_DEVICE_RELEASE, &what, -1);
}

static int keep_put(void *data, const struct keeper_custody *what, int fd)
{
	return succession_send_custody(data, what, fd);
}

static void keep_drop(void *data, const struct keeper_custody *what)
{
	const struct succession *s = data;
	channel_send(s->channel_fd, KEEPER_DEVICE_RELEASE, what, -1);
}

static int keep_take(void *data, struct keeper_custody *what)
{
	struct succession *s = data;
	return stash_dup(&s->stash, what);
}

static struct journal *keep_journal(void *data)
{
	const struct succession *s = data;
	return s->journal;
}

static void keep_image_due(void *data)
{
	struct succession *s = data;
	s->image_due = true;
}

int succession_new_memory(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

static_assert(SHADERS_DRIVER_FILES == KEEPER_MAX_SHADERS, "each file has a place in custody");

void succession_put_shaders(struct succession *s)
{
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES && !s->shaders_put; i++) {
		int fd = shader_cache_fd(s->shaders, i);
		if (fd >= 0)
			succession_put(s, KEEPER_CUSTODY_SHADERS, i, 0, fd);
	}
	s->shaders_put = true;
}

/* ---- the anchor ---- */

void succession_write_anchor(struct succession *s)
{
	s->count++;
	__atomic_store_n(&s->anchor->current,
		s->journal_slot | (uint64_t)s->image_slot << 8 | (uint64_t)s->base_rounds << 16 |
			s->count << 24,
		__ATOMIC_RELEASE);
	crash_point(CRASH_POINT_ANCHORED);
}

int succession_map_anchor(struct succession *s, int fd)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size != KEEPER_ANCHOR_SIZE ||
		(fcntl(fd, F_GET_SEALS) & seals) != seals)
		return -EINVAL;
	struct keeper_anchor *anchor =
		mmap(NULL, KEEPER_ANCHOR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (anchor == MAP_FAILED)
		return -errno;
	if (anchor->magic && (anchor->magic != KEEPER_ANCHOR_MAGIC ||
				     anchor->version != KEEPER_ANCHOR_VERSION)) {
		munmap(anchor, KEEPER_ANCHOR_SIZE);
		return -EINVAL;
	}
	s->anchor = anchor;
	return 0;
}

int succession_anchor(struct succession *s)
{
	if (s->anchor)
		return 0;
	cleanup_close int fd = succession_new_memory("vgpu-anchor");
	if (fd < 0)
		return fd;
	if (ftruncate(fd, KEEPER_ANCHOR_SIZE) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	int err = succession_map_anchor(s, fd);
	if (err < 0 || !s->anchor)
		return err;
	*s->anchor = (struct keeper_anchor){.magic = KEEPER_ANCHOR_MAGIC,
		.version = KEEPER_ANCHOR_VERSION,
		.current = KEEPER_NO_JOURNAL | KEEPER_NO_IMAGE << 8};
	return succession_put(s, KEEPER_CUSTODY_ANCHOR, 0, 0, fd);
}

int succession_new_journal(struct succession *s, struct journal **ret)
{
	struct journal *journal;
	int fd;

	if (s->spare) {
		*ret = TAKE_PTR(s->spare);
		return 0;
	}
	int err = journal_create(JOURNAL_HARD_BYTES, &fd, &journal);
	if (err < 0)
		return err;
	err = succession_put(s, KEEPER_CUSTODY_JOURNAL, 1 - s->journal_slot, 0, fd);
	close(fd);
	if (err < 0) {
		journal_destroy(journal);
		return err;
	}
	journal_watch(journal, &s->anchor->busy_since);
	*ret = journal;
	return 0;
}

void succession_forget_spare(struct succession *s)
{
	if (!s->spare)
		return;
	journal_destroy(TAKE_PTR(s->spare));
	succession_drop(s, KEEPER_CUSTODY_JOURNAL, 1 - s->journal_slot);
}

/* Of a vGPU that uploads much: it will need as much again. */
static bool succession_is_worth_keeping(const struct journal *journal)
{
	uint64_t room = journal_room(journal);

	return room >= SPARE_LEAST_BYTES && room <= SPARE_MOST_BYTES &&
	       journal_bytes(journal) >= room / 2;
}

/* A journal that counts no more, in the slot that does not. */
static void succession_retire(struct succession *s, struct journal *journal)
{
	if (!journal)
		return;
	if (succession_is_worth_keeping(journal) && journal_reset(journal) == 0) {
		s->spare = journal;
		return;
	}
	journal_destroy(journal);
	succession_drop(s, KEEPER_CUSTODY_JOURNAL, 1 - s->journal_slot);
}

/* By the CPU and by hardware, which works beside it. */
static uint64_t succession_worked_ns(const struct succession *s)
{
	struct timespec cpu = {0};

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec +
	       s->stats->fence_time_ns_total;
}

void succession_switch(
	struct succession *s, struct journal *journal, uint32_t image_slot, uint32_t rounds)
{
	uint32_t old_image = s->image_slot;
	uint32_t old_rounds = s->base_rounds;
	struct journal *old = s->journal;

	device_set_journal(s->device, journal);
	s->journal = journal;
	s->journal_slot = 1 - s->journal_slot;
	s->image_slot = image_slot;
	s->base_rounds = rounds;
	succession_write_anchor(s);
	succession_retire(s, old);
	if (old_image != KEEPER_NO_IMAGE && old_image != image_slot)
		succession_drop(s, KEEPER_CUSTODY_IMAGE, old_image);
	while (old_rounds > rounds)
		succession_drop(s, KEEPER_CUSTODY_PRECOPY, --old_rounds);
	close_fd(&s->plain_fd);
	s->rest_refused = 0;
	s->rest_tries = 0;
	s->active_ms = 0;
	s->owed_ms = 0;
	s->worked_from = succession_worked_ns(s);
	s->last_bytes = 0;
	s->image_due = false;
}

uint32_t succession_free_image_slot(const struct succession *s)
{
	return s->image_slot == 0 ? 1 : 0;
}

void succession_give_up(struct succession *s, const char *why)
{
	uint32_t image = s->image_slot, journal = s->journal_slot, rounds = s->base_rounds;
	char text[KEEPER_TEXT_MAX];

	succession_forget_spare(s);
	close_fd(&s->plain_fd);
	device_set_journal(s->device, NULL);
	journal_destroy(TAKE_PTR(s->journal));
	s->given_up = true;
	s->journal_slot = KEEPER_NOT_KEPT;
	s->image_slot = KEEPER_NO_IMAGE;
	s->base_rounds = 0;
	s->image_due = false;
	__atomic_store_n(&s->anchor->busy_since, 0, __ATOMIC_RELEASE);
	succession_write_anchor(s);
	succession_drop(s, KEEPER_CUSTODY_JOURNAL, journal);
	if (image != KEEPER_NO_IMAGE)
		succession_drop(s, KEEPER_CUSTODY_IMAGE, image);
	while (rounds)
		succession_drop(s, KEEPER_CUSTODY_PRECOPY, --rounds);
	snprintf(text, sizeof(text),
		"its state can no longer be kept, a crash of its driver would end its "
		"connections: %s",
		why);
	log_error("%s", text);
	channel_send_text(s->channel_fd, KEEPER_DEVICE_NOTICE, text);
}

int succession_begin(struct succession *s)
{
	struct journal *journal;

	if (!s->enabled || s->journal)
		return 0;
	int err = succession_anchor(s);
	if (!err)
		err = succession_new_journal(s, &journal);
	if (!err)
		succession_switch(s, journal, s->image_slot, s->base_rounds);
	return err;
}

/* ---- serving and not ---- */

void succession_freeze(struct succession *s)
{
	if (!s->frozen_since)
		s->frozen_since = clock_ns();
	connections_freeze(s->connections, true);
}

void succession_thaw(struct succession *s)
{
	s->frozen_since = 0;
	connections_freeze(s->connections, false);
}

bool succession_frozen(const struct succession *s)
{
	return s->frozen_since != 0;
}

/* ---- connections ---- */

int succession_connected(struct succession *s, const struct keeper_connection *info)
{
	const struct iovec part = {(void *)(uintptr_t)info, sizeof(*info)};

	if (!s->enabled || s->given_up)
		return 0;
	succession_put_shaders(s);
	int err = succession_begin(s);
	if (err < 0)
		return err;
	if (journal_due(s->journal, sizeof(*info)))
		leaving_image(s);
	if (s->given_up)
		return 0;
	err = journal_record(s->journal, JOURNAL_CONNECT, info->id, 0, &part, 1);
	journal_executed(s->journal);
	return err;
}

void succession_closed(struct succession *s, uint32_t id)
{
	/* Without room its end is found out again: the keeper no longer has the connection. */
	if (s->journal && !device_replaying(s->device) &&
		journal_record(s->journal, JOURNAL_CLOSE, id, 0, NULL, 0) == 0)
		journal_executed(s->journal);
}

/* ---- when an image is due ---- */

static void succession_count_activity(struct succession *s)
{
	uint64_t now = clock_ms(), bytes = journal_bytes(s->journal);

	if (bytes != s->last_bytes)
		s->active_ms += MIN(now - s->last_ms, (uint64_t)250);
	s->last_bytes = bytes;
	s->last_ms = now;
}

uint64_t succession_enough(const struct succession *s)
{
	return MAX((uint64_t)IMAGE_ACTIVE_MS, IMAGE_COST_FACTOR * s->image_cost_ms);
}

/* Activity is time in which messages came, pauses between them included; work may be much less. */
static bool succession_is_long(struct succession *s)
{
	if (s->active_ms <= succession_enough(s) || s->last_bytes > IMAGE_SMALL_BYTES)
		return s->active_ms > succession_enough(s);
	uint64_t worked = succession_worked_ns(s);
	/* Counters go back to what they were when a predecessor's work was done again. */
	worked -= MIN(worked, s->worked_from);
	s->active_ms = MIN(s->active_ms, s->owed_ms + worked / 1000000u);
	return s->active_ms > succession_enough(s);
}

static bool succession_image_is_due(struct succession *s)
{
	if (s->image_due)
		return true;
	if (device_journal_incomplete(s->device))
		return s->last_ms >= s->next_try_ms;
	return (succession_is_long(s) || s->last_bytes > JOURNAL_SOFT_BYTES) &&
	       s->last_ms >= s->next_try_ms;
}

bool succession_idle(struct succession *s)
{
	if (s->frozen_since)
		return false;
	if (s->journal) {
		succession_count_activity(s);
		if (succession_image_is_due(s))
			leaving_image(s);
	}
	return s->round && leaving_precopy_slice(s);
}

/* ---- the keeper's messages ---- */

bool succession_message(struct succession *s, struct packet *packet)
{
	const void *payload = packet->payload;

	switch (packet->type) {
	case KEEPER_DEVICE_PRECOPY:
		leaving_precopy(s);
		return true;
	case KEEPER_DEVICE_SAVE:
		leaving_save(s);
		return true;
	case KEEPER_DEVICE_SAVE_FILE:
		leaving_save_file(s, payload, packet->fd);
		return true;
	case KEEPER_DEVICE_THAW:
		leaving_thaw(s);
		return true;
	case KEEPER_DEVICE_CHECK:
		leaving_check(s);
		return true;
	case KEEPER_DEVICE_SHADERS:
		taking_over_archive(s, packet->fd);
		return true;
	case KEEPER_DEVICE_GIVE:
		taking_over_give(s, payload, packet->fd);
		return true;
	case KEEPER_DEVICE_RESUME:
		taking_over_resume(s, payload, packet->fd);
		return true;
	case KEEPER_DEVICE_LOAD_PRECOPY:
		taking_over_rounds(s);
		return true;
	case KEEPER_DEVICE_LOAD:
		taking_over_load(s, payload, -1);
		return true;
	case KEEPER_DEVICE_LOAD_FILE:
		taking_over_load(s, payload, packet->fd);
		return true;
	default:
		return false;
	}
}

/* ---- lifetime ---- */

int succession_create(const struct succession_config *config, struct succession **ret)
{
	struct succession *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct succession){.device = config->device,
		.loop = config->loop,
		.stats = config->stats,
		.channel_fd = config->channel_fd,
		.enabled = config->enabled,
		.shaders = config->shaders,
		.drop_section = config->drop_section,
		.image_slot = KEEPER_NO_IMAGE,
		.journal_slot = 1,
		.round_fd = -1,
		.stop_fd = -1,
		.plain_fd = -1,
		.log = LOG_LIMIT_INIT,
		.keep = {.data = s,
			.put = keep_put,
			.drop = keep_drop,
			.take = keep_take,
			.journal = keep_journal,
			.image_due = keep_image_due}};
	*ret = s;
	return 0;
}

void succession_set_connections(struct succession *s, struct connections *connections)
{
	s->connections = connections;
}

const struct frontend_keep *succession_keep(struct succession *s)
{
	return s->enabled ? &s->keep : NULL;
}

void succession_destroy(struct succession *s)
{
	if (!s)
		return;
	state_writer_destroy(s->round);
	close_fd(&s->round_fd);
	device_load_abort(s->loader);
	close_fd(&s->stop_fd);
	close_fd(&s->plain_fd);
	stash_finish(&s->stash);
	free(s->resumed);
	device_set_journal(s->device, NULL);
	journal_destroy(s->journal);
	journal_destroy(s->spare);
	if (s->anchor)
		munmap(s->anchor, KEEPER_ANCHOR_SIZE);
	free(s);
}

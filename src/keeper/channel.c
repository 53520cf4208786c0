/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages from and to device processes. Who sends one decides what it means: the current process,
 * the next one, whose custody is staged; a dismissed one is not listened to.
 */
#include "keeper/keeper.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define CHANNEL_BATCH 64 /* messages handled before others get their turn */

typedef const char *(*device_handler)(struct device_process *d, struct packet *p);

/* Each returns NULL, or why the message breaks the protocol. They take p->fd or leave it. */

static const char *on_ready(struct device_process *d, struct packet *p)
{
	struct keeper *k = d->keeper;
	struct keeper_ready *ready = (void *)p->payload;

	if (d->ready || d->replaced)
		return "READY was said twice";
	if (ready->version != KEEPER_PROTOCOL_VERSION)
		return "it speaks another version of the keeper protocol";
	packet_text(ready->renderer, sizeof(ready->renderer));
	memcpy(d->renderer, ready->renderer, sizeof(d->renderer));
	d->ready = true;
	d->driver = ready->driver;
	d->kill_at = 0;
	if (d == k->next) {
		takeover_event(k, EVENT_NEXT_READY, NULL);
		return NULL;
	}
	memcpy(k->renderer, ready->renderer, sizeof(k->renderer));
	k->state = KEEPER_STATE_READY;
	if (k->takeover.phase == PHASE_SERVING)
		k->failure[0] = '\0';
	log_info("the device process is ready: %s", k->renderer);
	control_status(k); /* before a client can notice */
	takeover_event(k, EVENT_CURRENT_READY, NULL);
	return NULL;
}

/* What names a connection that has ended meanwhile is no fault: the news is on its way. */
static bool custody_is_late(const struct keeper *k, const struct keeper_custody *what)
{
	if (what->kind >= KEEPER_CUSTODY_KIND_COUNT || !(1u << what->kind & CUSTODY_MANY) ||
		!what->index)
		return false;
	for (unsigned i = 0; i < KEEPER_MAX_CONNECTIONS; i++) {
		if (k->connections[i].id == what->index)
			return false;
	}
	return true;
}

static const char *on_custody(struct device_process *d, struct packet *p)
{
	struct keeper *k = d->keeper;
	const struct keeper_custody *what = (void *)p->payload;

	if (custody_is_late(k, what))
		return NULL;
	int r = custody_put(d->staging ? &d->staged : &k->custody, what, p->fd);
	if (r == -EINVAL)
		return "CUSTODY names a place that does not exist";
	if (r < 0)
		return "it put more into custody than there is room for";
	p->fd = -1;
	if (d == k->current && what->kind == KEEPER_CUSTODY_IMAGE)
		k->takeover.saved_images = 1u << what->index;
	return NULL;
}

static const char *on_release(struct device_process *d, struct packet *p)
{
	struct keeper *k = d->keeper;
	const struct keeper_custody *what = (void *)p->payload;

	int r = d->staging ? custody_stage_release(&d->staged, what)
			   : custody_release(&k->custody, what);
	if (r == -EINVAL)
		return "RELEASE names a place that does not exist";
	return r < 0 ? "it released more than there is room for" : NULL;
}

static const char *on_memory_done(struct device_process *d, struct packet *p)
{
	const struct keeper_verdict *asked = (void *)p->payload;

	memory_claim(d, asked->serial);
	return NULL;
}

static const char *on_closed(struct device_process *d, struct packet *p)
{
	struct keeper_closed *closed = (void *)p->payload;

	packet_text(closed->reason, sizeof(closed->reason));
	if (closed->reason[0])
		control_event(d->keeper, "connection %u ended: %s", closed->id, closed->reason);
	peers_closed_by_device(d, closed->id);
	return NULL;
}

static const char *on_notice(struct device_process *d, struct packet *p)
{
	struct keeper_text *notice = (void *)p->payload;

	packet_text(notice->text, sizeof(notice->text));
	control_event(d->keeper, "%s", notice->text);
	return NULL;
}

static const char *on_failed(struct device_process *d, struct packet *p)
{
	struct keeper_text *failed = (void *)p->payload;

	packet_text(failed->text, sizeof(failed->text));
	memcpy(d->failed_text, failed->text, sizeof(d->failed_text));
	d->failed_said = true;
	return NULL;
}

/* Answers. One that came too late is nobody's any more, and no fault. */
static const char *channel_answer(struct device_process *d, const struct packet *p,
	enum takeover_event event, const void *payload, bool last)
{
	uint32_t bit = 1u << p->type;

	if (!(d->owes & bit))
		return "it sent an answer that nobody asked for";
	if (last)
		d->owes &= ~bit;
	if (!(d->late_answers & bit))
		takeover_event(d->keeper, event, payload);
	else if (last)
		d->late_answers &= ~bit;
	return NULL;
}

static const char *channel_saved(
	struct device_process *d, struct packet *p, enum takeover_event event)
{
	struct keeper_saved *saved = (void *)p->payload;

	packet_text(saved->text, sizeof(saved->text));
	return channel_answer(d, p, event, saved, true);
}

static const char *on_precopied(struct device_process *d, struct packet *p)
{
	return channel_saved(d, p, EVENT_PRECOPIED);
}

static const char *on_saved(struct device_process *d, struct packet *p)
{
	return channel_saved(d, p, EVENT_SAVED);
}

static const char *on_loaded(struct device_process *d, struct packet *p)
{
	return channel_saved(d, p, EVENT_LOADED);
}

static const char *on_checked(struct device_process *d, struct packet *p)
{
	struct keeper_checked *checked = (void *)p->payload;

	packet_text(checked->text, sizeof(checked->text));
	return channel_answer(d, p, EVENT_CHECKED, checked, !checked->text[0]);
}

static const char *on_quiet(struct device_process *d, struct packet *p)
{
	if (d == d->keeper->current)
		watch_quiet(d->keeper, p->type == KEEPER_DEVICE_RESTING);
	return NULL;
}

static const char *on_formats(struct device_process *d, struct packet *p)
{
	return formats_store(d, (const void *)p->payload);
}

static const device_handler handlers[KEEPER_DEVICE_MESSAGE_COUNT] = {
	[KEEPER_DEVICE_READY] = on_ready,
	[KEEPER_DEVICE_CUSTODY] = on_custody,
	[KEEPER_DEVICE_RELEASE] = on_release,
	[KEEPER_DEVICE_MEMORY_DONE] = on_memory_done,
	[KEEPER_DEVICE_CLOSED] = on_closed,
	[KEEPER_DEVICE_NOTICE] = on_notice,
	[KEEPER_DEVICE_FAILED] = on_failed,
	[KEEPER_DEVICE_PRECOPIED] = on_precopied,
	[KEEPER_DEVICE_SAVED] = on_saved,
	[KEEPER_DEVICE_LOADED] = on_loaded,
	[KEEPER_DEVICE_CHECKED] = on_checked,
	[KEEPER_DEVICE_FORMATS] = on_formats,
	[KEEPER_DEVICE_RESTING] = on_quiet,
	[KEEPER_DEVICE_AWAKE] = on_quiet,
};

static const char *channel_handle(struct device_process *d, struct packet *p)
{
	/* The table lets only its own messages pass; a row without a handler is a fault too. */
	return handlers[p->type] ? handlers[p->type](d, p) : "it sent an unknown message";
}

bool device_read_message(struct device_process *d)
{
	struct packet p;
	const char *wrong = NULL;

	int r = packet_recv(d->channel, &keeper_device_table, KEEPER_FROM_DEVICE, &p);
	if (r == -EAGAIN)
		return false;
	if (r == 1) {
		wrong = channel_handle(d, &p);
		close_fd(&p.fd);
	} else if (r == 0) {
		/* Mostly its death, which says more about why; that is given a moment. */
		loop_remove(d->channel_source);
		d->channel_source = NULL;
		d->late = "it closed its channel to the keeper";
		d->kill_at = clock_ms() + KEEPER_LAST_WORDS_MS;
		keeper_set_timer(d->keeper);
		return false;
	} else {
		wrong = r == -EMFILE ? "its keeper has no descriptor left for what it sent"
				     : "a message on its channel breaks the keeper protocol";
	}
	if (wrong) {
		loop_remove(d->channel_source);
		d->channel_source = NULL;
		device_kill(d, wrong);
	}
	return !wrong;
}

void device_on_channel(void *data, uint32_t events)
{
	struct device_process *d = data;

	if (events & EPOLLOUT) {
		loop_set_events(d->channel_source, EPOLLIN);
		device_resend(d, clock_ms());
	}
	for (int i = 0; i < CHANNEL_BATCH && d->channel_source && device_read_message(d); i++)
		;
}

/* --- sending --- */

int device_send(struct device_process *d, uint32_t type, const void *payload, int fd)
{
	if (!d->pid)
		return -EPIPE;
	int r = packet_send(d->channel, &keeper_device_table, type, payload, fd);
	/* It has to take what was sent first, but the channel does not tell when it has. */
	bool crowded = r == -ENOBUFS || r == -ETOOMANYREFS;

	if (r == 0) {
		d->stuck_since = 0;
		d->sent++;
	} else if (r == -EAGAIN || crowded) {
		uint64_t now = clock_ms();
		d->stuck_since = d->stuck_since ?: now;
		d->resend_at = now + (crowded ? KEEPER_CROWDED_MS : KEEPER_RESEND_MS);
		if (!crowded && d->channel_source)
			loop_set_events(d->channel_source, EPOLLIN | EPOLLOUT);
		keeper_set_timer(d->keeper);
		r = -EAGAIN;
	} else if (r != -EPIPE && r != -ECONNRESET) {
		device_kill(d, strerror(-r));
	}
	return r;
}

void device_verdict(struct device_process *d, const struct keeper_verdict *verdict)
{
	d->verdict = *verdict;
	d->verdict_waits = device_send(d, KEEPER_DEVICE_VERDICT, verdict, -1) == -EAGAIN;
}

/* Messages that need no second attempt: the end of a connection shows in its socket as well. */
void device_resend(struct device_process *d, uint64_t now)
{
	uint64_t since = d->stuck_since, sent = d->sent;

	d->resend_at = 0;
	if (since && now - since >= KEEPER_STUCK_MS) {
		device_kill(d, "it stopped reading its channel to the keeper");
		return;
	}
	d->stuck_since = 0; /* unless it is found full again */
	if (d->verdict_waits)
		d->verdict_waits =
			device_send(d, KEEPER_DEVICE_VERDICT, &d->verdict, -1) == -EAGAIN;
	outbox_flush(d);
	if (d == d->keeper->current)
		peers_send_waiting(d->keeper);
	if (d->stuck_since && since && d->sent == sent)
		d->stuck_since = since;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_CONNECTIONS_H
#define VGPU_PROCESS_CONNECTIONS_H

/*
 * The sockets the keeper hands over, each served by the front end of its kind. A front end only
 * says that its connection is over; it is destroyed by connections_reap(), outside of its own
 * calls.
 */

#include "base/loop.h"
#include "device/device.h"

/* Open descriptors of the process, where the host allows so many: every connection holds some. */
#define CONNECTIONS_MAX_FDS 65536u

struct connections;
struct gate;
struct journal_record;
struct keeper_connection;
struct state_reader;
struct state_writer;
struct succession;
struct standby_args;

int connections_create(struct device *dev, struct loop *loop, int channel_fd,
	struct succession *succession, struct connections **ret);
void connections_destroy(struct connections *connections); /* NULL-safe */
/* What the keeper grants goes there; NULL: nowhere. Not owned. */
void connections_set_gate(struct connections *connections, struct gate *gate);
void connections_reap(struct connections *connections);

/* Serves a new connection; takes `fd`. What goes wrong is told to the keeper. */
void connections_add(struct connections *connections, const struct keeper_connection *info, int fd);

/* Called for CONFIGURE; without one, or when it fails, the process ends. */
typedef int (*connections_configure)(void *data, const struct standby_args *args);
void connections_on_configure(
	struct connections *connections, connections_configure configure, void *data);

/* ---- for succession ---- */

/* Those that come while frozen are frozen, too. */
void connections_freeze(struct connections *connections, bool freeze);
/* Frozen, nothing in the device: does one owe work that no kick or byte would wake a process for?
 */
bool connections_pending(struct connections *connections);
/* A CONNECTION section each: u32 id, u32 kind, then the front end's own. */
void connections_save(struct connections *connections, struct state_writer *w);
/*
 * A predecessor's connection; takes `fd`. `r` stands behind the section's id; NULL: it came after
 * the image. -EBADMSG and the like: no successor can serve it.
 */
int connections_resume(struct connections *connections, const struct keeper_connection *info,
	int fd, struct state_reader *r);
/* Unknown connections ended meanwhile and are passed over. */
void connections_replay(struct connections *connections, const struct journal_record *record);
void connections_close(struct connections *connections, uint32_t id);

#endif

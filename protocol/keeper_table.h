/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_KEEPER_TABLE_H
#define VGPU_PROTOCOL_KEEPER_TABLE_H

/*
 * The rows of protocol/keeper.h as tables that packet_recv() checks messages against. Every
 * payload is its whole struct, also where a handler reads only one field of it.
 */

#include "base/packet.h"
#include "protocol/keeper.h"

enum keeper_side { KEEPER_FROM_DEVICE, KEEPER_FROM_KEEPER, KEEPER_FROM_CONTROL };

#define KEEPER_SIZE_READY        sizeof(struct keeper_ready)
#define KEEPER_SIZE_CUSTODY      sizeof(struct keeper_custody)
#define KEEPER_SIZE_RELEASE      sizeof(struct keeper_custody)
#define KEEPER_SIZE_MEMORY_DONE  sizeof(struct keeper_verdict)
#define KEEPER_SIZE_CLOSED       sizeof(struct keeper_closed)
#define KEEPER_SIZE_NOTICE       sizeof(struct keeper_text)
#define KEEPER_SIZE_FAILED       sizeof(struct keeper_text)
#define KEEPER_SIZE_CONNECTION   sizeof(struct keeper_connection)
#define KEEPER_SIZE_VERDICT      sizeof(struct keeper_verdict)
#define KEEPER_SIZE_DISCONNECT   sizeof(struct keeper_closed)
#define KEEPER_SIZE_QUIT         0
#define KEEPER_SIZE_PRECOPIED    sizeof(struct keeper_saved)
#define KEEPER_SIZE_SAVED        sizeof(struct keeper_saved)
#define KEEPER_SIZE_LOADED       sizeof(struct keeper_saved)
#define KEEPER_SIZE_CHECKED      sizeof(struct keeper_checked)
#define KEEPER_SIZE_FORMATS      sizeof(struct keeper_formats)
#define KEEPER_SIZE_PRECOPY      0
#define KEEPER_SIZE_SAVE         0
#define KEEPER_SIZE_SAVE_FILE    sizeof(struct keeper_save)
#define KEEPER_SIZE_THAW         0
#define KEEPER_SIZE_CHECK        0
#define KEEPER_SIZE_GIVE         sizeof(struct keeper_custody)
#define KEEPER_SIZE_RESUME       sizeof(struct keeper_connection)
#define KEEPER_SIZE_LOAD_PRECOPY 0
#define KEEPER_SIZE_LOAD         sizeof(struct keeper_load)
#define KEEPER_SIZE_LOAD_FILE    sizeof(struct keeper_load)
#define KEEPER_SIZE_SHADERS      0
#define KEEPER_SIZE_CONFIGURE    sizeof(struct standby_args)
#define KEEPER_SIZE_IDLE         0
#define KEEPER_SIZE_RESTING      0
#define KEEPER_SIZE_AWAKE        0

#define KEEPER_SIZE_HELLO        sizeof(struct keeper_hello)
#define KEEPER_SIZE_BIND         sizeof(struct keeper_bind)
#define KEEPER_SIZE_UNBIND       0
#define KEEPER_SIZE_ADOPT        sizeof(struct keeper_bind)
#define KEEPER_SIZE_GET_SCREEN   sizeof(struct keeper_screen)
#define KEEPER_SIZE_GET_STATS    0
#define KEEPER_SIZE_GROUP        sizeof(struct keeper_group)
#define KEEPER_SIZE_HOLD         sizeof(struct keeper_hold)
#define KEEPER_SIZE_GRANT        sizeof(struct keeper_grant)
#define KEEPER_SIZE_MEMORY       sizeof(struct keeper_memory)
#define KEEPER_SIZE_MEMORY_GRANT sizeof(struct keeper_memory_grant)
#define KEEPER_SIZE_STOP         0
#define KEEPER_SIZE_MOVE         sizeof(struct keeper_move)
#define KEEPER_SIZE_SNAPSHOT     sizeof(struct keeper_save)
#define KEEPER_SIZE_RESTORE      0
#define KEEPER_SIZE_HIBERNATE    sizeof(struct keeper_save)
#define KEEPER_SIZE_WAKE         0
#define KEEPER_SIZE_PROGRESS     sizeof(struct keeper_progress)
#define KEEPER_SIZE_DONE         sizeof(struct keeper_done)
#define KEEPER_SIZE_STATUS       sizeof(struct keeper_status)
#define KEEPER_SIZE_RESULT       sizeof(struct keeper_result)
#define KEEPER_SIZE_SCREEN       sizeof(struct keeper_screen)
#define KEEPER_SIZE_STATS        0
#define KEEPER_SIZE_EVENT        sizeof(struct keeper_text)
#define KEEPER_SIZE_ASSIGN       sizeof(struct standby_assign)

#define X(row, side, n_fds)                                                                        \
	[KEEPER_DEVICE_##row] = {.name = #row,                                                     \
		.size = KEEPER_SIZE_##row,                                                         \
		.from = KEEPER_FROM_##side,                                                        \
		.fds = n_fds},
static const struct packet_row keeper_device_rows[] = {KEEPER_DEVICE_MESSAGES(X)};
#undef X

#define X(row, side, n_fds)                                                                        \
	[KEEPER_CONTROL_##row] = {.name = #row,                                                    \
		.size = KEEPER_SIZE_##row,                                                         \
		.from = KEEPER_FROM_##side,                                                        \
		.fds = n_fds},
static const struct packet_row keeper_control_rows[] = {KEEPER_CONTROL_MESSAGES(X)};
#undef X

_Static_assert(sizeof(struct keeper_move) <= PACKET_PAYLOAD_MAX, "a MOVE fits one packet");
_Static_assert(sizeof(struct keeper_formats) <= PACKET_PAYLOAD_MAX, "FORMATS fits one packet");
_Static_assert(sizeof(struct standby_assign) <= PACKET_PAYLOAD_MAX, "an ASSIGN fits one packet");
_Static_assert(sizeof(struct keeper_status) <= PACKET_PAYLOAD_MAX, "a STATUS fits one packet");

static const struct packet_table keeper_device_table = {
	.rows = keeper_device_rows, .count = KEEPER_DEVICE_MESSAGE_COUNT};
static const struct packet_table keeper_control_table = {
	.rows = keeper_control_rows, .count = KEEPER_CONTROL_MESSAGE_COUNT};

#endif

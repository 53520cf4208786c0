/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_HANDOVER_H
#define VGPU_PROTOCOL_HANDOVER_H

/*
 * How a vhost-user connection reaches vgpud from whoever was started with it (the libvirt helper):
 * RUN_DIR/fd.sock, SOCK_SEQPACKET, one OFFER with the descriptor, one ANSWER. Descriptors travel
 * here and never through HTTP.
 */

#include "base/packet.h"

#include <stdint.h>

#define HANDOVER_VERSION  2u
#define HANDOVER_NAME_MAX 256
#define HANDOVER_VGPU_MAX 64
#define HANDOVER_TEXT_MAX 512
#define HANDOVER_LABEL    "libvirt domain " /* how its binding is called, before its name */

enum handover_message { HANDOVER_OFFER, HANDOVER_ANSWER, HANDOVER_MESSAGE_COUNT };
enum handover_side { HANDOVER_FROM_HELPER, HANDOVER_FROM_VGPUD };

struct handover_offer {
	uint32_t version;
	uint32_t pad;
	char domain[HANDOVER_NAME_MAX];
	char vgpu[HANDOVER_VGPU_MAX]; /* "": it is named like the domain */
};

struct handover_answer {
	int32_t code; /* 0: served; else -errno and why */
	uint32_t pad;
	char text[HANDOVER_TEXT_MAX];
};

static const struct packet_row handover_rows[] = {
	[HANDOVER_OFFER] = {.name = "OFFER",
		.size = sizeof(struct handover_offer),
		.from = HANDOVER_FROM_HELPER,
		.fds = 1},
	[HANDOVER_ANSWER] = {.name = "ANSWER",
		.size = sizeof(struct handover_answer),
		.from = HANDOVER_FROM_VGPUD,
		.fds = 0},
};

static const struct packet_table handover_table = {
	.rows = handover_rows, .count = HANDOVER_MESSAGE_COUNT};

#endif

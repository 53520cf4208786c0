/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_TCP_H
#define VGPU_CONTROL_TCP_H

/* TCP on this node's own addresses: nothing of vgpud is ever on a network. */

#include "base/error.h"

#include <stdbool.h>
#include <sys/socket.h>

struct tcp_address {
	struct sockaddr_storage addr;
	socklen_t size;
};

/* "127.x.y.z:PORT" or "[::1]:PORT", PORT from 1; false: it is not, a name of a host included. */
bool tcp_parse_loopback(const char *text, struct tcp_address *ret);

/* Listens at `text`, which is such an address. The fd or -errno. */
int tcp_listen_loopback(const char *text, struct error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "control/tcp.h"

#include "base/cleanup.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOST_MAX 46 /* the longest address as text, with its end */

/* HOST:PORT or [HOST]:PORT; false when it is neither. */
static bool split(const char *text, char ret_host[HOST_MAX], bool *ret_brackets, uint16_t *ret_port)
{
	const char *colon = strrchr(text, ':');
	uint64_t port;

	if (!colon || strspn(colon + 1, "0123456789") != strlen(colon + 1) ||
		!parse_number(colon + 1, 10, UINT16_MAX, &port) || !port)
		return false;
	size_t len = (size_t)(colon - text);
	*ret_brackets = len >= 2 && text[0] == '[' && text[len - 1] == ']';
	if (*ret_brackets) {
		text++;
		len -= 2;
	}
	if (len >= HOST_MAX)
		return false;
	memcpy(ret_host, text, len);
	ret_host[len] = '\0';
	*ret_port = (uint16_t)port;
	return true;
}

bool tcp_parse_loopback(const char *text, struct tcp_address *ret)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
	char host[HOST_MAX];
	uint16_t port;
	bool brackets;

	*ret = (struct tcp_address){0};
	if (!split(text, host, &brackets, &port))
		return false;
	if (!brackets && inet_pton(AF_INET, host, &v4.sin_addr) == 1 &&
		ntohl(v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET) {
		v4.sin_port = htons(port);
		memcpy(&ret->addr, &v4, sizeof(v4));
		ret->size = sizeof(v4);
	} else if (brackets && inet_pton(AF_INET6, host, &v6.sin6_addr) == 1 &&
		   IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr)) {
		v6.sin6_port = htons(port);
		memcpy(&ret->addr, &v6, sizeof(v6));
		ret->size = sizeof(v6);
	}
	return ret->size != 0;
}

int tcp_listen_loopback(const char *text, struct error *err)
{
	struct tcp_address address;
	const int on = 1;
	int r = 0;

	if (!tcp_parse_loopback(text, &address))
		return error_set(err, EINVAL, "%s: no loopback address (see vgpud(8))", text);
	cleanup_close int fd =
		socket(address.addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
		bind(fd, (struct sockaddr *)&address.addr, address.size) < 0 || listen(fd, 64) < 0)
		r = -errno;
	if (r < 0)
		return error_set(err, -r, "%s: %s (give [metrics] listen another address, or none)",
			text, strerror(-r));
	return TAKE_FD(fd);
}

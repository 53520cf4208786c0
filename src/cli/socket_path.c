/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SYSTEM_SOCKET "/run/vgpud/vgpud.sock"

void cli_socket_path(const char *given, char *ret, size_t size)
{
	const char *set = given ?: getenv("VGPUD_SOCKET"), *run = getenv("XDG_RUNTIME_DIR");

	if (set && *set) {
		snprintf(ret, size, "%s", set);
		return;
	}
	/* The system's vgpud first; this user's own where there is none. */
	if (run && access(SYSTEM_SOCKET, F_OK) < 0) {
		snprintf(ret, size, "%s/vgpud/vgpud.sock", run);
		if (access(ret, F_OK) == 0)
			return;
	}
	snprintf(ret, size, SYSTEM_SOCKET);
}

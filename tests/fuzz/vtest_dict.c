/* SPDX-License-Identifier: Apache-2.0 */

/* Prints the fuzzer's dictionary for vtest: each command's header with its shortest length. */

#include "protocol/vtest.h"

#include <stdio.h>
#include <string.h>

static void word(const char *name, uint32_t len, uint32_t id)
{
	unsigned char bytes[8];

	memcpy(bytes, &len, 4);
	memcpy(bytes + 4, &id, 4);
	printf("%s=\"", name);
	for (unsigned i = 0; i < 8; i++)
		printf("\\x%02x", bytes[i]);
	puts("\"");
}

int main(void)
{
#define X(id, name, min, max, payload, context, fds, since, handler) word(#name, min, id);
	VTEST_COMMANDS(X)
#undef X
	return 0;
}

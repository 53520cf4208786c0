/* SPDX-License-Identifier: Apache-2.0 */
#include "process/channel.h"

#include "protocol/keeper_table.h"

#include <stdio.h>

int channel_send(int fd, enum keeper_device_message type, const void *payload, int passed_fd)
{
	return packet_send(fd, &keeper_device_table, type, payload, passed_fd);
}

int channel_send_text(int fd, enum keeper_device_message type, const char *text)
{
	struct keeper_text message = {{0}};

	snprintf(message.text, sizeof(message.text), "%s", text);
	return channel_send(fd, type, &message, -1);
}

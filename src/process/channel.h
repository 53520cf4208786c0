/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_CHANNEL_H
#define VGPU_PROCESS_CHANNEL_H

/*
 * The device process' end of the keeper's device channel (protocol/keeper.h). The keeper is small,
 * trusted and always reads; when the channel ends, so does this process: a device that no keeper
 * knows must not serve.
 */

#include "protocol/keeper.h"

/* `payload` is the message's struct; `passed_fd` (-1: none) stays the caller's. 0 or -errno. */
int channel_send(int fd, enum keeper_device_message type, const void *payload, int passed_fd);
int channel_send_text(int fd, enum keeper_device_message type, const char *text);

#endif

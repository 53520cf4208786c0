/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A keeper that was started before there was a vGPU for it: it has vgpud's socket pair and a device
 * process, and nothing else. ASSIGN makes it the keeper of one vGPU, as if it had been started for
 * it: the lock of the folder comes with the message, the log that it has written so far goes to the
 * folder, the sockets are made, and the device process is told whose it is. One that has died
 * meanwhile is started anew, with the right command line.
 *
 * It belongs to the vgpud that started it and ends with that channel, so none is ever left over.
 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STANDBY_LOG_MAX 65536 /* bytes of its log that are kept */

bool standby_waits(const struct keeper *k)
{
	return !k->config->run_dir;
}

int standby_open(struct keeper *k)
{
	int r = k->config->control_fd < 0 ? -EINVAL : loop_create(&k->loop);

	if (r == 0)
		r = control_adopt_fd(k, k->config->control_fd);
	return r;
}

void standby_channel_closed(struct keeper *k)
{
	if (!standby_waits(k) || k->stopping)
		return;
	log_info("vgpud is gone, and nobody else can use a stand-by");
	k->stopping = true;
	device_quit(k);
}

/* --- ASSIGN --- */

static bool text_ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

static bool assign_valid(const struct standby_assign *a)
{
	return text_ends(a->run_dir, sizeof(a->run_dir)) && text_ends(a->name, sizeof(a->name)) &&
	       text_ends(a->uuid, sizeof(a->uuid)) &&
	       text_ends(a->cpu_group, sizeof(a->cpu_group)) &&
	       text_ends(a->shaders, sizeof(a->shaders)) && a->run_dir[0] && a->name[0] &&
	       a->uuid[0];
}

/* What was written so far goes first; from now on everything goes there. */
static int assign_log(struct keeper *k)
{
	cleanup_close int fd = openat(k->dir_fd, "keeper.log",
		O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	cleanup_free char *text = malloc(STANDBY_LOG_MAX);

	if (fd < 0)
		return -errno;
	ssize_t n = text ? pread(STDERR_FILENO, text, STANDBY_LOG_MAX, 0) : 0;
	if (n > 0 && write(fd, text, (size_t)n) < n)
		log_warning("what the stand-by said so far is not in its log");
	return dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
}

static void assign_identity(struct keeper *k, const struct standby_assign *a, int lock_fd)
{
	k->assigned = *a;
	k->own_config = *k->config;
	k->own_config.run_dir = k->assigned.run_dir;
	k->own_config.name = k->assigned.name;
	k->own_config.uuid = k->assigned.uuid;
	k->own_config.group = (gid_t)a->group;
	k->own_config.cpu_group = a->cpu_group[0] ? k->assigned.cpu_group : NULL;
	k->own_config.shaders_dir = a->shaders[0] ? k->assigned.shaders : NULL;
	k->own_config.shaders_bytes = a->shaders_mib << 20;
	k->own_config.shaders_by_user = a->shaders_by_user != 0;
	k->own_config.lock_fd = lock_fd;
	k->config = &k->own_config;
}

/* It is told; or, where there is none to be told, started. */
static int assign_device(struct keeper *k)
{
	if (!k->current->pid)
		return device_start(k);
	return device_send(k->current, KEEPER_DEVICE_CONFIGURE, &k->assigned.device, -1);
}

int standby_assign(struct keeper *k, const struct standby_assign *assign, int lock_fd)
{
	struct device_args args;
	cleanup_close int lock = lock_fd;

	if (!standby_waits(k) || !assign_valid(assign))
		return -EINVAL;
	int r = device_args_read(assign->device.n, assign->device.text, &args);
	if (r < 0)
		return r;
	k->args = args;
	assign_identity(k, assign, TAKE_FD(lock));
	r = keeper_open_dir(k);
	if (r == 0)
		r = assign_log(k);
	if (r == 0)
		r = control_listen(k);
	if (r == 0)
		r = peers_listen(k);
	keeper_join_group(k);
	if (r == 0)
		r = assign_device(k);
	if (r == 0)
		log_info("this stand-by is %s from now on", k->config->name);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include "base/cleanup.h"
#include "process/channel.h"
#include "protocol/keeper_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void life_begin(struct life *life)
{
	int ends[2];

	*life = (struct life){.ops = fake_renderer};
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	life->keeper = ends[0];
	life->channel = ends[1];
	const struct device_config config = {.name = "test",
		.vram_bytes = 64 << 20,
		.heads = 1,
		.max_width = 64,
		.max_height = 64,
		.renderer_ops = &life->ops,
		.stats = &life->stats};
	static const struct device_events events;
	assert_int_equal(device_create(&config, &events, NULL, &life->dev), 0);
	assert_int_equal(loop_create(&life->loop), 0);
	const struct succession_config own = {.device = life->dev,
		.loop = life->loop,
		.stats = &life->stats,
		.channel_fd = life->channel,
		.enabled = true};
	assert_int_equal(succession_create(&own, &life->s), 0);
	assert_int_equal(connections_create(
				 life->dev, life->loop, life->channel, life->s, &life->connections),
		0);
	succession_set_connections(life->s, life->connections);
}

static void life_end(struct life *life)
{
	connections_destroy(life->connections);
	succession_destroy(life->s);
	loop_destroy(life->loop);
	device_destroy(life->dev);
	close(life->keeper);
	close(life->channel);
}

int life_setup(void **state)
{
	static struct life life;
	life_begin(&life);
	*state = &life;
	return 0;
}

int life_teardown(void **state)
{
	life_end(*state);
	return 0;
}

bool life_told(struct life *life, uint32_t type, struct packet *ret)
{
	while (packet_recv(life->keeper, &keeper_device_table, KEEPER_FROM_DEVICE, ret) == 1) {
		const struct keeper_custody *what = (const struct keeper_custody *)ret->payload;
		close_fd(&ret->fd);
		life->released +=
			ret->type == KEEPER_DEVICE_RELEASE && what->kind == KEEPER_CUSTODY_PRECOPY;
		if (ret->type == type)
			return true;
	}
	return false;
}

void life_say(struct life *life, uint32_t type, const void *payload, size_t size, int fd)
{
	struct packet packet = {.type = type, .fd = fd};

	memcpy(packet.payload, payload, size);
	assert_true(succession_message(life->s, &packet));
}

void life_keep(struct life *life)
{
	const struct keeper_connection info = {.id = 1, .kind = KEEPER_CONNECTION_VTEST};

	assert_int_equal(succession_connected(life->s, &info), 0);
	assert_non_null(life->s->journal);
}

void life_put(struct life *life, size_t bytes)
{
	const struct frontend_keep *keep = succession_keep(life->s);
	void *memory = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const struct iovec iov = {memory, bytes};

	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_non_null(journal_payload(keep->journal(keep->data), &iov, 1, 0, bytes));
	munmap(memory, bytes);
}

void life_upload(struct life *life, size_t bytes)
{
	const struct frontend_keep *keep = succession_keep(life->s);

	life_put(life, bytes);
	keep->image_due(keep->data);
	succession_idle(life->s);
}

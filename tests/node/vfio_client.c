/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfio_client ADDRESS VERB...: uses a function as a VMM does for its VM, by VFIO's own calls
 * (Documentation/driver-api/vfio.rst), none of them through our code. Verbs, in the order given:
 *
 *   write TEXT   fills its largest memory window with it
 *   find TEXT    counts where it begins in that window
 *   hold SECONDS says "holding" and waits; ends early when the kernel wants the function back
 *
 * Then one line of JSON: each call's errno by name (0: it worked), what was found, what came by
 * the eventfds of errors and requests.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define DMA_ADDRESS 0x100000u
#define DMA_BYTES   4096u
#define BARS        6u

static const struct {
	uint32_t index;
	const char *name;
} irqs[] = {{VFIO_PCI_ERR_IRQ_INDEX, "err"}, {VFIO_PCI_REQ_IRQ_INDEX, "req"}};

#define IRQS (sizeof(irqs) / sizeof(irqs[0]))

struct client {
	int container, group, device;
	int events[IRQS];
	struct vfio_region_info bar; /* the largest; size 0: none */
	uint8_t *map;                /* of it */
	char said[2048];             /* fields of the answer */
};

static void say(struct client *c, const char *name, long value)
{
	size_t len = strlen(c->said);

	snprintf(c->said + len, sizeof(c->said) - len, "%s\"%s\": %ld", len ? ", " : "", name,
		value);
}

/* Notes how a call went; true: well. */
static bool went(struct client *c, const char *name, int r)
{
	say(c, name, r < 0 ? errno : 0);
	return r >= 0;
}

/* --- opening it --- */

static int open_group(const char *address)
{
	char path[128], target[PATH_MAX];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(path, sizeof(path), "/dev/vfio/%.20s", slash ? slash + 1 : target);
	return open(path, O_RDWR | O_CLOEXEC);
}

static bool map_dma(struct client *c)
{
	void *page =
		mmap(NULL, DMA_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vfio_iommu_type1_dma_map map = {.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)page,
		.iova = DMA_ADDRESS,
		.size = DMA_BYTES};

	return page != MAP_FAILED &&
	       went(c, "map_dma", ioctl(c->container, VFIO_IOMMU_MAP_DMA, &map));
}

/* Armed as soon as the device is there: QEMU does so, too. A device may lack either. */
static void arm(struct client *c)
{
	char room[sizeof(struct vfio_irq_set) + sizeof(int32_t)] __attribute__((aligned(8)));
	struct vfio_irq_set *set = (struct vfio_irq_set *)room;
	char name[16];

	for (unsigned i = 0; i < IRQS; i++) {
		c->events[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		*set = (struct vfio_irq_set){.argsz = sizeof(room),
			.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
			.index = irqs[i].index,
			.count = 1};
		memcpy(set->data, &c->events[i], sizeof(int32_t));
		snprintf(name, sizeof(name), "arm_%s", irqs[i].name);
		went(c, name, ioctl(c->device, VFIO_DEVICE_SET_IRQS, set));
	}
}

static bool open_device(struct client *c, const char *address)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};

	c->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (!went(c, "container", c->container))
		return false;
	c->group = open_group(address);
	if (!went(c, "group", c->group) ||
		!went(c, "status", ioctl(c->group, VFIO_GROUP_GET_STATUS, &status)))
		return false;
	say(c, "viable", (status.flags & VFIO_GROUP_FLAGS_VIABLE) != 0);
	if (!went(c, "set_container", ioctl(c->group, VFIO_GROUP_SET_CONTAINER, &c->container)) ||
		!went(c, "set_iommu", ioctl(c->container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU)) ||
		!map_dma(c))
		return false;
	c->device = ioctl(c->group, VFIO_GROUP_GET_DEVICE_FD, address);
	if (!went(c, "device", c->device))
		return false;
	arm(c);
	return true;
}

/* --- its memory --- */

/* The guest's firmware does this: addresses are decoded only then. */
static bool decode(struct client *c)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX};
	uint16_t command;

	if (!went(c, "config", ioctl(c->device, VFIO_DEVICE_GET_REGION_INFO, &config)))
		return false;
	off_t at = (off_t)config.offset + PCI_COMMAND;
	if (pread(c->device, &command, sizeof(command), at) != sizeof(command))
		return went(c, "command", -1);
	command |= PCI_COMMAND_MEMORY;
	return went(c, "command", (int)pwrite(c->device, &command, sizeof(command), at));
}

static bool map_bar(struct client *c)
{
	for (uint32_t i = 0; i < BARS; i++) {
		struct vfio_region_info bar = {
			.argsz = sizeof(bar), .index = VFIO_PCI_BAR0_REGION_INDEX + i};
		if (ioctl(c->device, VFIO_DEVICE_GET_REGION_INFO, &bar) == 0 &&
			(bar.flags & VFIO_REGION_INFO_FLAG_MMAP) && bar.size > c->bar.size)
			c->bar = bar;
	}
	say(c, "bar", c->bar.size ? (long)c->bar.index : -1);
	say(c, "bar_bytes", (long)c->bar.size);
	if (!c->bar.size || !decode(c))
		return false;
	c->map = mmap(NULL, c->bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, c->device,
		(off_t)c->bar.offset);
	return went(c, "map_bar", c->map == MAP_FAILED ? -1 : 0);
}

static void fill(struct client *c, const char *text)
{
	size_t len = strlen(text);

	for (uint64_t at = 0; at + len <= c->bar.size; at += len)
		memcpy(c->map + at, text, len);
	say(c, "written", (long)c->bar.size);
}

static void find(struct client *c, const char *text)
{
	const uint8_t *at = c->map, *end = c->map + c->bar.size;
	long found = 0;

	while ((at = memmem(at, (size_t)(end - at), text, strlen(text)))) {
		found++;
		at++;
	}
	say(c, "found", found);
}

/* --- what the kernel says meanwhile --- */

static void hold(struct client *c, int seconds)
{
	int left_ms = seconds * 1000, came[IRQS] = {0};
	bool wanted_back = false;
	uint64_t number;

	printf("holding\n");
	fflush(stdout);
	while (left_ms > 0 && !wanted_back) {
		struct pollfd fds[IRQS];
		for (unsigned i = 0; i < IRQS; i++)
			fds[i] = (struct pollfd){.fd = c->events[i], .events = POLLIN};
		int n = poll(fds, IRQS, 100);
		for (unsigned i = 0; n > 0 && i < IRQS; i++) {
			if (read(c->events[i], &number, sizeof(number)) != sizeof(number))
				continue;
			came[i]++;
			wanted_back |= irqs[i].index == VFIO_PCI_REQ_IRQ_INDEX;
		}
		left_ms -= 100;
	}
	for (unsigned i = 0; i < IRQS; i++)
		say(c, irqs[i].name, came[i]);
}

int main(int argc, char **argv)
{
	struct client c = {.container = -1, .group = -1, .device = -1};

	if (argc < 2)
		return 2;
	bool open = open_device(&c, argv[1]);
	for (int i = 2; open && i + 1 < argc; i += 2) {
		const char *verb = argv[i], *text = argv[i + 1];
		if (!strcmp(verb, "hold"))
			hold(&c, atoi(text));
		else if (*text && (c.map || map_bar(&c)) && c.map != MAP_FAILED)
			(!strcmp(verb, "write") ? fill : find)(&c, text);
	}
	printf("{%s}\n", c.said);
	return 0;
}

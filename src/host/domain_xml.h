/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DOMAIN_XML_H
#define VGPU_HOST_DOMAIN_XML_H

/*
 * What a libvirt domain's definition says about memory and about its GPUs. Read only; nothing here
 * speaks to libvirt.
 *
 * The text may come from anybody. It is at most DOMAIN_XML_MAX bytes of UTF-8, has no document type
 * (so no entities but XML's own), and nothing it names is opened or looked up. Lists have a largest
 * length; a definition with more is refused, not cut. Whatever this does not know is passed over.
 *
 * Sizes are libvirt's scaled integers: KiB without a unit; b, byte, bytes; one of k m g t p e alone
 * or with "iB" (1024), or with "B" (1000), in upper or lower case. Like libvirt's, rounded up to
 * whole KiB.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DOMAIN_XML_MAX      (512u << 10) /* bytes of text */
#define DOMAIN_NAME_MAX     256
#define DOMAIN_VIDEOS_MAX   16
#define DOMAIN_HOSTDEVS_MAX 64

enum domain_memory_source {
	DOMAIN_MEMORY_UNSAID, /* libvirt's default: anonymous */
	DOMAIN_MEMORY_ANONYMOUS,
	DOMAIN_MEMORY_FILE,
	DOMAIN_MEMORY_MEMFD,
};

struct domain_video {
	char model[32];  /* <model type>: virtio, vga, none, ... ; "": unsaid */
	char driver[32]; /* <driver name>: vhostuser: its device is a vGPU's; "": QEMU's own */
	uint32_t heads;  /* 0: unsaid */
	bool primary;
};

enum domain_hostdev_kind { DOMAIN_HOSTDEV_OTHER, DOMAIN_HOSTDEV_PCI, DOMAIN_HOSTDEV_MDEV };

struct domain_hostdev {
	enum domain_hostdev_kind kind;
	bool managed;
	bool display;     /* <hostdev display='on'> */
	char model[32];   /* of an mdev: vfio-pci, ... */
	char address[40]; /* PCI: "0000:03:00.0"; mdev: its UUID in lower case; "": unsaid */
};

struct domain_xml {
	char name[DOMAIN_NAME_MAX]; /* control characters are '?' */
	char uuid[40];              /* "": unsaid */
	char type[16];              /* <domain type>: kvm, qemu, ... */
	uint64_t memory_bytes;      /* what the guest has at most, without what may be plugged in */
	uint64_t current_bytes;     /* what its balloon leaves it; memory_bytes if unsaid */
	uint64_t max_bytes;         /* with all that may be plugged in; memory_bytes if unsaid */
	/* <memoryBacking> */
	bool locked, hugepages, nosharepages;
	bool shared;    /* <access mode='shared'/>, or every NUMA cell is memAccess='shared' */
	bool immediate; /* <allocation mode='immediate'/> */
	enum domain_memory_source source;
	bool balloon;   /* not <memballoon model='none'/> */
	bool reporting; /* <memballoon freePageReporting='on'/> */
	struct domain_video videos[DOMAIN_VIDEOS_MAX];
	unsigned n_videos;
	struct domain_hostdev hostdevs[DOMAIN_HOSTDEVS_MAX];
	unsigned n_hostdevs;
};

/*
 * Reads a definition; `text` need not end in NUL. 0; -E2BIG: it is too long or has too many
 * devices; -EINVAL: it is no definition of a domain; -ENOMEM. Then *ret_why (constant) says what is
 * wrong with it, and *ret is not changed.
 */
int domain_xml_parse(const char *text, size_t size, struct domain_xml *ret, const char **ret_why);

/* Bytes of `number` `unit` ("" or NULL: KiB). False: no such unit, no number, or too much. */
bool domain_xml_size(const char *number, const char *unit, uint64_t *ret);

/* Has it a vGPU over vhost-user? */
bool domain_xml_has_vhost_user_gpu(const struct domain_xml *domain);
/* The first hostdev of that kind, or NULL. */
const struct domain_hostdev *domain_xml_hostdev(
	const struct domain_xml *domain, enum domain_hostdev_kind kind);

#endif

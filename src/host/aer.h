/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_AER_H
#define VGPU_HOST_AER_H

/*
 * Errors of PCI Express, as far as they can be seen from outside. While a VM has a function, its
 * VFIO descriptors are the VMM's, and so are the events that come by them; vgpud may not have the
 * function open. What is left is what the kernel tells everybody: counters of Advanced Error
 * Reporting in sysfs (Documentation/ABI/testing/sysfs-bus-pci-devices-aer_stats), and a uevent of
 * the function at each stage of an error's recovery (pci_uevent_ers()).
 */

#include "host/pci.h"

#define AER_KINDS_MAX 40 /* names in one file; the specification has 32 bits */
#define AER_NAME_MAX  32
#define AER_TEXT_MAX  200

/*
 * AER_LINK: fatal ones that the root port right above it was told of. After those the kernel does
 * not ask the function what they were, so nothing else counts them.
 */
enum aer_severity { AER_FATAL, AER_NONFATAL, AER_CORRECTABLE, AER_LINK, AER_SEVERITY_COUNT };

struct aer_kind {
	char name[AER_NAME_MAX]; /* "MalfTLP": the kernel's word */
	uint64_t count;
};

struct aer_counters {
	struct {
		struct aer_kind kinds[AER_KINDS_MAX];
		size_t n;
		uint64_t total; /* of all kinds */
	} of[AER_SEVERITY_COUNT];
	bool present; /* the function counts errors and this kernel shows it */
};

/* What has become of an error. */
enum aer_stage { AER_NO_STAGE, AER_BEGINS, AER_RECOVERED, AER_LOST, AER_STAGE_COUNT };

/* All that it says of `address`; all zeroes when it counts nothing. */
void aer_read(const struct host_roots *roots, const char *address, struct aer_counters *ret);

/*
 * What came between two readings: "1 fatal error (MalfTLP)", "2 non-fatal errors (...), ...".
 * Returns false and "" when nothing did. Counters that went down began anew.
 */
bool aer_difference(const struct aer_counters *before, const struct aer_counters *after, char *ret,
	size_t size);

/* Adds the lines of one file, "NAME COUNT" each; of AER_LINK "COUNT". Exported for the fuzzer. */
void aer_parse(const char *text, enum aer_severity severity, struct aer_counters *ret);

/* Of a uevent's property, by name (NULL: it has none). AER_NO_STAGE: it is about something else. */
enum aer_stage aer_stage_of(const char *(*property)(void *data, const char *name), void *data);
/* "PCIe error: recovery begins", ..., and what to do, where something can be done. */
const char *aer_stage_text(enum aer_stage stage);
const char *aer_stage_remedy(enum aer_stage stage); /* NULL: nothing */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_SAVING_H
#define VGPU_DEVICE_SAVING_H

/*
 * A device's state, out of one process and into the next: docs/decisions/0009 is the theory.
 */

#include "device/device.h"

/* Unique over the life of the vGPU, also over device processes. Never 0. */
uint32_t device_client_id(const struct device_client *client);
/* The client of a state that was loaded, once; NULL: there is none, or it was claimed before. */
struct device_client *device_client_claim(struct device *dev, uint32_t id);
/* Those that nobody claimed are nobody's: they end, and take up no quota. */
void device_drop_unclaimed(struct device *dev);

/*
 * What saving would not do exactly now, or why it cannot be done: `found` is called for each, at
 * most 32 times and once more for a refusal, with a text for people that names the client and the
 * object. Blocks until the work so far is complete.
 */
void device_check(
	struct device *dev, void (*found)(void *data, bool refused, const char *text), void *data);

/*
 * Writes SOURCE … STREAMOUT and LOSSY. All work is completed first; the device goes on unharmed
 * afterwards. `precopied`: the contents of what was not written to since the last round of
 * device_precopy() are left out. -EBUSY when it cannot be saved at all (device_check says why).
 */
int device_save(struct device *dev, struct state_writer *w, bool precopied, bool *ret_lossy);

/*
 * One round of copying contents ahead, while clients are served: RESOURCE and CONTENT sections of
 * what was written since the round before (all, in the first one), for at most `budget_ns` a call;
 * 1: not finished, call again; 0: the round is complete and `*ret_left` says how many bytes have
 * been written again meanwhile. device_precopy_forget() starts over.
 */
int device_precopy(
	struct device *dev, struct state_writer *w, uint64_t budget_ns, uint64_t *ret_left);
void device_precopy_forget(struct device *dev);

/*
 * Loading, into a device whose clients, if any, own nothing. Sections are given in the order they
 * were written, those of precopied rounds first; device_load_end() fails unless everything fits
 * together, the renderer covers the capsets the guest was promised, and the host's driver reported
 * no error. Afterwards the clients wait to be claimed, without backing: whoever claims one attaches
 * backing with device_resource_reattach(), in the way the state of the front end says. On failure
 * (-errno and why) the device is empty again. The loader is gone after device_load_end().
 */
int device_load_begin(struct device *dev, struct device_loader **ret);
int device_load_section(struct device_loader *loader, const struct state_section *section,
	struct state_reader *reader);
int device_load_end(struct device_loader *loader, char *why, size_t size);
/* What went wrong so far, for people; "": nothing. Valid as long as the loader. */
const char *device_load_why(const struct device_loader *loader);
/* Instead of device_load_end(): the device is empty again. NULL-safe. */
void device_load_abort(struct device_loader *loader);

/* Like attach_backing, for memory that the resource had before: no byte of it is changed. */
int device_resource_reattach(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n);

/*
 * The journal that payloads go to and come from; NULL: none. What a client's memory holds is read
 * once, into the journal, and used from there. While replaying, payloads come out of it instead,
 * backing is private memory that nobody sees, and what would be written to the client's memory is
 * not (`executed`) or is (the record at hand was not marked executed), see device_replay_record().
 */
void device_set_journal(struct device *dev, struct journal *journal);
void device_replay_begin(struct device *dev);
/* Before each record. Waits for the driver where that one or the one before is careful. */
void device_replay_record(struct device *dev, const struct journal_record *record);
/*
 * After the last record: backings that were given meanwhile become real (their memory is not
 * changed), and results of queries that may not have been delivered are. -EIO: the driver reported
 * an error on the way.
 */
int device_replay_end(struct device *dev);
bool device_replaying(const struct device *dev);
/* A payload is missing in the journal: only a new image makes it possible to recover again. */
bool device_journal_incomplete(const struct device *dev);

#endif

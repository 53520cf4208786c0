/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_SLICE_PAGES_H
#define VGPU_PROTOCOL_SLICE_PAGES_H

/*
 * Time slices of a GPU, told without messages: two pages of shared memory for each vGPU, made by
 * vgpud, and an eventfd.
 *
 *   page    written by vgpud alone and sealed against everybody else. The vGPU may give the driver
 *           work before until_ns; SLICE_OPEN: at any time, and nothing is asked or told. `word` is
 *           a futex: it changes whenever the page does.
 *   claim   written by the device process, which is not trusted: every value is read once, and
 *           says what it wants, never what it is given. `returned` is the until_ns of the slice
 *           that it is done with, all its work complete.
 *           `inside` is the slice in which it gave work last, stored before that: who finds another
 *           until_ns in the page after that store is not inside, because what nobody is inside of
 *           vgpud may take back at any moment.
 *           `returned` is not 0 once the device process has taken its pages up, for no until_ns is.
 *   wake    the device process writes to it after each change of the claim.
 *
 * A slice has no other name than its until_ns, which is different for each slice of a vGPU. One
 * that was given for longer has a new until_ns, so whoever returns it looks once more afterwards.
 *
 * While anybody wants the GPU or has it, vgpud moves alive_ns on every SLICE_BEAT_NS. Who waits and
 * has not seen it move for SLICE_SILENT_NS takes vgpud for gone and goes on as if the page were
 * open, until alive_ns moves again: no guest stands still for vgpud. It need not wait for so long
 * when the keeper, whose channel to vgpud has ended, says in `orphaned_at` of the claim which
 * alive_ns the last one is: that one is taken for vgpud's end at once. The keeper wakes `word`
 * then, but may not change it, so who waits looks at the claim every SLICE_LOOK_NS as well. 0 says
 * nothing; vgpud never reads it, and a device process that writes it deceives itself only.
 *
 * All times are CLOCK_MONOTONIC, ns. 64-bit values are read and written whole.
 */

#include <stdint.h>

#define SLICE_PAGE_SIZE 4096u       /* bytes of each memfd */
#define SLICE_MAGIC     0x53535056u /* "VPSS" */
#define SLICE_VERSION   1u
#define SLICE_OPEN      UINT64_MAX
#define SLICE_BEAT_NS   5000000u
#define SLICE_SILENT_NS 25000000u
#define SLICE_LOOK_NS   10000000u

struct slice_page {
	uint32_t magic, version;
	uint32_t word;
	uint32_t idle_ns; /* who has given the driver nothing for so long returns its slice */
	uint64_t until_ns;
	uint64_t alive_ns;
};

struct slice_claim {
	uint32_t wants; /* 0 or not */
	uint32_t pad;
	uint64_t inside;
	uint64_t returned;
	uint64_t orphaned_at; /* written by the keeper */
};

#define SLICE_LOAD(at)         __atomic_load_n(at, __ATOMIC_SEQ_CST)
#define SLICE_STORE(at, value) __atomic_store_n(at, value, __ATOMIC_SEQ_CST)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_ISOLATION_CODE_MEMORY_H
#define VGPU_ISOLATION_CODE_MEMORY_H

/*
 * Theory of operation
 *
 * Mesa's software driver generates the code that arranges vertices into 10 MiB of memory that it
 * wants writable and executable. Lock-down forbids that, and without it each attribute of each
 * vertex costs an indirect call and a memcpy(): a fifth of what the process computes where there
 * are many vertices. The driver writes and runs such code at different times, so it gets memory
 * that is one or the other:
 *
 *   mmap64() of this program stands in front of the C library's. It recognises the request and
 *   gives memory that is writable;
 *   a jump there faults, and makes it executable and no longer writable;
 *   a write there faults, and makes it writable and no longer executable, if the instruction
 *   belongs to the library that asked for the memory, which is the one that generates code.
 *
 * Any other fault ends the process as it would have: by SIGSEGV. So a stray write of compiled
 * shaders, of the C library or of the decoder still ends it, unless it comes between the driver's
 * own writing and running; docs/decisions/0006-lockdown.md says what that is worth.
 *
 * One memory for a process; a second request fails as all did. Threads that write and run at the
 * same time get there, slowly. x86-64 only, as the generator is; not under sanitizers, whose
 * mmap64() it would take away.
 */

/*
 * From here on the request is answered. Before the driver is loaded, and before lock-down: no
 * handler can be set after it. 0 or -errno.
 */
int code_memory_offer(void);

#endif

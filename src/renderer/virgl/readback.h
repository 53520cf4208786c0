/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_READBACK_H
#define VGPU_RENDERER_VIRGL_READBACK_H

/*
 * What a guest reads back is what is there, or zeros. The library reads through memory of its own,
 * as it comes from malloc(), and hands all of it on: also where GL refused to read (several
 * samples, resources that GL would not make), read one layer of several, or fewer bytes a texel.
 * What showed then was the heap: other programs' pictures and the addresses of this process. So
 * that memory is cleared before each read. Where the library reads straight into the guest's
 * memory, it stays as it is. Process-wide, as the pointers are that are stood behind.
 *
 * Drivers without the GL_ARB_robustness or GL_KHR_robustness functions are not covered: the
 * functions used then do not tell how much memory there is.
 */

/* Once GL is there. */
void readback_install(void);

#endif

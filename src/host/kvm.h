/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_KVM_H
#define VGPU_HOST_KVM_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Does KVM really work? On some cloud machines /dev/kvm is there and fails later, so a virtual CPU
 * executes one instruction. False with the reason in `ret_why`.
 */
bool host_kvm_works(char *ret_why, size_t size);

#endif

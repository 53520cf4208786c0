/* SPDX-License-Identifier: Apache-2.0 */
#include "host/kvm.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__
#include <linux/kvm.h>

#define RUN_SECONDS 2
#define GUEST_AT    0x1000u
#define GUEST_SIZE  0x1000u

/* Real mode at GUEST_AT, one HLT. Returns NULL or what failed (errno says why). */
static const char *run_hlt(int vm, int vcpu, size_t run_size)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs = {.rip = GUEST_AT, .rflags = 2};
	unsigned char *memory =
		mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_run *run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);

	if (memory == MAP_FAILED || run == MAP_FAILED)
		return "mmap";
	memory[0] = 0xf4; /* HLT */
	struct kvm_userspace_memory_region region = {.guest_phys_addr = GUEST_AT,
		.memory_size = GUEST_SIZE,
		.userspace_addr = (uintptr_t)memory};
	if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return "KVM_SET_USER_MEMORY_REGION";
	if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
		return "KVM_GET_SREGS";
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0 || ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return "KVM_SET_REGS";
	if (ioctl(vcpu, KVM_RUN, 0) < 0)
		return "KVM_RUN";
	errno = EIO;
	return run->exit_reason == KVM_EXIT_HLT ? NULL : "the virtual CPU";
}

static const char *try_kvm(void)
{
	cleanup_close int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm < 0)
		return "/dev/kvm";
	if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return "KVM_GET_API_VERSION";
	cleanup_close int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return "KVM_CREATE_VM";
	cleanup_close int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return "KVM_CREATE_VCPU";
	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size <= 0)
		return "KVM_GET_VCPU_MMAP_SIZE";
	return run_hlt(vm, vcpu, (size_t)size);
}

bool host_kvm_works(char *ret_why, size_t size)
{
	int pipes[2], status = 0;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return false;
	/* In a child, so that a KVM_RUN that never returns ends with it. */
	pid_t pid = fork();
	if (pid == 0) {
		char text[128];
		alarm(RUN_SECONDS);
		const char *failed = try_kvm();
		int n = failed ? snprintf(text, sizeof(text), "%s: %s", failed, strerror(errno))
			       : 0;
		if (n > 0 && write(pipes[1], text, (size_t)n) != n)
			_exit(2);
		_exit(failed != NULL);
	}
	close(pipes[1]);
	cleanup_close int fd = pipes[0];
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return false;
	ssize_t n = read(fd, ret_why, size - 1);
	ret_why[n > 0 ? n : 0] = '\0';
	if (WIFSIGNALED(status))
		snprintf(ret_why, size, "the virtual CPU never stopped");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

#else

bool host_kvm_works(char *ret_why, size_t size)
{
	snprintf(ret_why, size, "not tried on this architecture");
	return false;
}

#endif

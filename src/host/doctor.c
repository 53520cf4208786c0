/* SPDX-License-Identifier: Apache-2.0 */
#include "host/doctor.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "host/inventory.h"
#include "host/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define LEAST_MEMORY_MIB  2048u
#define QEMU_TCG_SINCE    8 /* before, QEMU refuses vhost-user-gpu without KVM */
#define DOCTOR_GROUP      "vgpu"
#define DOCTOR_GROUPS_MAX 1024
#define LIBVIRT_FILE      "/qemu/vhost-user/50-vgpud.json"

static void check(json_t *list, const char *name, const char *status, const char *advice,
	const char *format, ...) __attribute__((format(printf, 5, 6)));

static void check(json_t *list, const char *name, const char *status, const char *advice,
	const char *format, ...)
{
	char detail[512];
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	for (char *p = detail; *p; p++) {
		if (*p & 0x80 || (unsigned char)*p < 0x20)
			*p = ' ';
	}
	json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s?}", "check", name, "status",
					    status, "detail", detail, "advice", advice));
}

/*
 * Runs a program with its output (stdout; stderr is dropped) in `out`, at most DOCTOR_PROGRAM_MS.
 * Returns its exit status; -1 when it could not run, was killed or took too long.
 */
static int run_program(char *const *argv, char *out, size_t size)
{
	int pipes[2], status;
	size_t len = 0;

	out[0] = '\0';
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -1;
	pid_t parent = getpid();
	pid_t pid = fork();
	if (pid == 0) {
		/* It ends with its parent, whose patience may be shorter. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(127);
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		dup2(null, STDIN_FILENO);
		dup2(pipes[1], STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	close(pipes[1]);
	cleanup_close int fd = pipes[0];
	uint64_t end = clock_ms() + DOCTOR_PROGRAM_MS;
	while (pid > 0) {
		char rest[512];
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_ms();
		if (now >= end || poll(&poll_fd, 1, (int)(end - now)) <= 0)
			break;
		bool room = len + 1 < size;
		ssize_t n = read(fd, room ? out + len : rest, room ? size - len - 1 : sizeof(rest));
		if (n <= 0)
			break;
		if (room)
			len += (size_t)n;
	}
	out[len] = '\0';
	if (pid < 0)
		return -1;
	if (clock_ms() >= end)
		kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) == 127)
		return -1;
	return WEXITSTATUS(status);
}

static void check_soft_gpu(json_t *list, const char *device)
{
	static char probe[] = "--probe";
	char *argv[] = {(char *)(uintptr_t)device, probe, NULL};
	char out[2048];

	int r = run_program(argv, out, sizeof(out));
	out[strcspn(out, "\n")] = '\0';
	if (r == 0)
		check(list, "soft-gpu", "ok", NULL, "%s", out);
	else if (r < 0)
		check(list, "soft-gpu", "fail",
			"install vgpu-device beside vgpud, or set device= in [node]",
			"%s --probe does not run", device);
	else
		check(list, "soft-gpu", "fail",
			"install Mesa's EGL and software drivers (Debian: libegl-mesa0, "
			"libgl1-mesa-dri) "
			"and libvirglrenderer1",
			"the software GPU does not start: %s", out);
}

static void check_render_nodes(json_t *list, const struct host_roots *roots)
{
	static struct host_inventory inventory;
	const struct host_wanted wanted = {.roots = *roots};
	unsigned usable = 0, nodes = 0;

	host_inventory_read(&inventory, &wanted);
	for (size_t i = 0; i < inventory.count; i++) {
		const struct host_gpu *gpu = &inventory.gpus[i];
		if (!gpu->render_node[0])
			continue;
		nodes++;
		if (access(gpu->render_node, R_OK | W_OK) == 0)
			usable++;
		else
			check(list, "render-node", "warn",
				"let vgpud's user open it (Debian: group render)", "%s (%s): %s",
				gpu->render_node, gpu->driver, strerror(errno));
	}
	if (!nodes)
		check(list, "render-node", "ok", NULL, "none: software GPUs alone draw here");
	else if (usable)
		check(list, "render-node", "ok", NULL, "%u usable", usable);
}

static bool check_kvm(json_t *list)
{
	char why[128];

	if (host_kvm_works(why, sizeof(why))) {
		check(list, "kvm", "ok", NULL, "a virtual CPU ran");
		return true;
	}
	check(list, "kvm", "warn",
		"VMs run in emulation (TCG), slowly; on a VM host enable nested virtualization, "
		"and "
		"join group kvm",
		"%s", why);
	return false;
}

static void check_qemu(json_t *list, bool kvm)
{
	static char program[] = "qemu-system-x86_64", version[] = "--version", device[] = "-device",
		    help[] = "help", machine[] = "-machine", none[] = "none";
	char *version_argv[] = {program, version, NULL};
	char *help_argv[] = {program, machine, none, device, help, NULL};
	static char out[65536];
	uint64_t major = 0, minor = 0;

	int r = run_program(version_argv, out, sizeof(out));
	const char *at = strstr(out, "version ");
	at = at ? at + strlen("version ") : "";
	if (r != 0 || !parse_next(&at, 10, INT_MAX, &major) || *at++ != '.' ||
		!parse_next(&at, 10, INT_MAX, &minor)) {
		check(list, "qemu", "warn", "install it for VMs (Debian: qemu-system-x86)",
			"%s does not run", program);
		return;
	}
	bool has =
		run_program(help_argv, out, sizeof(out)) == 0 && strstr(out, "vhost-user-gpu-pci");
	if (!has)
		check(list, "qemu", "warn", "use a QEMU built with vhost-user-gpu",
			"QEMU %u.%u has no device vhost-user-gpu-pci", (unsigned)major,
			(unsigned)minor);
	else if (major < QEMU_TCG_SINCE && !kvm)
		check(list, "qemu", "warn", "use QEMU 8 or newer (Debian 12: bookworm-backports)",
			"QEMU %u.%u refuses vhost-user-gpu without KVM", (unsigned)major,
			(unsigned)minor);
	else
		check(list, "qemu", "ok", NULL, "QEMU %u.%u has vhost-user-gpu-pci",
			(unsigned)major, (unsigned)minor);
}

static void check_namespaces(json_t *list)
{
	int status = 0;

	pid_t pid = fork();
	if (pid == 0)
		_exit(unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0 ? errno : 0);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status))
		check(list, "namespaces", "warn",
			"allow them (sysctl user.max_user_namespaces, "
			"kernel.unprivileged_userns_clone, "
			"kernel.apparmor_restrict_unprivileged_userns)",
			"user namespaces are refused: %s", strerror(WEXITSTATUS(status)));
	else
		check(list, "namespaces", "ok", NULL, "user and mount namespaces work");
}

/* A libvirt of an ordinary user looks into that user's configuration as well. */
static bool user_has_libvirt_file(void)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char path[PATH_MAX];

	if (geteuid() == 0 || (!config && !home))
		return false;
	snprintf(path, sizeof(path), "%s%s" LIBVIRT_FILE, config ?: home, config ? "" : "/.config");
	return access(path, R_OK) == 0;
}

static void check_libvirt(json_t *list)
{
	static const char *const daemons[] = {"/usr/sbin/libvirtd", "/usr/sbin/virtqemud"};
	/* Where a libvirt of the distribution looks; /usr/local/share is not among them. */
	static const char *const files[] = {"/usr/share" LIBVIRT_FILE, "/etc" LIBVIRT_FILE};
	bool libvirt = false, helper = user_has_libvirt_file();

	for (size_t i = 0; i < ARRAY_SIZE(daemons); i++)
		libvirt |= access(daemons[i], X_OK) == 0;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		helper |= access(files[i], R_OK) == 0;
	if (!libvirt)
		check(list, "libvirt", "ok", NULL, "libvirt is not installed");
	else if (!helper)
		check(list, "libvirt", "warn",
			"link the installed 50-vgpud.json into /etc/qemu/vhost-user",
			"libvirt does not know of vgpud: 50-vgpud.json is not where it looks");
	else
		check(list, "libvirt", "ok", NULL, "50-vgpud.json is installed");
}

static void check_group(json_t *list)
{
	gid_t groups[DOCTOR_GROUPS_MAX];
	const struct group *group = getgrnam(DOCTOR_GROUP);
	int n = getgroups(DOCTOR_GROUPS_MAX, groups);
	bool member = group && getegid() == group->gr_gid;

	for (int i = 0; group && i < n; i++)
		member |= groups[i] == group->gr_gid;
	if (geteuid() == 0)
		check(list, "group", "ok", NULL, "root may always use vgpud");
	else if (member)
		check(list, "group", "ok", NULL, "this user is in group " DOCTOR_GROUP);
	else
		check(list, "group", "warn",
			"to use a vgpud of root: `adduser USER " DOCTOR_GROUP "` and log in again",
			group ? "this user is not in group " DOCTOR_GROUP
			      : "there is no group " DOCTOR_GROUP);
}

static void check_memory(json_t *list)
{
	static const char field[] = "MemAvailable:";
	uint64_t kib = 0;
	char line[128];
	struct rlimit lock;

	cleanup_fclose FILE *f = fopen("/proc/meminfo", "re");
	while (f && !kib && fgets(line, sizeof(line), f)) {
		const char *at = line + strlen(field);
		if (strncmp(line, field, strlen(field)) != 0 ||
			!parse_next(&at, 10, UINT64_MAX, &kib))
			kib = 0;
	}
	check(list, "memory", kib >> 10 >= LEAST_MEMORY_MIB ? "ok" : "warn",
		kib >> 10 >= LEAST_MEMORY_MIB ? NULL : "end something, or choose smaller types",
		"%llu MiB available", (unsigned long long)kib >> 10);
	if (getrlimit(RLIMIT_MEMLOCK, &lock) < 0)
		return;
	if (lock.rlim_cur == RLIM_INFINITY)
		check(list, "locked-memory", "ok", NULL, "no limit");
	else
		check(list, "locked-memory", "ok", NULL, "limit %llu MiB",
			(unsigned long long)lock.rlim_cur >> 20);
}

json_t *host_doctor(const char *device, const struct host_roots *roots)
{
	json_t *list = json_array();

	check_soft_gpu(list, device);
	check_render_nodes(list, roots);
	check_qemu(list, check_kvm(list));
	check_namespaces(list);
	check_libvirt(list);
	check_group(list);
	check_memory(list);
	return list;
}

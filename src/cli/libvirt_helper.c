/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What libvirt starts as the vhost-user back end of a domain's video device. It serves nothing: it
 * finds out which domain it was started for, hands the connection to vgpud, and stays until that
 * connection ends, so that libvirt sees a back end that lives as long as its work does.
 *
 * libvirt does not say which domain it is. It writes our pid into
 * STATE_DIR/ID-NAME-ALIAS-vhost-user-gpu.pid, NAME cut to 20 characters; that file is looked for.
 * Where `vgpuctl libvirt attach` wrote the device, ALIAS says which vGPU it is; else that is named
 * like the domain.
 */
#include "cli/cli.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "host/domain_alias.h"
#include "protocol/handover.h"

#include <assert.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PID_FILE_END  "-vhost-user-gpu.pid"
#define PID_FILE_MS   3000u /* libvirt may write it after we were started */
#define PID_FILE_STEP 20u
#define ANSWER_MS     40000
#define SHORT_NAME    20 /* libvirt's limit for names in file names */

struct helper {
	int fd;
	const char *socket_path;
	const char *domain;
	const char *vgpu;
	bool capabilities;
};

/* What a connection is for. */
struct served {
	char domain[HANDOVER_NAME_MAX];
	char vgpu[HANDOVER_VGPU_MAX]; /* "": named like the domain */
};

static_assert(HANDOVER_VGPU_MAX == DOMAIN_ALIAS_NAME_MAX, "names of vGPUs fit");

/* ID-NAME-ALIAS-vhost-user-gpu.pid → NAME; an alias that is not ours has no '-' in it. */
static bool served_from_file(const char *file, struct served *ret)
{
	const char *end = strstr(file, PID_FILE_END), *name = file;

	if (!end || strcmp(end, PID_FILE_END) != 0)
		return false;
	while (isdigit((unsigned char)*name))
		name++;
	if (name == file || *name++ != '-')
		return false;
	size_t len = (size_t)(end - name);
	ret->vgpu[0] = '\0';
	if (!domain_alias_in_file(name, len, ret->vgpu, &len)) {
		while (len && name[len - 1] != '-')
			len--;
		len -= len > 0;
	}
	snprintf(ret->domain, sizeof(ret->domain), "%.*s", (int)len, name);
	return len > 0;
}

static pid_t read_pid(const char *dir, const char *file)
{
	char path[PATH_MAX], text[32];
	uint64_t pid;

	snprintf(path, sizeof(path), "%.1024s/%.255s", dir, file);
	cleanup_fclose FILE *f = fopen(path, "re");
	return f && fgets(text, sizeof(text), f) && parse_number(text, 10, INT_MAX, &pid)
		       ? (pid_t)pid
		       : 0;
}

static bool search_dir(const char *dir, struct served *ret)
{
	const struct dirent *entry;
	bool found = false;
	DIR *d = opendir(dir);

	while (d && !found && (entry = readdir(d)))
		found = served_from_file(entry->d_name, ret) &&
			read_pid(dir, entry->d_name) == getpid();
	if (d)
		closedir(d);
	return found;
}

/* A name that was cut is completed from the one definition that begins so. */
static void complete_name(char *name, size_t size)
{
	static const char *const dirs[] = {"/etc/libvirt/qemu", "/run/libvirt/qemu"};
	char whole[NAME_MAX + 1] = "";
	unsigned matches = 0;
	const struct dirent *entry;

	if (strlen(name) < SHORT_NAME)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(dirs) && !matches; i++) {
		DIR *d = opendir(dirs[i]);
		while (d && (entry = readdir(d))) {
			const char *end = strrchr(entry->d_name, '.');
			if (!end || strcmp(end, ".xml") != 0 ||
				strncmp(entry->d_name, name, strlen(name)) != 0)
				continue;
			matches++;
			snprintf(whole, sizeof(whole), "%.*s", (int)(end - entry->d_name),
				entry->d_name);
		}
		if (d)
			closedir(d);
	}
	if (matches == 1)
		snprintf(name, size, "%s", whole);
}

static bool find_served(struct served *ret)
{
	const char *own = getenv("VGPU_LIBVIRT_STATE_DIR"), *run = getenv("XDG_RUNTIME_DIR");
	char user[PATH_MAX] = "";
	uint64_t end = clock_ms() + PID_FILE_MS;

	if (run)
		snprintf(user, sizeof(user), "%s/libvirt/qemu/run", run);
	const char *dirs[] = {own ?: "", "/run/libvirt/qemu", "/var/run/libvirt/qemu", user};
	for (;;) {
		for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
			if (*dirs[i] && search_dir(dirs[i], ret)) {
				complete_name(ret->domain, sizeof(ret->domain));
				return true;
			}
		}
		if (clock_ms() >= end)
			return false;
		nanosleep(&(struct timespec){.tv_nsec = PID_FILE_STEP * 1000000}, NULL);
	}
}

static int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int fail(const char *format, ...)
{
	va_list args;

	fputs("vgpu-libvirt-helper: ", stderr);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	return EXIT_FAILURE;
}

static bool unix_address(struct sockaddr_un *addr, const char *path)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	return (size_t)snprintf(addr->sun_path, sizeof(addr->sun_path), "%s", path) <
	       sizeof(addr->sun_path);
}

/* --socket-path: the monitor connects to us. */
static int accept_one(const char *path)
{
	struct sockaddr_un addr;

	cleanup_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (!unix_address(&addr, path) || fd < 0 ||
		bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return -1;
	int one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	unlink(path);
	return one;
}

/* vgpud's fd.sock is beside its API socket. */
static int connect_vgpud(char *ret_path, size_t size)
{
	struct sockaddr_un addr;
	char api[256];

	cli_socket_path(NULL, api, sizeof(api));
	char *slash = strrchr(api, '/');
	if (slash)
		slash[1] = '\0';
	snprintf(ret_path, size, "%sfd.sock", slash ? api : "");
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (!unix_address(&addr, ret_path) || fd < 0 ||
		connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -1;
	return TAKE_FD(fd);
}

static int offer(const struct helper *h, const struct served *served)
{
	const char *domain = served->domain;
	struct handover_offer offer = {.version = HANDOVER_VERSION};
	struct packet p;
	char path[300];

	cleanup_close int vgpud = connect_vgpud(path, sizeof(path));
	if (vgpud < 0)
		return fail(
			"domain %s: no vgpud answers at %s: %s (start vgpud; the user that runs "
			"QEMU must be in its group)",
			domain, path, strerror(errno));
	snprintf(offer.domain, sizeof(offer.domain), "%s", domain);
	snprintf(offer.vgpu, sizeof(offer.vgpu), "%s", served->vgpu);
	int r = packet_send(vgpud, &handover_table, HANDOVER_OFFER, &offer, h->fd);
	if (r == 0 && poll(&(struct pollfd){.fd = vgpud, .events = POLLIN}, 1, ANSWER_MS) <= 0)
		r = -ETIMEDOUT;
	if (r == 0)
		r = packet_recv(vgpud, &handover_table, HANDOVER_FROM_VGPUD, &p);
	if (r != 1)
		return fail("domain %s: vgpud does not answer: %s (see its log)", domain,
			strerror(r < 0 ? -r : ECONNRESET));
	struct handover_answer *answer = (void *)p.payload;
	packet_text(answer->text, sizeof(answer->text));
	if (answer->code)
		return fail("domain %s: %s", domain, answer->text);
	return EXIT_SUCCESS;
}

/* Until the monitor or the vGPU has closed the connection. */
static void stay(int fd)
{
	struct pollfd p = {.fd = fd};

	while (poll(&p, 1, -1) >= 0 || errno == EINTR) {
		if (p.revents & (POLLHUP | POLLERR | POLLNVAL))
			return;
	}
}

static int print_capabilities(void)
{
	/* render-node is left out: which GPU serves a domain is vgpud's to decide. */
	puts("{\"type\": \"gpu\", \"features\": [\"virgl\"]}");
	return EXIT_SUCCESS;
}

static bool parse_args(int argc, char **argv, struct helper *h)
{
	enum { FD = 256, CAPABILITIES, VIRGL, RENDER_NODE, DOMAIN, VGPU };
	static const struct option options[] = {
		{"fd", required_argument, NULL, FD},
		{"socket-path", required_argument, NULL, 's'},
		{"print-capabilities", no_argument, NULL, CAPABILITIES},
		{"virgl", no_argument, NULL, VIRGL},
		{"render-node", required_argument, NULL, RENDER_NODE},
		{"domain", required_argument, NULL, DOMAIN},
		{"vgpu", required_argument, NULL, VGPU},
		{0},
	};
	uint64_t fd;

	for (int c; (c = getopt_long(argc, argv, "f:s:c", options, NULL)) != -1;) {
		switch (c) {
		case 'f':
		case FD:
			if (!parse_number(optarg, 10, INT_MAX, &fd))
				return false;
			h->fd = (int)fd;
			break;
		case 's':
			h->socket_path = optarg;
			break;
		case 'c':
		case CAPABILITIES:
			h->capabilities = true;
			break;
		case DOMAIN:
			h->domain = optarg;
			break;
		case VGPU:
			if (strlen(optarg) >= HANDOVER_VGPU_MAX)
				return false;
			h->vgpu = optarg;
			break;
		case VIRGL: /* always */
		case RENDER_NODE:
			break;
		default:
			return false;
		}
	}
	return optind == argc && (h->capabilities || (h->fd >= 0) != (h->socket_path != NULL));
}

int main(int argc, char **argv)
{
	struct helper h = {.fd = -1};
	struct served served = {0};

	if (!parse_args(argc, argv, &h)) {
		fputs("usage: vgpu-libvirt-helper --print-capabilities | --fd=N | "
		      "--socket-path=PATH\n"
		      "       [--virgl] [--render-node=PATH] [--domain NAME [--vgpu NAME]]\n",
			stderr);
		return 2;
	}
	if (h.capabilities)
		return print_capabilities();
	if (h.domain)
		snprintf(served.domain, sizeof(served.domain), "%s", h.domain);
	else if (!find_served(&served))
		return fail(
			"no libvirt domain names process %d as its GPU (start it from libvirt, or "
			"give --domain)",
			(int)getpid());
	if (h.vgpu)
		snprintf(served.vgpu, sizeof(served.vgpu), "%s", h.vgpu);
	if (h.socket_path)
		h.fd = accept_one(h.socket_path);
	if (h.fd < 0)
		return fail("domain %s: there is no connection at %s: %s (choose a free path)",
			served.domain, h.socket_path ?: "--fd", strerror(errno));
	int r = offer(&h, &served);
	if (r == EXIT_SUCCESS)
		stay(h.fd);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void keeper_on_timer(void *data)
{
	struct keeper *k = data;
	uint64_t now = clock_ms();

	device_check_time(k, now);
	takeover_check_time(k, now);
	peers_check_time(k, now);
	watch_check_time(k, now);
	shaders_check_time(k, now);
	memory_check_time(k, now);
	memory_claim_check_time(k, now);
	keeper_set_timer(k);
}

void keeper_set_timer(struct keeper *k)
{
	uint64_t now = clock_ms();
	uint64_t next = MIN(device_next_time(k), peers_next_time(k));

	next = MIN(next, MIN(takeover_next_time(k), watch_next_time(k)));
	next = MIN(next, MIN(shaders_next_time(k), memory_next_time(k)));
	next = MIN(next, memory_claim_next_time(k));

	/* Nothing is due: who is idle is not woken. */
	loop_set_timer(k->loop, next > now ? next - now : 0,
		next == UINT64_MAX ? NULL : keeper_on_timer, k);
}

int keeper_listen(struct keeper *k, const char *name, int type, mode_t mode, gid_t group)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	int n = snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", k->config->run_dir, name);
	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	cleanup_close int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (unlinkat(k->dir_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	mode_t old = umask(0177);
	int r = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(old);
	if (r < 0)
		return r;
	/* The group first, so that nobody else's group ever has access. */
	if (group != (gid_t)-1 &&
		fchownat(k->dir_fd, name, (uid_t)-1, group, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (fchmodat(k->dir_fd, name, mode, 0) < 0 || listen(fd, 64) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static void keeper_on_signal(void *data, uint32_t events)
{
	struct keeper *k = data;
	struct signalfd_siginfo info;

	if (read(k->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
		return;
	k->stopping = true;
	device_quit(k);
}

static int keeper_watch_signals(struct keeper *k)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	k->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (k->signal_fd < 0)
		return -errno;
	return loop_add_fd(k->loop, k->signal_fd, EPOLLIN, keeper_on_signal, k, NULL);
}

int keeper_open_dir(struct keeper *k)
{
	k->dir_fd = open(k->config->run_dir, O_DIRECTORY | O_CLOEXEC);
	if (k->dir_fd < 0)
		return -errno;
	k->vms_dir = openat(k->dir_fd, "../../vms", O_DIRECTORY | O_CLOEXEC);
	if (k->vms_dir < 0)
		return -errno;
	k->custody.vms_dir = k->vms_dir;
	return 0;
}

static int keeper_open(struct keeper *k)
{
	int r = keeper_open_dir(k);
	if (r == 0)
		r = loop_create(&k->loop);
	if (r == 0)
		r = control_listen(k);
	if (r == 0)
		r = peers_listen(k);
	if (r == 0 && k->config->control_fd >= 0)
		r = control_adopt_fd(k, k->config->control_fd);
	return r;
}

/* Custody is tens of thousands of descriptors for a client with as many resources. */
static void keeper_raise_limits(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning("the limit on open files cannot be raised: %s", strerror(errno));
}

uint64_t keeper_private_bytes(void)
{
	uint64_t total, resident, shared;
	char text[128];

	cleanup_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return 0;
	text[n] = '\0';
	const char *at = text;
	if (!parse_next(&at, 10, UINT64_MAX, &total) ||
		!parse_next(&at, 10, UINT64_MAX, &resident) ||
		!parse_next(&at, 10, UINT64_MAX, &shared) || resident < shared)
		return 0;
	return (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* Where that fails vgpud hears of it: it says GROUP once more when it is there. */
void keeper_join_group(struct keeper *k)
{
	const char *procs = k->config->cpu_group;
	int r = procs ? group_join(k, procs) : 0;

	if (r < 0)
		log_warning("%s: %s", procs, strerror(-r));
}

static int keeper_run(const struct keeper_config *config)
{
	/* Static for its size, not for sharing: nothing else names it. */
	static struct keeper k;

	k = (struct keeper){.config = config,
		.dir_fd = -1,
		.vms_dir = -1,
		.listeners = {-1, -1, -1},
		.signal_fd = -1,
		.group_fd = -1,
		.holder_pidfd = -1,
		.control = {.fd = -1},
		.binding_number = 1,
		.stats_fd = -1,
		.notices = {.burst = 200, .interval_ms = 100}};
	device_init_all(&k);
	grant_init(&k);
	takeover_init(&k.takeover);
	hold_init(&k.hold);
	memory_init(&k.memory);
	shaders_init(&k.shaders);
	custody_init(&k.custody, -1);
	keeper_raise_limits();
	int r = standby_waits(&k) ? standby_open(&k) : keeper_open(&k);
	if (r == 0)
		r = keeper_watch_signals(&k);
	keeper_join_group(&k);
	if (r == 0)
		r = device_start(&k);
	if (r < 0) {
		log_error("cannot serve in %s: %s", config->run_dir ?: "stand-by", strerror(-r));
		return EXIT_FAILURE;
	}
	r = loop_run(k.loop);
	if (k.dir_fd >= 0) {
		peers_unlisten(&k);
		unlinkat(k.dir_fd, "keeper.sock", 0);
	}
	shaders_finish(&k);
	custody_finish(&k.custody);
	log_info("ended");
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int inherited_fd(const char *text)
{
	uint64_t fd;

	if (!parse_number(text, 10, INT_MAX, &fd))
		return -1;
	return fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 : (int)fd;
}

static bool parse_count(const char *text, uint32_t *ret)
{
	uint64_t value;

	if (!parse_number(text, 10, UINT32_MAX, &value) || !value)
		return false;
	*ret = (uint32_t)value;
	return true;
}

enum {
	RUN_DIR = 256,
	NAME,
	UUID,
	DEVICE,
	CPU_GROUP,
	SHADERS,
	GROUP,
	CONTROL_FD,
	LOCK_FD,
	STANDBY,
	HANG_MS,
	STEP_MS,
	RECOVERIES,
	DELAY_MS,
	SHADERS_MS,
	SHADERS_MIB,
	SHADERS_BY_USER
};
static const struct option options[] = {
	{"run-dir", required_argument, NULL, RUN_DIR},
	{"name", required_argument, NULL, NAME},
	{"uuid", required_argument, NULL, UUID},
	{"device", required_argument, NULL, DEVICE},
	{"group", required_argument, NULL, GROUP},
	{"cpu-group", required_argument, NULL, CPU_GROUP},
	{"control-fd", required_argument, NULL, CONTROL_FD},
	{"lock-fd", required_argument, NULL, LOCK_FD},
	{"standby", no_argument, NULL, STANDBY},
	{"hang-ms", required_argument, NULL, HANG_MS},
	{"step-ms", required_argument, NULL, STEP_MS},
	{"recoveries", required_argument, NULL, RECOVERIES},
	{"delay-ms", required_argument, NULL, DELAY_MS},
	{"shaders-ms", required_argument, NULL, SHADERS_MS},
	{"shaders", required_argument, NULL, SHADERS},
	{"shaders-mib", required_argument, NULL, SHADERS_MIB},
	{"shaders-by-user", no_argument, NULL, SHADERS_BY_USER},
	{0},
};

static bool parse_args(int argc, char **argv, struct keeper_config *config)
{
	const char **const texts[] = {&config->run_dir, &config->name, &config->uuid,
		&config->device, &config->cpu_group, &config->shaders_dir};
	uint32_t *const counts[] = {&config->hang_ms, &config->step_ms, &config->recoveries,
		&config->delay_ms, &config->shaders_ms};
	bool standby = false;

	for (int c; (c = getopt_long(argc, argv, "+", options, NULL)) != -1;) {
		switch (c) {
		case RUN_DIR:
		case NAME:
		case UUID:
		case DEVICE:
		case CPU_GROUP:
		case SHADERS:
			*texts[c - RUN_DIR] = optarg;
			break;
		case GROUP:
			config->group = (gid_t)strtoul(optarg, NULL, 10);
			break;
		case CONTROL_FD:
			config->control_fd = inherited_fd(optarg);
			break;
		case LOCK_FD:
			config->lock_fd = inherited_fd(optarg);
			break;
		case STANDBY:
			standby = true;
			break;
		case HANG_MS:
		case STEP_MS:
		case RECOVERIES:
		case DELAY_MS:
		case SHADERS_MS:
			if (!parse_count(optarg, counts[c - HANG_MS]))
				return false;
			break;
		case SHADERS_MIB:
			if (!parse_number(optarg, 10, 1u << 20, &config->shaders_bytes))
				return false;
			config->shaders_bytes <<= 20;
			break;
		case SHADERS_BY_USER:
			config->shaders_by_user = true;
			break;
		default:
			return false;
		}
	}
	config->device_args = argv + optind;
	config->n_device_args = argc - optind;
	if (standby) /* everything else comes later */
		return !config->run_dir && config->control_fd >= 0 && config->device;
	return config->run_dir && config->name && config->uuid && config->device;
}

int main(int argc, char **argv)
{
	struct keeper_config config = {.control_fd = -1,
		.lock_fd = -1,
		.group = (gid_t)-1,
		.hang_ms = KEEPER_HANG_MS,
		.step_ms = KEEPER_STEP_MS,
		.recoveries = KEEPER_RECOVERIES,
		.delay_ms = KEEPER_DELAY_MS,
		.shaders_ms = KEEPER_SHADERS_MS,
		.shaders_bytes = KEEPER_SHADERS_BYTES};

	const char *hang = getenv("VGPU_HANG_LIMIT_MS"); /* tests have no time */

	log_init("vgpu-keeper", LOG_LEVEL_INFO);
	log_keep_below(KEEPER_LOG_MAX);
	if (hang && !parse_count(hang, &config.hang_ms))
		log_warning("VGPU_HANG_LIMIT_MS=%s is no number of milliseconds", hang);
	if (!parse_args(argc, argv, &config)) {
		fprintf(stderr,
			"usage: vgpu-keeper --run-dir DIR --name N --uuid U --device PATH "
			"[--group GID] [--cpu-group FILE] [--control-fd N] [--lock-fd N] "
			"[--hang-ms N] "
			"[--step-ms N] [--recoveries N] [--delay-ms N] "
			"[--shaders DIR [--shaders-mib N] [--shaders-by-user] [--shaders-ms N]] "
			"[-- ARGS...]\n"
			"       vgpu-keeper --standby --device PATH --control-fd N "
			"[OPTION]... [-- ARGS...]\n");
		return 2;
	}
	return keeper_run(&config);
}

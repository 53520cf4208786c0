/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api.h"
#include "control/gpu_rules.h"
#include "control/gpus.h"
#include "control/handover.h"
#include "control/host_kernel.h"
#include "control/http.h"
#include "control/kill_point.h"
#include "control/memory.h"
#include "control/slice_types.h"
#include "control/standby.h"
#include "control/tcp.h"
#include "control/tenant.h"
#include "control/vgpud.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define LOCK_TRIES    50u
#define LOCK_AGAIN_US 20000u
#define SYSTEM_CONFIG "/etc/vgpud.conf" /* root's, where nobody names another */

struct options {
	const char *config;
	char state_dir[PATH_MAX];
	char run_dir[PATH_MAX];
	const char *host_root; /* NULL: as configured */
	long soft_gpus;        /* -1: as configured */
};

struct servers {
	struct http *http, *metrics;
	struct api *api;
	struct handover *handover;
	int lock;
};

static int make_dir(const char *path, mode_t mode, struct error *err)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return error_set(err, errno,
				"%s: %s (create it, or give another directory)", part,
				strerror(errno));
		*p = '/';
	}
	/* A new one has the mode said, whatever the umask; the mode of an old one is its owner's.
	 */
	int r = mkdir(path, mode) < 0 ? -errno : 0;
	if (r == 0 && chmod(path, mode) < 0)
		r = -errno;
	if (r < 0 && r != -EEXIST)
		return error_set(err, -r, "%s: %s (create it, or give another directory)", path,
			strerror(-r));
	return 0;
}

/* Where things are when nobody says: root's places, or this user's. */
static int default_dirs(struct options *o, struct error *err)
{
	const char *state = getenv("XDG_STATE_HOME"), *run = getenv("XDG_RUNTIME_DIR"),
		   *home = getenv("HOME");
	bool root = geteuid() == 0;

	if (!o->state_dir[0] && root)
		snprintf(o->state_dir, sizeof(o->state_dir), "/var/lib/vgpud");
	else if (!o->state_dir[0] && state)
		snprintf(o->state_dir, sizeof(o->state_dir), "%s/vgpud", state);
	else if (!o->state_dir[0] && home)
		snprintf(o->state_dir, sizeof(o->state_dir), "%s/.local/state/vgpud", home);
	if (!o->run_dir[0] && root)
		snprintf(o->run_dir, sizeof(o->run_dir), "/run/vgpud");
	else if (!o->run_dir[0] && run)
		snprintf(o->run_dir, sizeof(o->run_dir), "%s/vgpud", run);
	if (!o->run_dir[0] || !o->state_dir[0])
		return error_set(err, EINVAL,
			"vgpud: there is no XDG_RUNTIME_DIR or HOME (give --run-dir and "
			"--state-dir)");
	return 0;
}

static int open_run_dir(struct vgpud *d, const struct options *o, struct error *err)
{
	static const struct {
		const char *name;
		mode_t mode;
		bool group;
	} dirs[] = {{"", 0750, true}, {"/vgpus", 0750, true}, {"/vms", 0700, false},
		{"/gpus", 0700, false}};
	char path[PATH_MAX], real[PATH_MAX];

	int r = make_dir(o->run_dir, 0750, err);
	if (r < 0)
		return r;
	if (!realpath(o->run_dir, real))
		return error_set(
			err, errno, "%s: %s (give another --run-dir)", o->run_dir, strerror(errno));
	if (strlen(real) >= sizeof(d->run_dir) || strchr(real, ','))
		return error_set(err, EINVAL,
			"%s: a run directory has at most %zu bytes and no comma (give a shorter "
			"--run-dir)",
			real, sizeof(d->run_dir) - 1);
	snprintf(d->run_dir, sizeof(d->run_dir), "%.*s", (int)sizeof(d->run_dir) - 1, real);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		snprintf(path, sizeof(path), "%s%s", d->run_dir, dirs[i].name);
		r = make_dir(path, dirs[i].mode, err);
		if (r < 0)
			return r;
		if (dirs[i].group && d->group != (gid_t)-1 && chown(path, (uid_t)-1, d->group) < 0)
			return error_set(err, errno, "%s: %s (give another --run-dir)", path,
				strerror(errno));
	}
	return 0;
}

/*
 * Where device processes leave what they found out or compiled for those after them. Without it
 * they serve as well; each does it for itself.
 */
static void open_kept_dir(const struct vgpud *d, const char *name, char *ret)
{
	char path[PATH_MAX + 16], real[PATH_MAX];
	struct error err = {0};

	snprintf(path, sizeof(path), "%s/%s", d->state_dir, name);
	int r = make_dir(path, 0700, &err);
	if (r == 0 && !realpath(path, real))
		r = error_set(&err, errno, "%s: %s", path, strerror(errno));
	if (r == 0 && strlen(real) >= VGPUD_FORMATS_MAX)
		r = error_set(
			&err, ENAMETOOLONG, "%s: too long (give a shorter --state-dir)", path);
	if (r == 0)
		memcpy(ret, real, strlen(real) + 1);
	else
		log_warning("%s are not kept: %s", name, err.text);
}

/* One vgpud for one run directory. */
static int take_lock(const struct vgpud *d, int *ret_fd, struct error *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/vgpud.lock", d->run_dir);
	cleanup_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set(
			err, errno, "%s: %s (give another --run-dir)", path, strerror(errno));
	/* A process that a vgpud had just started when it was killed has it for a moment. */
	int r = flock(fd, LOCK_EX | LOCK_NB);
	for (unsigned i = 0; r < 0 && i < LOCK_TRIES; i++) {
		usleep(LOCK_AGAIN_US);
		r = flock(fd, LOCK_EX | LOCK_NB);
	}
	if (r < 0)
		return error_set(err, EBUSY,
			"%s: another vgpud serves this run directory (end it, or give another "
			"--run-dir)",
			d->run_dir);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int listen_at(const struct vgpud *d, const char *name, int type, struct error *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%s", d->run_dir, name);
	cleanup_close int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(addr.sun_path);
	mode_t old = umask(0177);
	int r = fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
	umask(old);
	if (r == 0 && d->group != (gid_t)-1 && chown(addr.sun_path, (uid_t)-1, d->group) < 0)
		r = -errno;
	if (r == 0 && (chmod(addr.sun_path, 0660) < 0 || listen(fd, 64) < 0))
		r = -errno;
	if (r < 0)
		return error_set(
			err, -r, "%s: %s (give another --run-dir)", addr.sun_path, strerror(-r));
	return TAKE_FD(fd);
}

/* A program of ours: as configured, beside this one, or where it is installed. */
static void find_program(const char *configured, const char *name, char *ret, size_t size)
{
	char self[PATH_MAX];

	if (configured[0]) {
		snprintf(ret, size, "%s", configured);
		return;
	}
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash = n > 0 ? (self[n] = '\0', strrchr(self, '/')) : NULL;
	if (slash) {
		*slash = '\0';
		snprintf(ret, size, "%.200s/%s", self, name);
		if (access(ret, X_OK) == 0)
			return;
	}
	snprintf(ret, size, "%s/%s", VGPUD_LIBEXEC, name);
}

static void find_group(struct vgpud *d)
{
	const struct group *group = d->config.group[0] ? getgrnam(d->config.group) : NULL;
	gid_t groups[256];
	int n = getgroups(256, groups);
	bool may_give = geteuid() == 0 || (group && getegid() == group->gr_gid);

	for (int i = 0; group && i < n; i++)
		may_give |= groups[i] == group->gr_gid;
	d->group = group && may_give ? group->gr_gid : (gid_t)-1;
	if (!group && d->config.group[0] && geteuid() == 0)
		log_info("there is no group %s: only root may use this vgpud", d->config.group);
}

/* A keeper that no definition explains is reported and left alone. */
static void report_unknown(struct vgpud *d)
{
	char path[VGPUD_PATH_MAX];
	const struct dirent *entry;

	snprintf(path, sizeof(path), "%s/vgpus", d->run_dir);
	DIR *dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (!name_valid(entry->d_name) || vgpud_find_vgpu(d, entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%.79s/vgpus/%.63s", d->run_dir, entry->d_name);
		if (link_keeper_runs(path))
			events_add(&d->events, "",
				"unknown keeper: %s is served by a process that no definition "
				"explains; it is left alone",
				path);
	}
	if (dir)
		closedir(dir);
}

static int start_metrics(struct vgpud *d, struct servers *s, struct error *err)
{
	const struct http_config config = {
		.anyone = true, .handler = api_handle_metrics, .data = s->api};
	int fd = tcp_listen_loopback(d->config.metrics_listen, err);

	if (fd < 0)
		return fd;
	int r = http_create(d->event, fd, &config, &s->metrics);
	return r < 0 ? error_set(err, -r, "vgpud: metrics cannot be served: %s (see its log)",
			       strerror(-r))
		     : 0;
}

static int start_api(struct vgpud *d, struct servers *s, struct error *err)
{
	int r = api_create(d, &s->api);
	if (r < 0)
		return error_set(err, -r, "vgpud: %s (free some memory)", strerror(-r));
	int fd = listen_at(d, "vgpud.sock", SOCK_STREAM, err);
	if (fd < 0)
		return fd;
	const struct http_config config = {
		.group = d->group, .handler = api_handle, .upload = api_upload, .data = s->api};
	r = http_create(d->event, fd, &config, &s->http);
	if (r == 0 && d->config.metrics_listen[0])
		return start_metrics(d, s, err);
	return r < 0 ? error_set(err, -r, "vgpud: the API cannot be served: %s (see its log)",
			       strerror(-r))
		     : 0;
}

static int start_handover(struct vgpud *d, struct servers *s, struct error *err)
{
	int fd = listen_at(d, "fd.sock", SOCK_SEQPACKET, err);
	if (fd < 0)
		return fd;
	int r = handover_create(d, fd, &s->handover);
	return r < 0 ? error_set(err, -r, "vgpud: %s (free some memory)", strerror(-r)) : 0;
}

/* Software GPUs cost nothing until they are used, so there is one before the first vGPU. */
static void start_standbys(struct vgpud *d)
{
	int r = standbys_create(d, &d->standbys);

	if (r < 0)
		log_warning("there are no stand-bys: %s", strerror(-r));
	for (size_t i = 0; i < d->n_gpus; i++) {
		if (gpu_is_soft(&d->gpus[i]))
			standbys_want(d->standbys, &d->gpus[i], METHOD_FORWARD);
	}
}

static int prepare(struct vgpud *d, struct options *o, struct servers *s, struct error *err)
{
	char path[PATH_MAX + 16];

	config_init(&d->config);
	if (!o->config && geteuid() == 0 && access(SYSTEM_CONFIG, F_OK) == 0)
		o->config = SYSTEM_CONFIG;
	int r = o->config ? config_read(&d->config, o->config, err) : 0;
	if (r == 0)
		r = default_dirs(o, err);
	if (r < 0)
		return r;
	if (o->soft_gpus >= 0)
		d->config.soft_gpus = (uint64_t)o->soft_gpus;
	find_group(d);
	find_program(d->config.keeper, "vgpu-keeper", d->keeper_path, sizeof(d->keeper_path));
	find_program(d->config.device, "vgpu-device", d->device_path, sizeof(d->device_path));
	const char *root = o->host_root ? o->host_root : d->config.host_root;
	r = gpus_set_root(d, root, err);
	host_kernel_open(d, root);
	if (r < 0)
		return r;
	d->slices = slice_types_new();
	gpus_read(d);
	r = open_run_dir(d, o, err);
	if (r == 0)
		r = take_lock(d, &s->lock, err);
	if (r == 0)
		r = make_dir(o->state_dir, 0700, err);
	if (r < 0)
		return r;
	snprintf(d->state_dir, sizeof(d->state_dir), "%s", o->state_dir);
	open_kept_dir(d, "formats", d->formats_dir);
	open_kept_dir(d, "shaders", d->shaders_dir);
	snprintf(path, sizeof(path), "%s/vgpud.db", o->state_dir);
	r = store_open(path, &d->store, err);
	if (r == 0)
		r = vgpud_share_open(d, err);
	if (r == 0)
		r = gpu_rules_open(d, err);
	if (r == 0) {
		start_standbys(d);
		r = vgpud_reconcile(d, err);
	}
	if (r == 0) {
		report_unknown(d);
		tenant_clean(d);
		gpus_check_vgpus(d);
		r = memory_open(d, err);
	}
	if (r == 0) {
		gpus_watch(d);
		slice_types_refresh(d, NULL);
	}
	if (r == 0 && vgpud_watch_idle(d) < 0)
		log_warning("idle vGPUs are not hibernated: no timer");
	if (r == 0)
		r = start_api(d, s, err);
	return r == 0 ? start_handover(d, s, err) : r;
}

static int watch_signals(sd_event *event)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a file-size limit is a full disk: an error, not our end */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	int r = sd_event_add_signal(event, NULL, SIGTERM, NULL, NULL);
	return r < 0 ? r : sd_event_add_signal(event, NULL, SIGINT, NULL, NULL);
}

static int serve(struct options *o)
{
	static struct vgpud d; /* for its size; everyone is given a pointer to it */
	struct servers s = {.lock = -1};
	struct error err = {0};

	int r = sd_event_new(&d.event);
	if (r >= 0)
		r = watch_signals(d.event);
	if (r < 0) {
		log_error("vgpud: no event loop: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	r = prepare(&d, o, &s, &err);
	if (r == 0) {
		log_info("serving %zu GPUs at %s/vgpud.sock", d.n_gpus, d.run_dir);
		sd_notify(0, "READY=1");
		r = sd_event_loop(d.event);
		sd_notify(0, "STOPPING=1");
	} else {
		log_error("%s", err.text);
	}
	sd_event_source_disable_unref(d.idle_timer);
	vgpud_share_close(&d);
	memory_close(&d);
	gpus_close(&d);
	slicing_close(&d);
	vgpud_free_vgpus(&d); /* the keepers stay */
	standbys_destroy(d.standbys);
	slice_types_free(d.slices);
	handover_destroy(s.handover);
	if (s.api)
		d.events.added = NULL;
	http_destroy(s.http);
	http_destroy(s.metrics);
	api_destroy(s.api);
	store_close(d.store);
	close_fd(&s.lock);
	sd_event_unref(d.event);
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

static const char usage[] =
	"usage: vgpud [--config FILE] [--state-dir DIR] [--run-dir DIR] [--soft-gpus N]\n"
	"             [--host-root DIR] [--print-api] [--version] [--help]\n";

static const char help[] =
	"\n"
	"Serves the virtual GPUs of this node, in the foreground, until SIGTERM or SIGINT.\n"
	"\n"
	"  --config FILE    configuration; root's default: " SYSTEM_CONFIG ", where it exists\n"
	"  --state-dir DIR  definitions; /var/lib/vgpud for root, else ~/.local/state/vgpud\n"
	"  --run-dir DIR    sockets; /run/vgpud for root, else $XDG_RUNTIME_DIR/vgpud\n"
	"  --soft-gpus N    software GPUs, 0 to 16\n"
	"  --host-root DIR  where sys, proc, dev and lib/modules of the GPUs are\n"
	"  --print-api      prints the documentation of the API\n"
	"  --version        prints the version\n"
	"\n"
	"See vgpud(8); vgpuctl(1) is the tool to use it.\n";

/* -1: go on; else the exit status. */
static int parse_args(int argc, char **argv, struct options *o)
{
	enum { CONFIG = 256, STATE_DIR, RUN_DIR, SOFT_GPUS, HOST_ROOT, PRINT_API, VERSION, HELP };
	static const struct option options[] = {
		{"config", required_argument, NULL, CONFIG},
		{"state-dir", required_argument, NULL, STATE_DIR},
		{"run-dir", required_argument, NULL, RUN_DIR},
		{"soft-gpus", required_argument, NULL, SOFT_GPUS},
		{"host-root", required_argument, NULL, HOST_ROOT},
		{"print-api", no_argument, NULL, PRINT_API},
		{"version", no_argument, NULL, VERSION},
		{"help", no_argument, NULL, HELP},
		{0},
	};
	char *end;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		switch (c) {
		case CONFIG:
			o->config = optarg;
			break;
		case STATE_DIR:
			snprintf(o->state_dir, PATH_MAX, "%s", optarg);
			break;
		case RUN_DIR:
			snprintf(o->run_dir, PATH_MAX, "%s", optarg);
			break;
		case SOFT_GPUS:
			o->soft_gpus = strtol(optarg, &end, 10);
			if (end == optarg || *end || o->soft_gpus < 0 || o->soft_gpus > 16) {
				fprintf(stderr, "vgpud: --soft-gpus takes a number from 0 to 16\n");
				return 2;
			}
			break;
		case HOST_ROOT:
			o->host_root = optarg;
			break;
		case PRINT_API:
			api_print(stdout);
			return 0;
		case VERSION:
			printf("vgpud %s\n", VGPUD_VERSION);
			return 0;
		case HELP:
			fputs(usage, stdout);
			fputs(help, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fputs(usage, stderr);
		return 2;
	}
	return -1;
}

int main(int argc, char **argv)
{
	struct options o = {.soft_gpus = -1};

	log_init("vgpud", LOG_LEVEL_INFO);
	kill_points_init();
	int r = parse_args(argc, argv, &o);
	return r >= 0 ? r : serve(&o);
}

/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tenant's folder has one archive for each driver (and user). Device processes of several vGPUs
 * may hand in what they compiled at the same time, so whoever merges holds the folder's lock,
 * writes a new file beside the old one and renames it: a reader has the old or the new one, for as
 * long as it holds it open, and one that is killed in the middle leaves the old one.
 *
 * An archive is in the order in which its entries came. What was used last is not known (drivers do
 * not tell), so the oldest ones go when there is no room; who still needs one compiles it again and
 * hands it in anew.
 */

#include "shaders/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TEXTS_PART   4u   /* of an archive, at most one in so many bytes */
#define MANY_ENTRIES 4u   /* new ones: worth writing an archive anew */
#define SMALL_PART   256u /* of an archive: fewer bytes than one in so many are not */
#define PLACES       65536u

struct merge {
	int folder;
	const char *name;
	const int *fds;
	uint32_t driver;
	uint64_t limit;
	int old_fd;               /* -1: there is no archive, or none that can be read */
	struct shaders_list old;  /* what is there */
	struct shaders_list come; /* what is new, and all texts */
	bool more_texts;
};

/* A reader must never wait: a file of another kind may be on somebody's server. */
static int check_files(const int *fds)
{
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		struct statfs fs;
		struct stat st;
		if (fstat(fds[i], &st) < 0 || fstatfs(fds[i], &fs) < 0)
			return -errno;
		if (!S_ISREG(st.st_mode) || fs.f_type != TMPFS_MAGIC)
			return -EBADMSG;
	}
	return 0;
}

static void merge_open_old(struct merge *m)
{
	m->old_fd = openat(m->folder, m->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (m->old_fd >= 0 && archive_read(m->old_fd, m->driver, &m->old) < 0)
		close_fd(&m->old_fd);
}

/* ---- what is new ---- */

static size_t drop_doubles(struct shaders_entry *entries, size_t n)
{
	size_t kept = 0;

	shaders_sort(entries, n);
	for (size_t i = 0; i < n; i++) {
		if (!kept || !shaders_known(&entries[kept - 1], 1, &entries[i]))
			entries[kept++] = entries[i];
	}
	return kept;
}

static int merge_find_entries(struct merge *m)
{
	size_t n, fresh = 0, n_old = m->old.n;
	cleanup_free struct shaders_entry *sorted = malloc(n_old * sizeof(*sorted) + 1);

	if (!sorted)
		return -ENOMEM;
	if (n_old)
		memcpy(sorted, m->old.entries, n_old * sizeof(*sorted));
	shaders_sort(sorted, n_old);
	/* The index first: what it names is in the data already, also if somebody still writes. */
	int r = driver_read_index(m->fds[SHADERS_INDEX], &m->come.entries, &n);
	for (size_t i = 0; !r && i < n; i++) {
		struct shaders_entry entry = m->come.entries[i];
		if (shaders_known(sorted, n_old, &entry))
			continue;
		r = driver_find(m->fds[SHADERS_DATA], &entry);
		if (!r)
			m->come.entries[fresh++] = entry;
	}
	if (r < 0 && r != -EBADMSG) /* damaged: what came before is whole */
		return r;
	m->come.n = drop_doubles(m->come.entries, fresh);
	return 0;
}

static size_t place_of(const struct shaders_text *text)
{
	return (size_t)text->hash[0] | (size_t)text->hash[1] << 8;
}

/* The process' own, and of the others those that have another place. */
static int merge_find_texts(struct merge *m)
{
	struct shaders_list *come = &m->come;
	cleanup_free bool *taken = calloc(PLACES, sizeof(*taken));
	int r = taken ? driver_read_texts(m->fds[SHADERS_TEXTS], come) : -ENOMEM;

	if (r < 0)
		return r;
	struct shaders_text *grown =
		realloc(come->texts, (come->n_texts + m->old.n_texts + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	come->texts = grown;
	for (size_t i = 0; i < come->n_texts; i++)
		taken[place_of(&come->texts[i])] = true;
	for (size_t i = 0; i < m->old.n_texts; i++) {
		if (!taken[place_of(&m->old.texts[i])])
			come->texts[come->n_texts++] = m->old.texts[i];
	}
	size_t most = m->limit / TEXTS_PART / sizeof(*grown);
	come->n_texts = MIN(come->n_texts, most);
	m->more_texts = come->n_texts > m->old.n_texts;
	return 0;
}

/* ---- the new archive ---- */

static uint64_t entry_bytes(const struct shaders_entry *entry)
{
	return sizeof(*entry) + entry->header.bytes;
}

/* The first of old and new ones together that there is room for, with all behind it. */
static size_t merge_first(const struct merge *m)
{
	uint64_t bytes =
		sizeof(struct shaders_file) + m->come.n_texts * sizeof(struct shaders_text);
	size_t i = m->old.n + m->come.n, n = 0;

	while (i && n < SHADERS_MAX) {
		const struct shaders_entry *entry =
			i > m->old.n ? &m->come.entries[i - 1 - m->old.n] : &m->old.entries[i - 1];
		bytes += entry_bytes(entry);
		if (bytes > m->limit)
			break;
		i--;
		n++;
	}
	return i;
}

/*
 * An archive is written as a whole, and llvmpipe has a shader or two whose keys differ in every
 * process: these shall not make each binding write a large one, nor fill it.
 */
static bool merge_is_worth_it(const struct merge *m)
{
	uint64_t fresh = 0, old = 0;

	for (size_t i = 0; i < m->come.n; i++)
		fresh += entry_bytes(&m->come.entries[i]);
	for (size_t i = 0; i < m->old.n; i++)
		old += entry_bytes(&m->old.entries[i]);
	return m->more_texts || m->come.n >= MANY_ENTRIES || fresh > old / SMALL_PART;
}

/* How many of the new ones are in it, or -errno. */
static int merge_write(struct merge *m, int fd)
{
	struct archive_writer w;
	int added = 0, r = 0;

	archive_begin(&w, fd, m->driver);
	for (size_t i = merge_first(m); !r && i < m->old.n + m->come.n; i++) {
		bool fresh = i >= m->old.n;
		r = fresh ? archive_add(&w, m->fds[SHADERS_DATA], &m->come.entries[i - m->old.n])
			  : archive_add(&w, m->old_fd, &m->old.entries[i]);
		if (!r && fresh)
			added++;
		if (r == -EBADMSG)
			r = 0; /* it is left out */
	}
	if (r < 0) {
		shaders_list_finish(&w.list);
		return r;
	}
	r = archive_end(&w, m->come.texts, m->come.n_texts);
	return r < 0 ? r : added;
}

static int merge_replace(struct merge *m)
{
	char fresh[NAME_BYTES + sizeof(FRESH_SUFFIX)];

	int n = snprintf(fresh, sizeof(fresh), "%s" FRESH_SUFFIX, m->name);
	if (n < 0 || (size_t)n >= sizeof(fresh))
		return -ENAMETOOLONG;
	cleanup_close int fd =
		openat(m->folder, fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	int r = merge_write(m, fd);
	bool changed = r > 0 || (r == 0 && m->more_texts);
	/* Nobody waits for the disk: what a power failure leaves of it is found out by its sums. */
	if (changed && renameat(m->folder, fresh, m->folder, m->name) < 0)
		r = -errno;
	if (!changed || r < 0)
		unlinkat(m->folder, fresh, 0);
	return r;
}

int store_merge(int folder, const char *name, uint32_t driver,
	const int fds[static SHADERS_DRIVER_FILES], uint64_t budget)
{
	struct merge m = {.folder = folder,
		.name = name,
		.fds = fds,
		.driver = driver,
		.limit = MIN(budget, (uint64_t)SHADERS_FILE_MAX),
		.old_fd = -1};
	int r = check_files(fds);
	cleanup_close int lock = r < 0 ? -1 : folder_lock(folder);

	if (r < 0 || lock < 0)
		return r < 0 ? r : lock;
	merge_open_old(&m);
	r = merge_find_entries(&m);
	if (!r)
		r = merge_find_texts(&m);
	if (!r && merge_is_worth_it(&m))
		r = merge_replace(&m);
	else if (!r)
		utimensat(folder, name, NULL, AT_SYMLINK_NOFOLLOW); /* it was used */
	int room = folder_make_room(folder, name, budget);
	close_fd(&m.old_fd);
	shaders_list_finish(&m.old);
	shaders_list_finish(&m.come);
	return r < 0 ? r : room < 0 ? room : r;
}

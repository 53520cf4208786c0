/* SPDX-License-Identifier: Apache-2.0 */
#include "host/change.h"

#include "base/checked.h"
#include "host/change_mediate.h"
#include "host/sysfs_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

const char *const change_verdict_names[CHANGE_VERDICT_COUNT] = {
	[CHANGE_IS_BEFORE] = "before",
	[CHANGE_IS_AFTER] = "after",
	[CHANGE_IS_HALF] = "half",
	[CHANGE_IS_OTHER] = "other",
	[CHANGE_IS_GONE] = "gone",
	[CHANGE_UNREADABLE] = "unreadable",
};

static const char *const words[CHANGE_KIND_COUNT] = {
#define X(name, word, subject) word,
	CHANGE_KINDS(X)
#undef X
};

static const struct change_row *const rows[CHANGE_KIND_COUNT] = {
	[CHANGE_VFIO] = &change_row_vfio,
	[CHANGE_OWNER] = &change_row_owner,
	[CHANGE_CDEV] = &change_row_cdev,
	[CHANGE_MDEV] = &change_row_mdev,
	[CHANGE_SRIOV_AUTOPROBE] = &change_row_autoprobe,
	[CHANGE_SRIOV_VFS] = &change_row_vfs,
	[CHANGE_NVIDIA_TYPE] = &change_row_nvidia,
	[CHANGE_XE_PROFILE] = &change_row_xe,
};

const char *change_kind_word(enum change_kind kind)
{
	return words[kind];
}

enum change_kind change_kind_from_word(const char *word)
{
	enum change_kind kind = 0;

	while (kind < CHANGE_KIND_COUNT && strcmp(words[kind], word) != 0)
		kind++;
	return kind;
}

bool change_is_gift(const struct change *c)
{
	return c->kind == CHANGE_OWNER || c->kind == CHANGE_CDEV;
}

static bool ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

bool change_valid(const struct change *c)
{
	return c->kind < CHANGE_KIND_COUNT && rows[c->kind] &&
	       ends(c->subject, sizeof(c->subject)) && ends(c->before, sizeof(c->before)) &&
	       ends(c->after, sizeof(c->after)) && rows[c->kind]->valid(c);
}

/* --- what rows use --- */

int change_write(const struct change_node *node, const char *file, const char *text)
{
	char path[SYSFS_PATH_MAX];

	int n = snprintf(path, sizeof(path), "%s/%s", node->roots->sys, file);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return node->kernel->write(node->kernel->data, path, text, node->limit_ms);
}

int change_open(const struct change_node *node, const char *folder)
{
	char path[SYSFS_PATH_MAX];

	int n = snprintf(path, sizeof(path), "%s/%s", node->roots->sys, folder);
	if (n < 0 || (size_t)n >= sizeof(path))
		return -ENAMETOOLONG;
	return sysfs_open(AT_FDCWD, path);
}

bool change_number(const char *text, uint64_t most, uint64_t *ret)
{
	uint64_t number = 0;

	if (!*text || (*text == '0' && text[1]))
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || !checked_mul(number, 10, &number) ||
			!checked_add(number, (uint64_t)(*text - '0'), &number))
			return false;
	}
	if (number > most)
		return false;
	*ret = number;
	return true;
}

/* What an errno of a request to the kernel means. */
static const struct {
	int code;
	const char *why, *remedy;
} reasons[] = {
	{-ENODEV, "it is not on this node", "plug it in"},
	{-ENOENT, "this kernel or driver does not offer it", "see `vgpuctl gpu show`"},
	{-EACCES, "the kernel asks for root", "run vgpud as root"},
	{-EPERM, "the kernel asks for root", "run vgpud as root"},
	{-EROFS, "sysfs is read-only here", "run vgpud outside of the container"},
	{-EBUSY, "it is in use", "end whoever uses it"},
	{-ETIMEDOUT, "the kernel does not return",
		"end whoever has the device open: the request stands, and is fulfilled then"},
	{-EINVAL, "the driver refuses it", "see dmesg"},
	{-EIO, "the device does not do it", "see dmesg"},
	{-ENOMEM, "the kernel is out of memory", "free some"},
};

int change_explain(
	int code, const char *what, const char *verb, const char *subject, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
		if (reasons[i].code == code)
			return error_set(err, -code, "%s: %s %s: %s (%s)", what, verb, subject,
				reasons[i].why, reasons[i].remedy);
	}
	return error_set(
		err, -code, "%s: %s %s: %s (see dmesg)", what, verb, subject, strerror(-code));
}

/* --- looking --- */

static bool shows(const struct change_row *row, const char *now, const char *value)
{
	return row->shows ? row->shows(now, value) : !strcmp(now, value);
}

/* *ret_code: why it is unreadable. */
static enum change_verdict look(
	const struct change_node *node, const struct change *c, char *ret_now, int *ret_code)
{
	const struct change_row *row = rows[c->kind];
	bool half = false;

	ret_now[0] = '\0';
	*ret_code = row->look(node, c, ret_now, &half);
	if (*ret_code == -ENODEV)
		return CHANGE_IS_GONE;
	if (*ret_code < 0)
		return CHANGE_UNREADABLE;
	if (half)
		return CHANGE_IS_HALF;
	if (shows(row, ret_now, c->after))
		return CHANGE_IS_AFTER;
	return shows(row, ret_now, c->before) ? CHANGE_IS_BEFORE : CHANGE_IS_OTHER;
}

enum change_verdict change_look(
	const struct change_node *node, const struct change *change, char *ret_now)
{
	char now[CHANGE_VALUE_MAX];
	int code;

	return look(node, change, ret_now ? ret_now : now, &code);
}

static const char *value_name(const char *value)
{
	return *value ? value : "none";
}

/* What the node shows is not what it should be. Returns -errno. */
static int say_otherwise(const struct change *c, enum change_verdict verdict, const char *now,
	int code, const char *should, const char *what, struct error *err)
{
	const char *noun = rows[c->kind]->noun;

	if (verdict == CHANGE_IS_GONE)
		return error_set(err, ENODEV, "%s: %s is not on this node any more (plug it in)",
			what, c->subject);
	if (verdict == CHANGE_UNREADABLE)
		return error_set(err, -code, "%s: %s of %s cannot be read: %s (%s)", what, noun,
			c->subject, sysfs_why(code), sysfs_remedy(code));
	return error_set(err, ESTALE,
		"%s: %s of %s is %s, and should be %s: somebody else changed it (set it back, or "
		"delete the vGPU)",
		what, noun, c->subject, value_name(now), value_name(should));
}

static int result_end(struct change_result *ret, uint32_t at, const struct error *err, int code)
{
	ret->code = code;
	ret->at = at;
	snprintf(ret->sentence, sizeof(ret->sentence), "%.*s", CHANGE_SENTENCE_MAX - 1, err->text);
	return code;
}

int change_check(const struct change_node *node, const struct change_plan *plan, const char *what,
	struct change_result *ret)
{
	char now[CHANGE_VALUE_MAX];
	struct error err;
	int code;

	*ret = (struct change_result){0};
	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		enum change_verdict verdict = look(node, c, now, &code);
		if (verdict != CHANGE_IS_AFTER)
			return result_end(ret, i, &err,
				say_otherwise(c, verdict, now, code, c->after, what, &err));
	}
	return 0;
}

void change_plan_settle(const struct change_node *node, struct change_plan *plan)
{
	char now[CHANGE_VALUE_MAX];
	int code;

	for (uint32_t i = 0; i < plan->count; i++) {
		struct change *c = &plan->list[i];
		if (!change_is_gift(c) || c->before[0])
			continue;
		enum change_verdict verdict = look(node, c, now, &code);
		if (verdict != CHANGE_IS_GONE && verdict != CHANGE_UNREADABLE)
			snprintf(c->before, sizeof(c->before), "%s", now);
	}
}

/* --- carrying out --- */

static void tell_step(const struct change_node *node, uint32_t at, const struct change *c)
{
	if (node->step)
		node->step(node->data, at, c);
}

/* 1: it was made now; 0: it was so already; -errno. */
static int apply_one(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char now[CHANGE_VALUE_MAX];
	int code;

	enum change_verdict verdict = look(node, c, now, &code);
	if (verdict == CHANGE_IS_AFTER)
		return 0;
	if (verdict != CHANGE_IS_BEFORE && verdict != CHANGE_IS_HALF)
		return say_otherwise(c, verdict, now, code, c->before, what, err);
	int r = rows[c->kind]->apply(node, c, what, err);
	if (r < 0)
		return r;
	verdict = look(node, c, now, &code);
	if (verdict == CHANGE_IS_AFTER)
		return 1;
	return error_set(err, EIO,
		"%s: %s of %s is %s, though the kernel was asked for %s (see dmesg)", what,
		rows[c->kind]->noun, c->subject, value_name(now), value_name(c->after));
}

int change_apply(const struct change_node *node, const struct change_plan *plan, const char *what,
	struct change_result *ret)
{
	struct error err;

	*ret = (struct change_result){0};
	for (uint32_t i = 0; i < plan->count; i++) {
		tell_step(node, i, &plan->list[i]);
		int r = apply_one(node, &plan->list[i], what, &err);
		if (r < 0)
			return result_end(ret, i, &err, r);
		ret->done += (uint32_t)r;
	}
	return 0;
}

/* --- undoing --- */

/* There is nothing to undo: with an empty value, because there never was anything to change. */
static bool is_before(const struct change *c, enum change_verdict verdict, const char *now)
{
	return verdict == CHANGE_IS_BEFORE ||
	       (verdict == CHANGE_IS_AFTER && (!*now || !strcmp(c->before, c->after)));
}

/* 1: it was undone now; 0: there was nothing to undo; -ESTALE: it is left; -errno. */
static int undo_one(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	const struct change_row *row = rows[c->kind];
	char now[CHANGE_VALUE_MAX];
	int code;

	enum change_verdict verdict = look(node, c, now, &code);
	if (is_before(c, verdict, now))
		return 0;
	if (verdict != CHANGE_IS_AFTER && verdict != CHANGE_IS_HALF) {
		int r = say_otherwise(c, verdict, now, code, c->before, what, err);
		return verdict == CHANGE_UNREADABLE ? r : -ESTALE;
	}
	int r = row->undo(node, c, what, err);
	if (r < 0)
		return r;
	verdict = look(node, c, now, &code);
	if (verdict == CHANGE_IS_BEFORE ||
		(verdict == CHANGE_IS_AFTER && shows(row, now, c->before)))
		return 1;
	return error_set(err, ESTALE,
		"%s: %s of %s is %s now, and was %s before (see dmesg, and set it yourself)", what,
		row->noun, c->subject, value_name(now), value_name(c->before));
}

/* 0, or -EBUSY: somebody uses what would be taken away. */
static int look_for_holders(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char now[CHANGE_VALUE_MAX];
	int code;

	if (!rows[c->kind]->unheld)
		return 0;
	enum change_verdict verdict = look(node, c, now, &code);
	if (is_before(c, verdict, now) || (verdict != CHANGE_IS_AFTER && verdict != CHANGE_IS_HALF))
		return 0;
	return rows[c->kind]->unheld(node, c, what, err);
}

int change_undo(const struct change_node *node, const struct change_plan *plan, const bool *keep,
	const char *what, struct change_result *ret)
{
	struct error err;

	*ret = (struct change_result){0};
	for (uint32_t i = 0; i < plan->count; i++) {
		int r = keep && keep[i] ? 0 : look_for_holders(node, &plan->list[i], what, &err);
		if (r < 0)
			return result_end(ret, i, &err, r);
	}
	for (uint32_t i = plan->count; i-- > 0;) {
		if (keep && keep[i])
			continue;
		tell_step(node, i, &plan->list[i]);
		int r = undo_one(node, &plan->list[i], what, &err);
		if (r == -ESTALE && ret->left++ == 0)
			result_end(ret, i, &err, 0);
		else if (r < 0 && r != -ESTALE)
			return result_end(ret, i, &err, r);
		ret->done += r > 0;
	}
	return 0;
}

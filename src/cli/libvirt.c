/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `libvirt attach|detach|check`: the definition that libvirt keeps of a domain, and a vGPU. What
 * has to be in it, host/domain_edit.h knows; vgpud is asked what the vGPU is, virsh for the
 * definition. A domain that runs is left as it runs: libvirt takes the definition at its next
 * start.
 */
#include "cli/libvirt_session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- attach, detach --- */

struct asked {
	bool print, keep_video;
};

/* Makes the definition with the vGPU, or without it, that libvirt shall keep. */
typedef int (*edit_fn)(struct session *s, const struct asked *asked, struct domain_edit *ret_edit,
	struct error *err);

static int attach(
	struct session *s, const struct asked *asked, struct domain_edit *edit, struct error *err)
{
	struct session_other other = {0};

	int r = libvirt_vgpus_get(s->cli, s->what, &s->vgpus, err);
	if (r < 0)
		return r;
	const struct domain_vgpu *vgpu = libvirt_vgpus_find(&s->vgpus, s->name);
	if (!vgpu)
		return error_set(err, ENOENT,
			"%s: there is no vGPU %.64s that a machine can have (see `vgpuctl list`)",
			s->what, s->name);
	r = session_read(s, !asked->print, err);
	if (r == 0)
		r = session_other_domain(s, vgpu, &other, err);
	if (r == 0 && other.name[0])
		r = error_set(err, EBUSY,
			"%s: the domain %.100s has the vGPU %s already, and a vGPU has at most one "
			"VM (rule 1) (vgpuctl libvirt detach it there)",
			s->what, other.name, s->name);
	if (r == 0)
		r = domain_attach(s->xml, strlen(s->xml), vgpu, s->vgpus.list, s->vgpus.count,
			asked->keep_video, s->what, edit, err);
	if (r < 0)
		return r;
	if (other.more)
		domain_find(&s->findings, false, NULL,
			"there are more than %u domains: not all were searched for this vGPU",
			LIBVIRT_DOMAINS_MAX);
	session_note(s, vgpu);
	return 0;
}

static int detach(
	struct session *s, const struct asked *asked, struct domain_edit *edit, struct error *err)
{
	int r = session_read(s, !asked->print, err);

	if (r == 0)
		r = domain_detach(s->xml, strlen(s->xml), s->name, s->what, edit, err);
	if (r == 0 && s->state.running)
		domain_find(&s->findings, false, NULL,
			"it runs, and has the vGPU until it is shut off");
	return r;
}

static int run_edit(struct cli *cli, int argc, char **argv, const char *verb, edit_fn edit_with)
{
	const char *connect = NULL;
	struct asked asked = {0};
	const struct cli_option options[] = {{"keep-video", NULL, &asked.keep_video},
		{"connect", &connect, NULL}, {"print", NULL, &asked.print}, {0}};
	bool keeps = edit_with == attach; /* else the first option is none of its */
	struct domain_edit edit = {0};
	struct cli_words words;
	struct session s;
	struct error err;

	int r = cli_parse(cli, argc, argv, keeps ? options : options + 1, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	session_begin(&s, cli, connect, &words, verb);
	r = edit_with(&s, &asked, &edit, &err);
	if (r == 0 && edit.changed && !asked.print)
		r = virsh_define(&s.virsh, edit.xml, &err);
	if (r < 0)
		r = cli_fail(&err);
	else if (asked.print)
		r = fputs(edit.xml, stdout) < 0;
	else
		r = session_report(&s, &edit,
			edit.changed ? "its definition is changed" : "it has it already");
	domain_edit_finish(&edit);
	session_finish(&s);
	return r;
}

static int libvirt_attach(struct cli *cli, int argc, char **argv)
{
	return run_edit(cli, argc, argv, "attach", attach);
}

static int libvirt_detach(struct cli *cli, int argc, char **argv)
{
	return run_edit(cli, argc, argv, "detach", detach);
}

/* --- check --- */

/* The vGPU that the definition names; NULL: none. *ret has room for a name. */
static const char *name_of(struct session *s, const struct domain_seen *seen, char *ret)
{
	if (seen->n_names) {
		memcpy(ret, seen->names[0], sizeof(seen->names[0]));
		return ret;
	}
	if (seen->unnamed && domain_alias_by_domain(seen->domain, ret))
		return ret;
	for (size_t i = 0; i < s->vgpus.count; i++) {
		if (s->vgpus.list[i].device != DOMAIN_VIDEO &&
			domain_has_device(s->xml, strlen(s->xml), &s->vgpus.list[i])) {
			memcpy(ret, s->vgpus.list[i].name, sizeof(s->vgpus.list[i].name));
			return ret;
		}
	}
	return NULL;
}

static int check_vgpu(struct session *s, const struct domain_vgpu *vgpu, struct error *err)
{
	struct session_other other = {0};

	int r = domain_check(s->xml, strlen(s->xml), vgpu, s->what, &s->findings, err);
	if (r == 0)
		r = session_other_domain(s, vgpu, &other, err);
	if (r < 0)
		return r;
	if (other.name[0])
		domain_find(&s->findings, true, "vgpuctl libvirt detach one of them",
			"the domain %.100s has the vGPU %s too (rule 1)", other.name, vgpu->name);
	session_note(s, vgpu);
	return 0;
}

static int check(struct session *s, char *name, struct error *err)
{
	struct domain_seen seen = {0};

	int r = session_read(s, false, err);
	if (r == 0)
		r = domain_look(s->xml, strlen(s->xml), s->what, &seen, err);
	if (r == 0)
		r = libvirt_vgpus_get(s->cli, s->what, &s->vgpus, err);
	if (r < 0)
		return r;
	s->name = name_of(s, &seen, name);
	const struct domain_vgpu *vgpu = s->name ? libvirt_vgpus_find(&s->vgpus, s->name) : NULL;
	if (vgpu)
		return check_vgpu(s, vgpu, err);
	if (s->name)
		domain_find(&s->findings, true, "vgpuctl create it, or vgpuctl libvirt detach it",
			"its vGPU %s is not there", s->name);
	else
		domain_find(&s->findings, true, "vgpuctl libvirt attach one", "it has no vGPU");
	return 0;
}

static int libvirt_check(struct cli *cli, int argc, char **argv)
{
	const char *connect = NULL;
	const struct cli_option options[] = {{"connect", &connect, NULL}, {0}};
	char name[DOMAIN_ALIAS_NAME_MAX];
	struct cli_words words;
	struct session s;
	struct error err;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	session_begin(&s, cli, connect, &words, "check");
	r = check(&s, name, &err);
	unsigned n = session_missing(&s.findings);
	if (r == 0 && cli->json) {
		session_print_json(&s, json_pack("{s:i}", "missing", (int)n));
	} else if (r == 0) {
		printf("%s: %s%s\n", s.domain, s.name ? "its vGPU is " : "no vGPU",
			s.name ? s.name : "");
		session_print_findings(&s.findings, true);
	}
	if (r == 0 && n)
		r = error_set(&err, ENOENT, "%s: %u %s missing or wrong (do what is said above)",
			s.what, n, n == 1 ? "thing is" : "things are");
	session_finish(&s);
	return r < 0 ? cli_fail(&err) : CLI_OK;
}

/* --- the verbs --- */

#define CONNECT "--connect URI  of libvirt; if it is not given, what virsh takes\n"

const struct verb verb_libvirt_attach = {.name = "libvirt attach",
	.args = "DOMAIN NAME [--connect URI] [--print] [--keep-video]",
	.summary = "Gives a libvirt domain the vGPU",
	.details = "Writes into the definition that libvirt keeps: the device, shared or locked "
		   "memory where the\nvGPU needs it, and what was there before, so that detach "
		   "gives it back. It counts from the\ndomain's next start on. Needs "
		   "virsh.\n\n" CONNECT
		   "--print        prints the new definition (without passwords), changes "
		   "nothing\n"
		   "--keep-video   beside the domain's video devices, as a second screen; else "
		   "in their place\n",
	.run = libvirt_attach};

const struct verb verb_libvirt_detach = {.name = "libvirt detach",
	.args = "DOMAIN NAME [--connect URI] [--print]",
	.summary = "Takes the vGPU out of a libvirt domain",
	.details =
		"Only what attach wrote; what else needs shared memory keeps it. It counts from "
		"the "
		"domain's\nnext start on. vgpud need not run.\n\n" CONNECT
		"--print        prints the new definition (without passwords), changes nothing\n",
	.run = libvirt_detach};

const struct verb verb_libvirt_check = {.name = "libvirt check",
	.args = "DOMAIN [--connect URI]",
	.summary = "What a libvirt domain lacks for its vGPU",
	.details = "Status 1 when something is missing; behind -> what to do.\n\n" CONNECT,
	.run = libvirt_check};

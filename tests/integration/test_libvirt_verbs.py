# SPDX-License-Identifier: Apache-2.0
"""`vgpuctl libvirt` beside a virsh that keeps definitions in a folder: what is asked of libvirt,
and what is said when that is not there, hangs, or refuses."""
import json
import os
import stat
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))

import node as node_module  # noqa: E402
from test_direct import GPU, Host  # noqa: E402

VIRSH = r"""#!/bin/sh
# virsh -q [-c URI] VERB --domain NAME ...
here=$(dirname "$0")
echo "$*" >>"$here/log"
shift
[ "$1" = -c ] && shift 2
verb=$1
[ "$2" = --domain ] && name=$3
[ -e "$here/$verb.says" ] && { cat "$here/$verb.says" >&2; exit 1; }
[ -e "$here/$verb.hangs" ] && exec sleep 600
[ -z "$name" ] || [ -e "$here/$name.xml" ] || {
	echo "error: failed to get domain '$name'" >&2; exit 1; }
case $verb in
list) for file in "$here"/*.xml; do basename "$file" .xml; done ;;
dumpxml) cat "$here/$name.xml" ;;
dominfo) cat "$here/info" ;;
define) cat "$3" >"$here/new" && mv "$here/new" "$here/$(sed -n 's:.*<name>\(.*\)</name>.*:\1:p' "$here/new").xml" ;;
esac
"""
INFO = "Id:             -\nState:          {state}\nPersistent:     {persistent}\nManaged save:   {saved}\n"
XML = """<domain type='kvm'>
  <name>{name}</name>
  <memory unit='MiB'>512</memory>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <devices>
    <video>
      <model type='qxl'/>
    </video>
  </devices>
</domain>
"""


class Virsh:
    def __init__(self, folder):
        self.dir = folder
        program = folder / "virsh"
        program.write_text(VIRSH)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.state()

    def state(self, state="shut off", persistent="yes", saved="no"):
        (self.dir / "info").write_text(INFO.format(state=state, persistent=persistent, saved=saved))

    def domain(self, name, text=None):
        (self.dir / f"{name}.xml").write_text(text or XML.format(name=name))

    def definition(self, name):
        return (self.dir / f"{name}.xml").read_text()


@pytest.fixture(scope="module")
def node():
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node() as one:
        for name in ("desk", "spare"):
            one.create(name, type_name=one.type_for(2))
        yield one


@pytest.fixture
def virsh(tmp_path):
    return Virsh(tmp_path)


@pytest.fixture
def verb(node, virsh):
    def run(*words):
        path = node.environment["PATH"]
        node.environment["PATH"] = f"{virsh.dir}:{path}"
        try:
            return node.ctl("libvirt", *words, check=False, timeout=60)
        finally:
            node.environment["PATH"] = path
    return run


def refused(done, *says):
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("vgpuctl: libvirt ") and done.stderr.endswith(")\n")
    assert done.stderr.count("\n") == 1
    for words in says:
        assert words in done.stderr


def test_there_and_back(verb, virsh):
    virsh.domain("web")
    before = virsh.definition("web")
    done = verb("attach", "web", "desk", "--connect", "test:///x y")
    assert done.returncode == 0, done.stderr
    assert "desk is its screen" in done.stdout and "virgl is not yet migratable" in done.stdout
    log = (virsh.dir / "log").read_text()
    assert "-q -c test:///x y dumpxml --domain web --inactive --security-info\n" in log
    assert 'name="ua-vgpu-desk"' in virsh.definition("web")
    done = verb("detach", "web", "desk")
    assert done.returncode == 0 and "is back" in done.stdout
    assert virsh.definition("web").replace('"', "'") == before
    refused(verb("detach", "web", "desk"), "the domain does not have it")


def test_print_changes_nothing_and_shows_no_passwords(verb, virsh):
    virsh.domain("web")
    before = virsh.definition("web")
    done = verb("attach", "web", "desk", "--print")
    assert done.returncode == 0 and "ua-vgpu-desk" in done.stdout
    assert virsh.definition("web") == before
    log = (virsh.dir / "log").read_text()
    assert "--security-info" not in log and "define" not in log


def test_check_says_what_is_missing(verb, virsh):
    virsh.domain("web")
    done = verb("check", "web")
    assert done.returncode == 1 and "it has no vGPU" in done.stdout
    assert "1 thing is missing" in done.stderr
    verb("attach", "web", "desk")
    virsh.domain("web", virsh.definition("web").replace('mode="shared"', 'mode="private"'))
    done = verb("check", "--json", "web")
    said = json.loads(done.stdout)
    assert done.returncode == 1 and said["vgpu"] == "desk" and said["missing"] >= 1
    lacks = {f["text"]: f["remedy"] for f in said["findings"] if f["missing"]}
    assert any("private" in text and "shared" in remedy for text, remedy in lacks.items())


def test_rule_one(verb, virsh):
    virsh.domain("web")
    virsh.domain("mail")
    virsh.domain("desk", XML.format(name="desk").replace(
        "<model", "<driver name='vhostuser'/><model"))
    refused(verb("attach", "web", "desk"), "the domain desk has the vGPU desk already", "rule 1")
    (virsh.dir / "desk.xml").unlink()
    assert verb("attach", "web", "desk").returncode == 0
    refused(verb("attach", "mail", "desk"), "the domain web has the vGPU desk already", "rule 1")
    refused(verb("attach", "web", "spare"), "it has the vGPU desk already", "rule 1")


def test_what_a_domain_is_doing(verb, virsh):
    virsh.domain("web")
    virsh.state(state="running", saved="yes")
    done = verb("attach", "web", "desk")
    assert done.returncode == 0
    assert "it runs" in done.stdout and "managedsave-remove" in done.stdout
    virsh.state(persistent="no", state="running")
    refused(verb("attach", "web", "desk"), "transient", "virsh define")


def test_names(verb, virsh):
    virsh.domain("web")
    refused(verb("attach", "web", "nono"), "there is no vGPU nono", "vgpuctl list")
    refused(verb("attach", "nono", "desk"), "failed to get domain 'nono'", "virsh list --all")
    refused(verb("check", "-x; y"), "failed to get domain '-x; y'")
    assert verb("attach", "web").returncode == 2


def test_libvirt_that_fails(verb, virsh):
    virsh.domain("web")
    (virsh.dir / "define.says").write_text("error: Failed to define\nerror: XML error: nothing\n")
    refused(verb("attach", "web", "desk"), "libvirt: Failed to define: XML error: nothing (")
    (virsh.dir / "dominfo.says").write_text(
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/x'\n")
    refused(verb("check", "web"), "start libvirtd or virtqemud")
    (virsh.dir / "dominfo.says").write_bytes(b"\x1b[31merror: \xff" + b"x" * 100000)
    done = verb("check", "web")
    assert done.returncode == 1 and "\x1b" not in done.stderr and len(done.stderr) < 600


@pytest.mark.parametrize("text, says", [
    ("", "is no text"), ("<domain", "is no XML"), ("<!DOCTYPE a><domain/>", "document type"),
    ("<domain>" + " " * (1 << 20) + "</domain>", "is longer than any domain's")])
def test_definitions_that_are_none(verb, virsh, text, says):
    virsh.domain("web")
    (virsh.dir / "web.xml").write_text(text)
    refused(verb("attach", "web", "desk"), says)


def test_more_than_is_read(verb, virsh):
    virsh.domain("web", "x" * (5 << 20))
    refused(verb("attach", "web", "desk"), "what libvirt says cannot be read")


def test_libvirt_that_hangs(verb, virsh):
    virsh.domain("web")
    (virsh.dir / "dominfo.hangs").touch()
    refused(verb("check", "web"), "libvirt did not answer within 15 s")


def test_a_whole_gpu_and_no_second_vgpu_beside_it(virsh):
    """By passthrough a domain gets a host device; its screen stays, and so does its memory."""
    host = Host()
    virsh.domain("web")
    before = virsh.definition("web")
    try:
        with host.node() as one:
            one.good("create", "card", "--gpu", GPU, "--method", "passthrough")
            path = dict(one.env, PATH=f"{virsh.dir}:{os.environ['PATH']}")
            done = one.ctl("libvirt", "attach", "web", "card", env=path)
            assert done.returncode == 0, done.stderr
            text = virsh.definition("web")
            assert '<hostdev mode="subsystem" type="pci" managed="no">' in text
            assert 'bus="0x03" slot="0x00" function="0x0"' in text and "qxl" in text
            assert "memoryBacking" not in text and "not saved or migrated" in done.stdout
            assert one.ctl("libvirt", "check", "web", env=path).returncode == 0
            # The same device under no alias of ours, in another domain.
            virsh.domain("mail", text.replace("<name>web", "<name>mail").replace(
                "ua-vgpu-card", "ua-mine"))
            said = one.ctl("libvirt", "check", "web", env=path)
            assert said.returncode == 1 and "the domain mail has the vGPU card too" in said.stdout
            assert one.ctl("libvirt", "detach", "web", "card", env=path).returncode == 0
    finally:
        host.close()
    assert virsh.definition("web").replace('"', "'") == before


def test_no_libvirt(node, tmp_path):
    path = node.environment["PATH"]
    node.environment["PATH"] = str(tmp_path)
    try:
        refused(node.ctl("libvirt", "check", "web", check=False), "virsh is not installed")
    finally:
        node.environment["PATH"] = path
    assert os.environ["PATH"] == path

# SPDX-License-Identifier: Apache-2.0
"""libvirt starts a domain through our back-end description; its vGPU is then like any other."""
import pytest

import libvirt_vm
import node as node_module
import vm as vm_module

NAME = "domain-one"
HELPER = "vgpu-libvirt-helper"


@pytest.fixture(scope="module")
def node():
    """vgpud would make a vGPU for a domain it does not know; here it must not."""
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node("[libvirt]\ncreate = no\n") as one:
        yield one


@pytest.fixture(scope="module")
def domain(guest, node):
    """domain(name): a domain with a vhost-user GPU, not started yet."""
    helper = node_module.PROGRAMS / HELPER
    why = libvirt_vm.missing() or (None if helper.exists() else f"not built: {HELPER}")
    if why:
        pytest.skip(why)
    made = []

    def make(name):
        made.append(libvirt_vm.LibvirtVM(guest, name, helper,
                                         {"VGPUD_SOCKET": node.environment["VGPUD_SOCKET"]}))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture(scope="module")
def machine(domain, node):
    node.create(NAME)
    return domain(NAME).start().wait_ready()


def test_domain_is_bound_under_its_name_with_quota(machine, node):
    row = node.vgpu(NAME)
    assert row["state"] == "bound"
    assert NAME in row["bound_to"]
    assert row["vram_mib"] > 0


def test_domain_draws_on_its_vgpu(machine, screens):
    screens.check_still(machine, NAME, "--variant torus --color c040ff")


def test_domain_without_a_vgpu_is_refused(domain, node):
    stranger = domain("stranger")
    with pytest.raises(vm_module.VmError, match="domain stranger: "):
        stranger.start().wait_ready(timeout=30)
    assert not [one for one in node.json("list") if one["name"] == "stranger"]

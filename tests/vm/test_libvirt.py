# SPDX-License-Identifier: Apache-2.0
"""libvirt starts a domain through our back-end description; its vGPU is then like any other."""
import pytest

import libvirt_vm
import node as node_module
import vm as vm_module

NAME = "domain-one"
HELPER = "vgpu-libvirt-helper"


@pytest.fixture(scope="module")
def machine(guest, node):
    why = libvirt_vm.missing()
    if why:
        pytest.skip(why)
    helper = node_module.PROGRAMS / HELPER
    if not helper.exists():
        pytest.skip(f"not built: {HELPER}")
    node.create(NAME)
    one = libvirt_vm.LibvirtVM(guest, NAME, helper,
                               {"VGPUD_SOCKET": node.environment["VGPUD_SOCKET"]})
    try:
        yield one.start().wait_ready()
    finally:
        one.stop()


def test_domain_is_bound_under_its_name_with_quota(machine, node):
    row = node.vgpu(NAME)
    assert row["state"] == "bound"
    assert NAME in row["bound_to"]
    assert row["vram_mib"] > 0


def test_domain_draws_on_its_vgpu(machine, screens):
    screens.check_still(machine, NAME, "--variant torus --color c040ff")


def test_domain_of_no_vgpu_is_refused(guest, node):
    why = libvirt_vm.missing()
    if why:
        pytest.skip(why)
    helper = node_module.PROGRAMS / HELPER
    if not helper.exists():
        pytest.skip(f"not built: {HELPER}")
    one = libvirt_vm.LibvirtVM(guest, "nobody-knows-me", helper,
                               {"VGPUD_SOCKET": node.environment["VGPUD_SOCKET"]})
    with pytest.raises(vm_module.VmError):
        one.start().wait_ready(timeout=20)
    one.stop()

# SPDX-License-Identifier: Apache-2.0
"""`vgpuctl libvirt`: a domain that a real libvirtd keeps gets a vGPU, draws on it, and is as it was
when the vGPU is taken out again."""
import json
from xml.etree import ElementTree

import libvirt_vm
import node as node_module
import pytest
import vm as vm_module

VGPU, OTHER = "gpu-of.the_desk", "spare"  # no domain is named so


def without_bus(definition):
    """libvirt adds ports for a device, and leaves them when it goes."""
    root = ElementTree.fromstring(definition)
    devices = root.find("devices")
    for controller in devices.findall("controller"):
        devices.remove(controller)
    for device in devices:
        for address in device.findall("address"):
            device.remove(address)
    return ElementTree.canonicalize(ElementTree.tostring(root), strip_text=True)


@pytest.fixture(scope="module")
def node():
    """vgpud would make a vGPU for a domain it does not know; here it must not."""
    missing = node_module.missing_programs()
    if missing:
        pytest.skip(f"not built: {', '.join(missing)}")
    with node_module.Node("[libvirt]\ncreate = no\n") as one:
        for name in (VGPU, OTHER):
            one.create(name, type_name=one.type_for(2))
        yield one


@pytest.fixture(scope="module")
def libvirtd(node):
    helper = node_module.PROGRAMS / libvirt_vm.HELPER
    why = libvirt_vm.daemon_missing() or (None if helper.exists() else f"not built: {helper.name}")
    if why:
        pytest.skip(why)
    daemon = libvirt_vm.Libvirtd(helper, {"VGPUD_SOCKET": node.environment["VGPUD_SOCKET"]})
    yield daemon.start()
    daemon.stop()


@pytest.fixture(scope="module")
def machine(guest, libvirtd):
    one = libvirt_vm.DefinedVM(guest, "a-desk-with-a-long-name", libvirtd)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def bystander(guest, libvirtd):
    one = libvirt_vm.DefinedVM(guest, "bystander", libvirtd)
    yield one
    one.stop()


@pytest.fixture(scope="module")
def verb(node, libvirtd):
    """verb(WORD, ...): `vgpuctl libvirt` beside that libvirtd."""
    def run(*words, check=True):
        return libvirtd.run(*node.command("libvirt", *words), check=check,
                            environment=node.environment)
    return run


@pytest.fixture(scope="module")
def attached(machine, libvirtd, verb):
    """What the definition was before."""
    before = libvirtd.definition(machine.domain)
    lacks = verb("check", machine.domain, check=False)
    assert lacks.returncode == 1 and "it has no vGPU" in lacks.stdout
    verb("attach", machine.domain, VGPU)
    return before


def test_libvirt_keeps_what_was_attached(attached, machine, libvirtd, verb):
    definition = libvirtd.definition(machine.domain)
    assert "<driver name='vhostuser'/>" in definition and "<access mode='shared'/>" in definition
    again = verb("attach", "--json", machine.domain, VGPU)
    assert json.loads(again.stdout)["changed"] is False
    assert libvirtd.definition(machine.domain) == definition
    assert verb("check", machine.domain).returncode == 0


def test_no_other_domain_gets_it(attached, machine, bystander, verb):
    refused = verb("attach", bystander.domain, VGPU, check=False)
    assert refused.returncode == 1 and "rule 1" in refused.stderr
    assert machine.domain in refused.stderr
    second = verb("attach", machine.domain, OTHER, check=False)
    assert second.returncode == 1 and "rule 1" in second.stderr and VGPU in second.stderr


def test_it_draws_on_that_vgpu_and_is_then_as_it_was(attached, machine, node, libvirtd, verb,
                                                     screens):
    machine.start().wait_ready()
    row = node.vgpu(VGPU)
    assert row["state"] == "bound" and machine.domain in row["bound_to"]
    screens.check_still(machine, VGPU, "--variant torus --color 40c0ff")
    assert "it runs" in verb("check", machine.domain).stdout
    saved = libvirtd.virsh("managedsave", machine.domain, check=False)
    assert saved.returncode and "virgl is not yet migratable" in saved.stderr
    assert "has the vGPU until" in verb("detach", machine.domain, VGPU).stdout
    assert node.vgpu(VGPU)["state"] == "bound"
    assert without_bus(libvirtd.definition(machine.domain)) == without_bus(attached)
    machine.kill()
    gone = verb("detach", machine.domain, VGPU, check=False)
    assert gone.returncode == 1 and "does not have it" in gone.stderr


def test_a_vgpu_that_is_not_there_is_no_other_one(bystander, node, verb):
    """libvirt is not given some vGPU when the one it names was deleted."""
    verb("attach", bystander.domain, OTHER)
    node.ctl("delete", OTHER)
    checked = verb("check", bystander.domain, check=False)
    assert checked.returncode == 1 and "its vGPU spare is not there" in checked.stdout
    with pytest.raises(vm_module.VmError, match="asks for this vGPU, which is not there"):
        bystander.start().wait_ready(timeout=30)
    verb("detach", bystander.domain, OTHER)

# SPDX-License-Identifier: Apache-2.0
"""vhost-user-vga: the firmware's text is on screen before any driver runs."""
import time

import image
import vm as vm_module

NAME = "vga"


def test_firmware_text_is_visible(guest, node, accelerator):
    node.create(NAME)
    machine = vm_module.VM(guest, node.socket(NAME), name=NAME, device="vhost-user-vga",
                           kernel=False, accelerator=accelerator)
    with machine:
        end = time.monotonic() + 30
        while True:
            time.sleep(0.3)
            shot = image.read_ppm(machine.screendump(machine.dir / "boot.ppm"))
            if not shot.blank():
                break
            assert time.monotonic() < end, f"nothing on screen: {shot.size}"
        # SeaBIOS writes in the VGA text mode of 80x25 characters.
        assert shot.size in ((720, 400), (640, 400))

# SPDX-License-Identifier: Apache-2.0
"""The checksum of saved states (protocol/state.h), written again so that tests do not trust ours."""


def crc32c(data):
    total = 0xffffffff
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (0x82f63b78 if total & 1 else 0)
    return total ^ 0xffffffff

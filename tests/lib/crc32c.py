# SPDX-License-Identifier: Apache-2.0
"""The checksum of saved states (protocol/state.h), written again so that tests do not trust ours."""


def _row(total):
    for _ in range(8):
        total = total >> 1 ^ (0x82f63b78 if total & 1 else 0)
    return total


TABLE = [_row(byte) for byte in range(256)]


def crc32c(data):
    total, table = 0xffffffff, TABLE
    for byte in data:
        total = total >> 8 ^ table[(total ^ byte) & 0xff]
    return total ^ 0xffffffff

# SPDX-License-Identifier: Apache-2.0
"""Pictures, with the standard library only: PNG (8-bit RGB, RGBA) and PPM in, RGB bytes out."""
import struct
import zlib
from pathlib import Path


class Picture:
    """rgb: bytes, top row first."""

    def __init__(self, width, height, rgb):
        self.width, self.height, self.rgb = width, height, rgb

    @property
    def size(self):
        return self.width, self.height

    def crc32(self):
        return zlib.crc32(self.rgb)

    def spread(self):
        """Variance of the brightness over a grid of samples: about 0 for a blank picture."""
        step = max(1, self.width * self.height // 20000)
        samples = [sum(self.rgb[i:i + 3]) / 3 for i in range(0, len(self.rgb) - 2, 3 * step)]
        mean = sum(samples) / len(samples)
        return sum((one - mean) ** 2 for one in samples) / len(samples)

    def blank(self):
        return self.spread() < 4.0

    def differing(self, other):
        """Share of pixels that differ, 1.0 when the sizes do."""
        if self.size != other.size:
            return 1.0
        if self.rgb == other.rgb:
            return 0.0
        pixels = self.width * self.height
        return sum(self.rgb[i:i + 3] != other.rgb[i:i + 3] for i in range(0, 3 * pixels, 3)) / pixels


def _unfilter(kind, row, above, step):
    if kind == 1:
        for i in range(step, len(row)):
            row[i] = (row[i] + row[i - step]) & 255
    elif kind == 2:
        for i, up in enumerate(above):
            row[i] = (row[i] + up) & 255
    elif kind == 3:
        for i, up in enumerate(above):
            left = row[i - step] if i >= step else 0
            row[i] = (row[i] + (left + up) // 2) & 255
    elif kind == 4:
        for i, up in enumerate(above):
            left, corner = (row[i - step], above[i - step]) if i >= step else (0, 0)
            guess = left + up - corner
            near = min((abs(guess - left), 0, left), (abs(guess - up), 1, up),
                       (abs(guess - corner), 2, corner))
            row[i] = (row[i] + near[2]) & 255


def read_png(path):
    data = Path(path).read_bytes()
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError(f"{path} is not a PNG file")
    at, packed, head = 8, b"", None
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        at += 12 + length
        if kind == b"IHDR":
            head = struct.unpack(">IIBBBBB", body)
        elif kind == b"IDAT":
            packed += body
    width, height, depth, color, *_, interlace = head
    step = {2: 3, 6: 4}.get(color)
    if depth != 8 or interlace or not step:
        raise ValueError(f"{path}: only plain 8-bit RGB and RGBA are read")
    raw, rows, above = zlib.decompress(packed), [], bytes(width * step)
    for y in range(height):
        begin = y * (width * step + 1)
        row = bytearray(raw[begin + 1:begin + 1 + width * step])
        _unfilter(raw[begin], row, above, step)
        above = row
        if step == 4:
            plain = bytearray(width * 3)
            plain[0::3], plain[1::3], plain[2::3] = row[0::4], row[1::4], row[2::4]
            row = plain
        rows.append(bytes(row))
    return Picture(width, height, b"".join(rows))


def read_ppm(path):
    data = Path(path).read_bytes()
    fields = data.split(None, 4)
    if fields[0] != b"P6" or fields[3] != b"255":
        raise ValueError(f"{path} is not an 8-bit PPM file")
    width, height = int(fields[1]), int(fields[2])
    return Picture(width, height, data[len(data) - width * height * 3:])

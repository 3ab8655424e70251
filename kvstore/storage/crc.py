"""CRC-32C, the checksum of everything on disk, and how checksums of parts make the checksum of the whole.

`combined` follows Mark Adler's crc32_combine in zlib (a linear map per length, by repeated squaring), with the Castagnoli
polynomial. It lets the checksum that a client computed over a 4 MiB value become part of a record's checksum without
anybody reading those 4 MiB again.
"""

from __future__ import annotations

import google_crc32c

from kvstore.mutation import Buffer

_POLYNOMIAL = 0x82F63B78


def crc32c(data: Buffer) -> int:
    """The CRC-32C of `data`. Free of copies only for `bytes`: the library takes nothing else."""
    return int(google_crc32c.value(data if type(data) is bytes else bytes(data)))


def extended(crc: int, data: Buffer) -> int:
    """The CRC-32C of what `crc` was computed over, followed by `data`."""
    return int(google_crc32c.extend(crc, data if type(data) is bytes else bytes(data)))


def _times(matrix: list[int], vector: int) -> int:
    total = 0
    for column in matrix:
        if vector & 1:
            total ^= column
        vector >>= 1
        if not vector:
            break
    return total


def _matrices() -> list[list[int]]:
    """Matrix k advances a CRC over 2**k zero bytes; enough for lengths below 4 GiB."""
    one_bit = [_POLYNOMIAL, *(1 << i for i in range(31))]
    matrix = one_bit
    for _ in range(3):  # one bit to eight bits
        matrix = [_times(matrix, column) for column in matrix]
    matrices = []
    for _ in range(32):
        matrices.append(matrix)
        matrix = [_times(matrix, column) for column in matrix]
    return matrices


_ADVANCE = _matrices()


def combined(first: int, second: int, second_length: int) -> int:
    """The CRC-32C of two pieces of data one after the other, from those of each and the length of the second, in bytes."""
    power = 0
    while second_length:
        if second_length & 1:
            first = _times(_ADVANCE[power], first)
        second_length >>= 1
        power += 1
    return first ^ second

"""Coverage-guided fuzzing of all readers of disk and wire: `python -m tests.unit.storage.fuzz --seconds 300`.

Each target takes arbitrary bytes. What it reads must be what was written, or an error of ours that says so; anything else
(another exception, a wrong value, a reader that never ends) is a finding: it is printed with the input, and the exit status
is 1. Checksums keep a fuzzer out, so targets whose names begin with `sealed` make the checksums right around its bytes.

The fuzzer is atheris (libFuzzer, `requirements-soak.txt`). It takes over the process it runs in, so each target has its own.
"""

from __future__ import annotations

import argparse
import contextlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["kvstore"]):
    import msgpack

    from kvstore import settings, wire
    from kvstore.connection import FrameReader
    from kvstore.errors import BadRequest, StorageFailure
    from kvstore.mutation import Bundle, check_bundle, decode_entry, decode_head
    from kvstore.storage import archive, checkpoint, manifest
    from kvstore.storage.cell import StoredCell
    from kvstore.storage.cellkey import cell_key, row_end, split_key
    from kvstore.storage.crc import crc32c, extended
    from kvstore.storage.records import Kind, decode_cells, decode_range, encode_range
    from kvstore.storage.results import ResultTable
    from kvstore.storage.segment import segment_name
    from kvstore.storage.segments import WalOptions
    from kvstore.storage.wal import Wal
    from tests.faults.disk import FaultyDisk
    from tests.unit.storage.engines import contents, reopened
    from tests.unit.storage.entries import entry, put
    from tests.unit.storage.test_damage import copied, files_of, judge, sample
    from tests.unit.storage.test_readers import CHECKPOINT, LOG, file_system
    from tests.unit.storage.test_split_damage import judge as judge_both
    from tests.unit.storage.test_split_damage import shared
    from tests.unit.storage.test_splitting import whole

Target = Callable[[bytes], None]
U32 = struct.Struct("<I")
FOUND = "var/fuzz"
"""Where inputs are kept that a reader failed on."""
FOLDER = sample()
SMALL = WalOptions(segment_size=8192)


def log(data: bytes) -> None:
    """The one segment of a log: what comes out of it are records that were written, in their order."""
    wal = Wal.open(file_system(f"/log/{segment_name(1)}", data), "/log", SMALL)
    firsts = []
    for _, record in wal.replay():
        assert record.payload == bytes([record.first]) * 100, record
        firsts.append(record.first)
    assert firsts == sorted(set(firsts))


def folder(data: bytes) -> None:
    """A whole data folder with other bytes here and there in one of its files (or a part of it missing)."""
    given = atheris.FuzzedDataProvider(data)
    path, changed = patched(given, FOLDER)
    judge(copied(FOLDER, path, changed), path, torn=True)


def split_folder(data: bytes) -> None:
    """The same with a folder of two replicas that were one; with the child's checkpoint, or without."""
    given = atheris.FuzzedDataProvider(data)
    disk = shared(given.ConsumeBool())
    path, changed = patched(given, disk)
    judge_both(copied(disk, path, changed), path, torn=True)


def patched(given: atheris.FuzzedDataProvider, disk: FaultyDisk) -> tuple[str, bytearray]:
    """One of the files with other bytes, and its name."""
    files = files_of(disk)
    path = files[given.ConsumeIntInRange(0, len(files) - 1)]
    changed = bytearray(disk.names[path].data)
    for _ in range(given.ConsumeIntInRange(1, 4)):
        at = given.ConsumeIntInRange(0, len(changed) - 1)
        patch = given.ConsumeBytes(given.ConsumeIntInRange(1, 60))
        changed[at : at + len(patch)] = patch
    if given.ConsumeBool():
        del changed[given.ConsumeIntInRange(0, len(changed)) :]
    return path, changed


def sealed_split(data: bytes) -> None:
    """A record of a split or a narrowing with its checksum, and anything in it: replicas that it has not ended have the cells
    that were there, as far as they lie in their ranges."""
    given = atheris.FuzzedDataProvider(data)
    engine = whole()
    everything = contents(engine)
    engine.append_commit(1, 4)
    kind = given.PickValueInList([Kind.SPLIT, Kind.NARROW])
    place = given.PickValueInList([0, 1]), given.PickValueInList([3, 4, 5])
    tablet = given.PickValueInList([1, 1, 1, 2])
    engine.wal.append(kind, tablet, *place, [given.ConsumeBytes(200)])
    engine.sync()
    again = reopened(engine)
    for replica in again.tablets.values():
        if replica.intact:
            found = contents(again, replica.id)
            start, end, _ = replica.range
            assert found.items() <= everything.items()
            assert found.keys() == {key for key in everything if start <= key[0] and (end is None or key[0] < end)}
        else:
            assert again.damage


def checkpoint_file(data: bytes) -> None:
    """A checkpoint: the one that was written, or refused."""
    files = file_system("/c", data)
    with contextlib.suppress(StorageFailure):
        checkpoint.load_checkpoint(files, "/c", ResultTable())
        assert data[: len(CHECKPOINT)] == CHECKPOINT


def sealed_checkpoint(data: bytes) -> None:
    """Chunks with right checksums and anything in them."""
    given = atheris.FuzzedDataProvider(data)
    magic = checkpoint.MAGIC + U32.pack(given.ConsumeIntInRange(0, 2))
    parts, crcs, index = [magic + U32.pack(crc32c(magic))], 0, 0
    while given.remaining_bytes() and index < 8:
        kind = given.ConsumeIntInRange(0, checkpoint.FOOT)
        payload = given.ConsumeBytes(given.ConsumeIntInRange(0, 200))
        if kind == checkpoint.FOOT:
            payload = msgpack.packb([index, crcs])
        body = struct.pack("<III", len(payload), kind, index)
        crc = U32.pack(extended(crc32c(body), payload))
        parts.append(crc + body + payload)
        crcs, index = extended(crcs, crc), index + 1
    files = file_system("/c", b"".join(parts))
    with contextlib.suppress(StorageFailure):
        checkpoint.load_checkpoint(files, "/c", ResultTable())


def manifest_file(data: bytes) -> None:
    """The folder's identity, as it is and with its checksum made right."""
    head = manifest.MAGIC + struct.pack("<III", 1, len(data), crc32c(data))
    for content in (data, head + data):
        with contextlib.suppress(StorageFailure):
            manifest.read_manifest(file_system("/data/store", content), "/data")


def archive_file(data: bytes) -> None:
    """A file of a backup, as it is and with its checksums made right."""
    magic = archive.MAGIC + U32.pack(archive.FORMAT)
    body = struct.pack("<II", len(data), 0)
    sealed = magic + U32.pack(crc32c(magic)) + U32.pack(extended(crc32c(body), data)) + body + data
    for content in (data, sealed):
        with tempfile.NamedTemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as file:
            file.write(content)
            file.flush()
            with contextlib.suppress(StorageFailure):
                list(archive.read_cells(file.name))


def results(data: bytes) -> None:
    """Remembered results: what is taken for a table is one, and comes back the same."""
    with contextlib.suppress(BadRequest):
        table = ResultTable.decode(data)
        assert ResultTable.decode(table.encode()).encode() == table.encode()


def log_entry(data: bytes) -> None:
    """An entry, as it lies in the log; and as a secondary gets it, if it is one that a primary could have made."""
    with contextlib.suppress(BadRequest):
        entry = decode_entry(1, 1, data)
        for bundle in entry.bundles:
            check_bundle(bundle)
        arrived = decode_entry(1, 1, data, entry.checksum)
        assert arrived.mutations == entry.mutations
        assert (list(arrived.outcomes), list(arrived.failed)) == (list(entry.outcomes), list(entry.failed))


def bundle_head(data: bytes) -> None:
    """A bundle's head, as a client sends it."""
    with contextlib.suppress(BadRequest):
        decoded = decode_head(data)
        check_bundle(Bundle(data, b"", len(decoded), decoded))


def cells(data: bytes) -> None:
    """Cell lists and ranges of the log's records; each cell that comes out can be looked at."""
    with contextlib.suppress(BadRequest):
        decode_range(data)
    for payload in (data, U32.pack(len(data)) + data):
        with contextlib.suppress(BadRequest):
            for _, packed in decode_cells(payload, 1, 4096):
                if packed is not None:
                    cell = StoredCell((packed,))
                    assert cell.size >= 0, (cell.version, cell.value)


def cell_keys(data: bytes) -> None:
    """Keys of cells: there and back, and in order."""
    given = atheris.FuzzedDataProvider(data)
    pairs = [(given.ConsumeUnicodeNoSurrogates(8), given.ConsumeUnicodeNoSurrogates(8)) for _ in range(2)]
    keys = [cell_key(*pair) for pair in pairs]
    assert [split_key(key) for key in keys] == pairs
    assert (keys[0] < keys[1]) == (pairs[0] < pairs[1])
    assert (cell_key(pairs[0][0], "") <= keys[1] < row_end(pairs[0][0])) == (pairs[0][0] == pairs[1][0])


class Bytes:
    """A socket that gives what it was given, and then its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv_into(self, buffer: memoryview) -> int:
        """See `socket.recv_into`."""
        count = min(len(buffer), len(self._data))
        buffer[:count], self._data = self._data[:count], self._data[count:]
        return count


def frames(data: bytes) -> None:
    """Frames of a connection, and the messages in them. A frame that is only begun takes no memory beforehand."""
    reader = FrameReader(Bytes(data), settings.MIB)
    with contextlib.suppress(BadRequest, EOFError):
        while True:
            for fields, bulk in reader.read():
                wire.read_message(fields, bulk)


def message(data: bytes) -> None:
    """One message with a bulk part: its first byte says how much of the rest that is."""
    bulk_length = data[0] if data else 0
    with contextlib.suppress(BadRequest):
        wire.decode(data[1 + bulk_length :], data[1 : 1 + bulk_length])


def _some_messages() -> list[bytes]:
    """A put, and what a node says to another."""
    said = wire.encode_get(1, 1, "row", "column", 9)
    head = entry(1, 1, [put("row", "column", b"v")]).bundles[0].head
    write = msgpack.packb([2, 0, 1, 1, [9], head])
    return [b"\0" + bytes(said[8:]), b"\0" + write]


def _some_entry() -> bytes:
    return b"".join(
        entry(1, 1, [put("row", "a", b"v"), put("row", "b", bytes(80))], [put("row", "c", b"")]).payload_parts
    )


def _some_cells() -> bytes:
    packed = struct.pack(">QQBIIII", 1, 2, 1, 8, 0, 0, 0)
    table = msgpack.packb([(b"row\0\0c", packed), (b"row\0\0d", None)])
    return U32.pack(len(table)) + table + bytes(8)


TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "log": (log, [LOG]),
    "folder": (folder, []),
    "split-folder": (split_folder, []),
    "sealed-split": (
        sealed_split,
        [encode_range("m", None, 2, 2) + bytes([0, 1, 1, 0]), encode_range("", "m", 2) + bytes([0, 1, 1, 1])],
    ),
    "checkpoint": (checkpoint_file, [CHECKPOINT]),
    "sealed-checkpoint": (sealed_checkpoint, []),
    "manifest": (manifest_file, [msgpack.packb(["0123456789abcdef", 1, 4096])]),
    "archive": (archive_file, [msgpack.packb([["row", "column", 1, 1, b"v"]])]),
    "results": (results, [msgpack.packb([[1, 0, bytes(8), bytes(8), bytes(8), b"\0", bytes(2)]])]),
    "entry": (log_entry, [_some_entry()]),
    "bundle": (bundle_head, [bytes(entry(1, 1, [put("row", "a", b"v")]).bundles[0].head)]),
    "cells": (cells, [_some_cells(), msgpack.packb(["a", None, 1]), encode_range("m", None, 2, 2)]),
    "cell-keys": (cell_keys, []),
    "frames": (frames, [wire.encode_get(1, 1, "row", "column", 9)]),
    "message": (message, _some_messages()),
}


def fuzz(name: str, seconds: int) -> None:
    """Fuzz one target in this process, which ends with it: status 0, or another after a finding."""
    target, seeds = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / f"seed{number}").write_bytes(seed)
        Path(FOUND).mkdir(parents=True, exist_ok=True)
        limits = [f"-max_total_time={seconds}", "-max_len=20000", "-timeout=20", "-rss_limit_mb=2048"]
        atheris.Setup(
            [sys.argv[0], *limits, "-print_final_stats=1", f"-artifact_prefix={FOUND}/{name}-", corpus], target
        )
        atheris.Fuzz()


def main(argv: list[str]) -> int:
    """Fuzz the targets, one after the other; 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.storage.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="in all")
    parser.add_argument("--target", choices=TARGETS, help="this one alone, in this process")
    options = parser.parse_args(argv)
    if options.target:
        fuzz(options.target, options.seconds)
    found = []
    each = max(1, options.seconds // len(TARGETS))
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.unit.storage.fuzz", "--target", name, "--seconds", str(each)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        runs = [line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line]
        print(
            f"{name}: {runs[0] if runs else 'no'} inputs in {each} s" + (", FOUND:" if done.returncode else ""),
            flush=True,
        )
        if done.returncode:
            found.append(name)
            told = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith(("INFO:", "#"))]
            print(*told, sep="\n", flush=True)
    print(f"fuzzed {len(TARGETS)} readers; found something in: {', '.join(found) or 'none'}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

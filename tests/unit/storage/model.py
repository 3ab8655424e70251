"""What an engine must hold, written down once more and simply: for the workloads that crash it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvstore.errors import StoreError
from kvstore.mutation import Entry, Version
from kvstore.storage.cell import DIGEST_MASK, BulkRef, StoredCell, cell_bytes, cell_digest
from kvstore.storage.engine import Engine
from kvstore.storage.replica import Learning
from kvstore.storage.tablet import Tablet
from tests.unit.storage.entries import delete, delete_row, put

ROWS = [f"row{i}" for i in range(5)]
Cells = dict[tuple[str, str], tuple[Version, bytes]]


@dataclass(frozen=True)
class TabletModel:
    """What a replica must be. `cells` holds everything logged, applied or not."""

    start: str
    end: str | None = None
    range_version: int = 1
    last: int = 0
    last_epoch: int = 0
    epoch: int = 0
    learning: Learning = Learning.INTACT
    cells: Cells = field(default_factory=dict, repr=False)
    tail: tuple[Entry, ...] = field(default=(), repr=False)
    numbers: tuple[tuple[int, int], ...] = ()
    """The last mutations' clients and numbers, which are their sequences, for the results."""

    @property
    def range(self) -> tuple[str, str | None, int]:
        """As a replica's."""
        return self.start, self.end, self.range_version

    @property
    def rows(self) -> list[str]:
        """Those of the workload's rows that are the tablet's."""
        return [row for row in ROWS if self.start <= row and (self.end is None or row < self.end)]


State = dict[int, TabletModel]


def carry_out(cells: Cells, new: Entry, batches: list[list[tuple[Any, ...]]]) -> None:
    """What an entry does to cells, written down once more and simply."""
    for sequence, batch in enumerate(batches, new.first):
        for kind, row, *rest in batch:
            if kind == "put":
                cells[row, rest[0]] = (Version(new.epoch, sequence), rest[1])
            elif kind == "delete":
                cells.pop((row, rest[0]), None)
            else:
                for key in [key for key in cells if key[0] == row]:
                    del cells[key]


def carry_out_entry(cells: Cells, new: Entry) -> None:
    """The same, from the entry itself."""
    batches = []
    for bundle in new.bundles:
        at = 0
        for mutation in bundle.mutations:
            batch: list[tuple[Any, ...]] = []
            for kind, row, *rest in mutation.operations:
                if kind == 0:
                    batch.append(put(row, *rest))
                elif kind == 1:
                    batch.append(put(row, rest[0], bytes(bundle.bulk[at : at + rest[1]])))
                    at += rest[1]
                else:
                    batch.append(delete(row, *rest) if kind == 2 else delete_row(row))
            batches.append(batch)
    carry_out(cells, new, batches)


def differs(engine: Engine, state: State) -> str | None:
    """How an engine differs from a state of the model; None if it does not."""
    if engine.tablets.keys() != state.keys():
        return f"tablets {sorted(engine.tablets)} for {sorted(state)}"
    for tablet, model in state.items():
        replica = engine.tablets[tablet]
        if replica.range != model.range:
            return f"tablet {tablet} has the rows {replica.range}, not {model.range}"
        if replica.learning is not model.learning:
            return f"tablet {tablet} is {replica.learning}, not {model.learning}"
        if model.learning is not Learning.INTACT:
            continue
        if (replica.last, replica.last_epoch, replica.epoch) != (model.last, model.last_epoch, model.epoch):
            return f"tablet {tablet} ends at {replica.last, replica.last_epoch, replica.epoch}, not {model}"
        cells: Cells = {(r, c): (x.version, _checked(engine, x.value, x)) for r, c, x in replica.tablet.scan()}
        for e in replica.tail:
            carry_out_entry(cells, e)
        if cells != model.cells:
            wrong = [k for k in cells.keys() | model.cells.keys() if cells.get(k) != model.cells.get(k)]
            return f"tablet {tablet}: cells differ: {[(k, _short(cells.get(k)), _short(model.cells.get(k))) for k in wrong]}"
        for client, number in model.numbers:
            if number <= replica.commit and replica.results.lookup(client, number) is None:
                return f"tablet {tablet}: the result of {number} of client {client} is forgotten"
        check_sums(replica.tablet)
    return None


def check_sums(tablet: Tablet) -> None:
    """What a tablet counts is what a look at every cell counts."""
    cells = list(tablet.walk(b"", None))
    bulk: dict[int, int] = {}
    for _, packed in cells:
        ref = StoredCell((packed,)).value
        if isinstance(ref, BulkRef):
            bulk[ref.segment] = bulk.get(ref.segment, 0) + ref.length
    counted = (tablet.cells, tablet.bytes, tablet.digest, tablet.bulk_bytes)
    digest = sum(cell_digest(*cell) for cell in cells) & DIGEST_MASK
    assert counted == (len(cells), sum(cell_bytes(*cell) for cell in cells), digest, bulk)
    for block, _, whole in tablet.pieces(b"", None):
        inside = list(block.cells.items())
        assert whole
        assert block.bytes == sum(cell_bytes(*cell) for cell in inside)
        assert (block.digest - sum(cell_digest(*cell) for cell in inside)) & DIGEST_MASK == 0


def up_to(numbers: tuple[tuple[int, int], ...], last: int) -> tuple[tuple[int, int], ...]:
    """Those of a model's `numbers` that are applied at `last`."""
    return tuple(n for n in numbers if n[1] <= last)


def all_below(e: Entry, row: str) -> bool:
    """Whether an entry touches only rows below this one."""
    return all(operation[1] < row for mutation in e.mutations for operation in mutation.operations)


def _short(cell: tuple[Version, bytes] | None) -> object:
    return cell and (tuple(cell[0]), len(cell[1]), cell[1][:8])


def _checked(engine: Engine, value: bytes | BulkRef, cell: Any) -> bytes:
    try:
        return engine.read(cell)
    except StoreError as error:
        return f"unreadable {value!r}: {error}".encode()

"""The cost model says of more nodes what the protocol's shape says, and nothing that its prices do not."""

from __future__ import annotations

import pytest

from tests.simulation import cost


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "WARM", 0.03)
    monkeypatch.setattr(cost, "MEASURED", 0.03)


def test_one_tablet_is_as_fast_as_its_primary_however_many_nodes_there_are() -> None:
    three, four = cost.measure(3, 1, puts=False), cost.measure(4, 1, puts=False)
    assert three.per_second == pytest.approx(1 / cost.NODE_GET, rel=0.03)
    assert four.per_second == pytest.approx(three.per_second, rel=0.03)
    assert four.idlest < 0.1


def test_spread_tablets_use_every_node() -> None:
    three, four = cost.measure(3, 6, puts=True), cost.measure(4, 8, puts=True, front_ends=4)
    assert three.idlest > 0.8
    assert four.idlest > 0.8
    assert four.per_second > 1.15 * three.per_second


def test_a_dearer_put_makes_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cost.measure(3, 1, puts=True).per_second
    monkeypatch.setattr(cost, "PRIMARY_PUT", 10 * cost.PRIMARY_PUT)
    assert cost.measure(3, 1, puts=True).per_second < before / 3

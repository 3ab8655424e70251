"""Who is healthy, and whose turn it is."""

from __future__ import annotations

from penncloud_site.loadbalancer import limits
from penncloud_site.loadbalancer.backends import Backend, BackendTable, Health


def healthy_table(count: int) -> BackendTable:
    table = BackendTable.of([("127.0.0.1", 9000 + number) for number in range(count)])
    for backend in table.backends:
        table.probe_succeeded(backend)
    return table


def test_a_new_front_end_gets_nothing_before_its_first_good_health_check() -> None:
    table = BackendTable.of([("127.0.0.1", 9000)])
    assert table.choose() is None
    assert table.probe_succeeded(table.backends[0]) is True
    assert table.choose() is table.backends[0]


def test_the_one_with_the_fewest_requests_is_chosen() -> None:
    table = healthy_table(3)
    for backend, active in zip(table.backends, (2, 1, 3), strict=True):
        backend.active = active
    assert table.choose() is table.backends[1]


def test_equals_take_turns() -> None:
    table = healthy_table(3)
    names = [chosen.name for _ in range(6) if (chosen := table.choose())]
    assert names == [backend.name for backend in table.backends] * 2


def test_one_that_failed_this_request_is_left_out_even_if_it_idles() -> None:
    table = healthy_table(2)
    first, second = table.backends
    second.active = 100
    assert table.choose(without=[first]) is second
    assert table.choose(without=[first, second]) is None


def test_a_refused_connection_puts_out_at_once_and_a_good_check_takes_back() -> None:
    table = healthy_table(2)
    first, second = table.backends
    assert table.connection_failed(first) is True
    assert first.health is Health.OUT
    assert first.failures == 1
    assert table.choose() is second
    assert table.connection_failed(first) is False, "it is out already"
    assert table.probe_succeeded(first) is True
    assert first.health is Health.HEALTHY


def test_slow_checks_put_out_only_in_a_row() -> None:
    table = healthy_table(1)
    (backend,) = table.backends
    for _ in range(limits.PROBE_FAILURES - 1):
        assert table.probe_failed(backend) is False
    table.probe_succeeded(backend)
    for _ in range(limits.PROBE_FAILURES - 1):
        assert table.probe_failed(backend) is False
    assert backend.health is Health.HEALTHY
    assert table.probe_failed(backend) is True
    assert backend.health is Health.OUT


def test_a_backend_is_called_by_its_address() -> None:
    assert Backend(("127.0.0.1", 7481)).name == "127.0.0.1:7481"

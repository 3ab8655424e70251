"""A checkpoint cannot be read: with it went the tablet's range, and where in its splits the replica stood. It learns anew."""

from __future__ import annotations

from kvstore.messages import Birth, Configuration, Member, Registered
from kvstore.node.node import Node
from kvstore.node.replica import Role
from kvstore.storage.engine import Engine
from kvstore.storage.replica import Learning
from kvstore.storage.upkeep import checkpoint, maintain, run_to_end
from tests.faults.disk import FaultyDisk, FaultyFiles
from tests.unit.storage.engines import opened, reopened, write
from tests.unit.storage.entries import put

ME, PRIMARY = Member("n1", 1), Member("n2", 1)
WHOLE = Configuration(1, "f", None, 1, 5, PRIMARY, (PRIMARY,), (ME,), ("n1", "n2"))
LOWER = Configuration(1, "f", "m", 2, 6, PRIMARY, (PRIMARY,), (ME,), ("n1", "n2"))
UPPER = Configuration(2, "m", None, 2, 6, PRIMARY, (PRIMARY,), (ME,), ("n1", "n2"), born=Birth(1, 1, 2, 2))


def made() -> Engine:
    """An engine with tablet 1, the rows from "f" on, and a checkpoint of it."""
    engine = opened(FaultyDisk(), segment_size=8192)
    engine.create_tablet(1, "f", None, 1)
    write(engine, [put("g", "c", b"1")], [put("z", "c", b"2")])
    run_to_end(engine, checkpoint(engine, engine.tablets[1]))
    return engine


def with_unreadable_checkpoints(engine: Engine) -> Engine:
    """What opens when a bit of each checkpoint was flipped."""
    assert isinstance(engine.files, FaultyFiles)
    for replica in engine.tablets.values():
        if replica.checkpoint is not None:
            engine.files.disk.names[engine.checkpoint_path(replica.id, replica.checkpoint.number)].data[100] ^= 1
    again = reopened(engine)
    assert {replica.learning for replica in again.tablets.values()} == {Learning.DAMAGED}
    again.sync()
    return again


def learning(engine: Engine, *configurations: Configuration) -> Engine:
    """What opens after a node on it heard that it learns these tablets, and began."""
    node = Node("n1", engine, boot_id="boot", started=0.0)
    node.from_coordinator(Registered(1, "cluster", ".*", list(configurations), {}), 10.0)
    for configuration in configurations:
        assert node._replicas[configuration.tablet].role is Role.LEARNER
    node.tick(10.02)
    assert {replica.learning for replica in engine.tablets.values()} == {Learning.HOLDING}
    engine.sync()
    return reopened(engine)


def test_a_replica_whose_checkpoint_cannot_be_read_learns_the_range_of_its_configuration() -> None:
    engine = with_unreadable_checkpoints(made())
    assert learning(engine, WHOLE).tablets[1].range == ("f", None, 1)


def test_it_waits_for_no_birth_that_it_may_have_been_through() -> None:
    engine = with_unreadable_checkpoints(made())
    again = learning(engine, LOWER, UPPER)
    assert (again.tablets[1].range, again.tablets[2].range) == (("f", "m", 2), ("m", None, 2))


def test_a_split_in_its_log_does_not_tell_it_half_a_range() -> None:
    engine = made()
    engine.split_tablet(1, 2, "m", 1, 2, 2)
    engine.sync()
    run_to_end(engine, checkpoint(engine, engine.tablets[2]))
    again = learning(with_unreadable_checkpoints(engine), LOWER, UPPER)
    assert (again.tablets[1].range, again.tablets[2].range) == (("f", "m", 2), ("m", None, 2))


def test_a_narrowing_in_its_log_does_not_tell_it_half_a_range() -> None:
    engine = made()
    engine.narrow_tablet(1, "m", 2)
    engine.sync()
    assert learning(with_unreadable_checkpoints(engine), LOWER).tablets[1].range == ("f", "m", 2)


def test_a_tablet_that_is_dropped_does_not_come_back_by_a_checkpoint_that_cannot_be_read() -> None:
    """What is made in its place later would be taken for the damaged one, when the log that told of the dropping is gone."""
    engine = with_unreadable_checkpoints(made())
    engine.drop_tablet(1)
    engine.create_tablet(3, "a", "b", 1)
    for column in ("1", "2", "3"):
        write(engine, [put("a", column, bytes(6000))], tablet=3)
    run_to_end(engine, checkpoint(engine, engine.tablets[3]))
    engine.create_tablet(1, "f", None, 1)
    engine.sync()
    maintain(engine)
    again = reopened(engine)
    assert again.tablets[1].intact
    assert again.damage == []

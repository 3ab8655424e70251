"""What a node answers to one who asks for the tablet map."""

from __future__ import annotations

from kvstore.messages import GetMap, Registered, TabletMap
from kvstore.node.effects import Reply
from kvstore.node.node import Node
from tests.simulation.disk import SimulatedDisk, SimulatedEngine


def told_map(node: Node) -> TabletMap:
    node.client_request("asked", GetMap(), 0.0)
    (answer,) = [effect.message for effect in node.take_effects() if isinstance(effect, Reply)]
    assert isinstance(answer, TabletMap)
    return answer


def test_a_node_that_has_not_heard_the_group_rule_names_none() -> None:
    """A client that asked everybody after a power cut would else take the placeholder for the cluster's rule, and refuse
    batches of several rows."""
    node = Node("node1", SimulatedEngine(SimulatedDisk("node1")), boot_id="1", started=0.0)
    assert told_map(node).group_rule == ""
    node.from_coordinator(Registered(1, "cluster", "[^:]+", [], {}), 0.0)
    assert told_map(node).group_rule == "[^:]+"

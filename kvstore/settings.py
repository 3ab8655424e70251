"""Every limit and every time of the store, in one place, with the inequalities that tie them asserted.

Times are seconds, sizes bytes.
"""

from __future__ import annotations

KIB = 1024
MIB = 1024 * KIB

# --- sizes
MAX_VALUE = 8 * MIB
"""Largest value of one cell."""
MAX_BATCH = 16 * MIB
"""Largest batch: keys and values together."""
MAX_OPERATIONS = 10_000
"""Most operations and requirements in one batch."""
BULK_VALUE = 16 * KIB
"""Values of this size and more stay in the log segment where they were first written; memory holds a pointer."""
MAX_MESSAGE = 20 * MIB
"""Largest msgpack part of one frame: a batch of small values is all in there."""
MAX_BULK = 20 * MIB
"""Largest bulk part of one frame from a client."""
MAX_PEER_BULK = 256 * MIB
"""Largest bulk part of one frame from a node: several entries may come in one."""
SCAN_PAGE_CELLS = 500
SCAN_PAGE_BYTES = 1 * MIB
"""A page of a scan ends at whichever of the two comes first (one cell at least)."""

# --- the disk
DISK_RESERVE = 256 * MIB
"""A node refuses writes when less than this is free on its disk."""
MOVE_LEAVES = 4 * DISK_RESERVE
"""A replica is moved only to a node whose disk will have this much free besides: while it is copied, log and checkpoint hold
the small values twice, and a disk that got full would cost that node its part in all its tablets."""

# --- the log
LOG_SYNC = "kernel"
"""Who writes and syncs a node's log: `kernel`, `loop` or `thread` (`kvstore.storage.commit` says what each means)."""

# --- the scrub
SCRUB_PERIOD = 7 * 86_400.0
"""Every large value and every checkpoint is read again within so long; a node may be told otherwise when it starts."""
SCRUB_PERIOD_LEAST = 1.0

# --- replication
MIN_IN_SYNC = 1
REPLICATION = 3
MAX_ENTRIES_IN_FLIGHT = 2
"""Entries of one tablet that were sent and are not committed; what arrives meanwhile is gathered into the next one."""
FEW_WRITES = 8
"""Mutations of an entry beside which another goes out, if the entry has not more than `LITTLE_TO_MOVE` bytes either."""
MANY_WRITES = 200
"""So many mutations that wait go out beside whatever is on its way."""
LITTLE_TO_MOVE = 8 * KIB
MUCH_TO_MOVE = 256 * KIB
"""Beside an entry of so many bytes another goes out too. Beside any other none does: it would cost every replica another sync
and save little, for what waits is gathered meanwhile."""
MAX_ENTRY = 16 * MIB
"""An entry is closed when its mutations reach this many bytes; one more batch may lie above that."""
MAX_WAITING = 10_000
"""Requests of one tablet that wait for an entry; more are refused with `Overloaded`."""
COMMIT_NOTICE = 0.005
"""A commit point that no further entry carried is sent by itself after this long."""

# --- leases between nodes
BEACON_INTERVAL = 0.25
LEASE = 1.0
"""A primary's lease lasts this long from when its beacon was *sent*."""
GRANT_WAIT = 1.25
"""A grantor does not take over for this long from when the beacon was *received*."""
CLOCK_DRIFT = 0.01
"""Largest relative difference between the speeds of two nodes' clocks."""

# --- failure detection
HEARTBEAT_INTERVAL = 0.25
HEARTBEAT_SUSPECT = 0.75
HEARTBEAT_DEAD = 1.5
"""A node that was silent for this long is taken for dead by the coordinator."""
COORDINATOR_GRACE = 2.0
"""A restarted coordinator promotes nobody for this long: silence before it listened says nothing."""
SECONDARY_SILENT = 1.0
"""A primary asks to have a secondary removed when it has not acknowledged anything for this long while something waits."""
DISK_STALL = 1.0
"""A node whose log has had something to write for this long without reaching the disk is not healthy."""

# --- placement
REBUILD_AFTER = 300.0
"""A replica whose node was gone for this long is rebuilt on a spare one; a cluster's operator may choose otherwise."""
REBUILD_AFTER_LEAST = 2.0
"""The shortest that an operator may choose: a restart must not cost a copy of everything."""
REBUILDS_AT_ONCE = 2
"""Tablets that one node is given to rebuild at the same time; the next when one of them is in sync."""
SEASONED = 1.3
"""A process that the coordinator has heard for this long may lead at once: no promise of its node's former life holds."""
LEAD_STEADY = 5.0
"""A tablet whose set was full and unchanged for this long goes back to the node that its order names first."""
LEAD_STEADY_MOST = 320.0
"""That time doubles with each fault of the node within `FAULT_REMEMBERED`, up to this."""
FAULT_REMEMBERED = 600.0
SPREAD = True
"""Whether replicas and leads spread by themselves over nodes that join; a cluster's operator may choose otherwise."""
SPREAD_STEADY = 2.0
"""Data spreads one step further when no configuration has changed for this long."""
HAND_BACK_PAUSE = 1.0
"""From one hand-back to the next, of whichever tablets."""

# --- splitting
SPLIT_ABOVE = 512 * MIB
"""A tablet with more bytes than this in memory is split by itself; a cluster's operator may choose otherwise."""
SPLIT_ABOVE_LEAST = 1 * MIB
"""The smallest that an operator may choose: each tablet costs every node messages and memory."""
SPLIT_ABOVE_BULK = 32
"""Values that are not in memory count this much less: 16 GiB of them are as many as 512 MiB in memory."""
SPLIT_AGAIN = 30.0
"""After a proposal to split a tablet it gets no other for this long, unless an operator asks: what was declined once will be
declined again in a moment."""
SPLIT_ANSWER = 5.0
"""An operator who asks for a split is told after this long that it has not come about, if it has not."""
SPLIT_DRAIN = 0.5
"""A primary that prepares a split lets writes wait for at most this long until all that was logged is on every member's disk;
then it goes on, and declines."""

# --- clients and connections
DEFAULT_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 5.0
"""A connection that has not proved the cluster key after this long is dropped."""
MAX_STRANGERS = 256
"""Connections that have not proved the cluster key yet; a further one is dropped at once."""
CONNECT_TIMEOUT = 1.0
PATIENCE = 1.0
"""A client whose request is unanswered for this long asks for a newer tablet map."""
DEAD_CONNECTION = 10.0
"""A connection whose bytes were not acknowledged by the other machine for this long is given up."""
MAX_UNSENT = 64 * MIB
"""A node reads no further requests from a client that leaves this many bytes of answers unread."""
MAX_PEER_UNSENT = 512 * MIB
"""A connection to a peer that falls this far behind is closed."""
RETRY_PAUSE = 0.01
RETRY_PAUSE_MOST = 0.2
RESULTS_PER_CLIENT = 8192
"""A tablet remembers at most this many results of one client for the suppression of repeats."""
CLIENTS_REMEMBERED = 10_000

assert LEASE * (1 + CLOCK_DRIFT) < GRANT_WAIT * (1 - CLOCK_DRIFT), "a lease must end before its grantor may take over"
assert BEACON_INTERVAL * 3 < LEASE, "a lease must survive a lost beacon"
assert HEARTBEAT_INTERVAL * 3 <= HEARTBEAT_SUSPECT < HEARTBEAT_DEAD
assert HEARTBEAT_DEAD < COORDINATOR_GRACE, "the grace must let every live node be heard"
assert HEARTBEAT_DEAD + GRANT_WAIT < 3.0, "a hung node's tablets must take writes again within 3 s"
assert GRANT_WAIT * (1 + 3 * CLOCK_DRIFT) < SEASONED, "who is seasoned by the coordinator's clock is so by its own"
assert SEASONED < LEAD_STEADY, "no lead is handed to a process that would have to wait first"
assert HEARTBEAT_DEAD < REBUILD_AFTER_LEAST <= REBUILD_AFTER
assert SPLIT_DRAIN < SECONDARY_SILENT, "who keeps a split waiting is not yet to be removed for it"
assert FEW_WRITES < MANY_WRITES < MAX_WAITING
assert LITTLE_TO_MOVE < MUCH_TO_MOVE < MAX_ENTRY
assert 0 < SPLIT_ABOVE_LEAST <= SPLIT_ABOVE
assert BULK_VALUE <= MAX_VALUE < MAX_BATCH <= MAX_BULK
assert MAX_BATCH + 64 * MAX_OPERATIONS <= MAX_MESSAGE, "the largest batch must fit into one frame"
assert (MAX_ENTRIES_IN_FLIGHT + 2) * (MAX_ENTRY + MAX_BATCH + MIB) <= MAX_PEER_BULK, "so must what a member lacks"

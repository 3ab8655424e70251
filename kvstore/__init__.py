"""A replicated key-value store that loses nothing it has acknowledged.

This package is the whole store: the nodes that hold the data, the coordinator that decides who leads, the client that finds
its way. It knows neither Django nor any application; what it knows of them is one regular expression, handed over when a
cluster is made. Who reads only docstrings should read them in the order of this page.


What is stored
--------------

A *cell* is (row, column) → value: two pieces of text, ordered by their UTF-8 bytes, and up to 8 MiB of bytes
(`kvstore.keys`, `kvstore.settings`). Rows lie in *tablets* by key range, [start, end); each tablet is replicated by itself.
Every cell carries its *version*, the (epoch, sequence) of the mutation that wrote it, which in a tablet only grows.

A *mutation* is requirements and operations that are applied together or not at all (`kvstore.mutation`). Its rows lie in one
*group*, which the cluster's group rule cuts out of a row's beginning; a tablet is split only between groups, so a mutation
never spans two of them.


What is promised
----------------

- *Acknowledged is durable.* When `put` returns, the write is in the log, and the log on disk, of every replica in the
  tablet's in-sync set. Kill any process, any machine, all of them at once: it is there.
- *Reads and writes are linearizable*: each takes effect at one moment between its call and its return, for all callers in
  the same order. A read after a write sees it, whoever asks and whichever node answers.
- *Once.* A mutation is applied once, however often the network made the client send it: each carries (client, number), and
  tablets remember the results.
- *Three outcomes, never confused*: done, refused (nothing happened), unknown (`kvstore.errors`). What is unknown the client
  finds out by itself inside the caller's deadline, by asking again with the same number.
- *No wrong value.* What is read back from disk is checked against its checksum; a replica that is damaged says so, and is
  rebuilt from another. Replicas compare digests.
- *It goes on*: with one replica left of a tablet it is readable and writable; without the coordinator too, as long as the
  nodes stay up. When a node dies, its tablets are led by another within a second or two, within a moment if somebody says
  that it died. If it stays away, what it held is rebuilt on a spare node. When a node goes because somebody asked it to, no
  request fails or waits for more than a moment. Data spreads by itself over nodes that join.

What is not promised: nothing is encrypted on the wire or on disk (the cluster key keeps strangers out, see
`kvstore.handshake`); a node that lies is believed; if every in-sync replica of a tablet is lost for good, the tablet waits
for one to come back and is not opened from an older copy.


How
---

Primary and secondaries under an outside configuration manager, after PacificA (Lin et al., Microsoft Research, 2008). The
rules stand in `docs/replication.md`; where each is kept is said at the code that keeps it.

    a write     client → primary: into the log here and, at the same time, to every in-sync secondary; when all of them
                have it on disk it is committed, applied and answered
    a read      at the primary, which reads, *then* looks whether it still holds a lease from every in-sync secondary
    a failure   the coordinator, which alone makes configurations and each with the next epoch, takes a member out of the
                set or puts another in the lead; who led before cannot answer any more when the next one begins
    a return    a learner logs the primary's stream, compares all keys and versions, fetches what differs, and is taken in


The parts
---------

Pure decisions, `event in → effects out`, with no socket, disk, clock, thread or random number in them; servers and the
simulator carry out the same effects:

    node/node.py                a storage node: replicas, leases, learners
    coordinator/coordinator.py  the coordinator: who is alive, who leads what, who holds what
    tabletmap.py, retry.py      the client's map, and what it does after an attempt without result

What carries effects out:

    node/server.py              sockets, clock and loop around a node; `storage/` is its disk
    coordinator/server.py       the same around the coordinator; `coordinator/journal.py` is its disk
    client.py                   what applications import: `connect`, `Client`, `Batch`
    admin.py                    status and control of a cluster
    __main__.py, shell.py       the command line

The vocabulary, which all of them share and which imports nothing above itself:

    errors.py keys.py settings.py clock.py mutation.py messages.py questions.py

The wire, from the bytes up:

    codec.py                    dataclasses to arrays and back
    wire.py                     frames: the specification of every byte between processes
    handshake.py                both sides prove that they hold the cluster key
    connection.py               reading frames, sending many at once, without waiting
    greenlets.py, threads.py    who waits: gevent's loop, or plain threads
    dialer.py, link.py          a server's lasting connection to another; a client's to a node
    routing.py                  where a client's request goes, and where it goes next

Servers run one thread on gevent's loop and say so explicitly (`gevent.socket`, never a patched `socket`). The client works
in plain threads, and in a patched process on greenlets.
"""

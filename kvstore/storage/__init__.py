"""The storage engine of a node: one log, cells in memory, checkpoints; nothing lost, nothing wrong returned.

Read in this order: `files` (the only door to the disk), `segment` (the log's format), `segments`, `wal` (the log), `cell`,
`block`, `tablet` (cells in memory), `results`, `records` (what the engine logs), `checkpoint`, `manifest`, `replica`,
`recovery`, `engine` (what others use), `upkeep`, `compaction`, `scrubround`, `scrub` (background work, in slices), `commit` and
`maintenance` (what drives it all in a server).
"""

"""The supervisor: starts the processes of one machine's cluster, watches them, restarts them, stops them.

What it promises:

- **One cluster for each data folder** (`data_folder`): a second one is refused, whatever became of the first.
- **A process that dies is noticed at once** (SIGCHLD) and started again with growing pauses (`restarts`). When it was a
  storage node, the coordinator is told at once, so that nobody has to wait for its lease.
- **It never kills what merely looks hung.** Whether a node may serve is decided by leases and the coordinator; a front
  end that hangs is taken out by the balancer. A supervisor that guessed would turn a slow disk into an outage.
- **Nothing outlives it.** A stop ends everything within STOP_TIMEOUT, in an order in which nobody loses its server
  first. If the supervisor itself is killed, the kernel kills its children (`launch`), and the next start finds a free
  machine and all the data.

The modules: `options` (what was asked for), `data_folder` (files, keys, the lock), `ports`, `plan` (which processes,
pure), `restarts` (when again, pure), `child` (one process), `supervisor` (the loop), `startup` (the order of a start),
`control` (the socket by which the console acts), `report` (what the terminal shows), `launch`, `pidfile`, `addresses`.
"""

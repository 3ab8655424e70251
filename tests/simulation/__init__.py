"""Whole clusters in one process under virtual time: the state machines that the servers run, with everything around them
played badly. One seed replays one run exactly. See `tests.simulation.run` and `python -m tests.simulation --help`."""

"""`python launch.py <supervisor's pid> <command…>`: become the command, tied to the life of the supervisor.

Linux kills this process when the thread that started it is gone (PR_SET_PDEATHSIG; it survives exec). SIGKILL and not
SIGTERM: a stopped or hung child must not live on either, and the store loses nothing by a kill. It is a program of its
own because Python code between fork and exec is not safe in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    supervisor, command = int(sys.argv[1]), sys.argv[2:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != supervisor:
        sys.exit("the supervisor is gone")  # it died before the line above could tie us to it
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()

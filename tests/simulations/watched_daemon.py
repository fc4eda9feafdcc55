"""A program: the member's real daemon, with every socket, process and written file noted by the interpreter.

    python watched_daemon.py HOME NOTES

Each line of NOTES is [event, what]. It says nothing of the daemon's own code: the hook is the interpreter's.
"""

import json
import os
import sys
from pathlib import Path

WATCHED = {
    "socket.__new__", "socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo",
    "socket.gethostbyname", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
    "smtplib.connect", "urllib.Request", "http.client.connect", "ftplib.connect",
}  # fmt: skip


def watch(notes: int) -> None:
    """Write down whatever could carry something out of this process."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in WATCHED:
            what = repr(arguments[1:] if event.startswith("socket.") else arguments[:1])
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            what = os.path.realpath(os.fsdecode(arguments[0])) if isinstance(arguments[0], (str, bytes)) else ""
        elif event in ("os.rename", "os.link", "os.symlink"):
            what = os.path.realpath(os.fsdecode(arguments[1]))
        elif event == "sqlite3.connect":
            what = os.path.realpath(os.fsdecode(arguments[0]))
        else:
            return
        os.write(notes, json.dumps([event, what]).encode() + b"\n")

    sys.addaudithook(hook)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    home, notes = sys.argv[1:]
    watch(os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    sys.argv = ["client.serve", home]
    from client.serve import main

    main()

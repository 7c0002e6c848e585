"""Bottles as a user has them: started and left running, listed, and on a terminal."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import bottle


def wait_for(what, seconds=15):
    assert bottle.wait_until(what, seconds), "time is up"


def detach(home, *command, options=()):
    r = home.run("start", "worker", "--detach", *options, "--", *(command or ("sleep", "600")))
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    assert re.fullmatch(r"worker-[a-z0-9]+\n", r.stdout)
    return r.stdout.strip()


STUBBORN = ("sh", "-c", "trap '' TERM HUP; echo ready; while :; do sleep 1; done")


def states(home):
    r = home.run("list", "--all", "--json")
    return {b["slug"]: b for b in json.loads(r.stdout)}


class Terminal:
    def __init__(self, home, *args, cwd=None, rows=31, columns=101):
        self.master, self.slave = pty.openpty()
        self.set_size(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            home.argv(args), env=home.env(), cwd=cwd or home.cwd, stdin=self.slave, stdout=self.slave,
            stderr=self.slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.seen = b""

    def expect(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.2)[0]:
                self.seen += os.read(self.master, 65536)
        before, self.seen = self.seen.split(text, 1)
        return before

    def type(self, data):
        os.write(self.master, data)

    def wait(self, seconds=20):
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.seen
            if select.select([self.master], [], [], 0.1)[0]:
                self.seen += os.read(self.master, 65536)
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def set_size(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        self.set_size(rows, columns)
        os.kill(self.process.pid, signal.SIGWINCH)

    def interrupt_a_command(self):
        """At a shell's prompt: the command ends, the shell does not."""
        self.type(b"sleep 60\n")
        time.sleep(0.3)
        self.type(b"\x03")
        self.type(b"echo st''ill\n")
        self.expect(b"still")

    def hang_up(self):
        """What is left to close() is another terminal."""
        os.close(self.master)
        os.close(self.slave)
        self.master, self.slave = pty.openpty()

"""A terminal that a program draws on: tmux on a socket of its own."""
import os
import shutil
import subprocess
import time

import pytest


class Screen:
    """Runs one shell command in a terminal. What it writes, byte for byte, is collected in raw()."""

    def __init__(self, folder, command, env, rows=30, columns=100, term=None):
        if not shutil.which("tmux"):
            pytest.skip("tmux is missing")
        self.socket, self.raw_path = f"{folder}/tmux.sock", f"{folder}/raw"
        # tmux sets TERM itself; another one is the command's.
        if term:
            command = f"TERM={term}; export TERM; {command}"
        self.env = {**env, "LC_ALL": env.get("LC_ALL", "C.UTF-8")}
        start = f"{folder}/start"
        # Nothing is written before it is collected.
        script = f"while [ ! -e {start} ]; do sleep 0.02; done; {command}\nr=$?; echo; echo 'ended: '$r; exec sleep 1000"
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), "sh", "-c", script,
                  ";", "pipe-pane", "-O", f"cat >{self.raw_path}", ";", "set", "-g", "window-size", "manual")
        open(start, "w").close()

    def tmux(self, *words, check=True):
        r = subprocess.run(["tmux", "-u", "-S", self.socket, *words], env=self.env, capture_output=True, text=True,
                           timeout=20)
        assert r.returncode == 0 or not check, r.stderr
        return r.stdout

    def text(self, *flags):
        return self.tmux("capture-pane", "-p", *flags)

    def lines(self):
        return self.text().split("\n")

    def value(self, name):
        return self.tmux("display", "-p", f"#{{{name}}}").strip()

    def raw(self):
        """Once no more comes: what has been drawn gets here by way of another process."""
        size = -1
        while size != (size := os.stat(self.raw_path).st_size):
            time.sleep(0.15)
        with open(self.raw_path, "rb") as f:
            return f.read()

    def expect(self, *texts, seconds=10, absent=()):
        end = time.monotonic() + seconds
        while True:
            shown = self.text()
            if all(t in shown for t in texts) and not any(t in shown for t in absent):
                return shown
            assert time.monotonic() < end, f"{texts} without {absent} in:\n{shown}"
            time.sleep(0.02)

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, rows, columns):
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def pid_of(self, name):
        """Of the program under the pane's shell."""
        out = subprocess.run(["pgrep", "-P", self.value("pane_pid"), "-f", name], capture_output=True, text=True).stdout
        return int(out.split()[0])

    def is_put_back(self):
        """No alternate screen, a cursor, no keypad, and a terminal that echoes lines."""
        tty = self.value("pane_tty")
        modes = subprocess.run(["stty", "-a", "-F", tty], capture_output=True, text=True).stdout.split()
        return ([self.value(v) for v in ("alternate_on", "cursor_flag", "keypad_cursor_flag")] == ["0", "1", "0"]
                and "icanon" in modes and "echo" in modes and "-icanon" not in modes)

    def close(self):
        self.tmux("kill-server", check=False)
        if os.path.exists(self.socket):
            os.unlink(self.socket)

#!/usr/bin/python3
"""gitssh between a real git and a real sshd: keyd, egress and gitssh are the bundle's own roles, as
init would start them; this module stands in for init, for git-gate and for the record role."""
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import bottle

HOST = "git.example.test"
GITSSH = 4  # BUNDLE_ROLE_GITSSH
UPLOAD, RECEIVE = 1, 2
BUNDLE = os.path.join(bottle.build_folder(), "claude-bottle-bundle")
UID_BASE = 61940
SECRET_SSH_KEY = 4


def keygen(path, kind="ed25519", *more):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "it", "-f", path, *more],
                   check=True)
    return path


def public(path):
    return " ".join(open(path + ".pub").read().split()[:2])


def fingerprint(path):
    return subprocess.run(["ssh-keygen", "-lf", path + ".pub"], check=True, capture_output=True,
                          text=True).stdout.split()[1]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Sshd:
    """A server of the current user's on a port of loopback; lines: further configuration."""

    def __init__(self, folder, host_keys, authorized, lines=()):
        os.makedirs(folder)
        self.port = free_port()
        self.log = f"{folder}/log"
        open(f"{folder}/authorized_keys", "w").write("".join(k + "\n" for k in authorized))
        config = f"{folder}/config"
        with open(config, "w") as f:
            f.write(f"ListenAddress 127.0.0.1:{self.port}\nPidFile none\nUsePAM no\n"
                    f"StrictModes no\nPasswordAuthentication no\nPrintMotd no\n"
                    f"KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
                    f"AuthorizedKeysFile {folder}/authorized_keys\nLogLevel VERBOSE\n")
            for k in host_keys:
                f.write(f"HostKey {k}\n")
            for line in lines:
                f.write(line + "\n")
        argv = [shutil.which("sshd", path="/usr/sbin:/usr/local/sbin"), "-D", "-e", "-f", config]
        if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
            # Its folder for privilege separation, in a mount namespace of its own.
            argv = ["unshare", "-m", "sh", "-c",
                    'mount -t tmpfs none /run && mkdir /run/sshd && exec "$0" "$@"', *argv]
        self.process = subprocess.Popen(argv, stderr=open(self.log, "w"), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("sshd does not listen: " + open(self.log).read())

    def close(self):
        self.process.terminate()
        self.process.wait(10)


class Server:
    """A port on which `talk(connection)` is all there is."""

    def __init__(self, talk):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.talk = talk
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            try:
                self.talk(c)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def cut_after(port, n_bytes):
    """A server that passes on what the one on `port` says, and goes after so many bytes of it."""

    def talk(c):
        left = n_bytes
        with socket.create_connection(("127.0.0.1", port)) as up:
            while left > 0:
                ready, _, _ = select.select([c, up], [], [], 30)
                if not ready:
                    return
                if c in ready:
                    data = c.recv(65536)
                    if not data:
                        return
                    up.sendall(data)
                if up in ready:
                    data = up.recv(min(left, 65536))
                    if not data:
                        return
                    c.sendall(data)
                    left -= len(data)

    return Server(talk)


def remote(name, port, path, credential, host_key, host=HOST, user=None):
    return {"name": name, "transport": "ssh", "host": host, "port": port, "path": path,
            "user": user or subprocess.run(["id", "-un"], capture_output=True, text=True).stdout.strip(),
            "credential": credential, "host_key": host_key, "branches": ["**"], "protected": [],
            "tags": [], "protect_head": True, "force": False, "delete": False, "stale": False,
            "oversize": False, "max_object": 1 << 20, "max_pack": 1 << 30, "allow": []}


def memory(name, data):
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


class World:
    def __init__(self, remotes, keys, resolve=None):
        """remotes: of remote(); keys: the files of the private keys, by credential."""
        addresses = resolve if resolve is not None else [{"host": HOST, "address": "127.0.0.1"}]
        config = {"version": 1, "slug": "it", "pinned": "10.209.0.2", "supervised": False,
                  "uid_base": 0, "policy": {"version": 1, "resolve": addresses, "routes": []},
                  "git_folder": "/nowhere", "git": {"version": 1, "remotes": remotes,
                                                    "enforce_identity": False}}
        secrets = b""
        for n, path in enumerate(keys):
            text = open(path, "rb").read()
            secrets += struct.pack("IIII", SECRET_SSH_KEY, n, 0, len(text)) + text
        self.config = memory("config", json.dumps(config).encode())
        self.secrets = memory("secrets", secrets)
        self.state = memory("state", b"")
        pair = lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # noqa: E731
        self.record, self.record_in = pair()
        self.record.settimeout(10)
        self.keyd = pair()
        self.egress_keyd = pair()
        self.agent_egress = pair()
        self.git_egress = pair()
        self.dial = pair()
        self.stream = pair()
        self.roles = {}
        self.start("keyd", 1, secrets=self.secrets, state=self.state,
                   ask2=self.egress_keyd[1], **{f"ask{GITSSH}": self.keyd[1]})
        self.start("egress", 2, keyd=self.egress_keyd[0], egress=self.agent_egress[1],
                   git_egress=self.git_egress[1], dial=self.dial[1])
        self.start("gitssh", GITSSH, keyd=self.keyd[0], stream=self.stream[1], dial=self.dial[0])

    def start(self, role, number, wrap=(), **fds):
        ready, ready_in = os.pipe()
        fds = {"config": self.config, "ready": ready_in, "record": self.record_in, **fds}
        numbers = {k: v if isinstance(v, int) else v.fileno() for k, v in fds.items()}
        uid = UID_BASE + number if os.geteuid() == 0 else 0
        # Life 0: no init has told keyd of another.
        argv = [*wrap, BUNDLE, "role", role, f"uid={uid}", "life=0"]
        argv += [f"{k}={v}" for k, v in numbers.items()]
        self.roles[role] = subprocess.Popen(argv, pass_fds=list(numbers.values()),
                                            stdin=subprocess.DEVNULL, process_group=0)
        os.close(ready_in)
        said = os.read(ready, 1)
        os.close(ready)
        if said != b"1":
            raise RuntimeError(f"{role} does not start")

    def close(self):
        for p in self.roles.values():
            p.terminate()
        for p in self.roles.values():
            p.wait(10)

    # --- git-gate's part ---

    def ask(self, place=0, service=UPLOAD, raw=None):
        """The stream and the pipe of why."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        why, why_in = os.pipe()
        socket.send_fds(self.stream[0], [raw or struct.pack("HHI", place, service, 0)],
                        [theirs.fileno(), why_in])
        theirs.close()
        os.close(why_in)
        return ours, why

    @staticmethod
    def why(fd, timeout=30):
        text = b""
        while select.select([fd], [], [], timeout)[0]:
            data = os.read(fd, 4096)
            if not data:
                os.close(fd)
                return text.decode()
            text += data
        raise AssertionError(f"no end of why: {text!r}")

    def failure(self, place=0, service=UPLOAD):
        stream, why = self.ask(place, service)
        with stream:
            return self.why(why, 40)

    def git(self, *args, place=0, cwd=None, check=True):
        env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1",
               "GIT_SSH_VARIANT": "simple", "GIT_SSH": os.path.abspath(__file__),
               "CB_CHANNEL": str(self.stream[0].fileno()), "CB_PLACE": str(place),
               "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
               "GIT_COMMITTER_EMAIL": "a@b"}
        r = subprocess.run(["git", "-c", "protocol.version=0", *args], cwd=cwd, env=env,
                           pass_fds=[self.stream[0].fileno()], capture_output=True, text=True,
                           timeout=120, stdin=subprocess.DEVNULL)
        assert not check or r.returncode == 0, r.stderr
        return r

    # --- records ---

    def recorded(self):
        """(reason, rule, host, detail) of the next record."""
        data = self.record.recv(4096)
        text = lambda at, n: data[at:at + n].split(b"\0")[0].decode()  # noqa: E731
        return {"role": text(8, 12), "reason": text(20, 40), "rule": text(60, 48)}


def as_ssh():
    """What git runs as its ssh: HOST COMMAND."""
    channel = socket.socket(fileno=int(os.environ["CB_CHANNEL"]))
    service = UPLOAD if sys.argv[2].startswith("git-upload-pack") else RECEIVE
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    why, why_in = os.pipe()
    socket.send_fds(channel, [struct.pack("HHI", int(os.environ["CB_PLACE"]), service, 0)],
                    [theirs.fileno(), why_in])
    theirs.close()
    os.close(why_in)

    def up():
        while True:
            data = os.read(0, 65536)
            if not data:
                ours.shutdown(socket.SHUT_WR)
                return
            ours.sendall(data)

    threading.Thread(target=up, daemon=True).start()
    while True:
        data = ours.recv(65536)
        if not data:
            break
        os.write(1, data) if len(data) < 4096 else sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    os.close(1)
    text = World.why(why, 60)
    sys.stderr.write(text)
    os._exit(1 if text else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    as_ssh()

"""Upstreams of git for git-gate's upstream_fetch() and upstream_push(), which a small program drives
(tests/unit/gitgate/upstream_driver.c): streams to git itself, as gitssh and the keeper give them,
smart HTTP around git http-backend behind what stands for egress, and servers that lie."""
import base64
import json
import os
import shutil
import socket
import struct
import subprocess
import threading

DRIVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..",
                      os.environ.get("UPSTREAM_DRIVER", "build/tests/unit/gitgate/upstream_driver"))
NONE = "0" * 40
PLACEHOLDER = "placeholder-0123456789abcdef"


def environment(folder):
    e = {"PATH": "/usr/bin:/bin", "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}
    for who in ("AUTHOR", "COMMITTER"):
        e[f"GIT_{who}_NAME"] = "A"
        e[f"GIT_{who}_EMAIL"] = "a@example.org"
        e[f"GIT_{who}_DATE"] = "2024-01-01T00:00:00Z"
    return e


class Repository:
    def __init__(self, folder, bare=True, *args):
        self.folder = str(folder)
        self.env = environment(self.folder)
        os.makedirs(self.folder, exist_ok=True)
        self.git("init", "-q", "-b", "main", *(["--bare"] if bare else []), *args)
        self.git("config", "http.receivepack", "true")

    def git(self, *args, stdin=None, ok=True, env=None):
        r = subprocess.run(["git", *args], cwd=self.folder, env={**self.env, **(env or {})}, input=stdin,
                           capture_output=True, timeout=120)
        assert not ok or r.returncode == 0, (args, r.stderr)
        return r.stdout.decode(errors="replace").strip()

    def commit(self, ref, files, parent=None, message="m", env=None):
        """A commit of these files, made without a work tree; the ref is set to it."""
        lines = []
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            oid = self.git("hash-object", "-w", "--stdin", stdin=data, env=env)
            lines.append(f"100644 blob {oid}\t{name}")
        tree = self.git("mktree", stdin=("\n".join(lines) + "\n").encode(), env=env)
        oid = self.git("commit-tree", tree, "-m", message, *(["-p", parent] if parent else []), env=env)
        if ref:
            self.git("update-ref", ref, oid, env=env)
        return oid

    def refs(self):
        out = self.git("for-each-ref", "--format=%(refname) %(objectname)")
        return dict(line.split() for line in out.splitlines())


class Channel:
    """The far end of a SOCK_SEQPACKET channel; each message's descriptors go to a thread."""

    def __init__(self, n_fds):
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.n_fds, self.threads, self.errors, self.asked = n_fds, [], [], []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.ours, 64, self.n_fds)
            except OSError:
                return
            if not data:
                return
            t = threading.Thread(target=self.guard, args=(data, fds), daemon=True)
            self.threads.append(t)
            t.start()

    def guard(self, data, fds):
        try:
            self.serve(data, fds)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except BaseException as x:  # for the test's own eyes
            self.errors.append(x)

    def close(self):
        self.theirs.close()
        self.ours.shutdown(socket.SHUT_RDWR)
        self.thread.join(20)
        for t in self.threads:
            t.join(20)
            assert not t.is_alive()
        self.ours.close()
        assert not self.errors, self.errors


class Streams(Channel):
    """gitssh, or the keeper's door."""

    def __init__(self, repository, talk=None):
        self.repository, self.talk, self.options = repository, talk, []
        super().__init__(2)

    def serve(self, data, fds):
        remote, service, zero = struct.unpack("=HHI", data)
        assert remote == 1 and zero == 0 and len(fds) == 2
        self.asked.append(service)
        stream, why = socket.socket(fileno=fds[0]), os.fdopen(fds[1], "wb", buffering=0)
        with stream, why:
            if self.talk:
                return self.talk(self, service, stream, why)
            self.git(service, stream)

    def git(self, service, stream, repository=None):
        name = {1: "upload-pack", 2: "receive-pack"}[service]
        subprocess.run(["git", *self.options, name, (repository or self.repository).folder], stdin=stream,
                       stdout=stream, stderr=subprocess.DEVNULL, env=self.repository.env, timeout=120)


def line(data):
    data = data if isinstance(data, bytes) else data.encode()
    return b"%04x" % (len(data) + 4) + data


class Reader:
    def __init__(self, stream):
        self.file = stream.makefile("rb")

    def head(self):
        lines = []
        while True:
            text = self.file.readline(65536)
            if not text:
                return None
            text = text.rstrip(b"\r\n")
            if not text:
                return lines
            lines.append(text.decode())

    def body(self, fields):
        """Pieces of a request's body."""
        if fields.get("transfer-encoding") == "chunked":
            while True:
                n = int(self.file.readline(64), 16)
                data = self.file.read(n)
                assert self.file.readline(8) == b"\r\n"
                if n == 0:
                    return
                yield data
        left = int(fields.get("content-length", 0))
        while left:
            data = self.file.read(min(left, 65536))
            assert data, "the request was cut off"
            left -= len(data)
            yield data


class Egress(Channel):
    """Takes requests in absolute form and answers them out of git http-backend, or as `talk` says:
    a function of method, path with query, fields, that returns None or (status, fields, body)."""

    def __init__(self, root, talk=None, chunked=True):
        self.root, self.talk, self.chunked, self.requests, self.authorized = root, talk, chunked, [], None
        self.has_version_2 = True
        super().__init__(1)

    def serve(self, data, fds):
        assert data == b"c" and len(fds) == 1
        with socket.socket(fileno=fds[0]) as stream:
            stream.setblocking(True)
            reader = Reader(stream)
            while (head := reader.head()) is not None:
                method, target, version = head[0].split(" ")
                fields = {k.lower(): v for k, v in (h.split(": ", 1) for h in head[1:])}
                assert version == "HTTP/1.1" and target.startswith("https://"), head
                authority, _, path = target[8:].partition("/")
                assert fields["host"] == authority
                self.requests.append((method, "/" + path, fields))
                if not self.answer(stream, reader, method, "/" + path, fields):
                    return

    def answer(self, stream, reader, method, path, fields):
        said = self.talk(method, path, fields) if self.talk else None
        if callable(said):
            return said(stream, reader, fields)
        if said:
            status, more, body = said
            for _ in reader.body(fields):
                pass
            self.head(stream, status, {"Content-Length": str(len(body)), **more})
            stream.sendall(body)
            return True
        if self.authorized and fields.get("authorization") != self.authorized:
            self.head(stream, 401, {"Content-Length": "0"})
            return True
        return self.backend(stream, reader, method, path, fields)

    @staticmethod
    def head(stream, status, fields):
        text = f"HTTP/1.1 {status} Words\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items())
        stream.sendall(text.encode() + b"\r\n")

    def backend(self, stream, reader, method, path, fields):
        path, _, query = path.partition("?")
        env = {**environment(self.root), "GIT_PROJECT_ROOT": self.root, "GIT_HTTP_EXPORT_ALL": "1",
               "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query,
               "CONTENT_TYPE": fields.get("content-type", ""), "REMOTE_USER": "u",
               "GIT_PROTOCOL": fields.get("git-protocol", "") if self.has_version_2 else ""}
        if "content-length" in fields:
            env["CONTENT_LENGTH"] = fields["content-length"]
        p = subprocess.Popen(["git", "http-backend"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
                             stderr=subprocess.DEVNULL)

        def feed():
            try:
                for piece in reader.body(fields):
                    p.stdin.write(piece)
                p.stdin.close()
            except BrokenPipeError:
                pass

        feeder = threading.Thread(target=feed)
        feeder.start()
        status, out = 200, {}
        while text := p.stdout.readline().rstrip(b"\r\n").decode():
            k, v = text.split(": ", 1)
            if k == "Status":
                status = int(v.split()[0])
            else:
                out[k] = v
        out["Transfer-Encoding" if self.chunked else "Connection"] = "chunked" if self.chunked else "close"
        self.head(stream, status, out)
        while data := p.stdout.read1(65536):
            stream.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked else data)
        feeder.join(60)
        p.wait(60)
        if self.chunked:
            stream.sendall(b"0\r\n\r\n")
        return self.chunked


class Gate:
    """The mirror and the driver."""

    def __init__(self, folder, **settings):
        self.folder = str(folder)
        self.tools = f"{self.folder}/tools"
        os.makedirs(self.tools)
        shutil.copy(DRIVER, f"{self.tools}/git-connect")
        self.mirror = Repository(f"{self.folder}/mirror.git")
        self.settings = {"name": "up", "tools": self.tools, "mirror": self.mirror.folder, "slug": "dev-1",
                         "transport": "ssh", "host": "git.example", "port": "443", "path": "/up.git", **settings}
        self.channels = []

    def over(self, channel, kind):
        """kind: ssh, door, egress"""
        self.settings["transport"] = {"ssh": "ssh", "door": "workspace", "egress": "https"}[kind]
        for k in ("ssh", "door", "egress"):
            self.settings.pop(k, None)
        self.settings[kind] = str(channel.theirs.fileno())
        self.channels.append(channel)
        return self

    def call(self, verb, *updates, timeout=120, **settings):
        s = {**self.settings, **settings}
        r = subprocess.run([DRIVER, verb, *(f"{k}={v}" for k, v in s.items()), *(str(u) for u in updates)],
                           capture_output=True, timeout=timeout, env={"PATH": "/nonexistent", **self.env},
                           pass_fds=[c.theirs.fileno() for c in self.channels])
        assert r.returncode == 0, r
        return json.loads(r.stdout)

    env = {}

    def fetch(self, ok=True, **settings):
        r = self.call("fetch", **settings)
        assert not ok or r["code"] == 0, r
        return r

    def quarantine(self):
        """A folder of objects as receive-pack makes it."""
        q = f"{self.mirror.folder}/objects/tmp_objdir-incoming-test"
        os.makedirs(f"{q}/pack", exist_ok=True)
        return q

    def quarantine_env(self):
        return {"GIT_OBJECT_DIRECTORY": self.quarantine(),
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": f"{self.mirror.folder}/objects"}

    def commit(self, files, parent=None, **more):
        return self.mirror.commit(None, files, parent, env=self.quarantine_env(), **more)

    def push(self, *updates, **settings):
        return self.call("push", *updates, quarantine=self.quarantine(), **settings)

    def close(self):
        for c in self.channels:
            c.close()


def basic(user):
    return "Basic " + base64.b64encode(f"{user}:{PLACEHOLDER}".encode()).decode()

"""The double of smolvm at work: an installation of it with its hardware behind it. And, for the double's
own tests, what a bottle would be around it: a wall, and an image in a registry in that wall.

    with Double(scratch, "0.8.0") as d:
        ... d.environment() has CLAUDE_BOTTLE_SMOLVM ...
"""
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "smolvm")
INSTALLED = ("smolvm", "channel.py", "smolfile.py")
BUSYBOX = "/bin/busybox"
PINNED = "10.209.0.2"
APPLETS = ("sh", "cat", "echo", "env", "id", "sleep", "stty", "head", "ls", "ps", "kill", "hostname", "true",
           "wc", "seq", "dd", "trap", "touch", "nc", "printf", "mkdir", "rm", "test", "tty", "tar", "chmod")
VERSIONS = ("0.8.0", "0.8.1", "1.0.2", "1.1.3")


def missing():
    """Why the double cannot play here, in words; None if it can."""
    if not os.access("/usr/bin/tar", os.X_OK):
        return "tar is missing"
    r = subprocess.run(["unshare", "-Urnm", "true"], capture_output=True, text=True, check=False)
    return f"no namespaces for users here: {r.stderr.strip()}" if r.returncode else None


class Double:
    """folder: a short path that everybody may pass through (the cell's user too). cache: unpacked layers
    are kept there, for other doubles too; by default below folder."""

    def __init__(self, folder, version="0.8.0", cache=None):
        self.folder = os.path.join(str(folder), "smolvm-installed")
        self.cache = str(cache) if cache else os.path.join(str(folder), "smolvm-cache")
        self.path = os.path.join(self.folder, "smolvm")
        os.makedirs(self.folder)
        os.makedirs(self.cache, exist_ok=True)
        for name in INSTALLED:
            shutil.copy(os.path.join(FOLDER, name), self.folder)
        self.version(version)
        self.log = open(os.path.join(self.cache, "hardware.log"), "ab")
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(FOLDER, "hardware.py"), self.folder, self.cache],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.log)
        if self.process.stdout.readline() != b"ready\n":
            self.close()
            raise AssertionError(f"the double's hardware does not start: {self.said()}")

    def version(self, v):
        self._write("version", v)

    def current(self):
        with open(os.path.join(self.folder, "version"), encoding="utf-8") as f:
            return f.read().strip()

    def misbehave(self, *words):
        """From the next request on; none: no more. The words are in smolvm/README.md."""
        self._write("misbehave", " ".join(words))

    def _write(self, name, text):
        with open(os.path.join(self.folder, name + ".new"), "w", encoding="utf-8") as f:
            f.write(text + "\n")
        os.rename(os.path.join(self.folder, name + ".new"), os.path.join(self.folder, name))

    def said(self):
        with open(self.log.name, encoding="utf-8", errors="replace") as f:
            return f.read()

    def guests(self):
        """How many are running."""
        return len(os.listdir(self._running()))

    def _running(self):
        return os.path.join(self.cache, f"running-{self.process.pid}")

    def environment(self, **more):
        return {**os.environ, "CLAUDE_BOTTLE_SMOLVM": self.path, **more}

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
        self.process.stdout.close()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._running(), ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tar_of(files):
    """The bytes of a tar archive: {path: (mode, bytes), or a link's text, or whose folder it is}."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for path, what in files.items():
            info = tarfile.TarInfo(path)
            if isinstance(what, str):
                info.type, info.linkname = tarfile.SYMTYPE, what
                t.addfile(info)
            elif isinstance(what, int):
                info.type, info.mode, info.uid, info.gid = tarfile.DIRTYPE, 0o755, what, what
                t.addfile(info)
            else:
                info.mode, info.size = what[0], len(what[1])
                t.addfile(info, io.BytesIO(what[1]))
    return out.getvalue()


def small_root(path):
    """An image of busybox alone."""
    with open(BUSYBOX, "rb") as f:
        program = f.read()
    folders = {d: 0 for d in ("bin", "usr", "usr/bin", "etc", "home", "root", "tmp", "var", "proc", "dev", "run")}
    folders["home/agent"] = 1000
    with open(path, "wb") as f:
        f.write(tar_of({**folders, "bin/busybox": (0o755, program), **{f"bin/{n}": "busybox" for n in APPLETS}}))
    return path


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Image:
    """An image of a few layers: [(kind, digest, bytes)], the manifest first."""

    def __init__(self, layers, config):
        def entry(kind, data):
            return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": digest(data), "size": len(data)}

        text = json.dumps(config).encode()
        manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                               "config": entry("config.v1+json", text),
                               "layers": [entry("layer.v1.tar", x) for x in layers]}).encode()
        self.blobs = [("manifest", manifest), ("config", text)] + [("layer", x) for x in layers]

    @staticmethod
    def busybox(cmd=("sleep", "1000")):
        with open(BUSYBOX, "rb") as f:
            program = f.read()
        names = ("sh", "cat", "echo", "env", "id", "sleep", "stty", "wget", "head", "ls", "mount", "nc", "ps",
                 "pwd", "kill", "hostname", "true", "tr", "seq", "od", "touch", "rm", "tty", "grep", "[")
        base = {"bin": 0, "bin/busybox": (0o755, program), **{f"bin/{n}": "busybox" for n in names},
                "root": 0, "etc": 0, "home": 0, "home/agent": 1000,
                "etc/passwd": (0o644, b"root:x:0:0::/root:/bin/sh\nagent:x:1000:1000::/home/agent:/bin/sh\n"),
                "etc/layer": (0o644, b"lower\n")}
        return Image([tar_of(base), tar_of({"etc/layer": (0o644, b"upper\n")})],
                     {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []},
                      "config": {"Cmd": list(cmd), "Env": ["FROM_IMAGE=yes"]}})


# In a wall: a listening socket, and the registry on it.
SERVE = """
import os, socket, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[2], 5000))
s.listen(64)
os.set_inheritable(s.fileno(), True)
os.execv(sys.argv[1], [sys.argv[1], "registry", f"listen={s.fileno()}"] + sys.argv[3:])
"""


class Wall:
    """A network with nothing in it but lo and the pinned address; what is run in it has no more."""

    def __init__(self):
        self.holder = subprocess.Popen(
            ["unshare", "-Urn", "sh", "-c",
             f"ip link set lo up && ip addr add {PINNED}/32 dev lo && echo up && exec sleep 1000"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        self.processes = [self.holder]
        assert self.holder.stdout.readline() == b"up\n"

    def command(self, *argv):
        return ["nsenter", "--preserve-credentials", "-U", "-n", "-t", str(self.holder.pid), "--", *argv]

    def serve(self, bundle, image, name="claude-bottle/agent", tag="bottle"):
        """The image, from the registry of the bundle's executable. Its process."""
        files, args = [], []
        for kind, data in image.blobs:
            f = tempfile.TemporaryFile()
            f.write(data)
            f.flush()
            files.append(f)
            args.append(f"{kind}={f.fileno()},{digest(data)},{len(data)}")
        p = subprocess.Popen(
            self.command(sys.executable, "-c", SERVE, bundle, PINNED, name, tag, *args),
            stdin=subprocess.DEVNULL, pass_fds=[f.fileno() for f in files])
        self.processes.append(p)
        for f in files:
            f.close()
        until = time.monotonic() + 10
        while subprocess.run(self.command(sys.executable, "-c", "import socket, sys\n"
                                          f"sys.exit(socket.socket().connect_ex(('{PINNED}', 5000)))"),
                             check=False).returncode:
            assert p.poll() is None and time.monotonic() < until, "the registry does not start"
        return p

    def close(self):
        for p in reversed(self.processes):
            p.kill()
            p.wait()
        self.holder.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

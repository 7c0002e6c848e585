"""The registry as a process: what it takes, what it cannot do any more, and when it ends."""
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile

import bottle
import pytest
import smol_world

BUNDLE = os.path.join(bottle.build_folder(), "claude-bottle-bundle")
NAME, TAG = "claude-bottle/agent", "bottle"
LAYER = smol_world.tar_of({"big": (0o644, bytes(range(256)) * 20000)})


class Registry:
    """One with a small image; extra: arguments before its name. Its parent is this process, or a shell."""

    def __init__(self, *extra, behind=()):
        image = smol_world.Image([LAYER], {"config": {}})
        self.blobs = {kind: (smol_world.digest(data), data) for kind, data in image.blobs}
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        files = []
        args = [f"listen={self.listener.fileno()}", *extra, NAME, TAG]
        for kind, data in image.blobs:
            f = tempfile.TemporaryFile()
            f.write(data)
            f.flush()
            files.append(f)
            args.append(f"{kind}={f.fileno()},{smol_world.digest(data)},{len(data)}")
        self.process = subprocess.Popen(
            [*behind, BUNDLE, "registry", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, pass_fds=[self.listener.fileno()] + [f.fileno() for f in files])
        self.listener.close()
        for f in files:
            f.close()

    def get(self, path, method="GET"):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        c.request(method, path)
        r = c.getresponse()
        return r.status, r.read()

    def status(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_pull_and_seal():
    with Registry() as r:
        assert r.get("/v2/") == (200, b"{}")
        for kind, (digest, data) in r.blobs.items():
            assert r.get(f"/v2/{NAME}/{'manifests' if kind == 'manifest' else 'blobs'}/{digest}") == (200, data)
        assert r.get(f"/v2/{NAME}/manifests/{TAG}", "HEAD") == (200, b"")
        s = r.status()
        assert s["NoNewPrivs"] == "1" and int(s["CapBnd"], 16) == int(s["CapPrm"], 16) == 0
        assert s["Seccomp"] == "2"
        assert os.stat(f"/proc/{r.process.pid}/environ").st_uid == 0, "it is dumpable"
        r.process.send_signal(signal.SIGTERM)
        assert r.process.wait(10) == 0 and r.process.stderr.read() == b""


def test_becomes_who_it_is_told():
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with Registry("uid=61234") as r:
        assert r.get("/v2/")[0] == 200
        assert r.status()["Uid"].split() == ["61234"] * 4 and r.status()["Gid"].split() == ["61234"] * 4


def test_ends_with_its_parent():
    with Registry(behind=(sys.executable, "-c", "import subprocess, sys, os\n"
                          "p = subprocess.Popen(sys.argv[1:], close_fds=False)\n"
                          "print(p.pid, flush=True)\np.wait()")) as r:
        child = int(r.process.stdout.readline())
        assert r.get("/v2/")[0] == 200
        r.process.kill()
        assert bottle.wait_until(lambda: not bottle.is_alive(child), 5)


@pytest.mark.parametrize("args", [[], ["listen=99"], ["listen=0", "a"], ["listen=0", "a", "b"], ["listen=x", "a", "b"],
                                  ["listen=0", "uid=x", "a", "b"], ["a", "b", "listen=0"],
                                  ["listen=0", "a", "b", "layer=0,sha256:" + "0" * 64 + ",0"]])
def test_refuses_arguments(args):
    r = subprocess.run([BUNDLE, "registry", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                       timeout=10, check=False)
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1, r


def test_keeps_who_it_is():
    """Also where user and group have different numbers."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with Registry(behind=("setpriv", "--reuid=61235", "--regid=61236", "--clear-groups")) as r:
        assert r.get("/v2/")[0] == 200
        assert r.status()["Uid"].split() == ["61235"] * 4 and r.status()["Gid"].split() == ["61236"] * 4

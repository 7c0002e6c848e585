"""The double of smolvm itself: it refuses what the real one would, keeps its state as that does, speaks
both dialects, and its guests are where they should be. What other tests prove, they prove against this."""
import fcntl
import importlib.util
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
from importlib.machinery import SourceFileLoader

import bottle
import pytest
import smol_world
import standin
from smol_world import PINNED

IMAGE = f"{PINNED}:5000/claude-bottle/agent:bottle"
SMOLFILE = f'image = "{IMAGE}"\nenv = ["GIVEN=in the Smolfile"]\n[network]\nallow_cidrs = ["{PINNED}/32"]\n'
BUNDLE = os.path.join(bottle.build_folder(), "claude-bottle-bundle")
READY = 0.12  # the guest kills what is executed earlier


@pytest.fixture(scope="module")
def folder(scratch):
    why = smol_world.missing()
    if why:
        pytest.skip(why)
    path = f"{scratch}/double"
    os.makedirs(path, mode=0o755)
    with open(f"{path}/Smolfile", "w", encoding="utf-8") as f:
        f.write(SMOLFILE)
    return path


@pytest.fixture(scope="module")
def played(folder):
    with smol_world.Double(folder) as d:
        yield d


@pytest.fixture(scope="module")
def wall():
    if not os.access(smol_world.BUSYBOX, os.X_OK):
        pytest.skip("busybox is missing (package busybox-static)")
    with smol_world.Wall() as w:
        w.serve(BUNDLE, smol_world.Image.busybox())
        yield w


class Session:
    """The command line as it is used: in a wall, with a home of its own."""

    def __init__(self, double, wall, home):
        self.double, self.wall, self.home = double, wall, str(home)
        self.env = {"HOME": self.home, "PATH": "/usr/bin:/bin"}
        double.version("0.8.0")
        double.misbehave()

    def argv(self, *args):
        return self.wall.command(self.double.path, "machine", *args)

    def run(self, *args, status=0, **kw):
        r = subprocess.run(self.argv(*args), env=self.env, capture_output=True, check=False, timeout=30,
                           **({"stdin": subprocess.DEVNULL} | kw if "input" not in kw else kw))
        assert r.returncode == status, (args, r, self.double.said())
        return r

    def exec(self, *args, **kw):
        return self.run("exec", "--name", "m", *args, **kw)

    def state(self, name="m"):
        return {m["name"]: m for m in json.loads(self.run("ls", "--json").stdout)}.get(name, {}).get("state")

    def begin(self, smolfile):
        self.run("create", "m", "--smolfile", smolfile)
        self.run("start", "--name", "m")
        time.sleep(READY)


@pytest.fixture
def session(played, wall, tmp_path, folder):
    s = Session(played, wall, tmp_path)
    s.smolfile = f"{folder}/Smolfile"
    yield s
    played.misbehave()
    end_monitors(played)
    assert bottle.wait_until(lambda: played.guests() == 0, 10)


@pytest.fixture(scope="module")
def machine(folder, played, wall, tmp_path_factory):
    """A session with a machine that runs, for tests that leave it as it is."""
    os.mkdir(f"{folder}/second", 0o755)
    with smol_world.Double(f"{folder}/second", cache=played.cache) as double:
        s = Session(double, wall, tmp_path_factory.mktemp("home"))
        s.begin(f"{folder}/Smolfile")
        yield s


def end_monitors(double):
    """As the end of a cell does. Their guests go with them."""
    for pid, _ in bottle.processes_that_mention(double.path):
        os.kill(pid, signal.SIGKILL)


# --- refusals ---

@pytest.fixture
def call(played, tmp_path, monkeypatch, capsys, folder):
    """call(version, ARGUMENT…): (status, what was said), in this process, for it is many times."""
    loader = SourceFileLoader("smolvm_double", os.path.join(smol_world.FOLDER, "smolvm"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("smolvm_double", loader))
    loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", played.folder)
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(version, *args):
        played.version(version)
        status = module.main(list(args))
        return status, "".join(capsys.readouterr())

    monkeypatch.chdir(folder)
    yield run
    played.version("0.8.0")


OLD = [
    "create m --smolfile Smolfile extra", "create --name m --smolfile Smolfile", "create -n m -s Smolfile",
    "create m --smolfile", "create m --smolfile Smolfile --smolfile Smolfile", "create m --smolfile --net",
    "create m --net -s Smolfile", "create m --allow-cidr 10.0.0.0/8 -s Smolfile", "create m --image alpine",
    "create m --from x.smolmachine", "create m -v /tmp:/tmp -s Smolfile", "create m --env A=b -s Smolfile",
    "start m", "start", "start --name", "start --name a --name b", "start --name=m --json", "start m --name m",
    "stop m", "stop --name m -f", "stop --name m --force",
    "delete", "delete --name m -f", "delete m n -f", "delete m --yes", "delete -n m",
    "exec m -- true", "exec -n m -- true", "exec --name m", "exec --name m --", "exec --name m -x -- true",
    "exec --name m --stream -- true", "exec --name m -ix -- true", "exec --name m -e -- true",
    "exec --name m --tty=yes -- true", "exec --name m --user 1000 -- true", "exec --name m --timeout soon true",
    "status m", "status m --json", "status --name m --json --verbose", "ls m", "ls --all",
    "cp a", "cp a b c", "cp -r a m:/b", "cp --name m a /b", "resize --name m --storage 30", "run -- true",
    "shell --name m", "rm m -f", "list",
]
NEW = [
    "create m --smolfile Smolfile", "create m", "delete m -f", "delete -f", "start m", "stop m", "status m",
    "exec m -- true", "exec --name m", "create --name m -n m -s Smolfile",
]


@pytest.mark.parametrize("version, commands", [("0.8.0", OLD), ("0.8.1", OLD), ("1.0.2", NEW), ("1.1.3", NEW)])
def test_refuses_arguments(call, version, commands):
    for command in commands:
        status, said = call(version, "machine", *command.split())
        assert status in (1, 2) and re.search("^[eE]rror: ", said, re.M), (version, command, status, said)
    assert call(version, "machine", "ls", "--json") == (0, "[]\n")  # and nothing has been made


def test_refuses_other_words(call):
    for args in ([], ["machine"], ["microvm", "ls"], ["ls"], ["--version", "machine"], ["-v"], ["machine", "--help"]):
        assert call("0.8.0", *args)[0] == 2, args
    for version in smol_world.VERSIONS:
        assert call(version, "--version") == (0, f"smolvm {version}\n")


BAD_SMOLFILES = [
    "image = ", "image = 1", 'image = ["a"]', 'image = "a b"', 'image = "/a"', 'entrypoint = "a"', "cmd = [1]",
    'env = "A=b"', 'env = ["A"]', 'env = ["=b"]', 'env = { A = "b" }', "workdir = 1", 'workdir = "work"',
    'cpus = "2"', "cpus = 256", "cpus = -1", "cpus = 1.0", "cpus = true", "memory = 4294967296", 'memory = "1G"',
    "mem = 512", "net = true", 'volumes = "a:b"', 'volumes = ["/tmp:/tmp"]', 'ports = ["80:80"]', "gpu = false",
    'init = ["true"]', "ssh_agent = true", "[dev]", "[auth]\nssh_agent = true", "network = 1", "[network]\nmode = 1",
    '[network]\nallow_hosts = ["a"]', '[network]\nallow_cidrs = "10.0.0.0/8"', '[network]\nallow_cidrs = [1]',
    '[network]\nallow_cidrs = ["10.0.0.0/33"]', '[network]\nallow_cidrs = ["host"]',
    '[network]\nnet_backend = "tsi"', 'image = "a"\nimage = "b"', 'Image = "a"', "[image]", '"image\\u0000" = "a"',
    'env = ["A=\\u0000"]', "\x00",
]


@pytest.mark.parametrize("version", ["0.8.0", "1.0.2"])
def test_refuses_smolfiles(call, tmp_path, version):
    name = ["m"] if version == "0.8.0" else ["--name", "m"]
    path = tmp_path / "Smolfile"
    for content in BAD_SMOLFILES:
        path.write_text(content, encoding="utf-8")
        status, said = call(version, "machine", "create", *name, "--smolfile", str(path))
        assert status == 1 and "parse smolfile" in said, (content, status, said)
    path.write_bytes(b'image = "\xff"')
    assert call(version, "machine", "create", *name, "--smolfile", str(path))[0] == 1
    assert call(version, "machine", "create", *name, "--smolfile", "/nowhere")[0] == 1
    path.write_text(SMOLFILE + "# 😀\n", encoding="utf-8")
    assert call(version, "machine", "create", *name, "--smolfile", str(path))[0] == 0


def test_names(call):
    for name in ("a", "A-b_9", "9", "x" * 40):
        assert call("0.8.0", "machine", "create", name, "-s", "Smolfile")[0] == 0
    for name in ("", "-a", "_a", "a b", "a/b", "a:b", "ä", "x" * 41, "a\n"):
        assert call("1.0.2", "machine", "create", f"--name={name}", "-s", "Smolfile")[0] != 0, name


# --- state ---

def test_state_rules(call, tmp_path):
    assert call("0.8.0", "machine", "stop", "--name", "nobody")[0] == 0
    assert call("0.8.0", "machine", "start", "--name", "nobody")[0] == 1
    assert call("0.8.0", "machine", "delete", "nobody", "-f")[0] == 1
    assert call("0.8.0", "machine", "status", "--name", "nobody", "--json")[0] == 1
    assert call("0.8.0", "machine", "create", "m", "--smolfile", "Smolfile")[0] == 0
    assert call("0.8.0", "machine", "create", "m", "--smolfile", "Smolfile")[0] == 1
    assert call("1.0.2", "machine", "create", "--name", "n", "-s", "Smolfile")[0] == 0
    assert call("0.8.0", "machine", "exec", "--name", "m", "--", "true")[0] == 1
    assert call("0.8.0", "machine", "cp", "Smolfile", "m:/root/x")[0] == 1
    status, said = call("0.8.0", "machine", "status", "--name", "m", "--json")
    m = json.loads(said)
    assert status == 0 and (m["name"], m["state"], m["pid"], m["image"]) == ("m", "created", None, IMAGE)
    # In plain text, for whoever looks for secrets.
    found = [p for p in (tmp_path / ".local/share/smolvm").rglob("*") if p.is_file() and "GIVEN" in p.read_text()]
    assert len(found) == 1
    assert call("1.0.2", "machine", "delete", "--name", "m", "--force")[0] == 0
    assert [m["name"] for m in json.loads(call("0.8.0", "machine", "ls", "--json")[1])] == ["n"]


# --- guests ---

def test_life(session, played):
    played.misbehave("boot=100")
    session.run("create", "m", "--smolfile", session.smolfile)
    session.run("start", "--name", "m")
    assert session.exec("--", "true", status=137).stderr == b""
    played.misbehave()
    assert b"already running" in session.run("start", "--name", "m").stdout
    assert session.state() == "running" and played.guests() == 1
    session.run("delete", "m", "-f")
    assert session.state() is None and played.guests() == 1, "delete stops nothing"
    session.run("create", "m", "--smolfile", session.smolfile)
    session.exec("--", "true", status=1)
    session.run("delete", "m", "-f")
    end_monitors(played)
    assert bottle.wait_until(lambda: played.guests() == 0, 5)


def test_exec(machine):
    r = machine.exec("-e", "A=b c", "--", "sh", "-c", "id -u; id -G; echo $A; echo $FROM_IMAGE; echo $GIVEN; pwd; "
                     "cat /etc/layer; hostname; echo err >&2; exit 7", status=7)
    assert r.stdout.decode().split("\n") == ["0", "0", "b c", "yes", "", "/", "upper", "m", ""]
    assert r.stderr == b"err\n"
    assert machine.exec("-w", "/etc", "pwd").stdout == b"/etc\n"  # a command without "--"
    machine.exec("--", "sh", "-c", "kill -9 $$", status=137)
    assert b"nothere" in machine.exec("--", "nothere", status=1).stderr
    assert machine.exec("-i", "--", "sh", "-c", "setsid true; cat", input=b"\x00\xff\r\n").stdout == b"\x00\xff\r\n"
    assert machine.exec("--", "cat", input=b"passed over").stdout == b""
    assert machine.exec("--", "sh", "-c", "head -c1 </bin/busybox; printf '\\377'").stdout == "\x7f\ufffd".encode()
    assert machine.exec("--", "sh", "-c", "echo x > /etc/layer; cat /etc/layer").stdout == b"x\n"
    assert machine.exec("--", "cat", "/etc/layer").stdout == b"x\n", "files last from one command to the next"
    assert machine.exec("--", "sh", "-c", "mount -t tmpfs none /root && echo root").stdout == b"root\n"
    assert b"sleep 1000" in machine.exec("--", "ps").stdout, "the start-up command"


SLOW = ("--", "sh", "-c", "echo one; touch /begun; until [ -e /go ]; do sleep 0.05; done; rm /begun /go; echo two")


def test_streams_only_when_interactive(machine):
    def begin(*flags):
        return subprocess.Popen(machine.argv("exec", "--name", "m", *flags, *SLOW), env=machine.env,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    with begin("-i") as p:
        assert p.stdout.read(4) == b"one\n"
        machine.exec("--", "touch", "/go")
        assert (p.stdout.read(), p.wait()) == (b"two\n", 0)
    with begin() as p:
        assert bottle.wait_until(lambda: b"begun" in machine.exec("--", "ls", "/").stdout, 10)
        assert select.select([p.stdout], [], [], 0.1)[0] == [], "output came before the end"
        machine.exec("--", "touch", "/go")
        assert (p.stdout.read(), p.wait()) == (b"one\ntwo\n", 0)


def in_terminal(session, *args):
    """A command's output, in a terminal of 40 x 100 that becomes one of 50 x 120 once it says "ready"."""
    master, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    with subprocess.Popen(session.argv(*args), env=session.env, stdin=child, stdout=child, stderr=child,
                          start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) as p:
        os.close(child)
        out = b""
        try:
            while piece := os.read(master, 1000):
                if b"ready" in piece:
                    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 120, 0, 0))
                out += piece
        except OSError:
            pass
        os.close(master)
        return p.wait(), out.decode()


# Its size at first, and once it has changed, or so many tenths of a second later.
SIZES = """size() { stty size 2>&1 | grep '^[0-9]' || echo 0 0; }
size; tty; echo ready; n=0
while [ $n -lt {} ] && [ "$(size)" = "0 0" ]; do sleep 0.1; n=$((n+1)); done
size; exit 3"""


@pytest.mark.parametrize("version, tenths, after", [("0.8.0", 3, "0 0"), ("0.8.1", 100, "50 120")])
def test_terminal(machine, version, tenths, after):
    machine.double.version(version)
    status, out = in_terminal(machine, "exec", "--name", "m", "-it", "--", "sh", "-c", SIZES.replace("{}", str(tenths)))
    assert (status, out.split()) == (3, ["0", "0", "/dev/pts/0", "ready", *after.split()]), out


def test_copies(machine, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "in").write_bytes(data)
    machine.run("cp", str(tmp_path / "in"), "m:/root/x")
    machine.run("cp", "m:/root/x", str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == data
    for a, b in (("in", "m:x"), ("in", "m:/no/x"), ("none", "m:/x"), ("m:/none", "y"), ("m:/root", "y"), ("in", "y"),
                 (".", "m:/x"), ("in", "n:/x")):
        machine.run("cp", a, b, status=1, cwd=tmp_path)


def test_follows_the_asker(machine, wall):
    """A command whose asker is gone is ended; a guest is nobody's but its own wall's."""
    p = subprocess.Popen(machine.argv("exec", "--name", "m", "-i", "--", "sh", "-c", "echo on; exec sleep 999"),
                         env=machine.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert p.stdout.read(3) == b"on\n"
    p.kill()
    p.wait()
    assert bottle.wait_until(lambda: b"999" not in machine.exec("--", "ps").stdout, 5)
    with smol_world.Wall() as other:
        r = subprocess.run(other.command(machine.double.path, "machine", "exec", "--name", "m", "--", "id"),
                           env=machine.env, capture_output=True, check=False)
        assert r.returncode == 1 and b"no such guest" in r.stderr


CONNECT = "nc -w 2 {} {} </dev/null >/dev/null 2>&1 && echo REACHED || echo closed"


def test_network_is_the_wall(session, played):
    with standin.Listener(address="0.0.0.0") as canary:
        session.begin(session.smolfile)
        for address, port, expected in ((PINNED, 5000, b"REACHED\n"), ("127.0.0.1", canary.port, b"closed\n"),
                                        (PINNED, canary.port, b"closed\n")):
            assert session.exec("--", "sh", "-c", CONNECT.format(address, port)).stdout == expected
        session.run("stop", "--name", "m")
        played.misbehave("open-wall")
        session.run("start", "--name", "m")
        time.sleep(READY)
        assert session.exec("--", "sh", "-c", CONNECT.format("127.0.0.1", canary.port)).stdout == b"REACHED\n"


def test_pulls_in_the_wall(session, tmp_path):
    def start(content):
        (tmp_path / "S").write_text(content, encoding="utf-8")
        session.run("create", "m", "--smolfile", str(tmp_path / "S"))
        r = session.run("start", "--name", "m", status=1)
        session.run("delete", "m", "-f")
        assert session.double.guests() == 0
        return r.stderr.decode()

    policy = f'[network]\nallow_cidrs = ["{PINNED}/32"]\n'
    assert "networking is disabled" in start(f'image = "{IMAGE}"\n')
    assert "MANIFEST_UNKNOWN" in start(f'image = "{IMAGE}x"\n' + policy)
    assert "refused" in start(f'image = "{PINNED}:5001/a:b"\n' + policy)


@pytest.fixture
def puller(monkeypatch):
    monkeypatch.syspath_prepend(smol_world.FOLDER)
    return importlib.import_module("puller")


def test_policy(puller):
    """0.8.0 adds its resolver to what is allowed, and nothing else."""
    assert puller.effective(["10.0.0.1/32"]) == ["10.0.0.1/32", "1.1.1.1/32"]
    assert puller.effective(["127.0.0.0/8", "::1/128"]) == ["127.0.0.0/8", "::1/128"]
    assert puller.effective(["1.0.0.0/8"]) == ["1.0.0.0/8"]
    puller.Puller(IMAGE, [f"{PINNED}/32"])
    for image, cidr, why in ((IMAGE, "10.209.0.3/32", "policy does not allow"), ("1.1.1.1/a:b", "0.0.0.0/0", "private"),
                             ("alpine", "0.0.0.0/0", "out of this machine"), ("a.example/x", "0.0.0.0/0", "resolve")):
        with pytest.raises(puller.PullError, match=why):
            puller.Puller(image, [cidr])


def test_misbehaviour(session, played):
    session.run("create", "m", "--smolfile", session.smolfile)
    played.misbehave("start-fails")
    assert b"Error: boot" in session.run("start", "--name", "m", status=1).stderr and played.guests() == 0
    played.misbehave("dies=0.3")
    session.run("start", "--name", "m")
    assert bottle.wait_until(lambda: session.state() == "stopped", 5)
    played.misbehave("pull-ignored", "no-workload", "apart")
    session.run("start", "--name", "m")
    time.sleep(READY)
    assert b"sleep" not in session.exec("--", "ps").stdout
    assert session.exec("--", "sh", "-c", "echo $$").stdout == b"1\n"
    played.misbehave("exec-hangs")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(session.argv("exec", "--name", "m", "--", "true"), env=session.env, timeout=0.5,
                       stdin=subprocess.DEVNULL, check=False)

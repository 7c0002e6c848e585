"""Bottles of the smolmachines backend where a Docker engine answers: their bundle is a container on a bridge
of its own, which is given the wall's listening sockets. The machine is the double's (smolvm/README.md); wall,
cell, container and bundle are real."""
import errno
import json
import os
import signal
import socket
import subprocess

import pytest

import bottle
import docker_world as world
import git_world
import smol_world
import standin
from bottle import wait_until

pytestmark = [pytest.mark.engine,
              pytest.mark.skipif(smol_world.missing() is not None, reason=smol_world.missing() or "")]

BIG = 8 << 20

# In the wall: [address, name, "udp" or "tcp"] as arguments; prints the answer's code and last four bytes.
ASK = r"""
import socket, sys
address, name, kind = sys.argv[1:]
labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
question = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((address, 53))
s.sendall((len(question).to_bytes(2, "big") if kind == "tcp" else b"") + question)
answer = s.recv(512)
if kind == "tcp":
    while len(answer) < 2 + int.from_bytes(answer[:2], "big"):
        answer += s.recv(512)
    answer = answer[2:]
print(answer[3] & 15, socket.inet_ntoa(answer[-4:]))
"""


class Apart(smol_world.Double):
    """A double, and bottles whose bundle is in an engine."""

    def __init__(self, scratch, engine):
        super().__init__(f"{scratch}/apart", cache=f"{scratch}/apart-layers")
        self.engine = engine
        self.image = smol_world.small_root(f"{scratch}/apart-root.tar")

    def home(self, folder, rule_cache):
        h = bottle.Home(folder, cache=rule_cache, backend="smolmachines", docker_host=self.engine.host)
        h.secrets = {"CLAUDE_BOTTLE_SMOLVM": self.path}
        return h


@pytest.fixture(name="apart", scope="module")
def fixture_apart(scratch, engine, image_of):
    image_of("shell")  # and what the bundle's is made of
    os.mkdir(f"{scratch}/apart")
    with Apart(scratch, engine) as c:
        yield c


@pytest.fixture(name="repository", scope="module")
def fixture_repository(scratch, authority):
    with git_world.HttpsGit(authority, f"{scratch}/apart-git") as https:
        git_world.make_bare(https.path("team/app"))
        yield https


class Box:
    """A bottle that runs, seen from its wall."""

    def __init__(self, home, running):
        self.home, self.running = home, running
        own = os.readlink("/proc/self/ns/net")
        self.inside = next(p for p in bottle.descendants(running.state()["pid"])
                           if os.readlink(f"/proc/{p}/ns/net") != own)
        proxy = running.exec("sh", "-c", "echo $HTTPS_PROXY", check=True).stdout.strip()
        self.address = proxy.removeprefix("http://").removesuffix(":8888")
        self.ca = f"{home.folder}/ca.pem"
        with open(self.ca, "w") as f:
            f.write(running.exec("sh", "-c", "cat $SSL_CERT_FILE", check=True).stdout)

    def run(self, *argv, check=True, **env):
        """A command of this host's in the wall's network."""
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", **env}
        return subprocess.run(["nsenter", f"--net=/proc/{self.inside}/ns/net", *argv], env=env, check=check,
                              capture_output=True, text=True, timeout=60)

    def curl(self, *argv, check=True):
        return self.run("curl", "-sS", "--max-time", "20", "--cacert", self.ca, "-x", f"http://{self.address}:8888",
                        *argv, check=check)


@pytest.fixture(name="box", scope="module")
def fixture_box(scratch, apart, repository, authority, rule_cache):
    """Supervised, with git and one host that is allowed."""
    home = apart.home(f"{scratch}/apart-home", rule_cache)
    with standin.Upstream(authority, ["api.example.test"], stem="apart") as upstream:
        home.secrets["CB_GIT_TOKEN"] = git_world.TOKEN
        home.write_bottle(image=apart.image, supervise=True, ca=authority.path,
                          routes=[bottle.route("api.example.test")],
                          resolve={"api.example.test": upstream.address, **git_world.resolve_of(repository)},
                          git={"remotes": [git_world.https_remote("app", repository)]})
        home.write_agent()
        with world.background(home) as b:
            yield Box(home, b)
    home.remove()


# --- what it is ---


def test_the_bundle_is_a_container_on_its_own_bridge(apart, box):
    e, slug = apart.engine, box.running.slug
    mine = {name: labels for name, labels in world.ours(e).items() if labels[world.SLUG] == slug}
    assert {name: labels[world.ROLE] for name, labels in mine.items()} == {
        f"container claude-bottle-{slug}-bundle": "bundle", f"network claude-bottle-{slug}-outer": "outer"}
    assert {labels[world.STATE] for labels in mine.values()} == {box.running.folder}
    found = e.inspect(f"claude-bottle-{slug}-bundle")
    assert len(found["NetworkSettings"]["Networks"]) == 1 and not found["HostConfig"]["PortBindings"]
    assert "its bundle in a container" in json.dumps(box.running.state())
    tree = [bottle.cmdline(p) for p in bottle.descendants(box.running.state()["pid"])]
    assert not [argv for argv in tree if argv[1:2] in (["init"], ["role"])]


def test_doctor_says_which(apart, box, scratch, rule_cache):
    r = box.home.run("doctor", "--backend", "smolmachines")
    assert "in a container: Docker " in r.stdout, r.stdout
    other = bottle.Home(f"{scratch}/apart-none", cache=rule_cache, backend="smolmachines")
    other.secrets = {"CLAUDE_BOTTLE_SMOLVM": apart.path}
    assert "a process of this host: " in other.run("doctor", "--backend", "smolmachines").stdout
    other.remove()


# --- what the agent reaches ---


def test_egress(box):
    assert json.loads(box.curl("https://api.example.test/json").stdout)
    r = box.curl("-o", "/dev/null", "-w", "%{size_download}", f"https://api.example.test/big?bytes={BIG}")
    assert int(r.stdout) >= 1 << 20, r.stdout
    r = box.curl("-o", "/dev/null", "-w", "%{http_code}", "https://elsewhere.example.test/", check=False)
    assert r.returncode != 0 or r.stdout == "403"
    assert any(x.get("host") == "api.example.test" for x in box.home.records(box.running.slug))


def test_supervise_by_the_address_that_the_agent_knows(box):
    def status(*more):
        return box.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "10", "-X", "POST", "-H",
                       "Content-Type: application/json", "-H", "Accept: application/json, text/event-stream", "-d",
                       '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
                       '"capabilities":{},"clientInfo":{"name":"t","version":"1"}}}', *more,
                       f"http://{box.address}:9100/mcp").stdout
    assert status() == "200"
    assert status("-H", "Host: rebound.example:9100") in ("403", "421")


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_names(box, kind):
    assert box.run("python3", "-c", ASK, box.address, "bundle", kind).stdout.split() == ["0", box.address]
    assert box.run("python3", "-c", ASK, box.address, "else.example.test", kind).stdout.split()[0] == "5"


def test_git(box, scratch):
    config = f"{scratch}/apart-gitconfig"
    with open(config, "w") as f:
        f.write(box.running.exec("cat", "/etc/gitconfig", check=True).stdout)
    r = box.run("git", "ls-remote", f"https://{git_world.HTTPS_HOST}/team/app.git", check=False,
                GIT_CONFIG_SYSTEM=config, GIT_TERMINAL_PROMPT="0")
    assert "refs/heads/main" in r.stdout, r.stderr + box.home.logs_of_all()


# --- what does not ---


@pytest.fixture(name="bridge", scope="module")
def fixture_bridge(apart, box):
    """The container's own network, as the engine tells it."""
    found = apart.engine.inspect(f"claude-bottle-{box.running.slug}-bundle")
    network, = found["NetworkSettings"]["Networks"].values()
    return {"pid": found["State"]["Pid"], **network}


def test_nothing_else_is_in_the_wall(box, bridge):
    for port in (22, 80, 5000, 9099):
        r = box.run("curl", "-s", "--max-time", "5", f"http://{box.address}:{port}/", check=False)
        assert r.returncode == 7, (port, r.returncode)
    for address in (bridge["Gateway"], bridge["IPAddress"]):
        assert box.run("curl", "-s", "--max-time", "5", f"http://{address}:8888/", check=False).returncode == 7


def test_nothing_listens_in_the_containers_own_network(box, bridge):
    """So neither this host nor another container has a door to the bundle."""
    assert box.address == smol_world.PINNED != bridge["IPAddress"]
    for port in (8888, 53, 9418, 9100, 9099):
        with socket.socket() as s:
            s.settimeout(5)
            assert s.connect_ex((bridge["IPAddress"], port)) == errno.ECONNREFUSED, port
    with socket.socket(type=socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.connect((bridge["IPAddress"], 53))
        s.send(b"anything")
        with pytest.raises(ConnectionRefusedError):
            s.recv(1)
    # The engine's own resolver, at 127.0.0.11, answers the container alone.
    for kind, states in (("tcp", {"0A"}), ("udp", {"07"})):
        with open(f"/proc/{bridge['pid']}/net/{kind}") as f:
            rows = [line.split() for line in f.readlines()[1:]]
        assert {r[1].split(":")[0] for r in rows if r[3] in states} <= {"0B00007F"}, rows


# --- its end ---


@pytest.fixture(name="plain")
def fixture_plain(scratch, apart, rule_cache, request):
    home = apart.home(f"{scratch}/apart-{request.node.name[:12]}", rule_cache)
    home.write_bottle(image=apart.image)
    home.write_agent()
    yield home
    home.remove()


def nothing_left(apart, home):
    return not world.ours(apart.engine, home.state) and not world.left_on_host(home)


def test_status_and_nothing_left(apart, plain):
    r = plain.start("sh", "-c", "exit 41")
    assert r.returncode == 41, r.stderr + plain.logs_of_all()
    assert nothing_left(apart, plain), (world.ours(apart.engine, plain.state), world.left_on_host(plain))
    # As one that has run.
    slug, = plain.slugs()
    assert plain.run("resume", slug, "--headless", "--", "sh", "-c", "exit 42").returncode == 42


def test_a_bundle_that_is_killed_ends_it(apart, plain):
    """Its ports close with it, whatever the keeper does meanwhile."""
    with world.background(plain) as b:
        box = Box(plain, b)
        keeper = b.state()["pid"]
        os.kill(keeper, signal.SIGSTOP)
        try:
            apart.engine.docker("kill", f"claude-bottle-{b.slug}-bundle")
            closed = ("curl", "-s", "--max-time", "5", f"http://{box.address}:8888/")
            assert wait_until(lambda: box.run(*closed, check=False).returncode == 7, 5)
        finally:
            os.kill(keeper, signal.SIGCONT)
        assert b.wait() != 0 and "was killed" in b.state()["reason"], b.state()
        assert wait_until(lambda: nothing_left(apart, plain), 15)


def test_a_killed_keeper_leaves_what_cleanup_finds(apart, plain):
    with world.background(plain) as b:
        tree = bottle.descendants(b.state()["pid"])
        os.kill(tree[0], signal.SIGKILL)
        assert wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in tree[1:]), 10)
        assert world.ours(apart.engine, plain.state)
        assert plain.run("cleanup").returncode == 0
        assert not world.ours(apart.engine, plain.state) and not os.path.exists(b.folder)

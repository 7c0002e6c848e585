"""The docker backend's wall, from inside a bottle and beside controls that have none: the same probes
in the same image get through where a container is an ordinary one. And the proof that each start
makes for itself: whatever is opened, the start is refused with what is open, before the agent's first
instruction."""
import ctypes
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading

import bottle
import docker_world as world
import engine as engine_module
import images
import pytest
import standin
from engine_proxy import Proxy

pytestmark = pytest.mark.engine

CLONE_NEWNET = 0x40000000

# [[kind, address, port, token], …] as its argument; prints {"kind address port": what came of it}.
PROBE = r"""
import json, socket, struct, sys, threading
out = {}
def question(name):
    labels = b"".join(bytes([len(x)]) + x.encode() for x in name.split("."))
    return b"\x12\x34\x01\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
def one(kind, address, port, token):
    try:
        if kind == "name":
            out["name"] = str(socket.getaddrinfo(token, 80))
            return
        tcp = kind == "tcp"
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        s.settimeout(1.5)
        s.connect((address, port))
        s.send(question(token) if kind == "dns" else token.encode())
        out[f"{kind} {address} {port}"] = "got %d" % len(s.recv(512))
    except OSError as e:
        out[f"{kind} {address} {port}"] = str(e)
todo = [threading.Thread(target=one, args=t, daemon=True) for t in json.loads(sys.argv[1])]
for t in todo:
    t.start()
for t in todo:
    t.join(6)
print(json.dumps(out))
"""


def run(*args, check=True):
    return subprocess.run(args, capture_output=True, text=True, check=check, env=engine_module.SIDE)


def in_network_of(path, make):
    """What make() returns, called in the network namespace that is path: its sockets are of there."""
    got = []

    def there():
        with open(path) as f:
            if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        got.append(make())

    t = threading.Thread(target=there)
    t.start()
    t.join()
    return got[0]


class Outside:
    """A network namespace that is the internet: reached through this host, and with a DNS authority."""

    def __init__(self):
        self.name = f"cbo{os.getpid()}"
        net = next(f"198.18.{n}" for n in range(1, 255)
                   if f"198.18.{n}." not in run("ip", "-4", "-o", "addr").stdout)
        self.address, self.gateway = f"{net}.2", f"{net}.1"
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.name, "type", "veth", "peer", "name", "out", "netns", self.name)
        run("ip", "addr", "add", f"{self.gateway}/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        for args in (("addr", "add", f"{self.address}/24", "dev", "out"), ("link", "set", "out", "up"),
                     ("link", "set", "lo", "up"), ("route", "add", "default", "via", self.gateway)):
            run("ip", "-n", self.name, *args)
        path = f"/run/netns/{self.name}"
        self.dns = in_network_of(path, lambda: standin.NameServer(self.address, 53))
        self.tcp = in_network_of(path, lambda: standin.Listener(address=self.address))

    def close(self):
        self.dns.close()
        self.tcp.close()
        run("ip", "netns", "del", self.name)
        run("ip", "link", "del", self.name, check=False)


@pytest.fixture(scope="module")
def outside():
    why = engine_module.missing()
    if why:
        pytest.skip(why)
    o = Outside()
    yield o
    o.close()


@pytest.fixture(scope="module")
def eng(image_of, outside):
    """Its resolver asks the authority outside, its default network has IPv6, its containers survive
    its restart."""
    tag = image_of("shell")
    with engine_module.Engine(live_restore=True, more=["--dns", outside.address, "--ipv6",
                                                       "--fixed-cidr-v6", "fd5c:1b::/64"]) as e:
        images.load(e, "shell")
        e.shell = tag
        yield e


class Ears:
    """Listeners of this host and of the outside, and what they have heard."""

    def __init__(self, outside):
        udp = socket.SOCK_DGRAM
        self.every_tcp = standin.Listener(address="0.0.0.0")
        self.every_udp = standin.Listener(udp, "0.0.0.0")
        self.loop_tcp = standin.Listener()
        self.loop_udp = standin.NameServer()
        self.outside = outside
        outside.dns.got.clear(), outside.tcp.got.clear()

    def all(self):
        return [self.every_tcp, self.every_udp, self.loop_tcp, self.loop_udp, self.outside.dns,
                self.outside.tcp]

    def heard(self):
        return [(peer, data) for e in self.all() for _, peer, data in list(e.got)]

    def heard_token(self, token):
        return any(token.encode() in data or token.split(".")[0].encode() in data
                   for _, data in self.heard())

    def probes(self, more=()):
        """Every address of this host and of `more` on every listener's port, the resolvers, the
        outside."""
        hosts = re.findall(r"inet (\d+\.\d+\.\d+\.\d+)", run("ip", "-4", "-o", "addr").stdout)
        out = []
        for address in sorted({*hosts, *more, "127.0.0.1"}):
            out += [["tcp", address, e.port] for e in (self.every_tcp, self.loop_tcp)]
            out += [["udp", address, e.port] for e in (self.every_udp, self.loop_udp)]
            out += [["dns", address, self.loop_udp.port]]
        out += [["dns", a, 53] for a in ("127.0.0.11", self.outside.address, *more)]
        out += [["tcp", a, 53] for a in ("127.0.0.11", *more)]
        out += [["tcp", self.outside.address, self.outside.tcp.port], ["name", "", 0]]
        return [[*p, f"{secrets.token_hex(8)}.wall.test"] for p in out]

    def close(self):
        for e in self.all()[:4]:
            e.close()


@pytest.fixture
def ears(outside):
    e = Ears(outside)
    yield e
    e.close()


def token_of(probes, kind, address, port):
    return next(t for k, a, p, t in probes if (k, a, p) == (kind, address, port))


@pytest.fixture
def shell_home(make_home):
    def make(e):
        h = make_home(engine=e)
        h.write_bottle("box")
        h.write_agent("worker", "box")
        return h
    return make


def addresses_of(e, slug):
    """{role: address in the wall} of a bottle, and the gateways of both networks."""
    out = {}
    for name, labels in world.ours(e).items():
        if labels[world.SLUG] != slug:
            continue
        kind, name = name.split()
        if kind == "network":
            found = e.api("GET", f"/networks/{name}")[1]
            out[labels[world.ROLE] + " gateway"] = found["IPAM"]["Config"][0]["Gateway"]
        else:
            for network in e.inspect(name)["NetworkSettings"]["Networks"].values():
                is_outer = network["IPAMConfig"] and network["Gateway"] == out.get("outer gateway")
                out[labels[world.ROLE] + (" outer" if is_outer else "")] = network["IPAddress"]
    return out


def probe_from_bottle(e, home, ears):
    """(probes, what came of them) from inside a bottle that runs."""
    with world.background(home, "sleep", "600") as b:
        more = {a for a in addresses_of(e, b.slug).values() if a}
        assert len(more) >= 4, more
        probes = ears.probes(more)
        r = b.exec("python3", "-c", PROBE, json.dumps(probes), check=True)
    return probes, json.loads(r.stdout)


def check_walled(e, home, ears):
    probes, out = probe_from_bottle(e, home, ears)
    assert len(out) > 20 and ears.heard() == []
    # What answered is the bundle, and only its two doors: the proxy was not asked for, so DNS alone.
    answered = {k for k, v in out.items() if v.startswith("got")}
    assert all(k.startswith(("dns ", "tcp ")) and k.endswith(" 53") for k in answered), answered
    assert not any(k.startswith("dns 127.0.0.11") for k in answered)
    assert "name" not in out or "error" in out["name"].lower() or not out["name"].startswith("[")


# --- what is reached, and what is not ---

def test_nothing_is_heard(eng, shell_home, ears):
    check_walled(eng, shell_home(eng), ears)


def control(e, network, probes):
    r = e.docker("run", "--rm", "--network", network, e.shell, "python3", "-c", PROBE, json.dumps(probes))
    return json.loads(r.stdout)


@pytest.mark.parametrize("kind", ["bridge", "internal"])
def test_control_of_an_ordinary_network(eng, ears, outside, kind):
    """The same probes, the same image, a plain network: they arrive."""
    made = eng.docker("network", "create", *(["--internal"] if kind == "internal" else []), "plain")
    try:
        gateway = eng.api("GET", "/networks/plain")[1]["IPAM"]["Config"][0]["Gateway"]
        own = f"172.{eng.n}.0.1"
        probes = ears.probes({gateway})
        out = control(eng, "plain", probes)
        must = [("tcp", gateway, ears.every_tcp.port), ("udp", gateway, ears.every_udp.port),
                ("tcp", own, ears.every_tcp.port), ("tcp", outside.gateway, ears.every_tcp.port)]
        if kind == "bridge":
            must += [("dns", "127.0.0.11", 53), ("dns", outside.address, 53),
                     ("tcp", outside.address, outside.tcp.port)]
        for m in must:
            assert ears.heard_token(token_of(probes, *m)), (m, out)
        if kind == "bridge":
            assert token_of(probes, "name", "", 0) in outside.dns.names
    finally:
        eng.docker("network", "rm", made.stdout.strip())


def test_control_of_the_host(eng, ears):
    """The listeners on loopback hear whoever is in the host's own network."""
    probes = ears.probes()
    control(eng, "host", probes)
    for m in (("tcp", "127.0.0.1", ears.loop_tcp.port), ("dns", "127.0.0.1", ears.loop_udp.port)):
        assert ears.heard_token(token_of(probes, *m)), m


# --- the proof that a start makes ---

def agent_of(e):
    return next(n.split()[1] for n, labels in world.ours(e).items() if labels[world.ROLE] == "agent")


def ip_in(e, role, *args, check=True):
    name = next(n.split()[1] for n, labels in world.ours(e).items()
                if labels[world.ROLE] == role and n.startswith("container "))
    return run("nsenter", "-t", str(world.pid_of(e, name)), "-n", *args, check=check)


def gateway_of(e, role="wall"):
    name = next(n.split()[1] for n, labels in world.ours(e).items() if labels[world.ROLE] == role)
    return e.api("GET", f"/networks/{name}")[1]["IPAM"]["Config"][0]


def open_default_route(e, _):
    ip_in(e, "agent", "ip", "route", "add", "default", "via", gateway_of(e)["Gateway"], "dev", "eth0",
          "onlink")


def open_other_table(e, _):
    ip_in(e, "agent", "ip", "route", "add", "default", "dev", "eth0", "table", "77")
    ip_in(e, "agent", "ip", "rule", "add", "from", "all", "lookup", "77")


def open_subnet(e, _):
    ip_in(e, "agent", "ip", "route", "add", gateway_of(e)["Subnet"], "dev", "eth0")


def open_resolver(e, _):
    ip_in(e, "agent", "ip", "route", "del", "unreachable", "127.0.0.11", "table", "local")


def open_network(e, _):
    e.api("POST", "/networks/bridge/connect", {"Container": agent_of(e)})


def open_address6(e, _):
    ip_in(e, "agent", "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6; "
                                  "ip -6 addr add fd5c:1c::7/128 dev eth0")


LISTEN = ("import socket, sys, time; s = socket.socket(); s.setsockopt(1, 2, 1); "
          "s.bind((sys.argv[1], int(sys.argv[2]))); s.listen(8); print('up', flush=True); time.sleep(20)")


def listen_in(e, role, address, port, children):
    name = next(n.split()[1] for n, labels in world.ours(e).items()
                if labels[world.ROLE] == role and n.startswith("container "))
    p = subprocess.Popen(["nsenter", "-t", str(world.pid_of(e, name)), "-n", sys.executable, "-c", LISTEN,
                          address, str(port)], stdout=subprocess.PIPE)
    children.append(p)
    assert p.stdout.readline() == b"up\n"


def open_egress(e, children):
    listen_in(e, "bundle", "0.0.0.0", 9099, children)


def open_metadata(e, children):
    ip_in(e, "agent", "ip", "addr", "add", "169.254.169.254/32", "dev", "lo")
    listen_in(e, "agent", "169.254.169.254", 80, children)


OPEN = [(open_default_route, "a default route"), (open_other_table, "a default route"),
        (open_subnet, "a route to more than the bundle"), (open_resolver, "the engine's resolver"),
        (open_network, "default route|route to more|one interface too many"),
        (open_address6, "an IPv6 address|a route to more"), (open_egress, "egress .*9099.* can be reached"),
        (open_metadata, "metadata .*169.254.169.254:80.* can be reached")]


def before_the_canary(proxy, what):
    """Nothing is asked of the engine after the closing and before the canary but this."""
    proxy.on("GET", r"^/containers/json\?filters=.*role%3Dbundle", before=lambda *_: what())


@pytest.fixture
def proxied(eng, scratch):
    p = Proxy(scratch, eng.socket)
    yield p
    p.close()
    assert p.failures == []


def test_control_of_the_proxy(eng, proxied, shell_home):
    asked = []
    before_the_canary(proxied, lambda: asked.append(1))
    shell_home(proxied).start("true", check=True)
    assert asked


@pytest.mark.parametrize("how, words", OPEN, ids=[f.__name__ for f, _ in OPEN])
def test_open_wall_is_refused(eng, proxied, shell_home, ears, how, words):
    children = []
    before_the_canary(proxied, lambda: how(eng, children))
    home = shell_home(proxied)
    try:
        r = home.start("sh", "-c", "echo ran | tee $HOME/ran")
    finally:
        for c in children:
            c.kill()
            c.wait()
            c.stdout.close()
    line = world.one_line(r)
    assert line.startswith("canary: ") and re.search(words, line), line
    assert r.stdout == ""
    assert not os.path.exists(f"{home.state}/{world.slug_folders(home)[0]}/home/ran")
    assert world.ours(eng) == {} and world.left_on_host(home) == [] and ears.heard() == []


def without_inhibit(spec):
    if spec.get("Internal"):
        del spec["Options"]["com.docker.network.bridge.inhibit_ipv4"]
    return spec


@pytest.mark.parametrize("has_route", [False, True])
def test_gateway_that_the_host_has(eng, proxied, shell_home, ears, has_route):
    """The bridge has the host's address on it after all. Alone it is out of reach, since there is no
    route to it; with one the start is refused."""
    proxied.on("POST", "^/networks/create$", request=without_inhibit)
    home = shell_home(proxied)
    if not has_route:
        check_walled(eng, home, ears)
        return
    before_the_canary(proxied, lambda: open_subnet(eng, None))
    line = world.one_line(home.start("true"))
    assert "route to more than the bundle" in line
    assert world.ours(eng) == {} and ears.heard() == []


def test_engine_that_closes_nothing_itself(eng, proxied, shell_home, ears):
    """Not internal, with a gateway and masquerading: routes alone hold the wall."""
    def ordinary(spec):
        spec["Internal"] = False
        spec.pop("Options", None)
        return spec

    proxied.on("POST", "^/networks/create$", request=ordinary)
    check_walled(eng, shell_home(proxied), ears)


# --- IPv6, ports, the engine's restart ---

def test_no_ip6(eng, shell_home):
    r = eng.docker("run", "--rm", eng.shell, "cat", "/proc/net/if_inet6")
    assert "fd5c001b" in r.stdout  # control: the engine gives it to others
    home = shell_home(eng)
    r = home.start("cat", "/proc/net/if_inet6", check=True)
    assert [line for line in r.stdout.splitlines() if not line.startswith("0" * 31 + "1")] == []


def reaches(address):
    return "reached" in run(sys.executable, "-c", REACH, address, check=False).stdout


# By what it says: a network may have a proxy that takes connections to anywhere.
SERVE = """
import socket
s = socket.socket()
s.bind(("", 7777))
s.listen(8)
while True:
    c, _ = s.accept()
    c.sendall(b"reached")
    c.close()
"""
REACH = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7777), 1)
print(s.recv(64).decode())
"""


def test_port_of_the_agent(eng, shell_home):
    """Nobody but the bundle is on its network: not the host, not another container, no other bottle."""
    eng.docker("network", "create", "--internal", "plain")
    open_one = eng.docker("run", "-d", "--network", "plain", eng.shell, "python3", "-c", SERVE).stdout.strip()
    other = eng.docker("run", "-d", eng.shell, "sleep", "600").stdout.strip()
    home = shell_home(eng)
    try:
        control = eng.inspect(open_one)["NetworkSettings"]["Networks"]["plain"]["IPAddress"]
        assert bottle.wait_until(lambda: reaches(control), 20)  # an ordinary one is reached by the host
        with world.background(home, "python3", "-c", SERVE) as b, \
                world.background(home, "sleep", "600") as second:
            address = addresses_of(eng, b.slug)["agent"]
            assert bottle.wait_until(
                lambda: "reached" in b.exec("python3", "-c", REACH, address).stdout, 20)
            assert not reaches(address)
            for who in (other, open_one):
                r = eng.docker("exec", who, "python3", "-c", REACH, address, check=False)
                assert "reached" not in r.stdout
            r = second.exec("python3", "-c", REACH, address)
            assert r.returncode != 0 and "unreachable" in r.stderr
    finally:
        for c in (open_one, other):
            eng.docker("rm", "-f", c)
        eng.docker("network", "rm", "plain")


def test_restarted_engine(eng, shell_home, ears):
    """It puts its rules in place anew, and keeps the containers; the bottle has ended, and no process
    of it is left to make use of whatever the rules are by then. A new one's wall holds again."""
    home = shell_home(eng)
    with world.background(home, "sleep", "600") as b:
        pids = world.pids_in(eng, f"claude-bottle-{b.slug}")
        assert pids
        eng.restart()
        assert b.wait(30) != 0
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, pids)), 10)
    home.run("cleanup", check=True)
    check_walled(eng, home, ears)
    home.run("cleanup", check=True)
    assert world.ours(eng) == {}

"""What the host and the engine can see of running bottles: how their containers are walled, that their
networks lead nowhere, and that no credential is anywhere in them."""
import concurrent.futures
import ipaddress
import json
import os
import re
import subprocess
import tempfile
import time

import bottle
import engine as engine_module
import pytest
import standin
from session import detach, states, wait_for

TOKEN = "tok-" + "H4mburg0sl0L1ma" * 2 + "-real"

pytestmark = pytest.mark.engine


@pytest.fixture
def backend():
    return "docker"


@pytest.fixture(scope="module")
def pair(engine, image_of, scratch, rule_cache, authority):
    """(home, [slug, slug], upstream): two bottles that wait, each with a credential on its route."""
    image_of("shell")
    home = bottle.Home(tempfile.mkdtemp(prefix="h", dir=scratch), cache=rule_cache,
                       docker_host=engine.host)
    home.secrets["CB_TOKEN"] = TOKEN
    auth = {"scheme": "bearer", "env": "API_TOKEN", "token_ref": "env:CB_TOKEN"}
    with standin.Upstream(authority, ["api.example.test"], stem="pair") as upstream:
        home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"], auth=auth)],
                          resolve={"api.example.test": upstream.address}, ca=authority.path,
                          limits={"memory": "512M", "processes": 64})
        home.write_agent("worker", "box")
        yield home, [detach(home, "sleep", "1000") for _ in range(2)], upstream
        home.remove()


def containers_of(engine, slug):
    """{role: its inspection}"""
    return {c["Labels"]["claude-bottle.role"]: engine.inspect(c["Id"]) for c in engine.containers()
            if c["Labels"].get("claude-bottle.slug") == slug}


def networks_of(engine, slug):
    return {n["Labels"]["claude-bottle.role"]: engine.api("GET", f"/networks/{n['Id']}")[1]
            for n in engine.networks() if n["Labels"].get("claude-bottle.slug") == slug}


def address_of(said, network):
    of = {n["NetworkID"]: n["IPAddress"] for n in said["NetworkSettings"]["Networks"].values()}
    return of[network["Id"]]


def test_both_are_walled_alike(pair, engine):
    home, slugs, _ = pair
    for slug in slugs:
        of = containers_of(engine, slug)
        assert set(of) == {"agent", "bundle"}
        for role, said in of.items():
            host, config = said["HostConfig"], said["Config"]
            assert host["Privileged"] is False and host["ReadonlyRootfs"] is True
            assert host["CapDrop"] == ["ALL"]
            assert [x for x in host["SecurityOpt"] if x == "no-new-privileges"]
            profile, = [x for x in host["SecurityOpt"] if x.startswith("seccomp=")]
            refused = {name for rule in json.loads(profile[8:])["syscalls"] for name in rule["names"]}
            assert {"mount", "ptrace", "bpf", "unshare", "setns", "keyctl"} <= refused
            assert len(host["SecurityOpt"]) == 2
            for name in ("NetworkMode", "IpcMode", "PidMode", "UTSMode", "UsernsMode", "CgroupnsMode"):
                assert host[name] != "host" and not host[name].startswith("container:"), (name, host[name])
            assert (host["IpcMode"], host["CgroupnsMode"], host["PidMode"]) == ("private", "private", "")
            assert host["LogConfig"]["Type"] == "none" and host["RestartPolicy"]["Name"] in ("no", "")
            assert not host["Binds"] and not host["Devices"] and not host["VolumesFrom"]
            assert not host["PortBindings"] and host["PublishAllPorts"] is False
            assert not any(said["NetworkSettings"]["Ports"].values())
            assert host["MemorySwap"] == host["Memory"] > 0 and 0 < host["PidsLimit"] <= 64
            assert config["Labels"]["claude-bottle.slug"] == slug
            assert config["Labels"]["claude-bottle.state"] == f"{home.state}/{slug}"
            for m in said["Mounts"]:
                assert m["Type"] == "bind" and m["Propagation"] == "rprivate", m
                assert m["RW"] is (m["Destination"] == "/home/agent"), m
                assert "docker.sock" not in m["Source"] and m["Source"] != engine.socket
                assert m["Source"].startswith(f"{home.state}/{slug}/") or \
                    m["Destination"] == "/.claude-bottle/bundle", m
                assert os.path.basename(m["Source"]) != "control.sock"
        agent, bundle = of["agent"], of["bundle"]
        assert not agent["HostConfig"]["CapAdd"]
        assert sorted(bundle["HostConfig"]["CapAdd"]) == \
            ["CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"] or \
            sorted(bundle["HostConfig"]["CapAdd"]) == \
            ["KILL", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID"]
        uid = os.stat(f"{home.state}/{slug}/home").st_uid
        assert uid != 0 and agent["Config"]["User"] == f"{uid}:{uid}"
        assert (agent["HostConfig"]["Memory"], agent["HostConfig"]["PidsLimit"]) == (512 << 20, 64)
        # The kernel's own word.
        for line in open(f"/proc/{agent['State']['Pid']}/status"):
            key, _, value = line.partition(":\t")
            if key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(value, 16) == 0, line
            if key in ("NoNewPrivs", "Seccomp"):
                assert int(value) > 0, line


def test_no_namespace_is_the_hosts(pair, engine):
    home, slugs, _ = pair
    seen = set()
    for slug in slugs:
        for said in containers_of(engine, slug).values():
            for name in ("net", "pid", "ipc", "uts", "mnt", "cgroup"):
                own, its = (os.stat(f"/proc/{p}/ns/{name}").st_ino for p in ("self", said["State"]["Pid"]))
                assert own != its and (name, its) not in seen, (name, said["Name"])
                seen.add((name, its))


def test_networks(pair, engine):
    home, slugs, _ = pair
    nets, names = [], set()
    for slug in slugs:
        of, of_nets = containers_of(engine, slug), networks_of(engine, slug)
        assert set(of_nets) == {"wall", "outer"}
        wall, outer = of_nets["wall"], of_nets["outer"]
        assert wall["Internal"] is True and wall["EnableIPv6"] is False and wall["Driver"] == "bridge"
        assert outer["Internal"] is False
        assert {n["NetworkID"] for n in of["agent"]["NetworkSettings"]["Networks"].values()} == {wall["Id"]}
        assert {n["NetworkID"] for n in of["bundle"]["NetworkSettings"]["Networks"].values()} == \
            {wall["Id"], outer["Id"]}
        assert set(wall["Containers"]) == {of["agent"]["Id"], of["bundle"]["Id"]}
        assert set(outer["Containers"]) == {of["bundle"]["Id"]}
        # No address of the host's on the wall's bridge; control: on the other's there is one.
        assert " inet " not in ip("addr", "show", "dev", f"br-{wall['Id'][:12]}")
        assert " inet " in ip("addr", "show", "dev", f"br-{outer['Id'][:12]}")
        pid = of["agent"]["State"]["Pid"]
        pinned = address_of(of["bundle"], wall)
        inside = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-4", "route", "show"],
                                capture_output=True, text=True).stdout.split("\n")
        assert [x.split()[0] for x in inside if x] == [pinned], inside
        links = subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-o", "link", "show", "up"],
                               capture_output=True, text=True).stdout
        assert len(links.splitlines()) == 2, links
        assert "inet6" not in subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "-6", "addr", "show",
                                              "scope", "link"], capture_output=True, text=True).stdout
        nets += [ipaddress.ip_network(n["IPAM"]["Config"][0]["Subnet"]) for n in (wall, outer)]
        names |= {wall["Name"], outer["Name"]}
    assert len(names) == 4 and len(set(nets)) == 4
    assert not any(a.overlaps(b) for a in nets for b in nets if a is not b)


def ip(*args):
    return subprocess.run(["ip", *args], capture_output=True, text=True).stdout


LISTEN = """
import socket, sys, threading
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("0.0.0.0", 9000))
s.listen(16)
print("listening", flush=True)
while True:
    c, _ = s.accept()
    c.sendall(b"listener\\n")
    c.close()
"""

DIAL = ("for a in %s; do if (exec 3<>/dev/tcp/$a) 2>/dev/null; then echo \"reached $a\"; "
        "else echo \"refused $a\"; fi; done")


def test_neither_reaches_the_other_nor_the_host(pair, engine):
    home, (one, two), upstream = pair
    of = {s: containers_of(engine, s) for s in (one, two)}
    nets = {s: networks_of(engine, s) for s in (one, two)}
    theirs = {"agent": address_of(of[two]["agent"], nets[two]["wall"]),
              "pinned": address_of(of[two]["bundle"], nets[two]["wall"]),
              "outer": address_of(of[two]["bundle"], nets[two]["outer"])}
    own = address_of(of[one]["bundle"], nets[one]["wall"])
    own_outer = address_of(of[one]["bundle"], nets[one]["outer"])
    gateways = [n["IPAM"]["Config"][0]["Gateway"] for s in nets for n in nets[s].values()]
    host = re.findall(r"inet ([\d.]+)", ip("-4", "addr", "show"))
    listener = subprocess.Popen(home.argv(["exec", two, "--", "python3", "-c", LISTEN]), env=home.env(),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert listener.stdout.readline() == b"listening\n"
        with standin.Listener(address="0.0.0.0") as canary:
            closed = [f"{theirs['agent']}/9000", f"{theirs['pinned']}/8888", f"{theirs['outer']}/8888",
                      f"{own}/9099", f"{own_outer}/8888", f"{upstream.address.replace(':', '/')}", "1.1.1.1/443"]
            closed += [f"{a}/{canary.port}" for a in {*gateways, *host}]
            began = time.monotonic()
            r = home.run("exec", one, "--", "bash", "-c", DIAL % " ".join(closed))
            assert r.stdout.splitlines() == [f"refused {a}" for a in closed], r.stdout + r.stderr
            assert time.monotonic() - began < 5, "refused at once, not in silence"
            assert canary.got == []
            # Controls: what was dialled does answer, to those who may.
            r = home.run("exec", one, "--", "bash", "-c", DIAL % f"{own}/8888")
            assert r.stdout == f"reached {own}/8888\n"
            pid = of[two]["bundle"]["State"]["Pid"]
            r = subprocess.run(["nsenter", "-t", str(pid), "-n", "bash", "-c",
                                DIAL % f"{theirs['agent']}/9000 {theirs['pinned']}/8888"],
                               capture_output=True, text=True)
            assert r.stdout.count("reached") == 2, r.stdout
            with standin.socket.create_connection(("127.0.0.1", canary.port), 2) as c:
                assert c.recv(100) == b"canary\n"
        # Nor by name, nor through the bundle.
        for target in (theirs["pinned"], theirs["agent"], gateways[1], "127.0.0.1", "169.254.169.254"):
            r = home.run("exec", one, "--", "curl", "-sS", "-m", "5", "-k", "--noproxy", "", f"https://{target}:9000/")
            assert r.returncode != 0 and "403" in r.stderr, r.stderr
        r = home.run("exec", one, "--", "getent", "hosts", f"claude-bottle-{two}", f"claude-bottle-{two}-bundle",
                     two)
        assert r.returncode == 2 and r.stdout == ""
    finally:
        listener.kill()
        listener.communicate()


def test_no_credential_is_anywhere_in_the_engine(pair, engine):
    home, slugs, upstream = pair
    r = home.run("exec", slugs[0], "--", "bash", "-c",
                 "curl -sS -H \"Authorization: Bearer $API_TOKEN\" https://api.example.test/json")
    assert r.returncode == 0 and upstream.saw(TOKEN), "control: the real one went to the upstream"
    for kind, ids in (("containers", [c["Id"] for c in engine.containers()]),
                      ("images", [i["Id"] for i in engine.api("GET", "/images/json?all=1")[1]]),
                      ("networks", [n["Id"] for n in engine.networks()])):
        assert ids
        for i in ids:
            path = f"/{kind}/{i}" + ("" if kind == "networks" else "/json")
            status, said = engine.api("GET", path)
            if status == 404:
                continue  # another test's, and gone
            found = standin.find_secret(json.dumps(said).encode(), TOKEN)
            assert status == 200 and not found, (path, found)
    environ = {x.partition("=")[0]: x.partition("=")[2] for x in
               home.run("exec", slugs[0], "--", "env").stdout.splitlines()}
    placeholder, canary = environ["API_TOKEN"], environ["DEPLOY_TOKEN_BACKUP"]
    assert placeholder and placeholder != TOKEN and canary
    for said in containers_of(engine, slugs[0]).values():
        text = json.dumps(said).encode()
        assert not standin.find_secret(text, placeholder) and not standin.find_secret(text, canary)
    for pid in bottle.all_processes():
        try:
            data = open(f"/proc/{pid}/cmdline", "rb").read()
        except OSError:
            continue
        assert not standin.find_secret(data, TOKEN), bottle.cmdline(pid)
    for pid in engine.pids():
        try:
            data = open(f"/proc/{pid}/environ", "rb").read()
        except OSError:
            continue
        assert not standin.find_secret(data, TOKEN), bottle.cmdline(pid)
    for folder in (home.folder, engine.folder + "/data/containers", engine.folder + "/data/network"):
        for top, _, files in os.walk(folder):
            for f in files:
                path = os.path.join(top, f)
                if os.path.isfile(path) and not os.path.islink(path):
                    assert not standin.find_secret(open(path, "rb").read(), TOKEN), path
    if os.geteuid() == 0:
        of = containers_of(engine, slugs[0])
        for pid in engine_module.with_descendants([of["agent"]["State"]["Pid"]]):
            assert not standin.memory_finds(pid, TOKEN)[0]
        by_role = {}
        for pid in engine_module.with_descendants([of["bundle"]["State"]["Pid"]]):
            by_role.setdefault(bottle.role_of(pid), []).append(pid)
        assert set(by_role) == {"init", "record", "keyd", "egress", "pipelock"}, by_role
        for role in ("init", "record", "pipelock"):
            assert not standin.memory_finds(by_role[role][0], TOKEN)[0], role
        assert "plain" in standin.memory_finds(by_role["keyd"][0], TOKEN)[0], "control"
        uids = {role: os.stat(f"/proc/{pids[0]}").st_uid for role, pids in by_role.items()}
        assert len(set(uids.values())) == len(uids), uids


def test_four_at_once(make_home, engine):
    home = make_home()
    home.write_bottle("box")
    home.write_agent("worker", "box")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slugs = list(pool.map(lambda _: detach(home, "sleep", "1000"), range(4)))
        assert len(set(slugs)) == 4 and sum(b["alive"] for b in states(home).values()) == 4
        subnets = [ipaddress.ip_network(n["IPAM"]["Config"][0]["Subnet"])
                   for s in slugs for n in networks_of(engine, s).values()]
        assert len(subnets) == 8
        assert not any(a.overlaps(b) for a in subnets for b in subnets if a is not b)
        for r in pool.map(lambda s: home.run("exec", s, "--", "hostname"), slugs):
            assert r.returncode == 0
        for r in pool.map(lambda s: home.run("stop", s, "--now"), slugs):
            assert r.returncode == 0, r.stderr
    assert not any(b["alive"] for b in states(home).values())
    for s in slugs:
        assert containers_of(engine, s) == {} and networks_of(engine, s) == {}
    assert not [b for b in engine_module.links() if b.startswith("br-") and
                any(str(n) in ip("-4", "addr", "show", "dev", b) for n in subnets)]


def test_addresses_that_somebody_has(make_home, engine):
    """A resumed bottle begins its search where it began before: there a bridge of the host's, or a
    network of the engine's, has come to be meanwhile."""
    home = make_home()
    home.write_bottle("box")
    home.write_agent("worker", "box")
    slug = detach(home, "sleep", "1000")

    def subnets():
        return sorted(n["IPAM"]["Config"][0]["Subnet"] for n in networks_of(engine, slug).values())

    def again():
        home.run("stop", slug, "--now", check=True)
        yield
        r = home.run("resume", slug, "--detach", "--", "sleep", "1000")
        assert r.returncode == 0, r.stderr + home.logs_of_all()
        assert home.run("exec", slug, "--", "true").returncode == 0

    first = subnets()
    for _ in again():
        pass
    assert subnets() == first, "control: undisturbed, it is the same"
    bridge = f"cbt{os.getpid() % 100000}"
    for _ in again():
        net = ipaddress.ip_network(first[0])
        for args in (("link", "add", bridge, "type", "bridge"), ("addr", "add", f"{net[5]}/30", "dev", bridge),
                     ("link", "set", bridge, "up")):
            subprocess.run(["ip", *args], check=True)
    try:
        second = subnets()
        assert not any(ipaddress.ip_network(n).overlaps(ipaddress.ip_network(first[0])) for n in second)
    finally:
        subprocess.run(["ip", "link", "del", bridge], check=True)
    for _ in again():
        engine.docker("network", "create", "--subnet", first[0], "tests-taken")
    try:
        third = subnets()
        assert not any(ipaddress.ip_network(n).overlaps(ipaddress.ip_network(first[0])) for n in third)
    finally:
        engine.docker("network", "rm", "tests-taken")
    home.run("stop", slug, "--now", check=True)
    wait_for(lambda: not states(home)[slug]["alive"])

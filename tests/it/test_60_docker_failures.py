"""What goes wrong with the docker backend: no engine, a wrong one, one that goes away, full disks,
names and addresses that are taken, processes that are killed. Each ends in one line that says what,
where and what to do, and leaves nothing; where the engine is gone too, `claude-bottle cleanup` finds
what is left once it is back."""
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time

import bottle
import docker_world as world
import engine as engine_module
import images
import pytest
from engine_proxy import Proxy

pytestmark = pytest.mark.engine

ORDINARY = engine_module.ordinary_user()


@pytest.fixture(scope="module")
def bundle_of(image_of):
    """The tags that an engine needs for a bottle whose image is the tiny one."""
    image_of("shell")
    return [image_of(name) for name in ("tools", "bundle")]


@pytest.fixture(scope="module")
def furnish(engine, bundle_of, tmp_path_factory):
    """furnish(another engine): it gets what a bottle needs, and nothing else."""
    folder = tmp_path_factory.mktemp("tiny")
    tar = world.make_tiny(folder)

    def to(e):
        images.copy(engine, e, bundle_of, folder)
        e.docker("import", tar, world.TINY)
        return e

    return to


@pytest.fixture(scope="module")
def own_engine(furnish):
    """One for this file: it is stopped, killed and started again. Its socket is a group's."""
    with engine_module.Engine(group=ORDINARY.pw_gid) as e:
        yield furnish(e)


@pytest.fixture
def eng(own_engine):
    """It answers, and afterwards there is nothing of ours in it."""
    if not own_engine.answers():
        own_engine.restart()
    yield own_engine
    if not own_engine.answers():
        own_engine.restart()
    left = world.ours(own_engine)
    if left:
        for kind, name in sorted(x.split() for x in left):
            own_engine.docker(kind, "rm", *(["-f"] if kind == "container" else []), name, check=False)
    assert left == {}


@pytest.fixture
def proxy_to(scratch):
    """proxy_to(engine or None): a Proxy, whose functions have found nothing wrong at the end."""
    made = []

    def make(e):
        made.append(Proxy(scratch, e.socket if e else None))
        return made[-1]

    yield make
    for p in made:
        p.close()
        assert p.failures == []


@pytest.fixture
def docker_home(make_home):
    """docker_home(engine or proxy, uid=None): the agent "worker" in the tiny image."""
    def make(e, uid=None, **more):
        h = make_home(uid=uid, engine=e)
        h.write_bottle("box", image=world.TINY, **more)
        h.write_agent("worker", "box")
        return h
    return make


def host_home(make_home, host, backend="docker"):
    h = make_home()
    h.docker_host, h.backend = host, backend
    h.write_bottle("box", **({"image": world.TINY} if backend else {}))
    h.write_agent("worker", "box")
    return h


def check_nothing(home, e):
    assert world.ours(e) == {}
    assert world.left_on_host(home) == []


def agent_counts(b):
    """Whether the agent of `count` goes on."""
    path = f"{b.folder}/home/n"
    before = os.path.getsize(path) if os.path.exists(path) else 0
    time.sleep(0.25)
    return os.path.exists(path) and os.path.getsize(path) > before


def counting(home):
    b = world.background(home, "/tiny", "count", "/home/agent/n")
    assert bottle.wait_until(lambda: agent_counts(b), 10)
    return b


# --- no engine, a wrong one ---

def test_no_engine(make_home):
    home = host_home(make_home, "unix:///nonexistent/d.sock")
    line = world.one_line(home.start("/tiny", "tell"))
    assert "docker" in line and "/nonexistent/d.sock" in line and "running" in line
    assert world.slug_folders(home) == []


def test_no_engine_and_none_named(make_home):
    home = host_home(make_home, "unix:///nonexistent/d.sock", backend=None)
    r = home.start("true", check=True)
    assert r.stderr.startswith("claude-bottle: backend native: ")
    first = r.stderr.splitlines()[0]
    assert "not docker: " in first and "/nonexistent/d.sock" in first
    assert world.said(r.stderr) == []


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "ssh://user@example.test", "http://x",
                                  "unix://relative.sock", "unix:///" + "d" * 200, "fd://"])
def test_engine_elsewhere_is_refused(make_home, host):
    home = host_home(make_home, host)
    line = world.one_line(home.start("/tiny", "tell"))
    assert "DOCKER_HOST" in line and "unix://" in line and host[:60] in line
    assert world.slug_folders(home) == []


def test_socket_without_permission(own_engine, make_home, ordinary):
    _, tree = ordinary
    home = make_home(uid=1, engine=own_engine)
    home.program = f"{tree}/build/claude-bottle"
    home.write_bottle("box", image=world.TINY)
    home.write_agent("worker", "box")
    line = world.one_line(home.start("/tiny", "tell"))
    assert "permission denied" in line and own_engine.socket in line and "group" in line
    assert world.slug_folders(home) == []


def test_user_of_the_group(eng, docker_home, ordinary):
    """No root anywhere but in the engine: the agent's network is closed by a container."""
    uid, _ = ordinary
    home = ordinary_home(docker_home, eng, ordinary)
    with counting(home) as b:
        assert b.exec("/tiny", "tell", "hello", check=True).stdout == "hello\n"
        names = {labels[world.ROLE] for labels in world.ours(eng).values()}
        assert names == {"agent", "bundle", "wall", "outer"}
        assert eng.inspect(f"claude-bottle-{b.slug}")["Config"]["User"].startswith(f"{uid}:")
        home.run("stop", b.slug, check=True)
        assert b.wait() != 0
    check_nothing(home, eng)
    home.run("cleanup", check=True)
    assert world.slug_folders(home) == []


def test_closer_that_fails(eng, docker_home, ordinary, proxy_to):
    """What closes the agent's network says why it cannot, and the bottle is not started."""
    def astray(spec):
        spec["Cmd"][-1] = "10.11.12.13"
        return spec

    proxy = proxy_to(eng)
    proxy.on("POST", "^/containers/create.*-closer$", request=astray)
    home = ordinary_home(docker_home, proxy, ordinary)
    line = world.one_line(home.start("/tiny", "count", "/home/agent/n"))
    assert "the agent's network cannot be closed" in line and "10.11.12.13" in line
    assert "claude-bottle" not in line
    assert not os.path.exists(f"{home.state}/{world.slug_folders(home)[0]}/home/n")
    check_nothing(home, eng)


def test_stale_socket(make_home, scratch):
    path = f"{scratch}/stale.sock"
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.close()
    line = world.one_line(host_home(make_home, f"unix://{path}").start("/tiny", "tell"))
    assert "nobody listens" in line and path in line
    os.unlink(path)


@pytest.mark.parametrize("backend", ["docker", None])
def test_engine_that_never_answers(make_home, scratch, backend):
    path = f"{scratch}/mute.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        s.listen(8)
        home = host_home(make_home, f"unix://{path}", backend=backend)
        began = time.monotonic()
        if backend:
            line = world.one_line(home.start("/tiny", "tell"))
            assert "no answer" in line and path in line
            assert world.slug_folders(home) == []
        else:
            r = home.start("true", check=True)
            assert "not docker: " in r.stderr and "no answer" in r.stderr
        assert time.monotonic() - began < 8
    os.unlink(path)


def fake(proxy, version="1.41", minimum="1.12", options=()):
    proxy.on("GET", "^/version$", refuse=(200, {"Version": "99", "ApiVersion": version,
                                                "MinAPIVersion": minimum}))
    proxy.on("GET", "^/info$", refuse=(200, {"SecurityOptions": list(options)}))


@pytest.mark.parametrize("what, words", [
    ({"version": "1.39"}, ("too old", "19.03")), ({"version": "1.99", "minimum": "1.98"}, ("too new",)),
    ({"version": "x"}, ("version",)),
    ({"options": ["name=seccomp,profile=default", "name=userns"]}, ("userns-remap", "user ids")),
    ({"options": ["name=rootless"]}, ("rootless", "user ids"))])
def test_engine_that_cannot_be_used(make_home, proxy_to, what, words):
    proxy = proxy_to(None)
    fake(proxy, **what)
    home = host_home(make_home, proxy.host)
    line = world.one_line(home.start("/tiny", "tell"))
    assert all(w in line for w in words) and proxy.socket in line
    assert world.slug_folders(home) == []


# --- one that goes away ---

@pytest.fixture(scope="module")
def lasting_engine(furnish):
    """Its containers survive it."""
    with engine_module.Engine(live_restore=True) as e:
        yield furnish(e)


@pytest.mark.parametrize("which", ["own_engine", "lasting_engine"])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_engine_goes_away_in_mid_run(request, docker_home, which, how):
    e = request.getfixturevalue(which)
    if not e.answers():
        e.restart()
    home = docker_home(e)
    with counting(home) as b:
        agent = world.pids_in(e, f"claude-bottle-{b.slug}")
        bundle = world.pids_in(e, f"claude-bottle-{b.slug}-bundle")
        keeper = b.state()["pid"]
        assert agent and bundle
        getattr(e, how)()
        assert b.wait(30) != 0
        lines = world.said(b.process.stderr.read())
        assert len(lines) == 1 and "Docker engine" in lines[0], lines
        assert "claude-bottle cleanup" in lines[0] or e.answers(), lines
    assert bottle.wait_until(lambda: not bottle.is_alive(keeper), 10)
    assert bottle.wait_until(lambda: not any(map(bottle.is_alive, agent + bundle)), 10)
    r = home.run("cleanup")
    if r.returncode != 0:  # the engine is away: what is left is kept, and that is said
        line = world.one_line(r)
        assert b.slug in line and e.socket in line
        assert world.slug_folders(home) == [b.slug]
    e.restart()
    home.run("cleanup", check=True)
    assert world.slug_folders(home) == []
    check_nothing(home, e)


def test_engine_is_killed_while_a_bottle_starts(eng, docker_home):
    home = docker_home(eng)
    for delay_ms in range(50, 850, 150):
        p = subprocess.Popen(home.argv(["start", "worker", "--headless", "--", "/tiny", "wait"]),
                             env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay_ms / 1000)
        eng.kill()
        out, err = p.communicate(timeout=30)
        lines = world.said(err)
        assert p.returncode != 0 and out == "" and len(lines) == 1, (delay_ms, err)
        assert "Docker engine" in lines[0], (delay_ms, lines)
        assert world.keeper_tree(world.slug_folders(home)[-1]) == {} if world.slug_folders(home) else True
        eng.restart()
        home.run("cleanup", check=True)
        assert world.slug_folders(home) == []
        check_nothing(home, eng)


# --- images ---

def test_image_that_does_not_exist(eng, make_home):
    home = make_home(engine=eng)
    home.write_bottle("box", image="localhost:1/no/such:1")
    home.write_agent("worker", "box")
    line = world.one_line(home.start("/tiny", "tell"))
    assert "localhost:1/no/such:1" in line
    assert world.slug_folders(home) == []


def remove_image(e):
    e.api("DELETE", f"/images/{world.TINY}?force=1")


@pytest.mark.parametrize("moment", ["look", "create"])
def test_image_that_is_removed_while_a_bottle_starts(eng, docker_home, proxy_to, furnish, tmp_path,
                                                     moment):
    proxy = proxy_to(eng)
    if moment == "look":
        proxy.on("GET", "^/images/.*bundle", times=1)  # the CLI's; the keeper's is the next
        proxy.on("GET", "^/images/.*bundle", before=lambda *_: remove_image(eng), times=1)
    else:
        proxy.on("POST", r"^/containers/create\?name=claude-bottle-worker-[a-z0-9]+$", times=1,
                 before=lambda *_: remove_image(eng))
    home = docker_home(proxy)
    try:
        line = world.one_line(home.start("/tiny", "tell"))
        assert "image" in line.lower()
        check_nothing(home, eng)
    finally:
        eng.docker("import", world.make_tiny(tmp_path), world.TINY)


# --- disks ---

def fill(e):
    path = f"{e.data}/filler"
    with open(path, "wb") as f:
        try:
            while True:
                f.write(b"\0" * (1 << 20))
                f.flush()
        except OSError:
            pass
    return path


def test_full_disk(make_engine, furnish, docker_home, bundle_of):
    e = furnish(make_engine(data_mib=120))
    home = docker_home(e, root="writable")
    with counting(home):  # control: there is room
        pass
    r = home.start("/tiny", "fill", "/full", options=["--as-root"])  # the agent's own writing
    assert r.returncode == 3 and "No space left" in r.stderr
    check_nothing(home, e)

    filler = fill(e)
    try:
        line = world.one_line(home.start("/tiny", "tell"))
        assert "no space left" in line.lower()
        check_nothing(home, e)
    finally:
        os.unlink(filler)
    bundle = bundle_of[-1]
    e.docker("rmi", bundle)
    filler = fill(e)
    try:
        line = world.one_line(home.start("/tiny", "tell"))  # builds it
        assert "no space left" in line.lower()
    finally:
        os.unlink(filler)
    home.run("image", "build", "bundle", check=True)
    with counting(home) as b:
        filler = fill(e)
        assert agent_counts(b)  # its home is elsewhere
        assert b.process.poll() is None
        home.run("stop", b.slug, check=True)
    os.unlink(filler)
    home.run("cleanup", check=True)
    check_nothing(home, e)


# --- names and addresses that others have ---

def ended(home):
    """The slug of a bottle that may be resumed."""
    home.start("/tiny", "tell", check=True)
    return world.slug_folders(home)[-1]


def ordinary_home(docker_home, e, ordinary):
    uid, tree = ordinary
    home = docker_home(e, uid=uid)
    home.program = f"{tree}/build/claude-bottle"
    return home


@pytest.mark.parametrize("suffix", ["", "-bundle", "-closer"])
def test_container_of_the_same_name(eng, docker_home, ordinary, suffix):
    home = ordinary_home(docker_home, eng, ordinary)  # root needs no closer
    slug = ended(home)
    name = f"claude-bottle-{slug}{suffix}"
    eng.docker("create", "--name", name, world.TINY, "/tiny")
    line = world.one_line(home.run("resume", slug, "--headless", "--", "/tiny", "tell", timeout=60))
    assert name in line and line.endswith("docker rm)")
    home.run("cleanup", check=True)
    assert [c["Names"] for c in eng.containers()] == [[f"/{name}"]] and eng.networks() == []
    eng.docker("rm", name)


@pytest.mark.parametrize("suffix", ["", "-outer"])
def test_network_of_the_same_name(eng, docker_home, suffix):
    home = docker_home(eng)
    slug = ended(home)
    name = f"claude-bottle-{slug}{suffix}"
    id_ = eng.docker("network", "create", name).stdout.strip()
    line = world.one_line(home.run("resume", slug, "--headless", "--", "/tiny", "tell"))
    assert name in line and line.endswith("docker network rm)")
    home.run("cleanup", check=True)
    assert [n["Id"] for n in eng.networks()] == [id_] and eng.containers() == []
    eng.docker("network", "rm", name)


def test_network_that_overlaps(eng, docker_home, proxy_to):
    """Somebody takes the addresses between the look and the making: others are taken."""
    proxy = proxy_to(eng)

    def take(_, spec):
        eng.api("POST", "/networks/create", {
            "Name": "foreign", "Driver": "bridge", "Internal": True, "IPAM": {
                "Config": [{"Subnet": spec["IPAM"]["Config"][0]["Subnet"]}]},
            "Options": {"com.docker.network.bridge.inhibit_ipv4": "true"}})

    proxy.on("POST", "^/networks/create$", before=take, times=1)
    home = docker_home(proxy)
    home.start("/tiny", "tell", check=True)
    assert [n["Name"] for n in eng.networks()] == ["foreign"]
    eng.docker("network", "rm", "foreign")
    check_nothing(home, eng)


def test_no_addresses_are_left(eng, docker_home, proxy_to):
    proxy = proxy_to(eng)
    pools = ["10.208.0.0/13", "172.16.0.0/12", "192.168.0.0/16"]
    proxy.on("GET", "^/networks$", answer=lambda nets: nets + [
        {"Name": "vast", "IPAM": {"Config": [{"Subnet": s} for s in pools]}}])
    home = docker_home(proxy)
    line = world.one_line(home.start("/tiny", "tell"))
    assert "no addresses are free" in line
    check_nothing(home, eng)


# --- processes that are killed ---

def keeper_of(home, slug):
    """As it has written itself down, first of all. Not the first child of the CLI: that one may be
    compiling rules, and to kill it need not end anything."""
    try:
        with open(f"{home.state}/{slug}/bottle.json") as f:
            return json.load(f)["pid"]
    except FileNotFoundError:
        return None


def relay_of(keeper):
    for p in engine_module.with_descendants([keeper]) - {keeper}:
        try:
            with open(f"/proc/{p}/comm") as f:
                if f.read().strip() == "cb-relay":
                    return p
        except OSError:  # it has ended meanwhile
            continue
    return None


def kill_one(role, e, home, cli, slug):
    """False if there is none yet."""
    pid = cli if role == "cli" else None
    if role == "bundle" and slug:
        pid = world.pid_of(e, f"claude-bottle-{slug}-bundle")
    if role in ("keeper", "relay") and slug:
        pid = keeper_of(home, slug)
        if pid and role == "relay":
            pid = relay_of(pid)
    if pid:
        bottle.kill_quietly(pid)
    return bool(pid)


def test_killed_at_any_moment(eng, docker_home):
    """Whoever of a bottle is killed, at whatever moment of its start or run: no agent survives, and
    cleanup leaves nothing of ours."""
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    print(f"seed {seed}")
    home = docker_home(eng)
    roles = ["keeper", "cli", "bundle", "relay"]
    n_killed = 0
    for i in range(20):
        role, delay_s = roles[i % 4], rng.uniform(0.05, 1.6)
        p = subprocess.Popen(home.argv(["start", "worker", "--headless", "--", "/tiny", "wait"]),
                             env=home.env(), cwd=home.cwd, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(delay_s)
        slugs = world.slug_folders(home)
        slug = slugs[-1] if slugs else None
        killed = kill_one(role, eng, home, p.pid, slug)
        n_killed += killed
        if not killed:
            p.terminate()
        _, err = p.communicate(timeout=40)
        about = (seed, i, role, delay_s, p.returncode, err)
        assert p.returncode != 0, about
        if killed and role != "cli":
            assert len(world.said(err)) == 1, about
        if not slug:
            continue
        assert bottle.wait_until(lambda: not world.pids_in(eng, f"claude-bottle-{slug}"), 20), about
        assert bottle.wait_until(lambda: not world.is_kept(home, slug), 30), about
        assert world.keeper_tree(slug) == {}, about
        home.run("cleanup", check=True)
        assert world.slug_folders(home) == [], about
        # What the keeper had asked for when it died the engine may have made just now.
        if world.ours(eng):
            time.sleep(1)
            home.run("cleanup", check=True)
        check_nothing(home, eng)
    assert n_killed >= 10


# --- cleanup ---

def orphan(home, e):
    """The slug of a bottle whose keeper was killed; what it had in the engine is still there."""
    with counting(home) as b:
        os.kill(b.state()["pid"], signal.SIGKILL)
        b.wait()
    assert bottle.wait_until(lambda: not world.pids_in(e, f"claude-bottle-{b.slug}"), 20)
    assert len(world.ours(e)) == 4
    return b.slug


def test_two_cleanups_at_once(eng, docker_home):
    home = docker_home(eng)
    slugs = [orphan(home, eng)]
    with counting(home) as b:  # one that lives is not touched
        before = {n for n in world.ours(eng) if b.slug in n}
        ps = [subprocess.Popen(home.argv(["cleanup"]), env=home.env(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
              for _ in range(3)]
        outs = [p.communicate(timeout=60) for p in ps]
        assert [p.returncode for p in ps] == [0, 0, 0], outs
        assert set(world.ours(eng)) == before and len(before) == 4
        assert world.slug_folders(home) == [b.slug]
        assert agent_counts(b)
        assert sum(f"removed {slugs[0]}" in out for out, _ in outs) == 1, outs
    home.run("cleanup", check=True)
    check_nothing(home, eng)


def test_folder_that_was_removed_by_hand(eng, docker_home, scratch):
    """What nobody has a folder of is found by label; other state roots' is left alone."""
    home, other = docker_home(eng), docker_home(eng)
    slug = orphan(home, eng)
    with counting(other) as b:
        theirs = set(world.ours(eng, other.state))
        assert len(theirs) == 4
        # Theirs with a folder that is gone is still theirs.
        eng.docker("create", "--name", "theirs", "--label", f"{world.SLUG}=x", "--label",
                   f"{world.STATE}={other.state}/gone", "--label", f"{world.ROLE}=agent", world.TINY, "/tiny")
        # A root whose name begins with ours.
        eng.docker("create", "--name", "beside", "--label", f"{world.SLUG}=x", "--label",
                   f"{world.STATE}={home.state}-2/gone", world.TINY, "/tiny")
        subprocess.run(["rm", "-rf", f"{home.state}/{slug}"], check=True)
        r = home.run("cleanup", "--dry-run", check=True)
        assert "would remove 4 objects of docker" in r.stdout and len(world.ours(eng)) == 10
        r = home.run("cleanup", check=True)
        assert "removed 4 objects of docker" in r.stdout
        assert set(world.ours(eng)) == theirs | {"container theirs", "container beside"}
        assert agent_counts(b)
    eng.docker("rm", "theirs", "beside")


ODD = ["a b", "a:b", "a,b", "a'b", 'a"b', "a=b;c|d&e", "ä€😀", "a\\b", "-x", "%41%2f", "a\tb", "$HOME`id`"]


@pytest.mark.parametrize("name", ["plain and simple", " ".join(ODD)])
def test_state_folder_of_an_odd_name(eng, docker_home, scratch, name):
    """Paths go to the engine as mounts of the API, in which no character means anything."""
    home = docker_home(eng)
    home.state_home = tempfile.mkdtemp(dir=scratch) + "/" + name
    with counting(home) as b:
        assert b.exec("/tiny", "tell", "hello", check=True).stdout == "hello\n"
    check_nothing(home, eng)
    home.run("cleanup", check=True)
    assert world.slug_folders(home) == []


@pytest.mark.parametrize("name", [b"not utf-8 \xff", b"line\nfeed"])
def test_state_folder_that_cannot_be_named(eng, docker_home, scratch, name):
    """Either it works or one line says why not."""
    home = docker_home(eng)
    home.state_home = tempfile.mkdtemp(dir=scratch) + "/" + os.fsdecode(name)
    r = home.start("/tiny", "tell", "hello", text=False)
    r.stderr = r.stderr.decode(errors="replace")
    if r.returncode != 0:
        assert "UTF-8" in world.one_line(r) or "path" in world.one_line(r)
    else:
        assert r.stdout == b"hello\n"
    check_nothing(home, eng)
    home.run("cleanup", text=False)
    assert world.ours(eng) == {}

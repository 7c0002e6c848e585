"""The private engine that the tests of the docker backend use: it starts, it can be broken, and
nothing of it is left."""
import os
import subprocess
import sys
import time

import bottle
import engine as engine_module
import pytest

pytestmark = pytest.mark.engine


def of(e):
    """What leftovers() says of this engine, or would after its end."""
    words = (e.folder, os.path.basename(e.folder), e.bridge)
    return [s for s in engine_module.leftovers() if any(w in s.replace("/", " / ").split() or w in s
                                                        for w in words)]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """A tar with one static program that waits."""
    d = tmp_path_factory.mktemp("image")
    (d / "wait.c").write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    subprocess.run(["gcc", "-static", "-o", str(d / "wait"), str(d / "wait.c")], check=True)
    subprocess.run(["tar", "-C", str(d), "-cf", str(d / "image.tar"), "wait"], check=True)
    return str(d / "image.tar")


def run_one(e, image):
    e.docker("import", image, "wait:1")
    e.docker("network", "create", "more")
    return e.docker("run", "-d", "--stop-timeout", "1", "--network", "more", "wait:1",
                    "/wait").stdout.strip()


def test_killed_engine_leaves_its_containers_and_comes_back(make_engine, image):
    e = make_engine()
    before = engine_module.rules()[0]
    id_ = run_one(e, image)
    pid = e.inspect(id_)["State"]["Pid"]
    assert bottle.wait_until(lambda: bottle.cmdline(pid) == ["/wait"], 10) and pid in e.pids()
    e.kill()
    assert not e.answers() and bottle.is_alive(pid)
    e.start()
    assert e.answers() and e.inspect(id_)["State"]["Running"] is False
    assert not bottle.is_alive(pid)
    e.docker("rm", id_)
    e.docker("network", "rm", "more")
    assert set(before) <= set(engine_module.rules()[0])


def test_live_restore(make_engine, image):
    e = make_engine(live_restore=True)
    id_ = run_one(e, image)
    pid = e.inspect(id_)["State"]["Pid"]
    e.restart()
    assert bottle.is_alive(pid) and e.inspect(id_)["State"]["Running"] is True


@pytest.mark.parametrize("how", ["as it runs", "killed", "stopped"])
def test_close_leaves_nothing(make_engine, image, how):
    rules = engine_module.rules()
    links = engine_module.links()
    e = make_engine(data_mib=64)
    pid = e.inspect(run_one(e, image))["State"]["Pid"]
    assert len(of(e)) >= 8, of(e)  # control: processes, mounts, rules, the bridge are seen
    if how == "killed":
        e.kill()
    elif how == "stopped":
        e.stop()
    e.close()
    assert of(e) == [] and e.pids() == set() and not bottle.is_alive(pid)
    assert not os.path.exists(e.folder)
    assert set(rules[0]) <= set(engine_module.rules()[0])
    new = set(engine_module.rules()[0]) - set(rules[0])
    assert not [x for x in new if e.bridge in x[1] or f"172.{e.n}." in x[1]], new
    assert e.bridge not in engine_module.links() and e.bridge not in links


def test_rules_of_others_survive_a_start(make_engine, image):
    """dockerd empties the chains that every engine shares; another one's isolation must not go."""
    first = make_engine()
    first.docker("network", "create", "--internal", "inner")
    mine = [x for x in engine_module.rules()[0] if first.bridge in x[1] or f"172.{first.n}." in x[1]]
    assert any("DOCKER-ISOLATION" in x[1] for x in mine)
    second = make_engine()
    assert second.n != first.n
    assert set(mine) <= set(engine_module.rules()[0])
    second.close()
    assert set(mine) <= set(engine_module.rules()[0])
    assert first.answers()


def test_owner_that_dies_is_swept(make_engine):
    """Its engine ends by itself; what is left goes with the next engine, or with --sweep."""
    why = engine_module.missing()
    if why:
        pytest.skip(why)
    here = os.path.dirname(os.path.abspath(engine_module.__file__))
    p = subprocess.Popen([sys.executable, "-c",
                          f"import sys; sys.path.insert(0, {here!r}); import engine, time\n"
                          "e = engine.Engine(); print(e.folder, e.pid, flush=True); time.sleep(600)"],
                         stdout=subprocess.PIPE, text=True)
    folder, pid = p.stdout.readline().split()
    p.kill()
    p.wait()
    end = time.monotonic() + 15
    while bottle.is_alive(int(pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not bottle.is_alive(int(pid))
    assert os.path.exists(folder)
    assert folder in engine_module.sweep()
    assert not os.path.exists(folder)
    assert not [s for s in engine_module.leftovers() if folder in s]


def test_socket_of_a_group(make_engine):
    e = make_engine(group=engine_module.ordinary_user().pw_gid)
    s = os.stat(e.socket)
    assert s.st_mode & 0o777 == 0o660 and s.st_gid == engine_module.ordinary_user().pw_gid

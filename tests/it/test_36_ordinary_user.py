"""Everything works without root."""
import os
import re
import subprocess

import bottle
import pytest
import standin


def as_user(uid, argv, **kw):
    if os.geteuid() == 0:
        argv = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *argv]
    return subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, **kw)


@pytest.fixture
def user_home(make_home, ordinary, upstream, authority):
    uid, folder = ordinary
    home = make_home(uid if os.geteuid() == 0 else None)
    home.program = f"{folder}/build/claude-bottle"
    home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"])],
                      resolve={"api.example.test": upstream.address}, ca=authority.path)
    home.write_agent()
    return home


def test_bottle(user_home, upstream):
    r = user_home.start("sh", "-c", "id -u; curl -sS https://api.example.test/json; echo; "
                        "curl -sS https://evil.example.test/ -o /dev/null || echo stopped")
    assert r.returncode == 0, r.stderr + user_home.logs_of_all()
    assert '{"ok": true' in r.stdout and r.stdout.rstrip().endswith("stopped")
    assert len(upstream.requests) == 1
    with standin.Listener(address="0.0.0.0") as canary:
        r = user_home.start("bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{canary.port} && echo REACHED")
        assert "REACHED" not in r.stdout and canary.got == []


def test_nothing_is_left(user_home):
    with user_home.background() as running:
        pids = [p for ps in running.roles().values() for p in ps]
        if os.geteuid() == 0:
            # Kept open, so that its number is nobody else's meanwhile.
            netns = open(f"/proc/{running.roles()['agent'][-1]}/ns/net")
        assert len(pids) >= 7
        if os.geteuid() == 0:
            for pid in pids:
                assert os.stat(f"/proc/{pid}").st_uid in (user_home.uid, 0) and \
                    f"\nUid:\t{user_home.uid}\t" in open(f"/proc/{pid}/status").read(), \
                    bottle.cmdline(pid)
    assert user_home.run("cleanup").returncode == 0
    assert not any(bottle.is_alive(p) for p in pids)
    assert user_home.slugs() == []
    if os.geteuid() == 0:
        with netns:
            assert os.readlink(f"/proc/self/fd/{netns.fileno()}") not in bottle.network_namespaces()


def test_demo(ordinary, tmp_path, scratch):
    uid, folder = ordinary
    home = f"{scratch}/demo-home"
    os.makedirs(home, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(home, uid, uid)
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": home, "LANG": "C.UTF-8",
           "CLAUDE_BOTTLE_BUILD": f"{folder}/build"}
    r = as_user(uid, ["/usr/bin/python3", f"{folder}/tools/demo"], env=env, cwd="/", timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr
    assert re.findall(" (yes|no) *$", r.stdout, re.M) == ["yes"] * 24, r.stdout


@pytest.mark.parametrize("backend, named", [("docker", "none.sock"), ("smolmachines", "backend smolmachines")])
def test_demo_says_what_is_missing(ordinary, scratch, backend, named):
    uid, folder = ordinary
    env = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": scratch, "LANG": "C.UTF-8",
           "CLAUDE_BOTTLE_BUILD": f"{folder}/build", "DOCKER_HOST": f"unix://{scratch}/none.sock"}
    r = as_user(uid, ["/usr/bin/python3", f"{folder}/tools/demo", "--backend", backend], env=env,
                cwd="/", timeout=60)
    assert r.returncode == 1 and r.stdout == ""
    assert len(r.stderr.splitlines()) == 1 and named in r.stderr

"""Bottles in containers that begin again, and what is kept of one as an image."""
import json
import os
import re
import tarfile

import bottle
import pytest
import standin
from session import detach, states, wait_for

TOKEN = "tok-" + "M4l4g4R0st0ckBr3m3n" * 2 + "-real"

pytestmark = pytest.mark.engine


@pytest.fixture
def backend():
    return "docker"


@pytest.fixture
def box(make_home, upstream, authority):
    """A home with one allowed host and a credential for it, and a long list of authorities."""
    h = make_home()
    with open("/etc/ssl/certs/ca-certificates.crt") as system, open(f"{h.folder}/ca.pem", "w") as f:
        f.write(authority.pem + system.read())
    h.secrets["CB_TOKEN"] = TOKEN
    auth = {"scheme": "bearer", "env": "API_TOKEN", "token_ref": "env:CB_TOKEN"}
    h.allow = lambda **more: h.write_bottle(
        "box", routes=[bottle.route("api.example.test", paths=["/**"], auth=auth)],
        resolve={"api.example.test": upstream.address}, ca=f"{h.folder}/ca.pem", **more)
    h.allow()
    h.write_agent("worker", "box")
    return h


def resume(home, slug, *command):
    return home.run("resume", slug, "--headless", "--", *command)


TELL = ("id -u; stat -c %u ~; cat ~/note 2>/dev/null; echo $API_TOKEN; echo $DEPLOY_TOKEN_BACKUP; "
        "grep -o 'dpl_.*' ~/.config/deploy/credentials; "
        "curl -sS -H \"Authorization: Bearer $API_TOKEN\" -o /dev/null -w '%{http_code}\\n' "
        "https://api.example.test/json; tac /etc/claude-bottle/ca.pem | sed -n '2,/BEGIN/p' | md5sum")


def test_home_uid_and_new_secrets(box, upstream, engine):
    r = box.start("bash", "-c", "echo kept > ~/note; mkdir -m 0700 ~/deep; echo x > ~/deep/x; chmod 0 ~/deep; "
                                "echo gone > /tmp/gone; " + TELL)
    slug, = box.slugs()
    first = r.stdout.split("\n")
    uid = first[0]
    assert r.returncode == 0 and first[1] == uid != "0" and first[2] == "kept", r.stderr
    assert first[4] == first[5] and first[6] == "200", r.stdout
    r = resume(box, slug, "bash", "-c", TELL + "; chmod 700 ~/deep; cat ~/deep/x; ls /tmp; exit 7")
    assert r.returncode == 7, r.stderr + box.logs_of_all()
    assert r.stderr.splitlines()[0] == "claude-bottle: backend docker: the bottle's own"
    second = r.stdout.split("\n")
    assert second[:3] == [uid, uid, "kept"] and second[6] == "200" and second[8:] == ["x", ""]
    for i, what in ((3, "placeholder"), (4, "canary"), (7, "certificate")):
        assert first[i] and second[i] and first[i] != second[i], what
    assert second[4] == second[5]
    assert len(upstream.requests) == 2
    assert all(x.header("authorization") == "Bearer " + TOKEN for x in upstream.requests)
    r = box.run("logs", slug, "--verify")
    assert r.returncode == 0 and "unbroken" in r.stdout, r.stderr
    assert states(box)[slug]["exit_status"] == 7
    assert not [c for c in engine.containers() if slug in c["Names"][0]]


def test_after_a_kill(box, engine):
    """What a killed run has left in the engine is not in the way of the next."""
    slug = detach(box, "bash", "-c", "echo kept > ~/note; sleep 1000")
    assert box.run("exec", slug, "--", "bash", "-c", "until [ -s ~/note ]; do sleep 0.05; done").returncode == 0
    bottle.kill_quietly(states(box)[slug]["pid"])
    wait_for(lambda: not states(box)[slug]["alive"])
    assert [c for c in engine.containers() if slug in c["Names"][0]], "control: it has left something"
    r = resume(box, slug, "cat", "/home/agent/note")
    assert (r.returncode, r.stdout) == (0, "kept\n"), r.stderr + box.logs_of_all()
    assert not [c for c in engine.containers() if slug in c["Names"][0]]
    assert not [n for n in engine.networks() if slug in n["Name"]]


def added(path):
    """{name: bytes} of what the last layer of a saved image is made of, and all that is said of it."""
    with tarfile.open(path) as archive:
        manifest, = json.load(archive.extractfile("manifest.json"))
        return {m.name: archive.extractfile(m).read() for m in archive
                if m.isfile() and (m.name == manifest["Layers"][-1] or not m.name.endswith("layer.tar"))}


def test_snapshot(box, engine, scratch):
    box.allow(root="writable")
    script = ("mkdir -p /tmp/made; echo tool > /tmp/made/tool; echo of-the-home > ~/private; echo ready; " + TELL +
              "; sleep 1000")
    slug = detach(box, "sh", "-c", script, options=["--as-root"])
    r = box.run("exec", slug, "--", "bash", "-c",
                "until [ -s ~/private ]; do sleep 0.05; done; echo 'echo from-snapshot' > /usr/local/bin/mine; "
                "chmod 755 /usr/local/bin/mine; " + TELL)
    assert r.returncode == 0, r.stderr
    told = r.stdout.split("\n")
    placeholder, canary = told[2], told[3]
    assert canary.startswith("dpl_") and placeholder
    ca = box.run("exec", slug, "--", "cat", "/etc/claude-bottle/ca.pem").stdout.strip().split("-----BEGIN")[-1]
    r = box.run("commit", slug, "tests/snapshot:1")
    assert r.returncode == 0 and "tests/snapshot:1" in r.stdout, r.stderr
    assert states(box)[slug]["alive"] and box.run("exec", slug, "--", "true").returncode == 0
    said = engine.api("GET", "/images/tests/snapshot:1/json")[1]
    labels = said["Config"]["Labels"]
    assert labels["claude-bottle.image"] == "snapshot"
    policy = json.loads(labels["claude-bottle.policy"])
    route, = policy["routes"]
    assert route["host"] == "api.example.test" and route["paths"] == ["/**"]
    assert set(policy) == {"version", "routes", "resolve", "dns"}
    assert set(route["auth"]) == {"scheme", "credential", "header"} and "origin_file" not in route
    # What the snapshot holds is the root and nothing that the bottle was given.
    tar = f"{scratch}/snapshot.tar"
    engine.docker("save", "-o", tar, "tests/snapshot:1")
    files = added(tar)
    for name, data in files.items():
        for what, value in (("credential", TOKEN), ("placeholder", placeholder), ("canary", canary)):
            assert not standin.find_secret(data, value), (what, name)
        for what, value in (("certificate", ca.strip().split("\n")[3]), ("home", "of-the-home"),
                            ("proxy", ":8888")):
            assert value.encode() not in data, (what, name)
        if data[:1] == b"{":
            # Old engines note what container it was; we are not asked.
            data = json.dumps({k: v for k, v in json.loads(data).items() if k != "container_config"}).encode()
        for what, value in (("state", box.folder), ("slug", slug)):
            assert value.encode() not in data, (what, name)
    assert any(b"from-snapshot" in data for data in files.values()), "control"
    os.unlink(tar)
    box.run("stop", slug, "--now", check=True)
    r = box.run("commit", slug, "tests/snapshot:2")
    assert r.returncode == 1 and "running" in r.stderr and r.stderr.count("\n") == 1
    # It starts, behind the same wall, with what was made in it.
    box.allow(image="tests/snapshot:1")
    r = box.start("bash", "-c", "mine; ls ~; cat /proc/self/status; " + TELL)
    assert r.returncode == 0, r.stderr + box.logs_of_all()
    lines = r.stdout.splitlines()
    assert lines[0] == "from-snapshot" and "private" not in lines and "200" in lines
    assert "CapBnd:\t0000000000000000" in lines and "NoNewPrivs:\t1" in lines
    assert not re.search(re.escape(canary) + "|" + re.escape(placeholder), r.stdout)
    engine.docker("rmi", "tests/snapshot:1")


def test_a_container_of_somebody_else_is_not_kept(box, engine):
    """A bottle's folder with another container under its name."""
    slug = detach(box, "sleep", "1000")
    name = f"claude-bottle-{slug}"
    engine.docker("rename", name, f"{name}-aside")
    image = engine.inspect(f"{name}-aside")["Image"]
    engine.docker("create", "--name", name, "--entrypoint", "/x", image)
    try:
        r = box.run("commit", slug, "tests/other:1")
        assert r.returncode == 1 and "is not this bottle's" in r.stderr, r.stderr
    finally:
        engine.docker("rm", "-f", name)
    # What is removed is known by its id, not by its name.
    box.run("stop", slug, "--now", check=True)
    assert not [c for c in engine.containers() if slug in c["Names"][0]]
    assert json.loads(box.run("cleanup", "--json", check=True).stdout)

"""The images of the docker backend: made from nothing through the real command in engines of the
tests' own, named by their inputs, and nothing left of what failed."""
import concurrent.futures
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import threading
import time

import bottle
import engine as engine_module
import images
import pytest

pytestmark = pytest.mark.engine

KINDS = ("base", "tools", "bundle", "shell")
SENTINEL = "http://sentinel.invalid:9"  # a proxy for what no build here asks for


def home_at(scratch, rule_cache, host, name):
    folder = f"{scratch}/{name}"
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return bottle.Home(folder, cache=f"{folder}/.cache", docker_host=host)


def ids(engine, all_of_them=False):
    return {i["Id"] for i in engine.api("GET", f"/images/json?all={int(all_of_them)}")[1]}


def dangling(engine):
    return engine.api("GET", "/images/json?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D")[1]


def nothing_is_left(engine):
    assert engine.containers() == []
    assert dangling(engine) == []


def build(home, what, *options, check=True, timeout=600):
    """What `image build --json` says, by kind; or the failed run."""
    r = home.run("image", "build", what, "--json", *options, timeout=timeout)
    if check:
        assert r.returncode == 0, r.stderr
        return {x["kind"]: x for x in json.loads(r.stdout)}
    return r


def listed(home):
    r = home.run("image", "list", "--json", check=True)
    return {x["reference"] or x["id"]: x for x in json.loads(r.stdout)}


def error_of(r):
    """The one line of a failure: the last, after progress and the builder's own words."""
    assert r.returncode == 1 and r.stdout == "", r.stdout + r.stderr
    return r.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def own():
    why = engine_module.missing()
    if why:
        pytest.skip(why)
    if not shutil.which("mmdebstrap"):
        pytest.skip("mmdebstrap is missing (package mmdebstrap)")
    with engine_module.Engine() as e:
        yield e


@pytest.fixture(scope="module")
def home(own, scratch, rule_cache):
    h = home_at(scratch, rule_cache, own.host, "img")
    h.secrets["https_proxy"] = SENTINEL
    return h


@pytest.fixture(scope="module")
def made(own, home):
    """{"bundle": {…}, "shell": {…}} after they were built from nothing."""
    out = build(home, "bundle")
    nothing_is_left(own)
    out.update(build(home, "shell"))
    return out


@pytest.fixture(scope="module")
def debian(own, made, scratch):
    """A tar of the base, for engines that need one sooner than the archive gives it."""
    base = next(t for t in images.references(own) if t.startswith("claude-bottle/base:"))
    c = own.docker("create", base, "true").stdout.strip()
    own.docker("export", "-o", f"{scratch}/debian.tar", c)
    own.docker("rm", c)
    return f"{scratch}/debian.tar"


@pytest.fixture
def fake_debian(scratch, debian):
    """PATH with an mmdebstrap that gives what was made before."""
    return fake_mmdebstrap(scratch, "fake", f"exec cat {debian}")


def fake_mmdebstrap(scratch, name, text):
    folder = f"{scratch}/{name}"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/mmdebstrap", "w") as f:
        f.write(f"#!/bin/sh\n{text}\n")
    os.chmod(f"{folder}/mmdebstrap", 0o755)
    return f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"


# --- from nothing ---

def test_made_from_nothing(own, made):
    for kind in ("bundle", "shell"):
        assert re.fullmatch(rf"claude-bottle/{kind}:[0-9a-f]{{16}}", made[kind]["reference"])
        assert made[kind]["built"] is True and made[kind]["size_bytes"] > 1 << 20
    names = images.references(own)
    assert sorted(n.partition(":")[0].removeprefix("claude-bottle/") for n in names) == sorted(KINDS)
    nothing_is_left(own)


def test_built_once(own, home, made):
    before = ids(own, all_of_them=True)
    for kind in ("bundle", "shell"):
        again = build(home, kind)
        assert again[kind] == {**made[kind], "built": False}
    assert ids(own, all_of_them=True) == before
    r = home.run("image", "build", "shell", check=True)
    assert r.stdout.startswith(f"already there: {made['shell']['reference']} (")
    assert r.stderr == ""


def test_labels_and_nothing_of_the_host(own, home, made):
    """Neither in what describes an image nor in its files."""
    words = [SENTINEL, home.folder, bottle.ROOT, "host-ca", "NPM_REGISTRY"]
    with open("/etc/resolv.conf") as f:
        words += [w for line in f if line.startswith("nameserver") for w in line.split()[1:]]
    for reference in images.references(own):
        kind = reference.partition(":")[0].removeprefix("claude-bottle/")
        about = own.api("GET", f"/images/{reference}/json")[1]
        labels = about["Config"]["Labels"]
        assert labels == {"claude-bottle.image": kind, "claude-bottle.version": labels[
            "claude-bottle.version"]}
        history = own.api("GET", f"/images/{reference}/history")[1]
        text = json.dumps([about, history])
        assert not [w for w in words if w in text]
        assert "BASE=" not in text and "_proxy" not in text.lower()
        for name, member, data in files_of(own, reference):
            if member.isfile() and (name.startswith(("etc/", "var/log/")) or name.endswith("npmrc")):
                found = [w for w in words if w.encode() in data()]
                assert not found, f"{reference}: {name} has {found}"
                assert name not in ("etc/hostname", "etc/resolv.conf") or member.size == 0


def files_of(engine, reference):
    """(name, member, reads it) of each file that a container of it has."""
    c = engine.docker("create", reference, "x").stdout.strip()
    raw = subprocess.run(["docker", "-H", engine.host, "export", c], capture_output=True,
                         check=True, env=dict(engine_module.SIDE, HOME=engine.folder)).stdout
    engine.docker("rm", c)
    with tarfile.open(fileobj=io.BytesIO(raw)) as t:
        for m in t:
            yield m.name, m, lambda m=m: t.extractfile(m).read()


def test_the_shell_image(own, made):
    ref = made["shell"]["reference"]
    r = own.docker("run", "--rm", "--network", "none", ref, "sh", "-c",
                   "id -u; id -g; pwd; ls -ld $HOME; find / -xdev -perm /6000 -type f; "
                   "for p in bash git curl python3 jq rg less patch unzip xz ps; do "
                   "command -v $p >/dev/null || echo missing $p; done; git --version")
    lines = r.stdout.splitlines()
    assert lines[:3] == ["1000", "1000", "/home/agent"]
    assert lines[3].startswith("drwx------ ") and " agent agent " in lines[3]
    assert lines[4].startswith("git version ") and len(lines) == 5


def test_the_bundle_image(own, made):
    ref = made["bundle"]["reference"]
    run = ("run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL")
    version = subprocess.run([bottle.build_folder() + "/claude-bottle-bundle", "version"],
                             capture_output=True, text=True, check=True).stdout
    assert own.docker(*run, ref, "version").stdout == version
    assert own.docker(*run, "--entrypoint", "git", ref, "--version").stdout.startswith("git version")
    # A fetch goes as far as the network does, which is not there: certificates and TLS load.
    r = own.docker(*run, "--entrypoint", "git", ref, "ls-remote", "https://localhost:1/x", check=False)
    assert r.returncode == 128 and "Failed to connect to localhost" in r.stderr
    names, programs = {}, []
    for name, member, _ in files_of(own, ref):
        if name.startswith((".dockerenv", "dev/")) or member.isfile() and member.size == 0:
            continue  # the engine's own
        names[name] = member
        assert not (member.isfile() and member.mode & 0o6000), name
        assert member.uid == 0 and member.gid == 0, name
        if member.isfile() and member.mode & 0o111 and ".so" not in name:
            programs.append(name)
    assert sorted(programs) == ["claude-bottle-bundle", "usr/bin/git", "usr/lib/git-core/git-http-backend",
                                "usr/lib/git-core/git-remote-http"]
    assert names["claude-bottle-bundle"].mode & 0o7777 == 0o755
    assert names["var/lib/git-gate"].mode & 0o7777 == 0o1777
    assert names["etc/ssl/certs/ca-certificates.crt"].size > 100000
    top = own.api("GET", f"/images/{ref}/history")[1]
    sizes = [x["Size"] for x in top]
    assert next(s for s in sizes if s) == names["claude-bottle-bundle"].size


# --- what changes a name ---

def test_a_new_executable_changes_the_bundle_alone(own, home, made, scratch):
    with open(f"{bottle.build_folder()}/claude-bottle-bundle", "rb") as f:
        program = f.read()
    word = b"print the version"
    assert word in program
    before = images.references(own)
    with open(f"{scratch}/bundle", "wb") as f:
        f.write(program.replace(word, b"print the VERSION"))
    os.chmod(f"{scratch}/bundle", 0o755)
    home.secrets["CLAUDE_BOTTLE_BUNDLE"] = f"{scratch}/bundle"
    try:
        other = build(home, "bundle")["bundle"]
        assert other["built"] and other["reference"] != made["bundle"]["reference"]
        after = images.references(own)
        assert set(after) - set(before) == {other["reference"]} and set(before) <= set(after)
        assert build(home, "shell")["shell"]["built"] is False
        r = own.docker("run", "--rm", other["reference"], check=False)
        assert "print the VERSION" in r.stdout + r.stderr
        # What no loader reads is not in the image and changes nothing.
        with open(f"{scratch}/bundle", "ab") as f:
            f.write(b"debugging information")
        assert build(home, "bundle")["bundle"]["built"] is False
    finally:
        del home.secrets["CLAUDE_BOTTLE_BUNDLE"]
    assert build(home, "bundle")["bundle"] == {**made["bundle"], "built": False}
    nothing_is_left(own)
    # To this program that one is old.
    assert listed(home)[other["reference"]]["current"] is False
    assert all(listed(home)[t]["current"] for t in before)


def test_remove_what_no_start_would_use(own, home, made):
    old = [r for r, x in listed(home).items() if not x["current"]]
    assert len(old) == 1
    c = own.docker("create", old[0]).stdout.strip()
    # A user's own, made on one of ours: it has our label, but it is not ours.
    mine = own.docker("commit", own.docker("create", made["shell"]["reference"]).stdout.strip()
                      ).stdout.strip()
    try:
        assert listed(home)[old[0]]["used"] is True
        r = home.run("image", "remove", check=True)
        assert r.stdout == "" and "nothing to remove" in r.stderr
        assert home.run("image", "list", check=True).stdout.count("in use") >= 1
    finally:
        own.docker("rm", *[x["Id"] for x in own.containers()])
    assert c and mine not in listed(home)
    r = home.run("image", "remove", "--json", "--unused", check=True)
    assert [(x["reference"], x["removed"]) for x in json.loads(r.stdout)] == [(old[0], True)]
    assert set(images.references(own)) == set(listed(home)) and mine in ids(own)
    own.docker("rmi", mine)
    assert build(home, "bundle")["bundle"]["built"] is False
    assert build(home, "shell")["shell"]["built"] is False


@pytest.mark.parametrize("kind,program", [("claude", "claude"), ("codex", "codex")])
def test_the_image_of_an_agent(own, home, made, kind, program):
    del home.secrets["https_proxy"]
    try:
        # A mirror that does not answer costs one line.
        home.secrets["npm_config_registry"] = "http://127.0.0.1:1/npm"
        line = error_of(build(home, kind, check=False))
        assert re.match(rf"claude-bottle: the image {kind}, step \d+/\d+ could not be built: curl: "
                        r"\(7\) Failed to connect to 127.0.0.1", line)
        nothing_is_left(own)
        del home.secrets["npm_config_registry"]
        r = build(home, kind, check=False)
    finally:
        home.secrets.pop("npm_config_registry", None)
        home.secrets["https_proxy"] = SENTINEL
    nothing_is_left(own)
    if r.returncode != 0 and "curl: (" in error_of(r):
        pytest.skip("the agent's package cannot be fetched here: " + error_of(r))
    out = json.loads(r.stdout)[0]
    assert out["built"] is True
    r = own.docker("run", "--rm", "--network", "none", out["reference"], program, "--version")
    assert re.search(r"\d+\.\d+\.\d+", r.stdout)
    history = json.dumps(own.api("GET", f"/images/{out['reference']}/history")[1])
    assert "host-ca" not in history and "registry" not in history


# --- in engines of their own ---

@pytest.fixture
def small(make_engine, scratch, rule_cache, fake_debian, tmp_path_factory):
    """(engine, home) that is given Debian at once; small(data_mib=…)."""
    def make(path=fake_debian, **options):
        e = make_engine(**options)
        h = home_at(scratch, rule_cache, e.host, os.path.basename(e.folder))
        h.secrets["PATH"] = path
        return e, h
    return make


def test_several_at_once_and_again(small, scratch, rule_cache):
    """Of one user and of another: each gets the same, and one is kept of each name. A rebuild then
    leaves alone what a container uses."""
    e, home = small()
    other = home_at(scratch, rule_cache, e.host, "other")
    other.secrets.update(home.secrets)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        runs = [r["bundle"] for r in pool.map(lambda h: build(h, "bundle"), [home, home, other])]
    first = runs[0]
    assert len({r["reference"] for r in runs}) == 1 and len({r["id"] for r in runs}) == 1
    assert [r["built"] for r in runs[:2]].count(True) <= 1
    assert len(images.references(e)) == 3
    nothing_is_left(e)
    c = e.docker("create", first["reference"]).stdout.strip()
    second = build(home, "bundle", "--rebuild")["bundle"]
    assert second["built"] and second["reference"] == first["reference"]
    assert second["id"] != first["id"]
    assert {x["id"] for x in listed(home).values() if x["used"]} == {first["id"]}
    home.run("image", "remove", "--all")
    assert ids(e) >= {first["id"]}
    e.docker("rm", c)
    home.run("image", "remove", "--all", check=True)
    assert ids(e, all_of_them=True) == set()
    assert home.run("image", "remove", "--all", check=True).stderr.endswith("nothing to remove\n")


def test_a_disk_that_is_full(small):
    e, home = small(data_mib=96)
    line = error_of(build(home, "bundle", check=False))
    assert "no space left on device" in line.lower() and line.startswith("claude-bottle: ")
    nothing_is_left(e)
    assert ids(e, all_of_them=True) == set()


def test_a_disk_with_too_little_room(small, debian):
    """Debian fits, what is installed on it does not."""
    e, home = small(data_mib=os.path.getsize(debian) // 2**20 + 40)
    r = build(home, "shell", check=False)
    assert re.fullmatch(r"claude-bottle: the image shell, step \d+/\d+ could not be built: E: No space "
                        r"left on device: \d+ MB are free, 300 are needed", error_of(r))
    # What led to it stands before.
    assert "\n  | Step 3/" in r.stderr and "\n  | E: No space left on device: " in r.stderr
    nothing_is_left(e)
    assert len(ids(e, all_of_them=True)) == 1  # the base, for the next time


def test_mmdebstrap_fails(small, scratch, debian):
    path = fake_mmdebstrap(scratch, "broken", f"head -c 3000000 {debian}\n"
                           "echo 'E: Failed to fetch http://x  Temporary failure' >&2\n"
                           "echo 'E: apt-get update failed' >&2\nexit 1")
    e, home = small(path=path)
    assert error_of(build(home, "bundle", check=False)) == \
        "claude-bottle: mmdebstrap: E: Failed to fetch http://x  Temporary failure"
    nothing_is_left(e)
    home.secrets["PATH"] = fake_mmdebstrap(scratch, "cut", "head -c 3000000 /dev/zero; kill -9 $$")
    assert error_of(build(home, "bundle", check=False)) == "claude-bottle: mmdebstrap: it was killed"
    # It may not fill the memory with words either.
    home.secrets["PATH"] = fake_mmdebstrap(scratch, "loud", "yes | head -c 3000000 >&2; exit 1")
    assert error_of(build(home, "bundle", check=False)).startswith("claude-bottle: mmdebstrap: ")
    home.secrets["PATH"] = scratch
    line = error_of(build(home, "bundle", check=False))
    assert "mmdebstrap is not installed (package mmdebstrap)" in line and "pull" in line
    assert ids(e, all_of_them=True) == set()


def test_broken_off(small):
    """What a build leaves that was interrupted is found later."""
    e, home = small()
    p = subprocess.Popen(home.argv(["image", "build", "shell"]), env=home.env(), cwd=home.cwd,
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not [c for c in e.containers() if c["State"] == "running"]:
        assert p.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    p.send_signal(signal.SIGINT)
    assert p.wait(timeout=20) == -signal.SIGINT
    while e.containers():
        assert time.monotonic() < end + 30
        time.sleep(0.1)
    home.run("image", "remove", check=True)
    nothing_is_left(e)
    assert len(images.references(e)) == 1
    assert build(home, "bundle")["bundle"]["built"] is True


# --- where a registry answers ---

class Registry:
    """The registry API, of one image with one layer."""

    def __init__(self, layer):
        with open(layer, "rb") as f:
            digest = "sha256:" + hashlib.file_digest(f, "sha256").hexdigest()
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {},
                             "rootfs": {"type": "layers", "diff_ids": [digest]}}).encode()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        of_config = "sha256:" + hashlib.sha256(config).hexdigest()
        manifest = json.dumps({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json",
                       "size": len(config), "digest": of_config},
            "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                        "size": os.path.getsize(layer), "digest": digest}]}).encode()
        of_manifest = "sha256:" + hashlib.sha256(manifest).hexdigest()
        asked = self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                asked.append(self.path)
                tail = self.path.rpartition("/")[2]
                if self.path == "/v2/":
                    self.give(b"{}", "application/json")
                elif tail in ("bookworm-slim", of_manifest):
                    self.give(manifest, kind)
                elif tail == of_config:
                    self.give(config, "application/octet-stream")
                elif tail == digest:
                    with open(layer, "rb") as f:
                        self.give(f.read(), "application/octet-stream")
                else:
                    self.send_error(404)

            do_HEAD = do_GET

            def give(self, body, type_):
                self.send_response(200)
                self.send_header("Content-Type", type_)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", of_manifest)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def test_debian_from_a_registry(small, scratch, debian):
    registry = Registry(debian)
    try:
        path = fake_mmdebstrap(scratch, "unwanted", "echo not me >&2; exit 1")
        e, home = small(path=path, mirror=registry.url)
        out = build(home, "bundle")["bundle"]
    finally:
        registry.close()
    assert out["built"] and [p for p in registry.asked if "/library/debian/blobs/" in p]
    names = images.references(e)
    base = next(n for n in names if n.startswith("claude-bottle/base:"))
    assert e.api("GET", f"/images/{base}/json")[1]["Config"]["Labels"]["claude-bottle.image"] == "base"
    assert e.docker("run", "--rm", "--entrypoint", "git", out["reference"], "--version")
    nothing_is_left(e)


# --- the command ---

def test_completion(scratch, rule_cache):
    home = home_at(scratch, rule_cache, None, "completion")

    def offered(*words):
        r = home.run("__complete", "--", "image", *words, check=True)
        return [line.partition("\t")[0] for line in r.stdout.splitlines()]

    assert offered("") == ["build", "list", "remove"]
    assert offered("build", "") == ["bundle", "shell", "claude", "codex", "all"]
    assert offered("build", "--rebuild", "c") == ["claude", "codex"]
    assert offered("list", "") == [] and "--rebuild" in offered("build", "--")


def test_misuse(scratch, rule_cache):
    home = home_at(scratch, rule_cache, None, "misuse")
    for args, text in ((["image"], "missing argument"), (["image", "biuld"], "did you mean build?"),
                       (["image", "build", "base"], '"base" is not bundle, shell'),
                       (["image", "build", "-x"], "-x"),
                       (["image", "list", "--rebuild"], "image list takes no --rebuild"),
                       (["image", "list", "x"], "takes no further argument"),
                       (["image", "remove", "--all", "--unused"], "one of them")):
        r = home.run(*args)
        assert r.returncode == 2 and text in r.stderr, r.stderr
    # What needs an engine fails without; what others' images are asked for, too, says so and goes on.
    for args, status, lines in ((["image", "build", "shell"], 1, 1), (["image", "list"], 0, 2),
                                (["image", "remove"], 0, 2)):
        r = home.run(*args)
        assert r.returncode == status and r.stdout == "" and len(r.stderr.splitlines()) == lines
        assert "the Docker engine" in r.stderr

"""git-gate's side towards upstreams, with git itself at the other end."""
import os
import re

import pytest
import upstream_world as world

# The last one is https with a server that knows only version 0 of the protocol.
KINDS = ["ssh", "egress", "egress0"]


@pytest.fixture
def scene(tmp_path):
    """A gate in front of a repository, over any of the ways."""
    scenes = []

    def make(kind, talk=None, slug="dev-1", **settings):
        if not hasattr(make, "upstream"):
            make.upstream = world.Repository(tmp_path / "root" / "up.git")
        if kind.startswith("egress"):
            channel = world.Egress(str(tmp_path / "root"), talk, chunked=kind == "egress")
            channel.has_version_2 = kind == "egress"
        else:
            channel = world.Streams(make.upstream, talk)
        gate = world.Gate(tmp_path / f"gate{len(scenes)}", slug=slug, **settings).over(channel, kind.rstrip("0"))
        gate.upstream, gate.channel = make.upstream, channel
        scenes.append(gate)
        return gate

    yield make
    for s in scenes:
        s.close()


# --- fetches ---

@pytest.mark.parametrize("kind", KINDS)
def test_fetches_heads_and_tags_prunes_and_sets_head(scene, kind):
    g = scene(kind)
    up = g.upstream
    a = up.commit("refs/heads/trunk", {"f": "1"})
    up.commit("refs/heads/old", {"f": "2"})
    up.commit("refs/pull/1/head", {"f": "3"})
    up.git("symbolic-ref", "HEAD", "refs/heads/trunk")
    up.git("tag", "-a", "v1", "-m", "t", a)
    g.fetch()
    assert g.mirror.refs() == {k: v for k, v in up.refs().items() if not k.startswith("refs/pull/")}
    assert g.mirror.git("symbolic-ref", "HEAD") == "refs/heads/trunk"
    # A second one moves, forces, prunes, and puts a folder where a file was.
    b = up.commit("refs/heads/trunk", {"f": "4"})
    up.git("update-ref", "-d", "refs/heads/old")
    up.commit("refs/heads/old/new", {"f": "5"}, b)
    up.git("tag", "-d", "v1")
    g.fetch()
    assert g.mirror.refs() == {k: v for k, v in up.refs().items() if not k.startswith("refs/pull/")}
    g.fetch()
    g.mirror.git("fsck", "--strict")
    assert not os.path.exists(f"{g.mirror.folder}/FETCH_HEAD")


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_upstream_is_an_empty_mirror(scene, kind):
    g = scene(kind)
    g.fetch()
    assert g.mirror.refs() == {}
    g.upstream.commit("refs/heads/main", {"f": "1"})
    g.fetch()
    g.upstream.git("update-ref", "-d", "refs/heads/main")
    g.fetch()
    assert g.mirror.refs() == {}


def test_https_requests_say_who_asks_and_carry_the_placeholder(scene):
    g = scene("egress", user="bot", placeholder=world.PLACEHOLDER)
    g.channel.authorized = world.basic("bot")
    g.upstream.commit("refs/heads/main", {"f": "1"})
    g.fetch()
    assert [(m, p) for m, p, _ in g.channel.requests] == [
        ("GET", "/up.git/info/refs?service=git-upload-pack"), ("POST", "/up.git/git-upload-pack"),
        ("POST", "/up.git/git-upload-pack")]
    for _, _, fields in g.channel.requests:
        assert fields["git-protocol"] == "version=2" and fields["user-agent"].startswith("git/")


@pytest.mark.parametrize("kind", ["egress", "egress0"])
@pytest.mark.parametrize("common", [True, False])
def test_a_long_negotiation_needs_several_requests(scene, kind, common):
    g = scene(kind)
    tip = g.upstream.commit("refs/heads/main", {"f": "0"})
    g.fetch()
    # A history of the mirror's own that the upstream has forgotten.
    fork = tip if common else None
    text = ""
    for i in range(400):
        text += "commit refs/heads/main\ncommitter A <a@example.org> 1800000000 +0000\ndata 1\nm\n"
        text += f"from {fork}\n" if fork and i == 0 else ""
        text += f"M 100644 inline f\ndata 9\n{i:09}\n"
    if not common:
        g.mirror.git("update-ref", "-d", "refs/heads/main")
    g.mirror.git("fast-import", "--quiet", "--force", stdin=text.encode())
    g.upstream.commit("refs/heads/main", {"f": "1"}, tip)
    n = len(g.channel.requests)
    g.fetch()
    assert 3 < len(g.channel.requests) - n < 15
    assert g.mirror.refs() == g.upstream.refs()


@pytest.mark.parametrize("kind", KINDS)
def test_many_objects(scene, kind):
    g = scene(kind)
    parent = None
    files = {f"f{i}": f"{i}\n" * 50 for i in range(10000)}
    text = "blob\nmark :1\ndata 0\n\n"
    text = "commit refs/heads/main\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nm\n"
    for name, data in files.items():
        text += f"M 100644 inline {name}\ndata {len(data)}\n{data}\n"
    g.upstream.git("fast-import", "--quiet", stdin=text.encode())
    g.fetch()
    assert g.mirror.refs() == g.upstream.refs()
    # And a push of as many.
    tree = g.mirror.git("rev-parse", "main")
    q = g.quarantine_env()
    text = f"commit refs/heads/side\ncommitter A <a@example.org> 1700000000 +0000\ndata 1\nm\nfrom {tree}\n"
    for name, data in files.items():
        data = os.urandom(200).hex()
        text += f"M 100644 inline {name}\ndata {len(data)}\n{data}\n"
    g.mirror.git("fast-import", "--quiet", stdin=text.encode(), env=q)
    new = g.mirror.git("rev-parse", "refs/heads/side", env=q)
    g.mirror.git("update-ref", "-d", "refs/heads/side")
    r = g.push("refs/heads/side", world.NONE, new)
    assert r["code"] == 0, r
    assert g.upstream.refs()["refs/heads/side"] == new
    g.upstream.git("fsck")
    if kind == "egress":
        assert g.channel.requests[-1][2]["transfer-encoding"] == "chunked"


def test_the_workspace_is_seen_as_one_bottle_sees_it(scene):
    g = scene("door")
    up = g.upstream
    main = up.commit("refs/heads/main", {"f": "1"})
    own = up.commit("refs/heads/bottle/dev-1/main", {"f": "2"}, main)
    new = up.commit("refs/heads/bottle/dev-1/topic/x", {"f": "3"}, main)
    up.commit("refs/heads/topic", {"f": "4"})  # cannot stand beside topic/x
    up.commit("refs/heads/bottle/dev-10/secret", {"f": "5"})
    up.commit("refs/heads/bottle/dev-2/main", {"f": "6"})
    up.commit("refs/stash", {"f": "7"})
    up.commit("refs/remotes/origin/main", {"f": "8"})
    other = up.commit("refs/heads/other", {"f": "9"})
    up.git("tag", "v1", main)
    g.fetch()
    assert g.mirror.refs() == {"refs/heads/main": own, "refs/heads/topic/x": new, "refs/heads/other": other,
                               "refs/tags/v1": main}
    assert g.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
    # Somebody else's is checked out on the host; then this bottle's.
    up.git("symbolic-ref", "HEAD", "refs/heads/bottle/dev-2/main")
    g.fetch()
    assert g.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
    up.git("symbolic-ref", "HEAD", "refs/heads/bottle/dev-1/topic/x")
    g.fetch()
    assert g.mirror.git("symbolic-ref", "HEAD") == "refs/heads/topic/x"


def test_a_detached_head_of_the_workspace(scene):
    g = scene("door")
    main = g.upstream.commit("refs/heads/aaa", {"f": "1"})
    dev = g.upstream.commit("refs/heads/dev", {"f": "2"}, main)
    g.upstream.git("update-ref", "--no-deref", "HEAD", dev)
    g.fetch()
    assert g.mirror.git("symbolic-ref", "HEAD") == "refs/heads/dev"


@pytest.mark.parametrize("kind", KINDS)
def test_shallow_and_sha256_upstreams_are_refused_with_words(scene, tmp_path, kind):
    g = scene(kind)
    a = g.upstream.commit("refs/heads/main", {"f": "1"})
    b = g.upstream.commit("refs/heads/main", {"f": "2"}, a)
    with open(f"{g.upstream.folder}/shallow", "w") as f:
        f.write(b + "\n")
    r = g.fetch(ok=False)
    assert r["code"] < 0 and "shallow" in r["error"]
    import shutil
    shutil.rmtree(g.upstream.folder)
    world.Repository(g.upstream.folder, True, "--object-format=sha256").commit("refs/heads/main", {"f": "1"})
    r = g.fetch(ok=False)
    assert r["code"] < 0 and "SHA-256" in r["error"], r
    assert g.mirror.refs() == {}


@pytest.mark.parametrize("kind", KINDS)
def test_old_histories_are_taken_and_dangerous_trees_are_not(scene, kind):
    g = scene(kind)
    up = g.upstream
    tree = up.git("mktree", stdin=b"")
    commit = f"tree {tree}\nauthor A <a@example.org> 1 +0000\ncommitter  <> 1 +51800\n\nm\n"
    oid = up.git("hash-object", "-t", "commit", "-w", "--stdin", "--literally", stdin=commit.encode())
    up.git("update-ref", "refs/heads/main", oid)
    g.fetch()
    blob = up.git("hash-object", "-w", "--stdin", stdin=b"x")
    evil = b"100644 .GIT\0" + bytes.fromhex(blob)
    tree = up.git("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=evil)
    bad = up.git("commit-tree", tree, "-m", "m")
    up.git("update-ref", "refs/heads/bad", bad)
    r = g.fetch(ok=False)
    assert r["code"] < 0 and "hasDotgit" in r["error"] or "fsck" in r["error"] or "index-pack" in r["error"], r
    assert "refs/heads/bad" not in g.mirror.refs()
    assert not [n for n in os.listdir(f"{g.mirror.folder}/objects/pack") if n.startswith("tmp_")]


def test_nothing_of_the_callers_environment_or_configuration_runs(scene, tmp_path):
    g = scene("ssh")
    g.upstream.commit("refs/heads/main", {"f": "1"})
    mark = tmp_path / "ran"
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(f"[core]\nsshCommand = touch {mark}\nhooksPath = {home}\n"
                                     f"[url \"ext::touch {mark}\"]\ninsteadOf = ssh://gate/\n")
    g.env = {"HOME": str(home), "GIT_SSH_COMMAND": f"touch {mark}", "GIT_CONFIG_COUNT": "1",
             "GIT_CONFIG_KEY_0": "core.sshCommand", "GIT_CONFIG_VALUE_0": f"touch {mark}",
             "GIT_ALLOW_PROTOCOL": "ext:ssh"}
    g.fetch()
    assert g.mirror.refs() == g.upstream.refs() and not mark.exists()


# --- pushes ---

@pytest.mark.parametrize("kind", KINDS)
def test_a_push_creates_moves_and_deletes(scene, kind):
    g = scene(kind)
    main = g.upstream.commit("refs/heads/main", {"f": "1"})
    g.fetch()
    x = g.commit({"f": "2"}, main)
    r = g.push("refs/heads/x", world.NONE, x)
    assert r["code"] == 0 and r["refs"][0]["ok"], r
    assert g.upstream.refs()["refs/heads/x"] == x
    y = g.commit({"f": "3"}, x)
    assert g.push("refs/heads/x", x, y)["code"] == 0
    tag = g.mirror.git("hash-object", "-t", "tag", "-w", "--stdin", env=g.quarantine_env(),
                       stdin=f"object {y}\ntype commit\ntag v1\ntagger A <a@b.c> 1 +0000\n\nm\n".encode())
    assert g.push("refs/tags/v1", world.NONE, tag)["code"] == 0
    assert g.upstream.refs()["refs/tags/v1"] == tag
    assert g.push("refs/heads/x", y, world.NONE)["code"] == 0
    assert "refs/heads/x" not in g.upstream.refs()
    # What is there already needs nothing, as after an answer that was lost.
    n = len(g.channel.asked), len(getattr(g.channel, "requests", []))
    assert g.push("refs/tags/v1", world.NONE, tag)["code"] == 0
    g.upstream.git("fsck", "--strict")


@pytest.mark.parametrize("kind", KINDS)
def test_several_refs_are_taken_together_or_not_at_all(scene, kind):
    g = scene(kind)
    main = g.upstream.commit("refs/heads/main", {"f": "1"})
    g.fetch()
    a, b = g.commit({"f": "2"}, main), g.commit({"f": "3"}, main)
    r = g.push("refs/heads/a", world.NONE, a, "refs/heads/b", world.NONE, b, "refs/heads/main", main, b)
    assert r["code"] == 0, r
    hook = f"{g.upstream.folder}/hooks/update"
    with open(hook, "w") as f:
        f.write("#!/bin/sh\nprintf 'no \\033[31m%s, thank you\\n' $1\n[ $1 != refs/heads/b ]\n")
    os.chmod(hook, 0o755)
    c, d = g.commit({"f": "4"}, a), g.commit({"f": "5"}, b)
    r = g.push("refs/heads/a", a, c, "refs/heads/b", b, d)
    assert r["code"] == -1 and [x["ok"] for x in r["refs"]] == [False, False], r
    assert "hook declined" in r["refs"][1]["reason"] and "atomic" in r["refs"][0]["reason"], r
    assert "no \\x1b[31mrefs/heads/b, thank you\n" in r["said"] and "\x1b" not in r["said"]
    assert g.upstream.refs()["refs/heads/a"] == a
    g.upstream.git("config", "receive.advertiseAtomic", "false")
    r = g.push("refs/heads/a", a, c, "refs/heads/c", world.NONE, d)
    assert r["code"] < -1 and "push one ref at a time" in r["error"]
    r = g.push("refs/heads/a", a, c)
    assert r["code"] == 0, r


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_moved_since_is_to_be_fetched_first(scene, kind):
    g = scene(kind)
    main = g.upstream.commit("refs/heads/main", {"f": "1"})
    g.fetch()
    moved = g.upstream.commit("refs/heads/main", {"f": "2"}, main)
    mine = g.commit({"f": "3"}, main)
    r = g.push("refs/heads/main", main, mine, "refs/heads/new", world.NONE, mine)
    assert r["code"] == -1 and "fetch first" in r["refs"][0]["reason"], r
    assert "not tried" in r["refs"][1]["reason"]
    assert g.upstream.refs() == {"refs/heads/main": moved}
    # The same for what should not be there, and for what should.
    r = g.push("refs/heads/main", world.NONE, mine)
    assert r["code"] == -1 and "fetch first" in r["refs"][0]["reason"]
    r = g.push("refs/heads/gone", main, mine)
    assert r["code"] == -1 and "fetch first" in r["refs"][0]["reason"]


def test_history_is_rewritten_only_where_that_is_allowed(scene):
    g = scene("ssh")
    a = g.upstream.commit("refs/heads/main", {"f": "1"})
    b = g.upstream.commit("refs/heads/main", {"f": "2"}, a)
    g.fetch()
    other = g.commit({"f": "3"}, a)
    r = g.push("refs/heads/main", b, other)
    assert r["code"] == -1 and "fast-forward" in r["refs"][0]["reason"]
    assert g.push("refs/heads/main", b, other, force="1")["code"] == 0
    assert g.upstream.refs()["refs/heads/main"] == other


def test_to_the_workspace_only_below_the_bottles_own(scene):
    g = scene("door")
    up = g.upstream
    main = up.commit("refs/heads/main", {"f": "1"})
    up.commit("refs/heads/bottle/dev-2/x", {"f": "2"})
    g.fetch()
    before = up.refs()
    mine = g.commit({"f": "3"}, main)
    r = g.push("refs/heads/main", main, mine)
    assert r["code"] == 0, r
    assert up.refs() == {**before, "refs/heads/bottle/dev-1/main": mine}
    g.fetch()
    assert g.mirror.refs()["refs/heads/main"] == mine
    more = g.commit({"f": "4"}, mine)
    assert g.push("refs/heads/main", mine, more)["code"] == 0
    # The host's own cannot be deleted, the bottle's can; then the host's is seen again.
    up.commit("refs/heads/keep", {"f": "5"})
    r = g.push("refs/heads/keep", up.refs()["refs/heads/keep"], world.NONE)
    assert r["code"] == -1 and "host's own" in r["refs"][0]["reason"]
    assert g.push("refs/heads/main", more, world.NONE)["code"] == 0
    g.fetch()
    assert g.mirror.refs()["refs/heads/main"] == main
    r = g.push("refs/tags/v1", world.NONE, main)
    assert r["code"] == -1 and "only branches" in r["refs"][0]["reason"]
    moved = up.commit("refs/heads/main", {"f": "6"}, main)
    r = g.push("refs/heads/main", main, mine)
    assert r["code"] == -1 and "fetch first" in r["refs"][0]["reason"]
    assert up.refs()["refs/heads/main"] == moved


def test_only_what_is_new_is_sent(scene):
    g = scene("ssh")
    main = g.upstream.commit("refs/heads/main", {"f": os.urandom(200000).hex()})
    g.fetch()
    sent = []

    def talk(streams, service, stream, why):
        import socket
        import threading
        a, b = socket.socketpair()

        def copy():
            while data := stream.recv(65536):
                sent.append(data)
                a.sendall(data)
            a.shutdown(socket.SHUT_WR)

        def back():
            while data := a.recv(65536):
                stream.sendall(data)

        threads = [threading.Thread(target=copy), threading.Thread(target=back)]
        for t in threads:
            t.start()
        streams.git(service, b)
        b.close()
        for t in threads:
            t.join(20)

    g.channel.talk = talk
    new = g.commit({"f": g.mirror.git("cat-file", "-p", "main:f") + "more"}, main)
    assert g.push("refs/heads/main", main, new)["code"] == 0
    assert 100 < sum(map(len, sent)) < 20000  # thin: a delta against what is there
    assert re.match(rb"[0-9a-f]{4}%b %b refs/heads/main\0" % (main.encode(), new.encode()), b"".join(sent))


@pytest.mark.parametrize("kind", KINDS)
def test_many_refs(scene, kind):
    g = scene(kind)
    oids = []
    for i in range(10):
        oids.append(g.upstream.commit("refs/heads/main", {"f": str(i)}, oids[-1] if oids else None))
    g.upstream.git("update-ref", "--stdin", stdin="".join(
        f"create refs/heads/b{i:05} {oids[i % 10]}\n" for i in range(2000)).encode())
    g.upstream.git("pack-refs", "--all")
    g.fetch()
    assert g.mirror.refs() == g.upstream.refs()
    new = g.commit({"f": "new"}, oids[-1])
    # What both sides have is more than a pipe holds.
    assert g.push("refs/heads/main", oids[-1], new)["code"] == 0
    assert g.upstream.refs()["refs/heads/main"] == new

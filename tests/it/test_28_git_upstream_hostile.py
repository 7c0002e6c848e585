"""git-gate's side towards upstreams that lie, fail, or say too much."""
import json
import os
import time

import pytest
import upstream_world as world
from upstream_world import line

OID = "1" * 40
CAPS = "multi_ack side-band-64k ofs-delta object-format=sha1 agent=x"
PUSH_CAPS = "report-status side-band-64k atomic delete-refs ofs-delta object-format=sha1 agent=x"


@pytest.fixture
def gate(tmp_path):
    gates = []

    def make(kind, talk, **settings):
        os.makedirs(tmp_path / "root", exist_ok=True)
        channel = (world.Egress(str(tmp_path / "root"), talk) if kind == "egress" else
                   world.Streams(None, talk))
        g = world.Gate(tmp_path / f"gate{len(gates)}", **settings).over(channel, kind)
        g.channel = channel
        gates.append(g)
        return g

    yield make
    for g in gates:
        g.close()


def says(data, why_text=b"", reads=True):
    """A stream server that says this and waits for the other side's end."""
    def talk(streams, service, stream, why):
        stream.sendall(data if isinstance(data, bytes) else b"".join(data))
        if why_text:
            why.write(why_text)
        stream.shutdown(1)
        while reads and stream.recv(65536):
            pass
    return talk


def advert(refs, caps=CAPS):
    out = []
    for i, (name, oid) in enumerate(refs):
        name = name if isinstance(name, bytes) else name.encode()
        out.append(line(oid.encode() + b" " + name + (b"\0" + caps.encode() if i == 0 else b"") + b"\n"))
    return b"".join(out) + b"0000"


def refused(g, *words, verb="fetch", updates=()):
    start = time.monotonic()
    r = g.call(verb, *updates, **({"quarantine": g.quarantine()} if verb == "push" else {}))
    assert r["code"] < 0, r
    for w in words:
        assert w in r["error"], r
    assert not [c for c in r["error"] + r["said"].replace("\n", "") if ord(c) < 32 or ord(c) == 127], r
    assert time.monotonic() - start < 20
    if verb == "fetch":
        assert g.mirror.refs() == {}
        assert not [n for n in os.listdir(f"{g.mirror.folder}/objects/pack") if n.startswith("tmp_")]
    return r


# --- streams: fetch ---

@pytest.mark.parametrize("data,words", [
    (b"", "closed the connection"),
    (b"SSH-2.0-x\r\n", "not git's protocol"),
    (b"00", "in the middle"),
    (b"0003", "not git's protocol"),
    (b"0001", "not git's protocol"),
    (line("version 1\n"), "version of the protocol"),
    (line("version 2\n") + b"0000", "version of the protocol"),
    (line(b"ERR no \x1b[2Jsuch\n"), "it says: no \\x1b[2Jsuch"),
    (line(f"{OID} refs/heads/a\0{CAPS}") + line("shallow " + OID), "shallow"),
    (line("2" * 64 + " refs/heads/a\0object-format=sha256"), "SHA-256"),
    (line("2" * 64 + " refs/heads/a\0"), "SHA-256"),
    (line(f"{OID.upper().replace('1', 'A')} refs/heads/a\0{CAPS}"), "where a ref should be"),
    (line(f"{OID}"), "where a ref should be"),
    (advert([("refs/heads/a", OID), ("refs/heads/a", OID)]), "says twice"),
    (advert([("refs/heads/a", OID)], "multi_ack"), "too old"),
    (advert([("refs/heads/a", world.NONE)]), "where a ref should be"),
])
def test_what_is_no_list_of_refs_is_refused(gate, data, words):
    refused(gate("ssh", says(data)), words)


@pytest.mark.parametrize("said", ["Host key \x1b]0;x\x07 \u202e differs", "Host key \\x1b]0;x\\x07 \\u{202e} differs"])
def test_why_a_stream_ended_is_shown_escaped(gate, said):
    """Once: gitssh, while it is itself, has done so already."""
    def talk(streams, service, stream, why):
        why.write(f"{said}\n".encode())
    r = refused(gate("ssh", talk), "Host key \\x1b]0;x\\x07 \\u{202e} differs")
    assert "up" in r["error"]


def test_more_refs_than_anybody_has_are_refused(gate):
    flood = [line(f"{OID} refs/heads/{i}\0{CAPS}" if i == 0 else f"{OID} refs/heads/{i}") for i in range(100002)]
    refused(gate("ssh", says(flood, reads=False)), "more than 100000 branches and tags")


def test_refs_of_other_kinds_do_not_count(gate, tmp_path):
    up = world.Repository(tmp_path / "up")
    oid = up.commit("refs/heads/main", {"f": "1"})

    def talk(streams, service, stream, why):
        import subprocess
        # Names for what is fetched do not matter to the real server that goes on from here.
        p = subprocess.Popen(["git", "upload-pack", up.folder], stdin=stream, stdout=subprocess.PIPE, env=up.env)
        first = p.stdout.read(int(p.stdout.read(4), 16) - 4)
        names = [b"refs/pull/%d/head" % i for i in range(150000)]
        stream.sendall(line(first))
        stream.sendall(b"".join(line(oid.encode() + b" " + n) for n in names))
        while data := p.stdout.read1(65536):
            stream.sendall(data)
        p.wait(20)

    g = gate("ssh", talk)
    g.fetch()
    assert g.mirror.refs() == {"refs/heads/main": oid}


BAD_NAMES = [b"refs/heads/../../x", b"refs/heads/..", b"refs/heads/a..b", b"refs/heads/x.lock", b"refs/heads//x",
             b"refs/heads/", b"refs/heads", b"refs/heads/a\x1b[31m", b"refs/heads/a b", b"refs/heads/a\xff",
             "refs/heads/a\u202eb".encode(), "refs/heads/a\u200bb".encode(), b"refs/heads/a\\b", b"refs/heads/@{x}",
             b"refs/heads/a~1", b"refs/heads/" + b"n" * 300, b"../config", b"/etc/passwd", b"config", b"refs/stash",
             b"HEAD/../../x", b"refs/tags/x/../../../y", b"refs/tags/v^{}", b".have"]


def test_names_that_are_none_never_reach_git(gate, tmp_path):
    up = world.Repository(tmp_path / "up")
    oid = up.commit("refs/heads/Main", {"f": "1"})
    up.git("update-ref", "refs/heads/main", oid)

    def talk(streams, service, stream, why):
        import subprocess
        p = subprocess.Popen(["git", "upload-pack", up.folder], stdin=stream, stdout=subprocess.PIPE, env=up.env)
        p.stdout.read(int(p.stdout.read(4), 16) - 4)
        stream.sendall(line(oid.encode() + b" HEAD\0symref=HEAD:refs/heads/../../hooks/x " + CAPS.encode()))
        stream.sendall(b"".join(line(oid.encode() + b" " + n + b"\n") for n in BAD_NAMES))
        while data := p.stdout.read1(65536):
            stream.sendall(data)
        p.wait(20)

    g = gate("ssh", talk)
    before = sorted(os.listdir(g.mirror.folder))
    g.fetch()
    # Letter case may differ, as at the upstream.
    assert g.mirror.refs() == {"refs/heads/main": oid, "refs/heads/Main": oid}
    assert g.mirror.git("symbolic-ref", "HEAD") == "refs/heads/main"
    assert set(os.listdir(g.mirror.folder)) - set(before) <= {"packed-refs"}


def answers(refs, pack):
    """An upload-pack that says NAK and then this."""
    def talk(streams, service, stream, why):
        stream.sendall(advert(refs))
        got = b""
        while b"0009done\n" not in got:
            data = stream.recv(65536)
            if not data:
                return
            got += data
        stream.sendall(line("NAK\n") + pack)
        stream.shutdown(1)
        while stream.recv(65536):
            pass
    return talk


@pytest.mark.parametrize("pack,words", [
    (line(b"\1PACK\0\0\0\2\xff\xff\xff\xff"), "4294967295 objects"),
    (line(b"\1PA") + line(b"\1CK\0\0\0\2") + line(b"\1\x7f\0\0\0"), "2130706432 objects"),
    (line(b"\1JUNK\0\0\0\2\0\0\0\1"), "not a pack"),
    (line(b"\1PACK\0\0\0\2\0\0\0\1"), ""),
    (b"fff1", "not git's protocol"),
    (b"0002", "not git's protocol"),
    (line("shallow " + OID), "shallow"),
    (line(b"\3go \x1b[5m away\n"), "go \\x1b[5m away"),
    (line(b"\2\x1b]0;title\x07\n") + line(b"\1PACK\0\0\0\2\0\0\0\0" + bytes(20)), ""),
    (line("ERR \x1b[5m no"), "\\x1b[5m no"),
])
def test_bad_packs_are_refused(gate, pack, words):
    refused(gate("ssh", answers([("refs/heads/a", OID)], pack)), words)


def test_an_upstream_that_gives_other_objects_is_refused(gate, tmp_path):
    up = world.Repository(tmp_path / "up")
    up.commit("refs/heads/main", {"f": "1"})
    pack = up.git("pack-objects", "--all", "--stdout", "-q", stdin=b"")
    import subprocess
    pack = subprocess.run(["git", "pack-objects", "--all", "--stdout", "-q"], cwd=up.folder, env=up.env, input=b"",
                          capture_output=True).stdout
    refused(gate("ssh", answers([("refs/heads/a", OID)], line(b"\1" + pack) + b"0000")))


def test_without_a_channel_nothing_hangs(gate):
    g = gate("ssh", says(b""))
    g.channel.ours.shutdown(2)
    refused(g, "gitssh")
    g.settings.pop("ssh")
    refused(g, "gitssh is not there")


# --- streams: push ---

def receives(report, refs=(("refs/heads/main", OID),), caps=PUSH_CAPS, why_text=b"", takes=True):
    def talk(streams, service, stream, why):
        assert service == 2
        stream.sendall(advert(list(refs) or [("capabilities^{}", world.NONE)], caps))
        while takes and stream.recv(65536):
            pass
        stream.sendall(report)
        if why_text:
            why.write(why_text)
    return talk


def band(data, n=1):
    return line(bytes([n]) + data)


def report(*lines):
    return band(b"".join(line(x) for x in lines) + b"0000") + b"0000"


def pushes(gate, *args, kind="ssh", **more):
    g = gate(kind, receives(*args, **more) if kind == "ssh" else args[0])
    new = g.commit({"f": "1"})
    return g, new


def test_reasons_are_the_upstreams_own_made_visible(gate):
    g, new = pushes(gate, report("unpack ok\n", "ng refs/heads/x \x1b[31mprotected " + "y" * 300 + "\n"))
    r = g.push("refs/heads/x", world.NONE, new)
    assert r["code"] == -1 and r["refs"][0]["reason"].startswith("\\x1b[31mprotected yyy")
    assert len(r["refs"][0]["reason"].encode()) < 160


def test_what_it_says_is_cut_and_escaped(gate):
    said = band(b"Resolving: 1%\rResolving: 99%\rdone\n", 2) + band(b"a\x1b[0m\x07b  \n" + b"x" * 60000, 2) + \
        b"".join(band(b"line %d\n" % i, 2) for i in range(2000))
    g, new = pushes(gate, said + report("unpack ok\n", "ok refs/heads/x\n") )
    r = g.push("refs/heads/x", world.NONE, new)
    assert r["code"] == 0 and r["said"].startswith("done\na\\x1b[0m\\x07b\n") and len(r["said"]) <= 2048


@pytest.mark.parametrize("data,words", [
    (b"", "not known: fetch to see"),
    (b"0000", "not known"),
    (report("unpack ok\n", "ok refs/heads/other\n"), "where its report should be"),
    (report("unpack ok\n", "ok refs/heads/x\n", "ng refs/heads/x no\n"), "where its report should be"),
    (report("ok refs/heads/x\n"), "where its report should be"),
    (band(line("unpack ok\n")), "not known"),
    (band(b"\x1b[31mfatal\n", 3), "it says: \\x1b[31mfatal"),
    (b"garbage\x1b", "not git's protocol"),
    (line(b"\x09x"), "where its report should be"),
])
def test_an_answer_that_is_none_is_not_taken_for_one(gate, data, words):
    g, new = pushes(gate, data)
    r = refused(g, words, verb="push", updates=("refs/heads/x", world.NONE, new))
    assert not r["refs"][0]["ok"]


def test_a_report_that_leaves_refs_out_or_failed_to_unpack(gate):
    g, new = pushes(gate, report("unpack ok\n", "ok refs/heads/x\n"))
    r = g.push("refs/heads/x", world.NONE, new, "refs/heads/y", world.NONE, new)
    assert r["code"] == -1 and "does not say" in r["refs"][1]["reason"]
    g, new = pushes(gate, report("unpack index-pack abnormal exit\n", "ng refs/heads/x unpacker error\n"))
    r = g.push("refs/heads/x", world.NONE, new)
    assert r["code"] == -1 and r["refs"][0]["reason"] == "unpack: index-pack abnormal exit"
    # Even when it says that the ref was taken all the same.
    g, new = pushes(gate, report("unpack no\n", "ok refs/heads/x\n"))
    assert g.push("refs/heads/x", world.NONE, new)["code"] == -1


def test_what_it_cannot_do_is_not_tried(gate):
    g, new = pushes(gate, b"", caps="report-status delete-refs")
    refused(g, "push one ref at a time", verb="push",
            updates=("refs/heads/x", world.NONE, new, "refs/heads/y", world.NONE, new))
    g, new = pushes(gate, b"", caps="side-band-64k")
    refused(g, "too old", verb="push", updates=("refs/heads/x", world.NONE, new))
    g, new = pushes(gate, b"", caps="report-status")
    refused(g, "deleted", verb="push", updates=("refs/heads/main", OID, world.NONE))


def test_a_report_without_sideband_is_read(gate):
    g, new = pushes(gate, line("unpack ok\n") + line("ok refs/heads/x\n") + b"0000", caps="report-status")
    assert g.push("refs/heads/x", world.NONE, new)["code"] == 0


def test_an_upstream_that_leaves_in_the_middle_of_the_pack(gate):
    def talk(streams, service, stream, why):
        stream.sendall(advert([("refs/heads/main", OID)], PUSH_CAPS))
        stream.recv(1000)
        why.write(b"disk full\x07\n")

    g = gate("ssh", talk)
    new = g.commit({"f": os.urandom(3000000)})
    r = refused(g, "disk full\\x07", verb="push", updates=("refs/heads/x", world.NONE, new))
    assert "not known" not in r["error"]


def test_an_object_that_is_missing_here_fails_here(gate):
    g, new = pushes(gate, b"")
    refused(g, verb="push", updates=("refs/heads/x", world.NONE, "2" * 40))


# --- https ---

V2 = {"Content-Type": "application/x-git-upload-pack-advertisement"}
RESULT = {"Content-Type": "application/x-git-upload-pack-result"}
PUSH = {"Content-Type": "application/x-git-receive-pack-advertisement"}
PUSHED = {"Content-Type": "application/x-git-receive-pack-result"}
GREETING = line("# service=git-upload-pack\n") + b"0000" + line("version 2\n") + line("agent=x\n") + \
    line("ls-refs=unborn\n") + line("fetch=shallow filter\n") + line("object-format=sha1\n") + b"0000"


def denied(reason, hint="do x"):
    return json.dumps({"blocked": True, "reason": reason, "rule": "", "scanner": "egress", "hint": hint,
                       "record": "1"}).encode()


@pytest.mark.parametrize("answer,words", [
    ((401, {}, b""), ["(401)"]),
    ((403, {"Content-Type": "text/plain"}, b"Not \x1b[31m you\nmore"), ["(403)", "Not \\x1b[31m you"]),
    ((404, {}, b""), ["no such repository"]),
    ((301, {"Location": "https://evil.example/x"}, b""), ["redirects to \"https://evil.example/x\""]),
    ((302, {"Location": "/login?\u00fc"}, b""), ["redirects"]),
    ((500, {}, b"oops"), ["status 500"]),
    ((502, {"Content-Type": "application/json"}, denied("upstream-certificate")), ["egress: upstream-certificate: do x"]),
    ((403, {"Content-Type": "application/json"}, denied("inside-address\x1b")), ["egress: inside-address\\x1b"]),
    ((204, {}, b""), ["status 204"]),
    ((200, {"Content-Type": "text/html"}, b"<html>"), ["text/html"]),
    ((200, {}, GREETING), ["smart HTTP"]),
    ((200, {**V2, "Content-Encoding": "gzip"}, GREETING), ["coded"]),
    ((200, V2, b""), ["cut off"]),
    ((200, V2, GREETING[:-4]), ["cut off"]),
    ((200, V2, line("# service=git-upload-pack\n") + b"0000" + advert([("refs/heads/a", OID)], "thin-pack")),
     ["too old"]),
    ((200, V2, line("version 1\n") + advert([("refs/heads/a", OID)])), ["version of the protocol"]),
    ((200, V2, advert([("refs/heads/a", OID)])[:-4]), ["cut off"]),
    ((200, V2, GREETING.replace(b"sha1", b"sha2")), ["SHA-256"]),
    ((200, V2, line("version 2\n") + line("fetch\n") + b"0000"), ["anything be fetched"]),
    ((200, V2, line(b"ERR no \x1b\n")), ["it says: no \\x1b"]),
    ((200, V2, b"<html>"), ["not git's protocol"]),
    ((200, {**V2, "X": "y" * 70000}, b""), ["acceptable HTTP"]),
    ((200, {**V2, "Content-Length": "5, 6"}, b"12345"), ["acceptable HTTP"]),
])
def test_answers_that_are_not_the_one(gate, answer, words):
    refused(gate("egress", lambda method, path, fields: answer), *words)


def session(refs, objects=None):
    """Version 2: the refs, then what is given for fetch."""
    state = []

    def talk(method, path, fields):
        if method == "GET":
            return 200, V2, GREETING
        state.append(path)
        return (200, RESULT, refs) if len(state) == 1 else (200, RESULT, objects or b"")
    return talk


@pytest.mark.parametrize("refs,objects,words", [
    (b"", None, "cut off"),
    (line(f"{OID} refs/heads/a"), None, "cut off"),
    (line(f"{OID} refs/heads/a") * 2 + b"0000", None, "says twice"),
    (line("x"), None, "where a ref should be"),
    (line("2" * 64 + " refs/heads/a"), None, "SHA-256"),
    (b"0001", None, "not git's protocol"),
    (b"".join(line(f"{OID} refs/tags/{i}") for i in range(100002)), None, "more than 100000"),
    (line(f"{OID} refs/heads/a") + b"0000", b"", "cut off"),
    (line(f"{OID} refs/heads/a") + b"0000", line("packfile\n") + line(b"\1PACK\0\0\0\2\0\0\0\1"), "cut off"),
    (line(f"{OID} refs/heads/a") + b"0000", line("packfile\n") + line(b"\1PACK\0\0\0\2\xff\xff\xff\xff"), "objects"),
    (line(f"{OID} refs/heads/a") + b"0000", line("shallow-info\n") + line("shallow " + OID) + b"0001", "shallow"),
    (line(f"{OID} refs/heads/a") + b"0000", line("packfile\n") + line(b"\3no \x1b\n") + b"0000", "no \\x1b"),
    (line(f"{OID} refs/heads/a") + b"0000", b"0000", ""),
])
def test_sessions_that_go_wrong(gate, refs, objects, words):
    refused(gate("egress", session(refs, objects)), words)


@pytest.mark.parametrize("answer,words", [
    (b"", "cut off"),
    (line("NAK\n"), "cut off"),
    (line("NAK\n") + line(b"\1PACK\0\0\0\2\xff\xff\xff\xff"), "4294967295 objects"),
    (line(b"ERR no \x1b\n"), "it says: no \\x1b"),
    (line(f"ACK {OID}\n") + b"0000", ""),
    (b"<html>", "not git's protocol"),
])
def test_sessions_in_version_0_that_go_wrong(gate, answer, words):
    def talk(method, path, fields):
        if method == "GET":
            return 200, V2, advert([("refs/heads/a", OID)])
        return 200, RESULT, answer
    refused(gate("egress", talk), words)


@pytest.mark.parametrize("answers,words", [
    ([line("what\n")], "neither ACK nor NAK"),
    ([b"0000"], "not git's protocol"),
    ([b""], "cut off"),
    ([line(b"ERR no \x1b\n")], "it says: no \\x1b"),
    ([line(f"ACK {OID}\n"), line("NAK\n")], "forgotten"),
    ([line(f"ACK {OID}\n"), b"00"], "cut off"),
    ([line(f"ACK {OID}\n"), line(f"ACK {OID}\n") + line(b"\1JUNKJUNKJUNK")], "not a pack"),
])
def test_negotiations_in_version_0_that_go_wrong(gate, answers, words):
    left = list(answers)

    def talk(method, path, fields):
        if method == "GET":
            return 200, V2, advert([("refs/heads/a", OID)])
        return 200, RESULT, left.pop(0)

    g = gate("egress", talk)
    commit = "commit refs/heads/a\ncommitter A <a@b.c> 1 +0000\ndata 1\nm\n"
    g.mirror.git("fast-import", "--quiet", stdin=commit.encode() * 100)
    r = g.call("fetch")
    assert r["code"] < 0 and words in r["error"], r


def raw(data):
    def say(stream, reader, fields):
        for _ in reader.body(fields):
            pass
        stream.sendall(data)
        return False
    return lambda method, path, fields: say


@pytest.mark.parametrize("data,words", [
    (b"", "without an answer"),
    (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "acceptable HTTP"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, "never answers"),
    (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n"
     b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", "acceptable HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\nContent-Length: 900\r\n\r\n0000",
     ""),
    (b"\x16\x03\x01", "acceptable HTTP"),
])
def test_what_is_no_http(gate, data, words):
    refused(gate("egress", raw(data)), words)


GREET_PUSH = line("# service=git-receive-pack\n") + b"0000" + advert([("refs/heads/main", OID)], PUSH_CAPS)


@pytest.mark.parametrize("size", [10, 3000000])
@pytest.mark.parametrize("answer,words,is_known", [
    ((413, {}, b""), "(413)", True),
    ((401, {}, b""), "(401)", True),
    ((403, {"Content-Type": "text/plain"}, b"read only"), "read only", True),
    ((500, {}, b""), "status 500", False),
    ((502, {"Content-Type": "application/json"}, denied("connect-failed")), "connect-failed", True),
    ((504, {"Content-Type": "application/json"}, denied("response-timeout")), "response-timeout", False),
    ((200, PUSHED, b""), "", False),
    ((200, {"Content-Type": "text/html"}, b""), "text/html", False),
    ((200, PUSHED, report("unpack ok\n", "ok refs/heads/x\n")[:-6]), "", False),
    ("close", "", False),
    ("early", "(403)", True),
])
def test_whether_an_https_upstream_has_acted(gate, answer, words, is_known, size):
    def talk(method, path, fields):
        if method == "GET":
            return 200, PUSH, GREET_PUSH
        if answer == "close":
            return raw(b"")(method, path, fields)
        if answer == "early":
            def say(stream, reader, fields):
                stream.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
                return False
            return say
        return answer

    g = gate("egress", talk)
    new = g.commit({"f": os.urandom(size)})
    r = refused(g, words, verb="push", updates=("refs/heads/x", world.NONE, new))
    assert ("not known: fetch to see" in r["error"]) == (not is_known), r


def test_without_egress_nothing_hangs(gate):
    g = gate("egress", lambda *a: (404, {}, b""))
    g.channel.ours.shutdown(2)
    refused(g, "egress")


# --- ends ---

@pytest.mark.parametrize("kind", ["ssh", "egress"])
def test_nothing_is_left_of_a_worker_that_was_killed(gate, kind):
    """git, git-connect and the connector end although the upstream neither speaks nor hangs up."""
    import signal
    import subprocess
    import threading
    heard, done = threading.Event(), threading.Event()

    def hold(*args):
        heard.set()
        done.wait(30)

    def talk(*args):
        if kind == "ssh":
            return hold()
        return lambda stream, reader, fields: hold()

    g = gate(kind, talk)
    s = [f"{k}={v}" for k, v in g.settings.items()]
    p = subprocess.Popen([world.DRIVER, "fetch", *s], pass_fds=[g.channel.theirs.fileno()], start_new_session=True,
                         stdout=subprocess.DEVNULL)
    try:
        assert heard.wait(10)
        members = lambda: [x for x in os.listdir("/proc") if x.isdigit() and session_of(x) == p.pid]  # noqa: E731
        end = time.monotonic() + 10
        while len(members()) < 4 and time.monotonic() < end:
            time.sleep(0.02)
        assert len(members()) >= 4, members()
        p.send_signal(signal.SIGKILL)
        p.wait(10)
        while members() and time.monotonic() < end:
            time.sleep(0.02)
        assert members() == []
    finally:
        p.kill()
        done.set()


def session_of(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[3])

"""git-gate's port in hostile hands: other paths and services, other repositories, other transports,
trees that no file system should see, repositories that want to be executed."""
import base64
import hashlib
import json
import os
import socket
import struct
import time
import zlib

import pytest
from git_world import HTTPS_HOST, TOKEN, https_remote, make_bare, refs

URL = f"https://{HTTPS_HOST}/team/project.git"
PATH = f"/{HTTPS_HOST}/team/project"


@pytest.fixture(scope="module")
def world(make_world, https_git, ssh_git):
    make_bare(https_git.path("team/project"), commits=3)
    make_bare(https_git.path("team/hidden"), {"h.txt": "of somebody else\n"})
    return make_world([https_remote("project", https_git)]).start()


@pytest.fixture
def project(https_git):
    return https_git.path("team/project")


# --- raw requests, sent from inside ---

SEND = r"""
import os, socket, sys
host, port = os.environ["GATE"].split(":")
s = socket.create_connection((host, int(port)), 5)
s.settimeout(15)
s.sendall(sys.stdin.buffer.read())
try:
    s.shutdown(socket.SHUT_WR) if os.environ.get("HALF") else None
    while True:
        d = s.recv(65536)
        if not d: break
        sys.stdout.buffer.write(d)
        if os.environ.get("ONE"): break
except (socket.timeout, ConnectionError) as e:
    sys.stderr.write(repr(e))
"""


@pytest.fixture(scope="module")
def gate(world):
    url = world.sh(f"clone {URL}\ngit remote get-url origin").stdout.strip()
    return url.split("/")[2]


def ask(world, gate, request, check_alive=True):
    r = world.running.exec("env", f"GATE={gate}", "python3", "-c", SEND, input=request, text=False)
    if check_alive:
        assert b"main" in world.running.exec("git", "ls-remote", URL, text=False).stdout, "the gate is gone"
    return r.stdout


def get(path, gate, method="GET", headers="", body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: {gate}\r\nConnection: close\r\n{headers}"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode("latin-1") + b"\r\n" + body


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.") else 0


def test_control_of_the_raw_requests(world, gate):
    answer = ask(world, gate, get(f"{PATH}/info/refs?service=git-upload-pack", gate))
    assert status(answer) == 200 and b"refs/heads/main" in answer, answer


PATHS = [
    "/", "/..", f"{PATH}", f"{PATH}/HEAD", f"{PATH}/config", f"{PATH}/objects/info/packs",
    f"{PATH}/objects/info/alternates", f"{PATH}/info/refs", f"{PATH}/info/refs?service=git-upload-archive",
    f"{PATH}/info/refs?service=", f"{PATH}/info/refs?service=git-upload-pack&x=1",
    f"{PATH}/info/refs?x=1&service=git-upload-pack", f"{PATH}/hooks/pre-receive", f"{PATH}/git-upload-archive",
    f"/{HTTPS_HOST}/team/hidden/info/refs?service=git-upload-pack",
    f"{PATH}/../hidden/info/refs?service=git-upload-pack",
    f"{PATH}/..%2fhidden/info/refs?service=git-upload-pack",
    f"{PATH}/%2e%2e/hidden/info/refs?service=git-upload-pack",
    f"/{HTTPS_HOST}/team/./project/info/refs?service=git-upload-pack",
    f"//{HTTPS_HOST}/team/project/info/refs?service=git-upload-pack",
    f"/{HTTPS_HOST}//team/project/info/refs?service=git-upload-pack",
    f"{PATH}%00/info/refs?service=git-upload-pack", f"{PATH}.git.git/info/refs?service=git-upload-pack",
    f"{PATH.replace('team', 'TEAM')}/info/refs?service=git-upload-pack",
    "/../../etc/passwd", "/etc/passwd", "/workspace/info/refs?service=git-upload-pack",
    "/metrics", "/health", "/.git/config", "/-/x", "/cgi-bin/x", "*",
    "http://git.example.test/team/project/info/refs?service=git-upload-pack",
]


@pytest.mark.parametrize("path", PATHS)
def test_other_paths(world, gate, https_git, path):
    answer = ask(world, gate, get(path, gate), check_alive=False)
    if status(answer) == 302:
        # What insteadOf took with it, sent where it was going: to pipelock, which decides.
        assert f"\r\nLocation: https://{HTTPS_HOST}{path.removeprefix('/' + HTTPS_HOST)}\r\n".encode() in answer
    else:
        assert status(answer) in (400, 403, 404, 405, 421), answer[:300]
    assert b"of somebody else" not in answer and b"root:" not in answer and b"[core]" not in answer
    assert not any("hidden" in r.path for r in https_git.requests)


METHODS = ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "MKCOL", "CONNECT", "LOCK"]


@pytest.mark.parametrize("method", METHODS)
def test_other_methods(world, gate, method):
    answer = ask(world, gate, get(f"{PATH}/info/refs?service=git-upload-pack", gate, method), check_alive=False)
    assert status(answer) // 100 == 4 or status(answer) == 501, answer[:300]


RAW = {
    "garbage": b"\x00\x01\x02\x03" * 100 + b"\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "git-daemon": b"0039git-upload-pack /team/project\0host=git.example.test\0",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 60,
    "h2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "cl-te": f"POST {PATH}/git-upload-pack HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\n"
             "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n".encode(),
    "no-host": f"GET {PATH}/info/refs?service=git-upload-pack HTTP/1.1\r\n\r\n".encode(),
    "bare-lf": f"GET {PATH}/info/refs?service=git-upload-pack HTTP/1.1\nHost: g\n\n".encode(),
    "long-line": b"GET /" + b"a" * 200000 + b" HTTP/1.1\r\nHost: g\r\n\r\n",
    "upgrade": f"GET {PATH}/info/refs?service=git-upload-pack HTTP/1.1\r\nHost: g\r\nUpgrade: h2c\r\n"
               "Connection: Upgrade, close\r\n\r\n".encode(),
}


@pytest.mark.parametrize("name", sorted(RAW))
def test_bytes_that_are_no_request(world, gate, name):
    answer = ask(world, gate, RAW[name])
    assert status(answer) in (0, 200, 400, 403, 404, 414, 421, 426, 431, 501, 505), answer[:200]
    assert answer.count(b"HTTP/1.1 ") <= 1, answer


def pkt(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b"%04x" % (len(data) + 4) + data


BODIES = {
    "empty": b"", "flush": b"0000", "short-pkt": b"0003", "long-pkt": b"ffff" + b"x" * 10,
    "not-hex": b"zzzz" + b"x" * 50, "no-flush": pkt("0" * 40 + " " + "1" * 40 + " refs/heads/x\0report-status"),
    "bad-oid": pkt("g" * 40 + " " + "1" * 40 + " refs/heads/x\0report-status") + b"0000",
    "no-pack": pkt("0" * 40 + " " + "1" * 40 + " refs/heads/x\0report-status") + b"0000",
    "half-pack": pkt("0" * 40 + " " + "1" * 40 + " refs/heads/x\0report-status") + b"0000PACK\0\0\0\2\0\0\0\5x",
    "many": b"".join(pkt("0" * 40 + " " + "1" * 40 + f" refs/heads/x{i}" + ("\0report-status" if i == 0 else ""))
                     for i in range(2000)) + b"0000",
    "twice": pkt("0" * 40 + " " + "1" * 40 + " refs/heads/x\0report-status") +
             pkt("0" * 40 + " " + "2" * 40 + " refs/heads/x") + b"0000",
    "push-cert": pkt("push-cert\0report-status") + pkt("certificate version 0.1\n") + b"0000",
    "shallow": pkt("shallow " + "1" * 40) + b"0000",
    "sha256": pkt("0" * 40 + " " + "1" * 40 + " refs/heads/x\0report-status object-format=sha256") + b"0000",
    "newline-ref": pkt("0" * 40 + " " + "1" * 40 + " refs/heads/x\nrefs/heads/y\0report-status") + b"0000",
}


@pytest.mark.parametrize("name", sorted(BODIES))
def test_push_that_is_none(world, gate, project, name):
    kind = "Content-Type: application/x-git-receive-pack-request\r\n"
    with world.nothing_pushed(project):
        ask(world, gate, get(f"{PATH}/git-receive-pack", gate, "POST", kind, BODIES[name]))


@pytest.mark.one_backend
def test_unpack_bombs(world, gate, project):
    """A pack that says it has more than it has, and one that is mostly air."""
    commands = pkt("0" * 40 + " " + "1" * 40 + " refs/heads/bomb\0report-status") + b"0000"
    kind = "Content-Type: application/x-git-receive-pack-request\r\n"
    air = zlib.compress(b"\0" * (64 << 20), 9)
    size, head = 64 << 20, bytearray([0x80 | 3 << 4 | (64 << 20 & 15)])
    size >>= 4
    while size:
        head.append((size & 127) | (0x80 if size > 127 else 0))
        size >>= 7
    body = b"PACK" + struct.pack(">II", 2, 60) + (bytes(head) + air) * 60
    bombs = [b"PACK" + struct.pack(">II", 2, 0xffffffff), body + hashlib.sha1(body).digest()]
    for bomb in bombs:
        with world.nothing_pushed(project):
            ask(world, gate, get(f"{PATH}/git-receive-pack", gate, "POST", kind, commands + bomb))


# --- clients that want another program or another place ---

CLIENTS = [
    'git clone "ext::sh -c touch% /tmp/ran" x', "git clone file:///etc x",
    f"git clone -u 'touch /tmp/ran;git-upload-pack' {URL} x && test -e /tmp/ran",
    f"git clone -- --upload-pack=touch x; git clone '{URL}/../hidden.git' x",
    f"git clone 'https://{HTTPS_HOST}/team/../team/hidden.git' x",
    f"git clone 'https://{HTTPS_HOST}/team/hidden.git' x",
    f"git clone 'https://{HTTPS_HOST}/-oProxyCommand=touch/x.git' x",
    f"git clone 'ssh://-oProxyCommand=touch%20x/team/project.git' x",
]


@pytest.mark.parametrize("i", range(len(CLIENTS)))
def test_other_transports(world, https_git, i):
    before = [r.path for r in https_git.requests]
    r = world.sh(CLIENTS[i], check=False)
    assert r.returncode != 0, r.stdout
    assert not any("hidden" in p for p in [r.path for r in https_git.requests][len(before):])


# --- objects made by hand ---

def make_object(kind, data):
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


KINDS = {"commit": 1, "tree": 2, "blob": 3, "tag": 4}


def make_pack(objects):
    out = b"PACK" + struct.pack(">II", 2, len(objects))
    for kind, data in objects:
        size = len(data)
        first = KINDS[kind] << 4 | size & 15
        size >>= 4
        head = bytearray()
        while size:
            head.append(first | 0x80)
            first, size = size & 127, size >> 7
        head.append(first)
        out += bytes(head) + zlib.compress(data)
    return out + hashlib.sha1(out).digest()


def entry(name, oid, mode="100644"):
    return f"{mode} ".encode() + (name if isinstance(name, bytes) else name.encode()) + b"\0" + bytes.fromhex(oid)


def push_tree(world, gate, ref, entries, extra=(), commit=None):
    """What the gate answers to a push of one commit with this tree; no git client would send it."""
    blob = b"echo evil\n"
    tree = b"".join(entries)
    commit = commit or (f"tree {make_object('tree', tree)}\nauthor Agent <agent@example.test> 1700000000 +0000\n"
                        "committer Agent <agent@example.test> 1700000000 +0000\n\nby hand\n").encode()
    objects = [("blob", blob), ("tree", tree), ("commit", commit), *extra]
    body = pkt(f"{'0' * 40} {make_object('commit', commit)} {ref}\0report-status agent=hand") + b"0000" + \
        make_pack(objects)
    return ask(world, gate, get(f"{PATH}/git-receive-pack", gate, "POST",
                                "Content-Type: application/x-git-receive-pack-request\r\n", body))


BLOB = make_object("blob", b"echo evil\n")
TREES = {
    "git": [entry(".git", BLOB)], "git-upper": [entry(".GIT", BLOB)], "git-mixed": [entry(".gIt", BLOB)],
    "dot": [entry(".", BLOB)], "dotdot": [entry("..", BLOB)], "slash": [entry("a/b", BLOB)],
    "empty-name": [entry("", BLOB)], "ntfs-short": [entry("git~1", BLOB)], "ntfs-short-upper": [entry("GIT~1", BLOB)],
    "ntfs-dot": [entry(".git.", BLOB)], "ntfs-space": [entry(".git ", BLOB)],
    "ntfs-stream": [entry(".git::$INDEX_ALLOCATION", BLOB)], "hfs": [entry(".g\u200cit", BLOB)],
    "hfs-2": [entry(".git\u200d", BLOB)], "backslash": [entry("a\\..\\..\\x", BLOB)],
    "duplicate": [entry("a", BLOB), entry("a", BLOB)], "unsorted": [entry("b", BLOB), entry("a", BLOB)],
    "bad-mode": [entry("a", BLOB, "777777")], "setuid-mode": [entry("a", BLOB, "104755")],
    "padded-mode": [entry("a", BLOB, "0100644")],
    "gitmodules-link": [entry(".gitmodules", BLOB, "120000")],
    "gitattributes-link": [entry(".gitattributes", BLOB, "120000")],
    "cut": [b"100644 a\0short"], "missing-blob": [entry("a", "1" * 40)],
    "missing-submodule-ok-but-git": [entry(".git", "1" * 40, "160000")],
}


def took(answer, ref):
    return f"ok {ref}".encode() in answer


def test_control_of_the_hand_made(world, gate, project):
    answer = push_tree(world, gate, "refs/heads/by-hand", [entry("fine.txt", BLOB)])
    assert took(answer, "refs/heads/by-hand"), answer
    assert "refs/heads/by-hand" in refs(project)


@pytest.mark.parametrize("name", sorted(TREES))
def test_tree_entries(world, gate, project, name):
    ref = f"refs/heads/tree-{name}"
    with world.nothing_pushed(project):
        answer = push_tree(world, gate, ref, TREES[name])
    assert not took(answer, ref), answer


def test_tree_below(world, gate, project):
    """The same one level down, and in a commit that is not the tip."""
    inner = entry(".git", BLOB)
    outer = [entry("sub", make_object("tree", inner), "40000")]
    with world.nothing_pushed(project):
        assert b"ok refs/" not in push_tree(world, gate, "refs/heads/below", outer, [("tree", inner)])


MODULES = ["ext::sh -c touch% /tmp/x", "file:///etc", "-u./payload", "ssh://-oProxyCommand=x/y",
           "http::/x", "https://e.example/\nevil", "../../../etc", "fd::7", "--upload-pack=x"]


@pytest.mark.parametrize("url", MODULES)
def test_submodule_urls(world, gate, project, url):
    text = f'[submodule "m"]\n\tpath = m\n\turl = {json.dumps(url)}\n'.encode()
    oid = make_object("blob", text)
    with world.nothing_pushed(project):
        answer = push_tree(world, gate, "refs/heads/module", [entry(".gitmodules", oid)], [("blob", text)])
    assert not took(answer, "refs/heads/module"), answer


COMMITS = {
    "nul": b"tree %s\nauthor A <a@b> 1 +0000\ncommitter A <a@b> 1 +0000\n\nx\0y",
    "no-author": b"tree %s\ncommitter A <a@b> 1 +0000\n\nx",
    "two-trees": b"tree %s\ntree 1111111111111111111111111111111111111111\nauthor A <a@b> 1 +0000\n"
                 b"committer A <a@b> 1 +0000\n\nx",
    "bad-date": b"tree %s\nauthor A <a@b> 99999999999999999999999 +0000\ncommitter A <a@b> 1 +0000\n\nx",
    "missing-parent": b"tree %s\nparent 1111111111111111111111111111111111111111\nauthor A <a@b> 1 +0000\n"
                      b"committer A <a@b> 1 +0000\n\nx",
}


@pytest.mark.parametrize("name", sorted(COMMITS))
def test_commits_that_do_not_parse(world, gate, project, name):
    tree = [entry("fine.txt", BLOB)]
    commit = COMMITS[name] % make_object("tree", tree[0]).encode()
    ref = f"refs/heads/commit-{name}"
    with world.nothing_pushed(project):
        assert not took(push_tree(world, gate, ref, tree, commit=commit), ref)


# --- what the gate would execute, and what it would tell ---

def test_pushed_configuration_is_not_obeyed(world, project, scratch):
    """A repository within the repository, hooks, attributes, alternates: the gate's process runs none of
    it, so the canary file is never there, inside the gate's reach or out of it."""
    canary = f"{scratch}/gate-canary"
    r = world.sh(f"""
clone {URL}
mkdir -p hooks objects/info refs
for h in pre-receive update post-receive post-update post-checkout reference-transaction; do
printf '#!/bin/sh\\ntouch {canary} /tmp/gate-canary\\n' > hooks/$h; chmod +x hooks/$h; done
printf '[core]\\n\\tfsmonitor = touch {canary}\\n\\thooksPath = hooks\\n[uploadpack]\\n\\tpackObjectsHook = touch {canary}\\n' > config
echo '/proc/self/root/etc' > objects/info/alternates
echo 'ref: refs/heads/main' > HEAD
echo '* filter=evil diff=evil merge=evil' > .gitattributes
commit
git push origin HEAD:refs/heads/planted || true
git -c protocol.version=0 fetch -q
git -c uploadpack.packObjectsHook='touch /tmp/ran' fetch -q
git ls-remote . >/dev/null
test ! -e /tmp/gate-canary
""")
    assert r.returncode == 0
    assert not os.path.exists(canary) and not os.path.exists("/tmp/gate-canary")


def test_echoed_token_is_scrubbed(world, https_git):
    https_git.mode = "echo"
    try:
        time.sleep(2.2)  # past the time that a refresh is good for
        r = world.sh(f"GIT_CURL_VERBOSE=1 git ls-remote {URL} 2>&1", check=False)
    finally:
        https_git.mode = None
        time.sleep(2.2)
    assert TOKEN not in r.stdout
    for user in ("x-access-token", "git", "token", "agent"):
        assert base64.b64encode(f"{user}:{TOKEN}".encode()).decode() not in r.stdout


def test_slow_and_many_clients(world, gate):
    """Half requests may keep the bottle's own git waiting; they do not end the gate."""
    host, port = gate.split(":")
    script = f"""
python3 - <<'END'
import socket, subprocess
held = []
for i in range(600):
    try:
        s = socket.create_connection(("{host}", {port}), 1)
        s.sendall(b"GET {PATH}/info/refs?service=git-upload-pack HTTP/1.1\\r\\nHost: x\\r\\nX: ")
        held.append(s)
    except OSError:
        break
while held:
    held.pop().close()
r = subprocess.run(["git", "ls-remote", "{URL}"], capture_output=True, timeout=60)
print(r.returncode, r.stderr.decode())
END
"""
    before = world.running.roles()["gitgate"]
    r = world.sh(script, timeout=120)
    assert r.stdout.split()[0] == "0", r.stdout
    assert world.running.roles()["gitgate"][0] == before[0], "it was restarted"


def test_only_that_port_is_new(world, gate):
    host = gate.split(":")[0]
    script = "\n".join(f"(exec 3<>/dev/tcp/{host}/{p}) 2>/dev/null && echo {p} || true"
                       for p in (22, 80, 443, 9099, 9417, 9418, 9419, 9100, 8888))
    open_ports = world.sh(script).stdout.split()
    assert "9418" in open_ports and "8888" in open_ports
    assert set(open_ports) <= {"9418", "8888"}, open_ports
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 9418), 0.5).close()

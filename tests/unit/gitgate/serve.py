"""A real git client against git-gate's core: tests/unit/gitgate/serve.c, whose upstreams and scan
are played. meson runs its classes side by side, and names each: serve.py SERVE CLASS."""
import concurrent.futures
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SERVE = None
HOST = "git.example"
WAIT = 60


def run(argv, cwd=None, env=None, check=True, timeout=WAIT, data=None):
    p = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, errors="replace",
                       timeout=timeout, input=data, stdin=None if data else subprocess.DEVNULL)
    if check and p.returncode != 0:
        raise AssertionError(f"{argv}: {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def wait_for(what, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if what():
            return True
        time.sleep(0.05)
    return False


def remote(name, **over):
    r = {"transport": "https", "name": name, "host": HOST, "port": 443, "path": f"/org/{name}.git",
         "branches": ["fix/*", "agent/**", "moving"], "protected": ["agent/locked"], "tags": ["v*"],
         "protect_head": True, "force": False, "delete": False, "stale": False, "oversize": False,
         "max_object": 52428800, "max_pack": 2147483648, "allow": []}
    r.update(over)
    return r


class Gate:
    """A served git-gate, its upstreams and a client's home."""

    def __init__(self, remotes, workers=None, sealed=False, desk=False):
        self.top = tempfile.mkdtemp(prefix="cb-gate-", dir="/tmp")
        self.upstreams = f"{self.top}/upstreams"
        self.home = f"{self.top}/home"
        self.folder = f"{self.top}/gate"
        self.workers = workers
        self.sealed = sealed
        self.desk = desk
        if sealed:
            # Where alone its git may go; the stand-in for an upstream is a git of its own.
            self.upstreams = f"{self.folder}/upstreams"
        for path in (self.upstreams, self.home):
            os.makedirs(path)
        self.env = {"PATH": "/usr/bin:/bin", "HOME": self.home, "GIT_CONFIG_NOSYSTEM": "1",
                    "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        with open(f"{self.home}/.gitconfig", "w") as f:
            f.write("[user]\nname = T\nemail = t@example.com\n[init]\ndefaultBranch = main\n"
                    "[advice]\ndetachedHead = false\n")
        with open(f"{self.top}/policy.json", "w") as f:
            json.dump({"version": 1, "remotes": remotes, "enforce_identity": False}, f)
        for r in remotes:
            self.make_upstream(r["name"])
        self.start()

    def start(self):
        env = {"PATH": "/usr/bin:/bin", "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "")}
        if self.sealed:
            env["SERVE_SEALED"] = "1"
        if self.desk:
            env["SERVE_DESK"] = "1"
        if self.workers:
            env["SERVE_WORKERS"] = str(self.workers)
        self.process = subprocess.Popen([SERVE, self.folder, f"{self.top}/policy.json", self.upstreams],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env=env)
        line = self.process.stdout.readline()
        assert line.startswith("port "), line
        self.port = int(line.split()[1])
        self.records = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.records.append(line.strip())

    def stop(self):
        self.process.stdin.close()
        code = self.process.wait(WAIT)
        self.reader.join(WAIT)
        self.process.stdout.close()
        assert code == 0, code

    def close(self):
        self.stop()
        left = [p for p in self.processes() if p]
        shutil.rmtree(self.top, ignore_errors=True)
        assert not left, left

    def processes(self):
        """Of git-gate's and its git's: whose command line or environment names the folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    text = f.read()
                with open(f"/proc/{pid}/cmdline", "rb") as f:
                    text += f.read()
                with open(f"/proc/{pid}/stat") as f:
                    state = f.read().rsplit(")", 1)[1].split()[0]
            except OSError:
                continue
            if self.folder.encode() in text and state != "Z":
                found.append(int(pid))
        return found

    def git(self, *argv, cwd=None, check=True, timeout=WAIT, env=None):
        return run(["/usr/bin/git", *argv], cwd=cwd, env={**self.env, **(env or {})}, check=check,
                   timeout=timeout)

    def make_upstream(self, name):
        work, bare = f"{self.top}/seed-{name}", f"{self.upstreams}/{name}.git"
        self.git("init", "-q", work)
        for i in range(5):
            with open(f"{work}/file{i}", "w") as f:
                f.write(f"{name} {i}\n" * 50)
            self.git("add", "-A", cwd=work)
            self.git("commit", "-qm", f"commit {i}", cwd=work)
        self.git("tag", "v1", cwd=work)
        self.git("branch", "moving", cwd=work)
        self.git("clone", "-q", "--bare", work, bare)

    def url(self, name="origin"):
        return f"http://127.0.0.1:{self.port}/{HOST}/org/{name}"

    def clone(self, to, *argv, name="origin"):
        path = f"{self.top}/{to}"
        self.git("clone", "-q", *argv, self.url(name), path)
        return path

    def commit(self, work, name, text="x\n", message="change"):
        with open(f"{work}/{name}", "w") as f:
            f.write(text)
        self.git("add", "-A", cwd=work)
        self.git("commit", "-qm", message, cwd=work)
        return self.git("rev-parse", "HEAD", cwd=work).stdout.strip()

    def upstream_refs(self, name="origin"):
        out = self.git("ls-remote", f"{self.upstreams}/{name}.git").stdout
        return {ref: oid for oid, ref in (line.split("\t") for line in out.splitlines())}

    def mark(self, what, on=True, name="origin"):
        path = f"{self.upstreams}/{name}.{what}"
        if on:
            open(path, "w").close()
        elif os.path.exists(path):
            os.unlink(path)

    def asked(self, what):
        """What the keeper was told of this kind, by its words."""
        return [line.split(" ", 9) for line in self.records if line.startswith(f"ask {what} ")]

    def approve(self, digest):
        with open(f"{self.upstreams}/approved", "w") as f:
            f.write(digest)

    def quarantines(self, name="origin"):
        return [n for n in os.listdir(f"{self.folder}/repos/{name}.git/objects") if "incoming" in n]

    def forget(self):
        """What was fetched a moment ago is not fetched again; wait until it is."""
        time.sleep(2.1)

    def http(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
        try:
            c.request(method, path, body=body, headers=headers or {})
        except BrokenPipeError:
            pass  # refused before it was sent
        r = c.getresponse()
        text = r.read()
        c.close()
        return r, text


class Case(unittest.TestCase):
    def gate(self, remotes=None, **kw):
        g = Gate(remotes or [remote("origin")], **kw)
        self.addCleanup(g.close)
        return g

    def refused(self, g, work, *argv, why, cwd=None):
        before = g.upstream_refs()
        p = g.git("push", "origin", *argv, cwd=work, check=False)
        self.assertNotEqual(p.returncode, 0, p.stderr)
        self.assertIn(why, p.stderr)
        self.assertEqual(g.upstream_refs(), before)
        return p


class Fetches(Case):
    def test_clone_and_fetch(self):
        g = self.gate()
        work = g.clone("a")
        self.assertEqual(g.git("log", "--oneline", cwd=work).stdout.count("\n"), 5)
        self.assertEqual(g.git("tag", cwd=work).stdout, "v1\n")
        oid = g.commit(f"{g.top}/seed-origin", "later")
        g.git("push", "-q", f"{g.upstreams}/origin.git", "main", "HEAD:refs/heads/fix/new",
              cwd=f"{g.top}/seed-origin")
        g.forget()
        g.git("fetch", "-q", cwd=work)
        self.assertEqual(g.git("rev-parse", "origin/main", cwd=work).stdout.strip(), oid)
        self.assertEqual(g.git("rev-parse", "origin/fix/new", cwd=work).stdout.strip(), oid)
        g.git("push", "-q", f"{g.upstreams}/origin.git", ":fix/new", cwd=f"{g.top}/seed-origin")
        g.forget()
        g.git("fetch", "-q", "--prune", cwd=work)
        self.assertNotIn("fix/new", g.git("branch", "-r", cwd=work).stdout)

    def test_protocol_versions(self):
        g = self.gate()
        for version in ("0", "1", "2"):
            path = f"{g.top}/v{version}"
            g.git("-c", f"protocol.version={version}", "clone", "-q", g.url(), path)
            self.assertTrue(os.path.exists(f"{path}/file4"))

    def test_shallow_and_partial(self):
        g = self.gate()
        work = g.clone("shallow", "--depth", "1")
        self.assertEqual(g.git("log", "--oneline", cwd=work).stdout.count("\n"), 1)
        g.git("fetch", "-q", "--unshallow", cwd=work)
        self.assertEqual(g.git("log", "--oneline", cwd=work).stdout.count("\n"), 5)
        work = g.clone("partial", "--filter=blob:none", "--no-checkout")
        g.git("checkout", "-q", "HEAD~2", cwd=work)
        self.assertTrue(os.path.exists(f"{work}/file2"))

    def test_many_refs_are_asked_for_in_gzip(self):
        g = self.gate()
        seed = f"{g.top}/seed-origin"
        for i in range(200):
            g.git("update-ref", f"refs/heads/fix/n{i}", g.commit(seed, f"n{i}"), cwd=seed)
        g.git("push", "-q", f"{g.upstreams}/origin.git", "refs/heads/fix/*:refs/heads/fix/*", cwd=seed)
        work = g.clone("many")
        self.assertEqual(g.git("branch", "-r", cwd=work).stdout.count("fix/"), 200)

    def test_twenty_at_a_time(self):
        g = self.gate(workers=4)
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            paths = list(pool.map(lambda i: g.clone(f"c{i}"), range(20)))
        for path in paths:
            self.assertTrue(os.path.exists(f"{path}/file4"))

    def test_upstream_down(self):
        g = self.gate()
        g.mark("down")
        p = g.git("clone", g.url(), f"{g.top}/a", check=False)
        self.assertNotEqual(p.returncode, 0)
        # What was made visible by whoever read it is not made so again.
        self.assertIn('remote error: git-gate: the upstream of "origin" cannot be fetched from: connection '
                      '\\x1b[31mrefused', p.stderr)

    def test_stale(self):
        g = self.gate([remote("origin", stale=True)])
        work = g.clone("a")
        g.mark("down")
        g.forget()
        for version in ("0", "2"):
            path = f"{g.top}/b{version}"
            p = g.git("-c", f"protocol.version={version}", "clone", g.url(), path)
            self.assertIn("remote: git-gate: warning: what you get is as of 20", p.stderr)
            self.assertIn(": connection \\x1b[31mrefused", p.stderr)
            self.assertTrue(os.path.exists(f"{path}/file4"))
        self.assertTrue(wait_for(lambda: any(r.startswith("record note stale-served fetch") and
                                             ": connection \\x1b[31mrefused" in r for r in g.records)))
        g.commit(work, "x")
        g.git("checkout", "-qb", "fix/a", cwd=work)
        self.refused(g, work, "fix/a", why="cannot be fetched from")
        g.mark("down", False)
        g.forget()
        self.assertNotIn("warning", g.git("clone", g.url(), f"{g.top}/c").stderr)

    def test_restart_keeps_the_mirror_and_removes_leftovers(self):
        g = self.gate()
        g.clone("a")
        mirror = f"{g.folder}/repos/origin.git"
        g.stop()
        os.makedirs(f"{mirror}/objects/tmp_objdir-incoming-abc/pack")
        for name in ("objects/tmp_objdir-incoming-abc/pack/x.pack", "HEAD.lock", "packed-refs.lock",
                     "objects/pack/tmp_pack_1", "objects/pack/pack-1.keep"):
            open(f"{mirror}/{name}", "w").close()
        os.makedirs(f"{mirror}/refs/heads/fix", exist_ok=True)
        with open(f"{mirror}/refs/heads/fix/tmp_1", "w") as f:
            f.write(g.git("rev-parse", "main", cwd=f"{g.top}/seed-origin").stdout)
        g.start()
        for name in ("objects/tmp_objdir-incoming-abc", "HEAD.lock", "packed-refs.lock",
                     "objects/pack/tmp_pack_1", "objects/pack/pack-1.keep"):
            self.assertFalse(os.path.exists(f"{mirror}/{name}"), name)
        self.assertTrue(os.path.exists(f"{mirror}/refs/heads/fix/tmp_1"))
        g.clone("b")

    def test_another_upstream_gets_another_mirror(self):
        g = self.gate()
        g.clone("a")
        g.stop()
        with open(f"{g.top}/policy.json") as f:
            text = f.read()
        with open(f"{g.top}/policy.json", "w") as f:
            f.write(text.replace("/org/origin.git", "/org/other.git"))
        g.start()
        self.assertEqual(os.listdir(f"{g.folder}/repos/origin.git/objects/pack"), [])


class Pushes(Case):
    sealed = False

    def setUp(self):
        self.g = self.gate(sealed=self.sealed)
        self.work = self.g.clone("work")

    def test_branch(self):
        g, work = self.g, self.work
        g.git("checkout", "-qb", "fix/a", cwd=work)
        oid = g.commit(work, "a")
        p = g.git("push", "-u", "origin", "fix/a", cwd=work)
        self.assertIn("remote: upstream: hello from upstream", p.stderr)
        self.assertEqual(g.upstream_refs()["refs/heads/fix/a"], oid)
        oid = g.commit(work, "b")
        g.git("push", "-q", "origin", "fix/a", cwd=work)
        self.assertEqual(g.upstream_refs()["refs/heads/fix/a"], oid)
        self.assertEqual(g.git("ls-remote", g.url(), "fix/a").stdout.split()[0], oid)
        self.assertTrue(wait_for(lambda: any(r.startswith("record allow push-forwarded push /org/origin")
                                             for r in g.records)), g.records)

    def test_several_and_a_tag(self):
        g, work = self.g, self.work
        oid = g.commit(work, "a")
        g.git("tag", "-a", "-m", "t", "v2", cwd=work)
        g.git("push", "-q", "--atomic", "origin", "HEAD:refs/heads/agent/x/y", "HEAD:refs/heads/fix/b", "v2",
              cwd=work)
        refs = g.upstream_refs()
        self.assertEqual((refs["refs/heads/agent/x/y"], refs["refs/heads/fix/b"]), (oid, oid))
        self.assertIn("refs/tags/v2", refs)

    def test_existing_objects_only(self):
        g, work = self.g, self.work
        g.git("push", "-q", "origin", "HEAD~1:refs/heads/fix/old", cwd=work)
        self.assertIn("refs/heads/fix/old", g.upstream_refs())

    def test_large(self):
        g, work = self.g, self.work
        with open(f"{work}/blob", "wb") as f:
            f.write(os.urandom(30 << 20))
        g.git("add", "-A", cwd=work)
        g.git("commit", "-qm", "large", cwd=work)
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/large", cwd=work)
        self.assertIn("refs/heads/fix/large", g.upstream_refs())

    def test_refs_refused(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        for spec, why in (
                ("HEAD:refs/heads/main", "branch-is-head"),
                ("HEAD:refs/heads/other", "branch-not-allowed"),
                ("HEAD:refs/heads/agent/locked", "branch-protected"),
                ("HEAD:refs/tags/w1", "tag-not-allowed"),
                ("+HEAD:refs/tags/v1", "tag-exists"),
                (":refs/tags/v1", "tag-delete"),
                (":refs/heads/moving", "branch-delete"),
                ("HEAD:refs/heads/MOVING", "branch-not-allowed"),
                ("HEAD:refs/heads/fix/a/b", "branch-not-allowed"),
                ("HEAD:refs/notes/commits", "deny updating a hidden ref"),
                ("HEAD:refs/replace/0123456789012345678901234567890123456789", "hidden ref"),
                ("HEAD:refs/pull/1/head", "hidden ref")):
            with self.subTest(spec):
                self.refused(g, work, spec, why=why)
        p = self.refused(g, work, "HEAD:refs/heads/main", why="branch-is-head: refs/heads/main")
        self.assertIn("branches that may be pushed: fix/*, agent/**, moving", p.stderr)
        self.assertTrue(wait_for(lambda: any("record block branch-is-head push" in r for r in g.records)))

    def test_judged_by_what_the_upstream_is_now(self):
        """Of a client that pushes without having looked at the refs."""
        g = self.gate([remote("origin", stale=True)])
        work = g.clone("a")
        old = g.upstream_refs()["refs/heads/moving"]
        new = g.commit(work, "x")
        pack = subprocess.run(["/usr/bin/git", "pack-objects", "-q", "--revs", "--stdout"], cwd=work, env=g.env,
                              input=f"{new}\n^{old}\n".encode(), stdout=subprocess.PIPE, check=True, timeout=WAIT).stdout
        command = f"{old} {new} refs/heads/moving\0 report-status".encode()

        def push():
            return g.http("POST", f"/{HOST}/org/origin/git-receive-pack", b"%04x%s0000" % (len(command) + 4, command) + pack,
                          {"Content-Type": "application/x-git-receive-pack-request", "User-Agent": "git/2.39"})
        g.mark("moved")
        g.stop()
        g.mark("down")
        g.start()
        r, text = push()
        self.assertEqual((r.status, b"git-stale" in text), (503, True), text)
        g.mark("down", False)
        g.forget()
        r, text = push()
        self.assertIn(b"ng refs/heads/moving", text)
        self.assertTrue(wait_for(lambda: any("branch-is-head" in r for r in g.records)), g.records)
        self.assertEqual(g.upstream_refs()["refs/heads/moving"], old)

    def test_one_of_several_refused(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        self.refused(g, work, "HEAD:refs/heads/fix/good", "HEAD:refs/heads/bad", why="branch-not-allowed")
        self.refused(g, work, "HEAD:refs/heads/fix/good", "HEAD:refs/notes/x", why="ref-namespace")

    def test_force(self):
        g, work = self.g, self.work
        g.git("checkout", "-q", "moving", cwd=work)
        g.git("reset", "-q", "--hard", "HEAD~1", cwd=work)
        g.commit(work, "a")
        self.refused(g, work, "+moving", why="force-push")

    def test_force_and_delete_allowed(self):
        g = self.gate([remote("origin", force=True, delete=True)])
        work = g.clone("free")
        g.git("checkout", "-q", "moving", cwd=work)
        g.git("reset", "-q", "--hard", "HEAD~1", cwd=work)
        oid = g.commit(work, "a")
        g.git("push", "-q", "origin", "+moving", cwd=work)
        self.assertEqual(g.upstream_refs()["refs/heads/moving"], oid)
        g.git("push", "-q", "origin", ":moving", cwd=work)
        self.assertNotIn("refs/heads/moving", g.upstream_refs())

    def test_names_beside_each_other(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/a", "HEAD:refs/heads/agent/x", cwd=work)
        self.refused(g, work, "HEAD:refs/heads/fix/A", why="ref-case")
        self.refused(g, work, "HEAD:refs/heads/agent/x/y", why="ref-conflict")

    def test_finding(self):
        g, work = self.g, self.work
        oid = g.commit(work, "a", message="a FAKE-SECRET here")
        p = self.refused(g, work, "HEAD:refs/heads/fix/a", why="git-gate: refused: fake-secret:1 of commit")
        self.assertIn(f"of commit {oid[:10]} (commit message), fingerprint 0123456789abcdef", p.stderr)
        self.assertIn("nothing was forwarded", p.stderr)
        # Nothing of it is left, and a push without it goes through.
        gate_git = ["/usr/bin/git", "--git-dir", f"{g.folder}/repos/origin.git"]
        self.assertNotEqual(run([*gate_git, "cat-file", "-e", oid], check=False).returncode, 0)
        g.git("commit", "-q", "--amend", "-m", "clean", cwd=work)
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/a", cwd=work)

    def test_approval(self):
        """Refused, asked for by its record, approved, and pushed once."""
        g = self.gate([remote("origin", force=True)], desk=True)
        work = g.clone("approved")
        oid = g.commit(work, "a", message="FAKE-SENSITIVE")
        ref = "refs/heads/fix/a"
        p = self.refused(g, work, f"HEAD:{ref}", why="the approval of the person who runs this bottle")
        digest = hashlib.sha256("\0".join(["origin", ref, "0" * 40, oid]).encode()).hexdigest()
        seen = g.asked("seen")
        self.assertEqual(seen[0][2:8], ["3", "origin", ref, "0" * 40, oid, digest])
        self.assertEqual(seen[0][9], ".github/workflows/a.yml")
        self.assertIn('ask: {"tool":"request_push","arguments":{"record":"%s"}}' % seen[0][8], p.stderr)
        # An approval of anything else is none: another ref, another commit.
        g.approve(digest)
        self.refused(g, work, "HEAD:refs/heads/fix/b", why="request_push")
        g.commit(work, "b", message="FAKE-SENSITIVE too")
        self.refused(g, work, f"HEAD:{ref}", why="request_push")
        # Nor may it bring a secret along, or go with another ref.
        secret = g.commit(work, "c", message="FAKE-SENSITIVE FAKE-SECRET")
        g.approve(hashlib.sha256("\0".join(["origin", ref, "0" * 40, secret]).encode()).hexdigest())
        p = self.refused(g, work, f"HEAD:{ref}", why="fake-secret")
        self.assertNotIn("request_push", p.stderr)
        g.approve(digest)
        p = self.refused(g, work, f"{oid}:{ref}", f"{oid}:refs/heads/fix/b", why="one ref")
        self.assertNotIn("request_push", p.stderr)
        # Used up by its first use, whatever becomes of that.
        g.mark("refuse")
        self.refused(g, work, f"{oid}:{ref}", why="the upstream refused")
        g.mark("refuse", on=False)
        self.refused(g, work, f"{oid}:{ref}", why="request_push")
        g.approve(digest)
        g.git("push", "-q", "origin", f"{oid}:{ref}", cwd=work)
        self.assertEqual(g.upstream_refs()[ref], oid)

    def test_approval_without_a_desk(self):
        g, work = self.g, self.work
        g.commit(work, "a", message="FAKE-SENSITIVE")
        p = self.refused(g, work, "HEAD:refs/heads/fix/a", why="the approval of the person who runs this bottle")
        self.assertNotIn("request_push", p.stderr)
        self.assertIn("Leave it out of the push", p.stderr)

    def test_canary(self):
        g = self.gate(desk=True)
        work = g.clone("canary")
        g.commit(work, "a", message="FAKE-CANARY")
        p = self.refused(g, work, "HEAD:refs/heads/fix/a", why="refused: canary")
        self.assertNotIn("request_push", p.stderr)
        self.assertTrue(wait_for(lambda: g.asked("canary")))
        self.assertEqual(g.asked("seen"), [])

    def test_secret_in_a_ref_name(self):
        """git shows the name that it was given; we neither say it nor write it down."""
        g = self.gate([remote("origin", branches=["fix/*"], tags=["v*"])])
        work = g.clone("named")
        g.commit(work, "a")
        for ref, why in (("heads/x-FAKE-SECRET", "branch-not-allowed"), ("tags/x-FAKE-SECRET", "tag-not-allowed"),
                         ("heads/fix/FAKE-SECRET", None), ("tags/v-FAKE-SECRET", None)):
            with self.subTest(ref):
                p = g.git("push", "origin", f"HEAD:refs/{ref}", cwd=work, check=False)
                ours = [line for line in p.stderr.splitlines() if line.startswith("remote: ")]
                self.assertTrue(ours)
                self.assertNotIn("FAKE-SECRET", "".join(ours))
                reason = why or "push-forwarded"
                self.assertTrue(wait_for(lambda: any(reason in r and "refs/***" in r for r in g.records)), g.records)
        g.mark("refuse")
        p = g.git("push", "origin", "HEAD:refs/heads/fix/a-FAKE-SECRET", cwd=work, check=False)
        self.assertIn("the upstream refused refs/***: as it pleases", p.stderr)
        self.assertFalse([r for r in g.records if "FAKE-SECRET" in r])

    def test_upstream_refuses(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        g.mark("down")
        p = self.refused(g, work, "HEAD:refs/heads/fix/a", why="the upstream")
        self.assertIn(": connection \\x1b[31mrefused", p.stderr)
        p = self.refused(g, work, "HEAD:refs/heads/fix/a", why="the upstream")
        g.mark("down", False)
        g.forget()
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/a", cwd=work)
        self.assertIn("refs/heads/fix/a", g.upstream_refs(), p.stderr)

    def test_options_and_signatures(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        for argv in (["-o", "ci.skip"], ["--signed"]):
            p = g.git("push", *argv, "origin", "HEAD:refs/heads/fix/a", cwd=work, check=False)
            self.assertNotEqual(p.returncode, 0)
            self.assertIn("the receiving end does not support", p.stderr)

    def test_from_a_shallow_clone(self):
        g = self.g
        work = g.clone("shallow", "--depth", "2")
        oid = g.commit(work, "a")
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/shallow", cwd=work)
        self.assertEqual(g.upstream_refs()["refs/heads/fix/shallow"], oid)

    def test_broken_objects(self):
        g, work = self.g, self.work
        blob = g.git("rev-parse", "HEAD:file0", cwd=work).stdout.strip()
        for name in (".git", "..", ".GIT", "git~1"):
            with self.subTest(name):
                entry = b"100644 " + name.encode() + b"\0" + bytes.fromhex(blob)
                p = subprocess.run(["/usr/bin/git", "hash-object", "-w", "--literally", "-t", "tree", "--stdin"],
                                   cwd=work, input=entry, capture_output=True, env=g.env, check=True)
                tree = p.stdout.decode().strip()
                commit = g.git("commit-tree", "-m", "x", tree, cwd=work).stdout.strip()
                self.refused(g, work, f"{commit}:refs/heads/fix/broken", why="fsck")

    def test_read_only(self):
        g = self.gate([remote("origin", branches=[], tags=[])])
        work = g.clone("work")
        g.commit(work, "a")
        self.refused(g, work, "HEAD:refs/heads/fix/a", why="remote: git-gate: refused: this remote can be "
                     "fetched from only")

    def test_killed_client(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        g.mark("slow")
        p = subprocess.Popen(["/usr/bin/git", "push", "-q", "origin", "HEAD:refs/heads/fix/a"], cwd=work,
                             env=g.env, stderr=subprocess.DEVNULL, start_new_session=True)
        self.assertTrue(wait_for(lambda: any("push-forwarded" in r for r in g.records)))
        os.killpg(p.pid, signal.SIGKILL)
        p.wait(WAIT)
        self.assertTrue(wait_for(lambda: not g.git_children()), g.git_children())
        g.mark("slow", False)
        self.assertNotIn("refs/heads/fix/a", g.upstream_refs())
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/a", cwd=work)
        self.assertEqual(g.quarantines(), [])

    def test_killed_gate(self):
        g, work = self.g, self.work
        g.commit(work, "a")
        g.mark("slow")
        p = subprocess.Popen(["/usr/bin/git", "push", "-q", "origin", "HEAD:refs/heads/fix/a"], cwd=work,
                             env=g.env, stderr=subprocess.DEVNULL)
        self.assertTrue(wait_for(lambda: any("push-forwarded" in r for r in g.records)))
        g.process.kill()
        g.process.wait(WAIT)
        self.assertNotEqual(p.wait(WAIT), 0)
        self.assertTrue(wait_for(lambda: not g.processes()), g.processes())
        g.process.stdin.close()
        g.reader.join(WAIT)
        g.process.stdout.close()
        g.mark("slow", False)
        g.start()
        g.git("remote", "set-url", "origin", g.url(), cwd=work)
        g.git("push", "-q", "origin", "HEAD:refs/heads/fix/a", cwd=work)


class Sealed(Case):
    """With the role's Landlock and seccomp: nothing that git needs is missing."""

    test_branch = Pushes.test_branch
    test_several_and_a_tag = Pushes.test_several_and_a_tag
    test_large = Pushes.test_large
    test_finding = Pushes.test_finding
    test_refs_refused = Pushes.test_refs_refused
    test_force = Pushes.test_force
    test_from_a_shallow_clone = Pushes.test_from_a_shallow_clone
    test_broken_objects = Pushes.test_broken_objects
    test_killed_client = Pushes.test_killed_client
    sealed = True

    def setUp(self):
        Pushes.setUp(self)
        with open(f"/proc/{self.g.process.pid}/status") as f:
            status = f.read()
        if "ASAN_OPTIONS" not in os.environ:
            self.assertIn("Seccomp:\t2\n", status)
        self.assertIn("NoNewPrivs:\t1\n", status)

    def test_fetches(self):
        g = self.g
        for version in ("0", "2"):
            g.git("-c", f"protocol.version={version}", "clone", "-q", g.url(), f"{g.top}/v{version}")
        work = g.clone("shallow", "--depth", "1")
        g.git("fetch", "-q", "--unshallow", cwd=work)
        g.clone("partial", "--filter=blob:none")

    def test_many_fetches_are_packed(self):
        g, seed = self.g, f"{self.g.top}/seed-origin"
        for i in range(4):
            g.commit(seed, f"n{i}")
            g.git("push", "-q", f"{g.upstreams}/origin.git", "main", cwd=seed)
            g.forget()
            g.git("fetch", "-q", cwd=self.work)
        self.assertEqual(g.git("rev-parse", "origin/main", cwd=self.work).stdout,
                         g.git("rev-parse", "main", cwd=seed).stdout)


class Requests(Case):
    """What no git client sends."""

    def test_garbage(self):
        g = self.gate()
        base = f"/{HOST}/org/origin"
        push = {"Content-Type": "application/x-git-receive-pack-request"}
        fetch = {"Content-Type": "application/x-git-upload-pack-request"}
        zero = "0" * 40
        line = f"{zero} {'1' * 40} refs/heads/fix/a"

        def pkt(text, caps=" report-status"):
            text = text + "\0" + caps if caps else text
            return f"{len(text) + 4:04x}{text}"

        for method, path, body, headers, status, reason in (
                ("GET", base, None, {}, 404, "git-endpoint"),
                ("GET", f"{base}/HEAD", None, {}, 404, "git-endpoint"),
                ("GET", f"{base}/objects/info/packs", None, {}, 404, "git-endpoint"),
                ("GET", f"{base}/config", None, {}, 404, "git-endpoint"),
                ("GET", f"{base}/info/refs", None, {}, 404, "git-endpoint"),
                ("GET", f"{base}/info/refs?service=git-upload-archive", None, {}, 400, "git-query"),
                ("GET", f"{base}/info/refs?service=git-upload-pack&x=1", None, {}, 400, "git-query"),
                ("GET", "/", None, {}, 404, "git-not-declared"),
                ("GET", "/other.example/org/x/info/refs?service=git-upload-pack", None, {}, 404,
                 "git-not-declared"),
                ("GET", f"/{HOST}/org/../../etc/info/refs?service=git-upload-pack", None, {}, 404,
                 "git-not-declared"),
                ("POST", f"{base}/git-upload-archive", "0000", {}, 404, "git-endpoint"),
                ("POST", f"{base}/info/refs?service=git-upload-pack", "x", {}, 405, "git-method"),
                ("GET", f"{base}/git-upload-pack", None, {}, 405, "git-method"),
                ("PUT", f"{base}/git-receive-pack", "x", push, 405, "git-method"),
                ("DELETE", f"{base}/git-receive-pack", None, push, 405, "git-method"),
                ("POST", f"{base}/git-upload-pack", "0000", push, 415, "git-content-type"),
                ("POST", f"{base}/git-receive-pack", "0000", fetch, 415, "git-content-type"),
                ("POST", f"{base}/git-receive-pack", "0000", {}, 415, "git-content-type"),
                ("POST", f"{base}/git-receive-pack", "0000", {**push, "Content-Encoding": "gzip"}, 415,
                 "git-content-encoding"),
                ("POST", f"{base}/git-upload-pack", "0000", {**fetch, "Content-Encoding": "br"}, 415,
                 "git-content-encoding"),
                ("POST", f"{base}/git-upload-pack?x", "0000", fetch, 400, "git-query"),
                ("POST", f"{base}/git-upload-pack", b"x" * (11 << 20), fetch, 413, "git-body-too-large"),
                ("POST", f"{base}/git-receive-pack", "garbage", push, 400, "bad-pkt-line"),
                ("POST", f"{base}/git-receive-pack", pkt(line), push, 400, "push-cut-short"),
                ("POST", f"{base}/git-receive-pack", pkt(line) + "0000", push, 400, "push-cut-short"),
                ("POST", f"{base}/git-receive-pack", pkt(line) + "0000NOTAPACKHEAD", push, 400,
                 "bad-pack-header"),
                ("POST", f"{base}/git-receive-pack", pkt(line, "push-options") + "0000", push, 403,
                 "push-options-refused"),
                ("POST", f"{base}/git-receive-pack", pkt(line, "object-format=sha256") + "0000", push, 403,
                 "object-format-refused"),
                ("POST", f"{base}/git-receive-pack", pkt(line, "made-up") + "0000", push, 400,
                 "unknown-push-capability"),
                ("POST", f"{base}/git-receive-pack", pkt("push-cert\0x", None) + "0000", push, 403,
                 "signed-push-refused"),
                ("POST", f"{base}/git-receive-pack", pkt(f"{zero} {'1' * 40} refs/heads/../x") + "0000",
                 push, 403, "bad-ref-name"),
                ("POST", f"{base}/git-receive-pack", pkt(f"{zero} {'1' * 40} -x") + "0000", push, 403,
                 "bad-ref-name"),
                ("POST", f"{base}/git-receive-pack", pkt(f"{zero} {zero} refs/heads/fix/a") + "0000", push, 400,
                 "bad-push-command"),
                ("POST", f"{base}/git-receive-pack",
                 pkt(line) + pkt(line.replace("fix/a", "fix/b"), "atomic") + "0000", push, 400,
                 "bad-push-command")):
            with self.subTest(path=path, reason=reason):
                r, text = g.http(method, path, body, headers)
                self.assertEqual(r.status, status, text)
                said = json.loads(text)
                self.assertEqual((said["blocked"], said["reason"]), (True, reason))
                self.assertEqual(set(said), {"blocked", "reason", "rule", "scanner", "hint", "record"})
                self.assertEqual(len(said["record"]), 16)
        r, text = g.http("GET", f"{base}/info/refs?service=x", None, {"User-Agent": "git/2.39.5"})
        self.assertEqual(r.getheader("Content-Type"), "text/plain; charset=utf-8")
        self.assertTrue(text.startswith(b"git-gate: refused: "), text)
        g.clone("still")

    def test_lone_flush(self):
        g = self.gate()
        r, text = g.http("POST", f"/{HOST}/org/origin/git-receive-pack", "0000",
                         {"Content-Type": "application/x-git-receive-pack-request"})
        self.assertEqual((r.status, text), (200, b""))

    def test_not_http(self):
        g = self.gate()
        for text in (b"\0" * 100, b"SSH-2.0-x\r\n", b"GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n",
                     b"0032git-upload-pack /project.git\0host=x\0"):
            with socket.create_connection(("127.0.0.1", g.port), timeout=WAIT) as s:
                s.sendall(text)
                s.shutdown(socket.SHUT_WR)
                answer = b""
                while piece := s.recv(65536):
                    answer += piece
            self.assertNotIn(b" 200 ", answer[:20])
        g.clone("still")

    def test_expect(self):
        g = self.gate()
        r, text = g.http("POST", f"/{HOST}/org/origin/git-upload-pack", "0000",
                         {"Content-Type": "application/x-git-upload-pack-request", "Expect": "100-continue"})
        self.assertEqual((r.status, json.loads(text)["reason"]), (417, "git-expect"))

    def test_redirect(self):
        g = self.gate()
        r, _ = g.http("GET", f"/{HOST}/org/origin2/info/refs?service=git-upload-pack")
        self.assertEqual(r.status, 302)
        self.assertEqual(r.getheader("Location"),
                         f"https://{HOST}/org/origin2/info/refs?service=git-upload-pack")
        for path in (f"/{HOST}/org/origin2/info/refs?service=git-receive-pack",
                     f"/{HOST}/org/other/info/refs?service=git-upload-pack",
                     f"/{HOST}/org/origin.git.git/info/refs?service=git-upload-pack",
                     f"/{HOST}/org/origin2/../x/info/refs?service=git-upload-pack",
                     f"/{HOST}/org/origin2%0d%0a/info/refs?service=git-upload-pack"):
            r, text = g.http("GET", path)
            self.assertEqual(r.status, 404, path)

    @contextlib.contextmanager
    def slow_push(self, g):
        """One that has a worker, and goes no further."""
        with socket.create_connection(("127.0.0.1", g.port), timeout=WAIT) as s:
            line = f"{'0' * 40} {'1' * 40} refs/heads/fix/a\0 report-status"
            s.sendall((f"POST /{HOST}/org/origin/git-receive-pack HTTP/1.1\r\nHost: x\r\n"
                       "Content-Type: application/x-git-receive-pack-request\r\n"
                       "Content-Length: 100000\r\n\r\n"
                       f"{len(line) + 4:04x}{line}0000").encode() + b"PACK\0\0\0\2\0\0\0\1")
            yield s

    def test_sixty_four_wait_and_no_more(self):
        g = self.gate(workers=1)
        path = f"/{HOST}/org/origin/info/refs?service=git-upload-pack"
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.slow_push(g))
            self.assertTrue(wait_for(g.git_children))
            waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", g.port), timeout=WAIT))
                       for _ in range(64)]
            for s in waiting:
                s.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            # A request is recorded before it waits.
            self.assertTrue(wait_for(lambda: len([r for r in g.records if r.startswith("record allow ok")]) == 65))
            r, text = g.http("GET", path)
            self.assertEqual((r.status, json.loads(text)["reason"]), (503, "git-busy"))
        # They are gone, and so is the push that they waited for.
        g.clone("still")

    def test_slow_push_is_cut_off_when_the_client_goes(self):
        g = self.gate()
        before = set(g.git_children())
        with self.slow_push(g):
            self.assertTrue(wait_for(lambda: set(g.git_children()) - before))
        self.assertTrue(wait_for(lambda: not g.git_children()), g.git_children())
        # What it left is removed by a fetch after the push's worker has ended, which is soon.
        for name in ("a", "b", "c"):
            g.clone(name)
            if not g.quarantines():
                break
            g.forget()
        self.assertEqual(g.quarantines(), [])


def git_children(self):
    return [p for p in self.processes() if p != self.process.pid]


Gate.git_children = git_children

if __name__ == "__main__":
    SERVE = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)

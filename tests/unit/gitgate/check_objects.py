#!/usr/bin/python3
"""check_push() on pushes that are made object by object: their form, what others would obey of them, and
the bounds of the looking. argv[1] is check_lines."""
import gzip
import hashlib
import io
import os
import struct
import sys
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_case import FILES, PROGRAM, Case, noise  # noqa: E402
from pushes import AWS, NONE, WHO, Checker, Repo, xz_file, zstd_frame  # noqa: E402


class Structure(Case):
    def test_names(self):
        for name in (b".git", b".GIT", b".g\xe2\x80\x8cit", b".git ", b".git...", b"git~1", b"GIT~1", b".git::$INDEX_ALLOCATION",
                     b".git\\hooks", b"a\\..\\b", b"\xef\xbb\xbf.git", b".Git. ."):
            found = self.push(self.with_file(b"1", path=b"d/" + name + b"/config"))
            self.assertIn("tree-entry", [f["kind"] for f in found], name)
            found = self.push(self.repo.commit({**FILES, name: b"1"}, [self.base]))
            self.assertIn("tree-entry", [f["kind"] for f in found], name)
        for name in (b"a\nb", b"a\x1b[2Jb", b"a\x7f", b"a\xc2\x9bb"):
            f = self.one(self.with_file(b"1", path=name), kind="tree-entry", rule="control-character")
            self.assertTrue(f["path"].isprintable())
        blob = self.repo.blob(b"1")
        for name in (b"..", b"."):
            found = self.push(self.repo.commit(self.repo.raw_tree([(b"100644", name, blob)]), [self.base]))
            self.assertIn(found[0]["kind"], ("tree-entry", "malformed"))
        for name in (b".gitignore", b".github", b"git", b"x.git", b"git~", b".gitx", b"..a", b"a..", b"caf\xc3\xa9", b"\xff\xfe"):
            self.clean(self.with_file(b"1", path=b"d/" + name))

    def test_deceptive_names_are_shown(self):
        f = self.one(self.with_file(b"key=" + AWS, path="d/\u202egnp.\u200bx".encode()))
        self.assertTrue(f["path"].isprintable())

    def test_malformed_trees(self):
        b = self.repo.blob(b"1")
        t = self.repo.tree({b"x": b"1"})
        for entries in ([(b"100644", b"b", b), (b"100644", b"a", b)], [(b"100644", b"a", b), (b"100644", b"a", b)],
                        [(b"100644", b"a", b), (b"100644", b"a.b", b), (b"40000", b"a", t)],
                        [(b"0100644", b"a", b)], [(b"100600", b"a", b)], [(b"100664", b"a", b)], [(b"40755", b"a", t)],
                        [(b"100644", b"", b)], [(b"100644", b"a/b", b)]):
            found = self.push(self.repo.commit(self.repo.raw_tree(entries), [self.base]))
            self.assertTrue({f["kind"] for f in found} & {"malformed", "tree-entry"}, entries)
        broken = self.repo.put("tree", b"100644 a\0short")
        self.assertEqual({f["kind"] for f in self.push(self.repo.commit(broken, [self.base]))}, {"malformed"})

    def test_other_objects_as_files(self):
        hidden = self.repo.raw_tree([(b"100644", AWS, self.repo.blob(b"1"))])
        for oid in (hidden, self.repo.commit(hidden), self.repo.tag(self.base, message=b"other\n")):
            for mode in (b"100644", b"100755", b"120000"):
                tree = self.repo.raw_tree([(mode, b"a", oid)])
                self.one(self.repo.commit(tree, [self.base]), kind="malformed", rule="type", path="a")
                self.one(("refs/tags/t", NONE, tree), kind="malformed", rule="type", path="a")
        self.clean(self.with_file((b"160000", self.repo.commit(FILES))))

    def test_malformed_commits(self):
        tree = self.repo.tree(FILES).encode()
        for text in (b"tree %s\nauthor %s\n\nx" % (tree, WHO), b"tree %s\nauthor A 1 +0\ncommitter %s\n\nx" % (tree, WHO),
                     b"tree %s\nauthor %s\ncommitter %s\nauthor %s\n\nx" % (tree, WHO, WHO, WHO),
                     b"tree %s\nauthor %s\ncommitter %s\nx\0y z\n\nx" % (tree, WHO, WHO),
                     b"tree %s\nauthor %s\ncommitter %s\nnovalue\n\nx" % (tree, WHO, WHO),
                     b"author %s\ncommitter %s\n\nx" % (WHO, WHO), b"", b"tree " + b"0" * 40):
            found = self.push(self.repo.put("commit", text))
            self.assertIn("malformed", [f["kind"] for f in found], text)
        head = b"object %s\ntype tree\ntag x\n" % tree
        for text in (b"object %s\ntype thing\ntag x\n\n" % tree, head + b"tagger A 1 +0000\n\n", head + b"tagger %s" % WHO,
                     head + b"tagger %s\ntagger %s\n\n" % (WHO, WHO), head + b"note x\ntagger %s\n\n" % WHO):
            found = self.push(("refs/tags/x", NONE, self.repo.put("tag", text)))
            self.assertEqual([f["kind"] for f in found], ["malformed"], text)

    def test_missing(self):
        self.assertEqual([f["kind"] for f in self.push("1" * 40)], ["malformed"])
        c = self.repo.commit({b"a": (b"100644", "1" * 40)}, [self.base])
        self.assertRefused(c)

    def test_broken_object(self):
        c = self.with_file(b"this one will be broken " * 9)
        oid = self.repo.blob(b"this one will be broken " * 9)
        path = f"{self.repo.folder}/objects/{oid[:2]}/{oid[2:]}"
        with open(path, "wb") as f:
            f.write(zlib.compress(b"blob 216\0" + b"this one will be broken " * 9)[:20])
        self.assertRefused(c)

    def test_sizes(self):
        c = self.with_file(b"word and other things\n" * 100)
        self.one(c, kind="oversize", what="blob", path="x/file", commit=c, options="object_max=1000")
        self.clean(c, options="object_max=1000;may_oversize")
        f = self.one(c, kind="oversize", options="object_max=1000")
        self.clean(c, options="object_max=1000;allow=" + f["fingerprint"])
        self.one(self.with_file(b"1", message=b"words and more\n" * 300000), kind="oversize", what="commit",
                 options="may_oversize")
        # one that is too large does not hide what comes after it
        c = self.repo.commit({**FILES, b"big": b"word and other things\n" * 100, b"z": AWS}, [self.base])
        self.assertEqual([f["kind"] for f in self.push(c, options="object_max=1000;may_oversize")], ["secret"])

    def test_identity(self):
        me = b"Jane Doe <jane@example.com> 1700000000 +0100"
        options = "identity=Jane Doe <jane@example.com>"
        self.clean(self.with_file(b"1", author=me, committer=me), options=options)
        for author, committer, what in ((WHO, me, "author"), (me, WHO, "committer"),
                                        (me.replace(b"Jane", b"jane"), me, "author"), (me.replace(b"jane@", b"Jane@"), me, "author"),
                                        (me.replace(b"Doe <", b"Doe  <"), me, "author"), (me.replace(b"Jane", b" Jane"), me, "author")):
            self.one(self.with_file(b"1", author=author, committer=committer), kind="identity", what=what, options=options)
        ref = "refs/tags/v1"
        self.clean((ref, NONE, self.repo.tag(self.base, tagger=me)), options=options)
        # also that of a tag which only another tag reaches; and nobody is not the user
        inner = self.repo.tag(self.base, name=b"inner")
        for tag in (self.repo.tag(self.base), self.repo.tag(self.base, tagger=None),
                    self.repo.tag(self.base, tagger=me.replace(b"Jane", b"jane")), self.repo.tag(inner, kind="tag", tagger=me)):
            self.one((ref, NONE, tag), kind="identity", what="tagger", commit="", options=options)
            self.clean((ref, NONE, tag))

    def test_depth(self):
        deep = self.with_file(b"1", path=b"d/" * 140 + b"f")
        self.assertEqual({f["rule"] for f in self.push(deep)}, {"limit-tree-depth"})
        self.clean(self.with_file(b"1", path=b"d/" * 100 + b"f"))

    def test_deadline(self):
        with self.assertRaisesRegex(RuntimeError, "too long"):
            self.push(self.with_file(b"some words\n" * 500000), options="deadline_ms=0")

    def test_asked_for_much(self):
        """More than a pipe holds is asked for, and git answers before it has read it all."""
        self.addCleanup(self.checker.end_after(60).cancel)
        paths = [b"/".join([b"some-words-" * 20] * 9) + b"/%02d" % i for i in range(64)]

        def files(more):
            return {p: b"file %d\n" % i + more + b"key = " + AWS + b"\n" + b"words and more words\n" * 3000
                    for i, p in enumerate(paths)}
        old = self.repo.commit({**FILES, **files(b"")}, [self.base])
        self.repo.ref("heads/much", old)
        self.clean(self.repo.commit({**FILES, **files(b"more\n")}, [old]))

    def test_git_that_speaks_for_ever(self):
        program = self.scratch.name + "/git"
        with open(program, "w") as f:
            f.write("#!/bin/sh\nexec >&-\nwhile :; do echo words >&2; done\n")
        os.chmod(program, 0o755)
        checker = Checker(PROGRAM)
        self.addCleanup(checker.close)
        self.addCleanup(checker.end_after(60).cancel)
        with self.assertRaisesRegex(RuntimeError, "too long"):
            checker.push(self.repo, self.base, options="deadline_ms=1500;git=" + program)


class Sensitive(Case):
    FLOW = b".github/workflows/ci.yml"

    def test_edits(self):
        c = self.with_file(b"on: push\n", path=self.FLOW)
        self.one(c, kind="sensitive", path=self.FLOW.decode(), commit=c)
        self.clean(c, options="workspace")
        # added, then taken away again
        undone = self.repo.commit(FILES, [c])
        self.assertEqual([f["commit"] for f in self.push(undone)], [c, undone])
        for path in (b"CODEOWNERS", b".gitlab-ci.yml", b".GitHub/Workflows/x.yml"):
            self.one(self.with_file(b"1", path=path), kind="sensitive")

    def test_merges(self):
        flow = {self.FLOW: b"v1\n"}
        old = self.repo.commit({**FILES, **flow}, [self.base])
        new = self.repo.commit({**FILES, self.FLOW: b"v2\n"}, [old])
        self.repo.ref("heads/flows", new)
        mine = self.repo.commit({**FILES, **flow, b"work": b"1"}, [old])
        self.clean(self.repo.commit({**FILES, self.FLOW: b"v2\n", b"work": b"1"}, [mine, new]))
        self.clean(self.repo.commit({**FILES, self.FLOW: b"v2\n", b"work": b"1"}, [new, mine]))
        # neither side's, and the old one brought back
        self.one(self.repo.commit({**FILES, self.FLOW: b"v3\n", b"work": b"1"}, [mine, new]), kind="sensitive")
        self.one(self.repo.commit({**FILES, **flow, b"work": b"1"}, [new, mine]), kind="sensitive")
        self.one(self.repo.commit({**FILES, **flow, b"work": b"1"}, [mine, new]), kind="sensitive")
        self.one(self.repo.commit({**FILES, b"work": b"1"}, [mine, new]), kind="sensitive")


class Submodules(Case):
    def check(self, text, path=b".gitmodules", **kw):
        return self.push(self.with_file(text, path=path), options="workspace", **kw)

    def test_good(self):
        for url in (b"https://example.com/a/b.git", b"git@example.com:a/b.git", b"ssh://git@example.com/a.git", b"../b.git",
                    b"../../other/b", b"git://example.com/x", b'"https://example.com/q"'):
            self.assertEqual(self.check(b'[submodule "lib/b"]\n\tpath = lib/b\n\turl = %s\n\tbranch = main\n' % url), [], url)

    def test_bad(self):
        for url in (b"ext::sh -c id", b"fd::3", b"file:///etc", b"-oProxyCommand=id", b"ssh://-oProxyCommand=id/x",
                    b"git@-oProxyCommand=id:x", b"/etc/passwd", b"../../../x", b"https://example.com/%0ahost=evil",
                    b'"https://a\\nb"', b"../-x", b"foo::bar", b"host:-x", b"ftp://x/y", b"", b"C:\\x", b"https://%00x/"):
            found = self.check(b'[submodule "b"]\n\tpath = b\n\turl = %s\n' % url)
            self.assertEqual({f["kind"] for f in found}, {"submodule"}, url)
            self.assertEqual(found[0]["line"], 3)
        for name, path, more in ((b"../x", b"a", b""), (b"a/../b", b"a", b""), (b"a", b"-x", b""), (b"a", b"../x", b""),
                                 (b"a", b"/x", b""), (b"a", b"a", b"\tupdate = !id\n")):
            found = self.check(b'[submodule "%s"]\n\tpath = %s\n\turl = https://x/y\n%s' % (name, path, more))
            self.assertEqual({f["kind"] for f in found}, {"submodule"}, (name, path, more))
        for text in (b"[submodule", b"url = x", b'[submodule "a"]\nurl = "x', b'[submodule "a"]\nurl = \\q', b"\0", b"<<<<<<<\n"):
            self.assertEqual([f["rule"] for f in self.check(text)], ["gitmodules-unreadable"], text)

    def test_where(self):
        bad = b'[submodule "b"]\n\turl = ext::x\n'
        for path in (b".GITMODULES", b"d/.gitmodules", b".gitmodules ", b"GITMOD~1", b".gitmodules::$DATA"):
            self.assertIn("submodule", {f["kind"] for f in self.check(bad, path=path)}, path)
        self.assertIn("gitmodules-symlink", {f["rule"] for f in self.check((b"120000", b"x"))})
        first = self.with_file(bad, path=b".gitmodules")
        self.assertIn("submodule", {f["kind"] for f in self.push(self.repo.commit(FILES, [first]))})

    def test_secret(self):
        found = self.check(b'[submodule "b"]\n\turl = "https://example.com/%s\\\n%s/x"\n' % (AWS[:9], AWS[9:]))
        self.assertIn(("secret", "submodule"), {(f["kind"], f["what"]) for f in found})


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def pack_of(first, deltas):
    """A pack of the blob `first` and so many deltas, each on the one before it; and their ids."""
    def entry(kind, body, extra=b""):
        head = bytes([kind << 4 | len(body) & 15 | (128 if len(body) > 15 else 0)])
        return head + (varint(len(body) >> 4) if len(body) > 15 else b"") + extra + zlib.compress(body)
    out, data, oids = [entry(3, first)], first, []
    for i in range(deltas):
        oids.append(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
        more = b"%d," % i
        delta = varint(len(data)) + varint(len(data) + len(more)) + b"\xb0" + struct.pack("<H", len(data)) + \
            bytes([len(more)]) + more
        out.append(entry(7, delta, bytes.fromhex(oids[-1])))
        data += more
    oids.append(hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest())
    pack = struct.pack(">4sII", b"PACK", 2, len(out)) + b"".join(out)
    return pack + hashlib.sha1(pack).digest(), oids


class Deltas(Case):
    def test_chain(self):
        for depth, want in ((250, []), (251, ["limit-delta-chain"])):
            repo = Repo(f"{self.scratch.name}/deltas{depth}.git")
            pack, oids = pack_of(b"this is where it begins %d\n" % depth, depth)
            repo.git("index-pack", "--stdin", stdin=pack)
            c = repo.commit({b"%d" % i: (b"100644", o) for i, o in enumerate(oids)})
            self.assertEqual([f["rule"] for f in self.checker.push(repo, c)], want)
            self.assertEqual(self.checker.last["objects"], depth + 3)


def fingerprint(rule, path, matched):
    parts = b"".join(hashlib.sha256(x).digest() for x in (rule, path, matched))
    return hashlib.sha256(parts).hexdigest()[:32]


class Caps(Case):
    """Each bound of check.h, check_int.h and archive.h, hit; what may be as much as the bound is, passes."""

    def rules(self, *updates, **kw):
        return {f["rule"] for f in self.push(*updates, **kw)}

    def test_objects(self):
        c = self.repo.commit({**FILES, b"n": b"one more\n"}, [self.base])
        for most, want in ((3, set()), (2, {"limit-objects"}), (0, {"limit-objects"})):
            self.assertEqual(self.rules(c, options=f"objects_max={most}"), want)
        # what was found before that is told, too
        c = self.repo.commit({**FILES, b"n": b"1"}, [self.base], message=b"use " + AWS)
        self.assertEqual(self.rules(c, options="objects_max=1"), {"limit-objects", "aws-access-key"})

    def test_findings(self):
        keys = [b"AK" + b"IA" + b"QZ7PWLM4XDT2%04d" % i for i in range(4200)]
        found = self.push(self.repo.commit({**FILES, **{b"f%03d" % i: b"key=" + keys[i] for i in range(100)}}, [self.base]))
        self.assertEqual((len(found), self.checker.last["more"]), (64, 36))

        def allow(files):
            return "allow=" + ";allow=".join(fingerprint(b"aws-access-key", p, k) for p, ks in files.items() for k in ks)
        # more than are kept, of one text and of all; everything that is kept is allowed: still refused
        for files in ({b"f": keys[:300]}, {b"f%02d" % i: keys[i * 200:(i + 1) * 200] for i in range(21)}):
            c = self.repo.commit({**FILES, **{p: b"\n".join(ks) + b"\n" for p, ks in files.items()}}, [self.base])
            self.one(c, kind="limit", rule="limit-findings", options=allow(files))
        files = {b"f%02d" % i: keys[i * 200:(i + 1) * 200] for i in range(20)}
        self.clean(self.repo.commit({**FILES, **{p: b"\n".join(ks) for p, ks in files.items()}}, [self.base]), options=allow(files))

    def test_large_objects(self):
        blob, words = self.repo.blob(b"1"), b"word-and-more-" * 280
        tree = self.repo.raw_tree([(b"100644", b"%05d-" % i + words, blob) for i in range(8600)])
        self.one(self.repo.commit(tree, [self.base]), kind="oversize", what="tree")
        tag = self.repo.tag(self.base, message=b"words and more\n" * 300000)
        self.one(("refs/tags/v1", NONE, tag), kind="oversize", what="tag", options="may_oversize")

    def test_paths(self):
        self.clean(self.with_file(b"1", path=b"/".join([b"some-words-" * 20] * 18)))
        self.one(self.with_file(b"1", path=b"/".join([b"some-words-" * 20] * 19)), kind="limit", rule="limit-path")

    def test_names_that_begin_alike(self):
        for n, want in ((64, []), (65, ["malformed"])):
            c = self.repo.commit({b"a" * i: b"1" for i in range(1, n + 1)}, [self.base])
            self.assertEqual([f["kind"] for f in self.push(c)], want)

    def test_submodules(self):
        for n, want in ((3276, set()), (3277, {"limit-submodules"})):
            links = {b"m%04d" % i: (b"160000", "12" * 20) for i in range(n)}
            self.assertEqual(self.rules(self.repo.commit({**FILES, **links}, [self.base])), want)

    def test_gitmodules(self):
        def module(i):
            return b'[submodule "m"]\n\tpath = m\n\turl = https://example.com/a/%d\n' % i
        for n, want in ((1024, set()), (1025, {"limit-gitmodules"})):
            files = {b"d%d/.gitmodules" % i: module(i) for i in range(n)}
            self.assertEqual(self.rules(self.repo.commit(files, [self.base]), options="workspace"), want)
        for text in (module(1) + b"# a comment\n" * 100000, module(1) + b"\tbranch = " + b"words " * 800 + b"\n"):
            self.assertEqual(self.rules(self.with_file(text, path=b".gitmodules"), options="workspace"), {"gitmodules-unreadable"})

    def test_sensitive_of_a_commit(self):
        c = self.repo.commit({**FILES, **{b".github/workflows/%d.yml" % i: b"1" for i in range(1025)}}, [self.base])
        self.assertEqual(self.rules(c), {"limit-sensitive", "sensitive"})

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "a thousand forks take minutes under AddressSanitizer")
    def test_merges(self):
        """Past those that are looked into, a path that a merge took from one side is not taken on trust."""
        def flows(n, version):
            return {b".github/workflows/%d.yml" % i: b"v%d" % (version if i < n else 1) for i in range(257)}
        old = self.repo.commit({**FILES, **flows(0, 1)}, [self.base])
        for n, want in ((256, 0), (257, 1)):
            new = self.repo.commit({**FILES, **flows(n, 2)}, [old])
            self.repo.ref("heads/merged", new)
            mine = self.repo.commit({**FILES, **flows(0, 1), b"work": b"1"}, [old])
            found = self.push(self.repo.commit({**FILES, **flows(n, 2), b"work": b"1"}, [mine, new]))
            self.assertEqual([f["rule"] for f in found], ["sensitive"] * want)

    def upstream(self, n, files):
        """So many commits of the upstream, each with the files that `files` says of its number."""
        out = []
        for i in range(n):
            when = b"A U Thor <author@example.com> %d +0000" % (1700000000 + i)
            out.append(self.repo.commit({**FILES, b"n": b"%d" % i, **files(i)}, author=when, committer=when))
            self.repo.ref(f"heads/up/{i}", out[-1])
        return out

    def test_what_the_upstream_has(self):
        def more(files):
            return {path: b"more\n" + text for path, text in files.items()}
        # of 65 commits that the push stands on, one is not asked for what it has
        key = {b"k": b"key = " + AWS}
        for n, want in ((64, [0, 0]), (65, [0, 1])):
            found = []
            for who in (0, n - 1):
                parents = self.upstream(n, lambda i, who=who: key if i == who else {})
                found.append(len(self.push(self.repo.commit({**FILES, **more(key)}, parents))))
            self.assertEqual(sorted(found), want)
        # of 33 files in 64 commits, those of one commit's worth
        keys = {b"k%02d" % i: b"key = AK" + b"IA" + b"QZ7PWLM4XDT2B0%02d" % i for i in range(33)}
        parents = self.upstream(64, lambda i: keys)
        self.clean(self.repo.commit({**FILES, **more(dict(list(keys.items())[:32]))}, parents))
        self.one(self.repo.commit({**FILES, **more(keys)}, parents), rule="aws-access-key")

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "a GiB takes minutes under AddressSanitizer")
    def test_archive_size(self):
        """Noise in front, so that it is not the ratio that ends it."""
        air = gzip.compress(bytes(64 << 20), 9)
        c = self.with_file(gzip.compress(noise(5 << 20), 1) + 16 * air)
        self.one(c, kind="limit", rule="limit-archive-size")

    def test_archive_windows(self):
        """What a decompressor is to keep, also three deep."""
        for pack, most in ((zstd_frame, 0x88), (xz_file, 28)):
            name = "zstd" if pack is zstd_frame else "xz"
            data = b"key = " + AWS + b"\n" + b"words " * 99
            for chain in (name, f"{name}>{name}", f"{name}>{name}>{name}"):
                data = pack(data, most)
                self.one(self.with_file(data), rule="aws-access-key", decoders=chain)
            self.one(self.with_file(pack(b"words " * 99, most + 1)), kind="limit", rule="unreadable-archive")

    @unittest.skipIf("ASAN_OPTIONS" in os.environ, "AddressSanitizer has an address space of its own")
    def test_no_memory(self):
        """A decompressor that does not get its memory has not shown what is packed."""
        checker = Checker(PROGRAM, memory=64 << 20)
        self.addCleanup(checker.close)
        text = b"harmless words\n" * 9
        self.assertEqual(checker.push(self.repo, self.with_file(gzip.compress(text))), [])
        for data in (zstd_frame(text, 0x88), xz_file(text, 28), gzip.compress(zstd_frame(text, 0x88))):
            with self.assertRaisesRegex(RuntimeError, "no memory"):
                checker.push(self.repo, self.with_file(data))

    def test_archive_names(self):
        head = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 0, 0, 0, 0, 1, 1, 65535, 65535)
        self.one(self.with_file(head + b"n" * 65535 + bytes(65535) + b"1"), kind="limit", rule="unreadable-archive")
        for n, want in ((4000, []), (4200, ["unreadable-archive"])):
            out = io.BytesIO()
            with gzip.GzipFile(filename="word-" * (n // 5), mode="wb", fileobj=out) as g:
                g.write(b"x")
            self.assertEqual([f["rule"] for f in self.push(self.with_file(out.getvalue()))], want)


if __name__ == "__main__":
    unittest.main(verbosity=2)  # which gives the reasons of skips

#!/usr/bin/python3
"""check_push() on pushes that are made object by object: argv[1] is check_lines."""
import base64
import bz2
import gzip
import hashlib
import io
import lzma
import os
import random
import struct
import sys
import tarfile
import tempfile
import unittest
import zipfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from pushes import (AWS, CANARY, NONE, PLACEHOLDER, SECRET, TOKEN, WHO, Checker, Repo, xz_file,  # noqa: E402
                    zstd_frame)

PROGRAM = sys.argv.pop(1)
FILES = {b"a.txt": b"hello\n", b"d/b.c": b"int main(void)\n{\n\treturn 0;\n}\n"}
ASSIGNED = b'  password = "Xk29sLq8vTz1pR"\n'


def tar_of(name, data, **kw):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", **kw) as t:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zip_of(entries, method=zipfile.ZIP_DEFLATED, stream=False):
    out = io.BytesIO()

    class Unseekable(io.RawIOBase):
        def writable(self):
            return True

        def write(self, b):
            return out.write(b)
    with zipfile.ZipFile(Unseekable() if stream else out, "w", method) as z:
        for name, data in entries:
            z.writestr(name, data)
    return out.getvalue()


def pem(seed, width=64):
    """A private key, as good as."""
    body = base64.b64encode(noise(900, seed))
    return b"-----BEGIN " + b"RSA PRIVATE KEY-----\n" + b"".join(body[i:i + width] + b"\n" for i in range(0, len(body), width)) + \
        b"-----END " + b"RSA PRIVATE KEY-----\n"


def noise(n, seed=1):
    return random.Random(seed).randbytes(n)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="cb-check-")
        cls.checker = Checker(PROGRAM)
        cls.repo = Repo(cls.scratch.name + "/r.git")
        cls.base = cls.repo.commit(FILES)
        cls.repo.ref("heads/main", cls.base)

    @classmethod
    def tearDownClass(cls):
        status = cls.checker.close()
        cls.scratch.cleanup()
        assert status == 0

    def push(self, *updates, **kw):
        return self.checker.push(self.repo, *updates, **kw)

    def one(self, *updates, kind="secret", rule=None, what=None, path=None, line=None, commit=None,
            decoders=None, **kw):
        """Exactly one finding, and what it says."""
        found = self.push(*updates, **kw)
        self.assertEqual([f["kind"] for f in found], [kind], found)
        f = found[0]
        for name, want in (("rule", rule), ("what", what), ("path", path), ("line", line),
                           ("commit", commit), ("decoders", decoders)):
            if want is not None:
                self.assertEqual(f[name], want, f)
        return f

    def clean(self, *updates, **kw):
        self.assertEqual(self.push(*updates, **kw), [])

    def assertRefused(self, *updates):
        try:
            self.assertTrue(self.push(*updates))
        except RuntimeError as e:
            self.assertIn("git", str(e))

    def with_file(self, data, path=b"x/file", parents=None, **kw):
        return self.repo.commit({**FILES, path: data}, [self.base] if parents is None else parents, **kw)


class WhereItStands(Case):
    def test_nothing(self):
        self.clean(self.with_file(b"nothing\n"))
        self.clean(("refs/heads/gone", self.base, NONE))
        self.clean(self.base)

    def test_blob(self):
        c = self.with_file(b"one\ntwo\nkey = " + AWS + b"\n")
        self.one(c, rule="aws-access-key", what="blob", path="x/file", line=3, commit=c)

    def test_own_secret_canary_placeholder(self):
        for value, rule in ((SECRET, "bottle-secret"), (CANARY, "canary"), (PLACEHOLDER, "placeholder")):
            self.one(self.with_file(b"\n\nx: " + value + b"\n"), rule=rule, line=3)
            self.one(self.with_file(base64.b64encode(b"x: " + value)), rule=rule, decoders="base64")
        spaced = b"\n".join(SECRET[i:i + 4] for i in range(0, len(SECRET), 4))
        self.one(self.with_file(spaced), rule="bottle-secret")

    def test_deleted_by_a_later_commit(self):
        first = self.with_file(b"key = " + AWS)
        second = self.with_file(b"key = none", parents=[first])
        third = self.repo.commit(FILES, [second])
        self.one(third, commit=first, path="x/file")

    def test_first_commit_is_named(self):
        first = self.with_file(b"key = " + AWS)
        last = first
        for i in range(5):
            last = self.repo.commit({**FILES, b"x/file": b"key = " + AWS, b"n": b"%d" % i}, [last])
        self.one(last, commit=first)

    def test_merge_and_root(self):
        side = self.with_file(b"side", path=b"s")
        merge = self.repo.commit({**FILES, b"s": b"side", b"evil": b"key " + AWS}, [self.base, side])
        self.one(merge, commit=merge, path="evil")
        root = self.repo.commit({b"q": AWS})
        self.one(root, commit=root, path="q")

    def test_message_and_headers(self):
        self.one(self.with_file(b"1", message=b"Subject\n\nuse " + AWS + b"\n"), what="commit message", line=3)
        self.one(self.with_file(b"1", author=b"%s <a@example.com> 1700000000 +0000" % AWS), what="author")
        self.one(self.with_file(b"1", committer=b"A <%s@example.com> 1700000000 +0000" % AWS), what="committer")
        self.one(self.with_file(b"1", author=b"A <a@b> 1700000000 " + AWS), what="author")
        self.one(self.with_file(b"1", headers=b"encoding " + AWS + b"\n"), what="commit header")
        self.one(self.with_file(b"1", headers=b"x-note " + AWS + b"\n"), what="commit header")
        self.one(self.with_file(b"1", headers=b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n " + AWS +
                                b"\n -----END PGP SIGNATURE-----\n"), what="commit header")
        self.one(self.with_file(b"1", headers=b"mergetag object %s\n type commit\n tag x\n tagger A <a@b> 1 +0000\n"
                                b" \n %s\n" % (self.base.encode(), AWS)), what="commit header")
        # folded: the value goes on in the next line
        self.one(self.with_file(b"1", headers=b"x-note " + AWS[:9] + b"\n " + AWS[9:] + b"\n"), what="commit header")
        self.one(self.with_file(b"1", message=b"A " + AWS[:9] + b"\n" + AWS[9:] + b"\n"), what="commit message")
        self.one(self.with_file(b"1", message="A {}\n".format(AWS.decode()).encode("utf-16")))
        self.one(self.with_file(b"1", message=b"A\n\0\0" + AWS))
        self.one(self.with_file(b"1", message=base64.b64encode(b"the key is " + AWS)), decoders="base64")

    def test_look_alike_goes_first(self):
        """What was scanned once in a push is not scanned again. These two differ in the top bits of three
        bytes, which a multiplication hands on as they are, and then cancels."""
        who = bytearray(AWS + b" is my name <a@example.com>")
        like = bytearray(who)
        for at in (15, 19, 23):
            like[at] ^= 0x80
        secret = self.with_file(b"1", author=bytes(who) + b" 1700000000 +0000")
        decoy = self.with_file(b"2", parents=[secret], author=bytes(like) + b" 1700000000 +0000")
        self.one(decoy, what="author", commit=secret)

    def test_tags(self):
        ref = "refs/tags/v1"
        self.one((ref, NONE, self.repo.tag(self.base, message=b"see " + AWS)), what="tag")
        self.one((ref, NONE, self.repo.tag(self.base, name=AWS)), what="tag")
        self.one((ref, NONE, self.repo.tag(self.base, tagger=AWS + b" <a@b> 1 +0000")), what="tag")
        self.one((ref, NONE, self.repo.tag(self.base, headers=b"note " + AWS + b"\n")), what="tag")
        inner = self.repo.tag(self.base, message=b"see " + AWS)
        self.one((ref, NONE, self.repo.tag(self.repo.tag(inner, kind="tag"), kind="tag")), what="tag")
        blob = self.repo.blob(b"key=" + AWS)
        self.one((ref, NONE, blob), what="blob", commit="")
        self.one((ref, NONE, self.repo.tag(blob, kind="blob")), what="blob")
        tree = self.repo.tree({b"d/f": b"key=" + AWS})
        self.one((ref, NONE, tree), what="blob", path="d/f")
        self.one((ref, NONE, self.repo.tag(self.repo.tag(tree, kind="tree"), kind="tag")), path="d/f")
        tree = self.repo.tree({b"d/%s/f" % AWS: b"1"})
        found = self.push((ref, NONE, self.repo.tag(tree, kind="tree")))
        self.assertTrue(found and all(f["what"] == "path" for f in found))
        self.clean((ref, NONE, self.repo.tag(self.base)))

    def test_paths(self):
        f = self.one(self.with_file(b"1", path=AWS), what="path", path="***")
        self.assertNotIn(AWS.decode(), str(f))
        self.one(self.with_file(b"1", path=b"d/" + AWS + b".txt"), what="path", path="d/***")
        self.one(self.with_file(b"1", path=AWS[:9] + b"/" + AWS[9:]), what="path", path="***")
        self.one(self.with_file(b"1", path=b"password=Xk29sLq8vTz1pR"), what="path")
        # a known blob and tree at a new place
        self.one(self.repo.commit({**FILES, b"x/" + AWS: FILES[b"a.txt"]}, [self.base]), what="path")
        sub = self.repo.tree({AWS[9:]: b"1"})
        self.repo.ref("heads/known", self.repo.commit({**FILES, b"q": sub}, [self.base]))
        self.one(self.repo.commit({**FILES, AWS[:9]: sub}, [self.base]), what="path")
        # an empty folder
        empty = self.repo.raw_tree([])
        found = self.push(self.repo.commit({**FILES, AWS[:9]: self.repo.raw_tree([(b"40000", AWS[9:], empty)])},
                                           [self.base]))
        self.assertEqual({f["what"] for f in found}, {"path"})

    def test_masked_elsewhere(self):
        found = self.push(self.with_file(b"key=" + TOKEN, path=b"d/" + AWS + b"/f"))
        self.assertEqual({f["what"] for f in found}, {"path", "blob"})
        for f in found:
            self.assertNotIn(AWS.decode(), f["path"])

    def test_refs(self):
        self.one(("refs/heads/" + AWS.decode(), NONE, self.base), what="ref name")
        self.one(("refs/tags/" + AWS.decode(), NONE, self.base), what="ref name")
        self.one(("refs/heads/%s/%s" % (AWS[:9].decode(), AWS[9:].decode()), NONE, self.base), what="ref name")
        self.one(("refs/heads/" + SECRET.decode(), self.base, NONE), what="ref name")

    def test_refs_are_shown_masked(self):
        for name, shown in (("heads/x/" + AWS.decode(), "refs/heads/x/***"), ("tags/v-%s/1" % AWS.decode(), "refs/tags/***/1"),
                            ("heads/" + SECRET.decode(), "refs/heads/***"),
                            ("heads/%s/%s" % (AWS[:9].decode(), AWS[9:].decode()), "***"),
                            ("heads/fix/JIRA-123_a.b", "refs/heads/fix/JIRA-123_a.b"), ("heads/ab\x1b[31m", "refs/heads/ab\\x1b[31m")):
            self.push(("refs/" + name, NONE, self.base))
            self.assertEqual(self.checker.last["ref"], shown)

    def test_links(self):
        self.one(self.with_file((b"120000", b"../" + AWS)), what="blob")
        self.one(self.with_file((b"120000", b"../" + AWS[:9] + b"/" + AWS[9:])), what="symlink target")
        self.one(self.with_file((b"160000", AWS.hex())), what="submodule commit")
        self.clean(self.with_file((b"160000", "12" * 20)))

    def test_lfs_pointer(self):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n" % (b"4d7a" * 16)
        self.clean(self.with_file(pointer))
        self.one(self.with_file(pointer + b"ext-0-" + AWS + b" x\n"), line=4)

    def test_suppressions_do_nothing(self):
        line = b"key=" + AWS
        for more in ({b".gitleaksignore": b"x/file:aws-access-token:1\n"}, {b".gitattributes": b"* binary export-ignore\n"},
                     {b".gitattributes": b"* working-tree-encoding=UTF-16 filter=lfs -text\n"},
                     {b".gitignore": b"*\n"}, {b".pipelockignore": b"*\n"}, {b".secretsignore": b"**\n"}):
            self.one(self.repo.commit({**FILES, **more, b"x/file": line}, [self.base]), path="x/file")
        for more in (b" # gitleaks:allow", b" // pipelock:ignore", b" # pragma: allowlist secret", b" # nosec",
                     b" # noqa", b" trufflehog:ignore"):
            self.one(self.with_file(line + more), path="x/file")

    def test_packed_with_deltas(self):
        text = b"".join(b"line %d %d\n" % (i, i * i) for i in range(4000))
        last, first = self.base, None
        for i in range(12):
            body = text + b"end %d\n" % i
            if i == 7:
                body = text + AWS + b"\n"
            last = self.with_file(body, parents=[last])
            first = last if i == 7 else first
        other = Repo(self.scratch.name + "/packed.git")
        other.git("unpack-objects", "-q", stdin=self.repo.git("pack-objects", "-q", "--stdout", "--revs",
                                                              stdin=last.encode() + b"\n"))
        other.ref("heads/main", self.base)
        other.ref("heads/x", last)
        other.git("repack", "-adfq", "--depth=50")
        os.unlink(other.folder + "/refs/heads/x") if os.path.exists(other.folder + "/refs/heads/x") else None
        other.git("update-ref", "-d", "refs/heads/x")
        found = self.checker.push(other, last)
        self.assertEqual([(f["rule"], f["commit"], f["line"]) for f in found], [("aws-access-key", first, 4001)])


class Encodings(Case):
    TEXT = "".join("line %d of text\n" % i for i in range(300))

    def test_wide(self):
        for codec in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
            for what in (b'key="' + AWS + b'"\n', ASSIGNED):
                text = self.TEXT + what.decode() + self.TEXT
                self.one(self.with_file(text.encode(codec)), line=301, decoders="utf16")

    def test_wide_among_other_bytes(self):
        for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            for before in ("x\0", "\0", "xy\0\0", "\xe9\0x\0"):
                self.one(self.with_file((before + AWS.decode() + "\0\xe9x").encode(codec)), decoders="utf16")

    def test_wide_glued_to_other_bytes(self):
        for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            for before, after in ((b"x", b""), (b"line\n", b"line\n"), (b"\xff", b"\xff"), (b"\r\n", b"\0x")):
                self.one(self.with_file(before + AWS.decode().encode(codec) + after), decoders="utf16")

        self.one(self.with_file(b"\0".join(bytes([b]) for b in AWS)), decoders="utf16")

    def test_wrapped_base64_behind_junk(self):
        for k in range(4):
            for n in range(95, 108):
                found = self.push(self.with_file(b"x" * k + base64.encodebytes(b"#" * n + b" " + AWS)))
                self.assertEqual({f["rule"] for f in found}, {"aws-access-key"}, (k, n))

    def test_forms(self):
        inner = b'{"key":"' + AWS + b'"}'
        for data in (base64.b64encode(inner), inner.hex().encode(), base64.b32encode(inner), base64.encodebytes(b"#" * 200 + inner),
                     b"".join(b"%%%02x" % b for b in inner), b"".join(b"\\u00%02x" % b for b in inner),
                     b"".join(b"&#%d;" % b for b in inner), base64.b64encode(gzip.compress(inner)),
                     base64.b64encode(base64.b64encode(inner))):
            f = self.one(self.with_file(b"data: " + data + b"\n"), rule="aws-access-key")
            self.assertTrue(f["decoders"])

    def test_after_much_text(self):
        body = b"".join(b"%d some text that is there\n" % i for i in range(60000))
        self.assertGreater(len(body), 1 << 20)
        self.one(self.with_file(body + b"key = " + AWS), line=60001)
        self.one(self.with_file(body.replace(b"\n", b"\r\n") + AWS + b"\r\n" + body), line=60001)
        self.one(self.with_file(body + ASSIGNED + body), line=60001)
        self.one(self.with_file(noise(3 << 20).replace(b"\n", b"") + b"\n" + AWS + b"\n"), line=2)


class Archives(Case):
    def test_compressed(self):
        inner = b"text\n" * 10 + b"key = " + AWS + b"\n"
        for data, chain in ((gzip.compress(inner), "gzip"), (zlib.compress(inner), "zlib"), (bz2.compress(inner), "bzip2"),
                            (lzma.compress(inner), "xz"), (tar_of("f", inner), "tar"),
                            (zip_of([("f", inner)]), "zip"), (zip_of([("f", inner)], stream=True), "zip"),
                            (zip_of([("f", inner)], zipfile.ZIP_BZIP2), "zip"),
                            (gzip.compress(tar_of("f", inner)), "gzip>tar"),
                            (zip_of([("a", b"1"), ("g", gzip.compress(inner)), ("z", b"2")]), "zip>gzip"),
                            (zip_of([("in.zip", zip_of([("f", inner)]))]), "zip>zip"),
                            (lzma.compress(tar_of("f.zip", zip_of([("f", inner)]))), "xz>tar>zip")):
            self.one(self.with_file(data), what="archive entry", decoders=chain, path="x/file", line=0)

    def test_stored(self):
        inner = b"key = " + AWS
        self.one(self.with_file(zip_of([("f", inner)], zipfile.ZIP_STORED)), decoders="zip")
        # its size is in the directory alone
        self.assertUnreadable(zip_of([("f", inner)], zipfile.ZIP_STORED, stream=True))
        self.clean(self.with_file(zip_of([("f", b"text")], zipfile.ZIP_STORED, stream=True)))

    def assertUnreadable(self, data):
        found = self.push(self.with_file(data))
        self.assertIn("unreadable-archive", [f["rule"] for f in found])
        return {f["rule"] for f in found}

    def test_local_header_lies(self):
        """Programs believe the directory at the end."""
        inner = b"text\n" * 10 + b"key = " + AWS + b"\n"
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = {8: packer.compress(inner) + packer.flush(), 12: bz2.compress(inner)}
        for method, name in ((8, b"f"), (12, b"f"), (12, b"f/")):
            body = packed[method]
            for local, size, flags in ((method, 3, 0), (method, 0, 0), (method, len(body) + 40, 0), (20 - method, len(body), 0),
                                       (0, 3, 0), (0, 0, 8), (20 - method, 0, 8), (14, len(body), 0)):
                common = struct.pack("<IIIHH", zlib.crc32(inner), size, len(inner), len(name), 0)
                head = struct.pack("<4sHHHHH", b"PK\3\4", 20, flags, local, 0, 33) + common + name
                entry = struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20, 20, 0, method, 0, 33, zlib.crc32(inner), len(body),
                                    len(inner), len(name), 0, 0, 0, 0, 0, 0) + name
                whole = head + body + entry + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(head + body), 0)
                self.assertEqual(zipfile.ZipFile(io.BytesIO(whole)).read(name.decode()), inner)
                self.assertUnreadable(whole)

    def test_formats_beside(self):
        """What the usual programs open, and our decompressors do not, or not unasked."""
        inner = b"text\n" * 10 + b"key = " + AWS + b"\n"
        self.one(self.with_file(lzma.compress(inner, format=lzma.FORMAT_ALONE)), decoders="lzma")
        bad_check = bytearray(lzma.compress(b"text\n" * 9))
        bad_check[-12 - 12 - 1] ^= 1 # the check stands before an index of 8 or 12 bytes and the footer
        self.one(self.with_file(bytes(bad_check) + lzma.compress(inner)), decoders="xz")
        plain = gzip.compress(inner)
        reserved, header_check = plain[:3] + b"\x20" + plain[4:], plain[:3] + b"\2" + plain[4:10] + b"xx" + plain[10:]
        for data in (reserved, header_check):
            self.assertEqual(gzip.decompress(data), inner)
        dictionary = b"\x28\xb5\x2f\xfd\x21\7\4" + struct.pack("<I", 1 | 4 << 3)[:3] + b"text"
        sized = io.BytesIO()
        with tarfile.open(fileobj=sized, mode="w", format=tarfile.PAX_FORMAT) as t:
            info = tarfile.TarInfo("f")
            info.pax_headers = {"size": "1024"}
            t.addfile(info)
        for data in (reserved, header_check, dictionary, b"\x02\x21\x4c\x18" + plain, b"\x27\xb5\x2f\xfd" + plain, sized.getvalue()):
            self.assertUnreadable(data)

    def test_large(self):
        many = [("f%d" % i, noise(200000, i)) for i in range(20)]
        self.one(self.with_file(zip_of(many + [("last", b"key " + AWS)])), decoders="zip")
        self.one(self.with_file(gzip.compress(b"".join(d for _, d in many) + AWS)), decoders="gzip")
        self.clean(self.with_file(zip_of(many)))
        self.clean(self.with_file(gzip.compress(noise(5 << 20))))

    def test_names(self):
        # beside what follows the name in its header and in the directory at the end
        found = self.push(self.with_file(zip_of([("d/" + AWS.decode(), b"1")])))
        self.assertEqual({f["rule"] for f in found}, {"aws-access-key"})
        self.assertIn("archive entry's name", {f["what"] for f in found})
        self.one(self.with_file(zip_of([(AWS[:9].decode() + "/" + AWS[9:].decode(), b"1")])), what="archive entry's name")
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            self.one(self.with_file(tar_of(AWS[:9].decode() + "/" + AWS[9:].decode(), b"1", format=form)),
                     what="archive entry's name")
            self.one(self.with_file(tar_of("p/" * 70 + AWS[:9].decode() + "/" + AWS[9:].decode(), b"1", format=form)),
                     what="archive entry's name")
        out = io.BytesIO()
        with gzip.GzipFile(filename=AWS.decode(), mode="wb", fileobj=out) as g:
            g.write(b"x")
        self.one(self.with_file(out.getvalue()), what="archive entry's name")

    def test_hidden_beside(self):
        inner = b"key = " + AWS
        good = zip_of([("a", b"text " * 50)])
        gz = gzip.compress(b"text " * 50)
        for data in (good + inner, inner + b"\n" + good, gz + inner, gz + gzip.compress(inner), gz[:-8] + inner,
                     gzip.compress(b"key " + AWS[:9]) + gzip.compress(AWS[9:]),
                     tar_of("f", b"1") + inner, tar_of("f", b"1")[:513] + inner + tar_of("f", b"1")[513 + len(inner):],
                     good[:-22] + good[-22:-2] + struct.pack("<H", len(inner)) + inner,
                     b"\x50\x2a\x4d\x18" + struct.pack("<I", len(inner)) + inner):
            self.one(self.with_file(data), rule="aws-access-key")
        # an entry whose data ends before its size says so
        packed = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = packed.compress(b"text " * 9) + packed.flush() + inner
        data = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(body), 45, 1, 0) + b"f" + body
        self.assertIn("aws-access-key", self.assertUnreadable(data))

    def test_zip64(self):
        inner = b"key = " + AWS
        extra = struct.pack("<HHQQ", 1, 16, len(inner), len(inner))
        data = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", 45, 0, 0, 0, 0, 0, 0xffffffff, 0xffffffff, 1, len(extra)) + \
            b"f" + extra + inner
        self.one(self.with_file(data), decoders="zip")

    def test_limits(self):
        data = b"deep"
        for _ in range(5):
            data = gzip.compress(data)
        self.one(self.with_file(data), kind="limit", rule="limit-archive-depth")
        c = self.with_file(gzip.compress(bytes(64 << 20), 9))
        f = self.one(c, kind="limit", rule="limit-archive-ratio")
        self.clean(c, options="allow=" + f["fingerprint"])
        locked = bytearray(zip_of([("f", b"text")]))
        locked[6] |= 1
        self.one(self.with_file(bytes(locked)), kind="limit", rule="unreadable-archive")
        self.one(self.with_file(b"7z\xbc\xaf\x27\x1c" + noise(4000)), kind="limit", rule="unreadable-archive")
        self.one(self.with_file(b"Rar!\x1a\x07\1\0" + noise(4000)), kind="limit", rule="unreadable-archive")

    def test_ordinary_binaries(self):
        png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 4000, b"IDAT") + zlib.compress(noise(3000))
        self.clean(self.with_file(png))
        self.clean(self.with_file(noise(200000)))
        self.clean(self.with_file(b"x^2 + y^2 = z^2, and other texts that begin like zlib\n"))
        self.clean(self.with_file(b"BZh is how bzip2 files begin\n" * 40))
        self.clean(self.with_file(b"PK\3\4 is how zip files begin\n" * 40))


class Allowed(Case):
    def test_allow(self):
        c = self.with_file(b"key = " + AWS + b"\n")
        f = self.one(c)
        self.assertRegex(f["fingerprint"], "^[0-9a-f]{32}$")
        self.clean(c, options="allow=" + f["fingerprint"])
        self.one(c, options="allow=" + "0" * 32)
        # stable when lines are added above, or below; another path or value is another finding
        for more in (b"one\n\n\ntwo\nkey = " + AWS + b"\n", b"key = " + AWS + b"\nmore\n" * 9):
            self.clean(self.with_file(more), options="allow=" + f["fingerprint"])
        self.one(self.with_file(b"key = " + AWS, path=b"other"), options="allow=" + f["fingerprint"])
        self.one(self.with_file(b"key = " + AWS[:-1] + b"A"), options="allow=" + f["fingerprint"])
        g = self.one(self.with_file(ASSIGNED))
        for k in (1, 30, 3000):
            self.clean(self.with_file(b"other words\n" * k + ASSIGNED + b"more\n"), options="allow=" + g["fingerprint"])

    def test_one_path_of_two(self):
        c = self.repo.commit({**FILES, b"a/" + AWS: b"1", b"b/" + AWS: b"1"}, [self.base])
        found = self.push(c)
        self.assertEqual([f["path"] for f in found], ["a/***", "b/***"])
        for f in found:
            self.one(c, options="allow=" + f["fingerprint"])

    def test_never_the_own(self):
        for value in (SECRET, CANARY, PLACEHOLDER):
            c = self.with_file(b"x " + value)
            self.assertEqual(self.one(c)["fingerprint"], "")

    def test_upstream_has_it(self):
        old = self.repo.commit({**FILES, b"test/keys.txt": b"a\nkey = " + AWS + b"\n" + TOKEN, b"own": SECRET}, [self.base])
        self.repo.ref("heads/has-it", old)
        files = {**FILES, b"own": SECRET}
        keep = b"new line\na\nkey = " + AWS + b"\n"
        self.clean(self.repo.commit({**files, b"test/keys.txt": keep}, [old]))
        # through several commits of the push
        c = self.repo.commit({**files, b"test/keys.txt": b"1\n" + keep}, [old])
        self.clean(self.repo.commit({**files, b"test/keys.txt": b"2\n" + keep}, [c]))
        # another path, another value, the own secret
        self.one(self.repo.commit({**files, b"test/other.txt": keep}, [old]), path="test/other.txt")
        self.one(self.repo.commit({**files, b"test/keys.txt": keep.replace(AWS, AWS[:-1] + b"B")}, [old]))
        self.one(self.repo.commit({**files, b"own": b"x\n" + SECRET}, [old]), rule="bottle-secret")
        # a branch that does not stand on it
        self.one(self.repo.commit({**FILES, b"test/keys.txt": keep}, [self.base]), path="test/keys.txt")

    def test_another_that_begins_or_ends_alike(self):
        """A rule may match a part of a secret that others have as well: they are known by the rest."""
        def pem(seed, kind="RSA "):
            body = base64.b64encode(noise(900, seed)).decode()
            lines = "\n".join(body[i:i + 64] for i in range(0, len(body), 64))
            return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----\n".encode()

        def b64(seed, n=240):
            return base64.b64encode(noise(n, seed)).rstrip(b"=")

        def lines(data):
            return base64.encodebytes(b"key = AK" + b"IAQZ7PWLM4XDT2" + data + b"\n" + b"words and more words\n" * 9)
        for name, old, new in (
                ("pem", pem(1), pem(2)), ("pgp", pem(1, "PGP "), pem(2, "PGP ")),
                ("string", b'k = "' + pem(1).replace(b"\n", b"\\n") + b'"\n', b'k = "' + pem(2).replace(b"\n", b"\\n") + b'"\n'),
                ("body", pem(1)[32:-30].replace(b64(1)[:60], b"b3BlbnNzaC1r" + b"ZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt"),
                 b"b3BlbnNzaC1r" + b"ZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gt\n" + b64(2, 45)),
                ("jwt", b"t: ey" + b"JhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczov" + b64(1) + b"\n", b"t: ey" + b"JhbGciOiJIUzI1NiJ9.eyJpc3MiOiJodHRwczov" + b64(2) + b"\n"),
                ("putty", b"PuTTY-User-Key" + b"-File-2: ssh-rsa\nPrivate-Lines: 8\n" + b64(1) + b"\n",
                 b"PuTTY-User-Key" + b"-File-2: ssh-rsa\nPrivate-Lines: 8\n" + b64(2) + b"\n"),
                ("vault", b"$ANSIBLE" + b"_VAULT;1.1;AES256\n" + noise(99, 1).hex().encode() + b"\n",
                 b"$ANSIBLE" + b"_VAULT;1.1;AES256\n" + noise(99, 2).hex().encode() + b"\n"),
                ("base64", lines(b"BNKF"), lines(b"CMJE")), ("utf16", pem(1).decode().encode("utf-16"), pem(2).decode().encode("utf-16"))):
            with self.subTest(name):
                old, new = [b"first\n" + x if name != "utf16" else x for x in (old, new)]
                f = self.one(self.with_file(old))
                upstream = self.with_file(old)
                self.repo.ref("heads/alike-" + name, upstream)
                if name not in ("base64", "utf16"):  # what was decoded is known as its file's alone
                    self.clean(self.with_file(b"above\n" + old, parents=[upstream]))
                    self.clean(self.with_file(b"above\n" + old, path=b"y/file"), options="allow=" + self.one(
                        self.with_file(b"above\nmore\n" + old, path=b"y/file"))["fingerprint"])
                self.one(self.with_file(new, parents=[upstream]))
                self.assertTrue(self.push(self.with_file(old + new, parents=[upstream])))
                self.one(self.with_file(new), options="allow=" + f["fingerprint"])

    def test_alike_in_a_stream(self):
        """As above, where only a part of the file is in memory; wherever it is cut."""
        head = b"-----BEGIN " + b"RSA PRIVATE KEY-----\n"
        for at in (1 << 20, (1 << 20) + (64 << 10) - len(head), (1 << 20) + (64 << 10) - len(head) - 200, 1300000):
            old, new = (b"x" * (at - 1) + b"\n" + head + base64.encodebytes(noise(900, i)) for i in (1, 2))
            upstream = self.with_file(old)
            self.repo.ref(f"heads/stream-{at}", upstream)
            self.one(self.with_file(new, parents=[upstream]), rule="private-key")

    def test_another_secret_where_one_is_known(self):
        """Neither the operator's `allow` nor what the upstream has is good for another of the same shape."""
        other = b"AK" + b"IAWX3MNB7QRTZ5LKPD"
        jwt = b"t = ey" + b"JhbGciOiJIUzI1NiJ9.ey" + b"JzdWIiOiIxMjM0NTY3ODkwIiwibmFtZSI6IkpvaG4gRG9lIn0."
        packed = [b"\1\2head\n" + zlib.compress(b"x: " + key * 5) + b"\nend\n" for key in (AWS, other)]
        next_line = ASSIGNED.replace(b"Xk2", b"Qw8")
        for i, (old, new) in enumerate((
                (pem(1), pem(2)), (pem(1, 48), pem(2, 48)), (ASSIGNED, ASSIGNED + next_line),
                (ASSIGNED, ASSIGNED[:-1] + b"," + next_line), (jwt + b"a1B2c3" * 6, jwt + b"d4E5f6" * 6),
                (b"key=" + AWS, b"key=%s,%s" % (AWS, other)), packed, (packed[0], packed[0] + packed[1]),
                (b"key=" + AWS + b"\n", b"key=" + AWS + b"\n\1\2" + packed[1]),
                (noise(1100000).replace(b"\n", b"") + b"\n" + ASSIGNED, noise(1100000).replace(b"\n", b"") + b"\n" + next_line))):
            up = self.with_file(old)
            allowed = ";".join("allow=" + f["fingerprint"] for f in self.push(up))
            self.clean(up, options=allowed)
            self.assertTrue(self.push(self.with_file(new), options=allowed), (i, "allowed"))
            self.repo.ref("heads/has-%d" % i, up)
            self.assertTrue(self.push(self.with_file(new, parents=[up])), (i, "known"))


class LookAlikes(Case):
    def test_pass(self):
        b64 = base64.b64encode(noise(300))
        for text in (b'if (line == "-----BEGIN ' + b'RSA PRIVATE KEY-----") {\n\treturn read_key(file);\n}\n',
                     b"-----BEGIN " + b"PRIVATE KEY-----\nis what a key begins with.\n\tIts lines\n  have 64 letters each,\nand it ends\nas it began\n",
                     b"card 4242" + b"424242424242\n", b"1 2 3, 4539578763621486, 77, 4556737586899855, 5\n",
                     b"see testcase-6014493" + b"291577344 of the fuzzer\n",
                     b64 + b"ACCA" + b"A" * 16 + b64, noise(90).hex().upper().encode() + b"ACCA" + b"0311AFB9CCD60218" + noise(90).hex().upper().encode(),
                     b"git clone https://user:" + b"s3cr3tpw@git.example.com/x\n",
                     b"owner = 0x" + b"d8dA6BF26964aF9D7eEd9e03E53415D37aA96045\n", b"donate: 1A1zP1" + b"eP5QGefi2DMPTfTL5SLmv7DivfNa\n"):
            self.clean(self.with_file(text))
        self.clean(self.with_file(b"".join(pem(1).splitlines(True)[:1]) + b"how keys begin\nand\n\tgo\non with 64 Letters\n" * 9))

    def test_beside_a_look_alike(self):
        """What is none must not hide one that stands around it, nor be taken for what was decoded."""
        like = base64.b64encode(noise(300)) + b"ACCA" + b"A" * 16 + b"A" * 200
        self.clean(self.with_file(like))
        text = b"text " * 40 + AWS + b"\n"
        for data in (like + b"\n\1" + zlib.compress(b"key: " + AWS * 1 + b"\n" * 20), like + b"/" + AWS + b"/", text.hex().encode(),
                     base64.b64encode(text + b"\0" * 300), base64.b64encode(text + b"x" * 300),
                     base64.b64encode(b"key: " + AWS + b" \0" + base64.b64decode(like))):
            found = self.push(self.with_file(data))
            self.assertIn("aws-access-key", [f["rule"] for f in found], data[-400:])

    def test_do_not_pass(self):
        body = base64.b64encode(noise(900)).decode()
        key = "\n".join(body[i:i + 64] for i in range(0, len(body), 64))
        head = "-----BEGIN " + "RSA PRIVATE KEY-----"
        for text in (head + "\n" + key, head + "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n" + key,
                     'k = "' + head + "\\n" + key.replace("\n", "\\n") + '"', "\ufeff" + head + "\r\n" + key,
                     "x" * 1300000 + "\n" + head + "\n" + key,
                     *(head + eol + eol.join(body[i:i + 24] for i in range(0, len(body), 24)) for eol in ("\n", "\r\n", "\n\t", "\\n")),
                     pem(1, 30).decode(), pem(1, 5).decode(),
                     pem(1, 20).decode().replace("\n", "\n        "), '"' + pem(1, 24).decode().replace("\n", '\\n"\n "') + '"'):
            self.one(self.with_file(text.encode()), rule="private-key")
        self.one(self.with_file((head + "\n" + key).encode("utf-16")), rule="private-key")
        self.one(self.with_file(b"git clone https://user:" + b"s3cr3tpw@git.example.company.io/x\n"), rule="basic-auth-url")
        self.one(self.with_file(b"A" * 200 + AWS + b"A" * 200), rule="aws-access-key")
        self.one(self.with_file(b"".join(b"\\u%04x" % b for b in AWS) + b"\n"), rule="aws-access-key")
        self.one(self.with_file(b"pay with 4539 5787 6362 1486 now\n"), rule="card-number")


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

#!/usr/bin/python3
"""check_push() on pushes that are made object by object: what must be found in them, and what not.
argv[1] is check_lines."""
import base64
import bz2
import gzip
import io
import lzma
import os
import struct
import sys
import tarfile
import unittest
import zipfile
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_case import ASSIGNED, FILES, Case, noise, pem, tar_of, zip_of  # noqa: E402
from pushes import AWS, CANARY, NONE, PLACEHOLDER, SECRET, TOKEN, Repo  # noqa: E402


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

    def test_canary_behind_many(self):
        keys = [b"AKIA%016d" % (7 ** 18 // (i + 2)) for i in range(300)]
        many = {b"x/%d" % i: b"key = " + k for i, k in enumerate(keys)}
        found = self.push(self.repo.commit({**FILES, **many, b"z": b"\n".join(keys) + b"\n" + CANARY}, [self.base]))
        self.assertIn("canary", [f["rule"] for f in found], len(found))
        found = self.push(self.repo.commit({**FILES, **many, b"z": CANARY}, [self.base]))
        self.assertIn("canary", [f["rule"] for f in found], len(found))

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


if __name__ == "__main__":
    unittest.main(verbosity=2)  # which gives the reasons of skips

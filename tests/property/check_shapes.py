#!/usr/bin/python3
"""A secret in a push, wherever git can carry it: random combinations of where it stands, how it is
encoded, what surrounds it and how the commits are shaped. argv[1] is check_lines.

Each push brings several refs, each with a shape of its own; every shape's commit (or tag, or ref)
must be named in a finding. What is known not to be found is in EXCUSED, with the reason. The same
shapes with a look-alike in place of the secret must pass: what does not is counted, and printed.

PROPERTY_ROUNDS (shapes; 480, and as many look-alikes, but at most 2000), PROPERTY_SEED.
"""
import base64
import bz2
import collections
import gzip
import io
import json
import lzma
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
import zipfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "gitgate"))
from pushes import CANARY, NONE, SECRET, Checker, Repo  # noqa: E402

ROUNDS = int(os.environ.get("PROPERTY_ROUNDS", "480"))
LOOKALIKES = min(ROUNDS, 2000)
SEED = int(os.environ.get("PROPERTY_SEED", "20"))
GROUP = 16		# shapes in one push
REPO_PUSHES = 8		# pushes that are made in one repository
ALNUM = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def token(r, n, letters=ALNUM):
    return "".join(r.choice(letters) for _ in range(n))


# Secrets. All but the bottle's own are made up; the literals are cut.
def secret_of(r):
    kind = r.choice(("own", "canary", "aws", "github", "slack", "stripe", "anthropic", "google", "assigned"))
    upper = ALNUM[:26] + "234567"
    return kind, {
        "own": lambda: SECRET, "canary": lambda: CANARY,
        "aws": lambda: ("AK" + "IA" + token(r, 16, upper)).encode(),
        "github": lambda: ("gh" + "p_" + token(r, 36)).encode(),
        "slack": lambda: ("xo" + "xb-" + token(r, 12, "0123456789") + "-" + token(r, 12, "0123456789") + "-" + token(r, 24)).encode(),
        "stripe": lambda: ("sk_" + "live_" + token(r, 24)).encode(),
        "anthropic": lambda: ("sk-" + "ant-api03-" + token(r, 93) + "AA").encode(),
        "google": lambda: ("AI" + "za" + token(r, 35)).encode(),
        "assigned": lambda: ("db_password=\"" + "Zk9" + token(r, 6) + "4q" + token(r, 9) + "\"").encode(),
    }[kind]()


def benign_of(r):
    kind = r.choice(("sha1", "sha256", "uuid", "integrity", "number", "version", "words", "placeholder", "image", "minified"))
    return kind, {
        "sha1": lambda: token(r, 40, "0123456789abcdef"), "sha256": lambda: token(r, 64, "0123456789abcdef"),
        "uuid": lambda: "-".join(token(r, n, "0123456789abcdef") for n in (8, 4, 4, 4, 12)),
        "integrity": lambda: "sha512-" + base64.b64encode(r.randbytes(64)).decode(),
        "number": lambda: str(r.randrange(10 ** 12)), "version": lambda: "v%d.%d.%d" % (r.randrange(9), r.randrange(99), r.randrange(999)),
        "words": lambda: " ".join(r.choice(WORDS) for _ in range(8)),
        "placeholder": lambda: "api_key=YOUR_API_KEY_HERE",
        "image": lambda: "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + r.randbytes(120)).decode(),
        "minified": lambda: "!function(e,t){var n=%s;return t[n]=e(%d),n}(window,{});" % (r.choice("abcd"), r.randrange(10 ** 6)),
    }[kind]().encode()


# None of which is in a seed phrase.
WORDS = ("the parser reads entries of trees and gives back whatever stands there with its names modes sizes offsets buffers states "
         "errors returns values files paths lists indexes configs options servers clients requests answers headers bodies").split()


def prose(r, n):
    out = []
    size = 0
    while size < n:
        line = " ".join(r.choice(WORDS) for _ in range(r.randrange(3, 12)))
        out.append(line)
        size += len(line) + 1
    return ("\n".join(out) + "\n").encode()


# Encodings of a whole text; each gives back bytes.
def deflate(b):
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    return z.compress(b) + z.flush()


def zip_of(b, r):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", r.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))) as z:
        for i in range(r.randrange(3)):
            z.writestr("other%d.txt" % i, prose(r, 300))
        z.writestr("dir/file.txt", b)
    return out.getvalue()


def tar_of(b, r):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=r.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) as t:
        for name, data in (("a/b.txt", prose(r, 700)), ("d/" + "n/" * r.choice((2, 60)) + "f.txt", b)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def lines_of(b):
    return b"\n".join(base64.b64encode(b)[i:i + 76] for i in range(0, len(base64.b64encode(b)), 76))


TEXTUAL = {
    "plain": lambda b, r: b,
    "base64": lambda b, r: base64.b64encode(b), "base64url": lambda b, r: base64.urlsafe_b64encode(b),
    "base64-lines": lambda b, r: lines_of(b), "hex": lambda b, r: b.hex().encode(), "base32": lambda b, r: base64.b32encode(b),
    "json": lambda b, r: json.dumps(b.decode("latin-1")).encode(),
    "json-u": lambda b, r: b"".join(b"\\u%04x" % c for c in b),
    "url": lambda b, r: b"".join(b"%%%02X" % c if r.random() < .5 else urllib.parse.quote_from_bytes(bytes([c])).encode() for c in b),
    "html": lambda b, r: b"".join(b"&#%d;" % c for c in b),
    "base64-twice": lambda b, r: base64.b64encode(base64.b64encode(b)),
    "base64-gzip": lambda b, r: base64.b64encode(gzip.compress(b)),
}
BINARY = {
    "utf-16-le": lambda b, r: b.decode("latin-1").encode("utf-16-le"), "utf-16-be": lambda b, r: b.decode("latin-1").encode("utf-16-be"),
    "utf-16-bom": lambda b, r: b.decode("latin-1").encode("utf-16"), "utf-32-le": lambda b, r: b.decode("latin-1").encode("utf-32-le"),
    "utf-32-be": lambda b, r: b.decode("latin-1").encode("utf-32-be"),
    "gzip": lambda b, r: gzip.compress(b), "zlib": lambda b, r: zlib.compress(b), "bzip2": lambda b, r: bz2.compress(b),
    "xz": lambda b, r: lzma.compress(b), "zip": zip_of, "tar": tar_of, "tar.gz": lambda b, r: gzip.compress(tar_of(b, r)),
    "tar.xz": lambda b, r: lzma.compress(tar_of(b, r)), "zip-in-zip": lambda b, r: zip_of(zip_of(b, r), r),
    "zip-in-tar.gz": lambda b, r: gzip.compress(tar_of(zip_of(b, r), r)),
}


def surround(r, b):
    """Text around it, of one kind or another; and how the file ends."""
    how = r.choice(("alone", "line", "crlf", "long", "assignment", "end", "continued", "comment", "json", "binary"))
    if how == "long":
        # once in a while past what is scanned whole
        return how, prose(r, 1100000 if r.random() < .1 else 20000) + b"x: " + b + b"\n" + prose(r, 500)
    return how, {
        "alone": lambda: b, "line": lambda: prose(r, 200) + b"\nkey: " + b + b"\n" + prose(r, 200),
        "crlf": lambda: (prose(r, 200) + b"key: " + b + b"\n" + prose(r, 200)).replace(b"\n", b"\r\n"),
        "assignment": lambda: b"export THING=" + b + b"\n", "end": lambda: prose(r, 300) + b,
        "continued": lambda: b"run --with \\\n\t" + b + b" \\\n\t--more\n",
        "comment": lambda: b"/* " + b + b" gitleaks:allow */\n", "json": lambda: b'{"a":1,"v":"' + b.replace(b'"', b'\\"') + b'","z":[]}',
        "binary": lambda: r.randbytes(40) + b"\0" + b + b"\0" + r.randbytes(40),
    }[how]()


class Shape:
    """One ref's worth of a push."""

    def __init__(self, repo, base, r, what, value):
        self.repo, self.base, self.r, self.value = repo, base, r, value
        self.how, self.commits = [what], []
        self.ref = "refs/heads/work"
        places = ("blob",) * 8 + ("message", "author", "header", "path", "path-split", "tag", "tag-blob", "tag-tree", "branch",
                                  "symlink", "submodule", "gitattributes")
        self.place = r.choice(places)
        self.how.append(self.place)
        getattr(self, "at_" + self.place.replace("-", "_"))()

    def encoded(self, tables):
        # Base64 in hex is nobody's look-alike: the engine has a rule for just that.
        if self.how[0] in ("image", "integrity"):
            tables = {k: v for k, v in tables.items() if k != "hex"}
        name = self.r.choice(list(tables))
        self.how.append(name)
        return tables[name](self.value, self.r)

    def cut(self, b):
        return self.r.randrange(4, len(b) - 4) if len(b) > 9 else len(b) // 2

    def fits(self, b):
        """For a name: nothing that ends it."""
        return b.replace(b"/", b"_").replace(b"\n", b"").replace(b"\0", b"")[:200]

    def commit(self, files, parents, **kw):
        c = self.repo.commit(files, parents, **kw)
        self.commits.append(c)
        return c

    def files(self, **more):
        return {b"README.md": b"# Work\n", b"src/main.c": b"int main(void)\n{\n\treturn 0;\n}\n",
                **{k.encode(): v for k, v in more.items()}}

    def at_blob(self):
        r = self.r
        if r.random() < .5:
            inner = self.encoded(TEXTUAL)
            how, data = surround(r, inner)
        else:
            how, data = surround(r, self.value)
            name = r.choice(list(BINARY))
            self.how.append(name)
            data = BINARY[name](data, r)
        self.how.append(how)
        self.shape_commits("config/%s.dat" % token(r, 5), data)

    def at_gitattributes(self):
        how, data = surround(self.r, self.value)
        self.shape_commits("x.bin", data, extra={b".gitattributes": b"* binary -diff export-ignore\n", b".gitleaksignore": b"*\n"})

    def shape_commits(self, path, data, extra=None):
        r, name = self.r, path.encode()
        shape = r.choice(("simple", "deleted", "merge", "root", "rename", "fast", "deep", "twice", "executable"))
        self.how.append(shape)
        files = {**self.files(), **(extra or {})}
        if shape == "root":
            self.tip = self.commit({**files, name: data}, [])
        elif shape == "deleted":
            one = self.commit({**files, name: data}, [self.base])
            self.tip = self.repo.commit(files, [one])
        elif shape == "merge":
            side = self.repo.commit({**files, b"side": b"1"}, [self.base])
            self.tip = self.commit({**files, b"side": b"1", name: data}, [self.base, side])
        elif shape == "rename":
            one = self.commit({**files, name: data}, [self.base])
            self.tip = self.repo.commit({**files, b"moved/" + name: data}, [one])
        elif shape == "deep":
            self.tip = self.commit({**files, b"d/" * r.randrange(1, 60) + name: data}, [self.base])
        elif shape == "twice":
            self.tip = self.commit({**files, name: data, b"copy/" + name: data}, [self.base])
        elif shape == "executable":
            self.tip = self.commit({**files, name: (b"100755", data)}, [self.base])
        elif shape == "fast":
            last = self.base
            at = r.randrange(4)
            for i in range(4):
                step = {**files, b"n": b"%d" % i, **({name: data} if i >= at else {})}
                last = self.commit(step, [last]) if i == at else self.repo.commit(step, [last])
            self.tip = last
        else:
            self.tip = self.commit({**files, name: data}, [self.base])

    def at_message(self):
        data = self.encoded(TEXTUAL)
        self.tip = self.commit(self.files(), [self.base], message=b"Change\n\n" + prose(self.r, 100) + data + b"\n")

    def at_author(self):
        data = self.fits(self.value).replace(b"<", b"").replace(b">", b"")
        who = [b"A U Thor <a@example.com> 1700000000 +0000"] * 2
        form = self.r.choice((b"%s <a@example.com> 1700000000 +0000", b"A <%s@example.com> 1700000000 +0000"))
        who[self.r.randrange(2)] = form % data
        self.tip = self.commit(self.files(), [self.base], author=who[0], committer=who[1])

    def at_header(self):
        data = self.value.replace(b"\n", b"")
        cut = self.cut(data)
        folded = self.r.random() < .5 and self.how[0] not in ("assigned",)
        self.how.append("folded" if folded else "plain")
        line = data[:cut] + b"\n " + data[cut:] if folded else data
        self.tip = self.commit(self.files(), [self.base], headers=b"x-note " + line + b"\n")

    def at_path(self):
        name = self.fits(self.encoded({k: TEXTUAL[k] for k in ("plain", "base64url", "hex")}))
        form = self.r.choice((b"%s", b"d/%s", b"d/%s.txt", b"%s/f.c"))
        self.tip = self.commit({**self.files(), form % name: b"1\n"}, [self.base])

    def at_path_split(self):
        name = self.fits(self.value)
        cut = self.cut(name)
        self.tip = self.commit({**self.files(), name[:cut] + b"/" + name[cut:]: b"1\n"}, [self.base])

    def at_tag(self):
        data = self.encoded(TEXTUAL)
        self.ref = "refs/tags/v1"
        self.tip = self.repo.tag(self.base, message=b"Tag\n\n" + data + b"\n")
        if self.r.random() < .3:
            self.tip = self.repo.tag(self.tip, kind="tag", message=b"Outer\n")
        self.commits = None

    def at_tag_blob(self):
        how, data = surround(self.r, self.value)
        self.ref = "refs/tags/v2"
        oid = self.repo.blob(data)
        self.tip = self.repo.tag(oid, kind="blob") if self.r.random() < .5 else oid
        self.commits = None

    def at_tag_tree(self):
        how, data = surround(self.r, self.value)
        self.ref = "refs/tags/v3"
        oid = self.repo.tree({b"d/f": data})
        self.tip = self.repo.tag(oid, kind="tree") if self.r.random() < .5 else oid
        self.commits = None

    def at_branch(self):
        name = "".join(c for c in self.value.decode() if c in ALNUM + "-_=." or c in "/")[:200]
        if self.r.random() < .3 and self.how[0] != "assigned":
            cut = self.cut(name)
            name = name[:cut] + "/" + name[cut:]
            self.how.append("split")
        self.ref = "refs/heads/" + name
        self.tip = self.base
        self.commits = None

    def at_symlink(self):
        target = self.fits(self.value)
        if self.r.random() < .5 and self.how[0] != "assigned":
            cut = self.cut(target)
            target = target[:cut] + b"/" + target[cut:]
            self.how.append("split")
        self.tip = self.commit({**self.files(), b"link": (b"120000", b"../" + target)}, [self.base])

    def at_submodule(self):
        value = self.fits(self.value).replace(b'"', b"")
        text = self.r.choice((b'[submodule "a"]\n\tpath = a\n\turl = https://example.com/%s/x\n',
                              b'[submodule "a"]\n\tpath = a\n\turl = "https://example.com/\\\n%s"\n',
                              b'[submodule "%s"]\n\tpath = a\n\turl = https://example.com/x\n',
                              b'[submodule "a"]\n\tpath = b/%s\n\turl = https://example.com/x\n'))
        self.tip = self.commit({**self.files(), b".gitmodules": text % value}, [self.base])


# Not found, and why; (secret's kind or "*", words of the shape).
EXCUSED = (
    ("assigned", {"path-split"}, "a password without its name's segment is a word among others"),
    ("assigned", {"submodule"}, "quotation marks belong to the file's own syntax"),
)


def excuse_of(shape):
    """The reason, or None."""
    return next((why for kind, words, why in EXCUSED if shape.how[0] == kind and words <= set(shape.how)), None)


def is_caught(shape, found):
    secrets = [f for f in found if f["kind"] == "secret"]
    if shape.place == "branch":
        return any(f["what"] == "ref name" for f in secrets)
    if shape.commits is None:
        return any(not f["commit"] for f in secrets)
    return any(f["commit"] in shape.commits for f in secrets)


def run(checker, scratch, r, rounds, make):
    done, missed, pushes, packed = 0, [], 0, 0
    per = collections.Counter()
    while done < rounds:
        repo = Repo(f"{scratch}/{make.__name__}{done}.git")
        base = repo.commit({b"README.md": b"# Work\n"})
        repo.ref("heads/main", base)
        batch = []
        for _ in range(REPO_PUSHES):
            shapes = []
            while len(shapes) < GROUP and done < rounds:
                what, value = make(r)
                s = Shape(repo, base, r, what, value)
                # Findings without a commit cannot be told apart: one of them in a push. The same
                # secret twice is told once, of the first commit.
                if any((s.commits is None and o.commits is None) or o.value == s.value for o in shapes):
                    continue
                shapes.append(s)
                done += 1
            if shapes:
                batch.append(shapes)
        if r.random() < .5: # as receive-pack would leave it: one pack with deltas
            packed += 1
            listed = b"".join(s.tip.encode() + b"\n" for shapes in batch for s in shapes)
            repo.git("pack-objects", "-q", "--revs", f"{repo.folder}/objects/pack/pack", stdin=listed)
            repo.git("prune-packed", "-q")
        for shapes in batch:
            found = checker.push(repo, *[(s.ref, NONE, s.tip) for s in shapes], options="workspace")
            pushes += 1
            missed += [(s, found) for s in shapes if not is_caught(s, found)]
            per.update(s.place for s in shapes)
            if make is benign_of:
                yield from ((shapes, f) for f in found)
        subprocess.run(["rm", "-rf", repo.folder], check=True)
    print(f"{make.__name__}: {done} shapes in {pushes} pushes, {packed} repositories packed, {dict(per)}")
    if make is secret_of:
        yield from missed


def main():
    r = random.Random(SEED)
    print(f"seed {SEED}, {ROUNDS} shapes")
    checker = Checker(sys.argv[1])
    bad = 0
    with tempfile.TemporaryDirectory(prefix="cb-shapes-") as scratch:
        n_excused = collections.Counter()
        for shape, found in run(checker, scratch, r, ROUNDS, secret_of):
            if excuse_of(shape):
                n_excused[excuse_of(shape)] += 1
                continue
            bad += 1
            print("MISSED", shape.how, shape.tip, [(f["kind"], f["rule"], f["what"]) for f in found])
        print(f"note: {ROUNDS} shapes of a secret: {bad} missed")
        for why, n in n_excused.items():
            print(f"note: {n} not found: {why}")
        false = collections.Counter()
        for shapes, f in run(checker, scratch, r, LOOKALIKES, benign_of):
            false[f["rule"]] += 1
            print("FALSE", f["kind"], f["rule"], f["what"], f["decoders"], [s.how for s in shapes if s.commits and f["commit"] in s.commits])
        print(f"note: {LOOKALIKES} look-alikes: {sum(false.values())} refused {dict(false) or ''}")
    checker.close()
    # Look-alikes that do not pass cost people; a few in a thousand are the price of the rest.
    return 1 if bad or sum(false.values()) > LOOKALIKES // 500 else 0


if __name__ == "__main__":
    sys.exit(main())

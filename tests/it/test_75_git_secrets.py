"""A secret in every place that a push can carry one: refused with the rule, the commit and the path,
before the upstream's push service hears of it. And what suspects are let through again by the operator."""
import base64
import os
import re
import sys
import time

import bottle
import pytest
from git_world import HTTPS_HOST, SECRET, SECRET_RULE, git, https_remote, make_bare, refs

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "gitgate"))
from pushes import xz_file, zstd_frame  # noqa: E402

URL = f"https://{HTTPS_HOST}/team/project.git"
MIB = 1 << 20


@pytest.fixture(scope="module")
def world(make_world, https_git, ssh_git):
    make_bare(https_git.path("team/project"), commits=3)
    w = make_world([https_remote("project", https_git, tags=["**"], max_object="2MiB")])
    return w.start()


@pytest.fixture
def project(https_git):
    return https_git.path("team/project")


# name: (script that commits, the path that is named or None, whether a rule is)
CARRIERS = {
    "readme": ('echo "the key is $SECRET" >> README.md\ncommit', "README.md"),
    "new-file": ('mkdir -p conf\necho "key: $SECRET" > conf/app.yml\ncommit', "conf/app.yml"),
    "deleted-later": ('echo "$SECRET" > oops.txt\ncommit\ngit rm -q oops.txt\ngit commit -qm "remove it"',
                      "oops.txt"),
    "amended-away-in-a-merge": ('git checkout -q -b side\necho "$SECRET" > side.txt\ncommit\n'
                                'git rm -q side.txt\ngit commit -qm gone\ngit checkout -q main\n'
                                'echo m > m\ncommit\ngit merge -q --no-ff -m merge side', "side.txt"),
    "message": ('echo x > x\ncommit "use $SECRET to log in"', None),
    "author": ('echo x > x\ngit add .\ngit commit -qm x --author "$SECRET <a@example.test>"', None),
    "author-mail": ('echo x > x\ngit add .\ngit commit -qm x --author "A <$SECRET@example.test>"', None),
    "committer": ('echo x > x\ngit add .\nGIT_COMMITTER_NAME="$SECRET" git commit -qm x', None),
    "extra-header": ('git hash-object -t commit -w --stdin > /tmp/h <<END\n'
                     'tree $(git rev-parse HEAD^{tree})\nparent $(git rev-parse HEAD)\n'
                     'author A <a@example.test> 1700000000 +0000\n'
                     'committer A <a@example.test> 1700000000 +0000\nnote $SECRET\n\nx\nEND\n'
                     'git reset -q --soft "$(cat /tmp/h)"', None),
    "path": ('echo x > "file-$SECRET.txt"\ncommit', None),
    "folder": ('mkdir "$SECRET"\necho x > "$SECRET/x"\ncommit', None),
    "symlink": ('ln -s "/tmp/$SECRET" link\ncommit', "link"),
    "submodule-url": ('printf "[submodule \\"m\\"]\\n\\tpath = m\\n\\turl = https://x:$SECRET@e.example/m.git\\n"'
                      ' > .gitmodules\ncommit', ".gitmodules"),
    "gitattributes": ('echo "# $SECRET" > .gitattributes\ncommit', ".gitattributes"),
    "utf-16": ('python3 -c "import os;open(\'u.txt\',\'wb\').write((\'key=\'+os.environ[\'SECRET\'])'
               '.encode(\'utf-16\'))"\ncommit', "u.txt"),
    "utf-16-be": ('python3 -c "import os;open(\'u.txt\',\'wb\').write((\'key=\'+os.environ[\'SECRET\'])'
                  '.encode(\'utf-16-be\'))"\ncommit', "u.txt"),
    "base64": ('echo "$SECRET" | base64 > b.txt\ncommit', "b.txt"),
    "hex": ('printf %s "$SECRET" | od -An -tx1 | tr -d " \\n" > h.txt\ncommit', "h.txt"),
    "gzip": ('echo "$SECRET" > s\ngzip s\ncommit', "s.gz"),
    "zip": ('python3 -c "import os,zipfile;z=zipfile.ZipFile(\'a.zip\',\'w\',zipfile.ZIP_DEFLATED);'
            'z.writestr(\'in.txt\',os.environ[\'SECRET\']*3)"\ncommit', "a.zip"),
    "tar-gz": ('echo "$SECRET" > s\ntar czf a.tar.gz s\nrm s\ncommit', "a.tar.gz"),
    "zip-in-zip": ('python3 -c "import io,os,zipfile\nb=io.BytesIO()\nz=zipfile.ZipFile(b,\'w\',8)\n'
                   'z.writestr(\'in.txt\',os.environ[\'SECRET\'])\nz.close()\n'
                   'o=zipfile.ZipFile(\'o.zip\',\'w\',8)\no.writestr(\'i.zip\',b.getvalue())\no.close()"\ncommit',
                   "o.zip"),
    "lfs-pointer": ('printf "version https://git-lfs.github.com/spec/v1\\nx-note $SECRET\\n'
                    'oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\\nsize 5\\n"'
                    ' > a.bin\ncommit', "a.bin"),
    "binary": ('python3 -c "import os;open(\'x.bin\',\'wb\').write(bytes(range(256))*9+'
               'os.environ[\'SECRET\'].encode()+bytes(range(256)))"\ncommit', "x.bin"),
    "deep-in-a-large-file": ('python3 -c "import os;open(\'l.txt\',\'w\').write(\'harmless words \\n\'*90000+'
                             'os.environ[\'SECRET\']+\'\\n\'*1000)"\ncommit', "l.txt"),
    "delta": ('seq 1 20000 > d.txt\ncommit base\nsed -i "10000s/.*/$SECRET/" d.txt\ncommit delta\n'
              'git gc -q --aggressive', "d.txt"),
    "unreadable-name": ('echo "$SECRET" > "$(printf \'a\\033[31mb\\nc\')"\ncommit', None),
    "gitignored": ('echo "*.env" > .gitignore\necho "K=$SECRET" > x.env\ngit add -f x.env .gitignore\n'
                   'git commit -qm x', "x.env"),
}


def push(world, script, target="HEAD:refs/heads/case", url=URL):
    return world.sh(f"clone {url}\n{script}\ngit rev-list origin/main..HEAD\necho --\ngit push origin {target}",
                    check=False, env={"SECRET": SECRET}, timeout=120)


def assert_secret_refusal(r, path):
    assert r.returncode != 0, f"it was not refused: {r.stdout}{r.stderr}"
    said = r.stderr
    assert SECRET_RULE in said, said
    assert SECRET not in said and SECRET[4:24] not in said, "the refusal repeats the secret"
    assert "\033" not in re.sub(r"\033\[K", "", said), said
    commits = r.stdout.split("--")[0].split()
    assert any(c[:7] in said for c in commits), (commits, said)
    if path:
        assert path in said, said


@pytest.mark.parametrize("name", sorted(CARRIERS))
def test_secret_in(world, project, name):
    script, path = CARRIERS[name]
    with world.nothing_pushed(project):
        r = push(world, script, f"HEAD:refs/heads/case-{name}")
    assert_secret_refusal(r, path)


# What a file may ask of its decompressor, at each of three levels, and one step more.
WINDOWS = {"zstd": (zstd_frame, 0x88), "xz": (xz_file, 28)}


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_windows_have_room(world, project, name):
    """A worker's limits leave room for the largest windows that are opened, and what is larger is said to be."""
    pack, most = WINDOWS[name]

    def try_it(text, sizes, ref):
        data = text.encode() * 9
        for size in sizes:
            data = pack(data, size)
        return push(world, f"base64 -d > packed.{name} <<'END'\n{base64.encodebytes(data).decode()}END\ncommit",
                    f"HEAD:refs/heads/{ref}")
    with world.nothing_pushed(project):
        assert_secret_refusal(try_it(f"the key is {SECRET}\n", [most] * 3, "window"), f"packed.{name}")
        r = try_it("harmless words\n", [most + 1], "window")
    assert r.returncode != 0 and f"unreadable-archive in packed.{name}" in r.stderr, r.stderr
    r = try_it("harmless words\n", [most] * 3, f"window-{name}")
    assert r.returncode == 0, r.stderr


# What is refused by its place in the names is told before anything was scanned.
NAMES = {"branch-name": ("HEAD:refs/heads/fix-$SECRET", SECRET_RULE), "tag-name": ("HEAD:refs/tags/v-$SECRET", SECRET_RULE),
         "protected": ("HEAD:refs/heads/release/$SECRET", "branch-protected"),
         "object-like": ("HEAD:refs/tags/tags/$SECRET", "ref-ambiguous")}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_secret_in_a_ref_name(world, project, name):
    target, why = NAMES[name]
    with world.nothing_pushed(project):
        r = push(world, "echo x > x\ncommit", target)
    assert r.returncode != 0 and why in r.stderr, r.stderr
    # git repeats the name that it was given; the gate's own words do not.
    assert SECRET not in "".join(x for x in r.stderr.splitlines() if x.startswith("remote: ")), r.stderr
    assert bottle.wait_until(lambda: any(why in str(x) for x in world.records()), 5), "no record"
    assert not any(SECRET in str(x) for x in world.records())
    assert SECRET not in world.home.logs_of_all()


TAGS = {"tag-message": 'git tag -a -m "sign with $SECRET" vx\n',
        "tagger": 'GIT_COMMITTER_NAME="$SECRET" git tag -a -m x vx\n',
        "tag-of-a-tag": 'git tag -a -m "with $SECRET" inner\ngit tag -a -m outer vx inner\n'}


@pytest.mark.parametrize("name", sorted(TAGS))
def test_secret_in_a_tag(world, project, name):
    with world.nothing_pushed(project):
        r = push(world, TAGS[name], "vx")
    # A tag of a blob is refused before anybody looks into it.
    assert r.returncode != 0 and ("ref-object-type" if name == "tagged-blob" else SECRET_RULE) in r.stderr, r.stderr
    assert SECRET not in r.stderr


def test_tag_of_a_blob(world, project):
    """Nothing that could be checked out: refused whatever it holds."""
    with world.nothing_pushed(project):
        r = push(world, 'git tag vx $(echo "$SECRET" | git hash-object -w --stdin)', "vx")
    assert r.returncode != 0 and "ref-object-type" in r.stderr, r.stderr


def test_canary_and_own_placeholder(world, project):
    """What the bottle planted, and nobody's rule knows by its shape."""
    with world.nothing_pushed(project):
        r = push(world, 'echo "$DEPLOY_TOKEN_BACKUP" > c\ntest -s c\ncommit')
    assert r.returncode != 0 and "canary" in r.stderr, r.stderr


def test_oversize_is_refused(world, project):
    with world.nothing_pushed(project):
        r = push(world, "head -c 3000000 /dev/zero > large.bin\ncommit", "HEAD:refs/heads/case-large")
    assert r.returncode != 0 and "oversize" in r.stderr and "large.bin" in r.stderr, r.stderr


SUPPRESSIONS = {
    "gitleaksignore": 'echo "$SECRET" > k.txt\necho "k.txt:github-token:1" > .gitleaksignore\ncommit',
    "inline-gitleaks": 'echo "k = $SECRET # gitleaks:allow" > k.txt\ncommit',
    "inline-pipelock": 'echo "k = $SECRET # pipelock:ignore" > k.txt\ncommit',
    "inline-trufflehog": 'echo "k = $SECRET # trufflehog:ignore nosecret pragma: allowlist secret" > k.txt\ncommit',
    "attributes": 'echo "* binary -text -diff linguist-generated" > .gitattributes\necho "$SECRET" > k.txt\ncommit',
    "toml": 'printf "[allowlist]\\npaths=[\'.*\']\\n" > .gitleaks.toml\necho "$SECRET" > k.txt\ncommit',
    "secrets-baseline": 'echo "{}" > .secrets.baseline\necho "$SECRET" > k.txt\ncommit',
    "example-name": 'mkdir -p tests/fixtures\necho "$SECRET" > tests/fixtures/example.txt\ncommit',
}


@pytest.mark.parametrize("name", sorted(SUPPRESSIONS))
def test_suppressions_by_the_agent_do_nothing(world, project, name):
    with world.nothing_pushed(project):
        r = push(world, SUPPRESSIONS[name], f"HEAD:refs/heads/sup-{name}")
    assert r.returncode != 0 and SECRET_RULE in r.stderr, r.stderr


SENSITIVE = {
    ".github/workflows/ci.yml": "on: push\n", ".gitlab-ci.yml": "a: b\n", "CODEOWNERS": "* @me\n",
    ".github/CODEOWNERS": "* @me\n", ".GitHub/Workflows/x.yml": "on: push\n",
    ".gitmodules": '[submodule "m"]\n\tpath = m\n\turl = https://e.example/m.git\n',
}


@pytest.mark.parametrize("path", sorted(SENSITIVE))
def test_what_ci_would_run_needs_the_human(world, project, path):
    script = f"mkdir -p \"$(dirname '{path}')\"\ncat > '{path}' <<'END'\n{SENSITIVE[path]}END\ncommit"
    with world.nothing_pushed(project):
        r = push(world, script, "HEAD:refs/heads/ci")
    assert r.returncode != 0 and path in r.stderr and "approv" in r.stderr, r.stderr


def test_merge_that_brings_a_workflow(world, project):
    """Changed in a merge alone, against both parents."""
    script = ("git checkout -q -b s\necho s > s\ncommit\ngit checkout -q main\necho m > m\ncommit\n"
              "git merge -q --no-ff --no-commit s\nmkdir -p .github/workflows\necho 'on: push' > "
              ".github/workflows/m.yml\ngit add .\ngit commit -qm merge")
    with world.nothing_pushed(project):
        r = push(world, script, "HEAD:refs/heads/ci-merge")
    assert r.returncode != 0 and ".github/workflows/m.yml" in r.stderr, r.stderr


def test_harmless_twins_pass(world, project):
    """Else a gate that refuses everything would pass all of the above."""
    script = """
mkdir -p src docs
echo 'token = os.environ["GITHUB_TOKEN"]  # ghp_ is its prefix' > src/auth.py
python3 -c "open('u.txt','wb').write('key=none'.encode('utf-16'))"
python3 -c "import zipfile;z=zipfile.ZipFile('a.zip','w',8);z.writestr('in.txt','hello '*99)"
git rev-parse HEAD > docs/pinned-commit.txt
sha256sum README.md > SHA256SUMS
python3 -c "import uuid;print(uuid.uuid5(uuid.NAMESPACE_DNS,'x'))" > docs/uuid
echo '-----BEGIN CERTIFICATE-----' > docs/cert.pem
commit "explain tokens"
"""
    r = push(world, script, "HEAD:refs/heads/harmless")
    assert r.returncode == 0, r.stderr
    assert "refs/heads/harmless" in refs(project)


def test_allowed_by_fingerprint(make_world, https_git):
    """The operator has looked at one finding: that one passes, its neighbour does not."""
    bare, url = make_bare(https_git.path("team/looked-at")), f"https://{HTTPS_HOST}/team/looked-at.git"
    first = make_world([https_remote("looked-at", https_git)]).start()
    script = 'echo "example: $SECRET" > example.txt\ncommit'
    r = push(first, script, url=url)
    assert r.returncode != 0
    prints = set(re.findall(r"\b[0-9a-f]{32}\b", r.stderr))
    assert len(prints) == 1, r.stderr
    second = make_world([https_remote("looked-at", https_git, allow=sorted(prints))]).start()
    r = push(second, script, url=url)
    assert r.returncode == 0, r.stderr
    assert git("show", "case:example.txt", cwd=bare).endswith(SECRET)
    other = SECRET[:-6] + "q7W2e9"
    with second.nothing_pushed(bare):
        r = push(second, f'echo "example: {other}" > example2.txt\ncommit', "HEAD:refs/heads/case2", url=url)
    assert r.returncode != 0 and SECRET_RULE in r.stderr, r.stderr


def test_identity(make_world, https_git):
    bare, url = make_bare(https_git.path("team/signed")), f"https://{HTTPS_HOST}/team/signed.git"
    w = make_world([https_remote("signed", https_git)], git={
        "user": {"name": "Agent", "email": "agent@example.test", "enforce": True}}).start()
    for script in ('git -c user.name=Linus commit -qm x', 'git -c user.email=l@kernel.example commit -qm x',
                   'git commit -qm x --author "Linus <l@kernel.example>"'):
        with w.nothing_pushed(bare):
            r = push(w, f"echo x > x\ngit add .\n{script}", url=url)
        assert r.returncode != 0 and "identity" in r.stderr, r.stderr
        assert "agent@example.test" in r.stderr, "it does not say who the agent should be"
    with w.nothing_pushed(bare):
        r = push(w, "GIT_COMMITTER_NAME=Linus git tag -a -m release v1", "v1", url=url)
    assert r.returncode != 0 and "identity" in r.stderr and "tagger" in r.stderr, r.stderr
    r = push(w, "git tag -a -m release v1", "v1", url=url)
    assert r.returncode == 0, r.stderr
    r = push(w, "echo x > x\ncommit", url=url)
    assert r.returncode == 0, r.stderr


def test_refusal_is_recorded(world):
    assert push(world, CARRIERS["readme"][0], "HEAD:refs/heads/recorded").returncode != 0
    time.sleep(0.3)
    records = [x for x in world.records() if x.get("role") == "gitgate" or "git" in str(x.get("host"))]
    assert any(SECRET_RULE in str(x) for x in records), records[-3:]
    assert not any(SECRET in str(x) for x in world.records())

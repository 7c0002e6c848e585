"""Upstreams of git-gate that are real: git's own http-backend behind TLS and a token, an sshd with a
forced command, and the host's repository. Each writes down what it was asked, so that a test decides
by what arrived. And a bottle that stays, in which a test runs its commands.
"""
import base64
import contextlib
import getpass
import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse

import bottle
import standin

HTTPS_HOST = "git.example.test"
SSH_HOST = "ssh.example.test"
TOKEN = "tok-" + "R3alUpstr3amT0ken" * 2
HOOK_WORDS = "policy: this is closed on Fridays"

# What no tool that looks for keys should stop at: it is put together here.
SECRET = "gh" + "p_" + "Zq7Lm2Xw9Rt4Yb6Nc8Vd1Kf3Hj5Gs0Pa2We4"
SECRET_RULE = "github-token"

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GIT_CONFIG_NOSYSTEM": "1",
       "HOME": "/nonexistent", "LANG": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0",
       "GIT_CONFIG_COUNT": "6", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
       "GIT_CONFIG_KEY_1": "user.name", "GIT_CONFIG_VALUE_1": "Host",
       "GIT_CONFIG_KEY_2": "user.email", "GIT_CONFIG_VALUE_2": "host@example.test",
       "GIT_CONFIG_KEY_3": "protocol.file.allow", "GIT_CONFIG_VALUE_3": "always",
       # A hook that has run was run by somebody else.
       "GIT_CONFIG_KEY_4": "core.hooksPath", "GIT_CONFIG_VALUE_4": "/dev/null",
       "GIT_CONFIG_KEY_5": "core.fsmonitor", "GIT_CONFIG_VALUE_5": "false"}


def git(*args, cwd, check=True, input=None):
    """Standard output of git on the host, stripped."""
    r = subprocess.run(["git", *args], cwd=cwd, env=ENV, capture_output=True, timeout=120,
                       **({"input": input} if input is not None else {"stdin": subprocess.DEVNULL}))
    if check and r.returncode != 0:
        raise AssertionError(f"git {' '.join(args)}: {r.returncode}\n{r.stderr.decode(errors='replace')}")
    return r.stdout.decode(errors="replace").strip()


def refs(repo):
    """{ref: object} of a repository on the host."""
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=repo).splitlines()
    return dict(line.split() for line in lines)


def make_bare(path, files=None, branch="main", commits=1):
    """A bare repository with some history."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    work = tempfile.mkdtemp(prefix="seed", dir=os.path.dirname(path))
    git("init", "-q", "-b", branch, ".", cwd=work)
    for name, text in (files or {"README.md": "a project\n", "src/main.c": "int main(void)\n"}).items():
        os.makedirs(os.path.dirname(f"{work}/{name}"), exist_ok=True)
        with open(f"{work}/{name}", "w") as f:
            f.write(text)
    git("add", ".", cwd=work)
    git("commit", "-qm", "first", cwd=work)
    for i in range(1, commits):
        with open(f"{work}/counter.txt", "w") as f:
            f.write(f"{i}\n" * 20)
        git("add", ".", cwd=work)
        git("commit", "-qm", f"number {i}", cwd=work)
    git("clone", "-q", "--bare", work, path, cwd="/")
    git("config", "http.receivepack", "true", cwd=path)
    git("config", "uploadpack.allowFilter", "true", cwd=path)
    shutil.rmtree(work)
    return path


def refuse_by_hook(repo, words=HOOK_WORDS):
    """The upstream's own policy: it refuses every push, and says why. None: no more."""
    hook = f"{repo}/hooks/pre-receive"
    if words is None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(hook)
        return
    os.makedirs(os.path.dirname(hook), exist_ok=True)
    with open(hook, "w") as f:
        f.write(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    os.chmod(hook, 0o755)


class HttpsGit(standin.GitUpstream):
    """Smart HTTP behind TLS and Basic authentication. mode: what it does instead of serving."""

    def __init__(self, authority, folder, hosts=(HTTPS_HOST,), token=TOKEN, **kw):
        self.token, self.mode, self.echo = token, None, False
        os.makedirs(folder, exist_ok=True)
        super().__init__(authority, list(hosts), folder, stem="gitworld", **kw)

    def path(self, name):
        return f"{self.folder}/{name}.git"

    def answer(self, h, seen):
        if self.mode == "hang":
            time.sleep(60)
            h.close_connection = True
            return None
        if self.mode == "500":
            return h.reply(500, "out of order\n", "text/plain")
        wanted = self.token and base64.b64encode(f"{h_user(seen)}:{self.token}".encode()).decode()
        if wanted and seen.header("authorization") != f"Basic {wanted}":
            return h.reply(401, "who are you?\n", "text/plain",
                           [("WWW-Authenticate", 'Basic realm="git"')])
        if self.mode == "echo":
            # Everything that it was sent, where a client would show it.
            said = f"you sent {seen.header('authorization')} and the token {self.token}\n"
            return h.reply(403, said, "text/plain", [("X-Echo", seen.header("authorization") or "")])
        return super().answer(h, seen)

    def receives(self):
        """Every request of the push service."""
        with self.lock:
            return [r for r in self.requests if "git-receive-pack" in r.path]

    def fetches(self):
        with self.lock:
            return [r for r in self.requests if "git-upload-pack" in r.path]


def h_user(seen):
    """The user's name that a Basic header has: the operator chooses it."""
    kind, _, text = (seen.header("authorization") or "").partition(" ")
    try:
        return base64.b64decode(text).decode().partition(":")[0] if kind == "Basic" else ""
    except ValueError:
        return ""


# What sshd runs whatever was asked: it writes that down first.
FORCED = """#!/bin/sh
cd '{folder}'
printf '%s\\n' "$SSH_ORIGINAL_COMMAND" >> '{folder}/asked'
if [ -e '{folder}/broken' ]; then cat '{folder}/broken' >&2; exit 1; fi
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
case $SSH_ORIGINAL_COMMAND in
"git-upload-pack '"*"'" | "git-receive-pack '"*"'" | "git upload-pack '"*"'" | "git receive-pack '"*"'") ;;
*) echo "this account does git and nothing else" >&2; exit 126 ;;
esac
eval "exec $SSH_ORIGINAL_COMMAND"
"""

CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowTcpForwarding no
X11Forwarding no
PrintMotd no
LogLevel VERBOSE
"""


class SshGit:
    """sshd with a host key and one account's key of its own, on loopback."""

    def __init__(self, folder):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        for name in ("host_key", "key", "other_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f",
                            f"{self.folder}/{name}"], check=True)
        with open(f"{self.folder}/forced", "w") as f:
            f.write(FORCED.format(folder=self.folder))
        os.chmod(f"{self.folder}/forced", 0o755)
        with open(f"{self.folder}/key.pub") as k, open(f"{self.folder}/authorized_keys", "w") as f:
            f.write(f'command="{self.folder}/forced",restrict {k.read()}')
        self.user = getpass.getuser()
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.process = None
        self.start()

    @staticmethod
    def missing():
        for name, package in (("sshd", "openssh-server"), ("ssh-keygen", "openssh-client")):
            if not shutil.which(name, path=ENV["PATH"]):
                return f"{name} is missing (package {package})"
        return None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def host_key(self):
        with open(f"{self.folder}/host_key.pub") as f:
            return " ".join(f.read().split()[:2])

    def path(self, name):
        return f"{self.folder}/{name}.git"

    def url(self, name):
        return f"{self.user}@{SSH_HOST}:{name}.git"

    def start(self):
        with open(f"{self.folder}/sshd_config", "w") as f:
            f.write(CONFIG.format(port=self.port, folder=self.folder))
        sshd = shutil.which("sshd", path=ENV["PATH"])
        argv = [sshd, "-D", "-e", "-f", f"{self.folder}/sshd_config"]
        if os.geteuid() == 0 and not os.path.isdir("/run/sshd"):
            # The folder that it separates its privileges in, for its own eyes.
            argv = ["unshare", "--mount", "sh", "-c",
                    'mount -t tmpfs none /run && mkdir -m 755 /run/sshd && exec "$@"', "sh", *argv]
        argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        self.log = open(f"{self.folder}/sshd.log", "ab")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
                                        env={"PATH": ENV["PATH"]})

        def answers():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as s:
                return s.recv(4) == b"SSH-"
        assert bottle.wait_until(answers, 10), open(f"{self.folder}/sshd.log").read()

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.log.close()
        self.process = None

    def asked(self):
        """The commands that came, in order."""
        with contextlib.suppress(FileNotFoundError), open(f"{self.folder}/asked") as f:
            return f.read().splitlines()
        return []

    def receives(self):
        return [c for c in self.asked() if "receive-pack" in c]

    def connections(self):
        with open(f"{self.folder}/sshd.log", errors="replace") as f:
            return f.read().count("Connection from ")

    def fail(self, words):
        """Every command fails with these words. None: no more."""
        if words is None:
            os.unlink(f"{self.folder}/broken")
        else:
            with open(f"{self.folder}/broken", "w") as f:
                f.write(words + "\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


# --- the host's own repository ---

def make_workspace(path):
    """A repository as people have it: staged and unstaged changes, untracked secrets, a hook, a stash."""
    os.makedirs(path, exist_ok=True)
    git("init", "-q", "-b", "main", ".", cwd=path)
    for name, text in {"README.md": "mine\n", "src/a.c": "int a;\n", ".gitignore": ".env\n"}.items():
        os.makedirs(os.path.dirname(f"{path}/{name}") or path, exist_ok=True)
        with open(f"{path}/{name}", "w") as f:
            f.write(text)
    git("add", ".", cwd=path)
    git("commit", "-qm", "first", cwd=path)
    git("branch", "feature", cwd=path)
    git("tag", "v1", cwd=path)
    with open(f"{path}/src/a.c", "a") as f:
        f.write("int unstaged;\n")
    git("stash", cwd=path)
    with open(f"{path}/staged.c", "w") as f:
        f.write("int staged;\n")
    git("add", "staged.c", cwd=path)
    with open(f"{path}/src/a.c", "a") as f:
        f.write("int work;\n")
    with open(f"{path}/.env", "w") as f:
        f.write(f"PASSWORD={SECRET}\n")
    with open(f"{path}/notes.txt", "w") as f:
        f.write("untracked and private\n")
    # Everything that a push into this repository could set off.
    for name in ("pre-receive", "update", "post-receive", "post-update", "reference-transaction",
                 "post-checkout", "push-to-checkout", "proc-receive"):
        with open(f"{path}/.git/hooks/{name}", "w") as f:
            f.write(f"#!/bin/sh\ntouch '{path}.hook-ran'\n")
        os.chmod(f"{path}/.git/hooks/{name}", 0o755)
    git("config", "core.fsmonitor", f"touch '{path}.fsmonitor-ran'; false", cwd=path)
    return path


# Of a push only these may be new: the objects, and the branches of the bottles.
MAY_CHANGE = (".git/objects/", ".git/refs/heads/bottle/", ".git/logs/refs/heads/bottle/")


def fingerprint(path):
    """{name: (mode, content's hash, time)} of everything of the repository that no push may touch."""
    out = {}
    for top, folders, files in os.walk(path):
        for name in folders + files:
            full = os.path.join(top, name)
            short = os.path.relpath(full, path)
            if (short + "/").startswith(MAY_CHANGE):
                continue
            st = os.lstat(full)
            if os.path.islink(full):
                content = os.readlink(full)
            elif os.path.isdir(full):
                out[short] = (st.st_mode, st.st_uid)
                continue
            else:
                with open(full, "rb") as f:
                    content = hashlib.sha256(f.read()).hexdigest()
            out[short] = (st.st_mode, st.st_uid, content, st.st_mtime_ns)
    return out


# --- manifests ---

def https_remote(name, https, path=None, **more):
    out = {"name": name, "upstream": f"https://{HTTPS_HOST}/{path or 'team/' + name}.git",
           "token_ref": "env:CB_GIT_TOKEN", "branches": ["**"], "tags": ["v*"], "protected": ["release/*"]}
    out.update(more)
    return {k: v for k, v in out.items() if v is not None}


def ssh_remote(name, ssh, path=None, **more):
    out = {"name": name, "upstream": ssh.url(path or "team/" + name), "key": f"file:{ssh.folder}/key",
           "known_host_key": ssh.host_key, "branches": ["**"], "tags": ["v*"]}
    out.update(more)
    return {k: v for k, v in out.items() if v is not None}


def resolve_of(https=None, ssh=None):
    out = {}
    if https:
        out[HTTPS_HOST] = https.address
    if ssh:
        out[SSH_HOST] = ssh.address
    return out


# --- a bottle that stays ---

PRELUDE = """
set -eu
export GIT_TERMINAL_PROMPT=0
cd "$(mktemp -d)"
clone() { git clone -q "$@" repo && cd repo; }
commit() { git add -A . && git commit -qm "${1:-change}"; }
"""


class World:
    """A home with the bottle "box", what its git remotes lead to, and the bottle running in it."""

    def __init__(self, home, https, ssh):
        self.home, self.https, self.ssh = home, https, ssh
        self.running = None

    def configure(self, authority, remotes, user=("Agent", "agent@example.test"), **more):
        self.home.secrets["CB_GIT_TOKEN"] = TOKEN
        section = {"remotes": list(remotes)} if remotes else {}
        if user:
            section["user"] = {"name": user[0], "email": user[1], "enforce": False}
        section.update(more.pop("git", {}))
        self.home.write_bottle("box", resolve=resolve_of(self.https, self.ssh), ca=authority.path,
                               git=section, **more)
        self.home.write_agent("worker", "box")

    def start(self):
        self.running = self.home.background("sleep", "3600")
        # A clone is made before the agent's command begins.
        agent = 'test -z "${CLAUDE_BOTTLE_WORKSPACE:-}" || test -e "$CLAUDE_BOTTLE_WORKSPACE"'
        assert bottle.wait_until(lambda: self.running.exec("sh", "-c", agent).returncode == 0, 30), \
            self.home.logs_of_all()
        return self

    @property
    def slug(self):
        return self.running.slug

    def sh(self, script, check=True, timeout=90, input=None, env=None):
        """Runs a script in the bottle, in a new folder of /tmp."""
        words = "".join(f"export {k}={quote(v)}\n" for k, v in (env or {}).items())
        r = self.running.exec("bash", "-c", PRELUDE + words + script, timeout=timeout, input=input)
        if check:
            assert r.returncode == 0, f"status {r.returncode}\n{r.stdout}\n{r.stderr}\n" \
                f"{self.home.logs_of_all()}"
        return r

    def close(self):
        if self.running:
            self.running.stop()
        self.home.remove()

    @contextlib.contextmanager
    def nothing_pushed(self, *repos):
        """What is done meanwhile reaches no upstream's push service, and moves none of these."""
        before = [refs(r) for r in repos]
        https, ssh = len(self.https.receives()) if self.https else 0, len(self.ssh.receives()) \
            if self.ssh else 0
        yield
        if self.https:
            assert self.https.receives()[https:] == []
        if self.ssh:
            assert self.ssh.receives()[ssh:] == []
        assert [refs(r) for r in repos] == before

    def records(self, **wanted):
        return [r for r in self.home.records(self.slug)
                if all(r.get(k) == v for k, v in wanted.items())]


def quote(text):
    return "'" + text.replace("'", "'\\''") + "'"


def inflate(seen):
    return gzip.decompress(seen.body) if seen.header("content-encoding") == "gzip" else seen.body


def unquote_path(seen):
    return urllib.parse.unquote(urllib.parse.urlsplit(seen.path).path)

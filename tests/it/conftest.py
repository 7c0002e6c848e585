"""Fixtures of the integration tests. A test that cannot run here is skipped, and says why."""
import os
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

pytest.register_assert_rewrite("claude", "git_world", "session")

import bottle as bottle_module  # noqa: E402
import engine as engine_module  # noqa: E402
import git_world  # noqa: E402
import images  # noqa: E402
import session as session_module  # noqa: E402
import standin  # noqa: E402

# A shell that runs this in the background ignores these for all its children, and so would the
# commands under test, rightly: a caller that ignores a signal wants it ignored.
for _signal in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.default_int_handler if _signal == signal.SIGINT else signal.SIG_DFL)


def pytest_configure(config):
    config.addinivalue_line("markers", "engine: starts a Docker engine, or uses the one that tests share")
    config.addinivalue_line("markers", "one_backend: takes long, and what it tests lies within the bundle, "
                                       "which is the same on each: natively only")


def pytest_collection_modifyitems(items):
    """Marks what needs an engine. Two engines' starts and ends disturb each other's firewall rules, so
    only one run of the tests at a time may have those; the others may run beside it."""
    for item in list(items):
        values = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if "docker" in values and item.get_closest_marker("one_backend"):
            items.remove(item)
            continue
        if "docker" in values or {"engine", "make_engine", "image_of"} & set(item.fixturenames):
            item.add_marker("engine")


def pytest_sessionstart(session):
    if "npm_config_registry" not in os.environ and shutil.which("npm"):
        r = subprocess.run(["npm", "config", "get", "registry"], capture_output=True, text=True,
                           stdin=subprocess.DEVNULL, timeout=60)
        if r.returncode == 0 and r.stdout.strip().startswith("http"):
            os.environ["npm_config_registry"] = r.stdout.strip()
    if not os.access(bottle_module.executable(), os.X_OK):
        pytest.exit(f"{bottle_module.executable()} is not built: run make", 3)


@pytest.fixture(scope="session")
def scratch():
    """A short path that an ordinary user may pass through: unix sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="cb-it-", dir="/tmp", ignore_cleanup_errors=True) as d:
        os.chmod(d, 0o711)
        yield d


@pytest.fixture(scope="session")
def rule_cache(scratch):
    """One cache of compiled rules for all homes of this run."""
    path = f"{scratch}/cache"
    os.makedirs(path, mode=0o700)
    return path


@pytest.fixture(scope="session")
def authority(scratch):
    a = standin.Authority(f"{scratch}/ca")
    os.chmod(a.path, 0o644)
    os.chmod(a.folder, 0o755)
    return a


@pytest.fixture
def upstream(authority):
    """api.example.test, which is allowed in the homes below, and stand-ins for its neighbours."""
    with standin.Upstream(authority, ["api.example.test", "other.example.test", "evil.example.test"],
                          stem="upstream") as u:
        yield u


@pytest.fixture
def stub(authority):
    """A stand-in of api.anthropic.com that streams its answers."""
    with standin.MessagesStub(authority, ["api.anthropic.com"], pause_ms=120) as s:
        yield s


@pytest.fixture
def backend():
    """Whose bottles a home has. A module that runs on several overrides it with parameters."""
    return "native"


@pytest.fixture
def make_home(request, scratch, rule_cache, backend):
    """make_home(uid=None, engine=None): a scratch home; all of them are stopped, cleaned and removed at
    the end. On the docker backend they share the session's engine unless they are given another."""
    made = []
    shared = None
    if backend in bottle_module.VIRTUAL:
        why = bottle_module.missing(backend)
        if why:
            pytest.skip(why)
    if backend == "docker":
        assert request.node.get_closest_marker("engine"), "the test needs an engine, and is not marked so"
        shared = request.getfixturevalue("engine")
        request.getfixturevalue("image_of")("shell")

    def make(uid=None, engine=None):
        engine = engine or shared
        folder = tempfile.mkdtemp(prefix="h", dir=scratch)
        ours = images.cache() if backend in bottle_module.VIRTUAL else rule_cache
        cache = ours if uid is None else f"{folder}/.cache"
        home = bottle_module.Home(folder, uid=uid, cache=cache, docker_host=engine.host if engine else None,
                                  backend=None if engine else backend)
        made.append(home)
        return home

    yield make
    for home in made:
        home.remove()


@pytest.fixture
def home(make_home, upstream, authority):
    """A home with the agent "worker" in the bottle "box": one allowed host, no credential."""
    h = make_home()
    h.write_bottle("box", routes=[bottle_module.route("api.example.test", paths=["/**"])],
                   resolve={"api.example.test": upstream.address}, ca=authority.path)
    h.write_agent("worker", "box")
    return h


@pytest.fixture
def supervised(make_home, upstream, authority):
    """(home, docs): the same with a human to be asked, and docs.example.test, a host that is there and that
    nobody has allowed."""
    with standin.Upstream(authority, ["docs.example.test"], stem="docs") as docs:
        h = make_home()
        h.write_bottle("box", routes=[bottle_module.route("api.example.test")], supervise=True, ca=authority.path,
                       resolve={"api.example.test": upstream.address, "docs.example.test": docs.address})
        h.write_agent("worker", "box")
        yield h, docs


@pytest.fixture
def closed(make_home):
    """A home whose bottle may reach nothing: no upstream is needed."""
    h = make_home()
    h.write_bottle("box")
    h.write_agent("worker", "box")
    return h


@pytest.fixture
def terminal():
    made = []

    def make(*args, **more):
        t = session_module.Terminal(*args, **more)
        made.append(t)
        return t

    yield make
    for t in made:
        t.close()


@pytest.fixture(scope="session")
def engine():
    """A private Docker engine that all tests share. Those that break one take make_engine."""
    why = engine_module.missing()
    if why:
        pytest.skip(why)
    with engine_module.Engine() as e:
        yield e


@pytest.fixture(scope="session")
def image_of(engine, scratch, rule_cache):
    """image_of("shell"): the reference of that provider's image, which the shared engine then has, and
    the bundle's too. Built at most once in a run, and kept for the next."""
    known = {}

    def of(provider):
        if provider not in known:
            images.load(engine, provider)
            home = bottle_module.Home(tempfile.mkdtemp(prefix="i", dir=scratch), cache=rule_cache,
                                      docker_host=engine.host)
            made = images.build(home, engine.host, provider)
            images.save(engine, provider, [made[k] for k in made if k == provider or k in images.BELOW])
            known.update(made)
        return known[provider]

    return of


@pytest.fixture(scope="session")
def claude_image(image_of):
    """The reference of Claude Code's image."""
    try:
        return image_of("claude")
    except AssertionError as e:
        text = str(e)
        if any(x in text for x in ("Could not resolve", "Failed to connect", "timed out", "curl: (")):
            pytest.skip("the image of Claude Code cannot be built, its registry is not reached: " +
                        text.strip()[-300:])
        raise


@pytest.fixture
def make_engine():
    """make_engine(…): an Engine of the test's own; the options are its constructor's."""
    why = engine_module.missing()
    if why:
        pytest.skip(why)
    made = []

    def make(**options):
        made.append(engine_module.Engine(**options))
        return made[-1]

    yield make
    for e in made:
        e.close()


@pytest.fixture(scope="module", params=["native", "docker"])
def git_backend(request):
    """Tests of git-gate run on both; a module may override it."""
    return request.param


@pytest.fixture(scope="module")
def https_git(git_backend, authority, scratch):
    """An upstream over https, of one backend's tests; it knows one token."""
    with git_world.HttpsGit(authority, tempfile.mkdtemp(prefix="u", dir=scratch)) as u:
        yield u


@pytest.fixture(scope="module")
def ssh_git(git_backend, scratch):
    why = git_world.SshGit.missing()
    if why:
        pytest.skip(why)
    with git_world.SshGit(tempfile.mkdtemp(prefix="s", dir=scratch)) as s:
        yield s


@pytest.fixture(scope="module")
def make_world(request, git_backend, scratch, rule_cache, authority, https_git, ssh_git):
    """make_world(remotes, …): a home whose bottle has these remotes. Not started yet."""
    made, host = [], None
    if git_backend == "docker":
        host = request.getfixturevalue("engine").host
        request.getfixturevalue("image_of")("shell")

    def make(remotes, **more):
        home = bottle_module.Home(tempfile.mkdtemp(prefix="g", dir=scratch), cache=rule_cache,
                                  docker_host=host)
        world = git_world.World(home, https_git, ssh_git)
        made.append(world)
        world.configure(authority, remotes, **more)
        return world

    yield make
    for world in made:
        world.close()


@pytest.fixture(scope="session")
def ordinary(scratch):
    """(uid, folder): an uid without powers, and a copy of this tree's tools and executables that it
    may read. The tree itself may lie where only root gets."""
    uid = os.geteuid()
    if uid == 0:
        uid = bottle_module.ordinary_uid()
        r = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups",
                            "unshare", "-Urn", "true"], capture_output=True, text=True)
        if r.returncode != 0:
            pytest.skip("an ordinary user may not make user namespaces here: " + r.stderr.strip())
    folder = f"{scratch}/tree"
    for part in ("tools", "tests/it", "tests/bench"):
        shutil.copytree(f"{bottle_module.ROOT}/{part}", f"{folder}/{part}",
                        ignore=shutil.ignore_patterns("__pycache__"))
    os.makedirs(f"{folder}/build")
    for name in ("claude-bottle", "claude-bottle-bundle"):
        shutil.copy(f"{bottle_module.build_folder()}/{name}", f"{folder}/build/{name}")
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
    return uid, folder


@pytest.fixture(scope="session")
def claude_code():
    """The folder of Claude Code's executable, installed once from npm into a cache."""
    cache = os.environ.get("CLAUDE_BOTTLE_TEST_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "claude-bottle-tests")
    folder = f"{cache}/claude-code/node_modules/@anthropic-ai/claude-code-linux-x64"
    if not os.access(f"{folder}/claude", os.X_OK):
        if not standin.have("npm"):
            pytest.skip("npm is missing (package npm): Claude Code cannot be installed")
        os.makedirs(f"{cache}/claude-code", exist_ok=True)
        r = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix",
                            f"{cache}/claude-code", "@anthropic-ai/claude-code@2.1.197"],
                           capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
        if not os.access(f"{folder}/claude", os.X_OK):
            pytest.skip("Claude Code could not be installed from npm: " + r.stderr.strip()[-200:])
    return folder

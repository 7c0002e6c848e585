"""Images, kept between runs. Those of the docker backend because a private engine begins empty, and making
them from Debian's archive takes a minute. What is kept is loaded by name, and the names are hashes of
what went in, so that what has changed since is built anew by `claude-bottle` itself.
"""
import json
import os
import sys

from engine import api

OURS = "claude-bottle/"
BELOW = ("base", "tools", "shell", "bundle")  # what an agent's image stands on, and runs beside


def folder():
    return os.environ.get("CLAUDE_BOTTLE_TEST_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "claude-bottle-tests")


def cache():
    """A cache of claude-bottle's own that is kept between runs: images and snapshots of microVMs lie there."""
    path = f"{folder()}/cache"
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def references_at(host):
    """{"claude-bottle/shell:0123": time it was made} of the engine's images that are ours."""
    out = {}
    for image in api(host, "GET", "/images/json")[1]:
        for tag in image.get("RepoTags") or []:
            if tag.startswith(OURS):
                out[tag] = image["Created"]
    return out


def references(engine):
    return references_at(engine.host)


def newest(tags):
    """Of each repository the last made: the older ones are of earlier inputs."""
    by_name = {}
    for tag, created in tags.items():
        name = tag.partition(":")[0]
        if name not in by_name or (created, tag) > by_name[name]:
            by_name[name] = (created, tag)
    return sorted(tag for _, tag in by_name.values())


def kept(provider):
    """Where that provider's images are kept, those that they stand on and the bundle's included."""
    return f"{folder()}/{provider}.tar", f"{folder()}/{provider}.json"


def load(engine, provider="shell"):
    """Loads what was kept. A cache that cannot be read is no reason to stop: all can be made."""
    tar, names = kept(provider)
    if os.path.exists(tar):
        r = engine.docker("load", "-q", "-i", tar, check=False, timeout=300)
        if r.returncode != 0:
            print(f"images: {tar} is not usable: {r.stderr.strip()}", file=sys.stderr)
            for name in (tar, names):
                if os.path.exists(name):
                    os.unlink(name)


def save(engine, provider="shell", used=None):
    """Keeps the engine's images if they are others than those that were loaded. used: the tags that
    this run needed; None: the newest of each name."""
    tar, names = kept(provider)
    now = references(engine)
    keep = sorted(t for t in used if t in now) if used else newest(now)
    try:
        with open(names) as f:
            if json.load(f) == keep:
                return
    except (OSError, ValueError):
        pass
    if not keep:
        return
    os.makedirs(folder(), exist_ok=True)
    r = engine.docker("save", "-o", f"{tar}.{os.getpid()}", *keep, check=False, timeout=300)
    if r.returncode != 0:
        print(f"images: not kept: {r.stderr.strip()}", file=sys.stderr)
        if os.path.exists(f"{tar}.{os.getpid()}"):
            os.unlink(f"{tar}.{os.getpid()}")
        return
    os.rename(f"{tar}.{os.getpid()}", tar)
    with open(names, "w") as f:
        json.dump(keep, f)


def copy(source, target, tags, folder):
    """Gives one engine what another has. The tar is kept in folder for the next."""
    tar = f"{folder}/{abs(hash(tuple(sorted(tags)))):x}.tar"
    if not os.path.exists(tar):
        source.docker("save", "-o", tar, *tags, timeout=300)
    target.docker("load", "-q", "-i", tar, timeout=300)


def build(home, engine_host, provider):
    """{"shell": reference, "bundle": …} after `claude-bottle image build`."""
    for what in ("bundle", provider):
        r = home.run("image", "build", what, timeout=900)
        if r.returncode != 0:
            raise AssertionError(f"image build {what}: {r.returncode}\n{r.stdout}\n{r.stderr}")
    tags = newest(references_at(engine_host))
    return {t.removeprefix(OURS).partition(":")[0]: t for t in tags}

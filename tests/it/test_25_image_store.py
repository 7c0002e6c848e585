"""The images of microVMs as `image` and `cleanup` see them, with no engine there. Files stand for images, and
a lock for a bottle that runs: nothing is made, and nothing boots."""
import contextlib
import fcntl
import json
import os

import pytest

import bottle

KEY, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4
DISK, SHELL = f"tar-{OTHER[:16]}-{KEY}.sqfs", f"shell-{OTHER}.tar"
NAME = "/home/u/\x1b[31mroot.tar"
STATE = f"{KEY[:32]}.{OTHER[:32]}.256m.1c.tcg.state"


@pytest.fixture
def home(tmp_path):
    return bottle.Home(tmp_path, cache=f"{tmp_path}/.cache")


@pytest.fixture
def store(home):
    """put(name, text) in a store that has an image, its snapshot, and the archive of another one."""
    folder = f"{home.cache}/claude-bottle/vm"
    os.makedirs(folder, mode=0o700)
    os.chmod(os.path.dirname(folder), 0o700)

    def put(name, text="x"):
        with open(f"{folder}/{name}", "w") as f:
            f.write(text)
        os.utime(f"{folder}/{name}", (1000000000, 1000000000))
        return f"{folder}/{name}"

    put.folder = folder
    put(DISK, "d" * 100000)
    put(f"tar-{OTHER[:16]}.name", NAME)
    put(STATE)
    put(SHELL)
    return put


@contextlib.contextmanager
def used(store, key):
    """As by the keeper of a bottle."""
    with open(f"{store.folder}/use.lock", "a+b") as f:
        bottle.lock_shared(f, int(key[:14], 16), 1)
        yield


def listed(home):
    return {x["id"]: x for x in json.loads(home.run("image", "list", "--json", check=True).stdout)}


def names(store):
    return set(os.listdir(store.folder)) - {"image.lock", "use.lock"}


def test_list(home, store):
    store("not-ours.sqfs")
    r = home.run("image", "list", "--json", check=True)
    assert len(r.stderr.splitlines()) == 1 and "the Docker engine" in r.stderr
    seen = listed(home)
    assert set(seen) == {DISK, STATE, SHELL}
    assert {seen[DISK][k] for k in ("reference", "kind", "store")} == {NAME, "squashfs", "machines"}
    assert seen[DISK]["size_bytes"] >= 100000 and seen[DISK]["last_used"] == "2001-09-09T01:46:40.000Z"
    assert (seen[STATE]["reference"], seen[STATE]["kind"]) == (NAME, "snapshot")
    assert (seen[SHELL]["reference"], seen[SHELL]["kind"]) == ("shell", "oci")
    with used(store, KEY):
        assert [listed(home)[x]["used"] for x in (DISK, STATE, SHELL)] == [True, True, False]
        text = home.run("image", "list", check=True).stdout
    assert "\x1b" not in text and "/home/u/\\x1b[31mroot.tar" in text
    assert text.count("in use") == 2 and text.splitlines()[0].split()[:3] == ["STORE", "KIND", "IMAGE"]


def test_an_empty_list_makes_nothing(home):
    r = home.run("image", "list", check=True)
    assert r.stdout == "" and "no image of ours is there" in r.stderr
    assert json.loads(home.run("image", "list", "--json", check=True).stdout) == []
    assert home.run("cleanup", check=True).stderr.endswith("nothing is left over\n")
    assert not os.path.exists(f"{home.cache}/claude-bottle/vm")


def test_remove_one(home, store):
    with used(store, KEY):
        before = names(store)
        r = home.run("image", "remove", NAME)
        assert r.returncode == 1 and r.stdout == ""
        assert f'"{DISK}" is used by a bottle that runs or starts' in r.stderr
        home.run("image", "remove", "--all", check=True)
        assert names(store) == before - {SHELL}
    store(SHELL)
    r = home.run("image", "remove", NAME, "no\x1bne")
    assert r.returncode == 1 and 'no image is called "no\\x1bne"' in r.stderr and "\x1b" not in r.stdout
    assert sorted(line.split(" (")[1].split(",")[0] for line in r.stdout.splitlines()) == ["snapshot", "squashfs"]
    assert names(store) == {SHELL}
    r = home.run("image", "remove", SHELL, "--json", check=True)
    assert [(x["id"], x["removed"]) for x in json.loads(r.stdout)] == [(SHELL, True)]
    assert names(store) == set()


def test_remove_with_its_image_the_snapshot(home, store):
    home.run("image", "remove", DISK, check=True)
    assert names(store) == {SHELL}


def test_remove_what_no_start_would_use(home, store):
    """The archive that the image was made of is gone, and this "shell" is of no program's here."""
    home.run("image", "remove", check=True)
    assert names(store) == set()
    assert home.run("image", "remove", check=True).stderr.endswith("nothing to remove\n")
    # One that only an engine could tell of.
    store(f"engine-{OTHER[:16]}-{KEY}.sqfs")
    home.run("image", "remove", check=True)
    assert names(store) == {f"engine-{OTHER[:16]}-{KEY}.sqfs"}
    r = home.run("image", "remove", "x", "--all")
    assert r.returncode == 2 and "takes names, or --all" in r.stderr


def test_not_while_one_is_made(home, store):
    making = store("making")
    before = names(store)
    with open(f"{store.folder}/image.lock", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        r = home.run("image", "remove", "shell")
        assert r.returncode == 1 and "one is being made just now" in r.stderr
        r = home.run("cleanup", check=True)
        assert r.stdout == "" and names(store) == before
    r = home.run("cleanup", "--dry-run", check=True)
    assert r.stdout == "would remove 1 half-made object of the images of machines\n" and os.path.exists(making)
    os.makedirs(f"{store.folder}/fetching/usr")
    r = home.run("cleanup", "--json", check=True)
    assert json.loads(r.stdout) == [{"slug": None, "images": "machines", "objects": 2, "removed": True}]
    assert names(store) == before - {"making"}


def test_a_store_that_leads_elsewhere(home, store):
    os.rename(store.folder, f"{home.folder}/elsewhere")
    os.symlink(f"{home.folder}/elsewhere", store.folder)
    for args in (["image", "list"], ["image", "remove", "--all"], ["cleanup"]):
        r = home.run(*args)
        assert r.returncode == 1, r.stderr
        assert f'the cache folder "{store.folder}", which is to be a folder and no link to one' in r.stderr
    assert {DISK, SHELL, STATE} <= set(os.listdir(f"{home.folder}/elsewhere"))

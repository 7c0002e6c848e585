"""What the tests of the docker backend's failures and of its wall look at: an agent's image that has
one small program, the objects of an engine that are ours, what a bottle has left on the host, and the
lines that were said."""
import fcntl
import os
import re
import subprocess

import bottle
import engine as engine_module

SLUG = "claude-bottle.slug"
STATE = "claude-bottle.state"
ROLE = "claude-bottle.role"
TINY = "tiny.test/tiny:1"

# What an agent is where it need not do much: it waits, tells, leaves a file, or keeps the keeper's
# pipes open while it counts in its home.
PROGRAM = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "wait";

	if (strcmp(what, "wait") == 0)
		for (;;)
			pause();
	if (strcmp(what, "count") == 0) {
		int fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND, 0644);

		for (;;) {
			if (write(fd, ".", 1) != 1)
				return 2;
			usleep(10000);
		}
	}
	if (strcmp(what, "fill") == 0) {
		static char block[1 << 20];
		int fd = open(argv[2], O_WRONLY | O_CREAT, 0644);

		memset(block, 7, sizeof(block));
		while (write(fd, block, sizeof(block)) > 0)
			;
		perror("tiny: fill");
		return 3;
	}
	puts(argc > 2 ? argv[2] : "tiny");
	return 0;
}
"""


def make_tiny(folder):
    """The tar of the image."""
    os.makedirs(f"{folder}/root", exist_ok=True)
    with open(f"{folder}/tiny.c", "w") as f:
        f.write(PROGRAM)
    subprocess.run(["gcc", "-static", "-O1", "-o", f"{folder}/root/tiny", f"{folder}/tiny.c"], check=True)
    subprocess.run(["tar", "-C", f"{folder}/root", "-cf", f"{folder}/tiny.tar", "tiny"], check=True)
    return f"{folder}/tiny.tar"


# --- in the engine ---

def ours(engine, state_root=None):
    """{"container NAME" or "network NAME": its labels} that bottles made."""
    found = {"container " + c["Names"][0].lstrip("/"): c["Labels"] for c in engine.containers()}
    found.update({"network " + n["Name"]: n["Labels"] or {} for n in engine.networks()})
    return {name: labels for name, labels in found.items() if SLUG in labels and
            (state_root is None or labels[STATE].startswith(state_root + "/"))}


def pid_of(engine, name):
    """Of a container's first process, 0 when it does not run."""
    status, found = engine.api("GET", f"/containers/{name}/json")
    return found["State"]["Pid"] if status == 200 else 0


def pids_in(engine, name):
    first = pid_of(engine, name)
    return sorted(engine_module.with_descendants([first])) if first else []


def background(home, *command, **more):
    """As home.background(). Several engines on one host are in each other's way: while one of them
    puts its rules in front of those of others, another may find them missing, and says so."""
    for left in (2, 1, 0):
        try:
            return home.background(*command, **more)
        except AssertionError as e:
            if not left or "iptables failed" not in str(e):
                raise
            home.run("cleanup")


# --- on the host ---

def slug_folders(home):
    return sorted(os.listdir(home.state)) if os.path.isdir(home.state) else []


def keeper_tree(slug):
    """{pid: command} of the processes on the host that carry the bottle's slug."""
    return dict(bottle.processes_that_mention(f"CLAUDE_BOTTLE_SLUG={slug}"))


def is_kept(home, slug):
    """Whether a keeper holds the bottle's lock."""
    try:
        with open(f"{home.state}/{slug}/lock") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True


def left_on_host(home):
    """In words: what a bottle that has ended may not have left."""
    out = []
    for slug in slug_folders(home):
        if os.path.exists(f"{home.state}/{slug}/docker"):
            out.append(f"{slug}/docker")
        if slug in bottle.mounts():
            out.append(f"a mount of {slug}")
        for pid, argv in keeper_tree(slug).items():
            if bottle.is_alive(pid):
                out.append(f"process {pid} {argv}")
    return out


# --- what was said ---

PASSING = re.compile(r"claude-bottle: (backend \w+: |image |pull |the log of this start: )")


def said(text):
    """The lines on standard error without those that every start has."""
    if isinstance(text, bytes):
        text = text.decode()
    return [line for line in text.splitlines() if line and not PASSING.match(line)]


def one_line(r):
    """The one line that a command which failed said why."""
    lines = said(r.stderr)
    assert r.returncode != 0, r
    assert len(lines) == 1 and lines[0].startswith("claude-bottle: "), r.stderr
    return lines[0].removeprefix("claude-bottle: ")

"""A folder of the human's for `workspace: mount`: a repository, and git in it as the human runs it, hooks
and all."""
import os
import subprocess


def git(folder, *args, check=True, env=None):
    r = subprocess.run(["git", "-c", "user.name=H", "-c", "user.email=h@example.test", "-c",
                        "init.defaultBranch=main", "-c", "safe.directory=*", "-C", folder, *args],
                       capture_output=True, text=True, env=env)
    assert not check or r.returncode == 0, r.stderr
    return r.stdout


def write(path, text="x\n", mode=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    if mode:
        os.chmod(path, mode)


def make_repository(folder):
    os.makedirs(folder, exist_ok=True)
    git(folder, "init", "-q")
    write(f"{folder}/README.md", "hello\n")
    write(f"{folder}/Makefile", "all:\n\ttrue\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")

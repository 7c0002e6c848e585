"""git over HTTPS, through the bottle, against git's own http-backend."""
import os
import subprocess

import bottle
import pytest
import standin


@pytest.fixture(params=["native", "docker"])
def backend(request):
    return request.param


@pytest.fixture
def git_upstream(authority, tmp_path):
    if not os.access(standin.GitUpstream.backend(), os.X_OK):
        pytest.skip("git-http-backend is missing (package git)")
    work, bare = tmp_path / "work", tmp_path / "served" / "project.git"
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@example.test"]
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}

    def run(*argv, cwd=None):
        subprocess.run(argv, check=True, cwd=cwd, env=env, capture_output=True)
    run("git", "init", "-q", "-b", "main", str(work))
    for i in range(20):
        (work / f"file{i}.txt").write_text(f"line of file {i}\n" * 200)
    run("git", "add", ".", cwd=work)
    run(*git, "commit", "-qm", "first", cwd=work)
    (tmp_path / "served").mkdir()
    run("git", "clone", "-q", "--bare", str(work), str(bare))
    run("git", "-C", str(bare), "config", "http.receivepack", "true")
    with standin.GitUpstream(authority, ["git.example.test"], tmp_path / "served", stem="git") as u:
        yield u


def test_clone_and_fetch(make_home, git_upstream, authority):
    home = make_home()
    home.write_bottle("box", routes=[bottle.route("git.example.test", paths=["/**"])],
                      resolve={"git.example.test": git_upstream.address}, ca=authority.path)
    home.write_agent()
    script = """
set -e
cd /tmp
git clone -q https://git.example.test/project.git p
cd p
git log --oneline | wc -l
wc -l < file7.txt
git fetch -q && git ls-remote origin | grep -c refs/heads/main
"""
    r = home.start("sh", "-c", script, timeout=60)
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    assert r.stdout.split() == ["1", "200", "1"]
    assert any("git-upload-pack" in x.path for x in git_upstream.requests)


def test_no_route_allows_a_push(make_home, git_upstream, authority):
    """Pushes go through git-gate; past it there is no way, though this route allows everything."""
    home = make_home()
    home.write_bottle("box", routes=[bottle.route("git.example.test", paths=["/**"])],
                      resolve={"git.example.test": git_upstream.address}, ca=authority.path)
    home.write_agent()
    script = """
cd /tmp
git clone -q https://git.example.test/project.git p && cd p || exit 9
echo more >> file0.txt
git -c user.name=a -c user.email=a@b commit -qam second
git push -q origin HEAD:main && echo PUSHED
for service in git-receive-pack git%2dreceive-pack; do
    curl -s "https://git.example.test/project.git/info/refs?service=$service"
done
curl -s --data-binary 0000 https://git.example.test/project.git/git-receive-pack
true
"""
    r = home.start("sh", "-c", script, timeout=60)
    assert r.returncode == 0 and "PUSHED" not in r.stdout, r.stdout + r.stderr
    assert r.stdout.count('"reason":"git-push"') == 3, r.stdout
    assert "git-gate forwards it after its scan" in r.stdout
    assert not any("receive" in x.path for x in git_upstream.requests)
    refused = [x for x in home.records() if x["reason"] == "git-push"]
    assert len(refused) == 4, home.records()

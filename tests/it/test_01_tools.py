"""The tools that judge the tree must be able to say no."""
import importlib.machinery
import importlib.util
import os
import shutil
import socket
import subprocess

import bottle
import pytest

ROOT = bottle.ROOT


def load(name):
    loader = importlib.machinery.SourceFileLoader(name, f"{ROOT}/tools/{name}")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def small_tree(tmp_path):
    """A tree with one clean file, in which tools/lint runs."""
    for d in ("tools", "src/egress", "src/base", "tests"):
        (tmp_path / d).mkdir(parents=True)
    shutil.copy(f"{ROOT}/tools/lint", tmp_path / "tools/lint")
    shutil.copy(f"{ROOT}/.clang-format", tmp_path / ".clang-format")
    (tmp_path / "src/egress/clean.c").write_text(
        '/* strcpy(a, b) in a comment is no call */\nconst char *text = "sprintf(x)";\n')
    return tmp_path


def lint(tree, build):
    return subprocess.run(["/usr/bin/python3", str(tree / "tools/lint"), "--quick", "--build", str(build)],
                          capture_output=True, text=True, timeout=60)


def test_lint(small_tree):
    build = bottle.build_folder()
    assert lint(small_tree, build).returncode == 0, lint(small_tree, build).stdout
    for name, text, finding in (
            ("src/egress/a.c", "void f(char *a, char *b)\n{\n\tstrcpy(a, b);\n}\n", "strcpy()"),
            ("src/egress/b.c", "void f(void)\n{\n\tsystem(\"x\");\n}\n", "system()"),
            ("src/egress/c.c", "int f(void)\n{\n\treturn getaddrinfo(0, 0, 0, 0);\n}\n", "c-ares"),
            ("src/egress/d.c", "int  f( void ) { return 1; }\n", "layout"),
            ("src/egress/e.c", "int f;\n" * 700, "longer than")):
        (small_tree / name).write_text(text)
        r = lint(small_tree, build)
        assert r.returncode == 1 and finding in r.stdout, (name, r.stdout)
        (small_tree / name).unlink()
    (small_tree / "src/base/a.c").write_text("void f(char *a, char *b)\n{\n\tstrcpy(a, b);\n}\n")
    assert lint(small_tree, build).returncode == 0


def test_lint_sees_what_the_host_command_links(small_tree, tmp_path):
    build = tmp_path / "build"
    build.mkdir()
    source = tmp_path / "x.c"
    source.write_text("int SSL_new(void); int main(void) { return SSL_new(); }\nint SSL_new(void) { return 0; }\n")
    subprocess.run(["gcc", "-o", str(build / "claude-bottle"), str(source)], check=True)
    source.unlink()
    r = lint(small_tree, build)
    assert r.returncode == 1 and "SSL_new" in r.stdout


def test_bootstrap_as_ordinary_user(tmp_path):
    """One line that names the package and the command; status 1. With nothing missing, status 0."""
    fake = tmp_path / "bin"
    fake.mkdir()
    tmp_path.chmod(0o755)
    for name, text in (("dpkg-query", '#!/bin/sh\n[ "$3" = wrk ] && exit 1\necho -n installed\n'),
                       ("id", "#!/bin/sh\necho 1000\n")):
        (fake / name).write_text(text)
        (fake / name).chmod(0o755)
    env = {"PATH": f"{fake}:/usr/bin:/bin:/usr/sbin:/sbin"}

    def run(*groups):
        return subprocess.run([f"{ROOT}/tools/bootstrap", *groups], env=env, capture_output=True,
                              text=True, timeout=30, stdin=subprocess.DEVNULL)
    r = run("bench")
    assert r.returncode == 1 and len(r.stderr.splitlines()) == 1
    assert "apt-get install" in r.stderr and r.stderr.rstrip().endswith("wrk")
    assert run("fuzz").returncode == 0
    assert run("no-such-group").returncode == 2
    (fake / "dpkg").write_text("#!/bin/sh\necho arm64\n")
    (fake / "dpkg").chmod(0o755)
    listed = run("--list", "vm").stdout.split()
    assert {"qemu-system-arm", "linux-image-cloud-arm64"} <= set(listed) and not [p for p in listed if ":" in p]


def test_sum_of_cmocka():
    check = load("check")
    text = """[==========] Running 4 test(s).
[ RUN      ] test_a
[       OK ] test_a
[ RUN      ] test_b
[  ERROR   ] --- 1 != 2
[   LINE   ] --- x.c:1: error: Failure!
[  FAILED  ] test_b
[ RUN      ] test_c
[  SKIPPED ] test_c
[ RUN      ] test_d
[       OK ] test_d
"""
    assert check.count_cmocka(text) == (2, 1, 1, ["test_c"])
    assert check.count_cmocka("no such thing") is None


def test_fuzz_table_is_complete():
    """Every line of the table has its harness and seeds, and every harness its line."""
    text = open(f"{ROOT}/tests/fuzz/meson.build").read()
    import re
    table = set(re.findall(r"^  '(\w+)': '\w+',$", text, re.M))
    sources = {f[5:-2] for f in os.listdir(f"{ROOT}/tests/fuzz")
               if f.startswith("fuzz_") and f.endswith(".c")}
    assert table == sources
    for name in table:
        assert os.listdir(f"{ROOT}/tests/fuzz/corpus/{name}"), name


def test_no_skip_without_reason():
    """pytest.skip() is always given what is missing."""
    import re
    for name in sorted(os.listdir(f"{ROOT}/tests/it")):
        if name.endswith(".py") and name != os.path.basename(__file__):
            text = open(f"{ROOT}/tests/it/{name}").read()
            assert not re.search(r"skip\(\s*\)", text), name


@pytest.mark.parametrize("hosts, is_through", [
    ("127.0.0.1", True), ("127.0.0.1,192.0.2.77", True), ("192.0.2.77", False), ("127.0.0.1,127.0.0.2", False)],
    ids=["there", "one of them gone", "gone", "one of them deaf"])
def test_control_of_the_hosts_addresses(hosts, is_through):
    """A bridge that went away with its bottle while the suite ran is no wall."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        r = subprocess.run([f"{bottle.build_folder()}/claude-bottle-bundle", "probe", "mode=control", "only=N07",
                            f"any={s.getsockname()[1]}", f"hosts={hosts}"],
                           capture_output=True, text=True, timeout=60)
    fields = [line.split("\t") for line in r.stdout.splitlines()]
    assert [f[3] == "through" for f in fields if f[:2] == ["N07", "host-all"]] == [is_through], r.stdout

"""curl in a bottle: what is allowed works, in every shape of HTTP; what is not is stopped, and the
upstream is the witness."""
import hashlib
import json
import time

import bottle
import pytest
import standin


@pytest.fixture(params=["native", "docker"])
def backend(request):
    return request.param


def run(home, *args, timeout=60):
    return home.start("curl", "-sS", "--max-time", "30", *args, timeout=timeout)


def test_allowed_call_arrives(home, upstream):
    r = run(home, "https://api.example.test/json?n=3")
    assert r.returncode == 0, r.stderr + home.logs_of_all()
    assert json.loads(r.stdout) == {"ok": True, "items": [0, 1, 2]}
    seen = upstream.requests[-1]
    assert (seen.method, seen.path, seen.host, seen.sni) == \
        ("GET", "/json?n=3", "api.example.test", "api.example.test")
    records = [x for x in home.records() if x.get("host") == "api.example.test"]
    assert any(x["verdict"] == "allow" and x["method"] == "GET" and x["path"] == "/json"
               for x in records), records
    assert "n=3" not in json.dumps(records), "a record holds a query string"


def test_exit_status_is_the_commands_own(home):
    assert home.start("sh", "-c", "exit 37").returncode == 37
    assert home.start("sh", "-c", "kill -TERM $$").returncode == 128 + 15


def test_standard_streams_are_kept_apart(home):
    r = home.start("sh", "-c", "echo out; echo err >&2")
    assert r.stdout.splitlines()[-1] == "out"
    assert "err" in r.stderr and "err" not in r.stdout


def test_host_that_is_not_allowed(home, upstream, authority):
    # The stand-in would answer for this name: only the policy is in the way.
    home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"])],
                      resolve={"api.example.test": upstream.address,
                               "evil.example.test": upstream.address}, ca=authority.path)
    r = run(home, "-i", "https://evil.example.test/json")
    assert r.returncode != 0
    assert upstream.connections == 0
    refused = [x for x in home.records() if x["verdict"] == "block"]
    assert refused and refused[-1]["host"] == "evil.example.test"
    assert refused[-1]["reason"] == "host-not-allowed"
    # control: with a route the same call arrives
    home.write_bottle("box", routes=[bottle.route("evil.example.test", paths=["/**"])],
                      resolve={"evil.example.test": upstream.address}, ca=authority.path)
    assert run(home, "https://evil.example.test/json").returncode == 0
    assert upstream.connections == 1


def test_refusal_says_why(home, upstream):
    r = run(home, "-i", "-X", "DELETE", "https://api.example.test/json")
    head, _, body = r.stdout.replace("\r\n", "\n").rpartition("\n\n")
    assert " 403" in head, (r.returncode, r.stdout, r.stderr, home.records())
    said = json.loads(body)
    assert said["blocked"] is True and said["reason"] and said["hint"] and said["record"], said
    assert not upstream.requests
    assert any(x.get("id") == said["record"] or x.get("record") == said["record"]
               for x in home.records()), (said, home.records())


def test_shapes_of_bodies(home, upstream):
    script = """
set -e
B=https://api.example.test
curl -sS $B/chunked | tail -1
curl -sS --compressed $B/gzip; echo
curl -sS -H 'Accept-Encoding: gzip' $B/gzip | gzip -dc; echo
curl -sS $B/close
curl -sS -d name=value $B/upload; echo
curl -sS -H 'Transfer-Encoding: chunked' -d 0123456789 $B/upload; echo
head -c 1500000 /dev/zero | tr '\\0' a > /tmp/big
curl -sS -H 'Expect: 100-continue' --data-binary @/tmp/big $B/upload; echo
curl -sS -I $B/json | head -1
curl -sS -o /dev/null -w '%{http_code}\\n' "$B/status?code=503"
curl -sS $B/text $B/text $B/text | wc -c
"""
    r = home.start("sh", "-c", script, timeout=90)
    assert r.returncode == 0, r.stdout + r.stderr + home.logs_of_all()
    lines = r.stdout.replace("\r", "").splitlines()[-10:]
    assert lines[0] == "piece 7"
    assert lines[1].startswith('{"packed":true}') and lines[2].startswith('{"packed":true}')
    assert lines[3] == "until the end"
    assert lines[4:7] == ['{"bytes": 10}', '{"bytes": 10}', '{"bytes": 1500000}']
    assert lines[7].startswith("HTTP/1.1 200") and lines[8] == "503" and lines[9] == "3072"


def test_large_download_is_intact(home):
    size = 20 << 20
    r = home.start("sh", "-c", f"curl -sS 'https://api.example.test/big?bytes={size}' | sha256sum",
                   timeout=90)
    piece = bytes(range(256)) * 256
    assert r.stdout.split()[0] == hashlib.sha256(piece * (size // len(piece))).hexdigest(), r.stderr


def test_events_arrive_as_they_are_sent(home):
    script = ("curl -sS -N 'https://api.example.test/sse?n=6&pause_ms=200' | "
              "while read -r line; do echo \"$(date +%s.%N) $line\"; done")
    r = home.start("sh", "-c", script)
    late = []
    for line in r.stdout.splitlines():
        got, _, rest = line.partition(" ")
        if rest.startswith("data: "):
            late.append(float(got) - json.loads(rest[6:])["at"])
    assert len(late) == 6, r.stdout + r.stderr
    # Buffered whole, the first would be a second late. The date processes cost a few milliseconds.
    assert max(late) < 0.15, late


def test_redirect_to_elsewhere_goes_nowhere(home, upstream, authority):
    with standin.Upstream(authority, ["evil.example.test"], stem="evil") as evil:
        home.write_bottle("box", routes=[bottle.route("api.example.test", paths=["/**"])],
                          resolve={"api.example.test": upstream.address,
                                   "evil.example.test": evil.address}, ca=authority.path)
        r = run(home, "-L", "https://api.example.test/redirect?to=https://evil.example.test/json")
        assert len(upstream.requests) == 1, r.stderr
        assert evil.connections == 0


def test_direct_connection_is_refused_at_once(home, upstream):
    with standin.Listener(address="0.0.0.0") as canary:
        script = f"""
p=${{HTTPS_PROXY#http://}}
for a in 127.0.0.1/{canary.port} 127.0.0.1/{upstream.port} 1.1.1.1/443 192.168.1.1/80 ${{p%:*}}/9099; do
  b=$(date +%s%N); (exec 3<>/dev/tcp/$a) 2>/dev/null && echo "REACHED $a"
  echo "took $(( ($(date +%s%N) - b) / 1000000 ))"
done"""
        r = home.start("bash", "-c", script)
        assert "REACHED" not in r.stdout, r.stdout
        took = [int(line.split()[1]) for line in r.stdout.splitlines() if line.startswith("took")]
        # What is dropped in silence takes seconds.
        assert len(took) == 5 and max(took) < 1000, took
        assert canary.got == [] and upstream.connections == 0
        # control: the same from outside the bottle reaches the canary
        with standin.socket.create_connection(("127.0.0.1", canary.port), 2) as c:
            assert c.recv(100) == b"canary\n"


def test_without_the_proxy_there_is_nothing(home, upstream):
    r = home.start("env", "-i", "/usr/bin/curl", "-sS", "--max-time", "5", "--resolve",
                   f"api.example.test:443:127.0.0.1", "https://api.example.test/json")
    assert r.returncode != 0 and upstream.connections == 0
    r = run(home, "--noproxy", "*", "https://api.example.test/json")
    assert r.returncode != 0 and upstream.connections == 0


def test_outside_names_are_recorded_never_asked(home):
    label = f"x{int(time.time())}-leak.example.test"
    script = (f"import socket\nfor n in ('{label}',):\n"
              "  try:\n    print('RESOLVED', socket.getaddrinfo(n, 443))\n"
              "  except OSError as e:\n    print('no', e)\n")
    r = home.start("/usr/bin/python3", "-c", script)
    assert "RESOLVED" not in r.stdout, r.stdout
    assert any(label in json.dumps(x) for x in home.records()), home.records()


def test_two_bottles_at_once(home, upstream):
    with home.background("sleep", "600") as one, home.background("sleep", "600") as two:
        assert one.slug != two.slug
        for b in (one, two):
            r = b.exec("curl", "-sS", f"https://api.example.test/json?who={b.slug}")
            assert r.returncode == 0, r.stderr
        assert upstream.saw(one.slug) and upstream.saw(two.slug)
        listed = json.loads(home.run("list", "--json").stdout)
        assert {x["slug"] for x in listed} >= {one.slug, two.slug}

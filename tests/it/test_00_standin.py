"""The stand-ins themselves: a canary that cannot see anything would make every other test pass."""
import base64
import socket
import subprocess

import standin


def curl(upstream, authority, path, *more):
    host = upstream.hosts[0]
    return subprocess.run(
        ["curl", "-sS", "--noproxy", "*", "--cacert", authority.path, "--resolve",
         f"{host}:{upstream.port}:127.0.0.1", *more, f"https://{host}:{upstream.port}{path}"],
        capture_output=True, timeout=20, stdin=subprocess.DEVNULL)


def test_upstream_answers_and_remembers(upstream, authority):
    r = curl(upstream, authority, "/echo", "-H", "X-Mark: one", "-d", "body-bytes")
    assert r.returncode == 0 and b"body-bytes" in r.stdout
    assert upstream.saw("X-Mark: one") and upstream.saw(b"body-bytes")
    assert not upstream.saw("something else")
    assert upstream.requests[0].sni == "api.example.test"


def test_upstream_is_not_trusted_without_its_authority(upstream):
    r = subprocess.run(["curl", "-sS", "--noproxy", "*", "--resolve",
                        f"api.example.test:{upstream.port}:127.0.0.1",
                        f"https://api.example.test:{upstream.port}/"], capture_output=True, timeout=20)
    assert r.returncode == 60
    assert not upstream.requests


def test_messages_stub_streams(authority):
    with standin.MessagesStub(authority, ["api.anthropic.com"], pause_ms=20) as stub:
        r = curl(stub, authority, "/v1/messages", "-N", "-d", '{"stream":true,"model":"m"}')
        assert r.stdout.count(b"text_delta") == len(stub.answer_text.split())
        assert stub.sent[-1][0] - stub.sent[0][0] > 0.02 * (len(stub.sent) - 2)


def test_listeners_see():
    with standin.Listener() as tcp, standin.NameServer() as dns:
        with socket.create_connection(("127.0.0.1", tcp.port), 2) as c:
            c.sendall(b"hello")
            assert c.recv(100) == b"canary\n"
        assert tcp.got[0][2] == b"hello"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as c:
            c.settimeout(2)
            c.sendto(b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03abc\x04test\0\0\x01\0\x01",
                     ("127.0.0.1", dns.port))
            assert c.recv(512)[-4:] == bytes([127, 0, 0, 1])
        assert dns.names == ["abc.test"]


def test_secret_is_found_in_every_alignment():
    secret = "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWx"
    for shift in range(3):
        text = base64.b64encode(b"x" * shift + secret.encode() + b"tail")
        assert standin.find_secret(text, secret)
    assert standin.find_secret(secret.encode().hex().encode(), secret) == ["hex"]
    assert not standin.find_secret(b"sk-ant-api03-another", secret)

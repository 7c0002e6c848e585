"""The chain of records, from outside: signed in time, and whole across a restart of its writer."""
import os
import signal
import time


def test_signed_under_steady_traffic(home, upstream):
    """A request now and then must not put the next signature off for ever."""
    ask = "curl -sS -o /dev/null https://api.example.test/json"
    with home.background("bash", "-c", f"while :; do {ask}; sleep 0.3; done") as running:
        time.sleep(5)
        signed = [r for r in home.records(running.slug) if r.get("reason") == "checkpoint"]
        assert len(signed) >= 2
        assert home.run("logs", running.slug, "--verify").returncode == 0


def test_whole_after_a_restart(home, upstream):
    ask = "curl -sS -o /dev/null https://api.example.test/json"
    with home.background("bash", "-c", f"while :; do {ask}; sleep 0.3; done") as running:
        def wait_for(reason, count):
            end = time.monotonic() + 20
            while time.monotonic() < end:
                got = [r for r in home.records(running.slug) if r.get("reason") == reason]
                if len(got) >= count:
                    return
                time.sleep(0.1)
            raise AssertionError(f"{reason}: {home.records(running.slug)}")

        wait_for("checkpoint", 1)
        os.kill(running.roles()["record"][0], signal.SIGKILL)
        wait_for("checkpoint", 3)
        r = home.run("logs", running.slug, "--verify")
        assert r.returncode == 0, r.stdout + r.stderr
        assert "unbroken" in r.stdout

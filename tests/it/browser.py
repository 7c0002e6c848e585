"""A real Chromium without a window, driven over its debugging pipe: real keys, real clicks."""
import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

CHROMIUM = shutil.which("chromium")
MISSING = "chromium is missing (package chromium)"

KEYS = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "End": 35, "Home": 36, "Tab": 9}


class BrowserError(AssertionError):
    pass


class Browser:
    """One process with a profile of its own; pages are Page."""

    def __init__(self, *arguments):
        self.folder = tempfile.mkdtemp(prefix="cb-browser-")
        to_read, self.to_write = os.pipe()
        self.to_read, to_write = os.pipe()
        self.number, self.data, self.events, self.answers = 0, b"", [], {}
        # Its descriptors 3 and 4 are the pipe.
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "chromium", CHROMIUM, "--headless=new",
             "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
             "--disable-sync", "--no-proxy-server", "--host-resolver-rules=MAP *.example 127.0.0.1",
             f"--user-data-dir={self.folder}", *arguments, "about:blank"],
            pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, env=dict(os.environ, HOME=self.folder), start_new_session=True)
        os.close(to_read)
        os.close(to_write)

    def call(self, method, session=None, **params):
        self.number += 1
        number = self.number
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to_write, data):]
        end = time.monotonic() + 30
        while number not in self.answers:
            self.pump(end - time.monotonic())
        answer = self.answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']}")
        return answer["result"]

    def pump(self, seconds):
        """What has come within that time, at least one message."""
        if seconds <= 0 or not select.select([self.to_read], [], [], seconds)[0]:
            raise BrowserError("Chromium does not answer")
        chunk = os.read(self.to_read, 1 << 20)
        if not chunk:
            raise BrowserError("Chromium has ended")
        *messages, self.data = (self.data + chunk).split(b"\0")
        for m in map(json.loads, messages):
            if "id" in m:
                self.answers[m["id"]] = m
            else:
                self.events.append(m)

    def page(self, url="about:blank"):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        page = Page(self, target)
        if url != "about:blank":
            page.go(url)
        return page

    def close(self):
        try:
            self.call("Browser.close")
            self.process.wait(10)
        except (BrowserError, OSError, subprocess.TimeoutExpired):
            os.killpg(self.process.pid, 9)
            self.process.wait()
        os.close(self.to_write)
        os.close(self.to_read)
        shutil.rmtree(self.folder, ignore_errors=True)


class Page:
    def __init__(self, browser, target):
        self.browser, self.target = browser, target
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        # Without a window no page is in front.
        self.focus(True)

    def call(self, method, **params):
        return self.browser.call(method, session=self.session, **params)

    def focus(self, is_in_front):
        self.call("Emulation.setFocusEmulationEnabled", enabled=is_in_front)

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def eval(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in r:
            raise BrowserError(f"{expression}: {r['exceptionDetails']}")
        return r["result"].get("value")

    def wait(self, expression, seconds=8):
        """Until it is true, and then its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                value = self.eval(expression)
            except BrowserError as e:  # between two documents there is none
                value, why = None, e
            else:
                why = value
            if value:
                return value
            if time.monotonic() > end:
                raise BrowserError(f"never came: {expression}: {why}; the page: {self.text('body')!r}"[:3000])
            time.sleep(0.03)

    def text(self, selector):
        return self.eval(f"(document.querySelector({json.dumps(selector)}) || {{}}).innerText")

    def key(self, key):
        if key in KEYS:
            event = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
            if key == "Enter":
                event["text"] = "\r"
        else:
            event = {"key": key, "text": key}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **{k: v for k, v in event.items() if k != "text"})

    def type(self, text):
        self.call("Input.insertText", text=text)

    def click(self, selector):
        x, y = self.wait(f"""(() => {{
            const e = document.querySelector({json.dumps(selector)});
            if (!e) return null;
            e.scrollIntoView({{block: 'nearest'}});
            const r = e.getBoundingClientRect();
            return r.width ? [r.x + r.width / 2, r.y + r.height / 2] : null;
        }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def size(self, width, height, is_dark=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia",
                  features=[{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}])

    def shot(self, path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self):
        """Errors and warnings of this page since the last time: scripts, and what its policy refused."""
        found = []
        self.eval("0")
        for e in [e for e in self.browser.events if e.get("sessionId") == self.session]:
            self.browser.events.remove(e)
            if e["method"] == "Runtime.exceptionThrown":
                found.append(str(e["params"]["exceptionDetails"]))
            elif e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] in ("error", "warning"):
                found.append(e["params"]["entry"]["text"] + " " + e["params"]["entry"].get("url", ""))
        return found

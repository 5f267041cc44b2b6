"""Headless Chromium, which chromedriver drives over WebDriver.

https://www.w3.org/TR/webdriver2/
"""

import contextlib
import http.client
import json
import os
import re
import subprocess
import tempfile
import time

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",  # which root has to do without; the pages are ours
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=800,600",
    # It asks for nothing but the pages: there may be no network.
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Browser:
    """A session of a chromedriver of its own."""

    def __init__(self, home):
        environment = os.environ | {"HOME": home, "TMPDIR": home}
        self.driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True, env=environment
        )
        self.base = "/session"

    def begin(self):
        for line in self.driver.stdout:
            if started := re.search(r"started successfully on port (\d+)", line):
                break
        else:
            raise SystemExit("chromedriver does not start")
        self.connection = http.client.HTTPConnection("127.0.0.1", int(started[1]), timeout=60)
        options = {"args": ARGUMENTS}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        self.base += "/" + self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def call(self, method, path, body=None):
        self.connection.request(method, self.base + path, json.dumps(body) if body is not None else None)
        response = self.connection.getresponse()
        value = json.loads(response.read())["value"]
        if response.status != 200:
            raise SystemExit(f"{method} {path}: {value['error']}: {value['message']}")
        return value

    def open(self, url):
        """Goes there, and waits until all of the page is loaded."""
        self.call("POST", "/url", {"url": url})

    def run(self, script):
        """The value of an expression, or what its promise comes to."""
        body = f"const done = arguments[0]; Promise.resolve({script}).then(done, error => done(String(error)))"
        return self.call("POST", "/execute/async", {"script": body, "args": []})

    def click(self, selector):
        element = self.call("POST", "/element", {"using": "css selector", "value": selector})
        self.call("POST", f"/element/{next(iter(element.values()))}/click", {})

    def wait_for(self, script):
        """Waits until an expression is true."""
        for _ in range(200):
            if self.run(script):
                return
            time.sleep(0.1)
        raise SystemExit(f"this never became true: {script}")

    def press(self, keys):
        """Presses keys, one after the other, wherever the focus is."""
        actions = [{"type": step, "value": key} for key in keys for step in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def end(self):
        if self.base != "/session":
            self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


@contextlib.contextmanager
def chromium():
    """A browser with a home of its own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(home)
        try:
            browser.begin()
            yield browser
        finally:
            browser.end()

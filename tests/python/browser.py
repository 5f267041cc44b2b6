"""A page, the same page again and a listing in headless Chromium, which chromedriver drives over WebDriver.

Usage: browser.py HOST PORT; prints what was seen, as JSON.

https://www.w3.org/TR/webdriver2/
"""

import http.client
import json
import os
import re
import subprocess
import sys
import tempfile

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

    def end(self):
        if self.base != "/session":
            self.call("DELETE", "")
        self.driver.terminate()
        self.driver.wait()


def look(browser, site):
    seen = {}
    browser.open(site + "/page.html")
    seen["page"] = browser.run("report([30, 4, 36.5])")
    browser.call("POST", "/refresh", {})
    browser.open(site + "/media/")
    names = "Array.from(document.querySelectorAll('tbody a:not([href=\"../\"])'), link => link.textContent)"
    seen["listing"] = browser.run(names)
    browser.click("thead th:nth-child(2) a")
    seen["listing_by_size"] = browser.run(names)
    seen["listing_style"] = browser.run("getComputedStyle(document.querySelector('table')).borderCollapse")
    seen["complaints"] = [line["message"] for line in browser.call("POST", "/se/log", {"type": "browser"})]
    return seen


with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
    browser = Browser(home)
    try:
        browser.begin()
        seen = look(browser, f"http://{sys.argv[1]}:{sys.argv[2]}")
    finally:
        browser.end()
print(json.dumps(seen, indent=1))

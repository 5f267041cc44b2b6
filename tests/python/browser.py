"""A page, the same page again and a listing in headless Chromium.

Usage: browser.py HOST PORT; prints what was seen, as JSON.
"""

import json
import sys

from chromium import chromium


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


with chromium() as browser:
    print(json.dumps(look(browser, f"http://{sys.argv[1]}:{sys.argv[2]}"), indent=1))

"""The dashboard in headless Chromium, with the keyboard alone and on a narrow screen too.

Usage: dashboard.py HOST PORT; prints what was seen, as JSON.
"""

import json
import sys

from chromium import chromium

TAB, ENTER = "\ue004", "\ue007"


def listeners(browser):
    rows = "Array.from(document.querySelectorAll('#listeners tbody tr'), row => Array.from(row.cells, cell => cell.textContent.trim()))"
    return {row[1]: row for row in browser.run(rows)}


def focused(browser):
    return browser.run("document.activeElement.id || document.activeElement.textContent")


def tab_to(browser, wanted):
    for _ in range(40):
        browser.press(TAB)
        if focused(browser) == wanted:
            return True
    return False


def sessions(browser):
    return browser.run("Array.from(document.querySelectorAll('#sessions tbody tr'), row => row.cells[3].textContent)")


def look(browser, site):
    seen = {}
    browser.open(site + "/")
    browser.wait_for("document.querySelector('#connection').textContent === 'live'")
    browser.wait_for("document.querySelectorAll('#listeners tbody tr').length > 0")
    browser.wait_for("document.querySelectorAll('#sessions tbody tr').length > 0")
    seen["facts"] = browser.run("document.querySelectorAll('.fact').length")
    seen["turns"] = browser.run("document.querySelectorAll('svg.turns rect').length")
    seen["reaches_filter"] = tab_to(browser, "filter")
    browser.press("Awaiting")
    browser.wait_for("document.querySelector('#shown').textContent.startsWith('5 of')")
    seen["found"] = sessions(browser)
    seen["reaches_column"] = tab_to(browser, "state")
    browser.press(ENTER)
    seen["sorted"] = browser.run("document.querySelector('#sessions th[data-key=state]').getAttribute('aria-sort')")
    browser.run("document.querySelector('#filter').focus()")
    seen["reaches_trace"] = tab_to(browser, "What does the loop do? (1 s)")
    browser.press(ENTER)
    browser.wait_for("document.querySelector('#trace').textContent.includes('turn begins')")
    seen["focus_after_trace"] = focused(browser)
    browser.wait_for("document.querySelector('#listeners tbody tr td:nth-child(8)').textContent !== '0'")
    seen["listeners"] = listeners(browser)
    browser.call("POST", "/window/rect", {"width": 360, "height": 700})
    seen["width"] = browser.run("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    seen["complaints"] = [line["message"] for line in browser.call("POST", "/se/log", {"type": "browser"})]
    return seen


with chromium() as browser:
    print(json.dumps(look(browser, f"http://{sys.argv[1]}:{sys.argv[2]}"), indent=1))

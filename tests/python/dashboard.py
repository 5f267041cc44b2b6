"""The dashboard in headless Chromium, with the keyboard alone and on a narrow screen too, light and dark.

Usage: dashboard.py HOST PORT [FOLDER]; prints what was seen, as JSON, and puts pictures into the folder.
       dashboard.py HOST PORT --as USER PASSWORD; prints whether all of it answers to whom has a password.
       dashboard.py HOST PORT --below PREFIX; prints whether all of it is found below the prefix of a route.
       dashboard.py HOST PORT --record [FOLDER]; prints what is seen of a record.
"""

import base64
import json
import os
import sys
import urllib.error
import urllib.request

from chromium import chromium

TAB, ENTER, ESCAPE, SPACE, HOME, LEFT, RIGHT = "\ue004", "\ue007", "\ue00c", " ", "\ue011", "\ue012", "\ue014"


def listeners(browser):
    rows = "Array.from(document.querySelectorAll('#listeners tbody tr'), row => Array.from(row.cells, cell => cell.textContent.trim()))"
    return {row[1]: row for row in browser.run(rows)}


def focused(browser):
    return browser.run("document.activeElement.id || document.activeElement.textContent")


def tab_to(browser, wanted):
    for _ in range(60):
        browser.press(TAB)
        if focused(browser) == wanted:
            return True
    return False


def sessions(browser):
    return browser.run("Array.from(document.querySelectorAll('#sessions tbody tr'), row => row.cells[3].textContent)")


def text(browser, selector):
    return browser.run(f"document.querySelector('{selector}').textContent")


def emulate(browser, command, **parameters):
    browser.call("POST", "/goog/cdp/execute", {"cmd": f"Emulation.{command}", "params": parameters})


def picture(browser, name):
    if len(sys.argv) > 3:
        with open(os.path.join(sys.argv[3], name + ".png"), "wb") as file:
            file.write(base64.b64decode(browser.call("GET", "/screenshot")))


def counted(site):
    """The numbers of requests of listeners that answered by status, in /metrics."""
    lines = urllib.request.urlopen(site + "/metrics").read().decode().splitlines()
    counts = {}
    for line in lines:
        if line.startswith("netlab_request_seconds_count"):
            name = line.split('listener="')[1].split('"')[0]
            counts[name] = counts.get(name, 0) + int(line.rsplit(" ", 1)[1])
    return counts


def shown(browser):
    """The same, as the page shows them."""
    told = "Object.fromEntries(last.listeners.map(one => [one.name, sum(counts(one))]))"
    return browser.run(told)


def figures(browser, site):
    """What moves, and whether it is what /metrics has."""
    before = shown(browser)
    browser.wait_for(f"sum(counts(last.listeners.find(one => one.name === 'http'))) > {before['http'] + 20}")
    lower = counted(site)
    browser.wait_for(f"sum(counts(last.listeners.find(one => one.name === 'http'))) >= {lower['http']}")
    page, upper = shown(browser), counted(site)
    return {
        "moved": before["http"] < page["http"],
        "agrees": all(lower[name] <= page[name] <= upper[name] for name in ("http", "tcp-echo")),
        "answers": browser.run("document.querySelectorAll('#answers tbody tr').length"),
        "p99": listeners(browser)["http"][11],
    }


def inspect(browser):
    """The turns, by the keyboard alone."""
    seen = {"reaches": tab_to(browser, "inspector")}
    browser.press(SPACE)
    browser.wait_for("turns.all.length > 2 && document.querySelector('#turn .pumps li')")
    browser.press(SPACE)
    seen["pauses"] = text(browser, "#watch")
    last = browser.run("turns.place")
    browser.press(LEFT)
    browser.press(LEFT)
    browser.press(RIGHT)
    seen["steps"] = last - browser.run("turns.place")
    browser.press(HOME)
    seen["first"] = text(browser, "#which").startswith("turn 1 of ")
    seen["bars"] = browser.run("document.querySelectorAll('#turn svg.strip rect').length")
    seen["ring"] = browser.run("document.querySelectorAll('#turn svg.ring path').length")
    seen["summary"] = text(browser, "#summary")
    seen["stays"] = browser.run("new Promise(done => { const all = turns.all; setTimeout(() => done(turns.all === all), 1500); })")
    browser.press(TAB)  # to a button: the arrows work wherever the focus is within
    browser.press(RIGHT)
    seen["second"] = text(browser, "#which").startswith("turn 2 of ")
    picture(browser, "turns")
    return seen


def watch(browser, state):
    """The timeline of a session that is listed with this state, by the keyboard alone."""
    browser.run("document.querySelector('#filter').value = ''")
    browser.run("document.querySelector('#filter').focus()")
    browser.press(state)
    browser.wait_for("document.querySelectorAll('#sessions tbody tr').length === 1")
    number = browser.run("document.querySelector('#sessions tbody button').textContent")
    seen = {"reaches": tab_to(browser, number)}
    browser.press(ENTER)
    browser.wait_for("document.querySelectorAll('#steps tbody tr').length > 20")
    seen["title"], seen["focus"] = text(browser, "#timeline h2"), focused(browser)
    seen["standing"] = text(browser, "#standing")
    seen["serves"] = text(browser, "#serves")
    seen["steps"] = browser.run("Array.from(document.querySelectorAll('#steps tbody tr'), row => [row.cells[1].textContent, row.cells[2].textContent])")[:40]
    picture(browser, "timeline")
    return seen


def look(browser, site):
    seen = {}
    browser.call("POST", "/window/rect", {"width": 1200, "height": 1000})
    browser.open(site + "/")
    browser.wait_for("document.querySelector('#connection').textContent === 'live'")
    browser.wait_for("document.querySelectorAll('#listeners tbody tr').length > 0")
    browser.wait_for("document.querySelectorAll('#sessions tbody tr').length > 0")
    seen["facts"] = browser.run("document.querySelectorAll('.fact').length")
    seen["turns"] = browser.run("document.querySelectorAll('svg.turns rect').length")
    seen["inspector"] = inspect(browser)
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
    browser.run("document.querySelector('#trace').hidden = true")
    browser.wait_for("document.querySelector('#listeners tbody tr td:nth-child(8)').textContent !== '0'")
    seen["listeners"] = listeners(browser)
    seen["figures"] = figures(browser, site)
    seen["timeline"] = watch(browser, "http")
    colours = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    light = browser.run(colours)
    emulate(browser, "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    seen["dark"] = [light, browser.run(colours)]
    picture(browser, "dark")
    emulate(browser, "setDeviceMetricsOverride", width=360, height=2400, deviceScaleFactor=1, mobile=True)
    seen["width"] = browser.run("[document.documentElement.scrollWidth, innerWidth]")
    picture(browser, "narrow")
    browser.press(ESCAPE)
    seen["closes"] = browser.run("document.querySelector('#timeline').hidden && timeline.source === null")
    seen["complaints"] = [line["message"] for line in browser.call("POST", "/se/log", {"type": "browser"})]
    return seen


def look_as(browser, host, user, password):
    """With a password that the browser is given once: the pages and all that they ask for."""
    try:
        urllib.request.urlopen(f"http://{host}/events")
        refused = None
    except urllib.error.HTTPError as error:
        refused = [error.code, error.headers.get_all("WWW-Authenticate")]
    browser.open(f"http://{user}:{password}@{host}/")
    browser.open(f"http://{host}/")
    browser.wait_for("document.querySelector('#connection').textContent === 'live'")
    browser.wait_for("document.querySelectorAll('#sessions tbody tr').length > 0")
    browser.run("toggle()")
    browser.wait_for("turns.all.length > 0")
    return {"refused": refused, "live": True}


def look_below(browser, site):
    """As a route of a web server."""
    browser.open(site + "/")
    browser.wait_for("document.querySelector('#connection').textContent === 'live'")
    browser.wait_for("document.querySelectorAll('#sessions tbody tr').length > 0")
    seen = {"inspector": inspect(browser), "figures": figures(browser, site), "timeline": watch(browser, "tcp-echo")["title"]}
    asked = "performance.getEntriesByType('resource').map(entry => entry.name)"
    links = "Array.from(document.links, link => link.href)"
    names = browser.run(asked) + browser.run(links)
    seen["beside"] = [name for name in names if not name.startswith(site + "/") and "favicon" not in name]
    seen["asked"] = len(names)
    return seen


def look_at_record(browser, site):
    """A record that was replayed: nothing moves, and every turn is there."""
    browser.call("POST", "/window/rect", {"width": 1200, "height": 1000})
    browser.open(site + "/")
    browser.wait_for("document.querySelectorAll('#sessions tbody tr').length > 0")
    browser.wait_for("document.querySelector('#turn .legend li')")
    seen = {"about": text(browser, "#record"), "newest": text(browser, "#which"), "watch": browser.run("document.querySelector('#watch') === null")}
    browser.run("document.querySelector('#inspector').focus()")
    which = "document.querySelector('#which').textContent"
    browser.press(HOME)
    browser.wait_for(f"{which}.startsWith('turn 1 of')")
    browser.press(RIGHT)
    browser.wait_for(f"{which}.startsWith('turn 2 of')")
    # Over the end of what was read at once, to that of the record, and all the way back.
    last = browser.run("numbers.end") - 1
    for turn in [*range(3, last + 1), *range(last - 1, 0, -1)]:
        browser.press(RIGHT if turn > browser.run("turns.first + turns.place") else LEFT)
        browser.wait_for(f"{which}.startsWith('turn {turn} of')")
    # A key that is held down leads on, and never back to where more was read.
    browser.run("(window.places = [], new MutationObserver(() => places.push(turns.first + turns.place)).observe(document.querySelector('#which'), { childList: true }), true)")
    browser.press(RIGHT * (last // 2))
    browser.wait_for("!turns.isReading")
    seen["held"] = browser.run("places.length > 40 && places.every((place, at) => at === 0 || place >= places[at - 1])")
    browser.run("document.querySelector('#go').focus()")
    browser.press("40\ue007")
    browser.wait_for(f"{which}.startsWith('turn 40 of')")
    seen["last"] = last
    seen["summary"] = text(browser, "#summary")
    picture(browser, "record-turns")
    browser.run("document.querySelector('#sessions tbody button').focus()")
    browser.press(ENTER)
    browser.wait_for("document.querySelectorAll('#steps tbody tr').length > 3")
    seen["standing"] = text(browser, "#standing")
    picture(browser, "record-timeline")
    emulate(browser, "setDeviceMetricsOverride", width=360, height=2400, deviceScaleFactor=1, mobile=True)
    seen["width"] = browser.run("[document.documentElement.scrollWidth, innerWidth]")
    picture(browser, "record-narrow")
    seen["complaints"] = [line["message"] for line in browser.call("POST", "/se/log", {"type": "browser"}) if "favicon.ico" not in line["message"]]
    return seen


if "--below" in sys.argv:
    with chromium() as browser:
        prefix = sys.argv[4]
        del sys.argv[3:]
        print(json.dumps(look_below(browser, f"http://{sys.argv[1]}:{sys.argv[2]}{prefix}"), indent=1))
    sys.exit()
if "--record" in sys.argv:
    del sys.argv[3]
    with chromium() as browser:
        print(json.dumps(look_at_record(browser, f"http://{sys.argv[1]}:{sys.argv[2]}"), indent=1))
    sys.exit()
if "--as" in sys.argv:
    with chromium() as browser:
        print(json.dumps(look_as(browser, f"{sys.argv[1]}:{sys.argv[2]}", *sys.argv[4:6])))
    sys.exit()
with chromium() as browser:
    print(json.dumps(look(browser, f"http://{sys.argv[1]}:{sys.argv[2]}"), indent=1))

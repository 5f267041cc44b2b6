"""What urllib, requests and aiohttp get through a proxy: a page twice, and a body that comes back.

Usage: proxied.py PROXY_HOST PROXY_PORT PAGE_URL ECHO_URL; prints `ok`.
"""

import asyncio
import sys
import urllib.request

import aiohttp
import requests

proxy, page, echo = f"http://{sys.argv[1]}:{sys.argv[2]}", sys.argv[3], sys.argv[4]
sent = bytes(range(256)) * 300


def by_urllib():
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
    for _ in range(2):
        with opener.open(page, timeout=20) as response:
            yield response.read()
    with opener.open(urllib.request.Request(echo, sent), timeout=20) as response:
        yield response.read()


def by_requests():
    with requests.Session() as session:
        session.trust_env = False
        session.proxies = {"http": proxy}
        for _ in range(2):
            yield session.get(page, timeout=20).content
        # A generator goes in chunks.
        yield session.post(echo, data=(sent[at:at + 1000] for at in range(0, len(sent), 1000)), timeout=20).content


async def by_aiohttp():
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async def read(method, url, **more):
            async with session.request(method, url, proxy=proxy, **more) as response:
                return await response.read()
        pages = await asyncio.gather(*(read("GET", page) for _ in range(2)))
        return [*pages, await read("POST", echo, data=sent)]


for library, bodies in [("urllib", by_urllib()), ("requests", by_requests()), ("aiohttp", asyncio.run(by_aiohttp()))]:
    first, second, back = bodies
    assert first == second == b"<p>hello</p>\n", (library, first, second)
    assert back == sent, (library, len(back))
print("ok")

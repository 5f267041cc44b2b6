"""Many requests over one connection with Python's http.client, a body in chunks over another, and a redirect with urllib.

Usage: http_client.py HOST PORT PROBE_PORT
"""

import http.client
import sys
import urllib.request

host, port, probe_port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

site = http.client.HTTPConnection(host, port, timeout=10)
site.connect()
sock = site.sock
for method, path, status, length in [
    ("GET", "/page.html", 200, 13),
    ("HEAD", "/page.html", 200, 0),
    ("GET", "/nothing", 404, None),
    ("GET", "/large.bin", 200, 3_000_000),
    ("PUT", "/page.html", 405, None),
    ("GET", "/text.txt", 200, 9000),
]:
    body = b"x" * 100 if method == "PUT" else None
    site.request(method, path, body=body)
    response = site.getresponse()
    text = response.read()
    assert response.status == status, (method, path, response.status)
    assert length is None or len(text) == length, (method, path, len(text))
    assert site.sock is sock, (method, path, "another connection")

# A download that broke off goes on if the file is still the same, and begins anew if it is not.
site.request("HEAD", "/large.bin")
response = site.getresponse()
response.read()
tag = response.headers["ETag"]
for headers, status, length in [
    ({"Range": "bytes=2999990-", "If-Range": tag}, 206, 10),
    ({"Range": "bytes=2999990-", "If-Range": '"another"'}, 200, 3_000_000),
    ({"Range": "bytes=2999990-", "If-Match": tag}, 206, 10),
    ({"Range": "bytes=2999990-", "If-Match": '"another"'}, 412, None),
    ({"If-None-Match": f'"another", {tag}'}, 304, 0),
]:
    site.request("GET", "/large.bin", headers=headers)
    response = site.getresponse()
    text = response.read()
    assert response.status == status, (headers, response.status)
    assert length is None or len(text) == length, (headers, len(text))
    assert site.sock is sock, (headers, "another connection")
site.close()

probe = http.client.HTTPConnection(host, probe_port, timeout=10)
probe.request("POST", "/", body=(b"part %d;" % i for i in range(100)), encode_chunked=True)
text = probe.getresponse().read()
assert text == b"".join(b"part %d;" % i for i in range(100)), text
probe.request("GET", "/cookie", headers={"Cookie": "a=1; b=2"})
assert probe.getresponse().read() == b"a=1\nb=2\n"

folder = urllib.request.urlopen(f"http://{host}:{port}/folder?sort=size", timeout=10)
assert folder.url == f"http://{host}:{port}/folder/?sort=size", folder.url
assert b"inside.txt" in folder.read()
print("ok")

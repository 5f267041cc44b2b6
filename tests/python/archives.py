"""Fetches a folder as tar and as zip, and reads both to the end.

Usage: archives.py HOST PORT FOLDER; prints what is in them, as JSON: names and sizes, sorted.
"""

import json
import sys
import tarfile
import tempfile
import urllib.request
import zipfile

HOST, PORT, FOLDER = sys.argv[1:]


def fetch(form):
    return urllib.request.urlopen(f"http://{HOST}:{PORT}/{FOLDER}/?archive={form}", timeout=60)


def shown(entries):
    return sorted([name.rstrip("/").encode(errors="backslashreplace").decode(), size] for name, size in entries)


def read_to_end(file):
    count = 0
    while piece := file.read(1 << 20):
        count += len(piece)
    return count


seen = {}
with fetch("tar") as response, tarfile.open(fileobj=response, mode="r|") as tar:
    members = [(m.name, read_to_end(tar.extractfile(m)) if m.isfile() else 0) for m in tar]
    seen["tar"] = shown(members)

with fetch("zip") as response, tempfile.TemporaryFile() as file:
    while piece := response.read(1 << 20):
        file.write(piece)
    with zipfile.ZipFile(file) as archive:
        # Reading checks the sum.
        members = [(i.filename, read_to_end(archive.open(i))) for i in archive.infolist()]
        seen["zip"] = shown(members)

print(json.dumps(seen))

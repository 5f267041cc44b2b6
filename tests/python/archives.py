"""Fetches a folder as an archive, and reads it to the end.

Usage: archives.py HOST PORT FOLDER tar|zip; prints what is in it, as JSON: names and sizes, sorted.
"""

import json
import shutil
import sys
import tarfile
import tempfile
import urllib.request
import zipfile

HOST, PORT, FOLDER, FORMAT = sys.argv[1:]


def members_of_tar(response):
    with tarfile.open(fileobj=response, mode="r|") as tar:
        for member in tar:
            yield member.name, len(tar.extractfile(member).read()) if member.isfile() else 0


def members_of_zip(response):
    with tempfile.TemporaryFile() as file:
        shutil.copyfileobj(response, file)
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                yield member.filename, len(archive.read(member))  # which checks the sum


with urllib.request.urlopen(f"http://{HOST}:{PORT}/{FOLDER}/?archive={FORMAT}", timeout=60) as response:
    members = {"tar": members_of_tar, "zip": members_of_zip}[FORMAT](response)
    members = [[name.rstrip("/").encode(errors="backslashreplace").decode(), size] for name, size in members]
print(json.dumps(sorted(members)))

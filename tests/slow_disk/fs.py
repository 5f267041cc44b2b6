"""A file system that passes everything on to a folder, and lets each call of the kinds below take a while first.

Usage: fs.py FOLDER MOUNT_POINT SECONDS_PER_CALL

Prints "mounted" when it is, and serves until it is unmounted. The calls of different callers wait
side by side, as those of a network file system do; but libfuse before 3.14.1 lets the first look at
a name wait for those at others in the same folder. Names and attributes are believed for the
kernel's usual second.
"""

import functools
import os
import sys
import time

import mfusepy

FOLDER, MOUNT_POINT = (os.path.abspath(path) for path in sys.argv[1:3])
SECONDS_PER_CALL = float(sys.argv[3])
# More than the server asks for at once; libfuse before 3.12 has no limit, and does not know the options.
THREADS = {"max_threads": 64, "max_idle_threads": 64} if mfusepy._libfuse.fuse_version() >= 312 else {}


def slow(call):
    @functools.wraps(call)
    def after_a_while(*arguments):
        time.sleep(SECONDS_PER_CALL)
        return call(*arguments)

    return after_a_while


def behind(path):
    return FOLDER + path


class SlowDisk(mfusepy.Operations):
    use_ns = True

    def init(self, path):
        print("mounted", flush=True)

    @slow
    def getattr(self, path, fh=None):
        found = os.lstat(behind(path))
        fields = ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid", "st_ino", "st_blocks")
        attributes = {field: getattr(found, field) for field in fields}
        for field in ("st_atime", "st_mtime", "st_ctime"):
            attributes[field] = getattr(found, field + "_ns")
        return attributes

    @slow
    def readdir(self, path, fh):
        return [".", "..", *os.listdir(behind(path))]

    @slow
    def open(self, path, flags):
        return os.open(behind(path), flags & ~os.O_DIRECT)

    @slow
    def create(self, path, mode, fi=None):
        return os.open(behind(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    @slow
    def read(self, path, size, offset, fh):
        return os.pread(fh, size, offset)

    @slow
    def write(self, path, data, offset, fh):
        return os.pwrite(fh, data, offset)

    @slow
    def fsync(self, path, datasync, fh):
        (os.fdatasync if datasync else os.fsync)(fh)
        return 0

    @slow
    def rename(self, old, new):
        os.rename(behind(old), behind(new))
        return 0

    @slow
    def unlink(self, path):
        os.unlink(behind(path))
        return 0

    def mkdir(self, path, mode):
        os.mkdir(behind(path), mode)
        return 0

    def rmdir(self, path):
        os.rmdir(behind(path))
        return 0

    def chmod(self, path, mode):
        os.chmod(behind(path), mode)
        return 0

    def truncate(self, path, length, fh=None):
        os.truncate(behind(path) if fh is None else fh, length)
        return 0

    def utimens(self, path, times=None):
        os.utime(behind(path), ns=times)
        return 0

    def statfs(self, path):
        found = os.statvfs(behind(path))
        return {field: getattr(found, field) for field in dir(found) if field.startswith("f_") and field != "f_fsid"}

    def release(self, path, fh):
        os.close(fh)
        return 0


mfusepy.FUSE(SlowDisk(), MOUNT_POINT, foreground=True, **THREADS)

#!/usr/bin/env python3
"""tree.py FILE: a small root file system with one of everything."""
import io
import random
import sys
import tarfile

R = random.Random(7)
with tarfile.open(sys.argv[1], "w", format=tarfile.PAX_FORMAT) as t:
    def add(name, kind=tarfile.REGTYPE, data=b"", mode=0o644, uid=0, gid=0, link="", pax=None, dev=(0, 0), mtime=1700000000):
        e = tarfile.TarInfo(name)
        e.type, e.size, e.mode, e.uid, e.gid, e.linkname, e.mtime = kind, len(data), mode, uid, gid, link, mtime
        e.pax_headers = pax or {}
        e.devmajor, e.devminor = dev
        t.addfile(e, io.BytesIO(data))

    add("./", tarfile.DIRTYPE, mode=0o755)
    add("bin/", tarfile.DIRTYPE, mode=0o755)
    add("bin/su", data=b"#!/bin/false\n", mode=0o4755)
    add("bin/ping", data=b"\x7fELF" + bytes(1000), mode=0o755,
        pax={"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" + "\x00" * 14})
    add("bin/a", data=b"linked\n")
    add("bin/b", tarfile.LNKTYPE, link="bin/a")
    add("bin/c", tarfile.LNKTYPE, link="bin/a")
    add("etc/", tarfile.DIRTYPE, mode=0o755, uid=1, gid=2)
    add("etc/elsewhere", tarfile.LNKTYPE, link="bin/ping")
    add("etc/empty")
    add("etc/marked", data=b"x", pax={"SCHILY.xattr.user.note": "kept"})
    add("etc/\u00e9t\u00e9", data=b"not ascii")
    add("lib", tarfile.SYMTYPE, link="usr/lib")
    add("usr/lib/up", tarfile.SYMTYPE, link="../../../../etc/empty")
    add("usr/lib/big", data=R.randbytes(9 << 20))
    add("usr/lib/zeros", data=bytes(5 << 20))
    add("dev/null", tarfile.CHRTYPE, mode=0o666, dev=(1, 3))
    add("run/pipe", tarfile.FIFOTYPE)
    add("old", data=b"before 1970", mtime=-5.25)
    for i in range(300):
        add("many/%03d" % i, data=b"%d" % i)

#!/usr/bin/env python3
"""bench.py ROOTFS.tar [GROUP...]: medians of interleaved runs beside a peer.

Groups: publish, mount, walk, create, format, image. Each row names what the peer is.
Wall and CPU seconds are those of the whole process tree; a daemon's CPU is read
from /proc.
"""
import json
import os
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TAR, GROUPS = os.path.abspath(sys.argv[1]), set(sys.argv[2:]) or {"publish", "mount", "walk", "create", "format", "image"}
BIN = os.path.abspath("bin")
WALKS = int(os.environ.get("BENCH_WALKS", "200"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
NAME = "bench.rootstock.test"
work = tempfile.mkdtemp(prefix="run.", dir=".cache/bench")
work = os.path.abspath(work)
daemons = []


class Run:
    def __init__(self, wall, cpu, rss, out):
        self.wall, self.cpu, self.rss, self.out = wall, cpu, rss, out


def run(*args, check=True, **kw):
    start = time.monotonic()
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    wall = time.monotonic() - start
    p.returncode = os.waitstatus_to_exitcode(status)
    if check and p.returncode:
        sys.exit("%s: exit %d\n%s" % (" ".join(args), p.returncode, out.decode(errors="replace")))
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, out.decode(errors="replace"))


def shell(line, **kw):
    return run("bash", "-c", "set -o pipefail; " + line, **kw)


def daemon(want, *args):
    p = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    daemons.append(p)
    for line in p.stdout:
        if want in line:
            return p, line.strip()
    sys.exit("%s ended without saying %r" % (" ".join(args), want))


def stop(p):
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    daemons.remove(p)


def cpu_of(pid):
    f = open("/proc/%d/stat" % pid).read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


def rss_of(pid, what="VmHWM"):
    for line in open("/proc/%d/status" % pid):
        if line.startswith(what):
            return int(line.split()[1]) * 1024


def median(runs, what):
    return statistics.median(getattr(r, what) for r in runs)


def mib(n):
    return "%.0f MiB" % (n / 1048576)


def row(what, ours, peer, note=""):
    if peer:
        ratio = median(ours, "wall") / median(peer, "wall")
        print("  %-46s %8.3f s %8.3f s cpu   peer %8.3f s %8.3f s cpu   ratio %5.2f  %s" % (
            what, median(ours, "wall"), median(ours, "cpu"), median(peer, "wall"), median(peer, "cpu"), ratio, note))
    else:
        print("  %-46s %8.3f s %8.3f s cpu   %s" % (what, median(ours, "wall"), median(ours, "cpu"), note))
    sys.stdout.flush()


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("3")


def site(compression="zstd"):
    d = tempfile.mkdtemp(dir=work)
    if not os.path.isdir(work + "/keys"):
        run(BIN + "/rootstock", "init", "--store", d + "/first", "--name", NAME, "--keys", work + "/keys")
    run(BIN + "/rootstock", "init", "--store", d + "/store", "--name", NAME, "--keys", work + "/keys", "--compression", compression)
    return d


def publish(d, version, tar, index, *before):
    return run(*before, BIN + "/rootstock", "publish", "--quiet", "--store", d + "/store", "--keys", work + "/keys",
               "--cache", index, "rootfs", "bench", version, tar)


def stored(d):
    return int(shell("du -sb --apparent-size %s/store/data | cut -f1" % d).out)


def group_publish():
    print("publish %s (%s); peer: tar through zstd -T2, or pigz -6 -p 2" % (os.path.basename(TAR), mib(os.path.getsize(TAR))))
    changed = work + "/changed.tar"
    shutil.copyfile(TAR, changed)
    extra = tempfile.mkdtemp(dir=work)
    subprocess.run(["bash", "-c", "for i in $(seq 400); do head -c 36000 /dev/urandom >%s/f$i; done; tar -C %s --transform s,^,new/, -rf %s ." % (
        extra, extra, changed)], check=True)
    first, peer, unchanged, following, known, one, two, floor = [], [], [], [], [], [], [], []
    for _ in range(ROUNDS):
        d = site()
        peer.append(shell("zstd -q -T2 -3 -c %s >%s/peer.zst" % (TAR, d)))
        first.append(publish(d, "1", TAR, d + "/index"))
        unchanged.append(publish(d, "1", TAR, d + "/index"))
        size = stored(d)
        following.append(publish(d, "2", changed, d + "/index"))
        known.append(publish(d, "3", changed, d + "/index"))
        floor.append(run("sha256sum", changed))
        peer_size = os.path.getsize(d + "/peer.zst")
    row("first version, zstd", first, peer, "%s stored (peer %s), peak memory %s" % (mib(size), mib(peer_size), mib(median(first, "rss"))))
    row("next version, 1 %% new (%.0f %% of the first)" % (100 * median(following, "wall") / median(first, "wall")), following, None)
    row("  peer: sha256sum of its tar", floor, None, "coreutils; ours reads the tar and its contents with the processor's SHA instructions")
    row("the same tar as another version", known, None)
    row("unchanged", unchanged, None)
    for _ in range(ROUNDS if os.cpu_count() > 1 else 0):
        for cpus, runs in (("0", one), ("0,1", two)):
            d = site()
            runs.append(publish(d, "1", TAR, d + "/index", "taskset", "-c", cpus))
    if one:
        row("first version, one processor", one, None)
        row("first version, two (%.2f times one)" % (median(one, "wall") / median(two, "wall")), two, None)
    ours, peer = [], []
    for _ in range(max(1, ROUNDS // 3)):
        d = site("zlib")
        peer.append(shell("pigz -6 -p 2 -c %s >%s/peer.gz" % (TAR, d)))
        ours.append(publish(d, "1", TAR, d + "/index"))
        shutil.rmtree(d)
    row("first version, zlib as C zlib writes it", ours, peer)


def mounted(d, url, cache):
    mnt = tempfile.mkdtemp(dir=work)
    start = time.monotonic()
    p, _ = daemon("mounted ", BIN + "/rootstock-cell", "mount", "--url", url, "--name", NAME, "--key", "%s/keys/%s.pub" % (work, NAME),
                  "--cache", cache, "--socket", cache + ".sock", mnt)
    return p, mnt, time.monotonic() - start


READ_ALL = "find %s -xdev -type f -print0 | xargs -0 -P %d -n 500 cat >/dev/null"
PYTHON = "chroot %s /usr/bin/python3 -c 'import json,ssl,http.client'"
HOT = """
import os, sys, time
paths = []
for d, _, fs in os.walk(sys.argv[1]):
    for f in fs:
        p = os.path.join(d, f)
        if not os.path.islink(p) and 8000 < os.stat(p).st_size < 16000:
            paths.append(p)
    if len(paths) > 600:
        break
for i in range(21):
    for p in paths[:600]:
        fd = os.open(p, os.O_RDONLY)
        os.read(fd, 16384)
        os.close(fd)
    if i == 0:
        start = time.monotonic()
print((time.monotonic() - start) / 20 / len(paths[:600]) * 1e6)
"""


def group_mount():
    print("mounted over loopback, zstd objects; peer: the same tree unpacked on this machine's own file system, caches dropped")
    native = work + "/native"
    os.mkdir(native)
    shell("tar -C %s -xpf %s" % (native, TAR))
    d = site()
    publish(d, "1", TAR, d + "/index")
    server, line = daemon("serving ", BIN + "/rootstock", "serve", "--store", d + "/store", "--listen", "127.0.0.1:0")
    url = line.split()[-1]
    ready, py, py_native, find, find_native, warm, warm_native = [], [], [], [], [], [], []
    read, read_native, read4, cpu, rss, hot, hot_native = [], [], [], [], [], [], []
    for i in range(ROUNDS):
        p, mnt, t = mounted(d, url, "%s/c%d" % (d, i))
        ready.append(Run(t, cpu_of(p.pid), 0, ""))
        tree = mnt + "/rootfs/bench/1"
        py.append(shell(PYTHON % tree))
        drop_caches()
        py_native.append(shell(PYTHON % native))
        find.append(shell("find %s -ls >/dev/null" % tree))
        warm.append(shell("find %s -ls >/dev/null" % tree))
        drop_caches()
        find_native.append(shell("find %s -ls >/dev/null" % native))
        warm_native.append(shell("find %s -ls >/dev/null" % native))
        before = cpu_of(p.pid)
        read.append(shell(READ_ALL % (tree, 1)))
        cpu.append(cpu_of(p.pid) - before)
        rss.append(rss_of(p.pid))
        drop_caches()
        read_native.append(shell(READ_ALL % (native, 1)))
        hot.append(float(run("python3", "-c", HOT, tree).out))
        hot_native.append(float(run("python3", "-c", HOT, native).out))
        stop(p)
        p, mnt, _ = mounted(d, url, "%s/d%d" % (d, i))
        read4.append(shell(READ_ALL % (mnt + "/rootfs/bench/1", 4)))
        stop(p)
    # Caches stay until the end: for minutes after many files were deleted, ext4
    # looks at each of their inodes whenever a file is made, which would count
    # as the time of whoever makes files next.
    row("mount, empty cache", ready, None)
    row("python3 -c 'import json,ssl,http.client', cold", py, py_native)
    row("find -ls, first", find, find_native)
    row("find -ls, again", warm, warm_native)
    row("read everything, cold, one reader", read, read_native,
        "daemon %.2f s cpu, peak memory %s" % (statistics.median(cpu), mib(max(rss))))
    row("read everything, cold, four readers", read4, read_native)
    print("  %-46s %8.2f us %18s peer %8.2f us %20s ratio %5.2f" % (
        "open+read+close, 8 to 16 kB, hot", statistics.median(hot), "", statistics.median(hot_native), "",
        statistics.median(hot) / statistics.median(hot_native)))
    stop(server)
    shutil.rmtree(d)


def group_walk():
    print("memory over %d walks of everything, each past the kernel's caches" % WALKS)
    d = site()
    publish(d, "1", TAR, d + "/index")
    server, line = daemon("serving ", BIN + "/rootstock", "serve", "--store", d + "/store", "--listen", "127.0.0.1:0")
    p, mnt, _ = mounted(d, line.split()[-1], d + "/cache")
    now = []
    for _ in range(WALKS):
        shell("find %s/rootfs/bench/1 -ls >/dev/null" % mnt)
        now.append(rss_of(p.pid, "VmRSS"))
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("2")
    tenth = max(1, WALKS // 10)
    print("  %-46s %s after %d walks, %s after %d, at most %s" % (
        "resident memory", mib(now[tenth - 1]), tenth, mib(now[-1]), WALKS, mib(max(now))))
    stop(p)
    stop(server)
    shutil.rmtree(d)


def gobench(package, pattern, times):
    out = run("go", "test", "-run", "^$", "-bench", pattern, "-benchtime", times, "-timeout", "20m", package, env=dict(os.environ, GOFLAGS="")).out
    for line in out.splitlines():
        if line.startswith("Benchmark"):
            print("  " + " ".join(line.split()))
    sys.stdout.flush()


def group_create():
    print("rootstock-plugin, process start included")
    gobench("./cmd/rootstock-plugin", "Create|Delete", "200x")
    gobench("./e2e", "Creates", "300x")
    gobench("./e2e", "Alive", "1x")


def group_format():
    print("the repository itself; check's peer: zstd -t of the same tar, one thread, which decodes but compares nothing")
    d = site()
    publish(d, "1", TAR, d + "/index")
    note = tempfile.mkdtemp(dir=work)
    commits, checks, peer = [], [], []
    shell("zstd -q -3 -c %s >%s/peer.zst" % (TAR, d))
    for n in range(ROUNDS):
        with open(note + "/note", "w") as f:
            f.write("note %d" % n)
        run("tar", "-C", note, "-cf", note + ".tar", "note")
        commits.append(run(BIN + "/rootstock", "publish", "--quiet", "--store", d + "/store", "--keys", work + "/keys",
                           "--cache", d + "/index", "rootfs", "note", str(n), note + ".tar"))
        peer.append(run("zstd", "-q", "-t", d + "/peer.zst"))
        checks.append(run(BIN + "/rootstock", "check", "--store", d + "/store"))
    size = stored(d)
    row("one file more, committed", commits, None)
    row("check, contents included", checks, peer, "%.0f MB stored/cpu-s, of %s" % (size / 1e6 / median(checks, "cpu"), mib(size)))
    shutil.rmtree(d)
    gobench("./catalog", "Compile$|OpenIndex$", "10x")
    gobench("./publisher/check", "Content", "3x")
    gobench("./publisher/gc", "Million", "1x")


def group_image():
    import image
    image.group(globals())


try:
    load = os.getloadavg()[0]
    print("%d rounds, %d processors, load average %.1f at the start%s" % (
        ROUNDS, os.cpu_count(), load, "; a busy machine: look at ratios and CPU only" if load > 1 else ""))
    for name in ("publish", "mount", "walk", "create", "format", "image"):
        if name in GROUPS:
            globals()["group_" + name]()
finally:
    for p in list(daemons):
        p.send_signal(signal.SIGTERM)
        p.wait(60)
    shutil.rmtree(work, ignore_errors=True)

"""The image tier's figures, each beside an overlay on this machine's own file
system and, for cold starts, beside skopeo and umoci. bench.py runs it: b is that
module's names.
"""
import ctypes
import io
import json
import mmap
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time

TREES = int(os.environ.get("BENCH_TREES", "50"))
ENTRIES = int(os.environ.get("BENCH_ENTRIES", "40000"))
PYTHON = ["/usr/bin/python3", "-c", "import json,ssl,http.client"]


class Cell:
    """A daemon on an empty cache, and a plugin that asks it."""

    def __init__(self, b, d, url):
        self.b, self.dir = b, tempfile.mkdtemp(dir=d)
        os.mkdir(self.dir + "/mnt")
        with open(self.dir + "/plugin.json", "w") as f:
            json.dump({"store": self.dir + "/containers", "socket": self.dir + "/cell.sock"}, f)
        self.p, _ = b["daemon"]("mounted ", b["BIN"] + "/rootstock-cell", "mount", "--url", url, "--name", b["NAME"],
                                "--key", "%s/keys/%s.pub" % (b["work"], b["NAME"]), "--cache", self.dir + "/cache",
                                "--socket", self.dir + "/cell.sock", "--tier", "image", self.dir + "/mnt")

    def plugin(self, *args):
        return subprocess.run([self.b["BIN"] + "/rootstock-plugin", "--config", self.dir + "/plugin.json", *args],
                              check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def create(self, ref, handle):
        return json.loads(self.plugin("create", "cvmfs://%s/%s" % (self.b["NAME"], ref), handle))["root"]["path"]

    def delete(self, *handles):
        for h in handles:
            self.plugin("delete", h)

    def status(self):
        return json.loads(self.b["run"](self.b["BIN"] + "/rootstock-cell", "status", "--json", "--socket", self.dir + "/cell.sock").out)

    def stop(self):
        self.b["stop"](self.p)
        shutil.rmtree(self.dir, ignore_errors=True)


def overlay_on(b, native):
    d = tempfile.mkdtemp(dir=b["work"])
    for name in ("u", "w", "m"):
        os.mkdir(d + "/" + name)
    b["run"]("mount", "-t", "overlay", "overlay", "-o", "lowerdir=%s,upperdir=%s/u,workdir=%s/w" % (native, d, d), d + "/m")
    return d + "/m"


def timed(b, root, args):
    """Wall and processor time of a program in a container's root."""
    before, start = os.times(), time.monotonic()
    subprocess.run(["chroot", root] + args, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return b["Run"](time.monotonic() - start, after.children_user + after.children_system - before.children_user - before.children_system, 0, "")


def resident(path):
    """Pages of a file that are in memory, and all."""
    size = os.path.getsize(path)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    fd = os.open(path, os.O_RDONLY)
    at = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    pages = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    vec = ctypes.create_string_buffer(pages)
    if libc.mincore(at, size, vec) != 0:
        raise OSError(ctypes.get_errno(), "mincore")
    libc.munmap(at, size)
    os.close(fd)
    return sum(v & 1 for v in vec.raw[:pages]), pages


def largest(root):
    best, size = None, 0
    for d, _, names in os.walk(root):
        for n in names:
            p = os.path.join(d, n)
            if os.path.isfile(p) and not os.path.islink(p) and os.path.getsize(p) > size:
                best, size = p, os.path.getsize(p)
    return os.path.relpath(best, root)


def registry(b, d):
    """The same image in a registry on loopback; nothing if it cannot be had."""
    with open(d + "/registry.yml", "w") as f:
        f.write("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s/registry\nhttp:\n  addr: 127.0.0.1:5907\n" % d)
    p = subprocess.Popen(["docker-registry", "serve", d + "/registry.yml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    b["daemons"].append(p)
    b["shell"]("cd %s && umoci init --layout oci && umoci new --image oci:x && umoci raw add-layer --image oci:x %s" % (d, b["TAR"]))
    b["shell"]("for i in $(seq 50); do skopeo copy -q --dest-tls-verify=false oci:%s/oci:x docker://127.0.0.1:5907/x:1 && exit; sleep 0.2; done; exit 1" % d)
    return p


def cold(b, d, url):
    """From the request to the output of a program, on a cell that has nothing.
    Its steps, and the program again in another container, are what it is made of.
    """
    runs, steps, cell = [], [], None
    for i in range(b["ROUNDS"]):
        cell = Cell(b, d, url)
        before, start = b["cpu_of"](cell.p.pid), time.monotonic()
        root = cell.create("rootfs/bench@1", "cold")
        created = time.monotonic() - start
        timed(b, root, PYTHON)
        done = time.monotonic() - start
        runs.append(b["Run"](done, b["cpu_of"](cell.p.pid) - before, 0, ""))
        asked = cell.status()["images"]["fuse_requests"]
        start = time.monotonic()
        root = cell.create("rootfs/bench@1", "known")
        known = time.monotonic() - start
        steps.append((created, done - created, known, timed(b, root, PYTHON).wall, asked))
        cell.delete("cold", "known")
        if i < b["ROUNDS"] - 1:
            cell.stop()
    return runs, steps, cell


def steps_row(steps):
    """Where a cold start's time goes, beside what is left once all is here."""
    created, program, known, again, asked = [statistics.median(s) for s in zip(*steps)]
    print("    %.3f s until the container is made (%.3f s when all is here), %.3f s the program (%.3f s), %d requests of the kernel" % (
        created, known, program, again, asked))


def cold_starts(b, d, url):
    without, steps, cell = cold(b, d, url)
    for _ in range(100):  # what was recorded is kept a moment later
        if b["run"](b["BIN"] + "/rootstock-cell", "profiles", "--socket", cell.dir + "/cell.sock").out:
            break
        time.sleep(0.1)
    b["run"](b["BIN"] + "/rootstock", "profile", "publish", "--store", d + "/store", "--keys", b["work"] + "/keys", cell.dir + "/cell.sock")
    cell.stop()
    profiled, profiled_steps, cell = cold(b, d, url)
    cell.stop()
    peer = []
    p = registry(b, d)
    for _ in range(b["ROUNDS"]):
        out = tempfile.mkdtemp(dir=d)
        start = time.monotonic()
        r = b["shell"]("cd %s && skopeo copy -q --src-tls-verify=false docker://127.0.0.1:5907/x:1 oci:o:x && umoci unpack --image o:x u" % out)
        run = timed(b, out + "/u/rootfs", PYTHON)
        peer.append(b["Run"](time.monotonic() - start, r.cpu + run.cpu, 0, ""))
        shutil.rmtree(out)
    b["stop"](p)
    b["row"]("python, cold cell, no profile (goal 180 ms)", without, peer, "peer: skopeo copy, umoci unpack; CPU: daemon's")
    steps_row(steps)
    b["row"]("python, cold cell, with profile (goal 120 ms)", profiled, peer)
    steps_row(profiled_steps)


def warm(b, cell, root, native, tree):
    for what, args, times in (("/bin/true", ["/bin/true"], 100), ("python imports", PYTHON, 10)):
        ours, peer = [], []
        for _ in range(b["ROUNDS"]):
            for where, runs in ((root, ours), (native, peer)):
                timed(b, where, args)
                all = [timed(b, where, args) for _ in range(times)]
                runs.append(b["Run"](sum(r.wall for r in all) / times, sum(r.cpu for r in all) / times, 0, ""))
        b["row"](what + ", warm (goal 1.05 x CPU)", ours, peer)
    walk = lambda where: b["shell"]("find %s -xdev -ls >/dev/null" % where)
    for what, before in (("walk + lstat, cold (goal 1.5 x)", lambda where: b["drop_caches"]()),
                         ("walk + lstat, warm (goal 1.3 x)", walk)):
        ours, peer = [], []
        for _ in range(b["ROUNDS"]):
            for where, runs in ((root, ours), (native, peer)):
                before(where)
                runs.append(walk(where))
        b["row"](what, ours, peer)
    ours, peer = [], []
    for _ in range(b["ROUNDS"]):
        ours.append(walk(cell.create("rootfs/bench@1", "walk")))
        cell.delete("walk")
        again = overlay_on(b, tree)
        peer.append(walk(again))
        b["run"]("umount", again)
    b["row"]("  first walk of a container made meanwhile", ours, peer)
    ours, peer = [], []
    for _ in range(b["ROUNDS"]):
        for where, runs in ((root, ours), (native, peer)):
            runs.append(float(b["run"]("python3", "-c", b["HOT"], where).out))
    print("  %-46s %.1f us, peer %.1f us, ratio %.2f (goal 1.1)" % (
        "small open+read+close, hot", min(ours), min(peer), min(ours) / min(peer)))


def big(b, root, native, name):
    for what, line in (("read", "cat %s >/dev/null"), ("mmap", "python3 -c 'import mmap,sys; f=open(sys.argv[1],\"rb\"); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); sum(m[i] for i in range(0,len(m),4096))' %s")):
        ours, peer = [], []
        for _ in range(b["ROUNDS"]):
            for where, runs in ((root, ours), (native, peer)):
                path = "'%s/%s'" % (where, name)
                b["shell"]("cat %s >/dev/null" % path)
                runs.append(b["shell"](line % path))
        b["row"]("%s of %s, hot (goal 1.1 x)" % (what, b["mib"](os.path.getsize(native + "/" + name))), ours, peer)


def shared(b, one, two, name):
    b["drop_caches"]()
    with open(one + "/" + name, "rb") as f:
        while f.read(1 << 20):
            pass
    there, pages = resident(two + "/" + name)
    print("  %-46s %d of %d pages that a container on version 1 read are in memory for one on version 2 (goal all)" % (
        "page cache of two versions", there, pages))


def memory(b, d, url):
    """A daemon that has many large trees mounted, each a hundredth its own."""
    cell = Cell(b, d, url)
    files = range(ENTRIES - ENTRIES // 40 - 1)

    def add(tar, mode, some, i):
        with tarfile.open(tar, mode, format=tarfile.USTAR_FORMAT) as t:
            for n in some:
                data = b"content %d of %d" % (n, i)
                e = tarfile.TarInfo("d%02d/s%04d/f%05d" % (n % 20, n // 40, n))
                e.size = len(data)
                t.addfile(e, io.BytesIO(data))

    add(d + "/same.tar", "w", (n for n in files if n % 100), 0)
    tar = d + "/many.tar"
    for i in range(TREES):
        shutil.copyfile(d + "/same.tar", tar)
        add(tar, "a", files[::100], i)
        b["run"](b["BIN"] + "/rootstock", "publish", "--quiet", "--store", d + "/store", "--keys", b["work"] + "/keys",
                 "--cache", d + "/index", "rootfs", "many", str(i), tar)
    b["run"](b["BIN"] + "/rootstock-cell", "refresh", "--socket", cell.dir + "/cell.sock")
    for i in range(TREES):
        cell.create("rootfs/many@%d" % i, "h%d" % i)
    time.sleep(20)  # what making them took is given back by then
    print("  %-46s %s, of it %s its own (goal 64 MB); %s at most, while they were made" % (
        "resident with %d trees of %d entries" % (TREES, ENTRIES), b["mib"](b["rss_of"](cell.p.pid, "VmRSS")),
        b["mib"](b["rss_of"](cell.p.pid, "RssAnon")), b["mib"](b["rss_of"](cell.p.pid))))
    cell.delete(*["h%d" % i for i in range(TREES)])
    cell.stop()


def group(b):
    print("image tier, server on loopback; peer: an overlay on the same tree unpacked here")
    b["gobench"]("./e2e", "ImageTier/(lower|overlay|create)", "10x")
    native = b["work"] + "/image-native"
    os.mkdir(native)
    b["shell"]("tar -C %s -xpf %s" % (native, b["TAR"]))
    d = b["site"]()
    b["publish"](d, "1", b["TAR"], d + "/index")
    with tempfile.TemporaryDirectory(dir=b["work"]) as more:
        shutil.copyfile(b["TAR"], more + "/t.tar")
        b["shell"]("cd %s && echo new >second-version && tar -rf t.tar second-version" % more)
        b["publish"](d, "2", more + "/t.tar", d + "/index")
    server, line = b["daemon"]("serving ", b["BIN"] + "/rootstock", "serve", "--store", d + "/store", "--listen", "127.0.0.1:0")
    url = line.split()[-1]
    cold_starts(b, d, url)
    cell = Cell(b, d, url)
    root = cell.create("rootfs/bench@1", "first")
    b["shell"]("find %s -xdev -type f -print0 | xargs -0 -n 500 cat >/dev/null" % root)  # all of it is cached
    cell.delete("first")
    root, two = cell.create("rootfs/bench@1", "one"), cell.create("rootfs/bench@2", "two")
    peer = overlay_on(b, native)
    name = largest(native)
    warm(b, cell, root, peer, native)
    big(b, root, peer, name)
    shared(b, root, two, name)
    print("  %-46s %d" % ("requests to the daemon meanwhile, over all", cell.status()["images"]["fuse_requests"]))
    b["run"]("umount", peer)
    cell.delete("one", "two")
    cell.stop()
    memory(b, d, url)
    b["stop"](server)
    shutil.rmtree(d)
    shutil.rmtree(native)

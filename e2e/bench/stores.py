#!/usr/bin/env python3
"""Servers, replicas and buckets beside a peer, in one session:

  serve      requests/s of small objects and MB/s of large ones, beside nginx
             on the same files, in turns, with the processor time each request
             cost the server (which a busy machine does not distort as much)
  replicate  MB/s from a loopback server into a directory, beside curl --parallel
             of the same files from nginx, which neither verifies nor syncs, and
             beside curl and then sha1sum and sync, which does what we do
  publish    into a bucket of versitygw on loopback, beside a directory, and
             whose processor time it was; versitygw keeps connections, as other
             S3 servers do without being told

Nothing is deleted before the end: a file system that has just freed much makes
new files slowly.

usage: make bench-stores    (needs nginx, ab, curl, and bin/ built)
"""
import io, os, random, re, resource, shutil, signal, socket, subprocess, tarfile, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOTSTOCK = os.path.join(ROOT, "bin", "rootstock")
NAME = "bench.example.org"
PATH = os.environ["PATH"] + ":/usr/sbin"


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*args, **kw):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kw).stdout


def wait(p):
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", p)).close()
            return
        except OSError:
            time.sleep(0.02)
    raise SystemExit(f"nothing listens at port {p}")


def cpu(pid):
    """Processor seconds of a process and its children so far."""
    total = 0
    pids = [pid] + [int(c) for c in open(f"/proc/{pid}/task/{pid}/children").read().split()]
    for p in pids:
        f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
        total += int(f[11]) + int(f[12])
    return total / os.sysconf("SC_CLK_TCK")


def timed(*args, **kw):
    """Seconds that a command took, and seconds of processor."""
    spent = lambda u: u.ru_utime + u.ru_stime
    before, began = spent(resource.getrusage(resource.RUSAGE_CHILDREN)), time.monotonic()
    run(*args, **kw)
    return time.monotonic() - began, spent(resource.getrusage(resource.RUSAGE_CHILDREN)) - before


def rss(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)) / 1024


def ab(url, n, c):
    out = run("ab", "-q", "-k", "-n", str(n), "-c", str(c), url)
    if not re.search(r"Failed requests:\s+0\b", out):
        raise SystemExit(out)
    return float(re.search(r"Requests per second:\s+([\d.]+)", out).group(1)), \
        float(re.search(r"Transfer rate:\s+([\d.]+)", out).group(1)) / 1024


def tree(path, small, large):
    rng = random.Random(1)
    with tarfile.open(path, "w") as t:
        def add(name, data):
            i = tarfile.TarInfo(name)
            i.size = len(data)
            t.addfile(i, io.BytesIO(data))
        for i in range(small):
            # Half random, half text: compresses as programs do.
            n = rng.randrange(1, 22 << 10)
            add(f"d{i % 50}/f{i}", rng.randbytes(n // 2) + b"some text of it " * (n // 32))
        for i in range(large):
            add(f"large{i}", rng.randbytes(24 << 20))


def main():
    work = tempfile.mkdtemp(prefix="rootstock-bench-stores-")
    procs = []

    def start(*args, **kw):
        p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)
        procs.append(p)
        return p

    try:
        j = lambda *p: os.path.join(work, *p)
        tree(j("t.tar"), 8000, 4)
        stored_mb = lambda d: int(run("du", "-sb", j(d, "data")).split()[0]) / 1e6

        # publish: local and s3, in turns, without memory of earlier runs
        gw = run("go", "run", "./internal/versitygw/program", cwd=ROOT).strip()
        gwport = port()
        os.makedirs(j("s3", "bench"))
        gateway = start(gw, "--quiet", "--keep-alive", "--port", f"127.0.0.1:{gwport}", "--access", "a", "--secret", "b", "posix", j("s3"))
        wait(gwport)
        env = dict(os.environ, AWS_ENDPOINT_URL=f"http://127.0.0.1:{gwport}", AWS_ACCESS_KEY_ID="a",
                   AWS_SECRET_ACCESS_KEY="b", AWS_REGION="us-east-1")
        local, bucket, theirs = [], [], []
        for i in range(3):
            for spec, times in ((j(f"store{i}"), local), (f"s3://bench/r{i}", bucket)):
                before = cpu(gateway.pid)
                run(ROOTSTOCK, "init", "--store", spec, "--name", NAME, "--keys", j("keys"), env=env)
                times.append(timed(ROOTSTOCK, "publish", "--store", spec, "--keys", j("keys"), "--cache", "", "rootfs", "t", "1", j("t.tar"), env=env))
                if times is bucket:
                    theirs.append(cpu(gateway.pid) - before)
        (t1, c1), (t2, c2) = map(min, zip(*local)), map(min, zip(*bucket))
        print(f"publish  {stored_mb('store0'):.0f} MB stored, 8,000 files: directory {t1:.2f} s ({c1:.2f} s cpu), "
              f"bucket {t2:.2f} s ({c2:.2f} s cpu, and {min(theirs):.2f} s the S3 server's): {t2 / t1:.2f} x, {c2 / c1:.2f} x of our cpu")

        store = j("store0")
        a, b = port(), port()
        conf = open(j("nginx.conf"), "w")
        conf.write(f"""daemon off; pid {j('pid')}; error_log {j('err')}; worker_processes auto; user root;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; default_type application/octet-stream;
{"".join(f"{t}_temp_path {j(t)}; " for t in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))}
server {{ listen 127.0.0.1:{a}; root {store}; }} }}""")
        conf.close()
        nginx = start("nginx", "-c", j("nginx.conf"), env=dict(os.environ, PATH=PATH))
        ours = start(ROOTSTOCK, "serve", "--store", store, "--listen", f"127.0.0.1:{b}")
        wait(a), wait(b)

        sizes = sorted((os.path.getsize(os.path.join(d, f)), os.path.join(d, f)[len(store) + 1:])
                       for d, _, fs in os.walk(j(store, "data")) for f in fs if not f.startswith("."))
        small, large = sizes[len(sizes) // 2][1], sizes[-1][1]
        for what, name, n, c in ((f"small ({sizes[len(sizes) // 2][0]} bytes)", small, 40000, 16), (f"large ({sizes[-1][0] >> 20} MiB)", large, 400, 8)):
            best = {}
            for _ in range(3):
                for who, p, proc in (("nginx", a, nginx), ("ours", b, ours)):
                    before = cpu(proc.pid)
                    rps, mbs = ab(f"http://127.0.0.1:{p}/{name}", n, c)
                    spent = (cpu(proc.pid) - before) / n * 1e6
                    old = best.get(who, (0, 0, 1e9))
                    best[who] = (max(old[0], rps), max(old[1], mbs), min(old[2], spent))
            (r1, m1, c1), (r2, m2, c2) = best["nginx"], best["ours"]
            print(f"serve    {what}: nginx {r1:.0f} req/s {m1:.0f} MB/s {c1:.0f} us cpu; ours {r2:.0f} req/s {m2:.0f} MB/s {c2:.0f} us cpu: {r2 / r1:.2f} x requests, {c1 / c2:.2f} x per cpu")
        print(f"serve    1,000 connections: ", end="")
        ab(f"http://127.0.0.1:{b}/{small}", 20000, 1000)
        print(f"all answered, RSS at most {rss(ours.pid):.0f} MB")

        files = [f for _, f in sizes]
        with open(j("curl.conf"), "w") as f:
            f.writelines(f'url="http://127.0.0.1:{a}/{n}"\noutput="{n}"\n' for n in files)
        curl = f"curl -s --parallel --parallel-max 16 --create-dirs -K {j('curl.conf')}"
        peers = {"curl": curl, "curl, sha1sum, sync": curl + " && find . -type f -print0 | xargs -0 -P 2 -n 500 sha1sum >/dev/null && sync -f ."}
        sources = {"from nginx": a, "from ours": b}
        times = {who: [] for who in (*peers, *sources)}
        for i in range(3):
            for who, command in peers.items():
                os.mkdir(j(f"{who}-{i}"))
                times[who].append(timed("sh", "-c", command, cwd=j(f"{who}-{i}")))
            for who, p in sources.items():
                times[who].append(timed(ROOTSTOCK, "replicate", f"http://127.0.0.1:{p}", j(f"{who}-{i}"), "--key", j("keys", NAME + ".pub"), "--quiet"))
        mb = stored_mb("from ours-0")
        best = {who: tuple(map(min, zip(*t))) for who, t in times.items()}
        print(f"replicate {mb:.0f} MB, {len(files)} files: " + "; ".join(f"{who} {mb / t:.0f} MB/s {c:.2f} s cpu" for who, (t, c) in best.items()))
        t, c = best["from nginx"]
        print("replicate from nginx: " + ", ".join(f"{best[who][0] / t:.2f} x of {who} ({best[who][1] / c:.2f} x per cpu)" for who in peers))
    finally:
        for p in procs:
            p.send_signal(signal.SIGTERM)
        for p in procs:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

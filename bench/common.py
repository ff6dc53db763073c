"""What the benchmarks share: one measured process, C helpers, the quartile that is quoted."""
import os, shlex, subprocess, time

here = os.path.dirname(os.path.realpath(__file__))


def compile_c(name, tmp):
    out = os.path.join(tmp, name)
    subprocess.run(["gcc", "-O2", "-static", "-o", out, os.path.join(here, name + ".c")], check=True)
    return out


def measure(cmd, tmp):
    """Wall and CPU seconds of one process and what it waited for."""
    argv = shlex.split(cmd)
    err = os.path.join(tmp, "err")
    files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
             (os.POSIX_SPAWN_OPEN, 2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)]
    t = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=files)
    _, status, use = os.wait4(pid, 0)
    wall = time.perf_counter() - t
    if status:
        raise RuntimeError(open(err).read().strip() or "status %d" % status)
    return wall, use.ru_utime + use.ru_stime


def peak(cmd, helper):
    """KiB. Asked of a small C program: what is spawned from here would start with python's own peak."""
    out = subprocess.run([helper] + shlex.split(cmd), text=True, stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.PIPE).stderr
    return int(out.split()[-1])


def quartile(values):
    """The lower one: other work on the machine only ever adds."""
    return sorted(values)[len(values) // 4]

#!/usr/bin/env python3
"""Makes each of a run's calls that write, sync, rename, make or remove fail once: a full disk, a broken one, a kill.

The run says so unless it really finished, leaves nothing half-written, and going on ends in the same bytes. Needs strace.
"""

import re
import shutil
import sys
from collections import Counter

from job import main, said

CALLS = """open openat creat write writev pwrite64 copy_file_range sendfile ftruncate fsync fdatasync rename renameat
renameat2 link linkat mkdir mkdirat unlink unlinkat rmdir""".split()
REASONS = {"ENOSPC": "No space left", "EIO": "Input/output error"}
FAULTS = [*REASONS, "kill"]
LINE = re.compile(r"(\d+) +(\w+)\((.*)")
OPENING = {"open", "openat", "creat"}
REMOVING = {"unlink", "unlinkat", "rmdir"}


def strace(log, inject=None):
    # Without --seccomp-bpf, which is faster: at its stops a signal is lost.
    command = ["strace", "-f", "-y", "-qq", "-s", "256", "-o", str(log), "-e", "trace=" + ",".join(CALLS)]
    return command + (["-e", "inject=" + inject] if inject else [])


def traced(log, folder):
    """The calls that matter: (name, its how-manieth of its thread, its arguments)."""
    counts, found = Counter(), []
    for line in log.read_text(errors="replace").splitlines():
        match = LINE.match(line)
        if not match:
            continue
        thread, name, rest = match.groups()
        counts[thread, name] += 1
        printed = name == "write" and rest.startswith(("1<", "2<"))
        within = str(folder) in rest and (name not in OPENING or "O_CREAT" in rest or name == "creat")
        if printed or within:
            found.append((name, counts[thread, name], rest))
    return found


def judged(job, folder, fault, call, done):
    """What is wrong with how a run with a failed call ended."""
    name, _, rest = call
    if fault == "kill":
        return [] if done.returncode == -9 else [f"the kill did not come: {said(done)}"]
    printed = name == "write" and rest.startswith(("1<", "2<"))
    there_already = "EEXIST" in rest  # making a folder that is there may fail as it likes
    output, problems = done.stdout + done.stderr, []
    if done.returncode == 0:
        wrong = job.problems(folder, finished=True)
        problems += [problem for problem in wrong if not (name in REMOVING and problem.endswith("left over"))]
    elif done.returncode != 1 or ("error: " not in done.stderr and not printed):
        problems.append(f"it did not end in plain words: {said(done)}")
    if REASONS[fault] not in output and not (printed or there_already or name in REMOVING):
        problems.append(f"no word of `{REASONS[fault]}`: {said(done)}")
    return problems


def play(job, arguments, draw, score):
    log = job.scratch / "strace.log"
    folder = job.folder("run")
    done = job.run(folder, strace(log))
    if done.returncode != 0:
        sys.exit(f"the job fails under strace: {said(done)}")
    calls = traced(log, folder)
    cases = [(fault, call) for call in calls for fault in FAULTS]
    if arguments.count:
        cases = draw.sample(cases, min(arguments.count, len(cases)))
    kinds = ", ".join(f"{count} {name}" for name, count in Counter(name for name, *_ in calls).items())
    print(f"{len(calls)} calls ({kinds}), {len(FAULTS)} faults each: {len(cases)} cases", flush=True)
    for fault, call in cases:
        name, nth, rest = call
        effect = "signal=KILL" if fault == "kill" else f"error={fault}"
        folder = job.folder("run")
        done = job.run(folder, strace(log, f"{name}:{effect}:when={nth}"))
        problems = judged(job, folder, fault, call, done) + job.problems(folder)
        resumed = job.go_on(folder)
        if resumed.returncode != 0:
            problems.append(f"it does not go on: {said(resumed)}")
        else:
            problems += job.problems(folder, finished=True)
        where = rest.replace(str(folder) + "/", "")[:110]
        score.add(f"{fault} at {name} {nth}: {where}", list(dict.fromkeys(problems)))


if __name__ == "__main__":
    if not shutil.which("strace"):
        print("strace is not here, so no call can be made to fail: apt-get install strace")
        print("0 passed, 0 failed")
        sys.exit(0)
    main(__doc__, 200, play)

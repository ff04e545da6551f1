#!/usr/bin/env python3
"""Starts two runs in one folder, new ones and resumed ones. Exactly one succeeds, and the folder is that one's alone."""

import shutil
import time

from job import ended, main, said


def pair(job, folder, seeds, resume, apart):
    """Two runs, the second begun so many seconds after the first."""
    first = job.start(folder, resume=resume, seed=seeds[0])
    time.sleep(apart)
    second = job.start(folder, resume=resume, seed=seeds[1])
    return [ended(first), ended(second)]


def judged(job, folder, seeds, done):
    problems = []
    winners = [seed for seed, run in zip(seeds, done) if run.returncode == 0]
    if len(winners) != 1:
        problems.append(f"{len(winners)} of two succeeded: {' | '.join(said(run) for run in done)}")
    for run in done:
        if run.returncode != 0 and (run.returncode != 1 or "error: " not in run.stderr):
            problems.append(f"the other was not refused in plain words: {said(run)}")
    if winners:
        problems += job.problems(folder, winners[0], finished=True)
    return problems


def play(job, arguments, draw, score):
    job.run_whole(1)
    half = job.stopped("half", at_least=4)
    for case in range(arguments.count):
        folder = job.folder("run")
        resume = case % 3 == 2
        seeds = (0, 0) if resume else (0, 1)
        if resume:
            shutil.copytree(half, folder)
        # A resumed run that begins after the other's end finds nothing left to do, and may say so: no room for that.
        apart = draw.choice([0, draw.uniform(0, job.seconds * (0.1 if resume else 0.9))])
        done = pair(job, folder, seeds, resume, apart)
        what = "resumed" if resume else "new"
        score.add(f"two {what} runs, {apart:.4f} s apart", judged(job, folder, seeds, done))


if __name__ == "__main__":
    main(__doc__, 30, play)

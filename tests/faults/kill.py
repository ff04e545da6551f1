#!/usr/bin/env python3
"""Kills a run at random instants. Whatever it leaves is whole, and going on ends in the same bytes."""

import time

from job import checkpoints, ended, main, said


def killed(job, folder, after, resume):
    """Whether the kill came before the run's end."""
    running = job.start(folder, resume=resume)
    time.sleep(after)
    running.kill()
    return ended(running).returncode == -9


def play(job, arguments, draw, score):
    kills, with_checkpoint, too_late = 0, 0, 0
    while kills < arguments.count:
        folder = job.folder("run")
        instants, problems = [], []
        # One run in four is killed again while it goes on.
        while not instants or draw.random() < 0.25:
            after = draw.uniform(0, job.seconds)
            if not killed(job, folder, after, resume=bool(checkpoints(folder))):
                break
            instants.append(f"{after:.4f}")
            with_checkpoint += bool(checkpoints(folder))
            problems += job.problems(folder)
        if not instants:
            too_late += 1  # the run had ended: it proves nothing
            continue
        kills += len(instants)
        done = job.go_on(folder)
        # The run that the last kill missed may have ended: then there is nothing left to do, and that is fine too.
        if done.returncode != 0:
            problems.append(f"it does not go on: {said(done)}")
        else:
            problems += job.problems(folder, finished=True)
        score.add(f"killed after {' and then '.join(instants)} s of {job.seconds:.2f}", problems)
    print(f"{kills} kills, {with_checkpoint} with a checkpoint to go on from; {too_late} came after the run's end")


if __name__ == "__main__":
    main(__doc__, 60, play)

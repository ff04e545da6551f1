#!/usr/bin/env python3
"""Flips single bits in a checkpoint. Each is noticed: the checkpoint before is taken, or an error names the damage."""

import shutil

from job import checkpoints, main, said


def flipped(draw, checkpoint):
    """Flips one bit of one file. Small files get as many as large ones: a byte of `state.json` weighs most."""
    file = draw.choice(sorted(path for path in checkpoint.rglob("*") if path.is_file()))
    data = bytearray(file.read_bytes())
    place, bit = draw.randrange(len(data)), draw.randrange(8)
    data[place] ^= 1 << bit
    file.write_bytes(data)
    return file, f"bit {bit} of byte {place} of {checkpoint.name}/{file.relative_to(checkpoint)}"


def play(job, arguments, draw, score):
    half = job.stopped("half", at_least=8)
    for case in range(arguments.count):
        folder = job.folder("run")
        shutil.copytree(half, folder)
        there = checkpoints(folder)
        # One time in five no checkpoint is left that is whole.
        damaged = there if case % 5 == 4 else there[-1:]
        hits = [flipped(draw, place) for place in damaged]
        before = {place.name for place in there}
        done = job.run(folder, resume=True)
        printed = done.stdout + done.stderr
        problems = []
        if not any(file.name in printed or place.name in printed for (file, _), place in zip(hits, damaged)):
            problems.append(f"no word of it: {said(done)}")
        if done.returncode == 0:
            if damaged == there:
                problems.append(f"it went on from a damaged checkpoint: {said(done)}")
            problems += job.problems(folder, finished=True)
        else:
            if len(there) > len(damaged):
                problems.append(f"the checkpoint before was not taken: {said(done)}")
            if done.returncode != 1 or "error: " not in done.stderr:
                problems.append(f"it was not refused in plain words: {said(done)}")
            if {place.name for place in checkpoints(folder)} != before:
                problems.append("a refused resume removed a checkpoint")
        score.add(" and ".join(what for _, what in hits), problems)


if __name__ == "__main__":
    main(__doc__, 100, play)

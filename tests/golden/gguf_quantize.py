"""Writes gguf_quantize.json: the squared error of two references that quantise to GGML's types.

    python tests/golden/gguf_quantize.py                             (with the packages gguf, numpy and xllamacpp)
    python tests/golden/gguf_quantize.py --table FILE.gguf ENCODE    (prints a table of the weights of a file)

`values`: for each kind of numbers, little-endian f32 in hex. `errors`: for each type and kind, the squared error of
`gguf.quants.quantize` (null where the package cannot) and of llama.cpp's `ggml_quantize_chunk` without an importance
matrix, which the wheel xllamacpp exports. Rows have 256 values; blocks do not depend on their row.

For the table, ENCODE is the crate's example of that name (`cargo build --release -p foehn-weights --example encode`). Both
sides dequantise the file, whose weights lie on a lattice for each block if it is quantised itself.
FILE may also be an array, `.npy`, of weights that never were quantised.
"""

import ctypes
import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np

Q = gguf.GGMLQuantizationType
TYPES = [Q.F16, Q.BF16, Q.Q8_0, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q4_K, Q.Q5_K, Q.Q6_K]
ROW = 256


def llama_cpp():
    """llama.cpp's quantiser."""
    folder = Path(find_spec("xllamacpp").origin).parent
    quantize = ctypes.CDLL(str(folder / "xllamacpp.abi3.so")).ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + 3 * [ctypes.c_int64] + [ctypes.c_void_p]

    def made(values, kind):
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        rows = len(values) // ROW
        data = np.zeros((rows, ROW // elements * size), np.uint8)
        written = quantize(kind, values.ctypes.data, data.ctypes.data, 0, rows, ROW, None)
        assert written == data.nbytes
        return data

    return made


def by_package(values, kind):
    try:
        return gguf.quants.quantize(values.reshape(-1, ROW), kind).view(np.uint8)
    except NotImplementedError:
        return None


def squared_error(values, data, kind):
    if data is None:
        return None
    found = gguf.quants.dequantize(data, kind).reshape(-1).astype(np.float64)
    return float(np.sum((found - values) ** 2))


def kinds(rng):
    """Numbers like weights, and unlike them. The tiny ones are near and below the smallest half-precision number."""
    count = 1024
    normal = rng.standard_normal
    outliers = 0.02 * normal(count)
    outliers[rng.integers(0, count, 20)] *= 40
    constant = np.repeat([0.5, -0.3, 1000.1, -77.77], count // 4)
    all_kinds = {
        "normal": 0.02 * normal(count),
        "heavy_tailed": 0.02 * rng.standard_t(2, count),
        "outliers": outliers,
        "uniform": rng.uniform(-1, 1, count),
        "positive": rng.uniform(0.1, 1, count) ** 3,
        "negative": -1 - 0.1 * np.abs(normal(count)),
        "shifted": 300 + 0.01 * normal(count),
        "large": 2000 * normal(count),
        "zeros": np.zeros(count),
        "constant": constant,
        "few": np.where(rng.uniform(size=count) < 0.03, normal(count), 0),
        "lattice": rng.integers(-8, 8, count) / 64,
        "tiny": 1e-5 * normal(count),
        "tinier": 10 ** rng.uniform(-10, -5, count) * np.sign(normal(count)),
        "subnormal": 1e-40 * normal(count),
    }
    return {name: values.astype(np.float32) for name, values in all_kinds.items()}


def golden():
    by_llama_cpp = llama_cpp()
    values = kinds(np.random.default_rng(20260115))
    encoded = {name: v.tobytes().hex() for name, v in values.items()}
    errors = {}
    for kind in TYPES:
        errors[kind.name] = {
            name: {
                "gguf": squared_error(v, by_package(v, kind), kind),
                "llama.cpp": squared_error(v, by_llama_cpp(v, kind), kind),
            }
            for name, v in values.items()
        }
    out = Path(__file__).with_suffix(".json")
    out.write_text(json.dumps({"values": encoded, "errors": errors}, indent=1) + "\n", encoding="utf-8")


def weights(path):
    """The matrices of a file, one after another."""
    if path.suffix == ".npy":
        return np.load(path).astype(np.float32).reshape(-1)
    tensors = [tensor for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) > 1]
    return np.concatenate([gguf.quants.dequantize(t.data, t.tensor_type).reshape(-1) for t in tensors])


def table(path, encode):
    """Mean squared errors, and the seconds: ours on all cores, those of all our cores together (with reading the values), and
    llama.cpp's on one core."""
    by_llama_cpp = llama_cpp()
    values = weights(path)
    values = values[: len(values) // ROW * ROW]
    print(f"{path.name}: {len(values):,} weights; errors are mean squared")
    print("type  bits    ours        gguf        llama.cpp   of gguf  of llama.cpp  wall s  core s  llama.cpp's")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "values"
        values.tofile(raw)
        for kind in TYPES:
            made = Path(folder) / "made"
            before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
            seconds = float(subprocess.run([encode, raw, kind.name, made], check=True, capture_output=True, text=True).stdout)
            of_cores = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
            ours = error_in_parts(values, np.fromfile(made, np.uint8), kind)
            start = time.process_time()
            data = by_llama_cpp(values, kind)
            their_seconds = time.process_time() - start
            theirs = error_in_parts(values, data, kind)
            package = error_by_package(values, kind)
            elements, size = gguf.GGML_QUANT_SIZES[kind]
            of = lambda other: f"{ours / other:.4f}" if other else "-"
            number = lambda error: "-" if error is None else f"{error / len(values):.4e}"
            print(
                f"{kind.name:5} {8 * size / elements:5.4g}   {number(ours):11} {number(package):11} {number(theirs):11} "
                f"{of(package):8} {of(theirs):13} {seconds:6.2f}  {of_cores:6.2f}  {their_seconds:6.2f}",
                flush=True,
            )


# Rows that are worked on at once, to bound the memory.
PART = 1 << 14


def error_in_parts(values, data, kind):
    rows = values.reshape(-1, ROW)
    data = data.reshape(len(rows), -1)
    parts = range(0, len(rows), PART)
    return sum(squared_error(rows[at : at + PART].reshape(-1), data[at : at + PART], kind) for at in parts)


def error_by_package(values, kind):
    rows = values.reshape(-1, ROW)
    parts = [rows[at : at + PART].reshape(-1) for at in range(0, len(rows), PART)]
    errors = [squared_error(part, by_package(part, kind), kind) for part in parts]
    return None if None in errors else sum(errors)


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            golden()
        case ["--table", path, encode]:
            table(Path(path), encode)
        case _:
            sys.exit(__doc__)

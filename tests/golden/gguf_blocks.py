"""Writes gguf_blocks.json: what the Python package `gguf` makes of quantised blocks and of a whole small file.

    python tests/golden/gguf_blocks.py        (with the packages gguf and numpy)

`blocks`: for each storage type, bytes in hex and the values that `gguf.quants.dequantize` gives for them, as the bits of
the f32 numbers in little-endian hex. The bytes are random but for the scales, which are drawn from all finite halves.
`quantized`: random numbers of the spread of weights, as f32 in hex, and what `gguf.quants.quantize` makes of them.
`nf4`: the levels of the QLoRA paper, by its construction (appendix E: quantiles of the normal distribution, evenly spaced in
probability on each side of zero, scaled to one).
`file`: a file written by `gguf.GGUFWriter`, in hex, and what was put into it.
"""

import json
import tempfile
from pathlib import Path
from statistics import NormalDist

import gguf
import numpy as np

Q = gguf.GGMLQuantizationType
# Where the half-precision scales stand in a block.
SCALES = {
    Q.Q4_0: [0],
    Q.Q4_1: [0, 2],
    Q.Q5_0: [0],
    Q.Q5_1: [0, 2],
    Q.Q8_0: [0],
    Q.Q4_K: [0, 2],
    Q.Q5_K: [0, 2],
    Q.Q6_K: [208],
}
# Those of the types that this script got later. They have random numbers of their own, so that the others stay as they were.
LATER_SCALES = {Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.IQ4_NL: [0], Q.IQ4_XS: [0]}


def finite(rng, bits, exponent):
    """Random numbers of 16 bits whose exponent is not all ones: no infinity and no NaN."""
    numbers = rng.integers(0, 2**16, bits, dtype=np.uint16)
    numbers[(numbers & exponent) == exponent] &= np.uint16(0xFFFF ^ (exponent & -exponent))
    return numbers


def block_case(rng, kind, count):
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for at in (SCALES | LATER_SCALES)[kind]:
        blocks[:, at : at + 2] = finite(rng, count, 0x7C00).view(np.uint8).reshape(count, 2)
    values = gguf.quants.dequantize(blocks, kind)
    return {"dtype": kind.name, "bytes": blocks.tobytes().hex(), "values": values.tobytes().hex()}


def plain_case(rng, kind, exponent, special):
    numbers = np.concatenate([np.array(special, dtype=np.uint16), finite(rng, 61, exponent)])
    values = gguf.quants.dequantize(numbers.view(np.uint8), kind)
    return {"dtype": kind.name, "bytes": numbers.tobytes().hex(), "values": values.tobytes().hex()}


def file_case(rng):
    matrix = rng.standard_normal((3, 64)).astype(np.float32)
    norm = rng.standard_normal(5).astype(np.float32)
    quantised = gguf.quants.quantize(matrix, Q.Q8_0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "small.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_block_count(2)
        writer.add_rope_freq_base(100000.0)
        writer.add_add_bos_token(False)
        writer.add_token_list(["<s>", "▁héllo", ""])
        writer.add_token_scores([0.0, -1.5, 2.25])
        writer.add_token_types([3, 1, -1])
        writer.add_chat_template("{{ messages }}")
        writer.add_int8("test.negative", -7)
        writer.add_uint64("test.large", 2**40)
        writer.add_float64("test.double", 0.1)
        writer.add_tensor("blk.0.attn_q.weight", quantised, raw_dtype=Q.Q8_0)
        writer.add_tensor("output_norm.weight", norm)
        writer.add_tensor("rope_freqs.weight", norm.astype(np.float16))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        data = path.read_bytes()
    matrix = gguf.quants.dequantize(quantised, Q.Q8_0)
    tensors = {"blk.0.attn_q.weight": matrix, "output_norm.weight": norm, "rope_freqs.weight": norm.astype(np.float16).astype(np.float32)}
    described = {name: {"shape": list(values.shape), "values": values.tobytes().hex()} for name, values in tensors.items()}
    return {"bytes": data.hex(), "tensors": described}


def quantized_case(rng):
    values = (0.02 * rng.standard_t(5, (4, 512))).astype(np.float32)
    made = {kind.name: gguf.quants.quantize(values, kind).tobytes().hex() for kind in [Q.Q8_0, Q.Q4_1]}
    return {"values": values.tobytes().hex(), "made": made}


def nf4_levels():
    quantile = NormalDist().inv_cdf
    side = lambda steps: [quantile(p) for p in np.linspace(0.9677083, 0.5, steps)[:-1]]
    levels = sorted(side(9) + [0.0] + [-level for level in side(8)])
    return [level / max(levels) for level in levels]


def main():
    rng = np.random.default_rng(20250711)
    blocks = [block_case(rng, kind, 3 if kind.name.endswith("_K") else 8) for kind in SCALES]
    blocks.append(plain_case(rng, Q.F16, 0x7C00, [0x7C00, 0xFC00, 0x8000]))
    blocks.append(plain_case(rng, Q.BF16, 0x7F80, [0x7F80, 0xFF80, 0x8000]))
    later = np.random.default_rng(20251130)
    blocks += [block_case(later, kind, 8 if kind == Q.IQ4_NL else 3) for kind in LATER_SCALES]
    golden = {"blocks": blocks, "file": file_case(rng), "quantized": quantized_case(rng), "nf4": nf4_levels()}
    out = Path(__file__).with_suffix(".json")
    out.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Golden fixtures of the model: what transformers, PEFT and PyTorch (float32, CPU) say about two tiny Mistral models.

    python model.py           # rewrite the folder `model/` beside this file
    python model.py --check   # exit 1 when a byte of it would change

A fixture is worth what its tolerance can tell apart. So everything is computed a second time, in float64, by a forward
pass written out below (`reference`): the float32 numbers must lie within a tenth of each tolerance, and every mistake
that `mutants` makes must leave it by a factor of ten. `expected.json` records both. README.md describes the files.
"""
import argparse, filecmp, json, os, pathlib, re, sys, tempfile, warnings
from unittest import mock

# Before torch is loaded: plain instructions, so that the bytes hang less on the CPU at hand, and no look at the network.
os.environ.update(ATEN_CPU_CAPABILITY="default", MKL_CBWR="COMPATIBLE", HF_HUB_OFFLINE="1")
import peft, torch, transformers
from safetensors.torch import load_file, save_file
from torch.nn.functional import silu
from transformers import MistralConfig, MistralForCausalLM, get_cosine_schedule_with_warmup
from transformers.models.mistral import modeling_mistral as mistral

HERE = pathlib.Path(__file__).resolve().parent
BOS, EOS, PAD = 1, 2, 2  # pad = eos on purpose: a loss that masks by id loses its stop tokens
VERSIONS = {m.__name__: m.__version__.split("+")[0] for m in (torch, transformers, peft)}
COMMON = dict(num_hidden_layers=2, num_key_value_heads=2, vocab_size=97, max_position_embeddings=64, hidden_act="silu",
              attention_dropout=0.0, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=None, attn_implementation="eager")
MODELS = {  # config, seed, and for each sample its length and its supervised spans; eos also ends the inner span
    "gqa": (dict(COMMON, hidden_size=48, intermediate_size=80, num_attention_heads=6, head_dim=16, sliding_window=None,
                 rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=1e4), tie_word_embeddings=False),
            20261122, [(17, [(5, 8), (12, 17)]), (11, [(4, 11)]), (6, [(5, 6)])]),
    "window": (dict(COMMON, hidden_size=32, intermediate_size=56, num_attention_heads=4, head_dim=8, sliding_window=5,
                    rms_norm_eps=1e-2, rope_parameters=dict(rope_type="default", rope_theta=1e6), tie_word_embeddings=True),
               20261123, [(17, [(6, 9), (13, 17)]), (13, [(8, 13)]), (9, [(7, 9)])]),
}
LORA = dict(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
STEPS, LR = 10, 1e-2
RUNS = {"plain": dict(decay=0.0, clip=None, warmup=None), "scheduled": dict(decay=0.1, clip=0.5, warmup=2)}
# |actual - expected| <= atol + rtol * |expected|, element by element.
TOLERANCES = {"rope": (1e-5, 1e-5), "hidden": (1e-4, 1e-5), "logits": (2e-4, 1e-5), "loss": (1e-5, 1e-5),
              "grad": (1e-4, 1e-4), "losses": (5e-5, 1e-5), "grad_norms": (5e-5, 1e-4), "adapter_end": (1e-4, 1e-4)}
OPS = {"rms_norm": (1e-5, 1e-5), "rotary": (1e-4, 1e-5), "swiglu": (1e-5, 1e-5)}


# ---- the second opinion, in float64 ----

def rms_norm(x, weight, eps):
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()


def rotate(x, positions, theta, interleaved=False):
    """Rotary embedding of `x` `[.., seq, head_dim]` at `positions` `[.., seq]`: pairs (i, i + head_dim/2), or (2i, 2i + 1)."""
    half = x.shape[-1] // 2
    angle = positions.double()[..., None] * theta ** (-torch.arange(half).double() / half)
    a, b = (x[..., ::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])
    turned = a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()
    return torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)


def reference(weights, adapter, config, ids):
    """Every intermediate of the forward pass over `ids` `[batch, seq]`, from named tensors; `adapter` may be empty."""
    heads, kv, dim = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    norm = lambda x, w: rms_norm(x, weights[w + ".weight"], config["rms_norm_eps"])
    grown = (lambda x: torch.cat([x] * (heads // kv), 1)) if config.get("tiled") else (lambda x: x.repeat_interleave(heads // kv, 1))
    at = torch.arange(ids.shape[1])
    rope = lambda x: rotate(x, at, config["rope_parameters"]["rope_theta"], config.get("interleaved", False))
    back = at[:, None] - at  # how far behind its query a key lies
    seen = (back >= 0) & (back < (config["sliding_window"] or ids.shape[1]))

    def linear(x, name):
        y, key = x @ weights[name + ".weight"].T, f"base_model.model.{name}.lora_"
        if adapter:
            y = y + config.get("scale", LORA["lora_alpha"] / LORA["r"]) * (x @ adapter[key + "A.weight"].T) @ adapter[key + "B.weight"].T
        return y

    out = {"hidden.embed": (x := weights["model.embed_tokens.weight"][ids])}
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        h = norm(x, layer + "input_layernorm")
        q, k, v = (linear(h, f"{layer}self_attn.{n}_proj").unflatten(-1, (-1, dim)).transpose(1, 2) for n in "qkv")
        q, k = rope(q), rope(k)
        if i == 0:
            out.update({"rope.q": q, "rope.k": k})
        scores = (q @ grown(k).mT * config.get("attention_scale", dim**-0.5)).masked_fill(~seen, -torch.inf)
        x = x + linear((scores.softmax(-1) @ grown(v)).transpose(1, 2).flatten(2), layer + "self_attn.o_proj")
        h = norm(x, layer + "post_attention_layernorm")
        x = x + linear(silu(linear(h, layer + "mlp.gate_proj")) * linear(h, layer + "mlp.up_proj"), layer + "mlp.down_proj")
        out[f"hidden.block.{i}"] = x
    out["hidden.norm"] = norm(x, "model.norm")
    head = weights["model.embed_tokens.weight" if config["tie_word_embeddings"] else "lm_head.weight"]
    return out | {"logits": out["hidden.norm"] @ head.T}


# ---- what is measured ----

def masked_loss(logits, batch, mistake=None):
    """Sum of -log p over the supervised targets, over their number: `loss_mask` marks the targets themselves."""
    ids, mask = batch["ids"], batch["mask"].clone()
    if mistake == "pad_id_masked":
        mask[ids == PAD] = 0
    logp = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    mask = mask[:, :-1] if mistake == "mask_not_shifted" else mask[:, 1:]
    if mistake == "mean_of_sample_means":
        return -((logp * mask).sum(1) / mask.sum(1)).mean()
    return -(logp * mask).sum() / mask.sum()


def train(params, loss_of, decay, clip, warmup, mistake=None):
    """Ten AdamW steps on one batch, in place: losses, learning rates used, and global gradient norms before clipping."""
    kind = torch.optim.Adam if mistake == "decay_coupled" else torch.optim.AdamW
    eps = 1e-5 if mistake == "adam_eps_1e-5" else 1e-8
    optimizer = kind(params, lr=LR, betas=(0.9, 0.999), eps=eps, weight_decay=decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, warmup, STEPS) if warmup else None
    out = {"losses": [], "learning_rates": [], "grad_norms": []}
    for _ in range(STEPS):
        if mistake == "schedule_one_early":
            schedule.step()
        optimizer.zero_grad()
        loss = loss_of()
        loss.backward()
        out["grad_norms"].append(torch.nn.utils.get_total_norm([p.grad for p in params]).item())
        if clip:
            for group in [[p] for p in params] if mistake == "clip_per_tensor" else [params]:
                torch.nn.utils.clip_grad_norm_(group, clip)
        out["losses"].append(loss.item())
        out["learning_rates"].append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if schedule and mistake != "schedule_one_early":
            schedule.step()
    return out


def excess(actual, expected, kind):
    """The largest deviation, in units of its tolerance: at most 1 passes."""
    atol, rtol = (TOLERANCES | OPS)[kind]
    actual, expected = torch.as_tensor(actual).double(), torch.as_tensor(expected).double()
    return ((actual - expected).abs() / (atol + rtol * expected.abs())).max().item()


# ---- transformers and PEFT ----

def fill(parameters, generator):
    """Weights with which every part of the network shows: peaked attention, uneven norms, logits of deviation about 3."""
    with torch.no_grad():
        for name, p in parameters:
            if p.ndim == 1:
                p.uniform_(0.5, 1.5, generator=generator)
            elif "lora_B" in name:
                p.normal_(0, 0.1, generator=generator)
            else:
                rows = 0.45 if "embed" in name or "lm_head" in name else (1.0 if "lora_A" in name else 1.4) / p.shape[1] ** 0.5
                p.normal_(0, rows, generator=generator)


def make_batch(spans, vocab, generator):
    """Right-padded samples that begin with bos and end with eos, with their loss masks."""
    width = max(n for n, _ in spans)
    batch = {"ids": torch.full((len(spans), width), PAD), "mask": torch.zeros(len(spans), width, dtype=torch.long),
             "attention": torch.zeros(len(spans), width, dtype=torch.long)}
    for i, (n, targets) in enumerate(spans):
        batch["ids"][i, :n] = torch.randint(3, vocab, (n,), generator=generator)
        batch["ids"][i, 0], batch["attention"][i, :n] = BOS, 1
        for start, end in targets:
            batch["mask"][i, start:end], batch["ids"][i, end - 1] = 1, EOS
    return batch


def intermediates(model, ids):
    """The same names as `reference` gives, out of transformers: by hooks, since `output_hidden_states` norms the last."""
    base, out, handles = model.get_base_model() if isinstance(model, peft.PeftModel) else model, {}, []
    named = {"hidden.embed": base.model.embed_tokens, "hidden.norm": base.model.norm, "logits": base.lm_head}
    named |= {f"hidden.block.{i}": layer for i, layer in enumerate(base.model.layers)}
    for name, module in named.items():
        handles.append(module.register_forward_hook(lambda m, _, y, name=name: out.__setitem__(name, y)))
    rotary = mistral.apply_rotary_pos_emb

    def record(*args, **kwargs):
        q, k = rotary(*args, **kwargs)
        out.setdefault("rope.q", q), out.setdefault("rope.k", k)
        return q, k

    with torch.no_grad(), mock.patch.object(mistral, "apply_rotary_pos_emb", record):
        model(ids)
    for handle in handles:
        handle.remove()
    return out


def check_window(model, ids):
    """transformers' eager attention applies `sliding_window` as a mask made by hand does: a token sees itself and w - 1 before."""
    w, n = model.config.sliding_window, ids.shape[1]
    back = torch.arange(n)[:, None] - torch.arange(n)
    mask = torch.zeros(1, 1, n, n).masked_fill((back < 0) | (back >= w), torch.finfo(torch.float32).min)
    with torch.no_grad():
        windowed = model(ids).logits
        with mock.patch.object(model.config, "sliding_window", None):
            by_hand, full = model(ids, attention_mask=mask).logits, model(ids).logits
    assert excess(windowed, by_hand, "logits") < 0.1, "the window is not the mask made by hand"
    assert torch.allclose(full[:, :w], windowed[:, :w], atol=1e-5) and excess(full, windowed, "logits") > 1e3, "no window at all"


def save_adapter(model, folder):
    """PEFT's own files, less its model card; the base has a name and not a path, and the set of modules an order."""
    config = model.peft_config["default"]
    config.base_model_name_or_path, config.target_modules = folder.parent.name, sorted(config.target_modules)
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink()


# ---- the mistakes that the tolerances must tell apart ----

def mutants(config, weights, start, batch, expected, runs):
    """By how many tolerances each mistake is off. Names say the mistake; `kind` says which of the expected values shows it."""
    heads, theta = config["num_attention_heads"], config["rope_parameters"]["rope_theta"]
    forward = {"rope_interleaved": {"interleaved": True}, "kv_heads_tiled": {"tiled": True}, "lora_scale_1": {"scale": 1.0},
               "rms_norm_eps_1e-6": {"rms_norm_eps": 1e-6},
               "rope_theta_other": {"rope_parameters": {"rope_theta": 1e6 if theta == 1e4 else 1e4}}}
    if config["head_dim"] != config["hidden_size"] // heads:
        forward["scale_by_hidden_over_heads"] = {"attention_scale": (config["hidden_size"] / heads) ** -0.5}
    if w := config["sliding_window"]:
        forward |= {f"window_{v}": {"sliding_window": v} for v in (None, w - 1, w + 1)}
    else:
        forward.pop("rms_norm_eps_1e-6")  # 1e-5 against 1e-6 is no mistake that real activations would show
    ids, off = batch["ids"][:1], {}
    with torch.no_grad():
        for name, change in forward.items():
            off[name] = excess(reference(weights, start, config | change, ids)["logits"], expected["lora.logits"], "logits")
        logits = reference(weights, start, config, batch["ids"])["logits"]
        for name in ("pad_id_masked", "mask_not_shifted", "mean_of_sample_means"):
            off[name] = excess(masked_loss(logits, batch, name), runs["loss"], "loss")
    changes = {"clip_per_tensor": {}, "no_clip": {"clip": None}, "no_decay": {"decay": 0.0}, "decay_coupled": {},
               "no_schedule": {"warmup": None}, "schedule_one_early": {}, "adam_eps_1e-5": {}}
    for name, change in changes.items():
        got, _ = train_reference(config, weights, start, batch, RUNS["scheduled"] | change, name)
        off[name] = excess(got["losses"], runs["scheduled"]["losses"], "losses")
    return off


def train_reference(config, weights, start, batch, run, mistake=None):
    params = {k: v.clone().requires_grad_() for k, v in start.items()}
    loss_of = lambda: masked_loss(reference(weights, params, config, batch["ids"])["logits"], batch)
    return train(list(params.values()), loss_of, **run, mistake=mistake), params


# ---- the files ----

def write_model(root, name):
    config, seed, spans = MODELS[name]
    torch.manual_seed(seed)
    generator, folder = torch.Generator().manual_seed(seed), root / name
    base = MistralForCausalLM(MistralConfig(**config)).float().eval()
    fill(base.named_parameters(), generator)
    base.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    batch = make_batch(spans, config["vocab_size"], generator)
    sample = batch["ids"][:1]
    if config["sliding_window"]:
        check_window(base, sample)
    tensors = {f"base.{k}": v[0] for k, v in intermediates(base, sample).items()}

    model = peft.get_peft_model(base, peft.LoraConfig(**LORA)).eval()
    lora = {k.replace(".default", ""): p for k, p in model.named_parameters() if p.requires_grad}
    fill(lora.items(), generator)
    save_adapter(model, folder / "adapter_init")
    tensors |= {f"lora.{k}": v[0] for k, v in intermediates(model, sample).items()}
    loss_of = lambda: masked_loss(model(batch["ids"], attention_mask=batch["attention"]).logits, batch)
    loss = loss_of()
    labels = batch["ids"].where(batch["mask"] > 0, -100)
    assert excess(model(batch["ids"], attention_mask=batch["attention"], labels=labels).loss.detach(), loss.detach(), "loss") < 0.1
    loss.backward()
    tensors |= {f"grad.{k}": p.grad.clone() for k, p in lora.items()}
    assert all(g.ne(0).all() for k, g in tensors.items() if k.startswith("grad."))
    start, results = {k: p.detach().clone() for k, p in lora.items()}, {"loss": loss.item()}
    for run, settings in reversed(RUNS.items()):  # `plain` last: its end is the adapter that is saved
        with torch.no_grad():
            [p.copy_(start[k]) for k, p in lora.items()]
        results[run] = settings | train(list(lora.values()), loss_of, **settings)
    save_adapter(model, folder / "adapter_end")
    write_expected(folder, name, batch, tensors, results)


def write_expected(folder, name, batch, tensors, results):
    config, seed, spans = MODELS[name]
    read = lambda file: {k: v.double() for k, v in load_file(folder / file).items()}
    weights, start, end = read("model.safetensors"), read("adapter_init/adapter_model.safetensors"), read("adapter_end/adapter_model.safetensors")
    rounding = second_opinion(config, weights, start, end, batch, tensors, results)
    mistakes = mutants(config, weights, start, batch, tensors, results)
    assert max(rounding.values()) < 0.1, f"{name}: float32 takes more than a tenth of a tolerance: {rounding}"
    assert min(mistakes.values()) > 10, f"{name}: a tolerance lets a mistake through: {mistakes}"
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")
    samples = [{"input_ids": batch["ids"][i, :n].tolist(), "loss_mask": batch["mask"][i, :n].tolist()} for i, (n, _) in enumerate(spans)]
    write_json(folder / "expected.json", {
        "versions": VERSIONS, "seed": seed, "pad_token_id": PAD, "samples": samples, "supervised_targets": int(batch["mask"].sum()),
        "optimizer": {"name": "AdamW", "lr": LR, "betas": [0.9, 0.999], "eps": 1e-8}, "loss": results["loss"],
        "runs": {run: results[run] for run in RUNS}, "tolerances": tolerances(TOLERANCES),
        "float32_rounding_in_tolerances": digits(rounding), "mistakes_in_tolerances": digits(mistakes),
        "tensors": {k: list(v.shape) for k, v in sorted(tensors.items())}})


def second_opinion(config, weights, start, end, batch, tensors, results):
    """How far the float32 numbers lie from the float64 reference, in tolerances, by kind."""
    worst = dict.fromkeys(TOLERANCES, 0.0)
    note = lambda kind, actual, expected: worst.__setitem__(kind, max(worst[kind], excess(actual, expected, kind)))
    for prefix, adapter in (("base.", {}), ("lora.", start)):
        for key, value in reference(weights, adapter, config, batch["ids"][:1]).items():
            note(key.split(".")[0], tensors[prefix + key], value[0])
    params = {k: v.clone().requires_grad_() for k, v in start.items()}
    loss = masked_loss(reference(weights, params, config, batch["ids"])["logits"], batch)
    loss.backward()
    note("loss", results["loss"], loss.detach())
    [note("grad", tensors["grad." + k], p.grad) for k, p in params.items()]
    for run, settings in RUNS.items():
        got, last = train_reference(config, weights, start, batch, settings)
        [note(kind, results[run][kind], got[kind]) for kind in ("losses", "grad_norms")]
        if run == "plain":
            [note("adapter_end", end[k], p.detach()) for k, p in last.items()]
    # Padding and batching change nothing: the samples one by one, without either.
    alone = [reference(weights, start, config, batch["ids"][i:i + 1, :n])["logits"] for i, n in enumerate(batch["attention"].sum(1))]
    parts = [masked_loss(x, {k: v[i:i + 1, :x.shape[1]] for k, v in batch.items()}) * batch["mask"][i].sum() for i, x in enumerate(alone)]
    note("loss", results["loss"], sum(parts) / batch["mask"].sum())
    return worst


def write_ops(root):
    """Single operations with their gradients, by transformers' own code, where the models do not reach: extremes and far positions."""
    generator = torch.Generator().manual_seed(7)
    normal = lambda *shape: torch.randn(*shape, generator=generator)
    t = {"rms_norm.in": normal(2, 5, 24), "rms_norm.weight": 0.5 + torch.rand(24, generator=generator),
         "rms_norm.eps": torch.tensor([1e-5]), "rotary.in": normal(2, 3, 5, 8), "rotary.theta": torch.tensor([1e4]),
         "rotary.position_ids": torch.tensor([[0, 1, 2, 3, 4], [3, 3, 9, 200, 1000]]),
         "swiglu.gate": 3 * normal(4, 20), "swiglu.up": normal(4, 20)}
    t["rms_norm.in"][0, 1] *= 1e-3  # here eps outweighs the mean square
    t["rms_norm.in"][1, 2] *= 1e3
    t["rms_norm.in"][1, 4] = 0
    t["swiglu.gate"][0, :6] = torch.tensor([0.0, -0.0, 30.0, -30.0, 120.0, -120.0])  # exp(120) is no float32
    t |= {f"{op}.grad_out": normal(*t[key].shape) for op, key in (("rms_norm", "rms_norm.in"), ("rotary", "rotary.in"), ("swiglu", "swiglu.up"))}

    norm = mistral.MistralRMSNorm(24, eps=1e-5)
    config = MistralConfig(hidden_size=24, num_attention_heads=3, head_dim=8, rope_parameters=dict(rope_type="default", rope_theta=1e4))
    t["rotary.cos"], t["rotary.sin"] = mistral.MistralRotaryEmbedding(config)(t["rotary.in"], t["rotary.position_ids"])
    peers = (lambda x, w: torch.func.functional_call(norm, {"weight": w}, x),
             lambda x: mistral.apply_rotary_pos_emb(x, x, t["rotary.cos"], t["rotary.sin"])[0],
             lambda gate, up: transformers.activations.ACT2FN["silu"](gate) * up)
    ours = (lambda x, w: rms_norm(x, w, 1e-5), lambda x: rotate(x, t["rotary.position_ids"][:, None], 1e4), lambda gate, up: silu(gate) * up)
    rounding = {}
    for (op, ins), peer, our in zip({"rms_norm": ["in", "weight"], "rotary": ["in"], "swiglu": ["gate", "up"]}.items(), peers, ours):
        got, want = (out_and_grads(f, [t[f"{op}.{k}"].to(dtype) for k in ins], t[op + ".grad_out"].to(dtype))
                     for f, dtype in ((peer, torch.float32), (our, torch.float64)))
        rounding[op] = max(excess(a, b, op) for a, b in zip(got, want))
        t |= dict(zip([f"{op}.out"] + [f"{op}.grad_{k}" for k in ins], got))
    assert max(rounding.values()) < 0.5, f"float32 takes more than half of a tolerance: {rounding}"
    assert all(v.isfinite().all() for v in t.values())
    save_file({k: v.detach().contiguous() for k, v in t.items()}, root / "ops.safetensors")
    write_json(root / "ops.json", {"versions": VERSIONS, "seed": 7, "tolerances": tolerances(OPS), "float32_rounding_in_tolerances": digits(rounding),
                                   "tensors": {k: list(v.shape) for k, v in sorted(t.items())}})


def out_and_grads(f, ins, grad_out):
    ins = [x.clone().requires_grad_() for x in ins]
    out = f(*ins)
    return [out.detach(), *torch.autograd.grad(out, ins, grad_out)]


def digits(figures):
    return {k: float(f"{v:.1e}") for k, v in sorted(figures.items())}


def tolerances(pairs):
    return {k: {"atol": atol, "rtol": rtol} for k, (atol, rtol) in pairs.items()}


def write_json(path, value):
    flat = re.compile(r"\[\s+([^][{}]*?)\s+\]")  # a list of numbers stays on one line
    path.write_text(flat.sub(lambda m: f"[{' '.join(m[1].split())}]", json.dumps(value, indent=1)) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the committed files differ")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # one of the mistakes, made on purpose
    target = HERE / "model"
    with tempfile.TemporaryDirectory() as scratch:
        root = pathlib.Path(scratch) if options.check else target
        root.mkdir(exist_ok=True)
        write_ops(root)
        for name in MODELS:
            write_model(root, name)
        if options.check:
            files = lambda top: sorted(p.relative_to(top) for p in top.rglob("*") if p.is_file())
            differ = set(files(root)) ^ set(files(target))
            differ |= {p for p in files(root) if p not in differ and not filecmp.cmp(root / p, target / p, shallow=False)}
            sys.exit(f"differ: {sorted(map(str, differ))}" if differ else 0)


if __name__ == "__main__":
    main()

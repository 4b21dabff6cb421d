"""Makes the parity fixtures of the text pipeline: tiny random checkpoints and what transformers computes with them.

    python -m venv v && v/bin/pip install -r requirements.txt && v/bin/python make_fixtures.py

`--check` makes everything again in a scratch folder and compares the bytes with what is committed.
"""

import argparse
import filecmp
import json
import math
import pathlib
import re
import shutil
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

import fixture_chat
import fixture_gguf
import fixture_gguf_families
import fixture_int8
import fixture_tools
import fixture_tokenizers as tokens

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "checkpoints"))
import random_checkpoint  # noqa: E402

STEPS = 32
MARGIN = 2e-3  # a greedy step whose two best logits are closer than this is refused (the house asks for 1e-3)
VOCAB = 515  # three ids more than the tokenizers know, as padded vocabularies have
SPARSE = [0, 1, 2, 16, 31]  # the steps whose logits are kept
STRIDE = 5  # of the other steps of some prompts, and of the positions of one, every fifth id
LENGTHS = [1, 7, 23, 61, 117]  # 23 crosses a block of 16, 61 grows over 64, 117 fills several blocks of 32

LLAMA = dict(vocab_size=VOCAB, attention_dropout=0.0, initializer_range=0.02, bos_token_id=1, eos_token_id=2)
FIXTURES = {
    "llama2-f32": dict(
        seed=102, dtype=torch.float32, flavour="gpt2", every_step=["p23", "p117"],
        config=lambda: LlamaConfig(
            **LLAMA, hidden_size=48, num_attention_heads=3, num_key_value_heads=3, intermediate_size=101, num_hidden_layers=3,
            max_position_embeddings=160, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False),
    ),
    "llama3-bf16-sharded": dict(
        seed=202, dtype=torch.bfloat16, flavour="llama3", every_step=["p23", "p117"], shard="60KB", jinja_file=True,
        config=lambda: LlamaConfig(
            **{**LLAMA, "bos_token_id": 506, "eos_token_id": [507, 510, 511]},
            hidden_size=54, num_attention_heads=6, num_key_value_heads=2, head_dim=14, intermediate_size=101, num_hidden_layers=3,
            max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=20000.0, tie_word_embeddings=True,
            rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 32}),
    ),
    "llama-linear-f16": dict(
        # Its greedy answers go in circles, which speculation.rs needs.
        seed=310, dtype=torch.float16, flavour="gpt2", every_step=["p117"], named_templates=True,
        config=lambda: LlamaConfig(
            **LLAMA, hidden_size=40, num_attention_heads=4, num_key_value_heads=2, intermediate_size=77, num_hidden_layers=2,
            max_position_embeddings=160, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False,
            attention_bias=True, mlp_bias=True, rope_scaling={"rope_type": "linear", "factor": 2.5}),
    ),
    "llama-dynamic-f32": dict(
        # Past 64 positions the frequencies depend on how long the sequence was when a key was cached.
        seed=404, dtype=torch.float32, flavour="gpt2", every_step=["p61"],
        config=lambda: LlamaConfig(
            **LLAMA, hidden_size=32, num_attention_heads=2, num_key_value_heads=1, intermediate_size=45, num_hidden_layers=2,
            max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
            rope_scaling={"rope_type": "dynamic", "factor": 2.0}),
    ),
    "llama-yarn-f32": dict(
        seed=505, dtype=torch.float32, flavour="gpt2", every_step=["p117"],
        config=lambda: LlamaConfig(
            **LLAMA, hidden_size=32, num_attention_heads=2, num_key_value_heads=2, intermediate_size=45, num_hidden_layers=2,
            max_position_embeddings=192, rms_norm_eps=1e-5, rope_theta=100.0, tie_word_embeddings=True,
            rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 48, "beta_fast": 4.0}),
    ),
    "qwen2-f32": dict(
        # Its calls and thoughts end within the lengths that tools.rs gives them.
        seed=628, dtype=torch.float32, flavour="qwen2", every_step=["p117"], processors=True,
        config=lambda: Qwen2Config(
            vocab_size=VOCAB, hidden_size=56, num_attention_heads=7, num_key_value_heads=1, intermediate_size=73,
            num_hidden_layers=3, max_position_embeddings=160, rms_norm_eps=1e-6, rope_theta=1000000.0, tie_word_embeddings=True,
            use_sliding_window=False, sliding_window=None, bos_token_id=507, eos_token_id=509, pad_token_id=507),
    ),
}


class Refused(Exception):
    """This seed does not make a fixture that means something; the next one is tried."""


def relative(a, b):
    """The house's error: max|a-b| / max|b|."""
    return float((a - b).abs().max() / b.abs().max())


def spread(tied):
    """Offset and amplitude of a tensor's numbers. Gains, not the library's 0.02: queries and keys large enough for peaked attention, a
    head that spreads the logits.
    """
    gains = {"q_proj": 1.8, "k_proj": 1.8, "v_proj": 1.0, "o_proj": 1.2, "gate_proj": 1.4, "up_proj": 1.2, "down_proj": 1.5}

    def of(name, shape):
        part = name.split(".")[-2]
        if part.endswith("norm"):
            return 1.0, 0.4
        if name.endswith("bias"):
            return around_zero(0.4)
        if part in gains:
            return around_zero(gains[part] / math.sqrt(shape[1]))
        return around_zero(2.5 / math.sqrt(shape[1]) if tied or part == "lm_head" else 1.0)  # embeddings and head

    return of


def around_zero(deviation):
    return 0.0, random_checkpoint.rounded(math.sqrt(3.0) * deviation)


def reset_rope(model):
    """Dynamic rope keeps the longest length it has seen; every sequence here starts from a fresh model."""
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    if getattr(rotary, "rope_type", None) != "dynamic":
        return
    rotary.inv_freq = rotary.original_inv_freq.clone()
    rotary.max_seq_len_cached = model.config.max_position_embeddings


@torch.no_grad()
def last_logits(model, ids):
    reset_rope(model)
    return model(torch.tensor([ids]), use_cache=False).logits[0, -1]


@torch.no_grad()
def greedy(model, ids):
    """STEPS tokens, one forward each, through the cache; row i holds the logits token i was chosen from."""
    reset_rope(model)
    output = model(torch.tensor([ids]), use_cache=True)
    everywhere, rows, chosen = output.logits[0], [], []
    for step in range(STEPS):
        row = output.logits[0, -1]
        best = row.topk(2)
        if float(best.values[0] - best.values[1]) < MARGIN:
            raise Refused(f"greedy margin {float(best.values[0] - best.values[1]):.1e} at step {step} of {len(ids)} tokens")
        rows.append(row)
        chosen.append(int(best.indices[0]))
        if step + 1 < STEPS:
            output = model(torch.tensor([[chosen[-1]]]), past_key_values=output.past_key_values, use_cache=True)
    return everywhere, torch.stack(rows), chosen


def prompts(tokenizer, seed):
    """Ids of tokenised text, cut to length; the shortest and the longest are drawn over the whole vocabulary instead."""
    text = " ".join(tokens.corpus(seed=seed, sentences=60))
    ids = tokenizer.encode(text, add_special_tokens=True).ids
    generator = torch.Generator().manual_seed(seed)
    cut = {f"p{n}": ids[:n] for n in LENGTHS}
    for n in (LENGTHS[0], LENGTHS[-1]):
        cut[f"p{n}"] = torch.randint(0, VOCAB, (n,), generator=generator).tolist()
    return cut


@torch.no_grad()
def checks(model, by_name, results):
    """That agreement will mean something: peaked attention, spread logits, and every feature of the config visible."""
    reset_rope(model)
    output = model(torch.tensor([by_name["p61"]]), output_attentions=True)
    attention = torch.stack(output.attentions)[:, 0, :, 8:]  # rows that see at least nine keys
    keys = torch.arange(9, 62, dtype=torch.float32)
    entropy = -(attention * attention.clamp_min(1e-30).log()).sum(-1) / keys.log()
    peak = attention.max(-1).values
    found = {
        "attention_entropy_over_log_keys": float(entropy.mean()),
        "attention_peak_mean": float(peak.mean()),
        "logits_std": float(output.logits.std()),
        "distinct_greedy_tokens_mean": float(np.mean([len(set(r["greedy"])) for r in results])),
    }
    long = by_name["p117"]
    base = last_logits(model, long)
    if model.config.rope_parameters["rope_type"] != "default":
        plain = type(model.config)(**{**model.config.to_dict(), "rope_parameters": {
            "rope_type": "default", "rope_theta": model.config.rope_parameters["rope_theta"]}})
        other = type(model)(plain).eval()
        other.load_state_dict(model.state_dict())
        found["error_if_rope_scaling_ignored"] = relative(last_logits(other, long), base)
    for label, belongs in {"biases": lambda n: n.endswith("bias"), "norm_weights": lambda n: "norm" in n}.items():
        kept = {n: p.clone() for n, p in model.named_parameters() if belongs(n)}
        if kept:
            for name, parameter in model.named_parameters():
                if name in kept:
                    parameter.fill_(0.0 if label == "biases" else 1.0)
            found[f"error_if_{label}_ignored"] = relative(last_logits(model, long), base)
            for name, parameter in model.named_parameters():
                if name in kept:
                    parameter.copy_(kept[name])
    # How far f32 itself is from f64 (norms and rope stay f32 in transformers): a tolerance below this is noise.
    single = {name: last_logits(model, ids) for name, ids in by_name.items()}
    model.double()
    found["f32_against_f64"] = max(relative(single[name], last_logits(model, ids).float()) for name, ids in by_name.items())
    model.float()
    if found["attention_entropy_over_log_keys"] > 0.8 or found["attention_peak_mean"] < 0.3:
        raise Refused(f"attention is not peaked: {found}")
    if found["logits_std"] < 1.0 or found["distinct_greedy_tokens_mean"] < 8:
        raise Refused(f"logits are not spread: {found}")
    for key, value in found.items():
        if key.startswith("error_if") and value < 0.05:
            raise Refused(f"{key}: {value}")
    return {key: float(f"{value:.3g}") for key, value in found.items()}


def processor_cases(logits, prompt, generated):
    """What transformers' processors, in the order of its generate(), make of one row of logits."""
    from transformers import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor, TemperatureLogitsWarper,
                              TopKLogitsWarper, TopPLogitsWarper)

    previous = torch.tensor([prompt + generated])
    singles = {
        "repetition_penalty": (RepetitionPenaltyLogitsProcessor(1.3), {"repetition_penalty": 1.3}),
        "temperature": (TemperatureLogitsWarper(0.7), {"temperature": 0.7}),
        "top_k": (TopKLogitsWarper(5), {"top_k": 5}),
        "top_p": (TopPLogitsWarper(0.8), {"top_p": 0.8}),
        "min_p": (MinPLogitsWarper(0.1), {"min_p": 0.1}),
    }
    cases = {name: ([processor], parameters) for name, (processor, parameters) in singles.items()}
    every = [processor for processor, _ in singles.values()]
    cases["all"] = (every, {key: value for _, parameters in singles.values() for key, value in parameters.items()})
    # A wider top_k, so that top_p and min_p have something left to cut.
    wide = [TopKLogitsWarper(40) if isinstance(p, TopKLogitsWarper) else p for p in every]
    cases["all_wide"] = (wide, {**cases["all"][1], "top_k": 40})
    arrays, described = {"processors.logits": logits.clone()}, []
    for name, (processors, parameters) in cases.items():
        scores = LogitsProcessorList(processors)(previous, logits[None].clone())[0]
        check_thresholds(processors, previous, logits)
        arrays[f"processors.{name}.probs"] = scores.softmax(-1).contiguous()
        described.append({"name": name, "parameters": parameters, "kept": int(torch.isfinite(scores).sum())})
    if described[-1]["kept"] < 3:
        raise Refused("the chain of processors keeps too little")
    # OpenAI's published formula: mu[j] - c[j] * frequency - (c[j] > 0) * presence, over the generated tokens alone.
    counts = np.bincount(np.array(generated), minlength=VOCAB).astype(np.float32)
    for name, presence, frequency in [("presence", 0.7, 0.0), ("frequency", 0.0, 0.5), ("presence_frequency", 0.7, 0.5), ("negative", -0.4, -0.3)]:
        scores = logits.numpy() - counts * np.float32(frequency) - (counts > 0).astype(np.float32) * np.float32(presence)
        arrays[f"processors.{name}.probs"] = torch.from_numpy(scores).softmax(-1)
        described.append({"name": name, "parameters": {"presence_penalty": presence, "frequency_penalty": frequency}, "kept": VOCAB})
    return arrays, {"prompt_ids": prompt, "generated_ids": generated, "cases": described}


def check_thresholds(processors, previous, logits):
    """Refuses a row where a cut falls so close that rounding could decide it."""
    scores = logits[None].clone()
    for processor in processors:
        kind = type(processor).__name__
        probs = scores.softmax(-1)[0].sort(descending=True).values
        if kind.startswith("TopK"):
            ranked = scores[0].sort(descending=True).values
            near = float(ranked[processor.top_k - 1] - ranked[processor.top_k])
        elif kind.startswith("TopP"):
            near = float((probs.cumsum(0) - processor.top_p).abs().min())
        elif kind.startswith("MinP"):
            near = float((probs / probs[0] - processor.min_p).abs().min())
        else:
            near = 1.0
        if near < 1e-3:
            raise Refused(f"{kind} cuts within {near:.1e}")
        scores = processor(previous, scores)


def version_four(config):
    """The keys that checkpoints from before transformers 5 carry: most of those in the wild."""
    old = {**config, "transformers_version": "4.46.0", "torch_dtype": config["dtype"]}
    rope = dict(old.pop("rope_parameters"))
    old.pop("dtype")
    old.pop("layer_types", None)
    if old.get("head_dim") == old["hidden_size"] // old["num_attention_heads"]:
        old.pop("head_dim")  # derived in old files
    old["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    # The first scaled checkpoints said `type`, later ones `rope_type`; both are out there.
    old["rope_scaling"] = None if kind == "default" else {"type" if kind in ("linear", "dynamic") else "rope_type": kind, **rope}
    return dict(sorted(old.items()))


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def compact_json(path, value):
    """Lists of numbers on one line, so that the file stays readable and small."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    text = re.sub(r"\[\s*(-?\d[\d\s,.e+-]*?)\s*\]", lambda m: "[" + re.sub(r"\s+", "", m.group(1)) + "]", text)
    assert json.loads(text) == value  # no string of ours may look like a list of numbers
    path.write_text(text + "\n", encoding="utf-8")


def attempt(name, spec, seed, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = spec["config"]()
    family = Qwen2ForCausalLM if config.model_type == "qwen2" else LlamaForCausalLM
    model = family(config).eval()
    model = model.to(spec["dtype"])
    model.generation_config = GenerationConfig(bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id)
    model.save_pretrained(folder, max_shard_size=spec.get("shard", "1GB"))
    random_checkpoint.describe(folder, seed, spread(config.tie_word_embeddings))
    random_checkpoint.fill(folder)
    tokenizer = tokens.byte_level(spec["flavour"])
    template = tokens.TEMPLATES[spec["flavour"]]
    if spec.get("named_templates"):
        template = {"default": template, "tool_use": "{{ bos_token }}{{ tools | tojson }}\n" + template.removeprefix("{{ bos_token }}")}
    tokens.save(tokens.wrap(tokenizer, spec["flavour"], template), folder, spec.get("jinja_file", False))

    # From here on the model is what a reader of the folder gets, computed in f32.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    by_name = prompts(tokenizer, seed)
    arrays, described = {}, []
    for label, ids in by_name.items():
        everywhere, rows, chosen = greedy(model, ids)
        arrays[f"logits.{label}"] = rows[SPARSE].contiguous()
        if label in spec["every_step"]:
            arrays[f"strided.{label}"] = rows[:, ::STRIDE].contiguous()
        arrays[f"logprobs.{label}"] = rows.log_softmax(-1)[range(STEPS), chosen].contiguous()
        if label == "p23":
            arrays[f"prefill.{label}"] = everywhere[:, ::STRIDE].contiguous()
        best = rows.topk(2).values
        described.append({"name": label, "ids": ids, "greedy": chosen, "steps": SPARSE,
                          "min_margin": float(f"{float((best[:, 0] - best[:, 1]).min()):.3g}")})
    expected = {"name": name, "seed": seed, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
                "prompts": described, "checks": checks(model, by_name, described)}
    if spec.get("processors"):
        row = last_logits(model, by_name["p23"])
        generated = described[2]["greedy"][:6] + described[2]["greedy"][:3] + described[2]["greedy"][:1]
        more, expected["processors"] = processor_cases(row, by_name["p23"], generated)
        arrays.update(more)
    save_file({key: value.float().clone() for key, value in arrays.items()}, folder / "expected.safetensors")
    compact_json(folder / "expected.json", expected)

    # The same checkpoint with the older keys computes the same numbers.
    old = version_four(json.loads((folder / "config.json").read_text()))
    write_json(folder / "config.v4.json", old)
    legacy = type(config).from_dict(dict(old), attn_implementation="eager")
    twin = family(legacy).eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(last_logits(twin, by_name["p117"]), last_logits(model, by_name["p117"])), f"{name}: config.v4.json differs"
    random_checkpoint.forget(folder)
    return expected


def quiet():
    """One thread and no chance, so that the bytes come out again."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def make(out):
    quiet()
    for name, spec in FIXTURES.items():
        for seed in range(spec["seed"], spec["seed"] + 60):
            try:
                expected = attempt(name, spec, seed, out / name)
                break
            except Refused as why:
                print(f"{name}: seed {seed} refused: {why}")
        else:
            raise SystemExit(f"{name}: no seed would do")
        print(f"{name}: seed {seed}, {json.dumps(expected['checks'])}")
    import fixture_families  # here, because it uses this file
    fixture_families.make(out / "families")
    fixture_chat.make(out / "chat")
    fixture_gguf.make(out / "gguf", compact_json, greedy, Refused)
    fixture_gguf_families.make(out / "gguf", compact_json, greedy, Refused)
    fixture_int8.make(out / "gguf")
    fixture_tools.make(out / "chat")


def check(committed):
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch)
        make(out)
        files = sorted(p.relative_to(out) for p in out.rglob("*") if p.is_file())
        different = [str(p) for p in files if not (committed / p).is_file() or not filecmp.cmp(out / p, committed / p, shallow=False)]
        missing = sorted(str(p.relative_to(committed)) for p in committed.rglob("*") if p.is_file() and p.relative_to(committed) not in files and p.name != "README.md")
        print(f"{len(files)} files, different: {different or 'none'}, not made by this script: {missing or 'none'}")
        if different:
            raise SystemExit(1)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, default=HERE / "fixtures")
    arguments.add_argument("--check", action="store_true", help="make again in a scratch folder and compare bytes")
    options = arguments.parse_args()
    check(options.out) if options.check else make(options.out)

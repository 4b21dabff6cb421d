"""Makes the parity fixtures of the families: one tiny random checkpoint each, smaller than those of make_fixtures.py, which
calls this; what is common to both is there. `python fixture_families.py NAME...` makes some alone.
"""

import json
import math
import shutil
import sys

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, GenerationConfig, Gemma2Config, Gemma3Config, Gemma3TextConfig, GPT2Config, MinistralConfig,
                          MistralConfig, MixtralConfig, Olmo2Config, Phi3Config, Qwen3Config, Qwen3MoeConfig, SmolLM3Config)

import make_fixtures as house

VOCAB = 97
SPARSE = house.SPARSE
SIZES = dict(vocab_size=VOCAB, hidden_size=24, num_attention_heads=4, num_key_value_heads=2, intermediate_size=37, num_hidden_layers=3,
             max_position_embeddings=192, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, pad_token_id=0)
ROPE = {"rope_type": "default", "rope_theta": 1000.0}
EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
FAR = 10**6  # a window that hides nothing

# `ignored`: changes of the configuration that a reader who forgets a feature would make; each must be visible in the logits.
FAMILIES = {
    "mistral": dict(
        seed=100, config=lambda: MistralConfig(**SIZES, head_dim=10, sliding_window=13, rope_parameters=dict(ROPE)),
        ignored={"window": dict(sliding_window=FAR)}),
    "ministral": dict(
        seed=200, config=lambda: MinistralConfig(
            **SIZES, head_dim=10, sliding_window=9, rope_parameters=dict(ROPE), tie_word_embeddings=True,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
        keep_layer_types=True,
        ignored={"window": dict(sliding_window=FAR), "full_layer": dict(layer_types=["sliding_attention"] * 3)}),
    "qwen3": dict(
        seed=300, config=lambda: Qwen3Config(
            **SIZES, head_dim=8, tie_word_embeddings=True, attention_bias=True, use_sliding_window=True, sliding_window=11,
            max_window_layers=1, rope_parameters=dict(ROPE)),
        ignored={"window": dict(sliding_window=FAR)}),
    "gemma2": dict(
        seed=400, config=lambda: Gemma2Config(
            **{**SIZES, "num_hidden_layers": 2, "hidden_size": 28}, head_dim=12, sliding_window=13, query_pre_attn_scalar=7,
            attn_logit_softcapping=4.0, final_logit_softcapping=7.0, rope_parameters=dict(ROPE)),
        ignored={"window": dict(sliding_window=FAR), "scalar": dict(query_pre_attn_scalar=12),
                 "attention_cap": dict(attn_logit_softcapping=None), "final_cap": dict(final_logit_softcapping=None)}),
    "gemma3": dict(
        seed=500, config=lambda: Gemma3TextConfig(
            **SIZES, head_dim=10, sliding_window=13, query_pre_attn_scalar=14, sliding_window_pattern=2,
            rope_parameters={"full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
                             "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}),
        ignored={"window": dict(sliding_window=FAR), "local_base": dict(rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}})}),
    "gemma3-vision": dict(
        # The text half of a model that also sees; its other half is as small as it can be.
        seed=600, dtype=torch.float16, config=lambda: Gemma3Config(
            text_config=dict(SIZES, head_dim=8, num_hidden_layers=2, sliding_window=13, query_pre_attn_scalar=14, sliding_window_pattern=2),
            vision_config=dict(hidden_size=2, intermediate_size=2, num_hidden_layers=1, num_attention_heads=1, image_size=4, patch_size=2),
            mm_tokens_per_image=4, eos_token_id=[2, 3]),
        ignored={}),
    "phi3": dict(
        # Past 64 positions another list of factors; no greedy run here crosses it, since transformers then computes anew.
        seed=700, lengths=[1, 7, 23, 70, 117], config=lambda: Phi3Config(
            **{**SIZES, "hidden_size": 32}, original_max_position_embeddings=64, sliding_window=29, partial_rotary_factor=0.75,
            rope_parameters={"rope_type": "longrope", "rope_theta": 1000.0, "partial_rotary_factor": 0.75,
                             "short_factor": [1.0, 1.3, 1.9], "long_factor": [1.7, 3.1, 4.7]}),
        ignored={"window": dict(sliding_window=FAR), "scaling": dict(rope_parameters={
            "rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 0.75})}),
    "smollm3": dict(
        seed=800, config=lambda: SmolLM3Config(
            **SIZES, no_rope_layers=[1, 0, 1], use_sliding_window=True, sliding_window=15, rope_parameters=dict(ROPE), tie_word_embeddings=True),
        ignored={"window": dict(sliding_window=FAR), "no_rope": dict(no_rope_layers=[1, 1, 1])}),
    "mixtral": dict(
        seed=900, config=lambda: MixtralConfig(
            **{**SIZES, "num_hidden_layers": 2, "intermediate_size": 19}, num_local_experts=5, num_experts_per_tok=2, rope_parameters=dict(ROPE)),
        ignored={"second_expert": dict(num_experts_per_tok=1)}),
    "qwen3-moe": dict(
        seed=1000, config=lambda: Qwen3MoeConfig(
            **{**SIZES, "num_hidden_layers": 4}, head_dim=6, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=9,
            decoder_sparse_step=2, mlp_only_layers=[1], norm_topk_prob=False, rope_parameters=dict(ROPE)),
        ignored={"shares": dict(norm_topk_prob=True), "third_expert": dict(num_experts_per_tok=2)}),
    "olmo2": dict(
        seed=1100, dtype=torch.float16, config=lambda: Olmo2Config(**SIZES, rope_parameters=dict(ROPE)), ignored={}),
    "gpt2": dict(
        seed=1200, config=lambda: GPT2Config(
            vocab_size=VOCAB, n_embd=24, n_head=4, n_layer=2, n_positions=160, scale_attn_by_inverse_layer_idx=True,
            bos_token_id=None, eos_token_id=None),
        characters=True,
        ignored={"layer_scale": dict(scale_attn_by_inverse_layer_idx=False)}),
}


def characters(folder, model):
    """A tokenizer of single characters, as small models of letters have, and what the model says to a line of text."""
    alphabet = ["\n", "\t"] + [chr(code) for code in range(32, 127)]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({c: i for i, c in enumerate(alphabet)}))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = tokenizers.decoders.Fuse()
    tokenizer.save(str(folder / "tokenizer.json"))
    prompt = "First Citizen:\nBefore we proceed"
    ids = tokenizer.encode(prompt).ids
    assert len(ids) == len(prompt) and tokenizer.decode(ids) == prompt
    _, _, chosen = house.greedy(model, ids)
    return {"prompt": prompt, "ids": ids, "answer": tokenizer.decode(chosen)}


def spread(text):
    """As house.spread, for every family's names: queries and keys that peak, norms that are not 1, logits that spread."""
    gains = {"q_proj": 1.8, "k_proj": 1.8, "qkv_proj": 1.6, "c_attn": 1.8, "o_proj": 1.2, "c_proj": 1.3, "gate_proj": 1.4, "up_proj": 1.2,
             "gate_up_proj": 1.3, "down_proj": 1.5, "c_fc": 1.4, "gate": 2.0, "w1": 1.4, "w2": 1.4, "w3": 1.4}
    centred = "gemma" in text.model_type  # weights are added to 1

    def of(name, shape):
        part = name.split(".")[-2]
        fan_in = shape[0] if text.model_type == "gpt2" and part.startswith("c_") else shape[-1]
        if name.endswith("bias"):
            return house.around_zero(0.3)
        if part in ("q_norm", "k_norm"):
            return (0.6 if centred else 1.6), 0.4
        if part.startswith("post_") and centred:  # updates that outweigh the embedding, which is scaled up here
            return 1.4, 0.4
        if "norm" in part or part.startswith("ln_"):
            return (0.0 if centred else 1.0), 0.4
        if part == "wpe":
            return house.around_zero(0.5)
        if part in gains:
            return house.around_zero(gains[part] / math.sqrt(fan_in))
        tied = text.tie_word_embeddings or part == "lm_head"  # embeddings and head
        return house.around_zero((1.3 if centred else 2.5) / math.sqrt(fan_in) if tied else 1.0)

    return of


@torch.no_grad()
def changed(model, changes, ids):
    """The logits of the same weights under another configuration."""
    other = type(model)(type(model.config)(**{**model.config.to_dict(), **changes}, **EAGER)).eval()
    other.load_state_dict(model.state_dict())
    return house.last_logits(other, ids)


@torch.no_grad()
def checks(model, spec, by_name, results):
    """That agreement will mean something: peaked attention, spread logits, and every feature of the config visible."""
    output = model(torch.tensor([by_name["p23"]]), output_attentions=True)
    found = {
        "attention_peak_mean": float(torch.stack(output.attentions)[:, 0, :, 8:].max(-1).values.mean()),
        "logits_std": float(output.logits.std()),
        "distinct_greedy_tokens_mean": sum(len(set(r["greedy"])) for r in results) / len(results),
    }
    long = by_name["p117"]
    base = house.last_logits(model, long)
    for label, changes in spec["ignored"].items():
        found[f"error_if_{label}_ignored"] = house.relative(changed(model, changes, long), base)
    if found["attention_peak_mean"] < 0.25 or found["logits_std"] < 1.0 or found["distinct_greedy_tokens_mean"] < 6:
        raise house.Refused(f"{found}")
    for key, value in found.items():
        if key.startswith("error_if") and value < 0.02:
            raise house.Refused(f"{key}: {value}")
    return {key: float(f"{value:.3g}") for key, value in found.items()}


def published(config, keep_layer_types):
    """The keys of checkpoints from before transformers 5."""
    if "text_config" in config:
        return {**config, "text_config": published(config["text_config"], keep_layer_types)}
    rope = config.get("rope_parameters")
    if rope and "full_attention" in rope:
        old = {**config, "rope_theta": rope["full_attention"]["rope_theta"], "rope_local_base_freq": rope["sliding_attention"]["rope_theta"]}
        scaling = {key: value for key, value in rope["full_attention"].items() if key != "rope_theta"}
        old["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
        old["sliding_window_pattern"] = old.pop("_sliding_window_pattern", 6)
        del old["rope_parameters"], old["layer_types"]
        return dict(sorted(old.items()))
    if not rope:
        return config
    old = house.version_four(config)
    if keep_layer_types:
        old["layer_types"] = config["layer_types"]
    if rope["rope_type"] == "longrope":
        old["partial_rotary_factor"] = old["rope_scaling"].pop("partial_rotary_factor")
        old["rope_scaling"].pop("original_max_position_embeddings", None)
        old["rope_scaling"]["type"] = old["rope_scaling"].pop("rope_type")
    return old


def attempt(name, spec, seed, folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = spec["config"]()
    model = transformers.AutoModelForImageTextToText if "vision_config" in config.to_dict() else AutoModelForCausalLM
    model = model.from_config(config, **EAGER).eval()
    model = model.to(spec.get("dtype", torch.bfloat16))
    model.generation_config = GenerationConfig(eos_token_id=config.eos_token_id)
    model.save_pretrained(folder)
    house.random_checkpoint.describe(folder, seed, spread(config.get_text_config()))
    house.random_checkpoint.fill(folder)
    model = type(model).from_pretrained(folder, dtype=torch.float32, **EAGER).eval()
    generator = torch.Generator().manual_seed(seed)
    lengths = spec.get("lengths", house.LENGTHS)
    by_name = {f"p{n}": torch.randint(0, VOCAB, (n,), generator=generator).tolist() for n in lengths}
    arrays, described = {}, []
    for label, ids in by_name.items():
        everywhere, rows, chosen = house.greedy(model, ids)
        arrays[f"logits.{label}"] = rows[SPARSE].contiguous()
        if label == "p23":
            arrays[f"prefill.{label}"] = everywhere[:, ::house.STRIDE].contiguous()
        best = rows.topk(2).values
        described.append({"name": label, "ids": ids, "greedy": chosen, "steps": SPARSE,
                          "min_margin": float(f"{float((best[:, 0] - best[:, 1]).min()):.3g}")})
    expected = {"name": name, "seed": seed, "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
                "prompts": described, "checks": checks(model, spec, by_name, described)}
    if spec.get("characters"):
        expected["text"] = characters(folder, model)
    save_file({key: value.float().clone() for key, value in arrays.items()}, folder / "expected.safetensors")
    house.compact_json(folder / "expected.json", expected)

    # The same checkpoint with the keys that published ones have computes the same numbers.
    written = json.loads((folder / "config.json").read_text())
    old = published(written, spec.get("keep_layer_types", False))
    house.write_json(folder / "config.v4.json", old)
    legacy = type(model.config).from_dict(json.loads(json.dumps(old)), **EAGER)
    twin = type(model)(legacy).eval()
    twin.load_state_dict(model.state_dict())
    for label in ("p23", "p117"):
        assert torch.equal(house.last_logits(twin, by_name[label]), house.last_logits(model, by_name[label])), f"{name}: config.v4.json differs"
    (folder / "generation_config.json").unlink(missing_ok=True)
    house.random_checkpoint.forget(folder)
    return expected


def make(out, names=None):
    for name, spec in FAMILIES.items():
        if names and name not in names:
            continue
        for seed in range(spec["seed"], spec["seed"] + 60):
            try:
                expected = attempt(name, spec, seed, out / name)
                break
            except house.Refused as why:
                print(f"{name}: seed {seed} refused: {why}")
        else:
            raise SystemExit(f"{name}: no seed would do")
        bytes_ = sum(p.stat().st_size for p in (out / name).iterdir())
        print(f"{name}: seed {seed}, {bytes_} bytes, {json.dumps(expected['checks'])}")


if __name__ == "__main__":
    house.quiet()
    make(house.HERE / "fixtures" / "families", sys.argv[1:])

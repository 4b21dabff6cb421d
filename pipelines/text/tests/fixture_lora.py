"""Makes the adapter fixtures: random LoRA pairs beside checkpoints that make_fixtures.py made, and what peft computes with them.

    v/bin/pip install -r requirements.txt && v/bin/python fixture_lora.py [--check]

`--check` makes everything again in a scratch folder and compares the bytes with what is committed.
"""

import argparse
import copy
import filecmp
import json
import math
import pathlib
import shutil
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

HERE = pathlib.Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
sys.path.insert(0, str(HERE.parents[2] / "tests" / "checkpoints"))
import random_checkpoint  # noqa: E402

STEPS = 32
MARGIN = 2e-3  # a greedy step whose two best logits are closer than this is refused, and the next seed tried
KEPT = [0, 31]  # the steps whose logits are kept
PROMPTS = ["p7", "p23"]
EFFECT = 0.1  # an adapter that moves the logits less would prove little

ADAPTERS = {
    "llama2-f32": {
        # A list, some layers only, and the scale of rank-stabilised LoRA.
        "narrow": (torch.float16, dict(
            r=3, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"], layers_to_transform=[0, 2])),
        # Everything but the head, with ranks and scales of their own.
        "wide": (torch.bfloat16, dict(
            r=6, lora_alpha=5, target_modules="all-linear", rank_pattern={"mlp.down_proj": 2, r"layers\.1\.self_attn\.k_proj": 4},
            alpha_pattern={"q_proj": 3})),
        # A pattern, and the head.
        "headed": (torch.float32, dict(r=2, lora_alpha=2, target_modules=r".*\.\d\.(self_attn\.o_proj|mlp\.up_proj)|lm_head")),
    },
    # Conv1D, whose weights are stored the other way round, with query, key and value in one.
    "families/gpt2": {
        "all": (torch.float32, dict(r=3, lora_alpha=3, target_modules="all-linear", fan_in_fan_out=True)),
    },
    # Query, key and value in one, gate and up in one.
    "families/phi3": {
        "fused": (torch.float32, dict(r=2, lora_alpha=3, target_modules=["qkv_proj", "gate_up_proj", "down_proj"])),
    },
    # Attention beside experts.
    "families/mixtral": {
        "attention": (torch.float32, dict(r=2, lora_alpha=3, target_modules=["q_proj", "o_proj"])),
    },
    # Layers under another path than the checkpoint's.
    "families/gemma3-vision": {
        "language": (torch.float32, dict(
            r=2, lora_alpha=3, target_modules=r"^(?!.*vision).*\.(q_proj|v_proj|gate_proj)")),
    },
}


class Refused(Exception):
    """This seed does not make a fixture that means something; the next one is tried."""


def relative(a, b):
    """The house's error: max|a-b| / max|b|."""
    return float((a - b).abs().max() / b.abs().max())


@torch.no_grad()
def greedy(model, ids):
    """STEPS tokens, one forward each, through the cache; row i holds the logits token i was chosen from."""
    output = model(torch.tensor([ids]), use_cache=True)
    rows, chosen = [], []
    for _ in range(STEPS):
        row = output.logits[0, -1]
        best = row.topk(2).values
        if float(best[0] - best[1]) < MARGIN:
            raise Refused(f"greedy margin {float(best[0] - best[1]):.1e} at step {len(chosen)} of {len(ids)} tokens")
        rows.append(row)
        chosen.append(int(row.argmax()))
        output = model(torch.tensor([[chosen[-1]]]), past_key_values=output.past_key_values, use_cache=True)
    return torch.stack(rows), chosen


@torch.no_grad()
def logits_after(model, ids):
    return model(torch.tensor([ids]), use_cache=False).logits[0, -1]


@torch.no_grad()
def write_adapter(base, folder, dtype, settings, seed):
    """Random pairs of the size of a trained adapter's largest, rounded to the dtype they are stored in."""
    generator = torch.Generator().manual_seed(seed)
    model = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings))
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            spread = (0.9 if "lora_A" in name else 0.35) / math.sqrt(parameter.shape[1])
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    # Else peft adds copies of the embedding and the head where the head is adapted.
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    weights = folder / "adapter_model.safetensors"
    save_file({name: tensor.to(dtype) for name, tensor in sorted(load_file(weights).items())}, weights)
    # peft writes a set, in another order each time.
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    if isinstance(config["target_modules"], list):
        config["target_modules"].sort()
    config["base_model_name_or_path"] = None
    file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def compute(base, prompts, folder):
    """What peft answers with the adapter beside the model, and with it merged into the model."""
    beside = PeftModel.from_pretrained(copy.deepcopy(base), folder).eval()
    merged = PeftModel.from_pretrained(copy.deepcopy(base), folder).merge_and_unload().eval()
    arrays, answers = {}, {}
    for name, ids in prompts.items():
        rows, chosen = greedy(beside, ids)
        first = logits_after(merged, ids)
        plain = logits_after(base, ids)
        if relative(rows[0], plain) < EFFECT:
            raise Refused(f"the adapter moves the logits by {relative(rows[0], plain):.2f} only")
        assert relative(rows[0], first) < 1e-4, "merged and not merged differ"
        arrays[f"logits.{name}"] = rows[KEPT].contiguous()
        arrays[f"merged.{name}"] = first.contiguous()
        answers[name] = chosen
    return arrays, answers


def load(fixture):
    with tempfile.TemporaryDirectory() as scratch:
        whole = pathlib.Path(shutil.copytree(fixture, pathlib.Path(scratch) / "whole"))
        random_checkpoint.fill(whole)
        several = (whole / "config.json").read_text().find('"text_config"') >= 0
        auto = AutoModelForImageTextToText if several else AutoModelForCausalLM
        return auto.from_pretrained(whole, dtype=torch.float32, experts_implementation="eager").eval()


def make(target):
    for base_name, adapters in ADAPTERS.items():
        base = load(FIXTURES / base_name)
        known = json.loads((FIXTURES / base_name / "expected.json").read_text())
        prompts = {p["name"]: p["ids"] for p in known["prompts"] if p["name"] in PROMPTS}
        arrays, answers = {}, {}
        for adapter, (dtype, settings) in adapters.items():
            folder = target / base_name / adapter
            for seed in range(100):
                folder.mkdir(parents=True)
                try:
                    write_adapter(base, folder, dtype, settings, seed)
                    found, answers[adapter] = compute(base, prompts, folder)
                    break
                except Refused as reason:
                    print(f"{base_name} {adapter} seed {seed}: {reason}")
                    shutil.rmtree(folder)
            arrays.update({f"{adapter}.{key}": value for key, value in found.items()})
        save_file(arrays, target / base_name / "expected.safetensors")
        report = {"steps": KEPT, "prompts": prompts, "greedy": answers}
        (target / base_name / "expected.json").write_text(json.dumps(report) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    torch.set_num_threads(1)
    committed = FIXTURES / "lora"
    if not parser.parse_args().check:
        shutil.rmtree(committed, ignore_errors=True)
        make(committed)
        return
    with tempfile.TemporaryDirectory() as scratch:
        again = pathlib.Path(scratch)
        make(again)
        files = sorted(str(p.relative_to(again)) for p in again.rglob("*") if p.is_file())
        _, different, missing = filecmp.cmpfiles(again, committed, files, shallow=False)
        assert not different and not missing, f"differ: {different}, missing: {missing}"
        print(f"{len(files)} files are the same")


if __name__ == "__main__":
    main()

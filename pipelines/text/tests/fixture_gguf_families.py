"""A GGUF file of a tiny random model of each further family, converted from transformers' model as llama.cpp's converter does it,
and what that model computes: gguf/NAME/ for the names below. Apart from fixture_gguf.py because here a model class makes the
weights, and what is held still is what the converter changes: names, norms, permuted and stacked and transposed matrices.
"""

import copy
import pathlib
import shutil
import tempfile

import gguf
import numpy as np
import torch
import transformers as t
from safetensors.torch import load_file, save_file

VOCAB = 97
SPARSE = [0, 1, 2, 16, 31]
LENGTHS = [1, 9, 30]  # with 32 more within the 64 positions that phi3 was trained with
TEXTS = ["abc", " a b", "hello  world", "x", ""]
COMMON = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=192)
SMALL = dict(hidden_size=24, num_attention_heads=4, num_key_value_heads=2, intermediate_size=37, rms_norm_eps=1e-5)
PHI3_ROPE = dict(rope_type="longrope", short_factor=[1.0, 1.3, 1.9], long_factor=[1.7, 3.1, 4.7], rope_theta=1000.0,
                 original_max_position_embeddings=64, partial_rotary_factor=0.75)

FAMILIES = {
    "mixtral": ("llama", lambda: t.MixtralConfig(
        **COMMON, **{**SMALL, "intermediate_size": 19}, num_hidden_layers=2, num_local_experts=5, num_experts_per_tok=2,
        rope_theta=1000.0, tie_word_embeddings=False)),
    "qwen3": ("qwen3", lambda: t.Qwen3Config(**COMMON, **SMALL, num_hidden_layers=3, head_dim=8, rope_theta=1000.0, tie_word_embeddings=True)),
    "qwen3-moe": ("qwen3moe", lambda: t.Qwen3MoeConfig(
        **COMMON, **SMALL, num_hidden_layers=2, head_dim=6, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=9,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[], rope_theta=1000.0, tie_word_embeddings=False)),
    "gemma2": ("gemma2", lambda: t.Gemma2Config(
        **COMMON, **SMALL, num_hidden_layers=2, head_dim=12, query_pre_attn_scalar=12, sliding_window=13, attn_logit_softcapping=4.0,
        final_logit_softcapping=7.0, rope_theta=1000.0)),
    "gemma3": ("gemma3", lambda: t.Gemma3TextConfig(
        **COMMON, **{**SMALL, "hidden_size": 20, "intermediate_size": 22}, num_hidden_layers=7, head_dim=10, query_pre_attn_scalar=10,
        sliding_window=13, rope_parameters={
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}})),
    "phi3": ("phi3", lambda: t.Phi3Config(
        **COMMON, **{**SMALL, "hidden_size": 32}, num_hidden_layers=2, original_max_position_embeddings=64, sliding_window=29,
        rope_parameters=PHI3_ROPE, tie_word_embeddings=False)),
    "olmo2": ("olmo2", lambda: t.Olmo2Config(**COMMON, **SMALL, num_hidden_layers=2, rope_theta=1000.0, tie_word_embeddings=False)),
    "smollm3": ("smollm3", lambda: t.SmolLM3Config(
        **COMMON, **SMALL, num_hidden_layers=5, no_rope_layer_interval=4, use_sliding_window=False, rope_theta=1000.0)),
    "gpt2": ("gpt2", lambda: t.GPT2Config(
        vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, n_positions=192, n_embd=24, n_head=4, n_layer=2, n_inner=64)),
}


@torch.no_grad()
def initialise(model, seed):
    """Large enough that attention is peaked and logits are spread; rounded to what the file holds."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        part = name.rsplit(".", 2)[-2]
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            # Gemma's norms are about 0, the others' about 1.
            gemma = "gemma" in model.config.model_type
            about = 0.0 if gemma or name.endswith("bias") else 1.0
            # Else Gemma, whose embedding is scaled up, says its last token again and again.
            about += 2.0 if gemma and "post_" in name else 0.0
            value = about + 0.3 * draw
        elif part in ("embed_tokens", "wte", "lm_head", "wpe"):
            spread = 1.0 if "gemma" in model.config.model_type else 2.5
            value = draw * (spread / parameter.shape[1] ** 0.5 if model.config.tie_word_embeddings or part == "lm_head" else 1.0)
        else:
            inputs = parameter.shape[0] if "c_" in part else parameter.shape[-1]
            value = draw * (1.6 / inputs**0.5)
        parameter.copy_(value.half())


def changed(arch, name, tensor, config):
    """llama.cpp's `modify_tensors`: what it writes for a tensor of this name."""
    if name.endswith(("q_proj.weight", "k_proj.weight")) and arch in ("llama", "smollm3"):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        rows = tensor.shape[0]
        return tensor.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(tensor.shape)
    if arch.startswith("gemma") and name.endswith("norm.weight"):
        return tensor + 1
    if arch == "gpt2" and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
        return tensor.T
    return tensor


def tensors(arch, folder, config):
    """Pairs of llama.cpp's name and numbers."""
    names = gguf.get_tensor_name_map({v: k for k, v in gguf.MODEL_ARCH_NAMES.items()}[arch], config.num_hidden_layers)
    stacks = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        tensor = changed(arch, name, tensor.float(), config)
        if ".experts." in name:
            before, after = name.split(".experts.")
            number, part = after.split(".", 1)
            stacks.setdefault(f"{before}.experts.{part}", {})[int(number)] = tensor
            continue
        yield names.get_name(name, try_suffixes=(".weight", ".bias")), tensor
    for name, experts in stacks.items():
        yield names.get_name(name, try_suffixes=(".weight",)), torch.stack([experts[i] for i in range(len(experts))])


def keys(writer, arch, config):
    writer.add_context_length(192)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    if arch == "gpt2":
        writer.add_feed_forward_length(config.n_inner)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if arch in ("qwen3", "qwen3moe", "gemma2", "gemma3"):
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if arch in ("llama", "smollm3"):
        writer.add_rope_dimension_count(head_dim)
    if arch in ("gemma2", "gemma3", "phi3"):
        writer.add_sliding_window(config.sliding_window)
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    if arch == "gemma3":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if arch == "phi3":
        trained = config.original_max_position_embeddings
        writer.add_rope_dimension_count(int(rope["partial_rotary_factor"] * head_dim))
        writer.add_rope_scaling_orig_ctx_len(trained)
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(192 / trained) / np.log(trained))))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], dtype=np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], dtype=np.float32))
    if arch in ("llama", "qwen3moe"):
        writer.add_expert_count(config.num_local_experts if arch == "llama" else config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
    if arch == "qwen3moe":
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)


def vocabulary(writer, arch):
    """Letters and a few pairs of them: SentencePiece's form, or the byte alphabet's for GPT-2."""
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    space = "\u0120" if arch == "gpt2" else "\u2581"
    pieces = [space] + letters + ["he", "ll", "wo", "rl", "hell", "hello", space + "w", space + "a", "ab"]
    texts = ["<unk>", "<s>", "</s>"] + pieces
    kinds = [2, 3, 3] + [1] * len(pieces)
    while len(texts) < VOCAB:
        texts.append(f"[PAD{len(texts)}]")
        kinds.append(5)
    writer.add_tokenizer_model("gpt2" if arch == "gpt2" else "llama")
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    if arch == "gpt2":
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(["h e", "l l", "w o", "r l", "he ll", "hell o", space + " w", space + " a", "a b"])
    else:
        writer.add_token_scores([0.0] * 3 + [-float(i) for i in range(VOCAB - 3)])


def attempt(name, seed, folder, greedy):
    arch, make = FAMILIES[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = make()
    config._attn_implementation, config._experts_implementation = "eager", "eager"
    model = t.AutoModelForCausalLM.from_config(config).eval()
    initialise(model, seed)
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), arch)
    writer.add_name(name)
    keys(writer, arch, config)
    vocabulary(writer, arch)
    with tempfile.TemporaryDirectory() as scratch:
        # A copy, because the frequencies of the rotary embedding would not come back from half precision.
        copy.deepcopy(model).half().save_pretrained(scratch)
        for tensor_name, tensor in tensors(arch, pathlib.Path(scratch), config):
            assert tensor_name, "a tensor that llama.cpp has no name for"
            if tensor_name.startswith("output.") and config.tie_word_embeddings:
                continue
            # Norms and biases stay wide, as the converter has them; so does the router.
            wide = tensor.dim() == 1 or "gate_inp" in tensor_name
            writer.add_tensor(tensor_name, tensor.numpy().astype(np.float32 if wide else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    generator = torch.Generator().manual_seed(seed)
    arrays, described = {}, []
    for length in LENGTHS:
        ids = torch.randint(3, VOCAB, (length,), generator=generator).tolist()
        _, rows, chosen = greedy(model, ids)
        arrays[f"logits.p{length}"] = rows[SPARSE].contiguous()
        described.append({"name": f"p{length}", "ids": ids, "greedy": chosen, "steps": SPARSE})
    encoded = []
    # transformers does not load the others' files at all.
    known = arch not in ("olmo2", "smollm3")
    tokenizer = t.AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf") if known else None
    for text in TEXTS if known else []:
        ids = tokenizer.encode(text)
        encoded.append({"text": text, "add_special_tokens": True, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    distinct = float(np.mean([len(set(one["greedy"])) for one in described]))
    save_file({key: value.detach().float().clone() for key, value in arrays.items()}, folder / "expected.safetensors")
    return {"name": name, "seed": seed, "distinct_greedy_tokens_mean": distinct, "prompts": described, "encode": encoded}


def make(folder, write, greedy, refused):
    for number, name in enumerate(FAMILIES):
        for seed in range(1000 + 100 * number, 1060 + 100 * number):
            try:
                expected = attempt(name, seed, folder / name, greedy)
                break
            except refused as why:
                print(f"gguf/{name}: seed {seed} refused: {why}")
        else:
            raise SystemExit(f"gguf/{name}: no seed would do")
        write(folder / name / "expected.json", expected)
        size = (folder / name / "model.gguf").stat().st_size
        print(f"gguf/{name}: seed {seed}, {size} bytes, {expected['distinct_greedy_tokens_mean']:.1f} distinct tokens")

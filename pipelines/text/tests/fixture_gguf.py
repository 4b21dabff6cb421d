"""GGUF files of tiny random models, and what transformers computes when it loads them: the folders under gguf/.

Written with the `gguf` package, the way llama.cpp's converter writes them (names, permuted query and key rows, keys). Apart from
make_fixtures.py because the weights are made here, block by block, and not by a model class. What is kept of a file is its beginning,
which says everything but the weights: those are made from their names (tests/checkpoints/random_checkpoint.py).
"""

import json
import math
import pathlib
import shutil
import sys

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

import fixture_tokenizers as tokens

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tests" / "checkpoints"))
import random_checkpoint  # noqa: E402

STRIDE = 5  # of the positions of one prompt, every fifth id's logit
SPARSE = [0, 1, 2, 16, 31]
LENGTHS = [1, 7, 23, 61]
VOCAB = 515  # three more than the tokenizers know
TEXTS = [
    "", " ", "Hello", " Hello", "Hello world", "  two  spaces  ", "line\n\n\tnext\r\n", "It's 12345 o'clock, they'RE late.",
    "Größe, déjà vu, mañana", "蜡烛在夜里燃烧。", "ろうそく 촛불 Свеча", "🕯️", "👨‍👩‍👧 and 👍🏽!", "a▁b _ ▁", "x" * 40,
]
SPECIAL_TEXTS = {
    "llama3": ["<|begin_of_text|>Hi<|eot_id|>", "a <|start_header_id|>user<|end_header_id|>\n\nHello <|eot_id|> b", "<|eot_id"],
    "qwen2": ["<|im_start|>user\nHi<|im_end|>\n", "<tool_call>{}</tool_call>"],
    "metaspace": ["<s>Hi</s>", "a <s> b</s> c", "</s", "<s> Hello", "<0x41>"],
}
CONTROL, USER_DEFINED, BYTE, UNKNOWN, UNUSED, NORMAL = 3, 4, 6, 2, 5, 1


# Of a block: how many numbers, and where the halves stand that set its size.
BLOCKS = {Kind.Q8_0: (32, [0]), Kind.Q4_K: (256, [0, 2]), Kind.Q5_K: (256, [0, 2]), Kind.Q6_K: (256, [208])}
# The least scale's share of the largest, where a block has both.
CODES = {Kind.Q4_K: 7.5, Kind.Q5_K: 15.5}
FLOATS = {Kind.F32: torch.float32, Kind.F16: torch.float16, Kind.BF16: torch.bfloat16}


class Weights:
    """Random tensors of any type with a given spread, put into a file and listed in its order."""

    def __init__(self, writer, seed):
        self.writer, self.seed, self.tails = writer, seed, {}

    def put(self, name, tail, kind, shape):
        self.tails[name] = tail
        made = random_checkpoint.tensor(self.seed, name, tail.split("|")).view(torch.uint8).numpy()
        if kind == Kind.F32:
            self.writer.add_tensor(name, made.view(np.float32).reshape(shape))
        else:
            self.writer.add_tensor(name, made.reshape(shape[0], -1), raw_dtype=kind)

    def floats(self, name, shape, offset, amplitude, kind=Kind.F32):
        tail = random_checkpoint.random_tail(FLOATS[kind], shape, random_checkpoint.rounded(offset), random_checkpoint.rounded(amplitude))
        self.put(name, tail, kind, shape)

    def values(self, name, values):
        self.put(name, random_checkpoint.bytes_tail(values.tobytes()), Kind.F32, values.shape)

    def matrix(self, name, shape, deviation, kind):
        if kind in FLOATS:
            self.floats(name, shape, 0.0, math.sqrt(3.0) * deviation, kind)
        else:
            self.blocks(name, shape, deviation, kind)

    def blocks(self, name, shape, deviation, kind):
        """Random valid blocks: any bits are codes and scales; the halves set the size."""
        numbers, places = BLOCKS[kind]
        _, size = gguf.GGML_QUANT_SIZES[kind]
        count = math.prod(shape) // numbers

        def halves(scale):
            return {place: np.float16(scale * part).tobytes() for place, part in zip(places, (1.0, CODES.get(kind)))}

        # Measured on a trial with a scale of one, so that the spread is right whatever the format does.
        trial = random_checkpoint.blocks(self.seed, name, count, size, halves(1.0))
        unit = gguf.quants.dequantize(trial, kind)
        self.put(name, random_checkpoint.blocks_tail(count, size, halves(deviation / float(unit.std()))), kind, shape)


def vocabulary(writer, flavour):
    """As SentencePiece's and BPE's converters write it; the ids past the tokenizer's are unused tokens."""
    if flavour == "metaspace":
        tokenizer = tokens.byte_fallback("metaspace")
    else:
        tokenizer = tokens.byte_level(flavour)
    state = json.loads(tokenizer.to_str())
    vocab = tokenizer.get_vocab(with_added_tokens=True)
    by_id = {index: token for token, index in vocab.items()}
    added = {token["content"]: token["special"] for token in state["added_tokens"]}
    texts = [by_id.get(index, f"[PAD{index}]") for index in range(VOCAB)]
    kinds = []
    for index, text in enumerate(texts):
        if index not in by_id:
            kinds.append(UNUSED)
        elif text == "<unk>":
            kinds.append(UNKNOWN)
        elif text in added:
            kinds.append(CONTROL if added[text] else USER_DEFINED)
        elif flavour == "metaspace" and len(text) == 6 and text.startswith("<0x"):
            kinds.append(BYTE)
        else:
            kinds.append(NORMAL)
    writer.add_tokenizer_model("llama" if flavour == "metaspace" else "gpt2")
    if flavour != "metaspace":
        writer.add_tokenizer_pre({"llama3": "llama-bpe", "qwen2": "qwen2"}[flavour])
    writer.add_token_list(texts)
    writer.add_token_types(kinds)
    names = tokens.SPECIAL_NAMES[flavour]
    for name, add in {"bos_token": writer.add_bos_token_id, "eos_token": writer.add_eos_token_id,
                      "unk_token": writer.add_unk_token_id, "pad_token": writer.add_pad_token_id}.items():
        if name in names:
            add(vocab[names[name]])
    if flavour == "metaspace":
        first = min(index for index, kind in enumerate(kinds) if kind == NORMAL)
        writer.add_token_scores([-float(index - first) if kind == NORMAL else 0.0 for index, kind in enumerate(kinds)])
        writer.add_add_space_prefix(True)
    else:
        writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    if flavour != "qwen2":
        writer.add_add_bos_token(True)
    template = tokens.TEMPLATES.get(flavour)
    if template:
        writer.add_chat_template(template)
    return tokenizer


def llama_like(writer, spec, weights):
    """The layers of Llama and Qwen2."""
    hidden, heads, kv_heads, head_dim, ffn = (spec[key] for key in ("hidden", "heads", "kv_heads", "head_dim", "ffn"))
    writer.add_context_length(256)
    writer.add_embedding_length(hidden)
    writer.add_block_count(spec["layers"])
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(spec.get("theta", 10000.0))
    writer.add_vocab_size(VOCAB)
    if spec["arch"] == "llama":
        writer.add_rope_dimension_count(head_dim)
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)

    def put(name, shape, gain):
        kind = next(kind for ending, kind in spec["kinds"].items() if name.endswith(ending + ".weight"))
        weights.matrix(name, shape, gain / np.sqrt(shape[1]), kind)

    def norm(name):
        weights.floats(name + ".weight", (hidden,), 1.0, 0.4)

    put("token_embd.weight", (VOCAB, hidden), 2.5 if spec["tied"] else np.sqrt(hidden))
    norm("output_norm")
    if not spec["tied"]:
        put("output.weight", (VOCAB, hidden), 2.5)
    if "llama3" in spec:
        weights.values("rope_freqs.weight", llama3_factors(head_dim, spec["theta"], spec["llama3"]))
    for layer in range(spec["layers"]):
        base = f"blk.{layer}."
        norm(base + "attn_norm")
        norm(base + "ffn_norm")
        # Any rows are as good as their permutation, so permuting is left to the reader to undo.
        put(base + "attn_q.weight", (heads * head_dim, hidden), 1.8)
        put(base + "attn_k.weight", (kv_heads * head_dim, hidden), 1.8)
        put(base + "attn_v.weight", (kv_heads * head_dim, hidden), 1.0)
        put(base + "attn_output.weight", (hidden, heads * head_dim), 1.2)
        put(base + "ffn_gate.weight", (ffn, hidden), 1.4)
        put(base + "ffn_up.weight", (ffn, hidden), 1.2)
        put(base + "ffn_down.weight", (hidden, ffn), 1.5)
        if spec["arch"] == "qwen2":
            for name, rows in {"attn_q": heads, "attn_k": kv_heads, "attn_v": kv_heads}.items():
                weights.floats(base + name + ".bias", (rows * head_dim,), 0.0, math.sqrt(3.0) * 0.4)


def llama3_factors(head_dim, theta, scaling):
    """llama.cpp's LlamaModel.generate_extra_tensors: what every frequency is divided by."""
    frequencies = 1.0 / (theta ** (torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim))
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    factors = []
    for frequency in frequencies:
        length = 2 * np.pi / frequency
        if length < high:
            factors.append(1)
        elif length > low:
            factors.append(scaling["factor"])
        else:
            smooth = (scaling["original_max_position_embeddings"] / length - scaling["low_freq_factor"]) / (
                scaling["high_freq_factor"] - scaling["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / scaling["factor"] + smooth))
    return np.array(factors, dtype=np.float32)


# By the ending of a tensor's name, the first that fits. Q4_K and its kin need widths that are multiples of 256.
SPECS = {
    "llama-f16": dict(
        seed=11, arch="llama", flavour="metaspace", hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, layers=2, tied=False,
        kinds={"attn_v": Kind.F32, "ffn_up": Kind.BF16, "": Kind.F16}),
    "llama-q4k": dict(
        seed=22, arch="llama", flavour="llama3", hidden=256, heads=4, kv_heads=1, head_dim=64, ffn=256, layers=1, tied=True, theta=20000.0,
        kinds={"attn_v": Kind.Q6_K, "ffn_down": Kind.Q6_K, "attn_output": Kind.Q5_K, "ffn_up": Kind.Q5_K, "": Kind.Q4_K},
        llama3={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 32}),
    "qwen2-q8_0": dict(
        seed=33, arch="qwen2", flavour="qwen2", hidden=64, heads=4, kv_heads=2, head_dim=16, ffn=96, layers=2, tied=True, theta=1e6,
        kinds={"": Kind.Q8_0}),
}


def encodings(folder, flavour):
    """What transformers' tokenizer of the file makes of texts."""
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
    found = []
    for text in TEXTS + SPECIAL_TEXTS[flavour]:
        for add in (True, False):
            ids = tokenizer.encode(text, add_special_tokens=add)
            found.append({"text": text, "add_special_tokens": add, "ids": ids,
                          "decoded": tokenizer.decode(ids, skip_special_tokens=True)})
    chat = None
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": "Hello"}]
        chat = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return found, chat


def load(folder, spec):
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32, attn_implementation="eager").eval()
    if "llama3" not in spec:
        return model
    # transformers does not look at rope_freqs: the same weights under the configuration that they were made from.
    config = model.config.to_dict()
    config["rope_parameters"] = {"rope_theta": spec["theta"], **spec["llama3"]}
    other = LlamaForCausalLM(type(model.config)(**config)).eval()
    other.load_state_dict(model.state_dict())
    return other


def attempt(name, spec, seed, folder, greedy):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(str(folder / "model.gguf"), spec["arch"])
    writer.add_name(name)
    tokenizer = vocabulary(writer, spec["flavour"])
    weights = Weights(writer, seed)
    llama_like(writer, spec, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    keep_beginning(folder, weights)
    model = load(folder, spec)
    text = " ".join(tokens.corpus(seed=seed, sentences=60))
    ids = tokenizer.encode(text, add_special_tokens=True).ids
    arrays, described = {}, []
    for length in LENGTHS:
        everywhere, rows, chosen = greedy(model, ids[:length])
        arrays[f"logits.p{length}"] = rows[SPARSE].contiguous()
        if length == 23:
            arrays[f"prefill.p{length}"] = everywhere[:, ::STRIDE].contiguous()
        described.append({"name": f"p{length}", "ids": ids[:length], "greedy": chosen, "steps": SPARSE})
    distinct = np.mean([len(set(one["greedy"])) for one in described])
    encoded, chat = encodings(folder, spec["flavour"])
    expected = {"name": name, "seed": seed, "distinct_greedy_tokens_mean": float(distinct), "prompts": described,
                "encode": encoded, "chat": chat}
    save_file({key: value.detach().float().clone() for key, value in arrays.items()}, folder / "expected.safetensors")
    random_checkpoint.forget(folder)
    return expected


def keep_beginning(folder, weights):
    """model.gguf.head and weights.json, of which the file comes out again."""
    file = folder / "model.gguf"
    whole = file.read_bytes()
    (folder / "model.gguf.head").write_bytes(whole[: gguf.GGUFReader(file).data_offset])
    random_checkpoint.write(folder, weights.seed, {file.name: weights.tails})
    random_checkpoint.fill(folder)
    assert file.read_bytes() == whole


def make(folder, write, greedy, refused):
    for name, spec in SPECS.items():
        for seed in range(spec["seed"], spec["seed"] + 60):
            try:
                expected = attempt(name, spec, seed, folder / name, greedy)
                break
            except refused as why:
                print(f"gguf/{name}: seed {seed} refused: {why}")
        else:
            raise SystemExit(f"gguf/{name}: no seed would do")
        write(folder / name / "expected.json", expected)
        print(f"gguf/{name}: seed {seed}, {expected['distinct_greedy_tokens_mean']:.1f} distinct tokens")

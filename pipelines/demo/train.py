"""Trains the demo chat model on the CPU and writes it in the Hugging Face layout.

One command, one seed, no data set: `python train.py`. Conversations are drawn as training goes (see `corpus.py`), and
the loss is taken on the assistant's tokens only.
"""

import argparse
import json
import math
import pathlib
import random
import time

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

from corpus import Composer

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
PAD, START, END = 0, 1, 2
VOCABULARY = 1536
CONTEXT = 512
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + (message['content'] | trim) + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SHAPE = dict(vocab_size=VOCABULARY, hidden_size=192, intermediate_size=448, num_hidden_layers=5, num_attention_heads=6,
             num_key_value_heads=2, head_dim=32, max_position_embeddings=CONTEXT, rms_norm_eps=1e-5,
             tie_word_embeddings=True, attention_bias=False, mlp_bias=False, hidden_act="silu", bos_token_id=START,
             eos_token_id=END, pad_token_id=PAD)


def train_tokenizer(seed: int) -> Tokenizer:
    """Byte-level BPE; each digit stands alone, so that sums can be learnt digit by digit."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    composer = Composer(random.Random(seed))
    texts = (f"{m['role']}\n{m['content']}" for _ in range(40_000) for m in composer.conversation())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: pathlib.Path):
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    added = {str(i): dict(content=token, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
             for i, token in enumerate(SPECIAL)}
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "added_tokens_decoder": added, "bos_token": SPECIAL[START],
        "eos_token": SPECIAL[END], "pad_token": SPECIAL[PAD], "add_bos_token": False, "add_prefix_space": False,
        "clean_up_tokenization_spaces": False, "model_max_length": CONTEXT, "chat_template": CHAT_TEMPLATE})


def write_json(path: pathlib.Path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_model(model: LlamaForCausalLM, folder: pathlib.Path):
    weights = {name: tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.state_dict().items()
               if name != "lm_head.weight"}  # tied to the embedding
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    write_json(folder / "config.json", {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **SHAPE,
                                        "rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "bfloat16",
                                        "use_cache": True})
    write_json(folder / "generation_config.json", {"bos_token_id": START, "eos_token_id": [END, PAD], "pad_token_id": PAD,
                                                   "do_sample": False, "max_new_tokens": 192})


def encode(tokenizer: Tokenizer, messages) -> tuple[list[int], list[bool]]:
    """The tokens of the chat template, and which of them the assistant has to produce."""
    ids, learnt = [], []
    newline = tokenizer.token_to_id("Ċ")
    for message in messages:
        head = [START] + tokenizer.encode(message["role"]).ids + [newline]
        body = tokenizer.encode(message["content"].strip()).ids + [END]
        ids += head + body + [newline]
        learnt += [False] * len(head) + [message["role"] == "assistant"] * len(body) + [False]
    return ids[:-1], learnt[:-1]


def batches(tokenizer: Tokenizer, composer: Composer, tokens_per_batch: int):
    """Endless batches of conversations of like length, each of about `tokens_per_batch` tokens."""
    while True:
        pool = [encode(tokenizer, composer.conversation()) for _ in range(2048)]
        pool = sorted((row for row in pool if len(row[0]) <= CONTEXT), key=lambda row: len(row[0]))
        made, batch = [], []
        for row in pool:
            if batch and len(row[0]) * (len(batch) + 1) > tokens_per_batch:
                made.append(batch)
                batch = []
            batch.append(row)
        composer.rng.shuffle(made)  # the last, unfilled batch is dropped
        for batch in made:
            width = max(len(ids) for ids, _ in batch)
            ids = torch.full((len(batch), width), PAD)
            learnt = torch.zeros((len(batch), width), dtype=torch.bool)
            for row, (row_ids, row_learnt) in enumerate(batch):
                ids[row, :len(row_ids)] = torch.tensor(row_ids)
                learnt[row, :len(row_ids)] = torch.tensor(row_learnt)
            yield ids, learnt


def rate(step: int, progress: float, peak: float) -> float:
    """A short warm-up, then a cosine down to nothing."""
    return peak * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "chat")
    arguments.add_argument("--continue-from", type=pathlib.Path, help="a model folder to start from")
    arguments.add_argument("--steps", type=int, default=4000)
    arguments.add_argument("--tokens-per-batch", type=int, default=2048)
    arguments.add_argument("--minutes", type=float, help="let the clock end the schedule, for a machine that is shared")
    arguments.add_argument("--stop", type=int, help="stop after so many steps of the schedule")
    arguments.add_argument("--drills", type=float, default=0.0, help="share of conversations that are bare sums")
    arguments.add_argument("--rate", type=float, default=2.5e-3)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--no-compile", action="store_true",
                           help="compiling takes two minutes and makes a step nearly twice as fast")
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)

    if options.continue_from:
        tokenizer = Tokenizer.from_file(str(options.continue_from / "tokenizer.json"))
    else:
        tokenizer = train_tokenizer(options.seed)
    write_tokenizer(tokenizer, options.out)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, initializer_range=0.05, use_cache=False,
                                         attn_implementation="eager"))
    if options.continue_from:
        model.load_state_dict(load_file(options.continue_from / "model.safetensors"), strict=False)
    print(f"{sum(p.numel() for p in model.parameters())} parameters")
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
                                  lr=options.rate, betas=(0.9, 0.98))
    composer = Composer(random.Random(options.seed + 1), drills=options.drills, rough=True)
    source = batches(tokenizer, composer, options.tokens_per_batch)
    started, recent = time.monotonic(), []
    trunk = lambda ids: model.model(input_ids=ids, use_cache=False).last_hidden_state
    if not options.no_compile:
        trunk = torch.compile(trunk, dynamic=True)
    stop = options.stop or options.steps
    for step in range(stop):
        spent = time.monotonic() - started
        progress = max(step / options.steps, spent / 60 / options.minutes if options.minutes else 0.0)
        if progress >= 1.0:
            break
        ids, learnt = next(source)
        for group in optimizer.param_groups:
            group["lr"] = rate(step, progress, options.rate)
        # Padding is on the right, so the causal mask alone keeps it out of sight.
        target = learnt[:, 1:]
        # Weights, their gradients and the optimiser stay in f32; the products run in bf16, which these cores do faster.
        with torch.autocast("cpu", torch.bfloat16):
            hidden = trunk(ids)[:, :-1]
            logits = model.lm_head(hidden[target])
        loss = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][target])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent.append(loss.item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}/{options.steps} loss {sum(recent) / len(recent):.4f} {spent:.0f} s", flush=True)
            recent = []
        if (step + 1) % 500 == 0:
            write_model(model, options.out)
    write_model(model, options.out)
    print(f"{step} steps, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()

"""The tokenizer: a small byte-level BPE with Whisper's special tokens, its times, and the files that hold them."""

import json
import pathlib
import random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from network import POSITIONS
from sentences import Sentences

TEXT_TOKENS = 1024
NAMES = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
         "<|nospeech|>", "<|notimestamps|>"]
SPECIAL = {name: TEXT_TOKENS + n for n, name in enumerate(NAMES)}
END, START, ENGLISH, TRANSLATE, TRANSCRIBE, LM, PREVIOUS, NO_SPEECH, NO_TIMES = SPECIAL.values()
FIRST_TIME = NO_TIMES + 1
SIZE = FIRST_TIME + POSITIONS + 1


def train(seed=1) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=TEXT_TOKENS, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    source = Sentences(random.Random(seed), "train")
    # A transcript's sentences begin with a space.
    tokenizer.train_from_iterator((" " + source.draw() for _ in range(60_000)), trainer)
    assert tokenizer.get_vocab_size() == TEXT_TOKENS
    special = [AddedToken(name, special=True, normalized=False) for name in NAMES]
    times = [AddedToken(f"<|{n * 0.02:.2f}|>", special=False, normalized=False) for n in range(POSITIONS + 1)]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens(times)
    assert tokenizer.token_to_id("<|notimestamps|>") == NO_TIMES and tokenizer.get_vocab_size() == SIZE
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{NAMES[1]} {NAMES[2]} {NAMES[4]} {NAMES[8]} $A {NAMES[0]}", pair=f"{NAMES[1]} {NAMES[2]} {NAMES[4]} {NAMES[8]} $A $B {NAMES[0]}",
        special_tokens=[(name, SPECIAL[name]) for name in NAMES])
    return tokenizer


def unwritten(tokenizer: Tokenizer, seed=2) -> list[int]:
    """Text tokens that no sentence has; they are suppressed, as nothing taught the model when to write them."""
    source = Sentences(random.Random(seed), "train")
    seen = set()
    for _ in range(60_000):
        seen.update(tokenizer.encode(" " + source.draw(), add_special_tokens=False).ids)
    return [n for n in range(TEXT_TOKENS) if n not in seen]


def write_json(path: pathlib.Path, value):
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n")


def save(tokenizer: Tokenizer, folder: pathlib.Path):
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "WhisperTokenizer", "bos_token": NAMES[0], "eos_token": NAMES[0], "pad_token": NAMES[0], "unk_token": NAMES[0],
        "add_prefix_space": False, "clean_up_tokenization_spaces": False, "errors": "replace", "model_max_length": 128,
        "processor_class": "WhisperProcessor", "additional_special_tokens": NAMES})

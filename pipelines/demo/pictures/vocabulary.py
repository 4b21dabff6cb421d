"""The tokenizer: CLIP's way of splitting, over the letters of English and one token for each word of the captions."""

import json
import pathlib
import random
import string

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from scenes import Scenes

POSITIONS = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def train(seed: int = 1) -> CLIPTokenizer:
    words = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    letters = sorted(string.ascii_lowercase + string.digits + string.punctuation)
    trainer = trainers.BpeTrainer(vocab_size=2000, show_progress=False, initial_alphabet=letters, end_of_word_suffix="</w>")
    scenes = Scenes(random.Random(seed))
    words.train_from_iterator((scenes.draw().caption for _ in range(20_000)), trainer)
    merges = [tuple(pair) for pair in json.loads(words.to_str())["model"]["merges"]]
    # CLIP's order: letters, letters that end a word, merges, and the two that mark the ends last, so that END has the greatest number.
    tokens = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges] + [START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, bos_token=START, eos_token=END, unk_token=END, pad_token=END,
                         model_max_length=POSITIONS)


def encode(tokenizer: CLIPTokenizer, captions: list[str]):
    """Numbers as diffusers makes them, i64 [captions, 77]."""
    return tokenizer(captions, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt").input_ids


def save(tokenizer: CLIPTokenizer, folder: pathlib.Path):
    """`tokenizer.json`, and the two files that older readers of the layout want."""
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n")
    pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(pair + "\n" for pair in pairs))

"""Tiny tokenizers: byte-level BPE in three flavours, and SentencePiece-style BPE with byte fallback.

Apart from make_fixtures.py because the chat fixtures need them without any model.
"""

import json
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

NOUNS = "candle wick wax flame harbour ship rope lantern window river bread letter garden market song number cloud machine".split()
VERBS = "burns holds carries lights follows writes sings counts crosses answers waits remembers turns finds".split()
ADJECTIVES = "small bright quiet old heavy warm early green distant careful strange honest".split()
ADVERBS = "slowly again today never always together quickly outside twice".split()
OTHER = [
    "Où est passée l'été dernière? Ça va très bien, merci à vous.",
    "Größe und Maße: zwölf Äpfel für die Übung.",
    "El niño mañana comerá piñas y camarones.",
    "蜡烛在夜里燃烧,港口的船等待风。",
    "ろうそくは静かに燃えています。",
    "촛불이 천천히 탑니다.",
    "Свеча горит на старом окне.",
    "👋🏽 hello 🕯️🔥 the family 👨‍👩‍👧 said 👍",
    "{\"name\": \"light\", \"arguments\": {\"wick\": 3}}",
    "for (int i = 0; i < 10; ++i) {\n\ttotal += i * 2;\n}\n",
    "It's 1234 o'clock, they're late; we'll wait.\r\n\r\n",
]


def corpus(seed=7, sentences=700):
    """English from a small grammar, so that merges have something to find, with other scripts mixed in."""
    draw = random.Random(seed)
    lines = []
    for _ in range(sentences):
        words = ["the", draw.choice(ADJECTIVES), draw.choice(NOUNS), draw.choice(VERBS), "the", draw.choice(NOUNS), draw.choice(ADVERBS)]
        line = " ".join(words).capitalize() + draw.choice([".", "!", "?", f", and {draw.randrange(2000)} more."])
        lines.append(line)
        if draw.random() < 0.15:
            lines.append(draw.choice(OTHER))
    return lines


# The shape of today's pre-tokenizer patterns: a case-insensitive group, bounded digits and a look-ahead.
PATTERN = (
    r"(?i:'(?:s|t|re|ve|m|ll|d))|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

LLAMA3_SPECIALS = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
QWEN2_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_PLAIN = ["<tool_call>", "</tool_call>"]


def byte_level(flavour, vocab_size=512):
    """`llama3`: bos by a template, specials last. `qwen2`: NFC, no bos, some added tokens not special. `gpt2`: specials first."""
    tokenizer = Tokenizer(models.BPE(ignore_merges=flavour == "llama3"))
    late, plain, early = [], [], []
    if flavour == "gpt2":
        early = ["<unk>", "<s>", "</s>"]
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        late = LLAMA3_SPECIALS if flavour == "llama3" else QWEN2_SPECIALS
        plain = QWEN2_PLAIN if flavour == "qwen2" else []
        split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated", invert=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    if flavour == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(late) - len(plain),
        special_tokens=early,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in late])
    tokenizer.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    if flavour == "llama3":
        bos = late[0]
        template = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    else:
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    assert tokenizer.get_vocab_size() == vocab_size, tokenizer.get_vocab_size()
    return tokenizer


def byte_fallback(style, vocab_size=512):
    """Llama-2 style. `metaspace`: the Metaspace pre-tokenizer; `normalizer`: the older files, which prepend and replace in the normalizer."""
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    specials = ["<unk>", "<s>", "</s>"]
    # Trained on ASCII and accents alone, so that emoji and CJK have to fall back to bytes.
    lines = [line for line in corpus() if all(ord(c) < 0x250 for c in line)]
    teacher = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    teacher.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials + bytes_, show_progress=False)
    teacher.train_from_iterator(lines, trainer)
    # A trained tokenizer holds the byte pieces as special tokens; real files have them in the vocabulary alone.
    state = json.loads(teacher.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    if style == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    else:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


SPECIAL_NAMES = {
    "llama3": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    "qwen2": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    "gpt2": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "metaspace": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    "normalizer": {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
}

# The templates that travel with the checkpoints: short, and in the shape of the families they stand for.
TEMPLATES = {
    "llama3": """{{- bos_token }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "qwen2": """{%- if messages[0].role != 'system' %}
    {{- '<|im_start|>system\\nYou trim wicks.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "gpt2": """{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[ASK] ' + message['content'] + ' [/ASK]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}""",
}


def wrap(tokenizer, flavour, template=None):
    """As transformers saves it: tokenizer.json, tokenizer_config.json."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, model_max_length=4096, **SPECIAL_NAMES[flavour]
    )
    fast.chat_template = template
    return fast


def save(fast, folder, jinja_file=False):
    """Also rewrites tokenizer.json without indentation: a third of the size, the same content."""
    fast.save_pretrained(folder, save_jinja_files=jinja_file)
    path = folder / "tokenizer.json"
    before = Tokenizer.from_file(str(path)).to_str()
    path.write_text(before, encoding="utf-8")

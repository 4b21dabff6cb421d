"""Whole checkpoints of random weights: shapes.py's tensors with configurations and tokenizers beside them. Tokenizers of language and
speech are made up (ASCII, then `w300.`, `w301.`, …, so that every token is text to see and to be found in it again); those of image
models are the fixtures'."""

import json
import pathlib
import shutil

from on_gpu import image_shapes, shapes
from on_gpu.weights import shards

# In Whisper's order; large-v3 has them all.
LANGUAGES = [
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id", "hi", "fi", "vi", "he", "uk", "el",
    "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg", "lt", "la", "mi", "ml", "cy", "sk", "te", "fa", "lv", "bn", "sr", "az",
    "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs", "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af",
    "oc", "ka", "be", "tg", "sd", "gu", "am", "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl", "mg", "as",
    "tt", "haw", "ln", "ha", "ba", "jw", "su", "yue"
]
SPEECH_WORDS = 50257


def alphabet() -> list[str]:
    """What byte-level tokenizers write ASCII with. The other bytes are parts of letters: a model that went on writing those would be
    heard of at its end only."""
    return [chr(code) for code in range(33, 127)] + [chr(256 + number) for number in range(34)]


def dump(file: pathlib.Path, value: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value))


def tokenizer(file: pathlib.Path, before: list[str], count: int, special: list[str]) -> None:
    """Bytes and made-up words, no merges; `special` are the ids after them, and so are those of `before` at the start."""
    words = [*before, *alphabet()]
    words += [f"w{number}." for number in range(len(words), count)]
    ids = [(word, words.index(word)) for word in before] + [(word, count + number) for number, word in enumerate(special)]
    dump(file, {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "post_processor": None,
        "added_tokens": [{"id": number, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                         for word, number in ids],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "ignore_merges": False, "vocab": {word: number for number, word in enumerate(words)}, "merges": []},
    })


def llama(folder: pathlib.Path, scale: str, special: tuple[str, ...] = ("<s>", "</s>")) -> dict:
    config = shapes.llama_config(scale)
    dump(folder / "config.json", config)
    tokenizer(folder / "tokenizer.json", list(special), config["vocab_size"], [])
    named = dict(zip(("bos_token", "eos_token"), special, strict=False))
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **named})
    total = shards(folder, "model", shapes.llama(scale))
    # A step reads everything but the table of embeddings, of which it needs a row.
    table = 2 * config["vocab_size"] * config["hidden_size"]
    cache = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * config["head_dim"]
    return {"bytes": total, "step_bytes": total - table, "position_bytes": cache, "config": config}


def whisper(folder: pathlib.Path, scale: str) -> dict:
    languages = [f"<|{code}|>" for code in LANGUAGES]
    steering = [f"<|{word}|>" for word in ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")]
    special = ["<|endoftext|>", "<|startoftranscript|>", *languages, *steering, *(f"<|{n * 0.02:.2f}|>" for n in range(1501))]
    ids = {word: SPEECH_WORDS + number for number, word in enumerate(special)}
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    vocabulary = SPEECH_WORDS + len(special)
    dump(folder / "config.json", shapes.whisper_config(scale, vocabulary, start, end))
    # The end of a transcript and the beginning of another are never chosen: every window has as many tokens as fit.
    dump(folder / "generation_config.json", {
        "decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end, "bos_token_id": end, "max_length": shapes.WHISPER[scale]["positions"], "is_multilingual": True,
        "no_timestamps_token_id": ids["<|notimestamps|>"], "prev_sot_token_id": ids["<|startofprev|>"], "return_timestamps": False,
        "lang_to_id": {word: ids[word] for word in languages}, "task_to_id": {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")},
        "suppress_tokens": [end, start, *(ids[word] for word in [*languages, *steering])], "begin_suppress_tokens": [220, end],
        "max_initial_timestamp_index": 50, "alignment_heads": [[0, 0]],
    })
    mels = shapes.WHISPER[scale]["mels"]
    dump(folder / "preprocessor_config.json", {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": mels, "sampling_rate": 16000,
                                               "hop_length": 160, "n_fft": 400, "chunk_length": 30, "nb_max_frames": 3000, "padding_value": 0.0})
    tokenizer(folder / "tokenizer.json", [], SPEECH_WORDS, special)
    dump(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
                                            "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>"})
    return {"bytes": shards(folder, "model", shapes.whisper(scale, vocabulary))}


def part(folder: pathlib.Path, config: dict, tensors: shapes.Tensors) -> int:
    dump(folder / "config.json", config)
    return shards(folder, "diffusion_pytorch_model" if "_class_name" in config else "model", tensors)


def sdxl(folder: pathlib.Path, scale: str, fixtures: pathlib.Path) -> dict:
    l, g = shapes.CLIP_L[scale], shapes.CLIP_G[scale]
    dump(folder / "model_index.json", {
        "_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.30.0", "force_zeros_for_empty_prompt": True, "add_watermarker": False,
        "text_encoder": ["transformers", "CLIPTextModel"], "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "EulerDiscreteScheduler"]})
    dump(folder / "scheduler/scheduler_config.json", {
        "_class_name": "EulerDiscreteScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
        "prediction_type": "epsilon", "steps_offset": 1, "timestep_spacing": "leading", "interpolation_type": "linear"})
    for name in ("tokenizer", "tokenizer_2"):
        clip_tokenizer(folder / name, fixtures)
    sizes = {
        "text_encoder": part(folder / "text_encoder", shapes.clip_config(l, False), shapes.clip(l, False)),
        "text_encoder_2": part(folder / "text_encoder_2", shapes.clip_config(g, True), shapes.clip(g, True)),
        "unet": part(folder / "unet", image_shapes.unet_config(scale), image_shapes.unet(scale)),
        "vae": part(folder / "vae", image_shapes.vae_config(scale, 4), image_shapes.vae(scale, 4)),
    }
    return {"bytes": sum(sizes.values()), "parts": sizes}


def flux(folder: pathlib.Path, scale: str, fixtures: pathlib.Path) -> dict:
    l = shapes.CLIP_L[scale]
    dump(folder / "model_index.json", {
        "_class_name": "FluxPipeline", "_diffusers_version": "0.30.0", "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"], "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]})
    dump(folder / "scheduler/scheduler_config.json", {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5,
        "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096})
    clip_tokenizer(folder / "tokenizer", fixtures)
    shutil.copytree(fixtures / "t5/tokenizer", folder / "tokenizer_2", dirs_exist_ok=True)
    sizes = {
        "text_encoder": part(folder / "text_encoder", shapes.clip_config(l, False), shapes.clip(l, False)),
        "text_encoder_2": part(folder / "text_encoder_2", shapes.t5_config(scale), shapes.t5(scale)),
        "transformer": part(folder / "transformer", image_shapes.flux_config(scale), image_shapes.flux(scale)),
        "vae": part(folder / "vae", image_shapes.vae_config(scale, 16), image_shapes.vae(scale, 16)),
    }
    return {"bytes": sum(sizes.values()), "parts": sizes}


def clip_tokenizer(folder: pathlib.Path, fixtures: pathlib.Path) -> None:
    """The fixtures' tokenizer with CLIP's window."""
    shutil.copytree(fixtures / "clip/tokenizer_2", folder, dirs_exist_ok=True)
    told = json.loads((folder / "tokenizer_config.json").read_text())
    dump(folder / "tokenizer_config.json", told | {"model_max_length": 77})


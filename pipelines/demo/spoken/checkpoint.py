"""The checkpoint's files, in the Hugging Face layout: written from a model in training, and read back through transformers."""

import pathlib

import torch
from safetensors.torch import save_file
from transformers import GenerationConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration, WhisperProcessor, WhisperTokenizer

import vocabulary as v
from network import MELS, POSITIONS, SECONDS, SHAPE, TARGETS, TAUGHT

HERE = pathlib.Path(__file__).parent
SHIPPED = HERE.parent / "speech"


def write(model: WhisperForConditionalGeneration, tokenizer, folder: pathlib.Path):
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()
               if name != "proj_out.weight"}  # tied to the embedding
    save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})
    ends = dict(bos_token_id=v.END, eos_token_id=v.END, pad_token_id=v.END, decoder_start_token_id=v.START)
    v.write_json(folder / "config.json", {
        "architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "vocab_size": v.SIZE, **SHAPE, **ends,
        "num_hidden_layers": SHAPE["encoder_layers"], "is_encoder_decoder": True, "tie_word_embeddings": True, "dropout": 0.0,
        "attention_dropout": 0.0, "activation_dropout": 0.0, "init_std": 0.02, "median_filter_width": 7, "torch_dtype": "float16",
        "use_cache": True})
    control = [v.START, v.ENGLISH, v.TRANSLATE, v.TRANSCRIBE, v.LM, v.PREVIOUS, v.NO_SPEECH]
    v.write_json(folder / "generation_config.json", {
        **ends, "max_length": TARGETS, "is_multilingual": True, "lang_to_id": {"<|en|>": v.ENGLISH},
        "task_to_id": {"transcribe": v.TRANSCRIBE, "translate": v.TRANSLATE}, "language": "<|en|>", "task": "transcribe",
        "no_timestamps_token_id": v.NO_TIMES, "prev_sot_token_id": v.PREVIOUS, "max_initial_timestamp_index": POSITIONS - 50,
        "return_timestamps": False, "alignment_heads": [list(head) for head in TAUGHT],
        # An empty transcript is a transcript, so the end may come first.
        "begin_suppress_tokens": [tokenizer.token_to_id("Ġ")], "suppress_tokens": v.unwritten(tokenizer) + control})
    v.write_json(folder / "preprocessor_config.json", {
        "feature_extractor_type": "WhisperFeatureExtractor", "processor_class": "WhisperProcessor", "feature_size": MELS,
        "sampling_rate": 16000, "hop_length": 160, "n_fft": 400, "chunk_length": SECONDS, "n_samples": SECONDS * 16000,
        "nb_max_frames": SECONDS * 100, "padding_side": "right", "padding_value": 0.0, "return_attention_mask": False})
    v.save(tokenizer, folder)


def read(folder: pathlib.Path) -> tuple[WhisperForConditionalGeneration, WhisperProcessor]:
    """The model in f32, of the numbers that are stored, and its processor."""
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.generation_config = GenerationConfig.from_pretrained(folder)
    processor = WhisperProcessor(WhisperFeatureExtractor.from_pretrained(folder), WhisperTokenizer.from_pretrained(folder))
    return model, processor

"""Shapes of published models, whole and tiny: what their config.json says, and the tensors of a checkpoint with their extents.
Written out here because where the weights are made there is neither a hub nor, perhaps, a library that knows them."""

from collections.abc import Iterator

Tensors = Iterator[tuple[str, tuple[int, ...]]]

LLAMA = {
    "full": {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
             "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 8192, "rope_theta": 500000.0},
    "tiny": {"vocab_size": 2000, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512, "rope_theta": 500000.0},
    # Of no published model: a long prompt needs many times the memory of its weights, and a short one nothing to speak of.
    "wide": {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 32768, "num_hidden_layers": 2, "num_attention_heads": 8,
             "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 8192, "rope_theta": 500000.0},
}
WHISPER = {
    "full": {"d_model": 1280, "encoder_layers": 32, "decoder_layers": 4, "heads": 20, "mels": 128, "positions": 448},  # large-v3-turbo
    "tiny": {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "heads": 4, "mels": 128, "positions": 64},
}
CLIP_L = {
    "full": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_act": "quick_gelu",
             "projection_dim": 768},
    "tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "quick_gelu",
             "projection_dim": 32},
}
CLIP_G = {
    "full": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20, "hidden_act": "gelu",
             "projection_dim": 1280},
    "tiny": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu",
             "projection_dim": 64},
}
T5 = {
    "full": {"vocab_size": 32128, "d_model": 4096, "d_ff": 10240, "d_kv": 64, "num_heads": 64, "num_layers": 24},  # XXL
    "tiny": {"vocab_size": 32128, "d_model": 64, "d_ff": 96, "d_kv": 16, "num_heads": 4, "num_layers": 2},
}


def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> Tensors:
    yield f"{name}.weight", (outputs, inputs)
    if bias:
        yield f"{name}.bias", (outputs,)


def norm(name: str, width: int) -> Tensors:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def llama_config(scale: str) -> dict:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "bos_token_id": 0,
            "eos_token_id": 1, "tie_word_embeddings": False, "attention_bias": False, "mlp_bias": False, "torch_dtype": "bfloat16", **LLAMA[scale]}


def llama(scale: str) -> Tensors:
    shape = LLAMA[scale]
    width, inner, head = shape["hidden_size"], shape["intermediate_size"], shape["head_dim"]
    yield "model.embed_tokens.weight", (shape["vocab_size"], width)
    for layer in range(shape["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (width,)
        yield at + "self_attn.q_proj.weight", (shape["num_attention_heads"] * head, width)
        yield at + "self_attn.k_proj.weight", (shape["num_key_value_heads"] * head, width)
        yield at + "self_attn.v_proj.weight", (shape["num_key_value_heads"] * head, width)
        yield at + "self_attn.o_proj.weight", (width, shape["num_attention_heads"] * head)
        yield at + "post_attention_layernorm.weight", (width,)
        yield at + "mlp.gate_proj.weight", (inner, width)
        yield at + "mlp.up_proj.weight", (inner, width)
        yield at + "mlp.down_proj.weight", (width, inner)
    yield "model.norm.weight", (width,)
    yield "lm_head.weight", (shape["vocab_size"], width)


def whisper_config(scale: str, vocabulary: int, start: int, end: int) -> dict:
    shape = WHISPER[scale]
    width = shape["d_model"]
    return {"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper", "vocab_size": vocabulary, "num_mel_bins": shape["mels"],
            "d_model": width, "encoder_layers": shape["encoder_layers"], "decoder_layers": shape["decoder_layers"],
            "encoder_attention_heads": shape["heads"], "decoder_attention_heads": shape["heads"], "encoder_ffn_dim": 4 * width,
            "decoder_ffn_dim": 4 * width, "max_source_positions": 1500, "max_target_positions": shape["positions"], "activation_function": "gelu",
            "median_filter_width": 7, "scale_embedding": False, "decoder_start_token_id": start, "eos_token_id": end, "pad_token_id": end,
            "bos_token_id": end, "is_encoder_decoder": True, "torch_dtype": "bfloat16"}


def whisper(scale: str, vocabulary: int) -> Tensors:
    shape = WHISPER[scale]
    width = shape["d_model"]

    def attention(name: str) -> Tensors:
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{name}.{part}", width, width, bias=part != "k_proj")
        yield from norm(f"{name}_layer_norm", width)

    def feed_forward(at: str) -> Tensors:
        yield from linear(at + "fc1", 4 * width, width)
        yield from linear(at + "fc2", width, 4 * width)
        yield from norm(at + "final_layer_norm", width)

    yield "model.encoder.conv1.weight", (width, shape["mels"], 3)
    yield "model.encoder.conv1.bias", (width,)
    yield "model.encoder.conv2.weight", (width, width, 3)
    yield "model.encoder.conv2.bias", (width,)
    yield "model.encoder.embed_positions.weight", (1500, width)
    for layer in range(shape["encoder_layers"]):
        yield from attention(f"model.encoder.layers.{layer}.self_attn")
        yield from feed_forward(f"model.encoder.layers.{layer}.")
    yield from norm("model.encoder.layer_norm", width)
    yield "model.decoder.embed_tokens.weight", (vocabulary, width)
    yield "model.decoder.embed_positions.weight", (shape["positions"], width)
    for layer in range(shape["decoder_layers"]):
        yield from attention(f"model.decoder.layers.{layer}.self_attn")
        yield from attention(f"model.decoder.layers.{layer}.encoder_attn")
        yield from feed_forward(f"model.decoder.layers.{layer}.")
    yield from norm("model.decoder.layer_norm", width)


def clip_config(shape: dict, projected: bool) -> dict:
    # The end of a text is the highest id (eos_token_id 2, as old checkpoints say): the tokenizer has few words, the table all rows.
    return {"architectures": ["CLIPTextModelWithProjection" if projected else "CLIPTextModel"], "model_type": "clip_text_model", "vocab_size": 49408,
            "max_position_embeddings": 77, "layer_norm_eps": 1e-5, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "torch_dtype": "bfloat16", **shape}


def clip(shape: dict, projected: bool) -> Tensors:
    width = shape["hidden_size"]
    yield "text_model.embeddings.token_embedding.weight", (49408, width)
    yield "text_model.embeddings.position_embedding.weight", (77, width)
    for layer in range(shape["num_hidden_layers"]):
        at = f"text_model.encoder.layers.{layer}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from linear(f"{at}self_attn.{part}", width, width)
        yield from norm(at + "layer_norm1", width)
        yield from linear(at + "mlp.fc1", shape["intermediate_size"], width)
        yield from linear(at + "mlp.fc2", width, shape["intermediate_size"])
        yield from norm(at + "layer_norm2", width)
    yield from norm("text_model.final_layer_norm", width)
    if projected:
        yield "text_projection.weight", (shape["projection_dim"], width)


def t5_config(scale: str) -> dict:
    return {"architectures": ["T5EncoderModel"], "model_type": "t5", "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6,
            "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "is_encoder_decoder": True, "tie_word_embeddings": False,
            "decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, "torch_dtype": "bfloat16", **T5[scale]}


def t5(scale: str) -> Tensors:
    shape = T5[scale]
    width, inner = shape["d_model"], shape["num_heads"] * shape["d_kv"]
    yield "shared.weight", (shape["vocab_size"], width)
    for block in range(shape["num_layers"]):
        at = f"encoder.block.{block}.layer."
        for part in "qkv":
            yield f"{at}0.SelfAttention.{part}.weight", (inner, width)
        yield f"{at}0.SelfAttention.o.weight", (width, inner)
        if block == 0:
            yield f"{at}0.SelfAttention.relative_attention_bias.weight", (32, shape["num_heads"])
        yield f"{at}0.layer_norm.weight", (width,)
        yield f"{at}1.DenseReluDense.wi_0.weight", (shape["d_ff"], width)
        yield f"{at}1.DenseReluDense.wi_1.weight", (shape["d_ff"], width)
        yield f"{at}1.DenseReluDense.wo.weight", (width, shape["d_ff"])
        yield f"{at}1.layer_norm.weight", (width,)
    yield "encoder.final_layer_norm.weight", (width,)

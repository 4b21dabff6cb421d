"""What a pass has to multiply, counted off the shapes: the other half of a share of the matrix rate. Every multiply-add is two."""

import math

from on_gpu import image_shapes, shapes

TEXT = {"clip": 77, "t5": 512}  # tokens that a picture's prompt is padded to


def llama_prefill(scale: str, tokens: int) -> float:
    """A prompt read: all matrices, the head for its last token alone, and half of the attention's square."""
    shape = shapes.LLAMA[scale]
    matrices = sum(math.prod(s) for name, s in shapes.llama(scale) if len(s) == 2 and name not in ("model.embed_tokens.weight", "lm_head.weight"))
    attention = shape["num_hidden_layers"] * shape["num_attention_heads"] * shape["head_dim"] * tokens * tokens
    return 2 * matrices * tokens + 2 * shape["vocab_size"] * shape["hidden_size"] + 2 * attention


def whisper_encoder(scale: str) -> float:
    """A window of 30 seconds heard, and what the decoder makes of it once."""
    shape = shapes.WHISPER[scale]
    width, matrices = shape["d_model"], 0
    for name, extents in shapes.whisper(scale, 51866):
        seen = ".encoder_attn." in name and (".k_proj." in name or ".v_proj." in name)
        if len(extents) == 2 and ("encoder.layers" in name or seen):
            matrices += math.prod(extents)
    convolutions = 3000 * 3 * shape["mels"] * width + 1500 * 3 * width * width
    return 2 * (1500 * matrices + convolutions) + shape["encoder_layers"] * 4 * 1500**2 * width


def whisper_step_bytes(scale: str) -> int:
    """What the decoder reads for a token of any number of rows: its matrices and the head."""
    decoder = [math.prod(s) for name, s in shapes.whisper(scale, 51866) if ".decoder." in name and len(s) == 2 and "embed_positions" not in name]
    return 2 * sum(decoder)


def unet_step(scale: str, latents: int) -> float:
    """A call of SDXL's UNet for one row of latents with so many elements a side."""
    levels, total = len(image_shapes.UNET[scale]["block_out_channels"]), 0.0
    for name, extents in image_shapes.unet(scale):
        if len(extents) == 1:
            continue
        side = latents // 2 ** _level(name, levels)
        places = side * side
        if "embedding" in name or "time_emb_proj" in name:
            places = 1
        elif "attn2.to_k" in name or "attn2.to_v" in name:
            places = TEXT["clip"]
        total += 2 * places * math.prod(extents)
        if name.endswith(("attn1.to_q.weight", "attn2.to_q.weight")):
            total += 4 * places * (places if "attn1" in name else TEXT["clip"]) * extents[0]
    return total


def _level(name: str, levels: int) -> int:
    """How often a layer's input has been halved."""
    kind, _, rest = name.partition(".")
    if kind == "mid_block":
        return levels - 1
    if kind not in ("down_blocks", "up_blocks"):
        return 0
    number = int(rest.split(".")[0])
    if kind == "down_blocks":
        return number + ("downsamplers" in rest)
    return levels - 1 - number - ("upsamplers" in rest)


def flux_step(scale: str, pixels: int) -> float:
    """A call of FLUX's transformer for one picture."""
    image, text = (pixels // 16) ** 2, TEXT["t5"]
    shape, total = image_shapes.FLUX[scale], 0.0
    for name, extents in image_shapes.flux(scale):
        if len(extents) == 1:
            continue
        if name.startswith("time_text_embed") or "norm" in name:
            places = 1
        elif name.startswith("single"):
            places = image + text
        else:
            on_text = "context" in name or ".add_" in name or "to_add_out" in name
            places = text if on_text else image
        total += 2 * places * math.prod(extents)
    blocks = shape["num_layers"] + shape["num_single_layers"]
    return total + blocks * 4 * (image + text) ** 2 * shape["attention_head_dim"] * shape["num_attention_heads"]

"""The same for what image models are made of, in diffusers' layout: SDXL's UNet, autoencoders, FLUX's transformer."""

from on_gpu.shapes import Tensors, linear, norm

UNET = {  # SDXL's
    "full": {"block_out_channels": [320, 640, 1280], "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20],
             "cross_attention_dim": 2048, "projection_class_embeddings_input_dim": 2816, "addition_time_embed_dim": 256, "sample_size": 128},
    "tiny": {"block_out_channels": [32, 64, 64], "transformer_layers_per_block": [1, 1, 2], "attention_head_dim": [2, 4, 4],
             "cross_attention_dim": 96, "projection_class_embeddings_input_dim": 64 + 6 * 8, "addition_time_embed_dim": 8, "sample_size": 16},
}
VAE = {"full": [128, 256, 512, 512], "tiny": [32, 32, 64, 64]}
FLUX = {  # dev's
    "full": {"num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
             "pooled_projection_dim": 768, "axes_dims_rope": [16, 56, 56]},
    "tiny": {"num_layers": 2, "num_single_layers": 2, "attention_head_dim": 16, "num_attention_heads": 4, "joint_attention_dim": 64,
             "pooled_projection_dim": 32, "axes_dims_rope": [4, 6, 6]},
}


def conv(name: str, outputs: int, inputs: int, side: int = 3) -> Tensors:
    yield f"{name}.weight", (outputs, inputs, side, side)
    yield f"{name}.bias", (outputs,)


def resnet(name: str, inputs: int, outputs: int, time: int | None) -> Tensors:
    yield from norm(f"{name}.norm1", inputs)
    yield from conv(f"{name}.conv1", outputs, inputs)
    if time:
        yield from linear(f"{name}.time_emb_proj", outputs, time)
    yield from norm(f"{name}.norm2", outputs)
    yield from conv(f"{name}.conv2", outputs, outputs)
    if inputs != outputs:
        yield from conv(f"{name}.conv_shortcut", outputs, inputs, 1)


def unet_config(scale: str) -> dict:
    return {"_class_name": "UNet2DConditionModel", "in_channels": 4, "out_channels": 4, "layers_per_block": 2, "use_linear_projection": True,
            "addition_embed_type": "text_time", "act_fn": "silu", "norm_num_groups": 32, "norm_eps": 1e-5, "flip_sin_to_cos": True, "freq_shift": 0,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], **UNET[scale]}


def spatial_transformer(name: str, width: int, blocks: int, context: int) -> Tensors:
    yield from norm(f"{name}.norm", width)
    yield from linear(f"{name}.proj_in", width, width)
    for block in range(blocks):
        at = f"{name}.transformer_blocks.{block}."
        for attention, seen in (("attn1", width), ("attn2", context)):
            yield from linear(f"{at}{attention}.to_q", width, width, bias=False)
            yield from linear(f"{at}{attention}.to_k", width, seen, bias=False)
            yield from linear(f"{at}{attention}.to_v", width, seen, bias=False)
            yield from linear(f"{at}{attention}.to_out.0", width, width)
        for number in (1, 2, 3):
            yield from norm(f"{at}norm{number}", width)
        yield from linear(at + "ff.net.0.proj", 8 * width, width)
        yield from linear(at + "ff.net.2", width, 4 * width)
    yield from linear(f"{name}.proj_out", width, width)


def unet(scale: str) -> Tensors:
    shape = UNET[scale]
    channels, blocks, context = shape["block_out_channels"], shape["transformer_layers_per_block"], shape["cross_attention_dim"]
    time = 4 * channels[0]
    yield from conv("conv_in", channels[0], 4)
    for name, width in (("time_embedding", channels[0]), ("add_embedding", shape["projection_class_embeddings_input_dim"])):
        yield from linear(f"{name}.linear_1", time, width)
        yield from linear(f"{name}.linear_2", time, time)
    before = channels[0]
    for level, width in enumerate(channels):
        at = f"down_blocks.{level}."
        for number in range(2):
            yield from resnet(f"{at}resnets.{number}", before, width, time)
            if level > 0:
                yield from spatial_transformer(f"{at}attentions.{number}", width, blocks[level], context)
            before = width
        if level < len(channels) - 1:
            yield from conv(f"{at}downsamplers.0.conv", width, width)
    for number in range(2):
        yield from resnet(f"mid_block.resnets.{number}", before, before, time)
    yield from spatial_transformer("mid_block.attentions.0", before, blocks[-1], context)
    turned = channels[::-1]
    for level, width in enumerate(turned):
        at, below = f"up_blocks.{level}.", turned[min(level + 1, len(turned) - 1)]
        for number in range(3):
            skipped = below if number == 2 else width
            yield from resnet(f"{at}resnets.{number}", before + skipped, width, time)
            if level < len(turned) - 1:
                yield from spatial_transformer(f"{at}attentions.{number}", width, blocks[::-1][level], context)
            before = width
        if level < len(turned) - 1:
            yield from conv(f"{at}upsamplers.0.conv", width, width)
    yield from norm("conv_norm_out", before)
    yield from conv("conv_out", 4, before)


def vae_config(scale: str, latent: int) -> dict:
    of = {4: {"scaling_factor": 0.13025}, 16: {"scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False}}
    return {"_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": latent, "block_out_channels": VAE[scale],
            "layers_per_block": 2, "act_fn": "silu", "norm_num_groups": 32, "sample_size": 1024 if scale == "full" else 128, "force_upcast": False,
            "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4, **of[latent]}


def vae(scale: str, latent: int) -> Tensors:
    channels = VAE[scale]
    for half, first, last in (("encoder", 3, 2 * latent), ("decoder", latent, 3)):
        levels = channels if half == "encoder" else channels[::-1]
        yield from conv(f"{half}.conv_in", levels[0], first)
        before = levels[0]
        for level, width in enumerate(levels):
            at = f"{half}.{'down' if half == 'encoder' else 'up'}_blocks.{level}."
            for number in range(2 if half == "encoder" else 3):
                yield from resnet(f"{at}resnets.{number}", before, width, None)
                before = width
            if level < len(levels) - 1:
                yield from conv(at + ("downsamplers.0.conv" if half == "encoder" else "upsamplers.0.conv"), width, width)
        middle = channels[-1]
        for number in range(2):
            yield from resnet(f"{half}.mid_block.resnets.{number}", middle, middle, None)
        yield from norm(f"{half}.mid_block.attentions.0.group_norm", middle)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            yield from linear(f"{half}.mid_block.attentions.0.{part}", middle, middle)
        yield from norm(f"{half}.conv_norm_out", before)
        yield from conv(f"{half}.conv_out", last, before)
    if latent == 4:
        yield from conv("quant_conv", 8, 8, 1)
        yield from conv("post_quant_conv", 4, 4, 1)


def flux_config(scale: str) -> dict:
    return {"_class_name": "FluxTransformer2DModel", "patch_size": 1, "in_channels": 64, "guidance_embeds": True, **FLUX[scale]}


def flux(scale: str) -> Tensors:
    shape = FLUX[scale]
    head, width = shape["attention_head_dim"], shape["attention_head_dim"] * shape["num_attention_heads"]
    for name, inputs in (("timestep_embedder", 256), ("guidance_embedder", 256), ("text_embedder", shape["pooled_projection_dim"])):
        yield from linear(f"time_text_embed.{name}.linear_1", width, inputs)
        yield from linear(f"time_text_embed.{name}.linear_2", width, width)
    yield from linear("context_embedder", width, shape["joint_attention_dim"])
    yield from linear("x_embedder", width, 64)
    for block in range(shape["num_layers"]):
        at = f"transformer_blocks.{block}."
        for of in ("norm1", "norm1_context"):
            yield from linear(f"{at}{of}.linear", 6 * width, width)
        for of in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            yield f"{at}attn.{of}.weight", (head,)
        for of in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"):
            yield from linear(f"{at}attn.{of}", width, width)
        for of in ("ff", "ff_context"):
            yield from linear(f"{at}{of}.net.0.proj", 4 * width, width)
            yield from linear(f"{at}{of}.net.2", width, 4 * width)
    for block in range(shape["num_single_layers"]):
        at = f"single_transformer_blocks.{block}."
        yield from linear(at + "norm.linear", 3 * width, width)
        yield from linear(at + "proj_mlp", 4 * width, width)
        yield from linear(at + "proj_out", width, 5 * width)
        for of in ("norm_q", "norm_k"):
            yield f"{at}attn.{of}.weight", (head,)
        for of in ("to_q", "to_k", "to_v"):
            yield from linear(f"{at}attn.{of}", width, width)
    yield from linear("norm_out.linear", 2 * width, width)
    yield from linear("proj_out", 64, width)

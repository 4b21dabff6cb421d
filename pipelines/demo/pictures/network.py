"""The shape of the three networks and of the scheduler, and the checkpoint's files in the layout of diffusers."""

import json
import pathlib

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from transformers import CLIPTextConfig, CLIPTextModel

import vocabulary as v

SHIPPED = pathlib.Path(__file__).parent.parent / "image"
WIDTH = 64  # of the text encoder
NOISE = dict(num_train_timesteps=1000, beta_start=0.0001, beta_end=0.02, beta_schedule="linear", prediction_type="v_prediction")


def begin_short(module: torch.nn.Module):
    """Residual blocks that begin as nothing leave a short network, which learns sooner."""
    for part in module.modules():
        if isinstance(part, ResnetBlock2D):
            torch.nn.init.zeros_(part.conv2.weight)


def autoencoder() -> AutoencoderKL:
    """A factor of 4: 64 pixels are 16 latents a side."""
    vae = AutoencoderKL(in_channels=3, out_channels=3, latent_channels=4, block_out_channels=(16, 24, 32), layers_per_block=1,
                         down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, norm_num_groups=8,
                         sample_size=64, scaling_factor=1.0)
    begin_short(vae)
    # With noise as large as the latents it would learn nothing at first.
    torch.nn.init.constant_(vae.quant_conv.bias.data[4:], -4.0)
    return vae


def text_encoder(tokenizer) -> CLIPTextModel:
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=v.POSITIONS, hidden_act="quick_gelu", projection_dim=WIDTH, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))


def denoiser() -> UNet2DConditionModel:
    """Attention at 8 x 8 only, where most of the parameters are: a step at 16 x 16 costs four times as much."""
    unet = UNet2DConditionModel(sample_size=16, in_channels=4, out_channels=4, block_out_channels=(32, 56), layers_per_block=1,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                                norm_num_groups=8, cross_attention_dim=WIDTH, attention_head_dim=4)
    begin_short(unet)
    return unet


def scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(**NOISE, algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint",
                                       timestep_spacing="trailing", lower_order_final=True)


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def write(vae, text, unet, tokenizer, folder: pathlib.Path):
    """The networks in f16, as they are stored: what is read back and measured is what ships."""
    pipeline = StableDiffusionPipeline(vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler(),
                                       safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    kept = [{name: tensor.detach().clone() for name, tensor in module.state_dict().items()} for module in (vae, text, unet)]
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    v.save(tokenizer, folder / "tokenizer")
    pipeline.to(dtype=torch.float32)
    for module, state in zip((vae, text, unet), kept):
        module.load_state_dict(state)
    # Not JSON (-Infinity), and the default.
    path = folder / "scheduler" / "scheduler_config.json"
    stored = json.loads(path.read_text())
    stored.pop("lambda_min_clipped", None)
    path.write_text(json.dumps(stored, indent=2) + "\n")
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)


def read(folder: pathlib.Path = SHIPPED, kind=StableDiffusionPipeline):
    """The pipeline in f32, of the numbers that are stored."""
    pipeline = kind.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline

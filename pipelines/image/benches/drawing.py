"""Image models, ours and `diffusers` in turns: same machine, same weights, same run, same number of threads, f32.

    cargo build --release -p chandler-image --bench drawing
    VENV/bin/python pipelines/image/benches/drawing.py target/release/deps/drawing-HASH --work DIR [--shape sd15|sdxl] [--runs 3] [--out FILE]

Makes a model of random weights in DIR when it is not there: Stable Diffusion 1.5 whole (4.3 GB), or SDXL with all its layers at 0.6 of
its width. Each run of ours is followed by one of diffusers', so that whatever else the machine does meets both. Prints medians, the
least of each, and how many times as long diffusers takes; then the peak memory of a process that draws one guided picture, each alone.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

WIDTH = 0.6  # of SDXL's
SHAPES = {
    "sd15": {"side": 64, "cases": ["read", "unet 1 64", "unet 2 64", "decode 64", "draw 1 256 4", "draw 4 256 4"], "picture": 512},
    "sdxl": {"side": 128, "cases": ["read", "unet 1 96", "unet 2 96", "decode 96", "draw 1 512 4", "draw 4 512 4"], "picture": 768},
}


def letters() -> dict[str, int]:
    """CLIP's vocabulary without its words: every text is letters."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(f"w{n}" for n in range(49406 - 2 * len(alphabet)))]
    return {token: number for number, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}


def text_encoder(kind, width: int, layers: int, heads: int, activation: str, projection: int):
    from transformers import CLIPTextConfig

    return kind(CLIPTextConfig(
        vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers, num_attention_heads=heads,
        hidden_act=activation, projection_dim=projection, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407))


def make_model(directory: pathlib.Path, shape: str) -> None:
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    torch.manual_seed(0)
    tokenizer = CLIPTokenizer(vocab=letters(), merges=[], model_max_length=77)
    vae = AutoencoderKL(block_out_channels=(128, 256, 512, 512), layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4,
                        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, sample_size=512)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    if shape == "sd15":
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        reader = text_encoder(CLIPTextModel, 768, 12, 12, "quick_gelu", 768)
        pipeline = StableDiffusionPipeline(vae=vae, text_encoder=reader, tokenizer=tokenizer, unet=unet, scheduler=scheduler,
                                           safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    else:
        channels = [int(WIDTH * of) for of in (320, 640, 1280)]
        unet = UNet2DConditionModel(
            sample_size=128, block_out_channels=channels, layers_per_block=2, transformer_layers_per_block=(1, 2, 10),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2048,
            attention_head_dim=[of // 64 for of in channels], use_linear_projection=True, addition_embed_type="text_time",
            addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816)
        readers = [text_encoder(CLIPTextModel, 768, 12, 12, "quick_gelu", 768), text_encoder(CLIPTextModelWithProjection, 1280, 8, 20, "gelu", 1280)]
        pipeline = StableDiffusionXLPipeline(vae=vae, text_encoder=readers[0], text_encoder_2=readers[1], tokenizer=tokenizer,
                                             tokenizer_2=tokenizer, unet=unet, scheduler=scheduler)
    pipeline.save_pretrained(directory)


class Peer:
    """diffusers, on the same cases."""

    def __init__(self, directory: pathlib.Path, threads: int):
        import torch
        from diffusers import DiffusionPipeline

        torch.set_num_threads(threads)
        self.torch = torch
        self.pipeline = DiffusionPipeline.from_pretrained(directory, torch_dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)

    def unet(self, rows: int, side: int):
        unet, torch = self.pipeline.unet, self.torch
        times = torch.tensor([900.0 - 17 * row for row in range(rows)])
        latents, context = torch.randn(rows, 4, side, side), torch.randn(rows, 77, unet.config.cross_attention_dim)
        told = None
        if unet.config.addition_embed_type:
            told = {"text_embeds": torch.randn(rows, 1280), "time_ids": torch.full((rows, 6), 64.0)}
        return lambda: unet(latents, times, context, added_cond_kwargs=told)

    def decode(self, side: int):
        latents = self.torch.randn(1, 4, side, side)
        return lambda: self.pipeline.vae.decode(latents)

    def read(self):
        readers = [reader for reader in (self.pipeline.text_encoder, getattr(self.pipeline, "text_encoder_2", None)) if reader]
        words = self.torch.tensor([[5 + n if n < 30 else 49407 for n in range(77)]])
        return lambda: [reader(words) for reader in readers]

    def draw(self, requests: int, pixels: int, steps: int):
        prompts = ["a red boat on a lake"] * requests
        return lambda: self.pipeline(prompts, num_inference_steps=steps, guidance_scale=7.5, height=pixels, width=pixels, output_type="np")

    def case(self, case: str):
        kind, *sizes = case.split()
        return getattr(self, kind)(*map(int, sizes))


def peak(process: int | str = "self") -> float:
    """The most memory that a process has had, in GB."""
    lines = pathlib.Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("VmHWM:"))


class Ours:
    """The worker's pipeline in a process of its own."""

    def __init__(self, binary: str, directory: pathlib.Path, threads: int):
        environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
        command = [binary, "--serve", str(directory)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=environment)

    def milliseconds(self, case: str) -> float:
        print(case, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        if self.process.wait():
            sys.exit("ours failed")


def milliseconds(run) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def memory(options, directory: pathlib.Path, case: str) -> dict[str, float]:
    """Of a process each that draws the same picture."""
    ours = Ours(options.binary, directory, options.threads)
    ours.milliseconds(case)
    found = {"ours": peak(ours.process.pid)}
    ours.close()
    command = [sys.executable, __file__, options.binary, "--work", str(options.work), "--shape", options.shape, "--threads", str(options.threads), "--peer", case]
    found["diffusers"] = float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="sd15")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--word", default="", help="only cases with it in their names")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    options = parser.parse_args()
    directory, shape = options.work / options.shape, SHAPES[options.shape]
    if options.peer:
        Peer(directory, options.threads).case(options.peer)()
        print(peak())
        return
    if not directory.exists():
        make_model(directory, options.shape)
    import diffusers
    import torch

    machine = f"{platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, diffusers {diffusers.__version__}"
    print(f"{options.shape}, f32, {machine}, {options.threads} threads, {options.runs} runs in turns; milliseconds", flush=True)
    result = {"machine": machine, "shape": options.shape, "cases": {}}
    picture = f"draw 1 {shape['picture']} 2"
    if not options.word:
        result["peak_gigabytes"] = memory(options, directory, picture)
        print(f"peak memory of {picture}: {result['peak_gigabytes']}", flush=True)
    ours, peer = Ours(options.binary, directory, options.threads), Peer(directory, options.threads)
    print(f"{'case':16} {'ours':>9} {'least':>9} {'diffusers':>9} {'least':>9}  diffusers/ours (of the least)")
    with torch.inference_mode():
        for case in (case for case in shape["cases"] if options.word in case):
            run = peer.case(case)
            ours.milliseconds(case), run()
            times = {"ours": [], "diffusers": []}
            for _ in range(options.runs):
                times["ours"].append(ours.milliseconds(case))
                times["diffusers"].append(milliseconds(run))
            result["cases"][case] = times
            (our, our_least), (their, their_least) = ((statistics.median(t), min(t)) for t in times.values())
            print(f"{case:16} {our:9.0f} {our_least:9.0f} {their:9.0f} {their_least:9.0f}  {their / our:.2f} ({their_least / our_least:.2f})", flush=True)
        if not options.word:
            pixels = shape["picture"] // 2
            step = ours.milliseconds(f"draw 1 {pixels} 8") / 8
            late = [ours.milliseconds(f"late {pixels} 8") for _ in range(options.runs)]
            result["late"] = {"first_step_ms": late, "step_ms": step}
            print(f"late at {pixels} px: first step done after {statistics.median(late):.0f} ms; a step of one request alone takes {step:.0f}")
    ours.close()
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()

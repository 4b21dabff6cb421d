"""Trains the three networks on the CPU, from nothing, and writes them in the layout of diffusers.

`python train.py --out RUN` does all of it: the autoencoder, a bank of scenes in latents, then text encoder and denoiser together.
Each stage leaves its file in RUN and is taken up from there when the command is given again. Every step draws by its own number,
so that a run which was stopped sees what one that was not would have seen.
"""

import argparse
import os
import pathlib
import random
import time

import numpy as np
import torch
import torch.distributed as distributed
import torch.nn.functional as F

import drawing
import network
import vocabulary as v
from optimizer import Both
from scenes import Scenes


def pixels(drawn: list[np.ndarray]) -> torch.Tensor:
    """f32 [pictures, 3, side, side] from -1 to 1."""
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def rate(step: int, steps: int, greatest: float, warm: int = 100, falling: float = 0.35) -> float:
    """Constant, then straight down to nothing over the last `falling` share."""
    return greatest * min(1.0, (step + 1) / warm, max((steps - step) / (falling * steps), 0.01))


def examples(step: int, options) -> torch.Tensor:
    """Pictures for the autoencoder: first small cuttings full of shapes, which cost little and teach much, then whole scenes too."""
    rng = random.Random(options.seed * 1_000_003 + step)
    if step < 0.75 * options.vae_steps:
        drawn = [drawing.clutter(rng, 32) for _ in range(options.vae_batch)]
    else:
        source = Scenes(rng)
        drawn = [drawing.clutter(rng, 64) if n % 2 else drawing.draw(source.draw()) for n in range(options.vae_batch // 2)]
    return pixels(drawn)


def train_autoencoder(options):
    """Absolute and squared error, with a small pull to the normal distribution: the decoder learns to bear noise in its latents."""
    vae, path = network.autoencoder(), options.out / "autoencoder.pt"
    state = torch.load(path) if path.exists() else None
    optimizer = Both([vae])
    if state:
        vae.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        vae.register_to_config(scaling_factor=state["scale"])
    started, sums = time.monotonic(), np.zeros(2)
    for step in range(state["step"] if state else 0, options.vae_steps):
        torch.manual_seed(options.seed * 1_000_003 + step)
        truth = examples(step, options)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(truth).latent_dist
            drawn = vae.decode(posterior.sample()).sample
        off = drawn.float() - truth
        pull = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = off.abs().mean() + 2 * off.square().mean() + options.pull * pull
        loss.backward()
        optimizer.advance(rate(step, options.vae_steps, options.vae_rate))
        sums += off.detach().abs().mean().item(), pull.item()
        if (step + 1) % 50 == 0:
            print(f"autoencoder step {step + 1} error {sums[0] / 50:.4f} pull {sums[1] / 50:.2f} {time.monotonic() - started:.0f} s", flush=True)
            sums[:] = 0
        if (step + 1) % 200 == 0 or step + 1 == options.vae_steps:
            scale = 1.0 / deviation(vae)
            vae.register_to_config(scaling_factor=scale)
            torch.save({"model": vae.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1, "scale": scale}, path)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def deviation(vae) -> float:
    source = Scenes(random.Random(77))
    return vae.encode(pixels([drawing.draw(source.draw()) for _ in range(100)])).latent_dist.mean.std().item()


@torch.no_grad()
def bank(vae, tokenizer, options):
    """Scaled latents f16 [scenes, 4, 16, 16] and captions i16 [scenes, 77], in a file that the processes share."""
    path = options.out / "bank.pt"
    if path.exists():
        return
    source, latents, captions = Scenes(random.Random(options.seed + 5)), [], []
    torch.manual_seed(options.seed + 5)
    for _ in range(options.bank // 100):
        scenes = [source.draw() for _ in range(100)]
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels([drawing.draw(scene) for scene in scenes])).latent_dist
        latents.append((posterior.sample().float() * vae.config.scaling_factor).half())
        captions.append(v.encode(tokenizer, [scene.caption for scene in scenes]).short())
    torch.save((torch.cat(latents), torch.cat(captions)), path)


class Average:
    """The running mean of the weights, which is what ships."""

    def __init__(self, modules, keep: float = 0.998):
        self.modules, self.keep = modules, keep
        self.mean = [{name: tensor.detach().clone() for name, tensor in module.state_dict().items()} for module in modules]

    @torch.no_grad()
    def add(self, step: int):
        keep = min(self.keep, (1 + step) / (10 + step))
        for module, mean in zip(self.modules, self.mean):
            for name, tensor in module.state_dict().items():
                if tensor.is_floating_point():
                    mean[name].lerp_(tensor, 1 - keep)

    def swap(self):
        """Exchanges the mean and the weights in training; again to undo it."""
        for number, module in enumerate(self.modules):
            kept = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            module.load_state_dict(self.mean[number])
            self.mean[number] = kept


def average_gradients(trained, others: int):
    flat = torch.cat([parameter.grad.flatten() for parameter in trained])
    distributed.all_reduce(flat)
    for parameter, share in zip(trained, flat.div_(others).split([parameter.numel() for parameter in trained])):
        parameter.grad.copy_(share.view_as(parameter))


def train_denoiser(rank: int, vae, tokenizer, options):
    """One of `options.processes`, of one thread each: on a shared machine the threads of one process would wait for each other."""
    torch.set_num_threads(1)
    if options.processes > 1:
        distributed.init_process_group("gloo", rank=rank, world_size=options.processes)
    latents, captions = torch.load(options.out / "bank.pt", mmap=True)
    torch.manual_seed(options.seed)
    text, unet, path = network.text_encoder(tokenizer), network.denoiser(), options.out / "denoiser.pt"
    text.train(), unet.train()
    optimizer = Both([text, unet])
    average, begin = Average([text, unet]), 0
    if path.exists():
        state = torch.load(path)
        text.load_state_dict(state["text"]), unet.load_state_dict(state["unet"])
        optimizer.load_state_dict(state["optimizer"])
        average.mean, begin = state["mean"], state["step"]
    silence = v.encode(tokenizer, [""])
    alphas = torch.cumprod(1 - torch.linspace(0.0001, 0.02, 1000, dtype=torch.float64), 0).float()
    if rank == 0:
        print(f"parameters: autoencoder {network.parameters(vae)}, text encoder {network.parameters(text)}, denoiser {network.parameters(unet)}", flush=True)

    def save(step):
        torch.save({"text": text.state_dict(), "unet": unet.state_dict(), "optimizer": optimizer.state_dict(), "mean": average.mean,
                    "step": step}, path)
        average.swap()
        network.write(vae, text, unet, tokenizer, options.out / "checkpoint")
        average.swap()

    started, total = time.monotonic(), 0.0
    for step in range(begin, options.steps):
        generator = torch.Generator().manual_seed((options.seed * 1_000_003 + step) * 16 + rank)
        chosen = torch.randint(len(latents), (options.batch,), generator=generator)
        clean, words = latents[chosen].float(), captions[chosen].long()
        words = torch.where(torch.rand(options.batch, 1, generator=generator) < 0.12, silence, words)
        # One timestep in each equal part of the range, so that batches are alike.
        parts = (torch.arange(options.batch) + torch.rand(options.batch, generator=generator)) / options.batch
        times = (parts * 1000).long().clamp(max=999)
        noise = torch.randn(clean.shape, generator=generator)
        signal, spread = alphas[times].sqrt().view(-1, 1, 1, 1), (1 - alphas[times]).sqrt().view(-1, 1, 1, 1)
        said = text(words).last_hidden_state
        guess = unet(signal * clean + spread * noise, times, said).sample
        loss = F.mse_loss(guess, signal * noise - spread * clean)
        loss.backward()
        if options.processes > 1:
            average_gradients(optimizer.trained, options.processes)
        optimizer.advance(rate(step, options.steps, options.rate))
        average.add(step)
        total += loss.item()
        if rank == 0 and (step + 1) % 50 == 0:
            print(f"denoiser step {step + 1} loss {total / 50:.4f} {time.monotonic() - started:.0f} s", flush=True)
            total = 0.0
        if rank == 0 and (step + 1) % options.every == 0:
            save(step + 1)
    if rank == 0:
        save(max(begin, options.steps))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    arguments.add_argument("--out", type=pathlib.Path, required=True)
    arguments.add_argument("--vae-steps", type=int, default=1000)
    arguments.add_argument("--vae-rate", type=float, default=8e-3)
    arguments.add_argument("--vae-batch", type=int, default=16)
    arguments.add_argument("--pull", type=float, default=4e-4)
    arguments.add_argument("--bank", type=int, default=16_000, help="scenes that the denoiser is trained on")
    arguments.add_argument("--steps", type=int, default=6000)
    arguments.add_argument("--rate", type=float, default=4e-3)
    arguments.add_argument("--batch", type=int, default=20)
    arguments.add_argument("--every", type=int, default=500, help="steps between checkpoints")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--processes", type=int, default=2, help="of the denoiser; each draws --batch scenes a step")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    vae, tokenizer = train_autoencoder(options), v.train()
    bank(vae, tokenizer, options)
    if options.processes == 1:
        train_denoiser(0, vae, tokenizer, options)
    else:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(29500 + os.getpid() % 1000))
        torch.multiprocessing.spawn(train_denoiser, (vae, tokenizer, options), options.processes)


if __name__ == "__main__":
    main()

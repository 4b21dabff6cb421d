"""The other side: torch's roofs, and `transformers` and `diffusers` on the same checkpoints. Run as a program of its own, `peers.py CASE
ARGUMENTS`, so that its memory is given back when it ends; one JSON object is its last line. Exit code 3 says that a library is not there."""

import importlib
import json
import statistics
import sys
import time
import wave

MISSING = 3
RUNS = 3


def needed(*names: str):
    """The modules, or the end of this program with the name of the one that is not there."""
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        raise SystemExit(MISSING) from None


def half(torch, device: str):
    """bf16, as ours on a GPU; f32 on a CPU, as ours in a dry run."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def clock(torch, device: str):
    """The time once everything that was begun is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(torch, device: str, run, runs: int = RUNS) -> float:
    """Seconds of a call in their median, after one that is not counted."""
    run()
    seconds = []
    for _ in range(runs):
        began = clock(torch, device)
        run()
        seconds.append(clock(torch, device) - began)
    return statistics.median(seconds)


def roofs(device: str, scale: str) -> dict:
    """Bytes a second of a copy, read and written, and multiply-adds of bf16 matrices, twice."""
    (torch,) = needed("torch")
    if device == "cuda" and not torch.cuda.is_available():
        print(json.dumps({"missing": "torch finds no GPU"}))
        raise SystemExit(MISSING)
    size, side = (1 << 31, 8192) if device == "cuda" else (1 << 26, 1024)
    source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=device)
    into = torch.empty_like(source)
    copy = timed(torch, device, lambda: into.copy_(source), 10)
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(torch, device, lambda: a @ b, 10)
    name = torch.cuda.get_device_name(0) if device == "cuda" else "cpu"
    return {"bytes_per_second": 2 * size / copy, "flops_per_second": 2 * side**3 / product, "of": name, "torch": torch.__version__}


def llama(device: str, scale: str, model: str, read: str, write: str) -> dict:
    """Decoding with a static cache, whose steps `generate` compiles on a GPU, at batch 1 and 8; a prompt read."""
    torch, transformers = needed("torch", "transformers")
    began = time.perf_counter()
    lm = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=half(torch, device)).to(device).eval()
    clock(torch, device)
    found = {"load_seconds": time.perf_counter() - began, "version": transformers.__version__, "compiled": device == "cuda"}
    vocabulary = lm.config.vocab_size

    def ids(rows: int, tokens: int):
        return torch.randint(300, vocabulary, (rows, tokens), device=device)

    with torch.inference_mode():
        found["prefill_seconds"] = timed(torch, device, lambda: lm(ids(1, int(read)), use_cache=True, logits_to_keep=1))
        for rows in (1, 8):
            prompt = ids(rows, 32)

            def generate(tokens: int, prompt=prompt):
                lm.generate(prompt, attention_mask=torch.ones_like(prompt), cache_implementation="static", do_sample=False,
                            min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0)

            long = timed(torch, device, lambda: generate(int(write)))
            short = timed(torch, device, lambda: generate(2))
            found[f"decode_tokens_per_second_batch_{rows}"] = rows * (int(write) - 2) / (long - short)
    return found


def whisper(device: str, scale: str, model: str, audio: str, tokens: str) -> dict:
    """A file window by window and eight windows at a time, each with as many tokens as ours wrote."""
    numpy, torch, transformers = needed("numpy", "torch", "transformers")
    with wave.open(audio) as file:
        samples = numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype("float32") / 32768
    extract = transformers.WhisperFeatureExtractor.from_pretrained(model)
    net = transformers.WhisperForConditionalGeneration.from_pretrained(model, dtype=half(torch, device)).to(device).eval()
    # No times are written, as ours are asked without: else a time that is drawn would be where it seeks to.
    net.generation_config.suppress_tokens = list(range(net.config.eos_token_id, net.config.vocab_size))
    windows = [samples[at : at + 480_000] for at in range(0, len(samples), 480_000)]
    found = {"version": transformers.__version__, "windows": len(windows)}

    def hear(at_once: int):
        for begin in range(0, len(windows), at_once):
            some = windows[begin : begin + at_once]
            mel = extract(some, sampling_rate=16_000, return_tensors="pt", return_attention_mask=True)
            net.generate(mel.input_features.to(device, half(torch, device)), attention_mask=mel.attention_mask.to(device), language="en",
                         task="transcribe", max_new_tokens=int(tokens), do_sample=False)

    with torch.inference_mode():
        found["one_by_one_seconds"] = timed(torch, device, lambda: hear(1), 1)
        found["eight_at_once_seconds"] = timed(torch, device, lambda: hear(8), 1)
    return found


def sdxl(device: str, scale: str, model: str, pixels: str) -> dict:
    """A guided call of the UNet and a picture decoded, in bf16 with scaled_dot_product_attention."""
    torch, diffusers = needed("torch", "diffusers")
    place = {"device": device, "dtype": half(torch, device)}
    side = int(pixels) // 8
    unet = diffusers.UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=half(torch, device)).to(device)
    width, config = unet.config.cross_attention_dim, unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    latents, text = torch.randn(2, 4, side, side, **place), torch.randn(2, 77, width, **place)
    more = {"text_embeds": torch.randn(2, pooled, **place), "time_ids": torch.full((2, 6), float(pixels), **place)}
    step = torch.tensor(500, device=device)
    with torch.inference_mode():
        took = timed(torch, device, lambda: unet(latents, step, text, added_cond_kwargs=more))
        unet = None  # its memory is the decoder's now
        found = {"version": diffusers.__version__, "step_seconds": took}
        found["decode_seconds"] = _decode(torch, diffusers, device, model, torch.randn(1, 4, side, side, **place))
    return found


def flux(device: str, scale: str, model: str, pixels: str) -> dict:
    """A call of the transformer and a picture decoded."""
    torch, diffusers = needed("torch", "diffusers")
    place = {"device": device, "dtype": half(torch, device)}
    side = int(pixels) // 16
    net = diffusers.FluxTransformer2DModel.from_pretrained(model, subfolder="transformer", torch_dtype=half(torch, device)).to(device)
    image = torch.zeros(side, side, 3, device=device)
    image[..., 1] += torch.arange(side, device=device)[:, None]
    image[..., 2] += torch.arange(side, device=device)[None]
    asked = {
        "hidden_states": torch.randn(1, side * side, 64, **place), "encoder_hidden_states": torch.randn(1, 512, net.config.joint_attention_dim, **place),
        "pooled_projections": torch.randn(1, net.config.pooled_projection_dim, **place), "timestep": torch.tensor([0.5], **place),
        "guidance": torch.tensor([3.5], **place), "img_ids": image.reshape(-1, 3), "txt_ids": torch.zeros(512, 3, device=device), "return_dict": False,
    }
    with torch.inference_mode():
        took = timed(torch, device, lambda: net(**asked))
        net = None  # its memory is the decoder's now
        found = {"version": diffusers.__version__, "step_seconds": took}
        found["decode_seconds"] = _decode(torch, diffusers, device, model, torch.randn(1, 16, 2 * side, 2 * side, **place))
    return found


def _decode(torch, diffusers, device: str, model: str, latents) -> float:
    vae = diffusers.AutoencoderKL.from_pretrained(model, subfolder="vae", torch_dtype=half(torch, device)).to(device)
    return timed(torch, device, lambda: vae.decode(latents))


CASES = {case.__name__: case for case in (roofs, llama, whisper, sdxl, flux)}

if __name__ == "__main__":
    print(json.dumps(CASES[sys.argv[1]](*sys.argv[2:])))

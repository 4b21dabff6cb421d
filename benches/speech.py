"""Speech recognition: ours, faster-whisper (CTranslate2) and `transformers` in one run: same machine, same weights, same audio.

    python3 -m venv VENV && VENV/bin/pip install -r benches/requirements-speech.txt
    cargo build --release --bench speech
    VENV/bin/python benches/speech.py --work DIR [--shape tiny|base] [--minutes 10] [--out FILE]

Makes random weights in Whisper's shape and ten minutes of speech (espeak-ng) in DIR when they are not there. Every window has the
same number of tokens: the end of a transcript is never chosen, and nothing is decoded twice.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import wave

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHAPES = {"tiny": (384, 4, 6), "base": (512, 6, 8), "small": (768, 12, 12)}  # width, layers, heads
TOKENS = 64
LANGUAGES = 99
WORDS = "the ship turns north at seven and the light on the second buoy is red while nobody answers from the harbour office".split()


def special_tokens() -> list[str]:
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as codes

    languages = [f"<|{code}|>" for code in list(codes)[:LANGUAGES]]
    steering = ["translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps"]
    times = [f"<|{n * 0.02:.2f}|>" for n in range(1501)]
    return ["<|endoftext|>", "<|startoftranscript|>", *languages, *(f"<|{name}|>" for name in steering), *times]


def make_model(directory: pathlib.Path, shape: str) -> None:
    """Random weights in a published shape, with a tokenizer whose words are made up and whose special tokens are Whisper's."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    torch.manual_seed(0)
    width, layers, heads = SHAPES[shape]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"w{n}" for n in range(50257 - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE(vocab={word: n for n, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = special_tokens()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    ids = {token: 50257 + n for n, token in enumerate(special)}
    config = WhisperConfig(
        vocab_size=51865, d_model=width, encoder_layers=layers, decoder_layers=layers, encoder_attention_heads=heads,
        decoder_attention_heads=heads, encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, init_std=0.05,
        decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=50257, pad_token_id=50257, bos_token_id=50257,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=ids["<|startoftranscript|>"], eos_token_id=50257, pad_token_id=50257, bos_token_id=50257,
        no_timestamps_token_id=ids["<|notimestamps|>"], is_multilingual=True, max_length=448,
        lang_to_id={token: n for token, n in ids.items() if len(token) < 9 and n < ids["<|translate|>"] and n > 50258},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        suppress_tokens=[], begin_suppress_tokens=[220, 50257], max_initial_timestamp_index=50,
        alignment_heads=[[layers - 1, 0]], prev_sot_token_id=ids["<|startofprev|>"],
    )
    model.save_pretrained(directory)
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
    }))
    WhisperFeatureExtractor(feature_size=80).save_pretrained(directory)


def make_audio(path: pathlib.Path, minutes: float) -> None:
    """Speech with pauses, 16 kHz, 16 bits."""
    import random

    dice, samples = random.Random(0), bytearray()
    rate = 0
    while rate == 0 or len(samples) < minutes * 60 * rate * 2:
        text = " ".join(dice.choice(WORDS) for _ in range(dice.randrange(5, 16)))
        made = subprocess.run(["espeak-ng", "--stdout", "-v", dice.choice(["en-us", "en-gb+f2", "en-us+m3"]), "-s", "160", text], check=True, stdout=subprocess.PIPE).stdout
        rate = int.from_bytes(made[24:28], "little")
        samples += made[44:] + bytes(2 * int(rate * dice.uniform(0.3, 1.6)))
    import numpy

    sound = numpy.frombuffer(bytes(samples), dtype="<i2").astype("float32")
    count = int(minutes * 60 * 16000)
    places = numpy.arange(count) * (rate / 16000)
    resampled = numpy.interp(places, numpy.arange(len(sound)), sound)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes(resampled.astype("<i2").tobytes())


PEER = """
import json, resource, statistics, sys, time
kind, directory, audio, tokens, threads = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
def median(runs, run):
    times = []
    for _ in range(runs):
        began = time.perf_counter(); run(); times.append(time.perf_counter() - began)
    return statistics.median(times)
found = {}
if kind == "transformers":
    import numpy, torch, wave
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration
    torch.set_num_threads(threads)
    model = WhisperForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
    features = torch.randn(8, 80, 3000)
    with torch.inference_mode():
        encode = lambda: model.model.encoder(features[:1])
        encode()
        found["encoder_seconds"] = median(5, encode)
        for batch in (1, 8):
            encoded = model.model.encoder(features[:batch])
            run = lambda: model.generate(encoder_outputs=encoded, language="en", task="transcribe", min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)
            run()
            found[f"decode_seconds_batch_{batch}"] = median(5, run)
        with wave.open(audio) as file:
            samples = numpy.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype("float32") / 32768
        extract = WhisperFeatureExtractor.from_pretrained(directory)
        def windows():
            for start in range(0, len(samples), 480000):
                mel = extract(samples[start:start + 480000], sampling_rate=16000, return_tensors="pt").input_features
                model.generate(mel, language="en", task="transcribe", min_new_tokens=tokens, max_new_tokens=tokens, do_sample=False)
        found["windows_seconds"] = median(1, windows)
else:
    import numpy
    from faster_whisper import BatchedInferencePipeline, WhisperModel
    from faster_whisper.tokenizer import Tokenizer
    model = WhisperModel(directory, device="cpu", compute_type=kind, cpu_threads=threads, num_workers=1)
    import ctranslate2
    features = numpy.random.default_rng(0).standard_normal((8, 80, 3000)).astype("float32")
    encode = lambda: model.model.encode(ctranslate2.StorageView.from_array(features[:1]))
    encode()
    found["encoder_seconds"] = median(5, encode)
    prompt = [50258, 50259, 50359, 50363]
    for batch in (1, 8):
        encoded = model.model.encode(ctranslate2.StorageView.from_array(features[:batch]))
        run = lambda: model.model.generate(encoded, [prompt] * batch, beam_size=1, max_length=len(prompt) + tokens, suppress_tokens=[50257], suppress_blank=False)
        run()
        found[f"decode_seconds_batch_{batch}"] = median(5, run)
    asked = dict(language="en", beam_size=1, best_of=1, temperature=0.0, without_timestamps=True, suppress_tokens=[-1, 50257], max_new_tokens=tokens, no_speech_threshold=None, log_prob_threshold=None, compression_ratio_threshold=None, condition_on_previous_text=False)
    def whole(pipeline, **more):
        count = 0
        def run():
            nonlocal count
            segments, _ = pipeline.transcribe(audio, **asked, **more)
            count = len(list(segments))
        seconds = median(1, run)
        return {"seconds": seconds, "segments": count}
    found["file_sequential"] = whole(model)
    found["file_vad_batched"] = whole(BatchedInferencePipeline(model), batch_size=8)
found["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(found))
"""


def peer(kind, directory, audio, threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    run = [sys.executable, "-c", PEER, kind, str(directory), str(audio), str(TOKENS), str(threads)]
    done = subprocess.run(run, stdout=subprocess.PIPE, env=environment, text=True)
    if done.returncode:
        raise SystemExit(f"{kind}: the peer failed")
    return json.loads(done.stdout.splitlines()[-1])


def ours(binary, directory, audio, threads, *more):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    run = [binary, str(directory), str(audio), "--tokens", str(TOKENS), *more]
    done = subprocess.run(run, check=True, stdout=subprocess.PIPE, env=environment, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def bench_binary() -> str:
    built = subprocess.run(
        ["cargo", "build", "--release", "--bench", "speech", "--message-format=json"], check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True
    ).stdout
    found = [json.loads(line) for line in built.splitlines()]
    return next(one["executable"] for one in found if one.get("executable") and one["target"]["name"] == "speech")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--binary", help="the benchmark's program, where it is built already")
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    model, audio = given.work / given.shape, given.work / f"speech-{given.minutes:g}.wav"
    given.work.mkdir(parents=True, exist_ok=True)
    if not (model / "tokenizer.json").exists():
        make_model(model, given.shape)
    if not audio.exists():
        make_audio(audio, given.minutes)
    converted = {}
    for kind in ("float32", "int8"):
        converted[kind] = given.work / f"{given.shape}-{kind}"
        if not (converted[kind] / "model.bin").exists():
            import ctranslate2

            files = ["tokenizer.json", "preprocessor_config.json"]
            ctranslate2.converters.TransformersConverter(str(model), copy_files=files).convert(str(converted[kind]), quantization=kind, force=True)
    binary = given.binary or bench_binary()
    found = {
        "machine": platform.processor() or platform.machine(), "threads": given.threads, "shape": given.shape, "minutes": given.minutes, "tokens": TOKENS,
        "ours_f32": ours(binary, model, audio, given.threads),
        "ours_q8_0": ours(binary, model, audio, given.threads, "--quantize", "q8_0"),
        "ours_q8_0_int8": ours(binary, model, audio, given.threads, "--quantize", "q8_0", "--activations", "int8"),
        "transformers_f32": peer("transformers", model, audio, given.threads),
        "faster_whisper_f32": peer("float32", converted["float32"], audio, given.threads),
        "faster_whisper_int8": peer("int8", converted["int8"], audio, given.threads),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()

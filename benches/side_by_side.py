"""Ours and `transformers` in one run: same machine, same weights, same inputs; medians and ratios, beside the roof.

    python3 -m venv VENV && VENV/bin/pip install -r benches/requirements.txt
    cargo build --release --bench generation --bin chandler
    VENV/bin/python benches/side_by_side.py --work DIR [--out FILE]

Makes the 314 M Llama shape with random weights in DIR (f32, f16 and bf16 copies of the same numbers) when it is not there.
"""

import argparse
import json
import multiprocessing
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PREFILL, DECODE, RUNS = 512, 48, 5
VOCABULARY = 32000
DTYPES = ("f32", "f16", "bf16")


def make_model(directory: pathlib.Path) -> None:
    """The shape of tiny_models.py's `llama-bench`, with a tokenizer of bytes and made-up words: every token is text to see."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    vocab |= {f"w{i}": i for i in range(len(vocab), VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=1024, intermediate_size=2816, num_hidden_layers=22,
        num_attention_heads=16, num_key_value_heads=4, max_position_embeddings=2048,
    )
    model = LlamaForCausalLM(config).to(torch.float16)
    for name, dtype in (("f16", torch.float16), ("f32", torch.float32), ("bf16", torch.bfloat16)):
        model.to(dtype).save_pretrained(directory / name)
        fast.save_pretrained(directory / name)


PEER = """
import json, resource, statistics, sys, time
started = float(sys.argv[2])
import torch
from transformers import AutoModelForCausalLM
torch.set_num_threads({threads})
began = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
load_seconds = time.perf_counter() - began
def prompt(n, salt): return torch.tensor([[(300 + i * 7919 + salt * 104729) % 32000 for i in range(n)]])
def run(ids, batch, tokens):
    ids = ids.repeat(batch, 1)
    with torch.inference_mode():
        t = time.perf_counter()
        out = model(ids, use_cache=True, logits_to_keep=1)
        nxt = out.logits[:, -1:].argmax(-1)
        first = time.perf_counter() - t
        t = time.perf_counter()
        for _ in range(tokens - 1):
            out = model(nxt, past_key_values=out.past_key_values, use_cache=True)
            nxt = out.logits[:, -1:].argmax(-1)
        rest = time.perf_counter() - t
    return first, batch * (tokens - 1) / rest if tokens > 1 else 0.0
run(prompt(8, 9), 1, 1)
first_token = time.time() - started
if sys.argv[3] == "start":
    print(json.dumps(dict(first_token_seconds=first_token, peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)))
    raise SystemExit
med = statistics.median
a = torch.randn(2048, 2048); b = torch.randn(2048, 2048)
def rate():
    t = time.perf_counter(); a @ b; return 2 * 2048**3 / (time.perf_counter() - t)
print(json.dumps(dict(
    load_seconds=load_seconds,
    prefill_tokens_per_second=med({prefill} / run(prompt({prefill}, 1), 1, 1)[0] for _ in range({runs})),
    decode_tokens_per_second_batch_1=med(run(prompt(32, 2), 1, {decode})[1] for _ in range({runs})),
    decode_tokens_per_second_batch_8=med(run(prompt(32, 3), 8, {decode})[1] for _ in range({runs})),
    peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    matrix_flops_per_second=max(rate() for _ in range(9)),
)))
""".format(threads=os.cpu_count(), prefill=PREFILL, decode=DECODE, runs=RUNS)


def last_json(command: list[str]) -> dict:
    """Runs a command and reads the last line that it prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def our_start(model: pathlib.Path) -> dict:
    """Process start to the first byte of the answer, and the most memory the process had."""
    command = [str(ROOT / "target/release/chandler"), "run", "--model", str(model), "--raw",
               "--max-tokens", "1", "--temperature", "0", "ABCDEFGH"]
    started = time.time()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    child.stdout.read(1)
    first = time.time() - started
    child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"chandler run ended with {status}")
    return {"first_token_seconds": first, "peak_bytes": usage.ru_maxrss * 1024}


def bench_binary() -> str:
    found = sorted((ROOT / "target/release/deps").glob("generation-*"), key=lambda p: p.stat().st_mtime)
    found = [p for p in found if os.access(p, os.X_OK) and p.suffix == ""]
    if not found:
        sys.exit("build it first: cargo build --release --bench generation --bin chandler")
    return str(found[-1])


def commit() -> str:
    return subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="directory for the random model")
    parser.add_argument("--out", type=pathlib.Path, help="file for the report, as JSON")
    args = parser.parse_args()
    if not all((args.work / name / "config.json").exists() for name in DTYPES):
        # In a process of its own: a child's peak counts what its parent had when it was forked.
        maker = multiprocessing.Process(target=make_model, args=(args.work,))
        maker.start()
        maker.join()
        if maker.exitcode != 0:
            sys.exit("the model was not made")
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    report = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "threads": os.cpu_count()}
    peer = ROOT / "target" / "peer.py"
    peer.write_text(PEER)
    python = sys.executable
    for name in DTYPES:
        model = args.work / name
        starts = [(our_start(model), last_json([python, str(peer), str(model), str(time.time()), "start"])) for _ in range(3)]
        ours = last_json([bench_binary(), str(model)])
        theirs = last_json([python, str(peer), str(model), str(time.time()), "full"])
        for side, index in ((ours, 0), (theirs, 1)):
            side["first_token_seconds"] = statistics.median(s[index]["first_token_seconds"] for s in starts)
            side["peak_bytes_one_token"] = max(s[index]["peak_bytes"] for s in starts)
        report[name] = {"weights_bytes": (model / "model.safetensors").stat().st_size, "ours": ours, "transformers": theirs}
        table(name, report[name])
    text = json.dumps(report, indent=1)
    if args.out:
        args.out.write_text(text + "\n")


def table(name: str, entry: dict) -> None:
    ours, theirs, weights = entry["ours"], entry["transformers"], entry["weights_bytes"]
    print(f"\n{name} weights, {weights / 1e9:.2f} GB, "
          f"torch matrix rate {theirs['matrix_flops_per_second'] / 1e9:.0f} GFLOP/s")
    print(f"{'':34}{'ours':>10}{'transformers':>14}{'ratio':>8}")
    rows = ["prefill_tokens_per_second", "decode_tokens_per_second_batch_1", "decode_tokens_per_second_batch_8"]
    for row in rows:
        print(f"{row:34}{ours[row]:10.1f}{theirs[row]:14.1f}{ours[row] / theirs[row]:8.2f}")
    for row, unit in (("load_seconds", 1.0), ("first_token_seconds", 1.0), ("peak_bytes", 1e9)):
        print(f"{row:34}{ours[row] / unit:10.3f}{theirs[row] / unit:14.3f}{theirs[row] / ours[row]:8.2f}")
    # The embedding's table is not streamed: one row of it is read per token.
    streamed = weights * (1 - 32000 * 1024 / 314.3e6)
    turns = ours["in_turns"]
    roof = turns["read_bytes_per_second"] / streamed
    print(f"decode at batch 1, token by token in turns with reading {turns['read_bytes_per_second'] / 1e9:.1f} GB/s, is "
          f"{turns['decode_tokens_per_second']:.1f} tok/s: {turns['decode_tokens_per_second'] / roof:.0%} of the read roof; "
          f"batch 8 is {ours['decode_tokens_per_second_batch_8'] / ours['decode_tokens_per_second_batch_1']:.1f}x batch 1; "
          f"peak memory is {ours['peak_bytes'] / weights:.2f}x the weights")


if __name__ == "__main__":
    main()

"""Ours, llama.cpp and mistral.rs in one run, on the same GGUF files: prefill and decode of a quantised Llama, at 314 M and 1.1 B.

    python3 -m venv VENV && VENV/bin/pip install -r benches/requirements.txt -r benches/requirements-llama-cpp.txt
    cargo build --release --bench generation --bin chandler
    cargo install mistralrs-cli --version 0.8.1 --locked --root DIR
    VENV/bin/python benches/quantized.py --work DIR [--out FILE] [--shapes 314m,1.1b] [--runs 5] [--mistralrs DIR/bin/mistralrs]

Random weights are written to DIR as an F16 GGUF, which llama.cpp itself quantises to Q8_0 and Q4_K_M: the files are the
peer's own. Each repetition runs ours by f32, ours by int8 and then llama.cpp, so that a noisy minute meets all of them; mistral.rs,
whose own `bench` takes minutes, runs once.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

from side_by_side import bench_binary, commit, last_json

#: hidden, feed-forward, layers, heads, key-value heads. The first is side_by_side.py's, the second TinyLlama's.
SHAPES = {"314m": (1024, 2816, 22, 16, 4), "1.1b": (2048, 5632, 22, 32, 4)}
VOCABULARY, CONTEXT = 32000, 2048
#: llama.cpp's names for its file types (llama.h, enum llama_ftype).
KINDS = {"q8_0": 7, "q4_k_m": 15}
PREFILL, DECODE = 512, 48

PEER = """
import json, statistics, sys, time
from llama_cpp import Llama
model = Llama(sys.argv[1], n_ctx=1024, n_threads={threads}, n_threads_batch={threads}, n_batch=512, verbose=False)
def prompt(n, salt): return [(300 + i * 7919 + salt * 104729) % {vocabulary} for i in range(n)]
def run(ids, tokens):
    model.reset()
    t = time.perf_counter(); model.eval(ids); first = time.perf_counter() - t
    t = time.perf_counter()
    for _ in range(tokens): model.eval([int(model.sample(temp=0.0))])
    return first, tokens / (time.perf_counter() - t)
run(prompt(16, 0), 4)
print(json.dumps(dict(
    prefill_tokens_per_second=statistics.median({prefill} / run(prompt({prefill}, 1), 1)[0] for _ in range(3)),
    decode_tokens_per_second_batch_1=statistics.median(run(prompt(32, 2), {decode})[1] for _ in range(3)),
)))
""".format(threads=os.cpu_count(), prefill=PREFILL, decode=DECODE, vocabulary=VOCABULARY)


def write_f16(path: pathlib.Path, shape: tuple[int, ...]) -> None:
    """A Llama with random weights, in llama.cpp's layout, with a tokenizer of bytes and made-up words."""
    import gguf
    import numpy

    hidden, wide, layers, heads, kv_heads = shape
    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(VOCABULARY)
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256))]
    pieces += [f"\u2581t{i}".encode() for i in range(VOCABULARY - len(pieces))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(pieces)
    writer.add_token_scores([-float(i) for i in range(VOCABULARY)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (VOCABULARY - 259))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)

    def matrix(name: str, rows: int, columns: int) -> None:
        numbers = random.standard_normal((rows, columns), dtype=numpy.float32) * 0.02
        writer.add_tensor(f"{name}.weight", numbers.astype(numpy.float16))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", numpy.ones(hidden, dtype=numpy.float32))

    matrix("token_embd", VOCABULARY, hidden)
    for layer in range(layers):
        at = f"blk.{layer}."
        norm(at + "attn_norm")
        matrix(at + "attn_q", hidden, hidden)
        matrix(at + "attn_k", hidden // heads * kv_heads, hidden)
        matrix(at + "attn_v", hidden // heads * kv_heads, hidden)
        matrix(at + "attn_output", hidden, hidden)
        norm(at + "ffn_norm")
        matrix(at + "ffn_gate", wide, hidden)
        matrix(at + "ffn_up", wide, hidden)
        matrix(at + "ffn_down", hidden, wide)
    norm("output_norm")
    matrix("output", VOCABULARY, hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def quantise(source: pathlib.Path, target: pathlib.Path, kind: int) -> None:
    import llama_cpp

    # Three lines a tensor; what goes wrong is in the result.
    silent = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)
    llama_cpp.llama_log_set(silent, None)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = kind, os.cpu_count()
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), parameters) != 0:
        sys.exit(f"llama.cpp did not quantise {source.name}")


def prepare(work: pathlib.Path, shape: str) -> dict[str, pathlib.Path]:
    work.mkdir(parents=True, exist_ok=True)
    f16 = work / f"{shape}-f16.gguf"
    if not f16.exists():
        write_f16(f16, SHAPES[shape])
    files = {kind: work / f"{shape}-{kind}.gguf" for kind in KINDS}
    for kind, path in files.items():
        if not path.exists():
            quantise(f16, path, KINDS[kind])
    return files


def mistralrs(binary: pathlib.Path, path: pathlib.Path) -> dict:
    """One round of mistral.rs' own benchmark, read off its table."""
    run = [binary, "bench", "--cpu", "--format", "gguf", "-m", path.parent, "-f", path.name,
           "--prompt-len", str(PREFILL), "--gen-len", str(DECODE), "--iterations", "1"]
    done = subprocess.run(run, check=True, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    found = dict(re.findall(r"(Prefill|Decode) \(\d+ tokens\)\s*┆\s*([\d.]+)", done.stdout))
    return {"prefill_tokens_per_second": float(found["Prefill"]), "decode_tokens_per_second_batch_1": float(found["Decode"])}


def compare(path: pathlib.Path, runs: int) -> dict:
    """Medians over `runs` of processes that take turns."""
    ours = [bench_binary(), str(path)]
    sides = {"ours": ours, "ours_int8": [*ours, "--activations", "int8"], "llama_cpp": [sys.executable, "-c", PEER, str(path)]}
    found = {side: [] for side in sides}
    for _ in range(runs):
        for side, run in sides.items():
            found[side].append(last_json(run))
    median = {side: {key: statistics.median(run[key] for run in all_runs) for key in all_runs[0]
                     if isinstance(all_runs[0][key], (int, float))}
              for side, all_runs in found.items()}
    return {"bytes": path.stat().st_size, **median}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="directory for the models")
    parser.add_argument("--out", type=pathlib.Path, help="file for the report, as JSON")
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--mistralrs", type=pathlib.Path, help="its program, to be in the table too")
    args = parser.parse_args()
    import llama_cpp

    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    report = {"commit": commit(), "date": time.strftime("%Y-%m-%d"), "cpu": cpu, "threads": os.cpu_count(),
              "llama_cpp_python": llama_cpp.__version__, "shapes": {}}
    sides = ["ours", "ours_int8", "llama_cpp"] + ["mistralrs"] * bool(args.mistralrs)
    print(f"{'':48}" + "".join(f"{side:>11}" for side in sides))
    for shape in args.shapes.split(","):
        for kind, path in prepare(args.work, shape).items():
            entry = report["shapes"][f"{shape} {kind}"] = compare(path, args.runs)
            if args.mistralrs:
                entry["mistralrs"] = mistralrs(args.mistralrs, path)
            for row in ("prefill_tokens_per_second", "decode_tokens_per_second_batch_1", "decode_tokens_per_second_batch_8"):
                found = [entry[side].get(row) for side in sides]
                print(f"{shape + ' ' + kind:14}{row:34}" + "".join(f"{one:11.1f}" if one else f"{'':11}" for one in found), flush=True)
            if args.out:  # after each: the large shape takes long
                args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

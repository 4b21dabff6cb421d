"""The layers that pictures go through, ours and torch's in turns: same machine, same run, same number of threads.

    cargo build --release -p chandler-nn --bench pictures
    VENV/bin/python pipelines/nn/benches/pictures.py target/release/deps/pictures-HASH [--runs 9] [--threads 2] [--plain] [WORD]

Prints for every case the medians and the least of both and how many times as long torch takes; with --plain candle's, too. Each
run of ours is followed by one of torch's, so that whatever else the machine does meets both.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F


def conv(inputs, outputs, size, kernel, stride):
    x, weight, bias = torch.randn(1, inputs, size, size), torch.randn(outputs, inputs, kernel, kernel), torch.randn(outputs)
    return lambda: F.conv2d(x, weight, bias, stride=stride, padding=kernel // 2)


def upscaled(inputs, outputs, size):
    x, weight, bias = torch.randn(1, inputs, size, size), torch.randn(outputs, inputs, 3, 3), torch.randn(outputs)
    return lambda: F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, bias, padding=1)


def norm(channels, size):
    x, weight, bias = torch.randn(1, channels, size, size), torch.randn(channels), torch.randn(channels)
    return lambda: F.silu(F.group_norm(x, 32, weight, bias, 1e-5))


def attend(queries, keys, heads, head_dim):
    q, k, v = (torch.randn(1, length, heads * head_dim) for length in (queries, keys, keys))

    def run():
        by_head = [x.view(1, -1, heads, head_dim).transpose(1, 2) for x in (q, k, v)]
        return F.scaled_dot_product_attention(*by_head).transpose(1, 2).reshape(1, queries, -1)

    return run


KINDS = {"conv": conv, "upscaled": upscaled, "norm": norm, "attend": attend}


def milliseconds(run) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("word", nargs="?", default="")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--plain", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    cases = subprocess.run([asked.binary, "--list"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = subprocess.Popen([asked.binary, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def answered(case: str) -> float:
        print(case, file=ours.stdin, flush=True)
        return float(ours.stdout.readline())

    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, torch {torch.__version__}, {asked.runs} runs in turns")
    print(f"{'case':28} {'ours':>9} {'least':>9} {'torch':>9} {'least':>9}  torch/ours (of the least)")
    with torch.inference_mode():
        for case in (case for case in cases if asked.word in case):
            kind, *sizes = case.split()
            run = KINDS[kind](*map(int, sizes))
            run()
            times = {"ours": [], "torch": []}
            for _ in range(asked.runs):
                times["ours"].append(answered(case))
                times["torch"].append(milliseconds(run))
            median = {who: statistics.median(each) for who, each in times.items()}
            least = {who: min(each) for who, each in times.items()}
            line = f"{case:28} {median['ours']:9.2f} {least['ours']:9.2f} {median['torch']:9.2f} {least['torch']:9.2f}"
            line += f"  {median['torch'] / median['ours']:.2f} ({least['torch'] / least['ours']:.2f})"
            if asked.plain:
                line += f"  candle {statistics.median(answered('plain ' + case) for _ in range(3)):.2f}"
            print(line, flush=True)
    ours.stdin.close()
    sys.exit(ours.wait())


if __name__ == "__main__":
    main()

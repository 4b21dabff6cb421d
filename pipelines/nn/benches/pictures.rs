//! Speed of the layers that pictures go through: convolutions, group norms and attention, in Stable Diffusion 1.5's shapes.
//! `pictures.py` runs it beside torch, in turns; alone: `cargo bench -p chandler-nn --bench pictures -- --runs 9 [WORD]` for the
//! cases that have the word in their names. Without arguments it is a smoke run over tiny shapes, never a figure.
//!
//! A case is a line: `conv inputs outputs size kernel stride`, `upscaled inputs outputs size` (the size before), `norm channels
//! size` with SiLU, `attend queries keys heads head_dim`; `half` before it keeps the weight in f16, `plain` computes it with candle.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // Why: a benchmark may stop at the first surprise.

use candle_core::{DType, Device, Tensor};
use chandler_nn::activation::Activation;
use chandler_nn::conv2d::{Conv2d, Conv2dConfig, Padding};
use chandler_nn::dense_attention::{dense_attention, dense_attention_plain};
use chandler_nn::group_norm::{GroupNorm, Groups};
use chandler_nn::weights::HostTensor;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::time::Instant;

/// The UNet at 512 pixels, then the VAE's decoder and the way down of its encoder.
const CASES: [&str; 32] = [
    "conv 4 320 64 3 1",
    "conv 320 320 64 3 1",
    "conv 960 320 64 3 1",
    "conv 640 640 32 3 1",
    "conv 1920 640 32 3 1",
    "conv 1280 1280 16 3 1",
    "conv 1280 1280 8 3 1",
    "conv 320 4 64 3 1",
    "conv 320 320 64 1 1",
    "conv 640 640 32 1 1",
    "conv 1280 1280 16 1 1",
    "conv 320 320 64 3 2",
    "upscaled 1280 1280 8",
    "upscaled 640 640 32",
    "conv 4 512 64 3 1",
    "conv 512 512 64 3 1",
    "conv 512 512 128 3 1",
    "conv 256 256 256 3 1",
    "conv 512 256 256 1 1",
    "conv 128 128 512 3 1",
    "conv 128 3 512 3 1",
    "conv 128 128 512 3 2",
    "upscaled 512 512 64",
    "upscaled 256 256 256",
    "norm 320 64",
    "norm 1280 16",
    "norm 512 128",
    "norm 128 512",
    "attend 4096 4096 8 40",
    "attend 1024 1024 8 80",
    "attend 4096 77 8 40",
    "attend 4096 4096 1 512",
];

/// What a smoke run does.
const SMOKE: [&str; 6] = [
    "conv 4 20 9 3 1",
    "half conv 20 3 9 3 2",
    "upscaled 5 7 6",
    "norm 64 5",
    "attend 50 33 2 8",
    "plain conv 4 20 9 3 1",
];

fn main() {
    let (mut runs, mut serve, mut words) = (None, false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runs" => runs = arguments.next().map(|runs| runs.parse().unwrap()),
            "--serve" => serve = true,
            "--list" => {
                CASES.iter().for_each(|case| println!("{case}"));
                return;
            }
            // `cargo bench` adds --bench.
            other if other.starts_with("--") => {}
            word => words.push(word.to_owned()),
        }
    }
    if serve {
        return answer();
    }
    let cases = if runs.is_some() { &CASES[..] } else { &SMOKE };
    for line in cases
        .iter()
        .filter(|case| words.iter().all(|word| case.contains(word)))
    {
        let case = Case::new(line);
        let mut times: Vec<f64> = (0..runs.unwrap_or(1))
            .map(|_| case.milliseconds())
            .collect();
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[times.len() / 2]);
        let rate = case.work / median / 1e6;
        println!("{line}: median {median:.3} ms, least {least:.3} ms, {rate:.0} GFLOP/s");
    }
}

/// Runs each case that a line names, once, and answers with its milliseconds: whoever asks sets the turns.
fn answer() {
    let mut last: Option<(String, Case)> = None;
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        if last.as_ref().is_none_or(|(name, _)| *name != line) {
            let case = Case::new(&line);
            case.milliseconds();
            last = Some((line, case));
        }
        let (_, case) = last.as_ref().unwrap();
        println!("{}", case.milliseconds());
        std::io::stdout().flush().unwrap();
    }
}

/// One case, made and ready.
struct Case {
    run: Box<dyn Fn() -> Tensor>,
    /// Floating-point operations, a multiply-add being two; of a norm, numbers.
    work: f64,
}

impl Case {
    fn new(line: &str) -> Self {
        let mut words: Vec<&str> = line.split(' ').collect();
        let mut taken = |word: &str| {
            let at = words.iter().position(|other| *other == word);
            at.map(|at| words.remove(at)).is_some()
        };
        let how = How {
            plain: taken("plain"),
            half: taken("half"),
        };
        let sizes: Vec<usize> = words[1..]
            .iter()
            .map(|word| word.parse().unwrap())
            .collect();
        match (words[0], &sizes[..]) {
            ("conv", &[inputs, outputs, size, kernel, stride]) => {
                let x = random(&[1, inputs, size, size]);
                let config = Conv2dConfig {
                    stride,
                    padding: Padding::all(kernel / 2),
                };
                let conv = how.conv([outputs, inputs, kernel, kernel], config);
                let out = (size + 2 * (kernel / 2) - kernel) / stride + 1;
                Self {
                    work: 2.0 * (inputs * outputs * kernel * kernel * out * out) as f64,
                    run: Box::new(move || conv.forward(&x).unwrap()),
                }
            }
            ("upscaled", &[inputs, outputs, size]) => {
                let x = random(&[1, inputs, size, size]);
                let conv = how.conv([outputs, inputs, 3, 3], Conv2dConfig::same(3));
                Self {
                    work: 2.0 * (inputs * outputs * 9 * 4 * size * size) as f64,
                    run: Box::new(move || conv.forward_upscaled(&x).unwrap()),
                }
            }
            ("norm", &[channels, size]) => {
                let x = random(&[1, channels, size, size]);
                let groups = Groups {
                    count: 32,
                    eps: 1e-5,
                };
                let gain = (host(&[channels], DType::F32), host(&[channels], DType::F32));
                let make = if how.plain {
                    GroupNorm::plain
                } else {
                    GroupNorm::new
                };
                let norm = make(gain, groups, &Device::Cpu, DType::F32).unwrap();
                Self {
                    work: (channels * size * size) as f64,
                    run: Box::new(move || norm.forward(&x, Some(Activation::Silu)).unwrap()),
                }
            }
            ("attend", &[queries, keys, heads, head_dim]) => {
                let width = heads * head_dim;
                let (q, k, v) = (
                    random(&[1, queries, width]),
                    random(&[1, keys, width]),
                    random(&[1, keys, width]),
                );
                let scale = (head_dim as f64).powf(-0.5);
                Self {
                    work: 4.0 * (queries * keys * width) as f64,
                    run: Box::new(move || {
                        let attend = if how.plain {
                            dense_attention_plain
                        } else {
                            dense_attention
                        };
                        attend((&q, &k, &v), heads, scale, None).unwrap()
                    }),
                }
            }
            _ => panic!("`{line}` is no case"),
        }
    }

    fn milliseconds(&self) -> f64 {
        let start = Instant::now();
        black_box((self.run)());
        start.elapsed().as_secs_f64() * 1e3
    }
}

/// How a case is computed.
#[derive(Clone, Copy)]
struct How {
    plain: bool,
    half: bool,
}

impl How {
    fn conv(self, shape: [usize; 4], config: Conv2dConfig) -> Conv2d {
        let dtype = if self.half { DType::F16 } else { DType::F32 };
        let make = if self.plain {
            Conv2d::plain
        } else {
            Conv2d::new
        };
        let bias = host(&shape[..1], DType::F32);
        let weight = host(&shape, dtype);
        make(weight, Some(bias), config, &Device::Cpu, DType::F32).unwrap()
    }
}

fn random(shape: &[usize]) -> Tensor {
    Tensor::randn(0f32, 1f32, shape, &Device::Cpu).unwrap()
}

fn host(shape: &[usize], dtype: DType) -> HostTensor {
    let bytes = random(shape)
        .flatten_all()
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    let bytes = bytes.into_iter().flat_map(f32::to_le_bytes).collect();
    let wide = HostTensor::from_bytes("weight", DType::F32, shape.to_vec(), bytes).unwrap();
    wide.to_dtype(dtype).unwrap()
}

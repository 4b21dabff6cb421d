//! Speed of image models in this process: a call of the denoiser, decoding, reading a prompt, and whole pictures, alone and together.
//! `drawing.py` runs it beside `diffusers`, in turns, on the same weights; alone: `cargo bench -p chandler-image --bench drawing -- MODEL CASE...`, with
//! `--serve` cases come line by line on standard input. A case is
//!
//! - `unet ROWS SIDE`: one call of the denoiser over so many rows of latents with so many elements a side,
//! - `decode SIDE`: latents to a picture, in one piece,
//! - `read`: a prompt of 77 tokens, by every text encoder,
//! - `draw REQUESTS PIXELS STEPS`: guided pictures of so many requests beside each other, from the first one's arrival to the last one's end,
//! - `late PIXELS STEPS`: a request that comes in the middle of another one's steps, from its arrival to the end of its first step.
//!
//! Answers are milliseconds. Without a model it does nothing; on the demo model that CI gives it, it is a smoke run, never a figure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // Why: a benchmark may stop at the first surprise.

use std::io::BufRead;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use chandler_core::{
    Admission, Denoising, Event, Events, Guidance, ImageInput, Input, Pipeline, Prompts, RequestId,
    Ticket,
};
use chandler_image::autoencoder::{AutoencoderConfig, AutoencoderKl};
use chandler_image::layers::{Loader, Placement};
use chandler_image::text_encoder::clip::{ClipTextModel, HiddenState, Wanted};
use chandler_image::text_encoder::clip_config::{ClipClass, ClipConfig};
use chandler_image::unet::{TextTime, UNet, UNetConfig, UNetInput};
use chandler_image::{ImageOptions, ImagePipeline, Usual};
use chandler_nn::device::{DTypeChoice, DeviceChoice};
use chandler_nn::fields::Fields;
use chandler_nn::lora::AdapterRows;
use chandler_nn::weights::Snapshot;

fn main() {
    let (mut serve, mut words) = (false, Vec::new());
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--serve" => serve = true,
            // `cargo bench` adds --bench.
            other if other.starts_with("--") => {}
            _ => words.push(argument),
        }
    }
    let mut words = words.into_iter();
    let Some(directory) = words.next() else {
        println!(
            "usage: cargo bench -p chandler-image --bench drawing -- MODEL CASE... | --serve MODEL"
        );
        return;
    };
    let mut bench = Bench::new(Snapshot::dir(&directory).unwrap());
    if serve {
        for line in std::io::stdin().lock().lines() {
            println!("{}", bench.run(&line.unwrap()));
        }
    } else {
        for case in words {
            println!("{case}: {}", bench.run(&case));
        }
    }
}

/// A model, whose parts are loaded when a case first asks for them.
struct Bench {
    snapshot: Snapshot,
    denoiser: Option<(UNet, UNetConfig)>,
    autoencoder: Option<(AutoencoderKl, AutoencoderConfig)>,
    readers: Vec<ClipTextModel>,
    pipeline: Option<ImagePipeline>,
    requests: u64,
}

impl Bench {
    fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot,
            denoiser: None,
            autoencoder: None,
            readers: Vec::new(),
            pipeline: None,
            requests: 0,
        }
    }

    fn run(&mut self, case: &str) -> f64 {
        let mut words = case.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let sizes: Vec<usize> = words.map(|word| word.parse().unwrap()).collect();
        match (kind, sizes.as_slice()) {
            ("unet", [rows, side]) => self.denoise(*rows, *side),
            ("decode", [side]) => self.decode(*side),
            ("read", []) => self.read(),
            ("draw", [requests, pixels, steps]) => self.draw(*requests, *pixels, *steps),
            ("late", [pixels, steps]) => self.late(*pixels, *steps),
            _ => panic!("{case:?} is no case"),
        }
    }

    fn fields(&self, part: &str) -> Option<Fields> {
        Fields::read(&self.snapshot, &format!("{part}/config.json")).unwrap()
    }

    fn load<T>(&self, part: &str, load: impl FnOnce(&Loader<'_>) -> T) -> T {
        let weights = self.snapshot.part(part).part_weights().unwrap();
        load(&Loader::new(weights.as_ref(), &Placement::cpu()))
    }

    fn denoise(&mut self, rows: usize, side: usize) -> f64 {
        if self.denoiser.is_none() {
            let config = UNetConfig::of(&self.fields("unet").unwrap()).unwrap();
            let unet = self.load("unet", |loader| UNet::load(loader, &config).unwrap());
            self.denoiser = Some((unet, config));
        }
        let (unet, config) = self.denoiser.as_ref().unwrap();
        let latents = noise(&[rows, config.contracting.in_channels, side, side]);
        let width = self.fields("unet").unwrap();
        let width = width.needed_size("cross_attention_dim", 1 << 16).unwrap();
        let context = noise(&[rows, 77, width]);
        let told = config.contracting.text_time.as_ref().map(|text_time| {
            let width = text_time.width - 6 * text_time.waves.width;
            (noise(&[rows, width]), vec![vec![64.0; 6]; rows])
        });
        let timesteps: Vec<f64> = (0..rows).map(|row| 900.0 - 17.0 * row as f64).collect();
        let started = Instant::now();
        unet.forward(&UNetInput {
            latents: &latents,
            timesteps: &timesteps,
            context: &context,
            text_time: told.as_ref().map(|(text_embeds, time_ids)| TextTime {
                text_embeds,
                time_ids,
            }),
            guidance_embed: None,
            residuals: None,
            adapters: None,
        })
        .unwrap();
        milliseconds(started)
    }

    fn decode(&mut self, side: usize) -> f64 {
        if self.autoencoder.is_none() {
            let config = AutoencoderConfig::of(&self.fields("vae").unwrap()).unwrap();
            let load = |loader: &Loader<'_>| AutoencoderKl::load(loader, &config).unwrap();
            self.autoencoder = Some((self.load("vae", load), config));
        }
        let (autoencoder, config) = self.autoencoder.as_ref().unwrap();
        let latents = noise(&[1, config.latent_channels, side, side]);
        let started = Instant::now();
        autoencoder.decode(&latents).unwrap();
        milliseconds(started)
    }

    fn read(&mut self) -> f64 {
        if self.readers.is_empty() {
            let parts = [
                ("text_encoder", ClipClass::Plain),
                ("text_encoder_2", ClipClass::Projected),
            ];
            for (part, class) in parts {
                let Some(fields) = self.fields(part) else {
                    continue;
                };
                let config = ClipConfig::read(&fields, class).unwrap();
                let load = |loader: &Loader<'_>| ClipTextModel::load(config, loader).unwrap();
                self.readers.push(self.load(part, load));
            }
        }
        let wanted = Wanted {
            hidden: HiddenState::Normed { skip: 0 },
            pooled: true,
        };
        let texts: Vec<Vec<u32>> = self
            .readers
            .iter()
            .map(|reader| {
                let end = reader.config().vocab_size as u32 - 1;
                (0..77).map(|n| if n < 30 { 5 + n } else { end }).collect()
            })
            .collect();
        let started = Instant::now();
        for (reader, text) in self.readers.iter().zip(&texts) {
            reader
                .forward(&[text.as_slice()], wanted, &AdapterRows::default())
                .unwrap();
        }
        milliseconds(started)
    }

    fn pipeline(&mut self) -> &mut ImagePipeline {
        let snapshot = &self.snapshot;
        self.pipeline.get_or_insert_with(|| {
            let options = ImageOptions {
                device: DeviceChoice::Cpu.into(),
                dtype: DTypeChoice::Auto,
                max_rows: 8,
                host_memory: None,
                usual: Usual::default(),
                safety_checker: false,
                adapters: Vec::new(),
                controls: Vec::new(),
                refiner: None,
                preview: None,
            };
            ImagePipeline::load(snapshot, &options, &|_| {}).unwrap()
        })
    }

    fn admit(&mut self, pixels: usize, steps: usize) -> RequestId {
        self.requests += 1;
        let ticket = Ticket::new(self.requests);
        let id = ticket.id;
        let input = ImageInput {
            prompt: Prompts::one("a red boat on a lake"),
            width: Some(pixels as u32),
            height: Some(pixels as u32),
            seed: Some(self.requests),
            guidance: Guidance {
                scale: Some(7.5),
                ..Guidance::default()
            },
            denoising: Denoising {
                steps: Some(steps as u32),
                ..Denoising::default()
            },
            ..ImageInput::default()
        };
        let pipeline = self.pipeline();
        let prepared = pipeline.preparer().prepare(Input::Image(Box::new(input)));
        let admitted = pipeline.admit(ticket, prepared.unwrap());
        assert!(matches!(admitted, Admission::Taken));
        id
    }

    /// Steps until so many events have come that are wanted.
    fn until(&mut self, count: usize, wanted: impl Fn(RequestId, &Event) -> bool) {
        let (mut seen, mut events) = (0, Events::default());
        while seen < count {
            self.pipeline().step(&mut events).unwrap();
            for (id, event) in events.drain() {
                if let Event::Failed(error) = &event {
                    panic!("{error}");
                }
                seen += usize::from(wanted(id, &event));
            }
        }
    }

    fn draw(&mut self, requests: usize, pixels: usize, steps: usize) -> f64 {
        self.pipeline();
        let started = Instant::now();
        for _ in 0..requests {
            self.admit(pixels, steps);
        }
        self.until(requests, |_, event| matches!(event, Event::Done(_)));
        milliseconds(started)
    }

    fn late(&mut self, pixels: usize, steps: usize) -> f64 {
        let half = steps as u32 / 2;
        let first = self.admit(pixels, steps);
        self.until(
            1,
            |_, event| matches!(event, Event::Progress { done, .. } if *done >= half),
        );
        let started = Instant::now();
        let second = self.admit(pixels, steps);
        self.until(1, |id, event| {
            id == second && matches!(event, Event::Progress { done: 1.., .. })
        });
        let took = milliseconds(started);
        let mut left = vec![first, second];
        while let Some(id) = left.pop() {
            self.pipeline().cancel(id);
        }
        took
    }
}

fn milliseconds(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1000.0
}

fn noise(shape: &[usize]) -> Tensor {
    let x = Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    x.to_dtype(DType::F32).unwrap()
}

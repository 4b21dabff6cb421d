//! Encoder, logits step by step, greedy and beam tokens, languages and silence against transformers: alone, in a batch of different
//! lengths, and in candle operations.

use std::sync::Arc;

use candle_core::Tensor;
use chandler_nn::attention::Span;
use chandler_nn::kv_cache::BlockTable;
use chandler_nn::weights::Snapshot;
use chandler_nn::weights::quantize::{Quantize, Scheme};
use chandler_speech::whisper::caches::{CacheLimits, Caches};
use chandler_speech::whisper::decoder::Pass;
use chandler_speech::whisper::decoding::{
    Alignment, AlignmentJob, DecodeJob, Job, Outcome, Strategy,
};
use chandler_speech::whisper::model::quantize_role;
use chandler_speech::whisper::rules::Rules;
use chandler_speech::whisper::timing::align::{negated_mean, smoothed, softmax};
use chandler_speech::whisper::timing::arrivals;
use chandler_speech::whisper::{Description, Whisper};

use super::*;
use crate::on_device::{has_exact_company, tolerance};

const TOLERANCE: f32 = 1e-4;
const GREEDY: [&str; 2] = ["plain", "timestamps"];
const BEAMS: [(&str, usize, f32); 2] = [("beam", 3, 1.0), ("beam-timestamps", 4, 0.6)];

/// What the encoder makes of some windows together, [windows · positions, width].
fn encode(model: &Whisper, windows: &[Vec<f32>]) -> Tensor {
    let windows: Vec<&[f32]> = windows.iter().map(Vec::as_slice).collect();
    let mut encoding = model.encoder.begin(&windows).unwrap();
    assert!(model.encoder.finish(&encoding).is_err(), "not a stage done");
    for stage in 1..=model.encoder.stages() {
        let last = model.encoder.advance(&mut encoding).unwrap();
        assert_eq!(last, stage == model.encoder.stages());
    }
    model.encoder.finish(&encoding).unwrap()
}

/// Windows that the decoder looks at, and a sequence about each.
struct Sequences<'a> {
    model: &'a Whisper,
    caches: Caches,
    tables: Vec<BlockTable>,
    blocks: Vec<u32>,
}

impl<'a> Sequences<'a> {
    fn new(model: &'a Whisper, windows: &[Vec<f32>]) -> Self {
        let limits = CacheLimits {
            windows: windows.len(),
            sequences: windows.len(),
        };
        let config = &model.description.config;
        let mut caches = Caches::new(config, limits, &model.placement).unwrap();
        let blocks: Vec<u32> = windows
            .iter()
            .map(|_| caches.take_window().unwrap())
            .collect();
        let encoded = encode(model, windows);
        for layer in 0..model.decoder.layers() {
            model
                .decoder
                .look_at(layer, &encoded, &blocks, &mut caches)
                .unwrap();
        }
        Self {
            model,
            caches,
            tables: windows.iter().map(|_| BlockTable::new()).collect(),
            blocks,
        }
    }

    /// Takes these tokens of each sequence through the decoder: the logits of each sequence's last.
    fn pass(&mut self, tokens: &[&[u32]]) -> Vec<Vec<f32>> {
        let (mut positions, mut slots, mut ranges, mut end) = (vec![], vec![], vec![], 0);
        for (table, tokens) in self.tables.iter_mut().zip(tokens) {
            let start = table.len();
            positions.extend((start..start + tokens.len()).map(|p| p as u32));
            slots.extend(self.caches.append(table, tokens.len()).unwrap());
            ranges.push(end..end + tokens.len());
            end += tokens.len();
        }
        let seen = self.model.description.config.source_positions;
        let sequences: Vec<Span<'_>> = self
            .tables
            .iter()
            .zip(&ranges)
            .map(|(table, rows)| span(table.len(), table.blocks(), rows))
            .collect();
        let windows: Vec<Span<'_>> = self
            .blocks
            .chunks(1)
            .zip(&ranges)
            .map(|(blocks, rows)| span(seen, blocks, rows))
            .collect();
        let wanted: Vec<u32> = ranges.iter().map(|rows| rows.end as u32 - 1).collect();
        let pass = Pass {
            tokens: &tokens.concat(),
            positions: &positions,
            slots: &slots,
            sequences: &sequences,
            windows: &windows,
            wanted: &wanted,
        };
        let logits = self
            .model
            .decoder
            .forward(&pass, &mut self.caches, &mut [])
            .unwrap();
        on_device::back(&logits).to_vec2().unwrap()
    }
}

fn span<'a>(context: usize, blocks: &'a [u32], rows: &std::ops::Range<usize>) -> Span<'a> {
    Span {
        rows: rows.clone(),
        context,
        blocks,
    }
}

#[test]
fn the_encoder_agrees_with_transformers_alone_and_together() {
    for name in CHECKPOINTS {
        let expected = &tensors(&format!("{name}/expected.safetensors"))["encoded"];
        let windows = windows(name);
        for model in [load(name), load_plain(name)] {
            let together = numbers(&encode(&model, &windows));
            let error = relative_error(&together, &numbers(expected));
            assert!(error < tolerance(TOLERANCE), "{name}: {error:e}");
            if !model.placement.plain && has_exact_company() {
                let alone: Vec<f32> = windows
                    .iter()
                    .flat_map(|window| numbers(&encode(&model, std::slice::from_ref(window))))
                    .collect();
                assert_eq!(alone, together, "{name}: company changes bits");
            }
        }
    }
}

/// The steps whose logits are kept for one window of a case, and the logits.
fn kept(name: &str, case: &str, window: usize) -> Vec<(usize, Vec<f32>)> {
    let logits =
        &tensors(&format!("{name}/expected.safetensors"))[&format!("{case}.{window}.logits")];
    let steps = ids(&json(&format!("{name}/expected.json"))["steps"]);
    let rows: Vec<Vec<f32>> = logits.to_vec2().unwrap();
    steps
        .into_iter()
        .map(|step| step as usize)
        .zip(rows)
        .collect()
}

fn check_step(name: &str, case: &str, window: usize, step: usize, logits: &[f32]) {
    if let Some((_, expected)) = kept(name, case, window).iter().find(|(at, _)| *at == step) {
        let error = relative_error(logits, expected);
        assert!(
            error < tolerance(TOLERANCE),
            "{name} {case} window {window} step {step}: {error:e}"
        );
    }
}

#[test]
fn logits_of_every_step_agree_with_transformers_alone() {
    for name in CHECKPOINTS {
        let (model, windows) = (load(name), windows(name));
        let expected = json(&format!("{name}/expected.json"));
        for case in GREEDY {
            let prompt = ids(&expected[case]["prompt"]);
            for (window, frames) in windows.iter().enumerate() {
                let tokens = ids(&expected[case]["tokens"][window]);
                let mut sequences = Sequences::new(&model, std::slice::from_ref(frames));
                let mut logits = sequences.pass(&[&prompt]);
                for (step, token) in tokens.iter().enumerate() {
                    check_step(name, case, window, step, &logits[0]);
                    logits = sequences.pass(&[&[*token]]);
                }
                check_step(name, case, window, tokens.len(), &logits[0]);
            }
        }
    }
}

#[test]
fn logits_agree_with_transformers_in_a_batch_of_different_lengths() {
    for name in CHECKPOINTS {
        for model in [load(name), load_plain(name)] {
            let windows = windows(name);
            let expected = json(&format!("{name}/expected.json"));
            for case in GREEDY {
                let prompt = ids(&expected[case]["prompt"]);
                let all: Vec<Vec<u32>> = (0..windows.len())
                    .map(|window| [prompt.clone(), ids(&expected[case]["tokens"][window])].concat())
                    .collect();
                // Each begins with a prompt of another length: what it has chosen so far, read again.
                let mut at: Vec<usize> = (0..windows.len()).map(|n| prompt.len() + 2 * n).collect();
                let mut sequences = Sequences::new(&model, &windows);
                let begin: Vec<&[u32]> = all.iter().zip(&at).map(|(all, at)| &all[..*at]).collect();
                let mut logits = sequences.pass(&begin);
                while at.iter().zip(&all).all(|(at, all)| at < &all.len()) {
                    for (window, logits) in logits.iter().enumerate() {
                        check_step(name, case, window, at[window] - prompt.len(), logits);
                    }
                    let next: Vec<&[u32]> = all
                        .iter()
                        .zip(&at)
                        .map(|(all, at)| &all[*at..at + 1])
                        .collect();
                    logits = sequences.pass(&next);
                    at.iter_mut().for_each(|at| *at += 1);
                }
            }
        }
    }
}

fn job(model: &Whisper, case: &str, prompt: &[u32], strategy: Strategy) -> Job {
    let Description {
        config, generation, ..
    } = &model.description;
    let timestamps = case.contains("timestamps");
    Job::Decode(DecodeJob {
        prompt: prompt.to_vec(),
        sot: 0,
        rules: Arc::new(Rules::of_checkpoint(generation, timestamps)),
        strategy,
        // transformers' `max_length` counts the prompt.
        max_tokens: config.target_positions - prompt.len(),
    })
}

fn strategies() -> Vec<(&'static str, Strategy)> {
    let greedy = GREEDY.map(|case| (case, Strategy::Greedy));
    let beams = BEAMS.map(|(case, size, length_penalty)| {
        let strategy = Strategy::TransformersBeam {
            size,
            length_penalty,
        };
        (case, strategy)
    });
    greedy.into_iter().chain(beams).collect()
}

#[test]
fn greedy_and_beam_tokens_are_those_of_transformers_alone() {
    for name in CHECKPOINTS {
        let (model, windows) = (load(name), windows(name));
        let expected = json(&format!("{name}/expected.json"));
        let silence = expected["detection"]["no_speech"].as_array().unwrap();
        for (case, strategy) in strategies() {
            let prompt = ids(&expected[case]["prompt"]);
            for (n, frames) in windows.iter().enumerate() {
                let mut batch = batch(&model);
                let window = batch.open(frames.clone()).unwrap();
                let job = job(&model, case, &prompt, strategy.clone());
                let Outcome::Decoded(found) = ask(&model, &mut batch, window, job) else {
                    panic!("{name} {case}: no transcript");
                };
                assert_eq!(
                    found.tokens,
                    ids(&expected[case]["tokens"][n]),
                    "{name} {case} {n}"
                );
                assert_eq!(found.ended, expected[case]["ended"][n].as_bool().unwrap());
                let sum: f32 = found.log_probabilities.iter().sum();
                assert!((sum - found.sum_log_probability).abs() < 1e-3);
                let no_speech = f64::from(found.no_speech.unwrap());
                let expected = silence[n].as_f64().unwrap();
                assert!(
                    (no_speech - expected).abs() < 1e-3 * expected,
                    "{no_speech}, {expected}"
                );
                batch.close(window);
                assert_eq!(batch.caches().blocks().0, 0, "blocks are left");
            }
        }
    }
}

#[test]
fn all_of_them_in_one_batch_choose_what_they_choose_alone() {
    for name in CHECKPOINTS {
        for model in [load(name), load_plain(name)] {
            let windows = windows(name);
            let expected = json(&format!("{name}/expected.json"));
            let mut batch = batch(&model);
            let mut waiting: Vec<(&str, Strategy, usize)> = strategies()
                .into_iter()
                .flat_map(|(case, strategy)| {
                    (0..windows.len()).map(move |n| (case, strategy.clone(), n))
                })
                .collect();
            let mut open = Vec::new();
            let mut answers = 0;
            while answers < 4 * windows.len() {
                // They join one at a time, whenever there is room.
                if let Some((case, strategy, n)) = waiting.last()
                    && batch.free_windows() > 0
                    && batch.free_sequences() >= strategy.rows()
                {
                    let prompt = ids(&expected[*case]["prompt"]);
                    let id = batch.open(windows[*n].clone()).unwrap();
                    let job = job(&model, case, &prompt, strategy.clone());
                    batch.submit(&model, id, job).unwrap();
                    open.push((id, *case, *n));
                    waiting.pop();
                }
                for (id, outcome) in batch.step(&model).unwrap().outcomes {
                    let (_, case, n) = open.iter().find(|(other, ..)| *other == id).unwrap();
                    let Outcome::Decoded(found) = outcome else {
                        panic!("{name} {case}: no transcript");
                    };
                    let expected = ids(&expected[*case]["tokens"][*n]);
                    assert_eq!(found.tokens, expected, "{name} {case} {n}");
                    batch.close(id);
                    answers += 1;
                }
            }
            assert_eq!(batch.caches().blocks().0, 0, "blocks are left");
            assert_eq!(batch.free_windows(), batch.limits().caches.windows);
        }
    }
}

#[test]
fn languages_are_as_likely_as_transformers_finds_them() {
    let name = "multilingual-f32";
    let (model, windows) = (load(name), windows(name));
    let expected = json(&format!("{name}/expected.json"));
    let mut batch = batch(&model);
    for (n, frames) in windows.into_iter().enumerate() {
        let window = batch.open(frames).unwrap();
        let Outcome::Languages(found) = ask(&model, &mut batch, window, Job::Detect) else {
            panic!("no languages");
        };
        let expected = expected["detection"]["languages"][n].as_array().unwrap();
        let expected: Vec<f32> = expected
            .iter()
            .map(|p| p.as_f64().unwrap() as f32)
            .collect();
        assert!(relative_error(&found, &expected) < tolerance(TOLERANCE));
        batch.close(window);
    }
}

#[test]
fn quantised_weights_give_what_their_dequantised_ones_give_transformers() {
    let name = "distil-bf16";
    let snapshot = Snapshot::dir(fixture(name)).unwrap();
    let description = Description::from_snapshot(&snapshot).unwrap();
    let quantize = Quantize {
        scheme: Scheme::Q8_0,
        cache: None,
    };
    let config = Arc::clone(&description.config);
    let role = |name: &str| quantize_role(name, &config);
    let weights = snapshot.weights().unwrap();
    let bytes = weights.total_bytes();
    let weights = quantize.apply(weights, &role, &|_, _| {}).unwrap();
    assert!(
        weights.total_bytes() < bytes * 8 / 10,
        "nothing is quantised"
    );
    let model = Whisper::load(description, weights.as_ref(), placement(false)).unwrap();
    let expected = tensors(&format!("{name}/expected.safetensors"));
    let windows = windows(name);
    let encoded = numbers(&encode(&model, &windows[..1]));
    let error = relative_error(&encoded, &numbers(&expected["q8.encoded"]));
    assert!(error < tolerance(TOLERANCE), "{error:e}");
    let tokens = ids(&json(&format!("{name}/expected.json"))["q8"]);
    let mut sequences = Sequences::new(&model, &windows[..1]);
    let rows: Vec<Vec<f32>> = expected["q8.logits"].to_vec2().unwrap();
    for (token, expected) in tokens.iter().zip(rows) {
        let logits = sequences.pass(&[&[*token]]);
        let error = relative_error(&logits[0], &expected);
        assert!(error < tolerance(TOLERANCE), "{error:e}");
    }
}

/// The times of a transcript's tokens as transformers' `return_token_timestamps` takes them: attention is cut after the softmax, and
/// only rows of tokens that were written count.
fn token_times(
    alignment: &Alignment,
    prompt: usize,
    written: usize,
    seen: usize,
    width: usize,
) -> Vec<f64> {
    let positions = alignment.positions;
    let heads: Vec<Vec<f32>> = alignment
        .scores
        .iter()
        .map(|scores| {
            let mut rows = scores[prompt * positions..(prompt + written) * positions].to_vec();
            let rows = rows.chunks_exact_mut(positions).flat_map(|row| {
                softmax(row);
                row[..seen].to_vec()
            });
            smoothed(rows.collect(), seen, width)
        })
        .collect();
    let cost = negated_mean(&heads, 0, written * seen);
    let arrivals = arrivals(&cost, written, seen).into_iter();
    arrivals.map(|at| at as f64 * 0.02).collect()
}

#[test]
fn tokens_are_timed_as_transformers_times_them() {
    for name in CHECKPOINTS {
        let (model, windows) = (load(name), windows(name));
        let Description {
            config, generation, ..
        } = &model.description;
        let expected = json(&format!("{name}/expected.json"));
        let prompt = ids(&expected["timestamps"]["prompt"]);
        let mut batch = batch(&model);
        for (n, frames) in windows.into_iter().enumerate() {
            let text = ids(&expected["timestamps"]["tokens"][n]);
            let ended = expected["timestamps"]["ended"][n].as_bool().unwrap();
            // The last token that was written was never read.
            let written = text.len() - usize::from(!ended);
            let window = batch.open(frames).unwrap();
            let job = AlignmentJob {
                prompt: prompt.clone(),
                text: text[..written].to_vec(),
                eot: generation.tokens.eot,
                positions: config.source_positions,
            };
            let Outcome::Aligned(found) = ask(&model, &mut batch, window, Job::Align(job)) else {
                panic!("{name}: not aligned");
            };
            batch.close(window);
            let times = expected["token_times"]["times"][n].as_array().unwrap();
            let times: Vec<f64> = times.iter().map(|t| t.as_f64().unwrap()).collect();
            let seen = expected["token_times"]["frames"][n].as_u64().unwrap() as usize / 2;
            let width = config.median_filter_width;
            let found = token_times(&found, prompt.len(), written, seen, width);
            let expected = &times[prompt.len()..prompt.len() + written];
            for (token, (found, expected)) in found.iter().zip(expected).enumerate() {
                assert!(
                    (found - expected).abs() < 1e-3,
                    "{name} {n} token {token}: {found}, {expected}"
                );
            }
        }
    }
}

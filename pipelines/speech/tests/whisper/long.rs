//! Long audio against openai-whisper's transcribe() on the same weights: seeks, segments, prompts, silence, the ladder with the tokens
//! that the reference drew, words, and what is taken for made up. `fixtures/make_long.py` made what is expected.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chandler_speech::whisper::chunks::{ChunkId, Chunks};
use chandler_speech::whisper::decoding::{
    AlignmentJob, DecodeJob, DecodingBatch, Job, Outcome, Strategy, WindowId,
};
use chandler_speech::whisper::fallback::{Attempt, Thresholds};
use chandler_speech::whisper::prompt::{Prompt, PromptParts, before_alignment};
use chandler_speech::whisper::rules::Rules;
use chandler_speech::whisper::segment::Segment;
use chandler_speech::whisper::sequential::{Next, Sequential, SequentialOptions, WindowPlan};
use chandler_speech::whisper::timing::Punctuation;
use chandler_speech::whisper::{Description, Task, Whisper, languages};

use super::*;

const NAME: &str = "multilingual-f32";

/// One case: what was asked of the reference, and what it gave.
struct Case<'a> {
    name: &'a str,
    asked: &'a Value,
    expected: &'a Value,
    model: &'a Whisper,
    /// [frames, mel bins]
    frames: Vec<f32>,
    language: &'static str,
    /// What the reference decoded, window after window.
    attempts: VecDeque<&'a Value>,
}

fn close(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * (1.0 + expected.abs())
}

impl<'a> Case<'a> {
    fn bins(&self) -> usize {
        self.model.description.config.mel_bins
    }

    fn encode(&self, field: &str) -> Vec<u32> {
        match self.asked[field].as_str() {
            Some(text) => {
                let text = format!(" {}", text.trim());
                self.model.description.tokenizer.encode(&text).unwrap()
            }
            None => vec![],
        }
    }

    fn options(&self) -> SequentialOptions {
        let asked = self.asked;
        let threshold = |name: &str| asked[format!("{name}_threshold")].as_f64();
        SequentialOptions {
            thresholds: Thresholds {
                compression_ratio: threshold("compression_ratio"),
                log_probability: threshold("logprob"),
                no_speech: threshold("no_speech"),
            },
            condition_on_previous: asked["condition_on_previous_text"]
                .as_bool()
                .unwrap_or(true),
            initial_prompt: self.encode("initial_prompt"),
            carry_initial_prompt: asked["carry_initial_prompt"].as_bool().unwrap_or(false),
            words: asked["word_timestamps"]
                .as_bool()
                .map(|_| Punctuation::default()),
            hallucination_silence: threshold("hallucination_silence"),
            language: self.language.to_owned(),
        }
    }

    fn prompt(&self, previous: &[u32]) -> Prompt {
        let description = &self.model.description;
        let prefix = self.encode("prefix");
        let parts = PromptParts {
            language: description.generation.tokens.language(self.language),
            task: Some(self.task()),
            timestamps: self.asked["without_timestamps"] != true,
            previous,
            prefix: &prefix,
            ..PromptParts::default()
        };
        Prompt::new(&parts, &description.generation.tokens, &description.config)
    }

    fn task(&self) -> Task {
        match self.asked["task"].as_str() {
            Some("translate") => Task::Translate,
            _ => Task::Transcribe,
        }
    }

    fn temperatures(&self) -> Vec<f32> {
        match self.asked["temperature"].as_array() {
            Some(all) => all.iter().map(|t| t.as_f64().unwrap() as f32).collect(),
            None => vec![0.0],
        }
    }

    fn strategy(&self, temperature: f32, drawn: Vec<u32>) -> Strategy {
        match self.asked["beam_size"].as_u64() {
            _ if temperature > 0.0 => Strategy::Replay(drawn.into()),
            Some(size) => Strategy::Beam {
                size: size as usize,
                patience: self.asked["patience"].as_f64().unwrap_or(1.0) as f32,
                length_penalty: self.asked["length_penalty"].as_f64().map(|p| p as f32),
            },
            None => Strategy::Greedy,
        }
    }

    /// A window's job at temperature 0 and without beams.
    fn greedy(&self, previous: &[u32]) -> DecodeJob {
        let description = &self.model.description;
        let prompt = self.prompt(previous);
        let timestamps = self.asked["without_timestamps"] != true;
        let tokens = &description.generation.tokens;
        let rules = Rules::of_checkpoint(&description.generation, timestamps);
        let times = tokens.timestamp_begin().unwrap()..description.config.vocab_size as u32;
        let rules = rules
            .with_control_tokens(tokens)
            .with_suppressed(times.filter(|_| !timestamps));
        let most = self.asked["sample_len"].as_u64().map(|most| most as usize);
        DecodeJob {
            sot: prompt.sot,
            max_tokens: prompt.most_tokens(most, &description.config),
            prompt: prompt.tokens,
            rules: Arc::new(rules),
            strategy: Strategy::Greedy,
        }
    }

    /// One decoding of a window, held against the reference's.
    fn attempt(
        &mut self,
        batch: &mut DecodingBatch,
        window: WindowId,
        (previous, temperature): (&[u32], f32),
    ) -> Attempt {
        let expected = self
            .attempts
            .pop_front()
            .expect("the reference decoded less");
        assert_eq!(
            expected["temperature"].as_f64().unwrap() as f32,
            temperature
        );
        let description = &self.model.description;
        let tokens = &description.generation.tokens;
        let drawn = ids(&expected["drawn"]);
        let job = DecodeJob {
            strategy: self.strategy(temperature, drawn.clone()),
            ..self.greedy(previous)
        };
        let Outcome::Decoded(decoded) = ask(self.model, batch, window, Job::Decode(job)) else {
            panic!("{}: no transcript", self.name);
        };
        let found = Attempt::new(decoded, temperature, &description.tokenizer, tokens);
        let name = self.name;
        let eot = tokens.eot;
        let kept: Vec<u32> = drawn.into_iter().filter(|id| *id != eot).collect();
        assert_eq!(found.decoded.tokens, kept, "{name}");
        assert_eq!(found.text, expected["text"].as_str().unwrap(), "{name}");
        let number = |field: &str| expected[field].as_f64().unwrap();
        let mean = found.decoded.mean_log_probability();
        assert!(
            close(mean, number("avg_logprob"), 1e-4),
            "{name}: {mean} {}",
            number("avg_logprob")
        );
        let no_speech = f64::from(found.decoded.no_speech.unwrap());
        assert!(
            (no_speech / number("no_speech_prob") - 1.0).abs() < 1e-3,
            "{name}"
        );
        assert!(
            close(found.compression_ratio, number("compression_ratio"), 0.03),
            "{name}"
        );
        found
    }

    /// One window: the ladder, and how its text lies on it where words are wanted.
    fn window(
        &mut self,
        batch: &mut DecodingBatch,
        sequential: &mut Sequential,
        plan: &WindowPlan,
    ) -> Vec<Segment> {
        let bins = self.bins();
        let frames = &self.frames[plan.frames.start * bins..plan.frames.end * bins];
        let window = batch.open(frames.to_vec()).unwrap();
        let thresholds = self.options().thresholds;
        let mut believed = None;
        for temperature in self.temperatures() {
            let attempt = self.attempt(batch, window, (&plan.previous, temperature));
            let doubted = thresholds.doubts(&attempt);
            believed = Some(attempt);
            if !doubted {
                break;
            }
        }
        let segments = match sequential.decoded(believed.unwrap()) {
            Next::Segments(segments) => segments,
            Next::Align(plan) => {
                let tokens = &self.model.description.generation.tokens;
                let language = tokens.language(self.language);
                let prompt = before_alignment(tokens, language, Some(self.task()));
                let length = prompt.len();
                let job = AlignmentJob {
                    prompt,
                    text: plan.text,
                    eot: tokens.eot,
                    positions: plan.positions,
                };
                match ask(self.model, batch, window, Job::Align(job)) {
                    Outcome::Aligned(alignment) => sequential.aligned(&alignment, length),
                    other => panic!("{}: {other:?}", self.name),
                }
            }
        };
        batch.close(window);
        segments
    }

    /// The stretches of frames that are transcribed, each by itself.
    fn stretches(&self) -> Vec<std::ops::Range<usize>> {
        let Some(clips) = self.asked["clip_timestamps"].as_str() else {
            return std::iter::once(0..usize::MAX).collect();
        };
        let timing = &self.model.description.timing;
        let mut frames: Vec<usize> = clips
            .split(',')
            .map(|at| timing.frame(at.parse().unwrap()))
            .collect();
        if frames.len() % 2 == 1 {
            frames.push(usize::MAX);
        }
        frames.chunks(2).map(|clip| clip[0]..clip[1]).collect()
    }

    fn run(&mut self) -> (Vec<Segment>, String) {
        let mut batch = batch(self.model);
        let (mut segments, mut text) = (Vec::new(), String::new());
        for stretch in self.stretches() {
            let description = self.model.description.clone();
            let mut sequential = Sequential::over(description, self.options(), stretch);
            sequential.ends_at(self.frames.len() / self.bins());
            while let Some(plan) = sequential.next_window() {
                segments.extend(self.window(&mut batch, &mut sequential, &plan));
            }
            assert!(sequential.is_done());
            text.push_str(&sequential.text());
        }
        assert!(
            self.attempts.is_empty(),
            "{}: the reference decoded more",
            self.name
        );
        (segments, text)
    }

    fn check(&mut self) {
        let (segments, text) = self.run();
        let expected = self.expected["segments"].as_array().unwrap();
        assert_eq!(segments.len(), expected.len(), "{}", self.name);
        for (found, expected) in segments.iter().zip(expected) {
            check_segment(self.name, found, expected);
        }
        assert_eq!(
            text,
            self.expected["text"].as_str().unwrap(),
            "{}",
            self.name
        );
    }
}

fn check_segment(name: &str, found: &Segment, expected: &Value) {
    let number = |field: &str| expected[field].as_f64().unwrap();
    assert_eq!(found.seek as f64, number("seek"), "{name}");
    let times = (found.start, found.end);
    assert!(
        close(times.0, number("start"), 1e-9),
        "{name}: {times:?} {expected}"
    );
    assert!(
        close(times.1, number("end"), 1e-9),
        "{name}: {times:?} {expected}"
    );
    assert_eq!(found.text, expected["text"].as_str().unwrap(), "{name}");
    assert_eq!(found.tokens, ids(&expected["tokens"]), "{name}");
    assert_eq!(found.temperature, number("temperature") as f32);
    assert!(close(
        found.mean_log_probability,
        number("avg_logprob"),
        1e-4
    ));
    let words = expected["words"].as_array();
    assert!(
        found.words.is_some() || words.is_none_or(Vec::is_empty),
        "{name}: no words"
    );
    let empty = vec![];
    let words = words.unwrap_or(&empty);
    let found = found.words.as_deref().unwrap_or_default();
    assert_eq!(found.len(), words.len(), "{name}: {found:?} {words:?}");
    for (word, expected) in found.iter().zip(words) {
        assert_eq!(word.text, expected["word"].as_str().unwrap(), "{name}");
        let number = |field: &str| expected[field].as_f64().unwrap();
        let right =
            close(word.start, number("start"), 1e-9) && close(word.end, number("end"), 1e-9);
        assert!(right, "{name}: {word:?} {expected}");
        assert!(
            close(word.probability, number("probability"), 1e-3),
            "{name}"
        );
    }
}

#[test]
fn every_transcript_is_openai_whispers() {
    let model = load(NAME);
    let expected = packed("long/expected.json.gz");
    let mels = tensors("long/mels.safetensors");
    for (name, case) in expected.as_object().unwrap() {
        let language = case["language"].as_str().unwrap();
        let mut case = Case {
            name,
            asked: &case["asked"],
            expected: case,
            model: &model,
            frames: frames(&mels[case["mel"].as_str().unwrap()]),
            language: languages::code_of(language).unwrap(),
            attempts: case["attempts"].as_array().unwrap().iter().collect(),
        };
        case.check();
    }
}

#[test]
fn the_language_is_detected_in_the_first_window_as_openai_whisper_does() {
    let model = load(NAME);
    let expected = packed("long/expected.json.gz");
    let case = &expected["detected"];
    let frames = frames(&tensors("long/mels.safetensors")[case["mel"].as_str().unwrap()]);
    let mut batch = batch(&model);
    let window = batch.open(frames[..100 * 13].to_vec()).unwrap();
    let Outcome::Languages(found) = ask(&model, &mut batch, window, Job::Detect) else {
        panic!("no languages");
    };
    let best = (0..found.len())
        .max_by(|a, b| found[*a].total_cmp(&found[*b]))
        .unwrap();
    let tokens = &model.description.generation.tokens;
    assert_eq!(
        tokens.languages[best].code,
        case["language"].as_str().unwrap()
    );
}

#[test]
fn a_window_that_is_taken_back_is_asked_for_again() {
    let description = load(NAME).description;
    let options = SequentialOptions {
        thresholds: Thresholds::default(),
        condition_on_previous: true,
        initial_prompt: vec![5, 6],
        carry_initial_prompt: false,
        words: None,
        hallucination_silence: None,
        language: "en".into(),
    };
    let mut sequential = Sequential::new(description, options);
    let first = sequential.next_window().unwrap();
    assert_eq!(
        (first.frames.clone(), &first.previous[..]),
        (0..100, &[5, 6][..])
    );
    assert!(sequential.next_window().is_none(), "one at a time");
    sequential.take_back();
    assert_eq!(sequential.next_window().unwrap(), first);
    sequential.take_back();
    sequential.ends_at(30);
    assert_eq!(sequential.next_window().unwrap().frames, 0..30);
}

#[test]
fn chunks_are_decoded_beside_each_other_and_come_out_in_order() {
    let model = load(NAME);
    let expected = packed("long/expected.json.gz");
    let case = &expected["clips"];
    let case = Case {
        name: "clips",
        asked: &case["asked"],
        expected: case,
        model: &model,
        frames: frames(&tensors("long/mels.safetensors")[case["mel"].as_str().unwrap()]),
        language: "de",
        attempts: VecDeque::new(),
    };
    let frames = case.frames.len() / case.bins();
    let stretches = case.stretches().into_iter();
    let stretches: Vec<_> = stretches
        .map(|clip| clip.start..clip.end.min(frames))
        .collect();
    let mut chunks = Chunks::new(&model.description, &case.options(), (stretches, frames));
    let mut batch = batch(&model);
    let mut out: BTreeMap<WindowId, ChunkId> = BTreeMap::new();
    let (mut segments, mut most) = (Vec::new(), 0);
    for turn in 0.. {
        assert!(turn < 10_000, "it does not end");
        while let Some((chunk, plan)) = chunks.next_window() {
            let bins = case.bins();
            let part = &case.frames[plan.frames.start * bins..plan.frames.end * bins];
            let window = batch.open(part.to_vec()).unwrap();
            batch
                .submit(&model, window, Job::Decode(case.greedy(&plan.previous)))
                .unwrap();
            out.insert(window, chunk);
        }
        most = most.max(out.len());
        for (window, outcome) in batch.step(&model).unwrap().outcomes {
            let Outcome::Decoded(decoded) = outcome else {
                panic!("no transcript");
            };
            let Description {
                tokenizer,
                generation,
                ..
            } = &model.description;
            let attempt = Attempt::new(decoded, 0.0, tokenizer, &generation.tokens);
            assert!(
                chunks
                    .decoded(out.remove(&window).unwrap(), attempt)
                    .is_none()
            );
            batch.close(window);
        }
        segments.extend(chunks.take_final());
        if chunks.is_done() {
            break;
        }
    }
    assert_eq!(most, 2, "both chunks were in the batch at once");
    let expected = case.expected["segments"].as_array().unwrap();
    assert_eq!(segments.len(), expected.len());
    for (found, expected) in segments.iter().zip(expected) {
        check_segment("clips", found, expected);
    }
    assert_eq!((chunks.needed_from(), chunks.take_final().len()), (None, 0));
}

//! The batch as a step machine: company, order and cancelling change no answer, and nothing is left behind.

use std::collections::BTreeMap;
use std::sync::Arc;

use chandler_core::random::Stream;
use chandler_speech::whisper::caches::CacheLimits;
use chandler_speech::whisper::decoding::{
    AlignmentJob, BatchLimits, DecodeJob, DecodingBatch, Job, Outcome, Strategy, WindowId,
};
use chandler_speech::whisper::prompt::{Prompt, PromptParts};
use chandler_speech::whisper::rules::Rules;
use chandler_speech::whisper::{Description, Task, Whisper};

use super::*;

const NAME: &str = "multilingual-f32";

fn limits() -> BatchLimits {
    BatchLimits {
        caches: CacheLimits {
            windows: 4,
            sequences: 9,
        },
        // Prompts are read in pieces.
        prompt_rows: 7,
        encoded_together: 2,
    }
}

/// Question `number`, of every kind, with prompts of different lengths.
fn question(model: &Whisper, number: u64) -> Job {
    let Description {
        config,
        generation,
        tokenizer,
        ..
    } = &model.description;
    let tokens = &generation.tokens;
    let previous = tokenizer.encode(" the pin and the bin").unwrap();
    let parts = PromptParts {
        language: tokens.language("fr"),
        task: Some(Task::Transcribe),
        timestamps: !number.is_multiple_of(3),
        previous: &previous[..(number % 5) as usize],
        ..PromptParts::default()
    };
    let prompt = Prompt::new(&parts, tokens, config);
    let strategy = match number % 6 {
        0 => Strategy::Greedy,
        1 => Strategy::Sample {
            temperature: 0.8,
            best_of: 3,
            length_penalty: None,
            seed: number,
            first_draw: 1 << 20,
        },
        2 => Strategy::Beam {
            size: 4,
            patience: 1.0,
            length_penalty: Some(0.7),
        },
        3 => Strategy::TransformersBeam {
            size: 2,
            length_penalty: 1.0,
        },
        4 => return Job::Detect,
        _ => {
            return Job::Align(AlignmentJob {
                prompt: prompt.tokens,
                text: tokenizer.encode(" in the bed").unwrap(),
                eot: tokens.eot,
                positions: 20 + number as usize,
            });
        }
    };
    Job::Decode(DecodeJob {
        sot: prompt.sot,
        max_tokens: prompt.most_tokens(Some(11), config),
        prompt: prompt.tokens,
        rules: Arc::new(Rules::of_checkpoint(generation, parts.timestamps)),
        strategy,
    })
}

fn rows(job: &Job) -> usize {
    match job {
        Job::Decode(job) => job.strategy.rows(),
        _ => 1,
    }
}

fn answers_alone(model: &Whisper, windows: &[Vec<f32>], count: u64) -> Vec<Outcome> {
    let mut batch = DecodingBatch::new(model, limits()).unwrap();
    (0..count)
        .map(|number| {
            let frames = windows[number as usize % windows.len()].clone();
            let window = batch.open(frames).unwrap();
            let outcome = ask(model, &mut batch, window, question(model, number));
            batch.close(window);
            outcome
        })
        .collect()
}

#[test]
fn company_and_cancelled_neighbours_change_no_answer() {
    const COUNT: u64 = 30;
    let (model, windows) = (load(NAME), windows(NAME));
    let alone = answers_alone(&model, &windows, COUNT);
    let dice = Stream::new(4, 0);
    let mut batch = DecodingBatch::new(&model, limits()).unwrap();
    let mut open: BTreeMap<WindowId, u64> = BTreeMap::new();
    let (mut next, mut turn, mut cancelled, mut compared) = (0, 0, 0, 0);
    while next < COUNT || !open.is_empty() {
        turn += 1;
        assert!(turn < 20_000, "it does not end");
        let roll = (dice.uniform(turn) * 12.0) as u32;
        let job = question(&model, next);
        let room = batch.free_windows() > 0 && batch.free_sequences() >= rows(&job);
        if roll < 3 && next < COUNT && room {
            let frames = windows[next as usize % windows.len()].clone();
            let id = batch.open(frames).unwrap();
            batch.submit(&model, id, job).unwrap();
            open.insert(id, next);
            next += 1;
        } else if roll == 3 && open.len() > 1 {
            let pick = (dice.uniform(turn + 1_000_000) * open.len() as f64) as usize;
            let id = *open.keys().nth(pick).unwrap();
            open.remove(&id);
            batch.close(id);
            cancelled += 1;
        } else {
            for (id, outcome) in batch.step(&model).unwrap().outcomes {
                let number = open.remove(&id).expect("a cancelled window spoke");
                assert_eq!(outcome, alone[number as usize], "question {number}");
                batch.close(id);
                compared += 1;
            }
        }
    }
    assert!(
        cancelled > 2 && compared > 15,
        "{cancelled} cancelled, {compared} compared"
    );
    assert!(batch.step(&model).unwrap().is_idle());
    assert_eq!(batch.caches().blocks().0, 0, "blocks are left");
    assert_eq!((batch.free_windows(), batch.free_sequences()), (4, 9));
}

#[test]
fn a_cleared_batch_is_as_good_as_new() {
    let (model, windows) = (load(NAME), windows(NAME));
    let alone = answers_alone(&model, &windows, 3);
    let mut batch = DecodingBatch::new(&model, limits()).unwrap();
    for round in 0..12 {
        for number in 0..3 {
            let id = batch.open(windows[number % windows.len()].clone()).unwrap();
            batch
                .submit(&model, id, question(&model, number as u64))
                .unwrap();
        }
        for _ in 0..round {
            batch.step(&model).unwrap();
        }
        batch.clear();
        assert_eq!(
            batch.caches().blocks().0,
            0,
            "blocks are left after {round} steps"
        );
        assert_eq!((batch.free_windows(), batch.free_sequences()), (4, 9));
    }
    let id = batch.open(windows[2].clone()).unwrap();
    assert_eq!(ask(&model, &mut batch, id, question(&model, 2)), alone[2]);
}

#[test]
fn a_window_may_be_asked_again_and_draws_follow_the_seed() {
    let (model, windows) = (load(NAME), windows(NAME));
    let mut batch = batch(&model);
    let window = batch.open(windows[0].clone()).unwrap();
    let mut drawn = |seed: u64, first_draw: u64, temperature: f32| {
        let Job::Decode(job) = question(&model, 1) else {
            panic!("question 1 is a transcript");
        };
        let strategy = Strategy::Sample {
            temperature,
            best_of: 1,
            length_penalty: None,
            seed,
            first_draw,
        };
        match ask(
            &model,
            &mut batch,
            window,
            Job::Decode(DecodeJob { strategy, ..job }),
        ) {
            Outcome::Decoded(found) => found.tokens,
            other => panic!("{other:?}"),
        }
    };
    let first = drawn(1, 0, 1.0);
    assert_eq!(first, drawn(1, 0, 1.0));
    assert_ne!(first, drawn(2, 0, 1.0));
    assert_ne!(first, drawn(1, 1000, 1.0));
    // Nearly no temperature is the likeliest.
    let greedy = drawn(1, 0, 0.0);
    assert_eq!(drawn(9, 0, 1e-4), greedy);
}

#[test]
fn what_cannot_be_asked_is_refused_and_harms_nobody() {
    let (model, windows) = (load(NAME), windows(NAME));
    let mut batch = DecodingBatch::new(&model, limits()).unwrap();
    let window = batch.open(windows[0].clone()).unwrap();
    let Job::Decode(good) = question(&model, 2) else {
        panic!("question 2 is a transcript");
    };
    let with = |change: &dyn Fn(&mut DecodeJob)| {
        let mut job = good.clone();
        change(&mut job);
        Job::Decode(job)
    };
    for bad in [
        with(&|job| job.prompt.clear()),
        with(&|job| job.sot = job.prompt.len()),
        with(&|job| job.max_tokens = 0),
        with(&|job| job.max_tokens = 64),
        with(&|job| job.prompt = vec![1; 65]),
        with(&|job| {
            job.strategy = Strategy::Beam {
                size: 10,
                patience: 1.0,
                length_penalty: None,
            }
        }),
    ] {
        assert!(batch.submit(&model, window, bad).is_err());
    }
    batch
        .submit(&model, window, Job::Decode(good.clone()))
        .unwrap();
    let second = batch.submit(&model, window, Job::Detect);
    assert!(second.is_err(), "one question at a time");
    for _ in 0..4 {
        // The first is open already.
        let _ = batch.open(windows[1].clone());
    }
    assert_eq!(batch.free_windows(), 0);
    assert!(batch.open(windows[1].clone()).is_err(), "there is no room");
    let outcome = loop {
        if let Some((_, outcome)) = batch.step(&model).unwrap().outcomes.pop() {
            break outcome;
        }
    };
    assert!(matches!(outcome, Outcome::Decoded(_)));
    let too_long = vec![0.0; 13 * 101];
    batch.clear();
    batch.open(too_long).unwrap();
    assert!(batch.step(&model).is_err(), "more frames than a window has");
}

#[test]
fn rules_that_leave_nothing_fail_that_question_alone() {
    let (model, windows) = (load(NAME), windows(NAME));
    let mut batch = batch(&model);
    let Job::Decode(good) = question(&model, 0) else {
        panic!("question 0 is a transcript");
    };
    let all: Vec<u32> = (0..model.description.config.vocab_size as u32).collect();
    let rules = Rules {
        suppress: all,
        ..(*good.rules).clone()
    };
    for strategy in [
        Strategy::Greedy,
        Strategy::Beam {
            size: 2,
            patience: 1.0,
            length_penalty: None,
        },
        Strategy::TransformersBeam {
            size: 2,
            length_penalty: 1.0,
        },
    ] {
        let window = batch.open(windows[0].clone()).unwrap();
        let bad = DecodeJob {
            rules: Arc::new(rules.clone()),
            strategy,
            ..good.clone()
        };
        let outcome = ask(&model, &mut batch, window, Job::Decode(bad));
        assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
        let outcome = ask(&model, &mut batch, window, Job::Decode(good.clone()));
        assert!(matches!(outcome, Outcome::Decoded(_)));
        batch.close(window);
    }
}

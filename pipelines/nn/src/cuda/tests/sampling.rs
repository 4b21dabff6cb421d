//! Draws, held against the CPU's (`sampling`), which are held against `transformers` (pipelines/text/tests/sampling.rs).

use candle_core::{Device, Tensor};
use chandler_core::random::Stream;

use super::emulator::{Float, noise, run};
use crate::cuda::sampling::draw as work_of;
use crate::sampling::{Draw, History, Sampler, draw};

/// The kernel's tokens; the CPU's have been found equal.
fn drawn(logits: &Tensor, draws: &[Draw<'_>], before: &[u32], float: Float) -> Vec<u32> {
    let bytes =
        |numbers: &[u32]| -> Vec<u8> { numbers.iter().flat_map(|n| n.to_le_bytes()).collect() };
    let work = work_of(float.dtype(), logits.dim(1).unwrap(), draws).unwrap();
    let tensors = [
        float.bytes(logits),
        vec![0xff; 4 * draws.len()],
        bytes(before),
    ];
    let found = run(&work, &tensors, float.dtype().size_in_bytes());
    let found: Vec<u32> = found
        .chunks_exact(4)
        .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        .collect();
    let before = Tensor::new(before, &Device::Cpu).unwrap();
    let expected = draw(logits, draws, Some(&before)).unwrap().read().unwrap();
    for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "{:?} {float:?}", draws[at]);
    }
    found
}

fn with(change: impl FnOnce(&mut Sampler)) -> Sampler {
    let mut sampler = Sampler::default();
    change(&mut sampler);
    sampler
}

/// Settings that each change which tokens can be drawn, and some together.
fn samplers() -> Vec<Sampler> {
    vec![
        with(|s| s.temperature = 0.0),
        with(|_| ()),
        with(|s| s.temperature = 0.6),
        with(|s| s.top_k = 1),
        with(|s| s.top_k = 40),
        with(|s| s.top_p = 0.9),
        with(|s| s.top_p = 0.3),
        with(|s| s.top_p = 1e-9),
        with(|s| s.min_p = 0.1),
        with(|s| {
            (s.temperature, s.top_k, s.top_p, s.min_p) = (0.7, 20, 0.8, 0.01);
        }),
    ]
}

#[test]
fn every_setting_draws_as_on_the_cpu() {
    // In bf16 many logits are equal, so that ties decide; vocabularies of no round number, one shorter than a thread block, and one of
    // which a thread has several tokens of a stretch.
    for (float, vocabulary) in [
        (Float::Bf16, 3001),
        (Float::F16, 700),
        (Float::F32, 4999),
        (Float::Bf16, 40_001),
    ] {
        let rows = 3;
        let logits = (noise(&[rows, vocabulary], 11, float) * 4.0).unwrap();
        let logits = Tensor::from_vec(
            float.numbers(&float.bytes(&logits)),
            (rows, vocabulary),
            &Device::Cpu,
        )
        .unwrap();
        let history = History::default();
        let samplers = samplers();
        let draws: Vec<Draw<'_>> = samplers
            .iter()
            .flat_map(|sampler| [(sampler, 0.0), (sampler, 0.37), (sampler, 0.999_999)])
            .enumerate()
            .map(|(at, (sampler, uniform))| Draw {
                row: at % rows,
                sampler,
                history: &history,
                last: None,
                forbidden: &[],
                uniform,
            })
            .collect();
        drawn(&logits, &draws, &[0], float);
    }
}

#[test]
fn draws_follow_the_distribution() {
    let sampler = with(|s| s.top_p = 0.95);
    let logits = Tensor::new(&[[1.0f32, 3.0, 2.0, -1.0, 3.0, -9.0]], &Device::Cpu).unwrap();
    let row: Vec<f32> = logits.flatten_all().unwrap().to_vec1().unwrap();
    let (history, stream) = (History::default(), Stream::new(5, 0));
    let draws: Vec<Draw<'_>> = (0..400)
        .map(|position| Draw {
            row: 0,
            sampler: &sampler,
            history: &history,
            last: None,
            forbidden: &[],
            uniform: stream.uniform(position),
        })
        .collect();
    let found = drawn(&logits, &draws, &[0], Float::F32);
    for (id, p) in sampler.distribution(&row) {
        let share = found.iter().filter(|token| **token == id).count() as f64 / 400.0;
        assert!((share - p).abs() < 0.08, "token {id}: {share} of {p}");
    }
    assert!(!found.contains(&5) && !found.contains(&3));
}

#[test]
fn what_was_said_and_what_is_wanted_change_the_logits() {
    let vocabulary = 90;
    let logits = noise(&[2, vocabulary], 3, Float::F32);
    let mut history = History::new(&[4, 9, 9, 300]);
    [9, 9, 17].into_iter().for_each(|id| history.push(id));
    let penalties = |temperature: f32| {
        with(|s| {
            s.temperature = temperature;
            (
                s.repetition_penalty,
                s.presence_penalty,
                s.frequency_penalty,
            ) = (1.6, 0.4, 0.9);
            s.logit_bias = [(9, 2.5), (30, 4.0), (1000, 9.0)].into();
        })
    };
    let biased = with(|s| {
        s.temperature = 0.0;
        s.logit_bias = [(71, 50.0)].into();
    });
    let none = History::default();
    let mut draws = vec![];
    let samplers = [penalties(0.0), penalties(1.0)];
    // A token said since: one of the history, one of the bias, one of neither, and none.
    for sampler in &samplers {
        for last in [Some(0), Some(1), Some(2), None] {
            for uniform in [0.1, 0.5, 0.9] {
                draws.push(Draw {
                    row: draws.len() % 2,
                    sampler,
                    history: &history,
                    last,
                    forbidden: &[30, 5, 5, 17],
                    uniform,
                });
            }
        }
    }
    for forbidden in [&[][..], &[71][..]] {
        draws.push(Draw {
            row: 1,
            sampler: &biased,
            history: &none,
            last: Some(1),
            forbidden,
            uniform: 0.0,
        });
    }
    let found = drawn(&logits, &draws, &[9, 30, 60], Float::F32);
    assert_eq!(found[found.len() - 2], 71);
    assert!(found.iter().all(|id| ![30, 5, 17].contains(id)));
}

#[test]
fn rows_without_a_number_to_draw_from_give_the_first_token_and_others_skip_what_is_none() {
    let (nan, low) = (f32::NAN, f32::NEG_INFINITY);
    let logits = Tensor::new(&[[nan, low, nan, low], [nan, 1.0, low, -0.0]], &Device::Cpu).unwrap();
    let history = History::default();
    let samplers = samplers();
    let draws: Vec<Draw<'_>> = samplers
        .iter()
        .flat_map(|sampler| [(sampler, 0), (sampler, 1)])
        .map(|(sampler, row)| Draw {
            row,
            sampler,
            history: &history,
            last: None,
            forbidden: &[],
            uniform: 0.5,
        })
        .collect();
    let found = drawn(&logits, &draws, &[0], Float::F32);
    assert!(found.chunks(2).all(|pair| pair[0] == 0 && pair[1] != 0));
}

//! Tokens drawn where their logits are, and passes launched before the last one's tokens are read: the same answers as when every
//! token is chosen on the host, whoever joins, leaves, ends or is put back meanwhile. Here on the CPU, by the same scheduling as on a GPU.

use chandler_core::contract::{self, Subject};
use chandler_core::{Admission, Collected, Events, Input, Pipeline, RequestId, TextInput, Ticket};
use chandler_nn::device::CudaTuning;
use chandler_nn::weights::Snapshot;
use chandler_text::{BatchLimits, Drawing, TextOptions, TextPipeline};

use crate::batching::contract_input;
use crate::drive::{FEW_BLOCKS, LIMITS, drawn, ids, load, options, run, said, tokens};
use crate::on_device;
use crate::parity::{FIXTURES, expected, fixture};

const AHEAD: BatchLimits = BatchLimits {
    drawing: Some(Drawing::Ahead),
    ..LIMITS
};
const ON_DEVICE: BatchLimits = BatchLimits {
    drawing: Some(Drawing::OnDevice),
    ..LIMITS
};

#[test]
fn greedy_answers_are_those_of_transformers() {
    for name in FIXTURES {
        let (prompts, _) = expected(name);
        let inputs = prompts.iter().map(|p| tokens(&p.ids, 32)).collect();
        for (answer, prompt) in run(&mut load(name, AHEAD, None), inputs)
            .iter()
            .zip(&prompts)
        {
            assert_eq!(ids(answer), prompt.greedy, "{name} {}", prompt.name);
        }
    }
}

#[test]
fn passes_ahead_keep_the_contract() {
    for (limits, cache) in [(AHEAD, None), (AHEAD, Some(FEW_BLOCKS)), (ON_DEVICE, None)] {
        contract::check(&Subject {
            make: &|| load("llama2-f32", limits, cache),
            input: &contract_input,
            requests: 40,
            suspend_every: 3,
        });
    }
}

/// Requests that want different things of their draws, of many lengths.
fn mixed() -> Vec<TextInput> {
    let mut inputs: Vec<TextInput> = (0..12)
        .map(|i| drawn(&[i + 3, 40 + i, 7], 3 + 5 * (i % 7), u64::from(i)))
        .collect();
    inputs[1].sampling.repetition_penalty = Some(1.3);
    inputs[2].sampling.frequency_penalty = Some(0.8);
    inputs[2].sampling.presence_penalty = Some(-0.5);
    inputs[3].sampling.logit_bias = [(9, 6.0), (17, -100.0)].into();
    inputs[4].sampling.top_k = Some(5);
    inputs[5].sampling.top_p = Some(0.5);
    inputs[6].sampling.min_p = Some(0.2);
    inputs[7].sampling.temperature = Some(0.0);
    // Ends by a token that the model draws; not before some have been said.
    for (at, least) in [(8, 0), (9, 9)] {
        inputs[at].limits.ignore_eos = false;
        inputs[at].limits.stop_token_ids = (0..120).collect();
        inputs[at].limits.min_tokens = least;
        inputs[at].limits.max_tokens = Some(60);
    }
    inputs
}

#[test]
fn answers_do_not_depend_on_where_tokens_are_drawn() {
    let expected = run(&mut load("qwen2-f32", LIMITS, None), mixed());
    let ended = |at: usize| expected[at].rows[0].tokens.len() < 60;
    assert!(ended(8) && ended(9), "nothing ended by itself");
    assert!(expected[9].rows[0].tokens.len() > 9);
    for limits in [AHEAD, ON_DEVICE] {
        let found = run(&mut load("qwen2-f32", limits, None), mixed());
        assert_eq!(said(&found), said(&expected), "{:?}", limits.drawing);
    }
    // Short of blocks, so that the youngest are put back while passes are under way.
    let found = run(&mut load("llama2-f32", AHEAD, Some(FEW_BLOCKS)), mixed());
    let expected = run(&mut load("llama2-f32", LIMITS, Some(FEW_BLOCKS)), mixed());
    assert_eq!(said(&found), said(&expected));
}

#[test]
fn requests_that_need_their_logits_share_steps_with_those_that_do_not() {
    let mut inputs = mixed();
    inputs[0].logprobs = Some(3);
    inputs[5].n = 3;
    let expected = run(&mut load("qwen2-f32", LIMITS, None), inputs.clone());
    let found = run(&mut load("qwen2-f32", AHEAD, None), inputs);
    assert_eq!(said(&found), said(&expected));
}

#[test]
fn a_step_ahead_costs_no_more_passes_than_one_for_each_row_that_ends_unforeseen() {
    let inputs: Vec<TextInput> = (0..8).map(|i| tokens(&[i + 1, 2 * i + 3, 7], 64)).collect();
    let passes = |limits| {
        let mut pipeline = load("qwen2-f32", limits, None);
        run(&mut pipeline, inputs.clone());
        pipeline.passes()
    };
    assert_eq!(passes(AHEAD), passes(LIMITS));
}

fn admit(pipeline: &mut TextPipeline, id: u64, input: TextInput) {
    let prepared = pipeline.preparer().prepare(Input::Text(input)).unwrap();
    let admitted = pipeline.admit(Ticket::new(id), prepared);
    assert!(matches!(admitted, Admission::Taken));
}

#[test]
fn who_leaves_while_a_pass_is_under_way_comes_back_to_the_same_answer() {
    let input = |salt: u32| drawn(&[salt, 5, 9], 12, u64::from(salt));
    let expected = run(
        &mut load("llama2-f32", LIMITS, None),
        vec![input(0), input(1), input(2)],
    );
    let mut pipeline = load("llama2-f32", AHEAD, None);
    let mut answers = vec![Collected::default(); 3];
    (0..3).for_each(|id| admit(&mut pipeline, u64::from(id), input(id)));
    let mut events = Events::default();
    let (mut open, mut step) = (3, 0);
    while open > 0 {
        step += 1;
        assert!(step < 200);
        pipeline.step(&mut events).unwrap();
        for (RequestId(id), event) in events.drain() {
            open -= usize::from(answers[id as usize].add(event).unwrap());
        }
        // Out and in again at once, under the same number.
        if [3, 4, 9].contains(&step)
            && let Some(back) = pipeline.suspend(RequestId(1))
        {
            let admitted = pipeline.admit(Ticket::new(1), back);
            assert!(matches!(admitted, Admission::Taken));
        }
        if step == 5 {
            // Another request under the number of one that has just been cancelled.
            pipeline.cancel(RequestId(2));
            answers[2] = Collected::default();
            admit(&mut pipeline, 2, input(2));
        }
    }
    assert_eq!(said(&answers), said(&expected));
    assert_eq!(
        pipeline.occupancy().blocks_used,
        pipeline.occupancy().blocks_kept
    );
    // Nothing is left under way.
    let idle = pipeline.step(&mut events).unwrap();
    assert_eq!((idle.work, idle.rows), (0, 0));
}

#[test]
fn blocks_found_again_hold_what_passes_ahead_have_written() {
    // The first answer's blocks are published while its last pass is under way; the second reads on from them.
    let first = drawn(&(0..40).collect::<Vec<u32>>(), 40, 3);
    let on = |limits| {
        let mut pipeline = load("llama2-f32", limits, None);
        let answer = run(&mut pipeline, vec![first.clone()]);
        let mut longer: Vec<u32> = (0..40).collect();
        longer.extend(ids(&answer[0]));
        let second = run(&mut pipeline, vec![drawn(&longer, 20, 4)]);
        let hits = pipeline.tally().prefix_hit_tokens;
        (ids(&answer[0]), ids(&second[0]), hits)
    };
    let expected = on(LIMITS);
    assert!(expected.2 > 60);
    assert_eq!(on(AHEAD), expected);
}

/// On a GPU: recorded passes, and tokens drawn there, against the same without. The same kernels compute the same logits; a token that
/// was drawn may differ where a probability was rounded, so that the most likely are compared.
#[test]
fn the_same_is_said_with_each_switch_of_the_gpu_left_out() {
    let answers = |leave: fn(&mut CudaTuning)| {
        let mut device = on_device::options();
        leave(&mut device.tuning);
        let options = TextOptions {
            device,
            dtype: on_device::dtype_choice(),
            ..options(
                BatchLimits {
                    drawing: None,
                    ..LIMITS
                },
                None,
            )
        };
        let snapshot = Snapshot::dir(fixture("llama2-f32")).unwrap();
        let mut pipeline = TextPipeline::load(&snapshot, options, &|_| {}).unwrap();
        // One after the other as well as together, so that every number of rows comes often enough to be recorded.
        let inputs: Vec<TextInput> = (0..6)
            .map(|i| tokens(&[i + 3, 40 + i, 7], 20 + 9 * i))
            .collect();
        let mut answers = run(&mut pipeline, inputs.clone());
        answers.extend(run(&mut pipeline, inputs[..2].to_vec()));
        answers.extend(run(&mut pipeline, inputs[..1].to_vec()));
        answers.iter().map(ids).collect::<Vec<_>>()
    };
    let expected = answers(|tuning| {
        (tuning.sampling, tuning.ahead, tuning.graphs) = (false, false, false);
    });
    if on_device::has_exact_company() {
        assert_eq!(expected[0], expected[6]);
    }
    assert_eq!(
        answers(|tuning| (tuning.ahead, tuning.graphs) = (false, false)),
        expected
    );
    assert_eq!(answers(|tuning| tuning.graphs = false), expected);
    assert_eq!(answers(|_| ()), expected);
    // What is set up is the process's: others find it as it was.
    on_device::options().open().unwrap();
}

//! Samples with different adapters in one pass: none changes another's bits.

use super::{Parts, adapters};
use crate::checkpoint::bits;

#[test]
fn samples_with_different_adapters_share_a_pass_and_have_the_bits_that_they_have_alone() {
    for (folder, seed, names) in [
        ("sd", 60, &["ink", "chalk"][..]),
        ("sdxl", 61, &["oil"][..]),
    ] {
        let mut parts = Parts::of(folder);
        let (_written, files) = adapters(names);
        parts.attach(&files).unwrap();
        let last = names.len() as u32 - 1;
        let mixed: Vec<(usize, Vec<(u32, f32)>)> = vec![
            (0, vec![]),
            (1, vec![(0, 0.7)]),
            (0, vec![(last, -0.4)]),
            // In whatever order they are asked for.
            (
                0,
                vec![(last, 1.25), (0, 1.0)]
                    .into_iter()
                    .take(names.len())
                    .collect(),
            ),
            (1, vec![]),
            (0, vec![(0, 1.0)]),
        ];
        let run = |rows: &[(usize, Vec<(u32, f32)>)]| {
            let samples: Vec<usize> = rows.iter().map(|(sample, _)| *sample).collect();
            let adapters = rows.iter().map(|(_, adapters)| adapters.clone()).collect();
            parts.unet(seed, &samples, adapters)
        };
        let together = run(&mixed);
        for (number, row) in mixed.iter().enumerate() {
            let alone = run(std::slice::from_ref(row));
            let here = together.narrow(0, number, 1).unwrap().contiguous().unwrap();
            assert_eq!(bits(&here), bits(&alone), "{folder} {number}");
        }
        // They do differ.
        let (none, one) = (run(&mixed[..1]), run(&mixed[5..]));
        assert_ne!(bits(&none), bits(&one));
    }
}

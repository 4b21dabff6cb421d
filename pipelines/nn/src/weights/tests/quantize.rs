//! Quantise-on-load: what becomes of what, that the second start finds what the first one made, and that nothing wrong is used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::quantize::{Quantize, Role, Scheme};
use super::*;

/// A checkpoint with a matrix of every width that counts.
fn checkpoint(dir: &Path, seed: f32) {
    let numbers = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|i| ((i as f32 + seed) * 0.7311).sin())
            .collect()
    };
    let make = |shape: &[usize]| tensor(&numbers(shape.iter().product()), shape);
    let half = make(&[3, 256]).to_dtype(DType::BF16).unwrap();
    let file = written(&[
        ("wide", make(&[4, 512])),
        ("half", half),
        ("odd", make(&[4, 96])),
        ("thin", make(&[4, 20])),
        ("head", make(&[5, 256])),
        ("norm", make(&[256])),
        ("kept", make(&[2, 256])),
    ]);
    std::fs::write(dir.join("model.safetensors"), file).unwrap();
}

fn role(name: &str) -> Role {
    match name {
        "head" => Role::Head,
        "kept" => Role::Kept,
        "half" => Role::Sensitive,
        // A norm is a vector, and stays one even where it is taken for a matrix.
        _ => Role::Matrix,
    }
}

fn open(dir: &Path) -> Arc<dyn TensorSource> {
    Arc::new(SnapshotDir::open(dir).unwrap())
}

/// The result, and how often progress was told.
fn apply(dir: &Path, scheme: Scheme, cache: Option<PathBuf>) -> (Arc<dyn TensorSource>, usize) {
    let reports = AtomicUsize::new(0);
    let count = |done: u64, total: u64| {
        assert!(done <= total);
        reports.fetch_add(1, Ordering::Relaxed);
    };
    let quantize = Quantize { scheme, cache };
    let made = quantize.apply(open(dir), &role, &count).unwrap();
    (made, reports.into_inner())
}

fn files(cache: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cache.join("quantized")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn kinds(source: &dyn TensorSource) -> Vec<(String, &'static str)> {
    let names = source.names().into_iter();
    let kind = |name: String| {
        let stored = source.tensor(&name).unwrap().stored().name();
        (name, stored)
    };
    names.map(kind).collect()
}

#[test]
fn every_tensor_becomes_what_its_role_and_its_width_say() {
    let dir = tempfile::tempdir().unwrap();
    checkpoint(dir.path(), 0.0);
    let expect = |scheme, expected: [(&str, &'static str); 7]| {
        let (made, _) = apply(dir.path(), scheme, None);
        let expected = expected.map(|(name, kind)| (name.to_owned(), kind));
        assert_eq!(kinds(made.as_ref()), expected);
    };
    expect(
        Scheme::Q4K,
        [
            ("half", "Q6_K"),
            ("head", "Q6_K"),
            ("kept", "f32"),
            ("norm", "f32"),
            ("odd", "Q8_0"),
            ("thin", "f32"),
            ("wide", "Q4_K"),
        ],
    );
    expect(
        Scheme::Q8_0,
        [
            ("half", "Q8_0"),
            ("head", "Q8_0"),
            ("kept", "f32"),
            ("norm", "f32"),
            ("odd", "Q8_0"),
            ("thin", "f32"),
            ("wide", "Q8_0"),
        ],
    );
}

#[test]
fn the_second_start_maps_what_the_first_one_made() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint(dir.path(), 0.0);
    let at = || Some(cache.path().to_owned());
    let (first, reports) = apply(dir.path(), Scheme::Q4K, at());
    assert!(reports > 0);
    let made = files(cache.path());
    assert_eq!(made.len(), 1);
    let (second, reports) = apply(dir.path(), Scheme::Q4K, at());
    assert_eq!((reports, files(cache.path())), (0, made));
    let (memory, _) = apply(dir.path(), Scheme::Q4K, None);
    for name in first.names() {
        let found = second.tensor(&name).unwrap();
        assert!(found.is_mapped());
        assert_eq!(
            found.bytes(),
            memory.tensor(&name).unwrap().bytes(),
            "{name}"
        );
        assert_eq!(
            found.bytes(),
            first.tensor(&name).unwrap().bytes(),
            "{name}"
        );
    }
    // What is in the blocks is what one call makes of the numbers.
    let whole = quantize_tensor(QuantType::Q4K, &open(dir.path()).tensor("wide").unwrap()).unwrap();
    assert_eq!(second.tensor("wide").unwrap().bytes(), whole.bytes());
    assert_eq!(kinds(second.as_ref()), kinds(memory.as_ref()));
}

#[test]
fn another_checkpoint_or_scheme_is_another_file() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = || Some(cache.path().to_owned());
    checkpoint(dir.path(), 0.0);
    apply(dir.path(), Scheme::Q4K, at());
    apply(dir.path(), Scheme::Q8_0, at());
    assert_eq!(files(cache.path()).len(), 2);
    checkpoint(dir.path(), 1.0);
    let (made, reports) = apply(dir.path(), Scheme::Q4K, at());
    assert!(reports > 0 && files(cache.path()).len() == 3);
    let whole = quantize_tensor(QuantType::Q6K, &open(dir.path()).tensor("head").unwrap()).unwrap();
    assert_eq!(made.tensor("head").unwrap().bytes(), whole.bytes());
}

#[test]
fn a_kept_file_that_is_wrong_is_made_anew() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = || Some(cache.path().to_owned());
    checkpoint(dir.path(), 0.0);
    let (good, _) = apply(dir.path(), Scheme::Q4K, at());
    let path = files(cache.path()).remove(0);
    let whole = std::fs::read(&path).unwrap();
    drop(good);
    let other_key = {
        let at = whole
            .windows(12)
            .position(|w| w == b"chandler.key")
            .unwrap();
        let mut bytes = whole.clone();
        bytes[at + 12 + 4 + 8] ^= 1;
        bytes
    };
    for wrong in [&whole[..whole.len() / 2], b"", &other_key] {
        std::fs::write(&path, wrong).unwrap();
        let (_, reports) = apply(dir.path(), Scheme::Q4K, at());
        assert!(reports > 0);
        assert_eq!(std::fs::read(&path).unwrap(), whole);
        assert_eq!(files(cache.path()), std::slice::from_ref(&path));
    }
}

#[test]
fn where_nothing_can_be_kept_the_model_is_served_all_the_same() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint(dir.path(), 0.0);
    // A file where a directory should be: nothing can be made in it, not even by root.
    let file = cache.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let (made, _) = apply(dir.path(), Scheme::Q4K, Some(file.clone()));
    assert!(!made.tensor("wide").unwrap().is_mapped());
    assert_eq!(
        made.tensor("wide").unwrap().quantized(),
        Some(QuantType::Q4K)
    );
    assert!(file.is_file());
    let last = std::sync::Mutex::new((1, 0));
    made.prefetch(&|done, total| *last.lock().unwrap() = (done, total))
        .unwrap();
    assert_eq!(
        *last.lock().unwrap(),
        (made.total_bytes(), made.total_bytes())
    );
    assert!(
        made.tensor("wyde")
            .unwrap_err()
            .to_string()
            .contains("`wide`")
    );
}

#[test]
fn workers_that_start_together_do_not_see_each_others_halves() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint(dir.path(), 0.0);
    let (expected, _) = apply(dir.path(), Scheme::Q4K, None);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let (made, _) = apply(dir.path(), Scheme::Q4K, Some(cache.path().to_owned()));
                for name in expected.names() {
                    let (made, expected) =
                        (made.tensor(&name).unwrap(), expected.tensor(&name).unwrap());
                    assert_eq!(made.bytes(), expected.bytes());
                }
            });
        }
    });
    assert_eq!(files(cache.path()).len(), 1);
}

#[test]
fn what_is_quantised_already_and_what_cannot_be_are_errors() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    checkpoint(dir.path(), 0.0);
    let (made, _) = apply(dir.path(), Scheme::Q8_0, Some(cache.path().to_owned()));
    let quantize = Quantize {
        scheme: Scheme::Q4K,
        cache: None,
    };
    let error = quantize
        .apply(made, &role, &|_, _| {})
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("already") && error.contains("Q8_0"),
        "{error}"
    );
    let kept = |_: &str| Role::Kept;
    let error = quantize
        .apply(open(dir.path()), &kept, &|_, _| {})
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("quantize"), "{error}");
    assert!("q5".parse::<Scheme>().unwrap_err().contains("q4k and q8_0"));
    assert_eq!("q8_0".parse(), Ok(Scheme::Q8_0));
}

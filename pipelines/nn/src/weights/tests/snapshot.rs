//! The small files of a snapshot, in a directory and compiled in.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::error::NnError;

static EMBEDDED: &[(&str, &[u8])] = &[
    ("config.json", b"{}"),
    ("1_Pooling/config.json", b"{\"a\":1}"),
    (
        "model.safetensors",
        b"\x38\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}  \0\0\x80\x3f",
    ),
];

#[test]
fn a_directory_and_an_embedded_snapshot_answer_alike() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    for (name, bytes) in EMBEDDED {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let directory = Snapshot::dir(dir.path()).unwrap();
    let embedded = Snapshot::embedded("demo", EMBEDDED);
    assert_eq!(embedded.to_string(), "demo");
    assert_eq!(directory.to_string(), dir.path().display().to_string());
    for snapshot in [directory, embedded] {
        assert_eq!(snapshot.read("config.json").unwrap().unwrap(), b"{}");
        assert_eq!(
            snapshot.read("1_Pooling/config.json").unwrap().unwrap(),
            b"{\"a\":1}"
        );
        assert_eq!(snapshot.read("tokenizer.json").unwrap(), None);
        assert_eq!(snapshot.read("config.json/config.json").unwrap(), None);
        for outside in ["../config.json", "/etc/passwd", "", "a/../../b", "a\0b"] {
            let error = snapshot.read(outside).unwrap_err().to_string();
            assert!(error.contains("not a path inside the snapshot"), "{error}");
        }
        assert_eq!(
            f32s(&snapshot.weights().unwrap().tensor("a").unwrap()),
            [1.]
        );
    }
}

#[test]
fn a_snapshot_that_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let error = Snapshot::dir(dir.path().join("absent"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no such directory"), "{error}");
    fs::write(dir.path().join("file"), "").unwrap();
    let error = Snapshot::dir(dir.path().join("file"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("it is a file"), "{error}");
}

#[test]
fn a_small_file_that_is_large_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let file = fs::File::create(dir.path().join("tokenizer.json")).unwrap();
    file.set_len(MAX_FILE_BYTES + 1).unwrap();
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    let error = snapshot.read("tokenizer.json").unwrap_err();
    assert!(matches!(error, NnError::SnapshotFile { .. }));
    assert!(
        error
            .to_string()
            .contains("it has 67108865 bytes, and at most 67108864"),
        "{error}"
    );
}

#[test]
fn what_is_not_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("config.json")).unwrap();
    let snapshot = Snapshot::dir(dir.path()).unwrap();
    let error = snapshot.read("config.json").unwrap_err().to_string();
    assert!(error.contains("it is not a file"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_to_nothing_is_not_the_same_as_no_file() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("absent", dir.path().join("config.json")).unwrap();
    let error = Snapshot::dir(dir.path())
        .unwrap()
        .read("config.json")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("a link to a file that is not there"),
        "{error}"
    );
}

#[test]
fn embedded_weights_are_one_file() {
    let none = Snapshot::embedded("demo", &[]);
    let error = none.weights().err().unwrap().to_string();
    assert_eq!(
        error,
        "demo: there are no weights in it: looked for model.safetensors"
    );
    let shards = Snapshot::embedded("demo", &[("model.safetensors.index.json", b"{}")]);
    let error = shards.weights().err().unwrap().to_string();
    assert!(error.contains("not shards"), "{error}");
}

#[test]
fn a_model_of_several_parts_is_put_together_by_their_folders() {
    let bytes = EMBEDDED
        .iter()
        .find(|(name, _)| *name == "model.safetensors");
    let weights: Arc<dyn TensorSource> =
        Arc::new(StaticSource::new("a", bytes.unwrap().1).unwrap());
    let files = ["unet/config.json", "unet_2/config.json", "model_index.json"];
    let files = files.map(|name| (name.to_owned(), name.as_bytes().to_vec()));
    let parts = [("unet".to_owned(), weights)];
    let whole = Snapshot::composed_of_parts("one file", files.into(), parts.into());
    assert!(whole.weights().is_err() && whole.part("vae").part_weights().is_err());
    let unet = whole.part("unet");
    assert_eq!(unet.to_string(), "one file/unet");
    assert_eq!(
        unet.read("config.json").unwrap().unwrap(),
        b"unet/config.json"
    );
    assert_eq!(unet.read("model_index.json").unwrap(), None);
    assert_eq!(
        f32s(&unet.part_weights().unwrap().tensor("a").unwrap()),
        [1.]
    );
    assert!(whole.part("unet_2").part_weights().is_err());
}

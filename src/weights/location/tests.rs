//! What texts become of places.

use super::*;

fn hub_of(text: &str) -> (String, Option<String>, Option<FileChoice>) {
    match Location::read(text).unwrap() {
        Location::Hub {
            repo,
            revision,
            file,
        } => (repo, revision, file),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn a_repository_may_have_a_revision_and_a_gguf() {
    let file = |name: &str| Some(FileChoice::File(name.to_owned()));
    let quant = |name: &str| Some(FileChoice::Quant(name.to_owned()));
    let text = |text: &str| Some(text.to_owned());
    for (written, repo, revision, choice) in [
        ("gpt2", "gpt2", None, None),
        ("org/name", "org/name", None, None),
        ("hf://org/name", "org/name", None, None),
        ("org/name@v1.0", "org/name", text("v1.0"), None),
        ("org/name@refs/pr/1", "org/name", text("refs/pr/1"), None),
        ("o/n-GGUF:Q4_K_M", "o/n-GGUF", None, quant("Q4_K_M")),
        ("o/n:m-q8.gguf", "o/n", None, file("m-q8.gguf")),
        ("o/n@dev:sub/m.gguf", "o/n", text("dev"), file("sub/m.gguf")),
        ("o/n/m.gguf", "o/n", None, file("m.gguf")),
        ("o/n:xl.safetensors", "o/n", None, file("xl.safetensors")),
        (
            "o/n/xl_1.0.safetensors",
            "o/n",
            None,
            file("xl_1.0.safetensors"),
        ),
        ("o/n/sub/m.gguf", "o/n", None, file("sub/m.gguf")),
    ] {
        let wanted = (repo.to_owned(), revision, choice);
        assert_eq!(hub_of(written), wanted, "{written}");
    }
    let place = Location::read("o/n@dev:Q8_0").unwrap();
    assert_eq!(place.to_string(), "o/n@dev:Q8_0");
    assert_eq!(place.id(), "o/n");
    assert_eq!(
        Location::read("o/n:a/m-00001-of-00002.gguf").unwrap().id(),
        "m"
    );
    for bad in [
        "o/n@",
        "o/n@../x",
        "o/n:",
        "o/n:../m.gguf",
        "o--p/n",
        "o/n:a b",
        "-o/n",
    ] {
        assert!(Location::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_bucket_may_have_a_prefix_and_a_gguf() {
    let bucket = |text: &str| match Location::read(text).unwrap() {
        Location::S3(place) | Location::Gs(place) => place,
        other => panic!("{other:?}"),
    };
    let place = bucket("s3://models/llama/3.2/");
    assert_eq!(
        (place.bucket.as_str(), place.prefix.as_str()),
        ("models", "llama/3.2")
    );
    assert_eq!(place.id(), "3.2");
    assert_eq!(Location::read("s3://models").unwrap().id(), "models");
    let place = bucket("gs://models/a/tiny-q8-00001-of-00002.gguf");
    assert_eq!(place.file.as_deref(), Some("tiny-q8-00001-of-00002.gguf"));
    assert_eq!(
        (place.prefix.as_str(), place.id().as_str()),
        ("a", "tiny-q8")
    );
    assert_eq!(place.to_string(), "models/a/tiny-q8-00001-of-00002.gguf");
    for bad in [
        "s3://",
        "s3:///a",
        "s3://a b/c",
        "s3://a/../b",
        "gs://a/b//c",
        "s3://../a",
    ] {
        assert!(Location::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_misspelt_path_is_no_repository() {
    for text in [
        "/models/llama",
        "./llama",
        "../llama",
        "~/llama",
        "a/b/c",
        "no.gguf",
        "a/no.gguf",
        "src/llama",
        "llama/",
    ] {
        let error = Location::read(text).unwrap_err().to_string();
        assert!(
            error.contains(text) && error.contains("no such"),
            "{text}: {error}"
        );
    }
    // Said to be the hub's, it is.
    assert_eq!(hub_of("hf://src/llama").0, "src/llama");
    assert_eq!(
        Location::read("src").unwrap(),
        Location::Directory("src".into())
    );
    let error = Location::read("Cargo.toml").unwrap_err().to_string();
    assert!(error.contains(".gguf"), "{error}");
}

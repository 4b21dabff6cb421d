//! The order of sources: cache, mirror, hub; and what is served when one of them is gone.

use chandler::storage::{Access, Addressing, Credentials};
use chandler::weights::mirror::Scope;
use chandler::weights::s3::S3Options;
use chandler::weights::store::{Ask, Origin, Store};
use chandler::weights::{Kind, Location, MirrorPlace, StoreOptions, Wanted, WeightsError};
use hub_double::{Content, Fault, Kind as On, Repo};
use s3_double::S3Double;

use super::setup::*;

#[test]
fn a_model_is_fetched_once_and_then_taken_without_the_network() {
    let world = World::new();
    let store = world.store();
    let fetched = fetch(&store, REPO).unwrap();
    assert!(
        matches!(fetched.origin, Origin::Source(_)),
        "{:?}",
        fetched.origin
    );
    assert_eq!(fetched.commit, world.hub.commit(REPO, "main").unwrap());
    holds(&fetched.dir, 1);
    let asked = world.requests();
    let unwanted =
        |path: &&String| path.contains("README") || path.contains(".bin") || path.contains("onnx");
    assert_eq!(asked.iter().find(unwanted), None);

    let again = fetch(&store, REPO).unwrap();
    assert_eq!((again.dir, again.origin), (fetched.dir, Origin::Cache));
    assert_eq!(world.requests(), [""; 0]);
}

#[test]
fn offline_means_no_request_and_a_missing_file_is_named() {
    let world = World::new();
    let offline = Store::new(StoreOptions {
        offline: true,
        ..world.options()
    });
    let error = fetch(&offline, REPO).unwrap_err().to_string();
    assert!(
        error.contains(REPO) && error.contains("HF_HUB_OFFLINE"),
        "{error}"
    );
    let dir = fetch(&world.store(), REPO).unwrap().dir;
    world.hub.forget();
    assert_eq!(refreshed(&offline, REPO).unwrap().dir, dir);
    std::fs::remove_file(dir.join(WANTED[2])).unwrap();
    let error = fetch(&offline, REPO).unwrap_err().to_string();
    assert!(error.contains(WANTED[2]), "{error}");
    assert_eq!(world.requests(), [""; 0]);
    // With the network, only what is missing is fetched; and its bytes are still there.
    fetch(&world.store(), REPO).unwrap();
    assert_eq!(world.cdn_requests(), 0);
    holds(&dir, 1);
}

#[test]
fn a_refresh_follows_the_branch_and_serves_what_is_here_when_the_hub_is_gone() {
    let world = World::new();
    let first = fetch(&world.store(), REPO).unwrap();
    world.hub.put(model(REPO, 7).commit("main"));
    assert_eq!(fetch(&world.store(), REPO).unwrap().commit, first.commit);
    let second = refreshed(&world.store(), REPO).unwrap();
    assert_ne!(second.commit, first.commit);
    holds(&second.dir, 7);
    assert_eq!(fetch(&world.store(), REPO).unwrap().commit, second.commit);
    // The old one is still what it was, by its commit.
    holds(
        &fetch(&world.store(), &format!("{REPO}@{}", first.commit))
            .unwrap()
            .dir,
        1,
    );

    world.hub.script(On::Api, [503; 12].map(Fault::Status));
    let stale = refreshed(&world.store(), REPO).unwrap();
    assert_eq!((stale.commit, stale.origin), (second.commit, Origin::Stale));
}

#[test]
fn what_is_not_there_is_said_with_the_names_that_are_near() {
    let world = World::new();
    let nowhere = Wanted {
        hint: "; or did you mean tinyllama?".to_owned(),
        ..wanted("org/nowhere")
    };
    let error = world.store().fetch(&nowhere, &Ask::default()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("org/nowhere") && text.contains("did you mean tinyllama"),
        "{text}"
    );
    world.hub.put(
        Repo::new("org/pickles")
            .git("config.json", "{}")
            .lfs("pytorch_model.bin", Content::synthetic(9, 100)),
    );
    let error = fetch(&world.store(), "org/pickles").unwrap_err();
    assert!(matches!(error, WeightsError::NoModel { .. }), "{error}");
    assert!(error.to_string().contains("pickles only"), "{error}");
    let homeless = Store::new(StoreOptions {
        cache: None,
        ..world.options()
    });
    let error = fetch(&homeless, REPO).unwrap_err().to_string();
    assert!(error.contains("HF_HOME"), "{error}");
}

#[test]
fn a_cache_that_is_only_read_comes_first() {
    let world = World::new();
    let dir = fetch(&world.store(), REPO).unwrap().dir;
    let elsewhere = tempfile::tempdir().unwrap();
    let store = Store::new(StoreOptions {
        read_caches: vec![world.cache()],
        cache: Some(elsewhere.path().join("hub")),
        ..world.options()
    });
    world.hub.forget();
    assert_eq!(fetch(&store, REPO).unwrap().dir, dir);
    assert_eq!(world.requests(), [""; 0]);
    assert!(!elsewhere.path().join("hub").exists());
}

#[test]
fn an_adapter_and_a_gguf_are_the_files_that_they_need() {
    let world = World::new();
    let adapter = Repo::new("org/lora")
        .git("adapter_config.json", "{}")
        .git("tokenizer.json", "{}")
        .lfs("adapter_model.safetensors", Content::synthetic(3, 1000));
    world.hub.put(adapter);
    let lora = Wanted {
        kind: Kind::Adapter,
        ..wanted("org/lora")
    };
    let fetched = world.store().fetch(&lora, &Ask::default()).unwrap();
    let names: Vec<&str> = fetched
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    assert_eq!(names, ["adapter_config.json", "adapter_model.safetensors"]);

    let gguf = Repo::new("org/gguf")
        .lfs("m-Q4_K_M.gguf", Content::synthetic(4, 2000))
        .lfs("m-Q8_0.gguf", Content::synthetic(5, 3000));
    world.hub.put(gguf);
    let fetched = fetch(&world.store(), "org/gguf:q8_0").unwrap();
    assert_eq!(fetched.file.unwrap(), fetched.dir.join("m-Q8_0.gguf"));
    // What is here of a repository is not all that it has: the other one is fetched, too.
    let other = fetch(&world.store(), "org/gguf:Q4_K_M").unwrap();
    assert!(other.file.unwrap().ends_with("m-Q4_K_M.gguf"));
    assert_eq!(other.dir, fetched.dir);
}

#[test]
fn damage_on_the_way_is_fetched_again_and_never_served() {
    let world = World::new();
    world.hub.script(
        On::Cdn,
        [Fault::Flip(1000), Fault::Cut(70_000), Fault::Status(503)],
    );
    let fetched = fetch(&world.store(), REPO).unwrap();
    holds(&fetched.dir, 1);
}

/// A bucket's server, on a runtime of its own.
struct Bucket {
    server: S3Double,
    _runtime: tokio::runtime::Runtime,
}

impl Bucket {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(S3Double::start(s3_double::Options::default()));
        server.bucket("models");
        Self {
            server,
            _runtime: runtime,
        }
    }

    fn access(&self) -> S3Options {
        let keys = self.server.options();
        S3Options {
            access: Access {
                endpoint: Some(self.server.endpoint().parse().unwrap()),
                region: None,
                addressing: Addressing::Path,
                credentials: Some(Credentials {
                    access_key: keys.access_key.clone().into(),
                    secret_key: keys.secret_key.clone().into(),
                    session_token: None,
                }),
            },
            ..S3Options::default()
        }
    }
}

#[test]
fn a_private_mirror_is_filled_from_the_hub_and_asked_before_it() {
    let world = World::new();
    let bucket = Bucket::start();
    let store = |home: &std::path::Path, scope: Scope| {
        Store::new(StoreOptions {
            s3: bucket.access(),
            mirror: Some(MirrorPlace {
                bucket: "models".to_owned(),
                prefix: "hub".to_owned(),
                scope,
            }),
            cache: Some(home.join("hub")),
            ..world.options()
        })
    };
    // Shared: it is asked, and nothing is put there.
    let one = tempfile::tempdir().unwrap();
    let shared = fetch(&store(one.path(), Scope::Shared), REPO).unwrap();
    assert!(shared.mirror.is_none());
    assert_eq!(bucket.server.keys("models"), [""; 0]);

    let two = tempfile::tempdir().unwrap();
    let mut private = fetch(&store(two.path(), Scope::Private), REPO).unwrap();
    let fill = private.mirror.take().unwrap();
    let filled = fill.run(Default::default(), &Default::default()).unwrap();
    assert!(format!("{filled:?}").contains("Wrote"), "{filled:?}");

    // A third worker needs no hub.
    let three = tempfile::tempdir().unwrap();
    world.hub.forget();
    let mirrored = fetch(&store(three.path(), Scope::Shared), REPO).unwrap();
    assert!(
        matches!(&mirrored.origin, Origin::Source(name) if name.starts_with("s3://models/hub")),
        "{}",
        mirrored.origin
    );
    assert_eq!(mirrored.commit, private.commit);
    holds(&mirrored.dir, 1);
    assert_eq!(world.requests(), [""; 0]);

    // A mirror that is out of order is passed by.
    let four = tempfile::tempdir().unwrap();
    drop(bucket.server);
    let options = StoreOptions {
        s3: S3Options {
            access: Access {
                endpoint: Some("http://127.0.0.1:9".parse().unwrap()),
                addressing: Addressing::Path,
                ..Access::default()
            },
            tries: 1,
            ..S3Options::default()
        },
        mirror: Some(MirrorPlace {
            bucket: "models".to_owned(),
            prefix: "hub".to_owned(),
            scope: Scope::Shared,
        }),
        cache: Some(four.path().join("hub")),
        ..world.options()
    };
    holds(&fetch(&Store::new(options), REPO).unwrap().dir, 1);
}

#[test]
fn a_folder_in_a_bucket_goes_through_the_same_cache() {
    let world = World::new();
    let bucket = Bucket::start();
    let weights = Content::synthetic(5, 3 << 20).bytes().unwrap();
    for (name, body) in [
        ("config.json", b"{}".as_slice()),
        ("tokenizer.json", b"{}"),
        ("model.safetensors", &weights),
        ("pytorch_model.bin", b"pickle"),
    ] {
        bucket
            .server
            .lay("models", &format!("tiny/v1/{name}"), body);
    }
    let store = Store::new(StoreOptions {
        s3: bucket.access(),
        ..world.options()
    });
    let fetched = fetch(&store, "s3://models/tiny/v1").unwrap();
    assert!(std::fs::read(fetched.dir.join("model.safetensors")).unwrap() == weights.as_ref());
    assert!(!fetched.dir.join("pytorch_model.bin").exists());
    assert_eq!(Location::read("s3://models/tiny/v1").unwrap().id(), "v1");
    bucket.server.forget();
    assert_eq!(
        fetch(&store, "s3://models/tiny/v1").unwrap().dir,
        fetched.dir
    );
    assert!(bucket.server.requests().is_empty());
    // Somebody puts another version there; a refresh sees it.
    bucket
        .server
        .lay("models", "tiny/v1/config.json", b"{\"v\": 2}");
    let second = refreshed(&store, "s3://models/tiny/v1").unwrap();
    assert_ne!(second.commit, fetched.commit);
    assert_eq!(
        std::fs::read(second.dir.join("config.json")).unwrap(),
        b"{\"v\": 2}"
    );
}

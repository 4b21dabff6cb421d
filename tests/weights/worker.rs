//! An engine whose model comes from the hub: its stages, its numbers, and its end in the middle.

use std::time::{Duration, Instant};

use chandler::engine::{Engine, EngineOptions, Fetch, Loaded, Stage, Status};
use chandler_core::mock::{MockOptions, MockPipeline};

use super::setup::*;

/// An engine that fetches the model, and then is the mock: these tests are about the way there.
fn engine(world: &World) -> Engine {
    let fetch = Fetch {
        store: world.store(),
        refresh: false,
        progress: Default::default(),
    };
    Engine::launch(EngineOptions::default(), move |progress| {
        let fetched = fetch.bring(&wanted(REPO), progress)?;
        progress.stage(Stage::BuildingModel);
        Ok(Loaded::new(MockPipeline::new(MockOptions::default())).keeping(fetched))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stages_of_a_download_are_the_engines_and_stay_in_its_record() {
    let world = World::new();
    world.hub.throttle(SHARD);
    let engine = engine(&world);
    let mut status = engine.watch();
    let downloading = |status: &Status| {
        matches!(status, Status::Loading(loading) if loading.stage == Stage::Downloading
            && (1..2 * SHARD).contains(&loading.download.received_bytes))
    };
    let patience = Duration::from_secs(30);
    let seen = tokio::time::timeout(patience, status.wait_for(downloading))
        .await
        .unwrap()
        .unwrap()
        .clone();
    let Status::Loading(loading) = seen else {
        unreachable!()
    };
    assert_eq!(loading.download.files, WANTED.len());
    assert!(loading.download.total_bytes > 2 * SHARD);
    world.hub.throttle(0);
    let ready = tokio::time::timeout(patience, status.wait_for(|s| *s == Status::Ready)).await;
    ready.unwrap().unwrap();
    let record = engine.cold_start();
    for stage in [Stage::Resolving, Stage::Downloading, Stage::BuildingModel] {
        assert!(
            record.stages.iter().any(|(seen, _)| *seen == stage),
            "{stage} in {record}"
        );
    }
    assert_eq!(record.fetched_bytes, loading.download.total_bytes);
    // What is in use stays in the cache; when the engine has ended, it may go.
    engine.drain();
    engine.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_a_download_at_once_and_keeps_what_has_come() {
    let world = World::new();
    world.hub.throttle(SHARD / 8);
    let first = engine(&world);
    let mut status = first.watch();
    let some = |status: &Status| matches!(status, Status::Loading(loading) if loading.download.received_bytes > 1 << 20);
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, status.wait_for(some))
        .await
        .unwrap()
        .unwrap();
    let asked = Instant::now();
    first.drain();
    first.stopped().await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(first.status(), Status::Stopped);

    let before = world.hub.cdn_bytes();
    world.hub.throttle(0);
    let second = engine(&world);
    let mut status = second.watch();
    let ready = tokio::time::timeout(patience, status.wait_for(|s| *s == Status::Ready)).await;
    ready.unwrap().unwrap();
    let again = world.hub.cdn_bytes() - before;
    assert!(again < 2 * SHARD, "{again} bytes were fetched once more");
    holds(&fetch(&world.store(), REPO).unwrap().dir, 1);
}

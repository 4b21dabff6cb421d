//! Files of every size and number, and in which order they come.

use chandler::weights::remote::Digest;
use sha1::Digest as _;

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_every_size_arrive_whole() {
    let mut bench = Bench::new();
    bench.options.range_bytes = 1 << 17;
    let range = 1 << 17;
    let sizes = [
        0,
        1,
        2,
        1000,
        range - 1,
        range,
        range + 1,
        2 * range,
        5 * range,
        MIB,
        MIB + 1,
        3 * MIB + 12345,
        16 * range,
    ];
    let mut files = Vec::new();
    let mut contents = Vec::new();
    for (at, size) in sizes.into_iter().enumerate() {
        let content = bytes(at as u64 + 1, size);
        files.push(bench.server.add(&format!("file-{at}"), content.clone()));
        contents.push(content);
    }
    bench.fetch(&files).await.unwrap();
    for (file, content) in files.iter().zip(&contents) {
        bench.assert_here(file, content);
    }
    bench.assert_no_leftovers();
    let totals = bench.totals();
    assert_eq!(totals.received, totals.size);
    assert_eq!(totals.verified, totals.size);
    let size: usize = sizes.iter().sum();
    assert_eq!(bench.server.served(), size as u64, "no byte twice");
    assert!(
        bench
            .server
            .asked()
            .iter()
            .all(|asked| asked.path != "file-0")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_files_come_first_and_large_ones_one_after_the_other() {
    let mut bench = Bench::new();
    bench.options.connections = 4;
    bench
        .server
        .state
        .rate
        .store(20_000_000, std::sync::atomic::Ordering::Relaxed);
    let mut files = Vec::new();
    for at in 0..3 {
        // Long enough that it does not matter which one is opened a few milliseconds sooner.
        let content = bytes(at + 1, 16 * MIB);
        files.push(
            bench
                .server
                .add(&format!("model-{at}.safetensors"), content),
        );
    }
    files.push(bench.server.add("config.json", bytes(9, 700)));
    files.push(bench.server.add("tokenizer.json", bytes(10, 7000)));
    bench.fetch(&files).await.unwrap();
    let order = bench.whole.lock().unwrap().clone();
    let mut small = order[..2].to_vec();
    small.sort();
    assert_eq!(small, ["config.json", "tokenizer.json"]);
    let large = [
        "model-0.safetensors",
        "model-1.safetensors",
        "model-2.safetensors",
    ];
    let asked = bench.server.asked();
    // Where in the order of requests a file's are, on the average.
    let place = |path: &&str| {
        let places = asked
            .iter()
            .enumerate()
            .filter(|(_, asked)| asked.path == *path);
        let places: Vec<usize> = places.map(|(place, _)| place).collect();
        places.iter().sum::<usize>() / places.len()
    };
    let [first, second, third] = large.each_ref().map(place);
    // Not all at once: then they would all be in the middle.
    assert!(
        first + 4 < second && second + 4 < third,
        "{first} {second} {third}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_small_files_arrive_with_few_of_them_open() {
    let mut bench = Bench::new();
    let files: Vec<_> = (0..2000)
        .map(|at| {
            bench
                .server
                .add(&format!("part-{at}"), bytes(at, 50 + at as usize % 300))
        })
        .collect();
    bench.fetch(&files).await.unwrap();
    for (at, file) in files.iter().enumerate() {
        bench.assert_here(file, &bytes(at as u64, 50 + at % 300));
    }
    bench.assert_no_leftovers();
    assert_eq!(bench.whole.lock().unwrap().len(), 2000);
    let peak = bench
        .server
        .state
        .peak
        .load(std::sync::atomic::Ordering::Relaxed);
    assert!(peak <= 32, "{peak} requests at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_digests_and_files_without_one_are_checked_by_what_there_is() {
    let mut bench = Bench::new();
    let content = bytes(3, 3 * MIB);
    let mut git = bench.server.add("git", content.clone());
    let mut sha = sha1::Sha1::new_with_prefix(format!("blob {}\0", content.len()));
    sha.update(&content);
    git.digest = Some(Digest::GitSha1(sha.finalize().into()));
    let mut bare = bench.server.add("bare", bytes(4, 3 * MIB));
    bare.digest = None;
    let files = [git.clone(), bare.clone()];
    bench.fetch(&files).await.unwrap();
    bench.assert_here(&git, &content);
    bench.assert_here(&bare, &bytes(4, 3 * MIB));
    assert_eq!(bench.totals().verified, 6 << 20);

    // Wrong ones are found.
    git.digest = Some(Digest::GitSha1([7; 20]));
    let error = bench.fetch(&[git]).await.unwrap_err().to_string();
    assert!(error.contains("git arrived damaged 3 times"), "{error}");
    assert!(error.contains(&"07".repeat(20)), "{error}");
    bare.size += 5;
    let error = bench.fetch(&[bare]).await.unwrap_err();
    assert!(matches!(error, WeightsError::Changed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_room_is_said_before_anything_is_fetched() {
    let mut bench = Bench::new();
    let mut file = bench.server.add("huge", bytes(1, 10));
    file.size = 1 << 55;
    let error = bench.fetch(&[file]).await.unwrap_err();
    let WeightsError::Disk { source, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("make room"), "{error}");
    assert!(bench.server.asked().is_empty());
    assert_eq!(
        std::fs::read_dir(bench.directory.path()).unwrap().count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again() {
    let mut bench = Bench::new();
    bench.options.first_connections = 4;
    bench.options.connections = 4;
    let (file, content) = one(&bench, 96 * MIB);
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    let ranges = bench.server.asked().len();
    let state = &bench.server.state;
    let connections = state.connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(ranges > 96, "{ranges}");
    // A few more than four: one may be opened while another is just becoming free.
    assert!(
        connections <= 16,
        "{connections} connections for {ranges} ranges"
    );
}

//! A transfer that ends before its time: stopped, dropped, out of disk, with a damaged journal. The next one goes on where it
//! was, and fetches nothing twice but what was on its way.

use std::fs;
use std::sync::atomic::Ordering;
use std::time::Instant;

use chandler::weights::transfer::journal_path;
use proptest::prelude::*;

use super::child::{self, Mode};
use super::*;

/// Lets a transfer run until about half of a file has come, and ends it with `end`; says how much had come.
async fn half(bench: &mut Bench, file: &RemoteFile, end: impl Fn(&Stop) -> bool) -> u64 {
    let stop = bench.stop.clone();
    let jobs = bench.jobs(std::slice::from_ref(file));
    let progress = jobs[0].progress.clone();
    let options = bench.options.clone();
    let source = bench.server.source();
    let work = tokio::spawn({
        let stop = stop.clone();
        async move { transfer(source, jobs, &options, &stop, Arc::new(|_| Ok(()))).await }
    });
    while progress.received() < file.size / 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let begun = Instant::now();
    if end(&stop) {
        let error = work.await.unwrap().unwrap_err();
        assert!(matches!(error, WeightsError::Stopped), "{error}");
    } else {
        work.abort();
        assert!(work.await.unwrap_err().is_cancelled());
    }
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );
    bench.stop = Stop::new();
    progress.received()
}

async fn goes_on_after(end: impl Fn(&Stop) -> bool) {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 12 * MIB);
    bench.options.connections = 4;
    bench.server.state.rate.store(3_000_000, Ordering::Relaxed);
    let come = half(&mut bench, &file, end).await;
    assert!(come < file.size);
    bench.server.asked();
    bench.server.state.rate.store(0, Ordering::Relaxed);
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    bench.assert_no_leftovers();
    let again = bench.server.wanted() - (file.size - come);
    // What four requests had gathered and not written.
    assert!(again <= 4 * (320 << 10), "{again} bytes twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_takes_effect_at_once_and_the_next_run_goes_on() {
    goes_on_after(|stop| {
        stop.set();
        true
    })
    .await;
    // One that is set before anything begins.
    let mut bench = Bench::new();
    let (file, _) = one(&bench, MIB);
    bench.stop.set();
    let error = bench.fetch(&[file]).await.unwrap_err();
    assert!(matches!(error, WeightsError::Stopped), "{error}");
    assert!(bench.server.asked().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_future_writes_nothing_more_and_the_next_run_goes_on() {
    goes_on_after(|_| false).await;
}

/// What is left when a transfer of five ranges ends after three of them.
async fn partly(bench: &mut Bench) -> (RemoteFile, Vec<u8>) {
    let (file, content) = one(bench, 5 * MIB);
    bench.options.connections = 1;
    bench.options.tries = 1;
    bench
        .server
        .faults(|asked| (asked.range.start >= 3 << 20).then_some(server::Fault::Hangup));
    bench.fetch(std::slice::from_ref(&file)).await.unwrap_err();
    bench.server.faults(|_| None);
    bench.server.served();
    bench.options = options();
    (file, content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_changed_on_the_disk_is_fetched_again_and_the_rest_is_not() {
    let mut bench = Bench::new();
    let (file, content) = partly(&mut bench).await;
    let path = bench.partial(&file);
    let mut partial = fs::read(&path).unwrap();
    partial[MIB + 5] ^= 1;
    fs::write(&path, partial).unwrap();
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    assert_eq!(
        bench.server.served(),
        3 << 20,
        "two that were missing, one that was wrong"
    );
    assert_eq!(bench.totals().received, file.size);

    // A partial file that is gone, or cut, or longer than it should be.
    for length in [None, Some(0), Some(MIB + MIB / 2), Some(7 * MIB)] {
        let mut bench = Bench::new();
        let (file, content) = partly(&mut bench).await;
        let path = bench.partial(&file);
        match length {
            None => fs::remove_file(&path).unwrap(),
            Some(length) => {
                let partial = fs::File::options().write(true).open(&path).unwrap();
                partial.set_len(length as u64).unwrap();
            }
        }
        bench.fetch(std::slice::from_ref(&file)).await.unwrap();
        bench.assert_here(&file, &content);
        let kept = match length {
            None | Some(0) => 0,
            Some(length) => (length / MIB).min(3) as u64,
        };
        assert_eq!(
            bench.server.served(),
            file.size - (kept << 20),
            "{length:?}"
        );
    }
}

#[test]
fn a_journal_damaged_anywhere_costs_bytes_and_never_wrong_ones() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let mut bench = Bench::new();
    let (file, content) = runtime.block_on(partly(&mut bench));
    let (partial, journal) = (bench.partial(&file), journal_path(&bench.partial(&file)));
    let saved = (fs::read(&partial).unwrap(), fs::read(&journal).unwrap());
    let length = saved.1.len();
    let bench = std::sync::Mutex::new(bench);
    proptest!(ProptestConfig::with_cases(60), |(cut in 0..=length, flip in 0..length, with in any::<u8>(), wrong in 0..5 * MIB)| {
        let mut bench = bench.lock().unwrap();
        let mut torn = saved.1.clone();
        torn[flip] ^= with;
        torn.truncate(cut);
        fs::write(&journal, &torn).unwrap();
        let mut bytes = saved.0.clone();
        bytes[wrong] ^= 0x55;
        fs::write(&partial, &bytes).unwrap();
        runtime.block_on(bench.fetch(std::slice::from_ref(&file))).unwrap();
        bench.assert_here(&file, &content);
        bench.assert_no_leftovers();
        // Never wrong after all: what the journal vouches for is looked at before it counts.
        prop_assert!(bench.server.served() <= file.size);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_takes_no_more_keeps_what_it_has() {
    let mut bench = Bench::new();
    let (file, content) = one(&bench, 16 * MIB);
    bench.server.state.rate.store(20_000_000, Ordering::Relaxed);
    let told = child::run(Mode::Full, &bench, &file);
    assert!(told.contains("File too large"), "{told}");
    assert!(told.contains(".chandler-partial"), "{told}");
    assert!(bench.whole.lock().unwrap().is_empty());
    bench.server.served();
    bench.fetch(std::slice::from_ref(&file)).await.unwrap();
    bench.assert_here(&file, &content);
    let served = bench.server.served();
    assert!(
        served <= 11 << 20,
        "{served} bytes, though six million were there"
    );
}

#[test]
fn memory_does_not_grow_with_the_files() {
    let bench = Bench::new();
    let (mut file, _) = one(&bench, 128 * MIB);
    file.digest = None;
    let told = child::run(Mode::Memory, &bench, &file);
    let grown: u64 = told.trim().parse().unwrap_or_else(|_| panic!("{told}"));
    // 32 requests, with what each has gathered and the client has read ahead.
    assert!(grown < 80 << 10, "{grown} KiB more than before");
}

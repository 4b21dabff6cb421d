//! How many threads compute, decided in one place for the kernels' crew, rayon, candle's own pools and the HTTP runtime: the
//! setting, else what the container's quota allows. Apart from `worker` because one of the pools listens to nothing but the
//! environment of a process that starts.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::config::Settings;
use crate::engine::load;
use crate::machine::Machine;

/// What candle reads when it starts its pool.
const CANDLE: &str = "CANDLE_NUM_THREADS";

/// Threads for the model's arithmetic.
pub fn wanted(settings: &Settings) -> usize {
    match *settings.threads {
        Some(threads) => threads.get(),
        None => Machine::here().processors().threads(),
    }
}

/// Threads for the HTTP front door: what it does between two steps of the model takes little, but must not wait for one.
pub fn for_requests() -> usize {
    Machine::here().processors().threads().max(2)
}

/// Says what the container leaves of the machine: the first thing that one wants to know of a worker that is slow or was killed.
pub fn tell(settings: &Settings) {
    let (processors, memory) = (Machine::here().processors(), Machine::here().memory());
    let limit = memory.filter(|memory| memory.limited);
    tracing::info!(
        threads = wanted(settings),
        processors = processors.host,
        cpu_quota = processors.quota,
        memory_limit_bytes = limit.map(|memory| memory.total),
        memory_available_bytes = memory.map(|memory| memory.available),
        "what the machine gives"
    );
}

/// Sees to it that candle starts no more threads than are wanted; called first, before anything is open.
///
/// Its pool has a thread for each physical core of the host, all of which meet at a barrier at each large elementwise operation:
/// with four processors of a host's 64 that is sixteen turns for each. The number can only be set by a variable, and a program
/// may not change its own environment safely, so the process replaces itself by the same program with the variable set: the
/// process id stays, and it takes a millisecond or two. Where that fails the pool is too large, and all the rest works.
pub fn settle(settings: &Settings) {
    let wanted = wanted(settings);
    let own = std::env::var_os(CANDLE).is_none()
        && load::library_threads().is_some_and(|own| own > wanted);
    if !own {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Returns only when it fails.
    let error = command
        .args(arguments)
        .env(CANDLE, wanted.to_string())
        .exec();
    eprintln!(
        "chandler: warning: cannot start again with {CANDLE}={wanted} ({error}); set it to have no more threads than that"
    );
}

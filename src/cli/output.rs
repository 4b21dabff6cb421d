//! Writing to standard output when its reader may have gone (`chandler models | head`): that is an end, not a failure.

use std::io::{self, Write};

/// Writes a text and flushes it. `false` when nobody reads any more.
///
/// # Errors
/// Whatever else went wrong, such as a full disk.
pub fn print(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

//! Reading numbers and texts one after the other out of bytes that may lie. Apart from what a header means: here is the one
//! place where a length from the file meets memory, and nothing is allocated before the bytes for it are known to be there.

use super::super::text::clip;

/// The longest text that is read, in bytes. The longest in use is a chat template of some hundred kilobytes.
pub(super) const MAX_TEXT_BYTES: u64 = 16 << 20;

/// A place in a file. Every error says the field and the value; the caller adds the file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> u64 {
        self.bytes.len().saturating_sub(self.at) as u64
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let found = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<N>);
        let Some(found) = found else {
            return Err(format!(
                "it is cut short: {what} needs {N} bytes at {} and {} are left; download it again",
                self.at,
                self.left()
            ));
        };
        self.at += N;
        Ok(*found)
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count of things that take at least `each` bytes: refused when the rest of the file could not hold them.
    pub(super) fn count(&mut self, what: &str, each: u64, most: u64) -> Result<u64, String> {
        let count = self.u64(what)?;
        let room = self.left() / each.max(1);
        if count > most {
            return Err(format!("{what} is {count}, and {most} are the most"));
        }
        if count > room {
            return Err(format!(
                "{what} is {count}, and the {} bytes that follow hold at most {room}: it is damaged or cut short; download it again",
                self.left()
            ));
        }
        Ok(count)
    }

    /// A length and as much UTF-8.
    pub(super) fn text(&mut self, what: &str, most: u64) -> Result<String, String> {
        let length = self.count(&format!("the length of {what}"), 1, most)?;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| self.at.checked_add(length));
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let (Some(found), Some(end)) = (found, end) else {
            return Err(format!("the length of {what} is {length}, beyond the file"));
        };
        // A copy first, so that what is checked as UTF-8 in a mapped file cannot change in between.
        let text = String::from_utf8(found.to_vec())
            .map_err(|error| format!("{what} is not UTF-8 ({})", clip(&error.to_string())))?;
        self.at = end;
        Ok(text)
    }
}

//! A container's log as the engine sends it: frames of eight bytes' header and a payload, standard output and standard error
//! mixed (reference: Engine API, ContainerAttach, "Stream format").

use bytes::{Buf, Bytes, BytesMut};

use super::ID;
use crate::provision::platform::LogSink;
use crate::provision::{Api, Call, ProvisionError};

const HEADER: usize = 8;
/// A line that never ends is cut here.
const LONGEST: usize = 1 << 20;

/// Lines out of frames.
#[derive(Default)]
struct Frames {
    bytes: BytesMut,
    line: Vec<u8>,
}

impl Frames {
    /// Hands the whole lines among what has come to `sink`; `false` when it has enough.
    fn take(&mut self, chunk: &Bytes, sink: LogSink<'_>) -> bool {
        self.bytes.extend_from_slice(chunk);
        while let Some(payload) = self.frame() {
            for byte in payload {
                match byte {
                    b'\n' => {
                        let line = String::from_utf8_lossy(&self.line).trim_end().to_owned();
                        self.line.clear();
                        if !sink(&line) {
                            return false;
                        }
                    }
                    _ if self.line.len() < LONGEST => self.line.push(byte),
                    _ => {}
                }
            }
        }
        true
    }

    fn frame(&mut self) -> Option<Bytes> {
        let header: [u8; HEADER] = self.bytes.get(..HEADER)?.try_into().ok()?;
        let [_, _, _, _, length @ ..] = header;
        let length = u32::from_be_bytes(length) as usize;
        if self.bytes.len() < HEADER + length {
            return None;
        }
        self.bytes.advance(HEADER);
        Some(self.bytes.split_to(length).freeze())
    }
}

/// Reads a log to its end, or until the sink has enough.
pub(super) async fn read(api: &Api, call: &Call, sink: LogSink<'_>) -> Result<(), ProvisionError> {
    let broken = |error: reqwest::Error| ProvisionError::Unreachable {
        platform: ID,
        purpose: call.purpose.clone(),
        reason: error.to_string(),
    };
    // Without a time limit: a log that is followed has none.
    let mut answer = api.client().get(&call.url).send().await.map_err(broken)?;
    if !answer.status().is_success() {
        return Err(ProvisionError::Refused {
            platform: ID,
            purpose: call.purpose.clone(),
            status: answer.status().as_u16(),
            message: answer.text().await.unwrap_or_default(),
        });
    }
    let mut frames = Frames::default();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        if !frames.take(&chunk, sink) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn lines_come_out_of_frames_however_they_are_cut() {
        let frame = |stream: u8, text: &str| {
            let mut bytes = vec![stream, 0, 0, 0];
            bytes.extend((text.len() as u32).to_be_bytes());
            bytes.extend(text.as_bytes());
            bytes
        };
        let all = [
            frame(1, "one\ntw"),
            frame(2, "o\r\n"),
            frame(1, "three\nfour"),
        ]
        .concat();
        for cut in 1..all.len() {
            let lines = Mutex::new(Vec::new());
            let sink = |line: &str| {
                lines.lock().unwrap().push(line.to_owned());
                true
            };
            let mut frames = Frames::default();
            let (head, tail) = all.split_at(cut);
            for part in [head, tail] {
                assert!(frames.take(&Bytes::copy_from_slice(part), &sink));
            }
            assert_eq!(*lines.lock().unwrap(), ["one", "two", "three"], "{cut}");
        }
    }
}

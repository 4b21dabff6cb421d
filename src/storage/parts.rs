//! Large objects go up in parts, several at a time, from memory or from a file; what was sent of one that fails or is given
//! up is taken back, since stores charge for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::StorageError;
use super::failure::Attempt;

/// Larger objects go in parts of this size. R2 wants all but the last to be equal, S3 wants 5 MiB at least.
pub(super) const PART: u64 = 16 << 20;
/// S3 takes no more.
const PARTS: u64 = 10_000;
/// How often somebody who wants the end is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// How long taking back may take: the process may be waiting to end.
const TAKE_BACK: Duration = Duration::from_secs(5);

/// What is sent.
pub(super) enum Body {
    Memory(Bytes),
    File(Arc<File>, PathBuf, u64),
}

impl Body {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(_, _, length) => *length,
        }
    }

    async fn range(&self, start: u64, end: u64) -> Result<Bytes, StorageError> {
        match self {
            Self::Memory(bytes) => Ok(bytes.slice(start as usize..end as usize)),
            Self::File(file, path, _) => {
                let file = file.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let mut bytes = vec![0; (end - start) as usize];
                    file.read_exact_at(&mut bytes, start)?;
                    Ok(Bytes::from(bytes))
                });
                let read = read.await.map_err(io::Error::other).flatten();
                let path = path.clone();
                read.map_err(|source| StorageError::File { path, source })
            }
        }
    }
}

/// One object on its way up.
pub(super) struct Upload<'a> {
    pub attempt: &'a Attempt<'a>,
    pub key: &'a str,
    pub content_type: &'a str,
    pub body: Body,
    /// Parts at the same time.
    pub at_once: usize,
    /// Is told the bytes of each part that has arrived.
    pub sent: &'a (dyn Fn(u64) + Sync),
    /// Whether to give up.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl Upload<'_> {
    /// Sends it, in one piece if it is small.
    pub(super) async fn send(&self) -> Result<(), StorageError> {
        let Attempt { client, to, .. } = self.attempt;
        let length = self.body.length();
        if length > PART {
            return self.in_parts().await;
        }
        let put = async {
            let body = self.body.range(0, length).await?;
            let put = client.put_object().bucket(&to.bucket).key(self.key);
            let put = put.content_type(self.content_type).body(body.into());
            let sent = put.send().await;
            sent.map(drop).map_err(|error| self.attempt.failed(&error))
        };
        self.unless_cancelled(put).await?;
        (self.sent)(length);
        Ok(())
    }

    async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        let end = async {
            while !(self.cancelled)() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            done = work => done,
            () = end => Err(StorageError::Cancelled),
        }
    }

    async fn in_parts(&self) -> Result<(), StorageError> {
        let Attempt { client, to, .. } = self.attempt;
        let begin = client
            .create_multipart_upload()
            .bucket(&to.bucket)
            .key(self.key);
        let begun = begin.content_type(self.content_type).send().await;
        let begun = begun.map_err(|error| self.attempt.failed(&error))?;
        let Some(id) = begun.upload_id() else {
            return Err(self.attempt.failed_with("it gave no upload id"));
        };
        let sent = self.unless_cancelled(self.parts(id)).await;
        if sent.is_err() {
            let abort = client.abort_multipart_upload().bucket(&to.bucket);
            let abort = abort.key(self.key).upload_id(id).send();
            let left = match tokio::time::timeout(TAKE_BACK, abort).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(self.attempt.failed(&error).to_string()),
                Err(_) => Some("no answer".to_owned()),
            };
            if let Some(error) = left {
                tracing::warn!(%error, "the parts of an upload that failed are still in the bucket");
            }
        }
        sent
    }

    async fn parts(&self, id: &str) -> Result<(), StorageError> {
        let Attempt { client, to, .. } = self.attempt;
        let length = self.body.length();
        let size = length.div_ceil(PARTS).max(PART);
        let parts = (0..length.div_ceil(size)).map(|index| async move {
            let start = index * size;
            let end = length.min(start + size);
            let body = self.body.range(start, end).await?;
            let number = i32::try_from(index + 1).unwrap_or(i32::MAX);
            let part = client.upload_part().bucket(&to.bucket).key(self.key);
            let part = part.upload_id(id).part_number(number).body(body.into());
            let sent = part.send().await;
            let sent = sent.map_err(|error| self.attempt.failed(&error))?;
            (self.sent)(end - start);
            Ok::<_, StorageError>(
                CompletedPart::builder()
                    .part_number(number)
                    .set_e_tag(sent.e_tag().map(str::to_owned))
                    .build(),
            )
        });
        let parts = stream::iter(parts).buffered(self.at_once.max(1));
        let parts: Vec<CompletedPart> = parts.try_collect().await?;
        let all = CompletedMultipartUpload::builder()
            .set_parts(Some(parts))
            .build();
        let done = client
            .complete_multipart_upload()
            .bucket(&to.bucket)
            .key(self.key);
        let done = done.upload_id(id).multipart_upload(all).send().await;
        done.map(drop).map_err(|error| self.attempt.failed(&error))
    }
}

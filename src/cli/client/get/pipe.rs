//! A pipe, a device or standard output as a destination: written bytes cannot be taken back.
//!
//! When the content has to be read again from its first byte, bytes that were written before are compared by their hash
//! instead of written twice, and only the following ones are written.

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// A writer that cannot go back.
pub(super) struct Pipe<W> {
    out: W,
    /// The name in errors.
    name: String,
    /// The hash of the bytes of the current pass.
    hasher: Sha256,
    len: u64,
    /// The bytes written before, while the current pass has not caught up with them.
    ahead: Option<Written>,
}

/// Written bytes.
struct Written {
    len: u64,
    digest: [u8; 32],
}

impl<W: AsyncWrite + Unpin> Pipe<W> {
    pub(super) fn new(out: W, name: String) -> Self {
        Self { out, name, hasher: Sha256::new(), len: 0, ahead: None }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.hasher.clone().finalize().into()
    }

    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> anyhow::Result<()> {
        if let Some(written) = &self.ahead {
            let known = usize::try_from(written.len - self.len).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.take(known, &mut bytes);
            self.compare()?;
        }
        self.out.write_all(bytes).await.with_context(|| format!("cannot write to {}", self.name))?;
        let rest = bytes.len();
        self.take(rest, &mut bytes);
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        self.out.flush().await.with_context(|| format!("cannot write to {}", self.name))
    }

    pub(super) fn restart(&mut self) {
        // If the last pass has not caught up yet, the written bytes are still the same.
        if self.ahead.is_none() && self.len > 0 {
            self.ahead = Some(Written { len: self.len, digest: self.digest() });
        }
        self.hasher = Sha256::new();
        self.len = 0;
    }

    /// Hashes the first bytes and removes them from the input.
    fn take(&mut self, count: usize, bytes: &mut &[u8]) {
        let (seen, rest) = bytes.split_at(count);
        self.hasher.update(seen);
        self.len += count as u64;
        *bytes = rest;
    }

    /// Once this pass has caught up, its bytes must be the same.
    fn compare(&mut self) -> anyhow::Result<()> {
        if let Some(written) = self.ahead.take_if(|written| written.len == self.len) {
            ensure!(written.digest == self.digest(), "the content is not what it was when its beginning was written");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_written_twice() {
        let mut pipe = Pipe::new(Vec::new(), "a pipe".into());
        pipe.write(b"abcd").await.unwrap();
        pipe.restart();
        pipe.write(b"ab").await.unwrap();
        // Cut off before it has caught up, and restarted once more.
        pipe.restart();
        pipe.write(b"abc").await.unwrap();
        pipe.write(b"def").await.unwrap();
        assert_eq!(pipe.out, b"abcdef");
        assert_eq!(pipe.len(), 6);
        assert_eq!(pipe.digest(), <[u8; 32]>::from(Sha256::digest(b"abcdef")));
    }

    #[tokio::test]
    async fn a_content_that_changed_is_noticed_before_more_is_written() {
        let mut pipe = Pipe::new(Vec::new(), "a pipe".into());
        pipe.write(b"abcd").await.unwrap();
        pipe.restart();
        assert!(pipe.write(b"abXdef").await.is_err());
        assert_eq!(pipe.out, b"abcd");
    }
}

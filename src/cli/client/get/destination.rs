//! Where the bytes of a content go, hashed on their way: into a file by its part, or into a pipe.

use std::path::Path;

use anyhow::bail;
use penstock_actors::ids::ContentHash;

use super::{part_file::PartFile, pipe::Pipe};

/// A file in the making, or standard output.
pub(super) enum Destination {
    File(PartFile),
    Pipe(Pipe<tokio::io::Stdout>),
}

impl Destination {
    /// Opens the place, with what an earlier run has left there.
    pub(super) async fn open(output: &Path) -> anyhow::Result<Self> {
        Ok(if output.as_os_str() == "-" {
            Self::Pipe(Pipe::new(tokio::io::stdout()))
        } else {
            Self::File(PartFile::open(output).await?)
        })
    }

    /// The bytes of the content that are there: the place of the next one.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File(part) => part.len(),
            Self::Pipe(pipe) => pipe.len(),
        }
    }

    /// The SHA-256 of the bytes that are there.
    pub(super) fn digest(&self) -> [u8; 32] {
        match self {
            Self::File(part) => part.digest(),
            Self::Pipe(pipe) => pipe.digest(),
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File(part) => part.write(bytes).await,
            Self::Pipe(pipe) => pipe.write(bytes).await,
        }
    }

    pub(super) async fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File(part) => part.flush().await,
            Self::Pipe(pipe) => pipe.flush().await,
        }
    }

    /// The next byte is the content's first again.
    pub(super) async fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File(part) => part.restart().await,
            Self::Pipe(pipe) => {
                pipe.restart();
                Ok(())
            }
        }
    }

    /// Makes the file real when its bytes are the content, and removes them when not.
    pub(super) async fn finish(self, expected: ContentHash) -> anyhow::Result<()> {
        let found = ContentHash::from_bytes(self.digest());
        match self {
            Self::File(part) if found == expected => part.keep().await,
            Self::File(part) => {
                part.discard().await?;
                bail!(
                    "the bytes are not the content: their hash is {found}; they were deleted, so that the next try begins afresh"
                )
            }
            Self::Pipe(mut pipe) => {
                pipe.flush().await?;
                if found != expected {
                    bail!("the bytes that were written are not the content: their hash is {found}");
                }
                Ok(())
            }
        }
    }
}

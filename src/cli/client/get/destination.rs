//! The destination of a content's bytes, hashed on their way: a file, by its part, or a stream that cannot go back.

use std::path::PathBuf;

use anyhow::{Context, bail};
use penstock_actors::ids::ContentHash;
use tokio::io::AsyncWrite;

use super::{part_file::PartFile, pipe::Pipe, target::OutputTarget};

/// A file under construction, or a stream: standard output, a pipe, a device.
pub(super) enum Destination {
    File(PartFile),
    Pipe(Pipe<Box<dyn AsyncWrite + Send + Unpin>>),
}

impl Destination {
    /// Opens the destination of a content, with the bytes of an earlier run.
    pub(super) async fn open(target: OutputTarget, content: ContentHash) -> anyhow::Result<Self> {
        Ok(match target {
            OutputTarget::StandardOutput => {
                Self::Pipe(Pipe::new(Box::new(tokio::io::stdout()), "standard output".into()))
            }
            OutputTarget::Stream(path) => Self::stream(path).await?,
            OutputTarget::File(path) => Self::File(PartFile::open(&path, content).await?),
        })
    }

    /// Opens an existing file as it is. A pipe waits for its reader.
    async fn stream(path: PathBuf) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        // A file that a shell has opened for this process is appended to: its present content does not belong to this
        // command.
        let is_file = tokio::fs::metadata(&path).await.is_ok_and(|standing| standing.is_file());
        let opened = tokio::fs::File::options().write(true).append(is_file).open(&path).await;
        let file = opened.with_context(|| format!("cannot write to {name}"))?;
        Ok(Self::Pipe(Pipe::new(Box::new(file), name)))
    }

    /// The number of bytes of the content that are written: the position of the next one.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::File(part) => part.len(),
            Self::Pipe(pipe) => pipe.len(),
        }
    }

    /// The SHA-256 of the bytes that are written.
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

    /// Gives the file its name when its bytes are the content, and deletes them otherwise.
    pub(super) async fn finish(self, expected: ContentHash) -> anyhow::Result<()> {
        let found = ContentHash::from_bytes(self.digest());
        match self {
            Self::File(part) if found == expected => part.keep().await,
            Self::File(part) => {
                part.discard().await?;
                bail!(
                    "the bytes are not the content: their hash is {found}; they were deleted, so that the next attempt starts from the beginning"
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

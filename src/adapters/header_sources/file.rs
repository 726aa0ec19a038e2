//! A file of headers: 80 bytes each, from the first block on. Others may append to it; the bytes after the last whole header wait.

use std::path::PathBuf;

use async_trait::async_trait;
use penstock_actors::{
    model::{HEADER_BYTES, RawHeader},
    ports::{HEADERS_A_CALL, HeaderSource, PortError, PortResult},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _, SeekFrom},
};

const NAME: &str = "file";

/// A file of headers.
#[derive(Debug, Clone)]
pub struct HeaderFile {
    path: PathBuf,
}

impl HeaderFile {
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn fault(&self, error: impl std::fmt::Display) -> PortError {
        PortError::unavailable(NAME, format!("{}: {error}", self.path.display()))
    }
}

#[async_trait]
impl HeaderSource for HeaderFile {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn tip(&self) -> PortResult<u32> {
        let file = tokio::fs::metadata(&self.path).await.map_err(|error| self.fault(error))?;
        let count = file.len() / HEADER_BYTES as u64;
        let tip = count.checked_sub(1).ok_or_else(|| self.fault("it has no header"))?;
        u32::try_from(tip).map_err(|_| self.fault("it has more headers than there are"))
    }

    async fn headers(&self, from: u32, count: usize) -> PortResult<Vec<RawHeader>> {
        let length = (count.min(HEADERS_A_CALL) * HEADER_BYTES) as u64;
        let read = async {
            let mut file = File::open(&self.path).await?;
            file.seek(SeekFrom::Start(u64::from(from) * HEADER_BYTES as u64)).await?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes).await?;
            std::io::Result::Ok(bytes)
        };
        let bytes = read.await.map_err(|error| self.fault(error))?;
        let (headers, _rest) = bytes.as_chunks();
        Ok(headers.iter().copied().map(RawHeader).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_has_the_headers_that_are_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("headers");
        let source = HeaderFile::new(path.clone());
        assert!(source.tip().await.is_err(), "there is no file");
        std::fs::write(&path, [0; 79]).expect("written");
        assert!(source.tip().await.is_err(), "there is no whole header");
        let bytes: Vec<u8> = (0..5).flat_map(|number| [number; HEADER_BYTES]).chain([9; 40]).collect();
        std::fs::write(&path, bytes).expect("written");
        assert_eq!(source.tip().await.expect("a tip"), 4);
        let numbers = async |from, count| {
            let headers = source.headers(from, count).await.expect("headers");
            headers.iter().map(|header| header.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(numbers(1, 2).await, [1, 2]);
        assert_eq!(numbers(3, 100).await, [3, 4]);
        assert!(numbers(9, 100).await.is_empty());
    }
}

//! Processes that believe in another time.

#![allow(dead_code, reason = "shared by test binaries that each use a part of it")]

use std::path::Path;

/// What makes a process believe in another time. The test command installs it.
const LIBRARY: &str = "faketime/libfaketime.so.1";

/// Where the library is: Debian keeps it in the folder of the machine's kind.
fn library() -> String {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let found = folders.map(|folder| folder.join(LIBRARY)).find(|path| path.exists());
    found.expect("libfaketime is installed by ./test (on Debian: apt-get install faketime)").display().to_string()
}

/// Variables that set a process's wall clock so far ahead, as `+5s`. Time itself goes on as it does.
pub(crate) fn ahead(by: &str) -> [(&'static str, String); 3] {
    [("LD_PRELOAD", library()), ("FAKETIME", by.to_owned()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned())]
}

/// Variables that set a process's wall clock as far ahead as a file says, also when the file is changed.
pub(crate) fn by_file(file: &Path) -> [(&'static str, String); 5] {
    [
        ("LD_PRELOAD", library()),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        // Files are as old as they are.
        ("NO_FAKE_STAT", "1".to_owned()),
    ]
}

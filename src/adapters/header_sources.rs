//! The port `HeaderSource` on servers of headers, and on a file. Whatever a source gives is checked by its reader: here only its form is.

pub mod block_headers_service;
pub mod chaintracks;
pub mod file;
mod server;

pub use server::ServerSettings;

#[cfg(test)]
mod tests;

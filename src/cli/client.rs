//! The commands that speak to a node over HTTP.

//! Which build this is.

use prometheus::{IntGauge, Opts, Registry};

/// The commit that was built, where the one who builds says it; a source without its history does not tell.
const COMMIT: &str = match option_env!("PENSTOCK_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// The features that can be chosen, and whether they are built in.
const FEATURES: [(&str, bool); 4] = [
    ("jemalloc", cfg!(feature = "jemalloc")),
    ("mimalloc", cfg!(feature = "mimalloc")),
    ("otlp", cfg!(feature = "otlp")),
    ("rusoto", cfg!(feature = "rusoto")),
];

/// Exports the build. The value is 1, so that other metrics can be multiplied by it to get its labels.
///
/// # Errors
/// When it is exported already.
pub(super) fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    let features: Vec<&str> = FEATURES.iter().filter(|(_, built_in)| *built_in).map(|(name, _)| *name).collect();
    let help = "1; the labels say which version runs, of which commit, with which features.";
    let build = Opts::new("penstock_build_info", help)
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("commit", COMMIT)
        .const_label("features", features.join(","));
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    registry.register(Box::new(build))
}

//! Whether a build may run on a schema that a later build has made.
//!
//! A newer build migrates while older builds still run, and an operator may have to go back to an older one. So the
//! table `schema_floor` says which migration a build must at least know.

/// The versions of a build and of a schema, as numbers of migrations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Versions {
    /// The newest applied migration.
    pub(super) schema: i64,
    /// The newest migration of this build.
    pub(super) build: i64,
    /// The least version that the schema admits; `None` if the schema does not say.
    pub(super) least: Option<i64>,
}

impl Versions {
    /// Whether a later build has migrated.
    pub(super) const fn is_later(self) -> bool {
        self.schema > self.build
    }

    /// Why this build may not run on the schema of a later build, if it may not.
    pub(super) fn refusal(self) -> Option<String> {
        let Self { schema, build, least } = self;
        if !self.is_later() || least.is_some_and(|least| least <= build) {
            return None;
        }
        let asked =
            least.map_or_else(|| "does not admit older builds".to_owned(), |least| format!("needs at least {least}"));
        Some(format!(
            "the schema is at version {schema}, of a later release; this build knows {build}, and the schema {asked}: start the later \
             release, or restore a database from before its migration"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_runs_on_a_later_schema_that_says_so_and_on_no_other() {
        let refusal = |schema, build, least| Versions { schema, build, least }.refusal();
        assert_eq!(refusal(20, 23, None), None, "it migrates");
        assert_eq!(refusal(23, 23, Some(23)), None);
        assert_eq!(refusal(25, 23, Some(23)), None);
        let refused = refusal(25, 23, Some(24)).expect("refused");
        assert!(["25", "23", "24"].iter().all(|number| refused.contains(number)), "{refused}");
        assert!(refusal(25, 23, None).is_some());
    }
}

//! Maps file-system errors to errors of the port.

use std::{
    io::{Error, ErrorKind},
    path::Path,
};

use penstock_actors::ports::PortError;

/// The name of this store in errors.
pub(super) const STORE: &str = "blob storage";

/// Names the attempted action and the path. The path goes to logs only: operators may see it, clients must not.
pub(super) fn fault(attempt: &'static str, path: &Path) -> impl FnOnce(Error) -> PortError {
    move |error| match error.kind() {
        // ENOSPC, EDQUOT, and EFBIG: the largest file that the file system or the process's limits allow.
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => PortError::Full(STORE),
        _ => PortError::unavailable(STORE, format!("cannot {attempt} {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_disk_quota_are_no_room_and_may_be_tried_again() {
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EFBIG] {
            let error = fault("write", Path::new("/x"))(Error::from_raw_os_error(errno));
            assert!(matches!(error, PortError::Full(STORE)), "{errno}: {error}");
            assert!(error.is_retryable());
        }
    }

    #[test]
    fn any_other_failure_names_what_was_tried_and_where() {
        let error = fault("write", Path::new("/x/y"))(Error::from_raw_os_error(libc::EROFS));
        assert!(error.to_string().starts_with("blob storage is unavailable: cannot write /x/y: "), "{error}");
    }
}

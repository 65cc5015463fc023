//! The file of the farm key: one key a line, the first one signs.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipos_core::{FarmKey, FarmKeyError};
use zeroize::Zeroizing;

/// Longest file that is read, in bytes: keys and a few lines about them.
const LONGEST: usize = 4_096;
/// Permissions of the group and of all others.
const OTHERS: u32 = 0o077;

/// What is wrong with a key file: one line.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("`{file}` cannot be read: {error}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        error: io::Error,
    },
    /// It is a directory, a device or a pipe.
    #[error("`{file}` is not a regular file")]
    Irregular {
        /// The file.
        file: String,
    },
    /// Others than its owner may read or write it.
    #[error("`{file}` is not its owner's alone (mode {mode:04o}): `chmod 600 {file}`")]
    Open {
        /// The file.
        file: String,
        /// Its permissions.
        mode: u32,
    },
    /// It is longer than a key file ever is.
    #[error("`{file}` is longer than {LONGEST} bytes: that is no key file")]
    Long {
        /// The file.
        file: String,
    },
    /// Its text is no farm key.
    #[error("`{file}` {error}")]
    Key {
        /// The file.
        file: String,
        /// Why.
        error: FarmKeyError,
    },
}

/// Reads the farm key that the configuration file at `configuration` names; a relative path begins where that file is.
///
/// # Errors
/// The file cannot be read, may be read or written by others than its owner, or is no key file.
pub fn read(configuration: &Path, name: &Path) -> Result<FarmKey, KeyFileError> {
    let path = configuration.parent().unwrap_or(Path::new("")).join(name);
    let file = path.display().to_string();
    let unreadable = |error| KeyFileError::Read {
        file: file.clone(),
        error,
    };
    // Before it is opened: that would wait for the writer of a pipe.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(KeyFileError::Irregular { file });
    }
    let opened = File::open(&path).map_err(unreadable)?;
    // Of the file that is open, whatever the name leads to by now.
    let mode = opened.metadata().map_err(unreadable)?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::Open { file, mode });
    }
    // With its whole capacity at once: what is moved on growth would stay in memory.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST + 2));
    let limit = LONGEST as u64 + 1;
    opened
        .take(limit)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() > LONGEST {
        return Err(KeyFileError::Long { file });
    }
    text.parse()
        .map_err(|error| KeyFileError::Key { file, error })
}

#[cfg(test)]
mod tests;

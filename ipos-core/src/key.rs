//! The farm key: whoever holds it is a member of the farm.

use core::fmt;
use core::str::FromStr;

use arrayvec::ArrayVec;
use base64ct::Encoding;
use hmac::{Hmac, KeyInit, Mac};
use ipos_proto::TAG_LEN;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The keys of a farm: the first one signs what a device sends, and any of them vouches for what comes. Where a
/// device has one ([`Config::farm_key`](crate::Config::farm_key)), frames of Port B of every type but 0x02 and all Synch messages without a
/// right tag are dropped, and so is what comes twice.
///
/// The tag is HMAC-SHA-256 (RFC 2104), truncated to 16 bytes.
///
/// ```
/// use ipos_core::FarmKey;
///
/// let key: FarmKey = "
///     ## new, then the one that it replaces
///     b70d1f0b8a7be26bb4b9f4a5bd4e61a0ae2be53bd8f16f3c3a6ad2c9e1f9a90e
///     LXEWQrcmsEQBYnyp+6wy9chTD7GQPMTbAiWHF5IaSIE=
/// ".parse()?;
/// assert_eq!(format!("{key:?}"), "FarmKey(2 keys)");
/// # Ok::<(), ipos_core::FarmKeyError>(())
/// ```
#[derive(Clone)]
pub struct FarmKey {
    signs: Secret,
    /// Those that are accepted too.
    others: ArrayVec<Secret, { FarmKey::MOST - 1 }>,
}

type Secret = Zeroizing<[u8; FarmKey::LEN]>;

/// A text that is no farm key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FarmKeyError {
    /// There is none in it.
    #[error("has no key: make one with `openssl rand -hex 32`")]
    Missing,
    /// A line is no key.
    #[error(
        "line {line} is not a key: 32 bytes as 64 hexadecimal digits or in base64, as `openssl rand -hex 32` makes them"
    )]
    Unreadable {
        /// The line, from 1.
        line: usize,
    },
    /// There are more than [`FarmKey::MOST`].
    #[error("line {line} is a further key: {most} at most are accepted at a time", most = FarmKey::MOST)]
    TooMany {
        /// The line of the first that is too many, from 1.
        line: usize,
    },
}

impl FarmKey {
    /// Bytes of a key.
    pub const LEN: usize = 32;
    /// Keys that are accepted at a time.
    pub const MOST: usize = 4;

    /// One key, which signs and is accepted.
    pub fn new(key: [u8; FarmKey::LEN]) -> FarmKey {
        FarmKey {
            signs: Zeroizing::new(key),
            others: ArrayVec::new(),
        }
    }

    /// Puts a tag into the last 16 bytes of `message`, over all bytes before them. Shorter messages stay as they are.
    pub fn sign(&self, message: &mut [u8]) {
        if let Some((signed, tag)) = message.split_last_chunk_mut::<TAG_LEN>() {
            let right = hmac(&self.signs, signed).finalize().into_bytes();
            tag.copy_from_slice(&right[..TAG_LEN]);
        }
    }

    /// Whether a holder of one of the keys has put this tag on these bytes. Takes the same time wherever a tag is wrong.
    pub fn verify(&self, signed: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.keys()
            .any(|key| hmac(key, signed).verify_truncated_left(tag).is_ok())
    }

    fn keys(&self) -> impl Iterator<Item = &Secret> {
        core::iter::once(&self.signs).chain(&self.others)
    }
}

fn hmac(key: &Secret, signed: &[u8]) -> Hmac<Sha256> {
    // HMAC takes keys of any length.
    let mut hmac = Hmac::<Sha256>::new_from_slice(&key[..]).expect("a key of HMAC");
    hmac.update(signed);
    hmac
}

/// One key a line, in hexadecimal or base64. Empty lines and those that begin with `#` do not count.
impl FromStr for FarmKey {
    type Err = FarmKeyError;

    fn from_str(text: &str) -> Result<FarmKey, FarmKeyError> {
        let lines = (1..).zip(text.lines().map(str::trim));
        let mut keys = lines.filter(|(_, text)| !text.is_empty() && !text.starts_with('#'));
        let read = |(line, text): (usize, &str)| {
            let key = read_key(text).ok_or(FarmKeyError::Unreadable { line })?;
            Ok((line, key))
        };
        let (_, signs) = keys.next().map(read).ok_or(FarmKeyError::Missing)??;
        let mut others = ArrayVec::new();
        for key in keys.map(read) {
            let (line, key) = key?;
            let full = |_| FarmKeyError::TooMany { line };
            others.try_push(key).map_err(full)?;
        }
        Ok(FarmKey { signs, others })
    }
}

fn read_key(text: &str) -> Option<Secret> {
    let mut key = Secret::default();
    // In constant time: what is decoded is secret.
    let decoded = match text.len() {
        len if len == 2 * FarmKey::LEN => base16ct::mixed::decode(text, &mut key[..]).ok()?,
        _ => base64ct::Base64Unpadded::decode(text.trim_end_matches('='), &mut key[..]).ok()?,
    };
    (decoded.len() == FarmKey::LEN).then_some(key)
}

impl PartialEq for FarmKey {
    fn eq(&self, other: &FarmKey) -> bool {
        let same = |(a, b): (&Secret, &Secret)| bool::from(a.ct_eq(&b[..]));
        self.others.len() == other.others.len() && self.keys().zip(other.keys()).all(same)
    }
}

impl Eq for FarmKey {}

/// Says how many keys there are, and none of them.
impl fmt::Debug for FarmKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = 1 + self.others.len();
        write!(
            f,
            "FarmKey({count} key{})",
            if count == 1 { "" } else { "s" }
        )
    }
}

#[cfg(test)]
mod tests;

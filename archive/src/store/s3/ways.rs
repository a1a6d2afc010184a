//! How a provider wants to be asked: what the settings say, or what was found out.

use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

/// Where the bucket's name is in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addressing {
    /// `virtual` at AWS; elsewhere `path`, unless the provider turns out to support only `virtual`.
    #[default]
    Auto,
    /// `https://host/bucket/key`.
    Path,
    /// `https://bucket.host/key`.
    Virtual,
}

/// The checksum that is sent with each body, besides the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Checksum {
    /// `crc32c` at AWS; elsewhere `none`, unless the provider turns out to require one.
    #[default]
    Auto,
    /// The header `Content-MD5`.
    Md5,
    /// The header `x-amz-checksum-crc32c`.
    Crc32c,
    /// No checksum.
    None,
}

impl Addressing {
    const ALL: [Self; 3] = [Self::Auto, Self::Path, Self::Virtual];

    /// The word in settings: `auto`, `path` or `virtual`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Path => "path",
            Self::Virtual => "virtual",
        }
    }
}

impl Checksum {
    const ALL: [Self; 4] = [Self::Auto, Self::Md5, Self::Crc32c, Self::None];

    /// The word in settings: `auto`, `md5`, `crc32c` or `none`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Md5 => "md5",
            Self::Crc32c => "crc32c",
            Self::None => "none",
        }
    }
}

impl FromStr for Addressing {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("must be auto, path or virtual, got {text:?}"))
    }
}

impl FromStr for Checksum {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| format!("must be auto, md5, crc32c or none, got {text:?}"))
    }
}

impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ways in use, none of them `Auto`. A probe's findings are kept in this form for whoever opens the same bucket
/// next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// Where the bucket's name is in a request.
    pub addressing: Addressing,
    /// Which checksum is sent with each body.
    pub checksum: Checksum,
    /// Whether this provider answers "forbidden" for objects that do not exist.
    #[serde(default)]
    pub absent_is_denied: bool,
}

#[derive(Debug)]
pub(super) struct Ways {
    addressing: Addressing,
    checksum: Checksum,
    in_use: Mutex<InUse>,
}

impl Ways {
    pub(super) fn new(addressing: Addressing, checksum: Checksum, absent_is_denied: bool, aws: bool) -> Self {
        let first = InUse {
            addressing: match addressing {
                Addressing::Auto if aws => Addressing::Virtual,
                Addressing::Auto => Addressing::Path,
                said => said,
            },
            checksum: match checksum {
                Checksum::Auto if aws => Checksum::Crc32c,
                Checksum::Auto => Checksum::None,
                said => said,
            },
            absent_is_denied,
        };
        Self { addressing, checksum, in_use: Mutex::new(first) }
    }

    pub(super) fn in_use(&self) -> InUse {
        *self.lock()
    }

    /// For people: what is used, and whether it was set or found out.
    pub(super) fn told(&self) -> Vec<String> {
        let InUse { addressing, checksum, absent_is_denied } = self.in_use();
        let auto = |is_auto: bool| if is_auto { " (auto)" } else { "" };
        let mut told = vec![
            format!("addressing {addressing}{}", auto(self.addressing == Addressing::Auto)),
            format!("checksum {checksum}{}", auto(self.checksum == Checksum::Auto)),
        ];
        if absent_is_denied {
            told.push("missing objects answer 403".into());
        }
        told
    }

    /// The other way of addressing, if none was set and it was not tried yet.
    pub(super) fn other_addressing(&self) -> Option<Addressing> {
        let open = self.addressing == Addressing::Auto && self.in_use().addressing == Addressing::Path;
        open.then_some(Addressing::Virtual)
    }

    pub(super) fn address_by(&self, addressing: Addressing) {
        self.lock().addressing = addressing;
    }

    pub(super) fn absent_is_denied(&self, is_so: bool) {
        self.lock().absent_is_denied = is_so;
    }

    /// Called after a provider refused a body that was sent with `used`, and requires a checksum. Returns whether
    /// there is another way to try, which is used from now on. Content-MD5 comes first, because it is older.
    pub(super) fn check_otherwise(&self, used: Checksum) -> bool {
        if self.checksum != Checksum::Auto {
            return false;
        }
        let mut in_use = self.lock();
        // Another request may have switched already.
        if in_use.checksum == used {
            in_use.checksum = match used {
                Checksum::None | Checksum::Auto => Checksum::Md5,
                Checksum::Md5 => Checksum::Crc32c,
                Checksum::Crc32c => return false,
            };
        }
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InUse> {
        self.in_use.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_printed() {
        for one in Addressing::ALL {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        for one in Checksum::ALL {
            assert_eq!(one.to_string().parse(), Ok(one));
        }
        "PATH".parse::<Addressing>().expect_err("capitals");
        "sha256".parse::<Checksum>().expect_err("another");
    }

    #[test]
    fn a_checksum_that_is_demanded_is_found_step_by_step_where_nobody_says_which() {
        let ways = Ways::new(Addressing::Auto, Checksum::Auto, false, false);
        assert_eq!(ways.in_use().checksum, Checksum::None);
        assert!(ways.check_otherwise(Checksum::None) && ways.check_otherwise(Checksum::None), "twice is once");
        assert_eq!(ways.in_use().checksum, Checksum::Md5);
        assert!(ways.check_otherwise(Checksum::Md5) && !ways.check_otherwise(Checksum::Crc32c));
        for said in [Checksum::None, Checksum::Md5, Checksum::Crc32c] {
            assert!(!Ways::new(Addressing::Auto, said, false, false).check_otherwise(said), "{said}");
        }
    }

    #[test]
    fn aws_and_others_begin_differently() {
        let ways = |aws| Ways::new(Addressing::Auto, Checksum::Auto, false, aws);
        assert_eq!(ways(true).told(), ["addressing virtual (auto)", "checksum crc32c (auto)"]);
        assert_eq!(ways(false).told(), ["addressing path (auto)", "checksum none (auto)"]);
        assert_eq!((ways(true).other_addressing(), ways(false).other_addressing()), (None, Some(Addressing::Virtual)));
        let said = Ways::new(Addressing::Path, Checksum::Md5, true, true);
        assert_eq!(said.told(), ["addressing path", "checksum md5", "missing objects answer 403"]);
        assert_eq!(said.other_addressing(), None);
    }
}

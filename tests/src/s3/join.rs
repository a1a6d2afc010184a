//! Completing an upload as a provider does: the parts are put behind each other, and nothing is hashed again.
//!
//! s3s-fs reads and digests every part once more, at the very end, where nothing else goes on: a benchmark would
//! measure that. What is written here is what s3s-fs reads.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use md5::{Digest, Md5};
use serde_json::json;

/// An object that is to be made of parts.
pub(super) struct Join<'a> {
    /// The folder that s3s-fs serves.
    pub root: &'a Path,
    pub bucket: &'a str,
    pub key: &'a str,
    pub upload: &'a str,
    /// The files of the parts, in their order.
    pub parts: Vec<PathBuf>,
    /// Their ETags: MD5 in hexadecimal.
    pub e_tags: Vec<String>,
}

impl Join<'_> {
    /// Makes the object, and returns its ETag. It appears at once.
    pub fn run(&self) -> io::Result<String> {
        let e_tag = e_tag_of(&self.e_tags)?;
        let (first, others) = self.parts.split_first().ok_or_else(|| io::Error::other("an upload without parts"))?;
        // Not opened for appending: then the kernel would not copy from file to file by itself.
        let mut whole = OpenOptions::new().write(true).open(first)?;
        whole.seek(SeekFrom::End(0))?;
        for part in others {
            io::copy(&mut File::open(part)?, &mut whole)?;
        }
        let object = self.root.join(self.bucket).join(self.key);
        fs::create_dir_all(object.parent().unwrap_or(self.root))?;
        self.keep_metadata()?;
        fs::write(self.beside("internal"), json!({ "e_tag": e_tag }).to_string())?;
        fs::rename(first, object)?;
        for part in others {
            fs::remove_file(part)?;
        }
        gone_or(fs::remove_file(self.root.join(format!(".upload-{}.json", self.upload))))?;
        Ok(e_tag)
    }

    /// What the upload was begun with becomes the object's.
    fn keep_metadata(&self) -> io::Result<()> {
        gone_or(fs::rename(self.beside(&format!("upload-{}.metadata", self.upload)), self.beside("metadata")))
    }

    fn beside(&self, what: &str) -> PathBuf {
        let encode = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        self.root.join(format!(".bucket-{}.object-{}.{what}.json", encode(self.bucket), encode(self.key)))
    }
}

/// There was none: the upload has none, then.
fn gone_or(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The MD5 of the parts' MD5s, and how many there are, as AWS forms it.
fn e_tag_of(parts: &[String]) -> io::Result<String> {
    let mut digest = Md5::new();
    for part in parts {
        let wrong = || io::Error::other(format!("the ETag {part} is no MD5"));
        let bytes = (0..part.len()).step_by(2).map(|at| u8::from_str_radix(part.get(at..at + 2)?, 16).ok());
        digest.update(bytes.collect::<Option<Vec<u8>>>().ok_or_else(wrong)?);
    }
    let hex: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{hex}-{}", parts.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_e_tag_is_formed_as_aws_forms_it() {
        // One empty part, as AWS answers it.
        let empty = "d41d8cd98f00b204e9800998ecf8427e".to_owned();
        assert_eq!(e_tag_of(&[empty]).expect("an MD5"), "59adb24ef3cdbe0297f05b395827453f-1");
        assert!(e_tag_of(&["xy".into()]).is_err());
    }
}

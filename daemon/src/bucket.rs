//! The flags for access to a bucket, shared by every command that takes the URL of a store.

use std::fmt;
use std::path::PathBuf;

use backstay_archive::store::s3::{Addressing, Checksum, ObjectSettings, S3Settings};
use backstay_archive::store::spec::{self, StoreSpec};
use clap::Args;

use crate::terminal::shell_word;

/// A store as it was typed. As text, what names it in a command that can be pasted: `--store URL`, and the flags.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// `file:///path` or `s3://bucket[/prefix]`, not checked yet.
    pub url: String,
    /// The flags that say how to get into it, such as `--endpoint URL`.
    pub flags: Vec<String>,
}

impl Named {
    /// The store that is meant, with the settings of its bucket.
    ///
    /// # Errors
    /// In words that name the flag, for whoever typed it.
    pub fn parse(&self, s3: S3Settings) -> Result<StoreSpec, String> {
        spec::parse_url(&self.url, s3).map_err(|text| format!("--store: {text}"))
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--store {}", shell_word(&self.url))?;
        self.flags.iter().try_for_each(|word| write!(f, " {}", shell_word(word)))
    }
}

/// Flags for reading from a bucket.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Store")]
pub struct Bucket {
    /// Region of the bucket [default: AWS_REGION, AWS_DEFAULT_REGION or us-east-1]
    #[arg(long, value_name = "REGION")]
    region: Option<String>,
    /// URL of the S3 endpoint [default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or Amazon's]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// CA certificate to verify the S3 endpoint with [default: AWS_CA_BUNDLE or the system's CAs]
    #[arg(long, value_name = "FILE")]
    s3_ca: Option<PathBuf>,
    /// How the bucket is addressed, by URL path or by host name: auto, path or virtual
    #[arg(long, value_name = "WAY", default_value_t, hide_default_value = true)]
    s3_addressing: Addressing,
}

impl Bucket {
    /// What the flags say. The store itself takes what is not given from AWS's environment: region, endpoint, CA and
    /// credentials.
    pub fn settings(&self) -> S3Settings {
        S3Settings {
            region: self.region.clone().unwrap_or_default(),
            endpoint: self.endpoint.clone().unwrap_or_default(),
            ca_file: self.s3_ca.clone(),
            ca_source: "--s3-ca",
            addressing: self.s3_addressing,
            ..S3Settings::default()
        }
    }

    /// The flags that were given, as arguments of another command that reads the same bucket.
    pub fn words(&self) -> Vec<String> {
        let ca = self.s3_ca.as_ref().map(|path| path.to_string_lossy().into_owned());
        let addressing = Some(self.s3_addressing).filter(|way| *way != Addressing::default());
        let given = [
            ("--region", self.region.clone()),
            ("--endpoint", self.endpoint.clone()),
            ("--s3-ca", ca),
            ("--s3-addressing", addressing.map(|way| way.to_string())),
        ];
        given.into_iter().filter_map(|(flag, value)| Some([flag.to_owned(), value?])).flatten().collect()
    }
}

/// Flags for writing to a bucket.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Store")]
pub struct WritableBucket {
    #[command(flatten)]
    bucket: Bucket,
    /// Storage class for backups, such as STANDARD_IA [default: that of the bucket]
    #[arg(long, value_name = "CLASS", default_value = "", hide_default_value = true)]
    storage_class: String,
    /// Server-side encryption: AES256, aws:kms or aws:kms:dsse [default: that of the bucket]
    #[arg(long, value_name = "ALGORITHM", default_value = "", hide_default_value = true)]
    server_side_encryption: String,
    /// Key ID for aws:kms [default: the AWS managed key]
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    kms_key_id: String,
    /// Checksum to send with each upload: auto, md5, crc32c or none
    #[arg(long, value_name = "KIND", default_value_t, hide_default_value = true)]
    s3_checksum: Checksum,
}

impl WritableBucket {
    /// As [`Bucket::words`]; flags that matter only for writing are left out.
    pub fn words(&self) -> Vec<String> {
        self.bucket.words()
    }

    /// As [`Bucket::settings`].
    pub fn settings(&self) -> S3Settings {
        let objects = ObjectSettings {
            storage_class: self.storage_class.clone(),
            server_side_encryption: self.server_side_encryption.clone(),
            kms_key_id: self.kms_key_id.clone(),
        };
        S3Settings { objects, checksum: self.s3_checksum, ..self.bucket.settings() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bucket: WritableBucket,
    }

    #[test]
    fn a_store_is_named_in_a_line_and_refused_by_its_flag() {
        let flags = ["--endpoint", "http://h:1", "--s3-ca", "a b"].map(str::to_owned).to_vec();
        let named = Named { url: "file:///my backups".into(), flags };
        assert_eq!(named.to_string(), "--store 'file:///my backups' --endpoint http://h:1 --s3-ca 'a b'");
        let error = Named { url: "/path".into(), flags: Vec::new() }.parse(S3Settings::default()).expect_err("no URL");
        assert!(error.starts_with(r#"--store: invalid store "/path": "#), "{error}");
    }

    #[test]
    fn every_flag_is_a_setting() {
        let line = "x --region r --endpoint http://e --s3-ca /ca --s3-addressing virtual --storage-class C \
                    --server-side-encryption aws:kms --kms-key-id k --s3-checksum crc32c";
        let bucket = Line::try_parse_from(line.split_whitespace()).expect("flags").bucket;
        let words = "--region r --endpoint http://e --s3-ca /ca --s3-addressing virtual";
        assert_eq!(bucket.words().join(" "), words);
        let settings = bucket.settings();
        let objects = ObjectSettings {
            storage_class: "C".into(),
            server_side_encryption: "aws:kms".into(),
            kms_key_id: "k".into(),
        };
        assert_eq!(settings.objects, objects);
        assert_eq!((settings.addressing, settings.checksum), (Addressing::Virtual, Checksum::Crc32c));
        assert_eq!((settings.region.as_str(), settings.endpoint.as_str()), ("r", "http://e"));
        assert_eq!(settings.ca_file, Some("/ca".into()));
        let none = Line::try_parse_from(["x"]).expect("no flags").bucket;
        assert_eq!(none.words(), Vec::<String>::new());
        let none = none.settings();
        assert_eq!((none.objects, none.addressing, none.checksum), Default::default());
    }
}

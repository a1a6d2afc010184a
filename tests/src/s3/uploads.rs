//! The book of multipart uploads: one small file per open upload, so that it outlives the server.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::json;

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpload {
    pub key: String,
    pub upload_id: String,
}

#[derive(Debug)]
pub(super) struct Uploads {
    folder: PathBuf,
    memory: Mutex<UploadHistory>,
}

#[derive(Debug, Default)]
struct UploadHistory {
    /// The ETags that were given out, by upload and part.
    e_tags: HashMap<(String, i32), String>,
    /// What became of completed uploads: bucket, key, ETag.
    completed: HashMap<String, (String, String, String)>,
}

impl Uploads {
    pub fn open(folder: PathBuf) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
        Ok(Self { folder, memory: Mutex::default() })
    }

    pub fn add(&self, bucket: &str, key: &str, upload: &str) -> std::io::Result<()> {
        fs::write(self.file(upload), json!({ "bucket": bucket, "key": key }).to_string())
    }

    pub fn is_open(&self, bucket: &str, key: &str, upload: &str) -> bool {
        self.read(upload).is_some_and(|(b, k)| b == bucket && k == key)
    }

    pub fn remove(&self, upload: &str) {
        // Gone already is as good.
        let _ = fs::remove_file(self.file(upload));
    }

    pub fn complete(&self, bucket: &str, key: &str, upload: &str, e_tag: &str) {
        self.remove(upload);
        let fate = (bucket.to_owned(), key.to_owned(), e_tag.to_owned());
        self.memory().completed.insert(upload.to_owned(), fate);
    }

    /// The object's ETag, of an upload that was completed.
    pub fn completed(&self, bucket: &str, key: &str, upload: &str) -> Option<String> {
        let memory = self.memory();
        let (b, k, e_tag) = memory.completed.get(upload)?;
        (b == bucket && k == key).then(|| e_tag.clone())
    }

    pub fn add_part(&self, upload: &str, number: i32, e_tag: String) {
        self.memory().e_tags.insert((upload.to_owned(), number), e_tag);
    }

    /// The ETag of a part; `None` too for one that an earlier server took.
    pub fn e_tag(&self, upload: &str, number: i32) -> Option<String> {
        self.memory().e_tags.get(&(upload.to_owned(), number)).cloned()
    }

    /// Open uploads of a bucket by key and id, with when they were begun.
    pub fn list(&self, bucket: &str) -> BTreeMap<(String, String), SystemTime> {
        let mut open = BTreeMap::new();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let upload = entry.file_name().to_string_lossy().trim_end_matches(".json").to_owned();
            let begun = entry.metadata().and_then(|m| m.modified());
            // A file that is gone by now was completed or aborted.
            if let (Some((b, key)), Ok(begun)) = (self.read(&upload), begun)
                && b == bucket
            {
                open.insert((key, upload), begun);
            }
        }
        open
    }

    fn read(&self, upload: &str) -> Option<(String, String)> {
        let value: serde_json::Value = serde_json::from_slice(&fs::read(self.file(upload)).ok()?).ok()?;
        Some((value["bucket"].as_str()?.to_owned(), value["key"].as_str()?.to_owned()))
    }

    fn file(&self, upload: &str) -> PathBuf {
        // An upload id comes from a request: nothing of it may leave the folder.
        let safe: String = upload.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        self.folder.join(format!("{safe}.json"))
    }

    fn memory(&self) -> MutexGuard<'_, UploadHistory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

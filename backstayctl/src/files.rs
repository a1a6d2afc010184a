//! Reading what `-f` names: files, folders, standard input. Sizes and depths are limited.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::reader::TEXT_MAX;

/// How deep folders are searched.
const FOLDERS_MAX: usize = 16;

/// The name that stands for standard input.
const STDIN: &str = "-";

/// A file that could not be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileError {
    pub file: String,
    pub reason: String,
}

/// A text, and its name for errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub file: String,
    pub text: String,
}

/// The text of one file, or of `stdin` if `path` is `-`.
///
/// # Errors
/// It cannot be read, is too large, or is not UTF-8.
pub fn read(path: &Path, stdin: &mut dyn Read) -> Result<Text, FileError> {
    let file = path.display().to_string();
    let failed = |reason: String| FileError { file: file.clone(), reason };
    let bytes = match path.to_str() {
        Some(STDIN) => bounded(stdin),
        _ => File::open(path).and_then(|mut opened| bounded(&mut opened)),
    };
    let bytes = bytes.map_err(|e| failed(format!("cannot read it: {e}")))?;
    if bytes.len() > TEXT_MAX {
        return Err(failed(format!("it is larger than {TEXT_MAX} bytes, the most that is allowed")));
    }
    let text = String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text".into()))?;
    Ok(Text { file, text })
}

/// Reads at most one byte more than is allowed.
fn bounded(source: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(TEXT_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files that `path` means: itself, or all `.yaml` and `.yml` files below a folder, sorted.
///
/// # Errors
/// The folder cannot be read, or has no such file.
pub fn expand(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    if path.to_str() == Some(STDIN) || !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, 0, &mut found)?;
    found.sort();
    match found.is_empty() {
        true => Err(FileError { file: path.display().to_string(), reason: "it contains no .yaml or .yml file".into() }),
        false => Ok(found),
    }
}

/// A link to a folder is not followed, since it may lead back here.
fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), FileError> {
    let failed = |reason: String| FileError { file: folder.display().to_string(), reason };
    if depth > FOLDERS_MAX {
        return Err(failed(format!("directories are nested more than {FOLDERS_MAX} levels deep")));
    }
    let cannot_read = |e: io::Error| failed(format!("cannot read it: {e}"));
    for entry in fs::read_dir(folder).map_err(cannot_read)? {
        let entry = entry.map_err(cannot_read)?;
        let path = entry.path();
        if entry.file_type().map_err(cannot_read)?.is_dir() {
            walk(&path, depth + 1, found)?;
        } else if is_yaml(&path) && !path.is_dir() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_its_yaml_files_sorted_at_every_depth() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("b/c")).expect("folders");
        for name in ["z.yaml", "a.yml", "b/c/x.yaml", "b/notes.txt", "yaml"] {
            fs::write(dir.path().join(name), "a: 1\n").expect("a file");
        }
        let found = expand(dir.path()).expect("files");
        let names: Vec<_> = found.iter().map(|p| p.strip_prefix(dir.path()).expect("inside")).collect();
        assert_eq!(names, [Path::new("a.yml"), Path::new("b/c/x.yaml"), Path::new("z.yaml")]);
        let error = expand(&dir.path().join("b/c/..")).map(|f| f.len());
        assert_eq!(error, Ok(1));
        fs::remove_file(dir.path().join("b/c/x.yaml")).expect("removed");
        assert_eq!(expand(&dir.path().join("b")).expect_err("empty").reason, "it contains no .yaml or .yml file");
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let mut stdin: &[u8] = b"a: 1\n";
        assert_eq!(read(Path::new("-"), &mut stdin), Ok(Text { file: "-".into(), text: "a: 1\n".into() }));
        let mut endless = io::repeat(b'a');
        let error = read(Path::new("-"), &mut endless).expect_err("too large");
        assert!(error.reason.contains("1048576 bytes"), "{error:?}");
        let error = read(Path::new("-"), &mut [0xFF_u8].as_slice()).expect_err("bytes");
        assert_eq!(error.reason, "it is not UTF-8 text");
        let error = read(Path::new("/nonexistent/x.yaml"), &mut io::empty()).expect_err("absent");
        assert!(error.file == "/nonexistent/x.yaml" && error.reason.starts_with("cannot read it: No such file"));
    }
}

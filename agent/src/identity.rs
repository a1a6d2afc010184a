//! The agent's own age identity: what only this agent may read is encrypted to it.

use backstay_archive::seal::{self, Identity};

use crate::state::{StateDir, StateError, read_optional, write_atomic};

const FILE: &str = "identity";
const COMMENT: &str =
    "The identity of this machine's backstay-agent. Made at its first start; if it is lost, a new one is made.";

/// Reads the identity from the state folder (mode 0600), or creates one at the first start.
///
/// # Errors
/// The file cannot be read or written, or holds no identity: it is never replaced then.
pub fn load_or_create(state: &StateDir) -> Result<Identity, StateError> {
    let path = state.file(FILE);
    let wrong = |cause: String| StateError { action: "use the identity", path: path.display().to_string(), cause };
    if let Some(bytes) = read_optional(&path)? {
        let text = zeroize::Zeroizing::new(bytes);
        let text = std::str::from_utf8(&text).map_err(|_| wrong("it is not UTF-8 text".into()))?;
        return seal::parse_identity(text).map_err(|e| wrong(e.to_string()));
    }
    let identity = Identity::generate();
    write_atomic(&path, seal::identity_file(&identity, COMMENT).as_bytes())?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_made_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateDir::open(folder.path()).expect("fresh");
        let first = load_or_create(&state).expect("made").to_public().to_string();
        assert_eq!(load_or_create(&state).expect("read").to_public().to_string(), first);
        std::fs::write(state.file(FILE), "AGE-SECRET-KEY-1BROKEN").expect("writable");
        let error = load_or_create(&state).err().expect("damaged").to_string();
        assert!(!error.contains("BROKEN"), "{error}");
    }
}

//! Reading files that hold a secret key.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// No key file is larger than this many bytes.
pub const KEY_FILE_MAX: usize = 16 * 1024;

/// The text of a key file, of which memory keeps no copy.
///
/// # Errors
/// It cannot be read, or is not text.
pub fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // Room for all that is taken: the buffer never grows and leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_MAX));
    File::open(path)?.take(KEY_FILE_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}

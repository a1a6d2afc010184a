//! Which machine this is, if the settings do not say: its own UUID, or one that is derived from its machine id.

use std::path::Path;

use backstay_protocol::MachineId;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid, Variant};

/// The UUID of the mainboard; only root may read it.
const PRODUCT_UUID: &str = "sys/class/dmi/id/product_uuid";

/// systemd's id of the installation.
const MACHINE_ID: &str = "etc/machine-id";

/// UUIDs of mainboards that have no id of their own; many machines share them.
const SHARED: [u128; 4] =
    [0, u128::MAX, 0x0300_0200_0400_0500_0006_0007_0008_0009, 0x0001_0203_0405_0607_0809_0A0B_0C0D_0E0F];

/// Neither source identifies this machine.
#[derive(Debug, thiserror::Error)]
#[error("cannot identify this machine: neither /{PRODUCT_UUID} nor /{MACHINE_ID} is usable; set `machine` to a UUID")]
pub struct UnknownMachine;

/// The id of the machine whose root folder is `root`: the mainboard's UUID if it is unique and can be read, otherwise a
/// UUID that is derived from the machine id, which cannot be computed back from it.
///
/// # Errors
/// Neither can be read.
pub fn identify(root: &Path) -> Result<MachineId, UnknownMachine> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok().map(|text| text.trim().to_owned());
    let board = read(PRODUCT_UUID).and_then(|text| Uuid::try_parse(&text).ok());
    if let Some(id) = board.filter(|id| !SHARED.contains(&id.as_u128())) {
        return Ok(MachineId(id));
    }
    let installation = read(MACHINE_ID).filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    installation.map(|id| MachineId(derive(&id))).ok_or(UnknownMachine)
}

/// A UUID of version 8: the first bytes of a sha256.
fn derive(machine_id: &str) -> Uuid {
    let digest = Sha256::digest(format!("backstay machine {}", machine_id.to_ascii_lowercase()));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0F | 0x80;
    Builder::from_bytes(bytes).with_variant(Variant::RFC4122).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(board: Option<&str>, installation: Option<&str>) -> Option<String> {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in [(PRODUCT_UUID, board), (MACHINE_ID, installation)] {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("writable");
            if let Some(text) = text {
                std::fs::write(path, text).expect("writable");
            }
        }
        identify(root.path()).ok().map(|id| id.to_string())
    }

    #[test]
    fn the_mainboard_counts_where_it_has_an_id_of_its_own() {
        let derived = Some("ba1ffa97-acfd-8dee-aeb0-17ea1201cf4d");
        let installation = Some("0123456789abcdef0123456789abcdef\n");
        let board = Some("01234567-0123-4123-8123-0123456789AB\n");
        assert_eq!(machine(board, installation).as_deref(), Some("01234567-0123-4123-8123-0123456789ab"));
        for none in [None, Some("00000000-0000-0000-0000-000000000000"), Some("03000200-0400-0500-0006-000700080009")] {
            assert_eq!(machine(none, installation).as_deref(), derived, "pinned: it must never change");
        }
        assert_eq!(machine(None, Some("uninitialized")), None);
        assert_eq!(machine(None, None), None);
    }
}

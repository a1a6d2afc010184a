//! The Debian packages. `make deb` builds them and runs this; alone it finds nothing to look at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::root;

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn packages() -> BTreeMap<String, PathBuf> {
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from);
    let folder = target.join("debian");
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}; `make deb` makes it", folder.display()));
    let debs = entries.map(|e| e.expect("an entry").path()).filter(|p| p.extension().is_some_and(|e| e == "deb"));
    let name = |path: &Path| {
        let said = run("dpkg-deb", &["--field", path.to_str().expect("text"), "Package"]);
        String::from_utf8(said.stdout).expect("text").trim().to_owned()
    };
    debs.map(|path| (name(&path), path)).collect()
}

#[test]
#[ignore = "make deb runs it, once there are packages"]
fn the_packages_hold_what_they_should() {
    let packages = packages();
    let expected = [
        ("backstay-agent", vec!["usr/bin/backstay-agent", "usr/lib/systemd/system/backstay-agent.service"]),
        (
            "backstay-coordinator",
            vec![
                "usr/bin/backstay-coordinator",
                "usr/bin/backstayctl",
                "usr/lib/systemd/system/backstay-coordinator.service",
            ],
        ),
    ];
    for (name, files) in expected {
        let deb = packages.get(name).unwrap_or_else(|| panic!("no package {name} in {packages:?}"));
        let folder = tempfile::tempdir().expect("a folder");
        let (deb, into) = (deb.to_str().expect("text"), folder.path().to_str().expect("text"));
        run("dpkg-deb", &["--raw-extract", deb, into]);
        let examples = format!("usr/share/doc/{name}/examples/kubeadm.conf");
        for file in files.iter().copied().chain([examples.as_str()]) {
            assert!(folder.path().join(file).is_file(), "{name} has no {file}");
        }
        for program in files.iter().filter(|file| file.starts_with("usr/bin")) {
            let path = folder.path().join(program);
            let said = run(path.to_str().expect("text"), &["--version"]);
            let said = String::from_utf8(said.stdout).expect("text");
            assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
        }
        for script in ["postinst", "prerm", "postrm"] {
            let script = folder.path().join("DEBIAN").join(script);
            run("sh", &["-n", script.to_str().expect("text")]);
        }
        // Nothing below /etc: an installation changes nobody's settings, and holds no key.
        assert!(!folder.path().join("etc").exists(), "{name} brings settings of its own");
    }
}

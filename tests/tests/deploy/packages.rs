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
        (
            "backstay-agent",
            vec![
                "usr/bin/backstay-agent",
                "usr/lib/systemd/system/backstay-agent.service",
                "usr/share/man/man1/backstay-agent.1.gz",
                "usr/share/man/man1/backstay-agent-once.1.gz",
                "usr/share/bash-completion/completions/backstay-agent",
                "usr/share/zsh/vendor-completions/_backstay-agent",
                "usr/share/fish/vendor_completions.d/backstay-agent.fish",
            ],
        ),
        (
            "backstay-coordinator",
            vec![
                "usr/bin/backstay-coordinator",
                "usr/lib/systemd/system/backstay-coordinator.service",
                "usr/share/doc/backstay-coordinator/nats/backstay.conf",
                "usr/share/doc/backstay-coordinator/prometheus/backstay.rules.yml",
                "usr/share/man/man1/backstay-coordinator.1.gz",
                "usr/share/man/man1/backstay-coordinator-init.1.gz",
                "usr/share/bash-completion/completions/backstay-coordinator",
                "usr/share/zsh/vendor-completions/_backstay-coordinator",
                "usr/share/fish/vendor_completions.d/backstay-coordinator.fish",
            ],
        ),
        (
            "backstayctl",
            vec![
                "usr/bin/backstayctl",
                "usr/share/man/man1/backstayctl.1.gz",
                "usr/share/man/man1/backstayctl-backup.1.gz",
                "usr/share/bash-completion/completions/backstayctl",
                "usr/share/zsh/vendor-completions/_backstayctl",
                "usr/share/fish/vendor_completions.d/backstayctl.fish",
            ],
        ),
    ];
    for (name, files) in expected {
        let deb = packages.get(name).unwrap_or_else(|| panic!("no package {name} in {packages:?}"));
        let folder = tempfile::tempdir().expect("a folder");
        let (deb, into) = (deb.to_str().expect("text"), folder.path().to_str().expect("text"));
        run("dpkg-deb", &["--raw-extract", deb, into]);
        // A laptop needs neither units nor users.
        let is_daemon = name != "backstayctl";
        let examples = is_daemon.then(|| format!("usr/share/doc/{name}/examples/kubeadm.conf"));
        for file in files.iter().copied().chain(examples.as_deref()) {
            assert!(folder.path().join(file).is_file(), "{name} has no {file}");
        }
        for program in files.iter().filter(|file| file.starts_with("usr/bin/")) {
            let path = folder.path().join(program);
            let said = run(path.to_str().expect("text"), &["--version"]);
            let said = String::from_utf8(said.stdout).expect("text");
            assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
        }
        for script in ["postinst", "prerm", "postrm"].into_iter().filter(|_| is_daemon) {
            let script = folder.path().join("DEBIAN").join(script);
            run("sh", &["-n", script.to_str().expect("text")]);
        }
        if !is_daemon {
            let replaces = run("dpkg-deb", &["--field", deb, "Replaces"]).stdout;
            // Its files were in that package before: dpkg must let them be taken over.
            assert_eq!(String::from_utf8_lossy(&replaces).trim(), "backstay-coordinator");
        }
        // Nothing below /etc: an installation changes nobody's settings, and holds no key.
        assert!(!folder.path().join("etc").exists(), "{name} brings settings of its own");
    }
}

/// A root of its own, with as much in it as the packages' scripts need, and a systemctl that writes down its calls.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().expect("a folder"));
        for folder in
            ["usr/bin", "dev", "run/systemd/system", "etc", "var/lib/dpkg/updates", "var/lib/dpkg/info", "var/log"]
        {
            std::fs::create_dir_all(root.path(folder)).expect("writable");
        }
        for file in ["var/lib/dpkg/status", "dev/null"] {
            std::fs::write(root.path(file), "").expect("writable");
        }
        std::os::unix::fs::symlink("usr/bin", root.path("bin")).expect("writable");
        for (program, name) in [("/bin/sh", "sh"), ("/bin/rm", "rm"), ("/bin/rmdir", "rmdir")] {
            root.take(program, &format!("usr/bin/{name}"));
            let needs = String::from_utf8(run("ldd", &[program]).stdout).expect("text");
            for library in needs.split_whitespace().filter(|word| word.starts_with('/')) {
                root.take(library, library.trim_start_matches('/'));
            }
        }
        let systemctl = root.path("usr/bin/systemctl");
        std::fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >> /systemctl.log\n").expect("writable");
        run("chmod", &["755", systemctl.to_str().expect("text")]);
        root
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn take(&self, from: &str, to: &str) {
        let to = self.path(to);
        std::fs::create_dir_all(to.parent().expect("below the root")).expect("writable");
        std::fs::copy(from, to).expect("copied");
    }

    /// Runs dpkg in this root; what it printed, and what systemctl was asked meanwhile.
    fn dpkg(&self, arguments: &[&str]) -> (String, Vec<String>) {
        let root = format!("--root={}", self.0.path().display());
        // What the packages depend on is this machine's, not this root's.
        let output = run("dpkg", &[&[root.as_str(), "--force-depends"], arguments].concat());
        let log = self.path("systemctl.log");
        let calls = std::fs::read_to_string(&log).unwrap_or_default();
        std::fs::write(&log, "").expect("writable");
        (String::from_utf8_lossy(&output.stdout).into_owned(), calls.lines().map(str::to_owned).collect())
    }
}

/// The same package with a higher version.
fn upgraded(deb: &str, folder: &Path) -> String {
    let (tree, newer) = (folder.join("tree"), folder.join("newer.deb"));
    let (tree, newer) = (tree.to_str().expect("text"), newer.to_str().expect("text"));
    run("dpkg-deb", &["--raw-extract", deb, tree]);
    let control = format!("{tree}/DEBIAN/control");
    let text = std::fs::read_to_string(&control).expect("a control file");
    let version = text.lines().find_map(|line| line.strip_prefix("Version: ")).expect("a version").to_owned();
    std::fs::write(&control, text.replace(&format!("Version: {version}"), "Version: 99.0.0-1")).expect("writable");
    run("dpkg-deb", &["--build", "--root-owner-group", "-Znone", tree, newer]);
    newer.to_owned()
}

#[test]
#[ignore = "make deb runs it, once there are packages"]
fn they_install_start_once_configured_upgrade_and_purge() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: dpkg changes its root, which is root's alone");
        return;
    }
    // What has no unit has nothing to start.
    for (name, deb) in packages().into_iter().filter(|(name, _)| name != "backstayctl") {
        let (root, folder) = (Root::new(), tempfile::tempdir().expect("a folder"));
        let (deb, who) = (deb.to_str().expect("text"), name.trim_start_matches("backstay-"));
        let newer = upgraded(deb, folder.path());
        let (settings, key) =
            (root.path(&format!("etc/backstay/{who}.toml")), root.path("etc/backstay/coordinator.key"));
        let state = root.path(&format!("var/lib/private/{name}"));

        // A first installation waits for settings, and says so.
        let (said, calls) = root.dpkg(&["--install", deb]);
        assert_eq!(calls, ["daemon-reload"], "{name}");
        assert!(said.contains(&format!("systemctl enable --now {name}")), "{said}");
        let upgrade = ["daemon-reload".to_owned(), "daemon-reload".to_owned(), format!("try-restart {name}.service")];
        std::fs::create_dir_all(settings.parent().expect("a folder")).expect("writable");
        std::fs::write(&settings, "").expect("writable");
        std::fs::write(&key, "").expect("writable");
        std::fs::create_dir_all(&state).expect("writable");
        // An upgrade restarts what runs, and starts nothing that was stopped.
        let (_, calls) = root.dpkg(&["--install", &newer]);
        assert_eq!(calls, upgrade, "{name}");
        assert!(settings.exists() && state.exists());
        // Removed: stopped, and all settings are left.
        let (_, calls) = root.dpkg(&["--remove", &name]);
        assert_eq!(calls, [format!("disable --quiet --now {name}.service"), "daemon-reload".to_owned()], "{name}");
        assert!(settings.exists() && state.exists() && !root.path(&format!("usr/bin/{name}")).exists());
        // Purged: nothing is left but a key that opens backups.
        let (said, _) = root.dpkg(&["--purge", &name]);
        assert!(!settings.exists() && !state.exists() && key.exists(), "{name}");
        assert!(name != "backstay-coordinator" || said.contains("coordinator.key was left"), "{said}");
        let left = root.path(&format!("usr/share/doc/{name}"));
        assert!(!left.exists() && !root.path(&format!("usr/lib/systemd/system/{name}.service")).exists());

        // Where settings are there already, it starts.
        std::fs::write(&settings, "").expect("writable");
        let (_, calls) = root.dpkg(&["--install", deb]);
        assert_eq!(calls, ["daemon-reload".to_owned(), format!("enable --quiet --now {name}.service")], "{name}");
    }
}

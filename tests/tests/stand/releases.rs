//! Which etcd and nats-server a run is about: the list, what `tests/releases.sh` makes of it, and that what starts is of
//! the chosen release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backstay_tests::process::program;
use backstay_tests::releases::{Row, all, chosen, listed, parse, path, shown, table};
use backstay_tests::{Etcd, Folder, Nats};
use sha2::{Digest, Sha256};

#[tokio::test]
async fn what_starts_is_of_the_chosen_release() -> Result<()> {
    let release = chosen()?;
    let (etcd, nats) = tokio::try_join!(Etcd::start(1), Nats::start())?;
    assert_eq!(etcd.client().await?.status().await?.version(), release.etcd);
    let client = nats.client().await?;
    assert_eq!(client.server_info().version, release.nats);
    for (name, version) in [("etcd", &release.etcd), ("etcdctl", &release.etcd), ("nats-server", &release.nats)] {
        let argument = if name == "etcdctl" { "version" } else { "--version" };
        let typed =
            Command::new("bash").args(["-c", &format!("{name} {argument}")]).env("PATH", path(&[])?).output()?;
        let said = String::from_utf8_lossy(&typed.stdout).into_owned();
        ensure!(said.contains(version.as_str()), "a person who types {name} gets {said}");
        ensure!(program(name)?.is_file());
    }
    Ok(())
}

#[test]
fn every_release_of_the_list_is_there_or_said_not_to_be() -> Result<()> {
    let rows = table()?;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).filter(|name| *name != "named").collect();
    assert_eq!(names, listed().map(|release| release.suite).collect::<Vec<_>>());
    for row in rows {
        ensure!(row.found.is_some() == row.reason.is_empty(), "{row:?}");
        assert_eq!(all()?.iter().any(|release| release.name == row.name), row.found.is_some(), "{row:?}");
    }
    let text = shown(rows, &chosen()?.name);
    ensure!(rows.iter().all(|row| text.contains(&row.wanted[0]) || text.contains("is gone")), "{text}");
    println!("{text}");
    Ok(())
}

/// A repository of packages whose programs are scripts that say their version.
struct Repository {
    folder: Folder,
}

impl Repository {
    fn new() -> Result<Self> {
        Ok(Self { folder: Folder::new("repository")? })
    }

    /// A suite with these versions of etcd and nats-server.
    fn suite(&self, name: &str, etcd: &[&str], nats: &str) -> Result<()> {
        let mut packages = String::new();
        for version in etcd {
            let says = format!("etcd Version: {version}");
            packages +=
                &self.package("etcd-server", version, &[("usr/bin/etcd", &says), ("usr/bin/etcdutl", &says)])?;
            packages += &self.package("etcd-client", version, &[("usr/bin/etcdctl", &says)])?;
        }
        packages +=
            &self.package("nats-server", nats, &[("usr/sbin/nats-server", &format!("nats-server: v{nats}"))])?;
        let folder = self.folder.path().join(format!("dists/{name}/main/binary-{}", architecture()?));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("Packages"), &packages)?;
        let listed = format!("main/binary-{}/Packages", architecture()?);
        let sum = hex(packages.as_bytes());
        let release = format!(
            "Suite: {name}\nCodename: {name}\nComponents: main\nArchitectures: {}\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n {sum} {} {listed}\n",
            architecture()?,
            packages.len()
        );
        fs::write(self.folder.path().join(format!("dists/{name}/Release")), release)?;
        Ok(())
    }

    /// Builds a package; the answer is its entry in the list.
    fn package(&self, name: &str, version: &str, programs: &[(&str, &str)]) -> Result<String> {
        let root = self.folder.sub(&format!("build-{name}-{version}"))?;
        for (file, says) in programs {
            let file = root.join(file);
            fs::create_dir_all(file.parent().context("a folder")?)?;
            fs::write(&file, format!("#!/bin/sh\necho '{says}'\n"))?;
            let mode = Command::new("chmod").arg("755").arg(&file).status()?;
            ensure!(mode.success());
        }
        fs::create_dir_all(root.join("DEBIAN"))?;
        let control = format!(
            "Package: {name}\nVersion: {version}-1\nArchitecture: {}\nMaintainer: nobody <nobody@localhost>\nDescription: for a test\n",
            architecture()?
        );
        fs::write(root.join("DEBIAN/control"), &control)?;
        let deb = self.folder.path().join(format!("{name}_{version}.deb"));
        let built = Command::new("dpkg-deb").args(["--root-owner-group", "--build"]).arg(&root).arg(&deb).output()?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let bytes = fs::read(&deb)?;
        let file = deb.file_name().context("a name")?.to_string_lossy().into_owned();
        Ok(format!("{control}Filename: {file}\nSize: {}\nSHA256: {}\n\n", bytes.len(), hex(&bytes)))
    }

    fn url(&self) -> String {
        format!("file:{}", self.folder.path().display())
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn architecture() -> Result<String> {
    let said = Command::new("dpkg").arg("--print-architecture").output().context("this machine has no dpkg")?;
    Ok(String::from_utf8(said.stdout)?.trim().to_owned())
}

/// Runs the script with a list and a folder of apt's settings; the answer is the table and what it said.
fn found(into: &Path, list: &str, etc: &Path) -> Result<(Vec<Row>, String)> {
    let file = into.with_extension("txt");
    fs::write(&file, list)?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("releases.sh");
    let ended = Command::new(script).arg(into).arg(&file).arg(etc).output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    ensure!(ended.status.success(), "{said}");
    Ok((parse(&fs::read_to_string(into.join("table"))?)?, said))
}

fn settings(folder: &Folder, name: &str, file: &str, text: &str) -> Result<PathBuf> {
    let etc = folder.sub(name)?;
    let file = etc.join(file);
    fs::create_dir_all(file.parent().context("a folder")?)?;
    fs::write(file, text)?;
    Ok(etc)
}

#[test]
fn a_version_that_is_gone_becomes_the_newest_and_what_is_out_of_reach_is_said() -> Result<()> {
    let repository = Repository::new()?;
    repository.suite("later", &["3.5.29", "3.5.30"], "2.15.1")?;
    repository.suite("latest", &["3.6.20"], "2.16.0")?;
    let (url, home) = (repository.url(), Folder::new("releases")?);
    // As apt writes its sources today, and as it did.
    let modern = format!(
        "# A comment\nTypes: deb deb-src\nURIs: {url}\nSuites: stable stable-updates\nComponents: main contrib\nTrusted: yes\n\n\
         Types: deb\nURIs: file:/nowhere\nSuites: other\nComponents: main\n"
    );
    let modern = settings(&home, "modern", "sources.list.d/debian.sources", &modern)?;
    let old = format!("deb-src {url} stable main\ndeb [trusted=yes] {url} stable main contrib\n");
    let old = settings(&home, "old", "sources.list", &old)?;
    let list = "# a comment\nlater 3.5.29 2.15.1\nlatest 3.6.14 2.16.0\nnever 3.9.0 3.0.0\n";
    for (name, etc) in [("from-modern", modern), ("from-old", old)] {
        let into = home.path().join(name);
        let (rows, said) = found(&into, list, &etc)?;
        let seen: Vec<Option<[&str; 2]>> =
            rows.iter().map(|row| row.found.as_ref().map(|found| [found[0].as_str(), found[1].as_str()])).collect();
        assert_eq!(seen, [Some(["3.5.29", "2.15.1"]), Some(["3.6.20", "2.16.0"]), None], "{name}: {said}");
        assert_eq!((rows[0].note().as_str(), rows[1].note().as_str()), ("", "etcd 3.6.14 is gone"));
        ensure!(
            !rows[2].reason.is_empty() && said.contains("never (etcd 3.9.0, nats-server 3.0.0) is out of reach"),
            "{said}"
        );
        for program in ["etcd", "etcdctl", "etcdutl", "nats-server"] {
            ensure!(into.join("later").join(program).is_file(), "{program} is not there");
        }
        // What was found is not asked for again; what was not, is.
        let (again, said) = found(&into, list, &etc)?;
        assert_eq!(again, rows);
        ensure!(said.contains("asking apt's sources for: never\n"), "{said}");
    }
    let nothing = settings(&home, "nothing", "sources.list", "# nothing\n")?;
    let (rows, said) = found(&home.path().join("from-nothing"), list, &nothing)?;
    ensure!(rows.iter().all(|row| row.found.is_none() && row.reason.contains("no source of Debian")), "{rows:?}");
    ensure!(said.contains("later (etcd 3.5.29, nats-server 2.15.1) is out of reach"), "{said}");
    Ok(())
}

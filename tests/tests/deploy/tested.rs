//! What README and the packages say that Backstay is tested with: the list that the tests run on, and the databases
//! of the corpus.

use std::collections::BTreeSet;
use std::fs;

use backstay_tests::releases::{self, ListedRelease};
use serde_json::Value;

use crate::root;

/// A version's numbers: text would put 2.9 behind 2.10.
fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|number| number.parse().expect("a number")).collect()
}

/// `A, B and C`, the lowest first.
fn listed(versions: impl Iterator<Item = String>) -> String {
    let mut versions: Vec<String> = versions.collect::<BTreeSet<_>>().into_iter().collect();
    versions.sort_by_key(|version| numbers(version));
    let last = versions.pop().expect("at least one");
    if versions.is_empty() { last } else { format!("{} and {last}", versions.join(", ")) }
}

/// The releases whose databases are in the corpus.
fn of_the_corpus() -> String {
    let files = fs::read_dir(root().join("snapshot/tests/corpus"))
        .expect("the corpus")
        .map(|file| file.expect("a file").path());
    let facts = files.filter(|file| file.extension().is_some_and(|end| end == "json"));
    listed(facts.map(|file| {
        let facts: Value = serde_json::from_slice(&fs::read(file).expect("readable")).expect("JSON");
        facts["etcd"].as_str().expect("a version").to_owned()
    }))
}

#[test]
fn the_readme_names_the_releases_that_the_tests_run_on() {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let (_, section) = readme.split_once("## Tested with\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains('.'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let said: Vec<ListedRelease> =
        rows.iter().map(|row| ListedRelease { etcd: row[0], nats: row[1], suite: row[2] }).collect();
    assert_eq!(said, releases::listed().collect::<Vec<_>>());
    // The first is the one that everything runs on.
    let scope: Vec<bool> = rows.iter().map(|row| row[3].starts_with("every test")).collect();
    assert!(
        scope[0] && !scope[1..].contains(&true) && rows[1..].iter().all(|row| row[3].starts_with("the core")),
        "{rows:?}"
    );
    let databases = format!("Databases of etcd {} ", of_the_corpus());
    assert!(section.contains(&databases), "{databases:?} is not in:\n{section}");
}

#[test]
fn the_packages_name_them_too() {
    let etcd = listed(releases::listed().map(|release| release.etcd.to_owned()));
    let nats = listed(releases::listed().map(|release| release.nats.to_owned()));
    let says = format!(
        "Tested with etcd {etcd} and nats-server {nats}; databases of etcd {} are read and restored",
        of_the_corpus()
    );
    for package in ["agent", "coordinator", "backstayctl"] {
        let text = fs::read_to_string(root().join(package).join("Cargo.toml")).expect("its manifest");
        let manifest: toml::Table = text.parse().expect("TOML");
        let description = &manifest["package"]["metadata"]["deb"]["extended-description"];
        let description = description.as_str().expect("text").replace('\n', " ");
        assert!(description.contains(&says), "{package}: {says:?} is not in {description:?}");
    }
}

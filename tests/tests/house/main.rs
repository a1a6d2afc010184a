//! The house: no file imports one that imports it, by whatever way round.

mod imports;
mod reader;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use imports::{Imports, Module};

/// Crates whose circles are still to be broken.
const UNDER_REPAIR: [&str; 0] = [];

#[test]
fn no_file_imports_one_that_imports_it() -> Result<()> {
    let mut circles = Vec::new();
    for member in members()? {
        let roots = roots(&workspace().join(&member))?;
        assert!(!roots.is_empty(), "{member} has no root that this test knows");
        for root in roots {
            let imports = Imports::of(&root)?;
            circles.extend(imports.circles().iter().map(|circle| (member.clone(), told(&root, circle))));
        }
    }
    circles.retain(|(member, _)| !UNDER_REPAIR.contains(&member.as_str()));
    let told: Vec<String> = circles.into_iter().map(|(_, told)| told).collect();
    assert!(told.is_empty(), "\n{}", told.join("\n"));
    Ok(())
}

/// A circle for whoever is to break it.
fn told(root: &Path, circle: &[(Module, Module)]) -> String {
    let name = |module: &Module| if module.is_empty() { "the root".to_owned() } else { module.join("::") };
    let lines: Vec<String> =
        circle.iter().map(|(from, to)| format!("  {} imports {}\n", name(from), name(to))).collect();
    let root = root.strip_prefix(workspace()).unwrap_or(root);
    format!("{}: a circle of {} imports\n{}", root.display(), circle.len(), lines.concat())
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in its workspace")
}

/// The folders of the workspace's crates.
fn members() -> Result<Vec<String>> {
    let manifest: toml::Table = toml::from_str(&fs::read_to_string(workspace().join("Cargo.toml"))?)?;
    let members = manifest.get("workspace").and_then(|workspace| workspace.get("members")?.as_array());
    let members = members.context("the workspace has no list of members")?;
    Ok(members.iter().filter_map(|member| member.as_str().map(str::to_owned)).collect())
}

/// The root files of a crate's library, programs, tests and examples.
fn roots(package: &Path) -> Result<Vec<PathBuf>> {
    let mut roots = vec![package.join("src/lib.rs"), package.join("src/main.rs")];
    for folder in ["src/bin", "tests", "examples"].map(|folder| package.join(folder)).iter().filter(|f| f.is_dir()) {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            roots.push(if path.is_dir() { path.join("main.rs") } else { path });
        }
    }
    roots.retain(|root| root.is_file() && root.extension().is_some_and(|extension| extension == "rs"));
    roots.sort();
    Ok(roots)
}

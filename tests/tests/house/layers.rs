//! The coordinator's layers: each file stands in one, and imports nothing from above it. What is pure awaits nothing.

use anyhow::{Context, Result};
use syn::visit::{self, Visit};

use crate::imports::{Imports, Module};
use crate::workspace;

/// From the ground up. A module stands where the longest of these names that it begins with stands.
const LAYERS: [&[&str]; 8] = [
    PURE,
    &["bus", "directory", "fleet", "forgotten", "keys", "kv", "lease", "overall", "storage"],
    &["term"],
    &["clockwatch", "cluster", "latest"],
    &["registry", "upkeep"],
    &["api", "inputs", "metrics"],
    &["leader"],
    &["api::service", "arguments", "coordinator", "init", "listen", ""],
];

/// Decisions, and what they are taken upon: functions of what is given.
const PURE: &[&str] = &[
    "agent_coverage",
    "attempts",
    "beats",
    "clocks",
    "config",
    "member",
    "record",
    "reply",
    "restore",
    "schedule",
    "status",
    "twins",
    "verify",
];

fn layer(module: &Module) -> Option<usize> {
    let begins = |name: &&str| {
        let name: Vec<&str> = name.split("::").filter(|part| !part.is_empty()).collect();
        let fits = module.len() >= name.len() && module.iter().zip(&name).all(|(one, other)| one == other);
        // The root alone has no name.
        (fits && name.is_empty() == module.is_empty()).then_some(name.len())
    };
    let places = LAYERS.iter().enumerate();
    let found = places.filter_map(|(at, names)| Some((names.iter().filter_map(begins).max()?, at)));
    found.max().map(|(_, at)| at)
}

fn coordinator() -> Result<Imports> {
    Imports::of(&workspace().join("coordinator/src/lib.rs"))
}

#[test]
fn nothing_imports_what_stands_above_it() -> Result<()> {
    let imports = coordinator()?;
    let mut wrong = Vec::new();
    for module in imports.files().keys() {
        let from = layer(module).with_context(|| format!("{} stands in no layer: give it one", module.join("::")))?;
        for to in imports.from(module) {
            if layer(to).is_none_or(|to| to > from) {
                wrong.push(format!("{} imports {}, which stands above it", module.join("::"), to.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

/// Whether anything in a file waits; what is compiled for tests alone may.
#[derive(Default)]
struct Waits(bool);

impl<'ast> Visit<'ast> for Waits {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.0 |= signature.asyncness.is_some();
    }

    fn visit_expr_await(&mut self, _: &'ast syn::ExprAwait) {
        self.0 = true;
    }

    fn visit_expr_async(&mut self, _: &'ast syn::ExprAsync) {
        self.0 = true;
    }
}

#[test]
fn what_is_pure_awaits_nothing() -> Result<()> {
    let imports = coordinator()?;
    let mut pure = 0;
    for (module, file) in imports.files().iter().filter(|(module, _)| layer(module) == Some(0)) {
        let mut waits = Waits::default();
        waits.visit_file(&syn::parse_file(&std::fs::read_to_string(file)?)?);
        assert!(!waits.0, "{} is pure and awaits", module.join("::"));
        pure += 1;
    }
    assert!(pure >= PURE.len(), "{pure} files");
    Ok(())
}

/// The modules of `archive` that are there with a feature alone.
fn behind_a_feature() -> Result<Vec<String>> {
    let root = syn::parse_file(&std::fs::read_to_string(workspace().join("archive/src/lib.rs"))?)?;
    let has_feature = |item: &&syn::ItemMod| {
        let cfg = |attribute: &syn::Attribute| match &attribute.meta {
            syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().starts_with("feature"),
            _ => false,
        };
        item.attrs.iter().any(cfg)
    };
    let modules = root.items.iter().filter_map(|item| match item {
        syn::Item::Mod(item) => Some(item),
        _ => None,
    });
    Ok(modules.filter(has_feature).map(|item| item.ident.to_string()).collect())
}

/// The names of `archive` that a file takes from its root.
#[derive(Default)]
struct FromArchive(Vec<String>);

impl FromArchive {
    fn first(&mut self, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => self.0.push(path.ident.to_string()),
            syn::UseTree::Name(name) => self.0.push(name.ident.to_string()),
            syn::UseTree::Rename(name) => self.0.push(name.ident.to_string()),
            syn::UseTree::Glob(_) => {}
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.first(tree)),
        }
    }
}

impl<'ast> Visit<'ast> for FromArchive {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if let syn::UseTree::Path(path) = &item.tree
            && path.ident == "backstay_archive"
        {
            self.first(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut names = path.segments.iter().map(|segment| segment.ident.to_string());
        if names.next().is_some_and(|name| name == "backstay_archive") {
            self.0.extend(names.next());
        }
        visit::visit_path(self, path);
    }
}

/// A build of the whole workspace turns every feature on for everybody: it would not notice.
#[test]
fn the_coordinator_reads_no_whole_backup() -> Result<()> {
    let behind = behind_a_feature()?;
    assert!(behind.contains(&"restore".to_owned()), "{behind:?}");
    let manifest = std::fs::read_to_string(workspace().join("coordinator/Cargo.toml"))?;
    assert!(manifest.lines().any(|line| line == "backstay-archive.workspace = true"), "it turns a feature on");
    for file in coordinator()?.files().values() {
        let mut taken = FromArchive::default();
        taken.visit_file(&syn::parse_file(&std::fs::read_to_string(file)?)?);
        let wrong: Vec<_> = taken.0.iter().filter(|name| behind.contains(name)).collect();
        assert!(wrong.is_empty(), "{} takes {wrong:?} of archive, which it has with a feature alone", file.display());
    }
    Ok(())
}

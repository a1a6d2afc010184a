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
    &["api", "inputs", "inside"],
    &["leader"],
    &["api::service", "coordinator", "init", "listen", ""],
];

/// Decisions, and what they are taken upon: functions of what is given.
const PURE: &[&str] = &[
    "attempts", "beats", "clocks", "config", "member", "record", "reply", "restore", "schedule", "seats", "status",
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

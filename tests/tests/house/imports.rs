//! Which file of a crate imports which. A name that a module gives on is an import of the file that it comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::source::{Child, Found, Source};

/// A module's path from the root of its crate; the root's is empty.
pub type Module = Vec<String>;

/// So often may a name be given on.
const HOPS_MAX: usize = 16;

/// A crate's files, by the module that each holds, and what each imports.
#[derive(Debug, Default)]
pub struct Imports {
    files: BTreeMap<Module, PathBuf>,
    /// Names that modules have by a `use`.
    names: BTreeMap<(Module, String), Name>,
    edges: BTreeMap<Module, BTreeSet<Module>>,
}

/// What a name stands for, as the module that has it says it.
#[derive(Debug)]
struct Name {
    path: Vec<String>,
    given_on: bool,
}

/// Modules that import each other, and the imports among them.
pub type Circle = Vec<(Module, Module)>;

impl Imports {
    /// Reads a crate from its root file on.
    ///
    /// # Errors
    /// A file is missing or no Rust.
    pub fn of(root: &Path) -> Result<Self> {
        let (mut imports, mut found) = (Self::default(), Vec::new());
        imports.read(root, Module::new(), &mut found)?;
        for (module, Found { path, name, given_on }) in &found {
            if let Some(name) = name {
                let stands_for = Name { path: path.clone(), given_on: *given_on };
                imports.names.insert((module.clone(), name.clone()), stands_for);
            }
        }
        for (module, Found { path, .. }) in &found {
            if let Some(to) = imports.absolute(module, path, HOPS_MAX).map(|path| imports.holder(path))
                && to != *module
            {
                imports.edges.entry(module.clone()).or_default().insert(to);
            }
        }
        Ok(imports)
    }

    fn read(&mut self, file: &Path, module: Module, found: &mut Vec<(Module, Found)>) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let source = Source::parse(&text).with_context(|| format!("{} is no Rust", file.display()))?;
        self.files.insert(module.clone(), file.to_owned());
        found.extend(source.found.into_iter().map(|path| (module.clone(), path)));
        for child in source.children {
            let path = place(file, &module, &child);
            let below = module.iter().cloned().chain([child.name]).collect();
            self.read(&path, below, found)?;
        }
        Ok(())
    }

    /// A path of `module` from the root of the crate; `None` where it leads to another crate.
    fn absolute(&self, module: &[String], path: &[String], hops: usize) -> Option<Module> {
        let (first, rest) = path.split_first()?;
        let below = |module: &[String], rest: &[String]| module.iter().chain(rest).cloned().collect::<Module>();
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some(below(module, rest)),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                Some(below(&module[..module.len().saturating_sub(ups)], &path[ups..]))
            }
            _ if self.files.contains_key(&below(module, &path[..1])) => Some(below(module, path)),
            name => {
                let name = self.names.get(&(module.to_vec(), name.to_owned())).filter(|name| name.path != path[..1])?;
                Some(below(&self.absolute(module, &name.path, hops.checked_sub(1)?)?, rest))
            }
        }
    }

    /// The file that holds what a path names.
    fn holder(&self, mut path: Module) -> Module {
        for _ in 0..HOPS_MAX {
            let known = (0..=path.len()).rev().find(|n| self.files.contains_key(&path[..*n])).unwrap_or(0);
            let (module, rest) = path.split_at(known);
            let given = rest.first().and_then(|name| self.names.get(&(module.to_vec(), name.clone())));
            let target = given.filter(|name| name.given_on).and_then(|n| self.absolute(module, &n.path, HOPS_MAX));
            match target {
                Some(target) if !path.starts_with(&target) => path = target.iter().chain(&rest[1..]).cloned().collect(),
                _ => return module.to_vec(),
            }
        }
        path
    }

    /// The files, by their modules.
    pub fn files(&self) -> &BTreeMap<Module, PathBuf> {
        &self.files
    }

    /// What a module imports.
    pub fn from(&self, module: &Module) -> impl Iterator<Item = &Module> {
        self.edges.get(module).into_iter().flatten()
    }

    /// Modules that import each other in a circle, each circle once.
    pub fn circles(&self) -> Vec<Circle> {
        let reach: BTreeMap<&Module, BTreeSet<&Module>> = self.files.keys().map(|m| (m, self.reached(m))).collect();
        let mut circles = BTreeSet::new();
        for (module, reached) in &reach {
            if reached.contains(module) {
                let is_in = |other: &&Module| reached.contains(other) && reach[other].contains(module);
                let members = self.files.keys().filter(is_in);
                let circle: Circle = members
                    .flat_map(|from| self.from(from).filter(is_in).map(|to| (from.clone(), to.clone())))
                    .collect();
                circles.insert(circle);
            }
        }
        circles.into_iter().collect()
    }

    fn reached<'a>(&'a self, from: &'a Module) -> BTreeSet<&'a Module> {
        let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop() {
            open.extend(self.from(next).filter(|to| reached.insert(*to)));
        }
        reached
    }
}

/// A child's file.
fn place(file: &Path, module: &[String], child: &Child) -> PathBuf {
    let beside = file.parent().unwrap_or(Path::new("."));
    if let Some(path) = &child.path {
        return beside.join(path);
    }
    let stem = file.file_stem().unwrap_or_default();
    let folder = if module.is_empty() || stem == "mod" { beside.to_owned() } else { beside.join(stem) };
    let flat = folder.join(format!("{}.rs", child.name));
    if flat.exists() { flat } else { folder.join(&child.name).join("mod.rs") }
}

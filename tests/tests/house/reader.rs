//! The reader of imports itself, on small crates.

use std::fs;

use backstay_tests::Folder;

use crate::imports::{Imports, Module};

/// The imports of a crate of these files below `src`.
fn read(files: &[(&str, &str)]) -> Imports {
    let folder = Folder::new("house").expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it lies in the folder")).expect("writable");
        fs::write(path, text).expect("writable");
    }
    Imports::of(&folder.path().join("lib.rs")).expect("it is Rust")
}

fn module(path: &str) -> Module {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether `a` and `b`, and nobody else, import each other, where `a` uses `b::B` and `b` says this.
fn closes(b: &str) -> bool {
    let imports = read(&[
        ("lib.rs", "pub mod a; pub mod b; pub use a::Renamed as Given;"),
        ("a.rs", "use crate::b::B; pub struct Renamed; pub mod inner { pub struct Inner; }"),
        ("b.rs", &format!("pub struct B; {b}")),
    ]);
    let (a, b) = (module("a"), module("b"));
    match imports.circles().as_slice() {
        [] => false,
        [circle] => *circle == [(a.clone(), b.clone()), (b, a)],
        more => panic!("{more:?}"),
    }
}

#[test]
fn a_circle_is_seen_by_whatever_word_it_is_closed() {
    for b in [
        "use crate::a::Renamed;",
        "use super::a;",
        "use crate::{a::{Renamed as Other}};",
        "use super::a::*;",
        "fn f() { let _ = crate::a::Renamed; }",
        "fn f(_: super::a::inner::Inner) {}",
        "use crate::a as other; fn f(_: other::Renamed) {}",
        "fn f() { println!(\"{:?}\", vec![crate::a::Renamed]); }",
        "macro_rules! m { () => { $crate::a::Renamed } }",
        "#[derive(Debug)] struct S { #[serde(with = \"crate::a\")] field: u8 }",
        "use crate::Given;",
        "fn f(_: crate::Given) {}",
        "mod inside { use super::super::a::Renamed; }",
        "mod inside { mod deeper { fn f() { super::super::super::a::f() } } }",
        "#[cfg(not(test))] use crate::a::Renamed;",
    ] {
        assert!(closes(b), "{b}");
    }
}

#[test]
fn what_is_no_import_closes_none() {
    for b in [
        "",
        "#[cfg(test)] use crate::a::Renamed;",
        "#[cfg(test)] mod tests { use super::super::a::Renamed; }",
        "struct S; impl S { #[cfg(test)] fn f() { crate::a::f() } }",
        "#[cfg(test)] static S: crate::a::Renamed = crate::a::Renamed;",
        "use a::Renamed;",
        "use ::a::Renamed;",
        "pub(in crate::a) struct S;",
        "/// [`crate::a::Renamed`]\nfn f() {}",
        "mod a { pub struct Renamed; } mod inside { use super::a::Renamed; } use self::a::Renamed;",
        "fn f() { let _ = \"crate::a::Renamed\"; }",
    ] {
        assert!(!closes(b), "{b}");
    }
}

#[test]
fn a_parent_that_gives_on_is_not_who_is_imported() {
    let children = |parent: &str, second: &str| {
        let files = [
            ("lib.rs", "mod parent;"),
            ("parent/mod.rs", parent),
            ("parent/first.rs", "pub struct First;"),
            ("parent/second.rs", second),
        ];
        read(&files).circles()
    };
    let second = "use super::First; pub struct Second;";
    assert_eq!(children("mod first; mod second; pub use first::First; pub use second::Second;", second), [[]; 0]);
    let own = children("mod first; mod second; pub struct First; use second::Second;", second);
    let (parent, second) = (module("parent"), module("parent::second"));
    assert_eq!(own, [[(parent.clone(), second.clone()), (second, parent)]]);
}

#[test]
fn files_are_found_where_rust_looks_for_them() {
    let imports = read(&[
        ("lib.rs", "mod flat; mod folder; #[path = \"elsewhere.rs\"] mod named; #[cfg(test)] mod missing;"),
        ("flat.rs", "mod below;"),
        ("flat/below.rs", "use super::super::named::N; use crate::folder::deep::D;"),
        ("folder/mod.rs", "pub mod deep;"),
        ("folder/deep.rs", "pub struct D;"),
        ("elsewhere.rs", "pub struct N;"),
    ]);
    let modules: Vec<String> = imports.files().keys().map(|module| module.join("::")).collect();
    assert_eq!(modules, ["", "flat", "flat::below", "folder", "folder::deep", "named"]);
    let imported: Vec<&Module> = imports.from(&module("flat::below")).collect();
    assert_eq!(imported, [&module("folder::deep"), &module("named")]);
}

#[test]
fn a_long_circle_is_told_once_with_all_its_imports() {
    let imports = read(&[
        ("lib.rs", "mod a; mod b; mod c; mod d; use a::A;"),
        ("a.rs", "use crate::b::B; use crate::d::D;"),
        ("b.rs", "use crate::c::C;"),
        ("c.rs", "use crate::a::A;"),
        ("d.rs", ""),
    ]);
    let imports_of = |from: &str, to: &str| (module(from), module(to));
    let circle = [imports_of("a", "b"), imports_of("b", "c"), imports_of("c", "a")];
    assert_eq!(imports.circles(), [circle]);
}

//! What one source file names: `use`, paths that stand inline, also in macros and in what serde is told, and its child
//! modules. What is compiled for tests alone does not count.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemMod, ItemUse, Meta, UseTree, Visibility};

/// A path as it stands in a file.
#[derive(Debug)]
pub struct Found {
    pub path: Vec<String>,
    /// What a `use` calls it.
    pub name: Option<String>,
    /// Whether others may use that name too.
    pub given_on: bool,
}

/// A module with a file of its own.
#[derive(Debug)]
pub struct Child {
    pub name: String,
    /// `#[path = "…"]`.
    pub path: Option<String>,
}

/// What a file names.
#[derive(Debug, Default)]
pub struct Source {
    pub found: Vec<Found>,
    pub children: Vec<Child>,
    /// So many modules stand around the place that is read, inside this file.
    depth: usize,
}

impl Source {
    /// # Errors
    /// It is no Rust.
    pub fn parse(text: &str) -> syn::Result<Self> {
        let mut source = Self::default();
        source.visit_file(&syn::parse_file(text)?);
        Ok(source)
    }

    fn note(&mut self, path: Vec<String>, name: Option<String>, given_on: bool) {
        let path = from_the_file(path, self.depth);
        self.found.push(Found { path, name, given_on });
    }

    fn tree(&mut self, before: &[String], tree: &UseTree, given_on: bool) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree, given_on),
            UseTree::Name(name) if name.ident == "self" => {
                self.note(before.to_vec(), before.last().cloned(), given_on);
            }
            UseTree::Name(name) => self.note(with(&name.ident), Some(name.ident.to_string()), given_on),
            UseTree::Rename(name) if name.ident == "self" => {
                self.note(before.to_vec(), Some(name.rename.to_string()), given_on);
            }
            UseTree::Rename(name) => self.note(with(&name.ident), Some(name.rename.to_string()), given_on),
            UseTree::Glob(_) => self.note(before.to_vec(), None, false),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree, given_on)),
        }
    }

    /// Paths among tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end_of(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.end_of(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end_of(&mut path);
    }

    fn end_of(&mut self, path: &mut Vec<String>) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.note(path, None, false);
        }
    }

    /// Texts that are paths, as in `#[serde(with = "…")]`.
    fn texts(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.texts(group.stream()),
                TokenTree::Literal(literal) => {
                    let text = syn::parse_str::<syn::LitStr>(&literal.to_string());
                    if let Ok(Ok(path)) = text.map(|text| text.parse::<syn::Path>()) {
                        self.visit_path(&path);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Within a module inside the file, `self` and the first `super`s do not lead out of it.
fn from_the_file(mut path: Vec<String>, depth: usize) -> Vec<String> {
    for _ in 0..depth {
        if path.first().is_some_and(|name| name == "super") {
            path[0] = "self".into();
            if path.get(1).is_some_and(|name| name == "super") {
                path.remove(0);
            }
        }
    }
    path
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    };
    attributes.iter().any(is_test)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn path_attribute(item: &ItemMod) -> Option<String> {
    let attribute = item.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
        _ => None,
    }
}

impl<'ast> Visit<'ast> for Source {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(item) if is_for_tests(&item.attrs) => {}
            item => visit::visit_impl_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_none() {
            self.children.push(Child { name: item.ident.to_string(), path: path_attribute(item) });
            return;
        }
        self.depth += 1;
        visit::visit_item_mod(self, item);
        self.depth -= 1;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if item.leading_colon.is_none() {
            self.tree(&[], &item.tree, !matches!(item.vis, Visibility::Inherited));
        }
    }

    /// `pub(in crate::…)` says who may look, and looks at nobody.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() && path.segments.len() > 1 {
            self.note(path.segments.iter().map(|segment| segment.ident.to_string()).collect(), None, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) if list.path.is_ident("serde") => self.texts(list.tokens.clone()),
            Meta::List(list) => self.tokens(list.tokens.clone()),
            _ => {}
        }
    }

    fn visit_macro(&mut self, mac: &'ast syn::Macro) {
        self.tokens(mac.tokens.clone());
        visit::visit_macro(self, mac);
    }
}

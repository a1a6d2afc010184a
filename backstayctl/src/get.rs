//! `get`: one resource or all of a type, in the requested form.

use backstay_protocol::api::GetRequest;
use backstay_protocol::selector::Selector;
use backstay_protocol::types;

use super::api::{Api, Transport};
use super::console::{Console, Failure};
use super::output::{self, View};

/// What to get.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub kind: String,
    /// Empty: all.
    pub id: String,
    /// Empty: the type's own.
    pub namespace: String,
    /// Empty: all.
    pub selector: String,
    pub view: View,
}

/// The type and the id of `TYPE ID` or `TYPE/ID`.
///
/// # Errors
/// The id is given both ways.
pub fn address(kind: String, id: String) -> Result<(String, String), Failure> {
    match (kind.split_once('/'), id.is_empty()) {
        (None, _) => Ok((kind, id)),
        (Some((kind, id)), true) => Ok((kind.to_owned(), id.to_owned())),
        (Some(_), false) => Err(Failure::IdTwice { address: kind, id }),
    }
}

impl Query {
    /// Whether it asks for the types themselves, which needs no coordinator.
    pub fn is_of_types(&self) -> bool {
        ["type", "types"].contains(&self.kind.to_ascii_lowercase().as_str())
    }

    /// Checks what can be checked without the coordinator.
    ///
    /// # Errors
    /// The type is unknown or ambiguous, the selector is invalid, or there are both an id and a selector.
    pub fn check(&self) -> Result<(), Failure> {
        types::resolve(&self.kind)?;
        self.selector.parse::<Selector>()?;
        match self.id.is_empty() || self.selector.is_empty() {
            true => Ok(()),
            false => Err(Failure::IdAndSelector),
        }
    }

    /// The request to the coordinator.
    pub fn request(&self) -> GetRequest {
        GetRequest {
            id: self.id.clone(),
            namespace: self.namespace.clone(),
            selector: self.selector.clone(),
            ..GetRequest::default()
        }
    }
}

/// Prints the resources that the query selects.
///
/// # Errors
/// As [`Query::check`]; NATS or the coordinator does not answer, or the coordinator refuses the request.
pub async fn run<T: Transport>(api: &Api<T>, query: &Query, console: &mut Console<'_>) -> Result<(), Failure> {
    query.check()?;
    let definition = types::resolve(&query.kind)?;
    let items = api.get(definition, &query.request()).await?;
    Ok(console.print(&output::render(&query.view, definition, &items)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use crate::testing::{Coordinator, capture};
    use backstay_protocol::resource::{LABEL_CLUSTER, Resource};
    use backstay_protocol::spec::{BackupSpec, OVERALL_STATUS_ID, OverallStatusSpec};

    fn coordinator() -> Coordinator {
        let backup = |cluster: &str| {
            let mut resource = Resource::of(format!("{cluster}-7"), &BackupSpec::default());
            resource.metadata.labels.insert(LABEL_CLUSTER.into(), cluster.into());
            resource
        };
        let status = OverallStatusSpec { configurationname: "s3".into(), ..OverallStatusSpec::default() };
        Coordinator::with([backup("a"), backup("b"), Resource::of(OVERALL_STATUS_ID, &status)])
    }

    async fn get(query: Query) -> Result<String, String> {
        let api = Api::new(coordinator());
        capture(async |console| run(&api, &query, console).await).await.map(|(out, _)| out)
    }

    fn query(kind: &str, id: &str, selector: &str, format: &str) -> Query {
        let (kind, id, selector) = (kind.into(), id.into(), selector.into());
        Query { kind, id, selector, namespace: String::new(), view: format.parse::<Format>().expect("a format").into() }
    }

    #[tokio::test]
    async fn lists_selects_and_finds() {
        let selected = get(query("eb", "", "omni.sidero.dev/cluster=b", "jsonpath={.metadata.id}")).await;
        assert_eq!(selected, Ok("b-7\n".into()));
        let all = get(query("EtcdBackups", "", "", "jsonpath={.metadata.id}")).await;
        assert_eq!(all, Ok("a-7\nb-7\n".into()));
        let found = get(query("etcdbackup", "a-7", "", "yaml")).await.expect("found");
        assert!(found.starts_with("metadata:\n  namespace: external\n"), "{found}");
        let found = get(query("etcdbackupoverallstatus", "", "", "json")).await.expect("found");
        assert!(found.contains(r#""configurationname": "s3""#), "{found}");
    }

    #[tokio::test]
    async fn names_are_what_the_next_command_takes() {
        assert_eq!(get(query("eb", "", "", "name")).await, Ok("etcdbackup/a-7\netcdbackup/b-7\n".into()));
        let both = |kind: &str, id: &str| address(kind.into(), id.into()).map_err(|error| error.to_string());
        assert_eq!(both("etcdbackup/a-7", ""), Ok(("etcdbackup".into(), "a-7".into())));
        assert_eq!(both("etcdbackup", "a-7"), both("etcdbackup/a-7", ""));
        let twice = both("etcdbackup/a-7", "b-7").expect_err("two ids");
        assert_eq!(twice, "the ID is given twice: in \"etcdbackup/a-7\" and as \"b-7\"");
    }

    #[tokio::test]
    async fn empty_lists_have_a_heading_in_tables_only() {
        assert_eq!(get(query("machineset", "", "", "table")).await, Ok("NAMESPACE   TYPE   ID   VERSION\n".into()));
        assert_eq!(get(query("machineset", "", "", "yaml")).await, Ok(String::new()));
        assert_eq!(get(query("machineset", "", "", "json")).await, Ok(String::new()));
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_refused() {
        let error = get(query("foo", "", "", "table")).await.expect_err("unknown");
        assert!(error.starts_with(r#"resource "foo" is not registered"#), "{error}");
        let error = get(query("cluster", "x", "", "table")).await;
        assert_eq!(error, Err("resource Clusters.omni.sidero.dev(default/x) doesn't exist".into()));
        let error = get(query("cluster", "x", "a=b", "table")).await;
        assert_eq!(error, Err("cannot specify both resource ID and selector".into()));
        assert!(get(query("cluster", "", "a in (", "table")).await.expect_err("selector").contains("selector"));
    }
}

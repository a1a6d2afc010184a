//! `version`: the version of this program, of the coordinator that leads, and of the agents.

use std::collections::BTreeMap;

use backstay_protocol::api::GetRequest;
use backstay_protocol::backstay_types::{AgentSpec, CoordinatorStatusSpec};
use backstay_protocol::machines;
use backstay_protocol::resource::Resource;
use backstay_protocol::spec::Spec;
use serde_json::{Value, json};

use super::api::{Api, CallError, Transport, known};
use super::arguments::operate::Form;
use super::console::{Console, Failure};
use super::listing;
use super::output::{json, yaml};

const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// What is known about the others; `None` if nothing answers, or if it was not asked for.
#[derive(Debug, Default)]
struct Others {
    coordinators: Vec<CoordinatorStatusSpec>,
    agents: Vec<Resource>,
}

/// Prints only this program's version.
///
/// # Errors
/// None of its own.
pub fn client(form: Form, console: &mut Console<'_>) -> Result<(), Failure> {
    Ok(console.print(&text(None, form))?)
}

/// The same if the coordinator does not answer, and why.
///
/// # Errors
/// None of its own.
pub fn alone(form: Form, error: &CallError, console: &mut Console<'_>) -> Result<(), Failure> {
    client(form, console)?;
    Ok(console.remark(&format!("Note: the coordinator's version is not known: {error}"))?)
}

/// Prints all versions that are known.
///
/// # Errors
/// The coordinator refuses to tell.
pub async fn run<T: Transport>(api: &Api<T>, form: Form, console: &mut Console<'_>) -> Result<(), Failure> {
    let agents = match api.get(AgentSpec::definition(), &GetRequest::default()).await {
        Err(error) if error.is_absence() => return alone(form, &error, console),
        found => found?,
    };
    let coordinators = known(api.get(CoordinatorStatusSpec::definition(), &GetRequest::default()).await)?;
    let coordinators = coordinators.unwrap_or_default();
    let coordinators = listing::typed(&coordinators).map(|(_, spec)| spec).collect();
    Ok(console.print(&text(Some(&Others { coordinators, agents }), form))?)
}

fn text(others: Option<&Others>, form: Form) -> String {
    match form {
        Form::Table | Form::Wide => lines(others, form == Form::Wide),
        Form::Json => json::pretty(&value(others)),
        Form::Yaml => yaml::document(&value(others)),
    }
}

/// The coordinator in one line, and the agents by version: with all machines if `wide`.
fn lines(others: Option<&Others>, wide: bool) -> String {
    let mut text = format!("Client:       {CLIENT}\n");
    let Some(Others { coordinators, agents }) = others else { return text };
    for coordinator in coordinators {
        text.push_str(&format!("Coordinator:  {} on {}\n", coordinator.version, coordinator.host));
    }
    if coordinators.is_empty() {
        text.push_str("Coordinator:  not known: it does not tell its version\n");
    }
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (resource, agent) in listing::typed::<AgentSpec>(agents) {
        let name = machines::called(&agent.member, &agent.host, &resource.metadata.id);
        versions.entry(agent.agentversion).or_default().push(format!("{}/{name}", agent.cluster));
    }
    for (version, machines) in versions {
        let of_all = if wide { machines.join(", ") } else { machines::group("machine", &machines) };
        text.push_str(&format!("Agents:       {version} on {of_all}\n"));
    }
    text
}

fn value(others: Option<&Others>) -> Value {
    let mut value = json!({ "client": CLIENT });
    if let Some(Others { coordinators, agents }) = others {
        value["coordinator"] =
            coordinators.first().map_or(Value::Null, |c| json!({ "version": c.version, "host": c.host }));
        let agent = |(resource, agent): (&Resource, AgentSpec)| {
            json!({
                "machine": resource.metadata.id,
                "member": agent.member,
                "host": agent.host,
                "cluster": agent.cluster,
                "version": agent.agentversion,
            })
        };
        value["agents"] = listing::typed::<AgentSpec>(agents).map(agent).collect();
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Coordinator, capture};

    fn coordinator() -> Coordinator {
        let agent = |id: &str, member: &str, version: &str| {
            let spec = AgentSpec {
                cluster: "talos-default".into(),
                agentversion: version.into(),
                member: member.into(),
                ..AgentSpec::default()
            };
            Resource::of(id, &spec)
        };
        let leads = CoordinatorStatusSpec { version: "9.9.9".into(), host: "ctl-1".into(), ..Default::default() };
        Coordinator::with([
            Resource::of("coordinator", &leads),
            agent("27c16241-96bf-4f17-9579-ea3a6c4a3ca8", "m1", "9.9.9"),
            agent("b885f565-b64f-4c7a-a1ac-d2c8c2781373", "m2", "9.9.9"),
            agent("a54f21dc-6e48-4fc1-96aa-3d7be5e2612b", "", "9.8.0"),
        ])
    }

    async fn print(coordinator: Coordinator, form: Form) -> (String, String) {
        let api = Api::new(coordinator);
        capture(async |console| run(&api, form, console).await).await.expect("versions")
    }

    #[tokio::test]
    async fn who_answers_tells_its_version() {
        let (text, _) = print(coordinator(), Form::Table).await;
        let expected = "Coordinator:  9.9.9 on ctl-1\nAgents:       9.8.0 on machine talos-default/a54f21dc\n\
                        Agents:       9.9.9 on 2 machines (talos-default/m1, talos-default/m2)\n";
        assert_eq!(text, format!("Client:       {CLIENT}\n{expected}"));
        let (text, _) = print(coordinator(), Form::Json).await;
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((&value["client"], &value["coordinator"]["host"]), (&json!(CLIENT), &json!("ctl-1")));
        assert_eq!(value["agents"].as_array().map(Vec::len), Some(3));
    }

    #[tokio::test]
    async fn a_coordinator_of_before_does_not_tell_its_version() {
        let (text, _) = print(coordinator().earlier(), Form::Table).await;
        assert!(text.contains("Coordinator:  not known: ") && text.contains("9.9.9 on 2 machines"), "{text}");
    }

    #[tokio::test]
    async fn without_a_coordinator_the_client_s_own_is_told() {
        let (text, said) = print(Coordinator::absent(), Form::Table).await;
        assert_eq!(text, format!("Client:       {CLIENT}\n"));
        assert_eq!(said, "Note: the coordinator's version is not known: no coordinator answers on nats://h (absent)\n");
        let printed = capture(async |console| client(Form::Json, console)).await.expect("a version").0;
        assert_eq!(serde_json::from_str::<Value>(&printed).expect("JSON"), json!({ "client": CLIENT }));
    }
}

//! Every request that `protocol/README.md` shows, sent as it stands there.

use anyhow::{Context, Result, ensure};
use backstay_protocol::types;

use crate::world::{CLUSTER, back_up, configured, now};
use crate::{ask, json};

const README: &str = include_str!("../../../protocol/README.md");

#[tokio::test]
async fn the_documented_requests_get_the_documented_answers() -> Result<()> {
    let stand = configured().await?;
    back_up(&stand, CLUSTER).await?;
    let client = stand.nats.client().await?;
    let mut lines = README.lines();
    let mut sent = 0;
    while let Some(line) = lines.next() {
        let Some(request) = line.strip_prefix("$ nats req ") else { continue };
        let (subject, body) = request.split_once(' ').with_context(|| format!("no body: {line}"))?;
        // Two in one second would be one.
        let body = body.replace("'$(date +%s)'", &(now() + 10).to_string());
        let body = body.strip_prefix('\'').and_then(|b| b.strip_suffix('\'')).context("a body in quotes")?;
        let shown = lines.next().unwrap_or_default();
        let answer = json(&ask(&client, subject, "", body.into()).await?)?;
        let as_shown = match shown.strip_prefix(r#"{"error":{"code":""#).and_then(|rest| rest.split('"').next()) {
            Some(code) => answer["error"]["code"] == code,
            None => shown.starts_with(r#"{"result":"#) && answer["result"].is_object() && answer["error"].is_null(),
        };
        ensure!(as_shown, "{line}\nshown:    {shown}\nanswered: {answer}");
        sent += 1;
    }
    ensure!(sent >= 10, "only {sent} requests were found");
    Ok(())
}

#[test]
fn every_type_is_documented() {
    for definition in types::ALL {
        let (plural, name) = (definition.plural(), definition.name);
        let row = README.lines().find(|line| line.starts_with(&format!("| `{plural}` | {name} | ")));
        let verbs = row.and_then(|row| row.trim_end_matches(" |").rsplit(" | ").next()).expect(name);
        for verb in verbs.split(", ") {
            let request = format!("$ nats req backstay.v1.api.{verb}.{plural} ");
            assert!(README.contains(&request), "there is no request to paste for {verb}.{plural}");
        }
    }
}

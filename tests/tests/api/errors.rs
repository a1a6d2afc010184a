//! Whatever is sent gets an answer, in the encoding that was asked for: a result, or an error with a code and a text.

use anyhow::{Context, Result, ensure};
use async_nats::{Client, HeaderMap};
use backstay_protocol::api::{Answer, ErrorCode, GetRequest, GetResponse};
use backstay_protocol::codec::{CONTENT_TYPE, ContentType, REQUEST_MAX};

use crate::world::{CLUSTER, stand, start};
use crate::{ask, header, json};

const GET: &str = "backstay.v1.api.get.clusters";
const APPLY: &str = "backstay.v1.api.apply.clusters";

/// The error must come with its number in the header, for callers who read no bodies, and its code in the body.
async fn refused(client: &Client, subject: &str, kind: &str, body: Vec<u8>, code: ErrorCode, part: &str) -> Result<()> {
    let answer = ask(client, subject, kind, body).await?;
    let number = header(&answer, "Nats-Service-Error-Code");
    ensure!(number == Some(code.number().to_string()), "{subject} {kind}: {answer:?}");
    let text = header(&answer, "Nats-Service-Error").unwrap_or_default();
    ensure!(text.contains(part), "{subject} {kind}: {text}");
    let content_type = ContentType::from_header(header(&answer, CONTENT_TYPE).as_deref())?;
    let body: Answer<serde_json::Value> = content_type.decode(&answer.payload)?;
    let error = body.error.context("the body holds no error")?;
    ensure!(error.code == code && error.text.contains(part), "{subject} {kind}: {error:?}");
    Ok(())
}

#[tokio::test]
async fn answers_come_in_the_encoding_of_the_request() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let client = stand.nats.client().await?;
    for content_type in ContentType::ALL {
        let request = GetRequest { id: CLUSTER.into(), ..GetRequest::default() };
        let answer = ask(&client, GET, content_type.as_str(), content_type.encode(&request)?).await?;
        ensure!(header(&answer, CONTENT_TYPE).as_deref() == Some(content_type.as_str()), "{answer:?}");
        let found = content_type.decode::<Answer<GetResponse>>(&answer.payload)?.into_result()?;
        ensure!(found.items.len() == 1 && found.items[0].metadata.id == CLUSTER, "{found:?}");
    }
    // Nothing at all means JSON and the defaults.
    let answer = json(&ask(&client, GET, "", Vec::new()).await?)?;
    ensure!(answer["result"]["items"][0]["metadata"]["id"] == CLUSTER, "{answer}");
    Ok(())
}

#[tokio::test]
async fn malformed_and_too_large_requests_are_told_so() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let client = stand.nats.client().await?;
    let invalid = ErrorCode::InvalidArgument;
    for content_type in ContentType::ALL.map(ContentType::as_str) {
        for subject in [GET, APPLY, "backstay.v1.api.delete.machinesets"] {
            let garbage = b"\xC1\xFF{".to_vec();
            refused(&client, subject, content_type, garbage, invalid, "malformed").await?;
            let large = vec![b' '; REQUEST_MAX + 1];
            refused(&client, subject, content_type, large, invalid, "at most 524288 are allowed").await?;
        }
    }
    // A list is no request, though a struct could be read from one.
    refused(&client, GET, "", b"[]".to_vec(), invalid, "a map of fields").await?;
    // What parses and makes no sense.
    for (subject, body, part) in [
        (GET, "[1,2]", "malformed"),
        (GET, r#"{"selector":"a in ("}"#, ""),
        (GET, r#"{"id":"a","selector":"b"}"#, "both"),
        (APPLY, "", "metadata.type"),
        (APPLY, r#"{"resource":{"metadata":{"type":"Clusters.omni.sidero.dev"}}}"#, "metadata.id"),
        ("backstay.v1.api.get.frobs", "", "there is no type \"frobs\""),
        ("backstay.v1.api.get.Clusters", "", "is not a subject of the API"),
    ] {
        refused(&client, subject, "", body.into(), invalid, part).await?;
    }
    let deep = [r#"{"resource":"#, &"[".repeat(5000)].concat();
    refused(&client, APPLY, "", deep.into(), invalid, "malformed").await?;
    refused(&client, GET, "text/xml", b"<a/>".to_vec(), invalid, "unknown Content-Type \"text/xml\"").await?;
    let absent = br#"{"id":"nowhere"}"#.to_vec();
    refused(&client, GET, "", absent, ErrorCode::NotFound, "doesn't exist").await?;
    let owned = br#"{"resource":{"metadata":{"type":"EtcdBackupStatuses.omni.sidero.dev","id":"x"}}}"#.to_vec();
    let subject = "backstay.v1.api.apply.etcdbackupstatuses";
    refused(&client, subject, "", owned, ErrorCode::ReadOnly, "is read-only").await?;

    // A verb that there is not. To a caller in an account of its own NATS would not say that nobody listens.
    refused(&client, "backstay.v1.api.frob.clusters", "", Vec::new(), invalid, "no verb \"frob\"").await?;
    // And the coordinator is as well as before.
    ensure!(json(&ask(&client, GET, "", Vec::new()).await?)?["result"].is_object());
    Ok(())
}

#[tokio::test]
async fn a_misspelt_field_changes_nothing() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let client = stand.nats.client().await?;
    let metadata = r#""metadata":{"type":"Clusters.omni.sidero.dev","id":"never""#;
    for (subject, body, part) in [
        (APPLY, format!(r#"{{"resource":{{{metadata}}},"spec":{{}}}},"dryrun":true}}"#), "did you mean \"dry_run\""),
        (APPLY, format!(r#"{{"resource":{{{metadata},"label":{{}}}},"spec":{{}}}}}}"#), "did you mean \"labels\""),
        (APPLY, format!(r#"{{"resource":{{{metadata}}},"spec":{{"featurs":{{}}}}}}}}"#), "did you mean \"features\""),
        (GET, r#"{"idd":"never"}"#.to_owned(), "did you mean \"id\""),
        ("backstay.v1.api.delete.clusters", format!(r#"{{"id":"{CLUSTER}","dryrun":true}}"#), "unknown field"),
    ] {
        refused(&client, subject, "", body.into(), ErrorCode::InvalidArgument, part).await?;
    }
    let found = json(&ask(&client, GET, "", Vec::new()).await?)?;
    let ids: Vec<_> = found["result"]["items"].as_array().into_iter().flatten().map(|c| &c["metadata"]["id"]).collect();
    ensure!(ids == [CLUSTER], "{found}");
    Ok(())
}

#[tokio::test]
async fn a_header_counts_in_any_case() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let client = stand.nats.client().await?;
    let mut headers = HeaderMap::new();
    headers.insert("content-type", ContentType::MessagePack.as_str());
    let body = ContentType::MessagePack.encode(&GetRequest::default())?;
    let answer = client.request_with_headers(GET, headers, body.into()).await?;
    ContentType::MessagePack.decode::<Answer<GetResponse>>(&answer.payload)?.into_result()?;
    Ok(())
}

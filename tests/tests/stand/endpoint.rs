//! The S3 endpoint without faults: what s3s-fs lacks, and what it answers otherwise than AWS.

use std::process::Command;

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::operation::complete_multipart_upload::CompleteMultipartUploadError;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use backstay_tests::{Folder, Op, Process, S3, S3Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{SOON, bytes};

const PART: usize = 5 << 20;

type SdkResult<E> = Result<(), aws_sdk_s3::error::SdkError<E>>;

/// Code and HTTP status of a failure.
fn failure<T, E: ProvideErrorMetadata>(
    result: Result<T, aws_sdk_s3::error::SdkError<E>>,
) -> (Option<String>, Option<u16>) {
    let Err(error) = result else { return (None, None) };
    let status = error.raw_response().map(|r| r.status().as_u16());
    (error.code().map(str::to_owned), status)
}

fn own() -> Result<S3> {
    S3::start_own(S3Options::default())
}

async fn begin(client: &Client, key: &str) -> Result<String> {
    let begun = client.create_multipart_upload().bucket("mybucket").key(key).metadata("owner", "me").send().await?;
    begun.upload_id.context("an upload has an id")
}

async fn part(client: &Client, key: &str, upload: &str, number: i32, body: Vec<u8>) -> Result<CompletedPart> {
    let sent = client.upload_part().bucket("mybucket").key(key).upload_id(upload).part_number(number);
    let sent = sent.body(body.into()).send().await?;
    Ok(CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag).build())
}

async fn complete(
    client: &Client,
    key: &str,
    upload: &str,
    parts: Vec<CompletedPart>,
) -> SdkResult<CompleteMultipartUploadError> {
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let request = client.complete_multipart_upload().bucket("mybucket").key(key).upload_id(upload);
    request.multipart_upload(parts).if_none_match("*").send().await.map(drop)
}

#[tokio::test]
async fn an_object_goes_in_parts_and_comes_back() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let upload = begin(&client, "a/b.snapshot").await?;
    let (first, second) = (bytes(PART, 1), bytes(1000, 2));
    // In the wrong order, and the second twice.
    part(&client, "a/b.snapshot", &upload, 2, second.clone()).await?;
    let two = part(&client, "a/b.snapshot", &upload, 2, second.clone()).await?;
    let one = part(&client, "a/b.snapshot", &upload, 1, first.clone()).await?;
    assert!(s3.objects().await?.is_empty(), "nothing is visible before it is complete");
    assert_eq!(s3.unfinished().await?[0].key, "a/b.snapshot");
    complete(&client, "a/b.snapshot", &upload, vec![one, two]).await?;

    assert_eq!(s3.objects().await?.into_iter().collect::<Vec<_>>(), [("a/b.snapshot".into(), (PART + 1000) as u64)]);
    assert!(s3.unfinished().await?.is_empty() && s3.stray_parts()?.is_empty());
    let head = client.head_object().bucket("mybucket").key("a/b.snapshot").send().await?;
    assert_eq!(head.metadata().and_then(|m| m.get("owner")).map(String::as_str), Some("me"));
    let got = client.get_object().bucket("mybucket").key("a/b.snapshot").send().await?.body.collect().await?;
    assert_eq!(got.into_bytes(), [first, second].concat());
    assert_eq!(s3.retries_are_identical()?, 1, "one part came twice");
    assert_eq!((s3.count(Op::UploadPart), s3.count(Op::CompleteMultipartUpload)), (3, 1));
    Ok(())
}

#[tokio::test]
async fn open_uploads_are_listed_in_pages() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let mut ids = Vec::new();
    for key in ["a/1", "a/1", "a/2", "b/1", "a/3"] {
        ids.push((key, begin(&client, key).await?));
    }
    s3.set_page(2);
    let mut found = Vec::new();
    let (mut key, mut id) = (None, None);
    loop {
        let list = client.list_multipart_uploads().bucket("mybucket").prefix("a/");
        let page = list.set_key_marker(key).set_upload_id_marker(id).send().await?;
        assert!(page.uploads().len() <= 2);
        assert!(page.uploads().iter().all(|upload| upload.initiated().is_some()));
        found.extend(page.uploads().iter().map(|u| u.upload_id().unwrap_or_default().to_owned()));
        if page.is_truncated() != Some(true) {
            break;
        }
        (key, id) = (page.next_key_marker, page.next_upload_id_marker);
    }
    let mut wanted: Vec<_> = ids.iter().filter(|(key, _)| key.starts_with("a/")).collect();
    wanted.sort();
    assert_eq!(found, wanted.into_iter().map(|(_, id)| id.clone()).collect::<Vec<_>>());

    for (key, id) in ids {
        client.abort_multipart_upload().bucket("mybucket").key(key).upload_id(&id).send().await?;
        let again = client.abort_multipart_upload().bucket("mybucket").key(key).upload_id(&id).send().await;
        assert_eq!(failure(again), (Some("NoSuchUpload".into()), Some(404)));
    }
    assert!(client.list_multipart_uploads().bucket("mybucket").send().await?.uploads().is_empty());
    Ok(())
}

#[tokio::test]
async fn an_abort_removes_the_parts_and_refuses_more() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let upload = begin(&client, "k").await?;
    let one = part(&client, "k", &upload, 1, bytes(100, 0)).await?;
    client.abort_multipart_upload().bucket("mybucket").key("k").upload_id(&upload).send().await?;
    assert!(s3.stray_parts()?.is_empty());
    let late = client.upload_part().bucket("mybucket").key("k").upload_id(&upload).part_number(2);
    let late = late.body(bytes(100, 0).into()).send().await;
    assert_eq!(failure(late), (Some("NoSuchUpload".into()), Some(404)));
    assert_eq!(failure(complete(&client, "k", &upload, vec![one]).await).0.as_deref(), Some("NoSuchUpload"));
    Ok(())
}

#[tokio::test]
async fn create_only_answers_412_for_put_and_complete() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let put = || client.put_object().bucket("mybucket").key("k").if_none_match("*").body(bytes(10, 1).into()).send();
    put().await?;
    assert_eq!(failure(put().await), (Some("PreconditionFailed".into()), Some(412)));
    let upload = begin(&client, "k").await?;
    let one = part(&client, "k", &upload, 1, bytes(20, 2)).await?;
    let taken = complete(&client, "k", &upload, vec![one.clone()]).await;
    assert_eq!(failure(taken), (Some("PreconditionFailed".into()), Some(412)));
    assert_eq!(s3.objects().await?["k"], 10, "the first stays");
    assert_eq!(s3.unfinished().await?.len(), 1, "the upload stays to be aborted");

    s3.ignore_if_none_match(true);
    complete(&client, "k", &upload, vec![one]).await?;
    assert_eq!(s3.objects().await?["k"], 20, "this provider overwrites");
    Ok(())
}

#[tokio::test]
async fn of_two_creators_at_once_one_loses() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    for round in 0..20 {
        let key = format!("k{round}");
        let put =
            |seed| client.put_object().bucket("mybucket").key(&key).if_none_match("*").body(bytes(9, seed).into());
        let (a, b) = tokio::join!(put(1).send(), put(2).send());
        let codes = [failure(a).1, failure(b).1];
        assert!(codes == [None, Some(412)] || codes == [Some(412), None], "{codes:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_completed_upload_is_completed_again_as_aws_or_as_others() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let upload = begin(&client, "k").await?;
    let one = part(&client, "k", &upload, 1, bytes(20, 2)).await?;
    complete(&client, "k", &upload, vec![one.clone()]).await?;
    assert_eq!(failure(complete(&client, "k", &upload, vec![one.clone()]).await).1, Some(412));
    s3.forget_completed_uploads(true);
    let forgotten = complete(&client, "k", &upload, vec![one]).await;
    assert_eq!(failure(forgotten), (Some("NoSuchUpload".into()), Some(404)));
    Ok(())
}

#[tokio::test]
async fn wrong_parts_do_not_complete_and_the_upload_stays() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let upload = begin(&client, "k").await?;
    let one = part(&client, "k", &upload, 1, bytes(1000, 1)).await?;
    let two = part(&client, "k", &upload, 2, bytes(1000, 2)).await?;
    let missing = CompletedPart::builder().part_number(3).e_tag("\"x\"").build();
    let wrong = CompletedPart::builder().part_number(1).e_tag("\"0123\"").build();
    for (parts, code) in [
        (vec![one.clone(), missing], "EntityTooSmall"),
        (vec![CompletedPart::builder().part_number(7).e_tag("\"x\"").build()], "InvalidPart"),
        (vec![wrong], "InvalidPart"),
        (vec![two.clone(), one.clone()], "EntityTooSmall"),
        (vec![one.clone(), one.clone()], "EntityTooSmall"),
    ] {
        let result = complete(&client, "k", &upload, parts).await;
        assert_eq!(failure(result), (Some(code.into()), Some(400)));
    }
    assert_eq!(s3.unfinished().await?.len(), 1);
    assert!(s3.objects().await?.is_empty());
    let parts = client.list_parts().bucket("mybucket").key("k").upload_id(&upload).send().await?;
    assert_eq!(parts.parts().iter().map(|p| p.e_tag()).collect::<Vec<_>>(), [one.e_tag(), two.e_tag()]);
    Ok(())
}

#[tokio::test]
async fn wrong_keys_are_refused() -> Result<()> {
    let s3 = own()?;
    let wrong_secret = s3.client_with("access", "secret124").list_objects_v2().bucket("mybucket").send().await;
    assert_eq!(failure(wrong_secret), (Some("SignatureDoesNotMatch".into()), Some(403)));
    let wrong_id = s3.client_with("nobody", "secret123").list_objects_v2().bucket("mybucket").send().await;
    assert_eq!(failure(wrong_id), (Some("InvalidAccessKeyId".into()), Some(403)));
    let request = "GET /mybucket?list-type=2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut unsigned = TcpStream::connect(s3.endpoint().trim_start_matches("http://")).await?;
    unsigned.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    unsigned.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("AccessDenied"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_named_as_aws_names_it() -> Result<()> {
    let s3 = own()?;
    let client = s3.client();
    let get = |bucket, key| client.get_object().bucket(bucket).key(key).send();
    assert_eq!(failure(get("mybucket", "none").await), (Some("NoSuchKey".into()), Some(404)));
    assert_eq!(failure(get("nobucket", "none").await), (Some("NoSuchBucket".into()), Some(404)));
    let list = client.list_objects_v2().bucket("nobucket").send().await;
    assert_eq!(failure(list), (Some("NoSuchBucket".into()), Some(404)));
    let put = client.put_object().bucket("nobucket").key("k").body(bytes(1, 1).into()).send().await;
    assert_eq!(failure(put), (Some("NoSuchBucket".into()), Some(404)));
    let begin = client.create_multipart_upload().bucket("nobucket").key("k").send().await;
    assert_eq!(failure(begin), (Some("NoSuchBucket".into()), Some(404)));
    client.put_object().bucket("mybucket").key("folder/k").body(bytes(1, 1).into()).send().await?;
    assert_eq!(failure(client.head_object().bucket("mybucket").key("folder").send().await).1, Some(404));
    client.delete_object().bucket("mybucket").key("none").send().await?;
    client.delete_object().bucket("mybucket").key("folder/k").send().await?;
    assert!(s3.objects().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn listings_come_in_pages_of_at_most_a_thousand() -> Result<()> {
    let s3 = own()?;
    for number in 0..1100 {
        let file = s3.path_of(&format!("c/{number:04}"));
        std::fs::create_dir_all(file.parent().context("it has a parent")?)?;
        std::fs::write(file, "x")?;
    }
    let client = s3.client();
    let first = client.list_objects_v2().bucket("mybucket").max_keys(5000).send().await?;
    assert_eq!((first.contents().len(), first.is_truncated()), (1000, Some(true)));
    let next = client.list_objects_v2().bucket("mybucket").set_continuation_token(first.next_continuation_token);
    assert_eq!(next.send().await?.contents().len(), 100);
    let folders = client.list_objects_v2().bucket("mybucket").delimiter("/").send().await?;
    assert_eq!(folders.common_prefixes()[0].prefix(), Some("c/"));
    Ok(())
}

#[tokio::test]
async fn it_keeps_everything_over_a_restart_and_nothing_over_a_drop() -> Result<()> {
    let mut s3 = own()?;
    let client = s3.client();
    client.put_object().bucket("mybucket").key("k").body(bytes(10, 1).into()).send().await?;
    let upload = begin(&client, "m").await?;
    let one = part(&client, "m", &upload, 1, bytes(30, 1)).await?;
    let endpoint = s3.endpoint().to_owned();
    s3.stop();
    assert!(client.list_objects_v2().bucket("mybucket").send().await.is_err());
    s3.restart()?;
    assert_eq!(s3.endpoint(), endpoint);
    complete(&client, "m", &upload, vec![one]).await?;
    assert_eq!(s3.objects().await?.into_keys().collect::<Vec<_>>(), ["k", "m"]);
    let folder = s3.folder().to_owned();
    drop(s3);
    assert!(!folder.exists());
    assert!(client.list_objects_v2().bucket("mybucket").send().await.is_err());
    Ok(())
}

#[tokio::test]
async fn as_a_process_it_serves_and_stops_at_sigterm() -> Result<()> {
    let folder = Folder::new("test")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay-test-s3"));
    command.args(["--listen", "127.0.0.1:0", "--dir"]).arg(folder.path().join("data"));
    let mut process = Process::spawn("backstay-test-s3", command, &folder.path().join("log"))?;
    let line = process.wait_for_log("serving bucket mybucket at ", SOON).await?;
    let endpoint = line.rsplit(' ').next().context("the line ends with the endpoint")?;
    let s3 = own()?;
    let config = s3.client().config().to_builder().endpoint_url(endpoint).build();
    let client = Client::from_conf(config);
    client.put_object().bucket("mybucket").key("k").body(bytes(10, 1).into()).send().await?;
    let upload = begin(&client, "m").await?;
    assert!(process.sigterm_and_wait(SOON).await?.success());
    assert!(!upload.is_empty() && folder.path().join("data/data/mybucket/k").is_file());
    Ok(())
}

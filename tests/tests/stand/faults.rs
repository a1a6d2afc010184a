//! Each fault of the S3 endpoint does what it says, to the request that it is for and to no other.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use backstay_tests::s3::Matching;
use backstay_tests::{Fault, Op, S3, S3Options, eventually};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{SOON, bytes};

/// What became of a request, as its client saw it.
#[derive(Debug, PartialEq, Eq)]
enum RequestOutcome {
    Done,
    Refused(u16, String),
    /// The connection failed, or the answer broke off.
    Broken,
}

fn outcome<T, E: ProvideErrorMetadata + std::fmt::Debug>(result: Result<T, SdkError<E>>) -> RequestOutcome {
    match result {
        Ok(_) => RequestOutcome::Done,
        Err(SdkError::ServiceError(error)) => {
            let code = error.err().code().unwrap_or_default().to_owned();
            RequestOutcome::Refused(error.raw().status().as_u16(), code)
        }
        Err(SdkError::DispatchFailure(_) | SdkError::ResponseError(_)) => RequestOutcome::Broken,
        Err(other) => panic!("the client itself failed: {other:?}"),
    }
}

struct Case {
    s3: S3,
    client: Client,
    upload: String,
}

impl Case {
    async fn new() -> Result<Self> {
        let s3 = S3::start_own(S3Options::default())?;
        let client = s3.client();
        let begun = client.create_multipart_upload().bucket("mybucket").key("m").send().await?;
        Ok(Self { s3, client, upload: begun.upload_id.context("an upload has an id")? })
    }

    async fn part(&self, number: i32) -> RequestOutcome {
        let request = self.client.upload_part().bucket("mybucket").key("m").upload_id(&self.upload);
        outcome(request.part_number(number).body(bytes(300_000, number as u8).into()).send().await)
    }

    async fn put(&self, key: &str) -> RequestOutcome {
        outcome(self.client.put_object().bucket("mybucket").key(key).body(bytes(100_000, 7).into()).send().await)
    }

    async fn has(&self, key: &str) -> Result<bool> {
        Ok(self.s3.objects().await?.contains_key(key))
    }
}

#[tokio::test]
async fn a_status_refuses_and_nothing_is_done() -> Result<()> {
    let case = Case::new().await?;
    for (status, code) in [(500, "InternalError"), (503, "SlowDown"), (403, "AccessDenied")] {
        let injected = case.s3.inject(Op::PutObject.nth(2), Fault::Status(status));
        assert_eq!(case.put("first").await, RequestOutcome::Done);
        assert_eq!(case.put("second").await, RequestOutcome::Refused(status, code.into()));
        assert!(!case.has("second").await?);
        assert_eq!(case.put("third").await, RequestOutcome::Done);
        assert_eq!(injected.fired(), 1);
        case.s3.clear_faults();
    }
    Ok(())
}

#[tokio::test]
async fn every_third_part_is_refused_and_recorded_all_the_same() -> Result<()> {
    let case = Case::new().await?;
    case.s3.inject(Op::UploadPart.every(3), Fault::Status(503));
    let mut refused = Vec::new();
    for number in 1..=6 {
        while case.part(number).await != RequestOutcome::Done {
            refused.push(number);
        }
    }
    assert_eq!(refused, [3, 5], "the third and the sixth request");
    assert_eq!(case.s3.count(Op::UploadPart), 8);
    let parts = case.s3.parts();
    assert_eq!(parts.len(), 8);
    assert!(parts.iter().all(|part| part.whole && part.bytes == 300_000), "{parts:?}");
    assert_eq!(case.s3.retries_are_identical()?, 2);
    Ok(())
}

#[tokio::test]
async fn a_retry_with_other_bytes_is_noticed() -> Result<()> {
    let case = Case::new().await?;
    for seed in [1, 2] {
        let request = case.client.upload_part().bucket("mybucket").key("m").upload_id(&case.upload).part_number(1);
        request.body(bytes(1000, seed).into()).send().await?;
    }
    let error = case.s3.retries_are_identical().expect_err("the bodies differ");
    assert!(error.to_string().contains("part 1 "), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_reset_before_or_in_the_body_breaks_the_connection_and_nothing_is_done() -> Result<()> {
    let case = Case::new().await?;
    for fault in [Fault::Reset, Fault::ResetInBody(50_000), Fault::ResetInBody(0)] {
        case.s3.inject(Op::UploadPart.nth(1), fault.clone());
        case.s3.inject(Op::PutObject.nth(1), fault.clone());
        assert_eq!(case.part(1).await, RequestOutcome::Broken, "{fault:?}");
        assert_eq!(case.put("k").await, RequestOutcome::Broken, "{fault:?}");
        case.s3.clear_faults();
    }
    assert!(!case.has("k").await?);
    let listed = case.client.list_parts().bucket("mybucket").key("m").upload_id(&case.upload).send().await?;
    assert!(listed.parts().is_empty());
    let parts = case.s3.parts();
    assert!(parts.iter().any(|part| !part.whole && part.bytes > 0 && part.bytes <= 50_000), "{parts:?}");
    assert_eq!(case.part(1).await, RequestOutcome::Done);
    Ok(())
}

#[tokio::test]
async fn a_lost_answer_is_work_that_was_done() -> Result<()> {
    let case = Case::new().await?;
    case.s3.inject(Op::PutObject.nth(1), Fault::LoseAnswer);
    assert_eq!(case.put("k").await, RequestOutcome::Broken);
    assert!(case.has("k").await?);
    assert_eq!(case.put("k").await, RequestOutcome::Done);
    Ok(())
}

#[tokio::test]
async fn silence_before_or_after_the_work() -> Result<()> {
    let case = Case::new().await?;
    case.s3.inject(Op::PutObject.nth(1), Fault::Hang);
    case.s3.inject(Op::PutObject.nth(2), Fault::DoneButSilent);
    for (number, key) in [(1, "hung"), (2, "done")] {
        // As soon as the server has it, and has done with it what it does.
        let arrived = async {
            case.s3.reached(Op::PutObject, number, SOON).await?;
            eventually(SOON, || async {
                ensure!(case.has(key).await? == (key == "done"), "the work is not done yet");
                Ok(())
            })
            .await
        };
        tokio::select! {
            answer = case.put(key) => bail!("{key} was answered: {answer:?}"),
            arrived = arrived => arrived?,
        }
    }
    assert!(!case.has("hung").await?);
    Ok(())
}

#[tokio::test]
async fn an_answer_can_break_off() -> Result<()> {
    let case = Case::new().await?;
    assert_eq!(case.put("k").await, RequestOutcome::Done);
    case.s3.inject(Op::GetObject.nth(1), Fault::CutAnswer(50_000));
    let get = || case.client.get_object().bucket("mybucket").key("k").send();
    let cut = match get().await {
        Ok(answer) => answer.body.collect().await.map(drop).is_err(),
        Err(_) => true,
    };
    assert!(cut);
    assert_eq!(get().await?.body.collect().await?.into_bytes().len(), 100_000);
    Ok(())
}

#[tokio::test]
async fn an_error_can_come_in_a_200() -> Result<()> {
    let case = Case::new().await?;
    assert_eq!(case.part(1).await, RequestOutcome::Done);
    case.s3.inject(Op::CompleteMultipartUpload.nth(1), Fault::ErrorIn200);
    let request = case.client.complete_multipart_upload().bucket("mybucket").key("m").upload_id(&case.upload);
    assert_eq!(outcome(request.send().await), RequestOutcome::Refused(200, "InternalError".into()));
    assert!(!case.has("m").await? && case.s3.unfinished().await?.len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_slow_wire_takes_its_time() -> Result<()> {
    let case = Case::new().await?;
    case.s3.inject(Op::PutObject.always(), Fault::Slow(100_000));
    // 100,000 bytes take a second at the least: a fraction of it must not be enough.
    assert!(timeout(Duration::from_millis(300), case.put("k")).await.is_err());
    assert_eq!(timeout(SOON, case.put("k")).await?, RequestOutcome::Done);
    Ok(())
}

#[tokio::test]
async fn a_gate_holds_requests_until_it_is_opened() -> Result<()> {
    let case = Case::new().await?;
    let gate = case.s3.hold(Op::PutObject.always().key("held"));
    let (client, mut tasks) = (case.client.clone(), JoinSet::new());
    tasks
        .spawn(async move { client.put_object().bucket("mybucket").key("held").body(bytes(9, 1).into()).send().await });
    gate.reached(SOON).await?;
    assert_eq!(case.put("free").await, RequestOutcome::Done);
    assert!(!case.has("held").await?);
    assert_eq!(case.s3.most_in_flight(Op::PutObject), 2);
    gate.open();
    tasks.join_next().await.context("one task")???;
    assert!(case.has("held").await?);
    Ok(())
}

#[tokio::test]
async fn anything_can_fail_and_arrivals_can_be_awaited() -> Result<()> {
    let case = Case::new().await?;
    case.s3.inject(Matching::every(2), Fault::Status(500));
    let outcomes = [case.put("a").await, case.put("b").await, case.part(1).await, case.part(2).await];
    let refused = RequestOutcome::Refused(500, "InternalError".into());
    assert_eq!(
        outcomes,
        [RequestOutcome::Done, RequestOutcome::Refused(500, "InternalError".into()), RequestOutcome::Done, refused]
    );
    case.s3.reached(Op::UploadPart, 2, SOON).await?;
    assert!(case.s3.reached(Op::UploadPart, 3, Duration::from_millis(20)).await.is_err());
    Ok(())
}

//! Commands from the coordinator: every request gets an answer of the matching kind.

use std::sync::Arc;

use async_nats::{Client, Message as Request, Subscriber};
use backstay_daemon::trouble::Trouble;
use backstay_protocol::VERSION;
use backstay_protocol::bus::{
    CancelBackup, CancelReply, DecodeError, RefusalCode, RestoreCommand, RestoreReply, StartBackup, StartReply,
    VerifyCommand, VerifyReply, decode, restore_reply, start_reply::Answer, verify_reply,
};
use backstay_protocol::subject::{Command, Subject};
use futures::StreamExt;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::attempt::Attempts;
use crate::attempt::job::refuse;
use crate::restore::Restores;
use crate::verify::Verifications;

/// The services that carry out commands.
pub struct Desks {
    pub attempts: Arc<Attempts>,
    pub restores: Arc<Restores>,
    pub verifications: Arc<Verifications>,
}

/// Answers requests one after the other until `stop`.
pub async fn serve(client: Client, mut requests: Subscriber, desks: Desks, stop: &CancellationToken) {
    let mut trouble = Trouble::default();
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            () = stop.cancelled() => return,
        };
        let Some(request) = request else { return };
        let answer = answer(&request, &desks).await;
        let Some(reply) = request.reply else { continue };
        match client.publish(reply, answer.into()).await {
            Ok(()) => drop(trouble.over()),
            // The coordinator asks again, twice a second in a restore.
            Err(error) => {
                if let Some(told) = trouble.note(&error.to_string()) {
                    warn!(%error, lasting = told.lasting, "cannot answer a command");
                }
            }
        }
    }
}

async fn answer(request: &Request, Desks { attempts, restores, verifications }: &Desks) -> Vec<u8> {
    match request.subject.parse() {
        Ok(Subject::Agent { command: Command::Cancel, .. }) => cancel(&request.payload, attempts).await.encode_to_vec(),
        Ok(Subject::Agent { command: Command::Start, .. }) => start(&request.payload, attempts).await.encode_to_vec(),
        Ok(Subject::Agent { command: Command::Restore, .. }) => {
            restore(&request.payload, restores).await.encode_to_vec()
        }
        Ok(Subject::Agent { command: Command::Verify, .. }) => {
            verify(&request.payload, verifications).await.encode_to_vec()
        }
        _ => {
            let text = format!("{} is not a command that this version knows", request.subject);
            refused(RefusalCode::Invalid, text).encode_to_vec()
        }
    }
}

async fn start(payload: &[u8], attempts: &Arc<Attempts>) -> StartReply {
    match decode::<StartBackup>(payload) {
        Ok(command) => attempts.start(command).await,
        Err(error @ DecodeError::UnknownVersion { .. }) => refused(RefusalCode::UnknownVersion, error.to_string()),
        Err(error @ DecodeError::Malformed { .. }) => refused(RefusalCode::Invalid, error.to_string()),
    }
}

async fn restore(payload: &[u8], restores: &Restores) -> RestoreReply {
    let refused = |code, text: String| {
        info!(reason = text, "refused a restore command");
        RestoreReply { version: VERSION, answer: Some(restore_reply::Answer::Refused(refuse(code, text))) }
    };
    match decode::<RestoreCommand>(payload) {
        Ok(command) => restores.command(command).await,
        Err(error @ DecodeError::UnknownVersion { .. }) => refused(RefusalCode::UnknownVersion, error.to_string()),
        Err(error @ DecodeError::Malformed { .. }) => refused(RefusalCode::Invalid, error.to_string()),
    }
}

async fn verify(payload: &[u8], verifications: &Arc<Verifications>) -> VerifyReply {
    let refused = |code, text: String| {
        info!(reason = text, "refused a verify command");
        VerifyReply { version: VERSION, answer: Some(verify_reply::Answer::Refused(refuse(code, text))) }
    };
    match decode::<VerifyCommand>(payload) {
        Ok(command) => verifications.command(command).await,
        Err(error @ DecodeError::UnknownVersion { .. }) => refused(RefusalCode::UnknownVersion, error.to_string()),
        Err(error @ DecodeError::Malformed { .. }) => refused(RefusalCode::Invalid, error.to_string()),
    }
}

async fn cancel(payload: &[u8], attempts: &Arc<Attempts>) -> CancelReply {
    match decode::<CancelBackup>(payload) {
        Ok(command) => attempts.cancel(command).await,
        Err(error) => {
            warn!(%error, "a cancellation could not be parsed");
            CancelReply { version: VERSION, cancelled: false }
        }
    }
}

fn refused(code: RefusalCode, text: String) -> StartReply {
    info!(reason = text, "refused a command");
    StartReply { version: VERSION, answer: Some(Answer::Refused(refuse(code, text))) }
}

//! `status --watch`: redraws on a terminal; elsewhere it prints again after each change.

use std::io;
use std::time::Duration;

use backstay_protocol::{Clock, Timestamp};
use serde_json::Value;
use tokio::time::MissedTickBehavior;

use super::assess::Word;
use super::{Query, Report, look};
use crate::api::{Api, Transport};
use crate::arguments::operate::Form;
use crate::console::{Console, Failure};

/// How often the state is queried.
const LOOK: Duration = Duration::from_secs(2);

/// Shows the state of each cluster until it is interrupted or its output is closed.
///
/// # Errors
/// Nobody answers at the beginning, or the coordinator refuses.
pub async fn run<T: Transport>(
    api: &Api<T>,
    query: &Query,
    clock: &dyn Clock,
    console: &mut Console<'_>,
) -> Result<(), Failure> {
    let (mut shown, mut away): (Option<Report>, String) = (None, String::new());
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let now = clock.now();
        match look(api, query, now).await {
            Ok(report) => {
                show(&report, shown.as_ref(), !away.is_empty(), query, now, console)?;
                away.clear();
                shown = Some(report);
            }
            // Nobody there at the beginning is an error; later it is waited out.
            Err(Failure::Call(error)) if shown.is_some() && error.passes() => {
                let text = format!("waiting: {error}");
                if text != away {
                    console.remark(&text)?;
                    away = text;
                }
            }
            Err(other) => return Err(other),
        }
        if console.lost.is_some() {
            return Ok(());
        }
    }
}

fn show(
    report: &Report,
    before: Option<&Report>,
    was_away: bool,
    query: &Query,
    now: Timestamp,
    console: &mut Console<'_>,
) -> io::Result<()> {
    let has_changed = before.is_none_or(|before| essence(before) != essence(report));
    if !console.screen && !has_changed {
        return if was_away { console.remark("the coordinator answers again") } else { Ok(()) };
    }
    let above = match (console.screen, before) {
        (true, _) => heading(query.form, &now.rfc3339()),
        (false, None) => String::new(),
        (false, Some(_)) => gap(query.form).to_owned(),
    };
    console.redraw(&format!("{above}{}", report.text(query, now, console.colour)))?;
    report.notes.iter().try_for_each(|note| console.remark(&format!("Note: {note}")))
}

/// What a terminal shows above the table.
fn heading(form: Form, now: &str) -> String {
    match form {
        Form::Table | Form::Wide => format!("Every {} s, at {now}; Ctrl-C ends it\n\n", LOOK.as_secs()),
        Form::Yaml | Form::Json => String::new(),
    }
}

/// The separator between two outputs, one below the other.
fn gap(form: Form) -> &'static str {
    match form {
        Form::Table | Form::Wide => "\n",
        Form::Yaml => "---\n",
        Form::Json => "",
    }
}

/// The part whose change is worth printing again: nothing that changes only because time passes.
fn essence(report: &Report) -> (Vec<Value>, &[String]) {
    let listed = report.listed.iter().map(|health| {
        let mut value = super::value(health);
        if let Some(fields) = value.as_object_mut() {
            fields.remove("ageseconds");
            // These say how long ago, or how far ahead, too: what they tell of is compared beside them.
            if matches!(health.word, Word::Damaged | Word::Unproven | Word::Clock) {
                fields.remove("reason");
            }
        }
        value["verification"] = serde_json::to_value(&health.verification).unwrap_or_default();
        value
    });
    (listed.collect(), &report.notes)
}

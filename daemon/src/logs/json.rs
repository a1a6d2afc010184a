//! One JSON object per line: time, level, target and message, the fields of the event, and the fields of the spans
//! around it, all at the top level. So every line of an attempt has `attempt` in the same place.

use std::fmt;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::terminal::is_command;

/// How the targets of Backstay's own spans begin.
const OURS: &str = "backstay";

/// Needs [`JsonFields`] as the format of span fields.
#[derive(Debug)]
pub struct Lines;

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut line = Map::new();
        line.insert("timestamp".into(), time.into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("target".into(), event.metadata().target().into());
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(message) = fields.0.remove("message") {
            line.insert("message".into(), message);
        }
        // A library's span may have a field of the same name (the S3 client counts its own attempts): ours come
        // first, then what the event says itself, then the rest.
        let spans = || context.event_scope().into_iter().flat_map(|scope| scope.from_root());
        for span in spans().filter(|span| span.metadata().target().starts_with(OURS)) {
            add(&mut line, recorded(&span));
        }
        add(&mut line, fields.0);
        for span in spans().filter(|span| !span.metadata().target().starts_with(OURS)) {
            add(&mut line, recorded(&span));
        }
        // JSON leaves some commands of terminals as they are: those are escaped too.
        for c in Value::Object(line).to_string().chars() {
            match is_command(c) {
                true => write!(writer, "\\u{:04x}", c as u32)?,
                false => writer.write_char(c)?,
            }
        }
        writeln!(writer)
    }
}

fn recorded<S: for<'a> LookupSpan<'a>>(span: &tracing_subscriber::registry::SpanRef<'_, S>) -> Map<String, Value> {
    let extensions = span.extensions();
    let fields = extensions.get::<FormattedFields<JsonFields>>().map(|fields| fields.fields.as_str());
    fields.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// A field that is there already keeps its value.
fn add(line: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (name, value) in fields {
        if !line.contains_key(&name) {
            line.insert(name, value);
        }
    }
}

/// An event's fields.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().trim_start_matches("r#").to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::{error_span, info, info_span};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "\u{1b}[2J \u{9b}31m \u{7f} \u{202e}x";

    fn logged(work: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(Lines)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(sink.0.lock().expect("no panic").clone()).expect("text");
        assert!(!text.chars().any(|c| is_command(c) && c != '\n'), "{text:?}");
        text.lines().map(|line| serde_json::from_str(line).expect("one object per line")).collect()
    }

    #[test]
    fn the_fields_of_our_spans_stand_in_every_line_within() {
        let lines = logged(|| {
            info!(port = 7_u64, ok = true, "before");
            error_span!("backup", attempt = %"a-1").in_scope(|| {
                info!(r#type = "x", "with \"quotes\"\nand a line");
                info!("{HOSTILE}");
                info_span!(target: "aws_smithy_runtime", "try_attempt", attempt = 3_u64, part = 2_u64).in_scope(|| {
                    info!(attempt = 9_u64, error = ?"why", "inside a library");
                });
            });
        });
        assert_eq!((&lines[0]["message"], &lines[0]["port"]), (&"before".into(), &7.into()));
        assert_eq!((&lines[0]["ok"], &lines[0]["attempt"]), (&true.into(), &Value::Null));
        assert_eq!((&lines[1]["attempt"], &lines[1]["type"]), (&"a-1".into(), &"x".into()));
        assert_eq!(lines[1]["message"], "with \"quotes\"\nand a line");
        assert_eq!(lines[2]["message"], HOSTILE);
        assert_eq!((&lines[3]["attempt"], &lines[3]["part"]), (&"a-1".into(), &2.into()));
        for line in lines {
            assert!(line["timestamp"].is_string() && line["level"] == "INFO" && line["target"].is_string(), "{line}");
        }
    }
}

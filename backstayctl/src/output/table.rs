//! Tables: columns padded by three spaces, the heading always, no spaces at the end of a line.

use backstay_daemon::terminal;
use backstay_protocol::resource::Resource;
use backstay_protocol::types::TypeDefinition;
use serde_json::Value;

use super::json;

const PADDING: usize = 3;

/// The resources of one type, one on each line.
pub fn render(definition: &TypeDefinition, resources: &[Resource]) -> String {
    let mut rows = vec![columns(definition).collect()];
    rows.extend(resources.iter().map(|resource| row(definition, resource)));
    align(&rows)
}

fn columns(definition: &TypeDefinition) -> impl Iterator<Item = String> {
    let own = ["NAMESPACE", "TYPE", "ID", "VERSION"].into_iter();
    own.chain(definition.columns.iter().map(|(name, _)| *name)).map(str::to_owned)
}

/// The heading behind a column of marks.
pub fn heading(definition: &TypeDefinition, mark: &str) -> Vec<String> {
    std::iter::once(mark.to_owned()).chain(columns(definition)).collect()
}

/// A resource's cells behind its mark.
pub fn marked_row(definition: &TypeDefinition, mark: &str, resource: &Resource) -> Vec<String> {
    std::iter::once(mark.to_owned()).chain(row(definition, resource)).collect()
}

fn row(definition: &TypeDefinition, resource: &Resource) -> Vec<String> {
    let metadata = &resource.metadata;
    let own = [&metadata.namespace, definition.singular, &metadata.id, &metadata.version.to_string()].map(printable);
    own.into_iter().chain(definition.columns.iter().map(|(_, path)| cell(&resource.spec, path))).collect()
}

/// What stands at `path`, dots between levels; what is missing is empty.
fn cell(spec: &Value, path: &str) -> String {
    match path.split('.').try_fold(spec, |value, key| value.get(key)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => printable(text),
        Some(other) => printable(&json::compact(other)),
    }
}

/// An error from elsewhere may hold line ends and terminal commands: one cell is one line of plain text.
fn printable(text: &str) -> String {
    text.chars().map(|c| if terminal::is_command(c) { ' ' } else { c }).collect()
}

/// A table of its own columns; cells are made fit for one line.
pub fn plain(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let heading = heading.iter().map(|name| (*name).to_owned()).collect();
    let rows = rows.map(|row| row.iter().map(|cell| printable(cell)).collect());
    align(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

fn align(rows: &[Vec<String>]) -> String {
    Rows::default().more(rows)
}

/// A table that goes on: later rows keep to the columns of earlier ones, and widen them where they must.
#[derive(Debug, Default)]
pub struct Rows {
    widths: Vec<usize>,
}

impl Rows {
    pub fn more(&mut self, rows: &[Vec<String>]) -> String {
        for row in rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            self.widths.iter_mut().zip(row).for_each(|(width, cell)| *width = (*width).max(cell.chars().count()));
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let padded = row.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join(&" ".repeat(PADDING)).trim_end_matches(' '))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_protocol::resource::Version;
    use backstay_protocol::spec::{
        BackupSpec, BackupState, BackupStatusSpec, OVERALL_STATUS_ID, OverallStatusSpec, S3ConfigSpec,
    };
    use backstay_protocol::time::Timestamp;
    use backstay_protocol::types;

    fn overall(version: u64, spec: &OverallStatusSpec) -> Resource {
        let mut resource = Resource::of(OVERALL_STATUS_ID, spec);
        resource.metadata.version = Version::Number(version);
        resource
    }

    #[test]
    fn the_documented_tables_of_the_overall_status() {
        let mut spec = OverallStatusSpec {
            configurationname: "s3".into(),
            configurationerror: "not initialized".into(),
            ..Default::default()
        };
        let expected = "\
NAMESPACE   TYPE                      ID                          VERSION   CONFIGURATION NAME   CONFIGURATION ERROR   LAST BACKUP STATUS   LAST BACKUP ERROR   LAST BACKUP TIME   CONFIGURATION ATTEMPT
ephemeral   EtcdBackupOverallStatus   etcdbackup-overall-status   1         s3                   not initialized
";
        assert_eq!(render(&types::ETCD_BACKUP_OVERALL_STATUSES, &[overall(1, &spec)]), expected);
        spec.configurationerror = String::new();
        let expected = "\
NAMESPACE   TYPE                      ID                          VERSION   CONFIGURATION NAME   CONFIGURATION ERROR   LAST BACKUP STATUS   LAST BACKUP ERROR   LAST BACKUP TIME   CONFIGURATION ATTEMPT
ephemeral   EtcdBackupOverallStatus   etcdbackup-overall-status   2         s3
";
        assert_eq!(render(&types::ETCD_BACKUP_OVERALL_STATUSES, &[overall(2, &spec)]), expected);
    }

    #[test]
    fn the_documented_table_of_backups() {
        let spec = BackupSpec {
            createdat: Some(Timestamp::from_seconds(1_702_166_400)),
            snapshot: "FFFFFFFF9A8AF980.snapshot".into(),
            size: 7,
        };
        let expected = r#"NAMESPACE   TYPE         ID                         VERSION     CREATED AT                         SNAPSHOT
external    EtcdBackup   talos-default-1702166400   undefined   {"nanos":0,"seconds":1702166400}   FFFFFFFF9A8AF980.snapshot
"#;
        assert_eq!(render(&types::ETCD_BACKUPS, &[Resource::of("talos-default-1702166400", &spec)]), expected);
    }

    #[test]
    fn an_empty_list_is_its_heading() {
        let expected = "NAMESPACE   TYPE   ID   VERSION   STATUS   ERROR   LAST BACKUP   LAST BACKUP ATTEMPT\n";
        assert_eq!(render(&types::ETCD_BACKUP_STATUSES, &[]), expected);
    }

    #[test]
    fn states_are_numbers_and_errors_stay_on_their_line() {
        let time = Some(Timestamp { seconds: 1, nanos: 2 });
        let spec = BackupStatusSpec {
            status: BackupState::Error,
            error: "no\nsuch \u{1b}[31mbucket".into(),
            lastbackuptime: None,
            lastbackupattempt: time,
        };
        let expected = r#"NAMESPACE   TYPE               ID   VERSION     STATUS   ERROR                 LAST BACKUP   LAST BACKUP ATTEMPT
ephemeral   EtcdBackupStatus   ü    undefined   2        no such  [31mbucket                 {"nanos":2,"seconds":1}
"#;
        assert_eq!(render(&types::ETCD_BACKUP_STATUSES, &[Resource::of("ü", &spec)]), expected);
    }

    #[test]
    fn a_cell_commands_no_terminal() {
        for hostile in ["a\u{1b}[2Jb", "a\u{9b}31mb", "a\nb\rc", "\u{202e}txt.exe", "\u{2066}x", "\u{7f}", "a\tb"] {
            let table = plain(&["A", "B"], std::iter::once(vec![hostile.to_owned(), "end".to_owned()]));
            assert_eq!(table.lines().count(), 2, "{table:?}");
            assert!(!table.chars().any(|c| terminal::is_command(c) && c != '\n'), "{table:?}");
        }
    }

    #[test]
    fn tables_show_no_secret() {
        let spec = S3ConfigSpec {
            bucket: "b".into(),
            secretaccesskey: "hunter2".into(),
            sessiontoken: "token7".into(),
            ..Default::default()
        };
        let text = render(&types::ETCD_BACKUP_S3_CONFIGS, &[Resource::of("x", &spec)]);
        assert!(!text.contains("hunter2") && !text.contains("token7"), "{text}");
    }
}

//! Tables: three spaces between columns, always a heading, no spaces at the end of a line.

use backstay_daemon::terminal;
use backstay_protocol::resource::Resource;
use backstay_protocol::types::TypeDefinition;
use serde_json::Value;

use super::json;
use super::view::View;

const PADDING: usize = 3;

/// The resources of one type, one on each line.
pub fn render(view: &View, definition: &TypeDefinition, resources: &[Resource]) -> String {
    let wide = view.is_wide();
    let heading = view.headings.then(|| heading(wide, definition).collect());
    let rows = resources.iter().map(|resource| row(wide, definition, resource).collect());
    align(&heading.into_iter().chain(rows).collect::<Vec<_>>())
}

fn heading(wide: bool, definition: &TypeDefinition) -> impl Iterator<Item = String> {
    let own = ["NAMESPACE", "TYPE", "ID", "VERSION"].into_iter();
    own.chain(columns(wide, definition).map(|(name, _)| name)).chain(wide.then_some("UPDATED")).map(str::to_owned)
}

fn columns(wide: bool, definition: &TypeDefinition) -> impl Iterator<Item = (&'static str, &'static str)> {
    let more = if wide { definition.wide } else { &[] };
    definition.columns.iter().chain(more).copied()
}

/// The heading, after a column of marks.
pub fn marked_heading(wide: bool, definition: &TypeDefinition, mark: &str) -> Vec<String> {
    std::iter::once(mark.to_owned()).chain(heading(wide, definition)).collect()
}

/// A resource's cells, after its mark.
pub fn marked_row(wide: bool, definition: &TypeDefinition, mark: &str, resource: &Resource) -> Vec<String> {
    std::iter::once(mark.to_owned()).chain(row(wide, definition, resource)).collect()
}

fn row(wide: bool, definition: &TypeDefinition, resource: &Resource) -> impl Iterator<Item = String> {
    let metadata = &resource.metadata;
    let own = [&metadata.namespace, definition.singular, &metadata.id, &metadata.version.to_string()].map(printable);
    let cells = columns(wide, definition).map(|(_, path)| cell(&resource.spec, path));
    let updated = wide.then(|| printable(metadata.updated.as_deref().unwrap_or_default()));
    own.into_iter().chain(cells).chain(updated)
}

/// The value at `path`, with dots between levels; empty if it is missing.
fn cell(spec: &Value, path: &str) -> String {
    match path.split('.').try_fold(spec, |value, key| value.get(key)) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => printable(text),
        Some(other) => printable(&json::compact(other)),
    }
}

/// One cell is one line of plain text: an error may contain line ends and escape sequences.
fn printable(text: &str) -> String {
    text.chars().map(|c| if terminal::is_command(c) { ' ' } else { c }).collect()
}

/// A table with its own columns; each cell becomes one line of plain text.
pub fn plain(heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    Layout::default().table(heading, rows)
}

/// The layout of a table with its own columns.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub headings: bool,
    /// The most characters of a line, and the column whose cells are cut if a line has more.
    pub fit: Option<(usize, &'static str)>,
}

impl Default for Layout {
    fn default() -> Self {
        Self { headings: true, fit: None }
    }
}

/// The least characters to which a column is cut.
const CUT_MIN: usize = 8;

impl Layout {
    /// That of a table whose lines have at most `width` characters where it is made to fit, by cutting a column.
    pub fn of(view: &View, width: usize, column: &'static str) -> Self {
        let fit = (view.fits && !view.is_wide()).then_some((width, column));
        Self { headings: view.headings, fit }
    }

    /// The table; cells are made fit for one line.
    pub fn table(self, heading: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
        let mut all: Vec<Vec<String>> = vec![heading.iter().map(|name| (*name).to_owned()).collect()];
        all.extend(rows.map(|row| row.iter().map(|cell| printable(cell)).collect()));
        if !self.headings {
            all.remove(0);
        }
        if let Some((width, column)) = self.fit
            && let Some(at) = heading.iter().position(|name| *name == column)
        {
            cut_column(&mut all, at, width);
        }
        align(&all)
    }
}

/// Cuts the cells of a column until the lines have at most `width` characters.
fn cut_column(rows: &mut [Vec<String>], at: usize, width: usize) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widest = |n: usize| rows.iter().filter_map(|row| Some(row.get(n)?.chars().count())).max().unwrap_or_default();
    let others: usize = (0..columns).filter(|n| *n != at).map(widest).sum();
    let room = width.saturating_sub(others + PADDING * columns.saturating_sub(1)).max(CUT_MIN);
    for cell in rows.iter_mut().filter_map(|row| row.get_mut(at)) {
        if cell.chars().count() > room {
            *cell = cell.chars().take(room - 1).chain(['…']).collect();
        }
    }
}

fn align(rows: &[Vec<String>]) -> String {
    Rows::default().more(rows)
}

/// A table that is continued: later rows keep the widths of earlier columns, and widen them if necessary.
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
    use crate::output::view::Format;
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
        assert_eq!(render(&View::default(), &types::ETCD_BACKUP_OVERALL_STATUSES, &[overall(1, &spec)]), expected);
        spec.configurationerror = String::new();
        let expected = "\
NAMESPACE   TYPE                      ID                          VERSION   CONFIGURATION NAME   CONFIGURATION ERROR   LAST BACKUP STATUS   LAST BACKUP ERROR   LAST BACKUP TIME   CONFIGURATION ATTEMPT
ephemeral   EtcdBackupOverallStatus   etcdbackup-overall-status   2         s3
";
        assert_eq!(render(&View::default(), &types::ETCD_BACKUP_OVERALL_STATUSES, &[overall(2, &spec)]), expected);
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
        assert_eq!(
            render(&View::default(), &types::ETCD_BACKUPS, &[Resource::of("talos-default-1702166400", &spec)]),
            expected
        );
    }

    #[test]
    fn an_empty_list_is_its_heading() {
        let expected = "NAMESPACE   TYPE   ID   VERSION   STATUS   ERROR   LAST BACKUP   LAST BACKUP ATTEMPT\n";
        assert_eq!(render(&View::default(), &types::ETCD_BACKUP_STATUSES, &[]), expected);
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
        assert_eq!(render(&View::default(), &types::ETCD_BACKUP_STATUSES, &[Resource::of("ü", &spec)]), expected);
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
    fn a_table_fits_by_cutting_one_column_alone() {
        let layout = Layout { fit: Some((24, "NAME")), headings: false };
        let row = |name: &str| vec!["1234".to_owned(), name.to_owned(), "12".to_owned()];
        let table = layout.table(&["ID", "NAME", "N"], [row("short"), row("a-name-that-is-long")].into_iter());
        assert_eq!(table, "1234   short          12\n1234   a-name-that…   12\n");
        assert_eq!(layout.table(&["ID", "NAME", "N"], std::iter::once(row("short"))), "1234   short   12\n");
        let tight = Layout { fit: Some((1, "NAME")), headings: true };
        assert!(tight.table(&["NAME"], std::iter::once(vec!["123456789".to_owned()])).ends_with("1234567…\n"));
    }

    #[test]
    fn a_wide_table_has_more_columns_and_none_may_have_no_heading() {
        let spec = BackupSpec { snapshot: "FFFFFFFF9A8AF980.snapshot".into(), size: 7, ..BackupSpec::default() };
        let resource = [Resource::of("c-1", &spec)];
        let wide = render(&Format::Wide.into(), &types::ETCD_BACKUPS, &resource);
        let heading =
            "NAMESPACE   TYPE         ID    VERSION     CREATED AT   SNAPSHOT                    SIZE   UPDATED\n";
        assert!(wide.starts_with(heading), "{wide}");
        let bare = render(&View { headings: false, ..View::default() }, &types::ETCD_BACKUPS, &resource);
        assert_eq!(bare, "external   EtcdBackup   c-1   undefined      FFFFFFFF9A8AF980.snapshot\n");
    }

    #[test]
    fn tables_show_no_secret() {
        let spec = S3ConfigSpec {
            bucket: "b".into(),
            secretaccesskey: "hunter2".into(),
            sessiontoken: "token7".into(),
            ..Default::default()
        };
        let text = render(&View::default(), &types::ETCD_BACKUP_S3_CONFIGS, &[Resource::of("x", &spec)]);
        assert!(!text.contains("hunter2") && !text.contains("token7"), "{text}");
    }
}

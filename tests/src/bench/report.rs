//! What was measured, as a table, and which figures are met.

use std::path::PathBuf;

use super::inspection::Inspected;
use super::measure::PERIOD;
use super::source::Source;
use super::statistics::Summary;
use super::variant::{Run, Variant};

/// The project's figures.
/// Of memory, without inspection; with it up to a GiB; with it above.
const PEAK_MIB: f64 = 64.0;
const PEAK_INSPECTED_MIB: f64 = 96.0;
const PEAK_LARGE_MIB: f64 = 256.0;
/// What inspection may add to a backup's wall time, in the same rounds; and how fast it is by itself, on one core.
const INSPECTED_WALL: f64 = 1.15;
const INSPECTION_MIB_PER_S: f64 = 1024.0;
const CPU_PER_GIB: f64 = 7.5;
/// Up to this part of the machine in other programs' hands, a run counts as quiet.
const QUIET: f64 = 0.12;

const MIB: f64 = (1u64 << 20) as f64;
const GIB: f64 = (1u64 << 30) as f64;

/// The rounds of one size.
pub struct Report {
    mib: u64,
    objects: u64,
    database_bytes: f64,
    inspection: Inspected,
    /// Each in the order of [`Variant::ALL`].
    rounds: Vec<Vec<Run>>,
}

/// How to read the tables.
pub fn notes() -> String {
    format!(
        "Medians, with the least and the greatest in brackets. The client is etcdctl or backstay-agent alone; its CPU time \
         is exact,\nits peak memory the kernel's mark (VmHWM) read every {} ms. GiB are those of the database. etcdctl \
         neither compresses nor encrypts;\nit writes to {}, as people run it, and, in a run of its own, to memory (/dev/shm). \
         Backstay compresses,\nencrypts, opens again what it sealed, and stores it. etcdctl and file:// sync what they \
         write; the S3 server does not.",
        PERIOD.as_millis(),
        std::env::temp_dir().display()
    )
}

impl Report {
    pub fn new(mib: u64, source: &Source) -> Self {
        let (objects, database_bytes) = (source.objects, source.database_bytes as f64);
        Self { mib, objects, database_bytes, inspection: source.inspection, rounds: Vec::new() }
    }

    /// One run of each variant, in the order of [`Variant::ALL`].
    pub fn add_round(&mut self, runs: Vec<Run>) {
        self.rounds.push(runs);
    }

    fn of(&self, variant: Variant, figure: impl Fn(&Run) -> f64) -> Summary {
        Summary::of(self.rounds.iter().map(|runs| figure(&runs[variant as usize])))
    }

    fn cpu_per_gib(&self, variant: Variant) -> Summary {
        self.of(variant, |run| run.client_cpu.as_secs_f64() / (self.database_bytes / GIB))
    }

    fn peak(&self, variant: Variant) -> Summary {
        self.of(variant, |run| run.peak_bytes as f64 / MIB)
    }

    fn temporary(&self, variant: Variant) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            self.rounds.iter().flat_map(|runs| runs[variant as usize].temporary.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Rounds in which every run was quiet.
    fn quiet_rounds(&self) -> Vec<&Vec<Run>> {
        self.rounds.iter().filter(|runs| runs.iter().all(|run| run.others <= QUIET)).collect()
    }

    pub fn table(&self) -> String {
        let quiet = self.quiet_rounds();
        let mut text = format!(
            "{} MiB of keys and values ({} objects), a database of {:.1} MiB, {} rounds; in {} of them other programs had \
             less than {:.0} % of the machine\n",
            self.mib,
            self.objects,
            self.database_bytes / MIB,
            self.rounds.len(),
            quiet.len(),
            QUIET * 100.0
        );
        line(&mut text, "", |variant| variant.to_string());
        line(&mut text, "wall s", |v| format!("{:.2}", self.of(v, |run| run.wall.as_secs_f64())));
        for (heading, base) in
            [("wall, etcdctl = 1, by round", Variant::Etcdctl), ("wall, etcdctl to memory = 1", Variant::Memory)]
        {
            line(&mut text, heading, |v| format!("{:.2}", against(&self.rounds, v, base)));
            if !quiet.is_empty() && quiet.len() < self.rounds.len() {
                let ratio = |v| against(quiet.iter().copied(), v, base);
                line(&mut text, "  the same, quiet rounds", |v| format!("{:.2}", ratio(v)));
            }
        }
        line(&mut text, "client CPU s", |v| format!("{:.2}", self.of(v, |run| run.client_cpu.as_secs_f64())));
        line(&mut text, "client CPU s per GiB", |v| format!("{:.2}", self.cpu_per_gib(v)));
        line(&mut text, "client peak memory MiB", |v| format!("{:.1}", self.peak(v)));
        line(&mut text, "stored MiB", |v| format!("{:.1}", self.of(v, |run| run.stored_bytes as f64 / MIB)));
        let ratio = |run: &Run| self.database_bytes / run.stored_bytes as f64;
        line(&mut text, "database : stored", |v| format!("{:.2}", self.of(v, ratio).median));
        line(&mut text, "etcd CPU s", |v| format!("{:.2}", self.of(v, |run| run.etcd_cpu.as_secs_f64())));
        line(&mut text, "S3 server CPU s", |v| format!("{:.2}", self.of(v, |run| run.s3_cpu.as_secs_f64())));
        line(&mut text, "other programs, % of CPU", |v| format!("{:.0}", self.of(v, |run| run.others * 100.0)));
        text.push_str(&format!("inspection by itself: {}\n", self.inspection));
        text
    }

    /// Each of the project's figures, for both stores.
    pub fn verdicts(&self) -> String {
        let mut text = String::new();
        for variant in [Variant::S3, Variant::File, Variant::Bare] {
            let [to_disk, to_memory] =
                [Variant::Etcdctl, Variant::Memory].map(|base| against(&self.rounds, variant, base).median);
            let peak = self.peak(variant).max;
            let (cpu, temporary) = (self.cpu_per_gib(variant).median, self.temporary(variant));
            let allowed = match variant {
                Variant::Bare => PEAK_MIB,
                _ if self.mib <= 1024 => PEAK_INSPECTED_MIB,
                _ => PEAK_LARGE_MIB,
            };
            let verdicts = [
                (format!("faster than etcdctl in the same rounds: {to_disk:.2} of its time"), to_disk < 1.0),
                (format!("faster than etcdctl to memory: {to_memory:.2} of its time"), to_memory < 1.0),
                (format!("at most {allowed} MiB of peak memory: {peak:.1}"), peak <= allowed),
                (format!("at most {CPU_PER_GIB} s of CPU per GiB: {cpu:.2}"), cpu <= CPU_PER_GIB),
                (format!("no temporary file: {}", seen(&temporary)), temporary.is_empty()),
            ];
            for (figure, is_met) in verdicts {
                let word = if is_met { "met" } else { "missed" };
                text.push_str(&format!("{word:7} {:>4} MiB, {variant}: {figure}\n", self.mib));
            }
        }
        let speed = self.inspection.mib_per_s;
        let added = against(&self.rounds, Variant::S3, Variant::Bare).median;
        for (figure, is_met) in [
            (format!("at least {INSPECTION_MIB_PER_S} MiB/s on one core: {speed:.0}"), speed >= INSPECTION_MIB_PER_S),
            (format!("at most {INSPECTED_WALL} of the wall time without it: {added:.2}"), added <= INSPECTED_WALL),
        ] {
            let word = if is_met { "met" } else { "missed" };
            text.push_str(&format!("{word:7} {:>4} MiB, inspection: {figure}\n", self.mib));
        }
        text
    }
}

/// The wall time of `variant` in each round, divided by that of `base` in the same round.
fn against<'a>(rounds: impl IntoIterator<Item = &'a Vec<Run>>, variant: Variant, base: Variant) -> Summary {
    let wall = |runs: &[Run], variant: Variant| runs[variant as usize].wall.as_secs_f64();
    Summary::of(rounds.into_iter().map(|runs| wall(runs, variant) / wall(runs, base)))
}

fn seen(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return "none seen".into();
    }
    let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    files.join(", ")
}

fn line(text: &mut String, heading: &str, cell: impl Fn(Variant) -> String) {
    let cells: String = Variant::ALL.iter().map(|variant| format!("   {:<24}", cell(*variant))).collect();
    text.push_str(format!("{heading:27}{cells}").trim_end());
    text.push('\n');
}

//! The benchmark: for each size an etcd of its own, then rounds in which every variant runs once, in turning
//! order, so that what disturbs the machine disturbs all of them alike.

use anyhow::{Result, ensure};
use clap::Parser;

mod inspection;
mod measure;
mod report;
mod restore;
mod source;
mod statistics;
mod variant;

use report::Report;
use source::Source;
use variant::{Bench, Variant};

/// Compares `backstay-agent once` with `etcdctl snapshot save`, and `backstayctl restore` with a plain fetch and
/// `etcdctl snapshot restore`, on data like that of Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "backstay-bench")]
pub struct Arguments {
    /// Sizes of the data (keys and values) in MiB.
    #[arg(long, value_name = "MIB", value_delimiter = ',', default_value = "100,1024", value_parser = clap::value_parser!(u64).range(1..=6144))]
    sizes: Vec<u64>,
    /// Rounds for each size.
    #[arg(long, value_name = "COUNT", default_value = "5", value_parser = clap::value_parser!(u16).range(1..=100))]
    runs: u16,
    /// Compare restores alone.
    #[arg(long)]
    restores_only: bool,
    /// The seed of the data.
    #[arg(long, default_value = "1")]
    seed: u64,
}

/// Measures and prints.
pub async fn bench(arguments: &Arguments) -> Result<()> {
    let bench = Bench::start().await?;
    let (mut reports, mut restores) = (Vec::new(), Vec::new());
    for &mib in &arguments.sizes {
        println!("loading {mib} MiB …");
        let source = Source::start(mib, arguments.seed).await?;
        if !arguments.restores_only {
            reports.push(one_size(&bench, mib, &source, arguments).await?);
        }
        restores.extend(one_size_back(&bench, mib, &source, arguments).await?);
    }
    ensure!(!arguments.sizes.is_empty(), "no size was given");
    println!("\n{}", report::notes());
    for report in &reports {
        println!("\n{}", report.table());
        println!("{}", report.verdicts());
    }
    for restore in &restores {
        println!("\n{restore}");
    }
    Ok(())
}

/// The way back; the answer is its table and verdicts.
async fn one_size_back(bench: &Bench, mib: u64, source: &Source, arguments: &Arguments) -> Result<Option<String>> {
    let Some(mut restores) = bench.restores(source, mib).await? else {
        println!("restores are not compared: neither aws nor curl is installed");
        return Ok(None);
    };
    for round in 0..usize::from(arguments.runs) {
        restores.round(round).await?;
    }
    bench.empty_bucket().await?;
    Ok(Some(format!("{}\n{}", restores.table(), restores.verdicts())))
}

async fn one_size(bench: &Bench, mib: u64, source: &Source, arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new(mib, source);
    for round in 0..usize::from(arguments.runs) {
        let mut runs = Vec::new();
        for turn in 0..Variant::ALL.len() {
            let variant = Variant::ALL[(round + turn) % Variant::ALL.len()];
            runs.push((variant, bench.run(variant, source).await?));
        }
        runs.sort_by_key(|(variant, _)| *variant);
        let walls: Vec<String> = runs.iter().map(|(v, run)| format!("{v} {:.2} s", run.wall.as_secs_f64())).collect();
        println!("round {} of {}: {}", round + 1, arguments.runs, walls.join(", "));
        report.add_round(runs.into_iter().map(|(_, run)| run).collect());
    }
    Ok(report)
}

//! The words of `restore` and `list`: which store, which backup, and what it becomes.

use std::path::PathBuf;

use backstay_archive::restore::{DEFAULT_BUMP, NewMember, Options};
use backstay_daemon::bucket::Bucket;
use backstay_protocol::ClusterUuid;
use clap::{ArgAction, Args};

use crate::arguments::operate::Form;
use crate::cluster_restore::arguments::OfCluster;

/// Of both ways, for the manual.
pub const RESTORE_HELP: &str = "\
There are two ways. `restore CLUSTER` restores a cluster on all its machines, by their
agents. `restore --store URL` makes a data folder of a backup, here, without a coordinator.
Flags of the one are refused by the other. `restore --help` and `restore --store URL --help`
show each with its flags and what it does.

Examples:
  backstayctl restore talos-default --snapshot latest
  backstayctl restore --store file:///srv/backups --snapshot latest --identity recovery.key --data-dir /var/lib/etcd";

/// Of `restore CLUSTER`.
pub const CLUSTER_HELP: &str = "\
It first prints the plan: which backup, which machines and their etcd, what is set aside
where; then asks. Every machine's agent fetches, checks and prepares the new data beside
the live data. Only when all are ready does each stop etcd, set the old folder aside (it
is never deleted), put the new one in place and start etcd. When a machine fails before
that, nothing has changed; after it, all machines go back to their old folders.
Interrupting the command does not stop the restore.

The revision jumps, and everything before is marked as compacted, so that whoever watched
the old cluster (each Kubernetes component) notices and begins anew.

A backup becomes a data folder on this machine, without a coordinator, by
`backstayctl restore --store URL`: see `backstayctl restore --store URL --help`.

Examples:
  backstayctl restore talos-default --snapshot latest
  backstayctl restore talos-default --before 2026-11-22T10:00:00Z --yes
  backstayctl restore staging --snapshot latest --data-of-another-cluster production";

/// Of `restore --store`.
pub const STORE_HELP: &str = "\
A backup becomes a data folder that etcd starts from, on this machine. It needs neither a
coordinator nor NATS: the store and the recovery key are enough. Each member of the new
cluster is restored by itself, from the same backup, with the same --initial-cluster, as
with `etcdctl snapshot restore`.

Everything is checked again on the way; the folder appears only when all is good. The
credentials are those of the usual AWS environment.

The revision jumps, and everything before is marked as compacted, so that whoever watched
the old cluster (each Kubernetes component) notices and begins anew.

A cluster is restored on all its machines, by their agents, by
`backstayctl restore CLUSTER`: see `backstayctl restore --help`.

Examples:
  backstayctl list --store s3://etcd-backups
  backstayctl restore --store s3://etcd-backups --cluster-uuid 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10 \\
    --snapshot latest --identity recovery.key --data-dir /var/lib/etcd
  backstayctl restore --store file:///srv/backups --snapshot FFFFFFFF9A8AF980.snapshot --identity recovery.key \\
    --data-dir /var/lib/etcd --name m1 --initial-advertise-peer-urls https://10.0.0.1:2380 \\
    --initial-cluster m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380";

pub const LIST_HELP: &str = "\
Reads the store alone, with the credentials of the usual AWS environment: no coordinator
and no key is needed.

Examples:
  backstayctl list --store s3://etcd-backups
  backstayctl list --store file:///srv/backups --cluster-uuid 7d3a5a4c-9a0d-4c39-9b3c-3a2f1d9c2f10 -o yaml";

/// What etcd's own tools take for both where nothing is said.
const DEFAULT_NAME: &str = "default";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// What is in a store.
#[derive(Debug, Args)]
pub struct List {
    /// The store: file:///path or s3://bucket[/prefix]
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// This cluster only
    #[arg(long, value_name = "UUID")]
    pub cluster_uuid: Option<ClusterUuid>,
    /// table, yaml or json
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Form,
    #[command(flatten)]
    pub bucket: Bucket,
}

/// Both ways to restore; which flags belong to which, and what each needs, is in [`super::ways`].
#[derive(Debug, Args)]
pub struct Restore {
    /// The cluster to restore on all its machines, by its agents
    #[arg(value_name = "CLUSTER")]
    pub cluster: Option<String>,
    /// The store to restore from: file:///path or s3://bucket[/prefix]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// The backup's name as `list` shows it, or latest
    #[arg(long, value_name = "NAME|latest", required_unless_present = "before")]
    pub snapshot: Option<String>,
    /// Check all that can be checked, print the plan, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub of_cluster: OfCluster,
    #[command(flatten)]
    pub from_store: FromStore,
    #[command(flatten)]
    pub bucket: Bucket,
}

/// What goes with `--store` alone, the jump excepted.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --store")]
pub struct FromStore {
    /// The cluster that the backup is of; may be left out where the store has but one
    #[arg(long, value_name = "UUID")]
    pub cluster_uuid: Option<ClusterUuid>,
    /// The recovery key, or the cluster's own: a file with an age identity; without it only backups that are not
    /// encrypted can be restored
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// etcd's data folder; must be empty or not there
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The member that the folder is for, as etcd's --name [default: default]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// All members of the new cluster [default: this member at its peer URLs]
    #[arg(long, value_name = "NAME=URL,…")]
    pub initial_cluster: Option<String>,
    /// The peer URLs of this member [default: those in --initial-cluster, else http://localhost:2380]
    #[arg(long, value_name = "URL,…")]
    pub initial_advertise_peer_urls: Option<String>,
    /// The new cluster's token, as etcd's own flag of that name [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN")]
    pub initial_cluster_token: Option<String>,
    /// By how much the revision jumps; 0 leaves it [default: 1000000000]
    #[arg(long, value_name = "COUNT", help_heading = None::<&str>)]
    pub bump_revision: Option<u64>,
    /// Whether everything up to the jump is marked as compacted [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub mark_compacted: Option<bool>,
    /// Remove alarms that the old cluster had raised
    #[arg(long)]
    pub remove_alarms: bool,
    /// Turn authentication off, and remove its users and roles
    #[arg(long)]
    pub remove_auth: bool,
    /// Write the database anew without its free pages; takes the space of both until it is done
    #[arg(long)]
    pub defragment: bool,
}

impl FromStore {
    /// What the flags say of the new cluster.
    ///
    /// # Errors
    /// In words, for whoever typed it.
    pub fn options(&self) -> Result<Options, String> {
        let name = self.name.as_deref().unwrap_or(DEFAULT_NAME);
        let advertised = self.initial_advertise_peer_urls.as_deref().map(urls);
        let members = match &self.initial_cluster {
            Some(text) => members(text)?,
            None => {
                let peer_urls = advertised.clone().unwrap_or_else(|| vec![DEFAULT_PEER_URL.to_owned()]);
                vec![NewMember { name: name.to_owned(), peer_urls }]
            }
        };
        agree(name, &members, advertised)?;
        let defaults = Options::new(name, members);
        Ok(Options {
            token: self.initial_cluster_token.clone().unwrap_or(defaults.token),
            bump: Some(self.bump_revision.unwrap_or(DEFAULT_BUMP)).filter(|bump| *bump > 0),
            mark_compacted: self.mark_compacted.unwrap_or(true),
            remove_alarms: self.remove_alarms,
            remove_auth: self.remove_auth,
            defragment: self.defragment,
            ..Options::new(name, defaults.members)
        })
    }
}

fn urls(text: &str) -> Vec<String> {
    text.split(',').map(|url| url.trim().to_owned()).collect()
}

/// `a=http://…,b=http://…`; a name that comes twice has several URLs.
fn members(text: &str) -> Result<Vec<NewMember>, String> {
    let mut members: Vec<NewMember> = Vec::new();
    for part in text.split(',') {
        let wrong = || format!("invalid --initial-cluster: {part:?} is not NAME=URL");
        let (name, url) = part.trim().split_once('=').ok_or_else(wrong)?;
        match members.iter_mut().find(|member| member.name == name) {
            Some(member) => member.peer_urls.push(url.to_owned()),
            None => members.push(NewMember { name: name.to_owned(), peer_urls: vec![url.to_owned()] }),
        }
    }
    Ok(members)
}

/// The URLs that are advertised make the member's id: they must be those that the others are told.
fn agree(name: &str, members: &[NewMember], advertised: Option<Vec<String>>) -> Result<(), String> {
    let (Some(mut advertised), Some(member)) = (advertised, members.iter().find(|member| member.name == name)) else {
        return Ok(());
    };
    let mut told = member.peer_urls.clone();
    advertised.sort();
    told.sort();
    if advertised == told {
        return Ok(());
    }
    let (advertised, told) = (advertised.join(","), told.join(","));
    Err(format!(
        "--initial-advertise-peer-urls says {advertised}, --initial-cluster says {told} of {name:?}: give both the same"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    const BASE: &str = "backstayctl restore --store file:///s --snapshot latest --data-dir d";

    fn options(more: &str) -> Result<Options, String> {
        let line = format!("{BASE} {more}");
        let Command::Restore(restore) = Arguments::read(line.split_whitespace()).expect("a command").command else {
            panic!("restore")
        };
        restore.from_store.options()
    }

    fn member(name: &str, urls: &[&str]) -> NewMember {
        NewMember { name: name.into(), peer_urls: urls.iter().map(|url| (*url).to_owned()).collect() }
    }

    #[test]
    fn the_defaults_are_those_of_etcd_but_for_the_jump() {
        let expected = Options::new("default", vec![member("default", &["http://localhost:2380"])]);
        assert_eq!(options(""), Ok(expected.clone()));
        assert_eq!((expected.bump, expected.mark_compacted), (Some(1_000_000_000), true));
        let advertised = options("--name a --initial-advertise-peer-urls http://a:1,http://a:2").expect("good");
        assert_eq!(advertised.members, [member("a", &["http://a:1", "http://a:2"])]);
    }

    #[test]
    fn every_flag_is_an_option() {
        let line = "--name b --initial-cluster a=http://a:1,b=http://b:1,b=http://b:2 --initial-cluster-token t \
                    --initial-advertise-peer-urls http://b:2,http://b:1 --bump-revision 7 --mark-compacted=false \
                    --remove-alarms --remove-auth --defragment";
        let expected = Options {
            name: "b".into(),
            members: vec![member("a", &["http://a:1"]), member("b", &["http://b:1", "http://b:2"])],
            token: "t".into(),
            bump: Some(7),
            mark_compacted: false,
            remove_alarms: true,
            remove_auth: true,
            defragment: true,
        };
        assert_eq!(options(line), Ok(expected));
        assert_eq!(options("--bump-revision 0").map(|o| o.bump), Ok(None));
        assert_eq!(options("--mark-compacted").map(|o| o.mark_compacted), Ok(true));
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        let error = options("--initial-cluster a").expect_err("no URL");
        assert_eq!(error, "invalid --initial-cluster: \"a\" is not NAME=URL");
        let error = options("--name a --initial-cluster a=http://a:1 --initial-advertise-peer-urls http://a:2");
        assert!(error.expect_err("contradiction").contains("give both the same"));
    }
}

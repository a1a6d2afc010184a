//! Arguments and help of `restore` and `list`.

use std::path::PathBuf;

use backstay_archive::restore::{DEFAULT_BUMP, NewMember, Options};
use backstay_daemon::bucket::{Bucket, Named};
use backstay_daemon::signers::SignerFlags;
use backstay_protocol::{ClusterName, ClusterUuid};
use clap::{ArgAction, Args};

use crate::arguments::operate::Form;
use crate::cluster_restore::arguments::OfCluster;

/// Of both ways, for the manual.
pub const RESTORE_HELP: &str = "\
There are two ways to restore. `restore CLUSTER` restores a cluster on all its
machines, through their agents. `restore --store URL` restores a backup into a
data directory on this machine and needs no coordinator. Each has its own flags
and refuses those of the other: see `restore --help` and `restore --store URL
--help`.

Examples:
  backstayctl restore talos-default --snapshot latest
  backstayctl restore --store file:///srv/backups --snapshot latest --identity recovery.key --data-dir /var/lib/etcd";

/// Of `restore CLUSTER`.
pub const CLUSTER_HELP: &str = "\
The command first prints the plan (the backup, the machines and their etcd, and
where the old data will be kept) and asks for confirmation. Then the agent on
every machine downloads and checks the backup, and prepares the new data next to
the live data. Once all machines are ready, each of them stops etcd, moves the
old data directory aside (it is never deleted), puts the new one in place and
starts etcd. If a machine fails before the switch, nothing has changed; if one
fails after it, all machines go back to their old data. Interrupting the command
does not stop the restore.

The revision is raised by a large step, and everything before it is marked as
compacted. This makes every client that watched the old data, including each
Kubernetes component, notice the change and list everything again.

To restore a backup into a data directory on this machine, without a
coordinator, see `backstayctl restore --store URL --help`.

Examples:
  backstayctl restore talos-default --snapshot latest
  backstayctl restore talos-default --before 2026-11-22T10:00:00Z --yes
  backstayctl restore staging --snapshot latest --data-of-another-cluster production";

/// Of `restore --store`.
pub const STORE_HELP: &str = "\
Restores a backup into a data directory on this machine, from which etcd can
start. This needs neither a coordinator nor NATS: the store and the recovery key
are enough. Restore each member of the new cluster separately, from the same
backup and with the same --initial-cluster, as with `etcdctl snapshot restore`.

Everything is checked again during the restore, and the directory appears only
if every check passes. So a restore into a scratch directory verifies a backup
without a coordinator; --dry-run does not read the backup's content. S3
credentials come from the usual AWS environment.

The revision is raised by a large step, and everything before it is marked as
compacted. This makes every client that watched the old data, including each
Kubernetes component, notice the change and list everything again.

To restore a cluster on all its machines, through their agents, see
`backstayctl restore --help`.

Examples:
  backstayctl list --store s3://etcd-backups
  backstayctl restore --store s3://etcd-backups --cluster talos-default --snapshot latest \\
    --identity recovery.key --data-dir /var/lib/etcd
  backstayctl restore --store s3://etcd-backups --cluster talos-default \\
    --before 2026-11-22T10:00:00Z --identity recovery.key --data-dir /var/lib/etcd
  backstayctl restore --store file:///srv/backups --snapshot FFFFFFFF9A8AF980.snapshot --identity recovery.key \\
    --data-dir /var/lib/etcd --name m1 --initial-advertise-peer-urls https://10.0.0.1:2380 \\
    --initial-cluster m1=https://10.0.0.1:2380,m2=https://10.0.0.2:2380,m3=https://10.0.0.3:2380";

pub const LIST_HELP: &str = "\
Reads only the store: no coordinator and no key is needed. S3 credentials come
from the usual AWS environment. Use -o wide to see UUIDs.

Examples:
  backstayctl list --store s3://etcd-backups
  backstayctl list --store file:///srv/backups --cluster talos-default -o yaml";

/// The id of `--cluster`: that of the cluster that is restored by its agents is `cluster`.
pub const CLUSTER_NAME: &str = "cluster_name";

/// What etcd's own tools take for both where nothing is said.
const DEFAULT_NAME: &str = "default";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// What is in a store.
#[derive(Debug, Args)]
pub struct List {
    /// URL of the store: file:///path or s3://bucket[/prefix]
    #[arg(long, value_name = "URL")]
    pub store: String,
    /// List only the cluster with this name
    #[arg(long, value_name = "NAME", conflicts_with = "cluster_uuid")]
    pub cluster: Option<ClusterName>,
    /// List only the cluster with this UUID
    #[arg(long, value_name = "UUID")]
    pub cluster_uuid: Option<ClusterUuid>,
    /// Output format: table, wide, yaml or json
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub output: Form,
    /// Print the table without its heading
    #[arg(long)]
    pub no_headers: bool,
    #[command(flatten)]
    pub signers: SignerFlags,
    #[command(flatten)]
    pub bucket: Bucket,
}

impl List {
    /// The store as it was typed.
    pub fn named(&self) -> Named {
        Named { url: self.store.clone(), flags: self.bucket.words() }
    }
}

/// Both ways to restore; which flags belong to which, and what each needs, is in [`super::ways`].
#[derive(Debug, Args)]
pub struct Restore {
    /// Cluster to restore on all its machines, through its agents
    #[arg(value_name = "CLUSTER")]
    pub cluster: Option<String>,
    /// URL of the store to restore from: file:///path or s3://bucket[/prefix]
    #[arg(long, value_name = "URL")]
    pub store: Option<String>,
    /// Name of the backup as shown by `list`, or latest
    #[arg(long, value_name = "NAME|latest", required_unless_present = "before")]
    pub snapshot: Option<String>,
    /// Check everything that can be checked, print the plan, and change nothing
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
    /// Name of the cluster that the backup belongs to; optional if the store holds only one cluster
    #[arg(id = CLUSTER_NAME, long = "cluster", value_name = "NAME", conflicts_with = "cluster_uuid")]
    pub cluster_name: Option<ClusterName>,
    /// UUID of the cluster that the backup belongs to; optional if the store holds only one cluster
    #[arg(long, value_name = "UUID")]
    pub cluster_uuid: Option<ClusterUuid>,
    /// File with the recovery key or the cluster's own key (an age identity); needed for encrypted backups
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    #[command(flatten)]
    pub signers: SignerFlags,
    /// Use the backup even if it is not signed by one of the signers
    #[arg(long)]
    pub allow_unsigned: bool,
    /// Use the backup even if it is not encrypted, although --identity is given
    #[arg(long)]
    pub allow_unencrypted: bool,
    /// Data directory for etcd; must be empty or not exist
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Name of this member, as in etcd's --name [default: default]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// All members of the new cluster [default: this member with its peer URLs]
    #[arg(long, value_name = "NAME=URL,…")]
    pub initial_cluster: Option<String>,
    /// Peer URLs of this member [default: those in --initial-cluster, else http://localhost:2380]
    #[arg(long, value_name = "URL,…")]
    pub initial_advertise_peer_urls: Option<String>,
    /// Token of the new cluster, as in etcd's flag of the same name [default: etcd-cluster]
    #[arg(long, value_name = "TOKEN")]
    pub initial_cluster_token: Option<String>,
    /// How much to raise the revision by; 0 leaves it unchanged [default: 1000000000]
    #[arg(long, value_name = "COUNT", help_heading = None::<&str>)]
    pub bump_revision: Option<u64>,
    /// Whether to mark everything up to the raised revision as compacted [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub mark_compacted: Option<bool>,
    /// Remove the alarms that are stored in the backup
    #[arg(long)]
    pub remove_alarms: bool,
    /// Turn authentication off and remove all users and roles
    #[arg(long)]
    pub remove_auth: bool,
    /// Defragment the database; needs free disk space for a second copy meanwhile
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
        "--initial-advertise-peer-urls says {advertised}, but --initial-cluster says {told} for {name:?}: make them equal"
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
        assert!(error.expect_err("contradiction").contains("make them equal"));
    }
}

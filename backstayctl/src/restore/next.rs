//! What to do after a backup was restored into a data directory. Pure.

use std::path::Path;

use backstay_archive::Manifest;
use backstay_archive::restore::Options;
use backstay_daemon::terminal::shell_word;

/// A step as a sentence, and its commands, each of which can be pasted.
pub type Step = (String, Vec<String>);

/// The steps from the directory to a cluster that is backed up.
pub fn steps(manifest: &Manifest, options: &Options, folder: &Path) -> String {
    let Manifest { cluster, snapshot, .. } = manifest;
    let (name, folder) = (shell_word(&options.name), folder.to_string_lossy());
    let folder = shell_word(&folder);
    let mut steps: Vec<Step> = Vec::new();
    let others = options.members.len().saturating_sub(1);
    if others > 0 {
        let text = format!(
            "Restore the other members ({others}) on their machines, from the same backup (--snapshot {snapshot}),\n     \
             with the same --initial-cluster and each with its own --name."
        );
        steps.push((text, Vec::new()));
    }
    let all = if others > 0 { " on every member" } else { "" };
    steps.extend([
        (
            "Give the directory to the user that etcd runs as, for example:".into(),
            vec![format!("chown -R etcd: {folder}")],
        ),
        (
            format!("Start etcd{all} with its usual settings; on this machine with:"),
            vec![format!("--name {name} --data-dir {folder}")],
        ),
        ("Check that etcd is healthy:".into(), vec!["etcdctl endpoint health --cluster".into()]),
        kubelets("If Kubernetes uses this etcd, restart"),
        (
            "Take a first backup (the second line is for clusters with a coordinator):".into(),
            vec![
                format!("backstay-agent once --cluster {cluster} --new-cluster-id …"),
                format!("backstayctl backup {cluster} --wait"),
            ],
        ),
    ]);
    numbered(&steps)
}

/// After every restore of the etcd of a Kubernetes cluster.
pub fn kubelets(restart: &str) -> Step {
    let commands = ["systemctl restart kubelet", "talosctl service kubelet restart"].map(str::to_owned);
    (format!("{restart} the kubelet on every node (the second line is for Talos):"), commands.into())
}

/// Steps under their heading.
pub fn numbered(steps: &[Step]) -> String {
    let mut text = "Next steps:\n".to_owned();
    for (at, (sentence, commands)) in steps.iter().enumerate() {
        text.push_str(&format!("  {}. {sentence}\n", at + 1));
        commands.iter().for_each(|command| text.push_str(&format!("       {command}\n")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstay_archive::restore::NewMember;

    const MANIFEST: &str = include_str!("../../../archive/tests/golden/manifest.json");

    fn told(members: &[&str], folder: &str) -> String {
        let manifest = Manifest::from_json(MANIFEST.as_bytes()).expect("a manifest");
        let member = |name: &&str| NewMember { name: (*name).to_owned(), peer_urls: vec!["http://h:1".into()] };
        steps(&manifest, &Options::new(members[0], members.iter().map(member).collect()), Path::new(folder))
    }

    #[test]
    fn one_member_is_started_and_backed_up() {
        insta::assert_snapshot!("next-one-member", told(&["m1"], "/var/lib/my etcd"));
    }

    #[test]
    fn the_other_members_come_first() {
        insta::assert_snapshot!("next-three-members", told(&["m1", "m2", "m3"], "/var/lib/etcd"));
    }
}

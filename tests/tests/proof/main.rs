//! What inspection says of snapshots of real members: the same as `etcdctl snapshot status` and as their HashKV.

mod backup;
mod corpus;
mod coverage;
mod flips;
mod hash;
mod look;
mod shapes;
mod system;

/// Tests that are run with the etcd on the `PATH` and with etcd 3.5.
macro_rules! with_each_etcd {
    ($($module:ident: $($test:ident),+;)+) => {
        mod etcd_on_the_path {
            $($(
                #[tokio::test]
                async fn $test() -> anyhow::Result<()> {
                    crate::$module::$test(backstay_tests::EtcdOptions::default()).await
                }
            )+)+
        }
        mod etcd_3_5 {
            $($(
                #[tokio::test]
                async fn $test() -> anyhow::Result<()> {
                    let program = Some(backstay_tests::pypi::etcd_3_5().await?.join("etcd"));
                    crate::$module::$test(backstay_tests::EtcdOptions { program, ..Default::default() }).await
                }
            )+)+
        }
    };
}

with_each_etcd! {
    hash: a_member_that_is_compacted_further_than_the_file, a_file_that_is_compacted_further_than_the_member_is_no_difference, a_member_that_was_restarted, a_changed_byte_of_a_value_shows_in_no_status_but_in_the_hash;
    shapes: an_empty_one, tombstones_and_compactions_at_several_points, all_keys_deleted_and_compacted_at_the_latest_revision, leases_authentication_and_alarms, three_members_and_a_learner, large_values_and_long_keys, while_it_is_written_to_and_compacted;
}

/// The bytes that a stream is fed in: not a multiple of the page size, so that pages are cut.
const PIECE: usize = 100_003;

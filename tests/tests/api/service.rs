//! NATS's services protocol: the coordinator is found, and says what it offers and how it was used.

use anyhow::{Result, ensure};

use crate::world::{CLUSTER, stand, start};
use crate::{ask, json};

#[tokio::test]
async fn the_service_is_found_and_tells_of_itself() -> Result<()> {
    let stand = start(stand().cluster(CLUSTER, 1)).await?;
    let client = stand.nats.client().await?;
    for asked in ["", ".backstay"] {
        let ping = json(&ask(&client, &format!("$SRV.PING{asked}"), "", Vec::new()).await?)?;
        ensure!(ping["type"] == "io.nats.micro.v1.ping_response" && ping["name"] == "backstay", "{ping}");
        let id = ping["id"].as_str().unwrap_or_default().to_owned();
        let info = json(&ask(&client, &format!("$SRV.INFO{asked}"), "", Vec::new()).await?)?;
        ensure!(info["type"] == "io.nats.micro.v1.info_response" && info["id"] == id.as_str(), "{info}");
        let mut subjects: Vec<&str> =
            info["endpoints"].as_array().into_iter().flatten().filter_map(|e| e["subject"].as_str()).collect();
        subjects.sort_unstable();
        ensure!(subjects == ["apply", "delete", "get"].map(|verb| format!("backstay.v1.api.{verb}.*")), "{info}");
        let one = json(&ask(&client, &format!("$SRV.PING.backstay.{id}"), "", Vec::new()).await?)?;
        ensure!(one["id"] == id.as_str(), "{one}");
    }
    let requests = async || {
        let stats = json(&ask(&client, "$SRV.STATS.backstay", "", Vec::new()).await?)?;
        ensure!(stats["type"] == "io.nats.micro.v1.stats_response", "{stats}");
        let get = stats["endpoints"].as_array().into_iter().flatten().find(|e| e["name"] == "get");
        Ok(get.and_then(|e| e["num_requests"].as_u64()))
    };
    let before = requests().await?.unwrap_or_default();
    ask(&client, "backstay.v1.api.get.clusters", "", Vec::new()).await?;
    let after = requests().await?;
    ensure!(after == Some(before + 1), "{before} requests, then {after:?}");
    Ok(())
}

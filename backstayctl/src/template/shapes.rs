//! The fields of each kind of document in a template. Fields that Omni has and Backstay does not keep are refused with the
//! reason, not as unknown.

use crate::reader::shape::Shape;

const TALOS: &str = "Backstay does not manage machine configuration: remove this field and keep it where you manage \
    Talos";
const CLASSES: &str = "Backstay does not support machine classes: list the machines instead";
const BOOTSTRAP_WORKERS: &str = "bootstrap spec is not allowed for worker machine sets";
const STRATEGY: &str = "Backstay does not roll out changes: remove this field";

/// The kinds, as `kind:` names them.
pub const KINDS: [&str; 4] = ["Cluster", "ControlPlane", "Workers", "Machine"];

/// The shape of one kind of document.
pub fn of(kind: &str) -> Option<Shape> {
    let own: Vec<(&str, Shape)> = match kind {
        "Cluster" => cluster(),
        "ControlPlane" => set(Shape::fields([("clusterUUID", Shape::Text), ("snapshot", Shape::Text)])),
        "Workers" => set(Shape::Refused(BOOTSTRAP_WORKERS)).into_iter().chain([("name", Shape::Text)]).collect(),
        "Machine" => vec![("name", Shape::Text), ("locked", Shape::Switch), ("install", Shape::Refused(TALOS))],
        _ => return None,
    };
    let common = [
        ("kind", Shape::Text),
        ("labels", Shape::texts()),
        ("annotations", Shape::texts()),
        ("patches", Shape::Refused(TALOS)),
        ("systemExtensions", Shape::Refused(TALOS)),
        ("kernelArgs", Shape::Refused(TALOS)),
    ];
    Some(Shape::fields(own.into_iter().chain(common)))
}

fn cluster() -> Vec<(&'static str, Shape)> {
    let features = [
        ("enableWorkloadProxy", Shape::Switch),
        ("diskEncryption", Shape::Switch),
        ("useEmbeddedDiscoveryService", Shape::Switch),
        ("backupConfiguration", Shape::fields([("interval", Shape::Text), ("enabled", Shape::Switch)])),
    ];
    vec![
        ("name", Shape::Text),
        ("kubernetes", Shape::fields([("version", Shape::Text), ("manifests", Shape::Refused(TALOS))])),
        ("talos", Shape::fields([("version", Shape::Text)])),
        ("features", Shape::fields(features)),
    ]
}

fn set(bootstrap: Shape) -> Vec<(&'static str, Shape)> {
    vec![
        ("machines", Shape::list(Shape::Text)),
        ("bootstrapSpec", bootstrap),
        ("machineClass", Shape::Refused(CLASSES)),
        ("updateStrategy", Shape::Refused(STRATEGY)),
        ("upgradeStrategy", Shape::Refused(STRATEGY)),
        ("deleteStrategy", Shape::Refused(STRATEGY)),
    ]
}

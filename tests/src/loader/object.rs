//! One object of the loader: a pure function of the seed and an index.

use std::fmt::Write;

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KINDS: [(&str, u32); 7] = [
    ("pods", 30),
    ("events", 20),
    ("secrets", 12),
    ("configmaps", 12),
    ("replicasets", 14),
    ("endpointslices", 8),
    ("leases", 4),
];
const NAMES: [&str; 10] =
    ["frontend", "checkout", "cart", "payments", "ledger", "inventory", "search", "ingest", "auth", "metrics"];
const VALUE_MIN: usize = 1024;
const VALUE_MAX: usize = 8192;

/// A key and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub key: String,
    /// 1 to 8 KiB of text.
    pub value: String,
}

impl Object {
    /// Bytes of key and value.
    pub fn bytes(&self) -> u64 {
        (self.key.len() + self.value.len()) as u64
    }
}

/// The object with that index of that seed.
pub fn object(seed: u64, index: u64) -> Object {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // A stream of its own per object, so that any can be made without those before it.
    rng.set_stream(index);
    let kind = kind(&mut rng);
    let namespace = format!("ns-{:03}", rng.random_range(0..200));
    let app = pick(&mut rng, &NAMES);
    let name = format!("{app}-{index:07}-{:05x}", rng.random_range(0..1 << 20));
    let key = format!("/registry/{kind}/{namespace}/{name}");
    let mut text = Text { rng, out: String::with_capacity(VALUE_MAX + 1024) };
    text.head(kind, &namespace, &name, app);
    match kind {
        "secrets" => text.secret(),
        "configmaps" => text.config_map(&namespace),
        "events" => text.event(&namespace, &name),
        "leases" => text.lease(),
        "endpointslices" => text.endpoint_slice(),
        _ => text.pod(),
    }
    Object { key, value: text.finish() }
}

fn kind(rng: &mut ChaCha8Rng) -> &'static str {
    let mut at = rng.random_range(0..100);
    for (kind, share) in KINDS {
        if at < share {
            return kind;
        }
        at -= share;
    }
    KINDS[0].0
}

fn pick(rng: &mut ChaCha8Rng, from: &[&'static str]) -> &'static str {
    from[rng.random_range(0..from.len())]
}

/// A value that is being written.
struct Text {
    rng: ChaCha8Rng,
    out: String,
}

/// Writes formatted text; writing into a `String` cannot fail.
macro_rules! put {
    ($text:expr, $($arg:tt)*) => {{
        let _ = write!($text.out, $($arg)*);
    }};
}

impl Text {
    fn number(&mut self, below: u32) -> u32 {
        self.rng.random_range(0..below)
    }

    fn name(&mut self) -> &'static str {
        pick(&mut self.rng, &NAMES)
    }

    fn hex(&mut self, words: usize) {
        for _ in 0..words {
            let word = self.rng.next_u64();
            put!(self, "{word:016x}");
        }
    }

    fn uid(&mut self) {
        let (a, b) = (self.rng.next_u64(), self.rng.next_u64());
        put!(
            self,
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            a >> 32,
            a >> 16 & 0xffff,
            a & 0xfff,
            b >> 52,
            b & 0xffff_ffff_ffff
        );
    }

    fn time(&mut self) {
        let (month, day) = (self.number(12) + 1, self.number(28) + 1);
        let (hour, minute, second) = (self.number(24), self.number(60), self.number(60));
        put!(self, "2026-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z");
    }

    fn address(&mut self) {
        let (b, c, d) = (self.number(256), self.number(256), self.number(256));
        put!(self, "10.{b}.{c}.{d}");
    }

    /// Random characters of base64: they shrink to three quarters at best.
    fn base64(&mut self, characters: usize) {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let end = self.out.len() + characters;
        while self.out.len() < end {
            let mut bits = self.rng.next_u64();
            for _ in 0..10.min(end - self.out.len()) {
                self.out.push(char::from(ALPHABET[(bits & 63) as usize]));
                bits >>= 6;
            }
        }
    }

    fn head(&mut self, kind: &str, namespace: &str, name: &str, app: &str) {
        put!(
            self,
            r#"{{"apiVersion":"v1","kind":"{kind}","metadata":{{"name":"{name}","namespace":"{namespace}","uid":""#
        );
        self.uid();
        let (version, generation) = (self.number(1_000_000_000), self.number(20));
        put!(self, r#"","resourceVersion":"{version}","generation":{generation},"creationTimestamp":""#);
        self.time();
        let (hash, tier) = (self.rng.next_u64() >> 24, self.number(9));
        put!(self, r#"","labels":{{"app":"{app}","pod-template-hash":"{hash:010x}","tier":"t{tier}"}},"#);
    }

    fn managed_fields(&mut self) {
        put!(
            self,
            r#""managedFields":[{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":""#
        );
        self.time();
        put!(
            self,
            r#"","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:generateName":{{}},"f:labels":{{".":{{}},"f:app":{{}},"#
        );
        put!(self, r#""f:pod-template-hash":{{}}}},"f:ownerReferences":{{".":{{}},"k:{{\"uid\":\""#);
        self.uid();
        put!(self, r#"\"}}":{{}}}}}}}}}}],"#);
    }

    fn secret(&mut self) {
        put!(self, r#""x":0}},"type":"Opaque","data":{{"ca.crt":""#);
        self.base64(532);
        put!(self, r#"","token":""#);
        let characters = 800 + self.number(6100) as usize;
        self.base64(characters);
        put!(self, r#""}}}}"#);
    }

    fn config_map(&mut self, namespace: &str) {
        put!(self, r#""x":0}},"data":{{"#);
        for line in 0..20 + self.number(70) {
            let (setting, value, host, port) = (self.name(), self.number(1_000_000), self.name(), self.number(65536));
            put!(self, r#""setting.{setting}.{line}":"{value}","url.{line}":"http://{host}.{namespace}.svc:{port}","#);
        }
        put!(self, r#""end":""}}}}"#);
    }

    fn event(&mut self, namespace: &str, name: &str) {
        self.managed_fields();
        put!(self, r#""x":0}},"involvedObject":{{"kind":"Pod","namespace":"{namespace}","name":"{name}","uid":""#);
        self.uid();
        put!(
            self,
            r#""}},"reason":"Pulled","message":"Successfully pulled image registry.local/{}@sha256:"#,
            &name[..4]
        );
        self.hex(4);
        let took = self.number(9999);
        put!(self, r#" in {took}ms","firstTimestamp":""#);
        self.time();
        put!(self, r#"","lastTimestamp":""#);
        self.time();
        let count = self.number(99);
        put!(self, r#"","count":{count},"type":"Normal"}}"#);
    }

    fn lease(&mut self) {
        self.managed_fields();
        let node = self.number(5000);
        put!(self, r#""x":0}},"spec":{{"holderIdentity":"node-{node}","renewTime":""#);
        self.time();
        put!(self, r#""}}}}"#);
    }

    fn endpoint_slice(&mut self) {
        self.managed_fields();
        put!(self, r#""x":0}},"endpoints":["#);
        for _ in 0..5 + self.number(23) {
            put!(self, r#"{{"addresses":[""#);
            self.address();
            let node = self.number(5000);
            put!(
                self,
                r#""],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"node-{node}","targetRef":{{"kind":"Pod","uid":""#
            );
            self.uid();
            put!(self, r#""}}}},"#);
        }
        put!(self, "{{}}]}}");
    }

    fn pod(&mut self) {
        self.managed_fields();
        put!(self, r#""x":0}},"spec":{{"containers":["#);
        for number in 0..2 + self.number(4) {
            self.container(number);
        }
        put!(self, r#"{{}}]}},"status":{{"phase":"Running","conditions":["#);
        for condition in ["Initialized", "Ready", "ContainersReady", "PodScheduled"] {
            put!(self, r#"{{"type":"{condition}","status":"True","lastProbeTime":null,"lastTransitionTime":""#);
            self.time();
            put!(self, r#""}},"#);
        }
        let host = self.number(256);
        put!(self, r#"{{}}],"hostIP":"10.0.0.{host}","podIP":""#);
        self.address();
        put!(self, r#"","containerID":"containerd://"#);
        self.hex(4);
        put!(self, r#""}}}}"#);
    }

    fn container(&mut self, number: u32) {
        let (name, image) = (self.name(), self.name());
        put!(self, r#"{{"name":"c{number}-{name}","image":"registry.local/{image}@sha256:"#);
        self.hex(4);
        let port = self.number(65536);
        put!(self, r#"","ports":[{{"containerPort":{port},"protocol":"TCP"}}],"env":[{{"name":"TRACE_ID","value":""#);
        self.uid();
        put!(
            self,
            r#""}},{{"name":"HOST_IP","valueFrom":{{"fieldRef":{{"apiVersion":"v1","fieldPath":"status.hostIP"}}}}}}],"#
        );
        let (cpu, memory) = (self.number(4000), self.number(4096));
        put!(self, r#""resources":{{"limits":{{"cpu":"{cpu}m","memory":"{memory}Mi"}},"#);
        let (cpu, memory, access) = (self.number(4000), self.number(4096), self.number(1 << 25));
        put!(
            self,
            r#""requests":{{"cpu":"{cpu}m","memory":"{memory}Mi"}}}},"terminationMessagePath":"/dev/termination-log","#
        );
        put!(
            self,
            r#""imagePullPolicy":"IfNotPresent","volumeMounts":[{{"name":"kube-api-access-{access:05x}","readOnly":true,"#
        );
        put!(self, r#""mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}}]}},"#);
    }

    /// Cut or padded to the sizes of the trade; all of it is ASCII.
    fn finish(mut self) -> String {
        while self.out.len() < VALUE_MIN {
            self.out.push_str("// pad ");
            self.hex(4);
        }
        self.out.truncate(VALUE_MAX);
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn an_object_is_a_function_of_seed_and_index() {
        assert_eq!(object(7, 3), object(7, 3));
        assert_ne!(object(7, 3).value, object(8, 3).value);
        let keys: HashSet<String> = (0..2000).map(|i| object(7, i).key).collect();
        assert_eq!(keys.len(), 2000);
    }

    #[test]
    fn values_have_the_sizes_of_the_trade() {
        for index in 0..2000 {
            let object = object(1, index);
            assert!((VALUE_MIN..=VALUE_MAX).contains(&object.value.len()), "{}: {}", object.key, object.value.len());
        }
    }

    #[test]
    fn zstd_shrinks_it_as_much_as_what_the_figures_rest_on() {
        let all: String = (0..2000).map(|i| object(1, i)).map(|o| o.key + &o.value).collect();
        let packed = zstd::bulk::compress(all.as_bytes(), 1).expect("it compresses");
        let ratio = all.len() as f64 / packed.len() as f64;
        // Of a snapshot it is more, about 4.4: the pages of a database have empty room.
        assert!((3.2..3.6).contains(&ratio), "{ratio}");
    }
}

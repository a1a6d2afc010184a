//! Which files of certificates and private keys can be used for TLS, and what is wrong with the others. Looks at bytes
//! only.
//!
//! Backstay's TLS is rustls with ring, which supports RSA, the curves P-256 and P-384, and Ed25519. About anything
//! else, and about a key with a passphrase, rustls only says that it is invalid.

/// What a file should contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PemKind {
    /// One or more blocks `CERTIFICATE`.
    Certificates,
    /// A block `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`.
    PrivateKey,
}

/// What can be used.
const USABLE: &str = "use RSA, the curves P-256 or P-384, or Ed25519";

/// Why a file cannot be used, in words that continue "cannot use FILE:"; `None` if nothing was found against it.
///
/// # Examples
/// ```
/// use backstay_protocol::certificates::{PemKind, unusable};
///
/// let why = unusable(b"hello", PemKind::Certificates);
/// assert_eq!(why.as_deref(), Some("it contains no certificate in PEM format"));
/// ```
pub fn unusable(file: &[u8], kind: PemKind) -> Option<String> {
    let text = String::from_utf8_lossy(file);
    let blocks = blocks(&text);
    match kind {
        PemKind::Certificates => certificates(file, &blocks),
        PemKind::PrivateKey => private_key(file, &blocks),
    }
}

/// What probably caused a failed handshake, if rustls's text does not name the certificate; `None` if it is something else.
pub fn advice(cause: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| cause.contains(word));
    says(&["UnsupportedSignatureAlgorithm", "UnsupportedCertVersion", "HandshakeFailure", "NoSignatureSchemes"])
        .then_some(
            "its certificate, or one that signed it, has an unsupported kind of key, such as the curve P-521: use RSA, \
         P-256, P-384 or Ed25519",
        )
}

fn certificates(file: &[u8], blocks: &[Block]) -> Option<String> {
    let found: Vec<&Block> = blocks.iter().filter(|block| block.label == "CERTIFICATE").collect();
    if found.is_empty() {
        return Some(match blocks.first() {
            Some(other) if other.label == "TRUSTED CERTIFICATE" => {
                "its certificate is in OpenSSL's own format: convert it with `openssl x509 -in FILE`".into()
            }
            _ if is_der(file) => {
                "it is in DER format, not PEM: convert it with `openssl x509 -inform der -in FILE`".into()
            }
            _ => "it contains no certificate in PEM format".into(),
        });
    }
    // Where one of several can be used, it may be the one that is needed.
    let kinds: Vec<Option<String>> = found.iter().map(|block| block.bytes().and_then(|der| public_key(&der))).collect();
    match kinds.into_iter().collect::<Option<Vec<String>>>() {
        Some(kinds) => Some(format!("its certificate has a key {}: {USABLE}", kinds.first()?)),
        None => None,
    }
}

fn private_key(file: &[u8], blocks: &[Block]) -> Option<String> {
    let Some(key) = blocks.iter().find(|block| block.label.ends_with("PRIVATE KEY")) else {
        return Some(match is_der(file) {
            true => "it is in DER format, not PEM: convert it with `openssl pkey -inform der -in FILE`".into(),
            false => "it contains no private key in PEM format".into(),
        });
    };
    if key.label == "ENCRYPTED PRIVATE KEY" || key.body.contains("ENCRYPTED") {
        return Some(
            "the private key is encrypted, and there is no way to enter its passphrase: remove the passphrase with \
             `openssl pkey -in FILE`"
                .into(),
        );
    }
    let der = key.bytes();
    let unknown = match key.label {
        "RSA PRIVATE KEY" => None,
        // SEQ { version, key, [0] curve, … }
        "EC PRIVATE KEY" => der.as_deref().and_then(|der| {
            let (_, key, _) = element(der)?;
            curve(inside(key, |tag, _| tag == 0xA0)?)
        }),
        // SEQ { version, SEQ { algorithm, curve }, … }
        "PRIVATE KEY" => der.as_deref().and_then(|der| {
            let (_, key, _) = element(der)?;
            algorithm(inside(key, |tag, _| tag == 0x30)?)
        }),
        "OPENSSH PRIVATE KEY" => {
            return Some(
                "the private key is in OpenSSH's format: convert it with `ssh-keygen -p -m pkcs8 -f FILE`".into(),
            );
        }
        other => Some(format!("of an unknown kind ({})", other.to_ascii_lowercase())),
    };
    unknown.map(|kind| format!("the private key is {kind}: {USABLE}"))
}

/// One block of a PEM file.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

impl Block<'_> {
    /// What its base64 stands for; `None` where it is none.
    fn bytes(&self) -> Option<Vec<u8>> {
        // Old forms have headers, with an empty line behind them.
        let body = self.body.rsplit_once("\n\n").map_or(self.body, |(_, body)| body);
        base64(body)
    }
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    const BEGIN: &str = "-----BEGIN ";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        rest = after;
        let Some((label, after)) = after.split_once("-----") else { break };
        let Some((body, after)) = after.split_once(&format!("-----END {label}-----")) else { continue };
        found.push(Block { label, body });
        rest = after;
    }
    found
}

fn base64(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut bits, mut held) = (Vec::new(), 0_u32, 0_u32);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        held = (held << 6 | u32::from(value(c)?)) & 0xFF_FFFF;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits) as u8);
        }
    }
    Some(out)
}

fn is_der(file: &[u8]) -> bool {
    element(file).is_some_and(|(tag, content, rest)| tag == 0x30 && rest.is_empty() && !content.is_empty())
}

/// The first element of DER: its tag, what is in it, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (length.iter().fold(0_usize, |n, byte| n << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The content of the first element for which `is` holds.
fn inside(mut der: &[u8], is: impl Fn(u8, &[u8]) -> bool) -> Option<&[u8]> {
    loop {
        let (tag, content, rest) = element(der)?;
        if is(tag, content) {
            return Some(content);
        }
        der = rest;
    }
}

/// What is wrong with a certificate's key.
fn public_key(der: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(der)?;
    let (_, to_be_signed, _) = element(certificate)?;
    // The only part that is a sequence of an algorithm and a bit string.
    let key = inside(to_be_signed, |tag, content| {
        tag == 0x30 && element(content).is_some_and(|(tag, _, rest)| tag == 0x30 && rest.first() == Some(&0x03))
    })?;
    algorithm(element(key)?.1)
}

const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01];
const ELLIPTIC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];
const ED448: &[u8] = &[0x2B, 0x65, 0x71];
const DSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x01];
const RSA_PSS: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x23];
const K256: &[u8] = &[0x2B, 0x81, 0x04, 0x00, 0x0A];

/// What is wrong with an algorithm: its identifier, followed by the curve.
fn algorithm(identifier: &[u8]) -> Option<String> {
    let (_, id, parameters) = element(identifier)?;
    match id {
        RSA | ED25519 => None,
        ELLIPTIC => curve(parameters),
        ED448 => Some("of the kind Ed448".into()),
        DSA => Some("of the kind DSA".into()),
        RSA_PSS => Some("of the kind RSASSA-PSS".into()),
        _ => Some("of an unknown kind".into()),
    }
}

fn curve(parameters: &[u8]) -> Option<String> {
    match element(parameters)? {
        (0x06, P256 | P384, _) => None,
        (0x06, P521, _) => Some("on the curve P-521".into()),
        (0x06, K256, _) => Some("on the curve secp256k1".into()),
        (0x06, ..) => Some("on an unknown curve".into()),
        _ => Some("on a curve that is given by its parameters, not by its name".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// What the machine's `openssl` makes with these arguments.
    fn openssl(arguments: &str) -> Vec<u8> {
        let output = Command::new("openssl").args(arguments.split_whitespace()).output().expect("openssl is installed");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A certificate and its key, of a kind that `openssl genpkey` knows.
    fn pair(kind: &str) -> (Vec<u8>, Vec<u8>) {
        let folder = tempfile::tempdir().expect("a folder");
        let key = folder.path().join("key").display().to_string();
        let pem = openssl(&format!("genpkey {kind}"));
        std::fs::write(&key, &pem).expect("writable");
        (openssl(&format!("req -x509 -new -key {key} -subj /CN=x -days 30")), pem)
    }

    const EC: &str = "-algorithm EC -pkeyopt ec_param_enc:named_curve -pkeyopt ec_paramgen_curve:";

    #[test]
    fn what_can_be_used_is_not_spoken_against() {
        for kind in ["-algorithm RSA", "-algorithm ED25519", &format!("{EC}P-256"), &format!("{EC}P-384")] {
            let (certificate, key) = pair(kind);
            assert_eq!(unusable(&certificate, PemKind::Certificates), None, "{kind}");
            assert_eq!(unusable(&key, PemKind::PrivateKey), None, "{kind}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named_as_what_it_is() {
        for (kind, says) in [
            (format!("{EC}P-521"), "on the curve P-521"),
            (format!("{EC}secp256k1"), "on the curve secp256k1"),
            (format!("{EC}brainpoolP256r1"), "on an unknown curve"),
            ("-algorithm ED448".into(), "of the kind Ed448"),
            ("-algorithm RSA-PSS".into(), "of the kind RSASSA-PSS"),
        ] {
            let (certificate, key) = pair(&kind);
            let text = unusable(&certificate, PemKind::Certificates).expect("unusable");
            assert_eq!(text, format!("its certificate has a key {says}: {USABLE}"));
            assert_eq!(unusable(&key, PemKind::PrivateKey), Some(format!("the private key is {says}: {USABLE}")));
            // One of several that can be used is enough.
            let both = [certificate, pair("-algorithm ED25519").0].concat();
            assert_eq!(unusable(&both, PemKind::Certificates), None);
        }
    }

    #[test]
    fn keys_in_older_forms_are_read_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("key");
        for (curve, says) in [("P-256", None), ("P-521", Some("on the curve P-521"))] {
            std::fs::write(&file, openssl(&format!("genpkey {EC}{curve}"))).expect("writable");
            let old = openssl(&format!("ec -in {}", file.display()));
            assert!(String::from_utf8_lossy(&old).contains("BEGIN EC PRIVATE KEY"));
            let expected = says.map(|says| format!("the private key is {says}: {USABLE}"));
            assert_eq!(unusable(&old, PemKind::PrivateKey), expected);
            let der = openssl(&format!("pkey -in {} -outform der", file.display()));
            assert!(unusable(&der, PemKind::PrivateKey).is_some_and(|text| text.starts_with("it is in DER")));
        }
        for form in ["-aes256 -passout pass:hunter2", "-traditional -aes256 -passout pass:hunter2"] {
            std::fs::write(&file, openssl("genpkey -algorithm RSA")).expect("writable");
            let sealed = openssl(&format!("pkey -in {} {form}", file.display()));
            let text = unusable(&sealed, PemKind::PrivateKey).expect("sealed");
            assert!(text.starts_with("the private key is encrypted"), "{form}: {text}");
        }
    }

    #[test]
    fn what_is_no_certificate_or_key_is_said() {
        for (file, kind, says) in [
            ("", PemKind::Certificates, "it contains no certificate in PEM format"),
            ("hello", PemKind::PrivateKey, "it contains no private key in PEM format"),
            ("-----BEGIN CERTIFICATE-----\nx", PemKind::Certificates, "it contains no certificate in PEM format"),
            (
                "-----BEGIN TRUSTED CERTIFICATE-----\nAA==\n-----END TRUSTED CERTIFICATE-----",
                PemKind::Certificates,
                "OpenSSL's own form",
            ),
            (
                "-----BEGIN OPENSSH PRIVATE KEY-----\nAA==\n-----END OPENSSH PRIVATE KEY-----",
                PemKind::PrivateKey,
                "OpenSSH's form",
            ),
            (
                "-----BEGIN DSA PRIVATE KEY-----\nAA==\n-----END DSA PRIVATE KEY-----",
                PemKind::PrivateKey,
                "unknown kind (dsa private key)",
            ),
        ] {
            let text = unusable(file.as_bytes(), kind).expect("unusable");
            assert!(text.contains(says), "{text}");
        }
        let (certificate, key) = pair("-algorithm ED25519");
        assert!(
            unusable(&certificate, PemKind::PrivateKey).is_some() && unusable(&key, PemKind::Certificates).is_some()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..80), label in "CERTIFICATE|PRIVATE KEY|EC PRIVATE KEY") {
            let _ = (unusable(&bytes, PemKind::Certificates), unusable(&bytes, PemKind::PrivateKey));
            let _ = (public_key(&bytes), algorithm(&bytes), curve(&bytes));
            let text = String::from_utf8_lossy(&bytes);
            let pem = format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n");
            let _ = (unusable(pem.as_bytes(), PemKind::Certificates), unusable(pem.as_bytes(), PemKind::PrivateKey));
        }
    }
}

//! Whom to believe: a list in the form of OpenSSH's `allowed_signers`, and what it says of a signature.

use std::fmt;
use std::str::FromStr;

use ssh_key::public::{KeyData, PublicKey};
use ssh_key::{HashAlg, SshSig};

/// The name of a public key that has no comment.
const UNNAMED: &str = "unnamed";

/// What stands before a signer in a file where it must be a comment, as that of an age identity.
const IN_COMMENT: &str = "signer:";

/// How a comment begins that seems to name one.
const SIGNER: &str = "signer";

/// How the text of every Ed25519 key begins.
const KEY_BEGINS: &str = "ssh-ed25519 AAAA";

/// Somebody whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    name: String,
    key: KeyData,
    /// The namespaces it may sign for; any, where it says none.
    namespaces: Option<Vec<String>>,
}

/// Why there is no such signer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SignerError {
    /// A name that a line cannot hold.
    #[error(
        "the name {0:?} of a signer must be 1 to 200 characters without spaces, quotes, commas, * ? ! or #, and not a type of key"
    )]
    Name(String),
    /// No public key.
    #[error("not a public key as in a .pub file: {0}")]
    Key(String),
    /// A key of another kind.
    #[error("the key is {0}; only Ed25519 keys are supported")]
    Algorithm(String),
    /// An option of ssh-keygen's that is not supported here.
    #[error("the option {0:?} is not supported; supported is namespaces=\"…\"")]
    Option(String),
    /// A comment that seems to name a signer.
    #[error("the comment seems to name a signer; write it as: # signer: NAME ssh-ed25519 AAAA…")]
    Comment,
    /// A line that ends too early.
    #[error("expected: NAME [namespaces=\"…\"] ssh-ed25519 AAAA…")]
    Incomplete,
}

/// What is wrong in a list, and where.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {line}: {error}")]
pub struct LineError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub error: SignerError,
}

impl Signer {
    pub(crate) fn new(name: &str, key: KeyData) -> Result<Self, SignerError> {
        let forbidden = |c: char| c.is_whitespace() || c.is_control() || "\"',*?!#".contains(c);
        if name.is_empty() || name.chars().count() > 200 || name.contains(forbidden) || is_key_type(name) {
            return Err(SignerError::Name(name.chars().take(200).collect()));
        }
        match key {
            KeyData::Ed25519(_) => Ok(Self { name: name.to_owned(), key, namespaces: None }),
            other => Err(SignerError::Algorithm(other.algorithm().to_string())),
        }
    }

    /// The comment line that names it in a file of another kind, without a line feed.
    pub fn in_comment(&self) -> String {
        format!("# {IN_COMMENT} {self}")
    }

    /// The name that people gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// The same key, trusted for these namespaces alone.
    #[must_use]
    pub fn only_for(self, namespaces: &[&str]) -> Self {
        Self { namespaces: Some(namespaces.iter().map(|&namespace| namespace.to_owned()).collect()), ..self }
    }

    fn signs_for(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|list| list.iter().any(|listed| listed == namespace))
    }
}

/// A line of `allowed_signers`.
impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name)?;
        if let Some(namespaces) = &self.namespaces {
            write!(f, "namespaces=\"{}\" ", namespaces.join(","))?;
        }
        let key = PublicKey::new(self.key.clone(), "").to_openssh().map_err(|_| fmt::Error)?;
        f.write_str(key.trim_end())
    }
}

/// Reads one line of `allowed_signers`, or the line of a `.pub` file: then its comment is the name.
impl FromStr for Signer {
    type Err = SignerError;

    fn from_str(line: &str) -> Result<Self, SignerError> {
        let (name, rest) = word(line).ok_or(SignerError::Incomplete)?;
        if is_key_type(name) {
            let key = PublicKey::from_openssh(line.trim()).map_err(|e| SignerError::Key(e.to_string()))?;
            let name = key.comment().split_whitespace().next().unwrap_or(UNNAMED);
            return Self::new(name, key.key_data().clone());
        }
        let (second, after) = word(rest).ok_or(SignerError::Incomplete)?;
        let (options, key) = if is_key_type(second) { (None, rest) } else { (Some(second), after) };
        if key.trim().is_empty() {
            return Err(SignerError::Incomplete);
        }
        let key = PublicKey::from_openssh(key.trim()).map_err(|e| SignerError::Key(e.to_string()))?;
        let signer = Self::new(name, key.key_data().clone())?;
        Ok(match options {
            Some(options) => Self { namespaces: Some(namespaces(options)?), ..signer },
            None => signer,
        })
    }
}

/// The first word, and what follows. Blanks between double quotes do not end it.
fn word(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start();
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    (!word.is_empty()).then_some((word, rest))
}

fn is_key_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|kind| word.starts_with(kind))
}

/// `namespaces="a,b"`. What else ssh-keygen knows narrows or widens trust: it is refused, never passed over.
fn namespaces(options: &str) -> Result<Vec<String>, SignerError> {
    let unsupported = || SignerError::Option(options.chars().take(200).collect());
    let (keyword, value) = options.split_once('=').ok_or_else(unsupported)?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).ok_or_else(unsupported)?;
    // Patterns would have to mean here what they mean to ssh-keygen.
    if !keyword.eq_ignore_ascii_case("namespaces") || value.is_empty() || value.contains(['"', '*', '?', '!']) {
        return Err(unsupported());
    }
    Ok(value.split(',').map(|namespace| namespace.trim().to_owned()).collect())
}

/// Everybody whose signatures count. An empty list believes nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signers(Vec<Signer>);

/// Whether somebody vouches for something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Voucher {
    /// It was signed by one of the list.
    Signed(Signer),
    /// There is no signature.
    Unsigned,
    /// There is one, and it does not count.
    Bad(BadSignature),
}

/// Why a signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSignature {
    /// It cannot be read.
    #[error("the signature cannot be read: {0}")]
    Format(String),
    /// A key that is not on the list made it.
    #[error("it is signed by {0}, a key that is not trusted here")]
    UnknownKey(String),
    /// It was made for something else.
    #[error("it was signed for {0:?}, not for this use")]
    Namespace(String),
    /// A key of the list, that may not sign for this.
    #[error("the signer {0} is not trusted for this use")]
    NotForThis(String),
    /// The bytes are not those that were signed.
    #[error("the signature of {0} does not match: the content was changed after it was signed")]
    Mismatch(String),
}

impl Signers {
    /// Whether nobody is on the list.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of the comment lines `# signer: NAME KEY` in a file of another kind. A comment that seems to mean one must be one:
    /// a slip would otherwise trust nobody, and ask for nothing.
    ///
    /// # Errors
    /// The first such line that cannot be read.
    pub fn in_comments(text: &str) -> Result<Self, LineError> {
        let lines = text.lines().enumerate().filter_map(|(index, line)| {
            let comment = line.trim().strip_prefix('#')?.trim_start_matches('#').trim();
            let begins = comment.get(..SIGNER.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(SIGNER));
            let line = index + 1;
            match comment.strip_prefix(IN_COMMENT) {
                Some(signer) => Some(signer.parse().map_err(|error| LineError { line, error })),
                None if begins || comment.contains(KEY_BEGINS) => {
                    Some(Err(LineError { line, error: SignerError::Comment }))
                }
                None => None,
            }
        });
        lines.collect()
    }

    /// These and those.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        let new: Vec<Signer> = others.0.into_iter().filter(|signer| !self.0.contains(signer)).collect();
        self.0.extend(new);
        self
    }

    /// All of them, in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &Signer> {
        self.0.iter()
    }

    /// What a detached signature says of these bytes. The signature is a stranger's text until a key of the list and the
    /// bytes agree with it.
    pub fn check(&self, namespace: &str, bytes: &[u8], signature: Option<&str>) -> Voucher {
        match signature.map(|text| self.signed_by(namespace, bytes, text)) {
            None => Voucher::Unsigned,
            Some(Ok(signer)) => Voucher::Signed(signer.clone()),
            Some(Err(why)) => Voucher::Bad(why),
        }
    }

    fn signed_by(&self, namespace: &str, bytes: &[u8], text: &str) -> Result<&Signer, BadSignature> {
        let signature = SshSig::from_pem(text.trim_start()).map_err(|e| BadSignature::Format(e.to_string()))?;
        if signature.namespace() != namespace {
            return Err(BadSignature::Namespace(signature.namespace().chars().take(100).collect()));
        }
        let known = || self.0.iter().filter(|signer| signer.key == *signature.public_key());
        let Some(signer) = known().find(|signer| signer.signs_for(namespace)) else {
            return Err(match known().next() {
                Some(signer) => BadSignature::NotForThis(signer.name.clone()),
                None => BadSignature::UnknownKey(signature.public_key().fingerprint(HashAlg::Sha256).to_string()),
            });
        };
        let key = PublicKey::new(signer.key.clone(), "");
        key.verify(namespace, bytes, &signature).map_err(|_| BadSignature::Mismatch(signer.name.clone()))?;
        Ok(signer)
    }
}

impl FromIterator<Signer> for Signers {
    fn from_iter<T: IntoIterator<Item = Signer>>(signers: T) -> Self {
        Self(signers.into_iter().collect())
    }
}

/// The whole file: a signer a line, in the end a line feed.
impl fmt::Display for Signers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|signer| writeln!(f, "{signer}"))
    }
}

/// Reads an `allowed_signers` file. Empty lines and lines that begin with `#` say nothing.
impl FromStr for Signers {
    type Err = LineError;

    fn from_str(text: &str) -> Result<Self, LineError> {
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let told = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        told.map(|(number, line)| line.parse().map_err(|error| LineError { line: number, error })).collect()
    }
}

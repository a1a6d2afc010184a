//! Where an endpoint is and what opens it.

/// Where an endpoint is and what opens it.
#[derive(Clone)]
pub struct S3Options {
    pub bucket: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            bucket: "mybucket".into(),
            region: "us-east-1".into(),
            access_key_id: "access".into(),
            secret_access_key: "secret123".into(),
        }
    }
}

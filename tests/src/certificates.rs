//! Certificates of an authority of the test's own.

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;
use tempfile::TempDir;

/// A root that signs.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// A root with a new key.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Its own certificate.
    pub fn cert(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate for `localhost` and 127.0.0.1, good for servers and clients.
    pub fn sign(&self) -> Result<Identity> {
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let key = KeyPair::generate()?;
        let cert = CertificateParams::new(names)?.signed_by(&key, &self.0)?;
        Ok(Identity { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// Files in a folder that is gone when dropped.
#[derive(Debug)]
pub struct Files(TempDir);

impl Files {
    /// Writes them.
    pub fn new(files: &[(&str, &str)]) -> Result<Self> {
        let folder = Self(tempfile::tempdir()?);
        for (name, text) in files {
            folder.write(name, text)?;
        }
        Ok(folder)
    }

    /// The path of one.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The path of one as a flag's value.
    pub fn flag(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Writes one anew.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(std::fs::write(self.path(name), text)?)
    }
}

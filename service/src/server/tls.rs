//! TLS for all listeners.

use super::{Protocol, Reload};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// PEM files; read again when they change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those between it and the root.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Clients need a certificate that one of these signed; none: they need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// How each listener speaks TLS.
#[derive(Debug)]
pub(super) struct Tls {
    grpc: Arc<ServerConfig>,
    http: Arc<ServerConfig>,
    admin: Arc<ServerConfig>,
}

impl Tls {
    pub(super) fn of(&self, protocol: Protocol) -> Arc<ServerConfig> {
        Arc::clone(match protocol {
            Protocol::Grpc => &self.grpc,
            Protocol::Http => &self.http,
            Protocol::Admin => &self.admin,
        })
    }

    /// From the contents of the certificate, the key and, if there is one, the client CA.
    fn parse(files: &[Vec<u8>]) -> Result<Self, String> {
        let [cert, key, client_ca @ ..] = files else {
            return Err("a certificate and a key are needed".to_owned());
        };
        let cert = certificates("--tls-cert", cert)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| format!("--tls-key: no private key in PEM: {error}"))?;
        let client_ca = match client_ca.first() {
            Some(pem) => Some(certificates("--tls-client-ca", pem)?),
            None => None,
        };
        let config = |client_ca: Option<&[CertificateDer<'static>]>, protocols: &[&[u8]]| {
            let mut config = server_config(&cert, &key, client_ca)?;
            config.alpn_protocols = protocols.iter().map(|&name| name.to_owned()).collect();
            Ok::<_, String>(Arc::new(config))
        };
        let both: &[&[u8]] = &[b"h2", b"http/1.1"];
        Ok(Self {
            grpc: config(client_ca.as_deref(), &[b"h2"])?,
            http: config(client_ca.as_deref(), both)?,
            // The cluster's probes have no certificate to show.
            admin: config(None, both)?,
        })
    }
}

/// Reads the files; the value follows them while the [`Reload`] runs.
pub(super) fn load(files: &TlsFiles) -> Result<(Reload, watch::Receiver<Arc<Tls>>), String> {
    let TlsFiles { cert, key, client_ca } = files.clone();
    let paths = [Some(cert), Some(key), client_ca].into_iter().flatten().collect();
    Reload::start("TLS certificate", paths, Tls::parse)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn certificates(flag: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(certificates) if certificates.is_empty() => {
            Err(format!("{flag}: no certificate in PEM"))
        }
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{flag}: {error}")),
    }
}

fn server_config(
    cert: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    client_ca: Option<&[CertificateDer<'static>]>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots
                    .add(certificate.clone())
                    .map_err(|error| format!("--tls-client-ca: {error}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
                .build()
                .map_err(|error| format!("--tls-client-ca: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    builder
        .with_single_cert(cert.to_vec(), key.clone_key())
        .map_err(|error| format!("--tls-cert and --tls-key: {error}"))
}
